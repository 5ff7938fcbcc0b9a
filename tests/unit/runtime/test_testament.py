"""What a master writes down for the next one: whole, or as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastcall.runtime import testament


def test_it_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Whoever reads finds one or the other; nobody else may read it, for settings stand in it."""
    written = testament.Testament(tmp_path)
    written.write(b"first")
    written.write(b"2nd")
    file = tmp_path / testament.NAME
    assert file.read_bytes() == b"2nd"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """Here because something is in the way."""
    written = testament.Testament(tmp_path)
    written.write(b"first")
    (tmp_path / f".{testament.NAME}").mkdir()
    with pytest.raises(OSError, match="directory"):
        written.write(b"second")
    assert (tmp_path / testament.NAME).read_bytes() == b"first"
