"""Projects on a live cluster: a namespace, what enforces its quota, and who may work in it.

A project's objects are those that ``ebbtide.translation.project`` renders for a spec, and a RoleBinding for its members to the
ClusterRole ``ebbtide-project-member``, which allows what Ebbtide's commands do in a namespace and no more. Nothing of a
project is kept anywhere else. Upstream: kubernetes.io/docs/reference/access-authn-authz/rbac; KAI-Scheduler
pkg/apis/scheduling/v2/queue_types.go (priority and allocated).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from ebbtide.base import keys
from ebbtide.base.bodies import Written, body
from ebbtide.base.paths import at
from ebbtide.base.prose import counted
from ebbtide.cluster.client.protocol import (
    CLUSTER_ROLE,
    KINDS,
    KNATIVE,
    KSERVE,
    NAMESPACE,
    QUEUE,
    QUOTA,
    ROLE_BINDING,
    ForbiddenError,
    MissingError,
)
from ebbtide.cluster.write import apply
from ebbtide.profile.models import Project
from ebbtide.translation import project

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ebbtide.cluster.client.protocol import Cluster, Kind
    from ebbtide.cluster.write.apply import Step
    from ebbtide.profile.models import Profile
    from ebbtide.translation.objects import Object

MEMBER_ROLE: Final = "ebbtide-project-member"
BINDING: Final = "ebbtide-project-members"
CLAIM: Final = KINDS["v1", "PersistentVolumeClaim"]
RBAC: Final = "rbac.authorization.k8s.io"
#: As KAI ranks queues that say nothing, in what they get beyond their quota.
USUAL_PRIORITY: Final = 100
SEE: Final = ["get", "list", "watch"]
SHIP: Final = [*SEE, "create", "patch", "update", "delete"]
#: What a member may do: ship and remove workloads with what is made beside them, and see what becomes of them.
MEMBER_RULES: Final[list[Object]] = [
    {"apiGroups": ["serving.knative.dev"], "resources": ["services", "domainmappings"], "verbs": SHIP},
    # scale sets bounds on revisions.
    {"apiGroups": ["serving.knative.dev"], "resources": ["revisions"], "verbs": [*SEE, "patch"]},
    {"apiGroups": ["serving.knative.dev"], "resources": ["configurations", "routes"], "verbs": SEE},
    {"apiGroups": ["autoscaling.internal.knative.dev"], "resources": ["podautoscalers"], "verbs": SEE},
    {"apiGroups": ["serving.kserve.io"], "resources": ["inferenceservices"], "verbs": SHIP},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": SHIP},
    {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": SHIP},
    {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaimtemplates"], "verbs": SHIP},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims", "serviceaccounts"], "verbs": SHIP},
    {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": SEE},
    {"apiGroups": [""], "resources": ["pods", "pods/log", "events", "resourcequotas", "limitranges"], "verbs": SEE},
    {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["create", "get"]},
    # Its own namespace only: the binding is in it.
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    {"apiGroups": [RBAC], "resources": ["rolebindings"], "verbs": SEE},
]


@dataclass(frozen=True, slots=True)
class Member:
    """Who may work in a project: a user, a group, or a service account of a namespace."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        if self.kind == "ServiceAccount":
            return f"serviceaccount:{self.namespace}:{self.name}"
        return self.name if self.kind == "User" else f"group:{self.name}"

    def subject(self) -> Object:
        """Return it as a RoleBinding has it."""
        if self.kind == "ServiceAccount":
            return {"kind": self.kind, "name": self.name, "namespace": self.namespace}
        return {"apiGroup": RBAC, "kind": self.kind, "name": self.name}


def member(text: str) -> Member:
    """Return who is meant by ``jane``, ``user:jane``, ``group:ml`` or ``serviceaccount:ci:builder``.

    Raises:
        ValueError: it is none of these.

    """
    kind, colon, name = text.partition(":")
    if not colon:
        kind, name = "user", text
    if kind == "serviceaccount":
        namespace, _, account = name.partition(":")
        if namespace and account:
            return Member("ServiceAccount", account, namespace)
    elif kind in {"user", "group"} and name:
        return Member(kind.capitalize(), name)
    raise ValueError(f"{text!r} is no member: write jane, group:ml, or serviceaccount:NAMESPACE:NAME")


