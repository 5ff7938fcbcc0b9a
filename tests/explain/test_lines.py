"""Lines of each kind of log, as programs write them: what is taken from each, and which kind a file is."""

from __future__ import annotations

import pytest

from lastcall.core.mistakes import Mistake
from lastcall.tools.explain import accesslines, actionlogs, fpmlog, kinds, nginxlog, serverlogs, syslog
from lastcall.tools.explain.records import (
    NOTHING,
    Access,
    Complaint,
    Content,
    CutOff,
    Did,
    Fault,
    Happening,
    Sighting,
    Slow,
    Told,
    When,
)

AT = 1498368481.0
"""2017-06-25 05:28:01, as though it were UTC."""


def what(told: Told | None) -> Content:
    """What a line says."""
    assert told is not None
    return told.what


# --- Servers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NOTICE: Terminating ...", Happening("", Did.TOLD, "TERM")),
        ("NOTICE: Finishing ...", Happening("", Did.TOLD, "QUIT")),
        ("NOTICE: Reloading in progress ...", Happening("", Did.RELOADING, "USR2")),
        ("NOTICE: exiting, bye-bye!", Happening("", Did.GONE)),
        ("NOTICE: fpm is running, pid 4100", Happening("php-fpm", Did.STARTING, pid=4100)),
        ("NOTICE: lastcall is running, pid 4100", Happening("lastcall", Did.STARTING, pid=4100)),
        ("NOTICE: ready to handle connections", Happening("", Did.READY)),
        ("NOTICE: error log file re-opened", Happening("", Did.REOPENED, "USR1")),
        (
            "WARNING: [pool www] child 17 exited on signal 9 (SIGKILL) after 12.345678 seconds from start",
            Happening("", Did.WORKER_DIED, "KILL", 17),
        ),
        (
            "WARNING: [pool www] child 17 exited on signal 11 (SIGSEGV - core dumped) after 1.0 seconds from start",
            Happening("", Did.WORKER_DIED, "SEGV", 17),
        ),
        ("NOTICE: [pool www] child 17 exited with code 0 after 1.0 seconds from start", NOTHING),
        (
            (
                "WARNING: [pool www] child 17, script '/srv/i.php' (request: \"POST /i.php?a=1\") execution timed out "
                "(30.123456 sec), terminating"
            ),
            Happening("", Did.WORKER_DIED, "timeout", 17),
        ),
        (
            (
                "WARNING: [pool www] child 17, script '/srv/i.php' (request: \"POST /i.php?a=1\") executing too slow "
                "(5.5 sec), logging"
            ),
            Slow(17, "/srv/i.php", "POST", "/i.php?a=1", 5.5),
        ),
        (
            "DEBUG: pid 9, fpm_pctl_kill_all(), line 161: [pool www] sending signal 15 SIGTERM to child 17",
            Happening("", Did.TOLD, "worker TERM", 17),
        ),
        (
            "NOTICE: SIGTERM from pid 4711 uid 0 (killproc -p x) < pid 4700 (cron)",
            Happening("lastcall", Did.TOLD, "TERM", sender="pid 4711 uid 0 (killproc -p x) < pid 4700 (cron)"),
        ),
        ("WARNING: [pool www] server reached pm.max_children setting (2), consider raising it", NOTHING),
    ],
)
def test_php_fpm_says_what_happens_to_it(text: str, said: Content) -> None:
    """The texts of php-fpm 8.2's source, and lastcall's."""
    told = fpmlog.read(f"[25-Jun-2017 05:28:01] {text}")
    assert told == Told(When(AT), said)
    assert fpmlog.read(f"[25-Jun-2017 05:28:01.568047] {text}") == Told(When(AT + 0.568047, None, 1e-6), said)


def test_what_php_logs_itself_is_understood() -> None:
    """It may go into the same file, with a zone."""
    assert fpmlog.read("[25-Jun-2017 05:28:01 UTC] PHP Warning:  hello in /srv/i.php on line 1") == Told(
        When(AT, 0), NOTHING
    )
    assert fpmlog.read("[25-Jun-2017 05:28:01 Asia/Shanghai] PHP Notice:  hello") == Told(When(AT), NOTHING)


