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

    gpus, traffic = 1.0, SimpleNamespace(seconds=100.0)
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

    def measure_halves(self, _: object) -> dict[str, float]:
        return dict(zip(HALVES, (0.1, 0.3 if self.minimum > 1 or self.index == 0 else 0.6), strict=True))

    def is_renderable(self, _: object) -> bool:
        return True


@pytest.mark.parametrize(("spare", "minimum"), [(0.5, 2), (0.4, 1), (0.9, None)])
def test_a_change_passes_the_judge_with_every_seed(spare: float, minimum: int | None) -> None:
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
