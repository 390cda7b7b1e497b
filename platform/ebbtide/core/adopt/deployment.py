"""The import of a Deployment that runs a known model server, as the Knative Service with the same pods.

Upstream: knative.dev/serving pkg/apis/serving/fieldmask.go and k8s_validation.go (the fields, volumes and ports of a pod that Knative
accepts); Kubernetes apps/v1, core/v1 and autoscaling/v2 (defaults); kedacore/keda apis/keda/v1alpha1/scaledobject_types.go (0 to 100
replicas by default) and pkg/scalers/prometheus_scaler.go.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Final, NamedTuple

from ebbtide.core.adopt.defaults import ANY, DefaultValue, drop_defaults
from ebbtide.core.adopt.knative import CONTAINER, POD, TEMPLATE
from ebbtide.core.adopt.view import filter_mappings, filter_strings, iterate_matches
from ebbtide.core.base import keys, metrics, quantities
from ebbtide.core.base.engine_metrics import ENGINE_METRICS
from ebbtide.core.base.paths import get_at
from ebbtide.core.spec.rules.containers import CONTAINER_FIELDS
from ebbtide.core.translation.engines import ENGINES, Engine, find_engine, read_port
from ebbtide.core.translation.objects import Object, prune_nulls
from ebbtide.core.translation.serving.reserved import REFUSED

#: The programs that start the servers, for images with another name (the sources of ``engines``).
PROGRAMS: Final = {
    "vLLM": re.compile(r"\bvllm serve\b|\bvllm\.entrypoints\."),
    "SGLang": re.compile(r"\bsglang serve\b|\bsglang\.launch_server\b"),
    "Triton": re.compile(r"\btritonserver\b"),
    "TGI": re.compile(r"\btext-generation-launcher\b"),
    "TEI": re.compile(r"\btext-embeddings-router\b"),
}
#: Fields of a pod that Knative rejects, or rejects by default, and without which the pod would be another one.
REFUSED_OF_POD: Final = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "resourceClaims", "nodeName")
#: The sources of volumes that Knative accepts, some by a feature flag that a spec can need.
VOLUMES: Final = frozenset({"secret", "configMap", "projected", "emptyDir", "persistentVolumeClaim", "csi", "image"})
# fmt: off
#: The same of the fields of a pod, and of a container.
OF_POD: Final = frozenset({
    "containers", "initContainers", "volumes", "serviceAccountName", "imagePullSecrets", "enableServiceLinks",
    "automountServiceAccountToken", "affinity", "topologySpreadConstraints", "nodeSelector", "runtimeClassName", "tolerations", "securityContext", "priorityClassName", "schedulerName",
})
# fmt: on
OF_CONTAINER: Final = CONTAINER_FIELDS - {"lifecycle", "restartPolicy"}
PROBES: Final = ("readinessProbe", "livenessProbe", "startupProbe")
_CORE: Final = "Kubernetes core/v1"
_APPS: Final = "Kubernetes apps/v1 DeploymentSpec"
_ROLLING: Final = {"maxSurge": "25%", "maxUnavailable": "25%"}
#: Values that the API server adds to a Deployment, and that an author may write without another effect.
DEFAULTS: Final = (
    DefaultValue(
        ("metadata", "annotations", "deployment.kubernetes.io/revision"), ANY, "kubernetes pkg/controller/deployment"
    ),
    DefaultValue(("spec", "revisionHistoryLimit"), 10, _APPS),
    DefaultValue(("spec", "progressDeadlineSeconds"), 600, _APPS),
    DefaultValue(("spec", "strategy"), {"type": "RollingUpdate", "rollingUpdate": _ROLLING}, _APPS),
    DefaultValue(("spec", "strategy"), {"type": "RollingUpdate"}, _APPS),
    DefaultValue((*POD, "restartPolicy"), "Always", _CORE),
    DefaultValue((*POD, "dnsPolicy"), "ClusterFirst", _CORE),
    DefaultValue((*POD, "schedulerName"), "default-scheduler", _CORE),
    DefaultValue((*POD, "securityContext"), {}, _CORE),
    DefaultValue((*POD, "terminationGracePeriodSeconds"), 30, _CORE),
    *(
        DefaultValue((*part, name), value, _CORE)
        for part in (CONTAINER, (*POD, "initContainers", "*"))
        for name, value in (
            ("terminationMessagePath", "/dev/termination-log"),
            ("terminationMessagePolicy", "File"),
            ("resources", {}),
        )
    ),
    DefaultValue((*CONTAINER, "env", "*", "valueFrom", "fieldRef", "apiVersion"), "v1", _CORE),
    DefaultValue((*POD, "volumes", "*", "hostPath", "type"), "", _CORE),
)
#: A query of one series, alone or summed over all pods.
_ONE_SERIES: Final = re.compile(r"(?:sum\s*\(\s*)?([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{[^{}]*\})?\s*\)?")
#: Maximum replicas of a ScaledObject without the field.
KEDA_MAXIMUM: Final = 100
_ROUTE: Final = (("spec", "rules", "*", "backendRefs", "*"),)
#: The references to the Services to which an object sends requests (kubernetes networking/v1; kubernetes-sigs/gateway-api apis/v1;
#: istio.io/api networking/v1 VirtualService, whose ``host`` is a name, NAME.NAMESPACE, or a DNS name that begins with it).
ROUTES: Final = {
    "Ingress": (
        ("spec", "defaultBackend", "service"),
        ("spec", "rules", "*", "http", "paths", "*", "backend", "service"),
    ),
    **dict.fromkeys(("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"), _ROUTE),
    "VirtualService": tuple(("spec", part, "*", "route", "*", "destination") for part in ("http", "tls", "tcp")),
}
_SCALERS: Final = {"HorizontalPodAutoscaler": "autoscaling/", "ScaledObject": "keda.sh/"}


class Adoption(NamedTuple):
    """A Deployment as a Knative Service, and what has no place in it: of the Deployment, and of each related object."""

    service: Object
    lost: list[str]
    lost_of_related: list[list[str]]


class _Scaling(NamedTuple):
    """The bounds that an autoscaler sets, and the metric of Knative's HPA class with its target, empty without one."""

    minimum: int
    maximum: int
    metric: str = ""
    target: str = ""


