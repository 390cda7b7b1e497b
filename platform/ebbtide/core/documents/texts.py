"""Conversion of YAML text and parsed data to documents: each is parsed, validated, and returned with its problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.core import manifests
from ebbtide.core.documents import OTHERS, load_document
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.readers.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile


def load_text(text: bytes, name: str, profile: Profile, *, strictly: bool = True) -> Iterator[LoadedDocument]:
    """Yield every document of a YAML text. Unless ``strictly``, skip documents that are not specs."""
    for document in manifests.read_documents(text, name):
        yield from _load_parsed(document, profile, strictly=strictly)


def _load_parsed(document: manifests.Document, profile: Profile, *, strictly: bool) -> Iterator[LoadedDocument]:
    """Yield the content of one document: a spec, or the items of a list; nothing for a kind in ``OTHERS``."""
    data = document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    if not strictly and kind in OTHERS and not document.problems:
        return
    items = data.get("items") if kind == "List" else data
    if isinstance(items, list) and not document.problems and (kind == "List" or _are_mappings(items)):
        for index, item in enumerate(items):
            loaded = load_document(item, profile, name=f"{document.name}[{index}]")
            if loaded.other is not None:
                loaded.other.text = manifests.write_document(item)
            yield loaded
    elif data is None and document.problems:
        yield unparsed_document(document.name, document.problems)
    else:
        loaded = load_document(data, profile, name=document.name, line=document.line, problems=document.problems)
        if loaded.other is not None:
            loaded.other.text = document.text
        yield loaded


def _are_mappings(items: list[Any]) -> bool:
    """Return whether a list is one of documents, such as the collected answers of Run:ai's API."""
    return bool(items) and all(isinstance(item, dict) for item in items)


def load_data(data: Any, profile: Profile) -> LoadedDocument:
    """Return a document from parsed data, which must satisfy the rules for YAML text too."""
    faults = [*manifests.find_faults(data)]
    return unparsed_document("", faults) if faults else load_document(data, profile)


def unparsed_document(name: str, problems: list[Problem]) -> LoadedDocument:
    """Return a document that could not be parsed, with its problems."""
    return LoadedDocument(name, Reading({}), None, list(problems))
