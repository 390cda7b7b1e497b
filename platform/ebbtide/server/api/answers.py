"""Response bodies of Ebbtide's own paths; each class declares the return type, the OpenAPI schema and the JSON.

Bodies that commands write too (a status, a plan, a report) are declared where they are computed.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from ebbtide.cluster.client.protocol import event_time
from ebbtide.cluster.doctor.findings import Finding
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.read.why import Why
from ebbtide.cluster.write.apply import ApplyDiff
from ebbtide.core import manifests
from ebbtide.core.base.bodies import INLINE, WrittenBy, body

# Serialization resolves these annotations at run time.
from ebbtide.core.base.problems import Problem
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.translation.objects import Object


def _round_tenth(seconds: float) -> float:
    return round(seconds, 1)


#: Seconds since the cluster last answered; 0 while the data is current.
Age: TypeAlias = Annotated[float, WrittenBy(_round_tenth)]

# Errors.


@body(optional="problems owners done")
class Refusal:
    """An error in RFC 9457 format.

    ``problems`` lists problems by field, ``owners`` the owners of conflicting fields, ``done`` the writes before a failed one.
    """

    type: str
    title: str
    status: int
    detail: str
    problems: list[Problem] | None = None
    owners: dict[str, tuple[str, ...]] | None = None
    done: tuple[str, ...] | None = None


# Specs.


@body()
class Problems:
    """The errors and warnings of a check."""

    problems: list[Problem]


@body("objects yaml problems")
class Rendered:
    """The rendered objects in apply order, as data and as YAML, and all problems of the specs."""

    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]

    @property
    def yaml(self) -> str:
        """The objects as YAML."""
        return "".join(manifests.write_documents([*self.objects]))


@body("different workloads=planned problems")
class Diffs:
    """The changes that an apply of the specs would make; empty if a spec has errors."""

    planned: tuple[ApplyDiff, ...]
    problems: tuple[Problem, ...]

    @property
    def different(self) -> bool:
        """True if an apply would change an object."""
        return any(plan.different for plan in self.planned)


@body()
class Place:
    """The UID, namespace and name of a workload."""

    id: str
    namespace: str
    name: str


@body("done workloads problems")
class Submitted:
    """The result of an apply; ``done`` lists each write, such as ``created Service team-a/chat``."""

    documents: tuple[LoadedDocument, ...]
    planned: tuple[ApplyDiff, ...]
    problems: tuple[Problem, ...]
    done: tuple[str, ...]
    #: The workloads' main objects as they are in the cluster now, including unchanged ones.
    tops: tuple[Object, ...]

    @property
    def workloads(self) -> list[Place]:
        """The UID, namespace and name of each workload."""
        places = (top["metadata"] for top in self.tops)
        return [Place(metadata["uid"], metadata["namespace"], metadata["name"]) for metadata in places]


@body()
class Done:
    """The objects or revisions that an operation changed."""

    done: tuple[str, ...]


@body()
class Deleted:
    """The deleted objects, and the names of the persistent volume claims that were kept."""

    done: tuple[str, ...]
    kept: tuple[str, ...]


# Workloads.


@body()
class WorkloadStatus:
    """The state of one workload, with the UID of its object as ``id``."""

    id: str
    status: Annotated[Status, INLINE]


@body()
class Statuses:
    """One page of workloads; ``next`` is the offset of the next page or null."""

    workloads: list[WorkloadStatus]
    total: int
    next: int | None
    age: Age


@body()
class Event:
    """A Kubernetes event; ``about`` is the involved object, such as ``pod/chat-00001-abc``."""

    time: str | None
    type: str
    reason: str
    about: str
    message: str
    count: int


def make_event(event: Object) -> Event:
    """Return an event of the cluster."""
    about, count = event.get("involvedObject") or {}, event.get("count")
    return Event(
        event_time(event) or None,
        str(event.get("type", "")),
        str(event.get("reason", "")),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        str(event.get("message", "")),
        count if isinstance(count, int) else 1,
    )


@body()
class Detailed:
    """The status, the applied spec and the events of one workload."""

    status: Annotated[WorkloadStatus, INLINE]
    spec: dict[str, Any] | None
    events: list[Event]
    age: Age


@body()
class Reasons:
    """The explanation of a workload's current number of replicas."""

    why: Annotated[Why, INLINE]
    age: Age


# The cluster.


@body()
class Findings:
    """The problems that a diagnosis of the cluster found."""

    findings: tuple[Finding, ...]


@body()
class Usage:
    """The limit (``hard``) and usage of one resource, as Kubernetes quantities."""

    hard: str
    used: str


@body()
class ProjectUse:
    """A project: its namespace, its quota by resource, its number of workloads, and their number by phase."""

    name: str
    namespace: str
    quota: dict[str, Usage]
    workloads: int
    phases: dict[str, int]


@body()
class Projects:
    """The projects that the caller can see."""

    projects: list[ProjectUse]
    age: Age


@body("resource amount workload=name namespace pod")
class ShareRow:
    """The amount of a GPU resource that one pod holds.

    ``workload``, ``namespace`` and ``pod`` are empty if the caller is not allowed to list pods in that namespace.
    """

    resource: str
    amount: float
    name: str
    namespace: str
    pod: str


@body("name ready schedulable gpu_product=product allocatable holders")
class NodeRow:
    """A node: its readiness, its allocatable resources, and the pods that hold its GPUs."""

    name: str
    ready: bool
    schedulable: bool
    product: str
    allocatable: dict[str, str]
    holders: tuple[ShareRow, ...]


@body()
class Nodes:
    """The nodes of the cluster."""

    nodes: list[NodeRow]
    age: Age


@body()
class Whoami:
    """The caller's user name and groups as the cluster reports them, and whether the server is read-only."""

    name: str
    groups: tuple[str, ...]
    read_only: bool


@body()
class Version:
    """The version of Ebbtide, the name of its cluster profile, and whether the server is a demo or read-only."""

    version: str
    profile: str
    demo: bool
    read_only: bool
