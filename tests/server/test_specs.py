"""Tests of the fields of the form, and of specs as text: properties that hold for every spec in the project."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cases
from ebbtide.core.documents import profiles
from ebbtide.server.web.parts.fields import (
    PATHS,
    find_field,
    list_completions,
    list_fields,
    make_document,
    parse_number,
    place_problems,
)
from ebbtide.server.web.parts.specs import (
    MAX_SPEC_CHARACTERS,
    apply_fix,
    find_fixes,
    load_examples,
    order_fields,
    parse_document,
    read_spec,
    write_live_spec,
    write_native,
)
from ebbtide.server.web.parts.syntax import highlight_yaml

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


TEXTS = {folder.name: cases.spec_file(folder).read_text() for folder in cases.FOLDERS}


# The fields.


def test_labels_help_and_bounds_come_from_the_schema() -> None:
    minimum, port = find_field("spec.autoscaling.minReplicas"), find_field("spec.servingPort.container")

    assert (minimum.label, minimum.kind, minimum.minimum, minimum.maximum) == ("Minimum replicas", "integer", 0, None)
    assert minimum.help.startswith("0 lets the service scale to zero.")
    assert (port.minimum, port.maximum) == (1, 65535)
    assert find_field("spec.compute.gpuPortionRequest").kind == "number"
    assert find_field("spec.imagePullPolicy").choices == ("Always", "Never", "IfNotPresent")
    assert [field.name for field in list_fields() if field.required] == ["metadata.name"]
    assert "Ebbtide extension" not in " ".join(field.help for field in list_fields())
    assert len({field.label for field in list_fields()}) == len(PATHS)


def test_the_help_of_the_form_names_fields_by_their_labels() -> None:
    words = " ".join(field.help for field in list_fields())

    assert "GPU fraction" in words
    assert re.findall("[a-z]{2}[A-Z]", words) == []
    assert "Default: the value of Minimum replicas, or 1 if Minimum replicas is 0." in words
    # The editor, in which the reader sees the keys, keeps them.
    assert "the value of minReplicas" in find_field("spec.autoscaling.maxReplicas").help


def test_completion_has_every_field_with_its_values() -> None:
    tree = list_completions()
    spec = tree["spec"][2]

    assert tree["kind"][1] == ["Inference"]
    assert spec["createHomeDir"][1] == ["true", "false"]
    assert "concurrency" in spec["autoscaling"][2]["metric"][1]
    assert "secret" in spec["environmentVariables"][2]


def test_a_form_becomes_a_document() -> None:
    values = {
        "metadata.name": " chat ",
        "spec.project": "",
        "spec.image": "a/b:1",
        "spec.compute.gpuPortionRequest": "0.25",
        "spec.autoscaling.minReplicas": "many",
        "spec.environmentVariables": "A=1\nB=x=y\n\nC",
        "spec.args": "--port 8080\n--verbose",
        "spec.unknown": "x",
    }
    assert make_document(values) == {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "chat"},
        "spec": {
            "image": "a/b:1",
            "compute": {"gpuPortionRequest": 0.25},
            "autoscaling": {"minReplicas": "many"},
            "environmentVariables": [{"name": "A", "value": "1"}, {"name": "B", "value": "x=y"}, {"name": "C"}],
            "args": "--port 8080 --verbose",
        },
    }


@pytest.mark.parametrize(
    ("text", "value"), [(" 3", 3), ("0.5", 0.5), (".5", 0.5), ("1e3", 1000.0), ("three", "three"), ("1e999", "1e999")]
)
def test_an_invalid_number_stays_a_text(text: str, value: Any) -> None:
    assert parse_number(text) == value


@given(st.dictionaries(st.sampled_from(PATHS), st.text(alphabet=st.characters(codec="utf-8"), max_size=12)))
def test_every_form_becomes_yaml_with_the_same_values(values: dict[str, str]) -> None:
    document = make_document(values)
    text = write_native(document)

    assert parse_document(text) == document
    place_problems(read_spec(text, PROFILE).problems)


def test_problems_are_placed_at_their_fields() -> None:
    text = f"{HEAD}  autoscaling: {{minReplicas: 1, maxReplicas: 3}}\n  environmentVariables:\n  - name: A\n  imagined: x\n"
    placed, unplaced = place_problems(read_spec(text, PROFILE).problems)

    assert {problem.code for problem in unplaced} == {"SPEC001"}
    placed, unplaced = place_problems(read_spec(text.replace("  imagined: x\n", ""), PROFILE).problems)
    assert {problem.code for problem in placed["spec.autoscaling.metric"]} == {"AUT002"}
    assert {problem.code for problem in placed["spec.image"]} == {"SRV001"}
    assert "spec.environmentVariables" in placed


# Specs as text.


def test_every_example_is_valid_and_has_a_title() -> None:
    for example in load_examples().values():
        spec = read_spec(example.text, PROFILE)

        assert spec.objects
        assert spec.native
        assert example.title.endswith(".")


@pytest.mark.parametrize("text", ["a: [\n", f"{SPEC}---\n{SPEC.replace('chat', 'other')}", "# nothing\n", ""])
def test_a_text_that_is_not_one_spec_is_not_changed_by_fixes(text: str) -> None:
    spec = read_spec(text, PROFILE)

    assert not spec.convertible
    assert bool(spec.errors) is not bool(spec.objects)
    assert spec.native is (text in {"", "# nothing\n"})


def test_a_long_text_is_not_read() -> None:
    (problem,) = read_spec("#" * (MAX_SPEC_CHARACTERS + 1), PROFILE).problems
    assert problem.code == "YML006"


def test_a_foreign_document_can_be_converted() -> None:
    folder = next(folder for folder in cases.FOLDERS if folder.name == "rest-body")
    spec = read_spec(cases.spec_file(folder).read_text(), cases.profile(folder))

    assert spec.convertible
    converted = read_spec(write_native(spec.data), cases.profile(folder))
    assert converted.native
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


@given(st.data())
def test_no_input_raises_an_error(data: st.DataObject) -> None:
    text = TEXTS[data.draw(st.sampled_from(sorted(TEXTS)))]
    start = data.draw(st.integers(0, len(text)))
    odd = text[:start] + data.draw(st.text(max_size=20)) + text[start + data.draw(st.integers(0, 40)) :]

    find_fixes(read_spec(odd, PROFILE), PROFILE)


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
