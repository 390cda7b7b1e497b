"""KAI-Scheduler's arithmetic, with values computed from its source at v0.17.0."""

from __future__ import annotations

import pytest

from ebbtide.core.base import quantities
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.quota import is_in_quota
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.translation import gpu
from ebbtide.core.translation.gpu import kai
from ebbtide.core.translation.gpu.backend import PoolRequest
from ebbtide.core.translation.plan import GpuRequest
from ebbtide.core.translation.translate import make_plan


def ask(memory: str = "", portion: float = 0.0, total: int | None = 81920) -> PoolRequest:
    pool = {"name": "a", "devices": 8, "product": "NVIDIA-A100-SXM4-80GB", "backend": "kai"}
    spec = {**FULL["spec"], "nodePools": [pool | ({} if total is None else {"gpuMemoryMebibytes": total})]}
    profile, problems = profiles.validate_profile_data({**FULL, "spec": spec})
    assert profile is not None, problems
    size = quantities.parse_whole_quantity(memory) if memory else 0
    assert size is not None
    request = (
        GpuRequest("memory", 1, memory=size, memory_limit=size)
        if memory
        else GpuRequest("portion", 1, portion=portion, portion_limit=portion)
    )
    return PoolRequest(request, profile.spec.node_pools[0], profile.spec, "knative", "chat", "user-container")


def codes(request: PoolRequest) -> set[str]:
    return {problem.code for problem in kai.check(request)} - {"GPU013"}


@pytest.mark.parametrize(
    ("total", "counted"),
    # node_info_test.go has 4096 -> 4000. A node without the label counts 100 (DefaultGpuMemory).
    [(4096, 4000), (81920, 81900), (81559, 81500), (23034, 23000), (40960, 40900), (None, 100)],
)
def test_memory_of_a_gpu_is_rounded_down_to_a_multiple_of_100(total: int | None, counted: int) -> None:
    assert kai.count_device_mebibytes(ask(portion=0.5, total=total).pool) == counted


@pytest.mark.parametrize(
    ("request_", "share", "fits"),
    [
        # int(0.25 * 81900) = 20475, four times in 81900.
        (ask(portion=0.25), 0.25, 4),
        (ask(portion=0.3), 0.3, 3),
        (ask(portion=0.125), 0.125, 8),
        # int(0.29 * 100) is 28, since 0.29 * 100 is 28.999999999999996: three fit with either.
        (ask(portion=0.29, total=None), 0.29, 3),
        # A quarter of the GPU's memory becomes a portion: as memory, 4 * 20480 is above 81900.
        (ask("20Gi"), 0.25, 4),
        (ask("10Gi"), 0.125, 8),
        (ask("60Gi"), 0.75, 1),
        (ask("8Gi", total=24576), 0.333333, 3),
        # All of the memory is a whole device.
        (ask("80Gi"), 1.0, 1),
        # 20389 / 81500 = 0.25017..., rounded up to 0.26; 3 * 20389 = 61167, 4 * 20389 = 81556.
        (ask("20389Mi", total=81559), 0.26, 3),
        (ask("20375Mi", total=81559), 0.25, 4),
        (ask("10001Mi"), 0.13, 8),
        (ask("81900Mi"), 1.0, 1),
        # Without the GPU's memory, one replica is certain.
        (ask("10Gi", total=None), 1.0, 1),
    ],
)
def test_replicas_on_one_gpu_and_gpus_of_a_queue(request_: PoolRequest, share: float, fits: int) -> None:
    assert kai.share(request_) == share
    assert kai.fits(request_) == fits
    assert not codes(request_) - {"GPU014"}


@pytest.mark.parametrize(
    ("memory", "annotation", "value"),
    [("20Gi", "gpu-fraction", "0.25"), ("60Gi", "gpu-fraction", "0.75"), ("20000Mi", "gpu-memory", "20000")],
)
def test_memory_that_divides_a_gpu_evenly_is_written_as_a_portion(memory: str, annotation: str, value: str) -> None:
    assert kai.patch(ask(memory)).parts["annotations"][annotation] == value


def test_all_memory_of_a_gpu_is_written_as_a_whole_device() -> None:
    assert kai.patch(ask("80Gi")).parts["limits"] == {"nvidia.com/gpu": "1"}


@pytest.mark.parametrize("memory", ["81901Mi", "81919Mi", "81Gi"])
def test_memory_above_what_kai_counts_is_rejected(memory: str) -> None:
    assert codes(ask(memory)) == {"GPU012"}


def test_a_warning_names_the_memory_with_which_another_replica_fits() -> None:
    (problem,) = (problem for problem in kai.check(ask("20389Mi", total=81559)) if problem.code == "GPU014")

    assert problem.fix == "use at most 20375Mi"


def test_the_comparison_of_backends_uses_the_same_values() -> None:
    (row,) = (row for row in gpu.compare_backends(ask("20Gi")) if row.backend.name == "kai")

    assert (row.fits, row.share, row.written["gpu-fraction"]) == (4, 0.25, "0.25")


def test_only_kai_gives_a_pod_what_its_annotations_say() -> None:
    pod = {
        "metadata": {"name": "a", "annotations": {"gpu-fraction": "0.25"}},
        "spec": {"schedulerName": "kai-scheduler"},
    }
    assert gpu.find_held_gpus(pod, {}) == {"nvidia.com/gpu": 0.25}
    assert gpu.find_held_gpus(pod | {"spec": {}}, {}) is None


@pytest.mark.parametrize(
    ("annotations", "labels", "held"),
    [
        ({"gpu-memory": "20475"}, {"nvidia.com/gpu.memory": "81920"}, {"nvidia.com/gpu": 0.25}),
        ({"gpu-memory": "20475"}, {}, {"nvidia.com/gpu": 1.0}),
        (
            {"nvidia.com/container.a.gpu-memory.request": "20475Mi", "nvidia.com/container.a.gpu-memory.limit": "40Gi"},
            {"nvidia.com/gpu.memory": "81920"},
            {"nvidia.com/gpu": 0.25},
        ),
        ({}, {}, None),
    ],
)
def test_a_pod_with_a_part_of_the_memory_holds_that_part(
    annotations: dict[str, str], labels: dict[str, str], held: dict[str, float] | None
) -> None:
    pod = {"metadata": {"annotations": annotations}, "spec": {"schedulerName": "kai-scheduler"}}
    assert kai.held(pod, labels) == held


@pytest.mark.parametrize("over_quota", [True, False])
def test_the_limit_of_a_queue_counts_preemptible_pods(over_quota: bool) -> None:
    """Without over-quota, the limit is the quota: pkg/scheduler/plugins/proportion/capacity_policy/max_allowed_check.go."""
    projects = {"quota": "kai", "known": {"a": {"gpus": 1, "overQuota": over_quota}}}
    scheduling = {"scheduler": "kai-scheduler", "kai": {"version": "0.12", "gangScheduleKnative": True}}
    profile, problems = profiles.validate_profile_data(
        {
            **FULL,
            "spec": {**FULL["spec"], "scheduling": {**FULL["spec"]["scheduling"], **scheduling}, "projects": projects},
        }
    )
    assert profile is not None, problems
    spec = {
        "image": "example.com/chat:1",
        "project": "a",
        "priorityClass": "train",
        "compute": {"gpuDevicesRequest": 1},
    }
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "chat"}, "spec": spec}
    loaded = load_document(document, profile)
    assert loaded.inference is not None, loaded.problems
    plan, _ = make_plan(loaded.inference, profile)
    assert plan is not None
    assert plan.priority.preemptible
    assert is_in_quota(plan) is not over_quota
