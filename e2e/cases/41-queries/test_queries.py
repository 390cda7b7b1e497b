"""Queries of a project's member through prom-label-proxy: one that reads its own namespace, and one that names another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.controller import running_controller
from e2e.install import prom_label_proxy
from e2e.providers.protocol import Provider
from e2e.specs import make_spec
from e2e.stage import Stage

pytestmark = [pytest.mark.schedulers, pytest.mark.usefixtures("proxy")]

PROXIED = {
    "autoscaling": {"controller": True},
    "metrics": {"adapter": "none", "prometheusProxy": prom_label_proxy.URL},
    "projects": {"queries": "proxy"},
}
NAMESPACES = "count(count by (namespace) (up))"
"""The number of namespaces that a query reads."""
MINIMUM = "autoscaling.knative.dev/min-scale"
SLOW = 240
"""Seconds: Prometheus finds a new pod within 30 s, scrapes it every 15 s, and the controller decides every 15 s."""


def test_a_query_of_a_member_reads_only_its_namespace(stage: Stage) -> None:
    deploy(stage, "own", NAMESPACES)
    deploy(stage, "other", 'count(up{namespace="monitoring"})')
    with running_controller(stage, PROXIED):
        # Two replicas for the only namespace.
        scaled = stage.until("the query has a value", lambda: floors(stage)["own-00001"] == 2, SLOW)
        refused = stage.until("the other query is refused", lambda: is_refused(stage), SLOW)
        stage.holds_for("the value stays", lambda: floors(stage) == {"own-00001": 2, "other-00001": 1}, 30)
    (direct,) = stage.query(NAMESPACES)
    assert float(direct["value"][1]) > 2, direct
    done = stage.ebbtide(["doctor", *stage.profile(PROXIED), f"--kubeconfig={stage.kubectl.kubeconfig}", "-o", "json"])
    assert "DOC073" not in done.stdout, done.stdout
    stage.report(scaled=scaled, refused=refused)


def deploy(stage: Stage, name: str, query: str) -> None:
    """Deploy a service with two replicas for each unit of a query's value."""
    scaling: dict[str, Any] = {
        "minReplicas": 1,
        "maxReplicas": 6,
        "metrics": [{"query": query, "queryResult": "total", "threshold": 0.5}],
    }
    stage.deploy(make_spec(name, autoscaling=scaling), profile=PROXIED)
    stage.ready(name)


def floors(stage: Stage) -> dict[str, int]:
    """Return the floor of each revision."""
    rows = stage.listed("revisions")
    return {row["metadata"]["name"]: int(row["metadata"]["annotations"].get(MINIMUM, 0)) for row in rows}


def is_refused(stage: Stage) -> bool:
    """Return whether an event of the service has the proxy's reason."""
    return any("EvidenceMissing" in line and "conflicting label matcher" in line for line in stage.events("other"))


@pytest.fixture(scope="module")
def proxy(provider: Provider) -> None:
    """Install prom-label-proxy, which stays."""
    provider.add("prom-label-proxy", _quiet)


@contextmanager
def _quiet(step: str) -> Iterator[None]:  # noqa: ARG001 - as the protocol names it
    yield
