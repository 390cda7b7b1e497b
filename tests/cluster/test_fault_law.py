"""Law: under random faults, the controller lowers no floor without evidence, and none below what the load needs.

A small API server has one workload under a load that the test knows. Its answers fail, are late, repeated or incomplete, its
autoscaler restarts, Prometheus loses values, clocks jump, writes conflict, and two controllers take turns and restart. Each
controller reads through its own cache, as its process does. ``EBBTIDE_FUZZ=long`` tests 20,000 schedules of faults.
"""

from __future__ import annotations

import math
import os
import random
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.process import KINDS, MAX_AGE_SECONDS
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.slo.source import SourceError
from ebbtide.cluster.watch.cache import Cache
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, FloorMetric, FloorSettings, format_settings
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.models import Projects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.core.translation.objects import Object

LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
SCHEDULES, BATCH, STEPS = (20_000 if LONG else 200), 20, 60
SPACE, NAME, FIRST = "shop", "chat", "chat-00001"
#: Seconds between two events of the API server, and for which a value, an event or a cached object may be late.
TICK, LATE, STALE = 5.0, 25.0, 90.0
MAXIMUM = 8
TARGET = 100.0
READ = (kube.REVISION, kube.POD_AUTOSCALER, kube.POD)


@dataclass
class JumpingClock:
    """A clock whose time of day a fault sets."""

    time: float = 1_800_000_000.0
    shift: float = 0.0

    def now(self) -> float:
        return self.time + self.shift

    def ticks(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Reduction:
    """A floor that was lowered, with the time and what was known then."""

    at: float
    before: int
    after: int


@dataclass
class Server:
    """The API server, Knative, the load and Prometheus, with the faults that are active until their time."""

    draws: random.Random
    clock: JumpingClock
    settings: FloorSettings
    version: int = 0
    objects: dict[tuple[kube.Kind, str], Object] = field(default_factory=dict)
    events: list[tuple[float, int, kube.WatchChange]] = field(default_factory=list)
    faults: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    born: dict[str, float] = field(default_factory=dict)
    #: The load in replicas by time, and each pod's value by time.
    load: list[tuple[float, float]] = field(default_factory=list)
    values: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    rises: int = 0
    start_up: float = 15.0

    def __post_init__(self) -> None:
        traffic = [{"revisionName": FIRST, "percent": 100}]
        annotations = {keys.FLOOR: format_settings(self.settings)}
        self.put(
            kube.KNATIVE,
            NAME,
            {"annotations": annotations, "generation": 1},
            {"observedGeneration": 1, "latestCreatedRevisionName": FIRST, "traffic": traffic},
        )
        labels = {keys.KNATIVE_SERVICE: NAME}
        self.put(
            kube.REVISION,
            FIRST,
            {"annotations": {keys.MIN_SCALE: "0", keys.MAX_SCALE: str(MAXIMUM)}, "labels": labels},
            {"conditions": [{"type": "Ready", "status": "True"}]},
        )
        self.put(kube.POD_AUTOSCALER, FIRST, {"labels": labels}, {"desiredScale": 0})

    # Faults

    def has(self, fault: str) -> bool:
        return self.faults.get(fault, 0.0) > self.clock.time

    def add_faults(self) -> None:
        """Let faults begin, each for up to two minutes."""
        draw = self.draws
        for kind in KINDS:
            for fault, chance in (
                ("forbidden", 0.01),
                ("missing", 0.01),
                ("broken", 0.01),
                ("late", 0.02),
                ("gone", 0.02),
                ("repeated", 0.05),
            ):
                if draw.random() < chance:
                    self.start(f"{fault} {kind.plural}")
        for fault, chance in (
            ("unreachable", 0.01), ("autoscaler", 0.04), ("no scaler", 0.01), ("prometheus", 0.03), ("no values", 0.02), ("partial", 0.04),
            ("frozen", 0.03), ("conflict", 0.05), ("write fails", 0.02), ("write unknown", 0.02),
        ):  # fmt: skip
            if draw.random() < chance:
                self.start(fault)
        if draw.random() < 0.02:
            self.clock.shift = draw.choice((-3600.0, -60.0, 0.0, 60.0, 3600.0, 86_400.0))

    def start(self, fault: str) -> None:
        longest = STALE - TICK if fault == "frozen" else 120.0
        if not self.has(fault):
            self.begun[fault] = self.clock.time
        self.faults[fault] = self.clock.time + self.draws.uniform(TICK, longest)

    # Objects

    def put(self, kind: kube.Kind, name: str, metadata: Object, status: Object, **parts: Any) -> None:
        known = self.objects.get((kind, name))
        self.version += 1
        metadata = {
            **metadata,
            "name": name,
            "namespace": SPACE,
            "uid": f"{kind.plural}-{name}",
            "resourceVersion": str(self.version),
        }
        item = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": status, **parts}
        self.objects[kind, name] = item
        self.events.append(
            (self.clock.time, self.version, kube.WatchChange("MODIFIED" if known else "ADDED", deepcopy(item)))
        )

    def remove(self, kind: kube.Kind, name: str) -> None:
        item = deepcopy(self.objects.pop((kind, name)))
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.clock.time, self.version, kube.WatchChange("DELETED", item)))

    def set_status(self, kind: kube.Kind, name: str, status: Object) -> None:
        item = self.objects[kind, name]
        if item["status"] != status:
            self.put(kind, name, item["metadata"], status, **{part: item[part] for part in ("spec",) if part in item})

    @property
    def floor(self) -> int:
        return int(self.objects[kube.REVISION, FIRST]["metadata"]["annotations"][keys.MIN_SCALE])

    def pods(self) -> list[str]:
        return [
            name
            for kind, name in self.objects
            if kind == kube.POD and "deletionTimestamp" not in self.objects[kind, name]["metadata"]
        ]

    # Knative and the load

    def advance(self, load: float) -> None:
        """Let time pass: the autoscaler decides, pods start and end, and take their share of the load."""
        self.clock.time += TICK
        now = self.clock.time
        self.load.append((now, load))
        busy = any(past > 0 for at, past in self.load if at > now - 60)
        desired = min(max(self.floor, int(busy)), MAXIMUM)
        if self.has("autoscaler") or self.has("no scaler"):
            # Knative leaves the pods as they are.
            self.set_status(kube.POD_AUTOSCALER, FIRST, {"desiredScale": -1} if self.has("autoscaler") else {})
        else:
            self.set_status(kube.POD_AUTOSCALER, FIRST, {"desiredScale": desired})
            alive = self.pods()
            for name in alive[desired:]:
                item = self.objects[kube.POD, name]
                self.put(
                    kube.POD, name, {**item["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}, item["status"]
                )
                self.faults[f"end {name}"] = now + 20
            for _ in range(desired - len(alive)):
                self.born[f"pod-{self.version}"] = now
                self.put_pod(f"pod-{self.version}", ready=False)
        for kind, name in list(self.objects):
            if kind == kube.POD and f"end {name}" in self.faults and not self.has(f"end {name}"):
                self.remove(kube.POD, name)
            elif (
                kind == kube.POD
                and self.born[name] + self.start_up <= now
                and self.objects[kind, name]["status"]["phase"] == "Pending"
            ):
                self.put_pod(name, ready=True)
        ready = [name for name in self.pods() if self.objects[kube.POD, name]["status"]["phase"] == "Running"]
        if not self.has("frozen"):
            self.values.append((now, {name: TARGET * load / len(ready) for name in ready}))

    def put_pod(self, name: str, *, ready: bool) -> None:
        since = format_timestamp(self.clock.now())
        status = {
            "phase": "Running" if ready else "Pending",
            "startTime": format_timestamp(self.born[name] + self.clock.shift),
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}],
        }
        labels = {keys.KNATIVE_SERVICE: NAME, keys.KNATIVE_REVISION: FIRST}
        metadata = {**get_at(self.objects.get((kube.POD, name)), "metadata", default={}), "labels": labels}
        self.put(kube.POD, name, metadata, status)

    # The cluster's interface

    def check(self, kind: kube.Kind) -> None:
        if self.has("unreachable"):
            raise kube.UnreachableError("no answer")
        for fault, error in (
            ("forbidden", kube.ForbiddenError),
            ("missing", kube.MissingError),
            ("broken", kube.BusyError),
        ):
            if self.has(f"{fault} {kind.plural}"):
                raise error(fault)

    def follow(self, kind: kube.Kind, *, since: str = "") -> Iterator[kube.WatchChange | kube.WatchBookmark]:
        self.check(kind)
        if since and self.has(f"gone {kind.plural}"):
            raise kube.GoneError("too old")
        visible = self.clock.time - (self.draws.uniform(TICK, LATE) if self.has(f"late {kind.plural}") else 0.0)
        if not since:
            for (known, _), item in list(self.objects.items()):
                if known == kind:
                    yield kube.WatchChange("ADDED", deepcopy(item))
            yield kube.WatchBookmark(str(self.version))
            return
        yield kube.WatchBookmark(since)
        own = [row for row in self.events if row[2].item["kind"] == kind.name and row[0] <= visible]
        if self.has(f"repeated {kind.plural}"):
            yield from (row[2] for row in self.draws.sample(own, min(len(own), 3)))
        yield from (change for _, version, change in own if version > int(since))

    def get(self, kind: kube.Kind, name: str, namespace: str = "") -> Object:
        assert namespace == SPACE
        self.check(kind)
        if (kind, name) not in self.objects:
            raise kube.MissingError(name)
        return deepcopy(self.objects[kind, name])

    def read(self, path: str) -> Object:
        """Discovery: every resource is served, whatever its objects answer."""
        assert path.startswith("/api")
        return {"resources": [{"name": kind.plural} for kind in KINDS]}

    def create(self, item: Object) -> Object:
        if self.has("write fails"):
            raise kube.ForbiddenError("no events")
        return item

    def patch(
        self, kind: kube.Kind, name: str, namespace: str, patch: Object, *, basis: Object | None = None, **_: Any
    ) -> Object:
        assert namespace == SPACE
        self.check(kind)
        item = self.objects[kind, name]
        stale = basis is not None and basis["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]
        if stale or (self.has("conflict") and self.draws.random() < 0.7):
            raise kube.StaleError("changed")
        if self.has("write fails"):
            raise kube.BusyError("try later")
        before, annotations = self.floor, {**item["metadata"]["annotations"], **patch["metadata"]["annotations"]}
        self.put(kind, name, {**item["metadata"], "annotations": annotations}, item["status"])
        if self.floor < before:
            self.reductions.append(Reduction(self.clock.time, before, self.floor))
        self.rises += self.floor > before
        if self.has("write unknown"):
            raise kube.UnreachableError("written, but not answered")
        return deepcopy(self.objects[kind, name])

    def samples(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """Return what Prometheus has scraped, which is up to 15 s old."""
        if self.has("prometheus"):
            raise SourceError("no answer")
        if self.has("no values") or not self.values:
            return []
        scraped = self.clock.time - self.draws.uniform(0, 15)
        row = next((row for at, row in reversed(self.values) if at <= scraped), {})
        if query == "queue":
            return [({}, sum(row.values()))]
        if self.has("partial"):
            row = {name: value for name, value in row.items() if self.draws.random() < 0.5}
        return [({"namespace": SPACE, "pod": name}, value) for name, value in row.items()]


class Candidate:
    """A controller with its own cache."""

    def __init__(self, server: Server) -> None:
        # It has the methods of a cluster that a controller calls.
        cluster: Any = server
        self.steps = 0
        self.cache = Cache(cluster, server.clock, threads=False, ticks=server.clock.ticks, kinds=KINDS)
        self.cache.start()
        self.controller = Controller(cluster, server, server.clock, Projects(queries="any"))

    def step(self) -> None:
        """Decide as the process does: only on data that is current and readable."""
        if (
            self.cache.freshness.synced()
            and self.cache.freshness.age() <= MAX_AGE_SECONDS
            and self.cache.freshness.readable(READ)
        ):
            self.controller.step(self.cache.statuses.workloads_with(keys.FLOOR))
            self.steps += 1


class Counts(NamedTuple):
    """The steps that decided in a schedule, and how often they lowered and raised the floor."""

    decided: int
    reductions: int
    rises: int


@cache
def run_schedule(seed: int) -> Counts:
    """Run one schedule of faults."""
    draws = random.Random(seed)  # noqa: S311 - a test's own series
    window = draws.choice((0, 30, 300))
    metrics = draws.choice(
        (
            (FloorMetric(name="latency", scope="pod", target=TARGET, query="latency"),),
            (FloorMetric(name="query", scope="total", target=TARGET, query="queue"),),
            (
                FloorMetric(name="latency", scope="pod", target=TARGET, query="latency"),
                FloorMetric(name="query", scope="total", target=TARGET, query="queue"),
            ),
        )
    )
    behavior = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=window))
    server = Server(
        draws,
        JumpingClock(),
        FloorSettings(minimum=draws.choice((0, 0, 1)), maximum=MAXIMUM, metrics=metrics, behavior=behavior),
    )
    server.start_up = draws.choice((15.0, 15.0, 120.0))
    candidates, leader, load, decided = [Candidate(server), Candidate(server)], 0, 0.0, 0
    for _ in range(STEPS):
        if draws.random() < 0.15:
            load = draws.choice((0.0, 0.5, 1.0, draws.uniform(0, MAXIMUM)))
        server.add_faults()
        for _ in range(round(PERIOD_SECONDS / TICK)):
            server.advance(load)
            for candidate in candidates:
                candidate.cache.changes.take_changes()
        if draws.random() < 0.03:
            candidates[draws.randrange(2)] = Candidate(server)
        if draws.random() < 0.05:
            leader = 1 - leader
            candidates[leader].controller.forget()
        candidates[leader].step()
        decided += candidates[leader].steps
        candidates[leader].steps = 0
        check_reductions(server)
    return Counts(decided, len(server.reductions), server.rises)


