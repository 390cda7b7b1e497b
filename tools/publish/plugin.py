"""Write the archive of the kubectl plugin and its manifest for krew, to ``build/plugin``. Nothing is published.

The archive has a script that runs the installed program, because krew installs files and no Python packages. The same sources
give the same bytes. Upstream: krew.sigs.k8s.io/docs/developer-guide (the manifest, and the names of archives and plugins).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
sys.path.insert(0, str(ROOT / "platform"))

from ebbtide import __version__  # noqa: E402

HOME: Final = "https://github.com/ebbtide/ebbtide"
ARCHIVE: Final = "kubectl-ebbtide.tar.gz"
FILES: Final = (HERE / "kubectl-ebbtide", ROOT / "LICENSE")


def pack(files: Iterable[Path]) -> bytes:
    """Return a compressed archive of files, without their times and owners."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for path in files:
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = path.stat().st_size, 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
    return packed.getvalue()


def make_manifest(archive: bytes) -> dict[str, Any]:
    """Return krew's manifest of the plugin."""
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "ebbtide"},
        "spec": {
            "version": f"v{__version__}",
            "homepage": HOME,
            "shortDescription": "Deploy and explain inference services",
            "description": "Deploys short inference specs on Knative and KServe, and explains every scaling decision.\n",
            "caveats": f"The plugin runs the program ebbtide, which needs Python:\n{HOME}/blob/main/docs/install.md\n",
            "platforms": [
                {
                    "selector": {"matchExpressions": [{"key": "os", "operator": "In", "values": ["linux", "darwin"]}]},
                    "uri": f"{HOME}/releases/download/v{__version__}/{ARCHIVE}",
                    "sha256": hashlib.sha256(archive).hexdigest(),
                    "bin": "kubectl-ebbtide",
                }
            ],
        },
    }


def write_plugin(folder: Path) -> None:
    """Write the archive and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = pack(FILES)
    (folder / ARCHIVE).write_bytes(archive)
    (folder / "ebbtide.yaml").write_text(yaml.safe_dump(make_manifest(archive), sort_keys=False), encoding="utf-8")


def main() -> None:
    """Write both files, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "plugin")
    folder = parser.parse_args().folder
    write_plugin(folder)
    print(f"{folder / ARCHIVE}\n{folder / 'ebbtide.yaml'}")


if __name__ == "__main__":
    main()
