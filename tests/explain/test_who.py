"""Who has ordered it: each kind of orderer, as its traces lie on a host; and servers other than php-fpm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lastcall.cli import main
from support import night

Json = dict[str, Any]
QUIET_CRON = "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n"
UNIT = "[Service]\nExecStart=/usr/sbin/php-fpm --nodaemonize --fpm-config /etc/php-fpm.conf\n"


def told(root: Path) -> Json:
    """Who has ordered the only incident."""
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    (incident,) = json.loads(result.stdout)["incidents"]
    order: Json = incident["ordered_by"]
    return order


def host(folder: Path, syslog: str, **more: str) -> Path:
    """The night's host without its cron line, with other files, and what syslog says."""
    root = night.lay(folder, crontab=QUIET_CRON, syslog=syslog or "Jun 25 05:00:00 web1 hello[9]: hello\n")
    for path, text in more.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("kind", "syslog", "files", "spot", "what"),
    [
        (
            "person",
            "Jun 25 05:28:00 web1 sudo: anna : PWD=/home/anna ; USER=root ; COMMAND=/usr/sbin/service php-fpm restart",
            {},
            ("/var/log/syslog", 1),
            "/usr/sbin/service php-fpm restart",
        ),
        (
            "deploy",
            "Jun 25 05:28:00 web1 sudo: www : PWD=/srv/shop ; USER=root ; COMMAND=/usr/sbin/service php-fpm restart",
            {"srv/shop/up.sh": "#!/bin/sh\ngit -C /srv/shop pull\nsudo /usr/sbin/service php-fpm restart\n"},
            ("/srv/shop/up.sh", 3),
            "/srv/shop/up.sh",
        ),
        (
            "timer",
            "Jun 25 05:28:00 web1 systemd[1]: Starting nightly.service - For fear of a leak...",
            {
                "etc/systemd/system/nightly.timer": "[Timer]\nOnCalendar=*-*-* 05:28\n",
                "etc/systemd/system/nightly.service": "[Service]\nExecStart=/bin/systemctl restart php-fpm\n",
                "etc/systemd/system/php-fpm.service": UNIT,
            },
            ("/etc/systemd/system/nightly.timer", 2),
            "nightly.timer",
        ),
        (
            "timer",
            "",
            {
                "etc/systemd/system/nightly.timer": "[Timer]\nOnCalendar=*-*-* 05:28\n",
                "etc/systemd/system/nightly.service": "[Service]\nExecStart=/bin/sh -c 'systemctl restart php-fpm'\n",
                "etc/systemd/system/php-fpm.service": UNIT,
            },
            ("/etc/systemd/system/nightly.timer", 2),
            "nightly.timer",
        ),
        (
            "hook",
            "Jun 25 05:28:00 web1 CRON[9]: (root) CMD (certbot -q renew)",
            {
                "etc/cron.d/certbot": "28 5 * * * root certbot -q renew\n",
                "etc/letsencrypt/renewal-hooks/deploy/php": "#!/bin/sh\n/etc/init.d/php-fpm restart\n",
            },
            ("/etc/letsencrypt/renewal-hooks/deploy/php", 2),
            "/etc/letsencrypt/renewal-hooks/deploy/php",
        ),
        (
            "logrotate",
            "",
            {
                "var/lib/logrotate/status": 'logrotate state -- version 2\n"/var/log/php-fpm/error.log" 2017-6-25-5:28:0\n',
                "etc/logrotate.d/php": "/var/log/x {\n  postrotate\n    /etc/init.d/php-fpm restart\n  endscript\n}\n",
            },
            ("/etc/logrotate.d/php", 3),
            "/etc/init.d/php-fpm restart",
        ),
        (
            "package",
            "",
            {"var/log/dpkg.log": "2017-06-25 05:27:58 configure php7.0-fpm:amd64 7.0 <none>\n"},
            ("/var/log/dpkg.log", 1),
            "dpkg configure php7.0-fpm:amd64",
        ),
        (
            "ansible",
            "Jun 25 05:28:00 web1 ansible-service[9]: Invoked with name=php-fpm state=restarted enabled=None",
            {},
            ("/var/log/syslog", 1),
            "systemctl restart php-fpm",
        ),
        (
            "deploy",
            "Jun 25 05:27:58 web1 deploy: release 42 is in place, restarting php-fpm",
            {},
            ("/var/log/syslog", 1),
            "release 42 is in place, restarting php-fpm",
        ),
        (
            "person",
            "",
            {"var/log/audit/audit.log": 'type=EXECVE msg=audit(1498339680.900:9): a0="pkill" a1="-TERM" a2="php-fpm"\n'},
            ("/var/log/audit/audit.log", 1),
            "pkill -TERM php-fpm",
        ),
    ],
)  # fmt: skip
def test_each_kind_of_orderer_is_found(
    folder: Path, kind: str, syslog: str, files: dict[str, str], spot: tuple[str, int], what: str
) -> None:
    """By what he leaves: a line of a log, a schedule, a state; and where it says so."""
    order = told(host(folder, f"{syslog}\n" if syslog else "", **files))
    assert (order["kind"], order["file"], order["line"], order["what"]) == (kind, *spot, what)


