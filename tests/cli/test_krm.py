"""``ebbtide-krm``, the KRM function that kustomize calls with a ResourceList and that returns one."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import strategies
from ebbtide.cli.author.krm import transform_list
from ebbtide.core import manifests
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.built_in import BUILT_IN, FULL

if TYPE_CHECKING:
    from ebbtide.core.translation.objects import Object

ROOT = Path(__file__).parents[2]
LAWS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow],
)
CHAT: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "chat"},
    "spec": {"image": "registry.example.com/chat:1", "servingPort": {"container": 8000}},
}
CONFIG_MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "annotations": {"config.kubernetes.io/index": "0"}},
    "data": {"yes": "no"},
}
#: Annotations that kustomize adds to an item.
MARKED = {
    "internal.config.kubernetes.io/index": "1",
    "config.kubernetes.io/path": "chat.yaml",
    "config.k8s.io/id": "1",
}


def resource_list(*items: Any, **more: Any) -> bytes:
    return manifests.write_document(
        {"apiVersion": "config.kubernetes.io/v1", "kind": "ResourceList", "items": list(items), **more}
    ).encode()


def rendered(native: dict[str, Any], profile: dict[str, Any]) -> list[Object]:
    cluster, _ = profiles.validate_profile_data(profile)
    assert cluster is not None
    return Batch(cluster).add_document(load_document(native, cluster))[0]


def test_an_inference_is_replaced_in_place_by_its_objects() -> None:
    other = {**CONFIG_MAP, "metadata": {"name": "after"}}

    answer, code = transform_list(resource_list(CONFIG_MAP, CHAT, other))

    assert code == 0
    assert answer["items"] == [CONFIG_MAP, *rendered(CHAT, BUILT_IN), other]
    assert (answer["apiVersion"], answer["kind"]) == ("config.kubernetes.io/v1", "ResourceList")


def test_a_list_without_an_inference_passes_through_untouched() -> None:
    odd = [CONFIG_MAP, {"kind": "Anything", "spec": None}, {"no": "kind"}]

    answer, code = transform_list(resource_list(*odd))

    assert code == 0
    assert answer["items"] == odd
    assert answer["results"] == []


def test_kustomize_annotations_do_not_reach_the_objects() -> None:
    marked = copy.deepcopy(CHAT)
    marked["metadata"]["annotations"] = {**MARKED, "example.com/kept": "yes"}
    annotated = copy.deepcopy(CHAT)
    annotated["metadata"]["annotations"] = {"example.com/kept": "yes"}

    answer, code = transform_list(resource_list(marked))

    assert code == 0
    assert answer["items"] == rendered(annotated, BUILT_IN)
    service = next(item for item in answer["items"] if item["kind"] == "Service")
    assert service["metadata"]["annotations"]["example.com/kept"] == "yes"


def test_a_reference_gets_the_name_that_kustomize_gives_to_the_item() -> None:
    """tests/repository/test_kustomize_builds.py compares all references with kustomize's own."""
    mark = "internal.config.kubernetes.io/"
    marks = {f"{mark}previousNames": "settings", f"{mark}needsHashSuffix": "enabled"}
    generated = {**CONFIG_MAP, "metadata": {"name": "dev-settings", "annotations": marks}, "data": {"k": "v"}}
    other = {"configMap": {"name": "other", "key": "k"}, "name": "B"}

    def refer(name: str) -> dict[str, Any]:
        variables = [{"name": "A", "configMap": {"name": name, "key": "k"}}, other]
        return {**CHAT, "spec": {**CHAT["spec"], "environmentVariables": variables}}

    answer, code = transform_list(resource_list(refer("settings"), generated))

    assert code == 0
    assert answer["items"] == [*rendered(refer("dev-settings-bdg947hgcc"), BUILT_IN), generated]


