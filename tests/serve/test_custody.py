"""A worker is killed, and its clients are answered on the connection that they have (guarantee G2)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import connect, eventually, holds

Shop = Callable[..., Server]
PIDFD_GETFD = 438
"""The number of the system call, the same on every machine."""
FAULTS = ["/segv", "/exit/3", "/exit/0", "/abort"]


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
        """Who runs it."""
        return int(self.end.with_suffix(".begun").read_text())


def ask(server: Server, folder: Path, method: str = "GET", name: str = "end", body: bytes | None = None) -> Asked:
    """Send it, and wait until it has begun."""
    end = folder / f"{name}.flag"

    def run() -> None:
        try:
            with http.Connection(server.http_address) as connection:
                asked.answers.append(connection.request(method, f"/wait{end}", body))
        except (http.Closed, OSError) as error:
            asked.closed.append(repr(error))

    asked = Asked(threading.Thread(target=run), end)
    asked.thread.start()
    eventually(lambda: end.with_suffix(".begun").exists() and end.with_suffix(".begun").read_text(), "it has begun")
    return asked


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def keepers(server: Server) -> list[int]:
    """The custodians."""
    return sorted(set(server.processes()) - set(server.workers()))


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_safe_request_is_run_again_on_the_same_connection(
    shop: Shop, folder: Path, threads: str, workers: str
) -> None:
    """GET: another worker reads it from the kernel, where it still is; the application can tell."""
    server = shop("--workers", workers, "--threads", threads)
    asked = ask(server, folder)
    first = asked.worker
    asked.end.with_suffix(".begun").unlink()
    kill(first)
    eventually(asked.end.with_suffix(".begun").exists, "it has begun again")
    asked.end.touch()
    answer = asked.answer()
    assert (answer.status, answer.body) == (200, b"waited\n")
    assert answer.header("x-attempt") == "2"
    assert asked.worker != first


def test_a_worker_is_in_custody_whatever_the_one_before_has_closed(shop: Shop, folder: Path) -> None:
    """An application lets go of its output; in the next worker the master's ends have numbers that are its own."""
    server = shop("--catch-output", "--workers", "1")
    (first,) = server.workers()
    assert holds(server.pid, "pipe") == 2
    http.get(server.http_address, "/hush")
    eventually(lambda: holds(server.pid, "pipe") == 0, "the master has heard that nobody writes there")
    assert server.command("scale", "+1").returncode == 0, server.everything()
    eventually(lambda: [each.stage for each in server.status().workers] == ["ready"] * 2, "the new one is there")
    (second,) = set(server.workers()) - {first}
    one, two = (ask(server, folder, "POST", name, b"order") for name in ("one", "two"))
    asked, other = (one, two) if one.worker == second else (two, one)
    kill(second)
    assert asked.answer().status == 503
    other.end.touch()
    assert other.answer().status == 200
    server.wait_log(f"child {second} exited on signal 9")
    kill(first)
    eventually(lambda: [each.stage for each in server.status().workers] == ["ready"] * 2, "the pool is whole")
    for number in range(20):
        http.get(server.http_address, f"/print/number-{number}-of-20")
        server.wait_log(f"number-{number}-of-20")


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_request_that_may_have_done_something_gets_an_honest_answer(shop: Shop, folder: Path, threads: str) -> None:
    """POST: 503, what had begun, and how far it had got, as far as anybody knows."""
    server = shop("--threads", threads)
    asked = ask(server, folder, "POST", body=b"order")
    kill(asked.worker)
    answer = asked.answer()
    assert answer.status == 503
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("retry-after") == "1"
    assert answer.header("connection") == "close"
    problem = json.loads(answer.body)
    assert problem["status"] == 503
    assert problem["begun"] is True
    assert problem["request_id"] in server.log()
    assert "answered 503" in server.log()


def test_the_rule_can_be_another_one(shop: Shop, folder: Path) -> None:
    """`--replay idempotent` runs a PUT again, `--replay none` nothing."""
    server = shop("--replay", "idempotent")
    asked = ask(server, folder, "PUT", body=b"x")
    asked.end.with_suffix(".begun").unlink()
    kill(_runs(server))
    eventually(asked.end.with_suffix(".begun").exists, "it has begun again")
    asked.end.touch()
    assert asked.answer().status == 200
    server = shop("--replay", "none")
    asked = ask(server, folder, name="other")
    kill(asked.worker)
    assert asked.answer().status == 503


def _runs(server: Server) -> int:
    """The worker that has a request in flight."""
    (pid,) = [worker.pid for worker in server.status().workers if worker.in_flight]
    assert pid is not None
    return pid