def test_nobody_is_accused_who_ordered_something_else(folder: Path) -> None:
    """Another service, a question, a reopening of logs, a job that only looks: at the same second, and not he."""
    syslog = "".join(
        f"Jun 25 05:28:01 web1 {line}\n"
        for line in (
            "CRON[1]: (root) CMD (service mysql restart)",
            "CRON[2]: (root) CMD (service php-fpm status)",
            "CRON[3]: (root) CMD (kill -USR1 $(cat /var/run/php-fpm.pid))",
            "CRON[4]: (root) CMD (/usr/local/bin/php-fpm-exporter)",
            "sudo: anna : PWD=/ ; USER=root ; COMMAND=/usr/bin/tail /var/log/php-fpm/error.log",
        )
    )
    assert told(host(folder, syslog)) is None


def test_two_who_may_have_been_are_both_named(folder: Path) -> None:
    """And neither is believed as much."""
    line = "Jun 25 05:28:00 web1 sudo: {} : PWD=/ ; USER=root ; COMMAND={} php-fpm restart\n"
    order = told(host(folder, line.format("anna", "/usr/sbin/service") + line.format("bert", "/sbin/service")))
    assert order["kind"] == "person"
    assert order["confidence"] < 0.9
    assert "as well" in order["why"][-1]


# --- Other servers -----------------------------------------------------------

GUNICORN = """\
[2017-06-25 05:00:00 +0800] [17] [INFO] Starting gunicorn 27.0.1
[2017-06-25 05:00:01 +0800] [18] [INFO] Booting worker with pid: 18
[2017-06-25 05:28:01 +0800] [17] [INFO] Handling signal: {signal}
[2017-06-25 05:28:01 +0800] [18] [INFO] Worker exiting (pid: 18)
[2017-06-25 05:28:01 +0800] [17] [INFO] Shutting down: Master
[2017-06-25 05:28:03 +0800] [27] [INFO] Starting gunicorn 27.0.1
[2017-06-25 05:28:03 +0800] [28] [INFO] Booting worker with pid: 28
"""


@pytest.mark.parametrize(("signal", "how", "half"), [("quit", "immediate", 2), ("term", "graceful", 0)])
def test_gunicorns_signals_mean_what_they_mean_to_gunicorn(folder: Path, signal: str, how: str, half: int) -> None:
    """Its QUIT cuts, its TERM does not: the opposite of php-fpm's manual."""
    files = {
        "etc/passwd": "",
        "etc/timezone": "Asia/Shanghai\n",
        "etc/systemd/system/shop.service": "[Service]\nExecStart=/usr/bin/gunicorn shop:app -b 127.0.0.1:8000 -w 2\n",
        "etc/nginx/nginx.conf": night.NGINX.replace("fastcgi_pass 127.0.0.1:9000", "proxy_pass http://127.0.0.1:8000"),
        "var/log/gunicorn.log": GUNICORN.format(signal=signal),
        "var/log/nginx/error.log": night.ERRORS.replace("fastcgi://127.0.0.1:9000", "http://127.0.0.1:8000/"),
        "var/log/nginx/access.log": night.ACCESS,
        "var/log/syslog": f"Jun 25 05:28:01 web1 CRON[9]: (root) CMD (pkill -{signal.upper()} gunicorn)\n",
    }
    root = night.lay(folder, files)
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    (incident,) = json.loads(result.stdout)["incidents"]
    assert (incident["service"], incident["cause"], incident["how"]) == ("gunicorn", signal.upper(), how)
    assert sum(request["class"] == "half-done" for request in incident["requests"]) == half
    assert incident["ordered_by"]["what"] == f"pkill -{signal.upper()} gunicorn"


