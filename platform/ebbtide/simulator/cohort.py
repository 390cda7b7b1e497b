"""Admission by Kueue: the queues of a cohort lend each other unused quota and reclaim it.

All projects are in one cohort, as ``ebbtide.core.translation.quotas.kueue`` renders them. A pod is admitted if its project has
quota left, or may borrow what the others do not use. Otherwise, it evicts pods of its project with a lower priority. Within its
quota, it first evicts pods of projects beyond theirs, whatever their priority. Fair sharing is off, which is Kueue's default.

Upstream: Kueue v0.17.0 pkg/scheduler/scheduler.go (``schedule``: cycles of one head per queue; ``makeClassicalIterator``: heads
within their quota first), pkg/scheduler/flavorassigner (``fitsResourceQuota``: a pod larger than the quota of its project evicts
none), pkg/cache/queue/cluster_queue.go (``stickyWorkload``; ``handleInadmissibleHash``: equal pods are refused together),
pkg/scheduler/preemption (``classicalPreemptions``, ``fillBackWorkloads``; common/ordering.go: the order of the candidates),
pkg/cache/scheduler/resource_node.go (``available``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.simulator.pool import GpuDemand

#: A pod: its service and its number.
Key = tuple[int, int]


class Cohort:
    """The quotas of all projects, and the admitted pods."""

    def __init__(self, quotas: Mapping[str, int]) -> None:
        """Start without pods."""
        self.quotas = quotas
        self.admitted: dict[Key, GpuDemand] = {}
        """Admitted pods, the oldest admission first."""
        self.leaving: set[Key] = set()
        """Evicted pods that have not ended."""
        self.used: Counter[str] = Counter()
        """Units by project."""
        self.sticky: dict[str, Key] = {}
        """First pod of a queue until its admission, because it evicts others."""

    def is_gated(self, key: Key, demand: GpuDemand) -> bool:
        """Return whether a pod waits for admission. A project without a quota is not limited, and lends nothing."""
        return demand.is_queued and demand.project in self.quotas and key not in self.admitted

    def withdraw(self, key: Key) -> None:
        """Free the quota of a pod that has ended, if it was admitted."""
        self.leaving.discard(key)
        if key in self.admitted:
            self._charge(self.admitted.pop(key), -1)

    def _charge(self, demand: GpuDemand, sign: int) -> None:
        self.used[demand.project] += sign * demand.total

    def admit(self, pods: Iterable[tuple[Key, GpuDemand]]) -> list[Key] | None:
        """Run cycles until one admits or evicts pods; ``pods`` are in the order of their queues.

        Return the pods to evict, or None if no cycle does.
        """
        waiting = dict(pods)
        while waiting:
            heads = {demand.project: key for key, demand in reversed(waiting.items())}
            heads |= {project: key for project, key in self.sticky.items() if key in waiting}
            victims = {key: self._find_victims(waiting[key]) for key in heads.values()}
            # Equal ones are in the order of their age.
            nominated = {
                key: (demand, found) for key, demand in waiting.items() if (found := victims.get(key)) is not None
            }
            done, evicted = self._run_cycle(nominated)
            refused = {id(waiting[key]) for key in victims.keys() - nominated.keys()}
            waiting = {key: demand for key, demand in waiting.items() if id(demand) not in refused}
            self.sticky = {
                project: key for project, key in self.sticky.items() if key not in victims or key in nominated
            }
            if done or evicted or not refused:
                return evicted if done or evicted else None
        return None

    def _run_cycle(self, heads: Mapping[Key, tuple[GpuDemand, list[Key]]]) -> tuple[list[Key], list[Key]]:
        """Admit the heads that fit after those before them; return them, and the pods to evict."""

        def sort_key(key: Key) -> tuple[bool, int]:
            demand, victims = heads[key]
            used = self._count_without(victims)[demand.project] + demand.total
            return used > self.quotas[demand.project], -demand.priority

        preempted, taken, admitted = set[Key](), Counter[str](), list[Key]()
        for key in sorted(heads, key=sort_key):
            demand, own = heads[key][0], {*heads[key][1]}
            used = self._count_without(preempted | own)
            used.update(taken)
            if own & preempted or not self._fits(used, demand):
                continue
            preempted |= own
            taken[demand.project] += demand.total
            if own:
                self.sticky[demand.project] = key
            else:
                self.sticky.pop(demand.project, None)
                admitted.append(key)
        for key in admitted:
            self.admitted[key] = heads[key][0]
            self._charge(heads[key][0], 1)
        return admitted, [key for key in self.admitted if key in preempted - self.leaving]

    def _count_without(self, keys: Collection[Key]) -> Counter[str]:
        """Return the units by project without those of some admitted pods."""
        rest = self.used.copy()
        for key in keys:
            rest[self.admitted[key].project] -= self.admitted[key].total
        return rest

    def _fits(self, used: Counter[str], demand: GpuDemand, *, borrows: bool = True) -> bool:
        is_within = used[demand.project] + demand.total <= self.quotas[demand.project]
        total = sum(self.quotas.values())
        return (is_within or (borrows and demand.borrows)) and used.total() + demand.total <= total

    def _find_victims(self, demand: GpuDemand) -> list[Key] | None:
        """Return the pods to evict for a pod, or None if it cannot be admitted."""
        quota, used = self.quotas[demand.project], self.used[demand.project]
        if self._fits(self.used, demand):
            return []
        if demand.total > quota:
            return None
        ranks = [
            (key not in self.leaving, other.project == demand.project, other.priority, -index, key)
            for index, (key, other) in enumerate(self.admitted.items())
            if other.project != demand.project or other.priority < demand.priority
        ]
        everyone = [rank[-1] for rank in sorted(ranks)]
        same = [key for key in everyone if self.admitted[key].project == demand.project]
        if used + demand.total <= quota:
            return self._choose_victims(demand, everyone, borrows=True)
        victims = self._choose_victims(demand, everyone, borrows=False) if used < quota else None
        return victims or self._choose_victims(demand, same, borrows=True)

    def _choose_victims(self, demand: GpuDemand, candidates: Iterable[Key], *, borrows: bool) -> list[Key] | None:
        """Return the first candidates that are sufficient, without those that are not needed after all."""
        used, victims = self.used.copy(), list[Key]()
        for key in candidates:
            other = self.admitted[key]
            if other.project != demand.project and used[other.project] <= self.quotas[other.project]:
                continue
            used[other.project] -= other.total
            victims.append(key)
            if self._fits(used, demand, borrows=borrows):
                break
        else:
            return None
        for key in victims[-2::-1]:
            fewer = [victim for victim in victims if victim != key]
            if self._fits(self._count_without(fewer), demand, borrows=borrows):
                victims = fewer
        return victims
