"""Run:ai's public API for inferences, so that its clients work unchanged: NVIDIA's ``runapy`` does.

Paths, bodies and statuses are those of runapy's .generator/swagger.json (1.224). A workload's id is its object's UID.
The cluster's id is the profile's, else a UUID of the profile's name; a project's id is the profile's, else its name,
which is what a create takes, too. What the cluster cannot know is left out, and a filter on it is refused.
"""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from ebbtide.api import shapes
from ebbtide.api.access import SERVICE_ACCOUNT, UnauthorizedError, claims
from ebbtide.api.asked import AGE, Filters, Limit, Offset, Search, Who, iso, matching, moment, ordered, page, refusals
from ebbtide.api.backend import Read
from ebbtide.api.errors import RequestError
from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import MissingError
from ebbtide.cluster.read import live as reading
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.status import status as status_of
from ebbtide.documents import load
from ebbtide.readers import rest
from ebbtide.slo.source import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ebbtide.api.asked import Asked
    from ebbtide.api.backend import Backend, ProjectRow
    from ebbtide.cluster.read.live import Live
    from ebbtide.cluster.read.status import Phase, Status
    from ebbtide.profile.models import Profile
    from ebbtide.translation.objects import Object

router = APIRouter(tags=["Run:ai"])

#: Run:ai's tenant: there is one, and clients want a number.
TENANT: Final = 1
IDS: Final = uuid.UUID("4f6d1c1e-6a0b-5f6e-9d5c-6b2b8f0f1f0a")
TYPE: Final = "Inference"
#: The version of Run:ai whose API this is; clients ask a cluster for it before they send newer fields.
API_LEVEL: Final = "2.24"
#: What an update may change (runapy, schema InferenceUpdateSpecSpec).
CHANGEABLE: Final = frozenset(
    {
        "autoscaling",
        "servingConfiguration",
        "args",
        "category",
        "command",
        "compute",
        "createHomeDir",
        "environmentVariables",
        "image",
        "imagePullPolicy",
        "imagePullSecrets",
        "nodeAffinityRequired",
        "nodePools",
        "nodeType",
        "podAffinity",
        "preemptibility",
        "priorityClass",
        "probes",
        "workingDir",
    }
)
#: Fields of the list's filter and order that only Run:ai's control plane knows.
UNKNOWN: Final = dict.fromkeys(
    (
        "deletedAt",
        "submittedBy",
        "completedAt",
        "nodepool",
        "idleGpus",
        "idleAllocatedGpus",
        "phaseUpdatedAt",
        "category",
        "priority",
        "allocatedGPU",
        "totalPendingTimeSeconds",
        "totalRunningTimeSeconds",
        "priorityClassName",
        "guaranteedRuntimeEndsAt",
        "aiApplicationId",
        "aiApplicationName",
        "departmentId",
        "departmentName",
        "distributedFramework",
    ),
    "only Run:ai's control plane keeps this",
)
#: Run:ai's metric, the series of a history, and what turns its unit into Run:ai's: milliseconds for latencies.
METRICS: Final[Mapping[str, tuple[str, float]]] = {
    "THROUGHPUT": ("rate", 1.0),
    "LATENCY": ("mean", 1000.0),
    # Ours.
    "LATENCY_P50": ("p50", 1000.0),
    "LATENCY_P95": ("p95", 1000.0),
    "LATENCY_P99": ("p99", 1000.0),
    "CONCURRENCY": ("concurrency", 1.0),
    "FAILURES": ("failures", 1.0),
    "REPLICAS": ("ready", 1.0),
    # Of workloads of any type.
    "RUNNING_POD_COUNT": ("ready", 1.0),
    "POD_COUNT": ("wanted", 1.0),
    "GPU_UTILIZATION": ("gpu", 1.0),
}
#: Metrics of Run:ai's that nobody here counts: answered as empty.
UNCOUNTED: Final = frozenset(
    {
        "GPU_MEMORY_USAGE_BYTES",
        "GPU_MEMORY_REQUEST_BYTES",
        "CPU_USAGE_CORES",
        "CPU_REQUEST_CORES",
        "CPU_LIMIT_CORES",
        "CPU_MEMORY_USAGE_BYTES",
        "CPU_MEMORY_REQUEST_BYTES",
        "CPU_MEMORY_LIMIT_BYTES",
        "GPU_ALLOCATION",
        "NVLINK_BANDWIDTH_TOTAL",
    }
)
SAMPLES: Final = 1000

