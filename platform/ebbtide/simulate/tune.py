"""A search for settings: which knobs, which points to try, and what to say of what was found.

A point is one value for each knob. Of two points the better one uses less of what the promise allows, or fewer
replica-hours; those that no other beats in both make the front. Along one knob, the threshold, both move in known
directions: a higher one means fewer replicas and more waiting. So a search goes along lines of thresholds, gives a line
up as soon as it cannot become cheaper than the best point known, and changes one other knob at a time. Where no such
change helps, a model of what is known says where to look next.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ebbtide.base import metrics
from ebbtide.simulate.case import after
from ebbtide.simulate.data import StartUp
from ebbtide.simulate.setting import knative_defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from numpy.typing import NDArray

    from ebbtide.base.problems import Path
    from ebbtide.simulate.case import Case
    from ebbtide.simulate.setting import Setting
    from ebbtide.simulate.slo import Measured
    from ebbtide.translation.plan import Scaling

    Floats = NDArray[np.float64]

Values = dict[str, Any]
Place = tuple[int, ...]

#: The knob that a search moves along its lines.
THRESHOLD: Final = "metricThreshold"
#: What is looked for, and with which part of the evaluations: the promise itself, half and double of what it allows.
LEVELS: Final = ((1.0, 0.7), (0.5, 0.15), (2.0, 0.15))
PROMISE: Final = ((1.0, 1.0),)
#: Places among which the next one is chosen, of a grid that has more.
LOOKED_AT: Final = 4096
#: What is added to what is used before its logarithm: below it, more to spare is worth nothing.
USED_FLOOR: Final = 0.05
RIDGE: Final = 0.01
EVALUATIONS: Final = 200


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that can be set: the spec's field or the cluster's key, and what to try, in order."""

    name: str
    values: tuple[Any, ...]
    where: Literal["spec", "cluster"] = "spec"


@dataclass(frozen=True, slots=True)
class Point:
    """One setting that was simulated, and what it came to."""

    values: Values
    """As the spec has them."""
    measured: Measured
    raw: Values = field(default_factory=dict)
    """As the knobs have them: the threshold as requests in flight, whatever the metric."""
    place: Place = ()

    @property
    def cost(self) -> float:
        """What the settings cost, in replica-hours."""
        return self.measured.replica_hours

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.measured.holds