def test_the_function_s_config_is_the_profile() -> None:
    profile = copy.deepcopy(FULL)
    profile["metadata"] |= {"name": "own", "annotations": dict(MARKED)}
    profile["spec"]["scheduling"] = {"scheduler": "default-scheduler"}
    profile["spec"]["nodePools"] = []

    answer, code = transform_list(resource_list(CHAT, functionConfig=profile))

    assert code == 0
    (service,) = (item for item in answer["items"] if item["kind"] == "Service")
    assert "schedulerName" not in service["spec"]["template"]["spec"]
    assert answer["items"] == rendered(CHAT, profile)


def test_an_invalid_profile_is_reported_and_stops() -> None:
    answer, code = transform_list(resource_list(CHAT, functionConfig={"kind": "Profile", "spec": {"x": 1}}))

    assert code == 1
    assert {result["severity"] for result in answer["results"]} == {"error"}
    assert {"spec.x", "apiVersion", "metadata"} <= {result["field"]["path"] for result in answer["results"]}


def test_problems_are_results_with_their_path_and_an_error_stops() -> None:
    wrong = copy.deepcopy(CHAT)
    wrong["spec"]["autoscaling"] = {"minReplicas": 5, "maxReplicas": 2}

    answer, code = transform_list(resource_list(wrong, CHAT))

    assert code == 1
    (error,) = (result for result in answer["results"] if result["severity"] == "error")
    assert error["message"].startswith("AUT001: minReplicas 5 is above maxReplicas 2 (fix: ")
    assert error["field"] == {"path": "spec.autoscaling.minReplicas"}
    assert error["resourceRef"] == {"name": "chat"}


def test_warnings_are_results_and_do_not_stop() -> None:
    fraction = {**CHAT, "spec": {**CHAT["spec"], "compute": {"gpuPortionRequest": 0.25}}}
    answer, code = transform_list(resource_list(fraction, functionConfig=FULL))

    assert code == 0
    assert answer["results"]
    assert {result["severity"] for result in answer["results"]} == {"warning"}


def test_a_shared_namespace_is_generated_once() -> None:
    two = [copy.deepcopy(CHAT), copy.deepcopy(CHAT)]
    for number, item in enumerate(two):
        item["metadata"]["name"] = f"chat-{number}"
        item["spec"]["project"] = "team-a"

    answer, code = transform_list(resource_list(*two))

    kinds = [item["kind"] for item in answer["items"]]
    assert code == 0
    assert kinds.count("Namespace") == 1
    assert kinds.count("Service") == 2


def test_the_same_name_twice_is_rejected() -> None:
    answer, code = transform_list(resource_list(CHAT, CHAT))

    assert code == 1
    assert "NAM004" in {result["message"].partition(":")[0] for result in answer["results"]}


#: Object that a spec needs with the full profile, in addition to its service.
HIGH: dict[str, Any] = {**CHAT, "spec": {**CHAT["spec"], "priorityClass": "high"}}


def high_class() -> Object:
    (priority_class,) = (item for item in rendered(HIGH, FULL) if item["kind"] == "PriorityClass")
    return priority_class


@pytest.mark.parametrize("first", [True, False])
def test_an_identical_resource_is_not_generated(first: bool) -> None:
    existing = high_class()
    existing["metadata"]["annotations"] = dict(MARKED)
    items = [existing, HIGH] if first else [HIGH, existing]

    answer, code = transform_list(resource_list(*items, functionConfig=FULL))

    assert code == 0
    assert [item for item in answer["items"] if item["kind"] == "PriorityClass"] == [existing]
    assert len(answer["items"]) == len(rendered(HIGH, FULL))


def test_a_resource_that_differs_stops() -> None:
    existing = {**high_class(), "value": 7}

    answer, code = transform_list(resource_list(existing, HIGH, functionConfig=FULL))

    assert code == 1
    (error,) = (result for result in answer["results"] if result["severity"] == "error")
    assert error["message"].startswith("NAM005: PriorityClass ebbtide-high is already among the resources")
    assert error["resourceRef"] == {"name": "chat"}
    assert answer["items"].count(existing) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"apiVersion": "example.com/v1"},
        {"apiVersion": None},
        {"metadata": None},
        {"metadata": {"name": "ebbtide-high", "namespace": 3}},
        {"metadata": {"name": "ebbtide-low"}},
    ],
)
def test_a_different_resource_is_still_generated(other: dict[str, Any]) -> None:
    existing = {**high_class(), **other}

    answer, code = transform_list(resource_list(existing, HIGH, functionConfig=FULL))

    assert code == 0
    assert answer["items"] == [existing, *rendered(HIGH, FULL)]


