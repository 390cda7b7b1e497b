"""Output of the commands for a live cluster: progress lines, tables, JSON and YAML, and the confirmation prompt."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from ebbtide.cli.base.common import write_json
from ebbtide.cli.base.options import Options
from ebbtide.cli.base.streams import get_style_codes, get_width
from ebbtide.core import manifests
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.prose import make_printable
from ebbtide.core.report import ReportContent, render_page, render_text
from ebbtide.core.tables import align_table, wrap_text

USAGE: Final = 2
#: Color of each workload phase and of each SLO outcome.
STATE_COLORS: Final = {
    "Running": "good",
    "Failed": "error",
    "Degraded": "error",
    "Pending": "warning",
    "kept": "good",
    "broken": "error",
    "unknown": "warning",
}


def print_result(namespace: str, name: str, message: str, output_format: str, **data: Any) -> None:
    """Print the result of a command on a workload: a sentence, JSON, or only ``namespace/name``."""
    if output_format == "json":
        write_json({"namespace": namespace, "name": name, **data})
    else:
        sys.stdout.write(f"{namespace}/{name}\n" if output_format == "name" else f"{message}\n")
    sys.stdout.flush()


def write_stderr(text: str) -> None:
    """Write a line to stderr, wrapped at the width of a terminal."""
    sys.stderr.write(wrap_text(f"{text}\n", get_width(sys.stderr)))


def exit_with_message(text: str, code: int = USAGE) -> NoReturn:
    """Write a line to stderr and exit with ``code``, by default that of invalid usage."""
    write_stderr(text)
    raise SystemExit(code)


def exit_with_usage_error(message: str, command: str) -> NoReturn:
    """Write a usage error of a command to stderr and exit with code 2."""
    exit_with_message(f"ebbtide {command}: error: {message}")


def check_name(options: Options, subject: str) -> None:
    """Exit if an action on one object has no name, or the action ``list`` has one; ``subject`` is the command."""
    if (options.action == "list") == (options.name is not None):
        exit_with_usage_error("list takes no name" if options.name else f"{options.action} needs NAME", subject)


def ask_confirmation(question: str, *, yes: bool) -> bool:
    """Return whether the user confirms; without a terminal, only ``--yes`` confirms."""
    if yes:
        return True
    if not sys.stdin.isatty():
        write_stderr(
            f"{question} Cannot prompt for confirmation because stdin is not a terminal. Use --yes to confirm."
        )
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def format_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]], indent: str = "") -> str:
    """Return a header and rows in aligned columns; an empty cell is printed as a dash."""
    lines = [header, *(tuple(make_printable(cell) or "-" for cell in row) for row in rows)]
    return align_table(lines, indent, left=len(header))


def paint_state(state: str, text: str) -> str:
    """Return text in the color of a phase or an SLO outcome if stdout is a terminal."""
    colors = get_style_codes(sys.stdout)
    return f"{colors[STATE_COLORS[state]]}{text}{colors['end']}" if state in STATE_COLORS else text


def write_report(content: ReportContent, output: str = "text", states: Mapping[str, str] | None = None) -> None:
    """Write a report as text or as an HTML page. ``states`` are those of labels, which have their colors in the text."""
    text = render_page(content) if output == "html" else render_text(content, get_width(sys.stdout))
    for label, state in (states or {}).items():
        text = re.sub(f"(?<=: ){label}(?=[;\n])", paint_state(state, label), text)
    sys.stdout.write(text)


def write_data(value: Any, output_format: str) -> None:
    """Write data as JSON or YAML."""
    if output_format == "json":
        write_json(value)
    else:
        sys.stdout.write(manifests.write_document(serialize_body(value)))
