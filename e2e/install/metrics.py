"""Prometheus by its operator, so that our monitors are read as they stand; prometheus-adapter with our rules; metrics-server."""

from pathlib import Path
from typing import Any, Final

from e2e.build import module_folder
from e2e.install.certificates import certify
from e2e.install.manifests import CRITICAL, GARBAGE_PERCENT, Object, read
from e2e.paths import ROOT

NAMESPACE: Final = "monitoring"
RULES: Final = "ebbtide-adapter-rules"
COMPONENTS: Final = (ROOT / "kustomize/metrics/knative-1.21",)
OPERATOR_MODULE: Final = "github.com/prometheus-operator/prometheus-operator"
PROMETHEUS_IMAGE: Final = "quay.io/prometheus/prometheus:v3.16.0"
RELOADER: Final = "quay.io/prometheus-operator/prometheus-config-reloader:v0.85.0"
PORT: Final = 9090
PLURALS: Final = {"podmonitors", "servicemonitors", "probes", "prometheuses", "prometheusrules", "scrapeconfigs"}


def definitions() -> list[Object]:
    """Return the CRDs of the Prometheus operator that a Prometheus needs; Alertmanager's and Thanos' stay out."""
    found = read(_operator() / "example/prometheus-operator-crd")
    return [item for item in found if item["spec"]["names"]["plural"] in PLURALS]


def objects(prometheus_image: str, reloader_image: str, node_port: int, certificates: Path) -> list[Object]:
    """Return the operator, one Prometheus, the adapter and metrics-server; our monitors and rules are a component."""
    served = [*_adapter(), *_metrics_server()]
    deployments = {item["metadata"]["name"]: item for item in served if item["kind"] == "Deployment"}
    apis = [item for item in served if item["kind"] == "APIService"]
    secrets = [certify(certificates, api, deployments[api["spec"]["service"]["name"]]) for api in apis]
    return [*_operators(reloader_image), *_prometheus(prometheus_image, node_port), *secrets, *served]


def _operators(reloader_image: str) -> list[Object]:
    found = read(_operator() / "example/rbac/prometheus-operator")
    wanted = [item for item in found if item["kind"] != "ServiceMonitor"]
    for item in wanted:
        if "namespace" in item["metadata"]:
            item["metadata"]["namespace"] = NAMESPACE
        for subject in item.get("subjects", ()):
            subject["namespace"] = NAMESPACE
        if item["kind"] == "Deployment":
            container = _container(item)
            container["args"] = [f"--prometheus-config-reloader={reloader_image}", "--log-level=warn"]
    return wanted


def _prometheus(image: str, node_port: int) -> list[Object]:
    account = {"name": "prometheus", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "prometheus"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["nodes", "services", "endpoints", "pods"],
                    "verbs": ["get", "list", "watch"],
                },
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "prometheus"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "prometheus"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "e2e", "namespace": NAMESPACE},
            "spec": {
                "image": image,
                "version": "v3.5.0",
                "replicas": 1,
                "priorityClassName": CRITICAL,
                "serviceAccountName": "prometheus",
                # All monitors of all namespaces: ours name no Prometheus.
                **{
                    f"{kind}{part}": {}
                    for kind in ("podMonitor", "serviceMonitor", "rule")
                    for part in ("Selector", "NamespaceSelector")
                },
                "retention": "6h",
                "scrapeInterval": "5s",
                "runtime": {"goGC": int(GARBAGE_PERCENT)},
                "resources": {"requests": {"cpu": "5m", "memory": "64Mi"}},
                "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "prometheus", "namespace": NAMESPACE},
            "spec": {
                "type": "NodePort",
                "selector": {"prometheus": "e2e"},
                "ports": [{"name": "web", "port": PORT, "targetPort": "web", "nodePort": node_port}],
            },
        },
    ]


def _adapter() -> list[Object]:
    place = module_folder("prometheus-adapter", "sigs.k8s.io/prometheus-adapter") / "deploy/manifests"
    # Its own APIService is for resource metrics, which metrics-server serves here; its rules give way to ours.
    wanted = [
        item
        for item in read(place)
        if item["kind"] not in {"APIService", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"}
        and item["metadata"]["name"] != "system:aggregated-metrics-reader"
    ]
    for item in wanted:
        if item["kind"] == "Deployment":
            item["spec"]["replicas"] = 1
            container = _container(item)
            container["args"] = [
                "--config=/etc/adapter/config.yaml",
                "--metrics-relist-interval=10s",
                # It would be as long as the interval, which is shorter than the monitors' 15 s: metrics would come and go.
                "--metrics-max-age=1m",
                f"--prometheus-url=http://prometheus.{NAMESPACE}.svc:{PORT}/",
                "--secure-port=6443",
            ]
            _hurry(container)
            item["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": 65532, "fsGroup": 65532}
            for volume in item["spec"]["template"]["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = RULES
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.custom.metrics.k8s.io"},
        "spec": {
            "group": "custom.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "prometheus-adapter", "namespace": NAMESPACE},
        },
    }
    return [*wanted, service]


def _metrics_server() -> list[Object]:
    place = module_folder("metrics-server", "sigs.k8s.io/metrics-server") / "manifests/base"
    wanted = [item for item in read(place) if item["kind"] != "Kustomization"]
    labels = {"k8s-app": "metrics-server"}
    for item in wanted:
        item["metadata"].setdefault("labels", {}).update(labels)
        if item["kind"] == "Deployment":
            item["spec"]["selector"] = {"matchLabels": labels}
            item["spec"]["template"].setdefault("metadata", {})["labels"] = labels
            container = _container(item)
            # The kubelet's certificate is the cluster's own business; a resolution above the request's time-out.
            container["args"] += ["--kubelet-insecure-tls", "--kubelet-request-timeout=5s"]
            container["args"] = [arg.replace("resolution=15s", "resolution=10s") for arg in container["args"]]
            _hurry(container)
        if item["kind"] == "Service":
            item["spec"]["selector"] = labels
    return wanted


def _hurry(container: dict[str, Any]) -> None:
    """Start probing early, since tests wait for it."""
    container["readinessProbe"].update({"initialDelaySeconds": 1, "periodSeconds": 2})


def _container(deployment: Object) -> dict[str, Any]:
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def _operator() -> Path:
    return module_folder("prometheus-operator", OPERATOR_MODULE)
