"""``ebbtide explain``: why each output field is there, which choices were made, what changed nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli import common
from ebbtide.cli.options import FILES, Options, option, output, switch
from ebbtide.documents import profiles
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from ebbtide.documents.explain import Explanation
    from ebbtide.readers.loaded import Loaded
    from ebbtide.translation.gpu import Equivalent
    from ebbtide.translation.plan import Plan

OPTIONS: Final = (
    *FILES,
    option("--field", metavar="PATH", help="only output fields whose path contains this"),
    switch("--backends", help="show the GPU request on every backend"),
    output("text", "json"),
)


def run(options: Options) -> int:
    profile, data, problems = profiles.read_with_data(options.profile)
    common.show(problems)
    if profile is None:
        return 1
    batch = Batch(profile)
    answers: list[Any] = []
    failed = 0
    for loaded in common.documents(common.sources(options.files), profile):
        _, made, found = batch.add(loaded)
        if common.exit_code(found) or made is None or made.plan is None:
            common.show(found)
            failed = 1
        elif options.backends:
            failed |= _backends(loaded, made.plan, answers, options)
        else:
            from ebbtide.documents.explain import explain  # noqa: PLC0415 - not for --backends

            explanation = explain(loaded.reading.native, data).narrow(loaded, options.field or "")
            if options.output == "json":
                answers.append(explanation)
            else:
                _text(explanation, whole=not options.field)
                common.show(explanation.idle, sys.stdout)
    if options.output == "json":
        common.write_json(answers)
    return failed


def _text(found: Explanation, *, whole: bool) -> None:
    colour = common.colours(sys.stdout)
    out = sys.stdout.write
    out(f"{colour['bold']}{found.document}{colour['end']}\n")
    if whole:
        for row in found.decisions:
            out(f"  {row.subject}: {row.value}\n      {row.because}\n")
    last = ""
    for leaf in found.leaves:
        title = f"{leaf.kind} {leaf.name}"
        if title != last:
            out(f"\n  {colour['bold']}{title}{colour['end']}\n")
            last = title
        causes = ", ".join(leaf.causes) or "(constant of the backend)"
        out(f"    {leaf.path} = {leaf.value!r}\n        {colour['fix']}<-{colour['end']} {causes}\n")
        if not whole:
            for row in leaf.reasons:
                out(f"        {row.subject}: {row.value}, because {row.because}\n")
    out("\n")


def _backends(loaded: Loaded, plan: Plan, answers: list[Any], options: Options) -> int:
    from ebbtide.translation.gpu import everywhere  # noqa: PLC0415 - only for this table

    if plan.gpu is None or plan.pool is None:
        sys.stderr.write(f"{loaded.name}: the spec asks for no GPU\n")
        return 1
    rows = everywhere(plan.gpu, plan.pool, plan.cluster, plan.serving, plan.name, plan.container)
    if options.output == "json":
        answers.append({"document": loaded.name, "backends": [_row(row) for row in rows]})
        return 0
    sys.stdout.write(f"{loaded.name} on one {plan.pool.product or 'GPU'} of pool {plan.pool.name}\n")
    for row in rows:
        _show(row)
    return 0


def _row(row: Equivalent) -> dict[str, Any]:
    return {
        "backend": row.backend.name,
        "possible": row.possible,
        "written": row.written,
        "fitsOnOneDevice": row.fits,
        "share": row.share,
        "memory": row.backend.memory,
        "compute": row.backend.compute,
        "rounding": row.backend.rounding,
        "problems": row.problems,
    }


def _show(row: Equivalent) -> None:
    out = sys.stdout.write
    out(f"\n  {row.backend.title}\n")
    if row.possible:
        for key, value in row.written.items():
            out(f"      {key}: {value}\n")
        out(f"      {row.fits} on one device, {row.share:.3g} of it each\n")
        out(f"      memory {row.backend.memory}; compute {row.backend.compute}\n")
    for problem in row.problems:
        if problem.severity == "error" or row.possible:
            word = "no" if problem.severity == "error" else "but"
            out(f"      {word}: {problem.message}\n")
