"""Validation of the structure of native documents and profiles, with pydantic's errors converted to problems."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import quantities
from ebbtide.core.base.annotations import parse_whole_seconds
from ebbtide.core.base.paths import get_at, replace_at
from ebbtide.core.base.problems import (
    Change,
    Fix,
    Problem,
    describe_invalid,
    format_path,
    offer_values,
    remove_field,
    set_value,
    shorten_text,
)
from ebbtide.core.base.words import LEGACY_BOOLEANS
from ebbtide.core.readers.compiled import inference_validator, profile_validator, validation_error
from ebbtide.core.translation.gpu import is_backend, list_backends

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebbtide.core.base.problems import Path
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference

#: Descriptions of the expected type by pydantic's error type.
WANTED: Final = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}
#: Fields whose number is a fraction of one: 50% is 0.5 there, and 50 elsewhere.
FRACTIONS: Final = {"gpuPortionRequest", "gpuPortionLimit"}
#: Blocks that are often written as one value: the field that the value belongs to, and the values that are recognized.
SHORT_FORMS: Final = {
    "servingPort": ("container", re.compile(r"[0-9]{1,5}")),
    "model": ("uri", re.compile(r"[a-z0-9]+://\S+|[\w.-]+/[\w.-]+")),
    "imagePullSecrets": ("name", re.compile(r"[a-z0-9][a-z0-9.-]*")),
}
#: Lists of names with values, which are often written as one mapping.
NAMED_VALUES: Final = {"environmentVariables", "labels", "annotations"}
CLAIM: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")
#: An amount in another program's spelling, such as 24GB, 24 GiB or 64 Gi.
AMOUNT: Final = re.compile(r"([0-9]{1,18})\s*([KMGTP]i?)B?")
MILLI: Final = re.compile(r"[0-9]{1,9}m")
HUGE_NUMBER: Final = re.compile(r"[-+]?[0-9]{19,40}")
WHOLE_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER: Final = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?")
#: Descriptions of patterns by field name; other patterns are shown as regular expressions.
FORMS: Final = {
    "cpuMemoryRequest": "an amount like 512Mi, 16Gi or 20G",
    "cpuMemoryLimit": "an amount like 512Mi, 16Gi or 20G",
    "gpuMemoryRequest": "an amount like 20Gi or 4000M",
    "gpuMemoryLimit": "an amount like 20Gi or 4000M",
    "sizeLimit": "an amount like 10Gi",
    "size": "an amount like 100Gi",
    "quantity": "a whole number",
    "migProfile": "a MIG profile like 1g.10gb",
    "defaultMode": "an octal mode like 0644",
    "mountPath": "a path that starts with /",
    "path": "a path that starts with /",
    "capabilities": "a capability like NET_BIND_SERVICE",
    "supplementalGroups": "group IDs like 1000,2000",
}
#: Names in Kubernetes, Knative, KServe or older versions of Run:ai, with the field that has this meaning here.
HABITS: Final = {
    "containerConcurrency": "spec.autoscaling.concurrencyHardLimit",
    "containerPort": "spec.servingPort.container",
    "cpu": "spec.compute.cpuCoreRequest",
    "cpuLimit": "spec.compute.cpuCoreLimit",
    "cpuRequest": "spec.compute.cpuCoreRequest",
    "env": "spec.environmentVariables",
    "gpu": "spec.compute.gpuDevicesRequest",
    "gpuFraction": "spec.compute.gpuPortionRequest",
    "gpuMemory": "spec.compute.gpuMemoryRequest",
    "gpuPortion": "spec.compute.gpuPortionRequest",
    "gpus": "spec.compute.gpuDevicesRequest",
    "livenessProbe": "spec.probes.liveness.handler",
    "maxScale": "spec.autoscaling.maxReplicas",
    "memory": "spec.compute.cpuMemoryRequest",
    "memoryLimit": "spec.compute.cpuMemoryLimit",
    "memoryRequest": "spec.compute.cpuMemoryRequest",
    "minScale": "spec.autoscaling.minReplicas",
    "name": "metadata.name",
    "namespace": "metadata.namespace",
    "nvidia.com/gpu": "spec.compute.gpuDevicesRequest",
    "port": "spec.servingPort.container",
    "priorityClassName": "spec.priorityClass",
    "readinessProbe": "spec.probes.readiness.handler",
    "replicas": "spec.autoscaling.minReplicas",
    "resources": "spec.compute",
    "startupProbe": "spec.probes.startup.handler",
    "storageUri": "spec.model.uri",
    "target": "spec.autoscaling.metricThreshold",
    "timeoutSeconds": "spec.servingConfiguration.requestTimeoutSeconds",
    "volumes": "spec.storage",
}
#: Blocks of a pod that several fields replace, with these fields.
REPLACEMENTS: Final = {
    "containers": "set image to that of the serving container, and write other containers in sidecars",
    "template": "write the fields of its container and of its pod directly in spec, such as image and tolerations",
    "valueFrom": "set secret: {name, key} or configMap: {name, key} instead",
}
#: The kinds of probe, which are written in the probe's handler.
HANDLERS: Final = ("httpGet", "tcpSocket", "grpc")


def validate_inference(native: dict[str, Any]) -> tuple[Inference | None, list[Problem]]:
    """Return the validated document, or all problems of its structure."""
    return _run_validator(inference_validator(), native)


def fix_unparsed(problems: list[Problem], native: dict[str, Any]) -> list[Problem]:
    """Return problems of YAML values with the fix that their fields need: true for yes, or the largest number.

    ``native`` has the text of each such value.
    """
    values = {problem.field: _read_unparsed(get_at(native, *problem.field)) for problem in problems if problem.field}
    meant = {path: value for path, value in values.items() if value is not None}
    if not meant:
        return problems
    changed = native
    for path, value in meant.items():
        changed = replace_at(changed, path, value)
    of_fields = {problem.field: problem for problem in validate_inference(changed)[1]}
    return [
        _fix_value(problem, meant[problem.field], of_fields.get(problem.field)) if problem.field in meant else problem
        for problem in problems
    ]


def _read_unparsed(text: Any) -> bool | int | None:
    """Return the boolean or the number that the text of a rejected value means; None for any other text."""
    if not isinstance(text, str):
        return None
    return LEGACY_BOOLEANS.get(text, int(text) if HUGE_NUMBER.fullmatch(text) else None)


def _fix_value(problem: Problem, value: bool | int, of_field: Problem | None) -> Problem:
    """Return a problem of a YAML value with the fix of its field, unless a string is valid there."""
    if of_field is None and isinstance(value, bool):
        text = str(value).lower()
        return replace(problem, fix=f"write {text}", fixes=set_value(value, safe=True))
    if of_field is not None and of_field.code == "SPEC004":
        return replace(problem, fix=of_field.fix, fixes=of_field.fixes)
    return problem if of_field is not None else replace(problem, fix="use a smaller number", fixes=())


@dataclass(frozen=True, slots=True)
class _UnregisteredBackend:
    """The name of an unregistered backend, wrapped so that the models reject it."""

    value: Any


def validate_profile(data: Any) -> tuple[Profile | None, list[Problem]]:
    """Return the validated profile, or all problems of its structure."""
    return _run_validator(profile_validator(), _mark_unregistered_backends(data))


def _mark_unregistered_backends(data: Any) -> Any:
    """Return a profile in which each unregistered backend is wrapped, so that it is rejected at its field."""
    spec: Any = data.get("spec") if isinstance(data, dict) else None
    pools = spec.get("nodePools") if isinstance(spec, dict) else None
    if not isinstance(pools, list):
        return data
    marked = [
        {**pool, "backend": _UnregisteredBackend(pool["backend"])}
        if isinstance(pool, dict) and "backend" in pool and not is_backend(pool["backend"])
        else pool
        for pool in pools
    ]
    return {**data, "spec": {**spec, "nodePools": marked}}


def _run_validator(validator: Any, data: Any) -> tuple[Any, list[Problem]]:
    try:
        return validator.validate_python(data), []
    except validation_error() as error:
        return None, _convert_errors(error.errors(include_url=False, include_context=True), data)


def _convert_errors(errors: Sequence[Mapping[str, Any]], native: Any) -> list[Problem]:
    problems: dict[Path, Problem] = {}
    for error in errors:
        where = _document_path(error["loc"], native)
        # Each branch of a union reports an error for the same value; only the first is used.
        if where not in problems:
            problems[where] = _convert_error(error, where, native)
    # Where a string or a list is valid, a list with an invalid item is not a string either.
    lists = {where[:-1] for where in problems if where and isinstance(where[-1], int)}
    # A missing block into which an unknown field of its parent belongs is not a second error.
    unknown = [where for where, problem in problems.items() if problem.code == "SPEC001"]
    filled = {
        meant[:-1]
        for where in unknown
        if (meant := find_meant_field(where, of_profile=_is_profile(native))) and len(meant) > len(where)
    }
    return [
        problem
        for where, problem in problems.items()
        if where not in lists and not (problem.code == "SPEC003" and where in filled)
    ]


def _document_path(loc: tuple[str | int, ...], native: Any) -> Path:
    """Return ``loc`` without pydantic's labels for union branches, which do not occur in documents."""
    path: list[str | int] = []
    value = native
    for place, part in enumerate(loc):
        if isinstance(value, dict) and isinstance(part, str):
            if part not in value and place < len(loc) - 1:
                continue
            if part not in value and ("[" in part or part in {"str", "int", "constrained-str", "constrained-int"}):
                continue
            path.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return tuple(path)


