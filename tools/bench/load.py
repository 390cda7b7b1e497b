"""Measure lists of N workloads with 1, 16 and 64 concurrent clients, for this version and another one in turns.

This is a report, not a test: the exit code is always 0. The servers are those of ``serve.py``. Each client sends its next
request when it has the response (a closed loop). ``--against`` is a checkout of another version, which runs with the same
packages; its figures and this version's alternate, so that other work on the machine affects both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from serve import TENTH, memory, processor, write

HERE: Final = Path(__file__).resolve().parent
CLIENTS: Final = (1, 16, 64)
PATHS: Final = ("/api/ebbtide/v1/workloads?limit=50", "/api/v1/workloads?limit=50")
GOAL_MILLISECONDS: Final = 200.0


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, encoding: str) -> int:
    """Send one request, and return the bytes of the response's body."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer all\r\n{encoding}\r\n"
    writer.write(head.encode())
    headers = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not headers.startswith(b"http/1.1 200"):
        raise ValueError(headers.decode())
    size = int(headers.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(size)
    return size


async def load(port: int, path: str, clients: int, seconds: float, encoding: str) -> tuple[list[float], int]:
    """Send requests with a number of clients; return the time of each in milliseconds, and the size of a response."""
    milliseconds: list[float] = []
    sizes = [0]
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            sizes[0] = await ask(reader, writer, path, encoding)
            milliseconds.append((time.perf_counter() - start) * 1000)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return milliseconds, sizes[0]


async def wait_ready(port: int) -> None:
    """Wait until the server has read the cluster and served its first list."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for path in ("/readyz", *PATHS):
                await ask(reader, writer, path, "")
        except (OSError, ValueError):
            await asyncio.sleep(0.2)
        else:
            writer.close()
            return


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=int, default=5000)
    parser.add_argument("--namespaces", type=int, default=100)
    parser.add_argument("--changes", type=float, default=20.0, help="changes a second while it is measured")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each measurement")
    parser.add_argument("--against", type=Path, help="checkout of another version")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write(Path(folder), options.workloads, options.namespaces)
        words = [str(HERE / "serve.py"), f"--serve={folder}", f"--namespaces={options.namespaces}"]
        servers: dict[str, tuple[int, int]] = {}
        checkouts = {"before": options.against, "now": HERE.parents[1]}
        for name, checkout in checkouts.items():
            if checkout is None:
                continue
            environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "platform")}
            server = subprocess.Popen(
                [sys.executable, *words, f"--changes={options.changes}"],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            stack.callback(server.terminate)
            assert server.stdout is not None
            servers[name] = (server.pid, int(server.stdout.readline()))
            asyncio.run(wait_ready(servers[name][1]))
        print(
            f"{options.workloads} workloads, {options.changes:g} changes a second, {os.cpu_count()} processors; "
            f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
        )
        print(f"{'':38}{'':>8}{'clients':>9}{'req/s':>8}{'p50':>9}{'p95':>9}{'processor':>11}{'kB':>8}{'MB':>7}")
        for path in PATHS:
            for clients in CLIENTS:
                for name, (pid, port) in servers.items():
                    encoding = "Accept-Encoding: gzip\r\n"
                    before = processor(pid)
                    milliseconds, size = asyncio.run(load(port, path, clients, options.seconds, encoding))
                    cpu = (processor(pid) - before) / len(milliseconds) * 1000
                    slow = statistics.quantiles(milliseconds, n=TENTH)[-1]
                    print(
                        f"{path:38}{name:>8}{clients:9}{len(milliseconds) / options.seconds:8.0f}"
                        f"{statistics.median(milliseconds):7.0f}ms{slow:7.0f}ms{cpu:9.1f}ms{size / 1000:8.1f}{memory(pid):7.0f}"
                        f"{'' if clients < CLIENTS[-1] or slow < GOAL_MILLISECONDS else '  over the goal'}",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
