"""What the files say, put together: units with their drop-ins, servers with their settings, and who is stopped how.

Pure: files in, facts out. What a rule may ask stands here; what is wrong stands in the rules.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar

from lastcall.tools.readers import (
    crontab,
    dockerfile,
    fpmconf,
    ini,
    initscript,
    logrotate,
    nginxconf,
    shell,
    tasks,
    unit,
    yamlnodes,
)
from lastcall.tools.readers.orders import Order
from lastcall.tools.readers.text import Doubt, Spot

Value = fpmconf.Value
T = TypeVar("T")


class Kind(Enum):
    """What a file is to us."""

    CRON_SYSTEM = "crontab of the system"
    CRON_USER = "crontab of a user"
    CRON_ANY = "crontab"
    ANACRON = "anacrontab"
    CRON_SCRIPT = "script that cron runs"
    INIT = "init script"
    UNIT = "systemd unit"
    LOGROTATE = "logrotate configuration"
    FPM = "php-fpm configuration"
    PHP_INI = "PHP configuration"
    NGINX = "nginx configuration"
    HAPROXY = "HAProxy configuration"
    SUPERVISOR = "supervisor configuration"
    UWSGI = "uWSGI configuration"
    DOCKERFILE = "Dockerfile"
    COMPOSE = "compose file"
    KUBERNETES = "Kubernetes manifest"
    GUNICORN = "gunicorn configuration"
    HYPERCORN = "hypercorn configuration"
    PUMA = "puma configuration"
    PM2 = "PM2 process file"
    MONIT = "monit configuration"
    SYSCTL = "kernel settings"
    CERTBOT = "certbot configuration"
    CERTBOT_HOOK = "certbot hook"
    MONGOD = "mongod configuration"
    DOCKERD = "dockerd configuration"
    APT = "apt configuration"
    NEEDRESTART = "needrestart configuration"
    LASTCALL = "lastcall configuration"
    SCRIPT = "script"
    TASKS = "tasks of Ansible's, or of a pipeline"
    TEXT = "text"


TEMPLATE = re.compile(r"\.(?:j2|jinja2?|erb|tmpl|tpl|template|in)$")
"""How the names of files end from which others are made (Ansible, Puppet, Go, autoconf)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read."""

    path: str
    kind: Kind
    text: str
    plain: bool = True
    """Its bytes are this text in UTF-8: only then can a patch be made for it."""
    written: str = ""
    """What stands in the file, where that is not the text: a template's holes are variables in the text."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file, or a line of one, that was not read or not understood, and why."""

    path: str
    why: str
    line: int = 0


