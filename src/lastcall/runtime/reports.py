"""What a worker reports over its link, as an event for the master's machine."""

from __future__ import annotations

from typing import assert_never

from lastcall.core import lifecycle as lc
from lastcall.protocol.link import Report


def event(serial: int, report: Report, text: str) -> lc.Event:
    """Of the worker with this serial."""
    match report:
        case Report.READY:
            return lc.Booted(serial)
        case Report.BOOT_FAILED:
            return lc.BootFailed(serial, text)
        case Report.SPENT:
            return lc.Spent(serial, text)
        case Report.TRACED:
            return lc.Traced(serial)
        case Report.WHERE:
            raise AssertionError("the machine need not know where a request is")
        case _:
            assert_never(report)
