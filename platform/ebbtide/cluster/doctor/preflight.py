"""Checks before an apply: doctor's findings about these workloads, from as few requests as the workloads need.

A workload of the default scheduler that scales on requests needs none, if Ebbtide owns the priority classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ebbtide.cluster.client.protocol import DEVICE_CLASS, LOCAL_QUEUE, PRIORITY_CLASS, QUEUE, RUNTIME_CLASS, Cluster
from ebbtide.cluster.doctor import installation, network, scheduling
from ebbtide.cluster.doctor.findings import Finding, SpecRequirements
from ebbtide.cluster.doctor.observed import observe_groups
from ebbtide.core.base.metrics import find_resource_metric
from ebbtide.core.profile.models import Profile
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.priority import KAI


def examine_plans(cluster: Cluster, profile: Profile, plans: Sequence[Plan]) -> tuple[Finding, ...]:
    """Return what keeps workloads from running or scaling on this cluster, errors first.

    Schedulers, metrics and routes, and the classes and queues without which no pod starts. An object that the caller is not
    allowed to read is not reported.
    """
    spec = profile.spec
    requirements = SpecRequirements(profile, (), tuple(plans))
    by_hpa = any(
        plan.scaling.scaler in {"knative-hpa", "own-hpa", "keda"} and not find_resource_metric(plan.scaling.metric_name)
        for plan in plans
    )
    by_keda = by_hpa and spec.metrics.adapter == "keda"
    groups = {
        "kai": spec.scheduling.scheduler == KAI or spec.projects.quota == "kai",
        "kueue": spec.projects.quota == "kueue",
        "keda": by_keda,
        "kserve": any(plan.serving == "kserve-standard" for plan in plans),
    }
    by_controller = any(plan.scaling.scaler == "controller" for plan in plans)
    needed = [name for name, used in groups.items() if used]
    by_class = spec.scheduling.classes_owner != "ebbtide" and any(plan.priority.name for plan in plans)
    kinds = {
        PRIORITY_CLASS: by_class,
        QUEUE: (spec.projects.quota == "kai" and spec.projects.manage)
        or (spec.scheduling.scheduler == KAI and any(plan.spec.project is None for plan in plans)),
        LOCAL_QUEUE: groups["kueue"],
        DEVICE_CLASS: any(
            BACKENDS[plan.pool.backend].claims for plan in plans if plan.gpu is not None and plan.pool is not None
        ),
        RUNTIME_CLASS: spec.scheduling.scheduler == KAI and any(plan.gpu is not None for plan in plans),
    }
    observed = observe_groups(
        cluster,
        needed,
        metrics=by_hpa and not by_keda,
        controller=by_controller,
        kinds=[kind for kind, used in kinds.items() if used],
        namespaces=requirements.namespaces,
    )
    findings: list[Finding] = []
    if groups["kai"] or groups["kueue"]:
        findings += scheduling.find_missing_schedulers(observed, requirements)
    # The objects may be created while the workload waits for them.
    missing = scheduling.find_missing_objects(observed, requirements)
    findings += (replace(finding, severity="warning") for finding in missing)
    if by_hpa:
        findings += installation.find_missing_metrics(observed, requirements)
    if by_controller:
        findings += installation.find_missing_controller(observed, requirements)
    if groups["kserve"]:
        findings += network.find_missing_ingress(cluster, observed, requirements)
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))
