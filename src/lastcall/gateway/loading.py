"""Finds and imports the application: `module:callable`, `module:factory()`, `module`, or the one obvious candidate."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from lastcall.gateway.wsgi import Application

NAMES: Final = ("application", "app")
"""Attributes looked for when only a module is named. PEP 3333's examples and Django say the first, Flask the second."""
FILES: Final = ("wsgi.py", "app.py", "application.py", "main.py")
"""Files looked for when nothing is named."""
FRAMES_MAX: Final = 20


class LoadError(Exception):
    """The application cannot be loaded. The text is what the log shows: short, with a traceback where there was one."""


def load(spec: str, *, factory: bool, app_dir: str) -> Application:
    """Import the application. `app_dir` goes on sys.path first. Raises LoadError for whatever the import does."""
    directory = os.path.realpath(app_dir or ".")  # no Path: what a worker runs is memory that it has for itself
    if directory not in sys.path:
        sys.path.insert(0, directory)
    spec = spec or find(directory)
    module_name, _, attribute = spec.partition(":")
    if attribute.endswith("()"):
        attribute, factory = attribute[:-2], True
    module = _import(module_name, directory)
    target = _attribute(module, module_name, attribute)
    if factory:
        try:
            target = cast("Callable[[], object]", target)()
        except BaseException as error:
            raise LoadError(f"{spec}: the factory failed\n{readable(error)}") from error
    if not callable(target):
        raise LoadError(f"{spec} is no application: {type(target).__name__} cannot be called")
    return cast("Application", target)


def function(spec: str, app_dir: str) -> Callable[..., object]:
    """Import a function of the application, `module:name`. Raises LoadError."""
    directory = os.path.realpath(app_dir or ".")
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module_name, _, attribute = spec.partition(":")
    target = _attribute(_import(module_name, directory), module_name, attribute)
    if not callable(target):
        raise LoadError(f"{spec} is no function: {type(target).__name__} cannot be called")
    return cast("Callable[..., object]", target)


def find(directory: str) -> str:
    """The one obvious candidate: exactly one of FILES. Raises LoadError when there is none, or more than one."""
    found = [name for name in FILES if Path(directory, name).is_file()]
    if len(found) == 1:
        return found[0].removesuffix(".py")
    which = ", ".join(found) if found else "none of " + ", ".join(FILES)
    raise LoadError(
        f"no application was named, and {directory} holds {which}: name it, as in `lastcall serve module:app`"
    )


def _import(name: str, directory: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise LoadError(
                f"there is no module {name!r} in {directory} or on sys.path (--app-dir adds a folder)"
            ) from None
        raise LoadError(f"{name} could not be imported\n{readable(error)}") from error
    except BaseException as error:
        raise LoadError(f"{name} could not be imported\n{readable(error)}") from error


def _attribute(module: object, module_name: str, path: str) -> object:
    if path:
        target: object = module
        for part in path.split("."):
            try:
                target = getattr(target, part)
            except AttributeError:
                raise LoadError(f"{module_name} has no attribute {path!r}") from None
        return target
    for name in NAMES:
        target = getattr(module, name, None)
        if target is not None:
            return target
    raise LoadError(
        f"{module_name} has neither {NAMES[0]!r} nor {NAMES[1]!r}: name the callable, as in {module_name}:callable"
    )


def readable(error: BaseException, ours: str = __file__) -> str:
    """A traceback that begins where the user's code does: neither our frames, in the file `ours`, nor importlib's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != ours
        and not frame.filename.startswith("<frozen importlib")
        and "importlib" not in Path(frame.filename).parts
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames[-FRAMES_MAX:])] if frames else []
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()
