"""A workload and its revisions' replicas, which connect the simulator's engine with the cluster's pods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ebbtide.cluster.client.protocol import HPA, REVISION
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.read.records import format_decision
from ebbtide.cluster.slo.source import Ref, StartTimes
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.autoscaler.floor import FloorDecision
from ebbtide.core.base import keys
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.counts import PeriodCounts, Tally, TokenTally
from ebbtide.sandbox.simulated import Simulated
from ebbtide.sandbox.state import PodLife
from ebbtide.sandbox.store import Place
from ebbtide.sandbox.traffic import Sender
from ebbtide.simulator.data import StartUp
from ebbtide.simulator.engine import engine
from ebbtide.simulator.engine.inputs import SimulationInputs
from ebbtide.simulator.engine.setting import Setting
from ebbtide.simulator.engine.state import Stream, draw
from ebbtide.simulator.traffic.server_model import Server

#: Seconds until the pods of a deleted revision are gone.
END_SECONDS: Final = 2.0
#: The term of the simulated controller, which is the only one.
LEADER: Final = "ebbtide-controller-0_1 since 2026-01-01T00:00:00Z"
#: The sum of the routes' percentages, among which requests are distributed.
_PERCENT_TOTAL: Final = 100


@dataclass(frozen=True, slots=True)
class SimulatedBehavior:
    """The simulated behavior of a service: its traffic, its server, and the start-up time of its pods."""

    traffic: str = "diurnal:0.2rps..2rps,1h,20m"
    server: str = "lognormal:median=300ms,sigma=0.5"
    start_up: StartUp = field(default_factory=lambda: StartUp(schedule=1.0, pull=2.0, load=3.0, ready=0.0))
    #: The request path that appears in logs.
    path: str = "/predict"


class WorkloadEnvironment(Protocol):
    """The environment of a workload: ``ebbtide.sandbox.world.World``."""

    cluster: Simulated
    #: The start of time, in seconds since 1970.
    origin: float
    #: True if requests are written to pods' logs.
    logging: bool
    #: The revision that each pod belongs to.
    owners: dict[Place, RevisionReplicas]

    def revision_changed(self, namespace: str, name: str) -> None:
        """Apply a revision's settings again."""


