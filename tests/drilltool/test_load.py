"""The load, against servers that lose requests in every way there is: it has to see each for what it is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from lastcall.tools.drill.engine import Client, Engine, Plan, Request
from lastcall.tools.drill.load import Load
from lastcall.tools.drill.outcomes import Outcome, Seen
from support.processes import WITHIN_S, eventually, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AWAY = b"\x01\0\0\0\0\0\0\0"
"""SO_LINGER that makes close(2) a reset."""

Conduct = Callable[[socket.socket], None]
"""What a server does with a connection whose first bytes are there."""


@contextmanager
def server(conduct: Conduct) -> Iterator[str]:
    """Somebody who behaves like that; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    if client.recv(65536) == b"end":
                        return
                    conduct(client)

        thread = threading.Thread(target=serve)
        thread.start()
        address = "{}:{}".format(*listener.getsockname())
        try:
            yield address
        finally:
            with socket.create_connection(listener.getsockname()) as last:
                last.sendall(b"end")
            thread.join()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AWAY)


def say(*pieces: bytes) -> Conduct:
    """Say this and close."""
    return lambda client: client.sendall(b"".join(pieces))


def stall(client: socket.socket) -> None:
    """Say nothing until the client has had enough."""
    client.recv(1)


def one_load(folder: Path, address: str, requests: int = 1, *, keep: bool = True) -> list[Seen]:
    plan = Plan([Client("front", address, keep=keep)], requests=requests, timeout=0.3, connect_timeout=0.3)
    with Load(plan, folder) as load:
        return load.end()


@pytest.mark.parametrize(
    ("conduct", "what"),
    [
        (say(OK), "200"),
        (say(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), "502"),
        (say(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), "200"),
        (say(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK), "200"),
        (say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "200"),
        (say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "cut inside the answer"),
        (say(OK[:-1]), "cut inside the answer"),
        (say(OK[:9]), "cut inside the answer"),
        (say(), "closed before the head"),
        (reset, "reset before the head"),
        (stall, "timed out"),
    ],
)
def test_each_outcome_is_seen_for_what_it_is(folder: Path, conduct: Conduct, what: str) -> None:
    """Whatever a server does with a request, the load says what it was."""
    with server(conduct) as address:
        (seen,) = [one for one in one_load(folder, address) if one.outcome is not Outcome.LEFT]
    assert seen.what == what
    assert seen.yes == (what == "200")


def test_nobody_listens(folder: Path) -> None:
    """Refused, by TCP and by UNIX."""
    for address in (f"127.0.0.1:{free_port()}", f"unix:{folder}/nobody.sock"):
        (seen,) = one_load(folder, address)
        assert seen.outcome is Outcome.REFUSED


@pytest.mark.parametrize("unix", [False, True])
def test_a_full_queue_makes_a_connection_time_out(folder: Path, unix: bool) -> None:
    """Nobody accepts: the kernel takes what the queue holds, and then no more."""
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as listener:
        listener.bind(f"{folder}/full.sock" if unix else ("127.0.0.1", 0))
        listener.listen(0)
        with socket.socket(listener.family) as first:
            first.connect(listener.getsockname())
            where = listener.getsockname()
            (seen,) = one_load(folder, f"unix:{where}" if unix else "{}:{}".format(*where))
    assert seen.outcome is Outcome.CONNECT_TIMED_OUT


def test_a_close_between_two_requests_is_no_loss_but_is_seen(folder: Path) -> None:
    """A server that closes after each answer although the client would have gone on."""
    with server(say(OK)) as address:
        plan = Plan([Client("front", address)], requests=3, pace=0.05)
        with Load(plan, folder) as load:
            seen = load.end()
    assert [one.what for one in seen if one.outcome is not Outcome.LEFT] == ["200", "200", "200"]
    assert len([one for one in seen if one.outcome is Outcome.LEFT]) == 2


def test_nobody_asks_on_a_connection_that_is_known_to_be_over(folder: Path) -> None:
    """Its end came after the loop had looked for events and before the next request: as on a machine that is busy."""
    with server(say(OK)) as address, (folder / "seen").open("w+b", buffering=0) as out:
        engine = Engine(Plan([Client("front", address)]), out)
        (asker,) = engine._askers.values()
        for _ in range(2):
            asker.begin(time.monotonic(), time.monotonic())
            while not asker.idle:
                for _, mask in engine._epoll.poll(WITHIN_S):
                    asker.on_event(mask)
            eventually(asker.is_over, "the server has closed it")
        asker.close()
        out.seek(0)
        seen = [msgspec.json.decode(line, type=Seen) for line in out]
    assert [one.outcome for one in seen] == [Outcome.ANSWERED, Outcome.LEFT, Outcome.ANSWERED]


