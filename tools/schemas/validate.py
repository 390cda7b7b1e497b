"""Check objects against the schemas in tests/schemas."""

import functools
import json
import re
from pathlib import Path
from typing import Any, Final

import jsonschema_rs

FOLDER: Final = Path(__file__).resolve().parents[2] / "tests" / "schemas"

#: The end of the name of a schema of an older source.
OLDER: Final = re.compile(r"-\d+\.\d+\.json$")
# A message quotes the value, which may be a whole pod.
LONGEST: Final = 240


def validate(obj: Any, older: str = "") -> list[str]:
    """Return the errors of an object, one per line, such as `spec.trafic: unknown field`.

    `older` is the minor version of an older source, such as `0.15`, where `tests/schemas` has a schema of it.
    """
    if not isinstance(obj, dict):
        return [f"expected an object, not {type(obj).__name__}"]
    validator = validators(older).get((str(obj.get("apiVersion")), str(obj.get("kind"))))
    if validator is None:
        return [f"kind: no schema for {obj.get('apiVersion')} {obj.get('kind')}"]
    return sorted(line for error in validator.iter_errors(obj) for line in lines(error))


@functools.cache
def validators(older: str = "") -> dict[tuple[str, str], jsonschema_rs.Draft202012Validator]:
    """Return a validator for every schema, by apiVersion and kind; those of an older source replace the current ones."""
    paths = [path for path in FOLDER.glob("*.json") if not OLDER.search(path.name)]
    paths += FOLDER.glob(f"*-{older}.json") if older else ()
    schemas = [json.loads(path.read_bytes()) for path in paths]
    return {kind_of(schema): jsonschema_rs.Draft202012Validator(schema) for schema in schemas}


def kind_of(schema: dict[str, Any]) -> tuple[str, str]:
    """Return the apiVersion and kind that a schema describes."""
    properties = schema["properties"]
    return properties["apiVersion"]["const"], properties["kind"]["const"]


def lines(error: jsonschema_rs.ValidationError) -> list[str]:
    """Return the lines of an error: its path and its message, or one line per unknown field."""
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return [f"{dotted([*error.instance_path, name])}: unknown field" for name in error.kind.unexpected]
    message = error.message if len(error.message) <= LONGEST else f"...{error.message[-LONGEST:]}"
    return [f"{dotted(error.instance_path)}: {message}".removeprefix(": ")]


def dotted(path: list[str | int]) -> str:
    """Return a path in the form `spec.containers[0].image`; a name with a dot is in brackets."""
    return "".join(step(part) for part in path).removeprefix(".")


def step(part: str | int) -> str:
    """Return one step of a path."""
    if isinstance(part, int):
        return f"[{part}]"
    return f"[{json.dumps(part)}]" if "." in part or "/" in part else f".{part}"
