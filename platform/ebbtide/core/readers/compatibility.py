"""Compatibility of the installed pydantic_core with the compiled schema.

pydantic_core does not guarantee the meaning of schemas across versions and ignores unknown keys, so a schema that it accepts
can still have another meaning. Comparing versions is too strict: 2.14 to 2.50 interpret this schema alike. ``behavior`` tries
each keyword of the compiled schema (a type, or a key of a type) with small values; ``core/readers/compiled.py`` compares the result
with the one that ``tools/compile_schema.py`` recorded. The generator rejects a keyword without a trial.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

#: Attributes that pydantic_core sets on an instance.
SLOTS: Final = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
#: Marks a field that a document omits.
ABSENT: Final = object()
_TEXT: Final[dict[str, Any]] = {"type": "str"}
_WHOLE: Final[dict[str, Any]] = {"type": "int"}
#: A schema, a value that it accepts, and values that it rejects or converts.
TRIALS: Final[tuple[tuple[Any, ...], ...]] = (
    ({"type": "any"}, {"a": [1, None]}),
    ({"type": "bool"}, True, 1, "true", None),
    ({"type": "int"}, 1, True, "1", 1.0, None),
    ({"type": "int", "ge": 1}, 1, 0),
    ({"type": "int", "le": 2}, 2, 3, 2**70),
    ({"type": "float", "allow_inf_nan": False}, 1, inf, "1", True, None),
    ({"type": "float", "ge": 1}, 1.0, 0.5),
    ({"type": "float", "gt": 1}, 1.5, 1.0),
    ({"type": "float", "le": 2}, 2, 2.5),
    ({"type": "str"}, "a", 1, b"a", None),
    ({"type": "str", "min_length": 2}, "éé", "é"),
    ({"type": "str", "max_length": 2}, "éé", "aaa"),
    ({"type": "str", "pattern": "^[a-z]+(-[a-z]+)?$"}, "a-b", "a-", "a\n", "éa", "A"),
    ({"type": "literal", "expected": ["a", "b"]}, "b", "A", 1),
    ({"type": "nullable", "schema": _TEXT}, None, 1),
    ({"type": "default", "schema": _WHOLE, "default": 7}, ABSENT, None, "7"),
    ({"type": "default", "schema": {"type": "list", "items_schema": _TEXT}, "default": ()}, ABSENT, None),
    ({"type": "list", "items_schema": _WHOLE}, [1, 2], ["1", 2, "3"], (1,), "1", {"a": 1}),
    ({"type": "list", "items_schema": _WHOLE, "min_length": 1}, [1], [], ["1"]),
    ({"type": "dict", "keys_schema": _TEXT, "values_schema": _WHOLE}, {"a": 1}, {1: 1}, {"a": "1", "b": "2"}, []),
    ({"type": "union", "choices": [_TEXT, {"type": "list", "items_schema": _TEXT}]}, ["a"], 1, [1]),
    (
        {"type": "definition-ref", "schema_ref": "inner"},
        {"inSide": "a"},
        {},
        {"in_side": "a"},
        {"inSide": 1, "b": 2},
        "a",
    ),
)


def run_trials(trials: tuple[tuple[Any, ...], ...] = TRIALS) -> str:
    """Return the results of the trials in the installed pydantic_core: values, or errors with locations and contexts."""
    import pydantic_core  # noqa: PLC0415 - loads slowly, and only another version than the recorded one needs trials

    try:
        return repr(_collect_results(pydantic_core.SchemaValidator(make_trial_schema(trials)), trials))
    except (pydantic_core.SchemaError, KeyError, TypeError) as error:
        # It does not support a type, requires another key, or has a different API.
        return str(error)


def _collect_results(validator: Any, trials: tuple[tuple[Any, ...], ...]) -> list[Any]:
    from pydantic_core import ValidationError  # noqa: PLC0415 - as above

    results = []
    for turn in range(max(map(len, trials)) - 1):
        # Each document has a value for every field; fields with fewer values repeat theirs.
        values = {f"n{number}": inputs[turn % len(inputs)] for number, (_, *inputs) in enumerate(trials)}
        document: dict[str, Any] = {name: value for name, value in values.items() if value is not ABSENT}
        try:
            results.append(_plain_attributes(validator.validate_python(document)))
        except ValidationError as error:
            rows = error.errors(include_url=False, include_input=False)
            results.append([(row["type"], row["loc"], row.get("ctx")) for row in rows])
    return results


def make_trial_schema(trials: tuple[tuple[Any, ...], ...] = TRIALS) -> Any:
    """Return one schema that contains every trial."""
    inner = _make_model_schema(
        "Inner", {"in_side": {"type": "model-field", "schema": _TEXT, "validation_alias": "inSide"}}
    )
    fields = {
        f"n{number}": {"type": "model-field", "schema": tried, "validation_alias": f"n{number}"}
        for number, (tried, *_) in enumerate(trials)
    }
    return {
        "type": "definitions",
        "schema": _make_model_schema("Outer", fields),
        "definitions": [{**inner, "ref": "inner"}],
    }


def _make_model_schema(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "model",
        "cls": type(name, (), {"__slots__": SLOTS}),
        "schema": {"type": "model-fields", "fields": fields},
        "config": {"strict": True, "extra_fields_behavior": "forbid"},
        "ref": name,
    }


def _plain_attributes(value: Any) -> Any:
    """Return a value in which each model instance is replaced by its class name and attributes."""
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        return value
    return type(value).__name__, {name: _plain_attributes(item) for name, item in attributes.items()}
