"""Shares of a GPU by MPS in the NVIDIA device plugin.

Upstream: NVIDIA/k8s-device-plugin README, ``sharing.mps``: equal shares of memory and compute per client,
whole GPUs only, experimental.
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
    """Refuse what one share is not, and say what MPS leaves open."""
    yield from check_shares(ask)
    if ask.request.kind in {"portion", "memory"}:
        yield warning(
            "GPU013",
            ask.cause,
            "MPS caps each client's memory and compute at its share, but a client that faults can take its "
            "neighbours down; the device plugin calls its MPS support experimental",
            "use MIG where faults must not spread",
        )


def patch(ask: Ask) -> PodPatch:
    """Return the limit of one share."""
    return shares_patch(ask, "gpu/mps")


BACKEND = Backend(
    name="mps",
    title="MPS",
    rounding="up to one share, 1/replicas of a GPU",
    memory="capped at 1/replicas by the MPS daemon",
    compute="capped at 1/replicas of the threads",
    isolates_memory=True,
    check=check,
    patch=patch,
    share=share,
    fits=fits,
)
