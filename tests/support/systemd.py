"""systemd, as far as a service sees it: it hands sockets over at a start, and keeps those that it is sent.

Executed as a program it is what systemd does between fork and exec: it takes the descriptors from the test, places them from
3 on, and becomes the service.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path

FDS_MAX = 64


class Manager:
    """The test's side. `before` and `env` are for a `Server`; `kept` is the store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.said: list[str] = []
        self.kept: dict[str, list[int]] = {}
        self.activated: list[tuple[str, socket.socket]] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._birth = socket.socket(socket.AF_UNIX)
        self._birth.bind(str(folder / "birth"))
        self._birth.listen()

    def env(self, *, room: int = 0) -> dict[str, str]:
        """The environment of the service; `room` as FileDescriptorStoreMax."""
        store = {"FDSTORE": str(room)} if room else {}
        return {"NOTIFY_SOCKET": str(self._folder / "notify"), **store}

    @property
    def before(self) -> tuple[str, ...]:
        """The program that becomes the service."""
        return (sys.executable, __file__, str(self._folder / "birth"))

    def listen(self, name: str, host: str = "127.0.0.1") -> str:
        """A socket unit with this FileDescriptorName; its address."""
        sock = socket.socket()
        sock.bind((host, 0))
        sock.listen(511)
        self.activated.append((name, sock))
        return f"{host}:{sock.getsockname()[1]}"

    def give(self) -> None:
        """Hand over what was activated and what is kept, to the service that is being started."""
        self.hear()
        given = [(name, sock.fileno()) for name, sock in self.activated]
        given += [(name, fd) for name, fds in self.kept.items() for fd in fds]
        service, _ = self._birth.accept()
        with service:
            names = ":".join(name for name, _ in given).encode()
            socket.send_fds(service, [names or b":"], [fd for _, fd in given])

    def hear(self) -> None:
        """Read what the service has said, and keep what it wants kept; the same descriptor under a name once."""
        while select.select([self._notify], [], [], 0)[0]:
            message, fds, _, _ = socket.recv_fds(self._notify, 4096, FDS_MAX)
            lines = message.decode().splitlines()
            self.said += lines
            names = [line.partition("=")[2] for line in lines if line.startswith("FDNAME=")]
            if "FDSTORE=1" in lines:
                assert "FDPOLL=0" in lines
                for fd in fds:
                    self._keep(names[0], fd)
            elif "FDSTOREREMOVE=1" in lines:
                for fd in self.kept.pop(names[0], []):
                    os.close(fd)

    def _keep(self, name: str, fd: int) -> None:
        kept = self.kept.setdefault(name, [])
        if any(os.path.sameopenfile(fd, other) for other in kept):
            os.close(fd)
        else:
            kept.append(fd)

    def close(self) -> None:
        self.hear()
        for fds in self.kept.values():
            for fd in fds:
                os.close(fd)
        for _, sock in self.activated:
            sock.close()
        self._notify.close()
        self._birth.close()


def become(birth: str, command: list[str]) -> None:
    """Take the descriptors and execute the service."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(birth)
        names, fds, _, _ = socket.recv_fds(sock, 4096, FDS_MAX)
        high = [os.dup2(fd, 100 + at) for at, fd in enumerate(fds)]
    os.closerange(3, 100)
    for at, fd in enumerate(high):
        os.dup2(fd, 3 + at)
        os.close(fd)
    environ = {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
    if fds:
        environ["LISTEN_FDNAMES"] = names.decode()
    os.execvpe(command[0], command, environ)  # noqa: S606 - that is what systemd does


if __name__ == "__main__":
    become(sys.argv[1], sys.argv[2:])
