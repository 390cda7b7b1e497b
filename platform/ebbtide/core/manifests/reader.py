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
from typing import Any, Final

from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.base.words import RENDER_FIX, TEMPLATE
from ebbtide.core.manifests.blocks import read_block
from ebbtide.core.manifests.faults import find_faults, quote_shortened

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
        from ebbtide.core.manifests.events import find_lines  # noqa: PLC0415 - loads libyaml, which plain documents do not need

        lines = find_lines(self.text)
        for length in range(len(path), -1, -1):
            line = lines.get(path[:length])
            if line is not None:
                return self.first_line + line
        return 0


def read_documents(text: str | bytes, name: str) -> Iterator[Document]:
    """Yield the documents of ``text``. ``name`` is the name of the first document; the second is ``name#2``."""
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            yield Document(name, None, [_encoding_problem(error, name)], "", 1)
            return
    number = 1
    for chunk, line in _split_chunks(text.removeprefix(BYTE_ORDER_MARK)):
        document = _read_chunk(chunk, line, name if number == 1 else f"{name}#{number}")
        if document.data is not None or document.problems:
            yield document
            number += 1


def _encoding_problem(error: UnicodeDecodeError, name: str) -> Problem:
    line = error.object.count(b"\n", 0, error.start) + 1
    message = f"byte 0x{error.object[error.start]:02x} is not valid UTF-8"
    return Problem("YML001", (), message, "save the file as UTF-8", line=line, document=name)


def _split_chunks(text: str) -> Iterator[tuple[str, int]]:
    """Yield the texts between separators, with their first lines, split as kubectl does: each can be invalid on its own."""
    start, line = 0, 1
    for separator in _SEPARATOR.finditer(text):
        end = separator.start()
        if end:
            yield text[start:end], line
            line += text.count("\n", start, end)
            start = end
    yield text[start:], line


def _read_chunk(text: str, first_line: int, name: str) -> Document:
    """Read a document as YAML and, if that fails, as JSON. kubectl tries both, too."""
    clean, problems = _replace_unreadable(text, first_line, name)
    unlawful = _check_start(clean, first_line, name)
    if unlawful:
        return Document(name, None, [*problems, unlawful], clean, first_line)
    data: Any = None if problems else read_block(clean)
    if data is not None:
        return Document(name, data, [], clean, first_line)
    from ebbtide.core.manifests.events import Builder  # noqa: PLC0415 - as above

    builder = Builder(clean, first_line, name)
    data = builder.build()
    problems += builder.problems
    if problems:
        try:
            return Document(name, _strict_json(text), [], clean, first_line)
        except (ValueError, RecursionError):
            pass
        template = _find_template(clean, first_line, {problem.line for problem in problems})
        if template is not None:
            line, expression = template
            message = f"{quote_shortened(expression)} is an expression of a template"
            problem = Problem("YML001", (), message, RENDER_FIX, line=line, document=name)
            return Document(name, None, [problem], clean, first_line)
    return Document(name, data, problems, clean, first_line)


def _find_template(text: str, first_line: int, problem_lines: set[int]) -> tuple[int, str] | None:
    """Return the line and the text of a template expression on or before a line with a problem; None if there is none."""
    for number, line in enumerate(text.split("\n"), first_line):
        match = TEMPLATE.search(line) if problem_lines.intersection((number, number + 1)) else None
        if match is not None and not line.lstrip().startswith("#"):
            return number, match.group()
    return None


def _replace_unreadable(text: str, line: int, name: str) -> tuple[str, list[Problem]]:
    """Return the text with a replacement for each character that parsers reject or treat differently."""
    # Much cheaper than the search, and nearly every file has only these bytes.
    if not text.encode(errors="surrogatepass").translate(None, _USUAL_BYTES):
        return text, []
    problems: dict[int, Problem] = {}
    start = 0
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
    return Problem("YML001", (), message, fix, line=line, document=name)


def _check_start(text: str, first_line: int, name: str) -> Problem | None:
    """Return the problem of a separator that is not alone on its line, or of a directive; None if there is none."""
    if text.startswith("---"):
        line = text.partition("\n")[0]
        if not _LAWFUL_SEPARATOR.fullmatch(line):
            message = f"kubectl does not accept {quote_shortened(line)} as a separator"
            fix = 'put "---" on a separate line'
            return Problem("YML001", (), message, fix, line=first_line, document=name)
    elif directive := _DIRECTIVE.match(text):
        at = first_line + directive.group().count("\n")
        message = "directives (%YAML, %TAG) are not supported"
        return Problem("YML004", (), message, "remove the line", line=at, document=name)
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
