"""Equal shares of a GPU, through time-slicing in the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README, ``sharing.timeSlicing``: renameByDefault sets the resource name
nvidia.com/gpu.shared; two shares do not give twice the compute, and failRequestsGreaterThanOne rejects them.
"""

from __future__ import annotations

from ebbtide.core.base import keys
from ebbtide.core.translation.gpu.shares import make_backend

BACKEND = make_backend(
    about=__doc__,
    name="time-slicing",
    title="Time-slicing",
    memory="not isolated",
    compute="time-sliced evenly, whatever the portion",
    isolates_memory=False,
    isolation_warning="time-slicing provides no isolation: every pod on the GPU sees its whole memory, and one that "
    "uses too much crashes the others; compute is time-sliced evenly",
    fix="limit memory in the server itself (vLLM: --gpu-memory-utilization), or use MIG or MPS for isolation",
    # Unlike MPS, time-slicing shares MIG devices too.
    names=(keys.GPU, keys.GPU_SHARED, keys.MIG_PREFIX),
    tested="kube-scheduler 1.37.2",
)
