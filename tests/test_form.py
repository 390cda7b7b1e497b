"""Tests of the form and its YAML: properties that hold for every spec in the project, and the table of fields."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from ebbtide import manifests
from ebbtide.base.paths import at
from ebbtide.documents import profiles
from ebbtide.manifests.edit import changed
from ebbtide.spec.inference import Inference
from ebbtide.web import new
from ebbtide.web.fields import CHOICES, CONDITIONS, LISTS, ROWS, controls, groups
from ebbtide.web.form import EMPTY, beside, changes_of, data_of, form, look, meant, merged, ordered, shown, text_of
from ebbtide.web.remedies import applied, remedies

if TYPE_CHECKING:
    from ebbtide.base.problems import Path

PROFILE = profiles.built_in()
HEAD = "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata:\n  name: chat\nspec:\n"
SPEC = f"""\
{HEAD}\
  image: a/b:1   # the image
  environmentVariables:
    # the first
    - name: A
      value: "1"
    - name: B
      secret: {{name: s, key: k}}
      description: kept
  autoscaling:
    minReplicas: 1
    maxReplicas: 4   # four
    metric: concurrency
    metricThreshold: 10
  tolerations:
  - operator: Exists
"""


def texts() -> dict[str, str]:
    """Return every spec in the project that the form can edit."""
    found = {}
    for folder in cases.FOLDERS:
        text = cases.spec_file(folder).read_text()
        seen = look(text, cases.profile(folder))
        if not seen.closed and not any(problem.code.startswith("YML") for problem in seen.problems):
            found[folder.name] = text
    return found


TEXTS = texts()


def filled(text: str) -> dict[str, str]:
    """Return the fields that a browser submits if nothing in the form was changed."""
    sent = {}
    for group in form(data_of(text), [])[0]:
        for block in group.blocks:
            for one in (*block.fields, *(field for row in block.items for field in row)):
                if one.text is not None:
                    sent[one.name] = one.text.replace("\n", "\r\n")
    return sent


# The table of fields.


def test_each_row_names_a_unique_field_of_the_spec() -> None:
    names = [control.name for control in controls()]

    assert len(names) == len(set(names)) == len(ROWS)
    assert all(control.help.endswith(".") for control in controls())
    assert {control.row.when for control in controls()} <= set(CONDITIONS)
    assert {control.row.choices for control in controls()} <= {"", *CHOICES, "projects", "pools"}
    assert {block.listed for group in groups() for block in group.blocks if block.listed} == set(LISTS)


def test_field_kinds_and_choices_come_from_the_model() -> None:
    known = {control.name: control for control in controls()}

    assert known["spec.image"].kind == "text"
    assert known["spec.autoscaling.minReplicas"].kind == "integer"
    assert known["spec.autoscaling.metricThreshold"].kind == "number"
    assert known["spec.compute.cpuMemoryRequest"].kind == "amount"
    assert known["spec.compute.largeShmRequest"].kind == "flag"
    assert known["spec.security.runAsNonRoot"].kind == "truth"
    assert known["spec.nodePools"].kind == "list"
    assert known["spec.imagePullPolicy"].choices == ("Always", "Never", "IfNotPresent")
    assert "Default: 8080" in known["spec.servingPort.container"].help
    assert "Ebbtide extension" not in " ".join(control.help for control in known.values())


def test_the_groups_are_in_run_ai_order() -> None:
    assert [group.title.split()[0] for group in groups()][:7] == [
        "Project", "Image", "Model", "Serving", "Compute", "Replica", "Advanced",
    ]  # fmt: skip


def test_every_example_is_valid_and_has_a_title() -> None:
    for example in new.examples().values():
        seen = look(example.text, PROFILE)

        assert seen.objects
        assert not seen.closed
        assert example.title.endswith(".")
        assert not beside(seen.data)


# Single values.


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("text", "a b", "a b"), ("text", "a\nb", None), ("text", {"a": 1}, None), ("text", True, "true"),
        ("text", "\u202eabc", None), ("integer", 3, "3"), ("integer", "three", "three"), ("number", 0.25, "0.25"), ("number", 2.0, "2.0"),
        ("flag", True, "on"), ("flag", False, ""), ("flag", "yes", None), ("truth", False, "false"), ("zero", 0, "on"),
        ("zero", 1, ""), ("zero", None, ""), ("list", ["a", "b"], "a, b"), ("list", ["a,b"], None), ("list", [], ""),
        ("lines", ["a", "b c"], "a 'b c'"), ("lines", "a\nb", "a\nb"), ("lines", ["a", 1], None), ("exact", " a ", " a "),
        ("amount", 2, "2"), ("choice", None, ""),
    ],
)  # fmt: skip
def test_a_value_is_shown_unchanged_or_not_at_all(kind: Any, value: Any, text: str | None) -> None:
    assert shown(kind, value) == text


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "5", 5), ("integer", " 5 ", 5), ("integer", "5.5", "5.5"), ("integer", "five", "five"), ("integer", "", None),
        ("integer", "9" * 30, "9" * 30), ("number", "2.5", 2.5), ("number", "2", 2), ("number", "1e999", "1e999"), ("number", "nan", "nan"),
        ("amount", "16Gi", "16Gi"), ("amount", "2", 2), ("text", " a ", "a"), ("text", "5", "5"), ("exact", " a ", " a "),
        ("list", "a, b,,c ", ["a", "b", "c"]), ("list", " , ", None), ("truth", "true", True), ("truth", "maybe", "maybe"),
        ("flag", "on", True), ("flag", "", None), ("zero", "on", 0), ("zero", "", 1), ("lines", "a b\n", "a b"),
    ],
)  # fmt: skip
def test_field_text_is_parsed_by_kind(kind: Any, text: str, value: Any) -> None:
    found = meant(kind, text)

    assert found == value
    assert type(found) is type(value)


@given(st.sampled_from(["text", "integer", "number", "amount", "list", "truth", "choice", "lines"]), st.text())
def test_showing_and_parsing_a_value_round_trips(kind: Any, text: str) -> None:
    value = meant(kind, text)
    again = shown(kind, value)

    if again is not None and value is not None:
        assert meant(kind, again) == value


# From the form to the YAML.


def test_the_properties_are_checked_on_many_specs() -> None:
    assert len(TEXTS) > 150


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_an_unchanged_form_changes_nothing(name: str) -> None:
    text = TEXTS[name]

    assert changes_of(data_of(text), filled(text)) == {}
    assert merged(text, text, filled(text)).text == text


VALUES = {
    "text": ["x", "two words", "it's: #1", "no"],
    "exact": ["x", " kept ", "1"],
    "integer": ["7", "0", "many"],
    "number": ["0.5", "12", "-"],
    "amount": ["3Gi", "4"],
    "list": ["a", "a, b"],
    "lines": ["run --it", "a\r\nb"],
    "truth": ["true", "false"],
    "choice": ["http", "anything"],
    "flag": ["on"],
    "zero": ["on", ""],
}


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_form_edit_changes_only_its_value_in_the_yaml(data: st.DataObject) -> None:
    text = TEXTS[data.draw(st.sampled_from(sorted(TEXTS)))]
    before = data_of(text)
    sent = filled(text)
    name = data.draw(st.sampled_from(sorted(sent)))
    control = next(
        one
        for one in controls()
        if one.name == name or (one.column and any(one.name.format(number) == name for number in range(20)))
    )
    new_text = data.draw(st.sampled_from([*VALUES[control.kind], ""]))
    whole = copy.deepcopy(before)

    found = merged(text, text, {**sent, name: new_text})

    assert before == whole
    assert not found.refused
    after = data_of(found.text)
    wanted = before
    for path, value in changes_of(before, {**sent, name: new_text}).items():
        wanted = changed(wanted, path, value)
    assert after == wanted
    here, there = text.splitlines(), found.text.splitlines()
    least = min(len(here), len(there))
    first = next((place for place in range(least) if here[place] != there[place]), least)
    last = next((place for place in range(least - first) if here[-1 - place] != there[-1 - place]), least - first)
    # The lines before and after the change are the same, and no line is lost or added elsewhere.
    assert here[:first] == there[:first]
    assert here[len(here) - last :] == there[len(there) - last :]
    # The form now shows the new value.
    again = filled(found.text).get(name)
    if again is not None and new_text and control.kind not in {"flag", "zero"}:
        assert meant(control.kind, again.replace("\r\n", "\n")) == meant(control.kind, new_text.replace("\r\n", "\n"))


def test_an_edit_keeps_comments_and_unknown_fields() -> None:
    found = merged(SPEC, SPEC, {"spec.image": "a/b:2", "spec.autoscaling.maxReplicas": "8"})

    assert found.text == SPEC.replace("a/b:1", "a/b:2").replace("maxReplicas: 4", "maxReplicas: 8")
    assert found.changed_count == 2
    assert beside(data_of(SPEC)) == ["spec.environmentVariables[1].description", "spec.tolerations"]


def test_edits_in_the_yaml_and_the_form_are_merged() -> None:
    text = SPEC.replace("minReplicas: 1", "minReplicas: 2")

    found = merged(SPEC, text, {**filled(SPEC), "spec.image": "a/b:2"})

    assert found.text == text.replace("a/b:1", "a/b:2")


def test_the_scale_to_zero_checkbox_sets_and_resets_the_minimum() -> None:
    resting = merged(SPEC, SPEC, {**filled(SPEC), "to-zero": "on"}).text

    assert resting == SPEC.replace("minReplicas: 1", "minReplicas: 0")
    assert merged(resting, resting, {**filled(resting), "to-zero": ""}).text == SPEC


def test_a_new_item_is_appended_unless_it_is_empty() -> None:
    fresh = {f"spec.environmentVariables.2.{name}": "" for name in ("name", "value", "secret.name", "secret.key")}

    assert merged(SPEC, SPEC, {**filled(SPEC), **fresh}).text == SPEC
    found = merged(SPEC, SPEC, {**filled(SPEC), **fresh, "spec.environmentVariables.2.name": "C"})
    assert data_of(found.text)["spec"]["environmentVariables"][2] == {"name": "C"}
    assert found.text.startswith(SPEC[: SPEC.index("  autoscaling")])


def test_a_cleared_item_stays_in_place() -> None:
    names = ("name", "value")
    found = merged(SPEC, SPEC, {**filled(SPEC), **{f"spec.environmentVariables.0.{name}": "" for name in names}})

    assert [item["name"] for item in data_of(found.text)["spec"]["environmentVariables"]] == ["", "B"]


def test_an_empty_text_is_filled_by_the_form() -> None:
    found = merged("", "", {"metadata.name": "chat", "spec.image": "a/b:1"})

    assert data_of(found.text) == {**data_of(EMPTY), "metadata": {"name": "chat"}, "spec": {"image": "a/b:1"}}
    assert "{}" not in found.text


def test_impossible_edits_are_reported_and_the_others_are_made() -> None:
    text = f"{HEAD}  image: a/b:1\n  args: x\n  args: z\n"

    found = merged(text, text, {"spec.args": "y", "spec.image": "c"})

    assert found.refused == ("spec.args",)
    assert "image: c\n" in found.text


# From the YAML to the form.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [\n", "cannot be read"),
        (f"{SPEC}---\n{SPEC.replace('chat', 'other')}", "2 documents"),
        ('{"name": "x", "projectId": "team-a", "clusterId": "c", "spec": {"image": {"image": "a"}}}', "native format"),
    ],
)
def test_a_read_only_form_shows_the_reason(text: str, told: str) -> None:
    assert told in look(text, PROFILE).closed


def test_a_foreign_document_can_be_converted() -> None:
    folder = next(folder for folder in cases.FOLDERS if folder.name == "rest-body")
    seen = look(cases.spec_file(folder).read_text(), cases.profile(folder))

    assert seen.foreign
    turned = look(manifests.write_one(seen.data), cases.profile(folder))
    assert not turned.closed
    assert [item["metadata"]["name"] for item in turned.objects] == [item["metadata"]["name"] for item in seen.objects]


def test_a_live_workload_is_read_back_in_the_order_of_the_reference() -> None:
    seen = look(SPEC, PROFILE)
    text = text_of(seen.objects[-1], PROFILE)

    assert data_of(text) == seen.data
    assert [*data_of(text)["spec"]] == ["image", "environmentVariables", "autoscaling", "tolerations"]
    assert [*data_of(text)["spec"]["autoscaling"]] == ["minReplicas", "maxReplicas", "metric", "metricThreshold"]
    assert ordered({"b": 1, "kind": {"x": 1}, "apiVersion": []}) == {"b": 1, "kind": {"x": 1}, "apiVersion": []}


def test_problems_are_placed_at_their_fields() -> None:
    text = SPEC.replace("metricThreshold: 10", "metricThreshold: ten").replace("name: A", 'name: "1 x"')
    seen = look(text, PROFILE)
    shown_groups, left = form(seen.data, seen.problems)
    wrong = {
        one.name
        for group in shown_groups
        for block in group.blocks
        for one in (*block.fields, *(field for row in block.items for field in row))
        if one.wrong
    }

    assert wrong == {"spec.autoscaling.metricThreshold"}
    assert not [problem for problem in left if problem.severity == "error"]
    named = look(SPEC.replace("name: A", 'name: "1 x"'), PROFILE)
    placed = form(named.data, named.problems)[0]
    assert "spec.environmentVariables.0.name" in {
        one.name for group in placed for block in group.blocks for row in block.items for one in row if one.wrong
    }


def test_conditional_fields_are_hidden_until_they_have_a_value() -> None:
    def off(text: str) -> set[str]:
        seen = look(text, PROFILE)
        blocks = [block for group in form(seen.data, seen.problems)[0] for block in group.blocks]
        return {block.when for block in blocks if not block.on}

    fixed = f"{HEAD}  image: a/b:1\n"
    assert off(fixed) == {"users", "groups", "portion", "memory", "mig", "moves", "custom", "zero"}
    assert "moves" not in off(f"{fixed}  autoscaling:\n    maxReplicas: 3\n")
    assert "zero" not in off(f"{fixed}  autoscaling:\n    minReplicas: 0\n")
    assert "moves" not in off(f"{fixed}  autoscaling:\n    metricThreshold: 3\n")


def test_every_field_is_in_the_form_or_listed() -> None:
    # Fields without a control are listed.
    data = {
        "metadata": {"name": "x", "annotations": {"a": "b"}},
        "spec": {"category": "c", "image": "i", "slo": {"uptimePercent": 99}},
    }

    assert beside(data) == ["metadata.annotations", "spec.category"]
    assert Inference.model_fields["spec"] is not None
    assert at(data, "spec", "slo", "uptimePercent") == 99


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_input_raises_an_error(data: st.DataObject) -> None:
    text = TEXTS[data.draw(st.sampled_from(sorted(TEXTS)))]
    whole = data_of(text)
    for control in data.draw(st.lists(st.sampled_from(controls()), max_size=3)):
        path: Path = (*control.path, 0, *control.column) if control.column else control.path
        cut = path[: data.draw(st.integers(1, len(path)))]
        if 0 in cut and isinstance(at(whole, *control.path), dict):
            continue
        try:
            whole = changed(whole, cut, data.draw(ODD))
        except (TypeError, KeyError, IndexError, AttributeError):
            continue
    odd = data.draw(
        st.sampled_from([manifests.write_one(whole) if whole else "", data.draw(st.text(max_size=40)), text[:200]])
    )

    seen = look(odd, PROFILE)
    form(seen.data, seen.problems)
    beside(seen.data)
    remedies(seen, PROFILE)
    names = st.sampled_from([control.name.format(0) for control in controls()])
    found = merged(odd, odd, data.draw(st.dictionaries(names, st.text(max_size=6), max_size=3)))
    look(found.text, PROFILE)


# Fixes.


@pytest.mark.parametrize(
    ("line", "label", "after"),
    [
        ("minReplicas: 9\n    maxReplicas: 4", "Set minReplicas to 4", "minReplicas: 4\n    maxReplicas: 4"),
        ("minReplica: 1", "Rename to minReplicas", "minReplicas: 1"),
        ('minReplicas: "1"', "Remove the quotes: 1", "minReplicas: 1"),
        ("minReplicas: 1\n    maxReplicas: 3", "Use concurrency, 10 requests in flight per replica",
         "minReplicas: 1\n    maxReplicas: 3\n    metric: concurrency\n    metricThreshold: 10"),
        ("minReplicas: 1\n    frobnicate: 2", "Remove frobnicate", "minReplicas: 1"),
    ],
)  # fmt: skip
def test_a_fix_is_one_click(line: str, label: str, after: str) -> None:
    text = f"{HEAD}  image: a/b:1\n  autoscaling:\n    {line}\n"
    seen = look(text, PROFILE)
    found = {one.label: one for offered in remedies(seen, PROFILE).values() for one in offered}

    assert label in found
    assert found[label].text == f"{HEAD}  image: a/b:1\n  autoscaling:\n    {after}\n"
    assert applied(seen, PROFILE, found[label].key) == found[label].text
    assert applied(seen, PROFILE, "no such way") == text


def test_fixes_solve_their_problem_and_cause_no_new_error() -> None:
    offered = 0
    for folder in cases.FOLDERS:
        profile = cases.profile(folder)
        seen = look(cases.spec_file(folder).read_text(), profile)
        before = {(problem.code, problem.path) for problem in seen.errors}
        for number, found in remedies(seen, profile).items():
            for one in found:
                after = look(one.text, profile)
                named = {(problem.code, problem.path) for problem in after.problems}
                assert (seen.problems[number].code, seen.problems[number].path) not in named
                assert {(problem.code, problem.path) for problem in after.errors} <= before
                offered += 1

    assert offered > 80
