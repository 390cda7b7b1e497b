"""Plan a fleet: its services and their logs, the smallest pool, the lower bound, and changes that free GPUs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Path, Problem, has_errors
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents import load_document
from ebbtide.core.manifests.edit import apply_change
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.translation.container import list_words
from ebbtide.core.translation.engines import read_flag
from ebbtide.core.translation.loaded_model import find_loaded_model
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.translate import translate
from ebbtide.core.units import format_duration
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine.case import HALVES
from ebbtide.simulator.engine.slo import HOUR
from ebbtide.simulator.fleet.fleet import (
    WORKERS,
    FleetRun,
    FleetService,
    Recording,
    SloViolatedError,
    record_service,
    simulate_fleet,
)
from ebbtide.simulator.fleet.pool import UNITS, GpuDemand, PoolSize, list_unfit, read_demand
from ebbtide.simulator.search.judge import SPARE, Change, Evidence, Use, Verdict, judge
from ebbtide.simulator.search.request import (
    PreparedCase,
    SimulationRequestError,
    TrafficLog,
    raise_refusals,
    workload_name_of,
)
from ebbtide.simulator.traffic.load import MAX_SECONDS
from ebbtide.simulator.traffic.words import DECISIONS, MANY

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")

#: Priority of a training pod if the profile has no class ``train``, or ``build`` if the pod is not preemptible.
TRAIN, BUILD = 50, 100
#: Number of times that a plan simulates a service, about.
RUNS: Final = 5
#: GPU-hours that a change must save.
SAVING: Final = 0.005
#: Part of the sizes that the first step of the search for the smallest pool skips.
FIRST_STEP: Final = 4
#: Number of smaller sizes that are tried below one that fails.
PROBED: Final = 2
#: Up to which multiple of the smallest pool larger ones are tried.
LARGER: Final = 1.5
#: Largest number of larger sizes that are tried.
TRIED: Final = 6
#: Lengths in seconds of the spans for which the lower bound adds up the work.
SPANS: Final = (60, 600, 3600, 6 * 3600, 86_400)
#: Largest share of a GPU part that weights fill, so that the KV cache keeps the rest.
WEIGHTS_SHARE: Final = 0.5
#: Smaller parts of a GPU that are tried.
PORTIONS: Final = (0.5, 0.25)
#: Part of an undivided start-up time that remains with a cache of the model's weights.
CACHED_START: Final = 1 / 3


def match_logs(specs: Sequence[LoadedDocument], logs: Sequence[TrafficLog]) -> list[tuple[LoadedDocument, TrafficLog]]:
    """Return each spec with its log, in the order of names. Raises SimulationRequestError."""
    problems: list[Problem] = []
    by_name: dict[str, LoadedDocument] = {}
    for loaded in specs:
        name = workload_name_of(loaded)
        if name in by_name:
            message = f"{by_name[name].name} has a service {name}, too, and a log belongs to one service"
            problem = Problem("PLN003", ("metadata", "name"), message, "rename one of them, or plan them separately")
            problems += loaded.place_problems([problem])
        by_name.setdefault(name, loaded)
    logs_by_name: dict[str, TrafficLog] = {}
    for log in logs:
        if log.workload in logs_by_name:
            message = f"{logs_by_name[log.workload].file} is a log of {log.workload}, too"
            problems.append(Problem("PLN003", (), message, "keep one of the files", document=log.file))
        elif log.workload not in by_name:
            message = f"no spec has the name {log.workload}"
            fix = f"name the file after a service: {', '.join(sorted(by_name))}"
            problems.append(Problem("PLN002", (), message, fix, document=log.file))
        logs_by_name.setdefault(log.workload, log)
    for name, loaded in by_name.items():
        if name not in logs_by_name:
            fix = f"add {name}.csv to the folder of --traffic"
            missing = Problem("PLN001", ("metadata", "name"), f"service {name} has no log of its traffic", fix)
            problems += loaded.place_problems([missing])
    if problems:
        raise SimulationRequestError(*problems)
    return [(by_name[name], logs_by_name[name]) for name in sorted(by_name)]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Services on one clock, and the pool that is planned."""

    services: tuple[FleetService, ...]
    sizes: tuple[PoolSize, ...]
    quotas: Mapping[str, int]
    training: GpuDemand | None
    training_count: int
    prices: Mapping[str, float]
    """Price of a GPU-hour by node pool; empty if it is unknown."""
    start: float
    """Start of the traffic in the time of the logs, in seconds."""
    seconds: float


