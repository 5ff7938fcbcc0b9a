"""From a command line, a script, an init script to the signal that is really sent, and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastcall.tools.readers import initscript, servers, shell
from lastcall.tools.readers.orders import Order, orders

INIT = """\
#!/bin/sh
# chkconfig: - 84 16
. /etc/rc.d/init.d/functions
prog=php-fpm
pidfile=${PIDFILE-/var/run/php-fpm/php-fpm.pid}
stop() {
    echo -n $"Stopping $prog: "
    killproc -p ${pidfile} $prog
}
restart () {
    stop
    start
}
case "$1" in
  start|stop|restart)
    $1
    ;;
  reload|force-reload)
    killproc -p ${pidfile} $prog -USR2
    ;;
  *)
    echo "Usage"
esac
"""


def said(text: str) -> list[str]:
    """All orders of a text, in words."""
    return [order.words() for order in orders(text)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("kill -9 $(cat /run/php-fpm.pid)", "kill sends KILL to /run/php-fpm.pid"),
        ("kill -s QUIT `cat /run/gunicorn.pid`", "kill sends QUIT to /run/gunicorn.pid"),
        ("/bin/kill -SIGUSR2 $MAINPID", "kill sends USR2 to $MAINPID"),
        ("kill 4711", "kill sends TERM to 4711"),
        ("sudo -u root pkill -9 -f gunicorn", "pkill sends KILL to gunicorn"),
        ("pkill -QUIT unicorn", "pkill sends QUIT to unicorn"),
        ("killall -s INT uwsgi", "killall sends INT to uwsgi"),
        ("ps aux | grep php-fpm | awk '{print $2}' | xargs -r kill -9",
         "kill sends KILL to ps aux | grep php-fpm | awk {print $2}"),
        ("killproc -p /run/x.pid php-fpm", "killproc sends TERM, then KILL after 3 s to php-fpm"),
        ("killproc -p /run/x.pid php-fpm -QUIT", "killproc sends QUIT to php-fpm"),
        ("start-stop-daemon --stop --retry=QUIT/30/TERM/5/KILL/5 --name php-fpm8.2",
         "start-stop-daemon sends QUIT, then TERM after 30 s, then KILL after 5 s to php-fpm8.2"),
        ("start-stop-daemon -K -R 5 -p /run/nginx.pid",
         "start-stop-daemon sends TERM, then KILL after 5 s to /run/nginx.pid"),
        ("start-stop-daemon --stop --signal USR1 --exec /usr/sbin/nginx", "start-stop-daemon sends USR1 to /usr/sbin/nginx"),
        ("systemctl --no-block restart php8.2-fpm.service", "systemctl restart php8.2-fpm"),
        ("systemctl kill -s SIGUSR1 nginx", "systemctl kill sends USR1 to nginx"),
        ("nice -n 5 service php-fpm restart", "service restart php-fpm"),
        ("/etc/init.d/php-fpm restart > /dev/null 2>&1", "/etc/init.d/php-fpm restart"),
        ("nginx -s stop", "nginx -s sends TERM to nginx"),
        ("/usr/sbin/apachectl graceful", "apachectl graceful apache2"),
        ("supervisorctl -c /etc/s.conf restart shop:*", "supervisorctl restart shop:*"),
        ("docker rm -f shop", "docker rm shop"),
        ("docker compose -f a.yml down", "docker compose down"),
        ("bash -lc 'cd /srv && kill -HUP 1'", "kill sends HUP to 1"),
        ("flock -n /tmp/l pm2 restart all", "pm2 restart all"),
    ],
)  # fmt: skip
def test_what_a_command_orders(command: str, expected: str) -> None:
    """One order, whoever starts the command, and wherever its output goes."""
    assert said(command) == [expected]


@pytest.mark.parametrize(
    "command",
    [
        "kill -0 $PID", "kill -l", "# kill -9 1", "echo 'kill -9 1'", "start-stop-daemon --start --exec /x",
        "start-stop-daemon --stop --retry=0/30/TERM/5 --exec /x", "systemctl daemon-reload", "pgrep -f nginx",
        "nginx -t", "cat <<EOF\nkill -9 1\nEOF", "docker ps", "grep kill /x",
        "kill -$1 $(cat /run/unicorn.pid)", "kill -s $SIG 1", "pkill -$SIG nginx", "killproc -p /x nginx -$1",
        "trap 'kill 1' EXIT",
    ],
)  # fmt: skip
def test_what_is_no_order(command: str) -> None:
    """Questions, comments, texts, starts."""
    assert said(command) == []


def test_variables_that_are_known_are_filled_in() -> None:
    """Also by their default; what is computed stays as it is written."""
    text = 'NAME=php-fpm\nPID="${PID:-/run/$NAME.pid}"\nX=$(date)\nkill -QUIT $NAME ${Y:-z} $X\n'
    assert said(text) == ["kill sends QUIT to php-fpm z $X"]
    assert [order.line for order in orders(text)] == [4]


def test_pids_that_come_from_somewhere_are_somebodys() -> None:
    """A variable, or a loop's, that holds what `cat`, `pgrep` or `pidof` say."""
    text = "P=$(cat /run/php-fpm.pid)\nkill -QUIT $P\nfor p in `pgrep -f gunicorn`; do kill -9 $p; done\n"
    text += "Q=$(date)\nkill $Q\n"
    assert said(text) == ["kill sends QUIT to /run/php-fpm.pid", "kill sends KILL to gunicorn", "kill sends TERM to $Q"]


