"""The container engine under kind: the machine's own where one answers, else a Docker daemon that the suite starts and ends.

The suite's own daemon has no access to the network outside the machine: it does no address translation, so a
test cluster cannot reach anything outside, and the firewall keeps no trace of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.build import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS: Final = ("docker", "podman")
FOLDER: Final = Path("/run/ebbtide-e2e")
"""Socket, process id and log of the suite's own daemon: one per machine, shared by all checkouts."""
DATA: Final = Path("/var/lib/ebbtide-e2e")
CGROUP: Final = "/ebbtide-e2e"
SOCKET: Final = FOLDER / "docker.sock"
PID: Final = FOLDER / "docker.pid"
SAVED: Final = FOLDER / "sysctls.json"
SYSCTLS: Final = Path("/proc/sys")
KERNEL: Final = (
    *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"),
    *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "kernel/pid_max", "fs/file-max", "fs/nr_open"),
    *("fs/protected_fifos", "fs/protected_hardlinks", "fs/protected_regular", "fs/protected_symlinks"),
)
"""Settings of the whole machine that a kubelet, the daemon or a node's systemd changes, and that `stop` restores.

Upstream: k8s.io/component-helpers node/util/sysctl, systemd src/core/main.c (bump_file_max_and_nr_open) and sysctl.d.
"""
NETWORK: Final = "kind"
RUNTIME: Final = Path(__file__).parent / "node" / "runc"


@dataclass(frozen=True)
class Engine:
    """An engine that answers: its command, and its address if the suite started it."""

    program: str
    host: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which kind and the engine's command find it."""
        address = {"DOCKER_HOST": self.host} if self.host else {}
        return {**os.environ, **address, "KIND_EXPERIMENTAL_PROVIDER": self.program}

    def run(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run the engine's command and return its output.

        Raises:
            BuildError: it failed; the message is its stderr.

        """
        done = subprocess.run(
            [self.program, *arguments], check=False, capture_output=True, input=stdin, env=self.environment
        )
        if done.returncode:
            raise BuildError(f"{self.program} {' '.join(arguments)}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def answers(self) -> bool:
        """Return whether it answers. `docker info` succeeds without an engine; `ps` does not."""
        try:
            self.run("ps")
        except (BuildError, OSError):
            return False
        return True


OWN: Final = Engine("docker", f"unix://{SOCKET}")


def find() -> Engine | None:
    """Return the engine that answers, the machine's own first; None if there is none."""
    engines = [Engine(program) for program in PROGRAMS if shutil.which(program)]
    if SOCKET.exists():
        engines.append(OWN)
    return next((engine for engine in engines if engine.answers()), None)


def start() -> Engine:
    """Return the engine that answers; as root, start a Docker daemon if there is none.

    Raises:
        BuildError: no engine answers, and none can be started; the message says what to do.

    """
    with _locked():
        engine = find()
        if engine is None:
            engine = _start()
        return engine


def _start() -> Engine:
    if os.geteuid() or shutil.which("dockerd") is None:
        raise BuildError(
            "kind needs a container engine, and neither docker nor podman answers: start one; on Debian, "
            "`apt-get install docker.io` and root are enough, and the suite starts and ends the daemon"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    # A daemon that was killed leaves the process id of its containerd, for which the next one would wait.
    shutil.rmtree(FOLDER / "exec", ignore_errors=True)
    _save_kernel()
    # Docker 20.10 asks for all capabilities of the kernel for a privileged container, and runc refuses a missing one.
    bounded = [f"--add-runtime=bounded={RUNTIME}", "--default-runtime=bounded"] if _lacks_capabilities() else []
    command = [
        *("dockerd", f"--host={OWN.host}", f"--pidfile={PID}", f"--exec-root={FOLDER}/exec", f"--data-root={DATA}"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        *("--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent={CGROUP}", *bounded),
    ]
    with (FOLDER / "dockerd.log").open("ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    if not _until(OWN.answers, 60):
        raise BuildError(f"dockerd does not answer: see {FOLDER}/dockerd.log")
    # kind uses an existing network. A network that kind creates has IPv6 and address translation.
    if NETWORK not in OWN.run("network", "ls", "--format={{.Name}}").split():
        OWN.run("network", "create", "--driver=bridge", NETWORK)
    return OWN


def stop() -> None:
    """End the suite's own daemon and remove everything of it, unless a container is left. Do nothing to another engine."""
    with _locked():
        if not FOLDER.exists() or (OWN.answers() and OWN.run("ps", "--all", "--quiet").split()):
            return
        if OWN.answers():
            OWN.run("network", "rm", NETWORK)
        daemon = int(PID.read_text()) if PID.exists() else 0
        process = Path(f"/proc/{daemon}/comm")
        # A daemon that was killed leaves its file, and another process may have its id by now.
        if process.exists() and process.read_text().strip() == "dockerd":
            os.kill(daemon, signal.SIGTERM)
            _until(lambda: not process.exists(), 60)
        _restore_kernel()
        for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            _remove_cgroup(hierarchy / CGROUP.strip("/"))
        # The daemon mounts its data onto themselves; each one that was killed left a mount.
        while not subprocess.run(["umount", str(DATA)], check=False, capture_output=True).returncode:
            pass
        shutil.rmtree(FOLDER)
        shutil.rmtree(DATA, ignore_errors=True)


def _save_kernel() -> None:
    """Remember the machine's settings, unless those from before the first node are known."""
    if not SAVED.exists():
        known = (name for name in KERNEL if (SYSCTLS / name).exists())
        SAVED.write_text(json.dumps({name: (SYSCTLS / name).read_text().strip() for name in known}))


def _restore_kernel() -> None:
    for name, value in json.loads(SAVED.read_text()).items():
        if (SYSCTLS / name).read_text().strip() != value:
            (SYSCTLS / name).write_text(value)


def _lacks_capabilities() -> bool:
    """Return whether the machine's bounding set is missing a capability that its kernel knows."""
    status = Path("/proc/self/status").read_text().split()
    known = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(status[status.index("CapBnd:") + 1], 16) != (1 << known + 1) - 1


def _remove_cgroup(group: Path) -> None:
    if group.is_dir():
        for folder in sorted((place for place in group.rglob("*") if place.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def _locked() -> Iterator[None]:
    """Let one process at a time start or stop the daemon."""
    place = FOLDER.with_suffix(".lock") if os.geteuid() == 0 else Path("/tmp/ebbtide-e2e.lock")  # noqa: S108 - without root, nothing is started
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