@pytest.mark.parametrize(("value", "objects"), [("true", 0), ("", 0), ("false", 1)])
def test_local_config_is_not_in_the_output(value: str, objects: int) -> None:
    local = copy.deepcopy(CHAT)
    local["metadata"]["annotations"] = {"config.kubernetes.io/local-config": value}

    answer, code = transform_list(resource_list(CONFIG_MAP, local))

    assert code == 0
    assert answer["items"] == [CONFIG_MAP, *(rendered(CHAT, BUILT_IN) if objects else [])]


@pytest.mark.parametrize("kind", ["List", "Inference", None])
def test_input_other_than_a_resource_list_is_rejected(kind: str | None) -> None:
    answer, code = transform_list(manifests.write_document({"apiVersion": "v1", "kind": kind, "items": []}).encode())

    assert code == 1
    (error,) = answer["results"]
    assert error["message"].startswith("SPEC005: stdin does not contain a ResourceList")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"just text",
        b"[1, 2]",
        b"a: &x 1\nb: *x\n",
        b"{",
        b"kind: ResourceList\nitems: 3\n",
        b"kind: ResourceList\nitems: {a: b}\n",
        b"kind: ResourceList\nitems: text\n",
        b"kind: ResourceList\nitems: [1, null, text, [2]]\n",
        b"kind: ResourceList\nfunctionConfig: 3\n",
        b"kind: ResourceList\nfunctionConfig: {metadata: [1]}\n",
        b"kind: ResourceList\nitems: [{kind: Inference}]\n",
        b"kind: ResourceList\nitems: [{kind: Inference, metadata: 3, spec: [1]}]\n",
        b"kind: ResourceList\nitems: [{kind: Inference, metadata: {name: 3, annotations: [1]}}]\n",
    ],
)
def test_invalid_bytes_cause_no_traceback(text: bytes) -> None:
    answer, code = transform_list(text)

    assert code in {0, 1}
    assert answer["kind"] == "ResourceList"
    assert code == int(any(result["severity"] == "error" for result in answer["results"]))
    assert manifests.write_document(answer)


@LAWS
@given(
    st.lists(strategies.natives | strategies.documents, max_size=3),
    st.none() | strategies.profiles | strategies.json_like,
)
def test_no_list_causes_a_traceback(items: list[Any], config: Any) -> None:
    document = dataclasses.replace(
        next(manifests.read_documents(b"a: 1", "x")),
        data={"kind": "ResourceList", "items": items, "functionConfig": config},
    )
    before = copy.deepcopy(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "read_documents", lambda *_: iter([document]))
        answer, code = transform_list(b"")

    assert code == int(any(result["severity"] == "error" for result in answer["results"]))
    others = [item for item in before if item.get("kind") != "Inference"]
    assert [item for item in answer["items"] if item in others] == others or code == 1
    assert items == before


def test_the_program_reads_stdin_and_writes_stdout() -> None:
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "ebbtide-krm")],
        input=resource_list(CONFIG_MAP, CHAT),
        capture_output=True,
        check=False,
        cwd=ROOT,
    )

    assert (ran.returncode, ran.stderr) == (0, b"")
    (document,) = manifests.read_documents(ran.stdout, "stdout")
    assert document.problems == []
    assert document.data["items"] == [CONFIG_MAP, *rendered(CHAT, BUILT_IN)]


def test_the_program_prints_errors_on_stderr() -> None:
    wrong = {**CHAT, "metadata": {"name": "Not_A_Name"}}

    ran = subprocess.run(
        [str(Path(sys.executable).parent / "ebbtide-krm")],
        input=resource_list(wrong),
        capture_output=True,
        check=False,
    )

    assert ran.returncode == 1
    assert b"NAM001" in ran.stderr
    assert b"Traceback" not in ran.stderr
