"""The gateway of the endpoints reads the model that the server reads, or none: the rendered script, in LuaJIT as in Envoy."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.core.translation.endpoints.envoy import MODEL_HEADER, READ_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

luajit = pytest.importorskip("lupa.luajit21")

#: A request of Envoy's Lua API with one header, which the client sent, and a body.
REQUEST = """
local body, headers = ...
local function with(methods) return setmetatable({}, {__index = methods}) end
local header_map = with({
  remove = function(_, name) headers[name] = nil end,
  replace = function(_, name, value) headers[name] = value end,
})
local bytes = with({
  length = function() return #body end,
  getBytes = function(_, first, length) return string.sub(body, first + 1, first + length) end,
})
envoy_on_request(with({headers = function() return header_map end, body = function() return bytes end}))
"""
NAMES = ("a", "b", "org/c:d@1.0")
BODIES = 20_000


@pytest.fixture(scope="module")
def read_model() -> Callable[[str | bytes], str | None]:
    """Return a function that runs the script for a body, and returns the header that chooses the route."""
    runtime = luajit.LuaRuntime(encoding=None)
    runtime.execute(READ_MODEL.encode())

    def read(body: str | bytes) -> str | None:
        headers = runtime.table_from({MODEL_HEADER.encode(): b"forged"})
        runtime.execute(REQUEST.encode(), body if isinstance(body, bytes) else body.encode(), headers)
        value = headers[MODEL_HEADER.encode()]
        return None if value is None else value.decode()

    return read


def parse_model(body: str | bytes) -> Any:
    """Return the model of a body as a server reads it; None if it has none."""
    try:
        data = json.loads(body)
    except ValueError:
        return None
    return data.get("model") if isinstance(data, dict) else None


def escape(text: str, draw: random.Random) -> str:
    """Return the JSON string of a text, with some characters escaped."""
    quoted = json.dumps(text, ensure_ascii=draw.random() < 0.5)[1:-1]
    if draw.random() < 0.7:
        return f'"{quoted}"'
    parts = re.findall(r"\\u....|\\.|.", quoted, re.DOTALL)
    return (
        '"' + "".join(f"\\u{ord(part):04x}" if len(part) == 1 and draw.random() < 0.3 else part for part in parts) + '"'
    )


def make_space(draw: random.Random) -> str:
    return "".join(draw.choices(" \t\r\n", k=draw.choice((0, 0, 0, 1, 3))))


def make_value(draw: random.Random, depth: int) -> str:
    kind = draw.randrange(8 if depth < 3 else 4)
    if kind == 0:
        return draw.choice(("0", "-1.5e3", "true", "null"))
    if kind < 4:
        texts = (*NAMES, "model", "größe", 'a"b', "\\", '{"model":"a"}', "}", "]", "🌊", "", "a b", '\\","model":"b')
        return escape(draw.choice(texts), draw)
    if kind == 4:
        values = (make_space(draw) + make_value(draw, depth + 1) + make_space(draw) for _ in range(draw.randrange(4)))
        return f"[{','.join(values)}]"
    return make_object(draw, depth + 1)


def make_object(draw: random.Random, depth: int = 0) -> str:
    rows = []
    for _ in range(draw.randrange(5)):
        key = draw.choice(("model", "model", "model", "Model", "mode", "models", "größe", 'x"model', "\\model", ""))
        value = escape(draw.choice(NAMES), draw) if draw.random() < 0.5 else make_value(draw, depth)
        rows.append(make_space(draw).join(("", escape(key, draw), ":", value, "")))
    return "{" + ",".join(rows) + "}"


def test_the_gateway_reads_the_model_of_random_bodies_as_a_json_parser(read_model: Callable[[str], str | None]) -> None:
    draw = random.Random(45)  # noqa: S311 - the same bodies in each run
    found = 0
    for _ in range(BODIES):
        body = make_space(draw) + make_object(draw) + make_space(draw)
        model = read_model(body)
        assert model in (None, parse_model(body)), body
        found += model is not None

    assert found > BODIES / 20


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "a", "mod\\u0065l": "b"}',
        '{"model": "a", "model": "\\u0062"}',
        '{"model": "a", "model": 1}',
        '{"model": "a", "model": {"model": "a"}}',
        '{"model": "a", "model": "a b"}',
        '{"model": "a", "Model": "b"}',
        '{"model": "a"} {"model": "b"}',
        '{"model": "a"',
        '{"model": "a", "of": "',
        '["model", {"model": "a"}]',
        '"{\\"model\\": \\"a\\"}"',
        '{"\\u006d\\u006f\\u0064\\u0065\\u006c": "a"}',
    ],
)
def test_a_body_that_parsers_read_differently_has_no_model(read_model: Callable[[str], str | None], body: str) -> None:
    assert read_model(body) is None


def test_utf_16_has_no_model(read_model: Callable[[bytes], str | None]) -> None:
    """The characters of a text in UTF-16 can be the bytes of another model in ASCII."""
    hidden = b'__","model":"a","of":"__'.decode("utf-16-le")
    body = f'{{"of":"{hidden}","model":"b"}}'.encode("utf-16-le")

    assert parse_model(body) == "b"
    assert read_model(body) is None


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "a"}',
        ' {"model" :\n"a"}\n',
        '{"model": "b", "model": "a"}',
        '{"model": 1, "model": "a"}',
        '{"mod\\u0065l": "b", "model": "a"}',
        '{"task": "model", "model": "a", "of": {"model": "b", "mod\\u0065l": "b"}}',
        '{"x": "\\\\", "model": "a", "größe": "\\"", "y": ["model", "}"]}',
    ],
)
def test_the_last_plain_model_counts(read_model: Callable[[str], str | None], body: str) -> None:
    assert read_model(body) == parse_model(body) == "a"
