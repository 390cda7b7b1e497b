"""Send requests at real speed to services on a cluster, and record their results and the events of the pods.

All kinds run at the same time, each service with its own requests; the servers sleep, so that they need no
processor time. Before the traffic, a few requests to each service measure the start time and the overhead of a reply
in addition to the service time.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from e2e.experiments.fidelity.compare import starts
from e2e.experiments.fidelity.kinds import Replay, document, requests_of
from e2e.experiments.fidelity.record import Head, Level, Noise, PodChange, Record, Request, Start, What
from e2e.stage import PROFILE, Stage, condition
from ebbtide.cluster.client.kubernetes import KubernetesCluster
from ebbtide.cluster.client.protocol import DEPLOYMENT, POD, Cluster, ClusterError, Kind, WatchBookmark, WatchChange
from ebbtide.simulator.data import TrafficTrace

SERVICE: Final = "serving.knative.dev/service"
"""The label of what belongs to a service."""
PATH: Final = Kind("networking.internal.knative.dev/v1alpha1", "ServerlessService", "serverlessservices")
TICK: Final = 0.01
LATE: Final = 0.02
TIMEOUT: Final = 300.0
"""Knative's time limit for a request."""
QUIET: Final = 30.0
"""Seconds without a request after which no window of the profile has seen any."""
COLD: Final = 2
"""Cold starts that are measured before the traffic, of a service that is scaled to zero."""
SHORT: Final = 0.05
"""Seconds that these requests ask of the server."""
WARM: Final = 40
"""Requests one after another that say what a reply takes."""
ORDER: Final[tuple[What, ...]] = ("made", "ready", "going", "gone")
PATIENCE: Final = 300.0
LONGEST: Final = 3600.0
"""Seconds that a run may take."""


@dataclass
class Watched:
    """Events from the watches by the service's name; times are the clock's."""

    pods: dict[str, list[PodChange]] = field(default_factory=dict)
    levels: dict[str, list[Level]] = field(default_factory=dict)
    _known: dict[str, frozenset[What]] = field(default_factory=dict)

    def pod(self, seen: WatchChange, now: float) -> None:
        """Record the events of a pod."""
        name = seen.item["metadata"]["name"]
        before, after = self._known.get(name, frozenset()), states(seen)
        changed: list[What] = [what for what in ORDER if what in after - before]
        if "ready" in before - after and "going" not in after:
            changed.append("unready")
        # A state stays once it is reached, except ready.
        self._known[name] = after | (before - {"ready"})
        self.pods.setdefault(_service(seen), []).extend(PodChange(now, name, what) for what in changed)

    def deployment(self, seen: WatchChange, now: float) -> None:
        """Note how many pods are wanted."""
        self._level(seen, now, "wanted", int(seen.item["spec"].get("replicas", 1)))

    def path(self, seen: WatchChange, now: float) -> None:
        """Note whether the activator is in the path."""
        self._level(seen, now, "mode", str(seen.item["spec"].get("mode", "")))

    def _level(self, seen: WatchChange, now: float, name: str, value: int | str) -> None:
        levels = self.levels.setdefault(_service(seen), [])
        last = next((level.value for level in reversed(levels) if level.name == name), None)
        if seen.change != "DELETED" and value != last:
            levels.append(Level(now, name, value))


def states(seen: WatchChange) -> frozenset[What]:
    """Return what is so of a pod."""
    going = seen.change == "DELETED" or "deletionTimestamp" in seen.item["metadata"]
    ready = condition(seen.item, "Ready") == "True" and not going
    found: dict[What, bool] = {"made": True, "ready": ready, "going": going, "gone": seen.change == "DELETED"}
    return frozenset(what for what, so in found.items() if so)


def _service(seen: WatchChange) -> str:
    return str(seen.item["metadata"].get("labels", {}).get(SERVICE, ""))


