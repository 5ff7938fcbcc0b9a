"""Sources of settings: which one wins, where each value came from, and every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lastcall.config.origins import ConfigErrors, Loaded
from lastcall.config.sources import Sources
from lastcall.core import exits
from lastcall.core.settings import SPECS


def loaded(
    cli: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    directory: str = "/srv",
) -> Loaded:
    """What these sources give."""
    return Sources(cli or {}, environ or {}, file, Path(directory)).load()


def problems(
    cli: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> tuple[list[str], int]:
    """What is wrong with them, as printed, and the exit code."""
    with pytest.raises(ConfigErrors) as caught:
        loaded(cli, environ, file)
    return list(map(str, caught.value.problems)), caught.value.exit_code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A TOML file with three settings."""
    path = tmp_path / "lastcall.toml"
    path.write_text('workers = 3\n\npool = "file"\nthreads = 5\n')
    return path


def test_the_command_line_wins_then_the_environment_then_the_file(file: Path) -> None:
    """And each value remembers its origin."""
    found = loaded(
        {"workers": "7", "pool": None, "http": ()},
        {"LASTCALL_WORKERS": "6", "LASTCALL_POOL": "env", "WEB_CONCURRENCY": "9", "PORT": "80"},
        file,
    )
    assert (found.settings.workers, found.settings.pool, found.settings.threads) == (7, "env", 5)
    assert found.settings.http == ("0.0.0.0:80",)
    assert found.settings.backlog == SPECS["backlog"].default
    assert {name: found.origins[name] for name in ("workers", "pool", "threads", "http", "backlog")} == {
        "workers": "command line (--workers)",
        "pool": "environment (LASTCALL_POOL)",
        "threads": f"{file}:4",
        "http": "environment (PORT)",
        "backlog": "default",
    }
    assert list(found.places) == list(SPECS)


def test_a_platforms_variables_come_after_the_file(file: Path) -> None:
    """WEB_CONCURRENCY does not override what somebody has written down for us."""
    assert loaded(environ={"WEB_CONCURRENCY": "9"}, file=file).settings.workers == 3
    assert loaded(environ={"WEB_CONCURRENCY": "9"}).settings.workers == 9


@pytest.mark.parametrize("name", ["http", "fastcgi"])
def test_port_counts_only_where_no_listener_is_configured(name: str) -> None:
    """A FastCGI listener is one, too."""
    settings = loaded({name: ("unix:/run/x",)}, {"PORT": "80"}).settings
    assert getattr(settings, name) == ("unix:/run/x",)
    assert len(settings.listeners) == 1


def test_without_any_listener_there_is_the_default_one() -> None:
    """HTTP on 127.0.0.1:8000."""
    found = loaded()
    assert found.settings.http == ("127.0.0.1:8000",)
    assert found.origins["http"] == "default"


def test_a_source_replaces_a_list_and_never_adds_to_it() -> None:
    """Or nobody could listen on less than the file says."""
    assert loaded({"http": ("1", "2,3")}, {"LASTCALL_HTTP": "4"}).settings.http == (
        "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3",
    )  # fmt: skip


def test_a_flag_may_be_taken_back_on_the_command_line() -> None:
    """`--no-daemon` wins over the environment."""
    assert not loaded({"daemon": False}, {"LASTCALL_DAEMON": "yes"}).settings.daemon
    assert loaded({"daemon": None}, {"LASTCALL_DAEMON": "yes"}).settings.daemon


def test_an_empty_variable_is_as_good_as_none() -> None:
    """Compose files pass `LASTCALL_X=${X:-}`."""
    found = loaded(environ={"LASTCALL_WORKERS": "", "PORT": "", "WEB_CONCURRENCY": ""})
    assert found.origins["workers"] == "default"


