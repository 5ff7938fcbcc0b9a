"""The master is killed: its workers serve on, and the next one takes them over (guarantee G3)."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lastcall.core import cuts
from lastcall.protocol import adoption
from lastcall.runtime import custody, cutlist, identity, locks, testament
from lastcall.tools.drill.processes import session
from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import accepting, comm, connect, eventually

Shop = Callable[..., Server]


@dataclass
class Asked:
    """A request that is inside the application, on a thread of its own."""

    thread: threading.Thread
    end: Path
    answers: list[http.Response] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def answer(self) -> http.Response:
        self.thread.join()
        assert not self.closed, self.closed
        (answer,) = self.answers
        return answer

    @property
    def worker(self) -> int:
        return int(self.end.with_suffix(".begun").read_text())


def ask(server: Server, folder: Path, method: str = "GET", name: str = "end") -> Asked:
    """Send it, and wait until it has begun."""
    end = folder / f"{name}.flag"

    def run() -> None:
        try:
            with http.Connection(server.http_address) as connection:
                asked.answers.append(connection.request(method, f"/wait{end}", b"x" if method == "POST" else None))
        except (http.Closed, OSError) as error:
            asked.closed.append(repr(error))

    asked = Asked(threading.Thread(target=run), end)
    asked.thread.start()
    eventually(lambda: end.with_suffix(".begun").exists() and end.with_suffix(".begun").read_text(), "it has begun")
    return asked


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def gone(*pids: int) -> bool:
    return all(identity.started(pid) == 0 for pid in pids)


def serving(server: Server) -> list[int]:
    """The pids of the workers that serve, as the master knows them."""
    return [worker.pid or 0 for worker in server.status().workers if worker.stage == "ready"]


def whole(server: Server, workers: int = 2) -> None:
    eventually(lambda: len(serving(server)) == workers == len(server.status().workers), "the pool is whole")


def listed(server: Server) -> list[cuts.Cut]:
    """The cut list."""
    path = server.run_dir / cutlist.NAME
    found, bad = cuts.decode(path.read_bytes().splitlines() if path.exists() else [])
    assert not bad
    return found


def keepers(server: Server) -> list[int]:
    return [pid for pid in server.processes() if comm(pid) == custody.NAME]


def doors(server: Server) -> list[str]:
    return sorted(path.name for path in server.run_dir.glob(adoption.DOORS))


# --- Workers that live -------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_next_master_takes_over_what_serves(shop: Shop, folder: Path, threads: str) -> None:
    """The same workers, the same connections, a request that neither of the masters has seen whole, and the counters."""
    server = shop("--threads", threads, "--workers", "2")
    before = serving(server)
    kept = http.Connection(server.http_address)
    assert kept.request("GET", "/").status == 200
    asked = ask(server, folder)
    server.kill_master()
    server.wait_log_of_the_dead("the master is gone")
    assert http.get(server.http_address).status == 200
    assert kept.request("GET", "/").status == 200
    server.be_taken_over()
    assert serving(server) == before
    asked.end.touch()
    assert asked.answer().body == b"waited\n"
    assert kept.request("GET", "/").status == 200
    kept.close()
    status = server.status()
    assert status.pid == server.pid
    assert (status.requests, status.cut, status.restarts) == (5, 0, 0)
    assert status.last_takeover is not None
    assert (status.last_takeover.workers, status.last_takeover.dead) == (2, 0)
    assert "taken over" in server.command("status").stdout
    assert server.stop() == 0
    assert doors(server) == []


def test_a_master_manages_adopted_workers_as_its_own(shop: Shop) -> None:
    """Reload, scale, recycle, upgrade, stop; serials are never given twice."""
    server = shop("--workers", "2")
    server.kill_master()
    server.be_taken_over()
    adopted = serving(server)
    assert server.command("scale", "+1").returncode == 0
    whole(server, 3)
    assert {worker.serial for worker in server.status().workers} == {1, 2, 3}
    assert server.command("scale", "-1").returncode == 0
    whole(server, 2)
    assert serving(server) == adopted
    done = server.command("restart", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    eventually(lambda: gone(*adopted), "the adopted ones have gone")
    assert {worker.serial for worker in server.status().workers} == {4, 5}
    server.kill_master()
    server.be_taken_over()
    assert server.command("reload", "--wait").returncode == 0
    assert {worker.serial for worker in server.status().workers} == {6, 7}
    assert server.status().generation == 3
    assert server.stop() == 0


def test_an_upgraded_master_still_knows_whom_it_has_adopted(shop: Shop) -> None:
    """The death of a worker that two images before has started is noticed."""
    server = shop("--workers", "1", "--trial", "60")
    server.kill_master()
    server.be_taken_over()
    (adopted,) = serving(server)
    server.signal(signal.SIGUSR2)
    eventually(
        lambda: "resting" in [worker.stage for worker in server.status().workers],
        "it rests, for the new one is on trial",
    )
    kill(adopted)
    server.wait_log(f"child {adopted} exited with a status that is not known")


def test_an_adopted_worker_that_dies_is_mourned_as_any_other(shop: Shop, folder: Path) -> None:
    """Its client is answered by another one; how it died is not ours to know, and the log says so."""
    server = shop("--workers", "2")
    server.kill_master()
    server.be_taken_over()
    asked = ask(server, folder)
    first = asked.worker
    asked.end.with_suffix(".begun").unlink()
    kill(first)
    eventually(asked.end.with_suffix(".begun").exists, "it has begun again")
    asked.end.touch()
    assert asked.answer().header("x-attempt") == "2"
    server.wait_log(f"child {first} exited with a status that is not known")
    whole(server)
    assert server.status().restarts == 1


def test_another_configuration_is_a_reload(shop: Shop, folder: Path) -> None:
    """What was changed while there was no master holds for the next one: new workers, and nobody is lost."""
    config = folder / "lastcall.toml"
    config.write_text("workers = 1\n")
    server = shop("--config", str(config))
    (before,) = serving(server)
    server.kill_master()
    config.write_text("workers = 2\n")
    server.be_taken_over()
    server.wait_log("reload finished")
    whole(server, 2)
    assert before not in serving(server)
    assert server.status().generation == 2


def test_a_wrong_configuration_starts_no_master_and_costs_nobody_anything(shop: Shop, folder: Path) -> None:
    """The next try finds everything as it was."""
    config = folder / "lastcall.toml"
    config.write_text("workers = 1\n")
    server = shop("--config", str(config))
    (before,) = serving(server)
    server.kill_master()
    config.write_text("workers = none\n")
    server.start_again()
    assert server.wait() == 78
    assert http.get(server.http_address, "/pid").body == str(before).encode()
    config.write_text("workers = 1\n")
    server.be_taken_over()
    assert serving(server) == [before]


def test_a_start_that_fails_leaves_everything_to_the_next_one(shop: Shop, folder: Path) -> None:
    """Here because somebody else has the pid file: neither workers nor what is known of them are harmed."""
    pid_file = folder / "pid"
    server = shop("--workers", "2", "--pid", str(pid_file))
    before = serving(server)
    server.kill_master()
    with pid_file.open("r+b") as somebody:
        assert locks.take(somebody.fileno())
        server.start_again()
        assert server.wait() == 78
    assert http.get(server.http_address).status == 200
    server.be_taken_over()
    assert serving(server) == before


def test_a_pool_on_trial_is_taken_over_on_trial(shop: Shop) -> None:
    """Those that rest rest on, and are called back when the new ones fail."""
    server = shop("--workers", "1", "--trial", "60")
    server.signal(signal.SIGHUP)
    eventually(lambda: sorted(worker.stage for worker in server.status().workers) == ["ready", "resting"], "on trial")
    workers = {worker.stage: worker.pid for worker in server.status().workers}
    server.kill_master()
    server.be_taken_over()
    assert {worker.stage: worker.pid for worker in server.status().workers} == workers
    assert server.status().generation == 2


def test_what_workers_print_meanwhile_is_not_lost(shop: Shop, folder: Path) -> None:
    """Nor does it stand in their way: somebody reads the pipe."""
    server = shop("--workers", "1", "--catch-output")
    server.kill_master()
    server.wait_log_of_the_dead("the master is gone")
    for number in range(30):  # more than a pipe holds
        assert http.get(server.http_address, f"/print/{number}-{'x' * 3_000}").status == 200
    eventually(lambda: all(f"{number}-xxx" in server.log() for number in range(30)), "all of it is in the log")
    server.be_taken_over()
    assert http.get(server.http_address, "/print/afterwards").status == 200
    server.wait_log("afterwards")


def test_a_worker_that_cannot_answer_at_its_door_is_taken_over_all_the_same(shop: Shop) -> None:
    """Its application keeps the GIL for longer than anybody waits; when it speaks, it is heard, and so is what it prints."""
    server = shop("--workers", "2", "--catch-output")
    before = serving(server)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(http.get(server.http_address, "/keep-the-gil/9000").status))
    thread.start()
    eventually(lambda: any(worker.in_flight for worker in server.status().workers), "it has begun")
    server.kill_master()
    server.be_taken_over()
    assert sorted(serving(server)) == sorted(before)
    thread.join()
    assert answers == [200]
    server.wait_log("gave it back")
    assert server.command("reload", "--wait").returncode == 0
    eventually(lambda: gone(*before), "it has heard that it is to end")


def test_a_worker_that_is_spent_meanwhile_is_recycled_afterwards(shop: Shop) -> None:
    """Its word was lost with the master; it says it again."""
    server = shop("--workers", "1", "--max-requests", "3")
    (before,) = serving(server)
    server.kill_master()
    for _ in range(4):
        assert http.get(server.http_address).status == 200
    server.be_taken_over()
    eventually(lambda: serving(server) not in ([], [before]), "it was replaced")


def test_workers_of_another_user_are_taken_over(shop: Shop) -> None:
    """They could not open a door themselves in a directory that is root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can change users")
    server = shop("--workers", "1", "--user", "nobody", env={"PYTHONDONTWRITEBYTECODE": "1"})
    before = serving(server)
    server.kill_master()
    server.be_taken_over()
    assert serving(server) == before