@contextmanager
def watching(connect: Callable[[], Cluster], namespace: str, seconds: float) -> Iterator[Watched]:
    """Watch a namespace's pods, Deployments and the activator's place until the block ends."""
    watched, stop = Watched(), threading.Event()

    def watch(kind: Kind, note: Callable[[WatchChange, float], None]) -> None:
        # One connection per watch, since a watch occupies it.
        cluster, version = connect(), ""
        while not stop.is_set():
            try:
                for seen in cluster.follow(kind, namespace, since=version, seconds=seconds):
                    if isinstance(seen, WatchBookmark):
                        version = seen.version
                    else:
                        version = seen.item["metadata"]["resourceVersion"]
                        if _service(seen):
                            note(seen, time.monotonic())
                    if stop.is_set():
                        return
            except ClusterError:
                version = ""
                time.sleep(1)

    for kind, note in ((POD, watched.pod), (DEPLOYMENT, watched.deployment), (PATH, watched.path)):
        threading.Thread(target=watch, args=(kind, note), daemon=True).start()
    try:
        yield watched
    finally:
        stop.set()


@dataclass
class Service:
    """A deployed kind, ready to be asked."""

    replay: Replay
    document: Mapping[str, Any]
    host: str
    least: int
    traffic: TrafficTrace
    work: tuple[float, ...]
    overhead: float = 0.0


def deployed(stage: Stage, replay: Replay) -> Service:
    """Deploy a kind and wait until it is ready."""
    spec = document(replay.kind)
    stage.deploy(spec)
    stage.ready(replay.kind)
    traffic, work = requests_of(replay)
    return Service(replay, spec, stage.host(replay.kind), spec["spec"]["autoscaling"]["minReplicas"], traffic, work)


def run(stage: Stage, replays: Sequence[Replay], runs: int, say: Callable[[str], None]) -> Iterator[list[Record]]:
    """Deploy, measure, replay, and yield the records, with new services for each run.

    The moments of a second at which a service is scraped and scaled stay the same for its life, and much depends on them.
    """
    profile = yaml.safe_load(PROFILE.read_text())
    kubeconfig = str(stage.kubectl.kubeconfig)
    for number in range(1, runs + 1):
        stage.clean()
        with watching(lambda: KubernetesCluster.from_kubeconfig(kubeconfig), stage.namespace, LONGEST) as watched:
            say(f"run {number} of {runs}: deploying, and measuring starts and replies")
            services = [deployed(stage, replay) for replay in replays]
            gateway = stage.provider.gateway()
            first = asyncio.run(_calibrated(stage, services, gateway))
            known: list[Start] = []
            for service in services:
                kind = service.replay.kind
                known += starts(watched.pods.get(kind, ()), watched.levels.get(kind, ()), first[kind])
            say("starts before the traffic: " + ", ".join(f"{start.ready:.1f} s" for start in known))
            _idle(stage, services)
            time.sleep(QUIET)
            longest = max(service.traffic.seconds for service in services)
            say(f"{sum(len(service.work) for service in services):,} requests in {longest:.0f} s")
            yield asyncio.run(_replayed(services, gateway, watched, known, profile))


def _idle(stage: Stage, services: Sequence[Service]) -> None:
    """Wait until each service has its least number of pods."""
    for service in services:
        name, least = service.replay.kind, service.least
        stage.until(f"{name} rests at {least}", partial(_rests, stage, name, least), PATIENCE)


def _rests(stage: Stage, name: str, least: int) -> bool:
    return len(stage.pods(name)) == least


async def _calibrated(stage: Stage, services: Sequence[Service], gateway: str) -> dict[str, list[Request]]:
    """Start each service from its rest a few times, and ask it one request after another.

    The requests by kind, their times the clock's.
    """
    found: dict[str, list[Request]] = {service.replay.kind: [] for service in services}
    async with _client(gateway) as client:
        for turn in range(COLD):
            await asyncio.to_thread(_idle, stage, services)
            for service in services:
                if service.least == 0:
                    found[service.replay.kind].append(await _ask(client, service.host, SHORT, 0.0, 0.0))
            if turn:
                continue
            for service in services:
                asked = [await _ask(client, service.host, SHORT, 0.0, 0.0) for _ in range(WARM)]
                found[service.replay.kind] += asked
                service.overhead = statistics.median(each.took - each.worked for each in asked if each.answered)
    return found


