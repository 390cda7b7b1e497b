"""Run:ai's REST body: ``{name, projectId, clusterId, spec}``, versions 2.18 to 2.24.

Upstream: runai-professional-services/runapy, schema InferenceCreationRequest. Its spec has the names that the
native document took over, so that only what stands beside the spec needs care here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import metrics
from ebbtide.base.problems import Problem, warning
from ebbtide.readers.reading import Reading, document
from ebbtide.translation.priority import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.profile.models import Profile, ProfileSpec

#: Fields of ours that Run:ai's REST body has no word for.
OURS: Final = ("model", "serving", "slo", "traffic", "podAntiAffinity", "patches")
#: Ours inside Run:ai's blocks.
OURS_INSIDE: Final = (
    ("probes", "liveness"),
    ("probes", "startup"),
)
AUTO: Final = ("spec", "autoscaling")
FIELDS: Final = {"name", "useGivenNameAsPrefix", "projectId", "clusterId", "templateId", "spec"}


def recognise(data: dict[str, Any]) -> bool:
    """Whether ``data`` is a REST body: no apiVersion, a name and a spec or project beside it."""
    return "apiVersion" not in data and "kind" not in data and bool({"spec", "projectId"}.intersection(data))


def read(data: dict[str, Any], profile: Profile) -> Reading:
    """Return the body in native form; ids are looked up in the profile."""
    cluster = profile.spec
    problems = [
        Problem(
            "SPEC001",
            (name,),
            f"{name} is not a field of Run:ai's request",
            f"use one of {', '.join(sorted(FIELDS))}",
        )
        for name in data
        if name not in FIELDS
    ]
    given = data.get("spec")
    # NVIDIA's client writes null for whatever a request does not have.
    spec = _without_nulls(given) if "spec" in data and given is not None else {}
    reading = Reading(document(data.get("name"), spec))
    reading.origins = {("metadata",): (), ("spec", "project"): ("projectId",)}
    if "name" not in data:
        problems.append(Problem("SPEC003", ("name",), "the request has no name", "set name"))
    problems.extend(_refused(data))
    problems.extend(_cluster(data, cluster))
    project = data.get("projectId")
    if project is None:
        problems.append(
            Problem(
                "SPEC003",
                ("projectId",),
                "the request names no project",
                "set projectId, to the project's id or name",
            )
        )
    elif not isinstance(project, str):
        problems.append(Problem("SPEC002", ("projectId",), "projectId is not a text", "quote it"))
    elif isinstance(spec, dict):
        name = next((name for name, row in cluster.projects.known.items() if row.id == project), None)
        if name is None and project not in cluster.projects.known and not cluster.projects.closed:
            problems.append(
                warning(
                    "PRJ006",
                    ("projectId",),
                    f"the profile knows no project with id {project}; it is taken for the project's name",
                    "add it to projects.known with its id",
                )
            )
        if "project" in spec:
            problems.append(
                Problem(
                    "SPEC001",
                    ("spec", "project"),
                    "spec.project is not a field of Run:ai's request",
                    "use projectId",
                )
            )
        reading.native["spec"] = {**spec, "project": name or project}
    reading.problems = problems
    return reading


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        # In a merge patch null means: remove.
        return {
            key: item if key == "patches" else _without_nulls(item) for key, item in value.items() if item is not None
        }
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _refused(data: dict[str, Any]) -> list[Problem]:
    found = []
    if data.get("templateId") is not None:
        found.append(
            Problem(
                "RUN001",
                ("templateId",),
                "a template lives in Run:ai's control plane and cannot be read from here",
                "put its fields into the request",
            )
        )
    prefix = data.get("useGivenNameAsPrefix")
    if prefix is True:
        found.append(
            Problem(
                "RUN002",
                ("useGivenNameAsPrefix",),
                "a name that is made anew each time could never be applied again or compared",
                "give the workload its own name",
            )
        )
    elif prefix not in (None, False):
        found.append(
            Problem("SPEC002", ("useGivenNameAsPrefix",), "useGivenNameAsPrefix is true or false", "remove it")
        )
    return found


def _cluster(data: dict[str, Any], cluster: ProfileSpec) -> list[Problem]:
    asked = data.get("clusterId")
    if asked is not None and not isinstance(asked, str):
        return [Problem("SPEC002", ("clusterId",), "clusterId is not a text", "quote it")]
    if asked is not None and cluster.cluster_id is not None and asked != cluster.cluster_id:
        return [
            Problem(
                "PRJ005",
                ("clusterId",),
                f"the request is for cluster {asked}, and this profile is {cluster.cluster_id}",
                "use the profile of that cluster",
            )
        ]
    return []


# The way back.


def write(native: dict[str, Any], profile: Profile) -> tuple[dict[str, Any], list[Problem]]:
    """Return Run:ai's REST body of a native document, and what it cannot hold."""
    spec = {name: value for name, value in native["spec"].items() if name != "project"}
    lost = [_lost(("spec", name)) for name in OURS if spec.pop(name, None) is not None]
    for block, name in OURS_INSIDE:
        inner = spec.get(block)
        if isinstance(inner, dict) and name in inner:
            spec[block] = {key: value for key, value in inner.items() if key != name}
            lost.append(_lost(("spec", block, name)))
    lost += [
        _lost(("metadata", name)) for name in ("labels", "annotations", "namespace") if native["metadata"].get(name)
    ]
    # Blocks that both have, of which Run:ai takes less than we do.
    for block, change in (
        ("autoscaling", partial(_autoscaling, listed=profile.spec.metrics.custom)),
        ("probes", _probes),
        ("compute", _compute),
    ):
        inner = spec.get(block)
        if isinstance(inner, dict):
            spec[block] = change(inner, lost)
            if not spec[block]:
                del spec[block]
    priority = spec.get("priorityClass")
    if priority is not None and priority not in LEVELS:
        del spec["priorityClass"]
        lost.append(_lost(("spec", "priorityClass"), f"priority class {priority}, only {', '.join(LEVELS)}"))
    for name in ("command", "args"):
        if isinstance(spec.get(name), list):
            import shlex  # noqa: PLC0415 - most specs have no command

            spec[name] = shlex.join(spec[name])
    project = native["spec"].get("project")
    known = profile.spec.projects.known.get(project) if project else None
    if project is None:
        lost.append(
            warning(
                "CNV002",
                ("spec", "project"),
                "Run:ai wants a project, and the spec has none",
                "fill in projectId",
            )
        )
    if profile.spec.cluster_id is None:
        lost.append(
            warning(
                "CNV002",
                ("metadata", "name"),
                "Run:ai wants the cluster's id, and the profile has none",
                "fill in clusterId",
            )
        )
    return {
        "name": native["metadata"]["name"],
        "projectId": (known.id if known is not None and known.id else project) or "",
        "clusterId": profile.spec.cluster_id or "",
        "spec": spec,
    }, lost


