"""Providers without a cluster: names, configuration, archives, refusals."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("trustme", reason="the e2e group is not installed: make e2e installs it")

from e2e import engine, needs, paths
from e2e.build import BuildError
from e2e.components import COMPONENTS
from e2e.install import knative, metrics
from e2e.install.images import ENVOY, PROGRAMS, without_tag
from e2e.install.manifests import fit, parse, read
from e2e.node import image as node
from e2e.providers import choose
from e2e.providers.existing import KUBECONFIG
from e2e.providers.kind import Kind
from e2e.providers.protocol import ProviderError
from e2e.providers.sources import SOURCES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="the modules are read with Go")


@needs_go
def test_each_component_builds_the_release_that_it_names() -> None:
    """The module's number is another than the release's for some; where both are one, they agree."""
    for name, component in COMPONENTS.items():
        listed = (component.sources / "go.mod").read_text()
        if name not in {"knative", "prometheus", "promtool", "pause"}:
            assert component.version in listed, name


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


@pytest.mark.parametrize("source", SOURCES)
def test_all_missing_programs_are_named_before_anything_is_made(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(paths, "CLUSTERS", tmp_path)
    steps: list[str] = []

    def progress(step: str) -> AbstractContextManager[None]:
        steps.append(step)
        return nullcontext()

    with pytest.raises(ProviderError) as error:
        Kind("none", source).up(progress)
    assert steps == []
    for name in (*needs.PROGRAMS[source], "a container engine"):
        assert name in str(error.value)
    for name in (*needs.PROGRAMS[source], "docker"):
        (tmp_path / name).touch(mode=0o755)
    assert needs.find_missing(source) == []
    assert needs.find_missing(source, ("npm",)) == ["npm"]


def test_the_settings_of_the_kernel_are_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SYSCTLS", tmp_path)
    monkeypatch.setattr(engine, "SAVED", tmp_path / "saved.json")
    names = ("fs/protected_fifos", "fs/protected_regular", "fs/protected_symlinks", "fs/file-max")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("0\n")
    engine._save_kernel()  # noqa: SLF001 - a part of the start
    for name in names:
        (tmp_path / name).write_text("1\n")
    engine._save_kernel()  # noqa: SLF001 - a second start
    engine._restore_kernel()  # noqa: SLF001 - a part of the stop

    assert [(tmp_path / name).read_text().strip() for name in names] == ["0"] * 4


@pytest.mark.parametrize(("repeat", "repeats"), [("", False), ("0", False), ("1", True)])
def test_repeat_0_repeats_nothing(repeat: str, *, repeats: bool) -> None:
    command = ["make", "-n", "e2e", f"REPEAT={repeat}"]
    recipe = subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True, text=True).stdout

    assert ('[ -z "" ]' not in recipe) == repeats


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


def test_fit_lowers_requests_and_keeps_limits() -> None:
    (deployment,) = parse(
        "kind: Deployment\nspec: {template: {spec: {containers: ["
        "{image: a:1, resources: {requests: {cpu: '1'}, limits: {memory: 1Gi}}}]}}}"
    )
    (fitted,) = fit([deployment], lambda reference: f"x/{reference}")
    (container,) = fitted["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "x/a:1"
    assert container["resources"] == {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}}


def test_a_busy_machine_has_time_to_answer_probes() -> None:
    (deployment,) = parse(
        "kind: Deployment\nspec: {template: {spec: {containers: ["
        "{image: a:1, readinessProbe: {periodSeconds: 1}, livenessProbe: {timeoutSeconds: 30}}]}}}"
    )
    (fitted,) = fit([deployment], str)
    (container,) = fitted["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"] == {"periodSeconds": 1, "timeoutSeconds": 10}
    assert container["livenessProbe"] == {"timeoutSeconds": 30}


def test_the_built_source_borrows_no_name_of_upstreams() -> None:
    assert SOURCES["built"].image("kserve/kserve-controller:latest") == "ebbtide.local/kserve/kserve:v0.20.0"
    assert SOURCES["built"].image("ebbtide.local/e2e/load:v1") == "ebbtide.local/e2e/load:v1"
    assert all(image.name.startswith("ebbtide.local/") for image in node.control_plane())


def test_a_cluster_keeps_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CLUSTERS", tmp_path)
    assert Kind("x").source.name == "upstream"
    (tmp_path / "x").mkdir()
    (tmp_path / "x/source").write_text("built")
    assert Kind("x").source.name == "built"
    assert Kind("x", "upstream").source.name == "upstream"


def test_an_ambient_kubeconfig_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/some/where")
    monkeypatch.delenv(KUBECONFIG, raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/kubectl")
    with pytest.raises(ProviderError, match="ambient KUBECONFIG is not read"):
        choose("existing", "x").kubectl()


def test_upstream_yaml_reads_a_lone_equals_sign(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: X\nvalue: =\n")
    assert read(tmp_path)[0]["value"] == "="
