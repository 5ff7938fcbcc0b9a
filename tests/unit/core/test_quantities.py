"""Durations, sizes, counts and modes: what people write is what is meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.core import quantities as q
from lastcall.core.mistakes import Mistake


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("1.5", 1.5),
        (".5", 0.5),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1 d", 86400),
        (" 5s ", 5),
        ("0", 0),
    ],
)
def test_a_duration_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    """A bare number is seconds."""
    assert q.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8190", 8190),
        ("64KiB", 65536),
        ("64k", 65536),
        ("1 M", 1 << 20),
        ("1.5GiB", 3 << 29),
        ("1gb", 1 << 30),
        ("0", 0),
    ],
)
def test_a_size_is_bytes_or_has_a_unit_of_1024(text: str, size: int) -> None:
    """`k`, `kb` and `KiB` are the same, as nginx and PHP have it."""
    assert q.parse_size(text) == size


@pytest.mark.parametrize("text", ["660", "0660", "0o660"])
def test_a_mode_is_always_octal(text: str) -> None:
    """As chmod takes it."""
    assert q.parse_mode(text) == 0o660


_WRONG: list[tuple[Callable[[str], object], str]] = [
    *((q.parse_duration, text) for text in ("", "s", "-1", "2 weeks", "1e3", "nan", "inf", "30d", "1m30s", "٣")),
    *((q.parse_size, text) for text in ("", "k", "-1", "1.0001k", "2 bananas", "9999999999999T", "1e3")),
    *((q.parse_count, text) for text in ("", "-1", "1.0", "two", "1_000", "٣", "9" * 30)),
    *((q.parse_mode, text) for text in ("", "rw", "888", "-1", "77777", "0x1")),
]


@pytest.mark.parametrize(("parse", "text"), _WRONG)
def test_what_is_no_quantity_is_a_mistake_with_a_remedy(parse: Callable[[str], object], text: str) -> None:
    """Every refusal says what to write instead, on one line."""
    with pytest.raises(Mistake) as caught:
        parse(text)
    assert caught.value.remedy
    assert str(caught.value) == f"{caught.value.text} ({caught.value.remedy})"
    assert "\n" not in str(caught.value)


@given(st.integers(0, int(q.DURATION_MAX * 1e6)))
def test_durations_come_back(microseconds: int) -> None:
    """What is formatted is parsed to the same value, for all that can be waited for."""
    seconds = round(microseconds / 1e6, 6)
    assert q.parse_duration(q.format_duration(seconds)) == seconds


@given(st.integers(0, q.SIZE_MAX))
def test_sizes_come_back(size: int) -> None:
    """What is formatted is parsed to the same value."""
    assert q.parse_size(q.format_size(size)) == size


@given(st.integers(0, 0o7777))
def test_modes_come_back(mode: int) -> None:
    """What is formatted is parsed to the same value."""
    assert q.parse_mode(q.format_mode(mode)) == mode


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_a_mistake(text: str) -> None:
    """No text makes a parser raise anything else."""
    for parse in (q.parse_duration, q.parse_size, q.parse_count, q.parse_mode):
        try:
            assert parse(text) >= 0
        except Mistake:
            continue
