"""One request by hand: whether a server serves, and a request that stops at a step until it is let go."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Final

from lastcall.tools.drill.engine import Client, Request
from lastcall.tools.drill.outcomes import Outcome, Seen
from lastcall.tools.drill.steps import Step
from lastcall.tools.drill.wire import Answer, FastCgiAnswer, HttpAnswer

ASK_S: Final = 2.0
"""Seconds in which a server that serves says so."""
PIECE: Final = 1 << 16


def connect(address: str, within: float) -> socket.socket:
    """A connection to `host:port` or `unix:/path`. Raises OSError."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(within)
        try:
            sock.connect(address.removeprefix("unix:"))
        except OSError:
            sock.close()
            raise
        return sock
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host.strip("[]"), int(port)), timeout=within)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ask(address: str, request: Request, *, fastcgi: bool, within: float = ASK_S) -> int | None:
    """The status of an answer on a connection of its own; None without one."""
    client = Client("ask", address, fastcgi=fastcgi, keep=False)
    answer: Answer = FastCgiAnswer() if fastcgi else HttpAnswer()
    try:
        with connect(address, within) as sock:
            sock.sendall(request.encode(client, 0, "ask/0-0"))
            _receive(sock, answer)
    except OSError:
        return None
    return answer.status if answer.done else None


def _receive(sock: socket.socket, answer: Answer) -> None:
    while not answer.done:
        data = sock.recv(PIECE)
        if not data:
            answer.end()
            return
        answer.feed(data)


class Probe(threading.Thread):
    """A client that sends one request, and waits at one of a client's steps until `release`.

    At `Step.IDLE` it sends a second one when it is released, on the connection that it has kept: or on a new one where it
    can see that the server has closed the old one.
    """

    def __init__(self, client: Client, request: Request, name: str, step: Step | None, timeout: float) -> None:
        super().__init__(name=name, daemon=True)
        self.seen: list[Seen] = []
        self.reached = threading.Event()
        """It is at its step; or it has ended before."""
        self._client = client
        self._request = request
        self._step = step
        self._timeout = timeout
        self._released = threading.Event()

    def release(self) -> None:
        """Go on."""
        self._released.set()

    def run(self) -> None:
        """The request, from beginning to end."""
        sock = self._connect("1")
        if sock is not None and self._step is Step.IDLE:
            self._exchange(sock, "1", None)
            self._wait()
            if select.select([sock], [], [], 0)[0]:  # it has been closed: a client can see that, and asks anew
                sock.close()
                sock = self._connect("2")
            if sock is not None:
                self._exchange(sock, "2", None)
        elif sock is not None:
            self._exchange(sock, "1", self._step)
        if sock is not None:
            sock.close()
        self.reached.set()

    def _connect(self, number: str) -> socket.socket | None:
        began = time.monotonic()
        try:
            return connect(self._client.address, self._timeout)
        except OSError as error:
            outcome = Outcome.CONNECT_TIMED_OUT if isinstance(error, TimeoutError) else Outcome.REFUSED
            self._tell(number, began, outcome, 0, str(error))
            return None

    def _wait(self) -> None:
        self.reached.set()
        self._released.wait(self._timeout)

    def _exchange(self, sock: socket.socket, number: str, step: Step | None) -> None:
        began = time.monotonic()
        data = self._request.encode(self._client, 0, self.order(number))
        at = {Step.CONNECTED: 0, Step.HALF_HEAD: _head(data) // 2, Step.HALF_BODY: (_head(data) + len(data)) // 2}
        answer: Answer = FastCgiAnswer() if self._client.fastcgi else HttpAnswer()
        error: OSError | None = None
        try:
            if step in at:
                sock.sendall(data[: at[step]])
                self._wait()
                data = data[at[step] :]
            sock.sendall(data)
        except OSError as broken:
            error = broken  # the answer may have come before the reset
        try:
            _receive(sock, answer)
        except OSError as broken:
            error = error or broken
        self._tell(number, began, _outcome(answer, error), answer.status if answer.done else 0, str(error or ""))

    def order(self, number: str = "1") -> str:
        """The id of its first request, or of the second."""
        return f"{self._client.front}.{self.name}-{number}"

    def _tell(self, number: str, began: float, outcome: Outcome, status: int, detail: str) -> None:
        took = time.monotonic() - began
        seen = Seen(
            self.order(number), self._client.front, outcome, status, began, took, number != "1", False, detail,
            str(self._step or ""),
        )  # fmt: skip
        self.seen.append(seen)


def _head(data: bytes) -> int:
    """Bytes of an HTTP head; of other protocols half of what there is."""
    end = data.find(b"\r\n\r\n")
    return end + 4 if end >= 0 else len(data) // 2


def _outcome(answer: Answer, error: OSError | None) -> Outcome:
    if answer.done:
        return Outcome.ANSWERED
    if isinstance(error, TimeoutError):
        return Outcome.TIMED_OUT
    if answer.begun:
        return Outcome.CUT
    return Outcome.RESET if error is not None else Outcome.CLOSED
