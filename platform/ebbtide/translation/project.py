"""Projects: a namespace with a quota.

Upstream: Kubernetes ResourceQuota scoped by PriorityClass, k8s.io/kubernetes pkg/quota/v1/evaluator/core/resource_claims.go
(the resource names of claims, which no scope covers); KAI-Scheduler pkg/apis/scheduling/v2/queue_types.go
(gpu in devices, cpu in millicores, memory in MB; an unset limit allows nothing), pkg/scheduler/cache/cluster_info/queue.go
(a queue without its parent) and pkg/scheduler/actions/utils/input_jobs.go (only leaf queues accept pods).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, quantities
from ebbtide.base.problems import Problem
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.pods import PodPatch
from ebbtide.translation.priority import NON_PREEMPTIBLE, find_missing_default, list_level_classes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import Profile, ProfileSpec, Project
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan, Serving

UNLIMITED: Final = -1
#: The resources of a KAI queue.
RESOURCES: Final = ("cpu", "gpu", "memory")
#: The names of a project's ResourceQuotas: for non-preemptible pods, and for resource claims.
QUOTAS: Final = ("ebbtide-guaranteed", "ebbtide-claims")
#: Default requests under a quota on CPU and memory, for containers without requests: Knative's queue-proxy has no memory request.
DEFAULT_REQUEST: Final = {"cpu": "25m", "memory": "128Mi"}


def choose_namespace(inference: Inference, cluster: ProfileSpec) -> str:
    """Return the namespace: the document's, else the project's by the profile's pattern, else the profile's default."""
    if inference.metadata.namespace is not None:
        return inference.metadata.namespace
    project = inference.spec.project
    if project is None:
        return cluster.projects.default_namespace
    return cluster.projects.namespace.replace("{project}", project)


def check(plan: Plan) -> Iterator[Problem]:
    """Reject a project that is not in the profile, has the name of the parent queue, or whose namespace's name is too long."""
    project, projects, text = plan.spec.project, plan.cluster.projects, plan.namespace
    if project is None:
        return
    if projects.closed and project not in projects.known:
        yield Problem(
            "PRJ001",
            ("spec", "project"),
            f"project {project} not found in the cluster profile",
            f"use one of {', '.join(sorted(projects.known))}, or add it to projects.known of the profile"
            if projects.known
            else "add it to projects.known of the profile, which has no projects",
        )
    if projects.quota == "kai" and project == projects.parent_queue:
        yield Problem(
            "PRJ007",
            ("spec", "project"),
            f"project {project} has the name of the projects' parent queue, and a queue cannot be its own parent",
            "use another project, or set projects.parentQueue in the profile to another queue",
        )
    if len(text) > 63:  # noqa: PLR2004 - Kubernetes' limit
        yield Problem(
            "PRJ001",
            ("spec", "project"),
            f"the project's namespace {text} has {len(text)} characters; Kubernetes allows at most 63",
            "use a shorter project name",
        )


def make_project_patch(plan: Plan) -> PodPatch:
    """Return the project's objects if Ebbtide manages projects, and under KAI the pods' queue label."""
    project, cluster = plan.spec.project, plan.cluster
    if project is None:
        return PodPatch(by="project")
    labels = {keys.KAI_QUEUE: project} if cluster.scheduling.scheduler == "kai-scheduler" else {}
    return PodPatch(
        by="project",
        cause=("spec", "project"),
        labels=labels,
        objects=make_project_objects(project, plan.namespace, plan.profile) if cluster.projects.manage else [],
    )


def make_project_objects(project: str, name: str, profile: Profile) -> list[Object]:
    """Return the project's namespace and the objects that enforce its quota."""
    projects = profile.spec.projects
    quota = projects.known.get(project)
    labels = {keys.PROJECT: project, keys.APP_MANAGED_BY: "ebbtide"}
    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    **projects.labels,
                    keys.PROJECT: project,
                    "pod-security.kubernetes.io/enforce": projects.pod_security,
                },
            },
        }
    ]
    if projects.quota == "kai":
        objects.append(_make_queue(project, quota, profile.spec))
    elif projects.quota == "resourcequota" and quota is not None:
        objects.extend(_make_quotas(name, labels, quota, profile.spec))
    return objects


