"""Search for settings: the knobs, the points to try, and the evaluation of the results.

A point has one value for each knob. A point is better than another if it consumes less of the SLO's error budget, or
takes fewer replica-hours; the points that no other beats in both form the Pareto front. Along the threshold knob, both
are monotonic: a higher threshold means fewer replicas and more waiting. The search therefore follows lines of thresholds,
abandons a line as soon as it cannot become cheaper than the best known point, and changes one other knob at a time, in their
order, until none of these changes helps. The cheapest point that passes the judge is chosen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import combinations, product
from typing import Any, Final, Literal, NamedTuple

from ebbtide.core.base import metrics
from ebbtide.core.base.problems import Path
from ebbtide.core.translation.plan import Scaling
from ebbtide.simulator.data import StartUp
from ebbtide.simulator.engine.case import Case, subtract_first_part
from ebbtide.simulator.engine.setting import knative_defaults
from ebbtide.simulator.engine.slo import SimulationMeasurements
from ebbtide.simulator.search.judge import MINIMUM, SPARE, Change, Evidence, Use, Verdict, judge

Values = dict[str, Any]
Place = tuple[int, ...]

#: Knob that varies along a line of the search.
THRESHOLD: Final = "metricThreshold"
EVALUATIONS: Final = 200


def list_levels(limit: float) -> tuple[tuple[float, float], ...]:
    """Return the levels of error budget consumption to search, each with its share of the evaluations.

    These are the limit, half of it for a part of the traffic that is worse, and the SLO itself for the price of the margin.
    """
    return (limit, 0.7), (limit / 2, 0.15), (1.0, 0.15)


@dataclass(frozen=True, slots=True)
class Knob:
    """Field of the spec to vary, with the values to try, in order."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SettingPoint:
    """Setting that was simulated, with its measurements."""

    values: Values
    """Values in terms of the spec."""
    measured: SimulationMeasurements
    raw: Values = field(default_factory=dict)
    """Values in terms of the knobs: the threshold as requests in flight, for every metric."""
    place: Place = ()

    @property
    def cost(self) -> float:
        """Cost of the setting in replica-hours."""
        return self.measured.replica_hours

    @property
    def holds(self) -> bool:
        """True if the SLO is met."""
        return self.measured.holds


@dataclass(slots=True)
class SearchResult:
    """Results of a search so far."""

    points: list[SettingPoint] = field(default_factory=list)
    evaluations: int = 0
    interrupted: bool = False

    @property
    def best(self) -> SettingPoint | None:
        """Cheapest point that meets the SLO."""
        return self.find_best(1.0)

    def find_best(self, limit: float) -> SettingPoint | None:
        """Return the cheapest point that consumes at most ``limit``; among equals, the one that consumes less."""
        candidates = [point for point in self.points if point.measured.used <= limit]
        return min(candidates, key=lambda point: (point.cost, point.measured.used), default=None)

    @property
    def nearest(self) -> SettingPoint | None:
        """Point closest to meeting the SLO; among equals, the cheapest."""
        return min(self.points, key=lambda point: (point.measured.used, point.cost), default=None)

    @property
    def front(self) -> list[SettingPoint]:
        """Points that no other beats in both cost and consumed budget, cheapest first."""
        front_points: list[SettingPoint] = []
        for point in sorted(self.points, key=lambda point: (point.cost, point.measured.used)):
            if not front_points or point.measured.used < front_points[-1].measured.used:
                front_points.append(point)
        return front_points

    def add(self, other: SearchResult) -> None:
        self.points += other.points
        self.evaluations += other.evaluations
        self.interrupted |= other.interrupted


class SearchStopped(Exception):  # noqa: N818 - not an error: the number of evaluations is reached
    """Raised to end a search."""


