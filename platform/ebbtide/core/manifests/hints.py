"""Causes of syntax errors that a YAML parser does not name: templates, tabs and wrong indentation."""

from __future__ import annotations

import re
from typing import Final

from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.words import TEMPLATE

#: The fix for a message of libyaml.
FIXES: Final = {
    "found character that cannot start any token": "quote the value",
    "mapping values are not allowed in this context": 'write one key on each line, and quote a value that contains ": "',
    "could not find expected ':'": 'end the key with ":", or indent a text of several lines',
}
OTHER_FIX: Final = "check the quotes, the brackets and the indentation"
_ITEM: Final = re.compile(r" *(?:- +)+")


def find_template(text: str, lines: set[int]) -> tuple[int, str] | None:
    """Return the 0-based line and the text of a template expression on or before one of the lines; None if there is none."""
    for number, line in enumerate(text.split("\n")):
        match = TEMPLATE.search(line) if lines.intersection((number, number + 1)) else None
        if match is not None and not line.lstrip().startswith("#"):
            return number, match.group()
    return None


def explain_indentation(text: str, number: int, first_line: int) -> tuple[str, str] | None:
    """Return the message and the fix about the indentation of a line with a syntax error; None if it is not the cause.

    ``number`` is the line's index in the text, which starts on line ``first_line`` of the file.
    """
    lines = text.split("\n")
    line = lines[number]
    own = len(line) - len(line.lstrip())
    if "\t" in line[:own]:
        return "the line is indented with a tab, which YAML does not allow", "use spaces"
    before = "\n".join(lines[:number])
    if sum(before.count(character) for character in "{[") != sum(before.count(character) for character in "}]"):
        # Inside brackets, the indentation has no meaning.
        return None
    above = _find_open_indents(lines[:number])
    if own in above or not above or (own > max(above) and lines[max(above.values())].rstrip().endswith(":")):
        return None
    nearest = min(above, key=lambda width: abs(width - own))
    message = f"the line is indented by {count_noun(own, 'space')}, but the key that it belongs to is unclear"
    return message, f"indent it by {count_noun(nearest, 'space')}, as line {first_line + above[nearest]} is"


def _find_open_indents(lines: list[str]) -> dict[int, int]:
    """Return each indentation that the line after ``lines`` may have, with the index of the nearest line that has it."""
    indents: dict[int, int] = {}
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        width = len(line) - len(line.lstrip(" "))
        if not line.strip() or line.lstrip().startswith("#") or (indents and width >= min(indents)):
            continue
        item = _ITEM.match(line)
        if item is not None:
            # The key after the dash and the dash itself.
            indents.setdefault(item.end(), number)
        indents.setdefault(width, number)
    return indents
