"""Generate the Grafana dashboard from the queries of the report and the charts, so that each query is defined once.

``--check`` writes nothing and fails if the file is not up to date. Upstream:
grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.slo import queries
from ebbtide.cluster.slo.source import SERIES
from ebbtide.core.base import exporters

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = Path(__file__).parent.parent.parent / "kustomize" / "metrics" / "dashboard" / "ebbtide.json"
#: The gateway is Kourier's or Contour's; the pods are those of the newest Knative version.
GATEWAY: Final = replace(queries.GATEWAYS[queries.KOURIER], only='job="$gateway_job"')
PODS: Final = queries.queue_proxy_histogram("1.21")
EXPORTERS: Final = tuple(
    replace(row, only=f'job="${row.name}_job"') for row in (queries.AUTOSCALER, queries.DEPLOYMENTS)
)
GPU: Final = exporters.ScrapeJob("$gpu_job")
#: Grafana variables; there is one more for the scrape job of each exporter. KServe names a predictor's service after the workload.
NAMESPACE: Final = "$namespace"
SERVICE: Final = "$workload(-predictor)?"
OVER: Final = "$__rate_interval"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
#: Grafana's names for the units in ``SERIES``.
UNITS: Final = {
    "replicas": "short",
    "requests/s": "reqps",
    "requests": "short",
    "s": "s",
    "": "short",
    "percent": "percent",
}
WIDTH: Final = 24
HEIGHT: Final = 8


class Panel(NamedTuple):
    """One chart: its title, description, queries by legend, unit and width."""

    title: str
    text: str
    lines: dict[str, str]
    unit: str
    width: int = 8


def timed(timer: queries.LatencyHistogram, place: str, description: str) -> list[Panel]:
    """Return the charts of one histogram."""
    by_name = queries.request_chart_queries(timer, queries.owner_matchers(NAMESPACE, SERVICE, timer.owner), OVER)
    latency = {name: by_name[name] for name in ("mean", "p50", "p95", "p99")}
    return [
        Panel(
            f"Response time {place}",
            f"{description} Quantiles are interpolated between two bounds of the histogram.",
            latency,
            "s",
        ),
        Panel(f"Requests {place}", description, {name: by_name[name] for name in ("rate", "failures")}, "requests/s"),
        Panel(
            f"Requests in flight {place}",
            "Calculated with Little's law.",
            {"concurrency": by_name["concurrency"]},
            SERIES["concurrency"],
        ),
    ]


def panels() -> list[tuple[str, list[Panel]]]:
    """Return the dashboard's rows, each with its charts."""
    matchers = [queries.owner_matchers(NAMESPACE, SERVICE, exporter.owner) for exporter in EXPORTERS]
    bad = {
        f"bad requests or minutes, {over}": f'max by (promise) (ebbtide:bad:ratio{over}{{namespace="{NAMESPACE}",workload="$workload"}})'
        for over in ("5m", "1h", "6h", "3d")
    }
    cold = "Includes activator wait and cold start."
    warm = "Without activator wait and cold start. The largest bound of the histogram is 10 s."
    return [
        (
            "SLO",
            [
                Panel(
                    "Share of bad requests or minutes",
                    "Recorded by the rules of ebbtide slo --rules. A p95 allows 5%, an uptime of 99.9% allows 0.1%.",
                    bad,
                    "ratio",
                    WIDTH,
                )
            ],
        ),
        ("At the gateway", timed(GATEWAY, "at the gateway", cold)),
        ("In the pods", timed(PODS, "in the pods", warm)),
        (
            "Replicas",
            [
                Panel("Replicas", "", queries.replica_queries(EXPORTERS, matchers), "replicas"),
                Panel(
                    "Autoscaler input per replica",
                    "Concurrency or requests per second, depending on the scaling metric.",
                    queries.autoscaler_queries(EXPORTERS[0], matchers[0]),
                    "",
                ),
                Panel("GPU utilization", "", {"gpu": queries.gpu_query(NAMESPACE, SERVICE, GPU)}, "percent"),
            ],
        ),
    ]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return {
        "title": "Ebbtide: SLOs and replicas",
        "uid": "ebbtide-slo",
        "tags": ["ebbtide", "knative", "kserve"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": list(_variables())},
        "panels": list(_placed()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    known = queries.AUTOSCALER
    namespace, service = known.owner
    for name, query, regex in (
        ("namespace", f"label_values({known.ready}, {namespace})", ""),
        ("workload", f'label_values({known.ready}{{{namespace}="$namespace"}}, {service})', "/^(.+?)(?:-predictor)?$/"),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "regex": regex,
            "refresh": 2,
            "sort": 1,
        }
    for row in exporters.EXPORTERS.values():
        yield {
            "name": f"{row.name}_job",
            "label": f"Scrape job of {row.title}",
            "type": "textbox",
            "query": row.job,
            "current": {"text": row.job, "value": row.job},
        }


def _placed() -> Iterator[dict[str, Any]]:
    number, down = 0, 0
    for title, charts in panels():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": _at(0, down, WIDTH, 1),
            "panels": [],
        }
        down += 1
        across = 0
        for chart in charts:
            number += 1
            yield {**_chart(chart), "id": number, "gridPos": _at(across, down, chart.width, HEIGHT)}
            across += chart.width
        down += HEIGHT


def _at(across: int, down: int, width: int, height: int) -> dict[str, int]:
    return {"x": across, "y": down, "w": width, "h": height}


def _chart(chart: Panel) -> dict[str, Any]:
    unit = "percentunit" if chart.unit == "ratio" else UNITS[chart.unit]
    return {
        "type": "timeseries",
        "title": chart.title,
        "description": chart.text,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": f"{{{{promise}}}}: {name}" if chart.unit == "ratio" else name,
            }
            for index, (name, query) in enumerate(chart.lines.items())
        ],
    }


def main(argv: list[str]) -> int:
    """Write the file, or check that it is up to date."""
    options = argparse.ArgumentParser(description="write the Grafana dashboard")
    options.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    check = options.parse_args(argv).check
    text = json.dumps(dashboard(), indent=2) + "\n"
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    if check:
        sys.stdout.write(f"{TARGET.name} is out of date: run make generate\n")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{TARGET.name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
