"""Input of simulations: a spec's document, a profile, traffic and a server model, with settings applied as values.

Values are written into the spec's document, which is then translated. The simulated setting is therefore the one that
would be rendered, and a setting with errors is not simulated.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.core.documents import load_document
from ebbtide.simulator.data import SimulationResult, SimulationUsage, StartUp, TrafficTrace
from ebbtide.simulator.engine import engine
from ebbtide.simulator.engine import setting as settings
from ebbtide.simulator.engine.slo import SimulationMeasurements, SloBound, measure_bounds, measure_result
from ebbtide.simulator.traffic.load import slice_traffic

#: Parts of the traffic on which a change is judged.
HALVES: Final = ("the first half", "the second half")

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.core.profile.models import Profile
    from ebbtide.simulator.engine.setting import Setting
    from ebbtide.simulator.traffic.server_model import Server


@dataclass(frozen=True, slots=True)
class Case:
    """Input that is the same for every setting. ``gpus`` is the number of GPUs per replica."""

    document: dict[str, Any]
    """Spec in native format."""
    profile: Profile
    traffic: TrafficTrace
    server: Server
    start_up: StartUp
    seed: int = 0
    bounds: tuple[SloBound, ...] = ()
    gpus: float = 0.0
    gpu_hour: float | None = None
    fast: bool = False
    """True to compile the engine, which takes time once and pays off for many simulations or requests."""

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """Return the setting with ``values``; None removes a field. Raises NotSimulated if the spec does not render."""
        document = copy.deepcopy(self.document)
        autoscaling = document["spec"].setdefault("autoscaling", {})
        for name, value in values.items():
            if value is None:
                autoscaling.pop(name, None)
            else:
                autoscaling[name] = value
        loaded = load_document(document, self.profile)
        if loaded.inference is None:
            reasons = "; ".join(f"{problem.path}: {problem.message}" for problem in loaded.problems)
            raise settings.NotSimulated("spec", reasons)
        return settings.read_spec_setting(loaded.inference, self.profile)

    def is_renderable(self, values: Mapping[str, Any]) -> bool:
        """Return whether the values are valid in combination."""
        try:
            self.setting(values)
        except settings.NotSimulated:
            return False
        return True

    def run(self, values: Mapping[str, Any], start_up: StartUp | None = None) -> SimulationResult:
        """Simulate the setting with ``values``. Raises NotSimulated and ServerError."""
        return self.simulate_setting(self.setting(values), start_up)

    def simulate_setting(self, setting: Setting, start_up: StartUp | None = None) -> SimulationResult:
        """Simulate a setting. Raises ServerError."""
        start_up = start_up or self.start_up
        return engine.simulate(setting, self.traffic, self.server, start_up, self.seed, fast=self.fast)

    def measure(self, result: SimulationResult) -> SimulationMeasurements:
        return measure_result(result, self.bounds, self.gpus, self.gpu_hour)

    def measure_use(self, result: SimulationResult, edges: Sequence[float]) -> list[float]:
        """Return the used share of the allowance of the requests that arrive from each edge, in seconds, to the next one.

        The uptime is that of the whole simulation.
        """
        places = np.searchsorted(self.traffic.times, edges)
        parts = (replace(result, **slice_requests(result, *pair)) for pair in pairwise(places))
        return [max((each.used for each in measure_bounds(part, self.bounds)), default=0.0) for part in parts]

    def list_empty(self, names: Sequence[str], edges: Sequence[float]) -> list[str]:
        """Return the names of the parts between edges in which no request arrives."""
        counts = np.diff(np.searchsorted(self.traffic.times, edges))
        return [name for name, count in zip(names, counts, strict=True) if not count]

    def measure_halves(self, result: SimulationResult) -> dict[str, float]:
        """Return the used share of the allowance on each half of the traffic."""
        return dict(zip(HALVES, self.measure_use(result, self.halves), strict=True))

    @property
    def halves(self) -> tuple[float, float, float]:
        """Edges of the halves of the traffic, in seconds."""
        return 0.0, self.traffic.seconds / 2, self.traffic.seconds + 1.0

    def evaluate(self, values: Mapping[str, Any]) -> SimulationMeasurements:
        """Simulate and measure the setting with ``values``."""
        return self.measure(self.run(values))

    def service_seconds(self) -> float:
        """Return the mean service time, in seconds, of a request that has the server to itself. Raises ServerError."""
        return float(self._alone().mean())

    def alone_within(self, bound: SloBound) -> float:
        """Return the fraction of requests within a percentile bound if no request ever waited. Raises ServerError."""
        served = self._alone()
        alone = served + self.server.overhead
        split = self.server.split_tokens(self.traffic)
        if bound.kind != "latency" and split is not None:
            share, output = split
            first = served * share
            first_at_client = first + self.server.overhead
            alone = first_at_client if bound.kind == "ttft" else (served - first) / np.maximum(output - 1, 1.0)
        return float((alone <= bound.limit).mean())

    def _alone(self) -> NDArray[np.float64]:
        return self.server.alone(self.traffic, np.random.default_rng(self.seed))

    def cut(self, start: float, end: float) -> Case:
        """Return the case with only the traffic from ``start`` to ``end`` in seconds."""
        return replace(self, traffic=slice_traffic(self.traffic, start, end))


def subtract_first_part(whole: SimulationResult, first: SimulationResult) -> SimulationResult:
    """Return the result for the rest of the traffic, given the result ``first`` of its first part.

    The rest therefore starts with the pods that the first part left, not with an idle service.
    """
    used = {each.name: getattr(whole, each.name) - getattr(first, each.name) for each in fields(SimulationUsage)}
    return replace(whole, **slice_requests(whole, len(first.latency), None), **used)


def slice_requests(result: SimulationResult, start: int, stop: int | None) -> dict[str, Any]:
    """Return the fields of a result that have a value for each request, for the requests from ``start`` to ``stop``."""
    names = ("latency", "wait", "cold", "lost", "first_token", "inter_token", "tokens")
    return {name: values[start:stop] for name in names if (values := getattr(result, name)) is not None}
