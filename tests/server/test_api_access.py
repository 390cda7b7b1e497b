"""Cached access reviews: valid for 30 seconds, and longer during an outage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import serving
from ebbtide.cluster.client.protocol import KNATIVE, NODE, UnreachableError
from ebbtide.server.api import access
from ebbtide.server.api.access import (
    AccessCache,
    Caller,
    ExpiringCache,
    UnauthorizedError,
    make_access_question,
    read_claims,
)

JANE = Caller("jane", ("team",), token="jane's")


@dataclass
class Reviews:
    """A reviewer that records its questions, and can be unreachable."""

    away: bool = False
    allowed: bool = True
    asked: list[Any] = field(default_factory=list)

    def authenticate(self, token: str) -> Caller | None:
        self._ask(token)
        return JANE if token == JANE.token else None

    def is_allowed(self, caller: Caller, question: access.AccessQuestion) -> bool:
        self._ask(question)
        assert caller == JANE
        return self.allowed

    def _ask(self, question: Any) -> None:
        if self.away:
            raise UnreachableError("no answer")
        self.asked.append(question)


@dataclass
class Ticks:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def make_access_cache() -> tuple[AccessCache, Reviews, Ticks]:
    reviews, ticks = Reviews(), Ticks()
    return AccessCache(reviews, ticks), reviews, ticks


def test_a_review_is_cached_for_30_seconds() -> None:
    decided, reviews, ticks = make_access_cache()
    question = make_access_question("list", KNATIVE, "team-a")
    for _ in range(3):
        assert decided.caller_of(JANE.token) == JANE
        assert decided.is_allowed(JANE, question)
    assert len(reviews.asked) == 2
    reviews.allowed = False
    ticks.now = 29
    assert decided.is_allowed(JANE, question)
    ticks.now = 30
    assert not decided.is_allowed(JANE, question)


def test_in_an_outage_cached_reviews_stay_valid_for_a_limited_time() -> None:
    decided, reviews, ticks = make_access_cache()
    decided.caller_of(JANE.token)
    decided.is_allowed(JANE, make_access_question("list", KNATIVE, "team-a"))
    reviews.away = True
    ticks.now = 600
    assert decided.caller_of(JANE.token) == JANE
    assert decided.is_allowed(JANE, make_access_question("list", KNATIVE, "team-a"))
    with pytest.raises(UnreachableError):
        decided.is_allowed(JANE, make_access_question("list", KNATIVE, "team-b"))
    with pytest.raises(UnreachableError):
        decided.caller_of("somebody else's")
    ticks.now = 901
    with pytest.raises(UnreachableError):
        decided.is_allowed(JANE, make_access_question("list", KNATIVE, "team-a"))


def test_invalid_tokens_are_rejected_from_the_cache_and_evict_no_valid_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_REJECTED", 10)
    decided, reviews, _ = make_access_cache()
    decided.caller_of(JANE.token)
    for _ in range(2):
        with pytest.raises(UnauthorizedError):
            decided.caller_of("made-up")
    assert reviews.asked == [JANE.token, "made-up"]
    for number in range(100):
        with pytest.raises(UnauthorizedError):
            decided.caller_of(f"made-up {number}")
    count = len(reviews.asked)
    assert decided.caller_of(JANE.token) == JANE
    assert len(reviews.asked) == count


def test_the_cache_is_bounded_and_evicts_the_oldest_entry() -> None:
    ticks = Ticks()
    cache: ExpiringCache[int, int] = ExpiringCache(3, ticks)
    for number in range(5):
        cache.put(number, number)
    assert [cache.find_valid(number) for number in range(5)] == [None, None, (2,), (3,), (4,)]


def test_callers_with_the_same_name_and_different_tokens_are_distinct() -> None:
    decided, reviews, _ = make_access_cache()
    decided.is_allowed(JANE, make_access_question("list", NODE))
    other = Caller("jane", ("admins",), token="another")
    with pytest.raises(AssertionError):
        decided.is_allowed(other, make_access_question("list", NODE))
    assert len(reviews.asked) == 2


def test_a_token_is_in_no_repr_and_no_key() -> None:
    decided, _, _ = make_access_cache()
    decided.caller_of(JANE.token)
    assert JANE.token not in repr(JANE)
    assert JANE.token not in repr(decided.__dict__["_callers"].__dict__)
    assert JANE.token.encode() not in access.digest_secret(JANE.token)


def test_a_cluster_wide_kind_has_no_namespace() -> None:
    assert make_access_question("list", NODE, "team-a") == ("list", "", "nodes", "", "", "")
    assert make_access_question("get", KNATIVE, "team-a", "chat").group == "serving.knative.dev"


@pytest.mark.parametrize("token", ["", "a.b", "a.!!!.c", "a.bnVsbA.c", "a.W10.c"])
def test_an_invalid_jwt_has_no_claims(token: str) -> None:
    assert read_claims(token) == {}


def test_a_jwt_has_an_expiry() -> None:
    assert read_claims(serving.token("owner", 5.0))["exp"] == 5.0
