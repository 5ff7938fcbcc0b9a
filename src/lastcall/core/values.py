"""How a setting's value is written: text and TOML values to checked values, and back to words.

`read` takes text (command line, environment), `take` a typed value (TOML); both return the value in its canonical
form or raise Mistake. `show` gives text that `read` reads.
"""

from __future__ import annotations

import ipaddress
from typing import assert_never

from lastcall.core import address, quantities
from lastcall.core.mistakes import Mistake
from lastcall.core.settings import DEFAULT_HTTP, Kind, Spec, Value

UNLIMITED = -1
"""RLIM_INFINITY, as the `resource` module has it."""

_YES = frozenset({"1", "yes", "true", "on"})
_NO = frozenset({"0", "no", "false", "off"})


def read(spec: Spec, text: str) -> Value:
    """The value of a text from the command line or the environment. Raises Mistake.

    Several addresses are separated by commas.
    """
    match spec.kind:
        case Kind.TEXT | Kind.CHOICE | Kind.PATH | Kind.LOG:
            return checked(spec, text)
        case Kind.FLAG:
            if text.lower() not in _YES | _NO:
                raise Mistake(f"{text!r} is neither yes nor no", "write yes or no, true or false, on or off, 1 or 0")
            return text.lower() in _YES
        case Kind.COUNT:
            return checked(spec, quantities.parse_count(text))
        case Kind.LIMIT:
            return UNLIMITED if text == "unlimited" else checked(spec, quantities.parse_count(text))
        case Kind.DURATION:
            return checked(spec, quantities.parse_duration(text))
        case Kind.SIZE:
            return checked(spec, quantities.parse_size(text))
        case Kind.MODE:
            return checked(spec, quantities.parse_mode(text))
        case Kind.ADDRESSES | Kind.NETWORKS | Kind.TEXTS:
            return checked(spec, tuple(part.strip() for part in text.split(",") if part.strip()))
        case _:
            assert_never(spec.kind)


def take(spec: Spec, value: object) -> Value:
    """The value of a typed one, as TOML has it. Raises Mistake.

    Durations, sizes and modes may also be written as text, a list of one as its only item.
    """
    match spec.kind, value:
        case (Kind.FLAG, bool()):
            return value
        case (_, bool()):
            pass
        case (Kind.COUNT | Kind.LIMIT, int()):
            return checked(spec, value)
        case (Kind.SIZE, int()):
            return checked(spec, quantities.checked_size(value))
        case (Kind.MODE, int()):
            return checked(spec, quantities.checked_mode(value))
        case (Kind.DURATION, int() | float()):
            return checked(spec, quantities.checked_duration(value))
        case (Kind.LIMIT, "unlimited"):
            return UNLIMITED
        case (Kind.FLAG | Kind.COUNT | Kind.LIMIT, str()):
            pass
        case (Kind.ADDRESSES | Kind.NETWORKS | Kind.TEXTS, list()):
            other = next((item for item in value if not isinstance(item, str)), None)
            if other is not None:
                text = f"{_described(other)} stands where a list of texts is expected"
                raise Mistake(text, f"write {spec.name} = {example(spec)}")
            return checked(spec, tuple(str(item) for item in value))
        case (_, str()):
            return read(spec, value)
    raise Mistake(
        f"{_described(value)} stands where {_expected(spec)} is expected", f"write {spec.name} = {example(spec)}"
    )


def checked(spec: Spec, value: Value) -> Value:
    """The same value, within the setting's bounds and in its canonical form. Raises Mistake."""
    match value:
        case str():
            return _checked_text(spec, value)
        case tuple():
            return _checked_items(spec, value)
        case int() | float() if not spec.least <= value <= spec.most:
            least, most = (show_number(spec, bound) for bound in (spec.least, spec.most))
            bounds = f"{least} or more" if spec.most == float("inf") else f"{least} to {most}"
            low = "small" if value < spec.least else "large"
            raise Mistake(f"{show_number(spec, value)} is too {low}", f"write {bounds}")
        case _:
            return value


