"""A cluster in memory: what Knative, KServe and Kubernetes make of what is applied, on a given clock.

It is no Kubernetes: nothing is validated but what Ebbtide's own commands meet. It keeps the contract of ``protocol.py``
(the suite runs on both), and from a Knative Service it makes a Revision, a PodAutoscaler, a Deployment and pods, which
are admitted by quotas and priority classes, placed on nodes while there is room, start within so many seconds, and become
ready. Nothing happens by itself: time is the clock's, and each call first does what was due until now. Who scales is a
``Driver`` (``ebbtide.sandbox.world`` is one), or without one whoever calls ``scale``. Threads may share a cluster: each call
is whole before the next begins.

Upstream, for the shapes of what it makes: knative.dev/serving pkg/reconciler/{configuration,revision,service},
pkg/apis/serving/v1/revision_lifecycle.go, pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go (the words of Active),
pkg/reconciler/autoscaling/hpa/resources/hpa.go; kserve pkg/apis/serving/v1beta1/inference_service_status.go;
k8s.io/kubernetes pkg/controller (FailedCreate, ScalingReplicaSet).
"""

from __future__ import annotations

import heapq
import json
import logging
import math
import re
import time
from collections import deque
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from hashlib import sha256
from threading import Condition, RLock
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import (
    DEPLOYMENT,
    EVENT,
    HPA,
    KINDS,
    KNATIVE,
    KSERVE,
    LIVE_MANAGER,
    MANAGER,
    NAMESPACE,
    NODE,
    POD,
    POD_AUTOSCALER,
    PRIORITY_CLASS,
    QUOTA,
    REVISION,
    ExistsError,
    ForbiddenError,
    GoneError,
    Kind,
    Listing,
    Mark,
    MissingError,
    Objects,
    RefusedError,
    Seen,
    StaleError,
    kind_of,
    prepared,
)
from ebbtide.cluster.read.pods import QUEUE_PROXY, asked, is_ready
from ebbtide.sandbox import scheduling
from ebbtide.sandbox.store import ABSENT, Held, Key, Store, leaves, selects, take, unpacked
from ebbtide.translation.objects import merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ebbtide.cluster.client.protocol import Clock
    from ebbtide.sandbox.store import Leaf
    from ebbtide.translation.objects import Object

LOG: Final = logging.getLogger(__name__)
SECOND: Final = 1.0
#: The versions of Kubernetes, and the groups of an API server with Knative and KServe.
PATHS: Final[dict[str, Object]] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/apis/serving.knative.dev/v1": {"kind": "APIResourceList", "resources": []},
    "/apis/serving.kserve.io/v1beta1": {"kind": "APIResourceList", "resources": []},
}
#: What a ksvc is given by Knative's webhook (pkg/apis/serving/v1/revision_defaults.go).
DEFAULTS: Final[Object] = {"containerConcurrency": 0, "timeoutSeconds": 300, "enableServiceLinks": False}
#: Knative's own container in each pod, and what it asks for (pkg/deployment/config.go).
SIDECAR: Final[Object] = {
    "name": QUEUE_PROXY,
    "image": "gcr.io/knative-releases/knative.dev/serving/cmd/queue",
    "resources": {"requests": {"cpu": "25m"}},
}
#: Seconds that events are kept (kube-apiserver --event-ttl), and between two attempts at a pod that a quota refused: the
#: first, and the longest, each twice the one before.
EVENT_TTL: Final = 3600.0
RETRY: Final = (5.0, 320.0)
#: Seconds of a connection that is followed.
FOLLOW: Final = 60.0
#: Lines of a container's log that are kept.
LOG_LINES: Final = 1000
#: What a PodAutoscaler says of being inactive, by its reason.
INACTIVE: Final = {
    "NoTraffic": "The target is not receiving traffic.",
    "Queued": "Requests to the target are being buffered as resources are provisioned.",
    "TimedOut": "The target could not be activated.",
}
#: What Kubernetes' generated names are made of: no vowels, and nothing that looks like another.
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def _whole(
    method: Callable[Concatenate[Simulated, _Given], _Found],
) -> Callable[Concatenate[Simulated, _Given], _Found]:
    """Return a method that is done before another thread's begins."""

    @wraps(method)
    def called(self: Simulated, /, *given: _Given.args, **named: _Given.kwargs) -> _Found:
        with self._lock:
            return method(self, *given, **named)

    return called


@dataclass(slots=True)
class Standing:
    """A clock that moves only by ``sleep``."""

    time: float = 1_800_000_000.0

    def now(self) -> float:
        """Return the time."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self.time += seconds


@dataclass(slots=True)
class Real:
    """The machine's clock, or one that goes ``rate`` times as fast from the present on; it never goes back."""

    rate: float = 1.0
    _start: float = field(default_factory=time.time)
    _since: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Return the time."""
        return self._start + (time.monotonic() - self._since) * self.rate

    def sleep(self, seconds: float) -> None:
        """Wait until so many of its seconds have passed."""
        time.sleep(seconds / self.rate)


@dataclass(frozen=True, slots=True)
class Life:
    """How long the steps of a pod's life take, in seconds."""

    schedule: float = 1.0
    pull: float = 2.0
    start: float = 3.0
    #: From the last pod's readiness to the route's.
    route: float = 1.0
    #: What is left of a pod after its deletion; infinite where it ends with ``drop_pod``.
    end: float = 2.0
    #: A revision that is not ready by then has failed (Knative's progress-deadline).
    deadline: float = 600.0


class Driver(Protocol):
    """Who scales revisions, and makes and ends their pods with ``add_pod`` and ``end_pod``. Times are seconds since 1970."""

    def advance(self, until: float) -> None:
        """Let time pass for what is scaled."""

    def revision_made(self, namespace: str, name: str) -> None:
        """Take on a new revision; its Deployment is there, without pods."""

    def revision_changed(self, namespace: str, name: str) -> None:
        """Go by a revision's new annotations."""

    def revision_gone(self, namespace: str, name: str) -> None:
        """Let go of a revision."""

    def routed(self, namespace: str, service: str) -> None:
        """Go by a service's new traffic."""

    def pod_delayed(self, namespace: str, name: str) -> None:
        """Note that a pod will not be ready in its time: no room for it, no image."""

    def pod_placed(self, namespace: str, name: str, ready: float) -> None:
        """Note that a pod that was delayed will be ready then."""

    def pod_evicted(self, namespace: str, name: str) -> None:
        """Note that a pod was taken away by somebody else: for a more important one, or by hand."""


