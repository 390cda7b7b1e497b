"""Changes of a few values in a document's text, so that every other byte stays: comments, order, layout.

Block and flow style and JSON are edited where each value stands; what comes out is read again and must hold the changes
and nothing else.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from ebbtide import manifests

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK: Final = "autoscaling"


class NotEdited(ValueError):  # noqa: N818 - it names what is so, as Problem does
    """A text that could not be changed as asked without changing more."""


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """Return a spec's text with ``changes`` to its ``spec.autoscaling``; None takes a field out. Raises NotEdited."""
    before = list(manifests.read(text, "before"))
    if len(before) != 1 or before[0].problems or not isinstance(before[0].data, dict):
        raise NotEdited("the file does not hold one document")
    wanted = copy.deepcopy(before[0].data)
    spec = wanted.get("spec")
    block = spec.setdefault(BLOCK, {}) if isinstance(spec, dict) else None
    if not isinstance(block, dict):
        raise NotEdited("the file has no spec, or no mapping for its autoscaling")
    for name, value in changes.items():
        if value is None:
            block.pop(name, None)
        else:
            block[name] = value
    try:
        found = _edited(text, changes)
    except (yaml.YAMLError, ValueError, KeyError, IndexError) as error:
        raise NotEdited("the layout is one that is not edited") from error
    after = list(manifests.read(found, "after"))
    if len(after) != 1 or after[0].problems or after[0].data != wanted:
        raise NotEdited("the layout is one that is not edited")
    return found


def _edited(text: str, changes: Mapping[str, Any]) -> str:
    if not text.endswith("\n") and not _json(text):
        text += "\n"
    root = yaml.compose(text, yaml.SafeLoader)
    spec = _entry(root, "spec")[1]
    present = {key.value for key, _ in spec.value}
    if BLOCK not in present:
        kept = {name: value for name, value in changes.items() if value is not None}
        return _insert(text, spec, {BLOCK: kept}) if kept else text
    block = _entry(spec, BLOCK)[1]
    here = {key.value: (key, value) for key, value in block.value}
    new = {name: value for name, value in changes.items() if name not in here and value is not None}
    gone = {name for name, value in changes.items() if name in here and value is None}
    if gone and block.flow_style:
        return _rebuilt(text, block, changes, new)
    cuts = [(*_line(text, *here[name]), "") for name in gone]
    for name, value in changes.items():
        if name in here and name not in gone:
            node = here[name][1]
            cuts.append((node.start_mark.index, node.end_mark.index, _written(value, node, text)))
    # From the end on, so that what comes before stays where it is; what is new first, since it comes last.
    out = _insert(text, block, new) if new else text
    for start, end, put in sorted(cuts, reverse=True):
        out = out[:start] + put + out[end:]
    return out


def _entry(node: Any, name: str) -> tuple[Any, Any]:
    for key, value in node.value:
        if key.value == name:
            return key, value
    raise KeyError(name)


def _line(text: str, key: Any, node: Any) -> tuple[int, int]:
    """Return where the lines of an entry in block style begin and end."""
    return text.rfind("\n", 0, key.start_mark.index) + 1, text.find("\n", node.end_mark.index) + 1


def _rebuilt(text: str, block: Any, changes: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the text with a mapping in flow style made anew, with what stood between its entries."""
    entries = []
    for key, node in block.value:
        raw = text[key.start_mark.index : node.start_mark.index]
        if key.value not in changes:
            entries.append(raw + text[node.start_mark.index : node.end_mark.index])
        elif changes[key.value] is not None:
            entries.append(raw + _written(changes[key.value], node, text))
    first, last = block.value[0], block.value[-1]
    opening = text[block.start_mark.index : first[0].start_mark.index]
    closing = text[last[1].end_mark.index : block.end_mark.index]
    between = text[first[1].end_mark.index : block.value[1][0].start_mark.index] if len(block.value) > 1 else ", "
    entries += _flow(new, quoted=first[0].style is not None)
    made = opening + between.join(entries) + closing if entries else "{}"
    return text[: block.start_mark.index] + made + text[block.end_mark.index :]


def _written(value: Any, node: Any, text: str) -> str:
    """Return a value; text is quoted where the one before it was."""
    if isinstance(value, str) and text[node.start_mark.index] not in "\"'":
        return value
    return json.dumps(value)


def _insert(text: str, node: Any, new: Mapping[str, Any]) -> str:
    """Return the text with entries put after the last one of a mapping."""
    if node.flow_style:
        if not node.value:
            at = node.start_mark.index + 1
            return text[:at] + ", ".join(_flow(new, quoted=_json(text))) + text[at:]
        key, last = node.value[-1]
        at = last.end_mark.index
        line = text.rfind("\n", 0, key.start_mark.index) + 1
        indent = text[line : key.start_mark.index]
        between = ",\n" + indent if line and not indent.strip() else ", "
        return text[:at] + "".join(between + entry for entry in _flow(new, quoted=key.style is not None)) + text[at:]
    if not node.value:
        raise ValueError("an empty mapping in block style")
    indent = " " * node.value[0][0].start_mark.column
    lines = []
    for name, value in new.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:\n", *(f"{indent}  {inner}: {_plain(one)}\n" for inner, one in value.items())]
        else:
            lines.append(f"{indent}{name}: {_plain(value)}\n")
    at = _end(text, node)
    ending = "\r\n" if "\r\n" in text else "\n"
    return text[:at] + "".join(lines).replace("\n", ending) + text[at:]


def _end(text: str, node: Any) -> int:
    """Return where the last line of a block's content ends: comments after it are not its own."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end: int = node.end_mark.index
    if end and text[end - 1] == "\n":
        return end
    return text.find("\n", end) + 1


def _json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _flow(new: Mapping[str, Any], *, quoted: bool) -> list[str]:
    out = []
    for name, value in new.items():
        put = (
            "{" + ", ".join(_flow(value, quoted=quoted)) + "}"
            if isinstance(value, dict)
            else _value(value, quoted=quoted)
        )
        out.append(f"{json.dumps(name) if quoted else name}: {put}")
    return out


def _value(value: Any, *, quoted: bool) -> str:
    return json.dumps(value) if quoted else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
