"""The answer as a page: one file, whatever a ledger holds."""

from __future__ import annotations

import re
from pathlib import Path

from reconcile.conftest import Ask

LEFT = "id,x\na,1\nb,<script>alert(1)</script>\nc,1\nd,1\nd,1\nbroken\n"
RIGHT = "id,x\nc,2\nd,1\ne,\n"


def test_the_page_shows_what_is_off(ask: Ask, folder: Path) -> None:
    """Every kind with its orders, both values, the broken rows; and the sentence as its heading."""
    done = ask(LEFT, RIGHT, "--compare", "x", "--state", str(folder / "state"), form="html")
    assert done.code == 1
    assert "<h1>The ledgers do not agree: 5 orders, 1 row that cannot be used.</h1>" in done.out
    headings = re.findall(r"<h2>([^<]*) <span class=\"n\">(.*?)</span></h2>", done.out)
    assert headings == [
        ("Only left", "2"), ("Only right", "1"), ("Different", "1"), ("Duplicated", "1"),
        ("Cannot be used, in left.csv", "1"),
    ]  # fmt: skip
    assert '<dd class="l"><span>1</span></dd><dd class="r"><span>2</span></dd>' in done.out
    assert '<span class="null">null</span>' in done.out
    assert "2 times in left.csv" in done.out
    assert "Since the last run: 5 new, 0 resolved." in done.out


def test_nothing_of_a_ledger_is_markup(ask: Ask, folder: Path) -> None:
    """And there is neither a script nor an address of anything else; no style that its policy forbids."""
    text = ask(LEFT, RIGHT, "--compare", "x", form="html").out
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert re.findall(r"(?:src|href)=\"(?!data:)", text) == []
    assert " style=" not in text


def test_a_page_of_agreement(ask: Ask, folder: Path) -> None:
    """Says so, into a file too."""
    ask("id\na\n", "id\na\n", "--output", str(folder / "report.html"))
    text = (folder / "report.html").read_text()
    assert "<h1>The ledgers agree.</h1>" in text
    assert 'class="top agree"' in text


def test_what_is_not_listed_is_counted(ask: Ask) -> None:
    """A thousand rows make no page for people."""
    left = "id\n" + "".join(f"{n}\n" for n in range(50))
    text = ask(left, "id\n1\n", "--rows", "10", form="html").out
    assert "and 39 more, which the CSV report and the spool have" in text
    assert text.count('scope="row"') == 10
