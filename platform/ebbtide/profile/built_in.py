"""The built-in profile: what a cluster made with Ebbtide's kustomize components offers.

Plain data, so that a call that names another profile does not validate it.
"""

from __future__ import annotations

from typing import Any, Final

#: The name for ``--profile``.
BUILT_IN_NAME: Final = "built-in"
#: The flags that ``kustomize/knative`` sets in config-features; the built-in profile has exactly these.
FEATURES: Final[dict[str, str]] = {
    "kubernetes.podspec-affinity": "enabled",
    "kubernetes.podspec-fieldref": "enabled",
    "kubernetes.podspec-init-containers": "enabled",
    "kubernetes.podspec-nodeselector": "enabled",
    "kubernetes.podspec-persistent-volume-claim": "enabled",
    "kubernetes.podspec-persistent-volume-write": "enabled",
    "kubernetes.podspec-priorityclassname": "enabled",
    "kubernetes.podspec-runtimeclassname": "enabled",
    "kubernetes.podspec-schedulername": "enabled",
    "kubernetes.podspec-securitycontext": "enabled",
    "kubernetes.podspec-tolerations": "enabled",
}
#: The profile used where none is named: Knative 1.21, KServe 0.20, one pool of A100-80 under KAI 0.17.
BUILT_IN: Final[dict[str, Any]] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": "built-in"},
    "spec": {
        "kubernetes": {"version": "1.34"},
        "knative": {
            "version": "1.21",
            "features": FEATURES,
            "autoscaler": {"allow-zero-initial-scale": "true"},
            "defaults": {"max-revision-timeout-seconds": "3600"},
            "deployment": {"default-affinity-type": "none"},
            "observability": {"request-metrics-protocol": "prometheus", "metrics-protocol": "prometheus"},
        },
        "kserve": {
            "version": "0.20",
            "modes": ["Knative", "Standard"],
            "annotationDisallowList": ["ebbtide.dev/spec", "ebbtide.dev/scale"],
        },
        "nodePools": [
            {
                "name": "default",
                "product": "NVIDIA-A100-SXM4-80GB",
                "gpuMemoryMebibytes": 81920,
                "devices": 8,
                "backend": "kai",
            }
        ],
        "scheduling": {
            "scheduler": "kai-scheduler",
            "classesOwner": "kai",
            "kai": {"version": "0.17", "gangScheduleKnative": False},
        },
        "projects": {"quota": "kai"},
    },
}
#: Flags of config-features that no spec of ours needs but a cluster may have
#: (knative.dev/serving pkg/apis/config/features.go).
OTHER_FLAGS: Final = frozenset(
    f"kubernetes.podspec-{name}"
    for name in (
        "dnsconfig",
        "dnspolicy",
        "hostaliases",
        "hostipc",
        "hostnetwork",
        "hostpid",
        "init-containers",
        "shareprocessnamespace",
        "topologyspreadconstraints",
        "volumes-csi",
        "volumes-hostpath",
        "volumes-image",
        "volumes-mount-propagation",
    )
)
