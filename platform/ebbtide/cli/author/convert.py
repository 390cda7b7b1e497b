"""``ebbtide convert``: convert any input format to a native spec or to Run:ai's REST body, and report losses."""

from __future__ import annotations

import sys
from typing import Any, Final

from ebbtide.cli.base.common import (
    exit_code,
    load_documents,
    print_problems,
    read_sources,
    read_specs_profile,
    write_json,
)
from ebbtide.cli.base.options import FILES, Options, make_option
from ebbtide.cli.base.terminal import exit_with_usage_error
from ebbtide.core import manifests
from ebbtide.core.base.problems import Problem, has_errors
from ebbtide.core.documents import others, targets
from ebbtide.core.documents.deployments import read_deployments
from ebbtide.core.manifests.writer import SEPARATOR
from ebbtide.core.readers import rest

NATIVE: Final = "native"
OPTIONS: Final = (
    *FILES,
    make_option(
        "--to",
        choices=(NATIVE, "rest"),
        default=NATIVE,
        help="Target format: a native spec (default), or the body of Run:ai's REST API as JSON",
    ),
    make_option(
        "--others",
        choices=others.CHOICES,
        help="Objects of other kinds, such as Secrets: keep them in the output, drop them with a warning, or fail "
        "(default: keep for native, drop for rest, which cannot contain them)",
    ),
    make_option(
        "--serving",
        choices=targets.SERVINGS,
        help="Kind of object that the native spec renders; what this kind cannot do is an error (default: that of the "
        "input)",
    ),
    make_option(
        "--cluster-id",
        metavar="ID",
        help="Run:ai's ID of the cluster for --to rest (default: that of the profile)",
    ),
)


def run(options: Options) -> int:
    """Print the converted specs on stdout, and the fields that the target format cannot express on stderr."""
    as_native = options.to == NATIVE
    choice = options.others or (others.KEEP if as_native else others.DROP)
    for is_contradiction, reason in (
        (
            not as_native and choice == others.KEEP,
            "--others keep needs --to native: a REST body cannot contain other objects",
        ),
        (
            as_native and options.cluster_id is not None,
            "--cluster-id needs --to rest: a native spec has no cluster ID",
        ),
        (
            not as_native and options.serving is not None,
            "--serving needs --to native: a REST body does not select the kind of object",
        ),
    ):
        if is_contradiction:
            exit_with_usage_error(reason, "convert")
    profile, _ = read_specs_profile(options, options.files)
    problems: list[Problem] = []
    bodies: list[dict[str, Any]] = []
    texts: list[str] = []
    others_only: str | None = None
    converted = False
    for loaded in read_deployments(load_documents(read_sources(options.files), profile), profile):
        if loaded.other is not None:
            others_only = others_only or loaded.name
            problems.extend(others.settle_other(loaded, loaded.other, choice))
            if choice == others.KEEP:
                texts.append(others.strip_separator(loaded.other.text))
            continue
        if options.serving is not None and loaded.inference is not None:
            loaded = targets.convert_serving(loaded, options.serving, profile)  # noqa: PLW2901 - the same document
        problems.extend(loaded.problems)
        if loaded.inference is None:
            continue
        converted = True
        if as_native:
            texts.append(manifests.write_document(loaded.reading.native))
        else:
            body, losses = rest.write_body(loaded.reading.native, profile, options.cluster_id)
            bodies.append(body)
            problems.extend(loaded.place_problems(losses))
    if others_only is not None and not converted and not has_errors(problems):
        problems.append(others.report_nothing_converted(others_only))
    print_problems(problems)
    code = exit_code(problems)
    if code == 0 and as_native:
        sys.stdout.write(SEPARATOR.join(texts))
    elif code == 0:
        write_json(bodies[0] if len(bodies) == 1 else bodies)
    return code
