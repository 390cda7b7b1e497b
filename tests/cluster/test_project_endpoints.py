"""The endpoint of a project on a cluster: the list of its models, names that are taken, and keys."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any, cast

import pytest

from ebbtide.cluster.client.protocol import (
    HTTP_ROUTE,
    KINDS,
    SECRET,
    ExistsError,
    ForbiddenError,
    MissingError,
    StaleError,
)
from ebbtide.cluster.read.inventory import require_namespace
from ebbtide.cluster.write import apply, endpoints
from ebbtide.cluster.write.apply import Workload
from ebbtide.cluster.write.projects import MEMBER_RULES, ProjectRequest, diff_project
from ebbtide.cluster.write.removal import plan_removal, remove_workload
from ebbtide.core.base.names import ENDPOINT, ENDPOINT_KEYS, ENDPOINT_MODELS
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS
from live_cluster import PROFILE, SCALING, simulated, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.write.apply import ApplyDiff
    from ebbtide.core.translation.objects import Object
    from ebbtide.sandbox.simulated import Simulated

NAMESPACE = "team-shop"
GATEWAYS = pytest.mark.parametrize("gateway", ENDPOINT_GATEWAYS.values(), ids=lambda gateway: gateway.name)


def publish(workload: str, gateway: str = "envoy-gateway", /, **endpoint: Any) -> Workload:
    data = {**PROFILE, "spec": {**PROFILE["spec"], "endpoint": {"gateway": gateway}}}
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    document = load_document(spec(workload, endpoint=endpoint, autoscaling=SCALING), profile)
    objects, translation, found = Batch(profile).add_document(document)
    assert translation is not None, found
    assert translation.plan is not None, found
    return Workload(tuple(objects), translation.plan)


def bring(cluster: Simulated, workload: Workload) -> ApplyDiff:
    planned = apply.diff_workload(cluster, workload)
    apply.write_workload(cluster, planned, cluster.clock)
    return planned


def check_split(split: dict[str, int]) -> set[str]:
    profile, _ = profiles.validate_profile_data(
        {**PROFILE, "spec": {**PROFILE["spec"], "endpoint": {"gateway": "envoy-gateway"}}}
    )
    assert profile is not None
    document = load_document(spec("chat", endpoint={"split": split}, autoscaling=SCALING), profile)
    return {problem.code for problem in Batch(profile).add_document(document)[2]}


def test_a_split_leaves_one_percent_at_least() -> None:
    assert "END002" not in check_split({"next": 60, "other": 39})
    assert "END002" in check_split({"next": 60, "other": 40})


def list_models(cluster: Simulated) -> list[str]:
    kind = KINDS["gateway.envoyproxy.io/v1alpha1", "HTTPRouteFilter"]
    body = get_at(cluster.get(kind, ENDPOINT_MODELS, NAMESPACE), "spec", "directResponse", "body", "inline", default="")
    return [row["id"] for row in json.loads(body)["data"]]


def test_the_list_has_the_models_of_all_services() -> None:
    cluster = simulated()
    bring(cluster, publish("chat", aliases=["chat-latest"]))
    bring(cluster, publish("embed"))

    assert list_models(cluster) == ["chat", "chat-latest", "embed"]
    assert not apply.diff_workload(cluster, publish("embed")).different


def test_the_list_loses_an_alias_and_a_deleted_service() -> None:
    cluster = simulated()
    bring(cluster, publish("chat", aliases=["chat-latest"]))
    bring(cluster, publish("embed"))
    bring(cluster, publish("chat"))

    assert list_models(cluster) == ["chat", "embed"]

    removed = [obj["kind"] for obj in remove_workload(cluster, plan_removal(cluster, "chat", NAMESPACE, data=False))]

    assert {"HTTPRoute", "Backend"} < {*removed}
    assert list_models(cluster) == ["embed"]
    assert cluster.get(HTTP_ROUTE, ENDPOINT, NAMESPACE)["metadata"]["name"] == ENDPOINT


def test_services_that_are_planned_together_are_all_listed() -> None:
    cluster = simulated()
    both = [apply.diff_workload(cluster, publish(name)) for name in ("chat", "embed")]
    for planned in both:
        apply.write_workload(cluster, planned, cluster.clock)

    assert list_models(cluster) == ["chat", "embed"]


def test_the_list_has_a_service_that_is_applied_between_its_read_and_its_write(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = simulated()
    planned = apply.diff_workload(cluster, publish("chat"))
    write = type(cluster).apply
    others = [publish("embed")]

    def overtaken(self: Simulated, obj: Object, **options: Any) -> Object:
        if obj["metadata"]["name"] == ENDPOINT_MODELS and others:
            bring(cluster, others.pop())
        return write(self, obj, **options)

    monkeypatch.setattr(type(cluster), "apply", overtaken)
    apply.write_workload(cluster, planned, cluster.clock)

    assert list_models(cluster) == ["chat", "embed"]


def test_a_model_of_a_live_service_is_not_published_twice() -> None:
    cluster = simulated()
    bring(cluster, publish("chat"))

    planned = apply.diff_workload(cluster, publish("other", name="chat"))

    (refusal,) = [step.refusal for step in planned.steps if step.verdict == "refused"]
    assert (
        refusal == "END003: model chat is already published by chat; change endpoint.name or aliases of one of the two"
    )


@GATEWAYS
def test_a_gateway_reads_the_names_that_it_writes(gateway: Any) -> None:
    workload = publish("chat", gateway.name, aliases=["a/b:c", "d@1.0"])
    routes = [obj for obj in workload.objects if (obj["apiVersion"], obj["kind"]) == gateway.route]

    assert [name for route in routes for name in gateway.read_models(route)] == ["chat", "a/b:c", "d@1.0"]


@GATEWAYS
def test_the_policies_of_a_gateway_come_before_its_routes(gateway: Any) -> None:
    kinds = [obj["kind"] for obj in publish("chat", gateway.name).objects]

    assert max(place for place, kind in enumerate(kinds) if kind.endswith("Policy")) < kinds.index(gateway.route[1])


def test_all_objects_of_a_gateway_have_a_known_kind() -> None:
    kinds = {(obj["apiVersion"], obj["kind"]) for obj in publish("chat").objects}

    assert kinds <= {*KINDS}


# Keys.


def with_namespace() -> Simulated:
    cluster = simulated()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return cluster


def test_a_key_is_stored_as_the_gateway_reads_it() -> None:
    cluster = with_namespace()
    value = endpoints.create_key(cluster, "ci", NAMESPACE, "2026-11-30T12:00:00Z")
    other = endpoints.create_key(cluster, "jane", NAMESPACE, "2026-11-30T13:00:00Z")

    secret = cluster.get(SECRET, ENDPOINT_KEYS, NAMESPACE)
    assert {name: b64decode(text).decode() for name, text in secret["data"].items()} == {"ci": value, "jane": other}
    assert value != other
    assert value not in json.dumps(secret["metadata"])
    assert [(key.name, key.created) for key in endpoints.list_keys(cluster, NAMESPACE)] == [
        ("ci", "2026-11-30T12:00:00Z"),
        ("jane", "2026-11-30T13:00:00Z"),
    ]


def test_a_rotated_key_has_a_new_value_and_a_revoked_one_is_gone() -> None:
    cluster = with_namespace()
    value = endpoints.create_key(cluster, "ci", NAMESPACE, "2026-11-30T12:00:00Z")
    endpoints.create_key(cluster, "jane", NAMESPACE, "2026-11-30T12:00:00Z")

    assert endpoints.create_key(cluster, "ci", NAMESPACE, "2026-11-30T14:00:00Z", replaces=True) != value

    endpoints.revoke_key(cluster, "ci", NAMESPACE)
    assert [key.name for key in endpoints.list_keys(cluster, NAMESPACE)] == ["jane"]
    assert "ci" not in cluster.get(SECRET, ENDPOINT_KEYS, NAMESPACE)["data"]


def test_a_key_is_neither_overwritten_nor_made_up() -> None:
    cluster = with_namespace()
    endpoints.create_key(cluster, "ci", NAMESPACE, "")

    with pytest.raises(ExistsError, match="ebbtide key rotate ci"):
        endpoints.create_key(cluster, "ci", NAMESPACE, "")
    with pytest.raises(MissingError, match="ebbtide key list"):
        endpoints.create_key(cluster, "jane", NAMESPACE, "", replaces=True)
    with pytest.raises(MissingError):
        endpoints.revoke_key(cluster, "jane", NAMESPACE)
    with pytest.raises(MissingError):
        endpoints.revoke_key(cluster, "jane", "team-other")
    with pytest.raises(ValueError, match="must be at most 40 lowercase letters"):
        endpoints.create_key(cluster, "a/b", NAMESPACE, "")


def interrupted(monkeypatch: pytest.MonkeyPatch, between: Callable[[], Any]) -> None:
    """Let another client write once between the next read of the keys for a write and that write."""
    read, others = endpoints._find_value, [between]  # noqa: SLF001 - the last step before a write

    def find_value(secret: Any, name: str) -> str | None:
        value = read(secret, name)
        if others:
            others.pop()()
        return value

    monkeypatch.setattr(endpoints, "_find_value", find_value)


@pytest.mark.parametrize("first", [True, False])
def test_a_key_is_written_again_after_a_conflict(monkeypatch: pytest.MonkeyPatch, *, first: bool) -> None:
    """Also if another client creates the Secret at the same time."""
    cluster = with_namespace()
    if not first:
        endpoints.create_key(cluster, "old", NAMESPACE, "")
    interrupted(monkeypatch, lambda: endpoints.create_key(cluster, "jane", NAMESPACE, ""))

    value = endpoints.create_key(cluster, "ci", NAMESPACE, "")

    stored = cluster.get(SECRET, ENDPOINT_KEYS, NAMESPACE)["data"]
    assert b64decode(stored["ci"]).decode() == value
    assert {"ci", "jane"} <= stored.keys()


def test_a_rotation_that_another_one_overtook_prints_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = with_namespace()
    endpoints.create_key(cluster, "ci", NAMESPACE, "")
    overtaking: list[str] = []
    interrupted(
        monkeypatch, lambda: overtaking.append(endpoints.create_key(cluster, "ci", NAMESPACE, "", replaces=True))
    )

    with pytest.raises(ExistsError, match="another client has rotated key ci"):
        endpoints.create_key(cluster, "ci", NAMESPACE, "", replaces=True)

    stored = cluster.get(SECRET, ENDPOINT_KEYS, NAMESPACE)["data"]["ci"]
    assert [b64decode(stored).decode()] == overtaking


def test_an_unknown_namespace_has_no_list_of_keys() -> None:
    require_namespace(with_namespace(), NAMESPACE)
    with pytest.raises(MissingError, match="ebbtide project list"):
        require_namespace(with_namespace(), "team-nobody")


def test_of_two_writers_of_the_keys_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = with_namespace()
    endpoints.create_key(cluster, "ci", NAMESPACE, "")
    before = cluster.get(SECRET, ENDPOINT_KEYS, NAMESPACE)
    endpoints.create_key(cluster, "jane", NAMESPACE, "")
    monkeypatch.setattr(endpoints, "_get_secret", lambda *_: before)

    with pytest.raises(StaleError):
        endpoints.create_key(cluster, "jane", NAMESPACE, "")


def test_the_url_is_that_of_the_route() -> None:
    cluster = simulated()
    assert endpoints.find_url(cluster, NAMESPACE) == ""

    bring(cluster, publish("chat"))
    assert endpoints.find_url(cluster, NAMESPACE) == "https://shop.models.example.com/v1"


# Members of a project.


class ForMembers:
    """A cluster that forbids its user to write the policies of an endpoint, as the role of a project's members does."""

    def __init__(self, cluster: Simulated) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def apply(self, item: dict[str, Any], **options: Any) -> dict[str, Any]:
        if item["kind"].endswith("Policy"):
            raise ForbiddenError(f"{item['kind']} is forbidden")
        return self._cluster.apply(item, **options)


