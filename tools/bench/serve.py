"""Measure the response times of the server's lists and its memory, with N workloads that change continuously.

This is a report, not a test: the exit code is always 0. The server runs in a separate process, whose memory is
measured; the cluster is a stand-in that lists recorded objects page by page and then sends watch events, with the fields
that a server adds (managed fields, the environment, volumes). It answers the API server's reviews immediately.
"""

import argparse
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx

HERE: Final = Path(__file__).parents[2]
SITUATION: Final = HERE / "tests" / "situations" / "running.json"
PAGE: Final = 500
GOAL_MILLISECONDS: Final = 200.0
GOAL_MEGABYTES: Final = 300.0
TENTH: Final = 20
LISTS: Final = {
    "Run:ai's list, first 50": "/api/v1/workloads",
    "its largest page, 500": "/api/v1/workloads?limit=500",
    "filtered and sorted": "/api/v1/workloads?filterBy=phase==Running&sortBy=createdAt&sortOrder=desc",
    "searched": "/api/v1/workloads?search=w-49",
    "our list, first 100": "/api/ebbtide/v1/workloads",
    "one project of a hundred": "/api/ebbtide/v1/workloads?namespace=team-007",
    "count": "/api/v1/workloads/count",
}


def bulk(name: str) -> dict[str, Any]:
    """Return metadata as a server and a webhook add it, with the size that it has on a real cluster."""
    fields: dict[str, Any] = {f"f:field-{number}": {"f:value": {}, "f:name": {}} for number in range(40)}
    return {
        "managedFields": [
            {
                "manager": manager,
                "operation": "Update",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
            for manager in ("controller", "kubelet", name)
        ]
    }


def objects(count: int, namespaces: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of the workloads by kind."""
    situation = json.loads(SITUATION.read_text())
    old_name, old_place = situation["top"]["metadata"]["name"], situation["top"]["metadata"]["namespace"]
    parts = [
        ("Service", situation["top"]),
        ("Revision", situation["revisions"][0]),
        ("PodAutoscaler", situation["scalers"][0]),
        ("Deployment", situation["deployments"][0]),
        ("Pod", situation["pods"][0]),
        ("Pod", situation["pods"][0]),
    ]
    extra = {
        "volumes": [{"name": f"volume-{n}", "emptyDir": {"sizeLimit": "1Gi"}} for n in range(4)],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}] * 3,
    }
    environment = [{"name": f"VARIABLE_{n}", "value": f"the value of variable {n}"} for n in range(20)]
    for number in range(count):
        name, place = f"w-{number:04d}", f"team-{number % namespaces:03d}"
        for index, (kind, item) in enumerate(parts):
            text = json.dumps(item).replace(old_name, name).replace(old_place, place)
            obj = json.loads(text)
            obj["metadata"] |= bulk(name)
            obj["metadata"]["uid"] = f"{number:08d}-0000-4000-8000-{index:012d}"
            obj["metadata"]["resourceVersion"] = str(number * 10 + index + 1)
            if kind == "Pod":
                obj["metadata"]["name"] += f"-{index}"
                obj["spec"] |= copy.deepcopy(extra)
                for container in obj["spec"]["containers"]:
                    container["env"] = environment
            yield kind, obj


def write(folder: Path, count: int, namespaces: int, page: int = PAGE) -> None:
    """Write the objects to files, one page per line, so that they do not occupy the server's memory."""
    pages: dict[str, list[dict[str, Any]]] = {}
    for kind, item in objects(count, namespaces):
        rows = pages.setdefault(kind, [])
        rows.append(item)
        if len(rows) == page:
            with (folder / kind).open("a") as file:
                file.write(json.dumps(rows) + "\n")
            rows.clear()
    names = [f"team-{number:03d}" for number in range(namespaces)]
    pages["Namespace"] = [{"kind": "Namespace", "metadata": {"name": name, "resourceVersion": "1"}} for name in names]
    for kind, rows in pages.items():
        with (folder / kind).open("a") as file:
            file.write(json.dumps(rows) + "\n")


class Standin:
    """A read-only cluster: it lists its objects page by page, then sends N changes per second."""

    namespace = "default"

    def __init__(self, folder: Path, rate: float) -> None:
        """Read the objects from files in a folder."""
        self.folder, self.rate = folder, rate
        self.versions = itertools.count(10**9)

    def get(self, *_: Any) -> dict[str, Any]:
        """Answer the connection check."""
        return {}

    def follow(self, kind: Any, *, since: str = "") -> Iterator[Any]:
        """Yield the objects of a kind, then their changes."""
        from ebbtide.cluster.client.protocol import KNATIVE, WatchBookmark, WatchChange  # noqa: PLC0415 - in the server's process only

        # Only Knative's Service: no other kind that is watched has this name.
        file = self.folder / kind.name
        if not since and file.exists():
            for item in self._items(file):
                yield WatchChange("ADDED", item)
        yield WatchBookmark("1")
        while kind == KNATIVE and self.rate:
            for item in self._items(file):
                time.sleep(1 / self.rate)
                item["metadata"]["resourceVersion"] = str(next(self.versions))
                yield WatchChange("MODIFIED", item)
        time.sleep(60)

    def _items(self, file: Path) -> Iterator[dict[str, Any]]:
        with file.open() as lines:
            for line in lines:
                yield from json.loads(line)


def serve(options: argparse.Namespace) -> None:
    """Serve the stand-in cluster; runs in the process that is measured."""
    import uvicorn  # noqa: PLC0415 - as above

    from ebbtide.cli.base.connection import SystemClock  # noqa: PLC0415 - as above
    from ebbtide.cluster.watch.cache import Cache  # noqa: PLC0415 - as above
    from ebbtide.core.documents import profiles  # noqa: PLC0415 - as above
    from ebbtide.sandbox.backend import PermissionRule, SimulatedReviewer  # noqa: PLC0415 - as above
    from ebbtide.server.api.access import AccessCache, Caller  # noqa: PLC0415 - as above
    from ebbtide.server.api.app import make_app  # noqa: PLC0415 - as above
    from ebbtide.server.api.backend import Backend  # noqa: PLC0415 - as above
    from ebbtide.server.api.gate import ServerSettings  # noqa: PLC0415 - as above

    cluster: Any = Standin(Path(options.serve), options.changes)
    everybody = frozenset({"*"})
    tokens = {name: Caller(name, token=name) for name in ("all", "tenth")}
    few = frozenset(f"team-{number:03d}" for number in range(options.namespaces // 10 or 1))
    rules = (PermissionRule("all", everybody, everybody, everybody), PermissionRule("tenth", everybody, everybody, few))
    clock = SystemClock()
    cache, access = Cache(cluster, clock, threads=True), AccessCache(SimulatedReviewer(tokens, rules))
    backend = Backend(profiles.load_built_in("full"), {}, clock, cache, access, lambda _: cluster)
    config = uvicorn.Config(
        make_app(backend, ServerSettings()),
        host="127.0.0.1",
        port=0,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
    )
    listener = config.bind_socket()
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run([listener])


def memory(process: int) -> float:
    """Return the resident memory of a process in megabytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def processor(process: int) -> float:
    """Return the processor time of a process in seconds, which does not depend on other processes."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(client: "httpx.Client", path: str, caller: str, times: int) -> tuple[list[float], int]:
    """Return the time of each of ``times`` requests in milliseconds, and the size of a response in bytes."""
    milliseconds = []
    size = 0
    for _ in range(times):
        start = time.perf_counter()
        answer = client.get(path, headers={"Authorization": f"Bearer {caller}"})
        milliseconds.append((time.perf_counter() - start) * 1000)
        answer.raise_for_status()
        size = len(answer.content)
    return milliseconds, size


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=int, default=5000)
    parser.add_argument("--namespaces", type=int, default=100)
    parser.add_argument("--changes", type=float, default=20.0, help="changes a second while it is measured")
    parser.add_argument("--times", type=int, default=100, help="requests of each list")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.workloads, options.namespaces)
        words = [sys.executable, __file__, f"--serve={folder}", f"--namespaces={options.namespaces}"]
        with subprocess.Popen([*words, f"--changes={options.changes}"], stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                report(options, server.pid, int(server.stdout.readline()))
            finally:
                server.terminate()
    return 0


def report(options: argparse.Namespace, pid: int, port: int) -> None:
    """Measure the server and print the report."""
    import httpx  # noqa: PLC0415 - the other programs that use this module measure their memory

    start = time.perf_counter()
    transport = httpx.HTTPTransport(retries=10)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, transport=transport) as client:
        while client.get("/readyz").status_code != httpx.codes.OK:
            time.sleep(0.05)
        read = time.perf_counter() - start
        first, _ = measure(client, "/api/v1/workloads", "all", 1)
        print(
            f"{options.workloads} workloads in {options.namespaces} namespaces, {options.changes:g} changes a second; "
            f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
        )
        print(f"read in {read:.1f} s; the first list after {first[0] / 1000:.2f} s")
        print(f"\n{'':26}{'who':>7}{'p50':>9}{'p95':>9}{'most':>9}{'processor':>11}{'kB':>8}")
        worst = 0.0
        for (title, path), caller in itertools.product(LISTS.items(), ("all", "tenth")):
            before = processor(pid)
            milliseconds, size = measure(client, path, caller, options.times)
            cpu_milliseconds = (processor(pid) - before) / options.times * 1000
            slow = statistics.quantiles(milliseconds, n=TENTH)[-1]
            worst = max(worst, slow)
            print(
                f"{title:26}{caller:>7}{statistics.median(milliseconds):7.1f}ms{slow:7.1f}ms{max(milliseconds):7.1f}ms{cpu_milliseconds:9.1f}ms{size / 1000:8.0f}"
            )
        for clients in (16, 64):
            several(client, options.times, clients)
    megabytes = memory(pid)
    print(
        f"\nworst p95: {worst:.0f} ms   goal {GOAL_MILLISECONDS:g} ms: {'met' if worst < GOAL_MILLISECONDS else 'missed'}"
    )
    print(
        f"memory: {megabytes:.0f} MB   goal {GOAL_MEGABYTES:g} MB: {'met' if megabytes < GOAL_MEGABYTES else 'missed'}"
    )


def several(client: "httpx.Client", times: int, clients: int) -> None:
    """Print the response times of concurrent clients."""
    milliseconds: list[float] = []

    def measure_one() -> None:
        milliseconds.extend(measure(client, "/api/v1/workloads", "all", times // 4)[0])

    threads = [threading.Thread(target=measure_one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slow = statistics.quantiles(milliseconds, n=TENTH)[-1]
    print(
        f"{f'{clients} clients at once':26}{'all':>7}{statistics.median(milliseconds):7.1f}ms{slow:7.1f}ms{max(milliseconds):7.1f}ms"
    )


if __name__ == "__main__":
    raise SystemExit(main())
