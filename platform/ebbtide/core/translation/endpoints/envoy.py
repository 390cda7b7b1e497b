"""Envoy Gateway: a route for each service by a header that a filter sets from the body, keys from a Secret, and limits.

Upstream: envoyproxy/gateway v1.9.1 api/v1alpha1 (the fields), internal/xds/translator/httpfilters.go (the keys are checked
before the body is buffered, the body before the Lua filter, and the limits after it), local_ratelimit.go (a request that a
selector matches does not count for the rule without one; direct responses are not limited), buffer and Lua filters (enabled
for each route: Envoy chooses them by the route that a request has before the filter changes it, so the project's route has
the policies too); kubernetes-sigs/gateway-api apis/v1 (HTTPRoute).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys
from ebbtide.core.base.names import ENDPOINT, ENDPOINT_KEYS, ENDPOINT_MODELS, fit_name, name_by_content
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.endpoints.backend import (
    EndpointGateway,
    EndpointKind,
    EndpointLimit,
    ProjectHost,
    PublishedService,
    list_limits,
)
from ebbtide.core.translation.objects import Object, make_object

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProjectEndpoint

GROUP: Final = "gateway.envoyproxy.io"
API: Final = f"{GROUP}/v1alpha1"
ROUTES: Final = "gateway.networking.k8s.io"
ROUTE: Final = EndpointKind(f"{ROUTES}/v1", "HTTPRoute", "httproutes")
BACKEND: Final = EndpointKind(API, "Backend", "backends")
FILTER: Final = EndpointKind(API, "HTTPRouteFilter", "httproutefilters")
SECURITY: Final = EndpointKind(API, "SecurityPolicy", "securitypolicies", is_members=False)
TRAFFIC: Final = EndpointKind(API, "BackendTrafficPolicy", "backendtrafficpolicies", is_members=False)
#: An EnvoyExtensionPolicy runs Lua in the gateway that all projects share, and the limits are the administrator's.
EXTENSION: Final = EndpointKind(API, "EnvoyExtensionPolicy", "envoyextensionpolicies", is_members=False)
#: The name of the model, which only the filter sets.
MODEL_HEADER: Final = "x-ebbtide-model"
#: The name of the key, never the key, for the limits. It is removed from what the server receives.
KEY_HEADER: Final = "x-ebbtide-key"
#: The namespace and key of the metadata with the tokens of an answer.
TOKENS: Final = ("dev.ebbtide", "tokens")
#: Characters of an answer that are read with the next part of it: the longest name with its number.
TAIL: Final = 64
HOST_FILTER: Final = f"{ENDPOINT}-host"
UNKNOWN_FILTER: Final = f"{ENDPOINT}-unknown"
#: Seconds after which a limited client may try again: the interval of the limits.
RETRY_SECONDS: Final = 60
#: Interval at which Envoy resolves a service's name. Its default of 30 s applies after a failure too, and a service has no
#: name until its first revision is ready.
DNS_REFRESH: Final = "5s"
#: Set the header to the last top-level "model" of the body, as JSON parsers take it. Envoy chooses the route again after a
#: change of headers. A name with other characters than those of a published model is not found, so it cannot forge headers.
#: A body that parsers may read differently has no model: the server must not find another one than the gateway. Such are
#: keys with escapes, keys that differ from "model" in case (Go's encoding/json ignores it), a second value after the first
#: one (Go's Decoder ignores it) and UTF-16 (Python's json recognizes it by its zero bytes).
READ_MODEL: Final = f"""\
local function find_model(body)
  if string.find(body, '\\0', 1, true) or not string.find(body, '^%s*{{') then return nil end
  local depth, place, model = 0, 1, nil
  while true do
    local at, _, mark = string.find(body, '(["{{}}%[%]])', place)
    if not at then return nil end
    place = at + 1
    if mark == '{{' or mark == '[' then
      depth = depth + 1
    elseif mark == '}}' or mark == ']' then
      depth = depth - 1
      if depth == 0 then return string.find(body, '^%s*$', place) and model end
    else
      local stop = place
      while true do
        stop = string.find(body, '["\\\\]', stop)
        if not stop then return nil end
        if string.byte(body, stop) == 34 then break end
        stop = stop + 2
      end
      local value = depth == 1 and string.match(body, '^%s*:%s*()', stop + 1)
      if value then
        local key = string.sub(body, place, stop - 1)
        if key == 'model' then
          model = string.match(body, '^"([%w._:/@-]+)"', value)
        elseif string.find(key, '\\\\', 1, true) or string.lower(key) == 'model' then
          model = nil
        end
      end
      place = stop + 1
    end
  end
