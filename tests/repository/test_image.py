"""The published image: built from the Containerfile, pushed to a registry on loopback, pulled, and run.

Buildah builds it without an engine. Its base is Debian's Python, because the public image may be out of reach, and of the
locked packages it has those of the command line, because the others are 500 MB of downloads. ``make package`` installs them all.
The registry and its client are go-containerregistry's, which ``make crane`` builds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml

from e2e.servers import python
from ebbtide import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
CONTAINERFILE: Final = ROOT / "Containerfile"
EXAMPLE: Final = ROOT / "examples" / "concurrency-scale-to-zero" / "spec.yaml"
PROGRAMS: Final = ("buildah", "mmdebstrap")
#: Packages of the base image: Python with its module venv, and a shell for RUN.
PACKAGES: Final = ("python3.11", "python3.11-venv", "dash", "coreutils", "libc-bin")
BASE: Final = (
    "FROM scratch\nADD base.tar /\nRUN mkdir -p /usr/local/bin && ln -s /usr/bin/python3.11 /usr/local/bin/python\n"
)
#: The build takes 35 s of processor time, next to the suite on the cluster.
pytestmark = pytest.mark.timeout(900)


class Pushed(NamedTuple):
    """An image in the registry: its name, and the digest that the builder printed when it pushed the image."""

    name: str
    digest: str


def run(*words: str | Path) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{words[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def crane() -> str:
    built = sorted((ROOT / ".cache" / "bin").glob("*/crane"))
    path = shutil.which("crane") or next(map(str, built), None)
    if path is None:
        pytest.skip("no crane: run `make crane`")
    return path


@pytest.fixture(scope="module")
def registry(crane: str) -> Iterator[str]:
    """The address of an empty registry, on a port that it chooses."""
    words = [crane, "registry", "serve", "--address=127.0.0.1:0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            match = re.search(r"port (\d+)$", line)
            assert match, line
            yield f"127.0.0.1:{match[1]}"
        finally:
            server.terminate()


def write_context(folder: Path) -> None:
    """Write what the Containerfile copies, and the wheels that its RUN instructions install without a network."""
    requirements, dist, wheels = folder / "requirements", folder / "dist", folder / "wheels"
    requirements.mkdir(parents=True)
    shutil.copy(ROOT / "requirements" / "runtime.txt", requirements)
    (requirements / "serve.txt").write_text("# Left out of this test.\n")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={dist}", ROOT)
    platforms = [f"--platform={platform}" for platform in python.PLATFORMS]
    for_image = ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none", *platforms]
    lock = f"--requirement={requirements / 'runtime.txt'}"
    options = ["--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", f"--dest={wheels}"]
    run(sys.executable, "-m", "pip", "download", *options, *for_image, lock)
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")


@contextmanager
def building(folder: Path) -> Iterator[list[str | Path]]:
    """Yield the words that run Buildah with a separate storage, without mounts, which is removed afterwards."""
    storage = [f"--root={folder / 'storage'}", f"--runroot={folder / 'running'}", "--storage-driver=vfs"]
    try:
        yield ["buildah", *storage]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pushed(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """The image of the Containerfile, in the registry."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        # CI runs as root, and installs them.
        (pytest.fail if os.environ.get("CI") and os.geteuid() == 0 else pytest.skip)(f"needs root and {PROGRAMS}")
    folder = tmp_path_factory.mktemp("image")
    write_context(folder)
    options = [f"--include={','.join(PACKAGES)}", '--aptopt=APT::Install-Recommends "false"']
    bootstrap = ["mmdebstrap", "--quiet", "--variant=extract", "--mode=root", *options, python.SUITE]
    run(*bootstrap, folder / "base.tar", *python.debian_sources())
    (folder / "base").write_text(BASE)
    name = f"{registry}/ebbtide:{__version__}"
    mounts = [f"--volume={folder / 'wheels'}:/wheels:ro", f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro"]
    with building(folder) as buildah:
        build = [*buildah, "build", "--isolation=chroot", "--pull-never"]
        run(*build, "--tag=localhost/base", f"--file={folder / 'base'}", folder)
        replaced = ["--from=localhost/base", *mounts]
        run(*build, *replaced, f"--tag={name}", f"--file={CONTAINERFILE}", folder)
        run(*buildah, "push", "--tls-verify=false", f"--digestfile={folder / 'digest'}", name)
        digest = (folder / "digest").read_text()
    return Pushed(name, digest)


def test_the_registry_returns_the_image_that_was_pushed(crane: str, pushed: Pushed, tmp_path: Path) -> None:
    manifest = run(crane, "manifest", pushed.name)
    run(crane, "validate", f"--remote={pushed.name}")
    run(crane, "pull", "--format=oci", pushed.name, tmp_path / "pulled")
    index = json.loads((tmp_path / "pulled" / "index.json").read_text())

    assert run(crane, "digest", pushed.name).strip() == pushed.digest
    assert f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}" == pushed.digest
    assert [entry["digest"] for entry in index["manifests"]] == [pushed.digest]
    for layer in json.loads(manifest)["layers"]:
        blob = tmp_path / "pulled" / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_the_image_starts_ebbtide_as_a_user_without_rights(crane: str, pushed: Pushed) -> None:
    config = json.loads(run(crane, "config", pushed.name))["config"]
    labels = {name: text for name, text in config["Labels"].items() if name.startswith("org.opencontainers.image.")}

    assert (config["Entrypoint"], config["Cmd"]) == (["ebbtide"], ["serve", "--help"])
    assert (config["User"], list(config["ExposedPorts"])) == ("65532:65532", ["8042/tcp"])
    assert labels == {
        "org.opencontainers.image.title": "Ebbtide",
        "org.opencontainers.image.description": "Deploy and explain inference services on Knative and KServe",
        "org.opencontainers.image.source": "https://github.com/ebbtide/ebbtide",
        "org.opencontainers.image.licenses": "Apache-2.0",
    }


def test_the_pulled_image_runs(crane: str, pushed: Pushed, tmp_path: Path) -> None:
    config = json.loads(run(crane, "config", pushed.name))["config"]
    run(crane, "export", pushed.name, tmp_path / "root.tar")
    root = tmp_path / "root"
    with tarfile.open(tmp_path / "root.tar") as archive:
        archive.extractall(root, filter="tar")
    start = ["chroot", f"--userspec={config['User']}", root, "env", "-i", *config["Env"], *config["Entrypoint"]]
    here = [sys.executable, "-m", "ebbtide"]
    rendered = [
        subprocess.run([*words, "render", "-"], check=True, capture_output=True, input=EXAMPLE.read_bytes()).stdout
        for words in (start, here)
    ]
    shutil.rmtree(root)

    assert rendered[0] == rendered[1] != b""


def test_the_containerfile_copies_files_of_the_checkout_and_of_make_package() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    sources = " ".join(copied).split()

    assert {"dist/*.whl", "requirements/runtime.txt", "requirements/serve.txt"} == set(sources)
    assert [source for source in sources if not source.startswith("dist/") and not (ROOT / source).exists()] == []


@pytest.mark.parametrize("name", ["ebbtide", "controller"])
def test_the_manifests_leave_the_entry_point_and_use_the_user_of_the_image(name: str) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert user
    pod = yaml.safe_load((ROOT / "kustomize" / name / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    context: dict[str, Any] = pod["securityContext"]

    assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user.groups()))
    assert [container for container in pod["containers"] if "command" in container] == []
    assert pod["containers"][0]["args"][0] == {"ebbtide": "serve", "controller": "controller"}[name]
