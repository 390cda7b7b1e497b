"""Text for people: counted nouns, and text from outside without control characters."""

from __future__ import annotations


def counted(amount: int, noun: str) -> str:
    """Return an amount with its noun: ``1 pod``, ``3 pods``."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with a space for each control character but those of ``keep``.

    No text from outside can then move a terminal's cursor or turn the reading direction.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)
