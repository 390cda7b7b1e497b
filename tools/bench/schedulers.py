"""Compare the plan's pool of GPUs with a real scheduler, on random sequences of replicas that arrive and leave.

    python tools/bench/schedulers.py default --sequences 50 --kubeconfig .cluster/kubeconfig
    python tools/bench/schedulers.py kai --sequences 50 --quotas --over-quota --kubeconfig .cluster/kubeconfig

The cluster has Kubernetes' scheduler or KAI (`python -m e2e up --add kai`), for KAI with the RuntimeClass and the
parent queue of e2e/cases/34-kai. The program creates nodes without a
kubelet, and marks the pods that the scheduler binds as running. Each replica is a Deployment of one pod, so an evicted pod is
recreated. The pod is that of the translated spec, and the plan reads its demand from the same translation. Each step is the
arrival or the departure of one replica; the next one follows when nothing has changed for ``--quiet`` seconds. The default is
longer than the longest back-off of kube-scheduler (10 s, pkg/scheduler/apis/config/v1/defaults.go).

Compared are the admissions and evictions of each step, by service, and their order.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from hollow import LABEL, Cluster
from sequences import BACKENDS, Sequence, Step

from ebbtide.core.translation.objects import Object
from ebbtide.simulator.data import PodChange
from ebbtide.simulator.fleet.fleet import FleetSimulation, Training
from ebbtide.simulator.fleet.pool import GpuDemand, Holder, PoolSize

#: Time between two steps of the simulated pool, in nanoseconds.
STEP = 60 * 10**9
PATIENCE_SECONDS = 60


class Event(NamedTuple):
    """An admission or an eviction."""

    step: int
    kind: str
    service: str
    replica: int


class Replicas(Training):
    """The replicas of one service in the simulated fleet; an evicted one ends immediately and is recreated."""

    def __init__(self, index: int, demand: GpuDemand, events: list[Event], name: str) -> None:
        """Start without replicas."""
        super().__init__(index, demand, 0)
        self.changes = []
        self.events, self.name = events, name
        self.pods: dict[int, int] = {}
        """Replica by the number of its pod."""

    def create(self, replica: int) -> int:
        """Return the number of a new pod."""
        number = len(self.pods)
        self.pods[number] = replica
        return number

    def evict(self, number: int, at: int) -> PodChange:
        """End a pod, and create it again."""
        replica = self.pods[number]
        self.events.append(Event(at // STEP, "evict", self.name, replica))
        return PodChange(at, (self.create(replica),), (number,))


class Simulated(FleetSimulation):
    """The plan's fleet, whose services follow a sequence."""

    def __init__(self, sequence: Sequence) -> None:
        """Start without pods."""
        super().__init__([], [PoolSize("pool", sequence.nodes * sequence.gpus, sequence.gpus)], sequence.budgets)
        self.events: list[Event] = []
        self.replicas = [
            Replicas(index, demand, self.events, sequence.names[index]) for index, demand in enumerate(sequence.demands)
        ]
        self.by_index = {member.index: member for member in self.replicas}
        place = self.pool.place

        def record(demand: GpuDemand, key: tuple[int, int]) -> Any:
            placed = place(demand, key)
            if isinstance(placed, Holder):
                member = self.replicas[key[0]]
                self.events.append(Event(self.now, "admit", member.name, member.pods[key[1]]))
            return placed

        self.pool.place = record  # type: ignore[method-assign] # it records what the pool decides
        self.now = 0

    def play(self, steps: list[Step]) -> list[Event]:
        """Return the events of all steps."""
        for self.now, step in enumerate(steps):
            member, at = self.replicas[step.service], self.now * STEP
            if step.arrives:
                change = PodChange(at, (member.create(step.replica),), ())
            else:
                change = PodChange(at, (), (max(pod for pod, of in member.pods.items() if of == step.replica),))
            self._apply(member, change, at)
            self._schedule(at)
        return self.events


