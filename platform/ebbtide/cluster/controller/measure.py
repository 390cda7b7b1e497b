"""The values of the metrics with their evidence: one query for all workloads, one list of the pods' resource use.

Ebbtide makes the query of a metric from its name, because members of a project can write the annotation: each of its values has
the namespace and the pod that it belongs to. The range over which a query reads counters follows the scrape interval, which the
times of the pods' scrapes show.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.read.inventory import parse_timestamp
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.autoscaler.floor import VALUE_AGE_SECONDS, FloorMetric, Scraped
from ebbtide.core.autoscaler.hpa import HpaPod, Measured, Sample
from ebbtide.core.base import metrics
from ebbtide.core.base.engine_metrics import find_engine_metrics
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import parse_nano
from ebbtide.core.profile.metric_names import find_scrape_job
from ebbtide.core.profile.projects import find_query_access
from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

#: The use of all pods' resources, by metrics-server.
USE: Final = "/apis/metrics.k8s.io/v1beta1/pods"
MILLI: Final = 1000
#: Scrape intervals in seconds that a query can be made for. Above the last one, most values are older than ``VALUE_AGE_SECONDS``.
INTERVALS: Final = (5, 10, 15, 20, 30, metrics.MAX_SCRAPE_SECONDS)
#: Maximum and minimum number of intervals whose median counts, one of each step: an outage makes one of them longer.
KEPT_INTERVALS, KNOWN_INTERVALS = 9, 3
#: Steps for which the interval of a metric is kept that has no values.
KEPT_STEPS: Final = 240
#: Seconds for which the last scrape of a pod is kept.
KEPT_SECONDS: Final = 600.0
#: Maximum value of a percentage, with the errors of a computed one.
MAX_PERCENTAGE: Final = 100.5
_NANO_PER_MILLI: Final = 1_000_000
_DURATION: Final = re.compile(r"(\d+)(ms|[smhdwy])")
_RANGE: Final = re.compile(r"\[\s*((?:\d+(?:ms|[smhdwy]))+)\s*[:\]]|\boffset\s+((?:\d+(?:ms|[smhdwy]))+)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}


class QueryError(ValueError):
    """A metric has no query that may be sent; the message is for its author."""


class SampleSource(Protocol):
    """A source of instant values: a Prometheus, or a stand-in for tests."""

    def samples(self, query: str, namespace: str = "", /) -> list[tuple[Mapping[str, str], float]]:
        """Return the labels and the finite values of a query's result now, or raise a ``SourceError``.

        With a namespace, the query reads only its series.
        """


class UseSource(Protocol):
    """The API server, or a part of it that serves ``USE``."""

    def read(self, path: str) -> Object:
        """Return the response at a path, or raise a ``ClusterError``."""


class MetricQueries:
    """The queries of metrics on one cluster, with the scrape intervals that were seen."""

    def __init__(self, profile: ProfileSpec) -> None:
        """Start without a past. The profile limits what the queries of members read."""
        self._profile = profile
        #: By namespace and metric: the last scrape of each pod, the least interval of this step and those of the last steps, and
        #: the interval in use.
        self._scraped: dict[tuple[str, str], dict[str, float]] = {}
        self._passed: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str], deque[float]] = {}
        self._intervals: dict[tuple[str, str], int] = {}
        #: The number of steps, and the last one that read a metric: members can name any number of metrics, one after the other.
        self._steps = 0
        self._noted: dict[tuple[str, str], int] = {}
        #: Number of changes of an interval: queries that were made before are outdated.
        self.changes = 0

    def make(self, metric: FloorMetric, namespace: str, revision: str) -> str:
        """Return the query to send for a metric of a workload, or raise a ``QueryError``."""
        if metric.scope != "pod":
            query, pods = (
                text.replace("{revision}", revision).replace("{namespace}", namespace)
                for text in (metric.query, metric.pods)
            )
            if find_query_access(self._profile.projects, namespace) == "none":
                raise QueryError(f"the project of namespace {namespace} must not use queries")
            return metrics.make_shared_evidence_query(query, pods)
        row = metrics.find_metric(metric.name) or metrics.CUSTOM
        if row is metrics.CUSTOM and metrics.NAME.fullmatch(metric.name) is None:
            raise QueryError(f"{metric.name} is not the name of a Prometheus metric")
        if row.source != "histogram" and not row.pod_query:
            raise QueryError(f"{metric.name} is not read from Prometheus")
        if metric.engine and find_engine_metrics(metric.engine) is None:
            raise QueryError(f"{metric.engine} is not an engine whose metrics are known")
        return metrics.make_evidence_query(
            row,
            metric.name,
            engine=metric.engine,
            scrape=self.find_interval(namespace, metric.name),
            exporter=find_scrape_job(self._profile.metrics, "gpu"),
        )

    def find_scope(self, metric: FloorMetric, namespace: str) -> str:
        """Return the namespace whose series a metric's query may read, empty if all: Ebbtide makes it, or the profile allows it."""
        is_limited = find_query_access(self._profile.projects, namespace) == "proxy"
        return namespace if metric.scope != "pod" and is_limited else ""

    def find_interval(self, namespace: str, name: str) -> int:
        """Return the row of ``INTERVALS`` for a metric's scrapes in a namespace, the last one if they are further apart."""
        return self._intervals.get((namespace, name), metrics.SCRAPE_SECONDS)

    def note_scrapes(self, namespace: str, name: str, times: Mapping[str, float]) -> None:
        """Learn the interval of a metric's scrapes from their times by pod; raise a ``QueryError`` if it is too long."""
        place = (namespace, name)
        self._noted[place] = self._steps
        known = self._scraped.setdefault(place, {})
        for pod, time in times.items():
            passed = time - known.get(pod, time)
            if passed > 0:
                self._passed[place] = min(passed, self._passed.get(place, passed))
            known[pod] = time
        seen = self._seen.get(place, ())
        if len(seen) >= KNOWN_INTERVALS and min(seen) > INTERVALS[-1] * metrics.SCRAPE_TOLERANCE:
            raise QueryError(
                f"Prometheus scrapes the pods of namespace {namespace} every {median(seen):.0f} s, and values count for "
                f"{VALUE_AGE_SECONDS:g} s: scrape them every {INTERVALS[-1]} s or more often"
            )

    def end_step(self, namespaces: set[str]) -> None:
        """Use what was learned from the next step on, so that one step makes one query; forget what is not read any more."""
        for place, seconds in self._passed.items():
            self._seen.setdefault(place, deque(maxlen=KEPT_INTERVALS)).append(seconds)
        self._passed.clear()
        self._steps += 1
        for place in [*self._noted]:
            if place[0] not in namespaces or self._steps - self._noted[place] > KEPT_STEPS:
                del self._noted[place]
                self._scraped.pop(place, None)
                self._seen.pop(place, None)
        for place, known in self._scraped.items():
            oldest = max(known.values(), default=0.0) - KEPT_SECONDS
            self._scraped[place] = {pod: time for pod, time in known.items() if time >= oldest}
        before, self._intervals = self._intervals, {}
        for place, seen in self._seen.items():
            if len(seen) >= KNOWN_INTERVALS:
                fitting = (row for row in INTERVALS if median(seen) <= row * metrics.SCRAPE_TOLERANCE)
                self._intervals[place] = next(fitting, INTERVALS[-1])
        self.changes += self._intervals != before