def _convert_error(error: Mapping[str, Any], where: Path, native: Any) -> Problem:
    kind, context, value = error["type"], error.get("ctx", {}), error.get("input")
    if isinstance(value, _UnregisteredBackend):
        kind, context, value = "literal_error", {"expected": ", ".join(list_backends())}, value.value
    last = next((part for part in reversed(where) if isinstance(part, str)), "document")
    if kind == "extra_forbidden":
        return _unknown_field_problem(where, last, native)
    if kind == "missing":
        name = get_at(native, "spec", "name") if where == ("metadata",) else None
        return Problem("SPEC003", where, f"{last} is missing", f"set metadata.name: {name}" if name else f"set {last}")
    if kind in WANTED:
        fix, fixes = _type_fix(kind, last, value)
        return Problem("SPEC002", where, describe_invalid(last, value, WANTED[kind]), fix, fixes=fixes)
    if kind == "literal_error":
        allowed = context.get("expected", "").replace("'", "").replace(" or ", ", ")
        choice = f"one of {allowed}" if "," in allowed else allowed
        fixes = offer_values(allowed.split(", "))
        return Problem("SPEC004", where, describe_invalid(last, value, choice), f"use {choice}", fixes=fixes)
    bounds = {
        "greater_than_equal": ("ge", "at least"),
        "greater_than": ("gt", "more than"),
        "less_than_equal": ("le", "at most"),
        "less_than": ("lt", "less than"),
    }
    if kind in bounds:
        key, words = bounds[kind]
        bound = quantities.format_number(context[key])
        message = describe_invalid(last, value, f"{words} {bound}")
        fixes = set_value(context[key]) if key in {"ge", "le"} else ()
        return Problem("SPEC004", where, message, f"use {words} {bound}", fixes=fixes)
    if kind == "string_pattern_mismatch":
        form = FORMS.get(last, f"a string that matches {context.get('pattern', '')}")
        amount = AMOUNT.fullmatch(str(value)) if form.startswith("an amount") else None
        meant = "".join(amount.groups()) if amount else ""
        fixes = set_value(meant) if meant else ()
        return Problem("SPEC004", where, describe_invalid(last, value, form), f"write {meant or form}", fixes=fixes)
    if kind in {"string_too_short", "too_short"}:
        return Problem("SPEC004", where, f"{last} is empty", f"set a value, or remove {last}", fixes=remove_field())
    if kind in {"string_too_long", "too_long"}:
        return Problem("SPEC004", where, f"{last} is longer than {context.get('max_length')} characters", "shorten it")
    return Problem("SPEC002", where, f"invalid {last}: {error['msg']}", "see the reference for this field")


