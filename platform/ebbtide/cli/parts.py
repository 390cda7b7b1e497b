"""A large render by several processes: the input is cut between documents, and what each part gives is joined.

What one process prints is the definition. Only what is fine is joined here: where a part has an error, where two
parts clash, or where a process is lost, ``rendered`` gives nothing, and the caller does everything by itself. So an
input with errors takes longer, and no rule about several documents is told twice.

A cut is exact: the reader, like kubectl, ends a document at every line that starts with ``---``, whatever is
around it, and reads each by itself.
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
from ebbtide.base.problems import Problem, failed
from ebbtide.documents.check import OWN, Batch, identity
from ebbtide.documents.quota import Demand
from ebbtide.documents.texts import of_document
from ebbtide.manifests.writer import SEPARATOR
from ebbtide.readers.loaded import Loaded
from ebbtide.readers.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path as Place
    from ebbtide.cli.common import Source
    from ebbtide.profile.models import Profile

    Rendered = tuple[list[str], list[Problem]]
    #: Kind, namespace, name.
    Identity = tuple[str, str, str]

#: More processes gain little: what is joined and printed is done by one.
MOST: Final = 4
#: A problem as the arguments that make it, the document last.
AS_ARGUMENTS: Final = attrgetter("code", "field", "message", "fix", "severity", "line", "document")
#: Where Linux lists the threads of this process; a fork in the midst of threads may hang.
THREADS: Final = "/proc/self/task"


class Part(NamedTuple):
    """What some of the documents give, as plain data: it comes through a pipe."""

    #: How many documents there are, those included that are no specs.
    documents: int
    #: Every object, each after a separator.
    text: str
    #: Of the objects that other parts may make too, where they stand in the text.
    shared: list[tuple[Identity, int, int]]
    services: int
    #: Namespace and name of every workload, and of every Service that comes of one.
    names: list[tuple[str, str]]
    #: How often there was each warning that is told only once in a call.
    told: list[tuple[tuple[str, Place], int]]
    #: The warnings to print, as arguments of ``Problem``; with its key if it is told only once.
    warnings: list[tuple[tuple[str, Place] | None, tuple[Any, ...]]]
    #: By project: the fields of ``Demand``, with the name and line of its last document.
    demands: list[tuple[str, tuple[Any, ...]]]


def rendered(sources: list[Source], profile: Profile, smallest: int) -> Rendered | None:
    """Return the manifests and problems as one process would, or None where one process must do it."""
    size = sum(len(source.text) for source in sources)
    groups = cut(sources, min(processors(), MOST, size // max(smallest, 1)))
    if len(groups) < 2:  # noqa: PLR2004 - a part of its own is for one process
        return None
    parts = made_side_by_side(groups, profile)
    return None if parts is None else joined(parts, profile, sources)


def processors() -> int:
    """Return how many processes may run side by side: one where there is no fork, or threads stand in its way."""
    try:
        return len(os.sched_getaffinity(0)) if len(list(Path(THREADS).iterdir())) == 1 else 1
    except (AttributeError, OSError):  # not Linux, or no /proc
        return 1


def cut(sources: list[Source], count: int) -> list[list[Source]]:
    """Return the sources in up to ``count`` groups of about one size: a single one is cut, several are dealt out."""
    if len(sources) == 1:
        return [[piece] for piece in _pieces(sources[0], count)]
    groups: list[list[Source]] = [[]]
    total = sum(len(source.text) for source in sources)
    done = 0
    for source in sources:
        if groups[-1] and len(groups) < count and done * count >= total * len(groups):
            groups.append([])
        groups[-1].append(source)
        done += len(source.text)
    return groups


def _pieces(source: Source, count: int) -> Iterator[Source]:
    text, start, line = source.text, 0, source.first_line
    for number in range(1, count):
        end = text.find(b"\n---", len(text) * number // count) + 1
        if end > start:
            yield replace(source, text=text[start:end], first_line=line)
            line += text.count(b"\n", start, end)
            start = end
    yield replace(source, text=text[start:], first_line=line)


def part(sources: list[Source], profile: Profile) -> Part | None:
    """Return what the documents of some sources give, or None if there is an error in any."""
    batch = Batch(profile, fold=True)
    documents = length = 0
    texts: list[str] = []
    shared: list[tuple[Identity, int, int]] = []
    warnings: list[tuple[tuple[str, Place] | None, tuple[Any, ...]]] = []
    for loaded in _loaded(sources, profile):
        if loaded is None:
            documents += 1
            continue
        told = len(batch.told)
        objects, _, found = batch.add(loaded)
        if failed(found):
            return None
        # A document's own come first; of the others, each has just been told for the first time.
        keys = [*[None] * len(loaded.problems), *islice(batch.told, told, None)]
        warnings.extend(zip(keys, map(AS_ARGUMENTS, found), strict=True))
        for item in objects:
            text = SEPARATOR + manifests.write_one(item)
            texts.append(text)
            if item["kind"] not in OWN:
                shared.append((identity(item), length, length + len(text)))
            length += len(text)
    return Part(
        documents,
        "".join(texts),
        shared,
        batch.services,
        [*batch.names, *batch.makers],
        list(batch.told.items()),
        warnings,
        [(project, _demand_tuple(demand)) for project, demand in batch.demands.items()],
    )


def _loaded(sources: list[Source], profile: Profile) -> Iterator[Loaded | None]:
    """Yield what the documents hold, and None after each of them."""
    for source in sources:
        for document in manifests.read(source.text, source.name, source.first_line):
            yield from of_document(document, profile, strictly=source.strictly)
            yield None


def _demand_tuple(demand: Demand) -> tuple[Any, ...]:
    assert demand.last is not None
    line = demand.last.line(demand.where)
    return demand.asked, demand.where, demand.last.name, line


def joined(parts: list[Part], profile: Profile, sources: list[Source]) -> Rendered | None:
    """Return the manifests and problems of all parts in order, or None where two of them clash."""
    batch = Batch(profile, fold=True)
    cut_name = sources[0].name if len(sources) == 1 else None
    documents = 0
    names: set[tuple[str, str]] = set()
    seen: dict[Identity, str] = {}
    texts: list[str] = []
    problems: list[Problem] = []
    for each in parts:
        if not names.isdisjoint(each.names):
            return None
        names.update(each.names)
        start = 0
        for key, begin, end in each.shared:
            text = each.text[begin:end]
            before = seen.get(key)
            if before is None:
                seen[key] = text
            elif before == text:
                texts.append(each.text[start:begin])
                start = end
            else:
                return None
        texts.append(each.text[start:])
        for told_once, (*fields, name) in each.warnings:
            if told_once not in batch.told:
                problems.append(Problem(*fields, document=_numbered(name, cut_name, documents)))
        for told_once, count in each.told:
            batch.told[told_once] = batch.told.get(told_once, 0) + count
        batch.services += each.services
        for project, (asked, where, name, line) in each.demands:
            last = _last(_numbered(name, cut_name, documents), line)
            batch.demands.setdefault(project, Demand()).join(Demand(asked, last, where))
        documents += each.documents
    problems += batch.finish()
    # The first object of all has no separator before it.
    first = next((place for place, text in enumerate(texts) if text), 0)
    texts[first] = texts[first].removeprefix(SEPARATOR)
    return texts, problems


def _last(name: str, line: int) -> Loaded:
    """Return what a demand keeps of its last document: the name, and the line of the project's field."""
    return Loaded(name, Reading({}), line=lambda _: line)


