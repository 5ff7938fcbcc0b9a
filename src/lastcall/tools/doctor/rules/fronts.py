"""The web servers before us: nginx, HAProxy, an ingress."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastcall.tools.doctor.facts import Facts, Kind
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import Instance, instances, option, request_limit, runs
from lastcall.tools.doctor.verdicts import Finding, Rule, Severity, Unclear, Verdict
from lastcall.tools.readers import haproxy, servers
from lastcall.tools.readers.nginxconf import Directive
from lastcall.tools.readers.text import FOREVER, Spot, seconds, span, template

NGINX_READ = 60.0
"""proxy_read_timeout and its like (nginx.org)."""


def _directives(facts: Facts, *names: str) -> Iterator[tuple[Directive, tuple[Directive, ...]]]:
    seen = set[Spot]()
    for conf in facts.nginxes:
        for directive, above in conf.walk():
            if directive.name in names and directive.spot not in seen:
                seen.add(directive.spot)
                yield directive, above


# --- Retries -----------------------------------------------------------------


def retries(facts: Facts) -> Iterator[Verdict]:
    names = (
        "proxy_next_upstream",
        "fastcgi_next_upstream",
        "uwsgi_next_upstream",
        "scgi_next_upstream",
        "grpc_next_upstream",
    )
    for directive, _ in _directives(facts, *names):
        if "non_idempotent" in directive.args:
            made = edits.worded(facts, directive.spot, " non_idempotent", "")
            yield Finding(
                directive.spot, "a POST that may have been done is sent to another server, and done twice", made
            )
    for source, node in facts.manifests:
        for key, line, value in node.pairs("metadata", "annotations"):
            if key.endswith("/proxy-next-upstream") and "non_idempotent" in (value.text or ""):
                yield Finding(
                    Spot(source.path, line), "a POST that may have been done is sent to another pod, and done twice"
                )


_REPLAYS = frozenset(
    {"all-retryable-errors", "empty-response", "response-timeout", "junk-response", "500", "502", "503", "504"}
)


def _haproxies(facts: Facts) -> Iterator[tuple[str, tuple[haproxy.Section, ...]]]:
    for source in facts.of(Kind.HAPROXY):
        yield source.path, haproxy.parse(source.text)


def haproxy_retries(facts: Facts) -> Iterator[Verdict]:
    for file, sections in _haproxies(facts):
        spared = any("disable-l7-retry" in s.words for section in sections for s in section.statements)
        for section in sections:
            found = section.find("retry-on")
            if found is not None and _REPLAYS & set(found.words) and not spared:
                bad = " ".join(word for word in found.words if word in _REPLAYS)
                yield Finding(Spot(file, found.line), f"{bad}: a POST that may have been done is sent again")


def haproxy_hurry(facts: Facts) -> Iterator[Verdict]:
    for file, sections in _haproxies(facts):
        for section in sections:
            found = section.find("hard-stop-after") if section.kind == "global" else None
            if found is None or len(found.words) < 2:
                continue
            limit = seconds(found.words[1], unit=0.001)
            if limit is None:
                yield Unclear(Spot(file, found.line), "hard-stop-after is no time")
            elif limit < 30:
                made = edits.valued(facts, Spot(file, found.line), "hard-stop-after", "5m")
                yield Finding(Spot(file, found.line), f"a reload closes what is left after {span(limit)}", made)


# --- Kept connections --------------------------------------------------------


def _lastcall_fastcgi(facts: Facts) -> set[str]:
    """Addresses at which lastcall speaks FastCGI: it never closes a kept connection under a request."""
    found = set[str]()
    for it in instances(facts, servers.LASTCALL):
        value = it.get("fastcgi")
        found |= set(re.findall(r"[\w./:@\[\]-]+", value.text)) if value else set()
    return found


def keep_conn(facts: Facts) -> Iterator[Verdict]:
    ours = _lastcall_fastcgi(facts)
    for directive, above in _directives(facts, "fastcgi_keep_conn"):
        if directive.args[:1] != ("on",):
            continue
        block = above[-1] if above else None
        target = block.first("fastcgi_pass") if block else None
        if target is not None and target.args and any(address in _address(facts, target.args[0]) for address in ours):
            continue
        made = edits.valued(facts, directive.spot, "fastcgi_keep_conn", "off")
        yield Finding(
            directive.spot,
            "php-fpm closes a kept connection under the next request, at each reload and recycling",
            made,
        )


def _upstreams(facts: Facts) -> dict[str, Directive]:
    return {d.args[0]: d for d, _ in _directives(facts, "upstream") if d.args and d.block is not None}


def _address(facts: Facts, target: str) -> list[str]:
    """The addresses behind `http://name/`, `unix:/path`, `127.0.0.1:9000` or an upstream's name."""
    bare = re.sub(r"^\w+://", "", target)
    bare = bare if bare.startswith("unix:") else bare.split("/")[0]
    upstream = _upstreams(facts).get(bare)
    if upstream is None:
        return [bare]
    return [inner.args[0] for inner in upstream.block or () if inner.name == "server" and inner.args]


