"""Law: under random faults, the controller lowers no floor without evidence, and none below what the load needs.

A small API server has one workload under a load that the test knows. Its answers fail, are late, repeated or incomplete, its
autoscaler restarts, clocks jump, writes conflict, and two controllers take turns and restart. Each controller reads through its
own cache, as its process does, and sends the published queries to Prometheus' own engine, which has what was scraped: every 15,
30 or 60 s, but not from overloaded pods, not during an outage of Prometheus, and at times nonsense. ``EBBTIDE_FUZZ=long`` tests
20,000 schedules of faults.
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

import scrapes
from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.process import KINDS, MAX_AGE_SECONDS
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.cluster.slo.source import SourceError
from ebbtide.cluster.watch.cache import Cache
from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, FloorMetric, FloorSettings, format_settings
from ebbtide.core.base import keys
from ebbtide.core.base.exporters import GPU_JOB
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.models import ProfileSpec, Projects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.core.translation.objects import Object

pytestmark = pytest.mark.skipif(not scrapes.PROGRAM.exists(), reason="tools/promql is not built: run make judge")
LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
SCHEDULES, BATCH, STEPS = (20_000 if LONG else 120), 20, 60
SPACE, NAME, FIRST = "shop", "chat", "chat-00001"
#: The usual scrape interval in seconds.
QUICK = 15.0
#: Seconds between two events of the API server, and for which a value, an event or a cached object may be late.
TICK, LATE, STALE = 5.0, 25.0, 105.0
#: Seconds after the last fault, besides the stabilization window, until a floor is what the load needs, and by how many
#: replicas it may differ.
RECOVERY, NEAR = 600.0, 1
#: The longest fault in seconds.
LONGEST = 420.0
MAXIMUM = 8
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


Row = tuple["Mapping[str, str]", float]
#: Bounds of the histograms in ms: at most a tenth of the target apart where it matters.
BOUNDS = (25, 50, 60, 70, 80, 90, 100, 110, 125, 150, 200, 300, 500, 1000)
#: Requests of a pod per second at its target.
RATE = 4.0
HISTOGRAMS = {
    "http_server_request_duration_seconds": (("container", "queue-proxy"),),
    "vllm:time_to_first_token_seconds": (),
}
GAUGES = {
    "vllm:num_requests_waiting": 1.0,
    "vllm:kv_cache_usage_perc": 0.01,
    "DCGM_FI_DEV_GPU_UTIL": 1.0,
    "widgets": 1.0,
}
#: Gauges that end at 100 percent.
SATURATED = {"vllm:kv_cache_usage_perc", "DCGM_FI_DEV_GPU_UTIL"}
#: The metrics of the law, each with the target of one replica's share of the load.
METRICS = (
    FloorMetric(name="latency", scope="pod", target=100),
    FloorMetric(name="time-to-first-token", scope="pod", target=100, engine="vLLM"),
    FloorMetric(name="requests-waiting", scope="pod", target=60),
    FloorMetric(name="kv-cache-utilization", scope="pod", target=60),
    FloorMetric(name="gpu-utilization", scope="pod", target=60),
    FloorMetric(name="tokens-per-second", scope="pod", target=60),
    FloorMetric(name="widgets", scope="pod", target=60),
    FloorMetric(name="widgets_per_second", scope="pod", target=60),
    FloorMetric(name="query", scope="total", target=60, query="sum(widgets)", pods="widgets"),
    FloorMetric(name="query", scope="average", target=60, query="avg(widgets)", pods="widgets"),
)


@dataclass
class Exporter:
    """The exporter of a pod: histograms and counters of its requests, and gauges, all by its present share of the load."""

    weight: float
    #: Its place in the turns of the scrapes.
    phase: int
    counts: dict[int, float] = field(default_factory=dict)
    served: float = 0.0
    tokens: float = 0.0
    share: float = 0.0

    def serve(self, share: float) -> None:
        """Serve a share of the load, in that of one replica at its target, for a tick."""
        self.share = share * self.weight
        requests = RATE * self.share * TICK
        self.served += requests
        self.tokens += 60 * self.share * TICK
        if requests:
            bound = next((bound for bound in BOUNDS if 100 * self.share <= bound), 0)
            self.counts[bound] = self.counts.get(bound, 0.0) + requests

    def expose(self, pod: str, nonsense: float | None) -> dict[scrapes.Series, float]:
        """Return the series of a scrape."""
        own = (("namespace", SPACE), ("pod", pod))
        series: dict[scrapes.Series, float] = {}
        for name, labels in HISTOGRAMS.items():
            below = 0.0
            for bound in BOUNDS:
                below += self.counts.get(bound, 0.0)
                series[f"{name}_bucket", (*labels, *own, ("le", str(bound / 1000)))] = below
            series[f"{name}_bucket", (*labels, *own, ("le", "+Inf"))] = self.served
            series[f"{name}_count", (*labels, *own)] = self.served
        for name, unit in GAUGES.items():
            value = 60 * self.share
            value = min(value, 100.0) if name in SATURATED else value
            labels = (("job", GPU_JOB.job), *own) if name.startswith("DCGM") else own
            series[name, labels] = value * unit if nonsense is None else nonsense
        for name in ("vllm:generation_tokens_total", "widgets_total"):
            series[name, own] = self.tokens
        return series


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
    #: The pod of a fault of one pod.
    hit: dict[str, str] = field(default_factory=dict)
    born: dict[str, float] = field(default_factory=dict)
    #: The load in replicas by time.
    load: list[tuple[float, float]] = field(default_factory=list)
    exporters: dict[str, Exporter] = field(default_factory=dict)
    answers: dict[str, list[Row]] = field(default_factory=dict)
    interval: float = 15.0
    reductions: list[Reduction] = field(default_factory=list)
    rises: int = 0
    start_up: float = 15.0

    def __post_init__(self) -> None:
        self.scraper = scrapes.Scraper(scrapes.start_engine())
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
            ("unreachable", 0.01), ("autoscaler", 0.04), ("no scaler", 0.01), ("prometheus", 0.03), ("no answer", 0.02),
            ("partial", 0.04), ("repeated", 0.03), ("nonsense", 0.02), ("unscraped", 0.04), ("no target", 0.02), ("overload", 0.1),
            ("conflict", 0.05), ("write fails", 0.02), ("write unknown", 0.02),
        ):  # fmt: skip
            if draw.random() < chance:
                self.start(fault)
        if draw.random() < 0.02:
            self.clock.shift = draw.choice((-3600.0, -60.0, 0.0, 60.0, 3600.0, 86_400.0))

    def start(self, fault: str) -> None:
        longest = {"prometheus": 420.0, "repeated": 300.0}.get(fault, 120.0)
        if not self.has(fault):
            self.begun[fault] = self.clock.time
            if fault in {"unscraped", "no target"} and self.exporters:
                self.hit[fault] = self.draws.choice([*self.exporters])
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
        for name in ready:
            exporter = self.exporters.setdefault(
                name, Exporter(self.draws.choice((0.85, 1.0, 1.15)), self.draws.randrange(12))
            )
            exporter.serve(load / len(ready))
        if not self.has("prometheus"):
            self.scrape(now, load / len(ready) if ready else 0.0)

    def scrape(self, now: float, share: float) -> None:
        """Scrape the pods whose turn it is; an overloaded pod can time out, and those that are gone have no target."""
        for name in [
            name for name in self.exporters if (kube.POD, name) not in self.objects or self.has_pod("no target", name)
        ]:
            self.scraper.scrape(name, now, {})
            if (kube.POD, name) not in self.objects:
                del self.exporters[name]
        for name, exporter in self.exporters.items():
            if self.has_pod("no target", name) or (now + TICK * exporter.phase) % self.interval >= TICK:
                continue
            overloaded = self.has("overload") and share > 1.2 and self.draws.random() < 0.7
            if overloaded or self.has_pod("unscraped", name):
                self.scraper.scrape(name, now, None)
                continue
            nonsense = (
                self.draws.choice((-1e9, -1.0, 1e15)) if self.has("nonsense") and self.draws.random() < 0.5 else None
            )
            self.scraper.scrape(name, now, exporter.expose(name, nonsense))

    def has_pod(self, fault: str, name: str) -> bool:
        return self.has(fault) and self.hit.get(fault) == name

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

    def samples(self, query: str, _namespace: str = "") -> list[Row]:
        """Return what Prometheus answers, or what a cache in front of it repeats."""
        if self.has("prometheus"):
            raise SourceError("no answer")
        if self.has("no answer"):
            return []
        if self.has("repeated") and query in self.answers:
            return self.answers[query]
        rows = self.scraper.answer(query, self.clock.time)
        if self.has("partial"):
            pods = {labels["pod"] for labels, _ in rows if "pod" in labels and self.draws.random() < 0.5}
            rows = [row for row in rows if row[0].get("pod") not in pods]
        self.answers[query] = rows
        return rows


class Candidate:
    """A controller with its own cache."""

    def __init__(self, server: Server) -> None:
        # It has the methods of a cluster that a controller calls.
        cluster: Any = server
        self.steps = 0
        self.cache = Cache(cluster, server.clock, threads=False, ticks=server.clock.ticks, kinds=KINDS)
        self.cache.start()
        self.controller = Controller(cluster, server, server.clock, ProfileSpec(projects=Projects(queries="any")))

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
    metrics = tuple(draws.sample(METRICS, draws.choice((1, 1, 1, 2))))
    behavior = hpa.ScalingBehavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=window))
    server = Server(
        draws,
        JumpingClock(),
        FloorSettings(minimum=draws.choice((0, 0, 1)), maximum=MAXIMUM, metrics=metrics, behavior=behavior),
    )
    server.start_up = draws.choice((15.0, 15.0, 150.0))
    server.interval = draws.choice((QUICK, QUICK, 30.0, 60.0))
    candidates, leader, load, decided = [Candidate(server), Candidate(server)], 0, 0.0, 0
    # Without further faults and changes of the load, the floor becomes what the load needs: one schedule of five is run on.
    recovers = seed % 5 == 0
    for step in range(STEPS + recovers * round((RECOVERY + window + LONGEST) / PERIOD_SECONDS)):
        if step < STEPS:
            if draws.random() < 0.15:
                load = draws.choice((0.0, 0.5, 1.0, draws.uniform(0, MAXIMUM)))
            server.add_faults()
        for _ in range(round(PERIOD_SECONDS / TICK)):
            server.advance(load)
            for candidate in candidates:
                candidate.cache.changes.take_changes()
        if step < STEPS and draws.random() < 0.03:
            candidates[draws.randrange(2)] = Candidate(server)
        if step < STEPS and draws.random() < 0.05:
            leader = 1 - leader
            candidates[leader].controller.forget()
        candidates[leader].step()
        decided += candidates[leader].steps
        candidates[leader].steps = 0
        check_reductions(server)
    if recovers:
        check_recovery(server, load)
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
        assert not any(map(server.has, ("prometheus", "no answer", "unreachable"))), (row, server.faults)
        for kind in READ:
            assert not server.has(f"forbidden {kind.plural}"), (row, server.faults)
            assert not server.has(f"missing {kind.plural}"), (row, server.faults)
            # Objects that were read shortly before are current enough.
            broken = f"broken {kind.plural}"
            assert not server.has(broken) or now - server.begun[broken] <= MAX_AGE_SECONDS, (row, server.faults)


def check_recovery(server: Server, load: float) -> None:
    """Check the floor long after the last fault; the KPA keeps the last replica.

    With slow scrapes, it may be above: the range of a value still describes fewer replicas after a rise, and the floor rises again.
    """
    # An HPA's tolerance is a tenth.
    floor, needed, tolerated = max(server.floor, 1), max(math.ceil(load - 1e-9), 1), math.ceil(load / 1.1 - 1e-9)
    above = NEAR if server.interval == QUICK else MAXIMUM
    assert tolerated - NEAR <= floor <= needed + above, (floor, load, server.settings, server.interval)


@pytest.mark.parametrize("batch", range(SCHEDULES // BATCH))
def test_no_floor_falls_without_evidence(batch: int) -> None:
    decided = [run_schedule(seed).decided for seed in range(batch * BATCH, (batch + 1) * BATCH)]
    assert sum(decided) > BATCH * STEPS / 3, "the faults leave many decisions possible"


def test_the_schedules_raise_and_lower_floors() -> None:
    """A law about reductions must see many of them."""
    counts = [run_schedule(seed) for seed in range(90)]
    assert sum(row.reductions for row in counts) > 20
    assert sum(row.rises for row in counts) > 60
