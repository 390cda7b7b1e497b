"""The demonstration cluster: three projects, their services, and the events of a simulated past.

Each service is a spec, translated like any other; the table adds its traffic and its server's behavior. Each row of
``EVENTS`` happens at a fraction of the simulated past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ebbtide.cluster.client.protocol import KSERVE, NODE, Clock
from ebbtide.cluster.slo.source import Ref
from ebbtide.cluster.write import projects, revisions
from ebbtide.core.base import keys
from ebbtide.core.documents import profiles
from ebbtide.core.profile.models import Profile
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.clocks import RealClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.replicas import SimulatedBehavior
from ebbtide.sandbox.store import make_bare
from ebbtide.sandbox.world import World
from ebbtide.simulator.data import StartUp

HOUR_SECONDS: Final = 3600.0
#: Length of the end of the past, in seconds, for which requests appear in pods' logs.
LOGGED_SECONDS: Final = 900.0

_FEATURES: Final = (
    "affinity",
    "fieldref",
    "init-containers",
    "nodeselector",
    "persistent-volume-claim",
    "persistent-volume-write",
    "priorityclassname",
    "runtimeclassname",
    "schedulername",
    "securitycontext",
    "tolerations",
)


def _make_pool(name: str, product: str, mebibytes: int, devices: int, **options: Any) -> dict[str, Any]:
    pool = {"name": name, "product": product, "gpuMemoryMebibytes": mebibytes, "devices": devices, **options}
    return {**pool, "selector": {"demo.ebbtide.dev/pool": name}}


PROFILE: Final[dict[str, Any]] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": "demo"},
    "spec": {
        "kubernetes": {"version": "1.37"},
        "knative": {
            "version": "1.24",
            "features": {f"kubernetes.podspec-{name}": "enabled" for name in _FEATURES},
            "observability": {"request-metrics-protocol": "prometheus"},
            # In memory, more pods would be slow.
            "autoscaler": {"max-scale": "200", "max-scale-limit": "200"},
        },
        "kserve": {
            "version": "0.20",
            "modes": ["Knative"],
            "annotationDisallowList": [keys.SPEC, keys.SCALE, keys.FLOOR],
        },
        "metrics": {"gatewayLatency": "envoy_cluster_upstream_rq_time"},
        "nodePools": [
            _make_pool("shared", "NVIDIA-A100-SXM4-80GB", 81920, 1, nodes=2, backend="time-slicing", replicas=4),
            _make_pool("whole", "NVIDIA-L40S", 46068, 2, nodes=1, backend="devices"),
        ],
        "scheduling": {"scheduler": "default-scheduler", "classesOwner": "cluster"},
        "projects": {
            "namespace": "{project}",
            "manage": True,
            "quota": "resourcequota",
            "known": {
                "team-a": {"gpus": 2, "cpu": 32, "memory": "128Gi"},
                "team-b": {"gpus": 2, "cpu": 24, "memory": "96Gi"},
                "research": {"gpus": 1, "cpu": 16, "memory": "64Gi"},
            },
        },
        "domain": "demo.example.com",
    },
}


@dataclass(frozen=True, slots=True)
class DemoService:
    """One service of the demonstration: its spec's fields, and its simulated behavior."""

    project: str
    name: str
    spec: dict[str, Any]
    behavior: SimulatedBehavior
    #: Time of its apply, as a fraction of the past; 0 means long before the start.
    at: float = 0.0

    @property
    def document(self) -> dict[str, Any]:
        """The spec as a document."""
        return {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Inference",
            "metadata": {"name": self.name},
            "spec": {"project": self.project, **self.spec},
        }


_QUARTER: Final = {"gpuDevicesRequest": 1, "gpuRequestType": "portion", "gpuPortionRequest": 0.25}


def _make_start_up(pull: float, load: float) -> StartUp:
    return StartUp(schedule=1.0, pull=pull, load=load, ready=0.0)