@dataclass(slots=True)
class Logged:
    """A container's log: the last lines, and how many there were in all."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    total: int = 0

    def write(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)
        self.total += 1

    def after(self, place: int) -> list[str]:
        """Return the lines from the ``place``-th on, as far as they are kept."""
        new = min(self.total - place, len(self.lines))
        return [*self.lines][len(self.lines) - new :] if new > 0 else []


@dataclass(slots=True)
class Simulated:
    """The cluster: nodes with GPUs, and whatever is applied."""

    clock: Clock
    life: Life = field(default_factory=Life)
    gpus: dict[str, int] = field(default_factory=lambda: {keys.GPU: 1})
    domain: str = "example.com"
    namespace: str = "default"
    #: Images that cannot be pulled, and those whose server never becomes ready.
    missing_images: set[str] = field(default_factory=set)
    broken_images: set[str] = field(default_factory=set)
    #: What to raise before a write, and after one whose answer never comes: a test's ways to end a command in the middle.
    fail: Callable[[Object], None] | None = None
    cut: Callable[[Object], None] | None = None
    #: What the caller's account may not do, by verb and plural: ``("list", "nodes")``.
    denied: set[tuple[str, str]] = field(default_factory=set)
    #: What the API answers at paths that are no object's.
    paths: dict[str, Object] = field(default_factory=lambda: deepcopy(PATHS))
    driver: Driver | None = None
    #: config-autoscaler's max-scale-limit; 0 is none.
    max_scale_limit: int = 0
    #: Whether time passes by itself: then who watches waits for news, else the clock is moved.
    real: bool = False
    _store: Store = field(default_factory=Store)
    _logs: dict[tuple[str, str, str], Logged] = field(default_factory=dict)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    #: The moment of what is being done, while what was due is done.
    _then: float = 0.0
    _settling: bool = False
    _lock: RLock = field(default_factory=RLock)
    _news: Condition = field(init=False)
    #: Pods by what they are made for, in the order of their making, by namespace and Deployment.
    _of_deployment: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    #: What each pod asks for and its own times; which pods are on a node, wait for one, or are refused by a quota.
    _asked: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    _lives: dict[tuple[str, str], Life] = field(default_factory=dict)
    _on: dict[str, dict[tuple[str, str], scheduling.Bound]] = field(default_factory=dict)
    _waiting: dict[tuple[str, str], None] = field(default_factory=dict)
    _refused: dict[tuple[str, str], Object] = field(default_factory=dict)
    #: Of a refused pod, the number of the attempt that is to come.
    _attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    _retrying: bool = False
    _told: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the namespace that every cluster has, and a node with the GPUs that are given."""
        self._news = Condition(self._lock)
        self.put(_bare(NAMESPACE, "default"))
        if self.gpus:
            node = _bare(NODE, "node-1")
            allocatable = {"cpu": "64", "memory": "256Gi", **{name: str(number) for name, number in self.gpus.items()}}
            node["status"] = {"allocatable": allocatable}
            self.put(node)

    # The protocol

    @_whole
    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object."""
        self._ask("get", kind)
        return self._find(kind, name, namespace).copy()

    @_whole
    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return all objects of a kind, by namespace and name."""
        self._ask("list", kind)
        found = [held.copy() for held in self._store.all(kind, namespace) if not labels or selects(labels, held.item)]
        return Listing(found, str(self._store.version))

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        """Yield changes as the clock goes on."""
        end = self.clock.now() + seconds
        known: dict[tuple[str, str], Object] = {}
        version = int(since) if since else -1
        while True:
            if version < 0:
                listing = self.list(kind, namespace, labels=labels)
                yield from _caught_up(known, listing.items)
                version = int(listing.version)
            self.settle()
            with self._lock:
                news = self._store.since(kind, version)
            if news is None:
                version = -1
                continue
            for noted in news:
                version = noted.version
                if namespace not in {"", noted.namespace}:
                    continue
                item = unpacked(noted.packed)
                if not labels or selects(labels, item):
                    place = (noted.namespace, item["metadata"]["name"])
                    if noted.change == "DELETED":
                        known.pop(place, None)
                    else:
                        known[place] = item
                    yield Seen(noted.change, item)
            if (left := end - self.clock.now()) <= 0:
                return
            self._pause(min(left, SECOND / 4))

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        """Yield what there is to tell, for a while where time passes by itself, else until now."""
        if kind not in KINDS.values():
            raise MissingError(f"the server could not find the requested resource: {kind.plural}")
        end = self.clock.now() + (FOLLOW if self.real else 0.0)
        if since:
            version = int(since)
        else:
            listing = self.list(kind)
            version = int(listing.version)
            yield from (Seen("ADDED", item) for item in listing.items)
        told = -1
        while True:
            self.settle()
            with self._lock:
                news, now = self._store.since(kind, version), self._store.version
            if news is None:
                raise GoneError(f"too old resource version: {version} ({now})")
            yield from (Seen(noted.change, unpacked(noted.packed)) for noted in news)
            version = now
            if news or told < 0:
                told = version
                yield Mark(str(version))
            if (left := end - self.clock.now()) <= 0:
                return
            self._pause(min(left, SECOND / 4))

    @_whole
    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False, basis: Object | None = None) -> Object:
        """Merge an object in, by field managers."""
        given = prepared(item)
        kind, metadata = kind_of(given), given["metadata"]
        self._ask("patch", kind)
        where, name = metadata.get("namespace", ""), metadata["name"]
        if kind.namespaced and self._store.find(NAMESPACE, "", where) is None:
            raise MissingError(f'namespaces "{where}" not found')
        held = self._store.find(kind, where, name)
        now = set(leaves(given))
        if held is None:
            made = Held(_defaulted(kind, given, self.max_scale_limit), {MANAGER: now})
        else:
            made = Held(held.copy(), {who: set(owned) for who, owned in held.owned.items()})
            take(made, given, now, force=force)
            made.item = _defaulted(kind, made.item, self.max_scale_limit)
        _hold_to(basis, held)
        if dry_run:
            self._store.identify(kind, made.item, held, self._time())
            return deepcopy(made.item)
        self._meddle(given)
        self._put(kind, made, held)
        self._answer(given)
        return self._find(kind, name, where).copy()

    @_whole
    def create(self, item: Object) -> Object:
        """Apply what is not there."""
        self.settle()
        kind, metadata = kind_of(item), item["metadata"]
        if self._store.find(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise ExistsError(f'{kind.plural} "{metadata["name"]}" already exists')
        return self.apply(item)

    @_whole
    def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Object,
        *,
        dry_run: bool = False,
        basis: Object | None = None,
    ) -> Object:
        """Merge a patch in; its manager owns what it sets from then on."""
        self._ask("patch", kind)
        held = self._find(kind, name, namespace)
        _hold_to(basis, held)
        changed: Object = merge_patch(held.copy(), patch)
        if kind == REVISION:
            _check(at(changed, "metadata", "annotations", default={}), "metadata.annotations", self.max_scale_limit)
        if dry_run:
            return changed
        self._meddle(patch)
        made = Held(changed, {who: set(owned) for who, owned in held.owned.items()})
        touched = set(leaves(patch))
        for owned in made.owned.values():
            owned.difference_update(touched)
        made.owned.setdefault(LIVE_MANAGER, set()).update(
            leaf for leaf in touched if at(made.item, *leaf, default=ABSENT) is not ABSENT
        )
        self._put(kind, made, held)
        self._answer(patch)
        return self._find(kind, name, namespace).copy()

    @_whole
    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Remove an object, and its pods some seconds later."""
        self._ask("delete", kind)
        held = self._store.find(kind, namespace, name)
        if held is None or uid not in {"", held.item["metadata"]["uid"]}:
            return
        self._meddle({"kind": kind.name, "metadata": {"name": name}})
        if kind == POD:
            self._leave(namespace, name)
            if self.driver is not None:
                self.driver.pod_evicted(namespace, name)
            return
        self._remove(kind, namespace, name)
        if kind == NAMESPACE:
            for key in self._store.inside(name):
                self._remove(*key)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Generator[str, None, None]:
        """Yield what was written with ``say``; with ``follow`` it ends with the pod, as the clock goes on."""
        with self._lock:
            self.settle()
            self._find(POD, pod, namespace)
            log = self._logs.setdefault((namespace, pod, container), Logged())
            place = 0 if tail is None else max(0, log.total - tail)
        while True:
            with self._lock:
                lines, place = log.after(place), log.total
            yield from lines
            if not follow or previous or self._store.find(POD, namespace, pod) is None:
                return
            self._pause(SECOND)
            self.settle()

    @_whole
    def may(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:  # noqa: ARG002 - of any object
        """Say whether it is not denied."""
        return (verb, kind.plural) not in self.denied

    @_whole
    def read(self, path: str) -> Object:
        """Return what ``paths`` has."""
        if path not in self.paths:
            raise MissingError(f"the server could not find the requested resource: {path}")
        return deepcopy(self.paths[path])

    @_whole
    def events(self, namespace: str = "") -> Objects:
        """Return the events, oldest first."""
        found = self.list(EVENT, namespace).items
        return sorted(found, key=lambda event: (event["lastTimestamp"], event["metadata"]["name"]))

    # What drives it

    @_whole
    def settle(self) -> None:
        """Do what was due until now."""
        until = self.clock.now()
        if self.driver is not None and not self._settling:
            self._settling = True
            try:
                self.driver.advance(until)
            finally:
                self._settling = False
        self.run_due(until)

    @_whole
    def run_due(self, until: float) -> None:
        """Do what was due until then, and leave the driver out of it."""
        while self._due and self._due[0][0] <= until:
            self._then, _, work = heapq.heappop(self._due)
            try:
                work()
            except Exception:
                # Where time passes by itself, whoever asks next must not pay for it.
                if not self.real:
                    raise
                LOG.exception("something that was due went wrong, and time goes on")
        self._then = 0.0

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let nobody else do anything meanwhile."""
        with self._lock:
            yield

    @contextmanager
    def moment(self, when: float) -> Iterator[None]:
        """Let what is done inside be done at a moment, in seconds since 1970."""
        with self._lock:
            before, self._then = self._then, when
            try:
                yield
            finally:
                self._then = before

    @_whole
    def scale(self, namespace: str, revision: str, replicas: int) -> None:
        """Set how many pods a revision wants, as an autoscaler does; its bounds hold."""
        held = self._find(REVISION, revision, namespace)
        low, high = _bounds(held.item)
        wanted = min(max(replicas, low), high)
        self._set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": wanted})
        self._set_replicas(namespace, revision, wanted)
        self._reconcile_pods(namespace, revision)

    @_whole
    def scaled(self, namespace: str, revision: str, wanted: int, active: str, reason: str) -> None:
        """Take over what a driver decided: the replicas, and a PodAutoscaler's condition Active with its reason."""
        if self._store.find(REVISION, namespace, revision) is None:
            return
        scaler = self._find(POD_AUTOSCALER, revision, namespace).item
        self._set_replicas(namespace, revision, wanted)
        conditions = self._kept(
            scaler,
            [
                self._condition("Active", active, reason, INACTIVE.get(reason, "")),
                self._condition("Ready", active, reason, INACTIVE.get(reason, "")),
            ],
        )
        self._set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": wanted, "conditions": conditions})
        self._refresh_deployment(namespace, revision)

    @_whole
    def set_hpa(self, namespace: str, name: str, status: Object) -> None:
        """Take over what a driver's HPA saw and decided."""
        self._set_status(HPA, namespace, name, status)

    @_whole
    def add_pod(self, namespace: str, revision: str, life: Life) -> str:
        """Make a pod of a revision with its own times, and return its name; a quota may refuse it for now."""
        return self._start(self._find(DEPLOYMENT, f"{revision}-deployment", namespace).item, revision, life)

    @_whole
    def is_refused(self, namespace: str, name: str) -> bool:
        """Say whether a pod is not made yet, since a quota or an unknown priority class keeps it."""
        return (namespace, name) in self._refused

    @_whole
    def end_pod(self, namespace: str, name: str, seconds: float | None = None) -> None:
        """Take a pod away, whether or not it is there yet; it ends in so many seconds or its life's, or with ``drop_pod``."""
        self._give_up((namespace, name))
        self._leave(namespace, name, seconds)

    @_whole
    def drop_pod(self, namespace: str, name: str) -> None:
        """Let a pod be gone."""
        self._remove(POD, namespace, name)

    @_whole
    def peek(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object as it is stored, to be read and not to be kept; no time passes for it."""
        held = self._store.find(kind, namespace, name)
        return held.item if held is not None else None

    @_whole
    def tell(self, about: Object, kind: str, reason: str, message: str) -> None:
        """Make an event of an object, as a controller does."""
        self._event(about, kind, reason, message)

    @_whole
    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something in so many seconds of the clock."""
        self._due_in(seconds, work)

    @_whole
    def add_alone(self, pod: Object, life: Life) -> None:
        """Make a pod that belongs to no revision: a training's."""
        self._admit(deepcopy(pod), life)

    @_whole
    def say(self, namespace: str, pod: str, container: str, line: str) -> None:
        """Write a line to a container's log."""
        self._logs.setdefault((namespace, pod, container), Logged()).write(line)

    @_whole
    def put(self, item: Object) -> None:
        """Store an object as it is, as some controller would: for tests and demonstrations."""
        made = deepcopy(item)
        kind = kind_of(made)
        self._write(kind, made)
        if kind == POD:
            self._asked[_namespace(made), made["metadata"]["name"]] = asked(made)
        if kind == QUOTA:
            self._count(made)
        self._retry()

    # Storage

    def _find(self, kind: Kind, name: str, namespace: str) -> Held:
        found = self._store.find(kind, namespace, name)
        if found is None:
            raise MissingError(f'{kind.plural} "{name}" not found')
        return found

    def _ask(self, verb: str, kind: Kind) -> None:
        """Do what was due, and hold to what is denied."""
        self.settle()
        if (verb, kind.plural) in self.denied:
            raise ForbiddenError(f"{kind.plural} is forbidden: the user cannot {verb} resource {kind.plural!r}")

    def _meddle(self, item: Object) -> None:
        if self.fail is not None:
            self.fail(item)

    def _answer(self, item: Object) -> None:
        if self.cut is not None:
            self.cut(item)
        self.settle()

    def _pause(self, seconds: float) -> None:
        """Let time pass: wait for news where it does so by itself."""
        if not self.real:
            self.clock.sleep(seconds)
            return
        with self._news:
            self._news.wait(seconds)

    def _put(self, kind: Kind, made: Held, before: Held | None) -> None:
        item = made.item
        self._store.identify(kind, item, before, self._time())
        if before is not None and item == before.item and made.owned == before.owned:
            return
        self._write(kind, item, made.owned)
        namespace, name = _namespace(item), item["metadata"]["name"]
        if kind == KNATIVE and (before is None or before.item["spec"] != item["spec"]):
            self._due_in(0, lambda: self._reconcile(namespace, name))
        if kind == KSERVE:
            self._due_in(0, lambda: self._reconcile_kserve(namespace, name))
        if kind == REVISION and before is not None:
            self._due_in(0, lambda: self._rescale(namespace, name))
        if kind == QUOTA:
            self._count(item)
            self._readmit_soon(namespace)
        if kind == NODE:
            self._retry()

    def _write(self, kind: Kind, item: Object, owned: dict[str, set[Leaf]] | None = None) -> None:
        self._store.write(kind, item, self._time(), owned)
        self._news.notify_all()

    def _touch(self, kind: Kind, item: Object) -> None:
        self._write(kind, item)

    def _remove(self, kind: Kind, namespace: str, name: str) -> None:
        if kind == REVISION and self.driver is not None:
            self.driver.revision_gone(namespace, name)
        held = self._store.remove(Key(kind, namespace, name))
        if held is None:
            return
        self._news.notify_all()
        uid = held.item["metadata"]["uid"]
        for key in self._store.owned_by(uid):
            if key.kind == POD:
                self._leave(key.namespace, key.name)
            else:
                self._remove(*key)
        self._store.disown(uid)
        if kind == DEPLOYMENT:
            for refused in [key for key, pod in self._refused.items() if _owner_uid(pod) == uid]:
                self._give_up(refused)
        if kind == POD:
            self._forget(namespace, name, held.item)

    def _set_status(self, kind: Kind, namespace: str, name: str, status: Object) -> None:
        held = self._store.find(kind, namespace, name)
        if held is None:
            return
        merged = {**held.item.get("status", {}), **status}
        if merged != held.item.get("status"):
            self._write(kind, {**held.item, "status": merged})

    def _due_in(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._due, ((self._then or self.clock.now()) + seconds, self._store.number(), work))

    def _time(self) -> str:
        return stamp(self._then or self.clock.now())

    def _condition(self, kind: str, status: str, reason: str = "", message: str = "") -> Object:
        made = {"type": kind, "status": status, "lastTransitionTime": self._time()}
        return {**made, **({"reason": reason} if reason else {}), **({"message": message} if message else {})}

    def _kept(self, item: Object, conditions: Objects) -> Objects:
        """Return conditions, the old ones where only their time differs."""
        old = at(item, "status", "conditions", default=[])
        return old if [_untimed(row) for row in old] == [_untimed(row) for row in conditions] else conditions

    def _event(self, about: Object, kind: str, reason: str, message: str) -> None:
        """Note an event; the same one again is counted."""
        metadata, namespace = about["metadata"], _namespace(about)
        told = (metadata["uid"], reason, message)
        held = self._store.find(EVENT, namespace, self._told.get(told, ""))
        if held is not None:
            again = {**held.item, "count": held.item["count"] + 1, "lastTimestamp": self._time()}
            self._write(EVENT, again)
            return
        event = _bare(EVENT, f"{metadata['name']}.{self._store.number():016x}", namespace)
        event |= {
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": self._time(),
            "lastTimestamp": self._time(),
            "involvedObject": {
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
            },
        }
        self._write(EVENT, event)
        self._told[told] = event["metadata"]["name"]
        self._due_in(EVENT_TTL, lambda: self._expire_event(told, namespace))

    def _expire_event(self, told: tuple[str, str, str], namespace: str) -> None:
        name = self._told.get(told, "")
        held = self._store.find(EVENT, namespace, name)
        if held is not None:
            last = datetime.fromisoformat(held.item["lastTimestamp"]).timestamp()
            left = last + EVENT_TTL - (self._then or self.clock.now())
            if left > SECOND:
                self._due_in(left, lambda: self._expire_event(told, namespace))
                return
            self._remove(EVENT, namespace, name)
        self._told.pop(told, None)

    # Revisions

    def _reconcile(self, namespace: str, name: str) -> None:
        """Make the revision that a service's template wants, or note that it is there."""
        held = self._store.find(KNATIVE, namespace, name)
        if held is None:
            return
        service = held.item
        template = service["spec"]["template"]
        newest = at(service, "status", "latestCreatedRevisionName")
        if newest is not None:
            there = self._store.find(REVISION, namespace, newest)
            if there is not None and there.item["metadata"]["annotations"].get(_TEMPLATE) == _text(template):
                self._refresh(namespace, name)
                return
        number = int(newest.rpartition("-")[2]) + 1 if newest else 1
        revision = f"{name}-{number:05d}"
        made = _bare(REVISION, revision, namespace)
        given = template.get("metadata", {})
        made["metadata"] |= {
            "labels": {
                **(given.get("labels") or {}),
                keys.KNATIVE_SERVICE: name,
                "serving.knative.dev/configuration": name,
                keys.KNATIVE_GENERATION: str(number),
                _ROUTING: "active",
            },
            "annotations": {**(given.get("annotations") or {}), _TEMPLATE: _text(template)},
            "ownerReferences": [_owner(service)],
        }
        made["spec"] = deepcopy(template["spec"])
        made["status"] = {"conditions": [self._condition("Ready", "Unknown", "Deploying")]}
        self._write(REVISION, made)
        low, high = _bounds(made)
        initial = _number(made, keys.INITIAL_SCALE, 1)
        wanted = min(max(initial, low), high)
        self._make_scaler(made, wanted)
        deployment = _bare(DEPLOYMENT, f"{revision}-deployment", namespace)
        deployment["metadata"] |= {"labels": made["metadata"]["labels"], "ownerReferences": [_owner(made)]}
        spec = deepcopy(template["spec"])
        spec["containers"] = [*spec.get("containers", []), deepcopy(SIDECAR)]
        metadata = {"annotations": dict(given.get("annotations") or {})}
        deployment["spec"] = {"replicas": wanted, "template": {"metadata": metadata, "spec": spec}}
        self._write(DEPLOYMENT, deployment)
        self._event(service, "Normal", "Created", f'Created Revision "{revision}"')
        self._set_status(
            KNATIVE,
            namespace,
            name,
            {
                "latestCreatedRevisionName": revision,
                "url": f"http://{name}.{namespace}.{self.domain}",
                "observedGeneration": service["metadata"]["generation"],
            },
        )
        deadline = at(given, "annotations", keys.PROGRESS_DEADLINE)
        seconds = (_seconds(deadline) if deadline else None) or self.life.deadline
        self._due_in(seconds, lambda: self._expire(namespace, revision))
        if self.driver is None:
            self._reconcile_pods(namespace, revision)
        else:
            self.driver.revision_made(namespace, revision)
            self._refresh_deployment(namespace, revision)
        self._refresh(namespace, name)

    def _make_scaler(self, revision: Object, wanted: int) -> None:
        metadata = revision["metadata"]
        made = _bare(POD_AUTOSCALER, metadata["name"], _namespace(revision))
        annotations = {name: value for name, value in metadata["annotations"].items() if name != _TEMPLATE}
        made["metadata"] |= {
            "labels": metadata["labels"],
            "annotations": annotations,
            "ownerReferences": [_owner(revision)],
        }
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{metadata['name']}-deployment"}
        made["spec"] = {"scaleTargetRef": target}
        made["status"] = {"desiredScale": wanted, "actualScale": 0}
        self._write(POD_AUTOSCALER, made)
        if annotations.get(keys.CLASS) == keys.CLASS_HPA:
            self._write(HPA, _hpa(made))

    def _rescale(self, namespace: str, revision: str) -> None:
        """Take over scaling annotations that were set on a revision, as its reconciler does."""
        held = self._store.find(REVISION, namespace, revision)
        scaler = self._store.find(POD_AUTOSCALER, namespace, revision)
        if held is None or scaler is None:
            return
        annotations = {k: v for k, v in held.item["metadata"]["annotations"].items() if k != _TEMPLATE}
        if scaler.item["metadata"]["annotations"] == annotations:
            return
        scaler.item["metadata"]["annotations"] = annotations
        self._touch(POD_AUTOSCALER, scaler.item)
        hpa = self._store.find(HPA, namespace, revision)
        if hpa is not None:
            self._write(HPA, {**_hpa(scaler.item), "status": hpa.item.get("status", {})})
        if self.driver is None:
            self.scale(namespace, revision, at(scaler.item, "status", "desiredScale", default=0))
        else:
            self.driver.revision_changed(namespace, revision)

    def _reconcile_kserve(self, namespace: str, name: str) -> None:
        """Make a predictor's ksvc of an InferenceService in Knative mode; what stops it removes that."""
        held = self._store.find(KSERVE, namespace, name)
        if held is None:
            return
        predictor = f"{name}-predictor"
        if at(held.item, "metadata", "annotations", keys.STOP) == "true":
            self._remove(KNATIVE, namespace, predictor)
            conditions = [self._condition("Ready", "False", "Stopped"), self._condition("Stopped", "True", "Stopped")]
            self._set_status(KSERVE, namespace, name, {"conditions": conditions})
            return
        mode = at(held.item, "metadata", "annotations", keys.DEPLOYMENT_MODE, default="Knative")
        if mode not in {"Knative", "Serverless"}:
            told = f"the simulated cluster makes no pods in KServe's {mode} mode"
            conditions = self._kept(held.item, [self._condition("Ready", "False", "NotSimulated", told)])
            self._set_status(KSERVE, namespace, name, {"conditions": conditions})
            return
        given = held.item["spec"]["predictor"]
        annotations = {
            **(given.get("annotations") or {}),
            keys.MIN_SCALE: str(given.get("minReplicas", 1)),
            keys.MAX_SCALE: str(given.get("maxReplicas", 0) or 2**31 - 1),
        }
        service = _bare(KNATIVE, predictor, namespace)
        service["metadata"] |= {
            "labels": {keys.KSERVE_SERVICE: name},
            "ownerReferences": [_owner(held.item)],
        }
        service["spec"] = {
            "template": {
                "metadata": {
                    "labels": {**(given.get("labels") or {}), keys.KSERVE_SERVICE: name},
                    "annotations": annotations,
                },
                "spec": _predictor_spec(given),
            }
        }
        percent = given.get("canaryTrafficPercent")
        before = at(held.item, "status", "components", "predictor", "latestRolledoutRevision")
        if percent is not None and before is not None:
            service["spec"]["traffic"] = [
                {"latestRevision": True, "percent": percent},
                {"revisionName": before, "latestRevision": False, "percent": 100 - percent, "tag": "prev"},
            ]
        there = self._store.find(KNATIVE, namespace, predictor)
        if there is not None:
            service["status"] = there.item.get("status", {})
        try:
            made = _defaulted(KNATIVE, service, self.max_scale_limit)
        except RefusedError as error:
            condition = self._condition("Ready", "False", "ReconcileError", str(error))
            self._set_status(KSERVE, namespace, name, {"conditions": self._kept(held.item, [condition])})
            return
        self._put(KNATIVE, Held(made), there)

    def _set_replicas(self, namespace: str, revision: str, wanted: int) -> None:
        deployment = self._find(DEPLOYMENT, f"{revision}-deployment", namespace).item
        before = deployment["spec"]["replicas"]
        if before == wanted:
            return
        deployment["spec"]["replicas"] = wanted
        self._touch(DEPLOYMENT, deployment)
        name = deployment["metadata"]["name"]
        step = f"Scaled {'up' if wanted > before else 'down'} replica set {name}-{_digest(name, 10)} from {before} to {wanted}"
        self._event(deployment, "Normal", "ScalingReplicaSet", step)

    def _reconcile_pods(self, namespace: str, revision: str) -> None:
        """Make the pods that are wanted, end those that are not; a driver does so itself."""
        held = self._store.find(DEPLOYMENT, namespace, f"{revision}-deployment")
        if held is None or self.driver is not None:
            return
        deployment = held.item
        alive = self._alive(namespace, deployment["metadata"]["name"])
        refused = [key for key, pod in self._refused.items() if _owner_uid(pod) == deployment["metadata"]["uid"]]
        wanted = deployment["spec"]["replicas"]
        for key in refused[max(0, wanted - len(alive)) :]:
            self._give_up(key)
        for pod in alive[wanted:]:
            self._leave(namespace, pod["metadata"]["name"])
        for _ in range(wanted - len(alive) - len(refused)):
            self._start(deployment, revision, self.life)
        self._refresh_deployment(namespace, revision)

    def _alive(self, namespace: str, deployment: str) -> Objects:
        """Return a Deployment's pods that are not on their way out, oldest first."""
        found = (
            self._store.find(POD, namespace, name) for name in self._of_deployment.get((namespace, deployment), ())
        )
        return [held.item for held in found if held is not None and "deletionTimestamp" not in held.item["metadata"]]

    # Pods

    def _start(self, deployment: Object, revision: str, life: Life) -> str:
        namespace, owner = _namespace(deployment), deployment["metadata"]["name"]
        name = f"{owner}-{_digest(owner, 10)}-{_digest(str(self._store.number()), 5)}"
        pod = _bare(POD, name, namespace)
        template = deployment["spec"]["template"]
        pod["metadata"] |= {
            "labels": {**deployment["metadata"]["labels"], keys.KNATIVE_REVISION: revision},
            "annotations": dict(at(template, "metadata", "annotations", default={})),
            "ownerReferences": [_owner(deployment)],
        }
        pod["spec"] = deepcopy(template["spec"])
        self._admit(pod, life)
        return name

    def _admit(self, pod: Object, life: Life, seconds: float = 0.0) -> None:
        """Make a pod, unless its class is unknown or a quota refuses it: then ask again after a while."""
        namespace, name = key = _place(pod)
        classes = {held.item["metadata"]["name"]: held.item["value"] for held in self._store.all(PRIORITY_CLASS)}
        chosen = at(pod, "spec", "priorityClassName")
        wanted = asked(pod)
        self._asked[key], self._lives[key] = wanted, life
        told = ""
        if chosen is not None and classes and chosen not in classes:
            told = f"no PriorityClass with name {chosen} was found"
        elif chosen is not None:
            pod["spec"]["priority"] = classes.get(chosen, 0)
        if not told:
            quotas = [held.item for held in self._store.all(QUOTA, namespace)]
            used = {quota["metadata"]["name"]: self._used(quota) for quota in quotas}
            told = scheduling.refusals(iter(quotas), used, pod, wanted)
        owner = self._owner_of(pod)
        if told:
            self._refused[key] = pod
            if owner is not None:
                message = f'pods "{name}" is forbidden: {told}'
                self._event(owner, "Warning", "FailedCreate", f"Error creating: {told}")
                self._set_failure(owner, message)
            if self.driver is not None:
                self.driver.pod_delayed(namespace, name)
            self._ask_again(key, min(2 * seconds, RETRY[1]) if seconds else RETRY[0])
            return
        late = self._refused.pop(key, None) is not None
        self._attempts.pop(key, None)
        if owner is not None:
            self._set_failure(owner, "")
        pod["status"] = {"phase": "Pending", "conditions": []}
        self._write(POD, pod)
        if owner is not None:
            self._of_deployment.setdefault((namespace, owner["metadata"]["name"]), {})[name] = None
        self._recount(namespace)
        self._due_in(life.schedule, lambda: self._schedule(key, late=late))

    def _ask_again(self, key: tuple[str, str], seconds: float) -> None:
        """Let a refused pod be asked for once more, in so many seconds and no longer when that was planned before."""
        number = self._attempts[key] = self._store.number()

        def attempt() -> None:
            if self._attempts.get(key) == number:
                self._admit(self._refused[key], self._lives[key], seconds)

        self._due_in(seconds, attempt)

    def _give_up(self, key: tuple[str, str]) -> None:
        """Ask no longer for a refused pod."""
        if self._refused.pop(key, None) is not None:
            for kept in (self._attempts, self._asked, self._lives):
                kept.pop(key, None)

    def _owner_of(self, pod: Object) -> Object | None:
        owner = at(pod, "metadata", "ownerReferences", 0, default={})
        held = self._store.find(DEPLOYMENT, _namespace(pod), owner.get("name", ""))
        return held.item if held is not None else None

    def _set_failure(self, deployment: Object, message: str) -> None:
        """Say on a Deployment why its pods cannot be made, or no longer."""
        before = at(deployment, "status", "conditions", default=[])
        if not message and not before:
            return
        conditions = [self._condition("ReplicaFailure", "True", "FailedCreate", message)] if message else []
        status = {"conditions": self._kept(deployment, conditions)}
        self._set_status(DEPLOYMENT, _namespace(deployment), deployment["metadata"]["name"], status)
        if message:
            revision = at(deployment, "metadata", "ownerReferences", 0, "name", default="")
            self._fail(_namespace(deployment), revision, "FailedCreate", message)

    def _schedule(self, key: tuple[str, str], *, late: bool = False) -> None:
        """Place a pod on a node, drive others out for it, or say what there is too little of."""
        held = self._store.find(POD, *key)
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            self._waiting.pop(key, None)
            return
        pod = held.item
        nodes = {each.item["metadata"]["name"]: each.item for each in self._store.all(NODE)}
        found = scheduling.place(pod, nodes, self._on, may_preempt=not self._gives_way(pod))
        life = self._lives[key]
        if found.node:
            late = self._waiting.pop(key, ABSENT) is not ABSENT or late
            pod["spec"]["nodeName"] = found.node
            pod["status"] = {"phase": "Pending", "conditions": [self._condition("PodScheduled", "True")]}
            bound = scheduling.Bound(self._asked[key], at(pod, "spec", "priority", default=0))
            self._on.setdefault(found.node, {})[key] = bound
            self._touch(POD, pod)
            self._event(pod, "Normal", "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {found.node}")
            if late and self.driver is not None:
                self.driver.pod_placed(*key, (self._then or self.clock.now()) + life.pull + life.start)
            self._due_in(life.pull, lambda: self._pulled(*key))
            return
        if key not in self._waiting and self.driver is not None:
            self.driver.pod_delayed(*key)
        self._waiting[key] = None
        condition = self._condition("PodScheduled", "False", "Unschedulable", found.message)
        before = at(pod, "status", "conditions", default=[])
        if [_untimed(row) for row in before] != [_untimed(condition)]:
            if found.message != at(pod, "status", "conditions", 0, "message"):
                self._event(pod, "Warning", "FailedScheduling", found.message)
            pod["status"]["conditions"] = [condition]
            if found.nominated:
                pod["status"]["nominatedNodeName"] = found.nominated
            self._touch(POD, pod)
            self._keeps(pod, "Unschedulable", found.message)
        for victim in found.victims:
            self._evict(victim, pod, found.nominated)

    def _gives_way(self, pod: Object) -> bool:
        """Say whether somebody is on the way out for a pod already. Upstream: PodEligibleToPreemptOthers."""
        priority = at(pod, "spec", "priority", default=0)
        there = self._on.get(at(pod, "status", "nominatedNodeName", default=""), {})
        leaving = (self._store.find(POD, *key) for key, bound in there.items() if bound.priority < priority)
        return any(held is not None and "deletionTimestamp" in held.item["metadata"] for held in leaving)

    def _evict(self, victim: tuple[str, str], pod: Object, node: str) -> None:
        held = self._store.find(POD, *victim)
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            return
        told = f"Preempted by pod {pod['metadata']['uid']} on node {node}"
        self._event(held.item, "Normal", "Preempted", told)
        owner, revision = self._owner_of(held.item), at(held.item, "metadata", "labels", keys.KNATIVE_REVISION)
        self._leave(*victim)
        if self.driver is not None:
            self.driver.pod_evicted(*victim)
        elif owner is not None:
            self._reconcile_pods(victim[0], revision)

    def _retry(self) -> None:
        """Let pods that wait be looked at again soon: something left or came."""
        if self._waiting and not self._retrying:
            self._retrying = True
            self._due_in(SECOND, self._look_again)

    def _look_again(self) -> None:
        self._retrying = False
        waiting = [(key, self._store.find(POD, *key)) for key in self._waiting]
        ranks = [
            (-at(held.item, "spec", "priority", default=0), held.item["metadata"]["creationTimestamp"], key)
            for key, held in waiting
            if held is not None
        ]
        for _, _, key in sorted(ranks):
            self._schedule(key)

    def _pulled(self, namespace: str, name: str) -> None:
        held = self._store.find(POD, namespace, name)
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            return
        pod = held.item
        containers = at(pod, "spec", "containers", default=[])
        image = at(containers, 0, "image", default="")
        state: Object = {"running": {"startedAt": self._time()}}
        rows = [
            {
                "name": row.get("name", ""),
                "ready": False,
                "restartCount": 0,
                "image": row.get("image", ""),
                "state": state,
            }
            for row in containers
        ]
        if image in self.missing_images:
            message = f'Back-off pulling image "{image}": ErrImagePull: not found'
            rows[0]["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            self._event(pod, "Warning", "Failed", f'Failed to pull image "{image}": not found')
        else:
            pod["status"]["phase"] = "Running"
            self._event(pod, "Normal", "Started", f"Started container {at(containers, 0, 'name', default='')}")
        pod["status"]["containerStatuses"] = rows
        self._touch(POD, pod)
        if image not in self.missing_images | self.broken_images:
            self._due_in(self._lives[namespace, name].start, lambda: self._become_ready(namespace, name))
        elif self.driver is not None:
            self.driver.pod_delayed(namespace, name)

    def _become_ready(self, namespace: str, name: str) -> None:
        held = self._store.find(POD, namespace, name)
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            return
        pod = held.item
        for row in pod["status"]["containerStatuses"]:
            row["ready"] = True
        pod["status"]["conditions"] = [self._condition("PodScheduled", "True"), self._condition("Ready", "True")]
        self._touch(POD, pod)
        revision = at(pod, "metadata", "labels", keys.KNATIVE_REVISION)
        if revision is not None:
            self._refresh_deployment(namespace, revision)

    def _leave(self, namespace: str, name: str, seconds: float | None = None) -> None:
        """Mark a pod for deletion; it is gone some seconds later."""
        held = self._store.find(POD, namespace, name)
        if held is None:
            return
        if "deletionTimestamp" not in held.item["metadata"]:
            held.item["metadata"]["deletionTimestamp"] = self._time()
            self._touch(POD, held.item)
        elif seconds is None:
            return
        seconds = self._lives.get((namespace, name), self.life).end if seconds is None else seconds
        if not at(held.item, "spec", "nodeName"):
            # What never ran is gone at once.
            seconds = 0.0
        if seconds < math.inf:
            self._due_in(seconds, lambda: self._remove(POD, namespace, name))

    def _forget(self, namespace: str, name: str, pod: Object) -> None:
        """Free what a pod held."""
        key = (namespace, name)
        self._on.get(at(pod, "spec", "nodeName", default=""), {}).pop(key, None)
        for kept in (self._asked, self._lives, self._waiting):
            kept.pop(key, None)
        for container in at(pod, "spec", "containers", default=[]):
            self._logs.pop((namespace, name, container.get("name", "")), None)
        owner = at(pod, "metadata", "ownerReferences", 0, "name", default="")
        of = self._of_deployment.get((namespace, owner), {})
        of.pop(name, None)
        if not of:
            self._of_deployment.pop((namespace, owner), None)
        self._recount(namespace)
        self._readmit_soon(namespace)
        self._retry()

    # Quotas

    def _used(self, quota: Object) -> dict[str, float]:
        hard = at(quota, "spec", "hard", default={})
        total = dict.fromkeys(hard, 0.0)
        for held in self._store.all(POD, _namespace(quota)):
            if scheduling.counts(quota, held.item):
                wanted = self._asked.get(_place(held.item), {})
                for name, amount in scheduling.charged(wanted, hard).items():
                    total[name] += amount
        return total

    def _count(self, quota: Object) -> None:
        """Bring a quota's status up to what its namespace's pods ask for."""
        if "spec" not in quota:
            return
        used = scheduling.written(self._used(quota))
        status = {"hard": at(quota, "spec", "hard", default={}), "used": used}
        self._set_status(QUOTA, _namespace(quota), quota["metadata"]["name"], status)

    def _recount(self, namespace: str) -> None:
        for held in self._store.all(QUOTA, namespace):
            self._count(held.item)

    def _readmit_soon(self, namespace: str) -> None:
        """Let pods be asked for again that a quota refused, where there is more room in it now."""
        for key in [key for key in self._refused if key[0] == namespace]:
            self._ask_again(key, SECOND)

    # Status

    def _refresh_deployment(self, namespace: str, revision: str) -> None:
        """Count a revision's pods, and carry the count to its statuses."""
        held = self._store.find(DEPLOYMENT, namespace, f"{revision}-deployment")
        if held is None:
            return
        alive = self._alive(namespace, f"{revision}-deployment")
        ready = sum(is_ready(pod) for pod in alive)
        wanted = held.item["spec"]["replicas"]
        status = {"replicas": len(alive), "readyReplicas": ready, "availableReplicas": ready}
        self._set_status(DEPLOYMENT, namespace, f"{revision}-deployment", status)
        scaler = self._find(POD_AUTOSCALER, revision, namespace).item
        desired = at(scaler, "status", "desiredScale", default=wanted) if self.driver is not None else wanted
        self._set_status(POD_AUTOSCALER, namespace, revision, {"actualScale": ready, "desiredScale": desired})
        found = self._find(REVISION, revision, namespace).item
        was = at(found, "status", "conditions", 0, "status")
        conditions = found["status"]["conditions"]
        if ready >= wanted and (was == "Unknown" or (wanted and was == "False")):
            conditions = [self._condition("Ready", "True"), self._condition("Active", "True")]
        elif was == "True":
            active: Object = next(
                (row for row in at(scaler, "status", "conditions", default=[]) if row["type"] == "Active"),
                conditions[1],
            )
            conditions = self._kept(found, [conditions[0], {**active, "lastTransitionTime": self._time()}])
        self._set_status(
            REVISION,
            namespace,
            revision,
            {"actualReplicas": ready, "desiredReplicas": wanted, "conditions": conditions},
        )
        if was != at(conditions, 0, "status"):
            service = found["metadata"]["labels"][keys.KNATIVE_SERVICE]
            self._due_in(0.0 if was == "False" else self.life.route, lambda: self._refresh(namespace, service))

    def _expire(self, namespace: str, revision: str) -> None:
        """Let a revision that is not ready in its time fail, by what its first pod waits for if that is told."""
        if at(self.peek(REVISION, namespace, revision), "status", "conditions", 0, "reason") == "Unschedulable":
            return
        pod = next(iter(self._alive(namespace, f"{revision}-deployment")), None)
        waiting = at(pod, "status", "containerStatuses", 0, "state", "waiting", default={})
        message = waiting.get("message") or f'ReplicaSet "{revision}-deployment" has timed out progressing.'
        self._fail(namespace, revision, waiting.get("reason") or "ProgressDeadlineExceeded", message)

    def _keeps(self, pod: Object, reason: str, message: str) -> None:
        """Carry what keeps a pod to its revision."""
        revision = at(pod, "metadata", "labels", keys.KNATIVE_REVISION)
        if revision is not None:
            self._fail(_namespace(pod), revision, reason, message)

    def _fail(self, namespace: str, revision: str, reason: str, message: str) -> None:
        """Say of a revision that was not ready yet why it is not; it may become so all the same."""
        held = self._store.find(REVISION, namespace, revision)
        if held is None or at(held.item, "status", "conditions", 0, "status") == "True":
            return
        condition = self._condition("Ready", "False", reason, message)
        self._set_status(REVISION, namespace, revision, {"conditions": self._kept(held.item, [condition])})
        self._refresh(namespace, held.item["metadata"]["labels"][keys.KNATIVE_SERVICE])

    def _refresh(self, namespace: str, name: str) -> None:
        """Carry the revisions' readiness to the service, its route, and the InferenceService over it."""
        held = self._store.find(KNATIVE, namespace, name)
        if held is None:
            return
        service = held.item
        newest = at(service, "status", "latestCreatedRevisionName", default="")
        revision = self._store.find(REVISION, namespace, newest)
        if revision is None:
            return
        ready = at(revision.item, "status", "conditions", 0, default={})
        status: Object = {"observedGeneration": service["metadata"].get("generation", 1)}
        if ready.get("status") == "True":
            status["latestReadyRevisionName"] = newest
            status["traffic"] = self._traffic(service, newest)
            conditions = [self._condition(kind, "True") for kind in ("ConfigurationsReady", "Ready", "RoutesReady")]
        else:
            before = at(service, "status", "latestReadyRevisionName")
            failed = ready.get("status") == "False"
            words = f'Revision "{newest}" failed with message: {ready.get("message")}.' if failed else ""
            if before is not None:
                status["traffic"] = self._traffic(service, before)
            reason = "RevisionFailed" if failed else "" if before else "RevisionMissing"
            conditions = [
                self._condition("ConfigurationsReady", ready.get("status", "Unknown"), reason, words),
                self._condition("Ready", ready.get("status", "Unknown"), reason, words),
                self._condition("RoutesReady", "True" if before else "Unknown"),
            ]
        status["conditions"] = self._kept(service, conditions)
        moved = status.get("traffic") != at(service, "status", "traffic")
        self._set_status(KNATIVE, namespace, name, status)
        self._retire(namespace, name)
        if moved and self.driver is not None:
            self.driver.routed(namespace, name)
        self._refresh_kserve(namespace, self._find(KNATIVE, name, namespace).item)

    def _traffic(self, service: Object, newest: str) -> Objects:
        given = at(service, "spec", "traffic") or [{"latestRevision": True, "percent": 100}]
        where = f"{service['metadata']['name']}.{_namespace(service)}.{self.domain}"
        return [
            {
                **row,
                "revisionName": row.get("revisionName") or newest,
                **({"url": f"http://{row['tag']}-{where}"} if row.get("tag") else {}),
            }
            for row in given
        ]

    def _retire(self, namespace: str, name: str) -> None:
        """Let revisions without traffic go to zero."""
        service = self._find(KNATIVE, name, namespace).item
        serving = {row["revisionName"] for row in at(service, "status", "traffic", default=[])}
        newest = at(service, "status", "latestCreatedRevisionName")
        configured = (key for key in self._store.owned_by(service["metadata"]["uid"]) if key.kind == REVISION)
        for key in [*configured]:
            item = self._find(REVISION, key.name, namespace).item
            state = "active" if key.name in serving or key.name == newest else "reserve"
            if at(item, "metadata", "labels", _ROUTING) != state:
                item["metadata"]["labels"] = {**item["metadata"]["labels"], _ROUTING: state}
                self._touch(REVISION, item)
            deployment = self._store.find(DEPLOYMENT, namespace, f"{key.name}-deployment")
            if (
                state == "reserve"
                and self.driver is None
                and deployment is not None
                and deployment.item["spec"]["replicas"]
            ):
                deployment.item["spec"]["replicas"] = 0
                self._touch(DEPLOYMENT, deployment.item)
                self._reconcile_pods(namespace, key.name)

    def _refresh_kserve(self, namespace: str, service: Object) -> None:
        owner = at(service, "metadata", "ownerReferences", 0, default={})
        held = self._store.find(KSERVE, namespace, owner.get("name", ""))
        if owner.get("kind") != "InferenceService" or held is None:
            return
        ready: Object = next(
            (row for row in at(service, "status", "conditions", default=[]) if row["type"] == "Ready"), {}
        )
        conditions = [{**ready, "type": kind} for kind in ("PredictorReady", "Ready") if ready]
        before = at(held.item, "status", "components", "predictor", default={})
        newest = at(service, "status", "latestReadyRevisionName")
        component = {
            "latestCreatedRevision": at(service, "status", "latestCreatedRevisionName"),
            "latestReadyRevision": newest,
            "traffic": at(service, "status", "traffic", default=[]),
        }
        rolled, previous = before.get("latestRolledoutRevision"), before.get("previousRolledoutRevision")
        if newest and [row["revisionName"] for row in component["traffic"] if row.get("percent")] == [newest]:
            rolled, previous = newest, previous if rolled in {None, newest} else rolled
        component |= {"latestRolledoutRevision": rolled} if rolled else {}
        component |= {"previousRolledoutRevision": previous} if previous else {}
        url = f"http://{owner['name']}.{namespace}.{self.domain}"
        self._set_status(
            KSERVE,
            namespace,
            owner["name"],
            {
                "conditions": self._kept(held.item, [*conditions, self._condition("Stopped", "False")]),
                "url": url,
                "components": {"predictor": component},
            },
        )


_TARGET: Final = re.compile(r"\d+(\.\d+)?")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
#: The template that a revision was made from: real ones are told by the Configuration's generation.
_TEMPLATE: Final = "simulated.ebbtide.dev/template"
_ROUTING: Final = "serving.knative.dev/routingState"
#: What KServe's predictor keeps to itself; the rest of it is a pod's spec.
_OF_PREDICTOR: Final = {
    "minReplicas",
    "maxReplicas",
    "canaryTrafficPercent",
    "labels",
    "annotations",
    "model",
    "scaleMetric",
    "scaleTarget",
    "timeout",
    "logger",
    "batcher",
}


def _hold_to(basis: Object | None, held: Held | None) -> None:
    """Refuse a write that goes by what was read, where that is there no more."""
    now = {} if held is None else held.item["metadata"]
    if basis is not None and any(now.get(part) != basis["metadata"][part] for part in ("uid", "resourceVersion")):
        raise StaleError("the object has been modified; please apply your changes to the latest version and try again")


def _predictor_spec(given: Object) -> Object:
    """Return the template's spec that KServe makes of a predictor: its server's container, and a pod's other fields."""
    spec = {name: deepcopy(value) for name, value in given.items() if name not in _OF_PREDICTOR}
    if "model" in given:
        kept = ("resources", "env", "args", "securityContext", "image", "ports", "readinessProbe")
        model = {name: deepcopy(given["model"][name]) for name in kept if name in given["model"]}
        runtime = at(given, "model", "modelFormat", "name", default="model")
        spec["containers"] = [{"image": f"kserve/{runtime}server:v0.20.0", **model, "name": "kserve-container"}]
    if "timeout" in given:
        spec["timeoutSeconds"] = given["timeout"]
    return spec


def _caught_up(known: dict[tuple[str, str], Object], items: Objects) -> Iterator[Seen]:
    """Yield what a fresh list adds to what a watch has told, and remember it."""
    now = {_place(item): item for item in items}
    for place in [place for place in known if place not in now]:
        yield Seen("DELETED", known.pop(place))
    for place, item in now.items():
        before = known.get(place)
        known[place] = item
        if before is None or before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            yield Seen("ADDED" if before is None else "MODIFIED", item)


def _hpa(scaler: Object) -> Object:
    """Return the HPA that class hpa makes of a PodAutoscaler."""
    metadata, annotations = scaler["metadata"], scaler["metadata"]["annotations"]
    made = _bare(HPA, metadata["name"], _namespace(scaler))
    made["metadata"] |= {
        "labels": metadata["labels"],
        "annotations": annotations,
        "ownerReferences": [_owner(scaler)],
    }
    metric, target = annotations.get(keys.METRIC, "cpu"), annotations.get(keys.TARGET, "80")
    row: Object
    if metric == "cpu":
        of = {"type": "Utilization", "averageUtilization": int(float(target))}
        row = {"type": "Resource", "resource": {"name": "cpu", "target": of}}
    else:
        of = {"type": "AverageValue", "averageValue": str(int(float(target)))}
        row = {"type": "Pods", "pods": {"metric": {"name": metric}, "target": of}}
    low, high = _bounds(scaler)
    made["spec"] = {
        "scaleTargetRef": scaler["spec"]["scaleTargetRef"],
        "minReplicas": max(low, 1),
        "maxReplicas": high,
        "metrics": [row],
    }
    return made


def stamp(time: float) -> str:
    """Return seconds since 1970 as the API writes times."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _digest(text: str, length: int) -> str:
    """Return letters that look drawn, and are always the same for a text."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in sha256(text.encode()).digest()[:length])


def _bare(kind: Kind, name: str, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def _namespace(item: Object) -> str:
    return str(at(item, "metadata", "namespace", default=""))


def _place(item: Object) -> tuple[str, str]:
    return _namespace(item), str(item["metadata"]["name"])


def _owner_uid(item: Object) -> str:
    return str(at(item, "metadata", "ownerReferences", 0, "uid", default=""))


def _owner(item: Object) -> Object:
    metadata = item["metadata"]
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _untimed(condition: Object) -> Object:
    return {name: value for name, value in condition.items() if name != "lastTransitionTime"}


def _defaulted(kind: Kind, item: Object, limit: int) -> Object:
    """Return an object as webhooks would complete it, refused where Knative's would."""
    made = deepcopy(item)
    if kind == KNATIVE:
        template = made["spec"].setdefault("template", {})
        _check(at(template, "metadata", "annotations", default={}), "spec.template.metadata.annotations", limit)
        template["spec"] = {**DEFAULTS, **template.get("spec", {})}
        made["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
    return made


def _check(annotations: Object, where: str, limit: int) -> None:
    """Refuse annotations that Knative's webhook does, as far as they are read here."""
    for key in (keys.MIN_SCALE, keys.MAX_SCALE, keys.INITIAL_SCALE):
        if not str(annotations.get(key, "0")).isdecimal():
            raise _denied(f"invalid value: {annotations[key]}: {where}.{key}")
    target = str(annotations.get(keys.TARGET, "1"))
    if _TARGET.fullmatch(target) is None:
        raise _denied(f"invalid value: {target}: {where}.{keys.TARGET}")
    deadline = annotations.get(keys.PROGRESS_DEADLINE)
    if deadline is not None and _seconds(deadline) is None:
        raise _denied(f"invalid value: {deadline}: {where}.{keys.PROGRESS_DEADLINE}")
    # With a limit Knative asks for a default of max-scale within it.
    low, high = annotations.get(keys.MIN_SCALE, "0"), annotations.get(keys.MAX_SCALE, str(limit))
    if limit and not 1 <= int(high) <= limit:
        raise _denied(f"expected 1 <= {high} <= {limit}: {where}.{keys.MAX_SCALE}")
    if int(high) and int(low) > int(high):
        raise _denied(f"max-scale={high} is less than min-scale={low}: {where}")


def _denied(reason: str) -> RefusedError:
    webhook = "validation.webhook.serving.knative.dev"
    return RefusedError(f'admission webhook "{webhook}" denied the request: validation failed: {reason}')


def _seconds(text: str) -> float | None:
    """Return a duration as Go writes it in seconds, None for what is none."""
    parts = _PART.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _number(item: Object, name: str, default: int) -> int:
    return int(at(item, "metadata", "annotations", name, default=default))


def _bounds(revision: Object) -> tuple[int, int]:
    high = _number(revision, keys.MAX_SCALE, 0) or 2**31 - 1
    return _number(revision, keys.MIN_SCALE, 0), high