@dataclass(slots=True)
class Search:
    """Search over knobs that remembers the evaluated points."""

    knobs: tuple[Knob, ...]
    evaluate: Callable[[Values], SimulationMeasurements]
    """Function that simulates and measures values."""
    _: KW_ONLY
    base: Values
    """Values to start from, including those without a knob."""
    resolve: Callable[[Values], Values] = lambda values: values
    """Function that converts the knobs' values to the spec's."""
    valid: Callable[[Values], bool] = lambda _: True
    progress: Callable[[SearchResult], None] = lambda _: None
    result: SearchResult = field(default_factory=SearchResult, init=False)
    known: dict[Place, SettingPoint | None] = field(default_factory=dict, init=False)
    evaluation_limit: int = field(default=0, init=False)
    line: int = field(init=False)

    def __post_init__(self) -> None:
        """Locate the threshold among the knobs."""
        self.line = next((place for place, knob in enumerate(self.knobs) if knob.name == THRESHOLD), 0)

    def run(self, evaluations: int, levels: Sequence[tuple[float, float]]) -> SearchResult:
        """Search with at most ``evaluations`` simulations; after an interrupt, return the results so far."""
        start = self.result.evaluations
        part = 0.0
        try:
            for level, share in levels:
                part += share
                self.evaluation_limit = start + round(evaluations * part)
                self._search_level(level)
        except KeyboardInterrupt:
            self.result.interrupted = True
        return self.result

    def get_knob_values(self, place: Place) -> Values:
        return {**self.base, **{knob.name: knob.values[index] for knob, index in zip(self.knobs, place, strict=True)}}

    def _evaluate_place(self, place: Place) -> SettingPoint | None:
        """Return the point at a place, or None if its values are invalid in combination. Raises Stopped."""
        if place in self.known:
            return self.known[place]
        raw = self.get_knob_values(place)
        values = self.resolve(raw)
        if not self.valid(values):
            self.known[place] = None
            return None
        if self.result.evaluations >= self.evaluation_limit:
            raise SearchStopped
        point = SettingPoint(values, self.evaluate(values), raw, place)
        self.result.evaluations += 1
        self.result.points.append(point)
        self.known[place] = point
        self.progress(self.result)
        return point

    def _search_level(self, level: float) -> None:
        """Search for the cheapest point that consumes at most ``level`` of the error budget."""
        best = self.result.find_best(level)
        try:
            best = self._search_threshold_line(best.place if best else self._find_start(), level, best)
            self._improve_knobs(best, level)
        except SearchStopped:
            return

    def _find_start(self) -> Place:
        """Return the place closest to the base values."""
        return tuple(_find_nearest(knob.values, self.base.get(knob.name)) for knob in self.knobs)

    def _improve_knobs(self, best: SettingPoint | None, level: float) -> None:
        """Change one knob after another as long as the result improves."""
        has_improved = True
        while has_improved:
            has_improved = False
            for place in self._list_neighbors(best.place if best else self._find_start(), best):
                improved = self._search_threshold_line(place, level, best)
                if improved is not None and improved is not best:
                    best, has_improved = improved, True
                    break

    def _list_neighbors(self, place: Place, best: SettingPoint | None) -> Iterator[Place]:
        """Yield the places that differ in one knob other than the threshold: adjacent values first, in the order of the knobs.

        Last are those that differ by one step in two knobs, since a lower minimum may need a longer delay. A minimum that alone costs more than the best point is left out.
        """
        others = [number for number in range(len(self.knobs)) if number != self.line]
        singles = [
            (abs(index - place[number]) > 1, number, abs(index - place[number]), {number: index})
            for number in others
            for index in range(len(self.knobs[number].values))
            if index != place[number]
        ]
        pairs = [
            {first: place[first] + step, second: place[second] + other}
            for first, second in combinations(others, 2)
            for step, other in product((-1, 1), repeat=2)
        ]
        for changes in (*(changes for *_, changes in sorted(singles, key=lambda move: move[:3])), *pairs):
            near = tuple(changes.get(number, index) for number, index in enumerate(place))
            if all(0 <= index < len(knob.values) for index, knob in zip(near, self.knobs, strict=True)):
                always = self.get_knob_values(near).get(MINIMUM) or 0
                if best is None or always * best.measured.hours < best.cost:
                    yield near

    def _move_threshold(self, place: Place, index: int) -> Place:
        return (*place[: self.line], index, *place[self.line + 1 :])

    def _search_threshold_line(self, place: Place, level: float, best: SettingPoint | None) -> SettingPoint | None:
        """Return the cheapest point within ``level`` on the line of thresholds through ``place``, or ``best``."""

        def is_within(point: SettingPoint | None) -> bool:
            return point is not None and point.measured.used <= level

        last = len(self.knobs[self.line].values) - 1
        index, step = place[self.line], 1
        current = self._evaluate_place(self._move_threshold(place, index))
        direction = 1 if is_within(current) else -1
        inside, outside = (index, None) if is_within(current) else (None, index)
        # Double the step until the boundary is between two places.
        while inside is None or outside is None:
            if not is_within(current) and current is not None and best is not None and current.cost >= best.cost:
                return best
            if index == (last if direction > 0 else 0):
                break
            index = min(max(index + direction * step, 0), last)
            step *= 2
            current = self._evaluate_place(self._move_threshold(place, index))
            if is_within(current):
                inside = index
            else:
                outside = index
        while inside is not None and outside is not None and outside - inside > 1:
            middle = (inside + outside) // 2
            if is_within(self._evaluate_place(self._move_threshold(place, middle))):
                inside = middle
            else:
                outside = middle
        cheapest = None if inside is None else self._evaluate_place(self._move_threshold(place, inside))
        if cheapest is None or (best is not None and cheapest.cost >= best.cost):
            return best
        return cheapest


