"""Law: the controller on the simulated cluster writes the floors that ``simulate`` decides for the same series.

Specs are rendered and applied to the simulated cluster, and the controller reads them from its cache. The same specs become
settings of the simulator, whose floors follow the same values of the same pods. ``EBBTIDE_FUZZ=long`` tests 10,000 series.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

import evidence
from ebbtide.cluster.client.protocol import POD, POD_AUTOSCALER, REVISION
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.measure import USE
from ebbtide.cluster.controller.process import KINDS
from ebbtide.cluster.read.inventory import format_timestamp, parse_timestamp
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.slo.source import SourceError
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.write.apply import Workload
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, FloorMetric
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.models import ProfileSpec, Projects
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from ebbtide.sandbox.state import PodLife
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.engine import setting as of_setting
from ebbtide.simulator.engine.engine import FloorSimulation, describe_pod
from ebbtide.simulator.engine.inputs import prepare_inputs
from ebbtide.simulator.traffic.servers import parse_server
from live_cluster import PROFILE, spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
#: Workloads of one cluster, clusters, and decisions of each workload.
WORKLOADS = 25
CLUSTERS = 400 if LONG else 16
DECISIONS = 24
SPACE = "team-shop"
#: With queue-proxy's 25m, a pod requests one core, of which the simulator computes the utilization.
CPU_CORES = 0.975
LATENCY = {"metric": "latency", "threshold": 250}
GPU = {"metric": "gpu-utilization", "threshold": 70}
CPU = {"metric": "cpu-utilization", "threshold": 60}
TOTAL = {
    "query": 'sum(queue{name="{workload}"})',
    "queryResult": "total",
    "pods": 'queue{name="{workload}"}',
    "threshold": 20,
}
AVERAGE = {
    "query": 'avg(cache{name="{workload}"})',
    "queryResult": "average",
    "pods": 'cache{name="{workload}"}',
    "threshold": 0.5,
}
BEHAVIOR = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]},
    "scaleDown": {
        "stabilizationWindowSeconds": 30,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    },
}
SCHEDULE = [
    {"start": "*/5 * * * *", "end": "3-59/5 * * * *", "timeZone": "Europe/Berlin", "minReplicas": 2},
    {"start": "4 * * * *", "end": "6 * * * *", "timeZone": "America/New_York", "minReplicas": 4},
]
#: The scaling settings; each series draws one of them, and its own bounds.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"metrics": [LATENCY]},
    {"metrics": [GPU]},
    {"metrics": [CPU]},
    {"metrics": [TOTAL]},
    {"metrics": [AVERAGE], "behavior": BEHAVIOR},
    {"metrics": [LATENCY, GPU]},
    {"metrics": [CPU, LATENCY], "behavior": BEHAVIOR},
    {"metrics": [LATENCY], "schedule": SCHEDULE},
    {"metrics": [TOTAL, CPU], "schedule": SCHEDULE, "behavior": BEHAVIOR},
    {"metrics": [{"metric": "concurrency", "threshold": 8}, GPU, TOTAL]},
    {"metrics": [LATENCY], "scaleDownDelaySeconds": 45},
)


def read_profile() -> Profile:
    """Return the profile of a cluster with the controller; missing values soon lead to the KPA alone."""
    data = {
        **PROFILE,
        "spec": {
            **PROFILE["spec"],
            "autoscaling": {"controller": True, "fallbackSeconds": 90},
            "projects": {**PROFILE["spec"].get("projects", {}), "queries": "any"},
            "kserve": {**PROFILE["spec"]["kserve"], "annotationDisallowList": [keys.SPEC, keys.SCALE, keys.FLOOR]},
            "nodePools": [{"name": "gpus", "product": "NVIDIA-L4", "devices": 8}],
            "knative": {
                **PROFILE["spec"]["knative"],
                "version": "1.24",
                "observability": {"request-metrics-protocol": "prometheus"},
            },
        },
    }
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    return profile


#: The result of a query; a text is an error.
Rows: TypeAlias = "list[tuple[Mapping[str, str], float]] | str"


class Values:
    """Prometheus' results by query; a text is an error."""

    def __init__(self) -> None:
        self.rows: dict[str, Rows] = {}

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        rows = self.rows.get(query, [])
        if isinstance(rows, str):
            raise SourceError(rows)
        return rows


