"""Checks of scheduling: priority classes, node pools, the scheduler, queues and quotas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.doctor.findings import FixPatch, make_error_finding, make_warning_finding
from ebbtide.cluster.doctor.kai import KAI_NAMESPACE, read_runtime_class
from ebbtide.cluster.doctor.kueue import KUEUE_KEY, KUEUE_MAP, KUEUE_NAMESPACE, POD_FRAMEWORKS, read_settings
from ebbtide.cluster.doctor.observed import make_gpu_node, observe_kai, read_class_values
from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read.inventory import find_by_name
from ebbtide.cluster.read.queues import Queues
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.selectors import matches_selector
from ebbtide.core.translation.gpu import BACKENDS, list_pool_requests
from ebbtide.core.translation.plan import Priority
from ebbtide.core.translation.priority import KAI, make_priority_class
from ebbtide.core.translation.quotas import kai
from ebbtide.core.translation.traps import find_deadline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.doctor.findings import Finding, SpecRequirements
    from ebbtide.cluster.doctor.kueue import KueueSettings
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.profile.models import NodePool
    from ebbtide.core.translation.gpu.backend import GpuNode
    from ebbtide.core.translation.objects import Object


#: Conditions under which the control plane taints a node (kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration).
PRESSURES: Final = {
    "DiskPressure": "is low on disk space",
    "MemoryPressure": "is low on memory",
    "PIDPressure": "is low on process IDs",
    "NetworkUnavailable": "has no network",
}


#: The label with the device of a pod that shares it, also of the pod that reserves the device, and that pod's namespace.
GPU_GROUP: Final = "runai-gpu-group"
RESERVATIONS: Final = "kai-resource-reservation"
#: The settings of KAI that the profile declares, with the effect of a different one.
KAI_SETTINGS: Final = {
    "gangScheduleKnative": "with gang scheduling, KAI up to 0.17, but not 0.12, never starts a service that is scaled to zero; "
    "without it, KAI ignores priority classes of Knative pods",
    "sharingMode": "KAI rejects pods that request a part of a GPU if sharing is disabled, and the mode determines whether it "
    "enforces memory",
}


def _check_classes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    if observed.list_objects(kube.PRIORITY_CLASS) is None:
        return
    scheduling = requirements.profile.spec.scheduling
    live = read_class_values(observed)
    for name, value in scheduling.classes.items():
        if name in live and live[name] != value:
            yield make_error_finding(
                "DOC012",
                f"priority class {name} has the value {live[name]}, but the profile has {value}",
                "pods preempt each other differently than the profile predicts; the value of a class cannot be changed",
                f"set scheduling.classes.{name}: {live[name]} in the profile, or delete and recreate the class",
            )
        elif name not in live and scheduling.classes_owner != "ebbtide":
            body = make_priority_class(Priority(name, value, True, preemptible=value < 100))  # noqa: PLR2004 - Run:ai's line
            yield make_error_finding(
                "DOC013",
                f"priority class {name} not found, but the profile says that the cluster provides it",
                "pods that use it are rejected",
                f"create it with the value {value}, or set scheduling.classesOwner: ebbtide in the profile",
                FixPatch("create", kube.PRIORITY_CLASS, name, body=body),
            )


def _check_nodes(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Report nodes that take no pods because of a condition: new pods wait, and the scheduler names only a taint."""
    for node in observed.list_objects(kube.NODE) or ():
        conditions = {each["type"]: each["status"] for each in get_at(node, "status", "conditions", default=())}
        states = [text for name, text in PRESSURES.items() if conditions.get(name) == "True"]
        states += ["is not ready"] * (conditions.get("Ready", "True") != "True")
        states += ["is cordoned"] * bool(get_at(node, "spec", "unschedulable"))
        if states:
            name = node["metadata"]["name"]
            yield make_warning_finding(
                "DOC158",
                f"node {name} {' and '.join(states)}",
                "it starts no new pods: cold starts and scale-outs wait unless another node has room",
                f"see kubectl describe node {name}",
            )


