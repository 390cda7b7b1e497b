"""Result of a command of the command line, for the tests that call one."""

from __future__ import annotations

from typing import NamedTuple


class Ran(NamedTuple):
    """The exit code and what was printed."""

    code: int
    out: str
    err: str
