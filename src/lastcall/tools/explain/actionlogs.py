"""Logs of those who restart servers by the way: apt and dpkg, certbot, logrotate, deploys; the kernel's audit. Pure."""

from __future__ import annotations

import re

from lastcall.tools.accesslogs import moment
from lastcall.tools.explain import syslog
from lastcall.tools.explain.records import NOTHING, Sighting, Told, When
from lastcall.tools.explain.serverlogs import iso

# --- dpkg.log, apt/history.log -----------------------------------------------

_DPKG = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:(?P<what>install|upgrade|configure|trigproc|remove) (?P<package>\S+)|"
    r"(?:status|startup|conffile|purge|disappear)\b).*"
)
_APT = re.compile(
    r"(?P<key>Start-Date|End-Date|Commandline|Requested-By|Install|Upgrade|Remove|Purge|Error): ?(?P<value>.*)"
)


def dpkg(line: str) -> Told | None:
    """A line of dpkg.log; None: it is none."""
    found = _DPKG.match(line)
    when = moment(found["time"], "%Y-%m-%d %H:%M:%S") if found else None
    if found is None or when is None:
        return None
    if found["what"] in ("upgrade", "configure", "remove"):
        return Told(When(when[0]), Sighting("apt", f"dpkg {found['what']} {found['package']}", "root"))
    return Told(When(when[0]), NOTHING)


def apt(line: str) -> Told | None:
    """A line of apt's history; None: it is none. What was run stands behind its time."""
    found = _APT.match(line)
    if found is None:
        return None
    if found["key"] == "Start-Date":
        when = moment(" ".join(found["value"].split()), "%Y-%m-%d %H:%M:%S")
        return Told(When(when[0]), NOTHING) if when else None
    if found["key"] in ("Commandline", "Upgrade"):
        return Told(None, Sighting("apt", found["value"].strip(), "root"))
    return Told(None, NOTHING)


# --- certbot -----------------------------------------------------------------

_CERTBOT = re.compile(r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}):(?:DEBUG|INFO|WARNING|ERROR):(?P<rest>.*)")
_HOOK = re.compile(
    r"Running (?:(?:deploy|pre|post|renew)-hook )?command: (?P<command>.*)|Running (?:deploy|pre|post)-hook (?P<file>\S+)"
)


def certbot(line: str) -> Told | None:
    """A line of certbot's log, which runs hooks; None: it is none."""
    found = _CERTBOT.match(line)
    when = iso(found["time"]) if found else None
    if found is None or when is None:
        return None
    hook = _HOOK.search(found["rest"])
    return Told(when, Sighting("hook", (hook["command"] or hook["file"]).strip(), "root") if hook else NOTHING)


# --- logrotate's state -------------------------------------------------------

_STATE = re.compile(r'"(?P<file>[^"]+)" (?P<time>\d{4}-\d{1,2}-\d{1,2}-\d{1,2}:\d{1,2}:\d{1,2})$')


def logrotate_state(line: str) -> Told | None:
    """A line of /var/lib/logrotate/status: which file was rotated last, and when; None: it is none."""
    if line.startswith("logrotate state -- version"):
        return Told(None, NOTHING)
    found = _STATE.match(line)
    if found is None:
        return None
    year, month, day, clock = found["time"].split("-")
    hour, minute, second = clock.split(":")
    padded = f"{year}-{int(month):02}-{int(day):02} {int(hour):02}:{int(minute):02}:{int(second):02}"
    when = moment(padded, "%Y-%m-%d %H:%M:%S")
    return Told(When(when[0]), Sighting("logrotate", found["file"], "root")) if when else None


# --- auditd ------------------------------------------------------------------

_AUDIT = re.compile(r"type=(?P<type>\w+) msg=audit\((?P<time>\d{9,11}\.\d{3}):\d+\): ?(?P<rest>.*)")
_ARGUMENT = re.compile(r'\ba(?P<n>\d+)=(?:"(?P<plain>[^"]*)"|(?P<hex>[0-9A-F]{2,}))')


def audit(line: str) -> Told | None:
    """A line of the kernel's audit; None: it is none. Who executed what is all that is taken."""
    found = _AUDIT.match(line)
    if found is None:
        return None
    when = When(float(found["time"]), 0, 0.001)
    if found["type"] != "EXECVE":
        return Told(when, NOTHING)
    words = [_argument(match) for match in _ARGUMENT.finditer(found["rest"])]
    return Told(when, Sighting("audit", " ".join(words), ""))


def _argument(match: re.Match[str]) -> str:
    """As it is written, or in hexadecimal where it has blanks or quotes."""
    if match["plain"] is not None:
        return match["plain"]
    return bytes.fromhex(match["hex"][: len(match["hex"]) & ~1]).decode("utf-8", "replace")


# --- Any other log that has times --------------------------------------------

_ANY = re.compile(
    r"\W?(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(?P<zone>Z|[ ]?[+-]\d\d:?\d\d)?\W*(?P<rest>.*)"
)
_ANY_OLD = re.compile(
    r"\W?(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:[A-Z]{3,4} )?\d{4})\W*(?P<rest>.*)"
)


def other(line: str) -> Told | None:
    """A line of a log that we do not know, if it begins with a time: a deploy's, most often."""
    found = _ANY.match(line)
    if found is not None:
        zone = (found["zone"] or "").strip()
        when = iso(found["time"] + zone)
        return Told(when, syslog.by_word("", found["rest"])) if when else None
    old = _ANY_OLD.match(line)
    if old is not None:
        parts = old["time"].split()
        offset = 0 if len(parts) == 6 and parts[4] in ("UTC", "GMT") else None
        if len(parts) == 6:
            del parts[4]
        stamp = moment(f"{parts[0]} {parts[1]} {parts[2]:>2} {parts[3]} {parts[4]}", "%a %b %e %H:%M:%S %Y")
        return Told(When(stamp[0], offset), syslog.by_word("", old["rest"])) if stamp else None
    return None