def _autoscaling(auto: dict[str, Any], lost: list[Problem], listed: Sequence[str]) -> dict[str, Any]:
    found = dict(auto)
    metric, name = found.get("metric"), found.pop("metricName", None)
    if name is not None and metric == "custom" and _is_own(name, listed):
        # Run:ai takes any name that is none of its own for a custom metric's.
        found["metric"] = name
    elif name is not None:
        for gone in ("metric", "metricThreshold") if metric == "custom" else ():
            found.pop(gone, None)
        lost.append(_lost((*AUTO, "metricName"), f"custom metric that is named {name}"))
    elif isinstance(metric, str) and "-" in metric:
        # Run:ai's pattern for metrics has no hyphen.
        found["metric"] = metric.replace("-", "_")
    threshold = found.get("metricThreshold")
    if isinstance(threshold, float):
        found["metricThreshold"] = max(1, round(threshold))
        if threshold != int(threshold):
            lost.append(
                warning(
                    "CNV001",
                    (*AUTO, "metricThreshold"),
                    f"Run:ai takes whole thresholds only: {threshold:g} becomes {max(1, round(threshold))}",
                    "choose a whole number",
                )
            )
    return found


def _is_own(name: str, listed: Sequence[str]) -> bool:
    """Whether a custom metric's name alone says which metric it is, and is read as no other's."""
    return metrics.find(name) is None and (name in listed or metrics.near(name) is None)


def _probes(probes: dict[str, Any], lost: list[Problem]) -> dict[str, Any]:
    found = dict(probes)
    handler = (found.get("readiness") or {}).get("handler") or {}
    for way in ("tcpSocket", "grpc"):
        if handler.get(way) is not None:
            found.pop("readiness", None)
            lost.append(
                _lost(("spec", "probes", "readiness", "handler", way), f"probe by {way}, only one by HTTP request")
            )
    return found


def _compute(compute: dict[str, Any], lost: list[Problem]) -> dict[str, Any]:
    found = {name: value for name, value in compute.items() if name != "migProfile"}
    if found.get("gpuRequestType") == "migProfile":
        del found["gpuRequestType"]
    if compute.get("migProfile") is not None:
        lost.append(_lost(("spec", "compute", "migProfile")))
    return found


def _lost(path: tuple[str, ...], what: str = "") -> Problem:
    return warning(
        "CNV001", path, f"Run:ai's REST body has no {what or path[-1]}; it is left out", "keep the native document"
    )
