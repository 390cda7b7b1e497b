"""Objects that a profile expects in a cluster: ConfigMaps, controllers, priority classes, node resources, the gateway.

The simulated cluster runs services without them. ``doctor`` checks for them, and should report the same as on a real
cluster of that profile.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.doctor import kai as kai_values
from ebbtide.cluster.doctor import observed
from ebbtide.cluster.doctor.kueue import KUEUE_KEY, KUEUE_MAP, KUEUE_NAMESPACE
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.ingress import INGRESS_GATEWAYS
from ebbtide.core.profile import metric_names
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.plan import Priority
from ebbtide.core.translation.priority import KAI, make_priority_class
from ebbtide.core.translation.quotas import QUOTA_BACKENDS, kai
from ebbtide.sandbox.store import make_bare, make_discovery

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool, Profile, ProfileSpec
    from ebbtide.core.translation.objects import Object
    from ebbtide.sandbox.simulated import Simulated

KOURIER: Final = "kourier.ingress.networking.knative.dev"


def furnish_cluster(cluster: Simulated, profile: Profile) -> None:
    """Add the objects of a profile to a simulated cluster; existing objects of the same name are replaced.

    A cluster with a built-in node gets the profile's GPUs on it; a cluster without one keeps its nodes.
    """
    spec = profile.spec
    _set_api_paths(cluster, spec)
    gateway = INGRESS_GATEWAYS[KOURIER]
    host = (urlsplit(spec.metrics.prometheus).hostname or "").split(".")
    prometheus = (host[1], host[0]) if len(host) > 2 else None  # noqa: PLR2004 - name, namespace, svc
    # In a fixed order, so that each run gives the objects the same uids and versions.
    for namespace in dict.fromkeys(
        (KNATIVE_NAMESPACE, observed.KSERVE_NAMESPACE, gateway.namespace, *(prometheus or ())[:1])
    ):
        cluster.put(make_bare(kube.NAMESPACE, namespace))
    for obj in (
        *_make_knative_objects(spec),
        *_make_kserve_objects(spec),
        *_make_kai_objects(spec),
        *_make_kueue_objects(spec),
        *_make_device_classes(spec),
    ):
        cluster.put(obj)
    for namespace, name in ((gateway.namespace, gateway.service), *([prometheus] if prometheus else ())):
        cluster.put({**make_bare(kube.SERVICE, name, namespace), "spec": {"ports": [{"port": 9090}]}})
    for name, value in spec.scheduling.classes.items():
        obj = make_priority_class(Priority(name, value, True, preemptible=value < 100))  # noqa: PLR2004 - Run:ai's line
        obj["metadata"]["labels"] = (
            {keys.APP_MANAGED_BY: "ebbtide"} if spec.scheduling.classes_owner == "ebbtide" else {}
        )
        cluster.put(obj)
    if spec.projects.quota == "kai":
        cluster.put(kai.make_parent_queue(spec.projects.parent_queue))
    if cluster.gpus:
        _add_pool_resources(cluster, spec.node_pools)


def _set_api_paths(cluster: Simulated, spec: ProfileSpec) -> None:
    """Set the API paths that a cluster of this profile serves."""
    is_served = {
        "knative": spec.knative.installed,
        "kserve": spec.kserve.installed,
        "llm": spec.kserve.installed and spec.kserve.llm != "none",
        "inference-pool": spec.kserve.installed and spec.kserve.llm == "scheduler",
        "metrics-server": spec.metrics.metrics_server,
        "keda": spec.metrics.adapter == "keda",
        "kai": spec.scheduling.scheduler == "kai-scheduler" or spec.projects.quota == "kai",
        "kueue": QUOTA_BACKENDS[spec.projects.quota].group == "kueue",
        "dra": True,
    }
    for name, path in observed.GROUPS.items():
        cluster.paths.pop(path, None)
        if is_served[name]:
            cluster.paths[path] = make_discovery(path)
    cluster.paths.pop(observed.CUSTOM_METRICS, None)
    if spec.metrics.adapter == "prometheus-adapter":
        rows = [row for row in metrics.ROWS.values() if row.source in {"gpu-exporter", "histogram", "adapter"}]
        names = [name for row in rows for name in metric_names.list_served_names(row, spec.metrics.names)[:1]]
        names += spec.metrics.custom
        cluster.paths[observed.CUSTOM_METRICS] = {"resources": [{"name": f"pods/{name}"} for name in names]}
    cluster.paths["/version"] = {"gitVersion": f"v{spec.kubernetes.version}.0"}


def _make_device_classes(spec: ProfileSpec) -> list[Object]:
    """Return the classes of the pools whose devices are claimed, each with its extended resource."""
    pools = [pool for pool in spec.node_pools if BACKENDS[pool.backend].claims is not None]
    return [
        {**make_bare(kube.DEVICE_CLASS, pool.device_class), "spec": {"extendedResourceName": pool.resource or keys.GPU}}
        for pool in pools
    ]


def _make_knative_objects(spec: ProfileSpec) -> list[Object]:
    if not spec.knative.installed:
        return []
    objects = []
    for name in observed.MAPS:
        data = dict(getattr(spec.knative, name))
        if name == "network":
            data.setdefault("ingress-class", KOURIER)
        objects.append({**make_bare(kube.CONFIG_MAP, f"config-{name}", KNATIVE_NAMESPACE), "data": data})
    objects.append({**make_bare(kube.CONFIG_MAP, "config-domain", KNATIVE_NAMESPACE), "data": {spec.domain: ""}})
    names = [*observed.CONTROLLERS, *([observed.HPA_EXTENSION] if spec.knative.hpa else [])]
    return [*objects, *(_make_controller(name, KNATIVE_NAMESPACE, spec.knative.version) for name in names)]


def _make_kserve_objects(spec: ProfileSpec) -> list[Object]:
    if not spec.kserve.installed:
        return []
    settings: dict[str, Any] = {"serviceAnnotationDisallowedList": list(spec.kserve.annotation_disallow_list)}
    if spec.kserve.limits:
        settings["resource"] = {f"{name}Limit": value for name, value in spec.kserve.limits.items()}
    groups = spec.kserve.local_model_node_groups
    parts = {
        "inferenceService": settings,
        "ingress": {"enableGatewayApi": spec.kserve.http_route_timeouts},
        "localModel": {"enabled": bool(groups)},
    }
    data = {key: json.dumps(part) for key, part in parts.items()}
    return [
        {**make_bare(kube.CONFIG_MAP, observed.KSERVE_MAP, observed.KSERVE_NAMESPACE), "data": data},
        _make_controller(observed.KSERVE_CONTROLLER, observed.KSERVE_NAMESPACE, spec.kserve.version),
        *(make_bare(kube.CLUSTER_RUNTIME, name) for name in spec.kserve.runtimes),
        *(make_bare(kube.MODEL_NODE_GROUP, name) for name in groups),
    ]


def _make_kai_objects(spec: ProfileSpec) -> list[Object]:
    """Return KAI's Deployments, whose arguments are the settings of the profile, and the RuntimeClass of its pods."""
    kai = spec.scheduling.kai
    if spec.scheduling.scheduler != KAI:
        return []
    plugins = json.dumps({kai_values.HAMI_CORE_PLUGIN: {"enabled": kai.sharing_mode == "HamiCore"}})
    arguments = {
        "podgrouper": [f"{kai_values.GANG_FLAG}={str(kai.gang_schedule_knative).lower()}"],
        "admission": [f"{kai_values.SHARING_FLAG}=true"] if kai.sharing_mode != "Disabled" else [],
        "binder": [kai_values.PLUGINS_FLAG, plugins],
    }
    deployments = []
    for name, args in arguments.items():
        deployment = _make_controller(name, kai_values.KAI_NAMESPACE, kai.version)
        deployment["spec"]["template"]["spec"]["containers"][0]["args"] = args
        deployments.append(deployment)
    return [
        *deployments,
        {**make_bare(kube.RUNTIME_CLASS, kai_values.CLASS_DEFAULT), "handler": kai_values.CLASS_DEFAULT},
    ]