def _find_nearest(values: tuple[Any, ...], target: Any) -> int:
    if target in values:
        return values.index(target)
    if target is None:
        return len(values) // 2
    if isinstance(target, int | float) and all(isinstance(value, int | float) for value in values):
        return min(range(len(values)), key=lambda index: abs(values[index] - target))
    return 0


# Knobs.

DELAYS: Final = (None, 30, 60, 120, 300, 600, 900)
RETENTIONS: Final = (None, 60, 300, 900, 1800, 3600)
MINIMA: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
#: Metrics that only the KPA supports.
REQUESTS: Final = tuple(row.name for row in metrics.ROWS.values() if row.autoscaler == "kpa")
#: Target utilization in percent; None is Knative's default of 70.
SHARES: Final = (None, 50, 60, 80, 90, 100)
#: Fields that apply only to a service that scales to zero.
FROM_ZERO: Final = ("scaleToZeroRetentionSeconds", "activationReplicas")
#: Fields that apply only to a service with a variable number of replicas.
MOVING: Final = ("metric", THRESHOLD, "metricThresholdPercentage", "scaleDownDelaySeconds")


def make_knobs(
    block: Mapping[str, Any], metric: str, minimum: int, maximum: int, *, controller: bool = False
) -> tuple[Knob, ...]:
    """Return the knobs of a search for a spec whose ``autoscaling`` is ``block``, with the plan's bounds.

    If the spec has no scaling metric, concurrency is tried. maxReplicas is the budget and is not changed. ``controller`` is
    true if Ebbtide's controller scales the metric, in addition to the KPA: then the KPA's delays apply, too.
    """
    kpa = metric in {"", *REQUESTS}
    zero = [0] if minimum == 0 and (kpa or controller) else []
    knobs = [
        Knob(THRESHOLD, metrics.ROWS[metric or "concurrency"].thresholds),
        Knob(MINIMUM, (*zero, *(count for count in MINIMA if count < maximum), maximum)),
    ]
    if not (kpa or controller):
        return tuple(knobs)
    knobs.append(Knob("scaleDownDelaySeconds", _include_value(DELAYS, block.get("scaleDownDelaySeconds"))))
    if kpa:
        knobs.append(Knob("metric", REQUESTS))
    if minimum == 0:
        knobs.append(
            Knob("scaleToZeroRetentionSeconds", _include_value(RETENTIONS, block.get("scaleToZeroRetentionSeconds")))
        )
        scales = tuple(count for count in (2, 3, 4, 6, 8) if count <= maximum)
        knobs.append(Knob("activationReplicas", _include_value((None, *scales), block.get("activationReplicas"))))
    return tuple(knobs)


class SearchSpace(NamedTuple):
    """Settings that a search may change, the spec's values, and its minimum and maximum replicas."""

    knobs: tuple[Knob, ...]
    base: Values
    bounds: tuple[int, int]


def make_search_space(block: Mapping[str, Any], scaling: Scaling, kept: Container[str]) -> SearchSpace:
    """Return the knobs of a spec's autoscaling, except those in ``kept``, with the spec's values and its bounds."""
    metric = scaling.metric.name if scaling.metric is not None else ""
    controller = scaling.scaler == "controller"
    knobs = make_knobs(block, metric, scaling.minimum, scaling.maximum, controller=controller)
    base = {knob.name: block.get(knob.name) for knob in knobs}
    base |= {MINIMUM: scaling.minimum, "maxReplicas": scaling.maximum, "metric": block.get("metric")}
    base["concurrencyHardLimit"] = block.get("concurrencyHardLimit")
    if scaling.scaler in {"knative-kpa", "fixed"}:
        base["metricThresholdPercentage"] = block.get("metricThresholdPercentage")
    varied = tuple(knob for knob in knobs if knob.name not in kept)
    return SearchSpace(varied, base, (scaling.minimum, scaling.maximum))


