"""Command line: the command table, the parser and the exit codes. Each command is a module, loaded when it runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from ebbtide.cli import streams

if TYPE_CHECKING:
    import argparse

#: Command, module, one line of help.
COMMANDS: Final = (
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
    ("simulate", "simulate", "Simulate how the autoscaler responds to traffic"),
    ("tune", "tune", "Find the cheapest autoscaling settings that meet an SLO"),
    ("slo", "slo", "Report SLO compliance from Prometheus"),
    ("profile", "profile", "Show or validate a cluster profile"),
    ("schema", "schema", "Print the JSON Schema of specs or profiles"),
    ("docs", "docs", "Explain a problem code and its fix"),
    ("completion", "completion", "Generate a shell completion script"),
)


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the argument parser, with the options of the command ``only``, or of every command."""
    import argparse  # noqa: PLC0415 - submit does not need it
    from importlib import import_module  # noqa: PLC0415 - as above

    from ebbtide import __version__  # noqa: PLC0415 - as above
    from ebbtide.cli.options import add_options  # noqa: PLC0415 - as above

    root = argparse.ArgumentParser(
        prog="ebbtide",
        description="Deploy Run:ai inference specs on plain Knative and KServe.",
        epilog="Exit codes: 0 success, 1 problems in the input, 2 invalid usage, 3 cluster error, 4 differences found.",
    )
    root.add_argument("--version", action="version", version=f"ebbtide {__version__}")
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


def _run_command(argv: list[str]) -> int:
    from importlib import import_module  # noqa: PLC0415 - as in parser

    modules = {name: module for name, module, _ in COMMANDS}
    command = next((word for word in argv if word in modules), None)
    try:
        if command == "submit" and argv[0] == "submit":
            return int(import_module("ebbtide.cli.submit").run_words(argv[1:]))
        options = make_parser(command or "").parse_args(argv)
        return int(import_module(f"ebbtide.cli.{modules[options.command]}").run(options))
    except SystemExit as stop:
        return int(stop.code or 0)


def entry() -> NoReturn:
    """Run the command line as a process."""
    streams.run_process(_run_arguments)


def _run_arguments() -> int:
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - only shell completion needs it

        argcomplete.autocomplete(make_parser())
    return main(sys.argv[1:])
