"""The first process of a local cluster's node: it mounts, starts the node's programs, and restarts those that die.

It runs inside the node's namespaces, with the standard library alone, and takes one argument: the path of a JSON file
with `mounts` (each a mount point and the arguments of `mount`), `sysctl` and `programs` (name → command). A program's id, as the namespace counts, is in `run/<name>.pid` next to that file, its output in
`logs/<name>.log`. A program that ends is started again after a second, as an init system would: so a test of faults
need only kill.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    plan = Path(sys.argv[1])
    told = json.loads(plan.read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for point, arguments in told["mounts"]:
        if not Path(point).exists():
            Path(point).mkdir(parents=True)
        subprocess.run(["mount", *arguments, point], check=True)
    # The host has to bring a link first, and can only once it knows this process.
    while not (plan.parent / "run" / "network").exists():
        time.sleep(0.02)
    for key, value in told["sysctl"].items():
        if (Path("/proc/sys") / key).exists():
            (Path("/proc/sys") / key).write_text(value)
    running = {_start(plan.parent, name, command): name for name, command in told["programs"].items()}
    (plan.parent / "run" / "started").touch()
    while True:
        # Every orphan of the namespace becomes a child of this process: container shims among them.
        gone, _ = os.wait()
        name = running.pop(gone, None)
        if name is not None:
            time.sleep(1)
            running[_start(plan.parent, name, told["programs"][name])] = name


def _start(folder: Path, name: str, command: list[str]) -> int:
    with (folder / "logs" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    (folder / "run" / f"{name}.pid").write_text(str(process.pid))
    # os.wait reaps it, so Popen must not think that it still has to.
    process.returncode = 0
    return process.pid


if __name__ == "__main__":
    main()
