"""One-time reading of a live cluster (versions, settings, metrics APIs, priority classes, nodes), and the profile of it.

A forbidden read is recorded and does not raise. Upstream: knative.dev/serving config/core (deployments, the
defaults of ConfigMaps in pkg/apis/config and pkg/autoscaler/config), kserve config/configmap and config/manager,
NVIDIA/k8s-device-plugin docs and NVIDIA/gpu-feature-discovery (labels of GPU nodes).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ebbtide.cluster.client.protocol import (
    CLUSTER_QUEUE,
    CLUSTER_RUNTIME,
    CONFIG_MAP,
    DEPLOYMENT,
    DEVICE_CLASS,
    HPA,
    INFERENCE,
    LEASE,
    LOCAL_QUEUE,
    NAMESPACE,
    NODE,
    PRIORITY_CLASS,
    QUEUE,
    QUOTA,
    RESOURCE_SLICE,
    RUNTIME_CLASS,
    SERVICE,
    Cluster,
    ClusterError,
    ForbiddenError,
    Kind,
    MissingError,
)
from ebbtide.cluster.doctor.kai import KAI_NAMESPACE, read_kai_settings
from ebbtide.cluster.doctor.kueue import KUEUE_KEY, KUEUE_MAP, KUEUE_NAMESPACE, observe_kueue_quotas
from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE, find_by_name, parse_timestamp
from ebbtide.cluster.slo.proxy import find_gateway_histogram
from ebbtide.core.base import keys, names, quantities
from ebbtide.core.base.annotations import parse_finite, parse_seconds
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.profile.built_in import OTHER_FLAGS
from ebbtide.core.profile.models import NodePool
from ebbtide.core.translation import gpu
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.gpu.backend import DraDevice, GpuNode
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.priority import FOUR, LEVELS, PREFIX
from ebbtide.core.translation.quotas.kai import RESOURCES, UNLIMITED
from ebbtide.core.translation.serving.knative import DEFAULTS, EVERY_FLAG

KSERVE_NAMESPACE: Final = "kserve"
MONITORING_NAMESPACE: Final = "monitoring"
#: The resource of a KAI queue by the field of a project's quota.
QUOTA_FIELDS: Final = {"gpus": "gpu", "cpu": "cpu", "memory": "memory"}
#: Seconds without a renewal after which a controller has stopped: four lifetimes of its Lease.
STALE_SECONDS: Final = 60.0
KSERVE_MAP: Final = "inferenceservice-config"
#: Knative's ConfigMaps that a profile covers, with the keys that Ebbtide evaluates and their upstream defaults.
MAPS: Final[Mapping[str, Mapping[str, str]]] = {
    "features": {flag: DEFAULTS.get(flag, "disabled") for flag in sorted({*EVERY_FLAG, *OTHER_FLAGS})},
    "autoscaler": {
        "container-concurrency-target-percentage": "70",
        "container-concurrency-target-default": "100",
        "requests-per-second-target-default": "200",
        "target-burst-capacity": "211",
        "stable-window": "60s",
        "panic-window-percentage": "10",
        "panic-threshold-percentage": "200",
        "max-scale-up-rate": "1000",
        "max-scale-down-rate": "2",
        "enable-scale-to-zero": "true",
        "scale-to-zero-grace-period": "30s",
        "scale-to-zero-pod-retention-period": "0s",
        "pod-autoscaler-class": keys.CLASS_KPA,
        "activator-capacity": "100",
        "initial-scale": "1",
        "allow-zero-initial-scale": "false",
        "min-scale": "0",
        "max-scale": "0",
        "max-scale-limit": "0",
        "scale-down-delay": "0s",
    },
    "defaults": {
        "revision-timeout-seconds": "300",
        "max-revision-timeout-seconds": "600",
        "revision-response-start-timeout-seconds": "300",
        "container-concurrency": "0",
        "container-concurrency-max-limit": "1000",
    },
    "deployment": {
        "progress-deadline": "600s",
        "queue-sidecar-cpu-request": "25m",
        "queue-sidecar-memory-request": "",
        "default-affinity-type": "prefer-spread-revision-over-nodes",
    },
    "observability": {"request-metrics-protocol": "none", "metrics-protocol": "none"},
    "network": {},
}
#: Knative Deployments that every service needs.
CONTROLLERS: Final = ("activator", "autoscaler", "controller", "webhook")
KSERVE_CONTROLLER: Final = "kserve-controller-manager"
HPA_EXTENSION: Final = "autoscaler-hpa"
#: API group paths by the component that serves them.
GROUPS: Final = {
    "knative": "/apis/serving.knative.dev/v1",
    "kserve": "/apis/serving.kserve.io/v1beta1",
    "llm": "/apis/serving.kserve.io/v1alpha2",
    "inference-pool": "/apis/inference.networking.k8s.io/v1",
    "metrics-server": "/apis/metrics.k8s.io/v1beta1",
    "keda": "/apis/keda.sh/v1alpha1",
    "kai": "/apis/scheduling.run.ai/v2",
    "kueue": "/apis/kueue.x-k8s.io/v1beta2",
    "dra": "/apis/resource.k8s.io/v1",
}
#: The definition of the custom resource.
DEFINITION: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferences.ebbtide.dev"
CUSTOM_METRICS: Final = "/apis/custom.metrics.k8s.io/v1beta1"
VERSION: Final = re.compile(r"v?(\d+\.\d+(?:\.\d+)?)(?:[-+].*)?")
VERSION_LABEL: Final = "app.kubernetes.io/version"
POD_SECURITY: Final = f"{keys.POD_SECURITY}enforce"


class ControllerLease(NamedTuple):
    """The Lease of Ebbtide's controllers in a namespace: its holder, empty if none, and the seconds since it was renewed."""

    namespace: str
    holder: str
    age_seconds: float

    @property
    def runs(self) -> bool:
        """True if a controller holds it and renews it."""
        return bool(self.holder) and self.age_seconds < STALE_SECONDS


