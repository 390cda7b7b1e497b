"""The front door: a document of any shape becomes one spec, read and validated, with every problem at its place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base.problems import Problem, warning
from ebbtide.readers import native
from ebbtide.readers.loaded import Loaded, loaded_from
from ebbtide.readers.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile

#: Documents that are found beside specs and are no specs: skipped with a word, not refused.
OTHERS: Final = {"Profile", "Kustomization", "List"}
# fmt: off
#: Kinds that a render makes beside the workload itself; met again when it is read back.
COMPANIONS: Final = {
    "DomainMapping", "HorizontalPodAutoscaler", "LimitRange", "Namespace", "PersistentVolumeClaim", "PriorityClass",
    "Queue", "ResourceClaimTemplate", "ResourceQuota", "ScaledObject", "ServiceAccount",
}
# fmt: on


def load(
    data: Any,
    profile: Profile,
    *,
    name: str = "",
    line: Callable[[Path], int] | None = None,
    problems: list[Problem] | None = None,
) -> Loaded:
    """Return one document, read and validated. ``problems`` are those its text had."""
    where = line or (lambda path: 0)  # noqa: ARG005 - no lines known
    before = list(problems or ())
    if not isinstance(data, dict):
        found = Problem(
            "SPEC005",
            (),
            "this document is not an inference spec: it must be a mapping",
            "start with apiVersion: ebbtide.dev/v1alpha1 and kind: Inference",
        )
        before = before or [replace(found, line=where(()), document=name)]
        return Loaded(name, Reading({}), None, before, where)
    kind = data.get("kind")
    if isinstance(kind, str) and kind in COMPANIONS and "apiVersion" in data:
        found = _companion(kind)
    elif reader := native if native.recognise(data) else _rarer(data):
        return loaded_from(reader.read(data, profile), name, where, before)
    else:
        found = _unknown(kind, data.get("apiVersion"))
    return Loaded(name, Reading({}), None, [*before, replace(found, line=where(found.field), document=name)], where)


def _rarer(data: dict[str, Any]) -> ModuleType | None:
    """Return the reader of the shapes that most calls never see."""
    from ebbtide.readers import crd, rest  # noqa: PLC0415 - off the common path

    if reader := next((module for module in (rest, crd) if module.recognise(data)), None):
        return reader
    from ebbtide.adopt import live  # noqa: PLC0415 - as above

    return live if live.recognise(data) else None


def _companion(kind: str) -> Problem:
    return warning(
        "IMP007",
        ("kind",),
        f"{kind} is rendered together with a workload, from its spec and the profile; it is ignored",
        "use the Knative Service or InferenceService that it belongs to",
    )


def _unknown(kind: Any, version: Any) -> Problem:
    told = f"{version} {kind}" if kind or version else "a document without apiVersion and kind"
    return Problem(
        "SPEC005",
        ("kind",),
        f"{told} is not a supported input",
        "use kind: Inference, a Run:ai REST body {name, projectId, spec}, a Run:ai InferenceWorkload, a Knative "
        "Service or a KServe InferenceService",
    )
