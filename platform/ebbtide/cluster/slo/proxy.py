"""Prometheus behind the API server's proxy: its path, the histograms and scrape jobs that it has, and what it knows of the activator.

Reading it this way needs only the cluster's credentials, and no client library of Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from ebbtide.cluster.slo.queries import GATEWAYS
from ebbtide.core.base.annotations import parse_finite
from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.base.paths import get_at

#: Minutes over which scrapes are counted.
INTERVAL_MINUTES: Final = 10
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
    names = "|".join(re.escape(f"{name}_count") for name in GATEWAYS)
    found = _read_list(read, url, "label/__name__/values", {"match[]": f'{{__name__=~"{names}"}}'}, "data")
    return next((name for name in GATEWAYS if f"{name}_count" in found), "")


def find_exporter_jobs(read: Callable[[str], Any], url: str) -> dict[str, dict[str, set[str]]]:
    """Return the scrape jobs that have series of each exporter of ``EXPORTERS``, with the namespaces of all targets of the job.

    The namespaces are those of ``up``, which Prometheus writes itself. ``read`` is as for ``find_gateway_histogram``.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for row in EXPORTERS.values():
        query = f'group by (job, namespace) (up) and on (job) group by (job) ({{__name__=~"{row.series}"}})'
        for labels in _read_labels(read, url, query):
            places = found.setdefault(row.name, {}).setdefault(labels.get("job", ""), set())
            places.add(labels.get("namespace", ""))
    return found


def find_scrape_intervals(read: Callable[[str], Any], url: str) -> dict[tuple[str, str], float]:
    """Return the seconds between two scrapes of pods, by scrape job and namespace: of the target with the most scrapes.

    ``read`` is as for ``find_gateway_histogram``.
    """
    query = f'max by (job, namespace) (count_over_time(up{{pod!=""}}[{INTERVAL_MINUTES}m]))'
    found = {}
    for row in _read_list(read, url, "query", {"query": query}, "data", "result"):
        job, namespace = (str(get_at(row, "metric", name, default="")) for name in ("job", "namespace"))
        count = parse_finite(get_at(row, "value", 1, default=None))
        if count:
            found[job, namespace] = 60 * INTERVAL_MINUTES / count
    return found


def find_renaming_jobs(read: Callable[[str], Any], url: str) -> set[str]:
    """Return the scrape jobs for which Prometheus renames the labels of the GPU exporter."""
    query = f'group by (job) ({{__name__=~"{EXPORTERS["gpu"].series}",exported_pod!=""}})'
    return {labels.get("job", "") for labels in _read_labels(read, url, query)}


def _read_labels(read: Callable[[str], Any], url: str, query: str) -> list[dict[str, str]]:
    rows = _read_list(read, url, "query", {"query": query}, "data", "result")
    return [labels for row in rows if isinstance(labels := get_at(row, "metric", default={}), dict)]


def count_disconnected_activators(read: Callable[[str], Any], url: str) -> int:
    """Return the number of activators that the Prometheus at ``url`` sees without a connection to the autoscaler.

    It is 0 if Prometheus does not scrape them. ``read`` is as for ``find_gateway_histogram``.
    """
    return len(_read_list(read, url, "query", {"query": DISCONNECTED}, "data", "result"))


def _read_list(read: Callable[[str], Any], url: str, query: str, parameters: dict[str, str], *place: str) -> list[Any]:
    """Return the list at a place of an answer; empty without one, and for an address that is not that of a Service."""
    path = proxy_path(url)
    answer = None if path is None else read(f"{path}/api/v1/{query}?{urlencode(parameters)}")
    rows = get_at(answer, *place) if isinstance(answer, dict) else None
    return rows if isinstance(rows, list) else []