MODEL: Final = shapes.Error
_READ: Final = refusals(MODEL, 400, 401, 404, 503)
_READ_ALL: Final = refusals(MODEL, 400, 401, 503)
_WRITE: Final = refusals(MODEL, 400, 401, 403, 404, 409, 413, 502, 503)
Deleted = Annotated[bool, Query(description="Only deleted ones: of those nothing is kept here, so there are none.")]
By = Annotated[str, Query(alias="sortBy", max_length=60, description="The field to sort by.")]
Order = Annotated[str, Query(alias="sortOrder", max_length=10, description="asc or desc.")]


# Ids.


def cluster_id(profile: Profile) -> str:
    """Return the cluster's id: the profile's, else one that is made of its name and stays the same."""
    return profile.spec.cluster_id or str(uuid.uuid5(IDS, f"cluster/{profile.metadata.name}"))


def department(profile: Profile) -> tuple[str, str]:
    """Return the id and name of the one department."""
    name = profile.spec.projects.department or "default"
    return str(uuid.uuid5(IDS, f"department/{profile.metadata.name}/{name}")), name


def project_id(profile: Profile, name: str) -> str:
    """Return a project's id: the profile's, else its name."""
    known = profile.spec.projects.known.get(name)
    return (known.id if known is not None else None) or name


def _project(labels: Mapping[str, str], namespace: str) -> str:
    """Return the project of a workload: its label's, else its namespace stands for one."""
    return labels.get(keys.PROJECT) or namespace


# Token.


@router.post("/api/v1/token", responses={200: {"model": shapes.TokenResponse}, **refusals(MODEL, 400, 401, 413, 503)})
def token(request: Request, body: shapes.TokenRequest) -> JSONResponse:
    """Take a service account (``namespace/name``, or its whole name) and its token, and give the token back.

    Nothing is made or kept here: the token is the service account's own, reviewed by the cluster.
    """
    backend: Backend = request.app.state.backend
    if not body.client_id or not body.client_secret:
        raise RequestError("clientId", "clientId and clientSecret are needed", "send a service account and its token")
    caller = backend.caller_of(body.client_secret)
    wanted = body.client_id.removeprefix(SERVICE_ACCOUNT).replace("/", ":")
    if caller.name.removeprefix(SERVICE_ACCOUNT) != wanted:
        raise UnauthorizedError
    expires = claims(body.client_secret).get("exp")
    left = int(expires - backend.clock.now()) if isinstance(expires, (int, float)) else 0
    return JSONResponse(
        {
            "accessToken": body.client_secret,
            "idToken": "",
            "refreshToken": "",
            "expiresIn": max(0, left),
        }
    )


# Inferences.


@router.post("/api/v1/workloads/inferences", status_code=202, responses={202: {"model": shapes.Inference}, **_WRITE})
def create_inference(who: Who, body: shapes.InferenceRequest) -> JSONResponse:
    """Create an inference; a name that is taken is a conflict."""
    profile = who.backend.profile
    if body.cluster_id != cluster_id(profile):
        raise RequestError(
            "clusterId",
            "the request is for another cluster",
            f"send {cluster_id(profile)}, or ask that cluster's server",
        )
    text = json.dumps(body.model_dump(by_alias=True, exclude_none=True))
    made = who.backend.submit(who.caller, text, create=True)
    return JSONResponse(_inference(who.backend, made.tops[0], "Creating"), 202)


@router.get("/api/v1/workloads/inferences/{workloadId}", responses={200: {"model": shapes.Inference}, **_READ})
def get_inference(who: Who, workloadId: str) -> JSONResponse:  # noqa: N803 - Run:ai's name
    """Return an inference."""
    found = who.backend.by_id(who.caller, workloadId)
    now = who.backend.status_by_id(who.caller, workloadId).value
    return _aged(_inference(who.backend, found.value.top, now.phase), found)


