"""Every golden output is valid by upstream's schemas: no unknown field, no wrong type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import cases
from schemas.validate import validate, validators

if TYPE_CHECKING:
    from pathlib import Path


#: Fields that upstream added after the version of the schemas, by the version of the profile.
NEWER = {"0.21": {"LLMInferenceService": ["spec.rolloutStrategy: unknown field"]}}


@pytest.mark.parametrize("folder", cases.RENDERED, ids=lambda folder: folder.name)
def test_each_object_of_a_case_matches_the_schema_of_its_kind(folder: Path) -> None:
    objects = cases.make(folder).objects
    older = cases.profile(folder).spec.kserve.version

    assert objects, "the folder has an expected.yaml, so objects are made"
    assert {obj["kind"]: errors for obj in objects if (errors := validate(obj, older))} == NEWER.get(older, {})


def test_an_object_of_a_newer_kserve_is_invalid_in_the_older_one() -> None:
    canary = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}}}, "canary": []},
    }

    assert validate(canary) == []
    assert validate(canary, "0.15") == ["spec.canary: unknown field"]


def test_every_rendered_kind_has_a_schema() -> None:
    kinds = {(obj["apiVersion"], obj["kind"]) for folder in cases.RENDERED for obj in cases.make(folder).objects}

    assert kinds
    assert kinds <= validators().keys()
