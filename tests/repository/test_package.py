"""The sdist and the wheel: what they contain, and that neither is built without the page's libraries.

``make package`` also installs the wheel in an empty environment and loads the page from it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from ebbtide import __version__
from ebbtide.core.documents.problem_texts import read_problem_texts

ROOT: Final = Path(__file__).parents[2]
VENDOR: Final = Path("platform", "ebbtide", "server", "web", "static", "vendor")
LIBRARIES: Final = {
    "editor.min.js",
    "editor.txt",
    "geist.txt",
    "geist.woff2",
    "htmx.min.js",
    "htmx.txt",
    "uPlot.iife.min.js",
    "uPlot.min.css",
    "uPlot.txt",
}


def build(source: Path, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--outdir={target}", *options, str(source)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def source(dist: Path) -> Path:
    """The unpacked sdist."""
    with tarfile.open(dist / f"ebbtide-{__version__}.tar.gz") as archive:
        archive.extractall(dist, filter="data")
    return dist / f"ebbtide-{__version__}"


def test_the_sdist_holds_what_a_build_needs_and_nothing_else(source: Path) -> None:
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    rest = {path.as_posix() for path in files if path.parts[:2] != ("platform", "ebbtide")}

    assert rest == {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "tools/build_hook.py"}
    assert {path.name for path in files if path.parent == VENDOR} == LIBRARIES


def test_the_wheel_holds_every_file_of_the_package(dist: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "platform"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split()
    expected = {PurePosixPath(name).relative_to("platform").as_posix() for name in tracked if (ROOT / name).exists()}
    expected |= {f"ebbtide/server/web/static/vendor/{name}" for name in LIBRARIES}
    with zipfile.ZipFile(dist / f"ebbtide-{__version__}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == expected


def test_a_wheel_of_the_work_tree_is_the_wheel_of_the_sdist(dist: Path, tmp_path: Path) -> None:
    done = build(ROOT, tmp_path, "--wheel")
    (wheel,) = tmp_path.iterdir()

    assert done.returncode == 0, done.stdout + done.stderr
    assert wheel.read_bytes() == (dist / wheel.name).read_bytes()


def test_docs_reads_the_problem_texts_from_the_wheel(dist: Path) -> None:
    program = "import ebbtide.cli, sys; print(ebbtide.__file__); sys.exit(ebbtide.cli.main(['docs']))"
    wheel = dist / f"ebbtide-{__version__}-py3-none-any.whl"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=dist, env={"PYTHONPATH": str(wheel)}, check=True, capture_output=True
    )
    home, *lines = done.stdout.decode().splitlines()

    assert Path(home).is_relative_to(wheel)
    assert [line.split("  ")[0] for line in lines] == list(read_problem_texts())


@pytest.mark.parametrize("kind", ["--wheel", "--sdist"])
def test_nothing_is_built_without_the_pages_libraries(source: Path, tmp_path: Path, kind: str) -> None:
    bare = shutil.copytree(source, tmp_path / "source", ignore=shutil.ignore_patterns("htmx.min.js"))
    done = build(bare, tmp_path / "dist", kind)

    assert done.returncode != 0
    assert "the page's libraries are missing: vendor/htmx.min.js; run `make assets`" in done.stdout + done.stderr
    assert not list((tmp_path / "dist").glob("*"))


def test_the_version_stands_once() -> None:
    assert not re.search(r"^version = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_each_step_of_an_installation_prints_one_line() -> None:
    """A recipe prints what it installs and from where, and not its commands."""
    recipes = re.findall(
        r"^(\$\((?:VENV|ASSETS|LANGUAGE_SERVICE)\)/\.\S+|package):.*\n((?:\t.*\n)+)",
        (ROOT / "Makefile").read_text(),
        re.MULTILINE,
    )
    lines = {target: re.sub(r"\\\n", "", recipe).splitlines() for target, recipe in recipes}

    assert {"$(VENV)/.runtime", "$(VENV)/.serve", "$(ASSETS)/.made", "package"} <= {*lines}
    assert [line for recipe in lines.values() for line in recipe if not line.startswith("\t@")] == []
    assert [target for target, recipe in lines.items() if not any(line.startswith("\t@echo ") for line in recipe)] == []