def check_reductions(server: Server) -> None:
    """Check what was written in this step: enough replicas for the load as it was measured, on evidence."""
    now = server.clock.time
    for row in server.reductions:
        if row.at != now:
            continue
        # An HPA's tolerance is a tenth. The KPA keeps one replica for any load.
        needed = min(math.ceil(load / 1.1 - 1e-9) for at, load in server.load if at >= now - STALE)
        assert max(row.after, 1) >= needed, (row, needed)
        assert not any(map(server.has, ("prometheus", "no values", "unreachable"))), (row, server.faults)
        for kind in READ:
            assert not server.has(f"forbidden {kind.plural}"), (row, server.faults)
            assert not server.has(f"missing {kind.plural}"), (row, server.faults)
            # Objects that were read shortly before are current enough.
            broken = f"broken {kind.plural}"
            assert not server.has(broken) or now - server.begun[broken] <= MAX_AGE_SECONDS, (row, server.faults)


@pytest.mark.parametrize("batch", range(SCHEDULES // BATCH))
def test_no_floor_falls_without_evidence(batch: int) -> None:
    decided = [run_schedule(seed).decided for seed in range(batch * BATCH, (batch + 1) * BATCH)]
    assert sum(decided) > BATCH * STEPS / 3, "the faults leave many decisions possible"


def test_the_schedules_raise_and_lower_floors() -> None:
    """A law about reductions must see many of them."""
    counts = [run_schedule(seed) for seed in range(60)]
    assert sum(row.reductions for row in counts) > 20
    assert sum(row.rises for row in counts) > 60
