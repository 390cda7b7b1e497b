"""No full disk and no killed process destroys a user's file: a file is replaced completely or not at all."""

from __future__ import annotations

import ast
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebbtide.cli.base.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[3] / "platform" / "ebbtide"
OLD = b"kind: Inference\n" * 100
NEW = b"kind: Inference # new\n" * 100


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "spec.yaml"
    file.write_bytes(OLD)
    yield file
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_file_is_replaced_and_keeps_its_mode(spec: Path) -> None:
    spec.chmod(0o640)
    replace_file(spec, NEW)

    assert spec.read_bytes() == NEW
    assert stat.S_IMODE(spec.stat().st_mode) == 0o640


def test_a_new_file_gets_the_mode_of_the_umask(spec: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(spec.with_name("new.yaml"), NEW)
    finally:
        os.umask(before)

    assert stat.S_IMODE(spec.with_name("new.yaml").stat().st_mode) == 0o640


def test_a_link_stays_a_link(spec: Path) -> None:
    first, second = spec.with_name("first"), spec.with_name("second")
    second.symlink_to("spec.yaml")
    first.symlink_to(second)
    replace_file(first, NEW)

    assert first.is_symlink()
    assert second.is_symlink()
    assert spec.read_bytes() == NEW


def test_a_device_is_written(spec: Path) -> None:
    replace_file(os.devnull, NEW)

    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert spec.read_bytes() == OLD


def test_a_full_disk_leaves_the_old_file(spec: Path) -> None:
    """A limit of the file size stops the write in its middle, as a full disk does."""
    program = (
        "import resource, signal, sys\n"
        "from ebbtide.cli.base.files import replace_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    replace_file(sys.argv[1], sys.stdin.buffer.read())\n"
        "except OSError:\n    sys.exit(7)\n"
    )
    ran = subprocess.run([sys.executable, "-B", "-c", program, str(spec)], input=NEW, check=False)

    assert ran.returncode == 7
    assert spec.read_bytes() == OLD


@pytest.mark.parametrize("step", ["os.fchmod", "os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_step_leaves_a_complete_file(tmp_path: Path, step: str, when: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes(OLD)
    module, _, name = step.rpartition(".")
    program = (
        "import os, pathlib, signal, sys\n"
        "from ebbtide.cli.base.files import replace_file\n"
        f"step = {step}\n"
        "def kill(*arguments):\n"
        f"    {'step(*arguments)' if when == 'after' else 'pass'}\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{module}.{name} = kill\n"
        "replace_file(sys.argv[1], sys.stdin.buffer.read())\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(file)], input=NEW, check=False)

    assert ran.returncode == -signal.SIGKILL
    assert file.read_bytes() == (NEW if (step, when) == ("pathlib.Path.replace", "after") else OLD)


def kill_at_sync(file: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from ebbtide.cli.base.files import replace_file\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "replace_file(sys.argv[1], b'incomplete')\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(file)], check=False).returncode == -signal.SIGKILL


def test_the_next_write_removes_what_killed_ones_left(tmp_path: Path) -> None:
    file, other = tmp_path / "spec.yaml", tmp_path / "other.yaml"
    kill_at_sync(other)
    of_other = {*tmp_path.iterdir()}
    for _ in range(3):
        kill_at_sync(file)
        assert len({*tmp_path.iterdir()} - of_other) == 1
    replace_file(file, NEW)

    # The file of another target stays until that target is written.
    assert {*tmp_path.iterdir()} == {file, *of_other}
    replace_file(other, NEW)
    assert {path.name for path in tmp_path.iterdir()} == {"spec.yaml", "other.yaml"}


def test_a_writer_does_not_remove_the_file_of_another(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronize, reached, resume = os.fsync, threading.Event(), threading.Event()

    def wait(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            reached.set()
            assert resume.wait(60)
        synchronize(descriptor)

    monkeypatch.setattr(os, "fsync", wait)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(replace_file, spec, OLD + NEW)
        assert reached.wait(60)
        replace_file(spec, NEW)
        assert spec.read_bytes() == NEW
        resume.set()
        slow.result(60)
    assert spec.read_bytes() == OLD + NEW


def test_a_file_that_is_removed_before_it_is_locked_is_created_again(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = fcntl.flock, []

    def remove_first(descriptor: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            next(path for path in spec.parent.iterdir() if path.suffix == ".tmp").unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    replace_file(spec, NEW)
    assert (spec.read_bytes(), len(calls)) == (NEW, 2)


def test_a_protected_file_is_not_replaced(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write every file
    with pytest.raises(PermissionError):
        replace_file(spec, NEW)

    assert spec.read_bytes() == OLD


def test_no_other_function_writes_a_file() -> None:
    writers = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        # Most modules need no parser.
        if not any(name in text for name in ("write_text", "write_bytes", "open")):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            if name in {"write_text", "write_bytes"} or (name in {"open", "fdopen"} and {"w", "wb"} & set(words)):
                writers.add(str(path.relative_to(PACKAGE)))

    assert writers == {"cli/base/files.py"}
