"""Equal shares of a GPU, through MPS in the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README, ``sharing.mps``: equal shares of memory and compute per client,
whole GPUs only, experimental.
"""

from __future__ import annotations

from ebbtide.base import keys
from ebbtide.translation.gpu.shares import make_backend

BACKEND = make_backend(
    about=__doc__,
    name="mps",
    title="MPS",
    memory="limited to 1/replicas by the MPS daemon",
    compute="limited to 1/replicas of the threads",
    isolates_memory=True,
    isolation_warning="MPS limits each client's memory and compute to its share, but a fault in one client can "
    "terminate the others on the GPU; MPS support in the device plugin is experimental",
    fix="use MIG to isolate faults",
    labels={keys.GPU_SHARING: "mps"},
)