def test_php_fpms_slow_log_is_read() -> None:
    """A time, then lines without one."""
    assert fpmlog.read("[25-Jun-2017 05:28:01]  [pool www] pid 17") == Told(When(AT), Slow(17, ""))
    assert fpmlog.read("script_filename = /srv/i.php") == Told(None, Slow(0, "/srv/i.php"))
    assert fpmlog.read("[0x00007f] sendPresent() /srv/i.php:9") == Told(None, Slow(0, ""))


UPSTREAM = (
    ', client: 10.0.0.7, server: x, request: "POST /g?o=1, 2 HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", host: "x"'
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("recv() failed (104: Connection reset by peer) while reading response header from upstream", Fault.RESET),
        ("readv() failed (104: Connection reset by peer) while reading upstream", Fault.BROKEN),
        ("upstream prematurely closed FastCGI stdout while reading response header from upstream", Fault.CLOSED),
        ("upstream prematurely closed connection while reading response header from upstream", Fault.CLOSED),
        ("upstream prematurely closed connection while reading upstream", Fault.BROKEN),
        ("connect() failed (111: Connection refused) while connecting to upstream", Fault.REFUSED),
        (
            "connect() to unix:/run/php.sock failed (2: No such file or directory) while connecting to upstream",
            Fault.REFUSED,
        ),
        (
            "connect() to unix:/run/php.sock failed (11: Resource temporarily unavailable) while connecting to upstream",
            Fault.FULL,
        ),
        (
            "connect() to unix:/run/php.sock failed (111: Connection refused) while connecting to upstream",
            Fault.REFUSED,
        ),
        ("no live upstreams while connecting to upstream", Fault.REFUSED),
        ("upstream timed out (110: Connection timed out) while reading response header from upstream", Fault.LATE),
        ("upstream timed out (110: Connection timed out) while connecting to upstream", Fault.UNREACHED),
        ("connect() failed (113: No route to host) while connecting to upstream", Fault.UNREACHED),
        ("writev() failed (32: Broken pipe) while sending request to upstream", Fault.SENDING),
        ("sendfile() failed (32: Broken pipe) while sending request to upstream", Fault.SENDING),
    ],
)
def test_nginx_complains_of_its_servers(text: str, fault: Fault) -> None:
    """What it says when a server has not answered, with client, request and server."""
    told = nginxlog.read(f"2017/06/25 05:28:01 [error] 9#9: *7 {text}{UPSTREAM}")
    assert told == Told(When(AT), Complaint(fault, "10.0.0.7", "POST", "/g?o=1, 2", "fastcgi://127.0.0.1:9000", "7"))


@pytest.mark.parametrize(
    "text",
    [
        ('*7 FastCGI sent in stderr: "PHP message: recv() failed (104: Connection reset) while reading response header '
        f'from upstream" while reading response header from upstream{UPSTREAM}'),
        f'*7 open() "/srv/x" failed (2: No such file or directory){UPSTREAM}',
        f"*7 upstream sent too big header while reading response header from upstream{UPSTREAM}",
        "*7 client intended to send too large body: 9 bytes, client: 10.0.0.7",
        "signal process started",
    ],
)  # fmt: skip
def test_what_else_nginx_says_is_no_complaint(text: str) -> None:
    """The application's own words in it least of all."""
    assert what(nginxlog.read(f"2017/06/25 05:28:01 [error] 9#9: {text}")) is NOTHING


def test_nginx_says_who_sent_it_a_signal() -> None:
    """Its own stops and reloads."""
    line = "2017/06/25 05:28:01 [notice] 9#9: signal 15 (SIGTERM) received from 4711, exiting"
    assert what(nginxlog.read(line)) == Happening("nginx", Did.TOLD, "TERM", sender="pid 4711")
    line = "2017/06/25 05:28:01 [notice] 9#9: signal 1 (SIGHUP) received from 4711, reconfiguring"
    assert what(nginxlog.read(line)) == Happening("nginx", Did.RELOADING, "HUP", sender="pid 4711")


