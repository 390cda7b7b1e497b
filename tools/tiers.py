"""Prove that the tiers are independent: run their tests in copies of the checkout that lack the folders of other tiers.

A module of tests that imports an absent tier is skipped (``tests/conftest.py``), so each copy also has the minimum share
of test functions that must pass. ``make check-tiers`` runs it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = Path("platform", "ebbtide")
#: They run for long, and import what their neighbors do. More random examples find no missing import either.
LONG: Final = ("tests/core/fuzz", "tests/simulator/test_simulate_fast.py", "tests/cluster/attacks")
OPTIONS: Final = [
    "-q",
    "-pno:cacheprovider",
    "--timeout=900",
    "--hypothesis-profile=few examples",
    *map("--ignore={}".format, LONG),
]


class Proof(NamedTuple):
    """One copy: the absent tiers, and the minimum share of test functions of a file or folder that must pass."""

    name: str
    absent: tuple[str, ...]
    shares: dict[str, float]
    #: Arguments of commands that need an absent tier, and the beginning of their messages.
    messages: dict[str, str]


SAMPLE: Final = ("tests/core/test_golden.py", "tests/server/test_specs.py", "tests/cli/test_cli_models.py")
PROOFS: Final = (
    Proof("core alone", ("simulator", "cluster", "server", "runai", "sandbox", "cli"), {"tests/core": 0.9}, {}),
    Proof(
        "without runai and sandbox",
        ("runai", "sandbox"),
        {"tests/simulator": 0.75, **dict.fromkeys(SAMPLE, 1.0)},
        {"submit chat": "submit needs ebbtide.runai.submit", "list --demo": "--demo needs ebbtide.sandbox.demo"},
    ),
    Proof(
        "without server and runai", ("server", "runai"), {"tests/cluster": 0.7}, {"serve": "serve needs ebbtide.server"}
    ),
)
ABSENT: Final = "which this installation does not contain: reinstall the wheel"


def copy_checkout(target: Path, absent: tuple[str, ...]) -> None:
    """Copy the tracked files, except the folders of the absent tiers."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and not name.startswith(tuple(f"{PACKAGE}/{tier}/" for tier in absent)):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def list_defined(path: Path) -> set[str]:
    """Return the test functions of a file, or of the files below a folder, as ``module.function``."""
    return {
        f"{file.stem}.{node.name}"
        for file in ([path] if path.is_file() else path.rglob("test_*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def list_passed(report: Path) -> set[str]:
    """Return the test functions of which a case passed, from pytest's JUnit file."""
    return {
        f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name', '').partition('[')[0]}"
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - pytest has just written it
        if not len(case)
    }


def judge(proof: Proof, root: Path, passed: set[str], answers: dict[str, tuple[int, str]]) -> list[str]:
    """Print how many test functions ran, and return the errors: too small shares, and other answers of commands."""
    errors = []
    for path, share in proof.shares.items():
        defined = list_defined(root / path)
        count = len(defined & passed)
        print(f"{proof.name}: {path}: {count} test functions ran, {len(defined) - count} were skipped")
        if count < share * len(defined):
            errors.append(f"{proof.name}: {path}: expected at least {share:.0%} of {len(defined)}, and {count} ran")
    for line, message in proof.messages.items():
        expected = 2, f"ebbtide: error: {message}, {ABSENT}\n"
        if answers[line] != expected:
            errors.append(f"{proof.name}: ebbtide {line}: expected {expected}, got {answers[line]}")
    return errors


def find_errors(proof: Proof, root: Path) -> list[str]:
    """Return the errors of one proof, in a copy at ``root``."""
    copy_checkout(root, proof.absent)

    def run(*words: str) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(root / "platform")}
        command = sys.executable, "-m", *words
        ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout + ran.stderr

    report = root / "report.xml"
    code, output = run("pytest", *OPTIONS, f"--junit-xml={report}", *proof.shares)
    if code:
        return [f"{proof.name}: the tests fail:\n{output}"]
    return judge(proof, root, list_passed(report), {line: run("ebbtide", *line.split()) for line in proof.messages})


def main() -> int:
    """Run all proofs, two at a time; each compiles the simulator at most once."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        roots = [Path(folder) / str(number) for number in range(len(PROOFS))]
        errors = [error for found in pool.map(find_errors, PROOFS, roots) for error in found]
    print("\n".join(errors), file=sys.stderr)
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
