"""Lines of php-fpm's error log and slow log, and of lastcall's log, which reads like it. Pure."""

from __future__ import annotations

import re

from lastcall.core.exits import SIGNALS
from lastcall.tools.accesslogs import moment
from lastcall.tools.explain.records import NOTHING, Content, Did, Happening, Slow, Told, When
from lastcall.tools.readers.servers import LASTCALL, PHP_FPM

FORM = "%d-%b-%Y %H:%M:%S"
_LINE = re.compile(
    r"\[(?P<time>\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: (?P<zone>[A-Za-z_+-][\w/+-]*))?\] "
    r"(?P<level>DEBUG|NOTICE|WARNING|ERROR|ALERT): (?P<rest>.*)"
)
_PHP = re.compile(r"\[(?P<time>\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d)(?: (?P<zone>[A-Za-z_+-][\w/+-]*))?\] PHP ")
"""What PHP itself logs into a file of its own, or into php-fpm's."""
_SYSLOG = re.compile(r"\[(?P<level>DEBUG|NOTICE|WARNING|ERROR|ALERT)\] (?P<rest>.*)")
_DEBUG = re.compile(r"pid \d+, \w+\(\), line \d+: ")
_DIED = re.compile(
    r"\[pool (?P<pool>[^\]]*)\] child (?P<pid>\d+) exited on signal (?P<number>\d+) \(SIG(?P<name>\w+)(?: - core dumped)?\)"
)
_OVERDUE = re.compile(
    r"\[pool [^\]]*\] child (?P<pid>\d+), (?:script '(?P<script>[^']*)' \(request: |request )"
    r"\"(?P<method>\S+) (?P<uri>[^\"]*)\""
    r".*?(?P<what>executing too slow|execution timed out) \((?P<elapsed>[\d.]+) sec\)"
)
_SENDER = re.compile(r"SIG(?P<signal>[A-Z0-9]+) from (?P<sender>pid .*|.*\bpid \d+.*)")
_KILL = re.compile(r"\[pool [^\]]*\] sending signal (?P<number>\d+) SIG(?P<name>\w+) to child (?P<pid>\d+)")
_SLOW = re.compile(r"\[(?P<time>\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d)\]  \[pool [^\]]*\] pid (?P<pid>\d+)")
_FRAME = re.compile(r"script_filename = (?P<script>.*)|\[0x[0-9a-f]+\] .*|\+\+\+ dump failed")

_SAID: tuple[tuple[str, Did, str], ...] = (
    ("Terminating ...", Did.TOLD, "TERM"),
    ("Finishing ...", Did.TOLD, "QUIT"),
    ("Reloading in progress ...", Did.RELOADING, "USR2"),
    ("reloading: execvp(", Did.RELOADING, "USR2"),
    ("exiting, bye-bye!", Did.GONE, ""),
    ("ready to handle connections", Did.READY, ""),
    ("error log file re-opened", Did.REOPENED, "USR1"),
    ("access log file re-opened", Did.REOPENED, "USR1"),
    ("FPM initialization failed", Did.GONE, "failed"),
    ("failed processes threshold", Did.RELOADING, "emergency"),
    ("asked to stop again: what still runs is cut", Did.TOLD, "KILL"),
)
_RUNNING = re.compile(r"(?P<name>fpm|lastcall) is running, pid (?P<pid>\d+)")


def read(line: str) -> Told | None:
    """A line of the error log; None: it is none."""
    match = _LINE.match(line)
    if match is not None:
        text = match["time"]
        when = moment(text, FORM)
        if when is None:
            return None
        grain = 1.0 if "." not in text else 1e-6
        offset = 0 if match["zone"] in ("UTC", "GMT") else None
        return Told(When(when[0], offset, grain), content(match["rest"]))
    slow = _SLOW.match(line)
    if slow is not None:
        when = moment(slow["time"], FORM)
        return Told(When(when[0]), Slow(int(slow["pid"]), "")) if when else None
    frame = _FRAME.match(line)
    if frame is not None:
        return Told(None, Slow(0, frame["script"] or ""))
    other = _PHP.match(line)
    if other is not None and (when := moment(other["time"], FORM)) is not None:
        return Told(When(when[0], 0 if other["zone"] in ("UTC", "GMT") else None), NOTHING)
    # workers print no time of their own, and what a script prints is passed on as it is
    return Told(None, NOTHING) if re.match(r"(?:DEBUG|NOTICE|WARNING|ERROR): ", line) else None


def of_syslog(message: str) -> Content:
    """What php-fpm says over syslog: the level in brackets, and no time."""
    match = _SYSLOG.match(message)
    return content(match["rest"] if match else message)


def content(text: str) -> Content:
    """What a message says."""
    text = _DEBUG.sub("", text, count=1)
    for words, did, cause in _SAID:
        if text.startswith(words):
            return Happening("", did, cause)
    if running := _RUNNING.match(text):
        service = LASTCALL if running["name"] == "lastcall" else PHP_FPM
        return Happening(service, Did.STARTING, pid=int(running["pid"]))
    if died := _DIED.match(text):
        return Happening("", Did.WORKER_DIED, SIGNALS[int(died["number"])].removeprefix("SIG")
                         if int(died["number"]) in SIGNALS else died["name"], int(died["pid"]))  # fmt: skip
    if overdue := _OVERDUE.match(text):
        if overdue["what"] == "execution timed out":
            return Happening("", Did.WORKER_DIED, "timeout", int(overdue["pid"]))
        return Slow(
            int(overdue["pid"]),
            overdue["script"] or "",
            overdue["method"],
            overdue["uri"],
            float(overdue["elapsed"].strip(".") or 0),
        )
    if (kill := _KILL.match(text)) and kill["name"] in ("TERM", "KILL"):
        return Happening("", Did.TOLD, f"worker {kill['name']}", int(kill["pid"]))
    if sender := _SENDER.match(text):
        return Happening(LASTCALL, Did.TOLD, sender["signal"], sender=sender["sender"])
    return NOTHING
