"""``ebbtide quickstart``, with fakes of the programs that it runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ebbtide.cli.run import quickstart
from ebbtide.core import manifests

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands import Ran

ROOT = Path(__file__).parents[2]
#: Records its name, its arguments and the kubeconfig, and fails for words that begin with $FAIL, once if $ONCE is set.
FAKE = """#!/bin/sh
command="${0##*/} $*"
echo "$command" >> "$RECORD"
echo "$KUBECONFIG $EBBTIDE_PROFILE" >> "$RECORD.environment"
case "$command" in
  "docker info"*) echo "$DOCKER" ;;
  "kind get clusters") echo "$CLUSTERS" ;;
  "python -m ebbtide apply"*) for last; do :; done; cat "$last" > "$RECORD.spec" ;;
esac
case "$command" in
  "$FAIL"*) if [ -z "$ONCE" ] || [ ! -e "$ONCE" ]; then touch "$ONCE"; echo "the reason"; exit 7; fi ;;
esac
"""


class Fakes(NamedTuple):
    """The folder of the programs, and the file with their commands."""

    folder: Path
    record: Path

    def commands(self) -> list[str]:
        return [
            line.removeprefix("python -m ")
            for line in self.record.read_text().splitlines()
            if not line.startswith("docker")
        ]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    folder, record = tmp_path / "bin", tmp_path / "record"
    folder.mkdir()
    for name in ("docker", "kind", "kubectl", "python"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    for name in ("sh", "cat", "touch"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, value in {
        "PATH": str(folder),
        "RECORD": str(record),
        "DOCKER": f"4 {8 << 30} /var/lib/docker",
        "FAIL": "nothing",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "EBBTIDE_PROFILE": "of-my-cluster.yaml",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(quickstart, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40))
    return Fakes(folder, record)


class Usage(NamedTuple):
    free: int


def test_the_steps_run_in_order_in_a_kubeconfig_of_their_own(
    run: Callable[..., Ran], fakes: Fakes, tmp_path: Path
) -> None:
    ran = run("quickstart")

    assert ran.code == 0, ran.err
    assert [" ".join(line.split()[:4]) for line in fakes.commands()] == [
        "kind get clusters",
        "kind create cluster --wait",
        *["kubectl apply -f " + quickstart.SERVING + "/serving-crds.yaml"],
        "kubectl wait --for=condition=Established crd",
        "kubectl apply -f " + quickstart.SERVING + "/serving-core.yaml",
        "kubectl apply -f " + quickstart.KOURIER,
        "kubectl wait --for=condition=Available deployment",
        "kubectl wait --for=condition=Available deployment",
        "kubectl patch configmap config-network",
        "kubectl patch configmap config-domain",
        "ebbtide apply -y --wait",
        "ebbtide call hello -n",
        "ebbtide why hello -n",
        "kubectl wait pod -n",
        "ebbtide list -n default",
    ]
    kubeconfig = tmp_path / "state" / "ebbtide" / "quickstart.kubeconfig"
    of_steps = fakes.record.with_suffix(".environment").read_text().splitlines()[2:]
    assert {*of_steps} == {f"{kubeconfig} "}
    assert "[1/14] Create a Kubernetes cluster in Docker\n$ kind create cluster" in ran.err
    assert f"export KUBECONFIG={kubeconfig}" in ran.err
    assert ran.err.count(" s\n\n") == 14


def test_the_spec_is_that_of_the_documentation(run: Callable[..., Ran], fakes: Fakes) -> None:
    assert run("quickstart").code == 0
    (document,) = manifests.read_documents(fakes.record.with_suffix(".spec").read_bytes(), "spec")
    (documented,) = manifests.read_documents((ROOT / "docs/specs/hello.yaml").read_bytes(), "hello")
    assert document.data == documented.data


def test_an_interrupted_run_continues_on_its_cluster(
    run: Callable[..., Ran], fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERS", f"other {quickstart.CLUSTER}")
    assert run("quickstart").code == 0
    assert fakes.commands()[1] == "kind export kubeconfig --name ebbtide-quickstart"


def test_a_failed_step_ends_the_run_with_the_output_of_its_program(
    run: Callable[..., Ran], fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "kubectl apply")
    ran = run("quickstart")
    assert ran.code == 3
    assert "the reason\nerror: step 2 failed with exit code 7: Install the resources of Knative Serving" in ran.err
    # Downloads are tried again.
    assert [line.split()[1] for line in fakes.commands()[2:]] == ["apply"] * 4


def test_a_step_is_tried_again(
    run: Callable[..., Ran], fakes: Fakes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAIL", "kubectl patch configmap config-network")
    monkeypatch.setenv("ONCE", str(tmp_path / "once"))
    assert run("quickstart").code == 0
    assert sum("config-network" in line for line in fakes.commands()) == 2


@pytest.mark.parametrize("program", ["docker", "kind", "kubectl"])
def test_a_missing_program_is_reported_before_the_first_step(
    run: Callable[..., Ran], fakes: Fakes, program: str
) -> None:
    (fakes.folder / program).unlink()
    ran = run("quickstart")
    assert ran.code == 3
    assert f"  - {program} is not on the PATH: install it (" in ran.err
    assert not fakes.record.exists()


@pytest.mark.parametrize(
    ("docker", "free", "reason"),
    [
        (f"2 {8 << 30} /", 1 << 40, "Docker has 2 CPUs, and 3 are needed: give it more in its settings"),
        (f"4 {3 << 30} /", 1 << 40, "Docker has 3 GiB of memory, and 4 are needed"),
        (f"4 {8 << 30} /", 7 << 30, "Docker has 7 GiB of free disk, and 8 are needed: free some"),
        (
            "permission denied",
            1 << 40,
            "Docker does not answer: start it, or allow your account to use it (permission denied)",
        ),
        ("", 1 << 40, "(no output)"),
        ("a warning of words\n", 1 << 40, "(a warning of words)"),
    ],
)
def test_too_few_resources_are_reported(
    run: Callable[..., Ran], fakes: Fakes, monkeypatch: pytest.MonkeyPatch, docker: str, free: int, reason: str
) -> None:
    monkeypatch.setenv("DOCKER", docker)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))
    ran = run("quickstart")
    assert (ran.code, fakes.commands()) == (3, [])
    assert reason in ran.err


def test_down_deletes_only_the_own_cluster(
    run: Callable[..., Ran], fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full disk is a reason to delete it.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0))
    assert run("quickstart", "--down").code == 0
    assert fakes.commands() == ["kind delete cluster --name ebbtide-quickstart"]


def test_another_cluster_needs_no_docker_and_only_its_model_is_deleted(
    run: Callable[..., Ran], fakes: Fakes, tmp_path: Path
) -> None:
    (fakes.folder / "docker").unlink()
    (fakes.folder / "kind").unlink()
    use = ("--use", str(tmp_path / "kubeconfig"), "-n", "team-a")
    assert run("quickstart", *use, "--image", "registry.example.com/llama.cpp:server").code == 0
    assert run("quickstart", *use, "--down").code == 0
    assert [line.split()[1] for line in fakes.commands()] == ["apply", "call", "why", "wait", "list", "delete"]
    assert "registry.example.com/llama.cpp:server" in fakes.record.with_suffix(".spec").read_text()
    # The profile of the environment describes the user's own cluster.
    environments = {*fakes.record.with_suffix(".environment").read_text().splitlines()}
    assert environments == {f"{tmp_path / 'kubeconfig'} of-my-cluster.yaml"}


def test_without_a_home_directory_the_fix_is_named(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME")
    ran = run("quickstart")
    assert ran.code == 2
    assert "set HOME or XDG_STATE_HOME" in ran.err
