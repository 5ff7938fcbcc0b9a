"""The report of a drill in a real browser: everything is drawn, nothing is asked for, and it fits, on each screen."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from lastcall.tools.drill.report import report
from lastcall.tools.drill.results import Drill, Reason, Records
from support.browser import DESKTOP, TELEPHONE, Scheme, opened
from support.drill.sample import LEDGER, OUTCOMES, Losses, drill, run, whole

pytestmark = pytest.mark.xdist_group("browser")

EVERY_SCREEN = pytest.mark.parametrize(
    ("width", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (TELEPHONE, "light"), (TELEPHONE, "dark")]
)


@pytest.fixture(scope="module")
def page_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drill with every kind of loss, drawn."""
    return write(tmp_path_factory.mktemp("report"), whole())


def write(folder: Path, found: Drill) -> Path:
    file = folder / "report.html"
    file.write_text(report(found), encoding="utf-8")
    return file


def number(page: Page, script: str) -> float:
    found = page.evaluate(script)
    assert isinstance(found, int | float)
    return float(found)


def colour(page: Page, selector: str, name: str) -> str:
    return str(page.locator(selector).first.evaluate("(one, name) => getComputedStyle(one)[name]", name))


@EVERY_SCREEN
def test_it_is_quiet_and_asks_nobody(browser: Browser, page_of_all: Path, width: int, scheme: Scheme) -> None:
    """No word on the console, and no request but the file itself: it may be sent to anyone."""
    with opened(browser, page_of_all, width, scheme) as found:
        found.page.locator(".plot").first.hover()
        assert found.said == []
        assert found.asked == [page_of_all.as_uri()]


@pytest.mark.parametrize("width", [320, TELEPHONE, 641, 768, DESKTOP, 2560])
def test_it_fits_the_screen(browser: Browser, page_of_all: Path, width: int) -> None:
    """Nothing makes the page wider than the window, with all its lists unfolded, from the smallest telephone on."""
    with opened(browser, page_of_all, width) as found:
        for one in found.page.locator("summary").all():
            one.click()
        assert number(found.page, "document.documentElement.scrollWidth") <= width


@EVERY_SCREEN
def test_who_cannot_see_well_can_read_it(browser: Browser, page_of_all: Path, width: int, scheme: Scheme) -> None:
    """No violation of WCAG 2.2 AA that a program can find: contrast, names, order, roles."""
    with opened(browser, page_of_all, width, scheme) as found:
        found.page.locator("summary").first.click()
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        results = Axe().run(found.page, options=rules)
        assert results.violations_count == 0, results.generate_report()


def test_every_request_is_drawn_and_every_restart(browser: Browser, tmp_path: Path) -> None:
    """As many dots as were answered, as many shapes as were lost, as many lines as there were restarts."""
    spread = [at / 20 for at in range(100)]
    columns = Records(
        began=spread, took=[0.05] * 100, outcome=[at if at < len(OUTCOMES) else 0 for at in range(100)],
        amiss=[1 if at in (7, 8) else 0 for at in range(100)], client=[0] * 100, id=[f"r{at}" for at in range(100)],
        near=[-1] * 100, outcomes=OUTCOMES, ledger=LEDGER, clients=["HTTP 0"],
    )  # fmt: skip
    drawn = msgspec.structs.replace(run("x", "HUP", Losses(), restarts=7), records=columns)
    with opened(browser, write(tmp_path, drill(drawn))) as found:
        dots = found.page.locator(".dots path").get_attribute("d")
        assert dots is not None
        assert len(re.findall("h0", dots)) == 100 - 8
        assert found.page.locator(".losses > use").count() == 8
        assert found.page.locator(".losses > use.k-harm").count() == 2
        assert found.page.locator("g.restart > line").count() == 7


def test_dots_stay_round_on_each_screen(browser: Browser, tmp_path: Path) -> None:
    """A mark is as large on a telephone as on a desk: only places are scaled."""
    file = write(tmp_path, drill(run("x", "HUP", Losses(half_done=1))))
    sizes = set()
    for width in (TELEPHONE, DESKTOP):
        with opened(browser, file, width) as found:
            box = found.page.locator(".losses > use").first.bounding_box()
            assert box is not None
            sizes.add((round(box["width"]), round(box["height"])))
    assert len(sizes) == 1


def test_nothing_is_drawn_outside_the_plot(browser: Browser, page_of_all: Path) -> None:
    """Whatever time and latency a request has."""
    script = """[...document.querySelectorAll('.plot > svg')].every((svg) => {
        const plot = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('.losses > use, .restart > rect')].every((one) => {
            const box = one.getBoundingClientRect();
            return box.left >= plot.left - 8 && box.right <= plot.right + 8
                && box.top >= plot.top - 8 && box.bottom <= plot.bottom + 8;
        });
    })"""
    with opened(browser, page_of_all, TELEPHONE) as found:
        assert found.page.evaluate(script) is True


