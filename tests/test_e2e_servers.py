"""The servers that the e2e cases deploy do what the cases rely on: the real programs, on loopback, without a cluster."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from e2e import paths
from e2e.paths import CACHE
from e2e.servers import images
from ebbtide.base.engine_metrics import find_engine_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).parent.parent / "e2e" / "servers"

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="the servers are built with Go")


class Server:
    """One of the programs, running on loopback ports that it chooses."""

    def __init__(self, name: str, **environment: str) -> None:
        program = images.program(name, CACHE, lambda _: None)
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [program], env={"HOST": "127.0.0.1", "PORT": "0", **environment}, stdout=subprocess.PIPE, text=True
        )
        self.port = self.port_of("listening")

    def port_of(self, name: str) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(rf"{name} on 127\.0\.0\.1:(\d+)\n", line)
        assert match, line
        return int(match[1])

    def ask(self, path: str, method: str = "GET", port: int = 0) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answer(self, path: str = "/") -> dict[str, Any]:
        status, body = self.ask(path)
        assert status == 200, body
        decoded: dict[str, Any] = json.loads(body)
        return decoded

    def metrics(self, port: int = 0) -> dict[str, float]:
        """Return the lines of /metrics by name and labels."""
        _, text = self.ask("/metrics", port=port)
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def running(name: str, **environment: str) -> Iterator[Server]:
    server = Server(name, **environment)
    try:
        yield server
    finally:
        server.stop()


# The load server


@needs_go
def test_load_says_who_answers() -> None:
    with running("load", POD_NAME="chat-1", K_REVISION="chat-00001") as server:
        response = server.answer("/v1/models/chat:predict")
    assert response["pod"] == "chat-1"
    assert response["revision"] == "chat-00001"
    assert response["path"] == "/v1/models/chat:predict"
    assert response["inFlight"] == response["maxInFlight"] == 1


@needs_go
def test_load_takes_as_long_as_it_is_told() -> None:
    with running("load", LATENCY="150ms") as server:
        assert server.answer()["workSeconds"] >= 0.15
        assert server.answer("/?sleep=10ms")["workSeconds"] < 0.15
        assert server.ask("/?sleep=soon")[0] == 400


@needs_go
def test_load_burns_cpu() -> None:
    def ticks() -> int:
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    if not Path("/proc/self/stat").exists():
        pytest.skip("a process's CPU time is read from /proc")
    with running("load") as server:
        before = ticks()
        server.answer("/?sleep=400ms")
        slept = ticks() - before
        assert server.answer("/?cpu=400ms")["workSeconds"] >= 0.4
        assert ticks() - before - slept > slept + 5, "a sleep takes no CPU, a burn takes 0.4 s less what others take"


@needs_go
def test_load_keeps_its_own_limit() -> None:
    with running("load", CONCURRENCY="2") as server, ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(server.answer, ["/?sleep=200ms"] * 6))
        assert {response["maxInFlight"] for response in responses} <= {1, 2}
        assert max(response["waitSeconds"] for response in responses) >= 0.35, "the last two wait for two others"


@needs_go
def test_load_has_no_limit_by_default() -> None:
    with running("load") as server, ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(server.answer, ["/?sleep=500ms"] * 6))
        assert max(response["inFlight"] for response in responses) == 6
        assert max(response["waitSeconds"] for response in responses) < 0.1


@needs_go
def test_load_tells_prometheus() -> None:
    with running("load", METRICS_PORT="0") as server:
        metrics_port = server.port_of("metrics")
        server.answer()
        assert server.ask("/set?queue_length=7", "PUT") == (204, "")
        expected = {
            "ebbtide_test_queue_length": 7,
            "ebbtide_test_requests_total": 1,
            "ebbtide_test_in_flight": 0,
            "ebbtide_test_queued": 0,
        }
        assert server.metrics() == expected
        assert server.metrics(metrics_port) == expected
        assert server.ask("/set?queue_length=much", "PUT")[0] == 400
        assert server.ask("/", port=metrics_port)[0] == 404, "no load on that port"


@needs_go
def test_load_listens_late() -> None:
    with running("load", START_DELAY="400ms") as server:
        assert time.monotonic() - server.started >= 0.4


@needs_go
def test_load_is_never_ready() -> None:
    with running("load", NEVER_READY="true") as server:
        assert server.ask("/ready")[0] == 503
        assert server.ask("/health")[0] == 200
        assert server.answer()["inFlight"] == 1


@needs_go
def test_load_drains() -> None:
    with running("load", DRAIN="500ms") as server, ThreadPoolExecutor(1) as pool:
        assert server.ask("/ready")[0] == 200
        long = pool.submit(server.answer, "/?sleep=1200ms")
        while server.metrics()["ebbtide_test_in_flight"] == 0:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "draining\n"
        assert server.ask("/ready")[0] == 503
        assert server.answer()["maxInFlight"] == 2, "new requests are still taken"
        assert long.result(timeout=20)["workSeconds"] >= 1.2, "a request in flight is finished"
        assert server.process.wait(timeout=20) == 0
        with pytest.raises(ConnectionRefusedError):
            server.ask("/")


@needs_go
def test_load_speaks_http2_without_tls() -> None:
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with running("load") as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        assert connection.recv(9)[3] == 4, "the first frame of an HTTP/2 server is SETTINGS"


@needs_go
def test_load_serves_files(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04")
    with running("load", FILES=str(tmp_path)) as server:
        assert server.ask("/files/model.zip") == (200, "PK\x03\x04")
        assert server.ask("/files/none")[0] == 404


@needs_go
@pytest.mark.parametrize("setting", ["LATENCY", "CONCURRENCY", "START_DELAY", "DRAIN", "NEVER_READY"])
def test_load_refuses_what_it_cannot_read(setting: str) -> None:
    program = images.program("load", CACHE, lambda _: None)
    done = subprocess.run([program], env={setting: "-x"}, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert setting in done.stderr


# The exporter


def pod(
    name: str,
    resource: str = "nvidia.com/gpu",
    count: int = 1,
    *,
    workload: str = "chat",
    ready: bool = True,
    going: bool = False,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "labels": {"serving.knative.dev/service": workload},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **({"deletionTimestamp": "2026-01-02T00:00:00Z"} if going else {}),
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": "user-container", "resources": {"limits": {"cpu": "1", resource: str(count)}}},
                {"name": "queue-proxy", "resources": {}},
            ],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


class Cluster:
    """A stand-in for the API server: it lists the pods that it is given, and remembers how it was asked."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.status = 200
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(json.dumps({"kind": "PodList", "items": outer.pods}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    fake_cluster = Cluster()
    yield fake_cluster
    fake_cluster.close()


def by_pod(server: Server, metric: str = "DCGM_FI_DEV_GPU_UTIL") -> dict[str, float]:
    """A metric's values by pod, and by device where there is none."""
    values: dict[str, float] = {}
    for line, value in server.metrics().items():
        if line.startswith(metric + "{"):
            labels = labels_of(line)
            values[labels.get("pod") or "idle " + labels["device"]] = value
    return values


def labels_of(line: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', line))


@needs_go
def test_exporter_has_the_labels_of_dcgm_exporter(cluster: Cluster) -> None:
    cluster.pods = [pod("chat-1")]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="2") as server:
        busy, idle = (labels_of(line) for line in server.metrics() if line.startswith("DCGM_FI_DEV_GPU_UTIL"))
    device = ["gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname"]
    assert list(busy) == [*device, "container", "namespace", "pod"]
    assert list(idle) == device, "an idle GPU is no pod's"
    assert (busy["container"], busy["namespace"], busy["pod"]) == ("user-container", "team", "chat-1")
    assert busy["Hostname"] == idle["Hostname"] == "node-1"
    assert busy["UUID"] != idle["UUID"]
    assert cluster.asked == ["/api/v1/pods?fieldSelector=status.phase%3DRunning"]


@needs_go
def test_exporter_can_name_the_host_as_newer_ones_do(cluster: Cluster) -> None:
    with running("gpu-exporter", API_SERVER=cluster.address, HOSTNAME_LABEL="hostname", NODE_NAME="node-1") as server:
        lines = list(server.metrics())
    assert len(lines) == 12, "three metrics of four idle devices, before any pod asks"
    assert all(labels_of(line)["hostname"] == "node-1" for line in lines)


@needs_go
@pytest.mark.parametrize(
    ("pods", "expected"),
    [(1, 100), (2, 100), (3, 80), (4, 60)],
    ids=str,
)
def test_exporter_shares_the_work(cluster: Cluster, pods: int, expected: float) -> None:
    cluster.pods = [pod(f"chat-{number}") for number in range(pods)] + [pod("other", workload="summary")]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="1") as server:
        assert server.ask("/load?namespace=team&workload=chat&total=240", "PUT") == (204, "")
        assert by_pod(server) == {**{f"chat-{number}": expected for number in range(pods)}, "other": 0}


@needs_go
def test_exporter_gives_each_pod_the_same_load(cluster: Cluster) -> None:
    cluster.pods = [pod("chat-0"), pod("chat-1")]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="1") as server:
        server.ask("/load?namespace=team&workload=chat&each=90", "PUT")
        assert by_pod(server) == {"chat-0": 90, "chat-1": 90}
        assert by_pod(server, "DCGM_FI_PROF_GR_ENGINE_ACTIVE") == {"chat-0": 0.9, "chat-1": 0.9}
        server.ask("/load", "DELETE")
        assert by_pod(server) == {"chat-0": 0, "chat-1": 0}


