"""The measurement of a GPU: its loop and its comparison, on an engine whose times are known. No GPU is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from programs import load_module

np = pytest.importorskip("numpy")

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(__file__).parent.parent / "tools" / "gpu-truth" / "gpu_truth.py"


gpu_truth = load_module(PROGRAM)


class KnownEngine:
    """Takes the time of a formula, on its own clock."""

    def __init__(self, slots: int, prefill: Callable[[int], float], step: Callable[[int, float], float]) -> None:
        self.now = 0.0
        self.contexts = [0] * slots
        self.prefill_time, self.step_time = prefill, step
        self.prompts: list[int] = []

    def prefill(self, slot: int, prompt: int) -> None:
        self.now += self.prefill_time(prompt)
        self.contexts[slot] = prompt
        self.prompts.append(prompt)

    def decode(self) -> None:
        self.now += self.step_time(len(self.contexts), float(sum(self.contexts)))
        self.contexts = [context + 1 for context in self.contexts]


def points_of(prefill: Callable[[int], float], step: Callable[[int, float], float]) -> list[Any]:
    engines: list[KnownEngine] = []

    def make(slots: int, length: int) -> KnownEngine:
        assert length >= 64 + 32
        engines.append(KnownEngine(slots, prefill, step))
        return engines[-1]

    found: list[Any] = gpu_truth.measure_points(make, lambda: engines[-1].now)
    return found


def test_one_request_has_the_times_of_the_engine() -> None:
    engine = KnownEngine(1, lambda prompt: 0.01 + prompt * 1e-5, lambda n, _: 0.002 * n)
    point = gpu_truth.measure_point(engine, (100, 20, 1), lambda: engine.now)
    assert point.first == pytest.approx(0.011)
    # No prompt of another request comes between two of its tokens.
    assert point.step == pytest.approx(0.002)
    assert set(engine.prompts) == {100}


def test_prompts_of_others_come_between_tokens() -> None:
    engine = KnownEngine(2, lambda prompt: prompt * 1e-4, lambda *_: 0.002)
    point = gpu_truth.measure_point(engine, (100, 21, 2), lambda: engine.now)
    assert point.first == pytest.approx(0.01)
    # One prompt of the other request in 20 gaps.
    assert point.step == pytest.approx(0.002 + 0.01 / 20, rel=0.05)


def test_the_form_predicts_the_other_half_of_a_server_of_its_kind() -> None:
    points = points_of(lambda prompt: 0.005 + 4e-5 * prompt, lambda n, context: 0.008 + 2e-4 * n + 2e-8 * context)
    assert len(points) == len(gpu_truth.PROMPTS) * len(gpu_truth.OUTPUTS) * len(gpu_truth.BATCHES)
    errors = gpu_truth.compare_halves(points)
    assert gpu_truth.is_met(errors), errors
    assert errors.step.median < 0.05


def test_a_server_of_another_kind_misses_the_goal() -> None:
    draws = np.random.default_rng(1)
    points = points_of(lambda _: draws.exponential(0.05), lambda *_: draws.exponential(0.01))
    noisy = [point._replace(first=point.first * draws.exponential(1.0)) for point in points]
    assert not gpu_truth.is_met(gpu_truth.compare_halves(noisy))


def test_a_share_of_the_time() -> None:
    assert gpu_truth.run_share(lambda: None, 0.25, 0.5) == pytest.approx(0.25, abs=0.15)


def test_results_have_the_device_and_the_verdict() -> None:
    points = points_of(lambda prompt: 0.005 + 4e-5 * prompt, lambda n, context: 0.008 + 2e-4 * n + 2e-8 * context)
    loads = [gpu_truth.Utilization("decode", 25.04, 31.27)]
    results = gpu_truth.describe("NVIDIA Example", points, {"total": 81559.2}, loads)
    assert (results["device"], results["met"]) == ("NVIDIA Example", True)
    assert results["utilizationPercent"] == [{"load": "decode", "busy": 25.0, "reported": 31.3}]
    assert len(results["points"]) == len(points)


def test_without_a_gpu_it_says_so_and_changes_nothing(tmp_path: Path) -> None:
    if not isinstance(gpu_truth.find_device(), str):
        pytest.skip("there is a GPU")
    command = [sys.executable, str(PROGRAM), "--write", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == gpu_truth.UNAVAILABLE
    assert done.stderr.startswith("nothing was measured: ")
    assert done.stderr.count("\n") == 1
    assert (done.stdout, list(tmp_path.iterdir())) == ("", [])
