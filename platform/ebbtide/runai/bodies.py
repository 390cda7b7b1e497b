"""Response bodies of Run:ai's paths, derived from the cluster's objects, and the ids in them.

Upstream: runai-professional-services/runapy .generator/swagger.json (1.224). Fields whose values only Run:ai's control
plane has are empty or null.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.phases import Phase
from ebbtide.cluster.read.status import Status
from ebbtide.core.base import keys, quantities
from ebbtide.core.base.bodies import DerivedBody, WrittenBy, body, derive_attribute
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.models import Profile, Project
from ebbtide.core.readers import rest
from ebbtide.core.translation.objects import Object

IDS: Final = uuid.UUID("4f6d1c1e-6a0b-5f6e-9d5c-6b2b8f0f1f0a")
#: Run:ai's tenant id: Ebbtide has a single tenant, and clients require a number.
TENANT: Final = 1
TYPE: Final = "Inference"
MEGABYTE: Final = 10**6
#: The Run:ai version of this API; clients read it from the cluster before they send newer fields.
API_LEVEL: Final = "2.24"


@cache
def _uuid_of(text: str) -> str:
    return str(uuid.uuid5(IDS, text))


def cluster_id(profile: Profile) -> str:
    """Return the cluster's id: the profile's, or else a stable UUID derived from the profile's name."""
    return profile.spec.cluster_id or _uuid_of(f"cluster/{profile.metadata.name}")


def find_department(profile: Profile) -> tuple[str, str]:
    """Return the id and name of the profile's single department."""
    name = profile.spec.projects.department or "default"
    return _uuid_of(f"department/{profile.metadata.name}/{name}"), name


def project_id(profile: Profile, name: str) -> str:
    """Return a project's id: the profile's, or else the project's name."""
    known = profile.spec.projects.known.get(name)
    return (known.id if known is not None else None) or name


def _workload_project(top: Object) -> str:
    """Return the project of a workload: its label, or else its namespace."""
    labels: Mapping[str, str] = top["metadata"].get("labels") or {}
    return labels.get(keys.PROJECT) or top["metadata"]["namespace"]


def _format_iso_time(seconds: float) -> Annotated[str, Field(json_schema_extra={"format": "date-time"})]:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _creation_time(obj: Object) -> float:
    return inventory.parse_timestamp(obj["metadata"].get("creationTimestamp"))


#: Seconds since 1970, written in ISO 8601 as in Run:ai's API.
Time: TypeAlias = Annotated[float, WrittenBy(_format_iso_time)]


@body(optional="details")
class Error:
    """An error in Run:ai's format; ``details`` has the codes of spec problems and their fixes."""

    code: Annotated[int, Field(ge=100, le=599)]
    message: str
    details: str | None = None


@body()
class TokenResponse:
    """An access token and the seconds until it expires; ``idToken`` and ``refreshToken`` are empty."""

    access_token: str
    id_token: str
    refresh_token: str
    expires_in: int


@body()
class Accepted:
    """The acknowledgment of an accepted request."""

    code: int
    message: str


@body()
class Count:
    """The number of items."""

    count: int


# Inferences.


def _desired_phase(top: Object) -> str:
    if "deletionTimestamp" in top["metadata"]:
        return "Deleted"
    return "Stopped" if get_at(top, "metadata", "annotations", keys.STOP) == "true" else "Running"


class Inference(DerivedBody):
    """An inference: its identity, desired and actual phase, and Run:ai's spec."""

    name: str = derive_attribute(lambda view: view.top["metadata"]["name"])
    requested_name: str = name
    workload_id: str = derive_attribute(lambda view: view.top["metadata"]["uid"])
    project_id: str = derive_attribute(lambda view: project_id(view.profile, _workload_project(view.top)))
    department_id: str = derive_attribute(lambda view: find_department(view.profile)[0])
    cluster_id: str = derive_attribute(lambda view: cluster_id(view.profile))
    created_by: str = derive_attribute(
        lambda view: get_at(view.top, "metadata", "annotations", f"{keys.KNATIVE_PREFIX}creator", default="")
    )
    created_at: Time = derive_attribute(lambda view: _creation_time(view.top))
    updated_at: Time = created_at
    deleted_at: Time | None = None
    desired_phase: Literal["Running", "Stopped", "Deleted"] = derive_attribute(lambda view: _desired_phase(view.top))
    actual_phase: Phase = derive_attribute(lambda view: view.phase)
    spec: dict[str, Any] = derive_attribute(lambda view: rest.write_body(view.native, view.profile)[0]["spec"])


