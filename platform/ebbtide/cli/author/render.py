"""``ebbtide render``: print manifests on stdout and problems on stderr.

On an error, stdout stays empty, so that a pipe to kubectl never receives an incomplete set of manifests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli.base import common
from ebbtide.cli.base.common import Source
from ebbtide.cli.base.options import FILES, QUIET, Options, make_option, make_output_option
from ebbtide.core import manifests
from ebbtide.core.base.problems import Problem
from ebbtide.core.documents import others
from ebbtide.core.documents.check import Batch
from ebbtide.core.manifests.writer import SEPARATOR
from ebbtide.core.readers.loaded import LoadedDocument, OtherObject

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

OPTIONS: Final = (
    *FILES,
    make_output_option("yaml", "json"),
    make_option(
        "--others",
        choices=others.CHOICES,
        default=others.FAIL,
        help="Objects of other kinds, such as Secrets: keep them in the output, unchecked, drop them with a warning, or fail "
        "(default: fail)",
    ),
    QUIET,
)


def run(options: Options) -> int:
    profile, _ = common.read_specs_profile(options, options.files)
    sources = list(common.read_sources(options.files))
    chunks, problems = render_sources(sources, profile, as_json=options.output == "json", choice=options.others)
    common.print_problems(problems, quiet=options.quiet)
    code = common.exit_code(problems)
    if code == 0:
        sys.stdout.writelines(chunks)
    return code


def render_sources(
    sources: list[Source], profile: Profile, *, as_json: bool, choice: str = others.FAIL
) -> tuple[list[str], list[Problem]]:
    """Return the manifests as chunks of text, and every problem. ``choice`` is what happens to objects of other kinds."""
    problems: list[Problem] = []
    objects = _translate_sources(sources, profile, problems, choice)
    if as_json:
        plain = (item.data if isinstance(item, OtherObject) else item for item in objects)
        return [manifests.write_json(plain)], problems
    # Only text is kept until every document is valid; each object is freed as soon as it is serialized.
    return list(_write_texts(objects)), problems


def _write_texts(objects: Iterator[dict[str, Any] | OtherObject]) -> Iterator[str]:
    lead = ""
    for item in objects:
        text = others.strip_separator(item.text) if isinstance(item, OtherObject) else manifests.write_document(item)
        yield lead + text
        lead = SEPARATOR


def _translate_sources(
    sources: list[Source], profile: Profile, problems: list[Problem], choice: str
) -> Iterator[dict[str, Any] | OtherObject]:
    batch = Batch(profile, fold=True)
    for loaded in common.load_documents(sources, profile):
        yield from _translate_document(loaded, batch, problems, choice)
    yield from batch.list_models()
    problems.extend(batch.batch_problems())


def _translate_document(
    loaded: LoadedDocument, batch: Batch, problems: list[Problem], choice: str
) -> Sequence[dict[str, Any] | OtherObject]:
    if loaded.other is not None and choice != others.FAIL:
        problems.extend(others.settle_other(loaded, loaded.other, choice))
        return [loaded.other] if choice == others.KEEP else []
    objects, _, of_document = batch.add_document(loaded)
    problems.extend(of_document)
    return objects
