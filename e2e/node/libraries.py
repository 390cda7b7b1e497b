"""Programs of this machine for an image, with the libraries that they load."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def with_libraries(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files, and the shared libraries that `ldd` finds for them, by their place in the image."""
    libraries = {
        word: Path(word).resolve()
        for source in {*files.values()}
        for word in subprocess.run(["ldd", str(source)], check=False, capture_output=True, text=True).stdout.split()
        if word.startswith("/")
    }
    return {**libraries, **files}
