"""The fake GPU exporter and language model measure as the real ones do: with others, a case of the suite passes wrongly."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import subprocess
import tarfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, TYPE_CHECKING, Any

import pytest

from e2e.images import Image, write
from e2e.paths import CACHE
from e2e.servers import images
from ebbtide.core.base.engine_metrics import find_engine_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


# The registry


@needs_go
@pytest.mark.skipif(shutil.which("zstd") is None, reason="layers are compressed with zstd")
def test_an_image_of_the_registry_has_the_same_files_and_no_layer_of_the_archive(tmp_path: Path) -> None:
    """Otherwise a node that has the archive's image would pull less."""
    registries = pytest.importorskip("e2e.registry", reason="the packages of the suite are not installed")
    (tmp_path / "program").write_text("hello")
    archive = tmp_path / "image.tar"
    write(Image("ebbtide.local/x:v1", ["/program"], {"/program": tmp_path / "program"}), archive)
    with tarfile.open(archive) as tar:
        (described,) = json.load(read_member(tar, "manifest.json"))
        config = json.load(read_member(tar, described["Config"]))
        archived = [read_member(tar, layer).read() for layer in described["Layers"]]

    with running("registry", DATA=str(tmp_path / "data")) as server:
        registry = registries.Registry(stage=None, node="", address=f"http://127.0.0.1:{server.port}")
        name, _, digest = registry.push(archive, "e2e/x").partition("@")
        manifest = json.loads(read_blob(server, f"manifests/{digest}"))
        layers = [read_blob(server, f"blobs/{layer['digest']}") for layer in manifest["layers"]]
        pushed = json.loads(read_blob(server, f"blobs/{manifest['config']['digest']}"))

    assert name == "localhost:5000/e2e/x"
    assert pushed["config"] == config["config"]
    assert pushed["rootfs"]["diff_ids"][1:] == config["rootfs"]["diff_ids"]
    assert not {*layers} & {*archived}
    unpacked = [
        subprocess.run(["zstd", "-dc"], input=layer, capture_output=True, check=True).stdout for layer in layers[1:]
    ]
    hashes = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (layers[0], *unpacked)]
    assert hashes == pushed["rootfs"]["diff_ids"]


def read_member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    assert stream is not None
    return stream


def read_blob(server: Server, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", f"/v2/e2e/x/{path}")
        response = connection.getresponse()
        assert response.status == 200
        return response.read()
    finally:
        connection.close()
