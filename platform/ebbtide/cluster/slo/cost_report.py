"""Costs of services and savings of changes, from the live objects and the requests that Prometheus counted.

Prometheus supplies the requests and the response times; all costs are replays of them (``simulator/fleet/savings.py``). A service
that cannot be replayed is listed with the reason and with its measured hours.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, NamedTuple

from ebbtide.cluster.slo.promises import find_price, read_slo, read_spec_document
from ebbtide.cluster.slo.replay import NoReplayError, read_traffic
from ebbtide.cluster.slo.source import History, MetricsSource, Ref, SourceError, WorkloadMeasurements
from ebbtide.core import manifests
from ebbtide.core.base.bodies import body
from ebbtide.core.base.failures import report_failure
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import load_document
from ebbtide.core.manifests.edit import apply_change
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.spec.objectives import list_token_objectives
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.translate import make_plan
from ebbtide.core.units import format_duration, format_percent
from ebbtide.simulator.fleet.fleet import WORKERS
from ebbtide.simulator.fleet.savings import HIDDEN_HOURS, ServiceReplay, SettingChange, replay_service
from ebbtide.simulator.search.judge import SPARE
from ebbtide.simulator.search.request import SimulationRequest, SimulationRequestError

DAY_SECONDS: Final = 86_400.0
MONTH_SECONDS: Final = 30 * DAY_SECONDS
HOUR_SECONDS: Final = 3600.0
#: Decimal places of hours.
HOUR_PLACES: Final = 6
#: Shortest record, in seconds, from which a change is proposed.
MIN_RECORD_SECONDS: Final = 3600.0
#: Shortest interval of the counts, and the largest number of intervals, which is below Prometheus' limit.
MIN_STEP_SECONDS: Final = 60.0
MAX_STEPS: Final = 10_080
#: Largest share of the time between the first and the last count for which Prometheus may have no data.
MAX_UNKNOWN: Final = 0.01
#: Largest difference between replayed and measured replica-hours at which a change is proposed, as a share of the replayed ones.
MAX_DIFFERENCE: Final = 0.25
#: Start-up time of a service whose starts are not recorded.
ASSUMED_START_UP: Final = "45s"
NO_PROJECT: Final = "no project"


class ReportInputs(NamedTuple):
    """The metrics source, the profile, the period in seconds since 1970, and a price for all GPU-hours."""

    source: MetricsSource
    profile: Profile
    start: float
    end: float
    gpu_hour: float | None
    #: Returns the seconds that the starts of a workload's existing pods took, for one whose starts are not recorded.
    read_pod_starts: Callable[[Ref], Sequence[float]] = lambda _: ()
    #: Share of the SLO's allowance that a change leaves unused.
    spare: float = SPARE


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """The input of a replay: the loaded spec, the request for the simulator, and what the record covers."""

    loaded: LoadedDocument
    request: SimulationRequest
    start: float
    end: float
    step: float
    notes: tuple[str, ...]
    #: True if the server was fitted to the response times.
    is_fitted: bool
    revision: str
    """Newest ready revision; empty without revisions."""

    def replay(self, profile: Profile) -> ServiceReplay:
        """Replay the requests in this process. Raises SimulationRequestError."""
        return replay_service(self.request, self.loaded, profile, is_fitted=self.is_fitted)


@body(
    "name namespace project reason price measured_replica_hours start end step replay cost cost_per_30_days saved notes"
)
class CostRow:
    """The cost of one service. Without a replay, ``reason`` says why; money is null without a price."""

    name: str
    namespace: str
    project: str
    measured_replica_hours: float | None
    """Replica-hours that Prometheus measured, to judge the replay."""
    reason: str = ""
    price: float | None = None
    """Price of a GPU-hour or core-hour."""
    start: float | None = None
    """Start and end of the recorded requests, in seconds since 1970, and the interval of the counts in seconds."""
    end: float | None = None
    step: float | None = None
    replay: ServiceReplay | None = None
    cost: float | None = None
    saved: float | None = None
    """Money that the change would have saved."""
    notes: tuple[str, ...] = ()
    record: ServiceRecord | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.namespace, self.name)

    @property
    def record_seconds(self) -> float | None:
        """Length of the record; None without a replay."""
        return None if self.start is None or self.end is None else self.end - self.start

    @property
    def cost_per_30_days(self) -> float | None:
        """The cost of 30 days like the record; None for less than a whole day, whose load says nothing about a month."""
        seconds = self.record_seconds
        if self.cost is None or seconds is None or seconds < DAY_SECONDS:
            return None
        return round(self.cost * MONTH_SECONDS / seconds, 2)

    @property
    def hours(self) -> float:
        return 0.0 if self.replay is None else self.replay.current.hours.value

    @property
    def measured_hours(self) -> float | None:
        """Measured hours in the unit of the replay, or replica-hours without one."""
        if self.measured_replica_hours is None:
            return None
        return self.measured_replica_hours * (1.0 if self.replay is None else self.replay.units_per_replica)

    def read_proposal(self) -> tuple[ServiceRecord, ServiceReplay, SettingChange]:
        """Return the record, the replay and the change of a row that has them."""
        assert self.record is not None
        assert self.replay is not None
        assert self.replay.change is not None
        return self.record, self.replay, self.replay.change

    @property
    def hours_saved(self) -> float:
        change = None if self.replay is None else self.replay.change
        return 0.0 if change is None else change.hours_saved.value


@body()
class CostSum:
    """The sums of the replayed services of a project, or of all. Money covers the services that have a price."""

    project: str
    services: int
    replayed: int
    hours: dict[str, float]
    """Hours by what they count: GPU, core or replica."""
    hours_saved: dict[str, float]
    cost: float | None
    saved: float | None


@body()
class CostReport:
    """The services by cost, the most expensive first."""

    start: float
    end: float
    step: float
    """Interval of the counts in seconds: the times of the requests within are not known."""
    currency: str
    rows: tuple[CostRow, ...]
    projects: tuple[CostSum, ...]
    total: CostSum


def choose_step(seconds: float) -> float:
    """Return the interval of the counts for a period, in whole minutes."""
    return MIN_STEP_SECONDS * math.ceil(seconds / MAX_STEPS / MIN_STEP_SECONDS)


def read_record(top: Object, inputs: ReportInputs, server: str = "", *, by_arrival: bool = False) -> ServiceRecord:
    """Return the recorded requests of a workload; ``server`` replaces the model that is fitted to its response times.

    ``by_arrival`` moves the requests, which are counted when they end, to the time of their arrival.

    Raises NoReplayError with the reason if they cannot be replayed.
    """
    source, profile, start, end = inputs.source, inputs.profile, inputs.start, inputs.end
    ref, step = Ref(top["metadata"]["namespace"], top["metadata"]["name"]), choose_step(end - start)
    loaded = _load_live_spec(top, profile)
    if loaded.inference is None:
        raise NoReplayError("its spec cannot be read: " + "; ".join(problem.message for problem in loaded.problems[:2]))
    token_bounds = () if loaded.inference.spec.slo is None else list_token_objectives(loaded.inference.spec.slo)
    if token_bounds:
        raise NoReplayError("its SLO on token times needs the tokens of each request, which counters do not have")
    log, fitted, history = read_traffic(source, ref, start, end, step, by_arrival=by_arrival)
    first, last, unknown = find_known_range(history)
    if unknown > MAX_UNKNOWN:
        raise NoReplayError(f"its record has gaps: Prometheus has no data for {format_percent(unknown)} of the time")
    notes = []
    if first - step > start + 2 * step:
        note = f"the record covers only {format_duration(last - first + step)} of {format_duration(end - start)}"
        is_short = last - first < DAY_SECONDS
        notes.append(note + ": repeat the report with a whole day before you apply a change" * is_short)
    start_up = _take_median(times.ready - times.created for times in source.starts(ref, start, end))
    if not start_up:
        pod_starts = inputs.read_pod_starts(ref)
        basis = f"that of the pods that exist ({len(pod_starts)})" if pod_starts else "an assumption"
        start_up = _take_median(pod_starts) or ASSUMED_START_UP
        notes.append(f"no start was recorded: the start-up time of {start_up} is {basis}")
    text = manifests.write_document(loaded.reading.native)
    request = SimulationRequest(
        text, f"{ref.name}.csv", log.encode(), server=server or fitted, start_up=start_up, spare=inputs.spare
    )
    return ServiceRecord(loaded, request, first - step, last, step, tuple(notes), not server, find_revision(top))


def find_revision(top: Object) -> str:
    """Return the newest ready revision of a Knative Service or of an InferenceService; empty without revisions."""
    status = top.get("status")
    named = get_at(status, "latestReadyRevisionName") or get_at(
        status, "components", "predictor", "latestReadyRevision", default=""
    )
    return str(named)


def _load_live_spec(top: Object, profile: Profile) -> LoadedDocument:
    """Return the spec of a workload as it runs. If it was changed without Ebbtide, the SLO is that of the stored spec."""
    loaded = load_document(top, profile)
    stored = get_at(read_spec_document(top) or {}, "spec", "slo")
    if loaded.inference is None or stored is None or loaded.inference.spec.slo is not None:
        return loaded
    return load_document(apply_change(loaded.reading.native, ("spec", "slo"), stored), profile)


def find_known_range(history: History) -> tuple[float, float, float]:
    """Return the first and the last time with data, and the share of unknown times between them.

    A service without replicas has no request rate, so the numbers of replicas show that Prometheus was there, too.
    """
    known: dict[float, bool] = {}
    for name in ("rate", "ready", "wanted"):
        for time, value in history.series.get(name, ()):
            known[time] = known.get(time, False) or (value is not None and math.isfinite(value))
    times = [time for time in sorted(known) if known[time]]
    inside = [time for time in known if times[0] <= time <= times[-1]]
    return times[0], times[-1], 1 - len(times) / len(inside)


def _take_median(seconds: Iterable[float]) -> str:
    """Return the median time from a pod's creation until it was ready; empty without a start."""
    known = [*seconds]
    return format_duration(max(statistics.median(known), 1.0)) if known else ""


