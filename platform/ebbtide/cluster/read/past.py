"""The autoscaler's past decisions over a workload's history: the cause of each, and its explanation at any time.

The decisions are repeated on the points of a history with the code and the words of ``why``. Deploys, manual scale edits,
preemptions, and an HPA's rescales come from the live objects and their events. Upstream: kube-scheduler's
pkg/scheduler/framework/preemption (event ``Preempted``), pkg/kubelet/eviction (``Evicted``),
pkg/controller/podautoscaler/horizontal.go (``SuccessfulRescale``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from ebbtide.cluster.client.protocol import LIVE_MANAGER
from ebbtide.cluster.read import inventory, why
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.why import ReplayedDecision, ReplayedStep, WhyReason
from ebbtide.cluster.slo.source import History
from ebbtide.core.autoscaler import targets
from ebbtide.core.base.bodies import body
from ebbtide.core.base.prose import count_noun
from ebbtide.core.profile.models import ProfileSpec
from ebbtide.simulator.engine import setting
from ebbtide.simulator.engine.setting import Setting

#: The causes of a number of replicas.
Cause = Literal["stable", "panic", "bound", "delay", "zero"]
MarkKind = Literal["deploy", "scale", "preempted", "rescale", "cold"]
#: Events that are marked, by their reason.
MARKED_EVENTS: Final[dict[str, MarkKind]] = {
    "Preempted": "preempted",
    "Evicted": "preempted",
    "SuccessfulRescale": "rescale",
}
#: Longest step of a history, in seconds, whose points still show the autoscaler's windows.
MAX_STEP_SECONDS: Final = 60.0
ZERO_WORDS: Final = "scaled to zero: no requests"
NOT_REPEATED: Final = "the decision at this time cannot be repeated"


@body()
class Mark:
    """Something that changed the replicas at a time, besides the autoscaler."""

    time: float
    kind: MarkKind
    words: str


@dataclass(frozen=True, slots=True)
class PastDecisions:
    """The decisions over a history, oldest first; no steps if they cannot be repeated, with the reason in ``unknown``."""

    marks: tuple[Mark, ...]
    steps: tuple[ReplayedStep, ...] = ()
    settings: Setting | None = None
    #: The name of their lower bound.
    low_name: str = why.MINIMUM
    #: The desired replicas that were reported, by time.
    wanted: dict[float, float] | None = None
    unknown: str = ""
    #: Seconds between two points.
    step: float = 0.0
    #: The creation of the serving revision; its settings do not apply before.
    since: float = 0.0

    def list_causes(self) -> list[tuple[float, Cause]]:
        """Return the time of each decision with another cause than the one before, and its cause."""
        causes: list[tuple[float, Cause]] = []
        for index in range(len(self.steps)):
            cause = self._find_cause(index)
            if self.steps[index].reading.time < self.since:
                continue
            if not causes or causes[-1][1] != cause:
                causes.append((self.steps[index].reading.time, cause))
        return causes

    def _find_cause(self, index: int) -> Cause:
        assert self.settings is not None
        step = self.steps[index]
        low, high = targets.scale_bounds(self.settings.revision, self.settings.config)
        if step.reading.ready == 0 and step.delayed == 0:
            return "zero"
        if step.panicking:
            return "panic"
        if step.delayed < low or (high and step.delayed > high):
            return "bound"
        return "delay" if step.delayed > step.desired else "stable"

    def explain(self, time: float) -> tuple[WhyReason, ...]:
        """Return the marks around a time, and the decision then."""
        marks = [
            WhyReason("rollout" if mark.kind == "deploy" else "hand" if mark.kind == "scale" else "pods", mark.words)
            for mark in self.marks
            if abs(mark.time - time) <= max(self.step, 1.0)
        ]
        return (*marks, *self._explain_step(time))

    def _explain_step(self, time: float) -> Iterator[WhyReason]:
        index = bisect_right(self.steps, time + 0.5, key=lambda step: step.reading.time) - 1
        if self.unknown or self.settings is None or index < 0:
            yield WhyReason("unknown", self.unknown or f"{NOT_REPEATED}: the autoscaler's metrics are missing")
            return
        if time < self.since:
            yield WhyReason("rollout", f"{NOT_REPEATED}: another revision was serving")
            return
        steps = self.steps[: index + 1]
        last = steps[-1]
        if last.reading.time < time - 2 * self.step:
            if (self.wanted or {}).get(time) == 0:
                yield WhyReason("rest", ZERO_WORDS)
                return
            yield WhyReason("unknown", f"{NOT_REPEATED}: the autoscaler's metrics are missing")
            return
        if last.reading.ready == 0 and last.delayed == 0:
            yield WhyReason("rest", ZERO_WORDS)
            return
        reported = (self.wanted or {}).get(last.reading.time)
        yield from why.explain_decision(
            ReplayedDecision(self.settings, steps, -1 if reported is None else int(reported), self.low_name)
        )


def replay_history(live: LiveWorkload, history: History, step: float, cluster: ProfileSpec) -> PastDecisions:
    """Repeat the autoscaler's decisions over a history with a point every ``step`` seconds."""
    cold_starts = (
        Mark(point.time, "cold", f"cold start: scaled from zero to {count_noun(int(point.value or 0), 'replica')}")
        for _, point in history.find_cold_starts()
    )
    marks = tuple(sorted([*_list_marks(live), *cold_starts], key=lambda mark: mark.time))
    name = why.serving_revision(live)
    if not why.is_scaled_by_kpa(live, name):
        words = "an HPA decides, and its past metrics are not recorded" if live.hpas else "no autoscaler decides"
        return PastDecisions(marks, unknown=words, step=step)
    if step > MAX_STEP_SECONDS:
        words = f"{NOT_REPEATED}: select a time range of at most 6 hours, whose points show the autoscaler's windows"
        return PastDecisions(marks, unknown=words, step=step)
    try:
        settings = why.read_scaler_settings(live, name, why.autoscaler_settings(live, cluster))
    except setting.NotSimulated as error:
        return PastDecisions(marks, unknown=f"{NOT_REPEATED}: {error}", step=step)
    steps = why.replay_decisions(
        targets.make_decider(settings.revision, settings.config), tuple(why.join_series(history))
    )
    revision = inventory.find_by_name(live.revisions, name)
    created = 0.0 if revision is None else inventory.parse_timestamp(revision["metadata"].get("creationTimestamp"))
    known = {point.time: point.value for point in history.series.get("wanted", ()) if point.value is not None}
    low_name = why.name_minimum(live, targets.scale_bounds(settings.revision, settings.config)[0])
    return PastDecisions(marks, steps, settings, low_name, known, "", step, created)


def _list_marks(live: LiveWorkload) -> Iterator[Mark]:
    for revision in live.revisions:
        metadata = revision["metadata"]
        yield Mark(
            inventory.parse_timestamp(metadata.get("creationTimestamp")), "deploy", f"deploy of {metadata['name']}"
        )
    for row in live.top["metadata"].get("managedFields") or ():
        if row.get("manager") == LIVE_MANAGER and row.get("time"):
            yield Mark(inventory.parse_timestamp(row["time"]), "scale", "scale, traffic or suspension set manually")
    for event in live.events:
        kind = MARKED_EVENTS.get(str(event.get("reason", "")))
        time = inventory.parse_timestamp(event.get("lastTimestamp") or event.get("eventTime"))
        if kind is not None and time:
            about = str((event.get("involvedObject") or {}).get("name", "")) if kind == "preempted" else "HPA"
            yield Mark(time, kind, f"{about}: {event.get('message', '')}")
