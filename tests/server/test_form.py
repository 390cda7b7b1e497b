"""Tests of the form and its YAML: properties that hold for every spec in the project, and the table of fields."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from ebbtide.core import manifests
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import profiles
from ebbtide.core.manifests.edit import apply_change
from ebbtide.core.translation import start
from ebbtide.server.web import new
from ebbtide.server.web.fields import CHOICES, CONDITIONS, LISTS, ROWS, list_controls
from ebbtide.server.web.form import (
    EMPTY,
    find_changes,
    merge_form,
    order_fields,
    parse_document,
    parse_field,
    read_spec,
    render_form,
    show_value,
    write_live_spec,
)
from ebbtide.server.web.remedies import apply_fix, find_fixes
from ebbtide.server.web.syntax import highlight_yaml

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Path

PROFILE = profiles.load_built_in("full")
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
    specs = {}
    for folder in cases.FOLDERS:
        text = cases.spec_file(folder).read_text()
        spec = read_spec(text, cases.profile(folder))
        if not spec.read_only_reason and not any(problem.code.startswith("YML") for problem in spec.problems):
            specs[folder.name] = text
    return specs


TEXTS = texts()


def filled(text: str) -> dict[str, str]:
    """Return the fields that a browser submits if nothing in the form was changed."""
    values = {}
    for group in render_form(parse_document(text), [])[0]:
        for block in group.blocks:
            for shown_field in (*block.fields, *(field for row in block.items for field in row)):
                if shown_field.text is not None:
                    values[shown_field.name] = shown_field.text.replace("\n", "\r\n")
    return values


# The table of fields.


def test_each_row_names_a_unique_field_of_the_spec() -> None:
    names = [control.name for control in list_controls()]

    assert len(names) == len(set(names)) == len(ROWS)
    assert all(control.help.endswith(".") for control in list_controls())
    assert {control.row.when for control in list_controls()} <= set(CONDITIONS)
    assert {control.row.choices for control in list_controls()} <= {"", *CHOICES, "projects", "pools"}
    assert {control.listed for control in list_controls()} - {""} == set(LISTS)


def test_each_choice_that_shortens_a_start_is_on_the_page() -> None:
    names = [control.name.removeprefix("spec.start.") for control in list_controls() if "spec.start." in control.name]

    assert {name.partition(".")[0] for name in names} == {choice.field for choice in start.CHOICES}


def test_field_kinds_and_choices_come_from_the_model() -> None:
    by_name = {control.name: control for control in list_controls()}

    assert by_name["spec.image"].kind == "text"
    assert by_name["spec.autoscaling.minReplicas"].kind == "integer"
    assert by_name["spec.autoscaling.metricThreshold"].kind == "number"
    assert by_name["spec.compute.cpuMemoryRequest"].kind == "amount"
    assert by_name["spec.compute.largeShmRequest"].kind == "flag"
    assert by_name["spec.security.runAsNonRoot"].kind == "truth"
    assert by_name["spec.nodePools"].kind == "list"
    assert by_name["spec.imagePullPolicy"].choices == ("Always", "Never", "IfNotPresent")
    assert "Default: 8080" in by_name["spec.servingPort.container"].help
    assert "Ebbtide extension" not in " ".join(control.help for control in by_name.values())


def test_the_groups_are_in_run_ai_order() -> None:
    assert [group.title.split()[0] for group in render_form({}, ())[0]][:7] == [
        "Project", "Image", "Model", "Serving", "Environment", "Probes", "Compute",
    ]  # fmt: skip


def test_every_example_is_valid_and_has_a_title() -> None:
    for example in new.load_examples().values():
        spec = read_spec(example.text, PROFILE)

        assert spec.objects
        assert not spec.read_only_reason
        assert example.title.endswith(".")


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
    assert show_value(kind, value) == text


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
    parsed = parse_field(kind, text)

    assert parsed == value
    assert type(parsed) is type(value)


@given(st.sampled_from(["text", "integer", "number", "amount", "list", "truth", "choice", "lines"]), st.text())
def test_showing_and_parsing_a_value_round_trips(kind: Any, text: str) -> None:
    value = parse_field(kind, text)
    shown_text = show_value(kind, value)

    if shown_text is not None and value is not None:
        assert parse_field(kind, shown_text) == value


# From the form to the YAML.


def test_the_properties_are_checked_on_many_specs() -> None:
    assert len(TEXTS) > 150


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_an_unchanged_form_changes_nothing(name: str) -> None:
    text = TEXTS[name]

    assert find_changes(parse_document(text), filled(text)) == {}
    assert merge_form(text, text, filled(text)).text == text


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
    before = parse_document(text)
    values = filled(text)
    name = data.draw(st.sampled_from(sorted(values)))
    control = next(
        candidate
        for candidate in list_controls()
        if candidate.name == name
        or (candidate.column and any(candidate.name.format(number) == name for number in range(20)))
    )
    new_text = data.draw(st.sampled_from([*VALUES[control.kind], ""]))
    whole = copy.deepcopy(before)

    result = merge_form(text, text, {**values, name: new_text})

    assert before == whole
    assert not result.refused
    after = parse_document(result.text)
    expected = before
    for path, value in find_changes(before, {**values, name: new_text}).items():
        expected = apply_change(expected, path, value)
    assert after == expected
    lines_before, lines_after = text.splitlines(), result.text.splitlines()
    shortest = min(len(lines_before), len(lines_after))
    first = next((index for index in range(shortest) if lines_before[index] != lines_after[index]), shortest)
    last = next(
        (index for index in range(shortest - first) if lines_before[-1 - index] != lines_after[-1 - index]),
        shortest - first,
    )
    # The lines before and after the change are the same, and no line is lost or added elsewhere.
    assert lines_before[:first] == lines_after[:first]
    assert lines_before[len(lines_before) - last :] == lines_after[len(lines_after) - last :]
    # The form now shows the new value.
    shown_text = filled(result.text).get(name)
    if shown_text is not None and new_text and control.kind not in {"flag", "zero"}:
        assert parse_field(control.kind, shown_text.replace("\r\n", "\n")) == parse_field(
            control.kind, new_text.replace("\r\n", "\n")
        )


def test_an_edit_keeps_comments_and_unknown_fields() -> None:
    result = merge_form(SPEC, SPEC, {"spec.image": "a/b:2", "spec.autoscaling.maxReplicas": "8"})

    assert result.text == SPEC.replace("a/b:1", "a/b:2").replace("maxReplicas: 4", "maxReplicas: 8")


def test_edits_in_the_yaml_and_the_form_are_merged() -> None:
    text = SPEC.replace("minReplicas: 1", "minReplicas: 2")

    result = merge_form(SPEC, text, {**filled(SPEC), "spec.image": "a/b:2"})

    assert result.text == text.replace("a/b:1", "a/b:2")


def test_the_scale_to_zero_checkbox_sets_and_resets_the_minimum() -> None:
    resting = merge_form(SPEC, SPEC, {**filled(SPEC), "to-zero": "on"}).text

    assert resting == SPEC.replace("minReplicas: 1", "minReplicas: 0")
    assert merge_form(resting, resting, {**filled(resting), "to-zero": ""}).text == SPEC


def test_a_new_item_is_appended_unless_it_is_empty() -> None:
    fresh = {f"spec.environmentVariables.2.{name}": "" for name in ("name", "value", "secret.name", "secret.key")}

    assert merge_form(SPEC, SPEC, {**filled(SPEC), **fresh}).text == SPEC
    result = merge_form(SPEC, SPEC, {**filled(SPEC), **fresh, "spec.environmentVariables.2.name": "C"})
    assert parse_document(result.text)["spec"]["environmentVariables"][2] == {"name": "C"}
    assert result.text.startswith(SPEC[: SPEC.index("  autoscaling")])


def test_a_cleared_item_stays_in_place() -> None:
    names = ("name", "value")
    result = merge_form(SPEC, SPEC, {**filled(SPEC), **{f"spec.environmentVariables.0.{name}": "" for name in names}})

    assert [item["name"] for item in parse_document(result.text)["spec"]["environmentVariables"]] == ["", "B"]


def test_an_empty_text_is_filled_by_the_form() -> None:
    result = merge_form("", "", {"metadata.name": "chat", "spec.image": "a/b:1"})

    assert parse_document(result.text) == {
        **parse_document(EMPTY),
        "metadata": {"name": "chat"},
        "spec": {"image": "a/b:1"},
    }
    assert "{}" not in result.text


def test_impossible_edits_are_reported_and_the_others_are_made() -> None:
    text = f"{HEAD}  image: a/b:1\n  args: x\n  args: z\n"

    result = merge_form(text, text, {"spec.args": "y", "spec.image": "c"})

    assert result.refused == ("spec.args",)
    assert "image: c\n" in result.text


# From the YAML to the form.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [\n", "cannot be read"),
        (f"{SPEC}---\n{SPEC.replace('chat', 'other')}", "2 documents"),
        ('{"name": "x", "projectId": "team-a", "clusterId": "c", "spec": {"image": {"image": "a"}}}', "native format"),
    ],
)
def test_a_read_only_form_shows_the_reason(text: str, reason: str) -> None:
    assert reason in read_spec(text, PROFILE).read_only_reason


def test_a_foreign_document_can_be_converted() -> None:
    folder = next(folder for folder in cases.FOLDERS if folder.name == "rest-body")
    spec = read_spec(cases.spec_file(folder).read_text(), cases.profile(folder))

    assert spec.convertible
    converted = read_spec(manifests.write_document(spec.data), cases.profile(folder))
    assert not converted.read_only_reason
    assert [item["metadata"]["name"] for item in converted.objects] == [
        item["metadata"]["name"] for item in spec.objects
    ]


def test_a_live_workload_is_read_back_in_the_order_of_the_reference() -> None:
    spec = read_spec(SPEC, PROFILE)
    text = write_live_spec(spec.objects[-1], PROFILE)

    assert parse_document(text) == spec.data
    assert [*parse_document(text)["spec"]] == ["image", "environmentVariables", "autoscaling", "tolerations"]
    assert [*parse_document(text)["spec"]["autoscaling"]] == ["minReplicas", "maxReplicas", "metric", "metricThreshold"]
    assert order_fields({"b": 1, "kind": {"x": 1}, "apiVersion": []}) == {"b": 1, "kind": {"x": 1}, "apiVersion": []}


def test_problems_are_placed_at_their_fields() -> None:
    text = SPEC.replace("metricThreshold: 10", "metricThreshold: ten").replace("name: A", 'name: "1 x"')
    spec = read_spec(text, PROFILE)
    shown_groups, unplaced = render_form(spec.data, spec.problems)
    wrong = {
        shown_field.name
        for group in shown_groups
        for block in group.blocks
        for shown_field in (*block.fields, *(field for row in block.items for field in row))
        if shown_field.wrong
    }

    assert wrong == {"spec.autoscaling.metricThreshold", "spec.environmentVariables.0.name"}
    assert not [problem for problem in unplaced if problem.severity == "error"]
    renamed = read_spec(SPEC.replace("name: A", 'name: "1 x"'), PROFILE)
    placed = render_form(renamed.data, renamed.problems)[0]
    assert "spec.environmentVariables.0.name" in {
        shown_field.name
        for group in placed
        for block in group.blocks
        for row in block.items
        for shown_field in row
        if shown_field.wrong
    }


def test_conditional_fields_are_hidden_until_they_have_a_value() -> None:
    def off(text: str) -> set[str]:
        spec = read_spec(text, PROFILE)
        blocks = [block for group in render_form(spec.data, spec.problems)[0] for block in group.blocks]
        return {block.when for block in blocks if not block.visible}

    fixed = f"{HEAD}  image: a/b:1\n"
    assert off(fixed) == {"users", "groups", "portion", "memory", "mig", "moves", "custom", "zero"}
    assert "moves" not in off(f"{fixed}  autoscaling:\n    maxReplicas: 3\n")
    assert "zero" not in off(f"{fixed}  autoscaling:\n    minReplicas: 0\n")
    assert "moves" not in off(f"{fixed}  autoscaling:\n    metricThreshold: 3\n")


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
    whole = parse_document(text)
    for control in data.draw(st.lists(st.sampled_from(list_controls()), max_size=3)):
        path: Path = (*control.path, 0, *control.column) if control.column else control.path
        cut = path[: data.draw(st.integers(1, len(path)))]
        if 0 in cut and isinstance(get_at(whole, *control.path), dict):
            continue
        try:
            whole = apply_change(whole, cut, data.draw(ODD))
        except (TypeError, KeyError, IndexError, AttributeError):
            continue
    odd = data.draw(
        st.sampled_from([manifests.write_document(whole) if whole else "", data.draw(st.text(max_size=40)), text[:200]])
    )

    spec = read_spec(odd, PROFILE)
    render_form(spec.data, spec.problems)
    find_fixes(spec, PROFILE)
    names = st.sampled_from([control.name.format(0) for control in list_controls()])
    result = merge_form(odd, odd, data.draw(st.dictionaries(names, st.text(max_size=6), max_size=3)))
    read_spec(result.text, PROFILE)


# Fixes.


@pytest.mark.parametrize(
    ("line", "label", "after"),
    [
        ("minReplicas: 9\n    maxReplicas: 4", "Set minReplicas to 4", "minReplicas: 4\n    maxReplicas: 4"),
        ("minReplica: 1", "Rename to minReplicas", "minReplicas: 1"),
        ('minReplicas: "1"', "Remove the quotes: 1", "minReplicas: 1"),
        ("minReplicas: 1\n    maxReplicas: 3", "Set metric to concurrency and set metricThreshold to 10",
         "minReplicas: 1\n    maxReplicas: 3\n    metric: concurrency\n    metricThreshold: 10"),
        ("minReplicas: 1\n    frobnicate: 2", "Remove frobnicate", "minReplicas: 1"),
    ],
)  # fmt: skip
def test_a_fix_is_one_click(line: str, label: str, after: str) -> None:
    text = f"{HEAD}  image: a/b:1\n  autoscaling:\n    {line}\n"
    spec = read_spec(text, PROFILE)
    fixes = {fix.label: fix for offered in find_fixes(spec, PROFILE).values() for fix in offered}

    assert label in fixes
    assert fixes[label].text == f"{HEAD}  image: a/b:1\n  autoscaling:\n    {after}\n"
    assert apply_fix(spec, PROFILE, fixes[label].key) == fixes[label].text
    assert apply_fix(spec, PROFILE, "no such way") == text


def test_fixes_solve_their_problem_and_cause_no_new_error() -> None:
    offered = 0
    for folder in cases.FOLDERS:
        profile = cases.profile(folder)
        spec = read_spec(cases.spec_file(folder).read_text(), profile)
        before = {(problem.code, problem.path) for problem in spec.errors}
        for number, fixes in find_fixes(spec, profile).items():
            for fix in fixes:
                after = read_spec(fix.text, profile)
                remaining = {(problem.code, problem.path) for problem in after.problems}
                assert (spec.problems[number].code, spec.problems[number].path) not in remaining
                assert {(problem.code, problem.path) for problem in after.errors} <= before
                offered += 1

    assert offered > 80


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1 # one",
            '<span class="y-key">a</span>:<span class="y-number"> 1 </span><span class="y-comment"># one</span>',
        ),
        ('- b: "x # y"', '- <span class="y-key">b</span>:<span class="y-text"> &#34;x # y&#34;</span>'),
        ("url: http://a#b", '<span class="y-key">url</span>: http://a#b'),
        ("run: |\n  c: d", '<span class="y-key">run</span>: |\n<span class="y-text">  c: d</span>'),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_yaml_is_colored(text: str, expected: str) -> None:
    assert str(highlight_yaml(text)) == expected
