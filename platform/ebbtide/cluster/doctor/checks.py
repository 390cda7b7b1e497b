"""What a cluster lacks for a profile and its specs: findings with what they mean, what to do, and the patch that does it.

A profile is a promise that translation relies on. Each check compares one part of it with what was observed, in both
directions: what the profile says and the cluster is not would be refused or ignored there; what the cluster is and the
profile does not say makes answers about it wrong. Nothing is written but by ``mend``. The checks are in modules by theme:
``installation``, ``scheduling``, ``network``, ``namespaces``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys
from ebbtide.cluster.client.protocol import CLUSTER_ROLE
from ebbtide.cluster.doctor import installation, namespaces, network, scheduling
from ebbtide.cluster.doctor.findings import Wanted
from ebbtide.cluster.doctor.observed import KSERVE_MAP, MAPS, Observed, observe, profile_of
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.doctor.findings import Finding, Patch
    from ebbtide.profile.models import Profile
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object

OBSERVER_ROLE: Final = "ebbtide-observer"
_LOOK: Final = ["get", "list"]
#: What doctor reads of a whole cluster: settings, nodes and what workloads may name; no Secret, and of ConfigMaps these alone.
OBSERVER_RULES: Final[list[Object]] = [
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [*(f"config-{part}" for part in (*MAPS, "domain")), KSERVE_MAP],
        "verbs": ["get"],
    },
    {"apiGroups": [""], "resources": ["nodes", "namespaces", "services", "resourcequotas"], "verbs": _LOOK},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _LOOK},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": _LOOK},
    {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": _LOOK},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _LOOK},
    {"apiGroups": ["networking.internal.knative.dev"], "resources": ["clusterdomainclaims"], "verbs": _LOOK},
    {"apiGroups": ["serving.kserve.io"], "resources": ["clusterservingruntimes"], "verbs": _LOOK},
    {"apiGroups": ["scheduling.run.ai"], "resources": ["queues"], "verbs": _LOOK},
]
#: Checks of what was observed, and those that read more of the cluster.
CHECKS: Final[tuple[Callable[[Observed, Wanted], Iterator[Finding]], ...]] = (
    *installation.CHECKS,
    *scheduling.CHECKS,
)
READING_CHECKS: Final[tuple[Callable[[Cluster, Observed, Wanted], Iterator[Finding]], ...]] = (
    *network.CHECKS,
    *namespaces.CHECKS,
)


def examine(
    cluster: Cluster, profile: Profile, specs: Sequence[Inference] | None = None, observed: Observed | None = None
) -> tuple[Finding, ...]:
    """Return everything that is not as a profile says, or that specs lack; errors first. Nothing is written.

    Raises:
        UnreachableError: nobody answers.

    """
    seen = observe(cluster) if observed is None else observed
    wanted = _wanted(profile, specs)
    found = [finding for check in CHECKS for finding in check(seen, wanted)]
    found += [finding for check in READING_CHECKS for finding in check(cluster, seen, wanted)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def observed_profile(cluster: Cluster) -> dict[str, Any]:
    """Return the profile of a live cluster, as a document. ``examine`` has nothing to say of the two together."""
    return profile_of(observe(cluster))


def mend(cluster: Cluster, patch: Patch, *, dry_run: bool = False) -> None:
    """Do what mends a finding, as manager ``ebbtide-live``; what a map has beside the patch's keys stays.

    Raises:
        ClusterError: the cluster does not let it.

    """
    match patch.action:
        case "merge":
            cluster.patch(patch.kind, patch.name, patch.namespace, patch.body, dry_run=dry_run)
        case "create" if dry_run:
            cluster.apply(patch.body, dry_run=True)
        case "create":
            cluster.create(patch.body)
        case _ if not dry_run:
            cluster.delete(patch.kind, patch.name, patch.namespace)


def observer_role() -> Object:
    """Return the ClusterRole that lets doctor see all; kustomize/roles has it."""
    return {
        "apiVersion": CLUSTER_ROLE.api_version,
        "kind": CLUSTER_ROLE.name,
        "metadata": {"name": OBSERVER_ROLE, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "rules": OBSERVER_RULES,
    }


def _wanted(profile: Profile, specs: Sequence[Inference] | None) -> Wanted:
    if specs is None:
        return Wanted(profile, None)
    made = [translate(spec, profile, "{}") for spec in specs]
    return Wanted(
        profile,
        tuple(specs),
        tuple(each.plan for each in made if each.plan is not None),
        tuple(item for each in made for item in each.objects),
        tuple(
            (str(spec.metadata.name), f"{found.code} {found.path}: {found.message}")
            for spec, each in zip(specs, made, strict=True)
            for found in [problem for problem in each.problems if problem.severity == "error"][:1]
        ),
    )
