"""Equal shares of a GPU, through MPS in the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README, ``sharing.mps``: equal shares of memory and compute per client,
whole GPUs only, experimental; cmd/mps-control-daemon/mps/daemon.go: the daemon limits a client to 100/replicas percent of the
threads, rounded down. CUDA_MPS_ACTIVE_THREAD_PERCENTAGE of a client can only lower that (NVIDIA's MPS documentation).
"""

from __future__ import annotations

from ebbtide.core.base import keys
from ebbtide.core.translation.gpu.shares import make_backend

BACKEND = make_backend(
    about=__doc__,
    name="mps",
    title="MPS",
    memory="limited to 1/replicas by the MPS daemon",
    compute="limited to 1/replicas of the threads, or to gpuComputePercentage if it is lower",
    compute_variable=keys.MPS_THREADS,
    isolates_memory=True,
    isolation_warning="MPS limits each client's memory and compute to its share, but a fault in one client can "
    "terminate the others on the GPU; MPS support in the device plugin is experimental",
    fix="use MIG to isolate faults",
    names=(keys.GPU, keys.GPU_SHARED),
    labels={keys.GPU_SHARING: "mps"},
)
