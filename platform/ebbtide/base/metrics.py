"""The metric table: everything that a consumer asks about a metric of a spec.

Upstream: knative.dev/serving pkg/reconciler/autoscaling/hpa/resources/hpa.go (HPA class), pkg/autoscaler/scaling (KPA),
config/core/configmaps/autoscaler.yaml (targets), pkg/queue/request_metric.go (histograms).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from ebbtide.base.versions import version

Autoscaler = Literal["kpa", "hpa"]
#: The component that measures a metric: queue-proxy by counting requests or by its histogram of response times,
#: metrics-server, a GPU exporter, or any exporter that the adapter's rules name.
Source = Literal["queue-proxy", "histogram", "metrics-server", "gpu-exporter", "adapter"]
#: The signals that the simulator can compute in place of a metric.
Signal = Literal["concurrency", "rps", "cpu", "gpu-utilization", "latency"]


class Metric(NamedTuple):
    """One metric: its name in a spec, the autoscaler that reads it, its unit, and whether it allows scaling to zero.

    The autoscaler reads it under the name in ``knative``, or under one that the profile sets: ``named`` lists the fields of
    ``metrics.names`` with that name, first the usual one, then the one for a GPU that several pods share. ``standard`` is
    the field of the profile's ``metrics`` with the name in KServe Standard, where queue-proxy is missing.
    """

    name: str
    autoscaler: Autoscaler
    to_zero: bool
    unit: str
    source: Source
    #: The source as the reference describes it.
    how: str
    knative: str | None = None
    named: tuple[str, ...] = ()
    standard: str | None = None
    #: The default PromQL for KEDA, an average over the workload's pods; None: the query of ``custom``.
    query: str | None = None
    #: The default PromQL on a partitioned GPU; None: ``query``.
    partition_query: str | None = None
    #: The key of config-autoscaler with the target of an object without one, and upstream's default.
    default_target: tuple[str, str] = ("", "")
    #: The signal that a simulation uses for it; None: a simulation is refused.
    simulated: Signal | None = None
    #: The largest threshold that can be reached, and the message about a larger one.
    most: float = 2**31 - 1
    beyond: str = "a threshold of {} is out of reach"
    #: True if Knative bounds the threshold by the container's hard limit of requests.
    limited: bool = False
    #: Its label on the page, and the label of one unit.
    label: str = ""
    each: str = ""
    #: Other names for it, which mean something else to Knative or KServe.
    aliases: tuple[str, ...] = ()


#: The metrics by name, in the order in which they are offered. To add one: one row, one golden case.
ROWS: Final[dict[str, Metric]] = {
    row.name: row
    for row in (
        Metric(
            name="concurrency",
            autoscaler="kpa",
            to_zero=True,
            unit="requests in flight per replica",
            source="queue-proxy",
            how="queue-proxy's count",
            knative="concurrency",
            standard="standard_concurrency",
            default_target=("container-concurrency-target-default", "100"),
            simulated="concurrency",
            limited=True,
            each="in flight",
        ),
        Metric(
            name="throughput",
            autoscaler="kpa",
            to_zero=True,
            unit="requests per second per replica",
            source="queue-proxy",
            how="queue-proxy's count",
            knative="rps",
            standard="standard_throughput",
            default_target=("requests-per-second-target-default", "200"),
            simulated="rps",
            label="requests/s",
            each="requests/s",
            aliases=("rps", "qps", "requests-per-second"),
        ),
        Metric(
            name="cpu-utilization",
            autoscaler="hpa",
            to_zero=False,
            unit="% of the CPU request",
            source="metrics-server",
            how="metrics-server",
            knative="cpu",
            default_target=("", "80"),
            simulated="cpu",
            most=1000,
            beyond="{} % is out of reach",
            aliases=("cpu",),
        ),
        Metric(
            name="gpu-utilization",
            autoscaler="hpa",
            to_zero=False,
            unit="% of the GPU",
            source="gpu-exporter",
            how="DCGM through prometheus-adapter",
            named=("gpu_utilization", "gpu_utilization_per_container"),
            query='avg(DCGM_FI_DEV_GPU_UTIL{namespace="{namespace}",pod=~"{deployment}-.*"})',
            # On MIG DEV_GPU_UTIL says nothing per instance; GR_ENGINE_ACTIVE is a ratio.
            partition_query='avg(100 * DCGM_FI_PROF_GR_ENGINE_ACTIVE{namespace="{namespace}",pod=~"{deployment}-.*"})',
            simulated="gpu-utilization",
            most=100,
            beyond="a threshold of {} % is never reached",
            label="GPU utilisation (%)",
            aliases=("gpu",),
        ),
        Metric(
            name="latency",
            autoscaler="hpa",
            to_zero=False,
            unit="ms, 95th percentile per replica",
            source="histogram",
            how="queue-proxy's histogram",
            named=("latency",),
            standard="standard_latency",
            simulated="latency",
            label="latency (p95, ms)",
        ),
        Metric(
            name="custom",
            autoscaler="hpa",
            to_zero=False,
            unit="whatever the metric counts, per replica",
            source="adapter",
            how="the adapter",
            query='avg({metric}{namespace="{namespace}",pod=~"{deployment}-.*"})',
        ),
    )
}
#: The row of every metric without a dedicated one.
CUSTOM: Final = ROWS["custom"]
#: The metrics that Knative's and KServe's autoscalers read under these names.
OF_KNATIVE: Final = ("cpu", "memory", "rps")
#: What people write where they want no metric: as a metric it would be a custom one of that name.
ABSENT: Final = frozenset({"none", "null", "off", "disabled", "false"})
NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def find(name: str) -> Metric | None:
    """Return the row of a built-in metric, with hyphens or underscores; None for any other name."""
    return ROWS.get(name.replace("_", "-"))


def resource(name: str) -> Metric | None:
    """Return the row of a metric that an HPA reads as a resource of the pods, by its name there."""
    return next((row for row in ROWS.values() if row.source == "metrics-server" and row.knative == name), None)


def misleading() -> dict[str, str]:
    """Return the names that mean something else to Knative or KServe, each with the right one, empty if there is none."""
    said = {alias: row.name for row in ROWS.values() for alias in row.aliases}
    return {name: said.get(name, "") for name in OF_KNATIVE} | said


def near(name: str) -> str | None:
    """Return the built-in metric that ``name`` is probably a slip of, or None.

    A name that has a built-in one as words of its own (``latency_ms``, ``gpu_utilization_avg``) is no slip.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

    asked = name.replace("_", "-").lower()
    close = next(iter(get_close_matches(asked, [*ROWS], 1, 0.8)), None)
    return None if close is None or (close != asked and f"-{close}-" in f"-{asked}-") else close


class Histogram(NamedTuple):
    """queue-proxy's response time by Knative version: series, unit, whether its own queue is in it, buckets."""

    series: str
    milliseconds: int
    queue_included: bool
    bounds: tuple[float, ...]


# fmt: off
_OTEL: Final = (
    5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
)
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