def describe_stopped_controller(leases: Iterable[ControllerLease]) -> str:
    """Return how it is known that no controller runs: the last one stopped, or there is none."""
    stale = next((lease for lease in leases if lease.holder), None)
    if stale is None:
        return "is not running"
    return f"{stale.holder} stopped {count_noun(round(stale.age_seconds / 60), 'minute')} ago"


@dataclass(frozen=True, slots=True)
class ObservedCluster:
    """A cluster as it was read. A part that was not read is None; an unknown version is empty."""

    #: Names of the ``GROUPS`` that are served.
    served: frozenset[str]
    kubernetes: str = ""
    knative: str = ""
    kserve: str = ""
    #: Data of Knative's ConfigMaps ``config-<name>`` by name.
    maps: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    #: Data of KServe's ConfigMap.
    kserve_map: Mapping[str, str] | None = None
    #: Knative's Deployments by name; True if at least one replica is available.
    deployments: Mapping[str, bool] | None = None
    #: KAI's Deployments.
    kai: tuple[Object, ...] | None = None
    #: True if KServe's controller has an available replica.
    kserve_runs: bool | None = None
    #: Names of the pod metrics of custom.metrics.k8s.io; None if that API is not served.
    metrics: frozenset[str] | None = None
    classes: tuple[Object, ...] | None = None
    nodes: tuple[Object, ...] | None = None
    namespaces: tuple[Object, ...] | None = None
    quotas: tuple[Object, ...] | None = None
    queues: tuple[Object, ...] | None = None
    hpas: tuple[Object, ...] | None = None
    services: tuple[Object, ...] = ()
    runtimes: tuple[str, ...] | None = None
    #: The gateway's histogram in the cluster's Prometheus; empty without one.
    gateway_histogram: str | None = None
    #: Names of the RuntimeClasses.
    runtime_classes: tuple[str, ...] | None = None
    #: Device classes of DRA, and the devices that its drivers offer.
    device_classes: tuple[Object, ...] | None = None
    slices: tuple[Object, ...] | None = None
    #: Kueue's ClusterQueues and LocalQueues, and its configuration.
    cluster_queues: tuple[Object, ...] | None = None
    local_queues: tuple[Object, ...] | None = None
    kueue_configuration: str | None = None
    #: Ebbtide's controllers by the namespace of their Lease.
    controllers: tuple[ControllerLease, ...] | None = None
    #: The definition of the custom resource, and the resources.
    definition: Object | None = None
    resources: tuple[Object, ...] = ()
    #: Descriptions of the objects that the caller is not allowed to read.
    unread: tuple[str, ...] = ()

    @property
    def disallowed(self) -> tuple[str, ...]:
        """The annotations that KServe does not copy to pods, from its ConfigMap."""
        disallowed = self.read_kserve("inferenceService").get("serviceAnnotationDisallowedList", [])
        return tuple(map(str, disallowed)) if isinstance(disallowed, list) else ()

    @property
    def http_route_timeouts(self) -> bool:
        """True if KServe Standard creates HTTPRoutes with timeouts."""
        ingress = self.read_kserve("ingress")
        return ingress.get("enableGatewayApi") is True and ingress.get("disableHTTPRouteTimeout") is not True

    @property
    def llm(self) -> str:
        """The value of the profile's ``kserve.llm``: v1alpha2 has LLMInferenceService and its presets only."""
        if "llm" not in self.served:
            return "none"
        return "scheduler" if "inference-pool" in self.served else "route"

    @property
    def oci_models(self) -> str:
        """The value of the profile's ``kserve.ociModels`` (kserve pkg/types/config.go, ResolveOciModelMode)."""
        settings = self.read_kserve("storageInitializer")
        if settings.get("ociModelMode") == "native":
            return "native"
        switches = ("ociModelMode", "enableModelcar", "enableOciModelSupport")
        return "modelcar" if not settings or any(settings.get(switch) for switch in switches) else "none"

    def read_kserve(self, key: str) -> dict[str, Any]:
        """Return the settings under a key of KServe's ConfigMap; empty if they are absent or not valid JSON."""
        try:
            settings = json.loads((self.kserve_map or {}).get(key, "{}"))
        except ValueError:
            return {}
        return settings if isinstance(settings, dict) else {}


