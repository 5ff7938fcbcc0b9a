"""The readers: what each takes from a file as users have it; and that none of them fails on anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall.tools.readers import (
    crontab,
    dockerfile,
    fpmconf,
    haproxy,
    ini,
    initscript,
    logrotate,
    nginxconf,
    orders,
    pyconf,
    shell,
    tasks,
    text,
    unit,
    yamlnodes,
)

# --- Anything at all ---------------------------------------------------------

PIECES = st.sampled_from([
    "\n", " ", "\t", "\r\n", "#", ";", "{", "}", "(", ")", "[", "]", "=", '"', "'", "\\", "\\\n", "$", "${", "$(", "`",
    "|", "&&", "||", "<<EOF", "EOF", "case $1 in", "esac", ";;", "a)", "f() {", "function g {", "if", "then", "fi",
    "kill -9 1", "systemctl restart x", "include *;", "[Service]", "ExecStart=", "- ", ": ", "---\n", "&a ", "*a ",
    "postrotate", "endscript", "/var/log/x {", "@reboot root x", "* * * * * root x %y", "FROM a AS b", "RUN <<X", "X",
    "server {", "listen 80;", "x_by_lua_block {", "{{ x }}", "<<: ", "é", "\x00", "\x0b", "\u2028", "def f(:", "-",
    "start-stop-daemon --stop --retry=QUIT/5/", "killproc -p", "xargs kill", "docker compose", "pm2 ", "python -m",
])  # fmt: skip
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map("".join))


def _again(pattern: str) -> list[tuple[str, str]]:
    return [("a", "include b;\ninclude = b\nserver {"), ("b", "include a;\n")] if pattern else []


READERS: dict[str, Callable[[str], object]] = {
    "crontab": lambda t: (crontab.parse(t, system=True), crontab.parse(t, system=False), crontab.parse_anacron(t)),
    "dockerfile": lambda t: [
        (found.exec_form(), found.command())
        for found in getattr(dockerfile.parse(t).final(), "instructions", ())
    ],
    "fpmconf": lambda t: fpmconf.parse("a", t, _again),
    "haproxy": haproxy.parse,
    "ini": lambda t: (ini.parse(t), ini.parse(t, folded=True, trailing="")),
    "initscript": lambda t: initscript.parse("x", t),
    "logrotate": logrotate.parse,
    "nginxconf": lambda t: list(nginxconf.parse("a", t, _again).walk()),
    "orders": orders.orders,
    "pyconf": pyconf.parse,
    "shell": lambda t: [shell.reach(shell.parse(t), "a")],
    "unit": lambda t: [unit.command(entry.value) for entry in unit.parse("x", [("x", t), ("y", t)]).entries],
    "yaml": lambda t: [list(tasks.found(node)) for node in yamlnodes.documents(t)[0]],
    "seconds": text.seconds,
    "redacted": text.redacted,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60, deadline=None)
@given(content=TEXTS)
def test_no_text_is_a_crash(reader: str, content: str) -> None:
    """Every reader takes every text."""
    READERS[reader](content)


@settings(max_examples=100, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), TEXTS.map(lambda t: t.encode("utf-16"))))
def test_no_bytes_are_a_crash(data: bytes) -> None:
    """They are a text, perhaps with a doubt, or none."""
    try:
        found, doubt = text.decode(data)
    except text.NotText:
        return
    assert isinstance(found + doubt, str)
    found.encode()


HOSTILE = (
    "[", "{ ", "a { ", "- ", "$(", "(", "case $1 in a) ", "f() { ", "sh -c '", "`", '"$(a)', "'", '"', "\\", "\n", " ", "a ",
    "a=", ";", "://a:", "<<", "<<A ", "${", "&&", "[a]", "x:\n ", "* ", '"`', "a \\\n", "| ", "*/", "1 ",
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_hostile_texts_are_no_crash_and_take_no_time(reader: str) -> None:
    """Deep nesting, quotes that never close, blanks: time grows with the text, not with its square."""
    for mark in HOSTILE:
        begun = time.process_time()
        READERS[reader](mark * (8_000 // len(mark)))
        READERS[reader](f"a{mark * (2_000 // len(mark))}b\n" * 3)
        assert time.process_time() - begun < 5, mark


# --- Texts and values --------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90", 90.0), ("1min 30s", 90.0), ("1m30s", 90.0), ("500ms", 0.5), ("infinity", text.FOREVER), ("2h", 7200.0),
        ("0", 0.0), ("", None), ("soon", None), ("{{ x }}", None), ("-5", None), ("1d", 86400.0),
    ],
)  # fmt: skip
def test_a_time_as_each_program_writes_it(value: str, expected: float | None) -> None:
    """systemd's, nginx's, php-fpm's, Go's; what is none is None, never a guess."""
    assert text.seconds(value) == expected


@pytest.mark.parametrize("value", ["{{ x }}", "${GRACE:-10s}", "$GRACE", "<%= x %>", "%(x)s", "@PHP_VERSION@"])
def test_a_value_that_somebody_fills_in_later(value: str) -> None:
    """Nobody can say what it is."""
    assert text.template(value)


def test_a_quote_may_stand_in_a_quoted_value() -> None:
    """php-fpm's access.format has them, behind a backslash; a path may end in one."""
    read = ini.parse('access.format = "%R \\"%m %r\\" %s"; a comment\npath = "C:\\"\nother = "a" ; b\n')
    assert [entry.value for entry in read.entries] == ['%R "%m %r" %s', "C:\\", "a"]


