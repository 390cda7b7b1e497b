"""The last starts of a workload: how long each phase takes, what would shorten the largest one, and what that is worth.

The savings are upper bounds: a choice is taken to remove its phase. What a shorter start is worth in a month comes from the
simulator, with the requests that the workload received and its own settings.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.starts import PHASES, PodStart, ReadLog, Seconds, compute_recorded_start, read_starts
from ebbtide.cluster.slo.replay import NoReplayError, read_traffic
from ebbtide.cluster.slo.source import MetricsSource, Ref, SourceError
from ebbtide.core.base.bodies import body
from ebbtide.core.base.names import COMPILED_VOLUME, WEIGHTS_VOLUME
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents import load_document
from ebbtide.core.profile.models import Profile
from ebbtide.core.translation.serving.timeouts import DEFAULT_TIMEOUT_SECONDS
from ebbtide.core.units import format_duration, format_percent

if TYPE_CHECKING:
    from ebbtide.simulator.data import StartUp
    from ebbtide.simulator.search.request import PreparedCase

#: Number of starts of a report.
STARTS: Final = 10
DAY_SECONDS: Final = 86_400.0
MONTH_SECONDS: Final = 30 * DAY_SECONDS
#: Fewest seconds by which a choice must shorten a start to be listed: the times of a pod are whole seconds.
MIN_SAVING_SECONDS: Final = 2.0
#: Seconds from which a request counts as one that waited for a replica.
LATE_SECONDS: Final = 1.0
#: Fewest starts whose totals have a spread.
MIN_FOR_SPREAD: Final = 3
#: The fields of the simulator's start-up, and the phases that each one sums. A node that has the image has no ``pull``, so the
#: sandbox and the volumes belong to another field.
START_UP: Final = {
    "schedule": ("scheduling", "init"),
    "node": ("node",),
    "pull": ("image",),
    "weights": ("weights",),
    "load": ("server", "engine"),
    "ready": ("readiness",),
}
#: Most requests that are simulated; longer traffic is cut.
MAX_REQUESTS: Final = 1_000_000


class StartRemedy(NamedTuple):
    """A choice that shortens a start: the phase or step that it removes, how to make it, and the phase of the step.

    A pod with the volume has the choice already, and the phase is what is left of it.
    """

    name: str
    removes: str
    advice: str
    shortens: str = ""
    volume: str = ""


#: Upstream of the advice: kserve pkg/apis/serving/v1alpha1 (LocalModelCache); vllm docs/design/torch_compile.md (the cache in
#: VLLM_CACHE_ROOT), vllm/config (--enforce-eager).
CHOICES: Final = (
    StartRemedy(
        "spare node",
        "node",
        "keep a node with room, for example by pods of a low priority that the workload preempts",
    ),
    StartRemedy("room to schedule", "scheduling", "raise the quota or the priority, or use a node pool with room"),
    StartRemedy("image on the node", "image", "set start.prePullImage, or make the image smaller"),
    StartRemedy(
        "weights on the node",
        "weights",
        "set start.weights for one copy on a claim, or start.modelCache for a copy on the nodes, and start.streaming",
        volume=WEIGHTS_VOLUME,
    ),
    StartRemedy(
        "compiled engine",
        "compile",
        "set start.compilationCache, which keeps the compiled model on a claim",
        "engine",
        COMPILED_VOLUME,
    ),
    StartRemedy("no CUDA graphs", "graphs", "--enforce-eager of vLLM; each token then takes longer", "engine"),
    StartRemedy("faster probe", "readiness", "lower initialDelaySeconds and periodSeconds of probes.readiness"),
)


@body()
class PhaseSpread:
    """The seconds of a phase over the starts that have it, and its share of all seconds of all starts."""

    name: str
    starts: int
    least: Seconds
    median: Seconds
    most: Seconds
    share: float


@body()
class MonthlyUse:
    """The simulated use in 30 days. ``late_requests`` waited more than a second for a replica, ``late_hours`` in all."""

    replica_hours: float
    gpu_hours: float
    cost: float | None
    late_requests: float
    late_hours: float
    lost_requests: float


@body()
class StartOption:
    """A choice, the seconds of a start that it saves at most, and the month with it; None without traffic."""

    name: str
    advice: str
    saves_seconds: Seconds
    month: MonthlyUse | None


@body()
class StartReport:
    """The last starts of a workload, newest first. ``notes`` say what is unknown."""

    name: str
    namespace: str
    starts: tuple[PodStart, ...]
    total: PhaseSpread | None
    phases: tuple[PhaseSpread, ...]
    #: The phase with the most seconds; empty if no start was seen.
    largest: str
    options: tuple[StartOption, ...]
    #: The mean of the starts in the syntax of ``--start-up``.
    start_up: str
    #: The month as it is, and what it was computed from.
    month: MonthlyUse | None
    traffic: str
    notes: tuple[str, ...]


def collect_starts(
    read_log: ReadLog, live: LiveWorkload, source: MetricsSource | None, since: float
) -> tuple[list[PodStart], str]:
    """Return the last starts, newest first, and why those of deleted pods are unknown, if they are.

    The live pods have more phases than what kube-state-metrics records, which in turn knows when a pod was ready first.
    """
    live_starts = read_starts(read_log, live, STARTS)
    if source is None:
        return live_starts, "only the pods that exist are known: no Prometheus is connected"
    try:
        recorded = source.starts(Ref(live.namespace, live.name), live.now - since, live.now)
    except SourceError as error:
        return live_starts, f"only the pods that exist are known: {error}"
    first_ready = {times.pod: times.ready - times.created for times in recorded}
    starts = [_correct_total(start, first_ready.get(start.pod)) for start in live_starts]
    known = {start.pod for start in starts}
    others = [compute_recorded_start(times) for times in recorded if times.pod not in known]
    others.sort(key=attrgetter("created"), reverse=True)
    # The live ones come first into the selection: only their logs divide the server's start.
    starts = sorted([*starts, *others][:STARTS], key=attrgetter("created"), reverse=True)
    return (
        starts,
        "" if recorded else "Prometheus has no start of a pod in this period, as kube-state-metrics exports it",
    )


def _correct_total(start: PodStart, seconds: float | None) -> PodStart:
    """Return a start without the time after the pod was ready first, which it lost and regained."""
    if start.seconds is None or seconds is None or seconds >= start.seconds - 1.0:
        return start
    phases, left = [], seconds
    for phase in start.phases:
        phases.append(replace(phase, seconds=min(phase.seconds, left)))
        left -= phases[-1].seconds
    return replace(start, seconds=seconds, phases=tuple(phases))


def make_start_report(
    live: LiveWorkload,
    starts: Sequence[PodStart],
    notes: Sequence[str],
    source: MetricsSource | None,
    profile: Profile,
    since: float,
    gpu_hour: float | None,
) -> StartReport:
    """Return the report on starts, and simulate the month with each choice on the traffic of the last ``since`` seconds."""
    finished = [start for start in starts if start.seconds is not None]
    told = [note for note in notes if note]
    if not finished:
        told.insert(0, "no start was seen: no pod that became ready exists or is recorded, so the phases are unknown")
        return StartReport(live.name, live.namespace, tuple(starts), None, (), "", (), "", None, "", tuple(told))
    # Those whose log divides the server, else those whose events divide pulls from init containers.
    detailed = [start for start in finished if start.find_phase("server") is None]
    if not detailed:
        detailed = [start for start in finished if start.image_present is not None] or finished
        told.append(
            "the log does not divide the server's start into weights and engine: it has no line of a known engine, or it cannot "
            "be read"
        )
    phases = tuple(_list_spreads(detailed))
    largest = max(phases, key=lambda row: row.share).name
    total = _spread("total", [start.seconds or 0.0 for start in finished], 1.0)
    volumes = {row["name"] for pod in live.pods for row in get_at(pod, "spec", "volumes", default=[])}
    savings = [(choice, _mean(detailed, (choice.removes,))) for choice in CHOICES if choice.volume not in volumes]
    savings = [(choice, seconds) for choice, seconds in savings if seconds >= MIN_SAVING_SECONDS]
    replay = None
    try:
        replay = _prepare_replay(live, source, profile, since, gpu_hour)
    except NoReplayError as error:
        told.append(f"no month is computed: {error}")
    options = [
        StartOption(
            choice.name,
            choice.advice,
            seconds,
            None if replay is None else _simulate_month(replay, _make_start_up(detailed, choice.removes)),
        )
        for choice, seconds in sorted(savings, key=lambda pair: -pair[1])
    ]
    if replay is not None:
        options += _keep_one_replica(replay, _make_start_up(detailed))
        if replay.case.traffic.seconds < DAY_SECONDS:
            told.append("the traffic covers less than a day, so a month can differ much from what is computed from it")
    told += _compare_limits(live, total)
    return StartReport(
        live.name,
        live.namespace,
        tuple(starts),
        total,
        phases,
        largest,
        tuple(options),
        _write_start_up(detailed),
        None if replay is None else _simulate_month(replay, _make_start_up(detailed)),
        "" if replay is None else _describe_traffic(replay),
        tuple(told),
    )


def describe_total(report: StartReport) -> str:
    """Return the number of the starts and their seconds: ``3 starts, median 42.0 s (40.0 to 45.0)``; empty without a start."""
    total = report.total
    if total is None:
        return ""
    if total.starts == 1:
        return f"1 start, {format_duration(total.median)}"
    return f"{total.starts} starts, median {format_duration(total.median)} ({format_duration(total.least)} to {format_duration(total.most)})"


def describe_largest(report: StartReport) -> str:
    """Return the largest phase, and what the best choice for it would cut; empty without a start."""
    largest = next((row for row in report.phases if row.name == report.largest), None)
    if largest is None or report.total is None:
        return ""
    names = {choice.name for choice in CHOICES if report.largest == (choice.shortens or choice.removes)}
    option = next((option for option in report.options if option.name in names), None)
    cut = "no choice is known that would cut it"
    if option is not None:
        after = max(0.0, report.total.median - option.saves_seconds)
        cut = f"{option.name} would cut at most {format_duration(option.saves_seconds)}, to a start of {format_duration(after)}"
    return f"largest phase: {largest.name}, {format_percent(largest.share)} of the time; {cut}"


def _list_spreads(starts: Sequence[PodStart]) -> Iterator[PhaseSpread]:
    everything = sum(start.seconds or 0.0 for start in starts) or 1.0
    for name in PHASES:
        values = [start.find_phase(name) for start in starts]
        present = [value for value in values if value is not None]
        if present:
            yield _spread(name, present, sum(present) / everything)


def _spread(name: str, values: Sequence[float], share: float) -> PhaseSpread:
    return PhaseSpread(name, len(values), min(values), statistics.median(values), max(values), round(share, 4))


def _mean(starts: Sequence[PodStart], names: Sequence[str]) -> float:
    return sum(start.find_seconds(name) for start in starts for name in names) / len(starts)


def _compare_limits(live: LiveWorkload, total: PhaseSpread) -> Iterator[str]:
    """Yield each limit of the request path that the slowest start exceeds (AUT073, PRB044)."""
    revision = live.revisions[-1] if live.revisions else {}
    timeout = get_at(revision, "spec", "timeoutSeconds", default=DEFAULT_TIMEOUT_SECONDS) if revision else math.inf
    if total.most > timeout:
        yield (
            f"a start took {total.most:.0f} s, but a request that starts the first replica fails after {timeout} s, the request "
            "timeout: set minReplicas to 1 or raise requestTimeoutSeconds (AUT073)"
        )


# The month.


def _prepare_replay(
    live: LiveWorkload, source: MetricsSource | None, profile: Profile, since: float, gpu_hour: float | None
) -> PreparedCase:
    """Return the simulation of the workload with its own settings, traffic and response times. Raises NoReplayError."""
    if source is None:
        raise NoReplayError("no Prometheus with the workload's requests is connected; set --prometheus")
    from ebbtide.simulator.engine.setting import NotSimulated  # noqa: PLC0415 - as above
    from ebbtide.simulator.search.request import (  # noqa: PLC0415 - it needs numpy
        SimulationRequest,
        SimulationRequestError,
        prepare_case,
    )

    ref, step = Ref(live.namespace, live.name), max(60.0, since / 1440)
    log, server, _ = read_traffic(source, ref, live.now - since, live.now, step)
    loaded = load_document(live.top, profile)
    price = "" if gpu_hour is None else f"gpu-hour={gpu_hour}"
    request = SimulationRequest("", "recorded.csv", log.encode(), server=server, cost=price)
    try:
        prepared = prepare_case(request, loaded, profile, "start")
        prepared.case.setting({})
    except SimulationRequestError as error:
        raise NoReplayError(str(error)) from error
    except NotSimulated as error:
        raise NoReplayError(error.message) from error
    traffic = prepared.case.traffic
    share = min(1.0, MAX_REQUESTS / max(1, len(traffic.times)))
    return prepared._replace(case=prepared.case.cut(0.0, traffic.seconds * share))


def _describe_traffic(prepared: PreparedCase) -> str:
    traffic = prepared.case.traffic
    return f"{count_noun(len(traffic.times), 'request')} in {format_duration(traffic.seconds)}, {prepared.server}"


def _make_start_up(starts: Sequence[PodStart], without: str = "") -> StartUp:
    """Return the mean phases of starts for the simulator, without one phase or step, and the spread of the totals."""
    from ebbtide.simulator.data import StartUp  # noqa: PLC0415 - it needs numpy

    seconds: dict[str, Any] = {field: _mean(starts, names) for field, names in START_UP.items()}
    field = next((field for field, names in START_UP.items() if without in names), "load")
    seconds[field] = max(0.0, seconds[field] - _mean(starts, (without,)))
    totals = [math.log(start.seconds) for start in starts if start.seconds]
    return StartUp(**seconds, spread=statistics.stdev(totals) if len(totals) >= MIN_FOR_SPREAD else 0.0)


def _keep_one_replica(prepared: PreparedCase, start_up: StartUp) -> Iterator[StartOption]:
    """Yield the choice to never scale to zero, if the workload does."""
    from ebbtide.simulator.search.tune import drop_idle_fields  # noqa: PLC0415 - it needs numpy

    values = drop_idle_fields({**prepared.autoscaling, "minReplicas": 1})
    if prepared.plan.scaling.minimum == 0 and prepared.case.is_renderable(values):
        month = _simulate_month(prepared, start_up, values)
        yield StartOption("no start from zero", "set autoscaling.minReplicas to 1", 0.0, month)


def _write_start_up(starts: Sequence[PodStart]) -> str:
    means = {field: round(_mean(starts, names), 1) for field, names in START_UP.items()}
    return ",".join(f"{field}={seconds:g}s" for field, seconds in means.items() if seconds)


def _simulate_month(
    prepared: PreparedCase, start_up: StartUp, values: Mapping[str, object] = MappingProxyType({})
) -> MonthlyUse:
    """Simulate the traffic with a start-up and with other ``values`` of autoscaling, and scale the result to a month."""
    import numpy as np  # noqa: PLC0415 - an optional dependency

    case = prepared.case
    result = case.run(values, start_up)
    factor = MONTH_SECONDS / max(result.seconds, 1.0)
    hours = result.replica_seconds / 3600 * factor
    waits = np.where(result.lost, 0.0, result.wait)
    late = waits > LATE_SECONDS
    cost = None if case.gpu_hour is None else round(hours * case.gpus * case.gpu_hour, 2)
    return MonthlyUse(
        round(hours, 1),
        round(hours * case.gpus, 1),
        cost,
        round(float(late.sum()) * factor),
        round(float(waits[late].sum()) / 3600 * factor, 1),
        round(float(result.lost.sum()) * factor),
    )
