"""Table of the gateways of Knative's services, by the ingress class that config-network names.

Upstream: knative.dev/net-kourier, net-contour and net-istio (names of the gateways' Services). net-kourier v0.48.0
pkg/generator/ingress_translator.go, trackService, tracks the EndpointSlices of each revision by a selector;
knative.dev/pkg tracker/enqueue.go (v0.0.0-20260727151759), TrackReference, keeps one selector for each kind, namespace and
watcher, so that of the last revision replaces the others.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class IngressGateway(NamedTuple):
    """A gateway: its name, its Service, and whether it follows the pods of every revision of a traffic split."""

    title: str
    namespace: str
    service: str
    follows_splits: bool = True


INGRESS_GATEWAYS: Final = {
    "kourier.ingress.networking.knative.dev": IngressGateway(
        "Kourier", "kourier-system", "kourier", follows_splits=False
    ),
    "contour.ingress.networking.knative.dev": IngressGateway("Contour", "contour-external", "envoy"),
    "istio.ingress.networking.knative.dev": IngressGateway("Istio", "istio-system", "istio-ingressgateway"),
}