def make_cost_row(
    top: Object,
    inputs: ReportInputs,
    measured: Mapping[Ref, WorkloadMeasurements],
    replay: Callable[[ServiceRecord], ServiceReplay],
    server: str = "",
) -> CostRow:
    """Return the row of a workload. ``replay`` raises SimulationRequestError for one that cannot be simulated."""
    slo = read_slo(top, inputs.profile)
    seconds = measured[slo.ref].replica_seconds if slo.ref in measured else None
    hours = None if seconds is None else round(seconds / HOUR_SECONDS, HOUR_PLACES)
    row = CostRow(slo.ref.name, slo.ref.namespace, slo.project, hours)
    try:
        record = read_record(top, inputs, server)
        inference = record.loaded.inference
        plan = None if inference is None else make_plan(inference, inputs.profile)[0]
        return _complete_row(row, record, replay(record), find_price(plan, inputs.profile, inputs.gpu_hour))
    except SimulationRequestError as error:
        problems = [problem for problem in error.problems if problem.severity == "error"] or error.problems
        return replace(row, reason="it cannot be simulated: " + "; ".join(problem.message for problem in problems[:2]))
    except (NoReplayError, SourceError) as error:
        return replace(row, reason=str(error))
    except Exception as error:  # noqa: BLE001 - one workload must not end the report of the others
        return replace(row, reason=report_failure(slo.ref.namespace, slo.ref.name, error))


