"""Whom we believe about who the client is: `forwarded_allow_ips`, and what such a peer may say."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

UNIX = "unix"
"""The peer of a UNIX socket, as `Trust` knows it."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
_REMEMBERED_MAX = 1024


class Trust:
    """Which peers may speak for others: addresses, networks, `unix` for UNIX sockets, `*` for everybody."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        """Raises ValueError for an entry that is none of these."""
        self._everybody = "*" in allowed
        self._unix = self._everybody or UNIX in allowed
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(entry, strict=False) for entry in allowed if entry not in ("*", UNIX)
        ]
        self._known: dict[str, bool | None] = {}
        self._clients: dict[tuple[str, str], str] = {}

    def __call__(self, peer: str) -> bool:
        """Whether to believe this peer: an IP address, or `unix`."""
        return bool(self._look_up(peer))

    def _look_up(self, peer: str) -> bool | None:
        """Trusted, not trusted, or (None) no address at all. Remembered: reading an address costs microseconds."""
        try:
            return self._known[peer]
        except KeyError:
            if len(self._known) >= _REMEMBERED_MAX:
                self._known.clear()
            known = self._known[peer] = self._decide(peer)
            return known

    def _decide(self, peer: str) -> bool | None:
        if peer == UNIX:
            return self._unix
        try:
            address = ip_address(peer)
        except ValueError:
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        return self._everybody or any(address in network for network in self._networks)

    def client(self, forwarded_for: str, peer: str) -> str:
        """The client behind trusted peers: the rightmost address in X-Forwarded-For that is not trusted itself.

        What is no address ends the search: everything to its left was written by somebody we do not know.
        """
        try:
            return self._clients[forwarded_for, peer]
        except KeyError:
            if len(self._clients) >= _REMEMBERED_MAX:
                self._clients.clear()
            client = self._clients[forwarded_for, peer] = self._follow(forwarded_for, peer)
            return client

    def _follow(self, forwarded_for: str, peer: str) -> str:
        client = peer
        for entry in reversed(forwarded_for.split(",")):
            text = _without_port(entry.strip())
            trusted = None if text == UNIX else self._look_up(text)
            if trusted is None:
                return client
            client = text
            if not trusted:
                return client
        return client


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def request_id(text: str) -> str:
    """A trusted peer's X-Request-Id, or "" when it is none that we would write into a log."""
    return text if _REQUEST_ID.fullmatch(text) else ""
