"""``ebbtide render``: print manifests on stdout and problems on stderr.

On an error, stdout stays empty, so that a pipe to kubectl never receives an incomplete set of manifests.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.cli import common
from ebbtide.cli.options import FILES, QUIET, Options, make_output_option
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Problem
    from ebbtide.cli.common import Source
    from ebbtide.profile.models import Profile

#: Input size in bytes from which a second process saves more time than its start costs: about 250 specs.
LARGE: Final = 200_000
OPTIONS: Final = (*FILES, make_output_option("yaml", "json"), QUIET)


def run(options: Options) -> int:
    profile = common.read_profile(options.profile)
    sources = list(common.read_sources(options.files))
    chunks, problems = render_sources(sources, profile, as_json=options.output == "json")
    common.print_problems_unless_quiet(problems, options)
    code = common.exit_code(problems)
    if code == 0:
        sys.stdout.writelines(chunks)
    return code


def render_sources(
    sources: list[Source], profile: Profile, *, as_json: bool, large: int = LARGE
) -> tuple[list[str], list[Problem]]:
    """Return the manifests as chunks of text, and every problem."""
    if not as_json and sum(len(source.text) for source in sources) >= large:
        from ebbtide.cli import parts  # noqa: PLC0415 - most calls are small

        result = parts.render_parts(sources, profile, large // 2)
        if result is not None:
            return result
    problems: list[Problem] = []
    objects = _translate_sources(sources, profile, problems)
    # Only text is kept until every document is valid; each object is freed as soon as it is serialized.
    return [manifests.write_json(objects)] if as_json else list(manifests.write_documents(objects)), problems


def _translate_sources(sources: list[Source], profile: Profile, problems: list[Problem]) -> Iterator[dict[str, Any]]:
    batch = Batch(profile, fold=True)
    for loaded in common.load_documents(sources, profile):
        objects, _, of_document = batch.add_document(loaded)
        problems.extend(of_document)
        yield from objects
    problems.extend(batch.batch_problems())