@body()
class Share:
    """One resource of a quota: its name, what may be used, and what is, as Kubernetes writes amounts."""

    resource: str
    hard: str
    used: str


@body()
class ProjectRow:
    """One project as it is on the cluster."""

    name: str
    namespace: str
    #: False where the profile knows a project that the cluster has no namespace for yet.
    there: bool
    quota: tuple[Share, ...] = ()
    #: The priority classes whose pods count against the quota; empty where all do, or none is set.
    guaranteed: tuple[str, ...] = ()
    #: KAI's rank of the queue; None without KAI.
    priority: int | None = None
    workloads: tuple[str, ...] = ()
    members: tuple[Annotated[Member, Written(str)], ...] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """What projects are made of, as it was listed: by whoever asks, once or from a cache."""

    namespaces: Sequence[Object] = ()
    quotas: Sequence[Object] = ()
    queues: Sequence[Object] = ()
    bindings: Sequence[Object] = ()
    #: Knative Services and InferenceServices.
    tops: Sequence[Object] = ()


def projects(cluster: Cluster, profile: Profile) -> list[ProjectRow]:
    """Return every project by name: those of the cluster that the caller may see, and those of the profile."""
    namespaces = _listed(cluster, NAMESPACE, keys.PROJECT)
    if namespaces is None:
        # Who may not list namespaces may yet see his own: the context's, and those that the profile knows.
        names = [cluster.namespace, *(namespace_of(name, profile) for name in profile.spec.projects.known)]
        namespaces = [item for name in dict.fromkeys(names) if (item := _get(cluster, name)) is not None]
    return rows(
        Parts(
            namespaces,
            _everywhere(cluster, QUOTA, namespaces),
            _listed(cluster, QUEUE) or [],
            _everywhere(cluster, ROLE_BINDING, namespaces, f"{keys.APP_MANAGED_BY}=ebbtide"),
            [*_everywhere(cluster, KNATIVE, namespaces), *_everywhere(cluster, KSERVE, namespaces)],
        ),
        profile,
    )


def rows(parts: Parts, profile: Profile) -> list[ProjectRow]:
    """Return the projects that objects come to, by name."""
    found = {}
    queues = {item["metadata"]["name"]: item for item in parts.queues}
    for item in parts.namespaces:
        name = str(at(item, "metadata", "labels", keys.PROJECT, default=""))
        if name:
            found[name] = _row(name, item["metadata"]["name"], parts, queues.get(name))
    for name in profile.spec.projects.known:
        found.setdefault(name, ProjectRow(name, namespace_of(name, profile), there=False))
    return [found[name] for name in sorted(found)]


def _row(name: str, namespace: str, parts: Parts, queue: Object | None) -> ProjectRow:
    here = [item for item in parts.quotas if item["metadata"]["namespace"] == namespace]
    return ProjectRow(
        name,
        namespace,
        there=True,
        quota=tuple([*_of_queue(queue)] if queue is not None else [row for item in here for row in _of_quota(item)]),
        guaranteed=tuple(
            str(value)
            for item in here
            for rule in at(item, "spec", "scopeSelector", "matchExpressions", default=[])
            if rule.get("scopeName") == "PriorityClass"
            for value in rule.get("values", [])
        ),
        priority=None if queue is None else int(at(queue, "spec", "priority", default=USUAL_PRIORITY)),
        workloads=tuple(
            sorted(
                item["metadata"]["name"]
                for item in parts.tops
                if item["metadata"]["namespace"] == namespace and not item["metadata"].get("ownerReferences")
            )
        ),
        members=members_of(item for item in parts.bindings if item["metadata"]["namespace"] == namespace),
    )


