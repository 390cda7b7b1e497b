"""Try ``dist`` as a stranger would: rebuild, install in an empty environment, load the page of ``ebbtide serve --demo``."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = ("runtime", "simulate", "serve")
ADDRESS: Final = re.compile(r"ebbtide serves on (http://127\.0\.0\.1:\d+)/")
LOADED: Final = re.compile(r'(?:src|href)="(/static/[^"]+)"')
START_SECONDS: Final = 120
REQUEST_SECONDS: Final = 30


def only(dist: Path, pattern: str) -> Path:
    """Return the one file of a kind."""
    (path,) = dist.glob(pattern)
    return path


def rebuild(pip: list[str], sdist: Path, wheel: Path, folder: Path) -> None:
    """Build the wheel from the sdist in pip's own isolated environment; the bytes must be those of ``wheel``."""
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", sdist], check=True)
    assert (folder / wheel.name).read_bytes() == wheel.read_bytes(), f"{sdist.name} builds another wheel"


def install(pip: list[str], wheel: Path) -> None:
    """Install the wheel with the locked versions of what it needs."""
    locks = [f"--requirement={ROOT / 'requirements' / name}.txt" for name in LOCKS]
    subprocess.run([*pip, "install", "--quiet", "--require-hashes", *locks], check=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[str]:
    """Run ``ebbtide serve --demo`` on any free port, and give its address once it answers."""
    log = folder / "log"
    with log.open("w") as file:
        server = subprocess.Popen([program, "serve", "--demo", "--port=0"], stderr=file, cwd=folder)
    try:
        end = time.monotonic() + START_SECONDS
        while not (found := ADDRESS.search(log.read_text())) or not answers(found[1]):
            if server.poll() is not None or time.monotonic() > end:
                raise TimeoutError(f"the server does not answer: {log.read_text()}")
            time.sleep(0.2)
        yield found[1]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(START_SECONDS)


def answers(address: str) -> bool:
    """Whether the server answers: it prints its address before it listens."""
    try:
        return bool(get(f"{address}/readyz"))
    except OSError:
        return False


def get(address: str) -> str:
    """Return a text over loopback."""
    with urllib.request.urlopen(address, timeout=REQUEST_SECONDS) as answer:  # noqa: S310 - the server's own address
        return str(answer.read().decode())


def load(address: str) -> list[str]:
    """Load the page and every file that it names; return their paths."""
    paths = LOADED.findall(get(f"{address}/"))
    assert any("/vendor/" in path for path in paths), paths
    for path in paths:
        # A file that is missing has no hash in its address.
        assert not path.endswith("?missing"), path
        assert get(address + path), path
    return paths


def main(arguments: list[str]) -> int:
    """Try the sdist and the wheel in a folder."""
    dist = Path(arguments[0]).resolve()
    sdist, wheel = only(dist, "*.tar.gz"), only(dist, "*.whl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        rebuild(pip, sdist, wheel, folder)
        install(pip, wheel)
        with serving(folder / "venv" / "bin" / "ebbtide", folder) as address:
            paths = load(address)
    print(f"{wheel.name}: the sdist builds the same wheel; the page and its {len(paths)} files load")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
