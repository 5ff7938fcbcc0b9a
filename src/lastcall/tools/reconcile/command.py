"""The command line of `lastcall reconcile`: what was asked, who is told, and the exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click
import msgspec

from lastcall.core import cuts as core
from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import format_duration, parse_duration, parse_size
from lastcall.runtime import cutlist
from lastcall.tools.cuts import since as moment
from lastcall.tools.explain import ROOT, hits
from lastcall.tools.reconcile import alarm, explain, mend, places, repair, report, result
from lastcall.tools.reconcile.question import Kind, NoVerdict, Question, Side, columns
from lastcall.tools.reconcile.repair import Outcome
from lastcall.tools.reconcile.result import SideSummary, Summary
from lastcall.tools.reconcile.run import Means, Run, alone
from lastcall.tools.report import printable

AGREE, OFF, NO_VERDICT = 0, 1, 2
FORMATS = ("text", "json", "csv", "html")
LOGS_BEFORE = 3600.0
"""Seconds before `--since` from which on restarts may matter."""
_PATH = click.Path(path_type=Path)
_F = TypeVar("_F", bound=Callable[..., Any])


class Reconcile(click.Command):
    """A command whose mistakes of usage are no verdict: cron must not take them for one."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.show()
            raise click.exceptions.Exit(NO_VERDICT) from None


# --- What was asked -----------------------------------------------------------


def question(given: Mapping[str, Any], now: datetime) -> Question:
    """The question that the options ask. Raises NoVerdict."""
    keys, compared = columns(given["key"]), columns(given["compare"])
    names = [column.name for column in (*keys, *compared)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise NoVerdict(f"{', '.join(sorted(twice))}: a column is a key or compared, once")
    time_column = columns((given["time"],))[0].name if given["time"] else None
    # whoever says when an order was made is compared as a time as well
    compared = tuple(replace(one, kind=one.kind or Kind.TIME) if one.name == time_column else one for one in compared)
    needs_time = [f"--{name.replace('_', '-')}" for name in ("since", "until", "ignore_younger") if given[name]]
    if needs_time and time_column is None:
        raise NoVerdict(f"{needs_time[0]} needs to know which column says when an order was made: --time COLUMN")
    known = {*names, time_column} - {None}
    return Question(
        _side("left", given, known),
        _side("right", given, known),
        keys,
        compared,
        time_column,
        now,
        _moment("--since", given["since"], now),
        _moment("--until", given["until"], now),
        given["ignore_younger"],
        given["allow_empty"],
        given["max_broken"],
    )


def _side(name: str, given: Mapping[str, Any], known: set[str | None]) -> Side:
    try:
        place = places.parse(given[name], given[f"{name}_format"], os.environ)
    except places.BadAddress as error:
        raise NoVerdict(str(error)) from None
    made = {}
    for text in given[f"{name}_column"]:
        column, equals, expression = text.partition("=")
        if not equals or not expression.strip():
            raise NoVerdict(f"--{name}-column {text}: write NAME=EXPRESSION, amount='cents::bigint * 0.01'")
        if column.strip() not in known:
            raise NoVerdict(
                f"--{name}-column {text}: nobody has asked for {column.strip()}, with --key, --compare or --time"
            )
        made[column.strip()] = expression.strip()
    zone = given[f"{name}_zone"]
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError):
            raise NoVerdict(
                f"--{name}-zone {zone}: there is no such time zone; UTC and Europe/Berlin are some"
            ) from None
    options = {option: given[f"{name}_{option}"] for option in ("query", "where", "encoding", "delimiter", "null")}
    return Side(name, place, made, zone=zone, **options)


def _moment(option: str, text: str | None, now: datetime) -> datetime | None:
    try:
        return None if text is None else datetime.fromtimestamp(moment(text, now.timestamp()), UTC)
    except Mistake as mistake:
        raise NoVerdict(f"{option}: {mistake}") from None


