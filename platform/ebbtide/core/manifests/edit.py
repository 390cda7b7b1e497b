"""Edits of single values in a document's text that preserve every other byte: comments, order, layout.

Values are edited in place, in block style, flow style and JSON. The result is parsed again and must contain the changes and
nothing else, so an unsupported layout is rejected, never corrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from ebbtide.core.base.paths import get_at, has_at, remove_at, replace_at
from ebbtide.core.base.problems import Path
from ebbtide.core.manifests.reader import read_documents
from ebbtide.core.manifests.writer import text_of, write_document

#: Paths up to this length are never removed for being empty: a document keeps its ``spec``.
KEPT: Final = 1


class NotEdited(ValueError):  # noqa: N818 - named after the outcome, as Problem is
    """The text could not be changed without changing anything else."""


def edit_text(
    text: str,
    changes: Mapping[Path, Any],
    order: Callable[[Path], Sequence[str]] = lambda path: (),  # noqa: ARG005 - no order known
) -> str:
    """Return a document's text with ``changes``, each a path and its new value, applied in order.

    None removes an entry, together with the mappings and lists that become empty. A list index one past the end appends.
    ``order`` returns the names of a mapping's entries in the order in which new entries are inserted; other names are
    appended.

    Raises:
        NotEdited: the text is not exactly one document, or its layout is not supported.
    """
    documents = list(read_documents(text, "before"))
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise NotEdited("the file does not contain exactly one document")
    expected = documents[0].data
    problem_count = len(documents[0].problems)
    for path, value in changes.items():
        try:
            expected = apply_change(expected, path, value)
            text = _edit_path(text, path, value, order)
        except (yaml.YAMLError, ValueError, KeyError, IndexError, TypeError) as error:
            raise NotEdited("the layout of the file is not supported") from error
    after = list(read_documents(text, "after"))
    if len(after) != 1 or len(after[0].problems) > problem_count or after[0].data != expected:
        raise NotEdited("the layout of the file is not supported")
    return text


def apply_change(data: Any, path: Path, value: Any) -> Any:
    """Return ``data`` with one change, applied as ``edit_text`` applies it to text."""
    if value is not None:
        return replace_at(data, path, value)
    if not has_at(data, path):
        return data
    data = remove_at(data, path)
    # Remove the parents that become empty, too.
    return data if len(path) - 1 <= KEPT or get_at(data, *path[:-1]) else apply_change(data, path[:-1], None)


# The text.


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of a mapping or a list: its start, its key node (None in a list), and its value node."""

    start: int
    key: Any
    node: Any


def _edit_path(text: str, path: Path, value: Any, order: Callable[[Path], Sequence[str]]) -> str:
    if not text.endswith("\n") and not _is_json(text):
        text += "\n"
    node = yaml.compose(text, yaml.CSafeLoader)
    parents: list[tuple[Any, int]] = []
    for depth, part in enumerate(path):
        place = _find_place(text, node, part)
        if place is None:
            if _is_null(node) and parents:
                # A key without a value: replace the missing value.
                return text if value is None else _replace_value(text, *parents[-1], _nest_value(path[depth:], value))
            if value is None:
                return text
            return _insert_entry(text, node, part, _nest_value(path[depth + 1 :], value), order(path[:depth]))
        parents.append((node, place))
        node = _list_entries(text, node)[place].node
    if value is not None:
        return _replace_value(text, *parents[-1], value)
    while len(parents) - 1 > KEPT and len(parents[-1][0].value) == 1:
        parents.pop()
    return _remove_entry(text, *parents[-1])


def _nest_value(rest: Path, value: Any) -> Any:
    for part in reversed(rest):
        value = [value] if isinstance(part, int) else {part: value}
    return value


