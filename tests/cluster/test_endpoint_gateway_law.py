"""Each gateway of the endpoints states its kinds once, and all consumers derive what they need from its row."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

import ebbtide
from ebbtide.cluster.client.protocol import KINDS
from ebbtide.cluster.write import apply, removal
from ebbtide.cluster.write.projects import MEMBER_RULES
from ebbtide.core.documents import COMPANIONS
from ebbtide.core.profile.models import ProfileSpec, ProjectEndpoint
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS
from ebbtide.core.translation.endpoints.backend import EndpointGateway, ProjectHost, PublishedService

if TYPE_CHECKING:
    from ebbtide.core.translation.objects import Object

GATEWAYS = pytest.mark.parametrize("gateway", ENDPOINT_GATEWAYS.values(), ids=lambda gateway: gateway.name)
WRITES = {"create", "patch", "update", "delete"}


def render_all(gateway: EndpointGateway) -> list[Object]:
    """Return all objects of an endpoint with one service."""
    host = ProjectHost("shop", "team-shop", "shop.models.example.com", ProfileSpec().endpoint)
    service = PublishedService("chat", ("chat",), (("chat.team-shop.svc.cluster.local", 80, 100),), 305)
    return [*gateway.shared(host), *gateway.service(host, service), gateway.models("shop", "team-shop", ["chat"])]


def make_key(obj: Object) -> tuple[str, str]:
    return obj["apiVersion"], obj["kind"]


def list_allowed(group: str, plural: str) -> set[str]:
    """Return the verbs of a project's members on a resource."""
    rules = (rule for rule in MEMBER_RULES if group in rule["apiGroups"] and plural in rule["resources"])
    return {verb for rule in rules for verb in rule["verbs"]}


def test_the_profile_names_all_gateways() -> None:
    names = get_args(ProjectEndpoint.model_fields["gateway"].annotation)

    assert {*names} == {"none", *ENDPOINT_GATEWAYS}


@GATEWAYS
def test_a_gateway_renders_the_kinds_that_it_states(gateway: EndpointGateway) -> None:
    kinds = {kind.key for kind in gateway.kinds}

    assert {make_key(obj) for obj in render_all(gateway)} == kinds
    assert {gateway.route, gateway.model_list, *gateway.others} <= kinds


@GATEWAYS
def test_the_client_knows_each_kind(gateway: EndpointGateway) -> None:
    for kind in gateway.kinds:
        assert KINDS[kind.key].plural == kind.plural
        assert KINDS[kind.key].namespaced


@GATEWAYS
def test_each_kind_is_recognized_in_rendered_output(gateway: EndpointGateway) -> None:
    assert {kind.name for kind in gateway.kinds} <= COMPANIONS


@GATEWAYS
def test_members_write_what_a_service_needs_and_read_the_rest(gateway: EndpointGateway) -> None:
    written = {gateway.route, gateway.model_list, *gateway.others}
    for kind in gateway.kinds:
        verbs = list_allowed(kind.api_version.partition("/")[0], kind.plural)
        assert {"get", "list", "watch"} <= verbs
        assert (verbs >= WRITES) == kind.is_members
        assert not verbs & WRITES or kind.is_members
        assert kind.is_members or kind.key not in written


@GATEWAYS
def test_the_objects_of_a_service_follow_it_and_are_deleted_with_it(gateway: EndpointGateway) -> None:
    own = {make_key(obj) for obj in render_all(gateway) if obj["metadata"]["labels"].get("app.kubernetes.io/name")}

    assert own == {gateway.route, *gateway.others}
    assert own <= {*removal.COMPANIONS}
    assert {name for _, name in own} <= {*apply.FOLLOWERS}


@GATEWAYS
def test_no_other_module_names_a_kind_of_a_gateway(gateway: EndpointGateway) -> None:
    """A second gateway is one file: what only one gateway has is in its module alone."""
    own = Path(str(sys.modules[gateway.shared.__module__].__file__))
    groups = {kind.api_version for kind in gateway.kinds if kind.key != gateway.route}
    words = {*groups, *(group.partition("/")[0] for group in groups)}
    words |= {kind.name for kind in gateway.kinds if kind.api_version in groups and kind.name != "Backend"}
    words |= {kind.plural for kind in gateway.kinds if kind.api_version in groups and kind.plural != "backends"}

    root = Path(str(ebbtide.__file__)).parent
    named = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if file != own and not file.name.startswith("_compiled") and any(word in file.read_text() for word in words)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in words
    }
    assert not named
