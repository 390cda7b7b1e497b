"""`python -m e2e.experiments.guard`: half an hour of a real controller with guards, compared with the simulator.

A guard needs a day before it acts. So the controller starts with records of three days, which a guard wrote that was given their
requests, as after a restart. Then two services get requests through the gateway: `night` has a guard that lowers its
minimum until a burst comes, and `dawn` one that raises it ahead of the burst of the days before. Two comparisons follow: the
controller's observations decide the same in the simulator's guard, and the engine with the requests of the client has the
same acts and sums.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import httpx
import numpy as np

from e2e.controller import start_controller
from e2e.paths import CLUSTERS, DEFAULT, HERE
from e2e.providers import choose
from e2e.stage import Stage
from ebbtide.cli import connection
from ebbtide.cli import main as run_command
from ebbtide.cli.common import read_profile
from ebbtide.cluster.controller import guards
from ebbtide.core.autoscaler.floor import read_settings
from ebbtide.core.autoscaler.guard import Guard, GuardDecision, Observation, Sums, format_state, restore_state
from ebbtide.simulator import engine, guarding
from ebbtide.simulator.data import StartUp, TrafficTrace
from ebbtide.simulator.servers import parse_server
from ebbtide.simulator.setting import from_objects

FILES: Final = CLUSTERS / "guard"
CONTROLLED: Final = {"autoscaling": {"controller": True}, "metrics": {"adapter": "none"}}
WORK_SECONDS: Final = 2.0
SLOTS: Final = 4
LIMIT: Final = 5.0
START_DELAY: Final = 20
DAYS: Final = 3
"""Days of a record that has bursts: the learned floor needs two. Without, it is one day."""
STEP: Final = 60
"""Seconds of an observation of the record."""
LEAST_SECONDS: Final = 1800
LEAD_SECONDS: Final = 800
"""Seconds from the end of the record until the burst: a guard waits 10 minutes after the gap."""
BURST_SECONDS: Final = 300


class Service(NamedTuple):
    """A service: its bounds and guard, and requests per second in the record, at quiet times and in the burst."""

    name: str
    minimum: int
    guard: Mapping[str, Any]
    recorded: float
    quiet: float
    burst: float
    #: True if the days before had the burst at the same time.
    known: bool


SERVICES: Final = (
    Service("night", 3, {"mode": "lower"}, 0.1, 0.5, 2.8, known=False),
    Service("dawn", 1, {"mode": "raise"}, 0.1, 0.5, 3.0, known=True),
)


class Answer(NamedTuple):
    """A request: when it was sent after the start, how long it took, and its status or error."""

    at: float
    seconds: float
    outcome: str


class Act(NamedTuple):
    """A change of the floor, in seconds after the start of the requests."""

    at: float
    floor: int
    reason: str


def make_spec(service: Service) -> dict[str, Any]:
    """Return the spec of a service; without a burst capacity, requests wait in queue-proxy, which counts them."""
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": service.name},
        "spec": {
            "image": "ebbtide.local/e2e/load:v1",
            "environmentVariables": [{"name": "START_DELAY", "value": f"{START_DELAY}s"}],
            "compute": {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "32Mi"},
            "slo": {"p95LatencyMilliseconds": LIMIT * 1000},
            "autoscaling": {
                "minReplicas": service.minimum,
                "maxReplicas": 5,
                "metric": "concurrency",
                "metricThreshold": SLOTS,
                "concurrencyHardLimit": SLOTS,
                "targetBurstCapacity": 0,
                "guard": {**service.guard},
            },
        },
    }


def write_record(guard: Guard, service: Service, end: float, burst: float) -> str:
    """Give a guard the requests of the days until ``end``, and return its state."""
    rng = np.random.default_rng(7)
    count = (DAYS if service.known else 1) * 86_400 // STEP
    for step in range(count + 1):
        date = end - (count - step) * STEP
        is_burst = service.known and (date - burst) % 86_400 < BURST_SECONDS
        arrivals = int(rng.poisson((service.burst if is_burst else service.recorded) * STEP))
        guard.observe(Observation(date, float(STEP), arrivals, 0, 0, WORK_SECONDS, START_DELAY + 5.0))
    return format_state(guard)


def draw_times(service: Service, seconds: float, burst: float) -> list[float]:
    """Return when requests come, with a burst that starts at a second."""
    rng, now = np.random.default_rng(len(service.name)), 0.0
    times: list[float] = []
    while True:
        is_burst = burst <= now < burst + BURST_SECONDS
        now += float(rng.exponential(1 / (service.burst if is_burst else service.quiet)))
        if now >= seconds:
            return times
        times.append(now)


async def send(
    gateway: str, hosts: Mapping[str, str], times: Mapping[str, Sequence[float]], work: float
) -> dict[str, list[Answer]]:
    """Send all requests at their times, each with `work` seconds of work, and return the answers by service."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=None)
    start = time.monotonic()

    async def ask(client: httpx.AsyncClient, host: str, due: float) -> Answer:
        await asyncio.sleep(max(start + due - time.monotonic(), 0.0))
        sent = time.monotonic()
        try:
            answer = await client.get(f"/?sleep={work * 1000:.0f}ms", headers={"Host": host})
            outcome = str(answer.status_code)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        return Answer(sent - start, time.monotonic() - sent, outcome)

    async with httpx.AsyncClient(base_url=f"http://{gateway}", timeout=120, limits=limits) as client:
        answers = await asyncio.gather(
            *(asyncio.gather(*(ask(client, hosts[name], due) for due in rows)) for name, rows in times.items())
        )
    return dict(zip(times, answers, strict=True))


