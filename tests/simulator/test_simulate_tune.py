"""Search on a known function, its advice, and the changes that it writes."""

from __future__ import annotations

import math
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
    evaluate: Callable[[Values], SimulationMeasurements], evaluations: int, seed: int = 0, **changes: Any
) -> SearchResult:
    return tune.Search(KNOBS, evaluate, base=BASE, seed=seed, **changes).run(evaluations)


def grid() -> list[SettingPoint]:
    values: list[Values] = [{}]
    for knob in KNOBS:
        values = [{**before, knob.name: value} for before in values for value in knob.values]
    return [tune.SettingPoint(setting, toy(setting)) for setting in values]


# Search


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_the_evaluations_gets_within_a_tenth_of_the_optimum(seed: int) -> None:
    points = grid()
    best = min(point.cost for point in points if point.holds)
    result = searched(toy, len(points) // 10, seed)

    assert len(points) == 2160
    assert result.evaluations <= len(points) // 10
    assert result.best is not None
    assert result.best.cost <= best * 1.1


def test_the_same_seed_gives_the_same_search() -> None:
    def tried(seed: int) -> list[Values]:
        return [point.values for point in searched(toy, 60, seed).points]

    assert tried(1) == tried(1)
    assert tried(1) != tried(2)


def test_nothing_is_evaluated_twice() -> None:
    tried = [tuple(point.values.values()) for point in searched(toy, 300).points]

    assert len(tried) == len(set(tried))


def test_a_search_ends_when_all_lines_are_searched() -> None:
    result = tune.Search(KNOBS[:1], toy, base=BASE).run(1000)

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

    result = tune.Search(knobs, evaluate, base={}).run(27)

    assert result.evaluations == len(result.points) <= 27


def test_changes_that_save_nothing_are_reverted() -> None:
    current = {"minReplicas": 1, "scaleDownDelaySeconds": None, "metric": "concurrency", tune.THRESHOLD: 32}

    def evaluate(values: Values) -> SimulationMeasurements:
        return measured(
            0.5 if values["minReplicas"] == 2 else 5.0, 2.0 if values["scaleDownDelaySeconds"] is None else 1.995
        )

    best = {"minReplicas": 2, "scaleDownDelaySeconds": 900, "metric": "throughput", tune.THRESHOLD: 26.3}
    result = tune.SearchResult([tune.SettingPoint(best, evaluate(best), best)])
    simple = tune.simplify_best(result, evaluate, tune.SettingPoint(current, evaluate(current), current))

    assert tune.diff_values(simple.values, current) == {"minReplicas": 2}
    assert result.evaluations == len(result.points) - 1


def test_the_current_spec_is_kept_if_no_change_saves() -> None:
    def flat(threshold: int, used: float, hours: float) -> SettingPoint:
        values = {"metric": "concurrency", tune.THRESHOLD: threshold}
        return tune.SettingPoint(values, measured(used, hours), values)

    def taken(current: SettingPoint) -> SettingPoint:
        return tune.simplify_best(tune.SearchResult([best, current]), lambda _: measured(9.0, 1.0), current)

    best = flat(64, 0.3, 1.0)
    alike, dear, failing = flat(9, 0.2, 1.005), flat(9, 0.2, 1.02), flat(9, 2.0, 0.5)

    assert [taken(current) for current in (alike, dear, failing)] == [alike, best, best]


def test_a_reverted_threshold_is_in_requests_in_flight() -> None:
    """The spec's threshold is in requests per second, the search's in requests in flight."""
    current = tune.SettingPoint(
        {"minReplicas": 1, "metric": "throughput", tune.THRESHOLD: 50},
        measured(5.0, 1.0),
        {"minReplicas": 1, "metric": "throughput", tune.THRESHOLD: 5.0},
    )
    best = {"minReplicas": 2, "metric": "concurrency", tune.THRESHOLD: 20}
    result = tune.SearchResult([tune.SettingPoint(best, measured(0.5, 2.0), best), current])
    simple = tune.simplify_best(
        result, lambda values: measured(0.5 if values["minReplicas"] == 2 else 5.0, 2.0), current
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


@settings(deadline=None, max_examples=15)
@given(
    SPECS,
    st.sampled_from(("constant:1rps,30s", "steps:1rps,20s,8rps,20s", "poisson:3rps,40s")),
    st.sampled_from((0.5, 1.0)),
)
def test_no_recommendation_costs_more_than_the_spec(scaling: dict[str, Any], words: str, part: float) -> None:
    block = dict(scaling)
    metric = block.pop("scaling", None)
    if metric is not None:
        block |= dict(zip(("metric", "metricThreshold"), metric, strict=True))
    case = case_of(block, words)
    plan = plan_of(case)
    assume(plan is not None)
    assert plan is not None
    space = tune.make_search_space(block, plan.scaling, ())
    tuning = tune.tune_settings(case, space, part=case.traffic.seconds * part, evaluations=12)

    assert tuning.current.holds <= (tuning.chosen is not None)
    if tuning.chosen is not None:
        assert tuning.chosen.holds
        assert not tuning.current.holds or tuning.chosen.cost <= tuning.current.cost


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
        "metricThreshold", "minReplicas", "metric", "scaleDownDelaySeconds", "concurrencyHardLimit",
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
    assert tune.make_knobs({"scaleDownDelaySeconds": 45}, "concurrency", 1, 3)[3].values == (
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
    return tune.TuningResult(**{"chosen": values["result"].best, **values})


GOOD = tune.SettingPoint({"metricThreshold": 12, "minReplicas": 2}, measured(0.9, 2.0))
SAFE = tune.SettingPoint({"metricThreshold": 12, "minReplicas": 3}, measured(0.1, 3.0))
CHEAP = tune.SettingPoint({"metricThreshold": 24, "minReplicas": 1}, measured(2.0, 1.5))


def test_the_recommendation_is_explained() -> None:
    assert advice.make_sentences(tuned([GOOD, SAFE, CHEAP])) == [
        "Recommended: metricThreshold 12, minReplicas 2.",
        "Compared with the current spec, which attains only 80%: 100% more replica-hours.",
        "Compared with Knative's defaults, which attain only 80%: 100% more replica-hours.",
    ]


def test_a_violation_on_the_rest_is_reported() -> None:
    rest = {"current": measured(20, 1), "default": measured(20, 1), "chosen": measured(1.5, 2)}

    assert advice.make_sentences(tuned([GOOD], rest=rest))[-1].startswith("On the rest of the traffic, the recommended")


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
        "workload", "evaluations", "interrupted", "searchedSeconds", "feasible", "asItIs", "knativeDefaults",
        "recommended", "front", "reliefs", "advice",
    ]  # fmt: skip
    assert data["recommended"]["changes"] == {"metricThreshold": 12, "minReplicas": 2}
    assert [row["replicaHours"] for row in data["front"]] == [1.0, 1.5, 2.0, 3.0]