def _cuts(path: Path | None) -> tuple[core.Cut, ...] | None:
    """The cut list of a file or of a run directory. Raises NoVerdict."""
    if path is None:
        return None
    file = path / cutlist.NAME if path.is_dir() else path
    if not path.exists():
        raise NoVerdict(f"{path}: there is no such cut list")
    found: list[core.Cut] = []
    for one in cutlist.files(file):
        try:
            good, bad = core.decode(one.read_bytes().split(b"\n"))
        except OSError as error:
            raise NoVerdict(f"{one}: {error.strerror}") from None
        found += good
        for line in bad:
            click.echo(f"lastcall: {one}:{line.number}: no record of a cut: {line.why}", err=True)
    return tuple(found)


def _suspects(given: Mapping[str, Any], asked: Question) -> Callable[[], list[explain.Suspect]] | None:
    """The requests that were cut: the list is read now, logs when they are needed. Raises NoVerdict."""
    cuts, logs, root = _cuts(given["cuts"]), given["logs"], given["root"]
    if cuts is None and not logs and root is None:
        return None
    for path in (*logs, *([root] if root is not None else [])):
        if not path.exists():
            raise NoVerdict(f"{path}: there is no such log or folder")

    def found() -> list[explain.Suspect]:
        suspects = [explain.of_cut(cut) for cut in cuts or ()]
        if logs or root is not None:
            since = None if asked.since is None else asked.since.timestamp() - LOGS_BEFORE
            troubles: list[str] = []
            suspects += map(explain.of_hit, hits(root or ROOT, logs, since, troubles=troubles))
            for trouble in troubles:
                click.echo(f"lastcall: the logs: {printable(trouble)}", err=True)
        return suspects

    return found


def _home() -> Path:
    """Where the system keeps what programs remember."""
    if os.geteuid() == 0:
        return Path("/var/lib/lastcall")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "lastcall"


def _wish(given: Mapping[str, Any], umask: int) -> mend.Wish | None:
    """The repair that was asked for. Raises NoVerdict."""
    spec, state = given["repair"], given["state"]
    if spec is None:
        if given["apply"]:
            raise NoVerdict("--apply needs to know what is to be applied: --repair module:function")
        return None
    folder = given["journal"]
    if folder is None:
        folder = state.with_name(f"{state.name}.repairs") if state else _home() / "repairs" / spec.replace(":", ".")
    function = repair.function(spec, str(given["app_dir"]))
    return mend.Wish(spec, function, folder, given["apply"], given["max_repairs"], umask)


# --- What is told -------------------------------------------------------------


class Teller:
    """Progress on one line of a terminal, and nowhere else."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._last = shown, ""

    def __call__(self, text: str) -> None:
        if self._shown and text != self._last:
            self._last = text
            click.echo(f"\r\x1b[K{printable(text)}", nl=False, err=True)

    def end(self) -> None:
        """Leave nothing behind."""
        if self._last:
            click.echo("\r\x1b[K", nl=False, err=True)


def _write(run: Run, summary: Summary, form: str, file: Path | None, shown: int) -> None:
    """One report, on standard output or into a file that only its owner can read."""
    match form:
        case "json":
            text = msgspec.json.format(msgspec.json.encode(summary)).decode()
        case "html":
            from lastcall.tools.reconcile import page  # noqa: PLC0415 (only who wants a page loads it)

            text = page.draw(summary)
        case "csv":
            path = file or run.folder / "findings.csv"
            run.copy_all(path)
            if file is None:
                with path.open(encoding="utf-8") as rows:
                    for line in rows:
                        click.echo(line, nl=False)
            return
        case _:
            text = "\n".join(report.lines(summary, shown))
    if file is None:
        click.echo(text.rstrip("\n"))
        return
    try:
        file.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise NoVerdict(f"{file}: {error.strerror}") from None


def _forms(output: tuple[Path, ...]) -> dict[Path, str]:
    """What is wanted in each file, by its name. Raises NoVerdict."""
    suffixes = {".txt": "text", ".json": "json", ".csv": "csv", ".html": "html"}
    for file in output:
        if file.suffix not in suffixes:
            raise NoVerdict(f"--output {file}: a report ends in {', '.join(suffixes)}")
    return {file: suffixes[file.suffix] for file in output}


def _alarm(given: Mapping[str, Any], summary: Summary) -> bool:
    """Tell whoever is to be told; whether all of them have heard."""
    changed, news = bool(summary.new or summary.resolved or summary.broken), mend.is_news(summary.repairs)
    wanted = {
        "always": True,
        "off": summary.verdict != result.AGREE or news or not mend.is_settled(summary.repairs),
        "change": summary.verdict == result.NONE or changed or news,
    }[given["alarm_when"]]
    heard = True
    text = alarm.message(summary) if wanted else b""
    for tell, whom in ((alarm.run, given["alarm"]), (alarm.post, given["webhook"])):
        if wanted and whom:
            try:
                tell(whom, text)
            except alarm.NotHeard as error:
                click.echo(f"lastcall: {error}", err=True)
                heard = False
    return heard


# --- The command --------------------------------------------------------------


@contextmanager
def _privately() -> Iterator[int]:
    """Whatever is written, by us or by DuckDB, is for its owner: a ledger is nobody else's business. Gives the old umask."""
    before = os.umask(0o077)
    try:
        yield before
    finally:
        os.umask(before)