def _of_quota(item: Object) -> Iterator[Share]:
    used = at(item, "status", "used", default={})
    for resource, hard in at(item, "spec", "hard", default={}).items():
        yield Share(resource.removeprefix("requests."), str(hard), str(used.get(resource, "0")))


#: How KAI's queue names a resource, and how its status does.
_QUEUED: Final = {"gpu": keys.GPU, "cpu": "cpu", "memory": "memory"}


def _of_queue(item: Object) -> Iterator[Share]:
    used = at(item, "status", "allocated", default={})
    for name, resource in _QUEUED.items():
        quota = at(item, "spec", "resources", name, "quota", default=project.UNLIMITED)
        if quota != project.UNLIMITED:
            unit = {"cpu": "m", "memory": "M"}.get(name, "")
            yield Share(resource, f"{quota}{unit}", str(used.get(resource, used.get(name, "0"))))


def members_of(bindings: Iterable[Object]) -> tuple[Member, ...]:
    """Return who RoleBindings make members, each once."""
    found = [
        Member(str(row.get("kind", "")), str(row.get("name", "")), str(row.get("namespace", "")))
        for item in bindings
        if at(item, "roleRef", "name") == MEMBER_ROLE
        for row in item.get("subjects") or []
    ]
    return tuple(dict.fromkeys(found))


def namespace_of(name: str, profile: Profile) -> str:
    """Return a project's namespace by the profile's pattern."""
    return profile.spec.projects.namespace.replace("{project}", name)


# Making and removing one.


@dataclass(frozen=True, slots=True)
class Asked:
    """What a project shall have; None is left as it is, or as the profile has it."""

    name: str
    gpus: float | None = None
    cpu: float | None = None
    memory: str | None = None
    priority: int | None = None
    add: tuple[Member, ...] = ()
    remove: tuple[Member, ...] = ()


def plan(cluster: Cluster, asked: Asked, profile: Profile) -> tuple[Step, ...]:
    """Return what making or changing a project would do. Nothing is written.

    Raises:
        ValueError: the profile's way of quotas cannot express it; the message is for a person.
        ClusterError: the cluster does not let it be looked at.

    """
    spec = profile.spec.projects
    if asked.priority is not None and spec.quota != "kai":
        raise ValueError(
            f"a project's priority is the rank of its queue, and this profile has quota {spec.quota}: without KAI pods are "
            "ranked by their class alone (priorityClass in the spec)"
        )
    if spec.quota == "kai" and asked.name == spec.parent_queue:
        raise ValueError(f"queue {asked.name} is the one above the projects' own: no project can have its name")
    amounts = {"gpus": asked.gpus, "cpu": asked.cpu, "memory": asked.memory}
    given = {key: value for key, value in amounts.items() if value is not None}
    if given and spec.quota == "none":
        raise ValueError("this profile enforces no quota (projects.quota: none), so none can be set")
    return apply.steps(cluster, _objects(cluster, asked, given, profile))


def _objects(cluster: Cluster, asked: Asked, given: dict[str, Any], profile: Profile) -> Iterator[Object]:
    """Yield a project's objects in the order in which they are needed."""
    namespace = namespace_of(asked.name, profile)
    for item in project.make_objects(asked.name, namespace, _with_amounts(profile, asked.name, given)):
        if item["kind"] == QUEUE.name:
            if asked.priority is not None:
                item["spec"]["priority"] = asked.priority
            elif not given and asked.name not in profile.spec.projects.known and _there(cluster, QUEUE, asked.name):
                # Rendered without amounts it has no limit; one that is there keeps its own.
                continue
        yield item
    before = members_of(_everywhere(cluster, ROLE_BINDING, [{"metadata": {"name": namespace}}]))
    wanted = [who for who in dict.fromkeys((*before, *asked.add)) if who not in asked.remove]
    if not wanted and not before:
        return
    if not _there(cluster, CLUSTER_ROLE, MEMBER_ROLE):
        yield member_role()
    yield {
        "apiVersion": ROLE_BINDING.api_version,
        "kind": ROLE_BINDING.name,
        "metadata": {
            "name": BINDING,
            "namespace": namespace,
            "labels": {keys.PROJECT: asked.name, keys.APP_MANAGED_BY: "ebbtide"},
        },
        "roleRef": {"apiGroup": RBAC, "kind": CLUSTER_ROLE.name, "name": MEMBER_ROLE},
        "subjects": [who.subject() for who in wanted],
    }


