"""A real nginx in front of a target, in a folder of its own, and the errors that it logs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lastcall.tools.drill.probe import connect
from lastcall.tools.drill.processes import Process
from lastcall.tools.drill.targets import found

START_S: Final = 10.0
KEPT: Final = 4
"""Idle connections to the target, where they are kept: fewer than it has workers, for there are servers (php-fpm) of which
an idle connection occupies one, and who keeps as many has nobody left."""

_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log error;
{user}
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream target {{ server {target}; {pool} }}
    server {{
        listen {address};
        location / {{
{site}
        }}
    }}
}}
"""
_HTTP = (
    "proxy_pass http://target",
    "proxy_http_version 1.1",
    "proxy_set_header Host $http_host",
    "proxy_set_header X-Forwarded-For $remote_addr",
    "proxy_read_timeout 120s",
)
_FASTCGI = (
    "fastcgi_pass target",
    "fastcgi_read_timeout 120s",
    "fastcgi_param REQUEST_METHOD $request_method",
    "fastcgi_param REQUEST_URI $request_uri",
    "fastcgi_param SCRIPT_NAME $fastcgi_script_name",
    "fastcgi_param QUERY_STRING $query_string",
    "fastcgi_param CONTENT_TYPE $content_type",
    "fastcgi_param CONTENT_LENGTH $content_length",
    "fastcgi_param SERVER_PROTOCOL $server_protocol",
    "fastcgi_param SERVER_NAME $server_name",
    "fastcgi_param SERVER_PORT $server_port",
    "fastcgi_param REMOTE_ADDR $remote_addr",
)
_LINE = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?:error|crit|alert|emerg)\] \d+#\d+: (?:\*\d+ )?(.*)$")
_REQUEST = re.compile(r'request: "\S+ \S*[?&]id=([^ &"]+)')


def installed() -> bool:
    """Whether there is one."""
    return bool(found("nginx"))


def config(
    folder: Path, address: str, target: str, *, fastcgi: bool, keep: bool, params: Mapping[str, str], root: bool
) -> str:
    """Its configuration: one site on `address`, before the target. As root its workers are root, to enter the folder."""
    lines = [*(_FASTCGI if fastcgi else _HTTP), *(f"fastcgi_param {name} {value}" for name, value in params.items())]
    if fastcgi:
        lines.append(f"fastcgi_keep_conn {'on' if keep else 'off'}")
    else:
        lines.append(f'proxy_set_header Connection "{"" if keep else "close"}"')
    return _CONFIG.format(
        folder=folder,
        user="user root root;" if root else "",
        target=target,
        pool=f"keepalive {KEPT};" if keep else "",
        address=address,
        site="\n".join(f"            {line};" for line in lines),
    )


class Nginx:
    """Before one target. `start` it, `close` it."""

    def __init__(
        self, folder: Path, address: str, target: str, *, fastcgi: bool, keep: bool, params: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._address = address
        self._log = folder / "nginx.log"
        self._process: Process | None = None
        self._config = config(
            folder, address, target, fastcgi=fastcgi, keep=keep, params=params, root=os.geteuid() == 0
        )

    def start(self) -> None:
        """Start it, and wait until it listens. Raises Failed."""
        file = self._folder / "nginx.conf"
        file.write_text(self._config)
        command = [found("nginx"), "-p", str(self._folder), "-e", str(self._log), "-c", str(file)]
        self._process = Process(command, self._folder / "nginx.out")
        self._process.wait_until(lambda: _accepts(self._address), f"it listens on {self._address}", START_S)

    def errors(self) -> list[tuple[float, str, str]]:
        """What it has logged: Unix time, the text, and the id of the request that it is about ("": of none)."""
        return parse(self._log.read_text(errors="replace")) if self._log.exists() else []

    def close(self) -> None:
        """End it, at once."""
        if self._process is not None:
            self._process.kill()


def parse(log: str) -> list[tuple[float, str, str]]:
    """The errors of an error log; its times are local, and whole seconds."""
    found = []
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is not None:
            when = time.mktime(time.strptime(match[1], "%Y/%m/%d %H:%M:%S"))
            request = _REQUEST.search(match[2])
            found.append((when, match[2], request[1] if request else ""))
    return found


def _accepts(address: str) -> bool:
    try:
        connect(address, 1.0).close()
    except OSError:
        return False
    return True
