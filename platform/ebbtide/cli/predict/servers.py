"""``ebbtide servers``: list the servers whose speed was measured, with the errors of the fit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base.options import Options, make_option
from ebbtide.cli.predict.simulate import require_numpy
from ebbtide.core.tables import align_table
from ebbtide.core.units import format_percent

if TYPE_CHECKING:
    from ebbtide.simulator.traffic.measured import HeldOutErrors

OPTIONS: Final = (
    make_option("text", metavar="TEXT", nargs="?", default="", help="Part of the name, as in h200 or llama-3.1-70b"),
)


def run(options: Options) -> int:
    require_numpy("servers")
    from ebbtide.simulator.traffic.measured import load_table  # it needs numpy

    head, entries = load_table()
    rows = [(name, entry) for entry in entries for name in entry.names if options.text.lower() in name]
    if not rows:
        sys.stderr.write(f"No measured server has {options.text!r} in its name; ebbtide servers lists all.\n")
        return 1
    table = [
        [
            "--server",
            "version",
            "measured",
            "prompt",
            "output",
            "concurrency",
            "at measured tokens",
            "in the range",
            "outside",
        ]
    ]
    for name, entry in sorted(rows):
        fit = entry.fit
        ranges = [f"{span.low:,.0f}-{span.high:,.0f}" for span in (fit.prompt, fit.output, fit.concurrency)]
        at, inside, outside, versions = map(_format_errors, entry.errors[1:])
        table.append([name, entry.version, entry.measured or "-", *ranges, at, inside, outside])
    source = head["source"]
    sys.stdout.write(
        f"{align_table(table)}\nThe last three columns are errors (90th percentile) of the response and of the time to first token: at the measured\n"
        "token counts, at others in the measured range, and outside the range, all with the version of the engine in the table.\n"
        f"With another version, they are {versions}, over {head['otherVersions']['points']} measurements. "
        f"Fitted {head['distilled']} to {head['points']:,} measurements of\n{source['package']} ({source['license']}).\n"
    )
    return 0


def _format_errors(errors: HeldOutErrors) -> str:
    return f"{format_percent(errors.total.p90)}, {format_percent(errors.first.p90)}"
