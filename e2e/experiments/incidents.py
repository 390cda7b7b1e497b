"""`python -m e2e.experiments.incidents`: incidents on the cluster, the cause that `ebbtide why --at` names, and its settings tried.

Each incident is one service in a separate project: a quiet time, then a load, and what breaks at its start. `why --at` explains the
load. The nearest setting that it proposes is deployed as a new service, which gets the same loads without what broke. The client
counts the requests within the SLO in both runs.

The service answers two requests at a time, each in 400 ms, so a replica serves five per second. The SLO is a p95 of one second.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple

from e2e.install.manifests import namespace
from e2e.kubectl import KubectlError
from e2e.paths import CLUSTERS, DEFAULT, HERE
from e2e.providers import choose
from e2e.providers.kind import GATEWAY_PORT
from e2e.providers.protocol import Provider
from e2e.stage import Stage, UnmetError

RECORD: Final = CLUSTERS / "incidents.json"
NAME: Final = "answer"
QUIET, BUSY, SCRAPED = 60, 120, 45
"""Seconds of the quiet time, of the load, and until Prometheus has the last response times."""
WHEN: Final = 75
"""Seconds after the start of the load at which the cause is asked for."""
LIMIT: Final = 1.0
READY: Final = 300
SERVER: Final = "fixed:400ms,max=2"
LONGEST: Final = 20.0
"""Seconds after which the client gives a request up."""
Act = Callable[[Stage], object]


class Made(NamedTuple):
    """An incident: the expected cause, the loads per second, changes of the scaling, the seconds to listen, and what breaks."""

    cause: str
    busy: float
    fields: Mapping[str, Any] = {}
    delay: int = 1
    quiet: float = 1
    act: Act | None = None
    compute: Mapping[str, Any] = {}
    seconds: int = BUSY
    idle: bool = False
    """True for no requests in the second half of the quiet time."""
    alone: bool = False
    """True for what other services feel."""


def limit_pods(stage: Stage) -> None:
    """Allow no more pods than there are."""
    body = {"hard": {"pods": str(len(stage.listed("pods")))}}
    metadata = {"name": "small", "namespace": stage.namespace}
    stage.kubectl.apply([{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": body}])


def delete_pods(stage: Stage) -> None:
    names = [pod["metadata"]["name"] for pod in stage.pods(NAME)]
    stage.kubectl.run("delete", "pods", *names, "-n", stage.namespace, "--grace-period=1", "--wait=false")


def evict_pods(stage: Stage) -> None:
    """Evict the pods as a drain of their node does, and let new ones be scheduled there."""
    for pod in stage.pods(NAME):
        metadata = {"name": pod["metadata"]["name"], "namespace": stage.namespace}
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": metadata,
            "deleteOptions": {"gracePeriodSeconds": 1},
        }
        path = f"/api/v1/namespaces/{stage.namespace}/pods/{metadata['name']}/eviction"
        stage.kubectl.run("create", f"--raw={path}", "-f", "-", stdin=json.dumps(body))


def fill_shares(stage: Stage) -> None:
    """Let another project take the GPU shares that are left."""
    other = f"{stage.namespace}-other"
    stage.kubectl.apply([namespace(other)])
    limits = {"limits": {"nvidia.com/gpu.shared": "3"}}
    container = {"name": "user", "image": "ebbtide.local/e2e/load:v1", "resources": limits}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": other}}
    stage.kubectl.apply([{**pod, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}])
    time.sleep(5)


def stop_autoscaler(stage: Stage) -> None:
    stage.kubectl.run("scale", "deployment/autoscaler", "-n", "knative-serving", "--replicas=0")


def start_autoscaler(stage: Stage) -> None:
    stage.kubectl.run("scale", "deployment/autoscaler", "-n", "knative-serving", "--replicas=1")
    stage.kubectl.run(
        "rollout", "status", "deployment/autoscaler", "-n", "knative-serving", "--timeout=180s", timeout=190
    )


SCALING: Final[Mapping[str, Any]] = {
    "minReplicas": 1,
    "maxReplicas": 6,
    "metric": "concurrency",
    "metricThreshold": 2,
}
INCIDENTS: Final[Mapping[str, Made]] = {
    "start of 60 s, load of 12/s": Made("start", 12, delay=60),
    "start of 45 s, load of 9/s": Made("start", 9, delay=45),
    "start of 90 s, load of 7/s": Made("start", 7, delay=90),
    "maximum 2, load of 13/s": Made("maximum", 13, {"maxReplicas": 2}),
    "maximum 3, load of 19/s": Made("maximum", 19, {"maxReplicas": 3}),
    "one fixed replica, load of 9/s": Made("maximum", 9, {"maxReplicas": 1}),
    "two fixed replicas, load of 14/s": Made("maximum", 14, {"minReplicas": 2, "maxReplicas": 2}),
    "threshold 20, load of 8/s": Made("target", 8, {"metricThreshold": 20}),
    "threshold 10, load of 6/s": Made("target", 6, {"metricThreshold": 10}),
    "scaled to zero, start of 30 s": Made("zero", 2, {"minReplicas": 0}, delay=30, seconds=60, idle=True),
    "scaled to zero, start of 15 s": Made("zero", 1, {"minReplicas": 0}, delay=15, seconds=60, idle=True),
    "burst of 30/s for 20 s": Made("burst", 30, delay=5, seconds=20),
    "burst of 20/s for 30 s": Made("burst", 20, delay=5, seconds=30),
    "pods deleted, start of 60 s": Made("lost", 6, {"minReplicas": 2}, delay=60, quiet=6, act=delete_pods),
    "pods evicted, start of 45 s": Made("lost", 6, {"minReplicas": 2}, delay=45, quiet=6, act=evict_pods),
    "quota of pods, load of 12/s": Made("pending", 12, act=limit_pods),
    "GPUs taken by another project, load of 12/s": Made(
        "pending",
        12,
        act=fill_shares,
        compute={"gpuDevicesRequest": 1, "gpuRequestType": "portion", "gpuPortionRequest": 0.25},
        alone=True,
    ),
    "no autoscaler, load of 12/s": Made("metric", 12, act=stop_autoscaler, alone=True),
    "no incident, load of 6/s": Made("none", 6, {"minReplicas": 3}),
    "no incident, constant load": Made("none", 3, quiet=3),
}


@dataclass
class Run:
    """One run of a service: its place, its loads, and the start of the busy one."""

    name: str
    made: Made
    stage: Stage
    fields: Mapping[str, Any]
    latencies: list[float] = field(default_factory=list)
    """Seconds of each request as the client saw it; infinite without an answer."""
    busy_since: float = 0.0
    host: str = ""
    gateway: tuple[str, int] = ("", 0)

    def deploy(self) -> None:
        """Apply the service."""
        scaling = {
            name: value for name, value in {**SCALING, **self.made.fields, **self.fields}.items() if value is not None
        }
        environment = {"LATENCY": "400ms", "CONCURRENCY": "2", "START_DELAY": f"{self.made.delay}s"}
        self.stage.deploy(
            {
                "apiVersion": "ebbtide.dev/v1alpha1",
                "kind": "Inference",
                "metadata": {"name": NAME},
                "spec": {
                    "image": "ebbtide.local/e2e/load:v1",
                    "environmentVariables": [{"name": name, "value": value} for name, value in environment.items()],
                    "compute": {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "32Mi", **self.made.compute},
                    "autoscaling": scaling,
                    "slo": {"p95LatencyMilliseconds": int(LIMIT * 1000)},
                },
            }
        )

    def wait(self) -> None:
        """Wait until the service is ready with its minimum."""
        self.stage.ready(NAME, timeout=READY)
        self.host = self.stage.host(NAME)
        (node,) = self.stage.kubectl.get("nodes")["items"]
        addresses = {row["type"]: row["address"] for row in node["status"]["addresses"]}
        # Docker's proxy of the published port ends with some thousand connections.
        self.gateway = addresses["InternalIP"], GATEWAY_PORT
        least = {**SCALING, **self.made.fields, **self.fields}["minReplicas"]
        self.stage.until("the minimum is ready", lambda: len(self.stage.pods(NAME, ready=True)) >= least, READY)

    async def send(self, rate: float, seconds: float) -> None:
        """Send requests at a rate for a time, whether or not they are answered, and wait for the answers."""
        start, tasks = time.monotonic(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self._ask()))
        await asyncio.gather(*tasks)

    async def _ask(self) -> None:
        start, found = time.monotonic(), float("inf")
        # httpx searches all waiting requests at each answer, which takes more than one processor for a thousand of them.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LONGEST):
                reader, writer = await asyncio.open_connection(*self.gateway)
                try:
                    writer.write(f"GET / HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n".encode())
                    if (await reader.read()).startswith(b"HTTP/1.1 200 "):
                        found = time.monotonic() - start
                finally:
                    writer.close()
        self.latencies.append(found)

    @property
    def share(self) -> float:
        """The share of all requests that were answered within the SLO, as the client saw it."""
        return sum(latency <= LIMIT for latency in self.latencies) / max(len(self.latencies), 1)

    def explain(self, *options: str) -> dict[str, Any]:
        """Return the output of `ebbtide why --at`."""
        place = ["-n", self.stage.namespace, "--kubeconfig", str(self.stage.kubectl.kubeconfig), *self.stage.profile()]
        after = min(WHEN, self.made.seconds)
        done = self.stage.ebbtide(
            ["why", NAME, *place, "--at", f"{self.busy_since + after:.0f}", "-o", "json", *options]
        )
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {"cause": done.stderr}


async def send(loads: Sequence[tuple[Run, float]], seconds: float | None = None) -> None:
    """Send the loads of services at the same time, each for its time if ``seconds`` is None."""
    await asyncio.gather(*(run.send(rate, seconds or run.made.seconds) for run, rate in loads))


def perform(runs: Sequence[Run], *, broken: bool) -> None:
    """Send the loads of services at the same time; break what their incidents break if `broken`."""
    for run in runs:
        run.deploy()
    for run in runs:
        run.wait()
    for idle in (False, True):
        asyncio.run(send([(run, run.made.quiet) for run in runs if not (idle and run.made.idle)], QUIET / 2))
    try:
        for run in runs:
            if broken and run.made.act is not None:
                run.made.act(run.stage)
            run.busy_since = time.time()
        asyncio.run(send([(run, run.made.busy) for run in runs]))
        time.sleep(SCRAPED)
    finally:
        if any(run.made.act is stop_autoscaler for run in runs):
            start_autoscaler(runs[0].stage)


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def try_incidents(provider: Provider, names: Sequence[str]) -> dict[str, Any]:
    """Return the answers of `why --at` for incidents that happen at the same time, and the results of its nearest settings."""
    record: dict[str, Any] = {}
    for proposed in (False, True):
        runs = []
        for name in names:
            fields = record.get(name, {}).get("fields", {})
            if proposed and not fields:
                continue
            # Prometheus keeps the series of services that are gone, so each one has another name.
            stage = Stage(provider, provider.kubectl(), HERE / "experiments", f"incident-{token_hex(3)}")
            runs.append(Run(name, INCIDENTS[name], stage, fields))
        try:
            for run in runs:
                run.stage.apply([namespace(run.stage.namespace)])
            if runs:
                perform(runs, broken=not proposed)
            for run in runs:
                if proposed:
                    record[run.name]["share after"] = run.share
                else:
                    record[run.name] = read_answer(run)
                log(f"{run.name}: {json.dumps(record[run.name])}")
        except (UnmetError, KubectlError) as error:
            log(f"{', '.join(names)}: {error}")
        finally:
            for run in runs:
                run.stage.clean()
                with suppress(KubectlError):
                    other = f"{run.stage.namespace}-other"
                    run.stage.kubectl.run("delete", "namespace", other, "--ignore-not-found", timeout=200)
    return record


def read_answer(run: Run) -> dict[str, Any]:
    """Return the cause and the nearest setting of the autoscaling.

    Most requests of the short record are slow, and a server that is fitted to them is, too. So the server is named.
    """
    answer = run.explain("--server", SERVER)
    replay = answer.get("replay") or {}
    changes = [change for change in replay.get("changes", ()) if change["fields"]]
    return {
        "expected": run.made.cause,
        "cause": answer["cause"],
        "words": answer.get("words", ""),
        "share": run.share,
        "server": replay.get("server", ""),
        "used": replay.get("used"),
        "unknown": answer.get("unknown", ""),
        "changes": [change["text"] for change in replay.get("changes", ())],
        "fields": changes[0]["fields"] if changes else {},
    }


def report(record: Mapping[str, Any]) -> bool:
    """Print the results as a Markdown table, and return whether each cause and each setting is right."""
    print("| Incident | Expected | Named | Within the SLO | Nearest setting | Within the SLO with it |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, row in record.items():
        after = f"{row['share after']:.1%}" if "share after" in row else ""
        text = ", ".join(f"`{key}` {value}" for key, value in row["fields"].items()) or "none"
        print(f"| {name} | `{row['expected']}` | `{row['cause']}` | {row['share']:.1%} | {text} | {after} |")
    named = sum(row["cause"] == row["expected"] for row in record.values())
    tried = [row["share after"] for row in record.values() if "share after" in row]
    kept = sum(share >= 0.95 for share in tried)
    print(f"\nThe cause was right in {named} of {len(record)}; {kept} of {len(tried)} settings kept the SLO.")
    return bool(named == len(record) and kept == len(tried))


def list_batches(names: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Yield the names of incidents that happen at the same time."""
    shared = [name for name in names if not INCIDENTS[name].alone]
    yield from (tuple(shared[place : place + size]) for place in range(0, len(shared), size))
    yield from ((name,) for name in names if INCIDENTS[name].alone)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.experiments.incidents", description=__doc__)
    parser.add_argument("--name", default=DEFAULT, help="the cluster's name, of the provider kind")
    parser.add_argument("--together", type=int, default=5, help="incidents at the same time")
    parser.add_argument("--only", nargs="+", choices=[*INCIDENTS], default=[*INCIDENTS])
    parser.add_argument("--again", action="store_true", help="report the record of the last run")
    options = parser.parse_args()
    path = Path(RECORD)
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if not options.again:
        provider = choose("kind", options.name)
        for names in list_batches(options.only, options.together):
            record |= try_incidents(provider, names)
            path.write_text(json.dumps(record))
    return 0 if report({name: record[name] for name in INCIDENTS if name in record}) else 1


if __name__ == "__main__":
    sys.exit(main())
