"""The endpoint of each project: which services are published there, under which names, and the registry of gateways.

To add a gateway, add a file with a ``GATEWAY``, a row in ``ENDPOINT_GATEWAYS``, its name in ``endpoint.gateway`` of the
profile's model, and a golden case. Upstream: openai-python src/openai/_constants.py (DEFAULT_TIMEOUT of 600 s).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.names import WORKLOAD
from ebbtide.core.base.problems import Path, Problem, choose_serving, make_warning, remove_field
from ebbtide.core.translation.container import list_words
from ebbtide.core.translation.endpoints import envoy
from ebbtide.core.translation.endpoints.backend import EndpointGateway, ProjectHost, PublishedService, list_limits
from ebbtide.core.translation.engines import find_engine, read_flag_values
from ebbtide.core.translation.loaded_model import find_model_name
from ebbtide.core.translation.objects import Object, prune_nulls, to_camel
from ebbtide.core.translation.plan import Decision, Plan
from ebbtide.core.translation.serving.timeouts import DEFAULT_TIMEOUT_SECONDS, find_initialization_timeout

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

ENDPOINT: Final[Path] = ("spec", "endpoint")
ENDPOINT_GATEWAYS: Final[dict[str, EndpointGateway]] = {gateway.name: gateway for gateway in (envoy.GATEWAY,)}
#: The problem of a limit without a gateway, which enforces none, and its fix.
NO_GATEWAY: Final = ("the profile has no gateway for endpoints", "set endpoint.gateway, or remove the limit")
#: The port of the Services of Knative and of KServe Standard.
HTTP_PORT: Final = 80
#: Seconds that the gateway waits longer than the service, so that the caller gets the service's own error.
MARGIN_SECONDS: Final = 5


def list_served_names(plan: Plan) -> tuple[str, ...]:
    """Return the names under which the server knows its model; none if the server is unknown or accepts every name."""
    spec, words = plan.spec, list_words(plan)
    engine = find_engine(spec.image)
    if spec.model is not None and not plan.mode.language_model:
        return tuple(read_flag_values(words, "--model-name")) or (plan.name,)
    if engine is None or not engine.names_flag:
        return ()
    served = read_flag_values(words, engine.names_flag)
    adapters = () if spec.lora is None else tuple(row.name for row in spec.lora.adapters)
    return (tuple(served) or tuple(filter(None, (find_model_name(spec, words, engine),)))) + adapters


def list_models(plan: Plan) -> tuple[str, ...]:
    """Return the names of the model at the endpoint, the main one first; none for a service that is not published."""
    endpoint = plan.spec.endpoint
    if endpoint is None:
        return ()
    first = endpoint.name or next(iter(list_served_names(plan)), plan.name)
    return tuple(dict.fromkeys((first, *endpoint.aliases)))


def check(plan: Plan) -> Iterator[Problem]:
    """Reject a published service that the cluster, the gateway or the server cannot serve under its names."""
    endpoint, cluster = plan.spec.endpoint, plan.cluster
    if endpoint is None:
        return
    gateway = ENDPOINT_GATEWAYS.get(cluster.endpoint.gateway)
    if gateway is None:
        fix = f"remove endpoint, or set endpoint.gateway of the profile to {' or '.join(ENDPOINT_GATEWAYS)}"
        yield Problem("END001", ENDPOINT, "this cluster has no gateway for endpoints", fix, fixes=remove_field())
        return
    if plan.spec.project is None:
        yield Problem("END001", ENDPOINT, "an endpoint belongs to a project, and the spec has none", "set spec.project")
    if plan.spec.serving_port.protocol == "grpc":
        message = "the endpoint finds the model in the JSON body of HTTP requests, and the service speaks gRPC"
        fix = "remove endpoint, or set servingPort.protocol: http"
        yield Problem("END001", ENDPOINT, message, fix, fixes=remove_field())
    if plan.mode.language_model:
        message = f"{plan.mode.title} has a route and a gateway of KServe"
        fix = "remove endpoint, or use serving: kserve or knative"
        yield Problem("END001", ENDPOINT, message, fix, fixes=remove_field() + choose_serving("kserve", "knative"))
    if endpoint.fallback is not None and (reason := gateway.lacks.get("fallback")):
        fix = "remove fallback, and keep a replica with minReplicas: 1"
        message = f"fallback is not possible: {reason}"
        yield Problem("END002", (*ENDPOINT, "fallback"), message, fix, fixes=remove_field())
    others = all(WORKLOAD.fullmatch(name) and name != plan.name for name in endpoint.split)
    if sum(endpoint.split.values()) > 99 or not others:  # noqa: PLR2004 - percent
        message = (
            "the percentages of split leave nothing for the service itself, or a name is not that of another service"
        )
        yield Problem("END002", (*ENDPOINT, "split"), message, "list other services, with less than 100 together")
    yield from _check_names(plan)
    yield from _check_time_limits(plan)


def _check_names(plan: Plan) -> Iterator[Problem]:
    served = list_served_names(plan)
    for model in list_models(plan) if served else ():
        if model not in served:
            endpoint = plan.spec.endpoint
            field: Path = ("name",) if endpoint is None or model == endpoint.name else ("aliases",)
            message = f"the server answers requests for {' and '.join(served)}, and would answer 404 for {model}"
            fix = "use this name, or add the name to those of the server, as with --served-model-name of vLLM"
            yield Problem("END004", (*ENDPOINT, *field), message, fix)


def _check_time_limits(plan: Plan) -> Iterator[Problem]:
    """Warn if a request that starts the first replica is ended on the way before the start may be over.

    The limit of the service itself is AUT073.
    """
    limit, timeout = plan.cluster.endpoint.client_timeout_seconds, _find_timeout(plan)
    start = find_initialization_timeout(plan.spec) or 0
    if plan.scaling.minimum == 0 and limit < min(start, timeout):
        message = (
            f"of the time limits of a request from zero, the smallest is that of the clients, {limit} s; the gateway and the "
            f"service wait {timeout} s, and the start may take {start} s"
        )
        fix = "set minReplicas to 1, or raise the limit of the clients and endpoint.clientTimeoutSeconds of the profile"
        yield make_warning("END005", ENDPOINT, message, fix)


def _find_timeout(plan: Plan) -> int:
    return plan.spec.serving_configuration.request_timeout_seconds or DEFAULT_TIMEOUT_SECONDS


def check_profile(cluster: ProfileSpec) -> Iterator[Problem]:
    """Reject limits that the gateway of the endpoints cannot enforce."""
    gateway = ENDPOINT_GATEWAYS.get(cluster.endpoint.gateway)
    for limit, _ in list_limits(cluster.endpoint):
        path = ("spec", "endpoint", "limits", to_camel(limit.field))
        reason = NO_GATEWAY if gateway is None else gateway.explain_limit(limit, cluster.endpoint)
        if reason is not None:
            message, fix = reason
            yield Problem("PRF004", path, f"this limit cannot be enforced: {message}", fix, fixes=remove_field())


def list_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield the URL and the names under which a service is published."""
    models = list_models(plan)
    if models and plan.spec.project is not None and plan.cluster.endpoint.gateway in ENDPOINT_GATEWAYS:
        url = f"{_make_host(plan.spec.project, plan.namespace, plan.cluster).host}/v1, model {', '.join(models)}"
        because = "spec.endpoint publishes the service, and the profile has the host of the project"
        yield Decision("endpoint", url, because, ("spec.endpoint", "spec.project", "profile.endpoint"))


