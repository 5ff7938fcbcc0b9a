"""The report of a drill: one HTML file, to be looked at, sent and printed; it needs no network and no other file.

It shows a `Drill` and decides nothing: verdicts, reasons and recommendations come with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from lastcall.tools import page
from lastcall.tools.drill import kinds
from lastcall.tools.drill.kinds import Kind
from lastcall.tools.drill.results import Drill, Ledgers, Line, Run, Strength, Verdict
from lastcall.tools.drill.timeline import caption, glyph, symbols, timeline, told
from lastcall.tools.page import Html, anchor, count, join, percent, prose, seconds, tag

LISTED_MAX: Final = 300
"""Losses of a run that are listed with their words; all of them are in the timeline and in the JSON."""

EVEN_MAX: Final = 5
"""Columns of the table that have the same width; more of them are as wide as they need, and the table may scroll."""

_STRENGTH: Final = {
    Strength.PROVED: "One loss would have been proof enough.",
    Strength.ENUMERATED: "The restart was fired at every step of a request: nothing was left to luck.",
    Strength.NONE: "Nothing was tried, so nothing is known.",
}

_BOOKS: Final = (
    ("half_done", "half done"),
    ("twice", "done twice"),
    ("unasked", "second action only"),
    ("told_not_done", "told 200, not done"),
    ("untold", "done, not told"),
    ("never_begun", "never begun"),
)


def report(drill: Drill) -> str:
    """The page."""
    targets = [(title, list(runs)) for title, runs in groupby(_in_order(drill.runs), lambda run: run.title)]
    names = {id(run): anchor("run", str(at)) for at, run in enumerate(drill.runs)}
    return page.page(
        f"Drill: {drill.verdict.sentence}",
        symbols(),
        tag("a", "To the timelines", href="#timelines", class_="skip"),
        _header(drill, targets),
        tag(
            "main",
            _matrix(drill, names),
            _advice(targets),
            _filters(drill),
            [_target(title, runs, names) for title, runs in targets],
            _skipped(drill),
            _method(drill),
        ),
        css=page.resource("lastcall.tools.drill", "report.css"),
        script=page.resource("lastcall.tools.drill", "report.js"),
    )


def _in_order(runs: Iterable[Run]) -> list[Run]:
    """One target after the other, in the order in which they first came."""
    titles = list(dict.fromkeys(run.title for run in runs))
    return sorted(runs, key=lambda run: titles.index(run.title))


# --- The verdict -------------------------------------------------------------


def _header(drill: Drill, targets: list[tuple[str, list[Run]]]) -> Html:
    restarts = sum(len(run.restarts) for run in drill.runs)
    facts = [
        count(len(drill.runs), "run"),
        count(restarts, "restart"),
        count(sum(run.requests for run in drill.runs), "request"),
        f"took {seconds(drill.took)}",
    ]
    cut_short = "It was interrupted: this is what there was until then. " if drill.interrupted else ""
    when = time.strftime("%d %b %Y, %H:%M", time.localtime(drill.clock))
    machine_time = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(drill.clock))
    return tag(
        "header",
        tag("p", tag("b", "lastcall"), " drill", tag("time", when, datetime=machine_time), class_="mast"),
        tag("div", _badge(drill.verdict), tag("h1", drill.verdict.sentence), class_="verdict"),
        tag("p", cut_short + _meaning(drill.verdict), class_="meaning"),
        tag("ul", [_standing(title, runs) for title, runs in targets], class_="standings")
        if len(targets) > 1
        else None,
        tag("p", " · ".join(facts), class_="numbers"),
        class_=f"top {_colour(drill.verdict)}",
    )


def _meaning(verdict: Verdict) -> str:
    """The verdict's strength in other words."""
    if verdict.strength is Strength.BOUNDED:
        one_in = int(1 / verdict.below + 1e-6) if verdict.below else 0
        return (
            "Trying cannot show that nothing is ever lost. So many requests without a loss say, with a confidence of 95 %, "
            f"that fewer than 1 in {one_in:,} is."
        )
    if verdict.strength is Strength.PROVED:
        return f"{_STRENGTH[Strength.PROVED]} Every loss is drawn and named below."
    return _STRENGTH[verdict.strength]


def _colour(verdict: Verdict) -> str:
    if verdict.strength is Strength.NONE:
        return "unknown"
    return "lost" if verdict.lost else "clean"


