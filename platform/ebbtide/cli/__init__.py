"""Command line: the command table, the parser and the exit codes. Each command is a module, loaded when it runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from ebbtide.cli import streams

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
#: Command, module, one line of help.
COMMANDS: Final = (
    ("new", "new", "Write a first spec, from flags or by asking"),
    ("render", "render", "Translate specs to Kubernetes manifests"),
    ("check", "check", "Validate specs and report every problem"),
    ("explain", "explain", "Explain where each manifest field comes from"),
    ("convert", "convert", "Convert specs to another format and report what is lost"),
    ("submit", "submit", "Create a workload from the flags of `runai inference submit`"),
    ("apply", "apply", "Apply specs to a cluster and wait until they are ready"),
    ("diff", "diff", "Show the changes that an apply would make"),
    ("list", "listing", "List workloads"),
    ("describe", "describe", "Show the details of a workload"),
    ("doctor", "doctor", "Check a cluster against a profile and specs"),
    ("why", "why", "Explain the current number of replicas of a workload"),
    ("call", "call", "Send a request; show its status, latency and cold start"),
    ("logs", "logs", "Print the logs of a workload"),
    ("exec", "execute", "Run a command in a container of a workload"),
    ("port-forward", "port_forward", "Forward a local port to a workload"),
    ("scale", "scale", "Set replica bounds and the target without a new revision"),
    ("rollback", "rollback", "Route all traffic to an earlier revision"),
    ("suspend", "suspend", "Stop a KServe workload and keep its spec"),
    ("resume", "suspend", "Resume a suspended workload"),
    ("delete", "delete", "Delete a workload and the objects created with it"),
    ("project", "project", "Create, list, describe and delete projects"),
    ("serve", "serve", "Serve the REST API and the web UI"),
    ("open", "serve", "Serve the web UI and open it in the browser"),
    ("controller", "controller", "Scale workloads on any metric, to zero too"),
    ("simulate", "simulate", "Simulate how the autoscaler responds to traffic"),
    ("tune", "tune", "Find the cheapest autoscaling settings that meet an SLO"),
    ("servers", "servers", "List the servers whose speed was measured"),
    ("slo", "slo", "Report SLO compliance from Prometheus"),
    ("profile", "profile", "Show or validate a cluster profile"),
    ("schema", "schema", "Print the JSON Schema of specs or profiles"),
    ("docs", "docs", "Explain a problem code and its fix"),
    ("completion", "completion", "Generate a shell completion script"),
)


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the argument parser, with the options of the command ``only``, or of every command."""
    import argparse
    from importlib import import_module

    from ebbtide import __version__
    from ebbtide.cli.options import add_options

    root = argparse.ArgumentParser(prog=get_program(), description=DESCRIPTION, epilog=EPILOG)
    root.add_argument("--version", action="version", version=f"ebbtide {__version__}")
    root.add_argument(DEMO, action="store_true", dest="is_demo", help="Run the command on a simulated cluster")
    commands = root.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, module, description in COMMANDS:
        # submit parses Run:ai's flags itself and reports all invalid flags; argparse stops at the first.
        subparser = commands.add_parser(name, help=description, description=description, add_help=name != "submit")
        if only in {None, name}:
            add_options(subparser, import_module(f"ebbtide.cli.{module}").OPTIONS)
    return root


def main(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    with streams.guard_streams():
        try:
            code = _run_command(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            return 0  # the reader closed the pipe, so an error message would not be read
        except OSError as error:
            return streams.report_output_failure(error)
        except KeyboardInterrupt:
            return 130
        return code


def get_program() -> str:
    """Return the name that the user types: that of the program, or of the plugin of kubectl."""
    return "kubectl inference" if os.path.basename(sys.argv[0]) == PLUGIN else "ebbtide"  # noqa: PTH119 - pathlib is slow


def _run_command(argv: list[str]) -> int:
    from importlib import import_module

    modules = {name: module for name, module, _ in COMMANDS}
    # As in exec, the arguments after -- belong to another program.
    own = argv[: argv.index("--")] if "--" in argv else argv
    is_demo = DEMO in own
    words = [word for word in own if word != DEMO] + argv[len(own) :]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    command = words[0] if words else "--help"
    try:
        if command in {"-h", "--help"}:
            from ebbtide.cli import usage

            sys.stdout.write(usage.format_help(get_program(), DESCRIPTION, COMMANDS, EPILOG))
            return 0
        if command not in modules and not command.startswith("-"):
            from ebbtide.cli import usage

            return usage.report_unknown_command(command, modules)
        if is_demo and command in modules:
            from ebbtide.cli import demo

            return demo.run_on_demo(command, modules[command], words, parse_words)
        if command == "submit":
            return int(import_module("ebbtide.cli.submit").run_words(words[1:]))
        options = parse_words(words)
        return int(import_module(f"ebbtide.cli.{modules[options.command]}").run(options))
    except SystemExit as stop:
        return int(stop.code or 0)


def parse_words(words: list[str]) -> argparse.Namespace:
    """Return the parsed arguments of a command; print unknown ones with suggestions and exit with code 2."""
    parser = make_parser(words[0])
    options, unknown = parser.parse_known_args(words)
    if unknown:
        from ebbtide.cli import usage

        raise SystemExit(usage.report_unknown_arguments(options.command, unknown, list_flags(options.command)))
    return options


def list_flags(command: str) -> list[str]:
    """Return the flags of a command."""
    from importlib import import_module

    module = next(module for name, module, _ in COMMANDS if name == command)
    options = import_module(f"ebbtide.cli.{module}").OPTIONS
    return ["--help", *(name for option in options for name in option.names if name.startswith("-"))]


def entry() -> NoReturn:
    """Run the command line as a process."""
    streams.run_process(_run_arguments)


def _run_arguments() -> int:
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(make_parser())
    return main(sys.argv[1:])
