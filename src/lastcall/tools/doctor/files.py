"""Finds the files that the rules are about, in a system or in any folder, and reads them. Changes nothing.

The root is the world: absolute links are resolved inside it, and nothing is followed out of it. What cannot be read
is named.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lastcall.tools.doctor.facts import TEMPLATE, Facts, Kind, Source, Trouble
from lastcall.tools.readers.text import SIZE_MAX, NotText, decode

ENTRIES_MAX = 200_000
"""Entries of folders that are looked at: a scan ends, however large the folder is."""

READ_MAX = 20_000
"""Files that are opened."""

LINKS_MAX = 40
"""Symbolic links on the way to one file, as the kernel bounds them."""

MASKED = "dev/null"
"""Where the link of a masked unit leads."""

SKIPPED = frozenset({
    ".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".nox", ".mypy_cache", ".ruff_cache",
    "site-packages", "dist-packages", "vendor", ".terraform", ".cache", "bower_components", ".idea", ".vscode",
})  # fmt: skip

PLACES = (
    "etc", "usr/lib/systemd/system", "lib/systemd/system", "usr/local/lib/systemd/system", "var/spool/cron",
    "usr/local/etc", "usr/local/bin", "usr/local/sbin", "opt", "srv", "var/www", "usr/lib/sysctl.d",
)  # fmt: skip
"""Where a system's configuration is. In any other folder, everything is looked at."""

KERNEL = ("net.core.somaxconn", "net.ipv4.tcp_migrate_req", "net.ipv4.tcp_abort_on_overflow")
"""What is asked of the running kernel, where the root is this host's."""

DISABLED = re.compile(
    r"(?:~|\.(?:bak|orig|old|save|swp|tmp|disabled|off|rpmsave|rpmnew|rpmorig|dpkg-[a-z]+|ucf-[a-z]+|example|dist|sample))"
    r"(?:/|$)"
)
"""Files that nobody reads but people."""

_POINTERS = re.compile(r"\.(?:wants|requires)/[^/]+$|(?:^|/)rc[0-6S]\.d/[^/]+$")
"""Links that only say when something is started; what they lead to is looked at where it is."""

_NAMES: tuple[tuple[Kind, str], ...] = (
    (Kind.CRON_SYSTEM, r"etc/crontab|cron\.d/[^/.]+"),
    (Kind.CRON_USER, r"spool/cron/(?:crontabs/|tabs/)?[^/]+|crontabs/[^/]+"),
    (Kind.CRON_ANY, r"cron\.d/[^/]+|crontab(?:\.(?:txt|conf|tab|prod\w*|staging))?|[^/]+\.cron(?:tab)?"),
    (Kind.ANACRON, r"anacrontab"),
    (Kind.CRON_SCRIPT, r"cron\.(?:hourly|daily|weekly|monthly)/[^/]+"),
    (Kind.INIT, r"(?:init\.d|rc\.d)/[^/]+"),
    (Kind.UNIT, r"[^/]+\.(?:service|timer|socket)(?:\.d/[^/]+\.conf)?"),
    (Kind.LOGROTATE, r"logrotate\.d/[^/]+|logrotate\.conf|[^/]+\.logrotate"),
    (Kind.FPM, r"php-fpm[^/]*\.conf|php-fpm\.d/[^/]+\.conf|pool\.d/[^/]+\.conf|[^/]*fpm[^/]*\.conf(?:\.j2)?"),
    (Kind.PHP_INI, r"php[^/]*\.ini"),
    (Kind.HAPROXY, r"haproxy[^/]*\.cfg|haproxy/[^/]+\.cfg"),
    (Kind.DOCKERFILE, r"(?:Dockerfile|Containerfile)(?:[.-][^/]*)?|[^/]+\.[Dd]ockerfile"),
    (Kind.COMPOSE, r"(?:docker-)?compose(?:[.-][^/]*)?\.ya?ml"),
    (Kind.GUNICORN, r"[^/]*gunicorn[^/]*\.py"),
    (Kind.HYPERCORN, r"[^/]*hypercorn[^/]*\.toml"),
    (Kind.PUMA, r"puma\.rb|puma/[^/]+\.rb"),
    (Kind.PM2, r"ecosystem\.config\.[cm]?js|ecosystem\.json|pm2\.json"),
    (Kind.MONIT, r"monitrc|monit/(?:conf\.d|conf-enabled|monitrc\.d)/[^/]+|monit\.d/[^/]+"),
    (Kind.SYSCTL, r"sysctl\.conf|sysctl\.d/[^/]+\.conf"),
    (Kind.CERTBOT, r"letsencrypt/(?:renewal/[^/]+\.conf|cli\.ini)"),
    (Kind.CERTBOT_HOOK, r"renewal-hooks/(?:pre|post|deploy)/[^/]+"),
    (Kind.MONGOD, r"mongod\.conf"),
    (Kind.DOCKERD, r"docker/daemon\.json"),
    (Kind.APT, r"apt/apt\.conf\.d/[^/]+|[^/]*unattended-upgrades"),
    (Kind.NEEDRESTART, r"needrestart\.conf|needrestart/conf\.d/[^/]+"),
    (Kind.LASTCALL, r"[^/]*lastcall[^/]*\.toml|lastcall/[^/]+\.toml"),
    (Kind.NGINX, r"[^/]*nginx[^/]*\.conf|nginx/(?:.+/)?[^/]+\.conf|sites-(?:enabled|available)/[^/]+"),
    (Kind.SCRIPT, r"[^/]+\.(?:sh|bash)"),
    (
        Kind.TASKS,
        r"\.github/workflows/[^/]+\.ya?ml|\.gitlab-ci\.ya?ml|(?:handlers|tasks|playbooks)/[^/]+\.ya?ml|playbook[^/]*\.ya?ml",
    ),
)
_BY_NAME = tuple((kind, re.compile(rf"(?:.*/)?(?:{pattern})")) for kind, pattern in _NAMES)