def test_two_masters_are_never_there(shop: Shop) -> None:
    """A start while one lives is refused, and so is the second of two that come at once."""
    server = shop("--workers", "1")
    done = server.again()
    assert done.returncode == 78
    assert "another lastcall" in done.stderr
    server.kill_master()
    server.be_taken_over()
    assert server.again().returncode == 78
    assert http.get(server.http_address).status == 200


def test_masters_that_come_and_go_leave_nothing_behind(shop: Shop) -> None:
    """No descriptor, no process, no door: after ten deaths as after one."""
    server = shop("--workers", "2", "--catch-output")

    def state() -> tuple[int, list[int], int, list[str]]:
        workers = serving(server)
        return count(server.pid), [count(pid) for pid in workers], len(server.processes()), doors(server)

    def count(pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    with http.Connection(server.http_address) as connection:

        def die() -> None:
            server.kill_master()
            assert connection.request("GET", "/").status == 200
            server.be_taken_over()
            assert connection.request("GET", "/").status == 200

        die()
        before = state()
        for _ in range(9):
            die()
        eventually(lambda: state() == before, f"{state()} is {before}")
    assert server.status().requests == 20
    assert server.stop() == 0


@pytest.mark.parametrize("http_address", ["unix", True])
def test_fastcgi_and_unix_listeners_are_taken_over(serve: Servers, code: Path, http_address: str | bool) -> None:
    """The paths stay, and lead where they did."""
    server = serve(
        "shop:app", "--app-dir", str(code), http=http_address, fastcgi="unix" if http_address is True else True
    )
    server.kill_master()
    server.be_taken_over()
    assert http.get(server.http_address).status == 200
    with connect(server.fastcgi_address) as sock:
        variables = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "SCRIPT_NAME": "/"}
        assert fcgi.request(sock, variables).status.startswith("200")
    assert server.stop() == 0


