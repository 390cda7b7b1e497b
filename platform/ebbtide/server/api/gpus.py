"""The GPUs of the cluster's nodes and the pods that hold them, as far as the caller is allowed to see them."""

from __future__ import annotations

from collections.abc import Sequence

from ebbtide.cluster.client.protocol import NODE, POD, ForbiddenError
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation import gpu
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.priority import NON_PREEMPTIBLE
from ebbtide.server.api.access import Caller
from ebbtide.server.api.answers import NodeRow, ShareRow
from ebbtide.server.api.connection import CachedValue, Connection


def list_nodes(connection: Connection, caller: Caller) -> CachedValue[list[NodeRow]]:
    """Return the nodes with the holders of their GPUs, or raise a ``ForbiddenError`` if listing nodes is not allowed."""
    connection.require_synced()
    if not connection.allowed(caller, "list", NODE):
        raise ForbiddenError("listing nodes is forbidden for this caller")
    pods = _list_running_pods(connection)
    namespaces = sorted({pod["metadata"]["namespace"] for pod in pods})
    visible = connection.list_readable_namespaces(caller, POD, namespaces)
    shares: dict[str, list[ShareRow]] = {}
    nodes = {node["metadata"]["name"]: node for node in connection.cache.store.objects(NODE)}
    for pod in pods:
        metadata, place = pod["metadata"], pod["spec"]["nodeName"]
        holder = ("", "", "")
        if metadata["namespace"] in visible:
            holder = (inventory.workload_name_of_pod(pod), metadata["namespace"], metadata["name"])
        shares.setdefault(place, []).extend(
            ShareRow(resource, amount, *holder)
            for resource, amount in of_pod.count_held_gpus(pod, nodes.get(place)).items()
        )
    return connection.with_age([_node_row(node, tuple(shares.get(name, ()))) for name, node in nodes.items()])


def sum_held_gpus(
    connection: Connection, caller: Caller, namespaces: Sequence[str]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the GPUs that the running pods of each namespace hold, by resource: in total, and by preemptible pods.

    Namespaces in which the caller is not allowed to list pods are missing.
    """
    connection.require_synced()
    held: dict[str, dict[str, tuple[float, float]]] = {
        namespace: {} for namespace in connection.list_readable_namespaces(caller, POD, namespaces)
    }
    for pod in _list_running_pods(connection):
        amounts = held.get(pod["metadata"]["namespace"])
        if amounts is None:
            continue
        preemptible = gpu.find_rank(pod) < NON_PREEMPTIBLE
        for resource, amount in of_pod.sum_pod_gpus(pod).items():
            total, over = amounts.get(resource, (0.0, 0.0))
            amounts[resource] = total + amount, over + (amount if preemptible else 0.0)
    return held


def _list_running_pods(connection: Connection) -> list[Object]:
    """Return the pods that are on a node and have not ended."""
    return [
        pod
        for pod in connection.cache.store.objects(POD)
        if get_at(pod, "spec", "nodeName") and get_at(pod, "status", "phase") not in {"Succeeded", "Failed"}
    ]


def _node_row(node: Object, holders: tuple[ShareRow, ...]) -> NodeRow:
    metadata = node["metadata"]
    return NodeRow(
        metadata["name"],
        of_pod.find_condition(node, "Ready").get("status", "True") == "True",
        not get_at(node, "spec", "unschedulable", default=False),
        (metadata.get("labels") or {}).get(keys.GPU_PRODUCT, ""),
        {name: str(amount) for name, amount in get_at(node, "status", "allocatable", default={}).items()},
        holders,
    )
