"""Command line: the command table, the parser and the exit codes. Each command is a module, loaded when it runs.

Another package can add a command (``ebbtide.core.base.plugins``), but not replace one of the table.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.cli.base import streams
from ebbtide.core.base import plugins

if TYPE_CHECKING:
    import argparse

DESCRIPTION: Final = "Deploy Run:ai inference specs on plain Knative and KServe."
EPILOG: Final = (
    "Exit codes: 0 success, 1 problems in the input, 2 invalid usage,\n3 cluster error, 4 differences found."
)
#: Name of the program that kubectl runs as its plugin `inference`.
PLUGIN: Final = "kubectl-inference"
#: Option that selects the simulated cluster, before or after the command.
DEMO: Final = "--demo"
#: Groups of the help: title, and commands. A command is its name, its module in the
#: folder of the group, and one line of help, which the help of the command line has for the first ones of a group.
#: ``base.plugins`` has the module of an optional command.
GROUPS: Final = (
    (
        "Author",
        (
            ("new", "new", "Write a first spec from flags"),
            ("render", "render", "Translate specs to Kubernetes manifests"),
            ("check", "check", "Validate specs and report every problem"),
            ("explain", "explain", "Explain where each manifest field comes from"),
            ("convert", "convert", "Convert specs to another format and report what is lost"),
            ("import", "", "Read projects and inferences from Run:ai into a folder of specs"),
            ("profile", "profile", "Show or validate a cluster profile"),
            ("schema", "schema", "Print the JSON Schema of specs or profiles"),
            ("docs", "docs", "Explain a problem code and its fix"),
        ),
    ),
    (
        "Run",
        (
            ("quickstart", "quickstart", "Serve a first model on a new cluster on this computer"),
            ("apply", "apply", "Apply specs to a cluster and wait until they are ready"),
            ("call", "call", "Send a request; show its status, latency and cold start"),
            ("delete", "delete", "Delete a workload and the objects created with it"),
            ("submit", "", "Create a workload from the flags of `runai inference submit`"),
            ("diff", "diff", "Show the changes that an apply would make"),
            ("project", "project", "Create, list and delete projects"),
            ("key", "key", "Create, list, rotate and revoke keys of an endpoint"),
        ),
    ),
    (
        "Predict",
        (
            ("simulate", "simulate", "Simulate how the autoscaler responds to traffic"),
            ("tune", "tune", "Find the cheapest autoscaling settings that meet an SLO"),
            ("plan", "fleet", "Find how many GPUs a fleet needs, and what frees some"),
            ("servers", "servers", "List the servers whose speed was measured"),
        ),
    ),
    (
        "Operate",
        (
            ("list", "listing", "List workloads"),
            ("describe", "describe", "Show the details of a workload"),
            ("why", "why", "Explain the current number of replicas of a workload"),
            ("slo", "slo", "Report SLO compliance from Prometheus"),
            ("report", "report", "Report what services cost, and changes that save"),
            ("start", "start", "Split a start into phases, and show what would cut them"),
            ("scale", "operations", "Set replica bounds and the target without a new revision"),
            ("rollback", "operations", "Route all traffic to an earlier revision"),
            ("suspend", "operations", "Stop a KServe workload and keep its spec"),
            ("resume", "operations", "Resume a suspended workload"),
            ("logs", "logs", "Print the logs of a workload"),
            ("doctor", "doctor", "Check a cluster against a profile and specs"),
            ("open", "serve", "Serve the web UI and open it in the browser"),
            ("serve", "serve", "Serve the REST API and the web UI"),
            ("controller", "controller", "Scale workloads on any metric, to zero too"),
            ("mcp", "mcp", "Offer the reading commands to agents (MCP)"),
            ("completion", "completion", "Generate a shell completion script"),
        ),
    ),
)
COMMANDS: Final = tuple(row for _, rows in GROUPS for row in rows)
#: The module of each command of this package.
MODULES: Final = {
    name: f"ebbtide.cli.{title.lower()}.{module}" for title, rows in GROUPS for name, module, _ in rows if module
}

#: An example of each command, which its help shows. That of ``submit`` is in its own help.
EXAMPLES: Final = {
    "new": "ebbtide new embed --model qwen3-0.6b --profile full",
    "render": "ebbtide render --profile full chat.yaml",
    "check": "ebbtide check --profile full chat.yaml",
    "explain": "ebbtide explain --profile full chat.yaml",
    "convert": "ebbtide convert chat.yaml",
    "import": "ebbtide import --from runai https://example.run.ai",
    "profile": "ebbtide profile show full",
    "schema": "ebbtide schema",
    "docs": "ebbtide docs GPU008",
    "quickstart": "ebbtide quickstart",
    "apply": "ebbtide apply chat.yaml",
    "call": "ebbtide call chat -p team-a",
    "delete": "ebbtide delete moderate -p team-b -y",
    "diff": "ebbtide diff chat.yaml",
    "project": "ebbtide project list",
    "key": "ebbtide key list -p team-a",
    "simulate": "ebbtide simulate --profile full chat.yaml --traffic poisson:5rps,10m",
    "tune": "ebbtide tune --profile full chat.yaml --traffic poisson:5rps,10m --slo p95=5s --evaluations 20",
    "plan": "ebbtide plan --live -A",
    "servers": "ebbtide servers",
    "list": "ebbtide list --all-namespaces",
    "describe": "ebbtide describe chat -p team-a",
    "why": "ebbtide why chat -p team-a",
    "slo": "ebbtide slo -A --since 1h",
    "report": "ebbtide report -A --days 1",
    "start": "ebbtide start chat -p team-a",
    "scale": "ebbtide scale chat -p team-a --min 2",
    "rollback": "ebbtide rollback search -p team-b --to search-00001 -y",
    "suspend": "ebbtide suspend iris -p team-b",
    "resume": "ebbtide resume iris -p team-b",
    "logs": "ebbtide logs chat -p team-a",
    "doctor": "ebbtide doctor",
    "open": "ebbtide open --demo",
    "serve": "ebbtide serve --demo",
    "controller": "ebbtide controller",
    "mcp": "ebbtide mcp",
    "completion": "ebbtide completion bash",
}
#: Options of a cluster or a profile that are accepted before the command too, as by kubectl. Each has a value.
EARLY: Final = {"--context", "--kubeconfig", "-n", "--namespace", "-p", "--project", "--profile"}


def list_commands() -> list[tuple[str, str]]:
    """Return the name and the help of every installed command, those of other packages last."""
    known = {name for name, _, _ in COMMANDS}
    return [
        *((name, text) for name, module, text in COMMANDS if module or plugins.find_part(plugins.COMMANDS, name)),
        *((part.name, _describe(part)) for part in plugins.list_added(plugins.COMMANDS) if part.name not in known),
    ]


def _describe(part: plugins.Part) -> str:
    """Return the help of another package's command. A broken one has its package as its help, so that the help is complete."""
    try:
        return str(_load_part(part).HELP)
    except plugins.PluginError:
        return f"Unavailable: the package {part.distribution} is broken"


