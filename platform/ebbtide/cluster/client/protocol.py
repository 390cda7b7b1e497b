"""What Ebbtide asks of a cluster: objects as plain dicts, one Protocol, its own exceptions.

Two implementations stand behind it, ``kubernetes.py`` on the official client and ``sandbox/simulated.py`` in memory, and one
contract suite runs on both (tests/test_cluster_contract.py). Upstream: k8s.io/apimachinery pkg/apis/meta/v1/types.go
(Status, WatchEvent), kubernetes.io/docs/reference/using-api/server-side-apply.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

from ebbtide.base.paths import at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.translation.objects import Object

#: The field manager of what ``apply`` writes.
MANAGER: Final = "ebbtide"
#: The field manager of what is set by hand on a live object: ``apply`` must not take it for its own and remove it.
LIVE_MANAGER: Final = "ebbtide-live"


class ClusterError(Exception):
    """The cluster could not be asked, or said no; the message is for a person."""


class UnreachableError(ClusterError):
    """Nobody answered: no kubeconfig, no network, or a certificate that does not fit."""


class MissingError(ClusterError):
    """There is no such object, or the cluster does not know its kind."""


class ForbiddenError(ClusterError):
    """The caller's account may not do this."""


class RefusedError(ClusterError):
    """The cluster understood the object and refused it: a webhook, a quota, a wrong field."""


class BusyError(ClusterError):
    """The cluster cannot answer now: a webhook that starts, a server that is overloaded. Ask again."""


class GoneError(ClusterError):
    """The version is too old to go on from: list anew."""


class ExistsError(ClusterError):
    """There is an object of this name already, and it is left as it is."""


class StaleError(ClusterError):
    """The object was changed, or went, since it was read, and the write was to go by what was read."""


class ConflictError(ClusterError):
    """Another field manager owns what would be changed; ``owners`` names each with its fields."""

    def __init__(self, message: str, owners: dict[str, tuple[str, ...]]) -> None:
        """Keep the owners beside the message."""
        super().__init__(message)
        self.owners = owners


class CutShortError(ClusterError):
    """A write failed after others had succeeded; ``done`` names them. Doing it again gives the same end."""

    def __init__(self, cause: ClusterError, done: tuple[str, ...]) -> None:
        """Keep what was done beside the cause."""
        super().__init__(f"{cause}; before that {', '.join(done)} had been written, and it may all be sent again")
        self.cause, self.done = cause, done


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and where the API serves it."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def path(self) -> str:
        """The API's path up to the namespace: ``/api/v1``, ``/apis/apps/v1``."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"


KNATIVE: Final = Kind("serving.knative.dev/v1", "Service", "services")
REVISION: Final = Kind("serving.knative.dev/v1", "Revision", "revisions")
POD_AUTOSCALER: Final = Kind("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler", "podautoscalers")
KSERVE: Final = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
POD: Final = Kind("v1", "Pod", "pods")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
EVENT: Final = Kind("v1", "Event", "events")
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)
QUOTA: Final = Kind("v1", "ResourceQuota", "resourcequotas")
HPA: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
PRIORITY_CLASS: Final = Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False)
SERVICE: Final = Kind("v1", "Service", "services")
QUEUE: Final = Kind("scheduling.run.ai/v2", "Queue", "queues", namespaced=False)
ROLE_BINDING: Final = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE: Final = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
DOMAIN_CLAIM: Final = Kind(
    "networking.internal.knative.dev/v1alpha1", "ClusterDomainClaim", "clusterdomainclaims", namespaced=False
)
CLUSTER_RUNTIME: Final = Kind(
    "serving.kserve.io/v1alpha1", "ClusterServingRuntime", "clusterservingruntimes", namespaced=False
)

#: Every kind that is rendered or read. No discovery: a kind that the cluster lacks answers as missing.
KINDS: Final[dict[tuple[str, str], Kind]] = {
    (kind.api_version, kind.name): kind
    for kind in (
        KNATIVE,
        REVISION,
        POD_AUTOSCALER,
        KSERVE,
        DEPLOYMENT,
        POD,
        NODE,
        EVENT,
        NAMESPACE,
        QUOTA,
        HPA,
        CONFIG_MAP,
        PRIORITY_CLASS,
        SERVICE,
        QUEUE,
        ROLE_BINDING,
        CLUSTER_ROLE,
        NETWORK_POLICY,
        DOMAIN_CLAIM,
        CLUSTER_RUNTIME,
        Kind("v1", "LimitRange", "limitranges"),
        Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        Kind("serving.knative.dev/v1beta1", "DomainMapping", "domainmappings"),
        Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
        *(
            Kind(f"resource.k8s.io/{version}", "ResourceClaimTemplate", "resourceclaimtemplates")
            for version in ("v1", "v1beta1", "v1beta2")
        ),
    )
}


def kind_of(item: Object) -> Kind:
    """Return the kind of an object.

    Raises:
        MissingError: nothing here reads or writes such objects.

    """
    found = KINDS.get((item["apiVersion"], item["kind"]))
    if found is None:
        raise MissingError(f"{item['apiVersion']} {item['kind']} is no kind that Ebbtide applies")
    return found


#: Named, since in a class with a method ``list`` the word no longer means the type.
Objects: TypeAlias = "list[Object]"


class Listing(NamedTuple):
    """The objects of a kind at one moment, and the version from which a watch goes on."""

    items: list[Object]
    version: str


Change = Literal["ADDED", "MODIFIED", "DELETED"]


class Seen(NamedTuple):
    """One change that a watch saw; a deleted object is as it was last."""

    change: Change
    item: Object


class Mark(NamedTuple):
    """Where a connection has come to: nothing before this version is still to be told."""

    version: str


class Log(Protocol):
    """A container's log as it comes; its errors are a ``ClusterError``, as of all that a cluster tells."""

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""

    def close(self) -> None:
        """End it, while another thread waits for the next line, too. A ``ValueError`` where that cannot be."""


