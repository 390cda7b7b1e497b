"""Every problem of a document is reported in one run: invalid fields hide no other problem, and cause no second one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.core import manifests
from ebbtide.core.documents import profiles
from ebbtide.core.documents.check import check_documents
from ebbtide.core.documents.texts import load_data, load_text
from ebbtide.core.profile.built_in import BUILT_IN_NAME

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem

PROFILE, _ = profiles.load_profile(BUILT_IN_NAME)
#: A spec with one error of each of several rules.
FAULTY: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "Chat"},
    "spec": {
        "image": "ghcr.io/acme/chat:1.4",
        "autoscaling": {"minReplicas": 4, "maxReplicas": 2, "scaleToZeroRetentionSeconds": 5},
        "compute": {"gpuMemoryRequest": "20Gi", "gpuMemoryLimit": "10Gi"},
        "labels": [{"name": "a b", "value": "x"}],
        "nodePools": ["moon"],
        "exposedUrls": [{"url": "https://chat.example.com/path"}],
        "environmentVariables": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "security": {"runAsNonRoot": True, "capabilities": ["SYS_ADMIN"]},
    },
}


def problems_of(document: dict[str, Any]) -> list[Problem]:
    assert PROFILE is not None
    return check_documents([load_data(document, PROFILE)], PROFILE)


def keys_of(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in problems]


EXPECTED = keys_of(problems_of(FAULTY))


def change(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FAULTY)
    *above, last = path.split(".")
    target = document
    for part in above:
        target = target.setdefault(part, {})
    target[last] = value
    return document


def test_the_faulty_spec_has_a_problem_of_each_family() -> None:
    assert {code[:3] for code, _ in EXPECTED} == {"NAM", "AUT", "GPU", "LAB", "PLC", "SRV", "ENV", "SEC"}


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("spec.frobnicate", 1, "SPEC001"),
        ("spec.workingDir", 7, "SPEC002"),
        ("spec.category", "a b", "SPEC004"),
        ("spec.preemptibility", "sometimes", "SPEC004"),
        ("spec.storage", "none", "SPEC002"),
        ("spec.probes", {"startup": {}}, "SPEC003"),
        ("spec.servingConfiguration.requestTimeout", 5, "SPEC001"),
    ],
)
def test_an_invalid_field_hides_no_other_problem(path: str, value: Any, code: str) -> None:
    problems = keys_of(problems_of(change(path, value)))

    assert [problem for problem in problems if problem not in EXPECTED] == [
        (code, path + ".startup.handler" if code == "SPEC003" else path)
    ]
    assert [problem for problem in problems if problem in EXPECTED] == EXPECTED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.autoscaling", 3),
        ("spec.autoscaling.minReplicas", "four"),
        ("spec.compute.gpuMemoryRequest", "plenty"),
        ("spec.environmentVariables", "A=1"),
        ("spec.security.capabilities", "SYS_ADMIN"),
        ("spec.nodePools", "moon"),
        ("metadata.name", 7),
        ("spec.image", 5),
    ],
)
def test_an_invalid_field_causes_no_second_problem(path: str, value: Any) -> None:
    problems = keys_of(problems_of(change(path, value)))

    assert [problem for problem in problems if problem not in EXPECTED] == [
        next(problem for problem in problems if problem[1] == path)
    ]
    assert len(problems) == len(set(problems))


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        (
            {"autoscaling": {"minReplicas": 0, "maxReplicas": 3, "metric": "latency", "fallbackReplicas": 4}},
            {"AUT003", "AUT004", "AUT009", "AUT029", "AUT090"},
        ),
        (
            {
                "autoscaling": {
                    "minReplicas": 0,
                    "maxReplicas": 3,
                    "metric": "gpu-utilization",
                    "metricThreshold": 0.0001,
                }
            },
            {"AUT004", "AUT009", "AUT010", "AUT011", "AUT017"},
        ),
        (
            {
                "autoscaling": {
                    "minReplicas": 5,
                    "maxReplicas": 3,
                    "metric": "latency",
                    "metricThreshold": 0.5,
                    "schedule": [{"start": "0 8 * * *", "end": "0 9 * * *", "minReplicas": 1}],
                }
            },
            {"AUT001", "AUT009", "AUT010", "AUT029", "AUT090"},
        ),
        (
            {
                "autoscaling": {
                    "minReplicas": 1,
                    "maxReplicas": 3,
                    "metric": "cpu",
                    "metricThreshold": 60,
                    "initialReplicas": 0,
                },
                "serving": "kserve-standard",
            },
            {"AUT007", "SRV003"},
        ),
        (
            {"labels": [{"name": "a b", "value": "x"}], "initContainers": [{"name": "a", "image": "a/b:1"}]},
            {"LAB001", "FLG001"},
        ),
        (
            {
                "compute": {"gpuPortionRequest": 1.5},
                "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "gpu-utilization", "metricThreshold": 60},
            },
            {"AUT009", "GPU002"},
        ),
    ],
)
def test_an_error_hides_no_other_that_does_not_depend_on_it(spec: dict[str, Any], codes: set[str]) -> None:
    document = {**FAULTY, "metadata": {"name": "chat"}, "spec": {"image": "ghcr.io/acme/chat:1", **spec}}

    assert {problem.code for problem in problems_of(document) if problem.severity == "error"} == codes


def test_a_misspelled_field_counts_as_set() -> None:
    document = {
        **FAULTY,
        "metadata": {"name": "chat"},
        "spec": {"imagee": "ghcr.io/acme/chat:1", "nodePools": ["moon"]},
    }

    assert keys_of(problems_of(document)) == [("SPEC001", "spec.imagee"), ("PLC001", "spec.nodePools[0]")]


def test_problems_are_in_the_order_of_their_lines() -> None:
    assert PROFILE is not None
    text = "".join(manifests.write_document(change("spec.frobnicate", 1)))

    lines = [problem.line for problem in check_documents([*load_text(text.encode(), "chat.yaml", PROFILE)], PROFILE)]

    assert lines == sorted(lines)
    assert min(lines) > 0


@pytest.mark.parametrize(
    ("spec", "path", "fix"),
    [
        ({"compute": {"gpuPortionRequest": "50%"}}, "spec.compute.gpuPortionRequest", "set gpuPortionRequest to 0.5"),
        ({"compute": {"gpuPortionRequest": "0.5"}}, "spec.compute.gpuPortionRequest", "remove the quotes"),
        ({"slo": {"uptimePercent": "99.5%"}}, "spec.slo.uptimePercent", "set uptimePercent to 99.5"),
        ({"autoscaling": {"metricThreshold": "ten"}}, "spec.autoscaling.metricThreshold", "write a number"),
        ({"autoscaling": {"minReplicas": "two"}}, "spec.autoscaling.minReplicas", "write a whole number"),
        ({"autoscaling": {"minReplicas": "1.5"}}, "spec.autoscaling.minReplicas", "write a whole number"),
        ({"compute": {"largeShmRequest": "yes"}}, "spec.compute.largeShmRequest", "write true or false"),
        ({"compute": {"largeShmRequest": "true"}}, "spec.compute.largeShmRequest", "remove the quotes"),
        ({"port": 8000}, "spec.port", "set spec.servingPort.container instead"),
        ({"servingPort": {"port": 8000}}, "spec.servingPort.port", "did you mean container?"),
        ({"gpuFraction": 0.5}, "spec.gpuFraction", "set spec.compute.gpuPortionRequest instead"),
        ({"compute": {"gpuFraction": 0.5}}, "spec.compute.gpuFraction", "did you mean gpuPortionRequest?"),
        ({"replicas": 2}, "spec.replicas", "set spec.autoscaling.minReplicas instead"),
        ({"env": []}, "spec.env", "did you mean environmentVariables?"),
    ],
)
def test_the_fix_of_an_invalid_field_names_the_field_or_value_that_is_meant(
    spec: dict[str, Any], path: str, fix: str
) -> None:
    document = {**FAULTY, "metadata": {"name": "chat"}, "spec": {"image": "ghcr.io/acme/chat:1", **spec}}

    assert [(problem.path, problem.fix) for problem in problems_of(document)] == [(path, fix)]