def align_cases(cases: Sequence[PreparedCase]) -> tuple[list[PreparedCase], float, float]:
    """Return the cases with traffic on one clock, its start and its length: those of the services with requests.

    Raises SimulationRequestError.
    """
    traces = [prepared.case.traffic for prepared in cases]
    busy = [trace for trace in traces if len(trace.times)]
    if not busy:
        raise SimulationRequestError(Problem("TRF004", (), "no service has requests", "use logs with requests"))
    start = min(trace.start for trace in busy)
    seconds = max(trace.start - start + trace.seconds for trace in busy)
    if seconds > MAX_SECONDS:
        last = max(cases, key=lambda prepared: prepared.case.traffic.start)
        message = f"the log begins {format_duration(last.case.traffic.start - start)} after the first one"
        fix = "use logs of the same days, with dates in all of them or in none"
        raise SimulationRequestError(Problem("PLN006", (), message, fix, document=last.case.traffic.name))
    # The whole fleet is simulated several times, in one process.
    events = sum(len(trace.times) for trace in traces) + DECISIONS * seconds * len(traces)
    aligned = []
    for prepared, trace in zip(cases, traces, strict=True):
        moved = replace(trace, times=trace.times + (trace.start - start), seconds=seconds, start=start)
        aligned.append(prepared._replace(case=replace(prepared.case, traffic=moved, fast=events > MANY / RUNS)))
    return aligned, start, seconds


def multiply_traffic(trace: TrafficTrace, factor: float, seed: int) -> TrafficTrace:
    """Return traffic with ``factor`` times as many requests: each is repeated within the next minute."""
    draws = np.random.default_rng(seed)
    whole, rest = divmod(factor, 1)
    copies = int(whole) + (draws.random(len(trace.times)) < rest)
    rows = np.repeat(np.arange(len(trace.times)), copies)
    is_first = np.diff(rows, prepend=-1) > 0
    times = np.minimum(trace.times[rows] + np.where(is_first, 0.0, draws.uniform(0, 60, len(rows))), trace.seconds)
    order = np.argsort(times, kind="stable")
    prompt, output = (
        None if tokens is None else tokens[rows][order] for tokens in (trace.prompt_tokens, trace.output_tokens)
    )
    return replace(trace, times=times[order], prompt_tokens=prompt, output_tokens=output)


def make_fleet(
    cases: Sequence[PreparedCase],
    sizes: Sequence[PoolSize],
    quotas: Mapping[str, int],
    training: tuple[int, str, bool] | None,
    factors: Mapping[str, float],
    prices: Mapping[str, float],
) -> Fleet:
    """Return the fleet; ``training`` is a number of pods, their pool, and whether they are preemptible.

    Raises SimulationRequestError.
    """
    aligned, start, seconds = align_cases(cases)
    services, problems = [], []
    for prepared in aligned:
        demand = read_demand(prepared.plan)
        case, name = prepared.case, workload_name_of(prepared.loaded)
        if name in factors:
            case = replace(case, traffic=multiply_traffic(case.traffic, factors[name], case.seed))
        services.append(FleetService(name, case, demand))
        if demand is not None and list_unfit([demand], sizes):
            gpus = f"{count_noun(demand.devices, 'GPU')} of node pool {' or '.join(demand.pools)}"
            message = f"a replica needs {gpus} on one node, and no node of --pool has them"
            fix = "add the node pool to --pool, or request fewer GPUs"
            problems += prepared.loaded.place_problems([Problem("PLN004", ("spec", "compute"), message, fix)])
    if problems:
        raise SimulationRequestError(*problems)
    count, pool, preemptible = training or (0, "", True)
    name, value = ("train", TRAIN) if preemptible else ("build", BUILD)
    priority = aligned[0].case.profile.spec.scheduling.classes.get(name, value)
    spreads = all(service.demand is None or service.demand.spreads for service in services)
    demand = GpuDemand((pool,), 1, UNITS, priority, preemptible, spreads=spreads) if training else None
    return Fleet(tuple(services), tuple(sizes), quotas, demand, count, prices, start, seconds)


