"""``ebbtide docs CODE``: print the meaning of a problem code and its fix."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.base.options import Options, make_option
from ebbtide.core.documents.problem_texts import read_problem_texts

OPTIONS: Final = (
    make_option("code", nargs="?", metavar="CODE", help="Problem code, as in AUT004 (default: list all codes)"),
)


def run(options: Options) -> int:
    """Print one code with its text, or the list of codes."""
    out = sys.stdout.write
    texts = read_problem_texts()
    if options.code is None:
        for entry in texts.values():
            out(f"{entry.code}  {entry.title}\n")
        return 0
    letters, digits = options.code[:3].upper(), options.code[3:]
    # Accept gpu65 for GPU065.
    text = texts.get(f"{letters}{digits:0>3}")
    if text is None:
        from difflib import get_close_matches

        close = get_close_matches(options.code.upper(), texts, 3, 0.6)
        hint = f"did you mean {', '.join(close)}?" if close else "to list all codes, run ebbtide docs"
        sys.stderr.write(f"error: problem code {options.code} not found; {hint}\n")
        return 2
    out(f"{text.code}: {text.title}\n\n{text.meaning}\n\nFix: {text.fix}\n")
    return 0
