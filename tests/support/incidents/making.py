"""Makes the incidents, side by side and in the same minute, and writes each one's file tree and its truth."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from support.incidents.machine import HERE, Machine
from support.incidents.scenes import Scene, Sender
from support.incidents.shop import DATA, furnish, open_shop
from support.memory import limited
from support.processes import eventually

EARLY_S: Final = 8.0
"""Seconds of load before the minute: every worker has been busy for long."""
ARM_S: Final = 3.0
"""What it takes to write all tables of cron, before that: it looks at them when the minute begins."""
PLAY_S: Final = 150.0
"""Longer than all of it takes."""
FIRST_ORDER: Final = 100_000


def make(scenes: Sequence[Scene], work: Path, out: Path) -> None:
    """All of them, into `out`/NAME/. It takes one to two minutes: cron's clock has no seconds."""
    with contextlib.ExitStack() as stack:
        acts = [
            stack.enter_context(_prepared(scene, work / scene.name, FIRST_ORDER + 10_000 * number))
            for number, scene in enumerate(scenes)
        ]
        at = (time.time() + ARM_S + EARLY_S) // 60 * 60 + 60
        for act in acts:
            act.arm(at)
        with ThreadPoolExecutor(len(acts)) as together:
            list(together.map(Act.play, acts))
        for act in acts:
            act.keep(out / act.scene.name)


@contextlib.contextmanager
def _prepared(scene: Scene, folder: Path, first: int) -> Iterator[Act]:
    """A scene, on a machine where everything runs that it needs."""
    machine = Machine(folder, "shop", own_pids=not scene.memory)
    with contextlib.ExitStack() as stack:
        furnish(machine, scene.layout)
        before = scene.before
        if scene.memory:
            limit = stack.enter_context(limited(scene.memory))
            assert limit.kernel_kills, "there can be no memory cgroup"
            before = (*before, *limit.prefix)
            machine.write("/etc/rsyslog.d/kernel.conf", 'module(load="imkmsg")\n')
        stack.callback(machine.end)
        machine.boot()
        open_shop(machine, own_init=scene.own_init, before=before)
        yield Act(scene, machine, first)


class Act:
    """One scene being played. `first` is the number of its first order."""

    def __init__(self, scene: Scene, machine: Machine, first: int) -> None:
        self.scene = scene
        self.machine = machine
        self._first = first
        self._at = 0.0
        self._sender: Sender = {}

    def arm(self, at: float) -> None:
        """Write what will restart it at that time."""
        self._at = at
        self._sender = self.scene.ordered(self.machine, at)

    def play(self) -> None:
        """From the first client to the last."""
        eventually(lambda: time.time() >= self._at - EARLY_S, "the load's time", PLAY_S)
        load = self._load()
        eventually(lambda: time.time() >= self._at + self.scene.after, "the minute", PLAY_S)
        self.scene.act(self.machine)
        assert load.wait(PLAY_S) == 0, self.machine.said()

    def _load(self) -> subprocess.Popen[bytes]:
        scene = self.scene
        plan = {
            "seed": scene.name, "first": self._first, "clients": scene.clients, "step": scene.step, "keep": scene.keep,
            "until": self._at + scene.late, "kinds": scene.kinds,
            "once": [{**kind, "at": self._at + kind["after"]} for kind in scene.once],
        }  # fmt: skip
        program = [sys.executable, "-I", "-S", str(HERE / "load.py")]
        return self.machine.start(*program, json.dumps(plan), str(self._asked))

    @property
    def _asked(self) -> Path:
        return self.machine.folder / "asked.jsonl"

    # --- What is left of it --------------------------------------------------------------------

    def keep(self, out: Path) -> None:
        """Stop the machine and write what is left of it, and the truth."""
        self.machine.end()
        if self.scene.memory:
            for log in ("kern.log", "syslog"):
                file = self.machine.path(f"/var/log/{log}")
                file.write_text(_of_our_kills(file.read_text(), self._killed()))
        shutil.rmtree(out, ignore_errors=True)
        self.machine.keep(out / "root")
        (out / "truth.json").write_text(json.dumps(self._truth(), indent=1))

    def _killed(self) -> set[str]:
        """php-fpm's processes that were killed, as its own log has them."""
        log = self.machine.path("/var/log/php8.2-fpm.log").read_text()
        return set(re.findall(r"child (\d+) exited on signal 9", log))

    def _truth(self) -> dict[str, Any]:
        """What the ledgers and the clients know."""
        scene = self.scene
        asked = [json.loads(line) for line in self._asked.read_text().splitlines()]
        presents, orders = (self._ledger(name) for name in ("presents", "orders"))
        sent = [line for line in asked if line["method"] == "POST" and not line["own"]]
        half = [line for line in sent if line["id"] in presents - orders]
        never = [line for line in sent if line["id"] not in presents and line["status"] != 200]
        return {
            "name": scene.name, "cause": scene.cause, "how": scene.how, "sender": self._sender,
            "control": scene.control, "nginx_times": scene.layout.timed, "at": _iso(self._at + scene.after),
            "requests": len(asked), "finished": len(presents & orders),
            "half_done": [_request(line) for line in half], "never_begun": [_request(line) for line in never],
        }  # fmt: skip

    def _ledger(self, name: str) -> set[str]:
        file = self.machine.path(f"{DATA}/{name}")
        return set(file.read_text().split()) if file.exists() else set()


def _request(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": line["id"], "uri": line["uri"], "method": line["method"], "at": _iso(line["began"]),
        "ended": _iso(line["ended"]), "status": line["status"],
    }  # fmt: skip


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _of_our_kills(text: str, pids: set[str]) -> str:
    """A log without what the kernel said of other machines: it has one log for all, from long before.

    What it says of one kill is in one piece, from `invoked oom-killer` to `Killed process`.
    """
    kept: list[str] = []
    piece: list[str] = []
    for line in text.splitlines(keepends=True):
        if " kernel: " not in line:
            kept.append(line)
            continue
        piece = [line] if "invoked oom-killer" in line else [*piece, line]
        if killed := re.search(r"Killed process (\d+) ", line):
            kept += piece if killed[1] in pids else []
            piece = []
    return "".join(kept)