def _answer(given: Mapping[str, Any], now: datetime, umask: int) -> int:
    """Ask, tell, and remember; the exit code. Raises NoVerdict."""
    asked = question(given, now)
    wish = _wish(given, umask)
    forms = _forms(given["output"])
    if given["alarm_when"] == "change" and given["state"] is None:
        raise NoVerdict("--alarm-when change needs to know what was before: --state FILE")
    teller = Teller(sys.stderr.isatty() if given["progress"] is None else given["progress"])
    means = Means(
        given["spool"] or _home() / "reconcile", given["keep"], given["memory"], given["engine"], given["spark_master"],
        given["rows"], wish.limit if wish else 0, given["state"], _suspects(given, asked), teller,
    )  # fmt: skip
    lock = given["lock"] or (given["state"] and given["state"].with_name(f"{given['state'].name}.lock"))
    with alone(lock), ExitStack() as stack:
        stack.callback(teller.end)
        mending = mend.Mending(wish, teller) if wish else None
        run, summary = _compare(asked, means, mending, stack)
        summary.grace = format_duration(asked.grace)
        teller.end()
        for file, form in forms.items():
            _write(run, summary, form, file, given["show"])
        _write(run, summary, given["form"], None, given["show"])
        # what nobody has heard of is new again the next time
        if _alarm(given, summary) and means.state is not None:
            run.remember(means.state)
    return AGREE if summary.verdict == result.AGREE and mend.is_settled(summary.repairs) else OFF


def _compare(asked: Question, means: Means, mending: mend.Mending | None, stack: ExitStack) -> tuple[Run, Summary]:
    """Compare; and once more where something was repaired, for the verdict is about how the ledgers are now."""
    run = Run(asked, means)
    stack.callback(run.close)
    try:
        summary = run.answer()
    except NoVerdict:
        for one in mending.done if mending else ():  # it is done, whatever the ledgers say
            click.echo(f"lastcall: {printable(' '.join(one.key.values()))}: {report.repair_in_words(one)}", err=True)
        raise
    if mending is None:
        return run, summary
    repairs = mending.repair(run, summary)
    if repairs.outcomes.get(Outcome.REPAIRED.value):
        run = Run(replace(asked, now=datetime.fromtimestamp(time.time(), UTC)), means)
        stack.callback(run.close)
        summary = run.answer()
    summary.repairs = repairs
    return run, summary


def _no_verdict(given: Mapping[str, Any], now: datetime, error: NoVerdict) -> int:
    """Say why, to whoever would have been told a verdict as well."""
    click.echo(f"lastcall: no verdict: {printable(str(error))}", err=True)
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    left, right = (SideSummary(places.redacted(given[name])) for name in ("left", "right"))
    summary = Summary(result.NONE, at, left, right, error=str(error))
    if given["form"] == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(summary)))
    _alarm(given, summary)
    return NO_VERDICT


