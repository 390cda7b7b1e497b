"""Seconds of a start with and without a copy of the weights on a claim, on the cluster of the end-to-end tests.

    make cluster-up SOURCE=built
    python tools/bench/starts.py --kubeconfig .cluster/kubeconfig --gigabytes 1 8 --repeat 3

The models are that of the case 15-kserve, and files of zeros that an engine of a few lines reads from start to end, and logs
the seconds as vLLM does. Without a cluster, --local measures the parts of the weights only: the same initializer, script and reads on this machine.

    python tools/bench/starts.py --local "PYTHON .../kserve/python/storage-initializer/scripts/initializer-entrypoint" --folder /var/tmp

A server in the cluster has them: it serves holes of a file, so that no disk limits it. KServe's storage initializer
downloads them at each start, the Job of ``start.weights`` once, or KServe's agent for ``start.modelCache`` once. A start is that of a pod that replaces a deleted one, in the phases
of ``ebbtide start``; its claim or cache is a folder of the node, whose file is removed from the node's memory (``disk``) or read
(``memory``) before. Everything is in one namespace, which the tool deletes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from ebbtide.core.translation import start

ROOT: Final = Path(__file__).resolve().parents[2]
NAMESPACE: Final = "start-bench"
IMAGE: Final = "ebbtide.local/e2e/storage-initializer:v1"
STORE: Final = "ebbtide.local/e2e/store:v1"
PYTHON: Final = "/usr/bin/python3.11"
FOLDER: Final = "/var/lib/start-bench"
#: The folder of KServe's agent on a node, and the group of nodes (e2e/install/kserve.py).
CACHE_FOLDER: Final = "/models"
NODE_GROUP: Final = "e2e"
NAME: Final = "weights"
WAIT_SECONDS: Final = 900
#: The suite's model, in its own runtime, and its bytes in the archive that is downloaded.
SUITE: Final = "suite"
SERVER: Final = """
import http.server, os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
began, buffer = time.monotonic(), bytearray(1 << 24)
for folder, _, names in os.walk("/mnt/models"):
    for name in names:
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
print(f"Loading weights took {time.monotonic() - began:.2f} seconds", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.ThreadingHTTPServer(("", 8080), Handler)
print("Application startup complete.", flush=True)
server.serve_forever()
"""
EVICT: Final = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        file = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
"""
READ: Final = """
import os, sys
buffer = bytearray(1 << 24)
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
"""
#: The two states of a copy before a start, and the program that makes them.
WAYS: Final = {"from the disk": EVICT, "from the node's memory": READ}
#: The copies of the weights, and the folder of each in the pod ``tools``; an empty one has no copy.
COPIES: Final = {"download": "", "claim": "/disk", "model cache": "/cache"}
FETCH: Final = """
import sys, time, urllib.request
began, size = time.monotonic(), 0
with urllib.request.urlopen(sys.argv[1]) as answer:
    while part := answer.read(1 << 20):
        size += len(part)
print(size / (time.monotonic() - began) / 1e6)
"""


class Row(NamedTuple):
    """One line of the table: medians of the seconds of starts."""

    weights: str
    way: str
    starts: int
    total: float
    least: float
    most: float
    phases: dict[str, float]


class Bench:
    """The namespace on the cluster, and the commands that change it."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.profile = folder / "profile.yaml"
        profile = yaml.safe_load((ROOT / "e2e/profile.yaml").read_text())
        profile["spec"]["kserve"]["storageInitializer"] = IMAGE
        self.profile.write_text(yaml.safe_dump(profile))

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        command = [self.options.kubectl, "--kubeconfig", self.options.kubeconfig, *words]
        return self._run(command, stdin)

    def ebbtide(self, *words: str, stdin: str | None = None) -> str:
        return self._run([sys.executable, "-m", "ebbtide", *words], stdin)

    def _run(self, command: list[str], stdin: str | None) -> str:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        told = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(told))

    def execute(self, *command: str) -> str:
        """Run a program on the node's disk, as root."""
        return self.kubectl("exec", "-n", NAMESPACE, "tools", "--", *command)

    def read_pods(self) -> list[dict[str, Any]]:
        """Return the pods of the model that are not being deleted."""
        label = f"serving.knative.dev/service={NAME}-predictor"
        found = json.loads(self.kubectl("get", "pods", "-n", NAMESPACE, "-l", label, "-o", "json"))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_for_new_pod(self, before: set[str]) -> str:
        """Return the name of the pod that became ready and is none of ``before``."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            for pod in self.read_pods():
                ready = any(
                    row["type"] == "Ready" and row["status"] == "True" for row in pod["status"].get("conditions", [])
                )
                if ready and pod["metadata"]["name"] not in before:
                    return str(pod["metadata"]["name"])
            time.sleep(1)
        raise SystemExit(f"no new pod became ready: {json.dumps(self.read_pods())[:2000]}")

    def read_start(self, pod: str) -> dict[str, Any]:
        words = ["start", NAME, "-n", NAMESPACE, "--kubeconfig", self.options.kubeconfig, "-o", "json"]
        report = json.loads(self.ebbtide(*words, "--profile", str(self.profile)))
        return next(row for row in report["starts"] if row["pod"] == pod)

    def open(self, gigabytes: list[int]) -> None:
        """Create the namespace, the server of the files, and the pod with the node's disk."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        files = [f"truncate -s {size}000000000 /files/{size}.bin" for size in gigabytes]
        store = {
            "initContainers": [
                {
                    "name": "files",
                    "image": IMAGE,
                    "command": ["sh", "-c", " && ".join(["true", *files])],
                    "volumeMounts": [{"name": "holes", "mountPath": "/files"}],
                }
            ],
            "containers": [
                make_store("store", 8080, "/files"),
                make_store("holes", 8081, "/holes", volumeMounts=[{"name": "holes", "mountPath": "/holes"}]),
            ],
            "volumes": [{"name": "holes", "emptyDir": {}}],
        }
        tools = {
            "containers": [
                {
                    "name": "tools",
                    "image": IMAGE,
                    "command": ["sh", "-c", "chmod 0777 /disk && exec sleep infinity"],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": path[1:], "mountPath": path} for path in ("/disk", "/cache")],
                }
            ],
            "volumes": [
                {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
                for name, path in (("disk", FOLDER), ("cache", CACHE_FOLDER))
            ],
        }
        ports = [{"name": "store", "port": 80, "targetPort": 8080}, {"name": "holes", "port": 81, "targetPort": 8081}]
        self.apply(
            make_pod("store", store),
            make_pod("tools", tools),
            make_object("v1", "Service", "store", spec={"selector": {"app": "store"}, "ports": ports}),
            *self._read_runtimes(),
        )
        self.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod", "--all", "--timeout=180s")

    def _read_runtimes(self) -> list[dict[str, Any]]:
        suite = yaml.safe_load((ROOT / "e2e/servers/model/runtime.yaml").read_text())
        suite["metadata"]["namespace"] = NAMESPACE
        container = {
            "name": "kserve-container",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": [PYTHON, "-c", SERVER],
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        }
        spec = {
            "supportedModelFormats": [{"name": NAMESPACE, "version": "1", "autoSelect": True, "priority": 1}],
            "protocolVersions": ["v1"],
            "containers": [container],
        }
        return [suite, make_object("serving.kserve.io/v1alpha1", "ServingRuntime", NAMESPACE, spec=spec)]

    def close(self) -> None:
        """Delete what the tool created."""
        self.execute("sh", "-c", "rm -rf /disk/* /disk/.[!.]*")
        self.kubectl("delete", "namespace", NAMESPACE, "--timeout=300s")
        self.kubectl("delete", "pv", NAMESPACE, "--ignore-not-found")

    def measure(self, size: str, copy: str) -> list[Row]:
        """Deploy a model, and return the rows of its starts: one without a copy, two with it."""
        claim = copy == "claim"
        self.execute("sh", "-c", "rm -rf /disk/* /disk/.[!.]*")
        spec = make_spec(size, copy)
        words = ["render", "-", "--profile", str(self.profile), "-o", "json"]
        manifests = json.loads(self.ebbtide(*words, stdin=json.dumps(spec)))["items"]
        if claim:
            self.apply(*make_volume())
        began = time.monotonic()
        self.apply(*manifests)
        first = self.wait_for_new_pod(set())
        log(f"{size}: the first start took {time.monotonic() - began:.1f} s after kubectl apply")
        if claim:
            times = json.loads(self.kubectl("get", "job", "-n", NAMESPACE, "-o", "json"))["items"][0]["status"]
            log(f"{size}: the Job that fills the claim ran from {times['startTime']} to {times['completionTime']}")
        if copy == "model cache":
            path = "jsonpath={.status.copies.available}=1"
            self.kubectl(
                "wait", "localmodelnamespacecaches", "--all", "-n", NAMESPACE, f"--for={path}", "--timeout=600s"
            )
        if folder := COPIES[copy]:
            rows = [self._repeat(size, f"{copy}, {way}", (prepare, folder), []) for way, prepare in WAYS.items()]
        else:
            rows = [self._repeat(size, copy, None, [self.read_start(first)])]
        for item in manifests:
            if item["kind"] != "Namespace":
                self.kubectl("delete", item["kind"], item["metadata"]["name"], "-n", NAMESPACE, "--timeout=120s")
        self.kubectl("delete", "pod", "-n", NAMESPACE, "-l", "component=predictor", "--grace-period=0", "--force")
        if claim:
            self.kubectl("delete", "pvc,pv", NAMESPACE, "-n", NAMESPACE)
        return rows

    def _repeat(self, size: str, way: str, prepare: tuple[str, str] | None, starts: list[dict[str, Any]]) -> Row:
        """Replace the pod until there are enough starts, each of which ``prepare``, a program and its folder, precedes on the node."""
        while len(starts) < self.options.repeat:
            if prepare is not None:
                self.execute(PYTHON, "-c", *prepare)
            before = {pod["metadata"]["name"] for pod in self.read_pods()}
            self.kubectl("delete", "pod", "-n", NAMESPACE, *before, "--grace-period=1", "--wait=false")
            starts.append(self.read_start(self.wait_for_new_pod(before)))
        for row in starts:
            log(f"{size}, {way}: {json.dumps(row)}")
        return summarize(size, way, [{phase["name"]: phase["seconds"] for phase in row["phases"]} for row in starts])


def make_object(version: str, kind: str, name: str, **parts: Any) -> dict[str, Any]:
    """Return an object of the namespace."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **parts}


def make_pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a pod with a label of its name."""
    pod = make_object("v1", "Pod", name, spec={"terminationGracePeriodSeconds": 1, **spec})
    pod["metadata"]["labels"] = {"app": name}
    return pod


def make_store(name: str, port: int, files: str, **parts: Any) -> dict[str, Any]:
    """Return a container that serves a folder."""
    env = [{"name": "PORT", "value": str(port)}, {"name": "FILES", "value": files}]
    return {"name": name, "image": STORE, "imagePullPolicy": "IfNotPresent", "env": env, **parts}


def make_volume() -> list[dict[str, Any]]:
    """Return the claim and its volume, a folder of the node."""
    size = {"storage": "20Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = make_object("v1", "PersistentVolume", NAMESPACE, spec={**common, "capacity": size})
    del volume["metadata"]["namespace"]
    volume["spec"]["hostPath"] = {"path": FOLDER}
    spec = {**common, "volumeName": NAMESPACE, "resources": {"requests": size}}
    return [volume, make_object("v1", "PersistentVolumeClaim", NAMESPACE, spec=spec)]


def make_spec(size: str, copy: str) -> dict[str, Any]:
    """Return the spec of a model. KServe's agent downloads in another namespace than the store's."""
    store = f"http://store.{NAMESPACE}.svc"
    model = {"format": "onnx", "runtime": "ebbtide-onnx", "uri": f"{store}/files/magika.zip"}
    if size != SUITE:
        model = {"format": NAMESPACE, "runtime": NAMESPACE, "uri": f"{store}:81/files/{size}.bin"}
    spec: dict[str, Any] = {
        "model": model,
        "compute": {"cpuCoreRequest": 0.05, "cpuCoreLimit": 2, "cpuMemoryRequest": "256Mi", "cpuMemoryLimit": "1Gi"},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
    }
    if copy == "model cache":
        spec["start"] = {"modelCache": {"size": "10Gi", "nodeGroups": [NODE_GROUP]}}
    if copy == "claim":
        spec["start"] = {"weights": {"claimName": NAMESPACE, "existingPvc": True, "accessMode": "ReadWriteOnce"}}
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": spec,
    }


def measure_disk(bench: Bench | Local) -> None:
    """Print the speed of the disk without its cache."""
    for direction, words in (
        ("writes", ["if=/dev/zero", "of=/disk/speed", "oflag=direct"]),
        ("reads", ["if=/disk/speed", "of=/dev/null", "iflag=direct"]),
    ):
        done = bench.execute("sh", "-c", f"dd {' '.join(words)} bs=16M count=128 2>&1 | tail -1")
        print(f"the node's disk {direction}: {done.strip()}")
    bench.execute("rm", "/disk/speed")


def measure_network(bench: Bench) -> None:
    """Print the speed of the network to the server of the files."""
    size = min(bench.options.gigabytes, default=1)
    speed = float(bench.execute(PYTHON, "-c", FETCH, f"http://store:81/files/{size}.bin"))
    print(f"one HTTP download from the server in the cluster, not stored: {speed:.0f} MB/s")


class Local:
    """The parts of a start that need no cluster, in a folder of this machine."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.claim = options, folder, folder / "claim"
        self.initializer = folder / "initializer"
        self.initializer.write_text(f'#!/bin/sh\nexec {options.local} "$@"\n')
        self.initializer.chmod(0o755)
        self.address = "http://127.0.0.1:18081"

    def measure(self, size: int) -> list[Row]:
        """Return the rows of one size: a download at each start, and a copy that is filled once."""
        (self.folder / "holes").mkdir(exist_ok=True)
        name = f"{size}.bin"
        with (self.folder / "holes" / name).open("wb") as file:
            file.truncate(size * 1_000_000_000)
        rows = []
        uri, key = f"{self.address}/{name}", "0123456789abcdef"
        command = [
            sys.executable,
            "-m",
            "http.server",
            "18081",
            "--bind",
            "127.0.0.1",
            "-d",
            str(self.folder / "holes"),
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            seconds = []
            for number in range(self.options.repeat):
                target = self.folder / f"pod-{number}"
                download = self.time([str(self.initializer), uri, str(target)])
                seconds.append({"download": download, "load": self.time([sys.executable, "-c", READ, str(target)])})
                shutil.rmtree(target)
                log(f"{size} GB, download: {seconds[-1]}")
            rows.append(summarize(str(size), "download", seconds))
            self.claim.mkdir()
            log(f"{size} GB: the script that fills the claim took {self.run_script(start.FILL, key, uri):.1f} s")
            for state, prepare in WAYS.items():
                way, seconds = f"claim, {state}", []
                for _ in range(self.options.repeat):
                    self.time([sys.executable, "-c", prepare, str(self.claim)])
                    wait = self.run_script(start.WAIT, key, uri)
                    load = self.time([sys.executable, "-c", READ, str(self.claim / key)])
                    seconds.append({"wait": wait, "load": load})
                    log(f"{size} GB, {way}: {seconds[-1]}")
                rows.append(summarize(str(size), way, seconds))
        finally:
            server.terminate()
            shutil.rmtree(self.claim, ignore_errors=True)
        return rows

    def time(self, command: list[str], **parts: Any) -> float:
        """Return the seconds that a program took."""
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **parts)
        return time.monotonic() - began

    def run_script(self, script: str, key: str, uri: str) -> float:
        """Run a script of ``start.weights`` in the folder that stands for the claim, and return its seconds."""
        script = script.replace("/storage-initializer/scripts/initializer-entrypoint", str(self.initializer))
        env = {**os.environ, "KEY": key, "URI": uri, "HOSTNAME": "fill"}
        return self.time(["bash", "-c", script.replace("/claim", str(self.claim))], env=env)

    def execute(self, *command: str) -> str:
        """Run a program on the disk of the folder, which it names /disk."""
        words = [word.replace("/disk", str(self.folder)) for word in command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def summarize(size: str, way: str, seconds: list[dict[str, float]]) -> Row:
    """Return a row of the medians of starts, whose phases are known."""
    totals = [sum(row.values()) for row in seconds]
    names = dict.fromkeys(name for row in seconds for name in row)
    phases = {name: statistics.median(row.get(name, 0.0) for row in seconds) for name in names}
    return Row(size, way, len(seconds), statistics.median(totals), min(totals), max(totals), phases)


def log(text: str) -> None:
    """Print to standard error, with the load of the machine."""
    print(f"[load {os.getloadavg()[0]:.0f}] {text}", file=sys.stderr, flush=True)


def write_table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    names = [*dict.fromkeys(name for row in rows for name in row.phases)]
    lines = [
        f"| Weights | Read from | Start | Range | {' | '.join(names)} |",
        f"| {' | '.join(['---'] * (4 + len(names)))} |",
    ]
    for row in rows:
        phases = " | ".join(f"{row.phases[name]:.1f}" if name in row.phases else "" for name in names)
        weights = "the suite's model" if row.weights == SUITE else f"{row.weights} GB"
        lines.append(f"| {weights} | {row.way} | {row.total:.1f} s | {row.least:.1f} to {row.most:.1f} s | {phases} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig")
    parser.add_argument("--local", metavar="COMMAND", help="KServe's storage initializer; nothing of a cluster is used")
    parser.add_argument("--folder", help="a folder on the disk to measure, with --local")
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--gigabytes", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--copies", nargs="*", choices=[*COPIES], default=[*COPIES])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.local:
            local = Local(options, Path(folder))
            measure_disk(local)
            print(write_table([row for size in options.gigabytes for row in local.measure(size)]))
            return
        bench = Bench(options, Path(folder))
        bench.open(options.gigabytes)
        try:
            measure_disk(bench)
            measure_network(bench)
            rows = [
                row
                for size in (SUITE, *map(str, options.gigabytes))
                for copy in options.copies
                for row in bench.measure(size, copy)
            ]
            print(write_table(rows))
        finally:
            bench.close()


if __name__ == "__main__":
    main()
