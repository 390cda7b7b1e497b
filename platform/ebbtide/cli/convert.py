"""``ebbtide convert``: any input shape into the native one or Run:ai's REST body, with a loss report."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from ebbtide import manifests
from ebbtide.cli.common import add_files, documents, exit_code, profile_or_problems, show, sources
from ebbtide.readers import rest

if TYPE_CHECKING:
    import argparse

    from ebbtide.base.problems import Problem


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_files(parser)
    parser.add_argument("--to", choices=("native", "rest"), required=True, help="the shape to make")


def run(options: argparse.Namespace) -> int:
    """Convert and print; what is lost is told on stderr."""
    profile = profile_or_problems(options.profile)
    if profile is None:
        return 1
    problems: list[Problem] = []
    made: list[dict[str, Any]] = []
    for loaded in documents(sources(options.files), profile):
        problems.extend(loaded.problems)
        if loaded.inference is None:
            continue
        if options.to == "native":
            made.append(loaded.reading.native)
        else:
            body, lost = rest.write(loaded.reading.native, profile)
            made.append(body)
            problems.extend(loaded.placed(lost))
    show(problems)
    code = exit_code(problems)
    if code == 0:
        if options.to == "native":
            sys.stdout.writelines(manifests.write(made))
        else:
            sys.stdout.write(json.dumps(made[0] if len(made) == 1 else made, indent=2, ensure_ascii=False) + "\n")
    return code
