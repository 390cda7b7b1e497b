"""The timeouts of requests and of the start, by the kind of serving object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Problem, make_warning, set_value
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.translation.modes import report_knative_field
from ebbtide.core.translation.placement import list_autoscaled_pools
from ebbtide.core.translation.plan import Decision, Plan

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec


#: The upstream default of max-revision-timeout-seconds in config-defaults, in seconds.
DEFAULT_MAX_TIMEOUT_SECONDS: Final = "600"
#: The deadline of Knative's revisions and of KServe's Deployments in seconds, unless the spec sets another.
DEFAULT_DEADLINE_SECONDS: Final = 600
#: Knative's default request timeout in seconds, which is also a pod's termination grace period.
DEFAULT_TIMEOUT_SECONDS: Final = 300
#: The timeout in seconds of an HTTPRoute of KServe Standard (kserve pkg/controller/v1beta1/inferenceservice/reconcilers/
#: ingress/httproute_reconciler.go, DefaultTimeout).
DEFAULT_ROUTE_TIMEOUT_SECONDS: Final = 60


def check_initialization_timeout(plan: Plan) -> Iterator[Problem]:
    is_set = find_initialization_timeout(plan.spec) is not None
    if plan.mode.revisions and not is_set and plan.spec.project is not None and plan.cluster.projects.quota == "kueue":
        message = (
            f"if Kueue holds back the first pod for {DEFAULT_DEADLINE_SECONDS} s, Knative stops the revision for good, also when "
            "quota becomes free later"
        )
        fix = "set servingConfiguration.initializationTimeoutSeconds to the longest time that the quota may be used up"
        yield make_warning("PRJ091", ("spec", "project"), message, fix)
    if not plan.mode.revisions and is_set:
        path = ("spec", "servingConfiguration", "initializationTimeoutSeconds")
        reason = f"{path[-1]} has no effect under {plan.mode.title}, whose deployments have a fixed deadline of 600 s"
        yield report_knative_field("SRV014", path, reason)


def find_initialization_timeout(spec: InferenceSpec) -> int | None:
    newer = spec.serving_configuration.initialization_timeout_seconds
    return newer if newer is not None else spec.autoscaling.initialization_timeout_seconds


def check_timeout(plan: Plan) -> Iterator[Problem]:
    seconds, cluster = plan.spec.serving_configuration.request_timeout_seconds, plan.cluster
    if seconds is None or plan.mode.language_model:
        return
    path = ("spec", "servingConfiguration", "requestTimeoutSeconds")
    if plan.serving == "kserve-standard":
        if not cluster.kserve.http_route_timeouts:
            yield make_warning(
                "SRV060",
                path,
                "requestTimeoutSeconds has no effect: KServe Standard applies it to HTTPRoutes with timeouts, which this cluster's "
                "KServe does not create",
                "set the timeout in the ingress controller, or turn on enableGatewayApi in ingress of KServe's "
                "inferenceservice-config and set kserve.httpRouteTimeouts: true in the profile",
            )
        return
    written = cluster.knative.defaults.get("max-revision-timeout-seconds", DEFAULT_MAX_TIMEOUT_SECONDS)
    maximum = parse_whole_quantity(written) or 0
    if seconds > maximum:
        message = (
            f"a timeout of {seconds} s is above this cluster's maximum of {maximum} s (max-revision-timeout-seconds)"
        )
        fix = (
            f"use at most {maximum}, or increase the maximum in config-defaults and in knative.defaults of the profile"
        )
        yield Problem("SRV007", path, message, fix, fixes=set_value(maximum))
    elif seconds > DEFAULT_TIMEOUT_SECONDS:
        message = (
            f"Knative uses the request timeout as the pod's grace period too, so a terminating replica may hold its GPU for up "
            f"to {seconds} s"
        )
        yield make_warning("SRV008", path, message, "set the timeout no longer than the longest response takes")


def check_spot_nodes(plan: Plan) -> Iterator[Problem]:
    """Yield spot nodes that end before a request may have ended.

    A revision's pod has the request timeout as its grace period (knative.dev/serving pkg/reconciler/revision/resources/deploy.go).
    """
    seconds = plan.spec.serving_configuration.request_timeout_seconds or DEFAULT_TIMEOUT_SECONDS
    for pool, autoscaler in list_autoscaled_pools(plan) if plan.mode.revisions else ():
        notice = autoscaler.spot_notice_seconds
        if notice is not None and notice < seconds:
            message = (
                f"a spot node of pool {pool.name} ends {notice} s after its notice, but a request may take {seconds} s: requests that "
                "take longer are lost"
            )
            path = ("spec", "servingConfiguration", "requestTimeoutSeconds")
            fix = (
                f"set {path[-1]} to at most {notice} if no response takes longer, or use a node pool without spot nodes"
            )
            yield make_warning("PLC020", path, message, fix, fixes=set_value(notice, path))


def list_timeout_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield the request timeout that KServe Standard sets on the HTTPRoute of a spec without one."""
    unset = plan.spec.serving_configuration.request_timeout_seconds is None
    if unset and plan.serving == "kserve-standard" and plan.cluster.kserve.http_route_timeouts:
        because = "the spec sets none, and KServe Standard limits each request of an HTTPRoute"
        fields = ("spec.servingConfiguration.requestTimeoutSeconds",)
        yield Decision("request timeout", f"{DEFAULT_ROUTE_TIMEOUT_SECONDS} s", because, fields)
