"""The answers of the controller's process to probes and to Prometheus, on the simulated cluster."""

from __future__ import annotations

import re
from http import HTTPStatus

from test_controller_process import Bench, lead

from ebbtide.cluster.controller.process import PAUSE_SECONDS, STALLED_SECONDS


def read_metrics(bench: Bench) -> dict[str, float]:
    status, text = bench.process.answer("/metrics")
    assert status == HTTPStatus.OK
    rows = dict(re.findall(r"^ebbtide_controller_(\w+) (\S+)$", text, re.MULTILINE))
    # Each value has its help and its type.
    assert {*re.findall(r"^# HELP ebbtide_controller_(\w+) .*\.$", text, re.MULTILINE)} == rows.keys()
    assert {*re.findall(r"^# TYPE ebbtide_controller_(\w+) (?:gauge|counter)$", text, re.MULTILINE)} == rows.keys()
    return {name: float(value) for name, value in rows.items()}


def test_metrics_count_what_a_leader_decides() -> None:
    bench = Bench("chat", "b")
    before = read_metrics(bench)
    assert (before["leader"], before["workloads"], before["last_step_age_seconds"]) == (0, 0, 0)

    lead(bench).step()
    after = read_metrics(bench)
    assert (after["leader"], after["workloads"], after["errors_total"], after["conflicts_total"]) == (1, 2, 0, 0)
    assert after["decisions_total"] == 2
    assert after["patches_total"] >= 1
    assert after["resources"] == after["applies_total"] == 0
    bench.clock.sleep(7)
    assert read_metrics(bench)["last_step_age_seconds"] >= 7


def test_probes_tell_a_process_that_reads_from_one_that_stalls() -> None:
    bench = Bench("chat")
    assert bench.process.answer("/readyz") == (HTTPStatus.SERVICE_UNAVAILABLE, "reading the cluster\n")
    lead(bench).step()
    assert bench.process.answer("/readyz") == bench.process.answer("/healthz") == (HTTPStatus.OK, "ok\n")
    assert bench.process.answer("/")[0] == HTTPStatus.NOT_FOUND

    bench.clock.sleep(STALLED_SECONDS + PAUSE_SECONDS)
    assert bench.process.answer("/healthz") == (HTTPStatus.SERVICE_UNAVAILABLE, "stalled\n")
    assert bench.process.answer("/readyz")[0] == HTTPStatus.SERVICE_UNAVAILABLE