class _Reader:
    """Reads of a cluster; what is missing or forbidden is None, and what is forbidden is recorded."""

    def __init__(self, cluster: Cluster, groups: Iterable[str]) -> None:
        """Read which of the API groups are served."""
        self._cluster = cluster
        self.served = frozenset(name for name in groups if _is_served(cluster, GROUPS[name]))
        #: Descriptions of the forbidden reads, in order and without duplicates.
        self.unread: dict[str, None] = {}

    def read(self, title: str, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except MissingError:
            return None
        except ForbiddenError:
            self.unread[title] = None
            return None

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "", group: str = "") -> tuple[Object, ...] | None:
        """Return the objects of a kind; none of a ``group`` that is not served."""
        if group and group not in self.served:
            return ()
        place = f" in {namespace}" if namespace else ""
        objects: tuple[Object, ...] | None = self.read(
            f"{kind.plural}{place}", lambda: tuple(self._cluster.list(kind, namespace, labels=labels).items)
        )
        return objects

    def read_map(self, name: str, namespace: str, group: str) -> Mapping[str, str] | None:
        """Return the data of a ConfigMap; None if its group is not served."""
        if group not in self.served:
            return None
        title = f"{CONFIG_MAP.plural} in {namespace}"
        config_map = self.read(title, lambda: self._cluster.get(CONFIG_MAP, name, namespace))
        return None if config_map is None else get_at(config_map, "data", default={})

    def read_controllers(self) -> tuple[ControllerLease, ...] | None:
        """Return the Leases of Ebbtide's controllers."""
        leases = self.list(LEASE, labels=f"{keys.APP_NAME}={names.CONTROLLER}")
        if leases is None:
            return None
        now = datetime.now(UTC).timestamp()
        return tuple(
            ControllerLease(
                lease["metadata"]["namespace"],
                get_at(lease, "spec", "holderIdentity", default=""),
                max(0.0, now - parse_timestamp(get_at(lease, "spec", "renewTime"))),
            )
            for lease in leases
        )


