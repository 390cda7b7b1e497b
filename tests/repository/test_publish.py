"""Files for a maintainer to publish: the kubectl plugin for krew, the entry of SchemaStore, and the charts' metadata.

Upstream: krew's own check of manifests, ``cmd/validate-krew-manifest``, which ``make validate-krew-manifest`` builds;
SchemaStore's ``src/schemas/json/schema-catalog.json`` and ``cli.js``; Artifact Hub's annotations of Helm charts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import tarfile
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
import pytest
import yaml

from ebbtide import __version__

if TYPE_CHECKING:
    from types import ModuleType

ROOT: Final = Path(__file__).parents[2]
PUBLISH: Final = ROOT / "tools" / "publish"
#: The entries of ``schemas`` in SchemaStore's src/schemas/json/schema-catalog.json.
SCHEMA_STORE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name", "url", "description"],
    "additionalProperties": False,
    "properties": {
        "fileMatch": {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
        "url": {"type": "string", "format": "uri"},
        "name": {"type": "string"},
        "description": {"type": "string"},
        "versions": {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}},
    },
}
#: Endings, line breaks, and the word "schema", which SchemaStore's cli.js refuses in a name and a description.
REFUSED_TEXT: Final = re.compile(r"[,. \t-]$|\n|schema", re.IGNORECASE)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    location = importlib.util.spec_from_file_location("plugin_tool", PUBLISH / "plugin.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def krew() -> str:
    """The path of krew's check."""
    name = "validate-krew-manifest"
    built = sorted((ROOT / ".cache" / "bin").glob(f"*/{name}"))
    path = shutil.which(name) or next(map(str, built), None)
    if path is None:
        pytest.skip(f"no {name}: run `make {name}`")
    return path


def check_manifest(krew: str, manifest: Path) -> subprocess.CompletedProcess[str]:
    # An installation would download the archive.
    command = [krew, f"-manifest={manifest}", "-skip-install"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_krew_accepts_the_manifest(krew: str, tool: ModuleType, tmp_path: Path) -> None:
    tool.write_plugin(tmp_path)
    done = check_manifest(krew, tmp_path / "ebbtide.yaml")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "version"), "0.1"),
        (("spec", "shortDescription"), ""),
        (("spec", "platforms", 0, "sha256"), "0" * 63),
        (("spec", "platforms", 0, "selector", "matchExpressions", 0, "key"), "libc"),
        (("metadata", "name"), "kubectl-ebbtide"),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, tuple) else "",
)
def test_krew_refuses_a_wrong_manifest(
    krew: str, tool: ModuleType, tmp_path: Path, path: tuple[str | int, ...], value: str
) -> None:
    manifest = tool.make_manifest(b"archive")
    *parents, last = path
    place: Any = manifest
    for key in parents:
        place = place[key]
    place[last] = value
    file = tmp_path / "ebbtide.yaml"
    file.write_text(yaml.safe_dump(manifest))
    assert check_manifest(krew, file).returncode != 0


def test_the_manifest_names_the_archive(tool: ModuleType, tmp_path: Path) -> None:
    tool.write_plugin(tmp_path)
    manifest = yaml.safe_load((tmp_path / "ebbtide.yaml").read_text())
    archive = (tmp_path / tool.ARCHIVE).read_bytes()
    assert manifest["spec"]["version"] == f"v{__version__}"
    (platform,) = manifest["spec"]["platforms"]
    assert platform["sha256"] == hashlib.sha256(archive).hexdigest()
    assert platform["uri"] == f"{tool.HOME}/releases/download/v{__version__}/{tool.ARCHIVE}"
    assert tool.pack(tool.FILES) == archive
    with tarfile.open(tmp_path / tool.ARCHIVE) as opened:
        # The index of krew requires a license in the archive.
        assert opened.getnames() == [platform["bin"], "LICENSE"]
        assert opened.getmember(platform["bin"]).mode == 0o755


def test_the_plugin_runs_the_installed_program(tool: ModuleType, tmp_path: Path) -> None:
    tool.write_plugin(tmp_path)
    with tarfile.open(tmp_path / tool.ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    program = tmp_path / "kubectl-ebbtide"
    installed = tmp_path / "bin"
    installed.mkdir()
    (installed / "ebbtide").write_text('#!/bin/sh\necho "ebbtide got: $*"\n')
    (installed / "ebbtide").chmod(0o755)
    path = "/usr/bin:/bin"
    ran = subprocess.run(
        [program, "why", "chat x"], env={"PATH": f"{installed}:{path}"}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "ebbtide got: why chat x\n")
    (installed / "ebbtide").unlink()
    ran = subprocess.run(
        [program, "list"], env={"PATH": f"{installed}:{path}"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "the program ebbtide is not on the PATH" in ran.stderr


def test_schema_store_accepts_the_entry() -> None:
    entry = json.loads((PUBLISH / "schemastore.json").read_text())
    jsonschema_rs.validate(SCHEMA_STORE, entry, validate_formats=True)
    assert [text for text in (entry["name"], entry["description"]) if REFUSED_TEXT.search(text)] == []
    # SchemaStore asks for patterns that match no files of other programs, and for simple ones.
    assert all(re.fullmatch(r"\*\.ebbtide\.ya?ml", pattern) for pattern in entry["fileMatch"])
    # The address ends with the path of the schema in this repository.
    path = re.sub(r"^https://raw\.githubusercontent\.com/ebbtide/ebbtide/main/", "", entry["url"])
    schema = json.loads((ROOT / path).read_text())
    assert schema["$id"] == entry["url"]
    assert schema["$schema"].startswith(("http://json-schema.org/draft-07", "https://json-schema.org/draft/"))
    assert fnmatch("chat.ebbtide.yaml", entry["fileMatch"][0])


@pytest.mark.parametrize("chart", ["ebbtide", "ebbtide-controller"])
def test_the_charts_have_the_metadata_of_artifact_hub(chart: str) -> None:
    metadata = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text())
    assert {"description", "home", "icon", "keywords", "maintainers", "sources"} <= metadata.keys()
    assert metadata["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    # One of the categories that Artifact Hub knows.
    assert metadata["annotations"]["artifacthub.io/category"] == "ai-machine-learning"
