"""The timeline of a run as SVG: each request a dot at its end, by latency; losses as shapes; restarts as bands.

Nothing in it is scaled with the page but positions: places along the time are shares of the width, and so dots stay
round, lines thin and words legible from a telephone to paper. The many answered requests are one path, on a grid of half
a pixel; losses are elements of their own, with their words.
"""

from __future__ import annotations

import re
from typing import Final

from lastcall.tools.drill import kinds
from lastcall.tools.drill.kinds import Kind
from lastcall.tools.drill.results import Restart, Run
from lastcall.tools.page import Html, Scale, count, join, linear, logarithmic, number, prose, seconds, tag

HEIGHT: Final = 232
"""Pixels of the plot, without the words around it."""
COLUMNS: Final = 2000
"""Places along the time that a dot can have."""
ROWS: Final = 2 * HEIGHT
TOLD_MAX: Final = 1500
"""Losses of a run with words of their own, which are most of a large page; beyond, only their shape is there."""
LABELS_MAX: Final = 12
"""Restarts with a number above them; with more of them, every n-th has one."""
_PID: Final = re.compile(r"\b\d{2,}\b")


def symbols() -> Html:
    """The shapes of the losses; once in a page, before its timelines."""
    shapes = {
        Kind.HARM: tag("path", d="M0-5.6 5.6 0 0 5.6-5.6 0z"),
        Kind.UNTOLD: tag("path", d="M0-5 5 0 0 5-5 0z"),
        Kind.BROKEN: tag("path", d="M-3.6-3.6 3.6 3.6M3.6-3.6-3.6 3.6"),
        Kind.STATUS: tag("path", d="M-3.6-3.6h7.2v7.2h-7.2z"),
        Kind.TIMEOUT: tag("path", d="M0-4.6V4.6M-4.6 0H4.6"),
        Kind.REFUSED: tag("path", d="M-4.6-3.4H4.6L0 4.4z"),
        Kind.ANSWERED: tag("circle", r=3),
    }
    drawn = [tag("g", shape, id=f"k-{kind}") for kind, shape in shapes.items()]
    return tag("svg", tag("defs", drawn), width=0, height=0, aria_hidden="true", class_="symbols", focusable="false")


def glyph(kind: Kind) -> Html:
    """A shape in a line of text."""
    use = tag("use", href=f"#k-{kind}", class_=f"k k-{kind}")
    return tag("svg", use, class_="glyph", viewBox="-7 -7 14 14", width=14, height=14, aria_hidden="true")


def timeline(run: Run, name: str) -> Html:
    """The plot. `name` is an id that nothing else in the page has."""
    across = linear(0.0, kinds.extent(run))
    up = logarithmic(run.records.took)
    found = kinds.kinds(run.records)
    drawing = tag(
        "svg",
        tag("title", f"{run.strategy_title}, {run.title}, {run.path}: latency of each request", id=f"{name}-t"),
        tag("desc", _description(run, found), id=f"{name}-d"),
        _gap(run, across),
        _grid(across, up),
        [_restart(at, restart, across, len(run.restarts)) for at, restart in enumerate(run.restarts)],
        _answered(run, found, across, up),
        _losses(run, found, across, up),
        role="img",
        aria_labelledby=f"{name}-t",
        aria_describedby=f"{name}-d",
        height=HEIGHT,
        data_span=repr(across.high),
        data_low=repr(up.low),
        data_high=repr(up.high),
    )
    return tag("div", drawing, class_="plot")


def _description(run: Run, found: list[Kind]) -> str:
    """The plot in words, for who cannot see it."""
    counted = kinds.tally(found)
    kept = ", ".join(f"{many:,} {kinds.WORDS[kind]}" for kind, many in counted.items()) or "none"
    left_out = f", and {count(run.records.left_out, 'request')} not drawn" if run.records.left_out else ""
    times = [seconds(restart.began) for restart in run.restarts]
    shown = ", ".join(times[:20]) + (", and later" if len(times) > 20 else "")
    when = f" Restarts at {shown}." if times else ""
    return f"Requests over {seconds(kinds.extent(run))}: {kept}{left_out}.{when} Latency on a logarithmic scale."


def share(value: float) -> str:
    """A place along the time."""
    return number(value * 100, 3) + "%"


def _grid(across: Scale, up: Scale) -> Html:
    lines: list[Html] = []
    for value in up.ticks():
        at = HEIGHT * (1 - up(value))
        lines.append(tag("line", x2="100%", y1=at, y2=at, class_="grid"))
        lines.append(tag("text", _latency(value), x=-8, y=at + 4, class_="y"))
    for at, value in enumerate(across.ticks(10)):
        # on a telephone only every other one has room
        shown = "x" if at % 2 == 0 else "x wide"
        lines.append(tag("text", _time(value), x=share(across(value)), y=HEIGHT + 18, class_=shown))
        lines.append(
            tag("line", x1=share(across(value)), x2=share(across(value)), y1=HEIGHT, y2=HEIGHT + 5, class_="tick")
        )
    return tag("g", lines, aria_hidden="true")


