"""How the pages say numbers, ages and states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from ebbtide.base import metrics
from ebbtide.base.quantities import NANO, nano
from ebbtide.profile import metric_names

if TYPE_CHECKING:
    from ebbtide.profile.models import MetricNames

THOUSAND: Final = 1000

#: What stands where nothing is known.
NONE: Final = "\u2013"

Tone = Literal["good", "wait", "bad", "calm"]
#: What a phase's dot looks like; the word stands beside it always.
TONES: Final[dict[Tone, tuple[str, ...]]] = {
    "good": ("Running", "Completed"),
    "wait": ("Creating", "Initializing", "Resuming", "Pending", "Updating"),
    "bad": ("Degraded", "Failed"),
}


def tone(phase: str) -> Tone:
    """Return how a phase is shown; what neither runs nor fails is calm."""
    return next((tone for tone, phases in TONES.items() if phase in phases), "calm")


def percent(share: float) -> str:
    """Return a part of a whole with three figures: 0.214 becomes 21.4 %, and all of it 100 %."""
    return f"{100 * share:.3g}%"


def duration(seconds: float | None) -> str:
    """Return a response time with the unit that reads best: 12 ms, 1.25 s."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * THOUSAND:.3g} ms"
    return f"{seconds:.3g} s"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits and thousands apart; a dash where there is none."""
    if value is None:
        return NONE
    if abs(value) >= THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def moment(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, which the browser turns into its own."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def host(url: str) -> str:
    """Return a URL without its scheme, which says the same in less room."""
    return url.partition("://")[2] or url


def is_web(url: str) -> bool:
    """Whether a browser may follow a URL that a cluster names, and is likely to reach it: no script, no cluster-local name."""
    return url.startswith(("http://", "https://")) and ".svc." not in f"{url}/"


def size(value: float) -> str:
    """Return a number of bytes as GiB, MiB or KiB."""
    for unit, amount in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= amount:
            return f"{value / amount:.3g} {unit}"
    return f"{value:.0f} B"


def amount(text: str) -> str:
    """Return an amount as Kubernetes writes it for a person: 728645m is 729."""
    found = nano(text)
    return text if found is None else number(found / NANO)


def metric(name: str, names: MetricNames) -> str:
    """Return what a metric is called in a spec; an HPA knows it by its name in Prometheus."""
    rows = (row for row in metrics.ROWS.values() if name in metric_names.served(row, names)[:1])
    return next((row.label for row in rows if row.label), name)
