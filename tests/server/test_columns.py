"""The columns of the list of workloads, which a browser keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from website import READER, RULES, WRITER, Parsed, Site, apply_specs, backend_of, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def site() -> Iterator[Site]:
    """A server that requires a token: both users see one project, and one of them may change it."""
    simulated = cluster()
    tokens = {caller.token: caller for caller in (READER, WRITER)}
    with Site(backend_of(simulated, simulated.clock)) as open_to_all:
        apply_specs(open_to_all, "chat", "embed")
        apply_specs(open_to_all, "rank", project="vision")
    with Site(backend_of(simulated, simulated.clock, tokens=tokens, rules=RULES, anonymous_caller=None)) as opened:
        yield opened


@pytest.fixture
def writer(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.address) as visitor:
        site.send("/login", {"token": WRITER.token, "next": "/"}, form_page="/login", visitor=visitor)
        yield visitor


def test_hidden_columns_are_kept(site: Site, writer: httpx.Client) -> None:
    def columns() -> list[str]:
        page = writer.get("/workloads").text
        return [item.attributes["data-label"] for item in Parsed(page).all("td") if "data-label" in item.attributes]

    assert {"Project", "SLO", "Age"} <= {*columns()}
    answer = site.send(
        "/columns", {"columns": "project.slo.age", "show:slo": "on", "next": "/workloads?sort=age"}, visitor=writer
    )
    assert answer.headers["location"] == "/workloads?sort=age"
    assert "SLO" in columns()
    assert not {"Project", "Age"} & {*columns()}
    site.send("/columns", {"columns": "; evil", "next": "//evil.example"}, visitor=writer)
    assert "Project" not in columns()
