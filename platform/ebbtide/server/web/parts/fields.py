"""The fields of the form for a new workload, and completion in the YAML editor: both from the JSON Schema of a spec.

A field's description in the schema begins with its label: ``Minimum replicas. 0 lets the service scale to zero.``
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Literal

from ebbtide.core.base import metrics
from ebbtide.core.base.paths import get_at, replace_at
from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.readers.fields import make_json_schema
from ebbtide.core.readers.reading import API_VERSION, KIND
from ebbtide.core.translation import priority

#: The input of a value: ``words`` is a command line, ``variables`` one NAME=value on each line.
Kind = Literal["text", "integer", "number", "words", "variables"]

#: The fields of the form, in order.
PATHS: Final = (
    "spec.project",
    "metadata.name",
    "spec.image",
    "spec.model.format",
    "spec.model.uri",
    "spec.servingPort.container",
    "spec.compute.gpuDevicesRequest",
    "spec.compute.gpuPortionRequest",
    "spec.autoscaling.minReplicas",
    "spec.autoscaling.maxReplicas",
    "spec.autoscaling.metric",
    "spec.autoscaling.metricThreshold",
    "spec.priorityClass",
    "spec.environmentVariables",
    "spec.args",
)
#: The choices of fields whose values the schema does not list, because clusters can have others.
CHOICES: Final[dict[str, Callable[[], tuple[str, ...]]]] = {
    "spec.autoscaling.metric": lambda: tuple(metrics.ROWS),
    "spec.priorityClass": lambda: (*priority.FOUR, *priority.LEVELS),
}
#: The reference marks the fields of Ebbtide; the page does not.
_OURS: Final = re.compile(r" Ebbtide extension\.")
_LABEL: Final = re.compile(r"([^.,:]+)([.,:])\s*(.*)", re.DOTALL)
#: The first word of a sentence, and not of a list of values.
_SENTENCE: Final = re.compile(r"\A[a-z]+ ")
#: A field that the help names by its key in the spec.
_KEY: Final = re.compile(r"\b[a-z]+(?:[A-Z][a-z]+)+\b")
#: Bounds of 32-bit numbers, which are too large to be shown.
_NO_BOUND: Final = 2**31 - 1
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
#: Blocks in blocks of a spec are at most this deep.
MAX_DEPTH: Final = 12


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of the form, from the schema."""

    path: tuple[str, ...]
    label: str
    help: str
    kind: Kind
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @property
    def name(self) -> str:
        """The field's name in the form."""
        return ".".join(self.path)

    @property
    def id(self) -> str:
        """The HTML id."""
        return "f-" + "-".join(self.path)


@cache
def _read_schema() -> dict[str, Any]:
    return make_json_schema()


def _resolve(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the schemas of the values that a field accepts, without null."""
    if "$ref" in entry:
        return [_read_schema()["$defs"][entry["$ref"].rpartition("/")[2]]]
    accepted = [found for one in entry["anyOf"] for found in _resolve(one)] if "anyOf" in entry else [entry]
    return [one for one in accepted if one.get("type") != "null"]


def _describe(entry: Mapping[str, Any]) -> str:
    return _OURS.sub("", entry.get("description", "")).replace("``", "")


def _list_values(entry: Mapping[str, Any]) -> list[str]:
    return [
        str(value) for one in _resolve(entry) for value in one.get("enum", [one["const"]] if "const" in one else [])
    ]


@cache
def list_fields() -> tuple[FormField, ...]:
    """Return the fields of the form in order; their help names other fields by their labels."""
    fields = [find_field(name) for name in PATHS]
    labels = {field.path[-1]: field.label for field in fields}
    return tuple(
        replace(field, help=_KEY.sub(lambda match: labels.get(match[0], match[0]), field.help)) for field in fields
    )


@cache
def find_field(name: str) -> FormField:
    """Return the field at a dotted path of a spec."""
    path = tuple(name.split("."))
    parent: Mapping[str, Any] = _read_schema()
    for part in path[:-1]:
        (parent,) = _resolve(parent["properties"][part])
    entry = parent["properties"][path[-1]]
    types = {one.get("type"): one for one in _resolve(entry)}
    kind: Kind = "text"
    if "array" in types:
        kind = "words" if "string" in types else "variables"
    elif "integer" in types:
        kind = "integer"
    elif "number" in types:
        kind = "number"
    bounds = types.get(kind, {})
    description = _describe(entry)
    match = _LABEL.fullmatch(description)
    label, separator, rest = match.groups() if match else (description, "", "")
    return FormField(
        path,
        label,
        description if separator == "," else _SENTENCE.sub(lambda match: match[0].capitalize(), rest, count=1),
        kind,
        # A block that is optional itself requires nothing of the form.
        required=len(path) == 2 and path[-1] in parent.get("required", ()),  # noqa: PLR2004 - a field of metadata or spec
        choices=CHOICES[name]() if name in CHOICES else tuple(_list_values(entry)),
        minimum=bounds.get("minimum"),
        maximum=bounds["maximum"] if bounds.get("maximum", _NO_BOUND) != _NO_BOUND else None,
    )


# From the form to the document.


def parse_number(text: str) -> int | float | str:
    """Return the number that a text of a form contains; an invalid one stays a text, so that the check reports it."""
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else text


def _parse_value(kind: Kind, text: str) -> Any:
    text = text.strip()
    if not text:
        return None
    if kind in {"integer", "number"}:
        return parse_number(text)
    if kind == "variables":
        pairs = [line.partition("=") for line in text.split("\n") if line.strip()]
        return [{"name": name.strip(), "value": value} if equals else {"name": name} for name, equals, value in pairs]
    return " ".join(text.split("\n")) if kind == "words" else text


def make_document(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the document in native format with the values of a submitted form, by the names of its fields."""
    document: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": ""}, "spec": {}}
    for field in list_fields():
        value = _parse_value(field.kind, values.get(field.name, ""))
        if value is not None:
            document = replace_at(document, field.path, value)
    return document


def place_problems(problems: tuple[Problem, ...]) -> tuple[dict[str, list[Problem]], list[Problem]]:
    """Return the problems by the name of their field in the form, and those of no field."""
    names: dict[Path, str] = {field.path: field.name for field in list_fields()}
    placed: dict[str, list[Problem]] = {}
    unplaced = []
    for problem in problems:
        path = next((problem.field[:n] for n in range(len(problem.field), 0, -1) if problem.field[:n] in names), None)
        if path is None:
            unplaced.append(problem)
        else:
            placed.setdefault(names[path], []).append(problem)
    return placed, unplaced


# Completion in the YAML editor.


@cache
def list_completions() -> dict[str, Any]:
    """Return the fields of a document for completion: the help, the values, and the fields below, by name."""
    tree = _list_below(_read_schema(), 0)
    for name, choices in CHOICES.items():
        get_at(tree, *[step for part in name.split(".") for step in (part, 2)][:-1])[1] = [*choices()]
    return tree


def _list_below(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, entry in schema.get("properties", {}).items():
        accepted = _resolve(entry)
        accepted += [found for one in accepted if "items" in one for found in _resolve(one["items"])]
        values = _list_values(entry)
        if any(one.get("type") == "boolean" for one in accepted):
            values += ["true", "false"]
        inner = next((one for one in accepted if "properties" in one), None) if depth < MAX_DEPTH else None
        rows[name] = [_describe(entry), values, _list_below(inner, depth + 1) if inner is not None else None]
    return rows
