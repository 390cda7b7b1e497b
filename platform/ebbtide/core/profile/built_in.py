"""The built-in profiles: a stock Knative, and a cluster set up with Ebbtide's kustomize components and KAI-Scheduler.

They are plain data, so that a call with another profile does not validate them.
"""

from __future__ import annotations

from typing import Any, Final

#: Names of the built-in profiles for ``--profile``. The first is the default.
BUILT_IN_NAME: Final = "built-in"
FULL_NAME: Final = "full"
#: A node pool with whole GPUs of any number and product, which need neither a feature flag nor a scheduler.
ANY_GPUS: Final[dict[str, Any]] = {"name": "default", "resource": "nvidia.com/gpu"}
#: The default profile: Knative 1.24 as its release installs it, NVIDIA's device plugin, and no other component.
BUILT_IN: Final[dict[str, Any]] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": BUILT_IN_NAME},
    "spec": {
        "knative": {"version": "1.24", "hpa": False},
        "kserve": {"installed": False},
        "metrics": {"adapter": "none", "metricsServer": False},
        "nodePools": [ANY_GPUS],
    },
}
#: Feature flags that ``kustomize/knative`` sets in config-features, and the only ones of the full profile.
FEATURES: Final[dict[str, str]] = {
    f"kubernetes.podspec-{name}": "enabled"
    for name in (
        *("affinity", "fieldref", "init-containers", "nodeselector", "persistent-volume-claim"),
        *("persistent-volume-write", "priorityclassname", "runtimeclassname", "schedulername"),
        *("securitycontext", "tolerations"),
    )
}
#: Knative 1.24, KServe 0.20, and one pool of A100-80 GPUs with KAI 0.17.
FULL: Final[dict[str, Any]] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": FULL_NAME},
    "spec": {
        "kubernetes": {"version": "1.37"},
        "knative": {
            "version": "1.24",
            "features": FEATURES,
            "autoscaler": {"allow-zero-initial-scale": "true"},
            "defaults": {"max-revision-timeout-seconds": "3600"},
            "deployment": {"default-affinity-type": "none"},
            "observability": {"request-metrics-protocol": "prometheus", "metrics-protocol": "prometheus"},
        },
        "kserve": {
            "version": "0.20",
            "modes": ["Knative", "Standard"],
            "llm": "scheduler",
            "annotationDisallowList": ["ebbtide.dev/spec", "ebbtide.dev/scale", "ebbtide.dev/autoscaling"],
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
            "kai": {"version": "0.17", "gangScheduleKnative": False, "sharingMode": "NonMemoryEnforced"},
        },
        "projects": {"quota": "kai"},
    },
}
#: The built-in profiles by name.
BUILT_INS: Final = {BUILT_IN_NAME: BUILT_IN, FULL_NAME: FULL}
# fmt: off
#: Other flags of config-features, which no spec needs but a cluster may have
#: (knative.dev/serving pkg/apis/config/features.go).
OTHER_FLAGS: Final = frozenset(f"kubernetes.podspec-{name}" for name in (
    "dnsconfig", "dnspolicy", "hostaliases", "hostipc", "hostnetwork", "hostpid", "shareprocessnamespace",
    "volumes-ephemeral", "volumes-hostpath", "volumes-mount-propagation",
))
# fmt: on
