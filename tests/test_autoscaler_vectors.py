"""The port decides as upstream's own code does: equal to the last bit, not close.

``tests/vectors`` is written by ``tools/vectors``, which calls upstream. JSON's numbers are the shortest that read back as
the same bits, so that ``==`` on what is read compares bits (a zero's sign aside).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.autoscaler import kpa, targets, windows

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).parent / "vectors"


def lines(name: str) -> Iterator[tuple[int, Any]]:
    with (VECTORS / f"{name}.jsonl").open() as file:
        for number, line in enumerate(file, 1):
            yield number, json.loads(line)


def test_windows() -> None:
    steps = 0
    for number, line in lines("windows"):
        kinds = {"timed": windows.TimedBuckets, "weighted": windows.WeightedBuckets, "max": windows.MaxWindow}
        window: Any = kinds[line["kind"]](line["window"], line["granularity"])
        for place, (step, ms, *rest) in enumerate(line["steps"]):
            steps += 1
            match step:
                case "r":
                    window.record(ms / 1000, rest[0])
                case "w":
                    window.resize_window(rest[0], ms / 1000)
                case "a":
                    assert window.window_average(ms / 1000) == rest[0], (number, place)
                case "e":
                    assert window.is_empty(ms / 1000) is rest[0], (number, place)
                case "m":
                    assert window.record(ms / 1000, rest[0]) == rest[1], (number, place)
    assert steps > 12_000


def test_decisions() -> None:
    decisions = 0
    for number, line in lines("kpa"):
        scaler = kpa.Autoscaler(kpa.DeciderSpec(**line["spec"]), line["ready"], created=line["created"] / 1000)
        now = line["created"]
        for place, step in enumerate(line["steps"]):
            if isinstance(step, dict):
                scaler.update(kpa.DeciderSpec(**step))
                continue
            passed, stable, panic, ready, *want = step
            now += passed
            found = scaler.scale(now / 1000, stable, panic, ready)
            decisions += 1
            assert [found.desired_pod_count, found.excess_burst_capacity][: len(want)] == want, (number, place)
            assert found.scale_valid is bool(want), (number, place)
    assert decisions >= 20_000


def test_targets() -> None:
    for number, line in lines("targets"):
        config, revision = targets.Config(**line["config"]), targets.Revision(**line["revision"])
        want = line["want"]
        decider = targets.make_decider(revision, config)
        assert list(dataclasses.astuple(decider)) == want["decider"], number
        assert [*targets.scale_bounds(revision, config)] == want["bounds"], number
        assert targets.panic_window(revision, config) == want["panic"], number
        assert [-1, kpa.initial_excess_burst_capacity(decider)] == want["status"], number
