"""From an order to what really happens: through units, init scripts and service commands to a signal, and its effect.

Pure. Every step is kept, with its place, for whoever wants to see why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lastcall.tools.doctor.facts import Facts
from lastcall.tools.doctor.runs import By, runs, unit_runs
from lastcall.tools.doctor.verdicts import Step
from lastcall.tools.readers import orders as reading
from lastcall.tools.readers import servers, tasks, unit
from lastcall.tools.readers.orders import RELOADING, STOPPING, Order
from lastcall.tools.readers.servers import Effect, effect
from lastcall.tools.readers.text import Spot, seconds

SERVICES = frozenset({"systemctl", "service", "invoke-rc.d", "rc-service", "initctl", tasks.ANSIBLE})
"""Who gives orders to a service by its name."""

DEPTH_MAX = 6
"""Commands that call each other (a unit that calls an init script that calls systemctl)."""


@dataclass(frozen=True)
class Outcome:
    """What an order comes to."""

    server: str
    effect: Effect
    """What is done to the requests that are running."""
    away: bool
    """The service is gone for a while: it was stopped, or stopped and started."""
    signal: str
    steps: tuple[Step, ...]
    sure: bool = True
    """False: the unit or script is not here, and we take what is usual."""

    def words(self) -> str:
        """`SIGTERM, which cuts every request that is running`."""
        if not self.signal:
            return self.effect.value
        return f"SIG{self.signal}, which {self.effect.value}"


def outcome(facts: Facts, order: Order, file: str, default: str = "", depth: int = 0) -> Outcome | None:
    """What the order does to a server that we know; None where it is about none, or nobody can say."""
    step = Step(Spot(file, order.line), order.words())
    if order.signals:
        server = order.server or default
        return _signalled(facts, server, order.signals[0], (step,)) if server else None
    if depth > DEPTH_MAX or order.verb not in STOPPING | RELOADING | {"kill", "drain", "rotate", "reopen-logs"}:
        return None
    if order.by in ("apachectl", "apache2ctl"):
        done = {"graceful": Effect.RELOAD, "drain": Effect.DRAIN}.get(order.verb, Effect.CUT)
        return Outcome(servers.APACHE, done, order.verb == "stop", "", (step,))
    if order.by == "supervisorctl":
        return _supervised(facts, order, step)
    if order.by == "pm2":
        done = Effect.RELOAD if order.verb == "reload" else Effect.OTHER
        return Outcome(servers.NODE, done, done is not Effect.RELOAD, "", (step,))
    if order.by in SERVICES or order.by.startswith("/"):
        return _serviced(facts, order, step, default, depth)
    return None


def _signalled(facts: Facts, server: str, signal: str, steps: tuple[Step, ...]) -> Outcome:
    done = effect(server, signal)
    if server == servers.PHP_FPM and done in (Effect.DRAIN, Effect.RELOAD) and no_grace(facts):
        done = Effect.CUT
    return Outcome(server, done, signal in ("TERM", "KILL", "INT", "QUIT") and done is not Effect.RELOAD, signal, steps)


def no_grace(facts: Facts) -> bool:
    """Whether php-fpm's QUIT and USR2 cut as TERM does, in every configuration that is here."""
    whole = [conf for conf in facts.fpms if conf.globals.spot.line or conf.globals.values]
    values = [conf.globals.values.get("process_control_timeout") for conf in whole]
    return bool(whole) and all(value is None or seconds(value.text) == 0 for value in values)


def _serviced(facts: Facts, order: Order, step: Step, default: str, depth: int) -> Outcome | None:
    name = order.target.rpartition("/")[2] if order.by.startswith("/") else order.target
    _, found = unit_runs(facts, name)
    script = facts.inits.get(name)
    # an LSB script on a systemd machine hands over to systemctl, and `service` prefers a unit
    redirected = script is None or "lsb/init-functions" in script[0].text
    if found is not None and (not order.by.startswith("/") or redirected):
        return _unit(facts, found, order, step, depth)
    if script is not None:
        source, init = script
        for inner in init.actions.get(order.verb, ()):
            done = outcome(facts, inner, source.path, init.server or default, depth + 1)
            if done is not None and done.effect is not Effect.OTHER:
                away = order.verb in STOPPING
                return replace(done, away=away, steps=(step, *done.steps))
        return None
    server = servers.mentioned(name)
    if not server:
        return None
    if order.verb in RELOADING:
        done_by = servers.RELOADING.get(server, "")
        return replace(_signalled(facts, server, done_by, (step,)), away=False, sure=False) if done_by else None
    if order.verb in STOPPING:
        usual = {servers.NGINX: "QUIT", servers.APACHE: "WINCH"}.get(server, "TERM")  # their packages' units
        return replace(_signalled(facts, server, usual, (step,)), away=True, sure=False)
    return None


