"""Annotations of live objects, read as input from a stranger: a user who may edit one workload can write any text there.

Records and numbers are read here, or by a shape that is made here. JSON is parsed and checked in one pass
by pydantic_core, which ``ebbtide list`` loads anyway; pydantic's models would add 0.2 s to it. Its parser ends at 200
levels, and refuses half of a surrogate pair. Upstream: knative.dev/serving v0.51.0 pkg/apis/autoscaling/annotation_validation.go
(counts), k8s.io/apimachinery pkg/api/validation (256 KiB for all annotations of an object).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at

#: Maximum bytes of a record that Ebbtide writes as JSON.
MAX_RECORD_BYTES: Final = 64 << 10
#: Maximum bytes of a stored spec: that of all annotations of an object in Kubernetes.
MAX_SPEC_BYTES: Final = 256 << 10
#: Largest int32, the type of a number of replicas in Kubernetes.
MAX_COUNT: Final = 2**31 - 1
#: Largest target or value of a metric, so that its thousandths are an int64, as in Kubernetes.
MAX_NUMBER: Final = 1e15
#: Smallest target: values are compared in thousandths.
MIN_TARGET: Final = 0.001
#: Maximum seconds of a period: about 30 years.
MAX_SECONDS: Final = 10**9
#: Maximum length of a name, and of any other text.
MAX_NAME: Final = 253
MAX_TEXT: Final = 4000
#: Maximum items of a list.
MAX_ROWS: Final = 100
#: Numbers as Go's strconv.ParseInt and ParseFloat read them, without hexadecimal digits, NaN and infinity.
_COUNT: Final = re.compile(r"\+?[0-9]{1,20}")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "\N{MICRO SIGN}s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(f"([0-9]{{1,15}}(?:[.][0-9]{{0,9}})?)({'|'.join(_UNITS)})")
_DURATION: Final = re.compile(f"(?:{_PART.pattern})+")
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?")

#: A schema of pydantic_core, which also describes itself in a message.
Shape: TypeAlias = "dict[str, Any]"

#: Messages by the type of pydantic_core's error; its context fills the placeholders.
_MESSAGES: Final = {
    "missing": "is missing",
    "json_invalid": "must be JSON: {error}",
    "string_unicode": "must be valid Unicode",
    "int_type": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 64 bits",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must not contain control characters",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be {expected}",
}


class UnreadableError(ValueError):
    """The value of an annotation cannot be read; the message is for the user, and names what is valid."""


def whole(low: int = 0, high: int = MAX_COUNT) -> Shape:
    """Return the shape of a whole number within bounds."""
    return {"type": "int", "strict": True, "ge": low, "le": high}


def number(low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> Shape:
    """Return the shape of a finite number within bounds."""
    return {"type": "float", "strict": True, "allow_inf_nan": False, "ge": low, "le": high}


def text(longest: int = MAX_TEXT) -> Shape:
    """Return the shape of a text. It may contain control characters, which the guards of the output escape."""
    return {"type": "str", "strict": True, "max_length": longest}


def name() -> Shape:
    """Return the shape of a name: a text without control characters, which is not empty."""
    return {**text(MAX_NAME), "min_length": 1, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}


def choice(*values: str) -> Shape:
    """Return the shape of one of several texts."""
    return {"type": "literal", "expected": list(values)}


def rows(item: Shape, longest: int) -> Shape:
    """Return the shape of a list."""
    return {"type": "list", "strict": True, "items_schema": item, "max_length": longest}


def nullable(shape: Shape) -> Shape:
    """Return a shape that also allows null."""
    return {"type": "nullable", "schema": shape}


def fields(required: Mapping[str, Shape], optional: Mapping[str, Shape]) -> Shape:
    """Return the shape of an object with these fields. Others are ignored, as a later version may write them."""
    return {
        "type": "typed-dict",
        "extra_behavior": "ignore",
        "fields": {
            name: {"type": "typed-dict-field", "schema": shape, "required": name in required}
            for name, shape in {**required, **optional}.items()
        },
    }


#: A JSON value whose numbers are finite.
_VALUE: Final[Shape] = {
    "type": "union",
    "mode": "left_to_right",
    "custom_error_type": "json_value",
    "custom_error_message": "must not contain NaN, Infinity, or a number of more than 64 bits",
    "choices": [
        {"type": "str", "strict": True},
        {"type": "bool", "strict": True},
        {"type": "int", "strict": True, "ge": -(2**63), "le": 2**64 - 1},
        {"type": "float", "strict": True, "allow_inf_nan": False},
        {"type": "list", "strict": True, "items_schema": {"type": "definition-ref", "schema_ref": "value"}},
        {"type": "dict", "strict": True, "values_schema": {"type": "definition-ref", "schema_ref": "value"}},
    ],
}
#: An object with any fields.
ANYTHING: Final[Shape] = {
    "type": "definitions",
    "schema": {"type": "dict", "strict": True, "values_schema": {"type": "definition-ref", "schema_ref": "value"}},
    "definitions": [{**nullable(_VALUE), "ref": "value"}],
}


class Record:
    """The parser of an annotation with a JSON object of one shape."""

    def __init__(self, shape: Shape, longest: int = MAX_RECORD_BYTES) -> None:
        """Compile nothing yet: a command that reads no annotation does not load pydantic_core."""
        self._shape, self._longest = shape, longest

    @cached_property
    def _validator(self) -> Any:
        import pydantic_core  # noqa: PLC0415 - see __init__

        return pydantic_core.SchemaValidator(self._shape)

    def read(self, value: str) -> dict[str, Any]:
        """Return the object in an annotation's text.

        Raises:
            UnreadableError: it does not have the shape, or is too long.
        """
        if len(value) > self._longest:
            raise UnreadableError(f"must have at most {self._longest >> 10} KiB")
        try:
            result: dict[str, Any] = self._validator.validate_json(value)
        except ValueError as error:
            raise UnreadableError(_explain(error)) from None
        return result


def _explain(error: Any) -> str:
    """Return the first error in a ValidationError of pydantic_core, with the path of its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    message = _MESSAGES.get(first["type"], first["msg"]).format(**(first.get("ctx") or {}))
    return f"{path[:MAX_NAME]} {message}" if path else message


