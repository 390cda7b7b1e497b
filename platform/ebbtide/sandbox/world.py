"""A cluster that lives: requests come, Knative's autoscalers decide, pods start and end, and somebody counts.

The engine is the simulator's (``ebbtide.simulate.engine``), one for each revision and fed with requests as time goes on,
so that replicas are what ``ebbtide simulate`` foretells for the same traffic. The cluster is
``ebbtide.sandbox.simulated``: it decides whether a pod has a place, and where it finds none the engine's pod waits. Time
passes in whole seconds, whoever asks and however often, so that the same calls at the same times give the same history.

Upstream, for who sends where: knative.dev/serving pkg/reconciler/route/traffic (percent by revision).
"""

from __future__ import annotations

import logging
import math
import threading
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from ebbtide.autoscaler import hpa
from ebbtide.autoscaler.arithmetic import SECOND
from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.base.quantities import whole
from ebbtide.cluster.client.protocol import DEPLOYMENT, KNATIVE, KSERVE, POD, REVISION, MissingError
from ebbtide.cluster.read.pods import asked
from ebbtide.cluster.write import apply
from ebbtide.documents import load
from ebbtide.documents.check import Batch
from ebbtide.sandbox.clocks import Past, Standing
from ebbtide.sandbox.counts import Counted
from ebbtide.sandbox.replicas import Behaviour, Replicas, Workload
from ebbtide.sandbox.simulated import Simulated
from ebbtide.sandbox.state import Life
from ebbtide.sandbox.store import bare
from ebbtide.sandbox.traffic import SILENCE, Sender, shaped
from ebbtide.simulate import engine
from ebbtide.simulate.load import between
from ebbtide.simulate.servers import ServerError, server
from ebbtide.simulate.setting import NotSimulated, Setting, from_annotations
from ebbtide.slo.source import Ref
from ebbtide.translation.gpu import BACKENDS, is_gpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Clock
    from ebbtide.profile.models import Profile
    from ebbtide.simulate.servers import Server
    from ebbtide.translation.objects import Object

LOG: Final = logging.getLogger(__name__)
#: Annotations of a workload's own object that say how it behaves here: traffic as a shape in words, or ``none``, and the
#: server, both as ``ebbtide simulate`` takes them.
TRAFFIC: Final = "simulated.ebbtide.dev/traffic"
SERVER: Final = "simulated.ebbtide.dev/server"
#: Seconds between a thread's looks at the time.
LOOK: Final = 0.25
#: Seconds after which what was counted is passed on, where nobody asks before.
COUNT: Final = 10
#: Seconds after which a training's pod that had to go is made again.
AGAIN: Final = 10.0
#: Workloads that went, of which it is still known what was counted.
REMEMBERED: Final = 200
#: Requests a second, and in a burst or one turn of a shape, that one process works on beside all else.
MOST_RATE: Final = 200.0
MOST_REQUESTS: Final = 200_000


@dataclass(slots=True)
class Training:
    """One of a job's pods, which is kept up beside the services; ``made`` counts how often it came."""

    namespace: str
    name: str
    number: int
    spec: Object
    made: int = 0


