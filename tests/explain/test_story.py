"""`lastcall explain` on the night of 2017: who, whom, why; and what it says where something is missing."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from lastcall.cli import main
from lastcall.tools.explain import hits, progress
from lastcall.tools.explain.clock import Zone, moment
from support import night

Json = dict[str, Any]


def explain(*arguments: str | Path) -> Result:
    """Run it with this command line."""
    return CliRunner().invoke(main, ["explain", *map(str, arguments)], catch_exceptions=False)


def found(*arguments: str | Path) -> Json:
    """What it answers in JSON."""
    answer: Json = json.loads(explain("--json", *arguments).stdout)
    return answer


def classes(incident: Json) -> dict[str, str]:
    """What became of each order."""
    return {request["uri"].partition("order=")[2]: request["class"] for request in incident["requests"]}


# --- The night ---------------------------------------------------------------


def test_the_restart_its_cause_and_what_it_did_are_named(folder: Path) -> None:
    """One incident: the day before, nobody was hit, which is said as well."""
    answer = found("--root", night.lay(folder))
    (incident,) = answer["incidents"]
    assert (incident["service"], incident["cause"], incident["how"]) == ("php-fpm", "TERM", "immediate")
    assert incident["at"] == "2017-06-25T05:28:01.000+08:00"
    assert incident["until"] == "2017-06-25T05:28:04.000+08:00"
    (quiet,) = answer["restarts"]
    assert quiet["at"] == "2017-06-24T05:28:01.000+08:00"
    assert quiet["requests"] == []


def test_who_was_running_who_waited_and_who_was_refused_are_told_apart(folder: Path) -> None:
    """There are two workers: of three that were reset, the two that came first were running."""
    (incident,) = found("--root", night.lay(folder))["incidents"]
    assert classes(incident) == {"7001": "half-done", "7002": "half-done", "7003": "never-begun", "7004": "never-begun"}
    request = next(request for request in incident["requests"] if "7002" in request["uri"])
    assert request["id"] == f"{7002:032x}"
    assert request["confidence"] > 0.6
    assert [(quote["file"], quote["line"]) for quote in request["evidence"]] == [
        ("/var/log/nginx/error.log", 2),
        ("/var/log/nginx/access.log", 16),
    ]


def test_the_cron_line_is_found_and_followed_to_the_signal(folder: Path) -> None:
    """From cron's line in syslog to the crontab, through the init script, to killproc; and when it is due again."""
    (incident,) = found("--root", night.lay(folder))["incidents"]
    order = incident["ordered_by"]
    assert (order["kind"], order["file"], order["line"], order["user"]) == ("cron", "/etc/crontab", 7, "root")
    assert order["what"] == "/etc/init.d/php-fpm restart > /dev/null"
    assert ("/etc/init.d/php-fpm", 5) in [(step["file"], step["line"]) for step in order["steps"]]
    assert order["days"] == 1
    assert order["next"] == "2017-06-26T05:28:00.000+08:00"
    assert order["confidence"] > 0.9
    assert ("/var/log/syslog", 3) in [(event["file"], event["line"]) for event in incident["events"]]


def test_the_advice_is_a_diff_of_the_file_at_fault(folder: Path) -> None:
    """Doctor's patch for the very line."""
    (incident,) = found("--root", night.lay(folder))["incidents"]
    advice = next(one for one in incident["advice"] if one["file"] == "/etc/crontab")
    assert advice["line"] == 7
    assert "-28 5 * * * root /etc/init.d/php-fpm restart > /dev/null\n" in advice["diff"]


def test_people_get_a_note_with_every_line_quoted(folder: Path) -> None:
    """The text names time, signal, orderer, requests, evidence, and what could not be seen."""
    result = explain("--root", night.lay(folder))
    assert result.exit_code == 1
    for words in (
        "php-fpm was stopped with SIGTERM, which cuts every request that is running, on Sunday 25 June 2017 at 05:28:01",
        "Hit: 2 likely half-done, 2 never begun.",
        "Ordered by cron (root), /etc/crontab:7",
        "-> /etc/init.d/php-fpm:5: killproc sends TERM, then KILL after 3 s to php-fpm",
        "the same was seen on 1 other day",
        "/var/log/php-fpm/error.log:5 | [25-Jun-2017 05:28:01] NOTICE: Terminating ...",
        "Likely half-done: check these (2)",
        "What could not be seen",
    ):
        assert words in result.stdout


