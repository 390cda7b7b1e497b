"""Law: of incidents made in a simulated cluster, ``why --at`` names the cause, and the nearest setting keeps the SLO when it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

pytest.importorskip("numpy")

from test_world import CHAT, profiled, world

from ebbtide.cluster.client.protocol import POD, REVISION
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.incident import Incident, explain_incident
from ebbtide.cluster.slo.cost_report import ReportInputs
from ebbtide.cluster.slo.promises import read_slo
from ebbtide.cluster.slo.report import compute_report
from ebbtide.core.base import keys
from ebbtide.sandbox.replicas import SimulatedBehavior
from ebbtide.simulator.data import StartUp
from ebbtide.simulator.fleet.remedy import find_remedies
from live_cluster import spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebbtide.cluster.slo.source import History, MetricsSource
    from ebbtide.sandbox.world import World

MINUTE = 60.0
#: The quiet time before each incident, and the end of the simulation, in minutes.
QUIET, END = 60, 80
SERVER = "lognormal:median=500ms,sigma=0.3,max=4"
FAST, SLOW = StartUp(1, 2, 3, 0), StartUp(1, 20, 150, 0)
BUSY = f"steps:1rps,{QUIET}m,14rps,12m,1rps,8m"


class BlindSource:
    """A source without the autoscaler's metrics during the incident."""

    def __init__(self, source: MetricsSource, start: float, end: float) -> None:
        self.source, self.start, self.end = source, start, end

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def history(self, *arguments: Any) -> History:
        def hide(series: Any) -> Any:
            return {
                name: tuple(
                    point._replace(value=None)
                    if name in {"stable", "panic"} and self.start <= point.time <= self.end
                    else point
                    for point in points
                )
                for name, points in series.items()
            }

        history = self.source.history(*arguments)
        revisions = {name: hide(series) for name, series in history.revisions.items()}
        return replace(history, series=hide(history.series), revisions=revisions)


def limit_quota(sandbox: World) -> None:
    metadata = {"name": "small", "namespace": "team-shop"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"requests.cpu": "5"}}}
    sandbox.cluster.apply(quota)


def stop_scaling(sandbox: World) -> None:
    """Keep the replicas, as an autoscaler without metrics does."""
    patch = {"metadata": {"annotations": {keys.MAX_SCALE: "1"}}}
    sandbox.cluster.patch(REVISION, "chat-00001", "team-shop", patch)


def delete_pods(sandbox: World) -> None:
    for pod in sandbox.cluster.list(POD).items:
        sandbox.cluster.delete(POD, pod["metadata"]["name"], "team-shop")


class Made(NamedTuple):
    """An incident: its traffic and setting, what breaks at its start, and the expected cause and fields."""

    cause: str
    traffic: str
    fields: dict[str, Any]
    start_up: StartUp = FAST
    minutes: int = QUIET + 5
    act: Callable[[World], None] | None = None
    cpu: str = "64"
    is_blind: bool = False
    #: False if no setting is to blame.
    has_remedy: bool = True


SCALING = {"minReplicas": 1, "maxReplicas": 8, "metric": "concurrency", "metricThreshold": 3}
INCIDENTS = {
    "slow start": Made("start", f"steps:1rps,{QUIET}m,14rps,15m,1rps,5m", {}, SLOW),
    "maximum too small": Made("maximum", f"steps:1rps,{QUIET}m,18rps,12m,1rps,8m", {"maxReplicas": 2}),
    "fixed replicas": Made("maximum", f"steps:1rps,{QUIET}m,10rps,12m,1rps,8m", {"maxReplicas": 1}),
    "target too high": Made("target", f"steps:1rps,{QUIET}m,10rps,20m", {"metricThreshold": 40}, minutes=QUIET + 10),
    "scaled to zero": Made(
        "zero", f"steps:0.5rps,20m,0rps,{QUIET - 20}m,2rps,3m,0rps,17m", {"minReplicas": 0}, StartUp(1, 5, 60, 0)
    ),
    "burst": Made("burst", f"steps:1rps,{QUIET}m,40rps,1m,1rps,19m", {}, minutes=QUIET + 1),
    "quota": Made("pending", BUSY, {}, act=limit_quota, has_remedy=False),
    "full node": Made("pending", BUSY, {}, cpu="5", has_remedy=False),
    "no metrics": Made("metric", BUSY, {}, act=stop_scaling, is_blind=True, has_remedy=False),
    "lost pods": Made(
        "lost",
        f"steps:10rps,{END}m",
        {"minReplicas": 2, "metricThreshold": 10},
        StartUp(1, 5, 300, 0),
        act=delete_pods,
        has_remedy=False,
    ),
}


