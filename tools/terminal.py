"""Record the terminal of the README: run a few commands and write what they print as ``docs/images/terminal.svg``.

The specs are those of the documents, and the live services those of the demo, with a fixed clock and seed: the same code writes
the same bytes, which ``--check`` and a test compare.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import textwrap
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from ebbtide.cli import main as run_ebbtide
from ebbtide.cli.base import connection
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.demo import HOURS, NAMESPACE
from ebbtide.sandbox.services import PROFILE, demo_profile, demo_world

ROOT: Final = Path(__file__).parent.parent
PICTURE: Final = ROOT / "docs" / "images" / "terminal.svg"
COMMANDS: Final = (
    "ebbtide render --quiet --profile full docs/specs/rejected.yaml",
    "ebbtide explain --profile full --field knative.dev/metric docs/specs/chat.yaml",
    "ebbtide why moderate --demo --project team-b",
)
COLUMNS: Final = 108
FONTS: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
FONT_SIZE: Final = 13
#: Width of a character of the usual monospaced fonts, as a share of their size.
ADVANCE: Final = 0.602
LINE_HEIGHT: Final = 19
MARGIN: Final = 20
#: Height of the window's bar.
BAR: Final = 32
NBSP: Final = "\N{NO-BREAK SPACE}"
BACK: Final = "#0c1013"
EDGE: Final = "#242c33"
TEXT: Final = "#c3ccd4"
#: Colors of the lines that begin with a word, without their indentation.
COLORS: Final = (
    ("$ ", "#ffffff"),
    ("error ", "#ff8076"),
    ("warning ", "#e7ad4a"),
    ("fix: ", "#56bcd8"),
    ("<- ", "#56bcd8"),
)


def run_command(command: str) -> str:
    """Return what a command prints, on the demo's cluster if it has one."""
    words = [word for word in command.split()[1:] if word != "--demo"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        run_ebbtide(words)
    return output.getvalue()


def record_lines() -> list[str]:
    """Return the lines of the terminal: each command with its output."""
    world = demo_world(ManualClock(), hours=HOURS)
    world.cluster.namespace = NAMESPACE
    connection.simulated = connection.SimulatedConnection(
        world.cluster, world.source, world.clock, "", demo_profile(), PROFILE
    )
    lines = list[str]()
    try:
        for command in COMMANDS:
            lines += [f"$ {command}", *run_command(command).strip("\n").splitlines(), ""]
    finally:
        connection.simulated = None
    return lines[:-1]


def draw_terminal(lines: list[str]) -> str:
    """Return the lines as an SVG of a terminal. A long line wraps at a word, and keeps its indentation and color."""
    width = round(COLUMNS * FONT_SIZE * ADVANCE) + 2 * MARGIN
    texts, y = [], BAR
    for line in lines:
        text = line.lstrip()
        indent = len(line) - len(text)
        color = next((color for start, color in COLORS if text.startswith(start)), TEXT)
        for part in textwrap.wrap(text, COLUMNS - indent, break_on_hyphens=False) or [""]:
            y += LINE_HEIGHT
            if part:
                x = MARGIN + indent * FONT_SIZE * ADVANCE
                # Viewers collapse spaces.
                texts.append(f'<text x="{x:.1f}" y="{y - 5}" fill="{color}">{escape(part.replace(" ", NBSP))}</text>')
    height = y + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape('; '.join(COMMANDS))}</title>",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10" fill="{BACK}" stroke="{EDGE}"/>',
            *(f'<circle cx="{MARGIN + 16 * place}" cy="18" r="5" fill="{EDGE}"/>' for place in range(3)),
            f'<g font-family="{FONTS}" font-size="{FONT_SIZE}">',
            *texts,
            "</g>",
            "</svg>\n",
        ]
    )


def main() -> int:
    """Write or compare the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the picture differs, and write nothing")
    options = parser.parse_args()
    os.chdir(ROOT)
    drawn = draw_terminal(record_lines())
    if not options.check:
        PICTURE.write_text(drawn)
    elif PICTURE.read_text() != drawn:
        sys.exit(f"{PICTURE.relative_to(ROOT)} is outdated: run python tools/terminal.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