@pytest.mark.parametrize(
    ("text", "did", "cause"),
    [
        ("Handling signal: term", Did.TOLD, "TERM"),
        ("Handling signal: quit", Did.TOLD, "QUIT"),
        ("Handling signal: hup", Did.RELOADING, "HUP"),
        ("Handling signal: usr2", Did.RELOADING, "USR2"),
        ("Shutting down: Master", Did.GONE, ""),
        ("Starting gunicorn 27.0.1", Did.STARTING, ""),
        ("Booting worker with pid: 12", Did.READY, ""),
        ("Worker (pid:12) was sent SIGKILL! Perhaps out of memory?", Did.WORKER_DIED, "KILL"),
        ("WORKER TIMEOUT (pid:12)", Did.WORKER_DIED, "timeout"),
    ],
)
def test_gunicorn_says_what_happens_to_it(text: str, did: Did, cause: str) -> None:
    """With its zone."""
    told = serverlogs.gunicorn(f"[2017-06-25 05:28:01 +0800] [17] [INFO] {text}")
    assert told is not None
    assert told.when == When(AT, 28800)
    assert isinstance(told.what, Happening)
    assert (told.what.service, told.what.did, told.what.cause) == ("gunicorn", did, cause)
    assert (
        what(serverlogs.gunicorn("[2017-06-25 05:28:01 +0800] [17] [ERROR] Worker (pid:9) was sent SIGTERM!"))
        is NOTHING
    )


@pytest.mark.parametrize(
    ("line", "did", "cause"),
    [
        ("Sun Jun 25 05:28:01 2017 - SIGINT/SIGTERM received...killing workers...", Did.TOLD, "TERM"),
        ("Sun Jun 25 05:28:01 2017 - SIGQUIT received...killing workers...", Did.TOLD, "QUIT"),
        ("...gracefully killing workers...", Did.RELOADING, "HUP"),
        ("goodbye to uWSGI.", Did.GONE, ""),
        ("*** Starting uWSGI 2.0.31 (64bit) on [Sun Jun 25 05:28:01 2017] ***", Did.STARTING, ""),
        ("spawned uWSGI worker 1 (pid: 12, cores: 1)", Did.READY, ""),
        ("DAMN ! worker 1 (pid: 12) died, killed by signal 9 :( trying respawn ...", Did.WORKER_DIED, "KILL"),
    ],
)
def test_uwsgi_says_what_happens_to_it(line: str, did: Did, cause: str) -> None:
    """With its time, where it writes one."""
    told = serverlogs.uwsgi(line)
    assert told is not None
    assert told.when == (When(AT) if "2017" in line else None)
    assert isinstance(told.what, Happening)
    assert (told.what.service, told.what.did, told.what.cause) == ("uwsgi", did, cause)


@pytest.mark.parametrize(
    ("text", "service", "did", "cause"),
    [
        ("INFO waiting for shop to stop", "shop", Did.TOLD, "supervisor"),
        ("INFO stopped: shop (terminated by SIGTERM)", "shop", Did.GONE, "TERM"),
        ("INFO stopped: gunicorn (exit status 0)", "gunicorn", Did.GONE, ""),
        ("WARN killing 'shop' (12) with SIGKILL", "shop", Did.VANISHED, "KILL"),
        ("INFO exited: shop (terminated by SIGSEGV; not expected)", "shop", Did.VANISHED, "SEGV"),
        ("INFO spawned: 'shop' with pid 12", "shop", Did.STARTING, ""),
        ("INFO success: shop entered RUNNING state, process has stayed up for > than 1 seconds", "shop", Did.READY, ""),
    ],
)
def test_supervisor_says_what_happens_to_its_programs(text: str, service: str, did: Did, cause: str) -> None:
    """A service is called as supervisor calls it, unless its name is a server's."""
    told = serverlogs.supervisor(f"2017-06-25 05:28:01,250 {text}")
    assert told is not None
    assert told.when == When(AT + 0.25, None, 0.001)
    assert isinstance(told.what, Happening)
    assert (told.what.service, told.what.did, told.what.cause) == (service, did, cause)


