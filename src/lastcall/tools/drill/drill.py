"""A whole drill: which runs there are, one after the other, and what they come to together."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lastcall import __version__
from lastcall.tools.drill import judge, nginx
from lastcall.tools.drill.conduct import conduct, strikes
from lastcall.tools.drill.custom import Custom
from lastcall.tools.drill.progress import Progress
from lastcall.tools.drill.results import FORMAT, Drill, Run, Settings, Skipped
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.spec import Spec
from lastcall.tools.drill.stage import Builtin, Stage
from lastcall.tools.drill.steps import Step
from lastcall.tools.drill.strategies import TITLES, UNFIRED, Strategy
from lastcall.tools.drill.targets import Target

Making = Callable[[Path], Stage]
"""Makes the stage of a run, in a folder that is its own."""


@dataclass(frozen=True, slots=True)
class Item:
    """One run that is to be."""

    name: str
    times: int
    """How often the operator strikes in it."""
    make: Making


@dataclass
class Agenda:
    """What is to be done, and what is not and why."""

    items: list[Item] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def agenda(
    targets: Sequence[Target], strategies: Sequence[Strategy], paths: Sequence[Way], settings: Settings,
    steps: Sequence[Step],
) -> Agenda:  # fmt: skip
    """Every target under every strategy that it knows, over every path. Empty `strategies`: all that it knows."""
    found = Agenda()
    for target in targets:
        missing = target.missing()
        if missing:
            found.skipped.append(Skipped(target.name, f"{missing} is not installed"))
            continue
        for strategy in strategies or target.ways:
            if steps and strategy in UNFIRED:
                if strategies:
                    found.skipped.append(Skipped(target.name, "nobody orders it, so it has no step", strategy))
            elif strategy in target.ways:
                found.items += [_item(target, strategy, path, settings, steps) for path in paths]
            else:
                found.skipped.append(Skipped(target.name, f"{target.kind} does not know it", strategy))
    return found


def _item(target: Target, strategy: Strategy, path: Way, settings: Settings, steps: Sequence[Step]) -> Item:
    return Item(
        f"{target.name}, {TITLES[strategy]}, {path}",
        strikes(strategy, settings.restarts, steps),
        lambda folder: Builtin(target, strategy, path, settings, folder),
    )


def agenda_of(spec: Spec, strategies: Sequence[str], settings: Settings, steps: Sequence[Step]) -> Agenda:
    """The user's server under each of his strategies, and under none."""
    found = Agenda()
    for strategy in strategies or [str(Strategy.NONE), *spec.strategies]:
        if steps and strategy == Strategy.NONE:
            if strategies:
                found.skipped.append(Skipped(spec.name, "nobody orders it, so it has no step", strategy))
        elif strategy == Strategy.NONE or strategy in spec.strategies:
            found.items.append(_custom(spec, strategy, settings, steps))
        else:
            known = ", ".join([str(Strategy.NONE), *spec.strategies])
            found.skipped.append(Skipped(spec.name, f"it is not described; there are {known}", strategy))
    return found


def _custom(spec: Spec, strategy: str, settings: Settings, steps: Sequence[Step]) -> Item:
    return Item(
        f"{spec.name}, {strategy}",
        strikes(strategy, settings.restarts, steps),
        lambda folder: Custom(spec, strategy, settings, folder),
    )


def usual_paths(targets: Sequence[Target], steps: Sequence[Step]) -> list[Way]:
    """Straight to the targets; where one of them speaks FastCGI, all through nginx, if it is there: the same for all.

    A request that is held at a step goes straight to its target, or it would be nginx that holds half of it.
    """
    fastcgi = any(target.fastcgi for target in targets) and not steps
    return [Way.NGINX_NEW] if fastcgi and nginx.installed() else [Way.DIRECT]


def drill(
    plan: Agenda, settings: Settings, pause: float, steps: Sequence[Step], command: Sequence[str], progress: Progress,
    keep: Path | None = None,
) -> Drill:  # fmt: skip
    """Do it. After Ctrl-C, or SIGTERM, the result is what there was until then.

    `keep`: a folder for what is usually thrown away.
    """
    clock, began = time.time(), time.monotonic()
    machine = _machine()
    runs: list[Run] = []
    interrupted = False
    folder = keep or Path(tempfile.mkdtemp(prefix="lcdrill-"))
    folder.chmod(0o755)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for number, item in enumerate(plan.items):
            place = folder / str(number)
            place.mkdir()
            progress.begin(item.name, item.times)
            run = conduct(item.make(place), settings, pause, steps, place, progress)
            runs.append(run)
            progress.end(run)
            if run.interrupted:
                interrupted = True
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return Drill(
        format=FORMAT, lastcall=__version__, command=list(command), machine=machine, clock=clock,
        took=time.monotonic() - began, settings=settings, runs=runs, skipped=plan.skipped,
        verdict=judge.whole([run.verdict for run in runs]), interrupted=interrupted,
    )  # fmt: skip


def _machine() -> dict[str, str]:
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "processors": str(os.cpu_count()),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }
