"""A GPU in ``extendedResources`` is the GPU request that the fields of ``compute`` would write, on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cases import ROOT
from ebbtide.core.adopt.live import import_object
from ebbtide.core.base import keys
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

PROFILES = ["built-in", "full", *(str(path) for path in sorted((ROOT / "tests" / "profiles").glob("*.yaml")))]
#: The limits of a container, and the fields of ``compute`` that mean the same.
SPELLINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"nvidia.com/gpu": 1}, {"gpuDevicesRequest": 1}),
    ({"nvidia.com/gpu": "9"}, {"gpuDevicesRequest": 9}),
    ({"nvidia.com/mig-1g.10gb": 1}, {"migProfile": "1g.10gb"}),
    ({"nvidia.com/mig-1g.10gb": 2}, {"migProfile": "1g.10gb", "gpuDevicesRequest": 2}),
]


def make_spec(compute: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"image": "ghcr.io/acme/chat:1.4", "compute": compute, **fields},
    }


def list_resources(limits: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"resource": name, "quantity": amount} for name, amount in limits.items()]


def names_parts_as_gpus(cluster: Profile) -> bool:
    """Return whether the default node pool has shares or MIG devices under the name of whole GPUs."""
    pools = cluster.spec.node_pools[:1]
    return any((pool.replicas and pool.resource == keys.GPU) or pool.mig_strategy == "single" for pool in pools)


def render(spec: dict[str, Any], cluster: Profile) -> tuple[list[Any], list[tuple[str, str, str]]]:
    """Return the objects without the stored spec, and the code, the message and the fix of each problem."""
    loaded = load_document(spec, cluster)
    assert loaded.inference is not None, loaded.problems
    result = translate(loaded.inference, cluster, "{}")
    return list(result.objects), [(problem.code, problem.message, problem.fix) for problem in result.problems]


@pytest.mark.parametrize("name", PROFILES)
def test_an_extended_resource_renders_what_the_field_renders(name: str) -> None:
    cluster, _ = profiles.load_profile(name)
    if cluster is None or not cluster.spec.node_pools or names_parts_as_gpus(cluster):
        pytest.skip("the next tests have these profiles")
    for limits, compute in SPELLINGS:
        written = render(make_spec({"extendedResources": list_resources(limits)}), cluster)

        assert written == render(make_spec(compute), cluster), limits


def test_a_share_in_a_pool_that_names_shares_as_gpus_is_a_portion() -> None:
    cluster, _ = profiles.load_profile(str(ROOT / "tests" / "profiles" / "mps.yaml"))
    assert cluster is not None

    written = render(make_spec({"extendedResources": list_resources({"nvidia.com/gpu": 1})}), cluster)

    assert (
        written[0]
        == render(make_spec({"gpuPortionRequest": 1 / (cluster.spec.node_pools[0].replicas or 0)}), cluster)[0]
    )


@pytest.mark.parametrize(
    ("limits", "code", "field"),
    [
        ({"nvidia.com/gpu": 9}, "GPU022", "spec.compute.extendedResources[0].quantity"),
        ({"rdma/hca": 1, "nvidia.com/mig-1g.10gb": 1}, "GPU008", "spec.compute.extendedResources[1].resource"),
        ({"nvidia.com/gpu.shared": 1}, "GPU008", "spec.compute.extendedResources[0].resource"),
        ({"nvidia.com/gpumem": 100}, "GPU011", "spec.compute.extendedResources[0].resource"),
        ({"nvidia.com/gpu": "500m"}, "CPU004", "spec.compute.extendedResources[0].quantity"),
    ],
)
def test_a_problem_of_the_gpu_request_is_at_the_resource(limits: dict[str, Any], code: str, field: str) -> None:
    cluster = profiles.load_built_in("full")
    loaded = load_document(make_spec({"extendedResources": list_resources(limits)}), cluster)
    assert loaded.inference is not None

    problems = translate(loaded.inference, cluster, "{}").problems

    assert [(problem.code, problem.path) for problem in problems if problem.severity == "error"] == [(code, field)]


def test_a_profile_without_node_pools_rejects_a_gpu_in_any_spelling() -> None:
    cluster, _ = profiles.load_profile(str(ROOT / "tests" / "profiles" / "cpu-pool.yaml"))
    assert cluster is not None

    for compute in ({"gpuDevicesRequest": 1}, {"extendedResources": list_resources({"nvidia.com/gpu": 1})}):
        assert [code for code, _, _ in render(make_spec(compute), cluster)[1]] == ["GPU007"]


def make_service(limits: dict[str, str]) -> dict[str, Any]:
    container = {"image": "ghcr.io/acme/chat:1.4", "resources": {"limits": limits}}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "chat"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


@pytest.mark.parametrize("name", PROFILES)
def test_an_import_reads_the_same_gpus_with_every_profile(name: str) -> None:
    cluster, _ = profiles.load_profile(name)
    if (
        cluster is None
        or names_parts_as_gpus(cluster)
        or any(pool.backend == "hami" for pool in cluster.spec.node_pools)
    ):
        pytest.skip("the resource has another meaning in these profiles")

    spec = import_object(make_service({"nvidia.com/gpu": "2"}), cluster).native["spec"]

    assert spec["compute"] == {"gpuDevicesRequest": 2}
    assert "patches" not in spec


def render_limits(spec: dict[str, Any], cluster: Profile) -> Any:
    return render(spec, cluster)[0][-1]["spec"]["template"]["spec"]["containers"][0].get("resources")


@pytest.mark.parametrize("compute", [{"gpuPortionRequest": 0.25}, {"gpuDevicesRequest": 3}])
def test_a_limit_of_0_gpus_goes_when_the_spec_requests_gpus(compute: dict[str, Any]) -> None:
    cluster = profiles.load_built_in("full")
    native = import_object(make_service({"nvidia.com/gpu": "0"}), cluster).native
    assert "patches" not in native["spec"]
    assert render_limits(native, cluster) == {"limits": {"nvidia.com/gpu": "0"}}

    native["spec"]["compute"] |= compute

    assert render_limits(native, cluster) == render_limits(make_spec(compute, defaults="none"), cluster)
