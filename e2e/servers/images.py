"""The images that the cases deploy: our servers, built once and kept by a digest of all that went into them."""

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from e2e.build import BuildError, alone, module_folder, run
from e2e.images import FORMAT, Image, write
from e2e.servers import python

HERE: Final = Path(__file__).resolve().parent

GO_SERVERS: Final = ("load", "gpu-exporter", "grpc")
"""Static programs; each folder is a separate Go module."""

PACKAGE: Final = HERE.parents[1] / "platform" / "ebbtide"
PROBLEMS: Final = "core/base/problems.md"
LOCKED: Final = HERE.parents[1] / "requirements" / "serve.txt"
"""`ebbtide`, and all that it needs to serve."""
PYTHON_ENVIRONMENT: Final = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108  # in the image
MODEL: Final = HERE / "model"
LANGUAGE_MODEL: Final = HERE / "llm"
TRAINED: Final = Path(python.PACKAGES_PLACE, "magika", "models")
"""Where Magika's wheel has the trained model: one folder, named by its version."""

INITIALIZER: Final = "storage-initializer/scripts/initializer-entrypoint"
"""KServe's own, a script under `python/` of its module, and where its image has it."""

SHELL: Final = ("bash", "coreutils", "dash", "python3-minimal", "util-linux")
"""Packages of Debian that KServe's image of the initializer has, and that a Job that fills a claim calls."""


def image(name: str) -> str:
    """Return the image's full name, as manifests write it. Its tag is not `latest`, so the kubelet pulls nothing."""
    return f"ebbtide.local/e2e/{name}:v1"


def build(cache: Path, say: Callable[[str], None] = print) -> dict[str, Path]:
    """Build what is not built yet: the images' names, and the archives to import.

    Raises:
        BuildError: a compiler, or a download, failed.

    """
    return {
        **{image(name): go_image(name, cache, say) for name in GO_SERVERS},
        **_python_images(cache, say),
        image("llm"): language_model(cache, say),
        image("ebbtide"): ebbtide(cache, say),
    }


def ebbtide(cache: Path, say: Callable[[str], None] = print) -> Path:
    """Return the archive of `ebbtide` itself: its own sources on what it needs to serve.

    Raises:
        BuildError: a download failed.

    """
    root = _root(LOCKED, cache, say)
    environment = {**PYTHON_ENVIRONMENT, "PYTHONPATH": f"{python.PACKAGES_PLACE}:/app", "NUMBA_CACHE_DIR": "/tmp"}  # noqa: S108  # in the image
    made = Image(
        image("ebbtide"),
        [python.PYTHON, "-m", "ebbtide"],
        # The page is a link out of the package, and a link stays one unless it is named.
        {"/app/ebbtide": PACKAGE, f"/app/ebbtide/{PROBLEMS}": PACKAGE / PROBLEMS},
        root=root,
        environment=environment,
    )
    return _archive(made, cache, say)


def language_model(cache: Path, say: Callable[[str], None] = print) -> Path:
    """Return the archive of the language model server. It writes its model when it starts: 41 MB less to import.

    Raises:
        BuildError: a download failed.

    """
    made = Image(
        image("llm"),
        [python.PYTHON, "/app/server.py"],
        {f"/app/{name}": LANGUAGE_MODEL / name for name in ("server.py", "model.py")},
        root=_root(LANGUAGE_MODEL / "requirements.txt", cache, say),
        environment={**PYTHON_ENVIRONMENT, "PYTHONPATH": python.PACKAGES_PLACE},
    )
    return _archive(made, cache, say)


def _root(requirements: Path, cache: Path, say: Callable[[str], None], *packages: str) -> Path:
    """Return Python with the wheels of a lock file and packages of Debian, made where it is not."""
    root = cache / "servers" / f"python-{_digest([requirements, Path(python.__file__)], *packages)}.tar"
    with alone(root):
        if not root.exists():
            python.make(requirements, root, root.with_suffix(".work"), say, packages)
    return root


