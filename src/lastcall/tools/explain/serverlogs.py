"""Lines of the logs of gunicorn, uvicorn, hypercorn, uWSGI and supervisor. Pure."""

from __future__ import annotations

import re

from lastcall.tools.accesslogs import moment
from lastcall.tools.explain.records import NOTHING, Content, Did, Happening, Told, When
from lastcall.tools.readers import servers
from lastcall.tools.readers.servers import GUNICORN, UVICORN, UWSGI, signal_name

# --- gunicorn, hypercorn: `[2017-06-25 05:28:01 +0800] [4711] [INFO] Handling signal: term` ------------------------------

_GUNICORN = re.compile(
    r"\[(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: [+-]\d{4})?)\] \[(?P<pid>\d+)\] "
    r"\[(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\] ?(?P<rest>.*)"
)
_HANDLING = {
    "term": (Did.TOLD, "TERM"), "int": (Did.TOLD, "INT"), "quit": (Did.TOLD, "QUIT"), "hup": (Did.RELOADING, "HUP"),
    "usr2": (Did.RELOADING, "USR2"), "usr1": (Did.REOPENED, "USR1"),
}  # fmt: skip
_LOST = re.compile(
    r"Worker \(pid:(?P<pid>\d+)\) was (?:sent|terminated by signal) (?:SIG)?(?P<signal>\w+)", re.IGNORECASE
)
_TIMEOUT = re.compile(r"WORKER TIMEOUT \(pid:(?P<pid>\d+)\)")


def gunicorn(line: str) -> Told | None:
    """A line of gunicorn's log, or of hypercorn's; None: it is none."""
    match = _GUNICORN.match(line)
    if match is None:
        return None
    form = "%Y-%m-%d %H:%M:%S %z" if match["time"][-5] in "+-" else "%Y-%m-%d %H:%M:%S"
    when = moment(match["time"], form)
    return Told(When(*when), gunicorn_says(match["rest"], int(match["pid"]))) if when else None


def gunicorn_says(text: str, pid: int = 0) -> Content:
    """What a message of gunicorn's says."""
    if text.startswith("Handling signal: "):
        did = _HANDLING.get(text.removeprefix("Handling signal: ").strip())
        return Happening(GUNICORN, did[0], did[1], pid) if did else NOTHING
    if text.startswith(("Shutting down: Master", "Worker failed to boot", "Reason: ")):
        return Happening(GUNICORN, Did.GONE, pid=pid) if text.startswith("Shutting") else NOTHING
    if text.startswith("Starting gunicorn"):
        return Happening(GUNICORN, Did.STARTING, pid=pid)
    if text.startswith("Booting worker with pid"):
        return Happening(GUNICORN, Did.READY, pid=pid)
    if lost := _LOST.match(text):
        name = signal_name(lost["signal"])
        # TERM is how it ends its workers by itself
        return Happening(GUNICORN, Did.WORKER_DIED, name, int(lost["pid"])) if name not in ("", "TERM") else NOTHING
    if overdue := _TIMEOUT.match(text):
        return Happening(GUNICORN, Did.WORKER_DIED, "timeout", int(overdue["pid"]))
    return NOTHING


# --- uvicorn: `INFO:     Shutting down`, without a time unless somebody has added one -------------------------------------

_UVICORN = re.compile(
    r"(?:(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?)(?P<zone>Z|[+-]\d\d:?\d\d)? (?:- )?)?"
    r"(?:\S+ - )?(?:INFO|WARNING|ERROR|CRITICAL):? +(?:- )?(?P<rest>\S.*)"
)


def uvicorn(line: str) -> Told | None:
    """A line of uvicorn's; None: it is none. Most have no time, and then only the order of lines is known."""
    match = _UVICORN.match(line)
    if match is None:
        return None
    what = uvicorn_says(match["rest"])
    if match["time"] is None:
        return Told(None, what if isinstance(what, Happening) else NOTHING)
    when = iso(match["time"] + (match["zone"] or ""))
    return Told(when, what) if when else None


def uvicorn_says(text: str) -> Content:
    """What a message of uvicorn's says."""
    if text == "Shutting down" or text.startswith(("Received SIGTERM", "Received SIGINT")):
        return Happening(UVICORN, Did.TOLD, "INT" if "SIGINT" in text else "TERM")
    if text.startswith(("Received SIGHUP", "Restarting processes")):
        return Happening(UVICORN, Did.RELOADING, "HUP")
    if found := re.match(r"Finished server process \[(\d+)\]", text):
        return Happening(UVICORN, Did.GONE, pid=int(found[1]))
    if found := re.match(r"Started (?:server|parent|reloader) process \[(\d+)\]", text):
        return Happening(UVICORN, Did.STARTING, pid=int(found[1]))
    if text.startswith("Application startup complete"):
        return Happening(UVICORN, Did.READY)
    return NOTHING


def iso(text: str) -> When | None:
    """A time as ISO 8601 has it, with whatever is between date and time."""
    form = "%Y-%m-%dT%H:%M:%S" if text[10:11] == "T" else "%Y-%m-%d %H:%M:%S"
    zoned = re.search(r"(?:Z|[+-]\d\d:?\d\d)$", text[11:])
    when = moment(text, form + "%z" if zoned else form)
    grain = 10.0 ** -len(found[1]) if (found := re.search(r"[.,](\d+)", text[11:])) else 1.0
    return When(when[0], when[1], grain) if when else None