def test_uvicorn_has_no_times_of_its_own() -> None:
    """Unless somebody has given it some."""
    assert serverlogs.uvicorn("INFO:     Shutting down") == Told(None, Happening("uvicorn", Did.TOLD, "TERM"))
    told = serverlogs.uvicorn("2017-06-25 05:28:01,250 INFO:     Started server process [12]")
    assert told == Told(When(AT + 0.25, None, 0.001), Happening("uvicorn", Did.STARTING, pid=12))


# --- Who commands ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "CRON[4001]: (root) CMD (/etc/init.d/php-fpm restart > /dev/null)",
            Sighting("cron", "/etc/init.d/php-fpm restart > /dev/null", "root"),
        ),
        ("crond[12]: (root) CMD (run-parts /etc/cron.hourly)", Sighting("cron", "run-parts /etc/cron.hourly", "root")),
        ("crond[12]: USER root pid  99 cmd /usr/sbin/x", Sighting("cron", "/usr/sbin/x", "root")),
        ("CRON[4001]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)", NOTHING),
        (
            "sudo[9]:    anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/systemctl restart php8.2-fpm",
            Sighting("sudo", "/usr/bin/systemctl restart php8.2-fpm", "anna", "/home/anna"),
        ),
        ("sudo: anna : command not allowed ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh", NOTHING),
        ("anacron[9]: Job `cron.daily' started", Sighting("anacron", "cron.daily", "root")),
        (
            "run-parts[9]: (/etc/cron.daily) starting logrotate",
            Sighting("cron", "/etc/cron.daily/logrotate", "root"),
        ),
        (
            "ansible-ansible.legacy.systemd[9]: Invoked with name=php8.2-fpm state=restarted daemon_reload=False",
            Sighting("ansible", "systemctl restart php8.2-fpm", "root"),
        ),
        ("deploy: release 42 begins", Sighting("deploy", "release 42 begins", "")),
        ("php-fpm[9]: [NOTICE] Terminating ...", Happening("php-fpm", Did.TOLD, "TERM")),
        ("systemd[1]: Stopping The PHP 8.2 FastCGI Process Manager...", Happening("php-fpm", Did.TOLD, "systemd")),
        ("systemd[1]: Stopped php8.2-fpm.service - The PHP 8.2 FastCGI.", Happening("php-fpm", Did.GONE)),
        ("systemd[1]: Started php8.2-fpm.service - The PHP 8.2 FastCGI.", Happening("php-fpm", Did.READY)),
        (
            "systemd[1]: Starting php-restart.service - Restart PHP...",
            Happening("unit php-restart.service", Did.STARTING),
        ),
        ("systemd[1]: Stopping The gift shop...", Happening("unit The gift shop", Did.TOLD, "systemd")),
        (
            "systemd[1]: gunicorn.service: Main process exited, code=killed, status=9/KILL",
            Happening("gunicorn", Did.VANISHED, "KILL"),
        ),
        (
            "systemd[1]: gunicorn.service: A process of this unit has been killed by the OOM killer.",
            Happening("gunicorn", Did.WORKER_DIED, "oom"),
        ),
        (
            "kernel: [123.4] Out of memory: Killed process 17 (php-fpm8.2) total-vm:9kB",
            Happening("php-fpm", Did.WORKER_DIED, "oom", 17),
        ),
        (
            "kernel: Memory cgroup out of memory: Killed process 17 (gunicorn), UID 33",
            Happening("gunicorn", Did.WORKER_DIED, "oom", 17),
        ),
        (
            "kernel: [123.4] php-fpm8.2[17]: segfault at 0 ip 0 sp 0 error 4 in php-fpm8.2",
            Happening("php-fpm", Did.WORKER_DIED, "segfault", 17),
        ),
        ("kernel: Out of memory: Killed process 17 (chrome)", NOTHING),
        ("rsyslogd: start", NOTHING),
        (
            "python3[9]: [2017-06-25 05:28:01 +0800] [17] [INFO] Handling signal: term",
            Happening("gunicorn", Did.TOLD, "TERM", 17),
        ),
        ("python3[9]: INFO:     Shutting down", Happening("uvicorn", Did.TOLD, "TERM")),
        (
            "nginx: 2017/06/25 05:28:01 [error] 9#9: *7 no live upstreams while connecting to upstream, client: x",
            Complaint(Fault.REFUSED, "x", "", "", "", "7"),
        ),
    ],
)
def test_syslog_says_who_has_run_what(text: str, said: Content) -> None:
    """In the old form and in the new one, with a priority or without."""
    old, new = syslog.read(f"Jun 25 05:28:01 web1 {text}"), syslog.read(f"2017-06-25T05:28:01.250000+08:00 web1 {text}")
    assert what(old) == what(new) == said
    assert old is not None
    assert new is not None
    assert old.when is not None
    assert (old.when.dated, new.when) == (False, When(AT + 0.25, 28800, 1e-6))
    assert syslog.read(f"<78>Jun 25 05:28:01 web1 {text}") == old


