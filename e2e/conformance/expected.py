"""Conformance tests that fail on this cluster, with the reason."""

from collections.abc import Mapping
from typing import Final

EXPECTED: Final[Mapping[tuple[str, str], str]] = {}
"""(variant, test) → why it fails."""