def test_relative_paths_are_relative_to_where_they_stand(tmp_path: Path) -> None:
    """The file's directory, or the working directory; `-` and abstract sockets are no paths."""
    file = tmp_path / "x.toml"
    file.write_text('pid = "run/x.pid"\nhttp = ["unix:x.sock", "unix:@x"]\naccess_log = "-"\nerror_log = "../e.log"\n')
    settings = loaded({"access_log": "a.log"}, {"LASTCALL_TMP_DIR": "./t/../u"}, file).settings
    assert settings.pid == f"{tmp_path}/run/x.pid"
    assert settings.http == (f"unix:{tmp_path}/x.sock", "unix:@x")
    assert settings.error_log == f"{tmp_path.parent}/e.log"
    assert settings.access_log == "/srv/a.log"
    assert settings.tmp_dir == "/srv/u"
    assert loaded({"access_log": "-"}).settings.access_log == "-"
    assert loaded().settings.pid == ""


def test_a_relative_files_name_is_made_absolute(file: Path) -> None:
    """So that a reload finds it again after a chdir, and a message says which file it is."""
    found = loaded(file=Path(file.name), directory=str(file.parent))
    assert found.file == file
    assert found.origins["workers"] == f"{file}:1"


def test_a_socket_path_that_only_became_too_long_is_told() -> None:
    """The kernel's limit is about the absolute path."""
    with pytest.raises(ConfigErrors, match=r"the kernel takes 107.*choose a shorter path"):
        loaded({"http": ("unix:x.sock",)}, directory="/" + "d" * 100)


def test_all_mistakes_of_all_sources_are_told(file: Path) -> None:
    """Also of a source that another one hides."""
    file.write_text('workrs = 3\nworkers = "x"\n')
    said, code = problems(
        {"workers": "abc", "http": ("8000", "nowhere")},
        {"LASTCALL_WORKERS": "0", "WEB_CONCURRENCY": "many"},
        file,
    )
    assert said == [
        f"{file}:1: workrs: there is no such setting (did you mean workers?)",
        f"{file}:2: workers: the text 'x' stands where a number is expected (write workers = 2)",
        "environment: LASTCALL_WORKERS: 0 is too small (write 1 to 200)",
        "command line: --workers: 'abc' is not a whole number (write digits only: 4)",
        "command line: --http: 'nowhere' has no port (write host:port, [v6]:port or unix:/path)",
        "environment: WEB_CONCURRENCY: 'many' is not a whole number (write digits only: 4)",
    ]
    assert code == exits.CONFIG


def test_only_wrong_options_are_a_usage_error() -> None:
    """64, as php-fpm has it; anything else in it makes it 78."""
    assert problems({"workers": "abc"})[1] == exits.USAGE
    assert problems({}, {"PORT": "http"}) == (
        ["environment: PORT: '0.0.0.0:http' has no port, but 'http' (write host:port, [v6]:port or unix:/path)"],
        exits.CONFIG,
    )


def test_a_missing_file_is_a_problem_not_a_traceback() -> None:
    """With its absolute name."""
    said, code = problems({}, {}, Path("none.toml"))
    assert said == [
        "/srv/none.toml: cannot be read: No such file or directory (name a file that exists and that may be read)"
    ]
    assert code == exits.CONFIG


def test_a_likely_slip_in_a_variable_is_a_warning() -> None:
    """Others are not ours to judge: Kubernetes sets LASTCALL_SERVICE_HOST where a service has our name."""
    found = loaded(environ={"LASTCALL_WORKER_": "3", "LASTCALL_SERVICE_HOST": "10.0.0.1", "LASTCALL_CONFIG": "x"})
    assert list(map(str, found.warnings)) == [
        "warning: environment: LASTCALL_WORKER_: there is no such setting (did you mean LASTCALL_WORKER?)"
    ]


def test_reading_again_sees_the_file_as_it_is_then(file: Path) -> None:
    """What a reload does."""
    sources = Sources({}, {}, file)
    assert sources.load().settings.workers == 3
    file.write_text("workers = 8\n")
    assert sources.load().settings.workers == 8
