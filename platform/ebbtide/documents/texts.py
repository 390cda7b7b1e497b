"""Conversion of YAML text and parsed data to documents: each is parsed, validated, and returned with its problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide import manifests
from ebbtide.documents import OTHERS, load
from ebbtide.readers.loaded import Loaded
from ebbtide.readers.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Problem
    from ebbtide.profile.models import Profile


def of_text(
    text: bytes, name: str, profile: Profile, *, first_line: int = 1, strictly: bool = True
) -> Iterator[Loaded]:
    """Yield every document of a YAML text. Unless ``strictly``, skip documents that are not specs."""
    for document in manifests.read(text, name, first_line):
        yield from of_document(document, profile, strictly=strictly)


def of_document(document: manifests.Document, profile: Profile, *, strictly: bool) -> Iterator[Loaded]:
    """Yield the content of one document: a spec, or the items of a list; nothing for a kind in ``OTHERS``."""
    data = document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    if not strictly and kind in OTHERS and not document.problems:
        return
    if kind == "List" and isinstance(data.get("items"), list) and not document.problems:
        for index, item in enumerate(data["items"]):
            yield load(item, profile, name=f"{document.name}[{index}]")
    elif data is None and document.problems:
        yield unread(document.name, document.problems)
    else:
        yield load(data, profile, name=document.name, line=document.line, problems=document.problems)


def of_data(data: Any, profile: Profile) -> Loaded:
    """Return a document from parsed data, which must satisfy the rules for YAML text too."""
    faults = [*manifests.find_faults(data)]
    return unread("", faults) if faults else load(data, profile)


def unread(name: str, problems: list[Problem]) -> Loaded:
    """Return a document that could not be parsed, with its problems."""
    return Loaded(name, Reading({}), None, list(problems))
