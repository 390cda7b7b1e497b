"""Measurements, time series and SLO reports of the workloads that the caller can see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from ebbtide.cluster.client.protocol import MissingError
from ebbtide.cluster.read.scaling_state import ScalingMetric
from ebbtide.cluster.read.status import Status, add_current_loads
from ebbtide.cluster.slo import pages, report
from ebbtide.cluster.slo.promises import read_slo
from ebbtide.cluster.slo.report import Report
from ebbtide.cluster.slo.source import History, MetricsSource, Ref, SourceError, WorkloadMeasurements, WorkloadSlo
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.server.api.access import Caller
from ebbtide.server.api.connection import Connection, key_of
from ebbtide.server.api.polls import SharedPolls
from ebbtide.server.api.reads import Reads
from ebbtide.server.api.workers import LimitExceededError

DAY_SECONDS: Final = 86_400.0
NO_SOURCE: Final = "no metrics source: start ebbtide serve with --prometheus"
#: Seconds for which measured loads are reused.
LOAD_REUSE_SECONDS: Final = 4.0
#: Maximum number of workloads in one report.
MAX_REPORTED: Final = 500


class Measurements:
    """Measurements of workloads, by the metrics source.

    Each method except ``add_loads`` and ``objectives`` raises a ``SourceError`` if there is no source or it is unavailable, and a
    ``MissingError`` if a workload that it names alone does not exist or is not visible.
    """

    def __init__(self, connection: Connection, reads: Reads, polls: SharedPolls) -> None:
        """Query the connection's metrics source."""
        self._connection, self._reads, self._polls = connection, reads, polls

    def add_loads(self, rows: Sequence[Status]) -> list[Status]:
        """Return visible rows with their current load; if the source fails, or is slow at first, return them unchanged."""
        source = self._connection.source
        if source is None:
            return [*rows]

        def ask() -> dict[Ref, ScalingMetric | None]:
            measured = add_current_loads(rows, source, self._connection.clock.now())
            return {Ref(row.namespace, row.name): row.metric for row in measured}

        key = ("loads", *((row.namespace, row.name, row.metric) for row in rows))
        try:
            metrics = self._polls.get(key, LOAD_REUSE_SECONDS, ask)
        except SourceError:
            return [*rows]
        return [replace(row, metric=metrics[Ref(row.namespace, row.name)]) for row in rows]

    def measured(
        self, caller: Caller, refs: Sequence[Ref], start: float, end: float
    ) -> dict[Ref, WorkloadMeasurements]:
        """Return the measurements of the visible workloads among ``refs``."""
        source, visible = self._require_source(), self._list_visible(caller, refs)
        return source.measure(visible, start, end) if visible else {}

    def measure_revisions(
        self, caller: Caller, namespace: str, name: str, refs: Sequence[Ref], start: float, end: float
    ) -> dict[Ref, WorkloadMeasurements]:
        """Return the measurements of revisions of a visible workload, by the revisions' names.

        A gateway that measures each revision, as Kourier and Contour do, has them; others measure none.
        """
        self._connection.find_workload(caller, namespace, name)
        return self._require_source().measure(refs, start, end)

    def history(self, caller: Caller, ref: Ref, start: float, end: float, step: float) -> History:
        """Return a workload's time series."""
        self._connection.find_workload(caller, ref.namespace, ref.name)
        return self._require_source().history(ref, start, end, step)

    def histories(
        self, caller: Caller, refs: Sequence[Ref], start: float, end: float, step: float
    ) -> dict[Ref, History]:
        """Return the series that a source has for many workloads together, of the visible ones among ``refs``."""
        source, visible = self._require_source(), self._list_visible(caller, refs)
        return source.histories(visible, start, end, step) if visible else {}

    def objectives(self, caller: Caller, statuses: Iterable[Status]) -> dict[Ref, WorkloadSlo]:
        """Return the SLOs and the GPUs per replica of the visible workloads among these, from their stored specs."""
        places = [key_of(status) for status in statuses]
        return self._read_objectives(place for place in places if self._connection.can_see(caller, place))

    def report(
        self,
        caller: Caller,
        *,
        namespace: str = "",
        name: str = "",
        project: str = "",
        since: float = 7 * DAY_SECONDS,
        gpu_hour: float | None = None,
    ) -> Report:
        """Report the SLOs of the visible workloads in the last ``since`` seconds.

        Raises:
            MissingError: the named workload does not exist or is not visible.
            LimitExceededError: more workloads than one report may have.
            SourceError: the metrics source is missing or unavailable.
        """
        source = self._require_source()
        if name:
            places = [self._connection.find_workload(caller, namespace, name)]
        else:
            statuses = self._reads.workloads(caller, namespace).value
            places = [key_of(status) for status in statuses if project in {"", status.project}]
        if len(places) > MAX_REPORTED:
            raise LimitExceededError(
                f"a report covers at most {MAX_REPORTED} workloads, and there are {len(places)}: select a namespace or a project"
            )
        objectives = self._read_objectives(places)
        if not objectives:
            return report.compute_report({}, {})
        return pages.make_slo_report(objectives, source, since, self._connection.clock.now(), gpu_hour)

    def _read_objectives(self, places: Iterable[WorkloadKey]) -> dict[Ref, WorkloadSlo]:
        tops = self._connection.cache.store.tops(places)
        return {
            slo.ref: slo for slo in (read_slo(top, self._connection.profile, self._connection.gpu_hour) for top in tops)
        }

    def _list_visible(self, caller: Caller, refs: Sequence[Ref]) -> list[Ref]:
        return [ref for ref in refs if self._can_see(caller, ref)]

    def _can_see(self, caller: Caller, ref: Ref) -> bool:
        try:
            self._connection.find_workload(caller, ref.namespace, ref.name)
        except MissingError:
            return False
        return True

    def _require_source(self) -> MetricsSource:
        if self._connection.source is None:
            raise SourceError(NO_SOURCE)
        return self._connection.source
