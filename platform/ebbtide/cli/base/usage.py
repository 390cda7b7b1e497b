"""Help of the whole command line, and suggestions for misspelled commands and flags."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, TypeAlias

from ebbtide.cli.base.streams import get_style_codes
from ebbtide.core.tables import wrap_text

USAGE: Final = 2
#: Commands of kubectl, kn and other tools, and Ebbtide's own.
OF_OTHER_TOOLS: Final = {
    "create": "apply",
    "deploy": "apply",
    "get": "list",
    "ls": "list",
    "ps": "list",
    "rm": "delete",
    "status": "describe",
    "version": "--version",
}
#: Title, and commands (name, module, one line of help).
Group: TypeAlias = tuple[str, tuple[tuple[str, str, str], ...]]
#: Commands of each group with their line of help, so that the help of the command line is one screen.
SHOWN: Final = 4


def format_help(
    program: str, description: str, groups: Iterable[Group], commands: Iterable[tuple[str, str]], epilog: str
) -> str:
    """Return the help, at most 80 columns wide and one screen long: the main commands of each group, and the names of others."""
    texts = dict(commands)
    colors = get_style_codes(sys.stdout)
    lines = [f"usage: {program} [--demo] COMMAND [options]", "", description]
    for title, rows in groups:
        names = [name for name, *_ in rows if name in texts]
        lines += ["", f"{colors['bold']}{title}{colors['end']}"]
        lines += [f"  {name:<12}  {texts[name]}" for name in names[:SHOWN]]
        if others := ", ".join(names[SHOWN:]):
            lines += wrap_text(f"  {'also':<12}  {others}", 80).splitlines()
        for name in names:
            del texts[name]
    if texts:
        lines += ["", f"{colors['bold']}Other packages{colors['end']}"]
        lines += [f"  {name:<12}  {text}" for name, text in texts.items()]
    lines += [
        "",
        f"{colors['bold']}Options{colors['end']}",
        "  --demo        Run a command on a simulated cluster, with no kubeconfig",
        "  --version     Show the version",
        f"  -h, --help    Show this help; for a command and its example: {program} list -h",
        "",
        *epilog.split("\n"),
    ]
    return "".join(f"{line}\n" for line in lines)


def format_suggestion(word: str, names: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the names that resemble a word, or an empty string."""
    matches = get_close_matches(word, sorted(set(names)), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""


def report_unknown_command(word: str, names: Iterable[str]) -> int:
    """Print that a command does not exist, and return the exit code."""
    suggestion = f"; run ebbtide {OF_OTHER_TOOLS[word]}" if word in OF_OTHER_TOOLS else format_suggestion(word, names)
    sys.stderr.write(
        f"ebbtide: error: unknown command {word}{suggestion}\n"
        "usage: ebbtide [--demo] COMMAND [options]; for all commands, run ebbtide --help\n"
    )
    return USAGE


def report_early_flag(flag: str) -> int:
    """Print that a flag is before the command, and return the exit code."""
    sys.stderr.write(
        f"ebbtide: error: unknown flag {flag} before the command: put it after the command, as in ebbtide list {flag}\n"
        "usage: ebbtide [--demo] COMMAND [options]; for all commands, run ebbtide --help\n"
    )
    return USAGE


def report_unknown_arguments(command: str, words: list[str], flags: Iterable[str]) -> int:
    """Print that arguments of a command are unknown, each with the flags that resemble it; return the exit code."""
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name != "-":
            text = f"unknown flag {name}{format_suggestion(name, flags)}"
        else:
            text = f"unexpected argument {word}"
        sys.stderr.write(f"ebbtide {command}: error: {text}\n")
    sys.stderr.write(f"usage: ebbtide {command} [options]; for all options, run ebbtide {command} --help\n")
    return USAGE