def _numbered(name: str, cut_name: str | None, before: int) -> str:
    """Return a document's name in the whole file: ``f#2[0]`` of a piece after three documents is ``f#5[0]``."""
    if cut_name is None or before == 0:
        return name
    number, bracket, item = name.removeprefix(cut_name).removeprefix("#").partition("[")
    return f"{cut_name}#{int(number or 1) + before}{bracket}{item}"


class _Child(NamedTuple):
    """A process at work on one part, and the end of the pipe that its part comes from."""

    process: int
    pipe: int


def made_side_by_side(groups: list[list[Source]], profile: Profile) -> list[Part] | None:
    """Return each group's part, all but the first made by children; None if any has an error or is lost."""
    children: list[_Child] = []
    found: list[Part] = []
    try:
        for group in groups[1:]:
            children.append(_start(group, profile))  # noqa: PERF401 - each is known before the next one may fail
        own = part(groups[0], profile)
        if own is None:
            return None
        found.append(own)
        for child in children:
            with open(child.pipe, "rb", closefd=False) as stream:
                data = stream.read()
            if not data:
                return None
            found.append(Part(*marshal.loads(data)))  # noqa: S302 - it comes from our own child
            del data  # as large as the part itself
    except (OSError, EOFError):  # no process to be had, or one that ended in the midst of its answer
        return None
    finally:
        for child in children:
            _end(child)
    return found


def _start(group: list[Source], profile: Profile) -> _Child:
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(ours)
        _work(group, profile, theirs)
    os.close(theirs)
    return _Child(process, ours)


def _work(group: list[Source], profile: Profile, pipe: int) -> NoReturn:
    """Make a part and write it, whole or not at all; whatever goes wrong, the parent finds it again and tells it."""
    try:
        made = part(group, profile)
        if made is not None:
            data = marshal.dumps(tuple(made))
            with open(pipe, "wb") as stream:
                stream.write(data)
    finally:
        # Nothing of the parent's is flushed or torn down here.
        os._exit(0)


def _end(child: _Child) -> None:
    """Stop a child that is no longer needed, and take leave of one that is done."""
    os.close(child.pipe)
    os.kill(child.process, signal.SIGKILL)
    os.waitpid(child.process, 0)
