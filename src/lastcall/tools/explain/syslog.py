"""Lines of syslog, auth.log, cron's log, the kernel's, and of `journalctl -o json`. Pure.

The program that speaks decides what its message can mean: systemd about units, cron about what it runs, sudo about who
ran what, the kernel about whom it has killed. Servers that log to syslog are read as in their own logs.
"""

from __future__ import annotations

import re

import msgspec

from lastcall.tools.accesslogs import moment
from lastcall.tools.explain import accesslines, fpmlog, nginxlog, serverlogs
from lastcall.tools.explain.records import NOTHING, Content, Did, Happening, Sighting, Told, When
from lastcall.tools.readers import servers
from lastcall.tools.readers.orders import orders
from lastcall.tools.readers.servers import mentioned, signal_name

_OLD = r"(?P<old>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
_NEW = r"(?P<new>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d))"
_LINE = re.compile(
    rf"(?:<\d{{1,3}}>)?(?:1 )?(?:{_OLD}|{_NEW}) (?:(?P<host>\S+) )?"
    r"(?P<program>[\w./()+@-]+?)(?:\[(?P<pid>\d+)\])?: ?(?P<message>.*)"
)
_DMESG = re.compile(r"\[(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\] (?P<message>.*)")
NEEDLES = (
    b"CRON", b"cron", b"sudo", b"systemd[1]", b"php-fpm", b"gunicorn", b"uwsgi", b"uvicorn", b"lastcall", b"nginx",
    b"ut of memory", b"oom", b"segfault", b"logrotate", b"ansible", b"monit", b"deploy", b"restart", b"supervisor",
)  # fmt: skip
"""One of these stands in every line that matters."""


def read(line: str) -> Told | None:
    """A line of syslog in either form, or of `dmesg -T`; None: it is none."""
    match = _LINE.match(line)
    if match is None:
        dmesg = _DMESG.match(line)
        when = moment(dmesg["time"], serverlogs.UWSGI_FORM) if dmesg else None
        return Told(When(when[0]), kernel(dmesg["message"])) if when and dmesg else None
    stamp = _when(match["old"], match["new"])
    if stamp is None:
        return None
    return Told(stamp, of_program(match["program"], match["message"], int(match["pid"] or 0)))


def _when(old: str | None, new: str | None) -> When | None:
    if new is not None:
        return serverlogs.iso(new)
    # 1972 has a 29th of February
    found = moment(f"1972 {old}", "%Y %b %e %H:%M:%S")
    return When(found[0], None, 1.0, dated=False) if found else None


# --- journalctl -o json ------------------------------------------------------


class _Entry(msgspec.Struct):
    """What matters of an entry; each may be a number, a list of bytes or missing, too."""

    MESSAGE: str | list[int] | None = None
    time: str | int | None = msgspec.field(default=None, name="__REALTIME_TIMESTAMP")
    SYSLOG_IDENTIFIER: str | list[str] | None = None
    comm: str | None = msgspec.field(default=None, name="_COMM")
    pid: str | int | None = msgspec.field(default=None, name="_PID")
    SYSLOG_PID: str | None = None
    UNIT: str | list[str] | None = None
    JOB_TYPE: str | None = None
    own_unit: str | None = msgspec.field(default=None, name="_SYSTEMD_UNIT")


_decode = msgspec.json.Decoder(_Entry).decode


def journal(line: str) -> Told | None:
    """An object of `journalctl -o json`; None: it is none."""
    if not line.startswith("{") or "__REALTIME_TIMESTAMP" not in line:
        return None
    try:
        entry = _decode(line)
        at = int(entry.time or 0) / 1e6
    except (msgspec.DecodeError, ValueError, OverflowError):
        return None
    if not 0 < at < 1e11:
        return None
    message = entry.MESSAGE
    if isinstance(message, list):
        message = bytes(byte & 0xFF for byte in message).decode("utf-8", "backslashreplace")
    program = entry.SYSLOG_IDENTIFIER if isinstance(entry.SYSLOG_IDENTIFIER, str) else entry.comm or ""
    unit = entry.UNIT if isinstance(entry.UNIT, str) else ""
    pid = str(entry.pid or entry.SYSLOG_PID or "")
    what = of_program(program, message or "", int(pid) if pid.isdigit() else 0, unit)
    return Told(When(at, 0, 1e-6), what)


