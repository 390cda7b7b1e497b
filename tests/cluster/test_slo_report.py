"""SLO reports: numbers that were calculated manually, and laws that hold for any sample."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.cluster.slo import pages, report
from ebbtide.cluster.slo.report import ValueInterval
from ebbtide.cluster.slo.source import Bucket, Ref, WorkloadMeasurements, WorkloadSlo
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.report import render_text
from ebbtide.core.spec.serving import Slo

CHAT = Ref("team-shop", "chat")
WEEK = 7 * 86_400.0
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 10.0, math.inf)


def counts(*cumulative: float) -> tuple[Bucket, ...]:
    return tuple(Bucket(bound, count) for bound, count in zip(BOUNDS, cumulative, strict=True))


def measured(**fields: Any) -> WorkloadMeasurements:
    """Return a week with 1,000 requests of 300 s in total: 900 up to 250 ms, 960 up to 500 ms, all up to 2.5 s."""
    values: dict[str, Any] = {
        "place": "gateway",
        "requests": 1000.0,
        "total_seconds": 300.0,
        "buckets": counts(400, 900, 960, 990, 1000, 1000, 1000),
        "minutes_asked": 500.0,
        "minutes_answered": 499.0,
        "seconds_known": WEEK,
        "seconds_up": WEEK * 0.99,
        "seconds_at_rest": WEEK / 2,
        "replica_seconds": 36_000.0,
        "cold_starts": 10.0,
    }
    return WorkloadMeasurements(CHAT, 0.0, WEEK, **{**values, **fields})


def promise(**fields: float) -> Slo:
    return Slo.model_validate(fields)


def test_a_report_matches_manual_calculations() -> None:
    slo = promise(meanLatencyMilliseconds=300, p95LatencyMilliseconds=500, uptimePercent=99.9)
    slo_report = report.compute_report({CHAT: measured()}, {CHAT: WorkloadSlo(CHAT, "shop", slo, 0.25)}, 2.0)
    (row,) = slo_report.rows

    assert row.mean == ValueInterval(0.3, 0.3)
    # The 500th of 1,000 requests is in the bucket of 250 ms, the 950th in that of 500 ms, the 990th in that of 1 s.
    assert row.quantiles == {
        "p50": ValueInterval(0.1, 0.25),
        "p95": ValueInterval(0.25, 0.5),
        "p99": ValueInterval(0.5, 1.0),
    }
    assert row.rate == pytest.approx(1000 / WEEK)
    assert row.concurrency == pytest.approx(300 / WEEK)
    assert row.errors == 0.0
    assert row.answered == 0.998
    assert row.ready == pytest.approx(0.99)
    assert row.rest == 0.5
    assert row.cold == 0.01
    # 10 replica-hours with a quarter of a GPU, at a cost of 2.
    assert (row.replica_hours, row.gpu_hours, row.cost) == (10.0, 2.5, 5.0)
    mean, p95, uptime = row.verdicts
    assert (mean.outcome, mean.reached, mean.used) == ("kept", ValueInterval(0.3, 0.3), None)
    # 40 of 1,000 were slower and 50 are allowed: 80% of the error budget.
    assert (p95.outcome, p95.reached, p95.used) == ("kept", ValueInterval(0.96, 0.96), ValueInterval(0.8, 0.8))
    # One minute of 500 is 0.2%, and 0.1% is allowed.
    assert uptime.outcome == "broken"
    assert uptime.used is not None
    assert uptime.used.low == pytest.approx(2.0)
    assert row.outcome == "broken"
    assert slo_report.broken


@pytest.mark.parametrize(
    ("limit", "changes", "outcome", "reached", "why"),
    [
        # 400 ms is in the bucket from 250 to 500 ms: 90% to 96% were within the limit.
        (400, {}, "unknown", ValueInterval(0.9, 0.96), "400 ms is between the histogram's bounds 250 ms and 500 ms"),
        # Even if all requests in the bucket were slower, enough are within 700 ms.
        (700, {}, "kept", ValueInterval(0.96, 0.99), ""),
        # Even if all requests in the bucket were faster, too few are within 200 ms.
        (200, {}, "broken", ValueInterval(0.4, 0.9), ""),
        # Twelve failed, fast or slow.
        (500, {"failed": 12.0}, "unknown", ValueInterval(0.948, 0.96), "some requests failed"),
        (500, {"failed": 5.0}, "kept", ValueInterval(0.955, 0.96), ""),
        # 200 failed and 200 were not timed: even if those are different requests, no more were answered.
        (500, {"requests": 1200.0, "failed": 200.0}, "broken", ValueInterval(760 / 1200, 1000 / 1200), ""),
        # Forty failed, slow and timed; the ten that were not timed may have been within the limit.
        (
            500,
            {"failed": 40.0, "buckets": counts(0, 0, 945, 990, 990, 990, 990)},
            "unknown",
            ValueInterval(905 / 1000, 955 / 1000),
            "10 of 1,000 requests were not timed, and may have been within the limit",
        ),
        # A request that was counted but not timed yet is not slow; a few of them do not matter if they change nothing.
        (
            500,
            {"requests": 25.0, "buckets": counts(0, 22, 22, 22, 22, 22, 22)},
            "unknown",
            ValueInterval(0.88, 1.0),
            "3 of 25 requests were not timed, and may have been within the limit",
        ),
        (500, {"requests": 25.0, "buckets": counts(0, 24, 24, 24, 24, 24, 24)}, "kept", ValueInterval(0.96, 1.0), ""),
        (
            500,
            {"requests": 1030.0},
            "unknown",
            ValueInterval(960 / 1030, 990 / 1030),
            "30 of 1,030 requests were not timed",
        ),
        # Even if all requests that were not timed were fast, too few were.
        (
            500,
            {"requests": 1010.0, "buckets": counts(0, 0, 900, 1000, 1000, 1000, 1000)},
            "broken",
            ValueInterval(900 / 1010, 910 / 1010),
            "",
        ),
        # The limit is between two bounds, whatever the other requests took.
        (
            400,
            {"requests": 1010.0, "buckets": counts(0, 900, 990, 1000, 1000, 1000, 1000)},
            "unknown",
            ValueInterval(900 / 1010, 1000 / 1010),
            "is between",
        ),
        (
            500,
            {"requests": 30.0, "buckets": (), "place": None},
            "unknown",
            ValueInterval(0.0, 1.0),
            "30 of 30 requests",
        ),
        (500, {"requests": 30.0, "failed": 30.0, "buckets": (), "place": None}, "broken", ValueInterval(0.0, 0.0), ""),
        (
            20_000,
            {"buckets": counts(0, 0, 0, 0, 0, 900, 1000)},
            "unknown",
            ValueInterval(0.9, 1.0),
            "above the histogram's",
        ),
        (20_000, {"buckets": counts(0, 0, 0, 0, 0, 970, 1000)}, "kept", ValueInterval(0.97, 1.0), ""),
        (
            500,
            {"requests": 19.0, "buckets": counts(0, 0, 19, 19, 19, 19, 19)},
            "unknown",
            ValueInterval(1.0, 1.0),
            "too few requests (19)",
        ),
        (500, {"requests": 0.0, "buckets": (), "place": None}, "unknown", None, "there were no requests"),
    ],
)
def test_a_percentile_is_judged_by_the_histogram(
    limit: float, changes: dict[str, Any], outcome: str, reached: ValueInterval | None, why: str
) -> None:
    verdict = report.judge_p95(measured(**changes), limit / 1000)

    assert verdict.outcome == outcome
    assert verdict.reached == (reached if reached is None else pytest.approx(reached))
    assert why in verdict.why if why else not verdict.why


def test_a_bound_of_envoy_includes_its_whole_bin() -> None:
    blurred = tuple(bucket._replace(reach=bucket.bound * 1.02) for bucket in measured().buckets)
    figures = measured(buckets=blurred, total_between=(290.0, 310.0))

    assert report.compute_quantile_interval(figures.buckets, 0.95) == ValueInterval(0.25, 0.51)
    verdict = report.judge_p95(figures, 0.5)
    assert verdict.outcome == "kept"
    assert verdict.why == "the gateway counts up to 510 ms as within 500 ms"
    # The mean is an estimate: the verdict on 300 ms is unknown.
    assert report.judge_mean(figures, 0.3).outcome == "unknown"
    assert report.judge_mean(figures, 0.32).outcome == "kept"
    assert report.judge_mean(figures, 0.28).outcome == "broken"


def test_without_requests_uptime_is_judged_by_readiness() -> None:
    quiet = measured(minutes_asked=3.0, minutes_answered=0.0)

    verdict = report.judge_uptime(quiet, 0.98)

    assert verdict.outcome == "kept"
    assert verdict.reached == pytest.approx(ValueInterval(0.99, 0.99))
    assert verdict.why == "by readiness, because only 3 minutes had requests"
    unknown = report.judge_uptime(measured(minutes_asked=3.0, seconds_known=0.0), 0.98)
    assert (unknown.outcome, unknown.reached) == ("unknown", None)


def test_an_uptime_of_100_percent_leaves_no_error_budget() -> None:
    assert report.judge_uptime(measured(), 1.0).used is None
    assert report.judge_uptime(measured(), 1.0).outcome == "broken"
    assert report.judge_uptime(measured(minutes_answered=500.0), 1.0).outcome == "kept"


def test_projects_and_the_total_are_sums() -> None:
    other = Ref("team-lab", "embed")
    slo_report = report.compute_report(
        {CHAT: measured(), other: measured(replica_seconds=None, failed=10.0)}, {CHAT: WorkloadSlo(CHAT, "shop")}
    )

    assert [row.name for row in slo_report.projects] == ["shop", "team-lab"]
    assert slo_report.total.workloads == 2
    assert slo_report.total.measured.requests == 2000
    assert slo_report.total.measured.failed == 10
    assert slo_report.total.replica_hours == 10.0
    assert slo_report.total.quantiles["p95"] == ValueInterval(0.25, 0.5)
    assert slo_report.total.outcomes == {"none": 2}
    assert report.compute_report({}, {}).total.measured.requests == 0


def test_histograms_are_combined_at_common_bounds() -> None:
    coarse = (Bucket(0.5, 10.0), Bucket(math.inf, 20.0))

    added = report.combine_measurements([measured(), measured(buckets=coarse)])

    assert added.buckets == (Bucket(0.5, 970.0), Bucket(math.inf, 1020.0))


def test_unknown_numbers_are_null_and_never_nan() -> None:
    nothing = WorkloadMeasurements(CHAT, 0.0, WEEK)
    slo = promise(meanLatencyMilliseconds=300, p95LatencyMilliseconds=500, uptimePercent=99.9)
    late = measured(buckets=counts(0, 0, 0, 0, 0, 0, 1000))

    text = json.dumps(
        [
            serialize_body(report.compute_report({CHAT: figures}, {CHAT: WorkloadSlo(CHAT, slo=slo)}))
            for figures in (nothing, late, measured(minutes_answered=0.0))
        ],
        allow_nan=False,
    )

    assert '"high": null' in text
    row = report.compute_report({CHAT: nothing}, {CHAT: WorkloadSlo(CHAT, slo=slo)}).rows[0]
    assert row.outcome == "unknown"
    assert row.notes == ("no requests in this period",)
    assert (row.replica_hours, row.cost, row.cold, row.ready) == (None, None, None, None)


def test_few_timed_requests_are_noted() -> None:
    few, many = measured(requests=2000.0), measured(requests=1100.0)
    notes = [report.compute_report({CHAT: figures}, {}).rows[0].notes for figures in (few, many)]
    assert notes[0][1:] == ("only 1000 of 2000 requests were timed; the latencies cover only those",)
    assert notes[1][1:] == ()


# Laws.

#: Whole milliseconds: a limit that differs from a bound only by rounding is that bound.
TIMES = st.integers(1, 20_000).map(lambda milliseconds: milliseconds / 1000)
SAMPLES = st.lists(TIMES, min_size=1, max_size=200)


def histogram(samples: list[float], bounds: list[float]) -> tuple[Bucket, ...]:
    return tuple(
        Bucket(bound, float(sum(sample <= bound for sample in samples))) for bound in [*sorted(set(bounds)), math.inf]
    )


def of_samples(samples: list[float], bounds: list[float], failed: set[int] = frozenset()) -> WorkloadMeasurements:  # type: ignore[assignment] # empty
    return WorkloadMeasurements(
        CHAT,
        0.0,
        60.0,
        "queue-proxy",
        float(len(samples)),
        float(len(failed)),
        sum(samples),
        buckets=histogram(samples, bounds),
    )


@given(SAMPLES, st.lists(TIMES, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_the_bounds_of_a_quantile_contain_it(samples: list[float], bounds: list[float], share: float) -> None:
    interval = report.compute_quantile_interval(histogram(samples, bounds), share)
    # The definition: the shortest time within which at least this share of the requests are.
    true = next(
        time
        for time in sorted(samples)
        if sum(sample <= time for sample in samples) >= share * len(samples) * (1 - 1e-9)
    )

    assert interval is not None
    assert interval.low <= true <= interval.high


@given(SAMPLES, st.lists(TIMES, max_size=12), TIMES, st.data())
def test_the_interval_of_a_share_contains_the_true_share(
    samples: list[float], bounds: list[float], limit: float, data: st.DataObject
) -> None:
    failed = data.draw(st.sets(st.integers(0, len(samples) - 1)))
    limit = data.draw(st.sampled_from([limit, *bounds]))
    result = report.share_within(of_samples(samples, bounds, failed), limit)
    true = sum(time <= limit for index, time in enumerate(samples) if index not in failed) / len(samples)

    assert result is not None
    assert result[1] == limit
    assert result[0].low - 1e-12 <= true <= result[0].high + 1e-12
    if not failed and limit in bounds:
        assert result[0].exact


@given(SAMPLES, st.lists(TIMES, max_size=12), TIMES)
def test_a_verdict_is_never_wrong(samples: list[float], bounds: list[float], limit: float) -> None:
    samples = samples * (1 + report.LEAST // len(samples))
    verdict = report.judge_p95(of_samples(samples, bounds), limit)
    met = sum(time <= limit for time in samples) >= 0.95 * len(samples) - 1e-9

    assert verdict.outcome in ({"kept", "unknown"} if met else {"broken", "unknown"})


@given(st.floats(0.5, 0.9999), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_failure_share_uses_more_budget(target: float, first_share: float, second_share: float) -> None:
    better, worse = max(first_share, second_share), min(first_share, second_share)
    lower, higher = (report.compute_budget(ValueInterval(share, share), target) for share in (better, worse))

    assert lower is not None
    assert higher is not None
    assert lower.low <= higher.low
    assert (higher.low <= 1) == (worse >= target - 1e-9) or abs(higher.low - 1) < 1e-4


@given(st.lists(SAMPLES, min_size=1, max_size=4), st.lists(TIMES, max_size=6))
def test_combined_measurements_equal_joint_measurements(several: list[list[float]], bounds: list[float]) -> None:
    added = report.combine_measurements([of_samples(samples, bounds) for samples in several])
    whole = of_samples([time for samples in several for time in samples], bounds)

    assert added.buckets == whole.buckets
    assert added.requests == whole.requests
    assert report.compute_mean(added) == pytest.approx(report.compute_mean(whole))


# Formats for people.

EVIL = Ref("team-shop", "<script>alert(1)</script>\x1b[31m|*_x_*")


def evil() -> report.Report:
    slo = promise(p95LatencyMilliseconds=500, uptimePercent=99.9)
    return report.compute_report(
        {EVIL: measured(), CHAT: measured(minutes_asked=0.0)},
        {EVIL: WorkloadSlo(EVIL, "<b>&", slo), CHAT: WorkloadSlo(CHAT, slo=slo)},
        notes=("a <note>\x1b[2J",),
    )


def test_names_from_a_cluster_have_no_control_characters() -> None:
    slo_report = evil()

    for text in (
        render_text(pages.make_content(slo_report)),
        render_text(pages.make_content(report.compute_report({EVIL: measured()}, {}))),
    ):
        assert "\x1b" not in text


def test_text_is_aligned_and_has_the_place_of_measurement() -> None:
    slo = promise(p95LatencyMilliseconds=500)
    rank = Ref("team-shop", "rank-everything")
    idle = {Ref("x", "idle-too"): WorkloadMeasurements(CHAT, 0, 1)}
    slo_report = report.compute_report(
        {Ref("x", "idle"): WorkloadMeasurements(CHAT, 0, 1), CHAT: measured(), rank: measured(), **idle},
        {CHAT: WorkloadSlo(CHAT, slo=slo)},
    )
    text = render_text(pages.make_content(slo_report))
    head, chat = (
        next(line for line in text.splitlines() if line.startswith(name)) for name in ("  WORKLOAD", "  chat ")
    )

    assert head.index("SLO") == chat.index("met")
    assert head.index("P95") + len("P95") == chat.index("250 to 500 ms") + len("250 to 500 ms")
    assert "measured at the gateway, including activator wait and cold start" in text
    # A note on all numbers does not stand between those on single workloads.
    notes = ("  idle: no", "  idle-too: no", "  measured at the gateway")
    lines = [number for number, line in enumerate(text.splitlines()) if line.startswith(notes)]
    assert lines == [*range(lines[0], lines[0] + 3)]
    assert text.splitlines()[lines[2]].startswith(notes[2])
    assert "  chat: p95 within 500 ms: met; 96% of requests were within the limit, 95% required; error" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ValueInterval(0.25, 0.5), "250 to 500 ms"),
        (ValueInterval(0.0, 0.1), "up to 100 ms"),
        (ValueInterval(0.5, 1.0), "500 ms to 1 s"),
        (ValueInterval(10.0, math.inf), "above 10 s"),
        (ValueInterval(0.3, 0.3), "300 ms"),
        (None, "-"),
    ],
)
def test_an_interval_is_formatted(value: ValueInterval | None, text: str) -> None:
    assert pages.format_interval(value) == text


@pytest.mark.parametrize(
    ("changes", "limit", "outcomes"),
    [
        ({"place": "queue-proxy", "seconds_at_rest": 60.0, "cold_starts": 1.0}, 1000, {"unknown"}),
        ({"place": "queue-proxy", "seconds_at_rest": 0.0, "cold_starts": None}, 1000, {"unknown"}),
        ({"place": "queue-proxy", "seconds_at_rest": 0.0, "cold_starts": 0.0}, 1000, {"kept"}),
        ({"place": "gateway", "seconds_at_rest": 60.0, "cold_starts": 1.0}, 1000, {"kept"}),
        ({"place": "queue-proxy", "seconds_at_rest": 60.0, "cold_starts": 1.0}, 10, {"broken"}),
    ],
)
def test_what_the_pods_meet_is_no_verdict_where_clients_waited_for_cold_starts(
    changes: dict[str, Any], limit: int, outcomes: set[str]
) -> None:
    slo = promise(meanLatencyMilliseconds=limit, p95LatencyMilliseconds=limit)
    figures = measured(**{"buckets": counts(0, 0, 1000, 1000, 1000, 1000, 1000), **changes})
    verdicts = report.make_verdicts(figures, slo)

    assert {verdict.outcome for verdict in verdicts} == outcomes
    assert all(("cold starts are not measured" in verdict.why) == (outcomes == {"unknown"}) for verdict in verdicts)


# Tokens.


def token_measurements(*cumulative: float, **fields: Any) -> WorkloadMeasurements:
    bounds = (0.1, 0.25, 0.5, math.inf)
    buckets = tuple(Bucket(bound, count) for bound, count in zip(bounds, cumulative, strict=True))
    values = {"cold_starts": 0.0, "seconds_at_rest": 0.0, "output_tokens": 5e6, **fields}
    return measured(token_buckets={"ttft": buckets}, **values)


@pytest.mark.parametrize(
    ("counts_until", "milliseconds", "outcome", "reason"),
    [
        ((10, 96, 100, 100), 250, "kept", ""),
        ((10, 90, 100, 100), 250, "broken", ""),
        # Between 90 and 100 of 100 responses took at most 300 ms.
        ((10, 90, 100, 100), 300, "unknown", "300 ms is between the histogram's bounds 250 ms and 500 ms"),
        ((1, 9, 10, 10), 250, "unknown", "too few samples (10)"),
        ((0, 0, 0, 0), 250, "unknown", "Prometheus has no time to first token of vLLM, SGLang, TGI or Triton"),
    ],
)
def test_tokens_are_judged_by_the_buckets(
    counts_until: tuple[float, ...], milliseconds: float, outcome: str, reason: str
) -> None:
    (verdict,) = report.make_verdicts(
        token_measurements(*counts_until), promise(timeToFirstTokenMilliseconds=milliseconds)
    )

    assert (verdict.name, verdict.outcome, verdict.share) == ("ttft", outcome, 0.95)
    assert reason in verdict.why


def test_a_first_token_in_time_is_unknown_after_cold_starts() -> None:
    slept = token_measurements(10, 96, 100, 100, cold_starts=2.0)
    (verdict,) = report.make_verdicts(slept, promise(timeToFirstTokenMilliseconds=250, timeToFirstTokenPercent=90))

    assert (verdict.outcome, verdict.share) == ("unknown", 0.9)
    assert "does not measure the wait for a cold start" in verdict.why
    violated = token_measurements(10, 20, 100, 100, cold_starts=2.0)
    assert report.make_verdicts(violated, promise(timeToFirstTokenMilliseconds=250))[0].outcome == "broken"


def test_cost_per_million_tokens() -> None:
    slo_report = report.compute_report(
        {CHAT: token_measurements(10, 90, 100, 100)}, {CHAT: WorkloadSlo(CHAT, gpus=0.5)}, 2.0
    )
    (row,) = slo_report.rows

    # Ten replica-hours of half a GPU at 2.0, for five million tokens.
    assert row.cost_per_million_tokens == pytest.approx(2.0)
    assert slo_report.total.cost_per_million_tokens is None
    assert row.token_latency_seconds["ttft"]["p95"] == ValueInterval(0.25, 0.5)
    text = render_text(pages.make_content(slo_report))
    assert "cost per million tokens   2.00" in text
    assert "time to first token p95" in text
