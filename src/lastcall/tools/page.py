"""HTML reports: the frame of a page in one file, elements whose text cannot break out of them, and scales for plots.

    body = tag("p", "what ", tag("code", line), " said")        # `line` may hold anything: a str is text, never markup
    Path("report.html").write_text(page("A title", body, css=MY_CSS, script=MY_SCRIPT), encoding="utf-8")

A page needs no network, and could not use it: its policy names its own style and its own script by their hashes, and
nothing else. Colours are custom properties (`page.css` has them, for light, dark and paper); a report's own style sheet
uses these. It must be whole without its script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from lastcall.tools.report import printable

VOID: Final = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "wbr"})
"""Elements of HTML that have no end tag."""


class Html(str):
    """Markup: what `tag` makes. Any other str is text, and is escaped where it is put into a page."""

    __slots__ = ()


Child = str | Html | None | Iterable["Child"]
"""Text, markup, nothing, or several of these."""
Attribute = str | int | float | bool | None
"""True: the attribute without a value; False and None: no attribute."""


def escape(text: str) -> Html:
    r"""Text as markup. What cannot be printed, and what would turn the direction of the text, is shown as \xNN."""
    kept = "\n".join(map(printable, text.split("\n")))
    return Html(html.escape(kept, quote=True))


def join(*children: Child) -> Html:
    """Markup of all of them, one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        else:
            parts.append(join(*child))
    return Html("".join(parts))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """An element. `class_` and `for_` are written so because Python has these words; `aria_label` is `aria-label`."""
    opening = f"<{name}{_attributes(attributes)}>"
    return Html(opening if name in VOID else f"{opening}{join(*children)}</{name}>")


def _attributes(attributes: dict[str, Attribute]) -> str:
    said: list[str] = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        text = number(value) if isinstance(value, float) else str(value)
        said.append(f" {name}" if value is True else f' {name}="{escape(text)}"')
    return "".join(said)


def number(value: float, digits: int = 2) -> str:
    """The shortest text of a coordinate: `12.5`, `3`, `-.5` is `-0.5`."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def prose(text: str) -> Html:
    """A text of ours with `code` in it: what stands between backticks is set as code, all of it is escaped."""
    return join([tag("code", part) if at % 2 else part for at, part in enumerate(text.split("`"))])


def anchor(*words: str) -> str:
    """An id for an element, of letters, digits and dashes, from any words."""
    plain = "-".join(words).lower()
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in plain).strip("-") or "x"


# --- The frame ---------------------------------------------------------------

_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='%230f766e'/%3E%3Cpath d='M5 8.3l2.2 2.2L11.4 6' fill='none' "
    "stroke='white' stroke-width='1.8'/%3E%3C/svg%3E"
)


def resource(package: str, name: str) -> str:
    """A style sheet or a script that lies beside the code."""
    return (files(package) / name).read_text(encoding="utf-8")


def page(title: str, *body: Child, css: str = "", script: str = "") -> str:
    """A whole document. `body` is the content of <body>: a <main> and what goes around it."""
    style = resource("lastcall.tools", "page.css") + css
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'; "
        f"script-src {_quoted(script)}"
    )
    head = join(
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="lastcall"),
        tag("title", title),
        tag("link", rel="icon", href=_ICON),
        Html(f"<style>{style}</style>"),
    )
    end = Html(f"<script>{script}</script>" if script else "")
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{join(*body)}{end}</body></html>\n'


def _hash(text: str) -> str:
    """What a policy calls this text by."""
    assert "</" not in text, "it would end its element"
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _quoted(script: str) -> str:
    return f"'{_hash(script)}'" if script else "'none'"


# --- Scales ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a value stands between the two ends of an axis: 0 to 1."""

    low: float
    high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Values beyond an end stand at that end: nothing is drawn outside."""
        held = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(held / self.low) / math.log(self.high / self.low)
        return (held - self.low) / (self.high - self.low)

    def ticks(self, most: int = 10) -> list[float]:
        """Round values between the ends, at most so many: 1, 2 and 5 times a power of ten; decades where logarithmic."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            apart = max(1, math.ceil((last - first + 1) / most))
            return [10.0**power for power in range(first, last + 1, apart)]
        step = _round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [at * step for at in range(first, math.floor(self.high / step + 1e-9) + 1)]


def linear(low: float, high: float) -> Scale:
    """An even scale; one without extent gets some."""
    return Scale(low, high if high > low else low + 1.0)


def logarithmic(values: Iterable[float], least: float = 1e-4) -> Scale:
    """Whole decades around all the values: at least two; what is smaller than `least` stands at the bottom."""
    low, high = math.inf, least
    for value in values:
        low, high = min(low, value), max(high, value)
    bottom = math.floor(math.log10(max(min(low, high), least)) + 1e-9)
    top = math.ceil(math.log10(high) - 1e-9)
    return Scale(10.0**bottom, 10.0 ** max(top, bottom + 2), logarithmic=True)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


# --- Quantities in words ------------------------------------------------------


def seconds(value: float) -> str:
    """`0`, `0.4 ms`, `12 ms`, `0.85 s`, `12.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if value <= 0:
        return "0"
    if value < 0.00995:
        return f"{value * 1e3:.1f} ms"
    if value < 0.4995:
        return f"{value * 1e3:.0f} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole // 60 % 60:02} min"


def count(many: int, one: str, several: str = "") -> str:
    """`1 request`, `5,334 requests`."""
    return f"{many:,} {one if many == 1 else several or one + 's'}"


def percent(share: float) -> str:
    """`0.056 %`, `12 %`: two figures."""
    if not share:
        return "0 %"
    digits = max(0, 1 - math.floor(math.log10(abs(share) * 100)))
    return f"{share * 100:.{min(digits, 6)}f} %"
