"""Strict reader of specs and manifests: YAML and JSON documents as plain data.

libyaml scans and parses; this module decides on the meaning of its events. The reader accepts a value only if kubectl, YAML
1.1 and YAML 1.2 parse it in the same way, and reports a fix for any other value. It collects all problems: an invalid value
does not hide the next one, and an invalid document does not hide another.
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

from ebbtide.base.problems import Fix, Path, Problem, set_value
from ebbtide.manifests.scalars import (
    LARGEST_INTEGER,
    SMALLEST_INTEGER,
    TOO_LARGE,
    Refusal,
    describe_readings,
    quote_text,
    resolve_scalar,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYNTAX: Final = "YML001"
AMBIGUOUS: Final = "YML002"
DUPLICATE: Final = "YML003"
FEATURE: Final = "YML004"
KEY: Final = "YML005"
LIMIT: Final = "YML006"

#: Maximum nesting of mappings and lists, far above that of any Kubernetes object.
MAX_DEPTH: Final = 64
TOO_DEEP: Final = f"more than {MAX_DEPTH} levels of mappings and lists"
#: Number of characters that a message shows of a value.
SHOWN: Final = 60

#: Byte order marks of other encodings than UTF-8. Longer marks are first, because a mark may be a prefix of another.
FOREIGN_MARKS: Final = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
BYTE_ORDER_MARK: Final = "\ufeff"
LAST_SHORT_CODE: Final = 0xFFFF

# kubectl ends a document at every line with this prefix; libyaml only if a blank follows.
_SEPARATOR = re.compile(r"^---.*", re.MULTILINE)
_LAWFUL_SEPARATOR = re.compile(r"---[ \t]*\r?|---[ \t]+#.*")
# Each line matches in one way, and without backtracking: 30 comments that end with CRLF would otherwise take minutes.
_DIRECTIVE = re.compile(r"(?:[ \t]*(?:#[^\n]*|\r)?\n)*+%")

# Rejected by libyaml, or a line break only for some parsers: NEL, U+2028, U+2029, a lone CR.
_UNREADABLE = re.compile(
    "[^\t\r\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)"
)
_USUAL_BYTES = bytes([*b"\t\n", *range(0x20, 0x7F)])
_STAND_IN = "\ufffd"

# Half of a surrogate pair as a JSON escape, which YAML does not support.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

#: Position of a node: the position of its parent and its key, ``None`` for the root. Converted to a path only on demand.
Place = tuple[Any, str | int] | None
#: An event of libyaml. Its class determines its attributes.
Event = Any


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a file: its data, its problems, and the line of each part.

    ``data`` is ``None`` if the document could not be read completely. An invalid value is replaced by its text, so that the
    rest of the document can still be checked.
    """

    name: str
    data: Any
    problems: list[Problem]
    text: str = field(repr=False)
    first_line: int = field(repr=False)

    def line(self, path: Path) -> int:
        """Return the line in the file of ``path`` or of its deepest existing part, 0 if unknown."""
        lines = _line_table(self.text)
        for length in range(len(path), -1, -1):
            line = lines.get(path[:length])
            if line is not None:
                return self.first_line + line
        return 0


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The text between two separators, and the line of the file on which it starts."""

    text: str
    first_line: int


def read_documents(text: str | bytes, name: str) -> Iterator[Document]:
    """Yield the documents of ``text``. ``name`` is the name of the first document; the second is ``name#2``."""
    if isinstance(text, bytes):
        raw = text
        try:
            text = _decode_utf8(raw)
        except UnicodeError as error:
            yield Document(name, None, [_encoding_problem(error, raw, name)], "", 1)
            return
    number = 1
    for chunk in _split_chunks(text.removeprefix(BYTE_ORDER_MARK)):
        document = _read_chunk(chunk, name if number == 1 else f"{name}#{number}")
        if document.data is not None or document.problems:
            yield document
            number += 1


