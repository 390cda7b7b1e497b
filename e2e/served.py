"""`ebbtide serve` as a user starts it for a cluster: on loopback, with the suite's kubeconfig and profile."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import httpx

from e2e.paths import ROOT
from e2e.stage import Stage

KEYED: Final = re.compile(r"(?P<address>http://127\.0\.0\.1:\d+)/\?key=\S+")
"""The URL that opens a session, once, and the address in it."""
BEGIN: Final = 120.0
"""Seconds for its first line."""


class Served(NamedTuple):
    """A running server: its address, and the URL that opens a session of the kubeconfig's user, once."""

    address: str
    keyed: str

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Yield a client with a session."""
        with httpx.Client(base_url=self.address, timeout=120, headers={"Origin": self.address}) as client:
            assert client.get(self.keyed).status_code == httpx.codes.SEE_OTHER
            yield client


@contextmanager
def served(stage: Stage) -> Iterator[Served]:
    """Run the command, wait until it has read the cluster, and yield it; a session acts as the kubeconfig's user."""
    words = ["serve", "--port", "0", "--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()]
    with started(stage, [sys.executable, "-m", "ebbtide", *words]) as server:
        yield server


@contextmanager
def started(
    stage: Stage, command: Sequence[str], environment: Mapping[str, str] | None = None, limit: float = BEGIN
) -> Iterator[Served]:
    """Run a command that serves at last, within the limit in seconds, and end it with its children."""
    told: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as server:
        # Its log is read on, lest it wait for a reader.
        reader = threading.Thread(target=lambda: told.extend(server.stderr or ()), daemon=True)
        reader.start()

        def begun() -> bool:
            assert server.poll() is None, "".join(told)[-4000:]
            return any(map(KEYED.search, told))

        try:
            stage.until("it says where it serves", begun, limit, seen=lambda: told[-20:], every=0.1)
            match = next(match for match in map(KEYED.search, told) if match)
            address = match["address"]
            stage.until("it has read the cluster", lambda: _ready(address), seen=lambda: told)
            yield Served(address, match[0])
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
            reader.join(10)
    assert "Traceback" not in "".join(told), "".join(told)[-4000:]


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=30).is_success
    except httpx.TransportError:
        return False
