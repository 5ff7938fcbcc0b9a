"""The answer as a page: one HTML file, to be looked at, sent and printed; it needs no network and no other file.

It shows a `Summary` and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from lastcall.tools import page
from lastcall.tools.page import Html, count, seconds, tag
from lastcall.tools.reconcile import report
from lastcall.tools.reconcile.compare import OFF, Verdict
from lastcall.tools.reconcile.result import AGREE, DISAGREE, Finding, Repair, SideSummary, Summary

WHAT_IT_MEANS = {
    AGREE: "Every order that is old enough is in both ledgers, once, and says the same in both.",
    DISAGREE: "The orders that are off are named below, with what each ledger says and where it says so.",
}


def draw(summary: Summary) -> str:
    """The page."""
    meaning = report.words(summary)
    return page.page(
        f"Reconciliation: {summary.left.label} and {summary.right.label}",
        _header(summary),
        tag(
            "main",
            _ledgers(summary),
            _bar(summary),
            _legend(summary, meaning),
            [_orders(summary, verdict, meaning[verdict.value]) for verdict in (*OFF, Verdict.PENDING)],
            [_broken(side) for side in (summary.left, summary.right)],
            _repairs(summary),
            _resolved(summary),
            _asked(summary),
        ),
        css=page.resource("lastcall.tools.reconcile", "page.css"),
    )


def _header(summary: Summary) -> Html:
    when = datetime.fromisoformat(summary.at).strftime("%d %b %Y, %H:%M UTC")
    sentence = report.sentence(summary)
    return tag(
        "header",
        tag("p", tag("b", "lastcall"), " reconcile", tag("time", when, datetime=summary.at), class_="mast"),
        # the shout of a terminal in a heading's natural voice
        tag("h1", sentence.replace("THE LEDGERS DO NOT AGREE", "The ledgers do not agree")),
        tag("p", WHAT_IT_MEANS.get(summary.verdict, ""), " ", report.changes(summary), class_="meaning"),
        class_=f"top {summary.verdict}",
    )


# --- The whole ----------------------------------------------------------------


def _ledgers(summary: Summary) -> Html:
    return tag("div", _ledger(summary.left, "l"), _ledger(summary.right, "r"), class_="ledgers")


def _ledger(side: SideSummary, colour: str) -> Html:
    broken = tag("p", f"{count(side.broken, 'row')} that cannot be used", class_="broken") if side.broken else None
    rows = tag("p", f"{side.rows:,} ", tag("small", "row" if side.rows == 1 else "rows"), class_="rows")
    return tag("section", tag("h2", side.label), rows, broken, class_=f"ledger {colour}")


def _bar(summary: Summary) -> Html:
    """How the orders are parted. By the logarithm: one order in a million is what one has come to see."""
    shares = [(verdict, 1 + math.log10(number)) for verdict in _in_a_row() if (number := summary.counts[verdict.value])]
    scale, at, parts = 1000 / sum((share for _, share in shares), 0.001), 0.0, []
    for verdict, share in shares:
        parts.append(tag("rect", x=at, width=share * scale - 2, height=20, class_=verdict.value))
        at += share * scale
    return tag("svg", parts, viewBox="0 0 998 20", preserveAspectRatio="none", class_="bar", aria_hidden="true")


def _in_a_row() -> Iterable[Verdict]:
    """From what only the left has to what only the right has."""
    middle = (Verdict.DIFFERENT, Verdict.DUPLICATED, Verdict.MATCHED, Verdict.PENDING, Verdict.OUTSIDE)
    return Verdict.ONLY_LEFT, *middle, Verdict.ONLY_RIGHT


def _legend(summary: Summary, meaning: Mapping[str, str]) -> Html:
    rows = []
    for verdict in Verdict:
        number = summary.counts[verdict.value]
        if number or verdict in (Verdict.MATCHED, *OFF):
            name = report.title(verdict.value)
            text = (tag("i"), tag("b", f"{number:,}"), tag("span", name), tag("small", meaning[verdict.value]))
            rows.append(tag("li", *text, class_=f"{verdict.value}{'' if number else ' zero'}"))
    return tag("ul", rows, class_="legend")


# --- The orders ---------------------------------------------------------------


def _orders(summary: Summary, verdict: Verdict, meaning: str) -> Html | None:
    found = [one for one in summary.findings if one.verdict == verdict.value]
    number = summary.counts[verdict.value]
    if not number:
        return None
    name = report.title(verdict.value).capitalize()
    head = tag(
        "tr", [tag("th", text, scope="col") for text in (", ".join(summary.key), "made, UTC", "what is known", "where")]
    )
    rest = number - len(found)
    return tag(
        "section",
        tag("h2", f"{name} ", tag("span", f"{number:,}", class_="n")),
        tag("p", meaning[0].upper() + meaning[1:] + ".", class_="about"),
        tag(
            "div",
            tag("table", tag("thead", head), tag("tbody", [_order(summary, one) for one in found]), class_="orders"),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label=name,
        ),
        tag("p", f"and {rest:,} more, which the CSV report and the spool have", class_="rest") if rest else None,
        class_=verdict.value,
    )


def _order(summary: Summary, one: Finding) -> list[Html]:
    new = tag("span", "new", class_="new") if one.new else None
    since = tag("span", f"known since {one.since}", class_="where") if one.since else None
    sides = ((summary.left, one.left_lines), (summary.right, one.right_lines))
    where = [tag("div", f"{side.label}:{'..'.join(map(str, lines))}", class_="where") for side, lines in sides if lines]
    cells = (
        tag("th", " ".join(one.key.values()), new, scope="row", rowspan=2 if one.explained else None),
        tag("td", tag("time", one.at[:19], title=one.at)),
        tag("td", _known(summary, one), since),
        tag("td", where),
    )
    rows = [tag("tr", *cells)]
    if one.explained:
        sure = tag("span", one.explained.confidence, class_=f"sure {one.explained.confidence}")
        rows.append(tag("tr", tag("td", sure, one.explained.text, colspan=3), class_="why"))
    return rows


def _known(summary: Summary, one: Finding) -> list[Html]:
    """The values in which the sides differ, or those of the only side; and how often it is there."""
    names = one.columns or summary.compared
    parts = []
    for name in names:
        values = [
            tag("dd", _value(side.get(name)), class_=colour)
            for side, colour in ((one.left, "l"), (one.right, "r"))
            if side is not None
        ]
        parts += [tag("dt", name), *values] if values else []
    found = [tag("dl", parts, class_="values")] if parts else []
    sides = ((summary.left, one.left_times), (summary.right, one.right_times))
    return found + [tag("div", f"{times} times in {side.label}") for side, times in sides if times > 1]


def _value(value: str | None) -> Html:
    return tag("span", "null", class_="null") if value is None else tag("span", value)


# --- The rest -----------------------------------------------------------------


def _broken(side: SideSummary) -> Html | None:
    if not side.broken:
        return None
    head = tag("tr", [tag("th", text, scope="col") for text in (side.counted or "row", "why", "what it says")])
    rows = [
        tag("tr", tag("th", f"{row.line:,}", scope="row"), tag("td", row.why), tag("td", tag("code", row.text)))
        for row in side.broken_rows
    ]
    rest = side.broken - len(rows)
    return tag(
        "section",
        tag("h2", f"Cannot be used, in {side.label} ", tag("span", f"{side.broken:,}", class_="n")),
        tag(
            "div",
            tag("table", tag("thead", head), tag("tbody", rows), class_="orders"),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label=f"Broken rows of {side.label}",
        ),
        tag("p", f"and {rest:,} more, in the spool", class_="rest") if rest else None,
        class_="different",
    )


def _repairs(summary: Summary) -> Html | None:
    repairs = summary.repairs
    if repairs is None:
        return None
    names = (", ".join(summary.key), "was", "what became of it", "why")
    head = tag("tr", [tag("th", text, scope="col") for text in names])
    table = tag("table", tag("thead", head), tag("tbody", [_repair(one) for one in repairs.each]), class_="orders")
    return tag(
        "section",
        tag("h2", "Repairs ", tag("span", f"{len(repairs.each):,}", class_="n")),
        tag("p", f"{report.repairs_in_words(repairs)} By {repairs.function}, into {repairs.journal}.", class_="about"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Repairs") if repairs.each else None,
        class_="matched",
    )


def _repair(one: Repair) -> Html:
    name = tag("span", f"in the journal: {one.journal}", class_="where") if one.journal else None
    return tag(
        "tr",
        tag("th", " ".join(one.key.values()), scope="row"),
        tag("td", report.title(one.verdict)),
        tag("td", tag("div", report.repair_in_words(one)), name),
        tag("td", one.explained.text if one.explained else ""),
    )


def _resolved(summary: Summary) -> Html | None:
    if not summary.resolved_keys:
        return None
    rest = (summary.resolved or 0) - len(summary.resolved_keys)
    text = ", ".join(summary.resolved_keys) + (f" and {rest:,} more" if rest > 0 else "")
    return tag("section", tag("h2", "Resolved since the last run"), tag("p", text))


def _asked(summary: Summary) -> Html:
    rows = {
        "An order is known by": ", ".join(summary.key),
        "What has to agree": ", ".join(summary.compared) or "that it is there",
        "Explained by the cut list": f"{summary.explained:,}" if summary.explained else "",
        "It took": seconds(summary.seconds),
        "The evidence": summary.spool,
    }
    parts = [part for name, text in rows.items() if text for part in (tag("dt", name), tag("dd", text))]
    return tag("section", tag("h2", "How it was asked"), tag("dl", parts, class_="asked"))
