"""The values of the metrics: one query for all workloads, one list of the pods' resource use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.read.inventory import parse_timestamp
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.slo.source import SourceError
from ebbtide.cluster.slo.tenant_queries import QueryError, scope_query
from ebbtide.core.autoscaler.floor import VALUE_AGE_SECONDS, FloorMetric
from ebbtide.core.autoscaler.hpa import HpaPod, Measured, Sample
from ebbtide.core.base.metrics import is_pod_query
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import parse_nano
from ebbtide.core.profile.projects import find_query_access
from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Projects

#: The use of all pods' resources, by metrics-server.
USE: Final = "/apis/metrics.k8s.io/v1beta1/pods"
MILLI: Final = 1000
#: Seconds that a pod must have been ready before a missing value counts as lost: Prometheus finds and scrapes it first.
SETTLED_SECONDS: Final = 90.0
_NANO_PER_MILLI: Final = 1_000_000


class SampleSource(Protocol):
    """A source of instant values: a Prometheus, or a stand-in for tests."""

    def samples(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """Return the labels and the finite values of a query's result now, or raise a ``SourceError``."""


class UseSource(Protocol):
    """The API server, or a part of it that serves ``USE``."""

    def read(self, path: str) -> Object:
        """Return the response at a path, or raise a ``ClusterError``."""


class Readings:
    """The values of one moment: each query is asked once, when it is first needed."""

    def __init__(self, source: SampleSource, cluster: UseSource, projects: Projects) -> None:
        """Ask nothing yet. ``projects`` limits what the queries of members read."""
        self._source, self._cluster, self._projects = source, cluster, projects
        self._rows: dict[str, list[tuple[Mapping[str, str], float]] | str] = {}
        self._by_pod: dict[str, dict[tuple[str, str], float]] = {}
        self._use: dict[tuple[str, str], Object] | str | None = None
        self.errors: set[str] = set()

    def measure(
        self, metrics: Sequence[FloorMetric], namespace: str, revision: str, pods: Mapping[str, HpaPod], now: float
    ) -> tuple[list[Measured], list[str]]:
        """Return the values of a revision's metrics, None for one without a value, and the reasons for those."""
        values: list[Measured] = []
        reasons = []
        for metric in metrics:
            value, reason = self._measure_one(metric, namespace, revision, pods, now)
            values.append(value)
            if reason:
                reasons.append(f"{metric.name}: {reason}")
        return values, reasons

    def _measure_one(
        self, metric: FloorMetric, namespace: str, revision: str, pods: Mapping[str, HpaPod], now: float
    ) -> tuple[Measured, str]:
        if metric.scope == "resource":
            use = self._read_use()
            if isinstance(use, str):
                return None, use
            samples = {pod: _read_sample(use[namespace, pod], metric.name) for pod in pods if (namespace, pod) in use}
            fresh = {pod: sample for pod, sample in samples.items() if now - sample.timestamp <= VALUE_AGE_SECONDS}
            old = samples and not fresh
            return (None, f"no value is newer than {VALUE_AGE_SECONDS:g} s") if old else (fresh, "")
        try:
            query = scope_metric(metric, namespace, revision, self._projects)
        except QueryError as error:
            return None, str(error)
        rows = self.ask(query)
        if isinstance(rows, str):
            return None, rows
        if metric.scope == "pod":
            by_pod = self._by_pod.get(query)
            if by_pod is None:
                by_pod = {(labels.get("namespace", ""), labels.get("pod", "")): value for labels, value in rows}
                self._by_pod[query] = by_pod
            found = {pod: Sample(round(by_pod[namespace, pod] * MILLI)) for pod in pods if (namespace, pod) in by_pod}
            settled = any(pod.ready == "True" and now - pod.ready_since >= SETTLED_SECONDS for pod in pods.values())
            return (None, "no pod has a value") if settled and not found else (found, "")
        if len(rows) != 1:
            return None, "the query has no value" if not rows else f"the query has {len(rows)} values instead of one"
        return round(rows[0][1] * MILLI), ""

    def ask(self, query: str) -> list[tuple[Mapping[str, str], float]] | str:
        """Return the labels and the values of a query's result, or the reason why there are none."""
        if query not in self._rows:
            try:
                self._rows[query] = self._source.samples(query)
            except SourceError as error:
                self._rows[query] = str(error)
                self.errors.add(str(error))
        return self._rows[query]

    def _read_use(self) -> dict[tuple[str, str], Object] | str:
        if self._use is None:
            try:
                items = self._cluster.read(USE).get("items") or ()
                self._use = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}
            except ClusterError as error:
                self._use = f"metrics-server does not answer: {error}"
                self.errors.add(self._use)
        return self._use


def scope_metric(metric: FloorMetric, namespace: str, revision: str, projects: Projects) -> str:
    """Return the query to send for a metric of a workload, or raise a ``QueryError``.

    The annotation contains only text, which members of the project can write. So a query is shared by all workloads only if
    Ebbtide makes the same one for the metric's name: each of its values has the namespace and the pod that it belongs to.
    """
    query = metric.query.replace("{revision}", revision).replace("{namespace}", namespace)
    if metric.scope == "pod" and is_pod_query(metric.name, query):
        return query
    return scope_query(query, namespace, find_query_access(projects, namespace))


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
