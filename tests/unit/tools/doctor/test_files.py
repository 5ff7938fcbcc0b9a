"""Which files are found, and what becomes of those that cannot be read; what is put together from them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall.tools.doctor import files
from lastcall.tools.doctor.facts import Facts, Kind, Source
from lastcall.tools.doctor.files import Tree, classified, gather
from lastcall.tools.doctor.judge import judge
from lastcall.tools.doctor.patch import patch
from lastcall.tools.doctor.report import as_json, sarif, text
from lastcall.tools.readers.text import Spot
from support import mines

NOBODY = 65534
"""A user that owns nothing."""


def write(root: Path, found: mines.Files) -> Path:
    """These files under a folder."""
    for path, content in found.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def rules(root: Path) -> set[str]:
    """The rules that find something there."""
    return {one.rule.id for one in judge(gather(root, host=False)).told}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("etc/crontab", Kind.CRON_SYSTEM), ("etc/cron.d/php", Kind.CRON_SYSTEM), ("etc/cron.d/php.off2", Kind.CRON_ANY),
        ("var/spool/cron/crontabs/root", Kind.CRON_USER), ("etc/cron.daily/x", Kind.CRON_SCRIPT),
        ("etc/logrotate.conf", Kind.LOGROTATE), ("etc/anacrontab", Kind.ANACRON),
        ("etc/init.d/nginx", Kind.INIT), ("ansible/files/logrotate.d/x", Kind.LOGROTATE),
        ("docker/Dockerfile.prod", Kind.DOCKERFILE), ("docker-compose.prod.yml", Kind.COMPOSE),
        ("etc/sysctl.d/99-x.conf", Kind.SYSCTL), ("etc/needrestart/conf.d/x.conf", Kind.NEEDRESTART),
        ("bin/deploy.sh", Kind.SCRIPT), ("README.md", None), ("shop/app.py", None), ("etc/hosts", None),
        ("shop/crontab.py", None), ("deploy/crontab", Kind.CRON_ANY), ("deploy/crontab.txt", Kind.CRON_ANY),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_place(path: str, kind: Kind | None) -> None:
    """In a system and in any folder."""
    assert classified(path, "") is kind


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("deploy/shop.service", "[Service]\n", Kind.UNIT), ("x.service.d/y.conf", "[Service]\nUser=x\n", Kind.UNIT),
        ("etc/nginx/nginx.conf", "events {\n}\n", Kind.NGINX), ("a/web.conf", "upstream app {\n}\n", Kind.NGINX),
        ("a/fpm.conf", "[www]\npm = static\n", Kind.FPM),
        ("a/php-fpm.conf", "<Proxy x>\n</Proxy>\n", None), ("a/shop.conf", "[program:web]\ncommand=x\n", Kind.SUPERVISOR),
        ("a/app.ini", "[uwsgi]\nmaster=1\n", Kind.UWSGI), ("a/x.yaml", "---\napiVersion: v1\n", Kind.KUBERNETES),
        ("bin/run", "#!/usr/bin/env bash\n", Kind.SCRIPT), ("bin/run", "#!/usr/bin/python3\n", None),
        ("a/settings.py", "U = 'mongodb://x'\n", Kind.TEXT), ("a/x.yaml", "a: 1\n", None),
        ("etc/apache2/sites-available/x", "<VirtualHost *:80>\n  ServerName x\n</VirtualHost>\n", None),
        ("etc/avahi/services/x.service", "<service-group>\n</service-group>\n", None),
    ],
)  # fmt: skip
def test_a_file_is_known_by_what_it_says(path: str, content: str, kind: Kind | None) -> None:
    """Where its name does not tell."""
    assert classified(path, content) is kind


def test_absolute_links_stay_in_the_root(folder: Path) -> None:
    """An image's /etc/nginx/sites-enabled/x leads into the image, once; a link out of it leads nowhere, and is named."""
    write(folder, {
        "etc/passwd": "", "etc/nginx/nginx.conf": "http { include /etc/nginx/sites-enabled/*; }\n",
        "etc/nginx/sites-available/shop": "server { fastcgi_keep_conn on; }\n",
        "etc/nginx/sites-available/old": "server { fastcgi_next_upstream non_idempotent; }\n",
    })  # fmt: skip
    (folder / "etc/nginx/sites-enabled").mkdir()
    (folder / "etc/nginx/sites-enabled/shop").symlink_to("/etc/nginx/sites-available/shop")
    (folder / "etc/nginx/conf.d").mkdir()
    (folder / "etc/nginx/conf.d/out.conf").symlink_to(f"{os.sep}proc{os.sep}version")
    facts = gather(folder, host=False)
    told = judge(facts).told
    assert [(one.rule.id, one.finding.spot.file) for one in told] == [("LC502", "etc/nginx/sites-available/shop")]
    assert [trouble.path for trouble in facts.troubles] == ["etc/nginx/conf.d/out.conf"]