# --- Programs ----------------------------------------------------------------


def of_program(program: str, message: str, pid: int = 0, unit: str = "") -> Content:
    """What this program's message says."""
    name = servers.base(program).strip("()").lower()
    if name in ("cron", "crond", "/usr/sbin/cron", "fcron", "crontab"):
        return cron(message) if name != "crontab" else NOTHING
    if name in ("sudo", "doas"):
        return sudo(message)
    if name == "systemd":
        return systemd(message, unit)
    if name == "kernel":
        return kernel(message)
    if name in ("anacron", "run-parts"):
        return _parts(message)
    if name == "logrotate":
        return Sighting("logrotate", "logrotate", "root")
    if name.startswith("ansible"):
        return _ansible(message)
    server = servers.mentioned(name)
    if server in (servers.PHP_FPM, servers.LASTCALL):
        return _named(fpmlog.of_syslog(message), server)
    if server == servers.NGINX:
        told = nginxlog.read(message) or accesslines.combined(message)
        return told.what if told is not None else NOTHING
    if server == servers.GUNICORN:
        told = serverlogs.gunicorn(message)
        return told.what if told is not None else serverlogs.gunicorn_says(message, pid)
    if server == servers.UWSGI:
        told = serverlogs.uwsgi(message)
        return told.what if told is not None else NOTHING
    if server == servers.UVICORN:
        told = serverlogs.uvicorn(message)
        return told.what if told is not None else NOTHING
    if name == "supervisord":
        told = serverlogs.supervisor(message)
        return told.what if told is not None else NOTHING
    # a server that was started by an interpreter is called after it
    told = serverlogs.gunicorn(message) or (serverlogs.uvicorn(message) if message.startswith("INFO:     ") else None)
    return told.what if told is not None else by_word(name, message)


def _named(what: Content, service: str) -> Content:
    if isinstance(what, Happening) and not what.service:
        return Happening(service, what.did, what.cause, what.pid, what.sender, what.grace)
    return what


_CMD = re.compile(r"\((?P<user>[^)]*)\) (?:CMD|CMDEND|RUN) ?\((?:\[\d+\] )?(?P<command>.*)\)\s*$")
_BUSY = re.compile(r"(?:crond: )?USER (?P<user>\S+) pid +\d+ cmd (?P<command>.*)")


def cron(message: str) -> Content:
    """What cron runs: Vixie's and its descendants', busybox's."""
    if (found := _CMD.match(message)) and " CMDEND " not in message:
        return Sighting("cron", found["command"].strip(), found["user"])
    if found := _BUSY.match(message):
        return Sighting("cron", found["command"].strip(), found["user"])
    return NOTHING


_SUDO = re.compile(r"\s*(?P<user>\S+) : .*?COMMAND=(?P<command>.*)")


def sudo(message: str) -> Content:
    """Who has run what as somebody else."""
    found = _SUDO.match(message)
    if found is None or "command not allowed" in message or "incorrect password" in message:
        return NOTHING
    folder = re.search(r"PWD=([^;]*?) ;", message)
    return Sighting("sudo", found["command"].strip(), found["user"], folder[1] if folder else "")


def _parts(message: str) -> Content:
    if found := re.match(r"\((?P<folder>[^)]+)\) starting (?P<script>\S+)", message):
        return Sighting("cron", f"{found['folder'].removeprefix('run-parts ').strip()}/{found['script']}", "root")
    if found := re.match(r"Job [`'](?P<job>[^']+)' started", message):
        return Sighting("anacron", found["job"], "root")
    return NOTHING


_ANSIBLE = re.compile(
    r"Invoked with .*?\bname=(?P<name>\S+).*?\bstate=(?P<state>\w+)|"
    r"Invoked with .*?\bstate=(?P<first>\w+).*?\bname=(?P<then>\S+)"
)
_STATES = {"restarted": "restart", "reloaded": "reload", "stopped": "stop"}


def _ansible(message: str) -> Content:
    found = _ANSIBLE.search(message)
    if found is not None:
        verb = _STATES.get(found["state"] or found["first"])
        name = (found["name"] or found["then"] or "").strip("'\",")
        if verb and name:
            return Sighting("ansible", f"systemctl {verb} {name}", "root")
    if raw := re.search(r"_raw_params=(?P<command>.*?)(?: _uses_shell=| warn=| stdin_| argv=|$)", message):
        return Sighting("ansible", raw["command"].strip("'\""), "root")
    return NOTHING