def test_passwords_are_not_quoted() -> None:
    """Neither those in addresses nor those behind their names."""
    line = "MONGO=mongodb://shop:hunter2@db/x?w=0 password=hunter2 api_key: 'hunter2'"
    assert "hunter2" not in text.redacted(line)
    assert "mongodb://shop:***@db/x?w=0" in text.redacted(line)


def test_encodings() -> None:
    """UTF-8 with a mark is UTF-8; Latin-1 and UTF-16 are read with a doubt; a binary is none."""
    assert text.decode(b"\xef\xbb\xbfa") == ("a", "")
    assert text.decode("ä".encode("latin-1"))[0] == "ä"
    assert text.decode("ä".encode("latin-1"))[1] != ""
    assert text.decode("a\n".encode("utf-16"))[1] != ""
    with pytest.raises(text.NotText):
        text.decode(b"\x7fELF\0\0")


# --- Files -------------------------------------------------------------------


def test_a_crontab() -> None:
    """Both forms, names of months, @reboot, the environment, and what stands behind a bare percent sign."""
    table = crontab.parse(
        "# restart, since 2012\nMAILTO=root\n28 5 * * * root /etc/init.d/php-fpm restart > /dev/null\n"
        "@reboot\twww\t/srv/start.sh\n0 0 1 jan,jul mon root date +\\%F%in\nnot a line\n",
        system=True,
    )
    assert table.entries == (
        crontab.Entry(3, "28 5 * * *", "root", "/etc/init.d/php-fpm restart > /dev/null"),
        crontab.Entry(4, "@reboot", "www", "/srv/start.sh"),
        crontab.Entry(5, "0 0 1 jan,jul mon", "root", "date +%F", "in"),
    )
    assert table.environment == {"MAILTO": "root"}
    assert [doubt.line for doubt in table.doubts] == [6]
    assert crontab.parse("*/5 * * * * pkill -9 x\n", system=False).entries[0].command == "pkill -9 x"
    assert crontab.parse_anacron("1 5 cron.daily run-parts /etc/cron.daily\n").entries[0].when == "every 1 days"


def test_a_unit_and_its_drop_ins() -> None:
    """The last value counts, an empty one takes back, lines are joined, comments between them are not."""
    own = "[Service]\nExecStart=/a \\\n# no\n  --b\nKillMode=mixed\nEnvironment=A=1 'B=2 3'\n"
    drop = "[Service]\nExecStart=\nExecStart=-/c '%%d'\nKillMode=\n; no\nnonsense\n"
    found = unit.parse("x.service", [("x", own), ("x.d/1.conf", drop)])
    assert found.get("Service", "KillMode") is None
    assert [unit.command(entry.value) for entry in found.all("Service", "ExecStart")] == [("/c", "%d")]
    assert found.all("Service", "ExecStart")[0].spot == text.Spot("x.d/1.conf", 3)
    assert unit.environment(found) == {"A": "1", "B": "2 3"}
    assert [(file, doubt.line) for file, doubt in found.doubts] == [("x.d/1.conf", 6)]


def test_php_fpms_configuration() -> None:
    """Sections, includes in place, the last value; a loop of includes is a doubt."""
    files = {"/p/*.conf": [("/p/www.conf", "[www]\npm = static ; fixed\nphp_admin_value[max_execution_time] = 60\n")]}
    conf = fpmconf.parse(
        "/fpm.conf", ";x\n[global]\nprocess_control_timeout = 10s\ninclude = /p/*.conf\n", lambda p: files.get(p, [])
    )
    assert conf.globals.values["process_control_timeout"] == fpmconf.Value("10s", text.Spot("/fpm.conf", 3))
    assert [(pool.name, pool.spot.line, pool.values["pm"].text) for pool in conf.pools] == [("www", 1, "static")]
    loop = fpmconf.parse("a", "include = b\n", lambda _: [("a", "include = b\n")])
    assert loop.doubts != ()


