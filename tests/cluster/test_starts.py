"""The phases of a start, on recorded pods, with events and log lines in the form that Kubernetes and the engines write them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import situations
from ebbtide.cluster.client.protocol import ForbiddenError
from ebbtide.cluster.read.engine_logs import PATTERNS, read_engine_log
from ebbtide.cluster.read.inventory import format_timestamp, parse_timestamp
from ebbtide.cluster.read.pods import describe_startup
from ebbtide.cluster.read.starts import (
    compute_recorded_start,
    describe_node_wait,
    list_start_seconds,
    read_starts,
    tabulate_starts,
)
from ebbtide.cluster.read.status import compute_status
from ebbtide.cluster.slo.source import StartTimes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.read.starts import PodStart

#: Two processes of vLLM, of which the slower one counts. The node writes the time of its time zone.
VLLM = """\
2026-11-24T23:01:10.100000001+02:00 INFO 11-24 21:01:10 [weight_utils.py:581] Time spent downloading weights for a/b: 20.000000 seconds
2026-11-24T23:01:20.2+02:00 (Worker_TP0 pid=9) INFO 11-24 21:01:20 [default_loader.py:384] Loading weights took 9.50 seconds
2026-11-24T23:01:20.3+02:00 (Worker_TP1 pid=10) INFO 11-24 21:01:20 [default_loader.py:384] Loading weights took 10.00 seconds
2026-11-24T23:01:40+02:00 (EngineCore pid=8) INFO 11-24 21:01:40 [monitor.py:53] torch.compile took 15.25 s in total
2026-11-24T23:01:48+02:00 (EngineCore pid=8) INFO 11-24 21:01:48 [gpu_model_runner.py:6971] Graph capturing finished in 8 secs, took 0.31 GiB
2026-11-24T23:01:50+02:00 (APIServer pid=1) INFO:     Application startup complete.
""".splitlines()


def started(name: str = "running", *, at: str = "2026-11-24T21:00:00Z", **seconds: float) -> dict[str, Any]:
    """A recording whose only pod was created at a time; ``seconds`` are those of its steps after it."""
    recording = deepcopy(situations.data(name))
    (pod,) = recording["pods"]
    created = parse_timestamp(at)
    pod["metadata"]["creationTimestamp"] = at
    for row in pod["status"]["conditions"]:
        after = seconds["scheduled"] if row["type"] in {"PodScheduled", "Initialized"} else seconds["ready"]
        row["lastTransitionTime"] = format_timestamp(created + after)
    for row in pod["status"]["containerStatuses"]:
        row["state"] = {"running": {"startedAt": format_timestamp(created + seconds["started"])}}
    recording["now"] = created + 3600
    return recording


def event(recording: dict[str, Any], reason: str, message: str, time: str) -> None:
    involved = {"kind": "Pod", "name": recording["pods"][0]["metadata"]["name"]}
    row = {"reason": reason, "message": message, "involvedObject": involved, "metadata": {"name": "e"}}
    recording.setdefault("events", []).append({**row, "firstTimestamp": time, "lastTimestamp": "2026-11-24T21:50:00Z"})


def only(live: LiveWorkload, *lines: str) -> PodStart:
    (start,) = read_starts(lambda *_, **__: lines, live, 10)
    return start


def phases(start: PodStart) -> dict[str, float]:
    return {phase.name: round(phase.seconds, 2) for phase in start.phases}


@pytest.mark.parametrize("name", situations.NAMES)
def test_the_phases_of_a_recorded_pod_are_its_whole_start(name: str) -> None:
    live = situations.read(name)

    for start in read_starts(lambda *_, **__: [], live, 10):
        total = live.now - start.created if start.seconds is None else start.seconds
        assert sum(phase.seconds for phase in start.phases) == pytest.approx(total)
        assert [phase.running for phase in start.phases] == [False] * (len(start.phases) - 1) + [start.seconds is None]


def test_a_pod_that_restarted_has_no_start() -> None:
    assert read_starts(lambda *_, **__: [], situations.read("crashing"), 10) == []


def test_a_server_that_only_says_that_it_listens_is_not_divided() -> None:
    live = situations.live(started(scheduled=2, started=50, ready=115))

    assert phases(only(live, VLLM[-1])) == {"scheduling": 2, "image": 48, "server": 60, "readiness": 5}


def test_a_pod_that_is_deleted_and_no_longer_ready_has_no_start() -> None:
    recording = started(scheduled=2, started=50, ready=115)
    (pod,) = recording["pods"]
    pod["metadata"]["deletionTimestamp"] = "2026-11-24T21:30:00Z"
    assert only(situations.live(recording)).seconds == 115

    next(row for row in pod["status"]["conditions"] if row["type"] == "Ready")["status"] = "False"

    assert read_starts(lambda *_, **__: [], situations.live(recording), 10) == []


def test_a_start_is_divided_by_events_and_by_the_lines_of_the_engine() -> None:
    recording = started(scheduled=2, started=50, ready=115)
    pulled = 'Successfully pulled image "x/vllm:1" in 30.5s (40.25s including waiting). Image size: 9876543210 bytes.'
    event(recording, "Pulled", pulled, "2026-11-24T21:00:44Z")
    event(recording, "Pulled", 'Container image "queue:1" already present on machine', "2026-11-24T21:00:46Z")

    start = only(situations.live(recording), *VLLM)

    assert phases(start) == {
        "scheduling": 2,
        "image": 40.25,
        "init": 7.75,
        "weights": 30,
        "engine": 30,
        "readiness": 5,
    }
    assert start.seconds == 115
    assert start.image_present is False
    assert start.steps == {"download": 20, "weights": 10, "compile": 15.25, "graphs": 8}


def test_weights_that_kserve_downloads_are_a_phase_with_those_that_the_engine_loads() -> None:
    recording = started(scheduled=1, started=60, ready=115)
    times = {"startedAt": "2026-11-24T21:00:10Z", "finishedAt": "2026-11-24T21:00:55Z"}
    ended = {"name": "storage-initializer", "restartCount": 0, "state": {"terminated": times}}
    recording["pods"][0]["status"]["initContainerStatuses"] = [ended]
    event(recording, "Pulled", 'Container image "x" already present on machine and can be accessed', times["startedAt"])

    start = only(situations.live(recording), *VLLM)

    assert phases(start) == {"scheduling": 1, "image": 0, "init": 14, "weights": 75, "engine": 20, "readiness": 5}
    assert start.image_present is True


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 1->2 (max: 4)}]"),
        ("Nominated", "Pod should schedule on: nodeclaim/gpu-x2v"),
    ],
)
def test_a_node_that_an_autoscaler_starts_is_a_phase(reason: str, message: str) -> None:
    recording = started(scheduled=125, started=130, ready=140)
    event(recording, reason, message, "2026-11-24T21:00:05Z")

    assert phases(only(situations.live(recording))) == {"scheduling": 5, "node": 120, "image": 5, "server": 10}


def test_a_pod_that_karpenter_moves_to_a_node_that_exists_waits_for_no_node() -> None:
    recording = started(scheduled=3, started=5, ready=9)
    event(recording, "Nominated", "Pod should schedule on: node/ip-10-0-0-1", "2026-11-24T21:00:01Z")

    assert "node" not in phases(only(situations.live(recording)))


def test_a_node_that_karpenter_starts_to_replace_that_of_a_running_pod_is_no_phase() -> None:
    recording = started(scheduled=3, started=5, ready=9)
    moved = "Pod should schedule on: nodeclaim/h100-wvbbg, node/kwok-h100-wvbbg-1"
    event(recording, "Nominated", moved, "2026-11-24T21:30:00Z")

    assert "node" not in phases(only(situations.live(recording)))


def test_a_start_in_progress_has_the_phase_that_runs() -> None:
    live = situations.read("starting-slowly")

    header, *rows = tabulate_starts(read_starts(lambda *_, **__: [], live, 1))

    assert header == ("POD", "SECONDS", "SCHEDULING", "IMAGE", "SERVER")
    assert rows == [("slow-00001-deployment-769667cd8-dn5kq", "starting", "1.0", "1.0", "20.0...")]


@pytest.mark.parametrize("has_ended", [False, True])
def test_the_pull_of_the_server_after_the_download_of_the_weights_is_the_phase_that_runs(*, has_ended: bool) -> None:
    recording = started(scheduled=0, started=60, ready=115)
    (pod,) = recording["pods"]
    times = {"startedAt": "2026-11-24T21:00:10Z", "finishedAt": "2026-11-24T21:00:55Z"}
    ended = {"name": "storage-initializer", "restartCount": 0, "state": {"terminated": times}}
    pod["status"]["initContainerStatuses"] = [ended]
    for row in pod["status"]["containerStatuses"]:
        row |= {"state": {"waiting": {"reason": "PodInitializing"}}, "ready": False}
    next(row for row in pod["status"]["conditions"] if row["type"] == "Ready")["status"] = "False"
    recording["now"] = parse_timestamp("2026-11-24T21:01:30Z")
    event(recording, "Pulled", 'Container image "init:1" already present on machine', "2026-11-24T21:00:10Z")
    event(recording, "Pulling", 'Pulling image "x/vllm:1"', "2026-11-24T21:00:55Z")
    if has_ended:
        event(
            recording,
            "Pulled",
            'Successfully pulled image "x/vllm:1" in 30s (30s including waiting)',
            "2026-11-24T21:01:25Z",
        )

    start = only(situations.live(recording))

    pull, running = (30, "weights") if has_ended else (35, "image")
    assert phases(start) == {"scheduling": 0, "image": pull, "init": 45 - pull, "weights": 45}
    assert [phase.name for phase in start.phases if phase.running] == [running]
    assert start.image_present is False


def test_a_log_that_may_not_be_read_leaves_the_phases_of_the_objects() -> None:
    def refuse(*_: Any, **__: Any) -> Iterator[str]:
        raise ForbiddenError("no logs for you")

    live = situations.read("running")

    assert read_starts(refuse, live, 1) == read_starts(lambda *_, **__: [], live, 1)


def test_what_kube_state_metrics_records_is_a_start_of_three_phases() -> None:
    times = StartTimes("chat-1", 1000.0, scheduled=1002.0, initialized=1003.0, started=1010.0, ready=1050.0)

    assert phases(compute_recorded_start(times)) == {"scheduling": 2, "image": 8, "server": 40}
    assert phases(compute_recorded_start(times._replace(started=0.0))) == {"scheduling": 2, "image": 1, "server": 47}
    assert compute_recorded_start(times).seconds == 50


def test_a_clock_of_a_node_that_is_late_gives_no_negative_phase() -> None:
    recording = started(scheduled=10, started=8, ready=9)

    start = only(situations.live(recording), "2020-01-01T00:00:00Z INFO:     Application startup complete.")

    assert min(phase.seconds for phase in start.phases) >= 0


LINES = {
    "vLLM download": "Time spent downloading weights for org/m: 17.034664 seconds",
    "vLLM weights": "[default_loader.py:272] Loading weights took 3.22 seconds",
    "vLLM compile": "[monitor.py:34] torch.compile takes 9.85 s in total",
    "vLLM graphs": "Graph capturing finished in 23 secs, took 0.51 GiB",
    "SGLang weights": "[2026-01-01 00:00:12 TP0] Load weight end. elapsed=6.19 s, type=X, avail mem=16.41 GB",
    "SGLang graphs": "Capture cuda graph end. Time elapsed: 7.00 s. mem usage=1.93 GB.",
    "SGLang listening": "The server is fired up and ready to roll!",
    "TGI weights": "INFO shard-manager: text_generation_launcher: Shard ready in 22.918174777s rank=0",
    "llama.cpp listening": "main: server is listening on http://0.0.0.0:8080 - starting the main loop",
    "Triton listening": "I1030 22:33:28.292879 1 http_server.cc:4497] Started HTTPService at 0.0.0.0:8000",
    "uvicorn listening": "INFO:     Application startup complete.",
}


def test_every_pattern_has_an_example() -> None:
    assert list(LINES) == [f"{row.engine} {row.step}" for row in PATTERNS]


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_recognized_as_its_step(name: str) -> None:
    engine, step = name.split()

    steps = read_engine_log([f"2026-11-24T21:00:00Z {LINES[name]}"])

    assert steps.engines == (engine,)
    assert [*steps.seconds] == ([] if step == "listening" else [step])
    assert bool(steps.listening) == (step == "listening")


def test_both_forms_of_vllms_compilation_are_read() -> None:
    together = "z torch.compile and initial profiling/warmup run together took 104.04 s in total"

    assert read_engine_log([together]).seconds == {"compile": 104.04}
    assert read_engine_log(["not-a-time INFO:     Application startup complete."]).listening == 0


def test_a_repeated_event_of_the_autoscaler_counts_from_its_first_time() -> None:
    recording = started(scheduled=125, started=130, ready=140)
    event(recording, "TriggeredScaleUp", "pod triggered scale-up: [{a 1->2}]", "2026-11-24T21:00:05Z")

    live = situations.live(recording)

    assert only(live) == only(replace(live, events=(*live.events, *live.events)))


def waiting_for_node(reason: str, message: str) -> LiveWorkload:
    """A pod that no node has room for, with an event of a node autoscaler 40 s ago."""
    recording = deepcopy(situations.data("gpu-waiting"))
    event(recording, reason, message, format_timestamp(recording["now"] - 40))
    return situations.live(recording)


def test_the_start_of_a_pod_that_exists_needs_no_log() -> None:
    live = situations.live(started(scheduled=1, started=2, ready=4))

    assert list_start_seconds(live, 10) == [4.0]
    (pod,) = live.pods
    pod["status"]["containerStatuses"][1]["restartCount"] = 1
    assert list_start_seconds(live, 10) == []


def test_the_status_says_how_long_a_pod_waits_for_a_node() -> None:
    live = waiting_for_node("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 1->2 (max: 4)}]")

    assert compute_status(live).why.startswith(
        "waiting for a node, 40 s, which the cluster autoscaler starts; waiting for a MIG slice 3g.40gb: "
    )


def test_the_expected_time_is_that_of_the_workload_s_other_pods() -> None:
    live = waiting_for_node("Nominated", "Pod should schedule on: nodeclaim/gpu-x2v")
    earlier = started(scheduled=125, started=130, ready=140)
    event(earlier, "Nominated", "Pod should schedule on: nodeclaim/gpu-a1b", "2026-11-24T21:00:05Z")
    pod = {**earlier["pods"][0], "metadata": {**earlier["pods"][0]["metadata"], "labels": {}}}

    both = replace(live, pods=(*live.pods, pod), events=(*live.events, *earlier["events"]))

    assert describe_node_wait(live.pods[0], both) == "waiting for a node, 40 s of about 120, which Karpenter starts"


def test_a_pod_for_which_no_node_can_be_started_names_the_reason() -> None:
    live = waiting_for_node("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")

    assert compute_status(live).why.startswith(
        "the cluster autoscaler starts no node for it: 1 max node group size reached; waiting for a MIG slice 3g.40gb: "
    )


def test_a_server_whose_startup_probe_does_not_succeed_yet_is_told_from_one_that_is_not_ready() -> None:
    recording = deepcopy(situations.data("starting-slowly"))
    (pod,) = situations.live(recording).pods
    assert describe_startup(pod).startswith("the server is starting: its readiness probe")

    # The kubelet reports a container without a startup probe as started.
    pod["status"]["containerStatuses"][1]["started"] = False

    assert describe_startup(pod) == "the server is starting: its startup probe does not succeed yet"


def test_a_log_of_a_tenant_takes_no_time_and_no_infinite_number() -> None:
    """A search without a bound takes minutes for a line of 1 MiB that repeats the beginning of a pattern."""
    for begin in ("Time spent downloading weights for ", "torch.compile and "):
        assert read_engine_log(["t " + begin * (2**20 // len(begin))]).engines == ()
    assert read_engine_log([f"t Loading weights took {'9' * 400} seconds"]).seconds == {}
