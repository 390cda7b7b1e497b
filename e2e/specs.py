"""Specs of small servers, for the cases whose spec differs only in a few fields."""

from collections.abc import Mapping
from typing import Any

IMAGE = "ebbtide.local/e2e/load:v1"
#: A quarter of a GPU: one of the node's four shares.
QUARTER = {"gpuRequestType": "portion", "gpuPortionRequest": 0.25}
PRODUCT = "NVIDIA-A100-SXM4-80GB"
ZERO = {"minReplicas": 0, "maxReplicas": 1, "stableWindowSeconds": 6}
"""At zero soon after the last request."""
POOL = {"name": "pool", "product": PRODUCT, "gpuMemoryMebibytes": 81920, "nodes": 1}


def make_spec(name: str, compute: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return the spec of a small server with a GPU request in `compute`, and with other fields of the spec."""
    small = {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "32Mi"}
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": name},
        "spec": {"image": IMAGE, "compute": small | dict(compute or {}), **fields},
    }