def load_command(name: str) -> Any:
    """Return the module of a command, or what it has for one of several commands; None if the command does not exist.

    Raises:
        PluginError: an optional part or another package has the command, which cannot be loaded.
    """
    from importlib import import_module

    if module := MODULES.get(name):
        loaded = import_module(module)
        return getattr(loaded, "COMMANDS", {}).get(name, loaded)
    if name in plugins.OWN[plugins.COMMANDS]:
        return _load_part(plugins.require_part(plugins.COMMANDS, name, name))
    return _load_added(name)


def _load_added(name: str) -> ModuleType | None:
    """Return the module of another package's command; None for a command of the table, a flag and an unknown command."""
    if name.startswith("-") or name in {command for command, _, _ in COMMANDS}:
        return None
    part = plugins.find_part(plugins.COMMANDS, name)
    return None if part is None else _load_part(part)


def _load_part(part: plugins.Part) -> ModuleType:
    module = part.load(ModuleType)
    runs = "run_words" if hasattr(module, "run_words") else "run"
    for attribute in ("HELP", "OPTIONS", runs) if part.distribution else ():
        if not hasattr(module, attribute):
            raise part.make_error(f"{part.target} has no {attribute}")
    return module


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the argument parser, with the options of the command ``only``, or of every command that can be loaded."""
    import argparse

    from ebbtide import __version__
    from ebbtide.cli.base.options import add_options

    root = argparse.ArgumentParser(prog=get_program(), description=DESCRIPTION, epilog=EPILOG)
    root.add_argument("--version", action="version", version=f"ebbtide {__version__}")
    root.add_argument(DEMO, action="store_true", dest="is_demo", help="Run the command on a simulated cluster")
    commands = root.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    rows = list_commands() if only is None else [(name, text) for name, _, text in COMMANDS if name == only]
    if only is not None and (module := _load_added(only)) is not None:
        rows.append((only, str(module.HELP)))
    for name, description in rows:
        module = None
        with suppress(plugins.PluginError):
            module = load_command(name)
        # submit parses Run:ai's flags itself and reports all invalid flags; argparse stops at the first.
        subparser = commands.add_parser(
            name,
            help=description,
            description=description,
            add_help=not hasattr(module, "run_words"),
            epilog=f"example:\n  $ {EXAMPLES[name]}" if name in EXAMPLES else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if module is not None:
            add_options(subparser, module.OPTIONS)
    return root


def main(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    return streams.run_guarded("ebbtide", lambda: _run_command(argv))


def get_program() -> str:
    """Return the name that the user types: that of the program, or of the plugin of kubectl."""
    return "kubectl inference" if os.path.basename(sys.argv[0]) == PLUGIN else "ebbtide"  # noqa: PTH119 - pathlib is slow


def _run_command(argv: list[str]) -> int:
    # The arguments after -- are positional.
    own = argv[: argv.index("--")] if "--" in argv else argv
    is_demo = DEMO in own
    words = _move_early_options([word for word in own if word != DEMO]) + argv[len(own) :]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    command = words[0] if words else "--help"
    try:
        if command in {"-h", "--help"}:
            from ebbtide.cli.base import usage

            sys.stdout.write(usage.format_help(get_program(), DESCRIPTION, GROUPS, list_commands(), EPILOG))
            return 0
        module = load_command(command)
        if module is None:
            if command == "--version":
                parse_words(words)
            from ebbtide.cli.base import usage

            if command.startswith("-"):
                return usage.report_early_flag(command)
            return usage.report_unknown_command(command, [name for name, _ in list_commands()])
        if is_demo:
            demo = plugins.require_part(plugins.DEMO, "demo", DEMO).load(ModuleType)
            return int(demo.run_on_demo(command, module, words, parse_words))
        if hasattr(module, "run_words"):
            return int(module.run_words(words[1:]))
        return int(module.run(parse_words(words)))
    except SystemExit as stop:
        return int(stop.code or 0)


def _move_early_options(words: list[str]) -> list[str]:
    """Return the words with the options of ``EARLY`` that come before the command after it."""
    first = 0
    while first < len(words) and words[first].partition("=")[0] in EARLY:
        first += 1 if "=" in words[first] else 2
    return [*words[first : first + 1], *words[:first], *words[first + 1 :]] if words[first:] else words


def parse_words(words: list[str]) -> argparse.Namespace:
    """Return the parsed arguments of a command; print unknown ones with suggestions and exit with code 2."""
    parser = make_parser(words[0])
    options, unknown = parser.parse_known_args(words)
    if unknown:
        from ebbtide.cli.base import usage

        raise SystemExit(usage.report_unknown_arguments(options.command, unknown, list_flags(options.command)))
    return options


def list_flags(command: str) -> list[str]:
    """Return the flags of a command."""
    module = load_command(command)
    assert module is not None
    return ["--help", *(name for option in module.OPTIONS for name in option.names if name.startswith("-"))]


def entry() -> NoReturn:
    """Run the command line as a process."""
    streams.run_process(_run_arguments)


def _run_arguments() -> int:
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(make_parser())
    return main(sys.argv[1:])
