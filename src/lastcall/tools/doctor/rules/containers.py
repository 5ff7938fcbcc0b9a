"""Images, compose files, Kubernetes, and what is said to Docker and kubectl on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from lastcall.tools.doctor.chains import Given, cron_orders, script_orders
from lastcall.tools.doctor.facts import Facts, Kind, Source
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import (
    By,
    Run,
    container_server,
    grace,
    image_run,
    instances,
    longest,
    pod_of,
    runs,
    stage_command,
)
from lastcall.tools.doctor.verdicts import Finding, Rule, Severity, Unclear, Verdict
from lastcall.tools.readers import servers
from lastcall.tools.readers.dockerfile import Instruction, Stage
from lastcall.tools.readers.servers import GRACEFUL, Effect, effect, shell_script, started, unwrapped
from lastcall.tools.readers.text import Spot, seconds, span
from lastcall.tools.readers.yamlnodes import Node

SHORT = 10.0


def _by(facts: Facts, by: By) -> Iterator[Run]:
    return (run for run in runs(facts) if run.by is by)


# --- Images ------------------------------------------------------------------


def image_signal(facts: Facts) -> Iterator[Verdict]:
    for source, read in facts.dockerfiles:
        run = image_run(source, read)
        if run is None:
            continue
        signal, where = run.stop
        if where is not None and not signal:
            yield Unclear(where, "STOPSIGNAL is filled in later")
        elif effect(run.server, signal) is Effect.CUT and not (run.server == servers.UWSGI and signal == "TERM"):
            said = f"STOPSIGNAL is SIG{signal}" if where else "STOPSIGNAL is not set, and SIGTERM is the default"
            best = GRACEFUL.get(run.server)
            made = edits.worded(facts, where, facts.line(where).split()[-1], f"SIG{best}") if where and best else ()
            if where is None and best and run.head is not None:
                made = (
                    edits.added(facts, run.head, f"STOPSIGNAL SIG{best}")
                    if not facts.line(run.head).endswith("\\")
                    else ()
                )
            yield Finding(where or run.spot, f"{said}: {run.server} cuts what is running", made)


def _plain(found: Instruction) -> tuple[str, ...] | None:
    """A shell form's only command, where it is one and can be written as a list."""
    text = found.text
    if re.search(r"[&;|<>$`*?(){}]|'|\"", text):
        return None
    return tuple(text.split())


def shell_form(facts: Facts) -> Iterator[Verdict]:
    for source, read in facts.dockerfiles:
        stage = read.final()
        argv, by = stage_command(stage) if stage else ((), None)
        if by is None or not started(argv):
            continue
        spot, form = Spot(source.path, by.line), by.exec_form()
        if form is not None:
            if _swallows(form):
                yield Finding(spot, f"the shell is process 1, and {started(argv)} does not hear the stop signal")
            continue
        if re.search(r"\bexec\s", by.text):
            continue
        plain = _plain(by)
        made = edits.worded(facts, spot, by.text, json.dumps(list(plain))) if plain else ()
        which = "Debian's and Alpine's shells differ in whether they pass it on" if plain else "no shell passes it on"
        yield Finding(spot, f"`sh -c` is process 1, and gets the stop signal in {started(argv)}'s place; {which}", made)
    for run in runs(facts):
        if run.by in (By.COMPOSE, By.KUBERNETES) and _swallows(run.line):
            yield Finding(run.spot, f"the shell is process 1, and {run.server} does not hear the stop signal")


def _swallows(line: tuple[str, ...]) -> bool:
    """Whether a command line is a shell that stays, and keeps signals from the server that it starts."""
    script = shell_script(unwrapped(line))
    return (
        script is not None and re.search(r"&&|;|\||\n", script) is not None and re.search(r"\bexec\s", script) is None
    )


