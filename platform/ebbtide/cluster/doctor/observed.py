"""What a live cluster is, read once: versions, settings, autoscalers' sources, classes, nodes; and a profile made of it.

What the caller may not read is noted, and is no error. Upstream: knative.dev/serving config/core (deployments, the
defaults of ConfigMaps in pkg/apis/config and pkg/autoscaler/config), kserve config/configmap and config/manager,
NVIDIA/k8s-device-plugin docs and NVIDIA/gpu-feature-discovery (labels of GPU nodes).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, quantities
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import (
    CLUSTER_RUNTIME,
    CONFIG_MAP,
    DEPLOYMENT,
    HPA,
    NAMESPACE,
    NODE,
    PRIORITY_CLASS,
    QUEUE,
    QUOTA,
    SERVICE,
    ClusterError,
    ForbiddenError,
    MissingError,
)
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE
from ebbtide.profile.built_in import OTHER_FLAGS
from ebbtide.translation import gpu
from ebbtide.translation.gpu.backend import GpuNode
from ebbtide.translation.priority import FOUR, LEVELS, PREFIX
from ebbtide.translation.serving.knative import DEFAULTS, EVERY_FLAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ebbtide.cluster.client.protocol import Cluster, Kind
    from ebbtide.translation.objects import Object

KSERVE_NAMESPACE: Final = "kserve"
MONITORING_NAMESPACE: Final = "monitoring"
KSERVE_MAP: Final = "inferenceservice-config"
#: The ConfigMaps that a profile has a part of, and of each the keys that mean something to us, with upstream's defaults.
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
#: Knative's own Deployments without which nothing works.
CONTROLLERS: Final = ("activator", "autoscaler", "controller", "webhook")
KSERVE_CONTROLLER: Final = "kserve-controller-manager"
HPA_EXTENSION: Final = "autoscaler-hpa"
#: Groups of the API, by what serves them.
GROUPS: Final = {
    "knative": "/apis/serving.knative.dev/v1",
    "kserve": "/apis/serving.kserve.io/v1beta1",
    "metrics-server": "/apis/metrics.k8s.io/v1beta1",
    "keda": "/apis/keda.sh/v1alpha1",
    "kai": "/apis/scheduling.run.ai/v2",
    "dra": "/apis/resource.k8s.io/v1",
}
CUSTOM_METRICS: Final = "/apis/custom.metrics.k8s.io/v1beta1"
VERSION: Final = re.compile(r"v?(\d+\.\d+(?:\.\d+)?)(?:[-+].*)?")
VERSION_LABEL: Final = "app.kubernetes.io/version"
POD_SECURITY: Final = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True, slots=True)
class Observed:
    """A cluster as it was read. What was not read is None; versions that nobody tells are empty."""

    kubernetes: str
    knative: str
    kserve: str
    #: Which of ``GROUPS`` are served.
    served: frozenset[str]
    #: ``config-<name>`` of Knative by name, and KServe's ConfigMap.
    maps: Mapping[str, Mapping[str, str] | None]
    kserve_map: Mapping[str, str] | None
    #: Deployments of Knative by name, and whether they have a replica.
    deployments: Mapping[str, bool] | None
    #: Whether KServe's controller has a replica; None where it was not read.
    kserve_runs: bool | None
    #: What custom.metrics.k8s.io serves of pods; None where it is not served.
    metrics: frozenset[str] | None
    classes: tuple[Object, ...] | None
    nodes: tuple[Object, ...] | None
    namespaces: tuple[Object, ...] | None
    quotas: tuple[Object, ...] | None
    queues: tuple[Object, ...] | None
    hpas: tuple[Object, ...] | None
    services: tuple[Object, ...]
    runtimes: tuple[str, ...] | None
    #: What the caller may not read, in words.
    unread: tuple[str, ...] = ()

    @property
    def disallowed(self) -> tuple[str, ...]:
        """The annotations that KServe does not copy to pods, as its ConfigMap lists them."""
        found = self.inference_settings.get("serviceAnnotationDisallowedList", [])
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def inference_settings(self) -> dict[str, Any]:
        """KServe's ``inferenceService`` settings; empty where there are none, or none that can be read."""
        try:
            found = json.loads((self.kserve_map or {}).get("inferenceService", "{}"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def observe(cluster: Cluster) -> Observed:
    """Return what a cluster is.

    Raises:
        UnreachableError: nobody answers.

    """
    unread: list[str] = []

    def try_(what: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except MissingError:
            return None
        except ForbiddenError:
            unread.append(what)
            return None

    def listed(kind: Kind, namespace: str = "", labels: str = "") -> tuple[Object, ...] | None:
        where = f" in {namespace}" if namespace else ""
        found: tuple[Object, ...] | None = try_(
            f"{kind.plural}{where}", lambda: tuple(cluster.list(kind, namespace, labels=labels).items)
        )
        return found

    def map_(name: str, namespace: str) -> Mapping[str, str] | None:
        found = try_(f"the settings in {namespace}", lambda: cluster.get(CONFIG_MAP, name, namespace))
        return None if found is None else at(found, "data", default={})

    served = frozenset(name for name, path in GROUPS.items() if _serves(cluster, path))
    knative = listed(DEPLOYMENT, KNATIVE_NAMESPACE) if "knative" in served else ()
    kserve = listed(DEPLOYMENT, KSERVE_NAMESPACE) if "kserve" in served else ()
    kserve_map = map_(KSERVE_MAP, KSERVE_NAMESPACE) if "kserve" in served else None
    runtimes = listed(CLUSTER_RUNTIME) if "kserve" in served else ()
    return Observed(
        kubernetes=_version(str(cluster.read("/version").get("gitVersion", ""))),
        knative=_release(knative or (), "controller"),
        kserve=_release(kserve or (), KSERVE_CONTROLLER) or _of_images(kserve_map or {}),
        served=served,
        maps={name: map_(f"config-{name}", KNATIVE_NAMESPACE) for name in (*MAPS, "domain")}
        if "knative" in served
        else dict.fromkeys((*MAPS, "domain")),
        kserve_map=kserve_map,
        deployments=None if knative is None else {item["metadata"]["name"]: _runs(item) for item in knative},
        kserve_runs=None if kserve is None else any(_is(item, KSERVE_CONTROLLER) and _runs(item) for item in kserve),
        metrics=_custom_metrics(cluster),
        classes=listed(PRIORITY_CLASS),
        nodes=listed(NODE),
        namespaces=listed(NAMESPACE),
        quotas=listed(QUOTA),
        queues=listed(QUEUE) if "kai" in served else (),
        hpas=listed(HPA),
        # A cluster has several for each workload: only those that may be Prometheus.
        services=(
            *(listed(SERVICE, MONITORING_NAMESPACE) or ()),
            *(listed(SERVICE, labels=f"{keys.APP_NAME}=prometheus") or ()),
        ),
        runtimes=None if runtimes is None else tuple(item["metadata"]["name"] for item in runtimes),
        unread=tuple(dict.fromkeys(unread)),
    )


def _serves(cluster: Cluster, path: str) -> bool:
    try:
        cluster.read(path)
    except MissingError:
        return False
    except ForbiddenError:
        # Whoever may not ask is answered as if it were there: other reads tell.
        return True
    except ClusterError:
        # An aggregated API whose server is away.
        return False
    return True


def _custom_metrics(cluster: Cluster) -> frozenset[str] | None:
    """Return the names that HPAs can ask for of pods."""
    try:
        found = cluster.read(CUSTOM_METRICS)
    except ClusterError:
        return None
    names = [str(row.get("name", "")) for row in at(found, "resources", default=[])]
    return frozenset(name.removeprefix("pods/") for name in names if name.startswith("pods/"))


def _is(item: Object, name: str) -> bool:
    return bool(item["metadata"]["name"] == name)


def _runs(deployment: Object) -> bool:
    return int(at(deployment, "status", "availableReplicas", default=0)) > 0


def _version(text: str) -> str:
    found = VERSION.fullmatch(text.strip())
    return found[1] if found is not None else ""


def _release(deployments: Iterable[Object], name: str) -> str:
    """Return the version that a Deployment has as its label, or as its image's tag."""
    for item in deployments:
        if not _is(item, name):
            continue
        said = _version(at(item, "metadata", "labels", VERSION_LABEL, default=""))
        images = [str(row.get("image", "")) for row in at(item, "spec", "template", "spec", "containers", default=[])]
        return said or next(filter(None, (_version(image.rpartition(":")[2]) for image in images)), "")
    return ""


def _of_images(settings: Mapping[str, str]) -> str:
    """Return the version that most of KServe's own images have in its ConfigMap."""
    found = Counter(re.findall(r"kserve/[a-z-]+:v(\d+\.\d+\.\d+)", " ".join(settings.values())))
    return found.most_common(1)[0][0] if found else ""


def minor(text: str) -> str:
    """Return a version without its last number: 1.34.4 is 1.34."""
    return ".".join(text.split(".")[:2])


def effective(observed: Observed, part: str) -> dict[str, str]:
    """Return what a ConfigMap comes to: upstream's defaults, and over them what it says."""
    said = observed.maps.get(part) or {}
    return {key: said.get(key, usual) for key, usual in MAPS[part].items()}


def settings(observed: Observed, part: str) -> dict[str, str]:
    """Return what a ConfigMap says differently from upstream's defaults, of the keys that mean something to us."""
    return {key: value for key, value in effective(observed, part).items() if not same(value, MAPS[part][key])}


def same(one: str, other: str) -> bool:
    """Whether two values of a ConfigMap mean the same: 200 and 200.0, 60s and 1m."""
    return one.strip() == other.strip() or _setting_value(one) == _setting_value(other)


_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _setting_value(text: str) -> float | str:
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", text)
    try:
        if parts and "".join(number + unit for number, unit in parts) == text.strip():
            return sum(float(number) * _UNITS[unit] for number, unit in parts)
        return float(text)
    except ValueError:
        return text.strip()


# A profile of it.


def profile_of(observed: Observed) -> dict[str, Any]:
    """Return the profile of a cluster, as a document; what cannot be seen has its default."""
    knative: dict[str, Any] = {"installed": "knative" in observed.served}
    if observed.knative:
        knative["version"] = minor(observed.knative)
    knative["hpa"] = bool((observed.deployments or {}).get(HPA_EXTENSION))
    knative |= {part: found for part in MAPS if (found := settings(observed, part))}
    kserve: dict[str, Any] = {"installed": "kserve" in observed.served}
    if observed.kserve:
        kserve["version"] = minor(observed.kserve)
    kserve["modes"] = [*(["Knative"] if knative["installed"] else []), "Standard"]
    kserve["annotationDisallowList"] = list(observed.disallowed)
    limits = _limits(observed)
    if limits:
        kserve["limits"] = limits
    if observed.runtimes:
        kserve["runtimes"] = sorted(observed.runtimes)
    spec = {
        "kubernetes": {"version": minor(observed.kubernetes) or "1.34", "dra": _has_dra(observed)},
        "knative": knative,
        "kserve": kserve,
        "metrics": _metrics(observed),
        "nodePools": list(_pools(observed)),
        "scheduling": _scheduling(observed),
        "projects": _projects(observed),
        "domain": _domain(observed),
    }
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "observed"},
        "spec": spec,
    }


def _has_dra(observed: Observed) -> bool:
    # The API is there on every new cluster; a driver is what tells.
    return False if observed.nodes is None else any(_drivers(node) for node in observed.nodes)


def _drivers(node: Object) -> bool:
    labels = at(node, "metadata", "labels", default={})
    return any("dra-kubelet-plugin" in key for key in labels)


def _limits(observed: Observed) -> dict[str, str]:
    found = observed.inference_settings.get("resource", {})
    told = {"cpu": found.get("cpuLimit"), "memory": found.get("memoryLimit")} if isinstance(found, dict) else {}
    return {name: str(value) for name, value in told.items() if value}


def _metrics(observed: Observed) -> dict[str, Any]:
    adapter = "prometheus-adapter" if observed.metrics is not None else "none"
    if adapter == "none" and "keda" in observed.served:
        adapter = "keda"
    found: dict[str, Any] = {"adapter": adapter, "metricsServer": "metrics-server" in observed.served}
    address = prometheus_of(observed)
    return {**found, **({"prometheus": address} if address else {})}


def prometheus_of(observed: Observed) -> str:
    """Return the address of the service that seems to be Prometheus, or nothing."""
    for item in observed.services:
        metadata = item["metadata"]
        ports = [row.get("port") for row in at(item, "spec", "ports", default=[])]
        told = {metadata["name"], str(at(metadata, "labels", keys.APP_NAME, default=""))}
        headless = at(item, "spec", "clusterIP") == "None"
        ours = any(name in {"prometheus", "prometheus-server", "prometheus-k8s"} for name in told)
        if ours and not headless and ports:
            port = 9090 if 9090 in ports else ports[0]  # noqa: PLR2004 - Prometheus' own
            return f"http://{metadata['name']}.{metadata['namespace']}.svc:{port}"
    return ""


def _pools(observed: Observed) -> Iterator[dict[str, Any]]:
    """Yield the pools of GPU nodes: those that advertise the same in the same way."""
    groups: dict[tuple[str, str], list[tuple[GpuNode, dict[str, Any]]]] = {}
    for item in observed.nodes or ():
        node = gpu_node(item, observed)
        for pool in gpu.detect(node):
            groups.setdefault((pool["name"], node.product), []).append((node, pool))
    names: Counter[str] = Counter()
    for (name, product), rows in groups.items():
        node, detected = rows[0]
        names[name] += 1
        pool = {"name": name if names[name] == 1 else f"{name}-{names[name]}", "nodes": len(rows)}
        if product:
            pool["product"] = product
        memory = node.labels.get(keys.GPU_MEMORY, "")
        if memory.isdigit() and int(memory):
            pool["gpuMemoryMebibytes"] = int(memory)
        pool |= {field: value for field, value in detected.items() if field != "name"}
        if product and len(observed.nodes or ()) > len(rows):
            pool["selector"] = {keys.GPU_PRODUCT: product}
        yield pool


def gpu_node(node: Object, observed: Observed) -> GpuNode:
    """Return the facts about a node by which GPU backends recognize it."""
    amounts = at(node, "status", "allocatable", default={})
    resources = {name: amount for name, text in amounts.items() if (amount := quantities.whole(text))}
    return GpuNode(resources, at(node, "metadata", "labels", default={}), observed.served)


def class_values(observed: Observed) -> dict[str, int]:
    """Return the priority classes that workloads may name, with their values."""
    return {
        item["metadata"]["name"]: int(item.get("value", 0))
        for item in observed.classes or ()
        if not item["metadata"]["name"].startswith("system-")
    }


def _scheduling(observed: Observed) -> dict[str, Any]:
    kai = "kai" in observed.served
    found = class_values(observed)
    levels = {f"{PREFIX}{name}{side}" for name in LEVELS for side in ("", "-preemptible")}
    own = {name: value for name, value in found.items() if name not in levels}
    scheduling: dict[str, Any] = {"scheduler": "kai-scheduler" if kai else "default-scheduler"}
    if all(name in own for name in FOUR):
        labels = [
            at(item, "metadata", "labels", keys.APP_MANAGED_BY)
            for item in observed.classes or ()
            if item["metadata"]["name"] in FOUR
        ]
        owner = "kai" if kai else "cluster"
        scheduling |= {"classes": own, "classesOwner": "ebbtide" if set(labels) == {"ebbtide"} else owner}
    else:
        # Ebbtide makes its own four with the first workload.
        usual = {"train": 50, "build-preemptible": 75, "build": 100, "inference": 125}
        scheduling |= {"classes": {**usual, **own}, "classesOwner": "ebbtide"}
    return scheduling


def _projects(observed: Observed) -> dict[str, Any]:
    patterns: Counter[str] = Counter()
    levels: Counter[str] = Counter()
    for item in observed.namespaces or ():
        labels = at(item, "metadata", "labels", default={})
        project, name = labels.get(keys.PROJECT), item["metadata"]["name"]
        if project and project in name:
            patterns[name.replace(project, "{project}", 1)] += 1
            levels[labels.get(POD_SECURITY, "baseline")] += 1
    found: dict[str, Any] = {"quota": "kai" if "kai" in observed.served else "resourcequota"}
    if patterns:
        found["namespace"] = patterns.most_common(1)[0][0]
        found["podSecurity"] = levels.most_common(1)[0][0]
    above = Counter(
        parent
        for item in observed.queues or ()
        if at(item, "metadata", "labels", keys.PROJECT) and (parent := at(item, "spec", "parentQueue"))
    )
    if above:
        found["parentQueue"] = above.most_common(1)[0][0]
    return found


def _domain(observed: Observed) -> str:
    said = observed.maps.get("domain") or {}
    return next((name for name in said if not name.startswith("_")), "example.com")