def observe_groups(
    cluster: Cluster,
    groups: Iterable[str],
    *,
    metrics: bool,
    controller: bool,
    kinds: Container[Kind] = (),
    namespaces: Iterable[str] = (),
) -> ObservedCluster:
    """Read only whether API groups are served, KServe's settings for ``kserve``, the pod metrics, and the controller's Lease.

    ``kinds`` are the kinds of objects to read: PriorityClasses, queues, device classes, and RuntimeClasses with KAI's
    Deployments. Members of a project can read Kueue's LocalQueues only in its namespace, so they are read by ``namespaces``.
    """
    reader = _Reader(cluster, groups)
    by_class = RUNTIME_CLASS in kinds
    by_kueue = LOCAL_QUEUE in kinds
    local_queues = [reader.list(LOCAL_QUEUE, name, group="kueue") for name in namespaces] if by_kueue else [None]
    kserve_map = None
    with suppress(ClusterError):
        kserve_map = reader.read_map(KSERVE_MAP, KSERVE_NAMESPACE, "kserve")
    return ObservedCluster(
        reader.served,
        kserve_map=kserve_map,
        metrics=_read_custom_metrics(cluster) if metrics else None,
        controllers=reader.read_controllers() if controller else None,
        classes=reader.list(PRIORITY_CLASS) if PRIORITY_CLASS in kinds else None,
        queues=reader.list(QUEUE, group="kai") if QUEUE in kinds else None,
        kai=reader.list(DEPLOYMENT, KAI_NAMESPACE, group="kai") if by_class else None,
        runtime_classes=_read_names(reader.list(RUNTIME_CLASS, group="kai")) if by_class else None,
        cluster_queues=reader.list(CLUSTER_QUEUE, group="kueue") if by_kueue else None,
        local_queues=None
        if None in local_queues
        else tuple(queue for queues in local_queues for queue in queues or ()),
        device_classes=reader.list(DEVICE_CLASS) if DEVICE_CLASS in kinds else None,
        # A resource that no class provides may be a node's.
        nodes=reader.list(NODE) if DEVICE_CLASS in kinds else None,
    )


def observe_cluster(cluster: Cluster) -> ObservedCluster:
    """Read the state of a cluster.

    Raises:
        UnreachableError: the cluster does not answer.

    """
    reader = _Reader(cluster, GROUPS)
    knative = reader.list(DEPLOYMENT, KNATIVE_NAMESPACE, group="knative")
    kserve = reader.list(DEPLOYMENT, KSERVE_NAMESPACE, group="kserve")
    kserve_map = reader.read_map(KSERVE_MAP, KSERVE_NAMESPACE, "kserve")
    runtime_classes = reader.list(RUNTIME_CLASS, group="kai")
    runtimes = reader.list(CLUSTER_RUNTIME, group="kserve")
    definition = reader.read("inferences' definition", lambda: cluster.read(DEFINITION))
    # Each workload has several Services, so list only candidates for Prometheus.
    services = (
        *(reader.list(SERVICE, MONITORING_NAMESPACE) or ()),
        *(reader.list(SERVICE, labels=f"{keys.APP_NAME}=prometheus") or ()),
    )
    return ObservedCluster(
        reader.served,
        kubernetes=_parse_version(str(cluster.read("/version").get("gitVersion", ""))),
        knative=_read_release(knative or (), "controller"),
        kserve=_read_release(kserve or (), KSERVE_CONTROLLER) or _version_of_images(kserve_map or {}),
        maps={name: reader.read_map(f"config-{name}", KNATIVE_NAMESPACE, "knative") for name in (*MAPS, "domain")},
        kserve_map=kserve_map,
        deployments=None if knative is None else {obj["metadata"]["name"]: _is_available(obj) for obj in knative},
        kai=reader.list(DEPLOYMENT, KAI_NAMESPACE, group="kai"),
        kserve_runs=None
        if kserve is None
        else any(_has_name(obj, KSERVE_CONTROLLER) and _is_available(obj) for obj in kserve),
        metrics=_read_custom_metrics(cluster),
        classes=reader.list(PRIORITY_CLASS),
        nodes=reader.list(NODE),
        namespaces=reader.list(NAMESPACE),
        quotas=reader.list(QUOTA),
        queues=reader.list(QUEUE, group="kai"),
        hpas=reader.list(HPA),
        services=services,
        runtimes=_read_names(runtimes),
        runtime_classes=_read_names(runtime_classes),
        device_classes=reader.list(DEVICE_CLASS, group="dra"),
        slices=reader.list(RESOURCE_SLICE, group="dra"),
        gateway_histogram=_read_gateway_histogram(cluster, find_prometheus(services)),
        cluster_queues=reader.list(CLUSTER_QUEUE, group="kueue"),
        local_queues=reader.list(LOCAL_QUEUE, group="kueue"),
        controllers=reader.read_controllers(),
        definition=definition,
        resources=() if definition is None else tuple(reader.list(INFERENCE) or ()),
        kueue_configuration=(reader.read_map(KUEUE_MAP, KUEUE_NAMESPACE, "kueue") or {}).get(KUEUE_KEY),
        unread=tuple(reader.unread),
    )


