"""The shop on a machine: nginx before php-fpm, as a Debian host has them, and what may differ from host to host."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import Final

from support.incidents.machine import HERE, Machine

FPM: Final = "/etc/php/8.2/fpm"
SOCKET: Final = "/run/php/php8.2-fpm.sock"
PORT: Final = "127.0.0.1:9000"
DATA: Final = "/srv/shop/data"

_SITE = """\
server {{
    listen 80 default_server;
    server_name shop;
    root /srv/shop/current/public;
{logs}
    location / {{
        try_files $uri /index.php$is_args$args;
    }}

    location ~ \\.php$ {{
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_read_timeout 120s;
        fastcgi_pass {upstream};
    }}
}}
"""
_TIMED = """\
log_format timed '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                 '"$http_referer" "$http_user_agent" rt=$request_time uct=$upstream_connect_time '
                 'urt=$upstream_response_time us=$upstream_status id=$request_id';
"""
_OWN_LOGS = """\
    access_log /var/log/nginx/shop.access.log timed;
    error_log /var/log/nginx/shop.error.log;
"""
_INIT = """\
#!/bin/sh
### BEGIN INIT INFO
# Provides:          php-fpm
# Required-Start:    $remote_fs $network
# Required-Stop:     $remote_fs $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: The shop's PHP
### END INIT INFO

DAEMON=/usr/sbin/php-fpm8.2
PIDFILE=/run/php/php8.2-fpm.pid

. /lib/lsb/init-functions

start() {
    mkdir -p /run/php
    start_daemon -p $PIDFILE $DAEMON --daemonize --fpm-config /etc/php/8.2/fpm/php-fpm.conf
}

stop() {
    killproc -p $PIDFILE $DAEMON
}

case "$1" in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    reload) killproc -p $PIDFILE $DAEMON USR2 ;;
    *) echo "Usage: $0 {start|stop|restart|reload}" >&2; exit 1 ;;
esac
"""
OWN_INIT: Final = "/etc/init.d/php-fpm"
"""An init script of the shop's own, from before there was a package: its `restart` sends TERM."""
_DEPLOY = """\
#!/bin/sh
# Puts a release in place and makes php-fpm forget the old one: deploy.sh [RELEASE]
set -e
cd /srv/shop
release=${1:-$(date +%Y%m%d%H%M%S)}
logger -t deploy "release $release begins"
cp -r current/. "releases/$release"
ln -sfn "releases/$release" current
sudo /usr/sbin/service php8.2-fpm restart
logger -t deploy "release $release is in place"
"""
DEPLOY: Final = "/srv/shop/deploy.sh"
PEOPLE: Final = {"deploy": 1001, "anna": 1002}


@dataclass(frozen=True, slots=True)
class Layout:
    """What differs. `timed`: nginx's access log has upstream times, else it is in the combined format."""

    timed: bool = True
    fpm_access: str = ""
    """php-fpm's access log: its format, "default" for its own; "" for none."""
    tcp: bool = False
    grace: int = 0
    """process_control_timeout, in seconds."""
    workers: int = 8
    plain_syslog: bool = False
    """Syslog's old format: whole seconds, and no year."""
    zone: str = "Etc/UTC"


def furnish(machine: Machine, layout: Layout) -> None:
    """Write the shop's configuration and its code."""
    _php(machine, layout)
    _nginx(machine, layout)
    _syslog(machine, layout)
    _people(machine)
    _code(machine)
    machine.write(OWN_INIT, _INIT, mode=0o755)
    _append(machine, "/etc/hosts", f"127.0.1.1\t{machine.name}\n")
    machine.path("/etc/localtime").symlink_to(f"/usr/share/zoneinfo/{layout.zone}")
    machine.write("/etc/timezone", f"{layout.zone}\n")


def open_shop(machine: Machine, *, own_init: bool = False, before: tuple[str, ...] = ()) -> None:
    """Start what a host starts. `before` is a command that executes the start of php-fpm."""
    machine.run("rsyslogd")
    machine.wait_for("/run/rsyslogd.pid")
    machine.run("/etc/init.d/cron", "start")
    machine.run(*before, OWN_INIT if own_init else "/etc/init.d/php8.2-fpm", "start")
    machine.wait_for("/run/php/php8.2-fpm.pid")
    machine.run("/etc/init.d/nginx", "start")


