"""Lines of nginx's error log: what it says of a server behind it that has not answered. Pure."""

from __future__ import annotations

import re

from lastcall.tools.accesslogs import moment
from lastcall.tools.explain.records import NOTHING, Complaint, Content, Did, Fault, Happening, Told, When
from lastcall.tools.readers.servers import NGINX

FORM = "%Y/%m/%d %H:%M:%S"
_LINE = re.compile(
    r"(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?:debug|info|notice|warn|error|crit|alert|emerg)\] \d+#\d+: "
    r"(?:\*(?P<connection>\d+) )?(?P<rest>.*)"
)
_WHILE = re.compile(
    r"(?P<what>.*?) while (?P<doing>connecting to upstream|sending (?:request )?to upstream|"
    r"reading response header from upstream|reading upstream|SSL handshaking to upstream)(?P<tail>, .*)"
)
_CLIENT = re.compile(r", client: (?P<client>[^,]*)")
_REQUEST = re.compile(r', request: "(?P<method>[A-Z][A-Za-z_-]*) (?P<uri>.*?)(?: HTTP/[\d.]+)?"(?=, |$)')
_UPSTREAM = re.compile(r', upstream: "(?P<upstream>[^"]*)"')

_ERRNO = {
    "111": Fault.REFUSED,
    "2": Fault.REFUSED,
    "11": Fault.FULL,
    "13": Fault.REFUSED,
    "113": Fault.UNREACHED,
    "101": Fault.UNREACHED,
}
NEEDLES = (
    b"(104: ", b"(111: ", b"(110: ", b"(113: ", b"(101: ", b"(32: ", b"(13: ", b"(11: ", b"(2: No such",
    b"prematurely closed", b"no live upstreams", b"timed out", b"[notice]",
)  # fmt: skip
"""One of these stands in every line that matters; words that every line has would cost more than they sort out."""


def read(line: str) -> Told | None:
    """A line; None: it is none of nginx's error log."""
    match = _LINE.match(line)
    when = moment(match["time"], FORM) if match is not None else None
    if match is None or when is None:
        return None
    return Told(When(when[0]), _content(match["rest"], match["connection"] or ""))


def _content(text: str, connection: str) -> Content:
    found = _WHILE.match(text)
    if found is None:
        return _signal(text)
    fault = _fault(found["what"], found["doing"])
    if fault is None:
        return NOTHING
    tail = found["tail"]
    client, request, upstream = _CLIENT.search(tail), _REQUEST.search(tail), _UPSTREAM.search(tail)
    return Complaint(
        fault,
        client["client"] if client else "",
        request["method"] if request else "",
        request["uri"] if request else "",
        upstream["upstream"] if upstream else "",
        connection,
    )


def _fault(what: str, doing: str) -> Fault | None:
    """What has gone wrong; None: the server has answered, and what it says is the application's business."""
    if what.startswith("FastCGI sent in stderr"):
        # php's own words, which may be about anything, and may hold ours
        return None
    number = re.search(r"\((\d+): [^()]*\)$", what)
    code = number[1] if number else ""
    if doing in ("connecting to upstream", "SSL handshaking to upstream"):
        if "no live upstreams" in what:
            return Fault.REFUSED
        if code == "110" or "timed out" in what:
            return Fault.UNREACHED
        if code == "104":
            return Fault.RESET  # accepted by the kernel, and reset from the queue
        return _ERRNO.get(code)
    if code == "110" or "timed out" in what:
        return Fault.LATE if doing != "sending request to upstream" else Fault.UNREACHED
    if doing.startswith("sending"):
        return Fault.SENDING if code in ("104", "32") or "prematurely closed" in what else None
    if doing == "reading upstream":
        return Fault.BROKEN if code == "104" or "prematurely closed" in what else None
    if code == "104":
        return Fault.RESET
    return Fault.CLOSED if "prematurely closed" in what else None


_SIGNALLED = re.compile(r"signal (?P<number>\d+) \(SIG(?P<name>\w+)\) received(?: from (?P<pid>\d+))?")


def _signal(text: str) -> Content:
    """Restarts of nginx itself, which hit clients as well."""
    found = _SIGNALLED.match(text)
    if found is None:
        return NOTHING
    match found["name"]:
        case "TERM" | "INT" | "QUIT" as name:
            return Happening(NGINX, Did.TOLD, name, sender=f"pid {found['pid']}" if found["pid"] else "")
        case "HUP":
            return Happening(NGINX, Did.RELOADING, "HUP", sender=f"pid {found['pid']}" if found["pid"] else "")
        case "USR1":
            return Happening(NGINX, Did.REOPENED, "USR1")
        case _:
            return NOTHING
