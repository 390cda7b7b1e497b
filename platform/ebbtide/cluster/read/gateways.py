"""The gateways that serve the URLs of workloads: their Services and addresses, and the endpoint of a workload.

Upstream: k8s.io/api core/v1 (ServiceStatus), kserve pkg/controller/v1beta1/inferenceservice/reconcilers/ingress (Ingress and
HTTPRoute of Standard mode).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.endpoint import CallError, Endpoint, explain_foreign_url
from ebbtide.cluster.client.protocol import Cluster, ClusterError, MissingError
from ebbtide.cluster.read.pods import is_ready
from ebbtide.cluster.read.status import Status
from ebbtide.core.base.ingress import INGRESS_GATEWAYS
from ebbtide.core.base.names import name_llm_deployment, name_predictor
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

HTTP_PORT: Final = 80
#: The port of this machine in printed commands.
LOCAL_PORT: Final = 8080


class Gateway(NamedTuple):
    """A gateway's Service, and its addresses, the most public first. Not every address is reachable for every client.

    The name of the Service is empty if it is unknown: a Gateway or an Ingress names only addresses.
    """

    namespace: str
    service: str
    addresses: tuple[tuple[str, int], ...]


def forward_command(status: Status) -> str:
    """Return the kubectl command that forwards a local port to the same port of a pod of a workload."""
    if status.kind == kube.LLM.name:
        deployment = name_llm_deployment(status.name)
    elif status.revisions:
        deployment = f"{max(status.revisions, key=lambda row: row.traffic_percent).name}-deployment"
    else:
        deployment = name_predictor(status.name)
    return f"kubectl port-forward -n {status.namespace} deployment/{deployment} {LOCAL_PORT}"


def find_gateway(cluster: Cluster) -> Gateway | None:
    """Return the gateway of Knative's services; None if there is none, or if reading it is forbidden."""
    for row in INGRESS_GATEWAYS.values():
        try:
            service = cluster.get(kube.SERVICE, row.service, row.namespace)
        except ClusterError:
            continue
        return Gateway(row.namespace, row.service, tuple(_list_addresses(cluster, service)))
    return None


def find_gateway_pod(cluster: Cluster, namespace: str, service: str) -> tuple[str, int] | None:
    """Return a ready pod of a gateway's Service, and its port for HTTP; None if there is none.

    Raises ClusterError if reading the Service or its pods is forbidden, or if the cluster did not answer.
    """
    spec = cluster.get(kube.SERVICE, service, namespace).get("spec") or {}
    labels = ",".join(f"{name}={value}" for name, value in (spec.get("selector") or {}).items())
    row: Object = next((row for row in spec.get("ports") or () if row.get("port") == HTTP_PORT), {})
    target = row.get("targetPort") or row.get("port")
    if not labels or not target:
        return None
    for pod in cluster.list(kube.POD, namespace, labels=labels).items:
        containers = get_at(pod, "spec", "containers", default=[])
        ports = {port.get("name"): port["containerPort"] for row in containers for port in row.get("ports") or ()}
        port = ports.get(target) if isinstance(target, str) else target
        if port and is_ready(pod):
            return str(pod["metadata"]["name"]), int(port)
    return None


def find_route_gateway(cluster: Cluster, top: Object) -> Gateway | None:
    """Return the gateway of an InferenceService in Standard mode; None if it has no route, or if reading it is forbidden.

    Upstream: sigs.k8s.io/gateway-api apis/v1 (HTTPRoute, Gateway).
    """
    try:
        route = _get_or_none(cluster, top["metadata"]["name"], top["metadata"]["namespace"])
        if route is None:
            return None
        if route["kind"] == kube.INGRESS.name:
            rows = get_at(route, "status", "loadBalancer", "ingress", default=[])
            return Gateway("", "", tuple((str(row.get("ip") or row.get("hostname")), HTTP_PORT) for row in rows))
        parent: Object = next(iter(get_at(route, "spec", "parentRefs", default=[])), {})
        namespace = parent.get("namespace") or top["metadata"]["namespace"]
        gateway = cluster.get(kube.GATEWAY, parent.get("name", ""), namespace)
    except ClusterError:
        return None
    listeners = get_at(gateway, "spec", "listeners", default=[])
    ports = [listener["port"] for listener in listeners if listener.get("protocol") == "HTTP"]
    addresses = get_at(gateway, "status", "addresses", default=[])
    return Gateway(namespace, "", tuple((str(row["value"]), port) for row in addresses for port in ports))


def _list_addresses(cluster: Cluster, service: Object) -> Iterator[tuple[str, int]]:
    ports = get_at(service, "spec", "ports", default=[])
    port: Object = next((row for row in ports if row.get("port") == HTTP_PORT), {})
    for row in get_at(service, "status", "loadBalancer", "ingress", default=[]):
        if port and (row.get("ip") or row.get("hostname")):
            yield str(row.get("ip") or row.get("hostname")), HTTP_PORT
    if not port.get("nodePort"):
        return
    try:
        nodes = cluster.list(kube.NODE).items
    except ClusterError:
        return
    addresses = [row for node in nodes for row in get_at(node, "status", "addresses", default=[])]
    for kind in ("ExternalIP", "InternalIP"):
        yield from ((row["address"], port["nodePort"]) for row in addresses if row.get("type") == kind)


def explain_unrouted(cluster: Cluster, top: Object) -> str:
    """Return why the URL of an InferenceService in Standard mode does not answer; empty if it may, or if it is unknown.

    KServe sets the URL and the condition IngressReady although it creates no route (``disableIngressCreation``), and does
    not check whether a controller serves the Ingress.
    """
    name, namespace = top["metadata"]["name"], top["metadata"]["namespace"]
    try:
        ingress = _get_or_none(cluster, name, namespace)
    except ClusterError:
        return ""
    if ingress is None:
        return "KServe created neither an Ingress nor an HTTPRoute for it (disableIngressCreation in inferenceservice-config)"
    if ingress["kind"] == kube.INGRESS.name and not get_at(ingress, "status", "loadBalancer", "ingress"):
        controller = get_at(ingress, "spec", "ingressClassName") or "the default class"
        return f"no ingress controller serves Ingress {name} of class {controller}"
    if ingress["kind"] == kube.HTTP_ROUTE.name and not get_at(ingress, "status", "parents"):
        return f"no gateway accepts HTTPRoute {name}"
    return ""


def _get_or_none(cluster: Cluster, name: str, namespace: str) -> Object | None:
    for kind in (kube.HTTP_ROUTE, kube.INGRESS):
        try:
            return cluster.get(kind, name, namespace)
        except MissingError:
            continue
    return None


def make_endpoint(status: Status, gateway: str, timeout: float) -> Endpoint:
    """Return the endpoint of a workload: its URL, or the gateway with the URL's host name."""
    return Endpoint(gateway or status.url, urlsplit(status.url).netloc, timeout)


def make_guarded_endpoint(status: Status, gateway: str, timeout: float) -> Endpoint:
    """Return the endpoint of a workload for a server that sends requests for its users.

    Raises CallError if the workload has no URL, or one that Knative or KServe cannot have written.
    """
    if not status.url:
        raise CallError(f"{status.name} has no URL: {status.why or status.phase}")
    if why := explain_foreign_url(status.url, status.name, status.namespace):
        raise CallError(f"{status.url} is not accepted as the URL of {status.name}: {why}")
    # The operator of the server chose the gateway, which may be on this machine.
    return make_endpoint(status, gateway, timeout)._replace(guarded=not gateway)