def observe_controller(file: str, arguments: list[str]) -> int:
    """Run the controller, and write each observation of its guards, with the decision, to a file."""
    observe = Guard.observe

    def note(guard: Guard, seen: Observation) -> GuardDecision:
        decision = observe(guard, seen)
        with Path(file).open("a") as log:
            log.write(json.dumps([guard.fingerprint, seen, decision._asdict()]) + "\n")
        return decision

    with mock.patch.object(Guard, "observe", note):
        return run_command(arguments)


class DatedGuard(Guard):
    """A guard that is observed by seconds since a date."""

    def __init__(self, guard: Guard, start: float) -> None:
        """Continue the state of a guard."""
        self.__dict__.update(guard.__dict__)
        self.start = start
        self.rows: list[tuple[float, GuardDecision]] = []

    def observe(self, seen: Observation) -> GuardDecision:
        decision = super().observe(seen._replace(date=seen.date + self.start))
        self.rows.append((seen.date, decision))
        return decision


def list_acts(rows: Sequence[tuple[float, GuardDecision]]) -> list[Act]:
    """Return the changes of the floor."""
    acts: list[Act] = []
    for at, decision in rows:
        if decision.floor != (acts[-1].floor if acts else decision.minimum):
            acts.append(Act(at, decision.floor, decision.reason))
    return acts


def sum_since(guard: Guard, before: Guard) -> list[Sums]:
    """Return what the replays added after a state, the author's minimum first."""
    assert guard.state is not None
    assert before.state is not None
    old = {row.hour: row.replays for row in before.state.hours}
    rows = [(row.replays, old.get(row.hour)) for row in guard.state.hours if row.hour >= before.state.hours[-1].hour]
    return [
        Sums(*(sum(new[place][part] - (past[place][part] if past else 0.0) for new, past in rows) for part in range(2)))
        for place in range(1 + len(guard.settings.candidates))
    ]


def restore(guard: Guard, state: str) -> Guard:
    """Return a guard with a state."""
    assert restore_state(guard, state), "the state is not of these settings"
    return guard


def run(stage: Stage, seconds: float) -> bool:
    """Deploy, record, send, and compare; return whether nothing was lost and the acts are the same."""
    stage.clean()
    profile = read_profile(stage.profile(CONTROLLED)[1])
    rendered = {service.name: stage.deploy(make_spec(service), profile=CONTROLLED) for service in SERVICES}
    for service in SERVICES:
        stage.ready(service.name)
    maker = guards.Guards(None, connection.clock(), stage.namespace, profile.spec)  # type: ignore[arg-type] # reads nothing
    end = time.time()
    burst = end + LEAD_SECONDS
    makers, states = {}, {}
    for service in SERVICES:
        (revision,) = (
            row for row in stage.listed("revisions") if row["metadata"]["name"].startswith(f"{service.name}-")
        )
        settings = read_settings(stage.get("ksvc", service.name))
        assert settings is not None

        def make(settings: Any = settings, revision: Any = revision) -> Guard:
            guard = maker._make_guard(settings, revision)  # noqa: SLF001 - the guard that the controller makes
            assert guard is not None
            return guard

        makers[service.name], states[service.name] = make, write_record(make(), service, end, burst)
        name = guards._name_state((stage.namespace, service.name))  # noqa: SLF001 - where the controller reads it
        metadata = {"name": name, "namespace": stage.namespace}
        state = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {guards.STATE: states[service.name]},
        }
        stage.kubectl.run("create", "-f", "-", stdin=json.dumps(state))
    seen = stage.written("observed.jsonl", "")
    command = ("e2e.experiments.guard", "controller", str(seen), "controller")
    process = start_controller(stage, CONTROLLED, command=command)
    try:
        stage.until("both guards observe", lambda: len(read_rows(seen, makers)) == len(SERVICES))
        start = time.time()
        length = max(seconds, burst - start + 2 * BURST_SECONDS)
        times = {service.name: draw_times(service, length, burst - start) for service in SERVICES}
        print(f"{length:.0f} s, burst after {burst - start:.0f} s", file=sys.stderr, flush=True)
        hosts = {service.name: stage.host(service.name) for service in SERVICES}
        answers = asyncio.run(send(stage.provider.gateway(), hosts, times, WORK_SECONDS))
    finally:
        process.terminate()
        process.wait(30)
    events = {service.name: stage.events(service.name) for service in SERVICES}
    FILES.mkdir(parents=True, exist_ok=True)
    (FILES / "record.json").write_text(json.dumps([start, states, answers, events, read_rows(seen, makers)]))
    results = [
        compare(
            service,
            Measured(start, states[service.name], answers[service.name], read_rows(seen, makers)[service.name]),
            makers[service.name],
            from_objects([dict(item) for item in rendered[service.name].manifests], profile.spec),
        )
        for service in SERVICES
    ]
    for name, lines in events.items():
        print(f"{name}: " + "\n  ".join(line for line in lines if line.startswith("Scaled")))
    return all(results)


