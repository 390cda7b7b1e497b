"""Input and output that several commands share: sources, documents, the profile, and problems as text."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from ebbtide.base.bodies import serialize_body
from ebbtide.base.problems import Problem, has_errors, limit_problems
from ebbtide.cli.options import PROFILE_VARIABLE
from ebbtide.documents import profiles
from ebbtide.documents.texts import load_text, unparsed_document
from ebbtide.profile.built_in import BUILT_IN_NAME, BUILT_INS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebbtide.cli.options import Options
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument

EXTENSIONS: Final = (".yaml", ".yml", ".json")
STDIN: Final = "-"
COLORS: Final = {
    "error": "\x1b[31m",
    "good": "\x1b[32m",
    "warning": "\x1b[33m",
    "fix": "\x1b[36m",
    "bold": "\x1b[1m",
    "end": "\x1b[0m",
}


def read_profile(option: str) -> Profile:
    """Return the profile that the option selects, or print its problems and exit with code 1."""
    profile = try_read_profile(option)
    if profile is None:
        raise SystemExit(1)
    return profile


def choose_profile(option: str) -> str:
    """Return the profile of a command: ``--profile``, else that of the environment, else the default built-in one."""
    return option or os.environ.get(PROFILE_VARIABLE) or BUILT_IN_NAME


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
    """Bytes of a file, of stdin, or of a section of either that starts on ``first_line``."""

    name: str
    text: bytes
    #: True if a document of another kind is a problem. It is not in a directory, which may contain a profile as well.
    strictly: bool = True
    first_line: int = 1
    #: Reason why the source cannot be read.
    unread: Problem | None = None


def read_sources(files: Iterable[str]) -> Iterator[Source]:
    """Read the named files, the files in the named directories, and stdin for ``-``."""
    for name in files:
        if name == STDIN:
            yield Source("stdin", sys.stdin.buffer.read())
            continue
        path = Path(name)
        if path.is_dir():
            for file in sorted(entry for entry in path.rglob("*") if entry.suffix in EXTENSIONS):
                yield _read_source(file, strictly=False)
        else:
            yield _read_source(path, strictly=True)


def _read_source(path: Path, *, strictly: bool) -> Source:
    name = str(path)
    try:
        return Source(name, path.read_bytes(), strictly)
    except OSError as error:
        problem = Problem(
            "FIL001",
            (),
            f"cannot read the file: {(error.strerror or 'unknown error').lower()}",
            "check the file name and its permissions",
            document=name,
        )
        return Source(name, b"", strictly, unread=problem)


def load_documents(sources: Iterable[Source], profile: Profile) -> Iterator[LoadedDocument]:
    """Yield every document of the sources; a source that cannot be read becomes a document with a problem."""
    for source in sources:
        if source.unread is not None:
            yield unparsed_document(source.name, [source.unread])
        else:
            yield from load_text(
                source.text, source.name, profile, first_line=source.first_line, strictly=source.strictly
            )


def get_color_codes(stream: TextIO) -> dict[str, str]:
    """Return ANSI escape codes by style, or empty strings if the stream is not a terminal."""
    return COLORS if stream.isatty() else dict.fromkeys(COLORS, "")


def print_problems_unless_quiet(problems: Iterable[Problem], options: Options) -> None:
    """Print problems, without warnings if ``--quiet`` is set."""
    print_problems(problem for problem in problems if not (options.quiet and problem.severity == "warning"))


def print_problems(problems: Iterable[Problem], stream: TextIO | None = None) -> None:
    """Print problems as text: severity, code, location, message and fix. Default stream: stderr."""
    output = stream or sys.stderr
    colors = get_color_codes(output)
    for problem in limit_problems([*problems]):
        location = problem.document or "input"
        if problem.line:
            location += f":{problem.line}"
        field = f" {problem.path}" if problem.field else ""
        output.write(
            f"{colors[problem.severity]}{problem.severity}{colors['end']} {colors['bold']}{problem.code}{colors['end']} "
            f"{location}{field}\n    {problem.message}\n"
        )
        if problem.fix:
            output.write(f"    {colors['fix']}fix:{colors['end']} {problem.fix}\n")


def exit_code(problems: Iterable[Problem]) -> int:
    """Return 1 if any problem is an error, else 0."""
    return int(has_errors(problems))


def write_json(value: Any) -> None:
    import json  # noqa: PLC0415 - text output does not need it

    json.dump(serialize_body(value), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
