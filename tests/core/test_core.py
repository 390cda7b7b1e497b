"""Tests of the core without a golden case: API use, guards, long names, conflicts."""

from __future__ import annotations

from typing import Any

import pytest

import ebbtide
from ebbtide.core.base import metrics, names
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.fields import field_names_at, make_json_schema
from ebbtide.core.spec import rules
from ebbtide.core.spec.rules.serving import is_image
from ebbtide.core.translation import gpu, pods, project
from ebbtide.core.translation.gpu.backend import PoolRequest
from ebbtide.core.translation.plan import GpuRequest
from ebbtide.core.translation.translate import translate


def native(spec: dict[str, Any], name: str = "chat") -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": name},
        "spec": {"image": "ghcr.io/acme/chat:1", **spec},
    }


def pool(**fields: Any) -> dict[str, Any]:
    return {"name": "gpus", "product": "NVIDIA-A100-SXM4-80GB", "gpuMemoryMebibytes": 81920, **fields}


def cluster(*pools: dict[str, Any], **spec: Any) -> Profile:
    return Profile.model_validate(
        {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Profile",
            "metadata": {"name": "test"},
            "spec": {"nodePools": list(pools), **spec},
        }
    )


def ask(profile: Profile, kind: Any, serving: Any = "knative", **request: Any) -> PoolRequest:
    return PoolRequest(
        GpuRequest(kind, 1, **request), profile.spec.node_pools[0], profile.spec, serving, "chat", "user-container"
    )


def test_the_public_functions_accept_plain_data() -> None:
    profile = profiles.load_built_in("full")
    loaded = ebbtide.load(native({}), profile)
    assert loaded.inference is not None

    assert ebbtide.check([loaded], profile) == loaded.place_problems(
        ebbtide.translate(loaded.inference, profile, "{}").problems
    )
    assert ebbtide.explain(native({}), FULL).leaves


def test_a_long_derived_name_is_cut_with_a_hash_and_two_long_names_stay_apart() -> None:
    first, second = names.name_claim("a" * 57, 1), names.name_claim("a" * 56 + "b", 1)

    assert len(first) <= 63
    assert first.endswith("-data-1")
    assert first != second
    assert names.name_claim("chat", 1) == "chat-data-1"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"labels": {"a": "1"}}, {"labels": {"a": "2"}}, "labels a"),
        ({"scheduler_name": "x"}, {"scheduler_name": "y"}, "scheduler_name"),
    ],
)
def test_a_conflict_of_two_features_names_both(first: dict[str, Any], second: dict[str, Any], message: str) -> None:
    with pytest.raises(pods.PatchConflict, match=f"first and second both set {message}"):
        pods.merge_patches([pods.PodPatch(by="second", **second), pods.PodPatch(by="first", **first)])


def test_kai_on_another_scheduler_is_rejected_without_a_check_of_the_profile() -> None:
    problems = list(gpu.BACKENDS["kai"].check(ask(cluster(pool(backend="kai")), "devices")))

    assert [problem.code for problem in problems] == ["GPU018"]


def test_shares_without_a_number_are_rejected_without_a_check_of_the_profile() -> None:
    problems = list(gpu.BACKENDS["mps"].check(ask(cluster(pool(backend="mps")), "portion", portion=0.5)))

    assert "GPU007" in [problem.code for problem in problems]


@pytest.mark.parametrize(
    ("mode", "first"),
    [
        ("HamiCore", ["hami", "kai", "mig"]),
        ("NvFractions", ["hami", "kai", "mig"]),
        ("NonMemoryEnforced", ["hami", "mig", "kai"]),
    ],
)
def test_backends_that_enforce_the_request_come_first(mode: str, first: list[str]) -> None:
    profile = cluster(pool(), scheduling={"kai": {"version": "0.18", "sharingMode": mode}})
    request = GpuRequest("portion", 1, portion=0.25, portion_limit=0.25)
    rows = gpu.compare_backends(
        PoolRequest(request, profile.spec.node_pools[0], profile.spec, "knative", "chat", "main")
    )

    assert [row.backend.name for row in rows][:3] == first
    assert [row.possible for row in rows] == sorted((row.possible for row in rows), reverse=True)