def test_a_time_an_order_and_an_id_can_be_asked_for(folder: Path) -> None:
    """--at takes the machine's own time; --order and --request find the incident that hit it."""
    root = night.lay(folder)
    assert len(found("--root", root, "--at", "2017-06-25 05:28")["incidents"]) == 1
    assert found("--root", root, "--at", "2017-06-25 12:00")["incidents"] == []
    assert len(found("--root", root, "--since", "2017-06-25")["incidents"]) == 1
    assert found("--root", root, "--since", "2017-06-26")["incidents"] == []
    for name in ("--order", "7002"), ("--request", f"{7003:032x}"):
        assert len(found("--root", root, *name)["incidents"]) == 1
    answer = found("--root", root, "--order", "6003")
    assert answer["incidents"] == []
    assert [(line["file"], line["line"]) for line in answer["elsewhere"]] == [("/var/log/nginx/access.log", 4)]
    assert "no restart has hit it" in explain("--root", root, "--order", "6003").stdout
    assert "in no line of these logs" in explain("--root", root, "--order", "9999").stdout


def test_other_tools_get_a_sentence_for_each_request(folder: Path) -> None:
    """What `reconcile` asks."""
    listed = hits(night.lay(folder))
    (hit,) = [hit for hit in listed if "order=7002" in hit.text]
    assert (hit.kind, hit.certainty) == ("half-done", "likely")
    assert hit.sentence == (
        "cut at 2017-06-25 05:28:01 after 0.31 s by SIGTERM to php-fpm, ordered by cron (root) /etc/crontab:7: "
        "/etc/init.d/php-fpm restart > /dev/null (POST /3/cn/vgift/send?order=7002)"
    )
    assert hits(night.lay(folder), since=1e10) == []


# --- Something is missing, or different --------------------------------------


