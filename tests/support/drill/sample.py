"""Results of drills that never were, from a seed: what a report is tried on."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lastcall.tools.drill import results
from lastcall.tools.drill.outcomes import Amiss
from lastcall.tools.drill.results import (
    Drill,
    Latency,
    Ledgers,
    Line,
    Path,
    Reason,
    Records,
    Restart,
    Run,
    Settings,
    Skipped,
    Strength,
    Verdict,
)

LEDGER = [str(one) for one in Amiss]
OUTCOMES = [
    "200",
    "refused",
    "reset before the head",
    "closed before the head",
    "cut inside the answer",
    "502",
    "timed out",
]
NGINX = (
    "2026/11/25 00:31:12 [error] 4711#4711: *{n} recv() failed (104: Connection reset by peer) while reading response "
    'header from upstream, client: 127.0.0.1, server: , request: "POST /3/xx/vgift/send HTTP/1.1", upstream: '
    '"fastcgi://127.0.0.1:9000", host: "127.0.0.1:8080"'
)


@dataclass(frozen=True)
class Losses:
    """How many requests each restart costs, by how they end; of those that are reset, how many are half done."""

    refused: int = 0
    reset: int = 0
    bad_gateway: int = 0
    half_done: int = 0
    timed_out: int = 0
    untold: int = 0
    gap: float = 0.05


def verdict(lost: int, requests: int) -> Verdict:
    """As the rule of three has it."""
    below = 3 / requests if requests else 1.0
    if lost:
        sentence = f"{lost:,} of {requests:,} lost: {100 * lost / requests:.2g} %"
        return Verdict(lost, requests, below, Strength.PROVED, sentence)
    sentence = f"0 of {requests:,} lost: below {below * 100:.2g} % at 95 %"
    return Verdict(0, requests, below, Strength.BOUNDED, sentence)


def run(
    title: str, strategy: str, losses: Losses, *, seed: int = 1, requests: int = 1200, restarts: int = 5,
    path: Path = Path.NGINX_NEW, settings: dict[str, str] | None = None, recommendation: str = "",
    reasons: tuple[Reason, ...] = (),
) -> Run:  # fmt: skip
    """One run, of ten requests a client-second and five restarts."""
    chance = random.Random(seed)
    took = max(requests / 120, 0.5)
    marks = [(at + 1) * took / (restarts + 1) for at in range(restarts)]
    rows = [_answered(chance, marks, losses, took) for _ in range(requests)]
    for nth, mark in enumerate(marks):
        rows += _lost(chance, losses, mark, nth)
    rows.sort()
    columns = list(zip(*rows, strict=True))
    records = Records(
        began=list(columns[0]), took=list(columns[1]), outcome=list(columns[2]), amiss=list(columns[3]),
        client=[at % 24 for at in range(len(rows))], id=[f"d{seed}.{at}" for at in range(len(rows))],
        near=list(columns[4]), outcomes=OUTCOMES, ledger=LEDGER, clients=[f"HTTP {at}" for at in range(24)],
    )  # fmt: skip
    lost = [at for at in range(len(rows)) if records.outcome[at] or records.amiss[at]]
    logged = [
        Line(records.began[at] + records.took[at], NGINX.format(n=at), records.id[at], at)
        for at in lost
        if OUTCOMES[records.outcome[at]] == "502"
    ]
    times = sorted(records.took)
    counts = {outcome: records.outcome.count(at) for at, outcome in enumerate(OUTCOMES)}
    return Run(
        target=title.split(maxsplit=1)[0], title=title, protocol="FastCGI" if title.startswith("php") else "HTTP",
        strategy=strategy.split(",", maxsplit=1)[0].lower(), strategy_title=strategy, path=path,
        settings=settings or {"workers": "8", "version": "1"}, clock=1_795_566_672.0, took=took,
        restarts=[Restart(at, at + losses.gap + 0.05, f"kill -{strategy.split(',', maxsplit=1)[0]} 4711") for at in marks],
        records=records, requests=len(rows), outcomes={name: many for name, many in counts.items() if many}, left=0,
        latency=Latency(times[len(times) // 2], times[len(times) * 99 // 100], times[-1], times[-1]),
        gap=losses.gap, gap_began=marks[0] if marks else 0.0, verdict=verdict(len(lost), len(rows)),
        ledgers=Ledgers(half_done=losses.half_done * restarts, untold=losses.untold * restarts, first=9, second=9),
        logged=logged[: results.LINES_MAX], logged_count=len(logged), reasons=list(reasons),
        recommendation=recommendation,
    )  # fmt: skip


Row = tuple[float, float, int, int, int]


def _answered(chance: random.Random, marks: list[float], losses: Losses, took: float) -> Row:
    began = chance.uniform(0, took)
    latency = 0.041 + chance.expovariate(250)
    for nth, mark in enumerate(marks):
        if mark <= began < mark + losses.gap:
            # it waits for the end of the gap
            return began, mark + losses.gap - began + latency, 0, 0, nth
    return began, latency, 0, 0, -1


def _lost(chance: random.Random, losses: Losses, mark: float, nth: int) -> list[Row]:
    ended = [
        *[("refused", "", 0.0)] * losses.refused,
        *[("reset before the head", "", 0.02)] * losses.reset,
        *[("502", "", 0.01)] * losses.bad_gateway,
        *[("502", "half done", 0.03)] * losses.half_done,
        *[("timed out", "", 2.0)] * losses.timed_out,
        *[("closed before the head", "done, not told", 0.04)] * losses.untold,
    ]
    rows: list[Row] = []
    for outcome, amiss, latency in ended:
        after = chance.uniform(0, losses.gap) if outcome == "refused" else chance.uniform(0, 0.004)
        spent = latency * chance.uniform(0.2, 1.0) + chance.uniform(0.0002, 0.0009)
        rows.append((max(0.0, mark + after - spent), spent, OUTCOMES.index(outcome), LEDGER.index(amiss), nth))
    return rows


def drill(*runs: Run, skipped: tuple[Skipped, ...] = ()) -> Drill:
    """These runs as one drill."""
    lost, requests = sum(one.verdict.lost for one in runs), sum(one.requests for one in runs)
    return Drill(
        format=results.FORMAT, lastcall="0.1.0", command=["lastcall", "drill", "--against", "php-fpm,gunicorn,lastcall"],
        machine={"kernel": "6.18", "processors": "2", "python": "3.11.7", "load": "0.4"}, clock=1_795_566_672.0,
        took=sum(one.took for one in runs), settings=Settings(24, 0.0, 0.05, True, 0, 0.0, 0.04, 5, 1, 30.0),
        runs=list(runs), skipped=list(skipped), verdict=verdict(lost, requests),
    )  # fmt: skip


def whole() -> Drill:
    """A drill as people run it: three servers, with losses of every kind, and without."""
    fpm = {"php-fpm": "8.2.36", "process_control_timeout": "0", "pm": "static", "pm.max_children": "12"}
    patient = {**fpm, "process_control_timeout": "10s"}
    kill = Reason(
        22,
        "half done",
        "SIGTERM kills the worker in the middle of its request: the gift is sent, the order is not written.",
    )
    queue = Reason(
        19,
        "502",
        "The listener dies with the master, and its queue with the listener: nginx says `104: Connection reset by peer`.",
    )
    advice = (
        "Set `process_control_timeout` to more than your longest request takes: its default of 0 turns QUIT and USR2 "
        "into TERM after 13 microseconds. Reload with USR2, never with TERM. What remains: the pool stands still until "
        "its slowest request is done, and with `fastcgi_keep_conn on` a reload costs one request for each kept connection."
    )
    zero, ten = "php-fpm 8.2.36, process_control_timeout = 0", "php-fpm 8.2.36, process_control_timeout = 10s"
    return drill(
        run(zero, "TERM, start", Losses(refused=2, bad_gateway=4, half_done=4, gap=0.11), seed=1, settings=fpm,
            recommendation=advice, reasons=(kill, queue)),
        run(zero, "QUIT, start", Losses(bad_gateway=4, half_done=4, untold=1, gap=0.1), seed=2, settings=fpm,
            recommendation=advice, reasons=(kill, queue)),
        run(zero, "USR2", Losses(bad_gateway=1, half_done=5, gap=0.09), seed=3, settings=fpm, recommendation=advice,
            reasons=(kill,)),
        run(ten, "TERM, start", Losses(bad_gateway=4, half_done=4, gap=0.11), seed=4, settings=patient, reasons=(kill,)),
        run(ten, "QUIT, start", Losses(bad_gateway=9, gap=0.1), seed=5, settings=patient, reasons=(queue,)),
        run(ten, "USR2", Losses(gap=0.1), seed=6, settings=patient),
        run("gunicorn 27.0.1, gthread", "TERM, start", Losses(refused=78, reset=4, timed_out=1, gap=1.7), seed=7,
            path=Path.DIRECT),
        run("gunicorn 27.0.1, gthread", "HUP", Losses(gap=0.1), seed=8, path=Path.DIRECT),
        run("lastcall 0.1.0", "TERM, start", Losses(gap=0.5), seed=9, path=Path.DIRECT),
        run("lastcall 0.1.0", "HUP", Losses(), seed=10, path=Path.DIRECT, requests=9000, restarts=20),
        run("lastcall 0.1.0", "none", Losses(), seed=11, path=Path.DIRECT, restarts=0),
        skipped=(Skipped("puma", "it is not installed: `puma` is not on the path"),),
    )  # fmt: skip
