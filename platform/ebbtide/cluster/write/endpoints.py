"""The endpoint of a project on a live cluster: the list of its models, and its API keys.

The list is derived from the routes of the project's services, which several callers apply. The keys are the values of one
Secret, by the name of the key, as Envoy Gateway reads them (envoyproxy/gateway v1.9.1 api/v1alpha1/api_key_auth_types.go,
CredentialRefs). The time of each is an annotation of the Secret. A key is returned once, when it is created.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING, Final, TypeVar

from ebbtide.cluster.client import protocol as kube
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import body
from ebbtide.core.base.names import ENDPOINT, ENDPOINT_KEYS, ENDPOINT_MODELS
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.core.translation.endpoints.backend import EndpointGateway
    from ebbtide.core.translation.objects import Object

T = TypeVar("T")

#: A name is a key of a Secret and a part of an annotation's key, with room for the prefix.
KEY_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
#: Prefix of keys, by which scanners of secrets and people recognize them, and their random bytes.
KEY_PREFIX: Final = "sk-ebbtide-"
KEY_BYTES: Final = 32
#: Maximum number of writes of the list of models if other callers change the routes at the same time.
WRITES: Final = 5
#: Maximum number of writes of a key if other clients change the keys at the same time.
KEY_WRITES: Final = 10
#: Code of a model that another service publishes already.
TAKEN: Final = "END003"


def _list_routes(cluster: Cluster, gateway: EndpointGateway, project: str, namespace: str) -> list[Object]:
    return cluster.list(kube.KINDS[gateway.route], namespace, labels=f"{keys.ENDPOINT}={project}").items


def _find_gateway(obj: Object) -> EndpointGateway | None:
    """Return the gateway whose list of models an object is; None if it is another object."""
    if obj["metadata"]["name"] != ENDPOINT_MODELS:
        return None
    kind = (obj["apiVersion"], obj["kind"])
    return next((gateway for gateway in ENDPOINT_GATEWAYS.values() if gateway.model_list == kind), None)


def complete_models(cluster: Cluster, obj: Object, models: Sequence[str] = (), *, apart_from: str = "") -> Object:
    """Return the list of models with those of all live routes and ``models``; other objects are returned unchanged.

    ``apart_from`` is a workload whose live route is about to be replaced.
    """
    gateway = _find_gateway(obj)
    if gateway is None:
        return obj
    project, namespace = obj["metadata"]["labels"][keys.PROJECT], obj["metadata"]["namespace"]
    live = [
        model
        for route in _list_routes(cluster, gateway, project, namespace)
        if not apart_from or get_at(route, "metadata", "labels", keys.APP_NAME) != apart_from
        for model in gateway.read_models(route)
    ]
    return gateway.models(project, namespace, (*live, *models))


def apply_completed(cluster: Cluster, obj: Object, *, force: bool = False, basis: Object | None = None) -> Object:
    """Apply any object; a list of models is completed first, and applied again while routes have changed since.

    The caller that writes the list last reads the routes after its write, and so finds the route of every earlier writer.
    """
    for _ in range(WRITES):
        item = complete_models(cluster, obj)
        result = cluster.apply(item, force=force, basis=basis)
        if complete_models(cluster, obj) == item:
            break
    return result


def find_taken_model(cluster: Cluster, route: Object) -> str:
    """Return why a route must not be applied: a model that the route of another workload has already; empty if none.

    The gateway would ignore the newer route without a word.
    """
    project = get_at(route, "metadata", "labels", keys.ENDPOINT)
    name = get_at(route, "metadata", "labels", keys.APP_NAME)
    gateway = next(
        (row for row in ENDPOINT_GATEWAYS.values() if row.route == (route["apiVersion"], route["kind"])), None
    )
    if gateway is None or project is None or name is None:
        return ""
    models = set(gateway.read_models(route))
    for live in _list_routes(cluster, gateway, project, route["metadata"]["namespace"]):
        other = get_at(live, "metadata", "labels", keys.APP_NAME)
        if other != name and (taken := sorted(models.intersection(gateway.read_models(live)))):
            return f"{TAKEN}: model {taken[0]} is already published by {other}; change endpoint.name or aliases of one of the two"
    return ""


def refresh_models(cluster: Cluster, removed: Sequence[Object]) -> None:
    """Write the list of models again if a route of an endpoint was among the removed objects."""
    for gateway in ENDPOINT_GATEWAYS.values():
        for obj in removed:
            project = get_at(obj, "metadata", "labels", keys.ENDPOINT)
            if project is not None and (obj["apiVersion"], obj["kind"]) == gateway.route:
                apply_completed(cluster, gateway.models(project, obj["metadata"]["namespace"], ()))


# Keys.


@body()
class EndpointKey:
    """A key of a project's endpoint: its name and the time of its creation in RFC 3339, empty if it is unknown."""

    name: str
    created: str = ""