def entry_script(facts: Facts) -> Iterator[Verdict]:
    named = {word.rpartition("/")[2] for _, read in facts.dockerfiles for word in _entry_words(read.final())}
    for source, script in facts.scripts:
        name = source.path.rpartition("/")[2]
        if name not in named and "entrypoint" not in name:
            continue
        last = next((c for c in reversed(script.commands) if not c.function), None)
        if last is None or last.words[0] == "exec" or not started(unwrapped(last.words)):
            continue
        spot = Spot(source.path, last.line)
        line = facts.line(spot)
        if re.search(r"&\s*$", line) or line.lstrip().startswith("exec ") or "trap" in source.text:
            continue
        made = edits.worded(facts, spot, line.strip(), f"exec {line.strip()}")
        yield Finding(
            spot,
            f"the script stays process 1, and {started(unwrapped(last.words))} does not hear the stop signal",
            made,
        )


def _entry_words(stage: Stage | None) -> tuple[str, ...]:
    found = [stage.last(name) for name in ("ENTRYPOINT", "CMD")] if stage else []
    return tuple(word for instruction in found if instruction for word in instruction.command())


# --- Compose -----------------------------------------------------------------


def compose_signal(facts: Facts) -> Iterator[Verdict]:
    for run in _by(facts, By.COMPOSE):
        signal, where = run.stop
        if where is not None and not signal:
            yield Unclear(where, "stop_signal is filled in later")
        elif effect(run.server, signal) is Effect.CUT and not (run.server == servers.UWSGI and signal == "TERM"):
            best = GRACEFUL.get(run.server)
            made = edits.valued(facts, where, "stop_signal", f"SIG{best}") if where and best else ()
            if where is None and best:
                made = (
                    edits.added(facts, run.spot, edits.indented(facts, run.spot, f"stop_signal: SIG{best}"))
                    if _flat(facts, run)
                    else ()
                )
            said = f"stop_signal is SIG{signal}" if where else f"{run.name} is stopped with SIG{signal}"
            yield Finding(where or run.spot, f"{said}: {run.server} cuts what is running", made)


def _flat(facts: Facts, run: Run) -> bool:
    """Whether the line of a service's command holds all of it, so that a line may be put behind it."""
    return re.match(r"\s*[\w-]+:\s*\S+.*[^>|&\\,\[]$", facts.line(run.spot)) is not None


def compose_hurry(facts: Facts) -> Iterator[Verdict]:
    for run in _by(facts, By.COMPOSE):
        limit, where = run.kill
        needed = grace(facts, run) or longest(facts, run)
        if where is not None and limit is None:
            yield Unclear(where, "stop_grace_period is filled in later, or no time")
        elif limit is not None and needed is not None and limit < needed.seconds:
            wanted = f"{int(needed.seconds) + 10}s"
            made = edits.valued(facts, where, "stop_grace_period", wanted) if where else ()
            if where is None and _flat(facts, run):
                made = edits.added(facts, run.spot, edits.indented(facts, run.spot, f"stop_grace_period: {wanted}"))
            said = f"stop_grace_period is {span(limit)}" + ("" if where else ", its default")
            yield Finding(
                where or run.spot, f"{said}, but {run.server} may take {span(needed.seconds)} ({needed.name})", made
            )


# --- Kubernetes --------------------------------------------------------------


def _serving(facts: Facts) -> Iterator[tuple[Source, Node, Node, Node, str]]:
    """Source, object, pod, container, server: of what answers requests."""
    for source, node in facts.manifests:
        pod = pod_of(node)
        for container in pod.each("containers") if pod else ():
            server, _ = container_server(container)
            if pod is not None and server:
                yield source, node, pod, container, server


def _pre_stop(container: Node) -> float | None:
    """Seconds that preStop sleeps; 0 without one; None where it does something whose length nobody knows."""
    hook = container.get("lifecycle", "preStop")
    if hook is None:
        return 0.0
    slept = hook.value("sleep", "seconds")
    said = slept or " ".join(item.text or "" for item in hook.each("exec", "command"))
    found = re.search(r"\bsleep\s+([\d.]+\w*)", said) if not slept else re.match(r"([\d.]+)", slept)
    return seconds(found[1]) if found else None


