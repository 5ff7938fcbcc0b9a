"""A server that loses on purpose, in each way there is: the drill has to name each."""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import threading
import urllib.parse
from pathlib import Path

import msgspec
import pytest

from drilltool.conftest import SHORT
from lastcall.tools.drill import conduct as conducting
from lastcall.tools.drill.conduct import conduct
from lastcall.tools.drill.engine import Client, Request
from lastcall.tools.drill.judge import Books
from lastcall.tools.drill.ledgers import Hold, Ledgers
from lastcall.tools.drill.load import Load
from lastcall.tools.drill.outcomes import Amiss
from lastcall.tools.drill.processes import Failed
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.results import Run, Strength
from lastcall.tools.drill.server import Done, free_port
from lastcall.tools.drill.steps import Step

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AWAY = b"\x01\0\0\0\0\0\0\0"
"""SO_LINGER that makes close(2) a reset."""

Actions = tuple[str, ...]
"""Which calls it makes to the ledgers: /sendPresent, /order."""


def no(status: int) -> bytes:
    return f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()


BOTH: Actions = ("/sendPresent", "/order")
WAYS: dict[str, tuple[Actions, bytes, bool, Amiss, str]] = {
    "half-done": (("/sendPresent",), b"", True, Amiss.HALF_DONE, "reset before the head"),
    "half-done-and-told-502": (("/sendPresent",), no(502), False, Amiss.HALF_DONE, "502"),
    "second-only": (("/order",), no(502), False, Amiss.UNASKED, "502"),
    "done-not-told": (BOTH, b"", True, Amiss.UNTOLD, "reset before the head"),
    "done-and-cut": (BOTH, OK[:-1], False, Amiss.UNTOLD, "cut inside the answer"),
    "never-begun": ((), b"", False, Amiss.NEVER_BEGUN, "closed before the head"),
    "refused-with-503": ((), no(503), False, Amiss.NEVER_BEGUN, "503"),
    "gave-up-with-504": (BOTH, no(504), False, Amiss.UNTOLD, "504"),
    "twice": (BOTH * 2, OK, False, Amiss.TWICE, "200"),
    "told-not-done": ((), OK, False, Amiss.TOLD_NOT_DONE, "200"),
    "told-half-done": (("/sendPresent",), OK, False, Amiss.TOLD_NOT_DONE, "200"),
    "silent": ((), b"silence", False, Amiss.NEVER_BEGUN, "timed out"),
}
"""What it does, what it says, whether it resets; what that is called in the books, and by the client."""


class Loser:
    """A stage whose server serves well until the operation, and then, three times, as it is told to."""

    name, title, protocol, strategy, strategy_title = "loser", "a loser", "HTTP", "hup", "HUP"
    path = Way.DIRECT
    settings: dict[str, str] = {}
    seconds, most = 60.0, 0

    def __init__(self, way: str) -> None:
        self._actions, self._says, self._resets, *_ = WAYS[way]
        self.patience = 2.0 if self._says == b"silence" else 20.0
        self._left = 0
        self._lock = threading.Lock()
        self._ledgers = Ledgers(0.0)
        loser = self

        class Exchange(socketserver.BaseRequestHandler):
            """One connection, for one request."""

            def handle(self) -> None:
                loser._exchange(self.request)

        class Listener(socketserver.ThreadingTCPServer):
            request_queue_size = 64
            allow_reuse_address = True
            daemon_threads = True

        self._server = Listener(("127.0.0.1", free_port()), Exchange)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def open(self) -> None:
        self._ledgers.__enter__()
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._ledgers.__exit__(None, None, None)

    def operate(self, hold: Hold | None = None) -> Done:
        with self._lock:
            self._left = 3
        return Done("kill -HUP 7")

    def workers(self) -> set[int]:
        return set()

    def client(self, name: str) -> Client:
        host, port = self._server.server_address[:2]
        return Client(name, f"{host!s}:{port}", keep=False)

    def request(self) -> Request:
        return Request("POST", "/send?id={id}", {}, '{"order": "{id}"}')

    def books(self) -> Books | None:
        return self._ledgers.books()

    def hold(self, order: str, step: Step) -> Hold | None:
        return self._ledgers.hold(order, step)

    def errors(self) -> list[tuple[float, str, str]]:
        return []

    def _exchange(self, sock: socket.socket) -> None:
        data = b""
        while b'"}' not in data:
            more = sock.recv(65536)
            if not more:
                return
            data += more
        order = str(json.loads(data.partition(b"\r\n\r\n")[2])["order"])
        with self._lock:
            lose, self._left = self._left > 0, max(0, self._left - 1)
        self._act(order, self._actions if lose else BOTH)
        if not lose:
            sock.sendall(OK)
        elif self._says == b"silence":
            sock.recv(1)
        else:
            sock.sendall(self._says)
            if self._resets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AWAY)
                sock.close()

    def _act(self, order: str, actions: Actions) -> None:
        where = urllib.parse.urlsplit(self._ledgers.url)
        ledgers = http.client.HTTPConnection(where.hostname or "", where.port)
        for path in actions:
            ledgers.request("POST", path, json.dumps({"order": order}))
            ledgers.getresponse().read()
        ledgers.close()