def _check_pools(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    live = observed.list_objects(kube.NODE)
    if live is None:
        return
    nodes = [make_gpu_node(node, observed) for node in live]
    used = {plan.pool.name for plan in requirements.plans if plan.pool is not None and plan.gpu is not None}
    for pool in requirements.profile.spec.node_pools:
        is_used = pool.name in used
        make = make_warning_finding if requirements.specs is not None and not is_used else make_error_finding
        yield from (make(*row) for row in _compare_pool(pool, nodes, is_used=is_used))


def _compare_pool(pool: NodePool, nodes: Sequence[GpuNode], *, is_used: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield code, difference, effect and fix of each difference between a pool and its nodes."""
    title = f"node pool {pool.name}"
    labels = dict(pool.selector)
    pool_nodes = [node for node in nodes if labels.items() <= node.labels.items()]
    if not pool_nodes and pool.node_autoscaler is not None:
        return
    if not pool_nodes:
        selector = ", ".join(f"{key}={value}" for key, value in labels.items())
        yield (
            "DOC014",
            f"no node has the labels of {title}: {selector}" if selector else f"{title} has no nodes",
            "its workloads stay pending, waiting for a node",
            f"label the nodes, or correct nodePools ({pool.name}) in the profile",
        )
        return
    if not pool.product and not is_used:
        # It may be a pool without GPUs, or that of the built-in profile on a cluster without GPUs.
        return
    products = {node.product for node in pool_nodes if node.product}
    if pool.product and products and pool.product.removesuffix("-SHARED") not in products:
        yield (
            "DOC014",
            f"the profile has {pool.product} for {title}, but its nodes have {', '.join(sorted(products))}",
            "GPU shares and MIG profiles are calculated for the wrong GPU",
            f"set the product of nodePools ({pool.name}) in the profile",
        )
    backend = BACKENDS[pool.backend]
    resources = backend.advertises(pool)
    if backend.claims is not None or not resources:
        return
    largest = max((sum(node.resources.get(name, 0) for name in resources) for node in pool_nodes), default=0)
    if not largest:
        yield (
            "DOC015",
            f"no node of {title} advertises {' or '.join(resources)}",
            "its workloads wait for a GPU indefinitely",
            "check the device plugin and its sharing configuration, or correct the pool's backend in the profile",
        )
        return
    (resource, per_gpu), *_ = resources.items()
    if not backend.partitioned and pool.devices and largest != pool.devices * per_gpu:
        gpus = f"{pool.devices} GPU{'' if pool.devices == 1 else 's'}"
        shares = f"{gpus} with {per_gpu} shares each" if per_gpu > 1 else gpus
        yield (
            "DOC015",
            f"a node of {title} advertises {largest} {resource}, but the profile has {shares}",
            "Ebbtide predicts the wrong number of replicas per node",
            f"correct devices or replicas of nodePools ({pool.name}) in the profile",
        )


def _check_device_classes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Report missing device classes of node pools and workloads, and extended resources that no class and no node provides."""
    spec = requirements.profile.spec
    pools = spec.node_pools if requirements.specs is None else ()
    needed = {
        pool.device_class: f"node pool {pool.name}" for pool in pools if BACKENDS[pool.backend].claims is not None
    }
    resources: dict[str, str] = {}
    for ask in (ask for plan in requirements.plans for ask in list_pool_requests(plan)):
        if BACKENDS[ask.pool.backend].claims is not None:
            parts = BACKENDS[ask.pool.backend].patch(ask).parts
            classes = (
                name for template in parts.get("objects", ()) for name in of_claim.list_classes(template["spec"])
            )
            needed |= dict.fromkeys(classes, f"workload {ask.workload}")
            resources |= dict.fromkeys(parts.get("limits", ()), f"workload {ask.workload}")
    device_classes = observed.list_objects(kube.DEVICE_CLASS) if needed or resources else None
    if device_classes is None:
        return
    # A resource that no class provides may be a node's.
    nodes = observed.list_objects(kube.NODE)
    provided = {name for obj in device_classes for name in of_claim.list_resources(obj)}
    provided |= {name for node in nodes or () for name in get_at(node, "status", "allocatable", default={})}
    for name, user in needed.items():
        if name not in provided:
            yield make_error_finding(
                "DOC199",
                f"device class {name} not found, but {user} needs it",
                "pods that claim its devices stay pending",
                "install the DRA driver with its device classes, or correct deviceClass of the node pool in the profile",
            )
    for name, user in resources.items():
        if name not in provided and nodes is not None:
            yield make_error_finding(
                "DOC200",
                f"no device class has extendedResourceName {name}, and no node provides it, but {user} requests it",
                "its pods stay pending",
                f"create a device class of these devices with extendedResourceName: {name}, or use serving: kserve-standard",
            )


def _check_scheduler(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    scheduler = requirements.profile.spec.scheduling.scheduler
    by_kai = scheduler == "kai-scheduler" or requirements.profile.spec.projects.quota == "kai"
    if by_kai and not observed.serves("kai"):
        yield make_error_finding(
            "DOC016",
            "KAI-Scheduler is not installed, but the profile uses it to schedule pods or to enforce quotas",
            "pods stay pending because no scheduler binds them, and the API server rejects queues",
            "install KAI-Scheduler, or correct scheduling.scheduler and projects.quota in the profile",
        )


def _check_kai(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Compare gang scheduling and GPU sharing with the profile."""
    scheduling = requirements.profile.spec.scheduling
    if scheduling.scheduler != KAI or not observed.list_objects(kube.DEPLOYMENT, KAI_NAMESPACE):
        return
    live = observe_kai(observed)
    declared = {
        "gangScheduleKnative": scheduling.kai.gang_schedule_knative,
        "sharingMode": scheduling.kai.sharing_mode,
    }
    for field, effect in KAI_SETTINGS.items():
        if live[field] != declared[field]:
            value = json.dumps(live[field]).strip('"')
            yield make_error_finding(
                "DOC047",
                f"KAI-Scheduler has {field} {value}, but the profile has {json.dumps(declared[field])}",
                effect,
                f"set scheduling.kai.{field}: {value} in the profile, or change KAI's Helm values",
            )


def _check_reservations(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Report pods with a share of a GPU that KAI has no reservation for; it deletes the reservation if it binds two concurrently.

    Upstream: KAI-Scheduler v0.12.0 pkg/binder/binding/resourcereservation/resource_reservation.go (syncForPods).
    """
    sharing = observed.list_objects(kube.POD, labels=GPU_GROUP) if observed.serves("kai") else None
    if not sharing or not find_by_name(observed.list_objects(kube.NAMESPACE) or (), RESERVATIONS):
        return
    reserved = {pod["metadata"]["labels"][GPU_GROUP] for pod in sharing if pod["metadata"]["namespace"] == RESERVATIONS}
    lost: dict[str, list[str]] = {}
    for pod in sharing:
        metadata, phase = pod["metadata"], get_at(pod, "status", "phase")
        if phase == "Running" and metadata["labels"][GPU_GROUP] not in reserved:
            lost.setdefault(metadata["labels"][GPU_GROUP], []).append(f"{metadata['namespace']}/{metadata['name']}")
    for names in lost.values():
        yield make_error_finding(
            "DOC206",
            f"KAI-Scheduler has no reservation for the GPU of {', '.join(sorted(names))}",
            "when another pod starts or ends on this GPU, KAI deletes all these pods",
            "delete them yourself at a quiet time; start services that share a GPU one after another",
        )


def _check_runtime_class(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check that the RuntimeClass exists that KAI's webhook sets on pods with a GPU."""
    if requirements.profile.spec.scheduling.scheduler != KAI:
        return
    deployments = observed.list_objects(kube.DEPLOYMENT, KAI_NAMESPACE)
    classes = observed.list_objects(kube.RUNTIME_CLASS) if deployments else None
    if not deployments or classes is None:
        return
    live = observe_kai(observed)
    name, whole = read_runtime_class(deployments, live.get("version", ""))
    if name and find_by_name(classes, name) is None and (whole or live["sharingMode"] != "Disabled"):
        yield make_error_finding(
            "DOC048",
            f"RuntimeClass {name} not found, but KAI-Scheduler sets it on pods that request {'GPUs' if whole else 'a part of a GPU'}",
            "the API server rejects these pods, so their workloads have no replicas",
            # The chart of KAI 0.12 takes an empty value as the default.
            "install NVIDIA's GPU operator, which creates it, or set KAI's "
            + (
                "admission.gpuPodRuntimeClassName to a RuntimeClass that exists"
                if whole
                else "admission.gpuFractionRuntimeClassName to an empty value"
            ),
        )


def _read_kueue_settings(observed: ObservedCluster) -> KueueSettings | None:
    return read_settings((observed.read_map(KUEUE_MAP, KUEUE_NAMESPACE) or {}).get(KUEUE_KEY, ""))


def _check_kueue(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check that Kueue is installed and holds back the pods of services, if the profile uses it."""
    if requirements.profile.spec.projects.quota != "kueue":
        return
    if not observed.serves("kueue"):
        yield make_error_finding(
            "DOC138",
            "Kueue is not installed, or does not serve kueue.x-k8s.io/v1beta2, but the profile uses it to enforce quotas",
            "the API server rejects the queues of projects, and pods use resources beyond the quota",
            "install Kueue 0.15 or later, or correct projects.quota in the profile",
        )
        return
    settings = _read_kueue_settings(observed)
    if settings is None:
        return
    if POD_FRAMEWORKS.isdisjoint(settings.frameworks):
        yield make_error_finding(
            "DOC139",
            f"Kueue ignores the pods of services: its integrations are {', '.join(settings.frameworks)}",
            "pods of Knative services start without admission, and use resources beyond the quota of their project",
            f"add pod to integrations.frameworks in ConfigMap {KUEUE_MAP}, and restart Kueue's controller",
        )
    # Labels that cannot be read may match.
    namespaces = observed.list_objects(kube.NAMESPACE)
    for name in requirements.namespaces if namespaces is not None else ():
        found = [find_by_name(namespaces or (), name), *requirements.objects]
        labels = {
            key: value
            for obj in found
            if obj is not None and (obj["kind"], obj["metadata"]["name"]) == ("Namespace", name)
            for key, value in get_at(obj, "metadata", "labels", default={}).items()
        }
        if not matches_selector(settings.namespaces, {**labels, "kubernetes.io/metadata.name": name}):
            yield make_error_finding(
                "DOC197",
                f"Kueue does not manage namespace {name}: its labels do not match managedJobsNamespaceSelector",
                "pods in it start without admission, and use resources beyond the quota of their project",
                "add the labels to projects.labels of the profile, or change managedJobsNamespaceSelector in ConfigMap "
                f"{KUEUE_MAP} and restart Kueue's controller",
            )


def _check_kueue_queues(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check that the queues of the workloads' projects admit pods. An apply creates missing ones, if it manages projects."""
    projects = requirements.profile.spec.projects
    if projects.quota != "kueue" or not observed.serves("kueue"):
        return
    for name, namespace in dict.fromkeys((plan.spec.project or "", plan.namespace) for plan in requirements.plans):
        # Members of a project can read its LocalQueues only in its namespace.
        queues = Queues(observed.list_objects(kube.LOCAL_QUEUE, namespace), observed.list_objects(kube.CLUSTER_QUEUE))
        closed = queues.explain_closed(name, namespace) if name else None
        if closed is not None and not (closed.missing and projects.manage):
            yield make_error_finding(
                "DOC202",
                f"Kueue admits no pods of project {name}: {closed.why}",
                "its pods stay pending",
                closed.fix,
            )


def _check_ready_timeout(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check that Kueue does not delete pods before they have to be ready."""
    settings = _read_kueue_settings(observed) if requirements.profile.spec.projects.quota == "kueue" else None
    if settings is None or settings.ready_seconds is None:
        return
    names = [plan.name for plan in requirements.plans if find_deadline(plan) > settings.ready_seconds]
    if names:
        yield make_warning_finding(
            "DOC198",
            f"Kueue deletes pods that are not ready {settings.ready_seconds} s after their admission, which is less than the "
            f"initialization timeout of {', '.join(names)}",
            "a server that starts more slowly never becomes ready, because Kueue deletes each of its pods",
            f"raise waitForPodsReady.timeout in ConfigMap {KUEUE_MAP} and restart Kueue's controller, or set "
            "servingConfiguration.initializationTimeoutSeconds to what the server needs",
        )


def find_missing_schedulers(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Yield findings about a scheduler or a quota backend of the profile that is not installed."""
    yield from _check_scheduler(observed, requirements)
    yield from _check_kueue(observed, requirements)


def find_missing_objects(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Yield findings about objects without which no pod of the plans starts: classes and queues."""
    used = {plan.priority.name for plan in requirements.plans if plan.priority.name}
    if used and requirements.profile.spec.scheduling.classes_owner != "ebbtide":
        for finding in _check_classes(observed, requirements):
            if finding.patch is not None and finding.patch.name in used:
                yield finding
    yield from _check_parent_queue(observed, requirements)
    yield from _check_default_queue(observed, requirements)
    yield from _check_kueue_queues(observed, requirements)
    yield from _check_device_classes(observed, requirements)
    kinds = {plan.gpu.kind for plan in requirements.plans if plan.gpu is not None}
    if kinds and requirements.profile.spec.scheduling.scheduler == KAI:
        deployments = observed.list_objects(kube.DEPLOYMENT, KAI_NAMESPACE) or ()
        if kinds != {"devices"} or read_runtime_class(deployments, observe_kai(observed).get("version", "")).whole:
            yield from _check_runtime_class(observed, requirements)


def _check_parent_queue(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check the projects' parent queue: KAI ignores queues whose parent is missing, and enforces the parent's quota too."""
    projects = requirements.profile.spec.projects
    if projects.quota != "kai" or not projects.manage or not observed.serves("kai"):
        return
    queues, name = observed.list_objects(kube.QUEUE), projects.parent_queue
    if queues is None:
        return
    parent = find_by_name(queues, name)
    if parent is None:
        yield make_error_finding(
            "DOC026",
            f"queue {name} not found, but the profile names it as the parent of the projects' queues",
            "KAI ignores queues whose parent is missing, and their pods stay pending",
            "create the queue, or set projects.parentQueue in the profile to an existing queue",
            FixPatch("create", kube.QUEUE, name, body=kai.make_parent_queue(name)),
        )
        return
    zero = _list_zero_quotas(parent)
    if zero:
        unlimited = {resource: {"quota": kai.UNLIMITED} for resource in zero}
        # Preemptible pods may exceed the quota, and those without a project are in the default queue.
        needed = [
            plan for plan in requirements.plans if plan.spec.project is not None and not plan.priority.preemptible
        ]
        waits = any(resource != "gpu" or plan.gpu is not None for plan in needed for resource in zero)
        make_finding = make_error_finding if waits or not requirements.plans else make_warning_finding
        yield make_finding(
            "DOC026",
            f"queue {name} has a quota of 0 for {', '.join(zero)}",
            "KAI also counts non-preemptible pods against every parent queue, so they stay pending in every project",
            f"raise the quota of {name} to the sum of its projects' quotas, or set it to -1 (unlimited)",
            FixPatch("merge", kube.QUEUE, name, body={"spec": {"resources": unlimited}}),
        )


def _check_default_queue(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check that the queue of workloads without a project has room for a non-preemptible pod.

    Upstream: KAI-Scheduler v0.12.0 pkg/podgrouper/podgrouper/plugins/defaultgrouper/default_grouper.go (the queue),
    pkg/scheduler/plugins/proportion/capacity_policy/quota_check.go (the quota of the queue and of all its parents).
    """
    plans = [
        plan
        for plan in requirements.plans
        if plan.spec.project is None and plan.scheduled and not plan.priority.preemptible
    ]
    is_by_kai = bool(plans) and requirements.profile.spec.scheduling.scheduler == KAI
    queues = observed.list_objects(kube.QUEUE) if is_by_kai else None
    name, seen = kai.DEFAULT_QUEUE, set[str]()
    while (queue := find_by_name(queues or (), name)) is not None and name not in seen:
        seen.add(name)
        zero = _list_zero_quotas(queue)
        # Every pod requests processors and memory.
        kept = plans if {*zero} - {"gpu"} else [plan for plan in plans if zero and plan.gpu is not None]
        if kept:
            zero = zero if any(plan.gpu is not None for plan in kept) else [part for part in zero if part != "gpu"]
            yield make_error_finding(
                "DOC203",
                f"{', '.join(plan.name for plan in kept)}: a workload without a project is in queue {kai.DEFAULT_QUEUE}, and "
                f"queue {name} has a quota of 0 for {' and '.join(zero)}",
                "KAI starts no non-preemptible pod above the quota, so the pods stay pending",
                "set project and give it a quota, set preemptibility: preemptible, or raise the quota of the queue",
            )
            return
        name = get_at(queue, "spec", "parentQueue", default="")


def _list_zero_quotas(queue: Object) -> list[str]:
    """Return the resources of which a queue guarantees nothing; an unset quota is 0."""
    quotas = get_at(queue, "spec", "resources", default={})
    return [resource for resource in kai.RESOURCES if get_at(quotas, resource, "quota", default=0) == 0]


CHECKS: Final = (
    _check_classes,
    _check_nodes,
    _check_pools,
    _check_device_classes,
    find_missing_schedulers,
    _check_default_queue,
    _check_kueue_queues,
    _check_ready_timeout,
    _check_kai,
    _check_runtime_class,
    _check_reservations,
    _check_parent_queue,
)