def _make_kueue_objects(spec: ProfileSpec) -> list[Object]:
    """Return Kueue's configuration, as upstream ships it, if the profile uses it."""
    if QUOTA_BACKENDS[spec.projects.quota].group != "kueue":
        return []
    data = {KUEUE_KEY: "integrations:\n  frameworks: [batch/job, pod, deployment, statefulset]\n"}
    return [
        make_bare(kube.NAMESPACE, KUEUE_NAMESPACE),
        {**make_bare(kube.CONFIG_MAP, KUEUE_MAP, KUEUE_NAMESPACE), "data": data},
    ]


def _make_controller(name: str, namespace: str, version: str) -> Object:
    deployment = make_bare(kube.DEPLOYMENT, name, namespace)
    deployment["metadata"]["labels"] = {observed.VERSION_LABEL: f"{version}.0"}
    deployment["spec"] = {
        "replicas": 1,
        "template": {"spec": {"containers": [{"name": name, "image": f"simulated/{name}"}]}},
    }
    deployment["status"] = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    return deployment


def _add_pool_resources(cluster: Simulated, pools: list[NodePool]) -> None:
    """Add the pools' advertised resources and labels to the node."""
    node = cluster.get(kube.NODE, "node-1")
    labels = node["metadata"].setdefault("labels", {})
    for pool in pools:
        labels.update(pool.selector)
        if pool.product:
            labels.setdefault(keys.GPU_PRODUCT, pool.product)
        if pool.gpu_memory_mebibytes:
            labels.setdefault(keys.GPU_MEMORY, str(pool.gpu_memory_mebibytes))
        backend = BACKENDS[pool.backend]
        labels.update(backend.labels)
        if "replicas" in backend.needs:
            labels[keys.GPU_REPLICAS] = str(pool.replicas)
        counts = backend.advertises(pool)
        if backend.quota is not None and backend.claims is None:
            # A dedicated scheduler of the backend would count these.
            counts = {**backend.quota(pool), **counts}
        cluster.gpus |= {name: (pool.devices or 1) * count for name, count in counts.items()}
    allocatable = node["status"]["allocatable"]
    node["status"]["allocatable"] = {**allocatable, **{name: str(count) for name, count in cluster.gpus.items()}}
    cluster.put(node)
