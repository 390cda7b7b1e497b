"""Shared parts of several commands: files to documents, the profile, and problems as text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from ebbtide.base.bodies import serialize
from ebbtide.base.problems import Problem, failed
from ebbtide.documents import profiles
from ebbtide.documents.texts import of_text, unread
from ebbtide.profile.built_in import BUILT_IN_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebbtide.cli.options import Options
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded

ENDINGS: Final = (".yaml", ".yml", ".json")
STDIN: Final = "-"
COLOURS: Final = {
    "error": "\x1b[31m",
    "good": "\x1b[32m",
    "warning": "\x1b[33m",
    "fix": "\x1b[36m",
    "bold": "\x1b[1m",
    "end": "\x1b[0m",
}


def read_profile(where: str) -> Profile:
    """Return the profile, or print what is wrong with it and end the command."""
    profile = profile_or_problems(where)
    if profile is None:
        raise SystemExit(1)
    return profile


def profile_or_problems(where: str) -> Profile | None:
    """Return the profile, or print what is wrong with it."""
    if where == BUILT_IN_NAME:
        return profiles.built_in()
    profile, problems = profiles.read(where)
    show(problems)
    return profile


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a file or of stdin, or of a part of one that starts on ``first_line``."""

    name: str
    text: bytes
    #: Whether a document that is no spec is a problem: a folder may hold its profile beside the specs.
    strictly: bool = True
    first_line: int = 1
    #: Why there are no bytes.
    unread: Problem | None = None


def sources(files: Iterable[str]) -> Iterator[Source]:
    """Yield files, the files of folders, and stdin, read."""
    for name in files:
        if name == STDIN:
            yield Source("stdin", sys.stdin.buffer.read())
            continue
        path = Path(name)
        if path.is_dir():
            for inside in sorted(item for item in path.rglob("*") if item.suffix in ENDINGS):
                yield _source(inside, strictly=False)
        else:
            yield _source(path, strictly=True)


def _source(path: Path, *, strictly: bool) -> Source:
    name = str(path)
    try:
        return Source(name, path.read_bytes(), strictly)
    except OSError as error:
        found = Problem(
            "FIL001",
            (),
            f"the file cannot be read: {(error.strerror or 'unknown reason').lower()}",
            "check the name and the permissions",
            document=name,
        )
        return Source(name, b"", strictly, unread=found)


def documents(found: Iterable[Source], profile: Profile) -> Iterator[Loaded]:
    """Yield every document of the sources; what cannot be read is a problem of its own."""
    for source in found:
        if source.unread is not None:
            yield unread(source.name, [source.unread])
        else:
            yield from of_text(
                source.text, source.name, profile, first_line=source.first_line, strictly=source.strictly
            )


def colours(stream: TextIO) -> dict[str, str]:
    """Return escape codes, which are empty unless the stream is a terminal."""
    return COLOURS if stream.isatty() else dict.fromkeys(COLOURS, "")


def show_unless_quiet(problems: Iterable[Problem], options: Options) -> None:
    """Print problems, without warnings if the user wants none."""
    show(problem for problem in problems if not (options.quiet and problem.severity == "warning"))


def show(problems: Iterable[Problem], stream: TextIO | None = None) -> None:
    """Print problems for a person: place, code, what is wrong, and what to do."""
    out = stream or sys.stderr
    colour = colours(out)
    for problem in problems:
        place = problem.document or "input"
        if problem.line:
            place += f":{problem.line}"
        field = f" {problem.path}" if problem.field else ""
        out.write(
            f"{colour[problem.severity]}{problem.severity}{colour['end']} {colour['bold']}{problem.code}{colour['end']} "
            f"{place}{field}\n    {problem.message}\n"
        )
        if problem.fix:
            out.write(f"    {colour['fix']}fix:{colour['end']} {problem.fix}\n")


def exit_code(problems: Iterable[Problem]) -> int:
    """Return 1 if any problem is an error, else 0."""
    return int(failed(problems))


def write_json(value: Any) -> None:
    import json  # noqa: PLC0415 - text output needs none

    json.dump(serialize(value), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
