"""Projects on a live cluster: each is a namespace, the objects that enforce its quota, and its members.

A project's objects are those that ``ebbtide.core.translation.project`` renders for a spec, and a RoleBinding of its members to
the ClusterRole ``ebbtide-project-member``, which grants what Ebbtide's commands and ``kubectl exec`` need in a
namespace. A project has no other state. Upstream: kubernetes.io/docs/reference/access-authn-authz/rbac; KAI-Scheduler
pkg/apis/scheduling/v2/queue_types.go (priority and allocated); kubernetes-sigs/kueue apis/kueue/v1beta2/clusterqueue_types.go
(flavorsUsage: the resources of the admitted pods).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, NamedTuple

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Cluster, ForbiddenError, Kind, MissingError
from ebbtide.cluster.read.amounts import REQUESTS, QuotaShare, list_quota_shares, parse_amount
from ebbtide.cluster.write import apply
from ebbtide.cluster.write.apply import ApplyStep
from ebbtide.cluster.write.endpoints import make_url
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.base.names import ENDPOINT_KEYS
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.quantities import format_number
from ebbtide.core.profile.models import Profile, Project
from ebbtide.core.profile.projects import make_project_namespace
from ebbtide.core.translation import endpoints, project
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.quotas import QUOTA_BACKENDS, kai, kueue

MEMBER_ROLE: Final = "ebbtide-project-member"
BINDING: Final = "ebbtide-project-members"
CLAIM: Final = kube.KINDS["v1", "PersistentVolumeClaim"]
RBAC: Final = "rbac.authorization.k8s.io"
#: KAI's default priority of a queue; it ranks the queues for resources beyond their quota.
USUAL_PRIORITY: Final = 100
SEE: Final = ["get", "list", "watch"]
WRITE: Final = ["create", "patch", "update", "delete"]
SHIP: Final = [*SEE, *WRITE]


def make_rule(group: str, verbs: Sequence[str], *resources: str, names: Sequence[str] = ()) -> Object:
    """Return a rule of a role; ``names`` limits it to these objects."""
    limit = {"resourceNames": [*names]} if names else {}
    return {"apiGroups": [group], "resources": [*resources], **limit, "verbs": [*verbs]}


def _make_endpoint_rules() -> Iterator[Object]:
    """Yield the permissions on the objects of the endpoints' gateways."""
    resources: dict[tuple[str, bool], dict[str, None]] = {}
    for kind in (kind for gateway in endpoints.ENDPOINT_GATEWAYS.values() for kind in gateway.kinds):
        resources.setdefault((kind.api_version.partition("/")[0], kind.is_members), {})[kind.plural] = None
    for (group, is_members), plurals in resources.items():
        yield make_rule(group, SHIP if is_members else SEE, *plurals)


#: A member's permissions: apply and delete workloads with their companion objects, and observe them.
MEMBER_RULES: Final = [
    make_rule("serving.knative.dev", SHIP, "services", "domainmappings"),
    # ebbtide scale patches revisions.
    make_rule("serving.knative.dev", [*SEE, "patch"], "revisions"),
    make_rule("serving.knative.dev", SEE, "configurations", "routes"),
    make_rule("autoscaling.internal.knative.dev", SEE, "podautoscalers"),
    make_rule("serving.kserve.io", SHIP, "inferenceservices", "llminferenceservices", "localmodelnamespacecaches"),
    *_make_endpoint_rules(),
    # Only the keys of the project's endpoint. A server-side apply names the object, so create is limited to it too
    # (k8s.io/apiserver pkg/endpoints/handlers/patch.go).
    make_rule("", ["get", "create", "patch"], "secrets", names=[ENDPOINT_KEYS]),
    make_rule("autoscaling", SHIP, "horizontalpodautoscalers"),
    make_rule("keda.sh", SEE, "scaledobjects"),
    make_rule("apps", SHIP, "daemonsets"),
    make_rule("batch", SHIP, "jobs"),
    make_rule("policy", SHIP, "poddisruptionbudgets"),
    make_rule("resource.k8s.io", SHIP, "resourceclaimtemplates"),
    make_rule("resource.k8s.io", SEE, "resourceclaims"),
    make_rule("kueue.x-k8s.io", SEE, "localqueues"),
    make_rule("", SHIP, "persistentvolumeclaims", "serviceaccounts"),
    make_rule("apps", SEE, "deployments", "replicasets"),
    make_rule("", SEE, "pods", "pods/log", "events", "resourcequotas", "limitranges"),
    make_rule("", ["create", "get"], "pods/exec", "pods/portforward"),
    # Only the project's namespace, because the RoleBinding is in it.
    make_rule("", ["get"], "namespaces"),
    make_rule(RBAC, SEE, "rolebindings"),
]
#: The permission to write ScaledObjects, where the profile uses KEDA. KEDA's operator sends the query of a trigger with its own
#: access, to the address in the trigger, and the HPA shows its value.
KEDA_RULE: Final = make_rule("keda.sh", WRITE, "scaledobjects")


