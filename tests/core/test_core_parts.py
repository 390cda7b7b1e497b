"""Direct tests of core functions that commands use."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide.core.base.problems import ERROR, MAX_PROBLEMS, WARNING, Problem, limit_problems
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.files import is_directory, read_file
from ebbtide.core.documents.incomplete import MAX_FIELDS, find_further_problems
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.readers import rest, table
from ebbtide.core.translation import gpu
from ebbtide.core.translation.objects import apply_merge_patch, with_values
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.readers.loaded import LoadedDocument


def native(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {"image": "ghcr.io/acme/chat:1", **spec},
    }


@pytest.mark.parametrize(
    ("compute", "devices"),
    [({}, 0.0), ({"gpuPortionRequest": 0.25}, 0.25), ({"gpuDevicesRequest": 2}, 2.0)],
)
def test_a_replica_holds_its_part_of_the_gpus(compute: dict[str, Any], devices: float) -> None:
    loaded = load_document(native(compute=compute), profiles.load_built_in("full"))
    assert loaded.inference is not None
    plan = translate(loaded.inference, profiles.load_built_in("full"), loaded.canonical).plan
    assert plan is not None
    assert gpu.count_gpus_per_replica(plan) == devices


def test_fields_that_run_ai_does_not_have_are_reported_on_conversion() -> None:
    document = native(
        slo={"p95LatencyMilliseconds": 500},
        command=["serve", "a b"],
        autoscaling={"metric": "cpu-utilization", "metricThreshold": 2.5},
        probes={"liveness": {"handler": {"httpGet": {"path": "/"}}}},
    )
    body, lost = rest.write_body(document, profiles.load_built_in("full"))
    assert body["spec"]["autoscaling"] == {"metric": "cpu_utilization", "metricThreshold": 2}
    assert body["spec"]["command"] == "serve 'a b'"
    assert "slo" not in body["spec"]
    assert {problem.field for problem in lost} >= {
        ("spec", "slo"),
        ("spec", "autoscaling", "metricThreshold"),
        ("spec",),
        (),
    }


def test_no_field_of_ebbtide_reaches_a_rest_body() -> None:
    """The reference marks the fields that Run:ai does not have; those of the spec and of its blocks are all reported."""
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "spec.md").read_text()
    marked = {
        (*heading.split(".")[1:], name)
        for heading, text in re.findall(r"^## (spec(?:\.\w+)?)\n(.*?)(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL)
        for name in re.findall(r"^\| `(\w+)` \|.* \| Ebbtide \| [^|]+ \|$", text, re.MULTILINE)
        if heading.removeprefix("spec.") not in rest.OURS
    }

    # Run:ai has the project outside the spec.
    assert marked - {("project",)} == {(name,) for name in rest.OURS} | set(rest.OURS_INSIDE)


def lost_of(**spec: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the REST body of a spec, and the fields that are reported as lost."""
    body, lost = rest.write_body(native(**spec), profiles.load_built_in("full"))
    return body["spec"], [problem.path for problem in lost if problem.code == "CNV001"]


def test_the_name_of_a_custom_metric_becomes_the_metric_of_run_ai() -> None:
    auto = {"maxReplicas": 3, "metric": "custom", "metricName": "vllm_queue", "metricThreshold": 5.0}

    spec, lost = lost_of(autoscaling=auto)

    assert spec["autoscaling"] == {"maxReplicas": 3, "metric": "vllm_queue", "metricThreshold": 5}
    assert isinstance(spec["autoscaling"]["metricThreshold"], int)
    assert lost == []


@pytest.mark.parametrize("name", ["cpu_utilization", "throughputs"])
def test_a_custom_metric_that_looks_like_a_built_in_one_is_reported_as_lost(name: str) -> None:
    auto = {"maxReplicas": 3, "metric": "custom", "metricName": name, "metricThreshold": 5}

    spec, lost = lost_of(autoscaling=auto)

    assert spec["autoscaling"] == {"maxReplicas": 3}
    assert lost == ["spec.autoscaling.metricName"]


