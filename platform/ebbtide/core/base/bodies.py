"""Bodies: JSON data that commands, the API and the web pages return, declared on the classes that hold the data.

``body`` marks a class and names the attributes to write, in order. Each key is the attribute's name in camel case, or an
explicit one: ``body("name series=curves place=measured.place")``. ``serialize`` writes a body by its attributes' types, and
pydantic's JSON Schema describes the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import cache, reduce
from operator import attrgetter
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    Write = Callable[[Any], Any]

T = TypeVar("T")
MARK: Final = "__body__"
#: Marker of an attribute whose keys are merged into the parent: ``Annotated[Status, INLINE]``.
INLINE: Final = object()


def mark_body(names: str = "", optional: str = "") -> Callable[[type[T]], type[T]]:
    """Return a decorator that marks a class as a body.

    ``names`` lists the attributes to write, by default all. An attribute in ``optional`` is omitted if it is None.
    """

    def mark(cls: type[T]) -> type[T]:
        setattr(cls, MARK, (names.split(), optional.split()))
        cls.__get_pydantic_core_schema__ = classmethod(_generate_schema)  # type: ignore[attr-defined] # a hook of pydantic
        return cls

    return mark


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def body(names: str = "", optional: str = "") -> Callable[[type[T]], type[T]]:
    """Return a decorator that makes a class a frozen dataclass and marks it as a body."""
    return lambda cls: mark_body(names, optional)(dataclass(frozen=True, slots=True)(cls))


class DerivedBody:
    """A body with attributes derived from its constructor arguments: ``uid: str = derive(lambda view: ...)``."""

    def __init__(self, **values: Any) -> None:
        """Store the values as attributes."""
        self.__dict__ = values

    def __init_subclass__(cls) -> None:
        """Mark the subclass as a body."""
        mark_body()(cls)


class _Derived(NamedTuple):
    function: Write

    def __get__(self, view: DerivedBody | None, _: Any) -> Any:
        return self if view is None else self.function(view)


def derive_attribute(function: Write) -> Any:
    """Return an attribute whose value a function computes from its view."""
    return _Derived(function)


class WrittenBy(NamedTuple):
    """Marker of an attribute that a function converts when it is written: ``Annotated[Path, Written(dotted)]``."""

    write: Write

    def __get_pydantic_core_schema__(self, _source: Any, handler: Any) -> Any:
        """Return the schema of the function's return type."""
        returned = self.write if isinstance(self.write, type) else _resolve_hints(self.write)["return"]
        return handler.generate_schema(returned)


def serialize_body(value: Any) -> Any:
    """Return a body, or a list or mapping of bodies, as JSON-serializable data."""
    kind: Any = type(value)
    if hasattr(kind, MARK):
        return _make_writer(kind)(value)
    if kind is dict:
        return {key: serialize_body(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [serialize_body(item) for item in value]
    return value


class Member(NamedTuple):
    """An attribute of a body: key, name and type; ``optional`` omits None, ``inline`` merges its keys into the parent."""

    key: str
    name: str
    hint: Any
    optional: bool
    inline: bool


@cache
def list_members(cls: Any) -> tuple[Member, ...]:
    """Return the attributes of a body that are written."""
    names, optional = getattr(cls, MARK)
    attributes = []
    for entry in names or _resolve_hints(cls):
        key, _, name = entry.rpartition("=")
        first, *others = (key or name).split("_")
        camel = first + "".join(part.capitalize() for part in others)
        hint = reduce(_attribute_hint, name.split("."), cls)
        attributes.append(Member(camel, name, hint, name in optional, INLINE in get_args(hint)))
    return tuple(attributes)


@cache
def _resolve_hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _attribute_hint(cls: Any, name: str) -> Any:
    member = getattr(cls, name, None)
    return _resolve_hints(member.fget)["return"] if isinstance(member, property) else _resolve_hints(cls)[name]


@cache
def _make_writer(cls: Any) -> Write:
    rows = [(member, attrgetter(member.name), _find_writer(member.hint)) for member in list_members(cls)]

    def write(value: Any) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for member, get, convert in rows:
            converted = get(value) if convert is None else convert(get(value))
            if member.inline:
                data |= converted
            elif converted is not None or not member.optional:
                data[member.key] = converted
        return data

    return write


def _find_writer(hint: Any) -> Write | None:
    """Return the function that writes values of a type, or None if they need no conversion."""
    if hasattr(hint, MARK):
        return _make_writer(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        writers = [extra.write for extra in arguments[1:] if isinstance(extra, WrittenBy)]
        return writers[0] if writers else _find_writer(arguments[0])
    if origin in {Union, UnionType}:
        writer = next(filter(None, map(_find_writer, arguments)), None)
        return writer and (lambda value: None if value is None else writer(value))
    if origin in {tuple, list, Sequence}:
        write_item = _find_writer(arguments[0])
        return list if write_item is None else lambda items: [write_item(item) for item in items]
    if origin in {dict, Mapping}:
        write_value = _find_writer(arguments[1])
        return dict if write_value is None else lambda items: {key: write_value(item) for key, item in items.items()}
    return None


def _generate_schema(cls: type, _source: Any, handler: Any) -> Any:
    return handler.generate_schema(_make_described_class(cls))


@cache
def _make_described_class(cls: type) -> type:
    """Return a dataclass with the keys of a body, from which pydantic generates the schema."""
    described = make_dataclass(cls.__name__, _list_fields(cls), kw_only=True)
    described.__doc__, described.__module__ = cls.__doc__, cls.__module__
    return described


def _list_fields(cls: type) -> list[Any]:
    fields: list[Any] = []
    for key, _, hint, optional, inline in list_members(cls):
        if inline:
            fields += _list_fields(get_args(hint)[0])
        else:
            fields.append((key, hint, field(default=None)) if optional else (key, hint))
    return fields
