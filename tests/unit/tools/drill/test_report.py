"""The report of a drill: all of a result is in it, and what there is none of leaves no hole. tests/browser looks at it."""

from __future__ import annotations

import re

import msgspec
import pytest

from lastcall.tools.drill import kinds
from lastcall.tools.drill.kinds import Kind, kind
from lastcall.tools.drill.outcomes import Amiss, Outcome
from lastcall.tools.drill.report import LISTED_MAX, report
from lastcall.tools.drill.results import Ledgers, Path, Records, Strength, Verdict
from lastcall.tools.drill.timeline import TOLD_MAX
from support.drill.sample import Losses, drill, run, whole


def words(html: str) -> str:
    """What is to be read, without its markup."""
    body = html[html.index("<body") : html.index("<script>")]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", body))


def test_the_verdict_is_on_top_with_its_strength() -> None:
    """One sentence, then what it is worth."""
    page = words(report(drill(run("lastcall", "HUP", Losses(), requests=5334))))
    assert "0 of 5,334 lost: below 0.056 % at 95 %" in page
    assert "fewer than 1 in 1,778" in page


@pytest.mark.parametrize("strength", Strength)
def test_every_strength_is_put_in_words(strength: Strength) -> None:
    """Also that of a drill that did nothing."""
    found = msgspec.structs.replace(drill(), verdict=Verdict(0, 0, 1.0, strength, "nothing happened"))
    assert "nothing happened" in words(report(found))


def test_nothing_of_a_result_is_missing() -> None:
    """Strategies, paths, settings, reasons, recommendations (each once), what was skipped, the machine, the command."""
    found = whole()
    page = words(report(found))
    for one in found.runs:
        for said in (
            one.title,
            one.strategy_title,
            one.path,
            one.verdict.sentence,
            *one.settings,
            *one.settings.values(),
        ):
            assert str(said) in page
    assert page.count("Reload with USR2, never with TERM.") == 1
    assert "puma : it is not installed" in page
    assert "lastcall drill --against php-fpm,gunicorn,lastcall" in page
    assert all(value in page for value in found.machine.values())


def test_each_loss_is_named_with_what_nginx_logged_about_it() -> None:
    """Its outcome, its books, when, after how long, its id; and lines that belong to nobody are there, too."""
    one = run("php-fpm", "TERM, start", Losses(half_done=1), restarts=1)
    lost = next(at for at, amiss in enumerate(one.records.amiss) if amiss)
    orphan = msgspec.structs.replace(one.logged[0], text="nobody's line", index=-1)
    one = msgspec.structs.replace(one, logged=[*one.logged, orphan], logged_count=5)
    page = words(report(drill(one)))
    assert re.search(
        rf"502, half done: [\d.]+ s, after [\d.]+ ms, at restart 1 \(d1\.{lost}\) 2026/11/25 [^:]+:31:12", page
    )
    assert "1 request that went wrong, one by one, with 1 line of nginx's error log" in page.replace("&#x27;", "'")
    assert "and 3 lines more, which were not kept" in page


def test_no_network_is_in_it() -> None:
    """No address but names of XML's, and nothing that loads."""
    html = report(whole())
    assert set(re.findall(r"https?://[^\s'\"<]*", html)) <= {"http://www.w3.org/2000/svg&#x27;"}
    assert not re.search(
        r"(src|srcset|data|action|poster)=|@import|url\(", re.sub("data-", "", html[html.index("<body") :])
    )
    assert "default-src 'none'" in html


def test_a_large_result_makes_a_page_that_can_be_sent() -> None:
    """Twenty thousand requests in a run: what lies on one point is one point, and words have a bound."""
    many = run("x", "TERM, start", Losses(refused=600), requests=17_000, restarts=5)
    assert len(many.records) == 20_000
    html = report(drill(many))
    assert len(html) < 1_200_000
    assert html.count('href="#k-refused"') >= 3000
    assert html.count("<title>refused") == TOLD_MAX
    assert f"and {3000 - LISTED_MAX:,} more" in html


def test_what_is_not_there_leaves_no_hole() -> None:
    """No ledgers, no request, no restart, no run at all."""
    bare = msgspec.structs.replace(
        run("x", "none", Losses(), requests=1, restarts=0), records=Records.none(), ledgers=None, settings={}, gap=0.0
    )
    page = words(report(drill(bare)))
    assert "No restart: this is what the others are compared with." in page
    assert "half done" not in page.split("How it was done")[0]
    assert "At a glance" not in page
    assert "What to do" not in page
    assert "Not tried" not in page
    assert "At a glance" not in words(report(drill()))


def test_the_table_says_what_was_not_tried() -> None:
    """A cell for every strategy and every target on every path; as a table, on a telephone too."""
    html = report(drill(run("a", "HUP", Losses()), run("b", "TERM", Losses(reset=1), path=Path.DIRECT)))
    table = html[html.index("<table") : html.index("</table>")]
    assert table.count("<td") == 4
    assert table.count("not tried") == 2
    assert table.count('role="cell"') == 4
    assert "1.0 a restart" in table


def test_trouble_is_told() -> None:
    """A run that could not go on, one that was interrupted, a restart that did not end as it should."""
    one = run("x", "HUP", Losses())
    bad = msgspec.structs.replace(one.restarts[1], ok=False, note="exit code 3")
    one = msgspec.structs.replace(
        one, failed="it never served again", interrupted=True, restarts=[one.restarts[0], bad], ledgers=Ledgers(twice=2)
    )
    page = words(report(msgspec.structs.replace(drill(one), interrupted=True)))
    for said in ("It could not be done to its end: it never served again", "Restart 2: exit code 3", "done twice 2"):
        assert said in page
    assert page.count("It was interrupted: this is what there was until then.") == 2


def test_what_the_books_say_weighs_more_than_what_the_client_saw() -> None:
    """Each pair of an outcome and an entry is of one kind."""
    assert kind("200", "") is Kind.ANSWERED
    assert kind("200", Amiss.TWICE) is Kind.HARM
    assert kind("502", Amiss.HALF_DONE) is Kind.HARM
    assert kind("502", Amiss.UNTOLD) is Kind.UNTOLD
    assert kind("502", Amiss.NEVER_BEGUN) is Kind.STATUS
    assert kind("404", "") is Kind.STATUS
    assert [kind(str(one), "") for one in Outcome if one is not Outcome.ANSWERED] == [
        Kind.REFUSED, Kind.REFUSED, Kind.BROKEN, Kind.BROKEN, Kind.BROKEN, Kind.TIMEOUT, Kind.STATUS,
    ]  # fmt: skip
    assert set(kinds.WORDS) == set(kinds.MEANING) == set(kinds.GLYPHS) == set(Kind)
