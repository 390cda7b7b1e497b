"""Reader of the native document, ``kind: Inference``, whose field names are those of Run:ai's REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.core.readers.reading import API_VERSION, KIND, Reading

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile


def recognize(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is a native document."""
    return data.get("kind") == KIND or data.get("apiVersion") == API_VERSION


def read(data: dict[str, Any], profile: Profile) -> Reading:  # noqa: ARG001 - the signature of every reader
    """Return the document unchanged."""
    return Reading(data)
