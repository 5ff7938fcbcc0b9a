"""`lastcall.critical` from outside: what waits for a request that is past a point of no return, and what does not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from serve.test_steps import MARKED, asking
from support.lastcall import Servers
from support.processes import eventually

SPARED = "is past a point of no return: it has 30 seconds more"


def test_the_end_of_a_drain_waits_for_it(serve: Servers, folder: Path) -> None:
    """And when it is over the request is answered, and nothing is cut."""
    server = serve(*MARKED, "--drain-timeout", "200ms", "--critical-timeout", "30s")
    with asking(server, "critical", folder / "end.flag") as answers:
        server.signal(signal.SIGTERM)
        server.wait_log(SPARED)
        assert server.status().workers[0].in_flight[0].critical > 0
        (folder / "end.flag").touch()
        assert server.wait() == 0
    assert [answer.status for answer in answers] == [200]
    assert "was cut" not in server.log()


@pytest.mark.parametrize("how", ["reload", "scale", "recycle"])
def test_so_does_every_other_end_of_a_worker_that_is_lastcalls(serve: Servers, folder: Path, how: str) -> None:
    """Whatever a worker drains for has the same end."""
    arguments = ("--max-age", "1s") if how == "recycle" else ()
    server = serve(
        *MARKED, "--workers", "2", "--drain-timeout", "200ms", "--critical-timeout", "30s", "--trial", "0", *arguments
    )
    flags = [folder / "one.flag", folder / "two.flag"]  # both workers have one: whoever goes has
    with asking(server, "critical", flags[0]) as first, asking(server, "critical", flags[1]) as second:
        if how == "reload":
            server.signal(signal.SIGHUP)
        elif how == "scale":
            server.signal(signal.SIGTTOU)
        server.wait_log(SPARED)
        for flag in flags:
            flag.touch()
        eventually(lambda: first and second, "both are answered")
    assert [answer.status for answer in (*first, *second)] == [200, 200]
    assert "was cut" not in server.log()


def test_the_request_timeout_waits_for_it(serve: Servers, folder: Path) -> None:
    """One beside it that is not is cut."""
    server = serve(*MARKED, "--workers", "2", "--request-timeout", "200ms", "--critical-timeout", "30s")
    with asking(server, "critical", folder / "end.flag") as answers:
        with asking(server, "steps", folder / "other.flag") as others:
            eventually(lambda: others, "the other is cut")
        (folder / "end.flag").touch()
        eventually(lambda: answers, "it is answered")
    assert ([answer.status for answer in answers], [answer.status for answer in others]) == ([200], [504])


def test_nothing_waits_for_ever(serve: Servers, folder: Path) -> None:
    """A block that hangs is cut after critical_timeout, and the cut list says where it was."""
    server = serve(*MARKED, "--drain-timeout", "100ms", "--critical-timeout", "300ms")
    with asking(server, "critical", folder / "end.flag") as answers:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        eventually(lambda: answers, "it is answered")
    assert answers[0].status == 503
    record = json.loads(server.command("cuts", "--json").stdout)
    assert (record["kind"], record["step"], record["critical"]) == ("drain_timeout", "saveOrder", "inside")
    assert ", at step saveOrder, past a point of no return, " in server.command("cuts").stdout


def test_a_second_stop_does_not_wait(serve: Servers, folder: Path) -> None:
    """It is somebody's word."""
    server = serve(*MARKED, "--critical-timeout", "30s")
    with asking(server, "critical", folder / "end.flag") as answers:
        server.signal(signal.SIGTERM)
        server.wait_log("Terminating ...")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        eventually(lambda: answers, "it is answered")
    assert answers[0].status == 503


@pytest.mark.parametrize("what", ["critical", "passed"])
def test_a_request_that_has_passed_one_is_not_run_again(serve: Servers, folder: Path, what: str) -> None:
    """Not even a GET: there is no way back, its application says. Kill -9 does not ask."""
    server = serve(*MARKED, "--workers", "1")
    with asking(server, what, folder / "end.flag") as answers:
        os.kill(server.workers()[0], signal.SIGKILL)
        eventually(lambda: answers, "the client is answered")
    assert answers[0].status == 503
    record = json.loads(server.command("cuts", "--json").stdout)
    assert record["critical"] == {"critical": "inside", "passed": "passed"}[what]