async def _replayed(
    services: Sequence[Service],
    gateway: str,
    watched: Watched,
    known: Sequence[Start],
    profile: Mapping[str, Any],
) -> list[Record]:
    """Send all requests in their time, and return what was recorded of each service."""
    began = datetime.now(UTC)
    async with _client(gateway) as client:
        with sample_machine() as machine:
            start = time.monotonic() + 1.0
            answers = await asyncio.gather(*(_send(client, service, start) for service in services))
    return [
        Record(
            Head(
                kind=service.replay.kind,
                spec=service.document,
                profile=profile,
                promise=service.replay.promise,
                traffic=service.replay.traffic,
                server=service.replay.server,
                seconds=service.traffic.seconds,
                work=service.work,
                starts=tuple(known),
                overhead=service.overhead,
                began=began.isoformat(timespec="seconds"),
            ),
            requests,
            [replace(each, at=each.at - start) for each in watched.pods.get(service.replay.kind, ())],
            [replace(each, at=each.at - start) for each in watched.levels.get(service.replay.kind, ())],
            machine.noise,
        )
        for service, requests in zip(services, answers, strict=True)
    ]


async def _send(client: httpx.AsyncClient, service: Service, start: float) -> list[Request]:
    tasks = []
    for due, seconds in zip(service.traffic.times.tolist(), service.work, strict=True):
        await asyncio.sleep(max(start + due - time.monotonic(), 0.0))
        tasks.append(asyncio.create_task(_ask(client, service.host, seconds, start, due)))
    await asyncio.sleep(max(start + service.traffic.seconds - time.monotonic(), 0.0))
    return list(await asyncio.gather(*tasks))


async def _ask(client: httpx.AsyncClient, host: str, seconds: float, start: float, due: float) -> Request:
    """Send one request that asks the server to take so long."""
    sent = time.monotonic()
    try:
        answer = await client.get(f"/?sleep={seconds * 1e6:.0f}us", headers={"Host": host})
    except httpx.HTTPError as error:
        return Request(due, sent - start, time.monotonic() - sent, type(error).__name__)
    took = time.monotonic() - sent
    if answer.status_code != httpx.codes.OK:
        return Request(due, sent - start, took, str(answer.status_code))
    said = answer.json()
    return Request(due, sent - start, took, "200", said["pod"], said["workSeconds"])


@dataclass
class Machine:
    """Load of the machine, known when the block ends."""

    noise: Noise | None = None


@contextmanager
def sample_machine() -> Iterator[Machine]:
    """Note in a running event loop how busy the machine is until the block ends."""
    found, ticks = Machine(), list[float]()
    busy, pressed, opened = _processors(), _pressure(), time.monotonic()
    ticking = asyncio.create_task(_tick(ticks))
    try:
        yield found
    finally:
        ticking.cancel()
        waited = None if pressed is None else ((_pressure() or pressed) - pressed) / (time.monotonic() - opened)
        late = [seconds for seconds in ticks if seconds > LATE]
        found.noise = Noise(len(ticks), len(late), max(ticks, default=0.0), _used(busy, _processors()), waited)


async def _tick(late: list[float]) -> None:
    """Note how late a timer comes."""
    while True:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        late.append(time.monotonic() - due)


def _processors() -> tuple[int, int]:
    """Return what all processors did so far and how much of it was nothing, in the kernel's ticks."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def _pressure() -> float | None:
    """Return for how many seconds so far something waited for a processor; None where the kernel does not tell."""
    file = Path("/proc/pressure/cpu")
    try:
        return int(file.read_text().split()[4].partition("=")[2]) / 1e6
    except (OSError, IndexError, ValueError):
        return None


def _used(before: tuple[int, int], after: tuple[int, int]) -> float:
    total = after[0] - before[0]
    return 1 - (after[1] - before[1]) / total if total else 0.0


def _client(gateway: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    return httpx.AsyncClient(base_url=f"http://{gateway}", timeout=TIMEOUT, limits=limits)
