"""Kueue queues, which hold pods back until the quota of their project admits them.

Kueue counts each pod as a separate Workload: it adds a scheduling gate to the pod and removes it on admission. Knative copies the
queue label to the Deployment of a revision too, whose webhook only passes it on to the pods. A service that is scaled to zero
uses no quota, and its first pod waits for admission again.

Upstream: kubernetes-sigs/kueue v0.17.0 apis/kueue/v1beta2 (ClusterQueue, LocalQueue, ResourceFlavor),
pkg/controller/jobs/pod/pod_webhook.go and pkg/controller/jobs/deployment/deployment_webhook.go (the queue label of pods),
pkg/util/priority/priority.go (a pod's priority class is its priority), pkg/scheduler/flavorassigner/flavorassigner.go (a
resource that no ClusterQueue covers), pkg/controller/core/workload_controller.go (resource claims),
pkg/controller/jobs/pod/pod_controller.go (pods beyond a group's total count are deleted).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import ERROR, Path, Problem, remove_field
from ebbtide.core.translation.gpu import BACKENDS, list_pool_requests
from ebbtide.core.translation.gpu.backend import Backend, PoolRequest
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.quotas.backend import ProjectRequest, QuotaBackend, list_gpu_amounts
from ebbtide.core.translation.quotas.resourcequota import DEFAULT_REQUEST, make_limit_range

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

API: Final = "kueue.x-k8s.io/v1beta2"
#: The ResourceFlavor of all projects. It selects no nodes, since the node pools of a spec do.
FLAVOR: Final = "ebbtide"
#: The amount of a resource without a quota: Kueue requires a number, and rejects a pod whose resource has none.
UNLIMITED: Final = {"memory": "1Pi", "ephemeral-storage": "1Pi"}
UNLIMITED_COUNT: Final = "1G"
#: Labels and annotations of a group of pods, which must have a fixed number of pods.
GROUP_KEYS: Final = ("kueue.x-k8s.io/pod-group-name", "kueue.x-k8s.io/pod-group-total-count")


def make_queues(project: ProjectRequest) -> Iterator[Object]:
    """Yield the flavor, the ClusterQueue with the quota, the namespace's LocalQueue, and the default requests.

    The projects' ClusterQueues are in the cohort ``projects.parentQueue``, in which they lend each other unused quota. An
    amount without a quota is not lent.
    """
    known, projects = project.known, project.cluster.projects
    managed = {keys.APP_MANAGED_BY: "ebbtide"}
    yield make_object(API, "ResourceFlavor", FLAVOR, labels=managed)
    quotas = [
        _make_quota(resource, amount, borrows=known is None or known.over_quota)
        for resource, amount in _list_amounts(project).items()
    ]
    covered = [quota["name"] for quota in quotas]
    spec = {
        "cohortName": projects.parent_queue,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": project.namespace}},
        "preemption": {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"},
        "resourceGroups": [{"coveredResources": covered, "flavors": [{"name": FLAVOR, "resources": quotas}]}],
        "fairSharing": {"weight": str(1 if known is None else known.over_quota_weight)},
    }
    yield make_object(API, "ClusterQueue", project.name, spec, labels=project.labels)
    queue = {"clusterQueue": project.name}
    yield make_object(API, "LocalQueue", project.name, queue, namespace=project.namespace, labels=project.labels)
    if known is not None and (known.cpu is not None or known.memory is not None):
        yield make_limit_range(project)


def _make_quota(resource: str, amount: str | None, *, borrows: bool) -> dict[str, Any]:
    if amount is None:
        return {"name": resource, "nominalQuota": UNLIMITED.get(resource, UNLIMITED_COUNT), "lendingLimit": "0"}
    return {"name": resource, "nominalQuota": amount, **({} if borrows else {"borrowingLimit": "0"})}


def _list_amounts(project: ProjectRequest) -> dict[str, str | None]:
    """Return the quota by resource that the pods of a project can request, None for no quota."""
    known = project.known
    amounts: dict[str, str | None] = dict.fromkeys(list_covered_resources(project.cluster))
    if known is None:
        return amounts
    if known.cpu is not None:
        amounts["cpu"] = quantities.format_cores(known.cpu)
    amounts["memory"] = known.memory
    for backend, resource, amount in list_gpu_amounts(project):
        if backend.claims is None and amounts[resource] is None:
            amounts[resource] = amount
    return amounts


def list_covered_resources(cluster: ProfileSpec) -> list[str]:
    """Return the resources of the projects' ClusterQueues: CPU, memory, local storage, and those of the node pools' GPUs."""
    resources = ["cpu", "memory", "ephemeral-storage"]
    for pool in cluster.node_pools:
        backend = BACKENDS[pool.backend]
        if backend.claims is None:
            resources += [*backend.advertises(pool), *(backend.quota(pool) if backend.quota is not None else ())]
    return list(dict.fromkeys(resources))


def read_amounts(queue: Object) -> tuple[dict[str, str], bool]:
    """Return the quota of a live ClusterQueue by resource, without unlimited ones, and whether the queue may borrow."""
    amounts: dict[str, str] = {}
    borrows = True
    for group in get_at(queue, "spec", "resourceGroups", default=[]):
        for flavor in group.get("flavors", []):
            for resource in flavor.get("resources", []):
                name, amount = str(resource["name"]), str(resource["nominalQuota"])
                if amount != UNLIMITED.get(name, UNLIMITED_COUNT):
                    amounts[name] = amount
                    borrows = borrows and "borrowingLimit" not in resource
    return amounts, borrows


def check(plan: Plan) -> Iterator[Problem]:
    """Reject what Kueue never admits or does not count."""
    yield from _check_groups(plan)
    yield from _check_gpu(plan)
    if plan.cluster.projects.manage:
        yield from _check_resources(plan)


def _check_groups(plan: Plan) -> Iterator[Problem]:
    for field, entries in (("labels", plan.spec.labels), ("annotations", plan.spec.annotations)):
        for index, entry in enumerate(entries):
            if entry.name in GROUP_KEYS and not entry.exclude:
                yield Problem(
                    "PRJ088",
                    ("spec", field, index, "name"),
                    f"{entry.name} puts all pods of the workload into one group with a fixed number of pods, and Kueue deletes "
                    "the pods that an autoscaler adds to it",
                    "remove it: Kueue admits each pod of the workload separately",
                    fixes=remove_field(("spec", field, index)),
                )


def _check_gpu(plan: Plan) -> Iterator[Problem]:
    known = plan.cluster.projects.known.get(plan.spec.project or "")
    for ask in list_pool_requests(plan):
        backend = BACKENDS[ask.pool.backend]
        if backend.claims is not None:
            message = f"Kueue admits no pod with a resource claim, which node pool {ask.pool.name} needs (backend {backend.name})"
            fix = "use a node pool with another backend, or set projects.quota: resourcequota in the profile"
            yield Problem("PRJ089", ask.cause, message, fix)
        elif known is not None and known.gpus is not None and _is_annotated(backend, ask):
            message = (
                f"Kueue does not count a part of a GPU that a pod requests by annotation, as on node pool {ask.pool.name} "
                f"(backend {backend.name}), so project {plan.spec.project} would exceed its quota of GPUs"
            )
            fix = "request whole GPUs with gpuDevicesRequest, or set projects.quota: kai in the profile"
            yield Problem("PRJ089", ask.cause, message, fix)


def _is_annotated(backend: Backend, ask: PoolRequest) -> bool:
    """Return whether the pods of a request that the backend accepts have no resource that counts it."""
    if any(problem.severity == ERROR for problem in backend.check(ask)):
        return False
    return bool(backend.annotated(backend.patch(ask).parts.get("annotations", {})))


def _check_resources(plan: Plan) -> Iterator[Problem]:
    covered = list_covered_resources(plan.cluster)
    for index, item in enumerate(plan.spec.compute.extended_resources):
        if item.resource not in covered and not item.exclude:
            yield _report_resource(item.resource, ("spec", "compute", "extendedResources", index, "resource"), plan)
    for index, sidecar in enumerate(plan.spec.sidecars):
        for kind in ("requests", "limits"):
            for resource in get_at(sidecar, "resources", kind, default={}):
                if resource not in covered:
                    yield _report_resource(resource, ("spec", "sidecars", index, "resources", kind, resource), plan)


def _report_resource(resource: str, path: Path, plan: Plan) -> Problem:
    message = (
        f"the ClusterQueue of project {plan.spec.project} does not cover {resource}, and Kueue never admits such a pod"
    )
    fix = "remove it, or set projects.manage: false in the profile and create a ClusterQueue that covers it"
    # An item without its name is not valid.
    item = path[:-1] if path[-1] == "resource" else path
    return Problem("PRJ090", path, message, fix, fixes=remove_field(item))


BACKEND = QuotaBackend(
    about=__doc__,
    name="kueue",
    objects=make_queues,
    labels=lambda plan: {keys.KUEUE_QUEUE: str(plan.spec.project)},
    check=check,
    queue_label=keys.KUEUE_QUEUE,
    queue=(API, "ClusterQueue"),
    group="kueue",
    evicts=True,
    counts_preemptible=lambda _, project: project is not None and not project.over_quota,
    default_request=DEFAULT_REQUEST,
    tested="Kueue 0.17.0",
)
