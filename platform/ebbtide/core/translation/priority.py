"""Priority classes: Run:ai's four, Run:ai's seven levels (preemptible and non-preemptible), and those of the cluster.

Upstream: KAI-Scheduler deployments/kai-scheduler/templates/priorityclasses (values; 100 or more is
non-preemptible: pkg/common/podgroup/preemptible.go), pkg/podgrouper/podgrouper/plugins/knative/knative.go (the pod
group of a Knative revision reads only the class, and with gang scheduling off not even the class).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys
from ebbtide.core.base.problems import Problem, choose_serving, make_warning, offer_values, remove_field, set_value
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.objects import Object, make_object
from ebbtide.core.translation.plan import Decision, Plan, Priority, Serving
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

#: The value from which KAI neither preempts a workload nor schedules it over quota.
NON_PREEMPTIBLE: Final = 100
DEFAULT: Final = "inference"
FOUR: Final = ("train", "build-preemptible", "build", "inference")
#: Run:ai's levels: the class's value if the workload is preemptible, and if it is not.
LEVELS: Final = {
    "very-low": (40, 110),
    "low": (50, 115),
    "medium-low": (60, 120),
    "medium": (65, 125),
    "medium-high": (70, 130),
    "high": (80, 135),
    "very-high": (90, 140),
}
#: Run:ai's default level for inference, for a spec that sets preemptibility only.
USUAL_LEVEL: Final = "very-high"
PREFIX: Final = "ebbtide-"
KAI: Final = "kai-scheduler"
#: The first KAI version with the annotation for a preemption delay.
PREEMPTION_DELAY_SINCE: Final = (0, 17)
#: The values of Knative's feature flag that allow a priority class.
ALLOWED: Final = frozenset({"enabled", "allowed"})
#: The pods of a cluster without priority classes. Such a pod has priority 0, and KAI treats it as ``inference``.
NO_CLASS: Final = Priority("", 0, rendered=False, preemptible=False)


def make_level(name: str, preemptible: bool) -> Priority:
    """Return the class of one of the seven levels, such as ``ebbtide-high`` or ``ebbtide-high-preemptible``."""
    suffix, value = ("-preemptible", LEVELS[name][0]) if preemptible else ("", LEVELS[name][1])
    return Priority(f"{PREFIX}{name}{suffix}", value, True, preemptible)


def list_level_classes() -> list[Priority]:
    """Return every class that Ebbtide defines, for the kustomize component."""
    return [make_level(name, preemptible) for name in LEVELS for preemptible in (True, False)]


def find_missing_default(cluster: ProfileSpec, serving: Serving) -> str:
    """Return why the cluster's pods get no priority class by default, or an empty string if they get ``inference``."""
    if SERVING_MODES[serving].revisions and cluster.knative.features.get(keys.PRIORITY_CLASS_FLAG) not in ALLOWED:
        return f"Knative rejects priority classes in this cluster: {keys.PRIORITY_CLASS_FLAG} is disabled in config-features"
    if DEFAULT not in cluster.scheduling.classes:
        return f"the cluster has no class {DEFAULT}, the default for inference workloads"
    return ""


def choose(plan: Plan) -> tuple[Priority, Decision]:
    """Return the priority class. A class that the cluster does not have gets value 0."""
    cluster = plan.cluster
    requested, preemptibility = plan.spec.priority_class, _find_preemptibility(plan)
    missing = find_missing_default(cluster, plan.serving)
    if not plan.adds_defaults:
        missing = "the spec sets none, and leaves Ebbtide's defaults off: the cluster's default applies"
    if requested is None and preemptibility is None and missing:
        return NO_CLASS, Decision("priority class", "none", missing)
    if requested is None and preemptibility != "preemptible":
        chosen = _make_known_class(DEFAULT, cluster)
        because = "it is the default for inference workloads: the highest of Run:ai's four classes, non-preemptible"
    elif requested is None:
        chosen = make_level(USUAL_LEVEL, preemptible=True)
        because = (
            "the workload is preemptible, at Run:ai's default level for inference; KAI treats a class with a value below "
            f"{NON_PREEMPTIBLE} as preemptible"
        )
    elif requested in LEVELS:
        chosen = make_level(requested, preemptible=preemptibility == "preemptible")
        because = f"the spec sets level {requested}, {preemptibility or 'non-preemptible by default for inference'}"
    elif requested in cluster.scheduling.classes:
        chosen, because = _make_known_class(requested, cluster), f"the spec sets {requested}, a class of this cluster"
    else:
        chosen, because = Priority(requested, 0, rendered=False, preemptible=True), "the spec sets it"
    settings = (("spec.priorityClass", requested), ("spec.preemptibility", plan.spec.preemptibility))
    fields = tuple(field for field, value in settings if value is not None)
    return chosen, Decision("priority class", chosen.name, because, fields)