def test_links_that_only_enable_something_are_not_followed(folder: Path) -> None:
    """A copy of /etc alone names no unit of the distribution's as missing."""
    for link in ("etc/systemd/system/multi-user.target.wants/nginx.service", "etc/rc2.d/S01nginx"):
        (folder / link).parent.mkdir(parents=True)
        (folder / link).symlink_to(f"/lib/systemd/system/{Path(link).name}")
    facts = gather(folder, host=False)
    assert (facts.files, facts.troubles) == ({}, ())


def test_links_in_a_circle_are_named(folder: Path) -> None:
    """And everything else is read."""
    write(folder, {"etc/cron.d/php": "1 2 * * * root service php-fpm restart\n"})
    (folder / "a.service").symlink_to("b.service")
    (folder / "b.service").symlink_to("a.service")
    facts = gather(folder, host=False)
    assert {trouble.path for trouble in facts.troubles} == {"a.service", "b.service"}
    assert rules(folder) == {"LC101"}


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    """A binary, a file that is too large, a folder where a file should be, a FIFO: no crash, and no waiting."""
    (folder / "etc/cron.d").mkdir(parents=True)
    (folder / "etc/cron.d/binary").write_bytes(b"\x7fELF\0\0")
    (folder / "etc/cron.d/large").write_bytes(b"#" * ((1 << 20) + 1))
    (folder / "etc/cron.d/latin").write_bytes(b"# gr\xfc\xdfe\n1 2 * * * root service php-fpm restart\n")
    (folder / "etc/cron.d/folder").mkdir()
    os.mkfifo(folder / "etc/cron.d/fifo")
    facts = gather(folder, host=False)
    assert {(trouble.path, trouble.why) for trouble in facts.troubles} == {
        ("etc/cron.d/binary", "it is no text"),
        ("etc/cron.d/large", "is larger than 1 MiB"),
        ("etc/cron.d/latin", "it is not UTF-8; read as Latin-1"),
    }
    told = judge(facts).told
    assert [(one.rule.id, one.finding.spot.line) for one in told] == [("LC101", 2)]
    assert patch(facts, told)[0] == ""


def test_what_we_may_not_read_is_named(folder: Path) -> None:
    """Nobody needs to be root, and whoever is not is told what was left out."""
    write(folder, {"etc/cron.d/secret": "", "etc/monit.d/x": ""})
    (folder / "etc/cron.d/secret").chmod(0)
    (folder / "etc/monit.d").chmod(0)
    us = os.geteuid()
    try:
        if us == 0:
            os.seteuid(NOBODY)  # root may read everything
        found = {trouble.path: trouble.why for trouble in gather(folder, host=False).troubles}
    finally:
        os.seteuid(us)
        (folder / "etc/monit.d").chmod(0o755)
    assert found == {
        "etc/cron.d/secret": "cannot be read: Permission denied",
        "etc/monit.d": "cannot be listed: Permission denied",
    }


