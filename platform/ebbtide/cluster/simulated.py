"""A cluster in memory: objects, versions, watches and field managers, and a simple life of services on a given clock.

It is no Kubernetes: nothing is validated but what Ebbtide's own commands meet. It keeps the contract of ``protocol.py``
(the suite runs on both), and from a Knative Service it makes a Revision, a PodAutoscaler, a Deployment and pods, which
are placed on GPUs while there are any, start within so many seconds, and become ready. Nothing happens by itself: time
is the clock's, and each call first does what was due until now. ``scale`` is what an autoscaler calls.

Upstream, for the shapes of what it makes: knative.dev/serving pkg/reconciler/{configuration,revision,service},
pkg/apis/serving/v1/revision_lifecycle.go; k8s.io/kubernetes pkg/scheduler (the words of Unschedulable).
"""

from __future__ import annotations

import heapq
import json
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from ebbtide import keys
from ebbtide.cluster.pods import asked, is_ready
from ebbtide.cluster.protocol import (
    DEPLOYMENT,
    EVENT,
    KNATIVE,
    KSERVE,
    LIVE_MANAGER,
    MANAGER,
    NAMESPACE,
    NODE,
    POD,
    POD_AUTOSCALER,
    REVISION,
    ConflictError,
    Kind,
    Listing,
    Mark,
    MissingError,
    Objects,
    RefusedError,
    Seen,
    at,
    kind_of,
    prepared,
)
from ebbtide.objects import merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.cluster.protocol import Clock
    from ebbtide.objects import Object

#: A field's place as its manager owns it.
Leaf = tuple[str, ...]
#: What the server or a controller sets: no manager owns it, and no apply removes it.
SERVERS: Final = ("status",)
SECOND: Final = 1.0
#: What a ksvc is given by Knative's webhook (pkg/apis/serving/v1/revision_defaults.go).
DEFAULTS: Final[Object] = {"containerConcurrency": 0, "timeoutSeconds": 300, "enableServiceLinks": False}


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


@dataclass(frozen=True, slots=True)
class Life:
    """How long the steps of a pod's life take, in seconds."""

    schedule: float = 1.0
    pull: float = 2.0
    start: float = 3.0
    #: From the last pod's readiness to the route's.
    route: float = 1.0
    #: What is left of a pod after its deletion.
    end: float = 2.0
    #: A revision that is not ready by then has failed (Knative's progress-deadline).
    deadline: float = 600.0


@dataclass(slots=True)
class Held:
    """One stored object and which manager owns which fields."""

    item: Object
    owned: dict[str, set[Leaf]] = field(default_factory=dict)


