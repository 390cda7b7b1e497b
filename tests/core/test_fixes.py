"""The law of all fixes: each one solves its problem without a new error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cases
from ebbtide.core import manifests
from ebbtide.core.base.paths import has_at, remove_at, replace_at
from ebbtide.core.base.problems import Problem, remove_field, set_value
from ebbtide.core.documents import fixes, load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.readers.fields import field_names_at
from strategies import dice

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


def test_a_fix_leads_to_a_spec_that_passes_or_names_the_next_step() -> None:
    """The golden cases, and random mixtures of the fields of three."""
    rng, profile = dice(7), profiles.load_built_in("full")
    natives = [
        loaded.reading.native
        for folder in cases.FOLDERS
        for loaded in cases.make(folder).documents
        if isinstance(loaded.reading.native.get("spec"), dict)
    ]
    tried: set[str] = set()
    for native in [*natives, *(mix(*rng.sample(natives, 3)) for _ in range(400))]:
        problems = check_native(native, profile)
        said = {(problem.code, problem.field) for problem in problems}
        if any(problem.code.startswith(("SPEC", "YML", "IMP")) for problem in problems):
            continue
        for problem in problems:
            for fix in fixes.list_fixes(problem, native) if problem.severity == "error" else ():
                after = native
                for change in fix.changes:
                    if change.value is not None:
                        after = replace_at(after, change.field, change.value)
                    elif has_at(after, change.field):
                        after = remove_at(after, change.field)
                further = {
                    other.code
                    for other in check_native(after, profile)
                    if other.severity == "error" and (other.code, other.field) not in said
                }
                assert all(code in problem.fix for code in further) or "..." in problem.fix, (native, problem, further)
                tried.add(problem.code)

    assert len(tried) > 40, sorted(tried)


def check_native(native: dict[str, Any], profile: Profile) -> list[Problem]:
    return Batch(profile).add_document(load_document(native, profile))[2]


def mix(first: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the fields of several; those of the first win, but in a block, where the last wins."""
    spec = dict(first["spec"])
    for other in others:
        for name, value in other["spec"].items():
            is_block = isinstance(value, dict) and isinstance(spec.get(name), dict)
            spec[name] = {**spec[name], **value} if is_block else spec.get(name, value)
    spec.pop("patches", None)
    return {**first, "spec": spec}


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
