"""The page of a reconciliation in a real browser: it asks nobody, it fits, and it can be read, on each screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from lastcall.tools.reconcile.page import draw
from lastcall.tools.reconcile.result import BrokenRow, Explanation, Finding, Repair, Repairs, SideSummary, Summary
from support.browser import DESKTOP, TELEPHONE, Scheme, opened

pytestmark = pytest.mark.xdist_group("browser")

CUT = "cut at 2017-06-25 05:28:01 UTC after 0.31 s at step sendPresent: its worker exited on signal 15 (SIGTERM)"
FINDINGS = [
    Finding(
        "only_left", {"id": "o-1234"}, "2017-06-25 05:28:00", (), {"amount": "10.00", "user": "ann"}, None, 1, 0, (17,),
        new=True, explained=Explanation("certain", CUT, "o-1234", "2017-06-25T05:28:01+00:00"),
    ),
    Finding("only_left", {"id": "o-2345"}, left={"amount": None}, explained=Explanation("likely", CUT, "r-1", "")),
    Finding("only_right", {"id": "x" * 90}, "", (), None, {"amount": None, "user": "</td><script>"}, 0, 1, (), (2, 9)),
    Finding("different", {"id": "o-3"}, "", ("amount",), {"amount": "1"}, {"amount": "2"}, 1, 1, (3,), (4,), since="x"),
    Finding("duplicated", {"id": "o-4"}, "", (), {"amount": "1"}, {"amount": "2"}, 2, 1, (3, 5), (4,)),
    Finding("pending", {"id": "o-5"}, "2017-06-25 05:28:00", (), {"amount": "1"}, None, 1, 0, (6,)),
]  # fmt: skip
REPAIRS = Repairs(
    "gift.repair:write", True, "/var/lib/lastcall/repairs/gift.repair.write", "", {"repaired": 1, "parked": 1},
    [
        Repair({"id": "o-7"}, "only_left", "repaired", "the order is written", "3f2a", resumed=True),
        Repair({"id": "x" * 90}, "different", "parked", "step refund was begun", "4711", explained=FINDINGS[0].explained),
    ],
)  # fmt: skip
COUNTS = {
    "matched": 999_990,
    "only_left": 2,
    "only_right": 1,
    "different": 1,
    "duplicated": 1,
    "pending": 1,
    "outside": 7,
}
EVERY_SCREEN = pytest.mark.parametrize(
    ("width", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (TELEPHONE, "light"), (TELEPHONE, "dark")]
)


@pytest.fixture(scope="module")
def page_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of finding, with all that can be known about one."""
    left = SideSummary("platform.csv", 1_000_000, 2, [BrokenRow(7, "x,y", "amount is no number: 'y'")], "line")
    summary = Summary(
        "off", "2017-06-26T06:00:00+00:00", left, SideSummary("gift.orders", 999_998), ("id",), ("amount", "user"),
        counts=COUNTS, explained=2, new=1, resolved=1, gone=0, resolved_keys=["o-9"], grace="5m", spool="/var/lib/x",
        findings=FINDINGS, left_out={"only_left": 1}, repairs=REPAIRS,
    )  # fmt: skip
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(draw(summary), encoding="utf-8")
    return file


@EVERY_SCREEN
def test_it_is_quiet_and_asks_nobody(browser: Browser, page_of_all: Path, width: int, scheme: Scheme) -> None:
    """No word on the console, its own policy's included, and no request but the file itself."""
    with opened(browser, page_of_all, width, scheme) as found:
        assert found.said == []
        assert found.asked == [page_of_all.as_uri()]


@pytest.mark.parametrize("width", [320, 768, 2560])
def test_it_fits_the_screen(browser: Browser, page_of_all: Path, width: int) -> None:
    """A table that is wider scrolls by itself."""
    with opened(browser, page_of_all, width) as found:
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width


@EVERY_SCREEN
def test_who_cannot_see_well_can_read_it(browser: Browser, page_of_all: Path, width: int, scheme: Scheme) -> None:
    """No violation of WCAG 2.2 AA that a program can find: contrast, names, order, roles."""
    with opened(browser, page_of_all, width, scheme) as found:
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        results = Axe().run(found.page, options=rules)
        assert results.violations_count == 0, results.generate_report()


def test_one_order_in_a_million_is_seen(browser: Browser, page_of_all: Path) -> None:
    """Every kind that there is has a part of the bar that an eye can find."""
    with opened(browser, page_of_all, TELEPHONE) as found:
        boxes = [rect.bounding_box() for rect in found.page.locator(".bar rect").all()]
        assert len(boxes) == len(COUNTS)
        assert all(box and box["width"] > 8 for box in boxes)
