"""One revision's replicas: the simulator's engine on one side, the cluster's pods on the other."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.autoscaler import hpa
from ebbtide.autoscaler.arithmetic import SECOND
from ebbtide.sandbox.metadata import stamp
from ebbtide.sandbox.state import Life
from ebbtide.simulate import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.sandbox.world import Workload
    from ebbtide.simulate.setting import Setting
    from ebbtide.translation.objects import Object

#: Seconds that the pods of a revision stay which is no more.
LEFT: Final = 2.0


class Replicas:
    """A revision that is scaled. The engine's times are whole nanoseconds since the world's ``created``."""

    def __init__(self, workload: Workload, name: str, setting: Setting, *, created: int, gpus: float) -> None:
        """Stand ready without replicas; ``gpus`` is what one of them has."""
        self.workload = workload
        self.name = name
        self.setting = setting
        self.created = created
        self.gpus = gpus
        #: The cluster's pods by the engine's numbers, and the other way around.
        self.pods: dict[int, str] = {}
        self.numbers: dict[str, int] = {}
        self.engine: engine.Knative | engine.Horizontal
        self._at_once = False
        self._said: tuple[int, str, str] = (-1, "", "")
        self._hpa_said: tuple[int | None, int] = (None, -1)
        self._sums = (0, 0, 0)
        self._cold_starts = 0

    def begin(self, drawn: engine.Inputs, *, settled: bool) -> None:
        """Make the engine: of a workload that has been idle for long and has its least pods, or of a new revision."""
        self._at_once = settled
        kind = engine.Knative if self.setting.hpa is None else engine.Horizontal
        kind(self.setting, drawn, self, new=not settled)
        self._at_once = False

    # What the engine tells.

    def attached(self, simulation: engine.Simulation) -> None:
        """Take the engine on: it tells of its first pods while it is made."""
        assert isinstance(simulation, engine.Knative | engine.Horizontal)
        self.engine = simulation

    def request_closed(self, closed: engine.Closed) -> None:
        """Count a request, and note it in its pod's log."""
        seconds = (closed.ended - closed.arrived) / SECOND
        self.workload.tally.request(seconds, failed=closed.lost)
        world, pod = self.workload.world, self.pods.get(closed.pod)
        if pod is not None and world.logging:
            told = f"POST {self.workload.behaviour.path} {504 if closed.lost else 200} {seconds * 1000:.0f}ms"
            line = f"{stamp(self._absolute(closed.ended))} {told}"
            world.cluster.say(self.workload.ref.namespace, pod, self.workload.container, line)

    def ticked(self, bound: int) -> None:
        """Note nothing: what ticks decide is read once a second."""

    def pod_made(self, pod: engine.Pod) -> None:
        """Make a pod in the cluster that takes as long as the engine's."""
        world, namespace = self.workload.world, self.workload.ref.namespace
        seconds = 0.0 if self._at_once else (pod.life - pod.born) / SECOND
        start_up = self.workload.behaviour.start_up
        schedule = min(start_up.schedule, seconds)
        pull = min(start_up.pull, seconds - schedule)
        life = Life(schedule=schedule, pull=pull, start=seconds - schedule - pull, end=math.inf)
        with world.cluster.moment(self._absolute(pod.born)):
            name = world.cluster.add_pod(namespace, self.name, life)
        self.pods[pod.number] = name
        self.numbers[name] = pod.number
        world.owners[namespace, name] = self
        if world.cluster.is_refused(namespace, name):
            self.engine.hold(pod.number)

    def pod_ready(self, pod: engine.Pod) -> None:
        """Note nothing: the cluster's pod took as long."""

    def pod_deleted(self, pod: engine.Pod) -> None:
        """Let the cluster's pod go."""
        cluster = self.workload.world.cluster
        with cluster.moment(self._absolute(self.engine.now)):
            cluster.end_pod(self.workload.ref.namespace, self.pods[pod.number])

    def pod_ended(self, pod: engine.Pod) -> None:
        """Let the cluster's pod be gone."""
        world, namespace = self.workload.world, self.workload.ref.namespace
        name = self.pods.pop(pod.number)
        del self.numbers[name]
        world.owners.pop((namespace, name), None)
        with world.cluster.moment(self._absolute(self.engine.now)):
            world.cluster.drop_pod(namespace, name)

    # What the cluster tells.

    def delayed(self, pod: str) -> None:
        """Keep a pod from becoming ready."""
        number = self.numbers.get(pod)
        if number is not None:
            self.engine.hold(number)

    def placed(self, pod: str, ready: float) -> None:
        """Let a pod be ready then, in seconds since 1970."""
        life = round((ready - self.workload.world.origin) * SECOND) - self.created
        self.engine.release(self.numbers[pod], life)

    def evicted(self, pod: str) -> None:
        """Make another pod in the place of one that somebody took away."""
        self.engine.replace(self.numbers[pod])

    def reconfigure(self, setting: Setting) -> None:
        """Go by other annotations. Raises ValueError for those that have no meaning, or ask for another autoscaler."""
        if setting == self.setting:
            return
        if (setting.hpa is None) != (self.setting.hpa is None):
            raise ValueError("a revision keeps its autoscaler's class")
        self.setting = setting
        self.engine.reconfigure(setting)

    def reach(self, *, reachable: bool) -> None:
        """Go by whether a route leads to it."""
        revision = replace(self.setting.revision, reachable=reachable)
        if self.setting.hpa is None:
            self.reconfigure(replace(self.setting, revision=revision))
        elif revision != self.setting.revision:
            # Knative's class hpa knows no reachability, and its Deployment stays as it is.
            self.setting = replace(self.setting, revision=revision)

    def end(self) -> None:
        """Let all pods go."""
        world, namespace = self.workload.world, self.workload.ref.namespace
        for name in self.pods.values():
            world.owners.pop((namespace, name), None)
            world.cluster.end_pod(namespace, name, LEFT)

    # Time.

    def feed(self, times: Sequence[int], work: Sequence[int]) -> None:
        """Let requests come, at times of the world."""
        self.engine.feed([time - self.created for time in times], work)

    def step(self, until: int) -> None:
        """Let time pass up to ``until`` of the world, and tell the cluster what is decided."""
        running, until = self.engine, until - self.created
        running.step(until)
        said = (running.replicas, "True", "")
        if isinstance(running, engine.Knative):
            said = (running.replicas, *running.active)
        if said != self._said:
            self._said = said
            with self.workload.world.cluster.moment(self._absolute(until)):
                self.workload.world.cluster.scaled(self.workload.ref.namespace, self.name, *said)
        if isinstance(running, engine.Horizontal) and running.average is not None:
            self._tell_hpa(running.average, running.replicas, until)

    def _tell_hpa(self, average: int, replicas: int, until: int) -> None:
        if (average, replicas) == self._hpa_said:
            return
        self._hpa_said = (average, replicas)
        assert self.setting.hpa is not None
        of = self.setting.hpa.metrics[0]
        value = f"{average // 1000}" if average % 1000 == 0 else f"{average}m"
        current: Object = {
            "type": "Pods",
            "pods": {"metric": {"name": self.workload.metric}, "current": {"averageValue": value}},
        }
        if isinstance(of, hpa.Resource):
            told = {"averageUtilization": average // 10, "averageValue": f"{average}m"}
            current = {"type": "Resource", "resource": {"name": "cpu", "current": told}}
        status = {"currentReplicas": replicas, "desiredReplicas": replicas, "currentMetrics": [current]}
        with self.workload.world.cluster.moment(self._absolute(until)):
            self.workload.world.cluster.set_hpa(self.workload.ref.namespace, self.name, status)

    def passed(self) -> tuple[float, float, float, int]:
        """Return what came since the last call: seconds of pods and of ready ones, percent times seconds in use, cold starts."""
        sums = self.engine.sums
        now = (sums.pods, sums.ready, sums.utilization)
        pods, ready, busy = ((new - old) / SECOND for new, old in zip(now, self._sums, strict=True))
        self._sums = now
        started, self._cold_starts = self.engine.cold_starts - self._cold_starts, self.engine.cold_starts
        return pods, ready, busy, started

    def compared(self) -> tuple[float, float, float]:
        """Return what the autoscaler compares per replica: over the stable and the panic window, and the target."""
        running = self.engine
        if isinstance(running, engine.Horizontal):
            of = self.setting.hpa.metrics[0] if self.setting.hpa is not None and self.setting.hpa.metrics else None
            value = math.nan if running.average is None else running.average / 1000
            if isinstance(of, hpa.Resource):
                return value * 100, math.nan, float(of.average_utilization or math.nan)
            return value, math.nan, of.average_value / 1000 if isinstance(of, hpa.Pods) else math.nan
        stable, panic = running.averages
        ready = max(1, running.ready)
        return stable / ready, panic / ready, running.spec.target_value

    def _absolute(self, time: int) -> float:
        return self.workload.world.origin + (self.created + time) / SECOND
