"""The scripts of ``spec.start.weights``: a claim is filled once, and no pod sees a part of the weights."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from ebbtide.core.translation import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "0123456789abcdef"
#: A download of two files that records each call, and waits between the files until the test lets it continue.
DOWNLOAD = """#!/bin/sh
echo "$1" >> "{calls}"
mkdir -p "$2"
echo one > "$2/one"
while [ ! -e "{go}" ]; do sleep 0.02; done
[ "$(cat "{go}")" = fail ] && exit 28
echo two > "$2/two"
"""


class Claim:
    """A directory in place of the claim, and the scripts that run on it, each as a separate pod."""

    def __init__(self, root: Path) -> None:
        self.path, self.calls, self.go, self.log = (root / name for name in ("claim", "calls", "go", "log"))
        self.path.mkdir()
        self.calls.touch()
        self.download = root / "download"
        self.download.write_text(DOWNLOAD.format(calls=self.calls, go=self.go))
        self.download.chmod(0o755)
        self.weights = self.path / KEY

    def run(self, script: str, pod: str) -> subprocess.Popen[bytes]:
        text = script.replace("/storage-initializer/scripts/initializer-entrypoint", str(self.download))
        env = {**os.environ, "KEY": KEY, "URI": "hf://org/model", "HOSTNAME": pod}
        command = ["bash", "-c", text.replace("/claim", str(self.path))]
        with self.log.open("w") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)

    def count_calls(self) -> int:
        return len(self.calls.read_text().splitlines())


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    return Claim(tmp_path)


@pytest.fixture
def small_claim(claim: Claim) -> Iterator[Claim]:
    """Return a claim on a disk of 1 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(claim.path)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield claim
    subprocess.run(["umount", str(claim.path)], check=True)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ten_parallel_jobs_download_once_and_no_pod_sees_a_part(claim: Claim) -> None:
    jobs = [claim.run(start.FILL, f"fill-{number}") for number in range(10)]
    waiting = claim.run(start.WAIT, "server")
    wait(lambda: bool(list(claim.path.glob(f".{KEY}.*.part/one"))))
    assert waiting.poll() is None
    assert not claim.weights.exists()
    claim.go.write_text("go")

    assert [job.wait(30) for job in jobs] == [0] * 10
    assert waiting.wait(30) == 0
    assert claim.count_calls() == 1
    assert sorted(file.name for file in claim.weights.iterdir()) == ["one", "two"]
    assert not list(claim.path.glob(f".{KEY}.*.part"))


def test_a_killed_download_leaves_nothing_that_is_served_and_is_repeated(claim: Claim) -> None:
    job = claim.run(start.FILL, "fill-1")
    wait(lambda: bool(list(claim.path.glob(f".{KEY}.*.part/one"))))
    os.killpg(job.pid, signal.SIGKILL)
    job.wait(30)
    assert not claim.weights.exists()
    claim.go.write_text("go")

    assert claim.run(start.FILL, "fill-2").wait(30) == 0
    assert sorted(file.name for file in claim.weights.iterdir()) == ["one", "two"]
    assert not list(claim.path.glob(f".{KEY}.*.part"))


def test_a_failed_download_names_the_reason_until_the_next_one_succeeds(claim: Claim) -> None:
    claim.go.write_text("fail")
    assert claim.run(start.FILL, "fill-1").wait(30) == 1
    assert not claim.weights.exists()
    assert not list(claim.path.glob(f".{KEY}.*.part"))
    assert claim.run(start.WAIT, "server").wait(30) == 1
    reason = "the download of hf://org/model failed with exit code 28; for the reason: kubectl logs fill-1"
    assert claim.log.read_text().splitlines()[-1] == reason

    claim.go.write_text("go")
    assert claim.run(start.FILL, "fill-2").wait(30) == 0
    assert claim.run(start.WAIT, "server").wait(30) == 0


def test_weights_larger_than_the_volume_leave_no_part_and_name_the_reason(small_claim: Claim) -> None:
    claim = small_claim
    claim.download.write_text('#!/bin/sh\nmkdir -p "$2" && exec dd if=/dev/zero of="$2/weights" bs=64k count=32\n')
    assert claim.run(start.FILL, "fill-1").wait(30) == 1
    assert not claim.weights.exists()
    assert not list(claim.path.glob(f".{KEY}.*.part"))
    assert claim.run(start.WAIT, "server").wait(30) == 1
    assert "failed with exit code 1; for the reason: kubectl logs fill-1" in claim.log.read_text()


def test_replicas_do_not_wait_for_a_download_to_a_full_volume(small_claim: Claim) -> None:
    claim = small_claim
    subprocess.run(["dd", "if=/dev/zero", f"of={claim.path}/other"], check=False, capture_output=True)
    claim.go.write_text("go")
    assert claim.run(start.FILL, "fill-1").wait(30) == 1
    assert not claim.weights.exists()
    assert claim.run(start.WAIT, "server").wait(30) == 1
    assert claim.log.read_text().splitlines()[-1] == "the download failed, and the volume is full"


def test_a_link_in_place_of_the_reason_prints_no_file_of_the_replica(claim: Claim) -> None:
    secret = claim.path.parent / "secret"
    secret.write_text("token")
    (claim.path / f".{KEY}.error").symlink_to(secret)
    server = claim.run(start.WAIT, "server")
    time.sleep(0.5)
    assert server.poll() is None
    claim.weights.mkdir()
    assert server.wait(30) == 0
    assert "token" not in claim.log.read_text()
