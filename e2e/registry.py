"""A registry of images on the node, which a case starts for itself, and a store of files behind the same network.

containerd pulls from `localhost` by plain HTTP without a configuration (defaultScheme in containerd 1.6 and 1.7
pkg/cri/server/image_pull.go, 2.4 internal/cri/server/images/image_pull.go). So the registry uses the network of the node, and
the tests write to the node's address in the network of the engine. Names have a digest, so Knative asks no registry for one.
"""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import httpx

from e2e import engine, paths
from e2e.build import BuildError
from e2e.install.manifests import find_node_address
from e2e.kubectl import Manifest
from e2e.servers import images as servers
from e2e.servers import python
from e2e.stage import Stage

NAME: Final = "registry"
PORT: Final = 5000
HOST: Final = f"localhost:{PORT}"
MODEL: Final = "model.gguf"
"""File with the weights of the language model server."""
FILES: Final = f"http://{NAME}/files"
"""URL of the files for pods of the case's namespace."""
WRITE_MODEL: Final = f"""
import pathlib, model
folder = pathlib.Path("/data/files")
folder.mkdir(exist_ok=True)
model.write(folder / "{MODEL}")
"""
OCI: Final = "application/vnd.oci.image"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
SKIPPED: Final = b"\x50\x2a\x4d\x18"
"""First bytes of a frame of zstd, and of a frame that a reader skips (RFC 8878)."""
CTR: Final = ("ctr", "--namespace=k8s.io")
REMOVAL_SECONDS: Final = 120


@dataclass(frozen=True)
class Registry:
    """A registry that runs on the only node of a cluster."""

    stage: Stage
    node: str
    address: str
    """URL of the registry for the tests."""

    def push(self, archive: Path, name: str) -> str:
        """Write the image of an archive into the registry, and return its name for the node, with its digest.

        No layer is one that the node has: the first has the name as its content, and the bytes of the others end with it, which a
        reader skips.
        """
        with tarfile.open(archive) as tar, httpx.Client(base_url=f"{self.address}/v2/{name}", timeout=300) as client:
            (described,) = json.load(_open(tar, "manifest.json"))
            config = json.load(_open(tar, described["Config"]))
            first = _write_layer(name)
            config["rootfs"]["diff_ids"].insert(0, _hash(first))
            layers = [_push_blob(client, first, f"{OCI}.layer.v1.tar")]
            for layer in described["Layers"]:
                content = _open(tar, layer).read()
                kind = f"{OCI}.layer.v1.tar"
                if content.startswith(ZSTD):
                    content += SKIPPED + len(name).to_bytes(4, "little") + name.encode()
                    kind += "+zstd"
                layers.append(_push_blob(client, content, kind))
            pushed = _push_blob(client, json.dumps(config).encode(), f"{OCI}.config.v1+json")
            kind = f"{OCI}.manifest.v1+json"
            manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": pushed, "layers": layers}).encode()
            headers = {"Content-Type": kind}
            client.put(f"/manifests/{_hash(manifest)}", content=manifest, headers=headers).raise_for_status()
        return f"{HOST}/{name}@{_hash(manifest)}"

    def remove(self, image: str) -> None:
        """Remove an image and its layers from the node, as soon as no container has it.

        containerd keeps a layer as long as an image or a container needs it, and pulls only layers that are missing.
        """
        digest = image.rpartition("@")[2]
        self.stage.until("no container has the image", lambda: not self._list_users(image), REMOVAL_SECONDS)
        rows = self.execute(*CTR, "images", "ls").splitlines()
        names = [row.split()[0] for row in rows if digest in row.split()]
        if names:
            self.execute(*CTR, "images", "rm", "--sync", *names)

    def _list_users(self, image: str) -> list[str]:
        return [row for row in self.execute(*CTR, "containers", "ls").splitlines() if image in row]

    def execute(self, *command: str) -> str:
        """Run a command on the node, and return its output."""
        found = engine.find()
        if found is None:
            raise BuildError("no container engine answers")
        return found.run("exec", self.node, *command)


def start(stage: Stage, speed: float = 0.0) -> Registry:
    """Start a registry in the namespace of a case, with the weights of the language model under `/files`.

    All downloads together get `speed` bytes per second; 0 is unlimited.
    """
    stage.provider.load([servers.go_image(NAME, paths.CACHE)])
    stage.apply(make_objects(stage.namespace, speed))
    stage.ready(NAME, "pod")
    (node,) = stage.kubectl.get("nodes")["items"]
    address = f"http://{find_node_address(stage.kubectl)}:{PORT}"
    return Registry(stage, node["metadata"]["name"], address)


def make_objects(namespace: str, speed: float) -> list[Manifest]:
    """Return the pod of the registry, and a Service for pods that read its files."""
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    requests = {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}
    weights = {
        "name": "weights",
        "image": servers.image("llm"),
        "workingDir": "/app",
        "command": [python.PYTHON, "-c", WRITE_MODEL],
    }
    server = {
        "name": NAME,
        "image": servers.image(NAME),
        "env": [{"name": "PORT", "value": str(PORT)}, {"name": "SPEED", "value": str(speed)}],
        "readinessProbe": {"httpGet": {"path": "/v2/", "port": PORT}, "periodSeconds": 1},
    }
    spec = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "initContainers": [{**weights, **mount, **requests}],
        "containers": [{**server, **mount, **requests}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    metadata = {"name": NAME, "namespace": namespace, "labels": {"app": NAME}}
    ports = [{"port": 80, "targetPort": PORT}]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": NAME}, "ports": ports},
        },
    ]


def _open(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    assert stream is not None
    return stream


def _hash(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _write_layer(name: str) -> bytes:
    """Return an uncompressed layer with one file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("image")
        entry.size = len(name)
        tar.addfile(entry, io.BytesIO(name.encode()))
    return stream.getvalue()


def _push_blob(client: httpx.Client, content: bytes, kind: str) -> dict[str, Any]:
    """Write a blob, and return its descriptor."""
    digest = _hash(content)
    client.post("/blobs/uploads/", params={"digest": digest}, content=content).raise_for_status()
    return {"mediaType": kind, "digest": digest, "size": len(content)}