def test_an_export_of_the_journal_is_read() -> None:
    """An object a line, whose message may be bytes, and whose unit is a field."""
    line = (
        '{"__REALTIME_TIMESTAMP":"1498339681250000","SYSLOG_IDENTIFIER":"systemd","_PID":"1","UNIT":"php8.2-fpm.service",'
        '"MESSAGE":"Stopping The PHP thing..."}'
    )
    assert syslog.journal(line) == Told(When(1498339681.25, 0, 1e-6), Happening("php-fpm", Did.TOLD, "systemd"))
    raw = '{"__REALTIME_TIMESTAMP":"1498339681250000","_COMM":"cron","MESSAGE":[40,114,41,32,67,77,68,32,40,120,41]}'
    assert what(syslog.journal(raw)) == Sighting("cron", "x", "r")
    assert syslog.journal('{"__REALTIME_TIMESTAMP":"x"}') is None


def test_packages_hooks_rotations_and_the_audit_are_read() -> None:
    """Those who restart servers by the way."""
    assert what(actionlogs.dpkg("2017-06-25 05:28:01 configure php8.2-fpm:amd64 8.2 <none>")) == Sighting(
        "apt", "dpkg configure php8.2-fpm:amd64", "root"
    )
    assert what(actionlogs.apt("Commandline: /usr/bin/unattended-upgrade")) == Sighting(
        "apt", "/usr/bin/unattended-upgrade", "root"
    )
    hook = "2017-06-25 05:28:01,123:INFO:certbot.compat.misc:Running deploy-hook command: systemctl restart nginx"
    assert what(actionlogs.certbot(hook)) == Sighting("hook", "systemctl restart nginx", "root")
    state = '"/var/log/php8.2-fpm.log" 2017-6-25-5:28:1'
    assert actionlogs.logrotate_state(state) == Told(When(AT), Sighting("logrotate", "/var/log/php8.2-fpm.log", "root"))
    audit = 'type=EXECVE msg=audit(1498339681.123:9): argc=3 a0="kill" a1="-TERM" a2=3132'
    assert actionlogs.audit(audit) == Told(When(1498339681.123, 0, 0.001), Sighting("audit", "kill -TERM 12", ""))


def test_any_log_with_times_may_hold_a_deploy() -> None:
    """A hint, where nothing better is found."""
    line = "[2017-06-25 05:28:01] deploying release 42"
    assert actionlogs.other(line) == Told(When(AT), Sighting("deploy", "deploying release 42", ""))
    line = "Sun Jun 25 05:28:01 CST 2017: restarting php-fpm"
    assert what(actionlogs.other(line)) == Sighting("log", "restarting php-fpm", "")
    assert what(actionlogs.other("2017-06-25T05:28:01Z hello")) is NOTHING
    assert actionlogs.other("hello") is None


# --- Access logs -------------------------------------------------------------


def access(told: Told | None) -> Access:
    """The request that a line is about."""
    found = what(told)
    assert isinstance(found, Access)
    return found


