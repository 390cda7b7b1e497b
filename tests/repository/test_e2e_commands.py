"""The suite's forked commands: the same output and status as the command in a process with its own imports."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.forked import run

SPEC = (Path(__file__).parents[2] / "examples/concurrency-scale-to-zero/spec.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "stdin"),
    [(["render", "-"], SPEC), (["check", "-"], "a: ["), (["explain", "-"], SPEC), (["list", "--kubeconfig=none"], "")],
)
def test_a_forked_command_gives_what_the_command_gives(words: list[str], stdin: str) -> None:
    expected = subprocess.run(
        [sys.executable, "-m", "ebbtide", *words], input=stdin, check=False, capture_output=True, text=True
    )
    forked = run(words, stdin)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )


def test_several_commands_run_side_by_side() -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = [done.returncode for done in pool.map(run, [["render", "-"]] * 16, [SPEC, ""] * 8)]
    assert statuses == [0, run(["render", "-"], "").returncode] * 8
