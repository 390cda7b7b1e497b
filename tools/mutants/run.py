"""Change the product in small ways, and print the changes that the nearest tests do not notice. ``make mutants`` runs it.

A mutant is one changed expression or statement. A sample of the mutants of some groups of modules runs in copies of the
checkout; the same seed selects the same ones as long as their functions stay the same. For a survivor write the missing test,
or add it to ``EQUIVALENT`` with the reason why no test can notice it.

mutmut 3 runs all tests first to find those of each function, and cosmic-ray changes the files of the checkout and has one test
command for all modules. Neither draws a seeded sample, or knows which tests are near and quick.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from mutants.changes import Mutant, list_mutants
from mutants.tables import GROUPS, NEAREST
from tiers import PACKAGE, ROOT, copy_checkout

OPTIONS: Final = (
    *("-q", "-x", "-n0", "-pno:cacheprovider", "-pno:schemathesis"),
    *("--hypothesis-profile=few examples", "--hypothesis-seed=0"),
)


def sample_mutants(groups: list[str], count: int, seed: int) -> list[Mutant]:
    """Return a sample with equal shares of the groups."""
    sample: list[Mutant] = []
    for place, group in enumerate(groups):
        paths = [path for pattern in GROUPS[group] for path in (ROOT / PACKAGE).glob(pattern)]
        sources = {str(path.relative_to(ROOT / PACKAGE)): path.read_bytes() for path in paths}
        mutants = {str(mutant): mutant for module, source in sources.items() for mutant in list_mutants(module, source)}
        order = sorted(mutants, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        sample += [mutants[name] for name in order[: (count + place) // len(groups)]]
    return sample


def find_nearest(module: str) -> tuple[str, ...]:
    """Return the tests of a module, or of the nearest folder in the table."""
    return next(NEAREST[str(path)] for path in (Path(module), *Path(module).parents) if str(path) in NEAREST)


def copy_with_programs(root: Path) -> Path:
    """Copy the tracked files and numba's cache of the simulator, and link the built programs that tests run."""
    copy_checkout(root, ())
    for programs in (ROOT / "tools").glob("*/bin"):
        (root / programs.relative_to(ROOT)).symlink_to(programs)
    for compiled in (ROOT / PACKAGE).glob("simulator/__pycache__/*.nb[ic]"):
        (root / compiled.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, root / compiled.relative_to(ROOT))
    return root


def run_tests(root: Path, module: str, limit: float) -> tuple[str, str]:
    """Run the nearest tests of a module in a copy, and return the result, with pytest's output."""
    environment = {**os.environ, "PYTHONPATH": str(root / "platform")}
    output = ""
    for tests in find_nearest(module):
        words = [word if word.startswith("-") else f"tests/{word}" for word in tests.split()]
        command = [sys.executable, "-m", "pytest", *OPTIONS, *words]
        # In a separate session: a mutant that hangs ends with the processes that it started.
        options: dict[str, Any] = {"cwd": root, "env": environment, "text": True, "start_new_session": True}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return "timed out", output
        if process.returncode:
            return "killed", output
    return "survived", output


def judge(root: Path, mutant: Mutant, limit: float) -> str:
    """Return whether a mutant was killed, survived or timed out."""
    path = root / PACKAGE / mutant.module
    source = path.read_bytes()
    try:
        write_module(path, mutant.apply(source))
        return run_tests(root, mutant.module, limit)[0]
    finally:
        write_module(path, source)


def write_module(path: Path, source: bytes) -> None:
    """Write a module without what Python compiled of it, because Python compares only sizes and seconds."""
    path.write_bytes(source)
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def main() -> int:
    """Run a sample of mutants, and print each result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=[*GROUPS], metavar="GROUP", help=f"groups, of {', '.join(GROUPS)}")
    parser.add_argument("--count", type=int, default=20, help="mutants of the sample, default 20")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample, default 0")
    parser.add_argument("--match", default="", help="run only the mutants of the sample whose lines contain this text")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a run of tests, default 300")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time, default 2")
    parser.add_argument("--list", action="store_true", help="print the sample without running it")
    options = parser.parse_args()
    mutants = [row for row in sample_mutants(options.groups, options.count, options.seed) if options.match in str(row)]
    if options.list:
        print(*mutants, sep="\n")
        return 0
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        roots: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            roots.put(copy_with_programs(Path(folder) / str(number)))

        def run(function: Callable[..., Any], subject: Any) -> Any:
            root = roots.get()
            try:
                return function(root, subject, options.limit)
            finally:
                roots.put(root)

        modules = [*{find_nearest(mutant.module): mutant.module for mutant in mutants}.values()]
        for module, (result, output) in zip(modules, pool.map(partial(run, run_tests), modules), strict=True):
            if result != "survived":
                sys.exit(f"{output}\nThe tests of {module} fail without a mutant.")
        for mutant, result in zip(mutants, pool.map(partial(run, judge), mutants), strict=True):
            results[result] += 1
            print(f"{result}: {mutant}", *([mutant.make_diff()] if result == "survived" else []), sep="\n", flush=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = ", ".join(f"{number} {result}" for result, number in sorted(results.items()))
    print(f"{counts}; {usage.ru_utime + usage.ru_stime:.0f} s of processor time")
    return bool(results["survived"])


if __name__ == "__main__":
    sys.exit(main())
