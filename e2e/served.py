"""`ebbtide serve` as a user starts it for a cluster: on loopback, with the suite's kubeconfig and profile."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from e2e.stage import Stage

ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:\d+")
BEGIN: Final = 120.0
"""Seconds for its first line."""


@contextmanager
def served(stage: Stage) -> Iterator[str]:
    """Run the command, wait until it has read the cluster, and yield its address; every caller acts as the kubeconfig's user."""
    words = ["serve", "--port", "0", "--kubeconfig", str(stage.kubectl.kubeconfig), *stage.profile()]
    told: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "ebbtide", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        # Its log is read on, lest it wait for a reader.
        reader = threading.Thread(target=lambda: told.extend(server.stderr or ()), daemon=True)
        reader.start()
        try:
            stage.until("it says where it serves", lambda: any(map(ADDRESS.search, told)), BEGIN, every=0.1)
            address = next(match[0] for match in map(ADDRESS.search, told) if match)
            stage.until("it has read the cluster", lambda: _ready(address), seen=lambda: told)
            yield address
        finally:
            server.terminate()
            server.wait(30)
            reader.join(10)
    assert "Traceback" not in "".join(told), "".join(told)[-4000:]


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=30).is_success
    except httpx.TransportError:
        return False