def test_the_compute_limits_how_many_replicas_share_a_gpu() -> None:
    profile = cluster(pool(replicas=4))
    request = GpuRequest("portion", 1, portion=0.1, portion_limit=0.1, compute=20)
    rows = gpu.compare_backends(
        PoolRequest(request, profile.spec.node_pools[0], profile.spec, "knative", "chat", "main")
    )
    rows_by_backend = {row.backend.name: row for row in rows}

    assert {name for name, row in rows_by_backend.items() if row.possible} == {"hami", "mig", "mps"}
    assert rows_by_backend["hami"].fits == 5
    assert rows_by_backend["mps"].written["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "20"
    assert "nvidia.com/mig-2g.20gb" in rows_by_backend["mig"].written


def test_a_portion_on_every_backend_includes_a_claim_in_standard_mode() -> None:
    profile = cluster(pool(consumableCapacity=True))
    gpu_query = ask(profile, "portion", "kserve-standard", portion=0.25, portion_limit=0.25)
    rows = gpu.compare_backends(gpu_query)
    rows_by_backend = {row.backend.name: row for row in rows}

    assert rows_by_backend["dra"].written == {"resourceClaims": "chat-gpu-4f005243"}
    assert rows_by_backend["dra"].fits == 4
    assert rows_by_backend["hami"].share == 0.25
    assert not rows_by_backend["devices"].possible


@pytest.mark.parametrize(
    ("request_", "mebibytes", "fits"),
    [
        ({"kind": "portion", "portion": 0.25, "portion_limit": 0.25}, 20389, 4),
        ({"kind": "memory", "memory": 20389 << 20, "memory_limit": 20389 << 20}, 20389, 4),
        ({"kind": "memory", "memory": (20389 << 20) + 1, "memory_limit": (20389 << 20) + 1}, 20390, 3),
    ],
)
def test_as_many_claims_fit_as_are_predicted_if_they_do_not_divide_the_memory(
    request_: dict[str, Any], mebibytes: int, fits: int
) -> None:
    """The driver offers memory in whole MiB: 81,559 on an H100."""
    profile = cluster(pool(backend="dra", consumableCapacity=True, gpuMemoryMebibytes=81559))
    requested = ask(profile, **{"serving": "kserve-standard", **request_})
    (template,) = gpu.BACKENDS["dra"].patch(requested).parts["objects"]
    (row,) = template["spec"]["spec"]["devices"]["requests"]

    assert row["exactly"]["capacity"]["requests"] == {"memory": f"{mebibytes}Mi"}
    assert gpu.BACKENDS["dra"].fits(requested) == fits == 81559 // mebibytes


def test_another_request_has_another_claim_template() -> None:
    """The spec of a template is immutable."""
    profile = cluster(pool(backend="dra"))
    requests: tuple[dict[str, Any], ...] = ({"kind": "devices"}, {"kind": "mig", "mig_profile": "1g.10gb"})
    asked = [ask(profile, serving="kserve-standard", **request) for request in (*requests, requests[0])]
    templates = [gpu.BACKENDS["dra"].patch(each).parts["objects"][0] for each in asked]
    first, second, same = (template["metadata"]["name"] for template in templates)

    assert first == same != second


def test_a_quota_counts_the_partitions_of_a_pool() -> None:
    profile = cluster(
        pool(backend="mig", migProfiles=["1g.10gb+me", "2g.20gb", "9g.9gb"]),
        projects={"quota": "resourcequota", "known": {"team-a": {"gpus": 2}}},
    )
    quota = project.make_project_objects("team-a", "runai-team-a", profile)[1]

    assert quota["spec"]["hard"] == {
        "requests.nvidia.com/mig-1g.10gb.me": "2",
        "requests.nvidia.com/mig-2g.20gb": "6",
    }


@pytest.mark.parametrize(("migs", "fits"), [([], 1), (["1g.10gb+me"], 1), (["1g.10gb"], 0)])
def test_one_instance_of_a_gpu_has_the_media_engines(migs: list[str], fits: int) -> None:
    profile = cluster(pool(backend="mig", migProfiles=migs))
    gpu_query = ask(profile, "mig", "knative", mig_profile="1g.10gb+me")

    assert gpu.BACKENDS["mig"].fits(gpu_query) == fits


@pytest.mark.parametrize(
    ("kind", "request_", "share"),
    [
        ("portion", {"portion": 0.251}, 0.26),
        ("memory", {"memory": 20480 << 20}, 0.25),
        ("devices", {}, 1.0),
    ],
)
def test_hami_takes_a_share_after_its_rounding(kind: str, request_: dict[str, Any], share: float) -> None:
    assert gpu.BACKENDS["hami"].share(ask(cluster(pool(backend="hami")), kind, **request_)) == share


def test_a_quota_counts_each_resource_once_however_many_pools_have_it() -> None:
    profile = cluster(
        pool(backend="dra"),
        pool(name="more", backend="dra"),
        {"name": "old", "product": "Tesla-T4", "backend": "hami"},
        {"name": "older", "product": "Tesla-T4", "backend": "hami"},
        projects={"quota": "resourcequota", "known": {"team-a": {"gpus": 3}}},
    )
    claims, quota = project.make_project_objects("team-a", "runai-team-a", profile)[1:]

    assert claims["spec"] == {"hard": {"gpu.nvidia.com.deviceclass.resource.k8s.io/devices": "3"}}
    assert quota["spec"]["hard"] == {"requests.nvidia.com/gpumem-percentage": "300"}


def test_a_path_that_leads_nowhere_has_no_fields() -> None:
    assert field_names_at(("spec", "image", "deeper", "still")) == []


def test_the_json_schema_has_our_texts_and_refuses_unknown_fields() -> None:
    schema = make_json_schema()
    auto = schema["$defs"]["Autoscaling"]

    assert auto["additionalProperties"] is False
    assert auto["properties"]["minReplicas"]["description"].startswith("Minimum replicas")
    assert "default" not in schema["$defs"]["InferenceSpec"]["properties"]["nodePools"]


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"image": "\ud800"}, "spec.image", "spec.image"),
        ({"autoscaling": {"MINREPLICAS": 1}}, "spec.autoscaling.MINREPLICAS", "did you mean minReplicas?"),
    ],
)
def test_an_invalid_value_or_name_is_reported_with_its_path(spec: dict[str, Any], field: str, words: str) -> None:
    problems = load_document(native(spec), profiles.load_built_in("full")).problems

    assert [problem.path for problem in problems] == [field]
    assert words in problems[0].fix or words in problems[0].path


