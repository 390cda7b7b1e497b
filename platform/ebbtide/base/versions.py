"""Dotted versions as comparable tuples of numbers."""

from __future__ import annotations


def parse_version(text: str) -> tuple[int, ...]:
    """Return a dotted version as a tuple of numbers: (1, 21) for ``1.21``."""
    return tuple(int(part) for part in text.split("."))