def _make_compute(cores: float = 0.5, memory: str = "1Gi", gpu: dict[str, Any] | None = None) -> dict[str, Any]:
    return {**(gpu or {}), "cpuCoreRequest": cores, "cpuMemoryRequest": memory}


def _make_autoscaling(low: int, high: int, metric: str, threshold: int, **more: int) -> dict[str, Any]:
    return {"minReplicas": low, "maxReplicas": high, "metric": metric, "metricThreshold": threshold, **more}


SERVICES: Final = (
    DemoService(
        "team-a",
        "chat",
        {
            "image": "ghcr.io/acme/vllm-openai:0.11",
            "args": "--model Qwen/Qwen2.5-7B-Instruct-AWQ --gpu-memory-utilization 0.22",
            "servingPort": {"container": 8000},
            "compute": _make_compute(2, "12Gi", _QUARTER),
            "autoscaling": _make_autoscaling(1, 3, "concurrency", 4, scaleDownDelaySeconds=120),
            "slo": {"meanLatencyMilliseconds": 2500, "p95LatencyMilliseconds": 5000, "uptimePercent": 99.5},
        },
        SimulatedBehavior(
            "diurnal:0.1rps..2.4rps,6h,4h",
            "lognormal:median=1.5s,sigma=0.5,max=8,slow=8:1.8,util=1:0.35/8:0.95",
            _make_start_up(6.0, 35.0),
            "/v1/chat/completions",
        ),
    ),
    DemoService(
        "team-a",
        "embed",
        {
            "image": "ghcr.io/acme/embedder:2.1",
            "compute": _make_compute(2, "4Gi"),
            "autoscaling": _make_autoscaling(1, 5, "throughput", 1),
            "slo": {"p95LatencyMilliseconds": 1000, "uptimePercent": 99.9},
        },
        SimulatedBehavior(
            "diurnal:0.2rps..2rps,6h,90m", "lognormal:median=120ms,sigma=0.4", _make_start_up(3.0, 8.0), "/embed"
        ),
    ),
    DemoService(
        "team-a",
        "rank",
        {
            "image": "ghcr.io/acme/ranker:3.0",
            "compute": _make_compute(1, "4Gi", _QUARTER),
            "autoscaling": _make_autoscaling(2, 3, "latency", 1000),
            "slo": {"meanLatencyMilliseconds": 400, "p95LatencyMilliseconds": 500, "uptimePercent": 99.9},
        },
        SimulatedBehavior(
            "steps:0.6rps,50m,3rps,25m,0.9rps,45m",
            "lognormal:median=300ms,sigma=0.3,max=1,util=1:0.8",
            _make_start_up(4.0, 12.0),
            "/rank",
        ),
    ),
    DemoService(
        "team-a",
        "summarize",
        {
            "image": "ghcr.io/acme/summarizer:1.2",
            "compute": _make_compute(1, "8Gi", _QUARTER),
            "autoscaling": _make_autoscaling(0, 2, "concurrency", 4, scaleToZeroRetentionSeconds=60),
            "slo": {"timeToFirstTokenMilliseconds": 500, "interTokenMilliseconds": 50},
        },
        SimulatedBehavior(
            "on-off:0.15rps,2m,6m,6h",
            "llm:max=8,base=200ms,output=20ms,util=1:0.4/8:0.9,tokens=2000/180",
            _make_start_up(2.0, 14.0),
            "/summarize",
        ),
    ),
    DemoService(
        "team-b",
        "iris",
        {
            "model": {"format": "sklearn", "uri": "gs://kfserving-examples/models/sklearn/1.0/model"},
            "compute": _make_compute(1, "2Gi"),
            "autoscaling": _make_autoscaling(0, 3, "concurrency", 2),
        },
        SimulatedBehavior(
            "diurnal:0rps..1.2rps,6h,2h",
            "lognormal:median=90ms,sigma=0.6",
            _make_start_up(2.0, 6.0),
            "/v1/models/iris:predict",
        ),
    ),
    DemoService(
        "team-b",
        "search",
        {
            "image": "ghcr.io/acme/search:7.3",
            "compute": _make_compute(1, "2Gi"),
            "autoscaling": _make_autoscaling(1, 6, "concurrency", 1),
            "slo": {"meanLatencyMilliseconds": 600, "p95LatencyMilliseconds": 1500, "uptimePercent": 99.5},
        },
        SimulatedBehavior(
            "diurnal:0.2rps..2rps,6h,3h", "lognormal:median=400ms,sigma=0.5", _make_start_up(2.0, 5.0), "/search"
        ),
    ),
    DemoService(
        "team-b",
        "vision",
        {
            "image": "ghcr.io/acme/detector:5.0",
            "nodePools": ["whole"],
            "compute": _make_compute(2, "8Gi", {"gpuDevicesRequest": 1}),
            "autoscaling": _make_autoscaling(1, 2, "gpu-utilization", 60),
        },
        SimulatedBehavior(
            "diurnal:0.2rps..1.6rps,6h,5h",
            "lognormal:median=600ms,sigma=0.3,max=4,util=1:0.75/4:1",
            _make_start_up(5.0, 20.0),
            "/detect",
        ),
    ),
    DemoService(
        "team-b",
        "ocr",
        {
            "image": "ghcr.io/acme/ocr:1.9",
            "serving": "kserve",
            "compute": _make_compute(),
            "autoscaling": _make_autoscaling(1, 2, "concurrency", 2),
        },
        SimulatedBehavior("poisson:0.2rps,1h", "lognormal:median=900ms,sigma=0.4", _make_start_up(2.0, 6.0), "/ocr"),
    ),
    DemoService(
        "research",
        "notes",
        {
            "image": "ghcr.io/acme/notes:0.4",
            "compute": _make_compute(),
            "autoscaling": _make_autoscaling(0, 2, "concurrency", 5),
        },
        SimulatedBehavior(
            "on-off:0.4rps,4m,26m,6h", "lognormal:median=200ms,sigma=0.4", _make_start_up(1.0, 3.0), "/notes"
        ),
    ),
    DemoService(
        "research",
        "nightly",
        {
            "image": "ghcr.io/acme/scorer:1.1",
            "priorityClass": "very-low",
            "preemptibility": "preemptible",
            "compute": _make_compute(1, "4Gi", _QUARTER),
            "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
        },
        SimulatedBehavior("none"),
        at=0.96,
    ),
    DemoService(
        "research",
        "translate",
        {
            "image": "ghcr.io/acme/translate:2.0-rc9",
            "compute": _make_compute(),
            "autoscaling": _make_autoscaling(1, 3, "concurrency", 4),
        },
        SimulatedBehavior("poisson:0.5rps,1h"),
        at=0.94,
    ),
)
#: Members of each project.
MEMBERS: Final = {
    "team-a": ("ana", "ben", "group:assistants"),
    "team-b": ("chris", "group:vision"),
    "research": ("dana", "serviceaccount:research:notebook"),
}
#: Images that exist in no registry.
MISSING_IMAGES: Final = frozenset({"ghcr.io/acme/translate:2.0-rc9", "ghcr.io/knative/helloworld-go:lastest"})
#: A training job next to the services: project, name, and number of pods, of a class that every service can preempt.
TRAINING: Final = ("research", "pretrain", 6)


