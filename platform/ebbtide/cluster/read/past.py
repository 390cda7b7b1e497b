"""The autoscaler's past decisions over a workload's history: the cause of each, and its explanation at any time.

The decisions are repeated on the points of a history with the code and the words of ``why``. Deploys, manual scale edits,
preemptions, and an HPA's rescales come from the live objects and their events. Upstream: kube-scheduler's
pkg/scheduler/framework/preemption (event ``Preempted``), pkg/kubelet/eviction (``Evicted``),
pkg/controller/podautoscaler/horizontal.go (``SuccessfulRescale``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
UNREADY_WORDS: Final = "no replica was ready, so the autoscaler had no metrics"
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
    #: The desired replicas that were reported, and those that were ready, by time.
    wanted: Mapping[float, float] = field(default_factory=dict)
    ready: Mapping[float, float] = field(default_factory=dict)
    unknown: str = ""
    #: Seconds between two points.
    step: float = 0.0
    #: The creation of the serving revision; its settings do not apply before.
    since: float = 0.0
    #: The serving revision, and the decisions of the others with traffic.
    revision: str = ""
    others: tuple[PastDecisions, ...] = ()

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
        hidden = self._make_decision(index).hidden
        if step.panicking or hidden in {"peak", "panic"}:
            return "panic"
        if hidden:
            return "delay"
        if step.delayed < low or (high and step.delayed > high):
            return "bound"
        return "delay" if step.delayed > step.desired else "stable"

    def is_limited(self, time: float) -> bool:
        """Return whether the load at a time needed more replicas than the maximum."""
        index = self._find_step(time)
        if self.settings is None or index is None:
            return False
        high = targets.scale_bounds(self.settings.revision, self.settings.config)[1]
        return 0 < high < self.steps[index].delayed

    def _find_step(self, time: float) -> int | None:
        """Return the place of the last decision before a time; None if it is too old."""
        index = bisect_right(self.steps, time + 0.5, key=lambda step: step.reading.time) - 1
        return index if index >= 0 and self.steps[index].reading.time >= time - 2 * self.step else None

    def explain(self, time: float) -> tuple[WhyReason, ...]:
        """Return the marks around a time, and the decision then."""
        marks = [
            WhyReason("rollout" if mark.kind == "deploy" else "hand" if mark.kind == "scale" else "pods", mark.words)
            for mark in self.marks
            if abs(mark.time - time) <= max(self.step, 1.0)
        ]
        # Of several revisions with traffic, each that existed then is explained.
        known = [row for row in (self, *self.others) if row.since <= time] or [self]
        if len(known) == 1:
            return (*marks, *known[0].explain_step(time))
        return (
            *marks,
            *(
                replace(reason, words=f"{row.revision}: {reason.words}")
                for row in known
                for reason in row.explain_step(time)
            ),
        )

    def explain_step(self, time: float) -> Iterator[WhyReason]:
        """Yield the decision of this revision at a time."""
        if self.unknown or self.settings is None:
            yield WhyReason("unknown", self.unknown)
            return
        if time < self.since:
            yield WhyReason("rollout", f"{NOT_REPEATED}: another revision was serving")
            return
        low, high = targets.scale_bounds(self.settings.revision, self.settings.config)
        if low == high and low and self.low_name == why.MINIMUM:
            yield WhyReason("bound", why.explain_fixed_bounds(low))
            return
        index = self._find_step(time)
        if index is not None:
            last = self.steps[index]
            if last.reading.ready == 0 and last.delayed == 0:
                yield WhyReason("rest", ZERO_WORDS)
            else:
                yield from why.explain_decision(self._make_decision(index))
            return
        moment = max((known for known in self.wanted if time - 2 * self.step <= known <= time + 0.5), default=-1.0)
        if self.wanted.get(moment) == 0:
            yield WhyReason("rest", ZERO_WORDS)
        elif self.ready.get(moment) == 0:
            yield WhyReason("pods", UNREADY_WORDS)
        else:
            yield WhyReason("unknown", f"{NOT_REPEATED}: the autoscaler's metrics are missing")

    def _make_decision(self, index: int) -> ReplayedDecision:
        assert self.settings is not None
        time = self.steps[index].reading.time
        reported = self.wanted.get(time, -1)
        since = why.find_rise(self.wanted, reported, time)
        return ReplayedDecision(self.settings, self.steps[: index + 1], int(reported), self.low_name, since)


def replay_history(live: LiveWorkload, history: History, step: float, cluster: ProfileSpec) -> PastDecisions:
    """Repeat the autoscaler's decisions over a history with a point every ``step`` seconds."""
    cold_starts = (
        Mark(point.time, "cold", f"cold start: scaled from zero to {count_noun(int(point.value or 0), 'replica')}")
        for _, point in history.find_cold_starts()
    )
    marks = tuple(sorted([*_list_marks(live), *cold_starts], key=lambda mark: mark.time))
    names = why.list_kpa_revisions(live)
    if not names:
        words = "an HPA decides, and its past metrics are not recorded" if live.hpas else "no autoscaler decides"
        return PastDecisions(marks, unknown=words, step=step)
    if step > MAX_STEP_SECONDS:
        words = f"{NOT_REPEATED}: select a time range of at most 6 hours, whose points show the autoscaler's windows"
        return PastDecisions(marks, unknown=words, step=step)
    first, *others = (_replay_revision(live, history, name, step, cluster) for name in names)
    return replace(first, marks=marks, others=tuple(others))


def _replay_revision(
    live: LiveWorkload, history: History, name: str, step: float, cluster: ProfileSpec
) -> PastDecisions:
    """Repeat the decisions of one revision's autoscaler."""
    try:
        settings = why.read_scaler_settings(live, name, why.autoscaler_settings(live, cluster))
    except setting.NotSimulated as error:
        return PastDecisions((), unknown=f"{NOT_REPEATED}: {error}", step=step, revision=name)
    own = why.select_revision(history, live, name)
    steps = why.replay_decisions(targets.make_decider(settings.revision, settings.config), tuple(why.join_series(own)))
    revision = inventory.find_by_name(live.revisions, name)
    created = 0.0 if revision is None else inventory.parse_timestamp(revision["metadata"].get("creationTimestamp"))
    known = why.read_points(own, "wanted")
    low_name = why.name_minimum(live, targets.scale_bounds(settings.revision, settings.config)[0])
    return PastDecisions(
        (), steps, settings, low_name, known, why.read_points(own, "ready"), step=step, since=created, revision=name
    )


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