def _latency(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def _time(value: float) -> str:
    return f"{round(value, 3):g} s"


def _gap(run: Run, across: Scale) -> Html | None:
    """The longest time without a success: a bar at the foot, where it is long enough to be seen."""
    begin, end = across(run.gap_began), across(run.gap_began + run.gap)
    if end - begin < 0.004:
        return None
    words = f"the longest time without a success: {seconds(run.gap)}, from {seconds(run.gap_began)} on"
    bar = tag("rect", tag("title", words), x=share(begin), y=0, width=share(end - begin), height=HEIGHT, class_="gap")
    return tag("g", bar, class_="gaps")


def _restart(at: int, restart: Restart, across: Scale, many: int) -> Html:
    """A line where it was ordered, a band until it was over, a number above."""
    begin, end = across(restart.began), across(restart.ended)
    said = f"restart {at + 1}: {restart.what}; {seconds(restart.began)}, took {seconds(restart.ended - restart.began)}"
    if restart.step:
        said += f"; at the step {restart.step}"
    if not restart.ok:
        said += "; it did not end as it should"
    if restart.note:
        said += f"; {restart.note}"
    every = -(-many // LABELS_MAX)
    label = None
    if at % every == 0:
        crowded = many > 6 and (at // every) % 2
        label = tag("text", str(at + 1), x=share(begin), y=-8, class_="n wide" if crowded else "n")
    return tag(
        "g",
        tag("title", said),
        tag("rect", x=share(begin), y=0, width=share(max(0.0, end - begin)), height=HEIGHT),
        tag("line", x1=share(begin), x2=share(begin), y1=-4, y2=HEIGHT),
        label,
        class_="restart" if restart.ok else "restart bad",
    )


def _answered(run: Run, found: list[Kind], across: Scale, up: Scale) -> Html | None:
    """All answered requests, in one path of points. Two of them at one place of the grid are one point."""
    records = run.records
    places = {
        (round(across(began + took) * COLUMNS), round((1 - up(took)) * ROWS))
        for began, took, kind in zip(records.began, records.took, found, strict=True)
        if kind is Kind.ANSWERED
    }
    if not places:
        return None
    points: list[str] = []
    last_x = last_y = 0
    for x, y in sorted(places):
        points.append(f"m{x - last_x}{'' if y < last_y else ' '}{y - last_y}h0")
        last_x, last_y = x, y
    path = tag("path", d="".join(points), vector_effect="non-scaling-stroke", class_="k-answered")
    whole = f"0 0 {COLUMNS} {ROWS}"
    return tag("svg", path, viewBox=whole, preserveAspectRatio="none", width="100%", height=HEIGHT, class_="dots")


def _losses(run: Run, found: list[Kind], across: Scale, up: Scale) -> Html:
    """Each a shape, the worst drawn last, over the others."""
    records = run.records
    lost = [at for at, kind in enumerate(found) if kind is not Kind.ANSWERED]
    order = {kind: -at for at, kind in enumerate(Kind)}
    lost.sort(key=lambda at: (order[found[at]], records.began[at]))
    drawn = []
    for nth, at in enumerate(reversed(lost)):
        drawn.append(
            tag(
                "use",
                tag("title", told(run, at)) if nth < TOLD_MAX else None,
                href=f"#k-{found[at]}",
                x=share(across(records.began[at] + records.took[at])),
                y=number(HEIGHT * (1 - up(records.took[at])), 1),
                class_=f"k k-{found[at]}",
            )
        )
    return tag("g", join(reversed(drawn)), class_="losses")


def told(run: Run, at: int) -> str:
    """One request in a line: what became of it, when, after how long."""
    records = run.records
    amiss = records.ledger[records.amiss[at]]
    what = records.outcomes[records.outcome[at]] + (f", {amiss}" if amiss else "")
    ended = records.began[at] + records.took[at]
    near = f", at restart {records.near[at] + 1}" if records.near[at] >= 0 else ""
    step = f", held at the step {records.step[at]}" if at in records.step else ""
    return f"{what}: {seconds(ended)}, after {seconds(records.took[at])}{near}{step} ({records.id[at]})"


def caption(run: Run) -> Html:
    """What the lines and bands are."""
    if not run.restarts:
        control = run.strategy in ("none", "")
        return prose(
            "No restart: this is what the others are compared with." if control else "Nobody ordered a restart."
        )
    # each restart has a pid of its own
    whats = list(dict.fromkeys(_PID.sub("PID", restart.what) for restart in run.restarts))
    shown = "; ".join(f"`{what}`" for what in whats[:2]) + ("; and others" if len(whats) > 2 else "")
    longest = max(restart.ended - restart.began for restart in run.restarts)
    many = len(run.restarts)
    which = "The line is the restart" if many == 1 else f"The lines are the {many} restarts"
    band = "its band ends" if many == 1 else "their bands end"
    return join(
        prose(f"{which}: "), [tag("code", what) if at % 2 else what for at, what in enumerate(shown.split("`"))],
        f"; {band} when the target serves again (at most {seconds(longest)})." ,
    )  # fmt: skip