# --- Workers that die, too -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_dies_with_its_master_leaves_its_clients_to_the_next(
    shop: Shop, folder: Path, threads: str, when: str
) -> None:
    """GET: run again; POST: an honest 503; each named, once. Who dies first makes no difference."""
    server = shop("--threads", threads, "--workers", "3")
    idle = http.Connection(server.http_address)
    first = int(idle.request("GET", "/pid").body)
    safe, order = ask(server, folder), ask(server, folder, "POST", "order")
    dead = {safe.worker, order.worker} if threads == "1" else set(serving(server))
    safe.end.with_suffix(".begun").unlink()
    if when == "before":
        kill(*dead)
        server.kill_master()
    else:
        server.kill_master()
        kill(*dead)
    server.be_taken_over()
    eventually(safe.end.with_suffix(".begun").exists, "it has begun again")
    safe.end.touch()
    assert safe.answer().header("x-attempt") == "2"
    answer = order.answer()
    assert answer.status == 503
    assert json.loads(answer.body)["begun"] is True
    assert (idle.request("GET", "/pid").body == str(first).encode()) == (first not in dead)
    idle.close()
    found = sorted((cut.method, cut.done) for cut in listed(server))
    assert found == [("GET", "run again"), ("POST", "answered 503")]
    whole(server, 3)
    # A master that has listed the cut may die before it has written down that it has counted it: docs/MASTER.md.
    assert server.status().cut in ({0, 1} if when == "before" else {1})


