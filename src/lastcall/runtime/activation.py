"""What systemd hands us at the start: sockets that it has opened (a socket unit), and those that it has kept (FDSTORE)."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from lastcall.protocol import notify
from lastcall.protocol.papers import INBOX_IN, INBOX_OUT, Papers, from_name
from lastcall.runtime.heritage import Inherited, Source


@dataclass(frozen=True, slots=True)
class Activation:
    """Listening sockets, the ends of an inbox or None, and the names of descriptors that are of no use."""

    found: list[Inherited] = field(default_factory=list)
    inbox: tuple[socket.socket, socket.socket] | None = None
    useless: list[str] = field(default_factory=list)

    @property
    def speaks(self) -> bool:
        """A socket says by its name which protocol it is for: then nothing has to be configured."""
        return any(each.papers.activated for each in self.found)


def take(environ: MutableMapping[str, str] = os.environ, pid: int | None = None) -> Activation:
    """What the environment says is ours, from which it is removed: programs that we start must not find it."""
    given = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")}
    names = notify.listen_fds(given["LISTEN_PID"], given["LISTEN_FDS"], given["LISTEN_FDNAMES"], pid or os.getpid())
    activation = Activation()
    ends: dict[str, socket.socket] = {}
    for fd, name in enumerate(names, notify.LISTEN_FDS_START):
        sock = _socket(fd)
        if sock is None:
            activation.useless.append(f"{name} (fd {fd})")
        elif name in (INBOX_OUT, INBOX_IN):
            ends[name] = sock
        else:
            activation.found.append(_inherited(sock, from_name(name)))
    if len(ends) == 2:
        return Activation(activation.found, (ends[INBOX_OUT], ends[INBOX_IN]), activation.useless)
    for sock in ends.values():
        sock.close()
    return activation


def _inherited(sock: socket.socket, papers: Papers) -> Inherited:
    if papers.number is not None:
        return Inherited(sock, Source.STORED, papers)
    return Inherited(sock, Source.ACTIVATION, Papers(papers.protocol, lent=True, activated=bool(papers.protocol)))


def _socket(fd: int) -> socket.socket | None:
    """The descriptor as a socket that no program we start inherits; None, and closed, when it is none."""
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.set_inheritable(fd, False)
            return socket.socket(fileno=fd)
    except OSError:
        pass
    with contextlib.suppress(OSError):
        os.close(fd)
    return None
