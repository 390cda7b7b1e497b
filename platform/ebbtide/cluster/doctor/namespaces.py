"""Checks of the specs' namespaces: pod security, the caller's permissions, images that nodes pull in advance.

Upstream: kubernetes.io/docs/concepts/security/pod-security-admission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.doctor.findings import Check, Difference
from ebbtide.cluster.doctor.observed import POD_SECURITY
from ebbtide.cluster.read.pods import find_trouble
from ebbtide.cluster.write.apply import is_shared
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation import pod_security

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.doctor.findings import SpecRequirements
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.translation.objects import Object

#: Kinds that commands list in a workload's namespace.
READ: Final = (
    *(kube.KNATIVE, kube.KSERVE, kube.REVISION, kube.POD_AUTOSCALER, kube.DEPLOYMENT),
    *(kube.POD, kube.HPA, kube.QUOTA, kube.EVENT),
)
#: Verbs that an apply needs for each kind it writes: server-side apply is a patch, or a create if the object does not exist.
WRITE: Final = ("get", "create", "patch")


def _check_pod_security(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    for namespace in requirements.namespaces:
        if any(obj["kind"] == "Namespace" and obj["metadata"]["name"] == namespace for obj in requirements.objects):
            # An apply sets the level of the profile.
            continue
        level = get_at(observed.fetch(kube.NAMESPACE, namespace), "metadata", "labels", POD_SECURITY, default="")
        for plan in requirements.plans:
            if plan.namespace == namespace:
                for _where, rule in pod_security.find_refused_fields(
                    plan.spec, requirements.profile.spec, plan.serving, level
                ):
                    yield Difference(
                        f"namespace {namespace} enforces pod security level {level}, but a pod of {plan.name} {rule.words}",
                        rule.fix,
                    )


def _check_permissions(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Check the permissions for an apply in the namespaces of the specs, or in the caller's own without specs.

    An apply does not change shared objects that exist, so it needs permissions only for the missing ones.
    """
    written = [obj for obj in requirements.objects if not is_shared(obj) or _is_missing(observed, obj)]
    kinds = list(dict.fromkeys(kube.kind_of(obj) for obj in written)) or [kube.KNATIVE, kube.KSERVE]
    for namespace in requirements.namespaces or (observed.cluster.namespace,):
        forbidden = [
            f"{verb} {kind.plural}"
            for kind in kinds
            for verb in WRITE
            if not observed.cluster.is_allowed(verb, kind, namespace if kind.namespaced else "")
        ]
        if forbidden:
            yield Difference(f"forbidden in namespace {namespace}: {', '.join(forbidden)}")
        hidden = [kind.plural for kind in READ if not observed.cluster.is_allowed("list", kind, namespace)]
        if hidden:
            yield Difference(f"forbidden in namespace {namespace}: list {', '.join(hidden)}", severity="warning")


def _check_images(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Report nodes that cannot pull an image in advance, which the replicas on other nodes do not show."""
    for namespace in requirements.namespaces or (observed.cluster.namespace,):
        if not observed.cluster.is_allowed("list", kube.POD, namespace):
            continue
        troubles: dict[str, list[str]] = {}
        for pod in observed.list_objects(kube.POD, namespace, labels=f"{keys.APP_MANAGED_BY}=ebbtide") or ():
            owner = get_at(pod, "metadata", "ownerReferences", 0, default={})
            trouble = find_trouble(pod)
            if owner.get("kind") == kube.DAEMON_SET.name and trouble is not None:
                troubles.setdefault(owner["name"], []).append(trouble.words)
        for name, causes in troubles.items():
            yield Difference(
                f"DaemonSet {name} in {namespace} is not ready on {count_noun(len(causes), 'node')}: {causes[0]}",
                f"see kubectl describe pod -l {keys.APP_NAME}={name} -n {namespace}; to mount an image, a node needs containerd 2.1 "
                "or CRI-O 1.31",
            )


def _is_missing(observed: ObservedCluster, obj: Object) -> bool:
    metadata = obj["metadata"]
    return observed.fetch(kube.kind_of(obj), metadata["name"], metadata.get("namespace", "")) is None


CHECKS: Final = (
    Check("DOC022", _check_pod_security),
    Check("DOC023", _check_permissions),
    Check("DOC208", _check_images, "warning"),
)
