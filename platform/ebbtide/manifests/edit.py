"""Changes of a few values in a document's text, so that every other byte stays: comments, order, layout.

Block style, flow style and JSON are edited where each value stands. What comes out is read again and must hold the
changes and nothing else; so a layout that is not understood is refused, never spoiled.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from ebbtide.manifests.reader import read
from ebbtide.manifests.writer import text_of, write_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebbtide.base.problems import Path

#: Paths up to this long are never taken out for being empty: a document keeps its ``spec``.
KEPT: Final = 1


class NotEdited(ValueError):  # noqa: N818 - it names what is so, as Problem does
    """A text that could not be changed as asked without changing more."""


def edited(
    text: str,
    changes: Mapping[Path, Any],
    order: Callable[[Path], Sequence[str]] = lambda path: (),  # noqa: ARG005 - no order known
) -> str:
    """Return a document's text with ``changes``, made one after the other: a path and its new value.

    None takes an entry out, and with it the mappings and lists that nothing is left in; a list's index one past its end
    appends. ``order`` gives the names that a mapping may have in the order in which new ones are put among them; others
    come last.

    Raises:
        NotEdited: the text is not one document, or its layout is one that is not edited.

    """
    documents = list(read(text, "before"))
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise NotEdited("the file does not hold one document")
    wanted = copy.deepcopy(documents[0].data)
    known = len(documents[0].problems)
    for path, value in changes.items():
        try:
            wanted = changed(wanted, path, value)
            text = _edit(text, path, value, order)
        except (yaml.YAMLError, ValueError, KeyError, IndexError, TypeError) as error:
            raise NotEdited("the layout is one that is not edited") from error
    after = list(read(text, "after"))
    if len(after) != 1 or len(after[0].problems) > known or after[0].data != wanted:
        raise NotEdited("the layout is one that is not edited")
    return text


def changed(data: Any, path: Path, value: Any) -> Any:
    """Return plain data with one change, as ``edited`` makes it in text; ``data`` itself stays as it is."""
    data = copy.deepcopy(data)
    inside, parts = data, list(path)
    for place, part in enumerate(parts[:-1]):
        below = inside[part] if _has(inside, part) else None
        if below is None:
            if value is None:
                return data
            below = [] if isinstance(parts[place + 1], int) else {}
            _put(inside, part, below)
        inside = below
    if value is not None:
        _put(inside, parts[-1], copy.deepcopy(value))
    elif _has(inside, parts[-1]):
        _take(data, path)
    return data


def _has(inside: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(inside, list) and part < len(inside)
    return isinstance(inside, dict) and part in inside


def _put(inside: Any, part: str | int, value: Any) -> None:
    if isinstance(inside, list) and part == len(inside):
        inside.append(value)
    else:
        inside[part] = value


def _take(data: Any, path: Path) -> None:
    """Take an entry out, and what has become empty around it."""
    for length in range(len(path), 0, -1):
        inside = data
        for part in path[: length - 1]:
            inside = inside[part]
        del inside[path[length - 1]]
        if inside or length - 1 <= KEPT:
            return


# The text.


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a mapping or a list: where it starts, its key as the text has it, and its value's node."""

    start: int
    key: Any
    node: Any


def _edit(text: str, path: Path, value: Any, order: Callable[[Path], Sequence[str]]) -> str:
    if not text.endswith("\n") and not _json(text):
        text += "\n"
    node = yaml.compose(text, yaml.CSafeLoader)
    way: list[tuple[Any, int]] = []
    for depth, part in enumerate(path):
        place = _place(text, node, part)
        if place is None:
            if _null(node) and way:
                # A key with nothing behind it: what is put there takes its place.
                return text if value is None else _replaced(text, *way[-1], _nested(path[depth:], value))
            if value is None:
                return text
            return _inserted(text, node, part, _nested(path[depth + 1 :], value), order(path[:depth]))
        way.append((node, place))
        node = _entries(text, node)[place].node
    if value is not None:
        return _replaced(text, *way[-1], value)
    while len(way) - 1 > KEPT and len(way[-1][0].value) == 1:
        way.pop()
    return _removed(text, *way[-1])


