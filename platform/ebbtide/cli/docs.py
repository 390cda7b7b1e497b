"""``ebbtide docs CODE``: what a problem code means and how to mend it."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.options import Options, option
from ebbtide.documents.problem_texts import read_problem_texts

OPTIONS: Final = (option("code", nargs="?", metavar="CODE", help="a code like AUT004; without one all are listed"),)


def run(options: Options) -> int:
    """Print one code, or the list."""
    out = sys.stdout.write
    texts = read_problem_texts()
    if options.code is None:
        for each in texts.values():
            out(f"{each.code}  {each.title}\n")
        return 0
    text = texts.get(options.code.upper())
    if text is None:
        from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

        close = get_close_matches(options.code.upper(), texts, 3, 0.6)
        sys.stderr.write(f"there is no code {options.code}" + (f"; near: {', '.join(close)}" if close else "") + "\n")
        return 2
    out(f"{text.code}: {text.title}\n\n{text.meaning}\n\nFix: {text.fix}\n")
    return 0
