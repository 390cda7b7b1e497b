"""Prometheus behind the API server's proxy: its path, the gateway's histogram that it has, and what it knows of the activator.

Reading it this way needs only the cluster's credentials, and no client library of Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from ebbtide.cluster.slo.queries import GATEWAYS
from ebbtide.core.base.paths import get_at

#: The activators without a connection to the autoscaler (knative.dev/serving #16318: 1 with one, 0 without).
DISCONNECTED: Final = "kn_activator_stats_conn_reachable == 0"
#: The cluster-internal address of a Service: prometheus.monitoring.svc, with or without a domain.
SERVICE: Final = re.compile(r"(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)(\.svc(\..+)?)?")


def proxy_path(url: str) -> str | None:
    """Return the API server's proxy path for the address of a Service, or None for any other address.

    ``http://prometheus.monitoring.svc:9090`` is ``/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy``
    (kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services).
    """
    parts = urlsplit(url)
    match = SERVICE.fullmatch(parts.hostname or "")
    if match is None or not match[3]:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path.rstrip("/")
    return f"/api/v1/namespaces/{match['namespace']}/services/{parts.scheme}:{match['name']}:{port}/proxy{quote(path)}"


def find_gateway_histogram(read: Callable[[str], Any], url: str) -> str:
    """Return the histogram of a known gateway that the Prometheus at ``url`` has; empty if it has none.

    ``read`` reads a path of the API server, and its errors are passed on. Upstream:
    prometheus.io/docs/prometheus/latest/querying/api (label values).
    """
    path = proxy_path(url)
    if path is None:
        return ""
    names = "|".join(re.escape(f"{name}_count") for name in GATEWAYS)
    query = urlencode({"match[]": f'{{__name__=~"{names}"}}'})
    answer = read(f"{path}/api/v1/label/__name__/values?{query}")
    found = answer.get("data") if isinstance(answer, dict) else None
    return next((name for name in GATEWAYS if isinstance(found, list) and f"{name}_count" in found), "")


def count_disconnected_activators(read: Callable[[str], Any], url: str) -> int:
    """Return the number of activators that the Prometheus at ``url`` sees without a connection to the autoscaler.

    It is 0 if Prometheus does not scrape them. ``read`` is as for ``find_gateway_histogram``.
    """
    path = proxy_path(url)
    if path is None:
        return 0
    answer = read(f"{path}/api/v1/query?{urlencode({'query': DISCONNECTED})}")
    rows = get_at(answer, "data", "result") if isinstance(answer, dict) else None
    return len(rows) if isinstance(rows, list) else 0
