"""Formatting of numbers, durations, and states for the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ebbtide.core.base import metrics
from ebbtide.core.base.quantities import NANO, parse_nano
from ebbtide.core.profile import metric_names
from ebbtide.core.profile.models import MetricNames
from ebbtide.core.units import format_bytes, format_duration

THOUSAND: Final = 1000

#: Placeholder for an unknown value.
NONE: Final = "\u2013"

Tone = Literal["good", "wait", "bad", "calm"]
#: The style of the dot next to each phase. The phase name is always shown too.
TONES: Final[dict[Tone, tuple[str, ...]]] = {
    "good": ("Running", "Completed"),
    "wait": ("Creating", "Initializing", "Resuming", "Pending", "Updating"),
    "bad": ("Degraded", "Failed"),
}


def tone_of_phase(phase: str) -> Tone:
    """Return the tone of a phase; a phase that is neither running, pending nor failed is ``calm``."""
    return next((name for name, phases in TONES.items() if phase in phases), "calm")


State = Literal["met", "violated", "unknown", "none"]
SLO_TONES: Final[dict[State, Tone]] = {"met": "good", "violated": "bad", "unknown": "calm", "none": "calm"}


@dataclass(frozen=True, slots=True)
class SloState:
    """The state of one workload's SLO in the last 24 hours."""

    state: State = "none"
    #: One sentence per objective, the worst first: the objective and the measured value.
    sentences: tuple[str, ...] = ()

    @property
    def tone(self) -> Tone:
        return SLO_TONES[self.state]

    @property
    def words(self) -> str:
        """The state with the worst objective, for a tooltip or a list."""
        return self.sentences[0] if self.sentences else ""


#: The state of a workload without an SLO.
NO_SLO: Final = SloState()


def tone_with_slo(phase: str, slo: SloState, at_zero: bool = False) -> Tone:
    """Return the tone of a phase; a workload that violates its SLO is never shown as good."""
    tone: Tone = "calm" if at_zero else tone_of_phase(phase)
    return "wait" if slo.state == "violated" and tone in {"good", "calm"} else tone


def format_measured_duration(seconds: float | None) -> str:
    """Return a duration; a dash for None."""
    return NONE if seconds is None else format_duration(seconds)


def format_decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits, or with thousands separators; a dash for None."""
    if value is None:
        return NONE
    if abs(value) >= THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def strip_scheme(url: str) -> str:
    """Return a URL without its scheme, for narrow columns."""
    return url.partition("://")[2] or url


def split_host(url: str) -> tuple[str, str]:
    """Return the name and the namespace of a URL's host, and the rest of it from its domain on, for two lines."""
    name, dot, rest = strip_scheme(url).partition(".")
    namespace, dot_of_domain, domain = rest.partition(".")
    return (f"{name}{dot}{namespace}", f"{dot_of_domain}{domain}") if domain else (f"{name}{dot}{rest}", "")


def is_web(url: str) -> bool:
    """Return True if a browser can safely follow a cluster's URL: http or https, and not a cluster-local host name."""
    return url.startswith(("http://", "https://")) and ".svc." not in f"{url}/"


def format_memory(count: float) -> str:
    """Return bytes in the units of Kubernetes: 79.6 GiB."""
    return format_bytes(count, 1024)


def format_quantity(text: str) -> str:
    """Return a Kubernetes quantity as a plain number: 728645m is 729."""
    nanos = parse_nano(text)
    return text if nanos is None else format_decimal(nanos / NANO)


def label_unit(name: str, names: MetricNames) -> str:
    """Return the unit of a metric's values in a table; empty for a metric without a known unit."""
    rows = metrics.ROWS.values()
    return next(
        (row.unit_label for row in rows if name in {row.name, *metric_names.list_served_names(row, names)[:1]}), ""
    )


def label_metric(name: str, names: MetricNames) -> str:
    """Return the spec's name for a metric; an HPA uses its name in Prometheus."""
    rows = (row for row in metrics.ROWS.values() if name in metric_names.list_served_names(row, names)[:1])
    return next((row.label for row in rows if row.label), name)
