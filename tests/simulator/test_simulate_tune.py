"""Search on a known function, its advice, and the changes that it writes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ebbtide.core import documents
from ebbtide.core.base import metrics
from ebbtide.core.documents import profiles
from ebbtide.core.translation.translate import translate
from ebbtide.simulator.data import StartUp
from ebbtide.simulator.engine import slo
from ebbtide.simulator.engine.case import Case
from ebbtide.simulator.engine.slo import BoundResult, SimulationMeasurements, SloBound
from ebbtide.simulator.search import advice, tune
from ebbtide.simulator.search.judge import SEEDS, Change, Evidence, judge
from ebbtide.simulator.traffic import load, servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.core.translation.plan import Plan
    from ebbtide.simulator.search.tune import Knob, SearchResult, SettingPoint, Values

BOUND = SloBound("latency", 1.0, 0.99)
KNOBS = (
    tune.Knob(tune.THRESHOLD, (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)),
    tune.Knob("minReplicas", (1, 2, 3, 4, 6, 8)),
    tune.Knob("scaleDownDelaySeconds", (None, 30, 60, 120, 300, 600)),
    tune.Knob("stable-window", (15.0, 30.0, 60.0, 90.0, 120.0)),
)
BASE: Values = {tune.THRESHOLD: 100, "minReplicas": 1, "scaleDownDelaySeconds": None, "stable-window": 60.0}


def measured(used: float, hours: float) -> SimulationMeasurements:
    share = 1 - used * 0.01
    return SimulationMeasurements(
        requests=100, lost=0, met_cold=0, cold_starts=0, mean=1, p50=1, p95=1, p99=1, wait_p95=0, wait_p99=0, uptime=1,
        replica_hours=hours, ready_hours=hours, utilization=0.5, hours=1, gpu_hours=hours, cost=None,
        bound_results=(BoundResult(BOUND, share, used),),
    )  # fmt: skip


def toy(values: Values) -> SimulationMeasurements:
    """More load per replica costs less and is slower, a delay and a minimum cost more and are faster, the window has an optimum."""
    threshold, min_replicas = values[tune.THRESHOLD], values["minReplicas"]
    delay, window = values["scaleDownDelaySeconds"] or 0, values["stable-window"]
    hours = max(40 / threshold, min_replicas) * (1 + delay / 900) + 0.2 * min_replicas
    used = threshold / 6 / (1 + delay / 200) / math.sqrt(min_replicas) * (1 + (math.log(window / 30)) ** 2)
    return measured(used, hours)


def searched(
    evaluate: Callable[[Values], SimulationMeasurements], evaluations: int, limit: float = 1.0, **changes: Any
) -> SearchResult:
    return tune.Search(KNOBS, evaluate, base=BASE, **changes).run(evaluations, tune.list_levels(limit))


def grid() -> list[SettingPoint]:
    values: list[Values] = [{}]
    for knob in KNOBS:
        values = [{**before, knob.name: value} for before in values for value in knob.values]
    return [tune.SettingPoint(setting, toy(setting)) for setting in values]


# Search


@pytest.mark.parametrize("limit", [1.0, 0.7, 0.5, 0.25])
def test_a_tenth_of_the_evaluations_gets_within_a_tenth_of_the_optimum(limit: float) -> None:
    points = grid()
    best = min(point.cost for point in points if point.measured.used <= limit)
    result = searched(toy, len(points) // 10, limit)

    assert len(points) == 2160
    assert result.evaluations <= len(points) // 10
    found = result.find_best(limit)
    assert found is not None
    assert found.cost <= best * 1.1


def test_the_minimum_is_varied_first_and_a_delay_before_the_last_knob() -> None:
    points = searched(lambda _: measured(2.0, 1.0), 100).points
    changed = [name for point in points for name in ("minReplicas", "scaleDownDelaySeconds", "stable-window")
               if point.values[name] != BASE[name]]  # fmt: skip

    assert [*dict.fromkeys(changed)] == ["minReplicas", "scaleDownDelaySeconds", "stable-window"]


def test_a_minimum_that_alone_costs_more_is_not_tried() -> None:
    points = searched(lambda values: measured(0.1, values["minReplicas"] + 0.5), 200).points

    assert {point.values["minReplicas"] for point in points} == {1}


def test_nothing_is_evaluated_twice() -> None:
    tried = [tuple(point.values.values()) for point in searched(toy, 300).points]

    assert len(tried) == len(set(tried))


def test_a_search_ends_when_all_lines_are_searched() -> None:
    result = tune.Search(KNOBS[:1], toy, base=BASE).run(1000, tune.list_levels(1.0))

    assert result.evaluations <= len(KNOBS[0].values)


def test_no_point_of_the_front_is_dominated() -> None:
    result = searched(toy, 150)

    assert len(result.front) > 2
    for point in result.front:
        assert not [
            other
            for other in result.points
            if other.cost <= point.cost
            and other.measured.used <= point.measured.used
            and (other.cost, other.measured.used) != (point.cost, point.measured.used)
        ]


def test_an_interrupt_returns_the_results_so_far() -> None:
    calls = []

    def interrupted(values: Values) -> SimulationMeasurements:
        calls.append(values)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return toy(values)

    result = searched(interrupted, 200)

    assert result.interrupted
    assert (result.evaluations, len(result.points)) == (9, 9)


def test_invalid_values_are_not_evaluated() -> None:
    result = searched(toy, 100, valid=lambda values: values["minReplicas"] > 1)

    assert {point.values["minReplicas"] for point in result.points} <= {2, 3, 4, 6, 8}


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.tuples(*(st.integers(0, 2),) * 3), st.tuples(st.floats(0, 3), st.floats(0.1, 9)), min_size=27, max_size=27
    )
)
def test_a_search_never_fails(table: dict[tuple[int, ...], tuple[float, float]]) -> None:
    knobs = (tune.Knob(tune.THRESHOLD, (0, 1, 2)), tune.Knob("a", (0, 1, 2)), tune.Knob("b", (0, 1, 2)))

    def evaluate(values: Values) -> SimulationMeasurements:
        return measured(*table[values[tune.THRESHOLD], values["a"], values["b"]])

    result = tune.Search(knobs, evaluate, base={}).run(27, tune.list_levels(1.0))

    assert result.evaluations == len(result.points) <= 27


def test_changes_that_save_nothing_are_reverted() -> None:
    current = {"minReplicas": 1, "scaleDownDelaySeconds": None, "metric": "concurrency", tune.THRESHOLD: 32}

    def evaluate(values: Values) -> SimulationMeasurements:
        return measured(
            0.5 if values["minReplicas"] == 2 else 5.0, 2.0 if values["scaleDownDelaySeconds"] is None else 1.995
        )

    best = {"minReplicas": 2, "scaleDownDelaySeconds": 900, "metric": "throughput", tune.THRESHOLD: 26.3}
    point = tune.SettingPoint(best, evaluate(best), best)
    result = tune.SearchResult([point])
    simple = tune.simplify_point(point, result, evaluate, tune.SettingPoint(current, evaluate(current), current), 0.5)

    assert tune.diff_values(simple.values, current) == {"minReplicas": 2}
    assert result.evaluations == len(result.points) - 1


def test_the_current_spec_is_kept_if_no_change_saves() -> None:
    def flat(threshold: int, used: float, hours: float) -> SettingPoint:
        values = {"metric": "concurrency", tune.THRESHOLD: threshold}
        return tune.SettingPoint(values, measured(used, hours), values)

    def taken(current: SettingPoint) -> SettingPoint:
        result = tune.SearchResult([best, current])
        return tune.simplify_point(best, result, lambda _: measured(9.0, 1.0), current, 0.5)

    best = flat(64, 0.3, 1.0)
    alike, dear, failing = flat(9, 0.2, 1.005), flat(9, 0.2, 1.02), flat(9, 0.6, 0.5)

    assert [taken(current) for current in (alike, dear, failing)] == [alike, best, best]


def test_a_reverted_threshold_is_in_requests_in_flight() -> None:
    """The spec's threshold is in requests per second, the search's in requests in flight."""
    current = tune.SettingPoint(
        {"minReplicas": 1, "metric": "throughput", tune.THRESHOLD: 50},
        measured(5.0, 1.0),
        {"minReplicas": 1, "metric": "throughput", tune.THRESHOLD: 5.0},
    )
    best = {"minReplicas": 2, "metric": "concurrency", tune.THRESHOLD: 20}
    point = tune.SettingPoint(best, measured(0.5, 2.0), best)
    simple = tune.simplify_point(
        point,
        tune.SearchResult([point, current]),
        lambda values: measured(0.5 if values["minReplicas"] == 2 else 5.0, 2.0),
        current,
        0.5,
    )

    assert simple.values == {
        "minReplicas": 2,
        "metric": "throughput",
        tune.THRESHOLD: 50,
        "metricThresholdPercentage": None,
    }
    assert simple.raw[tune.THRESHOLD] == 5.0


SPECS = st.fixed_dictionaries(
    {"minReplicas": st.integers(0, 2), "maxReplicas": st.integers(2, 4)},
    optional={
        "scaleDownDelaySeconds": st.sampled_from((30, 45)),
        "concurrencyHardLimit": st.integers(1, 20),
        "scaling": st.tuples(st.sampled_from(("concurrency", "throughput")), st.integers(1, 70)),
    },
)


@settings(deadline=None, max_examples=8)
@given(
    SPECS,
    st.sampled_from(("constant:1rps,30s", "steps:1rps,20s,8rps,20s", "poisson:3rps,40s")),
    st.sampled_from((0.5, 1.0)),
)
def test_a_recommendation_leaves_the_margin_and_costs_no_more_than_a_spec_that_does(
    scaling: dict[str, Any], words: str, part: float
) -> None:
    block = dict(scaling)
    metric = block.pop("scaling", None)
    if metric is not None:
        block |= dict(zip(("metric", "metricThreshold"), metric, strict=True))
    case = case_of(block, words)
    plan = plan_of(case)
    assume(plan is not None)
    assert plan is not None
    space = tune.make_search_space(block, plan.scaling, ())
    samples = [replace(case, seed=seed) for seed in SEEDS]
    tuning = tune.tune_settings(samples, space, part=case.traffic.seconds * part, evaluations=12)

    if tuning.chosen is not None:
        assert tuning.chosen.measured.used <= 0.5
        assert not tuning.rest or tuning.rest["chosen"].holds
        assert tuning.current.measured.used > 0.5 or tuning.chosen.cost <= tuning.current.cost


def test_a_setting_that_needs_the_margin_on_the_rest_is_refused_with_what_it_misses() -> None:
    block = {"minReplicas": 1, "maxReplicas": 1}
    case = case_of(block, "steps:1rps,60s,4.5rps,60s")
    plan = plan_of(case)
    assert plan is not None
    samples, space = [replace(case, seed=seed) for seed in SEEDS], tune.make_search_space(block, plan.scaling, ())

    refused = tune.tune_settings(samples, space, part=60.0, evaluations=8)
    assert refused.verdict is not None
    assert (refused.chosen, refused.candidate is not None) == (None, True)
    assert "the rest" in refused.verdict.misses[0]
    assert "the rest" in advice.make_sentences(refused)[0]


def test_nothing_is_recommended_from_a_part_without_requests() -> None:
    block = {"minReplicas": 2, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 2}
    case = case_of(block, "constant:1rps,60s")
    late = replace(case, traffic=replace(case.traffic, times=case.traffic.times + 60, seconds=120.0))
    plan = plan_of(case)
    assert plan is not None
    samples, space = [replace(late, seed=seed) for seed in SEEDS], tune.make_search_space(block, plan.scaling, ())
    tuning = tune.tune_settings(samples, space, part=60.0, evaluations=6)

    assert tuning.verdict is not None
    assert tuning.verdict.misses == ("the part searched has no requests",)


def case_of(block: dict[str, Any], words: str) -> Case:
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"image": "ghcr.io/acme/chat:1", "autoscaling": block},
    }
    traffic = load.generate_traffic(words)
    start_up = StartUp(0.0, 0.0, 3.0, 0.0)
    return Case(
        document,
        profiles.load_built_in("full"),
        traffic,
        servers.parse_server("fixed:500ms,max=2"),
        start_up,
        0,
        slo.parse_bounds("p90=2s"),
    )


def plan_of(case: Case) -> Plan | None:
    """Return the rendered objects, or None if the values are invalid in combination."""
    loaded = documents.load_document(case.document, case.profile)
    return None if loaded.inference is None else translate(loaded.inference, case.profile, loaded.canonical).plan


# Knobs


def names(knobs: tuple[Knob, ...]) -> list[str]:
    return [knob.name for knob in knobs]


def test_knobs_by_metric_and_minimum() -> None:
    assert names(tune.make_knobs({}, "concurrency", 1, 4)) == [
        "metricThreshold", "minReplicas", "scaleDownDelaySeconds", "metric",
    ]  # fmt: skip
    assert names(tune.make_knobs({}, "throughput", 0, 4))[-2:] == ["scaleToZeroRetentionSeconds", "activationReplicas"]
    assert names(tune.make_knobs({}, "latency", 1, 4)) == ["metricThreshold", "minReplicas"]


def test_zero_is_tried_only_if_the_spec_allows_it() -> None:
    assert tune.make_knobs({}, "concurrency", 0, 3)[1].values == (0, 1, 2, 3)
    assert tune.make_knobs({}, "concurrency", 2, 3)[1].values == (1, 2, 3)
    assert tune.make_knobs({}, "time-to-first-token", 0, 3)[1].values == (1, 2, 3)
    assert tune.make_knobs({}, "time-to-first-token", 0, 3, controller=True)[1].values == (0, 1, 2, 3)


def test_knobs_with_the_controller_include_the_delays_of_the_kpa() -> None:
    assert names(tune.make_knobs({}, "requests-waiting", 0, 4, controller=True)) == [
        "metricThreshold", "minReplicas", "scaleDownDelaySeconds", "scaleToZeroRetentionSeconds", "activationReplicas",
    ]  # fmt: skip


def test_thresholds_are_in_the_unit_of_the_metric() -> None:
    """Each metric of an inference engine can have a threshold that its values reach."""
    values = {row.name: tune.make_knobs({}, row.name, 1, 4)[0].values for row in metrics.ROWS.values()}
    assert values["kv-cache-utilization"] == values["gpu-utilization"] == (10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert {200, 1000, 5000} <= {*values["time-to-first-token"]}
    assert {20, 50, 100} <= {*values["inter-token-latency"]}
    assert {1, 4, 16} <= {*values["requests-waiting"]}
    assert {100, 1000, 20_000} <= {*values["tokens-per-second"]}
    assert all(list(thresholds) == sorted({*thresholds}) for thresholds in values.values())


def test_the_spec_value_is_among_those_tried() -> None:
    assert tune.make_knobs({"scaleDownDelaySeconds": 45}, "concurrency", 1, 3)[2].values == (
        None,
        30,
        45,
        60,
        120,
        300,
        600,
        900,
    )


def test_requests_per_second_of_an_equivalent_load() -> None:
    raw = {"metric": "throughput", "metricThreshold": 10, "minReplicas": 1}

    assert tune.convert_to_per_second(raw, 4.0)["metricThreshold"] == 2.5
    assert tune.convert_to_per_second({**raw, "metric": "concurrency"}, 4.0)["metricThreshold"] == 10


def test_fields_without_effect_are_omitted() -> None:
    values = {
        "minReplicas": 2,
        "maxReplicas": 2,
        "metric": "concurrency",
        "metricThreshold": 3,
        "activationReplicas": 4,
    }

    assert tune.drop_idle_fields(values) == {
        "minReplicas": 2,
        "maxReplicas": 2,
        "metric": None,
        "metricThreshold": None,
        "activationReplicas": None,
    }
    assert tune.drop_idle_fields({**values, "minReplicas": 0})["activationReplicas"] == 4


def test_a_hard_limit_below_the_threshold_does_not_fit() -> None:
    assert not tune.fits_hard_limit({"concurrencyHardLimit": 4, "metricThreshold": 6})
    assert tune.fits_hard_limit({"concurrencyHardLimit": 6, "metricThreshold": 6})
    assert tune.fits_hard_limit({"concurrencyHardLimit": 4, "metricThreshold": 6, "metric": "throughput"})


def test_the_boundary_of_a_condition() -> None:
    assert tune.find_lowest(2, 40, lambda count: count >= 17) == 17
    assert tune.find_lowest(2, 40, lambda count: count > 40) is None
    assert tune.find_lowest(5, 4, lambda count: count > 0) is None
    assert tune.find_highest(1.0, 120.0, lambda seconds: seconds <= 40) == pytest.approx(40, abs=2)
    assert tune.find_highest(1.0, 120.0, lambda seconds: seconds < 1) is None


# Advice


def tuned(points: list[tune.SettingPoint], **changes: Any) -> tune.TuningResult:
    current = tune.SettingPoint({"metricThreshold": 100, "minReplicas": 1}, measured(20.0, 1.0))
    values: dict[str, Any] = {
        "result": tune.SearchResult([*points, current], len(points) + 2),
        "current": current,
        "default": tune.SettingPoint({}, measured(20.0, 1.0)),
        "reliefs": (),
        "rest": {},
        "part": 60.0,
        **changes,
    }
    candidate = values["result"].find_best(0.5)
    verdict = (
        None if candidate is None else judge(Change({}, {}), Evidence({}, {"all": (candidate.measured.used,) * 3}))
    )
    return tune.TuningResult(**{"candidate": candidate, "verdict": verdict, "spare": 0.5, **values})


GOOD = tune.SettingPoint({"metricThreshold": 12, "minReplicas": 2}, measured(0.9, 2.0))
SAFE = tune.SettingPoint({"metricThreshold": 12, "minReplicas": 3}, measured(0.1, 3.0))
CHEAP = tune.SettingPoint({"metricThreshold": 24, "minReplicas": 1}, measured(2.0, 1.5))


def test_the_recommendation_is_explained() -> None:
    assert advice.make_sentences(tuned([GOOD, SAFE, CHEAP])) == [
        "Recommended: metricThreshold 12, minReplicas 3.",
        "With 3 seeds, it uses of the SLO's allowance at most 10% on all.",
        (
            "The spare 50% of the allowance costs 50%: metricThreshold 12, minReplicas 2 just meets the SLO on the part "
            "searched with 2.00 replica-hours."
        ),
        "Compared with the current spec, which attains only 80%: 200% more replica-hours.",
        "Compared with Knative's defaults, which attain only 80%: 200% more replica-hours.",
    ]
    assert "costs nothing" in advice.make_sentences(tuned([SAFE, CHEAP]))[1 + 1]


def test_without_a_setting_within_the_margin_nothing_is_recommended() -> None:
    assert advice.make_sentences(tuned([GOOD]))[0].startswith("No recommendation: no simulated setting leaves 50%")


def test_without_a_feasible_point_the_limit_is_named() -> None:
    reliefs = (tune.Relief("minReplicas", 1, 2), tune.Relief("start-up", 120.0, 40.0))

    assert advice.make_sentences(tuned([CHEAP], reliefs=reliefs)) == [
        (
            "Infeasible: no simulated setting meets p99=1s. The closest setting attains 98% with 1.50 replica-hours: "
            "metricThreshold 24."
        ),
        (
            "The limit is the start-up time of 2 min: raise minReplicas from 1 to 2, or reduce the start-up time to 40 s or "
            "less. Each change was simulated separately, based on the closest setting."
        ),
    ]
    assert (
        "The limit is the number of replicas: raise minReplicas and maxReplicas from 3 to 9. "
        in advice.make_sentences(tuned([CHEAP], reliefs=(tune.Relief("both", 3, 9),)))[-1]
    )
    assert advice.make_sentences(tuned([CHEAP], reliefs=(tune.Relief("server", 0.9, 0.95),)))[-1] == (
        "The limit is the server: 90% of requests that never wait are within the bound, but the SLO requires 95%. "
        "Use a faster server or a less strict SLO."
    )
    assert advice.make_sentences(tuned([CHEAP]))[-1].startswith("Neither a start-up time of 1 s nor")


def test_the_json_of_a_search() -> None:
    data = advice.tuning_to_json(tuned([GOOD, SAFE, CHEAP]), "chat")

    assert list(data) == [
        "workload", "evaluations", "interrupted", "searchedSeconds", "feasible", "verdict", "justMet", "asItIs",
        "knativeDefaults", "recommended", "front", "reliefs", "advice",
    ]  # fmt: skip
    assert data["recommended"]["changes"] == {"metricThreshold": 12, "minReplicas": 3}
    assert (data["verdict"]["passes"], data["justMet"]["replicaHours"]) == (True, 2.0)
    assert [row["replicaHours"] for row in data["front"]] == [1.0, 1.5, 2.0, 3.0]