end

function envoy_on_request(request_handle)
  request_handle:headers():remove("{MODEL_HEADER}")
  local body = request_handle:body()
  local model = body and find_model(body:getBytes(0, body:length()))
  -- The headers of before the body are no longer valid.
  if model then request_handle:headers():replace("{MODEL_HEADER}", model) end
end
"""
#: Pass the answer on as it arrives, and leave its tokens to the limits: those that the server reports, otherwise the events of a
#: stream, of which each has at least one token. The end of a chunk is read again with the next one, which may continue a word.
COUNT_TOKENS: Final = f"""
function envoy_on_response(response_handle)
  local rest, tokens, events = '\\n', nil, 0
  for chunk in response_handle:bodyChunks() do
    local text = rest .. chunk:getBytes(0, chunk:length())
    for number in string.gmatch(text, '"total_tokens"%s*:%s*(%d+)') do tokens = tonumber(number) end
    events = events + select(2, string.gsub(text, '\\ndata: {{', '')) - select(2, string.gsub(rest, '\\ndata: {{', ''))
    rest = string.sub(text, -{TAIL})
  end
  response_handle:streamInfo():dynamicMetadata():set("{TOKENS[0]}", "{TOKENS[1]}", tokens or events)
end
"""


def _write_error(message: str, kind: str, code: str) -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}) + "\n"


#: The answer about a model of another project and about one that does not exist. It does not repeat the name of the model.
UNKNOWN_MODEL: Final = _write_error(
    "The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"
)
#: The gateway's own answers, by status, in place of its plain text.
ANSWERS: Final = {
    401: _write_error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    413: _write_error("The request is larger than the endpoint accepts.", "invalid_request_error", "request_too_large"),
    429: _write_error("Rate limit reached.", "requests", "rate_limit_exceeded"),
}


def make_shared(endpoint: ProjectHost) -> Iterator[Object]:
    """Yield the policies of a project's endpoint, and its route for all requests that name no published model.

    The policies come first, so that no route exists without them. Without the Secret of the keys, the gateway refuses all
    requests.
    """
    yield _make_policy(
        endpoint,
        SECURITY,
        apiKeyAuth={
            "credentialRefs": [{"name": ENDPOINT_KEYS}],
            "extractFrom": [{"headers": ["Authorization"]}],
            "forwardClientIDHeader": KEY_HEADER,
            "sanitize": True,
        },
    )
    counts_tokens = any(limit.counts == "tokens" for limit, _ in list_limits(endpoint.settings))
    script = READ_MODEL + COUNT_TOKENS * counts_tokens
    yield _make_policy(endpoint, EXTENSION, lua=[{"type": "Inline", "inline": script}])
    yield _make_policy(endpoint, TRAFFIC, **_make_traffic_settings(endpoint))
    yield _make_filter(
        endpoint, HOST_FILTER, urlRewrite={"hostname": {"type": "Backend"}, "appendXForwardedHost": False}
    )
    yield _make_filter(endpoint, UNKNOWN_FILTER, directResponse=_make_answer(UNKNOWN_MODEL, 404))
    listing = {"path": {"type": "Exact", "value": "/v1/models"}, "method": "GET"}
    rest = {"path": {"type": "PathPrefix", "value": "/"}}
    rules = [
        {"matches": [match], "filters": [_refer_to_filter(name)]}
        for match, name in ((listing, ENDPOINT_MODELS), (rest, UNKNOWN_FILTER))
    ]
    yield {**_make_route(endpoint, ENDPOINT), "spec": {**_make_parents(endpoint), "rules": rules}}


def make_service(endpoint: ProjectHost, service: PublishedService) -> Iterator[Object]:
    """Yield the route of a service, and a backend for each host that receives a part of its requests.

    The backends are names of the cluster's DNS: Knative's own names lead to its gateway, which holds a request until the
    first replica is ready.
    """
    name = fit_name(service.name, "model")
    labels = {keys.APP_NAME: service.name, keys.APP_MANAGED_BY: "ebbtide"}
    references = []
    for index, (host, port, percent) in enumerate(service.hosts):
        spec = {"endpoints": [{"fqdn": {"hostname": host, "port": port}}]}
        backend = name if not index else name_by_content(service.name, "split", spec)
        yield make_object(API, "Backend", backend, spec, namespace=endpoint.namespace, labels=labels)
        references.append({"group": GROUP, "kind": "Backend", "name": backend, "weight": percent})
    route = _make_route(endpoint, name)
    route["metadata"]["labels"] = {**labels, keys.ENDPOINT: endpoint.project}
    route["metadata"]["annotations"] = {keys.MODELS: ",".join(service.models)}
    headers = [{"name": MODEL_HEADER, **_match_models(service.models)}]
    remove = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [MODEL_HEADER, KEY_HEADER]}}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/v1/"}, "headers": headers}],
        "filters": [remove, _refer_to_filter(HOST_FILTER)],
        "backendRefs": references,
        # The gateway's default is 15 s. The idle timeout of the stream follows it.
        "timeouts": {"request": f"{service.timeout_seconds}s"},
    }
    route["spec"] = {**_make_parents(endpoint), "rules": [rule]}
    yield route


def make_models(project: str, namespace: str, models: Iterable[str]) -> Object:
    """Return the answer to ``GET /v1/models``: the names of the project's models, in order."""
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": project} for name in sorted(set(models))]
    body = json.dumps({"object": "list", "data": rows}) + "\n"
    spec = {"directResponse": _make_answer(body, 200)}
    return _make_object(project, namespace, "HTTPRouteFilter", ENDPOINT_MODELS, spec)