class Played:
    """One sequence on the cluster."""

    def __init__(self, cluster: Cluster, sequence: Sequence, quiet: float) -> None:
        """Create the nodes and the projects."""
        self.cluster, self.sequence, self.quiet = cluster, sequence, quiet
        self.queue: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.events: list[Event] = []
        self.bound: dict[str, str] = {}
        """Name of the replica by the UID of its bound pod."""
        self.undecided: dict[str, str] = {}
        self.decided: set[str] = set()
        self.refused: set[str] = set()
        """UIDs of the pods that the scheduler has tried to place."""
        self.present: dict[str, Step] = {}
        cluster.places[sequence.place] = self.queue
        resources = {sequence.resource: str(sequence.gpus)}
        for number in range(sequence.nodes):
            cluster.add_node(f"{sequence.place}-{number}", sequence.place, resources)
        for item in sequence.objects.values():
            cluster.apply(item)

    def play(self) -> list[Event]:
        """Return the events of all steps."""
        for number, step in enumerate(self.sequence.steps):
            item = self.sequence.make_replica(step)
            name, path = item["metadata"]["name"], self._path(item)
            if step.arrives:
                self.present[name] = step
                self.cluster.apply(item)
            else:
                del self.present[name]
                self.cluster.call("DELETE", path, {"propagationPolicy": "Background"})
                self._retry()
            self._settle(number)
        return self.events

    def _path(self, item: Object) -> str:
        namespace = item["metadata"]["namespace"]
        return f"/apis/apps/v1/namespaces/{namespace}/deployments/{item['metadata']['name']}"

    def _retry(self) -> None:
        """Let the replicas whose pods a quota refused be recreated now, in the order of their priority and age."""
        alive = {*self.bound.values(), *self.undecided.values()}
        refused = [name for name in self.present if name not in alive]
        demands = self.sequence.demands
        for name in sorted(refused, key=lambda name: -demands[self.present[name].service].priority):
            time.sleep(0.5)
            patch = {"metadata": {"annotations": {"retried": str(time.time())}}}
            namespace = self.sequence.pods[self.present[name].service]["metadata"]["namespace"]
            path = f"/apis/apps/v1/namespaces/{namespace}/replicasets"
            for item in self.cluster.call("GET", f"{path}?labelSelector={LABEL}={name}")["items"]:
                self.cluster.call("PATCH", f"{path}/{item['metadata']['name']}", patch)

    def _settle(self, number: int) -> None:
        """Record the events until nothing has changed for some time."""
        last = began = time.monotonic()
        while time.monotonic() - began < PATIENCE_SECONDS:
            if time.monotonic() - last > self.quiet and self.undecided.keys() <= self.refused and self._has_pods():
                return
            if self.queue.empty():
                time.sleep(0.05)
                continue
            kind, pod = self.queue.get()
            if self._note(number, kind, pod):
                last = time.monotonic()

    def _has_pods(self) -> bool:
        """Return whether each replica has a pod, or a quota refused it."""
        alive = {*self.bound.values(), *self.undecided.values()}
        missing = [step for name, step in self.present.items() if name not in alive]
        return not missing or any(self._is_refused(step) for step in missing)

    def _is_refused(self, step: Step) -> bool:
        path = self._path(self.sequence.make_replica(step))
        conditions = self.cluster.call("GET", path).get("status", {}).get("conditions", ())
        return any((found["type"], found["status"]) == ("ReplicaFailure", "True") for found in conditions)

    def _note(self, number: int, kind: str, pod: Any) -> bool:
        """Record a change of a pod; return whether it is one."""
        name, uid = pod["metadata"]["labels"][LABEL], pod["metadata"]["uid"]
        step = self.present.get(name)
        if kind == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            self.undecided.pop(uid, None)
            self.decided.add(uid)
            if self.bound.pop(uid, None) and step is not None:
                self._record(number, "evict", step)
            return True
        if uid in self.bound or uid in self.decided:
            return False
        if pod["spec"].get("nodeName"):
            self.undecided.pop(uid, None)
            self.bound[uid] = name
            if step is not None:
                self._record(number, "admit", step)
            return True
        conditions = pod["status"].get("conditions", ())
        if any((found["type"], found["status"]) == ("PodScheduled", "False") for found in conditions):
            self.refused.add(uid)
        is_new = uid not in self.undecided
        self.undecided[uid] = name
        return is_new

    def _record(self, number: int, kind: str, step: Step) -> None:
        self.events.append(Event(number, kind, self.sequence.names[step.service], step.replica))

    def clean(self) -> None:
        """Remove what the sequence created."""
        for name, step in [*self.present.items()]:
            del self.present[name]
            self.cluster.call(
                "DELETE", self._path(self.sequence.make_replica(step)), {"propagationPolicy": "Background"}
            )
        began = time.monotonic()
        while (self.bound or self.undecided) and time.monotonic() - began < PATIENCE_SECONDS:
            with suppress(Empty):
                self._note(0, *self.queue.get(timeout=1))
        self.cluster.remove_nodes(self.sequence.place)
        for item in self.sequence.objects.values():
            self.cluster.delete(item)


