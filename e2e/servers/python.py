"""The root file system of the images that run Python: Debian's interpreter and the locked wheels, no apt.

Debian's packages come from the machine's own apt sources, unpacked and not installed: nothing here needs their scripts.
"""

import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from e2e.build import run

SUITE: Final = "bookworm"
PACKAGES: Final = ("python3.11", "libstdc++6", "libgomp1")
"""The interpreter, and the packages that ONNX Runtime and llama.cpp need; apt adds the libraries that these depend on."""

PYTHON: Final = "/usr/bin/python3.11"
PACKAGES_PLACE: Final = "/app/site-packages"

PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Wheels that Debian 12's C library (2.36) runs. pip takes the words as they are, without the older ones that a word
implies; whatever Python runs pip, the wheels are for the image's."""

SOURCES: Final = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
"""Files in which a Debian machine names its mirror. Other files in sources.list.d are not Debian's."""

UNNEEDED: Final = (
    *("dev", "etc/apt", "etc/hostname", "etc/resolv.conf", "usr/include", "var"),
    *(f"usr/share/{each}" for each in ("doc", "doc-base", "info", "lintian", "locale", "man", "perl5", "pixmaps")),
)
"""Documentation, caches, and what says which machine built the image. The container runtime makes its own /dev."""

UNNEEDED_OF_WHEELS: Final = (
    "bin",  # unused commands, Magika's of 34 MB among them
    "*/tests",
    "*/*/tests",
    "kubernetes/aio",  # a second copy of the client, 75 MB with its bytecode
    "onnxruntime/capi/libonnxruntime.so.*",  # for programs in C; Python's module has it all inside
)


def make(requirements: Path, root: Path, work: Path, say: Callable[[str], None], more: Sequence[str] = ()) -> None:
    """Write the root as a tar, with more of Debian's packages. `work` is a folder for what is made on the way.

    Raises:
        BuildError: a download failed.

    """
    sources = debian_sources()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    folder = work / "root"
    say("unpacking Debian's python3.11")
    run(
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--mode=root",
        "--format=directory",
        f"--include={','.join((*PACKAGES, *more))}",
        '--aptopt=APT::Install-Recommends "false"',
        SUITE,
        str(folder),
        *sources,
    )
    say(f"installing the wheels of {requirements.name}")
    installed = folder / PACKAGES_PLACE.strip("/")
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",  # the lock leaves some out: overrides.in
        "--no-compile",
        "--only-binary=:all:",
        "--implementation=cp",
        "--python-version=3.11",
        "--abi=cp311",
        "--abi=abi3",
        "--abi=none",
        *(f"--platform={platform}" for platform in PLATFORMS),
        f"--target={installed}",
        f"--requirement={requirements}",
    )
    for pattern in UNNEEDED_OF_WHEELS:
        for place in list(installed.glob(pattern)):
            _remove(place)
    say("compiling the wheels")
    (folder / "dev" / "shm").mkdir(parents=True, exist_ok=True)  # two processes need a semaphore
    # Bytecode that is not held against its source's time: the image has no times.
    run(
        *("chroot", str(folder), PYTHON, "-m", "compileall", "-q", "-j2", "--invalidation-mode=unchecked-hash"),
        *("/usr/lib/python3.11", PACKAGES_PLACE),
    )
    for name in UNNEEDED:
        _remove(folder / name)
    partial = root.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=_fixed)
    shutil.rmtree(work)
    partial.rename(root)


def debian_sources() -> list[str]:
    """Return the machine's own lists of Debian's mirrors; on another distribution, Debian's public mirror.

    Another distribution needs Debian's keys, on Ubuntu from the package debian-archive-keyring.
    """
    if "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        return [f"deb http://deb.debian.org/debian {SUITE} main"]
    return [str(source) for source in SOURCES if source.exists()]


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _fixed(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
