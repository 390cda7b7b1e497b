"""``ebbtide docs CODE``: what a problem code means and how to mend it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ebbtide.base.codes import CODES

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("code", nargs="?", metavar="CODE", help="a code like AUT004; without one all are listed")


def run(options: argparse.Namespace) -> int:
    """Print one code, or the list."""
    out = sys.stdout.write
    if options.code is None:
        for code in CODES.values():
            out(f"{code.name}  {code.title}\n")
        return 0
    found = CODES.get(options.code.upper())
    if found is None:
        from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

        close = get_close_matches(options.code.upper(), CODES, 3, 0.6)
        sys.stderr.write(f"there is no code {options.code}" + (f"; near: {', '.join(close)}" if close else "") + "\n")
        return 2
    out(f"{found.name}: {found.title}\n\n{found.meaning}\n\nTo mend it: {found.fix}\n")
    return 0