def test_no_member_writes_the_policies_of_an_endpoint() -> None:
    written = {
        (group, resource)
        for rule in MEMBER_RULES
        if {*rule["verbs"]} & {"create", "patch", "update", "delete"}
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    policies = {
        (obj["apiVersion"].partition("/")[0], KINDS[obj["apiVersion"], obj["kind"]].plural)
        for obj in publish("chat").objects
        if obj["kind"].endswith("Policy")
    }

    assert len(policies) == 3
    assert not written & policies


def test_a_member_publishes_behind_the_policies_of_the_administrator() -> None:
    cluster = simulated()
    bring(cluster, publish("chat"))

    planned = apply.diff_workload(cast("Cluster", ForMembers(cluster)), publish("embed"))

    assert not planned.refused
    kept = {step.kind: step.notes for step in planned.steps if step.kind.endswith("Policy")}
    assert set(kept.values()) == {("up to date; changing it is forbidden",)}


def test_a_member_without_the_policies_is_sent_to_the_administrator() -> None:
    planned = apply.diff_workload(cast("Cluster", ForMembers(with_namespace())), publish("chat"))

    refusals = {step.refusal for step in planned.steps if step.kind == "SecurityPolicy"}
    assert refusals == {
        "SecurityPolicy is forbidden; ask an administrator to run ebbtide project create shop",
    }


def test_a_new_project_has_the_policies_of_its_endpoint() -> None:
    profile = publish("chat").plan.profile

    steps = diff_project(simulated(), ProjectRequest("shop"), profile)

    kinds = [step.kind for step in steps]
    assert {"SecurityPolicy", "EnvoyExtensionPolicy", "BackendTrafficPolicy"} < {*kinds}