@dataclass(slots=True)
class Found:
    """What a search has found so far."""

    points: list[Point] = field(default_factory=list)
    evaluations: int = 0
    interrupted: bool = False

    @property
    def best(self) -> Point | None:
        """The cheapest point that keeps the promise; of equals, the one with more to spare."""
        held = [point for point in self.points if point.holds]
        return min(held, key=lambda point: (point.cost, point.measured.used), default=None)

    @property
    def nearest(self) -> Point | None:
        """The point that comes nearest to the promise; of equals, the cheapest."""
        return min(self.points, key=lambda point: (point.measured.used, point.cost), default=None)

    @property
    def front(self) -> list[Point]:
        """The points that no other beats, the cheapest first."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.cost, point.measured.used)):
            if not kept or point.measured.used < kept[-1].measured.used:
                kept.append(point)
        return kept

    def add(self, other: Found) -> None:
        """Take in what another search has found."""
        self.points += other.points
        self.evaluations += other.evaluations
        self.interrupted |= other.interrupted


class Stopped(Exception):  # noqa: N818 - not an error: the evaluations are used up
    """Ends a search."""


@dataclass(slots=True)
class Search:
    """A search over knobs that remembers what it has evaluated."""

    knobs: tuple[Knob, ...]
    evaluate: Callable[[Values], Measured]
    """The simulation."""
    _: KW_ONLY
    base: Values
    """The values to begin at, and those that no knob moves."""
    resolve: Callable[[Values], Values] = lambda values: values
    """Makes the spec's values of the knobs'."""
    valid: Callable[[Values], bool] = lambda _: True
    seed: InitVar[int] = 0
    progress: Callable[[Found], None] = lambda _: None
    found: Found = field(default_factory=Found, init=False)
    known: dict[Place, Point | None] = field(default_factory=dict, init=False)
    most: int = field(default=0, init=False)
    draws: np.random.Generator = field(init=False)
    line: int = field(init=False)

    def __post_init__(self, seed: int) -> None:
        """Find the threshold among the knobs."""
        self.draws = np.random.default_rng(seed)
        self.line = next((place for place, knob in enumerate(self.knobs) if knob.name == THRESHOLD), 0)

    def run(self, evaluations: int = EVALUATIONS, levels: tuple[tuple[float, float], ...] = LEVELS) -> Found:
        """Search, with at most so many evaluations; an interrupt ends it with what is known."""
        start = self.found.evaluations
        part = 0.0
        try:
            for level, share in levels:
                part += share
                self.most = start + round(evaluations * part)
                self._level(level)
        except KeyboardInterrupt:
            self.found.interrupted = True
        return self.found

    def raw(self, place: Place) -> Values:
        """Return a place as the knobs have it."""
        return {**self.base, **{knob.name: knob.values[index] for knob, index in zip(self.knobs, place, strict=True)}}

    def _point(self, place: Place) -> Point | None:
        """Return the point at a place, None where its values are none together. Raises Stopped."""
        if place in self.known:
            return self.known[place]
        raw = self.raw(place)
        values = self.resolve(raw)
        if not self.valid(values):
            self.known[place] = None
            return None
        if self.found.evaluations >= self.most:
            raise Stopped
        point = Point(values, self.evaluate(values), raw, place)
        self.found.evaluations += 1
        self.found.points.append(point)
        self.known[place] = point
        self.progress(self.found)
        return point

    def _level(self, level: float) -> None:
        """Look for the cheapest point that uses up at most ``level`` of what the promise allows."""
        best: Point | None = min(
            (point for point in self.found.points if point.measured.used <= level),
            key=lambda point: point.cost,
            default=None,
        )
        try:
            best = self._along(best.place if best else self._start(), level, best)
            best = self._climb(best, level)
            while place := self._promising(level):
                point = self._point(place)
                if point is not None and (best is None or point.cost < best.cost):
                    found = self._along(place, level, best)
                    if found is not None and found is not best:
                        best = self._climb(found, level)
        except Stopped:
            return

    def _start(self) -> Place:
        """Return the place nearest to the base."""
        return tuple(_nearest(knob.values, self.base.get(knob.name)) for knob in self.knobs)

    def _climb(self, best: Point | None, level: float) -> Point | None:
        """Change one knob after the other for as long as that helps."""
        better = True
        while better:
            better = False
            for place in self._beside(best.place if best else self._start()):
                found = self._along(place, level, best)
                if found is not None and found is not best:
                    best, better = found, True
                    break
        return best

    def _beside(self, place: Place) -> Iterator[Place]:
        """Yield the places that differ in one knob other than the threshold: its neighbours first, then all."""
        others = [number for number in range(len(self.knobs)) if number != self.line]
        self.draws.shuffle(others)
        moves = [
            (abs(index - place[number]) > 1, number, index)
            for number in others
            for index in range(len(self.knobs[number].values))
            if index != place[number]
        ]
        for _, number, index in sorted(moves, key=lambda move: move[0]):
            yield (*place[:number], index, *place[number + 1 :])

    def _promising(self, level: float) -> Place | None:
        """Return the place that looks cheapest of those that look as if they keep ``level``; None where none is left.

        Looks are those of a quadratic in the knobs' positions, fitted to what is known, and drawn around it.
        """
        sizes = np.array([len(knob.values) for knob in self.knobs])
        total = math.prod(sizes.tolist())
        numbers = np.arange(total) if total <= LOOKED_AT else self.draws.integers(0, total, LOOKED_AT)
        places = np.stack(np.unravel_index(numbers, sizes), axis=1)
        places = places[[tuple(place) not in self.known for place in places.tolist()]]
        if not len(places):
            return None
        if not self.found.points:
            return tuple(places[0].tolist())
        seen = np.array([point.place for point in self.found.points])
        costs = np.log([point.cost + 1e-9 for point in self.found.points])
        used = np.log([min(point.measured.used, 100.0) + USED_FLOOR for point in self.found.points])
        known, asked = _quadratic(seen, sizes), _quadratic(places, sizes)
        looks_used = self._drawn(known, used, asked)
        looks_cost = self._drawn(known, costs, asked)
        fine = looks_used <= math.log(level + USED_FLOOR)
        best = int(np.where(fine, looks_cost, np.inf).argmin()) if fine.any() else int(looks_used.argmin())
        return tuple(places[best].tolist())

    def _drawn(self, known: Floats, values: Floats, asked: Floats) -> Floats:
        """Return what ``values`` look like where they are ``asked`` for: a ridge regression, and its errors drawn."""
        inverse = np.linalg.inv(known.T @ known + RIDGE * np.eye(known.shape[1]))
        weights = inverse @ known.T @ values
        spread = float((values - known @ weights).std())
        unsure = np.sqrt(1 + np.einsum("ij,jk,ik->i", asked, inverse, asked))
        drawn: Floats = asked @ weights + spread * unsure * self.draws.standard_normal(len(asked))
        return drawn

    def _at(self, place: Place, index: int) -> Place:
        return (*place[: self.line], index, *place[self.line + 1 :])

    def _along(self, place: Place, level: float, best: Point | None) -> Point | None:
        """Return the cheapest point on the line of thresholds through ``place`` that keeps ``level``, or ``best``."""

        def fine(point: Point | None) -> bool:
            return point is not None and point.measured.used <= level

        last = len(self.knobs[self.line].values) - 1
        index, step = place[self.line], 1
        here = self._point(self._at(place, index))
        direction = 1 if fine(here) else -1
        inside, outside = (index, None) if fine(here) else (None, index)
        # Double the steps until the edge lies between two places.
        while inside is None or outside is None:
            if not fine(here) and here is not None and best is not None and here.cost >= best.cost:
                return best
            if index == (last if direction > 0 else 0):
                break
            index = min(max(index + direction * step, 0), last)
            step *= 2
            here = self._point(self._at(place, index))
            if fine(here):
                inside = index
            else:
                outside = index
        while inside is not None and outside is not None and outside - inside > 1:
            middle = (inside + outside) // 2
            if fine(self._point(self._at(place, middle))):
                inside = middle
            else:
                outside = middle
        found = None if inside is None else self._point(self._at(place, inside))
        if found is None or (best is not None and found.cost >= best.cost):
            return best
        return found


def _quadratic(places: NDArray[np.int64], sizes: NDArray[np.int64]) -> Floats:
    """Return 1, each knob's position from 0 to 1, and their products two by two."""
    positions = places / np.maximum(sizes - 1, 1)
    first, second = np.triu_indices(len(sizes))
    ones = np.ones((len(places), 1))
    return np.concatenate([ones, positions, positions[:, first] * positions[:, second]], axis=1)


