"""Where a listener is: `host:port`, `[v6]:port`, `unix:/path`. Text to Address and back, no sockets and no look-ups."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from lastcall.core.mistakes import Mistake

LOOPBACK = "127.0.0.1"
"""The host of an address that names none: what is to be reached from elsewhere says so (`0.0.0.0:8000`)."""

PATH_MAX = 107
"""Bytes of a UNIX socket's path: sockaddr_un has 108, the last one is the terminating zero."""

PORT_MAX = 65535

_FORMS = "write host:port, [v6]:port or unix:/path"
_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_NUMERIC = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen on. Equal addresses have the same canonical text, `str(address)`."""

    family: Literal["tcp", "tcp6", "unix"]
    host: str = ""
    """A name, or an IPv4 or IPv6 address in its shortest form, without brackets. Empty for `unix`."""
    port: int = 0
    """0: the kernel chooses a free one."""
    path: str = ""
    """`unix` only. `@name` is an abstract socket. Relative where the text was: who reads it says relative to what."""

    def __str__(self) -> str:
        match self.family:
            case "tcp":
                return f"{self.host}:{self.port}"
            case "tcp6":
                return f"[{self.host}]:{self.port}"
            case "unix":
                return f"unix:{self.path}"

    @property
    def abstract(self) -> bool:
        """A UNIX socket without a file: nothing to unlink, no permissions."""
        return self.path.startswith("@")


def parse(text: str) -> Address:
    """Read an address.

    `:8000` and `8000` are on 127.0.0.1, `*:8000` on all IPv4 addresses; `/run/x.sock` is `unix:/run/x.sock`;
    `unix:@name` is an abstract socket. Raises Mistake, a ValueError, with what to write instead.
    """
    bare = text.strip()
    if bare.startswith("/"):
        return _unix(bare)
    if bare.lower().startswith("unix:"):
        return _unix(bare[len("unix:") :])
    if "://" in bare:
        raise Mistake(f"{text!r} is a URL, not an address", f"leave the scheme out: {bare.partition('://')[2]}")
    if _PORT.fullmatch(bare):
        return Address("tcp", LOOPBACK, _port(bare, text))
    host, colon, port = bare.rpartition(":")
    if not colon:
        raise Mistake(f"{text!r} has no port", _FORMS)
    if host.startswith("["):
        return Address("tcp6", _v6(host, text), _port(port, text))
    if ":" in host:
        raise Mistake(f"{text!r} is not an address", "an IPv6 address stands in brackets: [::1]:8000")
    return Address("tcp", _host(host, text), _port(port, text))


def _unix(path: str) -> Address:
    # sockaddr_un is bytes: what a path weighs is its UTF-8, as the file system has it
    size = len(path.encode("utf-8", "surrogateescape"))
    if not path or path == "@":
        raise Mistake("the UNIX socket has no path", "write unix:/run/name.sock, or unix:@name for an abstract one")
    if "\0" in path:
        raise Mistake(f"{path!r} holds a zero byte", "write unix:@name for an abstract socket")
    if path.endswith("/"):
        raise Mistake(f"{path!r} is a directory", f"add the socket's name: unix:{path}name.sock")
    if size > PATH_MAX:
        text = f"the UNIX socket's path has {size} bytes, the kernel takes {PATH_MAX}: {path!r}"
        raise Mistake(text, "choose a shorter path, /run/name.sock")
    return Address("unix", path=path)


def _port(port: str, text: str) -> int:
    if not _PORT.fullmatch(port):
        raise Mistake(f"{text!r} has no port, but {port!r}", _FORMS)
    if int(port) > PORT_MAX:
        raise Mistake(
            f"port {port} of {text!r} is above {PORT_MAX}", f"choose a port from 0 (any free one) to {PORT_MAX}"
        )
    return int(port)


def _v6(host: str, text: str) -> str:
    if not host.endswith("]"):
        raise Mistake(f"{text!r} is not an address", "an IPv6 address stands in brackets: [::1]:8000")
    try:
        return str(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        raise Mistake(f"{host[1:-1]!r} is not an IPv6 address", "write [::1]:8000, or [::]:8000 for all") from None


def _host(host: str, text: str) -> str:
    if host in ("", "*"):
        return LOOPBACK if not host else "0.0.0.0"  # noqa: S104 (that is what the star asks for)
    if _NUMERIC.fullmatch(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise Mistake(f"{host!r} is not an IPv4 address", "write four numbers: 127.0.0.1:8000") from None
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise Mistake(f"{text!r} has no valid host", _FORMS)
    return host.lower()