@pytest.mark.parametrize(
    ("image", "lawful"),
    [
        ("nginx", True),
        ("ghcr.io/acme/chat:1.0", True),
        ("localhost:5000/acme/chat", True),
        ("acme/chat@sha256:" + "0" * 64, True),
        ("ghcr.io/acme/chat:1.0@sha256:" + "0" * 64, True),
        ("a", False),
        ("ghcr.io/a:1", False),
        ("Acme/Chat", False),
        ("acme chat", False),
        ("acme/chat@sha256:12", False),
        ("", False),
    ],
)
def test_an_image_is_valid_if_knative_can_parse_it(image: str, lawful: bool, judge: Any) -> None:
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
    }

    assert is_image(image) is lawful
    assert judge.ask("knative", object=service, config={})["ok"] is lawful


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"image": "Not An Image"}, "SRV021"),
        ({"security": {"supplementalGroups": "1, 99999999999999999999"}}, "SEC004"),
        (
            {
                "image": None,
                "model": {"format": "onnx", "uri": "s3://models/m"},
                "probes": {"readiness": {"handler": {"grpc": {}}}},
            },
            "PRB003",
        ),
    ],
)
def test_values_that_upstream_rejects_are_rejected(spec: dict[str, Any], code: str) -> None:
    document = native(spec)
    document["spec"] = {name: value for name, value in document["spec"].items() if value is not None}
    profile = profiles.load_built_in("full")
    loaded = load_document(document, profile)
    assert loaded.inference is not None

    assert code in [problem.code for problem in translate(loaded.inference, profile, "{}").problems]


@pytest.mark.parametrize(("version", "codes"), [("0.17", []), ("0.18", ["ENV002"])])
def test_kserve_rejects_pythonpath_since_0_18(version: str, codes: list[str]) -> None:
    profile = cluster(kserve={"version": version})
    loaded = load_document(
        native({"serving": "kserve", "environmentVariables": [{"name": "PYTHONPATH", "value": "/app"}]}), profile
    )
    assert loaded.inference is not None

    problems = translate(loaded.inference, profile, "{}").problems
    assert [problem.code for problem in problems if problem.code.startswith("ENV")] == codes


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("troughput", "throughput"),
        ("latencyy", "latency"),
        ("CPU_Utilization", "cpu-utilization"),
        ("latency_ms", None),
        ("throughput_rps", None),
        ("concurrency_avg", None),
        ("cpu_utilization_pct", None),
        ("vllm:num_requests_waiting", None),
        # The spelling of Prometheus for a metric of an inference server is a separate name.
        ("requests_waiting", None),
    ],
)
def test_a_misspelling_differs_in_letters_and_not_in_words(name: str, right: str | None) -> None:
    assert metrics.find_similar_metric(name) == right


def test_an_invalid_custom_metric_name_has_one_fix_only() -> None:
    loaded = load_document(
        native({"autoscaling": {"maxReplicas": 2, "metric": "late-ncy", "metricThreshold": 9}}), cluster()
    )
    assert loaded.inference is not None

    assert [problem.fix for problem in rules.check(loaded.inference)] == ["did you mean latency?"]


@pytest.mark.parametrize(("length", "codes"), [(200_000, []), (263_000, ["SPEC007"])])
def test_a_spec_that_is_too_long_for_an_annotation_is_refused(length: int, codes: list[str]) -> None:
    profile = profiles.load_built_in("full")
    loaded = load_document(native({"args": ["a" * length], "security": {"runAsNonRoot": True}}), profile)
    assert loaded.inference is not None

    translation = translate(loaded.inference, profile, loaded.canonical)

    assert [problem.code for problem in translation.problems if problem.severity == "error"] == codes
    assert bool(translation.objects) is not bool(codes)


def test_a_bound_is_reported_as_a_whole_number() -> None:
    loaded = load_document(native({"autoscaling": {"maxReplicas": 99999999999}}), cluster())

    assert [problem.fix for problem in loaded.problems] == ["use at most 2147483647"]