def find_servers(obj: Object) -> list[tuple[int, Engine]]:
    """Return the containers of a Deployment or StatefulSet that run a known model server, each by its index."""
    found = []
    containers = get_at(obj, *POD, "containers")
    for index, container in enumerate(containers if isinstance(containers, list) else ()):
        image = get_at(container, "image")
        engine = find_engine(image) if isinstance(image, str) else None
        if engine is None:
            text = " ".join(_list_words(container))
            engine = next((row for row in ENGINES if row.name in PROGRAMS and PROGRAMS[row.name].search(text)), None)
        if engine is not None:
            found.append((index, engine))
    return found


def _list_words(container: Any) -> list[str]:
    """Return the words of a container's command line, also of one that a shell runs."""
    lines = [get_at(container, name) for name in ("command", "args")]
    return [part for line in lines if isinstance(line, list) for word in line for part in str(word).split()]


def is_related(obj: Object, deployment: Object) -> bool:
    """Return whether an object is a Service, an autoscaler or a ScaledObject of a Deployment."""
    if get_at(obj, "metadata", "namespace") != get_at(deployment, "metadata", "namespace"):
        return False
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if (kind, version) == ("Service", "v1"):
        selector = filter_strings(get_at(obj, "spec", "selector"))
        return (
            bool(selector)
            and selector.items() <= filter_strings(get_at(deployment, *TEMPLATE, "metadata", "labels")).items()
        )
    if not (isinstance(version, str) and isinstance(kind, str) and version.startswith(_SCALERS.get(kind, "\n"))):
        return False
    target = get_at(obj, "spec", "scaleTargetRef")
    written = get_at(target, "kind", default="Deployment"), get_at(target, "name")
    return written == ("Deployment", get_at(deployment, "metadata", "name"))


