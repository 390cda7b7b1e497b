"""Providers without a cluster: names, addresses, configuration, refusals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

pytest.importorskip("trustme", reason="the e2e group is not installed: make e2e installs it")

from e2e import paths
from e2e.build import build, module_folder, program
from e2e.components import COMPONENTS
from e2e.images import Image, write
from e2e.install import knative, metrics
from e2e.install.images import ENVOY, PROGRAMS, without_tag
from e2e.install.manifests import fit, parse, read
from e2e.local import catalogue, pki, programs
from e2e.local.layout import Layout
from e2e.providers import PROVIDERS, choose, kind
from e2e.providers.existing import KUBECONFIG
from e2e.providers.protocol import ProviderError

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


def test_two_clusters_share_no_address() -> None:
    layouts = [Layout("a", number) for number in range(64)]
    for part in ("link", "node_address", "host_address", "pods"):
        assert len({getattr(layout, part) for layout in layouts}) == 64
    assert all(len(layout.link) <= 15 for layout in layouts)
    assert layouts[63].pods == "10.201.252.0/22"


def test_the_default_cluster_has_its_kubeconfig_where_the_readme_says() -> None:
    assert paths.state(paths.DEFAULT) / "kubeconfig" == paths.ROOT / ".cluster" / "kubeconfig"
    assert paths.state("other") == paths.ROOT / ".cluster" / "other"


@pytest.mark.parametrize("cgroup_v1", [True, False])
def test_the_kubelet_follows_the_machine_s_control_groups(tmp_path: Path, cgroup_v1: bool) -> None:
    files = programs.configuration(Layout("x", 3), tmp_path, cgroup_v1=cgroup_v1)
    kubelet = yaml.safe_load(files["kubelet.json"])
    assert ("failCgroupV1" in kubelet) is cgroup_v1
    assert kubelet["cgroupRoot"] == "/ebbtide-e2e-3"
    assert str(tmp_path) in files["containerd.toml"]


def test_the_users_are_those_that_kubernetes_knows(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to read a certificate with")
    pki.write(Layout("x", 0), tmp_path)
    read_subject = ["openssl", "x509", "-noout", "-subject", "-in"]
    groups = {
        name: subprocess.run(
            [*read_subject, tmp_path / f"{name}.crt"], check=True, capture_output=True, text=True
        ).stdout
        for name in ("admin", "kubelet", "proxy")
    }
    assert "system:masters" in groups["admin"]
    assert "system:node:ebbtide-node" in groups["kubelet"]
    assert "system:kube-proxy" in groups["proxy"]
    assert (tmp_path / "admin.kubeconfig").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("reference", "released"),
    [
        ("ko://knative.dev/serving/cmd/queue", "gcr.io/knative-releases/knative.dev/serving/cmd/queue:v1.21.1"),
        (
            "ko://knative.dev/net-kourier/cmd/kourier",
            "gcr.io/knative-releases/knative.dev/net-kourier/cmd/kourier:v1.21.0",
        ),
        ("kserve/kserve-controller:latest", "kserve/kserve-controller:v0.20.0"),
        ("docker.io/envoyproxy/envoy:v1.36-latest", "docker.io/envoyproxy/envoy:v1.36-latest"),
        ("ebbtide.local/e2e/load:v1", "ebbtide.local/e2e/load:v1"),
    ],
)
def test_kind_takes_released_images(reference: str, released: str) -> None:
    assert kind.image(reference) == released


@needs_go
def test_every_image_that_is_installed_is_known_to_both_providers() -> None:
    """An image that the local provider does not build could come from nowhere."""
    images = [
        *knative.objects(knative.QUEUE, "ebbtide.local", 30080),
        *metrics.objects(metrics.PROMETHEUS_IMAGE, metrics.RELOADER, 30090),
    ]
    noted: list[str] = []

    def note(reference: str) -> str:
        noted.append(reference)
        return reference

    list(fit(images, note))
    assert noted
    for reference in noted:
        assert without_tag(reference) in PROGRAMS or without_tag(reference) == ENVOY, reference
        assert not kind.image(reference).endswith((":latest", ":master")), reference


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


def test_local_and_release_names_differ_only_in_place() -> None:
    assert catalogue.name("kserve/kserve-controller:latest") == "ebbtide.local/kserve/kserve:v0.20.0"
    assert catalogue.name("ebbtide.local/e2e/load:v1") == "ebbtide.local/e2e/load:v1"


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ProviderError, match="kind, local, existing"):
        choose("docker", "x")
    assert set(PROVIDERS) == {"kind", "local", "existing"}


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
    assert "there is no provider `nowhere`" in done.stderr


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
