"""Documents of every input format with wrong types and extreme numbers: each gets problems, never a traceback.

The documents are those of the golden cases. ``EBBTIDE_FUZZ=long`` tries every change instead of a sample.
"""

from __future__ import annotations

import copy
import json
import os
import random
from typing import TYPE_CHECKING, Any, Final

import pytest

import cases
from ebbtide.core import manifests
from ebbtide.core.documents import profiles, texts
from ebbtide.core.documents.check import check_documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.base.problems import Problem
    from ebbtide.core.profile.models import Profile

    Place = tuple[str | int, ...]
    Change = tuple[Profile, dict[str, Any], Place, Any]

LONG: Final = os.environ.get("EBBTIDE_FUZZ") == "long"
SAMPLE: Final = 60
REMOVED: Final = object()
# fmt: off
WRONG: Final[tuple[Any, ...]] = (
    REMOVED, None, True, 0, -1, 1.5, "", "x", "a: b", [], [None], [[]], ["x"], [{}], {}, {"a": 1}, {"": None},
    {"value": []}, {"items": {"x": []}},
)
EXTREME: Final[tuple[Any, ...]] = (
    0, -1, 1e308, 1.7976931348623157e308, -1e308, 5e-324, 1e-300, 0.1 + 0.2, 999999999.9999999, 1e20, 2**31, 2**53, 2**63 - 1,
    2**63, 10**30, "1e308", "9" * 40, "1e-999", "1E",
)
# fmt: on


def check(document: Any, profile: Profile) -> list[Problem]:
    text = document if isinstance(document, str) else json.dumps(document)
    return check_documents([*texts.load_text(text.encode(), "spec.yaml", profile)], profile)


def list_documents() -> Iterator[tuple[Profile, dict[str, Any]]]:
    for folder in cases.FOLDERS:
        file = cases.spec_file(folder)
        for document in manifests.read_documents(file.read_bytes(), file.name):
            if isinstance(document.data, dict):
                yield cases.profile(folder), document.data


def list_places(value: Any, depth: int, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if place:
        yield place, value
    if depth and isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from list_places(item, depth - 1, (*place, key))


def change(document: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    parent: Any = changed
    for key in place[:-1]:
        parent = parent[key]
    if value is REMOVED:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return changed


def is_number(value: Any) -> bool:
    if isinstance(value, str):
        # A quantity, or a number of an annotation.
        return value[:1].isdigit() and len(value) < 8
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def group_by_format(numbers: bool) -> dict[str, list[Change]]:
    """Return the changes by the format of their document: a sample needs as many of each."""
    changes: dict[str, list[Change]] = {}
    for profile, document in list_documents():
        group = changes.setdefault(f"{document.get('apiVersion')} {document.get('kind')}", [])
        for place, value in list_places(document, 12 if numbers else 3):
            if not numbers or is_number(value):
                group += [(profile, document, place, other) for other in (EXTREME if numbers else WRONG)]
    return changes


@pytest.mark.parametrize("numbers", [False, True], ids=["wrong types", "extreme numbers"])
def test_no_document_causes_a_traceback(numbers: bool) -> None:
    groups = group_by_format(numbers)
    assert {
        "ebbtide.dev/v1alpha1 Inference",
        "serving.knative.dev/v1 Service",
        "serving.kserve.io/v1beta1 InferenceService",
        "serving.kserve.io/v1alpha2 LLMInferenceService",
        "None None",  # Run:ai's REST bodies
    } <= {*groups}
    chosen = random.Random(0)  # noqa: S311 - reproducible
    for group in groups.values():
        for profile, document, place, value in group if LONG else chosen.sample(group, min(SAMPLE, len(group))):
            try:
                check(change(document, place, value), profile)
            except Exception as error:
                shown = "removed" if value is REMOVED else repr(value)
                raise AssertionError(f"{place} {shown} of {json.dumps(document)}") from error


SPEC = """
apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: chat}
spec:
  image: example.com/chat:v1
  serving: kserve-standard
  security: {runAsNonRoot: true}
  autoscaling:
    maxReplicas: 3
    metric: "vllm:kv_cache_usage_perc"
    metricThreshold: 1.0e+308
"""


@pytest.mark.parametrize(
    ("text", "code", "path", "line"),
    [
        ("apiVersion: serving.knative.dev/v1\nkind: [Service]\nmetadata: {name: a}\n", "SPEC005", "kind", 2),
        ("apiVersion: run.ai/v1\nkind: {a: 1}\n", "SPEC005", "kind", 2),
        (
            "apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nspec: {model: {uri: hf://a/b}}\n",
            "SPEC002",
            "metadata.name",
            1,
        ),
        ("name: a\nuseGivenNameAsPrefix: true\nprojectId: team-a\nspec: x\n", "SPEC002", "spec", 4),
        (SPEC, "AUT011", "spec.autoscaling.metricThreshold", 12),
    ],
    ids=["kind is a list", "kind is a mapping", "no name", "spec is a text", "threshold"],
)
def test_the_problem_names_the_field_and_its_line(text: str, code: str, path: str, line: int) -> None:
    for profile in ("full", "built-in"):
        problems = check(text, profiles.load_built_in(profile))
        assert (code, path, line) in [(problem.code, problem.path, problem.line) for problem in problems]
        assert all(len(problem.message) < 400 for problem in problems)


@pytest.mark.parametrize("field", ["gpus", "cpu"])
def test_a_quota_of_a_profile_is_limited(field: str) -> None:
    projects = {"quota": "kueue", "known": {"team-a": {field: 1e308}}}
    profile, problems = profiles.validate_profile_data({"kind": "Profile", "spec": {"projects": projects}})
    assert profile is None
    assert f"spec.projects.known.team-a.{field}" in [problem.path for problem in problems]