def test_connections_without_a_request_outlive_their_worker(shop: Shop) -> None:
    """Idle, silent, with half a head: nobody sees that the worker is another."""
    server = shop("--workers", "1")
    kept, silent, half = (http.Connection(server.http_address) for _ in range(3))
    first = kept.request("GET", "/pid").body
    half.send(b"GET /pid HTTP/1.1\r\nHo")
    eventually(lambda: server.status().workers[0].connections == 3, "it has all three")
    kill(int(first))
    half.send(b"st: test\r\n\r\n")
    after = half.response().body
    assert after != first
    assert kept.request("GET", "/pid").body == after
    assert silent.request("GET", "/pid").body == after
    for connection in (kept, silent, half):
        connection.close()
    assert "was cut" not in server.log()


def test_half_a_body_stays_where_it_is(shop: Shop) -> None:
    """A request that had not begun is run for the first time, whatever its method."""
    server = shop("--workers", "1")
    with http.Connection(server.http_address) as connection:
        first = connection.request("GET", "/pid").body
        connection.send(http.head("POST", "/pid", b"0123456789") + b"01234")
        kill(int(first))
        server.wait_log("exited on signal 9")
        connection.send(b"56789")
        answer = connection.response("POST")
    assert answer.status == 200
    assert answer.body != first


def test_a_large_body_that_was_being_read_is_refused_before_it_began(shop: Shop) -> None:
    """Its first part died with the worker: 503, and `begun` is false."""
    server = shop("--workers", "1")
    with http.Connection(server.http_address) as connection:
        first = connection.request("GET", "/pid").body
        connection.send(http.head("POST", "/pid", b"x" * 300_000) + b"x" * 100_000)
        eventually(lambda: _unread(connection) == 0, "the worker has read it")
        kill(int(first))
        answer = connection.response("POST")
    assert answer.status == 503
    assert json.loads(answer.body)["begun"] is False


def _unread(connection: http.Connection) -> int:
    """Bytes that the other side has not read, of a loopback connection."""
    host, port = connection.socket.getsockname()
    mine = f"{int.from_bytes(bytes(map(int, host.split('.'))), 'little'):08X}:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2] == mine:
            return int(fields[4].split(":")[1], 16)
    raise AssertionError("no such connection")


def test_half_an_answer_does_not_pass_for_a_whole_one(shop: Shop, folder: Path) -> None:
    """A byte of it has left: the connection is reset, and the log says that it was cut."""
    server = shop("--workers", "1")
    connection = http.Connection(server.http_address)
    connection.send(http.head("GET", f"/stream{folder / 'end.flag'}"))
    connection._more()
    assert connection.leftover.startswith(b"HTTP/1.1 200")
    kill(_runs(server))
    with pytest.raises((http.Closed, ConnectionResetError)):
        connection.response()
    connection.close()
    server.wait_log("was cut after")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fastcgi_likewise(serve: Servers, code: Path, folder: Path, method: str) -> None:
    """The front's request is answered under its own id, and its connection stays: it would not be told of the end."""
    server = serve("shop:app", "--app-dir", str(code), http=False, fastcgi=True)
    end = folder / "end.flag"
    variables = {"REQUEST_METHOD": method, "REQUEST_URI": f"/wait{end}", "SCRIPT_NAME": f"/wait{end}"}
    answers: list[fcgi.Response] = []
    sock = connect(server.fastcgi_address)
    thread = threading.Thread(target=lambda: answers.append(fcgi.request(sock, variables, keep=True)))
    thread.start()
    eventually(end.with_suffix(".begun").exists, "it has begun")
    kill(_runs(server))
    server.wait_log("exited on signal 9")
    end.touch()
    thread.join()
    (answer,) = answers
    more = fcgi.request(sock, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/pid", "SCRIPT_NAME": "/pid"}, keep=True)
    sock.close()
    assert more.status.startswith("200")
    assert answer.status.startswith("200" if method == "GET" else "503")
    if method == "POST":
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["begun"] is True


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_kills_two_workers_kills_no_third(shop: Shop, fault: str) -> None:
    """Poison: 500, quarantined, named; others are not affected."""
    server = shop("--workers", "2", "--replay", "safe")
    answer = http.get(server.http_address, fault)
    assert answer.status == 500
    assert "poison" in server.log()
    eventually(lambda: [worker.stage for worker in server.status().workers] == ["ready"] * 2, "the pool is whole")
    assert server.status().restarts == 2
    assert http.get(server.http_address, fault).status == 500
    assert http.post(server.http_address, fault, b"").status == 503  # another kind: it has killed nobody yet
    assert http.get(server.http_address).status == 200
    eventually(lambda: server.status().restarts == 3, "the POST killed one")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_crash_is_answered_like_a_kill(shop: Shop, fault: str) -> None:
    """Segmentation fault, exit in the middle, abort: 503 for a POST."""
    server = shop()
    assert http.post(server.http_address, fault, b"order").status == 503
    assert http.get(server.http_address).status == 200


def test_requests_beside_the_one_that_crashes_are_not_lost(shop: Shop, folder: Path) -> None:
    """Threads: the others of the same worker are run again, or answered."""
    server = shop("--workers", "1", "--threads", "4")
    asked = ask(server, folder)
    assert http.post(server.http_address, "/segv", b"").status == 503
    asked.end.touch()
    assert asked.answer().status == 200


def test_where_several_were_running_none_is_called_poison(shop: Shop, folder: Path) -> None:
    """Threads: one of two has taken two workers with it. Neither is run a third time, and the other is not kept away."""
    server = shop("--workers", "1", "--threads", "4")
    asked = ask(server, folder)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(http.get(server.http_address, "/segv").status))
    thread.start()
    thread.join()
    asked.end.touch()
    asked.thread.join()
    assert statuses[0] in (500, 503)
    assert [answer.status for answer in asked.answers] in ([200], [503])
    eventually(lambda: server.status().restarts == 2, "two workers have died")
    assert f'"GET /wait{asked.end}" has ended' not in server.log()


