"""Actions on several workloads, and the columns that a browser keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from website import READER, RULES, WRITER, Parsed, Site, apply_specs, backend_of, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT, EMBED, RANK = "row:runai-team-a/chat", "row:runai-team-a/embed", "row:runai-vision/rank"


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


def confirm(visitor: httpx.Client, action: str, *rows: str) -> tuple[Parsed, dict[str, str]]:
    """Return the confirmation of an action, and the fields that it submits."""
    answer = visitor.get("/workloads/selected", params={"do": action, **dict.fromkeys(rows, "on")})
    page = Parsed(answer.text)
    return page, {item.attributes["name"]: item.attributes["value"] for item in page.all("input", type="hidden")}


def change(site: Site, visitor: httpx.Client, fields: dict[str, str]) -> Parsed:
    return Parsed(site.send("/workloads/selected", fields, visitor=visitor).text)


def test_one_confirmation_names_each_workload_and_deletes_only_those(site: Site, writer: httpx.Client) -> None:
    page, fields = confirm(writer, "delete", CHAT, EMBED)
    assert "Permanently deletes these workloads" in page.text
    assert {CHAT, EMBED} <= fields.keys()
    assert "Type 2 to confirm." in change(site, writer, fields).text
    outcome = change(site, writer, {**fields, "typed": "2"})
    assert "2 of 2 workloads deleted." in outcome.text
    assert "rank" not in outcome.text
    rest = Parsed(writer.get("/workloads/selected", params={"do": "delete", CHAT: "on"}).text)
    assert "will not be changed" in rest.text


def test_a_workload_without_permission_is_named_and_not_changed(site: Site, writer: httpx.Client) -> None:
    page, fields = confirm(writer, "delete", CHAT, RANK)
    assert "workload rank not found in namespace runai-vision" in page.text
    assert RANK not in fields
    # A caller can send the field without the page.
    outcome = change(site, writer, {**fields, RANK: fields[CHAT], "typed": "2"})
    assert "1 of 2 workloads deleted." in outcome.text
    assert "not changed: workload rank not found in namespace runai-vision" in outcome.text


def test_a_reader_can_confirm_nothing(site: Site) -> None:
    with httpx.Client(base_url=site.address) as visitor:
        site.send("/login", {"token": READER.token, "next": "/"}, form_page="/login", visitor=visitor)
        page, fields = confirm(visitor, "delete", CHAT)
        assert "your account is not allowed to delete services in runai-team-a" in page.text
        assert CHAT not in fields
        outcome = change(site, visitor, {"do": "delete", CHAT: "on", "typed": "1"})
        assert "0 of 1 workload deleted." in outcome.text


def test_a_workload_that_was_replaced_since_the_confirmation_is_not_deleted(site: Site, writer: httpx.Client) -> None:
    _, fields = confirm(writer, "delete", CHAT)
    outcome = change(site, writer, {**fields, CHAT: "another-uid", "typed": "1"})
    assert "another workload has this name since the confirmation was shown" in outcome.text
    assert "0 of 1 workload deleted." in outcome.text


def test_an_error_of_one_workload_does_not_hide_the_others(
    site: Site, writer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fields = confirm(writer, "delete", CHAT, EMBED)
    delete = site.backend.writes.delete_by_id

    def fail_once(_caller: object, uid: str) -> object:
        if uid == fields[CHAT]:
            raise RuntimeError("the inside")
        return delete(WRITER, uid)

    monkeypatch.setattr(site.backend.writes, "delete_by_id", fail_once)
    outcome = change(site, writer, {**fields, "typed": "2"})
    assert "1 of 2 workloads deleted." in outcome.text
    assert "not changed: The server log has the details." in outcome.text
    assert "the inside" not in outcome.text


def test_an_action_that_a_kind_never_has_is_explained(writer: httpx.Client) -> None:
    page, fields = confirm(writer, "suspend", CHAT)
    assert "will not be changed: cannot suspend chat: Knative Services cannot be suspended" in page.text
    assert CHAT not in fields
    assert writer.get("/workloads/selected", params={"do": "promote", CHAT: "on"}).status_code == 404
    assert writer.get("/workloads/selected", params={"do": "delete"}).headers["location"] == "/workloads"


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