def read_models(route: Object) -> list[str]:
    """Return the names of the models of a live route."""
    models = str(get_at(route, "metadata", "annotations", keys.MODELS, default=""))
    return models.split(",") if models else []


def _match_models(models: tuple[str, ...]) -> dict[str, str]:
    """Return one match of all names: Envoy counts the limits of each match separately."""
    if len(models) == 1:
        return {"type": "Exact", "value": models[0]}
    return {"type": "RegularExpression", "value": f"^({'|'.join(map(re.escape, models))})$"}


def _make_traffic_settings(endpoint: ProjectHost) -> dict[str, Any]:
    """Return the largest body, the limits and the gateway's own answers."""
    limits = list_limits(endpoint.settings)
    local = [_make_limit(limit, amount) for limit, amount in limits if _is_local(limit)]
    shared = [_make_limit(limit, amount) for limit, amount in limits if not _is_local(limit)]
    rates = {name: {"rules": rules} for name, rules in (("local", local), ("global", shared)) if rules}
    # An answer of the model's server keeps its own body.
    overrides: list[dict[str, Any]] = [
        {
            "match": {"statusCodes": [{"type": "Value", "value": status}]},
            "source": "Local",
            "response": _make_body(text),
        }
        for status, text in ANSWERS.items()
    ]
    overrides[-1]["response"]["header"] = {"set": [{"name": "retry-after", "value": str(RETRY_SECONDS)}]}
    return {
        "requestBuffer": {"limit": endpoint.settings.max_body_size},
        "rateLimit": rates or None,
        "responseOverride": overrides,
        "dns": {"dnsRefreshRate": DNS_REFRESH},
    }


def _is_local(limit: EndpointLimit) -> bool:
    """Return whether each replica of Envoy counts a limit itself: it forgets its counts when a route of the listener changes."""
    return limit.counts == "requests" and limit.unit == "Minute" and limit.scope != "project"


def explain_limit(limit: EndpointLimit, settings: ProjectEndpoint) -> tuple[str, str] | None:
    """Return why Envoy Gateway cannot enforce a limit; None if it can.

    A local limit has no cost of an answer and counts for each route (api/v1alpha1/ratelimit_types.go), and a change of a route
    resets it (envoy source/extensions/filters/http/local_ratelimit: the counters belong to the configuration of the route).
    """
    if _is_local(limit) or settings.rate_limit_service:
        return None
    reason = {
        "tokens": "Envoy counts the tokens of answers only with a rate limit service",
        "requests": "a replica of Envoy counts alone, for each service, and until a route changes",
    }
    fix = (
        "configure rateLimit with a Redis in the EnvoyGateway configuration and set endpoint.rateLimitService: true, or use "
        "requestsPerMinute or requestsPerMinutePerKey"
    )
    return reason[limit.counts], fix