class Measured(NamedTuple):
    """Measurements of a service: the start in seconds since 1970, its restored state, its answers, and what the controller saw."""

    start: float
    state: str
    answers: list[Answer]
    rows: list[tuple[Observation, dict[str, Any]]]


def read_rows(file: Path, makers: Mapping[str, Any]) -> dict[str, list[tuple[Observation, dict[str, Any]]]]:
    """Return the observations and decisions in the controller's file, by service."""
    names = {make().fingerprint: name for name, make in makers.items()}
    found: dict[str, list[tuple[Observation, dict[str, Any]]]] = {}
    for line in file.read_text().splitlines():
        fingerprint, seen, decision = json.loads(line)
        found.setdefault(names[fingerprint], []).append((Observation(*seen), decision))
    return found


def compare(service: Service, measured: Measured, make: Any, setting: Any) -> bool:
    """Print the acts and sums of the controller and of the simulation; return whether they agree and nothing was lost."""
    before, twin = restore(make(), measured.state), restore(make(), measured.state)
    decisions = [twin.observe(seen) for seen, _ in measured.rows]
    same = [json.loads(json.dumps(decision._asdict())) for decision in decisions] == [row for _, row in measured.rows]
    seen = [(row.date - measured.start, decision) for (row, _), decision in zip(measured.rows, decisions, strict=True)]
    start_up = float(np.median([row.start_up for row, _ in measured.rows if row.start_up is not None]))

    times = np.sort(np.array([answer.at for answer in measured.answers]))
    dated = DatedGuard(restore(make(), measured.state), measured.start)
    with mock.patch.object(engine, "make_watch", lambda _, inputs, **__: guarding.GuardWatch(dated, inputs, acts=True)):
        result = engine.simulate(
            setting,
            TrafficTrace(service.name, times, seconds=float(times[-1])),
            parse_server(f"fixed:{WORK_SECONDS:g}s,max={SLOTS}"),
            StartUp(load=max(start_up - 1.0, 0.0)),
        )
    lost = sum(answer.outcome != "200" for answer in measured.answers)
    late = sum(answer.seconds > LIMIT for answer in measured.answers)
    late_simulated = int((result.latency > LIMIT).sum())
    ours, theirs = list_acts(seen), list_acts(dated.rows)
    print(
        f"{service.name}: {len(times)} requests, lost {lost}, late {late} (simulated {late_simulated}), start-up {start_up:.0f} s"
    )
    print(f"  the simulator's guard decides the same on the controller's {len(measured.rows)} observations: {same}")
    print(f"  reasons {dict.fromkeys(decision.reason for decision in decisions)}")
    for name, acts, guard in (("controller", ours, twin), ("simulation", theirs, dated)):
        words = ", ".join(f"{act.floor} at {act.at:.0f} s ({act.reason})" for act in acts)
        sums = ", ".join(f"{row.late:.0f} late {row.replica_seconds:.0f} s" for row in sum_since(guard, before))
        print(f"  {name}: floor {words}; replays of the minimum and of {guard.settings.candidates}: {sums}")
    return same and lost == 0 and [act.floor for act in ours] == [act.floor for act in theirs]


def main() -> int:
    """Run the command."""
    if sys.argv[1:2] == ["controller"]:
        return observe_controller(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m e2e.experiments.guard", description=__doc__)
    parser.add_argument("--provider", default="", help="kind (default) or existing")
    parser.add_argument("--name", default=DEFAULT, help="the cluster's name")
    parser.add_argument("--seconds", type=float, default=LEAST_SECONDS, help="duration of the requests, at least")
    options = parser.parse_args()
    provider = choose(options.provider, options.name)
    stage = Stage(provider, provider.kubectl(), HERE / "experiments", "guard")
    try:
        return 0 if run(stage, options.seconds) else 1
    finally:
        stage.clean()


if __name__ == "__main__":
    sys.exit(main())
