"""The ways to a service: straight to it or through nginx, by HTTP or FastCGI, over TCP or UNIX, kept or new each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lastcall.tools.drill.engine import Client
from support.nginx import Nginx
from support.processes import lines


@dataclass(frozen=True, slots=True)
class Front:
    """One way."""

    fastcgi: bool
    unix: bool
    keep: bool
    """Connections to lastcall are kept: the client's, or nginx's."""
    nginx: bool

    def __str__(self) -> str:
        protocol = "FastCGI" if self.fastcgi else "HTTP"
        way = f"{'nginx ' if self.nginx else ''}{protocol} {'UNIX' if self.unix else 'TCP'}"
        return f"{way} {'kept' if self.keep else 'new'}"


def _fronts(*, nginx: bool) -> tuple[Front, ...]:
    sides = (False, True)
    return tuple(Front(fastcgi, unix, keep, nginx) for fastcgi in sides for unix in sides for keep in (True, False))


DIRECT = _fronts(nginx=False)
NGINX = _fronts(nginx=True)
NGINX_KEPT = tuple(front for front in NGINX if front.keep)
NGINX_NEW = tuple(front for front in NGINX if not front.keep)
ALL = (*DIRECT, *NGINX)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a service listens."""

    http_tcp: str
    http_unix: str
    fastcgi_tcp: str
    fastcgi_unix: str

    def of(self, front: Front) -> str:
        match front.fastcgi, front.unix:
            case False, False:
                return self.http_tcp
            case False, True:
                return self.http_unix
            case True, False:
                return self.fastcgi_tcp
            case _:
                return self.fastcgi_unix


class Ways:
    """The fronts of a service as clients, with the sites of nginx that they need, and what nginx logs of each."""

    def __init__(self, fronts: Sequence[Front], addresses: Addresses, nginx: Nginx) -> None:
        self._logs: dict[str, Path] = {}
        self._clients = [self._client(front, addresses.of(front), nginx) for front in fronts]
        if self._logs:
            nginx.start()

    def clients(self, each: int) -> list[Client]:
        """So many clients for each front. They keep their connection to nginx, whatever nginx does behind it."""
        return [client for client in self._clients for _ in range(each)]

    def logged(self) -> dict[str, list[str]]:
        """The errors that nginx has logged, by front; fronts without any are left out."""
        found = {front: lines(log, r"\[(error|crit|alert|emerg)\]") for front, log in self._logs.items()}
        return {front: errors for front, errors in found.items() if errors}

    def _client(self, front: Front, address: str, nginx: Nginx) -> Client:
        if not front.nginx:
            return Client(str(front), address, fastcgi=front.fastcgi, keep=front.keep)
        log = self._logs[str(front)] = nginx.folder / f"error-{len(self._logs)}.log"
        extra = f"error_log {log} notice;"
        if front.fastcgi:
            return Client(str(front), nginx.fastcgi(address, keep_conn=front.keep, extra=extra))
        return Client(str(front), nginx.http(address, keepalive=front.keep, extra=extra))
