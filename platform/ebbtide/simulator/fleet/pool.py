"""A shared pool of GPUs: the devices of its nodes, their parts, the quotas of projects, and whom a pod preempts.

Devices are packed as KAI does by default (bin packing): a part of a GPU goes to the fullest device that has room, a whole
GPU to the node with the fewest free ones. The default scheduler chooses the node with the most free GPUs. Parts are whole
numbers of ``UNITS``, so that as many fit on a device as the backend puts there (``Backend.fits``). CPU, memory and the layout
of MIG devices on a GPU are not modeled.

Upstream: KAI-Scheduler pkg/scheduler/plugins/gpupack and nodeplacement (bin packing), pkg/scheduler/actions/preempt (only
the own queue) and consolidation (``allPodsReallocated``), pkg/scheduler/plugins/proportion/reclaimable/strategies (what is
over the quota of another queue) and queue_order (queues within their quota first); Kubernetes
pkg/scheduler/framework/preemption (victims: as few and as unimportant as possible, MoreImportantPod: the oldest last),
pkg/scheduler/apis/config/v1/defaults.go (LeastAllocated CPU and memory, which pods with GPUs request in proportion).
Kueue counts each pod of a project against its quota; that the projects of a cohort lend each other unused quota is not modeled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from ebbtide.core.documents.quota import is_always_counted, is_in_quota
from ebbtide.core.translation import gpu
from ebbtide.core.translation.priority import KAI
from ebbtide.core.translation.quotas import QUOTA_BACKENDS

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool, Prices, Profile
    from ebbtide.core.translation.plan import Plan

Pod = TypeVar("Pod")
#: Parts of a GPU.
UNITS: Final = 1_000_000
#: More units than any pool has.
FAR: Final = 1 << 62
#: Largest number of pods that KAI moves for another one (--max-consolidation-preemptees).
MOVED: Final = 16
#: Reasons why a pod waits, by what binds.
QUOTA, FULL, FRAGMENTED, LEAVING = "quota", "pool", "fragmentation", "eviction"


@dataclass(frozen=True, slots=True)
class GpuDemand:
    """The GPUs of one replica, and its rank among the pods of the pool."""

    pools: tuple[str, ...]
    """Node pools that accept it, in order of preference."""
    devices: int
    units: int
    """Part of each device."""
    priority: int
    is_preemptible: bool
    project: str = ""
    is_counted: bool = False
    """True if the quota of the project limits it."""
    can_evict: bool = True
    """False if its scheduler evicts no pod for it."""
    spreads: bool = False
    """True if its scheduler prefers the emptiest node."""
    reclaims: bool = False
    """True if its scheduler evicts pods of other projects only to reclaim its quota from theirs beyond their quota."""
    evicts_for_quota: bool = False
    """True if it evicts pods that its quota counts, too."""

    @property
    def total(self) -> int:
        """Units of all its devices."""
        return self.devices * self.units


def read_demand(plan: Plan) -> GpuDemand | None:
    """Return the demand of one replica after the backend's rounding, or None without GPUs."""
    ask = next(gpu.list_pool_requests(plan), None)
    if ask is None:
        return None
    backend = gpu.BACKENDS[ask.pool.backend]
    units = min(round(backend.share(ask) * UNITS), UNITS)
    if units < UNITS:
        # Thirds, for example, do not divide the units.
        units = min(units, UNITS // max(backend.fits(ask), 1))
    scheduler, projects = plan.cluster.scheduling.scheduler, plan.cluster.projects
    quota = QUOTA_BACKENDS[projects.quota]
    # The default scheduler preempts every pod of a lower priority.
    is_default = scheduler == "default-scheduler"
    return GpuDemand(
        tuple(pool.name for pool in plan.pools),
        ask.request.devices,
        max(units, 1),
        plan.priority.value,
        is_default or (plan.priority.preemptible and not is_always_counted(plan)),
        plan.spec.project or "",
        is_in_quota(plan) or bool(quota.queue_label),
        # kube-scheduler evicts no pod to free a device that DRA allocates (PRI031).
        backend.claims is None or scheduler == KAI,
        is_default,
        scheduler == KAI,
        quota.evicts,
    )


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A node pool: its number of GPUs, and how many a node has (0: all on one node)."""

    name: str
    gpus: int
    per_node: int = 0

    def list_nodes(self) -> list[int]:
        """Return the number of GPUs of each node."""
        per_node = self.per_node or self.gpus
        whole, rest = divmod(self.gpus, per_node) if per_node else (0, 0)
        return [per_node] * whole + [rest] * bool(rest)


def find_gpu_price(prices: Prices, pool: NodePool) -> float | None:
    """Return the price of a GPU-hour of a node pool, None if the profile does not state it."""
    return prices.gpu_hour.get(pool.name, prices.gpu_hour.get(pool.product or ""))


def read_quotas(profile: Profile) -> dict[str, int]:
    """Return the GPU quotas of the profile's projects in units."""
    projects = profile.spec.projects
    if projects.quota == "none":
        return {}
    return {name: round(known.gpus * UNITS) for name, known in projects.known.items() if known.gpus is not None}


@dataclass(slots=True)
class Holder:
    """A pod with GPUs: its demand, its node, and its devices there."""

    demand: GpuDemand
    key: tuple[int, int]
    """Its service and its number."""
    node: int
    devices: tuple[int, ...]
    is_leaving: bool = False
    """True after its eviction, until it has ended."""


@dataclass(slots=True)
class Refusal:
    """Reason for a pod to wait, and the pods to evict for it."""

    reason: str
    victims: list[Holder] = field(default_factory=list)


Nodes = list[list[int]]


class GpuPool:
    """The devices of all nodes, and the pods that hold parts of them."""

    def __init__(self, sizes: Sequence[PoolSize], quotas: Mapping[str, int]) -> None:
        """Start without pods."""
        self.labels = [size.name for size in sizes for _ in size.list_nodes()]
        self.free: Nodes = [[UNITS] * count for size in sizes for count in size.list_nodes()]
        self.quotas = quotas
        self.used: Counter[str] = Counter()
        """Units by project that its quota counts."""
        self.allocated: Counter[str] = Counter()
        """Units by project."""
        self.held: Counter[int] = Counter()
        """Units by service."""
        self.devices = 0
        """Number of devices that pods use."""
        self.holders: dict[tuple[int, int], Holder] = {}
        self.evictable: dict[tuple[int, int], Holder] = {}
        """Those of ``holders`` that a scheduler may evict."""
        self.unused: Counter[str] = Counter()
        """Free units by node pool."""
        for size in sizes:
            self.unused[size.name] += size.gpus * UNITS
        self.may_move = True
        """False after pods were evicted to be moved, until the next change of the fleet."""

    def place(self, demand: GpuDemand, key: tuple[int, int]) -> Holder | Refusal:
        """Give a pod its devices, or return why it waits and whom it evicts."""
        quota = self.quotas.get(demand.project) if demand.is_counted else None
        if quota is not None and self.used[demand.project] + demand.total > quota:
            return self._refuse_beyond(quota, demand)
        place = self._find_place(self.free, demand)
        if place is None:
            return self._refuse(demand)
        holder = self.holders[key] = Holder(demand, key, *place)
        if demand.is_preemptible:
            self.evictable[key] = holder
        self.devices += self._count_untouched(holder)
        self._charge(holder, 1)
        return holder

    def release(self, key: tuple[int, int]) -> None:
        """Free the devices of a pod that has ended."""
        holder = self.holders.pop(key)
        self.evictable.pop(key, None)
        self._charge(holder, -1)
        self.devices -= self._count_untouched(holder)

    def _count_untouched(self, holder: Holder) -> int:
        return sum(self.free[holder.node][device] == UNITS for device in holder.devices)

    def _charge(self, holder: Holder, sign: int) -> None:
        demand = holder.demand
        self.unused[self.labels[holder.node]] -= sign * demand.total
        self.held[holder.key[0]] += sign * demand.total
        self.allocated[demand.project] += sign * demand.total
        if demand.is_counted:
            self.used[demand.project] += sign * demand.total
        _change(self.free, holder, -sign * demand.units)

    def _find_place(self, nodes: Nodes, demand: GpuDemand) -> tuple[int, tuple[int, ...]] | None:
        """Return the node and the devices for a pod, or None."""
        for name in demand.pools:
            best: tuple[float, int, int, tuple[int, ...]] | None = None
            for index, node in enumerate(nodes):
                if self.labels[index] != name or max(node) < demand.units:
                    continue
                if demand.devices == 1:
                    free = min(free for free in node if free >= demand.units)
                    chosen: tuple[int, ...] = (node.index(free),)
                else:
                    room = sorted((free, device) for device, free in enumerate(node) if free >= demand.units)
                    if len(room) < demand.devices:
                        continue
                    free = room[demand.devices - 1][0]
                    chosen = tuple(device for _, device in room[: demand.devices])
                rank = (-sum(node) / len(node) if demand.spreads else free, node.count(UNITS), index, chosen)
                best = rank if best is None else min(best, rank)
            if best is not None:
                return best[2], best[3]
        return None

    def _refuse(self, demand: GpuDemand) -> Refusal:
        """Return why a pod finds no devices, and the pods of lower priority to evict for it."""
        leaving = [holder for holder in self.evictable.values() if holder.is_leaving]
        if moved := self._consolidate(demand):
            return Refusal(LEAVING, moved)
        candidates = self._list_candidates(demand) if demand.can_evict else []
        nodes = [list(node) for node in self.free] if leaving or candidates else self.free
        for holder in leaving:
            _change(nodes, holder, holder.demand.units)
        if leaving and self._find_place(nodes, demand) is not None:
            return Refusal(LEAVING)
        victims = choose_victims(
            candidates[::-1],
            lambda: self._find_place(nodes, demand) is not None,
            lambda holder, sign: _change(nodes, holder, sign * holder.demand.units),
        )
        if victims:
            return Refusal(LEAVING, victims)
        free = sum(self.unused[name] for name in demand.pools)
        return Refusal(FRAGMENTED if free >= demand.total else FULL)

    def _consolidate(self, demand: GpuDemand) -> list[Holder]:
        """Return the preemptible pods that KAI evicts and places on other devices, so that a preemptible one finds some."""
        if not (demand.reclaims and demand.is_preemptible and self.may_move):
            return []
        if sum(self.unused.values()) < demand.total or any(holder.is_leaving for holder in self.evictable.values()):
            return []
        movable = self._rank_victims()[:MOVED]
        for count, last in enumerate(movable, 1):
            moved = [holder for holder in movable[:count] if holder.node == last.node]
            nodes = [list(node) for node in self.free]
            for holder in moved:
                _change(nodes, holder, holder.demand.units)
            pending = [Holder(demand, (0, 0), 0, ()), *reversed(moved)]
            pending.sort(key=lambda holder: -holder.demand.priority)
            places = [self._occupy(nodes, holder) for holder in pending]
            if None not in places:
                self.may_move = False
                # The devices of a node are equal for a pod with whole ones.
                return [
                    holder
                    for holder, place in zip(pending, places, strict=True)
                    if holder.devices and place != (holder.node, holder.devices if holder.demand.units < UNITS else ())
                ]
        return []

    def _occupy(self, nodes: Nodes, holder: Holder) -> tuple[int, tuple[int, ...]] | None:
        """Take the devices of a pod, and return their node, and their numbers if it has parts of them; None without room."""
        place = self._find_place(nodes, holder.demand)
        if place is None:
            return None
        _change(nodes, replace(holder, node=place[0], devices=place[1]), -holder.demand.units)
        return place if holder.demand.units < UNITS else (place[0], ())

    def _rank_victims(self) -> list[Holder]:
        """Return the preemptible pods, the least important and the newest first."""
        return sorted(self.evictable.values(), key=lambda holder: -holder.demand.priority)[::-1]

    def is_beyond(self, demand: GpuDemand, allocated: Mapping[str, int]) -> bool:
        """Return whether a pod cannot reclaim the quota of its project, which has these units with it."""
        return not demand.reclaims or allocated[demand.project] > self.quotas.get(demand.project, FAR)

    def _list_candidates(self, demand: GpuDemand) -> list[Holder]:
        """Return the pods that may be evicted for another one, the least important and the newest first."""
        ranked = [
            holder
            for holder in self._rank_victims()
            if not holder.is_leaving and (demand.reclaims or holder.demand.priority < demand.priority)
        ]
        if not ranked or not demand.reclaims:
            return ranked
        rest = self.allocated.copy()
        is_beyond = self.is_beyond(demand, {demand.project: rest[demand.project] + demand.total})
        candidates = []
        for holder in ranked:
            other = holder.demand
            # Training has no project, so each project may evict it.
            if other.project in {"", demand.project}:
                if other.priority >= demand.priority:
                    continue
            elif is_beyond or rest[other.project] <= self.quotas.get(other.project, FAR):
                continue
            rest[other.project] -= other.total
            candidates.append(holder)
        return candidates

    def _refuse_beyond(self, quota: int, demand: GpuDemand) -> Refusal:
        """Return why a pod beyond its quota waits, and the pods of its project to evict for it."""

        def is_of_quota(holder: Holder) -> bool:
            return holder.demand.is_counted and holder.demand.project == demand.project

        leaving = (holder for holder in self.holders.values() if holder.is_leaving and is_of_quota(holder))
        left = self.used[demand.project] + demand.total - quota - sum(holder.demand.total for holder in leaving)
        if left <= 0:
            return Refusal(LEAVING)
        evicted = Counter[str]()
        victims = choose_victims(
            [*filter(is_of_quota, self._list_candidates(demand))][::-1] if demand.evicts_for_quota else [],
            lambda: evicted.total() >= left,
            lambda holder, sign: evicted.update({demand.project: sign * holder.demand.total}),
        )
        return Refusal(LEAVING, victims[::-1]) if victims else Refusal(QUOTA)


def choose_victims(
    candidates: Sequence[Pod], has_room: Callable[[], bool], release: Callable[[Pod, int], None]
) -> list[Pod]:
    """Return the pods to evict: as few and as unimportant as possible; none if the room does not suffice without all of them.

    ``candidates`` starts with the most important one, which is the first to stay. ``release`` frees what a pod holds (1), or
    takes it again (-1). Upstream: k8s.io/kubernetes pkg/scheduler/framework/plugins/defaultpreemption
    (SelectVictimsOnNode, reprievePod).
    """
    for pod in candidates:
        release(pod, 1)
    if not has_room():
        return []
    victims = []
    for pod in candidates:
        release(pod, -1)
        if not has_room():
            release(pod, 1)
            victims.append(pod)
    return victims


def _change(nodes: Nodes, holder: Holder, units: int) -> None:
    for device in holder.devices:
        nodes[holder.node][device] += units


def list_unfit(demands: Iterable[GpuDemand], sizes: Sequence[PoolSize]) -> list[GpuDemand]:
    """Return the demands that an empty pool of these sizes does not satisfy."""
    return [demand for demand in demands if isinstance(GpuPool(sizes, {}).place(demand, (0, 0)), Refusal)]
