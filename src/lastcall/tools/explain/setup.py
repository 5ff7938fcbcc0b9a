"""What the configuration says about logs and servers: where each log is and in which format, who listens where, how many
requests a server runs at a time, and how long it lets them finish. Pure: facts in, a `Setup` out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lastcall.core.mistakes import Mistake
from lastcall.tools.doctor import runs
from lastcall.tools.doctor.facts import Facts
from lastcall.tools.explain import accesslines, kinds
from lastcall.tools.explain.kinds import Kind
from lastcall.tools.readers import servers
from lastcall.tools.readers.fpmconf import FpmConf, Pool
from lastcall.tools.readers.nginxconf import NginxConf
from lastcall.tools.readers.text import FOREVER, Spot, seconds


@dataclass
class Setup:
    """What is known before a log is read."""

    logs: dict[str, None] = field(default_factory=dict)
    """Paths of logs, absolute inside the root."""
    formats: dict[str, list[Kind]] = field(default_factory=dict)
    """Access logs whose format is known."""
    services: dict[str, str] = field(default_factory=dict)
    """Address -> the server that listens there."""
    capacity: dict[str, int] = field(default_factory=dict)
    """How many requests a server runs at a time, at most; by its name, and by the address of each of its listeners."""
    grace: dict[str, tuple[float, Spot | None]] = field(default_factory=dict)
    """How long a server lets its requests finish, and where that is said; None: it is the default."""
    kept: bool = False
    """nginx keeps connections to its servers."""
    errors: set[str] = field(default_factory=set)
    """Error logs of nginx."""
    service_of: dict[str, str] = field(default_factory=dict)
    """Log -> whose it is."""

    programs: dict[str, str] = field(default_factory=dict)
    """What units and supervisor's programs are called, and described as -> the server that they start."""

    def log(self, path: str, service: str = "") -> None:
        """A log that the configuration names."""
        if path.startswith("/") and not path.startswith(("/dev/", "/proc/")) and "$" not in path:
            self.logs[path] = None
            if service:
                self.service_of[path] = service

    def kind_of(self, path: str) -> Kind | None:
        """The kind of a log whose format the configuration names; of the files that it was rotated to, too."""
        found = self.formats.get(path) or self.formats.get(base(path))
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        return kinds.by_format(found[0].name, [kind.read for kind in found], found[0].service)

    def runs_at(self, upstream: str, service: str) -> int | None:
        """How many requests are run at a time by whoever listens at an upstream's address; None: nobody knows."""
        return self.capacity.get(address(upstream)) or self.capacity.get(service)

    def service_at(self, upstream: str) -> str:
        """Who listens at an upstream's address, as nginx writes it."""
        known = self.services.get(address(upstream))
        if known:
            return known
        scheme = upstream.partition("://")[0]
        return {"fastcgi": servers.PHP_FPM, "uwsgi": servers.UWSGI}.get(scheme, "")


def base(path: str) -> str:
    """A log's name before it was rotated, or packed."""
    return re.sub(
        r"(?:\.(?:gz|zst|xz|bz2))?$", "", re.sub(r"(?:[.-]\d{1,10}(?:-\d+)?)?(?:\.(?:gz|zst|xz|bz2))?$", "", path)
    )