def _with_amounts(profile: Profile, name: str, given: dict[str, Any]) -> Profile:
    """Return a profile in which a project has the amounts that are asked for."""
    made = deepcopy(profile)
    known = made.spec.projects.known
    if name in known:
        known[name].__dict__.update(given)
    elif given:
        known[name] = Project(**given)
    return made


def member_role() -> Object:
    """Return the ClusterRole that a project's members have in its namespace; kustomize/roles has the same."""
    return {
        "apiVersion": CLUSTER_ROLE.api_version,
        "kind": CLUSTER_ROLE.name,
        "metadata": {"name": MEMBER_ROLE, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "rules": MEMBER_RULES,
    }


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes with a project."""

    row: ProjectRow
    claims: tuple[str, ...]
    queue: bool

    @property
    def refused(self) -> str:
        """Why it does not go without force; empty where nothing stands in the way."""
        if not self.row.there:
            return f"there is no project {self.row.name} on this cluster"
        if self.row.workloads:
            count = len(self.row.workloads)
            return (
                f"project {self.row.name} still has {counted(count, 'workload')}: "
                f"{', '.join(self.row.workloads)}; delete them first, or say --force"
            )
        return ""

    def lines(self) -> list[str]:
        """Return what goes, line by line."""
        row = self.row
        return [
            f"namespace {row.namespace} with all that is in it",
            *(f"workload {name}" for name in row.workloads),
            *(f"volume claim {name} with its data" for name in self.claims),
            *([f"queue {row.name}"] if self.queue else []),
        ]


def removal(cluster: Cluster, name: str, profile: Profile) -> Removal:
    """Return what would go with a project. Nothing is removed."""
    row = next(
        (row for row in projects(cluster, profile) if row.name == name),
        ProjectRow(name, namespace_of(name, profile), there=False),
    )
    claims = cluster.list(CLAIM, row.namespace).items if row.there else []
    return Removal(
        row, tuple(item["metadata"]["name"] for item in claims), queue=row.there and _there(cluster, QUEUE, name)
    )


def remove(cluster: Cluster, gone: Removal) -> None:
    """Remove a project's namespace, and its queue. It may be run again."""
    cluster.delete(NAMESPACE, gone.row.namespace)
    if gone.queue:
        cluster.delete(QUEUE, gone.row.name)


# Reading.


def _listed(cluster: Cluster, kind: Kind, labels: str = "") -> list[Object] | None:
    try:
        return cluster.list(kind, labels=labels).items
    except ForbiddenError:
        return None


def _everywhere(cluster: Cluster, kind: Kind, namespaces: Sequence[Object], labels: str = "") -> list[Object]:
    """Return the objects of some namespaces: in one list of all where the caller may, else one by one."""
    names = [item["metadata"]["name"] for item in namespaces]
    found = _listed(cluster, kind, labels) if len(names) != 1 else None
    if found is not None:
        return [item for item in found if item["metadata"].get("namespace") in names]
    return [item for name in names for item in _in_namespace(cluster, kind, name, labels)]


def _in_namespace(cluster: Cluster, kind: Kind, namespace: str, labels: str) -> list[Object]:
    try:
        return cluster.list(kind, namespace, labels=labels).items
    except ForbiddenError:
        return []


def _get(cluster: Cluster, namespace: str) -> Object | None:
    try:
        return cluster.get(NAMESPACE, namespace)
    except (MissingError, ForbiddenError):
        return None


def _there(cluster: Cluster, kind: Kind, name: str) -> bool:
    """Whether a cluster has an object; one that may not be seen is taken to be there."""
    try:
        cluster.get(kind, name)
    except MissingError:
        return False
    except ForbiddenError:
        return True
    return True