@needs_go
def test_exporter_loads_only_pods_that_serve(cluster: Cluster) -> None:
    cluster.pods = [pod("chat-0"), pod("loading", ready=False), pod("going", going=True)]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="1") as server:
        server.ask("/load?namespace=team&workload=chat&total=60", "PUT")
        assert by_pod(server) == {"chat-0": 60, "loading": 0, "going": 0}
        server.ask("/load?namespace=elsewhere&workload=chat&total=90", "PUT")
        assert by_pod(server)["chat-0"] == 60, "a workload is its namespace's"


@needs_go
def test_exporter_spreads_a_pods_work_over_its_devices(cluster: Cluster) -> None:
    cluster.pods = [pod("chat-0", "nvidia.com/gpu", 2)]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="1") as server:
        server.ask("/load?namespace=team&workload=chat&total=150", "PUT")
        values = [value for line, value in server.metrics().items() if line.startswith("DCGM_FI_DEV_GPU_UTIL")]
    assert values == [75, 75]


@needs_go
def test_exporter_tells_shared_devices_by_process(cluster: Cluster) -> None:
    cluster.pods = [pod(f"chat-{number}", "nvidia.com/gpu.shared", 1) for number in range(5)]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="2", SHARES="4") as server:
        server.ask("/load?namespace=team&workload=chat&each=20", "PUT")
        lines = [labels_of(line) for line in server.metrics() if line.startswith("DCGM_FI_DEV_GPU_UTIL")]
        assert [labels["gpu"] for labels in lines] == ["0", "0", "0", "0", "1"]
        assert set(by_pod(server).values()) == {20}
        assert by_pod(server, "DCGM_FI_PROF_GR_ENGINE_ACTIVE")["chat-0"] == 0.8, "the device's, copied to each pod"


