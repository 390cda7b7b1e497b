"""Replay against the real load server on loopback, and against a cluster's watch."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

np = pytest.importorskip("numpy")
pytest.importorskip("trustme", reason="the e2e group is not installed: make e2e installs it")

import live_cluster  # noqa: E402 - after the skips
from e2e.fidelity import replay  # noqa: E402
from e2e.fidelity.compare import compare, starts  # noqa: E402
from e2e.fidelity.kinds import REPLAYS, document  # noqa: E402
from e2e.fidelity.record import Start  # noqa: E402
from e2e.paths import CACHE, HERE  # noqa: E402
from e2e.servers import images  # noqa: E402
from ebbtide.cluster.client.protocol import DEPLOYMENT, POD, WatchChange  # noqa: E402
from ebbtide.simulate.data import TrafficTrace  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.sandbox.simulated import Simulated

PROFILE: dict[str, Any] = yaml.safe_load((HERE / "profile.yaml").read_text())


@pytest.fixture
def gateway() -> Iterator[str]:
    """Run the server of the replayed services."""
    if shutil.which("go") is None:
        pytest.skip("the server is built with Go")
    program = images.program("load", CACHE, lambda _: None)
    environment = {"HOST": "127.0.0.1", "PORT": "0", "POD_NAME": "chat-1"}
    process = subprocess.Popen([program], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.communicate(timeout=20)


def service(times: list[float], work: tuple[float, ...]) -> replay.Service:
    traffic = TrafficTrace("by hand", np.asarray(times), seconds=times[-1] + 0.2)
    return replay.Service(REPLAYS[0], document(REPLAYS[0].kind), "chat.example", 0, traffic, work, overhead=0.01)


def test_each_request_is_sent_on_time_and_takes_its_duration(gateway: str) -> None:
    times, work = [0.0, 0.1, 0.1, 0.4], (0.3, 0.05, 0.2, 0.1)
    (record,) = asyncio.run(
        replay._replayed([service(times, work)], gateway, replay.Watched(), [Start(0.1, None, 2.0)], PROFILE)  # noqa: SLF001 - a run without a cluster
    )
    assert [request.due for request in record.requests] == times
    assert [request.status for request in record.requests] == ["200"] * 4
    assert {request.pod for request in record.requests} == {"chat-1"}
    for request, seconds in zip(record.requests, work, strict=True):
        assert request.sent >= request.due
        assert request.took >= request.worked >= seconds
    assert record.noise is not None
    assert record.noise.ticks > 0
    assert compare(record, seeds=1).real.measured.requests == 4


def test_a_failed_request_reports_its_error() -> None:
    """No server listens on a port that was free a moment ago."""
    answer = asyncio.run(_asked("127.0.0.1:1"))
    assert answer.status == "ConnectError"
    assert not answer.answered


async def _asked(gateway: str) -> Any:
    async with replay._client(gateway) as client:  # noqa: SLF001 - as above
        return await replay._ask(client, "chat.example", 0.1, 0.0, 0.0)  # noqa: SLF001 - as above


# Events of a watch.


def watched(cluster: Simulated, namespace: str, seconds: float) -> replay.Watched:
    """Watch a simulated cluster, whose clock advances with the watch."""
    recorder = replay.Watched()
    start = cluster.clock.now()
    notes = {POD: recorder.pod, DEPLOYMENT: recorder.deployment}
    changes = [
        (cluster.clock.now() - start, kind, change)
        for kind in notes
        for change in cluster.watch(kind, namespace, labels=replay.SERVICE, seconds=seconds, since="1")
    ]
    for at, kind, change in changes:
        notes[kind](change, at)
    return recorder


def test_pods_and_desired_replicas_are_recorded() -> None:
    cluster = live_cluster.simulated()
    workload = live_cluster.workload(project="shop", autoscaling={**live_cluster.SCALING, "minReplicas": 2})
    for item in workload.objects:
        cluster.apply(item)
    recorder = watched(cluster, "team-shop", 30.0)
    (pods,) = recorder.pods.values()
    assert [change.what for change in pods].count("made") == 2
    assert [change.what for change in pods].count("ready") == 2
    assert all(level.name == "wanted" for level in recorder.levels["chat"])


LABELS = {"labels": {replay.SERVICE: "chat"}, "name": "chat-1"}


def pod(*, ready: bool = False, going: bool = False) -> dict[str, Any]:
    metadata = {**LABELS, **({"deletionTimestamp": "now"} if going else {})}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def test_pod_events_are_recorded_once_and_in_order() -> None:
    recorder = replay.Watched()
    life = [pod(), pod(), pod(ready=True), pod(ready=True), pod(), pod(ready=True), pod(ready=True, going=True)]
    for at, item in enumerate(life):
        recorder.pod(WatchChange("MODIFIED", item), at)
    recorder.pod(WatchChange("DELETED", pod(going=True)), 9.0)
    assert [(change.at, change.what) for change in recorder.pods["chat"]] == [
        (0, "made"),
        (2, "ready"),
        (4, "unready"),
        (5, "ready"),
        (6, "going"),
        (9.0, "gone"),
    ]


def test_levels_are_recorded_when_they_change() -> None:
    recorder = replay.Watched()
    for at, replicas in enumerate((0, 0, 3, 3, 1)):
        recorder.deployment(WatchChange("MODIFIED", {"metadata": LABELS, "spec": {"replicas": replicas}}), at)
    recorder.path(WatchChange("ADDED", {"metadata": LABELS, "spec": {"mode": "Proxy"}}), 9.0)
    recorder.deployment(WatchChange("DELETED", {"metadata": LABELS, "spec": {"replicas": 1}}), 10.0)
    assert [(level.at, level.name, level.value) for level in recorder.levels["chat"]] == [
        (0, "wanted", 0),
        (2, "wanted", 3),
        (4, "wanted", 1),
        (9.0, "mode", "Proxy"),
    ]
    assert starts(recorder.pods.get("chat", ()), recorder.levels["chat"], ()) == []


def test_pods_that_exist_before_the_watch_are_recorded() -> None:
    cluster = live_cluster.simulated()
    for item in live_cluster.workload(project="shop").objects:
        cluster.apply(item)
    cluster.clock.sleep(60.0)
    with replay.watching(lambda: cluster, "team-shop", 1.0) as recorder:
        deadline = time.monotonic() + 20
        while not (recorder.pods and recorder.levels) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert {change.what for change in recorder.pods["chat"]} >= {"made", "ready"}
    assert recorder.levels["chat"][0].name == "wanted"
