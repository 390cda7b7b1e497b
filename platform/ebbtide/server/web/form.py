"""Synchronization of the form and the YAML of a spec: what the form shows, and how an edit in the form changes the YAML.

The YAML is the source of truth. A submitted form includes the YAML it was rendered from (its base), so that changes in the
form and in the YAML can be told apart: form changes are merged into the YAML line by line, and YAML changes appear in the
form. Fields without a control in the form are kept and listed.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from ebbtide.core import manifests
from ebbtide.core.base import metrics
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Path, Problem, format_path
from ebbtide.core.documents import load_document
from ebbtide.core.documents.check import Batch
from ebbtide.core.manifests.edit import NotEdited, apply_change, edit_text
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.readers.reading import API_VERSION, KIND
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.plan import Plan
from ebbtide.server.web.fields import CONDITIONS, FOLDED, STEPS, FormControl, Kind, list_controls

#: The document that an empty text stands for.
EMPTY: Final = f'apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: ""\nspec: {{}}\n'
#: The maximum length of a spec in characters, and of changes in one submit: far above what people write.
MAX_SPEC_CHARACTERS: Final = 60_000
MAX_CHANGES: Final = 150
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
ON: Final = "on"
THRESHOLD: Final = "spec.autoscaling.metricThreshold"


# Single values.


def show_value(kind: Kind, value: Any) -> str | None:
    """Return the form's text for a value; None if a browser could not return it unchanged."""
    if kind == "zero":
        return ON if value == 0 and not isinstance(value, bool) else ""
    if value is None:
        return ""
    if kind == "flag":
        return (ON if value else "") if isinstance(value, bool) else None
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            return None
        text = shlex.join(value) if kind == "lines" else ", ".join(value)
        if kind != "lines" and (kind != "list" or (parse_field("list", text) or []) != value):
            return None
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, (str, int, float)):
        text = str(value)
    else:
        return None
    lines = text.split("\n") if kind == "lines" else [text]
    return text if all(line.isprintable() for line in lines) else None


def parse_field(kind: Kind, text: str) -> Any:
    """Parse a form field; an invalid number stays a string, so that the check reports it."""
    if kind == "exact":
        return text or None
    text = text.strip()
    if kind == "zero":
        return 0 if text else 1
    if kind == "flag":
        return True if text else None
    if not text:
        return None
    if kind == "list":
        return [item.strip() for item in text.split(",") if item.strip()] or None
    if kind == "truth":
        return {"true": True, "false": False}.get(text, text)
    if kind in {"integer", "number", "amount"} and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def is_same_value(value: Any, other: Any) -> bool:
    """Return True if two document values are equal and of the same kind (True is not 1)."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


# Parsing the YAML.


@dataclass(frozen=True, slots=True)
class ParsedSpec:
    """A parsed spec: its document in native format, all problems, and the rendered objects."""

    text: str
    #: In native format; empty if the YAML cannot be read.
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    documents: tuple[LoadedDocument, ...] = ()
    objects: tuple[Object, ...] = ()
    plan: Plan | None = None
    #: The reason why the form is read-only; empty if it is not.
    read_only_reason: str = ""
    #: True if the document can be converted to native format.
    convertible: bool = False

    @property
    def readable(self) -> bool:
        """True if the form can show the document."""
        return bool(self.data)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity != "error"]


def read_spec(text: str, profile: Profile) -> ParsedSpec:
    """Parse, check, and translate a spec."""
    if len(text) > MAX_SPEC_CHARACTERS:
        problem = Problem(
            "YML006", (), f"the spec is longer than {MAX_SPEC_CHARACTERS:,} characters", "apply it with ebbtide apply"
        )
        return ParsedSpec(text, {}, (problem,), read_only_reason=problem.message)
    batch = Batch(profile)
    problems: list[Problem] = []
    objects: list[Object] = []
    documents: list[LoadedDocument] = []
    plan = None
    native = True
    for document in manifests.read_documents(text if text.strip() else EMPTY, "spec"):
        loaded = load_document(
            document.data, profile, name=document.name, line=document.line, problems=document.problems
        )
        new_objects, translation, new_problems = batch.add_document(loaded)
        documents.append(loaded)
        objects += new_objects
        problems += new_problems
        native = isinstance(document.data, dict) and loaded.reading.native is document.data
        plan = plan or (translation.plan if translation is not None else None)
    problems += batch.batch_problems()
    data: Any = documents[0].reading.native if documents else {}
    read_only_reason = ""
    if not isinstance(data, dict) or not data:
        data, read_only_reason = {}, "The YAML cannot be read. Fix it to use the form."
    elif len(documents) > 1:
        read_only_reason = f"The YAML has {len(documents)} documents. The form shows the first one and is read-only."
    elif not native:
        read_only_reason = "This spec is not in Ebbtide's native format. The form is read-only until you convert it."
    return ParsedSpec(
        text,
        data,
        tuple(problems),
        tuple(documents),
        () if any(problem.severity == "error" for problem in problems) else tuple(objects),
        plan,
        read_only_reason,
        bool(data) and len(documents) == 1 and not native,
    )


def order_fields(value: Any, path: Path = ()) -> Any:
    """Return a document with its fields in the order of the reference; unknown fields come last."""
    if isinstance(value, list):
        return [order_fields(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    known = [name for name in field_names_at(path) if name in value]
    return {name: order_fields(value[name], (*path, name)) for name in dict.fromkeys((*known, *value))}


def write_live_spec(top: Object, profile: Profile) -> str:
    """Return the spec of a live workload as YAML for editing."""
    return manifests.write_document(order_fields(load_document(top, profile).reading.native))


def parse_document(text: str) -> Any:
    """Return the only document of a YAML text as data; None if there is no single mapping to edit."""
    documents = list(manifests.read_documents(text if text.strip() else EMPTY, "spec"))
    return documents[0].data if len(documents) == 1 and isinstance(documents[0].data, dict) else None


# Merging form changes into the YAML.


@dataclass(frozen=True, slots=True)
class MergedText:
    """YAML with the form's changes, and the fields that could not be changed."""

    text: str
    refused: tuple[str, ...] = ()


