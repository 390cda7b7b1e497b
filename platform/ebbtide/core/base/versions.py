"""Dotted versions as comparable tuples of numbers, and the versions that Ebbtide knows."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

#: Oldest and newest minor version of each component that Ebbtide's tables and checks describe.
KNOWN: Final = {"Kubernetes": ("1.30", "1.37"), "Knative": ("1.16", "1.24"), "KServe": ("0.15", "0.21")}


@lru_cache(maxsize=256)
def parse_version(text: str) -> tuple[int, ...]:
    """Return a dotted version as a tuple of numbers: (1, 21) for ``1.21``."""
    return tuple(int(part) for part in text.split("."))


def is_known_version(component: str, version: str) -> bool:
    """Return whether the minor version of ``version`` is among those in ``KNOWN``."""
    oldest, newest = map(parse_version, KNOWN[component])
    return oldest <= parse_version(version)[:2] <= newest
