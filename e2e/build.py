"""Build the programs of a component from its pinned module, once: a folder named by what went into it is the cache."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from e2e.components import COMPONENTS, Component
from e2e.paths import CACHE, MODULES

SOURCE: Final = "source"
"""The folder with the changed copies of modules."""


class BuildError(Exception):
    """A component could not be built; the message has the last lines that the compiler said."""


def folder(component: Component) -> Path:
    """Return where the component's programs are, or will be."""
    module = component.sources
    digest = hashlib.sha256()
    for part in (
        (module / "go.mod").read_bytes(),
        (module / "go.sum").read_bytes(),
        b"".join(file.read_bytes() for file in sorted(module.glob("*.go"))),
        run("go", "env", "GOVERSION").encode(),
        repr(_flags(component)).encode(),
        *(file.read_bytes() for file in _shared_files(component.workspace)),
        *(file.read_bytes() for file in component.inputs if component.changes),
        *(package.encode() for package in (*component.packages, *component.tests)),
    ):
        digest.update(hashlib.sha256(part).digest())
    return CACHE / "bin" / f"{component.name}-{digest.hexdigest()[:16]}"


@cache
def _shared_files(workspace: str) -> list[Path]:
    """Return what says the versions of a workspace: go.work, and go.mod of each of its modules."""
    if not workspace:
        return []
    place = MODULES / workspace
    told = json.loads(run("go", "work", "edit", "-json", str(place)))
    return [place, *(place.parent / each["DiskPath"] / "go.mod" for each in told["Use"])]


def built(component: Component) -> bool:
    """Say whether there is nothing to build."""
    return (folder(component) / "done").exists()


def build(component: Component) -> Path:
    """Build what is missing and return the folder. Two processes do not build it twice.

    Raises:
        BuildError: the compiler, or the download of a module, failed.

    """
    place = folder(component)
    with alone(place):
        if not built(component):
            fresh = place.with_suffix(".partial")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            environment = _environment(component) | _changed(component, fresh) | {"GOBIN": str(fresh)}
            install = ("go", "install", *_flags(component), *_packages(component))
            run(*install, cwd=component.sources, env=environment)
            if component.tests:
                compile_tests = ("go", "test", "-c", f"-o={fresh}/", *_flags(component))
                run(*compile_tests, *component.tests, cwd=component.sources, env=environment)
            for ours, theirs in component.programs.items():
                if ours != theirs:
                    (fresh / theirs).rename(fresh / ours)
            shutil.rmtree(fresh / SOURCE, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
            (place / "done").touch()
    return place


def program(component: str, name: str | None = None) -> Path:
    """Return the path of a built program."""
    return folder(COMPONENTS[component]) / (name or component)


@cache
def module_folder(component: str, module: str) -> Path:
    """Return where a module's own files lie: install manifests are read there and never copied.

    Raises:
        BuildError: the module cannot be downloaded.

    """
    folder, environment = MODULES / component, _environment(COMPONENTS[component])
    listed = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    place = run(*listed, cwd=folder, env=environment)
    if not place:
        run("go", "mod", "download", module, cwd=folder, env=environment)
        place = run(*listed, cwd=folder, env=environment)
    return Path(place)


def _packages(component: Component) -> list[str]:
    """Return the packages to build: in a workspace the word `tool` would mean those of all its modules."""
    if component.packages:
        return list(component.packages)
    told = json.loads(run("go", "mod", "edit", "-json", cwd=component.sources))
    return [each["Path"] for each in told.get("Tool") or ()] or ["."]


def _changed(component: Component, work: Path) -> dict[str, str]:
    """Change copies of modules, where the component does, and return the variable that names their workspace."""
    if not component.changes:
        return {}
    workspace, copy = MODULES / component.workspace, work / SOURCE / "go.work"
    copy.parent.mkdir()
    told = json.loads(run("go", "work", "edit", "-json", str(workspace)))
    shutil.copyfile(workspace, copy)
    shutil.copyfile(workspace.with_suffix(".work.sum"), copy.with_suffix(".work.sum"))
    for each in told["Use"]:
        run("go", "work", "edit", f"-dropuse={each['DiskPath']}", str(copy))
        run("go", "work", "edit", f"-use={(workspace.parent / each['DiskPath']).resolve()}", str(copy))
    for module, change in component.changes.items():
        source = copy.parent / module
        shutil.copytree(module_folder(component.sources.name, module), source, copy_function=shutil.copyfile)
        for place in (source, *source.rglob("*/")):
            place.chmod(0o755)
        change(source)
        run("go", "work", "edit", f"-replace={module}={source}", str(copy))
    return {"GOWORK": str(copy)}


def _environment(component: Component) -> dict[str, str]:
    workspace = str(MODULES / component.workspace) if component.workspace else "off"
    # The compilers live for seconds each, and collect garbage for 3% of their time otherwise.
    return {"GOGC": "400", **os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": workspace}


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
    """Lock the making of one cached file or folder, so that two processes do not make it twice."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
