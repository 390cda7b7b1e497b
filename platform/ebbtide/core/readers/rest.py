"""Reader and writer of Run:ai's REST body: ``{name, projectId, clusterId, spec}``, versions 2.18 to 2.24.

Upstream: runai-professional-services/runapy, schema InferenceCreationRequest. The native document uses the field names
of its spec, so only the fields next to the spec need a mapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import metrics
from ebbtide.core.base.problems import Path, Problem, make_warning, shorten_text
from ebbtide.core.profile.projects import make_project_namespace
from ebbtide.core.readers import table
from ebbtide.core.readers.loaded import canonical_json
from ebbtide.core.readers.reading import make_document
from ebbtide.core.readers.table import Draft, FieldRow
from ebbtide.core.translation.priority import LEVELS

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: Native fields that are missing from Run:ai's REST body.
# fmt: off
OURS: Final = (
    "model", "serving", "defaults", "serviceAccountName", "containerName", "sidecars", "initContainers", "transformer",
    "explainer", "logger", "batcher", "slo", "traffic", "rollout", "nodeSelector", "podAntiAffinity", "topologySpreadConstraints",
    "disruptionBudget", "deploymentStrategy", "patches", "start", "lora", "endpoint",
)
# fmt: on
#: Native fields inside Run:ai's blocks that are missing from Run:ai's REST body, each with its block.
OURS_INSIDE: Final = tuple(
    (block, name)
    for block, names in (
        ("probes", ("liveness", "startup")),
        ("compute", ("shmSize", "gpuComputePercentage")),
        ("storage", ("imageVolume", "csiVolume")),
        ("autoscaling", ("stableWindowSeconds", "panicWindowPercentage", "panicThresholdPercentage")),
        ("autoscaling", ("targetBurstCapacity", "metricAggregation", "metrics", "schedule", "behavior")),
        ("autoscaling", ("fallbackReplicas", "buffer")),
    )
    for name in names
)
#: Fields with an amount, as a number or as text.
# fmt: off
AMOUNTS: Final = frozenset(
    {
        "cpuMemoryRequest", "cpuMemoryLimit", "gpuMemoryRequest", "gpuMemoryLimit", "quantity", "size", "sizeLimit",
    }
)
# fmt: on
#: Length of the suffix of a name that is a prefix.
SUFFIX_LENGTH: Final = 5
#: Fields of a spec that only Run:ai's other kinds of inference have, and the refusal.
OTHER_KINDS: Final = (("leader", table.DISTRIBUTED), ("worker", table.DISTRIBUTED), ("workers", table.DISTRIBUTED))
#: The refusals of lists, by the field that has one: ``workloads`` is the answer of Run:ai's ``GET /api/v1/workloads``.
LISTED: Final = {
    "workloads": (
        "RUN049",
        "this is Run:ai's list of workloads, which contains no specs",
        "read each inference with GET /api/v1/workloads/inferences/{workloadId}, or all with ebbtide import --from runai URL",
    ),
    "inferences": (
        "SPEC005",
        "this is a list of Run:ai's inferences, and a document has one workload",
        "write each entry as a separate document, with --- between them",
    ),
}
#: The refusal of assets, which ``runai`` names with ``--environment``.
ASSETS: Final = (
    "RUN001",
    "assets references environment and compute assets in Run:ai's control plane, which Ebbtide cannot read",
    "set spec.image, spec.environmentVariables and spec.compute to what the assets contain",
)
#: The spelling of ``useGivenNameAsPrefix`` in NVIDIA's first client, which sends it with every body.
MISSPELLED: Final = "usGivenNameAsPrefix"
#: Fields of Run:ai's answers that only its control plane sets (schema Inference1), and those that Ebbtide's own answer adds.
# fmt: off
ANSWERED: Final = frozenset(
    {
        "requestedName", "workloadId", "departmentId", "createdBy", "createdAt", "updatedAt", "deletedAt", "desiredPhase",
        "actualPhase",
    }
)
# fmt: on
AUTO: Final = ("spec", "autoscaling")


def _check_prefix(value: Any) -> bool | None:
    if value is not True and value != 0:
        raise table.RefusedValueError("SPEC002", "useGivenNameAsPrefix must be true or false", "remove it")
    return value or None


def _take_cluster_id(draft: Draft, row: FieldRow, requested_id: Any, where: Path) -> None:  # noqa: ARG001 - the signature of every handler
    cluster_id = draft.cluster.cluster_id
    if not isinstance(requested_id, str):
        draft.add_error("SPEC002", where, "clusterId must be a string", "quote it")
    elif cluster_id is not None and requested_id != cluster_id:
        message = f"the request is for cluster {requested_id}, but the profile describes cluster {cluster_id}"
        draft.add_error("PRJ005", where, message, "use the profile of that cluster")


def _take_project_id(draft: Draft, row: FieldRow, project: Any, where: Path) -> None:
    """Look up the project by its ID in the profile, or use the ID as the project's name."""
    projects = draft.cluster.projects
    if isinstance(project, int) and not isinstance(project, bool):
        # Run:ai's older pages show IDs as numbers.
        project = str(project)
    if not isinstance(project, str):
        draft.add_error("SPEC002", where, "projectId must be a string", "quote it")
    elif isinstance(draft.spec, dict):
        name = next((name for name, known in projects.known.items() if known.id == project), None)
        if name is None and project not in projects.known and not projects.closed:
            namespace = make_project_namespace(projects, shorten_text(project))
            message = f"the profile has no project with ID {shorten_text(project)}: Ebbtide uses the ID as the project's name, and the namespace is {namespace}"
            draft.add_warning("PRJ006", where, message, "add the project with its ID to projects.known")
        if "project" in draft.spec:
            message = "unknown field spec.project of Run:ai's request"
            draft.add_error("SPEC001", row.native, message, "use projectId")
        draft.set_field(row.native, name or project, where)