def test_an_init_script_of_red_hats_kind() -> None:
    """The incident's: `restart` calls `stop` calls `killproc`, which sends TERM when nothing is said."""
    script = initscript.parse("php-fpm", INIT)
    stop = Order("killproc", "php-fpm", 8, signals=("TERM", "KILL"), waits=(3.0,))
    for action in ("stop", "restart"):
        (order,) = script.actions[action]
        assert (order.by, order.line, order.signals, order.waits) == (stop.by, stop.line, stop.signals, stop.waits)
    assert [order.words() for order in script.actions["reload"]] == ["killproc sends USR2 to php-fpm"]
    assert script.server == "php-fpm"
    assert script.actions["start"] == ()


@pytest.mark.parametrize(
    ("name", "action", "expected"),
    [
        ("php8.2-fpm", "restart", ["QUIT", "TERM", "KILL"]),
        ("php8.2-fpm", "reload", ["USR2"]),
        ("nginx", "stop", ["QUIT", "TERM", "KILL"]),
        ("nginx", "rotate", ["USR1"]),
        ("haproxy", "restart", ["TERM", "KILL"]),
    ],
)
def test_debians_own_init_scripts(name: str, action: str, expected: list[str]) -> None:
    """As they are installed here."""
    script = initscript.parse(name, Path(f"/etc/init.d/{name}").read_text())
    (order,) = script.actions[action]
    assert list(order.signals) == expected
    assert order.server == script.server != ""


@pytest.mark.parametrize(
    ("command", "server"),
    [
        ("/usr/sbin/php-fpm8.2 --nodaemonize", "php-fpm"), ("/srv/venv/bin/gunicorn app:app", "gunicorn"),
        ("python3 -m gunicorn app:app", "gunicorn"), ("poetry run uvicorn a:a", "uvicorn"),
        ("env A=1 bundle exec puma -C x", "puma"), ("tini -- php-fpm", "php-fpm"), ("bundle exec unicorn", "unicorn"),
        ("/usr/bin/python3 /srv/bin/gunicorn app", "gunicorn"), ("sudo -u www timeout 5 uwsgi --ini x", "uwsgi"),
        ("python3 manage.py runserver", ""), ("/usr/sbin/sshd -D", ""), ("/etc/init.d/nginx start", ""),
        ("nginxify", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_server_that_a_command_starts(command: str, server: str) -> None:
    """Behind whatever starts it; never by a part of a name."""
    assert servers.started(command.split()) == server


def test_names_within_names() -> None:
    """Gunicorn is no unicorn; a pattern that hides itself from grep is understood."""
    assert servers.mentioned("/run/gunicorn.pid") == "gunicorn"
    assert servers.mentioned("grep [p]hp-fpm") == "php-fpm"
    assert servers.mentioned("php7.4-fpm") == "php-fpm"
    assert servers.mentioned("nginxfoo") == ""
    assert servers.mentioned("nginx-exporter") == ""
    assert servers.mentioned("php-fpm_exporter.pid") == ""
    assert servers.mentioned("gunicorn-shop") == "gunicorn"
    assert servers.mentioned("mongod") == ""


def test_every_signal_that_is_named_graceful_is_so_in_the_table() -> None:
    """Tables agree with each other."""
    for table, effect in (
        (servers.GRACEFUL, servers.Effect.DRAIN),
        (servers.RELOADING, servers.Effect.RELOAD),
        (servers.REOPENING, servers.Effect.REOPEN),
    ):
        assert {server: servers.effect(server, signal) for server, signal in table.items()} == dict.fromkeys(
            table, effect
        )


def test_functions_that_call_each_other_end() -> None:
    """A loop of functions is followed once."""
    script = shell.parse('a() { b; }\nb() { a; kill 1; }\ncase "$1" in x) a ;; esac\n')
    assert [command.words[0] for command in shell.reach(script, "x")] == ["a", "b", "a", "kill"]
