"""Checks of the namespaces that specs go to: pod security, the caller's rights, autoscalers that were left over.

Upstream: kubernetes.io/docs/concepts/security/pod-security-admission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import (
    DEPLOYMENT,
    EVENT,
    HPA,
    KNATIVE,
    KSERVE,
    NAMESPACE,
    POD,
    POD_AUTOSCALER,
    QUOTA,
    REVISION,
    kind_of,
)
from ebbtide.cluster.doctor.findings import Patch, error, fetch, warning
from ebbtide.cluster.doctor.observed import POD_SECURITY
from ebbtide.cluster.write.apply import SHARED
from ebbtide.translation import pod_security

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.doctor.findings import Finding, Wanted
    from ebbtide.cluster.doctor.observed import Observed
    from ebbtide.translation.objects import Object

#: What commands read of a workload's namespace.
READ: Final = (KNATIVE, KSERVE, REVISION, POD_AUTOSCALER, DEPLOYMENT, POD, HPA, QUOTA, EVENT)
#: What an apply does with each kind that it writes: server-side apply is a patch, and a create where nothing is.
WRITE: Final = ("get", "create", "patch")


def _security(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    projects = wanted.profile.spec.projects
    for namespace in wanted.namespaces:
        found = fetch(cluster, NAMESPACE, namespace)
        level = at(found, "metadata", "labels", POD_SECURITY, default="")
        made = any(item["kind"] == "Namespace" and item["metadata"]["name"] == namespace for item in wanted.objects)
        if found is not None and made and level and level != projects.pod_security:
            yield warning(
                "DOC022",
                f"namespace {namespace} has the pod security level {level}, and the profile says {projects.pod_security}",
                f"the next apply sets it to {projects.pod_security}",
                f"set projects.podSecurity: {level} in the profile, if that is what is meant",
            )
        if made:
            continue
        for plan in wanted.plans:
            if plan.namespace == namespace:
                for _where, rule in pod_security.refused(plan.spec, wanted.profile.spec, plan.serving, level):
                    yield error(
                        "DOC022",
                        f"namespace {namespace} has the pod security level {level}, and a pod of {plan.name} {rule.words}",
                        "its pods are refused",
                        rule.fix,
                    )


def _rights(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    """Ask for what apply does: in the namespaces of the specs, else in the caller's own.

    What several workloads share is left as it is where it is there, so only what is missing must be made.
    """
    own = [item for item in wanted.objects if item["kind"] not in SHARED or _missing(cluster, item)]
    kinds = list(dict.fromkeys(kind_of(item) for item in own)) or [KNATIVE, KSERVE]
    for namespace in wanted.namespaces or (cluster.namespace,):
        lacking = [
            f"{verb} {kind.plural}"
            for kind in kinds
            for verb in WRITE
            if not cluster.may(verb, kind, namespace if kind.namespaced else "")
        ]
        if lacking:
            yield error(
                "DOC023",
                f"you may not {', '.join(lacking)} in namespace {namespace}",
                "apply ends there, with what came before it written",
                "be made a member of the project (ebbtide project create --member), and let projects.manage be false "
                "where namespaces, quotas and classes are somebody else's",
            )
        unseen = [kind.plural for kind in READ if not cluster.may("list", kind, namespace)]
        if unseen:
            yield warning(
                "DOC023",
                f"you may not list {', '.join(unseen)} in namespace {namespace}",
                "list, describe and why cannot say what becomes of a workload",
                "be made a member of the project (ebbtide project create --member)",
            )


def _missing(cluster: Cluster, item: Object) -> bool:
    metadata = item["metadata"]
    return fetch(cluster, kind_of(item), metadata["name"], metadata.get("namespace", "")) is None


def _orphans(cluster: Cluster, seen: Observed, _: Wanted) -> Iterator[Finding]:
    """Find HPAs of ours whose Deployment is gone."""
    for item in seen.hpas or ():
        metadata = item["metadata"]
        if at(metadata, "labels", keys.APP_MANAGED_BY) != "ebbtide" or metadata.get("ownerReferences"):
            continue
        target = str(at(item, "spec", "scaleTargetRef", "name", default=""))
        if fetch(cluster, DEPLOYMENT, target, metadata["namespace"]) is None:
            name = f"{metadata['namespace']}/{metadata['name']}"
            yield warning(
                "DOC024",
                f"HPA {name} scales Deployment {target}, which is not there",
                "it asks for metrics every 15 s for nothing, and would take hold of a new Deployment of that name",
                "delete it, unless its workload is suspended or about to come",
                Patch("delete", HPA, metadata["name"], metadata["namespace"]),
            )


CHECKS: Final = (_security, _rights, _orphans)
