"""Cost reports: computed in the workers on request, and kept in memory for the callers who can see their workloads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass, replace
from threading import Lock, Thread
from typing import Any, Final, NamedTuple, TypeVar

from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.read.incident import Incident, explain_incident
from ebbtide.cluster.read.start_report import STARTS
from ebbtide.cluster.read.starts import list_start_seconds
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo.cost_report import (
    NO_COSTS,
    CostReport,
    CostRow,
    ReportInputs,
    ServiceRecord,
    make_cost_report,
    make_cost_row,
    measure_replicas,
)
from ebbtide.cluster.slo.replay import NoReplayError
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.server.api import simulation
from ebbtide.server.api.access import Caller
from ebbtide.server.api.connection import Connection, key_of
from ebbtide.server.api.measurements import DAY_SECONDS, NO_SOURCE
from ebbtide.server.api.offline import InputError, Specs
from ebbtide.server.api.reads import Reads
from ebbtide.server.api.workers import LimitExceededError, TooSlowError
from ebbtide.simulator.data import SimulationRequestError
from ebbtide.simulator.fleet.savings import ServiceReplay
from ebbtide.simulator.search.judge import SPARE

_Result = TypeVar("_Result")
#: Maximum number of workloads in one report, of reports at a time, and of workloads and callers whose last row or report is kept.
MAX_REPORTED: Final = 100
MAX_REPORTS: Final = 2
MAX_KEPT: Final = 2_000
#: Seconds after which a report replays no further workload, and that each replay may take.
REPORT_SECONDS: Final = 600.0
REPLAY_SECONDS: Final = 120.0


@dataclass(slots=True)
class Progress:
    """A report in progress, or how it ended: how many workloads it handled, of how many, and why it failed."""

    done: int = 0
    total: int = 0
    #: Workloads that the computer had no time to replay.
    late: int = 0
    ended: bool = False
    error: str = ""


class BusyError(NoReplayError):
    """The computer had no time for a replay."""


class _KeptRow(NamedTuple):
    row: CostRow
    inputs: ReportInputs


class Costs:
    """Cost reports of the workloads that callers can see.

    One caller computes one report at a time. The workers limit the time and the memory of each replay.
    """

    def __init__(self, connection: Connection, reads: Reads, specs: Specs) -> None:
        """Start without a report."""
        self._connection, self._reads, self._specs = connection, reads, specs
        self._lock = Lock()
        #: Held by a replay, so that other work has the other worker.
        self._turn = Lock()
        self._progress: dict[str, Progress] = {}
        self._kept: dict[Ref, _KeptRow] = {}

    def find_progress(self, caller: Caller) -> Progress | None:
        """Return the progress of the caller's last report; None if there was none."""
        return self._progress.get(caller.name)

    def compute(
        self, caller: Caller, namespace: str = "", project: str = "", days: float = 7.0, spare: float = SPARE
    ) -> CostReport:
        """Replay the visible workloads, and return their report.

        Raises:
            LimitExceededError: the caller computes a report already, or there are too many reports or workloads.
            SourceError: the metrics source is missing or unavailable.
        """
        progress = self._begin(caller)
        try:
            return self._compute(progress, caller, namespace, project, days, spare)
        finally:
            progress.ended = True

    def start(self, caller: Caller, days: float, project: str = "") -> None:
        """Compute a report of the visible workloads in the background. Raises LimitExceededError as ``compute`` does."""
        progress = self._begin(caller)
        # A token is in memory only as long as its request.
        caller = replace(caller, token="")

        def run() -> None:
            try:
                self._compute(progress, caller, "", project, days)
            except (LimitExceededError, SourceError, ClusterError) as error:
                progress.error = str(error)
            except Exception:
                progress.error = "see the server log for details"
                raise
            finally:
                progress.ended = True

        # The workers count the caller by this context.
        Thread(target=copy_context().run, args=(run,), name="ebbtide-cost-report", daemon=True).start()

    def _begin(self, caller: Caller) -> Progress:
        """Return the progress of a new report. Raises LimitExceededError."""
        with self._lock:
            running = {name: progress for name, progress in self._progress.items() if not progress.ended}
            if caller.name in running:
                raise LimitExceededError("you have a cost report in progress: wait for it to end")
            if len(running) >= MAX_REPORTS:
                raise LimitExceededError("too many cost reports are in progress: retry in a few minutes")
            # Only the caller of a report that has ended can still ask for its progress.
            if len(self._progress) >= MAX_KEPT:
                self._progress = running
            progress = self._progress[caller.name] = Progress()
        return progress

    def last(self, statuses: Iterable[Status]) -> CostReport | None:
        """Return the last report of some workloads, which the caller can see, without a replay; None if there is none.

        Workloads that were last reported for a period of another length are left out.
        """
        refs = dict.fromkeys(Ref(status.namespace, status.name) for status in statuses)
        kept = [self._kept[ref] for ref in refs if ref in self._kept]
        if not kept:
            return None
        inputs = max((row.inputs for row in kept), key=lambda inputs: inputs.end)
        same = [row.row for row in kept if _has_same_length(row.inputs, inputs)]
        return make_cost_report(same, inputs)

    def _compute(
        self, progress: Progress, caller: Caller, namespace: str, project: str, days: float, spare: float = SPARE
    ) -> CostReport:
        connection = self._connection
        if connection.source is None:
            raise SourceError(NO_SOURCE)
        statuses = self._reads.workloads(caller, namespace).value
        places = [key_of(status) for status in statuses if project in {"", status.project}]
        if len(places) > MAX_REPORTED:
            raise LimitExceededError(
                f"a cost report covers at most {MAX_REPORTED} workloads, and there are {len(places)}: select a project with "
                "fewer, or run ebbtide report"
            )
        if not places:
            return NO_COSTS
        now = connection.clock.now()
        start = now - days * DAY_SECONDS

        def read_pod_starts(ref: Ref) -> list[float]:
            try:
                return list_start_seconds(self._reads.workload(caller, ref.namespace, ref.name).value, STARTS)
            except ClusterError:
                return []

        source, profile, price = connection.source, connection.profile, connection.gpu_hour
        inputs = ReportInputs(source, profile, start, now, price, read_pod_starts, spare)
        tops = [*connection.cache.store.tops(places)]
        progress.total, rows = len(tops), []
        measured, deadline = measure_replicas(tops, inputs), time.monotonic() + REPORT_SECONDS

        def replay(record: ServiceRecord) -> ServiceReplay:
            try:
                return self._replay(record, deadline)
            except BusyError:
                progress.late += 1
                raise

        for top in tops:
            late = progress.late
            # The log is large, and only the command line writes it.
            row = replace(make_cost_row(top, inputs, measured, replay), record=None)
            rows.append(row)
            progress.done += 1
            self._keep(row, inputs, is_late=progress.late > late)
        return make_cost_report(rows, inputs)

    def _keep(self, row: CostRow, inputs: ReportInputs, *, is_late: bool) -> None:
        """Keep a row; a late one only if there is none with a replay of a period of the same length."""
        with self._lock:
            last = self._kept.get(row.ref)
            if is_late and last is not None and last.row.replay is not None and _has_same_length(last.inputs, inputs):
                return
            kept = {**self._kept, row.ref: _KeptRow(row, inputs)}
            self._kept = dict([*kept.items()][-MAX_KEPT:])

    def explain_past(self, caller: Caller, namespace: str, name: str, at: str) -> Incident:
        """Explain a workload at a past time, with the nearest setting that would have kept its SLO.

        Raises:
            ValueError: the time is invalid.
            MissingError: the workload does not exist or is not visible.
            SourceError: the metrics source is missing or unavailable.
        """
        connection = self._connection
        live = self._reads.workload(caller, namespace, name).value
        if connection.source is None:
            raise SourceError(NO_SOURCE)
        inputs = ReportInputs(connection.source, connection.profile, 0.0, connection.clock.now(), connection.gpu_hour)
        deadline = time.monotonic() + REPLAY_SECONDS
        return explain_incident(
            live, inputs, at, lambda record, hour: self._run(deadline, simulation.run_remedies, record.request, hour)
        )

    def _replay(self, record: ServiceRecord, deadline: float) -> ServiceReplay:
        return self._run(deadline, simulation.run_replay, record.request)

    def _run(self, deadline: float, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Replay in a worker. Raises SimulationRequestError, and NoReplayError if a limit is exceeded."""
        left = deadline - time.monotonic()
        if left <= 0 or not self._turn.acquire(timeout=left):
            raise BusyError(
                f"the computer is busy: the report took longer than {REPORT_SECONDS:g} s; compute it later, or select a project"
            )
        try:
            return self._specs.run_in_worker(work, *arguments, seconds=REPLAY_SECONDS)
        except InputError as error:
            raise SimulationRequestError(*error.problems) from None
        except TooSlowError:
            raise BusyError(
                f"the computer is busy: the replay took longer than {REPLAY_SECONDS:g} s; compute the report later, or for "
                "fewer days"
            ) from None
        except LimitExceededError as error:
            raise NoReplayError(str(error)) from None
        finally:
            self._turn.release()


def _has_same_length(first: ReportInputs, second: ReportInputs) -> bool:
    return abs((first.end - first.start) - (second.end - second.start)) < 1