# Workloads.


def _make_condition_rows(status: Status) -> list[dict[str, str]]:
    texts = {True: "True", False: "False", None: "Unknown"}
    return [{"type": row.name, "status": texts[row.holds], "message": row.words} for row in status.conditions]


def _requested_pods(status: Status) -> dict[str, int]:
    count = status.replicas
    return {"number": count.wanted, "min": count.minimum, **({"max": count.maximum} if count.maximum else {})}


def _make_connections(status: Status) -> list[dict[str, str]]:
    if not status.url:
        return []
    return [{"name": "serving", "toolType": "serving-endpoint", "connectionType": "ServingPort", "url": status.url}]


class Workload(DerivedBody):
    """A workload of type Inference: its identity, phase, conditions, pods and URLs."""

    tenant_id: int = TENANT
    id: str = derive_attribute(lambda row: row.backend.reads.workload_id_of(row.status))
    type: str = TYPE
    name: str = derive_attribute(lambda row: row.status.name)
    namespace: str = derive_attribute(lambda row: row.status.namespace)
    cluster_id: str = derive_attribute(lambda row: cluster_id(row.backend.profile))
    project_name: str = derive_attribute(lambda row: row.status.project or row.status.namespace)
    project_id: str = derive_attribute(lambda row: project_id(row.backend.profile, row.project_name))
    department_name: str = derive_attribute(lambda row: find_department(row.backend.profile)[1])
    department_id: str = derive_attribute(lambda row: find_department(row.backend.profile)[0])
    created_at: Time = derive_attribute(lambda row: row.now - row.status.age_seconds)
    updated_at: Time = created_at
    phase_updated_at: Time = created_at
    k8s_phase_updated_at: Time = created_at
    deleted_at: Time | None = None
    completed_at: Time | None = None
    source: str = "Other"
    priority: int | None = None
    priority_class_name: str = ""
    category: str = ""
    submitted_by: str = ""
    phase: Phase = derive_attribute(lambda row: row.status.phase)
    phase_message: str = derive_attribute(lambda row: row.status.why)
    k8s_phase: Phase = phase
    conditions: list[dict[str, str]] = derive_attribute(lambda row: _make_condition_rows(row.status))
    running_pods: int = derive_attribute(lambda row: row.status.replicas.ready)
    requested_pods: dict[str, int] = derive_attribute(lambda row: _requested_pods(row.status))
    urls: list[str] = derive_attribute(lambda row: [row.status.url] if row.status.url else [])
    external_connections: list[dict[str, str]] = derive_attribute(lambda row: _make_connections(row.status))
    actions_support: dict[str, bool] = derive_attribute(
        lambda row: {"delete": True, "suspend": row.status.kind == "InferenceService"}
    )


@body(optional="next")
class Workloads:
    """One page of workloads; ``next`` is the offset of the next page, absent on the last one."""

    workloads: list[Workload]
    next: int | None = None


# Pods and revisions.


