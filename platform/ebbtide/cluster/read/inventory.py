"""Inventory of a cluster's workloads: objects from a fixed number of list requests, grouped by workload.

Upstream: knative.dev/serving pkg/apis/serving/register.go (labels of a service's objects), kserve
pkg/constants/constants.go; k8s.io/api core/v1 for pods, nodes and events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Cluster, ClusterError, ForbiddenError, Kind, MissingError
from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read import model_caches
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read import queues as of_queue
from ebbtide.core.base import keys, names
from ebbtide.core.base.bodies import body
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation import gpu
from ebbtide.core.translation.objects import Object


@body()
class ResourceHolder:
    """A holder of a resource: the workload or pod, its amount, its priority value, and its queue of KAI, empty without one."""

    name: str
    namespace: str
    amount: float
    priority: int
    queue: str = ""


@dataclass(frozen=True, slots=True)
class ResourceSupply:
    """The total amount of a resource on all nodes, of a device class the amount in use, and its holders."""

    total: float
    holders: tuple[ResourceHolder, ...]

    @property
    def used(self) -> float:
        """The amount in use."""
        return sum(holder.amount for holder in self.holders)


@dataclass(frozen=True, slots=True)
class LiveWorkload:
    """The objects of one workload. ``now`` is the time of the reading, in seconds since 1970, by the reader's clock."""

    #: The Knative Service, InferenceService or LLMInferenceService that the user applied.
    top: Object
    now: float
    #: The Knative Service: the top itself, or the one that KServe created for it; None without Knative.
    service: Object | None = None
    #: By generation, oldest first.
    revisions: tuple[Object, ...] = ()
    scalers: tuple[Object, ...] = ()
    deployments: tuple[Object, ...] = ()
    hpas: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    #: Oldest first.
    events: tuple[Object, ...] = ()
    quotas: tuple[Object, ...] = ()
    #: Resource claims of the pods.
    claims: tuple[Object, ...] = ()
    #: KServe's model caches of the pods.
    model_caches: tuple[Object, ...] = ()
    #: The queues that may hold back the pods.
    queues: of_queue.Queues = of_queue.UNREAD
    #: The GPUs of all nodes by resource or device class; None if no pod waits for a node, or if reading nodes or pods is forbidden.
    supplies: dict[str, ResourceSupply] | None = None
    #: Data of Knative's config-autoscaler; None if it was not read or reading it is forbidden.
    settings: dict[str, str] | None = None

    @property
    def name(self) -> str:
        return str(self.top["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.top["metadata"]["namespace"])


#: Kinds of custom resources from which a controller makes workloads: Ebbtide's, or Run:ai's on a cluster that has it.
RESOURCES: Final = frozenset({kube.INFERENCE.name, "InferenceWorkload"})
#: Problem code of a command that would change a workload of a custom resource.
OWNED: Final = "RES063"
#: The kinds of a workload's objects, and of those that limit it.
GROUPED: Final = (
    kube.KSERVE,
    kube.KNATIVE,
    kube.REVISION,
    kube.POD_AUTOSCALER,
    kube.DEPLOYMENT,
    kube.POD,
    kube.HPA,
    kube.QUOTA,
)
KNATIVE_NAMESPACE: Final = "knative-serving"


def parse_timestamp(text: str | None) -> float:
    """Return an API timestamp in seconds since 1970; 0 if it is missing or invalid."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def format_timestamp(seconds: float) -> str:
    """Return seconds since 1970 as an API timestamp."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_by_name(objects: Iterable[Object], name: str) -> Object | None:
    """Return the object with a name, None if there is none. The objects are of one kind and namespace."""
    return next((obj for obj in objects if obj["metadata"]["name"] == name), None)


def find_workload(
    cluster: Cluster, name: str, namespace: str, now: float, *, known: LiveWorkload | None = None
) -> LiveWorkload:
    """Return one workload with its events, quotas, the cluster's GPUs and the autoscaler's settings.

    With ``known``, the workload as it was read before, its kind and the settings are not read again. Raises
    MissingError if no Knative Service, InferenceService or LLMInferenceService has this name.
    """
    kind = (known.top if known else get_top(cluster, name, namespace))["kind"]
    workloads = read_workloads(cluster, namespace, now, events=True, only=name)
    live = next((workload for workload in workloads if workload.top["kind"] == kind), None)
    if live is None:
        raise MissingError(f"workload {name} in namespace {namespace} was deleted while it was being read")
    if not live.scalers:
        return live
    settings = known.settings if known else None
    return replace(live, settings=read_autoscaler_settings(cluster) if settings is None else settings)


def read_autoscaler_settings(cluster: Cluster) -> dict[str, str] | None:
    """Return the data of Knative's config-autoscaler, or None if it cannot be read."""
    try:
        return dict(get_at(cluster.get(kube.CONFIG_MAP, "config-autoscaler", KNATIVE_NAMESPACE), "data", default={}))
    except ClusterError:
        return None


def get_top(cluster: Cluster, name: str, namespace: str) -> Object:
    """Return a workload's top object; the kinds of KServe take precedence over a Knative Service.

    Raises MissingError if none exists, and ForbiddenError if reading one of the kinds is forbidden, apart from an
    LLMInferenceService.
    """
    forbidden = None
    for kind in (kube.KSERVE, kube.LLM, kube.KNATIVE):
        try:
            return cluster.get(kind, name, namespace)
        except MissingError:
            continue
        except ForbiddenError as error:
            forbidden = forbidden if kind == kube.LLM else error
    if forbidden is not None:
        raise _explain_forbidden(namespace) from forbidden
    raise MissingError(f"workload {name} not found in namespace {namespace}")


def list_labeled(cluster: Cluster, kind: Kind, name: str, namespace: str) -> list[Object]:
    """Return the objects of a kind that have the labels of a workload."""
    return cluster.list(kind, namespace, labels=f"{keys.APP_NAME}={name},{keys.APP_MANAGED_BY}=ebbtide").items


def _explain_forbidden(namespace: str) -> ForbiddenError:
    where = (
        f"in namespace {namespace}" if namespace else "in all namespaces; select one with -p PROJECT or -n NAMESPACE"
    )
    return ForbiddenError(
        f"reading workloads {where} is forbidden. An administrator of the project can add you: "
        "ebbtide project create PROJECT --member USER"
    )


def list_tops(cluster: Cluster, namespace: str) -> list[Object]:
    """Return the workloads' top objects in a namespace, or in all namespaces if it is empty."""
    services = [
        *cluster.list(kube.KSERVE, namespace).items,
        *_list_language_models(cluster, namespace),
        *cluster.list(kube.KNATIVE, namespace).items,
    ]
    return sorted((top for top in services if not is_made_by_kserve(top)), key=_namespaced_name)


def require_namespace(cluster: Cluster, namespace: str) -> None:
    """Raise MissingError if a namespace does not exist; nothing happens if reading it is forbidden."""
    with suppress(ForbiddenError):
        try:
            cluster.get(kube.NAMESPACE, namespace)
        except MissingError:
            raise MissingError(
                f"namespace {namespace} not found. To list the projects, run ebbtide project list"
            ) from None


def _list_unless(error: type[ClusterError], cluster: Cluster, kind: Kind, namespace: str) -> list[Object]:
    """Return the objects of a kind; none after an error of a class."""
    try:
        return cluster.list(kind, namespace).items
    except error:
        return []


def _list_language_models(cluster: Cluster, namespace: str) -> list[Object]:
    """Return the LLMInferenceServices; none if reading them is forbidden, as with the roles of an older Ebbtide."""
    return _list_unless(ForbiddenError, cluster, kube.LLM, namespace)


def read_workloads(
    cluster: Cluster, namespace: str, now: float, *, events: bool = False, only: str = ""
) -> list[LiveWorkload]:
    """Return the workloads of a namespace (all if empty) in order of namespace and name; with ``only``, those of one name.

    Without ``events``, they are read only if a pod waits for a node: they contain the reason of Kueue and of an eviction.
    """
    try:
        objects = cluster.list_all((*GROUPED, kube.EVENT) if events else GROUPED, namespace)
    except ForbiddenError as error:
        raise _explain_forbidden(namespace) from error
    objects[kube.LLM] = _list_language_models(cluster, namespace)
    if any(of_claim.list_claim_names(pod) for pod in objects[kube.POD]):
        # Answers are shorter without them.
        objects[kube.RESOURCE_CLAIM] = _list_unless(ClusterError, cluster, kube.RESOURCE_CLAIM, namespace)
    if any(map(model_caches.find_cache_name, objects[kube.POD])):
        objects[kube.MODEL_CACHE] = _list_unless(ClusterError, cluster, kube.MODEL_CACHE, namespace)
    if of_queue.may_need_queues(objects[kube.POD], objects[kube.REVISION]):
        objects |= _read_queues(cluster, namespace)
    event_list, pods = objects.pop(kube.EVENT, []), objects[kube.POD]
    supplies: dict[str, ResourceSupply] | None = None
    if has_unscheduled_pods(pods):
        supplies = _read_supplies(cluster, pods if not namespace else None)
        if not events:
            with suppress(ClusterError):
                event_list = cluster.list(kube.EVENT, namespace).items
    return group_workloads(objects, sorted(event_list, key=kube.event_time), supplies, now, only=only)


def _read_queues(cluster: Cluster, namespace: str) -> dict[Kind, list[Object]]:
    """Return Kueue's queues by kind, without a kind that cannot be read or that the cluster does not serve."""
    objects = {}
    for kind in of_queue.KINDS:
        with suppress(ClusterError):
            listing = cluster.list(kind, namespace if kind.namespaced else "")
            if listing.version:
                objects[kind] = listing.items
    return objects


def group_workloads(
    objects: Mapping[Kind, list[Object]],
    events: list[Object],
    supplies: dict[str, ResourceSupply] | None,
    now: float,
    *,
    only: str = "",
) -> list[LiveWorkload]:
    """Return the workloads of the listed objects in order of namespace and name; ``events`` are oldest first."""
    isvcs, ksvcs, deployments, hpas, quotas = (
        objects[kind] for kind in (kube.KSERVE, kube.KNATIVE, kube.DEPLOYMENT, kube.HPA, kube.QUOTA)
    )
    revisions = _group_by_label(sorted(objects[kube.REVISION], key=revision_sort_key), keys.KNATIVE_SERVICE)
    scalers = _group_by_label(objects[kube.POD_AUTOSCALER], keys.KNATIVE_SERVICE)
    services = {_namespaced_name(obj): obj for obj in ksvcs}
    hpas_by_name = {_namespaced_name(obj): obj for obj in hpas}
    claims_by_name = {_namespaced_name(obj): obj for obj in objects.get(kube.RESOURCE_CLAIM, ())}
    caches_by_name = {_namespaced_name(obj): obj for obj in objects.get(kube.MODEL_CACHE, ())}
    hpas_by_service = _group_by_label(hpas, keys.KNATIVE_SERVICE)
    queues = of_queue.Queues(*(tuple(objects[kind]) if kind in objects else None for kind in of_queue.KINDS))
    pods = sorted(objects[kube.POD], key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    groups = {
        label: (_group_by_label(deployments, label), _group_by_label(pods, label))
        for label in (keys.KNATIVE_SERVICE, keys.KSERVE_SERVICE)
    }
    models = objects.get(kube.LLM, [])
    groups[keys.APP_NAME] = (
        _group_by_label(filter(serves_language_model, deployments if models else ()), keys.APP_NAME),
        _group_by_label(filter(serves_language_model, pods if models else ()), keys.APP_NAME),
    )
    workloads = []
    for top in sorted([*isvcs, *models, *ksvcs], key=_namespaced_name):
        namespace, name = _namespaced_name(top)
        if is_made_by_kserve(top) or only not in {"", name}:
            continue
        kserve = top["kind"] == "InferenceService"
        model = top["kind"] == kube.LLM.name
        service = names.name_llm_deployment(name) if model else names.name_predictor(name) if kserve else name
        label = keys.APP_NAME if model else keys.KSERVE_SERVICE if kserve else keys.KNATIVE_SERVICE
        of_deployments, of_pods = groups[label]
        own_hpas = (hpas_by_name.get((namespace, hpa)) for hpa in names.list_autoscalers(name))
        live = LiveWorkload(
            top=top,
            now=now,
            service=None if model else services.get((namespace, service)) if kserve else top,
            revisions=tuple(revisions.get((namespace, service), ())),
            scalers=tuple(scalers.get((namespace, service), ())),
            deployments=tuple(of_deployments.get((namespace, name), ())),
            hpas=(
                *hpas_by_service.get((namespace, service), ()),
                *[hpa for hpa in own_hpas if hpa is not None][:1],
            ),
            # A pod with a Knative Service's label may belong to an InferenceService of the same name.
            pods=tuple(
                pod
                for pod in of_pods.get((namespace, name), ())
                if kserve or keys.KSERVE_SERVICE not in (pod["metadata"].get("labels") or {})
            ),
            events=tuple(
                event
                for event in events
                if _concerns_workload(event, namespace, service, name) and not _precedes(event, top)
            ),
            quotas=tuple(obj for obj in quotas if obj["metadata"]["namespace"] == namespace),
            queues=queues,
            supplies=supplies,
        )
        claims = _pick(
            claims_by_name, namespace, (claim for pod in live.pods for claim in of_claim.list_claim_names(pod))
        )
        caches = _pick(caches_by_name, namespace, map(model_caches.find_cache_name, live.pods))
        workloads.append(replace(live, claims=claims, model_caches=caches) if claims or caches else live)
    return workloads


def _pick(objects: Mapping[tuple[str, str], Object], namespace: str, wanted: Iterable[str]) -> tuple[Object, ...]:
    """Return the objects of a namespace with these names, in order of the name."""
    return tuple(objects[namespace, name] for name in sorted({*wanted}) if (namespace, name) in objects)


def serves_language_model(obj: Object) -> bool:
    """Return whether a Deployment or a pod is that of an LLMInferenceService, and not its endpoint picker."""
    labels = obj["metadata"].get("labels") or {}
    return labels.get(keys.APP_COMPONENT) == keys.LLM_COMPONENT


def _namespaced_name(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _group_by_label(objects: Iterable[Object], label: str) -> dict[tuple[str, str], list[Object]]:
    """Return objects by namespace and label value; each group keeps the order of ``items``."""
    groups: dict[tuple[str, str], list[Object]] = {}
    for obj in objects:
        value = (obj["metadata"].get("labels") or {}).get(label)
        if value is not None:
            groups.setdefault((obj["metadata"].get("namespace", ""), value), []).append(obj)
    return groups


def revision_sort_key(revision: Object) -> tuple[str, int]:
    """Return the sort key of a revision: its service's name and its generation number."""
    labels = get_at(revision, "metadata", "labels", default={})
    text = labels.get(keys.KNATIVE_GENERATION, "0")
    return labels.get(keys.KNATIVE_SERVICE, ""), int(text) if text.isdigit() else 0


def find_resource_owner(obj: Object) -> Object | None:
    """Return the owner reference of an object to a custom resource that the controller applies; None without one."""
    return next((owner for owner in obj["metadata"].get("ownerReferences", ()) if owner["kind"] in RESOURCES), None)


def describe_resource_owner(obj: Object) -> str:
    """Return the custom resource that an object belongs to, as ``Inference chat``; empty without one."""
    owner = find_resource_owner(obj)
    return "" if owner is None else f"{owner['kind']} {owner['name']}"


def explain_resource_owner(obj: Object) -> str:
    """Return why a command must not change the spec of a workload that belongs to a custom resource; empty if it may."""
    owner = find_resource_owner(obj)
    if owner is None:
        return ""
    kind, name = owner["kind"].lower(), owner["name"]
    place = f"{name} -n {obj['metadata']['namespace']}"
    return (
        f"{owner['kind']} {name} manages this workload, and the controller would undo the change ({OWNED}); change or delete "
        f"the {owner['kind']}, in Git or with kubectl. To keep the workload without it: kubectl delete {kind} {place} "
        "--cascade=orphan"
    )


def is_made_by_kserve(service: Object) -> bool:
    """Return whether KServe created a Knative Service for an InferenceService, so that it is not a separate workload."""
    return bool(get_at(service, "metadata", "ownerReferences", 0, "kind") == kube.KSERVE.name)


def _belongs_to_service(name: str, service: str) -> bool:
    """Return whether a revision, or an object created for one, belongs to a service: ``chat-00001…`` to ``chat``."""
    suffix = name.removeprefix(f"{service}-")
    return suffix != name and suffix[:5].isdigit()


#: Seconds by which the clock of an event's component may be behind that of the API server.
SKEW_SECONDS: Final = 5.0
#: The kind of Kueue's object for a pod, whose name is ``pod-``, the pod's name and a hash.
KUEUE_WORKLOAD: Final = "Workload"
#: The start of the names of objects that a scheduler creates for a pod or a revision, by kind.
SUBJECT_PREFIXES: Final = {KUEUE_WORKLOAD: "pod-", "PodGroup": keys.KAI_GROUP_PREFIX}
#: The message of KAI's event ``Evict`` on the group of the evicted pod (pkg/scheduler/api/unschedule_info.go).
EVICTED: Final = re.compile(
    r"Pod (?P<victim>\S+/\S+) was \w+ by (?P<higher>higher priority )?workload (?P<namespace>[^\s/]+)/"
    + keys.KAI_GROUP_PREFIX
    + r"(?P<name>\S+?)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


def find_event_subjects(event: Object) -> tuple[str, ...]:
    """Return the names of the objects that an event is about: a pod or revision behind its group, and what evicted it."""
    involved = event.get("involvedObject", {})
    name = str(involved.get("name", "")).removeprefix(SUBJECT_PREFIXES.get(involved.get("kind", ""), ""))
    eviction = find_eviction(event)
    own = eviction is not None and eviction["namespace"] == event["metadata"].get("namespace")
    return (name, eviction["name"]) if eviction is not None and own else (name,)


def find_eviction(event: Object) -> re.Match[str] | None:
    """Return KAI's message about an eviction, by ``EVICTED``; None of another event."""
    return EVICTED.search(str(event.get("message", ""))) if event.get("reason") == "Evict" else None


def _concerns_workload(event: Object, namespace: str, service: str, name: str) -> bool:
    involved = event.get("involvedObject", {})
    same_namespace = involved.get("namespace") == namespace or event["metadata"].get("namespace") == namespace
    return same_namespace and any(
        object_name in {service, name, *names.list_autoscalers(name)}
        or _belongs_to_service(object_name, service)
        or object_name.startswith((f"{names.name_predictor(name)}-", f"{names.name_llm_deployment(name)}-"))
        for object_name in find_event_subjects(event)
    )


def _precedes(event: Object, top: Object) -> bool:
    """Return whether an event is older than a workload, and so about a deleted one of the same name."""
    time, created = parse_timestamp(kube.event_time(event)), parse_timestamp(top["metadata"].get("creationTimestamp"))
    return 0 < time < created - SKEW_SECONDS


def has_unscheduled_pods(pods: list[Object]) -> bool:
    """Return whether any pod waits for a node; only then the holders of resources matter."""
    return any(of_pod.find_condition(pod, "PodScheduled").get("status") == "False" for pod in pods)


def _read_supplies(cluster: Cluster, everywhere: list[Object] | None) -> dict[str, ResourceSupply] | None:
    try:
        nodes = cluster.list(kube.NODE).items
        pods = cluster.list(kube.POD).items if everywhere is None else everywhere
    except ClusterError:
        return None
    if not any(of_claim.UNALLOCATED in of_pod.find_condition(pod, "PodScheduled").get("message", "") for pod in pods):
        return compute_supplies(nodes, pods)
    try:
        claims, classes = cluster.list(kube.RESOURCE_CLAIM).items, cluster.list(kube.DEVICE_CLASS).items
    except ClusterError:
        # Without the claims, all devices would seem to be free.
        return compute_supplies(nodes, pods)
    return compute_supplies(nodes, pods, claims, classes)


def compute_supplies(
    nodes: list[Object], pods: list[Object], claims: Sequence[Object] = (), classes: Iterable[Object] = ()
) -> dict[str, ResourceSupply]:
    """Return the supply of each GPU resource on the nodes and of each device class, with its holders."""
    total: dict[str, float] = {}
    for node in nodes:
        for resource, amount in get_at(node, "status", "allocatable", default={}).items():
            if gpu.is_gpu_resource(resource):
                total[resource] = total.get(resource, 0.0) + float(amount)
    holders: dict[str, list[ResourceHolder]] = {resource: [] for resource in total}
    by_name = {get_at(node, "metadata", "name"): node for node in nodes}
    for pod in pods:
        if not get_at(pod, "spec", "nodeName") or get_at(pod, "status", "phase") in {"Succeeded", "Failed"}:
            continue
        for resource, amount in of_pod.count_held_gpus(pod, by_name.get(pod["spec"]["nodeName"])).items():
            if resource in holders:
                holders[resource].append(_make_holder(pod, amount))
    supplies = {name: ResourceSupply(amount, tuple(holders[name])) for name, amount in total.items() if amount}
    return {**_compute_claimed_supplies(pods, claims, classes), **supplies}


def _make_holder(pod: Object, amount: float) -> ResourceHolder:
    queue = get_at(pod, "metadata", "labels", keys.KAI_QUEUE, default="")
    return ResourceHolder(
        workload_name_of_pod(pod), pod["metadata"]["namespace"], amount, gpu.find_rank(pod), str(queue)
    )


def _compute_claimed_supplies(
    pods: Iterable[Object], claims: Sequence[Object], classes: Iterable[Object]
) -> dict[str, ResourceSupply]:
    """Return the pods that hold devices of each class, by the names of the class; the amount is 0 for a part of a device."""
    pods_by_uid = {pod["metadata"].get("uid"): pod for pod in pods}
    supplies: dict[str, ResourceSupply] = {}
    for device_class in classes:
        holders: list[ResourceHolder] = []
        for claim in of_claim.find_holding(device_class, claims):
            amount = sum("consumedCapacity" not in row for row in of_claim.list_allocations(claim))
            users = (user.get("uid") for user in get_at(claim, "status", "reservedFor", default=[]))
            holders += [_make_holder(pods_by_uid[uid], amount) for uid in users if uid in pods_by_uid]
        supply = ResourceSupply(sum(holder.amount for holder in holders), tuple(holders))
        supplies |= dict.fromkeys(of_claim.list_resources(device_class), supply)
    return supplies


def workload_name_of_pod(pod: Object) -> str:
    """Return the name of the workload that a pod belongs to, or the pod's name."""
    labels = pod["metadata"].get("labels") or {}
    for key in (keys.KSERVE_SERVICE, keys.KNATIVE_SERVICE, keys.APP_NAME, "job-name", "app"):
        if key in labels:
            return str(labels[key])
    return str(pod["metadata"]["name"])
