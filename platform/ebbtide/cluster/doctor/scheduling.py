"""Checks of scheduling: priority classes, node pools, the scheduler, queues and quotas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.doctor.findings import Check, Difference, FixPatch
from ebbtide.cluster.doctor.kai import KAI_NAMESPACE, read_runtime_class
from ebbtide.cluster.doctor.kueue import KUEUE_KEY, KUEUE_MAP, KUEUE_NAMESPACE, POD_FRAMEWORKS, read_settings
from ebbtide.cluster.doctor.observed import make_gpu_node, observe_kai, read_class_values
from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read.inventory import find_by_name
from ebbtide.cluster.read.queues import Queues
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.selectors import matches_selector
from ebbtide.core.translation.gpu import BACKENDS, list_pool_requests
from ebbtide.core.translation.plan import Priority
from ebbtide.core.translation.priority import KAI, make_priority_class
from ebbtide.core.translation.quotas import kai
from ebbtide.core.translation.traps import find_deadline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.cluster.doctor.findings import SpecRequirements
    from ebbtide.cluster.doctor.kueue import KueueSettings
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.base.problems import Severity
    from ebbtide.core.profile.models import NodePool, ProfileSpec
    from ebbtide.core.translation.gpu.backend import GpuNode
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan


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


def _check_class_values(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    live = read_class_values(observed)
    for name, value in requirements.profile.spec.scheduling.classes.items():
        if live.get(name, value) != value:
            yield Difference(
                f"priority class {name} has the value {live[name]}, but the profile has {value}",
                f"set scheduling.classes.{name}: {live[name]} in the profile, or delete and recreate the class",
            )


def _find_missing_classes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    if observed.list_objects(kube.PRIORITY_CLASS) is None:
        return
    live, used = read_class_values(observed), {plan.priority.name for plan in requirements.plans}
    for name, value in requirements.profile.spec.scheduling.classes.items():
        if name not in live and (name in used or not requirements.applied):
            body = make_priority_class(Priority(name, value, True, preemptible=value < 100))  # noqa: PLR2004 - Run:ai's line
            yield Difference(
                f"priority class {name} not found, but the profile says that the cluster provides it",
                f"create it with the value {value}, or set scheduling.classesOwner: ebbtide in the profile",
                FixPatch("create", kube.PRIORITY_CLASS, name, body=body),
            )


def _check_nodes(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    """Report nodes that take no pods because of a condition: new pods wait, and the scheduler names only a taint."""
    for node in observed.list_objects(kube.NODE) or ():
        conditions = {each["type"]: each["status"] for each in get_at(node, "status", "conditions", default=())}
        states = [text for name, text in PRESSURES.items() if conditions.get(name) == "True"]
        states += ["is not ready"] * (conditions.get("Ready", "True") != "True")
        states += ["is cordoned"] * bool(get_at(node, "spec", "unschedulable"))
        if states:
            name = node["metadata"]["name"]
            yield Difference(f"node {name} {' and '.join(states)}", f"see kubectl describe node {name}")


def _check_pools(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Compare the nodes of each pool, and the model of their GPUs, with the profile."""
    for pool, nodes, severity in _list_pools(observed, requirements):
        title, selector = f"node pool {pool.name}", ", ".join(f"{key}={value}" for key, value in pool.selector.items())
        products = {node.product for node in nodes if node.product}
        if not nodes:
            what = f"no node has the labels of {title}: {selector}" if selector else f"{title} has no nodes"
            yield Difference(what, severity=severity)
        elif pool.product and products and pool.product.removesuffix("-SHARED") not in products:
            what = f"the profile has {pool.product} for {title}, but its nodes have {', '.join(sorted(products))}"
            yield Difference(what, severity=severity)