def _duration(ctx: click.Context, param: click.Parameter, text: str) -> float:
    try:
        return parse_duration(text)
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), ctx, param) from None


def _size(ctx: click.Context, param: click.Parameter, text: str) -> str:
    try:
        return f"{parse_size(text) // 1024}KiB"
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), ctx, param) from None


def _url(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    if text is not None and not text.startswith(("http://", "https://")):
        raise click.BadParameter("a webhook is an address that begins with https:// or http://", ctx, param)
    return text


def _both(*options: tuple[str, dict[str, Any]]) -> Callable[[_F], _F]:
    """Options that each side has. The help shows those of the left."""

    def add(function: _F) -> _F:
        for name, how in reversed(options):
            for side in ("right", "left"):
                function = click.option(f"--{side}-{name}", hidden=side == "right", **how)(function)
        return function

    return add


@click.command(
    cls=Reconcile,
    epilog="""\b
Examples:
  lastcall reconcile platform.csv mongodb://db1,db2/gift.orders --key order_id --compare amount:number,user
  lastcall reconcile presents.parquet postgresql://gift@db/gift.orders --key order_id --time created_at \\
      --since 2d --ignore-younger 5m --cuts /run/lastcall/gift
  lastcall reconcile presents.csv orders.csv --key order_id --time made --logs /var/log/nginx --logs /var/log/php8.2-fpm.log
  lastcall reconcile 'cmd:ssh bank cat ledger.csv' sqlite:orders.db#orders --left-format csv --key id \\
      --compare amount --left-column id=reference --left-column 'amount=cents::bigint * 0.01'
  lastcall reconcile env:BANK env:SHOP --key id --state /var/lib/gift.state --output report.html \\
      --alarm 'mail -s reconcile ops@example.org' --alarm-when change
  lastcall reconcile env:BANK env:SHOP --key id --time at --ignore-younger 10m --repair gift.mend:write_order
      Says what would be repaired. With --apply it is, and the ledgers are compared again.

\b
A side is a file (.csv .tsv .jsonl .parquet, also .gz), sqlite:FILE#TABLE, postgresql://.../DATABASE.TABLE,
mysql://.../DATABASE.TABLE, mongodb://.../DATABASE.COLLECTION, cmd:COMMAND, or env:NAME for an address with
a password in it.

\b
Exit codes: 0 the ledgers agree, and no repair waits for anybody; 1 they do not, or one does; 2 there is no verdict.
""",
)
@click.argument("left")
@click.argument("right")
@click.option("--key", multiple=True, required=True, metavar="COLUMN[,...]", help="What an order is known by.")
@click.option(
    "--compare", multiple=True, metavar="COLUMN[:KIND][,...]", help="What has to agree; KIND: text, number, time, bool."
)
@click.option("--time", metavar="COLUMN", help="When an order was made.")
@click.option("--since", metavar="TIME", help="Judge only orders since: 2d ago, or an ISO time.")
@click.option("--until", metavar="TIME", help="Judge only orders before.")
@click.option(
    "--ignore-younger", metavar="TIME", default="0s", callback=_duration, help="Orders younger than this are pending."
)
@_both(
    ("column", {"multiple": True, "metavar": "NAME=SQL", "help": "What a column is on this side, in DuckDB's SQL."}),
    ("query", {"metavar": "SQL", "help": "A query instead of a table (MongoDB: a filter)."}),
    ("where", {"metavar": "SQL", "help": "Only these rows, in the database's own words."}),
    ("zone", {"metavar": "ZONE", "help": "The time zone of times that name none."}),
    ("format", {"type": click.Choice(places.FORMATS), "help": "What a file or a command's output is."}),
    ("encoding", {"metavar": "NAME", "help": "Of text; UTF-8 if nothing says otherwise."}),
    ("delimiter", {"metavar": "CHAR", "help": "Between the values of a CSV file."}),
    ("null", {"metavar": "TEXT", "help": "A text that means null in a CSV file."}),
)
@click.option("--allow-empty", is_flag=True, help="A side without rows is a side, and no mistake.")
@click.option("--max-broken", type=click.IntRange(0), default=1000, show_default=True, help="Unusable rows of a side.")
@click.option(
    "--cuts", type=_PATH, metavar="FILE|DIR", help="A cut list, or a run directory, to explain what is missing."
)
@click.option(
    "--logs",
    type=_PATH,
    multiple=True,
    metavar="FILE|DIR",
    help="Logs, as of php-fpm and nginx, to explain it as well.",
)
@click.option("--root", type=_PATH, metavar="DIR", help="The host's files, for who ordered a restart; / with --logs.")
@click.option("--repair", metavar="MODULE:FUNCTION", help="Say which orders this function would repair.")
@click.option("--apply", is_flag=True, help="Repair them, each once, and compare again.")
@click.option(
    "--journal", type=_PATH, metavar="DIR", help="Where repairs are written down (with --state: FILE.repairs)."
)
@click.option("--max-repairs", type=click.IntRange(0), default=100, show_default=True, help="If more are off, none is.")
@click.option("--app-dir", type=_PATH, default=".", metavar="DIR", help="Where the function's module is.")
@click.option("--state", type=_PATH, metavar="FILE", help="Remember, and say what is new and what was resolved.")
@click.option("--lock", type=_PATH, metavar="FILE", help="Run only if nobody else holds it (with --state: FILE.lock).")
@click.option("--alarm", metavar="COMMAND", help="Gets the summary as JSON when something is off.")
@click.option("--webhook", metavar="URL", callback=_url, help="Gets it as a POST.")
@click.option("--alarm-when", type=click.Choice(("off", "change", "always")), default="off", show_default=True)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--output", type=_PATH, multiple=True, metavar="FILE", help="Also write a .txt, .json, .csv or .html.")
@click.option("--show", type=click.IntRange(0), default=20, show_default=True, help="Orders of each kind in a text.")
@click.option(
    "--rows", type=click.IntRange(0), default=1000, show_default=True, help="... in JSON and HTML; CSV has all."
)
@click.option("--spool", type=_PATH, metavar="DIR", help="Where the evidence lies.")
@click.option(
    "--keep", default="7d", show_default=True, callback=_duration, metavar="TIME", help="... and for how long."
)
@click.option(
    "--memory",
    default="512M",
    show_default=True,
    callback=_size,
    metavar="SIZE",
    help="What DuckDB may take; the rest goes to the spool.",
)
@click.option("--engine", type=click.Choice(("duckdb", "spark")), default="duckdb", show_default=True)
@click.option("--spark-master", metavar="URL", help="Which Spark, if none is configured.")
@click.option("--progress/--no-progress", default=None, help="On a terminal, unless said otherwise.")
@click.pass_context
def reconcile(ctx: click.Context, /, **given: Any) -> None:
    """Compare two ledgers, and name every order about which they do not agree.

    LEFT and RIGHT are read whole into a spool and compared there. Decimals are exact, times are instants, and null
    agrees with null only. A side that could not be read to its end gives no verdict.
    Each option that begins with --left- exists as --right- too.
    """
    now = datetime.fromtimestamp(time.time(), UTC)
    with _privately() as umask:
        try:
            code = _answer(given, now, umask)
        except NoVerdict as error:
            code = _no_verdict(given, now, error)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            code = _no_verdict(given, now, NoVerdict(f"{where}{error.strerror or error}"))
        except KeyboardInterrupt:
            click.echo("lastcall: no verdict: interrupted", err=True)
            code = NO_VERDICT
        except Exception as error:
            # Python's exit code for a bug is 1, and here that says that the ledgers do not agree
            traceback.print_exc()
            code = _no_verdict(given, now, NoVerdict(f"a mistake in lastcall: {error!r}"))
    ctx.exit(code)