def test_no_request_is_sent_twice(folder: Path) -> None:
    """Neither after a reset nor after a close: whoever tries again hides a loss."""
    connections: list[int] = []

    def conduct(client: socket.socket) -> None:
        connections.append(client.fileno())
        (reset, say())[len(connections) % 2](client)

    with server(conduct) as address:
        seen = one_load(folder, address, requests=6)
    assert len(connections) == 6
    assert len({one.id for one in seen}) == 6


def test_the_same_seed_is_the_same_load(folder: Path) -> None:
    """Ids do not depend on chance, and every client asks as often as it was told to."""
    with server(say(OK)) as address:
        ids = [sorted(one.id for one in one_load(folder, address, 3, keep=False)) for _ in range(2)]
    assert ids[0] == ids[1] == ["front.0-00001", "front.0-00002", "front.0-00003"]


# --- How requests are sent -------------------------------------------------------------------


def test_in_an_open_loop_a_stall_counts_for_all_who_would_have_come(folder: Path) -> None:
    """A server that answers nothing for a while delays everybody who arrives meanwhile, sent or not."""
    stalled = threading.Event()

    def conduct(client: socket.socket) -> None:
        if not stalled.is_set():
            stalled.set()
            threading.Event().wait(0.5)
        client.sendall(OK)

    with server(conduct) as address:
        plan = Plan([Client("front", address, keep=False)], rate=100, requests=80, timeout=10)
        with Load(plan, folder) as load:
            seen = [one for one in load.end() if one.outcome is not Outcome.LEFT]
    assert len(seen) == 80
    assert all(one.yes for one in seen)
    late = [one for one in seen if one.took > 0.25]
    assert len(late) >= 20, "who arrived in the first half of the stall has waited for its second half"
    arrivals = sorted(one.began for one in seen)
    assert 0.6 < arrivals[-1] - arrivals[0] < 1.0, "eighty requests arrive within 0.8 s, whatever happens"


def test_in_an_open_loop_nobody_waits_for_a_refusal(folder: Path) -> None:
    """Arrivals go on at their rate, and each is seen."""
    plan = Plan([Client("front", f"127.0.0.1:{free_port()}")] * 2, rate=200, requests=40)
    with Load(plan, folder) as load:
        seen = load.end()
    assert [one.outcome for one in seen] == [Outcome.REFUSED] * 40


def plan(address: str, rate: float) -> Plan:
    return Plan([Client("front", address, keep=False)] * 3, rate=rate, pace=0.005)


def test_a_load_that_is_told_to_stop_ends_what_has_arrived(folder: Path) -> None:
    """In an open loop as in a closed one: what has begun is finished and written down."""
    for rate in (0.0, 200.0):
        with server(say(OK)) as address, Load(plan(address, rate), folder) as load:
            load.more(20)
            seen = load.stop()
        assert all(one.yes for one in seen if one.outcome is not Outcome.LEFT)


def test_a_load_that_is_stopped_before_it_has_begun_has_seen_nothing(folder: Path) -> None:
    """An engine that is still starting has sent nothing."""
    plan = Plan([Client("front", f"127.0.0.1:{free_port()}")], pace=60)
    with Load(plan, folder) as load:
        assert load.stop() == []


def test_a_load_ends_by_itself_when_nobody_tells_it(folder: Path) -> None:
    """Whoever began it may be gone."""
    with server(say(OK)) as address, Load(Plan([Client("front", address)], pace=0.01, lifetime=0.3), folder) as load:
        assert load.end()


def test_a_slow_client_sends_a_request_in_two_halves(folder: Path) -> None:
    """With the time that was asked for between them."""
    arrived: list[tuple[float, int]] = []
    body = "x" * 1000

    def conduct(client: socket.socket) -> None:
        arrived.append((time.monotonic(), 0))
        rest = client.recv(65536)
        arrived.append((time.monotonic(), len(rest)))
        client.sendall(OK)

    request = Request("POST", "/", {}, body)
    with server(conduct) as address:
        halves = Plan([Client("front", address, slow=0.3)], request, requests=1)
        with Load(halves, folder) as load:
            (seen,) = (one for one in load.end() if one.outcome is not Outcome.LEFT)
    assert seen.yes
    assert 0.25 < arrived[1][0] - arrived[0][0] < 5
    assert 0 < arrived[1][1] < 1000
    assert seen.took >= 0.3


def test_an_answer_before_the_whole_request_ends_the_connection(folder: Path) -> None:
    """A client that has been told no sends the rest to nobody."""
    connections: list[int] = []

    def conduct(client: socket.socket) -> None:
        connections.append(1)
        client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        client.recv(65536)

    with server(conduct) as address:
        plan = Plan([Client("front", address, slow=5)], Request("POST", "/", {}, "x" * 1000), requests=2)
        with Load(plan, folder) as load:
            seen = [one for one in load.end() if one.outcome is not Outcome.LEFT]
    assert [one.what for one in seen] == ["413", "413"]
    assert len(connections) == 2
