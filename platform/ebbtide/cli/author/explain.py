"""``ebbtide explain``: the cause of each output field, the decisions made, and spec fields without effect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli.base import common
from ebbtide.cli.base.options import FILES, Options, make_option, make_output_option, make_switch
from ebbtide.cli.base.streams import get_style_codes
from ebbtide.core.base.prose import count_noun, make_printable
from ebbtide.core.documents.check import Batch
from ebbtide.core.translation.gpu import compare_backends, list_pool_requests

if TYPE_CHECKING:
    from ebbtide.core.documents.explain import Explanation
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.core.translation.gpu import BackendEquivalent
    from ebbtide.core.translation.plan import Plan

OPTIONS: Final = (
    *FILES,
    make_option("--field", metavar="PATH", help="Only output fields whose path contains PATH"),
    make_switch("--backends", help="Show the GPU request on every GPU backend"),
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    profile, data = common.read_specs_profile(options, options.files)
    batch = Batch(profile)
    answers: list[Any] = []
    exit_status = 0
    for loaded in common.load_documents(common.read_sources(options.files), profile):
        _, result, problems_ = batch.add_document(loaded)
        if common.exit_code(problems_) or result is None or result.plan is None:
            common.print_problems(problems_)
            exit_status = 1
        elif options.backends:
            exit_status |= _compare_backends(loaded, result.plan, answers, options)
        else:
            from ebbtide.core.documents.explain import explain_document

            whole = explain_document(loaded.reading.native, data)
            explanation = whole.select_fields(loaded, options.field or "")
            if options.field and not explanation.leaves:
                paths = dict.fromkeys(f"{leaf.kind}.{leaf.path}" for leaf in whole.leaves)
                message = f"{loaded.name}: no output field contains {options.field}; the fields are:"
                sys.stderr.write("\n  ".join(map(make_printable, [message, *paths])) + "\n")
                exit_status = 1
            elif options.output == "json":
                answers.append(explanation)
            else:
                _print_explanation(explanation, full=not options.field)
                common.print_problems(explanation.idle, sys.stdout)
    if options.output == "json":
        common.write_json(answers)
    return exit_status


def _print_explanation(explanation: Explanation, *, full: bool) -> None:
    colors = get_style_codes(sys.stdout)
    out = sys.stdout.write
    out(f"{colors['bold']}{explanation.document}{colors['end']}\n")
    if full:
        for row in explanation.decisions:
            out(f"  {row.subject}: {row.value}\n      {row.because}\n")
    previous_title = ""
    for leaf in explanation.leaves:
        title = f"{leaf.kind} {leaf.name}"
        if title != previous_title:
            out(f"\n  {colors['bold']}{title}{colors['end']}\n")
            previous_title = title
        causes = ", ".join(leaf.causes) or "(constant of the serving backend)"
        out(f"    {leaf.path} = {leaf.value!r}\n        {colors['fix']}<-{colors['end']} {causes}\n")
        if not full:
            for row in leaf.reasons:
                out(f"        {row.subject}: {row.value}, because {row.because}\n")
    out("\n")


def _compare_backends(loaded: LoadedDocument, plan: Plan, answers: list[Any], options: Options) -> int:
    request = next(list_pool_requests(plan), None)
    if request is None:
        sys.stderr.write(f"{loaded.name}: the spec requests no GPU\n")
        return 1
    rows = compare_backends(request)
    if options.output == "json":
        answers.append({"document": loaded.name, "backends": [_equivalent_to_json(row) for row in rows]})
        return 0
    sys.stdout.write(f"{loaded.name} on one {request.pool.product or 'GPU'} of pool {request.pool.name}\n")
    for row in rows:
        _print_equivalent(row)
    return 0


def _equivalent_to_json(equivalent: BackendEquivalent) -> dict[str, Any]:
    return {
        "backend": equivalent.backend.name,
        "possible": equivalent.possible,
        "written": equivalent.written,
        "fitsOnOneDevice": equivalent.fits,
        "share": equivalent.share,
        "memory": equivalent.backend.memory,
        "compute": equivalent.backend.compute,
        "rounding": equivalent.backend.rounding,
        "problems": equivalent.problems,
    }


def _print_equivalent(equivalent: BackendEquivalent) -> None:
    out = sys.stdout.write
    out(f"\n  {equivalent.backend.title}\n")
    if equivalent.possible:
        for key, value in equivalent.written.items():
            out(f"      {key}: {value}\n")
        out(f"      {count_noun(equivalent.fits, 'replica')} per device, {equivalent.share:.3g} of the device each\n")
        out(f"      memory {equivalent.backend.memory}; compute {equivalent.backend.compute}\n")
    for problem in equivalent.problems:
        if problem.severity == "error" or equivalent.possible:
            label = "unsupported" if problem.severity == "error" else "note"
            out(f"      {label}: {problem.message}\n")
