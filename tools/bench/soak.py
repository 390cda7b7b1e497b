"""Run the demo server under mixed traffic for some minutes and report its memory, response times and errors.

The traffic is lists, details, pages, checks of specs, open event streams that are closed and reopened, and
writes: apply, scale and delete. The server runs in a separate process. The run ends on its own; its exit code is 1 if a
response had an unexpected status or a connection broke.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

API: Final = "/api/ebbtide/v1"
SPEC: Final = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: soak-{number}
spec:
  project: {project}
  image: ghcr.io/acme/soak:{version}
  servingPort: {{container: 8080}}
  autoscaling: {{minReplicas: 1, maxReplicas: 3, metric: concurrency, metricThreshold: 10}}
"""
STREAM_SECONDS: Final = 30.0
#: Expected statuses: a success, a workload that another client has deleted, too many requests at a time.
EXPECTED: Final = frozenset({200, 404, 429})
BUSY: Final = 429
MILLISECONDS: Final = 1000


class Server:
    """The server's process: its address, and what the kernel reports about it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "ebbtide", "serve", "--demo", "--port", "0"]
        self.log = Path("build/soak.log")
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream)
        self.url = self._read_url()

    def _read_url(self) -> str:
        while self.process.poll() is None:
            match = re.search(r"^Open (\S+)", self.log.read_text(encoding="utf-8"), re.MULTILINE)
            if match:
                return match[1]
            time.sleep(0.1)
        sys.exit(f"the server ended: {self.log.read_text(encoding='utf-8')}")

    def megabytes(self) -> float:
        """Return the resident memory of the process without its workers."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - names are enough

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))  # noqa: PTH208 - as above

    def stop(self) -> float:
        """Stop the server and return the seconds that this took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - start


class Traffic:
    """Clients that send requests until a deadline, and the times and errors of their responses."""

    def __init__(self, client: httpx.AsyncClient, seconds: float) -> None:
        self.client = client
        self.deadline = time.monotonic() + seconds
        self.times: dict[str, list[float]] = defaultdict(list)
        self.errors: dict[str, int] = defaultdict(int)
        self.busy = 0
        self.events = 0
        self.numbers = itertools.count()

    async def request(self, kind: str, method: str, path: str, **words: object) -> httpx.Response | None:
        start = time.monotonic()
        try:
            response = await self.client.request(method, path, **words)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self.errors[f"{kind}: {type(error).__name__}"] += 1
            return None
        self.times[kind].append((time.monotonic() - start) * MILLISECONDS)
        self.busy += response.status_code == BUSY
        if response.status_code not in EXPECTED:
            self.errors[f"{kind}: {response.status_code}"] += 1
        return response

    async def read(self) -> None:
        """Read lists, details and pages, as people and scripts do."""
        while time.monotonic() < self.deadline:
            response = await self.request("list", "GET", f"{API}/workloads")
            rows = response.json()["workloads"] if response is not None and response.is_success else []
            await self.request("page of all", "GET", "/workloads")
            for row in random.sample(rows, min(3, len(rows))):
                where = f"{row['namespace']}/{row['name']}"
                await self.request("detail", "GET", f"{API}/workloads/{where}")
                await self.request("why", "GET", f"{API}/workloads/{where}/why")
                await self.request("page of one", "GET", f"/workloads/{where}")
            await self.request("projects", "GET", f"{API}/projects")
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - a pause

    async def check(self) -> None:
        """Check valid and invalid specs."""
        while time.monotonic() < self.deadline:
            text = SPEC.format(number=next(self.numbers), project="research", version=1)
            await self.request("check", "POST", f"{API}/check", json={"spec": text})
            await self.request("check of an error", "POST", f"{API}/check", json={"spec": f"a: &b\n{text}"})
            await asyncio.sleep(random.uniform(0.5, 2.0))  # noqa: S311 - a pause

    async def write(self, project: str) -> None:
        """Apply, change, scale and delete a workload."""
        while time.monotonic() < self.deadline:
            number = next(self.numbers)
            for version in (1, 2):
                text = SPEC.format(number=number, project=project, version=version)
                await self.request("apply", "POST", f"{API}/apply", json={"spec": text})
                await asyncio.sleep(1)
            response = await self.request("list", "GET", f"{API}/workloads")
            rows = response.json()["workloads"] if response is not None and response.is_success else []
            for row in rows:
                if row["name"] == f"soak-{number}":
                    path = f"{API}/workloads/{row['namespace']}/{row['name']}"
                    await self.request("scale", "POST", f"{path}/scale", json={"minReplicas": 2})
                    await self.request("delete", "DELETE", path)
            await asyncio.sleep(1)

    async def follow(self, path: str) -> None:
        """Hold an event stream for half a minute at a time."""
        while time.monotonic() < self.deadline:
            end = min(time.monotonic() + STREAM_SECONDS, self.deadline)
            with suppress(TimeoutError, httpx.ReadTimeout):
                async with asyncio.timeout(end - time.monotonic()):
                    try:
                        async with self.client.stream("GET", path) as response:
                            if response.status_code not in EXPECTED:
                                self.errors[f"stream: {response.status_code}"] += 1
                            async for line in response.aiter_lines():
                                self.events += line.startswith("event:")
                    except httpx.RemoteProtocolError as error:
                        self.errors[f"stream: {error}"] += 1
            await asyncio.sleep(0.5)


async def run(server: Server, minutes: float) -> bool:
    """Send traffic for some minutes, print the figures and return whether there was no error."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    async with httpx.AsyncClient(
        timeout=60, limits=limits, follow_redirects=True, base_url=server.url.partition("?")[0]
    ) as client:
        # The printed URL has a key, and its response the cookie of a session.
        (await client.get(server.url)).raise_for_status()
        await asyncio.sleep(5)
        before = server.megabytes(), server.files(), server.threads()
        traffic = Traffic(client, minutes * 60)
        tasks = [
            *(traffic.read() for _ in range(4)),
            *(traffic.check() for _ in range(2)),
            *(traffic.write(project) for project in ("research", "shop")),
            *(traffic.follow("/live") for _ in range(16)),
            report_memory(server, traffic.deadline),
        ]
        await asyncio.gather(*tasks)
        await asyncio.sleep(5)
        after = server.megabytes(), server.files(), server.threads()
    print(f"\n{'request':20} {'count':>7} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for kind, times in sorted(traffic.times.items()):
        cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 100
        print(f"{kind:20} {len(times):7} {cuts[49]:8.0f} {cuts[94]:8.0f} {cuts[98]:8.0f}")
    count = sum(map(len, traffic.times.values()))
    every = statistics.quantiles(itertools.chain.from_iterable(traffic.times.values()), n=100)
    print(f"{'all':20} {count:7} {every[49]:8.0f} {every[94]:8.0f} {every[98]:8.0f}")
    print(
        f"{traffic.events} events of 16 streams, {traffic.busy} responses 429, errors: {dict(traffic.errors) or 'none'}"
    )
    for name, start, end in zip(("memory MB", "open files", "threads"), before, after, strict=True):
        print(f"{name}: {start:.0f} at the start, {end:.0f} at the end")
    return not traffic.errors


async def report_memory(server: Server, deadline: float) -> None:
    """Print the memory once a minute."""
    minute = 0
    while time.monotonic() < deadline:
        print(
            f"minute {minute}: {server.megabytes():.0f} MB, {server.files()} files, {server.threads()} threads",
            flush=True,
        )
        minute += 1
        await asyncio.sleep(max(0.0, min(60.0, deadline - time.monotonic())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    server = Server()
    try:
        fine = asyncio.run(run(server, options.minutes))
    finally:
        seconds = server.stop()
    print(f"stopped in {seconds:.1f} s with exit code {server.process.returncode}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
