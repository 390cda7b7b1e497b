"""Checks of a live cluster against a profile and specs; each finding has its effect, a fix and, where possible, a patch.

Translation relies on the profile. Each check compares one part of it with the observed cluster, in both directions: the
cluster rejects or ignores objects that use a feature which only the profile has; Ebbtide's answers are wrong about a
setting that only the cluster has. Only ``apply_fix_patch`` writes. The checks are grouped by theme in the modules
``installation``, ``scheduling``, ``resources``, ``network`` and ``namespaces``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from ebbtide.cluster.client.protocol import Cluster
from ebbtide.cluster.doctor import installation, kueue, namespaces, network, resources, scheduling
from ebbtide.cluster.doctor.findings import Finding, FixPatch, SpecRequirements
from ebbtide.cluster.doctor.observed import (
    DEFINITIONS,
    KSERVE_MAP,
    MAPS,
    ObservedCluster,
    observe_cluster,
)
from ebbtide.cluster.write.projects import make_role
from ebbtide.core.profile.models import Profile
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.translate import translate

OBSERVER_ROLE: Final = "ebbtide-observer"


def _allow_reads(group: str, *resources: str, names: Sequence[str] = ()) -> Object:
    """Return a rule that lets an account read resources, or of those only the objects with some names."""
    verbs = {"resourceNames": [*names], "verbs": ["get"]} if names else {"verbs": ["get", "list"]}
    return {"apiGroups": [group], "resources": [*resources], **verbs}


#: Everything that doctor reads cluster-wide: settings, nodes and objects that workloads refer to. No Secrets, and only these
#: ConfigMaps.
OBSERVER_RULES: Final[list[Object]] = [
    _allow_reads(
        "", "configmaps", names=[*(f"config-{part}" for part in (*MAPS, "domain")), KSERVE_MAP, kueue.KUEUE_MAP]
    ),
    _allow_reads("", "nodes", "namespaces", "services", "resourcequotas"),
    _allow_reads("apps", "deployments"),
    _allow_reads("autoscaling", "horizontalpodautoscalers"),
    _allow_reads("scheduling.k8s.io", "priorityclasses"),
    _allow_reads("node.k8s.io", "runtimeclasses"),
    _allow_reads("resource.k8s.io", "deviceclasses", "resourceslices"),
    _allow_reads("networking.k8s.io", "networkpolicies", "ingressclasses", "ingresses"),
    _allow_reads("gateway.networking.k8s.io", "gateways", "httproutes"),
    _allow_reads("networking.internal.knative.dev", "clusterdomainclaims"),
    _allow_reads("serving.kserve.io", "clusterservingruntimes"),
    _allow_reads("scheduling.run.ai", "queues"),
    _allow_reads("kueue.x-k8s.io", "clusterqueues", "localqueues"),
    _allow_reads("coordination.k8s.io", "leases"),
    _allow_reads(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        names=[path.rpartition("/")[2] for path in DEFINITIONS.values()],
    ),
    _allow_reads("ebbtide.dev", "inferences"),
    _allow_reads("run.ai", "inferenceworkloads"),
]
#: Checks that need only the observed state, and checks that read more objects from the cluster.
CHECKS: Final[tuple[Callable[[ObservedCluster, SpecRequirements], Iterator[Finding]], ...]] = (
    *installation.CHECKS,
    *scheduling.CHECKS,
    *resources.CHECKS,
)
READING_CHECKS: Final[tuple[Callable[[Cluster, ObservedCluster, SpecRequirements], Iterator[Finding]], ...]] = (
    *network.CHECKS,
    *namespaces.CHECKS,
)


def examine_cluster(
    cluster: Cluster,
    profile: Profile,
    specs: Sequence[Inference] | None = None,
    observed: ObservedCluster | None = None,
    *,
    namespace: str = "",
) -> tuple[Finding, ...]:
    """Return all differences from a profile and all requirements of specs that the cluster does not meet, errors first.

    ``namespace`` is examined like the namespaces of the specs. Read-only.

    Raises:
        UnreachableError: the cluster does not answer.

    """
    observed = observe_cluster(cluster) if observed is None else observed
    requirements = replace(_collect_requirements(profile, specs), selected=namespace)
    findings = [finding for check in CHECKS for finding in check(observed, requirements)]
    findings += [finding for check in READING_CHECKS for finding in check(cluster, observed, requirements)]
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def apply_fix_patch(cluster: Cluster, patch: FixPatch, *, dry_run: bool = False) -> None:
    """Apply the patch that fixes a finding, as field manager ``ebbtide-live``; a merge keeps a map's other keys.

    Raises:
        ClusterError: the cluster rejects the write.

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


def make_observer_role() -> Object:
    """Return the ClusterRole that grants doctor all of its reads; kustomize/roles contains the same role."""
    return make_role(OBSERVER_ROLE, OBSERVER_RULES)


def _collect_requirements(profile: Profile, specs: Sequence[Inference] | None) -> SpecRequirements:
    if specs is None:
        return SpecRequirements(profile, None)
    translations = [translate(spec, profile, "{}") for spec in specs]
    return SpecRequirements(
        profile,
        tuple(specs),
        tuple(translation.plan for translation in translations if translation.plan is not None),
        tuple(obj for translation in translations for obj in translation.objects),
        tuple(
            (str(spec.metadata.name), f"{first_error.code} {first_error.path}: {first_error.message}")
            for spec, translation in zip(specs, translations, strict=True)
            for first_error in [problem for problem in translation.problems if problem.severity == "error"][:1]
        ),
    )