def merge_form(base: str, text: str, posted: Mapping[str, str]) -> MergedText:
    """Return ``text`` with the changes that ``posted`` makes to ``base``, the YAML that the form was rendered from."""
    data = parse_document(base)
    changes = find_changes(data, posted) if data is not None else {}
    if not changes:
        return MergedText(text)
    if len(changes) > MAX_CHANGES:
        return MergedText(text, (f"{len(changes)} fields (at most {MAX_CHANGES} at a time)",))
    text = text if text.strip() else EMPTY
    text = text.replace("spec: {}\n", "spec:\n", 1) if parse_document(text) == parse_document(EMPTY) else text
    refused = []
    # One at a time, so that the possible changes are made and the others are reported.
    for path, value in changes.items():
        try:
            text = edit_text(text, {path: value}, field_names_at)
        except NotEdited:
            refused.append(format_path(path))
    return MergedText(text, tuple(refused))


def fill_fields(text: str, fields: Mapping[str, Any]) -> str:
    """Return a spec with the fields of a served model in place of all others but its name, project and replica bounds."""
    data = parse_document(text) or {}
    project, bounds = get_at(data, "spec", "project"), get_at(data, "spec", "autoscaling", default={})
    kept = {name: bounds[name] for name in ("minReplicas", "maxReplicas") if name in bounds}
    spec = {**fields, "autoscaling": {**fields.get("autoscaling", {}), **kept}}
    if project is not None:
        spec["project"] = project
    return manifests.write_document(
        order_fields(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": data.get("metadata") or {"name": ""}, "spec": spec}
        )
    )


def find_changes(data: Any, posted: Mapping[str, str]) -> dict[Path, Any]:
    """Return the changes that a form makes to the document it was rendered from, by path; new list items come last."""
    changes: dict[Path, Any] = {}
    for control in list_controls():
        if control.column:
            continue
        value = get_at(data, *control.path)
        new = _new_value(control, value, posted.get(control.name))
        if new is not UNCHANGED:
            changes[control.path] = new
    for listed in dict.fromkeys(control.path for control in list_controls() if control.column):
        columns = [control for control in list_controls() if control.column and control.path == listed]
        items = get_at(data, *listed)
        if items is None or isinstance(items, list):
            changes.update(_changed_items(listed, columns, items or [], posted))
    return changes