def parse_count(value: Any) -> int | None:
    """Return a number of replicas as Knative reads it, an int32 of at least 0; None for any other value."""
    if not isinstance(value, str) or _COUNT.fullmatch(value) is None:
        return None
    count = int(value)
    return count if count <= MAX_COUNT else None


def parse_finite(value: Any) -> float | None:
    """Return a decimal number as Knative reads it; None for any other value, and for one that is not finite."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None:
        return None
    result = float(value)
    return result if abs(result) <= MAX_NUMBER else None


def parse_seconds(value: Any) -> float | None:
    """Return the seconds of a Go duration of one or more units such as 1m30s; None for any other value."""
    if not isinstance(value, str) or len(value) > MAX_NAME or _DURATION.fullmatch(value) is None:
        return None
    seconds = sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(value))
    return seconds if seconds <= MAX_SECONDS else None


def parse_whole_seconds(value: Any) -> int | None:
    """Return the seconds of a Go duration; None for any other value, and for one that is not of whole seconds."""
    seconds = parse_seconds(value)
    return int(seconds) if seconds is not None and seconds.is_integer() else None


class Setting(NamedTuple):
    """The parser of an annotation of Knative's autoscaler, and the smallest and largest value that Knative accepts."""

    parse: Callable[[Any], float | None]
    low: float
    high: float
    valid: str

    def read(self, value: Any) -> float | None:
        """Return the value of a text, None if Knative does not accept it."""
        result = self.parse(value)
        return result if result is not None and self.low <= result <= self.high else None


def _make_setting(parse: Callable[[Any], float | None], low: float, high: float, kind: str) -> Setting:
    unit = "s" if parse is parse_seconds else ""
    bounds = f"of at least {low:.12g}{unit}" if high >= MAX_SECONDS else f"from {low:.12g}{unit} to {high:.12g}{unit}"
    return Setting(parse, low, high, f"{kind} {bounds}")


#: The numbers in Knative's annotations.
SETTINGS: Final[dict[str, Setting]] = {
    key: _make_setting(parse, low, high, kind)
    for key, parse, low, high, kind in (
        (keys.MIN_SCALE, parse_count, 0, MAX_COUNT, "a whole number"),
        (keys.MAX_SCALE, parse_count, 0, MAX_COUNT, "a whole number"),
        (keys.INITIAL_SCALE, parse_count, 0, MAX_COUNT, "a whole number"),
        (keys.ACTIVATION_SCALE, parse_count, 1, MAX_COUNT, "a whole number"),
        (keys.TARGET, parse_finite, 0.01, MAX_NUMBER, "a number"),
        (keys.TARGET_UTILIZATION, parse_finite, 1, 100, "a number"),
        (keys.PANIC_WINDOW, parse_finite, 1, 100, "a number"),
        (keys.PANIC_THRESHOLD, parse_finite, 110, 1000, "a number"),
        (keys.BURST_CAPACITY, parse_finite, -1, MAX_NUMBER, "a number"),
        (keys.WINDOW, parse_seconds, 6, 3600, "a duration"),
        (keys.SCALE_DOWN_DELAY, parse_seconds, 0, 3600, "a duration"),
        (keys.RETENTION, parse_seconds, 0, 3600, "a duration"),
        (keys.PROGRESS_DEADLINE, parse_seconds, 1, MAX_SECONDS, "a duration"),
    )
}


def read_annotation(obj: Any, key: str) -> str | None:
    """Return an annotation of an object, None if it has none, or one that is not a text."""
    value = get_at(obj, "metadata", "annotations", key)
    return value if isinstance(value, str) else None


def read_setting(obj: Any, key: str) -> float | None:
    """Return a number in one of Knative's annotations; None if it is missing, or if Knative does not accept it."""
    return SETTINGS[key].read(read_annotation(obj, key))


def read_name(obj: Any, key: str) -> str | None:
    """Return the name in an annotation, such as that of a metric; None if it is missing, too long, or not printable."""
    value = read_annotation(obj, key)
    return value if value is not None and 0 < len(value) <= MAX_NAME and value.isprintable() else None


def read_count(obj: Any, key: str) -> int | None:
    """Return a number of replicas in an annotation such as min-scale; None if it is missing or cannot be read."""
    return parse_count(read_annotation(obj, key))


def read_spec(obj: Any) -> dict[str, Any] | None:
    """Return the spec that is stored on a top object, which is not checked further; None if there is none.

    Raises:
        UnreadableError: it cannot be read.
    """
    value = read_annotation(obj, keys.SPEC)
    return None if value is None else STORED_SPEC.read(value)


#: A stored spec; its fields are checked as those of any other document.
STORED_SPEC: Final = Record(ANYTHING, MAX_SPEC_BYTES)
