"""Tests of the tools for agents, with the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from mcp import Client, StdioServerParameters

from ebbtide.cli import load_command
from ebbtide.cli.operate.mcp import CODE, NAME, SPEC, TOOLS, TRAFFIC, list_words, make_server
from ebbtide.simulator.traffic.load import SHAPES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = (ROOT / "examples" / "concurrency-scale-to-zero" / "spec.yaml").read_text()
#: Values that a command would take for a flag, a file, or more than one argument.
HOSTILE: Final = ("--help", "-A", "--kubeconfig=/etc/passwd", "", " chat", "\0", "--")
#: Commands that change a cluster or a file.
WRITING: Final = {
    "apply",
    "delete",
    "scale",
    "suspend",
    "resume",
    "rollback",
    "project",
    "submit",
    "new",
    "tune",
    "plan",
}


def talk(server: Any, work: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Client(server, read_timeout_seconds=120) as client:
            return await work(client)

    return asyncio.run(run())


def ask(tool: str, /, **arguments: Any) -> tuple[str, bool]:
    """Return what a tool answers, and whether it failed."""
    answer = talk(make_server([]), lambda client: client.call_tool(tool, arguments))
    return answer.content[0].text, answer.is_error


def test_every_tool_runs_a_command_that_reads() -> None:
    commands = {tool.command.split()[0] for tool in TOOLS}
    assert not commands & WRITING
    assert all(load_command(command) for command in commands)


def test_every_tool_says_that_it_changes_nothing() -> None:
    tools = talk(make_server([]), lambda client: client.list_tools()).tools
    assert [tool.name for tool in tools] == [tool.name for tool in TOOLS]
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools)


def test_a_check_answers_with_the_problems() -> None:
    text, failed = ask("check_specs", spec=EXAMPLE.replace("minReplicas: 0", "minReplicas: 9"))
    assert not failed
    assert ("AUT001", "spec.yaml") in [(row["code"], row["document"]) for row in json.loads(text)]


def test_the_specs_are_rendered_explained_and_simulated() -> None:
    assert "serving.knative.dev/v1" in ask("render_specs", spec=EXAMPLE)[0]
    [explanation] = json.loads(ask("explain_specs", spec=EXAMPLE)[0])
    assert explanation
    result = json.loads(ask("simulate_spec", spec=EXAMPLE, traffic="constant:2rps,1m")[0])
    assert result["traffic"]["requests"] == 120


def test_a_problem_of_the_command_is_an_error_with_its_words() -> None:
    text, failed = ask("explain_problem", code="AUT999")
    assert failed
    assert "did you mean" in text


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
@pytest.mark.parametrize(
    ("tool", "parameter"), [("describe_workload", NAME), ("explain_problem", CODE), ("simulate_spec", TRAFFIC)]
)
def test_an_argument_never_becomes_a_flag(tool: str, parameter: Any, text: str) -> None:
    given = {"spec": EXAMPLE} if tool == "simulate_spec" else {}
    answer, failed = ask(tool, **given, **{parameter.name: text})
    assert failed
    assert "does not match" in answer


def test_traffic_is_a_shape_and_never_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Relative, because a name with a colon has the form of a shape.
    monkeypatch.chdir(tmp_path)
    for name in ("log.csv", "logs:a/log.csv"):
        log = tmp_path / name
        log.parent.mkdir(exist_ok=True)
        log.write_text("time\n1\n")
        for traffic in (name, str(log)):
            text, failed = ask("simulate_spec", spec=EXAMPLE, traffic=traffic)
            assert (failed, "does not match" in text) == (True, True)
    for shape in SHAPES:
        assert re.search(TRAFFIC.pattern, f"{shape}:5rps,10m")


@pytest.mark.parametrize(
    ("given", "named"), [({}, "'spec'"), ({"spec": 5}, "5 is not"), ({"spec": EXAMPLE, "profile": "x"}, "'profile'")]
)
def test_wrong_arguments_are_named(given: dict[str, Any], named: str) -> None:
    text, failed = ask("check_specs", **given)
    assert failed
    assert named in text


def test_the_cluster_of_the_server_reaches_only_the_commands_that_read_it() -> None:
    place = ["--kubeconfig=/k", "--profile=full"]
    by_name = {tool.name: tool for tool in TOOLS}
    spec = Path("spec.yaml")
    assert list_words(by_name["explain_replicas"], {"name": "chat"}, spec, place) == [
        *("why", "-o", "json", "--kubeconfig=/k", "--profile=full", "chat"),
    ]
    assert list_words(by_name["check_specs"], {SPEC.name: ""}, spec, place) == [
        *("check", "-o", "json", "--profile=full", "spec.yaml"),
    ]


def test_the_command_serves_a_simulated_cluster_on_its_streams() -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "ebbtide", "mcp", "--demo"], env=dict(os.environ)
    )

    async def work(client: Client) -> list[Any]:
        return [
            await client.call_tool("list_workloads", {}),
            await client.call_tool("explain_replicas", {"name": "chat"}),
        ]

    listed, explained = talk(command, work)
    assert "chat" in [row["name"] for row in json.loads(listed.content[0].text)]
    assert json.loads(explained.content[0].text)["name"] == "chat"
