"""The sd_notify messages, byte by byte."""

from __future__ import annotations

import pytest

from lastcall.protocol import notify


def test_messages_are_those_of_sd_notify() -> None:
    """One assignment a line."""
    assert notify.ready() == b"READY=1"
    assert notify.ready("4 workers") == b"READY=1\nSTATUS=4 workers"
    assert notify.reloading(123) == b"RELOADING=1\nMONOTONIC_USEC=123"
    assert notify.stopping("draining") == b"STOPPING=1\nSTATUS=draining"
    assert notify.status("2 busy") == b"STATUS=2 busy"
    assert notify.watchdog() == b"WATCHDOG=1"
    assert notify.main_pid(7) == b"MAINPID=7"


def test_a_status_cannot_bring_another_assignment() -> None:
    """A line break in it becomes a blank; it is bounded; half a surrogate pair does no harm."""
    assert notify.status("a\nMAINPID=1\n") == b"STATUS=a MAINPID=1"
    assert len(notify.status("x" * 9999)) == notify.STATUS_MAX + len("STATUS=")
    assert notify.status("\udc80") == b"STATUS=\\udc80"


@pytest.mark.parametrize(
    ("text", "address"),
    [("/run/n", "/run/n"), ("@n", "\0n"), ("", None), ("@", None), ("/", None), ("n", None), ("vsock:2:1", None)],
)
def test_an_address_is_a_path_or_an_abstract_name(text: str, address: str | None) -> None:
    """Anything else is nobody's."""
    assert notify.address(text) == address


@pytest.mark.parametrize(
    ("usec", "watched", "interval"),
    [
        ("30000000", "", 30.0),
        ("30000000", "7", 30.0),
        ("30000000", "8", None),
        ("", "", None),
        ("0", "7", None),
        ("-1", "7", None),
        ("x", "7", None),
        ("9" * 40, "7", None),
    ],
)
def test_the_watchdog_is_for_whom_it_names(usec: str, watched: str, interval: float | None) -> None:
    """WATCHDOG_PID says for whom; a number that is none is no watchdog."""
    assert notify.watchdog_interval(usec, watched, 7) == interval


def test_the_store_is_told_a_name_and_not_to_look_whether_it_is_closed() -> None:
    """FDPOLL=0: an inbox that nobody has open at the moment looks closed to poll(2)."""
    assert notify.store("lastcall.http.0") == b"FDSTORE=1\nFDNAME=lastcall.http.0\nFDPOLL=0"
    assert notify.unstore("lastcall.http.0") == b"FDSTOREREMOVE=1\nFDNAME=lastcall.http.0"
    assert [notify.store_size(text) for text in ("", "16", "many", "-1")] == [0, 16, 0, 0]


def test_descriptors_are_ours_only_under_our_pid() -> None:
    """One without a name is unknown, as sd_listen_fds_with_names(3) has it."""
    assert notify.listen_fds("7", "2", "http:gift.socket", 7) == ["http", "gift.socket"]
    assert notify.listen_fds("7", "3", "http:", 7) == ["http", "unknown", "unknown"]
    assert notify.listen_fds("7", "1", "", 7) == ["unknown"]
    assert notify.listen_fds("8", "1", "http", 7) == []
    assert notify.listen_fds("", "", "", 7) == []
    assert notify.listen_fds("7", "x", "http", 7) == []