UNCHANGED: Final = object()


def _new_value(control: FormControl, value: Any, text: str | None) -> Any:
    before = show_value(control.kind, value)
    if text is None or before is None:
        return UNCHANGED
    text = text.replace("\r\n", "\n")
    if text == before:
        return UNCHANGED
    new = parse_field(control.kind, text)
    return UNCHANGED if is_same_value(new, value) else new


def _changed_items(
    listed: tuple[str, ...], columns: Sequence[FormControl], items: Sequence[Any], posted: Mapping[str, str]
) -> Iterator[tuple[Path, Any]]:
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        changes = {}
        for control in columns:
            new = _new_value(control, get_at(item, *control.column), posted.get(control.name.format(index)))
            if new is not UNCHANGED:
                changes[control.column] = new
        remaining: Any = item
        for path, new in changes.items():
            remaining = apply_change({"": remaining}, ("", *path), new).get("", {})
        if changes and not remaining:
            # Only its button removes an item, so an item whose fields are all cleared stays in place.
            changes[columns[0].column] = ""
        # Set values before removing others, so that the item is never empty in between.
        for path, new in sorted(changes.items(), key=lambda entry: entry[1] is None):
            yield (*listed, index, *path), new
    position = len(items)
    for index in sorted(_item_indexes(columns, posted) - set(range(len(items)))):
        item = {}
        for control in columns:
            value = parse_field(control.kind, posted.get(control.name.format(index), "").replace("\r\n", "\n"))
            if value is not None:
                item = apply_change(item, control.column, value)
        if item:
            yield (*listed, position), item
            position += 1


def _item_indexes(columns: Sequence[FormControl], posted: Mapping[str, str]) -> set[int]:
    numbers = set()
    lead = columns[0].name.partition("{}")[0]
    for name in posted:
        if name.startswith(lead):
            number = name.removeprefix(lead).partition(".")[0]
            if number.isdecimal() and len(number) < 4:  # noqa: PLR2004 - at most 999 rows
                numbers.add(int(number))
    return numbers


# Rendering the form from the YAML.


@dataclass(frozen=True, slots=True)
class ShownField:
    """One form field: its name, its text (None if only the YAML can show the value), and its problems."""

    name: str
    control: FormControl
    text: str | None
    problems: tuple[Problem, ...] = ()
    #: A hint that depends on other fields: the unit of a threshold.
    note: str = ""

    @property
    def id(self) -> str:
        """The HTML id."""
        return "f-" + re.sub(r"[^A-Za-z0-9]+", "-", self.name)

    @property
    def wrong(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def choices(self) -> tuple[str, ...]:
        """The available choices, including the selected one."""
        known = ("true", "false") if self.control.kind == "truth" else self.control.choices
        return known if not self.text or self.text in known else (*known, self.text)


@dataclass(frozen=True, slots=True)
class ShownBlock:
    """A rendered block of fields; for a list, its items, the last of which is an empty one to fill in."""

    when: str
    #: True if the condition of the block is met.
    condition_met: bool
    fields: tuple[ShownField, ...] = ()
    listed: str = ""
    items: tuple[tuple[ShownField, ...], ...] = ()
    #: The number of items in the YAML.
    count: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def visible(self) -> bool:
        """True if the block is visible: its condition is met, or it has values or problems."""
        return self.condition_met or self.filled or bool(self.all_problems)

    @property
    def filled(self) -> bool:
        """True if the block has values or errors."""
        has_value = any(field.text or field.text is None for field in self.fields if field.control.kind != "zero")
        return has_value or bool(self.count) or any(problem.severity == "error" for problem in self.all_problems)

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """All problems of the block."""
        return (
            *self.problems,
            *(problem for row in (self.fields, *self.items) for field in row for problem in field.problems),
        )


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A titled group of the form: its blocks are adjacent fields with one condition, or the columns of one list."""

    title: str
    blocks: tuple[ShownBlock, ...]

    @property
    def step(self) -> str:
        """The key of the group's step."""
        return next(key for key, _, titles in STEPS if self.title in titles)

    @property
    def key(self) -> str:
        """The group's key in element ids."""
        return self.title.split()[0].lower().strip(",")

    @property
    def folded(self) -> bool:
        """True if the group is collapsed while it is empty."""
        return self.title in FOLDED

    @property
    def open(self) -> bool:
        """True if the group is expanded."""
        return not self.folded or any(block.filled for block in self.blocks)

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for block in self.blocks for problem in block.all_problems)

    @property
    def warnings(self) -> int:
        return sum(problem.severity != "error" for block in self.blocks for problem in block.all_problems)


