"""The API against its own OpenAPI description: every response is described, and none is an internal error.

schemathesis generates valid and invalid requests from the description. The requests are the same in each run; with
EBBTIDE_FUZZ=long they are random, and many more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis import checks

import serving
from ebbtide.runai import routes as runai
from ebbtide.server.api import description, own

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG: Final = os.environ.get("EBBTIDE_FUZZ") == "long"
EXAMPLES: Final = 300 if LONG else 8


def described() -> dict[str, Any]:
    app = FastAPI(title="Ebbtide", version="0")
    app.include_router(runai.router)
    app.include_router(own.router)
    return description.make_openapi(app)


SCHEMA: Final = schemathesis.openapi.from_dict(described())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    _, backend = serving.inhabited()
    with serving.served(backend) as client:
        yield str(client.base_url)


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=not LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_response_is_described_and_none_is_an_internal_error(case: schemathesis.Case[Any], address: str) -> None:
    answer = case.call(base_url=address, headers=serving.bearer("root"), timeout=60)
    assert answer.status_code != 500, answer.text
    case.validate_response(
        answer,
        checks=[
            checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ],
        excluded_checks=[checks.not_a_server_error] if answer.status_code in {502, 503, 504} else [],
    )


def test_the_served_description_covers_every_path(address: str) -> None:
    import httpx  # noqa: PLC0415 - only here

    served = httpx.get(f"{address}/api/ebbtide/v1/openapi.json").json()
    assert served["paths"] == described()["paths"]
    for path, operations in served["paths"].items():
        for method, operation in operations.items():
            assert {"401", "500", "503"} <= {*operation["responses"]}, (method, path)
            assert operation["summary"], (method, path)