def _badge(verdict: Verdict) -> Html:
    """A sign that needs no colour: a tick, a cross, a question mark. The words are beside it."""
    shapes = {
        "clean": "M6 12.5l4 4 8-9",
        "lost": "M7 7l10 10M17 7 7 17",
        "unknown": "M9 9.5a3 3 0 1 1 4.3 2.7c-.9.5-1.3 1-1.3 2M12 17.6v.1",
    }
    mark = tag("path", d=shapes[_colour(verdict)])
    return tag("svg", tag("circle", cx=12, cy=12, r=11), mark, viewBox="0 0 24 24", class_="badge", aria_hidden="true")


def _standing(title: str, runs: list[Run]) -> Html:
    lost = sum(run.verdict.lost > 0 for run in runs)
    verdict = max((run.verdict for run in runs), key=lambda verdict: (verdict.lost, verdict.strength != Strength.NONE))
    words = (
        f"lost requests in {lost} of {count(len(runs), 'run')}" if lost else f"lost none in {count(len(runs), 'run')}"
    )
    return tag("li", _badge(verdict), tag("span", tag("b", title), " ", words), class_=_colour(verdict))


# --- The table ---------------------------------------------------------------


def _matrix(drill: Drill, names: dict[int, str]) -> Html | None:
    """Strategies down, targets and paths across."""
    if len(drill.runs) < 2:
        return None
    runs = _in_order(drill.runs)
    columns = list(dict.fromkeys((run.title, str(run.path)) for run in runs))
    strategies = list(dict.fromkeys(run.strategy_title for run in drill.runs))
    cells: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        cells.setdefault((run.strategy_title, run.title, str(run.path)), run)
    several = len({path for _, path in columns}) > 1
    head = [
        tag("th", _breakable(title), tag("small", path) if several else None, scope="col", role="columnheader")
        for title, path in columns
    ]
    # the roles are a table's own; a telephone shows it as blocks, and then browsers forget them
    rows = [
        tag(
            "tr",
            tag("th", strategy, scope="row", role="rowheader"),
            [_cell(cells.get((strategy, *column)), _named(column, several), names) for column in columns],
            role="row",
        )
        for strategy in strategies
    ]
    words = "Lost requests of each target (across) under each strategy (down). Each cell leads to its timeline."
    table = tag(
        "table",
        tag("caption", words),
        tag(
            "thead",
            tag("tr", tag("th", "Strategy", scope="col", role="columnheader"), head, role="row"),
            role="rowgroup",
        ),
        tag("tbody", rows, role="rowgroup"),
        class_="matrix even" if len(columns) <= EVEN_MAX else "matrix",
        role="table",
    )
    box = tag("div", table, class_="scroll", tabindex=0, role="region", aria_labelledby="at-a-glance")
    return tag("section", tag("h2", "At a glance", id="at-a-glance"), box)


def _breakable(name: str) -> list[Html | str]:
    """A long setting's name may be broken behind its underscores."""
    return [part if part != "_" else join("_", tag("wbr")) for part in re.split("(_)", name)]


def _named(column: tuple[str, str], several: bool) -> str:
    return f"{column[0]}, {column[1]}" if several else column[0]


def _cell(run: Run | None, column: str, names: dict[int, str]) -> Html:
    if run is None:
        dash = tag("span", tag("span", "–", aria_hidden="true"), tag("span", "not tried", class_="sr"), class_="none")
        return tag("td", dash, role="cell")
    verdict = run.verdict
    lines = [f"of {run.requests:,}"]
    if verdict.lost:
        lines.append(f"{verdict.lost / len(run.restarts):.1f} a restart" if run.restarts else percent(_rate(verdict)))
    elif verdict.strength is Strength.BOUNDED:
        lines.append(f"below {percent(verdict.below)}")
    else:
        lines.append(str(verdict.strength))
    harm = run.ledgers.harm if run.ledgers else 0
    link = tag(
        "a",
        _badge(verdict),
        tag("span", f"{verdict.lost:,}", tag("span", " lost", class_="sr"), class_="big"),
        tag(
            "span",
            [tag("span", line) for line in lines[:1]],
            [(" · ", tag("span", line)) for line in lines[1:]],
            class_="small",
        ),
        tag("span", glyph(Kind.HARM), f"{harm:,} books wrong", class_="harm") if harm else None,
        href=f"#{names[id(run)]}",
    )
    return tag("td", link, class_=_colour(verdict), data_label=column, role="cell")


def _rate(verdict: Verdict) -> float:
    return verdict.lost / verdict.requests if verdict.requests else 0.0


# --- What to do --------------------------------------------------------------


def _advice(targets: list[tuple[str, list[Run]]]) -> Html | None:
    """Each recommendation once for its target, whichever runs it came with."""
    items = []
    for title, runs in targets:
        texts = dict.fromkeys(run.recommendation for run in runs if run.recommendation)
        if texts:
            items += [tag("dt", title), tag("dd", [tag("p", prose(text)) for text in texts])]
    if not items:
        return None
    return tag("section", tag("h2", "What to do"), tag("dl", items, class_="advice"))


