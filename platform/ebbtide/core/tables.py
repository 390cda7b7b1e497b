"""Tables in text, for commands and reports."""

from __future__ import annotations

from collections.abc import Sequence


def align_table(rows: Sequence[Sequence[str]], indent: str = "", left: int = 1, right: int | None = None) -> str:
    """Return rows as lines with aligned columns; ``[left:right]`` are the right-aligned ones, the others have text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(len(widths))[left:right]
    lines = (
        [f"{cell:{'>' if column in numbers else '<'}{widths[column]}}" for column, cell in enumerate(row)]
        for row in rows
    )
    return "".join(f"{indent}{'   '.join(cells)}".rstrip() + "\n" for cells in lines)