def _read_names(objects: tuple[Object, ...] | None) -> tuple[str, ...] | None:
    return None if objects is None else tuple(obj["metadata"]["name"] for obj in objects)


def _read_gateway_histogram(cluster: Cluster, address: str) -> str | None:
    """Return the gateway's histogram in Prometheus, or None if Prometheus cannot be asked."""
    try:
        return find_gateway_histogram(cluster.read, address) if address else None
    except ClusterError:
        return None


def _is_served(cluster: Cluster, path: str) -> bool:
    try:
        cluster.read(path)
    except MissingError:
        return False
    except ForbiddenError:
        # Assume that the group is served; the reads of its objects show whether it is.
        return True
    except ClusterError:
        # An aggregated API whose server is down.
        return False
    return True


def _read_custom_metrics(cluster: Cluster) -> frozenset[str] | None:
    """Return the names of the pod metrics that HPAs can use."""
    try:
        api_resources = cluster.read(CUSTOM_METRICS)
    except ClusterError:
        return None
    names = [str(row.get("name", "")) for row in get_at(api_resources, "resources", default=[])]
    return frozenset(name.removeprefix("pods/") for name in names if name.startswith("pods/"))


def _has_name(obj: Object, name: str) -> bool:
    return bool(obj["metadata"]["name"] == name)


def _is_available(deployment: Object) -> bool:
    return int(get_at(deployment, "status", "availableReplicas", default=0)) > 0


def _parse_version(text: str) -> str:
    match = VERSION.fullmatch(text.strip())
    return match[1] if match is not None else ""


def _read_release(deployments: Iterable[Object], name: str) -> str:
    """Return a Deployment's version, from its version label or its image's tag; empty if neither has one."""
    for deployment in deployments:
        if not _has_name(deployment, name):
            continue
        labeled = _parse_version(get_at(deployment, "metadata", "labels", VERSION_LABEL, default=""))
        containers = get_at(deployment, "spec", "template", "spec", "containers", default=[])
        images = [str(container.get("image", "")) for container in containers]
        return labeled or next(filter(None, (_parse_version(image.rpartition(":")[2]) for image in images)), "")
    return ""


def _version_of_images(settings: Mapping[str, str]) -> str:
    """Return the most common version among KServe's images in its ConfigMap; empty if there are none."""
    versions = Counter(re.findall(r"kserve/[a-z-]+:v(\d+\.\d+\.\d+)", " ".join(settings.values())))
    return versions.most_common(1)[0][0] if versions else ""


def minor_version(text: str) -> str:
    """Return a version's major and minor numbers: 1.34 for 1.34.4."""
    return ".".join(text.split(".")[:2])