def pod_hurry(facts: Facts) -> Iterator[Verdict]:
    pods = {(run.spot.file, run.spot.line): run for run in _by(facts, By.KUBERNETES)}
    for source, _, pod, container, server in _serving(facts):
        run = pods.get((source.path, container.line))
        if run is None:
            continue
        limit, where = run.kill
        slept, needed = _pre_stop(container), grace(facts, run)
        if where is not None and limit is None:
            yield Unclear(where, "terminationGracePeriodSeconds is filled in later")
            continue
        total = (slept or 0.0) + (needed.seconds if needed else 0.0)
        if limit is None or total <= 0 or limit > total or (limit == total and not slept):
            continue
        said = f"terminationGracePeriodSeconds is {limit:g}" + ("" if where else ", its default")
        parts = [f"preStop sleeps {span(slept)}"] if slept else []
        parts += [f"{server} may take {span(needed.seconds)} ({needed.name})"] if needed else []
        wanted = str(int(total) + 10)
        made = edits.valued(facts, where, "terminationGracePeriodSeconds", wanted) if where else ()
        first = pod.keys[0][1] if pod.keys else 0
        if where is None and first:
            spot = Spot(source.path, first - 1)
            line = edits.indented(facts, Spot(source.path, first), f"terminationGracePeriodSeconds: {wanted}")
            made = edits.added(facts, spot, line)
        yield Finding(where or Spot(source.path, container.line), f"{said}, but {', and '.join(parts)}", made)


def no_pre_stop(facts: Facts) -> Iterator[Verdict]:
    for source, node, _, container, server in _serving(facts):
        if node.value("kind") not in ("Deployment", "StatefulSet", "Rollout") or not container.get("ports"):
            continue
        if container.get("lifecycle", "preStop") is None and not _lame_duck(facts, Spot(source.path, container.line)):
            text = f"{server} is told to stop while the cluster still sends it new requests"
            yield Finding(Spot(source.path, container.line), text)


def _lame_duck(facts: Facts, spot: Spot) -> bool:
    """Whether this is lastcall that goes on serving after its signal."""
    ducks = (it.get("lame_duck") for it in instances(facts, servers.LASTCALL) if it.spot == spot)
    return any(duck is not None and seconds(duck.text) for duck in ducks)


def recreate(facts: Facts) -> Iterator[Verdict]:
    for source, node, pod, _, server in _serving(facts):
        strategy = node.get("spec", "strategy", "type")
        claims = [volume for volume in pod.each("volumes") if volume.get("persistentVolumeClaim")]
        if strategy is not None and strategy.text == "Recreate" and not claims:
            spot = Spot(source.path, strategy.line)
            made = edits.worded(facts, spot, "Recreate", "RollingUpdate")
            yield Finding(spot, f"all pods of {server} end before the new ones begin", made)


def not_ready(facts: Facts) -> Iterator[Verdict]:
    for source, node, _, container, server in _serving(facts):
        served = node.value("kind") in ("Deployment", "StatefulSet", "Rollout") and container.get("ports")
        if served and container.get("readinessProbe") is None:
            text = f"{server} gets requests as soon as its process is there, before it has booted"
            yield Finding(Spot(source.path, container.line), text)


def last_replica(facts: Facts) -> Iterator[Verdict]:
    for source, node, _, _, server in _serving(facts):
        rolling = node.get("spec", "strategy", "rollingUpdate")
        gone = rolling.get("maxUnavailable") if rolling else None
        replicas = node.value("spec", "replicas") or "1"
        if gone is None or gone.text is None or not replicas.isdigit():
            continue
        every = gone.text == "100%" or (gone.text.isdigit() and int(gone.text) >= int(replicas) > 0)
        if every:
            spot = Spot(source.path, gone.line)
            text = f"maxUnavailable {gone.text} of {replicas}: nobody of {server} is left in an update"
            yield Finding(spot, text, edits.valued(facts, spot, "maxUnavailable", "0"))


# --- Command lines, dockerd --------------------------------------------------


def _orders(facts: Facts) -> Iterator[Given]:
    yield from script_orders(facts)
    yield from (item for _, item in cron_orders(facts))


