"""Edits of a document's text change the requested values and no other byte."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from ebbtide.core import manifests
from ebbtide.core.manifests.edit import NotEdited, apply_change, edit_text
from ebbtide.core.readers.fields import field_names_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.base.problems import Path

HEAD = "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: chat}\n"
COMMENTED = f"""\
# Ours é
{HEAD}spec:
  image: a/b:1
  autoscaling:
    # the least
    minReplicas: 1   # one is enough
    metric: "concurrency"
    metricThreshold: 10

    # nothing more
  # the end
  args: |
    # no comment
"""
LISTED = f"""\
{HEAD}spec:
  environmentVariables:
    # the first
    - name: A   # a
      value: "1"
    - value: 'two'
      name: B
  nodePools: [a, b]
  labels:
  - {{name: x, value: y}}
  slo:
"""


def scaling(**changes: Any) -> dict[Path, Any]:
    return {("spec", "autoscaling", name): value for name, value in changes.items()}


def test_an_edit_changes_its_lines_and_no_other() -> None:
    text = edit_text(
        COMMENTED, scaling(minReplicas=3, metric="throughput", metricThreshold=2.5, scaleDownDelaySeconds=60)
    )

    assert text == COMMENTED.replace("minReplicas: 1 ", "minReplicas: 3 ").replace(
        '"concurrency"', '"throughput"'
    ).replace("metricThreshold: 10\n", "metricThreshold: 2.5\n    scaleDownDelaySeconds: 60\n")


def test_a_field_is_removed_with_its_line() -> None:
    assert edit_text(COMMENTED, scaling(metricThreshold=None)) == COMMENTED.replace("    metricThreshold: 10\n", "")


def test_a_new_entry_is_inserted_in_the_given_order() -> None:
    text = edit_text(COMMENTED, {("spec", "project"): "team-a", **scaling(maxReplicas=4)}, field_names_at)

    assert text == COMMENTED.replace("spec:\n", "spec:\n  project: team-a\n").replace(
        "one is enough\n", "one is enough\n    maxReplicas: 4\n"
    )


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({("spec", "environmentVariables", 0, "value"): "7"}, 'value: "1"', 'value: "7"'),
        ({("spec", "environmentVariables", 1, "value"): "it's"}, "value: 'two'", 'value: "it\'s"'),
        ({("spec", "environmentVariables", 0): None}, '    - name: A   # a\n      value: "1"\n', ""),
        ({("spec", "environmentVariables", 1, "value"): None}, "- value: 'two'\n      name: B", "- name: B"),
        ({("spec", "environmentVariables", 2): {"name": "C"}}, "      name: B\n", "      name: B\n    - name: C\n"),
        ({("spec", "nodePools", 0): None}, "[a, b]", "[b]"),
        ({("spec", "nodePools", 1): None}, "[a, b]", "[a]"),
        ({("spec", "nodePools", 2): "c, d"}, "[a, b]", '[a, b, "c, d"]'),
        ({("spec", "labels", 0, "value"): None}, "{name: x, value: y}", "{name: x}"),
        ({("spec", "labels", 0): None}, "  labels:\n  - {name: x, value: y}\n", ""),
        ({("spec", "labels", 0): {"name": "z"}}, "- {name: x, value: y}", "- name: z"),
        ({("spec", "slo", "uptimePercent"): 99.5}, "  slo:\n", "  slo:\n    uptimePercent: 99.5\n"),
        ({("spec", "slo"): {"uptimePercent": 99}}, "  slo:\n", "  slo:\n    uptimePercent: 99\n"),
        ({("metadata", "namespace"): "team"}, "{name: chat}", "{name: chat, namespace: team}"),
        ({("metadata", "name"): None}, "{name: chat}", "{}"),
    ],
)
def test_lists_and_mappings_in_either_style(change: dict[Path, Any], before: str, after: str) -> None:
    assert edit_text(LISTED, change, field_names_at) == LISTED.replace(before, after)


def test_several_items_are_removed_from_the_last_on() -> None:
    text = edit_text(
        LISTED, {("spec", "environmentVariables", 1): None, ("spec", "environmentVariables", 0): None}, field_names_at
    )

    assert text == LISTED[: LISTED.index("  environmentVariables")] + LISTED[LISTED.index("  nodePools") :]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{HEAD}spec:\n  image: a\n  args: |\n    # x\n", f"{HEAD}spec:\n  image: a\n  args: |\n    # x\n  autoscaling:\n    minReplicas: 3\n    metric: throughput\n"),
        (f"{HEAD}spec: {{image: a}}\n", f"{HEAD}spec: {{image: a, autoscaling: {{minReplicas: 3, metric: throughput}}}}\n"),
        (f"{HEAD}spec:\n  image: a\n  autoscaling: {{}}", f"{HEAD}spec:\n  image: a\n  autoscaling: {{minReplicas: 3, metric: throughput}}\n"),
        (f"{HEAD}spec:\n  image: a\n  autoscaling: {{minReplicas: 1}}  # c\n", f"{HEAD}spec:\n  image: a\n  autoscaling: {{minReplicas: 3, metric: throughput}}  # c\n"),
        (f"{HEAD}spec:\r\n  autoscaling:\r\n    minReplicas: 1\r\n", f"{HEAD}spec:\r\n  autoscaling:\r\n    minReplicas: 3\r\n    metric: throughput\r\n"),
        (
            '{\n  "kind": "Inference",\n  "spec": {\n    "autoscaling": {\n      "minReplicas": 1\n    }\n  }\n}\n',
            '{\n  "kind": "Inference",\n  "spec": {\n    "autoscaling": {\n      "minReplicas": 3,\n      "metric": "throughput"\n    }\n  }\n}\n',
        ),
        ('{"spec": {"image": "é"}}', '{"spec": {"image": "é", "autoscaling": {"minReplicas": 3, "metric": "throughput"}}}'),
        ("kind: x\n", "kind: x\nspec:\n  autoscaling:\n    minReplicas: 3\n    metric: throughput\n"),
    ],
)  # fmt: skip
def test_every_layout_is_preserved(before: str, after: str) -> None:
    assert edit_text(before, scaling(minReplicas=3, metric="throughput", metricThreshold=None)) == after


@pytest.mark.parametrize("text", ["a: 1\n---\nb: 2\n", "- 1\n", "spec: [\n", "spec: 3\n", ""])
def test_an_unsupported_layout_is_not_changed(text: str) -> None:
    with pytest.raises(NotEdited):
        edit_text(text, scaling(minReplicas=3))


@given(
    st.dictionaries(st.sampled_from(["minReplicas", "metricThreshold", "concurrencyHardLimit"]), st.integers(0, 99)),
    st.dictionaries(
        st.sampled_from(["minReplicas", "metricThreshold", "concurrencyHardLimit", "metric"]),
        st.none() | st.integers(0, 99) | st.integers(1, 999).map(lambda number: number / 8),
    ),
    st.booleans(),
)
def test_an_inserted_value_is_read_back(block: dict[str, int], changes: dict[str, Any], flow: bool) -> None:
    inside = "{" + ", ".join(f"{name}: {value}" for name, value in block.items()) + "}"
    lines = "".join(f"\n    {name}: {value}  # c" for name, value in block.items()) or " {}"
    text = f"{HEAD}spec:\n  autoscaling:{f' {inside}' if flow else lines}\n  image: a\n"
    expected = {name: value for name, value in {**block, **changes}.items() if value is not None}

    changed_text = edit_text(text, scaling(**changes))

    (document,) = manifests.read_documents(changed_text, "after")
    assert document.data["spec"].get("autoscaling", {}) == expected
    assert document.data["spec"]["image"] == "a"


# Properties that hold for every spec in the repository.


def leaves(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    items: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for part, value in items:
        yield from leaves(value, (*path, part))
    if path and not items:
        yield path, data


SPECS = {}
for folder in cases.FOLDERS:
    content = cases.spec_file(folder).read_text()
    read = list(manifests.read_documents(content, folder.name))
    if len(read) == 1 and isinstance(read[0].data, dict) and not read[0].problems:
        SPECS[folder.name] = (content, read[0].data)
VALUES = st.sampled_from(
    ["b", "", "yes", "0x1", "a: b # c", 'it\'s "so"', "- x", "{", "é\n ü\t", "a, b]", 0, 7, -1, 0.25, 99.9, True, False]
)


def test_there_are_many_specs_to_test() -> None:
    assert len(SPECS) > 200


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_setting_a_value_and_setting_it_back_restores_the_text(data: st.DataObject) -> None:
    text, whole = SPECS[data.draw(st.sampled_from(sorted(SPECS)))]
    path, before = data.draw(st.sampled_from(list(leaves(whole))))
    value = data.draw(VALUES)

    changed_text = edit_text(text, {path: value})

    (document,) = manifests.read_documents(changed_text, "after")
    assert document.data == apply_change(whole, path, value)
    original_lines, changed_lines = text.splitlines(), changed_text.splitlines()
    alike = next(
        (n for n, pair in enumerate(zip(original_lines, changed_lines, strict=False)) if pair[0] != pair[1]),
        len(original_lines),
    )
    assert changed_lines[:alike] == original_lines[:alike]
    if "\n" not in str(before):
        # One line is another, and all others are the same ones.
        assert len(original_lines) == len(changed_lines)
        assert changed_lines[alike + 1 :] == original_lines[alike + 1 :]


@pytest.mark.parametrize("items", ["- --model=a\n  - --port=1\n", "- - a\n  - - b\n", "-\n  - x\n"])
def test_an_item_that_starts_with_a_dash_is_no_obstacle(items: str) -> None:
    text = f"{HEAD}spec:\n  args:\n  {items}  image: a/b:1\n"
    longer = edit_text(text, {("spec", "args", 2): "--last"})
    assert longer == text.replace("  image", '  - "--last"\n  image')
    assert edit_text(longer, {("spec", "args", 2): None}) == text
    assert edit_text(text, {("spec", "args", 0): None}) == text.replace("  " + items.split("  ", maxsplit=1)[0], "", 1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_inserting_and_removing_an_entry_restores_the_text(data: st.DataObject) -> None:
    text, whole = SPECS[data.draw(st.sampled_from(sorted(SPECS)))]
    homes = [()] + [path[:length] for path, _ in leaves(whole) for length in range(1, len(path))]
    home = data.draw(st.sampled_from(sorted(set(homes), key=str)))
    inside: Any = whole
    for part in home:
        inside = inside[part]
    names = [name for name in field_names_at(home) if name not in inside] or ["new"]
    part = len(inside) if isinstance(inside, list) else data.draw(st.sampled_from(names))
    value = data.draw(VALUES | st.sampled_from([{"a": {"b": [1, "x"]}}, ["a", {"b": "c"}], [], {}]))

    changed_text = edit_text(text, {(*home, part): value}, field_names_at)

    (document,) = manifests.read_documents(changed_text, "after")
    assert document.data == apply_change(whole, (*home, part), value)
    assert edit_text(changed_text, {(*home, part): None}) == text


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_removing_an_entry_removes_whole_lines_or_its_part_of_a_line(data: st.DataObject) -> None:
    text, whole = SPECS[data.draw(st.sampled_from(sorted(SPECS)))]
    places = [path[:length] for path, _ in leaves(whole) for length in range(1, len(path) + 1)]
    path = data.draw(st.sampled_from(sorted(set(places), key=str)))
    before = copy.deepcopy(whole)

    changed_text = edit_text(text, {path: None})

    (document,) = manifests.read_documents(changed_text, "after")
    assert document.data == apply_change(whole, path, None)
    assert whole == before
    assert len(changed_text) < len(text)
