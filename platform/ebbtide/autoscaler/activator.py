"""What queues in front of a revision's pods: the activator's share of capacity, and the breaker.

Upstream: knative.dev/serving v0.48.1, pkg/activator/net/throttler.go, lb_policy.go and pkg/queue/breaker.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.autoscaler.arithmetic import INT32_MAX
from ebbtide.autoscaler.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Requests that may wait in an activator for a revision before one is refused with 503. In a pod's queue-proxy it is ten
#: times its containerConcurrency (pkg/queue/sharedmain/main.go).
BREAKER_QUEUE_DEPTH: Final = 10_000
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


def assign_slice(pods: int, index: int, activators: int) -> list[int]:
    """Return which of ``pods``, sorted by address, activator ``index`` of ``activators`` sends to.

    An ``index`` of -1 is an activator that is not in the path yet: it may use all. Upstream: assignSlice.
    """
    if index == -1 or pods <= 1 or activators == 1:
        return list(range(pods))
    if activators > pods:
        return [index % pods]
    size, rest = divmod(pods, activators)
    own = list(range(index * size, (index + 1) * size))
    return [*own, pods - rest + index] if index < rest else own


def first_available(room: Sequence[int]) -> int | None:
    """Return the first pod with room, by its place; upstream's policy for a containerConcurrency of 1 to 3."""
    return next((pod for pod, free in enumerate(room) if free > 0), None)


def round_robin(room: Sequence[int], start: int) -> int | None:
    """Return the next pod with room from ``start`` on, by its place; upstream's policy for more than 3 at a time.

    The next ``start`` is one further than the pod returned.
    """
    start = start if start < len(room) else 0
    return next((pod for pod in (*range(start, len(room)), *range(start)) if room[pod] > 0), None)


def random_choice_2(in_flight: Sequence[int], first: int, second: int, *, coin: bool) -> int:
    """Return the less busy of two pods, by place; upstream's policy for pods without a limit.

    ``first`` is drawn from all places and ``second`` from all but one, those from ``first`` on moved up by one; ``coin``
    decides between equals. One pod alone is drawn as 0 and 0.
    """
    if len(in_flight) == 1:
        return 0
    other = second + (second >= first)
    if in_flight[first] == in_flight[other]:
        return other if coin else first
    return first if in_flight[first] < in_flight[other] else other


class Breaker:
    """Counts requests inside and waiting; upstream's queue.Breaker, without the goroutines.

    At most ``capacity`` requests are inside, and ``queue_depth + max_concurrency`` inside or waiting. The caller keeps
    the waiting requests themselves: upstream wakes them in no promised order.
    """

    __slots__ = ("capacity", "in_flight", "inside", "total_slots")

    def __init__(self, queue_depth: int, max_concurrency: int, initial_capacity: int) -> None:
        """Raise ValueError where upstream panics: no queue, or a capacity outside 0..max_concurrency."""
        if queue_depth <= 0 or not 0 <= initial_capacity <= max_concurrency:
            raise ValueError(f"a breaker of {queue_depth}, {max_concurrency}, {initial_capacity}")
        self.total_slots = queue_depth + max_concurrency
        self.capacity = initial_capacity
        self.in_flight = 0
        self.inside = 0

    def enqueue(self) -> bool:
        """Take a place in the queue; False where it is full and the request is refused."""
        if self.in_flight == self.total_slots:
            return False
        self.in_flight += 1
        return True

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self.in_flight - self.inside

    def enter(self) -> bool:
        """Let one waiting request in; False while there is no room."""
        if self.inside >= self.capacity:
            return False
        self.inside += 1
        return True

    def reserve(self) -> bool:
        """Take a place and enter at once, or do neither; upstream's Reserve, which load balancing asks."""
        if self.inside >= self.capacity or not self.enqueue():
            return False
        self.inside += 1
        return True

    def release(self) -> None:
        """Let one request inside go."""
        self.inside -= 1
        self.in_flight -= 1

    def abandon(self) -> None:
        """Let one waiting request go."""
        self.in_flight -= 1

    def update_concurrency(self, size: int) -> None:
        """Set the capacity; requests inside stay, even above it."""
        self.capacity = size
