"""The judge of every proposed change: a setting must leave enough of the allowance of its SLO unused wherever it was simulated.

A record is one sample of the load, and a seed one sample of what is not recorded. A setting that uses the whole allowance in one
sample violates the SLO in the next one that is slightly worse. ``tune`` and ``report`` therefore propose only what passes here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ebbtide.core.base.bodies import body
from ebbtide.core.base.prose import count_noun
from ebbtide.core.units import format_percent, parse_percent

#: Share of the SLO's allowance that a change must leave unused, by default.
SPARE: Final = 0.5
#: Seeds with which a change must be simulated. The first one is the default of ``ebbtide simulate``.
SEEDS: Final = (0, 1, 2)
MINIMUM: Final = "minReplicas"
#: Used shares up to this are printed.
MAX_SHOWN: Final = 10.0
ROUNDING: Final = 1e-9

#: Used shares of the allowance by part of the traffic, one for each seed. The SLO is met up to 1.
Use: TypeAlias = Mapping[str, Sequence[float]]


class Change(NamedTuple):
    """Fields of ``spec.autoscaling`` that a proposal changes, and the current value of every field."""

    fields: Mapping[str, Any]
    current: Mapping[str, Any]

    @property
    def lowers(self) -> bool:
        """True if fewer replicas always run."""
        lowest, now = self.fields.get(MINIMUM), self.current.get(MINIMUM)
        return lowest is not None and now is not None and lowest < now


class Evidence(NamedTuple):
    """Simulations of the current setting and of the changed one on the same parts of the traffic."""

    current: Use
    changed: Use
    empty: Sequence[str] = ()
    """Parts of the traffic without requests, which show nothing."""


@body("passes spare used evidence misses")
class Verdict:
    """The judgment of a change. ``misses`` says what it fails, and is empty if it passes."""

    spare: float
    """Share of the allowance that had to stay unused."""
    used: float | None
    """Largest used share of the allowance; None if there is no bound to it."""
    evidence: str
    misses: tuple[str, ...]

    @property
    def passes(self) -> bool:
        return not self.misses


def parse_spare(text: str) -> float:
    """Return the fraction of a percentage from 0 to 100. Raises ValueError."""
    return 0.0 if text in {"0", "0%"} else parse_percent(text)


def judge(change: Change, evidence: Evidence, spare: float = SPARE) -> Verdict:
    """Return the verdict on a change: it leaves ``spare`` of the allowance unused on each part with each seed.

    The minimum of a service that violates its SLO is not lowered, whatever the simulation of the lower one says.
    """
    limit = 1 - spare
    worst = {part: max(used, default=math.inf) for part, used in evidence.changed.items()}
    misses = [
        f"it uses {format_use(used)} of the SLO's allowance on {part}: at most {format_percent(limit)} may be used"
        for part, used in worst.items()
        if used > limit + ROUNDING
    ]
    seeds = min((len(used) for used in evidence.changed.values()), default=0)
    if seeds < len(SEEDS) and not misses:
        misses.append(f"it was simulated with {count_noun(seeds, 'seed')}: {len(SEEDS)} are needed")
    misses += [f"{part} has no requests" for part in evidence.empty]
    outside = [part for part, used in evidence.current.items() if max(used, default=0.0) > 1 + ROUNDING]
    if outside and change.lowers:
        misses.append(f"the current setting violates the SLO on {' and '.join(outside)}: its minimum is not lowered")
    used = max(worst.values(), default=math.inf)
    parts = ", ".join(f"at most {format_use(share)} on {part}" for part, share in worst.items())
    text = f"With {count_noun(seeds, 'seed')}, it uses of the SLO's allowance {parts}"
    return Verdict(spare, round(used, 6) if math.isfinite(used) else None, text, tuple(misses))


def format_use(used: float) -> str:
    """Return a used share of the allowance as text."""
    return format_percent(used) if used <= MAX_SHOWN else f"more than {format_percent(MAX_SHOWN)}"
