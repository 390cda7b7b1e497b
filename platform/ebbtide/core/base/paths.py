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


def has_at(data: Any, path: tuple[str | int, ...]) -> bool:
    """Return whether nested data has an entry at a path, which may be null."""
    holder = get_at(data, *path[:-1])
    if isinstance(path[-1], int):
        return isinstance(holder, list) and path[-1] < len(holder)
    return isinstance(holder, dict) and path[-1] in holder


def replace_at(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return ``document`` with ``value`` at ``path``; only the containers on the path are copied, and missing ones made.

    A list index one past the end appends. Raises IndexError for a larger one.
    """
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(head, int):
        items = document if isinstance(document, list) else []
        before = None if head == len(items) else items[head]
        return [*items[:head], replace_at(before, rest, value), *items[head + 1 :]]
    base = document if isinstance(document, dict) else {}
    return {**base, head: replace_at(base.get(head), rest, value)}


def remove_at(document: Any, path: tuple[str | int, ...]) -> Any:
    """Return ``document`` without the entry at ``path``, which must exist."""
    *above, last = path
    holder = get_at(document, *above)
    if isinstance(last, int):
        return replace_at(document, tuple(above), [*holder[:last], *holder[last + 1 :]])
    return replace_at(document, tuple(above), {name: item for name, item in holder.items() if name != last})
