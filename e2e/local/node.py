"""Make, find and unmake the node: namespaces, its link to the host, its programs."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e import paths
from e2e.local import pki, programs
from e2e.local.layout import Layout

NEEDED = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}
"""Programs that the machine needs → their Debian packages."""
PLUGINS = Path("/usr/lib/cni")
PLUGINS_PACKAGE = "containernetworking-plugins"
NUMBERS = 64

# Kernel settings that the kubelet requires, shown to it as already set: set for real, they would outlive the cluster.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class NodeError(Exception):
    """The node could not be made; the message says what to do."""


def missing() -> list[str]:
    """Return the Debian packages that are missing on the machine."""
    lacking = {package for name, package in NEEDED.items() if shutil.which(name) is None}
    return sorted(lacking | (set() if (PLUGINS / "bridge").exists() else {PLUGINS_PACKAGE}))


def find(name: str) -> Layout | None:
    """Return the cluster's layout if it was made, alive or not."""
    record = paths.state(name) / "node.json"
    return Layout(name, json.loads(record.read_text())["number"]) if record.exists() else None


def alive(layout: Layout) -> int | None:
    """Return the id of the node's first process if it still is that process."""
    record = json.loads((layout.state / "node.json").read_text())
    pid = record.get("pid")
    return pid if pid is not None and _started(pid) == record["started"] else None