def list_routed(obj: Object, deployment: Object) -> list[str]:
    """Return the names of the Services in the Deployment's namespace to which an Ingress or a route sends requests."""
    own, wanted = (get_at(each, "metadata", "namespace") for each in (obj, deployment))
    found = []
    for ref in filter_mappings([ref for path in ROUTES.get(obj["kind"], ()) for ref in iterate_matches(obj, path)]):
        # A route may send requests to a Service of another namespace.
        name, _, domain = str(ref.get("name") or ref.get("host", "")).partition(".")
        if (ref.get("namespace") or domain.partition(".")[0] or own) == wanted:
            found.append(name)
    return found


def find_obstacle(obj: Object, related: list[Object]) -> str | None:
    """Return what prevents the import of a Deployment that runs a known model server, None if nothing does."""
    owners = filter_mappings(get_at(obj, "metadata", "ownerReferences"))
    pod, servers = get_at(obj, *POD), find_servers(obj)
    if not isinstance(get_at(obj, "metadata", "name"), str):
        return "it has no name"
    if owners:
        return f"{owners[0].get('kind')} {owners[0].get('name')} created it: convert that object"
    if obj["kind"] != "Deployment":
        return f"a {obj['kind']} gives each replica a separate name and volumes"
    if len(servers) != 1:
        return f"{len(servers)} containers serve models, and a spec has one"
    if sum(item["kind"] != "Service" for item in related) > 1:
        return "several autoscalers scale it"
    if get_at(obj, "spec", "replicas") == 0 and all(item["kind"] == "Service" for item in related):
        return "it has 0 replicas: set spec.replicas to the number that serve"
    for name in REFUSED_OF_POD:
        if pod.get(name):
            return f"it sets {name}, which Knative rejects by default"
    for volume in filter_mappings(pod.get("volumes")):
        if not VOLUMES.intersection(volume):
            source = next((name for name in volume if name != "name"), "nothing")
            return f"Knative rejects the source of its volume {volume.get('name')}: {source}"
    if get_at(pod, "containers", servers[0][0], "securityContext", "privileged"):
        return "its container is privileged, which Knative rejects"
    others = [item for index, item in enumerate(filter_mappings(pod.get("containers"))) if index != servers[0][0]]
    for field, items in (("sidecars", others), ("initContainers", filter_mappings(pod.get("initContainers")))):
        for item in items:
            for name in REFUSED[field]:
                if item.get(name):
                    return f"its container {item.get('name')} sets {name}, which Knative rejects there"
    return None


