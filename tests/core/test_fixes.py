"""The law of all fixes: each one solves its problem without a new error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cases
from ebbtide.core import manifests
from ebbtide.core.base.problems import Problem, remove_field, set_value
from ebbtide.core.documents import fixes, load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.readers.fields import field_names_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from ebbtide.core.base.problems import Fix
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object


def check(text: str, profile: Profile) -> tuple[list[Problem], list[Object]]:
    """Return the problems and the objects of a text with one document."""
    batch = Batch(profile)
    problems, objects = [], []
    for document in manifests.read_documents(text, "spec.yaml"):
        loaded = load_document(document.data, profile, line=document.line, problems=document.problems)
        rendered, _, found = batch.add_document(loaded)
        problems += found
        objects += rendered
    return problems + batch.batch_problems(), objects


def golden_fixes() -> Iterator[tuple[str, Profile, str, Problem, Fix, list[Problem], list[Object]]]:
    for folder in cases.FOLDERS:
        text, profile = cases.spec_file(folder).read_text(), cases.profile(folder)
        problems, objects = check(text, profile)
        for problem in problems:
            for fix in problem.offers or ():
                yield folder.name, profile, text, problem, fix, problems, objects


def test_a_safe_fix_of_a_golden_case_solves_its_problem_and_changes_nothing_else() -> None:
    """A fix that may cause another error, or that is one of several possibilities, must be a suggestion."""
    safe: set[str] = set()
    for name, profile, text, problem, fix, problems, objects in golden_fixes():
        if not fix.safe:
            continue
        try:
            fixed = edit_text(text, {change.field: change.value for change in fix.changes}, field_names_at)
        except NotEdited:
            continue  # several documents, or the form of another tool
        after, rendered = check(fixed, profile)
        before = {fixes.identify(other) for other in problems}
        assert fixes.identify(problem) not in {fixes.identify(other) for other in after}, (name, problem)
        errors = {fixes.identify(other) for other in after if other.severity == "error"}
        # A document that the models reject has not been checked by every rule before.
        checked = not any(other.code.startswith(("SPEC", "YML")) for other in problems)
        assert errors <= before or not checked, (name, problem)
        if problem.severity == "warning":
            assert without_source(rendered) == without_source(objects), (name, problem)
        safe.add(problem.code)

    assert {"AUT007", "AUT021", "SPEC001", "SPEC002", "YML002"} <= safe


def without_source(objects: Sequence[Object]) -> Any:
    """Return objects without the spec that they were rendered from."""
    copies = json.loads(json.dumps(objects))
    for obj in copies:
        obj["metadata"].get("annotations", {}).pop("ebbtide.dev/spec", None)
    return copies


def test_every_fix_changes_a_field_that_a_spec_has() -> None:
    """The path of a change is a field of the model, or an item, or a field that is removed."""
    count = 0
    for name, _, _, problem, fix, _, _ in golden_fixes():
        for change in fix.changes:
            path = change.field
            assert path[0] in {"spec", "metadata", "apiVersion"}, (name, problem)
            known = field_names_at(path[:-1])
            assert change.value is None or isinstance(path[-1], int) or not known or path[-1] in known, (name, problem)
            count += 1

    assert count > 250


def test_a_change_names_the_field_itself_one_next_to_it_or_any_other() -> None:
    where = ("spec", "autoscaling", "minReplicas")
    problem = Problem(
        "X", where, "", fixes=set_value(1.0) + remove_field("maxReplicas") + set_value("llm", ("spec", "serving"))
    )

    assert [fix.changes for fix in problem.offers or ()] == [
        ((where, 1),),
        (((*where[:-1], "maxReplicas"), None),),
        ((("spec", "serving"), "llm"),),
    ]
    assert Problem("X", where, "").offers is None


def test_a_document_in_another_format_has_no_changes_of_native_fields() -> None:
    body = {
        "name": "chat",
        "projectId": "a",
        "spec": {"image": "a/b:1", "autoscaling": {"minReplicas": 4, "maxReplicas": 2}},
    }
    loaded = load_document(body, profiles.load_built_in("full"))
    _, _, problems = Batch(profiles.load_built_in("full")).add_document(loaded)

    assert "AUT001" in [problem.code for problem in problems]
    assert not any(problem.fixes for problem in problems)


def test_at_most_so_many_fixes_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(folder for folder in cases.FOLDERS if folder.name == "unknown-field")
    text, profile = cases.spec_file(folder).read_text(), cases.profile(folder)

    def load(text: str) -> Any:
        return next(iter(manifests.read_documents(text, "spec.yaml"))).data

    def count(limit: int) -> int:
        monkeypatch.setattr(fixes, "MAX_APPLIED", limit)
        return len(fixes.apply_safe_fixes(text, load, lambda text: check(text, profile)[0])[1])

    assert [count(limit) for limit in (0, 1, 100)] == [0, 1, 2]
