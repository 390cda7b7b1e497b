"""Specs and manifests as plain data, one document at a time, read strictly.

libyaml scans and parses; what its events mean is decided here. The reader takes a document only
where kubectl, YAML 1.1 and YAML 1.2 read the same, and says of everything else how to write it.
Every problem found is kept: a refused value does not hide the next one, nor one document another.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import yaml
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from ebbtide.base.problems import Path, Problem
from ebbtide.manifests.scalars import LARGEST_INTEGER, SMALLEST_INTEGER, TOO_LARGE, Refusal, quoted, readings, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYNTAX: Final = "YML001"
AMBIGUOUS: Final = "YML002"
DUPLICATE: Final = "YML003"
FEATURE: Final = "YML004"
KEY: Final = "YML005"
LIMIT: Final = "YML006"

#: Mappings and lists inside each other; no Kubernetes object comes near it.
MAX_DEPTH: Final = 64
TOO_DEEP: Final = f"more than {MAX_DEPTH} levels of mappings and lists"
#: Longer values are cut where a message shows them.
SHOWN: Final = 60

#: The first bytes of a file that isn't UTF-8. Longer marks come first, for one starts like another.
FOREIGN_MARKS: Final = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
BYTE_ORDER_MARK: Final = "\ufeff"
LAST_SHORT_CODE: Final = 0xFFFF

# kubectl ends a document at every line that starts so; libyaml only where a blank follows.
_SEPARATOR = re.compile(r"^---.*", re.MULTILINE)
_LAWFUL_SEPARATOR = re.compile(r"---[ \t]*\r?|---[ \t]+#.*")
_DIRECTIVE = re.compile(r"(?:[ \t]*(?:#.*)?\r?\n)*%")

# Refused by libyaml, or a line break to one reader and not to another: NEL, U+2028, U+2029, a lone CR.
_UNREADABLE = re.compile(
    "[^\t\r\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)"
)
_USUAL_BYTES = bytes([*b"\t\n", *range(0x20, 0x7F)])
_STAND_IN = "\ufffd"

# Half a character in JSON's escapes, which YAML's don't have.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

#: Where a node stands: its parent's place and its key, outermost ``None``. A path only on demand.
Place = tuple[Any, str | int] | None
#: An event of libyaml; its class says which attributes it has.
Event = Any


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its data, what is wrong with it, and where to find each part.

    ``data`` is ``None`` if the document could not be read to its end. With problems, a refused value
    stands in it as its text, so that the rest can still be checked.
    """

    name: str
    data: Any
    problems: list[Problem]
    text: str = field(repr=False)
    first_line: int = field(repr=False)

    def line(self, path: Path) -> int:
        """Return the line in the file of ``path`` or its deepest part that exists; 0 if unknown."""
        lines = _line_table(self.text)
        for length in range(len(path), -1, -1):
            found = lines.get(path[:length])
            if found is not None:
                return self.first_line + found
        return 0


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The text from one separator to the next, and the line of the file it starts on."""

    text: str
    first_line: int


def read(text: str | bytes, name: str, first_line: int = 1) -> Iterator[Document]:
    """Yield the documents of ``text``; ``name`` is its file, and the second is ``name#2``.

    ``first_line`` is the line of the file that ``text`` starts on, where it is only the file's rest.
    """
    if isinstance(text, bytes):
        raw = text
        try:
            text = _decoded(raw)
        except UnicodeError as error:
            yield Document(name, None, [_undecodable(error, raw, name, first_line)], "", first_line)
            return
    number = 1
    for chunk in _chunks(text.removeprefix(BYTE_ORDER_MARK), first_line):
        document = _read_chunk(chunk, name if number == 1 else f"{name}#{number}")
        if document.data is not None or document.problems:
            yield document
            number += 1


def _decoded(raw: bytes) -> str:
    """Return ``raw`` as text; raises ``UnicodeError`` for any encoding but UTF-8."""
    for mark, encoding in FOREIGN_MARKS:
        if raw.startswith(mark):
            raise UnicodeError(encoding)
    return raw.decode()


def _undecodable(error: UnicodeError, raw: bytes, name: str, first_line: int) -> Problem:
    fix = "save the file as UTF-8"
    if not isinstance(error, UnicodeDecodeError):
        return Problem(SYNTAX, (), f"the file is {error}, not UTF-8", fix, line=first_line, document=name)
    line = raw.count(b"\n", 0, error.start) + first_line
    byte = raw[error.start]
    return Problem(SYNTAX, (), f"byte 0x{byte:02x} is not UTF-8", fix, line=line, document=name)


def _chunks(text: str, line: int) -> Iterator[_Chunk]:
    """Cut ``text`` where kubectl does, so that one broken document leaves the others readable."""
    start = 0
    for separator in _SEPARATOR.finditer(text):
        cut = separator.start()
        if cut:
            yield _Chunk(text[start:cut], line)
            line += text.count("\n", start, cut)
            start = cut
    yield _Chunk(text[start:], line)


def _read_chunk(chunk: _Chunk, name: str) -> Document:
    """Read one document, once as YAML and, if that finds fault, once as JSON: kubectl tries both."""
    clean, problems = _readable(chunk, name)
    unlawful = _unlawful_start(clean, chunk.first_line, name)
    if unlawful:
        return Document(name, None, [*problems, unlawful], clean, chunk.first_line)
    builder = _Builder(clean, chunk.first_line, name)
    data = builder.build()
    problems += builder.problems
    if problems:
        try:
            return Document(name, _strict_json(chunk.text), [], clean, chunk.first_line)
        except (ValueError, RecursionError):
            pass
    return Document(name, data, problems, clean, chunk.first_line)


def _readable(chunk: _Chunk, name: str) -> tuple[str, list[Problem]]:
    """Return the text with a stand-in for each character that readers refuse or differ about."""
    text = chunk.text
    # Far cheaper than the search, and nearly every file has nothing else in it.
    if not text.encode(errors="surrogatepass").translate(None, _USUAL_BYTES):
        return text, []
    problems: dict[int, Problem] = {}
    for match in _UNREADABLE.finditer(text):
        line = chunk.first_line + text.count("\n", 0, match.start())
        if line not in problems:
            problems[line] = _unreadable(match.group(), line, name)
    return _UNREADABLE.sub(_STAND_IN, text) if problems else text, list(problems.values())


def _unreadable(character: str, line: int, name: str) -> Problem:
    code = ord(character)
    message = f"the character U+{code:04X} is refused or read differently by YAML parsers"
    escape = f"\\u{code:04x}" if code <= LAST_SHORT_CODE else f"\\U{code:08x}"
    fix = "end lines with LF" if character == "\r" else f'remove it, or write "{escape}" in double quotes'
    return Problem(SYNTAX, (), message, fix, line=line, document=name)


def _unlawful_start(text: str, first_line: int, name: str) -> Problem | None:
    """Return what is wrong before the content: a separator that isn't alone on its line, or a directive."""
    if text.startswith("---"):
        line = text.partition("\n")[0]
        if not _LAWFUL_SEPARATOR.fullmatch(line):
            message = f"kubectl refuses {_shown(line)} as a separator"
            fix = 'put "---" on a line of its own'
            return Problem(SYNTAX, (), message, fix, line=first_line, document=name)
    elif directive := _DIRECTIVE.match(text):
        at = first_line + directive.group().count("\n")
        message = "directives (%YAML, %TAG) are not read"
        return Problem(FEATURE, (), message, "remove the line", line=at, document=name)
    return None


