"""Parallel rendering of a large input: split it between documents, render the sections in processes, join the results.

The output is identical to that of one process. If a section has an error, two sections conflict or a process fails,
``rendered`` returns None and the caller renders the whole input in one process. An input with errors therefore takes
longer, and a problem that concerns several documents is never reported twice.

A split between documents is exact: the reader, like kubectl, ends a document at every line that starts with ``---``,
in any context, and parses each document separately.
"""

from __future__ import annotations

import marshal
import os
import signal
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from ebbtide import manifests
from ebbtide.base.problems import Problem, has_errors
from ebbtide.documents.check import OWN, Batch, object_identity
from ebbtide.documents.quota import QuotaDemand
from ebbtide.documents.texts import load_parsed
from ebbtide.manifests.writer import SEPARATOR
from ebbtide.readers.loaded import LoadedDocument
from ebbtide.readers.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path as Place
    from ebbtide.cli.common import Source
    from ebbtide.profile.models import Profile

    Rendered = tuple[list[str], list[Problem]]
    #: Kind, namespace, name.
    Identity = tuple[str, str, str]

#: Maximum number of processes. More save little time, because one process joins and prints the results.
MAX_PROCESSES: Final = 4
#: Getter of a problem's constructor arguments, with the document last.
AS_ARGUMENTS: Final = attrgetter("code", "field", "message", "fix", "severity", "line", "document")
#: Threads of this process on Linux; a fork of a process with several threads can deadlock.
THREADS: Final = "/proc/self/task"


class RenderedPart(NamedTuple):
    """Result of rendering one group of documents, as plain data that can pass through a pipe."""

    #: Number of documents, including those of another kind.
    documents: int
    #: Every object as YAML, each after a separator.
    text: str
    #: Objects that other groups may produce as well, each with its start and end in ``text``.
    shared: list[tuple[Identity, int, int]]
    services: int
    #: Namespace and name of every workload, and of every Service that a workload produces.
    names: list[tuple[str, str]]
    #: Number of occurrences of each warning that a command prints only once.
    warning_counts: list[tuple[tuple[str, Place], int]]
    #: Warnings to print, as arguments of ``Problem``, with a key if a command prints the warning only once.
    warnings: list[tuple[tuple[str, Place] | None, tuple[Any, ...]]]
    #: Fields of ``QuotaDemand`` by project, with the name and line of the last document.
    demands: list[tuple[str, tuple[Any, ...]]]