def test_a_name_with_another_metric_is_reported_as_lost() -> None:
    spec, lost = lost_of(autoscaling={"metric": "latency", "metricName": "a", "metricThreshold": 5})

    assert spec["autoscaling"] == {"metric": "latency", "metricThreshold": 5}
    assert lost == ["spec.autoscaling.metricName"]


@pytest.mark.parametrize("way", ["tcpSocket", "grpc"])
def test_a_probe_that_run_ai_does_not_have_is_reported_as_lost(way: str) -> None:
    spec, lost = lost_of(probes={"readiness": {"handler": {way: {"port": 8080}}}})

    assert "probes" not in spec
    assert lost == [f"spec.probes.readiness.handler.{way}"]


def test_a_probe_by_http_stays() -> None:
    probes = {"readiness": {"handler": {"httpGet": {"path": "/health"}}}}

    assert lost_of(probes=probes) == ({"image": "ghcr.io/acme/chat:1", "probes": probes}, [])


def test_a_mig_profile_and_its_type_are_lost_together() -> None:
    spec, lost = lost_of(compute={"gpuRequestType": "migProfile", "migProfile": "1g.10gb", "cpuCoreRequest": 1})

    assert spec["compute"] == {"cpuCoreRequest": 1}
    assert lost == ["spec.compute.migProfile"]


@pytest.mark.parametrize(("priority", "preserved"), [("train", False), ("high", True)])
def test_a_class_that_is_not_a_level_of_run_ai_is_reported_as_lost(priority: str, *, preserved: bool) -> None:
    spec, lost = lost_of(priorityClass=priority)

    assert spec.get("priorityClass") == (priority if preserved else None)
    assert lost == ([] if preserved else ["spec.priorityClass"])


def first(folder: Path) -> LoadedDocument:
    """Return the first document of a case that is a workload."""
    return next(loaded for loaded in cases.make(folder).documents if loaded.inference is not None)


@pytest.mark.parametrize("folder", cases.RENDERED, ids=lambda folder: folder.name)
def test_a_converted_body_can_be_read_back(folder: Path) -> None:
    profile = cases.profile(folder)
    body, lost = rest.write_body(first(folder).reading.native, profile)
    if {problem.path for problem in lost} & {
        "spec.model",
        "spec.serving",
        "spec.compute.migProfile",
        "spec.defaults",
        "spec.autoscaling.metrics",
    }:
        # The remaining object is another workload, if any.
        return
    loaded = load_document({"projectId": "team-a", **body}, profile)
    assert loaded.inference is not None, loaded.problems

    problems = translate(loaded.inference, profile, loaded.canonical).problems
    assert [problem for problem in problems if problem.severity == "error"] == []


def test_fields_that_nvidias_client_leaves_empty_are_ignored() -> None:
    empty = {
        "name": "chat",
        "projectId": "team-a",
        "clusterId": None,
        "useGivenNameAsPrefix": None,
        "templateId": None,
        "spec": {
            "image": "ghcr.io/acme/chat:1",
            "probes": None,
            "compute": None,
            "storage": {"pvc": None},
            "environmentVariables": None,
            "labels": [{"name": "a", "value": "b", "exclude": None}],
            "servingPort": {"container": 8000, "authorizedUsers": None},
            "patches": [{"kind": "Service", "patch": {"metadata": {"labels": None}}}],
        },
    }

    loaded = load_document(empty, profiles.load_built_in("full"))

    assert loaded.inference is not None, loaded.problems
    assert loaded.reading.native["spec"] == {
        "image": "ghcr.io/acme/chat:1",
        "labels": [{"name": "a", "value": "b"}],
        "servingPort": {"container": 8000},
        "patches": [{"kind": "Service", "patch": {"metadata": {"labels": None}}}],
        "project": "team-a",
    }


def test_a_body_whose_spec_is_not_a_mapping_is_rejected() -> None:
    loaded = load_document({"name": "chat", "projectId": "team-a", "spec": [None]}, profiles.load_built_in("full"))

    assert [(problem.code, problem.path) for problem in loaded.problems] == [("SPEC002", "spec")]


