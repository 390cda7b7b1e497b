"""The projects' endpoints of a simulated cluster: Envoy Gateway's decisions, taken from the objects that it would read.

A request is checked as Envoy's filters do it, in their order: key, size, model, route, limits. The limits are counted in this
process, as in one replica of Envoy. What each object means is stated in ``core.translation.endpoints.envoy``.
Upstream: envoyproxy/gateway v1.9.1 internal/xds/translator/httpfilters.go (the order), kubernetes-sigs/gateway-api apis/v1
(HTTPRouteMatch: which of several matches wins), envoyproxy/envoy source/extensions/filters/http/api_key_auth (``Bearer``),
source/extensions/filters/common/local_ratelimit (a token bucket that refills all the time).
"""

from __future__ import annotations

import json
import random
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from ebbtide.cluster.client.protocol import KINDS, KNATIVE, SECRET, MissingError
from ebbtide.cluster.slo.source import Ref
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.translation.endpoints import envoy
from ebbtide.core.translation.endpoints.backend import EndpointKind
from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from email.message import Message

    from ebbtide.sandbox.world import World

UNIT_SECONDS: Final = {"Second": 1, "Minute": 60, "Hour": 3600}
#: Characters of the name of a model that the filter reads.
MODEL: Final = re.compile(r"[A-Za-z0-9._:/@-]+")


class LocalAnswer(NamedTuple):
    """An answer of the gateway itself."""

    status: int
    body: str
    headers: dict[str, str]


class Admitted(NamedTuple):
    """A request for a service, and the model that it names."""

    ref: Ref
    model: str


class Arrival(NamedTuple):
    """A request as it arrives. ``size`` is that of its body, which is empty if it is too large to be read."""

    method: str
    path: str
    headers: Mapping[str, str] | Message
    body: bytes
    size: int


class EndpointHosts:
    """The host names of the endpoints, and the limits' counters."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._buckets: dict[tuple[str | bool, ...], tuple[float, float]] = {}
        self._lock = Lock()

    def admit(self, request: Arrival) -> LocalAnswer | Admitted | None:
        """Return the gateway's answer, or the service for a request; None if the host is not that of an endpoint."""
        host = (request.headers.get("Host") or "").partition(":")[0]
        routes = [
            route
            for route in self._world.cluster.list(KINDS[envoy.ROUTE.key]).items
            if host in get_at(route, "spec", "hostnames", default=())
        ]
        if not routes:
            return None
        security, traffic = (self._find_policy(kind, routes[0]) for kind in (envoy.SECURITY, envoy.TRAFFIC))
        namespace = routes[0]["metadata"]["namespace"]
        headers = {envoy.MODEL_HEADER: find_model(request.body)}
        if security:
            client = self._find_client(security, namespace, request.headers)
            if not client:
                return LocalAnswer(500, "", {}) if client is None else _override(traffic, 401)
            headers[envoy.KEY_HEADER] = client
        if request.size > (parse_whole_quantity(get_at(traffic, "requestBuffer", "limit", default="0")) or 0):
            return _override(traffic, 413)
        matched = [row for route in routes for row in _match_rules(route, request, headers)]
        if not matched:
            return LocalAnswer(404, "", {})
        _, route, rule = max(matched, key=lambda row: row[0])
        for item in rule["filters"]:
            if item["type"] == "ExtensionRef":
                found = self._world.cluster.get(KINDS[envoy.FILTER.key], item["extensionRef"]["name"], namespace)
                if direct := get_at(found, "spec", "directResponse"):
                    return _make_answer(direct, direct["statusCode"])
        if not self._take(traffic, route, headers):
            return _override(traffic, 429)
        chosen = random.choices(rule["backendRefs"], [row["weight"] for row in rule["backendRefs"]])[0]  # noqa: S311 - a weight
        backend = self._world.cluster.get(KINDS[envoy.BACKEND.key], chosen["name"], namespace)
        host = get_at(backend, "spec", "endpoints", 0, "fqdn", "hostname", default="").split(".")
        return Admitted(self._find_workload(*host[:2]), headers[envoy.MODEL_HEADER])

    def _find_policy(self, kind: EndpointKind, route: Object) -> Object:
        """Return the settings of the policy of a kind that selects a route."""
        labels = route["metadata"]["labels"]
        for policy in self._world.cluster.list(KINDS[kind.key], route["metadata"]["namespace"]).items:
            for target in policy["spec"]["targetSelectors"]:
                if target["matchLabels"].items() <= labels.items():
                    return dict(policy["spec"])
        return {}

    def _find_client(self, policy: Object, namespace: str, headers: Mapping[str, str] | Message) -> str | None:
        """Return the name of the key of a request; empty if it is wrong, None if the Secret does not exist."""
        rules = policy["apiKeyAuth"]
        name = rules["credentialRefs"][0]["name"]
        try:
            stored = self._world.cluster.get(SECRET, name, namespace).get("data") or {}
        except MissingError:
            return None
        sent = str(headers.get(rules["extractFrom"][0]["headers"][0]) or "").removeprefix("Bearer ")
        return next((name for name, text in stored.items() if sent and b64decode(text).decode() == sent), "")

    def _take(self, traffic: Object, route: Object, headers: Mapping[str, str]) -> bool:
        """Count a request for each limit, and return whether all of them admit it."""
        now, admitted = self._world.clock.ticks(), True
        with self._lock:
            for number, rule in enumerate(get_at(traffic, "rateLimit", "local", "rules", default=())):
                values = [
                    headers.get(row["name"], "")
                    if row["type"] == "Distinct"
                    else _has_value(row, headers.get(row["name"], ""))
                    for each in rule["clientSelectors"]
                    for row in each["headers"]
                ]
                if not all(values):
                    continue
                key = (route["metadata"]["namespace"], route["metadata"]["name"], str(number), *values)
                most = float(rule["limit"]["requests"])
                left, since = self._buckets.get(key, (most, now))
                left = min(most, left + (now - since) * most / UNIT_SECONDS[rule["limit"]["unit"]])
                admitted = admitted and left >= 1
                self._buckets[key] = (left - 1 if left >= 1 else left, now)
        return admitted

    def _find_workload(self, service: str, namespace: str) -> Ref:
        """Return the workload of a Knative Service: its InferenceService, if it has one."""
        top = self._world.cluster.peek(KNATIVE, namespace, service)
        return Ref(namespace, get_at(top, "metadata", "labels", keys.KSERVE_SERVICE) or service)