def program(name: str, cache: Path, say: Callable[[str], None] = print) -> Path:
    """Return a Go server's program, built where it is not: it runs outside an image too.

    Raises:
        BuildError: there is no Go, or it failed.

    """
    sources = HERE / name
    place = cache / "servers" / f"{name}-{_digest(_files(sources), run('go', 'env', 'GOVERSION'))}"
    with alone(place):
        if not place.exists():
            say(f"building {name}")
            partial = place.with_suffix(".partial")
            run(
                *("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(partial), "."),
                cwd=sources,
                env={**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOFLAGS": "-mod=readonly"},
            )
            partial.rename(place)
    return place


def go_image(name: str, cache: Path, say: Callable[[str], None] = print) -> Path:
    """Return the archive of a Go server, written when what is in it has changed.

    Raises:
        BuildError: there is no Go, or it failed.

    """
    built = program(name, cache, say)
    made = Image(image(name), [f"/app/{name}"], {f"/app/{name}": built})
    return _archive(made, cache, say)


def _python_images(cache: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Build the model server, the storage initializer on the same root, and a store that has the model to download."""
    requirements = MODEL / "requirements.txt"
    root = _root(requirements, cache, say, *SHELL)
    environment = {**PYTHON_ENVIRONMENT, "PYTHONPATH": python.PACKAGES_PLACE}
    initializer = _executable(module_folder("kserve", "github.com/kserve/kserve") / "python" / INITIALIZER, cache)
    files = cache / "servers" / f"store-{_digest([requirements, Path(__file__)])}"
    with alone(files):
        if not files.exists():
            _store(root, files)
    images = (
        Image(
            image("model"),
            [python.PYTHON, "/app/server.py"],
            {"/app/server.py": MODEL / "server.py"},
            root=root,
            environment=environment,
        ),
        Image(
            image("storage-initializer"),
            [python.PYTHON, f"/{INITIALIZER}"],
            {f"/{INITIALIZER}": initializer},
            root=root,
            environment=environment,
        ),
        Image(
            image("store"),
            ["/app/load"],
            # KServe mounts the folder `models` of an image (kserve pkg/utils/storage.go, ConfigureOciNativeToContainer).
            {"/app/load": program("load", cache, say), "/files": files, "/models": files / "magika"},
            environment={"FILES": "/files"},
        ),
    )
    return {made.name: _archive(made, cache, say) for made in images}


def _executable(script: Path, cache: Path) -> Path:
    """Return a copy that can be executed, as in KServe's image: the files of a module cannot."""
    place = cache / "servers" / f"{script.name}-{_digest([script])}"
    with alone(place):
        if not place.exists():
            partial = place.with_suffix(".partial")
            partial.write_bytes(script.read_bytes())
            partial.chmod(0o755)
            partial.rename(place)
    return place


def _store(root: Path, files: Path) -> None:
    """Take the model's files out of the root: as they are, and as the archive that a `storageUri` can name.

    A zip: to unpack a tar, KServe's initializer needs a Python of 3.11.4 or later, and Debian 12 has 3.11.2.
    """
    partial = files.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder = partial / "magika"
    folder.mkdir(parents=True)
    with tarfile.open(root) as whole, zipfile.ZipFile(partial / "magika.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in whole:
            place = Path("/", entry.name)
            stream = whole.extractfile(entry) if place.parent.parent == TRAINED else None
            if stream is not None:
                content = stream.read()
                (folder / place.name).write_bytes(content)
                archive.writestr(zipfile.ZipInfo(place.name), content, zipfile.ZIP_DEFLATED)
    if not list(folder.iterdir()):
        raise BuildError(f"the locked wheel of Magika has no model in {TRAINED}")
    partial.rename(files)


def _archive(made: Image, cache: Path, say: Callable[[str], None]) -> Path:
    sources = [path for source in made.files.values() for path in ([source] if source.is_file() else _files(source))]
    described = [made.name, made.root.name if made.root else "", repr(made.entrypoint), repr(made.environment)]
    digest = _digest([*sources, FORMAT], *described, *made.files)
    archive = cache / "images" / f"{made.name.rpartition('/')[2].partition(':')[0]}-{digest}.tar"
    with alone(archive):
        if not archive.exists():
            say(f"writing the image {made.name}")
            write(made, archive)
    return archive


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _digest(files: list[Path], *more: str) -> str:
    digest = hashlib.sha256()
    for part in (*(file.read_bytes() for file in files), *(text.encode() for text in more)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
