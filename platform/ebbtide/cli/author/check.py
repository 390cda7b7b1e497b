"""``ebbtide check``: report every problem with its code, location, message and fix."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.author import review_formats
from ebbtide.cli.author.fix_files import fix_sources
from ebbtide.cli.base import terminal
from ebbtide.cli.base.common import (
    STDIN,
    exit_code,
    load_documents,
    print_problems,
    read_sources,
    read_specs_profile,
    write_json,
)
from ebbtide.cli.base.options import FILES, Options, make_output_option, make_switch
from ebbtide.core.base.problems import Problem, has_errors, limit_problems
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents.check import MAY_RUN_AS_ROOT, Batch
from ebbtide.core.translation.serving.updates import list_rollout_decisions

OPTIONS: Final = (
    *FILES,
    make_output_option("text", "json", "github", "sarif"),
    make_switch("--fix", help="Apply the safe fixes to the files; the other problems are printed as usual"),
)


def run(options: Options) -> int:
    """Print the problems on stdout, because they are the output of this command, and the cost of updates without a spare GPU."""
    profile, _ = read_specs_profile(options, options.files)
    batch = Batch(profile)
    problems: list[Problem] = []
    costs: list[str] = []
    if options.fix and STDIN in options.files:
        terminal.exit_with_usage_error("--fix needs files, not stdin", "check")
    sources = read_sources(options.files)
    for loaded in load_documents(fix_sources(sources, profile) if options.fix else sources, profile):
        _, translation, found = batch.add_document(loaded)
        if translation is not None and translation.plan is not None and not has_errors(found):
            plan = translation.plan
            costs += (f"{plan.name}: {row.value}: {row.because}\n" for row in list_rollout_decisions(plan))
        problems += found
    problems += batch.batch_problems()
    if options.output == "json":
        write_json(limit_problems(problems))
    elif options.output == "github":
        sys.stdout.write(review_formats.write_github(problems))
    elif options.output == "sarif":
        write_json(review_formats.make_sarif(problems))
    else:
        print_problems(problems, sys.stdout)
        errors = sum(problem.severity == "error" for problem in problems)
        summary = (
            f"{count_noun(batch.services, 'service')} translated",
            count_noun(errors, "error"),
            count_noun(len(problems) - errors, "warning"),
        )
        sys.stdout.writelines(costs)
        note = f", {batch.root_services} may run as root ({MAY_RUN_AS_ROOT})" if batch.root_services else ""
        sys.stdout.write(f"{', '.join(summary)}{note}\n")
    return exit_code(problems)
