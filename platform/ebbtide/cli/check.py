"""``ebbtide check``: every problem with its code, place, reason and fix."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.common import documents, exit_code, read_profile, show, sources, write_json
from ebbtide.cli.options import FILES, Options, output
from ebbtide.documents.check import Batch

OPTIONS: Final = (*FILES, output("text", "json"))


def run(options: Options) -> int:
    """List the problems; the answer is on stdout, since it is what was asked for."""
    profile = read_profile(options.profile)
    batch = Batch(profile)
    problems = [problem for loaded in documents(sources(options.files), profile) for problem in batch.add(loaded)[2]]
    problems += batch.finish()
    if options.output == "json":
        write_json(problems)
    else:
        show(problems, sys.stdout)
        errors = sum(problem.severity == "error" for problem in problems)
        sys.stdout.write(f"{batch.services} services translate, {errors} errors, {len(problems) - errors} warnings\n")
    return exit_code(problems)