@dataclass
class Facts:
    """All that is known. The readings are made once, when they are first asked for."""

    files: Mapping[str, Source]
    """By their real path."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Paths that lead elsewhere: /etc/nginx/sites-enabled/x."""
    troubles: tuple[Trouble, ...] = ()
    kernel: Mapping[str, str] = field(default_factory=dict)
    """Settings of the running kernel, where it is this host."""
    system: bool = False
    memo: dict[str, Any] = field(default_factory=dict)
    """What others have worked out from these facts, by a name of theirs."""

    def remembered(self, name: str, make: Callable[[], T]) -> T:
        """What `make` makes, once."""
        if name not in self.memo:
            self.memo[name] = make()
        found: T = self.memo[name]
        return found

    def of(self, *kinds: Kind) -> list[Source]:
        """Files of these kinds, in the order of their paths."""
        return sorted((s for s in self.files.values() if s.kind in kinds), key=lambda source: source.path)

    def line(self, spot: Spot) -> str:
        """The line that stands there; "" where there is none."""
        source = self.files.get(spot.file)
        if source is None or not spot.line:
            return ""
        found = self._lines.setdefault(spot.file, [])
        if not found:
            found += (source.written or source.text).split("\n")
        return found[spot.line - 1].removesuffix("\r") if spot.line <= len(found) else ""

    @cached_property
    def _lines(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def _called(self) -> dict[str, list[Source]]:
        """Files by their last name."""
        found = dict[str, list[Source]]()
        for name, source in self.files.items():
            found.setdefault(name.rpartition("/")[2], []).append(source)
        return found

    def included(self, pattern: str, by: str) -> list[tuple[str, str]]:
        """The files that an include means, for a file that includes them, with their texts."""
        base = by.rpartition("/")[0]
        path = pattern.strip("\"'").lstrip("/") if pattern.startswith("/") else normal(f"{base}/{pattern}")
        found = {self.links.get(name, name): None for name in self._matching(path)}
        if not found and pattern.startswith("/"):
            # a repository has /etc/nginx under a folder of its own
            above = by.partition("etc/")[0]
            found = {self.links.get(name, name): None for name in self._matching(above + path)} if above else {}
        return [(name, self.files[name].text) for name in found if name in self.files]

    def _matching(self, pattern: str) -> list[str]:
        folder = pattern.rpartition("/")[0]
        fixed = not any(mark in folder for mark in "*?[")
        return matching(self._folders.get(folder, ()) if fixed else (*self.files, *self.links), pattern)

    @cached_property
    def _folders(self) -> dict[str, list[str]]:
        """Files, and links to them, by the folder that they are in."""
        found = dict[str, list[str]]()
        for name in (*self.files, *self.links):
            found.setdefault(name.rpartition("/")[0], []).append(name)
        return found

    def named(self, path: str, by: str = "") -> Source | None:
        """The file that a configuration calls by this path; by its name alone where only one is called so."""
        bare = normal(path.lstrip("/"))
        real = self.links.get(bare, bare)
        if real in self.files:
            return self.files[real]
        near = normal(f"{by.rpartition('/')[0]}/{path}") if by else ""
        if near in self.files:
            return self.files[near]
        ending = "/" + path.lstrip("./")
        same = [
            source for source in self._called.get(ending.rpartition("/")[2], ()) if f"/{source.path}".endswith(ending)
        ]
        return same[0] if len(same) == 1 else None

    # --- Readings ----------------------------------------------------------------

    @cached_property
    def doubts(self) -> dict[tuple[str, int], Trouble]:
        """What the readers did not understand, by file and line; complete when every reading has been made."""
        return {}

    def _doubt(self, file: str, found: Iterable[Doubt]) -> None:
        for doubt in found:
            self.doubts.setdefault((file, doubt.line), Trouble(file, doubt.why, doubt.line))

    @cached_property
    def crontabs(self) -> list[tuple[Source, crontab.Crontab]]:
        """All crontabs, anacron's too."""
        found = list[tuple[Source, crontab.Crontab]]()
        for source in self.of(Kind.CRON_SYSTEM, Kind.CRON_USER, Kind.CRON_ANY, Kind.ANACRON):
            if source.kind is Kind.ANACRON:
                read = crontab.parse_anacron(source.text)
            else:
                named = source.kind is Kind.CRON_SYSTEM or (source.kind is Kind.CRON_ANY and _names_users(source.text))
                read = crontab.parse(source.text, system=named)
            self._doubt(source.path, read.doubts)
            found.append((source, read))
        return found

    @cached_property
    def units(self) -> dict[str, unit.Unit]:
        """Units by name, drop-ins merged, the administrator's in place of the distribution's; masked ones are left out."""
        own, drops = dict[str, str](), dict[str, list[str]]()
        masked = {path.rpartition("/")[2] for path, real in self.links.items() if real == "dev/null"}
        for source in sorted(self.of(Kind.UNIT), key=lambda s: _unit_rank(s.path), reverse=True):
            folder, _, name = TEMPLATE.sub("", source.path).rpartition("/")
            if folder.endswith(".d"):
                drops.setdefault(folder.rpartition("/")[2].removesuffix(".d"), []).append(source.path)
            elif ".wants" not in folder and ".requires" not in folder:
                own[source.path if name in own and _unit_rank(own[name]) < 0 else name] = source.path
        found = dict[str, unit.Unit]()
        for name in sorted({*own, *drops} - masked):
            inner = sorted(drops.get(name, ()), key=lambda path: path.rpartition("/")[2])
            paths = [own[name], *inner] if name in own else inner
            found[name] = unit.parse(name, [(path, self.files[path].text) for path in paths])
            for file, doubt in found[name].doubts:
                self._doubt(file, [doubt])
        return found

    @cached_property
    def inits(self) -> dict[str, tuple[Source, initscript.InitScript]]:
        """Init scripts by name."""
        found = dict[str, tuple[Source, initscript.InitScript]]()
        for source in self.of(Kind.INIT):
            name = source.path.rpartition("/")[2]
            found[name] = (source, initscript.parse(name, source.text))
        return found

    @cached_property
    def fpms(self) -> list[fpmconf.FpmConf]:
        """Instances of php-fpm: each file that no other includes. A pool's file alone is one with no global section."""
        read = {s.path: self._fpm(s.path, s.text) for s in self.of(Kind.FPM)}
        inner = {file for conf in read.values() for file in conf.files[1:]}
        for conf in read.values():
            self._read(conf.file, conf.doubts)
        return [conf for path, conf in read.items() if path not in inner]

    def _fpm(self, path: str, text: str) -> fpmconf.FpmConf:
        return fpmconf.parse(path, text, lambda pattern: self.included(pattern, path))

    @cached_property
    def nginxes(self) -> list[nginxconf.NginxConf]:
        """Configurations of nginx: nginx.conf, and files that none includes, unless they are switched off."""
        read = {s.path: self._nginx(s.path, s.text) for s in self.of(Kind.NGINX)}
        inner = {file for conf in read.values() for file in conf.files[1:]}
        found = [conf for path, conf in read.items() if path not in inner]
        for conf in found:
            self._read(conf.file, conf.doubts)
        main = any(conf.file.rpartition("/")[2] == "nginx.conf" for conf in found)
        off = ("sites-available/", "modules-available/", "conf-available/", "snippets/")
        return [conf for conf in found if not (main and any(part in conf.file for part in off))]

    def _nginx(self, path: str, text: str) -> nginxconf.NginxConf:
        # nginx resolves relative includes against the folder of the main file
        return nginxconf.parse(path, text, lambda pattern: self.included(pattern, path))

    def _read(self, file: str, doubts: Iterable[tuple[str, Doubt]]) -> None:
        for inner, doubt in doubts:
            self._doubt(inner or file, [doubt])

    @cached_property
    def supervisors(self) -> list[tuple[Source, ini.Ini]]:
        """Files of supervisor."""
        found = [(s, ini.parse(s.text, folded=True)) for s in self.of(Kind.SUPERVISOR)]
        for source, read in found:
            self._doubt(source.path, read.doubts)
        return found

    @cached_property
    def php_inis(self) -> list[tuple[Source, ini.Ini]]:
        """php.ini and its like."""
        return [(source, ini.parse(source.text)) for source in self.of(Kind.PHP_INI)]

    @cached_property
    def rotations(self) -> list[tuple[Source, logrotate.Logrotate]]:
        """Files of logrotate."""
        found = [(source, logrotate.parse(source.text)) for source in self.of(Kind.LOGROTATE)]
        for source, read in found:
            self._doubt(source.path, read.doubts)
        return found

    @cached_property
    def dockerfiles(self) -> list[tuple[Source, dockerfile.Dockerfile]]:
        """Dockerfiles."""
        found = [(source, dockerfile.parse(source.text)) for source in self.of(Kind.DOCKERFILE)]
        for source, read in found:
            self._doubt(source.path, read.doubts)
        return found

    @cached_property
    def composed(self) -> list[tuple[Source, yamlnodes.Node]]:
        """Compose files' documents."""
        return self._yaml(Kind.COMPOSE, None)

    @cached_property
    def manifests(self) -> list[tuple[Source, yamlnodes.Node]]:
        """Kubernetes' objects, those of lists too."""
        found = list[tuple[Source, yamlnodes.Node]]()
        for source, node in self._yaml(Kind.KUBERNETES, _OBJECTS):
            listed = node.get("items")
            found += [(source, item) for item in (listed.items if listed and node.value("kind") == "List" else (node,))]
        return found

    @cached_property
    def tasks(self) -> list[tuple[Source, tuple[Order, ...]]]:
        """What Ansible and pipelines order, a file at a time."""
        return [(source, tuple(tasks.found(node))) for source, node in self._yaml(Kind.TASKS, None)]

    def _yaml(self, kind: Kind, only: re.Pattern[str] | None) -> list[tuple[Source, yamlnodes.Node]]:
        found = list[tuple[Source, yamlnodes.Node]]()
        for source in self.of(kind):
            try:
                nodes, doubts = yamlnodes.documents(source.text, only)
            except yamlnodes.Missing as missing:
                self._doubt(source.path, [Doubt(0, str(missing))])
                continue
            self._doubt(source.path, doubts)
            found += [(source, node) for node in nodes]
        return found

    @cached_property
    def scripts(self) -> list[tuple[Source, shell.Script]]:
        """Shell scripts that are no init scripts; cron's and certbot's too."""
        kinds = (Kind.SCRIPT, Kind.CRON_SCRIPT, Kind.CERTBOT_HOOK)
        shells = [source for source in self.of(*kinds) if not _other_language(source.text)]
        return [(source, shell.parse(source.text)) for source in shells]

    @cached_property
    def sysctls(self) -> dict[str, Value]:
        """The kernel's settings: of the files, the last by name; of the running kernel where it says otherwise."""
        found = dict[str, Value]()
        for source in sorted(
            self.of(Kind.SYSCTL), key=lambda s: (s.path.endswith("/sysctl.conf"), s.path.rpartition("/")[2])
        ):
            for entry in ini.parse(source.text).entries:
                key = entry.key.lstrip("-").replace("/", ".")
                found[key] = Value(entry.value, Spot(source.path, entry.line))
        for key, value in self.kernel.items():
            if key not in found or found[key].text != value:
                found[key] = Value(value, Spot(f"proc/sys/{key.replace('.', '/')}", 0))
        return found


_OBJECTS = re.compile(
    r"""^["']?kind["']?:[ \t]*["']?(?:Pod|Deployment|StatefulSet|DaemonSet|ReplicaSet|Rollout|Ingress|List)\b""",
    re.MULTILINE,
)
"""Objects of Kubernetes' that a rule is about."""


# --- Helpers -----------------------------------------------------------------


def matching(paths: Iterable[str], pattern: str) -> list[str]:
    """Those that a shell pattern means, in order; a star stops at a slash."""
    depth = pattern.count("/")
    return sorted(path for path in paths if path.count("/") == depth and fnmatch.fnmatchcase(path, pattern))


def normal(path: str) -> str:
    """A path without `.` and `..`; relative to the root."""
    done = list[str]()
    for part in path.split("/"):
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            done.append(part)
    return "/".join(done)


_UNIT_PLACES = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "lib/systemd/system")


def _unit_rank(path: str) -> int:
    """0 wins: systemd.unit(5), UNIT FILE LOAD PATH."""
    return next((n for n, place in enumerate(_UNIT_PLACES) if f"{place}/" in path), -1)


_CRON_USERS = frozenset(
    {"root", "www-data", "apache", "nginx", "deploy", "ubuntu", "app", "web", "www", "nobody", "httpd"}
)


def _names_users(text: str) -> bool:
    """Whether a crontab that may be of either form names users: by names that are users' on most machines."""
    read = crontab.parse(text, system=True)
    return bool(read.entries) and all(entry.user in _CRON_USERS for entry in read.entries)


def _other_language(text: str) -> bool:
    first = text.split("\n", 1)[0]
    return first.startswith("#!") and re.search(r"sh\b|runuser|openrc", first) is None


def users_of(units: Mapping[str, unit.Unit], name: str) -> Iterator[unit.Unit]:
    """The units that a service's name means: itself, and for `x@1` its template."""
    for key in (f"{name}.service", name, re.sub(r"@.*", "@.service", name) if "@" in name else ""):
        if key and key in units:
            yield units[key]
            return