def _complete_row(row: CostRow, record: ServiceRecord, replayed: ServiceReplay, price: float | None) -> CostRow:
    notes, hours = [*record.notes, *replayed.notes], row.measured_replica_hours
    if hours is not None and abs(replayed.replica_hours - hours) > MAX_DIFFERENCE * replayed.replica_hours:
        measured, used = _format_apart(hours, replayed.replica_hours)
        notes.append(
            f"Prometheus measured {measured} replica-hours and the replay used {used}, so the setting, "
            "the server or the start-up was different for a part of the time: no change is proposed"
        )
        replayed = replace(replayed, change=None)
    if replayed.change is not None and (objection := _find_objection(record)):
        notes.append(objection)
        replayed = replace(replayed, change=None)
    change = replayed.change
    saved = None if price is None or change is None else round(change.hours_saved.value * price, 2)
    if change is not None and (change.hours_saved.value < HIDDEN_HOURS or saved == 0):
        replayed, saved = replace(replayed, change=None), None
    return replace(
        row,
        price=price,
        start=record.start,
        end=record.end,
        step=record.step,
        replay=replayed,
        cost=None if price is None else round(replayed.current.hours.value * price, 2),
        saved=saved,
        notes=tuple(notes),
        record=record,
    )


def _format_apart(first: float, second: float) -> tuple[str, str]:
    """Return two different numbers with as many decimal places as it takes to tell them apart, at least one."""
    texts = ((f"{first:,.{places}f}", f"{second:,.{places}f}") for places in range(1, HOUR_PLACES + 1))
    return next((pair for pair in texts if pair[0] != pair[1]), (f"{first}", f"{second}"))