def rewrite(deployment: Object, related: list[Object]) -> Adoption:
    """Return a Deployment without an obstacle as a Knative Service, with the port and the scaling of its related objects."""
    obj: Object = deepcopy(prune_nulls(deployment))
    drop_defaults(obj, DEFAULTS, marked=True)
    spec, pod = obj["spec"], obj["spec"]["template"]["spec"]
    index, engine = find_servers(obj)[0]
    container = pod["containers"][index]
    lost = [
        f"spec.{name}" for name in spec if name not in {"selector", "template", "replicas", "progressDeadlineSeconds"}
    ]
    if pod.get("serviceAccount") == pod.get("serviceAccountName"):
        pod.pop("serviceAccount", None)
    for place, holder, kept in (("", pod, OF_POD), (f".containers[{index}]", container, OF_CONTAINER)):
        for name in [name for name in holder if name not in kept]:
            lost.append(f"spec.template.spec{place}.{name}")
            del holder[name]
    served, numbers = _choose_port(container, engine, [item for item in related if item["kind"] == "Service"])
    lost += _set_port(container, served, numbers, grpc=served == engine.grpc_port)
    replicas = quantities.parse_whole(spec.get("replicas", 1)) or 1
    scaling, lost_of_related = _Scaling(replicas, replicas), []
    for item in related:
        if item["kind"] == "Service":
            ports = filter_mappings(get_at(item, "spec", "ports"))
            others = [port for port in ports if _find_target(port, numbers) != served]
            lost_of_related.append([f"port {port.get('name') or port.get('port')}" for port in others])
        else:
            scaling, names = _read_scaler(item)
            lost_of_related.append(names)
    annotations = {keys.MIN_SCALE: str(scaling.minimum), keys.MAX_SCALE: str(scaling.maximum)}
    if scaling.metric:
        annotations |= {keys.CLASS: keys.CLASS_HPA, keys.METRIC: scaling.metric, keys.TARGET: scaling.target}
    if scaling.metric and metrics.find_resource_metric(scaling.metric) is None:
        # A spec with a metric of the server renders them, so that Prometheus scrapes it.
        port = next((row.port for row in ENGINE_METRICS if row.engine == engine.name), 0) or served
        annotations |= {keys.SCRAPE: "true", keys.SCRAPE_PORT: str(port)}
    if "progressDeadlineSeconds" in spec:
        annotations[keys.PROGRESS_DEADLINE] = f"{spec['progressDeadlineSeconds']}s"
    template = spec["template"]
    inner = template.get("metadata") if isinstance(template.get("metadata"), dict) else {}
    template["metadata"] = {**inner, "annotations": {**filter_strings(inner.get("annotations")), **annotations}}
    metadata = {
        name: obj["metadata"][name]
        for name in ("name", "namespace", "labels", "annotations")
        if name in obj["metadata"]
    }
    if not any(get_at(item, "spec", "type") in ("LoadBalancer", "NodePort") for item in related):
        # A service that only the cluster reaches stays so.
        metadata["labels"] = {**filter_strings(metadata.get("labels")), keys.KNATIVE_VISIBILITY: keys.CLUSTER_LOCAL}
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"template": template},
    }
    return Adoption(service, lost, lost_of_related)


def _choose_port(container: Object, engine: Engine, services: list[Object]) -> tuple[int, dict[str, Any]]:
    """Return the port on which the server listens, of those that the objects name if they do, and the ports by their names."""
    ports = filter_mappings(container.get("ports"))
    numbers = {port["name"]: port.get("containerPort") for port in ports if isinstance(port.get("name"), str)}
    of_services = [port for item in services for port in filter_mappings(get_at(item, "spec", "ports"))]
    named = [*(_find_target(port, numbers) for port in of_services), *(port.get("containerPort") for port in ports)]
    variables = {str(item.get("name")): item.get("value") for item in filter_mappings(container.get("env"))}
    by_variable = (quantities.parse_whole(variables.get(name)) for name in engine.variables)
    flag = read_port(_list_words(container), *(engine.flags or ("--port",)))
    listens = flag or next(filter(None, by_variable), engine.port)
    found = listens if listens in named else next((port for port in named if isinstance(port, int)), listens)
    return found, numbers


def _find_target(port: Object, numbers: dict[str, Any]) -> Any:
    """Return the number of the port to which a Service's port leads."""
    target = port.get("targetPort", port.get("port"))
    return numbers.get(target, target) if isinstance(target, str) else target


def _set_port(container: Object, served: int, numbers: dict[str, Any], *, grpc: bool) -> list[str]:
    """Give the container the one port that Knative serves, also in its probes, and return what has no place."""
    ports = filter_mappings(container.get("ports"))
    lost = [
        f"port {port.get('name') or port.get('containerPort')}" for port in ports if port.get("containerPort") != served
    ]
    container["ports"] = [{"name": "h2c", "containerPort": served} if grpc else {"containerPort": served}]
    for probe in PROBES:
        for handler in ("httpGet", "tcpSocket"):
            port = get_at(container, probe, handler, "port")
            if isinstance(port, str) and port in numbers:
                container[probe][handler]["port"] = numbers[port]
    # Knative sets PORT to the served port, and rejects the variable.
    own = [item for item in filter_mappings(container.get("env")) if item.get("name") == "PORT"]
    if own:
        container["env"] = [item for item in container["env"] if item not in own]
    if container.get("env") == []:
        del container["env"]
    return [*lost, *("the variable PORT" for item in own if item.get("value") != str(served))]


