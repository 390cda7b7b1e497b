"""What is read of workloads on a cluster, grouped by workload: a few lists, however many workloads there are.

Upstream: knative.dev/serving pkg/apis/serving/register.go (the labels of what belongs to a service), kserve
pkg/constants/constants.go; k8s.io/api core/v1 for pods, nodes and events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ebbtide.base import keys, names
from ebbtide.base.bodies import body
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import (
    CONFIG_MAP,
    DEPLOYMENT,
    HPA,
    KNATIVE,
    KSERVE,
    NODE,
    POD,
    POD_AUTOSCALER,
    QUOTA,
    REVISION,
    ClusterError,
    ForbiddenError,
    MissingError,
)
from ebbtide.cluster.read import pods as of_pod
from ebbtide.translation import gpu

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ebbtide.cluster.client.protocol import Cluster, Kind
    from ebbtide.translation.objects import Object


@body()
class Holder:
    """Who holds a part of a resource: the workload or pod, how much, and its priority's value."""

    name: str
    namespace: str
    amount: float
    priority: int


@dataclass(frozen=True, slots=True)
class Supply:
    """What all nodes have of a resource, and who holds it."""

    total: float
    holders: tuple[Holder, ...]

    @property
    def used(self) -> float:
        """What is held."""
        return sum(holder.amount for holder in self.holders)


