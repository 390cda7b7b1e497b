"""A simulation without an end gives the recorded events, for many operations on its pods."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")

import simulations
from ebbtide.simulator.engine import engine
from ebbtide.simulator.engine.inputs import prepare_inputs


def test_events_are_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_KEPT", 2)
    for number, case in enumerate(simulations.read("streams")):
        kind = engine.KnativeSimulation if case["metric"] == "knative" else engine.HpaSimulation
        events = simulations.follow(kind, prepare_inputs, case)
        assert simulations.summarize_stream(events) == case["result"], number