@pytest.mark.parametrize("by", ["unit", "description", "supervisor"])
def test_a_server_is_known_by_what_it_is_called_here(folder: Path, by: str) -> None:
    """A unit, or a program of supervisor's, that is called after the shop starts a server that we know."""
    said = {
        "unit": "Jun 25 05:28:01 web1 systemd[1]: Stopping gift.service - The gift shop...\n"
        "Jun 25 05:28:03 web1 systemd[1]: Started gift.service - The gift shop.\n",
        "description": "Jun 25 05:28:01 web1 systemd[1]: Stopping The gift shop...\n"
        "Jun 25 05:28:03 web1 systemd[1]: Started The gift shop.\n",
        "supervisor": "2017-06-25 05:28:01,100 INFO waiting for gift to stop\n"
        "2017-06-25 05:28:01,900 INFO stopped: gift (terminated by SIGKILL)\n"
        "2017-06-25 05:28:02,100 INFO spawned: 'gift' with pid 9\n"
        "2017-06-25 05:28:03,100 INFO success: gift entered RUNNING state\n",
    }[by]
    files = {
        "etc/passwd": "",
        "etc/timezone": "Asia/Shanghai\n",
        "etc/systemd/system/gift.service": "[Unit]\nDescription=The gift shop\n[Service]\nExecStart=gunicorn shop:app\n",
        "etc/supervisor/conf.d/gift.conf": "[program:gift]\ncommand = gunicorn shop:app -b 127.0.0.1:8000\n",
        "etc/nginx/nginx.conf": night.NGINX.replace("fastcgi_pass 127.0.0.1:9000", "proxy_pass http://127.0.0.1:8000"),
        "var/log/x.log": said,
        "var/log/nginx/error.log": night.ERRORS.replace("fastcgi://127.0.0.1:9000", "http://127.0.0.1:8000/"),
        "var/log/nginx/access.log": night.ACCESS,
    }
    result = CliRunner().invoke(
        main, ["explain", "--root", str(night.lay(folder, files)), "--json"], catch_exceptions=False
    )
    (incident,) = json.loads(result.stdout)["incidents"]
    assert incident["service"] == "gunicorn"
    assert (incident["at"][:19], incident["until"][:19], incident["back"]) == (
        "2017-06-25T05:28:01",
        incident["until"][:19],
        True,
    )
    assert len(incident["requests"]) == 4


def test_a_server_that_stays_away_is_one_incident(folder: Path) -> None:
    """Stopped, and not started again for an hour: whoever is refused meanwhile belongs to it."""
    log = "".join(night.FPM_LOG.splitlines(True)[4:6])
    errors = night.ERRORS + "".join(
        night.complaint(7100 + n, night.REFUSED, at=f"2017/06/25 05:{28 + n}:30") for n in range(30)
    )
    root = night.lay(folder, var_log_php_fpm_error_log=log)
    (root / "var/log/nginx/error.log").write_text(errors)
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    (incident,) = json.loads(result.stdout)["incidents"]
    assert (incident["cause"], incident["back"], len(incident["requests"])) == ("TERM", False, 34)


def test_gunicorns_own_access_log_is_read_by_its_format(folder: Path) -> None:
    """What it has finished is not half-done, though its client was told nothing."""
    files = {
        "etc/passwd": "",
        "etc/timezone": "Asia/Shanghai\n",
        "etc/systemd/system/shop.service": "[Service]\nExecStart=gunicorn shop:app -b 127.0.0.1:8000 -c /etc/gunicorn.py\n",
        "etc/gunicorn.py": "accesslog = '/srv/log/shop.log'\naccess_log_format = '%(t)s %(m)s %(U)s?%(q)s %(s)s %(L)s'\n",
        "srv/log/shop.log": "[25/Jun/2017:05:28:01 +0800] POST /3/cn/vgift/send?order=7002 200 0.309\n",
        "etc/nginx/nginx.conf": night.NGINX.replace("fastcgi_pass 127.0.0.1:9000", "proxy_pass http://127.0.0.1:8000"),
        "var/log/gunicorn.log": GUNICORN.format(signal="quit"),
        "var/log/nginx/error.log": night.ERRORS.replace("fastcgi://127.0.0.1:9000", "http://127.0.0.1:8000/"),
        "var/log/nginx/access.log": night.ACCESS,
    }
    result = CliRunner().invoke(
        main, ["explain", "--root", str(night.lay(folder, files)), "--json"], catch_exceptions=False
    )
    (incident,) = json.loads(result.stdout)["incidents"]
    kinds = {request["uri"][-4:]: request["class"] for request in incident["requests"]}
    assert (kinds["7001"], kinds["7002"]) == ("half-done", "done-untold")


