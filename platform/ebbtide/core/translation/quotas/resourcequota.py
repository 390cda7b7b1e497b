"""Kubernetes ResourceQuotas, which reject pods above the quota.

Upstream: k8s.io/kubernetes pkg/quota/v1/evaluator/core (a quota scoped by PriorityClass),
pkg/quota/v1/evaluator/core/resource_claims.go (the resource names of claims, which no scope covers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import quantities
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.plan import Serving
from ebbtide.core.translation.priority import NON_PREEMPTIBLE, find_missing_default, list_level_classes
from ebbtide.core.translation.quotas.backend import ProjectRequest, QuotaBackend, list_gpu_amounts

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

#: The names of a project's ResourceQuotas: for non-preemptible pods, and for resource claims.
QUOTAS: Final = ("ebbtide-guaranteed", "ebbtide-claims")
#: Default requests under a quota on CPU and memory, for containers without requests: Knative's queue-proxy has no memory request.
DEFAULT_REQUEST: Final = {"cpu": "25m", "memory": "128Mi"}


def make_quotas(project: ProjectRequest) -> Iterator[Object]:
    """Yield the ResourceQuotas of a project that the profile lists, and the default requests that they need."""
    known, cluster = project.known, project.cluster
    if known is None:
        return
    hard: dict[str, str] = {}
    claims: dict[str, str] = {}
    if known.cpu is not None:
        hard["requests.cpu"] = quantities.format_cores(known.cpu)
    if known.memory is not None:
        hard["requests.memory"] = known.memory
    for backend, resource, amount in list_gpu_amounts(project):
        if backend.claims is not None:
            claims.setdefault(resource, amount)
        else:
            hard.setdefault(f"requests.{resource}", amount)
    if claims:
        # A claim has no priority class, so a quota with a PriorityClass scope would not count it.
        yield _make_namespaced("ResourceQuota", QUOTAS[1], {"hard": claims}, project)
    if not hard:
        return
    yield _make_namespaced("ResourceQuota", QUOTAS[0], {"hard": hard, **_make_scope(cluster)}, project)
    if "requests.cpu" in hard or "requests.memory" in hard:
        yield make_limit_range(project)


def make_limit_range(project: ProjectRequest) -> Object:
    """Return the default requests of containers without any, so that a quota on CPU or memory can count them."""
    limits = [{"type": "Container", "defaultRequest": DEFAULT_REQUEST}]
    return _make_namespaced("LimitRange", "ebbtide", {"limits": limits}, project)


def _make_namespaced(kind: str, name: str, spec: Object, project: ProjectRequest) -> Object:
    return make_object("v1", kind, name, spec, namespace=project.namespace, labels=project.labels)


def counts_every_pod(cluster: ProfileSpec) -> bool:
    """Return whether a ResourceQuota counts every pod, since pods that request no class have none that it could select."""
    serving: Serving = "knative" if cluster.knative.installed else "kserve-standard"
    return bool(find_missing_default(cluster, serving))


def _make_scope(cluster: ProfileSpec) -> Object:
    """Return the scope of a quota: only non-preemptible classes. Preemptible pods may use what is left."""
    if counts_every_pod(cluster):
        return {}
    classes = [name for name, value in cluster.scheduling.classes.items() if value >= NON_PREEMPTIBLE]
    levels = [level.name for level in list_level_classes() if not level.preemptible]
    rule = {"scopeName": "PriorityClass", "operator": "In", "values": sorted(classes + levels)}
    return {"scopeSelector": {"matchExpressions": [rule]}}


BACKEND = QuotaBackend(
    about=__doc__,
    name="resourcequota",
    objects=make_quotas,
    counts_preemptible=lambda cluster, _: counts_every_pod(cluster),
    counts_claims=True,
    default_request=DEFAULT_REQUEST,
    tested="kube-scheduler 1.37.2",
)
