"""Run one of Ebbtide's commands, and kill its process as soon as it has written to the cluster N times.

    python -m e2e.killed N[,KIND] controller --kubeconfig FILE …

The N-th write has reached the API server, and nothing after it has happened. Writes of Leases and Events do not count,
because they change no workload, nor do those of the named kinds. Each write is a line on stderr.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from ebbtide.cli import main
from ebbtide.cluster.client.kubernetes import KubernetesCluster

WRITES = ("apply", "create", "patch", "patch_status", "delete")
IGNORED = ("Event", "Lease")


def kill_after(number: int, *ignored: str) -> None:
    """Replace the writes of the client by ones that count."""
    lock, writes = threading.Lock(), 0

    def count(verb: str) -> Callable[..., Any]:
        write: Callable[..., Any] = getattr(KubernetesCluster, verb)

        def counted(cluster: KubernetesCluster, target: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal writes
            result = write(cluster, target, *arguments, **options)
            kind = target["kind"] if isinstance(target, dict) else target.name
            if options.get("dry_run") or kind in (*IGNORED, *ignored):
                return result
            name = target["metadata"]["name"] if isinstance(target, dict) else arguments[0]
            with lock:
                writes += 1
                sys.stderr.write(f"write {writes}: {verb} {kind} {name}\n")
                sys.stderr.flush()
                if writes == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    for verb in WRITES:
        setattr(KubernetesCluster, verb, count(verb))


if __name__ == "__main__":
    times, *kinds = sys.argv[1].split(",")
    kill_after(int(times), *kinds)
    sys.exit(main(sys.argv[2:]))