def test_templates_with_holes_are_judged_and_those_with_conditions_are_named(folder: Path) -> None:
    """What stands in the template is told; what somebody fills in is unclear; a patch is made for neither."""
    write(folder, {
        "templates/shop.service.j2": mines.unit(mines.GUNICORN, "KillSignal=SIGQUIT", "TimeoutStopSec={{ stop }}"),
        "templates/shop.conf.j2": "server {\n  fastcgi_pass {{ socket }};\n  fastcgi_keep_conn on;\n}\n",
        "templates/old.service.j2": "[Service]\n{% if x %}\nKillSignal=SIGQUIT\n{% endif %}\nExecStart=gunicorn a:b\n",
    })  # fmt: skip
    facts = gather(folder, host=False)
    judgement = judge(facts, ignore=("LC203", "LC208"))
    assert [(t.rule.id, t.finding.spot.file, t.finding.spot.line) for t in judgement.told] == [
        ("LC202", "templates/shop.service.j2", 6),
        ("LC502", "templates/shop.conf.j2", 3),
    ]
    assert [(trouble.path, trouble.line) for trouble in judgement.unclear] == [
        ("templates/old.service.j2", 2),
        ("templates/shop.service.j2", 7),
    ]
    assert facts.line(Spot("templates/shop.conf.j2", 2)) == "  fastcgi_pass {{ socket }};"
    assert patch(facts, judgement.told)[0] == ""


def test_what_is_excluded_is_not_looked_at(folder: Path) -> None:
    """A folder, or a pattern."""
    write(folder, {"tests/x/deploy.sh": mines.script("pkill -9 gunicorn"), "a/b.sh": mines.script("pkill -9 nginx")})
    assert set(gather(folder, host=False, exclude=["tests/", "*/b.sh"]).files) == set()
    assert set(gather(folder, host=False, exclude=["x", "test"]).files) == {"a/b.sh", "tests/x/deploy.sh"}


