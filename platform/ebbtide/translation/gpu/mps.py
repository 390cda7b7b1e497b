"""Shares of a GPU by MPS in the NVIDIA device plugin.

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
    memory="capped at 1/replicas by the MPS daemon",
    compute="capped at 1/replicas of the threads",
    isolates_memory=True,
    surprise="MPS caps each client's memory and compute at its share, but a client that faults can take its "
    "neighbours down; the device plugin calls its MPS support experimental",
    fix="use MIG where faults must not spread",
    labels={keys.GPU_SHARING: "mps"},
)
