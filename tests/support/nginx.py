"""A real nginx in a folder of its own, in the foreground, in front of anything that speaks HTTP or FastCGI."""

from __future__ import annotations

import os
from pathlib import Path

from support.processes import Process, eventually, free_port, lines

CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
{user}
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    log_format bare '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                    '"$http_referer" "$http_user_agent" $request_time $upstream_response_time';
    log_format iso escape=json
               '{{"time_iso8601":"$time_iso8601","agent":"$http_user_agent","upstream_response_time":"$upstream_response_time"}}';
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {sites}
}}
"""

HTTP = """
    upstream {name} {{ server {upstream}; {pool} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{name};
            proxy_http_version 1.1;
            proxy_set_header Connection "{connection}";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Request-Start "t=${{msec}}";
            {extra}
        }}
    }}
"""

FASTCGI = """
    upstream {name} {{ server {upstream}; {pool} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            fastcgi_pass {name};
            fastcgi_keep_conn {keep};
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param DOCUMENT_URI $document_uri;
            fastcgi_param SCRIPT_FILENAME {folder}$fastcgi_script_name;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param SERVER_NAME $server_name;
            fastcgi_param SERVER_PORT $server_port;
            fastcgi_param SERVER_SOFTWARE nginx/$nginx_version;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REMOTE_PORT $remote_port;
            {extra}
        }}
    }}
"""
"""The parameters are those of Debian's fastcgi_params: SCRIPT_NAME is the whole path, and there is no PATH_INFO."""


class Nginx:
    """Describe sites first, then `start`. As root its workers are root too, so that they may enter the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "nginx"
        self.folder.mkdir()
        self._sites: list[tuple[str, str]] = []
        self._process: Process | None = None

    def http(self, upstream: str, *, keepalive: bool = True, extra: str = "") -> str:
        """A site that proxies over HTTP/1.1, over kept connections or a new one each; its address."""
        return self._site(HTTP, upstream, keepalive=keepalive, connection="" if keepalive else "close", extra=extra)

    def fastcgi(self, upstream: str, *, keep_conn: bool = True, extra: str = "") -> str:
        """A site that speaks FastCGI, with `fastcgi_keep_conn` on or off; its address."""
        return self._site(FASTCGI, upstream, keepalive=keep_conn, keep="on" if keep_conn else "off", extra=extra)

    def _site(self, template: str, upstream: str, *, keepalive: bool, **fields: str) -> str:
        port = free_port()
        pool = "keepalive 32;" if keepalive else ""
        name = f"upstream_{port}"
        address = f"127.0.0.1:{port}"
        site = template.format(name=name, upstream=upstream, port=port, pool=pool, folder=self.folder, **fields)
        self._sites.append((address, site))
        return address

    def start(self) -> Nginx:
        """Start it, and wait until every site listens."""
        user = "user root root;" if os.geteuid() == 0 else ""
        sites = "".join(text for _, text in self._sites)
        config = self.folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=self.folder, user=user, sites=sites))
        arguments = ["nginx", "-p", str(self.folder), "-e", str(self.error_log), "-c", str(config)]
        self._process = Process(arguments, self.folder / "output.log")
        for address, _ in self._sites:
            self._process.wait_accepting(address)
        return self

    @property
    def error_log(self) -> Path:
        """Where it complains."""
        return self.folder / "error.log"

    def errors(self, pattern: str = r"\[(warn|error|crit|alert|emerg)\]") -> list[str]:
        """What it complained about. An upstream that resets or refuses is an `[error]` with 104 or 111."""
        return lines(self.error_log, pattern)

    def logged(self, requests: int) -> list[str]:
        """The access log, once it holds so many lines: nginx writes them after the client has its answer."""
        log = self.folder / "access.log"
        eventually(lambda: len(lines(log)) >= requests, f"nginx logs {requests} requests")
        return lines(log)

    def stop(self) -> None:
        """End it, at once."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()
