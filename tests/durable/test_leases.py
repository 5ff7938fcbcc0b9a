"""Journals that several machines share: whose work is taken over, when, and what becomes of a holder that was only away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lastcall import durable
from lastcall.durable import leases, mongodb
from lastcall.durable.engine import Engine, Manner
from lastcall.durable.journal import Journal, JournalError
from lastcall.durable.mongodb import Mongodb
from lastcall.durable.postgresql import Postgresql
from lastcall.durable.record import Asked, Record, State
from lastcall.durable.run import Broken, Run
from lastcall.durable.wsgi import Environ, Start
from support import http
from support.durable import Remote, World, post
from support.lastcall import Servers
from support.mongod import Mongod
from support.postgresql import Postgres
from support.processes import ROOT, WITHIN_S, eventually

pytestmark = pytest.mark.xdist_group("mongod")
Opener = Callable[..., Journal]
ASKED = Asked("POST", "/send", {"PATH_INFO": "/send"}, b"{}")


@pytest.fixture(params=["postgresql", "mongodb"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty journal."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return postgres.fresh()
    mongod: Mongod = request.getfixturevalue("mongod")
    return mongod.uri.replace("/?", f"/leases_{os.urandom(4).hex()}?")


@pytest.fixture
def machine(url: str) -> Iterator[Opener]:
    """Opens the journal as a process of its own would."""
    opened: list[Journal] = []

    def make(lease: float = leases.LEASE) -> Journal:
        journal = Postgresql(url, lease=lease) if url.startswith("postgres") else Mongodb(url, lease=lease)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


def run_of(journal: Journal) -> Run:
    run = Engine(journal, Manner(wait=5.0)).enter(ASKED, "/send", "1")
    assert isinstance(run, Run)
    return run


def test_a_lease_is_kept_while_its_holder_lives(machine: Opener) -> None:
    """It is renewed: nobody gets it in twice its length, which is long: a renewal may have to wait for its turn."""
    first, second = machine(3.0), machine(3.0)
    assert first.claim("k", 0.0)
    assert not second.claim("k", 6.5)
    first.release("k")
    assert second.claim("k", WITHIN_S)


def test_a_lease_runs_out_when_nobody_renews_it(machine: Opener) -> None:
    """Its holder's machine is gone."""
    first, second = machine(0.3), machine(0.3)
    assert first.claim("k", 0.0)
    first.close()
    assert second.claim("k", WITHIN_S)


def test_a_process_that_is_dead_for_all_to_see_is_not_waited_for(machine: Opener, url: str) -> None:
    """On the same machine: long before its lease has run out."""
    program = (
        "import sys, signal\nfrom lastcall.durable.place import open_journal\n"
        "journal = open_journal(sys.argv[1])\nassert journal.claim('k', 0)\nprint('claimed', flush=True)\nsignal.pause()\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-c", program, url], env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"claimed\n"
        journal = machine(60.0)
        assert not journal.claim("k", 0.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert journal.claim("k", WITHIN_S)


def test_who_was_away_for_too_long_writes_nothing_more(machine: Opener) -> None:
    """Stopped inside a step, and taken over: its step cannot be recorded, and its answer is not the request's."""
    away, here = machine(0.2), machine(0.2)
    first = run_of(away)
    away._leases.close()  # type: ignore[attr-defined]  # it is stopped: nothing is renewed
    second: list[Run] = []

    def step() -> str:
        second.append(run_of(here))
        return "done by who was away"

    with first.entered(), pytest.raises(Broken, match="taken over by somebody else"):
        durable.step("present", step, in_doubt="retry")
    assert second[0].record.attempt == 2
    with second[0].entered():
        assert durable.step("present", lambda: "done", in_doubt="retry") == "done"
    found = here.find(second[0].record.key)
    assert found is not None
    assert [msgspec.json.decode(step.result) for step in found.steps] == ["done"]


def test_two_cannot_begin_the_same(machine: Opener) -> None:
    """Should both believe that the key is theirs: the second one's insert says so."""
    first, second = machine(), machine()
    run = run_of(first)
    with pytest.raises(JournalError, match="taken over"):
        second.begin(run.record)
    with pytest.raises(JournalError, match="taken over"):
        second.adopt(msgspec.structs.replace(run.record, attempt=5))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_while_the_server_is_away_nothing_durable_begins(machine: Opener, postgres: Postgres) -> None:
    """503 before; in the middle the request stays one that is completed later; then everything goes on by itself."""
    journal, remote = machine(), Remote()
    world = World(lambda: journal, lambda _: None)
    kill = ["now"]

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        durable.step("present", remote.do, "p", in_doubt="retry")
        if kill:
            kill.clear()
            postgres.kill()
        durable.step("order", remote.do, "o", in_doubt="retry")
        start_response("200 OK", [])
        return [b"done"]

    with world.at_work(journal):
        answer = post(app, {"order_id": "1"})
        assert (answer.status, answer.json["durable"]) == (503, True)
        refused = post(app, {"order_id": "2"})
        assert (refused.status, refused.json["begun"]) == (503, False)
    assert remote.calls == ["p"]
    assert any("stays unfinished" in line for line in world.said)
    postgres.start()
    eventually(lambda: _reaches(journal), "the journal is there again")
    assert [answer.status for answer in world.recover(journal, app)] == [200]
    assert remote.calls == ["p", "o"]


def _reaches(journal: Journal) -> bool:
    try:
        journal.tidy()
    except JournalError:
        return False
    return True


def test_a_server_that_cannot_be_reached_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what cannot be reached: it is said when it is opened, and a durable request is refused."""
    monkeypatch.setattr(mongodb, "SELECT_MS", 200)
    with pytest.raises(JournalError, match="Connection refused"):
        Mongodb("mongodb://127.0.0.1:1/x")
    with pytest.raises(JournalError, match="Connection refused"):
        Postgresql("postgresql://127.0.0.1:1/x")


def test_another_machine_completes_what_one_has_left(serve: Servers, folder: Path, url: str) -> None:
    """Everything of the first is killed in the middle; the second, with the same journal, does the rest."""
    steps = folder / "steps"
    steps.mkdir()
    os.mkfifo(steps / "before-order")
    own = ("--app-dir", str(Path(__file__).parent), "--journal", url, "--workers", "1")
    first = serve("app:app", *own, env={"STEPS": str(steps)})
    with http.Connection(first.http_address) as client:
        body = b'{"order_id": "1"}'
        client.send(http.head("POST", "/send", body) + body)
        eventually((steps / "before-order.reached").exists, "it is in the middle")
        first.kill()
    (steps / "before-order").unlink()
    second = serve("app:app", *own, env={"STEPS": str(steps)})
    looking: list[Record] = []

    def done() -> bool:
        journal = Postgresql(url) if url.startswith("postgres") else Mongodb(url)
        with closing(journal):
            looking[:] = journal.listing(State.DONE)
        return bool(looking)

    eventually(done, f"it is done\n{second.everything()}")
    assert looking[0].attempt == 2
    assert len((steps / "present").read_text().splitlines()) == 1
    assert len((steps / "order").read_text().splitlines()) == 1
    assert http.post(second.http_address, "/send", body).status == 201
    assert "nothing is parked" in second.command("status").stdout