def _find_objection(record: ServiceRecord) -> str:
    """Return why no change is proposed from a record that is too short; empty otherwise."""
    seconds = record.end - record.start
    if seconds < MIN_RECORD_SECONDS:
        return f"the record covers only {format_duration(seconds)}: no change is proposed from less than an hour"
    return ""


def measure_replicas(tops: Sequence[Object], inputs: ReportInputs) -> Mapping[Ref, WorkloadMeasurements]:
    """Return the measurements of workloads. Raises SourceError."""
    refs = [Ref(top["metadata"]["namespace"], top["metadata"]["name"]) for top in tops]
    return inputs.source.measure(refs, inputs.start, inputs.end) if refs else {}


def make_cost_rows(
    tops: Sequence[Object], inputs: ReportInputs, choose_server: Callable[[str], str] = lambda _: ""
) -> Iterator[CostRow]:
    """Yield the rows of workloads in the order of ``tops``, each when it was replayed. Raises SourceError."""
    measured = measure_replicas(tops, inputs)

    def make_row(top: Object) -> CostRow:
        server = choose_server(top["metadata"]["name"])
        return make_cost_row(top, inputs, measured, lambda record: record.replay(inputs.profile), server)

    # Compiled code runs without the interpreter's lock.
    with ThreadPoolExecutor(WORKERS) as workers:
        yield from workers.map(make_row, tops)


def make_cost_report(rows: Sequence[CostRow], inputs: ReportInputs) -> CostReport:
    """Return the report of rows: sorted by money, then by hours, with the sums of the projects."""
    ordered = sorted(rows, key=lambda row: (-(row.cost or 0.0), -row.hours, row.namespace, row.name))
    by_project = sorted(ordered, key=lambda row: row.project or NO_PROJECT)
    projects = [sum_rows(name, [*group]) for name, group in groupby(by_project, lambda row: row.project or NO_PROJECT)]
    return CostReport(
        inputs.start,
        inputs.end,
        choose_step(inputs.end - inputs.start),
        inputs.profile.spec.prices.currency or "",
        tuple(ordered),
        tuple(projects),
        sum_rows("", ordered),
    )


def sum_rows(project: str, rows: Sequence[CostRow]) -> CostSum:
    """Return the sums of rows."""
    hours: dict[str, float] = {}
    saved: dict[str, float] = {}
    for row in rows:
        if row.replay is not None:
            hours[row.replay.unit] = hours.get(row.replay.unit, 0.0) + row.hours
            saved[row.replay.unit] = saved.get(row.replay.unit, 0.0) + row.hours_saved
    priced = [row.cost for row in rows if row.cost is not None]
    return CostSum(
        project,
        len(rows),
        sum(row.replay is not None for row in rows),
        {unit: round(value, 6) for unit, value in hours.items()},
        {unit: round(value, 6) for unit, value in saved.items()},
        round(sum(priced), 2) if priced else None,
        round(sum(row.saved or 0.0 for row in rows), 2) if priced else None,
    )


#: The report before any was computed.
NO_COSTS: Final = CostReport(0.0, 0.0, 0.0, "", (), (), sum_rows("", ()))