@dataclass(slots=True)
class SimulatedWorkload:
    """A Knative Service: its revisions, its routes, and the sender of its requests."""

    world: WorkloadEnvironment
    ref: Ref
    behavior: SimulatedBehavior
    server: Server
    tally: Tally
    #: The server's container, and the name of the metric that its HPA reads.
    container: str = ""
    metric: str = ""
    revisions: dict[str, RevisionReplicas] = field(default_factory=dict)
    #: Routes with percentages; empty until a revision is ready.
    routes: tuple[tuple[RevisionReplicas, int], ...] = ()
    sender: Sender | None = None
    #: Of a server that produces tokens: its counts, the share of a response's time before its first token, and its tokens.
    token_tally: TokenTally | None = None
    token_share: float = 0.0
    token_counts: tuple[int, int] = (0, 0)
    sent: int = 0
    # Since the last call of ``count``: its time, and seconds up, scaled to zero, and of requests in flight.
    counted_at: int = 0
    up_seconds: float = 0.0
    zero_seconds: float = 0.0
    in_flight_seconds: float = 0.0

    def count_tokens(self, closed: engine.ClosedRequest, ended: float) -> None:
        """Count the tokens of a response that ended at ``ended``, if the server produces tokens."""
        if self.token_tally is None:
            return
        busy = (closed.ended - closed.began) / SECOND
        first = busy * self.token_share
        prompt, output = self.token_counts
        self.token_tally.response(ended, first, (busy - first) / max(output - 1, 1), prompt, output)

    @property
    def is_split(self) -> bool:
        """True if several revisions receive requests, which are then also counted by revision."""
        return len(self.routes) > 1

    def send(self, until: int) -> None:
        """Send the requests that are due until a time of the world."""
        if self.sender is None:
            return
        times, work = self.sender.until(until)
        if not times:
            return
        if not self.routes:
            # Without a route, the gateway answers with an error.
            for _ in times:
                self.tally.request(0.0, failed=True)
        elif len(self.routes) == 1:
            self.routes[0][0].feed(times, work)
        else:
            self._split(times, work)

    def _split(self, times: list[int], work: list[int]) -> None:
        for time, duration in zip(times, work, strict=True):
            self.sent += 1
            remaining = draw(self.sender.seed if self.sender else 0, Stream.PICK, self.sent, _PERCENT_TOTAL)
            for replicas, percent in self.routes:
                remaining -= percent
                if remaining < 0:
                    replicas.feed((time,), (duration,))
                    break

    def step(self, until: int) -> None:
        """Advance one second."""
        ready = desired = in_flight = 0
        for replicas in [*self.revisions.values()]:
            running = replicas.engine
            replicas.step(until)
            ready += running.ready
            desired += running.replicas
            in_flight += running.in_flight
        self.up_seconds += 1.0 if ready or not desired else 0.0
        self.zero_seconds += 0.0 if ready or desired else 1.0
        self.in_flight_seconds += in_flight

    def count(self, now: int) -> None:
        """Pass the counts until a time of the world to the tally."""
        if now == self.counted_at:
            return
        pod_seconds = ready_seconds = busy_seconds = gpu_seconds = 0.0
        cold_starts = ready = desired = 0
        for replicas in self.revisions.values():
            replicas.engine.step(now - replicas.created)
            new_pod_seconds, new_ready_seconds, new_busy_seconds, new_cold_starts = replicas.passed()
            pod_seconds += new_pod_seconds
            ready_seconds += new_ready_seconds
            gpu_seconds += new_pod_seconds * replicas.gpus
            busy_seconds += new_busy_seconds if replicas.gpus else 0.0
            cold_starts += new_cold_starts
            ready += replicas.engine.ready
            desired += replicas.engine.replicas
        compared = self._compare()
        origin = self.world.origin
        self.tally.passed(
            origin + self.counted_at / SECOND,
            origin + now / SECOND,
            PeriodCounts(
                self.up_seconds,
                self.zero_seconds,
                pod_seconds,
                ready_seconds,
                gpu_seconds,
                cold_starts,
                self.in_flight_seconds,
                busy_seconds,
                ready,
                desired,
                *compared,
            ),
        )
        for replicas in self.revisions.values():
            running = replicas.engine
            stable, panic, target = replicas.compared()
            counts = PeriodCounts(
                ready=running.ready, wanted=running.replicas, stable=stable, panic=panic, target=target
            )
            replicas.tally.passed(origin + self.counted_at / SECOND, origin + now / SECOND, counts)
        self.counted_at = now
        self.up_seconds = self.zero_seconds = self.in_flight_seconds = 0.0

    def _compare(self) -> tuple[float, float, float]:
        """Return what the autoscalers of the routed revisions compare, per ready replica of all of them."""
        if not self.routes:
            return math.nan, math.nan, math.nan
        _, _, target = max(self.routes, key=lambda route: route[1])[0].compared()
        pods = [max(1, replicas.engine.ready) for replicas, _ in self.routes]
        values = [replicas.compared() for replicas, _ in self.routes]
        stable, panic = (
            sum(row[index] * count for row, count in zip(values, pods, strict=True)) / sum(pods) for index in range(2)
        )
        return stable, panic, target


