"""The one exception for a value that a person wrote and that cannot be meant."""

from __future__ import annotations


class Mistake(ValueError):
    """What is wrong with a value, and what to write instead.

    `text` quotes the value; `remedy` is an imperative. Both are single lines, for the log, the terminal and JSON.
    """

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(f"{text} ({remedy})")
        self.text = text
        self.remedy = remedy