def test_large_folders_have_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not looked at is named; what holds no configuration is not entered."""
    write(folder, {"node_modules/x/deploy.sh": mines.script("pkill -9 gunicorn"), ".git/hooks/x.sh": "#!/bin/sh\n"})
    assert gather(folder, host=False).files == {}
    write(folder, {f"f{number}/x.md": "" for number in range(20)})
    monkeypatch.setattr(files, "ENTRIES_MAX", 10)
    assert "more than 10 entries" in gather(folder, host=False).troubles[0].why


def test_a_system_is_looked_at_where_its_configuration_is(folder: Path) -> None:
    """Of a whole system /etc and its like are read, of any other folder everything."""
    write(folder, {"home/me/notes/deploy.sh": mines.script("pkill -9 gunicorn"), "etc/hostname": "x\n"})
    assert rules(folder) == {"LC104"}
    write(folder, {"etc/os-release": "ID=debian\n"})
    assert rules(folder) == set()


def test_the_running_kernel_is_asked_only_where_the_root_is_this_hosts(folder: Path) -> None:
    """And paths are absolute then; a file that says otherwise is overruled by the kernel."""
    write(folder, {"etc/sysctl.d/x.conf": "net.core.somaxconn = 1\n"})
    assert gather(folder, host=False).kernel == {}
    facts = gather(folder, host=True)
    assert set(facts.kernel) <= set(files.KERNEL)
    assert facts.sysctls["net.core.somaxconn"].text == facts.kernel["net.core.somaxconn"]
    wide = {"etc/sysctl.d/x.conf": "net.ipv4.tcp_abort_on_overflow = 1\n"}
    facts = gather(write(folder, wide), host=False)
    assert "  /etc/sysctl.d/x.conf:1: " in "\n".join(text(facts, judge(facts), host=True))


def test_a_masked_unit_and_its_drop_ins_count_for_nothing(folder: Path) -> None:
    """It cannot be started."""
    write(folder, {mines.VENDOR: mines.unit(mines.FPM_UNIT), "etc/passwd": ""})
    assert "LC201" in rules(folder)
    (folder / "etc/systemd/system").mkdir(parents=True)
    (folder / "etc/systemd/system/php8.2-fpm.service").symlink_to(f"{os.sep}dev{os.sep}null")
    assert rules(folder) == set()


def test_nginx_includes_itself(folder: Path) -> None:
    """A loop is named, with the line."""
    write(folder, {"nginx/nginx.conf": "http {\n  include nginx.conf;\n}\n"})
    judgement = judge(gather(folder, host=False))
    assert [(trouble.path, trouble.line) for trouble in judgement.unclear] == [("nginx/nginx.conf", 2)]


@pytest.mark.parametrize(
    ("path", "content", "line"),
    [
        (mines.FPM, "[global]\nprocess_control_timeout = {{ grace }}\n", 2),
        (mines.UNIT, mines.unit(mines.GUNICORN, "TimeoutStopSec=${STOP}"), 6),
        (mines.GCONF, "import os\ntimeout = int(os.environ['T'])\n", 2),
        (mines.COMPOSE, "services:\n  w:\n    command: gunicorn a:b\n    stop_grace_period: ${G:-10s}\n", 4),
        (mines.K8S, "apiVersion: v1\nkind: Pod\nspec: {{ toYaml .Values.spec }}\n", 3),
        (mines.SUP, "[program:w]\ncommand=gunicorn a:b\nstopwaitsecs={{ w }}\n", 3),
        (mines.DOCKER, 'ARG S\nFROM debian:12\nSTOPSIGNAL $S\nCMD ["php-fpm"]\n', 3),
    ],
)
def test_what_somebody_fills_in_later_is_said_to_be_unclear(path: str, content: str, line: int) -> None:
    """With its line; it is no finding and no silence."""
    kind = classified(path, content)
    assert kind is not None
    judgement = judge(Facts({path: Source(path, kind, content)}))
    assert (path, line) in {(trouble.path, trouble.line) for trouble in judgement.unclear}


ALL = [files_ for case in mines.CASES for files_ in (case.bad, *case.good)]
PATHS = sorted({path for found in ALL for path in found})
TEXTS = sorted({content for found in ALL for content in found.values()})
LINES = sorted({line for content in TEXTS for line in content.split("\n")})


@st.composite
def spliced(draw: st.DrawFn) -> str:
    """A file of a case with lines of others in it, and some of its own gone."""
    lines = draw(st.sampled_from(TEXTS)).split("\n")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(lines)))
        lines[at : at + draw(st.integers(0, 1))] = draw(st.lists(st.sampled_from(LINES), max_size=2))
    return "\n".join(lines)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(PATHS), st.one_of(st.text(max_size=80), spliced()), max_size=6))
def test_no_files_are_a_crash(found: mines.Files) -> None:
    """Whatever stands in them: judged, reported, patched."""
    kinds = {path: classified(path, content) for path, content in found.items()}
    facts = Facts({path: Source(path, kind, found[path]) for path, kind in kinds.items() if kind is not None})
    judgement = judge(facts)
    assert list(text(facts, judgement, host=True))
    assert as_json(facts, judgement, host=False)
    assert sarif(facts, judgement)
    patch(facts, judgement.told)
    for one in judgement.told:
        source = facts.files.get(one.finding.spot.file)
        assert source is not None
        assert 0 <= one.finding.spot.line <= source.text.count("\n") + 1


@pytest.mark.parametrize(
    "mark", ["\n", " ", "a", "[", "[a", "server ", "upstream a", "a {", "#!", "a;", "\t\n", "x=\n"]
)
def test_a_file_is_known_in_no_time(mark: str) -> None:
    """Whatever it is full of."""
    begun = time.process_time()
    for path in ("a/b.conf", "a/b.ini", "a/b.yaml", "a/b.cfg", "a/b", "a/php-fpm.conf", "a/x.service"):
        classified(path, mark * (100_000 // len(mark)))
    assert time.process_time() - begun < 5


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab./", max_size=30))
def test_no_path_leads_out_of_the_root(path: str) -> None:
    """However many dots it has."""
    real = Tree(Path("/nowhere")).real(path)
    assert real is not None
    assert ".." not in real.split("/")
    assert not real.startswith("/")
