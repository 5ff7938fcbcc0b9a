"""Other real web servers in front of a FastCGI address: Apache, lighttpd, HAProxy.

Each passes the parameters that it passes by nature, set up as its own manual shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from support.processes import Process, free_port

APACHE_MODULES = Path("/usr/lib/apache2/modules")


class Front:
    """A running web server that passes everything on."""

    def __init__(self, name: str, folder: Path, config: Callable[[Path, int], str], *arguments: str) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        path = self.folder / "config"
        path.write_text(config(self.folder, port))
        self._process = Process([name, *arguments, str(path)], self.folder / "log")
        self._process.wait_accepting(self.address)

    def log(self) -> str:
        """All that it has written to its log."""
        return self._process.text()

    def stop(self) -> None:
        """End it."""
        self._process.stop()


def apache(folder: Path, upstream: str, *, reuse: bool = True) -> Front:
    """Apache httpd with mod_proxy_fcgi; `reuse` keeps connections (`enablereuse=on`)."""
    backend = f"{upstream}|fcgi://localhost/" if upstream.startswith("unix:") else f"fcgi://{upstream}/"

    def config(folder: Path, port: int) -> str:
        # httpd refuses to run its workers as root; whoever else starts it stays who they are.
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        modules = ("mpm_event", "authz_core", "proxy", "proxy_fcgi")
        return "\n".join(
            [
                f"ServerRoot {folder}",
                f"PidFile {folder}/pid",
                "ServerName test",
                f"Listen 127.0.0.1:{port}",
                "ErrorLog /dev/stderr",
                "LogLevel warn",
                user,
                *(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in modules),
                f"ProxyPass / {backend} enablereuse={'on' if reuse else 'off'}",
                "",
            ]
        )

    return Front("apache2", folder, config, "-DFOREGROUND", "-f")


def lighttpd(folder: Path, upstream: str) -> Front:
    """A lighttpd with mod_fastcgi."""
    if upstream.startswith("unix:"):
        backend = f'"socket" => "{upstream.removeprefix("unix:")}"'
    else:
        host, _, port_text = upstream.rpartition(":")
        backend = f'"host" => "{host}", "port" => {port_text}'

    def config(folder: Path, port: int) -> str:
        return f"""
server.modules = ( "mod_fastcgi" )
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "/dev/stderr"
server.upload-dirs = ( "{folder}" )
fastcgi.server = ( "/" => (( {backend}, "check-local" => "disable", "fix-root-scriptname" => "enable" )) )
"""

    return Front("lighttpd", folder, config, "-D", "-f")


def haproxy(folder: Path, upstream: str, *, keep_conn: bool = True) -> Front:
    """A HAProxy with an fcgi-app; `keep_conn` keeps and shares connections."""
    server = upstream.replace("unix:", "unix@")

    def config(folder: Path, port: int) -> str:
        return f"""
global
    log stderr format raw local0 notice
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option http-keep-alive
fcgi-app app
    docroot {folder}
    {"" if keep_conn else "no "}option keep-conn
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    use-fcgi-app app
    http-reuse {"always" if keep_conn else "never"}
    server one {server} proto fcgi
"""

    return Front("haproxy", folder, config, "-db", "-f")
