"""``ebbtide delete NAME``: the workload and what was made beside it; data stays unless it is named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide import keys
from ebbtide.cli import live

if TYPE_CHECKING:
    import argparse

    from ebbtide.cluster.protocol import Cluster, Kind
    from ebbtide.objects import Object

#: What is made beside a workload, under its labels.
COMPANIONS: Final = (
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("serving.knative.dev/v1beta1", "DomainMapping"),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("v1", "ServiceAccount"),
)
DATA: Final = ("v1", "PersistentVolumeClaim")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    live.add_name(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--data", action="store_true", help="its volume claims too, with what is on them")
    live.add_wait(parser, "its pods are gone")
    live.add_format(parser, "text", "name")


def run(options: argparse.Namespace) -> int:
    """Ask and delete."""
    limit = live.limit_of(options)
    if limit is None:
        return 2
    return live.on_cluster(options, lambda cluster: _delete(cluster, options, limit))


def _delete(cluster: Cluster, options: argparse.Namespace, limit: float) -> int:
    from ebbtide.cluster.live import top_of  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.protocol import KINDS, kind_of  # noqa: PLC0415 - as above

    namespace = live.place(cluster, options)
    top = top_of(cluster, options.name, namespace)
    beside = [found for key in COMPANIONS for found in _beside(cluster, KINDS[key], top)]
    data = _beside(cluster, KINDS[DATA], top)
    if options.data:
        beside += data
    names = ", ".join(f"{item['kind']} {item['metadata']['name']}" for item in (top, *beside))
    if not live.confirmed(f"Delete {names} in namespace {namespace}?", yes=options.yes):
        return 2
    # What scales it goes first; the workload itself takes its revisions and pods along.
    for item in (*beside, top):
        cluster.delete(kind_of(item), item["metadata"]["name"], namespace)
        if options.output == "text":
            sys.stdout.write(f"deleted {item['kind']} {namespace}/{item['metadata']['name']}\n")
    if options.output == "name":
        sys.stdout.write(f"{namespace}/{options.name}\n")
    if data and not options.data:
        kept = ", ".join(item["metadata"]["name"] for item in data)
        live.tell(f"kept with their data: {kept} (--data deletes them too)")
    try:
        return _wait(cluster, options.name, top, namespace, limit)
    except KeyboardInterrupt:
        live.tell("\nno longer waiting; what is deleted goes on ending")
        return live.INTERRUPTED


def _wait(cluster: Cluster, name: str, top: Object, namespace: str, limit: float) -> int:
    from ebbtide.cluster.protocol import POD  # noqa: PLC0415 - as above

    label = keys.KSERVE_SERVICE if top["kind"] == "InferenceService" else keys.KNATIVE_SERVICE
    clock = live.clock()
    end = clock.now() + limit
    while limit:
        left = cluster.list(POD, namespace, labels=f"{label}={name}").items
        if not left:
            return 0
        if clock.now() >= end:
            live.tell(f"{len(left)} of its pods are still ending")
            return live.CLUSTER
        clock.sleep(1.0)
    return 0


def _beside(cluster: Cluster, kind: Kind, top: Object) -> list[Object]:
    """Return a workload's companions of a kind: ours by label, and nobody else's by owner."""
    metadata = top["metadata"]
    labels = f"{keys.APP_NAME}={metadata['name']},{keys.APP_MANAGED_BY}=ebbtide"
    found = cluster.list(kind, metadata["namespace"], labels=labels).items
    return [item for item in found if _owners(item) <= {metadata["uid"]}]


def _owners(item: Object) -> set[str]:
    return {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