class World:
    """A cluster, what happens in it, and what was counted.

    ``origin`` is when it began, in seconds since 1970: before the clock's present, where a past is to be made first. Until
    ``arrive`` is called, time stands in the past and moves by ``run_until``; from then on it is the clock's.
    """

    def __init__(
        self,
        clock: Clock,
        profile: Profile,
        *,
        seed: int = 0,
        origin: float | None = None,
        behaviours: dict[Ref, Behaviour] | None = None,
    ) -> None:
        """Begin with an empty cluster."""
        self.profile = profile
        self.seed = seed
        self.behaviours = dict(behaviours or {})
        start = clock.now() if origin is None else origin
        self.origin = start - start % COUNT
        self.clock = Past(clock, self.origin)
        self.cluster = Simulated(
            self.clock,
            gpus={},
            domain=profile.spec.domain,
            driver=self,
            max_scale_limit=whole(profile.spec.knative.autoscaler.get("max-scale-limit", "0")) or 0,
            real=not isinstance(clock, Standing),
        )
        self.source = Counted(self._recount)
        #: Whether requests are noted in pods' logs: not in a past that nobody will read.
        self.logging = True
        self.owners: dict[tuple[str, str], Replicas] = {}
        self.workloads: dict[tuple[str, str], Workload] = {}
        self._second = 0
        self._settled = False
        self._bursts = 0
        self._gone: dict[Ref, None] = {}
        self._trainings: dict[tuple[str, str], Training] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    # What a user does.

    def apply(self, document: dict[str, Any], *, settled: bool = False) -> None:
        """Apply a spec. ``settled``: as if it had been there for long and idle, as a simulation begins.

        Raises ValueError with what is wrong with it.
        """
        batch = Batch(self.profile)
        objects, made, problems = batch.add(load(document, self.profile))
        wrong = [f"{problem.path}: {problem.message}" for problem in problems if problem.severity == "error"]
        if wrong or made is None or made.plan is None:
            raise ValueError("; ".join(wrong))
        self._settled = settled
        try:
            planned = apply.plan(self.cluster, apply.Workload(tuple(objects), made.plan))
            apply.carry_out(self.cluster, planned, self.clock)
        finally:
            self._settled = False

    def send(self, ref: Ref, rate: float, seconds: float) -> int:
        """Send requests at random at ``rate`` a second, beside the usual ones, and return how many there will be.

        Raises MissingError where there is no such workload that gets requests, ValueError for more than one process can
        work on.
        """
        if not (0 < rate <= MOST_RATE and 0 < rate * seconds <= MOST_REQUESTS):
            raise ValueError(_many(rate, rate * seconds))
        with self.cluster.lock:
            self.cluster.settle()
            found = next((each for each in self.workloads.values() if each.ref == ref), None)
            if found is None or found.sender is None:
                raise MissingError(f"there is no workload {ref.name} in namespace {ref.namespace} that gets requests")
            self._bursts += 1
            return found.sender.burst(self._second * SECOND, rate, seconds, self._bursts)

    def train(self, namespace: str, name: str, count: int, spec: Object) -> None:
        """Keep so many pods up beside the services; whoever is driven out comes again."""
        for number in range(count):
            self._train(Training(namespace, name, number, spec))

    def run_until(self, time: float) -> None:
        """Let time pass up to ``time`` in seconds since 1970, where it does not by itself."""
        left = time - self.clock.now()
        if left > 0:
            self.clock.sleep(left)
        self.cluster.settle()

    def arrive(self) -> None:
        """Let the past end: bring everything up to the clock's present, and go on with it."""
        self.run_until(self.clock.clock.now())
        self.clock.at = None
        self.cluster.settle()

    # By itself.

    def start(self) -> None:
        """Let time pass in a thread of its own, until ``stop``."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name="world", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @contextmanager
    def running(self) -> Iterator[World]:
        """Let time pass while what is inside is done."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK):
            try:
                self.cluster.settle()
            except Exception:
                LOG.exception("a second of the simulated cluster went wrong, and time goes on")

    # What drives it: the cluster's Driver, which describes these methods.

    def advance(self, until: float) -> None:
        target = math.floor(until - self.origin)
        while self._second < target:
            self._second += 1
            now = self._second * SECOND
            self.cluster.run_due(self.origin + self._second)
            for key, workload in [*self.workloads.items()]:
                self._pass(key, workload, now)
            if self._second % COUNT == 0:
                self._count()

    def _pass(self, key: tuple[str, str], workload: Workload, now: int) -> None:
        """Let a second pass for a workload. What is wrong with one must not stop the time of all, where that goes on."""
        try:
            workload.send(now)
            workload.step(now)
        except Exception:
            if not self.cluster.real:
                raise
            LOG.exception("the workload %s in namespace %s stands still from now on", key[1], key[0])
            del self.workloads[key]

    def _count(self) -> None:
        for workload in self.workloads.values():
            workload.count(self._second * SECOND)

    def _recount(self) -> None:
        with self.cluster.lock:
            self.cluster.settle()
            self._count()

    def revision_made(self, namespace: str, name: str) -> None:
        """Give a revision an engine."""
        revision, workload = self._of(namespace, name)
        created = self._second * SECOND
        setting = self._setting(revision)
        pods = self.cluster.peek(DEPLOYMENT, namespace, f"{name}-deployment")
        wanted = asked(at(pods, "spec", "template", default={}))
        gpus = sum(amount * self._share(resource) for resource, amount in wanted.items() if is_gpu(resource))
        replicas = Replicas(workload, name, setting, created=created, gpus=gpus)
        workload.revisions[name] = replicas
        workload.container = str(at(revision, "spec", "containers", 0, "name", default="user-container"))
        workload.metric = str(at(revision, "metadata", "annotations", keys.METRIC, default=""))
        seed, start_up = self.seed_of(workload.ref, name), workload.behaviour.start_up
        # The engine takes its requests from ``feed``: those drawn here are for a sender.
        traffic = shaped(workload.behaviour.traffic, seed) if self._settled else SILENCE
        drawn = engine.prepare(setting, traffic, workload.server, start_up, seed)
        if self._settled:
            workload.sender = Sender.of(workload.behaviour.traffic, workload.server, seed, created + drawn.lead, drawn)
        try:
            replicas.begin(drawn, settled=self._settled)
        except ValueError as error:
            # A window of no length, say. Nothing was made of it so far.
            replicas.setting = self._fixed(revision, error)
            replicas.begin(drawn, settled=self._settled)
        replicas.step(created)

    def revision_changed(self, namespace: str, name: str) -> None:
        revision, workload = self._of(namespace, name)
        replicas = workload.revisions.get(name)
        if replicas is not None:
            made = self._setting(revision)
            kept = replace(made.revision, reachable=replicas.setting.revision.reachable)
            before = replicas.setting
            try:
                replicas.reconfigure(replace(made, revision=kept))
            except ValueError as error:
                self.cluster.tell(revision, "Warning", "NotSimulated", f"its new annotations are not followed: {error}")
                replicas.setting = before

    def _remember(self, ref: Ref) -> None:
        """Keep what was counted of the last workloads that went."""
        self._gone.pop(ref, None)
        self._gone[ref] = None
        if len(self._gone) > REMEMBERED:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            if all(workload.ref != oldest for workload in self.workloads.values()):
                self.source.tallies.pop(oldest, None)

    def revision_gone(self, namespace: str, name: str) -> None:
        for key, workload in [*self.workloads.items()]:
            if key[0] == namespace and name in workload.revisions:
                workload.count(self._second * SECOND)
                workload.revisions.pop(name).end()
                workload.routes = tuple(route for route in workload.routes if route[0].name != name)
                if not workload.revisions:
                    del self.workloads[key]
                    self._remember(workload.ref)

    def routed(self, namespace: str, service: str) -> None:
        """Send requests as a service's traffic says, and begin to."""
        workload = self.workloads.get((namespace, service))
        item = self.cluster.peek(KNATIVE, namespace, service)
        if workload is None or item is None:
            return
        shares: dict[str, int] = {}
        for row in at(item, "status", "traffic", default=[]):
            shares[row["revisionName"]] = shares.get(row["revisionName"], 0) + (row.get("percent") or 0)
        workload.routes = tuple(
            (workload.revisions[name], percent)
            for name, percent in shares.items()
            if percent and name in workload.revisions
        )
        newest = at(item, "status", "latestCreatedRevisionName")
        for name, replicas in workload.revisions.items():
            replicas.reach(reachable=name in shares or name == newest)
        if workload.sender is None and workload.routes:
            seed = self.seed_of(workload.ref)
            workload.sender = Sender.of(workload.behaviour.traffic, workload.server, seed, self._second * SECOND)

    def pod_delayed(self, namespace: str, name: str) -> None:
        if (replicas := self.owners.get((namespace, name))) is not None:
            replicas.delayed(name)

    def pod_placed(self, namespace: str, name: str, ready: float) -> None:
        if (replicas := self.owners.get((namespace, name))) is not None:
            replicas.placed(name, ready)

    def pod_evicted(self, namespace: str, name: str) -> None:
        """Make another pod in the place of one that had to go."""
        if (replicas := self.owners.get((namespace, name))) is not None:
            replicas.engine.replace(replicas.numbers[name])
        training = self._trainings.pop((namespace, name), None)
        if training is not None:
            self.cluster.later(AGAIN, lambda: self._train(training))

    # Parts.

    def seed_of(self, ref: Ref, revision: str = "") -> int:
        """Return what is drawn by for a workload; a revision after the first one draws on its own."""
        own = revision if not revision.endswith("-00001") else ""
        return crc32(f"{self.seed}/{ref.namespace}/{ref.name}/{own}".encode())

    def _train(self, training: Training) -> None:
        training.made += 1
        name = f"{training.name}-{training.number}-{training.made}"
        pod = {**bare(POD, name, training.namespace), "spec": deepcopy(training.spec)}
        pod["metadata"]["labels"] = {"job-name": training.name}
        self._trainings[training.namespace, name] = training
        self.cluster.add_alone(pod, Life(end=2.0))

    def _of(self, namespace: str, name: str) -> tuple[Object, Workload]:
        """Return a revision and the workload that it is of, a new one where there is none yet."""
        revision = self.cluster.peek(REVISION, namespace, name)
        assert revision is not None
        service = str(revision["metadata"]["labels"][keys.KNATIVE_SERVICE])
        found = self.workloads.get((namespace, service))
        if found is None:
            top = self.cluster.peek(KNATIVE, namespace, service)
            owner = at(top, "metadata", "labels", keys.KSERVE_SERVICE)
            if owner is not None:
                top = self.cluster.peek(KSERVE, namespace, owner)
            ref = Ref(namespace, owner or service)
            behaviour, made = self._behaviour(ref, top or {})
            found = Workload(self, ref, behaviour, made, self.source.tally(ref), counted=self._second * SECOND)
            self.workloads[namespace, service] = found
        return revision, found

    def _behaviour(self, ref: Ref, top: Object) -> tuple[Behaviour, Server]:
        """Return how a workload behaves: by the table, by its annotations, or as anything does."""
        found = self.behaviours.get(ref, Behaviour())
        annotations = at(top, "metadata", "annotations", default={})
        asked_for = replace(
            found, traffic=annotations.get(TRAFFIC, found.traffic), server=annotations.get(SERVER, found.server)
        )
        try:
            return asked_for, _server(asked_for)
        except (ValueError, ServerError) as error:
            self.cluster.tell(top, "Warning", "NotSimulated", f"its annotations are not followed: {error}")
            return found, server(found.server)

    def _setting(self, revision: Object) -> Setting:
        """Return what scales a revision; what cannot be simulated keeps its least number of replicas."""
        annotations = at(revision, "metadata", "annotations", default={})
        spec = revision["spec"]
        try:
            return from_annotations(
                annotations,
                self.profile.spec,
                container_concurrency=spec.get("containerConcurrency"),
                timeout=spec.get("timeoutSeconds"),
                cpu_request=any(at(row, "resources", "requests", "cpu") for row in spec.get("containers", ())),
            )
        except NotSimulated as error:
            return self._fixed(revision, error)

    def _fixed(self, revision: Object, error: ValueError) -> Setting:
        """Return what keeps a revision at its least number of replicas, and say why."""
        self.cluster.tell(revision, "Warning", "NotSimulated", f"its replicas stay as they are: {error}")
        least = max(int(at(revision, "metadata", "annotations", keys.MIN_SCALE, default=1)), 1)
        return Setting(metric="cpu", hpa=hpa.Spec(min_replicas=least, max_replicas=least))

    def _share(self, resource: str) -> float:
        """Return what one of a GPU resource is of a whole GPU."""
        for pool in self.profile.spec.node_pools:
            counts = BACKENDS[pool.backend].advertises(pool)
            if resource in counts:
                return 1.0 / counts[resource]
        return 1.0


def _server(behaviour: Behaviour) -> Server:
    """Return a behaviour's server. Raises ValueError and ServerError for what cannot be had here.

    Annotations may come from anybody: no file is read for them, and nobody is sent more than can be worked on.
    """
    if behaviour.server.startswith("empirical"):
        raise ServerError("no file is read here: say lognormal:median=…,sigma=… or another of a server's forms")
    made = server(behaviour.server)
    traffic = shaped(behaviour.traffic, 0)
    count = len(traffic.times)
    if count:
        rate = count / traffic.seconds
        if rate > MOST_RATE or count > MOST_REQUESTS:
            raise ValueError(_many(rate, count))
        made.alone(between(traffic, 0.0, 0.0), np.random.default_rng(0))
    return made


def _many(rate: float, count: float) -> str:
    return f"{rate:g} requests/s, {count:g} in all: at most {MOST_RATE:g} and {MOST_REQUESTS} are sent here, and some"
