"""`ebbtide report` on a running service with three days of traffic that Prometheus has recorded.

The cluster's Prometheus is as old as the cluster, so a second one on loopback has the recorded days, in blocks that promtool
writes. Their series have the labels that the cluster's Prometheus has scraped from the same service.
"""

import json
import math
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import pytest
import yaml

from e2e.build import build
from e2e.components import COMPONENTS
from e2e.stage import Stage

Labels: TypeAlias = Mapping[str, str]

NAME: Final = "search"
DAYS: Final = 3
HOURS: Final = DAYS * 24
STEP: Final = 30
"""Seconds between two samples."""
RESPONSE_SECONDS: Final = 0.2
BOUNDS: Final = ("100", "250", "500", "1000", "+Inf")
"""Of Envoy's histogram, in milliseconds."""
PRICE: Final = 0.5
"""Of a core-hour."""
CORES: Final = 0.01
REPLICAS: Final = 2
HISTOGRAM: Final = "envoy_cluster_upstream_rq_time"
CLASSES: Final = "envoy_cluster_upstream_rq_xx"
PODS: Final = {
    "kn_revision_pods_requested": REPLICAS,
    "kn_revision_pods_count": REPLICAS,
    "kn_revision_pods_not_ready_count": 0,
}
"""Of the autoscaler, at all times."""
OWN: Final = {"__name__", "le", "envoy_response_code_class"}
"""Labels of one series, not of the service."""
SLOW: Final = 300


def test_report(stage: Stage, tmp_path: Path) -> None:
    stage.deploy()
    stage.ready(NAME)
    assert stage.ask(stage.host(NAME)).status_code == httpx.codes.OK
    end = time.time() // 60 * 60
    recorded = write_blocks(tmp_path, end, *find_labels(stage))
    written = tmp_path / "changed"

    with prometheus(stage, tmp_path) as url:
        row = report(stage, url, written)
    replay, change = row["replay"], row["replay"]["change"]
    hours = HOURS * REPLICAS
    assert replay["requests"] == pytest.approx(recorded, rel=0.01)
    assert row["measuredReplicaHours"] == pytest.approx(hours, rel=0.02)
    assert replay["replicaHours"] == pytest.approx(hours, rel=0.02)
    assert row["cost"] == pytest.approx(hours * CORES * PRICE, rel=0.02)
    assert replay["current"]["meetsSlo"]
    # One replica serves the busiest hour.
    assert change["fields"]["minReplicas"] < REPLICAS
    assert change["hoursSaved"]["value"] == pytest.approx(hours * CORES / 2, rel=0.1)
    assert row["saved"] == pytest.approx(change["hoursSaved"]["value"] * PRICE, abs=0.01)

    # The written files give the same number without a cluster.
    spec, log = (written / f"{stage.namespace}.{NAME}.{ending}" for ending in ("yaml", "csv"))
    assert yaml.safe_load(spec.read_text())["spec"]["autoscaling"]["minReplicas"] == change["fields"]["minReplicas"]
    inputs = ["--traffic", str(log), "--server", replay["server"], "--start-up", replay["startUp"]]
    done = stage.ebbtide(["simulate", str(spec), *stage.profile(), *inputs, "-o", "json"])
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["runs"][0]
    assert run["replicaHours"] * CORES == pytest.approx(change["use"]["hours"]["value"], rel=1e-4)
    stage.report(requests=replay["requests"], cost=row["cost"], saved=row["saved"], change=change["text"])


def find_labels(stage: Stage) -> tuple[Labels, Labels]:
    """Return the labels of the service's series of the gateway, and of the autoscaler."""
    gateway = f'{HISTOGRAM}_count{{envoy_cluster_name=~"{stage.namespace}/{NAME}-.*"}}'
    autoscaler = f'{next(iter(PODS))}{{k8s_namespace_name="{stage.namespace}",kn_service_name="{NAME}"}}'

    def labels(query: str) -> Labels:
        stage.until(f"Prometheus has {query}", lambda: stage.query(query), SLOW)
        metric = stage.query(query)[0]["metric"]
        return {name: value for name, value in metric.items() if name not in OWN}

    return labels(gateway), labels(autoscaler)


def write_blocks(folder: Path, end: float, gateway: Labels, autoscaler: Labels) -> int:
    """Write the blocks of the recorded days into a folder, and return the number of requests in them."""
    times = [end - HOURS * 3600 + STEP * index for index in range(HOURS * 3600 // STEP + 1)]
    counts = [math.floor(count) for count in accumulate((STEP * rate(moment) for moment in times), initial=0.0)][:-1]
    milliseconds = RESPONSE_SECONDS * 1000
    series: list[tuple[str, Labels, Sequence[float]]] = [
        (f"{HISTOGRAM}_bucket", {**gateway, "le": bound}, [count * (float(bound) >= milliseconds) for count in counts])
        for bound in BOUNDS
    ]
    series += [
        (f"{HISTOGRAM}_sum", gateway, [count * milliseconds for count in counts]),
        (f"{HISTOGRAM}_count", gateway, counts),
        (CLASSES, {**gateway, "envoy_response_code_class": "2"}, counts),
        *((name, autoscaler, [value] * len(times)) for name, value in PODS.items()),
    ]
    text = folder / "recorded.txt"
    with text.open("w") as file:
        for name, labels, values in series:
            written = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
            file.writelines(
                f"{name}{{{written}}} {value} {moment}\n" for moment, value in zip(times, values, strict=True)
            )
        file.write("# EOF\n")
    promtool = build(COMPONENTS["promtool"]) / "promtool"
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", text, folder / "data"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return counts[-1]


def rate(moment: float) -> float:
    """Return the requests per second at a time: two at noon, one in five seconds at night."""
    return 0.2 + 1.8 * max(0.0, math.sin(math.pi * (moment / 43_200 - 0.5)))


@contextmanager
def prometheus(stage: Stage, folder: Path) -> Iterator[str]:
    """Run a Prometheus that has the blocks of a folder and scrapes nothing, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "prometheus.yaml").write_text("{}")
    options = {
        "config.file": folder / "prometheus.yaml",
        "storage.tsdb.path": folder / "data",
        "storage.tsdb.retention.time": "30d",
        "web.listen-address": address,
    }
    command = [
        str(build(COMPONENTS["prometheus"]) / "prometheus"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log, stdout=log) as server:
        try:
            stage.until("Prometheus has read the blocks", lambda: is_ready(address))
            yield f"http://{address}"
        finally:
            server.terminate()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready").is_success
    except httpx.TransportError:
        return False


def report(stage: Stage, url: str, written: Path) -> dict[str, Any]:
    """Return the service's row of the report, and let it write the changed spec."""
    place = ["-n", stage.namespace, "--kubeconfig", str(stage.kubectl.kubeconfig), "--prometheus", url]
    profile = stage.profile({"prices": {"currency": "EUR", "cpuHour": PRICE}})
    done = stage.ebbtide(["report", *place, *profile, "--days", str(DAYS), "--evidence", str(written), "-o", "json"])
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["replay"] is not None, row["reason"]
    return dict(row)