def list_steps(groups: Sequence[ShownGroup]) -> list[tuple[str, str, int, int]]:
    """Return the key and the title of each step of the form, and its numbers of errors and warnings."""
    steps = []
    for key, title, _ in STEPS:
        shown = [group for group in groups if group.step == key]
        steps.append((key, title, sum(group.errors for group in shown), sum(group.warnings for group in shown)))
    return steps


def find_first_error(groups: Sequence[ShownGroup]) -> tuple[str, str] | None:
    """Return the step and the HTML id of the first field with an error."""
    fields = (
        (group.step, field)
        for group in groups
        for block in group.blocks
        for row in (block.fields, *block.items)
        for field in row
    )
    return next(((step, field.id) for step, field in fields if field.wrong), None)


def render_form(data: Any, problems: Sequence[Problem]) -> tuple[tuple[ShownGroup, ...], list[Problem]]:
    """Return the form for a document with problems at their fields, and the problems that belong to no field."""
    placed, unplaced = _place_problems(data, problems)
    rendered = []
    for title, group in groupby(list_controls(), lambda control: control.row.group):
        blocks = []
        for (when, listed), controls in groupby(group, lambda control: (control.row.when, control.listed)):
            if listed:
                blocks.append(_render_items(listed, [*controls], data, placed))
                continue
            fields = tuple(
                ShownField(
                    control.name,
                    control,
                    show_value(control.kind, get_at(data, *control.path)),
                    tuple(placed.get(control.name, ())) if not control.row.name else (),
                    _threshold_unit(data) if control.name == THRESHOLD else "",
                )
                for control in controls
            )
            blocks.append(ShownBlock(when, CONDITIONS[when](data), fields))
        rendered.append(ShownGroup(title, tuple(blocks)))
    return tuple(rendered), unplaced


def _threshold_unit(data: Any) -> str:
    row = metrics.find_metric(str(get_at(data, "spec", "autoscaling", "metric") or ""))
    return f"Unit: {row.unit}." if row is not None else ""


def _render_items(
    listed: str, controls: Sequence[FormControl], data: Any, placed: Mapping[str, list[Problem]]
) -> ShownBlock:
    value = get_at(data, *listed.split("."))
    items = value if isinstance(value, list) else []
    rows = [
        tuple(
            ShownField(
                name := control.name.format(index),
                control,
                show_value(control.kind, get_at(item, *control.column)),
                tuple(placed.get(name, ())),
            )
            for control in controls
        )
        for index, item in enumerate([*items, {}])
    ]
    problems = tuple(placed.get(listed, ()))
    return ShownBlock("", condition_met=True, listed=listed, items=tuple(rows), count=len(items), problems=problems)


def _place_problems(data: Any, problems: Sequence[Problem]) -> tuple[dict[str, list[Problem]], list[Problem]]:
    """Return the problems by the name of their field, and the problems without one."""
    names: dict[Path, str] = {}
    for control in list_controls():
        if control.row.name:
            continue
        if not control.column:
            names[control.path] = control.name
            continue
        names.setdefault(control.path, ".".join(control.path))
        items = get_at(data, *control.path)
        for index in range(len(items) if isinstance(items, list) else 0):
            names.setdefault((*control.path, index), control.name.format(index))
            names[(*control.path, index, *control.column)] = control.name.format(index)
    placed: dict[str, list[Problem]] = {}
    unplaced = []
    for problem in problems:
        name = next(
            (names[problem.field[:n]] for n in range(len(problem.field), 0, -1) if problem.field[:n] in names), ""
        )
        if name:
            placed.setdefault(name, []).append(problem)
        else:
            unplaced.append(problem)
    return placed, unplaced