class Reading(NamedTuple):
    """The value of a metric, None without one; where its evidence is from; and the reason if that is not complete."""

    value: Measured
    scraped: Scraped
    reason: str = ""


class _Rows(NamedTuple):
    """The rows of a query by meaning: all values, those of pods and their scrapes by namespace and name, and its own time."""

    values: list[float]
    of_pods: dict[tuple[str, str], float]
    scraped: dict[tuple[str, str], float]
    evaluated: float | None


#: Evidence of no value.
_NONE: Final = Scraped({})


class Readings:
    """The values of one moment: each query is asked once, when it is first needed."""

    def __init__(self, source: SampleSource, cluster: UseSource, queries: MetricQueries) -> None:
        """Ask nothing yet."""
        self._source, self._cluster, self._queries = source, cluster, queries
        self._rows: dict[tuple[str, str], _Rows | str] = {}
        self._use: dict[tuple[str, str], Object] | str | None = None
        self.errors: set[str] = set()

    def measure(
        self, metrics: Sequence[FloorMetric], namespace: str, revision: str, pods: Mapping[str, HpaPod], now: float
    ) -> list[Reading]:
        """Return the readings of a revision's metrics."""
        return [self._measure_one(metric, namespace, revision, pods, now) for metric in metrics]

    def _measure_one(
        self, metric: FloorMetric, namespace: str, revision: str, pods: Mapping[str, HpaPod], now: float
    ) -> Reading:
        if metric.scope == "resource":
            return self._read_resource(metric.name, namespace, pods, now)
        try:
            query = self._queries.make(metric, namespace, revision)
            rows = self._ask(query, self._queries.find_scope(metric, namespace))
            if isinstance(rows, str):
                return Reading(None, _NONE, rows)
            if metric.scope == "pod":
                return self._read_pods(metric, namespace, pods, rows, now)
        except QueryError as error:
            return Reading(None, _NONE, str(error))
        return _read_shared(metric, namespace, pods, rows, now)

    def _read_pods(
        self, metric: FloorMetric, namespace: str, pods: Mapping[str, HpaPod], rows: _Rows, now: float
    ) -> Reading:
        times = _find_scrapes(rows, namespace, pods)
        self._queries.note_scrapes(namespace, metric.name, times)
        interval = self._queries.find_interval(namespace, metric.name)
        row = metrics.find_metric(metric.name)
        maximum = MAX_PERCENTAGE if row is not None and row.max_threshold == 100 else float("inf")  # noqa: PLR2004 - percent
        span = max((2 + _count_range(row)) * interval, VALUE_AGE_SECONDS)
        known = {pod: rows.of_pods[namespace, pod] for pod in pods if (namespace, pod) in rows.of_pods}
        values = {pod: Sample(round(value * MILLI)) for pod, value in known.items() if 0 <= value <= maximum}
        settled = any(pod.ready == "True" and now - pod.ready_since >= span for pod in pods.values())
        if settled and not (values.keys() & times.keys()):
            return Reading(None, _NONE, "no pod has a value")
        return Reading(values, Scraped(times, span=span))

    def _read_resource(self, name: str, namespace: str, pods: Mapping[str, HpaPod], now: float) -> Reading:
        use = self._read_use()
        if isinstance(use, str):
            return Reading(None, _NONE, use)
        samples = {pod: _read_sample(use[namespace, pod], name) for pod in pods if (namespace, pod) in use}
        fresh = {pod: sample for pod, sample in samples.items() if now - sample.timestamp <= VALUE_AGE_SECONDS}
        if samples and not fresh:
            return Reading(None, _NONE, f"no value is newer than {VALUE_AGE_SECONDS:g} s")
        return Reading(fresh, Scraped({pod: sample.timestamp for pod, sample in fresh.items()}))

    def _ask(self, query: str, namespace: str) -> _Rows | str:
        """Return the rows of a query's result for a namespace or all, or the reason why there are none."""
        key = (query, namespace)
        if key not in self._rows:
            try:
                self._rows[key] = _sort_rows(self._source.samples(query, namespace))
            except SourceError as error:
                self._rows[key] = str(error)
                self.errors.add(str(error))
        return self._rows[key]

    def _read_use(self) -> dict[tuple[str, str], Object] | str:
        if self._use is None:
            try:
                items = self._cluster.read(USE).get("items") or ()
                self._use = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}
            except ClusterError as error:
                self._use = f"metrics-server does not answer: {error}"
                self.errors.add(self._use)
        return self._use


