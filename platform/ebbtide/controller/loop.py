"""One step of the controller: decide the floor of each revision that serves, and write those that changed.

The floor is the annotation min-scale of the revision. Next to it, the decision is written as an annotation, so that every
reader sees what was decided and why. Upstream: knative.dev/serving v0.51.0 pkg/reconciler/revision/reconcile_resources.go.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.autoscaler.floor import Floor, FloorDecision, FloorError, FloorSettings, parse_settings
from ebbtide.base import keys
from ebbtide.base.paths import get_at
from ebbtide.base.quantities import format_number
from ebbtide.cluster.client.protocol import REVISION, ClusterError, MissingError
from ebbtide.cluster.read.inventory import find_by_name, format_timestamp
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.read.records import (
    FLOOR_WORDS,
    is_in_rollout,
    read_decision,
    read_scale_record,
    scaled_revisions,
    serving_revisions,
)
from ebbtide.controller.events import make_event, record_event
from ebbtide.controller.measure import Readings, read_pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebbtide.cluster.client.protocol import Clock, Cluster
    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.controller.measure import SampleSource
    from ebbtide.profile.models import Projects
    from ebbtide.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.controller")
#: Causes without values to decide by.
BLIND: Final = frozenset({"held", "fallback"})


class Change(NamedTuple):
    """A written floor: the revision, the former and the new number (None: unknown), and the sentence about it."""

    namespace: str
    workload: str
    revision: str
    before: int | None
    after: int
    words: str


class Controller:
    """The floors of all workloads with the controller's annotation."""

    def __init__(self, cluster: Cluster, source: SampleSource, clock: Clock, projects: Projects) -> None:
        """Start without a past. ``projects`` limits what the queries of members read."""
        self._cluster, self._source, self._clock, self._projects = cluster, source, clock, projects
        self._floors: dict[tuple[str, str], tuple[str, Floor]] = {}
        self._told: dict[tuple[str, str], str] = {}
        #: Number of workloads, decisions, patches and errors, for the process's own metrics.
        self.counts = {"workloads": 0, "decisions": 0, "patches": 0, "errors": 0, "blind": 0}
        #: Time of the last complete step, in seconds since 1970.
        self.stepped_at = 0.0

    def step(self, workloads: Iterable[LiveWorkload]) -> list[Change]:
        """Decide for all workloads and write the changed floors. An error of one workload does not stop the others."""
        readings = Readings(self._source, self._cluster, self._projects)
        now = self._clock.now()
        changes: list[Change] = []
        known: set[tuple[str, str]] = set()
        told: set[tuple[str, str]] = set()
        self.counts["workloads"] = self.counts["blind"] = 0
        for live in workloads:
            text = (live.top["metadata"].get("annotations") or {}).get(keys.FLOOR)
            if text is None or "deletionTimestamp" in live.top["metadata"]:
                continue
            self.counts["workloads"] += 1
            try:
                settings = parse_settings(text)
                changes += self._step_workload(live, text, settings, readings, now, known)
            except FloorError as error:
                told.add((live.namespace, live.name))
                self._tell(live, "InvalidScaling", str(error))
            except ClusterError as error:
                self.counts["errors"] += 1
                LOG.warning("%s/%s: %s", live.namespace, live.name, error)
        for key in self._floors.keys() - known:
            del self._floors[key]
        for place in self._told.keys() - told:
            del self._told[place]
        self.counts["errors"] += len(readings.errors)
        self.stepped_at = self._clock.now()
        return changes

    def _step_workload(
        self,
        live: LiveWorkload,
        text: str,
        settings: FloorSettings,
        readings: Readings,
        now: float,
        known: set[tuple[str, str]],
    ) -> Iterator[Change]:
        serving = serving_revisions(live)
        if any(map(is_in_rollout, live.revisions)):
            # One writer: until the rollout ends, it sets the minimum of its revisions.
            known.update((live.namespace, name) for name in serving)
            return
        manual = get_at(read_scale_record(live.top), "minReplicas")
        highest = 0
        for name in serving:
            known.add((live.namespace, name))
            decision, reasons = self._decide(live, name, text, settings, readings, now)
            highest = max(highest, decision.floor)
            yield from self._write(live, name, decision, manual, reasons, now)
        yield from self._raise_new_revision(live, highest, now)

    def follow_rollout(self, live: LiveWorkload) -> list[Change]:
        """Give a new revision the floor of those that serve, before it is ready and takes their traffic.

        Call it as soon as the workload changes: a revision can be ready before the next step.
        """
        floors = [_read_floor(find_by_name(live.revisions, name)) or 0 for name in serving_revisions(live)]
        try:
            return list(self._raise_new_revision(live, max([0, *floors]), self._clock.now()))
        except ClusterError as error:
            self.counts["errors"] += 1
            LOG.warning("%s/%s: %s", live.namespace, live.name, error)
            return []

    def _raise_new_revision(self, live: LiveWorkload, floor: int, now: float) -> Iterator[Change]:
        if any(map(is_in_rollout, live.revisions)):
            return
        newest = scaled_revisions(live)[-1:]
        serving = serving_revisions(live)
        revision = find_by_name(live.revisions, newest[0]) if newest else None
        if revision is None or newest[0] in serving or not serving:
            return
        if find_condition(revision, "Ready").get("status") != "False" and floor > (_read_floor(revision) or 0):
            yield from self._write(live, newest[0], FloorDecision(floor, "rollout", ()), None, [], now)

    def _decide(
        self, live: LiveWorkload, name: str, text: str, settings: FloorSettings, readings: Readings, now: float
    ) -> tuple[FloorDecision, list[str]]:
        place = (live.namespace, name)
        kept = self._floors.get(place)
        if kept is None or kept[0] != text:
            kept = self._floors[place] = (text, Floor(settings))
        resource = next((metric.name for metric in settings.metrics if metric.scope == "resource"), "cpu")
        # As a Deployment does, count only replicas that stay.
        pods = {
            str(pod["metadata"]["name"]): read_pod(pod, resource)
            for pod in live.pods
            if get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == name
            and "deletionTimestamp" not in pod["metadata"]
        }
        scaler = find_by_name(live.scalers, name)
        replicas = max(int(get_at(scaler, "status", "desiredScale", default=len(pods))), 0)
        measured, reasons = readings.measure(settings.metrics, live.namespace, name, pods, now)
        before = _read_floor(find_by_name(live.revisions, name))
        decision = kept[1].decide(now, before or 0, replicas, pods, measured)
        self.counts["decisions"] += 1
        if decision.cause in BLIND:
            self.counts["blind"] += 1
        return decision, reasons

    def _write(
        self,
        live: LiveWorkload,
        name: str,
        decision: FloorDecision,
        manual: int | None,
        reasons: list[str],
        now: float,
    ) -> Iterator[Change]:
        """Write a floor that differs from the revision's; an unchanged floor is written only if its cause becomes blind."""
        revision = find_by_name(live.revisions, name)
        before, floor, cause = _read_floor(revision), decision.floor, str(decision.cause)
        limit = get_at(revision, "metadata", "annotations", keys.MAX_SCALE, default="0")
        maximum = int(limit) if str(limit).isdigit() else 0
        if maximum and floor > maximum:
            floor, cause = maximum, "maximum"
        if manual is not None and manual > floor:
            floor, cause = int(manual), "manual"
        words = _explain(cause, decision, reasons)
        last = read_decision(revision)
        turned_blind = (cause in BLIND) != (last is not None and last.get("cause") in BLIND)
        if floor == (before or 0) and not turned_blind:
            return
        record = {
            "floor": floor,
            "cause": cause,
            "at": format_timestamp(now),
            "metrics": [
                {"name": row.name, "replicas": row.replicas, "value": row.usage, "target": row.target}
                for row in decision.proposed
            ],
        }
        annotations = {keys.MIN_SCALE: str(floor), keys.DECISION: json.dumps(record, separators=(",", ":"))}
        try:
            self._cluster.patch(REVISION, name, live.namespace, {"metadata": {"annotations": annotations}})
        except MissingError:
            return
        self.counts["patches"] += 1
        if floor != (before or 0):
            self._note(live, "Normal", "Scaled", f"floor of {name} from {before or 0} to {floor}: {words}", now)
        elif turned_blind:
            kind = "Warning" if cause in BLIND else "Normal"
            self._note(live, kind, "MetricMissing" if cause in BLIND else "MetricFound", f"{name}: {words}", now)
        yield Change(live.namespace, live.name, name, before, floor, words)

    def _tell(self, live: LiveWorkload, reason: str, message: str) -> None:
        """Record a defect of a workload once."""
        if self._told.get((live.namespace, live.name)) != message:
            self._told[live.namespace, live.name] = message
            self._note(live, "Warning", reason, message, self._clock.now())

    def _note(self, live: LiveWorkload, kind: str, reason: str, message: str, now: float) -> None:
        """Create an Event on the workload."""
        LOG.info("%s/%s %s", live.namespace, live.name, message)
        name = f"{live.name}.{int(now * 1000):x}"
        record_event(self._cluster, make_event(live.top, name, kind, reason, message, now))


def has_new_revision(live: LiveWorkload) -> bool:
    """Return whether a workload is about to have a revision that serves, or has one that does not serve yet."""
    service = live.service or {}
    if get_at(service, "status", "observedGeneration") != get_at(service, "metadata", "generation"):
        return True
    newest = get_at(service, "status", "latestCreatedRevisionName", default="")
    revision = find_by_name(live.revisions, newest)
    failed = revision is not None and find_condition(revision, "Ready").get("status") == "False"
    return bool(newest) and newest not in serving_revisions(live) and not failed


def _read_floor(revision: Object | None) -> int | None:
    text = get_at(revision, "metadata", "annotations", keys.MIN_SCALE)
    return int(text) if isinstance(text, str) and text.isdigit() else None


def _explain(cause: str, decision: FloorDecision, reasons: list[str]) -> str:
    """Return one sentence with the cause and the metrics' own numbers."""
    rows = [
        f"{row.name} is {format_number(round(row.usage, 3))} against {format_number(row.target)}: {row.replicas}"
        for row in decision.proposed
        if row.usage is not None and row.replicas is not None
    ]
    return "; ".join([FLOOR_WORDS[cause], *rows, *reasons])