@dataclass(frozen=True, slots=True)
class ProjectMember:
    """A member of a project: a user, a group, or a service account of a namespace."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        """Return the member in command-line syntax."""
        if self.kind == "ServiceAccount":
            return f"serviceaccount:{self.namespace}:{self.name}"
        return self.name if self.kind == "User" else f"group:{self.name}"

    def subject(self) -> Object:
        """Return the member as the subject of a RoleBinding."""
        if self.kind == "ServiceAccount":
            return {"kind": self.kind, "name": self.name, "namespace": self.namespace}
        return {"apiGroup": RBAC, "kind": self.kind, "name": self.name}


def parse_member(text: str) -> ProjectMember:
    """Parse a member: ``jane``, ``user:jane``, ``group:ml`` or ``serviceaccount:ci:builder``.

    Raises ValueError for any other form.
    """
    kind, colon, name = text.partition(":")
    if not colon:
        kind, name = "user", text
    if kind == "serviceaccount":
        namespace, _, account = name.partition(":")
        if namespace and account:
            return ProjectMember("ServiceAccount", account, namespace)
    elif kind in {"user", "group"} and name:
        return ProjectMember(kind.capitalize(), name)
    raise ValueError(
        f"invalid member {text!r}: must be a user such as jane, group:NAME, or serviceaccount:NAMESPACE:NAME"
    )


@body()
class ProjectRow:
    """One project with its state on the cluster."""

    name: str
    namespace: str
    #: False for a project of the profile without a namespace on the cluster.
    there: bool
    quota: tuple[QuotaShare, ...] = ()
    #: The priority classes whose pods count against the quota; empty if all pods count or there is no quota.
    guaranteed: tuple[str, ...] = ()
    #: Priority of the KAI queue; None without KAI.
    priority: int | None = None
    workloads: tuple[str, ...] = ()
    members: tuple[Annotated[ProjectMember, WrittenBy(str)], ...] = ()


@dataclass(frozen=True, slots=True)
class ProjectObjects:
    """The listed objects of all projects, from the cluster or from a cache."""

    namespaces: Sequence[Object] = ()
    quotas: Sequence[Object] = ()
    #: KAI's queues and Kueue's ClusterQueues.
    queues: Sequence[Object] = ()
    bindings: Sequence[Object] = ()
    #: Knative Services, InferenceServices and LLMInferenceServices.
    tops: Sequence[Object] = ()


def read_projects(cluster: Cluster, profile: Profile) -> list[ProjectRow]:
    """Return the projects in order of name: those on the cluster that the caller can read, and those of the profile."""
    namespaces = _list_or_none(cluster, kube.NAMESPACE, keys.PROJECT)
    if namespaces is None:
        # A caller without permission to list namespaces may still read the context's and the profile's namespaces.
        names = [
            cluster.namespace,
            *(make_project_namespace(profile.spec.projects, name) for name in profile.spec.projects.known),
        ]
        namespaces = [obj for name in dict.fromkeys(names) if (obj := _get_namespace(cluster, name)) is not None]
    return make_project_rows(
        ProjectObjects(
            namespaces,
            _list_everywhere(cluster, kube.QUOTA, namespaces),
            [*(_list_or_none(cluster, kube.QUEUE) or []), *(_list_or_none(cluster, kube.CLUSTER_QUEUE) or [])],
            _list_everywhere(cluster, kube.ROLE_BINDING, namespaces, f"{keys.APP_MANAGED_BY}=ebbtide"),
            [
                obj
                for kind in (kube.KNATIVE, kube.KSERVE, kube.LLM)
                for obj in _list_everywhere(cluster, kind, namespaces)
            ],
        ),
        profile,
    )


def make_project_rows(parts: ProjectObjects, profile: Profile) -> list[ProjectRow]:
    """Return the projects of the listed objects and of the profile, in order of name."""
    by_name = {}
    # Of two queues of a name, the one that the profile's kind of quota uses counts.
    used = QUOTA_BACKENDS[profile.spec.projects.quota].queue
    sorted_queues = sorted(parts.queues, key=lambda queue: (queue["apiVersion"], queue["kind"]) == used)
    queues = {obj["metadata"]["name"]: obj for obj in sorted_queues}
    for obj in parts.namespaces:
        name = str(get_at(obj, "metadata", "labels", keys.PROJECT, default=""))
        if name:
            by_name[name] = _make_project_row(name, obj["metadata"]["name"], parts, queues.get(name))
    for name in profile.spec.projects.known:
        by_name.setdefault(name, ProjectRow(name, make_project_namespace(profile.spec.projects, name), there=False))
    return [by_name[name] for name in sorted(by_name)]


def _make_project_row(name: str, namespace: str, parts: ProjectObjects, queue: Object | None) -> ProjectRow:
    quotas = [obj for obj in parts.quotas if obj["metadata"]["namespace"] == namespace]
    is_kueue = queue is not None and queue["kind"] == kube.CLUSTER_QUEUE.name
    shares: Iterable[QuotaShare] = [
        replace(share, resource=share.resource.removeprefix(REQUESTS))
        for obj in quotas
        for share in list_quota_shares(obj)
    ]
    if queue is not None:
        shares = _cluster_queue_shares(queue) if is_kueue else _queue_shares(queue)
    return ProjectRow(
        name,
        namespace,
        there=True,
        quota=tuple(shares),
        guaranteed=tuple(
            str(value)
            for obj in quotas
            for rule in get_at(obj, "spec", "scopeSelector", "matchExpressions", default=[])
            if rule.get("scopeName") == "PriorityClass"
            for value in rule.get("values", [])
        ),
        priority=None if queue is None or is_kueue else int(get_at(queue, "spec", "priority", default=USUAL_PRIORITY)),
        workloads=tuple(
            sorted(
                obj["metadata"]["name"]
                for obj in parts.tops
                if obj["metadata"]["namespace"] == namespace and not obj["metadata"].get("ownerReferences")
            )
        ),
        members=list_project_members(obj for obj in parts.bindings if obj["metadata"]["namespace"] == namespace),
    )


#: Resource names in the spec of a KAI queue, and in its status.
_QUEUED: Final = {"gpu": keys.GPU, "cpu": "cpu", "memory": "memory"}


def _queue_shares(queue: Object) -> Iterator[QuotaShare]:
    used = get_at(queue, "status", "allocated", default={})
    for name, resource in _QUEUED.items():
        quota = get_at(queue, "spec", "resources", name, "quota", default=kai.UNLIMITED)
        if quota != kai.UNLIMITED:
            unit = {"cpu": "m", "memory": "M"}.get(name, "")
            amount = str(used.get(resource, used.get(name, "0")))
            # KAI counts a GPU fraction in thousandths: 500m.
            yield QuotaShare(resource, f"{quota}{unit}", amount if unit else format_number(parse_amount(amount)))


def _cluster_queue_shares(queue: Object) -> Iterator[QuotaShare]:
    """Yield the quota of a ClusterQueue and the usage of the admitted pods, summed over the flavors."""
    used: dict[str, list[str]] = {}
    for flavor in get_at(queue, "status", "flavorsUsage", default=[]):
        for row in flavor.get("resources", []):
            used.setdefault(row["name"], []).append(str(row.get("total", "0")))
    for resource, hard in kueue.read_amounts(queue)[0].items():
        amounts = used.get(resource, ["0"])
        yield QuotaShare(
            resource, hard, amounts[0] if len(amounts) == 1 else format_number(sum(map(parse_amount, amounts)))
        )


def list_project_members(bindings: Iterable[Object]) -> tuple[ProjectMember, ...]:
    """Return the members that RoleBindings define, without duplicates."""
    members = [
        ProjectMember(str(row.get("kind", "")), str(row.get("name", "")), str(row.get("namespace", "")))
        for binding in bindings
        if get_at(binding, "roleRef", "name") == MEMBER_ROLE
        for row in binding.get("subjects") or []
    ]
    return tuple(dict.fromkeys(members))


# Creating and deleting a project.


@dataclass(frozen=True, slots=True)
class ProjectRequest:
    """The requested settings of a project; None keeps the current value or the profile's."""

    name: str
    gpus: float | None = None
    cpu: float | None = None
    memory: str | None = None
    priority: int | None = None
    add: tuple[ProjectMember, ...] = ()
    remove: tuple[ProjectMember, ...] = ()