def _decode_utf8(raw: bytes) -> str:
    """Return ``raw`` as text. Raises ``UnicodeError`` for any encoding other than UTF-8."""
    for mark, encoding in FOREIGN_MARKS:
        if raw.startswith(mark):
            raise UnicodeError(encoding)
    return raw.decode()


def _encoding_problem(error: UnicodeError, raw: bytes, name: str) -> Problem:
    fix = "save the file as UTF-8"
    if not isinstance(error, UnicodeDecodeError):
        return Problem(SYNTAX, (), f"the file is encoded as {error}, not UTF-8", fix, line=1, document=name)
    line = raw.count(b"\n", 0, error.start) + 1
    byte = raw[error.start]
    return Problem(SYNTAX, (), f"byte 0x{byte:02x} is not valid UTF-8", fix, line=line, document=name)


def _split_chunks(text: str) -> Iterator[_Chunk]:
    """Split ``text`` as kubectl does, so that an invalid document does not affect the others."""
    start, line = 0, 1
    for separator in _SEPARATOR.finditer(text):
        end = separator.start()
        if end:
            yield _Chunk(text[start:end], line)
            line += text.count("\n", start, end)
            start = end
    yield _Chunk(text[start:], line)


def _read_chunk(chunk: _Chunk, name: str) -> Document:
    """Read a document as YAML and, if that fails, as JSON. kubectl tries both, too."""
    clean, problems = _replace_unreadable(chunk, name)
    unlawful = _check_start(clean, chunk.first_line, name)
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


def _replace_unreadable(chunk: _Chunk, name: str) -> tuple[str, list[Problem]]:
    """Return the text with a replacement for each character that parsers reject or treat differently."""
    text = chunk.text
    # Much cheaper than the search, and nearly every file has only these bytes.
    if not text.encode(errors="surrogatepass").translate(None, _USUAL_BYTES):
        return text, []
    problems: dict[int, Problem] = {}
    line, start = chunk.first_line, 0
    for match in _UNREADABLE.finditer(text):
        # Each part of the text is counted once.
        line += text.count("\n", start, match.start())
        start = match.start()
        if line not in problems:
            problems[line] = _character_problem(match.group(), line, name)
    return _UNREADABLE.sub(_STAND_IN, text) if problems else text, list(problems.values())


def _character_problem(character: str, line: int, name: str) -> Problem:
    code = ord(character)
    message = f"YAML parsers reject the character U+{code:04X}, or treat it differently"
    escape = f"\\u{code:04x}" if code <= LAST_SHORT_CODE else f"\\U{code:08x}"
    fix = "end lines with LF" if character == "\r" else f'remove it, or write "{escape}" in double quotes'
    return Problem(SYNTAX, (), message, fix, line=line, document=name)


def _check_start(text: str, first_line: int, name: str) -> Problem | None:
    """Return the problem of a separator that is not alone on its line, or of a directive; None if there is none."""
    if text.startswith("---"):
        line = text.partition("\n")[0]
        if not _LAWFUL_SEPARATOR.fullmatch(line):
            message = f"kubectl does not accept {_quote_shortened(line)} as a separator"
            fix = 'put "---" on a separate line'
            return Problem(SYNTAX, (), message, fix, line=first_line, document=name)
    elif directive := _DIRECTIVE.match(text):
        at = first_line + directive.group().count("\n")
        message = "directives (%YAML, %TAG) are not supported"
        return Problem(FEATURE, (), message, "remove the line", line=at, document=name)
    return None


