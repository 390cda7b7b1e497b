"""Tables and prose in text, for commands and reports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

#: Columns that the last cell of a line gets at least before it is wrapped.
MIN_CELL: Final = 20


def align_table(
    rows: Sequence[Sequence[str]], indent: str = "", left: int = 1, right: int | None = None, width: int = 0
) -> str:
    """Return rows as lines with aligned columns; ``[left:right]`` are the right-aligned ones, the others have text.

    Columns beyond ``width``, if it is not 0, follow in further tables, each with the first column.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(len(widths))[left:right]
    cells = [
        [f"{cell:{'>' if column in numbers else '<'}{widths[column]}}" for column, cell in enumerate(row)]
        for row in rows
    ]
    return "\n".join(
        "".join(f"{indent}{'   '.join(row[column] for column in columns)}".rstrip() + "\n" for row in cells)
        for columns in _split_columns(widths, width - len(indent))
    )


def _split_columns(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Yield the columns of each table: as many as fit the width. A last column of text is wrapped."""
    columns, used = [0], widths[0]
    for column in range(1, len(widths)):
        needed = min(widths[column], MIN_CELL)
        if width > 0 and used + 3 + needed > width and len(columns) > 1:
            yield columns
            columns, used = [0], widths[0]
        columns.append(column)
        used += 3 + widths[column]
    yield columns


def wrap_text(text: str, width: int) -> str:
    """Return text with lines of at most ``width`` columns, broken between words; 0 changes nothing.

    The rest of a line is below its last cell, which follows two spaces or more, or is indented.
    """
    if not width or all(len(line) <= width for line in text.splitlines()):
        return text
    return "".join(f"{line}\n" for long in text.splitlines() for line in _wrap_line(long, width))


def _wrap_line(line: str, width: int) -> list[str]:
    import textwrap  # noqa: PLC0415 - only a terminal needs it

    cells = [match.end() for match in re.finditer(r"\S {2,}(?=\S)", line) if match.end() <= width - MIN_CELL]
    indent = cells[-1] if cells else len(line) - len(line.lstrip()) + 2
    if len(line) <= width or indent > width - MIN_CELL:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