def _take_prefix(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:  # noqa: ARG001 - the signature of every handler
    """Add a suffix to the name: a hash of the spec, so that the same request always has the same name."""
    name = draft.native["metadata"]["name"]
    if not isinstance(name, str) or not isinstance(draft.spec, dict):
        # Validation rejects it.
        return
    spec = {field: item for field, item in draft.spec.items() if field != "project"}
    suffix = sha256(canonical_json(spec).encode()).hexdigest()[:SUFFIX_LENGTH]
    draft.native["metadata"]["name"] = f"{name}-{suffix}"
    message = f"Run:ai adds a random suffix to the name, Ebbtide a hash of the spec: the name is {name}-{suffix}, and a changed spec is another service"
    draft.add_warning("RUN045", where, message, f"remove {where[-1]} to keep one service, which apply updates")


FIELDS: Final = {
    row.name: row
    for row in (
        FieldRow("name", "metadata.name"),
        FieldRow.refused(
            "templateId",
            "RUN001",
            "templateId references a template in Run:ai's control plane, which Ebbtide cannot read",
            "copy its fields into the request",
        ),
        FieldRow.refused("assets", *ASSETS),
        *(
            FieldRow(name, "metadata.name", read=_check_prefix, take=_take_prefix)
            for name in ("useGivenNameAsPrefix", MISSPELLED)
        ),
        FieldRow("clusterId", take=_take_cluster_id),
        FieldRow("projectId", "spec.project", take=_take_project_id),
        # Its fields already have native names.
        FieldRow("spec", take=table.leave_to_rule),
    )
}


def recognize(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is a REST body, without apiVersion and kind, with a spec or project; or a list of workloads."""
    known = {"spec", "projectId"}.intersection(data) or any(isinstance(data.get(name), list) for name in LISTED)
    return "apiVersion" not in data and "kind" not in data and bool(known)


def read(data: dict[str, Any], profile: Profile) -> Draft:
    """Return the body in native form; look up IDs in the profile."""
    spec = data.get("spec")
    draft = Draft(make_document(data.get("name"), {} if spec is None else drop_nulls(spec)), cluster=profile.spec)
    draft.origins = {("metadata",): (), ("spec", "project"): ("projectId",)}
    inner = spec if isinstance(spec, dict) else {}
    refusals: list[tuple[Path, tuple[str, str, str]]] = [
        (("spec", name), refusal) for name, refusal in OTHER_KINDS if name in inner
    ]
    refusals += [((name,), refusal) for name, refusal in LISTED.items() if name in data]
    if refusals:
        draft.native["metadata"]["name"] = table.NAMELESS
        draft.refuse_kind(*refusals[0])
        return draft
    if inner.get("assets") is not None:
        draft.native["spec"].pop("assets", None)
        draft.add_error(ASSETS[0], ("spec", "assets"), *ASSETS[1:])
    data = _drop_answered(draft, data)
    for name in data:
        if name not in FIELDS:
            known = ", ".join(sorted({*FIELDS} - {MISSPELLED, "assets"}))
            draft.add_error("SPEC001", (name,), f"unknown field {name} of Run:ai's request", f"use one of {known}")
    if "name" not in data:
        draft.add_error("SPEC003", ("name",), "the request has no name", "set name")
    for name, row in FIELDS.items():
        # NVIDIA's client writes null for every field that is not set.
        if data.get(name) is not None:
            table.apply_row(draft, row, data[name], (name,))
    if data.get("projectId") is None:
        message = "the request has no project"
        draft.add_error("SPEC003", ("projectId",), message, "set projectId to the project's ID or name")
    return draft


def _drop_answered(draft: Draft, answer: dict[str, Any]) -> dict[str, Any]:
    """Return Run:ai's answer without the fields that only its control plane sets, with one warning for all."""
    names = [name for name in answer if name in ANSWERED]
    if names:
        message = f"{', '.join(names)}: Run:ai's control plane sets these fields, and they have no effect here"
        if answer.get("desiredPhase") in ("Stopped", "Deleted"):  # a tuple, because the value may be of any type
            message += f"; the workload is {answer['desiredPhase'].lower()} in Run:ai, and an apply starts it"
        draft.add_warning("RUN048", (names[0],), message, "remove them")
    return {name: value for name, value in answer.items() if name not in ANSWERED}


def _find_single_metric(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first named metric of a list as Run:ai's only one; empty if all are queries."""
    first = next((item for item in items if "metric" in item), None)
    return {} if first is None else {"metric": first["metric"], "metricThreshold": first["threshold"]}


def drop_nulls(value: Any) -> Any:
    """Return ``value`` without the fields that are null, and without blocks whose fields are all null, as if they were not set."""
    if isinstance(value, dict):
        # In a merge patch, null removes a field.
        inner = {key: item if key == "patches" else drop_nulls(item) for key, item in value.items() if item is not None}
        return {key: item for key, item in inner.items() if item != {} or value[key] == {}}
    return [drop_nulls(item) for item in value] if isinstance(value, list) else value


# Conversion of native documents to REST bodies.


def write_body(
    native: dict[str, Any], profile: Profile, cluster_id: str | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """Return Run:ai's REST body of a native document, a warning for each field that it cannot express, and errors.

    Args:
        native: the document.
        profile: the profile of the cluster, with the IDs of Run:ai.
        cluster_id: the ID of the cluster, if it is not that of the profile.
    """
    spec = {name: value for name, value in native["spec"].items() if name != "project"}
    lost = []
    if "image" not in spec:
        message = (
            "Run:ai's REST body runs an image, and the spec serves a model without one: the body would run nothing"
        )
        lost.append(
            Problem("CNV003", ("spec", "model"), message, "set image, or keep the native document as the source")
        )
    lost += [_loss_warning(("spec", name)) for name in OURS if spec.pop(name, None) is not None]
    for block, name in OURS_INSIDE:
        inner = spec.get(block)
        if isinstance(inner, dict) and name in inner:
            spec[block] = {key: value for key, value in inner.items() if key != name}
            if name == "metrics":
                spec[block] |= _find_single_metric(inner[name])
            lost.append(_loss_warning(("spec", block, name)))
    lost += [
        _loss_warning(("metadata", name))
        for name in ("labels", "annotations", "namespace")
        if native["metadata"].get(name)
    ]
    # Blocks that both formats have, in which Run:ai supports fewer values.
    for block, change in (
        ("autoscaling", partial(_convert_autoscaling, listed=profile.spec.metrics.custom)),
        ("probes", _convert_probes),
        ("compute", _convert_compute),
    ):
        inner = spec.get(block)
        if isinstance(inner, dict):
            spec[block] = change(inner, lost)
            if not spec[block]:
                del spec[block]
    for name, label, levels in (
        ("priorityClass", "priority class", LEVELS),
        ("preemptibility", "preemptibility", ("preemptible", "non-preemptible")),
    ):
        level = spec.get(name)
        if level is not None and level not in levels:
            del spec[name]
            lost.append(_loss_warning(("spec", name), f"{label} {level}, only {', '.join(levels)}"))
    if "exposedUrls" in spec:
        # Run:ai's default for a host name, which its API has no value for.
        public = ("authorizationType", "public")
        spec["exposedUrls"] = [dict(row for row in url.items() if row != public) for url in spec["exposedUrls"]]
    for name in ("command", "args"):
        if isinstance(spec.get(name), list):
            import shlex  # noqa: PLC0415 - most specs have no command

            spec[name] = shlex.join(spec[name])
    project = native["spec"].get("project")
    known = profile.spec.projects.known.get(project) if project else None
    if project is None:
        message = "Run:ai requires a project, but the spec has none"
        lost.append(Problem("CNV002", ("spec",), message, "set spec.project"))
    cluster_id = cluster_id or profile.spec.cluster_id
    if not cluster_id:
        message = "Run:ai requires the cluster's ID, but neither --cluster-id nor the profile sets it"
        lost.append(Problem("CNV002", (), message, "pass --cluster-id, or set clusterId in the profile"))
    ids = {"projectId": known.id if known is not None and known.id else project, "clusterId": cluster_id}
    return {
        "name": native["metadata"]["name"],
        **{name: value for name, value in ids.items() if value},
        "spec": _write_amounts(spec),
    }, lost


def _write_amounts(value: Any) -> Any:
    """Return a spec with every amount as text, which Run:ai's schema requires."""
    if isinstance(value, list):
        return [_write_amounts(item) for item in value]
    if isinstance(value, dict):
        return {name: str(item) if name in AMOUNTS else _write_amounts(item) for name, item in value.items()}
    return value


def _convert_autoscaling(auto: dict[str, Any], lost: list[Problem], listed: Sequence[str]) -> dict[str, Any]:
    converted = dict(auto)
    metric, name = converted.get("metric"), converted.pop("metricName", None)
    if name is not None and metric == "custom" and _is_unambiguous(name, listed):
        # Run:ai reads every name other than that of a built-in metric as a custom metric.
        converted["metric"] = name
    elif name is not None:
        for field in ("metric", "metricThreshold") if metric == "custom" else ():
            converted.pop(field, None)
        lost.append(_loss_warning((*AUTO, "metricName"), f"custom metric named {name}"))
    elif isinstance(metric, str) and "-" in metric:
        # Run:ai's pattern for metrics has no hyphen.
        converted["metric"] = metric.replace("-", "_")
    threshold = converted.get("metricThreshold")
    if isinstance(threshold, float):
        converted["metricThreshold"] = max(1, round(threshold))
        if threshold != int(threshold):
            message = (
                f"Run:ai supports whole thresholds only: {threshold:g} is rounded to {converted['metricThreshold']}"
            )
            lost.append(make_warning("CNV001", (*AUTO, "metricThreshold"), message, "use a whole number"))
    return converted


def _is_unambiguous(name: str, listed: Sequence[str]) -> bool:
    """Return whether the name of a custom metric is unambiguous: it cannot be read as another metric."""
    return metrics.find_metric(name) is None and (name in listed or metrics.find_similar_metric(name) is None)


def _convert_probes(probes: dict[str, Any], lost: list[Problem]) -> dict[str, Any]:
    converted = dict(probes)
    handler = (converted.get("readiness") or {}).get("handler") or {}
    for kind in ("tcpSocket", "grpc"):
        if handler.get(kind) is not None:
            converted.pop("readiness", None)
            where = ("spec", "probes", "readiness", "handler", kind)
            lost.append(_loss_warning(where, f"{kind} probe, only an HTTP probe"))
    return converted


def _convert_compute(compute: dict[str, Any], lost: list[Problem]) -> dict[str, Any]:
    converted = {name: value for name, value in compute.items() if name != "migProfile"}
    if converted.get("gpuRequestType") == "migProfile":
        del converted["gpuRequestType"]
    if compute.get("migProfile") is not None:
        lost.append(_loss_warning(("spec", "compute", "migProfile")))
    return converted


def _loss_warning(path: tuple[str, ...], description: str = "") -> Problem:
    """Return the warning that Run:ai's REST body cannot express a field."""
    message = f"Run:ai's REST body has no {description or path[-1]}; it is omitted"
    return make_warning("CNV001", path, message, "keep the native document as the source")
