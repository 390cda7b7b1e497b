"""Priority classes: Run:ai's four, its seven levels with both sides of preemptibility, and the cluster's own.

Upstream: KAI-Scheduler deployments/kai-scheduler/templates/priorityclasses (values; 100 or more is
non-preemptible: pkg/common/podgroup/preemptible.go), pkg/podgrouper/podgrouper/plugins/knative/knative.go (a
Knative revision's group reads only the class, and not even that with gang scheduling off).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.base.problems import Problem, warning
from ebbtide.translation.plan import Decision, Priority
from ebbtide.translation.pods import PodPatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import ProfileSpec
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan

#: From this value on KAI never preempts and never goes over quota.
NON_PREEMPTIBLE: Final = 100
DEFAULT: Final = "inference"
FOUR: Final = ("train", "build-preemptible", "build", "inference")
#: Run:ai's levels: value where the workload may be preempted, value where not.
LEVELS: Final = {
    "very-low": (40, 110),
    "low": (50, 115),
    "medium-low": (60, 120),
    "medium": (65, 125),
    "medium-high": (70, 130),
    "high": (80, 135),
    "very-high": (90, 140),
}
#: Run:ai's own level for inference, where only preemptibility is said.
USUAL_LEVEL: Final = "very-high"
PREFIX: Final = "ebbtide-"
KAI: Final = "kai-scheduler"


def level(name: str, preemptible: bool) -> Priority:
    """Return the class of one of the seven levels: ``ebbtide-high``, ``ebbtide-high-preemptible``."""
    low, high = LEVELS[name]
    suffix = "-preemptible" if preemptible else ""
    return Priority(f"{PREFIX}{name}{suffix}", low if preemptible else high, True, preemptible)


def every_class() -> list[Priority]:
    """Return every class that Ebbtide itself names, for the kustomize component."""
    return [level(name, side) for name in LEVELS for side in (True, False)]


def choose(plan: Plan) -> tuple[Priority, Decision]:
    """Return the priority class; one that the cluster does not know has value 0."""
    cluster = plan.cluster
    asked, side = plan.spec.priority_class, _side(plan)
    if asked is None and side != "preemptible":
        chosen = _known(DEFAULT, cluster)
        because = "an inference workload that says nothing goes first and is not preempted"
    elif asked is None:
        chosen = level(USUAL_LEVEL, preemptible=True)
        because = "preemptible, at Run:ai's usual level for inference; KAI reads that from a class below 100"
    elif asked in LEVELS:
        chosen = level(asked, preemptible=side == "preemptible")
        because = f"level {asked}, {side or 'non-preemptible as inference is'}"
    elif asked in cluster.scheduling.classes:
        chosen, because = _known(asked, cluster), f"class {asked} of this cluster"
    else:
        chosen, because = Priority(asked, 0, rendered=False, preemptible=True), "as written"
    said = (("spec.priorityClass", asked), ("spec.preemptibility", plan.spec.preemptibility))
    fields = tuple(field for field, value in said if value is not None)
    return chosen, Decision("priority class", chosen.name, because, fields)


def _side(plan: Plan) -> str | None:
    """Return the preemptibility that a class can express; `check` refuses the third one."""
    side = plan.spec.preemptibility
    return None if side == "semi-preemptible" else side


def check(plan: Plan) -> Iterator[Problem]:
    """Refuse a class that contradicts the spec or is unknown; say what does not reach the scheduler."""
    asked, side, chosen = plan.spec.priority_class, _side(plan), plan.priority
    classes = plan.cluster.scheduling.classes
    if plan.spec.preemptibility == "semi-preemptible":
        yield Problem(
            "PRI003",
            ("spec", "preemptibility"),
            "semi-preemptible (a guaranteed minimum, the rest preemptible) is not there in open KAI: its Knative "
            "grouper makes one group per revision, all of it preemptible or none",
            "use non-preemptible, or two services: one with the guaranteed replicas, one preemptible",
        )
    of_ours = asked in LEVELS or (asked is None and side == "preemptible")
    if not of_ours and chosen.name not in classes:
        yield _unknown(chosen.name, plan.cluster)
    elif not of_ours and asked is not None and side is not None and chosen.preemptible != (side == "preemptible"):
        yield Problem(
            "PRI002",
            ("spec", "preemptibility"),
            f"class {asked} has value {chosen.value} and is {'' if chosen.preemptible else 'non-'}preemptible: "
            f"from {NON_PREEMPTIBLE} on a class is not preempted",
            f"remove preemptibility, or use a level: priorityClass {USUAL_LEVEL} with {side}",
        )
    yield from _surprises(plan)


def _known(name: str, cluster: ProfileSpec) -> Priority:
    value = cluster.scheduling.classes.get(name, 0)
    rendered = name in FOUR and cluster.scheduling.classes_owner == "ebbtide"
    return Priority(name, value, rendered, preemptible=value < NON_PREEMPTIBLE)


def _unknown(asked: str, cluster: ProfileSpec) -> Problem:
    from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

    known = [*cluster.scheduling.classes, *LEVELS]
    close = get_close_matches(asked.lower().replace("_", "-"), known, 1, 0.7)
    return Problem(
        "PRI001",
        ("spec", "priorityClass"),
        f"there is no priority class {asked} here; a pod that names an unknown class is refused by the cluster",
        f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}",
    )


def _surprises(plan: Plan) -> Iterator[Problem]:
    where, chosen, scheduling = ("spec", "priorityClass"), plan.priority, plan.cluster.scheduling
    if scheduling.scheduler == KAI:
        if plan.serving != "kserve-standard" and not scheduling.kai.gang_schedule_knative and chosen.name != DEFAULT:
            yield warning(
                "PRI004",
                where if plan.spec.priority_class is not None else ("spec", "preemptibility"),
                f"with gang scheduling off, KAI schedules every Knative pod as {DEFAULT} (125, non-preemptible): "
                f"{chosen.name} ranks it nowhere but in the kubelet",
                "use serving: kserve-standard, or turn --knative-gang-schedule on (and keep minReplicas at 1 up to KAI 0.17)",
            )
        return
    classes = scheduling.classes
    build, inference = classes.get("build"), classes.get("inference")
    if build is not None and build == inference and chosen.name in {"build", "inference"}:
        yield warning(
            "PRI006",
            where,
            "this cluster gives build and inference the same value, so that inference does not evict builds; "
            "so there is no order between them either",
            "this is the profile's choice for the stock scheduler; KAI knows both",
        )
    elif build is not None and chosen.name != "build" and chosen.value > build >= NON_PREEMPTIBLE:
        yield warning(
            "PRI007",
            where,
            f"{scheduling.scheduler} evicts any pod of a lower class: {chosen.name} ({chosen.value}) evicts "
            f"build ({build}) too, which Run:ai and KAI would not",
            "give build and inference the same value in the profile's classes if builds must survive",
        )


def patch(plan: Plan) -> PodPatch:
    """Return the class as field and label: KAI reads the label first, the stock scheduler the field."""
    chosen, spec = plan.priority, plan.spec
    labels = {keys.PRIORITY_LABEL: chosen.name}
    if plan.cluster.scheduling.scheduler == KAI:
        # The Knative grouper does not read it; the Deployment grouper of Standard mode does.
        labels[keys.KAI_PREEMPTIBILITY] = "preemptible" if chosen.preemptible else "non-preemptible"
    return PodPatch(
        by="priority",
        cause=("spec", "preemptibility" if spec.priority_class is None and spec.preemptibility else "priorityClass"),
        labels=labels,
        priority_class_name=chosen.name,
        objects=[make_class(chosen)] if chosen.rendered else [],
    )


def make_class(chosen: Priority) -> Object:
    """Return the PriorityClass object. Its value can never be changed once it is in the cluster."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": chosen.name, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "value": chosen.value,
        "description": f"{'May' if chosen.preemptible else 'May not'} be preempted under Run:ai's and KAI's rule.",
    }