def demo_profile() -> Profile:
    """Return the profile of the demonstration cluster."""
    validated, problems = profiles.validate_profile_data(PROFILE)
    assert validated is not None, problems
    return validated


def demo_world(clock: Clock | None = None, seed: int = 0, hours: float = 3.0) -> World:
    """Return the demonstration at the clock's present, with a simulated past of ``hours``.

    Simulating the past takes some seconds per hour. ``World.start`` lets time continue.
    """
    clock = RealClock() if clock is None else clock
    now = clock.now()
    chosen = demo_profile()
    behaviors = {Ref(service.project, service.name): service.behavior for service in SERVICES}
    world = World(clock, chosen, seed=seed, origin=now - hours * HOUR_SECONDS, behaviors=behaviors)
    world.cluster.missing_images |= MISSING_IMAGES
    for node in _make_nodes(chosen):
        world.cluster.put(node)
    furnish_cluster(world.cluster, chosen)
    world.logging = False
    length = now - world.origin
    actions: list[tuple[float, Callable[[World], None]]] = [
        *(
            (service.at, partial(World.apply, document=service.document, settled=service.at == 0.0))
            for service in SERVICES
        ),
        *EVENTS,
    ]
    for share, action in sorted(actions, key=lambda row: row[0]):
        world.run_until(world.origin + share * length)
        action(world)
    world.run_until(max(world.clock.now(), now - LOGGED_SECONDS))
    world.logging = True
    world.arrive()
    return world