def docker_kill(facts: Facts) -> Iterator[Verdict]:
    for item in _orders(facts):
        order = item.order
        if not order.by.startswith(("docker", "podman")):
            continue
        words = order.command
        forced = order.verb == "rm" and any(w == "--force" or re.fullmatch(r"-[a-z]*f[a-z]*", w) for w in words)
        signalled = any(w in ("-s", "--signal") or w.startswith(("--signal=", "-s=")) for w in words)
        wait = next((words[n + 1] for n, w in enumerate(words[:-1]) if w in ("-t", "--time", "--timeout")), "")
        short = order.verb in ("stop", "restart", "down") and wait.isdigit() and float(wait) < SHORT
        if "compose" in order.by:
            forced = False  # `compose rm -f` asks no question, and only removes what has stopped
        if forced or short or (order.verb == "kill" and not signalled):
            what = f"{order.by} {order.verb}" + (" -f" if forced else f" -t {wait}" if short else "")
            yield Finding(item.spot, f"{what} ends the container with SIGKILL{f' after {wait} s' if short else ''}")


def kubectl_force(facts: Facts) -> Iterator[Verdict]:
    for item in _orders(facts):
        words = " ".join(item.order.command)
        if (
            item.order.by == "kubectl"
            and item.order.verb == "delete"
            and re.search(r"--force\b|--now\b|--grace-period[= ](?:0|1)\b", words)
        ):
            yield Finding(item.spot, "the pod is killed without its grace period")


def dockerd(facts: Facts) -> Iterator[Verdict]:
    for source in facts.of(Kind.DOCKERD):
        try:
            settings = json.loads(source.text)
        except (ValueError, RecursionError):
            yield Unclear(Spot(source.path, 1), "no JSON")
            continue
        if isinstance(settings, dict) and settings.get("live-restore") is not True and "swarm" not in source.text:
            yield Finding(Spot(source.path, 1), "a restart of dockerd (an update) stops every container of the machine")


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_K8S = "kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle, Termination of Pods"

