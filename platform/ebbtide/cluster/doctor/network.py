"""Checks of the ways to a service and from it: Prometheus, the gateway, domain claims, network policies.

Upstream: knative.dev/networking pkg/apis/networking (ClusterDomainClaim).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import DOMAIN_CLAIM, NETWORK_POLICY, SERVICE, ForbiddenError
from ebbtide.cluster.doctor.findings import Patch, error, fetch, warning
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.doctor.findings import Finding, Wanted
    from ebbtide.cluster.doctor.observed import Observed
    from ebbtide.translation.objects import Object

#: Ingress classes, with the service that must be there for each: namespace and name.
GATEWAYS: Final = {
    "kourier.ingress.networking.knative.dev": ("kourier-system", "kourier"),
    "contour.ingress.networking.knative.dev": ("contour-external", "envoy"),
    "istio.ingress.networking.knative.dev": ("istio-system", "istio-ingressgateway"),
}
USUAL_GATEWAY: Final = "istio.ingress.networking.knative.dev"
CLAIMS: Final = "autocreate-cluster-domain-claims"


def _prometheus(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    metrics = wanted.profile.spec.metrics
    if metrics.adapter == "none":
        # The profile names an address whether or not there is anything at it.
        return
    host = (urlsplit(metrics.prometheus).hostname or "").split(".")
    if len(host) < 3 or host[2] != "svc":  # noqa: PLR2004 - name, namespace, svc
        return
    if fetch(cluster, SERVICE, host[0], host[1]) is None:
        yield warning(
            "DOC018",
            f"there is no service {host[0]} in namespace {host[1]}, where the profile says that Prometheus is",
            "slo has nothing to report, and why and list show no load",
            "correct metrics.prometheus in the profile, or install Prometheus with the monitors of kustomize/metrics",
        )


def _gateway(cluster: Cluster, seen: Observed, _: Wanted) -> Iterator[Finding]:
    network = seen.maps.get("network")
    if network is None:
        return
    name = network.get("ingress-class") or USUAL_GATEWAY
    place = GATEWAYS.get(name)
    if place is not None and fetch(cluster, SERVICE, place[1], place[0]) is None:
        yield error(
            "DOC019",
            f"Knative's ingress class is {name}, and there is no service {place[1]} in namespace {place[0]}",
            "no service gets a URL that answers: they stay not ready",
            "install that gateway, or set ingress-class in config-network to the one that is here",
        )


def _claims(cluster: Cluster, seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    network = seen.maps.get("network")
    if network is None or network.get(CLAIMS) == "true":
        return
    for item in wanted.objects:
        if item["kind"] != "DomainMapping":
            continue
        host, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        claim = fetch(cluster, DOMAIN_CLAIM, host)
        if claim is None:
            body = {
                "apiVersion": DOMAIN_CLAIM.api_version,
                "kind": DOMAIN_CLAIM.name,
                "metadata": {"name": host},
                "spec": {"namespace": namespace},
            }
            yield error(
                "DOC020",
                f"nobody has given {host} to namespace {namespace} (a ClusterDomainClaim)",
                "the DomainMapping stays not ready, and the host name does not answer",
                f"create the claim, or set {CLAIMS} in config-network",
                Patch("create", DOMAIN_CLAIM, host, body=body),
            )
        elif at(claim, "spec", "namespace") != namespace:
            yield error(
                "DOC020",
                f"{host} belongs to namespace {at(claim, 'spec', 'namespace')} (its ClusterDomainClaim)",
                f"a service in {namespace} never gets it",
                "take another host name, or let its owner give it up",
            )


def _networks(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    for namespace in wanted.namespaces:
        try:
            found = cluster.list(NETWORK_POLICY, namespace).items
        except ForbiddenError:
            continue
        closed = [
            item
            for item in found
            if _selects_all(item) and "Ingress" in at(item, "spec", "policyTypes", default=["Ingress"])
        ]
        if closed and not any(at(item, "spec", "ingress", default=[]) for item in found):
            names = ", ".join(item["metadata"]["name"] for item in closed)
            yield error(
                "DOC021",
                f"network policy {names} lets nobody reach pods in namespace {namespace}",
                "neither the gateway nor Knative's activator reaches a replica: requests fail, and nothing wakes",
                f"allow ingress from {KNATIVE_NAMESPACE} and from the gateway's namespace",
            )


def _selects_all(policy: Object) -> bool:
    return not at(policy, "spec", "podSelector", default={})


CHECKS: Final = (_prometheus, _gateway, _claims, _networks)
