"""The error log and the access log: whole lines, nothing raised, nothing lost in silence."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.core import accesslog, notes
from lastcall.core.notes import Level
from lastcall.runtime import logs
from lastcall.runtime.logs import AccessLog, ErrorLog, Lines, OutputReader

STAMP = r"\[\d\d-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{4} \d\d:\d\d:\d\d\]"


def record(target: str = "/") -> accesslog.Record:
    return accesslog.Record(
        method="GET", target=target, path=target, query="", protocol="HTTP/1.1", status=200, sent=2, received=0,
        client="192.0.2.1", began=1498368481.0, duration=0.1, request_id="r-1", pid=42, parent_pid=41, pool="app",
        environ={}, headers=[],
    )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> ErrorLog:
    return ErrorLog(str(tmp_path / "error.log"))


def lines_of(log: ErrorLog) -> list[str]:
    """What the log holds, without the times."""
    text = Path(log.path).read_text()
    return [re.sub(f"^{STAMP} ", "", line) for line in text.splitlines()]


class Pipe:
    """A pipe at which a log writes, and what came out of it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self) -> bytes:
        data = b""
        try:
            while more := os.read(self.reader, 1 << 20):
                data += more
        except BlockingIOError:
            pass
        return data

    def fill(self) -> None:
        """Until nothing fits any more. The flag goes back: the log must not need it."""
        os.set_blocking(self.writer, False)
        for size in (4096, 1):
            try:
                while True:
                    os.write(self.writer, b"." * size)
            except BlockingIOError:
                pass
        os.set_blocking(self.writer, True)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def piped(tmp_path: Path, fd: int) -> ErrorLog:
    """An error log whose file has been replaced by a copy of this descriptor."""
    log = ErrorLog(str(tmp_path / "replaced.log"))
    log.replace(os.dup(fd))
    return log


# --- Format ------------------------------------------------------------------


def test_a_line_looks_as_in_php_fpms_log(log: ErrorLog) -> None:
    """Such as `[25-Jun-2017 05:28:01] NOTICE: Terminating ...`."""
    log.write(notes.Terminating())
    assert re.fullmatch(f"{STAMP} NOTICE: Terminating \\.\\.\\.\n", Path(log.path).read_text())


def test_at_level_debug_the_time_has_microseconds(tmp_path: Path) -> None:
    """As php-fpm's."""
    log = ErrorLog(str(tmp_path / "error.log"), Level.DEBUG)
    log.write(notes.Remark("hm"))
    assert re.fullmatch(f"{STAMP[:-2]}\\.\\d{{6}}\\] DEBUG: hm\n", Path(log.path).read_text())


def test_what_is_below_the_level_is_not_written(log: ErrorLog) -> None:
    """NOTICE is the default."""
    log.write(notes.Remark("hm"))
    log.write(notes.Trouble("ouch"))
    assert lines_of(log) == ["ERROR: ouch"]


def test_a_line_that_begins_with_a_bracket_is_a_line_of_its_own(log: ErrorLog) -> None:
    """Lines of a traceback are indented, control characters escaped: nobody can forge an entry."""
    log.emit(Level.ERROR, "boom\n[25-Jun-2017 05:28:01] NOTICE: forged\r\x1b[2J\x85\u2028\tend é\n")
    assert lines_of(log) == ["ERROR: boom", "    [25-Jun-2017 05:28:01] NOTICE: forged\\x0D\\x1B[2J\\x85\\u2028\tend é"]


def test_half_a_surrogate_pair_is_written_all_the_same(log: ErrorLog) -> None:
    """An application may print anything."""
    log.emit(Level.ERROR, "\udc80")
    assert lines_of(log) == ["ERROR: \\udc80"]


def test_a_note_is_bounded(log: ErrorLog) -> None:
    """At 64 KiB, and shows it."""
    log.emit(Level.ERROR, "x" * 200_000)
    (line,) = lines_of(log)
    assert len(line) < logs.TEXT_MAX + 10
    assert line.endswith("xx...")


