"""The parts of a live cluster that doctor needs, each read when it is first needed, and the profile of the cluster.

A forbidden read is recorded and does not raise. Upstream: knative.dev/serving config/core (deployments, the
defaults of ConfigMaps in pkg/apis/config and pkg/autoscaler/config), kserve config/configmap and config/manager,
NVIDIA/k8s-device-plugin docs and NVIDIA/gpu-feature-discovery (labels of GPU nodes).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, NamedTuple

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Cluster, ClusterError, ForbiddenError, Kind, MissingError
from ebbtide.cluster.doctor.kai import KAI_NAMESPACE, read_kai_settings
from ebbtide.cluster.doctor.kueue import KUEUE_NAMESPACE, observe_kueue_quotas
from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE, find_by_name, parse_timestamp
from ebbtide.cluster.slo.proxy import (
    find_exporter_jobs,
    find_gateway_histogram,
    find_renaming_jobs,
    find_scrape_intervals,
)
from ebbtide.core.base import keys, names, quantities
from ebbtide.core.base.annotations import parse_finite, parse_seconds
from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.built_in import OTHER_FLAGS
from ebbtide.core.profile.models import NodePool
from ebbtide.core.translation import gpu
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.gpu.backend import DraDevice, GpuNode
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.priority import FOUR, LEVELS, PREFIX
from ebbtide.core.translation.quotas.kai import RESOURCES, UNLIMITED
from ebbtide.core.translation.serving.knative import DEFAULTS, EVERY_FLAG
from ebbtide.core.units import format_duration

KSERVE_NAMESPACE: Final = "kserve"
MONITORING_NAMESPACE: Final = "monitoring"
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
        "pod-is-always-schedulable": "false",
        "queue-sidecar-cpu-request": "25m",
        "queue-sidecar-memory-request": "",
        "default-affinity-type": "prefer-spread-revision-over-nodes",
    },
    "observability": {"request-metrics-protocol": "none", "metrics-protocol": "none"},
    "network": {},
}
#: Knative's Deployments that every service needs.
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
#: The group whose component runs in a namespace.
COMPONENTS: Final = {
    KNATIVE_NAMESPACE: "knative",
    KSERVE_NAMESPACE: "kserve",
    KAI_NAMESPACE: "kai",
    KUEUE_NAMESPACE: "kueue",
}
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
    return f"{stale.holder} stopped {format_duration(stale.age_seconds)} ago"


class ObservedCluster:
    """A cluster whose parts are read when they are first needed, each once.

    A part that is missing, or that the caller is not allowed to read, is None; an unknown version is empty. Any other error of
    the cluster is raised.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Read nothing yet."""
        self.cluster = cluster
        self._parts: dict[tuple[Any, ...], Any] = {}
        #: Descriptions of the objects that the caller is not allowed to read, in order and without duplicates.
        self.unread: dict[str, None] = {}

    def serves(self, group: str) -> bool:
        """Return whether a group of ``GROUPS`` is served."""
        return bool(self._read((group,), "", lambda: _is_served(self.cluster, GROUPS[group])))

    def list_objects(self, kind: Kind, namespace: str = "", *, labels: str = "") -> tuple[Object, ...] | None:
        """Return the objects of a kind; none of a group that is not served, or of a component that is not installed."""
        groups = (COMPONENTS.get(namespace), *(name for name, path in GROUPS.items() if path == kind.path))
        if not all(self.serves(group) for group in groups if group):
            return ()
        title = f"{kind.plural} in {namespace}" if namespace else kind.plural
        objects: tuple[Object, ...] | None = self._read(
            (kind, namespace, labels), title, lambda: tuple(self.cluster.list(kind, namespace, labels=labels).items)
        )
        return objects

    def list_running(self, namespace: str) -> list[str] | None:
        """Return the names of a component's Deployments that have an available replica."""
        deployments = self.list_objects(kube.DEPLOYMENT, namespace)
        if deployments is None:
            return None
        return [obj["metadata"]["name"] for obj in deployments if get_at(obj, "status", "availableReplicas", default=0)]

    def read_map(self, name: str, namespace: str = KNATIVE_NAMESPACE) -> Mapping[str, str] | None:
        """Return the data of a component's ConfigMap."""
        if not self.serves(COMPONENTS[namespace]):
            return None
        title = f"{kube.CONFIG_MAP.plural} in {namespace}"
        config_map = self._read((name, namespace), title, lambda: self.cluster.get(kube.CONFIG_MAP, name, namespace))
        return None if config_map is None else get_at(config_map, "data", default={})

    def fetch(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """Return an object, None if it does not exist, or an empty object if it cannot be read."""
        try:
            return self.cluster.get(kind, name, namespace)
        except MissingError:
            return None
        except ClusterError:
            return {}

    def _read(self, key: tuple[Any, ...], title: str, request: Callable[[], Any]) -> Any:
        if key not in self._parts:
            try:
                self._parts[key] = request()
            except MissingError:
                self._parts[key] = None
            except ForbiddenError:
                self.unread[title] = None
                self._parts[key] = None
        return self._parts[key]

    @cached_property
    def kubernetes(self) -> str:
        """The version of Kubernetes."""
        return _parse_version(str(self.cluster.read("/version").get("gitVersion", "")))

    @property
    def knative(self) -> str:
        """The version of Knative Serving."""
        return _read_release(self.list_objects(kube.DEPLOYMENT, KNATIVE_NAMESPACE) or (), "controller")

    @property
    def kserve(self) -> str:
        """The version of KServe."""
        release = _read_release(self.list_objects(kube.DEPLOYMENT, KSERVE_NAMESPACE) or (), KSERVE_CONTROLLER)
        return release or _version_of_images(self.read_map(KSERVE_MAP, KSERVE_NAMESPACE) or {})

    @property
    def kueue(self) -> str:
        """The version of Kueue."""
        return _read_release(self.list_objects(kube.DEPLOYMENT, KUEUE_NAMESPACE) or (), "kueue-controller-manager")

    @property
    def runtimes(self) -> list[str] | None:
        """The names of KServe's runtimes for all namespaces."""
        runtimes = self.list_objects(kube.CLUSTER_RUNTIME) if self.serves("kserve") else ()
        return None if runtimes is None else [obj["metadata"]["name"] for obj in runtimes]

    @cached_property
    def metrics(self) -> frozenset[str] | None:
        """The names of the pod metrics of custom.metrics.k8s.io that HPAs can use; None if that API is not served."""
        try:
            api_resources = self.cluster.read(CUSTOM_METRICS)
        except ClusterError:
            return None
        found = [str(row.get("name", "")) for row in get_at(api_resources, "resources", default=[])]
        return frozenset(name.removeprefix("pods/") for name in found if name.startswith("pods/"))

    @property
    def prometheus(self) -> str:
        """The URL of the Service that appears to be Prometheus; empty if there is none."""
        # Each workload has several Services, so list only candidates.
        return find_prometheus(
            (
                *(self.list_objects(kube.SERVICE, MONITORING_NAMESPACE) or ()),
                *(self.list_objects(kube.SERVICE, labels=f"{keys.APP_NAME}=prometheus") or ()),
            )
        )

    @cached_property
    def gateway_histogram(self) -> str | None:
        """The gateway's histogram in the cluster's Prometheus, empty without one; None if Prometheus cannot be asked."""
        try:
            return find_gateway_histogram(self.cluster.read, self.prometheus) if self.prometheus else None
        except ClusterError:
            return None

    @cached_property
    def exporter_jobs(self) -> dict[str, dict[str, set[str]]]:
        """The scrape jobs of each exporter with the namespaces of their targets; empty if Prometheus cannot be asked."""
        try:
            return find_exporter_jobs(self.cluster.read, self.prometheus) if self.prometheus else {}
        except ClusterError:
            return {}

    @cached_property
    def scrape_intervals(self) -> dict[tuple[str, str], float]:
        """The seconds between two scrapes of pods, by scrape job and namespace; empty if Prometheus cannot be asked."""
        try:
            return find_scrape_intervals(self.cluster.read, self.prometheus) if self.prometheus else {}
        except ClusterError:
            return {}

    def propose_job(self, exporter: str) -> dict[str, Any] | None:
        """Return the profile's settings of an exporter's scrape job; None unless exactly one job scrapes no project."""
        jobs = self.exporter_jobs.get(exporter, {})
        names = [name for name, places in jobs.items() if name and not places & self.project_namespaces]
        if len(names) != 1:
            return None
        (name,) = names
        try:
            renamed = exporter == "gpu" and name in find_renaming_jobs(self.cluster.read, self.prometheus)
        except ClusterError:
            return None
        # The label namespace of other series can be that of a workload, because their job can honor it.
        places = jobs[name] if renamed else set()
        return {
            "job": name,
            **({"namespace": place} if len(places) == 1 and (place := next(iter(places))) else {}),
            **({"renamed": True} if renamed else {}),
        }

    @cached_property
    def project_namespaces(self) -> set[str]:
        """The namespaces of projects."""
        namespaces = self.list_objects(kube.NAMESPACE) or ()
        return {obj["metadata"]["name"] for obj in namespaces if get_at(obj, "metadata", "labels", keys.PROJECT)}

    @cached_property
    def controllers(self) -> tuple[ControllerLease, ...] | None:
        """Ebbtide's controllers by the namespace of their Lease."""
        leases = self.list_objects(kube.LEASE, labels=f"{keys.APP_NAME}={names.CONTROLLER}")
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

    def list_resources(self) -> tuple[Object, ...] | None:
        """Return the custom resources; None without their definition."""
        definition = self._read((DEFINITION,), "inferences' definition", lambda: self.cluster.read(DEFINITION))
        return None if definition is None else self.list_objects(kube.INFERENCE)

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
    def model_node_groups(self) -> list[str] | None:
        """The names of the LocalModelNodeGroups if KServe's model cache is enabled; None if they cannot be read."""
        if self.read_kserve("localModel").get("enabled") is not True:
            return []
        groups = self.list_objects(kube.MODEL_NODE_GROUP)
        return None if groups is None else sorted(obj["metadata"]["name"] for obj in groups)

    @property
    def llm(self) -> str:
        """The value of the profile's ``kserve.llm``: v1alpha2 has LLMInferenceService and its presets only."""
        if not self.serves("llm"):
            return "none"
        return "scheduler" if self.serves("inference-pool") else "route"

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
            settings = json.loads((self.read_map(KSERVE_MAP, KSERVE_NAMESPACE) or {}).get(key, "{}"))
        except ValueError:
            return {}
        return settings if isinstance(settings, dict) else {}


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


def _parse_version(text: str) -> str:
    match = VERSION.fullmatch(text.strip())
    return match[1] if match is not None else ""


def _read_release(deployments: Iterable[Object], name: str) -> str:
    """Return a Deployment's version, from its version label or its image's tag; empty if neither has one."""
    for deployment in deployments:
        if deployment["metadata"]["name"] != name:
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
    data = observed.read_map(f"config-{part}") or {}
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


def make_observed_profile(observed: ObservedCluster) -> dict[str, Any]:
    """Return the profile of a cluster, as a document; unreadable settings have their defaults.

    Doctor reports no findings for the two together.
    """
    knative: dict[str, Any] = {"installed": observed.serves("knative")}
    if observed.knative:
        knative["version"] = minor_version(observed.knative)
    knative["hpa"] = HPA_EXTENSION in (observed.list_running(KNATIVE_NAMESPACE) or ())
    knative |= {part: changed for part in MAPS if (changed := changed_settings(observed, part))}
    kserve: dict[str, Any] = {"installed": observed.serves("kserve")}
    if observed.kserve:
        kserve["version"] = minor_version(observed.kserve)
    kserve["modes"] = [*(["Knative"] if knative["installed"] else []), "Standard"]
    if observed.llm != "none":
        kserve["llm"] = observed.llm
    kserve["annotationDisallowList"] = list(observed.disallowed)
    limits = _read_limits(observed)
    if limits:
        kserve["limits"] = limits
    if observed.read_map(KSERVE_MAP, KSERVE_NAMESPACE) is not None:
        kserve |= {"httpRouteTimeouts": observed.http_route_timeouts, "ociModels": observed.oci_models}
    if observed.runtimes:
        kserve["runtimes"] = sorted(observed.runtimes)
    if observed.model_node_groups:
        kserve["localModelNodeGroups"] = observed.model_node_groups
    domains = observed.read_map("config-domain") or {}
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
    return find_by_name(observed.list_objects(kube.DEVICE_CLASS) or (), device_class) is not None


def _read_limits(observed: ObservedCluster) -> dict[str, str]:
    defaults = observed.read_kserve("inferenceService").get("resource", {})
    limits = (
        {"cpu": defaults.get("cpuLimit"), "memory": defaults.get("memoryLimit")} if isinstance(defaults, dict) else {}
    )
    return {name: str(value) for name, value in limits.items() if value}


def _observe_metrics(observed: ObservedCluster) -> dict[str, Any]:
    adapter = "prometheus-adapter" if observed.metrics is not None else "none"
    if adapter == "none" and observed.serves("keda"):
        adapter = "keda"
    metrics: dict[str, Any] = {"adapter": adapter, "metricsServer": observed.serves("metrics-server")}
    address, histogram = observed.prometheus, observed.gateway_histogram
    exporters = {
        name: job
        for name, jobs in observed.exporter_jobs.items()
        if EXPORTERS[name].job not in jobs and (job := observed.propose_job(name))
    }
    return {
        **metrics,
        **({"prometheus": address} if address else {}),
        **({"gatewayLatency": histogram} if histogram else {}),
        **({"exporters": exporters} if exporters else {}),
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
    nodes = observed.list_objects(kube.NODE) or ()
    offered = of_claim.group_offered_devices(
        nodes, observed.list_objects(kube.RESOURCE_SLICE) or (), observed.list_objects(kube.DEVICE_CLASS) or ()
    )
    for obj in nodes:
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
        if label and len(nodes) > len(rows):
            # The label of a GPU that pods share ends with -SHARED (NVIDIA/k8s-device-plugin internal/lm/resource.go).
            pool["selector"] = {keys.GPU_PRODUCT: label}
        yield pool


def make_gpu_node(node: Object, observed: ObservedCluster, devices: Iterable[DraDevice] = ()) -> GpuNode:
    """Return the properties of a node that GPU backends use to detect their pools."""
    amounts = get_at(node, "status", "allocatable", default={})
    resources = {name: amount for name, text in amounts.items() if (amount := quantities.parse_whole_quantity(text))}
    served = frozenset(filter(observed.serves, ("kai",)))
    return GpuNode(resources, get_at(node, "metadata", "labels", default={}), served, tuple(devices))


def read_class_values(observed: ObservedCluster) -> dict[str, int]:
    """Return the values of the priority classes that workloads can use, by name."""
    return {
        priority_class["metadata"]["name"]: int(priority_class.get("value", 0))
        for priority_class in observed.list_objects(kube.PRIORITY_CLASS) or ()
        if not priority_class["metadata"]["name"].startswith("system-")
    }


def observe_kai(observed: ObservedCluster) -> dict[str, Any]:
    """Return the profile's ``scheduling.kai``. Settings that were not read have KAI's defaults."""
    deployments = observed.list_objects(kube.DEPLOYMENT, KAI_NAMESPACE) or ()
    releases = (_read_release(deployments, get_at(obj, "metadata", "name")) for obj in deployments)
    version = minor_version(next(filter(None, releases), ""))
    return {**({"version": version} if version else {}), **read_kai_settings(deployments, version)}


def _observe_scheduling(observed: ObservedCluster) -> dict[str, Any]:
    kai = observed.serves("kai")
    values = read_class_values(observed)
    levels = {f"{PREFIX}{name}{suffix}" for name in LEVELS for suffix in ("", "-preemptible")}
    classes = {name: value for name, value in values.items() if name not in levels}
    scheduling: dict[str, Any] = {"scheduler": "kai-scheduler" if kai else "default-scheduler"}
    if kai:
        scheduling["kai"] = observe_kai(observed)
    if all(name in classes for name in FOUR):
        labels = [
            get_at(priority_class, "metadata", "labels", keys.APP_MANAGED_BY)
            for priority_class in observed.list_objects(kube.PRIORITY_CLASS) or ()
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
    for queue in observed.list_objects(kube.QUEUE) or ():
        project = get_at(queue, "metadata", "labels", keys.PROJECT)
        resources = get_at(queue, "spec", "resources", default={})
        amounts = {name: get_at(resources, name, "quota", default=0) for name in RESOURCES}
        if not project:
            continue
        gpu_queue = resources.get("gpu", {})
        quota = (
            ("gpus", "gpu", amounts["gpu"]),
            ("cpu", "cpu", amounts["cpu"] / 1000),
            ("memory", "memory", f"{amounts['memory']}M"),
        )
        yield (
            project,
            {
                **{field: value for field, name, value in quota if amounts[name] != UNLIMITED},
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
    namespaces = observed.list_objects(kube.NAMESPACE) or ()
    pattern = find_namespace_pattern(namespaces)
    levels = Counter(
        get_at(obj, "metadata", "labels", POD_SECURITY, default="baseline")
        for obj in namespaces
        if get_at(obj, "metadata", "labels", keys.PROJECT)
    )
    settings: dict[str, Any] = {"quota": "kai" if observed.serves("kai") else "resourcequota"}
    if pattern:
        settings["namespace"] = pattern
        settings["podSecurity"] = levels.most_common(1)[0][0]
    parents = Counter(
        parent
        for obj in observed.list_objects(kube.QUEUE) or ()
        if get_at(obj, "metadata", "labels", keys.PROJECT) and (parent := get_at(obj, "spec", "parentQueue"))
    )
    if parents:
        settings["parentQueue"] = parents.most_common(1)[0][0]
    known = dict(_observe_queue_quotas(observed))
    of_kueue = [
        queue
        for queue in observed.list_objects(kube.CLUSTER_QUEUE) or ()
        if get_at(queue, "metadata", "labels", keys.PROJECT, default="")
    ]
    if of_kueue:
        settings["quota"] = "kueue"
        settings["parentQueue"] = get_at(of_kueue[0], "spec", "cohortName", default="default-parent-queue")
        known |= observe_kueue_quotas(of_kueue, _observe_pools(observed))
    if known:
        settings["known"] = known
    return settings