@router.patch(
    "/api/v1/workloads/inferences/{workloadId}",
    status_code=202,
    responses={202: {"model": shapes.Inference}, **_WRITE},
)
def update_inference(who: Who, workloadId: str, body: shapes.InferenceUpdate) -> JSONResponse:  # noqa: N803 - as above
    """Change fields of an inference's spec: blocks are merged, lists and values replaced, null removes."""
    strangers = sorted({*body.spec} - CHANGEABLE)
    if strangers:
        raise RequestError(
            "spec",
            f"{', '.join(strangers)[:200]} cannot be changed by an update",
            f"change {', '.join(sorted(CHANGEABLE))}",
        )

    def changed(top: Object) -> str:
        native = document_of(top, who.backend.profile)
        return json.dumps({**native, "spec": _merged(native["spec"], body.spec)})

    made = who.backend.update(who.caller, workloadId, changed)
    return JSONResponse(_inference(who.backend, made.tops[0], "Updating"), 202)


@router.delete(
    "/api/v1/workloads/inferences/{workloadId}",
    status_code=202,
    responses={202: {"model": shapes.Accepted}, **_WRITE},
)
def delete_inference(who: Who, workloadId: str) -> JSONResponse:  # noqa: N803 - as above
    """Delete an inference; its data stays."""
    who.backend.delete_by_id(who.caller, workloadId)
    return JSONResponse({"code": 202, "message": "Request has been accepted."}, 202)


def document_of(top: Object, profile: Profile) -> dict[str, Any]:
    """Return a live workload as a native document: the spec that is kept on it, or what can be read off it."""
    native: dict[str, Any] = load(top, profile).reading.native
    return native


