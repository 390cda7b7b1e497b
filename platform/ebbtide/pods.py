"""A pod in parts: each feature gives a ``PodPatch``, ``merge`` makes one ``Pod`` of them.

No feature knows which object the pod ends up in, and no order of features changes the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.objects import Object
    from ebbtide.problems import Path


class Conflict(Exception):  # noqa: N818 - it is a fact about two features, named as such
    """Two features set the same part of a pod to different values: a defect of ours, not of the input."""


# Not frozen: a frozen dataclass sets each of these fields by a call, which is a tenth of a translation's time.
@dataclass(slots=True)
class PodPatch:
    """What one feature asks of the pod.

    ``by`` names the feature, ``cause`` the spec's field that asked for it (for problems about the result).
    Dicts merge by key, lists are joined, single values may be set by one feature only. What is None is not
    asked for.
    """

    by: str
    cause: Path = ()
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    requests: dict[str, str] | None = None
    limits: dict[str, str] | None = None
    node_selector: dict[str, str] | None = None
    container_security: dict[str, Any] | None = None
    pod_security: dict[str, Any] | None = None
    affinity: dict[str, Any] | None = None
    env: list[dict[str, Any]] | None = None
    tolerations: list[dict[str, Any]] | None = None
    volumes: list[dict[str, Any]] | None = None
    mounts: list[dict[str, Any]] | None = None
    resource_claims: list[dict[str, Any]] | None = None
    container_claims: list[dict[str, Any]] | None = None
    objects: list[Object] | None = None
    scheduler_name: str | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    service_account_name: str | None = None


DICTS: Final = (
    "labels",
    "annotations",
    "requests",
    "limits",
    "node_selector",
    "container_security",
    "pod_security",
    "affinity",
)
LISTS: Final = (
    "env",
    "tolerations",
    "volumes",
    "mounts",
    "resource_claims",
    "container_claims",
    "objects",
)
SINGLES: Final = ("scheduler_name", "priority_class_name", "runtime_class_name", "service_account_name")


@dataclass(slots=True)
class Pod:
    """The merged parts, and for each part the spec's field that caused it."""

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    node_selector: dict[str, str] = field(default_factory=dict)
    container_security: dict[str, Any] = field(default_factory=dict)
    pod_security: dict[str, Any] = field(default_factory=dict)
    affinity: dict[str, Any] = field(default_factory=dict)
    env: list[dict[str, Any]] = field(default_factory=list)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    resource_claims: list[dict[str, Any]] = field(default_factory=list)
    container_claims: list[dict[str, Any]] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    scheduler_name: str | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    service_account_name: str | None = None
    causes: dict[str, Path] = field(default_factory=dict)


PARTS: Final = (*DICTS, *LISTS, *SINGLES)
_PARTS: Final = attrgetter(*PARTS)
_BY: Final = attrgetter("by")


def merge(patches: Iterable[PodPatch]) -> Pod:
    """Return the pod that all ``patches`` make together, whatever their order.

    Raises Conflict where two features set one key or value differently.
    """
    pod = Pod()
    ordered = sorted(patches, key=_BY)
    for patch in ordered:
        for name, part in zip(PARTS, _PARTS(patch), strict=True):
            if not part:
                continue
            pod.causes.setdefault(name, patch.cause)
            merged = getattr(pod, name)
            if merged is None:
                setattr(pod, name, part)
            elif isinstance(merged, list):
                merged.extend(part)
            elif isinstance(merged, dict):
                for item, value in part.items():
                    if merged.setdefault(item, value) != value:
                        raise Conflict(_both(ordered, patch, name, item))
            elif merged != part:
                raise Conflict(_both(ordered, patch, name, None))
    return pod


def _both(ordered: list[PodPatch], later: PodPatch, name: str, item: str | None) -> str:
    """Return which two features set one part differently."""
    first = next(patch for patch in ordered if (part := getattr(patch, name)) and (item is None or item in part))
    return f"{first.by} and {later.by} both set {name}" + (f" {item}" if item else "")
