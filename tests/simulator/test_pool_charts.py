"""The charts of a planned pool: areas that are GPU-hours, and spans for evictions and violated minutes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_fleet import make_planner, make_random_fleet, make_service

from ebbtide.core.report import ReportChart, ReportSpans
from ebbtide.simulator.fleet.fleet import FleetRun, FleetService, record_service
from ebbtide.simulator.fleet.planner import Fleet, FleetPlanner
from ebbtide.simulator.fleet.pool import UNITS, GpuDemand, PoolSize
from ebbtide.simulator.fleet.pool_charts import NAMED, SPANS, list_pool_charts

#: Largest difference of a sum of means, in seconds of a GPU.
ROUNDING = 1e-6


def plan(service: FleetService, training: GpuDemand | None, count: int) -> FleetPlanner:
    recording = record_service(service)
    fleet = Fleet((service,), (PoolSize("default", 1, 1),), {}, training, count, {}, 0.0, service.case.traffic.seconds)
    return FleetPlanner(fleet, [recording])


def list_areas(chart: ReportChart, seconds: float) -> dict[str, float]:
    """Return the GPU-seconds of each area by its name."""
    areas = (curve for curve in chart.curves if not curve.dashed)
    return {curve.name.partition(" (")[0]: math.fsum(filter(None, curve.values)) * seconds / SPANS for curve in areas}


def count_marks(spans: ReportSpans, name: str) -> int:
    return sum(mark == name for _, _, mark in spans.spans)


def test_the_areas_are_the_gpu_hours_of_the_run() -> None:
    for seed in range(8):
        recordings, training, count = make_random_fleet(seed)
        planner = make_planner(recordings, training, count)
        for gpus in (1, planner.find_largest_useful()):
            run: FleetRun = planner.run(gpus)
            chart, marks = list_pool_charts(planner, gpus)
            end = planner.fleet.seconds
            edges = np.append(run.usage[:, 0] / 1e9, end).clip(0, end)
            held = float((run.usage[:, 2] * np.diff(edges)).sum())
            assert run.service_seconds == pytest.approx(held, abs=ROUNDING)
            areas = list_areas(chart, end)
            assert areas.pop("training", 0.0) == pytest.approx(run.training_seconds, abs=ROUNDING)
            assert math.fsum(areas.values()) == pytest.approx(held, abs=ROUNDING)
            stacked = [curve.values for curve in chart.curves if not curve.dashed]
            assert max(math.fsum(filter(None, values)) for values in zip(*stacked, strict=True)) <= gpus + ROUNDING
            assert count_marks(marks, "eviction") == run.training_evictions + sum(run.evictions)
            # A service without a violated minute meets a bound on the share of late requests.
            assert count_marks(marks, "violated minute") or all(measured.holds for measured in run.measured)


def test_evictions_and_violated_minutes_have_spans_at_their_time() -> None:
    service = make_service("chat", low=0, high=1, traffic="steps:0rps,2m,1rps,2m")
    planner = plan(service, GpuDemand(("default",), 1, UNITS, 50, is_preemptible=True), 1)
    chart, marks = list_pool_charts(planner, 1)

    (eviction,) = (begin for begin, _, name in marks.spans if name == "eviction")
    assert 120.0 <= eviction < 125.0
    violated = [(begin, end) for begin, end, name in marks.spans if name == "violated minute"]
    assert violated in ([(120.0, 180.0)], [(180.0, 240.0)], [(120.0, 180.0), (180.0, 240.0)])
    assert list(list_areas(chart, 240.0)) == ["training", "chat"]
    assert [curve.name for curve in chart.curves if curve.dashed] == ["pool of 1", f"lower bound of {planner.bound}"]


def test_services_beyond_the_colors_share_a_band() -> None:
    service = make_service("chat", low=1, high=1, traffic="constant:0.2rps,1m")
    recording = record_service(service)
    count = NAMED + 2
    fleet = Fleet((service,) * count, (PoolSize("default", count, 1),), {}, None, 0, {}, 0.0, 60.0)
    chart, _ = list_pool_charts(FleetPlanner(fleet, [recording] * count), count)

    areas = [curve for curve in chart.curves if not curve.dashed]
    assert [curve.name.partition(" (")[0] for curve in areas] == ["chat"] * NAMED + ["2 other services"]
    assert [curve.color for curve in areas] == [*range(NAMED + 1)]
