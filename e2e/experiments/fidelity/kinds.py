"""Kinds of replays: specs under `specs/`, each with its requests, a server's times and an SLO."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from e2e.paths import ROOT
from ebbtide.simulator.data import TrafficTrace
from ebbtide.simulator.traffic import load, servers

SPECS: Final = Path(__file__).parent / "specs"
LIMIT: Final = 20_000
"""Requests of one replay at most."""


@dataclass(frozen=True)
class Replay:
    """One kind of replay: its spec, requests, server times and SLO."""

    kind: str
    """The spec's name: `specs/<kind>.yaml`."""
    traffic: str
    """A shape in words, or `file@from-to` in seconds."""
    server: str
    promise: str
    seed: int = 7


REPLAYS: Final = (
    Replay(
        "concurrency",
        "steps:0rps,20s,6rps,100s,10rps,60s,16rps,60s,8rps,60s,0rps,90s,6rps,60s,10rps,50s,0rps,100s",
        "lognormal:median=400ms,sigma=0.3",
        "p95=800ms",
    ),
    Replay(
        "throughput",
        "examples/traffic/morning.csv@270-870",
        "llm:max=16,base=100ms,prompt=50us,output=4ms",
        "p95=1.5s",
    ),
    Replay(
        "hard-limit",
        "steps:2rps,60s,5rps,70s,1rps,60s,8rps,90s,2rps,80s,0rps,90s,4rps,90s,1rps,60s",
        "lognormal:median=500ms,sigma=0.3",
        "p95=1.5s",
    ),
)


def traffic_of(words: str, seed: int) -> TrafficTrace:
    """Return the requests of a shape or of a part of a file."""
    name, _, part = words.partition("@")
    if load.is_shape(words):
        found = load.generate_traffic(words, seed)
    else:
        file = ROOT / name
        found = load.parse_traffic(file.read_bytes(), file.name, seed)
    if part:
        start, end = map(float, part.split("-"))
        found = load.slice_traffic(found, start, end)
    assert len(found.times) <= LIMIT, f"{words}: at most {LIMIT} requests"
    return found


def document(kind: str) -> dict[str, Any]:
    """Return the spec of a kind."""
    found: dict[str, Any] = yaml.safe_load((SPECS / f"{kind}.yaml").read_text())
    return found


def requests_of(replay: Replay) -> tuple[TrafficTrace, tuple[float, ...]]:
    """Return when requests come, and how many seconds each asks of the server, to the microsecond."""
    server = servers.parse_server(replay.server)
    variables = document(replay.kind)["spec"].get("environmentVariables", ())
    slots = next((int(each["value"]) for each in variables if each["name"] == "CONCURRENCY"), 0)
    assert slots == server.max_batch, f"{replay.kind}: the spec's CONCURRENCY and the server's max differ"
    traffic = traffic_of(replay.traffic, replay.seed)
    work = server.alone(traffic, np.random.default_rng(replay.seed))
    return traffic, tuple(round(seconds, 6) for seconds in work.tolist())
