"""The cluster client protocol: objects as plain dicts, one Protocol, dedicated exceptions.

It has two implementations: ``kubernetes.py`` on the official client and ``sandbox/simulated.py`` in memory. One contract
suite runs on both (tests/cluster/test_cluster_contract.py). Upstream: k8s.io/apimachinery pkg/apis/meta/v1/types.go
(Status, WatchEvent), kubernetes.io/docs/reference/using-api/server-side-apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS
from ebbtide.core.translation.objects import Object

#: The API server's message about a missing permission.
FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)'
)
#: The field manager of ``apply``.
MANAGER: Final = "ebbtide"
#: The field manager of manual overrides on a live object: with ``MANAGER``, the next apply would remove them.
LIVE_MANAGER: Final = "ebbtide-live"


class ClusterError(Exception):
    """A request to the cluster failed or was rejected; the message is for the user."""


class UnreachableError(ClusterError):
    """The cluster does not answer: no kubeconfig, no network, or an invalid certificate."""


class MissingError(ClusterError):
    """The object does not exist, or the cluster does not know its kind."""


class ForbiddenError(ClusterError):
    """The caller's account does not have the permission."""


class RefusedError(ClusterError):
    """The cluster rejected the object, because of a webhook, a quota or an invalid field."""


class BusyError(ClusterError):
    """The cluster is temporarily unable to answer: a webhook is starting, or the server is overloaded. Retry."""


class GoneError(ClusterError):
    """The resource version is too old for a watch: list the objects and start from their version."""


class ExistsError(ClusterError):
    """An object of this name already exists; it was not changed."""


class StaleError(ClusterError):
    """The object was changed or deleted after the read that a conditional write is based on."""


class ConflictError(ClusterError):
    """A field ownership conflict; ``owners`` has the fields of each other field manager."""

    def __init__(self, message: str, owners: dict[str, tuple[str, ...]] | None = None) -> None:
        """Store the owners with the message. An unpickled error gets its message first, then its attributes."""
        super().__init__(message)
        self.owners = owners or {}