def _read_scaler(scaler: Object) -> tuple[_Scaling, list[str]]:
    """Return what an autoscaler sets, with the first metric that Knative's HPA class has, and the paths of the rest."""
    spec = scaler["spec"]
    keda = scaler["kind"] == "ScaledObject"
    low, high, entries, read = ("minReplicaCount", "maxReplicaCount", "triggers", _read_trigger) if keda else HPA
    minimum, maximum = (quantities.parse_whole(spec.get(name)) for name in (low, high))
    minimum, maximum = (minimum or 0, maximum or KEDA_MAXIMUM) if keda else (minimum or 1, maximum or 1)
    lost = [f"spec.{name}" for name in spec if name not in {"scaleTargetRef", low, high, entries, CPU}]
    found = [(f"spec.{entries}[{index}]", read(item)) for index, item in enumerate(filter_mappings(spec.get(entries)))]
    if CPU in spec:
        found.append((f"spec.{CPU}", ("cpu", str(spec[CPU]))))
    metric, target = next((entry for _, entry in found if entry is not None), ("", ""))
    lost += [path for path, entry in found if entry != (metric, target)]
    if metric and minimum == 0:
        # Only requests start a replica from zero.
        lost.append(f"spec.{low}: 0")
        minimum = 1
    return _Scaling(minimum, maximum, metric, target), lost


def _read_metric(item: Object) -> tuple[str, str] | None:
    """Return the name at Knative's HPA class and the target of one metric of a HorizontalPodAutoscaler, None without one."""
    kind, amount = item.get("type"), get_at(item, "pods", "target", "averageValue")
    if kind == "Resource" and get_at(item, "resource", "name") == "cpu":
        target = get_at(item, "resource", "target", "averageUtilization")
        return None if target is None else ("cpu", str(target))
    if kind == "Pods" and amount is not None:
        return _name_metric(get_at(item, "pods", "metric", "name"), amount, ("waiting", "kv_cache"))
    return None


def _read_trigger(item: Object) -> tuple[str, str] | None:
    """Return the same of one trigger of a ScaledObject."""
    settings, kind = get_at(item, "metadata"), item.get("metricType")
    if item.get("type") == "cpu" and kind in {None, "Utilization"}:
        return "cpu", str(get_at(settings, "value"))
    match = _ONE_SERIES.fullmatch(str(get_at(settings, "query", default="")).strip())
    if item.get("type") == "prometheus" and match is not None and kind in {None, "AverageValue"}:
        return _name_metric(match[1], get_at(settings, "threshold"), ("waiting",))
    return None


def _name_metric(series: Any, amount: Any, fields: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the metric of inference engines that a series measures, and its target in the metric's unit."""
    target = quantities.parse_nano(str(amount))
    if target is None:
        return None
    for row in metrics.ROWS.values():
        if row.engine_field in fields and row.knative is not None:
            names = [name for engine in ENGINE_METRICS for name in getattr(engine, row.engine_field)]
            if series in [*names, *(name.replace(":", "_") for name in names)]:
                factor = 100 if row.engine_field == "kv_cache" else 1
                return row.knative, quantities.format_number(target * factor / quantities.NANO)
    return None


#: The fields of a HorizontalPodAutoscaler as those of a ScaledObject: bounds, metrics, and the function that reads one.
HPA: Final = ("minReplicas", "maxReplicas", "metrics", _read_metric)
#: The metric of autoscaling/v1.
CPU: Final = "targetCPUUtilizationPercentage"
