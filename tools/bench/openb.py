"""Pack Alibaba's openb trace with the plan's pool of GPUs, and print the allocated share of the GPUs.

The data is not part of this repository: clone github.com/hkust-adsl/kubernetes-scheduler-simulator, and pass its folder
data/csv. As in its experiments, pods of the trace arrive in random order, and are repeated until they request 1.3 times the
GPUs. Its published shares, means of ten such orders, are in experiments/analysis/expected_results/analysis_allo_discrete.csv
(Weng et al., "Beware of Fragmentation", USENIX ATC 2023). The plan does not model CPU and memory of nodes; with them, this
program only offers the pool the nodes that have both, as Kubernetes does. A pod without GPUs, which the plan does not model
either, goes to the node with the fewest free GPUs.
"""

import argparse
import csv
import random
import statistics
from pathlib import Path
from typing import NamedTuple

from ebbtide.simulator.fleet.pool import UNITS, GpuDemand, GpuPool, Holder, Nodes, PoolSize

#: Requested GPUs by those that exist, and the published shares of it in percent, for pods of all sizes.
LOAD = 1.3
PUBLISHED = {"random": 87.47, "best fit": 93.08, "fragmentation gradient descent": 95.39}
POOL = "openb"


class Row(NamedTuple):
    """A pod or a node of the trace: CPU in thousandths, memory in MiB, and GPUs, each of ``milli`` thousandths."""

    cpu: int
    memory: int
    gpus: int
    milli: int
    models: frozenset[str]


class OpenbPool(GpuPool):
    """A pool whose nodes have CPU, memory and a GPU model, too."""

    def __init__(self, nodes: list[Row], *, is_whole: bool) -> None:
        """Start without pods; ``is_whole`` is true if CPU and memory count."""
        super().__init__([PoolSize(POOL, node.gpus, node.gpus) for node in nodes], {})
        self.rows = nodes
        self.rest = [(node.cpu, node.memory) if is_whole else (1 << 60, 1 << 60) for node in nodes]
        self.pod = nodes[0]

    def _find_place(self, nodes: Nodes, demand: GpuDemand) -> tuple[int, tuple[int, ...]] | None:
        """Return a place on a node that has what the present pod needs."""
        pod = self.pod
        offered = [
            free if cpu >= pod.cpu and memory >= pod.memory and (not pod.models or pod.models & row.models) else [0]
            for free, (cpu, memory), row in zip(nodes, self.rest, self.rows, strict=True)
        ]
        return super()._find_place(offered, demand)

    def add(self, pod: Row, number: int) -> None:
        """Place a pod if there is room."""
        self.pod = pod
        if not pod.gpus:
            fitting = [
                (sum(free), index)
                for index, (free, (cpu, memory)) in enumerate(zip(self.free, self.rest, strict=True))
                if cpu >= pod.cpu and memory >= pod.memory
            ]
            if fitting:
                self.take(min(fitting)[1])
            return
        demand = GpuDemand((POOL,), pod.gpus, pod.milli * UNITS // 1000, 0, is_preemptible=False)
        holder = self.place(demand, (0, number))
        if isinstance(holder, Holder):
            self.take(holder.node)

    def take(self, node: int) -> None:
        """Take the present pod's CPU and memory from a node."""
        cpu, memory = self.rest[node]
        self.rest[node] = cpu - self.pod.cpu, memory - self.pod.memory


def read_rows(file: Path, gpus: str, models: str) -> list[Row]:
    """Return the rows of a file."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            Row(
                int(row["cpu_milli"]),
                int(row["memory_mib"]),
                int(row[gpus]),
                int(row.get("gpu_milli") or 1000),
                frozenset(filter(None, row[models].split("|"))),
            )
            for row in csv.DictReader(lines)
        ]


def pack(nodes: list[Row], pods: list[Row], seed: int, *, is_whole: bool) -> float:
    """Return the allocated share of the GPUs in percent."""
    draws = random.Random(seed)  # noqa: S311 - no secret
    pool, size = OpenbPool(nodes, is_whole=is_whole), sum(node.gpus for node in nodes)
    order = draws.sample(pods, len(pods))
    requested = number = 0
    while requested < LOAD * size * 1000:
        pod = order[number] if number < len(order) else draws.choice(pods)
        requested += pod.gpus * pod.milli
        pool.add(pod, number)
        number += 1
    return 100 * pool.held.total() / UNITS / size


def main(arguments: list[str] | None = None) -> int:
    """Pack the trace and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder data/csv of the trace")
    parser.add_argument("--orders", type=int, default=3, help="number of random orders (default: 3)")
    options = parser.parse_args(arguments)
    nodes = read_rows(options.folder / "openb_node_list_gpu_node.csv", "gpu", "model")
    pods = read_rows(options.folder / "openb_pod_list_default.csv", "num_gpu", "gpu_spec")
    print(f"{len(nodes)} nodes, {sum(node.gpus for node in nodes)} GPUs, {len(pods)} pods")
    for is_whole, name in ((True, "with CPU and memory"), (False, "GPUs only")):
        shares = [pack(nodes, pods, seed, is_whole=is_whole) for seed in range(options.orders)]
        print(f"ebbtide plan, {name}: {statistics.mean(shares):.2f}% ({min(shares):.2f}% to {max(shares):.2f}%)")
    for name, share in PUBLISHED.items():
        print(f"published, {name}: {share:.2f}%")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
