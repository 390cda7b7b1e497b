"""``ebbtide convert``: convert any input format to a native spec or to Run:ai's REST body, and report losses."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.cli.common import exit_code, load_documents, print_problems, read_profile, read_sources
from ebbtide.cli.options import FILES, Options, make_option
from ebbtide.readers import rest

if TYPE_CHECKING:
    from ebbtide.base.problems import Problem

OPTIONS: Final = (
    *FILES,
    make_option(
        "--to",
        choices=("native", "rest"),
        required=True,
        help="Target format: a native spec, or the body of Run:ai's REST API",
    ),
)


def run(options: Options) -> int:
    """Print the converted specs on stdout, and the fields that the target format cannot express on stderr."""
    profile = read_profile(options.profile)
    problems: list[Problem] = []
    converted: list[dict[str, Any]] = []
    for loaded in load_documents(read_sources(options.files), profile):
        problems.extend(loaded.problems)
        if loaded.inference is None:
            continue
        if options.to == "native":
            converted.append(loaded.reading.native)
        else:
            body, losses = rest.write_body(loaded.reading.native, profile)
            converted.append(body)
            problems.extend(loaded.place_problems(losses))
    print_problems(problems)
    code = exit_code(problems)
    if code == 0:
        if options.to == "native":
            sys.stdout.writelines(manifests.write_documents(converted))
        else:
            sys.stdout.write(
                json.dumps(converted[0] if len(converted) == 1 else converted, indent=2, ensure_ascii=False) + "\n"
            )
    return code
