"""Costs of a service's settings on its recorded requests, and cheaper values that keep its SLO.

Every number is a simulation by the engine of ``ebbtide simulate``. Counters state how many requests arrived in an interval, not
when. Each setting is therefore simulated once for each seed, which places the requests differently within the intervals: a
result is the value with the first seed, with the lowest and the highest of all seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ebbtide.core.base import metrics
from ebbtide.core.base.bodies import body
from ebbtide.core.base.prose import count_noun
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.units import format_duration
from ebbtide.simulator.data import SimulationResult, StartUp
from ebbtide.simulator.engine.case import HALVES, Case
from ebbtide.simulator.engine.slo import SimulationMeasurements
from ebbtide.simulator.fleet.planner import shorten_start
from ebbtide.simulator.search import tune
from ebbtide.simulator.search.judge import MINIMUM, Change, Evidence, Use, Verdict, judge
from ebbtide.simulator.search.request import PreparedCase, SimulationRequest, list_samples, prepare_case, raise_refusals

#: Bounds whose requests outside the limit are late, and the seconds of waiting that count without such a bound.
LATE_KINDS: Final = ("latency", "wait", "ttft")
LATE_SECONDS: Final = 1.0
DELAY: Final = "scaleDownDelaySeconds"
#: Largest multiple of the current threshold that is proposed: a quiet record keeps the SLO with any, and then nothing scales up in a busy one.
HIGHEST_RAISE: Final = 2
#: Hours below this are shown as 0.
HIDDEN_HOURS: Final = 0.005
VIOLATED: Final = "the current setting violates the SLO in the replay"
DAY_SECONDS: Final = 86_400.0
#: Days at the end of the record that violate the SLO, from which a minimum no longer keeps it.
MIN_DAYS: Final = 2


@body()
class SimulatedRange:
    """A result with the first seed, and the lowest and the highest of all seeds."""

    value: float
    low: float
    high: float


@body()
class SettingUse:
    """The use of one setting. ``hours`` are GPU-hours, core-hours or replica-hours; ``meetsSlo`` is null without an SLO."""

    hours: SimulatedRange
    late: SimulatedRange
    meets_slo: bool | None


@body()
class SettingCost:
    """One part of the current setting, compared with another value. Negative numbers mean that the current value saves."""

    part: str
    value: str
    #: None if the part has no effect on these requests.
    other: str | None
    #: Hours that the current value costs more than the other one, and late requests that it avoids.
    hours: SimulatedRange
    late_avoided: SimulatedRange
    #: Cheapest value that passes the judge; None if the current one is the cheapest.
    enough: str | None
    #: The numbers as a sentence.
    text: str


@body()
class SettingChange:
    """A change of ``spec.autoscaling`` that passes the judge. A field that is null is removed."""

    text: str
    fields: dict[str, Any]
    use: SettingUse
    hours_saved: SimulatedRange
    verdict: Verdict


@body()
class ServiceReplay:
    """The recorded requests of a service, replayed with its own setting and with others."""

    unit: str
    """GPU, core or replica: what the hours count."""
    units_per_replica: float
    requests: int
    replica_hours: float
    late_means: str
    server: str
    start_up: str
    current: SettingUse
    settings: tuple[SettingCost, ...]
    change: SettingChange | None
    notes: tuple[str, ...]

    def format_hours(self, hours: SimulatedRange) -> str:
        """Return hours with what they count: ``4.69 (4.69 to 4.83) GPU-hours``."""
        return f"{format_range(hours)} {self.unit}-hours"


def replay_service(
    request: SimulationRequest, loaded: LoadedDocument, profile: Profile, *, is_fitted: bool = True
) -> ServiceReplay:
    """Replay the log of a request. Raises SimulationRequestError if the service cannot be simulated.

    ``is_fitted`` means that the server was fitted to response times: it knows nothing about more requests at a time, so no
    higher threshold is proposed.
    """
    prepared = prepare_case(request, loaded, profile, "tune")
    with raise_refusals(prepared):
        return _Replayer(prepared, list_samples(prepared), is_fitted=is_fitted).replay()


class _Runs(NamedTuple):
    """The hours, the late requests and the verdicts of a setting by seed."""

    hours: tuple[float, ...]
    late: tuple[int, ...]
    holds: bool
    peak: int
    """Largest number of replicas that the autoscaler requested."""
    use: Use


def _range(values: Sequence[float]) -> SimulatedRange:
    return SimulatedRange(*(round(value, 6) for value in (values[0], min(values), max(values))))


def _subtract(first: Sequence[float], second: Sequence[float]) -> SimulatedRange:
    return _range([a - b for a, b in zip(first, second, strict=True)])


def count_late(result: SimulationResult, measured: SimulationMeasurements) -> int:
    """Return the number of late requests; a lost one is late, too."""
    shares = [row.value for row in measured.bound_results if row.bound.kind in LATE_KINDS]
    if shares:
        return round((1 - min(shares)) * measured.requests)
    return int((result.lost | (result.wait > LATE_SECONDS)).sum())


class _Replayer:
    """The simulations of one service, each made once."""

    def __init__(self, prepared: PreparedCase, cases: Sequence[Case], *, is_fitted: bool) -> None:
        """Measure the hours in GPUs, else in cores, else in replicas."""
        self.is_fitted = is_fitted
        self.proposals: list[tune.Values] = []
        self.prepared, self.plan, self.cases = prepared, prepared.plan, cases
        self.empty = cases[0].list_empty(HALVES, cases[0].halves)
        self.block = self.prepared.autoscaling
        cores = self.plan.spec.compute.cpu_core_request
        units = (("GPU", self.cases[0].gpus), ("core", cores or 0.0), ("replica", 1.0))
        self.unit, self.size = next(pair for pair in units if pair[1])
        self._results: dict[str, tuple[SimulationMeasurements, int, int, list[float]]] = {}
        self.current = self.run({})

    def replay(self) -> ServiceReplay:
        parts = (
            self._compare_minimum,
            self._compare_maximum,
            self._compare_threshold,
            self._compare_delay,
            self._compare_start,
        )
        settings = [cost for part in parts if (cost := part()) is not None]
        measured = self._simulate({}, 0, None)[0]
        return ServiceReplay(
            self.unit,
            self.size,
            measured.requests,
            round(measured.replica_hours, 6),
            self.late_means,
            self.prepared.server,
            format_duration(self.cases[0].start_up.seconds),
            self._describe_use(self.current),
            tuple(settings),
            self._choose_change(),
            (*self.prepared.notes, *filter(None, [self._find_decline(), self._find_remedy()])),
        )

    @property
    def late_means(self) -> str:
        bounds = [bound.name for bound in self.cases[0].bounds if bound.kind in LATE_KINDS]
        return (
            f"outside {' or '.join(bounds)}"
            if bounds
            else f"lost, or waited more than {LATE_SECONDS:g} s for a replica"
        )

    def _simulate(
        self, values: tune.Values, index: int, start_up: StartUp | None
    ) -> tuple[SimulationMeasurements, int, int, list[float]]:
        """Return the measurements with a seed, the late requests, the largest requested number of replicas, and the use by half."""
        key = repr((sorted(values.items()), index, start_up))
        if key not in self._results:
            case = self.cases[index]
            result = case.run(values, start_up)
            measured = case.measure(result)
            # The arrays of a long log are large, so only what is compared is kept.
            used = [*case.measure_halves(result).values()]
            peak = int(result.timeline.desired.max(initial=0))
            self._results[key] = measured, count_late(result, measured), peak, used
        return self._results[key]

    def run(self, values: tune.Values, start_up: StartUp | None = None) -> _Runs:
        """Simulate changed fields of the autoscaling with every seed."""
        rows = [self._simulate(values, index, start_up) for index in range(len(self.cases))]
        return _Runs(
            tuple(measured.replica_hours * self.size for measured, *_ in rows),
            tuple(late for _, late, _, _ in rows),
            all(measured.holds for measured, *_ in rows),
            max(peak for _, _, peak, _ in rows),
            dict(zip(HALVES, zip(*(used for *_, used in rows), strict=True), strict=True)),
        )

    def _judge(self, values: tune.Values) -> Verdict:
        evidence = Evidence(self.current.use, self.run(values).use, self.empty)
        return judge(Change(values, self._read_current()), evidence, self.prepared.request.spare)

    def _describe_use(self, runs: _Runs) -> SettingUse:
        return SettingUse(_range(runs.hours), _range(runs.late), runs.holds if self.cases[0].bounds else None)

    def _change_fields(self, field: str, value: Any) -> tune.Values | None:
        """Return the changes of the autoscaling for a new value of a field; None if the spec is invalid with them."""
        values = tune.drop_idle_fields({**self.block, field: value})
        if not tune.fits_hard_limit(values) or not self.cases[0].is_renderable(values):
            return None
        changes = tune.diff_values(values, self.block)
        return changes if field in changes else None

    def _find_enough(self, candidates: Sequence[tune.Values]) -> tune.Values | None:
        """Propose and return the cheapest of some changes that passes the judge; the cheapest come first."""
        if not self.cases[0].bounds:
            return None
        index = tune.find_lowest(0, len(candidates) - 1, lambda place: self._judge(candidates[place]).passes)
        if index is None:
            return None
        self.proposals.append(candidates[index])
        return candidates[index]

    def _compare(
        self, part: str, value: str, other: str, runs: _Runs, enough: str | None = None, verdict: str | None = None
    ) -> SettingCost:
        hours, late = _subtract(self.current.hours, runs.hours), _subtract(runs.late, self.current.late)
        text = f"{part} {value} {self._describe_difference(hours, late)} compared with {other}"
        if verdict is None:
            verdict = self._describe_loss(runs, other)
        if enough is not None:
            verdict = "this would have kept the SLO" if enough == other else f"{enough} would have kept the SLO"
        return SettingCost(part, value, other, hours, late, enough, f"{text}{f'; {verdict}' * bool(verdict)}")

    def _describe_difference(self, hours: SimulatedRange, late: SimulatedRange) -> str:
        used = f"{'saved' if hours.value <= -HIDDEN_HOURS else 'cost'} {format_range(hours)} {self.unit}-hours"
        if not late.low and not late.high:
            return f"{used} and changed no late request"
        verb = "saved" if late.value >= 0 else "cost"
        noun = "late request" if abs(late.value) == 1 and late.low == late.high else "late requests"
        return f"{used} and {verb} {format_range(late)} {noun}"

    def _describe_loss(self, runs: _Runs, other: str) -> str:
        if not self.cases[0].bounds:
            return "without an SLO, no change is proposed"
        return f"{other} would have violated the SLO" if self.current.holds and not runs.holds else ""

    def _compare_minimum(self) -> SettingCost | None:
        minimum = self.plan.scaling.minimum
        lower = {count: self._change_fields(MINIMUM, count) for count in range(minimum)}
        valid = {count: values for count, values in lower.items() if values is not None}
        if not valid:
            return None
        enough = self._find_enough([*valid.values()])
        lowest = min(valid)
        kept = None if enough is None else str(enough[MINIMUM])
        return self._compare("minimum", str(minimum), str(lowest), self.run(valid[lowest]), kept)

    def _compare_maximum(self) -> SettingCost | None:
        maximum = self.plan.scaling.maximum
        if maximum == self.plan.scaling.minimum:
            return None
        if self.current.peak < maximum:
            text = f"maximum {maximum} cost nothing: the autoscaler requested at most {count_noun(self.current.peak, 'replica')}"
            return SettingCost("maximum", str(maximum), None, _range([0.0]), _range([0.0]), None, text)
        values = self._change_fields("maxReplicas", 2 * maximum)
        return (
            None
            if values is None
            else self._compare("maximum", str(maximum), str(2 * maximum), self.run(values), verdict="")
        )

    def _compare_threshold(self) -> SettingCost | None:
        scaling = self.plan.scaling
        row = None if scaling.metric is None else metrics.ROWS.get(scaling.metric.name)
        # A fitted server knows nothing about more requests at a time.
        if row is None or scaling.threshold is None or self.is_fitted:
            return None
        highest = scaling.threshold * HIGHEST_RAISE
        higher = [value for value in sorted(row.thresholds) if scaling.threshold < value <= highest]
        changes = [
            (value, values) for value in higher if (values := self._change_fields(tune.THRESHOLD, value)) is not None
        ]
        if not changes:
            return None
        enough = self._find_enough([values for _, values in reversed(changes)])
        value, values = changes[0] if enough is None else (enough[tune.THRESHOLD], enough)
        kept = None if enough is None else f"{value:g}"
        return self._compare("threshold", f"{scaling.threshold:g}", f"{value:g}", self.run(values), kept)

    def _compare_delay(self) -> SettingCost | None:
        delay = self.block.get(DELAY)
        if not delay:
            return None
        shorter = [value for value in tune.DELAYS if value is None or value < delay]
        changes = [values for value in shorter if (values := self._change_fields(DELAY, value)) is not None]
        if not changes:
            return None
        enough = self._find_enough(changes)
        kept = None if enough is None else format_duration(enough[DELAY] or 0)
        return self._compare("scale-down delay", format_duration(delay), "0 s", self.run(changes[0]), kept)

    def _compare_start(self) -> SettingCost | None:
        """Compare the start-up with a cache of the model; None if it changes nothing."""
        now = self.cases[0].start_up
        shorter = shorten_start(now)
        runs = self.run({}, shorter)
        hours, late = _subtract(self.current.hours, runs.hours), _subtract(runs.late, self.current.late)
        if abs(hours.value) < HIDDEN_HOURS and not late.value:
            return None
        return self._compare(
            "start-up",
            format_duration(now.seconds),
            f"{format_duration(shorter.seconds)} (model cache)",
            runs,
            verdict="",
        )

    def _find_decline(self) -> str:
        """Return since which day the minimum no longer keeps the SLO: each day since then violates it, and an earlier one did not."""
        case, minimum = self.cases[0], self.plan.scaling.minimum
        start, end = case.traffic.start, case.traffic.start + case.traffic.seconds
        days = range(int(start // DAY_SECONDS), int(end // DAY_SECONDS) + 2)
        used = case.measure_use(case.run({}), [day * DAY_SECONDS - start for day in days])
        kept = [number for number, share in enumerate(used) if share <= 1]
        if not kept or len(used) - 1 - kept[-1] < MIN_DAYS:
            return ""
        date = datetime.fromtimestamp(days[kept[-1] + 1] * DAY_SECONDS, UTC).date()
        return (
            f"minReplicas {minimum} no longer keeps the SLO since {date}: each day since then violates it in the replay"
        )

    def _find_remedy(self) -> str:
        """Return what brings a service inside its SLO that is outside; empty for another one."""
        scaling = self.plan.scaling
        if self.current.holds:
            return ""
        if self.empty:
            return f"{VIOLATED}; {' and '.join(self.empty)} of the record has no requests, so no minimum can be judged"
        higher = [self._change_fields(MINIMUM, count) for count in range(scaling.minimum + 1, scaling.maximum + 1)]
        valid = [values for values in higher if values is not None]
        index = tune.find_lowest(0, len(valid) - 1, lambda place: self._judge(valid[place]).passes)
        if index is None:
            return f"{VIOLATED}, and no minimum up to maxReplicas {scaling.maximum} would leave the margin: run ebbtide tune"
        hours = format_range(_subtract(self.run(valid[index]).hours, self.current.hours))
        return f"{VIOLATED}: minReplicas {valid[index][MINIMUM]} would leave the margin, for {hours} more {self.unit}-hours"

    def _choose_change(self) -> SettingChange | None:
        """Return the proposals together, or the better one alone if they do not pass the judge together."""
        joined = {name: value for values in self.proposals for name, value in values.items()}
        choices = [joined, *self.proposals] if len(self.proposals) > 1 and self._is_valid(joined) else self.proposals
        tried = [(self.run(values), values, self._judge(values)) for values in choices]
        kept = [(runs, values, verdict) for runs, values, verdict in tried if verdict.passes]
        if not kept:
            return None
        runs, values, verdict = min(kept, key=lambda row: row[0].hours[0])
        saved = _subtract(self.current.hours, runs.hours)
        if saved.low <= 0:
            return None
        text = describe_fields(values, self._read_current())
        return SettingChange(text, values, self._describe_use(runs), saved, verdict)

    def _is_valid(self, values: tune.Values) -> bool:
        merged = {**self.block, **values}
        return tune.fits_hard_limit(merged) and self.cases[0].is_renderable(merged)

    def _read_current(self) -> Mapping[str, Any]:
        scaling = self.plan.scaling
        return {MINIMUM: scaling.minimum, tune.THRESHOLD: scaling.threshold, **self.block}


def describe_fields(fields: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Return changed fields as text: ``minReplicas 2 -> 1``."""
    return ", ".join(
        f"{name} {current.get(name)} -> {'unset' if value is None else value}" for name, value in fields.items()
    )


def format_range(value: SimulatedRange) -> str:
    """Return a result without its sign, and the lowest and the highest of all seeds if they differ: ``12 (10 to 14)``."""
    sign = -1 if value.value < 0 else 1
    middle, low, high = (format_count(sign * number) for number in (value.value, value.low, value.high))
    if sign < 0:
        low, high = high, low
    return middle if low == high == middle else f"{middle} ({low} to {high})"


def format_count(value: float) -> str:
    """Return hours or requests with three digits, all digits of a large whole part, and 0 for what is too small to show."""
    if abs(value) < HIDDEN_HOURS:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"  # noqa: PLR2004 - three digits