class RevisionReplicas:
    """A scaled revision. The engine's times are whole nanoseconds since the world's ``created``."""

    def __init__(
        self, workload: SimulatedWorkload, name: str, setting: Setting, tally: Tally, *, created: int, gpus: float
    ) -> None:
        """Prepare a revision without replicas; ``tally`` counts its requests, ``gpus`` is the number of GPUs per replica."""
        self.workload = workload
        self.tally = tally
        self.cluster, self.namespace = workload.world.cluster, workload.ref.namespace
        self.name = name
        self.setting = setting
        self.created = created
        self.gpus = gpus
        #: The cluster's pods by the engine's numbers, and the reverse.
        self.pods: dict[int, str] = {}
        self.numbers: dict[str, int] = {}
        self.engine: engine.KnativeSimulation | engine.HpaSimulation
        self._is_settled = False
        self._reported: tuple[int, str, str] = (-1, "", "")
        #: The floor that the revision has: its minimum until the first decision.
        self._floor = setting.revision.min_scale or 0
        self._decision: FloorDecision | None = None
        self._reported_hpa: tuple[int | None, int] = (None, -1)
        self._sums = (0, 0, 0)
        self._cold_starts = 0

    def begin(self, drawn: SimulationInputs, *, settled: bool) -> None:
        """Create the engine: ``settled`` for a long-idle workload at its minimum replicas, otherwise for a new revision."""
        self._is_settled = settled
        engine.simulation_class(self.setting)(self.setting, drawn, self, new=not settled)
        self._is_settled = False

    # Callbacks of the engine.

    def attached(self, simulation: engine.Simulation) -> None:
        """Store the engine, which reports its first pods while it is being constructed."""
        assert isinstance(simulation, engine.KnativeSimulation | engine.HpaSimulation)
        self.engine = simulation

    def request_closed(self, closed: engine.ClosedRequest) -> None:
        """Count a request, and write it to its pod's log."""
        seconds = (closed.ended - closed.arrived) / SECOND
        self.workload.tally.request(seconds, failed=closed.lost)
        if not closed.lost:
            self.workload.count_tokens(closed, self._absolute(closed.ended))
        if self.workload.is_split:
            self.tally.request(seconds, failed=closed.lost)
        world, pod = self.workload.world, self.pods.get(closed.pod)
        if pod is not None and world.logging:
            request_text = f"POST {self.workload.behavior.path} {504 if closed.lost else 200} {seconds * 1000:.0f}ms"
            line = f"{format_timestamp(self._absolute(closed.ended))} {request_text}"
            self.cluster.say(self.namespace, pod, self.workload.container, line)

    def ticked(self, bound: int) -> None:
        """Do nothing: decisions are read once per second."""

    def pod_made(self, pod: engine.PodEvent) -> None:
        """Create a pod in the cluster with the engine's start-up time; one of a settled workload has started before."""
        start_up = self.workload.behavior.start_up
        born = pod.born - round(start_up.seconds * SECOND) if self._is_settled else pod.born
        seconds = start_up.seconds if self._is_settled else (pod.life - pod.born) / SECOND
        schedule = min(start_up.schedule, seconds)
        pull = min(start_up.pull, seconds - schedule)
        life = PodLife(schedule=schedule, pull=pull, start=seconds - schedule - pull, end=math.inf)
        with self._moment(born):
            name = self.cluster.add_pod(self.namespace, self.name, life)
        self.pods[pod.number] = name
        self.numbers[name] = pod.number
        self.workload.world.owners[self.namespace, name] = self
        if self.cluster.is_refused(self.namespace, name):
            self.engine.hold(pod.number)

    def pod_ready(self, pod: engine.PodEvent) -> None:
        """Record the start; the cluster's pod has the same start-up time."""
        if self._is_settled:
            return
        created, ready = self._absolute(pod.born), self._absolute(pod.life)
        started = max(created, ready - self.workload.behavior.start_up.load)
        scheduled = max(created, started - self.workload.behavior.start_up.pull)
        times = StartTimes(self.pods[pod.number], created, scheduled, scheduled, started, ready)
        self.workload.tally.starts.append(times)

    def pod_deleted(self, pod: engine.PodEvent) -> None:
        """Delete the cluster's pod."""
        with self._moment(self.engine.now):
            self.cluster.end_pod(self.namespace, self.pods[pod.number])

    def pod_ended(self, pod: engine.PodEvent) -> None:
        """Remove the cluster's deleted pod."""
        name = self.pods.pop(pod.number)
        del self.numbers[name]
        self.workload.world.owners.pop((self.namespace, name), None)
        with self._moment(self.engine.now):
            self.cluster.drop_pod((self.namespace, name))

    # Calls of the cluster.

    def delayed(self, pod: str) -> None:
        """Keep a pod from becoming ready."""
        number = self.numbers.get(pod)
        if number is not None:
            self.engine.hold(number)

    def placed(self, pod: str, ready: float) -> None:
        """Set the time at which a delayed pod becomes ready, in seconds since 1970."""
        life = round((ready - self.workload.world.origin) * SECOND) - self.created
        self.engine.release(self.numbers[pod], life)

    def reconfigure(self, setting: Setting) -> None:
        """Apply changed annotations. Raises ValueError if they are invalid or change the autoscaler's class."""
        if setting == self.setting:
            return
        if engine.simulation_class(setting) != engine.simulation_class(self.setting):
            raise ValueError("the autoscaler class of a revision cannot be changed")
        self.setting = setting
        self.engine.reconfigure(setting)

    def reach(self, *, reachable: bool) -> None:
        """Set whether a route sends traffic to the revision."""
        revision = replace(self.setting.revision, reachable=reachable)
        if self.setting.hpa is None:
            self.reconfigure(replace(self.setting, revision=revision))
        elif revision != self.setting.revision:
            # Knative's class hpa ignores reachability, and leaves the Deployment unchanged.
            self.setting = replace(self.setting, revision=revision)

    def end(self) -> None:
        """Delete all pods."""
        for name in self.pods.values():
            self.workload.world.owners.pop((self.namespace, name), None)
            self.cluster.end_pod(self.namespace, name, END_SECONDS)

    # Time.

    def feed(self, times: Sequence[int], work: Sequence[int]) -> None:
        """Add requests, at times of the world."""
        self.engine.feed([time - self.created for time in times], work)

    def step(self, until: int) -> None:
        """Advance to a time of the world, and apply the autoscaler's decisions to the cluster."""
        simulation, until = self.engine, until - self.created
        simulation.step(until)
        decision = (simulation.replicas, "True", "")
        if isinstance(simulation, engine.KnativeSimulation):
            decision = (simulation.replicas, *simulation.active)
        if decision != self._reported:
            self._reported = decision
            with self._moment(until):
                self.cluster.scaled(self.namespace, self.name, *decision)
        if isinstance(simulation, engine.FloorSimulation) and simulation.decision is not None:
            self._write_floor(simulation.decision, until)
        if isinstance(simulation, engine.HpaSimulation) and simulation.average is not None:
            self._tell_hpa(simulation.average, simulation.replicas, until)

    def _write_floor(self, decision: FloorDecision, until: int) -> None:
        """Annotate the revision with a changed floor, as Ebbtide's controller does."""
        if decision is self._decision:
            return
        self._decision = decision
        # The controller reads a manual minimum of the workload at each step.
        self.workload.world.revision_changed(self.namespace, self.name)
        if decision.floor == self._floor:
            return
        self._floor = decision.floor
        with self._moment(until):
            annotations = {
                keys.MIN_SCALE: str(decision.floor),
                keys.DECISION: format_decision(decision, format_timestamp(self._absolute(until))),
                keys.LEADER: LEADER,
            }
            self.cluster.patch(REVISION, self.name, self.namespace, {"metadata": {"annotations": annotations}})

    def _tell_hpa(self, average: int, replicas: int, until: int) -> None:
        if (average, replicas) == self._reported_hpa:
            return
        self._reported_hpa = (average, replicas)
        assert self.setting.hpa is not None
        metric = self.setting.hpa.metrics[0]
        value = f"{average // 1000}" if average % 1000 == 0 else f"{average}m"
        current: Object = {
            "type": "Pods",
            "pods": {"metric": {"name": self.workload.metric}, "current": {"averageValue": value}},
        }
        if isinstance(metric, hpa.ResourceMetric):
            utilization = {"averageUtilization": average // 10, "averageValue": f"{average}m"}
            current = {"type": "Resource", "resource": {"name": "cpu", "current": utilization}}
        status = {"currentReplicas": replicas, "desiredReplicas": replicas, "currentMetrics": [current]}
        with self._moment(until):
            self.cluster.set_status(HPA, self.namespace, self.name, status)

    def passed(self) -> tuple[float, float, float, int]:
        """Return sums since the last call: pod seconds, ready seconds, utilization percent times seconds, cold starts."""
        sums = self.engine.sums
        now = (sums.pods, sums.ready, sums.utilization)
        pod_seconds, ready_seconds, busy_seconds = (
            (new - old) / SECOND for new, old in zip(now, self._sums, strict=True)
        )
        self._sums = now
        cold_starts, self._cold_starts = self.engine.cold_starts - self._cold_starts, self.engine.cold_starts
        return pod_seconds, ready_seconds, busy_seconds, cold_starts

    def compared(self) -> tuple[float, float, float]:
        """Return the values that the autoscaler compares per replica: stable window, panic window, and target."""
        simulation = self.engine
        if isinstance(simulation, engine.HpaSimulation):
            metric = self.setting.hpa.metrics[0] if self.setting.hpa is not None and self.setting.hpa.metrics else None
            value = math.nan if simulation.average is None else simulation.average / 1000
            if isinstance(metric, hpa.ResourceMetric):
                return value * 100, math.nan, float(metric.average_utilization or math.nan)
            return value, math.nan, metric.average_value / 1000 if isinstance(metric, hpa.PodsMetric) else math.nan
        stable, panic = simulation.averages
        ready = max(1, simulation.ready)
        return stable / ready, panic / ready, simulation.spec.target_value

    def _moment(self, time: int) -> AbstractContextManager[None]:
        return self.cluster.moment(self._absolute(time))

    def _absolute(self, time: int) -> float:
        return self.workload.world.origin + (self.created + time) / SECOND