def effective_settings(observed: ObservedCluster, part: str) -> dict[str, str]:
    """Return the effective settings of a ConfigMap: upstream's defaults, overridden by its data."""
    data = observed.maps.get(part) or {}
    return {key: data.get(key, default) for key, default in MAPS[part].items()}


def changed_settings(observed: ObservedCluster, part: str) -> dict[str, str]:
    """Return the settings of a ConfigMap that differ from upstream's defaults, among the keys in ``MAPS``."""
    return {
        key: value
        for key, value in effective_settings(observed, part).items()
        if not is_equivalent(value, MAPS[part][key])
    }


def is_equivalent(first: str, second: str) -> bool:
    """Return whether two values of a ConfigMap are equivalent: 200 and 200.0, 60s and 1m."""
    return first.strip() == second.strip() or _setting_value(first) == _setting_value(second)


def _setting_value(text: str) -> float | str:
    text = text.strip()
    value = parse_seconds(text)
    if value is None:
        value = parse_finite(text)
    return text if value is None else value


# The observed profile.


def make_observed_profile(cluster: Cluster) -> dict[str, Any]:
    """Return the profile of a live cluster, as a document. Doctor reports no findings for the two together."""
    return make_profile_document(observe_cluster(cluster))


def make_profile_document(observed: ObservedCluster) -> dict[str, Any]:
    """Return the profile of a cluster, as a document; unreadable settings have their defaults."""
    knative: dict[str, Any] = {"installed": "knative" in observed.served}
    if observed.knative:
        knative["version"] = minor_version(observed.knative)
    knative["hpa"] = bool((observed.deployments or {}).get(HPA_EXTENSION))
    knative |= {part: changed for part in MAPS if (changed := changed_settings(observed, part))}
    kserve: dict[str, Any] = {"installed": "kserve" in observed.served}
    if observed.kserve:
        kserve["version"] = minor_version(observed.kserve)
    kserve["modes"] = [*(["Knative"] if knative["installed"] else []), "Standard"]
    if observed.llm != "none":
        kserve["llm"] = observed.llm
    kserve["annotationDisallowList"] = list(observed.disallowed)
    limits = _read_limits(observed)
    if limits:
        kserve["limits"] = limits
    if observed.kserve_map is not None:
        kserve |= {"httpRouteTimeouts": observed.http_route_timeouts, "ociModels": observed.oci_models}
    if observed.runtimes:
        kserve["runtimes"] = sorted(observed.runtimes)
    domains = observed.maps.get("domain") or {}
    pools = list(_observe_pools(observed))
    has_dra = _has_dra(observed) or any(BACKENDS[pool["backend"]].claims is not None for pool in pools)
    spec = {
        "kubernetes": {"version": minor_version(observed.kubernetes) or "1.37", "dra": has_dra},
        "knative": knative,
        "kserve": kserve,
        "metrics": _observe_metrics(observed),
        **({"autoscaling": {"controller": True}} if any(lease.runs for lease in observed.controllers or ()) else {}),
        "nodePools": pools,
        "scheduling": _observe_scheduling(observed),
        "projects": _observe_projects(observed),
        "domain": next((name for name in domains if not name.startswith("_")), "example.com"),
    }
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "observed"},
        "spec": spec,
    }


def _has_dra(observed: ObservedCluster) -> bool:
    # Every recent cluster serves the API; only a driver makes it usable, and its chart creates the class.
    device_class = NodePool.model_fields["device_class"].default
    return find_by_name(observed.device_classes or (), device_class) is not None


def _read_limits(observed: ObservedCluster) -> dict[str, str]:
    defaults = observed.read_kserve("inferenceService").get("resource", {})
    limits = (
        {"cpu": defaults.get("cpuLimit"), "memory": defaults.get("memoryLimit")} if isinstance(defaults, dict) else {}
    )
    return {name: str(value) for name, value in limits.items() if value}


