"""Makes the incidents, side by side and in the same minute, and writes each one's file tree and its truth."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
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
GAP_S: Final = 0.25
"""Seconds between the beginnings of two requests of one machine, at least: the cut of all is seen within less."""
PLAY_S: Final = 150.0
"""Longer than all of it takes."""
MORNING_S: Final = 5.0
"""What a machine has to come up, where its clock is set."""
FIRST_ORDER: Final = 100_000
ORDERS: Final = 3000
"""Numbers of a day."""


def make(scenes: Sequence[Scene], work: Path, out: Path) -> None:
    """All of them, into `out`/NAME/. It takes one to two minutes: cron's clock has no seconds."""
    with contextlib.ExitStack() as stack:
        acts = [
            Act(scene, work / scene.name, FIRST_ORDER + 10_000 * number, stack) for number, scene in enumerate(scenes)
        ]
        apart, together = ([act for act in acts if bool(act.scene.days) is own] for own in (True, False))
        with ThreadPoolExecutor(len(acts)) as stages:
            played = [stages.submit(act.play_days) for act in apart]
            for act in together:
                act.open()
            at = (time.time() + ARM_S + EARLY_S) // 60 * 60 + 60
            for act in together:
                act.arm(at)
            played += [stages.submit(act.play) for act in together]
        for act, done in zip([*apart, *together], played, strict=True):
            done.result()
            act.keep(out / act.scene.name)


class Act:
    """One scene being played, on its machine. `first` is the number of its first order."""

    def __init__(self, scene: Scene, folder: Path, first: int, stack: contextlib.ExitStack) -> None:
        self.scene = scene
        self.machine = Machine(folder, "shop", own_pids=not scene.memory)
        self._first = first
        self._before = scene.before
        self._at = 0.0
        self._ahead = 0.0
        self._sender: Sender = {}
        furnish(self.machine, scene.layout)
        if scene.memory:
            self._before = (*self._before, *stack.enter_context(limited(scene.memory)).prefix)
            self.machine.write("/etc/rsyslog.d/kernel.conf", 'module(load="imkmsg")\n')
        stack.callback(self.machine.end)

    def open(self) -> None:
        """Start everything that the scene needs."""
        self.machine.boot()
        open_shop(self.machine, own_init=self.scene.own_init, before=self._before)

    def arm(self, at: float) -> None:
        """Write what will restart it at that time."""
        self._at = at
        self._sender = self.scene.ordered(self.machine, self._at)

    def play(self) -> None:
        """From the first client to the last."""
        self._until(self._at - EARLY_S)
        load = self._load()
        self._until(self._at + self.scene.after)
        self.scene.act(self.machine)
        assert load.wait(PLAY_S) == 0, self.machine.said()

    def play_days(self) -> None:
        """On days of its own, from the first morning to the last: in between the machine is off."""
        self.arm(self.scene.days[0].timestamp())
        for day in self.scene.days:
            self._at = day.timestamp()
            self._first += ORDERS
            self._ahead = round(self._at - EARLY_S - MORNING_S - time.time())
            self.machine.set_clock(self._ahead)
            self.open()
            self.machine.run("logrotate", "/etc/logrotate.conf")
            self.play()
            self.machine.end()

    def _until(self, then: float) -> None:
        """By the machine's clock."""
        eventually(lambda: time.time() + self._ahead >= then, "the scene's time", PLAY_S)

    def _load(self) -> subprocess.Popen[bytes]:
        scene = self.scene
        plan = {
            "seed": scene.name, "first": self._first, "clients": scene.clients, "step": scene.step, "gap": GAP_S,
            "keep": scene.keep, "until": self._at + scene.late, "ahead": self._ahead, "kinds": scene.kinds,
            "once": [{**kind, "at": self._at + kind["after"]} for kind in scene.once],
        }  # fmt: skip
        program = [sys.executable, "-I", "-S", str(HERE / "load.py")]
        return self.machine.start_client(*program, json.dumps(plan), str(self._asked))

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
        days = [day.timestamp() for day in scene.days] or [self._at + scene.after]
        return {
            "name": scene.name, "cause": scene.cause, "how": scene.how, "sender": self._sender,
            "control": scene.control, "nginx_times": scene.layout.timed, "at": _iso(self._at + scene.after),
            "requests": len(asked), "finished": len(presents & orders),
            "half_done": [_request(line) for line in half], "never_begun": [_request(line) for line in never],
            "days": [_iso(day) for day in days],
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