def _type_fix(kind: str, last: str, value: Any) -> tuple[str, tuple[Fix, ...]]:
    """Return the fix of a value of the wrong type, as text and as changes. Only a change that keeps the value is safe."""
    if value is None:
        return "set a value, or remove the line", ()
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'quote it: "{text}"', set_value(text, safe=True)
    if isinstance(value, str) and kind in {"int_type", "float_type", "bool_type"}:
        return _fix_of_text(kind, last, value.strip())
    if last == "gpuDevicesRequest" and isinstance(value, float) and 0 < value < 1:
        move = Fix((Change(()), Change(("gpuPortionRequest",), value)))
        return f"for a fraction of a GPU, set gpuPortionRequest: {value:g} instead", (move,)
    rewritten = _rewrite_short_form(kind, last, value)
    if rewritten is None:
        return f"write {WANTED[kind]}", ()
    verb = "quote it:" if isinstance(rewritten, str) else "write"
    return f"{verb} {shorten_text(_show_flow(rewritten))}", set_value(rewritten)


def _rewrite_short_form(kind: str, last: str, value: Any) -> Any:
    """Return a value of the wrong type in the form that is valid at its place; None if its meaning is not certain."""
    field, form = SHORT_FORMS.get(last, ("", None))
    if form is not None and kind in {"model_type", "model_attributes_type"} and form.fullmatch(str(value)):
        by_name = field == "uri" and "://" not in value
        return {"format": "huggingface", field: f"hf://{value}"} if by_name else {field: value}
    if last == "pvc" and CLAIM.fullmatch(str(value)):
        claim = {"claimName": value, "existingPvc": True, "path": "/models"}
        return [claim] if kind == "list_type" else claim
    if kind == "list_type" and isinstance(value, dict) and last in NAMED_VALUES:
        return [{"name": name, "value": item if isinstance(item, str) else str(item)} for name, item in value.items()]
    if kind == "list_type" and isinstance(value, str):
        return [value]
    if kind == "string_type" and isinstance(value, dict) and len(value) == 1:
        [(name, item)] = value.items()
        return f"{name}: {item}" if isinstance(item, str | int | float) else None
    return None


