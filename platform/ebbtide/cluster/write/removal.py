"""Deletion of a workload with its companion objects; its volume claims are kept unless requested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ebbtide.cluster.client.protocol import KINDS, Cluster, Kind, MissingError, RefusedError, kind_of
from ebbtide.cluster.read.inventory import explain_resource_owner, get_top, list_labeled
from ebbtide.cluster.write.endpoints import refresh_models
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS
from ebbtide.core.translation.objects import Object

#: Kinds of a workload's companion objects, which have its labels.
COMPANIONS: Final = (
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("policy/v1", "PodDisruptionBudget"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("serving.kserve.io/v1alpha1", "LocalModelNamespaceCache"),
    ("serving.knative.dev/v1beta1", "DomainMapping"),
    *(kind for gateway in ENDPOINT_GATEWAYS.values() for kind in (gateway.route, *gateway.others)),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("v1", "ServiceAccount"),
)
DATA: Final = ("v1", "PersistentVolumeClaim")


@dataclass(frozen=True, slots=True)
class Removal:
    """The objects to delete, in order, and the volume claims to keep."""

    top: Object
    items: tuple[Object, ...]
    kept_claims: tuple[Object, ...]


def plan_removal(
    cluster: Cluster, name: str, namespace: str, *, data: bool, identity: tuple[Kind, str] | None = None
) -> Removal:
    """Return the objects that deleting a workload would delete; with ``data``, including its volume claims.

    ``identity`` is the kind and uid of its top object, in case another workload has the same name.
    Raises MissingError if the workload does not exist, and RefusedError if it belongs to a custom resource.
    """
    if identity is None:
        top = get_top(cluster, name, namespace)
    else:
        kind, uid = identity
        top = cluster.get(kind, name, namespace)
        if top["metadata"]["uid"] != uid:
            raise MissingError(f"workload with ID {uid} not found")
    if refusal := explain_resource_owner(top):
        raise RefusedError(refusal)
    companions = [companion for key in COMPANIONS for companion in _list_companions(cluster, KINDS[key], top)]
    claims = _list_companions(cluster, KINDS[DATA], top)
    # Autoscalers are deleted first; deleting the top object deletes its revisions and pods.
    return Removal(top, (*companions, *(claims if data else ()), top), () if data else tuple(claims))


def remove_workload(cluster: Cluster, planned: Removal) -> Iterator[Object]:
    """Delete the planned objects and yield each one afterwards. Safe to repeat after an interruption.

    An object that was recreated under the same name since the plan is kept.
    """
    for obj in planned.items:
        metadata = obj["metadata"]
        cluster.delete(kind_of(obj), metadata["name"], metadata.get("namespace", ""), uid=metadata["uid"])
        yield obj
    refresh_models(cluster, planned.items)


def _list_companions(cluster: Cluster, kind: Kind, top: Object) -> list[Object]:
    """Return a workload's companions of a kind: those with Ebbtide's labels and no other owner."""
    metadata = top["metadata"]
    return [
        obj
        for obj in list_labeled(cluster, kind, metadata["name"], metadata["namespace"])
        if all(owner["uid"] == metadata["uid"] for owner in obj["metadata"].get("ownerReferences", ()))
    ]
