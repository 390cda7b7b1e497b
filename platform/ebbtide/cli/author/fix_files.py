"""``ebbtide check --fix``: apply the safe fixes of native specs to their files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebbtide.cli.base.common import Source, load_documents
from ebbtide.cli.base.files import replace_file
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import make_printable
from ebbtide.core.documents.check import check_documents
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.readers.reading import KIND

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile


def fix_sources(sources: Iterable[Source], profile: Profile) -> Iterator[Source]:
    """Yield the sources with the safe fixes of each file that is one native spec, and print each change on stderr.

    The other files are not changed. A file that cannot be written keeps its content and its problems.
    """
    for source in sources:
        yield _fix_source(source, profile) if source.unread is None else source


def _fix_source(source: Source, profile: Profile) -> Source:
    from ebbtide.core.documents.fixes import apply_safe_fixes, find_obstacles  # it loads the models

    def load(text: str) -> list[LoadedDocument]:
        return [*load_documents([replace(source, text=text.encode())], profile)]

    def read(text: str) -> Any:
        return load(text)[0].reading.native

    def check(text: str) -> list[Problem]:
        return check_documents(load(text), profile)

    documents = [*load_documents([source], profile)]
    is_native = (
        len(documents) == 1 and documents[0].reading.native.get("kind") == KIND and not documents[0].reading.origins
    )
    if not is_native:
        return source
    text, applied = apply_safe_fixes(source.text.decode(), read, check)
    for problem, obstacle in find_obstacles(text, read, check):
        place = f"{make_printable(source.name)}:{problem.line}"
        sys.stderr.write(f"kept {problem.code} in {place}, because its fix leaves {obstacle.code} in {obstacle.path}\n")
        sys.stderr.write(f"  {make_printable(obstacle.message)}\n")
    if not applied:
        return source
    try:
        replace_file(source.name, text.encode())
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        sys.stderr.write(f"{make_printable(source.name)} is unchanged: {reason}\n")
        return source
    for problem, lines in applied:
        sys.stderr.write(f"fixed {problem.code} in {make_printable(source.name)}:{problem.line}\n")
        sys.stderr.writelines(f"  {make_printable(line)}\n" for line in lines)
    return replace(source, text=text.encode())
