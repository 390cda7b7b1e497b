"""Load on one service: N requests in flight, or N per second, for a duration. Bounded in count and time."""

import asyncio
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

LIMIT = 20_000
"""Requests of one load at most: it is for a cluster on this machine, and ends."""


@dataclass
class Load:
    """Responses so far; safe to read while the load runs."""

    latencies: list[float] = field(default_factory=list)
    """Of the answered requests, in seconds."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Requests by status code, or by the name of the error."""
    bodies: Counter[str] = field(default_factory=Counter)
    """Answers by the revision that gave them (the `revision` of a JSON answer)."""

    @property
    def answered(self) -> int:
        return self.outcomes["200"]

    @property
    def lost(self) -> int:
        return sum(self.outcomes.values()) - self.answered

    def percentile(self, share: float) -> float:
        """Return a percentile of the latencies in seconds."""
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[round(share * 100) - 1]


@contextmanager
def in_flight(address: str, host: str, path: str = "/", *, requests: int, seconds: float = 300) -> Iterator[Load]:
    """Keep this many requests in flight until the block ends, or the time does."""

    async def one_after_another(client: httpx.AsyncClient, load: Load, stop: threading.Event) -> None:
        while not stop.is_set():
            await _ask(client, path, load)

    async def drive(load: Load, stop: threading.Event) -> None:
        async with _client(address, host, requests) as client:
            await asyncio.gather(*(one_after_another(client, load, stop) for _ in range(requests)))

    with _running(drive, seconds) as load:
        yield load


@contextmanager
def at_rate(address: str, host: str, path: str = "/", *, rate: float, seconds: float = 300) -> Iterator[Load]:
    """Send this many requests a second, whether or not they are answered, until the block ends or the time does."""

    async def drive(load: Load, stop: threading.Event) -> None:
        async with _client(address, host, 1000) as client:
            start, sent, waiting = time.monotonic(), 0, set[asyncio.Task[None]]()
            while not stop.is_set():
                while sent < (time.monotonic() - start) * rate:
                    task = asyncio.create_task(_ask(client, path, load))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                    sent += 1
                await asyncio.sleep(0.005)
            await asyncio.gather(*waiting)

    with _running(drive, seconds) as load:
        yield load


@contextmanager
def _running(
    drive: Callable[[Load, threading.Event], Coroutine[object, object, None]], seconds: float
) -> Iterator[Load]:
    load, stop = Load(), threading.Event()
    timer = threading.Timer(seconds, stop.set)
    thread = threading.Thread(target=lambda: asyncio.run(drive(load, stop)), daemon=True)
    timer.start()
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        timer.cancel()
        thread.join()


async def _ask(client: httpx.AsyncClient, path: str, load: Load) -> None:
    if sum(load.outcomes.values()) >= LIMIT:
        await asyncio.sleep(0.1)
        return
    start = time.monotonic()
    try:
        answer = await client.get(path)
    except httpx.HTTPError as error:
        load.outcomes[type(error).__name__] += 1
        return
    load.outcomes[str(answer.status_code)] += 1
    if answer.status_code == httpx.codes.OK:
        load.latencies.append(time.monotonic() - start)
        if answer.headers.get("content-type", "").startswith("application/json"):
            load.bodies[str(answer.json().get("revision"))] += 1


def _client(address: str, host: str, connections: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://{address}",
        headers={"Host": host},
        timeout=120,
        # After a pause of the client, its pool would close expired connections, and with them requests that they just got.
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=None),
    )
