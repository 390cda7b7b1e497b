"""Run:ai's public API for inferences, so that its clients, such as NVIDIA's ``runapy``, work unchanged.

Paths, bodies and statuses are those of runapy's .generator/swagger.json (1.224). A workload's id is the UID of its object.
The cluster's id is the profile's, or else a UUID derived from the profile's name. A project's id is the profile's, or else
its name; a create request takes the same id. Fields that the cluster cannot provide are omitted, and a filter on one is
rejected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response

from ebbtide.cluster.client.protocol import MissingError
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.phases import Phase
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.read.status import compute_status as status_of
from ebbtide.cluster.slo.source import Ref
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.documents import load_document
from ebbtide.core.documents.texts import load_data
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.readers.rest import drop_nulls
from ebbtide.core.readers.table import DISTRIBUTED
from ebbtide.core.spec.inference import InferenceSpec
from ebbtide.core.spec.scalars import UPDATABLE
from ebbtide.core.translation.objects import Object, apply_merge_patch
from ebbtide.runai import bodies, requests
from ebbtide.server.api.access import SERVICE_ACCOUNT, UnauthorizedError, read_claims
from ebbtide.server.api.answers import Submitted
from ebbtide.server.api.asked import (
    Context,
    Filters,
    Limit,
    Offset,
    RequestContext,
    Search,
    describe_errors,
    filter_rows,
    parse_moment,
    require_order,
    slice_page,
    sort_rows,
)
from ebbtide.server.api.backend import Backend
from ebbtide.server.api.connection import CachedValue
from ebbtide.server.api.errors import RequestError, error_detail, list_error_problems
from ebbtide.server.api.families import API, PathFamily
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.routing import Router, make_response

router = Router(tags=["Run:ai"])

#: Spec fields that an update may change.
CHANGEABLE: Final = frozenset(
    str(info.alias) for info in InferenceSpec.model_fields.values() if UPDATABLE in info.metadata
)
# fmt: off
#: Filter and sort fields whose values only Run:ai's control plane has.
UNKNOWN: Final = dict.fromkeys(
    (
        "deletedAt", "submittedBy", "completedAt", "nodepool", "idleGpus", "idleAllocatedGpus", "phaseUpdatedAt",
        "category", "priority", "allocatedGPU", "totalPendingTimeSeconds", "totalRunningTimeSeconds",
        "priorityClassName", "guaranteedRuntimeEndsAt", "aiApplicationId", "aiApplicationName", "departmentId",
        "departmentName", "distributedFramework",
    ),
    "only Run:ai's control plane stores this field",
)
#: Run:ai's metrics that Ebbtide does not measure: the response has no values for them.
UNCOUNTED: Final = frozenset(
    {
        "GPU_MEMORY_USAGE_BYTES", "GPU_MEMORY_REQUEST_BYTES", "CPU_USAGE_CORES", "CPU_REQUEST_CORES", "CPU_LIMIT_CORES",
        "CPU_MEMORY_USAGE_BYTES", "CPU_MEMORY_REQUEST_BYTES", "CPU_MEMORY_LIMIT_BYTES", "GPU_ALLOCATION",
        "NVLINK_BANDWIDTH_TOTAL",
    }
)
# fmt: on
#: By Run:ai's metric: the series of a history, and the factor to Run:ai's unit (milliseconds for latencies).
METRICS: Final[Mapping[str, tuple[str, float]]] = {
    "THROUGHPUT": ("rate", 1.0),
    "LATENCY": ("mean", 1000.0),
    # Ebbtide's.
    "LATENCY_P50": ("p50", 1000.0),
    "LATENCY_P95": ("p95", 1000.0),
    "LATENCY_P99": ("p99", 1000.0),
    "CONCURRENCY": ("concurrency", 1.0),
    "FAILURES": ("failures", 1.0),
    "REPLICAS": ("ready", 1.0),
    # Run:ai's metrics of workloads of any type.
    "RUNNING_POD_COUNT": ("ready", 1.0),
    "POD_COUNT": ("wanted", 1.0),
    "GPU_UTILIZATION": ("gpu", 1.0),
}
SAMPLES: Final = 1000

MODEL: Final = bodies.Error
_READ: Final = describe_errors(MODEL, 400, 401, 404, 503)
_READ_ALL: Final = describe_errors(MODEL, 400, 401, 503)
_WRITE: Final = describe_errors(MODEL, 400, 401, 403, 404, 409, 413, 502, 503)
Deleted = Annotated[
    bool, Query(description="Return only deleted items. Ebbtide keeps no deleted items, so the result is empty.")
]
WorkloadId = Annotated[
    str, Path(description="UID of the workload's Knative Service, InferenceService or LLMInferenceService.")
]
RevisionId = Annotated[str, Path(description="UID of the Knative Revision.")]
ProjectId = Annotated[str, Path(description="ID of the project: the profile's, or else the project's name.")]
ClusterUuid = Annotated[str, Path(description="ID of the cluster: the profile's, or else derived from its name.")]
By = Annotated[str, Query(alias="sortBy", max_length=60, description="The field to sort by.")]
Order = Annotated[str, Query(alias="sortOrder", max_length=10, description="Sort order: asc or desc.")]


# Token.


@router.post("/api/v1/token", summary="Create Token", responses=describe_errors(MODEL, 400, 401, 413, 503))
def token(request: Request, body: requests.TokenRequest) -> bodies.TokenResponse:
    """Exchange a service account (``namespace/name``, or its full user name) and its token for an access token.

    The access token is the service account's token itself, reviewed by the cluster; the server creates and stores none.
    """
    backend: Backend = request.app.state.backend
    if not body.client_id or not body.client_secret:
        raise RequestError("clientId", "clientId and clientSecret are required", "send a service account and its token")
    caller = backend.logins.caller_of(body.client_secret)
    account = body.client_id.removeprefix(SERVICE_ACCOUNT).replace("/", ":")
    if caller.name.removeprefix(SERVICE_ACCOUNT) != account:
        raise UnauthorizedError
    expires = read_claims(body.client_secret).get("exp")
    seconds_left = int(expires - backend.clock.now()) if isinstance(expires, (int, float)) else 0
    return bodies.TokenResponse(body.client_secret, "", "", max(0, seconds_left))


# Inferences.


@router.post("/api/v1/workloads/inferences", status_code=202, responses=_WRITE)
def create_inference(context: Context, body: requests.InferenceRequest) -> bodies.Inference:
    """Create an inference. Returns 409 if the name exists."""
    profile = context.backend.profile
    if body.cluster_id != bodies.cluster_id(profile):
        raise RequestError(
            "clusterId",
            "clusterId does not match this server's cluster",
            f"send {bodies.cluster_id(profile)}, or use the server of the other cluster",
        )
    document = load_data(body.model_dump(by_alias=True, exclude_none=True), profile)
    return _make_inference(
        context.backend, context.backend.writes.submit(context.caller, [document], create=True), "Creating"
    )


@router.post("/api/v1/workloads/distributed-inferences", status_code=202, responses=_WRITE)
def create_distributed_inference(_: Context) -> bodies.Accepted:
    """Refuse a distributed inference, with the reason: Ebbtide does not serve a leader with workers."""
    code, message, fix = DISTRIBUTED
    raise InputError([Problem(code, ("spec",), message, fix)])


@router.get("/api/v1/workloads/inferences/{workloadId}", responses=_READ)
def get_inference(context: Context, workloadId: WorkloadId) -> CachedValue[bodies.Inference]:  # noqa: N803 - Run:ai's name
    """Return one inference."""
    live = context.backend.reads.by_id(context.caller, workloadId)
    status = context.backend.reads.status_by_id(context.caller, workloadId).value
    top, profile = live.value.top, context.backend.profile
    return CachedValue(
        bodies.Inference(profile=profile, top=top, native=read_native(top, profile), phase=status.phase), live.age
    )


@router.patch("/api/v1/workloads/inferences/{workloadId}", status_code=202, responses=_WRITE)
def update_inference(context: Context, workloadId: WorkloadId, body: requests.WorkloadUpdate) -> bodies.Inference:  # noqa: N803 - as above
    """Update an inference's spec: objects are merged, lists and values replaced, and null removes a field.

    If half of the fields or more are null, no null of the body counts: NVIDIA's ``from_dict`` writes null for what is not set.
    """
    strangers = sorted({*body.spec} - CHANGEABLE)
    if strangers:
        raise RequestError(
            "spec", f"an update cannot change {', '.join(strangers)[:200]}", f"use only {', '.join(sorted(CHANGEABLE))}"
        )

    nulls = sum(value is None for value in body.spec.values())
    patch = drop_nulls(body.spec) if 2 * nulls >= len(CHANGEABLE) else body.spec

    def changed(top: Object) -> LoadedDocument:
        native = read_native(top, context.backend.profile)
        return load_data({**native, "spec": apply_merge_patch(native["spec"], patch)}, context.backend.profile)

    return _make_inference(
        context.backend, context.backend.writes.update(context.caller, workloadId, changed), "Updating"
    )


@router.delete("/api/v1/workloads/inferences/{workloadId}", status_code=202, responses=_WRITE)
@router.delete("/api/v2/workloads/{workloadId}", status_code=202, responses=_WRITE)
def delete_inference(context: Context, workloadId: WorkloadId) -> bodies.Accepted:  # noqa: N803 - as above
    """Delete an inference. Its persistent volume claims are kept."""
    context.backend.writes.delete_by_id(context.caller, workloadId)
    return bodies.Accepted(202, "Request has been accepted.")


def read_native(top: Object, profile: Profile) -> dict[str, Any]:
    """Return a live workload in native format: the spec stored in its annotation, or one derived from its fields."""
    native: dict[str, Any] = load_document(top, profile).reading.native
    return native


def _make_inference(backend: Backend, submitted: Submitted, phase: Phase) -> bodies.Inference:
    """Return an applied inference: its object, and the spec as it was validated."""
    (loaded,) = submitted.documents
    # The stored form, which later requests read.
    native = {**loaded.reading.native, "spec": json.loads(loaded.canonical)}
    return bodies.Inference(profile=backend.profile, top=submitted.tops[0], native=native, phase=phase)


# Workloads.


WORKLOAD_FIELDS: Final[dict[str, Callable[[bodies.Workload], Any]]] = {
    "type": lambda row: row.type,
    "name": lambda row: row.name,
    "clusterId": lambda row: row.cluster_id,
    "projectId": lambda row: row.project_id,
    "projectName": lambda row: row.project_name,
    "createdAt": lambda row: datetime.fromtimestamp(row.created_at, UTC),
    "phase": lambda row: row.phase,
}


def _select_workloads(
    context: RequestContext, filters: str, search: str, *, deleted: bool
) -> CachedValue[list[bodies.Workload]]:
    statuses = context.backend.reads.workloads(context.caller)
    if deleted:
        return CachedValue([], statuses.age)
    rows = _make_workloads(context, statuses.value)
    rows = filter_rows(rows, filters, WORKLOAD_FIELDS, UNKNOWN)
    if search_text := search.lower():
        rows = [
            row for row in rows if any(search_text in part.lower() for part in (row.name, row.project_name, row.phase))
        ]
    return CachedValue(rows, statuses.age)


def _make_workloads(context: RequestContext, statuses: Sequence[Status]) -> list[bodies.Workload]:
    now = context.backend.clock.now()
    return [bodies.Workload(backend=context.backend, status=status, now=now) for status in statuses]


@router.get("/api/v1/workloads", responses=_READ_ALL)
def list_workloads(
    context: Context,
    deleted: Deleted = False,
    offset: Offset = 0,
    limit: Limit = 50,
    sort_order: Order = "asc",
    sort_by: By = "",
    filters: Filters = "",
    search: Search = "",
) -> CachedValue[bodies.Workloads]:
    """List the workloads that the caller can see, page by page."""
    if not (deleted or filters or search or sort_by):
        # Clients poll this list most, so only the rows of the page are made.
        require_order(sort_order)
        page = context.backend.reads.workload_page(context.caller, offset, limit)
        rows = _make_workloads(context, page.statuses.value)
        return CachedValue(bodies.Workloads(rows, page.next_offset), page.statuses.age)
    selected = _select_workloads(context, filters, search, deleted=deleted)
    rows = sort_rows(selected.value, sort_by, sort_order, WORKLOAD_FIELDS, UNKNOWN)
    page_rows, next_offset = slice_page(rows, offset, limit)
    return CachedValue(bodies.Workloads([*page_rows], next_offset), selected.age)


@router.get("/api/v1/workloads/count", responses=_READ_ALL)
def count_workloads(
    context: Context, deleted: Deleted = False, filters: Filters = "", search: Search = ""
) -> CachedValue[bodies.Count]:
    """Count the workloads that the caller can see."""
    selected = _select_workloads(context, filters, search, deleted=deleted)
    return CachedValue(bodies.Count(len(selected.value)), selected.age)


@router.get("/api/v1/workloads/pods", responses=_READ_ALL)
def list_pods(
    context: Context,
    deleted: Deleted = False,
    offset: Offset = 0,
    limit: Limit = 50,
    filters: Filters = "",
    search: Search = "",
) -> CachedValue[bodies.Pods]:
    """List the pods of all workloads that the caller can see."""
    statuses = context.backend.reads.workloads(context.caller)
    pods: list[bodies.Pod] = []
    for status in statuses.value if not deleted else ():
        if status.pods:
            # A workload that was deleted after the list was read has no pods.
            with suppress(MissingError):
                pods += _make_pod_rows(
                    context,
                    context.backend.reads.by_id(context.caller, context.backend.reads.workload_id_of(status)).value,
                )
    pods = filter_rows(
        pods, filters, POD_FIELDS, {"currentNodepool": "not available for pods", "completedAt": "", "deletedAt": ""}
    )
    return CachedValue(_page_of_pods(pods, search, offset, limit), statuses.age)


def _page_of_pods(pods: list[bodies.Pod], search: str, offset: int, limit: int) -> bodies.Pods:
    page_pods, next_offset = slice_page([pod for pod in pods if search.lower() in pod.name.lower()], offset, limit)
    return bodies.Pods([*page_pods], next_offset)


@router.get("/api/v1/workloads/{workloadId}", responses=_READ)
def get_workload(context: Context, workloadId: WorkloadId) -> CachedValue[bodies.Workload]:  # noqa: N803 - as above
    """Return one workload."""
    status = context.backend.reads.status_by_id(context.caller, workloadId)
    row = bodies.Workload(backend=context.backend, status=status.value, now=context.backend.clock.now())
    return CachedValue(row, status.age)


# Pods and revisions.

POD_FIELDS: Final[dict[str, Callable[[bodies.Pod], Any]]] = {
    "clusterId": lambda pod: pod.cluster_id,
    "workloadId": lambda pod: pod.workload_id,
    "revisionId": lambda pod: pod.revision_id,
    "nodeName": lambda pod: pod.node_name,
    "createdAt": lambda pod: datetime.fromtimestamp(pod.created_at, UTC),
}


@router.get("/api/v1/workloads/{workloadId}/pods", responses=_READ)
def get_workload_pods(
    context: Context,
    workloadId: WorkloadId,  # noqa: N803 - as above
    deleted: Deleted = False,
    offset: Offset = 0,
    limit: Limit = 50,
    search: Search = "",
) -> CachedValue[bodies.Pods]:
    """List the pods of one workload."""
    live = context.backend.reads.by_id(context.caller, workloadId)
    return CachedValue(
        _page_of_pods([] if deleted else _make_pod_rows(context, live.value), search, offset, limit), live.age
    )


def _make_pod_rows(context: RequestContext, live: LiveWorkload) -> list[bodies.Pod]:
    uids = {revision["metadata"]["name"]: revision["metadata"].get("uid", "") for revision in live.revisions}
    names = (get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION, default="") for pod in live.pods)
    return [
        bodies.Pod(profile=context.backend.profile, live=live, pod=pod, revision=uids.get(name, ""))
        for pod, name in zip(live.pods, names, strict=True)
    ]


@router.get("/api/v1/workloads/inferences/revisions/{revisionId}", responses=_READ)
def get_revision(context: Context, revisionId: RevisionId) -> CachedValue[bodies.Revision]:  # noqa: N803 - as above
    """Return one revision of an inference."""
    owner = context.backend.reads.find_by_revision(context.caller, revisionId)
    for row in _make_revision_rows(context, owner.value):
        if row.id == revisionId:
            return CachedValue(row, owner.age)
    raise MissingError(f"revision with ID {revisionId} not found")


@router.get("/api/v1/workloads/inferences/{workloadId}/revisions", responses=_READ)
def list_revisions(context: Context, workloadId: WorkloadId, deleted: Deleted = False) -> CachedValue[bodies.Revisions]:  # noqa: N803 - as above
    """List the revisions of an inference, newest first."""
    live = context.backend.reads.by_id(context.caller, workloadId)
    return CachedValue(bodies.Revisions([] if deleted else _make_revision_rows(context, live.value)), live.age)


@router.get("/api/v1/workloads/inferences/{workloadId}/revisions/count", responses=_READ)
def count_revisions(context: Context, workloadId: WorkloadId, deleted: Deleted = False) -> CachedValue[bodies.Count]:  # noqa: N803 - as above
    """Count the revisions of an inference."""
    live = context.backend.reads.by_id(context.caller, workloadId)
    return CachedValue(bodies.Count(0 if deleted else len(live.value.revisions)), live.age)


def _make_revision_rows(context: RequestContext, live: LiveWorkload) -> list[bodies.Revision]:
    rows = {row.name: row for row in status_of(live).revisions}
    return [
        bodies.Revision(
            profile=context.backend.profile, live=live, item=revision, row=rows[revision["metadata"]["name"]]
        )
        for revision in reversed(live.revisions)
    ]


# Metrics.

Types = Annotated[
    str, Query(alias="metricType", max_length=500, description=f"Comma-separated metrics: {', '.join(METRICS)}.")
]
Start = Annotated[str, Query(max_length=60, description="Start of the time range, in ISO 8601.")]
End = Annotated[str, Query(max_length=60, description="End of the time range, in ISO 8601.")]
Samples = Annotated[
    int, Query(alias="numberOfSamples", ge=0, le=SAMPLES, description="Number of points in the time range.")
]
_MEASURED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": bodies.Measurements},
    207: {
        "model": bodies.Measurements,
        "description": "Ebbtide does not measure some of the metrics; they have no values.",
    },
    **_READ,
}


@router.get("/api/v1/workloads/inferences/{workloadId}/pods/{podId}/metrics", responses=_MEASURED)
def get_inference_pod_metrics(
    context: Context,
    workloadId: WorkloadId,  # noqa: N803 - as above
    podId: Annotated[str, Path(description="UID of the pod.")],  # noqa: N803 - as above
    types: Types,
    start: Start,
    end: End,
    samples: Samples = 20,
) -> Response:
    """Return the metrics of a pod. Requests are measured per workload, so they have no values, and the status is 207."""
    live = context.backend.reads.by_id(context.caller, workloadId).value
    if podId not in {pod["metadata"]["uid"] for pod in live.pods}:
        raise MissingError(f"pod with ID {podId} not found")
    return _read_metrics(context, workloadId, types, start, end, samples, measured={})


@router.get("/api/v1/workloads/inferences/{workloadId}/metrics", responses=_MEASURED)
@router.get("/api/v1/workloads/{workloadId}/metrics", responses=_MEASURED)
def get_workload_metrics(
    context: Context,
    workloadId: WorkloadId,  # noqa: N803 - as above
    types: Types,
    start: Start,
    end: End,
    samples: Samples = 20,
) -> Response:
    """Return time series of a workload: throughput in requests/s, latencies in ms, numbers of replicas.

    If a metric is not measured, it has no values and the status is 207.
    """
    return _read_metrics(context, workloadId, types, start, end, samples)


def _read_metrics(
    context: RequestContext,
    uid: str,
    types: str,
    start: str,
    end: str,
    samples: int,
    measured: Mapping[str, tuple[str, float]] = METRICS,
) -> Response:
    live = context.backend.reads.by_id(context.caller, uid)
    metrics = [name for name in types.split(",") if name]
    unknown = [name for name in metrics if name not in METRICS and name not in UNCOUNTED]
    if unknown or not metrics:
        raise RequestError(
            "metricType",
            f"unknown metrics: {', '.join(unknown)[:200]}" if unknown else "at least one metric is required",
            f"use {', '.join(METRICS)}",
        )
    first, last = parse_moment("start", start).timestamp(), parse_moment("end", end).timestamp()
    if not first < last:
        raise RequestError("end", "end must be after start", "swap start and end")
    step = max((last - first) / max(samples - 1, 1), 1.0)
    history = context.backend.measurements.history(
        context.caller, Ref(live.value.namespace, live.value.name), first, last, step
    )
    measurements, is_partial = [], False
    for name in metrics:
        series, factor = measured.get(name, ("", 1.0))
        points = history.series.get(series)
        is_partial = is_partial or points is None
        values = [
            bodies.Value(f"{point.value * factor:.6g}", point.time) for point in points or () if point.value is not None
        ]
        measurements.append(bodies.Measurement(name, {}, values))
    return make_response(CachedValue(bodies.Measurements(measurements), live.age), 207 if is_partial else 200)


# Projects and clusters.


PROJECT_FIELDS: Final[dict[str, Callable[[bodies.OrgUnit], Any]]] = {
    "name": lambda row: row.name,
    "clusterId": lambda row: row.cluster_id,
    "departmentId": lambda row: row.parent_id,
    "parentId": lambda row: row.parent_id,
    "parentName": lambda row: row.parent["name"],
    "phase": lambda row: row.status["phase"],
}
_PROJECTS_UNKNOWN: Final = dict.fromkeys(
    ("totalGpuQuota", "gpuAllocated", "createdAt"), "only Run:ai's control plane stores this field"
)


def _org_units(context: RequestContext, filters: str, search: str) -> CachedValue[list[bodies.OrgUnit]]:
    projects = context.backend.reads.projects(context.caller)
    units = [bodies.OrgUnit(profile=context.backend.profile, use=row) for row in projects.value]
    rows = filter_rows(units, filters, PROJECT_FIELDS, _PROJECTS_UNKNOWN)
    return CachedValue([row for row in rows if search.lower() in row.name.lower()], projects.age)


@router.get("/api/v1/org-unit/projects", responses=_READ_ALL)
def list_projects(
    context: Context,
    filters: Filters = "",
    sort_by: By = "",
    sort_order: Order = "asc",
    offset: Offset = 0,
    limit: Limit = 50,
    search: Search = "",
) -> CachedValue[bodies.OrgUnits]:
    """List the projects that the caller can see."""
    units = _org_units(context, filters, search)
    rows = sort_rows(units.value, sort_by, sort_order, PROJECT_FIELDS, _PROJECTS_UNKNOWN)
    page_rows, next_offset = slice_page(rows, offset, limit)
    return CachedValue(bodies.OrgUnits([*page_rows], next_offset), units.age)


@router.get("/api/v1/org-unit/projects/count", responses=_READ_ALL)
def count_projects(context: Context, filters: Filters = "", search: Search = "") -> CachedValue[bodies.Count]:
    """Count the projects that the caller can see."""
    units = _org_units(context, filters, search)
    return CachedValue(bodies.Count(len(units.value)), units.age)


@router.get("/api/v1/org-unit/projects/{projectId}", responses=_READ)
def get_project(context: Context, projectId: ProjectId) -> CachedValue[bodies.OrgUnit]:  # noqa: N803 - as above
    """Return one project."""
    units = _org_units(context, "", "")
    for row in units.value:
        if row.id == projectId:
            return CachedValue(row, units.age)
    raise MissingError(f"project with ID {projectId} not found")


POOL_FIELDS: Final[dict[str, Callable[[bodies.NodePool], Any]]] = {
    "name": lambda row: row.name,
    "clusterId": lambda row: row.cluster_id,
    "phase": lambda row: row.phase,
}
_POOLS_UNKNOWN: Final = dict.fromkeys(("createdAt", "updatedAt"), "only Run:ai's control plane stores this field")


def _node_pools(context: RequestContext, filters: str = "") -> list[bodies.NodePool]:
    profile = context.backend.profile
    rows = [bodies.NodePool(profile=profile, pool=pool) for pool in profile.spec.node_pools]
    return filter_rows(rows, filters, POOL_FIELDS, _POOLS_UNKNOWN)


@router.get("/api/v1/node-pools", responses=_READ_ALL)
def list_node_pools(
    context: Context,
    filters: Filters = "",
    sort_by: By = "",
    sort_order: Order = "asc",
    offset: Offset = 0,
    limit: Limit = 50,
) -> bodies.NodePools:
    """List the node pools of the profile."""
    rows = sort_rows(_node_pools(context, filters), sort_by, sort_order, POOL_FIELDS, _POOLS_UNKNOWN)
    return bodies.NodePools([*slice_page(rows, offset, limit)[0]])


@router.get("/api/v1/node-pools/count", responses=_READ_ALL)
def count_node_pools(context: Context, filters: Filters = "") -> bodies.Count:
    """Count the node pools of the profile."""
    return bodies.Count(len(_node_pools(context, filters)))


@router.get("/api/v1/node-pools/{nodepoolId}", responses=_READ)
def get_node_pool(
    context: Context,
    nodepoolId: Annotated[str, Path(description="Name of the node pool.")],  # noqa: N803 - as above
) -> bodies.NodePool:
    """Return one node pool."""
    for row in _node_pools(context):
        if row.id == nodepoolId:
            return row
    raise MissingError(f"node pool with ID {nodepoolId} not found")


def _make_cluster_row(backend: Backend) -> bodies.Cluster:
    age = backend.age()
    return bodies.Cluster(profile=backend.profile, heard=backend.clock.now() - age, connected=not age)


@router.get("/api/v1/clusters", responses=_READ_ALL)
def list_clusters(context: Context) -> list[bodies.Cluster]:
    """List the cluster that this server manages."""
    return [_make_cluster_row(context.backend)]


@router.get("/api/v1/clusters/{clusterUuid}", responses=_READ)
def get_cluster(context: Context, clusterUuid: ClusterUuid) -> bodies.Cluster:  # noqa: N803 - as above
    """Return the cluster that this server manages."""
    if clusterUuid.lower() != bodies.cluster_id(context.backend.profile).lower():
        raise MissingError(f"cluster {clusterUuid} not found on this server")
    return _make_cluster_row(context.backend)


def make_error(error: Exception, status: int, headers: dict[str, str]) -> Response:
    """Return an error in Run:ai's format."""
    # Run:ai's schema has no 422; an invalid request is a 400.
    status = {422: 400}.get(status, status)
    body = MODEL(status, error_detail(error))
    errors = [problem for problem in list_error_problems(error) if problem.severity == "error"]
    if errors:
        fixes = [f"{problem.code} {problem.path}: {problem.fix}" for problem in errors if problem.fix]
        wrong = "; ".join(f"{problem.path}: {problem.message}" for problem in errors)
        body = MODEL(status, wrong, "; ".join(fixes))
    return JSONResponse(serialize_body(body), status, headers)


FAMILY: Final = PathFamily(
    # Errors of unknown paths of the API have Run:ai's format, too.
    prefix=API,
    router=router,
    about="Paths under `/api/v1` are Run:ai's, so that Run:ai's clients work unchanged; their errors are "
    "`{code, message, details}`.",
    tags=({"name": "Run:ai", "description": "Run:ai's API for inferences, workloads, projects and clusters."},),
    error=MODEL,
    make_error=make_error,
    open_paths=("/api/v1/token",),
    shared_paths=("/api/v1/workloads", "/api/v1/workloads/count", "/api/v1/workloads/inferences"),
)