def diff_project(cluster: Cluster, request: ProjectRequest, profile: Profile) -> tuple[ApplyStep, ...]:
    """Return the planned changes to create or update a project. Read-only.

    Raises ValueError, whose message is for the user, if the profile's kind of quota does not support a setting, and
    ClusterError.
    """
    spec = profile.spec.projects
    if request.priority is not None and spec.quota != "kai":
        raise ValueError(
            f"invalid priority: a project's priority applies only to KAI queues, and the profile has quota {spec.quota}; "
            "without KAI, set priorityClass in the spec of each workload"
        )
    if spec.quota == "kai" and request.name == spec.parent_queue:
        raise ValueError(f"invalid project name: queue {request.name} is the parent of the projects' queues")
    amounts = {"gpus": request.gpus, "cpu": request.cpu, "memory": request.memory}
    amounts_given = {key: value for key, value in amounts.items() if value is not None}
    if amounts_given and spec.quota == "none":
        raise ValueError("cannot set a quota: the profile does not enforce quotas (projects.quota: none)")
    return apply.diff_against_cluster(cluster, _render_project(cluster, request, amounts_given, profile))


def _render_project(
    cluster: Cluster, request: ProjectRequest, amounts: dict[str, Any], profile: Profile
) -> Iterator[Object]:
    """Yield a project's objects in the order of their dependencies."""
    namespace = make_project_namespace(profile.spec.projects, request.name)
    for obj in project.make_project_objects(request.name, namespace, _set_amounts(profile, request.name, amounts)):
        if (obj["apiVersion"], obj["kind"]) == QUOTA_BACKENDS[profile.spec.projects.quota].queue:
            if request.priority is not None:
                obj["spec"]["priority"] = request.priority
            elif (
                not amounts
                and request.name not in profile.spec.projects.known
                and _object_exists(cluster, kube.kind_of(obj), request.name)
            ):
                # A queue rendered without amounts would be unlimited, so an existing one is kept.
                continue
        yield obj
    yield from endpoints.make_shared_objects(request.name, namespace, profile.spec)
    before = list_project_members(_list_everywhere(cluster, kube.ROLE_BINDING, [{"metadata": {"name": namespace}}]))
    members = [entry for entry in dict.fromkeys((*before, *request.add)) if entry not in request.remove]
    if not members and not before:
        return
    if not _object_exists(cluster, kube.CLUSTER_ROLE, MEMBER_ROLE):
        yield make_member_role(keda=profile.spec.metrics.adapter == "keda")
    yield {
        "apiVersion": kube.ROLE_BINDING.api_version,
        "kind": kube.ROLE_BINDING.name,
        "metadata": {
            "name": BINDING,
            "namespace": namespace,
            "labels": {keys.PROJECT: request.name, keys.APP_MANAGED_BY: "ebbtide"},
        },
        "roleRef": {"apiGroup": RBAC, "kind": kube.CLUSTER_ROLE.name, "name": MEMBER_ROLE},
        "subjects": [entry.subject() for entry in members],
    }


