"""The pods of a service while something happens: how many are ready, and how long terminating ones stay."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from e2e.kubectl import KubectlError
from e2e.stage import Stage


@dataclass
class Watched:
    """The pods while a rollout runs."""

    ready: list[int] = field(default_factory=list)
    leaving: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The times at which each terminating pod was seen first and last."""

    @property
    def drains(self) -> list[float]:
        return [round(last - first, 1) for first, last in self.leaving.values()]


@contextmanager
def watched(stage: Stage, service: str) -> Iterator[Watched]:
    """Look at the pods four times a second, whenever the API server answers."""
    seen, stop = Watched(), threading.Event()

    def look() -> None:
        while not stop.wait(0.25):
            with suppress(KubectlError, subprocess.TimeoutExpired):
                look_once()

    def look_once() -> None:
        seen.ready.append(len(stage.pods(service, ready=True)))
        now = time.monotonic()
        for pod in stage.listed("pods"):
            if "deletionTimestamp" in pod["metadata"]:
                name = pod["metadata"]["name"]
                seen.leaving[name] = (seen.leaving.get(name, (now, now))[0], now)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