# --- Filters, which are the legend -------------------------------------------


def _filters(drill: Drill) -> Html:
    """What is drawn, and how: check boxes that need no script. There are none where there is nothing to tell apart."""
    present = {kind for run in drill.runs for kind in kinds.kinds(run.records)} | {Kind.ANSWERED}
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", id=f"show-{kind}", checked=True),
            glyph(kind),
            kinds.WORDS[kind],
            title=kinds.MEANING[kind],
        )
        for kind in Kind
        if kind in present
    ]
    lost = any(run.verdict.lost for run in drill.runs) and not all(run.verdict.lost for run in drill.runs)
    only = tag("label", tag("input", type="checkbox", id="only-lost"), "only runs that lost", class_="only")
    legend = tag("legend", "Shown in the timelines")
    fields = tag("fieldset", legend, boxes, only if lost else None)
    return join(
        tag("h2", "Timelines", id="timelines"),
        tag(
            "p",
            "Each mark is a request, where it ended; the higher, the longer it took. A column under a number is a restart.",
            class_="lead",
        ),
        tag("form", fields, class_="legend", autocomplete="off") if len(boxes) > 1 else None,
    )


# --- One target, one run -----------------------------------------------------


def _target(title: str, runs: list[Run], names: dict[int, str]) -> Html:
    settings: dict[str, str] = {}
    for run in runs:
        settings.update(run.settings)
    facts = [tag("li", name, " ", tag("b", value)) for name, value in settings.items()]
    heading = anchor("target", names[id(runs[0])])
    return tag(
        "section",
        tag("h3", title, id=heading),
        tag("ul", tag("li", "speaks ", tag("b", runs[0].protocol)), facts, class_="settings"),
        [_run(run, names[id(run)]) for run in runs],
        class_="target",
        aria_labelledby=heading,
    )


def _run(run: Run, name: str) -> Html:
    verdict = run.verdict
    trouble = [tag("p", words, class_="trouble") for words in _troubles(run)]
    return tag(
        "article",
        tag("h4", run.strategy_title, tag("small", str(run.path)), id=f"{name}-h"),
        tag("p", _badge(verdict), verdict.sentence, class_="sentence"),
        trouble,
        tag("figure", timeline(run, name), tag("figcaption", caption(run), _gap_words(run), _kept(run))),
        _facts(run),
        _reasons(run),
        _losses(run),
        _orphans(run),
        id=name,
        class_=f"run {_colour(verdict)}",
        aria_labelledby=f"{name}-h",
    )


def _troubles(run: Run) -> list[str]:
    said = []
    if run.failed:
        said.append(f"It could not be done to its end: {run.failed}")
    if run.interrupted:
        said.append("It was interrupted: this is what there was until then.")
    said += [
        f"Restart {at + 1}: {one.note or 'did not end as it should'}"
        for at, one in enumerate(run.restarts)
        if not one.ok
    ]
    return said[:6]


def _gap_words(run: Run) -> str:
    return f" Nobody was answered for {seconds(run.gap)}, from {seconds(run.gap_began)} on." if run.gap >= 0.5 else ""


def _kept(run: Run) -> str:
    left = run.records.left_out
    return (
        f" {count(len(run.records), 'request is', 'requests are')} drawn; {left:,} more are counted only."
        if left
        else ""
    )


def _facts(run: Run) -> Html:
    """The numbers of a run."""
    latency = run.latency
    facts = [
        ("requests", f"{run.requests:,}", ""),
        ("lost", f"{run.verdict.lost:,}", "bad" if run.verdict.lost else ""),
    ]
    if run.ledgers is not None:
        facts += _books(run.ledgers)
    facts += [
        ("longest gap", seconds(run.gap), ""),
        ("median", seconds(latency.median), ""),
        ("p99", seconds(latency.p99), ""),
    ]
    if run.restarts:
        facts.append(("p99 near a restart", seconds(latency.p99_near), ""))
    facts.append(("longest", seconds(latency.longest), ""))
    if run.left:
        facts.append(("closed while idle", f"{run.left:,}", ""))
    pairs = [tag("div", tag("dt", name), tag("dd", value, class_=style or None)) for name, value, style in facts]
    return tag("dl", pairs, class_="facts")


