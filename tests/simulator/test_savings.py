"""The replays of a live service: lost requests are late, and a change passes the judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("numpy", reason="the simulator needs it")

import numpy as np

from ebbtide.simulator.engine.case import HALVES
from ebbtide.simulator.fleet import savings


def test_a_lost_request_is_late_without_an_slo() -> None:
    result: Any = SimpleNamespace(
        lost=np.array([True, False, False]), wait=np.array([0.0, 0.0, savings.LATE_SECONDS + 1])
    )
    measured: Any = SimpleNamespace(bound_results=(), requests=3)

    assert savings.count_late(result, measured) == 2


class Case:
    """A case in which a minimum of one replica leaves enough of the allowance with the first seed only."""

    gpus, halves, empty = 1.0, (0.0, 50.0, 101.0), ()
    bounds, block = (SimpleNamespace(name="p95", kind="p95"),), {"minReplicas": 3, "maxReplicas": 5}

    def __init__(self, index: int) -> None:
        self.index = index
        self.start_up = SimpleNamespace(seconds=10.0)

    def run(self, values: dict[str, Any], _: object) -> Any:
        self.minimum = values.get("minReplicas", 3)
        timeline = SimpleNamespace(desired=np.array([self.minimum]))
        return SimpleNamespace(timeline=timeline, lost=np.zeros(1, bool), wait=np.zeros(1))

    def measure(self, _: object) -> Any:
        return SimpleNamespace(bound_results=(), requests=1, replica_hours=float(self.minimum), holds=True)

    def list_empty(self, _names: object, _edges: object) -> tuple[str, ...]:
        return self.empty

    def measure_halves(self, _: object) -> dict[str, float]:
        return dict(zip(HALVES, (0.1, 0.3 if self.minimum > 1 or self.index == 0 else 0.6), strict=True))

    def is_renderable(self, _: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("spare", "empty", "minimum"), [(0.5, (), 2), (0.4, (), 1), (0.9, (), None), (0.5, HALVES[:1], None)]
)
def test_a_change_passes_the_judge_with_every_seed(
    spare: float, empty: tuple[str, ...], minimum: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Case, "empty", empty)
    compute, scaling = SimpleNamespace(cpu_core_request=None), SimpleNamespace(minimum=3, threshold=None)
    plan = SimpleNamespace(spec=SimpleNamespace(compute=compute), scaling=scaling)
    asked = SimpleNamespace(spare=spare)
    cases: Any = [Case(index) for index in range(3)]
    prepared: Any = SimpleNamespace(case=cases[0], plan=plan, autoscaling=Case.block, request=asked)
    replayer = savings._Replayer(prepared, cases, is_fitted=False)  # noqa: SLF001 - the search, without real simulations
    candidates = [{"minReplicas": count} for count in (1, 2)]

    kept = None if minimum is None else {"minReplicas": minimum}
    assert replayer._find_enough(candidates) == kept  # noqa: SLF001 - as above
    assert replayer.proposals == [kept] * (kept is not None)


DAY = 86_400.0


@pytest.mark.parametrize(
    ("used", "date"),
    [((0.5, 1.2, 2.0, 1.1), "1970-01-03"), ((0.5, 0.5, 0.9, 1.1), ""), ((2.0,) * 4, ""), ((2.0, 2.0, 2.0, 0.0), "")],
)
def test_the_minimum_no_longer_keeps_the_slo_since_a_day(used: tuple[float, ...], date: str) -> None:
    def measure_use(_: object, edges: list[float]) -> list[float]:
        assert edges == [-0.5 * DAY, 0.5 * DAY, 1.5 * DAY, 2.5 * DAY, 3.5 * DAY]
        return list(used)

    traffic = SimpleNamespace(start=1.5 * DAY, seconds=3.4 * DAY - 0.5 * DAY)
    replayer: Any = object.__new__(savings._Replayer)  # noqa: SLF001 - as above
    replayer.cases = [SimpleNamespace(traffic=traffic, run=lambda _: None, measure_use=measure_use)]
    replayer.plan = SimpleNamespace(scaling=SimpleNamespace(minimum=2))
    note = replayer._find_decline()  # noqa: SLF001 - as above

    assert date in note
    assert bool(note) == bool(date)


@pytest.mark.parametrize(
    ("now", "maximum", "part"), [(0.9, 5, ""), (1.2, 5, "minReplicas 4 "), (1.2, 3, "no minimum up to maxReplicas 3")]
)
def test_a_service_outside_its_slo_is_told_what_brings_it_inside(now: float, maximum: int, part: str) -> None:
    replayer: Any = object.__new__(savings._Replayer)  # noqa: SLF001 - as above
    replayer.plan = SimpleNamespace(scaling=SimpleNamespace(minimum=2, maximum=maximum))
    replayer.empty = ()
    replayer.unit, replayer.current = "GPU", SimpleNamespace(holds=now <= 1, hours=(2.0, 2.0, 2.0))
    replayer._change_fields = lambda field, count: {field: count}  # noqa: SLF001 - as above
    replayer._judge = lambda values: SimpleNamespace(passes=values["minReplicas"] >= 4)  # noqa: SLF001 - as above
    replayer.run = lambda values: SimpleNamespace(hours=(float(values["minReplicas"]),) * 3)
    note = replayer._find_remedy()  # noqa: SLF001 - as above

    assert part in note
    assert bool(note) == bool(part)
    assert "for 2 more GPU-hours" in note or maximum == 3 or not note
    replayer.empty = HALVES[:1]
    assert ("no minimum can be judged" in replayer._find_remedy()) == bool(part)  # noqa: SLF001 - as above


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (savings.HIDDEN_HOURS / 2, "0"),
        (-savings.HIDDEN_HOURS / 2, "0"),
        (12.0, "12"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
    ],
)
def test_a_count_has_three_digits(value: float, text: str) -> None:
    assert savings.format_count(value) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (2, 2, 2, "2"),
        (-2, -2, -2, "2"),
        (2, 1, 3, "2 (1 to 3)"),
        (-2, -3, -1, "2 (1 to 3)"),
        (-2, -3, 1, "2 (-1 to 3)"),
    ],
)
def test_a_range_has_the_sign_of_its_value(value: float, low: float, high: float, text: str) -> None:
    assert savings.format_range(savings.SimulatedRange(value, low, high)) == text
