"""Plans of the fleet of workloads that a caller can see: computed in a worker on request, and kept for the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final

from ebbtide.cluster.client.protocol import NODE, QUOTA, Kind
from ebbtide.cluster.slo.replay import read_traffic_logs
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.cluster.watch.groups import TOPS
from ebbtide.core.base.problems import Problem
from ebbtide.core.profile.projects import make_project_namespace
from ebbtide.core.translation.objects import Object
from ebbtide.server.api import simulation
from ebbtide.server.api.access import Caller
from ebbtide.server.api.background import Background, Progress
from ebbtide.server.api.connection import Connection, key_of
from ebbtide.server.api.offline import InputError, Specs
from ebbtide.server.api.reads import Reads
from ebbtide.server.api.workers import LimitExceededError
from ebbtide.simulator.pool import read_quotas
from ebbtide.simulator.request import PlanRequest, TrafficLog

#: Maximum number of workloads in a plan, of plans in progress or in the queue, and of callers whose last plan is kept.
MAX_PLANNED: Final = 100
MAX_PLANS: Final = 8
MAX_KEPT: Final = 100
#: Seconds that a plan may take, without its time in the queue, and between checks of the queue.
PLAN_SECONDS: Final = 300.0
TURN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """The namespace of the workloads (empty: all), the days of recorded requests, and what differs from the cluster."""

    namespace: str = ""
    days: float = 7.0
    request: PlanRequest = field(default_factory=PlanRequest)


@dataclass(frozen=True, slots=True)
class _KeptPlan:
    question: PlanQuestion
    plan: simulation.PlannedFleet
    rights: frozenset[tuple[Kind, str]]


class Plans:
    """Plans, one of a caller at a time."""

    def __init__(self, connection: Connection, reads: Reads, specs: Specs) -> None:
        """Start without a plan."""
        self._connection, self._reads, self._specs = connection, reads, specs
        self.background = Background("plan", MAX_PLANS)
        self._lock = Lock()
        self._kept: dict[str, _KeptPlan] = {}

    def list_pools(self, caller: Caller) -> dict[str, int]:
        """Return the node pools and their GPUs; 0 if listing nodes is forbidden, or the number is unknown."""
        is_allowed = self._connection.allowed(caller, "list", NODE)
        return {
            pool.name: pool.nodes * pool.devices if is_allowed else 0
            for pool in self._connection.profile.spec.node_pools
        }

    def start(self, caller: Caller, question: PlanQuestion) -> None:
        """Plan the visible workloads in the background. Raises LimitExceededError if a plan is in progress."""
        self.background.start(caller, lambda caller, progress: self._plan(caller, question, progress))

    def cancel(self, caller: Caller) -> None:
        """Cancel the caller's plan, if one is in progress."""
        if (progress := self.background.find(caller)) is not None:
            progress.canceled = True

    def find_progress(self, caller: Caller) -> Progress | None:
        """Return the progress of the caller's last plan; None without the rights to what it has read."""
        progress = self.background.find(caller)
        return progress if progress is not None and self._has_rights(caller, progress.rights) else None

    def last(self, caller: Caller) -> tuple[PlanQuestion, simulation.PlannedFleet] | None:
        """Return the caller's last plan; None without the rights to what it has read."""
        kept = self._kept.get(caller.name)
        return None if kept is None or not self._has_rights(caller, kept.rights) else (kept.question, kept.plan)

    def _has_rights(self, caller: Caller, rights: frozenset[tuple[Kind, str]]) -> bool:
        """Return whether a caller is allowed now to list each kind in its namespace."""
        return all(self._connection.allowed(caller, "list", kind, namespace) for kind, namespace in rights)

    def _plan(self, caller: Caller, question: PlanQuestion, progress: Progress) -> None:
        connection = self._connection
        places = [key_of(status) for status in self._reads.workloads(caller, question.namespace).value]
        if len(places) > MAX_PLANNED:
            raise LimitExceededError(
                f"a plan covers at most {MAX_PLANNED} workloads, and there are {len(places)}: select a namespace, or run "
                "ebbtide plan"
            )
        pools = question.request.pools or [row for row in self.list_pools(caller).items() if row[1]]
        if not pools:
            raise InputError(
                [Problem("PLN005", ("pools",), "no node pool has GPUs", "set the number of GPUs of a node pool")]
            )
        planned = {place.namespace for place in places}
        projects = connection.profile.spec.projects
        spaces = {name: make_project_namespace(projects, name) for name in read_quotas(connection.profile)}
        own = {name: space for name, space in spaces.items() if space in planned}
        readable = {name for name, space in own.items() if connection.allowed(caller, "list", QUOTA, space)}
        hidden = [name for name in own if name not in readable]
        notes = [f"without the quota of project {name}, which you are not allowed to read" for name in hidden]
        rights = {(TOPS[place.kind], place.namespace) for place in places} | {(QUOTA, own[name]) for name in readable}
        progress.rights = frozenset(rights if question.request.pools else {*rights, (NODE, "")})
        # The quotas of projects without a service in the plan are not used, and so they are not read.
        request = replace(question.request, pools=pools, hidden_quotas=sorted(spaces.keys() - readable))
        tops = [*connection.cache.store.tops(places)]
        # A metrics source that is slow for one caller must not hold up the others.
        services = self._read_services(tops, question.days, notes, progress)
        while not self._specs.background.acquire(timeout=TURN_SECONDS):
            progress.watch((0, 0, "Waiting for other plans and cost reports"))
        try:
            plan = self._specs.run_in_worker(
                simulation.run_plan, request, services, notes, seconds=PLAN_SECONDS, watch=progress.watch
            )
        finally:
            self._specs.background.release()
        progress.watch()
        with self._lock:
            kept = {name: row for name, row in self._kept.items() if name != caller.name}
            self._kept = dict([*kept.items(), (caller.name, _KeptPlan(question, plan, progress.rights))][-MAX_KEPT:])

    def _read_services(
        self, tops: Sequence[Object], days: float, notes: list[str], progress: Progress
    ) -> list[tuple[Object, TrafficLog]]:
        """Return the objects of the services with their recorded requests. Raises SourceError, and LimitExceededError."""
        source, now = self._connection.source, self._connection.clock.now()
        if source is None:
            raise SourceError("no metrics source: start ebbtide serve with --prometheus")
        refs = [Ref(top["metadata"]["namespace"], top["metadata"]["name"]) for top in tops]
        logs = read_traffic_logs(
            source, refs, now, notes, days, lambda read: progress.watch((read, len(refs), "services read"))
        )
        requests = sum(log.count_requests() for log in logs.values())
        if requests > simulation.REQUESTS["plan"]:
            raise LimitExceededError(
                f"the services have {requests:,} requests, and a plan simulates at most {simulation.REQUESTS['plan']:,}: "
                "select a namespace or fewer days, or run ebbtide plan"
            )
        return [(top, logs[ref]) for top, ref in zip(tops, refs, strict=True) if ref in logs]
