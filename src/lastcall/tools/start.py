"""`lastcall serve` and `lastcall check`: from the command line to settings. The options are the settings' table."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import click

from lastcall.config.origins import ConfigErrors, Loaded, Problem
from lastcall.config.sources import CONFIG_VARIABLE, Sources
from lastcall.core import exits, values
from lastcall.core.settings import SPECS, Group, Kind, Spec
from lastcall.protocol.handover import TAKE_OVER, VARIABLE, Unreadable

# --- Options -----------------------------------------------------------------


OTHERS = "This command"
"""The help's section for options that are no settings."""


class Command(click.Command):
    """A command whose help shows the settings in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in (*(group.value for group in Group), OTHERS)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            spec = SPECS.get(param.name or "")
            if record is not None:
                groups[spec.group.value if spec else OTHERS].append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _option(spec: Spec) -> click.Parameter:
    """All are taken as text: what is wrong is told together with the mistakes of the other sources."""
    if spec.name == "app":
        return click.Argument(["app"], required=False)
    words = f"{spec.doc}  [{values.default_words(spec)}]"
    if spec.kind is Kind.FLAG:
        return click.Option(
            [spec.name, f"{spec.option}/{spec.option.replace('--', '--no-')}"], default=None, help=words
        )
    metavar = "|".join(spec.choices) or spec.metavar
    return click.Option([spec.name, spec.option], metavar=metavar, multiple=spec.many, help=words)


def _options() -> list[click.Parameter]:
    config = click.Option(["-c", "--config"], metavar="FILE", help=f"The TOML file.  [${CONFIG_VARIABLE}]")
    return [*(_option(spec) for spec in SPECS.values()), config]


def sources(given: Mapping[str, object], config: object) -> Sources:
    """Everything settings are read from, for these options and this environment."""
    file = config or os.environ.get(CONFIG_VARIABLE)
    return Sources(given, dict(os.environ), Path(str(file)) if file else None)


# --- serve -------------------------------------------------------------------


def _serve(config: str | None, **given: object) -> None:
    """Serve an application over HTTP/1.1 and FastCGI, from a pool of workers.

    APP is module:callable, module:factory() or module; without it, the only obvious candidate is taken. Every option
    can also be given as LASTCALL_<NAME> in the environment, or in the TOML file: docs/CONFIGURATION.md.
    """
    origin = sources(given, config)
    if VARIABLE in os.environ:
        raise click.exceptions.Exit(_take_over(origin))
    try:
        loaded = origin.read()
    except ConfigErrors as errors:
        _tell(errors.problems)
        raise click.exceptions.Exit(errors.exit_code) from None
    # Not before: a mistake in the configuration is told without the weight of the server.
    from lastcall.runtime.serve import serve as run  # noqa: PLC0415

    raise click.exceptions.Exit(run(loaded, origin.read))


def _take_over(origin: Sources) -> int:
    """Go on as the next image of a running master; or say, as its probe, whether we could."""
    from lastcall.runtime.serve import take_over  # noqa: PLC0415 - as above; and the probe is to import all that is needed
    from lastcall.runtime.upgrade import inherited  # noqa: PLC0415

    loaded: Loaded | ConfigErrors
    try:
        left = inherited(os.environ)
    except Unreadable as error:
        click.echo(f"lastcall: {error}", err=True)
        return exits.CONFIG
    assert left is not None
    try:
        loaded = origin.read()
    except ConfigErrors as errors:
        loaded = errors
    purpose, handover = left
    if purpose == TAKE_OVER:
        return take_over(handover, loaded, origin.read)
    if isinstance(loaded, ConfigErrors):
        _tell(loaded.problems)
        return loaded.exit_code
    return exits.OK


def _tell(problems: list[Problem]) -> None:
    for problem in problems:
        click.echo(str(problem), err=True)


serve = Command(
    "serve",
    callback=_serve,
    params=_options(),
    help=_serve.__doc__,
    epilog="""\b
Examples:
  lastcall serve gift.app:app
  lastcall serve gift.app:app --http 127.0.0.1:8000 --fastcgi 127.0.0.1:9000 --workers 4
  lastcall serve 'gift.app:make_app()' --http unix:/run/gift/http.sock --access-log /var/log/gift.log
  lastcall serve -c /etc/lastcall.toml --daemon --pid /run/gift.pid

\b
Exit codes: 64 a wrong option, 70 the application does not load, 78 a wrong configuration.
""",
)


# --- check -------------------------------------------------------------------


def _check(config: str | None, show: bool, as_json: bool, **given: object) -> None:
    """Say whether `serve` could start with these options, this environment and this file.

    Takes the options of `serve`, tells every mistake with its place and a remedy, and changes nothing. The
    application is not imported.
    """
    loaded: Loaded | None = None
    code = 0
    try:
        loaded = sources(given, config).read()
        problems = list(loaded.warnings)
    except ConfigErrors as errors:
        problems = errors.problems
        code = errors.exit_code
    if as_json:
        click.echo(json.dumps(_report(loaded, problems), indent=2))
    else:
        _tell(problems)
        if loaded is not None:
            click.echo("\n".join(shown(loaded)) if show else "configuration is ok")
    raise click.exceptions.Exit(code)


def shown(loaded: Loaded) -> list[str]:
    """A line for each setting: name, value, origin."""
    rows = [
        (name, values.show(spec, getattr(loaded.settings, name)), str(loaded.places[name]))
        for name, spec in SPECS.items()
    ]
    wide = min(max(len(value) for _, value, _ in rows), 40)
    return [f"{name:<20} {value or '(none)':<{wide}} {origin}" for name, value, origin in rows]


def _report(loaded: Loaded | None, problems: list[Problem]) -> dict[str, object]:
    settings = loaded and {
        name: {"value": getattr(loaded.settings, name), "origin": str(loaded.places[name])} for name in SPECS
    }
    return {
        "ok": loaded is not None,
        "problems": [dataclasses.asdict(problem) for problem in problems],
        "settings": settings,
    }


check = Command(
    "check",
    callback=_check,
    params=[
        *_options(),
        click.Option(["--show"], is_flag=True, help="Print every value with its origin."),
        click.Option(["as_json", "--json"], is_flag=True, help="Print problems, values and origins as JSON."),
    ],
    help=_check.__doc__,
    epilog="""\b
Examples:
  lastcall check -c lastcall.toml
  lastcall check -c lastcall.toml --show
  lastcall check gift.app:app --http unix:/run/gift/http.sock --json

\b
Exit codes: 0 configuration is ok, 64 only options are wrong, 78 anything else is.
""",
)
