"""Measure the CPU time of the controller's steps and its memory, with N workloads of two pods.

This is a report, not a test: the exit code is always 0. The objects are those of `serve.py`, with the size that they have on
a real cluster. The cluster and Prometheus are stand-ins that answer immediately, so the figures are the controller's own. Each
step changes the load of a tenth of the workloads.

A separate process is measured, which loads the code of ``ebbtide controller`` in a pod, including the clients of the cluster
and of Prometheus, validates the deployment's profile, and reads lists in pages as the client does. ``--against`` is a checkout
of another version, which is measured first.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from serve import PAGE, Standin, memory, write

from ebbtide.cli.base import connection
from ebbtide.cli.base.common import read_profile
from ebbtide.cluster.client import pod
from ebbtide.cluster.client.protocol import POD, ClusterError, Kind, WatchBookmark, WatchChange
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.process import KINDS as WATCHED
from ebbtide.cluster.watch.cache import Cache
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS, FloorMetric, FloorSettings, format_settings
from ebbtide.core.base import keys
from ebbtide.core.profile.models import Profile

HERE: Final = Path(__file__).resolve()
PROFILE: Final = HERE.parents[2] / "kustomize" / "controller" / "profile.yaml"
ADDRESS: Final = "http://prometheus.invalid"
GOAL_MEGABYTES: Final = 70
GOAL_SHARE: Final = 0.05
SETTINGS: Final = FloorSettings(
    minimum=0, maximum=8, metrics=(FloorMetric(name="queue_length", scope="pod", target=3),)
)


class Clock:
    """A clock that a step advances."""

    def __init__(self) -> None:
        self.time = time.time()

    def now(self) -> float:
        return self.time

    def ticks(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class ControllerStandin(Standin):
    """A cluster whose objects are read once, and which counts writes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0)
        self.patches = self.events = 0
        self.pods: list[tuple[str, str]] = []

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        if since:
            time.sleep(600)
        for change in super().follow(kind):
            if isinstance(change, WatchBookmark):
                yield change
                time.sleep(600)
                return
            metadata = change.item["metadata"]
            if kind.name == "Service":
                metadata.setdefault("annotations", {})[keys.FLOOR] = format_settings(SETTINGS)
            if kind.name == "Revision":
                metadata["annotations"] |= {keys.MIN_SCALE: "0", keys.MAX_SCALE: "8"}
            if kind.name == "PodAutoscaler":
                change.item["status"]["desiredScale"] = 2
            if kind == POD:
                self.pods.append((metadata["namespace"], metadata["name"]))
            yield change

    def patch(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.patches += 1
        return {}

    def read(self, path: str) -> dict[str, Any]:
        raise ClusterError(f"no {path}")

    def create(self, item: dict[str, Any]) -> dict[str, Any]:
        self.events += 1
        return item


class Values:
    """Prometheus' values of all pods."""

    def __init__(self, pods: list[tuple[str, str]]) -> None:
        self.pods, self.step, self.queries = pods, 0, 0

    def samples(self, query: str, _namespace: str = "") -> list[tuple[Mapping[str, str], float]]:
        del query
        self.queries += 1
        self.step += 1
        now, row = 15.0 * self.step, "ebbtide_row"
        values = [
            ({"namespace": namespace, "pod": pod}, 9.0 if (index // 2 + self.step) % 10 == 0 else 1.0)
            for index, (namespace, pod) in enumerate(self.pods)
        ]
        scraped = [({**labels, row: "scraped"}, now) for labels, _ in values]
        return [*values, *scraped, ({row: "evaluated"}, now)]


def _make_controller(cluster: ControllerStandin, values: Values, clock: Clock, profile: Profile) -> Controller:
    """Return the controller of this version or of an earlier one, which needs the projects only."""
    given = profile.spec if "profile" in signature(Controller).parameters else profile.spec.projects
    return Controller(cluster, values, clock, given)  # type: ignore[arg-type] # stand-ins


def measure(folder: Path, steps: int) -> dict[str, Any]:
    """Return the figures of this process."""
    # As in a pod, with an empty token; an older version fails here, but it has loaded its client.
    os.environ[pod.HOST_VARIABLE], pod.TOKEN_FILE = "192.0.2.1", folder / "token"  # type: ignore[misc] # a constant
    pod.TOKEN_FILE.touch()
    connection.run_on_cluster(Namespace(kubeconfig=None, context=None), lambda _: 0, pod=True)
    clock, cluster = Clock(), ControllerStandin(folder)
    profile = read_profile(str(PROFILE))
    connection.connect_source(cluster, ADDRESS, profile)  # type: ignore[arg-type] # a stand-in
    base = memory(os.getpid())
    cache = Cache(cluster, clock, threads=True, kinds=WATCHED)  # type: ignore[arg-type] # a stand-in
    cache.start()
    assert cache.freshness.wait_synced(300)
    read = memory(os.getpid())
    values = Values(sorted(cluster.pods))
    controller = _make_controller(cluster, values, clock, profile)
    step = _make_step(controller, cache, values, cluster, clock)
    spent = []
    for _ in range(steps):
        clock.time += PERIOD_SECONDS
        before = time.process_time()
        step()
        spent.append(time.process_time() - before)
    mean = sum(spent) / len(spent)
    return {
        "workloads": controller.counts["workloads"],
        "pods": len(cluster.pods),
        "steps": steps,
        "queries": values.queries,
        "patches": cluster.patches,
        "cpu seconds per step": {"mean": round(mean, 3), "max": round(max(spent), 3)},
        "share of a core": round(mean / PERIOD_SECONDS, 4),
        "goal": GOAL_SHARE,
        "megabytes": {"code": round(base), "after reading": round(read), "after the steps": round(memory(os.getpid()))},
        "goal megabytes": GOAL_MEGABYTES,
    }


def _make_step(
    controller: Controller, cache: Cache, values: Values, cluster: ControllerStandin, clock: Clock
) -> Callable[[], object]:
    """Return what the process does in a step; an older version asks one query after the other."""
    if importlib.util.find_spec("ebbtide.cluster.controller.sampling") is None:
        return lambda: controller.step(cache.statuses.workloads_with(keys.FLOOR))
    from ebbtide.cluster.controller.measure import Readings  # noqa: PLC0415 - as above
    from ebbtide.cluster.controller.sampling import Sampler  # noqa: PLC0415 - as above

    earlier: Any = read_profile(str(PROFILE)).spec.projects
    queries = getattr(controller, "queries", earlier)
    sampler = Sampler(values, cluster, clock, threads=True)  # type: ignore[arg-type] # stand-ins

    def step() -> None:
        answers = sampler.begin(controller.list_requests(cache.statuses.workloads_with(keys.FLOOR)))
        assert answers.wait(60)
        controller.step(
            cache.statuses.workloads_with(keys.FLOOR),
            Readings(answers, answers, queries),
        )

    return step


def _read_page_size(checkout: Path) -> int:
    """Return the objects per page with which the client of a version fills a cache."""
    client = checkout / "platform" / "ebbtide" / "cluster" / "client"
    text = "\n".join(file.read_text() for file in client.glob("*.py"))
    found = re.search(r"^FOLLOW_PAGE: Final = (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else PAGE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.steps), indent=1), flush=True)
        # The watches sleep.
        os._exit(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, checkout in {"before": options.against, "now": HERE.parents[2]}.items():
            if checkout is not None:
                print(name, flush=True)
                pages = Path(folder) / name
                pages.mkdir()
                write(pages, options.workloads, 100, _read_page_size(checkout))
                environment = {
                    **os.environ,
                    "PYTHONPATH": str(checkout.resolve() / "platform"),
                    "KUBECONFIG": os.devnull,
                    # The value of kustomize/controller/deployment.yaml.
                    "MALLOC_ARENA_MAX": "2",
                    # The first run writes the bytecode, which the image contains: compiling takes 7 MB.
                    "PYTHONDONTWRITEBYTECODE": "",
                    "PYTHONPYCACHEPREFIX": str(Path(folder) / "bytecode" / name),
                }
                words = [sys.executable, str(HERE), f"--measure={pages}", f"--steps={options.steps}"]
                for output in (subprocess.DEVNULL, None):
                    subprocess.run(words, env=environment, check=True, stdout=output, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
