"""`lastcall drill`: the command line of the drill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn, TypeVar, Unpack

import click

from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import parse_duration, parse_size
from lastcall.tools.drill import ask, choose, results, show, targets, text
from lastcall.tools.drill.choose import Choice
from lastcall.tools.drill.drill import Agenda, agenda, agenda_of, usual_paths
from lastcall.tools.drill.drill import drill as run_drill
from lastcall.tools.drill.progress import Progress
from lastcall.tools.drill.results import Drill, Settings, Strength
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.steps import CLIENTS, Step
from lastcall.tools.drill.steps import WORDS as STEPS
from lastcall.tools.drill.strategies import WORDS as STRATEGIES
from lastcall.tools.drill.strategies import Strategy
from lastcall.tools.drill.targets import FORMS, Target

LOST: Final = 1
UNDONE: Final = 2
"""Asked wrongly, or it could not be done: nothing is known of what would have been lost."""
INTERRUPTED: Final = 130
CONNECTIONS_MAX: Final = 1000
"""One process holds them, and a server of a few workers has a queue of some hundred."""
RATE_MAX: Final = 5000.0
"""Requests a second: more than a core of ours can send."""
FOLDER: Final = click.Path(path_type=Path, file_okay=False)
FILE: Final = click.Path(path_type=Path, dir_okay=False)

PATHS: Final = {"direct": Way.DIRECT, "nginx": Way.NGINX_NEW, "nginx-kept": Way.NGINX_KEPT}

_Word = TypeVar("_Word", bound=StrEnum)
_T = TypeVar("_T")


class DrillCommand(click.Command):
    """A command whose usage errors exit with 2, for 1 says that something was lost; lastcall's others exit with 64."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        return _with_our_exit_code(lambda: click.Command.make_context(self, info_name, args, parent, **extra))

    def invoke(self, ctx: click.Context) -> object:
        return _with_our_exit_code(lambda: click.Command.invoke(self, ctx))


def _with_our_exit_code(run: Callable[[], _T]) -> _T:
    try:
        return run()
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(UNDONE) from None


def _words(given: Iterable[str]) -> list[str]:
    """Of options that may be repeated, or written with commas."""
    return list(dict.fromkeys(word for text in given for word in text.replace(" ", "").split(",") if word))


def _chosen(words: Iterable[str], kind: type[_Word], option: str) -> list[_Word]:
    try:
        return [kind(word) for word in words]
    except ValueError as error:
        said = str(error).partition(" is not")[0]
        raise click.BadParameter(f"{said} is none of {', '.join(kind)}", param_hint=option) from None


def _duration(ctx: click.Context, param: click.Parameter, given: str) -> float:
    try:
        return parse_duration(given)
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), ctx, param) from None


def _size(ctx: click.Context, param: click.Parameter, given: str) -> int:
    try:
        return parse_size(given)
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), ctx, param) from None


def _paths(words: Iterable[str], chosen: list[Target], steps: list[Step]) -> list[Way]:
    paths = []
    for word in words:
        if word not in PATHS:
            raise click.BadParameter(f"{word!r} is none of {', '.join(PATHS)}", param_hint="--path")
        paths.append(PATHS[word])
    return paths or usual_paths(chosen, steps)


def _targets(words: Iterable[str]) -> list[Target]:
    try:
        return [targets.parse(word) for word in words]
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), param_hint="--against") from None


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<12} {words}" for name, words in rows)


EPILOG = f"""\b
Examples:
  lastcall drill
  lastcall drill --against php-fpm,php-fpm:10s,gunicorn,lastcall:fastcgi --strategy term,quit,usr2
  lastcall drill --against lastcall --strategy usr2 --phase all
  lastcall drill --rate 200 --connections 64 --json > drill.json
  lastcall drill --target mydrill.toml
  lastcall drill --attach --url http://127.0.0.1:8000/x --do "systemctl reload myapp"
  lastcall drill --from-result drill.json --report drill.html
  lastcall drill --from-access-log /var/log/nginx/access.log --restarts "28 5 * * *"

\b
Targets: {", ".join(FORMS[:7])},
  {", ".join(FORMS[7:])}

\b
Strategies:
{_table((str(one), STRATEGIES[one]) for one in Strategy)}

\b
Steps (--phase):
{_table((str(one), STEPS[one]) for one in Step)}

\b
The exit code is 0 when nothing was lost, 1 when something was, 2 when it was asked wrongly or could not
be done, 130 after Ctrl-C when nothing had been lost until then.
"""


