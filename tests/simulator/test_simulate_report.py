"""SLO bounds and reports: calculated values, the printed text, and the charts."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.report import WIDTH, ReportChart, ReportSpans, render_text
from ebbtide.simulator.data import SimulationResult, Timeline, TrafficTrace
from ebbtide.simulator.engine import report, slo
from ebbtide.simulator.engine.slo import SloBound

COUNT = 100


def make_result(latency: list[float], **changes: Any) -> SimulationResult:
    """Return a result of twenty ticks with one pod, and a second pod in the second half."""
    ticks = 20
    half = np.repeat(np.array([1, 2], np.int32), ticks // 2)
    values: dict[str, Any] = {
        "latency": np.array(latency),
        "wait": np.array(latency) / 2,
        "cold": np.zeros(len(latency), bool),
        "lost": np.zeros(len(latency), bool),
        "timeline": Timeline(
            np.arange(ticks, dtype=np.float64) * 2,
            half,
            half,
            np.zeros(ticks, np.int32),
            half.astype(np.float64) * 3,
            np.where(half == 1, 4.0, 0.0),
            ("stable",) * 15 + ("panic",) * 5,
        ),
        "replica_seconds": 60.0,
        "ready_seconds": 60.0,
        "busy_seconds": 45.0,
        "seconds": 40.0,
        "up_seconds": 40.0,
        "cold_starts": 0,
        **changes,
    }
    return SimulationResult(**values)


def measure_bound(result: SimulationResult, text: str) -> slo.BoundResult:
    (bound_result,) = slo.measure_result(result, slo.parse_bounds(text)).bound_results
    return bound_result


# SLO bounds


def test_bounds_are_parsed() -> None:
    assert slo.parse_bounds("p95=2s,mean=800ms,uptime=99.9,wait-p99=1s,p99.9=1m") == (
        SloBound("latency", 2.0, 0.95),
        SloBound("mean", 0.8),
        SloBound("uptime", 0.999),
        SloBound("wait", 1.0, 0.99),
        SloBound("latency", 60.0, 0.999),
    )


@pytest.mark.parametrize("text", ["p95=2s", "mean=800ms", "uptime=99.9", "wait-p99=1s", "p99.9=90s"])
def test_a_bound_has_the_name_of_its_text(text: str) -> None:
    assert slo.parse_bounds(text)[0].name == text


@pytest.mark.parametrize(
    "text", ["", "p95", "p95=2", "p0=2s", "p100=2s", "p95=0s", "uptime=0", "uptime=101", "uptime=a", "best=1s"]
)
def test_invalid_bounds(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        slo.parse_bounds(text)


def test_a_p95_is_met_with_exactly_95_of_100_within() -> None:
    edge = measure_bound(make_result([1.0] * 95 + [3.0] * 5), "p95=2s")
    below = measure_bound(make_result([1.0] * 94 + [3.0] * 6), "p95=2s")

    assert (edge.value, edge.used, edge.holds) == (0.95, 1.0, True)
    assert below.holds is False
    assert below.used == pytest.approx(1.2)


def test_a_request_at_the_bound_is_within() -> None:
    assert measure_bound(make_result([2.0] * COUNT), "p95=2s").value == 1.0


def test_cold_starts_count_and_a_lost_request_is_within_no_limit() -> None:
    lost = np.zeros(COUNT, bool)
    lost[:6] = True
    latency = [math.nan] * 6 + [1.0] * 94
    result = make_result(latency, lost=lost)
    measured = slo.measure_result(result, slo.parse_bounds("p95=2s,mean=2s"))

    assert [bound_result.holds for bound_result in measured.bound_results] == [False, True]
    assert (measured.lost, measured.mean, measured.p50) == (6, 1.0, 1.0)
    assert measured.p95 == math.inf


def test_a_percentile_is_the_lowest_time_that_covers_the_share() -> None:
    measured = slo.measure_result(make_result([float(number) for number in range(1, 101)]))

    assert (measured.p50, measured.p95, measured.p99) == (50.0, 95.0, 99.0)


def test_uptime_is_the_share_of_time() -> None:
    assert measure_bound(make_result([1.0], up_seconds=39.0), "uptime=97.5").holds
    assert not measure_bound(make_result([1.0], up_seconds=38.9), "uptime=97.5").holds
    assert measure_bound(make_result([1.0]), "uptime=100").used == 0.0
    assert measure_bound(make_result([1.0], up_seconds=39.0), "uptime=100").used == math.inf


def test_cost() -> None:
    measured = slo.measure_result(make_result([1.0]), gpus=0.25, gpu_hour=2.5)

    assert measured.replica_hours == pytest.approx(60 / 3600)
    assert measured.gpu_hours == pytest.approx(60 / 3600 / 4)
    assert measured.cost == pytest.approx(60 / 3600 / 4 * 2.5)
    assert measured.utilization == 0.75


def test_the_attainment_is_that_of_the_worst_percentile() -> None:
    assert slo.measure_result(make_result([1.0] * 90 + [3.0] * 10), slo.parse_bounds("p80=2s,p50=4s")).attainment == 0.9
    assert slo.measure_result(make_result([1.0] * 100), slo.parse_bounds("mean=500ms")).attainment == 0.5


def test_no_requests() -> None:
    measured = slo.measure_result(make_result([]), slo.parse_bounds("p95=2s"))

    assert (measured.requests, measured.p95, measured.holds) == (0, 0.0, True)


# Report


def reported() -> report.SimulationReport:
    current, other = make_result([1.0] * COUNT), make_result([3.0] * COUNT)
    bounds = slo.parse_bounds("p95=2s")
    traffic = TrafficTrace("day.csv", np.linspace(0.0, 38.0, COUNT), seconds=40.0)
    runs = (
        report.SimulationRun(
            "this spec", {"metricThreshold": 6}, current, slo.measure_result(current, bounds, 1.0, 2.0)
        ),
        report.SimulationRun("Knative's defaults", {}, other, slo.measure_result(other, bounds, 1.0, 2.0)),
    )
    return report.SimulationReport("chat", traffic, "fixed:1s", 45.0, 0, runs, ("the server is a guess",))


TEXT = """\
chat: 100 requests in 40 s from day.csv; server fixed:1s; pod startup 45 s; seed 0

  note: the server is a guess

                           this spec   Knative's defaults
  p95=2s                    100% met          0% VIOLATED
  mean response time             1 s                  3 s
  p50 response time              1 s                  3 s
  p95 response time              1 s                  3 s
  p99 response time              1 s                  3 s
  p95 wait time               500 ms                1.5 s
  p99 wait time               500 ms                1.5 s
  lost requests                    0                    0
  cold-start requests              0                    0
  cold starts                      0                    0
  uptime                        100%                 100%
  replica-hours                 0.02                 0.02
  pod time with requests         75%                  75%
  GPU-hours                     0.02                 0.02
  cost                          0.03                 0.03
