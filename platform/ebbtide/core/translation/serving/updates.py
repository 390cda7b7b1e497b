"""The checks of how a new version replaces the old one: the strategy, canaries, and rollouts without additional replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.ingress import INGRESS_GATEWAYS
from ebbtide.core.base.problems import Problem, choose_serving, make_warning, remove_field, set_value
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.modes import report_knative_field
from ebbtide.core.translation.objects import read_field, write_model
from ebbtide.core.translation.plan import Decision, Plan
from ebbtide.core.translation.scaling.checks import LIVE_SCALE_SINCE, report_no_effect
from ebbtide.core.translation.scaling.knative import SETTINGS

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec

#: The minimum of a rollout without additional replicas: all but one serve during it.
MIN_ROLLOUT_REPLICAS: Final = 2
#: Seconds that a terminating replica stays after its last request (knative.dev/serving pkg/queue/sharedmain/main.go,
#: drainSleepDuration).
DRAIN_SECONDS: Final = 30


def has_strategy(plan: Plan) -> bool:
    """Return whether the object has a field for the update strategy of its Deployment."""
    since = plan.mode.strategy_since
    return since is not None and parse_version(plan.cluster.kserve.version) >= since


def make_strategy(spec: InferenceSpec) -> dict[str, Any]:
    """Return the update strategy of a Deployment; empty for Kubernetes' default."""
    if spec.rollout.surge is not None and spec.deployment_strategy is None:
        return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": spec.rollout.surge, "maxUnavailable": 1}}
    return write_model(spec.deployment_strategy) or {}


def check_strategy(plan: Plan) -> Iterator[Problem]:
    mode = plan.mode
    if plan.spec.deployment_strategy is not None and not has_strategy(plan):
        reason = (
            "Knative starts each new revision next to the old one"
            if mode.revisions
            else f"{mode.title} has no field for it before KServe 0.21"
        )
        fix = "remove deploymentStrategy, or use serving: kserve-standard"
        fixes = choose_serving("kserve-standard") + remove_field()
        message = f"deploymentStrategy needs KServe Standard: {reason}"
        yield Problem("SRV099", ("spec", "deploymentStrategy"), message, fix, fixes=fixes)


def check_traffic(plan: Plan) -> Iterator[Problem]:
    traffic, serving, mode = plan.spec.traffic, plan.serving, plan.mode
    stable = ("spec", "traffic", "stableRevision")
    if traffic.rollout_duration_seconds is not None and not mode.revisions:
        reason = f"{mode.title} has no revisions, between which Knative shifts traffic"
        yield report_knative_field("SRV010", ("spec", "traffic", "rolloutDurationSeconds"), reason)
    percent = traffic.canary_percent
    if percent is None:
        if traffic.stable_revision is not None:
            reason = "without canaryPercent, all traffic goes to the latest revision"
            yield report_no_effect(stable, reason, "set canaryPercent, or remove stableRevision")
        return
    path = ("spec", "traffic", "canaryPercent")
    if not mode.revisions:
        reason = f"{mode.title} has no revisions to split traffic between, and a spec describes one deployment"
        yield report_knative_field("SRV010", path, reason)
    elif serving == "knative" and traffic.stable_revision is None and percent < 100:  # noqa: PLR2004 - all of it
        message = "a Knative Service must name the revision that gets the remaining traffic"
        fix = "set traffic.stableRevision (ebbtide apply fills it in if the service exists), or use serving: kserve, which tracks the revision itself"
        yield Problem("SRV011", path, message, fix, fixes=choose_serving("kserve"))
    elif serving == "kserve" and traffic.stable_revision is not None:
        yield report_no_effect(stable, "KServe tracks the last revision that was rolled out")
    if mode.revisions:
        yield from _check_split_gateway(plan)


def _check_split_gateway(plan: Plan) -> Iterator[Problem]:
    """Warn of a canary whose replicas change behind a gateway that follows the pods of only one revision of a split.

    The activator follows the pods itself, so no split is wrong while it is in the path. A rendered targetBurstCapacity would
    vanish from the template when the canary is promoted, which would create a revision, so the spec must set it.
    """
    percent, auto, scaling = plan.spec.traffic.canary_percent, plan.spec.autoscaling, plan.scaling
    gateway = INGRESS_GATEWAYS.get(plan.cluster.knative.network.get("ingress-class", ""))
    if percent in {None, 0, 100} or gateway is None or gateway.follows_splits or scaling.minimum == scaling.maximum:
        return
    if auto.target_burst_capacity == -1:
        return
    readers = next(scalers for field, *_, scalers in SETTINGS if field == "targetBurstCapacity")
    message = (
        f"{gateway.title} does not see new and removed replicas of a canary until the service changes: after the canary shrinks, "
        "requests can fail with status 503"
    )
    fix = "set minReplicas and maxReplicas to the same number until the canary ends"
    if scaling.scaler in readers:
        fix = (
            "set autoscaling.targetBurstCapacity to -1, which keeps the activator in the path, or minReplicas and maxReplicas to "
            "the same number"
        )
    yield make_warning("AUT096", ("spec", "traffic", "canaryPercent"), message, fix)


