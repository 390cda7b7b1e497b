"""Projects: a namespace with a quota, which a quota backend enforces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys
from ebbtide.core.base.metrics import make_shared_evidence_query
from ebbtide.core.base.problems import Problem, offer_values
from ebbtide.core.profile.projects import (
    find_default_namespace,
    find_query_access,
    find_query_fault,
    make_project_namespace,
)
from ebbtide.core.translation.objects import Object, make_object, with_values
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import PodPatch
from ebbtide.core.translation.quotas import QUOTA_BACKENDS
from ebbtide.core.translation.quotas.backend import ProjectRequest

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: Version of the Pod Security rules in the namespaces of projects.
POD_SECURITY_VERSION: Final = "v1.34"


def choose_namespace(plan: Plan) -> str:
    """Return the namespace: the document's, else the project's by the profile's pattern, else the profile's default.

    It is empty if the deployment decides it.
    """
    metadata, project, projects = plan.inference.metadata, plan.spec.project, plan.cluster.projects
    if metadata.namespace is not None:
        return metadata.namespace
    if project is None:
        return find_default_namespace(projects)
    return make_project_namespace(projects, project)


def with_default_namespace(profile: Profile, namespace: str) -> Profile:
    """Return a profile with another default namespace, for specs that are applied; the same profile for an empty one."""
    if not namespace:
        return profile
    projects = with_values(profile.spec.projects, default_namespace=namespace)
    return with_values(profile, spec=with_values(profile.spec, projects=projects))


def check(plan: Plan) -> Iterator[Problem]:
    """Reject an unknown project, a namespace's name that is too long, forbidden queries, and what the quota backend rejects."""
    project, projects, text = plan.spec.project, plan.cluster.projects, plan.namespace
    yield from _check_queries(plan)
    if project is None:
        return
    if projects.closed and project not in projects.known:
        known = sorted(projects.known)
        message, fix = f"project {project} not found in the cluster profile", "add it to projects.known of the profile"
        fix = f"use one of {', '.join(known)}, or {fix}" if known else f"{fix}, which has no projects"
        yield Problem("PRJ001", ("spec", "project"), message, fix, fixes=offer_values(known))
    yield from QUOTA_BACKENDS[projects.quota].check(plan)
    if len(text) > 63:  # noqa: PLR2004 - Kubernetes' limit
        message = f"the project's namespace {text} has {len(text)} characters; Kubernetes allows at most 63"
        yield Problem("PRJ001", ("spec", "project"), message, "use a shorter project name")


def _check_queries(plan: Plan) -> Iterator[Problem]:
    access = find_query_access(plan.cluster.projects, plan.namespace)
    for index, item in enumerate(plan.spec.autoscaling.metrics):
        if not item.query or access == "any":
            continue
        where = f"the project of namespace {plan.namespace}" if plan.namespace else "workloads of this cluster"
        fault = find_query_fault(make_shared_evidence_query(item.query, item.pods or ""))
        fix = (
            "change the query, or ask an administrator of the cluster for queries: any in projects.known of the profile"
        )
        if access == "none":
            fault = f"{where} must not use queries"
            fix = (
                "set metric to the name of a metric instead of query, or ask an administrator of the cluster for "
                "queries: proxy in projects.known of the profile"
            )
        elif plan.cluster.metrics.prometheus_proxy is None:
            fault = f"queries of {where} need prom-label-proxy, and the profile has no address of one"
            fix = "ask an administrator of the cluster to set metrics.prometheusProxy in the profile"
        if fault:
            yield Problem("PRJ008", ("spec", "autoscaling", "metrics", index, "query"), fault, fix)


def make_project_patch(plan: Plan) -> PodPatch:
    """Return the project's objects if Ebbtide manages projects, and under KAI and Kueue the pods' queue label."""
    project, cluster = plan.spec.project, plan.cluster
    if project is None:
        return PodPatch(by="project")
    labels = {keys.KAI_QUEUE: project} if cluster.scheduling.scheduler == "kai-scheduler" else {}
    labels |= QUOTA_BACKENDS[cluster.projects.quota].labels(plan)
    return PodPatch(
        by="project",
        cause=("spec", "project"),
        labels=labels,
        objects=make_project_objects(project, plan.namespace, plan.profile) if cluster.projects.manage else [],
    )


def make_security_labels(level: str) -> dict[str, str]:
    """Return the labels of a namespace's Pod Security level.

    A version keeps an upgrade of Kubernetes from changing the rules; a cluster before it uses its own. Audit and warn also
    report a Deployment or a Job whose pods the level would reject.
    """
    return {
        f"{keys.POD_SECURITY}{mode}{part}": value
        for mode in ("enforce", "audit", "warn")
        for part, value in (("", level), ("-version", POD_SECURITY_VERSION))
    }


def make_project_objects(project: str, name: str, profile: Profile) -> list[Object]:
    """Return the project's namespace and the objects that enforce its quota."""
    projects = profile.spec.projects
    labels = {keys.PROJECT: project, keys.APP_MANAGED_BY: "ebbtide"}
    request = ProjectRequest(project, name, projects.known.get(project), profile.spec, labels)
    own = {**projects.labels, keys.PROJECT: project, **make_security_labels(projects.pod_security)}
    return [make_object("v1", "Namespace", name, labels=own), *QUOTA_BACKENDS[projects.quota].objects(request)]
