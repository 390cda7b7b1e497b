"""Input and output that several commands share: sources, documents, the profile, and problems as text."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from ebbtide.cli.base.options import PROFILE_VARIABLE, Options
from ebbtide.cli.base.streams import get_style_codes, get_width
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.problems import Problem, has_errors, limit_problems
from ebbtide.core.base.prose import escape_json, make_printable
from ebbtide.core.documents import profiles
from ebbtide.core.documents.files import is_directory, read_file, read_stdin, unreadable_problem
from ebbtide.core.documents.texts import load_text, unparsed_document
from ebbtide.core.profile.built_in import BUILT_IN_NAME, BUILT_INS
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.tables import wrap_text

if TYPE_CHECKING:
    from ebbtide.cluster.doctor.findings import Finding
    from ebbtide.core.profile.models import Profile

EXTENSIONS: Final = (".yaml", ".yml", ".json")
STDIN: Final = "-"
#: Values of ``--output`` that a program reads together with stderr.
FOR_PROGRAMS: Final = ("json", "sarif", "github")
#: The problem of files without a document: a check of nothing would pass.
NO_DOCUMENTS: Final = Problem(
    "FIL058",
    (),
    "the input has no documents: it is empty, or has only comments or files of other kinds",
    "name a file with a spec",
)


def read_profile(option: str) -> Profile:
    """Return the profile that the option selects, or print its problems and exit with code 1."""
    profile = try_read_profile(option)
    if profile is None:
        raise SystemExit(1)
    return profile


def read_specs_profile(options: Options, files: Iterable[str]) -> tuple[Profile, dict[str, Any]]:
    """Return the profile of a command that reads specs and needs no cluster, with its document, or print problems and exit.

    It is that of ``--profile`` or the environment, else the ``profile.yaml`` next to the specs, which is reported on stderr
    unless the output is for a program, else the built-in one.
    """
    where = find_named_profile(options.profile)
    nearby, problems = ("", []) if where else profiles.find_profile_of_specs(name for name in files if name != STDIN)
    profile: Profile | None = None
    data: dict[str, Any] = {}
    if not problems:
        profile, data, problems = profiles.load_profile_with_data(where or nearby or BUILT_IN_NAME)
        if nearby and profiles.belongs_to_other_tool(data):
            nearby, data, problems = "", BUILT_INS[BUILT_IN_NAME], []
            profile = profiles.load_built_in()
    print_problems(problems)
    if profile is None:
        raise SystemExit(1)
    if nearby and getattr(options, "output", None) not in FOR_PROGRAMS and not getattr(options, "quiet", False):
        sys.stderr.write(f"Profile: {make_printable(nearby)}. To use another, set --profile\n")
    return profile, data


def choose_profile(option: str) -> str:
    """Return the profile of a command: ``--profile``, or that of the environment, or the default."""
    return find_named_profile(option) or BUILT_IN_NAME


def find_named_profile(option: str) -> str:
    """Return the profile that the option or the environment names; empty if none does."""
    return option or os.environ.get(PROFILE_VARIABLE, "")


def try_read_profile(option: str) -> Profile | None:
    """Return the profile that the option selects, or print its problems and return None."""
    path = choose_profile(option)
    if path in BUILT_INS:
        return profiles.load_built_in(path)
    profile, problems = profiles.load_profile(path)
    print_problems(problems)
    return profile


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes of a file or of stdin."""

    name: str
    text: bytes
    #: True if a document of another kind is a problem. It is not in a directory, which may contain a profile as well.
    strictly: bool = True
    #: Reason why the source cannot be read.
    unread: Problem | None = None


def read_sources(files: Iterable[str]) -> Iterator[Source]:
    """Read the named files, the files in the named directories, and stdin for ``-``."""
    for name in files:
        path = Path(name)
        if name == STDIN:
            yield _read_source("stdin", read_stdin, strictly=True)
        elif is_directory(path):
            inside = sorted(file for file in path.rglob("*") if file.suffix in EXTENSIONS and not file.is_dir())
            if not inside:
                yield Source(name, b"", strictly=False)
            for file in inside:
                yield _read_source(str(file), partial(read_file, file, only_regular=True), strictly=False)
        else:
            yield _read_source(name, partial(read_file, path), strictly=True)


def _read_source(name: str, read: Callable[[], bytes], *, strictly: bool) -> Source:
    try:
        return Source(name, read(), strictly)
    except OSError as error:
        return Source(name, b"", strictly, unread=unreadable_problem(error, name))


def load_documents(sources: Iterable[Source], profile: Profile) -> Iterator[LoadedDocument]:
    """Yield every document of the sources; one that cannot be read, or no document at all, becomes one with a problem."""
    found, last = False, ""
    for source in sources:
        empty = source.unread is None
        if source.unread is not None:
            yield unparsed_document(source.name, [source.unread])
        for loaded in load_text(source.text, source.name, profile, strictly=source.strictly):
            empty = False
            yield loaded
        if empty and source.strictly:
            yield unparsed_document(source.name, [replace(NO_DOCUMENTS, document=source.name)])
        found, last = found or source.strictly or not empty, source.name
    if not found:
        yield unparsed_document(last, [replace(NO_DOCUMENTS, document=last)])


def print_problems(problems: Iterable[Problem], stream: TextIO | None = None, *, quiet: bool = False) -> None:
    """Print problems as text: severity, code, location, message and fix; with ``quiet`` only errors. Default: on stderr."""
    output = stream or sys.stderr
    for problem in limit_problems([row for row in problems if not quiet or row.severity == "error"]):
        location = problem.document or "input"
        if problem.line:
            location += f":{problem.line}"
        field = f" {problem.path}" if problem.field else ""
        output.writelines(format_report(problem, location + field, problem.message, output))


def format_report(row: Problem | Finding, heading: str, text: str, stream: TextIO) -> list[str]:
    """Return a problem or a finding as lines: its severity and code with a heading, a text, and the fix."""
    colors = get_style_codes(stream)
    severity = f"{colors[row.severity]}{row.severity}{colors['end']}"
    lines = [f"{severity} {colors['bold']}{row.code}{colors['end']} {make_printable(heading)}"]
    lines.append(f"    {make_printable(text)}")
    if row.fix:
        lines.append(f"    {colors['fix']}fix:{colors['end']} {make_printable(row.fix)}")
    return [wrap_text(f"{line}\n", get_width(stream)) for line in lines]


def exit_code(problems: Iterable[Problem]) -> int:
    """Return 1 if any problem is an error, else 0."""
    return int(has_errors(problems))


def write_json(value: Any) -> None:
    sys.stdout.write(escape_json(json.dumps(serialize_body(value), indent=2, ensure_ascii=False)) + "\n")