@needs_go
def test_exporter_tells_mig_instances_apart(cluster: Cluster) -> None:
    cluster.pods = [
        pod("chat-0", "nvidia.com/mig-3g.40gb", 1),
        pod("chat-1", "nvidia.com/mig-3g.40gb", 1),
        pod("chat-2", "nvidia.com/mig-1g.10gb.me", 2),
    ]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="1") as server:
        server.ask("/load?namespace=team&workload=chat&each=50", "PUT")
        metrics = server.metrics()
    places = {
        (labels["pod"], labels["gpu"], labels["GPU_I_PROFILE"], labels["GPU_I_ID"])
        for labels in (labels_of(line) for line in metrics if line.startswith("DCGM_FI_PROF_GR_ENGINE_ACTIVE"))
    }
    assert places == {
        ("chat-0", "0", "3g.40gb", "1"),
        ("chat-1", "0", "3g.40gb", "2"),
        ("chat-2", "0", "1g.10gb+me", "3"),
        ("chat-2", "1", "1g.10gb+me", "1"),
    }
    assert {value for line, value in metrics.items() if "GR_ENGINE_ACTIVE" in line} == {0.5}
    assert not [line for line in metrics if line.startswith("DCGM_FI_DEV_GPU_UTIL")], "MIG has no such metric"


@needs_go
def test_exporter_leaves_a_pod_its_device(cluster: Cluster) -> None:
    cluster.pods = [pod("chat-0"), pod("chat-1")]
    with running("gpu-exporter", API_SERVER=cluster.address, GPUS="2") as server:

        def devices() -> dict[str, str]:
            lines = [labels_of(line) for line in server.metrics() if line.startswith("DCGM_FI_DEV_GPU_UTIL")]
            return {labels.get("pod", "idle"): labels["gpu"] for labels in lines}

        assert devices() == {"chat-0": "0", "chat-1": "1"}
        cluster.pods = [pod("chat-1")]
        assert devices() == {"chat-1": "1", "idle": "0"}
        cluster.pods = [pod("chat-1"), pod("chat-2")]
        assert devices() == {"chat-1": "1", "chat-2": "0"}


