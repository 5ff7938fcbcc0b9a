"""The table of settings: consistent in itself, and every value written as it is read."""

from __future__ import annotations

import dataclasses
import typing
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.core import values
from lastcall.core.address import Address
from lastcall.core.mistakes import Mistake
from lastcall.core.settings import SPECS, Kind, Settings, Spec, Value, build

TYPES = {
    Kind.TEXT: str, Kind.CHOICE: str, Kind.PATH: str, Kind.LOG: str, Kind.FLAG: bool,
    Kind.COUNT: int, Kind.SIZE: int, Kind.MODE: int, Kind.LIMIT: int, Kind.DURATION: float,
    Kind.ADDRESSES: tuple[str, ...], Kind.NETWORKS: tuple[str, ...], Kind.TEXTS: tuple[str, ...],
}  # fmt: skip
EVERY = list(SPECS.values())


def _names(spec: Spec) -> str:
    return spec.name


@pytest.mark.parametrize("spec", EVERY, ids=_names)
def test_a_settings_kind_yields_its_fields_type(spec: Spec) -> None:
    """`build` relies on it; a field that may be None stands for `leave it as it is`."""
    hint = typing.get_type_hints(Settings)[spec.name]
    assert hint in (TYPES[spec.kind], TYPES[spec.kind] | None)
    assert (spec.default is None) == (hint == TYPES[spec.kind] | None)


@pytest.mark.parametrize("spec", EVERY, ids=_names)
def test_each_setting_has_words_and_a_sound_default(spec: Spec) -> None:
    """One sentence, a name for the value, and a default that its own check accepts."""
    assert spec.doc.endswith(".")
    assert spec.metavar or spec.kind is Kind.FLAG or spec.choices
    assert values.default_words(spec)
    assert values.checked(spec, spec.default) == spec.default
    assert values.example(spec)


@pytest.mark.parametrize("spec", EVERY, ids=_names)
def test_a_shown_default_is_read_back(spec: Spec) -> None:
    """What `lastcall check --show` prints can be given on the command line."""
    shown = values.show(spec, spec.default)
    if shown:
        assert values.read(spec, shown) == spec.default


def test_settings_are_frozen_and_slotted() -> None:
    """Nobody changes them after they were checked."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().workers = 3  # type: ignore[misc]
    assert not hasattr(Settings(), "__dict__")


def test_names_are_derived_from_one_table() -> None:
    """The option, the variable; the application is the command's argument."""
    assert SPECS["max_requests"].option == "--max-requests"
    assert SPECS["max_requests"].variable == "LASTCALL_MAX_REQUESTS"
    assert SPECS["app"].option == "APP"
    assert list(SPECS) == [field.name for field in dataclasses.fields(Settings)]


def test_the_options_that_were_promised_exist() -> None:
    """Scripts rely on these names."""
    promised = (
        "--http --fastcgi --workers --threads --max-requests --pid --run-dir --error-log --access-log --access-format "
        "--app-dir --chdir --factory --user --group --umask --daemon"
    )
    assert set(promised.split()) <= {spec.option for spec in EVERY}


def test_listeners_are_the_addresses_with_their_protocol() -> None:
    """In the order given, HTTP first."""
    settings = build({"http": ("[::1]:0",), "fastcgi": ("unix:/f",)})
    assert settings.listeners == (("http", Address("tcp6", "::1", 0)), ("fastcgi", Address("unix", path="/f")))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("app", "gift.app:make_app()", "gift.app:make_app()"),
        ("factory", "on", True),
        ("factory", "NO", False),
        ("workers", "4", 4),
        ("drain_timeout", "2m", 120.0),
        ("max_body", "0", 0),
        ("umask", "022", 0o022),
        ("rlimit_core", "unlimited", values.UNLIMITED),
        ("rlimit_files", "65536", 65536),
        ("http", "8000, unix:/run/x", ("127.0.0.1:8000", "unix:/run/x")),
        ("forwarded_allow_ips", "10.0.0.0/8,2001:DB8::1,unix,*", ("10.0.0.0/8", "2001:db8::1", "unix", "*")),
        ("log_level", "debug", "debug"),
        ("warmup", "/warm?a=1, gift.cache:fill", ("/warm?a=1", "gift.cache:fill")),
    ],
)
def test_text_is_read(name: str, text: str, value: Value) -> None:
    """From the command line and the environment; lists are separated by commas."""
    assert values.read(SPECS[name], text) == value


