"""The programs that `up` needs, checked before anything is downloaded or compiled. Prints all that are missing.

    python3 -m e2e.needs SOURCE [PROGRAM...]

It runs with the machine's Python, before the virtual environment exists.
"""

import os
import shutil
import sys
from typing import Final

#: Programs by source, with Debian's package of each, or where to get it.
PROGRAMS: Final = {
    "upstream": {
        "go": "go.dev/dl",
        "kubectl": "kubernetes.io/docs/tasks/tools",
        "mmdebstrap": "mmdebstrap",
        "zstd": "zstd",
    },
    "built": {
        "go": "go.dev/dl",
        "busybox": "busybox-static",
        "conntrack": "conntrack",
        "iptables": "iptables",
        "mmdebstrap": "mmdebstrap",
        "zstd": "zstd",
    },
}
ENGINES: Final = ("docker", "podman")
#: Folders of programs for root, which are not on every user's PATH.
FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find_missing(source: str, more: tuple[str, ...] = ()) -> list[str]:
    """Return the programs that are missing for images of a source, each with where to get it; `more` are further ones."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *FOLDERS))
    programs = {**PROGRAMS[source], **dict.fromkeys(more, "")}
    missing = [f"{name} ({place})" if place else name for name, place in programs.items() if not _has(name, path)]
    if not any(_has(name, path) for name in (*ENGINES, "dockerd")):
        missing.append("a container engine (docker.io, or podman)")
    return missing


def _has(name: str, path: str) -> bool:
    return shutil.which(name, path=path) is not None


def main() -> int:
    """Print what is missing, and return 1 if anything is."""
    source, *more = sys.argv[1:]
    missing = find_missing(source or "upstream", tuple(more))
    if missing:
        print(f"error: the cluster needs programs that are missing: {'; '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
