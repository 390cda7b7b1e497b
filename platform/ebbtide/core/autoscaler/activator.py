"""Capacity of a revision that one activator may use.

Upstream: knative.dev/serving v0.51.0, pkg/activator/net/throttler.go and lb_policy.go.
"""

from __future__ import annotations

from typing import Final

from ebbtide.core.autoscaler.arithmetic import INT32_MAX
from ebbtide.core.autoscaler.kernel import kernel

#: Maximum containerConcurrency at which the activator picks the first available pod; above it, pods are used round-robin.
FIRST_AVAILABLE: Final = 3


@kernel
def compute_activator_capacity(container_concurrency: int, backends: int, trackers: int, activators: int) -> int:
    """Return the number of concurrent requests that one activator forwards to a revision.

    ``trackers`` is the number of pods assigned to this activator, or 0 if it forwards to the service's address; then its
    capacity is its share of all ``backends``. Without a limit per pod, the result is 0 or INT32_MAX. Upstream:
    revisionThrottler.calculateCapacity.
    """
    if trackers > 0:
        target = container_concurrency * trackers
    else:
        target = container_concurrency * backends
        if target > 0:
            target = max(target // max(activators, 1), 1)
    return INT32_MAX if backends > 0 and (container_concurrency == 0 or target > INT32_MAX) else target