def _shown(text: str) -> str:
    """Return ``text`` quoted, and cut if it is long."""
    # A stray surrogate must not stop the message about it.
    text = text.encode(errors="replace").decode()
    return quoted(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


class _Stop(Exception):  # noqa: N818  (not an error: what is wrong is already noted)
    """Ends the reading of one document."""


class _Builder:
    """Builds the data of one document from libyaml's events, noting what is wrong on the way."""

    __slots__ = ("first_line", "flow", "marked", "name", "next_event", "problems", "repeated", "text")

    def __init__(self, text: str, first_line: int, name: str) -> None:
        self.text = text
        self.first_line = first_line
        self.name = name
        self.problems: list[Problem] = []
        self.next_event: Callable[[], Event] = CParser(text).get_event
        # Without these signs there is nothing to look for at every node.
        self.marked = "!" in text or "&" in text or "?" in text
        self.flow = 0

    def build(self) -> Any:
        """Return the data, ``None`` if the document is empty or broken off."""
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
        if type(start) is not DocumentStartEvent:
            return None
        data = self._node(self.next_event(), None, 0)
        self.next_event()  # the document's end
        # The stream's end: libyaml refuses more text after "...", which kubectl would drop unread.
        self.next_event()
        return data

    def _node(self, event: Event, place: Place, depth: int) -> Any:
        """Return the value that starts with ``event``."""
        kind = type(event)
        if self.marked:
            self._check_marks(event, place)
        if kind is ScalarEvent:
            if event.style:
                return event.value
            value = resolve(event.value)
            return value if type(value) is not Refusal else self._refuse(value, event, place)
        if kind is AliasEvent:
            self._note(FEATURE, event, place, "aliases (*) are not read", "write the value out")
            return None
        if depth == MAX_DEPTH:
            self._note(LIMIT, event, place, TOO_DEEP, "flatten the document")
            raise _Stop
        # Flow collections, in braces or brackets, hold no others than their like.
        self.flow += event.flow_style
        inside = self._mapping if kind is MappingStartEvent else self._sequence
        collection = inside(place, depth + 1)
        self.flow -= event.flow_style
        return collection

    def _sequence(self, place: Place, depth: int) -> list[Any]:
        items: list[Any] = []
        while True:
            event = self.next_event()
            if type(event) is SequenceEndEvent:
                return items
            items.append(self._node(event, (place, len(items)), depth))

    def _mapping(self, place: Place, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        next_event = self.next_event
        marked = self.marked
        while True:
            event = next_event()
            if type(event) is ScalarEvent and not marked:
                key = event.value
                if not event.style and resolve(key) != key:
                    self._refuse_key(event, place)
            elif type(event) is MappingEndEvent:
                return data
            else:
                key = self._unusual_key(event, place, depth)
            if key in data:
                self._note_duplicate(event, (place, key))
            event = next_event()
            # What _node does, for the commonest case: a call saved for every line of a spec.
            if type(event) is ScalarEvent and not marked:
                if event.style:
                    data[key] = event.value
                else:
                    value = resolve(event.value)
                    if type(value) is Refusal:
                        value = self._refuse(value, event, (place, key))
                    data[key] = value
            else:
                data[key] = self._node(event, (place, key), depth)

    def _unusual_key(self, event: Event, place: Place, depth: int) -> str:
        """Return a key that may have a tag or an anchor, or be no scalar at all."""
        if type(event) is not ScalarEvent:
            if type(event) is AliasEvent:
                self._note(FEATURE, event, place, "aliases (*) are not read", "write the key out")
            else:
                self._note(KEY, event, place, "a key is a mapping or a list", "use a string as the key")
                self._node(event, place, depth)
            return f"(line {self.first_line + event.start_mark.line})"  # so that two don't look equal
        self._check_marks(event, place)
        key: str = event.value
        if not event.style and resolve(key) != key:
            self._refuse_key(event, place)
        return key

    def _check_marks(self, event: Event, place: Place) -> None:
        """Refuse an anchor, a tag (the lone ``!`` included, which events do not show) and a flow ``?``."""
        if type(event) is AliasEvent:
            return  # its anchor is the one it refers to
        if event.anchor is not None:
            self._note(FEATURE, event, place, f"anchors (&{event.anchor}) are not read", "remove it")
        if event.tag is not None or self.text.startswith("!", event.start_mark.index):
            fix = "remove it, and quote the value if it is text"
            self._note(FEATURE, event, place, "tags (!) are not read", fix)
        if self.flow and type(event) is ScalarEvent and not event.style and "?" in event.value:
            message = f"{_cut(event.value)} has a ? inside {{}} or [], where kubectl takes it for a key's sign"
            self._note(AMBIGUOUS, event, place, message, f"quote it: {_shown(event.value)}")

    def _refuse(self, refusal: Refusal, event: Event, place: Place) -> str:
        """Note why a plain scalar is not taken, and return its text in place of a value."""
        text: str = event.value
        fix = f"quote it: {_shown(text)}"
        if refusal is TOO_LARGE:
            self._note(LIMIT, event, place, f"{_cut(text)} is too large a number", fix)
        else:
            self._note(AMBIGUOUS, event, place, f"{_cut(text)} is ambiguous: {readings(text)}", fix)
        return text

    def _refuse_key(self, event: Event, place: Place) -> None:
        text: str = event.value
        if text == "<<":
            self._note(FEATURE, event, place, "merge keys (<<) are not read", "write the keys out")
        else:
            message = f"the key {_cut(text) or '(empty)'} is not a string to every YAML parser"
            self._note(KEY, event, (place, text), message, f"quote it: {_shown(text)}")

    def _note_duplicate(self, event: Event, place: Place) -> None:
        path = _path(place)
        first = self.first_line + _line_table(self.text).get(path, 0)
        message = f"the key {_shown(str(path[-1]))} is here a second time, first on line {first}"
        self._note(DUPLICATE, event, place, message, "keep one of them")

    def _note_syntax_error(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        line = self._line_of(mark) if mark else self.first_line
        reason = error.problem or "not YAML"
        code = LIMIT if "nesting" in reason else SYNTAX  # libyaml looks ahead, so its limit can come first
        if error.context and error.context_mark:
            reason += f" ({error.context} from line {self._line_of(error.context_mark)})"
        self.problems.append(Problem(code, (), reason, line=line, document=self.name))

    def _line_of(self, mark: Any) -> int:
        """Return the line of a syntax error; libyaml puts one at the end on a line after the last."""
        line: int = mark.line
        return self.first_line + min(line, self.text.rstrip().count("\n"))

    def _note(self, code: str, event: Event, place: Place, message: str, fix: str) -> None:
        line = self.first_line + event.start_mark.line
        self.problems.append(Problem(code, _path(place), message, fix, line=line, document=self.name))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _path(place: Place) -> Path:
    """Return a place as a path from the root."""
    parts: list[str | int] = []
    while place is not None:
        place, part = place
        parts.append(part)
    return tuple(reversed(parts))


def _strict_json(text: str) -> Any:
    """Return the data of a JSON text; raises ``ValueError`` if it isn't one, or not a strict one."""
    if text.lstrip()[:1] not in {"{", "["}:
        raise ValueError("not a JSON document")
    data = json.loads(text, object_pairs_hook=_distinct)
    if any(find_faults(data)):
        raise ValueError("not a strict document")
    return data


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key twice")
    return data


def find_faults(data: Any, place: Place = None, depth: int = 0) -> Iterator[Problem]:
    """Yield what JSON allows and no reader keeps: half characters, numbers that are too large or not finite, depth."""
    if isinstance(data, str):
        if data.encode(errors="replace").decode() != data:
            yield Problem(SYNTAX, _path(place), "half a character (a lone surrogate) is not text", "write it whole")
    elif isinstance(data, float):
        if not math.isfinite(data):
            yield Problem(LIMIT, _path(place), f"{data} is not a finite number", "write a finite number")
    elif type(data) is int:
        if not SMALLEST_INTEGER <= data <= LARGEST_INTEGER:
            text = str(data)
            yield Problem(LIMIT, _path(place), f"{_cut(text)} is too large a number", f"quote it: {_shown(text)}")
    elif isinstance(data, dict | list):
        if depth == MAX_DEPTH:
            yield Problem(LIMIT, _path(place), TOO_DEEP, "flatten the document")
            return
        for key, part in data.items() if isinstance(data, dict) else enumerate(data):
            of_key = [*find_faults(key, place, depth)]
            yield from of_key or find_faults(part, (place, key), depth + 1)


@lru_cache(maxsize=16)
def _line_table(text: str) -> dict[Path, int]:
    """Return the 0-based line of every path in a document, of a repeated key the first.

    Only a document with a problem needs it, and then it is made once.
    """
    lines: dict[Path, int] = {}
    try:
        events = yaml.parse(_SURROGATE_ESCAPE.sub(r"\\ufffd", text), Loader=yaml.CLoader)
        for event in events:
            if isinstance(event, DocumentStartEvent):
                _note_lines(next(events), (), lines, events)
                break
    except (yaml.YAMLError, _Stop):
        pass  # what stands before the error has its lines
    return lines


def _note_lines(event: Event, path: Path, lines: dict[Path, int], events: Iterator[Event]) -> None:
    """Put the lines of the node that starts with ``event`` into ``lines``."""
    lines.setdefault(path, event.start_mark.line)
    if len(path) > MAX_DEPTH:
        raise _Stop
    if isinstance(event, SequenceStartEvent):
        index = 0
        while not isinstance(item := next(events), SequenceEndEvent):
            _note_lines(item, (*path, index), lines, events)
            index += 1
    elif isinstance(event, MappingStartEvent):
        while not isinstance(key := next(events), MappingEndEvent):
            line: int = key.start_mark.line
            if isinstance(key, ScalarEvent):
                entry = (*path, key.value)
                lines.setdefault(entry, line)
            else:
                entry = (*path, "")
                _note_lines(key, entry, {}, events)
            _note_lines(next(events), entry, lines, events)
