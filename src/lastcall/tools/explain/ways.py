"""What a command comes to: through scripts, run-parts, logrotate and certbot, init scripts and units, to a server. Pure.

`doctor.chains` knows what an order does; here is who runs whom until one is given. Every step is kept with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lastcall.tools.doctor import chains
from lastcall.tools.doctor.facts import Facts, Source
from lastcall.tools.explain.records import Quote
from lastcall.tools.readers import logrotate, orders, shell
from lastcall.tools.readers.orders import Order
from lastcall.tools.readers.servers import Effect, base, shell_script, unwrapped
from lastcall.tools.readers.text import Spot

DEPTH_MAX: Final = 5
"""Scripts that call each other."""


@dataclass(frozen=True)
class Way:
    """How a command comes to a server: the places on the way, and what it does there."""

    server: str
    signal: str
    effect: Effect
    away: bool
    steps: tuple[Quote, ...]
    kind: str = ""
    """logrotate, hook, deploy: what is on the way and says who orders more plainly than the one that was seen."""
    at: Quote | None = None
    """Where that one says it."""
    what: str = ""
    sure: bool = True


class Ways:
    """What commands come to, each looked up once."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._known = dict[str, tuple[Way, ...]]()

    def of(self, command: str, variables: dict[str, str] | None = None) -> tuple[Way, ...]:
        """Every way that a command takes to a server."""
        if command not in self._known:
            self._known[command] = tuple(self._follow(command, Spot("", 0), (), 0, variables))
        return self._known[command]

    # --- Commands ---

    def _follow(
        self, text: str, spot: Spot, steps: tuple[Quote, ...], depth: int, variables: dict[str, str] | None = None
    ) -> Iterator[Way]:
        if depth > DEPTH_MAX:
            return
        yield from self._ordered(orders.orders(text, spot.line or 1, variables), spot.file, steps)
        for command in shell.parse(text, variables).commands:
            words = unwrapped(command.words)
            inner = shell_script(words)
            if inner is not None:
                yield from self._follow(inner, spot, steps, depth + 1, variables)
            elif words:
                yield from self._program(words, steps, depth)

    def _ordered(self, given: Iterable[Order], file: str, steps: tuple[Quote, ...]) -> Iterator[Way]:
        for order in given:
            done = chains.outcome(self.facts, order, file)
            if done is not None and done.effect is not Effect.OTHER:
                inner = tuple(_quote(step.spot, step.text) for step in done.steps if step.spot.file)
                yield Way(done.server, done.signal, done.effect, done.away, (*steps, *inner), sure=done.sure)

    def _program(self, words: Sequence[str], steps: tuple[Quote, ...], depth: int) -> Iterator[Way]:
        """Programs that run others: scripts, run-parts, logrotate, certbot, make's and npm's we do not know."""
        name = base(words[0])
        if name in ("sh", "bash", "dash") and len(words) > 1:
            words, name = words[1:], base(words[1])
        if name == "run-parts":
            folder = next((word for word in reversed(words[1:]) if word.startswith("/")), "")
            yield from self._parts(folder, steps, depth)
        elif name == "logrotate":
            yield from self.rotations(steps)
        elif name == "certbot":
            yield from self._hooks(steps, depth)
        elif name == "systemctl" and len(words) > 2 and words[-2] in ("start", "restart"):
            yield from self.unit(words[-1], steps, depth)
        else:
            yield from self._script(words[0], steps, depth)

    def _script(self, path: str, steps: tuple[Quote, ...], depth: int) -> Iterator[Way]:
        source = self.facts.named(path) if "/" in path else None
        source = source or (self._on_path(path) if "/" not in path else None)
        if source is None or "/init.d/" in f"/{source.path}" or not source.text.startswith("#!"):
            return
        for way in self._follow(
            source.text, Spot(source.path, 1), (*steps, Quote(source.path, 0, f"{path} runs")), depth + 1
        ):
            told = next((step for step in way.steps if step.file == source.path and step.line), None)
            kind = "deploy" if not way.kind and deploys(source) else way.kind
            what = path if kind == "deploy" and not way.kind else way.what
            yield replace(way, kind=kind, at=told if kind == "deploy" and not way.kind else way.at, what=what)

    def _on_path(self, name: str) -> Source | None:
        for folder in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "root", "opt"):
            if f"{folder}/{name}" in self.facts.files:
                return self.facts.files[f"{folder}/{name}"]
        return None

    def _parts(self, folder: str, steps: tuple[Quote, ...], depth: int) -> Iterator[Way]:
        prefix = folder.strip("/") + "/"
        for path in sorted((*self.facts.files, *self.facts.links)):
            if path.startswith(prefix) and "/" not in path[len(prefix) :]:
                yield from self._script(f"/{path}", steps, depth)

    def rotations(self, steps: tuple[Quote, ...] = ()) -> Iterator[Way]:
        """What logrotate's scripts come to."""
        for source, rotation in self.facts.rotations:
            for stanza in rotation.stanzas:
                for script in stanza.scripts:
                    yield from self._rotation(source, script, steps)

    def _rotation(self, source: Source, script: logrotate.Script, steps: tuple[Quote, ...]) -> Iterator[Way]:
        for way in self._follow(script.text, Spot(source.path, script.line), (), 1):
            inner = next((step for step in way.steps if step.file == source.path), None)
            line = inner.line if inner is not None else script.line
            text = self.facts.line(Spot(source.path, line)).strip()
            here = Quote(source.path, line, f"logrotate's {script.name}: {text}")
            rest = tuple(step for step in way.steps if step is not inner)
            yield replace(way, kind="logrotate", at=here, what=_bare(text), steps=(*steps, here, *rest))

    def _hooks(self, steps: tuple[Quote, ...], depth: int) -> Iterator[Way]:
        for path, source in sorted(self.facts.files.items()):
            if "renewal-hooks/" in path:
                for way in self._script(f"/{path}", steps, depth):
                    yield replace(
                        way,
                        kind="hook",
                        at=next((s for s in way.steps if s.file == source.path and s.line), None),
                        what=f"/{path}",
                    )
            elif "letsencrypt/renewal/" in path or path.endswith("letsencrypt/cli.ini"):
                for number, line in enumerate(source.text.split("\n"), 1):
                    hook = re.match(r"\s*(?:renew|deploy|post|pre)[_-]hook\s*=\s*(.+)", line)
                    if hook:
                        here = Quote(path, number, line.strip())
                        for way in self._follow(hook[1], Spot(path, number), (*steps, here), depth + 1):
                            yield replace(way, kind="hook", at=here, what=hook[1].strip())

    def unit(self, name: str, steps: tuple[Quote, ...] = (), depth: int = 0) -> Iterator[Way]:
        """What a unit comes to when it is started: what a timer does."""
        found = self.facts.units.get(name if "." in name else f"{name}.service")
        if found is None:
            return
        for entry in found.all("Service", "ExecStart"):
            here = Quote(entry.spot.file, entry.spot.line, f"ExecStart={entry.value}")
            yield from self._follow(chains.exec_line(entry), entry.spot, (*steps, here), depth + 1)


def _quote(spot: Spot, text: str) -> Quote:
    return Quote(spot.file, spot.line, text)


def _bare(line: str) -> str:
    """A command without where its output goes."""
    return re.sub(r"\s*(?:\d?>{1,2}\s*\S+|\d>&\d|\|\|\s*(?:true|:))\s*", " ", line).strip()


DEPLOYS: Final = re.compile(r"(?:^|[/_.-])(?:deploy|release|rollout|publish)", re.IGNORECASE)
_PUTS: Final = re.compile(
    r"\bgit\s+(?:-\S+\s+\S+\s+)*(?:pull|checkout|reset|fetch)|\brsync\b|ln\s+-s\w*\s+\S*releases?/|composer\s+install"
)


def deploys(source: Source) -> bool:
    """Whether a script puts a release in place, by its name or by what it does."""
    return bool(DEPLOYS.search(source.path) or _PUTS.search(source.text))