def test_without_custody_a_death_is_only_named(shop: Shop, folder: Path) -> None:
    """`--custody off`: no custodian; the client sees a close, the log the name."""
    server = shop("--custody", "off")
    assert keepers(server) == []
    asked = ask(server, folder)
    kill(asked.worker)
    asked.thread.join()
    assert asked.closed
    server.wait_log("was cut after")


def test_a_custodian_that_is_killed_as_well_leaves_the_name(shop: Shop, folder: Path) -> None:
    """There is nobody left to answer, and the log says so."""
    server = shop()
    asked = ask(server, folder)
    for pid in keepers(server):
        kill(pid)
    kill(asked.worker)
    asked.thread.join()
    assert asked.closed
    server.wait_log("nobody to answer")
    assert http.get(server.http_address).status == 200


def test_deaths_leave_nothing_behind(shop: Shop) -> None:
    """No descriptor, no process: after twenty deaths as after two."""
    server = shop("--workers", "2")

    def state() -> tuple[int, int]:
        eventually(lambda: [worker.stage for worker in server.status().workers] == ["ready"] * 2, "the pool is whole")
        eventually(lambda: len(server.processes()) == 4, "two workers and their custodians")
        return len(list(Path(f"/proc/{server.pid}/fd").iterdir())), len(server.processes())

    with http.Connection(server.http_address) as connection:

        def die(times: int) -> None:
            for number in range(times):
                pid = int(connection.request("GET", "/pid").body)
                deaths = server.status().restarts
                kill(pid)
                eventually(lambda: server.status().restarts > deaths, f"death {number} is noticed")  # noqa: B023

        die(2)
        before = state()
        die(18)
        eventually(lambda: state() == before, "as many as before")


def test_for_want_of_memory_the_kernel_takes_a_worker_before_the_master(shop: Shop) -> None:
    """Who is no larger than the others, and would be the next while the first is still dying."""
    server = shop()

    def adjustment(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert all(adjustment(pid) > adjustment(server.pid) for pid in server.workers())


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_number_that_is_used_again_hears_nothing_of_who_had_it(shop: Shop, folder: Path, threads: str) -> None:
    """A connection that has come from a dead worker is in other hands, too, for a moment: its master's, its custodian's.
    The worker that closes it meanwhile, and has another under its number, must not take one's news for the other's.
    """
    server = shop("--workers", "1", "--threads", threads)
    with http.Connection(server.http_address) as first:
        worker = int(first.request("GET", "/pid").body)
        held = others_hands(worker, first.socket.getsockname())
    with held:
        eventually(lambda: server.status().workers[0].connections == 0, "it is closed")
        asked = ask(server, folder, "POST", body=b"order")
        if threads != "1":
            for _ in range(3):
                assert http.get(server.http_address, "/pid").status == 200
        assert [len(each.in_flight) for each in server.status().workers] == [1]
        asked.end.touch()
        assert asked.answer().status == 200


def others_hands(pid: int, peer: object) -> socket.socket:
    """A process's connection with this peer, in our hands as well (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    found = [libc.syscall(PIDFD_GETFD, process, int(each.name), 0) for each in Path(f"/proc/{pid}/fd").iterdir()]
    os.close(process)
    sockets = []
    for fd in found:
        if fd >= 0 and stat.S_ISSOCK(os.fstat(fd).st_mode):
            sockets.append(socket.socket(fileno=fd))
        elif fd >= 0:
            os.close(fd)
    (wanted,) = [each for each in sockets if has_peer(each, peer)]
    for each in sockets:
        if each is not wanted:
            each.close()
    return wanted


def has_peer(sock: socket.socket, peer: object) -> bool:
    try:
        return bool(sock.getpeername() == peer)
    except OSError:
        return False


def test_custodians_go_with_their_workers(shop: Shop) -> None:
    """Reload, scaling down, stop: none stays."""
    server = shop("--workers", "2")
    before = keepers(server)
    assert len(before) == 2
    assert server.command("reload", "--wait").returncode == 0
    eventually(lambda: len(server.processes()) == 4, "two of each")
    assert set(keepers(server)).isdisjoint(before)
    assert server.stop() == 0
    assert "unknown child" not in server.log()
