"""The Knative Service of a workload.

Upstream: knative.dev/serving pkg/apis/serving/v1 (Service), pkg/apis/serving/fieldmask.go and
pkg/apis/config/features.go (the feature flag that each pod field needs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys
from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.spec.rules.serving import parse_host
from ebbtide.core.translation.container import make_container, render_pod_fields, secure_containers
from ebbtide.core.translation.objects import Object, make_object, prune_nulls
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import Pod
from ebbtide.core.translation.scaling.knative import make_bound_annotations, make_scaling_annotations
from ebbtide.core.translation.serving import metadata

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec

ENABLED: Final = frozenset({"enabled"})
ALLOWED: Final = frozenset({"enabled", "allowed"})
PREFIX: Final = "kubernetes.podspec-"
#: The parts of a pod that need a feature flag, and their names in Kubernetes, which are the flags' names in lower case.
PARTS: Final = {
    "priority_class_name": "priorityClassName",
    "scheduler_name": "schedulerName",
    "runtime_class_name": "runtimeClassName",
    "node_selector": "nodeSelector",
    "affinity": "affinity",
    "tolerations": "tolerations",
    "topology_spread": "topologySpreadConstraints",
    "pod_security": "a pod's securityContext",
}
#: The feature flag of each part of a pod, by the part's name in messages, and the values of the flag that allow it.
FLAGS: Final = {
    **{title: (PREFIX + title.rpartition(" ")[2].lower(), ALLOWED) for title in PARTS.values()},
    "persistent volume claims": (PREFIX + "persistent-volume-claim", ENABLED),
    "shareProcessNamespace": (PREFIX + "shareprocessnamespace", ALLOWED),
    "writable persistent volume claims": (PREFIX + "persistent-volume-write", ENABLED),
    "emptyDir volumes": (PREFIX + "volumes-emptydir", ENABLED),
    "image volumes": (PREFIX + "volumes-image", ENABLED),
    "CSI volumes": (PREFIX + "volumes-csi", ENABLED),
    "environment variables from pod fields": (PREFIX + "fieldref", ALLOWED),
    "init containers": (PREFIX + "init-containers", ENABLED),
    "sidecars": ("multi-container", ENABLED),
    "probes of sidecars": ("multi-container-probing", ENABLED),
    # Even for NET_BIND_SERVICE, which the restricted level allows.
    "added capabilities": ("kubernetes.containerspec-addcapabilities", ENABLED),
}
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
RESPONSE_START: Final = "revision-response-start-timeout-seconds"
#: The upstream default in config-defaults, in seconds. 0 means no limit.
DEFAULT_RESPONSE_START_SECONDS: Final = "300"
#: Feature flags that are not disabled by default.
DEFAULTS: Final = {FLAGS[part][0]: "enabled" for part in ("emptyDir volumes", "sidecars")}
#: Every flag that a spec can need. ``doctor`` and the profile's list are built from it.
EVERY_FLAG: Final = tuple(flag for flag, _ in FLAGS.values())


def check_flags(plan: Plan, pod: Pod) -> Iterator[Problem]:
    """Yield a problem for each part of the pod that this cluster's feature flags do not allow."""
    spec, cluster = plan.spec, plan.cluster
    features = cluster.knative.features
    for part, cause in (*_list_needed_parts(pod, spec), *_list_spec_parts(pod, spec, cluster.kserve.oci_models)):
        flag, values = FLAGS[part]
        value = features.get(flag, DEFAULTS.get(flag, "disabled"))
        if value not in values:
            # For some parts, Knative requires the value enabled.
            state = "allowed, but must be enabled," if value == "allowed" else "disabled"
            message = f"Knative rejects {part} in this cluster: {flag} is {state} in config-features"
            fix = f"set {flag}: enabled in config-features and in the profile's knative.features"
            yield Problem("FLG001", cause, message, fix)


def _list_needed_parts(pod: Pod, spec: InferenceSpec) -> Iterator[tuple[str, Path]]:
    """Yield the parts of the rendered pod that need a flag, with the spec's field behind each."""
    for part, name in PARTS.items():
        if part in pod.parts:
            yield name, pod.causes[part]
    volumes = pod.parts.get("volumes", ())
    for volume in volumes:
        if "emptyDir" in volume:
            cause: Path = ("spec", "storage", "emptyDirVolume")
            if volume["name"] == "shm":
                cause = ("spec", "compute", "shmSize" if spec.compute.shm_size is not None else "largeShmRequest")
            yield "emptyDir volumes", cause
            break
    for kind, title in (("image", "image volumes"), ("csi", "CSI volumes")):
        if any(kind in volume for volume in volumes):
            yield title, ("spec", "storage", f"{kind}Volume")
    claims = [volume for volume in volumes if "persistentVolumeClaim" in volume]
    if claims:
        cause = ("spec", "storage", "pvc") if spec.storage.pvc else ("spec", "start")
        yield "persistent volume claims", cause
        if any("readOnly" not in volume["persistentVolumeClaim"] for volume in claims):
            yield "writable persistent volume claims", cause
    if pod.parts.get("container_security", {}).get("capabilities", {}).get("add"):
        yield "added capabilities", ("spec", "security", "capabilities")
    if any("fieldRef" in variable.get("valueFrom", ()) for variable in pod.parts.get("env", ())):
        yield "environment variables from pod fields", ("spec", "environmentVariables")