def _find_preemptibility(plan: Plan) -> str | None:
    """Return the preemptibility, None for semi-preemptible: a class cannot express it, and `check` rejects it."""
    preemptibility = plan.spec.preemptibility
    return None if preemptibility == "semi-preemptible" else preemptibility


def check(plan: Plan) -> Iterator[Problem]:
    """Reject an unknown class or one that contradicts preemptibility, and warn of priorities that the scheduler ignores."""
    requested, preemptibility, chosen = plan.spec.priority_class, _find_preemptibility(plan), plan.priority
    classes = plan.cluster.scheduling.classes
    if plan.spec.preemptibility == "semi-preemptible":
        message = (
            "semi-preemptible (a guaranteed minimum, the rest preemptible) is unavailable in open-source KAI: its Knative "
            "grouper creates one pod group per revision, which is preemptible as a whole or not at all"
        )
        fix = "use non-preemptible, or two services: a non-preemptible one with the guaranteed replicas, and a preemptible one"
        yield Problem("PRI003", ("spec", "preemptibility"), message, fix)
    own_level = requested in LEVELS or (requested is None and preemptibility == "preemptible") or chosen is NO_CLASS
    if not own_level and chosen.name not in classes:
        yield _report_unknown_class(chosen.name, plan.cluster)
    elif (
        not own_level
        and requested is not None
        and preemptibility is not None
        and chosen.preemptible != (preemptibility == "preemptible")
    ):
        message = (
            f"preemptibility is {preemptibility}, but class {requested} has value {chosen.value} and is "
            f"{'' if chosen.preemptible else 'non-'}preemptible: a value of {NON_PREEMPTIBLE} or more is non-preemptible"
        )
        fix = (
            f"remove preemptibility, or use a level: priorityClass: {USUAL_LEVEL} with preemptibility: {preemptibility}"
        )
        yield Problem("PRI002", ("spec", "preemptibility"), message, fix, fixes=remove_field())
    yield from _warn_about_scheduler(plan)
    yield from _warn_about_delay(plan)


def _make_known_class(name: str, cluster: ProfileSpec) -> Priority:
    value = cluster.scheduling.classes.get(name, 0)
    rendered = name in FOUR and cluster.scheduling.classes_owner == "ebbtide"
    return Priority(name, value, rendered, preemptible=value < NON_PREEMPTIBLE)


def _report_unknown_class(requested: str, cluster: ProfileSpec) -> Problem:
    from difflib import get_close_matches  # noqa: PLC0415 - only an unknown name needs it

    known = [*cluster.scheduling.classes, *LEVELS]
    similar = get_close_matches(requested.lower().replace("_", "-"), known, 1, 0.7)
    return Problem(
        "PRI001",
        ("spec", "priorityClass"),
        f"priority class {requested} not found in the cluster profile; Kubernetes rejects a pod with an unknown class",
        f"did you mean {similar[0]}?" if similar else f"use one of {', '.join(known)}",
        fixes=set_value(similar[0], safe=True) if similar else offer_values(known),
    )


