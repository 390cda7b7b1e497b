"""Checks before an apply: doctor's findings about these workloads, from as few requests as the workloads need.

A workload of the default scheduler that scales on requests needs none, if Ebbtide owns the priority classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ebbtide.cluster.client.protocol import Cluster
from ebbtide.cluster.doctor import installation, network, scheduling
from ebbtide.cluster.doctor.findings import Finding, SpecRequirements
from ebbtide.cluster.doctor.observed import ObservedCluster
from ebbtide.core.base.metrics import find_resource_metric
from ebbtide.core.profile.models import Profile
from ebbtide.core.translation.plan import Plan


def examine_plans(cluster: Cluster, profile: Profile, plans: Sequence[Plan]) -> tuple[Finding, ...]:
    """Return what keeps workloads from running or scaling on this cluster, errors first.

    Schedulers, metrics and routes, and the classes and queues without which no pod starts. An object that the caller is not
    allowed to read is not reported.
    """
    requirements, observed = SpecRequirements(profile, (), tuple(plans)), ObservedCluster(cluster)
    findings = [*scheduling.find_missing_schedulers(observed, requirements)]
    # The objects may be created while the workload waits for them.
    missing = scheduling.find_missing_objects(observed, requirements)
    findings += (replace(finding, severity="warning") for finding in missing)
    if any(
        plan.scaling.scaler in {"knative-hpa", "own-hpa", "keda"} and not find_resource_metric(plan.scaling.metric_name)
        for plan in plans
    ):
        findings += installation.find_missing_metrics(observed, requirements)
    if any(plan.scaling.scaler == "controller" for plan in plans):
        findings += installation.find_missing_controller(observed, requirements)
    findings += network.find_missing_ingress(cluster, observed, requirements)
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))
