"""Settings that would have kept a service's SLO in one hour of its recorded requests, the nearest first.

Every setting is simulated with the requests of that hour and of a while before it, by the engine of ``ebbtide simulate``, and
judged as each other proposal (``search/judge.py``). Each setting is one change alone: its smallest value that passes the judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from ebbtide.core.base import metrics
from ebbtide.core.base.bodies import body
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.units import format_duration
from ebbtide.simulator.data import StartUp
from ebbtide.simulator.engine.case import Case
from ebbtide.simulator.fleet.savings import describe_fields
from ebbtide.simulator.search import tune
from ebbtide.simulator.search.judge import MINIMUM, Change, Evidence, Verdict, judge
from ebbtide.simulator.search.request import PreparedCase, SimulationRequest, list_samples, prepare_case, raise_refusals
from ebbtide.simulator.traffic.servers import parse_server

#: The part of the record that is judged.
HOUR: Final = "that hour"
#: Seconds of requests before the hour, so that it begins with the replicas of that time.
LEAD_SECONDS: Final = 1800.0
MAXIMUM: Final = "maxReplicas"
#: Replicas above the current maximum that are tried, and the shares of the start-up time.
MORE_REPLICAS: Final = 16
SHORTER: Final = (0.75, 0.5, 0.25, 0.1)
#: Requests at a time that a fitted server may serve.
SLOTS: Final = (32, 16, 12, 8, 6, 4, 3, 2, 1)
HOUR_SECONDS: Final = 3600.0
MONTH_SECONDS: Final = 30 * 86_400.0
#: Shortest record, in seconds, that says something about 30 days.
DAY_SECONDS: Final = 86_400.0


@body()
class Remedy:
    """A change that alone would have kept the SLO. ``fields`` are those of ``spec.autoscaling``; empty for a start-up time."""

    text: str
    fields: dict[str, Any]
    start_up_seconds: float | None
    distance: float
    """Ratio of the new value to the current one, at least 1; the nearest change has the smallest."""
    hours: float
    """GPU-hours, core-hours or replica-hours more than with the current setting, on the whole record."""
    cost_per_30_days: float | None
    """Money more; null without a price, or from less than a day of requests."""
    verdict: Verdict


@body()
class Remedies:
    """The changes, the nearest first, and how the current setting does in the same replay."""

    used: float
    """Largest share of the SLO's allowance that the current setting uses in that hour: above 1, it violates the SLO."""
    unit: str
    """GPU, core or replica: what the hours count."""
    server: str
    start_up_seconds: float
    changes: tuple[Remedy, ...]
    record_seconds: float
    notes: tuple[str, ...]


class RecordedHour(NamedTuple):
    """The hour to replay: its start in the time of the log, the price of a GPU-hour or core-hour, and what was measured in it."""

    start: float
    price: float | None = None
    #: Mean response time in seconds, to which the fitted server's number of requests at a time is adjusted; None keeps it.
    mean: float | None = None


class _Candidate(NamedTuple):
    values: tune.Values
    start_up: StartUp | None
    distance: float