def _nearest(values: tuple[Any, ...], wanted: Any) -> int:
    if wanted in values:
        return values.index(wanted)
    if wanted is None:
        return len(values) // 2
    if isinstance(wanted, int | float) and all(isinstance(value, int | float) for value in values):
        return min(range(len(values)), key=lambda index: abs(values[index] - wanted))
    return 0


# Knobs.

#: Requests in flight per replica to aim at; of another metric the same pressure.
THRESHOLDS: Final = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100)
PERCENTAGES: Final = (10, 20, 30, 40, 50, 60, 70, 80, 90)
#: Bounds of queue-proxy's histogram.
MILLISECONDS: Final = (25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500)
DELAYS: Final = (None, 30, 60, 120, 300, 600, 900)
RETENTIONS: Final = (None, 60, 300, 900, 1800, 3600)
LIMITS: Final = (None, 8, 16, 32, 64, 128)
MINIMA: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
CLUSTER_KNOBS: Final = (
    Knob("stable-window", (15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0), "cluster"),
    Knob("panic-threshold-percentage", (110.0, 150.0, 200.0, 400.0, 1000.0), "cluster"),
    Knob("panic-window-percentage", (5.0, 10.0, 20.0, 50.0), "cluster"),
)
#: What the KPA alone scales on.
REQUESTS: Final = tuple(row.name for row in metrics.ROWS.values() if row.autoscaler == "kpa")
#: How much of a threshold to use, in percent; none is 70.
SHARES: Final = (None, 50, 60, 80, 90, 100)
#: What only a service that rests at zero has.
FROM_ZERO: Final = ("scaleToZeroRetentionSeconds", "activationReplicas")
#: What only a service has whose number of replicas moves.
MOVING: Final = ("metric", THRESHOLD, "metricThresholdPercentage", "scaleDownDelaySeconds")