def test_a_new_log_is_not_for_everybody(log: ErrorLog) -> None:
    """It holds command lines and addresses."""
    assert Path(log.path).stat().st_mode & 0o007 == 0
    assert fcntl.fcntl(log.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_the_standard_logs_are_stderr_and_stdout_even_after_those_lead_elsewhere() -> None:
    """A worker's output may be caught in a pipe that ends in this very log."""
    script = """
import os
from lastcall.core import accesslog
from lastcall.runtime.logs import AccessLog, ErrorLog
errors = ErrorLog("-"); access = AccessLog("/dev/stdout", accesslog.compile("x"), errors)
null = os.open("/dev/null", os.O_WRONLY); os.dup2(null, 1); os.dup2(null, 2)
errors.plain("to stderr"); access.write(None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("x\n", "to stderr\n")


def test_a_closed_stderr_is_no_reason_not_to_start() -> None:
    """`2>&-`, as some init scripts have it."""
    script = "from lastcall.runtime.logs import ErrorLog; ErrorLog('-').plain('x'); print('ok')"
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, script]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"ok\n"


# --- Reopening ---------------------------------------------------------------


def test_reopen_begins_a_new_file_and_keeps_the_descriptor(log: ErrorLog) -> None:
    """A tool such as logrotate moves the file away; whoever knows the descriptor's number need not be told."""
    fd = log.fileno()
    log.emit(Level.ERROR, "one")
    Path(log.path).rename(log.path + ".1")
    assert log.reopen() == ""
    log.emit(Level.ERROR, "two")
    assert (log.fileno(), lines_of(log)) == (fd, ["ERROR: two"])


def test_a_log_that_cannot_be_reopened_stays_where_it_is(tmp_path: Path) -> None:
    """And says why."""
    (tmp_path / "logs").mkdir()
    log = ErrorLog(str(tmp_path / "logs" / "error.log"))
    (tmp_path / "logs").rename(tmp_path / "moved")
    assert log.reopen() == f"unable to re-open {log.path}: No such file or directory"
    log.emit(Level.ERROR, "still here")
    assert "still here" in (tmp_path / "moved" / "error.log").read_text()


def test_replace_takes_the_descriptor_over(log: ErrorLog, tmp_path: Path) -> None:
    """The master opens the new file, a worker receives it."""
    fd = logs.open_log(str(tmp_path / "new.log"))
    log.replace(fd)
    log.plain("here")
    assert (tmp_path / "new.log").read_text() == "here\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_no_line_is_lost_while_threads_write_and_the_log_is_replaced(log: ErrorLog, tmp_path: Path) -> None:
    """The new file is put in place at once: there is no moment without one."""
    names = [str(tmp_path / f"{number}.log") for number in range(20)]

    def write() -> None:
        for _ in range(500):
            log.plain("x" * 50)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in names:
        log.replace(logs.open_log(name))
    for thread in threads:
        thread.join()
    written = "".join(Path(name).read_text() for name in (log.path, *names))
    assert written == ("x" * 50 + "\n") * 1500


def test_processes_that_share_a_log_do_not_mix_their_lines(log: ErrorLog) -> None:
    """One write a note, to the end of the file, wherever that is."""
    pids = []
    for letter in "abcd":
        pid = os.fork()
        if pid == 0:
            for _ in range(200):
                log.plain(letter * 5000)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = Path(log.path).read_text().splitlines()
    assert sorted(lines) == sorted(letter * 5000 for letter in "abcd" for _ in range(200))


# --- Full disks, readers that are gone or slow -------------------------------


def test_a_full_disk_is_survived_and_confessed(log: ErrorLog, tmp_path: Path) -> None:
    """The next line that goes through says how many did not."""
    log.replace(os.open("/dev/full", os.O_WRONLY))
    for _ in range(3):
        log.emit(Level.ERROR, "into the void")
    log.replace(logs.open_log(str(tmp_path / "new.log")))
    log.emit(Level.ERROR, "back")
    log.path = str(tmp_path / "new.log")
    assert lines_of(log) == ["WARNING: 3 lines were lost: No space left on device", "ERROR: back"]


def test_a_line_that_was_torn_by_a_full_disk_is_ended_before_the_next(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: the kernel writes what fits, and refuses the rest."""
    script = """
import resource, sys
from lastcall.runtime.logs import ErrorLog
log = ErrorLog(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))
log.plain("0123456789"); log.plain("abcdefghij"); log.plain("lost")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
log.plain("back")
"""
    path = tmp_path / "torn.log"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    first, torn, confession, back = path.read_text().splitlines()
    assert (first, torn, back) == ("0123456789", "abcd", "back")
    assert confession.endswith("WARNING: 2 lines were lost: File too large")


def test_a_reader_that_is_gone_is_survived(tmp_path: Path) -> None:
    """`lastcall serve 2>&1 | head` must not kill the service."""
    reader, writer = os.pipe()
    log = piped(tmp_path, writer)
    os.close(reader)
    log.emit(Level.ERROR, "to nobody")
    log.replace(logs.open_log(str(tmp_path / "new.log")))
    log.emit(Level.ERROR, "back")
    os.close(writer)
    assert "1 line was lost: Broken pipe" in (tmp_path / "new.log").read_text()


def test_a_reader_that_does_not_read_holds_nobody_up(pipe: Pipe, tmp_path: Path) -> None:
    """The first line waits for it a moment, the others not at all; what it missed, it is told."""
    log = piped(tmp_path, pipe.writer)
    pipe.fill()
    for _ in range(1000):
        log.emit(Level.ERROR, "unread")
    assert os.get_blocking(pipe.writer)
    pipe.read()
    log.emit(Level.ERROR, "back")
    assert re.sub(STAMP.encode(), b"", pipe.read()) == (
        b" WARNING: 1000 lines were lost: Resource temporarily unavailable\n ERROR: back\n"
    )


def test_a_kernel_that_cannot_be_asked_not_to_wait_is_asked_whether_it_would(pipe: Pipe, tmp_path: Path) -> None:
    """RWF_NOWAIT is not known for pipes before Linux 6.5, nor for terminals on any."""
    log = piped(tmp_path, pipe.writer)
    log._out._can_ask = False
    log.plain("one")
    assert pipe.read() == b"one\n"
    pipe.fill()
    log.plain("two")
    pipe.read()
    log.plain("three")
    assert pipe.read().endswith(b"WARNING: 1 line was lost: Resource temporarily unavailable\nthree\n")


def test_a_terminal_is_written_to(tmp_path: Path) -> None:
    """Without a word about waiting: its flags are shared with the shell."""
    master, terminal = os.openpty()
    log = piped(tmp_path, terminal)
    log.plain("hello")
    assert os.read(master, 100) == b"hello\r\n"
    os.close(master)
    os.close(terminal)


def test_a_socket_is_written_to(tmp_path: Path) -> None:
    """The journal of systemd gives a service one for stdout and stderr."""
    here, there = socket.socketpair()
    with here, there:
        piped(tmp_path, here.fileno()).plain("hello")
        assert there.recv(100) == b"hello\n"


def test_a_long_note_crosses_a_pipe_in_pieces_each_of_which_is_whole(pipe: Pipe, tmp_path: Path) -> None:
    """A pipe keeps 4,096 bytes together and no more; the pieces are cut at line breaks where there are any."""
    log = piped(tmp_path, pipe.writer)
    log.emit(Level.ERROR, "Traceback\n" + "\n".join(f"line {number} {'x' * 90}" for number in range(100)))
    lines = pipe.read().decode().splitlines()
    heads = [line for line in lines if line.startswith("[")]
    assert heads[0].endswith("ERROR: Traceback")
    assert all("ERROR: ... " in head for head in heads[1:])
    assert len(heads) == 3
    assert sum("x" * 90 in line for line in lines) == 100


def test_a_fifo_that_nobody_reads_is_an_error_and_no_wait(tmp_path: Path) -> None:
    """Opened in the ordinary way it would block for ever."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError) as caught:
        ErrorLog(str(tmp_path / "fifo"))
    assert caught.value.errno == errno.ENXIO


# --- The access log ----------------------------------------------------------


def test_the_access_log_has_a_line_a_request(log: ErrorLog, tmp_path: Path) -> None:
    """As its format says."""
    access = AccessLog(str(tmp_path / "access.log"), accesslog.compile("%R %m %r %s"), log)
    access.write(record("/a"))
    access.write(record("/b"))
    assert Path(access.path).read_text() == "192.0.2.1 GET /a 200\n192.0.2.1 GET /b 200\n"


def test_that_access_lines_are_lost_is_said_in_the_error_log(log: ErrorLog, tmp_path: Path) -> None:
    """When it begins and when it is over: its own lines are for programs."""
    access = AccessLog("/dev/full", accesslog.compile("%r"), log)
    for _ in range(5):
        access.write(record())
    access.replace(logs.open_log(str(tmp_path / "access.log")))
    access.write(record("/back"))
    assert (tmp_path / "access.log").read_text() == "/back\n"
    assert lines_of(log) == [
        "ERROR: access log /dev/full: lines are being lost: No space left on device",
        "ERROR: access log /dev/full: 5 lines were lost: No space left on device",
    ]


# --- What workers print ------------------------------------------------------


def test_lines_come_out_however_they_are_cut() -> None:
    """With the carriage return of programs that think they are at a terminal taken off."""
    for size in (1, 2, 3, 7, 100):
        lines, data, out = Lines(), "été\r\n\nzwei\nrest".encode(), []
        for at in range(0, len(data), size):
            out += lines.feed(data[at : at + size])
        assert (out, lines.flush(), lines.flush()) == (["été", "", "zwei"], ["rest"], [])


def test_a_line_without_end_is_cut_at_8_kib_between_characters() -> None:
    """An application that prints a megabyte without a line break costs no more than that."""
    lines = Lines()
    out = [line for _ in range(100) for line in lines.feed("é".encode() * 5000)] + lines.flush()
    assert "".join(out) == "é" * 500_000
    assert max(len(line.encode()) for line in out) <= logs.SAID_MAX


def test_what_is_no_utf8_is_shown_and_not_guessed() -> None:
    """Byte by byte."""
    assert Lines().feed(b"a\xff\n") == ["a\\xff"]


def test_output_becomes_notes_and_the_rest_is_flushed_at_its_end() -> None:
    """A worker that dies in the middle of a line has said that line."""
    reader, writer = os.pipe()
    output = OutputReader(reader, "app", 7, "stderr")
    assert output.read() == []
    os.write(writer, b"one\ntw")
    assert output.read() == [notes.Said("app", 7, "stderr", "one")]
    os.write(writer, b"o\nend")
    os.close(writer)
    assert output.read() == [notes.Said("app", 7, "stderr", "two")]
    assert (output.closed, output.read(), output.closed) == (False, [notes.Said("app", 7, "stderr", "end")], True)
    assert output.close() == []


def test_closing_early_loses_nothing_that_was_said() -> None:
    """A grandchild may hold the pipe open long after its worker is gone."""
    reader, writer = os.pipe()
    output = OutputReader(reader, "app", 7, "stdout")
    os.write(writer, b"one\n" * 10_000 + b"end")
    said = output.close()
    os.close(writer)
    assert [len(said), said[-1].said] == [10_001, "end"]


def test_output_is_relayed_as_notes_or_as_it_was(log: ErrorLog) -> None:
    """As php-fpm's decorate_workers_output."""
    said = [notes.Said("app", 7, "stdout", "hello")]
    logs.relay(log, said, decorate=True)
    logs.relay(log, said, decorate=False)
    assert lines_of(log) == ['WARNING: [pool app] child 7 said into stdout: "hello"', "hello"]


def test_whoever_leaves_a_pipe_takes_nothing_with_it() -> None:
    """A worker is born with copies of its siblings' pipes, and what they say is the master's to hear."""
    read, write = os.pipe()
    output, copy = OutputReader(read, "app", 7, "stdout"), OutputReader(os.dup(read), "app", 7, "stdout")
    os.write(write, b"filling\n")
    copy.leave()
    assert [said.said for said in output.read()] == ["filling"]
    os.close(write)
    output.close()
