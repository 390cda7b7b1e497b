"""Checks of a live cluster against a profile and specs; each finding has its effect, a fix and, where possible, a patch.

Translation relies on the profile. Each check compares one part of it with the observed cluster, in both directions: the
cluster rejects or ignores objects that use a feature which only the profile has; Ebbtide's answers are wrong about a
setting that only the cluster has. A check is a row of ``CHECKS``; its effect and its general fix are in the section of its
code in problems.md. Only ``apply_fix_patch`` writes. The checks are grouped by theme in the modules ``installation``,
``scheduling``, ``network`` and ``namespaces``. What they read cluster-wide is in the rules of
``kustomize/roles/observer.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from ebbtide.cluster.client.protocol import Cluster
from ebbtide.cluster.doctor import installation, namespaces, network, scheduling
from ebbtide.cluster.doctor.findings import Check, Finding, FixPatch, SpecRequirements, run_checks
from ebbtide.cluster.doctor.observed import ObservedCluster
from ebbtide.core.profile.models import Profile
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.translate import translate

CHECKS: Final[tuple[Check, ...]] = (
    *installation.CHECKS,
    *scheduling.CHECKS,
    *network.CHECKS,
    *namespaces.CHECKS,
    # It knows only at the end what the other checks could not read.
    installation.UNREAD,
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

    ``namespace`` is examined like the namespaces of the specs. Read-only. Raises UnreachableError.
    """
    observed = observed or ObservedCluster(cluster)
    requirements = replace(_collect_requirements(profile, specs), selected=namespace)
    return _sort_findings(run_checks(CHECKS, observed, requirements))


def examine_plans(cluster: Cluster, profile: Profile, plans: Sequence[Plan]) -> tuple[Finding, ...]:
    """Return what keeps workloads from running or scaling on this cluster, errors first, before an apply.

    It takes as few requests as the workloads need: none for the default scheduler and scaling on requests, if Ebbtide owns the
    priority classes.
    Schedulers, metrics and routes, and the classes and queues without which no pod starts. An object that the caller is not
    allowed to read is not reported.
    """
    requirements, observed = SpecRequirements(profile, (), tuple(plans), applied=True), ObservedCluster(cluster)
    concerned = [check for check in CHECKS if check.concerns is not None and any(map(check.concerns, plans))]
    waiting = {check.code for check in concerned if check.waits}
    findings = run_checks(concerned, observed, requirements)
    # A missing object may be created while the workload waits for it. A wrong one stays as it is until it is changed.
    return _sort_findings(
        replace(finding, severity="warning") if finding.code in waiting and not _is_change(finding) else finding
        for finding in findings
    )


def _is_change(finding: Finding) -> bool:
    """Return whether the fix of a finding changes an object that exists."""
    return finding.patch is not None and finding.patch.action == "merge"


def _sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def apply_fix_patch(cluster: Cluster, patch: FixPatch, *, dry_run: bool = False) -> None:
    """Apply the patch that fixes a finding, as field manager ``ebbtide-live``; a merge keeps a map's other keys.

    Raises ClusterError if the cluster rejects it.
    """
    match patch.action:
        case "merge":
            cluster.patch(patch.kind, patch.name, patch.namespace, patch.body, dry_run=dry_run)
        case "create" if dry_run:
            cluster.apply(patch.body, dry_run=True)
        case "create":
            cluster.create(patch.body)


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