def find_remedies(request: SimulationRequest, loaded: LoadedDocument, profile: Profile, hour: RecordedHour) -> Remedies:
    """Search changes for an hour of a request's log. Raises SimulationRequestError."""
    prepared = prepare_case(request, loaded, profile, "tune")
    whole, server, price = list_samples(prepared), prepared.server, hour.price
    begin = hour.start - whole[0].traffic.start
    lead = min(LEAD_SECONDS, max(begin, 0.0))
    hours = [case.cut(begin - lead, begin + HOUR_SECONDS) for case in whole]
    edges = (lead, lead + HOUR_SECONDS + 1.0)
    if hour.mean is not None:
        with raise_refusals(prepared):
            server = _fit_server(hours[0], edges, server, hour.mean)
        whole, hours = ([replace(case, server=parse_server(server)) for case in cases] for cases in (whole, hours))
    units = (
        ("GPU", whole[0].gpus),
        ("core", prepared.plan.spec.compute.cpu_core_request or 0.0),
        ("replica", 1.0),
    )
    unit, size = next(pair for pair in units if pair[1])
    scaling, start_up = prepared.plan.scaling, whole[0].start_up

    def measure(values: tune.Values, other: StartUp | None = None) -> list[float]:
        return [case.measure_use(case.run(values, other), edges)[0] for case in hours]

    with raise_refusals(prepared):
        current = measure({})
        now = {
            MINIMUM: scaling.minimum,
            MAXIMUM: scaling.maximum,
            tune.THRESHOLD: scaling.threshold,
            **prepared.autoscaling,
        }
        empty = hours[0].list_empty([HOUR], edges)

        def decide(candidate: _Candidate) -> Verdict:
            used = {HOUR: measure(candidate.values, candidate.start_up)}
            return judge(Change(candidate.values, now), Evidence({HOUR: current}, used, empty), request.spare)

        def passes(ladder: Sequence[_Candidate], place: int) -> bool:
            return decide(ladder[place]).passes

        def describe(candidate: _Candidate) -> Remedy:
            seconds = None if candidate.start_up is None else candidate.start_up.seconds
            if seconds is None:
                text = describe_fields(candidate.values, now)
            else:
                text = f"start-up time {format_duration(start_up.seconds)} -> {format_duration(seconds)}"
            more = (whole[0].run(candidate.values, candidate.start_up).replica_seconds - before) / HOUR_SECONDS * size
            length = whole[0].traffic.seconds
            money = None if price is None or length < DAY_SECONDS else round(more * price * MONTH_SECONDS / length, 2)
            verdict = decide(candidate)
            return Remedy(
                text, dict(candidate.values), seconds, round(candidate.distance, 6), round(more, 6), money, verdict
            )

        found = []
        if max(current) > 1 and whole[0].bounds and not empty:
            before = whole[0].run({}).replica_seconds
            for ladder in _list_ladders(prepared):
                place = tune.find_lowest(0, len(ladder) - 1, partial(passes, ladder))
                if place is not None:
                    found.append(describe(ladder[place]))
        return Remedies(
            round(max(current), 6),
            unit,
            server,
            start_up.seconds,
            tuple(sorted(found, key=lambda row: (row.distance, row.hours))),
            whole[0].traffic.seconds,
            prepared.notes,
        )


def _list_ladders(prepared: PreparedCase) -> Iterator[list[_Candidate]]:
    """Yield the values of each setting to try, the nearest first."""
    scaling, block, case = prepared.plan.scaling, prepared.autoscaling, prepared.case

    def change(changed: tune.Values) -> tune.Values | None:
        values = {**block, **changed}
        choices = (tune.diff_values(each, block) for each in (values, tune.drop_idle_fields(values)))
        return next((each for each in choices if tune.fits_hard_limit(values) and case.is_renderable(each)), None)

    low, high, now = scaling.minimum, scaling.maximum, scaling.threshold or 0.0
    row = None if scaling.metric is None else metrics.ROWS.get(scaling.metric.name)
    lower = [] if row is None else sorted((value for value in row.thresholds if value < now), reverse=True)
    more = range(high + 1, high + MORE_REPLICAS + 1)
    counts = range(low + 1, high + 1) if low < high else more
    for ladder in (
        [({MINIMUM: count, **({MAXIMUM: count} if low == high else {})}, (count + 1) / (low + 1)) for count in counts],
        [({MAXIMUM: count}, (count + 1) / (high + 1)) for count in more],
        [({tune.THRESHOLD: value}, now / value) for value in lower],
    ):
        changed = ((change(values), distance) for values, distance in ladder)
        yield [_Candidate(values, None, distance) for values, distance in changed if values is not None]
    yield [_Candidate({}, _shorten(case.start_up, share), 1 / share) for share in SHORTER]


def _fit_server(case: Case, edges: tuple[float, float], server: str, mean: float) -> str:
    """Return the fitted server with the number of requests at a time whose replay has the measured mean response time.

    Response times alone do not say how many requests a replica serves at a time; the time that they wait in a busy hour does.
    """
    first, last = np.searchsorted(case.traffic.times, edges)

    before = math.inf, server
    for count in SLOTS:
        text = f"{server.rpartition('=')[0]}={count}"
        latency = replace(case, server=parse_server(text)).run({}).latency[first:last]
        answered = latency[~np.isnan(latency)]
        replayed = float(answered.mean()) if len(answered) else math.inf
        # With fewer at a time, requests only wait longer, until some are lost.
        if replayed >= mean:
            return min(before, (math.log(replayed / mean), text))[1]
        before = math.log(mean / replayed), text
    return before[1]


def _shorten(start: StartUp, share: float) -> StartUp:
    """Return a start-up whose phases take a share of their time."""
    return replace(
        start, **{each.name: getattr(start, each.name) * share for each in fields(start) if each.name != "spread"}
    )
