"""One question to the simulator: a spec's document, a cluster, traffic and a server; settings are tried by their values.

A value of the spec is written into the document and the document translated, so that what is simulated is what would be
rendered, and what would be refused is not simulated.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ebbtide.documents import load
from ebbtide.simulate import engine
from ebbtide.simulate import setting as settings
from ebbtide.simulate.data import Result, StartUp, Traffic
from ebbtide.simulate.load import between
from ebbtide.simulate.slo import Bound, Measured, measure
from ebbtide.translation import gpu

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ebbtide.profile.models import Profile
    from ebbtide.simulate.servers import Server
    from ebbtide.simulate.setting import Setting

#: Keys of ``config-autoscaler`` that a search may move, and the field that each sets.
CLUSTER: Final = {
    "stable-window": "stable_window",
    "panic-window-percentage": "panic_window_percentage",
    "panic-threshold-percentage": "panic_threshold_percentage",
}


@dataclass(frozen=True, slots=True)
class Case:
    """What stays the same from one setting to the next. ``gpus`` is what one replica has of them."""

    document: dict[str, Any]
    """The spec in native form."""
    profile: Profile
    traffic: Traffic
    server: Server
    start_up: StartUp
    seed: int = 0
    bounds: tuple[Bound, ...] = ()
    gpus: float = 0.0
    gpu_hour: float | None = None
    fast: bool = False
    """Whether to compile the engine: that takes a while once, and is worth it for many simulations or requests."""

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """Return the setting with ``values``; None takes a field out. Raises NotSimulated where it would not render."""
        document = copy.deepcopy(self.document)
        block = document["spec"].setdefault("autoscaling", {})
        for name, value in values.items():
            if name in CLUSTER:
                continue
            if value is None:
                block.pop(name, None)
            else:
                block[name] = value
        loaded = load(document, self.profile)
        if loaded.inference is None:
            reasons = "; ".join(f"{problem.path}: {problem.message}" for problem in loaded.problems)
            raise settings.NotSimulated("spec", reasons)
        made = settings.of(loaded.inference, self.profile)
        cluster = {CLUSTER[name]: value for name, value in values.items() if name in CLUSTER}
        return replace(made, config=replace(made.config, **cluster)) if cluster else made

    def valid(self, values: Mapping[str, Any]) -> bool:
        """Say whether the values go together."""
        try:
            self.setting(values)
        except settings.NotSimulated:
            return False
        return True

    def run(self, values: Mapping[str, Any], start_up: StartUp | None = None) -> Result:
        """Simulate the setting with ``values``. Raises NotSimulated and ServerError."""
        return self.of(self.setting(values), start_up)

    def of(self, setting: Setting, start_up: StartUp | None = None) -> Result:
        """Simulate a setting. Raises ServerError."""
        start_up = start_up or self.start_up
        return engine.simulate(setting, self.traffic, self.server, start_up, self.seed, fast=self.fast)

    def measure(self, result: Result) -> Measured:
        """Return what a result comes to."""
        return measure(result, self.bounds, self.gpus, self.gpu_hour)

    def evaluate(self, values: Mapping[str, Any]) -> Measured:
        """Simulate and measure the setting with ``values``."""
        return self.measure(self.run(values))

    def service_seconds(self) -> float:
        """Return what a request takes alone, on average. Raises ServerError."""
        return float(self._alone().mean())

    def alone_within(self, seconds: float) -> float:
        """Return the fraction of requests that would take at most so long if none ever waited. Raises ServerError."""
        return float((self._alone() <= seconds).mean())

    def _alone(self) -> NDArray[np.float64]:
        return self.server.alone(self.traffic, np.random.default_rng(self.seed))

    def cluster(self) -> dict[str, float]:
        """Return how the cluster is set, by the keys that a search may move."""
        config = self.setting({}).config
        return {key: getattr(config, name) for key, name in CLUSTER.items()}

    def until(self, seconds: float) -> Case:
        """Return the case with the traffic's first ``seconds`` only."""
        return replace(self, traffic=between(self.traffic, 0.0, seconds))


def after(whole: Result, first: Result) -> Result:
    """Return what came of the rest of the traffic, ``first`` being the result of its first part alone.

    So the rest begins with the pods that the first part left, not with an idle service, and what the first part's last
    replies take after its end is the rest's.
    """
    start = len(first.latency)
    assert first.at_end is not None
    return Result(
        latency=whole.latency[start:],
        wait=whole.wait[start:],
        cold=whole.cold[start:],
        lost=whole.lost[start:],
        timeline=whole.timeline,
        **whole.since(first.at_end),
    )


#: How many GPUs one replica holds.
gpus_of = gpu.per_replica
