"""Tables in text, for commands and reports."""

from __future__ import annotations

from collections.abc import Sequence


def align_table(rows: Sequence[Sequence[str]], indent: str = "", left: int = 1) -> str:
    """Return rows as lines with aligned columns; the first ``left`` columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [f"{cell:{'<' if column < left else '>'}{widths[column]}}" for column, cell in enumerate(row)] for row in rows
    )
    return "".join(f"{indent}{'   '.join(cells)}".rstrip() + "\n" for cells in lines)
