"""The guards of the controller: what they observe, where their states are kept, and the stop for all.

The decisions are those of ``core.autoscaler.guard``. Here, the evidence is that of queue-proxy's counters: totals by pod, from one
query per workload, so that all are of the same scrape. An interval counts only if every pod that serves was scraped
shortly before, and no pod disappeared with requests that were not counted.

A state is a ConfigMap in the controller's own namespace, which no member of a project can write, and a former leader's write has
no effect: a new leader takes the object over before it decides. ``STOP`` is the stop for all; a stop that cannot be read counts as set.

Upstream: knative.dev/serving v0.51.0 pkg/queue/sharedmain/handlers.go (what the histograms include, and the drain of 30 s),
v0.48.1 and v0.51.0 pkg/queue/request_metric.go (kn.serving.invocation.duration),
prometheus.io/docs/prometheus/latest/querying/functions (timestamp).
"""

from __future__ import annotations

import logging
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ebbtide.cluster.client.protocol import CONFIG_MAP, REVISION, Clock, Cluster, ClusterError, MissingError, StaleError
from ebbtide.cluster.controller.probes import format_metric
from ebbtide.cluster.read.inventory import LiveWorkload, parse_timestamp
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.read.records import GuardRecord, scaled_revisions
from ebbtide.core.autoscaler.floor import FloorSettings
from ebbtide.core.base import keys, names
from ebbtide.core.base.metrics import HISTOGRAMS
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import format_number

if TYPE_CHECKING:
    from ebbtide.cluster.controller.measure import Readings
    from ebbtide.core.autoscaler.guard import Guard, GuardDecision
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: The ConfigMap of the stop for all, and its key; without it, guards act. The states are named after it.
STOP: Final = "ebbtide-guard"
SWITCH: Final = "guard"
STATE: Final = "state"
#: Maximum number of guarded workloads, so that their metrics and states are bounded. Namespaces get them in turn, and others keep
#: the author's minimum.
MAX_GUARDED: Final = 100
#: Seconds between two writes of a state that changed nothing.
SAVE_SECONDS: Final = 600.0
#: Steps after which the state of a workload that is gone is deleted.
ABSENT_STEPS: Final = 40
#: Age in seconds above which a scrape is not evidence, and seconds for which an incomplete interval is extended.
SCRAPE_SECONDS: Final = 40.0
WAIT_SECONDS: Final = 45.0
#: Seconds from the deletion of a pod until no request reaches it.
LAST_REQUEST_SECONDS: Final = 10.0
#: Number of intervals, 10 minutes, whose requests give the mean time in the server.
SERVED_INTERVALS: Final = 40
#: queue-proxy's histograms of a request since Knative 1.21, with and without its time in queue-proxy's queue.
TOTAL: Final = HISTOGRAMS[0][1]
SERVED: Final = TOTAL._replace(series="kn_serving_invocation_duration_seconds")


class Counters(NamedTuple):
    """A pod's counters at one scrape, at ``at`` in ticks: requests, those over the limit, and the time in the server."""

    at: float
    requests: float
    late: float
    served: float
    slow: float
    seconds: float


#: The counters of a pod that has had no requests.
IDLE: Final = Counters(0.0, 0, 0, 0, 0, 0.0)


@dataclass(slots=True)
class Watched:
    """The guard of a workload, and what was read of its pods; times are in ticks."""

    guard: Guard
    #: True if it only observes.
    stays: bool
    #: The settings and the revision for which it was created.
    key: tuple[object, ...]
    #: Its stored state as it was read or written last, when that was, and the floor in it.
    basis: Object
    saved_at: float
    #: Steps since the workload was there.
    absent_steps: int = 0
    saved_floor: int | None = None
    #: Counters by pod at the end of the last complete interval, None without one, and when that was.
    counters: dict[str, Counters] | None = None
    read_at: float = 0.0
    #: Since when pods end.
    ending: dict[str, float] = field(default_factory=dict)
    #: Seconds in the server and requests of the last intervals, and the last known start-up.
    served: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SERVED_INTERVALS))
    start_up: float | None = None
    decision: GuardDecision | None = None


class Lowering(NamedTuple):
    """The minimum that a guard allows, the record of its decision, and whether that record is due to be published."""

    minimum: int
    record: GuardRecord
    due: bool


