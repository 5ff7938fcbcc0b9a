"""`lastcall explain` on incidents that were made for real: what the ledgers know, it has to find in the logs.

`support.incidents` makes them, some thirty machines at once. Their logs are what real programs wrote; the truth is in two
ledgers that no log shows: a present was sent and its order never saved (half-done), or nothing was begun at all.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from support.incidents.machine import missing
from support.incidents.making import make
from support.incidents.scenes import history, scenes
from support.memory import kernel_limits
from support.processes import ROOT

pytestmark = [
    pytest.mark.xdist_group("incidents"),
    pytest.mark.skipif(bool(missing()), reason=f"a machine of its own needs {missing()}"),
]

EXPLAIN_S: Final = 60.0
LATE: Final = timedelta(seconds=30)
"""What is ordered at some time happens by then, also where a processor is shared by thirty machines and other tests."""
NEAR: Final = timedelta(seconds=3)
"""As near as logs with whole seconds, and cron, come to the time that it was ordered for."""
SAID: Final = 0.5
"""With so much confidence at least, a request is said to be half-done."""
DEVIATIONS: Final = 3.0
"""Standard deviations that chance is granted."""
BINS: Final = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

SCENES: Final = [scene for scene in scenes() if not scene.memory or kernel_limits()]
"""Where the kernel can be given no limit, it kills nobody for want of memory: that is then no case."""
ALL: Final = [scene.name for scene in (*SCENES, history())]
INCIDENTS: Final = [scene.name for scene in SCENES if not scene.control]
CONTROLS: Final = [scene.name for scene in SCENES if scene.control]
TIMED: Final = [scene.name for scene in SCENES if not scene.control and scene.layout.timed]
PLAIN: Final = [scene.name for scene in SCENES if not scene.control and not scene.layout.timed]


@dataclass(frozen=True, slots=True)
class Explained:
    """One machine: what is true about it, and what is said."""

    truth: Mapping[str, Any]
    said: Mapping[str, Any]
    code: int
    root: Path

    @property
    def incident(self) -> Mapping[str, Any]:
        """The one that there is."""
        assert len(self.said["incidents"]) == 1, [incident["said"] for incident in self.said["incidents"]]
        incident: Mapping[str, Any] = self.said["incidents"][0]
        return incident

    @property
    def half_done(self) -> set[str]:
        """The truth; a request is known by its URI, for each has another."""
        return {request["uri"] for request in self.truth["half_done"]}

    def stated(self) -> dict[str, float]:
        """How likely each request is half-done, of those that are said to have been hit."""
        stated: dict[str, float] = {}
        for incident in self.said["incidents"]:
            for request in incident["requests"]:
                match request["class"]:
                    case "half-done":
                        stated[request["uri"]] = request["confidence"]
                    case "never-begun":
                        stated[request["uri"]] = 1.0 - request["confidence"]
        return stated

    def said_half_done(self) -> set[str]:
        return {uri for uri, confidence in self.stated().items() if confidence >= SAID}


class Machines(dict[str, Explained]):
    """By name."""

    def those(self, names: Sequence[str]) -> Iterator[Explained]:
        return (self[name] for name in names)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The file trees of all machines, and the truth about each."""
    with tempfile.TemporaryDirectory(prefix="lc-incidents-") as folder:
        out = Path(folder, "out")
        make([*SCENES, history()], Path(folder, "work"), out)
        yield out


@pytest.fixture(scope="module")
def explained(made: Path) -> Machines:
    """What is said about each."""
    names = sorted(folder.name for folder in made.iterdir())
    with ThreadPoolExecutor(2) as together:
        return Machines(zip(names, together.map(lambda name: explain(made / name), names), strict=True))


def explain(folder: Path, *more: str) -> Explained:
    """Read the logs in that folder, as a user does."""
    command = [sys.executable, "-m", "lastcall", "explain", "--root", str(folder / "root"), "--json", *more]
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONPATH": path}, timeout=EXPLAIN_S, check=False
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    truth = json.loads((folder / "truth.json").read_text())
    return Explained(truth, json.loads(done.stdout), done.returncode, folder / "root")


