"""Text for display: counted nouns, and untrusted text without control characters."""

from __future__ import annotations


def count_noun(amount: int, noun: str) -> str:
    """Return an amount with its noun in the correct number: ``1 pod``, ``3 pods``."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def make_printable(text: str, keep: str = "") -> str:
    """Return ``text`` with control characters replaced by spaces, except those in ``keep``.

    The text can then neither move a terminal's cursor nor reverse the reading direction.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)
