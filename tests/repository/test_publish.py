"""Files for a maintainer to publish: the kubectl plugin for krew, the entry of SchemaStore, and the charts' metadata.

The shapes are those of the upstreams: krew's ``internal/index/validation`` and ``pkg/index/types.go``, SchemaStore's
``src/schemas/json/schema-catalog.json``, and Artifact Hub's annotations of Helm charts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
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
TEXT: Final = {"type": "string", "minLength": 1}
#: krew requires these fields, and rejects unknown ones and archives without a checksum.
KREW: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "krew.googlecontainertools.github.com/v1alpha2"},
        "kind": {"const": "Plugin"},
        "metadata": {"properties": {"name": {"pattern": "^[a-z0-9-]+$"}}, "required": ["name"]},
        "spec": {
            "required": ["version", "shortDescription", "platforms"],
            "additionalProperties": False,
            "properties": {
                "version": {"pattern": r"^v\d+\.\d+\.\d+$"},
                "shortDescription": {"type": "string", "minLength": 1, "maxLength": 50, "pattern": r"[^.]$"},
                "homepage": {"pattern": "^https://"},
                "description": TEXT,
                "caveats": TEXT,
                "platforms": {
                    "minItems": 1,
                    "items": {
                        "required": ["uri", "sha256", "bin", "selector"],
                        "additionalProperties": False,
                        "properties": {
                            "uri": {"pattern": r"^https://.*\.(tar\.gz|zip)$"},
                            "sha256": {"pattern": "^[a-f0-9]{64}$"},
                            "bin": {"pattern": "^[^/.]"},
                            "selector": {"required": ["matchExpressions"]},
                        },
                    },
                },
            },
        },
    },
}
SCHEMA_STORE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name", "url", "description"],
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "description": TEXT,
        # Not in a folder, and not every file of a common name.
        "fileMatch": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"pattern": r"^\*\.ebbtide\.ya?ml$"},
        },
        "url": {"type": "string", "format": "uri", "pattern": "^https://"},
        "versions": {"type": "object"},
    },
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    location = importlib.util.spec_from_file_location("plugin_tool", PUBLISH / "plugin.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def test_krew_accepts_the_manifest_of_the_archive(tool: ModuleType, tmp_path: Path) -> None:
    tool.write_plugin(tmp_path)
    manifest = yaml.safe_load((tmp_path / "ebbtide.yaml").read_text())
    jsonschema_rs.validate(KREW, manifest)
    archive = (tmp_path / tool.ARCHIVE).read_bytes()
    assert manifest["spec"]["version"] == f"v{__version__}"
    (platform,) = manifest["spec"]["platforms"]
    assert platform["sha256"] == hashlib.sha256(archive).hexdigest()
    assert platform["uri"].endswith(f"/v{__version__}/{tool.ARCHIVE}")
    assert tool.pack(tool.FILES) == archive


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
    jsonschema_rs.validate(SCHEMA_STORE, entry)
    # The address ends with the path of the schema in this repository.
    path = re.sub(r"^https://raw\.githubusercontent\.com/ebbtide/ebbtide/main/", "", entry["url"])
    schema = json.loads((ROOT / path).read_text())
    assert schema["$schema"].startswith(("http://json-schema.org/draft-07", "https://json-schema.org/draft/"))
    assert fnmatch("chat.ebbtide.yaml", entry["fileMatch"][0])


@pytest.mark.parametrize("chart", ["ebbtide", "ebbtide-controller"])
def test_the_charts_have_the_metadata_of_artifact_hub(chart: str) -> None:
    metadata = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text())
    assert {"description", "home", "icon", "keywords", "maintainers", "sources"} <= metadata.keys()
    assert metadata["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    # One of the categories that Artifact Hub knows.
    assert metadata["annotations"]["artifacthub.io/category"] == "ai-machine-learning"
