"""The steps of one request: where it can be when a restart is fired."""

from __future__ import annotations

import enum


class Step(enum.StrEnum):
    """In the order in which a request takes them; a restart at each of them leaves nothing to luck."""

    CONNECTED = "connected"
    """Its connection stands, and it has sent nothing."""
    HALF_HEAD = "half-head"
    HALF_BODY = "half-body"
    """The head and half of the body are sent."""
    ASKED = "asked"
    """The application has called sendPresent; the present has not been sent."""
    SENT = "sent"
    """The present has been sent, and the application does not know."""
    WRITING = "writing"
    """After sendPresent, before the write: the incident's."""
    WRITTEN = "written"
    """The order is written, and the application does not know."""
    IDLE = "idle"
    """It has been answered, and the client keeps its connection for the next one."""


CLIENTS = (Step.CONNECTED, Step.HALF_HEAD, Step.HALF_BODY, Step.IDLE)
"""Those at which the client waits. At the others the application does, because its ledgers let it."""

WORDS = {
    Step.CONNECTED: "connected, nothing sent",
    Step.HALF_HEAD: "half the head sent",
    Step.HALF_BODY: "half the body sent",
    Step.ASKED: "sendPresent called, nothing sent yet",
    Step.SENT: "present sent, the app does not know",
    Step.WRITING: "after sendPresent, before the write",
    Step.WRITTEN: "order written, the app does not know",
    Step.IDLE: "answered, its connection kept",
}