def _start_training(world: World) -> None:
    namespace, name, count = TRAINING
    container = {
        "name": "trainer",
        "image": "ghcr.io/acme/pretrain:12",
        "resources": {"requests": {"cpu": "2", "memory": "16Gi"}, "limits": {keys.GPU_SHARED: "1"}},
    }
    world.train(namespace, name, count, {"priorityClassName": "train", "containers": [container]})


def _add_members(world: World) -> None:
    for name, members in MEMBERS.items():
        members_change = projects.ProjectRequest(name, add=tuple(projects.parse_member(text) for text in members))
        for step in projects.plan_project(world.cluster, members_change, world.profile):
            world.cluster.apply(step.item)


def _start_canary(world: World) -> None:
    service = next(candidate for candidate in SERVICES if candidate.name == "search")
    document = service.document
    traffic = {"canaryPercent": 20, "stableRevision": "search-00001"}
    document["spec"] |= {"image": "ghcr.io/acme/search:7.4", "traffic": traffic}
    world.apply(document)


def _suspend_ocr(world: World) -> None:
    revisions.suspend_workload(world.cluster, world.cluster.get(KSERVE, "ocr", "team-b"))


#: Other events: the time as a fraction of the past, and the action.
EVENTS: Final[list[tuple[float, Callable[[World], None]]]] = [
    (0.0, _add_members),
    (0.05, _start_training),
    (0.7, _start_canary),
    (0.85, _suspend_ocr),
]


# The cluster.


def _make_nodes(chosen: Profile) -> Iterator[Object]:
    """Yield the nodes: those of the pools, and two without GPUs."""
    for pool in chosen.spec.node_pools:
        gpus = {name: str(pool.devices * count) for name, count in BACKENDS[pool.backend].advertises(pool).items()}
        for number in range(pool.nodes):
            labels = {
                **pool.selector,
                keys.GPU_PRODUCT: f"{pool.product}{'-SHARED' if pool.replicas else ''}",
                keys.GPU_MEMORY: str(pool.gpu_memory_mebibytes),
                "nvidia.com/gpu.count": str(pool.devices),
                keys.GPU_REPLICAS: str(pool.replicas or 1),
            }
            yield _make_node(f"gpu-{pool.name}-{number + 1}", labels, {"cpu": "32", "memory": "256Gi", **gpus})
    for number in range(2):
        yield _make_node(f"cpu-{number + 1}", {"demo.ebbtide.dev/pool": "cpu"}, {"cpu": "32", "memory": "128Gi"})


def _make_node(name: str, labels: dict[str, str], allocatable: dict[str, str]) -> Object:
    node = make_bare(NODE, name)
    node["metadata"]["labels"] = {"kubernetes.io/hostname": name, **labels}
    node["status"] = {
        "allocatable": allocatable,
        "capacity": allocatable,
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.37.0"},
    }
    return node
