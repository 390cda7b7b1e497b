"""Text for people."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with a space for each control character but those of ``keep``.

    No text from outside can then move a terminal's cursor or turn the reading direction.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)