def knobs_of(block: Mapping[str, Any], metric: str, minimum: int, maximum: int) -> tuple[Knob, ...]:
    """Return what a search may set in a spec whose ``autoscaling`` is ``block``; its bounds are the plan's.

    Without a metric there is nothing to move replicas by, so concurrency is tried. maxReplicas is what may be spent,
    and stays.
    """
    kpa = metric in {"", *REQUESTS}
    thresholds: tuple[Any, ...] = THRESHOLDS
    if not kpa:
        thresholds = MILLISECONDS if metrics.ROWS[metric].simulated == "latency" else PERCENTAGES
    least = [0] if minimum == 0 and kpa else []
    knobs = [
        Knob(THRESHOLD, thresholds),
        Knob("minReplicas", (*least, *(count for count in MINIMA if count < maximum), maximum)),
    ]
    if not kpa:
        return tuple(knobs)
    delay, limit = block.get("scaleDownDelaySeconds"), block.get("concurrencyHardLimit")
    knobs += [
        Knob("metric", REQUESTS),
        Knob("scaleDownDelaySeconds", _with(DELAYS, delay)),
        Knob("concurrencyHardLimit", _with(LIMITS, limit)),
    ]
    if minimum == 0:
        knobs.append(Knob("scaleToZeroRetentionSeconds", _with(RETENTIONS, block.get("scaleToZeroRetentionSeconds"))))
        jumps = tuple(count for count in (2, 3, 4, 6, 8) if count <= maximum)
        knobs.append(Knob("activationReplicas", _with((None, *jumps), block.get("activationReplicas"))))
    return tuple(knobs)


def moved(
    block: Mapping[str, Any], scaling: Scaling, kept: Container[str]
) -> tuple[tuple[Knob, ...], Values, tuple[int, int]]:
    """Return what to move of a spec's autoscaling, but for what is kept; its own values, and its bounds."""
    metric = scaling.metric.name if scaling.metric is not None else ""
    knobs = knobs_of(block, metric, scaling.minimum, scaling.maximum)
    base = {knob.name: block.get(knob.name) for knob in knobs}
    base |= {"minReplicas": scaling.minimum, "maxReplicas": scaling.maximum, "metric": block.get("metric")}
    if scaling.scaler in {"knative-kpa", "fixed"}:
        base["metricThresholdPercentage"] = block.get("metricThresholdPercentage")
    return tuple(knob for knob in knobs if knob.name not in kept), base, (scaling.minimum, scaling.maximum)


def _with(values: tuple[Any, ...], own: Any) -> tuple[Any, ...]:
    return values if own in values or not own else (*values[:1], *sorted((*values[1:], own)))


def _per_second(values: Values) -> bool:
    row = metrics.ROWS.get(values.get("metric") or "")
    return row is not None and row.simulated == "rps"


def per_second(raw: Values, seconds: float) -> Values:
    """Return values whose threshold means the same pressure in the metric that they name.

    ``seconds`` is what a request takes: so many in flight are so many a second (Little's law).
    """
    if not _per_second(raw) or raw.get(THRESHOLD) is None:
        return tidy(raw)
    return tidy({**raw, THRESHOLD: float(f"{raw[THRESHOLD] / seconds:.3g}")})