@pytest.mark.parametrize(
    ("name", "given_value", "value"),
    [
        ("factory", True, True),
        ("workers", 4, 4),
        ("drain_timeout", 120, 120.0),
        ("drain_timeout", 0.5, 0.5),
        ("drain_timeout", "2m", 120.0),
        ("max_body", 16, 16),
        ("max_body", "16MiB", 16 << 20),
        ("socket_mode", 0o600, 0o600),
        ("socket_mode", "0600", 0o600),
        ("rlimit_core", "unlimited", values.UNLIMITED),
        ("http", "8000", ("127.0.0.1:8000",)),
        ("http", ["8000", "unix:/a,b"], ("127.0.0.1:8000", "unix:/a,b")),
        ("http", [], ()),
        ("warmup", ["/a,b"], ("/a,b",)),
    ],
)
def test_typed_values_are_taken(name: str, given_value: object, value: Value) -> None:
    """From TOML; items of a list are whole, commas included."""
    assert values.take(SPECS[name], given_value) == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("workers", "two", "not a whole number"),
        ("workers", "0", "0 is too small (write 1 to 200)"),
        ("workers", "5000", "5000 is too large"),
        ("max_head", "17MiB", "17MiB is too large (write 512 to 16MiB)"),
        ("umask", "1777", "1777 is too large"),
        ("factory", "maybe", "neither yes nor no"),
        ("worker", "gevent", "write auto, sync or threads"),
        ("app", "gift/app.py", "gift.app:app for gift/app.py"),
        ("app", "a:b:c", "does not name an application"),
        ("pool", "my pool", "cannot be a pool's name"),
        ("ready_path", "ready", "is no path of a request"),
        ("pid", "a\0b", "zero byte"),
        ("http", "8000,x", "'x' has no port"),
        ("forwarded_allow_ips", "10.0.0.1/8", "10.0.0.0/8"),
        ("forwarded_allow_ips", "nginx", "not an address or a network"),
        ("drain_timeout", "30d", "cannot be waited for"),
        ("warmup", "/ok,warm", "'warm' is nothing that an application can be warmed up with"),
        ("warmup", "/w\u00e4rm", "write a path"),
        ("on_cut", "gift.repair", "write module:function"),
        ("trace_header", "X Trace", "cannot be a header's name"),
        ("replay_routes", "/ok/* none,/search", "'/search' is no route with a rule"),
    ],
)
def test_a_wrong_text_is_a_mistake_with_a_remedy(name: str, text: str, said: str) -> None:
    """Each says what was written, and what to write."""
    with pytest.raises(Mistake) as caught:
        values.read(SPECS[name], text)
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "given_value", "said"),
    [
        ("workers", "4", "the text '4' stands where a number is expected (write workers = 2)"),
        ("workers", True, "true stands where a number is expected"),
        ("workers", 1.5, "the number 1.5 stands where a number is expected"),
        ("drain_timeout", [], "a list stands where a duration is expected"),
        ("drain_timeout", float("nan"), "cannot be waited for"),
        ("factory", 1, "write factory = false"),
        ("factory", "yes", "the text 'yes' stands where true or false is expected"),
        ("app", 3, "the number 3 stands where a text is expected"),
        ("http", [8000], "the number 8000 stands where a list of texts is expected"),
        ("http", {"a": 1}, "a table stands where"),
        ("max_body", -1, "cannot be counted"),
        ("socket_mode", 0o10000, "not a file mode"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_mistake_with_an_example(name: str, given_value: object, said: str) -> None:
    """The example is a line that could stand in the file."""
    with pytest.raises(Mistake) as caught:
        values.take(SPECS[name], given_value)
    assert said in str(caught.value)


@given(st.sampled_from(EVERY), st.text(max_size=20))
def test_any_text_is_a_value_or_a_mistake(spec: Spec, text: str) -> None:
    """And what is accepted is shown in a form that is read as the same."""
    try:
        value = values.read(spec, text)
    except Mistake:
        return
    shown = values.show(spec, value)
    assert not shown or values.read(spec, shown) == value


TOML_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(EVERY), TOML_VALUES)
def test_any_typed_value_is_a_value_or_a_mistake(spec: Spec, value: object) -> None:
    """Whatever TOML can hold."""
    with suppress(Mistake):
        values.take(spec, value)