# --- uWSGI: `Sun Jun 25 05:28:01 2017 - SIGINT/SIGTERM received...killing workers...` --------------------------------------

_UWSGI = re.compile(r"(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}) - (?P<rest>.*)")
_UWSGI_BARE = re.compile(
    r"\*\*\* (?:Starting uWSGI|uWSGI is running)|SIG(?:INT|TERM|QUIT|HUP)\S* received|\.\.\.gracefully killing|"
    r"(?:Gracefully|gracefully) killing worker|DAMN ! worker|goodbye to uWSGI|spawned uWSGI |binary reloading uWSGI|"
    r"WSGI app \d+ |worker \d+ buried|chdir\(\) to|detected \w+|your (?:processes|server|memory|mercy)|mapped \d+|"
    r"\*\*\* Operational MODE|uWSGI |thunder lock|compiled with|nodename:|machine:|clock source|pcre jit|lock engine|"
    r"brutally killing|\.\.\. (?:Respawned|The work)"
)
_UWSGI_STARTS = re.compile(r"\*\*\* Starting uWSGI \S+ .*on \[(?P<time>[^\]]+)\]")
_UWSGI_DIED = re.compile(r"DAMN ! worker (?P<n>\d+) \(pid: (?P<pid>\d+)\) died(?:, killed by signal (?P<signal>\d+))?")
UWSGI_FORM = "%a %b %e %H:%M:%S %Y"


def uwsgi(line: str) -> Told | None:
    """A line of uWSGI's log; None: it is none."""
    match = _UWSGI.match(line)
    if match is not None:
        when = moment(match["time"], UWSGI_FORM)
        return Told(When(when[0]), uwsgi_says(match["rest"])) if when else None
    if starts := _UWSGI_STARTS.match(line):
        when = moment(starts["time"], UWSGI_FORM)
        return Told(When(when[0]) if when else None, Happening(UWSGI, Did.STARTING))
    return Told(None, uwsgi_says(line)) if _UWSGI_BARE.match(line) else None


def uwsgi_says(text: str) -> Content:
    """What a message of uWSGI's says."""
    if found := re.match(r"SIG(?:INT/SIG)?(TERM|QUIT|INT)\S* received", text):
        return Happening(UWSGI, Did.TOLD, found[1])
    if text.startswith(("...gracefully killing workers", "binary reloading uWSGI", "Gracefully killing worker")):
        return Happening(UWSGI, Did.RELOADING, "HUP")
    if text.startswith("goodbye to uWSGI"):
        return Happening(UWSGI, Did.GONE)
    if text.startswith("*** Starting uWSGI"):
        return Happening(UWSGI, Did.STARTING)
    if text.startswith(("WSGI app 0", "spawned uWSGI worker", "spawned uWSGI http")):
        return Happening(UWSGI, Did.READY)
    if died := _UWSGI_DIED.match(text):
        return Happening(UWSGI, Did.WORKER_DIED, signal_name(died["signal"] or ""), int(died["pid"]))
    return NOTHING


# --- supervisor: `2017-06-25 05:28:01,123 INFO stopped: gift (terminated by SIGTERM)` -------------------------------------

_SUPERVISOR = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?P<level>INFO|WARN|CRIT|ERRO|DEBG|TRAC|BLAT) (?P<rest>.*)"
)
_PROGRAM = re.compile(
    r"(?P<what>stopped|exited|spawned|success|waiting for|killing)(?::)? '?(?P<name>[^\s']+)'?"
    r"(?: \((?P<how>[^)]*)\)| to (?:stop|die)| \(\d+\) with SIG(?P<kill>\w+)| entered RUNNING.*| with pid (?P<pid>\d+))?"
)


def supervisor(line: str) -> Told | None:
    """A line of supervisord's log; None: it is none."""
    match = _SUPERVISOR.match(line)
    when = iso(match["time"]) if match is not None else None
    if match is None or when is None:
        return None
    return Told(when, _program(match["rest"]))


def _program(text: str) -> Content:
    """A service is called after its server, else by the name that supervisor knows it by."""
    found = _PROGRAM.match(text)
    if found is None:
        return NOTHING
    name = servers.mentioned(found["name"]) or found["name"].split(":")[-1]
    signal = re.search(r"terminated by SIG(\w+)", text)
    match found["what"]:
        case "waiting for":
            return Happening(name, Did.TOLD, "supervisor")
        case "stopped":
            return Happening(name, Did.GONE, signal[1] if signal else "")
        case "killing":
            kill = re.search(r"SIG(\w+)", text)
            return Happening(name, Did.VANISHED, kill[1] if kill else "KILL")
        case "exited":
            if signal:
                return Happening(name, Did.VANISHED, signal[1])
            return Happening(name, Did.GONE, "" if "; expected" in text else "exit")
        case "spawned":
            return Happening(name, Did.STARTING, pid=int(found["pid"] or 0))
        case _:
            return Happening(name, Did.READY)
