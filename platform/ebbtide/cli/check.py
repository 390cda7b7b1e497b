"""``ebbtide check``: report every problem with its code, location, message and fix."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.base.prose import counted
from ebbtide.cli.common import documents, exit_code, read_profile, show, sources, write_json
from ebbtide.cli.options import FILES, Options, output
from ebbtide.documents.check import Batch

OPTIONS: Final = (*FILES, output("text", "json"))


def run(options: Options) -> int:
    """Print the problems on stdout, because they are the output of this command."""
    profile = read_profile(options.profile)
    batch = Batch(profile)
    problems = [problem for loaded in documents(sources(options.files), profile) for problem in batch.add(loaded)[2]]
    problems += batch.finish()
    if options.output == "json":
        write_json(problems)
    else:
        show(problems, sys.stdout)
        errors = sum(problem.severity == "error" for problem in problems)
        summary = (
            f"{counted(batch.services, 'service')} translated",
            counted(errors, "error"),
            counted(len(problems) - errors, "warning"),
        )
        sys.stdout.write(f"{', '.join(summary)}\n")
    return exit_code(problems)
