"""The last starts of a workload: how long each phase takes, and what would shorten the largest one.

The savings are upper bounds: a choice is taken to remove its phase.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Final, NamedTuple

from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.starts import PHASES, PodStart, ReadLog, Seconds, compute_recorded_start, read_starts
from ebbtide.cluster.slo.source import MetricsSource, Ref, SourceError
from ebbtide.core.base.bodies import body
from ebbtide.core.base.names import COMPILED_VOLUME, WEIGHTS_VOLUME
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.serving.timeouts import DEFAULT_TIMEOUT_SECONDS
from ebbtide.core.units import format_duration, format_percent

#: Number of starts of a report.
STARTS: Final = 10
#: Fewest seconds by which a choice must shorten a start to be listed: the times of a pod are whole seconds.
MIN_SAVING_SECONDS: Final = 2.0
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
class StartOption:
    """A choice, and the seconds of a start that it saves at most."""

    name: str
    advice: str
    saves_seconds: Seconds


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


def make_start_report(live: LiveWorkload, starts: Sequence[PodStart], notes: Sequence[str]) -> StartReport:
    """Return the report on starts, with what each choice would save."""
    finished = [start for start in starts if start.seconds is not None]
    told = [note for note in notes if note]
    if not finished:
        told.insert(0, "no start was seen: no pod that became ready exists or is recorded, so the phases are unknown")
        return StartReport(live.name, live.namespace, tuple(starts), None, (), "", (), "", tuple(told))
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
    options = [
        StartOption(choice.name, choice.advice, seconds)
        for choice, seconds in sorted(savings, key=lambda pair: -pair[1])
    ]
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


def _write_start_up(starts: Sequence[PodStart]) -> str:
    means = {field: round(_mean(starts, names), 1) for field, names in START_UP.items()}
    return ",".join(f"{field}={seconds:g}s" for field, seconds in means.items() if seconds)