# --- The incidents themselves --------------------------------------------------------------------


def known(made: Path, name: str) -> dict[str, Any]:
    """The truth about one."""
    truth: dict[str, Any] = json.loads((made / name / "truth.json").read_text())
    return truth


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_has_its_victims(made: Path, name: str) -> None:
    """What is to be found is there: half-done requests, or where a grace was long enough, such as were never begun."""
    truth = known(made, name)
    assert truth["never_begun" if name.startswith("quit10-cron") else "half_done"]
    assert truth["finished"] > len(truth["half_done"])


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_has_none(made: Path, name: str) -> None:
    """Whatever was begun was finished, and whatever was refused was refused by the application."""
    truth = known(made, name)
    assert (truth["half_done"], truth["never_begun"]) == ([], [])
    assert truth["finished"]


# --- What happened, and who ordered it -----------------------------------------------------------


@pytest.mark.parametrize("name", INCIDENTS)
def test_the_cause_is_named(explained: Machines, name: str) -> None:
    """One incident, at its time, with the signal that php-fpm really got and what it does to requests."""
    truth, incident = explained[name].truth, explained[name].incident
    assert explained[name].code == 1
    assert (incident["service"], incident["cause"], incident["how"]) == ("php-fpm", truth["cause"], truth["how"])
    assert -NEAR <= datetime.fromisoformat(incident["at"]) - datetime.fromisoformat(truth["at"]) <= LATE


@pytest.mark.parametrize("name", INCIDENTS)
def test_the_sender_is_named(explained: Machines, name: str) -> None:
    """The line of the crontab, of logrotate's file, the deploy, the colleague, the kernel; nobody where there is nobody."""
    sender, said = explained[name].truth["sender"], explained[name].incident["ordered_by"]
    if not sender:
        assert said is None or said["kind"] in ("kernel", "unknown")
        return
    assert said["kind"] == sender["kind"], said
    named = {key: said[key] for key in ("file", "line", "user") if key in sender}
    assert named == {key: sender[key] for key in named}
    assert sender.get("what", "") in said["what"]


@pytest.mark.parametrize("name", [name for name in INCIDENTS if "cron" in name or "logrotate" in name])
def test_it_is_known_when_it_happens_again(explained: Machines, name: str) -> None:
    """What cron does once a day, it does tomorrow."""
    again = datetime.fromisoformat(explained[name].incident["ordered_by"]["next"])
    assert abs(again - datetime.fromisoformat(explained[name].truth["at"]) - timedelta(days=1)) <= NEAR


@pytest.mark.parametrize("name", CONTROLS)
def test_no_incident_is_invented(explained: Machines, name: str) -> None:
    """Load, cron's harmless work, a reload that cut nobody, an application's own errors, clients that go away."""
    assert [incident["said"] for incident in explained[name].said["incidents"]] == []
    assert explained[name].code == 0


# --- Which requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMED)
def test_with_upstream_times_every_half_done_request_is_named(explained: Machines, name: str) -> None:
    """Recall is 100 %: what is missing in this list is what somebody searches for, for days."""
    assert explained[name].half_done - explained[name].said_half_done() == set()


def test_with_upstream_times_hardly_another_request_is_named(explained: Machines) -> None:
    """Precision is 95 %, over all machines.

    It cannot be 100 % each time: a request may be cut before the first ledger, or between the second and its answer.
    """
    said = {uri for machine in explained.those(TIMED) for uri in machine.said_half_done()}
    true = {uri for machine in explained.those(TIMED) for uri in machine.half_done}
    assert len(said & true) >= 0.95 * len(said), sorted(said - true)


@pytest.mark.parametrize("name", PLAIN)
def test_without_times_no_half_done_request_is_passed_over(explained: Machines, name: str) -> None:
    """Each is named, with a confidence: it may be small, but none is said to be out of the question."""
    stated = explained[name].stated()
    assert {uri for uri in explained[name].half_done if stated.get(uri, 0.0) < 0.02} == set()


