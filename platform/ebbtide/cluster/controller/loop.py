"""One step of the controller: decide the floor of each revision that serves, and write those that changed.

The floor is the annotation min-scale of the revision. Next to it, the decision is written as an annotation, so that every
reader sees what was decided and why. Upstream: knative.dev/serving v0.51.0 pkg/reconciler/revision/reconcile_resources.go.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.cluster.client.protocol import Clock, Cluster, ClusterError, MissingError, StaleError, is_no_older
from ebbtide.cluster.controller.events import record_event
from ebbtide.cluster.controller.fence import write_annotations
from ebbtide.cluster.controller.measure import MetricQueries, Readings, SampleSource, read_pod
from ebbtide.cluster.controller.sampling import Recorder, Requests
from ebbtide.cluster.read import records
from ebbtide.cluster.read.inventory import LiveWorkload, find_by_name, format_timestamp
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.read.records import ScaleRecord
from ebbtide.core.autoscaler.floor import (
    Bound,
    Cause,
    Floor,
    FloorDecision,
    FloorError,
    FloorSettings,
    fold_bounds,
    read_settings,
)
from ebbtide.core.autoscaler.hpa import HpaPod, Measured
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import read_count
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import format_number
from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: Causes without values to decide by.
BLIND: Final = frozenset({"held", "fallback"})
#: The cause of a floor that is not raised, because KAI schedules the replicas as a gang.
GANG: Final[Cause] = "gang"
#: The reason of the event when one of these causes begins, also if the floor stays.
NOTED: Final = {**dict.fromkeys(BLIND, "EvidenceMissing"), GANG: "GangScheduled"}


class _Kept(NamedTuple):
    """The settings of a revision, and their floor with its past."""

    settings: FloorSettings
    floor: Floor


class Controller:
    """The floors of all workloads with the controller's annotation."""

    def __init__(
        self,
        cluster: Cluster,
        source: SampleSource,
        clock: Clock,
        profile: ProfileSpec,
        *,
        may_write: Callable[[], bool] = lambda: True,
        term: Callable[[], str] = lambda: "",
    ) -> None:
        """Start without a past. ``profile`` limits what the queries of members read.

        ``may_write`` is called directly before each write. ``term`` identifies the leader, if there are several controllers
        (``controller.fence``).
        """
        self._cluster, self._source, self._clock = cluster, source, clock
        self.queries = MetricQueries(profile)
        self._may_write, self._term = may_write, term
        self._kept: dict[tuple[str, str], _Kept] = {}
        #: The number of each revision's last decision, which is held without evidence, and the version of the last write.
        self._decided: dict[tuple[str, str], int] = {}
        self._written: dict[tuple[str, str], str] = {}
        self._told: dict[tuple[str, str], str] = {}
        #: The revisions whose replicas KAI schedules as a gang.
        self._gangs: set[tuple[str, str]] = set()
        #: Number of workloads, decisions, patches and errors, for the process's own metrics.
        self.counts = {"workloads": 0, "decisions": 0, "patches": 0, "errors": 0, "blind": 0, "conflicts": 0}

    def forget(self) -> None:
        """Start without a past again: another controller may have decided in the meantime."""
        for past in (self._kept, self._decided, self._written):
            past.clear()

    def list_requests(self, workloads: Iterable[LiveWorkload]) -> Requests:
        """Return the queries that ``step`` needs for the workloads, so that they can be asked side by side."""
        recorder = Recorder(self.queries)
        for live in workloads:
            # ``step`` reports a workload that cannot be read.
            with suppress(Exception):
                settings = read_settings(live.top)
                metrics = () if settings is None else settings.metrics
                for name in records.serving_revisions(live):
                    recorder.record(metrics, live.namespace, name)
        return recorder.requests

    def step(self, workloads: Iterable[LiveWorkload], readings: Readings | None = None) -> None:
        """Decide for all workloads and write the changed floors. An error of one workload does not stop the others.

        ``readings`` has the answers to the queries; without it, each is asked when it is needed.
        """
        readings = readings or Readings(self._source, self._cluster, self.queries)
        known: set[tuple[str, str]] = set()
        told: set[tuple[str, str]] = set()
        self.counts["workloads"] = self.counts["blind"] = 0
        for live in workloads:
            if "deletionTimestamp" in live.top["metadata"]:
                continue
            try:
                settings = read_settings(live.top)
                if settings is not None:
                    self.counts["workloads"] += 1
                    if problem := records.read_scale_record(live.top).problem:
                        told.add((live.namespace, live.name))
                        self._tell(live, "InvalidScaling", problem)
                    self._step_workload(live, settings, readings, known)
            except FloorError as error:
                told.add((live.namespace, live.name))
                self._tell(live, "InvalidScaling", str(error))
            except ClusterError as error:
                self.counts["errors"] += 1
                LOG.warning("%s/%s: %s", live.namespace, live.name, error)
            except Exception as error:
                # Objects are input from strangers: what one workload breaks must not stop the others.
                self.counts["errors"] += 1
                told.add((live.namespace, live.name))
                LOG.exception("%s/%s", live.namespace, live.name)
                self._tell(live, "StepFailed", f"the floor stays: {type(error).__name__}: {error}")
        for past in (self._kept, self._decided, self._written):
            for key in past.keys() - known:
                del past[key]
        self._gangs &= known
        self.queries.end_step({namespace for namespace, _ in known})
        for place in self._told.keys() - told:
            del self._told[place]
        self.counts["errors"] += len(readings.errors)

    def _step_workload(
        self, live: LiveWorkload, settings: FloorSettings, readings: Readings, known: set[tuple[str, str]]
    ) -> None:
        serving = records.serving_revisions(live)
        known.update((live.namespace, name) for name in serving)
        if any(map(records.is_in_rollout, live.revisions)):
            # One writer: until the rollout ends, it sets the minimum of its revisions, and the controller then starts with it.
            for name in serving:
                self._decided.pop((live.namespace, name), None)
            return
        manual = records.read_scale_record(live.top)
        highest = 0
        for name in serving:
            revision = find_by_name(live.revisions, name)
            if revision is None:
                # Its floor is unknown, and so is what a write would change.
                LOG.warning("%s/%s: revision %s was not read", live.namespace, live.name, name)
                continue
            decision, reasons = self._decide(live, revision, settings, readings)
            highest = max(highest, decision.floor)
            self._write(live, revision, decision, manual, reasons)
        self._raise_new_revision(live, highest)

    def follow_rollout(self, live: LiveWorkload) -> None:
        """Give a new revision the floor of those that serve, before it is ready and takes their traffic.

        Call it as soon as the workload changes: a revision can be ready before the next step.
        """
        floors = [
            read_count(find_by_name(live.revisions, name), keys.MIN_SCALE) or 0
            for name in records.serving_revisions(live)
        ]
        try:
            self._raise_new_revision(live, max([0, *floors]))
        except ClusterError as error:
            self.counts["errors"] += 1
            LOG.warning("%s/%s: %s", live.namespace, live.name, error)

    def _raise_new_revision(self, live: LiveWorkload, floor: int) -> None:
        if any(map(records.is_in_rollout, live.revisions)):
            return
        newest = records.scaled_revisions(live)[-1:]
        serving = records.serving_revisions(live)
        revision = find_by_name(live.revisions, newest[0]) if newest else None
        if revision is None or newest[0] in serving or not serving:
            return
        if find_condition(revision, "Ready").get("status") != "False" and floor > (
            read_count(revision, keys.MIN_SCALE) or 0
        ):
            self._write(live, revision, FloorDecision(floor, "rollout", ()), ScaleRecord(), [])

    def _decide(
        self, live: LiveWorkload, revision: Object, settings: FloorSettings, readings: Readings
    ) -> tuple[FloorDecision, list[str]]:
        name = str(revision["metadata"]["name"])
        place = (live.namespace, name)
        kept = self._kept.get(place)
        if kept is None or kept.settings != settings:
            kept = self._kept[place] = _Kept(settings, Floor(settings))
        resource = next((metric.name for metric in settings.metrics if metric.scope == "resource"), "cpu")
        now, date = self._clock.ticks(), self._clock.now()
        # As a Deployment does, count only replicas that stay.
        pods = {
            str(pod["metadata"]["name"]): read_pod(pod, resource)
            for pod in live.pods
            if get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == name
            and "deletionTimestamp" not in pod["metadata"]
        }
        measured = readings.measure(settings.metrics, live.namespace, name, pods, date)
        reasons = [
            f"{metric.name}: {row.reason}" for metric, row in zip(settings.metrics, measured, strict=True) if row.reason
        ]
        replicas = _read_replicas(find_by_name(live.scalers, name), revision, self._written.get(place, ""))
        # A floor that was read late, after a change of the leader, must not be held below the present one.
        floor = max(self._decided.get(place, 0), read_count(revision, keys.MIN_SCALE) or 0)
        decision = kept.floor.decide(
            now,
            floor,
            replicas,
            {pod: _shift_pod(view, now - date) for pod, view in pods.items()},
            [_shift_samples(row.value, now - date) for row in measured],
            [row.scraped for row in measured],
            date=date,
        )
        if replicas is None:
            reasons = [*reasons, "the autoscaler has not reported a decision since the last floor"]
        # A reduction counts once it is written: an old one must not be made up for without new evidence.
        self._decided[place] = max(decision.floor, floor)
        self.counts["decisions"] += 1
        if decision.cause in BLIND:
            self.counts["blind"] += 1
        return decision, reasons

    def _write(
        self, live: LiveWorkload, revision: Object, decision: FloorDecision, manual: ScaleRecord, reasons: list[str]
    ) -> None:
        """Write a floor that differs from the revision's; an unchanged one only if its cause begins or ends to be ``NOTED``."""
        name = str(revision["metadata"]["name"])
        before, place = read_count(revision, keys.MIN_SCALE), (live.namespace, name)
        floor, cause = fold_bounds(
            decision.floor, decision.cause, self._list_live_bounds(live, revision, before, manual)
        )
        if cause == GANG:
            decision = decision._replace(floor=floor)
        words = _explain(cause, decision, reasons)
        last = records.read_decision(revision)
        noted, noted_before = NOTED.get(cause, ""), NOTED.get("" if last is None else last.cause, "")
        if floor == (before or 0) and noted == noted_before:
            self._decided[place] = decision.floor
            return
        now = self._clock.now()
        record = records.format_decision(FloorDecision(floor, cause, decision.proposed), format_timestamp(now))
        annotations = {keys.MIN_SCALE: str(floor), keys.DECISION: record}
        if not self._patch(live.namespace, revision, annotations):
            return
        self._decided[place] = decision.floor
        self.counts["patches"] += 1
        if floor != (before or 0):
            self._note(live, "Normal", "Scaled", f"floor of {name} from {before or 0} to {floor}: {words}", now)
        elif noted or noted_before != NOTED[GANG]:
            self._note(live, "Warning" if noted else "Normal", noted or "EvidenceFound", f"{name}: {words}", now)

    def _list_live_bounds(
        self, live: LiveWorkload, revision: Object, before: int | None, manual: ScaleRecord
    ) -> Iterator[Bound]:
        """Yield what bounds a decision on the live objects, in the order in which it applies."""
        yield Bound("maximum", high=read_count(revision, keys.MAX_SCALE) or math.inf)
        # Until a manual minimum can be read, it may be the present one.
        yield Bound("manual", low=(before if manual.problem else manual.minimum) or 0)
        if self._is_gang(live, revision):
            yield Bound(GANG, high=max(before or 0, 1))

    def _is_gang(self, live: LiveWorkload, revision: Object) -> bool:
        """Return whether KAI schedules a revision's replicas as a gang, whose size is the floor.

        KAI evicts all pods of a gang that has had fewer than its size for 60 s, so a higher floor whose pods do not fit would
        end those that serve. Upstream: KAI-Scheduler v0.17.0 pkg/podgrouper/podgrouper/plugins/knative/knative.go (minMember is
        min-scale), pkg/podgrouper/podgroup/updater.go, pkg/scheduler/actions/stalegangeviction/stalegangeviction.go.
        """
        name = str(revision["metadata"]["name"])
        group = f"{keys.KAI_GROUP_PREFIX}{name}-{revision['metadata'].get('uid')}"
        if any(get_at(pod, "metadata", "annotations", keys.KAI_POD_GROUP) == group for pod in live.pods):
            self._gangs.add((live.namespace, name))
        return (live.namespace, name) in self._gangs

    def _patch(self, namespace: str, revision: Object, annotations: dict[str, str]) -> bool:
        """Write annotations to a revision of this leader, and return whether they were written."""
        term, place = self._term(), (namespace, str(revision["metadata"]["name"]))
        if term:
            if get_at(revision, "metadata", "annotations", keys.LEADER) not in {None, term}:
                self.counts["conflicts"] += 1
                return False
            annotations = {**annotations, keys.LEADER: term}
        try:
            written = write_annotations(self._cluster, namespace, revision, annotations, self._may_write)
        except StaleError:
            self.counts["conflicts"] += 1
            return False
        except MissingError:
            return False
        if written is None:
            return False
        self._written[place] = str(get_at(written, "metadata", "resourceVersion", default=""))
        return True

    def _tell(self, live: LiveWorkload, reason: str, message: str) -> None:
        """Record a defect of a workload once."""
        if self._told.get((live.namespace, live.name)) != message:
            self._told[live.namespace, live.name] = message
            self._note(live, "Warning", reason, message, self._clock.now())

    def _note(self, live: LiveWorkload, kind: str, reason: str, message: str, now: float) -> None:
        """Create an Event on the workload."""
        LOG.info("%s/%s %s", live.namespace, live.name, message)
        record_event(self._cluster, live.top, kind, reason, message, now)


