"""Inputs of the benchmark: specs, and a chart and a kustomization that are derived from one rendered spec."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

Place = tuple[str | int, ...]
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the spec that differs between workloads."""

    place: Place
    value: Callable[[int], Any]
    # Two values that occur nowhere else in a rendered spec; they show what depends on the field.
    trial: Any
    other: Any
    # Prefix of the spec's value that the objects omit.
    prefix: str = ""

    def bare(self, value: Any) -> str:
        """Return a value as it appears in the objects."""
        return str(value).removeprefix(self.prefix)

    @property
    def name(self) -> str:
        """The field's path for messages, such as `spec.autoscaling.maxReplicas`."""
        return ".".join(map(str, self.place))


FIELDS: Final = (
    Field(("metadata", "name"), "svc-{:05d}".format, "quagga", "okapi-two"),
    Field(
        ("spec", "image"),
        "registry.example/serve/m{}:1.4".format,
        "registry.example/ab:7",
        "registry.example/serve/c:9",
    ),
    Field(("spec", "environmentVariables", 0, "value"), "weights-{}".format, "numbat", "tapir's"),
    Field(("spec", "environmentVariables", 1, "value"), lambda i: f"{i % 9}.5", "66.25", "77.75"),
    Field(
        ("spec", "exposedUrls", 0, "url"),
        "https://h{}.models.example.com".format,
        "https://yak.example.net",
        "https://emu.example.org",
        prefix="https://",
    ),
    Field(("spec", "compute", "cpuCoreRequest"), lambda i: 1 + i % 4, 61, 83),
    Field(("spec", "compute", "cpuMemoryRequest"), lambda i: f"{4 + i % 8}Gi", "59Gi", "67Gi"),
    Field(("spec", "compute", "gpuPortionRequest"), lambda i: (0.25, 0.5)[i % 2], 0.34, 0.38),
    Field(("spec", "autoscaling", "minReplicas"), lambda i: 1 + i % 2, 41, 43),
    Field(("spec", "autoscaling", "maxReplicas"), lambda i: 3 + i % 9, 79, 89),
    Field(("spec", "autoscaling", "metricThreshold"), lambda i: 10 + i % 50, 137, 149),
)


def spec(values: dict[Place, Any]) -> Object:
    """Return a native spec of about forty lines with these values."""
    inference: Object = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": None},
        "spec": {
            "project": "team-a",
            "image": None,
            "servingPort": {"container": 8000, "protocol": "http"},
            "compute": {
                "cpuCoreRequest": None,
                "cpuMemoryRequest": None,
                "gpuDevicesRequest": 1,
                "gpuRequestType": "portion",
                "gpuPortionRequest": None,
            },
            "autoscaling": {
                "minReplicas": None,
                "maxReplicas": None,
                "metric": "concurrency",
                "metricThreshold": None,
                "scaleDownDelaySeconds": 60,
            },
            "environmentVariables": [
                {"name": "MODEL", "value": None},
                {"name": "TEMPERATURE", "value": None},
                {"name": "LOG_LEVEL", "value": "info"},
            ],
            "probes": {
                "readiness": {"handler": {"httpGet": {"path": "/ready"}}, "periodSeconds": 5},
            },
            "priorityClass": "inference",
            "exposedUrls": [{"url": None}],
        },
    }
    for place, value in values.items():
        put(inference, place, value)
    return inference


def specs(count: int, fixed: frozenset[str]) -> list[Object]:
    """Return the specs of one input; fields in `fixed` have the same value in all specs."""
    return [
        spec({field.place: field.value(1 if field.name in fixed else i) for field in FIELDS})
        for i in range(1, count + 1)
    ]


def at(node: Any, place: Place) -> Any:
    """Return the value at a path."""
    for step in place:
        node = node[step]
    return node


def put(node: Any, place: Place, value: Any) -> None:
    """Set the value at a path."""
    at(node, place[:-1])[place[-1]] = value


