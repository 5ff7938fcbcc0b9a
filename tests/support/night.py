"""The night of 2017 as a tree of files: configuration, and what the logs said. For tests of tools that only read."""

from __future__ import annotations

from pathlib import Path

Files = dict[str, str]

CRONTAB = """\
SHELL=/bin/sh
# m h dom mon dow user command
17 * * * * root cd / && run-parts --report /etc/cron.hourly
0 4 * * * root /usr/bin/find /var/tmp -mtime +7 -delete

# for fear of a leak
28 5 * * * root /etc/init.d/php-fpm restart > /dev/null
"""
INIT = """\
#!/bin/sh
prog=php-fpm
pidfile=/var/run/php-fpm.pid
stop() {
    killproc -p $pidfile $prog
}
start() {
    daemon --pidfile $pidfile /usr/sbin/php-fpm
}
case "$1" in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
esac
"""
FPM = """\
[global]
error_log = /var/log/php-fpm/error.log
[www]
listen = 127.0.0.1:9000
pm = static
pm.max_children = 2
"""
NGINX = """\
http {
    log_format shop '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                    'rt=$request_time uct="$upstream_connect_time" urt="$upstream_response_time" id=$request_id';
    access_log /var/log/nginx/access.log shop;
    error_log /var/log/nginx/error.log;
    server {
        location / { fastcgi_pass 127.0.0.1:9000; }
    }
}
"""
FPM_LOG = """\
[24-Jun-2017 05:28:01] NOTICE: Terminating ...
[24-Jun-2017 05:28:01] NOTICE: exiting, bye-bye!
[24-Jun-2017 05:28:03] NOTICE: fpm is running, pid 3100
[24-Jun-2017 05:28:03] NOTICE: ready to handle connections
[25-Jun-2017 05:28:01] NOTICE: Terminating ...
[25-Jun-2017 05:28:01] NOTICE: exiting, bye-bye!
[25-Jun-2017 05:28:03] NOTICE: fpm is running, pid 4100
[25-Jun-2017 05:28:03] NOTICE: ready to handle connections
"""
SYSLOG = """\
Jun 24 05:28:01 web1 CRON[3001]: (root) CMD (/etc/init.d/php-fpm restart > /dev/null)
Jun 25 04:00:01 web1 CRON[4000]: (root) CMD (/usr/bin/find /var/tmp -mtime +7 -delete)
Jun 25 05:28:01 web1 CRON[4001]: (root) CMD (/etc/init.d/php-fpm restart > /dev/null)
"""


def complaint(order: int, what: str, *, at: str = "2017/06/25 05:28:01", connection: int = 0) -> str:
    """A line of nginx's error log."""
    return (
        f"{at} [error] 99#99: *{connection or order} {what}, client: 10.0.0.7, server: shop, "
        f'request: "POST /3/cn/vgift/send?order={order} HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", host: "shop"\n'
    )


RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
CLOSED = "upstream prematurely closed FastCGI stdout while reading response header from upstream"
REFUSED = "connect() failed (111: Connection refused) while connecting to upstream"


def answered(
    order: int, status: int, took: float, *, at: str = "25/Jun/2017:05:28:01 +0800", connected: bool = True
) -> str:
    """A line of nginx's access log, in the format of this host."""
    connect = "0.000" if connected else "-"
    return (
        f'10.0.0.7 - - [{at}] "POST /3/cn/vgift/send?order={order} HTTP/1.1" {status} 157 '
        f'rt={took:.3f} uct="{connect}" urt="{took:.3f}" id={order:032x}\n'
    )


ERRORS = complaint(7001, RESET) + complaint(7002, RESET) + complaint(7003, RESET) + complaint(7004, REFUSED)
ACCESS = "".join(answered(6000 + n, 200, 0.1, at=f"25/Jun/2017:05:27:{40 + n} +0800") for n in range(15)) + (
    answered(7002, 502, 0.31) + answered(7001, 502, 0.25) + answered(7003, 502, 0.02)
    + answered(7004, 502, 0.0, connected=False) + answered(7005, 200, 0.1, at="25/Jun/2017:05:28:09 +0800")
)  # fmt: skip

HOST: Files = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/timezone": "Asia/Shanghai\n",
    "etc/crontab": CRONTAB,
    "etc/init.d/php-fpm": INIT,
    "etc/php-fpm.conf": FPM,
    "etc/nginx/nginx.conf": NGINX,
    "var/log/php-fpm/error.log": FPM_LOG,
    "var/log/nginx/error.log": ERRORS,
    "var/log/nginx/access.log": ACCESS,
    "var/log/syslog": SYSLOG,
}
"""Two workers; two requests were running, one waited to be taken, one was refused. The day before, nobody was hit."""


def lay(folder: Path, files: Files = HOST, /, **changes: str | None) -> Path:
    """Write a host's files; `changes` replaces those whose last name, without dots, is called so; None leaves it out."""
    for path, text in files.items():
        key = path.rpartition("/")[2].replace(".", "_").replace("-", "_")
        other = changes.get(path.replace("/", "_").replace(".", "_").replace("-", "_"), changes.get(key, text))
        if other is None:
            (folder / path).unlink(missing_ok=True)
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(other)
    return folder
