"""Seconds from a command to the first answer: `ebbtide apply` next to `kubectl apply` of the same manifests.

    python -m e2e.first_answer [ROUNDS]

Both run alternately on the suite's cluster, each time with a new name, so that nothing is warm. Prints the medians, their
ratio, and how long after the first answer Knative reported the service as ready, and `ebbtide apply` returned.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import httpx

from e2e.paths import DEFAULT, HERE
from e2e.providers import choose
from e2e.specs import make_spec
from e2e.stage import Stage, condition
from ebbtide.cluster.client.kubernetes import KubernetesCluster
from ebbtide.cluster.client.protocol import KNATIVE, WatchBookmark

PAUSE = 0.02
LIMIT = 120.0
SCALING = {"minReplicas": 1, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 5}


class Seconds(NamedTuple):
    """The seconds from the start of a command until something happened."""

    answered: float
    reported: float
    """Knative reported the service as ready."""
    returned: float
    """The command returned."""


def measure(stage: Stage, name: str, command: list[str], stdin: str) -> Seconds:
    """Run a command that creates a service."""
    host = f"{name}.{stage.namespace}.ebbtide.test"
    answered: list[float] = []
    reported: list[float] = []
    cluster = KubernetesCluster.from_kubeconfig(str(stage.kubectl.kubeconfig))
    start = time.monotonic()

    def ask() -> None:
        with httpx.Client(base_url=f"http://{stage.provider.gateway()}", headers={"Host": host}, timeout=5) as client:
            while time.monotonic() - start < LIMIT:
                try:
                    if client.get("/").is_success:
                        answered.append(time.monotonic() - start)
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(PAUSE)

    def watch() -> None:
        for change in cluster.follow(KNATIVE, stage.namespace, seconds=LIMIT):
            if isinstance(change, WatchBookmark):
                continue
            if change.item["metadata"]["name"] == name and condition(change.item, "Ready") == "True":
                reported.append(time.monotonic() - start)
                return

    threads = [threading.Thread(target=work) for work in (ask, watch)]
    for thread in threads:
        thread.start()
    subprocess.run(command, input=stdin, text=True, capture_output=True, check=True)
    returned = time.monotonic() - start
    for thread in threads:
        thread.join()
    return Seconds(answered[0], reported[0], returned)


def main(rounds: int) -> None:
    """Measure and print."""
    provider = choose(os.environ.get("EBBTIDE_E2E_PROVIDER", ""), os.environ.get("EBBTIDE_E2E_CLUSTER", DEFAULT))
    stage = Stage(provider, provider.kubectl(), HERE, "first-answer")
    kubectl = [str(stage.kubectl.program), f"--kubeconfig={stage.kubectl.kubeconfig}"]
    stage.clean()
    ours: list[Seconds] = []
    theirs: list[Seconds] = []
    try:
        stage.deploy(make_spec("warm", autoscaling=SCALING))
        stage.ready("warm")
        for number in range(rounds):
            spec = stage.spec(make_spec(f"ours-{number}", autoscaling=SCALING))
            words = [sys.executable, "-m", "ebbtide", "apply", "-", "-y", f"--kubeconfig={stage.kubectl.kubeconfig}"]
            ours.append(measure(stage, f"ours-{number}", [*words, *stage.profile()], spec))
            plain = stage.ebbtide(
                ["render", "-", *stage.profile()], stage.spec(make_spec(f"theirs-{number}", autoscaling=SCALING))
            ).stdout
            apply = [*kubectl, "apply", "--server-side", "--field-manager=ebbtide", "-f", "-"]
            theirs.append(measure(stage, f"theirs-{number}", apply, plain))
            print(f"{number}: ebbtide {ours[-1].answered:.2f} s, kubectl {theirs[-1].answered:.2f} s", flush=True)
    finally:
        stage.clean()
    first, other = (statistics.median(row.answered for row in rows) for rows in (ours, theirs))
    print(f"medians: ebbtide {first:.2f} s, kubectl {other:.2f} s, ratio {first / other:.2f}")
    reported, returned = (statistics.median(row[place] - row.answered for row in ours) for place in (1, 2))
    print(
        f"after the first answer, Knative reported it ready after {reported:.2f} s, and ebbtide returned after {returned:.2f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