def _checked_text(spec: Spec, value: str) -> str:
    if "\0" in value or "\n" in value:
        raise Mistake(f"{value!r} holds a zero byte or a line break", "leave it out")
    if spec.choices and value not in spec.choices:
        raise Mistake(f"{value!r} is not one of the choices", f"write {_or(spec.choices)}")
    if spec.check is not None:
        spec.check(value)
    return value


def _checked_items(spec: Spec, items: tuple[str, ...]) -> tuple[str, ...]:
    if spec.kind is Kind.ADDRESSES:
        return tuple(str(address.parse(item)) for item in items)
    if spec.kind is Kind.TEXTS:
        return tuple(_checked_text(spec, item) for item in items)
    return tuple(_network(item.strip()) for item in items)


def _network(text: str) -> str:
    if text in ("*", "unix"):
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        hint = "10.0.0.0/8" if "host bits" not in str(error) else str(ipaddress.ip_network(text, strict=False))
        raise Mistake(f"{text!r} is not an address or a network", f"write 127.0.0.1, {hint}, unix or *") from None
    return str(network) if "/" in text else str(network.network_address)


# --- Words -------------------------------------------------------------------


def show(spec: Spec, value: Value) -> str:
    """The value as one may write it on the command line; empty for an empty one."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return show_number(spec, value)
        case str():
            return value
        case tuple():
            return ",".join(value)
        case _:
            assert_never(value)


def show_number(spec: Spec, value: float) -> str:
    """A number in its setting's unit."""
    match spec.kind:
        case Kind.DURATION:
            return quantities.format_duration(value)
        case Kind.SIZE if value >= 0 and value == int(value):
            return quantities.format_size(int(value))
        case Kind.MODE:
            return quantities.format_mode(int(value))
        case Kind.LIMIT if value == UNLIMITED:
            return "unlimited"
        case _:
            return str(value)


def default_words(spec: Spec) -> str:
    """The default for the help: `1m`, `0: never`, or what an empty one stands for."""
    shown = show(spec, spec.default)
    return ": ".join(part for part in (shown, "" if spec.default else spec.zero) if part)


def example(spec: Spec) -> str:
    """A value as TOML has it, for a message: the default, or a likely one."""
    match spec.kind:
        case Kind.FLAG:
            return "true" if spec.default else "false"
        case Kind.COUNT:
            return str(spec.default)
        case Kind.LIMIT:
            return '65536 or "unlimited"'
        case Kind.DURATION | Kind.SIZE:
            return f'"{show(spec, spec.default)}"'
        case Kind.MODE:
            return '"0660"' if spec.default else '"0022"'
        case Kind.ADDRESSES:
            return f'["{DEFAULT_HTTP}"]'
        case Kind.NETWORKS:
            return '["127.0.0.1", "10.0.0.0/8"]'
        case Kind.TEXTS:
            return f'["{spec.metavar}"]'
        case Kind.TEXT | Kind.CHOICE | Kind.PATH | Kind.LOG:
            return f'"{show(spec, spec.default) or spec.metavar}"'
        case _:
            assert_never(spec.kind)


def _described(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value!r}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or a time"


def _expected(spec: Spec) -> str:
    match spec.kind:
        case Kind.FLAG:
            return "true or false"
        case Kind.ADDRESSES | Kind.NETWORKS | Kind.TEXTS:
            return "a list of texts"
        case Kind.TEXT | Kind.CHOICE | Kind.PATH | Kind.LOG:
            return "a text"
        case Kind.COUNT | Kind.LIMIT | Kind.DURATION | Kind.SIZE | Kind.MODE:
            return f"a {spec.kind.value}" if spec.kind is not Kind.MODE else "an octal mode"
        case _:
            assert_never(spec.kind)


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
