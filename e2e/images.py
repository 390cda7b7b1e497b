"""Container images without an engine: an archive that `ctr images import`, `docker load` and `kind load` all read.

The format is docker-archive: layers and a config as files, and a manifest.json that names them. Same files, same
bytes: times and owners are fixed, so an image's id changes only with its content.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.build import run

FORMAT = Path(__file__)
"""An input of an archive's bytes, in addition to its contents."""
NOBODY = "65532"
"""The user of the images: Knative's, Kourier's and KServe's pods say `runAsNonRoot`, which needs a number."""


@dataclass(frozen=True)
class Image:
    """One image: `name` with its tag, the `files` by their place inside, and how it starts."""

    name: str
    """Such as `ebbtide.local/knative/controller:v1.21.1`. Never `latest`, which the kubelet would try to pull."""
    entrypoint: Sequence[str]
    files: Mapping[str, Path] = field(default_factory=dict)
    """Place inside → file outside; a folder outside brings all that is in it. Executable bits stay."""
    root: Path | None = None
    """A tar of a whole root file system as the first layer, for what is not static."""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = NOBODY
    stop_signal: str = "SIGTERM"


def write(image: Image, archive: Path, *, compressed: bool = True) -> None:
    """Write the image's archive; it appears whole or not at all.

    The layers are compressed, because containerd copies and hashes an archive twice before it unpacks it. Docker 20.10 reads
    only layers that are not.

    Raises:
        BuildError: `zstd` is missing.

    """
    work = archive.with_suffix(".layers")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    layers = [image.root] if image.root else []
    if image.files:
        layers.append(_layer(image.files, work / "files.tar"))
    digests = [_sha256(layer) for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": image.user,
                "Entrypoint": list(image.entrypoint),
                "Env": [f"{name}={value}" for name, value in sorted({"PATH": PATH, **image.environment}.items())],
                "WorkingDir": "/",
                "StopSignal": image.stop_signal,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        },
        sort_keys=True,
    ).encode()
    identity = hashlib.sha256(config).hexdigest()
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": f"{identity}.json", "RepoTags": [image.name], "Layers": names}]
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for name, layer in zip(names, layers, strict=True):
            stored = _compress(layer, work / "layer.zst") if compressed else layer
            with stored.open("rb") as stream:
                tar.addfile(_entry(name, stored.stat().st_size, 0o644), stream)
        for name, content in ((f"{identity}.json", config), ("manifest.json", json.dumps(manifest).encode())):
            tar.addfile(_entry(name, len(content), 0o644), io.BytesIO(content))
    shutil.rmtree(work)
    partial.rename(archive)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/app"


def _compress(layer: Path, place: Path) -> Path:
    run("zstd", "-1", "--quiet", "--force", "-o", str(place), str(layer))
    return place


def _layer(files: Mapping[str, Path], archive: Path) -> Path:
    """Write one layer with these files and folders, readable by all. A link in a folder stays a link."""
    entries: dict[str, Path] = {}
    for place, source in files.items():
        if not source.exists():
            raise FileNotFoundError(source)
        for path in [source] if source.is_file() else [source, *source.rglob("*")]:
            entries[str(Path(place.strip("/")) / path.relative_to(source))] = path
    folders = {str(parent) for name in entries for parent in Path(name).parents} | {"tmp"}
    folders |= {name for name, path in entries.items() if path.is_dir() and not path.is_symlink()}
    with tarfile.open(archive, "w") as tar:
        for name in sorted(folders - {"."}):
            folder = _entry(name, 0, 0o1777 if name == "tmp" else 0o755)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name, path in sorted(entries.items()):
            if path.is_symlink() and path not in files.values():
                link = _entry(name, 0, 0o777)
                link.type, link.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(link)
            elif name not in folders:
                with path.open("rb") as stream:
                    mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                    tar.addfile(_entry(name, path.stat().st_size, mode), stream)
    return archive


def _entry(name: str, size: int, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, mode
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