@pytest.mark.parametrize("prefix", [[], {}, "yes", 2])
def test_a_prefix_that_is_not_a_boolean_is_rejected(prefix: Any) -> None:
    loaded = load_document(
        {"name": "chat", "projectId": "team-a", "useGivenNameAsPrefix": prefix}, profiles.load_built_in("full")
    )
    assert ("SPEC002", "useGivenNameAsPrefix") in {(problem.code, problem.path) for problem in loaded.problems}


def test_only_a_regular_file_of_a_directory_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "spec.yaml"
    os.mkfifo(pipe)

    for only_regular in (True, False):
        with pytest.raises(OSError, match="it is a named pipe; pass the text on stdin, as -"):
            read_file(pipe, only_regular=only_regular)
    with pytest.raises(OSError, match="it is not a regular file"):
        read_file(Path(os.devnull), only_regular=True)
    assert read_file(Path(os.devnull)) == b""


def test_a_path_that_is_too_long_is_not_a_directory() -> None:
    assert not is_directory(Path("a" * 5000))


def test_a_prefix_needs_a_name() -> None:
    loaded = load_document(
        {"name": 7, "projectId": "team-a", "useGivenNameAsPrefix": True, "spec": {"image": "ghcr.io/acme/chat:1"}},
        profiles.load_built_in("full"),
    )

    assert {problem.code for problem in loaded.problems if problem.path == "name"} == {"SPEC002"}
    assert "RUN045" not in {problem.code for problem in loaded.problems}


def test_the_cluster_id_comes_from_the_profile() -> None:
    data = copy.deepcopy(FULL)
    data["spec"]["clusterId"] = "9f1c"
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    body, _ = rest.write_body(native(project="team-a"), profile)
    assert body["clusterId"] == "9f1c"


def test_a_body_of_run_ai_has_the_project_and_no_default_autoscaling() -> None:
    document = native(project="team-a")
    document["spec"]["autoscaling"] = None
    body, _ = rest.write_body(document, profiles.load_built_in("full"))
    assert body["projectId"] == "team-a"


def test_an_annotation_that_is_not_a_number_requests_no_gpu() -> None:
    assert gpu.find_annotated_gpus({"gpu-fraction": "half"}) == {}
    assert gpu.find_annotated_gpus({"gpu-fraction": "0.5", "gpu-fraction-num-devices": "two"}) == {}


def test_mig_with_strategy_single_lists_and_counts_plain_gpus() -> None:
    pool = profiles.load_built_in("full").spec.node_pools[0]
    single = gpu.BACKENDS["mig"].advertises, gpu.BACKENDS["mig"].quota
    values = {"mig_strategy": "single", "resource": None}

    for count in single:
        assert count is not None
        assert count(with_values(pool, **values)) == {"nvidia.com/gpu": 1}


def test_a_node_type_other_than_that_of_the_pool_is_rejected() -> None:
    data = copy.deepcopy(FULL)
    data["spec"]["nodePools"][0]["selector"] = {"run.ai/type": "dgx"}
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    loaded = load_document(native(nodeType="other"), profile)
    assert loaded.inference is not None
    reported = [problem for problem in translate(loaded.inference, profile, "{}").problems if problem.code == "PLC005"]

    assert [problem.field for problem in reported] == [("spec", "nodeType")]


def test_a_label_with_a_list_of_names_is_rejected() -> None:
    data = copy.deepcopy(FULL)
    data["spec"]["access"] = {"enforces": {"authorizedUsers": {"labels": {"users": "{users}"}}}}
    profile, problems = profiles.validate_profile_data(data)

    assert profile is None
    assert [(problem.code, problem.field[-1]) for problem in problems] == [("PRF004", "users")]


