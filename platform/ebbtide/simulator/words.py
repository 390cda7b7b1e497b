"""Options of a simulation besides spec and traffic: the pod start-up time, the price of a GPU, the default servers.

The command line and the API share these parsers. Invalid text raises a ``ValueError`` that states the valid form.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ebbtide.simulator.data import StartUp

#: Default server models: for plain requests, and for requests with token counts.
PLAIN_SERVER: Final = "lognormal:median=500ms,sigma=0.5,max=16"
TOKENS_SERVER: Final = "llm:max=16"
PRICE_FORM: Final = "must be gpu-hour=PRICE, as in gpu-hour=2.5"
#: Number of events from which compiling the engine saves time, for two simulations.
MANY: Final = 100_000
#: Decisions in a second of simulated time: Knative's autoscaler decides every 2 s, and a day without requests has 43,200.
DECISIONS: Final = 0.5
#: Fields that a search for settings can leave unchanged.
KEEPABLE: Final = (
    "metric",
    "minReplicas",
    "activationReplicas",
    "concurrencyHardLimit",
    "scaleToZeroRetentionSeconds",
    "scaleDownDelaySeconds",
)
PHASES: Final = ("schedule", "node", "pull", "weights", "load", "ready")
#: Phases that download.
DOWNLOADS: Final = ("pull", "weights")
#: Number of nodes that a Kubernetes cluster supports.
MAX_NODES: Final = 5_000
#: Bytes of the units of sizes, and bytes per second of those of rates.
SIZES: Final = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2.0**20, "GiB": 2.0**30, "Mi": 2.0**20, "Gi": 2.0**30}
RATES: Final = {"Mbps": 1e6 / 8, "Gbps": 1e9 / 8, "MB/s": 1e6, "GB/s": 1e9}


def parse_start_up(text: str) -> StartUp:
    """Parse a start-up time: ``45s``, or ``schedule=1s,pull=20s,weights=20s,load=9s,ready=2s,spread=0.3``. Raises ValueError.

    With ``network=10Gbps``, pull and weights are sizes, and parallel downloads share the network. ``download=2Gbps`` is the
    most that one of them gets. ``nodes=4,cached=pull+weights`` are the nodes, and the downloads that a node keeps.
    """
    from ebbtide.simulator.data import StartUp  # noqa: PLC0415 - importing load requires numpy, which --help does not need
    from ebbtide.simulator.load import parse_compound_duration  # noqa: PLC0415 - as above

    if "=" not in text:
        return StartUp(0.0, 0.0, parse_compound_duration(text), 0.0)
    assignments = [assignment.partition("=") for assignment in text.split(",")]
    phases = {name: value for name, _, value in assignments}
    if len(phases) < len(assignments):
        raise ValueError(f"invalid start-up time {text!r}: a term is there twice")
    spread = read_number(phases.pop("spread", "0"))
    values = _pop_downloads(phases) | _pop_cache(phases)
    values |= {name: parse_compound_duration(phases.pop(name, "0s")) for name in PHASES if name not in values}
    if phases or spread is None:
        raise ValueError(
            f"invalid start-up time {text!r}: must be a duration, or durations for {', '.join(PHASES)}, and spread, "
            "a number of at least 0; network, download, cached and nodes are optional"
        )
    if "cached" in values and values["node"]:
        raise ValueError(
            "invalid start-up time: a node that starts for each replica keeps no download: remove node or cached"
        )
    return StartUp(**values, spread=spread)


def describe_starts(start_up: StartUp) -> str:
    """Return the note of a report about starts that depend on each other, empty for others."""
    if start_up.is_plain:
        return ""
    shared = "parallel downloads share the network" if start_up.parallel < float("inf") else "downloads have full speed"
    kept = f"a node keeps {' and '.join(start_up.cached)}" if start_up.cached else "each replica downloads"
    return f"the pod startup is that of a replica alone on a new node: {shared}, and {kept}"


def _pop_downloads(phases: dict[str, str]) -> dict[str, Any]:
    """Remove the network and the sizes of the downloads, and return how long each takes alone and how many have full speed."""
    if "network" not in phases:
        if "download" in phases or any(phases.get(name, "").endswith(tuple(SIZES)) for name in DOWNLOADS):
            raise ValueError("invalid start-up time: sizes and download require network, as in network=10Gbps")
        return {}
    network = _parse_amount("network", phases.pop("network"), RATES)
    single = min(_parse_amount("download", phases.pop("download"), RATES), network) if "download" in phases else network
    sizes = {name: _parse_amount(name, phases.pop(name), SIZES) for name in DOWNLOADS if name in phases}
    if not sizes:
        raise ValueError("invalid network: requires the size of pull or weights, as in weights=140GB")
    return {**{name: sizes.get(name, 0.0) / single for name in DOWNLOADS}, "parallel": network / single}


def _parse_amount(name: str, text: str, units: dict[str, float]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z/]+)", text)
    if not match or match[2] not in units or not float(match[1]):
        unit = next(iter(units))
        raise ValueError(f"invalid {name} {text!r}: must be greater than 0 in {', '.join(units)}, as in 500{unit}")
    return float(match[1]) * units[match[2]]


def _pop_cache(phases: dict[str, str]) -> dict[str, Any]:
    """Remove the nodes and the downloads that they keep, and return them."""
    if "cached" not in phases and "nodes" not in phases:
        return {}
    cached, nodes = tuple(phases.pop("cached", "").split("+")), phases.pop("nodes", "")
    if not set(cached) <= set(DOWNLOADS) or not (nodes.isdecimal() and 0 < int(nodes) <= MAX_NODES):
        raise ValueError(
            f"invalid cached or nodes: must be both, as in cached=pull+weights,nodes=4, with 1 to {MAX_NODES:,} nodes"
        )
    return {"cached": cached, "nodes": int(nodes)}


def parse_gpu_hour(text: str) -> float | None:
    """Parse the price of a GPU-hour, as in ``gpu-hour=2.5``; None for an empty text. Raises ValueError."""
    if not text:
        return None
    price = read_gpu_hour(text)
    if price is None:
        raise ValueError(f"invalid price {text!r}: {PRICE_FORM}")
    return price


def read_gpu_hour(text: str) -> float | None:
    """Return the price in ``gpu-hour=2.5``; None if the text has another form."""
    name, _, value = text.partition("=")
    return read_number(value) if name == "gpu-hour" else None


def read_number(text: str) -> float | None:
    """Return a finite number of at least 0; None if the text is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
