"""Reader of any YAML: libyaml scans and parses, and this module decides on the meaning of its events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import yaml
from yaml._yaml import CParser

from ebbtide.core.base.problems import Fix, Path, Problem, set_value
from ebbtide.core.manifests.faults import MAX_DEPTH, TOO_DEEP, quote_shortened, shorten
from ebbtide.core.manifests.scalars import TOO_LARGE, Refusal, resolve_scalar

# Half of a surrogate pair as a JSON escape, which YAML does not support.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

SYNTAX_FIX: Final = "check the quotes, the brackets and the indentation"

#: An event of libyaml. Its class determines its attributes.
Event = Any


class _Stop(Exception):  # noqa: N818 - not an error: the problem is already recorded
    """Stops the reading of a document."""


class Builder:
    """Builds the data of a document from libyaml's events, and collects its problems."""

    __slots__ = ("first_line", "flow", "marked", "name", "next_event", "problems", "repeated", "text")

    def __init__(self, text: str, first_line: int, name: str) -> None:
        self.text = text
        self.first_line = first_line
        self.name = name
        self.problems: list[Problem] = []
        self.next_event: Callable[[], Event] = CParser(text).get_event
        # Without these characters, no node can have a tag, an anchor or a complex key.
        self.marked = "!" in text or "&" in text or "?" in text
        self.flow = 0

    def build(self) -> Any:
        """Return the data, or ``None`` if the document is empty or could not be read completely."""
        try:
            return self._document()
        except _Stop:
            return None
        except yaml.MarkedYAMLError as error:
            self._note_syntax_error(error)
            return None

    def _document(self) -> Any:
        self.next_event()  # the stream's start
        start = self.next_event()
        if type(start) is not yaml.DocumentStartEvent:
            return None
        data = self._node(self.next_event(), (), 0)
        self.next_event()  # the document's end
        # The stream's end: libyaml rejects text after "...", which kubectl would ignore.
        self.next_event()
        return data

    def _node(self, event: Event, path: Path, depth: int) -> Any:
        """Return the value that starts with ``event``."""
        kind = type(event)
        self._check_marks(event, path)
        if kind is yaml.ScalarEvent:
            if event.style:
                return event.value
            value = resolve_scalar(event.value)
            return value if type(value) is not Refusal else self._refuse(value, event, path)
        if kind is yaml.AliasEvent:
            self._note("YML004", event, path, "aliases (*) are not supported", "replace the alias with the value")
            return None
        if depth == MAX_DEPTH:
            self._note("YML006", event, path, TOO_DEEP, "flatten the document")
            raise _Stop
        # Flow collections, in braces or brackets, contain only flow collections.
        self.flow += event.flow_style
        inside = self._mapping if kind is yaml.MappingStartEvent else self._sequence
        collection = inside(path, depth + 1)
        self.flow -= event.flow_style
        return collection

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while type(event := self.next_event()) is not yaml.SequenceEndEvent:
            items.append(self._node(event, (*path, len(items)), depth))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while type(event := self.next_event()) is not yaml.MappingEndEvent:
            key = self._key(event, path, depth)
            if key in data:
                self._note_duplicate(event, (*path, key))
            data[key] = self._node(self.next_event(), (*path, key), depth)
        return data

    def _key(self, event: Event, path: Path, depth: int) -> str:
        """Return the key that is ``event``, or a unique text for a key that is not a string."""
        if type(event) is yaml.ScalarEvent:
            self._check_marks(event, path)
            key: str = event.value
            if not event.style and resolve_scalar(key) != key:
                self._refuse_key(event, path)
            return key
        if type(event) is yaml.AliasEvent:
            self._note("YML004", event, path, "aliases (*) are not supported", "replace the alias with the key")
        else:
            self._note("YML005", event, path, "a key is a mapping or a list", "use a string as the key")
            self._node(event, path, depth)
        return f"(line {self.first_line + event.start_mark.line})"

    def _check_marks(self, event: Event, path: Path) -> None:
        """Report an anchor, a tag (including a lone ``!``, which events do not show) and a ``?`` in a flow collection."""
        if not self.marked or type(event) is yaml.AliasEvent:
            return  # an alias's anchor attribute names the anchor that it refers to
        if event.anchor is not None:
            self._note("YML004", event, path, f"anchors (&{event.anchor}) are not supported", "remove the anchor")
        if event.tag is not None or self.text.startswith("!", event.start_mark.index):
            fix = "remove the tag, and quote the value if it is a string"
            self._note("YML004", event, path, "tags (!) are not supported", fix)
        if self.flow and type(event) is yaml.ScalarEvent and not event.style and "?" in event.value:
            message = f"{shorten(event.value)} has a ? inside {{}} or [], which kubectl reads as a key indicator"
            self._note_unquoted("YML002", event, path, message)

    def _refuse(self, refusal: Refusal, event: Event, path: Path) -> str:
        """Report why a plain scalar is rejected, and return its text instead of a value."""
        text: str = event.value
        if refusal is TOO_LARGE:
            message = f"the number {shorten(text)} is too large: it must fit into 64 bits"
            self._note_unquoted("YML006", event, path, message)
        else:
            self._note_unquoted(
                "YML002", event, path, f"{shorten(text)} is ambiguous: YAML parsers read it differently"
            )
        return text

    def _refuse_key(self, event: Event, path: Path) -> None:
        text: str = event.value
        if text == "<<":
            self._note(
                "YML004",
                event,
                path,
                "merge keys (<<) are not supported",
                "replace the merge key with the merged keys",
            )
        else:
            message = f"the key {shorten(text) or '(empty)'} is not a string for every YAML parser"
            self._note("YML005", event, (*path, text), message, f"quote it: {quote_shortened(text)}")

    def _note_duplicate(self, event: Event, path: Path) -> None:
        first = self.first_line + find_lines(self.text).get(path, 0)
        message = f"duplicate key {quote_shortened(str(path[-1]))}, first used on line {first}"
        self._note("YML003", event, path, message, "keep one of them")

    def _note_syntax_error(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        line = self._line_of(mark) if mark else self.first_line
        reason = error.problem or "invalid YAML"
        # libyaml reads ahead, so it may report its own limit first.
        code, fix = ("YML006", "") if "nesting" in reason else ("YML001", SYNTAX_FIX)
        if error.context and error.context_mark:
            reason += f" ({error.context} from line {self._line_of(error.context_mark)})"
        self.problems.append(Problem(code, (), reason, fix, line=line, document=self.name))

    def _line_of(self, mark: Any) -> int:
        """Return the line of a syntax error. libyaml reports an error at the end of the text on a line after the last."""
        line: int = mark.line
        return self.first_line + min(line, self.text.rstrip().count("\n"))

    def _note_unquoted(self, code: str, event: Event, path: Path, message: str) -> None:
        """Report a value that is a string only in quotes. They are safe to add: it is read as this text now."""
        fix = f"quote it: {quote_shortened(event.value)}"
        self._note(code, event, path, message, fix, set_value(event.value, safe=True))

    def _note(self, code: str, event: Event, path: Path, message: str, fix: str, fixes: tuple[Fix, ...] = ()) -> None:
        line = self.first_line + event.start_mark.line
        self.problems.append(Problem(code, path, message, fix, line=line, document=self.name, fixes=fixes))


@lru_cache(maxsize=16)
def find_lines(text: str) -> dict[Path, int]:
    """Return the 0-based line of every path in a document; of a duplicate key, the first line.

    Only documents with problems need the table, and it is cached.
    """
    lines: dict[Path, int] = {}
    try:
        events = yaml.parse(_SURROGATE_ESCAPE.sub(r"\\ufffd", text), Loader=yaml.CLoader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                _note_lines(next(events), (), lines, events)
                break
    except (yaml.YAMLError, _Stop):
        pass  # the lines before the error are recorded
    return lines


def _note_lines(event: Event, path: Path, lines: dict[Path, int], events: Iterator[Event]) -> None:
    """Add the lines of the node that starts with ``event`` to ``lines``."""
    lines.setdefault(path, event.start_mark.line)
    if len(path) > MAX_DEPTH:
        raise _Stop
    if isinstance(event, yaml.SequenceStartEvent):
        index = 0
        while not isinstance(item_event := next(events), yaml.SequenceEndEvent):
            _note_lines(item_event, (*path, index), lines, events)
            index += 1
    elif isinstance(event, yaml.MappingStartEvent):
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            line: int = key.start_mark.line
            if isinstance(key, yaml.ScalarEvent):
                entry = (*path, key.value)
                lines.setdefault(entry, line)
            else:
                entry = (*path, "")
                _note_lines(key, entry, {}, events)
            _note_lines(next(events), entry, lines, events)
