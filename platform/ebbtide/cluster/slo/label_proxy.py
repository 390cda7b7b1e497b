"""Prometheus for the controller: directly for its own queries, and through prom-label-proxy for those of members.

prom-label-proxy runs with ``-label namespace -query-param namespace``. It removes the parameter ``namespace`` from a request, sets
the matcher of its value in each selector of ``query``, and passes the other parameters on. It answers a request without the
parameter, and a query that it cannot parse, with status 400 and the key ``error``. Upstream:
github.com/prometheus-community/prom-label-proxy v0.14.0 injectproxy/routes.go (``HTTPFormEnforcer``, ``query``), utils.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.cluster.slo.source import SourceError
from ebbtide.core.profile.projects import find_query_fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.cluster.slo.prometheus import PrometheusSource


class ScopedSource:
    """A Prometheus, and a prom-label-proxy in front of it."""

    def __init__(self, direct: PrometheusSource, proxy: PrometheusSource | None) -> None:
        """Without a proxy, queries for a namespace have no values."""
        self._direct, self._proxy = direct, proxy

    def samples(self, query: str, namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        """Return the labels and the finite values of a query's result now, or raise a ``SourceError``.

        With a namespace, prom-label-proxy limits the query to its series.
        """
        if not namespace:
            return self._direct.samples(query)
        if fault := find_query_fault(query):
            raise SourceError(fault)
        if self._proxy is None:
            raise SourceError(
                "queries of this namespace need prom-label-proxy: set metrics.prometheusProxy in the profile"
            )
        return self._proxy.samples(query, namespace=namespace)
