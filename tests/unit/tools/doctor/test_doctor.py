"""`lastcall doctor` from its command line: what it prints, as what, and its exit codes; and Debian's own files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lastcall.cli import main
from lastcall.tools.doctor import document
from lastcall.tools.doctor.rules.catalogue import RULES
from lastcall.tools.readers import yamlnodes
from support import mines
from support.processes import ROOT

INCIDENT = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/cron.d/php-fpm": "# since 2012, for fear of a leak\n28 5 * * * root /etc/init.d/php-fpm restart > /dev/null\n",
    "etc/init.d/php-fpm": mines.KILLPROC,
    "etc/php-fpm.conf": "[global]\nprocess_control_timeout = 30s\n[www]\nlisten = 9000\n",
}
"""The files of the night of 2017."""


def doctor(*arguments: str) -> Result:
    """Run it with this command line."""
    return CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)


@pytest.fixture
def incident(folder: Path) -> Path:
    """A root with the incident's files."""
    for path, text in INCIDENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_the_incident_is_found_before_it_happens(incident: Path) -> None:
    """The cron line, through the init script and killproc, to the signal that cuts; each step with its place."""
    done = doctor("--root", str(incident))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:5] == [
        "error  LC101  A cron line restarts a server with a signal that cuts",
        "  etc/cron.d/php-fpm:2: cron (28 5 * * *) gives php-fpm SIGTERM, which cuts every request that is running",
        "      | 28 5 * * * root /etc/init.d/php-fpm restart > /dev/null",
        "      <- etc/init.d/php-fpm:6: killproc sends TERM, then KILL after 3 s to php-fpm",
        f"  fix: {RULES['LC101'].fix}",
    ]
    assert done.stdout.splitlines()[-1] == "2 errors in 3 files"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 1), (("--fail-on", "error"), 1), (("--fail-on", "never"), 0),
        (("--ignore", "LC101", "--ignore", "lc103"), 0), (("--ignore", "LC101,LC103"), 0), (("--ignore", "LC101"), 1),
        (("--ignore", "LC999"), 64), (("--json", "--fix"), 64), (("--fail-on", "all"), 64), (("rulez",), 64),
        (("--json",), 1), (("--sarif",), 1), (("--fix",), 1),
    ],
)  # fmt: skip
def test_exit_codes(incident: Path, arguments: tuple[str, ...], code: int) -> None:
    """Nothing as bad as --fail-on is 0, else 1; a wrong option is 64, as for every command."""
    assert doctor("--root", str(incident), *arguments).exit_code == code


def test_a_folder_without_mines(folder: Path) -> None:
    """One line, and 0."""
    done = doctor("--root", str(folder))
    assert (done.exit_code, done.stdout) == (0, "nothing found in 0 files\n")
    assert doctor("--root", str(folder / "none")).exit_code == 64


def test_a_comment_silences_one_finding(incident: Path) -> None:
    """On its line or on the one above; others of the same rule are told."""
    table = incident / "etc/cron.d/php-fpm"
    line = "28 5 * * * root /etc/init.d/php-fpm restart\n"
    table.write_text(f"# lastcall: ignore LC101, LC102\n{line}\n{line}")
    found = json.loads(doctor("--root", str(incident), "--json").stdout)
    assert [one["line"] for one in found["findings"] if one["rule"] == "LC101"] == [4]
    assert found["ignored"] == 1


def test_json(incident: Path) -> None:
    """Everything that the text says, for programs."""
    (first, second) = json.loads(doctor("--root", str(incident), "--json").stdout)["findings"]
    assert (first["rule"], first["severity"], first["file"], first["line"], first["patch"]) == (
        "LC101", "error", "etc/cron.d/php-fpm", 2, True,
    )  # fmt: skip
    assert first["quote"] == "28 5 * * * root /etc/init.d/php-fpm restart > /dev/null"
    assert first["steps"] == [
        {"file": "etc/init.d/php-fpm", "line": 6, "text": "killproc sends TERM, then KILL after 3 s to php-fpm"}
    ]
    assert second["rule"] == "LC103"