def _observe_metrics(observed: ObservedCluster) -> dict[str, Any]:
    adapter = "prometheus-adapter" if observed.metrics is not None else "none"
    if adapter == "none" and "keda" in observed.served:
        adapter = "keda"
    metrics: dict[str, Any] = {"adapter": adapter, "metricsServer": "metrics-server" in observed.served}
    address, histogram = find_prometheus(observed.services), observed.gateway_histogram
    return {
        **metrics,
        **({"prometheus": address} if address else {}),
        **({"gatewayLatency": histogram} if histogram else {}),
    }


def find_prometheus(services: Iterable[Object]) -> str:
    """Return the URL of the Service that appears to be Prometheus; empty if there is none."""
    for service in services:
        metadata = service["metadata"]
        ports = [row.get("port") for row in get_at(service, "spec", "ports", default=[])]
        names = {metadata["name"], str(get_at(metadata, "labels", keys.APP_NAME, default=""))}
        headless = get_at(service, "spec", "clusterIP") == "None"
        is_prometheus = any(name in {"prometheus", "prometheus-server", "prometheus-k8s"} for name in names)
        if is_prometheus and not headless and ports:
            port = 9090 if 9090 in ports else ports[0]  # noqa: PLR2004 - Prometheus' default
            return f"http://{metadata['name']}.{metadata['namespace']}.svc:{port}"
    return ""


def _observe_pools(observed: ObservedCluster) -> Iterator[dict[str, Any]]:
    """Yield the pools of GPU nodes: nodes that advertise the same GPUs through the same backend."""
    groups: dict[tuple[str, str, str], list[tuple[GpuNode, dict[str, Any]]]] = {}
    offered = of_claim.group_offered_devices(observed.nodes or (), observed.slices or (), observed.device_classes or ())
    for obj in observed.nodes or ():
        node = make_gpu_node(obj, observed, offered.get(obj["metadata"]["name"], ()))
        for pool in gpu.detect_pools(node):
            label = node.labels.get(keys.GPU_PRODUCT, "")
            groups.setdefault((pool["name"], label, pool.get("product", "")), []).append((node, pool))
    names: Counter[str] = Counter()
    for (name, label, _), rows in groups.items():
        node, detected = rows[0]
        names[name] += 1
        pool = {"name": name if names[name] == 1 else f"{name}-{names[name]}", "nodes": len(rows)}
        if node.product:
            pool["product"] = node.product
        memory = node.labels.get(keys.GPU_MEMORY, "")
        if memory.isdigit() and int(memory):
            pool["gpuMemoryMebibytes"] = int(memory)
        pool |= {field: value for field, value in detected.items() if field != "name"}
        if label and len(observed.nodes or ()) > len(rows):
            # The label of a GPU that pods share ends with -SHARED (NVIDIA/k8s-device-plugin internal/lm/resource.go).
            pool["selector"] = {keys.GPU_PRODUCT: label}
        yield pool


def make_gpu_node(node: Object, observed: ObservedCluster, devices: Iterable[DraDevice] = ()) -> GpuNode:
    """Return the properties of a node that GPU backends use to detect their pools."""
    amounts = get_at(node, "status", "allocatable", default={})
    resources = {name: amount for name, text in amounts.items() if (amount := quantities.parse_whole_quantity(text))}
    return GpuNode(resources, get_at(node, "metadata", "labels", default={}), observed.served, tuple(devices))


def read_class_values(observed: ObservedCluster) -> dict[str, int]:
    """Return the values of the priority classes that workloads can use, by name."""
    return {
        priority_class["metadata"]["name"]: int(priority_class.get("value", 0))
        for priority_class in observed.classes or ()
        if not priority_class["metadata"]["name"].startswith("system-")
    }


def observe_kai(observed: ObservedCluster) -> dict[str, Any]:
    """Return the profile's ``scheduling.kai``. Settings that were not read have KAI's defaults."""
    deployments = observed.kai or ()
    releases = (_read_release(deployments, get_at(obj, "metadata", "name")) for obj in deployments)
    version = minor_version(next(filter(None, releases), ""))
    return {**({"version": version} if version else {}), **read_kai_settings(deployments, version)}


