"""Parser of command lines of Run:ai, by a table of flags.

Parsing follows spf13/pflag, which Run:ai uses: ``--flag value``, ``--flag=value``, ``-g 1``, ``-g1``, and boolean flags that
take a value only after ``=``. argparse would stop at the first error; this parser reports all of them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ebbtide.core.base.problems import shorten_text
from ebbtide.core.readers.table import DISTRIBUTED, Draft, FieldRow, apply_row, set_at, split_path

WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER: Final = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")
#: Flags of ``runai inference distributed submit`` only.
DISTRIBUTED_FLAGS: Final = ("--workers", "--leader-", "--worker-", "--no-leader")
#: Values of boolean flags, as strconv.ParseBool accepts them.
TRUTHS: Final = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
#: Flags of older versions or of other commands, with the corresponding supported flag.
HABITS: Final = {
    "--target": "--metric-threshold",
    "--gpu": "--gpu-devices-request",
    "--cpu": "--cpu-core-request",
    "--memory": "--cpu-memory-request",
    "--env": "--environment-variable",
    "--namespace": "--project",
    "--pvc": "--existing-pvc",
    "--volume": "--existing-pvc",
    "--shm": "--large-shm",
    "--priority-class": "--priority",
}


# Formats of text.


def _parse_whole(text: str) -> int | None:
    return int(text) if WHOLE.fullmatch(text) else None


def _parse_decimal(text: str) -> float | None:
    return _parse_whole(text) if WHOLE.fullmatch(text) else float(text) if NUMBER.fullmatch(text) else None


def parse_list(text: str) -> list[str] | None:
    """Return the parts of a comma-separated list, None if it has none."""
    return [part.strip() for part in text.split(",") if part.strip()] or None


def parse_pair(text: str) -> tuple[str, str] | None:
    """Return the key and the value of ``KEY=VALUE``, None for any other text."""
    key, equals, value = text.partition("=")
    return (key, value) if equals and key else None


class FlagFormat(NamedTuple):
    """One format of a flag's text: placeholder for the usage, conversion (None if invalid), and the expected format."""

    placeholder: str
    read: Callable[[str], Any]
    expected: str = ""


#: The formats of a flag's text.
FORMS: Final = {
    "text": FlagFormat("TEXT", str),
    "whole": FlagFormat("N", _parse_whole, "a whole number"),
    "number": FlagFormat("NUMBER", _parse_decimal, "a number"),
    "list": FlagFormat("A,B", parse_list, "a comma-separated list with at least one value"),
    "pair": FlagFormat("KEY=VALUE", parse_pair, "KEY=VALUE"),
    "fields": FlagFormat("KEY=VALUE,…", str),
    "switch": FlagFormat("", TRUTHS.get, "true or false"),
}
#: The formats of one key's text in ``claimname=data,path=/data``.
PART_FORMS: Final = {
    "text": FlagFormat("", str, "a non-empty string"),
    "whole": FlagFormat("", _parse_whole, "a whole number"),
    "list": FlagFormat("", lambda text: [name for name in text.split(":") if name] or None, "names separated by :"),
    "true": FlagFormat("", TRUTHS.get, "true or false, or have no value"),
}


@dataclass(frozen=True, slots=True)
class Flag(FieldRow):
    """One flag, as used by the reader, the usage text, and shell completion."""

    kind: str = "text"
    help: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()


# Parsing of arguments.


class GivenFlag(NamedTuple):
    """One flag of a command line, with its text, or None for a boolean flag without a value."""

    flag: Flag
    text: str | None


def take_arguments(draft: Draft, words: list[str], table: Mapping[str, Flag]) -> list[GivenFlag]:
    """Set the name and the fields of a table's flags in a draft, and return the flags."""
    parser = _ArgumentParser(draft, words, table)
    for given_flag in parser.flags:
        _take_flag(draft, given_flag)
    _set_name(draft, parser.names)
    return parser.flags


