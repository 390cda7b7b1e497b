"""Scale by the GPU: the exporter's value for a pod's device reaches the HPA unchanged and scales the replicas up and down.

The devices are advertised and the exporter invents how busy they are, in dcgm-exporter's names and labels; from our
ServiceMonitor on everything is real. The work is given in total: more replicas are each less busy, so the loop closes
and has to settle where the arithmetic says. A whole device belongs to one pod; utilization of a shared one is
refused.
"""

from e2e.stage import Stage

NAME = "caption"
THRESHOLD = 60
EXPORTER = "/api/v1/namespaces/dcgm-exporter/services/gpu-exporter:metrics/proxy/load"
WHOLE = {
    "nodePools": [
        {"name": "whole", "product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920, "devices": 8, "nodes": 1}
    ]
}
SLOW = 240
"""Seconds: Prometheus scrapes every 15 s, the HPA polls every 15 s, and the first series has to be discovered."""


def test_gpu_utilization(stage: Stage) -> None:
    stage.deploy(profile=WHOLE)
    stage.ready(NAME)
    (pod,) = stage.pods(NAME)
    first = stage.until(
        "an idle GPU is served as 0 of the pod that holds it",
        lambda: stage.custom_metric("gpu_utilization_percent") == {pod["metadata"]["name"]: "0"},
        SLOW,
        seen=lambda: stage.custom_metric("gpu_utilization_percent"),
    )

    # Of 170 one GPU can do 100, which calls for two; two do 85 each, which calls for three, and three are enough.
    busy(stage, 170)
    up = stage.until(
        "170 % of work bring three replicas", lambda: replicas(stage, ready=True) == 3, SLOW, seen=stage.events
    )
    stage.until(
        "the HPA reads a third of the work from each",
        lambda: sorted(stage.custom_metric("gpu_utilization_percent").values()) == ["56666m"] * 3,
        SLOW,
        seen=lambda: stage.custom_metric("gpu_utilization_percent"),
    )

    # Three do 34 each, two 51 and one would do 102.
    busy(stage, 102)
    down = stage.until("102 % of work keep two of them", lambda: replicas(stage) == 2, SLOW, seen=stage.events)
    stage.until(
        "the two do 51 each",
        lambda: sorted(stage.custom_metric("gpu_utilization_percent").values()) == ["51", "51"],
        SLOW,
        seen=lambda: stage.custom_metric("gpu_utilization_percent"),
    )
    stage.settles("it settles at two", lambda: replicas(stage) == 2, 16)

    idle(stage)
    rest = stage.until("no work leaves the one that must be", lambda: replicas(stage) == 1, SLOW, seen=stage.events)
    stage.report(first_value=first, to_three=up, to_two=down, to_one=rest)


def replicas(stage: Stage, *, ready: bool = False) -> int:
    """Return how many pods there are."""
    return len(stage.pods(NAME, ready=ready))


def busy(stage: Stage, percent: int) -> None:
    """Give the service this much work, in per cent of one GPU."""
    address = f"{EXPORTER}?namespace={stage.namespace}&workload={NAME}&total={percent}"
    stage.kubectl.run("replace", f"--raw={address}", "-f", "-", stdin="")


def idle(stage: Stage) -> None:
    """Take its work away."""
    stage.kubectl.run("delete", f"--raw={EXPORTER}?namespace={stage.namespace}&workload={NAME}")
