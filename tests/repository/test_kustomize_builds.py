"""The law of the two documented builds: kustomize with the plugin gives the objects of ``kustomize build | ebbtide render``.

For each transformer, in the folder of the specs and in the overlay. kustomize and the plugin are the real programs. One build
has all transformers that can be combined, because each costs a start of both programs.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import test_kustomize
import yaml
from test_kustomize import EXEC, ROOT, build

from ebbtide.core import manifests
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.built_in import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebbtide.core.translation.objects import Object

kustomize = test_kustomize.kustomize
COMPONENT = ROOT / "kustomize" / "specs"
IMAGE, SIDE = "ghcr.io/acme/chat", "ghcr.io/acme/side"
FUNCTION = {"config.kubernetes.io/function": "exec:\n  path: ebbtide-krm\n"}
#: Names of objects of the build, by kind.
SETTINGS, CREDENTIALS, ACCOUNT = "settings", "credentials", "runner"
CLAIMS = ("files", "copy", "compiled")


def spec(name: str, **fields: Any) -> Object:
    return {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": name}, "spec": fields}


def reference(field: str, kind: str, key: str = "k") -> dict[str, Any]:
    return {"name": field, "valueFrom": {kind: {"name": CREDENTIALS if "secret" in kind else SETTINGS, "key": key}}}


CONTAINER: dict[str, Any] = {
    "image": f"{SIDE}:1",
    "env": [reference("A", "configMapKeyRef"), reference("B", "secretKeyRef")],
    "envFrom": [{"configMapRef": {"name": SETTINGS}}, {"secretRef": {"name": CREDENTIALS}}],
}
POD: dict[str, Any] = {
    "environmentVariables": [
        {"name": "C", "configMap": {"name": SETTINGS, "key": "k"}},
        {"name": "S", "secret": {"name": CREDENTIALS, "key": "k"}},
    ],
    "storage": {
        "configMapVolume": [{"configMap": SETTINGS, "mountPath": "/a"}],
        "secretVolume": [{"secret": CREDENTIALS, "mountPath": "/b"}],
        "pvc": [{"claimName": "files", "existingPvc": True, "path": "/c"}],
    },
    "imagePullSecrets": [{"name": CREDENTIALS}],
}
CONTAINERS = {
    "sidecars": [{"name": "log", **CONTAINER}],
    "initContainers": [{"name": "load", **CONTAINER}],
}
IN_POD = {
    "initContainers": [{"name": "load", **CONTAINER}],
    "imagePullSecrets": [{"name": CREDENTIALS}],
    "serviceAccountName": ACCOUNT,
    "volumes": [
        {"name": "a", "configMap": {"name": SETTINGS}},
        {"name": "b", "secret": {"secretName": CREDENTIALS}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "files"}},
        {"name": "d", "projected": {"sources": [{"configMap": {"name": SETTINGS}}, {"secret": {"name": CREDENTIALS}}]}},
    ],
}
CSI = {"driver": "csi.acme.example", "mountPath": "/csi", "nodePublishSecret": CREDENTIALS}
MODEL = {"format": "sklearn", "uri": "s3://models/iris"}
#: Specs of all serving modes with references, and one that names no object of the build.
SPECS = [
    spec("plain", image=f"{IMAGE}:1", environmentVariables=[{"name": "A", "value": "1"}]),
    spec(
        "knative",
        image=f"{IMAGE}:1",
        serviceAccountName=ACCOUNT,
        **POD,
        **CONTAINERS,
    ),
    spec(
        "fetched",
        image="vllm/vllm-openai:v0.32.0",
        args=["--model=/mnt/models"],
        servingPort={"container": 8000},
        compute={"gpuDevicesRequest": 1},
        environmentVariables=[{"name": "HF_TOKEN", "secret": {"name": CREDENTIALS, "key": "k"}}],
        start={
            "weights": {
                "uri": "hf://Qwen/Qwen3-8B:895c8d171bc03c30e113cd7a28c02494b5e068b7",
                "claimName": "copy",
                "existingPvc": True,
            },
            "compilationCache": {"claimName": "compiled", "existingPvc": True},
        },
    ),
    spec("model", serving="kserve", model={**MODEL, "storageSecret": CREDENTIALS}, **POD, **CONTAINERS),
    spec(
        "standard",
        serving="kserve-standard",
        image=f"{IMAGE}:1",
        serviceAccountName=ACCOUNT,
        compute={"cpuCoreRequest": 1},
        logger={"storage": {"path": "/logs", "parameters": {"type": "s3"}, "key": "k", "serviceAccountName": ACCOUNT}},
        transformer={**IN_POD, "containers": [{"name": "kserve-container", **CONTAINER}]},
        explainer={**IN_POD, "containers": [{"name": "kserve-container", **CONTAINER}]},
        **{**POD, "storage": {**POD["storage"], "csiVolume": [CSI]}},
        **CONTAINERS,
    ),
    spec(
        "copied",
        serving="kserve-standard",
        model=MODEL,
        start={"weights": {"claimName": "copy", "existingPvc": True}},
    ),
    spec(
        "llm",
        serving="llm",
        model={"format": "huggingface", "uri": "hf://acme/small"},
        compute={"gpuDevicesRequest": 1},
        serviceAccountName=ACCOUNT,
        **POD,
        **CONTAINERS,
    ),
]


def other(kind: str, name: str, **fields: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


OTHERS = [other("ServiceAccount", ACCOUNT), *(other("PersistentVolumeClaim", name, spec={}) for name in CLAIMS)]
FIELDS: dict[str, Any] = {
    "configMapGenerator": [{"name": SETTINGS, "literals": ["k=<é>&", "n=1"], "files": ["blob"]}],
    "secretGenerator": [{"name": CREDENTIALS, "literals": ["k=v"], "type": "acme.example/key"}],
    "namePrefix": "dev-",
    "nameSuffix": "-b",
    "namespace": "team-a",
    "images": [
        {"name": IMAGE, "newTag": "v9"},
        {"name": SIDE, "newName": "registry.acme.example/side", "digest": "sha256:" + "0" * 64},
    ],
    "replicas": [{"name": "plain", "count": 3}],
    "labels": [{"pairs": {"acme.example/team": "a"}, "includeTemplates": True}],
    "commonAnnotations": {"acme.example/owner": "a"},
    "replacements": [
        {
            "source": {"kind": "ServiceAccount", "name": ACCOUNT, "fieldPath": "metadata.name"},
            "targets": [
                {"select": {"kind": "Inference", "name": "plain"}, "fieldPaths": ["spec.environmentVariables.0.value"]}
            ],
        }
    ],
    "patches": [
        {
            "patch": yaml.safe_dump(
                spec("knative", environmentVariables=[{"name": "N", "value": "1"}, {"name": "S", "$patch": "delete"}])
            )
        },
        {
            "target": {"kind": "Inference", "name": "plain"},
            "patch": yaml.safe_dump([{"op": "add", "path": "/spec/args", "value": ["-v"]}]),
        },
    ],
}
TENANT = {"namespace": "tenants", "configMapGenerator": FIELDS["configMapGenerator"]}
#: Other forms of the transformer of labels.
ALONE: list[dict[str, Any]] = [
    {"commonLabels": {"acme.example/team": "a"}},
    {"labels": [{"pairs": {"acme.example/team": "a"}}]},
]
#: Each transformer alone.
SINGLE = [{name: value} for name, value in FIELDS.items()] + [*ALONE]


def write_kustomization(folder: Path, fields: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    (folder / "blob").write_bytes(b"\xff\x00")


def write_specs(folder: Path, component: str, **fields: Any) -> None:
    write_kustomization(folder, {"resources": ["objects.yaml"], "components": [component], **fields})
    (folder / "objects.yaml").write_text("".join(manifests.write_documents([*SPECS, *OTHERS])))


def write_profile(folder: Path) -> None:
    profile = {**FULL, "metadata": {**FULL["metadata"], "annotations": FUNCTION}}
    (folder / "profile.yaml").write_text(manifests.write_document(profile))


def build_documents(kustomize: str, folder: Path, *options: str) -> list[Object]:
    result = build(kustomize, folder, *options)
    assert result.code == 0, result.err
    return result.out


def render(documents: list[Object]) -> Iterator[Object]:
    """Yield what ``ebbtide render --others keep`` prints for the documents of a build."""
    batch = Batch(profiles.load_built_in("full"))
    for item in documents:
        if item["kind"] != "Inference":
            yield item
            continue
        objects, _, problems = batch.add_document(load_document(item, batch.profile))
        assert [problem for problem in problems if problem.severity == "error"] == []
        yield from objects
    yield from batch.list_models()


def compare(plugin: list[Object], piped: list[Object]) -> None:
    """Assert that two builds have equal objects."""
    ours, theirs = ({find_key(item): item for item in items} for items in (plugin, piped))
    assert ours.keys() == theirs.keys()
    for key, item in theirs.items():
        assert json.dumps(ours[key], sort_keys=True) == json.dumps(item, sort_keys=True), key


def find_key(item: Object) -> tuple[str, ...]:
    metadata = item["metadata"]
    return item["apiVersion"], item["kind"], metadata.get("namespace", ""), metadata["name"]


def test_each_transformer_below_the_plugin_has_the_same_effect_in_both_builds(kustomize: str, tmp_path: Path) -> None:
    shutil.copytree(COMPONENT, tmp_path / "component")
    folders = []
    for number, fields in enumerate([FIELDS, *SINGLE]):
        # The namespace tells the copies of the objects apart.
        namespace = {"namespace": f"team-{number}"}
        folder = tmp_path / f"team-{number}"
        folders.append(f"../{folder.name}")
        if number % 2:
            # In an overlay of the specs.
            write_specs(tmp_path / f"specs-{number}", "../component", **namespace)
            write_kustomization(folder, {"resources": [f"../specs-{number}"], **fields, **namespace})
        else:
            write_specs(folder, "../component", **fields | namespace)
    for tenant in ("a", "b"):
        # Two copies in one namespace, which only the prefix tells apart.
        write_specs(tmp_path / tenant, "../component", **TENANT, namePrefix=f"{tenant}-")
        folders.append(f"../{tenant}")
    write_kustomization(tmp_path / "specs", {"resources": folders})
    write_kustomization(tmp_path / "top", {"resources": ["../specs"], "transformers": ["profile.yaml"]})
    write_profile(tmp_path / "top")

    piped = [*render(build_documents(kustomize, tmp_path / "specs"))]
    compare(build_documents(kustomize, tmp_path / "top", *EXEC), piped)


def test_transformers_next_to_the_plugin_have_the_same_effect_in_both_builds(kustomize: str, tmp_path: Path) -> None:
    shutil.copytree(COMPONENT, tmp_path / "component")
    write_specs(tmp_path / "specs", "../component")
    write_kustomization(tmp_path / "piped", {"resources": ["../specs"], **FIELDS})
    write_kustomization(tmp_path / "top", {"resources": ["../specs"], **FIELDS, "transformers": ["profile.yaml"]})
    write_profile(tmp_path / "top")

    plugin = build_documents(kustomize, tmp_path / "top", *EXEC)
    compare(plugin, [*render(build_documents(kustomize, tmp_path / "piped"))])

    # No object and no stored spec has an old name.
    text = json.dumps(plugin)
    for name in (SETTINGS, CREDENTIALS, ACCOUNT, *CLAIMS):
        assert f'"{name}"' not in text
        assert f'"{name}\\' not in text


def test_the_specs_of_the_law_have_every_reference() -> None:
    rows = yaml.safe_load((COMPONENT / "transformers.yaml").read_text())["nameReference"]
    # git is rejected.
    paths = {row["path"] for entry in rows for row in entry["fieldSpecs"] if row["kind"] == "Inference"}
    missing = {path for path in paths if not any(has_value(item, path.split("/")) for item in SPECS)}
    assert missing == {"spec/storage/git/passwordSecret", "spec/storage/git/secretRef/name"}


def has_value(value: Any, path: list[str]) -> bool:
    if isinstance(value, list):
        return any(has_value(item, path) for item in value)
    return not path or (isinstance(value, dict) and path[0] in value and has_value(value[path[0]], path[1:]))