def in_flight(values: Values, seconds: float) -> Values:
    """Return a spec's values as the knobs have them: ``per_second`` the other way round."""
    if not _per_second(values) or values.get(THRESHOLD) is None:
        return values
    return {**values, THRESHOLD: values[THRESHOLD] * seconds}


def tidy(values: Values) -> Values:
    """Return values without what changes nothing: what only a service that rests at zero, or one that moves at all, has."""
    minimum = values.get("minReplicas")
    idle: tuple[str, ...] = FROM_ZERO if minimum else ()
    if minimum is not None and minimum == values.get("maxReplicas"):
        idle = (*FROM_ZERO, *MOVING)
    return {name: None if name in idle else value for name, value in values.items()}


def fits(values: Values) -> bool:
    """Say whether the hard limit leaves the threshold as it is: Knative scales on the smaller of the two."""
    limit, threshold = values.get("concurrencyHardLimit"), values.get(THRESHOLD)
    return not limit or threshold is None or _per_second(values) or threshold <= limit


def finer(raw: Values, line: Knob) -> tuple[Knob, ...]:
    """Return knobs for what lies between the values that a search tried: thresholds, and how much of them to use."""
    now = raw[THRESHOLD]
    near = sorted({*line.values, now})
    index = near.index(now)
    low, high = near[max(index - 1, 0)], near[min(index + 1, len(near) - 1)]
    step = max((high - low) / 12, 1)
    between = {round(low + step * number) for number in range(math.ceil((high - low) / step) + 1)} | {now}
    threshold = Knob(THRESHOLD, tuple(sorted(value for value in between if low <= value <= high)))
    if "metricThresholdPercentage" not in raw:
        return (threshold,)
    return (threshold, Knob("metricThresholdPercentage", _with(SHARES, raw["metricThresholdPercentage"])))


# Which limit binds.

#: Seconds of start-up below which nothing gets.
SHORTEST: Final = 1.0
#: How much more than now is tried of a limit.
FURTHER: Final = 4


Limit = Literal["minReplicas", "maxReplicas", "start-up", "both", "server"]


@dataclass(frozen=True, slots=True)
class Relief:
    """One limit that, moved alone, lets the promise be kept; simulated, not guessed."""

    limit: Limit
    """both are minReplicas and maxReplicas."""
    now: float
    """Replicas, seconds of start-up, or the fraction of requests that are within the bound when they never wait."""
    needed: float
    """The least number of replicas, about the longest start-up, or the least fraction, with which the promise holds."""


def relieve(case: Case, values: Values, minimum: int, maximum: int) -> tuple[Relief, ...]:
    """Return which limits, moved alone, let the promise be kept from the nearest point on.

    Where none does, more replicas from the start, above maxReplicas as well, are tried. If not even they help, it is the
    server where requests that never wait take too long; else nothing is known, and the answer is empty.
    """

    def holds(changed: Mapping[str, Any], seconds: float | None = None) -> bool:
        start_up = None if seconds is None else StartUp(0.0, 0.0, seconds, 0.0, case.start_up.spread)
        wanted = tidy({**values, **changed})
        return case.valid(wanted) and case.measure(case.run(wanted, start_up)).holds

    def fewest(limit: Limit, now: int, low: int, high: int, *fields: str) -> list[Relief]:
        count = least(low, high, lambda count: holds(dict.fromkeys(fields, count)))
        return [] if count is None else [Relief(limit, now, count)]

    found = fewest("minReplicas", minimum, minimum + 1, maximum, "minReplicas")
    seconds = most(SHORTEST, case.start_up.seconds, lambda seconds: holds({}, seconds))
    if seconds is not None:
        found.append(Relief("start-up", case.start_up.seconds, seconds))
    above = maximum, maximum + 1, FURTHER * maximum
    found += fewest("maxReplicas", *above, "maxReplicas")
    found = found or fewest("both", *above, "minReplicas", "maxReplicas")
    if not found:
        slow = [(bound, case.alone_within(bound.limit)) for bound in case.bounds if bound.kind == "latency"]
        found += [Relief("server", share, bound.share) for bound, share in slow if share < bound.share]
    return tuple(found)