def test_any_log_format_of_nginx_is_read() -> None:
    """Its variables by their names, wherever they stand; what names a request is kept."""
    read = accesslines.nginx(
        '$http_x_forwarded_for|$remote_addr [$time_local] "$request" $status "$http_user_agent" '
        "$request_time|$upstream_connect_time|$upstream_header_time|$upstream_response_time|$upstream_addr $http_order $msec"
    )
    told = read(
        '9.9.9.9|10.0.0.7 [25/Jun/2017:05:28:01 +0800] "POST /g?o=1 HTTP/1.1" 502 "a \\"b\\"" '
        "0.310|0.000|-|0.309|10.0.0.8:9000 o-17 1498339681.250"
    )
    assert told is not None
    assert told.when == When(AT + 0.25, 28800, 0.001)
    found = access(told)
    assert (found.client, found.method, found.uri, found.status) == ("10.0.0.7", "POST", "/g?o=1", 502)
    assert (found.took, found.upstream, found.connected, found.headed, found.tried) == (0.31, 0.309, True, False, 1)
    assert found.ids == ("o-17",)
    assert read("nothing of the kind") is None


def test_a_request_that_was_tried_at_several_servers_is_known() -> None:
    """Nginx lists a time for each; the last one counts."""
    read = accesslines.nginx(
        "$remote_addr $time_iso8601 $request_method $request_uri $status $upstream_addr $upstream_response_time"
    )
    found = access(read("10.0.0.7 2017-06-25T05:28:01+08:00 POST /g 200 a:1, b:1 0.001, 0.250"))
    assert (found.tried, found.upstream) == (2, 0.25)


@pytest.mark.parametrize("text", ["$remote_addr $status", "$time_local $remote_addr", "nothing"])
def test_a_format_that_says_too_little_is_refused(text: str) -> None:
    """Without a time or a status, a line is of no use."""
    with pytest.raises(Mistake):
        accesslines.nginx(text)


def test_combined_is_read_with_whatever_follows_it() -> None:
    """Labels as in nginx's own examples, or bare numbers; what a client calls itself is not taken for one."""
    line = '10.0.0.7 - - [25/Jun/2017:05:28:01 +0800] "POST /g?o=1 HTTP/1.1" 502 157 "-" "agent 9.999 8.888"'
    assert access(accesslines.combined(line)).took is None
    found = access(accesslines.combined(f"{line} rt=0.310 uct=- urt=0.309 id=abc"))
    assert (found.took, found.upstream, found.connected, found.ids) == (0.31, 0.309, False, ("abc",))
    found = access(accesslines.combined(f'{line} 0.310 "0.309"'))
    assert (found.took, found.upstream) == (0.31, 0.309)


def test_php_fpms_access_log_is_read() -> None:
    """Its time is when the request came; durations in any unit."""
    found = access(accesslines.fpm_default('127.0.0.1 -  25/Jun/2017:05:28:01 +0800 "POST /index.php" 200'))
    assert (found.began, found.uri, found.status) == (True, "/index.php", 200)
    read = accesslines.fpm('%R - %u %t "%m %{REQUEST_URI}e" %s %{milliseconds}d %p')
    found = access(read('127.0.0.1 -  25/Jun/2017:05:28:01 +0800 "POST /g?o=1" 200 310.000 17'))
    assert (found.began, found.uri) == (True, "/g?o=1")
    assert found.took == pytest.approx(0.31)
    read = accesslines.fpm('%R %t "%m %r%Q%q" %s')
    assert access(read('127.0.0.1 25/Jun/2017:05:28:01 +0800 "POST /index.php?o=1" 200')).uri == "/index.php?o=1"


def test_objects_are_read_by_nginxs_names_and_ours() -> None:
    """JSON from log_format, and lastcall's own."""
    line = (
        '{"time_iso8601":"2017-06-25T05:28:01+08:00","request":"POST /g","status":502,"upstream_response_time":"0.3"}'
    )
    found = access(accesslines.json(line))
    assert (found.uri, found.upstream, found.began) == ("/g", 0.3, False)
    line = '{"time":"2017-06-25T05:28:01.25+08:00","method":"POST","uri":"/g","status":200,"duration":0.3,"id":"r"}'
    found = access(accesslines.json(line))
    assert (found.uri, found.took, found.began, found.id) == ("/g", 0.3, True, "r")