def make(name: str) -> Layout:
    """Make the node and start its programs.

    Raises:
        NodeError: not root, or packages are missing, or the namespaces cannot be made.

    """
    if os.geteuid() != 0:
        raise NodeError("the local cluster makes namespaces and mounts, so it needs root")
    if lacking := missing():
        raise NodeError(f"the machine lacks {', '.join(lacking)}: apt-get install {' '.join(lacking)}")
    with _numbers():
        layout = Layout(name, _free_number())
        state = layout.state
        for folder in ("run", "logs", "containerd", "etcd", "pod-logs"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        pki.write(layout, state / "files" / "pki")
        cgroup_v1 = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
        files = TUNABLES | programs.configuration(layout, state / "files", cgroup_v1=cgroup_v1)
        for file, content in files.items():
            (state / "files" / file).parent.mkdir(parents=True, exist_ok=True)
            (state / "files" / file).write_text(content)
        (state / "plan.json").write_text(json.dumps(_plan(layout), indent=1))
        _record(layout, None)
        with (state / "logs" / "init.log").open("ab") as log:
            holder = subprocess.Popen(
                [
                    *(
                        "unshare",
                        "--net",
                        "--mount",
                        "--pid",
                        "--uts",
                        "--ipc",
                        "--fork",
                        "--kill-child",
                        "--mount-proc",
                    ),
                    *("--", sys.executable, "-I", str(Path(__file__).with_name("init.py")), str(state / "plan.json")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        pid = _child(holder)
        # It runs on when this command ends: Popen need not complain of that.
        holder.returncode = 0
        _record(layout, pid)
        _link(layout, pid)
        (state / "run" / "network").touch()
    return layout


def unmake(layout: Layout) -> None:
    """End everything of the node and remove what it leaves on the host; parts that are gone already are ignored."""
    pid = alive(layout)
    if pid is not None:
        # The first process of a namespace takes all others with it.
        os.kill(pid, signal.SIGKILL)
        wait(lambda: not Path(f"/proc/{pid}").exists(), "the node's first process does not end")
    subprocess.run(["ip", "link", "delete", layout.link], check=False, capture_output=True)
    for hierarchy in hierarchies():
        _remove_cgroup(hierarchy / layout.cgroup.strip("/"))
    for part in ("run", "logs", "containerd", "etcd", "pod-logs", "files", "images"):
        shutil.rmtree(layout.state / part, ignore_errors=True)
    for file in ("plan.json", "node.json", "kubeconfig"):
        (layout.state / file).unlink(missing_ok=True)
    if not any(layout.state.iterdir()):
        layout.state.rmdir()


def inside(layout: Layout, command: Sequence[str]) -> list[str]:
    """Return the command as one that runs in the node's namespaces.

    Raises:
        NodeError: the node is not running.

    """
    pid = alive(layout)
    if pid is None:
        raise NodeError(f"cluster `{layout.name}` is not running")
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--pid", "--uts", "--ipc", "--", *command]


def _plan(layout: Layout) -> dict[str, object]:
    state = layout.state
    return {
        "mounts": [
            # Volumes that the kubelet mounts must be seen by containerd, and nothing of it by the host.
            ["/", ["--make-rshared"]],
            # Files outside the state folder are in memory, which ends with the node.
            *([place, ["-t", "tmpfs", "tmpfs"]] for place in ("/run", "/var/lib", "/var/log")),
            ["/var/lib/containerd", ["--bind", str(state / "containerd")]],
            ["/var/log/pods", ["--bind", str(state / "pod-logs")]],
            *([f"/proc/sys/{name}", ["--bind", str(state / "files" / name)]] for name in TUNABLES),
        ],
        "sysctl": {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"},
        "programs": programs.commands(layout, state / "files"),
    }


def _link(layout: Layout, pid: int) -> None:
    net = ["nsenter", f"--target={pid}", "--net", "--"]
    for command in (
        ["ip", "link", "add", layout.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "address", "add", f"{layout.host_address}/24", "dev", layout.link],
        ["ip", "link", "set", layout.link, "up"],
        [*net, "ip", "link", "set", "lo", "up"],
        [*net, "ip", "address", "add", f"{layout.node_address}/24", "dev", "eth0"],
        [*net, "ip", "link", "set", "eth0", "up"],
        # Nothing leaves by it: a Service's address only needs some route before the rules rewrite it.
        [*net, "ip", "route", "add", "default", "via", layout.host_address],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise NodeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _record(layout: Layout, pid: int | None) -> None:
    started = None if pid is None else _started(pid)
    record = {"number": layout.number, "pid": pid, "started": started}
    (layout.state / "node.json").write_text(json.dumps(record))


def _started(pid: int) -> int | None:
    """Return when a process was started, in ticks since the machine's start: its id alone may be another's by now."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


def _child(holder: "subprocess.Popen[bytes]") -> int:
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    found: list[int] = []

    def seen() -> bool:
        if holder.poll() is not None:
            raise NodeError("the node's namespaces could not be made: see logs/init.log")
        found[:] = [int(child) for child in children.read_text().split()]
        return bool(found)

    wait(seen, "the node's first process does not start")
    return found[0]


def _free_number() -> int:
    links = {entry.name for entry in Path("/sys/class/net").iterdir()}
    for number in range(NUMBERS):
        if Layout("", number).link not in links:
            return number
    raise NodeError(f"all {NUMBERS} address ranges are taken by links named ebbtide0 to ebbtide{NUMBERS - 1}")


@contextmanager
def _numbers() -> Iterator[None]:
    """Hold the choice of a number until its link exists: two concurrent `up` must not take the same."""
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with (paths.CACHE / "numbers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def hierarchies() -> list[Path]:
    """Return where control groups are made: one place under v2, one for each controller under v1."""
    top = Path("/sys/fs/cgroup")
    return [top] if (top / "cgroup.controllers").exists() else [entry for entry in top.iterdir() if entry.is_dir()]


def _remove_cgroup(folder: Path) -> None:
    if not folder.is_dir():
        return
    for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _remove_one(place)
    _remove_one(folder)


def _remove_one(folder: Path) -> None:
    def gone() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait(gone, f"the control group {folder} still has processes")


def wait(done: Callable[[], bool], complaint: str, seconds: float = 30) -> None:
    """Wait until this holds.

    Raises:
        NodeError: with this complaint, when it does not in time.

    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise NodeError(complaint)
        time.sleep(0.05)