def test_without_times_the_confidence_is_true(explained: Machines) -> None:
    """Of the requests of which it is said that they are half-done with 70 %, 70 % are.

    Over all machines without upstream times: each request that is said to be half-done or never begun is put into a bin by
    the stated probability of being half-done. The number of those that are half-done is a sum of independent events with
    these probabilities, if they are true: it may differ from the sum of the probabilities by three standard deviations of
    it, and by one, for it is a whole number.
    """
    stated = [
        (confidence, uri in machine.half_done)
        for machine in explained.those(PLAIN)
        for uri, confidence in machine.stated().items()
    ]
    assert len(stated) > 100
    for low, high in itertools.pairwise(BINS):
        inside = [(p, true) for p, true in stated if low <= p < high or p == high == 1.0]
        expected = sum(p for p, _ in inside)
        bound = DEVIATIONS * math.sqrt(sum(p * (1 - p) for p, _ in inside)) + 1.0
        true = sum(half_done for _, half_done in inside)
        assert abs(true - expected) <= bound, f"{low}..{high}: {true} of {len(inside)}, and {expected:.1f} were stated"


# --- Three mornings ------------------------------------------------------------------------------


def test_what_comes_back_every_morning_is_seen_each_time(explained: Machines) -> None:
    """Three incidents in logs that were rotated and packed in between, each with its requests and the two other days."""
    history = explained["history"]
    incidents = history.said["incidents"]
    found = [(datetime.fromisoformat(one["at"]), one["cause"], one["ordered_by"]["days"]) for one in incidents]
    days = [datetime.fromisoformat(day) for day in history.truth["days"]]
    assert [(cause, others) for _, cause, others in found] == [("TERM", 2)] * len(days) != []
    assert all(abs(at - day) <= NEAR for (at, _, _), day in zip(found, days, strict=True))
    assert history.said_half_done() == history.half_done


def test_one_morning_may_be_asked_for(made: Path) -> None:
    """`--at`: the incident of that time, and no other; the other days are counted all the same."""
    (only,) = explain(made / "history", "--at", "2017-06-25 05:28").said["incidents"]
    assert datetime.fromisoformat(only["at"]).date().isoformat() == "2017-06-25"
    assert only["ordered_by"]["days"] == 2


def test_one_request_may_be_asked_for(made: Path) -> None:
    """`--request`: the incident that it was hit by, by the id that nginx gave it and nobody else knows."""
    truth = known(made, "history")
    lines = (made / "history/root/var/log/nginx/shop.access.log").read_text().splitlines()
    uri, line = next(
        (asked["uri"], line) for line in lines for asked in truth["half_done"] if f"{asked['uri']} " in line
    )
    (only,) = explain(made / "history", "--request", line.rpartition("id=")[2]).said["incidents"]
    assert [request["class"] for request in only["requests"] if request["uri"] == uri] == ["half-done"]


# --- On what it relies ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*INCIDENTS, "history"])
def test_the_lines_that_it_quotes_are_there(explained: Machines, name: str) -> None:
    """File and line number of each piece of evidence lead to what is quoted, in a packed file too."""
    requests = [request for incident in explained[name].said["incidents"] for request in incident["requests"]]
    quoted = [evidence for request in requests for evidence in request["evidence"]]
    assert quoted
    for evidence in quoted:
        line = lines_of(explained[name].root / evidence["file"].lstrip("/"))[evidence["line"] - 1]
        assert evidence["text"].strip() in line


def lines_of(file: Path) -> list[str]:
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode().splitlines()


@pytest.mark.parametrize("name", ALL)
def test_every_log_of_a_machine_is_understood(explained: Machines, name: str) -> None:
    """What php-fpm and nginx wrote on a usual host is known, line by line."""
    for read in explained[name].said["read"]:
        if "nginx" in read["file"] or "php" in read["file"]:
            assert read["not_understood"] == 0, read
