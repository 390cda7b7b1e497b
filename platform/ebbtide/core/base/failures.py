"""Unexpected errors with one workload: a sentence for its row instead of an error of the whole list, and a line in the log."""

from __future__ import annotations

import logging
import traceback
from functools import lru_cache
from typing import Final

LOG: Final = logging.getLogger("ebbtide.failures")
#: Failures that are known to be in the log.
MAX_KNOWN: Final = 1024


def report_failure(namespace: str, name: str, error: Exception) -> str:
    """Return a sentence about an unexpected error with a workload. Each is logged once."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
    _log_once(namespace, name, place)
    return f"cannot be read: an object has a value that Ebbtide does not expect ({place}); please report this defect"


@lru_cache(maxsize=MAX_KNOWN)
def _log_once(namespace: str, name: str, place: str) -> None:
    LOG.error("%s/%s cannot be read: %s", namespace, name, place)