class Mirror(FloorSimulation):
    """The simulator's floor for given pods and values, instead of those of simulated traffic."""

    view: tuple[int, dict[str, hpa.HpaPod], list[Any]] = (0, {}, [])

    @property
    def floor_value(self) -> int:
        """The floor as Knative's reconciler reads it."""
        return self.deciding.rules.min_replicas

    @property
    def replicas(self) -> int:
        return self.view[0]

    def measure(self, signals: Sequence[of_setting.Metric]) -> tuple[dict[str, hpa.HpaPod], list[Any]]:
        assert len(signals) == len(self.view[2])
        return self.view[1:]

    def step_at(self, now: float, replicas: int, pods: dict[str, hpa.HpaPod], values: list[hpa.Measured]) -> int:
        """Decide at ``now``, and return the floor."""
        self.world.state.now = self.inputs.lead + round(now) * SECOND
        self.view = (replicas, pods, values)
        self.decide()
        return self.floor_value


def make_mirror(workload: Workload, profile: Profile) -> Mirror:
    """Return the simulation of rendered objects, without traffic."""
    setting = of_setting.from_objects(workload.objects, profile.spec)
    traffic = TrafficTrace("none", np.zeros(0), seconds=1.0)
    return Mirror(setting, prepare_inputs(setting, traffic, parse_server("fixed:100ms"), StartUp(), 0))


@dataclass(slots=True)
class Series:
    """The values of one workload: random walks with spikes and gaps, and the replicas that its KPA asks for."""

    draws: random.Random
    workload: Workload
    mirror: Mirror
    revision: str = ""
    levels: list[float] = field(default_factory=list)
    kpa: int = 0

    @property
    def metrics(self) -> tuple[FloorMetric, ...]:
        assert self.mirror.setting.floor is not None
        return self.mirror.setting.floor.metrics

    def advance(self) -> list[float]:
        """Return each metric's next value as a share of its target."""
        draw = self.draws
        self.kpa = max(0, min(3, self.kpa + draw.choice((-1, 0, 0, 1))))
        self.levels = self.levels or [draw.choice((0.0, 0.5, 1.0)) for _ in self.metrics]
        for place, level in enumerate(self.levels):
            walked = max(0.0, level + draw.uniform(-0.35, 0.35))
            self.levels[place] = walked if draw.random() < 0.8 else draw.choice((0.0, 1.0, 1.09, 1.11))
        return [level * draw.choice((3.0, 8.0)) if draw.random() < 0.08 else level for level in self.levels]


