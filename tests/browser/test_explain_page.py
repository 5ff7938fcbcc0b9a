"""The page of an incident in a real browser: it asks nobody, it fits, and it can be read, on each screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from lastcall.tools.explain.investigate import Question, investigate
from lastcall.tools.explain.page import draw
from support import night
from support.browser import DESKTOP, TELEPHONE, Scheme, opened

pytestmark = pytest.mark.xdist_group("browser")

EVERY_SCREEN = pytest.mark.parametrize(
    ("width", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (TELEPHONE, "light"), (TELEPHONE, "dark")]
)
LONG = "/3/cn/vgift/send?order=7009&note=</script><b>" + "x" * 300


@pytest.fixture(scope="module")
def page_of_the_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The night of 2017, with one address more, that is long and hostile."""
    folder = tmp_path_factory.mktemp("night")
    hostile = night.complaint(7009, night.RESET).replace("/3/cn/vgift/send?order=7009", LONG)
    root = night.lay(folder, var_log_nginx_error_log=night.ERRORS + hostile)
    file = folder / "incident.html"
    file.write_text(draw(investigate(Question(root, host=False), 0.0)), encoding="utf-8")
    return file


@EVERY_SCREEN
def test_it_is_quiet_and_asks_nobody(browser: Browser, page_of_the_night: Path, width: int, scheme: Scheme) -> None:
    """No word on the console, its own policy's included, and no request but the file itself."""
    with opened(browser, page_of_the_night, width, scheme) as found:
        assert found.said == []
        assert found.asked == [page_of_the_night.as_uri()]


@pytest.mark.parametrize("width", [320, 768, 2560])
def test_it_fits_the_screen(browser: Browser, page_of_the_night: Path, width: int) -> None:
    """Tables and patches that are wider scroll by themselves, with every line unfolded."""
    with opened(browser, page_of_the_night, width) as found:
        for one in found.page.locator("summary").all():
            one.click()
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width


@EVERY_SCREEN
def test_who_cannot_see_well_can_read_it(browser: Browser, page_of_the_night: Path, width: int, scheme: Scheme) -> None:
    """No violation of WCAG 2.2 AA that a program can find: contrast, names, order, roles."""
    with opened(browser, page_of_the_night, width, scheme) as found:
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        results = Axe().run(found.page, options=rules)
        assert results.violations_count == 0, results.generate_report()


def test_every_request_is_drawn_and_told(browser: Browser, page_of_the_night: Path) -> None:
    """A bar for each that an eye can find, the time for which the server was away, and the lines behind each."""
    with opened(browser, page_of_the_night) as found:
        boxes = [rect.bounding_box() for rect in found.page.locator(".plot rect:not(.away)").all()]
        assert len(boxes) == 5
        assert all(box and box["width"] > 3 and box["height"] > 5 for box in boxes)
        away = found.page.locator(".plot rect.away").bounding_box()
        assert away
        assert away["width"] > 100
        assert "/etc/crontab:7" in found.page.inner_text(".ordered")
        assert LONG in found.page.inner_text("main")
