"""Addresses: the forms that people write, their one canonical text, and a remedy for each slip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.core.address import PATH_MAX, Address, parse
from lastcall.core.mistakes import Mistake


@pytest.mark.parametrize(
    ("text", "address", "canonical"),
    [
        ("127.0.0.1:8000", Address("tcp", "127.0.0.1", 8000), "127.0.0.1:8000"),
        ("Example.COM:80", Address("tcp", "example.com", 80), "example.com:80"),
        (":8000", Address("tcp", "127.0.0.1", 8000), "127.0.0.1:8000"),
        ("8000", Address("tcp", "127.0.0.1", 8000), "127.0.0.1:8000"),
        ("*:8000", Address("tcp", "0.0.0.0", 8000), "0.0.0.0:8000"),
        ("localhost:0", Address("tcp", "localhost", 0), "localhost:0"),
        ("[::1]:8000", Address("tcp6", "::1", 8000), "[::1]:8000"),
        ("[0:0:0:0:0:0:0:1]:08000", Address("tcp6", "::1", 8000), "[::1]:8000"),
        ("[fe80::1%eth0]:1", Address("tcp6", "fe80::1%eth0", 1), "[fe80::1%eth0]:1"),
        ("unix:/run/x.sock", Address("unix", path="/run/x.sock"), "unix:/run/x.sock"),
        ("UNIX:run/x.sock", Address("unix", path="run/x.sock"), "unix:run/x.sock"),
        ("/run/x.sock", Address("unix", path="/run/x.sock"), "unix:/run/x.sock"),
        ("unix:@lastcall", Address("unix", path="@lastcall"), "unix:@lastcall"),
        (" 10.0.0.1:1 ", Address("tcp", "10.0.0.1", 1), "10.0.0.1:1"),
    ],
)
def test_each_form_is_read_and_has_one_canonical_text(text: str, address: Address, canonical: str) -> None:
    """An address without a host is on 127.0.0.1: what is to be reached from elsewhere says so."""
    assert parse(text) == address
    assert str(address) == canonical
    assert parse(canonical) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        ("localhost:http", "'http'"),
        ("localhost:", "no port"),
        ("localhost:-1", "no port"),
        ("127.0.0.1:65536", "above 65535"),
        ("::1:8000", "in brackets"),
        ("[::1:8000", "in brackets"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("1.2.3:80", "not an IPv4 address"),
        ("256.0.0.1:80", "not an IPv4 address"),
        ("http://localhost:80", "write"),
        ("ho st:80", "no valid host"),
        ("-x:80", "no valid host"),
        ("unix:", "no path"),
        ("unix:@", "no path"),
        ("unix:/run/", "is a directory"),
        ("unix:/a\0b", "zero byte"),
        ("unix:/" + "x" * PATH_MAX, "the kernel takes 107"),
        ("unix:/" + "é" * 60, "has 121 bytes"),
    ],
)
def test_what_is_no_address_is_told_with_a_remedy(text: str, said: str) -> None:
    """The error is a ValueError; it names what is wrong, and what to write."""
    with pytest.raises(Mistake) as caught:
        parse(text)
    assert said in str(caught.value) or "leave the scheme out: localhost:80" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.remedy


def test_the_longest_path_is_as_long_as_the_kernel_takes() -> None:
    """107 bytes, and the zero after them."""
    path = "/" + "x" * (PATH_MAX - 1)
    assert parse(f"unix:{path}").path == path


def test_only_a_name_after_the_at_sign_is_abstract() -> None:
    """An abstract socket has no file."""
    assert parse("unix:@x").abstract
    assert not parse("/run/@x").abstract


@given(st.text(max_size=40) | st.from_regex(r"\[?[0-9a-f:.]{0,20}\]?:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_an_address_or_a_mistake(text: str) -> None:
    """Whatever is accepted has a canonical text that means the same."""
    try:
        address = parse(text)
    except Mistake:
        return
    assert parse(str(address)) == address
