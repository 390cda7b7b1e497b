"""``ebbtide render``: manifests on stdout, problems on stderr.

With an error nothing is printed on stdout, so that what is piped into kubectl is whole or not there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ebbtide import manifests
from ebbtide.check import Batch
from ebbtide.cli.common import add_files, documents, exit_code, profile_or_problems, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ebbtide.problems import Problem
    from ebbtide.profile import Profile


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_files(parser)
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="default yaml")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not print warnings")


def run(options: argparse.Namespace) -> int:
    """Translate and print."""
    profile = profile_or_problems(options.profile)
    if profile is None:
        return 1
    problems: list[Problem] = []
    objects = _objects(options.files, profile, problems)
    # Only text is kept until all is known to be fine; the objects themselves go as soon as they are written.
    chunks = [manifests.write_json(list(objects))] if options.output == "json" else list(manifests.write(objects))
    show(problem for problem in problems if not (options.quiet and problem.severity == "warning"))
    code = exit_code(problems)
    if code == 0:
        sys.stdout.writelines(chunks)
    return code


def _objects(files: list[str], profile: Profile, problems: list[Problem]) -> Iterator[dict[str, Any]]:
    batch = Batch(profile, fold=True)
    for loaded in documents(files, profile):
        objects, _, found = batch.add(loaded)
        problems.extend(found)
        yield from objects
    problems.extend(batch.finish())
