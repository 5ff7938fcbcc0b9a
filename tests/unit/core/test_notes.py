"""The log's vocabulary: names, levels and words that others' programs rely on."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from lastcall.core import notes
from lastcall.core.notes import Level, Note

KINDS = [each for _, each in inspect.getmembers(notes, inspect.isclass) if issubclass(each, Note) and each is not Note]

EXAMPLES: dict[str, object] = {"int": 7, "str": "x", "float": 1.5, "bool": False, "tuple[str, ...]": ("x",)}


def example(kind: type[Note]) -> Note:
    """A note of this kind, filled in by the types of its fields."""
    return kind(**{each.name: EXAMPLES[str(each.type)] for each in dataclasses.fields(kind)})


PHP_FPM = [
    (notes.ReadyToServe(), Level.NOTICE, "ready to handle connections"),
    (notes.Terminating(), Level.NOTICE, "Terminating ..."),
    (notes.Finishing(), Level.NOTICE, "Finishing ..."),
    (notes.Reloading(2), Level.NOTICE, "Reloading in progress ..."),
    (notes.ErrorLogReopened(), Level.NOTICE, "error log file re-opened"),
    (notes.AccessLogReopened(), Level.NOTICE, "access log file re-opened"),
    (notes.Bye(), Level.NOTICE, "exiting, bye-bye!"),
    (notes.ChildStarted("app", 7), Level.NOTICE, "[pool app] child 7 started"),
    (
        notes.ChildExited("app", 7, 0, 1.5, expected=False),
        Level.NOTICE,
        "[pool app] child 7 exited with code 0 after 1.500000 seconds from start",
    ),
    (
        notes.ChildExited("app", 7, 9, 1.5, expected=False),
        Level.WARNING,
        "[pool app] child 7 exited on signal 9 (SIGKILL) after 1.500000 seconds from start",
    ),
    (
        notes.ChildExited("app", 7, 9, 1.5, expected=True),
        Level.NOTICE,
        "[pool app] child 7 exited on signal 9 (SIGKILL) after 1.500000 seconds from start",
    ),
    (notes.Reexecuting("/bin/x", ("x", "serve")), Level.NOTICE, 'reloading: execvp("/bin/x", {"x", "serve"})'),
    (notes.Said("app", 7, "stderr", "oops"), Level.WARNING, '[pool app] child 7 said into stderr: "oops"'),
]


@pytest.mark.parametrize(("note", "level", "text"), PHP_FPM)
def test_where_php_fpm_has_the_event_the_words_are_its_own(note: Note, level: Level, text: str) -> None:
    """So that parsers and eyes that know its log know ours."""
    assert (note.level, note.text()) == (level, text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_note_has_a_level_and_words(kind: type[Note]) -> None:
    """And is frozen, and hashable: the machine's state may hold it."""
    note = example(kind)
    assert isinstance(note.level, Level)
    assert note.text()
    assert note.text() == note.text().strip()
    assert hash(note) == hash(example(kind))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_field_of_a_note_is_idle(kind: type[Note]) -> None:
    """What is not in the words is in the level, or is there for programs that read notes."""
    for_programs = {"Reloading": {"generation"}, "ChildExited": {"expected"}}
    fields = {each.name for each in dataclasses.fields(kind)} - for_programs.get(kind.__name__, set())
    note = example(kind)
    for name in fields:
        old = getattr(note, name)
        other = "other" if old == "x" else ("other",) if old == ("x",) else old + 1000
        assert dataclasses.replace(note, **{name: other}).text() != note.text(), name
