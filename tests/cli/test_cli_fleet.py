"""``ebbtide plan``: output, rejected input and written files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.core.documents.profiles import load_profile_with_data
from ebbtide.simulator.fleet.fleet_input import KUEUE_COHORT

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Ran

SPEC = """\
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: {name}
spec:
  image: ghcr.io/acme/{name}:1
  compute:
    gpuDevicesRequest: 1
  autoscaling:
    minReplicas: {low}   # keep some
    maxReplicas: 4
    metric: concurrency
    metricThreshold: 2
  slo:
    p95LatencyMilliseconds: 12000
"""


@pytest.fixture(autouse=True)
def full_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan on the cluster that has the specs' GPUs."""
    monkeypatch.setenv("EBBTIDE_PROFILE", "full")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Return a folder with two services and their traffic."""
    for folder in ("specs", "traffic"):
        (tmp_path / folder).mkdir()
    for name, low, shape in (
        ("chat", 1, "steps:0.1rps,1m,2rps,2m,0.1rps,2m"),
        ("search", 2, "constant:0.3rps,5m"),
    ):
        (tmp_path / "specs" / f"{name}.yaml").write_text(SPEC.format(name=name, low=low))
        (tmp_path / "traffic" / f"{name}.shape").write_text(f"{shape}\n")
    return tmp_path


def plan(run: Any, fleet: Path, *words: str, gpus: int = 4) -> Ran:
    ran: Ran = run(
        *("plan", fleet / "specs", "--traffic", fleet / "traffic", "--pool", f"default={gpus}x1"),
        *("--server", "fixed:3s,max=4", "--start-up", "20s", *words),
    )
    return ran


def heading(code: str, place: str) -> str:
    return f"error {code} {place}\n"


def test_the_report_says_what_is_not_modeled_and_how_many_gpus_are_needed(run: Any, fleet: Path) -> None:
    code, out, err = plan(run, fleet, "--training", "2xdefault,preemptible")

    assert (code, err) == (0, "")
    assert out.startswith("2 services of 0 projects on 4 GPUs of default, 5 min of traffic\n")
    assert "  note: not modeled: network, NUMA, " in out
    assert "services in their SLO" in out
    assert "evictions of training" in out
    assert "Smallest pool for the services whose SLO a pool can meet, with each seed: 95%: " in out
    assert "Lower bound of a perfect system: 2 GPUs, " in out


def test_the_same_input_gives_the_same_bytes_and_the_run_of_simulate(run: Any, fleet: Path) -> None:
    _, first, _ = plan(run, fleet, "-o", "json", gpus=16)
    _, second, _ = plan(run, fleet, "-o", "json", gpus=16)
    words = ("--traffic", "steps:0.1rps,1m,2rps,2m,0.1rps,2m", "--server", "fixed:3s,max=4", "--start-up", "20s")
    _, simulated, _ = run("simulate", fleet / "specs" / "chat.yaml", *words, "-o", "json")

    assert first == second
    alone = json.loads(simulated)["runs"][0]
    chat = json.loads(first)["pool"]["services"][0]
    assert {name: chat[name] for name in chat if name in alone and name != "name"} == {
        name: alone[name] for name in alone if name in chat and name != "name"
    }
    assert len(set(chat) & set(alone)) > 10


def test_a_small_pool_names_what_binds(run: Any, fleet: Path) -> None:
    code, out, _ = plan(run, fleet, "-o", "json", "--changes", "0", gpus=2)

    report = json.loads(out)
    assert code == 0
    assert report["pool"]["peakGpus"] == 2
    assert {span["reason"] for span in report["pool"]["binds"]} == {"pool"}
    assert sum(service["requestsThatWaited"] for service in report["pool"]["services"]) > 0
    assert report["smallest"]["100"] >= report["lowerBound"]["gpus"]


def test_more_traffic_needs_more_gpus(run: Any, fleet: Path) -> None:
    needed = []
    for words in ((), ("--what-if", "chat*2")):
        _, out, _ = plan(run, fleet, "-o", "json", "--changes", "0", *words)
        needed.append(json.loads(out)["pool"]["services"][0]["requests"])

    assert 1.9 * needed[0] < needed[1] < 2.1 * needed[0]


def test_a_server_of_one_service_and_logs_with_dates(run: Any, fleet: Path) -> None:
    (fleet / "traffic" / "chat.shape").unlink()
    rows = "".join(f"2026-11-05T0{hour}:00:00Z,40\n" for hour in range(3))
    (fleet / "traffic" / "chat.csv").write_text(f"time,count\n{rows}")
    (fleet / "traffic" / "search.shape").unlink()
    (fleet / "traffic" / "search.jsonl").write_text('{"time": "2026-11-05T01:30:00Z"}\n')

    code, out, _ = plan(run, fleet, "--server", "search=fixed:1s,max=1", "-o", "json", "--changes", "0")

    report = json.loads(out)
    assert code == 0
    assert report["seconds"] == 3 * 3600
    assert report["startSeconds"] == 1793836800
    assert [service["latencySeconds"]["mean"] for service in report["pool"]["services"]] == [3.0, 1.0]


def test_changes_are_written_as_the_report_verified_them(run: Any, fleet: Path) -> None:
    code, out, err = plan(run, fleet, "--write", "-o", "json")

    report = json.loads(out)
    changed = {change["service"]: change for change in report["changes"] if change["spec"]}
    assert code == 0
    assert changed
    assert err == "".join(f"Wrote the changes to {fleet / 'specs' / name}.yaml.\n" for name in changed)
    assert "# keep some" in (fleet / "specs" / "search.yaml").read_text()
    _, out, _ = plan(run, fleet, "--changes", "0", "-o", "json")
    assert json.loads(out)["smallest"]["100"] <= report["changes"][-1]["smallestPool"]


def test_a_quota_that_no_pool_makes_sufficient(run: Any, fleet: Path) -> None:
    for file in (fleet / "specs").iterdir():
        file.write_text(file.read_text().replace("spec:\n", "spec:\n  project: team\n", 1))
    _, profile, _ = load_profile_with_data("full")
    projects = {**profile["spec"]["projects"], "known": {"team": {"gpus": 2}}}
    named = fleet / "profile.yaml"
    named.write_text(yaml.safe_dump({**profile, "spec": {**profile["spec"], "projects": projects}}))

    code, text, _ = plan(run, fleet, "--profile", str(named), gpus=4)
    _, out, _ = plan(run, fleet, "--profile", str(named), "-o", "json", gpus=4)

    report = json.loads(out)
    assert code == 0
    assert report["smallest"] == {"95": None, "99": None, "100": None}
    assert report["smallestPool"] is None
    no_pool, quota = report["insufficient"]
    assert no_pool.startswith("no pool of up to ")
    assert quota.startswith("the quota of project team is 2 GPUs, and its services use up to 6: raise the quota")
    assert ", smallest" not in text
    assert "95%: none, 99%: none, 100%: none" in text
    assert quota in text


@pytest.mark.parametrize(("count", "is_noted"), [(1, False), (2, True)])
def test_the_cohort_of_kueue_is_not_modeled(run: Any, fleet: Path, count: int, is_noted: bool) -> None:
    _, profile, _ = load_profile_with_data("full")
    known = {f"team-{number}": {"gpus": 2} for number in range(count)}
    projects = {**profile["spec"]["projects"], "quota": "kueue", "known": known}
    named = fleet / "profile.yaml"
    named.write_text(yaml.safe_dump({**profile, "spec": {**profile["spec"], "projects": projects}}))

    code, out, err = plan(run, fleet, "--profile", str(named), "--changes", "0", "-o", "json")

    assert code == 0, err
    assert (KUEUE_COHORT in json.loads(out)["notes"]) == is_noted


def write_jumpy_fleet(folder: Path) -> None:
    """Write three services whose smallest pool was 11, 10, 10 and 22 GPUs with four seeds, which no node of eight has."""
    rows = {
        "s0": ("gpuPortionRequest: 0.5", 0, 1, "slo: {p95LatencyMilliseconds: 30000}", "poisson:0.5rps,400s"),
        "s1": ("gpuDevicesRequest: 1", 1, 5, "slo: {p95LatencyMilliseconds: 15000}", "poisson:1rps,400s"),
        "s2": ("gpuDevicesRequest: 4", 1, 3, "", "on-off:3rps,60s,60s,400s"),
    }
    for file in (*(folder / "specs").iterdir(), *(folder / "traffic").iterdir()):
        file.unlink()
    for name, (gpus, low, high, slo, shape) in rows.items():
        scaling = f"autoscaling: {{minReplicas: {low}, maxReplicas: {high}, metric: concurrency, metricThreshold: 2}}"
        spec = yaml.safe_load(SPEC.format(name=name, low=low))
        del spec["spec"]["slo"]
        spec["spec"].update(yaml.safe_load(f"compute: {{{gpus}}}\n{scaling}\n{slo}\n"))
        (folder / "specs" / f"{name}.yaml").write_text(yaml.safe_dump(spec))
        (folder / "traffic" / f"{name}.shape").write_text(shape)


def test_the_smallest_pool_has_whole_nodes_and_does_not_depend_on_the_seed(run: Any, fleet: Path) -> None:
    write_jumpy_fleet(fleet)
    folders = ("plan", fleet / "specs", "--traffic", fleet / "traffic", "--pool", "default=2x8", "--changes", "0")
    words = (*folders, "--server", "fixed:3s,max=4", "--start-up", "20s", "--slo", "p90=30s")
    for seed in ("0", "3"):
        code, out, err = run(*words, "-o", "json", "--seed", seed)
        report = json.loads(out)
        assert (code, err) == (0, "")
        assert report["nodeGpus"] == 8
        assert report["seeds"] == [int(seed) + number for number in range(3)]
        assert report["smallest"]["100"] == 24
        assert report["smallestPool"]["servicesInSloBySeed"] == [3, 3, 3]
        assert report["largerPoolsThatFail"] == []
        # The first seed violates an SLO, so no other one is simulated.
        assert report["pool"]["servicesInSloBySeed"] == [2]
        # The last replies come after the traffic.
        assert 0.5 < report["pool"]["usedShare"] <= 1 < report["pool"]["gpuHoursByProject"]["no project"]
    assert "2 to 3 of 3" in run(*words, "--seed", "5")[1]


def test_a_pool_without_whole_nodes(run: Any, fleet: Path) -> None:
    code, out, err = run("plan", fleet / "specs", "--traffic", fleet / "traffic", "--pool", "default=9")

    assert (code, out) == (2, "")
    assert err.endswith("--pool: 9 GPUs of default are not whole nodes of 8: write default=2x8, or default=1x9\n")


def test_no_change_is_proposed_for_a_service_that_violates_its_slo(run: Any, fleet: Path) -> None:
    spec = fleet / "specs" / "search.yaml"
    spec.write_text(spec.read_text().replace("12000", "2000"))

    code, out, _ = plan(run, fleet, "-o", "json", gpus=16)

    report = json.loads(out)
    assert code == 0
    assert [service["slo"]["holds"] for service in report["pool"]["services"]] == [True, False]
    assert "search" not in {change["service"] for change in report["changes"]}


def test_a_service_without_a_log(run: Any, fleet: Path) -> None:
    (fleet / "traffic" / "chat.shape").unlink()

    code, out, err = plan(run, fleet)

    assert (code, out) == (1, "")
    assert err.startswith(heading("PLN001", f"{fleet}/specs/chat.yaml:4 metadata.name"))


def test_a_service_without_requests_is_planned_with_its_minimum(run: Any, fleet: Path) -> None:
    """Its log has no influence on the clock of the others, and no change of it is proposed: nothing could judge one."""
    (fleet / "traffic" / "search.shape").unlink()
    reports = []
    for text in ("time,count\n2026-11-05T00:00:00Z,0\n2026-11-07T00:00:00Z,0\n", "time\n"):
        (fleet / "traffic" / "search.csv").write_text(text)
        code, out, err = plan(run, fleet, "-o", "json", gpus=16)
        assert code == 0, err
        reports.append(json.loads(out))

    report, (chat, search) = reports[0], reports[0]["pool"]["services"]
    assert reports[1] == report
    assert (report["startSeconds"], report["seconds"]) == (0, 300)
    assert (chat["requests"] > 200, search["requests"]) == (True, 0)
    assert search["gpuHours"] == pytest.approx(2 * 300 / 3600, abs=0.001)
    assert any(note.startswith("search has no requests: ") for note in report["notes"])
    assert {change["service"] for change in report["changes"]} <= {"chat"}


def test_a_fleet_without_requests(run: Any, fleet: Path) -> None:
    for file in (fleet / "traffic").iterdir():
        file.write_text("constant:0rps,5m\n")

    code, out, err = plan(run, fleet)

    assert (code, out) == (1, "")
    assert err.startswith(heading("TRF004", "input"))


def test_a_log_without_a_service(run: Any, fleet: Path) -> None:
    (fleet / "traffic" / "chatt.csv").write_text("time\n1\n")

    code, out, err = plan(run, fleet)

    assert (code, out) == (1, "")
    assert err.startswith(heading("PLN002", f"{fleet}/traffic/chatt.csv"))
    assert "fix: name the file after a service: chat, search" in err


def test_names_that_overlap(run: Any, fleet: Path) -> None:
    (fleet / "specs" / "other.yaml").write_text(SPEC.format(name="chat", low=1))
    (fleet / "traffic" / "search.csv").write_text("time\n1\n")

    code, out, err = plan(run, fleet)

    assert (code, out) == (1, "")
    assert heading("PLN003", f"{fleet}/specs/other.yaml:4 metadata.name") in err
    assert heading("PLN003", f"{fleet}/traffic/search.shape") in err


def test_a_pool_without_room_for_a_replica(run: Any, fleet: Path) -> None:
    spec = fleet / "specs" / "chat.yaml"
    spec.write_text(spec.read_text().replace("gpuDevicesRequest: 1", "gpuDevicesRequest: 8"))

    code, out, err = plan(run, fleet)

    assert (code, out) == (1, "")
    assert err.startswith(heading("PLN004", f"{spec}:7 spec.compute"))


def test_a_pool_that_the_profile_does_not_have(run: Any, fleet: Path) -> None:
    code, out, err = run("plan", fleet / "specs", "--traffic", fleet / "traffic", "--pool", "h100=4")

    assert (code, out) == (1, "")
    assert err.startswith(heading("PLN005", "full"))
    assert "fix: use one of its node pools: default" in err


def test_logs_of_different_times(run: Any, fleet: Path) -> None:
    (fleet / "traffic" / "chat.shape").unlink()
    (fleet / "traffic" / "chat.csv").write_text("time\n2026-11-05T00:00:00Z\n2026-11-05T00:01:00Z\n")

    code, out, err = plan(run, fleet)

    assert (code, out) == (1, "")
    assert err.startswith(heading("PLN006", f"{fleet}/traffic/chat.csv"))


def test_prices_are_those_of_the_node_pools(run: Any, fleet: Path) -> None:
    words = ("--price", "default=2.5", "--changes", "1")
    _, text, _ = plan(run, fleet, *words)
    _, out, _ = plan(run, fleet, "-o", "json", *words)

    report = json.loads(out)
    hours = sum(service["gpuHours"] for service in report["pool"]["services"])
    assert report["pool"]["cost"] == pytest.approx(2.5 * hours, abs=0.001)
    # The pool is paid for, used or not.
    gpu_hours = 4 * report["seconds"] / 3600
    assert report["pool"]["poolGpuHours"] == pytest.approx(gpu_hours, abs=0.001)
    assert report["pool"]["poolCost"] == pytest.approx(2.5 * gpu_hours, abs=0.001)
    assert report["pool"]["usedShare"] == pytest.approx(hours / gpu_hours, abs=0.01)
    assert f"cost of the pool {2.5 * gpu_hours:,.2f} " in " ".join(text.split())
    (change,) = report["changes"]
    assert change["poolCost"] == pytest.approx(2.5 * change["smallestPool"] * report["seconds"] / 3600, abs=0.001)
    assert text.endswith(f"   {change['poolCost'] - report['smallestPool']['poolCost']:+,.2f}\n")


def test_the_profile_has_the_prices_that_the_command_line_does_not_name(run: Any, fleet: Path) -> None:
    _, profile, _ = load_profile_with_data("full")
    spec = {**profile["spec"], "prices": {"currency": "EUR", "gpuHour": {"default": 2.0}}}
    (fleet / "profile.yaml").write_text(yaml.safe_dump({**profile, "spec": spec}))
    words = ("-o", "json", "--changes", "0", "--profile", str(fleet / "profile.yaml"))
    known, named = (json.loads(plan(run, fleet, *words, *more)[1]) for more in ((), ("--price", "default=4")))

    assert known["currency"] == "EUR"
    for name in ("cost", "poolCost"):
        assert known["pool"][name] > 0
        assert named["pool"][name] == pytest.approx(2 * known["pool"][name], abs=0.001)


def test_a_pool_without_a_price_leaves_no_cost_that_looks_complete(run: Any, fleet: Path) -> None:
    _, profile, _ = load_profile_with_data("full")
    pools = [*profile["spec"]["nodePools"], {**profile["spec"]["nodePools"][0], "name": "spare"}]
    (fleet / "profile.yaml").write_text(yaml.safe_dump({**profile, "spec": {**profile["spec"], "nodePools": pools}}))
    words = ("--changes", "0", "--profile", str(fleet / "profile.yaml"), "--pool", "spare=2x1", "--price", "default=2")
    _, text, _ = plan(run, fleet, *words)

    assert "no cost: node pool spare has no price in the profile, and no --price" in text
    assert "cost of the pools" not in text


def test_the_page_needs_no_network_and_shows_what_binds(run: Any, fleet: Path) -> None:
    code, out, err = plan(run, fleet, "-o", "html", "--changes", "0", gpus=2)

    assert (code, err) == (0, "")
    assert "not modeled: network, NUMA, " in out
    assert "://" not in out.replace("http://www.w3.org/2000/svg", "")
    data = json.loads(out.split('type="application/json">')[1].split("</script>")[0])
    pool, _, waits, reasons = data["charts"]
    assert (pool["stacked"], waits["title"]) == (True, "GPUs that pods wait for")
    assert "the pool has no free GPU" in {name for _, _, name in reasons["spans"]}
    assert reasons["spans"][-1][1] == data["end"]


def test_the_services_of_a_cluster_are_planned_with_their_recorded_requests(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EBBTIDE_PROFILE")
    code, out, err = run("--demo", "plan", "--live", "-A", "--changes", "0", "-o", "json")

    report = json.loads(out)
    assert code == 0, err
    assert {"chat", "rank", "search", "vision"} <= {service["name"] for service in report["pool"]["services"]}
    nightly = next(service for service in report["pool"]["services"] if service["name"] == "nightly")
    assert nightly["requests"] == 0
    assert nightly["gpuHours"] == pytest.approx(0.25 * report["seconds"] / 3600, rel=0.01)
    assert any(note.startswith("nightly has no requests: ") for note in report["notes"])
    assert sum(service["requests"] for service in report["pool"]["services"]) > 100


def test_a_folder_is_planned_with_the_requests_of_a_cluster(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EBBTIDE_PROFILE")
    (tmp_path / "chat.yaml").write_text(
        SPEC.format(name="chat", low=1)
        .replace("  name: chat", "  name: chat\n  namespace: team-a")
        .replace("compute:", "nodePools: [whole]\n  compute:")
    )

    words = ("--traffic", "prometheus", "--pool", "whole=2", "--changes", "0", "-o", "json")
    code, out, err = run("--demo", "plan", tmp_path, *words)

    report = json.loads(out)
    assert code == 0, err
    assert [service["name"] for service in report["pool"]["services"]] == ["chat"]
    assert report["pool"]["services"][0]["requests"] > 10


def test_a_namespace_without_recorded_requests(run: Any) -> None:
    code, out, err = run("--demo", "plan", "--live", "-n", "knative-serving")

    assert (code, out) == (1, "")
    assert "error PLN001 input\n    no service has recorded requests: none was found\n" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "set a folder of specs, or --live"),
        (("specs", "--live"), "set a folder of specs, or --live"),
        (("--live", "--write"), "--write needs a folder of specs: remove --live"),
        (("specs",), "set --traffic and --pool, or --live"),
    ],
)
def test_options_that_do_not_fit_together(run: Any, words: tuple[str, ...], message: str) -> None:
    code, out, err = run("plan", *words)

    assert (code, out, err) == (2, "", f"ebbtide plan: error: {message}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--what-if", "chat"), "--what-if: invalid value 'chat': must be as in chat*2"),
        (("--what-if", "chatt*2"), "--what-if: no service chatt; services: chat, search"),
        (("--training", "many"), "--training: invalid value 'many': must be as in 4xh100,preemptible"),
        (("--training", "4xh100"), "--training: --pool has no h100"),
        (("--price", "default"), "--price: invalid value 'default': must be as in h100=2.5"),
        (("--price", "h100=2"), "--price: --pool has no h100"),
        (("--pool", "default"), "--pool: invalid value 'default': must be as in h100=2x8, or h100=16"),
        (("--pool", "default=0"), "--pool: invalid value 'default=0': must be as in h100=2x8, or h100=16"),
        (("--pool", "default=0x8"), "--pool: invalid value 'default=0x8': must be as in h100=2x8, or h100=16"),
    ],
)
def test_an_invalid_option_is_a_usage_error(run: Any, fleet: Path, words: tuple[str, ...], message: str) -> None:
    code, out, err = plan(run, fleet, *words)

    assert (code, out) == (2, "")
    assert f"{message}\n" in err
