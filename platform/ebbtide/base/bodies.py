"""Bodies: the data that commands, the API and the page write for programs, each declared once, on its class.

``body`` marks a class and names the attributes to write, in order; each key is the attribute's name in camel case, or
another one: ``body("name series=curves place=measured.place")``. ``serialize`` writes a body by its attributes'
types, and pydantic, where it is asked for a schema, describes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from collections.abc import Callable

    Write = Callable[[Any], Any]

T = TypeVar("T")
MARK: Final = "__body__"
#: The keys of a member of type ``Annotated[Status, INLINE]`` are written in its place.
INLINE: Final = object()


def mark_body(names: str = "", optional: str = "") -> Callable[[type[T]], type[T]]:
    """Mark a class as a body of these attributes, by default of all; an ``optional`` one is left out where it is None."""

    def mark(cls: type[T]) -> type[T]:
        setattr(cls, MARK, (names.split(), optional.split()))
        cls.__get_pydantic_core_schema__ = classmethod(_schema)  # type: ignore[attr-defined] # pydantic's own hook
        return cls

    return mark


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def body(names: str = "", optional: str = "") -> Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass, and mark it as a body."""
    return lambda cls: mark_body(names, optional)(dataclass(frozen=True, slots=True)(cls))


class View:
    """A body whose attributes are derived from the values that it is made with: ``uid: str = derive(lambda view: ...)``."""

    def __init__(self, **values: Any) -> None:
        """Keep the values as attributes."""
        self.__dict__ = values

    def __init_subclass__(cls) -> None:
        """Mark the class."""
        mark_body()(cls)


class _Derived(NamedTuple):
    function: Write

    def __get__(self, view: View | None, _: Any) -> Any:
        return self if view is None else self.function(view)


def derive(function: Write) -> Any:
    """Return an attribute that a function derives from its view."""
    return _Derived(function)


class Written(NamedTuple):
    """Writes a value as a function returns it: ``Annotated[Path, Written(dotted)]``."""

    write: Write

    def __get_pydantic_core_schema__(self, _source: Any, handler: Any) -> Any:
        """Return the schema of what the function returns."""
        returned = self.write if isinstance(self.write, type) else _hints(self.write)["return"]
        return handler.generate_schema(returned)


def serialize(value: Any) -> Any:
    """Return a body, or the bodies in a list or a mapping, as JSON-ready data."""
    kind: Any = type(value)
    if hasattr(kind, MARK):
        return _writer_of(kind)(value)
    if kind is dict:
        return {key: serialize(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [serialize(item) for item in value]
    return value


class Member(NamedTuple):
    """One attribute of a body: its key, its name, its type, whether None is left out, whether its own keys replace it."""

    key: str
    name: str
    hint: Any
    optional: bool
    inline: bool


@cache
def members(cls: Any) -> tuple[Member, ...]:
    """Return the attributes that a body is written with."""
    named, optional = getattr(cls, MARK)
    found = []
    for entry in named or _hints(cls):
        key, _, name = entry.rpartition("=")
        first, *others = (key or name).split("_")
        camel = first + "".join(part.capitalize() for part in others)
        hint = reduce(_hint, name.split("."), cls)
        found.append(Member(camel, name, hint, name in optional, INLINE in get_args(hint)))
    return tuple(found)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _hint(cls: Any, name: str) -> Any:
    """Return the type of a field or property."""
    member = getattr(cls, name, None)
    return _hints(member.fget)["return"] if isinstance(member, property) else _hints(cls)[name]


@cache
def _writer_of(cls: Any) -> Write:
    """Return the function that writes a body."""
    rows = [(member, attrgetter(member.name), _writer(member.hint)) for member in members(cls)]

    def write(value: Any) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for member, get, convert in rows:
            item = get(value) if convert is None else convert(get(value))
            if member.inline:
                data |= item
            elif item is not None or not member.optional:
                data[member.key] = item
        return data

    return write


def _writer(hint: Any) -> Write | None:
    """Return the function that writes values of a type; None where they are written as they are."""
    if hasattr(hint, MARK):
        return _writer_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ways = [extra.write for extra in arguments[1:] if isinstance(extra, Written)]
        return ways[0] if ways else _writer(arguments[0])
    if origin in {Union, UnionType}:
        way = next(filter(None, map(_writer, arguments)), None)
        return way and (lambda value: None if value is None else way(value))
    if origin in {tuple, list, Sequence}:
        each = _writer(arguments[0])
        return list if each is None else lambda items: [each(item) for item in items]
    if origin in {dict, Mapping}:
        inner = _writer(arguments[1])
        return dict if inner is None else lambda items: {key: inner(item) for key, item in items.items()}
    return None


def _schema(cls: type, _source: Any, handler: Any) -> Any:
    return handler.generate_schema(_described(cls))


@cache
def _described(cls: type) -> type:
    """Return a dataclass with a body's keys, which pydantic describes."""
    described = make_dataclass(cls.__name__, _fields(cls), kw_only=True)
    described.__doc__, described.__module__ = cls.__doc__, cls.__module__
    return described


def _fields(cls: type) -> list[Any]:
    found: list[Any] = []
    for key, _, hint, optional, inline in members(cls):
        if inline:
            found += _fields(get_args(hint)[0])
        else:
            found.append((key, hint, field(default=None)) if optional else (key, hint))
    return found