def _show_flow(value: Any) -> str:
    """Return a rewritten value as it is written on one line of YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_show_flow(item)}' for name, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_show_flow, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if ": " in str(value) else str(value)


def _fix_of_text(kind: str, last: str, text: str) -> tuple[str, tuple[Fix, ...]]:
    """Return the fix of a text where a number, or true or false, is valid."""
    if not text:
        return "set a value", ()
    if kind == "bool_type" and text in {"true", "false"}:
        return "remove the quotes", set_value(text == "true", safe=True)
    if kind == "float_type" and MILLI.fullmatch(text):
        return f"write {int(text[:-1]) / 1000:g}", set_value(int(text[:-1]) / 1000)
    seconds = parse_whole_seconds(text) if kind == "int_type" and last.endswith("Seconds") else None
    if seconds is not None:
        return f"write {seconds}", set_value(seconds)
    number = text.removesuffix("%").rstrip()
    if kind == "bool_type" or (NUMBER if kind == "float_type" else WHOLE_NUMBER).fullmatch(number) is None:
        return f"write {WANTED[kind]}", ()
    if number == text:
        return "remove the quotes", set_value(float(number) if kind == "float_type" else int(number), safe=True)
    if last in FRACTIONS:
        return f"set {last} to {float(number) / 100:g}", set_value(float(number) / 100)
    return f"set {last} to {number}", set_value(float(number) if kind == "float_type" else int(number))


def _unknown_field_problem(where: Path, last: str, native: Any) -> Problem:
    meant = find_meant_field(where, of_profile=_is_profile(native))
    fixes: tuple[Fix, ...] = remove_field()
    if where[0] == "spec" and last in REPLACEMENTS:
        hint, fixes = REPLACEMENTS[last], ()
    elif meant is None:
        from ebbtide.core.readers.fields import field_names_at  # noqa: PLC0415 - loads the models

        known = field_names_at(where[:-1], of_profile=_is_profile(native))
        hint = f"remove it; the valid fields are {', '.join(known)}" if known else "remove it"
    elif meant[:-1] == where[:-1]:
        hint = f"did you mean {meant[-1]}?"
        if get_at(native, *meant) is None:
            fixes = (Fix((Change(()), Change(meant, get_at(native, *where))), safe=True),)
    else:
        value = get_at(native, *where)
        hint = f"set {format_path(meant)} instead"
        if meant[-1] == last:
            hint = f"move it to {format_path(meant)}"
        fixes = (Fix((Change(()), Change(meant, value))),) if get_at(native, *meant) is None else ()
    return Problem("SPEC001", where, f"unknown field {last}", hint, fixes=fixes)


def _is_profile(native: Any) -> bool:
    return isinstance(native, dict) and native.get("kind") == "Profile"


def find_meant_field(where: Path, *, of_profile: bool = False) -> Path | None:
    """Return the path of the field that an unknown field most likely means: by its spelling, or in another API's terms."""
    from difflib import get_close_matches  # noqa: PLC0415 - only needed for a misspelled name

    from ebbtide.core.readers.fields import field_names_at, list_blocks  # noqa: PLC0415 - loads the models

    name = str(where[-1])
    if not of_profile and len(where) == 1 and name in field_names_at(("spec",)):
        return "spec", name
    # A name in a block is not that of the workload.
    named = name == "name" and len(where) > len(("spec", "name"))
    habit = None if of_profile or where[0] != "spec" or named else HABITS.get(name)
    if habit is not None:
        return tuple(habit.split("."))
    if name in REPLACEMENTS and where[0] == "spec":
        return None
    if name in HANDLERS and where[:2] == ("spec", "probes"):
        return *where[:-1], "handler", name
    if not of_profile and where[:-1] == ("spec",):
        blocks = list_blocks().get(name, ())
        if len(blocks) == 1:
            return "spec", blocks[0], name
    lowered = {text.lower(): text for text in field_names_at(where[:-1], of_profile=of_profile)}
    plain = name.lower().replace("_", "").replace("-", "")
    if close := get_close_matches(plain, lowered, 1, 0.7):
        return *where[:-1], lowered[close[0]]
    if of_profile or named or where[0] != "spec" or len(where) != len(("spec", "block", "field")):
        return None
    elsewhere: dict[str, Path] = {
        text.lower(): ("spec", blocks[0], text) for text, blocks in list_blocks().items() if len(blocks) == 1
    }
    elsewhere |= {text.lower(): ("spec", text) for text in field_names_at(("spec",))}
    close = get_close_matches(plain, elsewhere, 1, 0.9)
    return elsewhere[close[0]] if close else None
