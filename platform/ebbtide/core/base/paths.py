"""Access by path to nested data of unknown shape."""

from __future__ import annotations

from typing import Any


def get_at(data: Any, *path: str | int, default: Any = None) -> Any:
    """Return the value at a path of mapping keys and list indexes, or ``default`` if it is missing or null."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and -len(data) <= part < len(data):
            data = data[part]
        else:
            return default
    return default if data is None else data


def replace_at(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return ``document`` with ``value`` at ``path``; only the containers on the path are copied."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(document, list):
        assert isinstance(head, int)
        return [*document[:head], replace_at(document[head], rest, value), *document[head + 1 :]]
    base = document if isinstance(document, dict) else {}
    return {**base, head: replace_at(base.get(head), rest, value)}
