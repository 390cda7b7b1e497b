"""Each choice of ``spec.start`` has golden cases that render and that are refused, a cause in ``explain``, and complete texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import cases
from ebbtide import load
from ebbtide.core.documents.explain import explain_document
from ebbtide.core.spec.start import Start
from ebbtide.core.translation.objects import to_camel
from ebbtide.core.translation.start import CHOICES
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from pathlib import Path

    from ebbtide.core.translation.start import StartChoice

NAMES = [choice.field for choice in CHOICES]


def find_cases(choice: StartChoice) -> list[Path]:
    """Return the golden cases that set the field of a choice."""
    folders = [folder for folder in cases.FOLDERS if folder.name.startswith("start-")]
    return [
        folder
        for folder in folders
        if any(row.reading.native["spec"].get("start", {}).get(choice.field) for row in cases.make(folder).documents)
    ]


def test_each_field_of_the_block_is_a_choice() -> None:
    assert sorted(NAMES) == sorted(map(to_camel, Start.model_fields))


@pytest.mark.parametrize("choice", CHOICES, ids=NAMES)
def test_each_choice_states_what_it_renders_and_needs_its_limits_and_its_source(choice: StartChoice) -> None:
    assert all(len(text) > 10 for text in (choice.renders, choice.needs, choice.limits))
    assert "/" in choice.source


@pytest.mark.parametrize("choice", CHOICES, ids=NAMES)
def test_each_choice_has_a_case_that_explains_it_and_one_that_is_refused(choice: StartChoice) -> None:
    folders = find_cases(choice)
    rendered = [folder for folder in folders if folder in cases.RENDERED]

    causes = {
        cause
        for folder in rendered
        for leaf in explain_document(cases.make(folder).documents[0].reading.native, cases.profile_data(folder)).leaves
        for cause in leaf.causes
    }
    assert any(cause.startswith(f"spec.start.{choice.field}") for cause in causes), (choice.field, causes)
    refused = {problem.code for folder in folders if folder not in rendered for problem in cases.make(folder).problems}
    assert refused & {"STA001", "STA003", "STA005"}


def test_images_of_volumes_are_pulled_in_advance_unless_they_are_excluded() -> None:
    images = [
        {"name": "a", "image": "org/a:1", "mountPath": "/a"},
        {"name": "b", "image": "org/b:1", "mountPath": "/b", "exclude": True},
    ]
    spec = {"image": "org/server:1", "storage": {"imageVolume": images}, "start": {"prePullImage": True}}
    document = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": "chat"}, "spec": spec}
    profile = cases.profile(next(folder for folder in cases.FOLDERS if folder.name == "image-and-csi-volumes"))

    loaded = load(document, profile=profile)
    assert loaded.inference is not None, loaded.problems
    translation = translate(loaded.inference, profile, loaded.canonical)

    (daemons,) = [row for row in translation.objects if row["kind"] == "DaemonSet"]
    volumes = daemons["spec"]["template"]["spec"]["volumes"]
    assert [row["image"]["reference"] for row in volumes] == ["org/server:1", "org/a:1"]