def _set_amounts(profile: Profile, name: str, amounts: dict[str, Any]) -> Profile:
    """Return a copy of the profile with the given quota of a project."""
    changed = deepcopy(profile)
    known = changed.spec.projects.known
    if name in known:
        known[name].__dict__.update(amounts)
    elif amounts:
        known[name] = Project(**amounts)
    return changed


def make_member_role(*, keda: bool = False) -> Object:
    """Return the ClusterRole of a project's members in its namespace; kustomize/roles contains the same role without KEDA."""
    return make_role(MEMBER_ROLE, [*MEMBER_RULES, *([KEDA_RULE] if keda else [])])


def make_role(name: str, rules: list[Object]) -> Object:
    """Return a ClusterRole of Ebbtide."""
    return {
        "apiVersion": kube.CLUSTER_ROLE.api_version,
        "kind": kube.CLUSTER_ROLE.name,
        "metadata": {"name": name, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "rules": rules,
    }


@dataclass(frozen=True, slots=True)
class ProjectRemoval:
    """The objects that deleting a project deletes."""

    row: ProjectRow
    claims: tuple[str, ...]
    queue: Kind | None

    @property
    def refused(self) -> str:
        """The reason why it is not deleted without ``--force``; empty if there is none."""
        if not self.row.there:
            return f"project {self.row.name} not found. To list all projects, run ebbtide project list"
        if self.row.workloads:
            count = len(self.row.workloads)
            return (
                f"project {self.row.name} still has {count_noun(count, 'workload')}: "
                f"{', '.join(self.row.workloads)}; delete {'it' if count == 1 else 'them'} first, or use --force"
            )
        return ""

    def lines(self) -> list[str]:
        """Return one line for each object to delete."""
        row = self.row
        return [
            f"namespace {row.namespace} and everything in it",
            *(f"workload {name}" for name in row.workloads),
            *(f"volume claim {name} and its data" for name in self.claims),
            *([f"queue {row.name}"] if self.queue is not None else []),
        ]


def plan_project_removal(cluster: Cluster, name: str, profile: Profile) -> ProjectRemoval:
    """Return the objects that deleting a project would delete. Read-only."""
    row = next(
        (row for row in read_projects(cluster, profile) if row.name == name),
        ProjectRow(name, make_project_namespace(profile.spec.projects, name), there=False),
    )
    claims = cluster.list(CLAIM, row.namespace).items if row.there else []
    kind = kube.KINDS[QUOTA_BACKENDS[profile.spec.projects.quota].queue or (kube.QUEUE.api_version, kube.QUEUE.name)]
    queue = kind if row.there and _object_exists(cluster, kind, name) else None
    return ProjectRemoval(row, tuple(obj["metadata"]["name"] for obj in claims), queue)


def remove_project(cluster: Cluster, planned: ProjectRemoval) -> None:
    """Delete a project's namespace and its queue. Safe to repeat."""
    cluster.delete(kube.NAMESPACE, planned.row.namespace)
    if planned.queue is not None:
        cluster.delete(planned.queue, planned.row.name)


# Reading.


class PublishedModel(NamedTuple):
    """A model at a project's endpoint: the base URL, the namespace and name of its service, and the model's names."""

    url: str
    namespace: str
    service: str
    names: tuple[str, ...]


def list_published(cluster: Cluster, namespaces: Sequence[str]) -> list[PublishedModel]:
    """Return the models at the endpoints of projects, by their routes that the caller may list."""
    places = [{"metadata": {"name": namespace}} for namespace in namespaces]
    return [
        PublishedModel(
            make_url(route),
            route["metadata"]["namespace"],
            str(get_at(route, "metadata", "labels", keys.APP_NAME)),
            tuple(names),
        )
        for gateway in endpoints.ENDPOINT_GATEWAYS.values()
        for route in _list_everywhere(cluster, kube.KINDS[gateway.route], places, keys.ENDPOINT)
        if (names := gateway.read_models(route))
    ]


def _list_or_none(cluster: Cluster, kind: Kind, labels: str = "", namespace: str = "") -> list[Object] | None:
    try:
        return cluster.list(kind, namespace, labels=labels).items
    except ForbiddenError:
        return None


def _list_everywhere(cluster: Cluster, kind: Kind, namespaces: Sequence[Object], labels: str = "") -> list[Object]:
    """Return the objects of some namespaces, with one cluster-wide list if allowed, else with one list per namespace."""
    names = [obj["metadata"]["name"] for obj in namespaces]
    everything = _list_or_none(cluster, kind, labels) if len(names) != 1 else None
    if everything is not None:
        return [obj for obj in everything if obj["metadata"].get("namespace") in names]
    return [obj for name in names for obj in _list_or_none(cluster, kind, labels, name) or ()]


def _get_namespace(cluster: Cluster, namespace: str) -> Object | None:
    try:
        return cluster.get(kube.NAMESPACE, namespace)
    except (MissingError, ForbiddenError):
        return None


def _object_exists(cluster: Cluster, kind: Kind, name: str) -> bool:
    """Return whether an object exists; True if reading it is forbidden."""
    try:
        cluster.get(kind, name)
    except MissingError:
        return False
    except ForbiddenError:
        return True
    return True