class PoolHours(NamedTuple):
    """GPU-hours of the services and of the node pools during the traffic, used or not. The costs are 0 without prices."""

    used: float
    used_cost: float
    whole: float
    cost: float
    share: float
    """Share of the pools that services hold."""


class FleetPlanner:
    """A fleet whose services were simulated alone, and its runs by the size of the first node pool.

    The sizes of a search are those with whole nodes.
    """

    def __init__(self, fleet: Fleet, recordings: Sequence[Recording], others: Sequence[FleetPlanner] = ()) -> None:
        """Start without runs. ``others`` are those of the fleet with other seeds."""
        self.fleet = fleet
        self.recordings = recordings
        self.seeds: tuple[FleetPlanner, ...] = (self, *others)
        #: Number of GPUs of a node of the first node pool; 1 if it is not known.
        self.node = fleet.sizes[0].per_node or 1
        self._runs: dict[int, FleetRun] = {}
        #: Number of services, by size, of which it is known that fewer meet their SLO.
        self._missed: dict[int, int] = {}
        #: Indexes of the services whose SLO any pool can meet.
        self.promised = [
            index
            for index, recording in enumerate(recordings)
            if recording.measured.holds and recording.service.case.bounds
        ]
        #: Smallest number of services that a caller of ``meets`` asks about: a simulation goes on until fewer can meet their SLO.
        self.least = len(self.promised)

    def run(self, gpus: int) -> FleetRun:
        """Simulate the fleet with a number of GPUs in the first node pool."""
        if gpus not in self._runs:
            self._runs[gpus] = self._simulate(gpus)
        return self._runs[gpus]

    def list_sizes(self, gpus: int) -> list[PoolSize]:
        """Return the node pools with a number of GPUs in the first one."""
        return [replace(self.fleet.sizes[0], gpus=gpus), *self.fleet.sizes[1:]]

    def _simulate(self, gpus: int, spare: int | None = None) -> FleetRun:
        fleet, sizes = self.fleet, self.list_sizes(gpus)
        return simulate_fleet(self.recordings, sizes, fleet.quotas, fleet.training, fleet.training_count, spare=spare)

    @property
    def seed(self) -> int:
        """Seed of its simulations."""
        return self.recordings[0].service.case.seed

    def count_needed(self, share: int) -> int:
        """Return the number of services in a share, in percent, of those whose SLO any pool can meet."""
        return math.ceil(share / 100 * len(self.promised) - 1e-9)

    def keeps(self, gpus: int, share: int) -> bool:
        """Return whether a share of the services meets its SLO with each seed."""
        return all(each.meets(gpus, each.count_needed(share)) for each in self.seeds)

    def list_judged(self, gpus: int) -> list[FleetPlanner]:
        """Return the fleets of the seeds with which a size was judged: all, or those up to the first that violates an SLO."""
        judged: list[FleetPlanner] = []
        for each in self.seeds:
            judged.append(each)
            if each.count_met(gpus) < len(each.promised):
                break
        return judged

    def list_failing(self, smallest: int) -> list[int]:
        """Return the sizes somewhat above the smallest one that violate an SLO with the first seed."""
        return [gpus for gpus in self.list_larger(smallest) if not self.meets(gpus, len(self.promised))]

    def list_larger(self, smallest: int) -> range:
        """Return the sizes that are tried above the smallest one: at least one node more, and ``TRIED`` ones at most."""
        nodes = max(math.floor((LARGER - 1) * smallest / self.node), 1)
        step = self.node * math.ceil(nodes / TRIED)
        return range(smallest + step, smallest + nodes * self.node + 1, step)

    def count_met(self, gpus: int) -> int:
        """Return the number of services that meet their SLO."""
        run = self.run(gpus)
        return sum(run.measured[index].holds for index in self.promised)

    def meets(self, gpus: int, needed: int) -> bool:
        """Return whether ``needed`` services meet their SLO; a simulation ends when too few of them can."""
        if self._missed.get(gpus, needed + 1) <= needed:
            return False
        if gpus not in self._runs:
            try:
                least = min(needed, self.least)
                self._runs[gpus] = self._simulate(gpus, len(self.promised) - least)
            except SloViolatedError:
                self._missed[gpus] = least
                return False
        return self.count_met(gpus) >= needed

    def is_sound(self, index: int, gpus: int) -> bool:
        """Return whether a service has requests and an SLO, and meets it with each seed, alone and in the fleet."""
        case = self.recordings[index].service.case
        return bool(len(case.traffic.times) and case.bounds) and all(
            each.recordings[index].measured.holds and each.run(gpus).measured[index].holds for each in self.seeds
        )

    def list_use(self, index: int, gpus: int) -> Use:
        """Return the used share of a service's allowance on each half of the traffic, by seed."""
        halves = [each.run(gpus).halves[index] for each in self.seeds]
        return {part: [used[part] for used in halves] for part in HALVES}

    def replace_service(self, index: int, recording: Recording) -> FleetPlanner:
        """Return the fleet with another recording of a service, with its first seed only."""
        recordings = [*self.recordings]
        recordings[index] = recording
        return FleetPlanner(self.fleet, recordings)

    def replace_in_others(self, index: int, service: FleetService) -> Iterator[FleetPlanner]:
        """Yield the fleets of the other seeds with another service."""
        for each in self.seeds[1:]:
            case = each.recordings[index].service.case
            seeded = replace(service, case=replace(service.case, traffic=case.traffic, seed=case.seed))
            yield each.replace_service(index, record_service(seeded))

    def descend(self, met: Sequence[int], gpus: int) -> int | None:
        """Return the smallest size that is found in steps of one node and meets as many SLOs with each seed; None if ``gpus`` does not."""

        def keeps(gpus: int) -> bool:
            # A fleet may have only the first seed.
            return all(each.meets(gpus, count) for each, count in zip(self.seeds, met, strict=False))

        if not keeps(gpus):
            return None
        while gpus > self.node and keeps(gpus - self.node):
            gpus -= self.node
        return gpus

    def find_largest_useful(self) -> int:
        """Return a size that meets as many SLOs as any: the peak of the GPUs in use, or of the pods of each service."""
        peak = self.round_up(max(each.find_peak() for each in self.seeds) / UNITS)
        if self.keeps(peak, 100):
            return peak
        total = max(
            sum(row.peak * row.service.demand.devices for row in each.recordings if row.service.demand is not None)
            for each in self.seeds
        )
        return self.round_up(total + self.fleet.training_count)

    def round_up(self, gpus: float) -> int:
        """Return a number of GPUs rounded up to whole nodes, at least one."""
        return max(math.ceil(gpus / self.node), 1) * self.node

    def find_peak(self, project: str | None = None) -> int:
        """Return the most units that all services, or those of a project, use at one time, without training and fragmentation."""
        rows = []
        for recording in self.recordings:
            demand = recording.service.demand
            if demand is not None and project in {None, demand.project}:
                rows += [
                    (change.at, (len(change.created) - len(change.ended)) * demand.total)
                    for change in recording.changes
                ]
        rows.sort()
        used = np.cumsum([units for _, units in rows])
        return int(used.max(initial=0))

    def find_smallest(self, share: int, low: int, high: int) -> int | None:
        """Return the smallest size of ``low`` to ``high`` nodes at which a share of the services meets its SLO; None if there is none.

        Only the smallest size of the first seed is simulated with the others, which raise it if they violate more SLOs there.
        """
        if not self.keeps(high * self.node, share):
            return None
        for each in self.seeds:
            if each is self or not each.meets(low * self.node, each.count_needed(share)):
                low = each.descend_nodes(each.count_needed(share), low, high)
        return next(nodes for nodes in range(low, high + 1) if self.keeps(nodes * self.node, share)) * self.node

    def descend_nodes(self, needed: int, low: int, high: int) -> int:
        """Return the smallest number of nodes from ``low`` to ``high``, which is sufficient, with the seed of this fleet.

        The steps from ``high`` down double until one fails, then a bisection follows: a large pool is simulated faster than
        one for which pods wait. One node less can meet more SLOs, so the search continues below a size that fails.
        """

        def keeps(nodes: int) -> bool:
            return self.meets(nodes * self.node, needed)

        step, least = max((high - low) // FIRST_STEP, 1), low
        while high > low and keeps(max(high - step, low)):
            high, step = max(high - step, low), 2 * step
        low = max(low, high - step + 1)
        while low < high:
            middle = (low + high) // 2
            if keeps(middle):
                high = middle
            else:
                low = middle + 1
        below = range(high - 2, max(high - 2 - PROBED, least - 1), -1)
        smaller = next((nodes for nodes in below if keeps(nodes)), None)
        return high if smaller is None else self.descend_nodes(needed, least, smaller)

    @cached_property
    def bound(self) -> int:
        """Number of GPUs without which no system meets all these SLOs, whatever it knows and however it packs.

        The work of the requests in a span must end by the span's end plus the largest latency. Of each service, the
        requests that may be late are taken as those with the most work.
        """
        step = SPANS[0]
        bins = math.ceil(self.fleet.seconds / step) + 1
        allowed: list[tuple[np.ndarray, float, float]] = []
        longest = 0.0
        for index in self.promised:
            recording = self.recordings[index]
            case, demand = recording.service.case, recording.service.demand
            bounds = [bound for bound in case.bounds if bound.kind in {"latency", "wait", "ttft"}]
            if demand is None or not bounds:
                continue
            share = max(bound.share for bound in bounds)
            work = recording.work
            late = np.sort(work)[len(work) - math.floor((1 - share) * len(work) + 1e-9) :].sum()
            spare = case.setting({}).timeout if any(bound.kind != "latency" for bound in bounds) else 0.0
            longest = max(longest, max(bound.limit for bound in bounds) + spare)
            added, _ = np.histogram(case.traffic.times, bins=bins, range=(0.0, bins * step), weights=work)
            allowed.append((np.concatenate([[0.0], np.cumsum(added)]), float(late), demand.total / UNITS))
        least = 0.0
        for span in (*SPANS, bins * step):
            width = min(span // step, bins)
            total = np.zeros(bins - width + 1)
            for sums, late, gpus in allowed:
                total += gpus * np.maximum(sums[width:] - sums[: len(sums) - width] - late, 0.0)
            least = max(least, float(total.max(initial=0.0)) / (width * step + longest))
        return math.ceil(least - 1e-9)

    def sum_hours(self, gpus: int) -> PoolHours:
        """Return the GPU-hours of the services and of the pools; a pod has the price of its first node pool."""
        used = used_cost = 0.0
        for recording, measured in zip(self.recordings, self.run(gpus).measured, strict=True):
            demand = recording.service.demand
            used += measured.gpu_hours
            used_cost += measured.gpu_hours * (self.fleet.prices.get(demand.pools[0], 0.0) if demand else 0.0)
        hours, sizes = self.fleet.seconds / HOUR, self.list_sizes(gpus)
        price = sum(size.gpus * self.fleet.prices.get(size.name, 0.0) for size in sizes)
        whole = hours * sum(size.gpus for size in sizes)
        share = self.run(gpus).service_seconds / HOUR / whole if whole else 0.0
        return PoolHours(used, used_cost, whole, hours * price, share)

    def find_least_hours(self) -> float:
        """Return the GPU-hours of all requests at the most efficient number of concurrent requests."""
        return sum(
            float(recording.work.sum()) * recording.service.demand.total / UNITS / HOUR
            for recording in self.recordings
            if recording.service.demand is not None
        )


class FleetChange(NamedTuple):
    """A change of one service that frees GPUs, and the simulated fleet with it and the changes before it."""

    service: str
    text: str
    edits: Mapping[Path, Any]
    """Changes of the spec; none if the change is not one of the spec."""
    smallest: int
    """Smallest pool with the change."""
    hours: PoolHours
    """GPU-hours at that pool."""
    met: int
    verdict: Verdict


def edit_service(service: FleetService, edits: Mapping[Path, Any]) -> FleetService | None:
    """Return a service with changes of its spec, or None if the spec has errors then."""
    case = service.case
    document = copy.deepcopy(case.document)
    for path, value in edits.items():
        document = apply_change(document, path, value)
    plan = plan_document(document, case.profile)
    if plan is None:
        return None
    demand = read_demand(plan)
    gpus = 0.0 if demand is None else demand.total / UNITS
    return FleetService(service.name, replace(case, document=document, gpus=gpus), demand)


def plan_document(document: dict[str, Any], profile: Profile) -> Plan | None:
    """Return the plan of a document, or None if it has errors."""
    loaded = load_document(document, profile)
    if loaded.inference is None:
        return None
    translation = translate(loaded.inference, profile, loaded.canonical)
    return None if has_errors(translation.problems) else translation.plan


def list_candidates(recording: Recording) -> Iterator[tuple[str, Mapping[Path, Any], FleetService]]:
    """Yield the changes of a service: a smaller share, a lower minimum, a shorter start, preemptible, a lower maximum."""
    service, case = recording.service, recording.service.case
    scaling = ("spec", "autoscaling")
    edits: list[tuple[str, dict[Path, Any]]] = []
    plan = plan_document(case.document, case.profile)
    assert plan is not None
    shrunk = shrink_share(plan)
    if shrunk is not None:
        edits.append(shrunk)
    low, high = plan.scaling.minimum, plan.scaling.maximum
    if low > 1:
        edits.append((f"minReplicas {low} -> {low // 2}", {(*scaling, "minReplicas"): low // 2}))
    if low == 1:
        edits.append(("minReplicas 1 -> 0", {(*scaling, "minReplicas"): 0}))
    if get_at(case.document, "spec", "preemptibility") is None and not plan.priority.preemptible:
        edits.append(("preemptible", {("spec", "preemptibility"): "preemptible"}))
    if 1 < recording.peak <= high and recording.peak > low:
        edits.append((f"maxReplicas {high} -> {recording.peak - 1}", {(*scaling, "maxReplicas"): recording.peak - 1}))
    for text, changes in edits:
        changed = edit_service(service, changes)
        if changed is not None:
            yield text, changes, changed
    start, shorter = case.start_up, shorten_start(case.start_up)
    text = f"start-up {format_duration(start.seconds)} -> {format_duration(shorter.seconds)} (model cache)"
    yield text, {}, replace(service, case=replace(case, start_up=shorter))


def shorten_start(start: StartUp) -> StartUp:
    """Return a start-up with a cache of the model's weights.

    It removes the download, which a start-up that is not divided has in its other phases.
    """
    undivided = {name: getattr(start, name) * CACHED_START for name in ("schedule", "pull", "load", "ready")}
    return replace(start, weights=0.0) if start.weights else replace(start, **undivided)


def shrink_share(plan: Plan) -> tuple[str, dict[Path, Any]] | None:
    """Return the change to the smallest part of a GPU in which a model of the catalog keeps room for its KV cache."""
    words, compute = list_words(plan), ("spec", "compute")
    served = find_loaded_model(plan.spec, words)
    memory = None if plan.pool is None else plan.pool.gpu_memory_mebibytes
    if served is None or memory is None or plan.gpu is None or plan.gpu.devices > 1:
        return None
    whole = plan.gpu.portion or 1.0
    fitting = [part for part in PORTIONS if part < whole and served.weights <= part * (memory << 20) * WEIGHTS_SHARE]
    if not fitting or plan.gpu.kind not in {"devices", "portion"}:
        return None
    part = min(fitting)
    edits: dict[Path, Any] = {
        (*compute, "gpuDevicesRequest"): 1,
        (*compute, "gpuRequestType"): "portion",
        (*compute, "gpuPortionRequest"): part,
    }
    engine, args = served.engine, plan.spec.args
    if engine is not None and engine.memory_flag:
        if read_flag(words, engine.memory_flag) is not None:
            return None
        argument = engine.write_memory_argument(part)
        edits["spec", "args"] = [*args, argument] if isinstance(args, list) else f"{args or ''} {argument}".strip()
    return f"{part:g} of a GPU ({served.weights / 2**30:.0f} GiB of weights)", edits


class FleetChanges(NamedTuple):
    """Changes that free GPUs together, and the fleet with them at its smallest pool."""

    changes: list[FleetChange]
    planner: FleetPlanner
    smallest: int
    rejected: list[str]
    """Changes that would free GPUs and fail the judge, with the reason."""


def run_in_threads(work: Callable[[_Input], _Output], inputs: Sequence[_Input]) -> list[_Output]:
    """Return the results in the order of the inputs. Compiled code runs without the interpreter's lock."""
    with ThreadPoolExecutor(WORKERS) as workers:
        return [*workers.map(work, inputs)]


def find_changes(planner: FleetPlanner, smallest: int, limit: int, spare: float = SPARE) -> FleetChanges:
    """Return the changes that free GPUs, at most one of each service, best first; each is verified with those before it.

    The ``limit`` services with the most GPU-hours are tried, and the changes that save the most in a service alone first.
    A change must pass the judge, whose evidence is the fleet. No change is proposed for a service without requests or SLO, or
    one that violates its SLO already.
    """
    base = [measured.gpu_hours for measured in planner.run(smallest).measured]
    sound = [index for index in range(len(base)) if planner.is_sound(index, smallest)]
    tried = sorted(sound, key=lambda index: (-base[index], index))[:limit]
    rows = [(index, *row) for index in tried for row in list_candidates(planner.recordings[index])]
    candidates = []
    recorded = run_in_threads(record_service, [row[3] for row in rows])
    for (index, text, edits, _), recording in zip(rows, recorded, strict=True):
        old = planner.recordings[index].measured
        if recording.measured.holds >= old.holds:
            # Preemptible, for example, saves nothing in the service alone, and can free GPUs for others.
            candidates.append((recording.measured.gpu_hours - old.gpu_hours, index, text, edits, recording))
    found = FleetChanges([], planner, smallest, [])
    met, hours = [each.count_met(smallest) for each in planner.seeds], sum(base)
    for _, index, text, edits, recording in sorted(candidates, key=lambda row: row[:3]):
        name = recording.service.name
        if name in {change.service for change in found.changes}:
            continue
        changed = found.planner.replace_service(index, recording)
        # Most changes save nothing with the first seed, and need no other one.
        if _find_saving(changed, met, found.smallest, hours) is None:
            continue
        changed.seeds = (changed, *found.planner.replace_in_others(index, recording.service))
        least = _find_saving(changed, met, found.smallest, hours)
        if least is None:
            continue
        size, verdict = _judge_change(found, changed, index, edits, least, spare)
        spent = changed.sum_hours(size)
        if not verdict.passes:
            found.rejected.append(f"{name}: {text}: {'; '.join(verdict.misses)}")
        elif size < found.smallest or spent.used < hours - SAVING:
            change = FleetChange(name, text, edits, size, spent, changed.count_met(size), verdict)
            found, hours = FleetChanges([*found.changes, change], changed, size, found.rejected), spent.used
    return found


def _judge_change(
    found: FleetChanges, changed: FleetPlanner, index: int, edits: Mapping[Path, Any], least: int, spare: float
) -> tuple[int, Verdict]:
    """Return the smallest size, at least ``least``, at which a change of a service passes the judge, or the last one that fails."""
    case = found.planner.recordings[index].service.case
    scaling, empty = get_at(case.document, "spec", "autoscaling") or {}, case.list_empty(HALVES, case.halves)
    change = Change({str(path[-1]): value for path, value in edits.items()}, scaling)
    current = found.planner.list_use(index, found.smallest)
    for size in range(least, found.smallest + 1, changed.node):
        verdict = judge(change, Evidence(current, changed.list_use(index, size), empty), spare)
        if verdict.passes:
            break
    return size, verdict


def _find_saving(planner: FleetPlanner, met: Sequence[int], largest: int, hours: float) -> int | None:
    """Return the smallest size of a fleet that is smaller than ``largest``, or uses fewer GPU-hours there; None if there is none."""
    size = planner.descend(met, largest)
    is_saving = size is not None and (size < largest or planner.sum_hours(size).used < hours - SAVING)
    return size if is_saving else None


def plan_fleet(fleet: Fleet, cases: Sequence[PreparedCase]) -> FleetPlanner:
    """Simulate each service alone. Raises SimulationRequestError."""

    def record(pair: tuple[PreparedCase, FleetService]) -> Recording:
        with raise_refusals(pair[0]):
            return record_service(pair[1])

    pairs = [*zip(cases, fleet.services, strict=True)]
    return FleetPlanner(fleet, run_in_threads(record, pairs))
