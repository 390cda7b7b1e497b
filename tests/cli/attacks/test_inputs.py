"""No file, stream or name makes a command wait indefinitely, fill the memory, or end with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands import Ran

ROOT = Path(__file__).parents[3]
EBBTIDE = f"{sys.executable} -m ebbtide"
SPEC = str(ROOT / "examples" / "one-liner" / "spec.yaml")
SECONDS = 60


def shell(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=SECONDS, cwd=ROOT, **options
    )
    assert "Traceback" not in ran.stderr
    return ran


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"render -q {SPEC} >&-", "error: bad file descriptor"),
        (f"render -q {SPEC} >/dev/full", "error: no space left on device"),
        (f"render -q -o json {SPEC} >/dev/full", "error: no space left on device"),
        (f"check -o json {SPEC} >/dev/full", "error: no space left on device"),
        (f"explain {SPEC} >/dev/full", "error: no space left on device"),
        ("schema >/dev/full", "error: no space left on device"),
    ],
)
def test_output_that_cannot_be_written_is_reported(words: str, reason: str) -> None:
    ran = shell(f"{EBBTIDE} {words}")

    assert (ran.returncode, ran.stderr) == (2, f"{reason}\n")


@pytest.mark.parametrize("command", ["render -", "check - -o json"])
def test_a_closed_stdin_is_a_problem(command: str) -> None:
    ran = shell(f"{EBBTIDE} {command} <&-")

    assert ran.returncode == 1
    assert "FIL001" in ran.stdout + ran.stderr


def test_all_streams_closed_or_full_cause_no_traceback_and_no_success(tmp_path: Path) -> None:
    assert shell(f"{EBBTIDE} render {SPEC} <&- >&- 2>&-").returncode == 2
    assert shell(f"{EBBTIDE} check {tmp_path}/none.yaml 2>/dev/full >/dev/full").returncode == 2


def test_the_kustomize_function_reports_streams_as_well() -> None:
    krm = f"{sys.executable} -c 'from ebbtide.cli.author.krm import entry; entry()'"

    assert shell(f"{krm} <&-").returncode == 2
    ran = shell(f"echo '{{kind: ResourceList, items: []}}' | {krm} >/dev/full")
    assert (ran.returncode, ran.stderr) == (2, "error: no space left on device\n")


@pytest.mark.parametrize("words", ["check {}", "render {}", "check --profile {} " + SPEC, "tune {} --traffic {}"])
def test_a_name_that_is_too_long_is_a_problem(run: Callable[..., Ran], words: str) -> None:
    ran = run(*words.replace("{}", "a" * 5000).split())

    assert ran.code == 1
    assert "file name too long" in ran.out + ran.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "good.yaml").write_text(Path(SPEC).read_text())
    return tmp_path


def test_a_directory_reports_pipes_and_devices(run: Callable[..., Ran], folder: Path) -> None:
    ran = run("check", folder)

    assert ran.code == 1
    assert f"{folder}/pipe.yaml\n    cannot read the file: it is a named pipe" in ran.out
    assert f"{folder}/zero.yaml\n    cannot read the file: it is not a regular file" in ran.out
    assert f"{folder}/loop.yaml\n    cannot read the file: too many levels of symbolic links" in ran.out
    assert "1 service translated, 3 errors" in ran.out


@pytest.mark.parametrize("words", ["check {}/pipe.yaml", "check --profile {}/pipe.yaml " + SPEC])
def test_a_named_pipe_without_a_writer_is_not_waited_for(run: Callable[..., Ran], folder: Path, words: str) -> None:
    ran = run(*words.format(folder).split())

    assert ran.code == 1
    assert "it is a named pipe" in ran.out + ran.err


def test_the_pipe_of_a_process_substitution_is_read() -> None:
    assert "1 service translated, 0 errors" in shell(f"{EBBTIDE} check <(cat {SPEC})").stdout
    assert "1 service translated, 0 errors" in shell(f"{EBBTIDE} check /dev/stdin < {SPEC}").stdout


@pytest.mark.parametrize("words", ["check /dev/zero", "check - < /dev/zero", "check <(cat /dev/zero)"])
def test_an_endless_input_is_refused(words: str) -> None:
    ran = shell(f"{EBBTIDE} {words}")

    assert ran.returncode == 1
    assert "FIL057" in ran.stdout


@pytest.mark.parametrize("value", ["{}", "[]", '"x"'])
def test_a_name_prefix_of_another_type_is_a_problem(run: Callable[..., Ran], tmp_path: Path, value: str) -> None:
    body = tmp_path / "body.json"
    body.write_text(f'{{"name": "chat", "useGivenNameAsPrefix": {value}, "projectId": "p", "spec": {{"image": "a"}}}}')
    ran = run("check", body)

    assert ran.code == 1
    assert "useGivenNameAsPrefix" in ran.out