def make_objects(plan: Plan) -> list[Object]:
    """Return the objects of a published service: those that the project shares, then its own."""
    spec = plan.spec
    if spec.endpoint is None or spec.project is None:
        return []
    gateway = ENDPOINT_GATEWAYS[plan.cluster.endpoint.gateway]
    host = _make_host(spec.project, plan.namespace, plan.cluster)
    split = spec.endpoint.split
    parts = {plan.name: 100 - sum(split.values()), **split}
    hosts = tuple(
        (f"{plan.mode.name_pods(name)}.{plan.namespace}.svc.cluster.local", HTTP_PORT, percent)
        for name, percent in parts.items()
    )
    service = PublishedService(plan.name, list_models(plan), hosts, _find_timeout(plan) + MARGIN_SECONDS)
    return [*gateway.shared(host), *gateway.service(host, service)]


def make_shared_objects(project: str, namespace: str, cluster: ProfileSpec) -> list[Object]:
    """Return the objects of a project's endpoint without those of its services; none if the cluster has no gateway."""
    gateway = ENDPOINT_GATEWAYS.get(cluster.endpoint.gateway)
    shared = [] if gateway is None else gateway.shared(_make_host(project, namespace, cluster))
    return [prune_nulls(obj) for obj in shared]


def _make_host(project: str, namespace: str, cluster: ProfileSpec) -> ProjectHost:
    host = cluster.endpoint.host.replace("{project}", project)
    return ProjectHost(project, namespace, host, cluster.endpoint)


def make_own_list(plan: Plan) -> list[Object]:
    """Return the list of the models of one service, which an apply completes with those of the other services."""
    models, project = list_models(plan), plan.spec.project
    return [make_model_list(plan.cluster, project, plan.namespace, models)] if models and project is not None else []


def make_model_list(cluster: ProfileSpec, project: str, namespace: str, models: Iterable[str]) -> Object:
    """Return the object that lists the published models of a project, which its services share."""
    return ENDPOINT_GATEWAYS[cluster.endpoint.gateway].models(project, namespace, models)