class Pod(DerivedBody):
    """A pod of a workload: its node, phase, containers and revision."""

    id: str = derive_attribute(lambda view: view.pod["metadata"]["uid"])
    name: str = derive_attribute(lambda view: view.pod["metadata"]["name"])
    workload_id: str = derive_attribute(lambda view: view.live.top["metadata"]["uid"])
    workload_name: str = derive_attribute(lambda view: view.live.name)
    revision_id: str = derive_attribute(lambda view: view.revision)
    cluster_id: str = derive_attribute(lambda view: cluster_id(view.profile))
    project_id: str = derive_attribute(lambda view: project_id(view.profile, _workload_project(view.live.top)))
    project_name: str = derive_attribute(lambda view: _workload_project(view.live.top))
    tenant_id: int = TENANT
    node_name: str = derive_attribute(lambda view: get_at(view.pod, "spec", "nodeName", default=""))
    priority_class_name: str = derive_attribute(lambda view: get_at(view.pod, "spec", "priorityClassName", default=""))
    created_at: Time = derive_attribute(lambda view: _creation_time(view.pod))
    updated_at: Time = derive_attribute(
        lambda view: (
            inventory.parse_timestamp(of_pod.find_condition(view.pod, "Ready").get("lastTransitionTime"))
            or _creation_time(view.pod)
        )
    )
    k8s_phase: str = derive_attribute(lambda view: get_at(view.pod, "status", "phase", default="Unknown"))
    k8s_phase_updated_at: Time = updated_at
    containers: list[dict[str, str]] = derive_attribute(
        lambda view: [
            {"name": str(row.get("name", "")), "image": str(row.get("image", ""))}
            for row in get_at(view.pod, "spec", "containers", default=[])
        ]
    )
    ip: str = derive_attribute(lambda view: get_at(view.pod, "status", "podIP", default=""))


@body(optional="next")
class Pods:
    """One page of pods; ``next`` is the offset of the next page, absent on the last one."""

    pods: list[Pod]
    next: int | None = None


def _revision_phase(revision: Object) -> Phase:
    ready = of_pod.find_condition(revision, "Ready").get("status")
    return "Running" if ready == "True" else "Failed" if ready == "False" else "Initializing"


class Revision(DerivedBody):
    """A revision of an inference: its phase, pods, images and share of the traffic in percent."""

    id: str = derive_attribute(lambda view: view.item["metadata"].get("uid", ""))
    name: str = derive_attribute(lambda view: view.row.name)
    type: str = TYPE
    workload_id: str = derive_attribute(lambda view: view.live.top["metadata"]["uid"])
    tenant_id: int = TENANT
    cluster_id: str = derive_attribute(lambda view: cluster_id(view.profile))
    project_id: str = derive_attribute(lambda view: project_id(view.profile, _workload_project(view.live.top)))
    department_id: str = derive_attribute(lambda view: find_department(view.profile)[0])
    created_at: Time = derive_attribute(lambda view: _creation_time(view.item))
    deleted_at: Time | None = None
    phase: Phase = derive_attribute(lambda view: _revision_phase(view.item))
    phase_message: str = derive_attribute(lambda view: view.row.words)
    running_pods: int = derive_attribute(lambda view: view.row.ready)
    requested_pods: dict[str, int] = derive_attribute(lambda view: {"number": view.row.wanted})
    images: list[str] = derive_attribute(
        lambda view: [str(part.get("image", "")) for part in get_at(view.item, "spec", "containers", default=[])]
    )
    additional_fields: dict[str, int] = derive_attribute(lambda view: {"trafficPercent": view.row.traffic_percent})


@body()
class Revisions:
    """The revisions of an inference, newest first."""

    revisions: list[Revision]


# Metrics.


@body()
class Value:
    """One sample of a metric: its value as text, and its time."""

    value: str
    timestamp: Time


@body()
class Measurement:
    """The samples of one metric, oldest first."""

    type: str
    labels: dict[str, str]
    values: list[Value]


@body()
class Measurements:
    """The requested metrics with their samples."""

    measurements: list[Measurement]


# Projects and clusters.


def _total_resources(quota: Project | None) -> dict[str, float | None]:
    """Return a project's quota in Run:ai's units: devices, millicores and MB."""
    if quota is None:
        return dict.fromkeys(("gpuQuota", "cpuQuota", "memoryQuota"))
    amount = quantities.parse_whole_quantity(quota.memory or "")
    return {
        "gpuQuota": quota.gpus,
        "cpuQuota": None if quota.cpu is None else quota.cpu * 1000,
        "memoryQuota": None if amount is None else amount / MEGABYTE,
    }