def test_the_dark_has_colours_of_its_own(browser: Browser, page_of_all: Path) -> None:
    """Paper, ink, and every kind of mark."""
    looked_at = [("body", "backgroundColor"), ("body", "color"), ("h1", "color"), (".dots path", "stroke")]
    looked_at += [(f".losses .k-{kind}", "stroke") for kind in ("untold", "broken", "status", "timeout", "refused")]
    looked_at += [(".losses .k-harm", "fill"), (".restart rect", "fill"), (".restart line", "stroke")]
    with opened(browser, page_of_all) as light, opened(browser, page_of_all, scheme="dark") as dark:
        same = [one for one in looked_at if colour(light.page, *one) == colour(dark.page, *one)]
    assert same == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_it_is_black_on_white(browser: Browser, page_of_all: Path, scheme: Scheme) -> None:
    """Whatever the screen is, and without what cannot be pressed there."""
    with opened(browser, page_of_all, 720, scheme) as found:
        found.page.emulate_media(media="print", color_scheme=scheme)
        assert colour(found.page, "body", "backgroundColor") == "rgb(255, 255, 255)"
        assert colour(found.page, "body", "color") == "rgb(0, 0, 0)"
        assert not found.page.locator(".legend input").first.is_visible()
        assert number(found.page, "document.documentElement.scrollWidth") <= 720


@pytest.mark.parametrize("script", [True, False])
def test_the_legend_hides_what_is_not_wanted(browser: Browser, page_of_all: Path, *, script: bool) -> None:
    """With a script and without."""
    with opened(browser, page_of_all, script=script) as found:
        refused = found.page.locator(".losses > use.k-refused").first
        assert refused.is_visible()
        found.page.get_by_label("refused", exact=True).uncheck()
        assert not refused.is_visible()
        assert found.page.locator(".losses > use.k-status").first.is_visible()
        assert found.page.locator(".run.clean").first.is_visible()
        found.page.get_by_label("only runs that lost").check()
        assert not found.page.locator(".run.clean").first.is_visible()
        assert found.page.locator(".run.lost").first.is_visible()


def test_the_pointer_is_told_what_is_under_it(browser: Browser, page_of_all: Path) -> None:
    """The nearest loss with its words; between them the time and the latency of the place."""
    with opened(browser, page_of_all) as found:
        plot = found.page.locator(".plot").first
        words = plot.locator("use.k-refused title").last.text_content()
        plot.locator("use.k-refused").last.hover()
        assert plot.locator(".tip").text_content() == words
        plot.hover(position={"x": 120, "y": 30})
        told = plot.locator(".tip").text_content() or ""
        assert re.fullmatch(r"\d\.\d\d s, latency \d\.\d\d s", told), told
        found.page.mouse.move(0, 0)
        assert not plot.locator(".tip").is_visible()


def test_a_cell_of_the_table_leads_to_its_timeline(browser: Browser, page_of_all: Path) -> None:
    """In all of them, and by the words of the cell's own run."""
    with opened(browser, page_of_all) as found:
        cells = found.page.locator(".matrix td a")
        assert cells.count() == len(whole().runs)
        for cell in cells.all():
            target = found.page.locator(str(cell.get_attribute("href")))
            lost = cell.locator(".big").inner_text().split()[0]
            assert target.locator(".facts dt", has_text=re.compile("^lost$")).locator("+ dd").inner_text() == lost


def test_nothing_in_a_result_becomes_markup(browser: Browser, tmp_path: Path) -> None:
    """A log line, a version, an id: whatever they hold is text. No element of theirs is in the page, no script runs."""
    evil = (
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>'\"&</style></title>"
        "\u202e\x1b[2J"
    )
    plain = run("x", "TERM, start", Losses(bad_gateway=2, half_done=1, refused=1))
    records = msgspec.structs.replace(
        plain.records,
        id=[evil] * len(plain.records),
        outcomes=[OUTCOMES[0], *[evil] * (len(OUTCOMES) - 1)],
        clients=[evil] * 24,
    )
    cursed = msgspec.structs.replace(
        plain, title=evil, strategy_title=evil, settings={evil: evil}, records=records, recommendation=evil, failed=evil,
        logged=[msgspec.structs.replace(line, text=evil) for line in plain.logged], reasons=[Reason(1, evil, evil)],
        restarts=[msgspec.structs.replace(one, what=evil, note=evil, ok=False, step=evil) for one in plain.restarts],
        verdict=msgspec.structs.replace(plain.verdict, sentence=evil),
    )  # fmt: skip
    whole_page = msgspec.structs.replace(
        drill(cursed, cursed), command=[evil], machine={evil: evil}, lastcall=evil, verdict=cursed.verdict
    )
    with opened(browser, write(tmp_path, whole_page)) as found:
        found.page.locator("summary").first.click()
        assert found.page.locator("img").count() == 0
        assert found.page.locator("script").count() == 1
        assert found.said == []
        assert found.asked == [(tmp_path / "report.html").as_uri()]
        assert found.page.title().startswith("Drill: <img")
        assert "\u202e" not in found.page.content()
