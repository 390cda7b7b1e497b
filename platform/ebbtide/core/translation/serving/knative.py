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
#: A part of a pod, the name that Kubernetes gives it, and the feature flag that allows it.
FLAGS: Final = (
    ("priority_class_name", "priorityClassName", keys.PRIORITY_CLASS_FLAG),
    ("scheduler_name", "schedulerName", PREFIX + "schedulername"),
    ("runtime_class_name", "runtimeClassName", PREFIX + "runtimeclassname"),
    ("node_selector", "nodeSelector", PREFIX + "nodeselector"),
    ("affinity", "affinity", PREFIX + "affinity"),
    ("tolerations", "tolerations", PREFIX + "tolerations"),
    ("topology_spread", "topologySpreadConstraints", PREFIX + "topologyspreadconstraints"),
    ("pod_security", "a pod's securityContext", PREFIX + "securitycontext"),
)
CLAIM: Final = PREFIX + "persistent-volume-claim"
CLAIM_WRITE: Final = PREFIX + "persistent-volume-write"
EMPTY_DIR: Final = PREFIX + "volumes-emptydir"
FIELD_REF: Final = PREFIX + "fieldref"
#: Needed for every added capability, even NET_BIND_SERVICE, which the restricted level allows.
IMAGE_VOLUME: Final = PREFIX + "volumes-image"
SHARED_PROCESSES: Final = PREFIX + "shareprocessnamespace"
#: Kinds of volume that need a flag, their names, the flags, and the spec's fields.
VOLUME_FLAGS: Final = (
    ("image", "image volumes", IMAGE_VOLUME, ("spec", "storage", "imageVolume")),
    ("csi", "CSI volumes", PREFIX + "volumes-csi", ("spec", "storage", "csiVolume")),
)
#: These flags have no prefix.
MULTI_CONTAINER: Final = "multi-container"
MULTI_PROBING: Final = "multi-container-probing"
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
INIT_CONTAINERS: Final = PREFIX + "init-containers"
ADD_CAPABILITIES: Final = "kubernetes.containerspec-addcapabilities"
RESPONSE_START: Final = "revision-response-start-timeout-seconds"
#: The upstream default in config-defaults, in seconds. 0 means no limit.
DEFAULT_RESPONSE_START_SECONDS: Final = "300"
#: Feature flags that are not disabled by default.
DEFAULTS: Final = {EMPTY_DIR: "enabled", "multi-container": "enabled"}
#: Every flag that a spec can need. ``doctor`` and the profile's list are built from it.
EVERY_FLAG: Final = (
    *(flag for _, _, flag in FLAGS),
    CLAIM,
    SHARED_PROCESSES,
    CLAIM_WRITE,
    EMPTY_DIR,
    *(flag for _, _, flag, _ in VOLUME_FLAGS),
    FIELD_REF,
    INIT_CONTAINERS,
    MULTI_CONTAINER,
    MULTI_PROBING,
    ADD_CAPABILITIES,
)


def check_flags(plan: Plan, pod: Pod) -> Iterator[Problem]:
    """Yield a problem for each part of the pod that this cluster's feature flags do not allow."""
    spec, cluster = plan.spec, plan.cluster
    features = cluster.knative.features
    for part, flag, values, cause in (
        *_list_needed_flags(pod, spec),
        *_list_spec_flags(pod, spec, cluster.kserve.oci_models),
    ):
        value = features.get(flag, DEFAULTS.get(flag, "disabled"))
        if value not in values:
            # For some parts, Knative requires the value enabled.
            state = "allowed, but must be enabled," if value == "allowed" else "disabled"
            message = f"Knative rejects {part} in this cluster: {flag} is {state} in config-features"
            fix = f"set {flag}: enabled in config-features and in the profile's knative.features"
            yield Problem("FLG001", cause, message, fix)


def _list_needed_flags(pod: Pod, spec: InferenceSpec) -> Iterator[tuple[str, str, frozenset[str], Path]]:
    for part, name, flag in FLAGS:
        if part in pod.parts:
            yield name, flag, ALLOWED, pod.causes[part]
    volumes = pod.parts.get("volumes", ())
    for volume in volumes:
        if "emptyDir" in volume:
            cause: Path = ("spec", "storage", "emptyDirVolume")
            if volume["name"] == "shm":
                cause = ("spec", "compute", "shmSize" if spec.compute.shm_size is not None else "largeShmRequest")
            yield "emptyDir volumes", EMPTY_DIR, ENABLED, cause
            break
    for kind, title, flag, path in VOLUME_FLAGS:
        if any(kind in volume for volume in volumes):
            yield title, flag, ENABLED, path
    claims = [volume for volume in volumes if "persistentVolumeClaim" in volume]
    if claims:
        cause = ("spec", "storage", "pvc") if spec.storage.pvc else ("spec", "start")
        yield "persistent volume claims", CLAIM, ENABLED, cause
        if any("readOnly" not in volume["persistentVolumeClaim"] for volume in claims):
            yield "writable persistent volume claims", CLAIM_WRITE, ENABLED, cause
    if pod.parts.get("container_security", {}).get("capabilities", {}).get("add"):
        yield "added capabilities", ADD_CAPABILITIES, ENABLED, ("spec", "security", "capabilities")
    if any("fieldRef" in variable.get("valueFrom", ()) for variable in pod.parts.get("env", ())):
        yield "environment variables from pod fields", FIELD_REF, ALLOWED, ("spec", "environmentVariables")


def _list_spec_flags(pod: Pod, spec: InferenceSpec, oci_models: str) -> Iterator[tuple[str, str, frozenset[str], Path]]:
    """Yield the flags for further containers and components, and for what KServe adds to load several storage URIs.

    Upstream: kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative/ksvc_reconciler.go (createKnativeService).
    """
    for index, item in enumerate(spec.sidecars):
        if any(name in item for name in PROBES):
            yield "probes of sidecars", MULTI_PROBING, ENABLED, ("spec", "sidecars", index)
    if spec.sidecars:
        yield "sidecars", MULTI_CONTAINER, ENABLED, ("spec", "sidecars")
    if spec.init_containers:
        yield "init containers", INIT_CONTAINERS, ENABLED, ("spec", "initContainers")
    elif "init_containers" in pod.parts:
        yield "init containers", INIT_CONTAINERS, ENABLED, pod.causes["init_containers"]
    for component, value in (("transformer", spec.transformer), ("explainer", spec.explainer)):
        for _, title, flag in FLAGS:
            name = title.rpartition(" ")[2]
            if value is not None and value.get(name):
                yield title, flag, ALLOWED, ("spec", component, name)
        if value is not None and value.get("initContainers"):
            yield "init containers", INIT_CONTAINERS, ENABLED, ("spec", component, "initContainers")
    uris = [] if spec.model is None else [item.uri for item in spec.model.uris]
    cause = ("spec", "model", "uris")
    if any(uri.startswith("pvc://") for uri in uris):
        yield "persistent volume claims", CLAIM, ENABLED, cause
    if any(not uri.startswith(("pvc://", "oci")) for uri in uris):
        yield "init containers", INIT_CONTAINERS, ENABLED, cause
    images = [uri for uri in uris if uri.startswith("oci")]
    if any(uri.startswith("oci+native://") or oci_models == "native" for uri in images):
        yield "image volumes", IMAGE_VOLUME, ENABLED, cause
    if oci_models == "modelcar" and any(uri.startswith("oci://") for uri in images):
        yield "shareProcessNamespace", SHARED_PROCESSES, ALLOWED, cause


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
