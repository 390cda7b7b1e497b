"""``ebbtide render``: manifests on stdout, problems on stderr.

With an error nothing is printed on stdout, so that what is piped into kubectl is whole or not there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.cli import common
from ebbtide.cli.options import FILES, QUIET, Options, output
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Problem
    from ebbtide.cli.common import Source
    from ebbtide.profile.models import Profile

#: Bytes of input from which a second process gains more than its start costs: some 250 specs.
LARGE: Final = 200_000
OPTIONS: Final = (*FILES, output("yaml", "json"), QUIET)


def run(options: Options) -> int:
    profile = common.read_profile(options.profile)
    found = list(common.sources(options.files))
    chunks, problems = rendered(found, profile, as_json=options.output == "json")
    common.show_unless_quiet(problems, options)
    code = common.exit_code(problems)
    if code == 0:
        sys.stdout.writelines(chunks)
    return code


def rendered(
    found: list[Source], profile: Profile, *, as_json: bool, large: int = LARGE
) -> tuple[list[str], list[Problem]]:
    """Return the manifests in pieces of text, and every problem."""
    if not as_json and sum(len(source.text) for source in found) >= large:
        from ebbtide.cli import parts  # noqa: PLC0415 - most calls are small

        joined = parts.rendered(found, profile, large // 2)
        if joined is not None:
            return joined
    problems: list[Problem] = []
    objects = _objects(found, profile, problems)
    # Only text is kept until all is known to be fine; the objects themselves go as soon as they are written.
    return [manifests.write_json(objects)] if as_json else list(manifests.write(objects)), problems


def _objects(found: list[Source], profile: Profile, problems: list[Problem]) -> Iterator[dict[str, Any]]:
    batch = Batch(profile, fold=True)
    for loaded in common.documents(found, profile):
        objects, _, of_document = batch.add(loaded)
        problems.extend(of_document)
        yield from objects
    problems.extend(batch.finish())