class Verdict(NamedTuple):
    """Comparison of one sequence."""

    seed: int
    events: int
    missing: int
    """Events by service and step of which one side has more."""
    same_order: bool
    same_replicas: bool


def compare(sequence: Sequence, simulated: list[Event], real: list[Event]) -> Verdict:
    """Compare the events of a sequence, and print them if they differ."""
    ours, theirs = (Counter(event[:3] for event in events) for events in (simulated, real))
    missing = max((ours - theirs).total(), (theirs - ours).total())
    ordered = [[event[:3] for event in events if event.kind == "admit"] for events in (simulated, real)]
    verdict = Verdict(sequence.seed, ours.total(), missing, ordered[0] == ordered[1], sorted(simulated) == sorted(real))
    if missing or ordered[0] != ordered[1]:
        print(f"seed {sequence.seed}: {sequence.nodes} x {sequence.gpus} GPUs, quotas {sequence.budgets}, {verdict}")
        for number, step in enumerate(sequence.steps):
            print(f"  {number} {'arrive' if step.arrives else 'leave'} {sequence.names[step.service]} #{step.replica}")
            for who, events in (("plan", simulated), ("real", real)):
                found = [f"{e.kind} {e.service}#{e.replica}" for e in events if e.step == number]
                print(f"      {who}: {'; '.join(found)}")
    return verdict


def main() -> None:
    """Play the sequences and print a summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scheduler", choices=[*BACKENDS])
    parser.add_argument("--sequences", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--lanes", type=int, default=10, help="sequences at the same time")
    parser.add_argument("--quiet", type=float, default=11.0)
    parser.add_argument("--projects", type=int, default=1)
    parser.add_argument("--quotas", action="store_true", help="projects have random quotas of GPUs")
    parser.add_argument("--over-quota", action="store_true", help="projects may use more than their quota")
    parser.add_argument("--itself", action="store_true", help="compare the scheduler with itself instead of the plan")
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--kubeconfig", required=True)
    given = parser.parse_args()
    cluster = Cluster(given.kubectl, given.kubeconfig)

    def play(sequence: Sequence) -> list[Event]:
        played = Played(cluster, sequence, given.quiet)
        try:
            return played.play()
        finally:
            played.clean()

    def judge(seed: int) -> Verdict:
        sequence = Sequence(given.scheduler, seed, given.projects, given.quotas, given.over_quota)
        expected = play(sequence) if given.itself else Simulated(sequence).play(sequence.steps)
        return compare(sequence, expected, play(sequence))

    try:
        with ThreadPoolExecutor(given.lanes) as pool:
            verdicts = [*pool.map(judge, range(given.first, given.first + given.sequences))]
    finally:
        cluster.proxy.terminate()
    counts = Counter(verdict.missing for verdict in verdicts)
    print(f"{len(verdicts)} sequences, {sum(verdict.events for verdict in verdicts)} events")
    print(f"equal {counts[0]}, one event {counts[1]}, more {len(verdicts) - counts[0] - counts[1]}")
    print(f"same order of admission {sum(verdict.same_order for verdict in verdicts)}")
    print(f"same replicas {sum(verdict.same_replicas for verdict in verdicts)}")


if __name__ == "__main__":
    main()
