"""Measure the CPU time of the controller's steps and its memory, with N workloads of two pods.

This is a report, not a test: the exit code is always 0. The objects are those of `serve.py`, with the size that they have on
a real cluster. The cluster and Prometheus are stand-ins that answer immediately, so the figures are the controller's own. Each
step changes the load of a tenth of the workloads.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from serve import objects

from ebbtide.api.cache import Cache
from ebbtide.autoscaler.floor import PERIOD_SECONDS, FloorMetric, FloorSettings, format_settings
from ebbtide.base import keys
from ebbtide.cluster.client.protocol import KINDS, Kind, WatchBookmark, WatchChange
from ebbtide.controller.loop import Controller
from ebbtide.controller.process import KINDS as WATCHED

GOAL_MEGABYTES: Final = 60
GOAL_SHARE: Final = 0.05
QUERY: Final = "avg by (namespace, pod) (queue_length)"
SETTINGS: Final = FloorSettings(
    minimum=0, maximum=8, metrics=(FloorMetric(name="queue_length", scope="pod", target=3, query=QUERY),)
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


class StandIn:
    """A cluster whose objects are read once, and which counts writes."""

    def __init__(self, count: int) -> None:
        self.patches = self.events = 0
        self.count = count

    def follow(self, kind: Kind, *, since: str = "") -> Iterator[WatchChange | WatchBookmark]:
        if not since:
            for name, item in objects(self.count, 100):
                if name != kind.name or KINDS.get((item["apiVersion"], item["kind"])) != kind:
                    continue
                if kind.name == "Service":
                    item["metadata"].setdefault("annotations", {})[keys.FLOOR] = format_settings(SETTINGS)
                if kind.name == "Revision":
                    item["metadata"]["annotations"] |= {keys.MIN_SCALE: "0", keys.MAX_SCALE: "8"}
                if kind.name == "PodAutoscaler":
                    item["status"]["desiredScale"] = 2
                yield WatchChange("ADDED", item)
        yield WatchBookmark("1")

    def patch(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.patches += 1
        return {}

    def create(self, item: dict[str, Any]) -> dict[str, Any]:
        self.events += 1
        return item


class Values:
    """Prometheus' values of all pods."""

    def __init__(self, pods: list[tuple[str, str]]) -> None:
        self.pods, self.step, self.queries = pods, 0, 0

    def samples(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        assert query == QUERY
        self.queries += 1
        self.step += 1
        return [
            ({"namespace": namespace, "pod": pod}, 9.0 if (index // 2 + self.step) % 10 == 0 else 1.0)
            for index, (namespace, pod) in enumerate(self.pods)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time and memory of the controller's steps.")
    parser.add_argument("--workloads", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5)
    told = parser.parse_args()
    clock, cluster = Clock(), StandIn(told.workloads)
    cache = Cache(cluster, clock, threads=False, kinds=WATCHED)  # type: ignore[arg-type] # a stand-in
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cache.start()
    pods = [
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for kind in WATCHED
        if kind.name == "Pod"
        for item in cache.objects(kind)
    ]
    values = Values(pods)
    controller = Controller(cluster, values, clock)  # type: ignore[arg-type] # a stand-in
    spent = []
    for _ in range(told.steps):
        clock.time += PERIOD_SECONDS
        before = time.process_time()
        controller.step(cache.workloads_with(keys.FLOOR))
        spent.append(time.process_time() - before)
    worst, mean = max(spent), sum(spent) / len(spent)
    print(
        json.dumps(
            {
                "workloads": controller.counts["workloads"],
                "pods": len(pods),
                "steps": told.steps,
                "queries": values.queries,
                "patches": cluster.patches,
                "cpu seconds per step": {"mean": round(mean, 3), "max": round(worst, 3)},
                "share of a core": round(mean / PERIOD_SECONDS, 4),
                "goal": GOAL_SHARE,
                "peak megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "of which before reading": round(base / 1024),
                "goal megabytes": GOAL_MEGABYTES,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
