"""Gateways of Standard mode: the addresses of a Gateway or an Ingress, and the command that calls a workload there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cli.base import calls
from ebbtide.cluster.client.protocol import GATEWAY, HTTP_ROUTE, INGRESS
from ebbtide.cluster.read.gateways import explain_unrouted, find_route_gateway, forward_command
from ebbtide.cluster.read.scaling_state import Replicas
from ebbtide.cluster.read.status import RevisionRow, Status
from ebbtide.sandbox.store import make_bare
from live_cluster import simulated

if TYPE_CHECKING:
    from ebbtide.sandbox.simulated import Simulated

TOP = {"kind": "InferenceService", "metadata": {"name": "rank", "namespace": "shop"}}
ROUTE: dict[str, Any] = {
    **make_bare(HTTP_ROUTE, "rank", "shop"),
    "spec": {"parentRefs": [{"name": "front", "namespace": "kserve"}]},
    "status": {"parents": [{}]},
}
FRONT: dict[str, Any] = {
    **make_bare(GATEWAY, "front", "kserve"),
    "spec": {"listeners": [{"protocol": "HTTPS", "port": 443}, {"protocol": "HTTP", "port": 80}]},
    "status": {"addresses": [{"value": "172.18.0.2"}]},
}


def routed(*objects: dict[str, Any]) -> Simulated:
    cluster = simulated()
    for obj in objects:
        cluster.put(obj)
    return cluster


@pytest.mark.parametrize(
    ("objects", "addresses"),
    [
        ([ROUTE, FRONT], (("172.18.0.2", 80),)),
        ([ROUTE, {**FRONT, "status": {}}], ()),
        (
            [
                {
                    **make_bare(INGRESS, "rank", "shop"),
                    "status": {"loadBalancer": {"ingress": [{"hostname": "lb.test"}]}},
                }
            ],
            (("lb.test", 80),),
        ),
        ([make_bare(INGRESS, "rank", "shop")], ()),
    ],
    ids=["Gateway", "Gateway without address", "Ingress", "Ingress without address"],
)
def test_addresses_of_a_route(objects: list[dict[str, Any]], addresses: tuple[tuple[str, int], ...]) -> None:
    gateway = find_route_gateway(routed(*objects), TOP)

    assert gateway is not None
    assert gateway.addresses == addresses


@pytest.mark.parametrize("objects", [[], [ROUTE]], ids=["no route", "no Gateway"])
def test_a_workload_without_a_gateway(objects: list[dict[str, Any]]) -> None:
    assert find_route_gateway(routed(*objects), TOP) is None


def test_a_route_that_a_gateway_accepts_is_served() -> None:
    assert explain_unrouted(routed(ROUTE, FRONT), TOP) == ""
    assert explain_unrouted(routed({**ROUTE, "status": {}}), TOP) == "no gateway accepts HTTPRoute rank"


@pytest.mark.parametrize(
    ("kind", "revisions", "deployment"),
    [
        ("Service", {"chat-00001": 0, "chat-00002": 100}, "chat-00002-deployment"),
        ("InferenceService", {"chat-predictor-00001": 100}, "chat-predictor-00001-deployment"),
        ("InferenceService", {}, "chat-predictor"),
        ("LLMInferenceService", {}, "chat-kserve"),
    ],
)
def test_a_port_is_forwarded_to_the_deployment_with_the_traffic(
    kind: str, revisions: dict[str, int], deployment: str
) -> None:
    rows = tuple(RevisionRow(name, share, 1, 1, "", 0) for name, share in revisions.items())
    status = Status("chat", "shop", "", kind, "Running", "", revisions=rows)

    assert forward_command(status) == f"kubectl port-forward -n shop deployment/{deployment} 8080"


@pytest.mark.parametrize(
    ("open_port", "command"),
    [
        (True, "curl --resolve rank-shop.test:80:172.18.0.2 http://rank-shop.test/"),
        (
            False,
            "kubectl port-forward -n shop deployment/rank-predictor 8080   # no address of its gateway answers this machine",
        ),
    ],
)
def test_a_standard_workload_is_called_at_its_own_gateway(
    open_port: bool, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Knative's gateway does not know the host of a service in Standard mode."""
    monkeypatch.setattr(calls, "resolves", lambda _: False)
    monkeypatch.setattr(calls, "accepts", lambda *_: open_port)
    status = Status(
        name="rank",
        namespace="shop",
        project="shop",
        kind="InferenceService",
        phase="Running",
        why="",
        replicas=Replicas(1, 1, 1, 3),
        gpus="",
        cpu_cores=0.0,
        memory_bytes=0.0,
        metric=None,
        url="http://rank-shop.test",
        age_seconds=1.0,
        conditions=(),
        revisions=(),
        pods=(),
    )

    assert calls.format_call(routed(ROUTE, FRONT), status, TOP) == command
