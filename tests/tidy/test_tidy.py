"""The house rules that a linter does not know (docs/CONTRIBUTING.md), and docs that have to agree with the code."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.core import exits
from lastcall.runtime import master
from lastcall.runtime.worker import boot
from support.processes import ROOT

SOURCE = ROOT / "src" / "lastcall"
FUNCTION_LINES = 50
MODULE_LINES = 850
CATCH_ALLS = {
    ("gateway/wsgi.py", "run"),
    ("durable/run.py", "_first"),
    ("durable/run.py", "_checked"),
    ("durable/wsgi.py", "_run"),
    ("gateway/wsgi.py", "_close"),
    ("gateway/loading.py", "load"),
    ("gateway/loading.py", "_import"),
    ("gateway/warmup.py", "_call"),
    ("runtime/worker/boot.py", "become_worker"),
    ("runtime/holder.py", "become_holder"),
    ("runtime/errand.py", "run_errand"),
    ("tools/reconcile/command.py", "reconcile"),
    ("tools/reconcile/repair.py", "_run"),
}
"""Where everything may be caught: around the application's code, and at the outermost frame of a process of ours."""
CLEAN_UP = {
    ("runtime/sockets.py", "_tcp"),
    ("durable/files.py", "connect"),
    ("durable/seen.py", "__init__"),
    ("runtime/sockets.py", "_unix"),
    ("runtime/serve.py", "_begin"),
    ("runtime/service.py", "claim"),
    ("tools/client.py", "__init__"),
}
"""Where everything is caught, cleaned up after, and raised again."""
BANNED_WORDS = ("parent", "arbiter", "monitor")
"""STYLE: one concept, one word. Field names that others gave (`os.getppid`, `Path.parent`) are theirs."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    """At most 50 lines: a function that is longer decides and computes at once."""
    tree = ast.parse(path.read_text())
    long = [
        f"{f.name}: {(f.end_lineno or 0) - f.lineno + 1}"
        for f in functions(tree)
        if (f.end_lineno or 0) - f.lineno >= FUNCTION_LINES
    ]
    assert long == []


def test_no_module_is_a_book() -> None:
    """A module that grows past this has two subjects."""
    long = {str(path): len(path.read_text().splitlines()) for path in modules()}
    assert {path: lines for path, lines in long.items() if lines > MODULE_LINES} == {}


def test_everything_is_caught_only_where_it_is_named_here() -> None:
    """`except Exception`, `except BaseException` and bare `except` hide bugs everywhere else."""
    found = set()
    for path in modules():
        for function in functions(ast.parse(path.read_text())):
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and (
                    node.type is None
                    or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
                ):
                    found.add((str(path.relative_to(SOURCE)), function.name))
    assert found - CLEAN_UP == CATCH_ALLS


def test_nobody_sleeps() -> None:
    """Neither the product nor a test waits by sleeping: it waits for the event, with a deadline."""
    files = [*modules(), *(ROOT / "tests").rglob("test_*.py")]
    sleepers = {
        str(path.relative_to(ROOT))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "sleep"
    }
    assert sleepers == set()


def test_our_words_are_the_glossarys() -> None:
    """Names of ours hold no word that stands for one of the glossary's."""
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
            found += [f"{path.name}: {name}" for word in BANNED_WORDS if word in name.lower()]
    assert found == []


def test_no_path_of_a_machine_and_no_registry_is_written_down() -> None:
    """What is committed works anywhere."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    foreign = re.compile(r"/work/|/tmp/venv|pypi\.org|deb\.debian\.org|registry\.npmjs", re.IGNORECASE)  # fmt: skip
    found = [
        name
        for name in names
        if (ROOT / name).is_file()
        and name != "tests/tidy/test_tidy.py"
        and foreign.search((ROOT / name).read_text(errors="replace"))
    ]
    assert found == []


# --- Docs that repeat the code -----------------------------------------------


def test_the_page_on_signals_names_each_that_the_master_hears() -> None:
    """docs/SIGNALS.md has a row for every signal of the tables, and none for others."""
    page = (ROOT / "docs" / "SIGNALS.md").read_text()
    to_master, _, to_worker = page.partition("## To a worker")
    rows = set(re.findall(r"^\| (SIG[A-Z0-9]+) \|", to_master, re.MULTILINE))
    assert rows == {signal.Signals(number).name for number in master.SIGNALS}
    heard = {signal.Signals(number).name for number in (*boot.DRAIN_SIGNALS, *boot.HEARD_BY_MASTER)}
    assert heard <= set(re.findall(r"SIG[A-Z0-9]+", to_worker))


def test_the_signal_names_are_this_systems() -> None:
    """`core.exits` has a table because the core has no `signal` module; it is compared with it here."""
    known = {number.value: number.name for number in signal.Signals if number.value < 32}
    for number, name in exits.SIGNALS.items():
        assert known.get(number, name) in (name, "SIGABRT", "SIGIO", "SIGCHLD"), (number, name)


def test_every_page_of_the_docs_is_in_the_reading_order() -> None:
    """A page that docs/README.md does not name is not found."""
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and page.name not in index
    ]
    assert missing == []


def test_the_architecture_names_every_module() -> None:
    """A reader finds the room for a change in docs/ARCHITECTURE.md."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    missing = [
        str(path.relative_to(SOURCE))
        for path in modules()
        if path.name not in ("__init__.py", "__main__.py") and path.name not in page
    ]
    assert missing == []