def _set(text: str, **settings: str) -> str:
    """An ini text in which these have a value, where it names them: commented out or with another one."""
    for name, value in settings.items():
        key = name.replace("_dot_", ".")
        text, count = re.subn(rf"(?m)^;?{re.escape(key)} *=.*$", f"{key} = {value}", text, count=1)
        assert count == 1, key
    return text


def _php(machine: Machine, layout: Layout) -> None:
    conf = machine.path(f"{FPM}/php-fpm.conf")
    if layout.grace:
        conf.write_text(_set(conf.read_text(), process_control_timeout=f"{layout.grace}s"))
    pool = machine.path(f"{FPM}/pool.d/www.conf")
    settings = {"pm": "static", "pm_dot_max_children": str(layout.workers), "listen": PORT if layout.tcp else SOCKET}
    if layout.fpm_access:
        settings["access_dot_log"] = "/var/log/php8.2-fpm.access.log"
    if layout.fpm_access not in ("", "default"):
        settings["access_dot_format"] = f'"{layout.fpm_access}"'
    pool.write_text(_set(pool.read_text(), **settings) + "php_admin_value[memory_limit] = -1\n")


def _nginx(machine: Machine, layout: Layout) -> None:
    upstream = PORT if layout.tcp else f"unix:{SOCKET}"
    site = _SITE.format(logs=_OWN_LOGS if layout.timed else "", upstream=upstream)
    machine.write("/etc/nginx/sites-available/shop", site)
    enabled = machine.path("/etc/nginx/sites-enabled")
    shutil.rmtree(enabled)
    enabled.mkdir()
    (enabled / "shop").symlink_to("/etc/nginx/sites-available/shop")
    if layout.timed:
        machine.write("/etc/nginx/conf.d/timed.conf", _TIMED)


def _syslog(machine: Machine, layout: Layout) -> None:
    """Debian's, without the kernel's log: that one is read by whoever comes first, and that is not us.

    The time of a line is the machine's own, and not the kernel's: see Machine.set_clock.
    """
    conf = machine.path("/etc/rsyslog.conf")
    text = re.sub(r'(?m)^module\(load="imklog"\).*\n', "", conf.read_text())
    text = text.replace('module(load="imuxsock")', 'module(load="imuxsock" SysSock.UseSysTimeStamp="off")')
    if layout.plain_syslog:
        text = f"{_OLD_SYSLOG}\n{text}"
    conf.write_text(text)


_OLD_SYSLOG = "$ActionFileDefaultTemplate RSYSLOG_TraditionalFileFormat"


def _people(machine: Machine) -> None:
    """Who deploys, and a colleague: both may restart php-fpm."""
    for name, uid in PEOPLE.items():
        _append(machine, "/etc/passwd", f"{name}:x:{uid}:{uid}::/home/{name}:/bin/bash\n")
        _append(machine, "/etc/group", f"{name}:x:{uid}:\n")
        _append(machine, "/etc/shadow", f"{name}:*:19000:0:99999:7:::\n")
        home = machine.path(f"/home/{name}")
        home.mkdir()
        shutil.chown(home, uid, uid)
    rule = "ALL = (root) NOPASSWD: /usr/sbin/service php8.2-fpm *, /usr/bin/pkill"
    machine.write("/etc/sudoers.d/shop", "".join(f"{name} {rule}\n" for name in PEOPLE), mode=0o440)


def _append(machine: Machine, inside: str, line: str) -> None:
    with machine.path(inside).open("a") as file:
        file.write(line)


def _code(machine: Machine) -> None:
    shop = machine.path("/srv/shop")
    release = shop / "releases" / "41" / "public"
    release.mkdir(parents=True)
    shutil.copy(HERE / "shop.php", release / "index.php")
    (shop / "current").symlink_to("releases/41")
    machine.write(DEPLOY, _DEPLOY, mode=0o755)
    for path in (shop, *shop.rglob("*")):
        shutil.chown(path, PEOPLE["deploy"], PEOPLE["deploy"]) if not path.is_symlink() else None
    data = machine.path(DATA)
    data.mkdir()
    shutil.chown(data, "www-data", "www-data")
