"""A release: fragments assembled into the changelog, and the tag held against the version."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import release
from ebbtide import __version__

ROOT: Final = Path(__file__).parents[2]
TYPES: Final = ("added", "changed", "deprecated", "removed", "fixed", "security")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the files that towncrier reads, without the current fragments."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "platform" / "ebbtide").mkdir(parents=True)
    shutil.copy(ROOT / "platform" / "ebbtide" / "__init__.py", tmp_path / "platform" / "ebbtide")
    (tmp_path / "changes").mkdir()
    shutil.copy(ROOT / "changes" / "README.md", tmp_path / "changes")
    return tmp_path


def towncrier(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towncrier", "build", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)


def test_the_fragments_of_today_can_be_assembled() -> None:
    done = towncrier(ROOT, "--draft")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"## {__version__} (")


def test_every_fragment_has_a_known_type() -> None:
    names = [path.name for path in (ROOT / "changes").iterdir() if path.name != "README.md"]

    assert [name for name in names if not re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(TYPES)})\.md", name)] == []


def test_the_changelog_is_assembled_above_what_it_has(project: Path) -> None:
    before = (project / "CHANGELOG.md").read_text()
    for number, name in enumerate(TYPES):
        (project / "changes" / f"+one.{name}.md").write_text(f"Change {number}.\n")
    done = towncrier(project, "--yes", "--date=2026-12-01")
    text = (project / "CHANGELOG.md").read_text()

    assert done.returncode == 0, done.stderr
    assert [path.name for path in (project / "changes").iterdir()] == ["README.md"]
    head, marker, rest = before.partition("<!-- towncrier release notes start -->\n")
    assert marker
    assert text.startswith(f"{head}{marker}\n## {__version__} (2026-12-01)\n\n### Added\n\n- Change 0.\n")
    assert text.endswith(rest)
    assert re.findall(r"- Change (\d)", text) == ["0", "1", "2", "3", "4", "5"]


def test_the_notes_are_the_versions_section(project: Path) -> None:
    (project / "changes" / "+one.added.md").write_text("A change.\n")
    towncrier(project, "--yes")
    old = "\n## 0.0.1 (2026-01-01)\n\n- Older.\n"
    (project / "CHANGELOG.md").write_text((project / "CHANGELOG.md").read_text() + old)
    notes = release.notes(project, f"v{__version__}")

    assert notes.startswith("### Added\n\n- A change.\n")
    assert "Older" not in notes


@pytest.mark.parametrize("tag", ["v9.9.9", __version__, "v"])
def test_a_tag_of_another_version_is_refused(project: Path, tag: str) -> None:
    with pytest.raises(ValueError, match=f"the tag must be v{re.escape(__version__)}"):
        release.notes(project, tag)


def test_a_tag_before_the_changelog_is_refused(project: Path) -> None:
    tag = f"v{__version__}"
    with pytest.raises(ValueError, match="has no section"):
        release.notes(project, tag)
    (project / "changes" / "+one.added.md").write_text("A change.\n")
    with pytest.raises(ValueError, match=r"lacks \+one\.added\.md"):
        release.notes(project, tag)


def test_the_command_says_what_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "release.py", "v9.9.9"], check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"error: the tag is v9.9.9, and the version is {__version__}: the tag must be v{__version__}\n"
    )


def test_the_bill_of_materials_has_the_pages_libraries_as_parts_of_ebbtide() -> None:
    import bill_of_materials  # noqa: PLC0415 - its validator takes seconds to import, in each process that collects this file

    bill = {
        "components": [{"name": "ebbtide"}, {"name": "pydantic"}],
        "dependencies": [{"ref": "ebbtide==1", "dependsOn": ["pydantic==1"]}, {"ref": "pydantic==1"}],
    }
    written = bill_of_materials.with_page(bill)
    names = [row["name"] for row in written["components"]]
    purls = [row["purl"] for row in written["components"] if "purl" in row]
    assets = json.loads((ROOT / "tools" / "assets" / "package.json").read_text())

    assert names[:2] == ["ebbtide", "pydantic"]
    assert {f"pkg:npm/{name}@{version}" for name, version in assets["dependencies"].items()} <= set(purls)
    # The editor's bundle also contains the libraries that its libraries import, but not the tools of the build.
    assert "style-mod" in names
    assert not set(names) & {"esbuild", "axe-core", "@esbuild/linux-x64"}
    assert written["dependencies"][0] == {"ref": "ebbtide==1", "dependsOn": ["pydantic==1", *purls]}
    assert [row["ref"] for row in written["dependencies"]] == ["ebbtide==1", "pydantic==1", *purls]
