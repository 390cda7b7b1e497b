"""Tests that the Helm charts install the objects of `kustomize`, and that their values reach them.

The tests look for helm in EBBTIDE_HELM, on the PATH, and where `make helm` builds it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema_rs import Draft7Validator
from test_kustomize import build, by_name, kustomize  # noqa: F401 # a fixture

if TYPE_CHECKING:
    from ebbtide.core.translation.objects import Object

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
#: Chart, kustomization with the same objects, namespace, and values.
SAME = (
    ("ebbtide", "ebbtide", "ebbtide", ()),
    ("ebbtide-controller", "controller", "ebbtide-controller", ()),
    ("ebbtide-controller", "crd", "ebbtide-controller", ("inferences=true",)),
)
DIGEST = f"sha256:{'0' * 64}"
HASH = re.compile(r"-[0-9a-z]{10}$")


@pytest.fixture(scope="session")
def helm() -> str:
    built = sorted((ROOT / ".cache" / "bin").glob("*/helm"))
    path = os.environ.get("EBBTIDE_HELM") or shutil.which("helm") or next(map(str, built), None)
    if path is None:
        pytest.skip("no helm: set EBBTIDE_HELM, or run `make helm`")
    return path


def run(helm: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, *words], capture_output=True, text=True, check=False, cwd=ROOT)


def render(helm: str, chart: str, *values: str, namespace: str = "ebbtide") -> list[Object]:
    settings = [f"--set-json={value}" if "[" in value else f"--set={value}" for value in values]
    done = run(helm, "template", "trial", str(CHARTS / chart), f"--namespace={namespace}", *settings)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def find(items: list[Object], kind: str) -> Any:
    return next(item for item in items if item["kind"] == kind)


def plain(items: list[Object]) -> dict[tuple[str, str, str], Object]:
    """Return the objects without what only one of the two tools has: the namespace, the profile's hash, helm's policy."""
    kept = [item for item in items if item["kind"] != "Namespace"]
    for item in kept:
        metadata = item["metadata"]
        if metadata.get("annotations", {}).pop("helm.sh/resource-policy", None) and not metadata["annotations"]:
            del metadata["annotations"]
        if item["kind"] == "ConfigMap":
            metadata["name"] = HASH.sub("", metadata["name"])
        elif item["kind"] == "Deployment":
            pod = item["spec"]["template"]
            pod["metadata"].pop("annotations", None)
            maps = [volume["configMap"] for volume in pod["spec"]["volumes"] if "configMap" in volume]
            for entry in maps:
                entry["name"] = HASH.sub("", entry["name"])
    return by_name(kept)


@pytest.mark.parametrize(("chart", "folder", "namespace", "values"), SAME, ids=[row[1] for row in SAME])
def test_a_chart_installs_the_objects_of_the_kustomization(
    helm: str,
    kustomize: str,  # noqa: F811 # the fixture
    chart: str,
    folder: str,
    namespace: str,
    values: tuple[str, ...],
) -> None:
    wanted = build(kustomize, ROOT / "kustomize" / folder)
    assert wanted.code == 0, wanted.err
    assert plain(render(helm, chart, *values, namespace=namespace)) == plain(wanted.out)


@pytest.mark.parametrize("chart", sorted(path.name for path in CHARTS.iterdir()))
def test_helm_accepts_the_chart(helm: str, chart: str) -> None:
    done = run(helm, "lint", "--strict", str(CHARTS / chart))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_value_that_does_not_exist_is_refused(helm: str) -> None:
    done = run(helm, "template", "trial", str(CHARTS / "ebbtide"), "--set", "replica=3")
    assert done.returncode != 0
    assert "replica" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", {"digest": "abc"}),
        ("imagePullSecrets", ["registry"]),
        ("nodeSelector", {"gpu": True}),
        ("sessionKeySecret", ""),
        ("profile", ""),
    ],
)
def test_a_value_that_cannot_work_is_refused(name: str, value: Any) -> None:
    validator = Draft7Validator(json.loads((CHARTS / "ebbtide" / "values.schema.json").read_text()))
    defaults = yaml.safe_load((CHARTS / "ebbtide" / "values.yaml").read_text())

    assert [*validator.iter_errors(defaults)] == []
    assert [error.instance_path[0] for error in validator.iter_errors({**defaults, name: value})] == [name]


def test_every_value_reaches_an_object(helm: str) -> None:
    before = render(helm, "ebbtide")
    changes = {
        "image.repository=registry.example.com/ebbtide": "registry.example.com/ebbtide:0.1.0",
        "image.tag=9.9.9": ":9.9.9",
        f"image.digest={DIGEST}": f"@{DIGEST}",
        'imagePullSecrets=[{"name":"registry-key"}]': "registry-key",
        "replicas=5": '"replicas": 5',
        "resources.limits.memory=7Gi": "7Gi",
        'extraArguments=["--read-only"]': "--read-only",
        "profile=kind: Profile # mine": "# mine",
        "networkPolicy.egressPorts=[9443]": "9443",
        "nodeSelector.disk=fast": "fast",
        'tolerations=[{"key":"gpu"}]': '"key": "gpu"',
        "affinity.nodeAffinity.x=here": "here",
        "sessionKeySecret=own-key": "own-key",
    }
    named = {re.split(r"[.=]", change)[0] for change in changes}
    assert named == set(yaml.safe_load((CHARTS / "ebbtide" / "values.yaml").read_text()))
    assert not any(text in json.dumps(before) for change, text in changes.items() if "tag" not in change)
    for change, text in changes.items():
        assert text in json.dumps(render(helm, "ebbtide", change)), change
    policies = [
        item for item in render(helm, "ebbtide", "networkPolicy.enabled=false") if item["kind"] == "NetworkPolicy"
    ]
    assert policies == []


def test_a_changed_profile_starts_new_pods(helm: str) -> None:
    pods = [
        find(render(helm, "ebbtide-controller", f"profile=kind: Profile # {word}"), "Deployment")["spec"]["template"]
        for word in ("one", "two")
    ]
    assert pods[0] != pods[1]


def test_the_definition_outlives_the_chart(helm: str) -> None:
    definition = find(render(helm, "ebbtide-controller", "inferences=true"), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_files_are_generated() -> None:
    command = [sys.executable, str(ROOT / "tools" / "chart" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