_SNIFFED: tuple[tuple[Kind, str, str], ...] = (
    (Kind.SUPERVISOR, r".*\.(?:conf|ini)", r"^\[(?:program|supervisord|group):?[^\]\n]*\]"),
    (Kind.UWSGI, r".*\.ini|.*\.conf", r"^\[uwsgi\]"),
    (Kind.FPM, r".*\.conf", r"^[ \t]*(?:pm\.max_children|process_control_timeout)\s*="),
    (Kind.NGINX, r".*(?:\.conf|\.vhost|/[^/.]+)", r"^[ \t]*(?:server|upstream\s+\S+|http)\s*\{"),
    (Kind.HAPROXY, r".*\.cfg", r"^(?:backend|frontend|listen)\s+\S+"),
    (Kind.KUBERNETES, r".*\.ya?ml", r"^[ \t]*apiVersion:"),
    (Kind.TASKS, r".*\.ya?ml", r"^[ \t]*(?:- )?(?:ansible\.builtin\.)?(?:service|systemd|systemd_service):"),
    (Kind.COMPOSE, r".*\.ya?ml", r"^services:\s*$"),
    (Kind.PHP_INI, r".*\.ini", r"^[ \t]*(?:max_execution_time|opcache\.\w+)\s*="),
    (Kind.SCRIPT, r".*/[^/.]+|[^/.]+", r"\A#!\s*/\S*(?:sh|env\s+(?:ba|da|z|k)?sh)\b"),
    (Kind.TEXT, r".*", r"mongodb(?:\+srv)?://|opcache_reset|opcache:reset"),
)
_CONFIRMED = {
    Kind.FPM: re.compile(r"^\[[^\]\n]+\]\s*(?:[;#].*)?$", re.MULTILINE),
    Kind.NGINX: re.compile(r"^[ \t]*[a-z_0-9]+\s[^\n<]*[;{]\s*(?:#.*)?$", re.MULTILINE),
    Kind.UNIT: re.compile(r"^[ \t]*\[(?:Unit|Service|Timer|Socket|Install)\]", re.MULTILINE),
}
"""Kinds whose name alone is not enough: Apache has a php-fpm.conf and sites-available, avahi has services."""

_BY_CONTENT = tuple((kind, re.compile(name), re.compile(text, re.MULTILINE)) for kind, name, text in _SNIFFED)

_TEXTUAL = re.compile(
    r"(?:.*/)?(?:[^/.]+|\.env[^/]*|[^/]+\.(?:conf|ini|cfg|ya?ml|json|toml|env|py|php|js|ts|rb|go|properties|vhost|cnf|tmpl|j2|"
    r"sh|service|xml|java|pl|tf|mk|erb|jinja2?|tpl|template|in))"
)
"""Names of files that may be sniffed at."""


def kind_by_name(path: str) -> Kind | None:
    """What a file is by where it is and what it is called."""
    bare = TEMPLATE.sub("", path)
    return next((kind for kind, pattern in _BY_NAME if pattern.fullmatch(bare)), None)


def kind_by_content(path: str, text: str) -> Kind | None:
    """What a file is by what it says."""
    bare = TEMPLATE.sub("", path)
    for kind, name, content in _BY_CONTENT:
        if name.fullmatch(bare) and content.search(text):
            return kind
    return None


def classified(path: str, text: str, real: str = "") -> Kind | None:
    """What a file is to us, by where it is, where it leads to, and what it says; None: nobody's business."""
    kind = kind_by_name(real) or kind_by_name(path)
    if kind in _CONFIRMED and not _CONFIRMED[kind].search(text):
        kind = None
    return kind_by_content(path, text) or kind if kind in (None, Kind.NGINX) else kind


# --- The tree ----------------------------------------------------------------


