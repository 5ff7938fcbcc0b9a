"""The load generator: a closed loop of requests over N kept connections, from a process of its own.

    python benchmarks/load.py HOST:PORT PATH CONNECTIONS SECONDS [REQUESTS]

Each connection has one request under way at any time. After a warm-up it prints `ready` and waits for a line; then it
works for SECONDS, or until REQUESTS have been answered, takes the answers that are still due, and prints one JSON
object: the numbers of answers, and of those that were none. Imports little and does little: on two cores it shares
one with the server.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Final

WARM_UP_S: Final = 0.2
CLOSE: Final = b"\r\nconnection: close\r\n"
HEADERS: Final = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Cache-Control", "no-cache"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("Referer", "http://localhost/orders"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Request-Id", "0123456789abcdef"),
    ("Connection", "keep-alive"),
)
"""With Host, the twelve that a browser's request has by the time it has come through a proxy."""


class BrokenAnswer(Exception):
    """The connection ended inside an answer, or what came is none."""


def message(host: str, path: str) -> bytes:
    """The request, always the same."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in HEADERS)]
    return "\r\n".join([*lines, "", ""]).encode()


def complete(answer: bytes) -> bool:
    """Whether an answer has come in whole. Knows Content-Length and the chunked coding."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        return len(body) >= int(fields[b"content-length"])
    if fields.get(b"transfer-encoding", b"").strip() == b"chunked":
        return body.endswith(b"0\r\n\r\n")
    raise BrokenAnswer("an answer that only the end of its connection ends")


class Load:
    """The connections, and the loop over them."""

    def __init__(self, address: str, path: str, connections: int) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._message = message(address, path)
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._partial: dict[int, bytes] = {}
        self._usual = -1  # the length of an answer that leaves its connection open: no need to look into the next
        for _ in range(connections):
            self._open()

    def _open(self) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets[sock.fileno()] = sock
        self._epoll.register(sock, select.EPOLLIN)
        return sock

    def _reopen(self, fd: int) -> socket.socket:
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        return self._open()

    def run(self, seconds: float, requests: int) -> tuple[int, int]:
        """The loop. Returns the number of answers, and of those among them that were no 200."""
        until = time.monotonic() + seconds
        answered = failed = 0
        due = len(self._sockets)
        started = due
        for sock in self._sockets.values():
            sock.sendall(self._message)
        while due:
            going = time.monotonic() < until
            for fd, _ in self._epoll.poll():
                sock = self._sockets[fd]
                data = sock.recv(65536)
                if len(data) != self._usual or self._partial:
                    answer = self._look_into(fd, data)
                    if answer is None:
                        continue
                    data = answer
                    if CLOSE in data.lower():
                        sock = self._reopen(fd)
                answered += 1
                if not data.startswith(b"HTTP/1.1 200 "):
                    failed += 1
                if going and started < requests:
                    started += 1
                    sock.send(self._message)
                else:
                    due -= 1
        return answered, failed

    def _look_into(self, fd: int, data: bytes) -> bytes | None:
        """The whole answer, or None when more of it is to come."""
        answer = self._partial.pop(fd, b"") + data
        if not data:
            raise BrokenAnswer(f"the connection was closed after {len(answer)} bytes of an answer")
        if not complete(answer):
            self._partial[fd] = answer
            return None
        if CLOSE not in answer.lower():
            self._usual = len(answer)
        return answer


def main(address: str, path: str, connections: str, seconds: str, requests: str = "1000000000") -> None:
    """Warm up, wait for the word, work, report."""
    load = Load(address, path, int(connections))
    if float(seconds) < float("inf"):  # counted requests are all that the server shall have seen
        load.run(WARM_UP_S, 1_000_000_000)
    print("ready", flush=True)
    sys.stdin.readline()
    answered, failed = load.run(float(seconds), int(requests))
    print(json.dumps({"answered": answered, "failed": failed}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