def _include_value(values: tuple[Any, ...], current: Any) -> tuple[Any, ...]:
    return values if current in values or not current else (*values[:1], *sorted((*values[1:], current)))


def _is_per_second(values: Values) -> bool:
    row = metrics.ROWS.get(values.get("metric") or "")
    return row is not None and row.simulated == "rps"


def convert_to_per_second(raw: Values, seconds: float) -> Values:
    """Return values with the threshold converted to an equivalent load in their metric.

    ``seconds`` is the service time of a request, which relates requests in flight to requests per second (Little's law).
    """
    if not _is_per_second(raw) or raw.get(THRESHOLD) is None:
        return drop_idle_fields(raw)
    return drop_idle_fields({**raw, THRESHOLD: float(f"{raw[THRESHOLD] / seconds:.3g}")})


def convert_to_in_flight(values: Values, seconds: float) -> Values:
    """Return a spec's values in terms of the knobs: the inverse of ``per_second``."""
    if not _is_per_second(values) or values.get(THRESHOLD) is None:
        return values
    return {**values, THRESHOLD: values[THRESHOLD] * seconds}


def drop_idle_fields(values: Values) -> Values:
    """Return values without fields that have no effect with these bounds."""
    minimum = values.get("minReplicas")
    ignored: tuple[str, ...] = FROM_ZERO if minimum else ()
    if minimum is not None and minimum == values.get("maxReplicas"):
        ignored = (*FROM_ZERO, *MOVING)
    return {name: None if name in ignored else value for name, value in values.items()}


def fits_hard_limit(values: Values) -> bool:
    """Return whether the hard limit is at least the threshold: Knative scales on the smaller of the two."""
    limit, threshold = values.get("concurrencyHardLimit"), values.get(THRESHOLD)
    return not limit or threshold is None or _is_per_second(values) or threshold <= limit


def refine_knobs(raw: Values, line: Knob) -> tuple[Knob, ...]:
    """Return knobs with values between those already tried: thresholds and target utilization."""
    current = raw[THRESHOLD]
    neighbors = sorted({*line.values, current})
    index = neighbors.index(current)
    low, high = neighbors[max(index - 1, 0)], neighbors[min(index + 1, len(neighbors) - 1)]
    step = max((high - low) / 12, 1)
    candidates = {round(low + step * number) for number in range(math.ceil((high - low) / step) + 1)} | {current}
    threshold = Knob(THRESHOLD, tuple(sorted(value for value in candidates if low <= value <= high)))
    if "metricThresholdPercentage" not in raw:
        return (threshold,)
    return (threshold, Knob("metricThresholdPercentage", _include_value(SHARES, raw["metricThresholdPercentage"])))


# Limits.

#: Shortest start-up time to try, in seconds.
MIN_START_UP_SECONDS: Final = 1.0
#: Largest multiple of a limit's current value to try.
MAX_FACTOR: Final = 4


Limit = Literal["minReplicas", "maxReplicas", "start-up", "both", "server"]


@dataclass(frozen=True, slots=True)
class Relief:
    """Limit whose change alone makes the SLO achievable, confirmed by simulation."""

    limit: Limit
    """Name of the limit; ``both`` is minReplicas together with maxReplicas."""
    now: float
    """Current value: replicas, seconds of start-up, or the fraction of never-waiting requests within the bound."""
    needed: float
    """Value that meets the SLO: lowest number of replicas, approximately longest start-up, or lowest fraction."""


def find_reliefs(case: Case, values: Values, minimum: int, maximum: int, limit: float) -> tuple[Relief, ...]:
    """Return the limits whose change alone makes the closest point consume at most ``limit`` of the error budget.

    If no single limit does, try a higher minimum together with a higher maximum. If that does not help, the server is the
    limit if requests that never wait take too long; otherwise the limit is unknown and the result is empty.
    """

    def holds(changed: Mapping[str, Any], seconds: float | None = None) -> bool:
        start_up = None if seconds is None else StartUp(0.0, 0.0, seconds, 0.0, case.start_up.spread)
        candidate = drop_idle_fields({**values, **changed})
        return case.is_renderable(candidate) and case.measure(case.run(candidate, start_up)).used <= limit

    def find_count(name: Limit, now: int, low: int, high: int, *fields: str) -> list[Relief]:
        count = find_lowest(low, high, lambda count: holds(dict.fromkeys(fields, count)))
        return [] if count is None else [Relief(name, now, count)]

    reliefs = find_count("minReplicas", minimum, minimum + 1, maximum, "minReplicas")
    seconds = find_highest(MIN_START_UP_SECONDS, case.start_up.seconds, lambda seconds: holds({}, seconds))
    if seconds is not None:
        reliefs.append(Relief("start-up", case.start_up.seconds, seconds))
    raised = maximum, maximum + 1, MAX_FACTOR * maximum
    reliefs += find_count("maxReplicas", *raised, "maxReplicas")
    reliefs = reliefs or find_count("both", *raised, "minReplicas", "maxReplicas")
    if not reliefs:
        within_bound = [
            (bound, case.alone_within(bound)) for bound in case.bounds if bound.kind in {"latency", "ttft", "itl"}
        ]
        reliefs += [Relief("server", share, bound.share) for bound, share in within_bound if share < bound.share]
    return tuple(reliefs)


