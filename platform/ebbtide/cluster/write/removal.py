"""What goes with a workload when it is deleted, and what stays: its data, unless it is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.cluster.client.protocol import KINDS, MissingError, kind_of
from ebbtide.cluster.read.inventory import top_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Cluster, Kind
    from ebbtide.translation.objects import Object

#: What is made beside a workload, under its labels.
COMPANIONS: Final = (
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("serving.knative.dev/v1beta1", "DomainMapping"),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("v1", "ServiceAccount"),
)
DATA: Final = ("v1", "PersistentVolumeClaim")


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion takes, in its order, and the volume claims that it leaves."""

    top: Object
    items: tuple[Object, ...]
    kept: tuple[Object, ...]


def removal(cluster: Cluster, name: str, namespace: str, *, data: bool, one: tuple[Kind, str] | None = None) -> Removal:
    """Return what deleting a workload would remove; with ``data`` its volume claims, too.

    ``one`` is the kind and the uid of its object, where another workload may have the same name.

    Raises:
        MissingError: there is no such workload.

    """
    if one is None:
        top = top_of(cluster, name, namespace)
    else:
        kind, uid = one
        top = cluster.get(kind, name, namespace)
        if top["metadata"]["uid"] != uid:
            raise MissingError(f"there is no workload with id {uid}")
    beside = [found for key in COMPANIONS for found in _beside(cluster, KINDS[key], top)]
    claims = _beside(cluster, KINDS[DATA], top)
    # What scales it goes first; the workload itself takes its revisions and pods along.
    return Removal(top, (*beside, *(claims if data else ()), top), () if data else tuple(claims))


def remove(cluster: Cluster, planned: Removal) -> Iterator[Object]:
    """Delete, and yield each object that is gone; to be run again if it is cut short.

    What was made anew under one of the names since it was planned stays.
    """
    for item in planned.items:
        metadata = item["metadata"]
        cluster.delete(kind_of(item), metadata["name"], metadata.get("namespace", ""), uid=metadata["uid"])
        yield item


def _beside(cluster: Cluster, kind: Kind, top: Object) -> list[Object]:
    """Return a workload's companions of a kind: ours by label, and nobody else's by owner."""
    metadata = top["metadata"]
    labels = f"{keys.APP_NAME}={metadata['name']},{keys.APP_MANAGED_BY}=ebbtide"
    found = cluster.list(kind, metadata["namespace"], labels=labels).items
    return [item for item in found if _owners(item) <= {metadata["uid"]}]


def _owners(item: Object) -> set[str]:
    return {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
