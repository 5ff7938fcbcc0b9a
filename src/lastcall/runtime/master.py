"""The master's shell: wait, gather, step, perform. Every decision is `core/lifecycle.py`'s.

woken = port.wait(until the next deadline)
events = gather(woken)                      signals, commands, workers' reports, deaths -> events
master, actions = step(master, events)
events += perform(action) for each action   fork, tell, kill, write, answer
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final, assert_never

from lastcall import __version__
from lastcall.core import exits, notes, replay
from lastcall.core import lifecycle as lc
from lastcall.core.replay import Replay
from lastcall.core.slot import WORKERS_MAX, Slot
from lastcall.protocol import handover
from lastcall.protocol.adoption import RIGHTS_MAX
from lastcall.protocol.control import Do, LastReload, LastTakeover, Reply, Status, bounded
from lastcall.protocol.link import Report, Word, unpack_report
from lastcall.runtime import cradle, farewell, overview, rights, sender, testament, whereabouts
from lastcall.runtime.adoption import late, words_again
from lastcall.runtime.closing import Closing
from lastcall.runtime.completer import Completer
from lastcall.runtime.control import Asked
from lastcall.runtime.inquest import Inquest, Order, has_left
from lastcall.runtime.logs import AccessLog, ErrorLog, OutputReader, relay
from lastcall.runtime.patience import committed, overdue
from lastcall.runtime.port import Signalled
from lastcall.runtime.recycling import Ages
from lastcall.runtime.reports import event
from lastcall.runtime.rescue import Fate, Grave, Rescue
from lastcall.runtime.sockets import Listener
from lastcall.runtime.surroundings import Link, ReloadRefused, Resources, Surroundings
from lastcall.runtime.telling import Telling
from lastcall.runtime.testament import Tally
from lastcall.runtime.upgrade import machine, policy
from lastcall.runtime.worker.boot import become_worker

SCAN: Final = 1.0
"""Seconds between two looks for overdue requests: how much later than `request_timeout` one is noticed."""
REPORT_MAX: Final = 65536
STOPS: Final = {signal.SIGTERM: notes.Terminating, signal.SIGINT: notes.Terminating, signal.SIGQUIT: notes.Finishing}
RELOAD: Final = signal.SIGHUP
RESTART: Final = signal.SIGUSR2
SCALES: Final = {signal.SIGTTIN: +1, signal.SIGTTOU: -1}
ORDERS: Final[dict[int | Do, Order]] = {
    RELOAD: Order.RELOAD, RESTART: Order.RELOAD, **dict.fromkeys(SCALES, Order.SCALE), Do.RELOAD: Order.RELOAD,
    Do.RESTART: Order.RELOAD, Do.SCALE: Order.SCALE, Do.STOP: Order.STOP,
}  # fmt: skip
SIGNALS: Final = (*STOPS, RELOAD, RESTART, *SCALES, signal.SIGUSR1)
"""What the master listens to, besides SIGCHLD. docs/SIGNALS.md is compared with these tables by a test."""


class Master:
    """See the module's docstring. `run` returns the exit code."""

    def __init__(self, around: Surroundings, resources: Resources) -> None:
        self._around = around
        self._port = around.port
        self._resources = resources
        self._pool = resources.settings.pool
        self._generations: dict[int, Resources] = {1: resources}
        self._links: dict[int, Link] = {}
        self._by_fd: dict[int, Link] = {}
        self._outputs: dict[int, OutputReader] = {}
        self._state = lc.boot(policy(resources.settings))
        self._announced = False
        self._claim = around.claim
        self._asked = False
        self._final = True
        self._holder = 0
        self.leaves = False
        """At its end the listeners and the inbox are not to be closed: somebody else has them."""
        self._closing: Closing | None = None
        self._close_at: float | None = None
        self._removals = around.removals
        self._tally = Tally(time.time(), self._port.now())
        self._strangers: dict[int, Link] = {}  # by pidfd: workers that are not our children
        self._lost: list[Link] = []  # those of the last master that did not live to see us
        self._burials: list[lc.Event] = []
        self._written: tuple[object, ...] = ()
        self._scan_at: float | None = None
        self._telling = Telling(self._port.now)
        self._desk = whereabouts.Desk(self._ask_where)
        self._account = whereabouts.Account()
        self._ages = Ages()
        self._watchdog = around.notifier.interval()
        self._watchdog_at = self._tally.born if self._watchdog else None
        self._upgrade = around.upgrade
        self._completer = Completer(
            self._port, around.cut_list, lambda: self._resources.settings, self._write, self._relay,
            (*SIGNALS, signal.SIGCHLD), lambda: self._upgrade.under_way or self._state.hurry,
        )  # fmt: skip
        self._inquest = Inquest(self._pool, around.cut_list, self._write, self._completer)
        self._rescue = Rescue(
            self._port, around.board, around.inbox, self._replay, self._list_cuts, self._write, self._buried
        )
        self._port.watch(around.control.fileno())

    @classmethod
    def resume(cls, around: Surroundings, generations: dict[int, Resources], left: handover.Handover) -> Master:
        """Go on where another image of this process, or a master that has died, has left off, with these generations."""
        reign = left.reign
        self = cls(around, generations[reign.current])
        self._generations = generations
        self._state = machine(reign)
        self._announced = reign.announced
        self._tally = testament.tally(reign)
        for client in left.estate.clients:
            self._port.watch(client.fd)
        for worker in reign.workers:
            link = Link(
                worker.serial, worker.slot, worker.generation, socket.socket(fileno=worker.link), worker.born, worker.pid,
                serving=worker.serving, reported=worker.reported, max_age=worker.max_age, pidfd=worker.pidfd,
                dead=worker.ended,
            )  # fmt: skip
            if worker.serving and worker.ready_at is not None:
                self._ages.serves(worker.serial, worker.ready_at, worker.max_age)
            self._attach(link, [(output.fd, output.stream, output.rest) for output in worker.outputs])
            adopted = worker.pidfd >= 0 or worker.ended is not None
            if worker.custody >= 0:
                sock = socket.socket(fileno=worker.custody)
                link.ward = self._rescue.attach(sock, worker.keeper, adopted=adopted)
            if worker.pidfd >= 0:
                self._strangers[worker.pidfd] = link
                self._port.watch(worker.pidfd)
            if worker.ended is not None:
                self._lost.append(link)
        return self

    def take_over(self, seconds: float, before: int) -> None:
        """The master with the pid `before` has died, and this is what is left: bury its dead, tell the others."""
        self._around.board.masterless = 0.0
        self._around.board.leaving = False
        cut, lost = self._tally.cut, self._lost
        self._write(notes.TakingOver(before, len(self._links) - len(lost), len(lost), seconds))
        for link in lost:
            self._mourn(link, exits.UNKNOWN)
        self._rescue.finish()
        self._lost = []
        for link in self._links.values():
            for word in words_again(self._state, link.serial):
                self._tell(link, word)
        self._tell_logs()
        if self._state.proven:  # a removal that was under way goes on
            self._remove_listeners(self._resources)
        self._tally.last_takeover = taken = LastTakeover(
            before, len(self._links), len(lost), self._rescue.saved, self._tally.cut - cut, seconds, time.time()
        )
        self._write(notes.TakenOver(taken.workers, taken.dead, taken.connections, taken.cuts))
        if self._announced:
            self._take_over()
            self._around.notifier.ready()
            self._around.ready()

    def _attach(self, link: Link, outputs: list[tuple[int, str, bytes]]) -> None:
        """Listen to a worker that lives: its socket, and what it prints."""
        self._links[link.serial] = link
        self._by_fd[link.sock.fileno()] = link
        self._port.watch(link.sock.fileno())
        self._listen_to(link, outputs)

    def _listen_to(self, link: Link, outputs: list[tuple[int, str, bytes]]) -> None:
        for fd, stream, rest in outputs:
            reader = OutputReader(fd, self._pool, link.pid, stream, rest)
            link.output += (reader,)
            self._outputs[fd] = reader
            self._port.watch(fd)

    # --- The loop ------------------------------------------------------------------

    def run(self, fresh: Resources | None = None, tickets: Iterable[int] = ()) -> int:
        """`fresh` is for a generation that is to begin at once, and answer for these tickets."""
        events, self._burials = self._burials, []
        if fresh is not None:
            self._resources = fresh
            events += [lc.Reload(policy(fresh.settings), ticket) for ticket in tickets or (0,)]
        while True:
            before, now = self._state, self._port.now()
            self._state, actions = lc.step(
                before, [*events, *committed(before.workers, self._around.board, self._resources.settings, now)], now
            )
            self._write_down()
            self._follow(before)
            events = []
            for action in actions:
                if isinstance(action, lc.Exit):
                    return action.code
                events += self._perform(action)
            self._announce(before)
            if self._upgrade.under_way and not events:
                self._go_on_with_the_upgrade()
            if not events:
                events = self._gather()

    def _follow(self, before: lc.Master) -> None:
        """Tell the workers that are to serve, and that all is being stopped, before anybody is told to drain."""
        state = self._state
        for worker in state.workers:
            if worker.stage is lc.Stage.READY and not self._links[worker.serial].serving:
                link = self._links[worker.serial]
                link.serving = True
                self._tell(link, Word.SERVE)
                assert worker.ready_at is not None
                self._ages.serves(link.serial, worker.ready_at, link.max_age)
                if self._claim is not None:
                    self._claim.serving(self._numbers())
        self._account.plan(self._port.now(), draining=any(w.stage is lc.Stage.DRAINING for w in state.workers))
        if state.phase is not lc.Phase.RUNNING and before.phase is lc.Phase.RUNNING:
            self._around.board.leaving = True
            self._around.notifier.stopping()
        if not state.lasting and before.lasting:
            self._begin_to_close()
        if state.phase is lc.Phase.STOPPED and before.phase is not lc.Phase.STOPPED:
            self._say_farewell()
            self._completer.finish(self._around.notifier.watchdog, hurry=state.hurry)

    def _announce(self, before: lc.Master) -> None:
        """Tell the outside what has been reached, after the log has."""
        state = self._state
        if state.announced and not self._announced:
            self._announced = True
            self._take_over()
            if state.phase is lc.Phase.RUNNING:
                self._around.notifier.ready()
            self._around.ready()
        if state.reloading and not before.reloading:
            self._around.notifier.reloading()
        elif before.reloading and not state.reloading and state.phase is lc.Phase.RUNNING:
            self._around.notifier.ready()

    def _next_wake(self) -> float | None:
        times = [
            lc.next_deadline(self._state), self._scan_at, self._watchdog_at, self._upgrade.deadline,
            self._account.due, self._desk.next_due(), self._ages.next_due(), self._close_at,
            self._rescue.next_deadline(), self._completer.next_deadline(), self._telling.next_due(),
        ]  # fmt: skip
        return min((time for time in times if time is not None), default=None)

    def _gather(self) -> list[lc.Event]:
        """Sleep until something happens or is due; then read every source dry."""
        due = self._next_wake()
        woken = self._port.wait(None if due is None else max(0.0, due - self._port.now()))
        events: list[lc.Event] = []
        for fd in woken.readable:
            if fd in self._by_fd:
                events += self._hear(self._by_fd[fd])
            elif fd in self._outputs:
                self._read_output(fd)
            elif fd in self._strangers:
                self._mourn(self._strangers[fd], exits.UNKNOWN)
            elif fd == self._around.control.fileno():
                self._accept()
            elif fd == self._upgrade.fd:
                self._upgrade.hear()
            elif self._rescue.owns(fd):
                self._rescue.hear(fd)
            elif self._completer.owns(fd):
                self._completer.hear(fd)
            elif self._around.control.owns(fd):
                events += self._command(fd)
        for signalled in woken.signals:
            events += self._signalled(signalled)
        for pid, status in self._port.reap():
            self._bury(pid, status)
        self._close_up(self._port.now())
        events += self._look_after(self._port.now())
        self._answer_statuses(self._port.now())
        buried, self._burials = self._burials, []
        return events + buried

    # --- Events --------------------------------------------------------------------------

    def _hear(self, link: Link) -> list[lc.Event]:
        """Read a worker's reports until there are no more."""
        events: list[lc.Event] = []
        while True:
            try:
                packet, fds = rights.receive(link.sock, REPORT_MAX, RIGHTS_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return events
            except OSError:
                packet, fds = b"", []
            if fds:  # adopted, and too busy to say so in time
                self._listen_to(link, late(packet, fds))
                continue
            if not packet:
                self._unhear(link)
                return events
            try:
                report, text = unpack_report(packet)
                if report is Report.WHERE:
                    self._desk.hear(link.serial, text, self._port.now())
                else:
                    events.append(event(link.serial, report, text))
            except ValueError:
                self._write(notes.Trouble(f"child {link.pid} sent a report that is none"))

    def _unhear(self, link: Link) -> None:
        if self._by_fd.pop(link.sock.fileno(), None) is not None:
            self._port.unwatch(link.sock.fileno())

    def _signalled(self, signalled: Signalled) -> list[lc.Event]:
        number = signalled.number
        if number == signal.SIGCHLD:
            return []
        name = exits.SIGNALS.get(number, str(number))
        who = notes.Asked(name, sender.describe(signalled.pid, signalled.uid))
        if number in STOPS:
            self._write(STOPS[signal.Signals(number)]())
            self._inquest.hear(Order.STOP, who)
            # whoever is at a terminal waits for nobody else to notice
            return [self._stop(final=number == signal.SIGINT, at_once=number == signal.SIGINT)]
        self._inquest.hear(ORDERS.get(number), who)
        if number == RELOAD:
            return self._reload(0)
        if number == RESTART:
            self._restart(0)
            return []
        if number in SCALES:
            return [self._resize(SCALES[signal.Signals(number)], 0)]
        self._reopen()
        return []

    def _accept(self) -> None:
        fd = self._around.control.accept()
        if fd is not None:
            self._port.watch(fd)

    def _command(self, fd: int) -> list[lc.Event]:
        asked = self._around.control.read(fd)
        if self._around.control.silent(fd):
            self._port.unwatch(fd)
        return [] if asked is None else self._obey(asked)

    def _obey(self, asked: Asked) -> list[lc.Event]:
        control, command, ticket = self._around.control, asked.command, asked.ticket
        if command.do is Do.STATUS:
            self._desk.listen(ticket, self._busy(), self._port.now())
            return []
        who = notes.Asked(f"lastcall {command.do.value}", sender.describe(asked.pid, asked.uid))
        self._inquest.hear(ORDERS.get(command.do), who)
        held = ticket if command.wait else 0
        match command.do:
            case Do.REOPEN:
                self._reopen()
                events: list[lc.Event] = []
            case Do.RELOAD:
                return self._reload(ticket, wait=command.wait)
            case Do.RESTART:
                self._restart(ticket, wait=command.wait)
                return []
            case Do.STOP:
                self._write(notes.Terminating())
                events = [self._stop(final=command.final, ticket=held)]
            case Do.SCALE:
                return [self._resize(command.delta, ticket)]
            case _:
                assert_never(command.do)
        if not held:
            control.answer(ticket, Reply(ok=True, text=f"{command.do.value}: begun" if events else "done"))
        return events

    def _resize(self, delta: int, ticket: int) -> lc.Event:
        """Never more workers than the board has slots for."""
        now = self._state.current.policy.workers
        return lc.Resize(max(-WORKERS_MAX, min(delta, WORKERS_MAX - now)), ticket)

    def _reload(self, ticket: int, *, wait: bool = True) -> list[lc.Event]:
        if self._state.phase is lc.Phase.RUNNING:
            try:
                self._resources = self._around.renew(self._resources)
            except ReloadRefused as refused:
                self.refuse([ticket], str(refused))
                return []
        if ticket and not wait:
            self._around.control.answer(ticket, Reply(ok=True, text="reload: begun"))
            ticket = 0
        return [lc.Reload(policy(self._resources.settings), ticket)]

    # --- Another image of the master ------------------------------------------------------

    def _restart(self, ticket: int, *, wait: bool = True) -> None:
        """See whether the program could take over; whoever asks while we do gets the same outcome."""
        if self._state.phase is not lc.Phase.RUNNING:
            self._answer([ticket], ok=False, text=lc.STOPPING)
            return
        if ticket and wait:
            self._upgrade.tickets.append(ticket)
        elif ticket:
            self._answer([ticket], ok=True, text="restart: begun")
        if self._upgrade.under_way:
            return
        try:
            timeout = self._resources.settings.boot_timeout
            self._upgrade.begin(handover.encode(self._leave()), self._port.now(), timeout)
        except OSError as error:
            self._refuse_upgrade(f"{self._upgrade.program.path}: {error.strerror}")

    def _is_busy(self) -> bool:
        """Something is under way that would not cross an exec."""
        return self._rescue.busy or self._completer.busy or self._telling.busy

    def _go_on_with_the_upgrade(self) -> None:
        """Nothing is left to be done by this image: let the next one begin, or do without it where we are to end."""
        if self._state.phase is not lc.Phase.RUNNING:
            self._answer(self._upgrade.cancel(), ok=False, text=lc.STOPPING)
        elif self._upgrade.ready and self._state.announced and not self._is_busy():
            program = self._upgrade.program
            self._answer_statuses(math.inf)
            self._write(notes.Reexecuting(program.path, program.argv))
            try:
                self._upgrade.execute(self._leave())
            except OSError as error:
                self._refuse_upgrade(f"{program.path}: {error.strerror}")

    def _refuse_upgrade(self, why: str) -> None:
        note = notes.UpgradeFailed(why)
        self._write(note)
        self._refused(self._upgrade.cancel(), note.text())

    def refuse(self, tickets: Iterable[int], why: str) -> None:
        """There is nothing to begin a new generation with: what serves goes on."""
        self._write(notes.Trouble(f"reload refused: {why}"))
        self._refused(tickets, why)

    def _refused(self, tickets: Iterable[int], why: str) -> None:
        self._tally.last_reload = LastReload(self._state.current.generation, ok=False, text=why, at=time.time())
        self._around.notifier.reloading()  # whoever waits for the end of a reload hears of one
        self._around.notifier.ready()
        self._answer(tickets, ok=False, text=why)

    def _answer(self, tickets: Iterable[int], *, ok: bool, text: str) -> None:
        for ticket in tickets:
            if ticket:
                self._around.control.answer(ticket, Reply(ok=ok, text=text))

    def _leave(self) -> handover.Handover:
        """Everything that another image, or another master, needs to go on."""
        generations = testament.releases(self._state, self._generations, self._resources)
        reign = testament.reign(self._state, self._links, generations, self._tally)
        estate, tickets = self._around.estate(), list(self._upgrade.tickets)
        return handover.Handover(handover.FORMAT, __version__, estate, reign, tickets)

    def _write_down(self) -> None:
        """For the next master, before anything is done: what has not been done it does again."""
        known = (self._state, dataclasses.replace(self._tally))
        if not self._state.lasting or known == self._written:
            return
        self._written = known
        try:
            self._around.testament.write(handover.encode(self._leave()))
        except OSError as error:
            self._write(notes.Trouble(f"nothing can be written down for the next master: {error}"))

    # --- Deaths ---------------------------------------------------------------------------

    def _bury(self, pid: int, status: int) -> None:
        """A child has ended, and is reaped."""
        if pid == self._upgrade.pid:
            why = self._upgrade.ended(status)
            if why:
                self._refuse_upgrade(f"the new lastcall cannot start: {why}")
            return
        link = next((link for link in self._links.values() if link.pid == pid and link.dead is None), None)
        if link is not None:
            self._mourn(link, status)
        elif not (self._completer.ended(pid, status, self._port.now()) or self._rescue.is_keeper(pid)):
            self._holder = 0 if pid == self._holder else self._holder
            self._write(notes.ChildUnknown(pid, status))

    def _mourn(self, link: Link, status: int) -> None:
        """A worker has ended: hear its last words, have whoever waits for it answered, and name what it was doing.

        For the machine it has ended when that is done (`_buried`), so that its slot is nobody else's before.
        """
        self._burials += self._hear(link)
        self._unhear(link)
        for reader in link.output:
            self._read_output(reader.fileno(), last=True)
        slot = self._around.board.read(link.slot)
        link.dead = 0 if status == exits.UNKNOWN and slot.serial == link.serial and slot.ended else status
        if link.pidfd in self._strangers:
            del self._strangers[link.pidfd]
            self._port.unwatch(link.pidfd)
        if slot.serial == link.serial:
            self._rescue.bury(link.ward, self._grave(link, slot, link.dead))
        else:
            self._buried(link.serial)

    def _grave(self, link: Link, slot: Slot, status: int) -> Grave:
        now = self._port.now()
        worker = next((worker for worker in self._state.workers if worker.serial == link.serial), None)
        death = self._inquest.find(link, worker, self._state, status, self._resources.settings, now)
        lanes = tuple((lane, self._desk.last_line(link.serial, lane, now)) for lane in slot.lanes)
        states = self._around.board.states(link.slot) if has_left(slot, status) else b""
        return Grave(death, lanes, states, link.slot)

    def _buried(self, serial: int) -> None:
        """Nobody waits for this worker any more: its place is free."""
        link = self._links.pop(serial)
        assert link.dead is not None
        board = self._around.board
        slot = board.read(link.slot)
        if slot.serial == serial:
            self._tally.requests += slot.requests
            board.wipe(link.slot)
            if has_left(slot, link.dead):
                board.wipe_states(link.slot)
        worker = next((worker for worker in self._state.workers if worker.serial == serial), None)
        in_order = link in self._lost and not link.dead  # nobody has come in time
        if worker is not None and worker.stage < lc.Stage.DRAINING and not in_order:
            self._tally.deaths += 1
        link.close(self._around.run_dir)
        self._desk.forget(serial)
        self._ages.forget(serial)
        self._telling.forget(link)
        self._burials.append(lc.Exited(link.pid, link.dead))

    def _replay(self) -> Replay:
        """Which requests may be run again; none when there will be nobody to run them."""
        settings = self._resources.settings
        return replay.replay(settings.replay, settings.replay_routes) if self._state.lasting else replay.NEVER

    def _list_cuts(self, fates: list[Fate]) -> None:
        self._tally.cut += self._inquest.record(fates, once=bool(self._lost))

    def _read_output(self, fd: int, *, last: bool = False) -> None:
        reader = self._outputs.get(fd)
        if reader is None:
            return
        said = reader.read()
        if reader.closed or last:
            self._port.unwatch(fd)
            del self._outputs[fd]
            said += reader.close()
        self._relay(said)

    def _relay(self, said: list[notes.Said]) -> None:
        relay(self._around.error_log, said, decorate=self._resources.settings.decorate_output)

    # --- Watching over requests -----------------------------------------------------------

    def _look_after(self, now: float) -> list[lc.Event]:
        events: list[lc.Event] = []
        self._upgrade.expire(now)
        self._rescue.expire(now)
        self._completer.look(now)
        self._telling.again(now)
        timeout = self._resources.settings.request_timeout
        if timeout and (self._scan_at is None or self._scan_at <= now):
            self._scan_at = now + min(SCAN, timeout)
            events += self._find_overdue(now)
        self._explain(now)
        events += [lc.Spent(serial, why) for serial, why in self._ages.due(now)]
        if self._watchdog and self._watchdog_at is not None and self._watchdog_at <= now:
            self._watchdog_at = now + self._watchdog
            self._around.notifier.watchdog()
        return events

    def _find_overdue(self, now: float) -> list[lc.Event]:
        events: list[lc.Event] = []
        for link in (link for link in self._links.values() if link.dead is None):
            slot = self._around.board.read(link.slot)
            late = overdue(slot, self._resources.settings, link.reported, now)
            if slot.serial != link.serial or not late:
                continue
            for lane in late:
                elapsed = now - lane.begun
                self._write(notes.TimedOut(self._pool, link.pid, lane.request, lane.request_id, elapsed))
            link.reported = max(lane.begun for lane in late)
            others = len(slot.lanes) - len(late)
            if others:
                # The worker's other requests are in time: it is replaced, they finish, and only then is it cut.
                self._tell(link, Word.TRACE)
                events.append(lc.Spent(link.serial, f"request {late[0].request_id} is overdue"))
            else:
                events.append(lc.Overdue(link.serial))
        return events

    def _explain(self, now: float) -> None:
        """Every few seconds, what a drain is waiting for; the workers are asked shortly before."""
        match self._account.turn(now):
            case whereabouts.Turn.ASK:
                self._desk.ask((link.serial for link in self._draining()), now)
            case whereabouts.Turn.TELL:
                for note in whereabouts.account(self._pool, self._draining(), self._around.board, self._desk, now):
                    self._write(note)

    def _draining(self) -> list[Link]:
        """Without those that were buried a moment ago, of which the machine has not heard yet."""
        return [
            self._links[worker.serial]
            for worker in self._state.workers
            if worker.stage is lc.Stage.DRAINING and worker.serial in self._links
        ]

    def _ask_where(self, serial: int) -> None:
        self._tell(self._links[serial], Word.WHERE)

    def _busy(self) -> list[int]:
        """The workers that have something to say about what they are doing."""
        stages = (lc.Stage.READY, lc.Stage.RESTING, lc.Stage.DRAINING)
        return [
            worker.serial
            for worker in self._state.workers
            if worker.stage in stages
            and worker.serial in self._links
            and (worker.stage is lc.Stage.DRAINING or self._around.board.read(worker.slot).lanes)
        ]

    def _answer_statuses(self, now: float) -> None:
        tickets = self._desk.due(now)
        reply = Reply(ok=True, status=bounded(self._status())) if tickets else None
        for ticket in tickets:
            assert reply is not None
            self._around.control.answer(ticket, reply)

    # --- Closing time ----------------------------------------------------------------

    def _stop(self, *, final: bool, at_once: bool = False, ticket: int = 0) -> lc.Event:
        """The first stop says whether listeners are left to a holder; a second one is in a hurry, and ends the holding."""
        if not self._asked:
            self._asked = True
            self._final = final
        elif not self._state.lasting:
            self._end_hold()
        return lc.Stop(hurry=False, ticket=ticket, at_once=at_once)

    def _begin_to_close(self) -> None:
        """Leave everything to who comes next; or close it, but for what is not ours."""
        settings = self._resources.settings
        around = self._around
        wanted = settings.hold > 0 and not self._final
        if around.stored():
            self.leaves = not (self._asked and self._final)
        elif self._claim is not None:  # its holder holds on when we are gone; a start that fails leaves it another try
            self.leaves = wanted or not self._asked
        elif wanted:
            self._holder = around.leave_behind(settings, self._let_go_of_workers)
            self.leaves = self._holder > 0
        if self.leaves:
            # As in a reload: workers give idle connections away, and leave the queues alone.
            around.board.parking = not self._holder
            return
        around.unstore()
        self._take_over()
        around.board.frozen = around.board.stopping = (
            True  # before the listeners freeze: whoever accepts from them has to know
        )
        now = self._port.now()
        self._closing = Closing((each for each in around.listeners() if not each.lent), around.inbox, now)
        self._close_at = now

    def _remove_listeners(self, resources: Resources) -> None:
        """A generation serves for good: listeners that it does not have are closed, and lose nobody."""
        around, now = self._around, self._port.now()
        gone = [each for each in around.listeners() if each not in resources.listeners and not each.lent]
        if gone:
            around.board.frozen = True
            self._removals.begin(gone, around.inbox, now)
            self._close_at = now

    def _take_over(self) -> None:
        """All that a holder had is ours now."""
        if self._claim is not None:
            self._claim.done(self._numbers())
            self._claim = None

    def _end_hold(self) -> None:
        if self._holder:
            self._port.kill(self._holder, signal.SIGTERM)
            self._holder = 0
        if self._claim is not None:
            self._claim.stop()
            self._claim = None

    def _numbers(self) -> list[int]:
        return [listener.number for listener in self._around.listeners()]

    def _close_up(self, now: float) -> None:
        """Empty the queues into the inbox; when no more will come, tell the workers, who then end one by one."""
        if self._close_at is None or self._close_at > now:
            return
        if self._removals.look(now):
            self._around.release([self._resources, *self._generations.values()])
        self._close_at = self._removals.due(now)
        if self._closing is None or self._around.board.closed:
            return
        self._closing.look(now)
        self._close_at = self._closing.due(now) or self._close_at
        if self._closing.over:
            self._around.board.closed = True
            for link in self._links.values():
                self._tell(link, Word.DRAIN)

    def _say_farewell(self) -> None:
        """The last worker is gone: whoever has not been served is told so, and named."""
        self._rescue.finish()
        if self._closing is None:
            return
        why = "the service was stopped before a worker was free"
        fastcgi = {listener.number for listener in self._around.listeners() if listener.fastcgi}
        farewell.refuse(
            [*self._closing.end(), *self._rescue.homeless()], fastcgi.__contains__, why,
            lambda request, client: self._write(notes.Refused(self._pool, request, client, why)),
        )  # fmt: skip

    # --- Actions ----------------------------------------------------------------------------

    def _perform(self, action: lc.Action) -> list[lc.Event]:
        match action:
            case lc.Spawn():
                return [self._spawn(action)]
            case lc.Tell(serial, word):
                if serial in self._links:
                    self._tell(self._links[serial], Word[word.name])
                    self._links[serial].serving &= word is not lc.Word.REST
                    if word is lc.Word.TRACE:
                        self._desk.expect(serial, self._port.now())
            case lc.Kill(serial, pid):
                self._kill(self._links[serial], pid)
            case lc.Write(note):
                self._write(note)
                self._remember(note)
            case lc.Answer(ticket, ok, text):
                self._around.control.answer(ticket, Reply(ok=ok, text=text))
            case lc.Forget(generation):
                self._generations.pop(generation, None)
                self._around.release([self._resources, *self._generations.values()])
            case lc.Exit():
                raise AssertionError("run() returns on Exit")
            case _:
                assert_never(action)
        return []

    def _remember(self, note: notes.Note) -> None:
        if isinstance(note, notes.ReloadFinished):
            self._remove_listeners(self._generations[note.generation])
            self._tally.last_reload = LastReload(note.generation, ok=True, text=note.text(), at=time.time())
        elif isinstance(note, notes.ReloadFailed):
            self._tally.last_reload = LastReload(note.generation, ok=False, text=note.why, at=time.time())

    def _kill(self, link: Link, pid: int) -> None:
        """Whoever has been reaped is left alone: its pid may be somebody else's, though its burial is not over."""
        if link.pidfd >= 0:
            self._port.kill_by(link.pidfd, signal.SIGKILL)
        elif link.dead is None:
            self._port.kill(pid, signal.SIGKILL)

    def _tell(self, link: Link, word: Word, fds: tuple[int, ...] = ()) -> None:
        self._telling.tell(link, word, fds)

    def _spawn(self, spawn: lc.Spawn) -> lc.Event:
        resources = self._generations.setdefault(spawn.generation, self._resources)
        new: cradle.Cradle | None = None
        try:
            new = cradle.prepare(spawn, resources, self._around, self._former(resources), SIGNALS, self._port.now())
            pid = self._port.fork()
        except OSError as error:
            if new is not None:
                new.abandon()
            if error.errno not in cradle.OUT_OF:
                raise
            return lc.SpawnFailed(spawn.serial, error.strerror or str(error))
        if pid == 0:
            become_worker(new.birth, self._let_go(new))
        new.theirs.close()
        link = new.link
        link.pid = pid
        if new.custody is not None:
            link.ward = self._rescue.attach(new.custody)
        outputs = zip(new.heard, ("stdout", "stderr"), strict=False)
        self._attach(link, [(read, stream, b"") for read, stream in outputs])
        return lc.Spawned(spawn.serial, pid)

    def _former(self, resources: Resources) -> tuple[Listener, ...]:
        """What connections in the inbox may have come through, besides a generation's own listeners."""
        known = (*self._removals.former, *self._around.listeners())
        return tuple(listener for listener in known if listener not in resources.listeners)

    def _let_go(self, new: cradle.Cradle) -> Callable[[], None]:
        def let_go() -> None:
            self._let_go_of_workers()
            new.ours.close()
            if self._upgrade.fd >= 0:
                os.close(self._upgrade.fd)

        return let_go

    def _let_go_of_workers(self) -> None:
        """In a new process: close what is the master's alone."""
        for link in self._links.values():
            link.leave()
        if self._claim is not None:
            self._claim.close()
        self._rescue.let_go()
        self._completer.let_go()
        self._around.control.close(unlink=False)
        self._around.let_go()

    def _reopen(self) -> None:
        """New log files under the old names, for us and for every worker; theirs travel as descriptors."""
        log = self._around.error_log
        self._say_reopened(log, notes.ErrorLogReopened())
        logs = {resources.access_log for resources in (self._resources, *self._generations.values())}
        for access in logs:
            if access is not None:
                self._say_reopened(access, notes.AccessLogReopened())
        self._tell_logs()

    def _tell_logs(self) -> None:
        log = self._around.error_log
        for link in self._links.values():
            access = self._generations[link.generation].access_log
            fds = (log.fileno(),) if access is None else (log.fileno(), access.fileno())
            self._tell(link, Word.LOGS, fds)

    def _say_reopened(self, log: ErrorLog | AccessLog, note: notes.Note) -> None:
        why = log.reopen()
        if why:
            self._write(notes.Trouble(why))
        elif log.path != "-":
            self._write(note)

    # --- Telling ------------------------------------------------------------------------------

    def _write(self, note: notes.Note) -> None:
        self._around.error_log.write(note)

    def _status(self) -> Status:
        return overview.status(
            self._around, self._resources, self._state, self._tally, self._desk, self._completer.waiting,
            self._port.now(),
        )  # fmt: skip