def _quote_shortened(text: str) -> str:
    """Return ``text`` quoted, and shortened if it is long."""
    # Replace a lone surrogate, which could not be written.
    text = text.encode(errors="replace").decode()
    return quote_text(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


class _Stop(Exception):  # noqa: N818 - not an error: the problem is already recorded
    """Stops the reading of a document."""


class _Builder:
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
        if type(start) is not DocumentStartEvent:
            return None
        data = self._node(self.next_event(), None, 0)
        self.next_event()  # the document's end
        # The stream's end: libyaml rejects text after "...", which kubectl would ignore.
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
            value = resolve_scalar(event.value)
            return value if type(value) is not Refusal else self._refuse(value, event, place)
        if kind is AliasEvent:
            self._note(FEATURE, event, place, "aliases (*) are not supported", "replace the alias with the value")
            return None
        if depth == MAX_DEPTH:
            self._note(LIMIT, event, place, TOO_DEEP, "flatten the document")
            raise _Stop
        # Flow collections, in braces or brackets, contain only flow collections.
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
                if not event.style and resolve_scalar(key) != key:
                    self._refuse_key(event, place)
            elif type(event) is MappingEndEvent:
                return data
            else:
                key = self._unusual_key(event, place, depth)
            if key in data:
                self._note_duplicate(event, (place, key))
            event = next_event()
            # As in _node, for the most common case: this saves a call per line of a spec.
            if type(event) is ScalarEvent and not marked:
                if event.style:
                    data[key] = event.value
                else:
                    value = resolve_scalar(event.value)
                    if type(value) is Refusal:
                        value = self._refuse(value, event, (place, key))
                    data[key] = value
            else:
                data[key] = self._node(event, (place, key), depth)

    def _unusual_key(self, event: Event, place: Place, depth: int) -> str:
        """Return a key that may have a tag or an anchor, or may not be a scalar."""
        if type(event) is not ScalarEvent:
            if type(event) is AliasEvent:
                self._note(FEATURE, event, place, "aliases (*) are not supported", "replace the alias with the key")
            else:
                self._note(KEY, event, place, "a key is a mapping or a list", "use a string as the key")
                self._node(event, place, depth)
            return f"(line {self.first_line + event.start_mark.line})"  # unique, so that it is not a duplicate key
        self._check_marks(event, place)
        key: str = event.value
        if not event.style and resolve_scalar(key) != key:
            self._refuse_key(event, place)
        return key

    def _check_marks(self, event: Event, place: Place) -> None:
        """Report an anchor, a tag (including a lone ``!``, which events do not show) and a ``?`` in a flow collection."""
        if type(event) is AliasEvent:
            return  # its anchor attribute names the anchor that it refers to
        if event.anchor is not None:
            self._note(FEATURE, event, place, f"anchors (&{event.anchor}) are not supported", "remove the anchor")
        if event.tag is not None or self.text.startswith("!", event.start_mark.index):
            fix = "remove the tag, and quote the value if it is a string"
            self._note(FEATURE, event, place, "tags (!) are not supported", fix)
        if self.flow and type(event) is ScalarEvent and not event.style and "?" in event.value:
            message = f"{_shorten(event.value)} has a ? inside {{}} or [], which kubectl reads as a key indicator"
            self._note_unquoted(AMBIGUOUS, event, place, message)

    def _refuse(self, refusal: Refusal, event: Event, place: Place) -> str:
        """Report why a plain scalar is rejected, and return its text instead of a value."""
        text: str = event.value
        if refusal is TOO_LARGE:
            message = f"the number {_shorten(text)} is too large: it must fit into 64 bits"
            self._note_unquoted(LIMIT, event, place, message)
        else:
            self._note_unquoted(AMBIGUOUS, event, place, f"{_shorten(text)} is ambiguous: {describe_readings(text)}")
        return text

    def _refuse_key(self, event: Event, place: Place) -> None:
        text: str = event.value
        if text == "<<":
            self._note(
                FEATURE, event, place, "merge keys (<<) are not supported", "replace the merge key with the merged keys"
            )
        else:
            message = f"the key {_shorten(text) or '(empty)'} is not a string for every YAML parser"
            self._note(KEY, event, (place, text), message, f"quote it: {_quote_shortened(text)}")

    def _note_duplicate(self, event: Event, place: Place) -> None:
        path = _path_to(place)
        first = self.first_line + _line_table(self.text).get(path, 0)
        message = f"duplicate key {_quote_shortened(str(path[-1]))}, first used on line {first}"
        self._note(DUPLICATE, event, place, message, "keep one of them")

    def _note_syntax_error(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        line = self._line_of(mark) if mark else self.first_line
        reason = error.problem or "invalid YAML"
        code = LIMIT if "nesting" in reason else SYNTAX  # libyaml reads ahead, so it may report its own limit first
        if error.context and error.context_mark:
            reason += f" ({error.context} from line {self._line_of(error.context_mark)})"
        self.problems.append(Problem(code, (), reason, line=line, document=self.name))

    def _line_of(self, mark: Any) -> int:
        """Return the line of a syntax error. libyaml reports an error at the end of the text on a line after the last."""
        line: int = mark.line
        return self.first_line + min(line, self.text.rstrip().count("\n"))

    def _note_unquoted(self, code: str, event: Event, place: Place, message: str) -> None:
        """Report a value that is a string only in quotes. They are safe to add: it is read as this text now."""
        fix = f"quote it: {_quote_shortened(event.value)}"
        self._note(code, event, place, message, fix, set_value(event.value, safe=True))

    def _note(self, code: str, event: Event, place: Place, message: str, fix: str, fixes: tuple[Fix, ...] = ()) -> None:
        line = self.first_line + event.start_mark.line
        self.problems.append(Problem(code, _path_to(place), message, fix, line=line, document=self.name, fixes=fixes))


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _path_to(place: Place) -> Path:
    """Return the path of a position, from the root."""
    parts: list[str | int] = []
    while place is not None:
        place, part = place
        parts.append(part)
    return tuple(reversed(parts))


def _strict_json(text: str) -> Any:
    """Return the data of a JSON text. Raises ``ValueError`` if it is not valid, strict JSON."""
    if text.lstrip()[:1] not in {"{", "["}:
        raise ValueError("not a JSON document")
    data = json.loads(text, object_pairs_hook=_reject_duplicates)
    if any(find_faults(data)):
        raise ValueError("not a strict JSON document")
    return data


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("duplicate key")
    return data


def find_faults(data: Any, place: Place = None, depth: int = 0) -> Iterator[Problem]:
    """Yield problems of values that JSON allows but other parsers do not preserve.

    These are lone surrogates, numbers that are not finite or exceed 64 bits, and deep nesting.
    """
    if isinstance(data, str):
        if data.encode(errors="replace").decode() != data:
            message = "the string contains half of a surrogate pair, which is not a valid character"
            yield Problem(SYNTAX, _path_to(place), message, "write the complete character")
    elif isinstance(data, float):
        if not math.isfinite(data):
            yield Problem(LIMIT, _path_to(place), f"{data} is not a finite number", "use a finite number")
    elif type(data) is int:
        if not SMALLEST_INTEGER <= data <= LARGEST_INTEGER:
            text = str(data)
            message = f"the number {_shorten(text)} is too large: it must fit into 64 bits"
            yield Problem(LIMIT, _path_to(place), message, f"quote it: {_quote_shortened(text)}")
    elif isinstance(data, dict | list):
        if depth == MAX_DEPTH:
            yield Problem(LIMIT, _path_to(place), TOO_DEEP, "flatten the document")
            return
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            key_problems = [*find_faults(key, place, depth)]
            yield from key_problems or find_faults(value, (place, key), depth + 1)


@lru_cache(maxsize=16)
def _line_table(text: str) -> dict[Path, int]:
    """Return the 0-based line of every path in a document; of a duplicate key, the first line.

    Only documents with problems need the table, and it is cached.
    """
    lines: dict[Path, int] = {}
    try:
        events = yaml.parse(_SURROGATE_ESCAPE.sub(r"\\ufffd", text), Loader=yaml.CLoader)
        for event in events:
            if isinstance(event, DocumentStartEvent):
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
    if isinstance(event, SequenceStartEvent):
        index = 0
        while not isinstance(item_event := next(events), SequenceEndEvent):
            _note_lines(item_event, (*path, index), lines, events)
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