def _same(one: str, other: str) -> bool:
    """Whether two addresses lead to one listener on one machine, as far as their texts say so."""

    def parts(text: str) -> tuple[str, str]:
        text = re.sub(r"^\w+://", "", text).strip("\"'")
        if "/" in text:
            return "unix", text.removeprefix("unix:")
        host, _, port = text.rpartition(":")
        return ("", port) if host in ("", "0.0.0.0", "127.0.0.1", "localhost", "[::]", "*") else (host, port)  # noqa: S104

    return parts(one) == parts(other) != ("", "")


_KEEPALIVE = {
    servers.GUNICORN: ("keepalive", 2.0),
    servers.UVICORN: ("timeout_keep_alive", 5.0),
    servers.HYPERCORN: ("keep_alive_timeout", 5.0),
}


def _listens(it: Instance, address: str) -> bool:
    bind = it.get("bind")
    if bind is not None:
        return any(_same(one, address) for one in re.findall(r"[\w./:\[\]*-]+", bind.text))
    run = it.run
    if run is None:
        return False
    host = option(run, "--host") or "127.0.0.1"
    given = option(run, "--uds") or f"{host}:{option(run, '--port') or '8000'}"
    return _same(given, address)


def _keeps(it: Instance) -> tuple[float, str] | None:
    """How long a server keeps an idle connection, and the setting; None where it keeps none, or nobody can say."""
    setting, default = _KEEPALIVE[it.server]
    kind = it.get("worker_class")
    if it.server == servers.GUNICORN and (kind is None or kind.text == "sync"):
        return None
    value = it.get(setting) or (it.get("keep_alive") if it.server == servers.GUNICORN else None)
    found = default if value is None else seconds(value.text)
    return None if found is None else (found, setting)


def keep_longer(facts: Facts) -> Iterator[Verdict]:
    behind = [it for server in _KEEPALIVE for it in instances(facts, server)]
    for name, upstream in _upstreams(facts).items():
        kept, limit = upstream.first("keepalive"), upstream.first("keepalive_timeout")
        ours = 60.0 if limit is None else seconds(limit.args[0]) if limit.args else None
        if kept is None or ours is None:
            continue
        for it in behind:
            theirs = _keeps(it)
            here = any(_listens(it, address) for address in _address(facts, name))
            if theirs is None or theirs[0] > ours or not here:
                continue
            text = f"nginx keeps idle connections for {span(ours)}, {it.server} for {span(theirs[0])} ({theirs[1]})"
            wanted = f"{max(1, int(theirs[0]) - 1)}s"
            old = f"keepalive {' '.join(kept.args)};"
            made = edits.worded(facts, kept.spot, old, f"{old} keepalive_timeout {wanted};")
            made = edits.valued(facts, limit.spot, limit.name, wanted) if limit else made
            yield Finding(limit.spot if limit else kept.spot, text, made)


def no_fail_timeout(facts: Facts) -> Iterator[Verdict]:
    for upstream in _upstreams(facts).values():
        listed = [
            d for d in upstream.block or () if d.name == "server" and "backup" not in d.args and "down" not in d.args
        ]
        bare = [d for d in listed if not any(arg.startswith(("fail_timeout=", "max_fails=")) for arg in d.args)]
        if len(listed) > 1 and bare:
            text = f"{len(bare)} of {len(listed)} servers: one failure, and a server is out for 10 s"
            yield Finding(bare[0].spot, text)


