"""Shares of a GPU by time-slicing in the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README, ``sharing.timeSlicing``: renameByDefault gives nvidia.com/gpu.shared,
asking for two shares does not give twice the compute, and failRequestsGreaterThanOne refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.base.problems import warning
from ebbtide.translation.gpu.backend import Ask, Backend
from ebbtide.translation.gpu.shares import check_shares, fits, share, shares_patch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Problem
    from ebbtide.translation.pods import PodPatch


def check(ask: Ask) -> Iterator[Problem]:
    """Refuse what one share is not, and say that nothing is isolated."""
    yield from check_shares(ask)
    if ask.request.kind in {"portion", "memory"}:
        yield warning(
            "GPU013",
            ask.cause,
            "time-slicing isolates nothing: every tenant sees the whole memory, and one that takes too much "
            "crashes the others; compute goes round in turns",
            "cap memory in the server itself (vLLM: --gpu-memory-utilization), or use MIG or MPS where that matters",
        )


def patch(ask: Ask) -> PodPatch:
    """Return the limit of one share."""
    return shares_patch(ask, "gpu/time-slicing")


BACKEND = Backend(
    name="time-slicing",
    title="Time-slicing",
    rounding="up to one share, 1/replicas of a GPU",
    memory="not isolated",
    compute="in turns, whatever the portion",
    isolates_memory=False,
    check=check,
    patch=patch,
    share=share,
    fits=fits,
)