"""


CAUSES = """\
Scaling decisions by cause, as a share of time
           this spec   Knative's defaults
  stable         75%                  75%
  panic          25%                  25%
"""


def test_the_text_report() -> None:
    text = render_text(report.make_content(reported()))

    assert text.startswith(TEXT)
    assert text.endswith(CAUSES)


def test_the_json_has_these_keys_and_no_other() -> None:
    data = json.loads(json.dumps(report.report_to_json(reported()), allow_nan=False))

    assert list(data) == ["workload", "traffic", "server", "startUpSeconds", "seed", "notes", "runs"]
    assert list(data["runs"][0]) == [
        "name", "settings", "requests", "lost", "metColdStart", "coldStarts", "latencySeconds",
        "firstTokenSeconds", "interTokenSeconds", "outputTokens", "waitSeconds", "uptime", "replicaHours", "readyHours",
        "utilisation", "gpuHours", "cost", "costPerMillionTokens", "slo", "spread", "boundBy", "timeline",
    ]  # fmt: skip
    assert data["runs"][0]["slo"] == {
        "holds": True,
        "bounds": [{"bound": "p95=2s", "value": 1.0, "used": 0.0, "holds": True}],
    }
    assert data["runs"][0]["boundBy"] == {"stable": 0.75, "panic": 0.25}
    assert {len(values) for values in data["runs"][0]["timeline"].values()} == {20}


def test_the_spread_over_the_phases_has_the_lowest_and_the_highest_value() -> None:
    bounds = slo.parse_bounds("p95=2s,mean=1500ms")
    phases = [slo.measure_result(make_result([1.0] * (COUNT - late) + [3.0] * late), bounds) for late in (4, 3, 6)]
    phases[1] = dataclasses.replace(phases[1], replica_hours=0.5)
    run = report.SimulationRun("this spec", {}, make_result([1.0] * COUNT), phases[0], tuple(phases))
    rows: dict[str, str] = {row[0]: row[1] for row in report.make_table_rows([run])}

    assert rows["p95=2s"] == "96% (94%..97%) met in 2 of 3"
    assert rows["mean=1.5s"] == "1.08 s (1.06 s..1.12 s) met"
    assert rows["p95 response time"] == "1 s (1 s..3 s)"
    assert rows["replica-hours"] == "0.02 (0.02..0.50)"
    assert "(" not in rows["p50 response time"]
    spread = report.report_to_json(dataclasses.replace(reported(), runs=(run,)))["runs"][0]["spread"]
    assert spread == {
        "simulations": 3,
        "replicaHours": {"low": 0.016667, "high": 0.5},
        "p95Seconds": {"low": 1.0, "high": 3.0},
        "bounds": [
            {"bound": "p95=2s", "low": 0.94, "high": 0.97},
            {"bound": "mean=1.5s", "low": 1.06, "high": 1.12},
        ],
    }
    outside = report.SimulationRun("this spec", {}, make_result([1.0] * COUNT), phases[2], tuple(phases))
    assert report.make_table_rows([outside])[0][1] == "94% (94%..97%) VIOLATED in 1 of 3"


def test_an_infinite_value_is_null_in_json() -> None:
    lost = make_result([math.nan], lost=np.array([True]))

    assert serialize_body(slo.measure_result(lost))["latencySeconds"]["p95"] is None


def test_the_charts_of_a_report() -> None:
    content = report.make_content(reported())

    charts = [section for section in content.sections if isinstance(section, ReportChart)]
    assert [chart.title for chart in charts] == [
        "Requests per second",
        "Ready replicas",
        "Queued requests",
        "Response time, 95th percentile",
    ]
    assert {len(curve.values) % WIDTH for chart in charts[:3] for curve in chart.curves} == {0}
    (spans,) = (section.spans for section in content.sections if isinstance(section, ReportSpans))
    assert spans == [(0.0, 30.0, "stable"), (30.0, 40.0, "panic")]