def test_a_pool_of_which_only_the_custodians_live_loses_no_client(shop: Shop, folder: Path) -> None:
    """Nobody serves: who connects meanwhile waits in the queue, for the custodians have the listener as well."""
    server = shop("--workers", "2")
    asked = ask(server, folder)
    server.kill_master()
    kill(*(pid for pid in server.processes() if pid not in keepers(server)))
    waiting = http.Connection(server.http_address)
    waiting.send(http.head("GET", "/pid"))
    asked.end.touch()
    server.be_taken_over()
    assert waiting.response().status == 200
    assert asked.answer().header("x-attempt") == "2"
    waiting.close()
    server.wait_log("ready to handle connections", 2)
    whole(server)
    assert {worker.serial for worker in server.status().workers} == {3, 4}
    assert server.status().generation == 2
    assert "reload finished" not in server.log()
    assert server.stop() == 0


def test_a_pool_that_had_nothing_to_do_keeps_its_listener_through_everybody_elses_death(shop: Shop) -> None:
    """Its custodians have no client to keep, and wait all the same."""
    server = shop("--workers", "2")
    workers = serving(server)
    server.signal(signal.SIGSTOP)  # so that it does not replace them first
    kill(*workers)
    server.kill_master()
    with http.Connection(server.http_address) as waiting:
        waiting.send(http.head("GET", "/pid"))
        server.be_taken_over()
        assert waiting.response().status == 200


def test_what_nobody_can_save_is_named(shop: Shop, folder: Path) -> None:
    """SIGKILL for all of them at once: the next master finds on the board what they were doing."""
    server = shop("--workers", "2")
    asked = ask(server, folder)
    everybody = server.processes()
    server.signal(signal.SIGKILL)
    kill(*everybody)
    asked.thread.join()
    assert asked.closed
    server.wait()
    server.be_taken_over()
    (cut,) = listed(server)
    assert (cut.method, cut.uri, cut.done) == ("GET", f"/wait{asked.end}", "nobody to answer")
    assert cut.cause == "its worker exited with a status that is not known"
    whole(server)
    assert {worker.serial for worker in server.status().workers} == {3, 4}
    assert http.get(server.http_address).status == 200


def test_cuts_are_listed_once_however_often_masters_die(shop: Shop, folder: Path) -> None:
    """A master that has listed them, and dies before it has said so, leaves them to the next."""
    server = shop("--workers", "1")
    asked = ask(server, folder, "POST")
    everybody = server.processes()
    server.signal(signal.SIGKILL)
    kill(*everybody)
    asked.thread.join()
    server.wait()
    kept = (server.run_dir / testament.NAME).read_bytes()
    board = (server.run_dir / "board").read_bytes()
    server.be_taken_over()
    everybody = server.processes()
    server.signal(signal.SIGKILL)
    kill(*everybody)
    server.wait()
    (server.run_dir / testament.NAME).write_bytes(kept)
    (server.run_dir / "board").write_bytes(board)
    server.be_taken_over()
    assert len(listed(server)) == 1
    assert server.status().cut == 1


def test_a_worker_that_boots_ends_with_its_master(shop: Shop, code: Path) -> None:
    """Nobody can vouch for it; those that serve go on, and the reload is tried again by who wants it."""
    server = shop("--workers", "1")
    (before,) = serving(server)
    (code / "shop.py").write_text("import time, os\nopen('booting', 'w').close()\ntime.sleep(60)\n")
    server.signal(signal.SIGHUP)
    eventually((server.folder / "booting").exists, "the new one boots")
    server.kill_master()
    eventually(lambda: len(session(server.pid)) == 2, "a worker and its custodian are left")
    assert http.get(server.http_address, "/pid").body == str(before).encode()