def test_sarif(incident: Path) -> None:
    """What SARIF 2.1.0 requires (its schema's required fields and enumerations), with relative paths."""
    (incident / "etc/cron.d/b").write_text("no schedule\n")
    log = json.loads(doctor("--root", str(incident), "--sarif").stdout)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    assert [rule["id"] for rule in driver["rules"]] == list(RULES)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert len(run["results"]) == 2
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        for location in (*result["locations"], *result["relatedLocations"]):
            place = location["physicalLocation"]
            assert not place["artifactLocation"]["uri"].startswith("/")
            assert place["region"]["startLine"] >= 1
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    (note,) = invocation["toolExecutionNotifications"]
    assert note["message"]["text"] == "no schedule of cron's"


def test_the_patch_for_the_incident(incident: Path) -> None:
    """Printed, not applied; patch(1) takes it, and both findings are gone."""
    before = {path: (incident / path).read_text() for path in INCIDENT}
    done = doctor("--root", str(incident), "--fix")
    assert {path: (incident / path).read_text() for path in INCIDENT} == before
    subprocess.run(["patch", "-p1", "-s", "-d", incident], input=done.stdout, text=True, check=True)
    assert "killproc -p /var/run/php-fpm.pid $prog -QUIT" in (incident / "etc/init.d/php-fpm").read_text()
    assert doctor("--root", str(incident)).exit_code == 0


def test_a_patch_for_files_without_a_last_newline_and_with_carriage_returns(folder: Path) -> None:
    """Byte for byte, but for what is changed."""
    (folder / "php-fpm.conf").write_bytes(b"[global]\r\npid = /x\r\nprocess_control_timeout = 0")
    done = doctor("--root", str(folder), "--fix")
    subprocess.run(["patch", "-p1", "-s", "--binary", "-d", folder], input=done.stdout_bytes, check=True)
    assert (folder / "php-fpm.conf").read_bytes() == b"[global]\r\npid = /x\r\nprocess_control_timeout = 30s"


def test_findings_that_change_the_same_unit_are_one_drop_in(folder: Path) -> None:
    """A distribution's unit is not edited; what is missing is in one new file; a second patch adds to it."""
    (folder / mines.VENDOR).parent.mkdir(parents=True)
    (folder / mines.VENDOR).write_text(mines.unit(mines.FPM_UNIT))
    done = doctor("--root", str(folder), "--fix", "--ignore", "LC208")
    subprocess.run(["patch", "-p1", "-s", "-d", folder], input=done.stdout, text=True, check=True)
    drop = folder / "etc/systemd/system/php8.2-fpm.service.d/lastcall.conf"
    assert drop.read_text() == "[Service]\nKillSignal=SIGQUIT\nKillMode=mixed\n"
    done = doctor("--root", str(folder), "--fix")
    subprocess.run(["patch", "-p1", "-s", "-d", folder], input=done.stdout, text=True, check=True)
    assert drop.read_text() == "[Service]\nOOMPolicy=continue\nKillSignal=SIGQUIT\nKillMode=mixed\n"
    assert doctor("--root", str(folder)).stdout.splitlines()[-1] == "nothing found in 2 files"


def test_passwords_are_not_printed(folder: Path) -> None:
    """In none of the forms, nor in a patch's report; the patch itself has the line as it is."""
    (folder / ".env").write_text("MONGO_URL=mongodb://shop:hunter2@db/shop?w=0\n")
    for form in ((), ("--json",), ("--sarif",)):
        done = doctor("--root", str(folder), *form)
        assert "LC603" in done.stdout
        assert "hunter2" not in done.output


def test_a_line_cannot_steer_the_terminal(folder: Path) -> None:
    """Control characters are shown, not sent."""
    (folder / "crontab").write_text("1 2 * * * service php-fpm restart \x1b[2J\n")
    assert "\x1b" not in doctor("--root", str(folder)).stdout


