"""The command line: which command, its options, and the exit codes. Each command is a module, loaded when called."""

from __future__ import annotations

import gc
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import argparse

#: Command, module, one line of help.
COMMANDS: Final = (
    ("render", "render", "translate specs into manifests on stdout"),
    ("check", "check", "list every problem of specs"),
    ("explain", "explain", "say why each output field is there"),
    ("convert", "convert", "turn any input shape into another, with a loss report"),
    ("submit", "submit", "take the flags of `runai inference submit`, and apply or render"),
    ("apply", "apply", "bring specs onto a cluster: plan, question, progress, URL"),
    ("diff", "diff", "say what an apply would change, and whether it makes a new revision"),
    ("list", "listing", "list workloads, one row each"),
    ("describe", "describe", "say everything about one workload, in words"),
    ("doctor", "doctor", "say what the cluster has and lacks, for a profile and for specs"),
    ("why", "why", "say why a workload has this number of replicas now"),
    ("logs", "logs", "print what a workload's server writes"),
    ("exec", "execute", "run a command in a workload's container"),
    ("port-forward", "port_forward", "lead a port of this machine to a workload"),
    ("scale", "scale", "set replicas and target live, without a new revision"),
    ("rollback", "rollback", "send all traffic to the revision before"),
    ("suspend", "suspend", "take a KServe workload down and keep its object"),
    ("resume", "suspend", "bring a suspended workload back"),
    ("delete", "delete", "delete a workload and what was made beside it"),
    ("project", "project", "make, list, describe and delete projects: quota, priority, members"),
    ("serve", "serve", "serve the API and the page"),
    ("simulate", "simulate", "say what the autoscaler will do with traffic"),
    ("tune", "tune", "find settings that keep a promise with the fewest replicas"),
    ("slo", "slo", "report what was promised and what came of it, from Prometheus"),
    ("profile", "profile", "show or validate what a cluster offers"),
    ("schema", "schema", "print the JSON Schema, for editors"),
    ("docs", "docs", "say what a problem code means and how to mend it"),
    ("completion", "completion", "print the shell code that completes ebbtide's commands"),
)


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, with the options of the command ``only``, or of all commands."""
    import argparse  # noqa: PLC0415 - the entry point decides first whether it is needed
    from importlib import import_module  # noqa: PLC0415 - as above

    from ebbtide import __version__  # noqa: PLC0415 - as above
    from ebbtide.cli.options import add_options  # noqa: PLC0415 - as above

    root = argparse.ArgumentParser(
        prog="ebbtide",
        description="Run:ai inference specs on plain Knative and KServe: translated, explained, checked.",
        epilog="exit codes: 0 fine, 1 problems in the input, 2 usage, 3 cluster, 4 differences",
    )
    root.add_argument("--version", action="version", version=f"ebbtide {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module, text in COMMANDS:
        # submit reads Run:ai's own flags itself: argparse would stop at the first one that is wrong.
        made = commands.add_parser(name, help=text, description=text, add_help=name != "submit")
        if only in {None, name}:
            add_options(made, import_module(f"ebbtide.cli.{module}").OPTIONS)
    return root


def main(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    from importlib import import_module  # noqa: PLC0415 - as in parser

    known = {name: module for name, module, _ in COMMANDS}
    command = next((word for word in argv if word in known), None)
    try:
        if command == "submit" and argv[0] == "submit":
            return int(import_module("ebbtide.cli.submit").run_words(argv[1:]))
        options = parser(command or "").parse_args(argv)
        return int(import_module(f"ebbtide.cli.{known[options.command]}").run(options))
    except SystemExit as stop:
        return int(stop.code or 0)
    except BrokenPipeError:
        # The reader of the pipe has seen enough; there is nobody left to tell.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - it lives until the end
        return 0
    except KeyboardInterrupt:
        return 130


def take_every_letter() -> None:
    """Let stdout and stderr take every letter, whatever the locale: what it cannot say is no reason to end.

    A file or a pipe gets UTF-8, which YAML, JSON and HTML are; a terminal gets a question mark for a letter that it lacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            # A file's name may hold bytes that are no letters.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def entry() -> NoReturn:
    """Run as a process: no garbage collection for so short a life, and no teardown."""
    gc.disable()
    take_every_letter()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - only the shell's completion asks for it

        argcomplete.autocomplete(parser())
    code = main(sys.argv[1:])
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