def find_model(body: bytes) -> str:
    """Return the model that the script of the gateway finds in a body; empty if there is none."""
    try:
        # Each escape becomes a backslash, which no other character of a string can be.
        pairs = json.loads(re.sub(rb"\\.", rb"\\\\", body, flags=re.DOTALL).decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return ""
    model = ""
    for key, value in pairs if isinstance(pairs, tuple) else ():
        if key == "model":
            model = value if isinstance(value, str) and MODEL.fullmatch(value) else ""
        elif "\\" in key or key.lower() == "model":
            model = ""
    return model


def _match_rules(
    route: Object, request: Arrival, headers: Mapping[str, str]
) -> Iterator[tuple[tuple[Any, ...], Object, Object]]:
    """Yield the rules of a route that match, with their precedence: an exact path, a longer one, a method, more headers."""
    path = urlsplit(request.path).path
    for rule in route["spec"]["rules"]:
        for match in rule["matches"]:
            kind, value = match["path"]["type"], match["path"]["value"]
            under = (
                path == value
                if kind == "Exact"
                else path == value.rstrip("/") or path.startswith(value.rstrip("/") + "/")
            )
            wanted = match.get("headers") or ()
            if (
                under
                and match.get("method", request.method) == request.method
                and all(_has_value(row, headers.get(row["name"], "")) for row in wanted)
            ):
                yield (kind == "Exact", len(value), "method" in match, len(wanted)), route, rule


def _has_value(row: Object, value: str) -> bool:
    return bool(re.fullmatch(row["value"], value)) if row["type"] == "RegularExpression" else value == row["value"]


def _override(traffic: Object, status: int) -> LocalAnswer:
    """Return the gateway's own answer of a status, as the policy replaces it."""
    for row in get_at(traffic, "responseOverride", default=()):
        if any(code["value"] == status for code in row["match"]["statusCodes"]):
            return _make_answer(row["response"], status)
    return LocalAnswer(status, "", {})


def _make_answer(response: Object, status: int) -> LocalAnswer:
    extra = {row["name"]: row["value"] for row in get_at(response, "header", "set", default=())}
    return LocalAnswer(status, response["body"]["inline"], {"Content-Type": response["contentType"], **extra})
