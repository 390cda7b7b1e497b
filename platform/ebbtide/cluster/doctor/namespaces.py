"""Checks of the specs' namespaces: pod security, the caller's permissions, leftover autoscalers.

Upstream: kubernetes.io/docs/concepts/security/pod-security-admission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from ebbtide.cluster.doctor.findings import FixPatch, fetch_or_none, make_error_finding, make_warning_finding
from ebbtide.cluster.doctor.observed import POD_SECURITY
from ebbtide.cluster.write.apply import is_shared
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation import pod_security

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.doctor.findings import Finding, SpecRequirements
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.translation.objects import Object

#: Kinds that commands list in a workload's namespace.
READ: Final = (KNATIVE, KSERVE, REVISION, POD_AUTOSCALER, DEPLOYMENT, POD, HPA, QUOTA, EVENT)
#: Verbs that an apply needs for each kind it writes: server-side apply is a patch, or a create if the object does not exist.
WRITE: Final = ("get", "create", "patch")


def _check_pod_security(cluster: Cluster, _: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    projects = requirements.profile.spec.projects
    for namespace in requirements.namespaces:
        live = fetch_or_none(cluster, NAMESPACE, namespace)
        level = get_at(live, "metadata", "labels", POD_SECURITY, default="")
        managed = any(
            obj["kind"] == "Namespace" and obj["metadata"]["name"] == namespace for obj in requirements.objects
        )
        if live is not None and managed and level and level != projects.pod_security:
            yield make_warning_finding(
                "DOC022",
                f"namespace {namespace} enforces pod security level {level}, but the profile has {projects.pod_security}",
                f"the next apply sets it to {projects.pod_security}",
                f"to keep {level}, set projects.podSecurity: {level} in the profile",
            )
        if managed:
            continue
        for plan in requirements.plans:
            if plan.namespace == namespace:
                for _where, rule in pod_security.find_refused_fields(
                    plan.spec, requirements.profile.spec, plan.serving, level
                ):
                    yield make_error_finding(
                        "DOC022",
                        f"namespace {namespace} enforces pod security level {level}, but a pod of {plan.name} {rule.words}",
                        "its pods are rejected",
                        rule.fix,
                    )


def _check_permissions(cluster: Cluster, _: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Check the permissions for an apply in the namespaces of the specs, or in the caller's own without specs.

    An apply does not change shared objects that exist, so it needs permissions only for the missing ones.
    """
    written = [obj for obj in requirements.objects if not is_shared(obj) or _is_missing(cluster, obj)]
    kinds = list(dict.fromkeys(kind_of(obj) for obj in written)) or [KNATIVE, KSERVE]
    for namespace in requirements.namespaces or (cluster.namespace,):
        forbidden = [
            f"{verb} {kind.plural}"
            for kind in kinds
            for verb in WRITE
            if not cluster.is_allowed(verb, kind, namespace if kind.namespaced else "")
        ]
        if forbidden:
            yield make_error_finding(
                "DOC023",
                f"forbidden in namespace {namespace}: {', '.join(forbidden)}",
                "apply stops at the first forbidden object, after it has written the objects before it",
                "ask a cluster administrator to add you to the project (ebbtide project create --member), and set "
                "projects.manage: false in the profile if administrators manage namespaces, quotas and priority classes",
            )
        hidden = [kind.plural for kind in READ if not cluster.is_allowed("list", kind, namespace)]
        if hidden:
            yield make_warning_finding(
                "DOC023",
                f"forbidden in namespace {namespace}: list {', '.join(hidden)}",
                "list, describe and why cannot report the full state of a workload",
                "ask a cluster administrator to add you to the project (ebbtide project create --member)",
            )


def _is_missing(cluster: Cluster, obj: Object) -> bool:
    metadata = obj["metadata"]
    return fetch_or_none(cluster, kind_of(obj), metadata["name"], metadata.get("namespace", "")) is None


def _check_orphaned_hpas(cluster: Cluster, observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Find HPAs that Ebbtide created and whose Deployment no longer exists."""
    for hpa in observed.hpas or ():
        metadata = hpa["metadata"]
        if get_at(metadata, "labels", keys.APP_MANAGED_BY) != "ebbtide" or metadata.get("ownerReferences"):
            continue
        target = str(get_at(hpa, "spec", "scaleTargetRef", "name", default=""))
        if fetch_or_none(cluster, DEPLOYMENT, target, metadata["namespace"]) is None:
            name = f"{metadata['namespace']}/{metadata['name']}"
            yield make_warning_finding(
                "DOC024",
                f"HPA {name} scales Deployment {target}, which does not exist",
                "the HPA queries metrics every 15 s to no effect, and would scale any new Deployment of that name",
                "delete the HPA, unless its workload is suspended or about to be created",
                FixPatch("delete", HPA, metadata["name"], metadata["namespace"]),
            )


CHECKS: Final = (_check_pod_security, _check_permissions, _check_orphaned_hpas)
