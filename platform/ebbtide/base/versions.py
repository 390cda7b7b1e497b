"""Dotted versions as numbers that compare."""

from __future__ import annotations


def version(text: str) -> tuple[int, ...]:
    """Return a dotted version as numbers: ``1.21`` is (1, 21)."""
    return tuple(int(part) for part in text.split("."))
