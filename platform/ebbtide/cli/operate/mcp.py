"""``ebbtide mcp``: offer the reading commands to agents, as tools of the Model Context Protocol on stdin and stdout.

A tool is a row of ``TOOLS``: a command and the parameters that become its arguments. It answers with what the command prints.
No tool writes, and none reads a file of this computer that the caller names. Upstream: modelcontextprotocol.io, "Tools", and
the Python SDK (``mcp``).
"""

from __future__ import annotations

import io
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide import __version__
from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.files import create_private_file, remove_private_file
from ebbtide.cli.base.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mcp.server.lowlevel import Server

OPTIONS: Final = (*connection.CONNECTION, connection.NAMES, connection.COUNTS)
INSTRUCTIONS: Final = (
    "Ebbtide deploys inference workloads on Knative and KServe. The tools read a cluster and check specs; none changes "
    "anything. A problem has a code such as AUT004, which explain_problem explains."
)


class Parameter(NamedTuple):
    """A parameter of a tool: its flag, empty for a positional argument or a spec, a pattern of its text, and a description."""

    name: str
    flag: str
    about: str
    pattern: str = r"^[^-\s\0][^\0]*$"
    required: bool = False


class Tool(NamedTuple):
    """A tool: the command that it runs, and its parameters."""

    name: str
    command: str
    about: str
    parameters: tuple[Parameter, ...]

    @property
    def is_live(self) -> bool:
        """True if the command reads the cluster."""
        return PROJECT in self.parameters


SPEC: Final = Parameter("spec", "", "The YAML of one or more specs", r"[\s\S]", required=True)
NAME: Final = Parameter("name", "", "Name of the workload", required=True)
PROJECT: Final = Parameter("project", "--project", "Project of the workload; without it, the namespace of the context")
CODE: Final = Parameter("code", "", "Problem code, such as AUT004", r"^[A-Za-z]{3,4}[0-9]{3}$", required=True)
#: A shape, not a file: the caller is not always the owner of this computer's files.
SHAPE: Final = r"^(constant|poisson|ramp|steps|diurnal|on-off):\S+$"
TRAFFIC: Final = Parameter(
    "traffic", "--traffic", "Traffic as a shape: constant:5rps,10m or poisson:5rps,10m", SHAPE, required=True
)
SLO: Final = Parameter("slo", "--slo", "The objective, as in p95=2s, if the spec has none", r"^\S+=\S+$")
TOOLS: Final = (
    Tool("list_workloads", "list -o json", "List the workloads: phase, replicas, URL", (PROJECT,)),
    Tool("describe_workload", "describe -o json", "Describe a workload and its problems", (NAME, PROJECT)),
    Tool("explain_replicas", "why -o json", "Explain a workload's number of replicas", (NAME, PROJECT)),
    Tool("report_slo", "slo -o json", "Report whether a workload meets its SLO", (NAME, PROJECT)),
    Tool("check_specs", "check -o json", "Report each problem of specs: code, field, line, message, fix", (SPEC,)),
    Tool("render_specs", "render", "Translate specs to Kubernetes manifests", (SPEC,)),
    Tool("explain_specs", "explain -o json", "Explain where each field of the manifests comes from", (SPEC,)),
    Tool(
        "simulate_spec",
        "simulate -o json",
        "Simulate replicas, latency and cost of one spec under traffic",
        (SPEC, TRAFFIC, SLO),
    ),
    Tool("explain_problem", "docs", "Explain a problem code and its fix", (CODE,)),
)
#: The streams of the process belong to one command at a time.
ONE_AT_A_TIME: Final = threading.Lock()


def make_input_schema(tool: Tool) -> dict[str, Any]:
    """Return the JSON Schema of a tool's parameters. An argument that a command could read as a flag does not match."""
    return {
        "type": "object",
        "properties": {
            row.name: {"type": "string", "description": row.about, "pattern": row.pattern} for row in tool.parameters
        },
        "required": [row.name for row in tool.parameters if row.required],
        "additionalProperties": False,
    }


def list_words(tool: Tool, given: Mapping[str, str], spec: Path, place: Sequence[str]) -> list[str]:
    """Return the command line of a call; ``spec`` is the file with the text of the parameter ``spec``."""
    words = [
        *tool.command.split(),
        *(place if tool.is_live else [word for word in place if word.startswith("--profile=")]),
    ]
    for row in tool.parameters:
        if row is SPEC:
            words.append(str(spec))
        elif row.name in given:
            words.append(f"{row.flag}={given[row.name]}" if row.flag else given[row.name])
    return words


def call(tool: Tool, given: Mapping[str, str], place: Sequence[str]) -> tuple[str, bool]:
    """Run the command of a tool. Return what it printed, and whether it failed."""
    from ebbtide.cli import main

    out, errors = io.StringIO(), io.StringIO()
    spec = create_private_file("spec.yaml", given.get(SPEC.name, "").encode())
    try:
        with ONE_AT_A_TIME, redirect_stdout(out), redirect_stderr(errors):
            code = main(list_words(tool, given, spec, place))
    finally:
        remove_private_file(spec)
    text = out.getvalue() + (errors.getvalue() if code else "")
    # A check that finds problems has answered.
    return text.replace(f"{spec.parent}/", ""), code > 1 or (code == 1 and not out.getvalue())


def make_server(place: Sequence[str]) -> Server[Any]:
    """Return the server of the tools; ``place`` are the options of the commands that read the cluster."""
    import anyio.to_thread
    import mcp_types as types
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # its types are another package
    from mcp.server.lowlevel import Server

    by_name = {tool.name: tool for tool in TOOLS}
    hints = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True)

    async def list_tools(_context: Any, _parameters: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name, description=tool.about, input_schema=make_input_schema(tool), annotations=hints
                )
                for tool in TOOLS
            ]
        )

    async def call_tool(_context: Any, parameters: types.CallToolRequestParams) -> types.CallToolResult:
        tool = by_name.get(parameters.name)
        if tool is None:
            text, failed = f"no tool {parameters.name}: use one of {', '.join(by_name)}", True
        else:
            given = parameters.arguments or {}
            wrong = [error.message for error in Draft202012Validator(make_input_schema(tool)).iter_errors(given)]
            if wrong:
                text, failed = "\n".join(wrong), True
            else:
                text, failed = await anyio.to_thread.run_sync(call, tool, given, place)
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=failed)

    return Server(
        "ebbtide", version=__version__, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool
    )


def run(options: Options) -> int:
    """Serve the tools until stdin ends."""
    try:
        import anyio
        from mcp.server.stdio import stdio_server
    except ImportError as error:
        terminal.exit_with_message(
            f"error: the SDK of the Model Context Protocol is not installed ({error}); install the extra mcp"
        )
    given = ((option, getattr(options, option.dest)) for option in OPTIONS)
    server = make_server([f"{option.names[-1]}={value}" for option, value in given if value])

    async def serve() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    if sys.stdin.isatty():
        sys.stderr.write("The tools are on stdin and stdout: start this command from an agent\n")
    anyio.run(serve)
    return 0