def _merged(base: Any, patch: Any) -> Any:
    """Return ``base`` with a patch merged in (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    made = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = _merged(made.get(name), value)
    return made


def _inference(backend: Backend, top: Object, phase: Phase) -> dict[str, Any]:
    profile, metadata = backend.profile, top["metadata"]
    spec, _ = rest.write(document_of(top, profile), profile)
    project = _project(metadata.get("labels") or {}, metadata["namespace"])
    stopped = at(metadata, "annotations", keys.STOP) == "true"
    return {
        "name": metadata["name"],
        "requestedName": metadata["name"],
        "workloadId": metadata["uid"],
        "projectId": project_id(profile, project),
        "departmentId": department(profile)[0],
        "clusterId": cluster_id(profile),
        "createdBy": at(metadata, "annotations", f"{keys.KNATIVE_PREFIX}creator", default=""),
        "createdAt": iso(reading.seconds(metadata.get("creationTimestamp"))),
        "updatedAt": iso(reading.seconds(metadata.get("creationTimestamp"))),
        "deletedAt": None,
        "desiredPhase": "Deleted" if "deletionTimestamp" in metadata else "Stopped" if stopped else "Running",
        "actualPhase": phase,
        "spec": spec["spec"],
    }


# Workloads.


class Row(NamedTuple):
    """One workload of the list, before it is written out."""

    status: Status
    project: str
    born: float


def _rows(who: Asked) -> Read[list[Row]]:
    found = who.backend.workloads(who.caller)
    now = who.backend.clock.now()
    return Read([Row(row, row.project or row.namespace, now - row.age) for row in found.value], found.age)


def _fields(profile: Profile) -> dict[str, Callable[[Row], Any]]:
    ours = cluster_id(profile)
    return {
        "type": lambda row: TYPE,  # noqa: ARG005 - all are inferences
        "name": lambda row: row.status.name,
        "clusterId": lambda row: ours,  # noqa: ARG005 - all are on this one
        "projectId": lambda row: project_id(profile, row.project),
        "projectName": lambda row: row.project,
        "createdAt": lambda row: datetime.fromtimestamp(row.born, UTC),
        "phase": lambda row: row.status.phase,
    }


def _wanted(who: Asked, filters: str, search: str, *, deleted: bool) -> Read[list[Row]]:
    found = _rows(who)
    rows = [] if deleted else matching(found.value, filters, _fields(who.backend.profile), UNKNOWN)
    if search:
        text = search.lower()
        rows = [
            row
            for row in rows
            if any(text in part.lower() for part in (row.status.name, row.project, row.status.phase))
        ]
    return Read(rows, found.age)


@router.get("/api/v1/workloads", responses={200: {"model": shapes.Workloads}, **_READ_ALL})
def list_workloads(
    who: Who,
    deleted: Deleted = False,
    offset: Offset = 0,
    limit: Limit = 50,
    sort_order: Order = "asc",
    sort_by: By = "",
    filters: Filters = "",
    search: Search = "",
) -> JSONResponse:
    """Return the workloads that the caller may see, page by page."""
    found = _wanted(who, filters, search, deleted=deleted)
    rows = ordered(found.value, sort_by, sort_order, _fields(who.backend.profile), UNKNOWN)
    shown, following = page(rows, offset, limit)
    body: dict[str, Any] = {"workloads": [_workload(who, row) for row in shown]}
    if following is not None:
        body["next"] = following
    return _aged(body, found)


@router.get("/api/v1/workloads/count", responses={200: {"model": shapes.Count}, **_READ_ALL})
def count_workloads(who: Who, deleted: Deleted = False, filters: Filters = "", search: Search = "") -> JSONResponse:
    """Count the workloads that the caller may see."""
    found = _wanted(who, filters, search, deleted=deleted)
    return _aged({"count": len(found.value)}, found)


@router.get("/api/v1/workloads/pods", responses={200: {"model": shapes.Pods}, **_READ_ALL})
def list_pods(
    who: Who,
    deleted: Deleted = False,
    offset: Offset = 0,
    limit: Limit = 50,
    filters: Filters = "",
    search: Search = "",
) -> JSONResponse:
    """Return the pods of all workloads that the caller may see."""
    found = who.backend.workloads(who.caller)
    pods: list[dict[str, Any]] = []
    for row in found.value if not deleted else ():
        if row.pods:
            # One that went since the list was made has none.
            with suppress(MissingError):
                pods += _pods(who, who.backend.by_id(who.caller, who.backend.id_of(row)).value)
    pods = matching(
        pods, filters, POD_FIELDS, {"currentNodepool": "pools are not told by pod", "completedAt": "", "deletedAt": ""}
    )
    shown, following = page([pod for pod in pods if search.lower() in pod["name"].lower()], offset, limit)
    return _aged({"pods": [*shown], **({} if following is None else {"next": following})}, found)


@router.get("/api/v1/workloads/{workloadId}", responses={200: {"model": shapes.Workload}, **_READ})
def get_workload(who: Who, workloadId: str) -> JSONResponse:  # noqa: N803 - as above
    """Return one workload as the list has it."""
    found = who.backend.status_by_id(who.caller, workloadId)
    now = found.value
    return _aged(_workload(who, Row(now, now.project or now.namespace, who.backend.clock.now() - now.age)), found)


def _workload(who: Asked, row: Row) -> dict[str, Any]:
    profile, found = who.backend.profile, row.status
    born = iso(row.born)
    replicas = found.replicas
    department_id, department_name = department(profile)
    return {
        "tenantId": TENANT,
        "id": who.backend.id_of(found),
        "type": TYPE,
        "name": found.name,
        "namespace": found.namespace,
        "clusterId": cluster_id(profile),
        "projectName": row.project,
        "projectId": project_id(profile, row.project),
        "departmentName": department_name,
        "departmentId": department_id,
        "createdAt": born,
        "updatedAt": born,
        "phaseUpdatedAt": born,
        "k8sPhaseUpdatedAt": born,
        "deletedAt": None,
        "completedAt": None,
        "source": "Other",
        "priority": None,
        "priorityClassName": "",
        "category": "",
        "submittedBy": "",
        "phase": found.phase,
        "phaseMessage": found.why,
        "k8sPhase": found.phase,
        "conditions": [
            {
                "type": row.name,
                "status": {True: "True", False: "False", None: "Unknown"}[row.holds],
                "message": row.words,
            }
            for row in found.conditions
        ],
        "runningPods": replicas.ready,
        "requestedPods": {
            "number": replicas.wanted,
            "min": replicas.minimum,
            **({"max": replicas.maximum} if replicas.maximum else {}),
        },
        "urls": [found.url] if found.url else [],
        "externalConnections": [
            {"name": "serving", "toolType": "serving-endpoint", "connectionType": "ServingPort", "url": found.url}
        ]
        if found.url
        else [],
        "actionsSupport": {"delete": True, "suspend": found.kind == "InferenceService"},
    }


# Pods and revisions.

POD_FIELDS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "clusterId": lambda pod: pod["clusterId"],
    "workloadId": lambda pod: pod["workloadId"],
    "revisionId": lambda pod: pod["revisionId"],
    "nodeName": lambda pod: pod["nodeName"],
    "createdAt": lambda pod: moment("createdAt", pod["createdAt"]),
}


@router.get("/api/v1/workloads/{workloadId}/pods", responses={200: {"model": shapes.Pods}, **_READ})
def get_workload_pods(
    who: Who,
    workloadId: str,  # noqa: N803 - as above
    deleted: Deleted = False,
    offset: Offset = 0,
    limit: Limit = 50,
    search: Search = "",
) -> JSONResponse:
    """Return the pods of one workload."""
    found = who.backend.by_id(who.caller, workloadId)
    pods = [] if deleted else [pod for pod in _pods(who, found.value) if search.lower() in pod["name"].lower()]
    shown, following = page(pods, offset, limit)
    return _aged({"pods": [*shown], **({} if following is None else {"next": following})}, found)


def _pods(who: Asked, live: Live) -> list[dict[str, Any]]:
    profile = who.backend.profile
    revisions = {item["metadata"]["name"]: item["metadata"].get("uid", "") for item in live.revisions}
    project = _project(live.top["metadata"].get("labels") or {}, live.namespace)
    found = []
    for pod in live.pods:
        metadata, labels = pod["metadata"], pod["metadata"].get("labels") or {}
        born = iso(reading.seconds(metadata.get("creationTimestamp")))
        ready_at = reading.seconds(of_pod.condition(pod, "Ready").get("lastTransitionTime"))
        found.append(
            {
                "id": metadata["uid"],
                "name": metadata["name"],
                "workloadId": live.top["metadata"]["uid"],
                "workloadName": live.name,
                "revisionId": revisions.get(labels.get(keys.KNATIVE_REVISION, ""), ""),
                "clusterId": cluster_id(profile),
                "projectId": project_id(profile, project),
                "projectName": project,
                "tenantId": TENANT,
                "nodeName": at(pod, "spec", "nodeName", default=""),
                "priorityClassName": at(pod, "spec", "priorityClassName", default=""),
                "createdAt": born,
                "updatedAt": iso(ready_at) if ready_at else born,
                "k8sPhase": at(pod, "status", "phase", default="Unknown"),
                "k8sPhaseUpdatedAt": iso(ready_at) if ready_at else born,
                "containers": [
                    {"name": str(row.get("name", "")), "image": str(row.get("image", ""))}
                    for row in at(pod, "spec", "containers", default=[])
                ],
                "ip": at(pod, "status", "podIP", default=""),
            }
        )
    return found


@router.get("/api/v1/workloads/inferences/revisions/{revisionId}", responses={200: {"model": shapes.Revision}, **_READ})
def get_revision(who: Who, revisionId: str) -> JSONResponse:  # noqa: N803 - as above
    """Return one revision of any inference."""
    owner = who.backend.of_revision(who.caller, revisionId)
    for row in _revisions(who, owner.value):
        if row["id"] == revisionId:
            return _aged(row, owner)
    raise MissingError(f"there is no revision with id {revisionId}")


@router.get(
    "/api/v1/workloads/inferences/{workloadId}/revisions", responses={200: {"model": shapes.Revisions}, **_READ}
)
def list_revisions(who: Who, workloadId: str, deleted: Deleted = False) -> JSONResponse:  # noqa: N803 - as above
    """Return the revisions of an inference, newest first."""
    found = who.backend.by_id(who.caller, workloadId)
    return _aged({"revisions": [] if deleted else _revisions(who, found.value)}, found)


@router.get(
    "/api/v1/workloads/inferences/{workloadId}/revisions/count", responses={200: {"model": shapes.Count}, **_READ}
)
def count_revisions(who: Who, workloadId: str, deleted: Deleted = False) -> JSONResponse:  # noqa: N803 - as above
    """Count the revisions of an inference."""
    found = who.backend.by_id(who.caller, workloadId)
    return _aged({"count": 0 if deleted else len(found.value.revisions)}, found)


def _revisions(who: Asked, live: Live) -> list[dict[str, Any]]:
    profile = who.backend.profile
    project = _project(live.top["metadata"].get("labels") or {}, live.namespace)
    rows = {row.name: row for row in status_of(live).revisions}
    found = []
    for item in reversed(live.revisions):
        metadata = item["metadata"]
        row = rows[metadata["name"]]
        ready = of_pod.condition(item, "Ready").get("status")
        phase = "Running" if ready == "True" else "Failed" if ready == "False" else "Initializing"
        found.append(
            {
                "id": metadata.get("uid", ""),
                "name": row.name,
                "type": TYPE,
                "workloadId": live.top["metadata"]["uid"],
                "tenantId": TENANT,
                "clusterId": cluster_id(profile),
                "projectId": project_id(profile, project),
                "departmentId": department(profile)[0],
                "createdAt": iso(reading.seconds(metadata.get("creationTimestamp"))),
                "deletedAt": None,
                "phase": phase,
                "phaseMessage": row.words,
                "runningPods": row.ready,
                "requestedPods": {"number": row.wanted},
                "images": [str(part.get("image", "")) for part in at(item, "spec", "containers", default=[])],
                "additionalFields": {"trafficPercent": row.percent},
            }
        )
    return found


# Metrics.

Types = Annotated[str, Query(alias="metricType", max_length=500, description=f"One or more of {', '.join(METRICS)}.")]
Start = Annotated[str, Query(max_length=60, description="The first moment, in ISO 8601.")]
End = Annotated[str, Query(max_length=60, description="The last moment, in ISO 8601.")]
Samples = Annotated[int, Query(alias="numberOfSamples", ge=0, le=SAMPLES, description="How many points.")]
_MEASURED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": shapes.Measurements},
    207: {"model": shapes.Measurements, "description": "Some of the metrics are counted by nobody here."},
    **_READ,
}


@router.get("/api/v1/workloads/inferences/{workloadId}/metrics", responses=_MEASURED)
def get_inference_metrics(
    who: Who,
    workloadId: str,  # noqa: N803 - as above
    types: Types,
    start: Start,
    end: End,
    samples: Samples = 20,
) -> JSONResponse:
    """Return series of an inference over time: throughput in requests/s, latencies in ms, replicas."""
    return _measured(who, workloadId, types, start, end, samples)


@router.get("/api/v1/workloads/{workloadId}/metrics", responses=_MEASURED)
def get_workload_metrics(
    who: Who,
    workloadId: str,  # noqa: N803 - as above
    types: Types,
    start: Start,
    end: End,
    samples: Samples = 20,
) -> JSONResponse:
    """Return series of a workload over time; those that nobody counts are empty, and the answer says 207."""
    return _measured(who, workloadId, types, start, end, samples)


def _measured(who: Asked, uid: str, types: str, start: str, end: str, samples: int) -> JSONResponse:
    found = who.backend.by_id(who.caller, uid)
    wanted = [name for name in types.split(",") if name]
    strangers = [name for name in wanted if name not in METRICS and name not in UNCOUNTED]
    if strangers or not wanted:
        raise RequestError(
            "metricType",
            f"there is no metric {', '.join(strangers)[:200] or '(none is named)'}",
            f"use {', '.join(METRICS)}",
        )
    first, last = moment("start", start).timestamp(), moment("end", end).timestamp()
    if not first < last:
        raise RequestError("end", "it is not after start", "swap them")
    step = max((last - first) / max(samples - 1, 1), 1.0)
    history = who.backend.history(who.caller, Ref(found.value.namespace, found.value.name), first, last, step)
    measurements, partly = [], False
    for name in wanted:
        series, factor = METRICS.get(name, ("", 1.0))
        points = history.series.get(series)
        partly = partly or points is None
        values = [
            {"value": f"{point.value * factor:.6g}", "timestamp": iso(point.time)}
            for point in points or ()
            if point.value is not None
        ]
        measurements.append({"type": name, "labels": {}, "values": values})
    return _aged({"measurements": measurements}, found, 207 if partly else 200)


# Projects and clusters.


def _org_unit(backend: Backend, row: ProjectRow) -> dict[str, Any]:
    profile = backend.profile
    born = iso(0)
    department_id, department_name = department(profile)
    known = profile.spec.projects.known.get(row.name)
    return {
        "id": project_id(profile, row.name),
        "name": row.name,
        "clusterId": cluster_id(profile),
        "parentId": department_id,
        "parent": {"id": department_id, "name": department_name},
        "requestedNamespace": row.namespace,
        "description": "",
        "enforceRunaiScheduler": False,
        "createdAt": born,
        "updatedAt": born,
        "status": {"namespace": row.namespace, "phase": "Ready"},
        "totalResources": {"gpuQuota": known.gpus if known is not None else None},
        "effective": {},
        "resources": [],
    }


PROJECT_FIELDS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "name": lambda row: row["name"],
    "clusterId": lambda row: row["clusterId"],
    "departmentId": lambda row: row["parentId"],
    "parentId": lambda row: row["parentId"],
    "parentName": lambda row: row["parent"]["name"],
    "phase": lambda row: row["status"]["phase"],
}
_PROJECTS_UNKNOWN: Final = dict.fromkeys(
    ("totalGpuQuota", "gpuAllocated", "createdAt"), "only Run:ai's control plane keeps this"
)


def _org_units(who: Asked, filters: str, search: str) -> Read[list[dict[str, Any]]]:
    found = who.backend.projects(who.caller)
    rows = matching([_org_unit(who.backend, row) for row in found.value], filters, PROJECT_FIELDS, _PROJECTS_UNKNOWN)
    return Read([row for row in rows if search.lower() in row["name"].lower()], found.age)


@router.get("/api/v1/org-unit/projects", responses={200: {"model": shapes.OrgUnits}, **_READ_ALL})
def list_projects(
    who: Who,
    filters: Filters = "",
    sort_by: By = "",
    sort_order: Order = "asc",
    offset: Offset = 0,
    limit: Limit = 50,
    search: Search = "",
) -> JSONResponse:
    """Return the projects that the caller may see."""
    found = _org_units(who, filters, search)
    rows = ordered(found.value, sort_by, sort_order, PROJECT_FIELDS, _PROJECTS_UNKNOWN)
    shown, following = page(rows, offset, limit)
    return _aged({"projects": [*shown], **({} if following is None else {"next": following})}, found)


@router.get("/api/v1/org-unit/projects/count", responses={200: {"model": shapes.Count}, **_READ_ALL})
def count_projects(who: Who, filters: Filters = "", search: Search = "") -> JSONResponse:
    """Count the projects that the caller may see."""
    found = _org_units(who, filters, search)
    return _aged({"count": len(found.value)}, found)


@router.get("/api/v1/org-unit/projects/{projectId}", responses={200: {"model": shapes.OrgUnit}, **_READ})
def get_project(who: Who, projectId: str) -> JSONResponse:  # noqa: N803 - as above
    """Return one project."""
    found = _org_units(who, "", "")
    for row in found.value:
        if row["id"] == projectId:
            return _aged(row, found)
    raise MissingError(f"there is no project with id {projectId}")


def _cluster(backend: Backend) -> dict[str, Any]:
    profile = backend.profile
    age = backend.age()
    heard = iso(backend.clock.now() - age)
    return {
        "uuid": cluster_id(profile),
        "tenantId": TENANT,
        "name": profile.metadata.name,
        "createdAt": iso(0),
        "domain": profile.spec.domain,
        "version": API_LEVEL,
        "status": {"state": "Connected" if not age else "Disconnected"},
        "updatedAt": heard,
        "deletedAt": None,
        "lastLiveness": heard,
        "deleteRequestedAt": None,
    }


@router.get("/api/v1/clusters", responses={200: {"model": list[shapes.Cluster]}, **_READ_ALL})
def list_clusters(who: Who) -> JSONResponse:
    """Return the one cluster that this server is for."""
    return JSONResponse([_cluster(who.backend)])


@router.get("/api/v1/clusters/{clusterUuid}", responses={200: {"model": shapes.Cluster}, **_READ})
def get_cluster(who: Who, clusterUuid: str) -> JSONResponse:  # noqa: N803 - as above
    """Return this cluster."""
    if clusterUuid.lower() != cluster_id(who.backend.profile).lower():
        raise MissingError(f"there is no cluster {clusterUuid} here")
    return JSONResponse(_cluster(who.backend))


def _aged(body: Any, read: Read[Any], status: int = 200) -> JSONResponse:
    return JSONResponse(body, status, {AGE: f"{read.age:.1f}"})