def find_limit(seconds: float) -> float:
    """Return the largest bound of the histograms, in seconds, that is at most a limit; 0 if there is none."""
    bounds = [bound / TOTAL.milliseconds for bound in TOTAL.bounds]
    return max((bound for bound in bounds if bound <= seconds), default=0.0)


def make_query(namespace: str, revision: str, limit: float) -> str:
    """Return the query for the counters of a revision's pods, and for the age of their last scrape in seconds."""
    pods = f'container="queue-proxy",namespace="{namespace}",pod=~"{revision}-deployment-.+"'
    parts = ("count", "bucket", "sum")
    series = "|".join(["up", *(f"{histogram.series}_{part}" for histogram in (TOTAL, SERVED) for part in parts)])
    # Only buckets have the label. Prometheus 3 writes a whole bound as 1.0, and earlier versions as 1.
    bound = format_number(limit)
    # ``or`` compares the labels without the name, so the age needs another one.
    return (
        f'sum by (__name__, pod) ({{__name__=~"{series}",le=~"|{bound}|{bound}.0",{pods}}}) or '
        f'label_replace(max by (pod) (time() - timestamp(up{{{pods}}})), "is", "age", "", "")'
    )


def read_counters(rows: Sequence[tuple[Mapping[str, str], float]], now: float) -> dict[str, Counters]:
    """Return the counters of the pods that were scraped shortly before ``now``, once each."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, value in rows:
        values[labels.get("pod", "")][labels.get("__name__", "age")] = value
    result = {}
    for pod, found in values.items():
        if found.get("up") != 1 or not found.get("age", SCRAPE_SECONDS + 1) <= SCRAPE_SECONDS:
            continue
        total, served = (
            (found.get(f"{row.series}_count", 0.0), found.get(f"{row.series}_bucket", 0.0)) for row in (TOTAL, SERVED)
        )
        result[pod] = Counters(
            at=now - found["age"],
            requests=total[0],
            late=total[0] - total[1],
            served=served[0],
            slow=served[0] - served[1],
            seconds=found.get(f"{SERVED.series}_sum", 0.0),
        )
    return result


class Guards:
    """The guards of all workloads that have one."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        namespace: str,
        profile: ProfileSpec,
        *,
        may_write: Callable[[], bool] = lambda: True,
        term: Callable[[], str] = lambda: "",
    ) -> None:
        """Know nothing yet. ``namespace`` is the controller's own, ``profile`` has the settings of Knative's autoscaler."""
        self._cluster, self._clock, self._namespace, self._profile = cluster, clock, namespace, profile
        self._may_write, self._term = may_write, term
        self._watched: dict[tuple[str, str], Watched] = {}
        self._stopped: bool | None = None

    def forget(self) -> None:
        """Read the states again before the next decision: another controller may have written them."""
        self._watched.clear()

    def begin(self) -> None:
        """Start a step: the stop is read again, and the states of workloads that have been gone for long are deleted."""
        self._stopped = None
        for place, watched in list(self._watched.items()):
            watched.absent_steps += 1
            if watched.absent_steps > ABSENT_STEPS and self._may_write():
                self._drop(place)

    def _drop(self, place: tuple[str, str]) -> None:
        """Forget a guard, and delete its state."""
        del self._watched[place]
        try:
            self._cluster.delete(CONFIG_MAP, _name_state(place), self._namespace)
        except ClusterError as error:
            LOG.warning("state of %s/%s: %s", *place, error)

    def _find_surplus(self, namespace: str) -> tuple[str, str] | None:
        """Return the guard that one of a namespace may replace if none is free: of the namespace with the most, if it has two more."""
        counts = Counter(place[0] for place in self._watched)
        largest = max(counts, key=lambda name: counts[name], default=namespace)
        if counts[largest] < counts[namespace] + 2:
            return None
        return max(place for place in self._watched if place[0] == largest)

    def keep(self, live: LiveWorkload) -> None:
        """Keep the state of a workload, whether or not it is decided on in this step."""
        watched = self._watched.get((live.namespace, live.name))
        if watched is not None:
            watched.absent_steps = 0

    def decide(self, live: LiveWorkload, settings: FloorSettings, revision: str, readings: Readings) -> Lowering | None:
        """Return what the guard of a workload allows in this step; None if the author's minimum applies without its word."""
        place = (live.namespace, live.name)
        if settings.guard is None:
            return None
        is_full = place not in self._watched and len(self._watched) >= MAX_GUARDED
        if is_full and self._find_surplus(live.namespace) is None:
            return None
        try:
            watched = self._watch(live, settings, revision)
            if watched is None:
                return None
            self._observe(
                watched,
                live,
                revision,
                readings.ask(make_query(live.namespace, revision, watched.guard.settings.limit)),
            )
            return self._allow(watched, place)
        except (StaleError, MissingError):
            # Another process has written or deleted the state: read it again.
            self._watched.pop(place, None)
        except ClusterError as error:
            LOG.warning("guard of %s/%s: %s", *place, error)
        except Exception:
            # A failure of a guard must return the author's minimum.
            LOG.exception("guard of %s/%s", *place)
            self._watched.pop(place, None)
        return None

    def list_decisions(self) -> list[tuple[tuple[str, str], GuardDecision]]:
        """Return the last decision of each guard, by namespace and name."""
        return [(place, row.decision) for place, row in sorted(self._watched.items()) if row.decision is not None]

    def _is_stopped(self) -> bool:
        """Return whether each floor must be the author's minimum: guards are stopped, or it is not known that they are not."""
        if self._stopped is None:
            try:
                self._stopped = get_at(self._cluster.get(CONFIG_MAP, STOP, self._namespace), "data", SWITCH) != "on"
            except MissingError:
                self._stopped = False
            except ClusterError as error:
                LOG.warning("the stop of all guards cannot be read, so they are stopped: %s", error)
                self._stopped = True
        return self._stopped

    # The settings and the state of a guard.

    def _watch(self, live: LiveWorkload, settings: FloorSettings, revision: str) -> Watched | None:
        """Return the guard of a workload, whose settings have one; None if several revisions serve, or if its autoscaler cannot be replayed."""
        place, now = (live.namespace, live.name), self._clock.ticks()
        watched = self._watched.get(place)
        if scaled_revisions(live) != [revision]:
            if watched is not None:
                watched.counters = watched.decision = None
            return None
        # ``ebbtide scale`` changes the target of a revision.
        key = (settings, revision, get_at(live.top, "metadata", "annotations", keys.SCALE))
        if watched is not None and watched.key == key:
            return watched
        guard = self._make_guard(settings, self._cluster.get(REVISION, revision, live.namespace))
        if guard is None or not self._may_write():
            return None
        from ebbtide.core.autoscaler.guard import format_state, restore_state  # noqa: PLC0415 - see _make_guard

        if watched is None:
            surplus = self._find_surplus(live.namespace) if len(self._watched) >= MAX_GUARDED else None
            if surplus is not None:
                self._drop(surplus)
            basis = self._take_over(place)
            state = str(get_at(basis, "data", STATE, default=""))
        else:
            basis, state = watched.basis, "" if watched.guard.state is None else format_state(watched.guard)
        # Of other settings, nothing is known.
        stays = settings.guard is not None and settings.guard.mode == "shadow"
        restore_state(guard, state)
        watched = self._watched[place] = Watched(guard, stays, key, basis, now)
        return watched

    def _make_guard(self, settings: FloorSettings, revision: Object) -> Guard | None:
        """Return a guard without a past for the settings of a revision; None if its autoscaler cannot be replayed."""
        # Only a controller with guarded workloads needs the replays and the simulator's settings.
        from ebbtide.core.autoscaler.guard import Guard, Scaling, count_slots, make_guard_settings  # noqa: PLC0415 - as above
        from ebbtide.simulator.setting import NotSimulated, from_annotations  # noqa: PLC0415 - as above

        terms = make_guard_settings(settings)
        # The floor is not a setting of the author.
        annotations = {
            key: value
            for key, value in get_at(revision, "metadata", "annotations", default={}).items()
            if key != keys.MIN_SCALE
        }
        concurrency = get_at(revision, "spec", "containerConcurrency", default=0)
        try:
            setting = from_annotations(annotations, self._profile, container_concurrency=concurrency)
            slots = count_slots(setting.revision, setting.config, float(concurrency))
            limit = 0.0 if terms is None else find_limit(terms.limit)
            if terms is None or not limit or settings.metrics or not slots:
                return None
            scaling = Scaling(revision=setting.revision, config=setting.config, slots=slots, weighted=setting.weighted)
            return Guard(replace(terms, limit=limit), scaling)
        except (NotSimulated, ValueError) as error:
            LOG.warning("guard of revision %s: %s", revision["metadata"]["name"], error)
            return None

    def _take_over(self, place: tuple[str, str]) -> Object:
        """Return the stored state of a workload, which from now on only this leader writes; it is created if it is missing."""
        name = _name_state(place)
        mark = {"metadata": {"annotations": {keys.LEADER: self._term()}}}
        try:
            found = self._cluster.get(CONFIG_MAP, name, self._namespace)
        except MissingError:
            metadata = {"name": name, "namespace": self._namespace, "labels": {keys.APP_NAME: names.CONTROLLER}}
            return self._cluster.create(
                {
                    "apiVersion": CONFIG_MAP.api_version,
                    "kind": CONFIG_MAP.name,
                    "metadata": metadata | mark["metadata"],
                }
            )
        return self._cluster.patch(CONFIG_MAP, name, self._namespace, mark, basis=found)

    def _save(self, watched: Watched, place: tuple[str, str]) -> None:
        """Store the state of a guard, unless another process has written it. Raises ClusterError."""
        from ebbtide.core.autoscaler.guard import format_state  # noqa: PLC0415 - see _make_guard

        data = {"data": {STATE: format_state(watched.guard)}}
        watched.basis = self._cluster.patch(CONFIG_MAP, _name_state(place), self._namespace, data, basis=watched.basis)
        watched.saved_at = self._clock.ticks()

    # Evidence and decision.

    def _observe(
        self,
        watched: Watched,
        live: LiveWorkload,
        revision: str,
        rows: Sequence[tuple[Mapping[str, str], float]] | str,
    ) -> None:
        """Add the interval until now to the record of a guard, and decide. An incomplete one is extended for ``WAIT_SECONDS``."""
        from ebbtide.core.autoscaler.guard import Observation  # noqa: PLC0415 - see _make_guard

        now = self._clock.ticks()
        pods = {
            str(pod["metadata"]["name"]): pod
            for pod in live.pods
            if get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == revision
        }
        before = watched.counters
        known = pods.keys() | (before or {}).keys()
        watched.ending = {name: since for name, since in watched.ending.items() if name in known} | {
            name: watched.ending.get(name, now - self._count_seconds_of_ending(pod))
            for name, pod in pods.items()
            if "deletionTimestamp" in pod["metadata"]
        }
        ready = {name for name, pod in pods.items() if find_condition(pod, "Ready").get("status") == "True"}
        self._note_start_ups(watched, [pods[name] for name in ready])
        counters = {} if isinstance(rows, str) else read_counters(rows, now)
        needed = (ready - watched.ending.keys()) | ((before or {}).keys() & pods.keys())
        seen = Observation(
            date=self._clock.now(),
            seconds=0.0 if before is None else now - watched.read_at,
            arrivals=None,
            late=None,
            slow=None,
            service=None,
            start_up=watched.start_up,
        )
        if isinstance(rows, str) or not needed <= counters.keys():
            if before is not None and seen.seconds <= WAIT_SECONDS:
                return
            counters, before = {}, None
            watched.counters = None
        else:
            watched.counters, watched.read_at = counters, now
        if before is not None and not _is_any_lost(before, counters, watched.ending):
            deltas = [_subtract(row, before.get(pod, IDLE)) for pod, row in counters.items()]
            total = Counters(*(sum(values) for values in zip(IDLE, *deltas, strict=True)))
            watched.served.append((total.seconds, total.served))
            count = sum(number for _, number in watched.served)
            seen = seen._replace(
                arrivals=round(total.requests),
                late=round(total.late),
                slow=round(total.slow),
                service=sum(part for part, _ in watched.served) / count if count else None,
            )
        state = watched.guard.state
        steps = [] if state is None else [*state.steps]
        watched.decision = watched.guard.observe(seen)
        if (watched.stays or self._is_stopped()) and watched.guard.state is not None:
            # The replays go on, but the minimum stays.
            watched.guard.state.floor, watched.guard.state.steps = watched.decision.minimum, steps

    def _count_seconds_of_ending(self, pod: Object) -> float:
        """Return for how long a pod has been ending: its timestamp is that of its latest end."""
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 0))
        return max(self._clock.now() - parse_timestamp(pod["metadata"]["deletionTimestamp"]) + grace, 0.0)

    def _note_start_ups(self, watched: Watched, pods: Sequence[Object]) -> None:
        """Keep the time from the creation of a pod until it was ready, the median of those that are."""
        seconds = [
            parse_timestamp(find_condition(pod, "Ready").get("lastTransitionTime"))
            - parse_timestamp(pod["metadata"].get("creationTimestamp"))
            for pod in pods
        ]
        if seconds:
            watched.start_up = max(statistics.median_high(seconds), 0.0)

    def _allow(self, watched: Watched, place: tuple[str, str]) -> Lowering | None:
        """Return the minimum that the last decision allows, after the state behind it is stored. Raises ClusterError."""
        decision = watched.decision
        if decision is None:
            return None
        stays = watched.stays or self._is_stopped()
        minimum = decision.minimum if stays else decision.floor
        acts = minimum != watched.saved_floor
        due = acts or self._clock.ticks() - watched.saved_at >= SAVE_SECONDS
        if due and self._may_write():
            try:
                self._save(watched, place)
                watched.saved_floor = minimum
            except (StaleError, MissingError):
                raise
            except ClusterError as error:
                # The minimum changes only if a restart cannot forget it; to return it, nothing is needed.
                LOG.warning("state of %s/%s: %s", *place, error)
                minimum = decision.minimum if acts else minimum
        reason = "observes" if watched.stays else "stopped" if stays else decision.reason
        return Lowering(minimum, make_record(decision, reason), due)