def test_without_pyyaml_the_rest_is_judged(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The YAML files are named, with what to install."""
    (incident / "compose.yaml").write_text("services: {}\n")
    (incident / "etc/compose.yaml").write_text("services: {}\n")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    done = doctor("--root", str(incident))
    assert "error  LC101" in done.stdout
    assert f"etc/compose.yaml: {yamlnodes.INSTALL}" in done.stdout


def test_rules_and_their_explanations() -> None:
    """All rules in a list; one in full."""
    listed = doctor("rules")
    assert listed.exit_code == 0
    assert all(f"  {rule.id}  " in listed.stdout for rule in RULES.values())
    told = doctor("--explain", "lc001")
    assert told.exit_code == 0
    assert RULES["LC001"].why in told.stdout
    assert doctor("--explain", "LC000").exit_code == 64


def test_debians_own_files_have_these_mines_and_no_others(folder: Path) -> None:
    """The packages' files, as they are installed here: those of php-fpm, nginx, HAProxy and lighttpd."""
    (folder / "etc").mkdir()
    (folder / "etc/passwd").touch()
    copied = [
        "etc/php/8.2/fpm/php-fpm.conf", "etc/php/8.2/fpm/pool.d/www.conf", "etc/init.d/php8.2-fpm", "etc/init.d/nginx",
        "etc/logrotate.d/php8.2-fpm", "etc/logrotate.d/nginx", "etc/cron.d/php", "etc/nginx/nginx.conf",
        "etc/nginx/sites-available/default", "lib/systemd/system/php8.2-fpm.service", "lib/systemd/system/nginx.service",
        "lib/systemd/system/haproxy.service", "etc/init.d/haproxy", "etc/haproxy/haproxy.cfg", "etc/logrotate.d/haproxy",
        "lib/systemd/system/lighttpd.service", "etc/init.d/lighttpd", "etc/logrotate.d/lighttpd",
    ]  # fmt: skip
    for path in copied:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/", path), folder / path)
    done = doctor("--root", str(folder), "--json", "--fail-on", "never")
    found = json.loads(done.stdout)
    assert [(one["rule"], one["file"].rpartition("/")[2]) for one in found["findings"]] == [
        ("LC001", "php-fpm.conf"),
        ("LC201", "php8.2-fpm.service"),
        ("LC202", "haproxy.service"),
        ("LC105", "nginx.service"),
        ("LC203", "php8.2-fpm.service"),
        ("LC208", "php8.2-fpm.service"),
        ("LC205", "php8.2-fpm.service"),
    ]
    assert found["not_understood"] == []


def test_the_page_has_the_catalogues_rules() -> None:
    """Made anew with `python -m lastcall.tools.doctor.document docs/DOCTOR.md`."""
    text = (ROOT / "docs" / "DOCTOR.md").read_text()
    assert document.renewed(text) == text, "run: PYTHONPATH=src python -m lastcall.tools.doctor.document docs/DOCTOR.md"
    assert all(f"#### {rule}\n" in text for rule in RULES)


def test_the_unit_that_our_own_page_recommends_has_no_mines(folder: Path) -> None:
    """docs/SERVICE.md; a note on ExecReload is left, which the page explains."""
    page = (ROOT / "docs" / "SERVICE.md").read_text()
    block = page.split("\n    [Service]\n", 1)[1].split("\n\n", 1)[0]
    unit = "[Service]\n" + "".join(f"{line.strip()}\n" for line in block.split("\n"))
    (folder / "gift.service").write_text(unit)
    found = json.loads(doctor("--root", str(folder), "--json").stdout)
    assert [one["rule"] for one in found["findings"]] == ["LC205"]


def test_this_repository_has_no_mines() -> None:
    """Our own examples, scripts and sources; the tests have some on purpose."""
    found = json.loads(doctor("--root", str(ROOT), "--exclude", "tests", "--json").stdout)
    assert found["findings"] == []
