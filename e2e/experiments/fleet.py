"""`python -m e2e.experiments.fleet`: ten minutes of six services and a training on eight GPUs, compared with `ebbtide plan`.

The GPUs are counted devices of the suite's node. The services have bursts at different times, which need more than all
devices together, so that replicas evict training, and wait for it to end. The requests that were sent, and the median phases
of the starts, are the input of the plan. Compared are the requests within the SLO, the GPU-hours and the
evictions.
"""

import argparse
import asyncio
import csv
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import yaml

from e2e.kubectl import Manifest
from e2e.paths import CLUSTERS, DEFAULT, HERE
from e2e.providers import choose
from e2e.specs import IMAGE, PRODUCT, make_spec
from e2e.stage import Stage, condition

FILES: Final = CLUSTERS / "fleet"
GPU: Final = "nvidia.com/gpu"
DEVICES: Final = 8
POOL: Final = {
    "nodePools": [
        {
            "name": "devices",
            "product": PRODUCT,
            "gpuMemoryMebibytes": 81920,
            "devices": DEVICES,
            "nodes": 1,
            "backend": "devices",
        }
    ]
}
TRAINING: Final = 3
DRAIN_SECONDS: Final = 30
"""Seconds that an evicted training pod keeps its device, as in a plan."""
WORK_SECONDS: Final = 1.0
SLOTS: Final = 4
LIMIT: Final = 5.0
WINDOW: Final = 60
START_DELAY: Final = 15
SECONDS: Final = 600
MOST_POINTS, MOST_SHARE, MOST_EVICTIONS = 0.03, 0.1, 1


class Answer(NamedTuple):
    """A request: when it was sent after the start, how long it took, and its status or error."""

    at: float
    seconds: float
    outcome: str


class Service(NamedTuple):
    """A service: its GPUs per replica, bounds, priority, requests per second, and those in its bursts as (begin, end, rate)."""

    name: str
    gpus: int
    minimum: int
    maximum: int
    rate: float
    bursts: tuple[tuple[float, float, float], ...]
    is_preemptible: bool = False


SERVICES: Final = (
    Service("chat", 1, 1, 2, 1.0, ((170, 260, 4.5),)),
    Service("search", 1, 1, 2, 1.0, ((240, 330, 4.0),)),
    Service("ocr", 1, 0, 1, 0.0, ((40, 140, 1.6), (430, 540, 1.6))),
    Service("code", 2, 1, 2, 1.0, ((370, 430, 4.0),)),
    Service("batch", 1, 1, 2, 1.0, ((500, 560, 4.0),), is_preemptible=True),
    Service("voice", 1, 1, 1, 1.0, ()),
)


class Usage(NamedTuple):
    """Measured use of devices: GPU-seconds by service and of training, starts of replicas, and evicted pods."""

    gpu_seconds: Mapping[str, float]
    starts: Sequence[tuple[float, float]]
    """Seconds from the placement of a replica until its containers ran, and until it was ready."""
    evictions: Mapping[str, int]


def make_service(service: Service) -> dict[str, Any]:
    """Return the spec of a service."""
    preemptibility = {"preemptibility": "preemptible"} if service.is_preemptible else {}
    return make_spec(
        service.name,
        {"gpuDevicesRequest": service.gpus},
        environmentVariables=[{"name": "START_DELAY", "value": f"{START_DELAY}s"}],
        slo={"p95LatencyMilliseconds": LIMIT * 1000},
        autoscaling={
            "minReplicas": service.minimum,
            "maxReplicas": service.maximum,
            "metric": "concurrency",
            "metricThreshold": SLOTS,
            "concurrencyHardLimit": SLOTS,
            "stableWindowSeconds": WINDOW,
        },
        **preemptibility,
    )


