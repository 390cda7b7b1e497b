"""Every operation on a workload, in every consumer: its functions, its command, its path of the API, and its dialog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI

from ebbtide.cli import load_command
from ebbtide.cluster.write import revisions
from ebbtide.core.base.operations import CHANGES, SCALE, Operation, Parameter
from ebbtide.server.api import description, own
from ebbtide.server.web.parts.actions import ACTIONS
from website import BASE, Parsed, Site, apply_specs, backend_of, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENAPI: Final[dict[type, dict[str, Any]]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
}
ROWS: Final = [pytest.param(row, id=row.name) for row in CHANGES]
PARAMETERS: Final = [
    pytest.param(row, each, id=f"{row.name}-{each.name}") for row in CHANGES for each in row.parameters
]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = FastAPI(title="Ebbtide", version="0")
    app.include_router(own.router)
    return description.make_openapi(app)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    simulated = cluster()
    with Site(backend_of(simulated, simulated.clock)) as opened:
        apply_specs(opened, "chat")
        apply_specs(opened, "chat", image="example.com/chat:v2")
        yield opened


def find_path(document: dict[str, Any], operation: Operation) -> dict[str, Any]:
    path: dict[str, Any] = document["paths"][f"/api/ebbtide/v1/workloads/{{namespace}}/{{name}}/{operation.name}"][
        "post"
    ]
    return path


def find_schema(document: dict[str, Any], operation: Operation) -> dict[str, Any]:
    """Return the schema of the body of an operation's path; empty if it has none."""
    content = find_path(document, operation).get("requestBody", {}).get("content", {})
    reference = content["application/json"]["schema"]["$ref"] if content else ""
    return document["components"]["schemas"][reference.rpartition("/")[2]] if content else {}


def make_wrong_values(parameter: Parameter) -> list[str]:
    bounds = [parameter.minimum if parameter.is_fraction else parameter.minimum - 1, parameter.maximum + 1]
    return ["many", "nan", *map(str, bounds)] if parameter.kind is not str else []


def test_every_operation_has_functions_and_a_dialog() -> None:
    assert [*revisions.CHANGES] == [row.name for row in CHANGES]
    assert {row.name for row in CHANGES} <= {*ACTIONS}


@pytest.mark.parametrize("operation", ROWS)
def test_a_command_has_the_options_of_its_operation(operation: Operation) -> None:
    flags = {name for option in load_command(operation.name).OPTIONS for name in option.names}

    assert {parameter.flag for parameter in operation.parameters} <= flags
    assert {"--wait", "--output", "name"} <= flags
    assert ("--reset" in flags, "--yes" in flags) == (bool(operation.reset), operation.asks)


@pytest.mark.parametrize("operation", ROWS)
def test_a_path_has_the_parameters_of_its_operation(document: dict[str, Any], operation: Operation) -> None:
    path, schema = find_path(document, operation), find_schema(document, operation)

    assert (path["summary"], path["description"]) == (operation.title, operation.about)
    assert schema.get("description", "") == operation.request
    assert {
        name: (row["description"], row["anyOf"][0]["type"]) for name, row in schema.get("properties", {}).items()
    } == {row.name: (f"{row.help}.", OPENAPI[row.kind]["type"]) for row in operation.parameters}


@pytest.mark.parametrize("operation", ROWS)
def test_a_dialog_has_the_fields_of_its_operation(site: Site, operation: Operation) -> None:
    page = Parsed(site.get(f"{BASE}/do/{operation.name}").text)

    assert {parameter.field for parameter in operation.parameters} <= {
        element.attributes.get("name") for element in page.all("input")
    }


@pytest.mark.parametrize(("operation", "parameter"), PARAMETERS)
def test_every_consumer_has_the_bounds_of_a_parameter(
    document: dict[str, Any], site: Site, operation: Operation, parameter: Parameter
) -> None:
    schema = find_schema(document, operation)["properties"][parameter.name]["anyOf"][0]
    if parameter.kind is str:
        assert schema["maxLength"] == parameter.maximum
    else:
        minimum = "exclusiveMinimum" if parameter.is_fraction else "minimum"
        assert (schema[minimum], schema["maximum"]) == (parameter.minimum, parameter.maximum)
    read = next(row for row in load_command(operation.name).OPTIONS if row.dest == parameter.field).settings["type"]
    for text in make_wrong_values(parameter):
        with pytest.raises(Exception, match="invalid value"):
            read(text)
        answer = site.send(f"{BASE}/do/{operation.name}", {parameter.field: text})
        assert (answer.status_code, "invalid value" in answer.text) == (422, True)


def test_an_operation_without_parameters_reads_no_body(document: dict[str, Any]) -> None:
    assert [row.name for row in CHANGES if "requestBody" in find_path(document, row)] == [
        row.name for row in CHANGES if row.parameters
    ]
    assert SCALE.reset