def _observe_scheduling(observed: ObservedCluster) -> dict[str, Any]:
    kai = "kai" in observed.served
    values = read_class_values(observed)
    levels = {f"{PREFIX}{name}{suffix}" for name in LEVELS for suffix in ("", "-preemptible")}
    classes = {name: value for name, value in values.items() if name not in levels}
    scheduling: dict[str, Any] = {"scheduler": "kai-scheduler" if kai else "default-scheduler"}
    if kai:
        scheduling["kai"] = observe_kai(observed)
    if all(name in classes for name in FOUR):
        labels = [
            get_at(priority_class, "metadata", "labels", keys.APP_MANAGED_BY)
            for priority_class in observed.classes or ()
            if priority_class["metadata"]["name"] in FOUR
        ]
        owner = "kai" if kai else "cluster"
        scheduling |= {"classes": classes, "classesOwner": "ebbtide" if set(labels) == {"ebbtide"} else owner}
    else:
        # Ebbtide creates its four classes with the first workload.
        defaults = {"train": 50, "build-preemptible": 75, "build": 100, "inference": 125}
        scheduling |= {"classes": {**defaults, **classes}, "classesOwner": "ebbtide"}
    return scheduling


def _observe_queue_quotas(observed: ObservedCluster) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the quota of each project with a queue, so that an apply with the observed profile keeps it."""
    for queue in observed.queues or ():
        project = get_at(queue, "metadata", "labels", keys.PROJECT)
        resources = get_at(queue, "spec", "resources", default={})
        amounts = {name: get_at(resources, name, "quota", default=0) for name in RESOURCES}
        if not project:
            continue
        gpu_queue = resources.get("gpu", {})
        quota = {
            "gpus": amounts["gpu"],
            "cpu": amounts["cpu"] / 1000,
            "memory": f"{amounts['memory']}M",
        }
        yield (
            project,
            {
                **{field: quota[field] for field, name in QUOTA_FIELDS.items() if amounts[name] != UNLIMITED},
                "overQuota": get_at(gpu_queue, "limit", default=UNLIMITED) == UNLIMITED,
                "overQuotaWeight": int(get_at(gpu_queue, "overQuotaWeight", default=1)),
            },
        )


def find_namespace_pattern(namespaces: Iterable[Object]) -> str:
    """Return how most projects' namespaces are named, such as ``runai-{project}``; empty if there is none."""
    patterns: Counter[str] = Counter()
    for obj in namespaces:
        project, name = get_at(obj, "metadata", "labels", keys.PROJECT), obj["metadata"]["name"]
        if project and project in name:
            patterns[name.replace(project, "{project}", 1)] += 1
    return patterns.most_common(1)[0][0] if patterns else ""


def _observe_projects(observed: ObservedCluster) -> dict[str, Any]:
    pattern = find_namespace_pattern(observed.namespaces or ())
    levels = Counter(
        get_at(obj, "metadata", "labels", POD_SECURITY, default="baseline")
        for obj in observed.namespaces or ()
        if get_at(obj, "metadata", "labels", keys.PROJECT)
    )
    settings: dict[str, Any] = {"quota": "kai" if "kai" in observed.served else "resourcequota"}
    if pattern:
        settings["namespace"] = pattern
        settings["podSecurity"] = levels.most_common(1)[0][0]
    parents = Counter(
        parent
        for obj in observed.queues or ()
        if get_at(obj, "metadata", "labels", keys.PROJECT) and (parent := get_at(obj, "spec", "parentQueue"))
    )
    if parents:
        settings["parentQueue"] = parents.most_common(1)[0][0]
    known = dict(_observe_queue_quotas(observed))
    of_kueue = [
        queue
        for queue in observed.cluster_queues or ()
        if get_at(queue, "metadata", "labels", keys.PROJECT, default="")
    ]
    if of_kueue:
        settings["quota"] = "kueue"
        settings["parentQueue"] = get_at(of_kueue[0], "spec", "cohortName", default="default-parent-queue")
        known |= observe_kueue_quotas(of_kueue, _observe_pools(observed))
    if known:
        settings["known"] = known
    return settings
