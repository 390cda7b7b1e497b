"""An API server's nodes without a kubelet: a scheduler binds pods to them, and this module marks these as running."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from queue import SimpleQueue

    from ebbtide.core.translation.objects import Object

GPU = "nvidia.com/gpu"
LABEL = "judged"
#: Memory of a GPU in MiB.
MEMORY = 81920
#: Cores and memory of a node per GPU.
CORES, GIBIBYTES = 8, 64
HEARTBEAT_SECONDS = 15
RESERVATIONS = "kai-resource-reservation"


class Cluster:
    """The API server, and all nodes."""

    def __init__(self, kubectl: str, kubeconfig: str) -> None:
        """Start a proxy that has the credentials, and watch the pods."""
        command = [kubectl, f"--kubeconfig={kubeconfig}", "proxy", "--port=0"]
        self.proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.proxy.stdout is not None
        self.api = httpx.Client(base_url=f"http://{self.proxy.stdout.readline().split()[-1]}", timeout=60)
        self.nodes: set[str] = set()
        self.places: dict[str, SimpleQueue[tuple[str, Any]]] = {}
        for target in (self._watch, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def call(self, method: str, path: str, body: Any = None, *, patch: str = "merge", missing: bool = False) -> Any:
        """Call the API server."""
        kind = f"application/{patch}-patch+{'yaml' if patch == 'apply' else 'json'}"
        kind = kind if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body)
        answer = self.api.request(method, path, content=content, headers={"content-type": kind})
        if missing and answer.status_code in {404, 409}:
            return None
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json()

    def apply(self, item: Object) -> None:
        """Apply an object."""
        self.call("PATCH", f"{_make_path(item)}?fieldManager=judged&force=true", item, patch="apply")

    def delete(self, item: Object) -> None:
        """Delete an object."""
        self.call("DELETE", _make_path(item), missing=True)

    def add_node(self, name: str, place: str, resources: dict[str, str]) -> None:
        """Create a node without a kubelet."""
        labels = {LABEL: place, "kubernetes.io/hostname": name, f"{GPU}.product": "A100"}
        labels |= {f"{GPU}.memory": str(MEMORY), f"{GPU}.count": resources.get(GPU, "0")}
        taints = [{"key": LABEL, "effect": "NoSchedule"}]
        meta = {"name": name, "labels": labels}
        self.call("POST", "/api/v1/nodes", {"metadata": meta, "spec": {"taints": taints}}, missing=True)
        gpus = sum(map(int, resources.values()))
        amounts = {"cpu": str(CORES * gpus), "memory": f"{GIBIBYTES * gpus}Gi", "pods": "110", **resources}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"capacity": amounts, "allocatable": amounts}})
        self.nodes.add(name)
        self._renew(name)

    def remove_nodes(self, place: str) -> None:
        """Remove the nodes of a sequence."""
        for name in [name for name in self.nodes if name.startswith(f"{place}-")]:
            self.nodes.discard(name)
            self.call("DELETE", f"/api/v1/nodes/{name}", missing=True)

    def _renew(self, name: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}}, missing=True)

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for name in [*self.nodes]:
                self._renew(name)

    def _watch(self) -> None:
        while True:
            with self.api.stream("GET", "/api/v1/pods?watch=1", timeout=None) as answer:
                for line in answer.iter_lines():
                    change = json.loads(line)
                    self._read(change["type"], change["object"])

    def _read(self, kind: str, pod: Any) -> None:
        """Pass a change on to its sequence, and run the pod as a kubelet does."""
        if kind not in {"ADDED", "MODIFIED", "DELETED"}:
            return
        metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
        queue = self.places.get(pod["spec"].get("nodeSelector", {}).get(LABEL, ""))
        if queue is not None and LABEL in metadata.get("labels", {}):
            queue.put((kind, pod))
        if kind != "DELETED" and node.startswith("judged-") and pod["status"].get("phase") == "Pending":
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            ready = [{"type": name, "status": "True"} for name in ("Ready", "ContainersReady", "Initialized")]
            status = {"phase": "Running", "startTime": metadata["creationTimestamp"], "conditions": ready}
            if metadata["namespace"] == RESERVATIONS:
                index = {"run.ai/reserve_for_gpu_index": metadata["uid"]}
                self.call("PATCH", path, {"metadata": {"annotations": index}}, missing=True)
            self.call("PATCH", f"{path}/status", {"status": status}, patch="strategic-merge", missing=True)


def _make_path(item: Object) -> str:
    group = f"/apis/{item['apiVersion']}" if "/" in item["apiVersion"] else f"/api/{item['apiVersion']}"
    namespace = item["metadata"].get("namespace")
    return (
        f"{group}/{f'namespaces/{namespace}/' if namespace else ''}{item['kind'].lower()}s/{item['metadata']['name']}"
    )
