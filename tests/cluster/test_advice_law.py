"""The law of printed commands, on recorded and generated states: none removes, scales or unfences what serves."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

import situations
from advice import NEW, OLD, ServiceState, find_commands, has_ready_pod, judge_command, list_states, list_texts
from ebbtide.cluster.read.hints import describe_idle_holders
from ebbtide.cluster.read.status import compute_status
from ebbtide.core.base import keys

if TYPE_CHECKING:
    from ebbtide.cluster.read.inventory import LiveWorkload

#: A reason about a revision that answers requests.
SERVES: Final = re.compile(r"(?P<revision>[\w-]+) (?P<words>still serves|serves until it is ready)")


def list_commands(live: LiveWorkload) -> list[str]:
    return [command for text in list_texts(live) for command in find_commands(text)]


def find_harm(commands: list[str], live: LiveWorkload) -> list[str]:
    return [f"{command}: {harm}" for command in commands if (harm := judge_command(command, live))]


@pytest.mark.parametrize("name", situations.NAMES)
def test_no_command_of_a_recorded_situation_harms_what_serves(name: str) -> None:
    live = situations.read(name)

    assert find_harm(list_commands(live), live) == []


def test_no_command_or_phase_of_a_generated_state_is_wrong_about_what_serves() -> None:
    """The states are the same, because each takes milliseconds."""
    seen: set[str] = set()
    for state in list_states():
        live = state.make_live()
        status = compute_status(live)
        for match in SERVES.finditer(status.why):
            assert has_ready_pod(live, match["revision"]), (state, status.why)
            seen.add(match["words"])
        if not has_ready_pod(live):
            silent = status.phase in {"Pending", "Resuming", "Degraded", "Initializing"}
            assert silent or "is scaled to zero" in status.why, (state, status)
        commands = list_commands(live)
        assert find_harm(commands, live) == [], state
        seen.update(commands)
    # The law is about something: a failed revision without traffic is still named, and so is one that serves.
    assert {f"kubectl delete revision {NEW} -n op-record", "still serves", "serves until it is ready"} <= seen


def test_the_revision_with_all_traffic_is_not_deleted_while_its_pod_waits_for_a_node() -> None:
    """An update fails, and then the serving revision loses its only pod: the new pod has no node and holds nothing."""
    live = ServiceState(old="pending", new="failing", old_ready="False", new_ready="False", traffic="old").make_live()

    (text,) = describe_idle_holders(live)

    assert find_commands(text) == [f"kubectl delete revision {NEW} -n op-record"]


def test_a_pod_without_a_node_holds_nothing() -> None:
    live = ServiceState(old="ready", new="pending", old_ready="True", new_ready="False", traffic="old").make_live()

    assert list(describe_idle_holders(live)) == []


@pytest.mark.parametrize("state", ["failing", "starting", "none"])
def test_a_revision_of_a_tag_is_never_deleted(state: str) -> None:
    traffic = "old, with a tag of the new one"
    live = ServiceState(old="ready", new=state, old_ready="True", new_ready="False", traffic=traffic).make_live()

    assert list(describe_idle_holders(live)) == []


@pytest.mark.parametrize(
    ("command", "harm"),
    [
        (f"kubectl delete revision {OLD} -n op-record", f"{OLD} has a ready pod"),
        (f"kubectl annotate revision {NEW} -n op-record {keys.LEADER}-", f"{NEW} loses its fence"),
        (f"kubectl annotate revision {NEW} -n op-record {keys.MIN_SCALE}=0 --overwrite", "is not as in the template"),
        ("kubectl delete deployment quick-00001-deployment", "no rule allows"),
        ("ebbtide scale quick --min 0", "changes what serves"),
        (f"kubectl annotate revision {NEW} -n op-record {keys.MIN_SCALE}=1 --overwrite", ""),
        ("kubectl describe pod quick", ""),
    ],
)
def test_the_judge_of_commands(command: str, harm: str) -> None:
    judged = judge_command(command, situations.read("update-failed"))

    assert harm in judged
    assert bool(harm) == bool(judged)


def test_what_is_restored_is_the_template() -> None:
    recording: dict[str, Any] = deepcopy(situations.data("running"))
    recording["revisions"][-1]["metadata"]["annotations"] |= {keys.TARGET: "7"}
    live = situations.live(recording)

    commands = list_commands(live)

    assert any(f"{keys.TARGET}-" in command for command in commands)
    assert find_harm(commands, live) == []


@pytest.mark.parametrize(
    ("old", "new", "phase", "first"),
    [
        ("pending", "starting", "Pending", f"{OLD}, which has the traffic, has no ready replica: waiting for a node"),
        ("pending", "failing", "Pending", f"{OLD}, which has the traffic, has no ready replica: waiting for a node"),
        (
            "starting",
            "failing",
            "Resuming",
            f"{OLD}, which has the traffic, has no ready replica: the server is starting",
        ),
        ("failing", "pending", "Degraded", f"{OLD}, which has the traffic, has no ready replica: container"),
        ("ready", "starting", "Updating", f"revision {NEW}: "),
        ("ready", "failing", "Degraded", f"revision {NEW} fails: "),
    ],
)
def test_the_serving_revision_comes_first_without_a_ready_pod(old: str, new: str, phase: str, first: str) -> None:
    status = compute_status(ServiceState(old, new, "True", "Unknown", "old").make_live())

    assert status.phase == phase
    assert status.why.startswith(first)
    # A wait for the update continues until it has failed or is ready.
    assert status.settled is (old == "ready" and new == "failing")


def test_a_deleted_revision_serves_nothing() -> None:
    live = ServiceState("none", "starting", "True", "Unknown", "old").make_live()
    live = replace(live, revisions=live.revisions[1:])

    status = compute_status(live)

    assert (status.phase, status.settled) == ("Degraded", False)
    assert status.why.startswith(f"revision {OLD}, which has the traffic, does not exist; revision {NEW}: ")


def test_a_revision_at_zero_serves_at_the_next_request() -> None:
    live = ServiceState("none", "starting", "True", "Unknown", "old").make_live()
    live = replace(live, scalers=tuple({**row, "status": {"desiredScale": 0}} for row in live.scalers))

    status = compute_status(live)

    assert status.phase == "Updating"
    assert status.why.endswith(f"{OLD} is scaled to zero; the next request starts a replica")