def make_training(namespace: str) -> Manifest:
    """Return a Deployment of training pods with one device each, which drain for as long as a plan assumes."""
    container = {
        "name": "train",
        "image": IMAGE,
        "env": [{"name": "DRAIN", "value": f"{DRAIN_SECONDS}s"}],
        "resources": {"limits": {GPU: "1"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "train", "namespace": namespace},
        "spec": {
            "replicas": TRAINING,
            "selector": {"matchLabels": {"app": "train"}},
            "template": {
                "metadata": {"labels": {"app": "train"}},
                "spec": {
                    "priorityClassName": "train",
                    "terminationGracePeriodSeconds": DRAIN_SECONDS + 5,
                    "containers": [container],
                },
            },
        },
    }


def draw_times(service: Service) -> list[float]:
    """Return when requests come, in seconds."""
    rng = np.random.default_rng(sum(map(ord, service.name)))
    highest = max(service.rate, *(rate for _, _, rate in service.bursts), 0.0)
    times = np.cumsum(rng.exponential(1 / highest, int(2 * highest * SECONDS) + 50))
    rates = np.full(len(times), service.rate)
    for begin, end, rate in service.bursts:
        rates[(begin <= times) & (times < end)] = rate
    kept = (rng.random(len(times)) * highest < rates) & (times < SECONDS)
    return [float(value) for value in times[kept]]


def write_inputs(folder: Path, times: Mapping[str, Sequence[float]]) -> tuple[Path, Path]:
    """Write the specs and logs of the services, and return their folders."""
    specs, logs = folder / "specs", folder / "logs"
    for path in (specs, logs):
        path.mkdir(parents=True, exist_ok=True)
    for service in SERVICES:
        (specs / f"{service.name}.yaml").write_text(yaml.safe_dump(make_service(service)))
        with (logs / f"{service.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["time"])
            writer.writerows([f"{value:.3f}"] for value in sorted(times[service.name]))
    return specs, logs


class Watch(threading.Thread):
    """A thread that reads the pods once a second."""

    def __init__(self, stage: Stage) -> None:
        """Prepare the thread for the namespace of a stage."""
        super().__init__(daemon=True)
        self.stage = stage
        self.stopped = threading.Event()
        self.samples: list[tuple[float, list[Manifest]]] = []

    def run(self) -> None:
        """Read the pods until `stopped` is set."""
        while not self.stopped.wait(1.0):
            self.samples.append((time.time(), self.stage.listed("pods")))


def measure(samples: Sequence[tuple[float, list[Manifest]]], start: float, end: float) -> Usage:
    """Return the use of devices between two times."""
    seconds: defaultdict[str, float] = defaultdict(float)
    starts, evicted = {}, {}
    for (at, pods), (following, _) in pairwise(samples):
        for pod in pods:
            owner = name_owner(pod)
            times = {row["type"]: row for row in pod["status"].get("conditions", ())}
            if pod["spec"].get("nodeName") and pod["status"]["phase"] in {"Pending", "Running"}:
                seconds[owner] += count_gpus(pod) * max(min(following, end) - max(at, start), 0.0)
            if condition(pod, "Ready") == "True" and owner != "train":
                begin, ready = (read_date(times[kind]["lastTransitionTime"]) for kind in ("PodScheduled", "Ready"))
                runs = max(
                    read_date(row["state"]["running"]["startedAt"]) for row in pod["status"]["containerStatuses"]
                )
                if ready > start:
                    starts[pod["metadata"]["uid"]] = (runs - begin, ready - begin)
            target = times.get("DisruptionTarget")
            if target is not None and start <= read_date(target["lastTransitionTime"]) <= end:
                evicted[pod["metadata"]["uid"]] = owner
    return Usage(seconds, [*starts.values()], Counter(evicted.values()))


def read_date(text: str) -> float:
    """Return a date of the API server in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def name_owner(pod: Manifest) -> str:
    """Return the service of a pod, or `train`."""
    labels = pod["metadata"]["labels"]
    return str(labels.get("serving.knative.dev/service") or labels["app"])


def count_gpus(pod: Manifest) -> int:
    """Return the devices of a pod."""
    return sum(
        int(container.get("resources", {}).get("limits", {}).get(GPU, 0)) for container in pod["spec"]["containers"]
    )


def make_plan(stage: Stage, times: Mapping[str, Sequence[float]], start_up: str) -> dict[str, Any]:
    """Return the JSON report of a plan on the devices, with the times of the requests and the start-up time."""
    specs, logs = write_inputs(FILES, times)
    command = [
        "plan",
        str(specs),
        "--traffic",
        str(logs),
        *stage.profile(POOL),
        "--pool",
        f"devices={DEVICES}",
        "--training",
        f"{TRAINING}xdevices,preemptible",
        "--server",
        f"fixed:{WORK_SECONDS:g}s,max={SLOTS}",
        "--start-up",
        start_up,
        "--changes",
        "0",
        "-o",
        "json",
    ]
    done = stage.ebbtide(command)
    assert done.returncode == 0, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)["pool"]
    return plan


async def send(
    gateway: str, hosts: Mapping[str, str], times: Mapping[str, Sequence[float]], work: float
) -> dict[str, list[Answer]]:
    """Send all requests at their times, each with `work` seconds of work, and return the answers by service."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=None)
    start = time.monotonic()

    async def ask(client: httpx.AsyncClient, host: str, due: float) -> Answer:
        await asyncio.sleep(max(start + due - time.monotonic(), 0.0))
        sent = time.monotonic()
        try:
            answer = await client.get(f"/?sleep={work * 1000:.0f}ms", headers={"Host": host})
            outcome = str(answer.status_code)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        return Answer(sent - start, time.monotonic() - sent, outcome)

    async with httpx.AsyncClient(base_url=f"http://{gateway}", timeout=120, limits=limits) as client:
        answers = await asyncio.gather(
            *(asyncio.gather(*(ask(client, hosts[name], due) for due in rows)) for name, rows in times.items())
        )
    return dict(zip(times, answers, strict=True))


def compare(plan: Mapping[str, Any], usage: Usage, answers: Mapping[str, Sequence[Answer]]) -> bool:
    """Print the numbers of the plan and of the cluster, and return whether all agree."""
    print("service  requests  in time     plan  GPU-s    plan  evicted plan")
    holds, total = True, [0.0, 0.0]
    for row in plan["services"]:
        name = row["name"]
        asked = answers[name]
        share = sum(answer.outcome == "200" and answer.seconds <= LIMIT for answer in asked) / len(asked)
        seconds, planned = usage.gpu_seconds[name], row["gpuHours"] * 3600
        total = [total[0] + seconds, total[1] + planned]
        evicted = usage.evictions.get(name, 0)
        holds &= abs(share - row["attainment"]) <= MOST_POINTS and abs(evicted - row["evictions"]) <= MOST_EVICTIONS
        print(
            f"{name:8} {len(asked):8} {share:8.1%} {row['attainment']:8.1%} {seconds:6.0f} {planned:7.0f}  "
            f"{evicted:7} {row['evictions']:4}"
        )
        lost = Counter(answer.outcome for answer in asked if answer.outcome != "200")
        if lost:
            print(f"  not answered: {dict(lost)}")
    trained, training = usage.gpu_seconds["train"], plan["training"]
    evicted = usage.evictions.get("train", 0)
    print(f"{'all':38} {total[0]:6.0f} {total[1]:7.0f}")
    print(f"{'training':38} {trained:6.0f} {training['gpuHours'] * 3600:7.0f}  {evicted:7} {training['evictions']:4}")
    holds &= abs(total[0] / total[1] - 1) <= MOST_SHARE
    holds &= abs(trained / (training["gpuHours"] * 3600) - 1) <= MOST_SHARE
    return bool(holds and abs(evicted - training["evictions"]) <= MOST_EVICTIONS)


def run(stage: Stage) -> bool:
    """Deploy the services and the training, send the requests, and compare with a plan of them."""
    stage.clean()
    for service in SERVICES:
        stage.deploy(make_service(service), profile=POOL)
        stage.ready(service.name)
    stage.apply([make_training(stage.namespace)])
    least = sum(service.minimum * service.gpus for service in SERVICES)
    training = min(TRAINING, DEVICES - least)
    stage.until(
        "the services have their minimum, and training the rest",
        lambda: (
            Counter(name_owner(pod) for pod in stage.listed("pods") if condition(pod, "Ready") == "True")
            == Counter({service.name: service.minimum for service in SERVICES} | {"train": training})
        ),
        timeout=240,
    )
    hosts = {service.name: stage.host(service.name) for service in SERVICES}
    watch = Watch(stage)
    watch.start()
    time.sleep(2)
    start = time.time()
    times = {service.name: draw_times(service) for service in SERVICES}
    answers = asyncio.run(send(stage.provider.gateway(), hosts, times, WORK_SECONDS))
    end = start + max(answer.at for rows in answers.values() for answer in rows)
    watch.stopped.set()
    watch.join()
    FILES.mkdir(parents=True, exist_ok=True)
    (FILES / "record.json").write_text(json.dumps([start, end, answers, watch.samples]))
    return report(stage, start, end, answers, watch.samples)


def report(
    stage: Stage,
    start: float,
    end: float,
    answers: Mapping[str, Sequence[Answer]],
    samples: Sequence[tuple[float, list[Manifest]]],
) -> bool:
    """Plan what was measured, and compare."""
    usage = measure(samples, start, end)
    runs, total = (float(np.median(column)) for column in zip(*usage.starts, strict=True))
    # The server listens for requests after its delay, before the kubelet sees that it is ready.
    start_up = f"schedule={runs:g}s,load={START_DELAY}s,ready={max(total - runs - START_DELAY, 0.0):g}s"
    print(f"{end - start:.0f} s; {len(usage.starts)} replicas started, in the median with {start_up}")
    plan = make_plan(stage, {name: [answer.at for answer in rows] for name, rows in answers.items()}, start_up)
    return compare(plan, usage, answers)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.experiments.fleet", description=__doc__)
    parser.add_argument("--provider", default="", help="kind (default) or existing")
    parser.add_argument("--name", default=DEFAULT, help="the cluster's name")
    parser.add_argument("--again", action="store_true", help="compare the record of the last run again")
    options = parser.parse_args()
    provider = choose(options.provider, options.name)
    stage = Stage(provider, provider.kubectl(), HERE / "experiments", "fleet")
    if options.again:
        start, end, rows, samples = json.loads((FILES / "record.json").read_text())
        answers = {name: [Answer(*row) for row in items] for name, items in rows.items()}
        return 0 if report(stage, start, end, answers, samples) else 1
    try:
        return 0 if run(stage) else 1
    finally:
        stage.clean()


if __name__ == "__main__":
    sys.exit(main())