def test_lastcalls_own_log_and_cut_list_leave_nothing_to_guess(folder: Path) -> None:
    """It has written down who sent the signal, and what was cut."""
    log = (
        "[25-Jun-2017 05:28:01] NOTICE: SIGTERM from pid 4711 uid 0 (killproc x) < pid 4700 (/usr/sbin/cron)\n"
        "[25-Jun-2017 05:28:01] NOTICE: Terminating ...\n[25-Jun-2017 05:28:31] NOTICE: exiting, bye-bye!\n"
    )
    cut = {
        "at": "2017-06-24T21:28:31+00:00", "time": 1498339711.0, "request_id": "r1", "method": "POST",
        "uri": "/g?order=7001", "client": "10.0.0.7", "elapsed": 31.0, "pid": 1, "serial": 1, "generation": 1,
        "kind": "drain_timeout", "cause": "its worker exited on signal 9 (SIGKILL)", "done": "answered 503",
    }  # fmt: skip
    root = night.lay(folder, {"etc/timezone": "Asia/Shanghai\n", "var/log/lastcall.log": log})
    (root / "var/log/cuts.jsonl").write_text(json.dumps(cut, separators=(",", ":")) + "\n")
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    (incident,) = json.loads(result.stdout)["incidents"]
    assert (incident["service"], incident["cause"]) == ("lastcall", "TERM")
    assert "killproc x" in incident["ordered_by"]["what"]
    (request,) = incident["requests"]
    assert (request["class"], request["confidence"], request["id"]) == ("half-done", 1.0, "r1")


def test_a_cut_list_alone_is_enough(folder: Path) -> None:
    """Lastcall's log is not here: what was cut, and why, is in the list all the same."""
    cut = {
        "at": "2017-06-24T21:28:31+00:00", "time": 1498339711.0, "request_id": "r1", "method": "POST", "uri": "/g",
        "client": "", "elapsed": 31.0, "pid": 1, "serial": 1, "generation": 1, "kind": "oom", "cause": "it was killed",
    }  # fmt: skip
    lines = "".join(json.dumps({**cut, "request_id": f"r{n}"}, separators=(",", ":")) + "\n" for n in (1, 2))
    root = night.lay(folder, {"etc/timezone": "Asia/Shanghai\n", "var/log/cuts.jsonl": lines})
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    (incident,) = json.loads(result.stdout)["incidents"]
    assert incident["service"] == "lastcall"
    assert [(request["class"], request["id"]) for request in incident["requests"]] == [
        ("half-done", "r1"),
        ("half-done", "r2"),
    ]


def test_of_two_restarts_in_a_row_each_has_its_own_requests(folder: Path) -> None:
    """No request is hit twice: a complaint is about the nearest one."""
    second = night.FPM_LOG.splitlines(keepends=True)[4:]
    log = "".join([*second, *(line.replace("05:28:0", "05:28:1").replace("05:28:13", "05:28:12") for line in second)])
    errors = night.ERRORS + night.complaint(7021, night.RESET, at="2017/06/25 05:28:11")
    root = night.lay(folder, var_log_php_fpm_error_log=log)
    (root / "var/log/nginx/error.log").write_text(
        errors.replace("7004", "7020").replace("05:28:01 [error] 99#99: *7020", "05:28:07 [error] 99#99: *7020")
    )
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    first, then = json.loads(result.stdout)["incidents"]
    orders = [[request["uri"][-4:] for request in incident["requests"]] for incident in (first, then)]
    assert orders == [["7001", "7002", "7003", "7020"], ["7021"]]


def test_a_request_that_ran_for_too_long_was_cut_by_its_own_master(folder: Path) -> None:
    """php-fpm's request_terminate_timeout: nobody has ordered it, and the log says which request."""
    log = (
        "[25-Jun-2017 05:28:01] WARNING: [pool www] child 17, script '/srv/i.php' (request: \"POST /g?o=2\") "
        "execution timed out (30.1 sec), terminating\n"
        "[25-Jun-2017 05:28:01] WARNING: [pool www] child 17 exited on signal 15 (SIGTERM) after 99.5 seconds from start\n"
    )
    root = night.lay(folder, var_log_php_fpm_error_log=log)
    (root / "var/log/nginx/error.log").write_text(night.complaint(7002, night.RESET))
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    (incident,) = json.loads(result.stdout)["incidents"]
    assert (incident["cause"], incident["how"]) == ("timeout", "crash")
    assert [request["class"] for request in incident["requests"]] == ["half-done"]
