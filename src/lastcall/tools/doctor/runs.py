"""Where servers are started, with which settings, and how each is stopped: by which signal, and killed after how long.

Pure. A `Run` is one place that starts one server: a unit, a program of supervisor's, an image, a service of a compose
file, a container of a manifest, an application of PM2's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from lastcall.config import toml
from lastcall.core.settings import SPECS
from lastcall.tools.doctor.facts import Facts, Kind, Source, Value, users_of
from lastcall.tools.readers import dockerfile, fpmconf, ini, pyconf, servers, unit
from lastcall.tools.readers.servers import shell_script, signal_name, started
from lastcall.tools.readers.shell import parse as parse_shell
from lastcall.tools.readers.text import FOREVER, Spot, seconds, words
from lastcall.tools.readers.yamlnodes import Node


class By(Enum):
    """What starts a server, and stops it."""

    UNIT = "systemd"
    SUPERVISOR = "supervisor"
    IMAGE = "the image"
    COMPOSE = "compose"
    KUBERNETES = "Kubernetes"
    PM2 = "PM2"


@dataclass(frozen=True)
class Run:
    """A server that is started somewhere."""

    server: str
    argv: tuple[str, ...]
    """Its command line from the server on; () where an image starts it by itself."""
    spot: Spot
    by: By
    name: str
    """What it is called there: the unit, the program, the service."""
    stop: tuple[str, Spot | None] = ("", None)
    """The signal that stops it, and where that is said; None: it is the default."""
    kill: tuple[float | None, Spot | None] = (None, None)
    """Seconds until SIGKILL, the same way; None: not known, or a template."""
    folder: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    head: Spot | None = None
    """Where a setting that is missing would be put behind."""
    line: tuple[str, ...] = ()
    """The whole command line, with what starts the server; () where it is not said."""


# --- Runs --------------------------------------------------------------------


def runs(facts: Facts) -> list[Run]:
    """Every place where a server that we know is started."""
    makers = (_units, _supervised, images, _composed, _pods, _pm2)
    return facts.remembered("runs", lambda: [run for maker in makers for run in maker(facts)])


def command_of(line: Sequence[str]) -> tuple[str, ...]:
    """The command that a command line ends up with: behind what starts it, and in a shell the last one."""
    left = servers.unwrapped(line)
    inner = shell_script(left)
    if inner is None:
        return left
    commands = [servers.unwrapped(c.words) for c in parse_shell(inner).commands]
    return next((c for c in reversed(commands) if started(c)), commands[-1] if commands else ())


SYSTEMD_GRACE = 90.0
"""DefaultTimeoutStopSec= (systemd-system.conf(5))."""


def _units(facts: Facts) -> Iterator[Run]:
    for name, found in facts.units.items():
        for entry in found.all("Service", "ExecStart"):
            argv = command_of(unit.command(entry.value))
            server = started(argv)
            if not server:
                continue
            signal, limit = found.get("Service", "KillSignal"), found.get("Service", "TimeoutStopSec")
            limit = limit or found.get("Service", "TimeoutSec")
            wait = SYSTEMD_GRACE if limit is None else seconds(limit.value)
            if wait == 0 and limit is not None:
                wait = FOREVER  # systemd.service(5): 0 of TimeoutSec= and TimeoutStopSec= turns it off
            cwd = found.get("Service", "WorkingDirectory")
            head = Spot(found.file, _head(facts, found.file, r"\[Service\]"))
            yield Run(
                server, argv, entry.spot, By.UNIT, name,
                (signal_name(signal.value) if signal else "TERM", signal.spot if signal else None),
                (wait, limit.spot if limit else None), cwd.value if cwd else "", unit.environment(found), head,
            )  # fmt: skip


def _head(facts: Facts, file: str, pattern: str) -> int:
    source = facts.files.get(file)
    for number, line in enumerate(source.text.split("\n") if source else (), 1):
        if re.match(rf"\s*{pattern}", line):
            return number
    return 0


SUPERVISOR_GRACE = 10.0
"""stopwaitsecs (supervisor's documentation)."""


def _supervised(facts: Facts) -> Iterator[Run]:
    for source, read in facts.supervisors:
        for section, line in read.sections:
            command = read.get(section, "command")
            if not section.startswith("program:") or command is None:
                continue
            argv = command_of(words(command.value))
            if not (server := started(argv)):
                continue
            signal, limit = read.get(section, "stopsignal"), read.get(section, "stopwaitsecs")
            folder = read.get(section, "directory")
            yield Run(
                server, argv, Spot(source.path, command.line), By.SUPERVISOR, section.partition(":")[2],
                (signal_name(signal.value) if signal else "TERM", Spot(source.path, signal.line) if signal else None),
                (seconds(limit.value) if limit else SUPERVISOR_GRACE, Spot(source.path, limit.line) if limit else None),
                folder.value if folder else "", {}, Spot(source.path, line),
            )  # fmt: skip


# --- Containers --------------------------------------------------------------

DOCKER_GRACE = 10.0
"""`docker stop`, and compose's stop_grace_period."""

POD_GRACE = 30.0
"""terminationGracePeriodSeconds."""

_IMAGES = (
    # what these images start, and their STOPSIGNAL (docker-library/php, nginx, httpd, unit; bitnami's)
    (re.compile(r"(?:^|/)php:[^/]*fpm|(?:^|/)php-fpm(?::|$)"), servers.PHP_FPM, "QUIT"),
    (re.compile(r"(?:^|/)(?:nginx|nginx-unprivileged|openresty)(?::|$)"), servers.NGINX, "QUIT"),
    (re.compile(r"(?:^|/)httpd(?::|$)"), servers.APACHE, "WINCH"),
    (re.compile(r"(?:^|/)php:[^/]*apache"), servers.APACHE, "WINCH"),
    (re.compile(r"(?:^|/)haproxy(?::|$)"), servers.HAPROXY, "USR1"),
    (re.compile(r"(?:^|/)tiangolo/(?:uvicorn-gunicorn|meinheld-gunicorn)[^/]*$"), servers.GUNICORN, "TERM"),
)


def image(name: str) -> tuple[str, str]:
    """The server that a well-known image starts, and its STOPSIGNAL; "" where we know none."""
    return next(((server, signal) for pattern, server, signal in _IMAGES if pattern.search(name)), ("", ""))


def stage_command(stage: dockerfile.Stage) -> tuple[tuple[str, ...], dockerfile.Instruction | None]:
    """What an image runs: ENTRYPOINT with CMD behind it, and the instruction that names the program."""
    entry, command = stage.last("ENTRYPOINT"), stage.last("CMD")
    if entry is not None and entry.exec_form() is not None and command is not None:
        line = (*entry.command(), *command.command())
        argv = command_of(line)
        # an entrypoint script ends in `exec "$@"`: what runs is the CMD
        if not started(argv) and started(command_of(command.command())):
            return command_of(command.command()), command
        return argv, entry
    last = entry or command
    return (command_of(_words(last)), last) if last is not None else ((), None)


def _words(found: dockerfile.Instruction) -> tuple[str, ...]:
    form = found.exec_form()
    return form if form is not None else ("sh", "-c", found.text)


def image_run(source: Source, read: dockerfile.Dockerfile) -> Run | None:
    """The server of a Dockerfile's image."""
    stage = read.final()
    if stage is None:
        return None
    argv, by = stage_command(stage)
    base = re.sub(r"\$\{?(\w+)(?::-[^}]*)?\}?", lambda m: read.arguments.get(m[1], m[0]), stage.base)
    known, inherited = image(base)
    server = started(argv) or ("" if argv else known)
    if not server:
        return None
    stop = stage.last("STOPSIGNAL")
    signal = signal_name(stop.text) if stop else inherited or "TERM"
    spot = Spot(source.path, by.line if by else stage.line)
    return Run(
        server, argv, spot, By.IMAGE, source.path, (signal, Spot(source.path, stop.line) if stop else None),
        head=Spot(source.path, by.line if by else stage.line),
    )  # fmt: skip


def images(facts: Facts) -> list[Run]:
    """The servers of all Dockerfiles."""
    made = (image_run(source, read) for source, read in facts.dockerfiles)
    return facts.remembered("images", lambda: [run for run in made if run is not None])


def _node_words(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    return node.command() or (words(node.text) if node.text else ())


def _built(facts: Facts, source: Source, service: Node) -> Run | None:
    """The image that a compose service builds, where its Dockerfile is here."""
    build = service.get("build")
    if build is None:
        return None
    context = build.text or build.value("context") or "."
    name = build.value("dockerfile") or "Dockerfile"
    found = facts.named(f"{context}/{name}", source.path)
    return next((r for r in images(facts) if found is not None and r.spot.file == found.path), None)


def _composed(facts: Facts) -> Iterator[Run]:
    for source, node in facts.composed:
        for name, line, service in node.pairs("services"):
            built = _built(facts, source, service)
            known, inherited = image(service.value("image"))
            whole = (*_node_words(service.get("entrypoint")), *_node_words(service.get("command")))
            argv = command_of(whole)
            if not started(argv) and service.get("command"):
                argv = command_of(_node_words(service.get("command")))
            server = started(argv) or ("" if argv else known) or (built.server if built and not argv else "")
            if not server:
                continue
            argv = argv or (built.argv if built else ())
            signal, limit = service.get("stop_signal"), service.get("stop_grace_period")
            default = inherited or (built.stop[0] if built else "") or "TERM"
            at = service.at("command" if service.get("command") else "image" if known else "build")
            yield Run(
                server, argv, Spot(source.path, at), By.COMPOSE, name,
                (signal_name(signal.text or "") if signal else default, Spot(source.path, signal.line) if signal else None),
                (seconds(limit.text or "") if limit else DOCKER_GRACE, Spot(source.path, limit.line) if limit else None),
                line=whole,
                head=Spot(source.path, line),
            )  # fmt: skip


def pod_of(node: Node) -> Node | None:
    """The pod that an object of Kubernetes' describes."""
    match node.value("kind"):
        case "Pod":
            return node.get("spec")
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Rollout":
            return node.get("spec", "template", "spec")
        case _:
            return None


def container_server(container: Node) -> tuple[str, tuple[str, ...]]:
    """The server of a container, and its command line."""
    line = (*_node_words(container.get("command")), *_node_words(container.get("args")))
    argv = command_of(line)
    return started(argv) or ("" if container.get("command") else image(container.value("image"))[0]), argv


def _pods(facts: Facts) -> Iterator[Run]:
    for source, node in facts.manifests:
        pod = pod_of(node)
        for container in pod.each("containers") if pod else ():
            server, argv = container_server(container)
            if not server or pod is None:
                continue
            limit = pod.get("terminationGracePeriodSeconds")
            signal = image(container.value("image"))[1] or "TERM"
            yield Run(
                server, argv, Spot(source.path, container.line), By.KUBERNETES, container.value("name"), (signal, None),
                (seconds(limit.text or "") if limit else POD_GRACE, Spot(source.path, limit.line) if limit else None),
                line=(*_node_words(container.get("command")), *_node_words(container.get("args"))),
                head=Spot(source.path, pod.line - 1),
            )  # fmt: skip


# --- PM2 ---------------------------------------------------------------------

PM2_GRACE = 1.6
"""kill_timeout (PM2's lib/API/schema.json)."""


def _pm2(facts: Facts) -> Iterator[Run]:
    for source in facts.of(Kind.PM2):
        lines = source.text.split("\n")
        script = _match(lines, r"""\s*['"]?script['"]?\s*:\s*['"]([^'"]+)""")
        if script is None:
            continue
        limit = _match(lines, r"""\s*['"]?kill_timeout['"]?\s*:\s*([^,\s]+)""")
        spot = Spot(source.path, script[1])
        wait = seconds(limit[0], unit=0.001) if limit else PM2_GRACE
        at = Spot(source.path, limit[1]) if limit else None
        yield Run(servers.NODE, (), spot, By.PM2, script[0], ("INT", None), (wait, at), head=spot)


def _match(lines: list[str], pattern: str) -> tuple[str, int] | None:
    for number, line in enumerate(lines, 1):
        if found := re.match(pattern, line):
            return found[1], number
    return None


# --- Settings ----------------------------------------------------------------

OPTIONS = {
    servers.GUNICORN: {"-t": "--timeout", "-b": "--bind", "-c": "--config", "-k": "--worker-class", "-w": "--workers"},
    servers.PUMA: {"-C": "--config", "-w": "--workers", "-t": "--threads", "-b": "--bind"},
    servers.PHP_FPM: {"-y": "--fpm-config"},
    servers.HYPERCORN: {"-c": "--config", "-b": "--bind", "-w": "--workers"},
    servers.LASTCALL: {"-c": "--config"},
}


def option(run: Run, name: str) -> str | None:
    """What an option of the command line is set to; "" for a flag; None where it is not there."""
    names = {name, *(short for short, long in OPTIONS.get(run.server, {}).items() if long == name)}
    found = None
    argv = run.argv
    if run.server == servers.GUNICORN:
        argv = (*words(run.environment.get("GUNICORN_CMD_ARGS", "")), *argv)
    for at, word in enumerate(argv):
        key, equals, value = word.partition("=")
        if key in names:
            following = argv[at + 1] if at + 1 < len(argv) else ""
            found = value if equals else "" if following.startswith("-") else following
    return found


def config_of(facts: Facts, run: Run) -> Source | None:
    """The configuration file that a run names, where it is here."""
    key = {servers.PHP_FPM: "--fpm-config", servers.UWSGI: "--ini"}.get(run.server, "--config")
    path = option(run, key)
    if path is None and run.server == servers.UWSGI:
        path = next((word for word in run.argv[1:] if word.endswith(".ini")), None)
    if path is None and run.server == servers.GUNICORN:
        path = "gunicorn.conf.py"
    if path is None and run.server == servers.PUMA:
        path = "config/puma.rb"
    if not path:
        return None
    path = path.removeprefix("python:").removeprefix("file:")
    if run.folder and not path.startswith("/"):
        path = f"{run.folder}/{path}"
    return facts.named(path, run.spot.file)


def fpm_of(facts: Facts, run: Run) -> fpmconf.FpmConf | None:
    """The php-fpm configuration of a run: the one that it names, or the only one that there is."""
    named = config_of(facts, run)
    whole = [conf for conf in facts.fpms if conf.globals.spot.line or conf.globals.values]
    if named is not None:
        return next((conf for conf in whole if conf.file == named.path), None)
    return whole[0] if len(whole) == 1 and option(run, "--fpm-config") is None else None


def from_file(source: Source, name: str) -> Value | None:
    """A setting in a server's own file, whatever its syntax; None where it is not there."""
    match source.kind:
        case Kind.GUNICORN:
            found = pyconf.parse(source.text)[0].get(name)
            return Value(found.value, Spot(source.path, found.line)) if found else None
        case Kind.UWSGI:
            entry = ini.parse(source.text).get("uwsgi", name)
            return Value(entry.value, Spot(source.path, entry.line)) if entry else None
        case Kind.LASTCALL:
            taken = toml.parse(source.text, source.path)[0].get(name)
            return Value(str(taken.value), Spot(source.path, taken.place.line)) if taken else None
        case _:
            return _by_line(source, rf"\s*{name}\s*[=( ]\s*([^\s)#,]+)")


def _by_line(source: Source, pattern: str) -> Value | None:
    found = _match(source.text.split("\n"), pattern)
    return Value(found[0].strip("\"'"), Spot(source.path, found[1])) if found else None


@dataclass(frozen=True)
class Instance:
    """A server with its settings: started somewhere, or just a configuration file of its own."""

    server: str
    spot: Spot
    run: Run | None
    source: Source | None

    def get(self, name: str) -> Value | None:
        """A setting by the name that it has in files; on the command line that wins it has dashes."""
        if self.run is not None:
            given = option(self.run, f"--{name.replace('_', '-')}")
            if given is not None:
                return Value(given or "true", self.run.spot)
            if self.server == servers.LASTCALL and f"LASTCALL_{name.upper()}" in self.run.environment:
                return Value(self.run.environment[f"LASTCALL_{name.upper()}"], self.run.spot)
        return from_file(self.source, name) if self.source is not None else None

    @property
    def head(self) -> Spot:
        """Where a setting that is missing is told: the file's own head, or the command line."""
        return Spot(self.source.path, 1) if self.source is not None else self.spot


_OWN_FILES = {
    servers.GUNICORN: Kind.GUNICORN, servers.UWSGI: Kind.UWSGI, servers.HYPERCORN: Kind.HYPERCORN,
    servers.PUMA: Kind.PUMA, servers.LASTCALL: Kind.LASTCALL,
}  # fmt: skip


def instances(facts: Facts, server: str) -> list[Instance]:
    """Every run of this server, with its file, and every file of this server that no run names."""
    return facts.remembered(f"instances of {server}", lambda: _instances(facts, server))


def _instances(facts: Facts, server: str) -> list[Instance]:
    found = [Instance(server, run.spot, run, config_of(facts, run)) for run in runs(facts) if run.server == server]
    used = {instance.source.path for instance in found if instance.source is not None}
    kind = _OWN_FILES.get(server)
    alone = [source for source in facts.of(kind) if source.path not in used] if kind else []
    return [*found, *(Instance(server, Spot(source.path, 1), None, source) for source in alone)]


# --- How long ----------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """A time, where it is said, and what it is called there."""

    seconds: float
    spot: Spot | None
    name: str


GRACES: dict[str, tuple[str, float | None]] = {
    servers.GUNICORN: ("graceful_timeout", 30.0),
    servers.HYPERCORN: ("graceful_timeout", 3.0),
    servers.UWSGI: ("worker-reload-mercy", 60.0),
    servers.UVICORN: ("timeout_graceful_shutdown", None),
    servers.GRANIAN: ("workers_kill_timeout", None),
    servers.PUMA: ("worker_shutdown_timeout", 30.0),
}
"""What bounds a server's stop, and its default; None: nothing does."""


def grace(facts: Facts, run: Run) -> Span | None:
    """How long a server takes to stop at most, by its own settings; None where nothing bounds it, or nobody can say."""
    if run.server == servers.PHP_FPM:
        conf = fpm_of(facts, run)
        value = conf.globals.values.get("process_control_timeout") if conf else None
        return _span(value, "process_control_timeout", None)
    if run.server == servers.NGINX:
        found = [d for conf in facts.nginxes for d, above in conf.walk() if d.name == "worker_shutdown_timeout"]
        return _span(Value(found[0].args[0], found[0].spot), found[0].name, None) if found and found[0].args else None
    if run.server == servers.LASTCALL:
        return _lastcall_grace(facts, run)
    if run.server not in GRACES:
        return None
    name, default = GRACES[run.server]
    instance = Instance(run.server, run.spot, run, config_of(facts, run))
    return _span(instance.get(name), name, default)


def _span(value: Value | None, name: str, default: float | None) -> Span | None:
    if value is None:
        return Span(default, None, name) if default is not None else None
    read = seconds(value.text)
    return Span(read, value.spot, name) if read is not None and read != FOREVER else None


def _lastcall_grace(facts: Facts, run: Run) -> Span | None:
    instance = Instance(run.server, run.spot, run, config_of(facts, run))
    total, spot = 0.0, None
    for name in ("drain_timeout", "lame_duck"):
        value = instance.get(name)
        default = SPECS[name].default
        assert isinstance(default, int | float)
        read = seconds(value.text) if value else float(default)
        if read is None or (name == "drain_timeout" and read == 0):
            return None
        total, spot = total + read, value.spot if value and spot is None else spot
    return Span(total, spot, "drain_timeout (with lame_duck)")


def longest(facts: Facts, run: Run) -> Span | None:
    """How long a request of this server may run, by its own settings; None where nothing says so."""
    if run.server == servers.PHP_FPM:
        conf = fpm_of(facts, run)
        return request_limit(facts, conf) if conf else None
    names = {
        servers.GUNICORN: ("timeout", 30.0),
        servers.UWSGI: ("harakiri", None),
        servers.LASTCALL: ("request_timeout", None),
    }
    if run.server not in names:
        return None
    name, default = names[run.server]
    instance = Instance(run.server, run.spot, run, config_of(facts, run))
    found = _span(instance.get(name), name, default)
    return found if found is not None and found.seconds else None


def request_limit(facts: Facts, conf: fpmconf.FpmConf) -> Span | None:
    """The longest that a request of php-fpm's may run: request_terminate_timeout, else max_execution_time.

    That counts CPU time on Linux, so that a request may well run for longer, but not be meant to be done sooner.
    """
    for name in ("request_terminate_timeout", "php_admin_value[max_execution_time]", "php_value[max_execution_time]"):
        found = [pool.values[name] for pool in conf.pools if name in pool.values]
        spans = [span for value in found if (span := _span(value, name, None)) is not None and span.seconds]
        if spans:
            return max(spans, key=lambda span: span.seconds)
    folder = conf.file.rpartition("/")[0]
    for source, read in facts.php_inis:
        entry = read.get("PHP", "max_execution_time") or read.get("", "max_execution_time")
        if entry is not None and source.path.startswith(f"{folder}/"):
            span = _span(Value(entry.value, Spot(source.path, entry.line)), "max_execution_time", None)
            return span if span is not None and span.seconds else None
    return None


def unit_runs(facts: Facts, name: str) -> tuple[list[Run], unit.Unit | None]:
    """The servers of the unit that a service's name means, and the unit."""
    for found in users_of(facts.units, name):
        return [run for run in runs(facts) if run.by is By.UNIT and run.name == found.name], found
    return [], None
