"""Sockets that were there before us: which listener gets which."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastcall.core.address import Address, parse
from lastcall.protocol.papers import Papers, from_name, stored_name
from lastcall.runtime import sockets
from lastcall.runtime.heritage import Heritage, Inherited, Source, identify
from lastcall.runtime.inbox import Inbox, Parcel

Listen = Callable[..., socket.socket]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Opens listening sockets, as another process would have, and closes them in the end."""
    opened: list[socket.socket] = []

    def listening(family: int, place: tuple[str, int] | str, *, only6: bool = True) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        opened.append(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        sock.bind(place)
        sock.listen()
        return sock

    yield listening
    for sock in opened:
        sock.close()


def tcp(text: str, sock: socket.socket) -> Address:
    """The address with the port of a socket."""
    return parse(f"{text}:{sock.getsockname()[1]}")


def claimed(sock: socket.socket, protocol: str, address: Address, papers: Papers | None = None) -> bool:
    """Whether a listener of this protocol and address gets the socket."""
    return Heritage([Inherited(sock, Source.HOLDER, papers or Papers())]).claim(protocol, address) is not None


def test_a_socket_is_claimed_by_the_address_that_it_is_bound_to(listen: Listen) -> None:
    """Written as a number or as a name that resolves to it; not with another host or port."""
    sock = listen(socket.AF_INET, ("127.0.0.1", 0))
    assert claimed(sock, "http", tcp("127.0.0.1", sock))
    assert claimed(sock, "http", tcp("localhost", sock))
    assert not claimed(sock, "http", tcp("*", sock))
    assert not claimed(sock, "http", tcp("127.0.0.2", sock))
    assert not claimed(sock, "http", parse("127.0.0.1:1"))
    assert not claimed(sock, "http", parse("127.0.0.1:0"))
    assert not claimed(sock, "http", tcp("[::1]", sock))


def test_a_wildcard_is_claimed_by_a_wildcard(listen: Listen) -> None:
    """For systemd `ListenStream=8000` means `[::]` with both families: it is what `*:8000` asks for, too."""
    four = listen(socket.AF_INET, ("0.0.0.0", 0))
    assert claimed(four, "http", tcp("*", four))
    assert not claimed(four, "http", tcp("127.0.0.1", four))
    both = listen(socket.AF_INET6, ("::", 0), only6=False)
    assert claimed(both, "http", tcp("*", both))
    assert claimed(both, "http", tcp("[::]", both))
    six = listen(socket.AF_INET6, ("::", 0))
    assert not claimed(six, "http", tcp("*", six))


def test_ipv6(listen: Listen) -> None:
    """Compared as addresses, not as texts."""
    sock = listen(socket.AF_INET6, ("::1", 0))
    assert claimed(sock, "fastcgi", tcp("[0:0::1]", sock))
    assert not claimed(sock, "fastcgi", tcp("[::2]", sock))


def test_a_port_that_the_kernel_chose_is_found_by_the_papers(listen: Listen) -> None:
    """`127.0.0.1:0` gets the port that it had before."""
    sock = listen(socket.AF_INET, ("127.0.0.1", 0))
    assert claimed(sock, "http", parse("127.0.0.1:0"), Papers("http", "127.0.0.1:0"))
    assert not claimed(sock, "http", parse("0.0.0.0:0"), Papers("http", "127.0.0.1:0"))


def test_the_protocol_counts_where_it_is_known(listen: Listen) -> None:
    """An HTTP listener does not become a FastCGI one; a socket without a name may become either."""
    sock = listen(socket.AF_INET, ("127.0.0.1", 0))
    address = tcp("127.0.0.1", sock)
    assert not claimed(sock, "fastcgi", address, Papers("http"))
    assert claimed(sock, "fastcgi", address, Papers("fastcgi"))
    assert claimed(sock, "fastcgi", address)


def test_a_unix_socket_whose_path_leads_elsewhere_hears_nobody(listen: Listen, tmp_path: Path) -> None:
    """Its path was removed, or somebody else has bound it since."""
    path = str(tmp_path / "s")
    sock = listen(socket.AF_UNIX, path)
    papers = Papers("http", f"unix:{path}", file=identify(path))
    assert claimed(sock, "http", parse(path), papers)
    assert claimed(sock, "http", parse(path))
    assert not claimed(sock, "http", parse(path + "2"), papers)
    Path(path).rename(path + ".old")
    assert not claimed(sock, "http", parse(path), papers)
    listen(socket.AF_UNIX, path)
    assert not claimed(sock, "http", parse(path), papers)


def test_an_abstract_socket(listen: Listen) -> None:
    """It has no path that could lead elsewhere."""
    name = f"lastcall-test-{os.getpid()}"
    sock = listen(socket.AF_UNIX, "\0" + name)
    assert claimed(sock, "http", parse(f"unix:@{name}"))
    assert not claimed(sock, "http", parse(f"unix:@{name}x"))


def test_what_does_not_listen_is_not_claimed(listen: Listen) -> None:
    """A socket that is only bound, or a connection."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    assert not claimed(sock, "http", tcp("127.0.0.1", sock))
    sock.close()


def test_each_is_claimed_once_and_what_came_through_an_exec_first(listen: Listen) -> None:
    """The rest is closed."""
    sock = listen(socket.AF_INET, ("127.0.0.1", 0))
    address = tcp("127.0.0.1", sock)
    activated, carried = Inherited(sock.dup(), Source.ACTIVATION), Inherited(sock.dup(), Source.EXEC)
    other = Inherited(sock.dup(), Source.STORED, Papers("fastcgi", number=7))
    heritage = Heritage([activated, other, carried])
    assert heritage.numbers() == [7]
    assert heritage.claim("http", address) is carried
    assert heritage.claim("http", address) is activated
    assert heritage.claim("http", address) is None
    assert heritage.rest() == [other]
    heritage.close_rest()
    assert other.sock.fileno() == -1
    activated.sock.close()
    carried.sock.close()


def test_a_socket_named_by_systemd_needs_no_configuration(listen: Listen) -> None:
    """FileDescriptorName=http; one without a protocol's name is nobody's."""
    named = Inherited(listen(socket.AF_INET, ("127.0.0.1", 0)), Source.ACTIVATION, Papers("http", activated=True))
    other = Inherited(listen(socket.AF_INET, ("127.0.0.1", 0)), Source.ACTIVATION, from_name("gift.socket"))
    heritage = Heritage([other, named])
    assert heritage.claim_activated() == [named]
    assert named.address() == tcp("127.0.0.1", named.sock)
    assert heritage.rest() == [other]


def test_papers_survive_systemds_store() -> None:
    """As the descriptor's name; others' names say nothing."""
    assert from_name(stored_name(Papers("fastcgi", "127.0.0.1:9000", 12))) == Papers("fastcgi", number=12)
    assert from_name("fastcgi") == Papers("fastcgi")
    assert from_name("lastcall.inbox.in") == Papers()


def test_an_adopted_listener_keeps_its_number_and_new_ones_get_others(listen: Listen) -> None:
    """Connections in the inbox know their listener by it."""
    sock = listen(socket.AF_INET, ("127.0.0.1", 0))
    inherited = Inherited(sock, Source.HOLDER, Papers("http", number=4000))
    sockets.reserve([4000])
    adopted = sockets.adopt(inherited, tcp("127.0.0.1", sock), fastcgi=False, backlog=5)
    assert (adopted.number, adopted.port, adopted.source) == (4000, str(sock.getsockname()[1]), Source.HOLDER)
    access = sockets.SocketFile(0o600)
    fresh = sockets.listen(parse("127.0.0.1:0"), fastcgi=False, backlog=5, access=access)
    assert fresh.number > 4000
    fresh.sock.close()


def test_unlink_leaves_a_path_that_somebody_else_has_bound(tmp_path: Path) -> None:
    """The next instance may have come in between."""
    path = tmp_path / "s"
    access = sockets.SocketFile(0o600)
    first = sockets.listen(parse(str(path)), fastcgi=False, backlog=5, access=access)
    path.rename(tmp_path / "old")  # so that the inode is not given to the next one
    second = sockets.listen(parse(str(path)), fastcgi=False, backlog=5, access=access)
    sockets.unlink(first)
    assert path.exists()
    sockets.unlink(second)
    assert not path.exists()
    first.sock.close()
    second.sock.close()


def test_an_inbox_is_taken_over_with_what_lies_in_it() -> None:
    """Only its two ends have to cross."""
    before = Inbox()
    ours, theirs = socket.socketpair()
    assert before.put(Parcel(ours.fileno(), 4000, "::1", 65535, b"GET"))
    after = Inbox(before.ends)
    parcel = after.take()
    assert parcel is not None
    assert (parcel.listener, parcel.client, parcel.port, parcel.carried) == (4000, "::1", 65535, b"GET")
    os.close(parcel.fd)
    ours.close()
    theirs.close()
    after.close()