# --- Nobody comes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("http_address", ["unix", True])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_when_no_master_comes_the_workers_end_in_order(
    shop: Shop, folder: Path, http_address: str | bool, threads: str
) -> None:
    """What has begun is finished; no port is held, no process is left, and no socket's file."""
    server = shop("--orphan-timeout", "300ms", "--threads", threads, http=http_address)
    asked = ask(server, folder)
    server.kill_master()
    server.wait_log_of_the_dead("no other master has come")
    eventually(lambda: not accepting(server.http_address), "nobody new gets in")
    asked.end.touch()
    assert asked.answer().body == b"waited\n"
    eventually(lambda: not session(server.pid), "nobody is left")
    assert doors(server) == [], server.everything()
    if http_address == "unix":
        assert not Path(server.http_address.removeprefix("unix:")).exists()
    server.start_again()
    server.wait_log("ready to handle connections", 2)
    assert listed(server) == []
    assert server.status().restarts == 0


def test_a_start_that_comes_while_they_end_waits_until_they_have_let_go(shop: Shop, folder: Path) -> None:
    """It does not take them over; they finish what they have beside its own."""
    server = shop("--orphan-timeout", "0")
    asked = ask(server, folder)
    server.kill_master()
    server.wait_log_of_the_dead("the master is gone")
    server.start_again()
    server.wait_log("ready to handle connections", 2)
    assert http.get(server.http_address).status == 200
    asked.end.touch()
    assert asked.answer().body == b"waited\n"
    assert "are not taken over" in server.log()


def test_an_orphan_that_cannot_finish_is_cut_and_named(shop: Shop, folder: Path) -> None:
    """By itself, after drain_timeout: there is no master that would do it. The next one lists it."""
    server = shop("--orphan-timeout", "0", "--drain-timeout", "300ms", "--workers", "1")
    asked = ask(server, folder)
    server.kill_master()
    asked.thread.join()
    assert asked.closed
    eventually(lambda: not session(server.pid), "nobody is left")
    assert "its worker ended by itself" in server.log()
    server.be_taken_over()
    (cut,) = listed(server)
    assert (cut.uri, cut.done) == (f"/wait{asked.end}", "nobody to answer")


def test_a_custodian_waits_for_a_master_no_longer_than_workers_do(shop: Shop, folder: Path) -> None:
    """Its worker is dead, its master too, and nobody comes: its client is not left hanging, but told."""
    server = shop("--orphan-timeout", "500ms", "--workers", "1")
    asked = ask(server, folder)
    server.kill_master()
    kill(asked.worker)
    answer = asked.answer()
    assert answer.status == 503
    assert json.loads(answer.body)["begun"] is True
    eventually(lambda: not session(server.pid), "nobody is left")


def test_a_board_that_cannot_be_read_sends_the_workers_home(shop: Shop, folder: Path) -> None:
    """As those of another lastcall: they finish what they have; fresh ones serve at the same address."""
    server = shop("--workers", "2")
    asked = ask(server, folder)
    before = serving(server)
    server.kill_master()
    (server.run_dir / testament.NAME).write_text('{"format": 0, "version": "0.0.1"}')
    server.start_again()
    server.wait_log("ready to handle connections", 2)
    assert "lastcall 0.0.1 hands over in format 0" in server.log()
    assert not set(serving(server)) & set(before)
    asked.end.touch()
    assert asked.answer().body == b"waited\n"
    eventually(lambda: gone(*before), "the old ones have gone")
    assert http.get(server.http_address).status == 200


