"""The election of a leader: two candidates with different clocks on one simulated cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client.protocol import LEASE, UnreachableError
from ebbtide.cluster.controller.lease import DURATION_SECONDS, LEADS_SECONDS, NAME, RENEW_SECONDS, Lease
from ebbtide.core.base.paths import get_at
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = "default"


@dataclass
class OwnClock:
    """A machine's clock: it advances with the others, and starts at other times."""

    base: ManualClock
    ticks_ahead: float
    now_ahead: float

    def now(self) -> float:
        return self.base.now() + self.now_ahead

    def ticks(self) -> float:
        return self.base.ticks() + self.ticks_ahead

    def sleep(self, seconds: float) -> None:
        self.base.sleep(seconds)


class Link:
    """One candidate's connection to the cluster, which calls functions before and after each request."""

    def __init__(self, cluster: Simulated) -> None:
        self.cluster = cluster
        self.before: Callable[[str], object] = lambda _: None
        self.after: Callable[[str], object] = lambda _: None

    def __getattr__(self, verb: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.before(verb)
            result = getattr(self.cluster, verb)(*arguments, **keywords)
            self.after(verb)
            return result

        return call


class Election:
    """Candidates a and b; their clocks differ by days and hours."""

    def __init__(self) -> None:
        self.time = ManualClock()
        self.cluster = Simulated(self.time)
        self.link_a, self.link_b = Link(self.cluster), Link(self.cluster)
        self.a = Lease(self.link_a, SPACE, "a", OwnClock(self.time, -9e8, 0.25))
        self.b = Lease(self.link_b, SPACE, "b", OwnClock(self.time, 7e5, -3600.0))

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = self.cluster.get(LEASE, NAME, SPACE)["spec"]
        return record

    def leaders(self) -> str:
        return "a" * self.a.leads() + "b" * self.b.leads()


@pytest.fixture
def election() -> Election:
    return Election()


def test_the_durations_leave_time_for_a_retry_and_for_clocks_that_drift() -> None:
    assert 2 * RENEW_SECONDS <= LEADS_SECONDS
    assert LEADS_SECONDS * 1.3 <= DURATION_SECONDS


def test_the_first_candidate_takes_a_missing_lease(election: Election) -> None:
    assert (election.leaders(), election.a.term) == ("", "")
    assert (election.a.renew(), election.b.renew()) == ("a", "a")
    assert (election.leaders(), election.b.term) == ("a", "")
    record = election.record
    assert record["acquireTime"] == record["renewTime"] == "2027-01-15T08:00:00.250000Z"
    assert (record["leaseTransitions"], record["leaseDurationSeconds"]) == (0, DURATION_SECONDS)
    assert election.a.term == f"a since {record['acquireTime']}"


def test_a_leader_stops_when_it_does_not_renew(election: Election) -> None:
    election.a.renew()
    election.time.sleep(LEADS_SECONDS - 0.001)
    assert election.a.leads()
    election.time.sleep(0.002)
    assert not election.a.leads()
    election.a.renew()
    assert election.a.leads()


def test_a_renewal_keeps_the_term(election: Election) -> None:
    election.a.renew()
    before, term = election.record, election.a.term
    election.time.sleep(RENEW_SECONDS)
    election.a.renew()
    after = election.record
    assert election.a.term == term
    assert {key for key in after if after[key] != before[key]} == {"renewTime"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:05\.25\d{4}Z", after["renewTime"])


def test_a_candidate_takes_a_lease_that_has_not_changed_for_its_duration(election: Election) -> None:
    election.a.renew()
    election.b.renew()
    election.time.sleep(DURATION_SECONDS - 0.001)
    assert (election.b.renew(), election.leaders()) == ("a", "")
    election.time.sleep(0.002)
    assert (election.b.renew(), election.leaders()) == ("b", "b")
    assert election.record["leaseTransitions"] == 1
    assert election.a.renew() == "b"


def test_each_renewal_restarts_the_candidate_s_wait(election: Election) -> None:
    for _ in range(10):
        assert (election.a.renew(), election.b.renew()) == ("a", "a")
        election.time.sleep(LEADS_SECONDS - 1)
        assert (election.b.renew(), election.leaders()) == ("a", "a")
    assert election.record["leaseTransitions"] == 0


def test_a_record_read_late_is_not_older_than_its_renewal(election: Election) -> None:
    """The candidate's request is under way for longer than the duration, and the leader renews in the meantime."""
    election.a.renew()

    def delay(_: str) -> None:
        election.link_b.before = lambda _: None
        election.time.sleep(2 * DURATION_SECONDS)
        election.a.renew()

    election.link_b.before = delay
    assert election.b.renew() == "a"
    election.time.sleep(1)
    assert (election.b.renew(), election.leaders()) == ("a", "a")


def test_a_leader_counts_from_before_it_sent_the_renewal(election: Election) -> None:
    election.a.renew()
    election.link_a.before = lambda verb: election.time.sleep(8.0 if verb == "patch" else 0.0)
    election.a.renew()
    election.time.sleep(LEADS_SECONDS - 8.001)
    assert election.a.leads()
    election.time.sleep(0.002)
    assert not election.a.leads()


def test_a_leader_does_not_lead_after_an_answer_that_came_too_late(election: Election) -> None:
    election.link_a.after = lambda verb: election.time.sleep(60.0 if verb == "create" else 0.0)
    assert election.a.renew() == "a"
    assert election.leaders() == ""


@pytest.mark.parametrize("lead", [0.0, 2 * DURATION_SECONDS], ids=["missing", "expired"])
def test_of_two_candidates_that_saw_a_free_lease_one_takes_it(election: Election, lead: float) -> None:
    if lead:
        election.a.renew()
        election.b.renew()
        election.time.sleep(lead)

    def overtake(verb: str) -> None:
        if verb != "get":
            election.link_b.before = lambda _: None
            assert election.a.renew() == "a"

    election.link_b.before = overtake
    assert (election.b.renew(), election.leaders()) == ("", "a")
    assert election.record["holderIdentity"] == "a"


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_a_leader_without_an_api_server_leads_until_its_time_is_over(election: Election, verb: str) -> None:
    election.a.renew()

    def fail(called: str) -> None:
        if called == verb:
            raise UnreachableError("no answer")

    election.link_a.before = fail
    election.time.sleep(RENEW_SECONDS)
    assert (election.a.renew(), election.leaders()) == ("", "a")
    election.time.sleep(LEADS_SECONDS - RENEW_SECONDS)
    assert (election.a.renew(), election.leaders()) == ("", "")


def test_an_acquisition_without_an_answer_starts_another_term(election: Election) -> None:
    """The record names this process, but it does not know since when: another one may have led in between."""
    election.a.renew()
    first = election.a.term
    election.b.renew()
    election.time.sleep(DURATION_SECONDS)
    assert election.b.renew() == "b"
    election.a.renew()
    election.time.sleep(DURATION_SECONDS)

    def lose(verb: str) -> None:
        if verb == "patch":
            raise UnreachableError("no answer")

    election.link_a.after = lose
    assert (election.a.renew(), election.leaders(), election.a.term) == ("", "", first)
    assert election.record["holderIdentity"] == "a"
    election.link_a.after = lambda _: None
    election.time.sleep(1)
    assert (election.a.renew(), election.leaders()) == ("a", "a")
    assert election.a.term not in {"", first}
    assert election.record["leaseTransitions"] == 3


def test_a_released_lease_is_taken_immediately_and_not_taken_back(election: Election) -> None:
    election.a.renew()
    election.b.renew()
    election.a.release()
    assert (election.leaders(), election.record["holderIdentity"]) == ("", "")
    assert (election.a.renew(), election.a.leads()) == ("", False)
    assert (election.b.renew(), election.leaders()) == ("b", "b")
    assert election.record["leaseTransitions"] == 1


@pytest.mark.parametrize("at", ["get", "patch"])
def test_a_release_leaves_the_lease_of_another_holder(election: Election, at: str) -> None:
    election.a.renew()
    election.b.renew()

    def overtake(verb: str) -> None:
        # The process is frozen before a request.
        if verb == at:
            election.link_a.before = lambda _: None
            election.time.sleep(DURATION_SECONDS)
            assert election.b.renew() == "b"

    election.link_a.before = overtake
    election.a.release()
    assert (election.record["holderIdentity"], election.leaders()) == ("b", "b")


def test_a_candidate_ends_without_a_request(election: Election) -> None:
    """An API server that does not answer would delay the end of the process."""
    election.a.renew()
    election.b.renew()
    asked: list[str] = []
    election.link_b.before = asked.append
    election.b.release()
    assert (asked, election.record["holderIdentity"]) == ([], "a")


def test_a_term_is_confirmed_by_the_api_server(election: Election) -> None:
    assert not election.b.confirm("")
    election.a.renew()
    first = election.a.term
    assert election.a.confirm(first)
    assert not election.b.confirm("")
    election.b.renew()
    election.time.sleep(DURATION_SECONDS)
    election.b.renew()
    assert not election.a.confirm(first)
    election.a.renew()
    election.time.sleep(DURATION_SECONDS)
    # A later term of the same process does not confirm an earlier one.
    election.a.renew()
    assert (election.a.confirm(first), election.a.confirm(election.a.term)) == (False, True)

    def fail(_: str) -> None:
        raise UnreachableError("no answer")

    election.link_a.before = fail
    assert not election.a.confirm(election.a.term)


def test_a_release_without_an_api_server_ends_the_leadership(election: Election) -> None:
    election.a.renew()

    def fail(_: str) -> None:
        raise UnreachableError("no answer")

    election.link_a.before = fail
    election.a.release()
    assert election.leaders() == ""


def test_a_lease_that_was_deleted_is_created_as_another_term(election: Election) -> None:
    election.a.renew()
    first = election.a.term
    election.cluster.delete(LEASE, NAME, SPACE)
    election.time.sleep(RENEW_SECONDS)
    assert (election.a.renew(), election.leaders()) == ("a", "a")
    assert election.a.term != first
    assert get_at(election.record, "leaseTransitions") == 0
