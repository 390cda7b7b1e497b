"""The bodies of our own paths' answers: what a path returns, what its description says, and what is written.

What commands write too is declared where it is made: a status, a plan, a report.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from ebbtide import manifests
from ebbtide.base.bodies import INLINE, Written, body

# What writes bodies reads these as the program runs.
from ebbtide.base.problems import Problem
from ebbtide.cluster.doctor.findings import Finding
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.read.why import Why
from ebbtide.cluster.write.apply import Planned
from ebbtide.readers.loaded import Loaded
from ebbtide.translation.objects import Object


def _tenth(seconds: float) -> float:
    return round(seconds, 1)


#: Seconds since the cluster was last heard of; 0 while the answer is current.
Age: TypeAlias = Annotated[float, Written(_tenth)]

# Errors.


@body(optional="problems owners done")
class Refusal:
    """An error, by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[Problem] | None = None
    owners: dict[str, tuple[str, ...]] | None = None
    done: tuple[str, ...] | None = None


# Of specs.


@body()
class Problems:
    """What was found."""

    problems: list[Problem]


@body("objects yaml problems")
class Rendered:
    """What specs come to: their objects in apply order, as YAML, and every problem."""

    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]

    @property
    def yaml(self) -> str:
        """The objects as YAML."""
        return "".join(manifests.write([*self.objects]))


@body("different workloads=planned problems")
class Plans:
    """What an apply of specs would do; nothing is planned where they have errors."""

    planned: tuple[Planned, ...]
    problems: tuple[Problem, ...]

    @property
    def different(self) -> bool:
        """Whether anything would change."""
        return any(one.different for one in self.planned)


@body()
class Place:
    """A workload."""

    id: str
    namespace: str
    name: str


@body("done workloads problems")
class Submitted:
    """What an apply did: the objects it wrote, each as ``created Service team-a/chat``."""

    documents: tuple[Loaded, ...]
    planned: tuple[Planned, ...]
    problems: tuple[Problem, ...]
    done: tuple[str, ...]
    #: The workloads' own objects, as the cluster has them then; those that were right already, too.
    tops: tuple[Object, ...]

    @property
    def workloads(self) -> list[Place]:
        """The places of the workloads."""
        found = (top["metadata"] for top in self.tops)
        return [Place(metadata["uid"], metadata["namespace"], metadata["name"]) for metadata in found]


@body()
class Done:
    """What was done."""

    done: tuple[str, ...]


@body()
class Deleted:
    """What a deletion took, and the volume claims that it left."""

    done: tuple[str, ...]
    kept: tuple[str, ...]


# Of workloads.


@body()
class WorkloadStatus:
    """One workload's state, and the UID of its object."""

    id: str
    status: Annotated[Status, INLINE]


@body()
class Statuses:
    """A page of workloads."""

    workloads: list[WorkloadStatus]
    total: int
    next: int | None
    age: Age


@body()
class Event:
    """One event."""

    time: str | None
    type: str
    reason: str
    about: str
    message: str
    count: int


@body()
class Events:
    """Events, oldest first."""

    events: list[Event]
    age: Age


@body()
class Detailed:
    """Everything about one workload."""

    status: Annotated[WorkloadStatus, INLINE]
    spec: dict[str, Any] | None
    events: list[Event]
    age: Age


@body()
class Reasons:
    """Why a workload has its replicas."""

    why: Annotated[Why, INLINE]
    age: Age


@body()
class Series:
    """Series over time: pairs of seconds since 1970 and a value, or null where there was none."""

    namespace: str
    name: str
    units: dict[str, str]
    series: dict[str, list[tuple[float, float | None]]]


# Of the cluster.


@body()
class Findings:
    """What the cluster lacks."""

    findings: tuple[Finding, ...]


@body()
class Usage:
    """What may be used of a resource, and what is, as Kubernetes writes amounts."""

    hard: str
    used: str


@body()
class ProjectUse:
    """One project: its namespace, its quota by resource, and its workloads."""

    name: str
    namespace: str
    quota: dict[str, Usage]
    workloads: int
    phases: dict[str, int]


@body()
class Projects:
    """The projects that the caller may see."""

    projects: list[ProjectUse]
    age: Age


@body("resource amount workload=name namespace pod")
class ShareRow:
    """Who holds a part of a node's GPUs. Where the caller may not see whose it is, ``name`` and ``namespace`` are empty."""

    resource: str
    amount: float
    name: str
    namespace: str
    pod: str


@body("name ready schedulable gpu_product=product allocatable holders")
class NodeRow:
    """One node: what it has of each resource, whether it is ready, and who holds its GPUs."""

    name: str
    ready: bool
    schedulable: bool
    product: str
    allocatable: dict[str, str]
    holders: tuple[ShareRow, ...]


@body()
class Nodes:
    """The nodes."""

    nodes: list[NodeRow]
    age: Age


@body()
class Whoami:
    """Who asks."""

    name: str
    groups: tuple[str, ...]
    read_only: bool


@body()
class Version:
    """Which Ebbtide this is, and of which profile."""

    version: str
    profile: str
    demo: bool
    read_only: bool