def _warn_about_scheduler(plan: Plan) -> Iterator[Problem]:
    field, chosen, scheduling = ("spec", "priorityClass"), plan.priority, plan.cluster.scheduling
    if scheduling.scheduler == KAI:
        if plan.mode.revisions and not scheduling.kai.gang_schedule_knative and chosen.name not in {DEFAULT, ""}:
            yield make_warning(
                "PRI004",
                field if plan.spec.priority_class is not None else ("spec", "preemptibility"),
                f"with gang scheduling off, KAI schedules every Knative pod as {DEFAULT} (125, non-preemptible): only the "
                f"kubelet uses the priority of {chosen.name}",
                "use serving: kserve-standard, or turn --knative-gang-schedule on (with KAI 0.17 or earlier, also set "
                "minReplicas to at least 1)",
                fixes=choose_serving("kserve-standard"),
            )
        return
    if plan.spec.priority_class is None:
        # The default class is the profile's, so its value concerns no single spec.
        return
    if plan.gpu is not None and plan.pool is not None and BACKENDS[plan.pool.backend].claims is not None:
        message = (
            f"{scheduling.scheduler} evicts no pod to free a device that DRA allocates: {chosen.name} ({chosen.value}) only "
            "determines which pending pod gets the next free device"
        )
        fix = "no change is needed if that is intended; otherwise use a node pool with another backend"
        yield make_warning("PRI031", field, message, fix)
        return
    classes = scheduling.classes
    build, inference = classes.get("build"), classes.get("inference")
    if build is not None and build == inference and chosen.name in {"build", "inference"}:
        yield make_warning(
            "PRI006",
            field,
            "build and inference have the same value in the cluster profile, so inference does not evict builds, but is not "
            "scheduled before them either",
            "no change is needed if that is intended; otherwise give them different values in scheduling.classes of the "
            "profile, or use KAI-Scheduler, which does not evict builds for inference",
        )
    elif build is not None and chosen.name != "build" and chosen.value > build >= NON_PREEMPTIBLE:
        message = (
            f"{scheduling.scheduler} evicts any pod of a lower class: {chosen.name} ({chosen.value}) also evicts "
            f"build ({build}), which Run:ai and KAI would not"
        )
        fix = "to protect builds, give build and inference the same value in scheduling.classes of the profile"
        yield make_warning("PRI007", field, message, fix)


def _warn_about_delay(plan: Plan) -> Iterator[Problem]:
    """Warn of a preemption delay that KAI does not read: its Knative grouper ignores the annotation."""
    reason = (
        f"{plan.cluster.scheduling.scheduler} does not read it"
        if plan.cluster.scheduling.scheduler != KAI
        else f"KAI {plan.cluster.scheduling.kai.version} does not have it"
        if parse_version(plan.cluster.scheduling.kai.version) < PREEMPTION_DELAY_SINCE
        else "KAI does not read it from Knative pods"
        if plan.mode.revisions
        else ""
    )
    for index, annotation in enumerate(plan.spec.annotations):
        if reason and annotation.name == keys.KAI_PREEMPTION_DELAY and not annotation.exclude:
            message = f"{keys.KAI_PREEMPTION_DELAY} has no effect: {reason}"
            fix = "remove it, or use serving: kserve-standard on a cluster with KAI 0.17 or later"
            path = ("spec", "annotations", index)
            message = f"{keys.KAI_PREEMPTION_DELAY} has no effect: {reason}"
            fix = "remove it, or use serving: kserve-standard on a cluster with KAI 0.17 or later"
            fixes = remove_field(path) + choose_serving("kserve-standard")
            yield make_warning("PRI028", (*path, "name"), message, fix, fixes)


def make_priority_patch(plan: Plan) -> PodPatch:
    """Return the class as a field and a label. KAI reads the label first, the default scheduler reads the field."""
    chosen, spec = plan.priority, plan.spec
    labels = {keys.PRIORITY_LABEL: chosen.name} if chosen.name and plan.scheduled else {}
    if plan.scheduled and plan.cluster.scheduling.scheduler == KAI:
        # KAI's Deployment grouper reads it, for Standard mode. Its Knative grouper does not.
        labels[keys.KAI_PREEMPTIBILITY] = "preemptible" if chosen.preemptible else "non-preemptible"
    return PodPatch(
        by="priority",
        cause=("spec", "preemptibility" if spec.priority_class is None and spec.preemptibility else "priorityClass"),
        labels=labels,
        priority_class_name=chosen.name,
        objects=[make_priority_class(chosen)] if chosen.rendered else [],
    )


def make_priority_class(chosen: Priority) -> Object:
    """Return the PriorityClass object. Its value is immutable once it is in the cluster."""
    labels = {keys.APP_MANAGED_BY: "ebbtide"}
    return {
        **make_object("scheduling.k8s.io/v1", "PriorityClass", chosen.name, labels=labels),
        "value": chosen.value,
        "description": f"{'May' if chosen.preemptible else 'May not'} be preempted under Run:ai's and KAI's rule.",
    }
