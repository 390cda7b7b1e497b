"""Options of a simulation besides spec and traffic: the pod start-up time, the price of a GPU, the default servers.

The command line and the API share these parsers. Invalid text raises a ``ValueError`` that states the valid form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.units import parse_duration

if TYPE_CHECKING:
    from ebbtide.simulator.data import StartUp

#: Default server models: for plain requests, and for requests with token counts.
PLAIN_SERVER: Final = "lognormal:median=500ms,sigma=0.5,max=16"
TOKENS_SERVER: Final = "llm:max=16"
PRICE_FORM: Final = "must be gpu-hour=PRICE, as in gpu-hour=2.5"
#: Number of events from which compiling the engine saves time, for two simulations.
MANY: Final = 40_000
#: Number of simulations of each setting that `ebbtide simulate` compares, with consecutive seeds.
SAMPLES: Final = 5
#: Decisions in a second of simulated time: Knative's autoscaler decides every 2 s, and a day without requests has 43,200.
DECISIONS: Final = 0.5
#: Fields that a search for settings can leave unchanged.
KEEPABLE: Final = (
    "metric",
    "minReplicas",
    "activationReplicas",
    "scaleToZeroRetentionSeconds",
    "scaleDownDelaySeconds",
)
PHASES: Final = ("schedule", "node", "pull", "weights", "load", "ready")


def parse_start_up(text: str) -> StartUp:
    """Parse a start-up time: ``45s``, or ``schedule=1s,pull=20s,weights=20s,load=9s,ready=2s,spread=0.3``. Raises ValueError."""
    from ebbtide.simulator.data import StartUp  # noqa: PLC0415 - importing load requires numpy, which --help does not need

    if "=" not in text:
        return StartUp(0.0, 0.0, parse_duration(text), 0.0)
    assignments = [assignment.partition("=") for assignment in text.split(",")]
    phases = {name: value for name, _, value in assignments}
    if len(phases) < len(assignments):
        raise ValueError(f"invalid start-up time {text!r}: a term is there twice")
    spread = read_number(phases.pop("spread", "0"))
    values = {name: parse_duration(phases.pop(name, "0s")) for name in PHASES}
    if phases or spread is None:
        raise ValueError(
            f"invalid start-up time {text!r}: must be a duration, or durations for {', '.join(PHASES)}, and spread, "
            "a number of at least 0"
        )
    return StartUp(**values, spread=spread)


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
