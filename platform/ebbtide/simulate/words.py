"""What is said of a simulation beside the spec and the traffic: how a pod starts, what a GPU costs, a server's default.

One reader for the command line and for the API; what is wrong is a ``ValueError`` whose text says what to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ebbtide.simulate.data import StartUp

#: What a server is taken for where nobody says: for plain requests, and for those with tokens.
PLAIN_SERVER: Final = "lognormal:median=500ms,sigma=0.5,max=16"
TOKENS_SERVER: Final = "llm:max=16"
#: Requests from which on compiling the engine is worth its time, for two simulations.
MANY: Final = 100_000
#: What a search for settings can leave as it is.
KEEPABLE: Final = (
    "metric",
    "minReplicas",
    "activationReplicas",
    "concurrencyHardLimit",
    "scaleToZeroRetentionSeconds",
    "scaleDownDelaySeconds",
)
PARTS: Final = ("schedule", "pull", "load", "ready")


def start_up(text: str) -> StartUp:
    """Return how a pod starts: ``45s``, or ``schedule=1s,pull=20s,load=20s,ready=2s,spread=0.3``. Raises ValueError."""
    from ebbtide.simulate.data import StartUp  # noqa: PLC0415 - the command line's help needs no numpy
    from ebbtide.simulate.load import duration  # noqa: PLC0415 - as above

    if "=" not in text:
        return StartUp(0.0, 0.0, duration(text), 0.0)
    given = {name: value for name, _, value in (item.partition("=") for item in text.split(","))}
    spread = float(given.pop("spread", "0"))
    schedule, pull, load, ready = (duration(given.pop(name, "0s")) for name in PARTS)
    if given or not 0 <= spread < float("inf"):
        raise ValueError(f"it has the parts {', '.join(PARTS)}, and spread, a number of 0 or more")
    return StartUp(schedule, pull, load, ready, spread)


def gpu_hour(text: str) -> float | None:
    """Return what a GPU costs an hour: ``gpu-hour=2.5``; None where nothing is said. Raises ValueError."""
    if not text:
        return None
    name, _, value = text.partition("=")
    try:
        price = float(value)
    except ValueError:
        price = -1.0
    if name != "gpu-hour" or not 0 <= price < float("inf"):
        raise ValueError(f"{text!r}: write gpu-hour=2.5")
    return price
