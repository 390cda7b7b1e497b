"""The import of a live or exported Knative Service.

Upstream: knative.dev/serving pkg/apis/serving/v1/revision_defaults.go and route_defaults.go (the webhook's
defaults), pkg/apis/autoscaling/register.go (annotations and their older spellings).
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from ebbtide.core.adopt.defaults import DefaultValue, drop_defaults, rewrite_annotations, strip_ebbtide_keys
from ebbtide.core.adopt.view import ObjectView, filter_mappings, find_serving_container, iterate_matches
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.modes import SERVING_MODES

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.translation.objects import Object

TEMPLATE: Final = ("spec", "template")
POD: Final = (*TEMPLATE, "spec")
CONTAINER: Final = (*POD, "containers", "*")
_REVISION: Final = "serving pkg/apis/serving/v1/revision_defaults.go"
_ROUTE: Final = "serving pkg/apis/serving/v1/route_defaults.go"

#: Defaults that the webhook adds. One that a spec can set too is removed only if a server has written the object.
DEFAULTS: Final = (
    DefaultValue((*POD, "enableServiceLinks"), False, f"{_REVISION}: enable-service-links"),
    DefaultValue((*CONTAINER, "ports", "*", "protocol"), "TCP", "Kubernetes core/v1 ContainerPort"),
    # Programs in Go write the number even if it is not set.
    DefaultValue(
        (*CONTAINER, "ports", "*", "containerPort"),
        0,
        "serving pkg/apis/serving/k8s_validation.go: validateContainersPorts",
    ),
    DefaultValue((*CONTAINER, "resources", "requests"), {}, f"{_REVISION}: applyDefault"),
    DefaultValue((*CONTAINER, "resources", "limits"), {}, f"{_REVISION}: applyDefault"),
    DefaultValue((*CONTAINER, "resources"), {}, f"{_REVISION}: applyDefault"),
    DefaultValue(
        (*CONTAINER, "readinessProbe"),
        {"tcpSocket": {"port": 0}, "successThreshold": 1},
        f"{_REVISION}: applyUserContainerDefaultReadinessProbe",
    ),
    DefaultValue((*CONTAINER, "readinessProbe"), {"successThreshold": 1}, f"{_REVISION}: applyReadinessProbeDefaults"),
    DefaultValue(
        (*CONTAINER, "readinessProbe", "successThreshold"), 1, f"{_REVISION}: applyReadinessProbeDefaults", marked=True
    ),
    *(
        DefaultValue((*CONTAINER, probe, "grpc", "service"), "", f"{_REVISION}: applyGRPCProbeDefaults", marked=True)
        for probe in ("readinessProbe", "livenessProbe", "startupProbe")
    ),
    DefaultValue(("spec", "traffic", "*", "latestRevision"), False, f"{_ROUTE}: TrafficTarget"),
    DefaultValue(("spec", "traffic"), [{"latestRevision": True, "percent": 100}], f"{_ROUTE}: RouteSpec"),
)
#: The webhook adds these to a readiness probe with a periodSeconds.
TIMED: Final = (("failureThreshold", 3), ("timeoutSeconds", 1))
#: A field of a revision, the key of its default in config-defaults, and the upstream value of the key.
CONFIGURED: Final = (
    ("timeoutSeconds", "revision-timeout-seconds", "300"),
    ("responseStartTimeoutSeconds", "revision-response-start-timeout-seconds", "300"),
    ("containerConcurrency", "container-concurrency", "0"),
)

#: The kinds of volume that the webhook does not make read-only (revision_defaults.go, applyDefault).
WRITABLE: Final = frozenset({"emptyDir", "persistentVolumeClaim", "ephemeral"})


def normalize(obj: Object, cluster: ProfileSpec, *, marked: bool) -> None:
    """Remove Knative's defaults from ``obj``, in place."""
    drop_defaults(obj, DEFAULTS, marked=marked)
    rewrite_annotations(obj.get("metadata"))
    rewrite_annotations(get_at(obj, *TEMPLATE, "metadata"))
    revision = get_at(obj, *POD)
    if marked and isinstance(revision, dict):
        for name, key, default in CONFIGURED:
            if str(revision.get(name)) == cluster.knative.defaults.get(key, default):
                del revision[name]
        for probe in iterate_matches(obj, (*CONTAINER, "readinessProbe")):
            if isinstance(probe, dict) and probe.get("periodSeconds"):
                for name, default_number in TIMED:
                    if probe.get(name) == default_number:
                        del probe[name]
    volumes = filter_mappings(get_at(obj, *POD, "volumes"))
    writable = [volume.get("name") for volume in volumes if WRITABLE.intersection(volume)]
    for mount in iterate_matches(obj, (*CONTAINER, "volumeMounts", "*")):
        if isinstance(mount, dict) and mount.get("name") not in writable:
            mount["readOnly"] = True
    containers = get_at(obj, *POD, "containers")
    if isinstance(containers, list) and all(isinstance(container, dict) for container in containers):
        _name_containers(containers)
    metadata = get_at(obj, *TEMPLATE, "metadata")
    if metadata is not None and not strip_ebbtide_keys(metadata)[0]:
        del obj["spec"]["template"]["metadata"]


def _name_containers(containers: list[Object]) -> None:
    """Name the containers without a name, as Knative's webhook does (applyDefaultContainerNames), in place."""
    taken = [container.get("name") for container in containers]
    free = (name for number in count() if (name := f"{SERVING_MODES['knative'].container}-{number}") not in taken)
    for container in containers:
        container["name"] = container.get("name") or (
            next(free) if len(containers) > 1 else SERVING_MODES["knative"].container
        )


def make_view(obj: Object, cluster: ProfileSpec) -> ObjectView:
    """Return a view of a Knative Service, with the paths of its parts."""
    return ObjectView(
        obj=obj,
        serving="knative",
        pod_metadata=(*TEMPLATE, "metadata"),
        pod=POD,
        container=find_serving_container(obj, (*POD, "containers")),
        concurrency=(*POD, "containerConcurrency"),
        timeout=(*POD, "timeoutSeconds"),
        default_minimum=parse_int_or(cluster.knative.autoscaler.get("min-scale"), 0),
    )


def parse_int_or(text: str | None, other: int) -> int:
    """Return a ConfigMap's value as a number, or ``other`` if it is missing or not a number."""
    return int(text) if text is not None and text.isdecimal() else other