def address(text: str) -> str:
    """`fastcgi://unix:/run/x.sock:`, `http://127.0.0.1:8000/a`, `9000` -> the address alone."""
    bare = re.sub(r"^\w+://", "", text.strip().strip("\"'"))
    if bare.startswith("unix:"):
        return bare.removeprefix("unix:").partition(":")[0]
    if bare.startswith("/"):
        return bare
    bare = bare.partition("/")[0].replace("localhost", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    bare = re.sub(r"^\*?:", "127.0.0.1:", bare) if bare.startswith((":", "*:")) else bare
    return f"127.0.0.1:{bare}" if bare.isdigit() else bare


def of(facts: Facts) -> Setup:
    """What these facts say."""
    found = Setup()
    for nginx in facts.nginxes:
        _nginx(nginx, found)
    for conf in facts.fpms:
        _fpm(conf, found)
    for run in runs.runs(facts):
        _run(facts, run, found)
        if run.by in (runs.By.UNIT, runs.By.SUPERVISOR):
            found.programs[run.name] = found.programs[run.name.removesuffix(".service")] = run.server
            named = facts.units.get(run.name)
            described = named.get("Unit", "Description") if named is not None else None
            if described is not None:
                found.programs[described.value.rstrip(". ")] = run.server
    for path in ("/var/lib/logrotate/status", "/var/lib/logrotate/logrotate.status", "/var/lib/logrotate.status"):
        found.log(path)
    return found


# --- nginx -------------------------------------------------------------------


def _nginx(conf: NginxConf, found: Setup) -> None:
    formats = {
        directive.args[0]: "".join(arg for arg in directive.args[1:] if not arg.startswith("escape="))
        for directive, _ in conf.walk()
        if directive.name == "log_format" and len(directive.args) > 1
    }
    for directive, _ in conf.walk():
        args = directive.args
        if directive.name == "error_log" and args:
            found.log(args[0], servers.NGINX)
            found.errors.add(args[0])
        elif directive.name == "access_log" and args and args[0] != "off":
            found.log(args[0])
            named = [arg for arg in args[1:] if not re.match(r"(?:buffer|gzip|flush|if)(?:=|$)", arg)]
            _format(found, args[0], formats.get(named[0]) if named else None)
        elif directive.name in ("fastcgi_keep_conn", "keepalive") and args and args[0] not in ("off", "0"):
            found.kept = True


def _format(found: Setup, path: str, text: str | None) -> None:
    kind = kinds.ACCESS
    if text is not None:
        try:
            kind = kinds.by_format("access log", [accesslines.nginx(text)])
        except (Mistake, re.error):
            return
    listed = found.formats.setdefault(path, [])
    if kind is not kinds.ACCESS or kind not in listed:
        listed.append(kind)


# --- php-fpm -----------------------------------------------------------------


def _fpm(conf: FpmConf, found: Setup) -> None:
    log = conf.globals.values.get("error_log")
    if log is not None:
        found.log(log.text, servers.PHP_FPM)
    timeout = conf.globals.values.get("process_control_timeout")
    if conf.globals.spot.line or conf.globals.values:
        wait = seconds(timeout.text) if timeout is not None else 0.0
        if wait is not None and wait != FOREVER:
            found.grace[servers.PHP_FPM] = (wait, timeout.spot if timeout is not None else None)
    for pool in conf.pools:
        _pool(pool, found)


def _pool(pool: Pool, found: Setup) -> None:
    def value(key: str) -> str:
        return pool.values[key].text.replace("$pool", pool.name) if key in pool.values else ""

    if value("listen"):
        found.services[address(value("listen"))] = servers.PHP_FPM
    for key in ("access.log", "slowlog"):
        if value(key):
            found.log(value(key), servers.PHP_FPM)
    most = value("pm.max_children")
    if most.isdigit():
        found.capacity[servers.PHP_FPM] = found.capacity.get(servers.PHP_FPM, 0) + int(most)
        found.capacity[address(value("listen"))] = int(most)
    if value("access.log"):
        kind = kinds.ACCESS_FPM
        if value("access.format"):
            try:
                reader = accesslines.fpm(value("access.format"))
            except (Mistake, re.error):
                return
            kind = kinds.by_format(kind.name, [reader], servers.PHP_FPM)
        found.formats.setdefault(value("access.log"), []).append(kind)


# --- Others ------------------------------------------------------------------


def _run(facts: Facts, run: runs.Run, found: Setup) -> None:
    instance = runs.Instance(run.server, run.spot, run, runs.config_of(facts, run))
    for name in ("bind", "http", "fastcgi", "socket", "http_socket", "listen"):
        value = instance.get(name)
        for part in value.text.split(",") if value is not None else ():
            found.services[address(part)] = run.server
    if run.server == servers.UVICORN:
        host, port = runs.option(run, "--host") or "127.0.0.1", runs.option(run, "--port") or "8000"
        found.services[address(runs.option(run, "--uds") or f"{host}:{port}")] = run.server
    for name in ("errorlog", "error_logfile", "log_file", "logto", "daemonize", "log"):
        value = instance.get(name)
        if value is not None:
            found.log(value.text, run.server)
    log = instance.get("accesslog") or instance.get("access_logfile") or instance.get("access_log")
    if log is not None:
        found.log(log.text, run.server)
        found.service_of[log.text] = run.server
        form = instance.get("access_log_format") or instance.get("access_logformat") or instance.get("access_format")
        if form is not None:
            _own_format(found, log.text, form.text, run.server)
    grace = runs.grace(facts, run)
    if grace is not None and run.server not in found.grace:
        found.grace[run.server] = (grace.seconds, grace.spot)
    _capacity(instance, run, found)


def _own_format(found: Setup, path: str, text: str, service: str) -> None:
    """Gunicorn's format, or one of lastcall's: a name, php-fpm's fields or gunicorn's."""
    try:
        if "%" in text:
            reader = accesslines.gunicorn(text) if "%(" in text else accesslines.fpm(text)
        else:
            reader = {"json": accesslines.json, "fpm": accesslines.fpm_default}.get(text, accesslines.combined)
    except (Mistake, re.error):
        return
    found.formats.setdefault(path, []).append(kinds.by_format("access log", [reader], service))


def _capacity(instance: runs.Instance, run: runs.Run, found: Setup) -> None:
    workers, threads = instance.get("workers"), instance.get("threads")
    if run.server == servers.UWSGI:
        workers = instance.get("processes") or workers
    if workers is not None and workers.text.isdigit():
        many = int(workers.text) * (int(threads.text) if threads is not None and threads.text.isdigit() else 1)
        found.capacity.setdefault(run.server, many)
