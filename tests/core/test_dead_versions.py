"""Objects of dead API versions are read as their living version if their fields are the same."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.core.documents import load_document, profiles

PROFILE = profiles.load_built_in("full")
POD: dict[str, Any] = {"spec": {"containers": [{"image": "ghcr.io/acme/chat:1.4"}]}}
PREDICTOR: dict[str, Any] = {"sklearn": {"storageUri": "gs://models/one"}}


def make_object(version: str, spec: Any) -> dict[str, Any]:
    kind = "Service" if "knative" in version else "InferenceService"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "chat"}, "spec": spec}


@pytest.mark.parametrize(
    ("dead", "living", "spec"),
    [
        ("serving.knative.dev/v1alpha1", "serving.knative.dev/v1", {"template": POD}),
        ("serving.knative.dev/v1beta1", "serving.knative.dev/v1", {"template": POD}),
        ("serving.kubeflow.org/v1beta1", "serving.kserve.io/v1beta1", {"predictor": PREDICTOR}),
    ],
)
def test_a_dead_version_is_read_as_the_living_one_with_a_note(dead: str, living: str, spec: dict[str, Any]) -> None:
    loaded = load_document(make_object(dead, spec), PROFILE)

    today = load_document(make_object(living, spec), PROFILE)
    assert loaded.reading.native == today.reading.native
    assert [problem.code for problem in loaded.problems] == ["IMP009", *(problem.code for problem in today.problems)]
    assert (loaded.problems[0].path, loaded.problems[0].severity) == ("apiVersion", "warning")
    assert loaded.problems[0].fix == f"change apiVersion to {living}"


@pytest.mark.parametrize(
    ("version", "spec"),
    [
        ("serving.knative.dev/v1alpha1", {"runLatest": {"configuration": {"revisionTemplate": POD}}}),
        ("serving.knative.dev/v1alpha1", {"template": {"spec": {"container": {"image": "ghcr.io/acme/chat:1.4"}}}}),
        ("serving.knative.dev/v1alpha1", "none"),
        ("serving.kubeflow.org/v1alpha2", {"default": {"predictor": PREDICTOR}}),
        ("serving.kubeflow.org/v1beta1", {"default": {"predictor": PREDICTOR}}),
    ],
)
def test_another_form_of_a_dead_version_is_rejected_with_the_living_one(version: str, spec: Any) -> None:
    [problem] = load_document(make_object(version, spec), PROFILE).problems

    assert (problem.code, problem.path) == ("SPEC005", "apiVersion")
    assert "write it as serving.k" in problem.fix


def test_a_kind_or_a_version_that_is_not_a_text_is_no_object() -> None:
    for data in ({"apiVersion": ["a"], "kind": "Service"}, {"apiVersion": "a/v1", "kind": ["Service"]}):
        [problem] = load_document(data, PROFILE).problems

        assert problem.code == "SPEC005"
