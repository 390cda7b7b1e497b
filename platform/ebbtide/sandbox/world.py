"""A running simulated cluster: requests arrive, Knative's autoscalers decide, pods start and end, and metrics are counted.

The engine is the simulator's (``ebbtide.simulator.engine.engine``), one per revision. It receives requests as time passes, so that
the replicas match what ``ebbtide simulate`` computes for the same traffic. The cluster is ``ebbtide.sandbox.simulated``: it
decides whether a pod is scheduled; if not, the engine's pod waits. Time passes in whole seconds, independently of the
callers, so that the same calls at the same times give the same history.

Upstream, for the traffic split: knative.dev/serving pkg/reconciler/route/traffic (percent by revision).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from ebbtide.cluster.client.protocol import DEPLOYMENT, KNATIVE, KSERVE, POD, REVISION, Clock, MissingError
from ebbtide.cluster.read.pods import sum_requests
from ebbtide.cluster.read.records import read_scale_record
from ebbtide.cluster.slo.source import Ref
from ebbtide.cluster.write import apply
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.documents import load_document
from ebbtide.core.documents.check import Batch
from ebbtide.core.translation.gpu import BACKENDS, is_gpu_resource
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.clocks import ManualClock, PastClock
from ebbtide.sandbox.counts import TallySource
from ebbtide.sandbox.replicas import RevisionReplicas, SimulatedBehavior, SimulatedWorkload
from ebbtide.sandbox.simulated import Simulated
from ebbtide.sandbox.state import PodLife
from ebbtide.sandbox.store import make_bare
from ebbtide.sandbox.traffic import SILENCE, Sender, parse_traffic_shape
from ebbtide.simulator.data import TrafficTrace
from ebbtide.simulator.engine.inputs import prepare_inputs, require_token_server
from ebbtide.simulator.engine.setting import NotSimulated, Setting, from_annotations, read_floor
from ebbtide.simulator.traffic.load import slice_traffic
from ebbtide.simulator.traffic.server_model import Server, ServerError
from ebbtide.simulator.traffic.servers import LanguageModelServer, parse_server

if TYPE_CHECKING:
    from ebbtide.core.autoscaler.floor import FloorSettings
    from ebbtide.core.profile.models import Profile

LOG: Final = logging.getLogger(__name__)
#: Annotations of a workload's main object that set its simulated behavior, in the syntax of ``ebbtide simulate``: a traffic
#: shape or ``none``, and the server.
TRAFFIC_ANNOTATION: Final = "simulated.ebbtide.dev/traffic"
SERVER_ANNOTATION: Final = "simulated.ebbtide.dev/server"
#: Seconds between two polls of the clock.
POLL_SECONDS: Final = 0.25
#: Maximum seconds until counts are passed on to the tallies.
COUNT_SECONDS: Final = 10
#: Seconds after which an evicted training pod is recreated.
RECREATE_SECONDS: Final = 10.0
#: Maximum requests per second, and in a burst or one period of a shape, that one process can simulate.
MAX_RATE: Final = 200.0
MAX_REQUESTS: Final = 200_000


@dataclass(slots=True)
class TrainingPod:
    """One pod of a training job that runs next to the services; ``made`` counts how often it was created."""

    namespace: str
    name: str
    number: int
    spec: Object
    created: int = 0


class World:
    """A simulated cluster with its workloads' traffic, and the metrics counted of them.

    ``origin`` is the start time in seconds since 1970; it may be in the past, so that a history can be simulated first.
    Until ``arrive`` is called, time is in the past and is advanced by ``run_until``; after that, it follows the clock.
    """

    def __init__(
        self,
        clock: Clock,
        profile: Profile,
        *,
        seed: int = 0,
        origin: float | None = None,
        behaviors: dict[Ref, SimulatedBehavior] | None = None,
    ) -> None:
        self.profile = profile
        self.seed = seed
        self.behaviors = dict(behaviors or {})
        start = clock.now() if origin is None else origin
        self.origin = start - start % COUNT_SECONDS
        self.clock = PastClock(clock, self.origin)
        self.cluster = Simulated(
            self.clock,
            gpus={},
            domain=profile.spec.domain,
            driver=self,
            max_scale_limit=parse_whole_quantity(profile.spec.knative.autoscaler.get("max-scale-limit", "0")) or 0,
            real=not isinstance(clock, ManualClock),
        )
        self.source = TallySource(self._recount)
        #: False while a past is simulated whose requests need not appear in pods' logs.
        self.logging = True
        self.owners: dict[tuple[str, str], RevisionReplicas] = {}
        self.workloads: dict[tuple[str, str], SimulatedWorkload] = {}
        self._second = 0
        self._settled = False
        self._bursts = 0
        self._trainings: dict[tuple[str, str], TrainingPod] = {}
        self._stopped = threading.Event()

    # Actions of a user.

    def apply(self, document: dict[str, Any], *, settled: bool = False) -> None:
        """Apply a spec. With ``settled``, the workload starts as if it had long been idle, as a simulation does.

        Raises ValueError with the spec's errors.
        """
        batch = Batch(self.profile)
        objects, translation, problems = batch.add_document(load_document(document, self.profile))
        errors = [f"{problem.path}: {problem.message}" for problem in problems if problem.severity == "error"]
        if errors or translation is None or translation.plan is None:
            raise ValueError("; ".join(errors))
        self._settled = settled
        try:
            planned = apply.diff_workload(self.cluster, apply.Workload(tuple(objects), translation.plan))
            apply.write_workload(self.cluster, planned, self.clock)
        finally:
            self._settled = False

    def send(self, ref: Ref, rate: float, seconds: float) -> int:
        """Send random requests at ``rate`` per second in addition to the shape's, and return their number.

        Raises MissingError if the workload does not exist or receives no requests, and ValueError above the maximum rate or
        number of requests.
        """
        if not (0 < rate <= MAX_RATE and 0 < rate * seconds <= MAX_REQUESTS):
            raise ValueError(_limit_message(rate, rate * seconds))
        with self.cluster.lock:
            self.cluster.settle()
            sender = self._find_sender(ref)
            self._bursts += 1
            return sender.burst(self._second * SECOND, rate, seconds, self._bursts)

    def request(self, ref: Ref) -> float:
        """Send one request now, and return its processing time without other requests, in seconds.

        Raises MissingError if the workload does not exist or receives no requests.
        """
        with self.cluster.lock:
            self.cluster.settle()
            sender = self._find_sender(ref)
            self._bursts += 1
            return sender.request(self._second * SECOND, self._bursts) / SECOND

    def has_ready_replica(self, ref: Ref) -> bool:
        """Return whether a replica that receives requests is ready.

        Raises MissingError if the workload does not exist.
        """
        with self.cluster.lock:
            self.cluster.settle()
            return any(replicas.engine.ready for replicas, _ in self._find(ref).routes)

    def _find(self, ref: Ref) -> SimulatedWorkload:
        workload = next((candidate for candidate in self.workloads.values() if candidate.ref == ref), None)
        if workload is None:
            raise MissingError(f"workload {ref.name} not found in namespace {ref.namespace}")
        return workload

    def _find_sender(self, ref: Ref) -> Sender:
        sender = self._find(ref).sender
        if sender is None:
            raise MissingError(f"workload {ref.name} in namespace {ref.namespace} receives no requests")
        return sender

    def train(self, namespace: str, name: str, count: int, spec: Object) -> None:
        """Keep ``count`` training pods running next to the services; an evicted pod is recreated."""
        for number in range(count):
            self._train(TrainingPod(namespace, name, number, spec))

    def run_until(self, time: float) -> None:
        """Advance a time that does not pass automatically to ``time``, in seconds since 1970."""
        seconds_left = time - self.clock.now()
        if seconds_left > 0:
            self.clock.sleep(seconds_left)
        self.cluster.settle()

    def arrive(self) -> None:
        """End the simulated past: advance to the clock's present, and follow the clock from then on."""
        self.run_until(self.clock.clock.now())
        self.clock.at = None
        self.cluster.settle()

    # Automatic progress.

    @contextmanager
    def running(self) -> Iterator[World]:
        """Let time pass in a background thread inside the context."""
        self._stopped.clear()
        thread = threading.Thread(target=self._run, name="world", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self.cluster.settle()
            except Exception:
                LOG.exception("error in one second of the simulated cluster; time continues")

    # Calls of the cluster, which ``state.Driver`` describes.

    def advance(self, until: float) -> None:
        target = math.floor(until - self.origin)
        while self._second < target:
            self._second += 1
            now = self._second * SECOND
            self.cluster.run_due(self.origin + self._second)
            for key, workload in [*self.workloads.items()]:
                self._pass(key, workload, now)
            if self._second % COUNT_SECONDS == 0:
                self._count()

    def _pass(self, key: tuple[str, str], workload: SimulatedWorkload, now: int) -> None:
        """Advance a workload by one second. In real time, an error stops only this workload."""
        try:
            workload.send(now)
            workload.step(now)
        except Exception:
            if not self.cluster.real:
                raise
            LOG.exception("workload %s in namespace %s is no longer simulated", key[1], key[0])
            del self.workloads[key]

    def _count(self) -> None:
        for workload in self.workloads.values():
            workload.count(self._second * SECOND)

    def _recount(self) -> None:
        with self.cluster.lock:
            self.cluster.settle()
            self._count()

    def revision_made(self, namespace: str, name: str) -> None:
        """Create a revision's engine."""
        revision, workload = self._of(namespace, name)
        created = self._second * SECOND
        setting = self._setting(revision)
        deployment = self.cluster.peek(DEPLOYMENT, namespace, f"{name}-deployment")
        requests = sum_requests(get_at(deployment, "spec", "template", default={}))
        gpus = sum(amount * self._share(resource) for resource, amount in requests.items() if is_gpu_resource(resource))
        tally = self.source.tally(Ref(namespace, name))
        replicas = RevisionReplicas(workload, name, setting, tally, created=created, gpus=gpus)
        workload.revisions[name] = replicas
        workload.container = str(get_at(revision, "spec", "containers", 0, "name", default="user-container"))
        workload.metric = str(get_at(revision, "metadata", "annotations", keys.METRIC, default=""))
        seed, start_up = self.seed_of(workload.ref, name), workload.behavior.start_up
        # The engine receives its requests through ``feed``; those drawn here are for a sender.
        traffic = parse_traffic_shape(workload.behavior.traffic, seed) if self._settled else SILENCE
        drawn = prepare_inputs(setting, traffic, workload.server, start_up, seed)
        if self._settled:
            workload.sender = Sender.of(workload.behavior.traffic, workload.server, seed, created + drawn.lead, drawn)
        try:
            replicas.begin(drawn, settled=self._settled)
        except ValueError as error:
            # An invalid setting, such as a window of length 0. The engine does not exist yet.
            replicas.setting = self._fixed(revision, error)
            replicas.begin(drawn, settled=self._settled)
        replicas.step(created)

    def revision_changed(self, namespace: str, name: str) -> None:
        revision, workload = self._of(namespace, name)
        replicas = workload.revisions.get(name)
        if replicas is not None:
            setting = self._setting(revision)
            revision_setting = replace(setting.revision, reachable=replicas.setting.revision.reachable)
            before = replicas.setting
            try:
                replicas.reconfigure(replace(setting, revision=revision_setting))
            except ValueError as error:
                self.cluster.tell(revision, "Warning", "NotSimulated", f"the new annotations are ignored: {error}")
                replicas.setting = before

    def revision_gone(self, namespace: str, name: str) -> None:
        for key, workload in [*self.workloads.items()]:
            if key[0] == namespace and name in workload.revisions:
                workload.count(self._second * SECOND)
                workload.revisions.pop(name).end()
                self.source.tallies.pop(Ref(namespace, name), None)
                workload.routes = tuple(route for route in workload.routes if route[0].name != name)
                if not workload.revisions:
                    del self.workloads[key]

    def routed(self, namespace: str, service: str) -> None:
        """Route requests as the service's status says, and start to send them."""
        workload = self.workloads.get((namespace, service))
        service_obj = self.cluster.peek(KNATIVE, namespace, service)
        if workload is None or service_obj is None:
            return
        shares: dict[str, int] = {}
        for row in get_at(service_obj, "status", "traffic", default=[]):
            shares[row["revisionName"]] = shares.get(row["revisionName"], 0) + (row.get("percent") or 0)
        workload.routes = tuple(
            (workload.revisions[name], percent)
            for name, percent in shares.items()
            if percent and name in workload.revisions
        )
        newest = get_at(service_obj, "status", "latestCreatedRevisionName")
        for name, replicas in workload.revisions.items():
            replicas.reach(reachable=name in shares or name == newest)
        if workload.sender is None and workload.routes:
            seed = self.seed_of(workload.ref)
            workload.sender = Sender.of(workload.behavior.traffic, workload.server, seed, self._second * SECOND)

    def pod_delayed(self, namespace: str, name: str) -> None:
        if (replicas := self.owners.get((namespace, name))) is not None:
            replicas.delayed(name)

    def pod_placed(self, namespace: str, name: str, ready: float) -> None:
        if (replicas := self.owners.get((namespace, name))) is not None:
            replicas.placed(name, ready)

    def pod_evicted(self, namespace: str, name: str) -> None:
        """Create a replacement for an evicted pod."""
        if (replicas := self.owners.get((namespace, name))) is not None:
            replicas.engine.replace(replicas.numbers[name])
        training = self._trainings.pop((namespace, name), None)
        if training is not None:
            self.cluster.later(RECREATE_SECONDS, lambda: self._train(training))

    # Parts.

    def seed_of(self, ref: Ref, revision: str = "") -> int:
        """Return the random seed of a workload; each later revision has a separate seed."""
        suffix = revision if not revision.endswith("-00001") else ""
        return crc32(f"{self.seed}/{ref.namespace}/{ref.name}/{suffix}".encode())

    def _train(self, training: TrainingPod) -> None:
        training.created += 1
        name = f"{training.name}-{training.number}-{training.created}"
        pod = {**make_bare(POD, name, training.namespace), "spec": deepcopy(training.spec)}
        pod["metadata"]["labels"] = {"job-name": training.name}
        self._trainings[training.namespace, name] = training
        self.cluster.add_alone(pod, PodLife(end=2.0))

    def _of(self, namespace: str, name: str) -> tuple[Object, SimulatedWorkload]:
        """Return a revision and its workload, which is created if needed."""
        revision = self.cluster.peek(REVISION, namespace, name)
        assert revision is not None
        service = str(revision["metadata"]["labels"][keys.KNATIVE_SERVICE])
        workload = self.workloads.get((namespace, service))
        if workload is None:
            top = self._find_top(revision)
            ref = Ref(namespace, str(top["metadata"]["name"]))
            behavior, simulated_server = self._behavior(ref, top)
            workload = SimulatedWorkload(
                self, ref, behavior, simulated_server, self.source.tally(ref), counted_at=self._second * SECOND
            )
            if isinstance(simulated_server, LanguageModelServer) and simulated_server.tokens is not None:
                share, _ = simulated_server.split_tokens(TrafficTrace("one", np.zeros(1)))
                workload.token_tally = self.source.token_tally(ref)
                workload.token_share, workload.token_counts = float(share[0]), simulated_server.tokens
            self.workloads[namespace, service] = workload
        return revision, workload

    def _find_top(self, revision: Object) -> Object:
        """Return a revision's Knative Service, or the InferenceService that owns it."""
        namespace, name = revision["metadata"]["namespace"], str(revision["metadata"]["labels"][keys.KNATIVE_SERVICE])
        service = self.cluster.peek(KNATIVE, namespace, name)
        owner = get_at(service, "metadata", "labels", keys.KSERVE_SERVICE)
        top = service if owner is None else self.cluster.peek(KSERVE, namespace, owner)
        return top or make_bare(KNATIVE, owner or name, namespace)

    def _behavior(self, ref: Ref, top: Object) -> tuple[SimulatedBehavior, Server]:
        """Return a workload's behavior and server: by its annotations, by the table, or by default."""
        behavior = self.behaviors.get(ref, SimulatedBehavior())
        annotations = get_at(top, "metadata", "annotations", default={})
        annotated = replace(
            behavior,
            traffic=annotations.get(TRAFFIC_ANNOTATION, behavior.traffic),
            server=annotations.get(SERVER_ANNOTATION, behavior.server),
        )
        try:
            return annotated, _make_server(annotated)
        except (ValueError, ServerError) as error:
            self.cluster.tell(top, "Warning", "NotSimulated", f"the annotations are ignored: {error}")
            return behavior, parse_server(behavior.server)

    def _setting(self, revision: Object) -> Setting:
        """Return a revision's scaling settings; one that cannot be simulated keeps its minimum replicas."""
        annotations = get_at(revision, "metadata", "annotations", default={})
        spec, top = revision["spec"], self._find_top(revision)
        try:
            setting = from_annotations(
                annotations,
                self.profile.spec,
                container_concurrency=spec.get("containerConcurrency"),
                timeout=spec.get("timeoutSeconds"),
                cpu_request=any(get_at(row, "resources", "requests", "cpu") for row in spec.get("containers", ())),
                floor=_read_present_floor(top),
            )
            # Requests of the sandbox have no tokens.
            require_token_server(setting, None)
        except NotSimulated as error:
            return self._fixed(revision, error)
        return setting

    def _fixed(self, revision: Object, error: ValueError) -> Setting:
        """Return settings that keep a revision at its minimum replicas, and note the reason as an event."""
        self.cluster.tell(revision, "Warning", "NotSimulated", f"the number of replicas is fixed: {error}")
        min_replicas = max(int(get_at(revision, "metadata", "annotations", keys.MIN_SCALE, default=1)), 1)
        return Setting(metric="cpu", hpa=hpa.HpaSpec(min_replicas=min_replicas, max_replicas=min_replicas))

    def _share(self, resource: str) -> float:
        """Return the fraction of a whole GPU that one unit of a resource is."""
        for pool in self.profile.spec.node_pools:
            counts = BACKENDS[pool.backend].advertises(pool)
            if resource in counts:
                return 1.0 / counts[resource]
        return 1.0


def _read_present_floor(top: Object) -> FloorSettings | None:
    """Return the settings of a workload's floor with its manual minimum; raise NotSimulated for a schedule."""
    floor = read_floor(top)
    if floor is None:
        return None
    if floor.schedule:
        raise NotSimulated(keys.FLOOR, "a schedule is not simulated")
    return replace(floor, minimum=max(floor.minimum, read_scale_record(top).minimum or 0))


def _make_server(behavior: SimulatedBehavior) -> Server:
    """Return a behavior's server. Raises ValueError and ServerError for one that is not allowed here.

    Annotations are untrusted: the traffic must not exceed the maximum.
    """
    simulated_server = parse_server(behavior.server)
    traffic = parse_traffic_shape(behavior.traffic, 0)
    count = len(traffic.times)
    if count:
        rate = count / traffic.seconds
        if rate > MAX_RATE or count > MAX_REQUESTS:
            raise ValueError(_limit_message(rate, count))
        simulated_server.alone(slice_traffic(traffic, 0.0, 0.0), np.random.default_rng(0))
    return simulated_server


def _limit_message(rate: float, count: float) -> str:
    return (
        f"invalid traffic of {rate:g} requests/s, {count:g} in total: must be above 0, and at most {MAX_RATE:g} requests/s "
        f"and {MAX_REQUESTS} requests"
    )
