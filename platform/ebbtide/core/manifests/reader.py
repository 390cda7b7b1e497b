"""Strict reader of specs and manifests: YAML and JSON documents as plain data.

``blocks`` reads the plainest documents, and ``events`` all others. The reader accepts a value only if kubectl, YAML
1.1 and YAML 1.2 parse it in the same way, and reports a fix for any other value. It collects all problems: an invalid value
does not hide the next one, and an invalid document does not hide another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.base.words import RENDER_FIX
from ebbtide.core.manifests.blocks import find_block_lines, read_block
from ebbtide.core.manifests.faults import FEATURE, SYNTAX, find_faults, quote_shortened

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
        lines = _find_lines(self.text)
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
    data: Any = None if problems else read_block(clean)
    if data is not None:
        return Document(name, data, [], clean, chunk.first_line)
    from ebbtide.core.manifests.events import Builder  # noqa: PLC0415 - loads libyaml, which plain documents do not need

    builder = Builder(clean, chunk.first_line, name)
    data = builder.build()
    problems += builder.problems
    if problems:
        try:
            return Document(name, _strict_json(chunk.text), [], clean, chunk.first_line)
        except (ValueError, RecursionError):
            pass
        from ebbtide.core.manifests.hints import find_template  # noqa: PLC0415 - only after an error

        template = find_template(clean, {problem.line - chunk.first_line for problem in problems})
        if template is not None:
            line, message = (
                chunk.first_line + template[0],
                f"{quote_shortened(template[1])} is an expression of a template",
            )
            return Document(
                name,
                None,
                [Problem(SYNTAX, (), message, RENDER_FIX, line=line, document=name)],
                clean,
                chunk.first_line,
            )
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
            message = f"kubectl does not accept {quote_shortened(line)} as a separator"
            fix = 'put "---" on a separate line'
            return Problem(SYNTAX, (), message, fix, line=first_line, document=name)
    elif directive := _DIRECTIVE.match(text):
        at = first_line + directive.group().count("\n")
        message = "directives (%YAML, %TAG) are not supported"
        return Problem(FEATURE, (), message, "remove the line", line=at, document=name)
    return None


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


@lru_cache(maxsize=16)
def _find_lines(text: str) -> dict[Path, int]:
    """Return the 0-based line of every path in a document. Only documents with problems need them."""
    data = read_block(text)
    if data is not None:
        return find_block_lines(text, data)
    from ebbtide.core.manifests.events import find_event_lines  # noqa: PLC0415 - as above

    return find_event_lines(text)
