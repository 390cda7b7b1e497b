"""Test the packages in ``dist``: rebuild, install in an empty environment, load the page of ``ebbtide serve --demo``.

The installed programs run without npm and make: their ``PATH`` has only the environment's programs. Also write the bill of materials of that environment.
"""

from __future__ import annotations

import os
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

import bill_of_materials

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
BILL: Final = ROOT / "build" / "ebbtide.cdx.json"
LOCKS: Final = ("runtime", "simulate", "serve")
ADDRESS: Final = re.compile(r"Open (http://127\.0\.0\.1:\d+)/(\?key=[\w-]+)")
LOADED: Final = re.compile(r'(?:src|href)="(/static/[^"]+)"')
START_SECONDS: Final = 120
REQUEST_SECONDS: Final = 30


def only(dist: Path, pattern: str) -> Path:
    """Return the only file that matches a pattern."""
    (path,) = dist.glob(pattern)
    return path


def pip(*words: str | Path, python: str | Path = sys.executable) -> None:
    """Run the locked pip for an environment without pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={python}", "--quiet"]
    subprocess.run([*command, *words], check=True)


def rebuild(sdist: Path, wheel: Path, folder: Path) -> None:
    """Build the wheel from the sdist in pip's own isolated environment; the bytes must be those of ``wheel``."""
    pip("wheel", "--no-deps", f"--wheel-dir={folder}", sdist)
    if (folder / wheel.name).read_bytes() != wheel.read_bytes():
        raise ValueError(f"{sdist.name} builds another wheel than {wheel.name}")


def install(python: Path, wheel: Path) -> None:
    """Install the wheel with the locked versions of its dependencies."""
    locks = [f"--requirement={ROOT / 'requirements' / name}.txt" for name in LOCKS]
    pip("install", "--require-hashes", *locks, python=python)
    # Installed by its name, since pip would record a path as the package's origin.
    pip("install", "--no-deps", "--no-index", f"--find-links={wheel.parent}", "ebbtide", python=python)


def only_programs(program: Path) -> dict[str, str]:
    """Return an environment whose ``PATH`` has only the programs of a virtual environment."""
    return {**os.environ, "PATH": str(program.parent)}


def run_plugin(program: Path, folder: Path) -> str:
    """Run the kubectl plugin as kubectl does, on the simulated cluster, and return its table of workloads."""
    command: list[str | Path] = [program, "--demo", "list", "-A"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=only_programs(program)
    )
    if not done.stdout.startswith("NAME "):
        raise ValueError(f"kubectl-inference prints no table: {done.stdout}")
    return str(done.stdout)


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Run ``ebbtide serve --demo`` on a free port, and yield its address, when it responds, and the path that signs in."""
    log = folder / "log"
    with log.open("w") as file:
        command: list[str | Path] = [program, "serve", "--demo", "--port=0"]
        server = subprocess.Popen(command, stderr=file, cwd=folder, env=only_programs(program))
    try:
        end = time.monotonic() + START_SECONDS
        while not (match := ADDRESS.search(log.read_text())) or not answers(match[1]):
            if server.poll() is not None or time.monotonic() > end:
                raise TimeoutError(f"the server does not answer: {log.read_text()}")
            time.sleep(0.2)
        yield match[1], f"/{match[2]}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(START_SECONDS)


def answers(address: str) -> bool:
    """Return whether the server responds: it prints its address before it listens."""
    try:
        return bool(get(f"{address}/readyz"))
    except OSError:
        return False


#: Keeps the session's cookie.
BROWSER: Final = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())


def get(address: str) -> bytes:
    """Return the response of a loopback address. It is bytes, because of the typeface."""
    with BROWSER.open(address, timeout=REQUEST_SECONDS) as answer:
        return bytes(answer.read())


def load(address: str, start: str) -> list[str]:
    """Load the page and every file that it refers to; return their paths."""
    paths = LOADED.findall(get(address + start).decode())
    # The address of a missing file has no hash.
    wrong = [path for path in paths if path.endswith("?missing") or not get(address + path)]
    if wrong or not any("/vendor/" in path for path in paths):
        raise ValueError(f"the page does not load what it needs: {wrong or paths}")
    return paths


def main(arguments: list[str]) -> int:
    """Test the sdist and the wheel in a folder."""
    dist = Path(arguments[0]).resolve()
    sdist, wheel = only(dist, "*.tar.gz"), only(dist, "*.whl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", symlinks=True)
        programs = folder / "venv" / "bin"
        rebuild(sdist, wheel, folder)
        install(programs / "python", wheel)
        with serving(programs / "ebbtide", folder) as (address, start):
            paths = load(address, start)
        workloads = run_plugin(programs / "kubectl-inference", folder)
        components = bill_of_materials.write(programs / "python", BILL)
    print(f"{wheel.name}: the sdist builds the same wheel; the page and its {len(paths)} files load")
    print(f"kubectl-inference --demo list -A: {len(workloads.splitlines()) - 1} workloads")
    print(f"{BILL.relative_to(ROOT)}: {len(components)} components")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