def find_lowest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Return the lowest whole number from ``low`` to ``high`` that ``holds``, assuming that all higher ones hold."""
    if low > high or not holds(high):
        return None
    return low + bisect_left(range(low, high), True, key=holds)


def find_highest(low: float, high: float, holds: Callable[[float], bool], steps: int = 6) -> float | None:
    """Return approximately the highest number from ``low`` to ``high`` that ``holds``; None if ``low`` does not."""
    if low >= high or not holds(low):
        return None
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


# Search.

#: Share of the replica-hours that a change must save.
MIN_SAVING: Final = 0.01
#: Fields that are meaningful only in combination.
TOGETHER: Final = ("metric", THRESHOLD, "metricThresholdPercentage")
#: Names of the parts of the traffic that are judged, by the number of their edges.
PARTS: Final = {2: ("all of the traffic",), 3: ("the part searched", "the rest")}
#: Share of the evaluations for the main search; half of the rest refines its best point.
MAIN: Final = 0.8


@dataclass(frozen=True, slots=True)
class TuningResult:
    """Result of a search. Points are measured on the part of the traffic that was searched on."""

    result: SearchResult
    current: SettingPoint
    """Current spec."""
    default: SettingPoint
    """Knative's defaults with the spec's bounds."""
    candidate: SettingPoint | None
    """Cheapest point that passes the judge, without changes that save almost nothing; otherwise the one closest to passing."""
    verdict: Verdict | None
    """The judgment of the candidate."""
    reliefs: tuple[Relief, ...]
    """Changes that would help if no point leaves enough of the error budget."""
    rest: Mapping[str, SimulationMeasurements]
    """Measurements on the rest of the traffic, by field name of the point."""
    part: float
    """Length in seconds of the traffic that was searched on."""
    spare: float
    """Share of the error budget that the chosen point leaves."""

    @property
    def chosen(self) -> SettingPoint | None:
        """The candidate, if it passed the judge."""
        return self.candidate if self.verdict is not None and self.verdict.passes else None

    @property
    def front(self) -> list[SettingPoint]:
        """Pareto front, cheapest first, with the chosen point in place of those that cost nearly the same."""
        chosen = self.chosen
        if chosen is None:
            return self.result.front
        others = [point for point in self.result.front if abs(point.cost - chosen.cost) > MIN_SAVING * chosen.cost]
        return sorted([*others, chosen], key=lambda point: point.cost)


def tune_settings(
    samples: Sequence[Case],
    space: SearchSpace,
    *,
    part: float,
    evaluations: int = EVALUATIONS,
    spare: float = SPARE,
    progress: Callable[[SearchResult], None] = lambda _: None,
) -> TuningResult:
    """Search for settings on the first ``part`` seconds of the first sample, and judge them on all of each sample.

    Raises NotSimulated if the current spec cannot be simulated, and ServerError if the server does not fit the traffic.
    """
    knobs, base, bounds = space
    case, limit = samples[0], 1 - spare
    is_whole = part >= case.traffic.seconds
    first = case if is_whole else case.cut(0.0, part)
    seconds = (first if len(first.traffic.times) else case).service_seconds()
    current = SettingPoint(base, first.evaluate(base), convert_to_in_flight(base, seconds))
    defaults = knative_defaults(first.setting(base))
    default = SettingPoint({}, first.measure(first.simulate_setting(defaults)))
    line = {**base, "metric": base.get("metric") or REQUESTS[0]}

    def valid(values: Values) -> bool:
        return fits_hard_limit(values) and first.is_renderable(values)

    def search(moved: tuple[Knob, ...], start: Values) -> Search:
        return Search(
            moved,
            first.evaluate,
            base=start,
            resolve=lambda values: convert_to_per_second(values, seconds),
            valid=valid,
            progress=progress,
        )

    result = search(knobs, line).run(round(evaluations * MAIN), list_levels(limit))
    result.points.append(current)
    remaining, best = max(evaluations - result.evaluations, 2) // 2, result.find_best(limit)
    if not result.interrupted and best is not None and best.raw.get(THRESHOLD) is not None:
        result.add(search(refine_knobs(best.raw, knobs[0]), best.raw).run(remaining, ((limit, 1.0),)))
    edges = (0.0, math.inf) if is_whole else (0.0, part, math.inf)
    empty = case.list_empty(PARTS[len(edges)], edges)
    candidate, verdict = None, None
    reliefs: tuple[Relief, ...] = ()
    rest: dict[str, SimulationMeasurements] = {}

    def choose() -> tuple[SettingPoint, Verdict] | tuple[None, None]:
        usage, refused = _measure_use(samples, base, edges, math.inf), []
        for point in [point for point in result.front if point.measured.used <= limit]:
            simple = simplify_point(point, result, first.evaluate, current, limit, valid)
            evidence = Evidence(usage, _measure_use(samples, simple.values, edges, limit), empty)
            verdict = judge(Change(diff_values(simple.values, base), base), evidence, spare)
            if verdict.passes:
                return simple, verdict
            refused.append((simple, verdict))
        return min(refused, key=lambda pair: pair[1].used or math.inf, default=(None, None))

    try:
        if not result.interrupted:
            candidate, verdict = choose()
            if candidate is None and result.nearest is not None:
                reliefs = find_reliefs(first, result.nearest.values, *bounds, limit)
            points = {} if is_whole else {"current": current, "chosen": candidate}
            tried = {name: first.setting(point.values) for name, point in points.items() if point is not None}
            for name, setting in ({"default": defaults, **tried} if points else {}).items():
                results = (each.simulate_setting(setting) for each in (case, first))
                rest[name] = case.measure(subtract_first_part(*results))
    except KeyboardInterrupt:
        result.interrupted, rest = True, {}
    part = min(part, case.traffic.seconds)
    return TuningResult(result, current, default, candidate, verdict, reliefs, rest, part, spare)


def _measure_use(samples: Sequence[Case], values: Values, edges: Sequence[float], limit: float) -> Use:
    """Return the use of the allowance by part with each seed, until one is above ``limit``."""
    used: list[list[float]] = []
    for case in samples:
        if not used or max(used[-1]) <= limit:
            used.append(case.measure_use(case.run(values), edges))
    return dict(zip(PARTS[len(edges)], zip(*used, strict=True), strict=True))


def simplify_point(
    point: SettingPoint,
    result: SearchResult,
    evaluate: Callable[[Values], SimulationMeasurements],
    current: SettingPoint,
    limit: float,
    is_valid: Callable[[Values], bool] = lambda values: True,  # noqa: ARG005 - all values are valid by default
) -> SettingPoint:
    """Return a point without changes to ``current`` that save less than ``MIN_SAVING``, within ``limit``.

    ``current`` is the current spec and is preferred if no change saves more. Points evaluated here are added to ``result``.
    """
    max_cost = point.cost * (1 + MIN_SAVING)
    if current.measured.used <= limit and current.cost <= max_cost:
        return current
    for name in sorted(diff_values(point.values, current.values), key=lambda name: (name in TOGETHER, name)):
        names = TOGETHER if name in TOGETHER else (name,)
        originals = {name: current.values.get(name) for name in names}
        if not diff_values(point.values, originals) or (originals.get(THRESHOLD) is None and THRESHOLD in originals):
            continue
        values = drop_idle_fields({**point.values, **originals})
        if values == point.values or not is_valid(values):
            continue
        raw = {**point.raw, **{name: current.raw.get(name) for name in names}}
        simpler = SettingPoint(values, evaluate(values), raw)
        result.evaluations += 1
        result.points.append(simpler)
        if simpler.measured.used <= limit and simpler.cost <= max_cost:
            point = simpler
    return point


def diff_values(values: Mapping[str, Any], before: Mapping[str, Any]) -> Values:
    return {name: value for name, value in values.items() if before.get(name) != value}


def address_changes(changes: Mapping[str, Any]) -> dict[Path, Any]:
    """Return changes to a spec's ``autoscaling`` by path in the document, the input of ``manifests.edit``."""
    return {("spec", "autoscaling", name): value for name, value in changes.items()}