def _find_place(text: str, node: Any, part: str | int) -> int | None:
    """Return the index of the entry that a part of a path names, or None if the entry is missing."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return part if part < len(node.value) else None
    if isinstance(node, yaml.MappingNode) and isinstance(part, str):
        return next((place for place, row in enumerate(_list_entries(text, node)) if row.key.value == part), None)
    if _is_null(node):
        return None
    raise ValueError("the node is neither a mapping nor a list")


def _is_null(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and str(node.tag).endswith(":null")


def _is_empty_node(node: Any) -> bool:
    return _is_null(node) and node.value == ""


def _list_entries(text: str, node: Any) -> list[_Entry]:
    if isinstance(node, yaml.MappingNode):
        return [_Entry(key.start_mark.index, key, value) for key, value in node.value]
    if node.flow_style:
        return [_Entry(item.start_mark.index, None, item) for item in node.value]
    # An item such as --model or - a starts with a dash of its value.
    return [_Entry(text.rindex("-", 0, item.start_mark.index), None, item) for item in node.value]


def _replace_value(text: str, parent: Any, place: int, value: Any) -> str:
    """Return the text with a new value in an entry."""
    entry = _list_entries(text, parent)[place]
    node = entry.node
    simple = not (isinstance(value, (dict, list)) and value)
    if isinstance(node, yaml.ScalarNode) and not _is_empty_node(node) and simple:
        start, end = node.start_mark.index, node.end_mark.index
        if node.style in {"|", ">"}:
            # Keep the line breaks after the last line of a block scalar.
            end = start + len(text[start:end].rstrip())
        return text[:start] + _format_scalar(value, text[start], quoted=_is_json(text)) + text[end:]
    if parent.flow_style:
        replacement = _format_flow(value, quoted=_uses_quotes(text, entry))
        if _is_empty_node(node):
            at = entry.key.end_mark.index + text[entry.key.end_mark.index :].index(":") + 1
            return text[:at] + " " + replacement + text[at:]
        return text[: node.start_mark.index] + replacement + text[node.end_mark.index :]
    # Replace the complete entry with new lines; a comment after its key is removed with the key.
    end = _find_end(text, entry)
    indent = " " * (entry.start - (text.rfind("\n", 0, entry.start) + 1))
    return (
        text[: entry.start] + _format_lines(entry.key and entry.key.value, value, indent, text).lstrip(" ") + text[end:]
    )


def _remove_entry(text: str, parent: Any, place: int) -> str:
    """Return the text without an entry; if it was the only one, with an empty mapping or list."""
    entries = _list_entries(text, parent)
    entry = entries[place]
    following = entries[place + 1].start if place + 1 < len(entries) else None
    if len(entries) == 1:
        empty = "{}" if isinstance(parent, yaml.MappingNode) else "[]"
        if parent.flow_style:
            return text[: parent.start_mark.index] + empty + text[parent.end_mark.index :]
        before = text[: entry.start].rstrip()
        return before + " " + empty + _line_ending(text) + text[_find_end(text, entry) :]
    if parent.flow_style:
        if following is not None:
            return text[: entry.start] + text[following:]
        return text[: entries[place - 1].node.end_mark.index] + text[entry.node.end_mark.index :]
    line = text.rfind("\n", 0, entry.start) + 1
    if text[line : entry.start].strip() and following is not None:
        # The entry is on the line of a list's dash, which the next entry takes over.
        return text[: entry.start] + text[following:]
    return text[:line] + text[_find_end(text, entry) :]


def _insert_entry(text: str, node: Any, part: str | int, value: Any, order: Sequence[str]) -> str:
    """Return the text with a new entry: after its predecessors in ``order``, otherwise at the end."""
    entries = _list_entries(text, node)
    is_list = isinstance(node, yaml.SequenceNode)
    if is_list and part != len(entries):
        raise ValueError("the index is beyond the end of the list")
    place = len(entries)
    if not is_list and part in order:
        before = order[: order.index(str(part))]
        place = max((at + 1 for at, row in enumerate(entries) if row.key.value in before), default=0)
    if node.flow_style:
        return _insert_in_flow(text, node, entries, place, part, value)
    first = entries[0]
    line = text.rfind("\n", 0, first.start) + 1
    indent = " " * (first.start - line)
    lines = _format_lines(None if is_list else str(part), value, indent, text)
    if place == 0:
        # A list's dash before the first entry stays before the new first entry.
        return text[: first.start] + lines.lstrip(" ") + indent + text[first.start :]
    at = _find_end(text, entries[place - 1])
    return text[:at] + lines + text[at:]


def _insert_in_flow(text: str, node: Any, entries: list[_Entry], place: int, part: str | int, value: Any) -> str:
    quoted = _is_json(text) if not entries else _uses_quotes(text, entries[0])
    key = "" if isinstance(part, int) else (json.dumps(part, ensure_ascii=False) if quoted else text_of(part)) + ": "
    entry_text = key + _format_flow(value, quoted=quoted)
    if not entries:
        at = node.start_mark.index + 1
        return text[:at] + entry_text + text[at:]
    last = entries[-1]
    line = text.rfind("\n", 0, last.start) + 1
    lead = text[line : last.start]
    between = ",\n" + lead if line and not lead.strip() else ", "
    if place == 0:
        return text[: entries[0].start] + entry_text + between + text[entries[0].start :]
    at = entries[place - 1].node.end_mark.index
    return text[:at] + between + entry_text + text[at:]


def _find_end(text: str, entry: _Entry) -> int:
    """Return the start of the line after an entry's content; comments on later lines do not belong to the entry."""
    node = entry.node
    if _is_empty_node(node):
        at = entry.key.end_mark.index if entry.key is not None else entry.start
        return text.find("\n", at) + 1
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = _list_entries(text, node)[-1]
        if _is_empty_node(last.node):
            return _find_end(text, last)
        node = last.node
    start, end = node.start_mark.index, node.end_mark.index
    if getattr(node, "style", None) in {"|", ">"}:
        end = start + len(text[start:end].rstrip())
    return text.find("\n", end) + 1 or len(text)


def _format_lines(key: str | None, value: Any, indent: str, text: str) -> str:
    """Return an entry in block style, with each line indented."""
    document = write_document({"x" if key is None else key: [value] if key is None else value})
    lines = document.splitlines()[1:] if key is None else document.splitlines()
    ending = _line_ending(text)
    return "".join(f"{indent}{line}{ending}" for line in lines)


def _format_scalar(value: Any, sign: str, *, quoted: bool) -> str:
    """Return a value on one line; a string is quoted if the previous value was."""
    if isinstance(value, str) and (quoted or sign in "\"'"):
        plain = value.isprintable() and "'" not in value
        return f"'{value}'" if sign == "'" and plain else json.dumps(value, ensure_ascii=not value.isprintable())
    return _format_flow(value, quoted=quoted)


def _format_flow(value: Any, *, quoted: bool) -> str:
    """Return a value in flow style."""
    if isinstance(value, dict):
        names = ((json.dumps(key) if quoted else text_of(key), inner) for key, inner in value.items())
        return "{" + ", ".join(f"{name}: {_format_flow(inner, quoted=quoted)}" for name, inner in names) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_format_flow(inner, quoted=quoted) for inner in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=not value.isprintable()) if quoted else text_of(value)
    return json.dumps(value, allow_nan=False)


def _uses_quotes(text: str, entry: _Entry) -> bool:
    """Return whether the text quotes the keys of a mapping or the values of a list."""
    return _is_json(text) or (entry.key is not None and bool(entry.key.style))


def _line_ending(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in {"{", "["}
