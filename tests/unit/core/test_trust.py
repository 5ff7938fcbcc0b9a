"""Whom we believe about who the client is."""

from __future__ import annotations

import pytest

from lastcall.core.trust import UNIX, Trust, request_id

FRONTS = Trust(("127.0.0.1", "::1", "10.0.0.0/8", "2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "believed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("::1", True),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        (UNIX, False),
        ("", False),
        ("localhost", False),
        ("10.0.0.1, 10.0.0.2", False),
    ],
)
def test_a_peer_is_believed_by_its_address(peer: str, believed: bool) -> None:
    """An address among those named or in a network; IPv4 as a socket for both sees it, too; anything else is nobody."""
    assert [FRONTS(peer), FRONTS(peer)] == [believed] * 2  # the second time from memory


def test_unix_sockets_are_believed_when_named() -> None:
    """Their peers have no address."""
    assert Trust(("unix",))(UNIX)
    assert not Trust(("unix",))("127.0.0.1")
    assert not Trust(())(UNIX)


def test_everybody_is_everybody_with_an_address() -> None:
    """`*`."""
    everybody = Trust(("*",))
    assert [everybody(peer) for peer in (UNIX, "192.0.2.1", "::1", "nonsense")] == [True, True, True, False]


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.0/33", ""])
def test_what_is_neither_address_nor_network_is_refused(entry: str) -> None:
    """ValueError, which the settings' own check comes before."""
    with pytest.raises(ValueError, match="does not appear to be"):
        Trust((entry,))


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("198.51.100.1, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.0.0.2, 10.0.0.3", "192.0.2.7"),
        ("10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db9::7]:4711", "2001:db9::7"),
        ("[2001:db9::7]", "2001:db9::7"),
        ("2001:db9::7", "2001:db9::7"),
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("192.0.2.7, unknown", "10.0.0.1"),
        ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.7, unix", "10.0.0.1"),
        ("192.0.2.7,", "10.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_who_is_no_front_of_ours(forwarded_for: str, client: str) -> None:
    """What stands to its left was written by somebody we do not know; so was what is no address, and all before it."""
    assert [FRONTS.client(forwarded_for, "10.0.0.1")] * 2 == [client, FRONTS.client(forwarded_for, "10.0.0.1")]


def test_with_everybody_believed_the_client_is_the_leftmost() -> None:
    """All of them are fronts of ours, then."""
    assert Trust(("*",)).client("192.0.2.7, 198.51.100.1", "10.0.0.1") == "192.0.2.7"


def test_what_is_remembered_has_a_bound() -> None:
    """A million peers cost no more memory than a thousand, and are told apart all the same."""
    trust = Trust(("10.0.0.0/8",))
    for number in range(3000):
        peer = f"{9 + number % 2 * 2 if number % 3 else 10}.0.{number // 256}.{number % 256}"
        assert trust(peer) is peer.startswith("10.")
        assert trust.client(peer, "10.9.9.9") == peer
        assert max(len(trust._known), len(trust._clients)) <= 1024


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("0123456789abcdef", True),
        ("req_1:a/b+c=@d.e-f", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("two words", False),
        ("line\nbreak", False),
        ("trailing\n", False),
        ('quote"', False),
        ("umlaut-\xe4", False),
    ],
)
def test_a_request_id_is_taken_when_a_log_can_hold_it(text: str, taken: bool) -> None:
    """Else one is made."""
    assert request_id(text) == (text if taken else "")
