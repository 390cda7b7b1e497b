"""Text for display: counted nouns, and untrusted text without control characters."""

from __future__ import annotations

import re
from typing import Final

#: Characters outside ASCII that control a terminal or an editor: C1 controls, bidirectional controls, line separators,
#: byte order marks, and halves of surrogate pairs. In the form of a regular expression's character class.
CONTROLS_OUTSIDE_ASCII: Final = "\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
_CONTROL = re.compile(f"[\0-\x1f\x7f{CONTROLS_OUTSIDE_ASCII}]")
_CONTROL_OUTSIDE_ASCII = re.compile(f"[\x7f{CONTROLS_OUTSIDE_ASCII}]")
_LAST_BYTE: Final = 0xFF


def count_noun(amount: int, noun: str) -> str:
    """Return an amount with its noun in the correct number: ``1 pod``, ``3 pods``."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def make_printable(text: str, keep: str = "") -> str:
    r"""Return ``text`` with control characters as visible escapes such as ``\x1b``, except those in ``keep``.

    The text can then neither move a terminal's cursor, nor start a line, nor reverse the reading direction.
    """
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else escape_character(match[0]), text)


def escape_character(character: str) -> str:
    r"""Return a character as an escape: ``\x1b``, ``\u202e``."""
    code = ord(character)
    return f"\\x{code:02x}" if code <= _LAST_BYTE else f"\\u{code:04x}"


def escape_json(text: str) -> str:
    r"""Return JSON text with the control characters that JSON allows in strings as ``\uXXXX``: the same value."""
    return _CONTROL_OUTSIDE_ASCII.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