def _make_limit(limit: EndpointLimit, amount: int) -> dict[str, Any]:
    """Return the rule of a limit. A local one has a selector, because the rule without one counts only what no other counts."""
    selector = {
        # Every name of the model: each route counts alone, and a Distinct header would count each alias alone.
        "model": {"name": MODEL_HEADER, "type": "RegularExpression", "value": ".+"},
        "key": {"name": KEY_HEADER, "type": "Distinct"},
        "project": None,
    }[limit.scope]
    rule: dict[str, Any] = {
        "clientSelectors": selector and [{"headers": [selector]}],
        "limit": {"requests": amount, "unit": limit.unit},
    }
    if limit.counts == "tokens":
        # A request is admitted while tokens are left, and its tokens are subtracted when its answer is complete.
        metadata = {"namespace": TOKENS[0], "key": TOKENS[1]}
        rule["cost"] = {
            "request": {"from": "Number", "number": 0},
            "response": {"from": "Metadata", "metadata": metadata},
        }
    if not _is_local(limit) and limit.scope != "model":
        rule["shared"] = True
    return rule


def _make_object(project: str, namespace: str, kind: str, name: str, spec: dict[str, Any]) -> Object:
    """Return an object that the services of a project share."""
    labels = {keys.PROJECT: project, keys.APP_COMPONENT: keys.ENDPOINT_COMPONENT, keys.APP_MANAGED_BY: "ebbtide"}
    return make_object(API, kind, name, spec, namespace=namespace, labels=labels)


def _make_policy(endpoint: ProjectHost, kind: EndpointKind, **settings: Any) -> Object:
    selector = {"group": ROUTES, "kind": "HTTPRoute", "matchLabels": {keys.ENDPOINT: endpoint.project}}
    spec = {"targetSelectors": [selector], **settings}
    return _make_object(endpoint.project, endpoint.namespace, kind.name, ENDPOINT, spec)


def _make_filter(endpoint: ProjectHost, name: str, **spec: Any) -> Object:
    return _make_object(endpoint.project, endpoint.namespace, "HTTPRouteFilter", name, spec)


def _make_answer(body: str, status: int) -> dict[str, Any]:
    return {**_make_body(body), "statusCode": status}


def _make_body(body: str) -> dict[str, Any]:
    return {"contentType": "application/json", "body": {"type": "Inline", "inline": body}}


def _make_route(endpoint: ProjectHost, name: str) -> Object:
    route = _make_object(endpoint.project, endpoint.namespace, "HTTPRoute", name, {})
    route["apiVersion"] = ROUTE.api_version
    route["metadata"]["labels"][keys.ENDPOINT] = endpoint.project
    return route


def _make_parents(endpoint: ProjectHost) -> dict[str, Any]:
    settings = endpoint.settings
    parent = {
        "group": ROUTES,
        "kind": "Gateway",
        "name": settings.gateway_name,
        "namespace": settings.gateway_namespace,
        "sectionName": settings.listener.replace("{project}", endpoint.project),
    }
    return {"parentRefs": [parent], "hostnames": [endpoint.host]}


def _refer_to_filter(name: str) -> dict[str, Any]:
    return {"type": "ExtensionRef", "extensionRef": {"group": GROUP, "kind": "HTTPRouteFilter", "name": name}}


GATEWAY: Final = EndpointGateway(
    about=__doc__,
    name="envoy-gateway",
    title="Envoy Gateway",
    shared=make_shared,
    service=make_service,
    models=make_models,
    read_models=read_models,
    kinds=(ROUTE, BACKEND, FILTER, TRAFFIC, EXTENSION, SECURITY),
    route=ROUTE.key,
    model_list=FILTER.key,
    others=(BACKEND.key,),
    lacks={
        "fallback": "Envoy Gateway changes to another backend only when health checks fail, and a health check of a service that "
        "Knative has scaled to zero starts it",
    },
    explain_limit=explain_limit,
)
