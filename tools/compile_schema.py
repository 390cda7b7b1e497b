"""Write ``ebbtide/readers/_compiled.py``: the models' validation schema as data, loadable without pydantic.

Building pydantic's classes takes most of a short command's time; pydantic_core needs only the schema that
comes out. ``--check`` fails where the file is not what would be written now.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import pydantic_core
from pydantic import BaseModel

from ebbtide.profile.models import Profile
from ebbtide.readers import compatibility
from ebbtide.spec.inference import Inference

TARGET: Final = Path(__file__).parent.parent / "platform" / "ebbtide" / "readers" / "_compiled.py"
#: Keys that only serialization, JSON Schema or other features of pydantic use.
DROPPED: Final = {
    "metadata",
    "serialization_alias",
    "computed_fields",
    "model_name",
    "custom_init",
    "root_model",
    "serialization",
    "title",
    "generic_origin",
}
HEADER: Final = '''"""Written by tools/compile_schema.py from the models; do not edit. See ebbtide.readers.compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The version of pydantic_core that the trials of ebbtide.readers.compatibility were recorded with.
CORE = "{core}"
#: What it makes of them. Where another version makes something else of them, pydantic itself is used.
BEHAVIOR = {behavior}


def schemas(c: Callable[[str], type], d: Callable[..., Any]) -> dict[str, Any]:
    """Return the schemas; ``c`` gives the class of a model's name, ``d`` an instance with the given values."""
    return {{
'''


def expression(value: Any) -> str:
    """Return ``value`` as Python source, with c(…) for classes and d(…) for default instances."""
    if isinstance(value, BaseModel):
        items = ", ".join(f"{name}={expression(item)}" for name, item in value.__dict__.items())
        return f'd("{type(value).__name__}"{", " if items else ""}{items})'
    if isinstance(value, type):
        return f'c("{value.__name__}")'
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name not in DROPPED or _is_field(name, value)}
        return "{" + ", ".join(f"{_text(name)}: {expression(_ref(name, item))}" for name, item in kept.items()) + "}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(expression(item) for item in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if inner else "()"
    assert value is None or isinstance(value, (str, int, float, bool)), value
    return _text(value) if isinstance(value, str) else repr(value)


def _is_field(name: str, holder: dict[str, Any]) -> bool:
    """Return whether a dropped key is the name of a model's field here."""
    return isinstance(holder.get(name), dict) and holder[name].get("type") == "model-field"


def _ref(name: str, item: Any) -> Any:
    """Return a reference without the process's own number in it."""
    return item.rsplit(":", 1)[0] if name in {"ref", "schema_ref"} else item


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def words(schema: Any) -> set[tuple[str, str]]:
    """Return what has to mean the same in each pydantic_core: the keys that each type of schema is written with."""
    found: set[tuple[str, str]] = set()
    if isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str):
            found |= {(kind, name) for name in schema if name not in DROPPED}
            found |= {("config", name) for name in schema.get("config", {}) if name not in DROPPED}
        found |= {word for name, item in schema.items() if name != "default" for word in words(item)}
    elif isinstance(schema, (list, tuple)):
        found |= {word for item in schema for word in words(item)}
    return found


def source() -> str:
    """Return the module's text."""
    untried = words([model.__pydantic_core_schema__ for model in (Inference, Profile)]) - words(compatibility.schema())
    assert not untried, f"readers/compatibility.py tries no schema with {sorted(untried)}"
    rows = []
    for model in (Inference, Profile):
        text = expression(model.__pydantic_core_schema__)
        # One definition a line keeps differences readable.
        text = text.replace(', {"type": "model", ', ',\n            {"type": "model", ').replace(
            ', {"cls": ', ',\n            {"cls": '
        )
        rows.append(f'        "{model.__name__}": {text},')
    return (
        HEADER.format(core=pydantic_core.__version__, behavior=_text(compatibility.behavior()))
        + "\n".join(rows)
        + "\n    }\n"
    )


def main(arguments: list[str]) -> int:
    """Write or check the file."""
    text = source()
    if "--check" in arguments:
        if not TARGET.exists() or TARGET.read_text() != text:
            print(f"{TARGET.name} is not what the models give: make generate")
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
