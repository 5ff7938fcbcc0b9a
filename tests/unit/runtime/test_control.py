"""The control socket's server side."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

from lastcall.protocol.control import STATUS_MAX, Reply
from lastcall.runtime.control import ControlServer


def connected(server: ControlServer, folder: Path) -> tuple[socket.socket, int]:
    """A client, and the server's descriptor of it."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(folder / "control.sock"))
    fd = server.accept()
    assert fd is not None
    return client, fd


def test_the_longest_status_goes_out_at_once(folder: Path) -> None:
    """To a client that has not begun to read: the server waits for nobody."""
    server = ControlServer(folder)
    client, fd = connected(server, folder)
    client.sendall(b'{"do":"status"}\n')
    asked = server.read(fd)
    assert asked is not None
    server.answer(asked.ticket, Reply(ok=True, text="x" * STATUS_MAX))
    assert not server.owns(fd)
    with client, client.makefile("rb") as lines:
        assert len(lines.read()) > STATUS_MAX
    server.close(unlink=True)


def test_a_client_says_one_thing(folder: Path) -> None:
    """A second line is no command; the end of what it sends is not the end of its listening."""
    server = ControlServer(folder)
    client, fd = connected(server, folder)
    client.sendall(b'{"do":"reload","wait":true}\n')
    asked = server.read(fd)
    assert asked is not None
    client.sendall(b'{"do":"stop"}\n')
    assert server.read(fd) is None
    client.shutdown(socket.SHUT_WR)
    assert server.read(fd) is None
    assert server.owns(fd)
    assert server.silent(fd)
    server.answer(asked.ticket, Reply(ok=True, text="done"))
    with client, client.makefile("rb") as lines:
        assert b'"text":"done"' in lines.read()
    server.close(unlink=True)


def test_a_client_that_has_gone_is_dropped(folder: Path) -> None:
    """Before its answer is there; its place is free again."""
    server = ControlServer(folder)
    client, fd = connected(server, folder)
    client.sendall(b'{"do":"status"}\n')
    asked = server.read(fd)
    assert asked is not None
    client.close()
    assert select.select([fd], [], [], 20)[0] == [fd]
    assert server.read(fd) is None
    assert not server.owns(fd)
    assert not server.silent(fd)
    server.answer(asked.ticket, Reply(ok=True))
    server.close(unlink=True)
    assert not os.path.lexists(folder / "control.sock")
