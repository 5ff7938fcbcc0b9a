"""Request bodies on their way to the application."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.runtime.worker.body import Spool, stream


def full_device() -> io.FileIO:
    """A file on a disk that is full, whatever the disk."""
    return io.FileIO("/dev/full", "w")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """One that keeps ten bytes in memory."""
    one = Spool(10, str(tmp_path))
    yield one
    one.close()


def files_in(folder: Path) -> list[str]:
    """The files of this process that lie there, with or without a name."""
    links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return [str(link) for link in links if str(link).startswith(f"{folder}/")]


@pytest.mark.parametrize(
    "pieces",
    [[], [b"hello"], [b"0123456789"], [b"01234", b"56789"], [b"0123456789a"], [b"01234"] * 5, [b"x" * 100_000, b"y"]],
    ids=lambda pieces: f"{len(pieces)} of {len(b''.join(pieces))}",
)
def test_a_body_comes_out_as_it_went_in(spool: Spool, tmp_path: Path, pieces: list[bytes]) -> None:
    """Up to the bound in memory, beyond it in one file; the file has no name."""
    for piece in pieces:
        spool.add(piece)
    whole = b"".join(pieces)
    assert spool.size == len(whole)
    assert len(files_in(tmp_path)) == (1 if len(whole) > 10 else 0)
    assert list(tmp_path.iterdir()) == []
    assert spool.open().read() == whole


def test_a_body_on_disk_is_a_file_as_pep_3333_wants_it(spool: Spool) -> None:
    """Read in parts, by lines, to its end and not beyond."""
    spool.add(b"first\nsecond\n" + b"x" * 20)
    body = spool.open()
    assert [body.read(3), body.readline(), body.readline()] == [b"fir", b"st\n", b"second\n"]
    assert (body.read(), body.read(), body.readline(), list(body)) == (b"x" * 20, b"", b"", [])


def test_close_gives_the_room_back(spool: Spool, tmp_path: Path) -> None:
    """Also while somebody still has what `open` gave; twice is once."""
    spool.add(b"x" * 20)
    body = spool.open()
    spool.close()
    spool.close()
    assert files_in(tmp_path) == []
    with pytest.raises(ValueError, match="closed"):
        body.read()


def test_a_disk_that_takes_nothing_is_an_oserror_and_close_still_works(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full, in the place of the file: the error is the caller's to answer, and comes once."""
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full_device())
    with pytest.raises(OSError, match="No space left"):
        spool.add(b"x" * 20)
    spool.close()


def test_a_folder_that_is_gone_is_an_oserror_beyond_the_bound_only(tmp_path: Path) -> None:
    """A small body needs no disk."""
    spool = Spool(10, str(tmp_path / "gone"))
    spool.add(b"0123456789")
    assert spool.open().read() == b"0123456789"
    with pytest.raises(FileNotFoundError):
        spool.add(b"a")
    spool.close()


# --- Streamed ------------------------------------------------------------------


def arriving(*pieces: bytes) -> io.BufferedReader:
    """A streamed body whose bytes arrive in these pieces; that of which one has asked too much fails the test."""
    more = iter([*pieces, b""])
    return stream(lambda: next(more))


def test_a_streamed_body_is_read_as_it_arrives() -> None:
    """Any amount, by lines, in whole; the end is asked for once and remembered."""
    assert arriving().read() == b""
    assert arriving(b"ab", b"cdef", b"g").read() == b"abcdefg"
    assert list(arriving(b"one\ntw", b"o\nthree")) == [b"one\n", b"two\n", b"three"]
    body = arriving(b"x" * 100_000, b"y")
    assert (len(body.read(99_999)), body.read(5), body.read(5), body.read()) == (99_999, b"xy", b"", b"")


def test_a_client_that_fails_in_a_streamed_body_is_the_applications_error() -> None:
    """The OSError passes through."""

    def more() -> bytes:
        raise TimeoutError("the client sent nothing for 30 seconds")

    with pytest.raises(TimeoutError):
        stream(more).read()
