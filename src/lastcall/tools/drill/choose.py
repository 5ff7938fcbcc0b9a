"""The options of `lastcall drill` that say which server is meant: one of ours, one that is described, one that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import parse_duration
from lastcall.tools.drill import spec
from lastcall.tools.drill.engine import Request
from lastcall.tools.drill.results import Settings
from lastcall.tools.drill.spec import Spec

FOREIGN_RATE_MAX: Final = 50.0
FOREIGN_CONNECTIONS_MAX: Final = 32
"""On another machine than ours: enough for a drill, and too little to be a weapon."""

_Command = TypeVar("_Command", bound=Callable[..., object])


def options(command: _Command) -> _Command:
    """`--against`, `--target`, `--attach` and what belongs to it."""
    file = click.Path(path_type=Path, dir_okay=False, exists=True)
    for option in (
        click.option(
            "--allow-host", metavar="HOST",
            help="It is not on this machine, and I may load it: at most a minute, and 3000 requests a run.",
        ),
        click.option("--header", multiple=True, metavar="NAME:VALUE", help="--attach: a header of each request."),
        click.option("--data", metavar="TEXT", help="--attach: the body of each request, {id} for its id."),
        click.option("--method", metavar="METHOD", help="--attach.  [default: GET; POST with --data]"),
        click.option("--wait", default="1s", show_default=True, help="--attach: how long the command takes effect."),
        click.option("--do", metavar="COMMAND", help="--attach: what an operator does to it."),
        click.option("--url", metavar="URL", help="--attach: what is requested; http:// or fastcgi://."),
        click.option("--attach", is_flag=True, help="Drill a server that runs already."),
        click.option("--target", type=file, metavar="FILE", help="Drill the server that this TOML file describes."),
        click.option(
            "--against", multiple=True, metavar="TARGET,...", help="Servers to drill, side by side.  [default: lastcall]"
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Choice:
    """What was given."""

    against: tuple[str, ...]
    target: Path | None
    attach: bool
    url: str | None
    do: str | None
    wait: str
    method: str | None
    data: str | None
    header: tuple[str, ...]
    allow_host: str | None

    def spec(self, settings: Settings) -> Spec | None:
        """The user's own server; None when one of ours is meant. Raises click.UsageError."""
        if sum((bool(self.against), self.target is not None, self.attach)) > 1:
            raise click.UsageError("choose one of --against, --target and --attach")
        attaching = {"--url": self.url, "--do": self.do, "--method": self.method, "--data": self.data}
        stray = [option for option, value in attaching.items() if value is not None]
        if stray and not self.attach:
            raise click.UsageError(f"{stray[0]} goes with --attach")
        found = self._attached() if self.attach else self._described()
        if found is not None:
            self._check_host(found, settings)
        return found

    def _described(self) -> Spec | None:
        if self.target is None:
            return None
        try:
            return spec.load(self.target)
        except spec.Wrong as wrong:
            raise click.UsageError(str(wrong)) from None

    def _attached(self) -> Spec:
        if not self.url or not self.do:
            raise click.UsageError("--attach needs --url and --do: what is requested, and what an operator does")
        headers = {}
        for text in self.header:
            name, colon, value = text.partition(":")
            if not colon or not name.strip():
                raise click.BadParameter(f"{text!r} is no header (write 'Name: value')", param_hint="--header")
            headers[name.strip()] = value.strip()
        try:
            url = spec.parse_url(self.url)
            method = self.method or ("GET" if self.data is None else "POST")
            return spec.attached(
                url, self.do, parse_duration(self.wait), Request(method, url.target, headers, self.data)
            )
        except Mistake as mistake:
            raise click.UsageError(str(mistake)) from None

    def _check_host(self, found: Spec, settings: Settings) -> None:
        """A load generator that is pointed at others is a weapon."""
        url = found.url
        if url.loopback:
            return
        if self.allow_host != url.host:
            raise click.UsageError(
                f"{url.host} is not this machine. If it is yours and a load may harm it, say so: --allow-host {url.host}"
            )
        if settings.connections > FOREIGN_CONNECTIONS_MAX or settings.rate > FOREIGN_RATE_MAX:
            most = f"{FOREIGN_CONNECTIONS_MAX} connections and {FOREIGN_RATE_MAX:g} requests a second"
            raise click.UsageError(f"on another machine: at most {most}")
