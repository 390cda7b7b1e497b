"""Deployments in the input of ``convert``: each is read as a spec together with its Service and its autoscaler."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebbtide.core.adopt import deployment, live
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import make_warning
from ebbtide.core.documents.others import SERVER_KINDS
from ebbtide.core.readers.loaded import validate_reading
from ebbtide.core.translation.objects import with_values
from ebbtide.core.translation.serving.knative import EVERY_FLAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument


def read_deployments(documents: Iterable[LoadedDocument], profile: Profile) -> Iterator[LoadedDocument]:
    """Yield the documents, with a spec in place of each Deployment of a known model server.

    The objects that the spec replaces have a warning and no object. A Deployment that cannot be read has the obstacle.
    """
    loaded = list(documents)
    objects = [(number, item.other.data) for number, item in enumerate(loaded) if item.other is not None]
    servers = {number: data for number, data in objects if is_server(data)}
    related = {
        server: [number for number, data in objects if deployment.is_related(data, servers[server])]
        for server in servers
    }
    for server, numbers in related.items():
        other = loaded[server].other
        assert other is not None
        shared = next((number for number in numbers if sum(number in found for found in related.values()) > 1), None)
        companions = [data for number, data in objects if number in numbers]
        if shared is not None:
            other.obstacle = f"{_name(dict(objects)[shared])} also belongs to another Deployment"
            continue
        other.obstacle = deployment.find_obstacle(other.data, companions) or ""
        if not other.obstacle:
            _read(loaded, server, numbers, companions, profile)
    yield from loaded


def is_server(data: dict[str, Any]) -> bool:
    """Return whether an object is a Deployment or StatefulSet that runs a known model server."""
    version = data.get("apiVersion")
    is_app = isinstance(version, str) and version.startswith("apps/") and data.get("kind") in SERVER_KINDS
    return is_app and bool(deployment.find_servers(data))


def _read(
    loaded: list[LoadedDocument], server: int, numbers: list[int], companions: list[dict[str, Any]], profile: Profile
) -> None:
    """Replace a Deployment by its spec, and its related objects by warnings, unless no spec renders it."""
    document = loaded[server]
    other = document.other
    assert other is not None
    adoption = deployment.rewrite(other.data, companions)
    result = validate_reading(
        live.read(adoption.service, _with_features(profile)), document.name, document.line, document.problems[:-1]
    )
    if result.inference is None:
        errors = [problem for problem in result.problems if problem.severity == "error"]
        other.obstacle = f"no spec renders it ({errors[0].code}: {errors[0].message})"
        return
    fields = "; without a place in a spec: " + ", ".join(adoption.lost) if adoption.lost else ""
    message = f"{_name(other.data)} is read as a service that Knative scales{fields}"
    fix = "delete the Deployment when the spec serves"
    problem = make_warning("IMP012", ("spec",), message, fix)
    result.problems.insert(0, replace(problem, line=document.line(("spec",)), document=document.name))
    loaded[server] = result
    name = result.inference.metadata.name
    services = [get_at(data, "metadata", "name") for data in companions if data["kind"] == "Service"]
    for item in loaded:
        routed = [] if item.other is None else deployment.list_routed(item.other.data, other.data)
        if item.other is not None and (led := [service for service in services if service in routed]):
            message = f"{_name(item.other.data)} sends requests to Service {led[0]}, which the spec of {name} replaces; it is unchanged"
            fix = (
                "set exposedUrls of the spec to its host names, without clusterLocalAccessOnly, and delete the Service only "
                "after the requests go to Knative's gateway"
            )
            problem = make_warning("IMP014", ("spec",), message, fix)
            result.problems.append(replace(problem, line=item.line(("spec",)), document=item.name))
    for number, lost in zip(numbers, adoption.lost_of_related, strict=True):
        companion = loaded[number]
        assert companion.other is not None
        is_service = companion.other.kind == "Service"
        fields = "; without a place in it: " + ", ".join(lost) if lost else ""
        message = f"the spec of {name} replaces {_name(companion.other.data)}{fields}"
        if get_at(companion.other.data, "metadata", "name") == name:
            # Knative creates a Service with the name of the workload.
            fix = "apply the spec with another metadata.name, let the clients use its address, and delete this object then"
        else:
            fix = f"let its clients use the address of {name}, and delete it then"
        if not is_service:
            chosen = result.inference.spec.autoscaling.metric is not None
            fix = f"{'compare' if chosen else 'choose a metric in'} autoscaling of the spec, and delete this object"
        problem = make_warning("IMP013", ("spec",), message, fix)
        problem = replace(problem, line=companion.line(("spec",)), document=companion.name)
        loaded[number] = replace(companion, problems=[*companion.problems[:-1], problem], other=None)


def _with_features(profile: Profile) -> Profile:
    """Return a profile in which all parts of a pod and all metrics are available: the rendering of the spec checks them."""
    spec = profile.spec
    knative = with_values(spec.knative, hpa=True, features=dict.fromkeys(EVERY_FLAG, "enabled"))
    adapter = "prometheus-adapter" if spec.metrics.adapter == "none" else spec.metrics.adapter
    metrics = with_values(spec.metrics, adapter=adapter, metrics_server=True)
    return with_values(profile, spec=with_values(spec, knative=knative, metrics=metrics))


def _name(data: dict[str, Any]) -> str:
    """Return the kind and the name of an object, for messages."""
    return f"{data['kind']} {get_at(data, 'metadata', 'name', default='')}"