def leaves(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every scalar, empty list and empty map with its path."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, (*place, key))
    elif isinstance(node, list) and node:
        for index, value in enumerate(node):
            yield from leaves(value, (*place, index))
    else:
        yield place, node


# A rendered scalar as alternating text and fields, such as `("m-", Field(…), ".example")`.
Formula = tuple[str | Field, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """The objects of one spec, and the fields that each of their scalars depends on."""

    objects: list[Object]
    formulas: dict[Place, Formula]
    fixed: frozenset[str]

    def shared(self, index: int) -> bool:
        """Return whether an object is the same for all specs, so that it is rendered once."""
        return not any(place[0] == index for place in self.formulas)


Render = Callable[[list[Object]], list[Object]]


def derive(render: Render) -> Template:
    """Derive a template by changing one field at a time.

    A field whose value is converted rather than copied (0.5 cores become 500m) cannot be templated without the
    conversion rule. Such a field has the same value in all specs, which benefits Helm.
    """
    fixed: set[str] = set()
    while True:
        template, wrong = attempt(render, frozenset(fixed))
        if not wrong:
            return template
        fixed |= wrong


def attempt(render: Render, fixed: frozenset[str]) -> tuple[Template, set[str]]:
    """Derive a template with some fixed fields, and return the other fields that it renders incorrectly."""
    free = [field for field in FIELDS if field.name not in fixed]
    values = {f.place: f.value(1) if f.name in fixed else f.trial for f in FIELDS}
    objects = render([spec(values)])
    base = dict(leaves(objects))
    variants = {field: dict(leaves(render([spec(values | {field.place: field.other})]))) for field in free}
    wrong = {field.name for field in free if variants[field].keys() != base.keys()}
    formulas: dict[Place, Formula] = {}
    for place, leaf in base.items():
        moved = [field for field in free if variants[field].get(place, leaf) != leaf]
        if not moved:
            continue
        formulas[place] = formula(leaf, moved)
        for field in moved:
            if evaluate(formulas[place], leaf, values | {field.place: field.other}) != variants[field][place]:
                wrong.add(field.name)
    return Template(objects, formulas, fixed), wrong


def formula(leaf: Any, fields: list[Field]) -> Formula:
    """Return a scalar as a sequence of text and the fields whose trial values it contains."""
    parts: list[str | Field] = [str(leaf)]
    for field in fields:
        parts = [piece for part in parts for piece in split(part, field)]
    return tuple(part for part in parts if part != "")


def split(part: str | Field, field: Field) -> Iterator[str | Field]:
    """Split a text at each occurrence of a field's trial value."""
    if isinstance(part, Field):
        yield part
        return
    first, *rest = part.split(field.bare(field.trial))
    yield first
    for text in rest:
        yield field
        yield text


def evaluate(parts: Formula, leaf: Any, values: dict[Place, Any]) -> Any:
    """Evaluate a formula for other values; a number remains a number."""
    if not isinstance(leaf, str):
        return values[parts[0].place] if len(parts) == 1 and isinstance(parts[0], Field) else leaf
    return "".join(part if isinstance(part, str) else part.bare(values[part.place]) for part in parts)


def write_specs(documents: list[Object], path: Path) -> None:
    """Write ebbtide's input: one file with many documents."""
    path.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")


def write_chart(template: Template, documents: list[Object], folder: Path) -> None:
    """Write an idiomatic chart: the specs as values, one range over them, and all values quoted."""
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: bench\nversion: 0.1.0\n", encoding="utf-8")
    values = yaml.dump({"specs": documents}, Dumper=yaml.CSafeDumper, sort_keys=False)
    (folder / "values.yaml").write_text(values, encoding="utf-8")
    once: list[str] = []
    per_spec: list[str] = []
    for index, obj in enumerate(template.objects):
        lines = ["---", *block(obj, (index,), template)]
        (once if template.shared(index) else per_spec).extend(lines)
    text = "\n".join([*once, "{{- range .Values.specs }}", *per_spec, "{{- end }}", ""])
    (folder / "templates" / "all.yaml").write_text(text, encoding="utf-8")


def block(node: Any, place: Place, template: Template) -> list[str]:
    """Return a value as lines of block YAML, with template expressions for its variable parts."""
    if isinstance(node, dict) and node:
        return [
            line
            for key, value in node.items()
            for line in entry(f"{json.dumps(key)}:", block(value, (*place, key), template), value)
        ]
    if isinstance(node, list) and node:
        lines = []
        for index, value in enumerate(node):
            first, *rest = block(value, (*place, index), template)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        return lines
    if place in template.formulas:
        return [expression(template.formulas[place], node)]
    return [expression((node,), node) if isinstance(node, str) and "{{" in node else json.dumps(node)]


def entry(head: str, lines: list[str], value: Any) -> list[str]:
    """Return a key with its value: a scalar on the same line, a collection on the next lines."""
    if isinstance(value, dict | list) and value:
        return [head, *(f"  {line}" for line in lines)]
    return [f"{head} {lines[0]}"]


def expression(parts: Formula, leaf: Any) -> str:
    """Return a formula as a Helm template expression."""
    fields = [argument(part) for part in parts if isinstance(part, Field)]
    if not isinstance(leaf, str):
        return f"{{{{ {fields[0]} }}}}"
    if len(parts) == 1 and fields:
        return f"{{{{ {fields[0]} | quote }}}}"
    pattern = "".join(part.replace("%", "%%") if isinstance(part, str) else "%v" for part in parts)
    return f"{{{{ printf {' '.join([json.dumps(pattern), *fields])} | quote }}}}"


def argument(field: Field) -> str:
    """Return a field as an argument of Helm's functions."""
    path = helm_path(field.place)
    return f"(trimPrefix {json.dumps(field.prefix)} {path})" if field.prefix else path


def helm_path(place: Place) -> str:
    """Return the Helm path of a field, such as `(index .spec.environmentVariables 0).value`."""
    text = ""
    for step in place:
        text = f"{text}.{step}" if isinstance(step, str) else f"(index {text} {step})"
    return text


def write_kustomization(template: Template, documents: list[Object], folder: Path) -> None:
    """Write one base, and an overlay for each spec that patches the differences."""
    base = [obj for index, obj in enumerate(template.objects) if not template.shared(index)]
    once = [obj for index, obj in enumerate(template.objects) if template.shared(index)]
    write_yaml(folder / "base" / "objects.yaml", base)
    write_yaml(folder / "base" / "kustomization.yaml", [{"resources": ["objects.yaml"]}])
    write_yaml(folder / "once.yaml", once)
    overlays = [f"apps/{number}" for number in range(len(documents))]
    for overlay, document in zip(overlays, documents, strict=True):
        patches = [
            patch(template, index, document) for index in range(len(template.objects)) if not template.shared(index)
        ]
        layer = {"resources": ["../../base"], "patches": patches}
        write_yaml(folder / overlay / "kustomization.yaml", [layer])
    resources = [*overlays, *(["once.yaml"] if once else [])]
    write_yaml(folder / "kustomization.yaml", [{"resources": resources}])


def patch(template: Template, index: int, document: Object) -> Object:
    """Return the JSON patch that changes an object of the base into the object of a spec."""
    obj = template.objects[index]
    values = {field.place: at(document, field.place) for field in FIELDS}
    operations = [
        {
            "op": "replace",
            "path": "/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in place[1:]),
            "value": evaluate(parts, at(template.objects, place), values),
        }
        for place, parts in template.formulas.items()
        if place[0] == index
    ]
    return {
        "target": {"kind": obj["kind"], "name": obj["metadata"]["name"]},
        "patch": json.dumps(operations),
        "options": {"allowNameChange": True},
    }


def write_yaml(path: Path, documents: list[Object]) -> None:
    """Write documents to a file, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")


def objects_in(text: str | bytes) -> list[Object]:
    """Return all objects of a program's output."""
    return [obj for obj in yaml.load_all(text, yaml.CSafeLoader) if obj is not None]


def difference(ours: list[Object], theirs: list[Object]) -> str | None:
    """Return the first difference between two outputs as data, regardless of the order of objects."""
    our_objects, their_objects = by_identity(ours), by_identity(theirs)
    if len(ours) != len(theirs) or our_objects.keys() != their_objects.keys():
        odd = sorted(map(str, our_objects.keys() ^ their_objects.keys()))[:1]
        return f"{len(ours)} objects against {len(theirs)} {' '.join(odd)}".strip()
    for identity, obj in our_objects.items():
        our_leaves, their_leaves = dict(leaves(obj)), dict(leaves(their_objects[identity]))
        for place in [*our_leaves, *their_leaves]:
            if (place in our_leaves, place in their_leaves) != (True, True) or not same(
                our_leaves[place], their_leaves[place]
            ):
                path = ".".join(map(str, place))
                return f"{'/'.join(identity)} {path}: {our_leaves.get(place)!r} against {their_leaves.get(place)!r}"
    return None


def same(first: Any, second: Any) -> bool:
    """Return whether two scalars have the same value and type: 1, "1" and true differ."""
    return type(first) is type(second) and bool(first == second)


def by_identity(objects: list[Object]) -> dict[tuple[str, ...], Object]:
    """Return objects by their identity in a cluster."""
    return {
        (obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj
        for obj in objects
    }
