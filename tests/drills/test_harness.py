"""The drill itself, against servers that lose requests in every way there is: it has to see each for what it is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastcall.tools.drill.outcomes import Outcome, Seen
from support import fcgi
from support.drill.engine import Client, Plan
from support.drill.fronts import Front
from support.drill.judge import Ledgers, Mark, Row, Verdict, bound, by_front, cells, gap, percentile, sentence, table
from support.drill.load import Load
from support.drill.wire import Answer, FastCgiAnswer, HttpAnswer
from support.processes import free_port

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
    assert ids[0] == ids[1] == ["front/0-00001", "front/0-00002", "front/0-00003"]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_answers_are_recognised_in_pieces_of_any_size(size: int) -> None:
    """Byte by byte, and all at once."""
    fastcgi = fcgi.stream(fcgi.STDOUT, b"Status: 503 Busy\r\n\r\nno") + fcgi.record(
        fcgi.END_REQUEST, bytes(8), padding=3
    )
    cases: list[tuple[Answer, bytes, int]] = [
        (HttpAnswer(), OK, 200),
        (HttpAnswer(), b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", 503),
        (FastCgiAnswer(), fastcgi, 503),
    ]
    for answer, data, status in cases:
        for at in range(0, len(data), size):
            assert not answer.done
            answer.feed(data[at : at + size])
        assert (answer.done, answer.status, answer.keep) == (True, status, True)


# --- The judgement ---------------------------------------------------------------------------


def seen(number: int, *, began: float, took: float = 0.01, status: int = 200, front: str = "a b") -> Seen:
    return Seen(f"{front.replace(' ', '_')}/{number}", front, Outcome.ANSWERED, status, began, took, True)


def test_the_gap_is_the_longest_time_without_a_success() -> None:
    """Failures do not fill it."""
    orders = [seen(1, began=0.0), seen(2, began=1.0), seen(3, began=1.5, status=502), seen(4, began=3.0)]
    assert gap(orders) == pytest.approx(2.0)
    assert gap([]) == 0.0


def test_a_percentile_is_a_latency_that_was_measured() -> None:
    """No interpolation."""
    assert percentile([seen(n, began=0, took=n) for n in range(1, 101)], 0.99) == 100
    assert percentile([seen(n, began=0, took=n) for n in range(1, 101)], 0.5) == 51
    assert percentile([], 0.5) == 0


def test_the_rule_of_three() -> None:
    """None of 5334: at 95 % confidence fewer than 0.056 % are lost."""
    assert bound(0, 5334) == pytest.approx(3 / 5334)
    assert bound(4, 1000) == pytest.approx(0.00921, rel=0.02)  # the exact bound of a Poisson rate is 9.15
    assert bound(0, 0) == 1.0
    assert sentence(0, 5334) == "0 of 5334 lost: below 0.056 % at 95 %"


def test_a_verdict_tells_fronts_and_kinds_of_loss_apart() -> None:
    """The ledgers' findings are counted for the front that the order came through."""
    orders = [
        seen(1, began=0),
        seen(2, began=1, status=502),
        seen(3, began=2, status=502),
        seen(4, began=3, front="c"),
        Seen("", "c", Outcome.LEFT, 0, 4, 0, True),
    ]
    ledgers = Ledgers(presents=["a_b/1", "a_b/2", "c/4", "c/4"], orders=["a_b/1", "c/4"])
    verdict = Verdict("TERM", orders, [Mark(1.0, 1.1)], ledgers, {"c": 1})
    ab, c = verdict.rows()
    assert (ab.requests, ab.errors, ab.half_done, ab.left, ab.logged) == (3, {"502": 2}, 1, 0, 0)
    assert (c.requests, c.errors, c.half_done, c.left, c.logged) == (1, {}, 1, 1, 1)
    whole = verdict.whole()
    assert (whole.requests, whole.lost, whole.half_done, whole.logged) == (4, 2, 2, 1)
    assert verdict.findings.half_done == ("a_b/2",)
    assert verdict.findings.sent_twice == ("c/4",)
    assert verdict.findings.failed == ("a_b/3",)
    with pytest.raises(AssertionError):
        verdict.assert_flawless()


def test_what_ends_within_half_a_second_after_an_operation_is_near_it() -> None:
    """And what was under way then, too; the steady percentile knows nothing of it."""
    late = [seen(1, began=9.0, took=1.2), seen(2, began=10.4, took=0.05), seen(3, began=12.0, took=0.02)]
    (row,) = Verdict("HUP", late, [Mark(10.0, 10.1)]).rows()
    assert row.near == pytest.approx(1200)
    assert row.steady == pytest.approx(20)


def test_the_table_is_markdown() -> None:
    """As wide in every line as in the first."""
    lines = table([Row("HUP", "HTTP", 20, 5334, {"502": 2}, 0, 0, 1, 1, 1, 1)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "2 502" in cells(Row("HUP", "HTTP", 20, 5334, {"502": 2}, 0, 0, 1, 1, 1, 1))
    assert set(lines[1]) == {"|", "-"}


def test_a_front_is_judged_by_all_that_came_through_it() -> None:
    """Under whatever operation."""
    rows = [
        Row("HUP", "HTTP", 20, 900, {"502": 2}, 1, 0, 1, 1, 1, 1, 2),
        Row("USR2", "HTTP", 20, 100, {}, 0, 0, 1, 1, 1, 1),
    ]
    assert [cell.strip() for cell in by_front(rows).splitlines()[2].split("|")][1:-2] == [
        "HTTP",
        "1000",
        "2",
        "1",
        "0",
        "2",
    ]


def test_fronts_have_names_that_tell_them_apart() -> None:
    """A table's rows are told apart by them, and so are the orders in the ledgers."""
    assert str(Front(fastcgi=True, unix=False, keep=True, nginx=True)) == "nginx FastCGI TCP kept"