class Nobody:
    """Looks on."""

    def load(self, load: Load) -> None:
        pass

    def struck(self, restarts: int) -> None:
        pass


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time before and after: nothing of it is what is tested."""
    monkeypatch.setattr(conducting, "WARM_S", 0.2)
    monkeypatch.setattr(conducting, "TAIL_S", 0.2)


def drill(stage: Loser, folder: Path, *steps: Step) -> Run:
    settings = msgspec.structs.replace(SHORT, timeout=stage.patience, restarts=1, pace=0.02)
    return conduct(stage, settings, 0.05 if steps else 0.4, steps, folder, Nobody())


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_losing_has_its_name(folder: Path, way: str) -> None:
    """Three requests are lost so: in the books, in what clients saw, in the reasons, and in the verdict."""
    *_, amiss, what = WAYS[way]
    run = drill(Loser(way), folder)
    assert run.failed == ""
    assert run.verdict.lost == 3, run.verdict.sentence
    assert run.verdict.strength is Strength.PROVED
    if what != "200":
        assert {kind: count for kind, count in run.outcomes.items() if kind != "200"} == {what: 3}
    assert run.ledgers is not None
    counts = msgspec.structs.asdict(run.ledgers)
    fields = {
        Amiss.HALF_DONE: "half_done", Amiss.UNASKED: "unasked", Amiss.TWICE: "twice", Amiss.UNTOLD: "untold",
        Amiss.NEVER_BEGUN: "never_begun", Amiss.TOLD_NOT_DONE: "told_not_done",
    }  # fmt: skip
    assert {name: counts[name] for name in fields.values() if counts[name]} == {fields[amiss]: 3}
    reasons = {reason.what: reason.count for reason in run.reasons}
    assert all(count == 3 for count in reasons.values())
    assert reasons.keys() == ({str(amiss)} - {str(Amiss.NEVER_BEGUN)}) | ({what} - {"200"})
    lost = [index for index, mark in enumerate(run.records.amiss) if run.records.ledger[mark] == amiss]
    assert [run.records.near[index] for index in lost] == [0, 0, 0]


def test_refused_at_connect_is_a_loss_that_is_safe(folder: Path) -> None:
    """Nobody listens after the operation."""

    class Closing(Loser):
        def operate(self, hold: Hold | None = None) -> Done:
            self._server.shutdown()
            self._server.socket.close()
            return Done("kill -HUP 7")

    run = drill(Closing("half-done"), folder)
    assert run.verdict.lost > 0
    assert "refused" in run.outcomes
    assert run.outcomes.keys() <= {"200", "refused", "reset before the head"}, "who was in the queue is reset"
    assert run.ledgers is not None
    assert (run.ledgers.half_done, run.ledgers.never_begun) == (0, run.verdict.lost)


def test_a_server_that_loses_nothing_has_lost_nothing(folder: Path) -> None:
    """The control."""

    class Sound(Loser):
        def operate(self, hold: Hold | None = None) -> Done:
            return Done("kill -HUP 7")

    run = drill(Sound("half-done"), folder)
    assert (run.verdict.lost, run.verdict.strength, run.reasons, run.recommendation) == (0, Strength.BOUNDED, [], "")
    assert run.ledgers is not None
    assert run.ledgers.first == run.ledgers.second == run.requests


def test_a_request_is_held_at_each_step_while_the_operator_strikes(folder: Path) -> None:
    """All steps: the records say which request was where; a server that loses none then is proved."""

    class Sound(Loser):
        def operate(self, hold: Hold | None = None) -> Done:
            return Done("kill -HUP 7")

    run = drill(Sound("half-done"), folder, *Step)
    assert run.verdict.strength is Strength.ENUMERATED
    assert run.verdict.sentence.endswith("none at any of the 8 steps of a request")
    assert len(run.restarts) == len(Step)
    assert set(run.records.step.values()) == {str(step) for step in Step}
    for index, step in run.records.step.items():
        if step not in (Step.IDLE, Step.CONNECTED):
            assert run.records.took[index] > 0.5, f"it was held at {step}"


def test_an_operation_that_fails_ends_the_run_with_what_there_is(folder: Path) -> None:
    """Why, and what was seen until then."""

    class Stubborn(Loser):
        def operate(self, hold: Hold | None = None) -> Done:
            raise Failed("it does not start again")

    run = drill(Stubborn("half-done"), folder)
    assert run.failed == "it does not start again"
    assert run.requests > 0
    assert run.verdict.strength is Strength.NONE


def test_after_ctrl_c_the_run_is_what_there_was(folder: Path) -> None:
    """Everything that was started is ended, and what was seen is judged."""

    class Impatient(Loser):
        def operate(self, hold: Hold | None = None) -> Done:
            super().operate()
            raise KeyboardInterrupt

    run = drill(Impatient("half-done"), folder)
    assert run.interrupted
    assert run.outcomes["200"] > 0
