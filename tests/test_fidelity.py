"""Comparison of the simulator with a cluster, tested with records that the simulator produces."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

np = pytest.importorskip("numpy")

import yaml  # noqa: E402

import oracle_engine as oracle  # noqa: E402 - after the skip
from e2e.fidelity import show  # noqa: E402
from e2e.fidelity.compare import STEP, Replayed, changes, compare, fitted, integral, starts, verdicts  # noqa: E402
from e2e.fidelity.kinds import REPLAYS, document, requests_of  # noqa: E402
from e2e.fidelity.record import Head, Level, Noise, PodChange, Record, RecordError, Request, Start, read  # noqa: E402
from e2e.paths import HERE  # noqa: E402
from ebbtide.autoscaler.arithmetic import SECOND  # noqa: E402
from ebbtide.documents import profiles  # noqa: E402
from ebbtide.simulate import servers  # noqa: E402
from ebbtide.simulate.case import Case  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.fidelity.record import What
    from oracle_engine import Pod

STARTS = tuple(Start(0.1, None, seconds) for seconds in (1.8, 2.0, 2.2))


class Watched(oracle.Knative):
    """Observer of the engine that records its pods as a watch would."""

    def __init__(self, setting: Any, inputs: Any) -> None:
        self.changes: list[PodChange] = []
        self.levels: list[Level] = []
        super().__init__(setting, inputs)

    def note(self, pod: Pod, event: What) -> None:
        self.changes.append(PodChange((self.now - self.inputs.lead) / SECOND, str(pod.number), event))

    def set_replicas(self, desired: int) -> None:
        self.levels.append(Level((self.now - self.inputs.lead) / SECOND, "wanted", desired))
        super().set_replicas(desired)

    def add_pod(self, begins: int, answers: int, life: int) -> Pod:
        pod = super().add_pod(begins, answers, life)
        self.note(pod, "made")
        return pod

    def _life(self, pod: Pod) -> None:
        before = pod.ready
        super()._life(pod)
        if pod.ready and not before:
            self.note(pod, "ready")

    def _delete(self, pod: Pod) -> None:
        self.note(pod, "going")
        super()._delete(pod)

    def _end(self, pod: Pod) -> None:
        super()._end(pod)
        self.note(pod, "gone")


def make_record(kind: str = "concurrency", seed: int = 0, **changed: Any) -> Record:
    """Return the record of a cluster that behaves exactly like the simulator."""
    replay = next(candidate for candidate in REPLAYS if candidate.kind == kind)
    traffic, work = requests_of(replay)
    head = Head(
        kind=kind,
        spec=document(kind),
        profile=yaml.safe_load((HERE / "profile.yaml").read_text()),
        promise=replay.promise,
        traffic=replay.traffic,
        server=replay.server,
        seconds=traffic.seconds,
        work=work,
        starts=STARTS,
        overhead=0.005,
        **changed,
    )
    profile, _ = profiles.validate_profile_data(dict(head.profile))
    assert profile is not None
    server = Replayed(
        work=tuple(seconds + head.overhead for seconds in work), max_batch=servers.parse_server(head.server).max_batch
    )
    case = Case(dict(head.spec), profile, traffic, server, fitted(STARTS), seed)
    setting = case.setting({})
    run = Watched(setting, oracle.prepare(setting, traffic, server, case.start_up, seed))
    result = run.run()
    requests = [
        Request(due, due, float(took), "200", "", seconds)
        for due, took, seconds in zip(traffic.times.tolist(), result.latency, work, strict=True)
    ]
    return Record(head, requests, run.changes, run.levels, Noise(60_000, 30, 0.08, 0.4, 0.2))


@pytest.mark.parametrize("kind", [replay.kind for replay in REPLAYS])
def test_a_cluster_that_matches_the_simulator_does_not_diverge(kind: str) -> None:
    comparison = compare(make_record(kind), seeds=1)
    (same,) = comparison.predicted
    (verdict,) = verdicts([comparison])
    assert verdict.holds
    assert comparison.points == pytest.approx(0, abs=1e-9)
    assert comparison.percent == pytest.approx(0, abs=1e-9)
    assert comparison.real.measured.p99 == pytest.approx(same.measured.p99)
    assert comparison.real.measured.met_cold == same.measured.met_cold
    assert comparison.real.measured.cold_starts == same.measured.cold_starts
    assert comparison.real.result.ready_seconds == pytest.approx(same.result.ready_seconds)


@pytest.mark.parametrize("kind", [replay.kind for replay in REPLAYS])
def test_each_replay_scales_up_three_times_and_down(kind: str) -> None:
    predicted = compare(make_record(kind), seeds=1).typical.course
    assert predicted.ups >= 3
    assert predicted.downs >= 1


# Records.


def test_a_record_round_trips(tmp_path: Path) -> None:
    record = make_record("hard-limit", began="2026-01-01T00:00:00+00:00")
    record.write(tmp_path / "one.jsonl")
    again = read(tmp_path / "one.jsonl")
    assert again == record
    assert compare(again, seeds=1).percent == pytest.approx(0, abs=1e-3)


def test_the_first_part_of_a_record_is_a_record() -> None:
    part = make_record().until(200.0)
    assert part.head.seconds == 200.0
    assert len(part.requests) == len(part.head.work)
    assert max(request.due for request in part.requests) < 200.0
    comparison = compare(part, seeds=1)
    assert comparison.real.measured.p99 == pytest.approx(comparison.typical.measured.p99)
    assert comparison.percent == pytest.approx(0, abs=0.5)


HEAD = {
    "version": 1,
    "kind": "concurrency",
    "spec": {},
    "profile": {},
    "promise": "p95=1s",
    "traffic": "by hand",
    "server": "fixed:1s",
    "seconds": 10,
    "work": [],
    "starts": [],
    "overhead": 0,
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("no json", "is no record"),
        ("[1]", "is no record"),
        ('{"request": {}}', "does not begin with a head"),
        (json.dumps({"head": HEAD | {"version": 0}}), "another version"),
        (json.dumps({"head": HEAD}) + '\n{"cup": {}}', "has no cup"),
        (json.dumps({"head": HEAD | {"cup": 1}}), "is no record"),
    ],
)
def test_an_invalid_record_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(RecordError, match=message):
        read(tmp_path / "file")


def test_a_record_without_requests_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({"head": HEAD}))
    with pytest.raises(RecordError, match="no requests"):
        compare(read(tmp_path / "file"))


# Evaluation of records.


def pods(*changes_: tuple[float, str, What]) -> Record:
    head = Head(**{**{name: value for name, value in HEAD.items() if name != "version"}, "work": (), "starts": ()})  # type: ignore[arg-type]
    return Record(head, pods=[PodChange(*change) for change in changes_])


def test_pods_are_counted_until_they_end() -> None:
    record = pods(
        (-50.0, "old", "made"),
        (-48.0, "old", "ready"),
        (-40.0, "old", "going"),
        (1.0, "old", "gone"),
        (-9.0, "kept", "made"),
        (-7.0, "kept", "ready"),
        (2.0, "new", "made"),
        (3.5, "new", "ready"),
        (4.0, "new", "unready"),
        (5.0, "new", "ready"),
        (6.0, "new", "going"),
        (8.0, "new", "gone"),
    )
    assert integral(changes(record, "there"), 10.0) == 10.0 + 6.0
    assert integral(changes(record, "started"), 10.0) == 10.0 + 4.5
    assert integral(changes(record, "ready"), 10.0) == 10.0 + 0.5 + 1.0


def test_a_start_counts_from_the_scaling_decision() -> None:
    record = pods((1.2, "a", "made"), (2.5, "a", "ready"), (1.3, "b", "made"), (4.0, "b", "ready"), (5.0, "c", "made"))
    levels = [Level(0.0, "wanted", 0), Level(1.0, "wanted", 2), Level(1.1, "mode", "Proxy"), Level(4.5, "wanted", 3)]
    requests = [
        Request(0.9, 0.9, 1.6, "200", "a", 0.5),
        Request(2.0, 2.0, 2.5, "200", "b", 0.3),
        Request(2.0, 2.0, 0.1, "503", "b", 0.0),
    ]
    measured = starts(record.pods, levels, requests)
    assert measured == [Start(pytest.approx(0.2), pytest.approx(1.0), 1.5), Start(pytest.approx(0.3), None, 3.0)]  # type: ignore[arg-type]


def test_a_start_up_is_the_median_with_its_phases() -> None:
    fit = fitted([Start(0.1, None, 1.0), Start(0.2, 1.5, 2.0), Start(0.3, 3.2, 4.0)])
    assert fit.schedule == 0.2
    assert fit.ready == pytest.approx(0.65)
    assert fit.seconds == pytest.approx(2.0)
    assert fit.spread == pytest.approx(np.log(2.0) / 1.349)
    assert fitted([Start(0.1, None, 1.0)]).spread == 0.0
    # A single slow start changes neither.
    usual = [Start(0.1, None, seconds) for seconds in (1.9, 1.95, 2.0, 2.05, 2.1)]
    assert fitted([*usual, Start(60.0, None, 90.0)]).seconds == pytest.approx(fitted(usual).seconds, rel=0.02)
    assert fitted([*usual, Start(60.0, None, 90.0)]).spread < 0.1


# Output.


def test_a_divergence_is_reported_and_plotted() -> None:
    record = make_record()
    slower = [dataclasses.replace(request, took=request.took + 0.5) for request in record.requests]
    fewer = [change for change in record.pods if change.pod in {"0", "1"}]
    comparison = compare(dataclasses.replace(record, requests=slower, pods=fewer), seeds=3)
    (verdict,) = verdicts([comparison])
    assert not verdict.holds
    assert show.verdict([verdict]).startswith("concurrency, 1 run: ")
    text = show.text(comparison)
    assert "ABOVE 3" in text
    assert "ABOVE 10" in text
    assert show.ONLY_PREDICTED in show.plot(comparison)
    assert "of 60,000 ticks 0.05 % came over 20 ms late" in text
    assert f"| concurrency | {comparison.real.measured.attainment * 100:.1f} % |" in show.markdown([comparison])


def test_runs_of_a_kind_are_evaluated_together() -> None:
    record = make_record()
    more = [dataclasses.replace(change, at=change.at - 20 * (change.what == "made")) for change in record.pods]
    comparisons = [compare(record, seeds=1), compare(dataclasses.replace(record, pods=more), seeds=1)]
    (verdict,) = verdicts(comparisons)
    assert verdict.runs == 2
    assert verdict.percent == pytest.approx(comparisons[1].percent / 2)
    assert verdict.percent > 5


def test_both_curves_are_in_the_plot() -> None:
    same = compare(make_record(), seeds=1)
    plotted = show.plot(same).partition("\n")[2]
    assert show.BOTH in plotted
    assert show.ONLY_REAL not in plotted or same.apart()[2] <= 2 * STEP * same.real.course.ups
