"""The pods of a service while something happens: how many are ready, how long terminating ones stay, and each change."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from e2e.kubectl import KubectlError
from e2e.stage import Stage, condition


@dataclass
class Watched:
    """The pods while a rollout runs."""

    ready: list[int] = field(default_factory=list)
    leaving: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The times at which each terminating pod was seen first and last."""
    states: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    """A line for each change of a pod's state, with the seconds and the ready pods after it."""

    @property
    def drains(self) -> list[float]:
        return [round(last - first, 1) for first, last in self.leaving.values()]


@contextmanager
def watched(stage: Stage, service: str) -> Iterator[Watched]:
    """Look at the pods four times a second, whenever the API server answers."""
    seen, stop, start = Watched(), threading.Event(), time.monotonic()

    def look() -> None:
        while not stop.wait(0.25):
            with suppress(KubectlError, subprocess.TimeoutExpired):
                look_once()

    def look_once() -> None:
        pods = stage.listed("pods", f"serving.knative.dev/service={service}")
        now = time.monotonic()
        states = {pod["metadata"]["name"]: describe(pod) for pod in pods}
        seen.ready.append(list(states.values()).count(READY))
        for name, state in {**dict.fromkeys(seen.states, GONE), **states}.items():
            if "terminating" in state:
                seen.leaving[name] = (seen.leaving.get(name, (now, now))[0], now)
            if seen.states.get(name) != state:
                seen.states[name] = state
                seen.changes.append(f"{now - start:6.1f} s, {seen.ready[-1]} ready: {name} {state}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


READY = "ready"
GONE = "gone"


def describe(pod: Any) -> str:
    """Return the state of a pod in words; `READY` if it is ready and does not terminate."""
    if "deletionTimestamp" in pod["metadata"]:
        return "terminating" if condition(pod, "Ready") == "True" else "terminating, not ready"
    if condition(pod, "Ready") == "True":
        return READY
    return f"{pod['status']['phase']}, scheduled: {condition(pod, 'PodScheduled')}"
