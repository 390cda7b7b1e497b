"""``ebbtide check``: every problem with its code, place, reason and fix."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ebbtide.cli.common import add_files, documents, exit_code, profile_or_problems, show, sources, write_json
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_files(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default text")


def run(options: argparse.Namespace) -> int:
    """List the problems; the answer is on stdout, since it is what was asked for."""
    profile = profile_or_problems(options.profile)
    if profile is None:
        return 1
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