def _nested(rest: Path, value: Any) -> Any:
    for part in reversed(rest):
        value = [value] if isinstance(part, int) else {part: value}
    return value


def _place(text: str, node: Any, part: str | int) -> int | None:
    """Return which entry of a node a part of a path names."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return part if part < len(node.value) else None
    if isinstance(node, yaml.MappingNode) and isinstance(part, str):
        return next((place for place, row in enumerate(_entries(text, node)) if row.key.value == part), None)
    if _null(node):
        return None
    raise ValueError("no mapping or list stands there")


def _null(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and str(node.tag).endswith(":null")


def _empty(node: Any) -> bool:
    return _null(node) and node.value == ""


def _entries(text: str, node: Any) -> list[_Entry]:
    if isinstance(node, yaml.MappingNode):
        return [_Entry(key.start_mark.index, key, value) for key, value in node.value]
    if node.flow_style:
        return [_Entry(item.start_mark.index, None, item) for item in node.value]
    return [_Entry(text.rindex("-", 0, _start(text, item) + 1), None, item) for item in node.value]


def _start(text: str, node: Any) -> int:
    """Return where a node starts; an item with nothing in it stands where its dash is."""
    index: int = node.start_mark.index
    return text.rindex("-", 0, index) if _empty(node) else index


def _replaced(text: str, parent: Any, place: int, value: Any) -> str:
    """Return the text with another value in an entry."""
    entry = _entries(text, parent)[place]
    node = entry.node
    simple = not (isinstance(value, (dict, list)) and value)
    if isinstance(node, yaml.ScalarNode) and not _empty(node) and simple:
        start, end = node.start_mark.index, node.end_mark.index
        if node.style in {"|", ">"}:
            # What follows a block scalar's last line stays: line breaks are not its own.
            end = start + len(text[start:end].rstrip())
        return text[:start] + _scalar(value, text[start], quoted=_json(text)) + text[end:]
    if parent.flow_style:
        put = _flow(value, quoted=_quotes(text, entry))
        if _empty(node):
            at = entry.key.end_mark.index + text[entry.key.end_mark.index :].index(":") + 1
            return text[:at] + " " + put + text[at:]
        return text[: node.start_mark.index] + put + text[node.end_mark.index :]
    # The whole entry anew, in lines of its own; a comment behind its key goes where the key goes.
    end = _end(text, entry)
    indent = " " * (entry.start - (text.rfind("\n", 0, entry.start) + 1))
    return text[: entry.start] + _lines(entry.key and entry.key.value, value, indent, text).lstrip(" ") + text[end:]


def _removed(text: str, parent: Any, place: int) -> str:
    """Return the text without an entry; where it was the only one, an empty mapping or list is left."""
    entries = _entries(text, parent)
    entry = entries[place]
    following = entries[place + 1].start if place + 1 < len(entries) else None
    if len(entries) == 1:
        put = "{}" if isinstance(parent, yaml.MappingNode) else "[]"
        if parent.flow_style:
            return text[: parent.start_mark.index] + put + text[parent.end_mark.index :]
        before = text[: entry.start].rstrip()
        return before + " " + put + _ending(text) + text[_end(text, entry) :]
    if parent.flow_style:
        if following is not None:
            return text[: entry.start] + text[following:]
        return text[: entries[place - 1].node.end_mark.index] + text[entry.node.end_mark.index :]
    line = text.rfind("\n", 0, entry.start) + 1
    if text[line : entry.start].strip() and following is not None:
        # It stands on the line of a list's dash, which the next entry takes over.
        return text[: entry.start] + text[following:]
    return text[:line] + text[_end(text, entry) :]


def _inserted(text: str, node: Any, part: str | int, value: Any, order: Sequence[str]) -> str:
    """Return the text with a new entry: after those that come before it in ``order``, else at the end."""
    entries = _entries(text, node)
    listed = isinstance(node, yaml.SequenceNode)
    if listed and part != len(entries):
        raise ValueError("an item after a gap")
    place = len(entries)
    if not listed and part in order:
        before = order[: order.index(str(part))]
        place = max((at + 1 for at, row in enumerate(entries) if row.key.value in before), default=0)
    if node.flow_style:
        return _inserted_in_flow(text, node, entries, place, part, value)
    first = entries[0]
    line = text.rfind("\n", 0, first.start) + 1
    indent = " " * (first.start - line)
    made = _lines(None if listed else str(part), value, indent, text)
    if place == 0:
        # What stands before the first entry, a list's dash or nothing, stays before the new first one.
        return text[: first.start] + made.lstrip(" ") + indent + text[first.start :]
    at = _end(text, entries[place - 1])
    return text[:at] + made + text[at:]


def _inserted_in_flow(text: str, node: Any, entries: list[_Entry], place: int, part: str | int, value: Any) -> str:
    quoted = _json(text) if not entries else _quotes(text, entries[0])
    key = "" if isinstance(part, int) else (json.dumps(part, ensure_ascii=False) if quoted else text_of(part)) + ": "
    put = key + _flow(value, quoted=quoted)
    if not entries:
        at = node.start_mark.index + 1
        return text[:at] + put + text[at:]
    last = entries[-1]
    line = text.rfind("\n", 0, last.start) + 1
    lead = text[line : last.start]
    between = ",\n" + lead if line and not lead.strip() else ", "
    if place == 0:
        return text[: entries[0].start] + put + between + text[entries[0].start :]
    at = entries[place - 1].node.end_mark.index
    return text[:at] + between + put + text[at:]


def _end(text: str, entry: _Entry) -> int:
    """Return where the line after an entry's content starts: comments after it are not its own."""
    node = entry.node
    if _empty(node):
        at = entry.key.end_mark.index if entry.key is not None else entry.start
        return text.find("\n", at) + 1
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = _entries(text, node)[-1]
        if _empty(last.node):
            return _end(text, last)
        node = last.node
    start, end = node.start_mark.index, node.end_mark.index
    if getattr(node, "style", None) in {"|", ">"}:
        end = start + len(text[start:end].rstrip())
    return text.find("\n", end) + 1 or len(text)