class Bench:
    """A simulated cluster with many workloads, the controller on its cache, and the simulation of each workload."""

    def __init__(self, seed: int) -> None:
        self.draws = random.Random(seed)  # noqa: S311 - a test's own series
        self.clock, self.values, profile = ManualClock(), Values(), read_profile()
        self.cluster = Simulated(
            self.clock, gpus={}, life=PodLife(pull=12.0, start=self.draws.choice((1.0, 20.0, 50.0)), end=20.0)
        )
        self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "node-1"},
                "status": {"allocatable": {"cpu": "900", "memory": "9Ti", "nvidia.com/gpu": "900"}},
            }
        )
        self.cluster.paths[USE] = {"items": []}
        self.series = [self._apply(profile, number) for number in range(WORKLOADS)]
        self.clock.sleep(75)
        self.cluster.settle()
        for revision in self.cluster.list(REVISION, SPACE).items:
            # KServe adds the component to the name of its Knative Service.
            name = revision["metadata"]["labels"][keys.KNATIVE_SERVICE].removesuffix("-predictor")
            next(row for row in self.series if row.workload.plan.name == name).revision = revision["metadata"]["name"]
        cache = Cache(self.cluster, self.clock, threads=False, kinds=KINDS)
        cache.start()
        self.cache = cache
        self.controller = Controller(
            self.cluster,
            self.values,
            self.clock,
            ProfileSpec(projects=Projects(queries="any")),
        )
        self.lost: set[str] = set()

    def _apply(self, profile: Profile, number: int) -> Series:
        """Apply a spec with drawn settings, as it is rendered for the cluster."""
        draws = self.draws
        low = draw if (draw := draws.randint(-2, 2)) > 0 else 0
        scaling = {**draws.choice(SETTINGS), "minReplicas": low, "maxReplicas": draws.randint(4, 8)}
        document = spec(
            f"w{number}",
            autoscaling=scaling,
            compute={"gpuDevicesRequest": 1, "cpuCoreRequest": CPU_CORES},
            serving=draws.choice(("knative", "kserve")),
        )
        batch = Batch(profile)
        objects, translation, problems = batch.add_document(load_document(document, batch.profile))
        assert translation is not None
        assert translation.plan is not None, problems
        workload = Workload(tuple(objects), translation.plan)
        for item in workload.objects:
            self.cluster.apply(item)
        return Series(draws, workload, make_mirror(workload, profile))

    def step(self) -> None:
        """Let a decision's period pass, present the next values, and compare the floors."""
        self.clock.sleep(PERIOD_SECONDS)
        self.cluster.settle()
        for name in ("latency", "gpu-utilization", "cpu"):
            if self.draws.random() < (0.2 if name in self.lost else 0.04):
                self.lost ^= {name}
        pods: dict[str, list[Object]] = {}
        for pod in self.cluster.list(POD, SPACE).items:
            pods.setdefault(pod["metadata"]["labels"][keys.KNATIVE_REVISION], []).append(pod)
        desired = {
            scaler["metadata"]["name"]: get_at(scaler, "status", "desiredScale", default=0)
            for scaler in self.cluster.list(POD_AUTOSCALER, SPACE).items
        }
        self.values.rows = {}
        self.use: list[Object] = []
        now, expected = self.clock.now(), {}
        for row in self.series:
            own = [pod for pod in pods.get(row.revision, []) if "deletionTimestamp" not in pod["metadata"]]
            views = {pod["metadata"]["name"]: describe(pod) for pod in own}
            measured = [
                self._present(row, metric, share, views)
                for metric, share in zip(row.metrics, row.advance(), strict=True)
            ]
            expected[row.revision] = row.mirror.step_at(now, desired[row.revision], views, measured)
        self.cluster.paths.pop(USE, None)
        if "cpu" not in self.lost:
            self.cluster.paths[USE] = {"items": self.use}
        self.controller.step(self.cache.statuses.workloads_with(keys.FLOOR))
        notes = {
            item["metadata"]["name"]: item["metadata"]["annotations"]
            for item in self.cluster.list(REVISION, SPACE).items
        }
        different = {
            row.revision: (row.mirror.setting.floor, row.mirror.decision, notes[row.revision], row.mirror.view)
            for row in self.series
            if int(notes[row.revision].get(keys.MIN_SCALE, "0")) != expected[row.revision]
        }
        assert not different, repr(different)
        for row in self.series:
            # The KPA uses the larger of the floor and its own decision.
            self.cluster.scale(SPACE, row.revision, row.kpa)

    def _present(self, row: Series, metric: FloorMetric, share: float, views: Mapping[str, hpa.HpaPod]) -> hpa.Measured:
        """Present a metric's values to the controller, and return them as the simulator has them."""
        draws, now = row.draws, self.clock.now()
        query = "" if metric.scope == "resource" else self.controller.queries.make(metric, SPACE, row.revision)
        if metric.scope in {"average", "total"}:
            value = share * metric.target * (max(len(views), 1) if metric.scope == "total" else 1)
            missing = draws.random() < 0.08
            gaps: list[Rows] = [[], [({}, 1.0), ({}, 2.0)], "no answer"]
            scraped = evidence.make_rows({}, now, SPACE, scraped=dict.fromkeys(views, now))
            self.values.rows[query] = draws.choice(gaps) if missing else [({}, value), *scraped]
            return None if missing else round(value * 1000)
        if metric.name in self.lost:
            self.values.rows[query] = "no answer"
            return None
        ready = [name for name, pod in views.items() if pod.ready == "True"]
        if len(ready) > 1 and draws.random() < 0.15:
            ready.pop()
        samples = {}
        for name in ready:
            value = share * metric.target * draws.choice((1.0, 1.0, 0.9, 1.2))
            # The controller takes a percentage above 100 for no value.
            value = min(value, 100.0) if metric.name == "gpu-utilization" else value
            if metric.scope == "resource":
                sample = hpa.Sample(int(value * 10), self.clock.now() - draws.randrange(15), 15.0)
                usage = {"cpu": f"{sample.value}m"}
                self.use.append(
                    {
                        "metadata": {"namespace": SPACE, "name": name},
                        "timestamp": format_timestamp(sample.timestamp),
                        "window": "15s",
                        "containers": [{"usage": usage}],
                    }
                )
            else:
                rows = self.values.rows.setdefault(query, [])
                assert isinstance(rows, list)
                rows += evidence.make_rows({name: value}, now, SPACE)
                sample = hpa.Sample(round(value * 1000))
            samples[name] = sample
        return samples


def describe(pod: Object) -> hpa.HpaPod:
    """Return a pod of the cluster as the simulator describes its own."""
    ready = find_condition(pod, "Ready")
    since = parse_timestamp(ready["lastTransitionTime"]) if ready.get("status") == "True" else None
    runs = pod["status"]["phase"] == "Running"
    return describe_pod(parse_timestamp(pod["metadata"]["creationTimestamp"]), since, runs=runs)


@pytest.mark.parametrize("seed", range(CLUSTERS))
def test_the_controller_writes_the_floors_of_the_simulation(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A query can be simulated only if its meaning is known: here, its values are given.
    monkeypatch.setitem(of_setting.FLOOR_SIGNALS, "query", "latency")
    bench = Bench(seed)
    for _ in range(DECISIONS):
        bench.step()
