"""Shares of a GPU by time-slicing in the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README, ``sharing.timeSlicing``: renameByDefault gives nvidia.com/gpu.shared,
asking for two shares does not give twice the compute, and failRequestsGreaterThanOne refuses it.
"""

from __future__ import annotations

from ebbtide.translation.gpu.shares import make_backend

BACKEND = make_backend(
    about=__doc__,
    name="time-slicing",
    title="Time-slicing",
    memory="not isolated",
    compute="in turns, whatever the portion",
    isolates_memory=False,
    surprise="time-slicing isolates nothing: every tenant sees the whole memory, and one that takes too much "
    "crashes the others; compute goes round in turns",
    fix="cap memory in the server itself (vLLM: --gpu-memory-utilization), or use MIG or MPS where that matters",
)