def least(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Return the least whole number from ``low`` to ``high`` for which ``holds``, taking it to hold above as well."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def most(low: float, high: float, holds: Callable[[float], bool], steps: int = 6) -> float | None:
    """Return about the greatest number from ``low`` to ``high`` for which ``holds``; None if not even for ``low``."""
    if low >= high or not holds(low):
        return None
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


# The whole.

#: The part of the replica-hours that a change must save.
NOTHING: Final = 0.01
#: What only the cluster can set must save more, since it changes every service.
CLUSTER_SAVES: Final = 0.03
#: Values that mean something together only.
TOGETHER: Final = ("metric", THRESHOLD, "metricThresholdPercentage")
#: The part of the evaluations that goes into the search itself; the rest refines its best and looks at the cluster.
MAIN: Final = 0.8


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search came to. Points are measured on the part of the traffic that was searched on."""

    found: Found
    own: Point
    """The spec as it is."""
    default: Point
    """Knative's defaults with the spec's bounds."""
    lowered: Point | None
    """The spec with the highest threshold that keeps the promise and nothing else changed."""
    chosen: Point | None
    """The cheapest that keeps the promise with what the spec can say, less the changes that save next to nothing."""
    cluster: Point | None
    """A cheaper one than the chosen, that also changes what only the cluster can set."""
    cluster_now: Mapping[str, float]
    """How the cluster is set."""
    reliefs: tuple[Relief, ...]
    """What would help where nothing keeps the promise."""
    rest: Mapping[str, Measured]
    """What the points come to on the rest of the traffic, by their name here; chosen is the search's best."""
    part: float
    """Seconds of the traffic that were searched on."""

    @property
    def front(self) -> list[Point]:
        """The points that no other beats, the cheapest first; the chosen one stands for the best."""
        best, chosen = self.found.best, self.chosen
        if chosen is None:
            return self.found.front
        return [
            chosen if point is best else point for point in self.found.front if point is not chosen or point is best
        ]


def tune(
    case: Case,
    knobs: tuple[Knob, ...],
    base: Values,
    bounds: tuple[int, int],
    *,
    part: float,
    evaluations: int = EVALUATIONS,
    progress: Callable[[Found], None] = lambda found: None,  # noqa: ARG005 - nobody looks
) -> Tuned:
    """Search for settings on the first ``part`` seconds of the traffic, and report what they do on the rest.

    ``base`` are the spec's own values and ``bounds`` its least and greatest number of replicas. Raises NotSimulated where
    the spec as it is cannot be simulated, ServerError where the server and the traffic do not go together.
    """
    whole = part >= case.traffic.seconds
    first = case if whole else case.until(part)
    seconds = first.service_seconds()
    own = Point(base, first.evaluate(base), in_flight(base, seconds))
    defaults = knative_defaults(first.setting(base))
    default = Point({}, first.measure(first.of(defaults)))
    line = {**base, "metric": base.get("metric") or REQUESTS[0]}

    def valid(values: Values) -> bool:
        return fits(values) and first.valid(values)

    def search(moved: tuple[Knob, ...], start: Values) -> Search:
        return Search(
            moved,
            first.evaluate,
            base=start,
            resolve=lambda values: per_second(values, seconds),
            valid=valid,
            seed=case.seed,
            progress=progress,
        )

    found = search(knobs, line).run(round(evaluations * MAIN))
    found.points.append(own)
    lowered: Point | None = None
    cluster: Point | None = None
    threshold = knobs[0]
    if not found.interrupted:
        alone = search((threshold,), line).run(len(threshold.values), PROMISE)
        lowered = alone.best
        found.add(alone)
    left = max(evaluations - found.evaluations, 2) // 2
    if not found.interrupted and found.best is not None and found.best.raw.get(THRESHOLD) is not None:
        found.add(search(finer(found.best.raw, threshold), found.best.raw).run(left, PROMISE))
    chosen = found.best
    if not found.interrupted and chosen is not None:
        chosen = simpler(found, first.evaluate, own, lowered, valid)
        if not found.interrupted:
            other = _beside(search, chosen, threshold, first.cluster(), left)
            found.interrupted = other.interrupted
            if other.best is not None and other.best.cost < chosen.cost * (1 - CLUSTER_SAVES):
                cluster = other.best
    reliefs: tuple[Relief, ...] = ()
    rest: dict[str, Measured] = {}
    try:
        if not found.interrupted and found.best is None and found.nearest is not None:
            reliefs = relieve(first, found.nearest.values, *bounds)
        if not found.interrupted and not whole:
            rest["default"] = _on_the_rest(case, first, defaults)
            points = {"own": own, "chosen": chosen, "lowered": lowered, "cluster": cluster}
            for name, point in points.items():
                if point is not None:
                    rest[name] = _on_the_rest(case, first, first.setting(point.values))
    except KeyboardInterrupt:
        found.interrupted, rest = True, {}
    return Tuned(
        found, own, default, lowered, chosen, cluster, first.cluster(), reliefs, rest, min(part, case.traffic.seconds)
    )


def simpler(
    found: Found,
    evaluate: Callable[[Values], Measured],
    own: Point,
    lowered: Point | None = None,
    valid: Callable[[Values], bool] = lambda values: True,  # noqa: ARG005 - any will do
) -> Point:
    """Return the best point of ``found`` without the changes of ``own`` that save less than ``NOTHING``.

    Of the points that cost so little more the one with the fewest changes is taken, and of those the safest.

    ``own`` is the spec as it is, and is taken where no change saves more; so is ``lowered`` after it, which changes the
    threshold only. What is evaluated on the way is added to ``found``.
    """
    best = found.best
    assert best is not None
    most = best.cost * (1 + NOTHING)
    if own.holds and own.cost <= most:
        return own
    if lowered is not None and lowered.cost <= most:
        return lowered
    try:
        for name in sorted(changes(best.values, own.values), key=lambda name: (name in TOGETHER, name)):
            names = TOGETHER if name in TOGETHER else (name,)
            before = {name: own.values.get(name) for name in names}
            if not changes(best.values, before) or (before.get(THRESHOLD) is None and THRESHOLD in before):
                continue
            values = tidy({**best.values, **before})
            if values == best.values or not valid(values):
                continue
            raw = {**best.raw, **{name: own.raw.get(name) for name in names}}
            point = Point(values, evaluate(values), raw)
            found.evaluations += 1
            found.points.append(point)
            if point.holds and point.cost <= most:
                best = point
    except KeyboardInterrupt:
        found.interrupted = True
    alike = [point for point in found.points if point.holds and point.cost <= most]
    return min(
        alike, key=lambda point: (len(changes(point.values, own.values)), point.measured.used, point is not best)
    )


def _beside(
    search: Callable[[tuple[Knob, ...], Values], Search],
    best: Point,
    threshold: Knob,
    cluster: Mapping[str, float],
    evaluations: int,
) -> Found:
    """Search beside the best for points that also change the cluster; ``cluster`` is how that is set now."""
    knobs = tuple(
        Knob(knob.name, tuple(sorted({*knob.values, cluster[knob.name]})), "cluster") for knob in CLUSTER_KNOBS
    )
    # A spec may have no threshold; then there is none beside it.
    near = finer(best.raw, threshold)[:1] if best.raw.get(THRESHOLD) is not None else ()
    return search((*near, *knobs), {**best.raw, **cluster}).run(evaluations, PROMISE)


def _on_the_rest(case: Case, first: Case, setting: Setting) -> Measured:
    return case.measure(after(case.of(setting), first.of(setting)))


def changes(values: Mapping[str, Any], before: Mapping[str, Any]) -> Values:
    """Return what differs from ``before``."""
    return {name: value for name, value in values.items() if before.get(name) != value}


def of_scaling(changes: Mapping[str, Any]) -> dict[Path, Any]:
    """Return changes of a spec's ``autoscaling`` by their paths in the document, as ``manifests.edit`` takes them."""
    return {("spec", "autoscaling", name): value for name, value in changes.items()}