def test_errors_are_listed_before_warnings_and_the_rest_is_counted() -> None:
    warnings = [Problem("A", (), f"warning {number}", "", WARNING) for number in range(MAX_PROBLEMS)]
    error = Problem("B", (), "error", "", ERROR)

    assert limit_problems(warnings) == warnings
    assert limit_problems([warnings[0], error]) == [error, warnings[0]]
    limited = limit_problems([*warnings, error])
    assert limited[0] == error
    assert limited[-1] == Problem(
        "FIL052", (), "1 more problems are not listed", "fix the listed problems first", WARNING
    )
    assert limit_problems([error] * (MAX_PROBLEMS + 2))[-1].severity == ERROR


def test_a_warning_of_several_documents_is_counted() -> None:
    profile = profiles.load_built_in("full")
    batch = Batch(profile, fold=True)
    document = native(autoscaling={"minReplicas": 1, "maxReplicas": 1, "stableWindowSeconds": 60})
    for name in ("one", "two", "three"):
        batch.add_document(load_document({**document, "metadata": {"name": name}}, profile))

    assert any("2 more" in problem.message for problem in batch.batch_problems())


def test_a_document_without_problems_is_not_read_again_for_a_line() -> None:
    profile = profiles.load_built_in("full")
    requests: list[Any] = []

    def find_line(path: Any) -> int:
        requests.append(path)
        return 1

    loaded = load_document(native(), profile, line=find_line)

    assert Batch(profile).add_document(loaded)[0]
    assert requests == []


def test_a_document_with_many_invalid_fields_has_no_further_problems() -> None:
    profile = profiles.load_built_in("full")
    invalid = [{"name": "A", "value": 1}] * (MAX_FIELDS + 1)

    assert find_further_problems(load_document(native(environmentVariables=invalid), profile), profile) == []


def test_a_text_that_is_too_long_is_reported_with_its_limit() -> None:
    auto = {"minReplicas": 1, "maxReplicas": 2, "metric": "m" * 201, "metricThreshold": 1}
    native = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "a"}}
    loaded = load_document({**native, "spec": {"image": "a/b:1", "autoscaling": auto}}, profiles.load_built_in("full"))

    (problem,) = loaded.problems
    assert (problem.code, problem.path) == ("SPEC004", "spec.autoscaling.metric")
    assert "longer than 200 characters" in problem.message


def find_codes(spec: dict[str, Any], **profile: Any) -> set[str]:
    """Return the codes of the problems of a spec with a changed full profile."""
    _, data, _ = profiles.load_profile_with_data("full")
    cluster, _ = profiles.validate_profile_data(apply_merge_patch(data, {"spec": profile}))
    assert cluster is not None
    native = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "a"}}
    loaded = load_document({**native, "spec": {"image": "a/b:1", **spec}}, cluster)
    return {problem.code for problem in Batch(cluster).add_document(loaded)[2]}


def test_a_listed_metric_has_a_name_of_its_own() -> None:
    listed = {"minReplicas": 1, "maxReplicas": 2, "metrics": [{"metric": "custom", "threshold": 1}]}
    assert "AUT027" in find_codes({"autoscaling": listed})


def test_a_probe_that_waits_longer_than_a_request_delays_the_first_replica() -> None:
    probes = {"readiness": {"initialDelaySeconds": 400, "handler": {"httpGet": {"path": "/", "port": 8080}}}}
    auto = {"minReplicas": 0, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 4}
    assert "AUT073" in find_codes({"probes": probes, "autoscaling": auto})


def test_true_or_none_refuses_other_values() -> None:
    assert [table.true_or_none(value) for value in (True, False)] == [True, None]
    with pytest.raises(table.RefusedValueError, match="must be true or false"):
        table.true_or_none("yes")


def test_a_limit_above_the_request_needs_a_sharing_mode_that_enforces_it() -> None:
    compute = {"gpuRequestType": "portion", "gpuPortionRequest": 0.25, "gpuPortionLimit": 0.5}
    codes = [
        find_codes({"compute": compute}, scheduling={"kai": {"sharingMode": mode, "version": "0.18"}})
        & {"GPU005", "GPU066"}
        for mode in ("HamiCore", "NonMemoryEnforced", "NvFractions")
    ]
    assert codes == [{"GPU005"}, {"GPU066"}, set()]
