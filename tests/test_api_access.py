"""Who calls and what they may: kept for half a minute, and over an outage for who is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import serving
from ebbtide.api import access
from ebbtide.api.access import Access, Caller, Kept, UnauthorizedError, ask, claims
from ebbtide.cluster.client.protocol import KNATIVE, NODE, UnreachableError

JANE = Caller("jane", ("team",), token="jane's")


@dataclass
class Reviews:
    """A reviewer that counts, and that may be away."""

    away: bool = False
    allowed: bool = True
    asked: list[Any] = field(default_factory=list)

    def who(self, token: str) -> Caller | None:
        self._ask(token)
        return JANE if token == JANE.token else None

    def may(self, caller: Caller, question: access.Ask) -> bool:
        self._ask(question)
        assert caller == JANE
        return self.allowed

    def _ask(self, what: Any) -> None:
        if self.away:
            raise UnreachableError("nobody answers")
        self.asked.append(what)


@dataclass
class Ticks:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Access, Reviews, Ticks]:
    reviews, ticks = Reviews(), Ticks()
    return Access(reviews, ticks), reviews, ticks


def test_an_answer_is_asked_for_once_in_half_a_minute() -> None:
    decided, reviews, ticks = made()
    question = ask("list", KNATIVE, "team-a")
    for _ in range(3):
        assert decided.caller_of(JANE.token) == JANE
        assert decided.may(JANE, question)
    assert len(reviews.asked) == 2
    reviews.allowed = False
    ticks.now = 29
    assert decided.may(JANE, question)
    ticks.now = 30
    assert not decided.may(JANE, question)


def test_in_an_outage_only_what_is_known_is_answered_and_not_for_ever() -> None:
    decided, reviews, ticks = made()
    decided.caller_of(JANE.token)
    decided.may(JANE, ask("list", KNATIVE, "team-a"))
    reviews.away = True
    ticks.now = 600
    assert decided.caller_of(JANE.token) == JANE
    assert decided.may(JANE, ask("list", KNATIVE, "team-a"))
    with pytest.raises(UnreachableError):
        decided.may(JANE, ask("list", KNATIVE, "team-b"))
    with pytest.raises(UnreachableError):
        decided.caller_of("somebody else's")
    ticks.now = 901
    with pytest.raises(UnreachableError):
        decided.may(JANE, ask("list", KNATIVE, "team-a"))


def test_made_up_tokens_are_refused_without_asking_again_and_push_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REFUSED", 10)
    decided, reviews, _ = made()
    decided.caller_of(JANE.token)
    for _ in range(2):
        with pytest.raises(UnauthorizedError):
            decided.caller_of("made-up")
    assert reviews.asked == [JANE.token, "made-up"]
    for number in range(100):
        with pytest.raises(UnauthorizedError):
            decided.caller_of(f"made-up {number}")
    asked = len(reviews.asked)
    assert decided.caller_of(JANE.token) == JANE
    assert len(reviews.asked) == asked


def test_what_is_kept_is_bounded_and_the_eldest_goes_first() -> None:
    ticks = Ticks()
    kept: Kept[int, int] = Kept(3, ticks)
    for number in range(5):
        kept.put(number, number)
    assert [kept.fresh(number) for number in range(5)] == [None, None, (2,), (3,), (4,)]


def test_two_callers_of_one_name_are_two() -> None:
    decided, reviews, _ = made()
    decided.may(JANE, ask("list", NODE))
    other = Caller("jane", ("admins",), token="another")
    with pytest.raises(AssertionError):
        decided.may(other, ask("list", NODE))
    assert len(reviews.asked) == 2


def test_a_token_is_in_no_repr_and_no_key() -> None:
    decided, _, _ = made()
    decided.caller_of(JANE.token)
    assert JANE.token not in repr(JANE)
    assert JANE.token not in repr(decided.__dict__["_callers"].__dict__)
    assert JANE.token.encode() not in access.digest(JANE.token)


def test_a_cluster_wide_kind_has_no_namespace() -> None:
    assert ask("list", NODE, "team-a") == ("list", "", "nodes", "", "", "")
    assert ask("get", KNATIVE, "team-a", "chat").group == "serving.knative.dev"


@pytest.mark.parametrize("token", ["", "a.b", "a.!!!.c", "a.bnVsbA.c", "a.W10.c"])
def test_what_is_no_jwt_says_nothing_of_itself(token: str) -> None:
    assert claims(token) == {}


def test_a_jwt_says_when_it_ends() -> None:
    assert claims(serving.token("owner", 5.0))["exp"] == 5.0