def _list_spec_parts(pod: Pod, spec: InferenceSpec, oci_models: str) -> Iterator[tuple[str, Path]]:
    """Yield further containers and components, and what KServe adds to load several storage URIs.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative/ksvc_reconciler.go (createKnativeService).
    """
    for index, item in enumerate(spec.sidecars):
        if any(name in item for name in PROBES):
            yield "probes of sidecars", ("spec", "sidecars", index)
    if spec.sidecars:
        yield "sidecars", ("spec", "sidecars")
    if spec.init_containers or "init_containers" in pod.parts:
        yield "init containers", ("spec", "initContainers") if spec.init_containers else pod.causes["init_containers"]
    for component, value in (("transformer", spec.transformer), ("explainer", spec.explainer)):
        for title in (*PARTS.values(), "init containers"):
            name = "initContainers" if title == "init containers" else title.rpartition(" ")[2]
            if value is not None and value.get(name):
                yield title, ("spec", component, name)
    uris = [] if spec.model is None else [item.uri for item in spec.model.uris]
    images = [uri for uri in uris if uri.startswith("oci")]
    for title, is_needed in (
        ("persistent volume claims", any(uri.startswith("pvc://") for uri in uris)),
        ("init containers", any(not uri.startswith(("pvc://", "oci")) for uri in uris)),
        ("image volumes", any(uri.startswith("oci+native://") or oci_models == "native" for uri in images)),
        ("shareProcessNamespace", oci_models == "modelcar" and any(uri.startswith("oci://") for uri in images)),
    ):
        if is_needed:
            yield title, ("spec", "model", "uris")


def make_service(plan: Plan, pod: Pod, canonical: str) -> Object:
    """Return the Knative Service, without the fields that are not set."""
    traffic = _make_traffic(plan)
    scaling = {**make_scaling_annotations(plan), **make_bound_annotations(plan)}
    annotations = {**scaling, **metadata.make_pod_annotations(plan, pod)}
    written = metadata.drop_empty(labels=metadata.make_pod_labels(plan, pod), annotations=annotations)
    container = make_container(plan, pod, "h2c" if plan.spec.serving_port.protocol == "grpc" else "http1")
    containers = [container, *secure_containers(plan.spec.sidecars, pod)]
    settings = {**_make_settings(plan), **render_pod_fields(plan, pod), "containers": containers}
    spec: dict[str, Any] = {
        "template": {**metadata.drop_empty(metadata=written), "spec": settings},
        **({} if traffic is None else {"traffic": traffic}),
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": metadata.make_metadata(plan, canonical),
        "spec": spec,
    }


def _make_settings(plan: Plan) -> dict[str, Any]:
    """Return the revision's fields that are not fields of a pod."""
    return prune_nulls(
        {
            "containerConcurrency": plan.spec.autoscaling.concurrency_hard_limit,
            "timeoutSeconds": plan.spec.serving_configuration.request_timeout_seconds,
            "responseStartTimeoutSeconds": _choose_response_start(plan) if plan.adds_defaults else None,
        }
    )


def _choose_response_start(plan: Plan) -> int | None:
    """Return the request timeout as the timeout of the first byte, None if the default of the cluster is long enough.

    A response that is not streamed starts only when it is complete, so a shorter timeout of the first byte would end the
    request early. Upstream: pkg/apis/serving/v1/revision_defaults.go, which sets the cluster's default on every revision
    with a longer request timeout.
    """
    seconds = plan.spec.serving_configuration.request_timeout_seconds
    default = (
        parse_whole_quantity(plan.cluster.knative.defaults.get(RESPONSE_START, DEFAULT_RESPONSE_START_SECONDS)) or 0
    )
    return seconds if seconds is not None and 0 < default < seconds else None


def _make_traffic(plan: Plan) -> list[dict[str, Any]] | None:
    traffic = plan.spec.traffic
    percent = traffic.canary_percent
    if percent is None:
        return None
    parts: list[dict[str, Any]] = [{"latestRevision": True, "percent": percent, "tag": "canary"}]
    if traffic.stable_revision is not None:
        stable = {"revisionName": traffic.stable_revision, "latestRevision": False, "percent": 100 - percent}
        parts.append({**stable, "tag": "stable"})
    return parts if plan.adds_defaults else [{key: part[key] for key in part if key != "tag"} for part in parts]


def make_domain_mappings(plan: Plan, service: str) -> list[Object]:
    """Return a DomainMapping for each of the user's host names, with the labels and annotations that enforce access.

    Knative copies labels and annotations to a mapping's Ingress from the mapping, not from the service (knative.dev/serving
    pkg/reconciler/domainmapping/resources/ingress.go).
    """
    mappings: list[Object] = []
    for url in plan.spec.exposed_urls:
        # The service's own URL serves an entry without a host name.
        if url.exclude or url.url is None:
            continue
        labels, annotations = metadata.make_access_metadata(plan.spec, plan.cluster, url.authorization_type)
        mapping = make_object(
            "serving.knative.dev/v1beta1",
            "DomainMapping",
            str(parse_host(url.url or "")),
            {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": service}},
            labels={keys.APP_NAME: plan.name, keys.APP_MANAGED_BY: "ebbtide", **labels},
            annotations=annotations or None,
        )
        mappings.append(mapping)
    return mappings