def test_logs_that_were_rotated_and_packed_are_read(folder: Path) -> None:
    """Gzip and zstd."""
    root = night.lay(folder)
    for name in ("nginx/error.log", "php-fpm/error.log"):
        plain = root / "var/log" / name
        (plain.parent / f"{plain.name}.2.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.write_text("")
    access = root / "var/log/nginx/access.log"
    subprocess.run([shutil.which("zstd") or "zstd", "-q", "--rm", str(access), "-o", f"{access}.1.zst"], check=True)
    (incident,) = found("--root", root)["incidents"]
    assert len(incident["requests"]) == 4
    assert incident["requests"][0]["began"] is not None


def test_a_zone_that_is_not_the_machines_is_found_out(folder: Path) -> None:
    """php-fpm ran in UTC and wrote so; only moved by eight hours its restart falls on what nginx complains of."""
    shifted = night.FPM_LOG.replace("25-Jun-2017 05:", "24-Jun-2017 21:").replace("24-Jun-2017 05:", "23-Jun-2017 21:")
    answer = found("--root", night.lay(folder, var_log_php_fpm_error_log=shifted))
    (incident,) = answer["incidents"]
    assert (incident["cause"], incident["at"]) == ("TERM", "2017-06-25T05:28:01.000+08:00")
    (clock,) = [clock for clock in answer["clocks"] if clock["source"] == "/var/log/php-fpm/error.log"]
    assert clock["skew"] == 8 * 3600


def test_without_the_servers_log_the_front_and_the_crontab_tell(folder: Path) -> None:
    """A burst of complaints is an incident; its time is that of a cron line which stops just this server."""
    (incident,) = found("--root", night.lay(folder, var_log_php_fpm_error_log=None))["incidents"]
    assert (incident["service"], incident["cause"]) == ("php-fpm", None)
    assert incident["ordered_by"]["line"] == 7
    (incident,) = found("--root", night.lay(folder, var_log_php_fpm_error_log=None, syslog=None))["incidents"]
    assert incident["ordered_by"]["line"] == 7
    assert incident["ordered_by"]["confidence"] < 0.9


def test_without_the_fronts_error_log_the_access_log_tells(folder: Path) -> None:
    """Less is known, and it is said which log would tell more."""
    root = night.lay(folder)
    (root / "var/log/nginx/error.log").unlink()
    (incident,) = found("--root", root)["incidents"]
    assert classes(incident) == {"7001": "half-done", "7002": "half-done", "7003": "never-begun", "7004": "never-begun"}
    assert any("error log of a front" in sentence for sentence in incident["unseen"])


def test_without_times_of_the_front_the_order_of_its_errors_tells(folder: Path) -> None:
    """Combined has no times: whoever was running is reset first, for its worker dies before the listener closes."""
    conf = night.NGINX.replace("access.log shop", "access.log")
    lines = [line.partition(" rt=")[0] + ' "-" "curl"' for line in night.ACCESS.splitlines()]
    root = night.lay(folder, nginx_conf=conf, access_log="\n".join(lines) + "\n")
    (incident,) = found("--root", root)["incidents"]
    assert classes(incident) == {"7001": "half-done", "7002": "half-done", "7003": "never-begun", "7004": "never-begun"}
    assert any("$upstream_response_time" in sentence for sentence in incident["unseen"])


def test_a_server_that_read_the_request_was_running_it(folder: Path) -> None:
    """Whoever waits to be taken is reset; a connection that was closed in order had been read from."""
    errors = (
        night.complaint(7001, night.RESET) + night.complaint(7002, night.RESET) + night.complaint(7003, night.CLOSED)
    )
    conf = night.NGINX.replace("access.log shop", "access.log")
    root = night.lay(folder, var_log_nginx_error_log=errors, nginx_conf=conf, access_log=None)
    (incident,) = found("--root", root)["incidents"]
    assert classes(incident) == {"7001": "half-done", "7002": "never-begun", "7003": "half-done"}


@pytest.mark.parametrize(
    ("timeout", "how"),
    [
        ("", "immediate"),
        ("process_control_timeout = 0\n", "immediate"),
        ("process_control_timeout = 10s\n", "graceful"),
    ],
)
def test_quit_is_judged_by_the_grace_that_is_configured(folder: Path, timeout: str, how: str) -> None:
    """With a grace, whoever ran was finished, and those that were reset had waited in the queue."""
    log = night.FPM_LOG.replace("Terminating ...", "Finishing ...")
    init = night.INIT.replace("$prog\n}", "$prog -QUIT\n}", 1)
    conf = night.FPM.replace("[global]\n", f"[global]\n{timeout}")
    (incident,) = found("--root", night.lay(folder, var_log_php_fpm_error_log=log, php_fpm_conf=conf, php_fpm=init))[
        "incidents"
    ]
    assert (incident["cause"], incident["how"]) == ("QUIT", how)
    halves = [order for order, kind in classes(incident).items() if kind == "half-done"]
    assert halves == (["7001", "7002"] if how == "immediate" else [])


def test_who_began_before_another_that_was_answered_was_running(folder: Path) -> None:
    """A grace that was used up: two outlived it, for they had been taken before two that were answered at its beginning."""
    log = (
        night.FPM_LOG.replace("Terminating ...", "Finishing ...")
        .replace("25-Jun-2017 05:28:01] NOTICE: exit", "25-Jun-2017 05:28:11] NOTICE: exit")
        .replace("25-Jun-2017 05:28:03", "25-Jun-2017 05:28:11")
    )
    conf = night.FPM.replace("[global]\n", "[global]\nprocess_control_timeout = 10s\n")
    init = night.INIT.replace("$prog\n}", "$prog -QUIT\n}", 1)
    end = "25/Jun/2017:05:28:11 +0800"
    access = "".join(
        (night.answered(6001, 200, 0.2), night.answered(6002, 200, 0.2), night.answered(7002, 502, 12.0, at=end),
         night.answered(7001, 502, 12.9, at=end), night.answered(7003, 502, 9.0, at=end))
    )  # fmt: skip
    errors = "".join(night.complaint(order, night.RESET, at="2017/06/25 05:28:11") for order in (7001, 7002, 7003))
    root = night.lay(folder, var_log_php_fpm_error_log=log, php_fpm_conf=conf, php_fpm=init, access_log=access)
    (root / "var/log/nginx/error.log").write_text(errors)
    (incident,) = found("--root", root)["incidents"]
    assert (incident["cause"], incident["how"]) == ("QUIT", "graceful")
    assert classes(incident) == {"7001": "half-done", "7002": "half-done", "7003": "never-begun"}


def test_a_reload_cuts_those_at_work_and_lets_the_others_wait(folder: Path) -> None:
    """USR2 keeps the listener: without a grace, whoever was reset was running; whoever waited was answered late."""
    log = night.FPM_LOG.replace("Terminating ...", "Reloading in progress ...")
    access = night.ACCESS + night.answered(7010, 200, 3.4, at="25/Jun/2017:05:28:04 +0800")
    root = night.lay(folder, var_log_php_fpm_error_log=log, access_log=access)
    errors = night.complaint(7001, night.RESET) + night.complaint(7002, night.RESET)
    (root / "var/log/nginx/error.log").write_text(errors)
    (incident,) = found("--root", root)["incidents"]
    assert (incident["cause"], incident["how"]) == ("USR2", "reload")
    assert classes(incident) == {"7001": "half-done", "7002": "half-done", "7010": "answered-late"}


def test_a_worker_that_dies_takes_one_request_along(folder: Path) -> None:
    """The kernel says why, and php-fpm which worker; nobody has ordered it."""
    log = "[25-Jun-2017 05:28:01] WARNING: [pool www] child 17 exited on signal 9 (SIGKILL) after 9.5 seconds from start\n"
    kernel = "Jun 25 05:28:01 web1 kernel: Memory cgroup out of memory: Killed process 17 (php-fpm), UID 33\n"
    root = night.lay(folder, var_log_php_fpm_error_log=log, syslog=kernel + night.SYSLOG.splitlines()[1] + "\n")
    (root / "var/log/nginx/error.log").write_text(night.complaint(7002, night.RESET))
    (incident,) = found("--root", root)["incidents"]
    assert (incident["cause"], incident["how"], incident["ordered_by"]["kind"]) == ("oom", "crash", "kernel")
    assert classes(incident) == {"7002": "half-done"}


def test_a_server_that_was_killed_as_a_whole_is_known_by_its_next_start(folder: Path) -> None:
    """SIGKILL leaves no line; the next start does, and the front has noticed the death. What follows is another story."""
    log = night.FPM_LOG.splitlines()
    killed = [
        *log[:4],
        "[25-Jun-2017 05:28:13] NOTICE: fpm is running, pid 9",
        "[25-Jun-2017 05:28:13] NOTICE: ready to handle connections",
    ]
    later = [line.replace("05:28", "06:28") for line in log[4:]]
    root = night.lay(folder, var_log_php_fpm_error_log="\n".join([*killed, *later, ""]), syslog=None)
    answer = found("--root", root)
    (incident,) = answer["incidents"]
    assert (incident["cause"], incident["how"]) == ("kill", "crash")
    assert (incident["at"], incident["until"]) == ("2017-06-25T05:28:01.000+08:00", "2017-06-25T05:28:14.000+08:00")
    assert classes(incident) == {"7001": "half-done", "7002": "half-done", "7003": "never-begun", "7004": "never-begun"}
    assert [restart["cause"] for restart in answer["restarts"]] == ["TERM", "TERM"]


def test_a_front_that_asks_another_server_is_known(folder: Path) -> None:
    """Nginx with proxy_next_upstream: what was cut may be done twice."""
    access = night.answered(7001, 200, 0.4).replace('urt="0.400"', 'urt="0.300, 0.100"')
    conf = night.NGINX.replace("id=$request_id", "ua=$upstream_addr id=$request_id")
    access = access.replace(" id=", " ua=127.0.0.1:9000, 127.0.0.1:9001 id=")
    root = night.lay(folder, nginx_conf=conf, access_log=access)
    (root / "var/log/nginx/error.log").write_text(night.complaint(7001, night.RESET))
    (incident,) = found("--root", root)["incidents"]
    (request,) = incident["requests"]
    assert (request["class"], request["status"]) == ("retried", 200)
    assert "may be done twice" in request["why"]


def test_a_request_that_the_server_finished_is_not_half_done(folder: Path) -> None:
    """php-fpm's own access log has its line: only the client was not told."""
    conf = (
        night.FPM + 'access.log = /var/log/php-fpm/access.log\naccess.format = "%R %t \\"%m %{REQUEST_URI}e\\" %s %d"\n'
    )
    root = night.lay(folder, php_fpm_conf=conf)
    line = '127.0.0.1 25/Jun/2017:05:28:00 +0800 "POST /3/cn/vgift/send?order=7002" 200 0.309\n'
    (root / "var/log/php-fpm/access.log").write_text(line)
    (incident,) = found("--root", root)["incidents"]
    assert classes(incident)["7002"] == "done-untold"
    assert "has no line of it" in next(r["why"] for r in incident["requests"] if "7001" in r["uri"])


def test_a_client_that_asked_again_does_not_hide_a_half_done_request(folder: Path) -> None:
    """The server's log has one line of this address, and the front has answered one: it is that one's."""
    conf = night.FPM + 'access.log = /var/log/php-fpm/access.log\naccess.format = "%R %t \\"%m %r%Q%q\\" %s"\n'
    again = night.answered(7002, 200, 0.1, at="25/Jun/2017:05:28:04 +0800")
    root = night.lay(folder, php_fpm_conf=conf, access_log=night.ACCESS + again)
    line = '127.0.0.1 25/Jun/2017:05:28:01 +0800 "POST /index.php?order=7002" 200\n'
    (root / "var/log/php-fpm/access.log").write_text(line)
    (incident,) = found("--root", root)["incidents"]
    assert classes(incident)["7002"] == "half-done"


def test_what_php_fpm_had_said_of_a_slow_request_is_evidence(folder: Path) -> None:
    """It names the request with its script in place of the path."""
    slow = (
        "[25-Jun-2017 05:28:00] WARNING: [pool www] child 17, script '/srv/index.php' (request: "
        '"POST /index.php?order=7002") executing too slow (5.0 sec), logging\n'
    )
    first, last = night.FPM_LOG.splitlines(True)[:4], night.FPM_LOG.splitlines(True)[4:]
    root = night.lay(folder, var_log_php_fpm_error_log="".join([*first, slow, *last]))
    (incident,) = found("--root", root)["incidents"]
    (request,) = [request for request in incident["requests"] if "7002" in request["uri"]]
    assert ("/var/log/php-fpm/error.log", 5) in [(quote["file"], quote["line"]) for quote in request["evidence"]]


def test_a_clock_that_is_off_by_some_seconds_is_found_out(folder: Path) -> None:
    """php-fpm runs on another machine, whose clock is 47 s ahead: two nights say so."""
    days = ("24", "25")
    ahead = night.FPM_LOG.replace("05:28:01", "05:28:48").replace("05:28:03", "05:28:50")
    root = night.lay(
        folder,
        var_log_php_fpm_error_log=ahead,
        var_log_nginx_error_log="".join(night.ERRORS.replace("06/25", f"06/{day}") for day in days),
        access_log="".join(night.ACCESS.replace("25/Jun", f"{day}/Jun") for day in days),
    )
    answer = found("--root", root)
    assert [(one["cause"], one["at"]) for one in answer["incidents"]] == [
        ("TERM", f"2017-06-{day}T05:28:01.000+08:00") for day in days
    ]
    (clock,) = [clock for clock in answer["clocks"] if clock["source"] == "/var/log/php-fpm/error.log"]
    assert clock["skew"] == -47


def test_what_the_application_answers_itself_is_no_incident(folder: Path) -> None:
    """502 and 500 of its own, 499 of clients, 504 of something slow: no restart, no incident."""
    access = "".join(night.answered(8000 + n, status, 0.2) for n, status in enumerate((500, 502, 499, 200)))
    late = night.complaint(
        8010, "upstream timed out (110: Connection timed out) while reading response header from upstream"
    )
    said = '2017/06/25 05:28:01 [error] 9#9: *7 FastCGI sent in stderr: "PHP message: connect() failed (111: Connection refused) while connecting to upstream" while reading response header from upstream, client: 10.0.0.7, server: shop, request: "POST /x?order=8011 HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", host: "shop"\n'  # noqa: E501
    root = night.lay(folder, access_log=access, var_log_nginx_error_log=late + said, var_log_php_fpm_error_log=None)
    result = explain("--root", root)
    assert result.exit_code == 0
    assert "No incident" in result.stdout


def test_without_an_error_log_an_applications_502_is_no_incident(folder: Path) -> None:
    """Nobody can say whose it was, and that is said."""
    access = "".join(night.answered(8000 + n, 502, 0.2) for n in range(5))
    root = night.lay(folder, access_log=access, var_log_php_fpm_error_log=None)
    (root / "var/log/nginx/error.log").unlink()
    answer = found("--root", root)
    assert answer["incidents"] == []
    assert any("5 answers of 502" in sentence for sentence in answer["unseen"])
    refused = "".join(night.answered(8000 + n, 502, 0.0, connected=False) for n in range(5))
    (root / "var/log/nginx/access.log").write_text(refused)
    (incident,) = found("--root", root)["incidents"]
    assert set(classes(incident).values()) == {"never-begun"}


def test_logs_without_a_host_can_be_named(folder: Path) -> None:
    """A folder of logs that somebody has sent: this host's crontab says nothing about it."""
    root = night.lay(folder)
    answer = found("--logs", root / "var/log")
    (incident,) = answer["incidents"]
    order = incident["ordered_by"]
    assert (incident["cause"], order["kind"], order["line"]) == ("TERM", "cron", 3)
    assert order["file"] == f"{root}/var/log/syslog"
    assert order["confidence"] < 0.9
    assert incident["at"] == "2017-06-25T05:28:01.000+08:00"
    assert incident["events"][0]["file"].startswith(str(root))
    assert {request["class"] for request in incident["requests"]} == {"half-done", "never-begun"}
    assert len(found("--logs", root / "var/log", "--at", "2017-06-25 05:28")["incidents"]) == 1
    assert found("--logs", root / "var/log", "--at", "2017-06-24 21:28")["incidents"] == []


def test_many_nights_have_a_line_each(folder: Path) -> None:
    """And the last one is told in full."""
    days = [f"{day:02}" for day in range(20, 26)]
    root = night.lay(
        folder,
        var_log_php_fpm_error_log="".join(
            "".join(night.FPM_LOG.splitlines(True)[4:]).replace("25-Jun", f"{day}-Jun") for day in days
        ),
        var_log_nginx_error_log="".join(night.ERRORS.replace("06/25", f"06/{day}") for day in days),
        access_log="".join(night.ACCESS.replace("25/Jun", f"{day}/Jun") for day in days),
        syslog="".join(night.SYSLOG.splitlines(True)[2].replace("Jun 25", f"Jun {day}") for day in days),
    )
    answer = found("--root", root)
    assert [(one["at"][:10], one["ordered_by"]["days"]) for one in answer["incidents"]] == [
        (f"2017-06-{day}", 5) for day in days
    ]
    text = explain("--root", root).stdout
    assert "6 incidents; the last one in full below" in text
    assert text.count("SIGTERM   2 likely half-done, 2 never begun  cron: /etc/init.d/php-fpm restart > /dev/null") == 6
    assert text.count("What could not be seen") == 1


def test_each_listener_has_its_own_workers(folder: Path) -> None:
    """Two pools: whoever was reset at the one is not compared with those of the other."""
    conf = night.FPM + "[other]\nlisten = /run/php/other.sock\npm = static\npm.max_children = 1\n"
    other = "".join(
        night.complaint(order, night.RESET).replace("127.0.0.1:9000", "unix:/run/php/other.sock:")
        for order in (7011, 7012)
    )
    access = night.ACCESS + night.answered(7011, 502, 0.02) + night.answered(7012, 502, 0.01)
    root = night.lay(folder, php_fpm_conf=conf, access_log=access)
    (root / "var/log/nginx/error.log").write_text(night.ERRORS + other)
    (incident,) = found("--root", root)["incidents"]
    kinds = {order: kind for order, kind in classes(incident).items() if kind == "half-done"}
    assert kinds.keys() == {"7001", "7002", "7011"}


def test_how_far_the_reading_is_is_told_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it takes long; and the line is gone at the end."""
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    monkeypatch.setattr(progress, "EVERY", -1.0)
    told = progress.Progress(wanted=True)
    told.tell("/var/log/nginx/access.log", 5_000_000)
    told.end()
    assert "5 MB read" in capsys.readouterr().err
    quiet = progress.Progress(wanted=False)
    quiet.tell("/var/log/nginx/access.log", 5_000_000)
    quiet.end()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2017-06-25 05:28", 1498339680.0), ("2017-06-25T05:28:01", 1498339681.0), ("2017-06-24T21:28:01Z", 1498339681.0),
        ("2h", 1498339681.0 - 7200), ("now", 1498339681.0), ("today", 1498320000.0), ("yesterday", 1498233600.0),
    ],
)  # fmt: skip
def test_a_time_is_the_machines_unless_it_says_otherwise(written: str, meant: float) -> None:
    """Absolute, or how long ago."""
    assert moment(written, Zone(ZoneInfo("Asia/Shanghai"), "Asia/Shanghai", ""), 1498339681.0) == meant


def test_wrong_options_are_usage_errors(folder: Path) -> None:
    """As with all commands: 64, and a remedy."""
    result = explain("--root", folder, "--at", "soon")
    assert result.exit_code == 64
    assert "2017-06-25 05:28" in result.stderr
    assert explain("--root", folder / "none").exit_code == 64