@needs_go
def test_exporter_shows_what_it_does(cluster: Cluster) -> None:
    cluster.pods = [pod("chat-0")]
    with running("gpu-exporter", API_SERVER=cluster.address) as server:
        server.ask("/load?namespace=team&workload=chat&total=30", "PUT")
        _, body = server.ask("/load")
    assert json.loads(body) == [{"namespace": "team", "pod": "chat-0", "serving": True, "percent": 30, "gpus": [0]}]


@needs_go
def test_exporter_says_what_is_wrong(cluster: Cluster) -> None:
    cluster.status = 403
    with running("gpu-exporter", API_SERVER=cluster.address) as server:
        status, body = server.ask("/metrics")
        assert status == 503
        assert "403" in body
        for query in (
            "",
            "namespace=team&workload=chat",
            "namespace=team&workload=chat&total=1&each=1",
            "workload=chat&total=1",
        ):
            assert server.ask(f"/load?{query}", "PUT")[0] == 400, query


# gRPC


@needs_go
def test_grpc_checks_its_health_and_echoes() -> None:
    with running("grpc", POD_NAME="chat-1", K_REVISION="chat-00001") as server:
        program = images.program("grpc", CACHE, lambda _: None)
        command = [str(program), "call", f"127.0.0.1:{server.port}", "chat.team.example", "hi"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (0, "SERVING\nhi chat-1 chat-00001\n"), done.stderr


# The model


def test_model_names_types_of_content(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("magika", reason="the model is in the image alone: requirements.txt of e2e/servers/model")
    kserve = pytest.importorskip("kserve", reason="the SDK's metadata stops at Python 3.12")
    # The SDK reads the command line when it is imported.
    monkeypatch.setattr(sys, "argv", ["server"])
    from e2e.servers.model import server  # noqa: PLC0415

    model = server.FileTypes("types", None)
    assert model.load()
    shell, png = (
        "#!/bin/bash\nset -e\nfor i in 1 2; do echo $i; done\n",
        {"b64": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"},
    )
    predicted = model.predict({"instances": [shell, png]})
    assert isinstance(predicted, dict)
    assert [prediction["label"] for prediction in predicted["predictions"]] == ["shell", "png"]
    request = kserve.InferRequest("types", [kserve.InferInput("content", [1], "BYTES", [shell])])
    inferred: Any = model.predict(request)
    assert inferred.to_dict()["outputs"][0]["data"] == ["shell"]
    for wrong in ({"instances": [3]}, {"instances": "text"}, {}, b"x"):
        with pytest.raises(kserve.errors.InvalidInput):
            model.predict(wrong)


# The language model


class Engine:
    """An engine whose tokens a test releases, with the chunks of llama.cpp's server."""

    def __init__(self) -> None:
        self.release = threading.Semaphore(0)
        self.given_up = threading.Event()
        self.bodies: list[Any] = []

    def handle_chat_completions(self, prompt: Any, callback: Any = None) -> Any:
        self.bodies.append(prompt)
        if not isinstance(prompt["messages"], list):
            raise ValueError("Expected 'messages' to be an array")  # noqa: TRY004 - as the real one
        if callback is None:
            return {"object": "chat.completion"}
        letters = ({"content": letter} for letter in "abc")
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}, *letters, {}]
        for delta in deltas:
            if delta.get("content"):
                assert self.release.acquire(timeout=20)
            if callback({"choices": [{"delta": delta}]}):
                self.given_up.set()
                return None
        return None

    def handle_metrics(self) -> str:
        return (
            "# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 7\n"
            "# TYPE llamacpp:tokens_predicted_total counter\nllamacpp:tokens_predicted_total 3\n"
            "# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 2\n"
            "# TYPE llamacpp:n_decode_total counter\nllamacpp:n_decode_total 9\n"
        )


@contextmanager
def language_model() -> Iterator[tuple[Engine, http.client.HTTPConnection]]:
    from e2e.servers.llm import server  # noqa: PLC0415 - of no other test

    engine = Engine()
    running_server = server.make_server(engine, 0)
    thread = threading.Thread(target=running_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", running_server.server_address[1], timeout=20)
    try:
        yield engine, connection
    finally:
        connection.close()
        running_server.shutdown()
        running_server.server_close()


def chat(connection: http.client.HTTPConnection, **fields: Any) -> http.client.HTTPResponse:
    body = {"messages": [], **fields}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


def scrape(connection: http.client.HTTPConnection) -> dict[str, float]:
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.replace('model_name="random"', "").replace("{}", ""): float(value) for name, value in samples}


def test_the_language_model_streams_each_token_when_it_is_made() -> None:
    with language_model() as (engine, connection):
        response = chat(connection, stream=True)
        assert response.getheader("Content-Type") == "text/event-stream"
        for letter in "abc":
            # The token is read while the engine holds the next one back.
            engine.release.release()
            while f'"{letter}"' not in (line := response.readline().decode()):
                assert line.startswith("data: {") or not line.strip()
        assert response.read().decode().endswith("data: [DONE]\n\n")
        assert engine.bodies == [{"cache_prompt": False, "messages": [], "stream": True}]
        metrics = scrape(connection)
        assert metrics["vllm:time_to_first_token_seconds_count"] == 1
        assert metrics["vllm:inter_token_latency_seconds_count"] == 2
        assert metrics["vllm:prompt_tokens_total"] == 7
        assert metrics["vllm:generation_tokens_total"] == 3
        assert metrics["vllm:num_requests_waiting"] == 2
        assert not [name for name in metrics if "n_decode" in name]


def test_the_language_model_measures_the_time_of_each_token() -> None:
    with language_model() as (engine, connection):
        start = time.perf_counter()
        response = chat(connection, stream=True)
        time.sleep(0.3)
        engine.release.release(3)
        response.read()
        took = time.perf_counter() - start
        metrics = scrape(connection)
        first = metrics["vllm:time_to_first_token_seconds_sum"]
        assert 0.25 < first < took
        assert metrics["vllm:inter_token_latency_seconds_sum"] <= took - first


def test_the_language_model_gives_up_a_request_without_its_client() -> None:
    with language_model() as (engine, connection):
        response = chat(connection, stream=True)
        response.close()
        connection.close()
        for _ in range(3):
            engine.release.release()
            time.sleep(0.05)
        assert engine.given_up.wait(20)


def test_the_language_model_answers_whole_and_refuses() -> None:
    with language_model() as (_, connection):
        response = chat(connection)
        assert (response.status, json.loads(response.read())) == (200, {"object": "chat.completion"})
        response = chat(connection, stream=True, messages=3)
        assert (response.status, b"an array" in response.read()) == (400, True)
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["data"][0]["id"]) == (200, "random")
        connection.request("POST", "/v1/embeddings", "{}")
        assert connection.getresponse().status == 404