@dataclass(frozen=True, slots=True)
class Live:
    """One workload as it was read. ``now`` is in seconds since 1970, by the reader's clock."""

    #: The Knative Service or InferenceService that its author applied.
    top: Object
    now: float
    #: The Knative Service: the top itself, or the one KServe made of it; none in Standard mode.
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
    #: The GPUs of all nodes by resource; empty where the caller may not see nodes or all pods.
    supplies: dict[str, Supply] | None = None
    #: Knative's config-autoscaler; None where it was not read or the caller may not.
    settings: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The workload's name."""
        return str(self.top["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """The workload's namespace."""
        return str(self.top["metadata"]["namespace"])


#: The kinds that workloads are made of, or bound by.
GROUPED: Final = (KSERVE, KNATIVE, REVISION, POD_AUTOSCALER, DEPLOYMENT, POD, HPA, QUOTA)
KNATIVE_NAMESPACE: Final = "knative-serving"
OBJECT_FIELDS: Final = ("revisions", "scalers", "deployments", "hpas", "pods", "events", "quotas")


def seconds(text: str | None) -> float:
    """Return a time of the API in seconds since 1970; 0 where there is none."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def find(cluster: Cluster, name: str, namespace: str, now: float) -> Live:
    """Return one workload with its events, quotas, the GPUs of the cluster and the autoscaler's settings.

    Raises:
        MissingError: there is neither a Knative Service nor an InferenceService of this name.

    """
    kind = top_of(cluster, name, namespace)["kind"]
    found = survey(cluster, namespace, now, events=True, only=name)
    live = next((item for item in found if item.top["kind"] == kind), None)
    if live is None:
        raise MissingError(f"{name} in namespace {namespace} went while it was read")
    return replace(live, settings=settings(cluster)) if live.scalers else live


def settings(cluster: Cluster) -> dict[str, str] | None:
    """Return Knative's config-autoscaler, or None where the caller may not read it."""
    try:
        return dict(at(cluster.get(CONFIG_MAP, "config-autoscaler", KNATIVE_NAMESPACE), "data", default={}))
    except ClusterError:
        return None


def top_of(cluster: Cluster, name: str, namespace: str) -> Object:
    """Return the object that a workload's author applied: an InferenceService goes before a Knative Service.

    Raises:
        MissingError: there is neither.

    """
    for kind in (KSERVE, KNATIVE):
        try:
            return cluster.get(kind, name, namespace)
        except MissingError:
            continue
    raise MissingError(f"there is no workload {name} in namespace {namespace}")


def tops(cluster: Cluster, namespace: str) -> list[Object]:
    """Return the objects that workloads' authors applied, of a namespace, or of all where it is empty."""
    found = [*cluster.list(KSERVE, namespace).items, *cluster.list(KNATIVE, namespace).items]
    return sorted((top for top in found if _owner_kind(top) != "InferenceService"), key=_key)


def survey(cluster: Cluster, namespace: str, now: float, *, events: bool = False, only: str = "") -> list[Live]:
    """Return every workload of a namespace, or of all where it is empty, by namespace and name; or those of one name."""
    read = {kind: cluster.list(kind, namespace).items for kind in GROUPED}
    told = cluster.events(namespace) if events else []
    pods = read[POD]
    supplies = _supplies(cluster, pods if not namespace else None) if short(pods) else None
    return grouped(read, told, supplies, now, only=only)


def grouped(
    read: Mapping[Kind, list[Object]],
    told: list[Object],
    supplies: dict[str, Supply] | None,
    now: float,
    *,
    only: str = "",
) -> list[Live]:
    """Return the workloads of what was read, by namespace and name; ``told`` are events, oldest first."""
    isvcs, ksvcs, deployments, hpas, quotas = (read[kind] for kind in (KSERVE, KNATIVE, DEPLOYMENT, HPA, QUOTA))
    revisions = _grouped(sorted(read[REVISION], key=generation), keys.KNATIVE_SERVICE)
    scalers = _grouped(read[POD_AUTOSCALER], keys.KNATIVE_SERVICE)
    services = {_key(item): item for item in ksvcs}
    ours = {_key(item): item for item in hpas}
    by_service = _grouped(hpas, keys.KNATIVE_SERVICE)
    groups = {
        label: (_grouped(deployments, label), _grouped(sorted(read[POD], key=_born), label))
        for label in (keys.KNATIVE_SERVICE, keys.KSERVE_SERVICE)
    }
    found = []
    for top in sorted([*isvcs, *ksvcs], key=_key):
        where, name = _key(top)
        if is_made(top) or only not in {"", name}:
            continue
        kserve = top["kind"] == "InferenceService"
        inner = names.predictor(name) if kserve else name
        of_deployments, of_pods = groups[keys.KSERVE_SERVICE if kserve else keys.KNATIVE_SERVICE]
        own = ours.get((where, names.autoscaler(name))) or ours.get((where, names.keda_autoscaler(name)))
        live = Live(
            top=top,
            now=now,
            service=services.get((where, inner)) if kserve else top,
            revisions=tuple(revisions.get((where, inner), ())),
            scalers=tuple(scalers.get((where, inner), ())),
            deployments=tuple(of_deployments.get((where, name), ())),
            hpas=(*by_service.get((where, inner), ()), *([own] if own is not None else [])),
            pods=tuple(pod for pod in of_pods.get((where, name), ()) if not _foreign(pod, kserve=kserve)),
            events=tuple(event for event in told if _about(event, where, inner, name)),
            quotas=tuple(item for item in quotas if item["metadata"]["namespace"] == where),
            supplies=supplies,
        )
        found.append(live)
    return found


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _born(item: Object) -> str:
    return str(item["metadata"].get("creationTimestamp", ""))


def _grouped(items: Iterable[Object], label: str) -> dict[tuple[str, str], list[Object]]:
    """Return objects by namespace and a label's value, each group in the order given."""
    found: dict[tuple[str, str], list[Object]] = {}
    for item in items:
        value = (item["metadata"].get("labels") or {}).get(label)
        if value is not None:
            found.setdefault((item["metadata"].get("namespace", ""), value), []).append(item)
    return found


def generation(revision: Object) -> tuple[str, int]:
    """Return what sorts revisions: their service's name, and the number of its edit."""
    labels = at(revision, "metadata", "labels", default={})
    text = labels.get(keys.KNATIVE_GENERATION, "0")
    return labels.get(keys.KNATIVE_SERVICE, ""), int(text) if text.isdigit() else 0


def _owner_kind(item: Object) -> str:
    return str(at(item, "metadata", "ownerReferences", 0, "kind", default=""))


def is_made(service: Object) -> bool:
    """Whether a Knative Service was made by KServe for an InferenceService, and is no workload of its own."""
    return _owner_kind(service) == "InferenceService"


def _foreign(pod: Object, *, kserve: bool) -> bool:
    """Whether a pod that has a Knative Service's label belongs to an InferenceService of that name."""
    return not kserve and keys.KSERVE_SERVICE in (pod["metadata"].get("labels") or {})


def _of_service(name: str, service: str) -> bool:
    """Whether a revision, or what is made for one, is a service's: ``chat-00001…`` of ``chat``."""
    rest = name.removeprefix(f"{service}-")
    return rest != name and rest[:5].isdigit()


def _about(event: Object, namespace: str, inner: str, name: str) -> bool:
    about = event.get("involvedObject", {})
    told = about.get("name", "")
    here = about.get("namespace") == namespace or event["metadata"].get("namespace") == namespace
    return here and (
        told in {inner, name, names.autoscaler(name), names.keda_autoscaler(name)}
        or _of_service(told, inner)
        or told.startswith(f"{names.predictor(name)}-")
    )


def short(pods: list[Object]) -> bool:
    """Whether any pod waits for a node: only then it matters who holds what."""
    return any(of_pod.condition(pod, "PodScheduled").get("status") == "False" for pod in pods)


def _supplies(cluster: Cluster, everywhere: list[Object] | None) -> dict[str, Supply] | None:
    try:
        nodes = cluster.list(NODE).items
        return supplies(nodes, cluster.list(POD).items if everywhere is None else everywhere)
    except ForbiddenError:
        return None
    except ClusterError:
        return None


def supplies(nodes: list[Object], pods: list[Object]) -> dict[str, Supply]:
    """Return what the nodes have of each GPU resource, and who holds it."""
    total: dict[str, float] = {}
    for node in nodes:
        for resource, amount in at(node, "status", "allocatable", default={}).items():
            if gpu.is_gpu(resource):
                total[resource] = total.get(resource, 0.0) + float(amount)
    held: dict[str, list[Holder]] = {resource: [] for resource in total}
    for pod in pods:
        if not at(pod, "spec", "nodeName") or at(pod, "status", "phase") in {"Succeeded", "Failed"}:
            continue
        for resource, amount in of_pod.gpus(pod).items():
            if resource in held:
                holder = Holder(
                    whose(pod), pod["metadata"]["namespace"], amount, at(pod, "spec", "priority", default=0)
                )
                held[resource].append(holder)
    return {resource: Supply(amount, tuple(held[resource])) for resource, amount in total.items() if amount}


def whose(pod: Object) -> str:
    """Return the workload that a pod belongs to, as its author calls it, or the pod's own name."""
    labels = pod["metadata"].get("labels") or {}
    for key in (keys.KSERVE_SERVICE, keys.KNATIVE_SERVICE, keys.APP_NAME, "job-name", "app"):
        if key in labels:
            return str(labels[key])
    return str(pod["metadata"]["name"])