def test_gunicorns_and_uwsgis_requests_are_read() -> None:
    """By gunicorn's format, and as uWSGI writes them."""
    read = accesslines.gunicorn('%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(L)s')
    found = access(read('10.0.0.7 - - [25/Jun/2017:05:28:01 +0800] "POST /g HTTP/1.1" 200 5 "-" "curl" 0.250'))
    assert (found.uri, found.took) == ("/g", 0.25)
    line = (
        "[pid: 17|app: 0|req: 1/1] 10.0.0.7 () {34 vars in 500 bytes} [Sun Jun 25 05:28:01 2017] POST /g => generated 5 "
        "bytes in 250 msecs (HTTP/1.1 200) 2 headers in 79 bytes (1 switches on core 0)"
    )
    found = access(accesslines.uwsgi(line))
    assert (found.uri, found.took, found.began) == ("/g", 0.25, True)


def test_a_cut_is_read() -> None:
    """Lastcall's own list: nothing about it is a guess."""
    line = (
        '{"at":"2017-06-24T21:28:01+00:00","time":1498339681.25,"request_id":"r1","method":"POST","uri":"/g?o=1","client":"10.0.0.7",'
        '"elapsed":0.25,"pid":1,"serial":1,"generation":1,"kind":"died","cause":"its worker exited on signal 9 (SIGKILL)",'
        '"step":"sendPresent","done":"answered 503"}'
    )
    found = what(kinds.cut(line))
    assert isinstance(found, CutOff)
    assert (found.began, found.id, found.answered) == (1498339681.0, "r1", False)
    assert found.said.endswith("answered 503 at step sendPresent")


@pytest.mark.parametrize(
    "line",
    [
        '{"log":"[25-Jun-2017 05:28:01] NOTICE: Terminating ...\\n","stream":"x","time":"2017-06-24T21:28:01.250123456Z"}',
        "2017-06-24T21:28:01.250123456Z stderr F [25-Jun-2017 05:28:01] NOTICE: Terminating ...",
    ],
)
def test_a_containers_log_is_unpacked(line: str) -> None:
    """Dockerd's and Kubernetes' time is exact, and in UTC; what the program says is what it says."""
    assert kinds.container(line) == Told(When(AT - 28800 + 0.250123, 0, 1e-6), Happening("", Did.TOLD, "TERM"))
    kind = kinds.of(line)
    assert kind is not None
    assert kind.name == "container log"


# --- Which kind --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("[25-Jun-2017 05:28:01] NOTICE: hello", "php-fpm log"),
        ("2017/06/25 05:28:01 [error] 9#9: hello", "nginx error log"),
        ('10.0.0.7 - - [25/Jun/2017:05:28:01 +0800] "GET / HTTP/1.1" 200 5 "-" "curl"', "access log"),
        ('127.0.0.1 -  25/Jun/2017:05:28:01 +0800 "GET /index.php" 200', "php-fpm access log"),
        ("[2017-06-25 05:28:01 +0800] [17] [INFO] hello", "gunicorn log"),
        ("Sun Jun 25 05:28:01 2017 - hello", "uWSGI log"),
        ("2017-06-25 05:28:01,250 INFO hello", "supervisor log"),
        ("Jun 25 05:28:01 web1 hello[9]: hello", "syslog"),
        ("2017-06-25T05:28:01.250000+08:00 web1 hello: hello", "syslog"),
        ("2017-06-25 05:28:01 status installed hello:amd64 1", "dpkg log"),
        ("2017-06-25 05:28:01 hello", "log"),
    ],
)
def test_a_file_is_known_by_its_lines(line: str, name: str) -> None:
    """Most of them decide."""
    kind = kinds.recognize([line, line, "something else"], "x")
    assert kind is not None
    assert kind.name == name
    assert kinds.recognize(["hello", "there"], "/srv/notes") is None
