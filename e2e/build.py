"""Build the programs of a component from its pinned module, once: a folder named by what went into it is the cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.components import COMPONENTS, Component
from e2e.paths import CACHE, MODULES


class BuildError(Exception):
    """A component could not be built; the message has the last lines that the compiler said."""


def folder(component: Component) -> Path:
    """Return where the component's programs are, or will be."""
    module = MODULES / component.name
    digest = hashlib.sha256()
    for part in (
        (module / "go.mod").read_bytes(),
        (module / "go.sum").read_bytes(),
        b"".join(file.read_bytes() for file in sorted(module.glob("*.go"))),
        run("go", "env", "GOVERSION").encode(),
        repr(_flags(component)).encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return CACHE / "bin" / f"{component.name}-{digest.hexdigest()[:16]}"


def built(component: Component) -> bool:
    """Say whether there is nothing to build."""
    return (folder(component) / "done").exists()


def build(component: Component) -> Path:
    """Build what is not built yet and return the folder; two at once don't do it twice.

    Raises:
        BuildError: the compiler, or the download of a module, failed.

    """
    place = folder(component)
    with alone(place):
        if not built(component):
            fresh = place.with_suffix(".partial")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            run(
                *("go", "install", *_flags(component), component.packages),
                cwd=MODULES / component.name,
                env={**os.environ, "GOBIN": str(fresh), "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
            )
            for ours, theirs in component.programs.items():
                if ours != theirs:
                    (fresh / theirs).rename(fresh / ours)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
            (place / "done").touch()
    return place


def program(component: str, name: str | None = None) -> Path:
    """Return the path of a built program."""
    return folder(COMPONENTS[component]) / (name or component)


def module_folder(component: str, module: str) -> Path:
    """Return where a module's own files lie: install manifests are read there and never copied.

    Raises:
        BuildError: the module cannot be downloaded.

    """
    listed = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]
    place = run(*listed, cwd=MODULES / component)
    if not place:
        run("go", "mod", "download", module, cwd=MODULES / component)
        place = run(*listed, cwd=MODULES / component)
    return Path(place)


def _flags(component: Component) -> list[str]:
    variables = [f"-X {name}={value}" for name, value in component.variables.items()]
    tags = [f"-tags={component.tags}"] if component.tags else []
    return ["-trimpath", *tags, "-ldflags", " ".join(["-s -w", *variables])]


def run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a tool that builds something and return what it printed.

    Raises:
        BuildError: it failed, with the last lines that it said, or is not there.

    """
    try:
        done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BuildError(
            f"the cluster and its servers are built with `{command[0]}`, which is not on the PATH"
        ) from error
    if done.returncode:
        where = f" in {cwd}" if cwd else ""
        raise BuildError(f"`{' '.join(command)}`{where} failed:\n" + "\n".join(done.stderr.splitlines()[-20:]))
    return done.stdout.strip()


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold the making of one cached file or folder: two at once don't do it twice."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