RULES = (
    Rule(
        "LC401", _E, "The image is stopped with a signal that cuts",
        "`docker stop`, compose and Kubernetes send the image's STOPSIGNAL, SIGTERM by default. php-fpm, unicorn, "
        "nginx and Apache take that for: at once.",
        "The base image sets it (php:*-fpm, nginx: SIGQUIT; httpd: SIGWINCH). uWSGI with TERM is LC303.",
        "`docker inspect -f '{{.Config.StopSignal}}' IMAGE`; `docker stop` while a request sleeps.",
        "STOPSIGNAL with the gentle signal; for php-fpm with process_control_timeout (LC001), without which QUIT "
        "cuts as well.",
        "docs.docker.com/reference/dockerfile, STOPSIGNAL; docker-library/php issue 816",
        image_signal,
    ),
    Rule(
        "LC402", _W, "The stop signal goes to a shell",
        "CMD and ENTRYPOINT without brackets run under `/bin/sh -c`; compose files and manifests often say `sh -c "
        "'migrate && serve'` themselves. The shell is process 1, gets the stop signal, ignores it (process 1 has "
        "no default actions), and everything is killed when the grace is over.",
        "The line has `exec`. One simple command under bash, or dash from 0.5.11 on, which replace themselves; "
        "older ones do not: it is told all the same, for the image may change its base.",
        "`docker exec NAME ps -o pid,args`: is process 1 the server? Does `docker stop` take 10 s?",
        'The exec form: CMD ["gunicorn", "app:app"]; or `exec` before the command.',
        "docs.docker.com/reference/dockerfile, Shell form ENTRYPOINT example",
        shell_form,
    ),
    Rule(
        "LC403", _E, "The entrypoint script does not hand over to the server",
        "A script whose last line starts the server without `exec` stays process 1: the stop signal ends there, "
        "and the server is killed with the container.",
        "The last line has `exec`, or goes to the background under a trap.",
        "As LC402.",
        "`exec` before the last command.",
        "docs.docker.com/reference/dockerfile, ENTRYPOINT; developers.redhat.com on signals in containers",
        entry_script,
    ),
    Rule(
        "LC404", _W, "compose kills before the server's own grace is over",
        "stop_grace_period is 10 s by default, then SIGKILL. gunicorn alone takes up to 30.",
        "The server's own bound is not known, or there is none.",
        "`docker compose stop` while a request takes longer.",
        "stop_grace_period above the server's own limit.",
        "docs.docker.com/reference/compose-file/services, stop_grace_period",
        compose_hurry,
    ),
    Rule(
        "LC405", _E, "compose stops a server with a signal that cuts",
        "As LC401: stop_signal overrides the image's.",
        "uWSGI with TERM is LC303. The image is not known and built elsewhere.",
        "As LC401.",
        "stop_signal with the gentle signal; or leave it out where the image has it.",
        "docs.docker.com/reference/compose-file/services, stop_signal",
        compose_signal,
    ),
    Rule(
        "LC406", _E, "Kubernetes kills before preStop and the server's own grace are over",
        "terminationGracePeriodSeconds (30) begins with preStop: what that sleeps is missing for the requests. "
        "When it is over: SIGKILL.",
        "preStop does something whose length nobody knows, and the server's bound is not known.",
        "`kubectl delete pod NAME` while a request takes longer; exit code 137.",
        "The time of preStop, the server's own grace, and some seconds.",
        _K8S, pod_hurry,
    ),
    Rule(
        "LC407", _W, "The pod is stopped while it still gets requests",
        "A pod's end and its removal from the endpoints begin at the same moment; proxies and load balancers hear "
        "of it later. Requests that arrive in between are refused.",
        "There is a preStop; it is a Job; the container has no ports. The server goes on accepting after its "
        "signal (lastcall's --lame-duck).",
        "A load of requests, and `kubectl rollout restart`.",
        'preStop: sleep: seconds: 5 (Kubernetes 1.30), or exec: command: [sleep, "5"].',
        _K8S, no_pre_stop,
    ),
    Rule(
        "LC408", _W, "An update stops all pods before it starts new ones",
        "strategy Recreate: nobody is served from the first end to the first start.",
        "The pods share a volume claim that only one may mount.",
        "A load of requests, and `kubectl rollout restart`.",
        "RollingUpdate, with maxUnavailable: 0.",
        "kubernetes.io/docs/concepts/workloads/controllers/deployment, Strategy",
        recreate,
    ),
    Rule(
        "LC409", _W, "The pod gets requests before it can serve",
        "Without a readinessProbe a container counts as ready when its process has started; the application is "
        "still importing.",
        "It is a Job; the container has no ports.",
        "A load of requests, and `kubectl rollout restart`: refused connections at each new pod.",
        "A readinessProbe that asks the application.",
        "kubernetes.io/docs/tasks/configure-pod-container, Configure Liveness, Readiness and Startup Probes",
        not_ready,
    ),
    Rule(
        "LC410", _W, "An update may take away every replica",
        "maxUnavailable as large as the number of replicas: all may end before one is new.",
        "It is not set: 25% of one replica is rounded down to none.",
        "A load of requests, and `kubectl rollout restart`.",
        "maxUnavailable: 0 with maxSurge: 1.",
        "kubernetes.io/docs/concepts/workloads/controllers/deployment, Max Unavailable",
        last_replica,
    ),
    Rule(
        "LC411", _E, "A script ends containers with SIGKILL",
        "`docker rm -f` and `docker kill` send KILL at once; `docker stop -t` with less than 10 s soon after.",
        "`docker kill -s SIGNAL`; `docker compose rm -f`, which removes what has stopped.",
        "The script under load.",
        "`docker stop -t SECONDS NAME && docker rm NAME`.",
        "docs.docker.com/reference/cli/docker/container/rm",
        docker_kill,
    ),
    Rule(
        "LC412", _E, "A script deletes pods without their grace period",
        "--force and --grace-period=0 remove the pod from the API and kill its processes.",
        "--grace-period with a time.",
        "The script under load.",
        "`kubectl rollout restart`; or delete without --force.",
        _K8S, kubectl_force,
    ),
    Rule(
        "LC413", _N, "A restart of dockerd stops every container",
        "Without live-restore the containers end with the daemon, at each of its updates.",
        "Swarm, which does not allow it.",
        "`systemctl restart docker` on a test machine; `docker info | grep 'Live Restore'`.",
        '"live-restore": true.',
        "docs.docker.com/engine/daemon/live-restore",
        dockerd,
    ),
)  # fmt: skip