def test_a_stop_needs_no_master(shop: Shop, folder: Path) -> None:
    """`lastcall stop` sends the workers home; what has begun is finished."""
    server = shop("--workers", "2")
    asked = ask(server, folder)
    server.kill_master()
    done = server.command("stop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not accepting(server.http_address)
    asked.end.touch()
    assert asked.answer().body == b"waited\n"
    eventually(lambda: not session(server.pid), "nobody is left")


@pytest.mark.parametrize("hold", ["0", "10"])
def test_a_stop_goes_on_without_its_master(shop: Shop, folder: Path, hold: str) -> None:
    """Killed inside the drain: what has begun is finished, beside the next master's pool; a holder's claim is as ever."""
    server = shop("--workers", "1", "--hold", hold)
    asked = ask(server, folder)
    server.signal(signal.SIGTERM)
    server.wait_log("Terminating ...")
    eventually(lambda: bool(server.log_lines("holding 1 listener")) == (hold != "0"), "it has begun")
    server.kill_master()
    server.start_again()
    server.wait_log("ready to handle connections", 2)
    assert http.get(server.http_address).status == 200
    asked.end.touch()
    assert asked.answer().body == b"waited\n"
    assert server.command("stop", "--final", "--wait").returncode == 0


def test_a_pool_whose_run_directory_is_gone_serves_on(shop: Shop) -> None:
    """Somebody has cleaned up: workers that come later have no door, and the log says so."""
    server = shop("--workers", "1")
    for path in server.run_dir.iterdir():
        path.unlink()
    server.run_dir.rmdir()
    kill(*(pid for pid in server.processes() if pid not in keepers(server)))
    server.wait_log("a worker has no door")
    eventually(lambda: http.get(server.http_address).status == 200, "another one serves")
    server.run_dir.mkdir()


def test_status_says_that_there_is_no_master(shop: Shop, folder: Path) -> None:
    """Who serves, for how long, and what they are doing; it exits as where nothing answers."""
    server = shop("--workers", "2")
    asked = ask(server, folder)
    workers = serving(server)
    server.kill_master()
    done = server.command("status")
    asked.end.touch()
    asked.answer()
    assert done.returncode == 69
    assert f"no master: it was pid {server.pid}" in done.stderr
    assert all(f"pid {pid}" in done.stderr for pid in workers)
    assert f"GET /wait{asked.end}" in done.stderr


# --- Who starts the next one --------------------------------------------------------------------------


def master_of(server: Server) -> int:
    return server.status().pid


def test_a_supervisor_starts_the_next_master(shop: Shop) -> None:
    """As often as one dies, within bounds; the workers are the same, and a stop is passed on."""
    server = shop("--supervise", "--workers", "2")
    workers = serving(server)
    with http.Connection(server.http_address) as kept:
        for deaths in range(1, 4):
            before = master_of(server)
            assert before != server.pid
            kill(before)
            server.wait_log("NOTICE: took over 2 workers", deaths)
            assert kept.request("GET", "/").status == 200
            assert master_of(server) != before
            assert serving(server) == workers
    assert f"the master, pid {before}, exited on signal 9 (SIGKILL)" in server.log()
    server.signal(signal.SIGHUP)
    server.wait_log("reload finished")
    assert server.stop() == 0
    assert doors(server) == []


def test_a_supervisor_ends_as_its_master_does(shop: Shop, code: Path) -> None:
    """A start that fails is no death; nor is an end that was asked for."""
    (code / "shop.py").write_text("raise RuntimeError")
    server = shop("--supervise", wait=False)
    assert server.wait() == 70
    assert "the next one starts" not in server.log()


def test_a_supervisor_gives_up(shop: Shop) -> None:
    """A master that dies again and again is no better for one more; it says so, and the workers end in their time."""
    server = shop("--supervise", "--workers", "1", "--orphan-timeout", "4s")
    for deaths in range(1, 6):
        kill(master_of(server))
        server.wait_log("NOTICE: took over 1 workers", deaths)
        whole(server, 1)
    kill(master_of(server))
    assert server.wait() == 70
    assert "no other one is started" in server.log()
    eventually(lambda: not session(server.pid), "nobody is left")


def test_a_stop_finds_its_master_even_where_there_is_none(shop: Shop) -> None:
    """SIGTERM in the pause before the next start: it is started, and stops."""
    server = shop("--supervise", "--workers", "1")
    for _ in range(3):  # so that the pause is long enough
        kill(master_of(server))
        eventually(lambda: server.command("status").returncode == 0, "the next one is there")
    kill(master_of(server))
    server.wait_log("starts in 0.8 seconds")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    eventually(lambda: not session(server.pid), "nobody is left")


def test_a_supervised_daemon_returns_when_it_serves(serve: Servers, code: Path, folder: Path) -> None:
    """The foreground ends with 0; the pid file has the master's pid, and the next one's after its death."""
    pid_file = folder / "pid"
    server = serve(
        "shop:app",
        "--app-dir",
        str(code),
        "--supervise",
        "--daemon",
        "--pid",
        str(pid_file),
        "--workers",
        "1",
        wait=False,
    )
    assert server.wait() == 0
    first = int(pid_file.read_text())
    kill(first)
    server.wait_log_of_the_dead("NOTICE: took over 1 workers")
    eventually(lambda: int(pid_file.read_text()) != first, "another master has written its pid")
    assert http.get(server.http_address).status == 200
    assert server.command("stop", "--wait").returncode == 0
    eventually(lambda: not pid_file.exists(), "it is gone")
