"""Every golden output has the structure that upstream's schemas want: no unknown field, no wrong type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import cases
from schemas.validate import validate, validators

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("folder", cases.RENDERED, ids=lambda folder: folder.name)
def test_each_object_of_a_case_has_its_kind_s_structure(folder: Path) -> None:
    made = cases.make(folder).objects

    assert made, "the folder has an expected.yaml, so objects are made"
    assert {item["kind"]: found for item in made if (found := validate(item))} == {}


def test_every_kind_that_is_made_has_a_schema() -> None:
    kinds = {(item["apiVersion"], item["kind"]) for folder in cases.RENDERED for item in cases.make(folder).objects}

    assert kinds
    assert kinds <= validators().keys()
