"""The activator's share of a revision's capacity.

Upstream: knative.dev/serving v0.48.1, pkg/activator/net/throttler.go and lb_policy.go.
"""

from __future__ import annotations

from typing import Final

from ebbtide.autoscaler.arithmetic import INT32_MAX
from ebbtide.autoscaler.kernel import kernel

#: Up to this containerConcurrency the first pod with room is taken, above it pods take turns.
FIRST_AVAILABLE: Final = 3


@kernel
def capacity(container_concurrency: int, backends: int, trackers: int, activators: int) -> int:
    """Return the requests that one activator lets through to a revision at a time.

    ``trackers`` is the number of pods assigned to this activator, 0 where it sends to the service's address; then it
    takes its share of all ``backends``. Without a limit per pod the answer is 0 or as good as endless. Upstream:
    revisionThrottler.calculateCapacity.
    """
    if trackers > 0:
        target = container_concurrency * trackers
    else:
        target = container_concurrency * backends
        if target > 0:
            target = max(target // max(activators, 1), 1)
    return INT32_MAX if backends > 0 and (container_concurrency == 0 or target > INT32_MAX) else target
