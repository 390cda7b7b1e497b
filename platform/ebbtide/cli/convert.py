"""``ebbtide convert``: any input shape into the native one or Run:ai's REST body, with a loss report."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.cli.common import documents, exit_code, read_profile, show, sources
from ebbtide.cli.options import FILES, Options, option
from ebbtide.readers import rest

if TYPE_CHECKING:
    from ebbtide.base.problems import Problem

OPTIONS: Final = (*FILES, option("--to", choices=("native", "rest"), required=True, help="the shape to make"))


def run(options: Options) -> int:
    """Convert and print; what is lost is told on stderr."""
    profile = read_profile(options.profile)
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