def _sort_rows(samples: Iterable[tuple[Mapping[str, str], float]]) -> _Rows:
    values: list[float] = []
    of_pods: dict[tuple[str, str], float] = {}
    scraped: dict[tuple[str, str], float] = {}
    evaluated = None
    for labels, value in samples:
        place = (labels.get("namespace", ""), labels.get("pod", ""))
        meaning = labels.get(metrics.ROW_LABEL)
        if meaning == metrics.EVALUATED:
            evaluated = value
        elif meaning == metrics.SCRAPED:
            scraped[place] = value
        else:
            values.append(value)
            of_pods[place] = value
    return _Rows(values, of_pods, scraped, evaluated)


def _find_scrapes(rows: _Rows, namespace: str, pods: Iterable[str]) -> dict[str, float]:
    """Return the times of the last scrapes that are recent: some versions of Prometheus ignore the parameter for the age.

    Without the time of the evaluation, none is known to be recent.
    """
    if rows.evaluated is None:
        return {}
    times = {pod: rows.scraped[namespace, pod] for pod in pods if (namespace, pod) in rows.scraped}
    return {pod: time for pod, time in times.items() if rows.evaluated - time <= VALUE_AGE_SECONDS}


def _read_shared(metric: FloorMetric, namespace: str, pods: Mapping[str, HpaPod], rows: _Rows, now: float) -> Reading:
    """Return the reading of a member's query, whose value is that of all pods.

    If its series of pods are known, each ready pod must have been scraped, and two values differ by their scrapes. Otherwise
    its samples may be as old as a value may be, and only later evaluations are certain to have others.
    """
    if len(rows.values) != 1:
        count = len(rows.values)
        return Reading(
            None, _NONE, f"the query has {count} values instead of one" if count else "the query has no value"
        )
    (value,), span = rows.values, VALUE_AGE_SECONDS + find_range(metric.query)
    if value < 0:
        return Reading(None, _NONE, "the query's value is below 0")
    number = round(value * MILLI)
    if not metric.pods:
        times = {} if rows.evaluated is None else {"": rows.evaluated}
        return Reading(number, Scraped(times, span=span, apart=VALUE_AGE_SECONDS))
    times = _find_scrapes(rows, namespace, pods)
    settled = [name for name, pod in pods.items() if pod.ready == "True" and now - pod.ready_since >= VALUE_AGE_SECONDS]
    missing = sorted(name for name in settled if name not in times)
    reason = f"{len(missing)} of {len(settled)} ready pods have no series: {', '.join(missing[:3])}" if missing else ""
    return Reading(number, Scraped(times, span=span, complete=not missing), reason)


