"""``ebbtide servers``: list the servers whose speed was measured, with the errors of the fit."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli.common import write_json
from ebbtide.cli.options import Options, make_option, make_output_option

if TYPE_CHECKING:
    from ebbtide.simulator.measured import HeldOutErrors, ServerEntry

OPTIONS: Final = (
    make_option("text", metavar="TEXT", nargs="?", default="", help="Part of the name, as in h200 or llama-3.1-70b"),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    if find_spec("numpy") is None:
        sys.stderr.write("ebbtide servers: error: numpy is not installed; install the wheel with the extra simulate\n")
        return 2
    from ebbtide.simulator.measured import load_table  # it needs numpy
    from ebbtide.simulator.report import align_table

    head, entries = load_table()
    rows = [(name, entry) for entry in entries for name in entry.names if options.text.lower() in name]
    if options.output == "json":
        write_json({**head, "servers": [_describe_entry(name, entry) for name, entry in rows]})
        return 0
    if not rows:
        sys.stderr.write(f"No measured server has {options.text!r} in its name; ebbtide servers lists all.\n")
        return 1
    table = [
        ["--server", "measured", "prompt", "output", "concurrency", "at measured tokens", "in the range", "outside"]
    ]
    for name, entry in sorted(rows):
        fit = entry.fit
        ranges = [f"{span.low:,.0f}-{span.high:,.0f}" for span in (fit.prompt, fit.output, fit.concurrency)]
        errors = [f"{error.total.p90:.0%}, {error.first.p90:.0%}" for error in entry.errors[1:]]
        table.append([name, entry.measured or "-", *ranges, *errors])
    source = head["source"]
    sys.stdout.write(
        f"{align_table(table, '')}\nThe last three columns are errors (90th percentile) of the response and of the time to first token: at the measured\n"
        "token counts, at others in the measured range, and outside the range. "
        f"Fitted {head['distilled']} to {head['points']:,} measurements of\n{source['package']} ({source['license']}).\n"
    )
    return 0


def _describe_entry(name: str, entry: ServerEntry) -> dict[str, Any]:
    fit = entry.fit
    return {
        "server": name,
        "engineVersion": entry.engine_version,
        "measured": entry.measured,
        "points": entry.points,
        "shapes": [list(shape) for shape in entry.errors.shapes],
        "promptTokens": list(fit.prompt),
        "outputTokens": list(fit.output),
        "concurrency": list(fit.concurrency),
        "firstToken": list(fit.first),
        "step": list(fit.step),
        "heldOutByRow": _describe_errors(entry.errors.at),
        "inside": _describe_errors(entry.errors.inside),
        "outside": _describe_errors(entry.errors.outside),
    }


def _describe_errors(errors: HeldOutErrors) -> dict[str, dict[str, float]]:
    return {
        name: {"median": error.median, "p90": error.p90}
        for name, error in zip(("firstToken", "step", "response"), errors, strict=True)
    }
