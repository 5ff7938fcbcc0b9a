"""`lastcall drill --from-access-log`: the question from the command line, and the answer in words."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Callable
from typing import Final, TypedDict, TypeVar, Unpack

import click
import msgspec

from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import parse_duration
from lastcall.tools.drill.cost import GAP, Cost, Estimate, Interval, Question, estimate
from lastcall.tools.page import count, seconds
from lastcall.tools.report import printable

RESTARTS: Final = 5
"""In each run, where nobody says."""
RESTARTS_MAX: Final = 1000


def lines(found: Estimate) -> list[str]:
    """The answer for people."""
    log = found.log
    said = [
        f"{count(log.requests, 'request')} from {log.first} to {log.last}, by {log.clock}",
        f"how long they took: {log.durations}",
    ]
    if log.assumed and log.assumed < log.requests:
        said.append(f"of {log.assumed:,} of them the log does not say it")
    if log.elsewhere:
        said.append(
            f"{count(log.elsewhere, 'request')} more were answered by nginx itself: a restart does not touch them"
        )
    if log.bad:
        said.append(f"{count(log.bad, 'line')} of {log.lines:,} not understood, the first of them:")
        said += [f"  {printable(text)}" for text in log.bad_shown]
    for cost in found.costs:
        said += ["", *_schedule_lines(cost, found)]
    said += [
        "",
        "Cut: begun, and ended before their answer; what they had done by then is done.",
        f"Refused: never begun, for nobody listened for {seconds(found.gap)} ({found.gap_words}).",
        f"Least is in flight at {found.quietest}: {_amount(found.quietest_in_flight)}, on average.",
        "A restart that finishes what has begun cuts nothing, at any time: lastcall drill shows which one does.",
    ]
    return said


def _schedule_lines(cost: Cost, found: Estimate) -> list[str]:
    low, high = cost.single
    single = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return [
        f"{cost.cron}  {cost.words}: {count(cost.a_year, 'restart')} a year",
        f"  each cuts      {_bounds(cost.in_flight)} in flight; a single one: {single}",
        f"  each refuses   {_bounds(cost.refused)} in {seconds(found.gap)}",
        f"  in a year      {_bounds(cost.cut_a_year)} cut, {_bounds(cost.refused_a_year)} refused",
        f"  from           {cost.basis}",
    ]


def _bounds(found: Interval) -> str:
    return f"{_amount(found.mean)} ({_amount(found.low)} to {_amount(found.high)})"


def _amount(value: float) -> str:
    """Two figures, and no more than anybody can know: `0.042`, `4.2`, `42`, `1,530`."""
    if value < 0.0005:
        return "0"
    if value < 10:
        return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"
    digits = 10.0 ** max(0, math.floor(math.log10(value)) - 2)
    return f"{round(value / digits) * digits:,.0f}"


# --- The command's options ---------------------------------------------------


class Options(TypedDict):
    """What the options were given, but for `--restarts`."""

    from_access_log: tuple[str, ...]
    log_format: str
    duration: float | None
    gap: float | None
    zone: str


_Command = TypeVar("_Command", bound=Callable[..., object])


def _duration(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), ctx, param) from None


def options(command: _Command) -> _Command:
    """The options of `lastcall drill --from-access-log`: `question` makes one of what they were given.

    `--restarts` is one of them, and means what it says: how many restarts, or which. `times` has the number.
    """
    path = click.Path(exists=True, dir_okay=False, allow_dash=False)
    for option in (
        click.option(
            "--zone", default="", metavar="ZONE", help="Time zone that cron runs in, as Europe/Moscow; else the log's."
        ),
        click.option(
            "--gap", metavar="TIME", callback=_duration, help=f"How long nobody listens during a restart. [{GAP} s]"
        ),
        click.option(
            "--duration", metavar="TIME", callback=_duration, help="How long a request takes, where the log does not say."
        ),
        click.option(
            "--log-format", default="", metavar="FORMAT",
            help="nginx's log_format, php-fpm's access.format, gunicorn's, or combined, fpm, json.",
        ),
        click.option(
            "--restarts", multiple=True, metavar="N",
            help='In each run.  [default: 5]  With --from-access-log: when, as cron has it, "28 5 * * *".',
        ),
        click.option(
            "--from-access-log", "from_access_log", multiple=True, type=path, metavar="FILE",
            help="Restart nothing; estimate from this log (also .gz) what restarts by the clock cost.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def question(restarts: tuple[str, ...], **given: Unpack[Options]) -> Question | None:
    """What the options ask for; None: nothing. Raises click.UsageError where a log comes without a schedule."""
    if not given["from_access_log"]:
        alone = [name for name, value in given.items() if value not in ("", (), None)]
        if alone:
            raise click.UsageError(f"--{alone[0].replace('_', '-')} goes with --from-access-log")
        return None
    if not restarts:
        raise click.UsageError('--from-access-log needs a schedule: --restarts "28 5 * * *"')
    return Question(
        files=list(given["from_access_log"]),
        restarts=list(restarts),
        log_format=given["log_format"],
        duration=given["duration"],
        gap=given["gap"],
        zone=given["zone"],
    )


def times(restarts: tuple[str, ...]) -> int:
    """How many restarts. Raises click.UsageError where it is no number, or too large a one."""
    text = restarts[-1] if restarts else str(RESTARTS)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= RESTARTS_MAX):
        raise click.BadParameter(f"{text!r} is not a number from 1 to {RESTARTS_MAX}", param_hint="--restarts")
    return int(text)


def answer(asked: Question, *, as_json: bool) -> None:
    """Print the estimate. Raises click.UsageError where there is none."""
    try:
        found = estimate(asked)
    except Mistake as mistake:
        raise click.UsageError(str(mistake)) from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    width = min(shutil.get_terminal_size().columns, 110)
    for line in lines(found):
        click.echo(line if len(line) <= width or line.startswith(" ") else textwrap.fill(line, width))