def render_parts(sources: list[Source], profile: Profile, smallest: int) -> Rendered | None:
    """Return the same manifests and problems as one process, or None if one process must render the input."""
    size = sum(len(source.text) for source in sources)
    groups = split_sources(sources, min(count_processors(), MAX_PROCESSES, size // max(smallest, 1)))
    if len(groups) < 2:  # noqa: PLR2004 - a single group needs no second process
        return None
    parts = render_concurrently(groups, profile)
    return None if parts is None else join_parts(parts, profile, sources)


def count_processors() -> int:
    """Return how many processes may run concurrently: 1 if fork is unavailable or unsafe because of threads."""
    try:
        return len(os.sched_getaffinity(0)) if len(list(Path(THREADS).iterdir())) == 1 else 1
    except (AttributeError, OSError):  # not Linux, or no /proc
        return 1


def split_sources(sources: list[Source], count: int) -> list[list[Source]]:
    """Distribute the sources over up to ``count`` groups of similar size; a single source is split into sections."""
    if len(sources) == 1:
        return [[piece] for piece in _split_source(sources[0], count)]
    groups: list[list[Source]] = [[]]
    total = sum(len(source.text) for source in sources)
    bytes_done = 0
    for source in sources:
        if groups[-1] and len(groups) < count and bytes_done * count >= total * len(groups):
            groups.append([])
        groups[-1].append(source)
        bytes_done += len(source.text)
    return groups


def _split_source(source: Source, count: int) -> Iterator[Source]:
    text, start, line = source.text, 0, source.first_line
    for number in range(1, count):
        end = text.find(b"\n---", len(text) * number // count) + 1
        if end > start:
            yield replace(source, text=text[start:end], first_line=line)
            line += text.count(b"\n", start, end)
            start = end
    yield replace(source, text=text[start:], first_line=line)


def render_part(sources: list[Source], profile: Profile) -> RenderedPart | None:
    """Render the documents of ``sources``, or return None if one of them has an error."""
    batch = Batch(profile, fold=True)
    documents = length = 0
    texts: list[str] = []
    shared: list[tuple[Identity, int, int]] = []
    warnings: list[tuple[tuple[str, Place] | None, tuple[Any, ...]]] = []
    for loaded in _load_documents(sources, profile):
        if loaded is None:
            documents += 1
            continue
        count_before = len(batch.warning_counts)
        objects, _, problems = batch.add_unsorted(loaded)
        if has_errors(problems):
            return None
        # The document's own problems come first; each of the others is reported here for the first time.
        keys = [*[None] * len(loaded.problems), *islice(batch.warning_counts, count_before, None)]
        keyed = sorted(zip(keys, problems, strict=True), key=lambda pair: pair[1].line)
        warnings.extend((key, AS_ARGUMENTS(problem)) for key, problem in keyed)
        for item in objects:
            text = SEPARATOR + manifests.write_document(item)
            texts.append(text)
            if item["kind"] not in OWN:
                shared.append((object_identity(item), length, length + len(text)))
            length += len(text)
    return RenderedPart(
        documents,
        "".join(texts),
        shared,
        batch.services,
        [*batch.names, *batch.makers],
        list(batch.warning_counts.items()),
        warnings,
        [(project, _demand_tuple(demand)) for project, demand in batch.demands.items()],
    )


def _load_documents(sources: list[Source], profile: Profile) -> Iterator[LoadedDocument | None]:
    """Yield the specs of each document, and None after each document."""
    for source in sources:
        for document in manifests.read_documents(source.text, source.name, source.first_line):
            yield from load_parsed(document, profile, strictly=source.strictly)
            yield None


def _demand_tuple(demand: QuotaDemand) -> tuple[Any, ...]:
    assert demand.last is not None
    line = demand.last.line(demand.where)
    return demand.requests, demand.where, demand.last.name, line


def join_parts(parts: list[RenderedPart], profile: Profile, sources: list[Source]) -> Rendered | None:
    """Return the manifests and problems of all parts in order, or None if two parts conflict."""
    batch = Batch(profile, fold=True)
    cut_name = sources[0].name if len(sources) == 1 else None
    documents = 0
    names: set[tuple[str, str]] = set()
    shared_texts: dict[Identity, str] = {}
    texts: list[str] = []
    problems: list[Problem] = []
    for rendered_part in parts:
        if not names.isdisjoint(rendered_part.names):
            return None
        names.update(rendered_part.names)
        start = 0
        for key, begin, end in rendered_part.shared:
            text = rendered_part.text[begin:end]
            before = shared_texts.get(key)
            if before is None:
                shared_texts[key] = text
            elif before == text:
                texts.append(rendered_part.text[start:begin])
                start = end
            else:
                return None
        texts.append(rendered_part.text[start:])
        for warning_key, (*fields, name) in rendered_part.warnings:
            if warning_key not in batch.warning_counts:
                problems.append(Problem(*fields, document=_renumber_document(name, cut_name, documents)))
        for warning_key, count in rendered_part.warning_counts:
            batch.warning_counts[warning_key] = batch.warning_counts.get(warning_key, 0) + count
        batch.services += rendered_part.services
        for project, (requested, path, name, line) in rendered_part.demands:
            last = _make_stand_in(_renumber_document(name, cut_name, documents), line)
            batch.demands.setdefault(project, QuotaDemand()).add_later(QuotaDemand(requested, last, path))
        documents += rendered_part.documents
    problems += batch.batch_problems()
    # No separator precedes the first object.
    first = next((index for index, text in enumerate(texts) if text), 0)
    texts[first] = texts[first].removeprefix(SEPARATOR)
    return texts, problems


def _make_stand_in(name: str, line: int) -> LoadedDocument:
    """Return a stand-in for a demand's last document, with its name and the line of the project's field."""
    return LoadedDocument(name, Reading({}), line=lambda _: line)


def _renumber_document(name: str, cut_name: str | None, preceding: int) -> str:
    """Return a document's name in the whole file: ``f#2[0]`` of a section after three documents is ``f#5[0]``."""
    if cut_name is None or preceding == 0:
        return name
    number, bracket, index = name.removeprefix(cut_name).removeprefix("#").partition("[")
    return f"{cut_name}#{int(number or 1) + preceding}{bracket}{index}"


class _Child(NamedTuple):
    """Child process that renders one group, and the read end of its pipe."""

    process: int
    pipe: int


def render_concurrently(groups: list[list[Source]], profile: Profile) -> list[RenderedPart] | None:
    """Return the part of each group, or None if one fails. Child processes render all groups except the first."""
    children: list[_Child] = []
    parts: list[RenderedPart] = []
    try:
        for group in groups[1:]:
            children.append(_start_child(group, profile))  # noqa: PERF401 - if a start fails, those before it must be stopped
        first_part = render_part(groups[0], profile)
        if first_part is None:
            return None
        parts.append(first_part)
        for child in children:
            with open(child.pipe, "rb", closefd=False) as stream:
                data = stream.read()
            if not data:
                return None
            parts.append(RenderedPart(*marshal.loads(data)))  # noqa: S302 - written by our child process
            del data  # as large as the part
    except (OSError, EOFError):  # no process available, or a process ended before its answer was complete
        return None
    finally:
        for child in children:
            _end_child(child)
    return parts


def _start_child(group: list[Source], profile: Profile) -> _Child:
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read_end)
        _run_child(group, profile, write_end)
    os.close(write_end)
    return _Child(process, read_end)


def _run_child(group: list[Source], profile: Profile, pipe: int) -> NoReturn:
    """Render a part and write it, completely or not at all. The parent repeats failed work and reports its errors."""
    try:
        result = render_part(group, profile)
        if result is not None:
            data = marshal.dumps(tuple(result))
            with open(pipe, "wb") as stream:
                stream.write(data)
    finally:
        # Do not flush the parent's buffers or run its exit handlers.
        os._exit(0)


def _end_child(child: _Child) -> None:
    """Stop and reap a child process."""
    os.close(child.pipe)
    os.kill(child.process, signal.SIGKILL)
    os.waitpid(child.process, 0)