def split_at_dashes(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Return the arguments before ``--``, and those after it, or None without ``--``."""
    if "--" not in argv:
        return argv, None
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


class _ArgumentParser:
    """The names and the flags among the arguments of one call, whose problems go to the draft."""

    def __init__(self, draft: Draft, words: list[str], table: Mapping[str, Flag]) -> None:
        self.names: list[str] = []
        self.flags: list[GivenFlag] = []
        self._draft, self._table = draft, table
        self._rest = deque(words)
        while self._rest:
            self._parse_word(self._rest.popleft())

    def _parse_word(self, word: str) -> None:
        if not word.startswith("-") or word == "-":
            self.names.append(word)
        elif word.startswith("--") or f"-{word.partition('=')[0]}" in self._table:
            # A long flag may have one dash, as in Run:ai's quickstart of 2.25: pflag would read its first letter as a flag.
            self._parse_long_flag(word)
        else:
            self._parse_short_flags(word)

    def _parse_long_flag(self, word: str) -> None:
        name, equals, text = word.partition("=")
        flag = self._table.get(name)
        if flag is None:
            _refuse_unknown_flag(self._draft, name, self._table)
            if not equals and self._rest and not self._rest[0].startswith("-"):
                # The value of an unknown flag would otherwise be read as a second name.
                self._rest.popleft()
        elif equals:
            self.flags.append(GivenFlag(flag, text))
        else:
            self._add_flag(flag)

    def _parse_short_flags(self, word: str) -> None:
        """Parse ``-g 1``, ``-g1``, ``-g=1``, or combined boolean flags like ``-qd``."""
        for place in range(1, len(word)):
            flag = self._table.get("-" + word[place])
            if flag is None:
                _refuse_unknown_flag(self._draft, "-" + word[place], self._table)
                return
            rest = word[place + 1 :]
            if rest.startswith("=") or (rest and flag.kind != "switch"):
                self.flags.append(GivenFlag(flag, rest.removeprefix("=")))
                return
            self._add_flag(flag)

    def _add_flag(self, flag: Flag) -> None:
        """Add a flag; the next argument is its value, unless it is a boolean flag."""
        if flag.kind == "switch":
            self.flags.append(GivenFlag(flag, None))
        elif not self._rest or _is_flag(self._rest[0], self._table):
            _report_missing_value(self._draft, flag)
            self._draft.unread.update(flag.fields)
        else:
            self.flags.append(GivenFlag(flag, self._rest.popleft()))


def _is_flag(word: str, table: Mapping[str, Flag]) -> bool:
    return word.partition("=")[0] in table or (word.startswith("--") and len(word) > len("--"))


def _report_missing_value(draft: Draft, flag: Flag) -> None:
    draft.add_error("FLAGS002", (flag.name,), f"{flag.name} has no value", f"write {_flag_syntax(flag)}")


def _refuse_unknown_flag(draft: Draft, name: str, table: Mapping[str, Flag]) -> None:
    from difflib import get_close_matches

    if name.startswith(DISTRIBUTED_FLAGS):
        draft.add_error(DISTRIBUTED[0], (name,), *DISTRIBUTED[1:])
        return
    suggestion = HABITS.get(name, "-" + name)
    if suggestion not in table:
        suggestion = next(iter(get_close_matches(name, table, 1, 0.7)), "") if name.startswith("--") else ""
    hint = f"did you mean {suggestion}?" if suggestion else "see the list of flags with --help"
    draft.add_error("FLAGS001", (name,), f"unknown flag {shorten_text(name)}", hint)
    draft.unread.update(table[suggestion].fields if suggestion else ())


# Conversion of flags to the native document.


def _take_flag(draft: Draft, given_flag: GivenFlag) -> None:
    flag, where = given_flag.flag, (given_flag.flag.name,)
    if not flag.many and flag.name in draft.values_by_name:
        message = f"{flag.name} is set more than once; as in Run:ai, the last value is used"
        draft.add_warning("FLAGS004", where, message, "keep one of them")
    draft.values_by_name[flag.name] = given_flag.text or ""
    with draft.reading_field(flag):
        value = _convert_value(draft, flag, given_flag.text)
        if value is not None and flag.parts and flag.take is None:
            value = parse_entry(draft, flag, value)
    if value is not None:
        apply_row(draft, flag, value, where)


def _convert_value(draft: Draft, flag: Flag, text: str | None) -> Any:
    """Return the converted value of a flag, or None after reporting a problem."""
    form = FORMS[flag.kind]
    if flag.kind == "switch" and text is None:
        return True
    if not text and flag.kind != "switch":
        _report_missing_value(draft, flag)
        return None
    value = form.read(text or "")
    if value is None:
        # The older client of Run:ai has one flag for devices and for a fraction of one.
        is_fraction = flag.name == "--gpu-devices-request" and 0 < (_parse_decimal(text or "") or 0) < 1
        message = f"invalid value {shorten_text(repr(text))} of {flag.name}: must be {form.expected}"
        fix = f"use --gpu-portion-request {text}" if is_fraction else f"write {_flag_syntax(flag)}"
        draft.add_error("SPEC002", (flag.name,), message, fix)
    return value


def parse_entry(draft: Draft, flag: Flag, text: str) -> dict[str, Any] | None:
    """Return the native entry of ``claimname=data,path=/data,readonly``, or None after reporting problems."""
    entry: dict[str, Any] = {}
    keys: set[str] = set()
    problems_before = len(draft.problems)
    where = (flag.name,)
    for piece in text.split(","):
        key, equals, written = piece.partition("=")
        key = key.strip()
        part = flag.parts.get(key)
        if part is None:
            message = f"unknown key {shorten_text(key)} of {flag.name}"
            draft.add_error("SPEC001", where, message, f"use one of {', '.join(flag.parts)}")
            continue
        keys.add(key)
        form = PART_FORMS[part.kind]
        if not equals and part.kind == "true":
            written = "true"
        value = form.read(written) if written else None
        if value is None:
            wrong = f" {shorten_text(repr(written))}" if equals else ""
            message = f"invalid {key}{wrong}: must be {form.expected}"
            draft.add_error("SPEC002", where, message, f"write {_flag_syntax(flag)}")
            continue
        set_at(entry, split_path(part.to), value)
    for key, part in flag.parts.items():
        if part.needed and key not in keys:
            draft.add_error("SPEC003", where, f"{key} of {flag.name} is missing", f"add {key}=…: {_flag_syntax(flag)}")
    return entry if len(draft.problems) == problems_before else None


def _set_name(draft: Draft, names: list[str]) -> None:
    where = ("NAME",)
    if not names and "--name-prefix" not in draft.values_by_name:
        draft.add_error("SPEC003", where, "the workload has no name", "put the name first: chat --image …")
    for extra in names[1:]:
        hint = "put the container's command after --"
        if extra in TRUTHS:
            hint = f"set the value of a boolean flag with an equals sign: --large-shm={extra}"
        draft.add_error("FLAGS003", where, f"unexpected argument {shorten_text(repr(extra))}", hint)
    if names:
        draft.set_field(("metadata", "name"), names[0], where)


def parse_port(draft: Draft, flag: Flag, text: str) -> dict[str, Any]:
    """Return the entry of a serving port, ``8000`` or ``container=8000,…``; empty after reporting problems."""
    port = _parse_whole(text)
    if port is None and "=" not in text:
        message = f"invalid port {shorten_text(repr(text))}"
        draft.add_error("SPEC002", (flag.name,), message, "write 8000, or container=8000,…")
        return {}
    return parse_entry(draft, flag, text) or {} if port is None else {"container": port}


def _flag_syntax(flag: Flag) -> str:
    """Return the syntax of a flag, such as ``--gpu-devices-request N``."""
    form = f"{{{'|'.join(flag.choices)}}}" if flag.choices else FORMS[flag.kind].placeholder
    if flag.parts:
        form = ",".join(f"{key}=…" for key in flag.parts)
    return f"{flag.name} {form}".strip()