def _check_devices(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Compare the resources that the nodes of each pool advertise with the profile."""
    for pool, nodes, severity in _list_pools(observed, requirements):
        backend, title = BACKENDS[pool.backend], f"node pool {pool.name}"
        resources = backend.advertises(pool)
        if not nodes or backend.claims is not None or not resources:
            continue
        largest = max(sum(node.resources.get(name, 0) for name in resources) for node in nodes)
        (resource, per_gpu), *_ = resources.items()
        if not largest:
            yield Difference(f"no node of {title} advertises {' or '.join(resources)}", severity=severity)
        elif not backend.partitioned and pool.devices and largest != pool.devices * per_gpu:
            gpus = count_noun(pool.devices, "GPU")
            shares = f"{gpus} with {per_gpu} shares each" if per_gpu > 1 else gpus
            what = f"a node of {title} advertises {largest} {resource}, but the profile has {shares}"
            yield Difference(what, severity=severity)


def _list_pools(
    observed: ObservedCluster, requirements: SpecRequirements
) -> Iterator[tuple[NodePool, list[GpuNode], Severity]]:
    """Yield the pools to check, each with its nodes, and the severity of a difference: a warning if no spec uses the pool."""
    live = observed.list_objects(kube.NODE)
    if live is None:
        return
    nodes = [make_gpu_node(node, observed) for node in live]
    used = {plan.pool.name for plan in requirements.plans if plan.pool is not None and plan.gpu is not None}
    for pool in requirements.profile.spec.node_pools:
        members = [node for node in nodes if pool.selector.items() <= node.labels.items()]
        # A pool that is neither used nor has a product may be one without GPUs: that of the built-in profile, for example.
        if (pool.product or pool.name in used) if members else pool.node_autoscaler is None:
            yield pool, members, "error" if requirements.specs is None or pool.name in used else "warning"


def _check_device_classes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Report missing device classes of node pools and workloads."""
    pools = requirements.profile.spec.node_pools if requirements.specs is None else ()
    needed = {
        pool.device_class: f"node pool {pool.name}" for pool in pools if BACKENDS[pool.backend].claims is not None
    }
    for workload, parts in _list_device_parts(requirements):
        for template in parts.get("objects", ()):
            needed |= dict.fromkeys(of_claim.list_classes(template["spec"]), workload)
    classes = observed.list_objects(kube.DEVICE_CLASS) if needed else None
    for name, user in needed.items() if classes is not None else ():
        if find_by_name(classes or (), name) is None:
            yield Difference(f"device class {name} not found, but {user} needs it")


def _check_device_resources(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Report extended resources of workloads that no device class and no node provides."""
    needed = {
        name: workload for workload, parts in _list_device_parts(requirements) for name in parts.get("limits", ())
    }
    classes = observed.list_objects(kube.DEVICE_CLASS) if needed else None
    nodes = observed.list_objects(kube.NODE) if needed else None
    if classes is None or nodes is None:
        return
    provided = {name for obj in classes for name in of_claim.list_resources(obj)}
    provided |= {name for node in nodes for name in get_at(node, "status", "allocatable", default={})}
    for name, user in needed.items():
        if name not in provided:
            yield Difference(
                f"no device class has extendedResourceName {name}, and no node provides it, but {user} requests it"
            )


def _list_device_parts(requirements: SpecRequirements) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each workload with a request for devices that a DRA driver allocates, and the parts of its pod."""
    for plan in requirements.plans:
        for ask in list_pool_requests(plan):
            backend = BACKENDS[ask.pool.backend]
            if backend.claims is not None:
                yield f"workload {ask.workload}", backend.patch(ask).parts


def _check_scheduler(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    if not observed.serves("kai"):
        yield Difference(
            "KAI-Scheduler is not installed, but the profile uses it to schedule pods or to enforce quotas"
        )


def _check_kai(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Compare gang scheduling and GPU sharing with the profile."""
    scheduling = requirements.profile.spec.scheduling
    if not observed.list_objects(kube.DEPLOYMENT, KAI_NAMESPACE):
        return
    live = observe_kai(observed)
    declared = {
        "gangScheduleKnative": scheduling.kai.gang_schedule_knative,
        "sharingMode": scheduling.kai.sharing_mode,
    }
    for field, setting in declared.items():
        if live[field] != setting:
            value = json.dumps(live[field]).strip('"')
            yield Difference(
                f"KAI-Scheduler has {field} {value}, but the profile has {json.dumps(setting)}",
                f"set scheduling.kai.{field}: {value} in the profile, or change KAI's Helm values",
            )


def _check_reservations(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
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
        yield Difference(f"KAI-Scheduler has no reservation for the GPU of {', '.join(sorted(names))}")


def _check_runtime_class(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Check that the RuntimeClass exists that KAI's webhook sets on pods with a GPU."""
    deployments = observed.list_objects(kube.DEPLOYMENT, KAI_NAMESPACE)
    classes = observed.list_objects(kube.RUNTIME_CLASS) if deployments else None
    if not deployments or classes is None:
        return
    live = observe_kai(observed)
    name, whole = read_runtime_class(deployments, live.get("version", ""))
    requested = {plan.gpu.kind for plan in requirements.plans if plan.gpu is not None}
    if requirements.applied and requested == {"devices"} and not whole:
        return
    if name and find_by_name(classes, name) is None and (whole or live["sharingMode"] != "Disabled"):
        yield Difference(
            f"RuntimeClass {name} not found, but KAI-Scheduler sets it on pods that request {'GPUs' if whole else 'a part of a GPU'}",
            "install NVIDIA's GPU operator, which creates it, or set KAI's "
            + (
                "admission.gpuPodRuntimeClassName to a RuntimeClass that exists"
                if whole
                else "admission.gpuFractionRuntimeClassName to an empty value"
            ),
        )


def _read_kueue_settings(observed: ObservedCluster) -> KueueSettings | None:
    settings = observed.read_map(KUEUE_MAP, KUEUE_NAMESPACE) or {}
    return read_settings(settings.get(KUEUE_KEY, ""), observed.kueue) if settings else None


def _check_kueue(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    if not observed.serves("kueue"):
        yield Difference(
            "Kueue is not installed, or does not serve kueue.x-k8s.io/v1beta2, but the profile uses it to enforce quotas"
        )


def _check_kueue_frameworks(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    settings = _read_kueue_settings(observed)
    if settings is not None and POD_FRAMEWORKS.isdisjoint(settings.frameworks):
        yield Difference(f"Kueue ignores the pods of services: its integrations are {', '.join(settings.frameworks)}")


def _check_kueue_namespaces(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    settings = _read_kueue_settings(observed)
    if settings is None:
        return
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
            yield Difference(
                f"Kueue does not manage namespace {name}: its labels do not match managedJobsNamespaceSelector"
            )


def _check_kueue_queues(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Check that the queues of the workloads' projects admit pods. An apply creates missing ones, if it manages projects."""
    projects = requirements.profile.spec.projects
    if not observed.serves("kueue"):
        return
    for name, namespace in dict.fromkeys((plan.spec.project or "", plan.namespace) for plan in requirements.plans):
        # Members of a project can read its LocalQueues only in its namespace.
        queues = Queues(observed.list_objects(kube.LOCAL_QUEUE, namespace), observed.list_objects(kube.CLUSTER_QUEUE))
        closed = queues.explain_closed(name, namespace) if name else None
        if closed is not None and not (closed.missing and projects.manage):
            yield Difference(f"Kueue admits no pods of project {name}: {closed.why}", closed.fix)


def _check_ready_timeout(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Check that Kueue does not delete pods before they have to be ready."""
    settings = _read_kueue_settings(observed)
    if settings is None or settings.ready_seconds is None:
        return
    names = [plan.name for plan in requirements.plans if find_deadline(plan) > settings.ready_seconds]
    if names:
        yield Difference(
            f"Kueue deletes pods that are not ready {settings.ready_seconds} s after their admission, which is less than the "
            f"initialization timeout of {', '.join(names)}"
        )


def _check_parent_queue(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Check the projects' parent queue: KAI ignores queues whose parent is missing, and enforces the parent's quota too."""
    projects = requirements.profile.spec.projects
    if not projects.manage or not observed.serves("kai"):
        return
    queues, name = observed.list_objects(kube.QUEUE), projects.parent_queue
    if queues is None:
        return
    parent = find_by_name(queues, name)
    if parent is None:
        yield Difference(
            f"queue {name} not found, but the profile names it as the parent of the projects' queues",
            patch=FixPatch("create", kube.QUEUE, name, body=kai.make_parent_queue(name)),
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
        yield Difference(
            f"queue {name} has a quota of 0 for {', '.join(zero)}",
            patch=FixPatch("merge", kube.QUEUE, name, body={"spec": {"resources": unlimited}}),
            severity="error" if waits or not requirements.plans else "warning",
        )


def _check_default_queue(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Check that the queue of workloads without a project has room for a non-preemptible pod.

    Upstream: KAI-Scheduler v0.12.0 pkg/podgrouper/podgrouper/plugins/defaultgrouper/default_grouper.go (the queue),
    pkg/scheduler/plugins/proportion/capacity_policy/quota_check.go (the quota of the queue and of all its parents).
    """
    plans = [
        plan
        for plan in requirements.plans
        if plan.spec.project is None and plan.scheduled and not plan.priority.preemptible
    ]
    queues = observed.list_objects(kube.QUEUE) if plans else None
    name, seen = kai.DEFAULT_QUEUE, set[str]()
    while (queue := find_by_name(queues or (), name)) is not None and name not in seen:
        seen.add(name)
        zero = _list_zero_quotas(queue)
        # Every pod requests processors and memory.
        kept = plans if {*zero} - {"gpu"} else [plan for plan in plans if zero and plan.gpu is not None]
        if kept:
            zero = zero if any(plan.gpu is not None for plan in kept) else [part for part in zero if part != "gpu"]
            yield Difference(
                f"{', '.join(plan.name for plan in kept)}: a workload without a project is in queue {kai.DEFAULT_QUEUE}, and "
                f"queue {name} has a quota of 0 for {' and '.join(zero)}"
            )
            return
        name = get_at(queue, "spec", "parentQueue", default="")


def _list_zero_quotas(queue: Object) -> list[str]:
    """Return the resources of which a queue guarantees nothing; an unset quota is 0."""
    quotas = get_at(queue, "spec", "resources", default={})
    return [resource for resource in kai.RESOURCES if get_at(quotas, resource, "quota", default=0) == 0]


def _uses_kai(profile: ProfileSpec) -> bool:
    return profile.scheduling.scheduler == KAI


def _uses_kai_queues(profile: ProfileSpec) -> bool:
    return profile.projects.quota == "kai"


def _uses_kueue(profile: ProfileSpec) -> bool:
    return profile.projects.quota == "kueue"


def _uses_cluster_classes(profile: ProfileSpec) -> bool:
    return profile.scheduling.classes_owner != "ebbtide"


def _has_gpu(plan: Plan) -> bool:
    return plan.gpu is not None


def _has_class(plan: Plan) -> bool:
    return bool(plan.priority.name)


def _always(_: Plan) -> bool:
    return True


CHECKS: Final = (
    Check("DOC012", _check_class_values),
    Check("DOC013", _find_missing_classes, needs=_uses_cluster_classes, concerns=_has_class, waits=True),
    Check("DOC158", _check_nodes, "warning"),
    Check("DOC014", _check_pools),
    Check("DOC015", _check_devices),
    Check("DOC199", _check_device_classes, concerns=_always, waits=True),
    Check("DOC200", _check_device_resources, concerns=_always, waits=True),
    Check("DOC016", _check_scheduler, needs=lambda spec: _uses_kai(spec) or _uses_kai_queues(spec), concerns=_always),
    Check("DOC138", _check_kueue, needs=_uses_kueue, concerns=_always),
    Check("DOC139", _check_kueue_frameworks, needs=_uses_kueue, concerns=_always),
    Check("DOC197", _check_kueue_namespaces, needs=_uses_kueue, concerns=_always),
    Check("DOC026", _check_parent_queue, needs=_uses_kai_queues, concerns=_always, waits=True),
    Check("DOC203", _check_default_queue, needs=_uses_kai, concerns=_always, waits=True),
    Check("DOC202", _check_kueue_queues, needs=_uses_kueue, concerns=_always, waits=True),
    Check("DOC198", _check_ready_timeout, "warning", needs=_uses_kueue),
    Check("DOC047", _check_kai, needs=_uses_kai),
    Check("DOC048", _check_runtime_class, needs=_uses_kai, concerns=_has_gpu, waits=True),
    Check("DOC206", _check_reservations),
)
