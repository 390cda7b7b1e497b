"""The images that the installation names: what upstream calls each, and the program that is in it."""

from typing import Final

from e2e.components import KAI_PROGRAMS

KO: Final = "ko://knative.dev/serving/cmd/"

KAI: Final = "ghcr.io/nvidia/kai-scheduler"
ENVOY_GATEWAY: Final = "docker.io/envoyproxy/gateway"
KUEUE: Final = "us-central1-docker.pkg.dev/k8s-staging-images/kueue/kueue"

DRA: Final = "ko://k8s.io/kubernetes/test/e2e/dra/test-driver"
"""Kubernetes releases no image of it, so its name is the program's path."""

PROGRAMS: Final[dict[str, tuple[str, str]]] = {
    **{
        f"{KO}{name}": ("knative", name)
        for name in ("controller", "autoscaler", "autoscaler-hpa", "activator", "webhook", "queue")
    },
    "ko://knative.dev/net-kourier/cmd/kourier": ("knative", "kourier"),
    "ghcr.io/projectcontour/contour": ("contour", "contour"),
    "kserve/kserve-controller": ("kserve", "kserve"),
    "kserve/llmisvc-controller": ("kserve", "kserve-llm"),
    "kserve/kserve-localmodel-controller": ("kserve-localmodel", "kserve-localmodel"),
    "kserve/kserve-localmodelnode-agent": ("kserve-localmodel", "kserve-localmodelnode"),
    "quay.io/prometheus/prometheus": ("prometheus", "prometheus"),
    "quay.io/prometheus-operator/prometheus-operator": ("prometheus-operator", "prometheus-operator"),
    "quay.io/prometheus-operator/prometheus-config-reloader": ("prometheus-operator", "prometheus-config-reloader"),
    "quay.io/prometheuscommunity/prom-label-proxy": ("prom-label-proxy", "prom-label-proxy"),
    "registry.k8s.io/prometheus-adapter/prometheus-adapter": ("prometheus-adapter", "prometheus-adapter"),
    "gcr.io/k8s-staging-metrics-server/metrics-server": ("metrics-server", "metrics-server"),
    "ghcr.io/kedacore/keda": ("keda", "keda"),
    "ghcr.io/kedacore/keda-metrics-apiserver": ("keda", "keda-adapter"),
    "ghcr.io/kedacore/keda-admission-webhooks": ("keda", "keda-admission-webhooks"),
    KUEUE: ("kueue", "kueue"),
    ENVOY_GATEWAY: ("envoy-gateway", "envoy-gateway"),
    **{f"{KAI}/{name}": ("kai", name) for name in KAI_PROGRAMS},
    DRA: ("dra", "dra-test-driver"),
}
"""Upstream's name without its tag → component and program."""

ENVOY: Final = "docker.io/envoyproxy/envoy"

COMMANDS: Final = {
    "kserve": "/manager",
    "kserve-llm": "/manager",
    "kserve-localmodel": "/manager",
    "kserve-localmodelnode": "/manager",
    "kueue": "/manager",
    "envoy-gateway": "/usr/local/bin/envoy-gateway",
    "prometheus": "/bin/prometheus",
    "prometheus-config-reloader": "/bin/prometheus-config-reloader",
}
"""Programs whose path in the image is named by a manifest; the others are at `/ko-app/<program>`."""


def without_tag(reference: str) -> str:
    """Return an image's name without the tag, which follows the last colon of its last part."""
    head, separator, last = reference.rpartition("/")
    if reference.startswith("ko://"):
        return reference
    return head + separator + last.partition(":")[0]
