"""Data of an unknown shape, read by path."""

from __future__ import annotations

from typing import Any


def at(data: Any, *path: str | int, default: Any = None) -> Any:
    """Return what stands at a path of mappings and lists, or ``default`` where there is nothing or null."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and -len(data) <= part < len(data):
            data = data[part]
        else:
            return default
    return default if data is None else data