def _unit(facts: Facts, found: unit.Unit, order: Order, step: Step, depth: int) -> Outcome | None:
    started = unit_runs(facts, found.name)[0]
    server = started[0].server if started else ""
    if not server:
        return None
    reload = found.all("Service", "ExecReload")
    if order.verb in RELOADING:
        inner = [o for entry in reload for o in exec_orders(entry, server)]
        return _through(facts, inner, step, server, depth, away=not inner and order.verb != "reload")
    if order.verb not in STOPPING:
        return None
    stops = [o for entry in found.all("Service", "ExecStop") for o in exec_orders(entry, server)]
    if stops:
        return _through(facts, stops, step, server, depth, away=True)
    signal, where = started[0].stop
    said = f"KillSignal=SIG{signal}" if where else f"no KillSignal: systemd sends SIG{signal}"
    done = _signalled(facts, server, signal, (step, Step(where or started[0].spot, said)))
    return replace(done, away=True)


def exec_orders(entry: unit.Entry, server: str) -> list[Order]:
    """The orders of an Exec line; $MAINPID is the server."""
    line = exec_line(entry).replace("$MAINPID", f"{server}.pid")
    return [
        replace(order, line=entry.spot.line) for order in reading.orders(line.replace("${MAINPID}", f"{server}.pid"))
    ]


def exec_line(entry: unit.Entry) -> str:
    """An Exec line as a shell would want it."""
    return " ".join(_quoted(word) for word in unit.command(entry.value))


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word or ";" in word or "'" in word else word


def _through(facts: Facts, inner: list[Order], step: Step, server: str, depth: int, *, away: bool) -> Outcome | None:
    for order in inner:
        done = outcome(facts, order, step.spot.file, server, depth + 1)
        if done is not None:
            return replace(done, server=done.server or server, away=away, steps=(step, *done.steps))
    return None


def _supervised(facts: Facts, order: Order, step: Step) -> Outcome | None:
    names = order.target.rstrip(":*").split(":")
    for run in runs(facts):
        if run.by is By.SUPERVISOR and (run.name in names or order.target in ("all", "*")):
            signal, where = run.stop
            said = f"stopsignal={signal}" if where else f"no stopsignal: supervisor sends {signal}"
            done = _signalled(facts, run.server, signal, (step, Step(where or run.spot, said)))
            return replace(done, away=True)
    return None


# --- Everything that is ordered ----------------------------------------------


@dataclass(frozen=True)
class Given:
    """An order, the file that gives it, and what it comes to."""

    order: Order
    spot: Spot
    done: Outcome | None
    server: str
    """The server that is meant; "" where nobody can say."""


def given(facts: Facts, orders: tuple[Order, ...], file: str, default: str = "") -> Iterator[Given]:
    """Each order with its outcome."""
    for order in orders:
        done = outcome(facts, order, file, default)
        yield Given(order, Spot(file, order.line), done, done.server if done else order.server or default)


def cron_orders(facts: Facts) -> Iterator[tuple[str, Given]]:
    """What crontabs and cron's scripts order, and when."""
    for source, table in facts.crontabs:
        for entry in table.entries:
            found = reading.orders(entry.command, entry.line, table.environment)
            lined = tuple(replace(order, line=entry.line) for order in found)
            for item in given(facts, lined, source.path):
                yield entry.when, item
    for source, script in facts.scripts:
        if "/cron." in f"/{source.path}":
            when = source.path.split("cron.")[1].split("/")[0]
            for item in given(facts, reading.of_commands(script.commands), source.path):
                yield f"@{when}", item


_PROVISIONS = re.compile(r"\b(?:apt|apt-get|aptitude|yum|dnf|apk|zypper|pacman)\s+(?:-\S+\s+)*(?:install|add|-S)\b")


def script_orders(facts: Facts) -> Iterator[Given]:
    """What other scripts order; not those that set a machine up, which serves nobody yet."""
    for source, script in facts.scripts:
        aside = "/cron." in f"/{source.path}" or "renewal-hooks/" in source.path
        if not aside and not _PROVISIONS.search(source.text):
            yield from given(facts, reading.of_commands(script.commands), source.path)
    for source, orders in facts.tasks:
        yield from given(facts, tuple(order for order in orders if order.by != tasks.ANSIBLE), source.path)


def ansible_orders(facts: Facts) -> Iterator[Given]:
    """What Ansible's service modules order."""
    for source, orders in facts.tasks:
        yield from given(facts, tuple(order for order in orders if order.by == tasks.ANSIBLE), source.path)
