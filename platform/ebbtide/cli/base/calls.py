"""The command that calls a workload, as it works from this machine: by name, at the gateway's address, or forwarded."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ebbtide.cli.base.connection import Cluster
    from ebbtide.cluster.read.status import Status
    from ebbtide.core.translation.objects import Object

#: Seconds to wait for a name to resolve, and for a gateway to accept a connection.
RESOLVE_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 0.3


class Access(NamedTuple):
    """The way from this machine to a workload: by name, at an address of its gateway, or through a forwarded port.

    The port is forwarded to the gateway's Service, given by namespace and name, or for ``reason`` to a pod of the workload.
    """

    by_name: bool = False
    address: tuple[str, int] | None = None
    service: tuple[str, str] | None = None
    reason: str = ""


def find_access(cluster: Cluster, status: Status, top: object) -> Access:
    """Return the way from this machine to a workload with a URL."""
    from ebbtide.cluster.read.gateways import find_gateway, find_route_gateway

    if ".svc." in status.url:
        return Access(reason=f"{status.url} is reachable only inside the cluster")
    host = urlsplit(status.url).hostname or ""
    if resolves(host):
        return Access(by_name=True)
    gateway = find_route_gateway(cluster, top) if is_standard(top, status) else find_gateway(cluster)
    if gateway is None:
        return Access(reason=f"{host} does not resolve on this machine")
    for address, port in gateway.addresses:
        if accepts(address, port):
            return Access(address=(address, port))
    if not gateway.service:
        return Access(reason="no address of its gateway answers this machine")
    return Access(service=(gateway.namespace, gateway.service))


def format_call(cluster: Cluster, status: Status, top: Object) -> str:
    """Return the command that calls a workload; empty if it has no URL, or the demo's."""
    from ebbtide.cli.base import connection
    from ebbtide.cluster.read.gateways import HTTP_PORT, LOCAL_PORT, forward_command
    from ebbtide.cluster.read.served_model import find_served_model

    simulated = connection.simulated
    # The gateway of a demo, and a service that is new in it, end with the command.
    if not status.url or (simulated is not None and simulated.gateway):
        return ""
    if find_served_model(top):
        return f'ebbtide call {status.name} -n {status.namespace} --chat "Hello"'
    access = find_access(cluster, status, top)
    url, host = status.url.rstrip("/"), urlsplit(status.url).hostname or ""
    if access.by_name:
        return f"curl {url}/"
    if access.address is not None:
        address, port = access.address
        if port == HTTP_PORT:
            return f"curl --resolve {host}:{port}:{address} {url}/"
        return f"curl -H 'Host: {host}' http://{address}:{port}/"
    if access.service is not None:
        namespace, name = access.service
        return (
            f"kubectl port-forward -n {namespace} service/{name} {LOCAL_PORT}:{HTTP_PORT} & "
            f"curl --retry 5 --retry-connrefused -H 'Host: {host}' http://127.0.0.1:{LOCAL_PORT}/"
        )
    return f"{forward_command(status)}   # {access.reason}"


def describe_access(cluster: Cluster, status: Status, top: Object) -> tuple[str, str]:
    """Return a workload's URL, with the reason if it does not answer, and the command that calls the workload."""
    from ebbtide.cluster.read.gateways import forward_command
    from ebbtide.cluster.read.phases import SILENT

    if not status.url:
        return "", ""
    if status.phase in SILENT:
        return f"{status.url} (does not answer: the workload is {status.phase})", ""
    unrouted = explain_no_route(cluster, status, top)
    if unrouted:
        return f"{status.url} (does not answer: {unrouted})", forward_command(status)
    return status.url, format_call(cluster, status, top)


def explain_no_route(cluster: Cluster, status: Status, top: object) -> str:
    """Return why a workload's URL does not answer; empty if it may."""
    from ebbtide.cluster.read.gateways import explain_unrouted

    return explain_unrouted(cluster, top) if is_standard(top, status) else ""


def is_standard(top: object, status: Status) -> TypeGuard[Object]:
    """Return whether a workload runs without Knative, which alone gives an InferenceService revisions."""
    return status.kind == "InferenceService" and not status.revisions and isinstance(top, dict)


def resolves(host: str) -> bool:
    """Return whether this machine resolves a host name; False if its resolver does not answer in time."""
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(1)
    try:
        return bool(executor.submit(socket.getaddrinfo, host, None).result(RESOLVE_SECONDS))
    except (OSError, TimeoutError):
        return False
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def accepts(address: str, port: int) -> bool:
    """Return whether a connection to an address succeeds."""
    try:
        socket.create_connection((address, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