def test_nginxs_configuration() -> None:
    """Nested blocks with their lines, quotes, comments, includes in place; Lua is skipped; a loop is a doubt."""
    files = {"sites/*": [("sites/a", "server {\n  location / { proxy_pass http://app; }\n}\n")]}
    conf = nginxconf.parse(
        "nginx.conf",
        'http {\n  log_format m "a; {b} #c";  # x\n  include sites/*;\n  content_by_lua_block { if x { } end }\n}\n',
        lambda p: files.get(p, []),
    )
    found = {d.name: (d.spot, tuple(a.name for a in above)) for d, above in conf.walk()}
    assert found["proxy_pass"] == (text.Spot("sites/a", 2), ("http", "server", "location"))
    assert next(d.args for d, _ in conf.walk() if d.name == "log_format") == ("m", "a; {b} #c")
    assert conf.doubts == ()
    assert nginxconf.parse("a", "include a;", lambda _: [("a", "include a;")]).doubts != ()
    assert nginxconf.parse("a", "http {\n x y").doubts != ()


def test_logrotates_stanzas() -> None:
    """Patterns, directives, and scripts with the line that they begin at."""
    found = logrotate.parse(
        "weekly\n/var/log/a.log\n/var/log/b.log {\n  rotate 4\n  postrotate\n    kill -USR1 1\n  endscript\n}\n"
    )
    stanza = found.stanzas[0]
    assert stanza.patterns == ("/var/log/a.log", "/var/log/b.log")
    assert stanza.directives == {"rotate": ("4", 4)}
    assert stanza.scripts == (logrotate.Script("postrotate", 6, "    kill -USR1 1"),)
    assert found.defaults == {"weekly": ("", 1)}
    assert logrotate.parse("/a {\n postrotate\n x\n").doubts != ()


def test_a_dockerfile() -> None:
    """Stages inherit from each other; both forms; heredocs and comments between joined lines are no instructions."""
    found = dockerfile.parse(
        "ARG V=8\nFROM php:$V-fpm AS base\nSTOPSIGNAL SIGTERM\nFROM base\nRUN a \\\n  # no\n  && b\nRUN <<EOF\nFROM x\nEOF\n"
        'CMD ["php-fpm", "-F"]\n'
    )
    final = found.final()
    assert final is not None
    assert (final.base, len(found.stages)) == ("php:$V-fpm", 2)
    stop, command = final.last("STOPSIGNAL"), final.last("CMD")
    assert stop is not None
    assert command is not None
    assert (stop.text, stop.line) == ("SIGTERM", 3)
    assert (command.exec_form(), command.line) == (("php-fpm", "-F"), 11)


def test_yaml_has_lines_and_templates_spoil_only_their_document() -> None:
    """Every node has its line, also behind the first document; merges are in place; a bomb is a doubt."""
    found, doubts = yamlnodes.documents(
        "a: &x {k: 1}\n---\n{{- if .Values.x }}\nb: {{ y }}\n---\nbase: &b\n  g: 10s\nc:\n  <<: *b\n  h:\n    - one\n"
    )
    assert [node.keys[0][0] for node in found] == ["a", "base"]
    assert [doubt.line for doubt in doubts] == [3]
    (templated,), doubts_of_it = yamlnodes.documents("a: 1\nb: {{ .Values.b }}\n")
    assert (templated.value("a"), templated.value("b"), doubts_of_it[0].line) == ("1", "{{ }}", 2)
    inner = found[1].get("c")
    assert inner is not None
    assert (inner.value("g"), inner.at("h"), inner.keys[0][1]) == ("10s", 10, 7)
    bomb = "a0: &a0 [x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert yamlnodes.documents(bomb)[1] != ()


def test_configuration_that_is_python_is_not_run() -> None:
    """Constants are known; what is computed or stands under a condition is not."""
    found, doubts = pyconf.parse("import os\ntimeout = 60\nworkers = os.cpu_count()\nkeep = 2 * 3\nif 1:\n    g = 5\n")
    assert {name: setting.value for name, setting in found.items()} == {
        "timeout": "60", "workers": pyconf.UNKNOWN, "keep": "6", "g": pyconf.UNKNOWN,
    }  # fmt: skip
    assert doubts == ()
    assert pyconf.parse("def (")[1] != ()


def test_haproxys_sections() -> None:
    """Each with its statements and their lines."""
    found = haproxy.parse("global\n  hard-stop-after 5s # x\nbackend app\n  server a 127.0.0.1:80\n")
    assert [(section.kind, section.name, section.line) for section in found] == [
        ("global", "", 1),
        ("backend", "app", 3),
    ]
    statement = found[0].find("hard-stop-after")
    assert statement is not None
    assert statement == haproxy.Statement(("hard-stop-after", "5s"), 2)
