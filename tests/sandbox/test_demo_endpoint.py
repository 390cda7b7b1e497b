"""The endpoints of a simulated cluster answer as Envoy Gateway does, by the same table, and their limits refill."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy")

import httpx
import yaml
from test_world import node

from ebbtide.cluster.client.protocol import KINDS, SECRET
from ebbtide.cluster.slo.source import Ref
from ebbtide.cluster.write import endpoints as written
from ebbtide.core.base.names import ENDPOINT_KEYS
from ebbtide.core.documents import profiles
from ebbtide.sandbox.backend import make_simulated_backend
from ebbtide.sandbox.clocks import ManualClock, RealClock
from ebbtide.sandbox.endpoints import Admitted, Arrival, EndpointHosts, LocalAnswer, find_model
from ebbtide.sandbox.gateway import serve_gateway
from ebbtide.sandbox.replicas import SimulatedBehavior
from ebbtide.sandbox.world import World
from ebbtide.simulator.data import StartUp
from live_cluster import PROFILE
from website import Parsed, Site, backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Clock

CONTRACT: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[1] / "endpoint-contract.yaml").read_text())
NAMESPACE, HOST = "team-shop", "shop.models.example.com"
LIMITS = {"requestsPerMinutePerKey": 6, "requestsPerMinute": 9}


def make_world(clock: Clock, **endpoint: Any) -> tuple[World, str]:
    """Return a cluster with a published model, and a key."""
    settings = {"gateway": "envoy-gateway", **endpoint}
    profile, problems = profiles.validate_profile_data({**PROFILE, "spec": {**PROFILE["spec"], "endpoint": settings}})
    assert profile is not None, problems
    behavior = SimulatedBehavior("none", "fixed:10ms", StartUp(schedule=0.0, pull=0.0, load=1.0, ready=0.0))
    refs = [Ref(NAMESPACE, name) for name in ("model", "next", "zero")]
    world = World(clock, profile, behaviors=dict.fromkeys(refs, behavior))
    world.cluster.put(node())
    world.arrive()
    publish(world, "model", split={"next": 30})
    publish(world, "next", published=False)
    zero = {"minReplicas": 0, "maxReplicas": 1, "metric": "concurrency", "metricThreshold": 1}
    publish(world, "zero", autoscaling=zero)
    return world, written.create_key(world.cluster, "ci", NAMESPACE, "")


def publish(world: World, name: str, *, published: bool = True, **fields: Any) -> None:
    autoscaling = fields.pop("autoscaling", {"minReplicas": 1, "maxReplicas": 1})
    compute = {"cpuCoreRequest": 0.1, "cpuMemoryRequest": "128Mi"}
    spec = {"project": "shop", "image": "example.com/model:v1", "compute": compute, "autoscaling": autoscaling}
    if published:
        spec["endpoint"] = fields
    world.apply({"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": name}, "spec": spec})


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[httpx.Client, World, str]]:
    world, key = make_world(RealClock(rate=60.0))
    world.clock.sleep(180)
    with (
        world.running(),
        serve_gateway(world) as address,
        httpx.Client(base_url=address, headers={"Host": HOST}, timeout=60) as opened,
    ):
        yield opened, world, key


@pytest.mark.parametrize("row", CONTRACT, ids=lambda row: row["name"])
def test_the_contract_with_the_real_gateway(client: tuple[httpx.Client, World, str], row: dict[str, Any]) -> None:
    opened, _, key = client
    sent = {"right": key, "wrong": "sk-wrong"}.get(row.get("key", ""))
    headers = {**row.get("headers", {}), **({"Authorization": f"Bearer {sent}"} if sent else {})}
    content = " " * row["size"] if "size" in row else row.get("body", "")
    try:
        answer = opened.request(row["method"], row["path"], headers=headers, content=content)
    except httpx.WriteError:
        # The gateway closes a connection whose body it does not read.
        assert row.get("size")
        return

    assert answer.status_code == row["status"], answer.text
    assert answer.status_code < 400 or answer.json()["error"]["code"] == row["code"]


def test_a_chat_by_the_name_of_the_model_starts_a_service_at_zero(client: tuple[httpx.Client, World, str]) -> None:
    opened, world, key = client
    assert not world.has_ready_replica(Ref(NAMESPACE, "zero"))
    body = {"model": "zero", "messages": [{"role": "user", "content": "Hello"}]}
    answer = opened.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})

    assert answer.json()["model"] == "zero"
    assert "answer of zero" in answer.json()["choices"][0]["message"]["content"]
    listed = opened.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).json()["data"]
    assert [row["id"] for row in listed] == ["model", "zero"]


def test_the_page_shows_the_requests_to_each_model_and_what_is_left() -> None:
    world, key = make_world(ManualClock(), limits=LIMITS)
    world.clock.sleep(60)
    for _ in range(3):
        world.request(Ref(NAMESPACE, "model"))
    world.clock.sleep(30)
    backend = make_simulated_backend(world.cluster, world.profile, {}, world.clock, source=world.source)
    with Site(backend) as site:
        whole, part = site.get("/projects").text, site.get("/projects", part=True).text
        text = Parsed(whole).text
        assert "Endpoint https://shop.models.example.com/v1" in text
        assert "A key has 6 per minute for each model." in text
        assert "model 3 of 9 6 left" in text
        assert "zero 0 of 9 9 left" in text
        assert key not in whole
        # A page that updates itself keeps what it has.
        assert "shop.models.example.com" not in part
    backend = make_simulated_backend(world.cluster, world.profile, {}, world.clock)
    with Site(backend) as site:
        text = Parsed(site.get("/projects").text).text
        assert "model unknown of 9 zero unknown of 9" in text
        assert "left" not in text.partition("Endpoint")[2].partition("running")[0]


def test_the_page_of_a_cluster_without_a_gateway_has_no_endpoint() -> None:
    world, _ = make_world(ManualClock())
    with Site(backend_of(world.cluster, world.clock, source=world.source)) as site:
        assert "Endpoint" not in Parsed(site.get("/projects").text).text


def test_a_route_whose_filter_is_gone_fails() -> None:
    world, key = make_world(ManualClock())
    world.cluster.delete(
        KINDS["gateway.envoyproxy.io/v1alpha1", "HTTPRouteFilter"], "ebbtide-endpoint-models", NAMESPACE
    )
    headers = {"Host": HOST, "Authorization": f"Bearer {key}"}
    with serve_gateway(world) as address:
        assert httpx.get(f"{address}/v1/models", headers=headers).status_code == httpx.codes.INTERNAL_SERVER_ERROR


# Without a server.


def ask(hosts: EndpointHosts, key: str, model: str = "model", **changes: Any) -> LocalAnswer | Admitted | None:
    body = f'{{"model": "{model}"}}'.encode()
    headers = {"Host": HOST, "Authorization": f"Bearer {key}"}
    return hosts.admit(Arrival("POST", "/v1/completions", headers, body, len(body))._replace(**changes))


def test_a_key_has_its_limit_for_each_model_and_a_model_for_all_keys() -> None:
    clock = ManualClock()
    world, key = make_world(clock, limits=LIMITS)
    other = written.create_key(world.cluster, "other", NAMESPACE, "")
    hosts = EndpointHosts(world)

    def count(value: str, model: str = "model") -> int:
        answers = [ask(hosts, value, model) for _ in range(20)]
        refused = [answer for answer in answers if isinstance(answer, LocalAnswer)]
        assert {(answer.status, answer.headers["retry-after"]) for answer in refused} == {(429, "60")}
        return len(answers) - len(refused)

    assert count(key) == LIMITS["requestsPerMinutePerKey"]
    assert count(other, "zero") == LIMITS["requestsPerMinutePerKey"]
    clock.sleep(60)
    assert count(key) == LIMITS["requestsPerMinutePerKey"]
    clock.sleep(20)
    assert count(key) == LIMITS["requestsPerMinutePerKey"] / 3


def test_the_aliases_of_a_model_count_together() -> None:
    world, key = make_world(ManualClock(), limits={"requestsPerMinute": 9})
    publish(world, "model", aliases=["alias"])
    hosts = EndpointHosts(world)
    answers = [ask(hosts, key, model) for model in ("model", "alias") for _ in range(6)]

    assert [isinstance(answer, Admitted) for answer in answers] == [True] * 9 + [False] * 3
    assert isinstance(ask(hosts, key, "zero"), Admitted)


def test_a_split_divides_the_requests_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    world, key = make_world(ManualClock())
    monkeypatch.setattr(random, "choices", random.Random(1).choices)  # noqa: S311 - the same numbers each time
    answers = [ask(EndpointHosts(world), key) for _ in range(300)]
    names = [answer.ref.name for answer in answers if isinstance(answer, Admitted)]

    assert len(names) == len(answers)
    assert {*names} == {"model", "next"}
    assert 60 <= names.count("next") <= 120


def test_a_revoked_key_and_a_missing_secret_are_refused() -> None:
    world, key = make_world(ManualClock())
    hosts = EndpointHosts(world)
    assert isinstance(ask(hosts, key), Admitted)
    written.revoke_key(world.cluster, "ci", NAMESPACE)
    refused = ask(hosts, key)
    assert isinstance(refused, LocalAnswer)
    assert refused.status == 401
    world.cluster.delete(SECRET, ENDPOINT_KEYS, NAMESPACE)
    missing = ask(hosts, key)
    assert isinstance(missing, LocalAnswer)
    assert missing.status == 500


def test_without_its_policy_an_endpoint_asks_for_no_key() -> None:
    world, _ = make_world(ManualClock(), limits=LIMITS)
    world.cluster.delete(KINDS["gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"], "ebbtide-endpoint", NAMESPACE)

    assert isinstance(ask(EndpointHosts(world), ""), Admitted)


def test_other_hosts_are_no_endpoints() -> None:
    world, key = make_world(ManualClock())

    assert ask(EndpointHosts(world), key, headers={"Host": "other.example.com"}) is None
    assert ask(EndpointHosts(world), key, headers={}) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"model"', b'{"model": 1}', b'{"model": "a b"}', b"{" * 100_000, b"\xff"]
)
def test_other_bodies_name_no_model(body: bytes) -> None:
    assert find_model(body) == ""