def _make_queue(project: str, known: Project | None, cluster: ProfileSpec) -> Object:
    weight = 1 if known is None else known.over_quota_weight
    over_quota = known is None or known.over_quota

    def part(amount: float | None) -> dict[str, Any]:
        quota = UNLIMITED if amount is None else amount
        return {"quota": quota, "limit": UNLIMITED if over_quota else quota, "overQuotaWeight": weight}

    memory = quantities.parse_whole_quantity(known.memory) if known is not None and known.memory is not None else None
    return {
        "apiVersion": "scheduling.run.ai/v2",
        "kind": "Queue",
        "metadata": {"name": project, "labels": {keys.PROJECT: project, keys.APP_MANAGED_BY: "ebbtide"}},
        "spec": {
            "displayName": project,
            "parentQueue": cluster.projects.parent_queue,
            "resources": {
                "cpu": part(
                    None if known is None or known.cpu is None else quantities.drop_zero_fraction(known.cpu * 1000)
                ),
                "gpu": part(None if known is None or known.gpus is None else quantities.drop_zero_fraction(known.gpus)),
                "memory": part(None if memory is None else -(-memory // 10**6)),
            },
        },
    }


def make_parent_queue(name: str) -> Object:
    """Return the parent of the projects' queues, without quota or limit.

    A quota of 0, which KAI's chart sets for its own parent queue, would keep every non-preemptible workload from being scheduled
    (pkg/scheduler/plugins/proportion/capacity_policy/quota_check.go checks every ancestor queue).
    """
    open_ = {"quota": UNLIMITED, "limit": UNLIMITED, "overQuotaWeight": 1}
    return {
        "apiVersion": "scheduling.run.ai/v2",
        "kind": "Queue",
        "metadata": {"name": name, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "spec": {"resources": {part: dict(open_) for part in RESOURCES}},
    }


def _make_quotas(name: str, labels: dict[str, str], known: Project, cluster: ProfileSpec) -> Iterator[Object]:
    hard: dict[str, str] = {}
    claims: dict[str, str] = {}
    if known.cpu is not None:
        hard["requests.cpu"] = quantities.format_cores(known.cpu)
    if known.memory is not None:
        hard["requests.memory"] = known.memory
    if known.gpus is not None:
        for pool in cluster.node_pools:
            backend = BACKENDS[pool.backend]
            for resource, per_gpu in (backend.quota or backend.advertises)(pool).items():
                amount = str(int(known.gpus * per_gpu + 1e-9))
                if backend.claims is not None:
                    claims.setdefault(resource, amount)
                else:
                    hard.setdefault(f"requests.{resource}", amount)
    if claims:
        # A claim has no priority class, so a quota with a PriorityClass scope would not count it.
        yield {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": QUOTAS[1], "namespace": name, "labels": labels},
            "spec": {"hard": claims},
        }
    if not hard:
        return
    yield {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": QUOTAS[0], "namespace": name, "labels": labels},
        "spec": {"hard": hard, **_make_scope(cluster)},
    }
    if "requests.cpu" in hard or "requests.memory" in hard:
        yield {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "ebbtide", "namespace": name, "labels": labels},
            "spec": {"limits": [{"type": "Container", "defaultRequest": DEFAULT_REQUEST}]},
        }


def counts_every_pod(cluster: ProfileSpec) -> bool:
    """Return whether a ResourceQuota counts every pod, since pods that request no class have none that it could select."""
    serving: Serving = "knative" if cluster.knative.installed else "kserve-standard"
    return cluster.projects.quota == "resourcequota" and bool(find_missing_default(cluster, serving))


def _make_scope(cluster: ProfileSpec) -> Object:
    """Return the scope of a quota: only non-preemptible classes. Preemptible pods may use what is left."""
    if counts_every_pod(cluster):
        return {}
    classes = [name for name, value in cluster.scheduling.classes.items() if value >= NON_PREEMPTIBLE]
    levels = [level.name for level in list_level_classes() if not level.preemptible]
    rule = {"scopeName": "PriorityClass", "operator": "In", "values": sorted(classes + levels)}
    return {"scopeSelector": {"matchExpressions": [rule]}}
