"""lastcall's own configuration: that it can be read, and that it can do what it was chosen for."""

from __future__ import annotations

from collections.abc import Iterator

from lastcall.config import toml
from lastcall.core.quantities import format_duration
from lastcall.core.settings import SPECS
from lastcall.tools.doctor.chains import cron_orders, script_orders
from lastcall.tools.doctor.facts import Facts, Kind
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import Instance, instances
from lastcall.tools.doctor.verdicts import Finding, Rule, Severity, Verdict
from lastcall.tools.readers import servers
from lastcall.tools.readers.text import Spot, seconds


def _seconds(it: Instance, name: str) -> float | None:
    value = it.get(name)
    default = SPECS[name].default
    if value is None:
        return float(default) if isinstance(default, int | float) else None
    return seconds(value.text)


def mistakes(facts: Facts) -> Iterator[Verdict]:
    for source in facts.of(Kind.LASTCALL):
        for problem in toml.parse(source.text, source.path)[1]:
            text = f"{problem.key + ': ' if problem.key else ''}{problem.text} ({problem.remedy})"
            yield Finding(Spot(source.path, problem.line), text)


def short_drain(facts: Facts) -> Iterator[Verdict]:
    for it in instances(facts, servers.LASTCALL):
        drain, limit = _seconds(it, "drain_timeout"), _seconds(it, "request_timeout")
        value, bound = it.get("drain_timeout"), it.get("request_timeout")
        if drain is None or limit is None or bound is None or not 0 < drain < limit:
            continue
        made = edits.valued(facts, value.spot, "drain_timeout", format_duration(limit)) if value else ()
        if value is None and it.source is not None and bound.spot.file == it.source.path:
            made = edits.added(facts, bound.spot, f'drain_timeout = "{format_duration(limit)}"')
        text = f"a request may run for {format_duration(limit)}, but a stop cuts it after {format_duration(drain)}"
        yield Finding(value.spot if value else bound.spot, text, made)


def no_hold(facts: Facts) -> Iterator[Verdict]:
    stops = [
        item for item in (*script_orders(facts), *(i for _, i in cron_orders(facts))) if item.server == servers.LASTCALL
    ]
    for it in instances(facts, servers.LASTCALL):
        daemon = it.get("daemon")
        unheld = it.get("hold") is None or _seconds(it, "hold") == 0
        if daemon is not None and daemon.text.lower() == "true" and unheld:
            made = (
                edits.added(facts, daemon.spot, 'hold = "30s"')
                if it.source and daemon.spot.file == it.source.path
                else ()
            )
            said = f" ({stops[0].spot.file} stops it)" if stops else ""
            yield Finding(
                daemon.spot, f"a daemon is stopped and started, and nobody holds its listeners in between{said}", made
            )


def no_custody(facts: Facts) -> Iterator[Verdict]:
    for it in instances(facts, servers.LASTCALL):
        value = it.get("custody")
        if value is not None and value.text == "off":
            made = edits.valued(facts, value.spot, "custody", "on")
            yield Finding(value.spot, "the clients of a worker that dies are not answered", made)


def unheard(facts: Facts) -> Iterator[Verdict]:
    for it in instances(facts, servers.LASTCALL):
        duck = it.get("lame_duck")
        if duck is not None and seconds(duck.text) and it.get("ready_path") is None:
            yield Finding(duck.spot, "a stop is announced where nobody can hear it: ready_path is not set")


RULES = (
    Rule(
        "LC701", Severity.ERROR, "lastcall's configuration has a mistake",
        "`lastcall serve` does not start with it, and a reload changes nothing.",
        "The file is not lastcall's: only files that are called so, or that a command line names, are read.",
        "`lastcall check -c FILE`.",
        "As the message says.",
        "docs/CONFIGURATION.md", mistakes,
    ),
    Rule(
        "LC702", Severity.ERROR, "lastcall's drain is shorter than a request may take",
        "request_timeout lets a request run for longer than drain_timeout lets a stop or a reload wait for it.",
        "request_timeout is not set; drain_timeout is 0, which waits for ever.",
        "A request that takes longer, and `lastcall stop`: the cut list names it.",
        "drain_timeout of request_timeout or more; and what stops lastcall must wait for longer still (LC204, "
        "LC306, LC404, LC406).",
        "docs/CONFIGURATION.md, docs/STOP.md", short_drain,
    ),
    Rule(
        "LC703", Severity.WARNING, "lastcall's listeners close between a stop and the next start",
        "Without --hold the listeners of a daemon close with it: who comes before the next start is refused.",
        "systemd holds them (FDSTORE, a socket unit); it is not a daemon.",
        "`lastcall stop && lastcall serve ...` under load.",
        'hold = "30s"; or reload in place of a stop and a start.',
        "docs/STOP.md", no_hold,
    ),
    Rule(
        "LC704", Severity.NOTE, "lastcall's custody is off",
        "The clients of a worker that is killed get a reset, where they could be answered by another worker, or "
        "with an honest 503.",
        "It is meant: custody costs six microseconds a request.",
        "`kill -9` of a worker under load.",
        'custody = "on".',
        "docs/CUSTODY.md", no_custody,
    ),
    Rule(
        "LC705", Severity.WARNING, "lastcall announces its stop, and nobody can hear it",
        "In a lame duck the answer at ready_path turns to 503, so that load balancers turn away before anything "
        "closes. Without ready_path the time passes for nothing.",
        "lame_duck is 0.",
        "`curl` of the ready path during a stop.",
        "ready_path, and a load balancer that asks there.",
        "docs/SERVICE.md, docs/SIGNALS.md", unheard,
    ),
)  # fmt: skip