class Cluster(Protocol):
    """A cluster. Every method raises a ``ClusterError``, and nothing else that the cluster is the cause of."""

    @property
    def namespace(self) -> str:
        """The namespace of who says none: the kubeconfig's, or ``default``."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object; a ``MissingError`` where there is none."""

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return the objects of a namespace, or of all; ``labels`` is a selector like ``app=chat,tier!=web``.

        A kind that the cluster does not know has no objects.
        """

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        """Yield changes after version ``since`` for so many seconds; without it, what is there comes first, as added.

        A connection that ends is taken up where it ended. Where that is too long ago everything is listed anew: the
        present objects come again as added or modified, those that went meanwhile as deleted; no change is lost, and
        only the newest state of each is promised.
        """

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        """Yield what one connection tells of a kind in all namespaces after version ``since``, and end with it.

        Without a version, what is there comes first, as added and page by page, and then a mark; a caller that knew more
        knows by the mark what went meanwhile. With one, a mark says that the connection stands. Nothing is taken up
        again here: a ``GoneError`` says that the version is too old, any other error that the connection is lost. A kind
        that the cluster does not know is a ``MissingError``.
        """

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        """Create or change an object server-side, as manager ``ebbtide``, and return it as it is now.

        ``force`` takes fields over from their owners; else a ``ConflictError`` names them. A dry run changes nothing,
        and goes through the webhooks all the same. Replicas of Deployments are left to whoever scales them.
        With ``basis``, the object as it was read, that very version is changed: a ``StaleError`` where it is there no more.
        """

    def create(self, item: Object) -> Object:
        """Apply an object that is not there yet; an ``ExistsError`` where it is, by whoever made it.

        Of several that create one at once, exactly one does. What is made may be applied like anything else.
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
        """Change an object by a merge patch (RFC 7386), as manager ``ebbtide-live``, and return it; ``basis`` as above."""

    def may(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Say whether the caller's own account may do this; a namespace of "" is all of them."""

    def read(self, path: str) -> Object:
        """Return what the API answers at a path that is no object's: ``/version``, ``/apis/custom.metrics.k8s.io/v1beta1``.

        A ``MissingError`` where it serves no such thing.
        """

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Mark an object for deletion with all that it owns; what is not there is no error.

        With ``uid`` only that object: another one of the name, made since, stays, and the one that is meant is not there.
        """

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Log:
        """Return a container's log line by line, without the line's end; with ``follow`` until the container ends."""

    def events(self, namespace: str = "") -> Objects:
        """Return the events of a namespace, or of all, oldest first."""


class Clock(Protocol):
    """Where time comes from, in seconds since 1970; a test's clock moves only when it sleeps."""

    def now(self) -> float:
        """Return the time."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


def prepared(item: Object) -> Object:
    """Return an object as it may be applied: nothing that the server sets, no replicas that an autoscaler owns.

    A read-back object with ``managedFields`` is refused by the server, and replicas of a Deployment belong to the HPA,
    to Knative's autoscaler or to KServe: to apply a number would put it back at each call.
    """
    made = deepcopy(item)
    made.pop("status", None)
    for field in ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"):
        made["metadata"].pop(field, None)
    if made["kind"] in {"Deployment", "StatefulSet", "ReplicaSet"}:
        made.get("spec", {}).pop("replicas", None)
    return made


def conditional(item: Object, basis: Object | None) -> Object:
    """Return what is to be written with the condition that its object is still as it was read."""
    if basis is None:
        return item
    read = {part: basis["metadata"][part] for part in ("uid", "resourceVersion")}
    return {**item, "metadata": {**item.get("metadata", {}), **read}}


def happened(event: Object) -> str:
    """Return when an event was last seen, as the API writes times: what sorts events."""
    for field in ("lastTimestamp", "eventTime", "firstTimestamp"):
        if event.get(field):
            return str(event[field])
    return str(at(event, "metadata", "creationTimestamp", default=""))


def start_cause(message: str) -> str:
    """Return why a process did not begin: what runc says behind all who passed it on, at most 160 characters."""
    text = message.strip().removesuffix(": unknown")
    return (text.rpartition("unable to start container process: ")[2] or text)[-160:]
