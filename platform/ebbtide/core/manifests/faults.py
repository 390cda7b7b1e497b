"""Problems of YAML and JSON: the parts of their messages, and the values that parsers do not preserve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.manifests.scalars import LARGEST_INTEGER, SMALLEST_INTEGER, quote_text

#: Maximum nesting of mappings and lists, far above that of any Kubernetes object.
MAX_DEPTH: Final = 64
TOO_DEEP: Final = f"more than {MAX_DEPTH} levels of mappings and lists"
#: Number of characters that a message shows of a value.
SHOWN: Final = 60


def quote_shortened(text: str) -> str:
    """Return ``text`` quoted, and shortened if it is long."""
    # Replace a lone surrogate, which could not be written.
    text = text.encode(errors="replace").decode()
    return quote_text(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def shorten(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def find_faults(data: Any, path: Path = ()) -> Iterator[Problem]:
    """Yield problems of values that JSON allows but other parsers do not preserve.

    These are lone surrogates, numbers that are not finite or exceed 64 bits, and deep nesting.
    """
    if isinstance(data, str):
        if data.encode(errors="replace").decode() != data:
            message = "the string contains half of a surrogate pair, which is not a valid character"
            yield Problem("YML001", path, message, "write the complete character")
    elif isinstance(data, float):
        if not math.isfinite(data):
            yield Problem("YML006", path, f"{data} is not a finite number", "use a finite number")
    elif type(data) is int:
        if not SMALLEST_INTEGER <= data <= LARGEST_INTEGER:
            text = str(data)
            message = f"the number {shorten(text)} is too large: it must fit into 64 bits"
            yield Problem("YML006", path, message, f"quote it: {quote_shortened(text)}")
    elif isinstance(data, dict | list):
        if len(path) == MAX_DEPTH:
            yield Problem("YML006", path, TOO_DEEP, "flatten the document")
            return
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            key_problems = [*find_faults(key, path)]
            yield from key_problems or find_faults(value, (*path, key))