def check_rollout(plan: Plan) -> Iterator[Problem]:
    """Reject a rollout without additional replicas where Ebbtide cannot move the devices of the old revision one at a time."""
    spec, cluster, scaler = plan.spec, plan.cluster, plan.scaling.scaler
    path = ("spec", "rollout", "surge")
    remove = remove_field(("spec", "rollout"))
    if spec.rollout.surge is None:
        return
    if plan.mode.language_model and not has_strategy(plan):
        message = f"{plan.mode.title} of KServe {cluster.kserve.version} has no field for the update strategy of its Deployment"
        fix = "use KServe 0.21 or later, use serving: kserve-standard, or remove rollout"
        yield Problem("SRV202", path, message, fix, fixes=choose_serving("kserve-standard") + remove)
        return
    if plan.scaling.minimum < MIN_ROLLOUT_REPLICAS:
        message = (
            f"surge: 0 replaces one replica at a time, and with a minimum of {plan.scaling.minimum} no replica would serve "
            "in the meantime"
        )
        fixes = set_value(2, ("spec", "autoscaling", "minReplicas")) + remove
        yield Problem("SRV180", path, message, "set minReplicas to 2 or more, or remove rollout", fixes=fixes)
    if not plan.mode.revisions:
        if spec.deployment_strategy is not None:
            fix = "remove rollout, or remove deploymentStrategy"
            fixes = remove + remove_field(("spec", "deploymentStrategy"))
            yield Problem(
                "SRV180", path, "deploymentStrategy sets how the replicas are replaced, too", fix, fixes=fixes
            )
        return
    if plan.serving == "kserve":
        message = (
            "KServe in Knative mode sets the traffic of its revisions itself, only between the newest and the one before, so "
            "it cannot follow the replicas"
        )
        fix = "use serving: knative or kserve-standard, or remove rollout"
        yield Problem("SRV181", path, message, fix, fixes=choose_serving("knative", "kserve-standard") + remove)
        return
    version = cluster.knative.version
    for is_unsupported, reason, fix in (
        (
            scaler == "knative-hpa",
            "Knative's HPA class keeps one replica of each former revision, which would hold its GPU",
            "scale on concurrency or throughput, set minReplicas and maxReplicas to the same number",
        ),
        (
            parse_version(version) < LIVE_SCALE_SINCE,
            f"Knative {version} does not apply a changed min-scale to a live revision, by which the replicas are replaced",
            "use Knative 1.21 or later",
        ),
        (
            cluster.knative.autoscaler.get("enable-scale-to-zero", "true") != "true",
            "scale to zero is disabled in this cluster (enable-scale-to-zero), so each former revision keeps one replica",
            "enable it in config-autoscaler and in knative.autoscaler of the profile",
        ),
    ):
        if is_unsupported:
            yield Problem("SRV181", path, reason, f"{fix}, or remove rollout", fixes=remove)
    for field, problem in (
        ("traffic.canaryPercent", "it splits the requests by percent"),
        ("traffic.rolloutDurationSeconds", "Knative shifts the requests by time"),
        ("autoscaling.initialReplicas", "a new revision starts with one replica"),
    ):
        if read_field(spec, field) is not None:
            message = f"{field} is set, too: {problem}, while surge: 0 replaces one replica at a time"
            fixes = remove_field(("spec", *field.split("."))) + remove
            yield Problem("SRV180", path, message, f"remove {field}, or remove rollout", fixes=fixes)


def list_rollout_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield what a rollout without additional replicas costs."""
    if plan.spec.rollout.surge is None:
        return
    low = plan.scaling.minimum
    serving = f"surge is 0: {low - 1} of {count_noun(low, 'replica')} serve during an update"
    yield Decision(
        "rollout",
        "one replica at a time",
        f"{serving}, which takes {low} times the start of a replica and at least {DRAIN_SECONDS} s, in which its predecessor "
        "finishes its requests"
        if plan.serving == "knative"
        else serving,
        ("spec.rollout.surge",),
    )