def _lines(key: str | None, value: Any, indent: str, text: str) -> str:
    """Return an entry in block style, each line indented."""
    made = write_one({"x" if key is None else key: [value] if key is None else value})
    lines = made.splitlines()[1:] if key is None else made.splitlines()
    ending = _ending(text)
    return "".join(f"{indent}{line}{ending}" for line in lines)


def _scalar(value: Any, sign: str, *, quoted: bool) -> str:
    """Return a value without lines of its own; text is quoted where the one before it was."""
    if isinstance(value, str) and (quoted or sign in "\"'"):
        plain = value.isprintable() and "'" not in value
        return f"'{value}'" if sign == "'" and plain else json.dumps(value, ensure_ascii=not value.isprintable())
    return _flow(value, quoted=quoted)


def _flow(value: Any, *, quoted: bool) -> str:
    """Return a value in flow style."""
    if isinstance(value, dict):
        names = ((json.dumps(key) if quoted else text_of(key), inner) for key, inner in value.items())
        return "{" + ", ".join(f"{name}: {_flow(inner, quoted=quoted)}" for name, inner in names) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner, quoted=quoted) for inner in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=not value.isprintable()) if quoted else text_of(value)
    return json.dumps(value, allow_nan=False)


def _quotes(text: str, entry: _Entry) -> bool:
    """Whether keys, or in a list values, are quoted there."""
    return _json(text) or (entry.key is not None and bool(entry.key.style))


def _ending(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _json(text: str) -> bool:
    return text.lstrip()[:1] in {"{", "["}