_ORDERED = re.compile(r"\b(?:re-?start|reload|stop|deploy|release|rollout)", re.IGNORECASE)


def by_word(name: str, message: str) -> Content:
    """Any other program that speaks of a restart: a hint, where nothing better is found."""
    if not _ORDERED.search(message):
        return NOTHING
    kind = "monit" if name == "monit" else "deploy" if "deploy" in f"{name} {message}".lower() else "log"
    given = orders(message)
    if given or mentioned(message) or kind == "deploy":
        return Sighting(kind, message, "")
    return NOTHING


# --- systemd -----------------------------------------------------------------

UNIT = "unit "
"""What stands before the name of a unit, or its description, in place of a server's name."""
_FPM_WORDS = re.compile(r"PHP [\d.]* ?FastCGI Process Manager|PHP-FPM|FastCGI Process Manager", re.IGNORECASE)
_UNIT = re.compile(r"(?P<unit>[\w@.:\\-]+\.(?:service|timer|socket|scope))(?=[:\s]|$)")
_EXITED = re.compile(r"Main process exited, code=(?P<code>\w+), status=(?P<status>\d+)(?:/(?P<name>\w+))?")
_VERBS = (
    ("Stopping ", Did.TOLD), ("Stopped ", Did.GONE), ("Reloading ", Did.RELOADING), ("Reloaded ", Did.READY),
    ("Starting ", Did.STARTING), ("Started ", Did.READY),
)  # fmt: skip


def systemd(message: str, unit: str = "") -> Content:
    """What systemd says of a unit."""
    named = _UNIT.search(message)
    unit = unit or (named["unit"] if named else "")
    service = mentioned(unit) or mentioned(message) or (servers.PHP_FPM if _FPM_WORDS.search(message) else "")
    verb = next((did for word, did in _VERBS if message.startswith(word)), None)
    # a unit is called as somebody has called it: whoever knows the units knows what it starts
    described = message.split(" ", 1)[-1].rstrip(". ") if verb is not None else ""
    service = service or f"{UNIT}{unit or described}"
    if service == UNIT:
        return NOTHING
    if verb is not None:
        cause = "systemd" if verb in (Did.TOLD, Did.RELOADING) else ""
        return Happening(service, verb, cause)
    if exited := _EXITED.search(message):
        if exited["code"] in ("killed", "dumped"):
            return Happening(service, Did.VANISHED, signal_name(exited["name"] or exited["status"]))
        return Happening(service, Did.GONE, "exit" if exited["status"] != "0" else "")
    if "killed by the OOM killer" in message or "Failed with result 'oom-kill'" in message:
        return Happening(service, Did.WORKER_DIED, "oom")
    if found := re.search(r"Killing process (\d+) \(.*\) with signal SIG(\w+)", message):
        return Happening(service, Did.TOLD, f"worker {found[2]}", int(found[1]))
    if "stop-sigterm' timed out. Killing" in message or "timed out. Killing." in message:
        return Happening(service, Did.VANISHED, "KILL")
    return NOTHING


_OOM = re.compile(
    r"(?:Out of memory|Memory cgroup out of memory): (?:Killed|Kill) process (?P<pid>\d+),? \((?P<name>[^)]+)\)"
)
_OOM_TASK = re.compile(r"oom-kill:.*\btask=(?P<name>[^,]+),pid=(?P<pid>\d+)")
_FAULT = re.compile(
    r"(?:\[ *[\d.]+\] )?(?:traps: )?(?P<name>[\w.-]+)\[(?P<pid>\d+)\]:? "
    r"(?:segfault at|general protection|trap \w+)"
)


def kernel(message: str) -> Content:
    """Whom the kernel has killed."""
    for pattern, cause in ((_OOM, "oom"), (_OOM_TASK, "oom"), (_FAULT, "segfault")):
        found = pattern.search(message)
        if found is not None:
            service = mentioned(found["name"])
            return Happening(service, Did.WORKER_DIED, cause, int(found["pid"])) if service else NOTHING
    return NOTHING