# --- Timeouts ----------------------------------------------------------------


def _near(above: tuple[Directive, ...], name: str) -> Directive | None:
    """The directive that counts in the innermost block: its own, or one around it."""
    return next((found for block in reversed(above) if (found := block.first(name)) is not None), None)


def gives_up(facts: Facts) -> Iterator[Verdict]:
    limits = [(conf, request_limit(facts, conf)) for conf in facts.fpms]
    for directive, above in _directives(facts, "fastcgi_pass"):
        for conf, limit in limits:
            listens = [pool.values["listen"].text for pool in conf.pools if "listen" in pool.values]
            targets = _address(facts, directive.args[0]) if directive.args else []
            if limit is None or limit.seconds == FOREVER or not any(_same(a, b) for a in listens for b in targets):
                continue
            found = _near(above, "fastcgi_read_timeout")
            value = seconds(found.args[0]) if found and found.args else NGINX_READ
            if value is not None and value < limit.seconds:
                said = f"fastcgi_read_timeout is {span(value)}" + ("" if found else ", its default")
                text = f"{said}, but {limit.name} lets a request run for {span(limit.seconds)}"
                made = (
                    edits.valued(facts, found.spot, "fastcgi_read_timeout", f"{int(limit.seconds) + 5}s")
                    if found
                    else ()
                )
                yield Finding(found.spot if found else directive.spot, text, made)


def nginx_hurry(facts: Facts) -> Iterator[Verdict]:
    for directive, _ in _directives(facts, "worker_shutdown_timeout"):
        text = directive.args[0] if directive.args else ""
        if template(text):
            yield Unclear(directive.spot, "worker_shutdown_timeout is filled in later")
            continue
        value = seconds(text)
        reads = [
            seconds(d.args[0]) for d, _ in _directives(facts, "proxy_read_timeout", "fastcgi_read_timeout") if d.args
        ]
        need = max((read for read in reads if read is not None), default=NGINX_READ)
        if value is not None and value < need:
            made = edits.valued(facts, directive.spot, "worker_shutdown_timeout", f"{int(need) + 5}s")
            yield Finding(
                directive.spot,
                f"a reload closes connections after {span(value)}, but nginx waits {span(need)} for an answer",
                made,
            )


def reuseport(facts: Facts) -> Iterator[Verdict]:
    migrate = facts.sysctls.get("net.ipv4.tcp_migrate_req")
    if migrate is not None and migrate.text.strip() == "1":
        return
    said = f"tcp_migrate_req is {migrate.text}" if migrate else "nothing here sets tcp_migrate_req"
    for run in runs(facts):
        if run.server == servers.GRANIAN:
            yield Finding(
                run.spot,
                f"each worker has a listener of its own (SO_REUSEPORT), and {said}: its queue is reset with it",
            )
    for it in instances(facts, servers.GUNICORN):
        value = it.get("reuse_port")
        if value is not None and value.text.lower() in ("true", "1"):
            yield Finding(value.spot, f"reuse_port, and {said}: the queue of an instance that stops is reset")


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_NGX = "nginx.org, ngx_http_upstream_module and ngx_http_proxy_module"

