"""The cost report: its numbers are those of ``simulate``, its changes keep the SLO, and no name does harm."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

pytest.importorskip("numpy", reason="the simulator needs it")

from ebbtide import sandbox
from ebbtide.cli import main
from ebbtide.cluster.slo import cost_pages, cost_report
from ebbtide.cluster.slo.cost_report import (
    ReportInputs,
    find_known_range,
    make_cost_report,
    make_cost_row,
    make_cost_rows,
    read_record,
)
from ebbtide.cluster.slo.replay import write_traffic_log
from ebbtide.cluster.slo.source import History, Ref, SeriesPoint, StartTimes
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.documents import profiles
from ebbtide.simulator.fleet.savings import ServiceReplay, SettingChange, SettingUse, SimulatedRange
from ebbtide.simulator.search.judge import SEEDS, Change, Evidence, judge
from live_cluster import PROFILE, connected, simulated, spec, workload
from recorded import HOUR, RecordedSource

if TYPE_CHECKING:
    from ebbtide.cluster.slo.source import MetricsSource
    from ebbtide.core.profile.models import Profile

NOW = 1_800_000_000.0
SCALING = {"minReplicas": 3, "maxReplicas": 5, "metric": "concurrency", "metricThreshold": 4}
SLO = {"p95LatencyMilliseconds": 4000}


def live(name: str = "chat", **fields: Any) -> dict[str, Any]:
    document = spec(name, **{"autoscaling": SCALING, "slo": SLO, "compute": {"cpuCoreRequest": 2}, **fields})
    top = next(item for item in workload(document).objects if item["kind"] == "Service")
    return {**top, "metadata": {**top["metadata"], "namespace": "team-shop"}}


def priced(**prices: Any) -> Profile:
    document = {**PROFILE, "spec": {**PROFILE["spec"], "prices": prices}}
    validated, problems = profiles.validate_profile_data(document)
    assert validated is not None, problems
    return validated


#: Of a core-hour.
PRICED = priced(currency="EUR", cpuHour=0.5)


def report_on(*tops: dict[str, Any], source: MetricsSource | None = None, of: Profile | None = None) -> Any:
    inputs = ReportInputs(source or RecordedSource(), of or PRICED, NOW - 24 * HOUR, NOW, None)
    return make_cost_report([*make_cost_rows(tops, inputs)], inputs)


@pytest.fixture(scope="module")
def report() -> Any:
    return report_on(live())


def simulate(capsys: pytest.CaptureFixture[str], row: Any, folder: Path, seed: int, spec_text: str) -> dict[str, Any]:
    (folder / "spec.yaml").write_text(spec_text)
    (folder / "log.csv").write_bytes(row.record.request.log)
    words = [
        "simulate",
        str(folder / "spec.yaml"),
        "--traffic",
        str(folder / "log.csv"),
        "--seed",
        str(seed),
        "-o",
        "json",
    ]
    assert main([*words, "--server", row.replay.server, "--start-up", row.replay.start_up]) == 0
    runs: dict[str, Any] = json.loads(capsys.readouterr().out)["runs"][0]
    return runs


def test_the_numbers_are_those_of_simulate(report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = report.rows
    runs = [simulate(capsys, row, tmp_path, seed, row.record.request.spec) for seed in SEEDS]
    hours = [2 * run["replicaHours"] for run in runs]
    late = [round((1 - run["slo"]["bounds"][0]["value"]) * run["requests"]) for run in runs]

    for told, values in ((row.replay.current.hours, hours), (row.replay.current.late, late)):
        assert (told.value, told.low, told.high) == pytest.approx((values[0], min(values), max(values)), abs=1e-5)
    assert row.replay.requests == runs[0]["requests"] == round(3 * 60 * 60 * (0.71 + 0.05))
    assert row.cost == pytest.approx(hours[0] * 0.5, abs=0.01)
    assert row.replay.start_up == "40 s"


def test_a_change_keeps_the_slo_when_it_is_simulated(
    report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = report.rows
    change = row.replay.change
    assert change.fields["minReplicas"] < 3
    document = json.loads(json.dumps(spec("chat", slo=SLO, compute={"cpuCoreRequest": 2})))
    document["spec"]["autoscaling"] = {k: v for k, v in {**SCALING, **change.fields}.items() if v is not None}
    runs = [simulate(capsys, row, tmp_path, seed, json.dumps(document)) for seed in SEEDS]

    assert all(run["slo"]["bounds"][0]["used"] <= 0.5 for run in runs)
    assert change.verdict.passes
    saved = [used - 2 * run["replicaHours"] for used, run in zip([row.replay.current.hours.value], runs, strict=False)]
    assert change.hours_saved.value == pytest.approx(saved[0], abs=1e-5)
    text = next(cost.text for cost in row.replay.settings if cost.part == "minimum")
    assert text.startswith("minimum 3 cost ")
    assert "would have kept the SLO" in text


@pytest.mark.parametrize(
    ("top", "source", "reason"),
    [
        (live(slo={"timeToFirstTokenMilliseconds": 500}), RecordedSource(), "its SLO on token times"),
        (live(), RecordedSource(gap=HOUR), "its record has gaps: Prometheus has no data for 16.3%"),
        (live(), RecordedSource(hours=0), "Prometheus has no requests"),
        ({**live(), "spec": {}}, RecordedSource(), "its spec cannot be read"),
    ],
)
def test_a_service_without_a_replay_is_listed_with_the_reason(top: Any, source: Any, reason: str) -> None:
    (row,) = report_on(top, source=source).rows

    assert row.replay is None
    assert row.reason.startswith(reason)


def test_nothing_is_proposed_where_the_replay_differs_from_the_measured_replicas() -> None:
    (row,) = report_on(live(), source=RecordedSource(replicas=1.0)).rows

    assert row.replay.change is None
    assert "no change is proposed" in row.notes[-1]


@pytest.mark.parametrize(("share", "is_proposed"), [(0.74, False), (0.76, True), (1.24, True), (1.26, False)])
def test_the_difference_is_a_share_of_the_replayed_replicas(report: Any, share: float, is_proposed: bool) -> None:
    (row,) = report.rows
    measured = replace(row, measured_replica_hours=share * row.replay.replica_hours)

    completed: Any = cost_report._complete_row(measured, row.record, row.replay, 1.0)  # noqa: SLF001 - without another replay

    assert (completed.replay.change is not None) == is_proposed


class UnrecordedStarts(RecordedSource):
    """A source without kube-state-metrics."""

    def starts(self, _ref: Ref, _start: float, _end: float) -> list[StartTimes]:
        return []


@pytest.mark.parametrize(
    ("pods", "start_up", "basis"), [((1.0, 4.0, 3.0), "3 s", "pods that exist (3)"), ((), "45s", "")]
)
def test_without_recorded_starts_the_pods_that_exist_say_how_long_one_takes(
    pods: tuple[float, ...], start_up: str, basis: str
) -> None:
    inputs = ReportInputs(UnrecordedStarts(), PRICED, NOW - 24 * HOUR, NOW, None, lambda _: pods)

    record = read_record(live(), inputs)

    assert record.request.start_up == start_up
    assert (basis or "an assumption") in record.notes[-1]


def test_a_record_of_minutes_proposes_nothing(report: Any) -> None:
    (row,) = report.rows
    record = replace(row.record, start=row.record.end - 180)
    assert row.replay.change is not None

    short: Any = cost_report._complete_row(row, record, row.replay, 1.0)  # noqa: SLF001 - without another replay

    assert (short.replay.change, short.saved) == (None, None)
    assert "covers only 3 min" in short.notes[-1]


@pytest.mark.parametrize(("hours", "price"), [(0.004, 1.0), (0.02, 0.1)])
def test_a_change_that_saves_nothing_is_not_listed(report: Any, hours: float, price: float) -> None:
    (row,) = report.rows
    change = replace(row.replay.change, hours_saved=SimulatedRange(hours, hours, hours))

    idle: Any = cost_report._complete_row(row, row.record, replace(row.replay, change=change), price)  # noqa: SLF001 - as above

    assert (idle.replay.change, idle.saved) == (None, None)
    assert not cost_pages.list_changes(replace(report, rows=(idle,)))


@pytest.mark.parametrize(
    ("measured", "used", "texts"),
    [
        (0.134, 0.082, ("0.13", "0.08")),
        (1234.56, 1600.0, ("1,234.6", "1,600.0")),
        (0.000002, 0.0, ("0.000002", "0.000000")),
    ],
)
def test_numbers_that_differ_are_printed_differently(measured: float, used: float, texts: tuple[str, str]) -> None:
    assert cost_report._format_apart(measured, used) == texts  # noqa: SLF001 - the numbers of a note


@pytest.mark.parametrize(
    ("unit", "fix"), [("GPU", "gpu-hour"), ("core", "prices.cpuHour"), ("replica", "no price applies")]
)
def test_the_missing_price_is_that_of_what_is_counted(report: Any, unit: str, fix: str) -> None:
    total = replace(report.total, cost=None, hours={unit: 1.0})

    text = cost_pages.render_cost_text(replace(report, total=total), "")

    assert fix in next(line for line in text.splitlines() if line.startswith("No money"))


def test_a_higher_threshold_is_proposed_only_for_a_stated_server(report: Any) -> None:
    inputs = ReportInputs(RecordedSource(), PRICED, NOW - 24 * HOUR, NOW, None)
    stated: Any = next(make_cost_rows([live()], inputs, lambda _: "lognormal:median=800ms,sigma=0.4,max=16,slow=8:1.5"))
    (fitted,) = report.rows

    texts = [cost.text for row in (stated, fitted) for cost in row.replay.settings if cost.part == "threshold"]
    assert len(texts) == 1
    assert "metricThreshold" not in fitted.replay.change.fields
    # A quiet record keeps the SLO with any.
    assert stated.replay.change.fields["metricThreshold"] <= 8


def test_without_an_slo_or_a_price_nothing_is_invented() -> None:
    total = report_on(live(slo=None), of=priced())

    assert total.rows[0].replay.change is None
    assert total.rows[0].replay.current.meets_slo is None
    assert (total.rows[0].cost, total.total.cost) == (None, None)
    assert "No money" in cost_pages.render_cost_text(total, "")


@pytest.mark.parametrize(("hours", "record", "month"), [(24, "24 h", "45.00 EUR"), (23, "23 h", "")])
def test_a_month_is_estimated_only_from_a_whole_day(report: Any, hours: int, record: str, month: str) -> None:
    row = replace(report.rows[0], start=NOW, end=NOW + hours * HOUR, cost=1.5)

    cells = dict(zip(cost_pages.HEADER, next(cost_pages.list_cells(replace(report, rows=(row,)))), strict=True))

    assert (cells["RECORD"], cells["COST"], cells["30 DAYS"]) == (record, "1.50 EUR", month)
    assert serialize_body(row)["costPer30Days"] == (45.0 if month else None)


def test_the_page_explains_missing_money_as_the_command_does(report: Any) -> None:
    assert cost_pages.explain_no_money(replace(report.total, replayed=0)) == "Nothing was replayed."


def test_without_a_price_a_change_saves_no_money() -> None:
    hours = SimulatedRange(10.0, 10.0, 10.0)
    use = SettingUse(hours, hours, meets_slo=True)
    verdict = judge(Change({}, {}), Evidence({}, {"all": (0.1,) * len(SEEDS)}))
    change = SettingChange("a lower minimum", {"minReplicas": 1}, use, hours, verdict)
    replayed = ServiceReplay("core", 2.0, 1, 30.0, "", "", "10s", use, (), change, ())
    rows = [
        make_cost_row(
            live(), ReportInputs(RecordedSource(), profile, NOW - 24 * HOUR, NOW, None), {}, lambda _: replayed
        )
        for profile in (PRICED, priced())
    ]

    assert [(row.price, row.cost, row.saved) for row in rows] == [(0.5, 5.0, 5.0), (None, None, None)]
    assert rows[1].replay == replayed


def test_an_object_that_was_changed_without_ebbtide_keeps_its_slo() -> None:
    top = live()
    top["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] = "4"
    (row,) = report_on(top).rows

    assert row.replay.current.meets_slo
    assert next(cost.value for cost in row.replay.settings if cost.part == "minimum") == "4"


def test_the_log_has_as_many_requests_as_were_counted() -> None:
    points = tuple(SeriesPoint(60.0 * minute, 0.01) for minute in range(100))
    rows = write_traffic_log(History(Ref("shop", "chat"), {"rate": points})).splitlines()[1:]

    assert sum(int(row.partition(",")[2]) for row in rows) == 60


def test_a_time_with_replicas_and_without_a_rate_is_known() -> None:
    rate = (SeriesPoint(60, 1.0), SeriesPoint(120, None), SeriesPoint(180, None), SeriesPoint(240, 1.0))
    wanted = (SeriesPoint(60, 1.0), SeriesPoint(120, 0.0), SeriesPoint(180, None), SeriesPoint(240, 1.0))

    assert find_known_range(History(Ref("shop", "chat"), {"rate": rate, "wanted": wanted})) == (60, 240, 0.25)


HOSTILE = "<script>`*_\x1b[31m\r\nevil"


def test_a_hostile_name_does_no_harm(report: Any) -> None:
    (row,) = report.rows
    bad = replace(row, name=HOSTILE, project=f"@{HOSTILE}")
    lost = replace(bad, replay=None, reason=f"-{HOSTILE}")
    hostile = replace(report, rows=(bad, lost), projects=(replace(report.total, project=HOSTILE),))

    text = cost_pages.render_cost_text(hostile, "")
    assert "\x1b" not in text
    assert "\r" not in text


def test_the_demo_writes_its_changes_to_the_specs_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's record is shorter than an hour, which proposes nothing. A higher threshold needs a stated server."""
    monkeypatch.setattr(cost_report, "MIN_RECORD_SECONDS", 0.0)
    specs, evidence = tmp_path / "specs", tmp_path / "evidence"
    specs.mkdir()
    for row in yaml.safe_load_all((Path(sandbox.__path__[0]) / "demo.yaml").read_text()):
        if "spec" in row and "name" in row:
            document = spec(row["name"], **{"project": row["project"], **row["spec"]})
            text = "# From Git.\n" + yaml.safe_dump(document, sort_keys=False)
            (specs / f"{row['project']}.{row['name']}.yaml").write_text(text)
    before = {file.name: file.read_text() for file in specs.iterdir()}

    words = ["--server", "embed=lognormal:median=146ms,sigma=0.32,max=16", "--write", str(specs)]
    assert main(["--demo", "report", "-A", "-o", "json", *words, "--evidence", str(evidence)]) == 0

    data = json.loads(capsys.readouterr().out)
    changed = {f"{row['namespace']}.{row['name']}" for row in data["rows"] if row["replay"] and row["replay"]["change"]}
    assert changed == {"team-a.embed"}
    assert {row["name"] for row in data["rows"]} >= {"chat", "rank", "nightly", "summarize"}
    assert data["total"]["cost"] > 0
    assert {name for name, text in before.items() if (specs / name).read_text() != text} == {
        f"{name}.yaml" for name in changed
    }
    assert all(file.read_text().startswith("# From Git.\n") for file in specs.iterdir())
    assert {file.name for file in evidence.iterdir()} == {
        f"{name}.{e}" for name in changed for e in ("txt", "yaml", "csv")
    }


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the spec of a service that runs, and records a day of requests."""
    document = spec("chat", autoscaling=SCALING, slo=SLO, compute={"cpuCoreRequest": 2})
    cluster = connected(simulated(), monkeypatch)
    for item in workload(document).objects:
        cluster.apply(item)
    monkeypatch.setattr("ebbtide.cli.base.connection.connect_source", lambda *_: RecordedSource())
    monkeypatch.setattr("ebbtide.cli.base.connection.observe_profile", lambda _: (PRICED, {}))
    file = tmp_path / "specs" / "chat.yaml"
    file.parent.mkdir()
    text = yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False)
    file.write_text(text.replace("minReplicas: 3", "minReplicas: 3   # the peak"))
    return file


def write_changes(checkout: Path, *words: str) -> int:
    return main(["report", "-A", "--days", "1", "--write", str(checkout.parent), *words])


def test_a_change_is_written_to_the_spec_with_a_commit_message(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkout.read_text()

    assert write_changes(checkout) == 0

    out, err = capsys.readouterr()
    message = out.rpartition("\n\nchat: ")[2] if "\n\nchat: " in out else out
    change = re.search(r"minReplicas 3 -> (\d)", message)
    assert change is not None
    assert before.replace("minReplicas: 3 ", f"minReplicas: {change[1]} ") == checkout.read_text()
    assert f"to {checkout}." in err
    for part in ("at most", "With 3 seeds", "must stay unused", "core-hours", "EUR", "Workload: team-shop/chat\n"):
        assert part in message
    assert message.endswith(f"Spec: {checkout}\n")
    # The autoscaling of the file is not the one that runs now.
    assert write_changes(checkout) == 1
    assert "RPT001" in capsys.readouterr().err


def test_a_commit_message_has_the_evidence_and_a_short_subject(report: Any) -> None:
    (row,) = report.rows
    text = "minReplicas 3 -> 1, scaleDownDelaySeconds 600 -> unset, metricThreshold 4 -> 8"
    replay = replace(row.replay, change=replace(row.replay.change, text=text))
    record = replace(row.record, revision="chat-00007")
    changed = replace(row, replay=replay, record=record, cost=10.0, saved=4.0)

    message = cost_pages.write_commit_message(changed, "EUR", "specs/chat.yaml")

    subject, empty, *_ = message.splitlines()
    assert subject.startswith("chat: minReplicas 3 -> 1, ")
    assert (len(subject) <= 72, empty) == (True, "")
    for name, money in (("before", "10.00"), ("after", "6.00")):
        assert re.search(rf"^  {name} +{money} EUR, .* core-hours, .* late requests$", message, re.MULTILINE)
    assert message.endswith("\n\nWorkload: team-shop/chat\nRevision: chat-00007\nSpec: specs/chat.yaml\n")


def test_the_workflow_of_the_page_commits_each_service(report: Any, tmp_path: Path) -> None:
    """Its script runs with Git, a bare repository as origin, and a gh that prints its arguments."""
    page = (Path(__file__).parents[2] / "docs/report.md").read_text()
    workflow = yaml.safe_load(page.split("```yaml\nname: costs")[1].split("```")[0].removeprefix("\n"))
    script = workflow["jobs"]["report"]["steps"][-1]["run"]
    (row,) = report.rows
    checkout, evidence, tools = (tmp_path / name for name in ("checkout", "evidence", "tools"))
    for folder in (checkout, evidence, tools):
        folder.mkdir()
    (tools / "gh").write_text('#!/bin/sh\necho "$@"\n')
    (tools / "gh").chmod(0o755)
    identity = {f"GIT_{role}_{field}": "a" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "PATH": f"{tools}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path)}
    environment |= {"GITHUB_RUN_ID": "7", "GITHUB_REF_NAME": "main"}

    def run(text: str) -> str:
        words = ["bash", "-e", "-c", text]
        return subprocess.run(words, cwd=checkout, env=environment, check=True, capture_output=True, text=True).stdout

    for name in ("chat", "other", "unwritten"):
        (checkout / f"{name}.yaml").write_text("minReplicas: 3\n")
        file = "" if name == "unwritten" else f"{name}.yaml"
        message = cost_pages.write_commit_message(replace(row, name=name), "EUR", file)
        (evidence / f"{name}.txt").write_text(message)
    run("git init -q --bare ../origin; git init -q -b main; git remote add origin ../origin")
    run("git add .; git commit -qm first; git push -q origin main")
    assert run(script) == ""
    for name in ("chat", "other"):
        (checkout / f"{name}.yaml").write_text("minReplicas: 1\n")

    out = run(script)

    assert "Lower the costs of 2 services" in out
    assert run("git log --format=%s --name-only origin/main..origin/costs-7 | sed '/^$/d;s/:.*//'").split() == [
        *("other", "other.yaml", "chat", "chat.yaml")
    ]


@pytest.mark.parametrize(
    "status",
    [
        {"latestReadyRevisionName": "chat-00007"},
        {"components": {"predictor": {"latestReadyRevision": "chat-00007"}}},
        {},
    ],
)
def test_the_evidence_names_the_newest_ready_revision(status: dict[str, Any]) -> None:
    assert cost_report.find_revision({"status": status}) == ("chat-00007" if status else "")


def test_a_change_that_failed_the_judge_is_never_written(
    checkout: Path, report: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, (row,) = checkout.read_text(), report.rows
    failed = judge(Change({}, {}), Evidence({}, {"all": (0.6,) * len(SEEDS)}))
    bad = replace(row, replay=replace(row.replay, change=replace(row.replay.change, verdict=failed)))
    monkeypatch.setattr(cost_report, "make_cost_rows", lambda *_: [bad])

    assert write_changes(checkout, "-o", "json") == 1

    assert failed.misses[0] in capsys.readouterr().err
    assert checkout.read_text() == before


def test_the_margin_is_a_choice(checkout: Path) -> None:
    before = checkout.read_text()

    assert write_changes(checkout, "--spare", "100%") == 0

    assert checkout.read_text() == before


@pytest.mark.parametrize("copies", [0, 2])
def test_a_change_needs_one_spec_of_the_service(
    checkout: Path, copies: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = checkout.read_text()
    checkout.unlink()
    files = [checkout.with_name(f"copy-{number}.yaml") for number in range(copies)]
    for file in files:
        file.write_text(text)
    checkout.with_name("other.yaml").write_text(text.replace("name: chat", "name: other"))
    checkout.with_name("elsewhere.yaml").write_text(text.replace("project: shop", "project: elsewhere"))

    assert write_changes(checkout) == 1

    assert "RPT001" in capsys.readouterr().err
    assert all(file.read_text() == text for file in files)
