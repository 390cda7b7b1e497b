"""The metric table: what each metric of a spec means, and what carries it out.

The docs' table and the tests are made from ``TABLE``. Upstream: knative.dev/serving
pkg/reconciler/autoscaling/hpa/resources/hpa.go (HPA class), pkg/autoscaler/scaling (KPA),
pkg/queue/request_metric.go (histograms).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ebbtide.base.versions import version

Autoscaler = Literal["kpa", "hpa"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: the spec's name, who scales on it, its unit, and whether it may rest at zero."""

    name: str
    autoscaler: Autoscaler
    to_zero: bool
    unit: str
    #: The name Knative's annotation has; for the HPA rows that are None the profile names it.
    knative: str | None
    how: str


TABLE: Final = (
    Metric("concurrency", "kpa", True, "requests in flight per replica", "concurrency", "queue-proxy's count"),
    Metric("throughput", "kpa", True, "requests per second per replica", "rps", "queue-proxy's count"),
    Metric("cpu-utilization", "hpa", False, "% of the CPU request", "cpu", "metrics-server"),
    Metric("gpu-utilization", "hpa", False, "% of the GPU", None, "DCGM through prometheus-adapter"),
    Metric("latency", "hpa", False, "ms, 95th percentile per replica", None, "queue-proxy's histogram"),
    Metric("custom", "hpa", False, "whatever the metric counts, per replica", None, "the adapter"),
)
ROWS: Final = {row.name: row for row in TABLE}
#: Names that Knative or KServe take to mean something else than people expect here.
MISLEADING: Final = {
    "cpu": "cpu-utilization",
    "memory": "",
    "rps": "throughput",
    "qps": "throughput",
    "requests-per-second": "throughput",
    "gpu": "gpu-utilization",
}
#: What people write where they want no metric: as a metric it would be a custom one of that name.
ABSENT: Final = frozenset({"none", "null", "off", "disabled", "false"})
NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def find(name: str) -> Metric | None:
    """Return the row of a built-in metric, with hyphens or underscores; None for any other name."""
    return ROWS.get(name.replace("_", "-"))


def near(name: str) -> str | None:
    """Return the built-in metric that ``name`` is probably a slip of, or None.

    A name that has a built-in one as words of its own (``latency_ms``, ``gpu_utilization_avg``) is no slip.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

    asked = name.replace("_", "-").lower()
    close = next(iter(get_close_matches(asked, [*ROWS], 1, 0.8)), None)
    return None if close is None or (close != asked and f"-{close}-" in f"-{asked}-") else close


@dataclass(frozen=True, slots=True)
class Histogram:
    """queue-proxy's response time by Knative version: series, unit, whether its own queue is in it, buckets."""

    series: str
    milliseconds: int
    queue_included: bool
    bounds: tuple[float, ...]


_OTEL: Final = (
    5.0,
    10.0,
    25.0,
    50.0,
    75.0,
    100.0,
    250.0,
    500.0,
    750.0,
    1000.0,
    2500.0,
    5000.0,
    7500.0,
    10000.0,
)
# fmt: off
_OPENCENSUS: Final = (
    5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0, 600.0,
    700.0, 800.0, 900.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100000.0,
)
# fmt: on
#: From this Knative version on. In 1.19 and 1.20 only the time behind the queue is measured.
HISTOGRAMS: Final = (
    ((1, 21), Histogram("http_server_request_duration_seconds", 1000, True, _OTEL)),
    ((1, 19), Histogram("kn_queueproxy_app_duration_seconds", 1000, False, _OTEL)),
    ((0, 0), Histogram("revision_request_latencies", 1, True, _OPENCENSUS)),
)
OPENTELEMETRY: Final = (1, 19)


def histogram(knative_version: str) -> Histogram:
    """Return queue-proxy's response time histogram of a Knative version."""
    asked = version(knative_version)
    return next(row for since, row in HISTOGRAMS if asked >= since)


#: PromQL by metric for KEDA, where a profile does not say its own. Averages over the workload's pods.
QUERIES: Final = {
    "gpu-utilization": ('avg(DCGM_FI_DEV_GPU_UTIL{namespace="{namespace}",pod=~"{deployment}-.*"})'),
    "custom": 'avg({metric}{namespace="{namespace}",pod=~"{deployment}-.*"})',
}
#: On MIG DEV_GPU_UTIL says nothing per instance; GR_ENGINE_ACTIVE is a ratio.
MIG_QUERY: Final = 'avg(100 * DCGM_FI_PROF_GR_ENGINE_ACTIVE{namespace="{namespace}",pod=~"{deployment}-.*"})'