@dataclass(slots=True)
class Simulated:
    """The cluster: one node with so many GPU shares, and whatever is applied."""

    clock: Clock
    life: Life = field(default_factory=Life)
    gpus: dict[str, int] = field(default_factory=lambda: {keys.GPU: 1})
    domain: str = "example.com"
    namespace: str = "default"
    #: Images that cannot be pulled, and those whose server never becomes ready.
    missing_images: set[str] = field(default_factory=set)
    broken_images: set[str] = field(default_factory=set)
    #: What to raise at the n-th write to come: a test's way to end a command in the middle.
    fail: Callable[[Object], None] | None = None
    _held: dict[tuple[Kind, str, str], Held] = field(default_factory=dict)
    _log: list[tuple[int, Kind, Seen]] = field(default_factory=list)
    _logs: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    #: The moment of what is being done, while what was due is done.
    _then: float = 0.0
    _version: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        """Make the node and the namespace that every cluster has."""
        self._write(NAMESPACE, _bare(NAMESPACE, "default"))
        node = _bare(NODE, "node-1")
        node["status"] = {"allocatable": {"cpu": "64", "memory": "256Gi", **{k: str(v) for k, v in self.gpus.items()}}}
        self._write(NODE, node)

    # The protocol

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        """Return one object."""
        self.settle()
        return deepcopy(self._find(kind, name, namespace).item)

    def list(self, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        """Return all objects of a kind, by namespace and name."""
        self.settle()
        found = [
            deepcopy(held.item)
            for (of, where, _), held in sorted(self._held.items(), key=lambda row: (row[0][1], row[0][2]))
            if of == kind and namespace in {"", where} and _selects(labels, held.item)
        ]
        return Listing(found, str(self._version))

    def watch(
        self, kind: Kind, namespace: str = "", *, labels: str = "", since: str = "", seconds: float = 60.0
    ) -> Iterator[Seen]:
        """Yield changes as the clock goes on."""
        end = self.clock.now() + seconds
        version = int(since) if since else 0
        if not since:
            listing = self.list(kind, namespace, labels=labels)
            version = int(listing.version)
            for item in listing.items:
                yield Seen("ADDED", item)
        while True:
            self.settle()
            for number, of, seen in self._log[_after(self._log, version) :]:
                version = number
                if of == kind and namespace in {"", _namespace(seen.item)} and _selects(labels, seen.item):
                    yield Seen(seen.change, deepcopy(seen.item))
            if (left := end - self.clock.now()) <= 0:
                return
            self.clock.sleep(min(left, SECOND / 4))

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[Seen | Mark]:
        """Yield what there is to tell until now, and end: the clock is not this one's to move."""
        if since:
            self.settle()
            for _, of, seen in self._log[_after(self._log, int(since)) :]:
                if of == kind:
                    yield Seen(seen.change, deepcopy(seen.item))
        else:
            yield from (Seen("ADDED", item) for item in self.list(kind).items)
        yield Mark(str(self._version))

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> Object:
        """Merge an object in, by field managers."""
        self.settle()
        given = prepared(item)
        kind, metadata = kind_of(given), given["metadata"]
        where, name = metadata.get("namespace", ""), metadata["name"]
        if kind.namespaced and (NAMESPACE, "", where) not in self._held:
            raise MissingError(f'namespaces "{where}" not found')
        held = self._held.get((kind, where, name))
        now = set(_leaves(given))
        if held is None:
            made = Held(_defaulted(kind, given), {MANAGER: now})
        else:
            made = Held(deepcopy(held.item), {who: set(owned) for who, owned in held.owned.items()})
            _take(made, given, now, force=force)
            made.item = _defaulted(kind, made.item)
        if dry_run:
            return deepcopy(self._identified(kind, made.item, held))
        self._meddle(given)
        self._put(kind, made, held)
        self.settle()
        return deepcopy(self._find(kind, name, where).item)

    def patch(self, kind: Kind, name: str, namespace: str, patch: Object) -> Object:
        """Merge a patch in; its manager owns what it sets from then on."""
        self.settle()
        held = self._find(kind, name, namespace)
        self._meddle(patch)
        made = Held(merge_patch(held.item, patch), {who: set(owned) for who, owned in held.owned.items()})
        touched = set(_leaves(patch))
        for owned in made.owned.values():
            owned.difference_update(touched)
        made.owned.setdefault(LIVE_MANAGER, set()).update(
            leaf for leaf in touched if at(made.item, *leaf, default=_NONE) is not _NONE
        )
        self._put(kind, made, held)
        self.settle()
        return deepcopy(self._find(kind, name, namespace).item)

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        """Remove an object, and its pods some seconds later."""
        self.settle()
        if (kind, namespace, name) not in self._held:
            return
        self._meddle({"kind": kind.name, "metadata": {"name": name}})
        self._remove(kind, namespace, name)
        if kind == NAMESPACE:
            for of, where, inside in [key for key in self._held if key[1] == name]:
                self._remove(of, where, inside)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        """Yield what was written with ``say``; with ``follow`` it ends with the pod, as the clock goes on."""
        self._find(POD, pod, namespace)
        lines = self._logs.setdefault((namespace, pod, container), [])
        place = 0 if tail is None else max(0, len(lines) - tail)
        while True:
            yield from lines[place:]
            place = len(lines)
            if not follow or previous or (POD, namespace, pod) not in self._held:
                return
            self.clock.sleep(SECOND)
            self.settle()

    def events(self, namespace: str = "") -> Objects:
        """Return the events, oldest first."""
        found = self.list(EVENT, namespace).items
        return sorted(found, key=lambda event: (event["lastTimestamp"], event["metadata"]["name"]))

    # What drives it

    def settle(self) -> None:
        """Do what was due until now."""
        until = self.clock.now()
        while self._due and self._due[0][0] <= until:
            self._then, _, work = heapq.heappop(self._due)
            work()
        self._then = 0.0

    def scale(self, namespace: str, revision: str, replicas: int) -> None:
        """Set how many pods a revision wants, as an autoscaler does; its bounds hold."""
        held = self._find(REVISION, revision, namespace)
        low, high = _bounds(held.item)
        wanted = min(max(replicas, low), high)
        self._set_status(POD_AUTOSCALER, namespace, revision, {"desiredScale": wanted})
        deployment = self._find(DEPLOYMENT, f"{revision}-deployment", namespace).item
        deployment["spec"]["replicas"] = wanted
        self._touch(DEPLOYMENT, deployment)
        self._reconcile_pods(namespace, revision)

    def say(self, namespace: str, pod: str, container: str, line: str) -> None:
        """Write a line to a container's log."""
        self._logs.setdefault((namespace, pod, container), []).append(line)

    def put(self, item: Object) -> None:
        """Store an object as it is, as some controller would: for tests and demonstrations."""
        self._write(kind_of(item), deepcopy(item))

    # Storage

    def _find(self, kind: Kind, name: str, namespace: str) -> Held:
        found = self._held.get((kind, namespace if kind.namespaced else "", name))
        if found is None:
            raise MissingError(f'{kind.plural} "{name}" not found')
        return found

    def _meddle(self, item: Object) -> None:
        if self.fail is not None:
            self.fail(item)

    def _identified(self, kind: Kind, item: Object, before: Held | None) -> Object:
        metadata = item["metadata"]
        old = before.item["metadata"] if before is not None else {}
        metadata["uid"] = old.get("uid") or f"00000000-0000-4000-8000-{next(self._numbers):012d}"
        metadata["creationTimestamp"] = old.get("creationTimestamp") or self._time()
        generation = old.get("generation", 0)
        if before is None or before.item.get("spec") != item.get("spec"):
            generation += 1
        if kind not in {NAMESPACE, EVENT}:
            metadata["generation"] = generation
        metadata["resourceVersion"] = old.get("resourceVersion", "")
        return item

    def _put(self, kind: Kind, made: Held, before: Held | None) -> None:
        item = self._identified(kind, made.item, before)
        if before is not None and item == before.item and made.owned == before.owned:
            return
        self._write(kind, item, made.owned)
        if kind == KNATIVE and (before is None or before.item["spec"] != item["spec"]):
            self._due_in(0, lambda: self._reconcile(_namespace(item), item["metadata"]["name"]))
        if kind == KSERVE:
            self._due_in(0, lambda: self._reconcile_kserve(_namespace(item), item["metadata"]["name"]))
        if kind == REVISION and before is not None:
            self._due_in(0, lambda: self._rescale(_namespace(item), item["metadata"]["name"]))

    def _write(self, kind: Kind, item: Object, owned: dict[str, set[Leaf]] | None = None) -> None:
        key = (kind, _namespace(item) if kind.namespaced else "", item["metadata"]["name"])
        before = self._held.get(key)
        self._version += 1
        metadata = item["metadata"]
        metadata.setdefault("uid", f"00000000-0000-4000-8000-{next(self._numbers):012d}")
        metadata.setdefault("creationTimestamp", self._time())
        metadata["resourceVersion"] = str(self._version)
        kept = owned if owned is not None else (before.owned if before is not None else {})
        if kept:
            metadata["managedFields"] = [
                {"manager": who, "operation": "Apply" if who == MANAGER else "Update", "fieldsV1": _fields(owns)}
                for who, owns in sorted(kept.items())
                if owns
            ]
        self._held[key] = Held(item, kept)
        self._log.append((self._version, kind, Seen("ADDED" if before is None else "MODIFIED", deepcopy(item))))

    def _touch(self, kind: Kind, item: Object) -> None:
        self._write(kind, item)

    def _remove(self, kind: Kind, namespace: str, name: str) -> None:
        held = self._held.pop((kind, namespace if kind.namespaced else "", name), None)
        if held is None:
            return
        self._version += 1
        held.item["metadata"]["resourceVersion"] = str(self._version)
        self._log.append((self._version, kind, Seen("DELETED", deepcopy(held.item))))
        uid = held.item["metadata"]["uid"]
        for (of, where, inside), other in list(self._held.items()):
            if any(owner.get("uid") == uid for owner in at(other.item, "metadata", "ownerReferences", default=[])):
                if of == POD:
                    self._end(where, inside)
                else:
                    self._remove(of, where, inside)

    def _set_status(self, kind: Kind, namespace: str, name: str, status: Object) -> None:
        held = self._held.get((kind, namespace, name))
        if held is None:
            return
        merged = {**held.item.get("status", {}), **status}
        if merged != held.item.get("status"):
            self._write(kind, {**held.item, "status": merged})

    def _due_in(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._due, ((self._then or self.clock.now()) + seconds, next(self._numbers), work))

    def _time(self) -> str:
        return datetime.fromtimestamp(self._then or self.clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _condition(self, kind: str, status: str, reason: str = "", message: str = "") -> Object:
        made = {"type": kind, "status": status, "lastTransitionTime": self._time()}
        return {**made, **({"reason": reason} if reason else {}), **({"message": message} if message else {})}

    def _event(self, about: Object, kind: str, reason: str, message: str) -> None:
        metadata = about["metadata"]
        event = _bare(EVENT, f"{metadata['name']}.{next(self._numbers):016x}", _namespace(about))
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
                "namespace": _namespace(about),
                "uid": metadata["uid"],
            },
        }
        self._write(EVENT, event)

    # Life

    def _reconcile(self, namespace: str, name: str) -> None:
        """Make the revision that a service's template wants, or note that it is there."""
        held = self._held.get((KNATIVE, namespace, name))
        if held is None:
            return
        service = held.item
        template = service["spec"]["template"]
        newest = at(service, "status", "latestCreatedRevisionName")
        if newest is not None:
            there = self._held.get((REVISION, namespace, newest))
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
                "serving.knative.dev/routingState": "active",
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
        deployment["spec"] = {"replicas": wanted, "template": {"spec": deepcopy(template["spec"])}}
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
        seconds = float(deadline.rstrip("s")) if deadline else self.life.deadline
        self._due_in(seconds, lambda: self._expire(namespace, revision))
        self._reconcile_pods(namespace, revision)
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
        made["spec"] = {"scaleTargetRef": {"name": f"{metadata['name']}-deployment"}}
        made["status"] = {"desiredScale": wanted, "actualScale": 0}
        self._write(POD_AUTOSCALER, made)

    def _rescale(self, namespace: str, revision: str) -> None:
        """Take over scaling annotations that were set on a revision, as its reconciler does."""
        held = self._held.get((REVISION, namespace, revision))
        scaler = self._held.get((POD_AUTOSCALER, namespace, revision))
        if held is None or scaler is None:
            return
        annotations = {k: v for k, v in held.item["metadata"]["annotations"].items() if k != _TEMPLATE}
        scaler.item["metadata"]["annotations"] = annotations
        self._touch(POD_AUTOSCALER, scaler.item)
        self.scale(namespace, revision, at(scaler.item, "status", "desiredScale", default=0))

    def _reconcile_kserve(self, namespace: str, name: str) -> None:
        """Make a predictor's ksvc of an InferenceService in Knative mode; what stops it removes that."""
        held = self._held.get((KSERVE, namespace, name))
        if held is None:
            return
        predictor = f"{name}-predictor"
        if at(held.item, "metadata", "annotations", keys.STOP) == "true":
            self._remove(KNATIVE, namespace, predictor)
            conditions = [self._condition("Ready", "False", "Stopped"), self._condition("Stopped", "True", "Stopped")]
            self._set_status(KSERVE, namespace, name, {"conditions": conditions})
            return
        given = held.item["spec"]["predictor"]
        annotations = {
            **(given.get("annotations") or {}),
            keys.MIN_SCALE: str(given.get("minReplicas", 1)),
            keys.MAX_SCALE: str(given.get("maxReplicas", 0) or 2**31 - 1),
        }
        containers = given.get("containers") or [{"name": "kserve-container", **given.get("model", {})}]
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
                "spec": {"containers": containers},
            }
        }
        before = self._held.get((KNATIVE, namespace, predictor))
        if before is not None:
            service["status"] = before.item.get("status", {})
        self._put(KNATIVE, Held(_defaulted(KNATIVE, service)), before)

    def _reconcile_pods(self, namespace: str, revision: str) -> None:
        """Make the pods that are wanted, end those that are not."""
        held = self._held.get((DEPLOYMENT, namespace, f"{revision}-deployment"))
        if held is None:
            return
        deployment = held.item
        alive = [pod for pod in self._pods(namespace, revision) if "deletionTimestamp" not in pod["metadata"]]
        wanted = deployment["spec"]["replicas"]
        for pod in alive[wanted:]:
            self._end(namespace, pod["metadata"]["name"])
        for _ in range(wanted - len(alive)):
            self._start(deployment, revision)
        self._refresh_deployment(namespace, revision)

    def _pods(self, namespace: str, revision: str) -> Objects:
        return [
            held.item
            for (of, where, _), held in self._held.items()
            if of == POD
            and where == namespace
            and at(held.item, "metadata", "labels", keys.KNATIVE_REVISION) == revision
        ]

    def _start(self, deployment: Object, revision: str) -> None:
        namespace = _namespace(deployment)
        pod = _bare(POD, f"{revision}-deployment-{next(self._numbers):05x}", namespace)
        pod["metadata"] |= {
            "labels": {**deployment["metadata"]["labels"], keys.KNATIVE_REVISION: revision},
            "annotations": {},
            "ownerReferences": [_owner(deployment)],
        }
        pod["spec"] = deepcopy(deployment["spec"]["template"]["spec"])
        pod["status"] = {"phase": "Pending", "conditions": []}
        self._write(POD, pod)
        self._due_in(self.life.schedule, lambda: self._schedule(namespace, pod["metadata"]["name"]))

    def _schedule(self, namespace: str, name: str) -> None:
        """Place a pod on the node, or say what there is too little of."""
        held = self._held.get((POD, namespace, name))
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            return
        pod = held.item
        lacking = [
            resource
            for resource, wanted in asked(pod).items()
            if wanted > self._free(resource) and resource in self.gpus
        ]
        if lacking:
            message = (
                f"0/1 nodes are available: 1 Insufficient {lacking[0]}. "
                "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
            )
            if not pod["status"]["conditions"]:
                self._event(pod, "Warning", "FailedScheduling", message)
            pod["status"]["conditions"] = [self._condition("PodScheduled", "False", "Unschedulable", message)]
            self._touch(POD, pod)
            self._due_in(SECOND, lambda: self._schedule(namespace, name))
            return
        pod["spec"]["nodeName"] = "node-1"
        pod["status"]["conditions"] = [self._condition("PodScheduled", "True")]
        self._touch(POD, pod)
        self._event(pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to node-1")
        self._due_in(self.life.pull, lambda: self._pulled(namespace, name))

    def _free(self, resource: str) -> float:
        used = sum(
            asked(held.item).get(resource, 0.0)
            for (of, _, _), held in self._held.items()
            if of == POD and at(held.item, "spec", "nodeName") and held.item["status"]["phase"] != "Succeeded"
        )
        return float(self.gpus.get(resource, 0)) - used

    def _pulled(self, namespace: str, name: str) -> None:
        held = self._held.get((POD, namespace, name))
        if held is None:
            return
        pod = held.item
        container = at(pod, "spec", "containers", 0, default={})
        image = container.get("image", "")
        state: Object = {"running": {"startedAt": self._time()}}
        if image in self.missing_images:
            message = f'Back-off pulling image "{image}": ErrImagePull: not found'
            state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            self._event(pod, "Warning", "Failed", f'Failed to pull image "{image}": not found')
        else:
            pod["status"]["phase"] = "Running"
        pod["status"]["containerStatuses"] = [
            {"name": container.get("name", ""), "ready": False, "restartCount": 0, "state": state}
        ]
        self._touch(POD, pod)
        if image not in self.missing_images | self.broken_images:
            self._due_in(self.life.start, lambda: self._become_ready(namespace, name))

    def _become_ready(self, namespace: str, name: str) -> None:
        held = self._held.get((POD, namespace, name))
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            return
        pod = held.item
        pod["status"]["containerStatuses"][0]["ready"] = True
        pod["status"]["conditions"] = [self._condition("PodScheduled", "True"), self._condition("Ready", "True")]
        self._touch(POD, pod)
        self._refresh_deployment(namespace, pod["metadata"]["labels"][keys.KNATIVE_REVISION])

    def _end(self, namespace: str, name: str) -> None:
        held = self._held.get((POD, namespace, name))
        if held is None or "deletionTimestamp" in held.item["metadata"]:
            return
        held.item["metadata"]["deletionTimestamp"] = self._time()
        self._touch(POD, held.item)
        self._due_in(self.life.end, lambda: self._remove(POD, namespace, name))

    def _refresh_deployment(self, namespace: str, revision: str) -> None:
        """Count a revision's pods, and carry the count to its statuses."""
        held = self._held.get((DEPLOYMENT, namespace, f"{revision}-deployment"))
        if held is None:
            return
        alive = [pod for pod in self._pods(namespace, revision) if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(is_ready(pod) for pod in alive)
        wanted = held.item["spec"]["replicas"]
        status = {"replicas": len(alive), "readyReplicas": ready, "availableReplicas": ready}
        self._set_status(DEPLOYMENT, namespace, f"{revision}-deployment", status)
        self._set_status(POD_AUTOSCALER, namespace, revision, {"actualScale": ready, "desiredScale": wanted})
        found = self._find(REVISION, revision, namespace).item
        was = at(found, "status", "conditions", 0, "status")
        conditions = found["status"]["conditions"]
        if ready >= wanted and was != "True":
            conditions = [self._condition("Ready", "True"), self._condition("Active", "True")]
        self._set_status(
            REVISION,
            namespace,
            revision,
            {"actualReplicas": ready, "desiredReplicas": wanted, "conditions": conditions},
        )
        service = found["metadata"]["labels"][keys.KNATIVE_SERVICE]
        self._due_in(self.life.route, lambda: self._refresh(namespace, service))

    def _expire(self, namespace: str, revision: str) -> None:
        held = self._held.get((REVISION, namespace, revision))
        if held is None or at(held.item, "status", "conditions", 0, "status") == "True":
            return
        message = f'ReplicaSet "{revision}-deployment" has timed out progressing.'
        condition = self._condition("Ready", "False", "ProgressDeadlineExceeded", message)
        self._set_status(REVISION, namespace, revision, {"conditions": [condition]})
        self._refresh(namespace, held.item["metadata"]["labels"][keys.KNATIVE_SERVICE])

    def _refresh(self, namespace: str, name: str) -> None:
        """Carry the revisions' readiness to the service, its route, and the InferenceService over it."""
        held = self._held.get((KNATIVE, namespace, name))
        if held is None:
            return
        service = held.item
        newest = at(service, "status", "latestCreatedRevisionName", default="")
        revision = self._held.get((REVISION, namespace, newest))
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
        old = at(service, "status", "conditions", default=[])
        if [_untimed(row) for row in old] != [_untimed(row) for row in conditions]:
            status["conditions"] = conditions
        self._set_status(KNATIVE, namespace, name, status)
        self._retire(namespace, name)
        self._refresh_kserve(namespace, self._find(KNATIVE, name, namespace).item)

    def _traffic(self, service: Object, newest: str) -> Objects:
        given = at(service, "spec", "traffic") or [{"latestRevision": True, "percent": 100}]
        return [{**row, "revisionName": row.get("revisionName") or newest} for row in given]

    def _retire(self, namespace: str, name: str) -> None:
        """Let revisions without traffic go to zero."""
        service = self._find(KNATIVE, name, namespace).item
        serving = {row["revisionName"] for row in at(service, "status", "traffic", default=[])}
        newest = at(service, "status", "latestCreatedRevisionName")
        for (of, where, revision), _held in list(self._held.items()):
            if of != REVISION or where != namespace or revision in serving or revision == newest:
                continue
            deployment = self._held.get((DEPLOYMENT, namespace, f"{revision}-deployment"))
            mine = at(_held.item, "metadata", "labels", keys.KNATIVE_SERVICE) == name
            if mine and deployment is not None and deployment.item["spec"]["replicas"]:
                deployment.item["spec"]["replicas"] = 0
                self._touch(DEPLOYMENT, deployment.item)
                self._reconcile_pods(namespace, revision)

    def _refresh_kserve(self, namespace: str, service: Object) -> None:
        owner = at(service, "metadata", "ownerReferences", 0, default={})
        if owner.get("kind") != "InferenceService":
            return
        ready: Object = next(
            (row for row in at(service, "status", "conditions", default=[]) if row["type"] == "Ready"), {}
        )
        conditions = [{**ready, "type": kind} for kind in ("PredictorReady", "Ready") if ready]
        self._set_status(
            KSERVE,
            namespace,
            owner["name"],
            {
                "conditions": [*conditions, self._condition("Stopped", "False")],
                "url": service["status"].get("url"),
                "components": {
                    "predictor": {
                        "latestCreatedRevision": at(service, "status", "latestCreatedRevisionName"),
                        "latestReadyRevision": at(service, "status", "latestReadyRevisionName"),
                    }
                },
            },
        )


_NONE: Final = object()
#: The template that a revision was made from: real ones are told by the Configuration's generation.
_TEMPLATE: Final = "simulated.ebbtide.dev/template"


def _bare(kind: Kind, name: str, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def _namespace(item: Object) -> str:
    return str(at(item, "metadata", "namespace", default=""))


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


def _after(log: list[tuple[int, Kind, Seen]], version: int) -> int:
    """Return the place of the first change after a version."""
    low, high = 0, len(log)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if log[middle][0] <= version else (low, middle)
    return low


def _selects(labels: str, item: Object) -> bool:
    """Whether an object is in a selector of ``key``, ``key=value``, ``key!=value``."""
    own = at(item, "metadata", "labels", default={})
    for part in filter(None, labels.split(",")):
        name, unlike, value = part.partition("!=")
        if unlike:
            if own.get(name) == value:
                return False
            continue
        name, equal, value = part.partition("=")
        if name not in own or (equal and own[name] != value.lstrip("=")):
            return False
    return True


def _leaves(value: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """Yield every field that is a value or a list: lists are one field each, as in a CRD without list keys."""
    for name, inner in value.items():
        here = (*path, name)
        if here in {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}:
            continue
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, here)
        else:
            yield here


def _take(held: Held, given: Object, now: set[Leaf], *, force: bool) -> None:
    """Lay an applied object over a stored one: set, take over, give up."""
    theirs: dict[str, list[str]] = {}
    for leaf in now:
        wanted = at(given, *leaf, default=_NONE)
        if at(held.item, *leaf, default=_NONE) == wanted:
            continue
        for who, owned in held.owned.items():
            if who != MANAGER and leaf in owned:
                theirs.setdefault(who, []).append(".".join(leaf))
    if theirs and not force:
        owners = {who: tuple(sorted(fields)) for who, fields in theirs.items()}
        whose = "; ".join(f"{who} owns {', '.join(fields)}" for who, fields in owners.items())
        raise ConflictError(f"others own what would be changed: {whose}", owners)
    for leaf in held.owned.get(MANAGER, set()) - now:
        shared = any(leaf in owned for who, owned in held.owned.items() if who != MANAGER)
        if not shared:
            _drop(held.item, leaf)
    for leaf in now:
        wanted = at(given, *leaf, default=None)
        if at(held.item, *leaf, default=_NONE) != wanted:
            for who, owned in held.owned.items():
                if who != MANAGER:
                    owned.discard(leaf)
            _set(held.item, leaf, wanted)
    held.owned[MANAGER] = now


def _set(item: Object, leaf: Leaf, value: Any) -> None:
    for name in leaf[:-1]:
        inner = item.get(name)
        if not isinstance(inner, dict):
            inner = item[name] = {}
        item = inner
    item[leaf[-1]] = deepcopy(value)


def _drop(item: Object, leaf: Leaf) -> None:
    inner: Any = item
    for name in leaf[:-1]:
        inner = inner.get(name)
        if not isinstance(inner, dict):
            return
    inner.pop(leaf[-1], None)


def _fields(owned: set[Leaf]) -> Object:
    made: Object = {}
    for leaf in sorted(owned):
        inner = made
        for name in leaf:
            inner = inner.setdefault(f"f:{name}", {})
    return made


def _defaulted(kind: Kind, item: Object) -> Object:
    """Return an object as webhooks would complete it, refused where Knative's would."""
    made = deepcopy(item)
    if kind == KNATIVE:
        template = made["spec"].setdefault("template", {})
        annotations = at(template, "metadata", "annotations", default={})
        low, high = annotations.get(keys.MIN_SCALE, "0"), annotations.get(keys.MAX_SCALE, "0")
        if int(high) and int(low) > int(high):
            raise RefusedError(
                'admission webhook "validation.webhook.serving.knative.dev" denied the request: validation failed: '
                f"max-scale={high} is less than min-scale={low}: spec.template.metadata.annotations"
            )
        template["spec"] = {**DEFAULTS, **template.get("spec", {})}
        made["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
    return made


def _number(item: Object, name: str, default: int) -> int:
    return int(at(item, "metadata", "annotations", name, default=default))


def _bounds(revision: Object) -> tuple[int, int]:
    high = _number(revision, keys.MAX_SCALE, 0) or 2**31 - 1
    return _number(revision, keys.MIN_SCALE, 0), high