@dataclass
class Tree:
    """A folder that is a world of its own. Paths are relative to it, with slashes."""

    root: Path
    troubles: list[Trouble] = field(default_factory=list)
    entries: int = 0

    def real(self, path: str) -> str | None:
        """Where a path leads inside the root, as in a chroot; None where links turn in a circle."""
        left, done, links = [part for part in path.split("/") if part], list[str](), 0
        while left:
            part = left.pop(0)
            if part in (".", ""):
                continue
            if part == "..":
                done = done[:-1]
                continue
            try:
                target = (self.root / "/".join((*done, part))).readlink()
            except (OSError, ValueError):
                done.append(part)
                continue
            links += 1
            if links > LINKS_MAX:
                return None
            parts = [piece for piece in str(target).split("/") if piece]
            done, left = ([] if target.is_absolute() else done), parts + left
        return "/".join(done)

    def system(self) -> bool:
        """Whether this is a whole system, or a copy of one, and not just a folder."""
        return (self.root / "etc").is_dir() and any(
            (self.root / name).exists() for name in ("etc/passwd", "etc/os-release")
        )

    def walk(self) -> Iterator[str]:
        """Files, as far as the bounds go; folders that hold no configuration are left out."""
        todo = [place for place in PLACES if (self.root / place).is_dir()] if self.system() else [""]
        while todo:
            folder = todo.pop()
            try:
                with os.scandir(self.root / folder) as found:
                    listed = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.troubles.append(Trouble(folder, f"cannot be listed: {error.strerror}"))
                continue
            for entry in listed:
                self.entries += 1
                if self.entries > ENTRIES_MAX:
                    self.troubles.append(
                        Trouble(folder, f"more than {ENTRIES_MAX} entries; the rest was not looked at")
                    )
                    return
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in SKIPPED and not DISABLED.search(entry.name):
                        todo.append(path)
                else:
                    yield path

    def read(self, path: str) -> bytes | str | None:
        """A file's bytes; a sentence where it cannot be read; None where it is no file, or nobody's business."""
        try:
            with open(self.root / path, "rb", opener=_careful) as opened:
                if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                    return None
                data = opened.read(SIZE_MAX + 1)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}"
        return data if len(data) <= SIZE_MAX else f"is larger than {SIZE_MAX >> 20} MiB"


def _careful(path: str, flags: int) -> int:
    """A FIFO or a device must not make us wait; and a link that appears meanwhile leads nowhere."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)


def gather(root: Path, *, host: bool, exclude: Sequence[str] = ()) -> Facts:
    """All files under the root that a rule may be about, but those whose path matches a pattern of `exclude`."""
    tree = Tree(Path(os.path.realpath(root)))
    files, links, opened = dict[str, Source](), dict[str, str](), 0
    for path in tree.walk():
        kind = kind_by_name(path)
        if DISABLED.search(path) or _POINTERS.search(path) or not (kind or _TEXTUAL.fullmatch(path)):
            continue
        if any(
            fnmatch.fnmatchcase(path, pattern.strip("/")) or path.startswith(f"{pattern.strip('/')}/")
            for pattern in exclude
        ):
            continue
        real = tree.real(path)
        if real is None:
            tree.troubles.append(Trouble(path, "links turn in a circle"))
            continue
        if real != path:
            links[path] = real
            kind = kind_by_name(real) or kind
        if real in files or real == MASKED:
            continue
        opened += 1
        if opened > READ_MAX:
            tree.troubles.append(Trouble(path, f"more than {READ_MAX} files; the rest was not read"))
            break
        source = _source(tree, path, real, kind)
        if source is not None:
            files[real] = source
    return Facts(files, links, tuple(tree.troubles), kernel=_kernel() if host else {}, system=tree.system())


def _source(tree: Tree, path: str, real: str, kind: Kind | None) -> Source | None:
    data = tree.read(real)
    if data is None:
        if kind and real != path:
            tree.troubles.append(Trouble(path, f"leads to {real}, which is not there (or not in this folder)"))
        return None
    if isinstance(data, str):
        if kind:
            tree.troubles.append(Trouble(path, data))
        return None
    if kind is None and b"\0" in data[:1024]:
        return None
    try:
        text, doubt = decode(data)
    except NotText as error:
        if kind:
            tree.troubles.append(Trouble(path, str(error)))
        return None
    kind = classified(path, text, real)
    if kind is None:
        return None
    if doubt:
        tree.troubles.append(Trouble(path, doubt))
    if TEMPLATE.search(path):
        if branch := _BRANCH.search(text):
            line = text.count("\n", 0, branch.start()) + 1
            tree.troubles.append(Trouble(path, "a template with conditions: not judged", line))
            return None
        return Source(real, kind, _HOLE.sub(_variable, text), plain=False, written=text)
    return Source(real, kind, text, plain=not doubt)


_BRANCH = re.compile(r"\{%|<%[^=]|\{\{-?\s*(?:if|else|end|range|with|include|template|define)\b")
_HOLE = re.compile(r"\{\{[^{}\n]{0,200}\}\}|<%=[^%\n]{0,200}%>|@[A-Z][A-Z_]+@")


def _variable(hole: re.Match[str]) -> str:
    """What a template fills in, as a variable that nobody has set: every reader takes that for a word."""
    return "${" + (re.sub(r"\W+", "_", hole[0]).strip("_") or "x") + "}"


def _kernel() -> dict[str, str]:
    found = dict[str, str]()
    for name in KERNEL:
        try:
            found[name] = Path("/proc/sys", *name.split(".")).read_text().strip()
        except OSError:
            continue
    return found
