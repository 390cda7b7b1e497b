"""The demonstration cluster: three projects, their services, and the events of a simulated past.

``demo.yaml`` has the profile and the services. Each row of ``EVENTS`` happens at a fraction of the simulated past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final

from ebbtide.cluster.client.protocol import KSERVE, LEASE, NODE, Clock
from ebbtide.cluster.slo.source import Ref
from ebbtide.cluster.write import projects, revisions
from ebbtide.core.base import keys, names
from ebbtide.core.documents import profiles
from ebbtide.core.manifests.reader import read_documents
from ebbtide.core.profile.models import Profile
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.clocks import RealClock
from ebbtide.sandbox.furnished import furnish_cluster
from ebbtide.sandbox.replicas import LEADER, SimulatedBehavior
from ebbtide.sandbox.store import make_bare
from ebbtide.sandbox.world import World
from ebbtide.simulator.data import StartUp

HOUR_SECONDS: Final = 3600.0
#: Length of the end of the past, in seconds, for which requests appear in pods' logs.
LOGGED_SECONDS: Final = 900.0


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
        return {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Inference",
            "metadata": {"name": self.name},
            "spec": {"project": self.project, **self.spec},
        }


def _read_service(row: dict[str, Any]) -> DemoService:
    """Return a service of ``demo.yaml``."""
    behavior = dict(row["behavior"])
    if (times := behavior.pop("startUp", None)) is not None:
        behavior["start_up"] = StartUp(schedule=1.0, ready=0.0, **times)
    return DemoService(**{**row, "behavior": SimulatedBehavior(**behavior)})


_TEXT: Final = files("ebbtide.sandbox").joinpath("demo.yaml").read_bytes()
_DOCUMENTS: Final = [document.data for document in read_documents(_TEXT, "demo.yaml")]
PROFILE: Final[dict[str, Any]] = _DOCUMENTS[0]
SERVICES: Final = tuple(map(_read_service, _DOCUMENTS[1:]))
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

    Simulating the past takes some seconds per hour. ``World.running`` lets time continue.
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
    world.cluster.put(_make_lease())
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
        for step in projects.diff_project(world.cluster, members_change, world.profile):
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


def _make_lease() -> Object:
    """Return the Lease of Ebbtide's controller, which the simulation of each workload includes, so that it never stops."""
    lease = make_bare(LEASE, names.CONTROLLER, "ebbtide")
    lease["metadata"]["labels"] = {keys.APP_NAME: names.CONTROLLER}
    lease["spec"] = {"holderIdentity": LEADER, "renewTime": "2999-01-01T00:00:00.000000Z"}
    return lease


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