def _resources(quota: Project | None) -> list[dict[str, Any]]:
    """Return the quota as that of one node pool: Ebbtide's is for all together, without a limit if it may be exceeded."""
    if quota is None or quota.gpus is None:
        return []
    limit = {} if quota.over_quota else {"limit": quota.gpus}
    return [{"gpu": {"deserved": quota.gpus, "overQuotaWeight": quota.over_quota_weight, **limit}}]


class OrgUnit(DerivedBody):
    """A project in Run:ai's format: its ID, department, namespace and GPU quota."""

    id: str = derive_attribute(lambda view: project_id(view.profile, view.use.name))
    name: str = derive_attribute(lambda view: view.use.name)
    cluster_id: str = derive_attribute(lambda view: cluster_id(view.profile))
    parent_id: str = derive_attribute(lambda view: find_department(view.profile)[0])
    parent: dict[str, str] = derive_attribute(
        lambda view: dict(zip(("id", "name"), find_department(view.profile), strict=True))
    )
    requested_namespace: str = derive_attribute(lambda view: view.use.namespace)
    description: str = ""
    enforce_runai_scheduler: bool = False
    created_at: Time = 0.0
    updated_at: Time = 0.0
    status: dict[str, str] = derive_attribute(lambda view: {"namespace": view.use.namespace, "phase": "Ready"})
    total_resources: dict[str, float | None] = derive_attribute(
        lambda view: _total_resources(view.profile.spec.projects.known.get(view.use.name))
    )
    effective: dict[str, Any] = derive_attribute(lambda _: {})
    resources: list[dict[str, Any]] = derive_attribute(
        lambda view: _resources(view.profile.spec.projects.known.get(view.use.name))
    )


@body(optional="next")
class OrgUnits:
    """One page of projects; ``next`` is the offset of the next page, absent on the last one."""

    projects: list[OrgUnit]
    next: int | None = None


class NodePool(DerivedBody):
    """A node pool of the profile; Run:ai's has one label, so only the first of the selector is shown."""

    name: str = derive_attribute(lambda view: view.pool.name)
    id: str = name
    # Every node has this label, if the pool selects none.
    label_key: str = derive_attribute(lambda view: next(iter(view.pool.selector), "kubernetes.io/os"))
    label_value: str = derive_attribute(lambda view: next(iter(view.pool.selector.values()), "linux"))
    cluster_id: str = derive_attribute(lambda view: cluster_id(view.profile))
    cluster_name: str = derive_attribute(lambda view: view.profile.metadata.name)
    tenant_id: int = TENANT
    phase: Literal["Ready"] = "Ready"
    status: dict[str, Any] = derive_attribute(lambda _: {})
    is_default: bool = derive_attribute(lambda view: view.pool is view.profile.spec.node_pools[0])
    created_by: str = ""
    created_at: Time = 0.0
    updated_by: str = ""
    updated_at: Time = 0.0


@body()
class NodePools:
    """The node pools of the cluster."""

    nodepools: list[NodePool]


class Cluster(DerivedBody):
    """The cluster that this server manages, and whether it is connected."""

    uuid: str = derive_attribute(lambda view: cluster_id(view.profile))
    tenant_id: int = TENANT
    name: str = derive_attribute(lambda view: view.profile.metadata.name)
    created_at: Time = 0.0
    domain: str = derive_attribute(lambda view: view.profile.spec.domain)
    version: str = API_LEVEL
    status: dict[str, str] = derive_attribute(lambda view: {"state": "Connected" if view.connected else "Disconnected"})
    updated_at: Time = derive_attribute(lambda view: view.heard)
    deleted_at: Time | None = None
    last_liveness: Time = updated_at
    delete_requested_at: Time | None = None