def list_keys(cluster: Cluster, namespace: str) -> list[EndpointKey]:
    """Return the keys of a namespace in order of name, without their values."""
    return [*_read_keys(_get_secret(cluster, namespace))]


def _read_keys(secret: Object | None) -> Iterator[EndpointKey]:
    for name in sorted(get_at(secret, "data", default={}) or {}):
        yield EndpointKey(name, str(get_at(secret, "metadata", "annotations", _name_annotation(name), default="")))


def create_key(cluster: Cluster, name: str, namespace: str, now: str, *, replaces: bool = False) -> str:
    """Create a key, or with ``replaces`` give an existing one a new value, and return the value.

    Raises:
        ValueError: the name is not valid.
        ExistsError: the key exists already, or another client has replaced it in the meantime.
        MissingError: the key to replace does not exist.
        StaleError: other clients have changed the keys during every attempt.
    """
    if not KEY_NAME.fullmatch(name):
        message = "must be at most 40 lowercase letters, digits and dashes, as in ci"
        raise ValueError(f"invalid name {name!r} of a key: {message}")
    if not replaces:
        return _retry_write(lambda: _write_key(cluster, name, namespace, now, None))
    former = _find_value(_get_secret(cluster, namespace), name)
    if former is None:
        raise _missing_key(name)
    return _retry_write(lambda: _write_key(cluster, name, namespace, now, former))


def _find_value(secret: Object | None, name: str) -> str | None:
    value = get_at(secret, "data", name)
    return None if value is None else str(value)


def _retry_write(write: Callable[[], T]) -> T:
    """Retry a write while other clients change the keys in between, or create their Secret first."""
    for left in reversed(range(KEY_WRITES)):
        try:
            return write()
        except kube.StaleError:
            if not left:
                raise
    raise AssertionError


def _write_key(cluster: Cluster, name: str, namespace: str, now: str, former: str | None) -> str:
    """Write a key once, in place of the value ``former``, and return its value."""
    live = _get_secret(cluster, namespace)
    found = _find_value(live, name)
    if former is None and found is not None:
        raise kube.ExistsError(f"key {name} already exists; choose another name, or use ebbtide key rotate {name}")
    if former is not None and found is None:
        raise _missing_key(name)
    if found != former:
        raise kube.ExistsError(
            f"another client has rotated key {name} in the meantime, and its new value is the valid one"
        )
    value = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    annotations, data = {_name_annotation(name): now}, {name: b64encode(value.encode()).decode()}
    if live is None:
        labels = {keys.APP_COMPONENT: keys.ENDPOINT_COMPONENT, keys.APP_MANAGED_BY: "ebbtide"}
        metadata = {"name": ENDPOINT_KEYS, "namespace": namespace, "labels": labels, "annotations": annotations}
        kind = {"apiVersion": kube.SECRET.api_version, "kind": kube.SECRET.name}
        try:
            cluster.create({**kind, "metadata": metadata, "type": "Opaque", "data": data})
        except kube.ExistsError as error:
            raise kube.StaleError(str(error)) from error
    else:
        patch = {"metadata": {"annotations": annotations}, "data": data}
        cluster.patch(kube.SECRET, ENDPOINT_KEYS, namespace, patch, basis=live)
    return value


def revoke_key(cluster: Cluster, name: str, namespace: str) -> None:
    """Remove a key, so that the gateway refuses it. Raises MissingError if it does not exist, and StaleError as ``create_key``."""
    _retry_write(lambda: _remove_key(cluster, name, namespace))


def _remove_key(cluster: Cluster, name: str, namespace: str) -> None:
    live = _get_secret(cluster, namespace)
    if live is None or all(key.name != name for key in _read_keys(live)):
        raise _missing_key(name)
    removal = {"metadata": {"annotations": {_name_annotation(name): None}}, "data": {name: None}}
    cluster.patch(kube.SECRET, ENDPOINT_KEYS, namespace, removal, basis=live)


def find_url(cluster: Cluster, namespace: str) -> str:
    """Return the base URL of a project's endpoint; empty if the project has none, or reading its route is forbidden."""
    for gateway in ENDPOINT_GATEWAYS.values():
        try:
            route = cluster.get(kube.KINDS[gateway.route], ENDPOINT, namespace)
        except (kube.MissingError, kube.ForbiddenError):
            continue
        return make_url(route)
    return ""


def make_url(route: Object) -> str:
    """Return the base URL of the endpoint to which a route belongs."""
    return f"https://{get_at(route, 'spec', 'hostnames', 0)}/v1"


def _missing_key(name: str) -> kube.MissingError:
    return kube.MissingError(f"key {name} not found. To list the keys, run ebbtide key list")


def _get_secret(cluster: Cluster, namespace: str) -> Object | None:
    try:
        return cluster.get(kube.SECRET, ENDPOINT_KEYS, namespace)
    except kube.MissingError:
        return None


def _name_annotation(name: str) -> str:
    return f"{keys.KEY_CREATED}{name}"
