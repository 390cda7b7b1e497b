"""Providers without a cluster: names, configuration, archives, refusals."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("trustme", reason="the e2e group is not installed: make e2e installs it")

from e2e import paths
from e2e.build import BuildError, build, module_folder, program
from e2e.components import COMPONENTS
from e2e.images import Image, write
from e2e.install import knative, metrics
from e2e.install.everything import list_unavailable_apis
from e2e.install.images import ENVOY, PROGRAMS, without_tag
from e2e.install.manifests import fit, parse, read
from e2e.kubectl import Kubectl
from e2e.node import image as node
from e2e.providers import choose, kind
from e2e.providers.existing import KUBECONFIG
from e2e.providers.kind import Kind, merge
from e2e.providers.protocol import ProviderError
from e2e.providers.sources import SOURCES

if TYPE_CHECKING:
    from pathlib import Path

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="the modules are read with Go")


def test_every_component_has_its_module() -> None:
    folders = {place.parent.name for place in paths.MODULES.glob("*/go.mod")}
    assert folders == set(COMPONENTS)


@needs_go
def test_each_component_builds_the_release_that_it_names() -> None:
    """The module's number is another than the release's for some; where both are one, they agree."""
    for name, component in COMPONENTS.items():
        listed = (paths.MODULES / name / "go.mod").read_text()
        if name not in {"knative", "prometheus", "pause"}:
            assert component.version in listed, name


def test_the_default_cluster_has_its_kubeconfig_where_the_readme_says() -> None:
    assert paths.state(paths.DEFAULT) / "kubeconfig" == paths.ROOT / ".cluster" / "kubeconfig"
    assert paths.state("other") == paths.ROOT / ".cluster" / "other"


@pytest.mark.parametrize(
    ("reference", "released"),
    [
        ("ko://knative.dev/serving/cmd/queue", "gcr.io/knative-releases/knative.dev/serving/cmd/queue:v1.24.0"),
        (
            "ko://knative.dev/net-kourier/cmd/kourier",
            "gcr.io/knative-releases/knative.dev/net-kourier/cmd/kourier:v1.21.0",
        ),
        ("kserve/kserve-controller:latest", "kserve/kserve-controller:v0.20.0"),
        (
            "gcr.io/k8s-staging-metrics-server/metrics-server:master",
            "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
        ),
        ("ghcr.io/kedacore/keda:main", "ghcr.io/kedacore/keda:2.21.0"),
        ("ghcr.io/kedacore/keda-metrics-apiserver:main", "ghcr.io/kedacore/keda-metrics-apiserver:2.21.0"),
        ("docker.io/envoyproxy/envoy:v1.36-latest", "docker.io/envoyproxy/envoy:v1.36-latest"),
        ("ebbtide.local/e2e/load:v1", "ebbtide.local/e2e/load:v1"),
    ],
)
def test_the_upstream_source_takes_released_images(reference: str, released: str) -> None:
    assert SOURCES["upstream"].image(reference) == released


def test_the_upstream_source_refuses_an_image_between_releases() -> None:
    with pytest.raises(BuildError, match=r"example\.com/server:main is not a release"):
        SOURCES["upstream"].image("example.com/server:main")


@needs_go
def test_both_sources_have_every_image_of_the_installation(tmp_path: Path) -> None:
    found = [
        *knative.objects(knative.QUEUE, "ebbtide.local", 30080),
        *metrics.objects(metrics.PROMETHEUS_IMAGE, metrics.RELOADER, 30090, tmp_path),
    ]
    noted: list[str] = []

    def note(reference: str) -> str:
        noted.append(reference)
        return reference

    list(fit(found, note))
    assert noted
    for reference in noted:
        assert without_tag(reference) in PROGRAMS or without_tag(reference) == ENVOY, reference
        assert not SOURCES["upstream"].image(reference).endswith((":latest", ":master")), reference


@needs_go
def test_the_modules_hold_all_definitions() -> None:
    names = {item["metadata"]["name"] for item in knative.definitions()}
    assert {"services.serving.knative.dev", "ingresses.networking.internal.knative.dev"} <= names
    assert (module_folder("kserve", "github.com/kserve/kserve") / "config/default/kustomization.yaml").exists()


def test_fit_lowers_requests_and_keeps_limits() -> None:
    (deployment,) = parse(
        "kind: Deployment\nspec: {template: {spec: {containers: ["
        "{image: a:1, resources: {requests: {cpu: '1'}, limits: {memory: 1Gi}}}]}}}"
    )
    (fitted,) = fit([deployment], lambda reference: f"x/{reference}")
    (container,) = fitted["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "x/a:1"
    assert container["resources"] == {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}}


def test_an_archive_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    image = Image("ebbtide.local/x:v1", ("/program",), {"/program": tmp_path / "program"})
    write(image, tmp_path / "one.tar")
    write(image, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with pytest.raises(FileNotFoundError):
        write(Image("x:v1", ("/x",), {"/x": tmp_path / "absent"}), tmp_path / "three.tar")
    assert not (tmp_path / "three.tar").exists()


def test_the_built_source_borrows_no_name_of_upstreams() -> None:
    assert SOURCES["built"].image("kserve/kserve-controller:latest") == "ebbtide.local/kserve/kserve:v0.20.0"
    assert SOURCES["built"].image("ebbtide.local/e2e/load:v1") == "ebbtide.local/e2e/load:v1"
    assert all(image.name.startswith("ebbtide.local/") for image in node.control_plane())


def test_an_unknown_provider_or_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ProviderError, match="must be kind or existing"):
        choose("docker", "x")
    with pytest.raises(ProviderError, match="must be upstream or built"):
        choose("kind", "x", "registry")


def test_a_cluster_keeps_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CLUSTERS", tmp_path)
    assert Kind("x").source.name == "upstream"
    (tmp_path / "x").mkdir()
    (tmp_path / "x/source").write_text("built")
    assert Kind("x").source.name == "built"
    assert Kind("x", "upstream").source.name == "upstream"


def test_one_stream_holds_each_shared_layer_once(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"root")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "root", "root")
    archives = []
    for name in ("a", "b"):
        archives.append(tmp_path / f"{name}.tar")
        (tmp_path / name).write_text(name)
        image = Image(
            f"ebbtide.local/{name}:v1", (f"/{name}",), {f"/{name}": tmp_path / name}, root=tmp_path / "root.tar"
        )
        write(image, archives[-1])
    stream = io.BytesIO()

    merge(archives, stream)

    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert len(names) == len({*names}) == 3 + 2 + 1  # three layers, two configurations, the manifest
    assert [each["RepoTags"] for each in manifest] == [["ebbtide.local/a:v1"], ["ebbtide.local/b:v1"]]
    assert all(layer in names for each in manifest for layer in each["Layers"])


def test_an_unavailable_aggregated_api_is_reported_with_its_message(tmp_path: Path) -> None:
    answer = tmp_path / "kubectl"
    conditions = [{"type": "Available", "status": "False", "message": "no response from https://10.0.0.1:443"}]
    items = [{"metadata": {"name": "v1beta1.metrics.k8s.io"}, "status": {"conditions": conditions}}]
    items.append({"metadata": {"name": "v1.apps"}, "status": {"conditions": [{"type": "Available", "status": "True"}]}})
    answer.write_text(f"#!/bin/sh\ncat <<'EOF'\n{json.dumps({'items': items})}\nEOF\n")
    answer.chmod(0o755)

    assert list_unavailable_apis(Kubectl(answer, tmp_path)) == [
        "APIService v1beta1.metrics.k8s.io is unavailable: no response from https://10.0.0.1:443"
    ]


def test_an_ambient_kubeconfig_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/some/where")
    monkeypatch.delenv(KUBECONFIG, raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/kubectl")
    with pytest.raises(ProviderError, match="ambient KUBECONFIG is not read"):
        choose("existing", "x").kubectl()


def test_a_cluster_that_is_not_there_ends_with_three(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "e2e", "up", "--provider=nowhere"],
        check=False,
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 3
    assert "unknown provider `nowhere`" in done.stderr


@needs_go
def test_the_real_kind_takes_our_configuration(tmp_path: Path) -> None:
    """kind decodes its configuration strictly before it looks for an engine, so an unknown field would be its first error."""
    build(COMPONENTS["kind"])
    kubeconfig = f"--kubeconfig={tmp_path}/kubeconfig"
    command = [str(program("kind")), "create", "cluster", "--name=ebbtide-config", kubeconfig]
    bad = tmp_path / "bad.yaml"
    bad.write_text(kind.CONFIG.read_text().replace("extraPortMappings", "extraPorts"))
    # Hide any real container engine, so that the test does not call it.
    environment = {**os.environ, "PATH": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}

    def run_kind(file: Path) -> str:
        arguments = [*command, f"--config={file}"]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True, env=environment)
        return done.stderr

    assert "field extraPorts not found" in run_kind(bad)
    assert "unable to decode config" not in run_kind(kind.CONFIG)


def test_upstream_yaml_reads_a_lone_equals_sign(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: X\nvalue: =\n")
    assert read(tmp_path)[0]["value"] == "="