def make_record(decision: GuardDecision, reason: str) -> GuardRecord:
    """Return the record of a decision, with the sums of the candidate in force, or else of the cheapest one."""
    cheapest = min(decision.candidates, key=lambda name: decision.candidates[name].replica_seconds)
    candidate = decision.candidate or cheapest
    return GuardRecord(
        reason=reason,
        minimum=decision.minimum,
        requests=decision.requests,
        late=decision.late,
        author=decision.author,
        candidate=candidate,
        lowered=decision.candidates[candidate],
    )


def format_guard_metrics(decisions: Sequence[tuple[tuple[str, str], GuardDecision]]) -> str:
    """Return the sums of guards over 24 h for Prometheus: at most ``MAX_GUARDED`` workloads, with five settings each."""
    tables: dict[tuple[str, str], list[str]] = {
        ("guard_late_requests", "Late requests of 24 h, measured and by replay of a setting"): [],
        ("guard_replica_seconds", "Replica-seconds of 24 h, by replay of a setting"): [],
        ("guard_requests", "Requests of 24 h"): [],
        ("guard_minimum", "Minimum that the guard allows"): [],
    }
    late, seconds, requests, minimum = tables.values()
    for (namespace, name), row in decisions:
        labels = f'workload_namespace="{namespace}",workload="{name}"'
        late.append(f'{{{labels},setting="measured"}} {row.late}')
        requests.append(f"{{{labels}}} {row.requests}")
        minimum.append(f"{{{labels}}} {row.floor}")
        for setting, sums in (("author", row.author), *row.candidates.items()):
            late.append(f'{{{labels},setting="{setting}"}} {sums.late:g}')
            seconds.append(f'{{{labels},setting="{setting}"}} {sums.replica_seconds:.0f}')
    return "".join(format_metric(name, "gauge", text, *lines) for (name, text), lines in tables.items() if lines)


def _name_state(place: tuple[str, str]) -> str:
    """Return the name of the ConfigMap of a workload's state; names of namespaces and workloads contain no dot."""
    return f"{STOP}.{place[0]}.{place[1]}"


def _is_any_lost(before: Mapping[str, Counters], counters: Mapping[str, Counters], ending: Mapping[str, float]) -> bool:
    """Return whether requests of a pod were not counted: it restarted, or disappeared without a scrape while it ended.

    queue-proxy ends only after 30 s without a request, so that a scrape has all of them.
    """
    return any(
        ending.get(pod, float("inf")) + LAST_REQUEST_SECONDS > row.at
        if pod not in counters
        else counters[pod].requests < row.requests or counters[pod].served < row.served
        for pod, row in before.items()
    )


def _subtract(row: Counters, before: Counters) -> Counters:
    return Counters(row.at, *(value - past for value, past in zip(row[1:], before[1:], strict=True)))
