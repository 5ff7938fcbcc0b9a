"""A slot that is written by one process and read by another: what a request says of itself is there, and nobody else's."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import lastcall
from lastcall.core.slot import LANES, RING, STEP_BYTES, STEPS, Lane
from lastcall.gateway import marks
from lastcall.runtime.board import Board, SlotWriter


@pytest.fixture
def board(folder: Path) -> Board:
    return Board(folder / "board", create=True)


@pytest.fixture
def slot(board: Board) -> SlotWriter:
    """Of a worker with three lanes."""
    return board.claim(5, pid=1, generation=1, serial=1, lanes=3)


def begin(slot: SlotWriter, lane: int = 0) -> int:
    """A request begins, and the rest of the test runs in it."""
    version = slot.begin(lane, time.monotonic(), f"r-{lane}", "GET", "/", "10.0.0.9", "t-1", 9)
    marks.begin(slot, lane, version)
    return version


def lane(board: Board, number: int = 0) -> Lane:
    (found,) = (lane for lane in board.read(5).lanes if lane.number == number)
    return found


def in_context(work: Callable[[], object]) -> None:
    """Run it as pytest would run another test: what it begins is begun for nobody else."""
    contextvars.copy_context().run(work)


def test_outside_of_a_request_nothing_happens() -> None:
    """An application, and its tests, may say where they are anywhere."""
    lastcall.step("sendPresent", "order-17")
    with lastcall.critical(), lastcall.critical():
        lastcall.step("saveOrder")


def test_steps_and_their_times(board: Board, slot: SlotWriter) -> None:
    """In order, with what each is about; any text does, also one that is none."""

    def work() -> None:
        begin(slot)
        lastcall.step("checkStock")
        lastcall.step("sendPresent", "order-17")
        lastcall.step("подарок")
        lastcall.step("\ud800")
        lastcall.step(7)  # type: ignore[arg-type]  # a slip that is seen in production only must not break a request

    in_context(work)
    found = lane(board)
    assert [step.words for step in found.steps] == ["checkStock", "sendPresent (order-17)", "подарок", "?", "7"]
    times = [found.begun, *(step.at for step in found.steps)]
    assert times == sorted(times)
    assert (found.forgotten, found.shortened, found.trace) == (0, (), "t-1")


def test_of_many_steps_the_latest_are_kept_and_the_others_counted(board: Board, slot: SlotWriter) -> None:
    """A request that loops does not push out that it has looped."""

    def work() -> None:
        begin(slot)
        for number in range(3 * RING):
            lastcall.step(f"step {number}")

    in_context(work)
    found = lane(board)
    assert [step.name for step in found.steps] == [f"step {n}" for n in range(3 * RING - STEPS, 3 * RING)]
    assert found.forgotten == 3 * RING - STEPS


def test_a_long_text_is_cut_between_letters_and_said_to_be(board: Board, slot: SlotWriter) -> None:
    """A key that is not whole must not be taken for one."""

    def work() -> None:
        begin(slot)
        lastcall.step("я" * 50)

    in_context(work)
    (step,) = lane(board).steps
    assert step.name == "я" * (STEP_BYTES // 2)
    assert lane(board).shortened == ("steps",)


def test_a_request_begins_without_steps(board: Board, slot: SlotWriter) -> None:
    """Neither those of the one before it in its lane, nor of those beside it."""

    def work() -> None:
        for number in range(RING + 2):
            begin(slot)
            lastcall.step(f"step {number}")
            slot.end(0)
        begin(slot, 1)
        lastcall.step("beside")
        begin(slot)

    in_context(work)
    assert lane(board).steps == ()
    assert [step.name for step in lane(board, 1).steps] == ["beside"]


def test_what_comes_late_is_said_of_nobody(board: Board, slot: SlotWriter) -> None:
    """A thread that goes on after its request's end does not speak for the next one."""

    def work() -> None:
        begin(slot)
        late = contextvars.copy_context()
        slot.end(0)
        begin(slot)
        late.run(lastcall.step, "late")
        late.run(lastcall.critical().__enter__)

    in_context(work)
    assert (lane(board).steps, lane(board).critical) == ((), 0.0)


def test_a_helper_thread_speaks_for_the_request_whose_context_it_has(board: Board, slot: SlotWriter) -> None:
    """One without it for none."""

    def work() -> None:
        begin(slot)
        helpers = [
            threading.Thread(target=contextvars.copy_context().run, args=(lastcall.step, "with")),
            threading.Thread(target=contextvars.Context().run, args=(lastcall.step, "without")),
        ]
        for helper in helpers:
            helper.start()
            helper.join()

    in_context(work)
    assert [step.name for step in lane(board).steps] == ["with"]


def test_a_forked_process_says_nothing(board: Board, slot: SlotWriter) -> None:
    """It may live on when the request is over, and its memory knows nothing of that."""

    def work() -> None:
        begin(slot)
        pid = os.fork()
        if pid == 0:
            slot.forget()
            lastcall.step("forked")
            with lastcall.critical():
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    in_context(work)
    assert (lane(board).steps, lane(board).critical) == ((), 0.0)


def test_a_point_of_no_return(board: Board, slot: SlotWriter) -> None:
    """Nested and entered again, it ends with the outermost; that it was passed stays."""
    seen: list[float] = []

    def work() -> None:
        begin(slot)
        block = lastcall.critical()
        seen.append(lane(board).critical)
        with block, lastcall.critical():
            with block:
                pass
            seen.append(lane(board).critical)
        seen.append(lane(board).critical)
        with pytest.raises(KeyError), lastcall.critical():
            raise KeyError
        seen.append(lane(board).critical)

    in_context(work)
    never, inside, after, again = seen
    assert never == 0.0
    assert inside > lane(board).begun
    assert again < after < 0


def test_a_slot_is_wiped_of_all_that_its_last_owner_had_begun(board: Board, slot: SlotWriter) -> None:
    """Whatever the number of lanes was, and will be."""
    for number in range(3):
        slot.begin(number, 1.0, "r", "GET", "/", "", "", 9)
    board.claim(5, pid=2, generation=1, serial=2, lanes=1)
    assert board.read(5).lanes == ()
    fresh = board.claim(5, pid=3, generation=1, serial=3, lanes=LANES)
    assert board.read(5).lanes == ()
    fresh.begin(LANES - 1, 1.0, "r", "GET", "/", "", "", 9)
    board.wipe(5)
    board.claim(5, pid=4, generation=1, serial=4, lanes=LANES)
    assert board.read(5).lanes == ()


def test_whoever_reads_while_steps_are_written_reads_whole_ones(board: Board, slot: SlotWriter) -> None:
    """However fast they come: some may be missing, none is half another."""
    over = threading.Event()

    def write() -> None:
        begin(slot)
        number = 0
        while not over.is_set():
            lastcall.step(f"{number}." * 8)
            number += 1

    writer = threading.Thread(target=contextvars.copy_context().run, args=(write,))
    writer.start()
    try:
        for _ in range(3000):
            for found in board.read(5).lanes:
                texts = [step.name for step in found.steps]
                assert all(len(set(text.split("."))) == 2 for text in texts), texts
    finally:
        over.set()
        writer.join()
