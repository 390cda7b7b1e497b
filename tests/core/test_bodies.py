"""Bodies are written as they are declared, and their schemas describe the written data."""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import TypeAdapter

from ebbtide.core.base import bodies
from ebbtide.core.base.bodies import INLINE, DerivedBody, WrittenBy, body, derive_attribute, mark_body, serialize_body


def whole(value: float) -> int:
    return round(value)


@mark_body()
class Span(NamedTuple):
    low: float
    high: Annotated[float, WrittenBy(whole)]


@body()
class Named:
    name: str


@body("name rest_seconds spans size note other=hidden.name", optional="note")
class Inner:
    name: str
    rest_seconds: Annotated[float, WrittenBy(whole)]
    spans: dict[str, Span | None]
    hidden: Named
    note: str | None = None

    @property
    def size(self) -> int:
        """Return the number of spans."""
        return len(self.spans)


@body("name other=inner.name size=inner.size")
class Outer:
    name: str
    inner: Inner


@body()
class Flat:
    id: int
    outer: Annotated[Outer, INLINE]
    rows: tuple[Named, ...]
    free: dict[str, Any]


class Seen(DerivedBody):
    kind: str = "fixed"
    name: str = derive_attribute(lambda view: view.item["name"])
    again: str = name
    spans: list[Span] = derive_attribute(lambda view: [*view.found])


INNER = Inner("a", 1.6, {"x": Span(1.5, 2.6), "y": None}, hidden=Named("hidden"))


#: The minimum number of bodies that each tier declares.
DECLARED = {"core": 6, "simulator": 0, "cluster": 20, "server": 20, "runai": 15, "sandbox": 0, "cli": 0}


def declared(tier: str) -> list[Any]:
    """Return the bodies that a tier declares, or skip the test if the tier or a package that it needs is not installed."""
    prefix = f"ebbtide.{tier}."
    try:
        names = [module.name for module in pkgutil.walk_packages(import_module(prefix[:-1]).__path__, prefix)]
        modules = [import_module(name) for name in names]
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    classes = {
        value: None
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and bodies.MARK in vars(value) and value.__module__.startswith(prefix)
    }
    return [*classes]


def test_keys_are_names_in_camel_case_in_their_order() -> None:
    assert [*serialize_body(replace(INNER, note="b")).items()] == [
        ("name", "a"),
        ("restSeconds", 2),
        ("spans", {"x": {"low": 1.5, "high": 3}, "y": None}),
        ("size", 2),
        ("note", "b"),
        ("other", "hidden"),
    ]


def test_an_optional_attribute_is_omitted_if_it_is_none() -> None:
    assert "note" not in serialize_body(INNER)


def test_an_inline_member_is_written_in_its_place() -> None:
    flat = Flat(1, Outer("o", INNER), (Named("r"),), {"plainKey": [1]})
    assert serialize_body([flat]) == [
        {"id": 1, "name": "o", "other": "a", "size": 2, "rows": [{"name": "r"}], "free": {"plainKey": [1]}}
    ]
    assert [*serialize_body(flat)] == ["id", "name", "other", "size", "rows", "free"]


def test_a_view_is_derived_from_its_source() -> None:
    view = Seen(item={"name": "n"}, found=(Span(1, 2.4),))
    assert (view.name, view.again) == ("n", "n")
    assert serialize_body({"seen": view}) == {
        "seen": {"kind": "fixed", "name": "n", "again": "n", "spans": [{"low": 1, "high": 2}]}
    }


@pytest.mark.parametrize("value", [Flat(1, Outer("o", INNER), (Named("r"),), {}), Named("a"), Span(1.0, 2.0)])
def test_a_schema_has_the_keys_that_are_written(value: Any) -> None:
    schema = TypeAdapter[Any](type(value)).json_schema(mode="serialization")
    assert [*schema["properties"]] == [*serialize_body(value)]
    assert schema["required"] == [*serialize_body(value)]


def test_a_schema_describes_the_written_data_and_not_the_attributes() -> None:
    schema = TypeAdapter[Any](Span).json_schema(mode="serialization")
    assert schema["properties"]["high"]["type"] == "integer"


@pytest.mark.parametrize("tier", DECLARED)
def test_every_body_can_be_written_and_described(tier: str) -> None:
    classes = declared(tier)
    assert len(classes) >= DECLARED[tier]
    for cls in classes:
        keys = [member.key for member in bodies.list_members(cls) if not member.inline]
        assert {*keys} <= {*TypeAdapter[Any](cls).json_schema(mode="serialization")["properties"]}, cls
        assert cls.__doc__, cls