def _read_replicas(scaler: Object | None, revision: Object, written: str) -> int | None:
    """Return the number that the autoscaler decided after it read the revision's floor, None if it is unknown.

    A number below zero means that the autoscaler does not know it either (knative.dev/serving v0.51.0
    pkg/reconciler/autoscaling/kpa/scaler.go, scaleUnknown). A number below the floor is older than the floor, which
    it never goes below (applyBounds), and a revision older than the last write has another floor.
    """
    replicas = records.read_desired_scale(scaler)
    if replicas is None or replicas < (read_count(revision, keys.MIN_SCALE) or 0):
        return None
    version = str(get_at(revision, "metadata", "resourceVersion", default=""))
    return replicas if not written or is_no_older(version, written) else None


def _shift_pod(pod: HpaPod, seconds: float) -> HpaPod:
    """Return a pod with its times on another clock."""
    start = pod.start_time
    return replace(pod, ready_since=pod.ready_since + seconds, start_time=None if start is None else start + seconds)


def _shift_samples(values: Measured, seconds: float) -> Measured:
    """Return the values with their times on another clock."""
    if not isinstance(values, Mapping):
        return values
    return {pod: row._replace(timestamp=row.timestamp + seconds) for pod, row in values.items()}


def _explain(cause: str, decision: FloorDecision, reasons: list[str]) -> str:
    """Return one sentence with the cause and the metrics' own numbers."""
    rows = [
        f"{row.name} is {format_number(round(row.usage, 3))} against {format_number(row.target)}: {row.replicas}"
        for row in decision.proposed
        if row.usage is not None and row.replicas is not None
    ]
    return "; ".join([records.FLOOR_WORDS[cause], *rows, *reasons])
