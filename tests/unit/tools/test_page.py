"""Pages in one file: what is text stays text, policies name what is there, scales have round ticks."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.tools.page import (
    Html,
    anchor,
    count,
    escape,
    join,
    linear,
    logarithmic,
    number,
    page,
    percent,
    prose,
    seconds,
    tag,
)


@given(st.text())
def test_text_cannot_become_markup(text: str) -> None:
    """Neither as a child nor as an attribute."""
    for markup in (tag("p", text), tag("p", title=text)):
        assert re.fullmatch(r'<p( title="[^<>"]*")?>[^<>]*</p>', markup, re.DOTALL), markup


def test_what_would_steer_a_reader_is_shown() -> None:
    """Control characters and those that turn the direction of text; line ends stay."""
    assert escape("a\x00\x1b[2J\u202eb\nc") == "a\\x00\\x1b[2J\\x202eb\nc"


def test_elements_nest() -> None:
    """Markup is kept, text is escaped, nothing is left out but None."""
    made = tag(
        "ul", [tag("li", one) for one in ("a", "<b>")], None, tag("br"), class_="x", hidden=True, for_=None, data_n=0.5
    )
    assert made == '<ul class="x" hidden data-n="0.5"><li>a</li><li>&lt;b&gt;</li><br></ul>'
    assert join("a", [tag("b"), ["c"]], None) == "a<b></b>c"
    assert tag("path", stroke_width=2, aria_hidden="true") == '<path stroke-width="2" aria-hidden="true"></path>'


def test_code_in_prose() -> None:
    """Between backticks; everything is escaped all the same."""
    assert prose("set `a<b` to `1`") == "set <code>a&lt;b</code> to <code>1</code>"


def test_anchors_are_plain() -> None:
    """Whatever the words are."""
    assert anchor("run", 'TERM, "start"') == "run-term---start"
    assert anchor("ü") == "x"


def test_the_policy_allows_what_is_in_the_page_and_no_more() -> None:
    """Style and script by their hashes; a page without a script allows none."""
    text = page("a <b>", tag("main", "x"), css="p{color:red}", script="let a = 1;")
    assert "<title>a &lt;b&gt;</title>" in text
    for element in ("style", "script"):
        inside = re.search(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert inside is not None
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in text
    assert "script-src 'none'" in page("x", Html(""))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (0, 2.4, [0, 0.5, 1, 1.5, 2]),
        (3, 61, [10, 20, 30, 40, 50, 60]),
        (5, 5, [5, 5.2]),
    ],
)
def test_an_even_scale_has_round_ticks(low: float, high: float, ticks: list[float]) -> None:
    """At most so many, on 1, 2 or 5 times a power of ten."""
    assert linear(low, high).ticks(11 if high == 10 else 6)[: len(ticks)] == pytest.approx(ticks)


def test_a_logarithmic_scale_has_whole_decades() -> None:
    """Two at least, and what is beyond an end stands at that end."""
    scale = logarithmic([0.04, 0.3])
    assert (scale.low, scale.high) == (0.01, 1.0)
    assert scale.ticks() == pytest.approx([0.01, 0.1, 1.0])
    assert [scale(value) for value in (0.001, 0.01, 0.1, 1.0, 9)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert logarithmic([]).ticks() == pytest.approx([1e-4, 1e-3, 1e-2])
    assert logarithmic([0.0, 1e-9]).low == 1e-4


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_every_value_has_a_place(values: list[float]) -> None:
    """Between 0 and 1, whatever it is."""
    for scale in (logarithmic(values), linear(min(values, default=0), max(values, default=0))):
        assert all(0 <= scale(value) <= 1 for value in values)
        assert 1 <= len(scale.ticks()) <= 11


def test_quantities_in_words() -> None:
    """As they are said."""
    said = [seconds(value) for value in (0, 0.0004, 0.012, 0.85, 12.4, 59.99, 200, 7500)]
    assert said == ["0", "0.4 ms", "12 ms", "0.85 s", "12.4 s", "1 min 0 s", "3 min 20 s", "2 h 05 min"]
    assert [percent(share) for share in (0, 0.000561, 0.0333, 0.12, 1)] == ["0 %", "0.056 %", "3.3 %", "12 %", "100 %"]
    assert (count(1, "loss", "losses"), count(5334, "request")) == ("1 loss", "5,334 requests")
    assert [number(value) for value in (12.5, 3.0, -0.004, 100.0)] == ["12.5", "3", "-0", "100"]
