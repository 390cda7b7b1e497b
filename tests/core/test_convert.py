"""The conversion of a spec to another kind of object: it renders, or what is lost is reported by name."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import check_documents
from ebbtide.core.documents.targets import SERVINGS, convert_serving
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.readers.loaded import canonical_json
from ebbtide.core.translation.objects import apply_merge_patch
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.readers.loaded import LoadedDocument

NO_KNATIVE = "tests/profiles/no-knative.yaml"
AUTOSCALING = "autoscaling.knative.dev"


def make_knative_service(annotations: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "vision", "namespace": "team-a"},
        "spec": {
            "template": {
                "metadata": {"annotations": {f"{AUTOSCALING}/{key}": value for key, value in annotations.items()}},
                "spec": {
                    "containers": [
                        {
                            "name": "server",
                            "image": "ghcr.io/acme/vision:3.2",
                            "ports": [{"containerPort": 9000}],
                            "resources": {"requests": {"cpu": "2"}},
                        }
                    ],
                    **spec,
                },
            }
        },
    }


def make_inference_service(mode: str, **predictor: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "vision",
            "namespace": "team-a",
            "annotations": {"serving.kserve.io/deploymentMode": mode},
        },
        "spec": {
            "predictor": {
                "containers": [{"name": "kserve-container", "image": "ghcr.io/acme/vision:3.2"}],
                **predictor,
            }
        },
    }


BY_CPU = {"class": f"hpa.{AUTOSCALING}", "metric": "cpu", "target": "80", "min-scale": "1", "max-scale": "5"}
BY_CONCURRENCY = {"class": f"kpa.{AUTOSCALING}", "min-scale": "1", "max-scale": "5"}
FIXED = {"class": f"kpa.{AUTOSCALING}", "min-scale": "2", "max-scale": "2"}


def convert(obj: dict[str, Any], serving: str, profile: str = "full") -> LoadedDocument:
    cluster, problems = profiles.load_profile(profile) if profile != "full" else (profiles.load_built_in(profile), [])
    assert cluster is not None, problems
    return convert_serving(load_document(obj, cluster, name="live"), serving, cluster)


def errors_of(loaded: LoadedDocument) -> set[tuple[str, str]]:
    return {(problem.code, problem.path) for problem in loaded.problems if problem.severity == "error"}


@pytest.mark.parametrize("annotations", [BY_CPU, FIXED])
def test_a_knative_service_moves_to_a_cluster_without_knative(annotations: dict[str, str]) -> None:
    loaded = convert(make_knative_service(annotations), "kserve-standard", NO_KNATIVE)
    cluster, _ = profiles.load_profile(NO_KNATIVE)
    assert cluster is not None
    assert errors_of(loaded) == set()
    assert list(loaded.reading.native["spec"])[:2] == ["defaults", "serving"]
    assert [problem for problem in check_documents([loaded], cluster) if problem.severity == "error"] == []

    assert loaded.inference is not None
    service = translate(loaded.inference, cluster, loaded.canonical).objects[0]
    predictor = service["spec"]["predictor"]
    assert service["kind"] == "InferenceService"
    assert predictor["minReplicas"] == int(annotations["min-scale"])
    assert [container["name"] for container in predictor["containers"]] == ["kserve-container"]
    assert "knative" not in canonical_json(predictor)


@pytest.mark.parametrize(
    ("obj", "serving", "errors"),
    [
        (
            make_knative_service(BY_CONCURRENCY, containerConcurrency=4),
            "kserve-standard",
            {
                ("CNV074", "spec.autoscaling"),
                ("AUT024", "spec.template.spec.containerConcurrency"),
            },
        ),
        (
            make_knative_service({"max-scale": "5"}),
            "kserve-standard",
            {("CNV074", "spec.autoscaling"), ("AUT024", "spec.autoscaling.minReplicas")},
        ),
        (
            make_knative_service({**FIXED, "metric-aggregation-algorithm": "weightedExponential"}),
            "kserve-standard",
            {("CNV074", f"spec.template.metadata.annotations.{AUTOSCALING}/metric-aggregation-algorithm")},
        ),
        (
            make_inference_service("Standard", minReplicas=1, maxReplicas=3),
            "knative",
            {("CNV074", "spec.autoscaling")},
        ),
        (
            make_inference_service("Standard", logger={"mode": "all"}),
            "knative",
            {("SRV044", "spec.predictor.logger")},
        ),
        (
            make_inference_service("Standard", unknownToSpecs={"a": 1}),
            "knative",
            {("CNV074", "spec.predictor.unknownToSpecs")},
        ),
    ],
)
def test_what_the_other_kind_cannot_do_is_refused_by_name(
    obj: dict[str, Any], serving: str, errors: set[tuple[str, str]]
) -> None:
    assert errors_of(convert(obj, serving)) == errors


def test_the_minimum_of_the_controller_becomes_a_field() -> None:
    standard = convert(make_inference_service("Standard"), "knative")
    assert errors_of(standard) == set()
    assert standard.reading.native["spec"]["autoscaling"] == {"minReplicas": 1, "maxReplicas": 1}

    knative = convert(make_knative_service({}), "kserve")
    assert errors_of(knative) == set()
    assert knative.reading.native["spec"]["autoscaling"] == {"minReplicas": 0}


def test_the_minimum_of_knatives_autoscaler_becomes_a_field() -> None:
    data = apply_merge_patch(FULL, {"spec": {"knative": {"autoscaler": {"min-scale": "2"}}}})
    cluster, problems = profiles.validate_profile_data(data)
    assert cluster is not None, problems
    converted = convert_serving(load_document(make_knative_service({}), cluster), "kserve", cluster)

    assert converted.reading.native["spec"]["autoscaling"] == {"minReplicas": 2}


def test_keys_that_only_knative_reads_are_refused_by_name() -> None:
    service = make_knative_service({**FIXED, "initial-scale": "1"})
    service["metadata"]["labels"] = {"networking.knative.dev/visibility-of-a-team": "yes", "team": "a"}
    service["metadata"]["annotations"] = {"networking.knative.dev/http-protocol": "Redirected", "owner": "a"}
    service["spec"]["template"]["metadata"]["annotations"] |= {"features.knative.dev/x": "1", "example.com/y": "2"}

    loaded = convert(service, "kserve-standard")

    assert {path for code, path in errors_of(loaded) if code == "CNV074"} == {
        "metadata.labels.networking.knative.dev/visibility-of-a-team",
        "metadata.annotations.networking.knative.dev/http-protocol",
        "spec.template.metadata.annotations.features.knative.dev/x",
    }
    assert {"name": "example.com/y", "value": "2"} in loaded.reading.native["spec"]["annotations"]


def test_a_container_keeps_its_name_between_the_modes_of_kserve() -> None:
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "vision"},
        "spec": {"image": "ghcr.io/acme/vision:3.2", "serving": "kserve", "containerName": "kserve-container"},
    }

    assert convert(document, "kserve-standard").reading.native["spec"]["containerName"] == "kserve-container"
    assert "containerName" not in convert(document, "knative").reading.native["spec"]


SIDECAR = {"name": "log", "image": "ghcr.io/acme/log:1"}


@pytest.mark.parametrize(
    ("spec", "severities"),
    [
        ({}, ["error"]),
        ({"serving": "kserve"}, ["warning"]),
        ({"serving": "kserve-standard"}, []),
        ({"defaults": "ebbtide"}, []),
        ({"sidecars": []}, []),
        ({"servingPort": {"container": 9000}}, []),
        ({"servingPort": {"protocol": "grpc"}}, []),
    ],
)
def test_several_containers_need_a_port_where_knative_runs_them(spec: dict[str, Any], severities: list[str]) -> None:
    base = {"defaults": "none", "image": "ghcr.io/acme/server:1", "sidecars": [SIDECAR]}
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "vision"},
        "spec": base | spec,
    }
    cluster = profiles.load_built_in("full")

    problems = check_documents([load_document(document, cluster)], cluster)

    assert [problem.severity for problem in problems if problem.code == "SRV073"] == severities


@pytest.mark.parametrize("ports", [[], [{"containerPort": 9000}]])
def test_a_service_with_a_sidecar_has_a_port_after_it_moves_to_knative(ports: list[dict[str, Any]]) -> None:
    obj = make_inference_service("Standard", minReplicas=1, maxReplicas=1)
    (server,) = obj["spec"]["predictor"]["containers"]
    server.update({"ports": ports} if ports else {})
    obj["spec"]["predictor"]["containers"].append(SIDECAR)
    cluster = profiles.load_built_in("full")

    converted = convert(obj, "knative")

    problems = check_documents([converted], cluster)
    assert [problem.code for problem in problems if problem.severity == "error"] == []
    assert converted.reading.native["spec"]["servingPort"] == {
        "container": ports[0]["containerPort"] if ports else 8080
    }


def test_a_problem_that_the_document_had_before_is_not_repeated() -> None:
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "vision"},
        "spec": {"image": "ghcr.io/acme/vision:3.2", "autoscaling": {"minReplicas": 2, "maxReplicas": 1}},
    }
    cluster = profiles.load_built_in("full")

    converted = convert_serving(load_document(document, cluster), "kserve", cluster)

    assert errors_of(converted) == set()
    assert "AUT001" in {problem.code for problem in check_documents([converted], cluster)}


@pytest.mark.parametrize("serving", SERVINGS)
def test_a_document_of_the_same_kind_stays_as_it_is(serving: str) -> None:
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "vision"},
        "spec": {"image": "ghcr.io/acme/vision:3.2", "serving": serving},
    }
    loaded = load_document(deepcopy(document), profiles.load_built_in("full"))

    assert convert_serving(loaded, serving, profiles.load_built_in("full")) is loaded
    assert loaded.reading.native == document


def test_a_spec_with_ebbtides_defaults_keeps_its_fields() -> None:
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "vision"},
        "spec": {"image": "ghcr.io/acme/vision:3.2"},
    }
    loaded = convert(document, "kserve")

    assert loaded.reading.native["spec"] == {"serving": "kserve", "image": "ghcr.io/acme/vision:3.2"}
    assert errors_of(loaded) == set()