@click.command(cls=DrillCommand, epilog=EPILOG)
@choose.options
@click.option("--strategy", multiple=True, metavar="STRATEGY,...", help="How they are restarted.  [default: all]")
@click.option(
    "--path", "path", multiple=True, metavar="PATH,...",
    help="direct, nginx (a connection for each request), nginx-kept.  [default: direct; nginx before FastCGI]",
)  # fmt: skip
@click.option(
    "--phase",
    multiple=True,
    metavar="STEP,...",
    help="Fire when a request is held at this step, or one at each: all.",
)
@click.option("--pause", callback=_duration, default="1s", show_default=True, help="Between two restarts.")
@click.option("--connections", type=click.IntRange(1, CONNECTIONS_MAX), default=12, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0, RATE_MAX), default=0.0,
    help="Requests a second that arrive whatever happens.  [default: each client waits for its answer]",
)  # fmt: skip
@click.option("--pace", callback=_duration, default="60ms", show_default=True, help="A client's pause, without --rate.")
@click.option("--keep/--no-keep", "keep", default=True, show_default=True, help="Clients keep their connections.")
@click.option("--body", callback=_size, default="0", show_default=True, help="Filling of a request: 64KiB.")
@click.option("--slow", type=click.FloatRange(0, 1), default=0.0, help="Share of the clients that send slowly.")
@click.option("--work", callback=_duration, default="40ms", show_default=True, help="What sendPresent takes.")
@click.option("--timeout", callback=_duration, default="20s", show_default=True, help="After which a client gives up.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of everything that is chance.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="Say nothing while it runs.")
@click.option("--folder", type=FOLDER, metavar="DIR", help="Keep logs and configurations there.")
@click.option("--report", "page", type=FILE, metavar="FILE", callback=show.place, help="Draw the result: an HTML file.")
@click.option("--from-result", "former", type=FILE, metavar="FILE", help="Show a result that --json has printed.")
@ask.options
def drill(
    against: tuple[str, ...], target: Path | None, attach: bool, url: str | None, do: str | None, wait: str,
    method: str | None, data: str | None, header: tuple[str, ...], allow_host: str | None, strategy: tuple[str, ...],
    path: tuple[str, ...], phase: tuple[str, ...],
    pause: float, connections: int, rate: float, pace: float, keep: bool, body: int, slow: float,
    work: float, timeout: float, seed: int, as_json: bool, quiet: bool, folder: Path | None, page: Path | None,
    former: Path | None, restarts: tuple[str, ...], **cost: Unpack[ask.Options],
) -> None:  # fmt: skip
    """Restart a server under load, in every way that operators do, and say what was lost.

    Each request has an id and is sent once. It asks a small service for two actions in two ledgers; afterwards what the
    clients saw and what the ledgers have is compared. Servers are started in a temporary folder, on 127.0.0.1. Your own
    server is described in a file (--target; docs/DRILL.md has the keys), or runs already (--attach).
    """
    asked = ask.question(restarts, **cost)
    if asked is not None:
        ask.answer(asked, as_json=as_json)
        return
    if former is not None:
        _end(_kept(former), page, as_json=as_json)
    times = ask.times(restarts)
    settings = Settings(
        connections, rate, pace, keep, body, slow, work, times, seed, timeout, others={"pause": f"{pause:g}s"}
    )
    choice = Choice(against, target, attach, url, do, wait, method, data, header, allow_host)
    plan, steps = _agenda(choice, _words(strategy), _words(path), _words(phase), settings)
    _begin(plan, _folder(folder))
    with Progress(sys.stderr, len(plan.items), quiet=quiet) as progress:
        for one in plan.skipped:
            progress.say(f"skipped: {one.target}{', ' if one.strategy else ''}{one.strategy}: {one.why}")
        result = run_drill(plan, settings, pause, steps, ["lastcall", *sys.argv[1:]], progress, folder)
    _end(result, page, as_json=as_json)


def _kept(file: Path) -> Drill:
    """A result of earlier."""
    try:
        return show.read(file)
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), param_hint="--from-result") from None


def _end(result: Drill, page: Path | None, *, as_json: bool) -> NoReturn:
    """Show it, draw it, and end with what it says. A page that cannot be written takes nothing from the result."""
    plots = [] if as_json else show.plots(result, sys.stdout)
    click.echo(results.encode(result) if as_json else "\n".join([*plots, text.summary(result)]))
    code = exit_code(result)
    if page is not None:
        try:
            show.write(result, page)
            click.echo(f"report: {page}", err=True)
        except Mistake as mistake:
            click.echo(f"lastcall: {mistake}", err=True)
            code = code or UNDONE
    raise click.exceptions.Exit(code)


def _agenda(
    choice: Choice, strategies: list[str], paths: list[str], phase: list[str], settings: Settings
) -> tuple[Agenda, list[Step]]:
    """What is to be done, and at which steps."""
    spec = choice.spec(settings)
    if spec is None:
        steps = list(Step) if phase == ["all"] else _chosen(phase, Step, "--phase")
        chosen = _targets(_words(choice.against) or ["lastcall"])
        ways = _paths(paths, chosen, steps)
        return agenda(chosen, _chosen(strategies, Strategy, "--strategy"), ways, settings, steps), steps
    if paths not in ([], ["direct"]):
        raise click.BadParameter("put your own nginx before your own server, and name its URL", param_hint="--path")
    steps = list(CLIENTS) if phase == ["all"] else _chosen(phase, Step, "--phase")
    foreign = [step for step in steps if step not in CLIENTS]
    if foreign:
        raise click.BadParameter(f"{foreign[0]} is a step of our service, not of yours", param_hint="--phase")
    return agenda_of(spec, strategies, settings, steps), steps


def _begin(plan: Agenda, folder: Path | None) -> None:
    """Whether anything can be done at all."""
    if not plan.items:
        why = "\n".join(
            f"  {one.target}{', ' if one.strategy else ''}{one.strategy}: {one.why}" for one in plan.skipped
        )
        raise click.UsageError(f"there is nothing that could be drilled:\n{why}")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)


def _folder(folder: Path | None) -> Path | None:
    """An empty one, or one that is to be made."""
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.BadParameter(f"{folder} is not empty", param_hint="--folder")
    return folder


def exit_code(result: Drill) -> int:
    """Lost or not; and what there is to say where that is not known."""
    if result.lost:
        return LOST
    if result.interrupted:
        return INTERRUPTED
    failed = any(run.failed for run in result.runs)
    return UNDONE if failed or result.verdict.strength is Strength.NONE else 0