def run(made: Made, fields: dict[str, Any], start_up: StartUp | None = None, *, broken: bool = True) -> World:
    """Return the world at the end of an incident; without what breaks it if not ``broken``."""
    behavior = SimulatedBehavior(made.traffic, SERVER, start_up or made.start_up)
    sandbox = world(behavior, cpu=made.cpu if broken else "64")
    scaling = {name: value for name, value in {**SCALING, **made.fields, **fields}.items() if value is not None}
    compute = {"cpuCoreRequest": 2, "cpuMemoryRequest": "1Gi"}
    sandbox.apply(spec(autoscaling=scaling, slo={"p95LatencyMilliseconds": 2000}, compute=compute), settled=True)
    sandbox.run_until(sandbox.origin + QUIET * MINUTE)
    if made.act is not None and broken:
        made.act(sandbox)
    sandbox.run_until(sandbox.origin + END * MINUTE)
    return sandbox


def explain(made: Made, sandbox: World) -> Incident:
    live = inventory.find_workload(sandbox.cluster, CHAT.name, CHAT.namespace, sandbox.clock.now())
    start, now = sandbox.origin + QUIET * MINUTE, sandbox.clock.now()
    source: Any = BlindSource(sandbox.source, start - MINUTE, now) if made.is_blind else sandbox.source
    inputs = ReportInputs(source, profiled(), 0.0, now, None)
    return explain_incident(
        live,
        inputs,
        f"{END - made.minutes}m",
        lambda record, hour: find_remedies(record.request, record.loaded, profiled(), hour),
    )


def meets_slo(sandbox: World, start: float) -> bool:
    """Return whether the hour met the SLO, as Prometheus measures it."""
    live = inventory.find_workload(sandbox.cluster, CHAT.name, CHAT.namespace, sandbox.clock.now())
    measured = sandbox.source.measure([CHAT], start, start + 3600)
    promised = {CHAT: read_slo(live.top, profiled())}
    return all(verdict.outcome == "kept" for verdict in compute_report(measured, promised).rows[0].verdicts)


@pytest.mark.parametrize("name", INCIDENTS)
def test_the_cause_is_named_and_the_nearest_setting_keeps_the_slo(name: str) -> None:
    made = INCIDENTS[name]
    sandbox = run(made, {})
    incident = explain(made, sandbox)
    assert incident.cause == made.cause, incident.lines()
    assert not meets_slo(sandbox, incident.start)
    assert incident.replay is not None, incident.unknown
    if not made.has_remedy:
        assert incident.replay.used <= 1
        assert not incident.replay.changes
        assert meets_slo(run(made, {}, broken=False), incident.start)
        return
    assert incident.replay.used > 1
    distances = [change.distance for change in incident.replay.changes]
    assert distances == sorted(distances)
    assert distances[0] > 1
    for change in incident.replay.changes:
        assert change.verdict.passes
        assert change.cost_per_30_days is None
        share = 1.0 if change.start_up_seconds is None else change.start_up_seconds / made.start_up.seconds
        start_up = StartUp(*(getattr(made.start_up, phase) * share for phase in ("schedule", "pull", "load", "ready")))
        assert meets_slo(run(made, change.fields, start_up), incident.start), change.text