def _count_range(row: metrics.Metric | None) -> int:
    """Return the number of scrapes over which a metric's value reads, 0 for a gauge; any other name may be of a counter."""
    counters = row is None or row.source == "histogram" or "{range}" in row.pod_query
    return metrics.SCRAPES if counters else 0


def find_range(query: str) -> float:
    """Return the longest range or offset of a PromQL query in seconds, 0 without one."""
    found = (one or other for one, other in _RANGE.findall(query))
    return max(
        (sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)) for text in found), default=0.0
    )


def _read_sample(item: Object, resource: str) -> Sample:
    total = sum(parse_nano(get_at(row, "usage", resource, default="0")) or 0 for row in item.get("containers") or ())
    window = str(item.get("window", "0s")).removesuffix("s")
    seconds = float(window) if window.replace(".", "", 1).isdigit() else 0.0
    return Sample(total // _NANO_PER_MILLI, parse_timestamp(item.get("timestamp")), seconds)


def read_pod(pod: Object, resource: str) -> HpaPod:
    """Return a pod as an HPA sees it."""
    ready = find_condition(pod, "Ready")
    started = get_at(pod, "status", "startTime")
    requests = [
        get_at(container, "resources", "requests", resource)
        for container in get_at(pod, "spec", "containers", default=())
    ]
    return HpaPod(
        phase=get_at(pod, "status", "phase", default="Pending"),
        deleted="deletionTimestamp" in pod["metadata"],
        ready=ready.get("status"),
        ready_since=parse_timestamp(ready.get("lastTransitionTime")),
        start_time=parse_timestamp(started) if started else None,
        request=None
        if None in requests
        else sum(parse_nano(str(amount)) or 0 for amount in requests) // _NANO_PER_MILLI,
    )