class CutShortError(ClusterError):
    """A write failed after others had succeeded; ``done`` describes those. All writes can be repeated safely."""

    def __init__(self, cause: ClusterError, done: tuple[str, ...]) -> None:
        super().__init__(f"{cause}; already done: {', '.join(done)}; it is safe to run the command again")
        self.cause, self.done = cause, done


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and its location in the API."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def path(self) -> str:
        """The API path before the namespace: ``/api/v1``, ``/apis/apps/v1``."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"


#: Every kind that is rendered or read. Discovery is not used: objects of a kind that the cluster does not know count as missing.
KINDS: Final[dict[tuple[str, str], Kind]] = {}


def _add_kind(api_version: str, name: str, plural: str, *, namespaced: bool = True) -> Kind:
    """Return a kind, and add it to ``KINDS``."""
    kind = KINDS[api_version, name] = Kind(api_version, name, plural, namespaced)
    return kind


KNATIVE: Final = _add_kind("serving.knative.dev/v1", "Service", "services")
REVISION: Final = _add_kind("serving.knative.dev/v1", "Revision", "revisions")
POD_AUTOSCALER: Final = _add_kind("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler", "podautoscalers")
KSERVE: Final = _add_kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
LLM: Final = _add_kind("serving.kserve.io/v1alpha2", "LLMInferenceService", "llminferenceservices")
DEPLOYMENT: Final = _add_kind("apps/v1", "Deployment", "deployments")
POD: Final = _add_kind("v1", "Pod", "pods")
NODE: Final = _add_kind("v1", "Node", "nodes", namespaced=False)
EVENT: Final = _add_kind("v1", "Event", "events")
NAMESPACE: Final = _add_kind("v1", "Namespace", "namespaces", namespaced=False)
QUOTA: Final = _add_kind("v1", "ResourceQuota", "resourcequotas")
HPA: Final = _add_kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT: Final = _add_kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
SECRET: Final = _add_kind("v1", "Secret", "secrets")
CONFIG_MAP: Final = _add_kind("v1", "ConfigMap", "configmaps")
PRIORITY_CLASS: Final = _add_kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False)
SERVICE: Final = _add_kind("v1", "Service", "services")
DAEMON_SET: Final = _add_kind("apps/v1", "DaemonSet", "daemonsets")
QUEUE: Final = _add_kind("scheduling.run.ai/v2", "Queue", "queues", namespaced=False)
ROLE_BINDING: Final = _add_kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE: Final = _add_kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
NETWORK_POLICY: Final = _add_kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS: Final = _add_kind("networking.k8s.io/v1", "Ingress", "ingresses")
HTTP_ROUTE: Final = _add_kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
INGRESS_CLASS: Final = _add_kind("networking.k8s.io/v1", "IngressClass", "ingressclasses", namespaced=False)
GATEWAY: Final = _add_kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
DOMAIN_CLAIM: Final = _add_kind(
    "networking.internal.knative.dev/v1alpha1", "ClusterDomainClaim", "clusterdomainclaims", namespaced=False
)
CLUSTER_RUNTIME: Final = _add_kind(
    "serving.kserve.io/v1alpha1", "ClusterServingRuntime", "clusterservingruntimes", namespaced=False
)
MODEL_CACHE: Final = _add_kind("serving.kserve.io/v1alpha1", "LocalModelNamespaceCache", "localmodelnamespacecaches")
MODEL_NODE_GROUP: Final = _add_kind(
    "serving.kserve.io/v1alpha1", "LocalModelNodeGroup", "localmodelnodegroups", namespaced=False
)
#: The native document as a custom resource (``kustomize/crd``).
INFERENCE: Final = _add_kind("ebbtide.dev/v1alpha1", "Inference", "inferences")
LEASE: Final = _add_kind("coordination.k8s.io/v1", "Lease", "leases")
RUNTIME_CLASS: Final = _add_kind("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", namespaced=False)
RESOURCE_CLAIM: Final = _add_kind("resource.k8s.io/v1", "ResourceClaim", "resourceclaims")
RESOURCE_SLICE: Final = _add_kind("resource.k8s.io/v1", "ResourceSlice", "resourceslices", namespaced=False)
DEVICE_CLASS: Final = _add_kind("resource.k8s.io/v1", "DeviceClass", "deviceclasses", namespaced=False)
CLUSTER_QUEUE: Final = _add_kind("kueue.x-k8s.io/v1beta2", "ClusterQueue", "clusterqueues", namespaced=False)
LOCAL_QUEUE: Final = _add_kind("kueue.x-k8s.io/v1beta2", "LocalQueue", "localqueues")
# Kinds that no module needs by name.
_add_kind("v1", "LimitRange", "limitranges")
_add_kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
_add_kind("v1", "ServiceAccount", "serviceaccounts")
_add_kind("serving.knative.dev/v1beta1", "DomainMapping", "domainmappings")
_add_kind("batch/v1", "Job", "jobs")
_add_kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
_add_kind("resource.k8s.io/v1", "ResourceClaimTemplate", "resourceclaimtemplates")
_add_kind("resource.k8s.io/v1beta1", "ResourceClaimTemplate", "resourceclaimtemplates")
_add_kind("resource.k8s.io/v1beta2", "ResourceClaimTemplate", "resourceclaimtemplates")
_add_kind("kueue.x-k8s.io/v1beta2", "ResourceFlavor", "resourceflavors", namespaced=False)
for _gateway in ENDPOINT_GATEWAYS.values():
    KINDS.update({kind.key: Kind(*kind[:3]) for kind in _gateway.kinds if kind.key not in KINDS})


def kind_of(item: Object) -> Kind:
    """Return the kind of an object. Raises MissingError if it is not in ``KINDS``."""
    kind = KINDS.get((item["apiVersion"], item["kind"]))
    if kind is None:
        raise MissingError(f"unsupported kind: Ebbtide cannot apply {item['apiVersion']} {item['kind']}")
    return kind


#: An alias, because a class with a method ``list`` shadows the builtin in its annotations.
Objects: TypeAlias = "list[Object]"


class Listing(NamedTuple):
    """The objects of a kind at one moment, and the resource version from which a watch continues."""

    items: list[Object]
    version: str


Change = Literal["ADDED", "MODIFIED", "DELETED"]


class WatchChange(NamedTuple):
    """One change from a watch; a deleted object has its last state."""

    change: Change
    item: Object


class WatchBookmark(NamedTuple):
    """The progress of a watch connection: all changes up to this resource version have been delivered."""

    version: str


class LogQuery(NamedTuple):
    """The part of a log: all of it; its last ``tail`` lines; or its first ``head`` bytes, each line with its time and a space.

    With ``follow``, it continues until the container ends; ``previous`` selects the container's previous run.
    """

    tail: int | None = None
    follow: bool = False
    previous: bool = False
    head: int | None = None


WHOLE_LOG: Final = LogQuery()


class LogStream(Protocol):
    """A streamed container log; iteration raises a ``ClusterError`` on failure."""

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""

    def close(self) -> None:
        """Close the stream, even while another thread waits for the next line; raise a ``ValueError`` if that fails."""


class Cluster(Protocol):
    """A cluster. Every failure that the cluster causes is raised as a ``ClusterError``."""

    @property
    def namespace(self) -> str:
        """The default namespace: the kubeconfig context's, or ``default``."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object; raise a ``MissingError`` if it does not exist."""

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return the objects of a namespace, or of all namespaces; ``labels`` is a selector like ``app=chat,tier!=web``.

        Returns no objects for a kind that the cluster does not know.
        """

    def list_all(self, kinds: Sequence[Kind], namespace: str = "") -> dict[Kind, Objects]:
        """Return all objects of several kinds, which a client may read at the same time; raise the first kind's error."""

    def follow(
        self, kind: Kind, namespace: str = "", *, since: str = "", seconds: float | None = None
    ) -> Iterator[WatchChange | WatchBookmark]:
        """Yield the changes of a kind after version ``since``, in a namespace or in all, over one connection until it closes.

        It closes after ``seconds``, by default after those that bound the time to detect a dead one.

        Without a version, the existing objects come first, as added and page by page, followed by a mark: every object
        that the caller knew and that did not appear before the mark has been deleted. With a version, a mark first
        confirms the connection. Connections are not resumed: a ``GoneError`` means that the version is too old, any other
        error that the connection is lost. Raises a ``MissingError`` for a kind that the cluster does not know.
        """

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        """Create or change an object with a server-side apply, as field manager ``ebbtide``, and return the result.

        ``force`` takes ownership of conflicting fields; without it a ``ConflictError`` names their owners. A dry run
        changes nothing but calls the webhooks. The replicas of Deployments are left to their autoscaler. With ``basis``,
        the object as it was read, the write succeeds only on that version, and otherwise raises a ``StaleError``.
        """

    def create(self, item: Object) -> Object:
        """Apply an object that does not exist yet; raise an ``ExistsError`` if it does.

        If several callers create an object concurrently, exactly one succeeds. The object can be applied afterwards.
        """

    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Object,
        *,
        dry_run: bool = False,
        basis: Object | None = None,
    ) -> Object:
        """Change an object with a merge patch (RFC 7386), as field manager ``ebbtide-live``, and return the result.

        ``basis`` has the same meaning as in ``apply``.
        """

    def patch_status(self, kind: Kind, name: str, namespace: str, status: Object) -> Object:
        """Change the status of an object with a merge patch of its subresource, and return the object."""

    def impersonate(self, user: str) -> Cluster:
        """Return the cluster with the permissions of another user, such as ``system:serviceaccount:team-a:ebbtide``.

        Its calls raise a ``ForbiddenError`` if the caller is not allowed to impersonate that user.
        """

    def is_allowed(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Return whether the caller's account has this permission; a namespace of "" means all namespaces."""

    def read(self, path: str) -> Object:
        """Return the response of a non-object API path: ``/version``, ``/apis/custom.metrics.k8s.io/v1beta1``.

        Raises a ``MissingError`` if the API does not serve the path.
        """

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Delete an object and all objects that it owns, in the background; a missing object is not an error.

        With ``uid``, only the object with that uid is deleted: a newer object of the same name is kept.
        """

    def logs(self, namespace: str, pod: str, container: str, query: LogQuery = WHOLE_LOG) -> LogStream:
        """Return the part of a container's log that ``query`` selects, line by line, without newlines."""


class Clock(Protocol):
    """A source of time, in seconds since 1970; a test's clock advances only in ``sleep``."""

    def now(self) -> float:
        """Return the current time."""

    def ticks(self) -> float:
        """Return seconds of a clock that only advances, for deadlines; setting the machine's time does not change it."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


def make_applicable(item: Object) -> Object:
    """Return an object that can be applied: without fields that the server sets or replicas that an autoscaler owns.

    The server rejects an object with ``managedFields``. The replicas of a Deployment belong to the HPA, to Knative's
    autoscaler or to KServe: applying a number would reset it on each call.
    """
    applicable = deepcopy(item)
    applicable.pop("status", None)
    for field in ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"):
        applicable["metadata"].pop(field, None)
    if applicable["kind"] in {"Deployment", "StatefulSet", "ReplicaSet"}:
        applicable.get("spec", {}).pop("replicas", None)
    return applicable


def add_preconditions(item: Object, basis: Object | None) -> Object:
    """Return an object to write, on the condition that the live object is unchanged since ``basis`` was read."""
    if basis is None:
        return item
    preconditions = {part: basis["metadata"][part] for part in ("uid", "resourceVersion")}
    return {**item, "metadata": {**item.get("metadata", {}), **preconditions}}


def is_no_older(version: str, than: str) -> bool:
    """Return whether a resource version equals another or follows it; API servers increase them numerically."""
    return version == than or (version.isdecimal() and than.isdecimal() and int(version) >= int(than))


def explain_forbidden(message: str) -> str:
    """Return the API server's message about a missing permission as a sentence, with the command that grants it.

    Upstream: k8s.io/apiserver pkg/endpoints/handlers/responsewriters/errors.go (forbiddenMessage).
    """
    match = FORBIDDEN.search(message)
    if match is None:
        return message
    kind = ".".join(filter(None, (match["resource"], match["group"])))
    if not match["namespace"]:
        return (
            f"forbidden: {match['user']} cannot {match['verb']} {kind} in the cluster. A cluster administrator can grant it "
            "with a ClusterRoleBinding"
        )
    member = match["user"].removeprefix("system:")
    return (
        f"forbidden: {match['user']} cannot {match['verb']} {kind} in namespace {match['namespace']}. An administrator of the "
        f"project can add you: ebbtide project create PROJECT --member {member}"
    )


def event_time(event: Object) -> str:
    """Return the time an event was last observed, in the API's format; events are sorted by it."""
    for field in ("lastTimestamp", "eventTime", "firstTimestamp"):
        if event.get(field):
            return str(event[field])
    return str(get_at(event, "metadata", "creationTimestamp", default=""))


def shorten_start_error(message: str) -> str:
    """Return the reason why a process did not start: runc's message without its wrappers, at most 160 characters."""
    text = message.strip().removesuffix(": unknown")
    return (text.rpartition("unable to start container process: ")[2] or text)[-160:]