def test_the_language_model_has_names_and_bounds_of_the_table() -> None:
    from e2e.servers.llm import server  # noqa: PLC0415 - of no other test

    vllm = find_engine_metrics("vLLM")
    assert vllm is not None
    with language_model() as (_, connection):
        names = set(scrape(connection))
    for histogram, bounds in (
        (vllm.first_token[0], server.FIRST_BOUNDS),
        (vllm.inter_token[0], server.BETWEEN_BOUNDS),
    ):
        assert f"{histogram.series}_count" in names
        assert histogram.bounds == bounds
    assert {*vllm.prompt_tokens, *vllm.output_tokens, *vllm.waiting} <= names


def test_the_language_model_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the writer is in the image alone: requirements.txt of e2e/servers/llm")
    from e2e.servers.llm import model  # noqa: PLC0415 - needs the writer

    files = [tmp_path / "first.gguf", tmp_path / "second.gguf"]
    for file in files:
        model.write(file)
    assert files[0].read_bytes() == files[1].read_bytes()


# Manifests


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_the_exporter_is_what_our_monitor_selects() -> None:
    manifests = SERVERS / "gpu-exporter" / "manifests"
    monitor = documents(paths.ROOT / "kustomize" / "metrics" / "monitors" / "dcgm-exporter.yaml")[0]["spec"]
    (service,) = documents(manifests / "service.yaml")
    (deployment,) = documents(manifests / "deployment.yaml")
    template = deployment["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["containers"][0]["image"] == images.image("gpu-exporter")
    listed = yaml.safe_load((manifests / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in manifests.iterdir())


def test_the_runtime_starts_the_model_server() -> None:
    (runtime,) = documents(SERVERS / "model" / "runtime.yaml")
    (container,) = runtime["spec"]["containers"]
    assert container["image"] == images.image("model")
    assert container["name"] == "kserve-container", "KServe knows the model server by this name"