def _books(ledgers: Ledgers) -> list[tuple[str, str, str]]:
    """What the ledgers say: half-done always, for it is the question; the others where there is one."""
    found = [(words, int(getattr(ledgers, name)), name) for name, words in _BOOKS]
    return [
        (words, f"{many:,}", "bad" if many and name != "never_begun" else "")
        for words, many, name in found
        if many or name == "half_done"
    ]


def _reasons(run: Run) -> Html | None:
    if not run.reasons:
        return None
    items = [
        tag("li", tag("b", f"{reason.count:,} × {reason.what}"), tag("span", prose(_ended(reason.why))))
        for reason in run.reasons
    ]
    return tag("div", tag("h5", "Why"), tag("ul", items), class_="reasons")


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else sentence + "."


def _losses(run: Run) -> Html | None:
    """Every loss in words, with what nginx logged about it."""
    found = kinds.kinds(run.records)
    lost = [at for at, kind in enumerate(found) if kind is not Kind.ANSWERED]
    if not lost:
        return None
    lines: dict[int, list[Line]] = {}
    for line in run.logged:
        lines.setdefault(line.index, []).append(line)
    items = [
        tag("li", glyph(found[at]), tag("span", told(run, at)), [_logged(line) for line in lines.get(at, [])])
        for at in lost[:LISTED_MAX]
    ]
    more = len(lost) - LISTED_MAX
    rest = tag("p", f"and {more:,} more: the whole list is in the JSON", class_="more")
    logged = sum(len(lines.get(at, [])) for at in lost)
    said = f", with {count(logged, 'line')} of nginx's error log" if logged else ""
    # not all of them are losses: who is refused after a stop for good knows that nothing was done
    title = f"{count(len(lost), 'request')} that went wrong, one by one{said}"
    return _folded(title, tag("ol", items, class_="losses-list"), rest if more > 0 else None)


def _folded(title: str, listed: Html, more: Html | None) -> Html:
    """A long list: folded, and unfolded it scrolls, by keyboard too."""
    box = tag("div", listed, class_="listed", tabindex=0, role="region", aria_label=title)
    return tag("details", tag("summary", title), box, more)


def _logged(line: Line) -> Html:
    return tag("code", line.text, class_="log")


def _orphans(run: Run) -> Html | None:
    """Lines of nginx's about requests that we do not know: they are shown, too."""
    orphans = [line for line in run.logged if line.index < 0]
    if not orphans:
        return None
    left = run.logged_count - len(run.logged)
    more = tag("p", f"and {count(left, 'line')} more, which were not kept", class_="more") if left > 0 else None
    items = [tag("li", tag("span", seconds(line.when)), _logged(line)) for line in orphans]
    title = f"{count(len(orphans), 'line')} of nginx's error log without a request"
    return _folded(title, tag("ol", items, class_="losses-list plain"), more)


# --- The end -----------------------------------------------------------------


def _skipped(drill: Drill) -> Html | None:
    if not drill.skipped:
        return None
    items = [
        tag("li", tag("b", one.target), f" {one.strategy}" if one.strategy else "", ": ", one.why)
        for one in drill.skipped
    ]
    return tag("section", tag("h2", "Not tried"), tag("ul", items, class_="skipped"))


def _method(drill: Drill) -> Html:
    settings = drill.settings
    arrivals = f"{settings.rate:g} requests a second, whatever happens (open loop)"
    if not settings.rate:
        arrivals = f"each client waits for its answer and thinks {seconds(settings.pace)} (closed loop)"
    facts = [
        ("clients", f"{settings.connections:,}: {arrivals}"),
        ("connections", "kept" if settings.keep else "a new one for each request"),
        ("work", f"{seconds(settings.work)} in the first action"),
        ("bodies", f"{settings.body:,} bytes of filling"),
        ("slow clients", percent(settings.slow)),
        ("restarts", f"{settings.restarts:,} in each run"),
        ("a client gives up after", seconds(settings.timeout)),
        ("seed", str(settings.seed)),
        *settings.others.items(),
        *drill.machine.items(),
        ("lastcall", drill.lastcall),
    ]
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    marks = [tag("div", tag("dt", glyph(kind), kinds.WORDS[kind]), tag("dd", kinds.MEANING[kind])) for kind in Kind]
    return tag(
        "section",
        tag("h2", "How it was done"),
        tag("pre", " ".join(drill.command), class_="command"),
        tag(
            "p",
            "Every request has an id of its own and is sent once: whoever tries again hides a loss. Books are two ledgers, "
            "one for each of the two actions of a request; they are compared with what clients were told.",
            class_="lead",
        ),
        tag("dl", pairs, class_="how"),
        tag("h3", "What the marks mean"),
        tag("dl", marks, class_="how marks"),
        class_="method",
    )
