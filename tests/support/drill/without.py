"""lastcall with one of its mechanisms switched off, for drills that must then find a loss.

    python -m support.drill.without hand-over serve app:app ...

A drill that finds nothing proves nothing unless it finds what is there to be found. Nothing of this is in the product: one
function of it is replaced before it runs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lastcall.core.address import Address
from lastcall.gateway import loading, wsgi
from lastcall.protocol.link import Word
from lastcall.runtime import closing, master, removal, serve, sockets
from lastcall.runtime.sockets import Listener
from lastcall.runtime.surroundings import Link, Resources
from lastcall.runtime.worker import boot, orphan, worker
from lastcall.runtime.worker.connection import Connection

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def _replace(owner: object, name: str, replacement: object) -> None:
    """A mechanism that has moved must be found again, or its drill proves nothing any more."""
    assert hasattr(owner, name), f"{owner} has no {name}: where has it gone?"
    setattr(owner, name, replacement)


def hand_over() -> None:
    """A draining worker closes its idle connections, as servers do."""

    def depart(self: worker.Worker, connection: Connection, now: float) -> bool:
        self.close(connection)
        return True

    _replace(worker.Worker, "_depart", depart)


def silence() -> None:
    """A worker is told to drain by SIGTERM, for which it has a handler: as gunicorn's are."""
    tell = master.Master._tell

    def signalled(self: master.Master, link: Link, word: Word, fds: tuple[int, ...] = ()) -> None:
        if word in (Word.DRAIN, Word.REST) and link.pid:
            os.kill(link.pid, signal.SIGTERM)
        else:
            tell(self, link, word, fds)

    _replace(master.Master, "_tell", signalled)


def kill_gate() -> None:
    """And it has none: as php-fpm's, which are cut after 13 microseconds."""
    silence()
    _replace(boot, "_take_signals", lambda _worker: None)


def shared_listener() -> None:
    """Each generation opens TCP listeners of its own (SO_REUSEPORT), and the old ones are closed with theirs."""
    known = serve._known

    def known_unix(before: Resources | None, address: Address, *, fastcgi: bool) -> Listener | None:
        return known(before, address, fastcgi=fastcgi) if address.family == "unix" else None

    def own(address: Address) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((address.host, address.port))
        return sock

    _replace(serve, "_known", known_unix)
    _replace(removal.Removals, "begin", lambda *_: None)
    _replace(sockets, "_tcp", own)


def readiness() -> None:
    """A worker says that it is ready before the application is imported, and imports it at the first request."""
    load = loading.load

    def later(*arguments: str | bool, **settings: str | bool) -> wsgi.Application:
        loaded: list[wsgi.Application] = []

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if not loaded:
                loaded.append(load(*arguments, **settings))  # type: ignore[arg-type]
            return loaded[0](environ, start_response)

        return app

    _replace(loading, "load", later)


def last_look() -> None:
    """A stopping pool closes its listeners at once, whoever stands in their queues."""

    def shut(self: closing.Closing, _now: float) -> None:
        for listener in self._open:
            listener.sock.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    _replace(closing.Closing, "look", shut)


def adoption() -> None:
    """A worker without a master drains, gives its connections away, and ends."""

    def drain(self: orphan.Orphan) -> None:
        self._worker.draining = True
        self._worker.nudge()

    _replace(orphan.Orphan, "begin", drain)


MECHANISMS: dict[str, Callable[[], None]] = {
    "hand-over": hand_over,
    "silence": silence,
    "kill-gate": kill_gate,
    "shared-listener": shared_listener,
    "readiness": readiness,
    "last-look": last_look,
    "adoption": adoption,
}


def main() -> None:
    """Switch it off, and be lastcall."""
    from lastcall import cli  # noqa: PLC0415 (what is imported before is what is replaced)

    MECHANISMS[sys.argv.pop(1)]()
    cli.main(prog_name="lastcall")


if __name__ == "__main__":
    main()