RULES = (
    Rule(
        "LC501", _E, "nginx sends a POST again that may have been done",
        "With non_idempotent a request whose connection was reset goes to the next server, whatever its method. "
        "Over 10 reloads that made 28 orders run twice, 27 of them answered with 200, and still left 20 half-done.",
        "The requests there are all safe to repeat (a key that the application checks).",
        "Two backends, one of them killed while a POST sleeps: both have it.",
        "Leave non_idempotent out: nginx retries what it has not sent yet in any case.",
        _NGX + "; measured", retries,
    ),
    Rule(
        "LC502", _W, "nginx keeps FastCGI connections to php-fpm",
        "FastCGI cannot say that a connection is about to be closed. A worker that ends (a reload, "
        "pm.max_requests) closes it while nginx is sending the next request: 104, never retried for a POST. 2.5 "
        "errors a reload, where without it there are none.",
        "The server behind it is lastcall, which hands kept connections on.",
        "24 clients, `kill -USR2` with process_control_timeout set: count the 502.",
        "fastcgi_keep_conn off: a connection over a UNIX socket costs some ten microseconds.",
        "php/php-src pull requests 1333 and 1421; measured", keep_conn,
    ),
    Rule(
        "LC503", _W, "nginx keeps idle connections for longer than the server does",
        "Whoever closes an idle connection races the next request on it. When that is the server, nginx has sent "
        "the request already: 502 for a POST.",
        "The server is not found here by the upstream's address; gunicorn's sync workers, which keep none.",
        "Requests at intervals of the server's limit: `upstream prematurely closed connection` in nginx's log.",
        "keepalive_timeout in the upstream below the server's own; or the server's above nginx's.",
        _NGX + ", keepalive_timeout (60s); the servers' documentation", keep_longer,
    ),
    Rule(
        "LC504", _N, "One failure takes a server out of the upstream for ten seconds",
        "max_fails is 1 and fail_timeout 10 s where nobody says otherwise: a server that is restarted is missing "
        "for 10 s, the others carry its load, and with all of them restarted in turn there are `no live "
        "upstreams`.",
        "One server alone, for which nginx does not count; servers marked backup or down.",
        "nginx's error log: `upstream server temporarily disabled`, `no live upstreams`.",
        "Say what is meant: `max_fails=3 fail_timeout=2s`, or `max_fails=0`.",
        _NGX + ", server", no_fail_timeout,
    ),
    Rule(
        "LC505", _W, "nginx gives up before the application does",
        "The client is told 504 and tries again, while php-fpm goes on and finishes: done twice, or done and not "
        "told.",
        "The pool is not found here by its address; nothing says how long a request may run.",
        "A request of that length.",
        "fastcgi_read_timeout above request_terminate_timeout, or that below.",
        "nginx.org, ngx_http_fastcgi_module, fastcgi_read_timeout (60s)", gives_up,
    ),
    Rule(
        "LC506", _W, "nginx's own reload cuts",
        "worker_shutdown_timeout closes the connections of old workers when it is over, with whatever they are "
        "waiting for.",
        "It is not set; it is longer than the read timeouts.",
        "A request that takes longer, and `nginx -s reload`.",
        "A time above proxy_read_timeout and fastcgi_read_timeout.",
        "nginx.org, ngx_core_module, worker_shutdown_timeout", nginx_hurry,
    ),
    Rule(
        "LC507", _E, "HAProxy sends a request again that may have been done",
        "retry-on with more than connection failures repeats requests that a server has got, POST too.",
        "`http-request disable-l7-retry` somewhere in the file, for methods that must not be repeated; "
        "conn-failure and 0rtt-rejected, with which nothing was done.",
        "Two servers, one killed while a POST sleeps.",
        "`retry-on conn-failure`; or `http-request disable-l7-retry unless METH_GET`.",
        "HAProxy's configuration manual, retry-on", haproxy_retries,
    ),
    Rule(
        "LC508", _W, "HAProxy's reload cuts",
        "hard-stop-after ends the old process when it is over, with all of its connections.",
        "It is not set, or 30 s and more.",
        "A request that takes longer, and `systemctl reload haproxy`.",
        "A time above the longest request.",
        "HAProxy's configuration manual, hard-stop-after", haproxy_hurry,
    ),
    Rule(
        "LC509", _W, "Each worker has a queue of its own, and takes it along",
        "With SO_REUSEPORT connections wait in one worker's queue; when that worker ends they are reset, whoever "
        "else could serve them. 52 and 85 resets in four reloads of granian, 0 and 7 with tcp_migrate_req.",
        "net.ipv4.tcp_migrate_req=1 (Linux 5.14). nginx's reuseport, whose listeners outlive a reload.",
        "A full queue and a reload: count the resets.",
        "net.ipv4.tcp_migrate_req = 1 in /etc/sysctl.d; or a server with one listener for all.",
        "Linux Documentation/networking/ip-sysctl.rst; emmett-framework/granian issue 567; measured", reuseport,
    ),
)  # fmt: skip
