"""The pod as a set of patches: each feature returns a ``PodPatch``, and ``merge`` combines them into one ``Pod``.

A feature does not depend on the object that contains the pod, and the order of features does not change the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypedDict, Unpack, cast

from ebbtide.core.base.problems import Path
from ebbtide.core.translation.objects import Object


class PatchConflict(Exception):  # noqa: N818 - a conflict of two features
    """Two features set the same part of a pod to different values: a defect of Ebbtide, not of the input."""


class PodParts(TypedDict, total=False):
    """The parts of a pod that a feature may set. Dicts merge by key, lists are joined, and one feature sets each other part."""

    labels: dict[str, str]
    annotations: dict[str, str]
    requests: dict[str, str]
    limits: dict[str, str]
    node_selector: dict[str, str]
    container_security: dict[str, Any]
    pod_security: dict[str, Any]
    affinity: dict[str, Any]
    args: list[str]
    env: list[dict[str, Any]]
    tolerations: list[dict[str, Any]]
    topology_spread: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]
    init_containers: list[dict[str, Any]]
    resource_claims: list[dict[str, Any]]
    container_claims: list[dict[str, Any]]
    objects: list[Object]
    scheduler_name: str
    priority_class_name: str
    runtime_class_name: str
    service_account_name: str


class PodPatch:
    """The parts of the pod that one feature sets, usually one or two, without empty fields.

    ``by`` names the feature. ``cause`` is the spec's field behind it, for problems about the result.
    """

    __slots__ = ("by", "cause", "parts")

    def __init__(self, by: str, cause: Path = (), **parts: Unpack[PodParts]) -> None:
        self.by = by
        self.cause = cause
        self.parts = parts


class Pod(NamedTuple):
    """The merged parts of a pod that are not empty, and for each part the spec's field that caused it."""

    parts: PodParts
    causes: dict[str, Path]


_BY: Final = attrgetter("by")


def merge_patches(patches: Iterable[PodPatch]) -> Pod:
    """Return the pod that combines all ``patches``, whatever their order.

    Raises Conflict if two features set one key or part to different values.
    """
    parts: dict[str, Any] = {}
    causes: dict[str, Path] = {}
    ordered = sorted(patches, key=_BY)
    for patch in ordered:
        for name, part in patch.parts.items():
            if not part:
                continue
            merged = parts.get(name)
            if merged is None:
                causes[name] = patch.cause
                parts[name] = part.copy() if isinstance(part, dict | list) else part
            elif isinstance(part, list):
                merged.extend(part)
            elif isinstance(part, dict):
                for key, value in part.items():
                    if merged.setdefault(key, value) != value:
                        raise PatchConflict(_describe_conflict(ordered, patch, name, key))
            elif merged != part:
                raise PatchConflict(_describe_conflict(ordered, patch, name, None))
    return Pod(cast("PodParts", parts), causes)


def _describe_conflict(ordered: list[PodPatch], later: PodPatch, name: str, key: str | None) -> str:
    """Return the message that names the two features with different values of one part."""

    def sets(patch: PodPatch) -> bool:
        part: Any = patch.parts.get(name)
        return bool(part) and (key is None or key in part)

    first = next(filter(sets, ordered))
    return f"{first.by} and {later.by} both set {name}" + (f" {key}" if key else "")
