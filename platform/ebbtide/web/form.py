"""The form and the text of a spec, in step: what the form shows of a text, and what an edit in the form does to it.

The text is the truth. A form that comes back says what it was made from (its base), so that a change in it is told from
one in the text: the first is made in the text, line by line, and the second shows in the form. Nothing that the form does
not know is lost; it is listed.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.base import metrics
from ebbtide.base.paths import at
from ebbtide.base.problems import Problem, dotted
from ebbtide.documents import load
from ebbtide.documents.check import Batch
from ebbtide.manifests.edit import NotEdited, changed, edited
from ebbtide.readers.fields import names_at
from ebbtide.readers.reading import API_VERSION, KIND
from ebbtide.web.fields import CONDITIONS, controls, groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan
    from ebbtide.web.fields import Block, Control, Group, Kind

#: What an empty text is taken for.
EMPTY: Final = f'apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: ""\nspec: {{}}\n'
#: The largest text of a spec, in characters, and the most changes at once: many times what people write.
LONGEST: Final = 60_000
MOST: Final = 150
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
ON: Final = "on"
THRESHOLD: Final = "spec.autoscaling.metricThreshold"


# One value, as the form has it.


def shown(kind: Kind, value: Any) -> str | None:
    """Return a value as the form shows it; None where a browser could not bring it back as it is."""
    if kind == "zero":
        return ON if value == 0 and not isinstance(value, bool) else ""
    if value is None:
        return ""
    if kind == "flag":
        return (ON if value else "") if isinstance(value, bool) else None
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            return None
        text = shlex.join(value) if kind == "lines" else ", ".join(value)
        if kind != "lines" and (kind != "list" or (meant("list", text) or []) != value):
            return None
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, (str, int, float)):
        text = str(value)
    else:
        return None
    lines = text.split("\n") if kind == "lines" else [text]
    return text if all(line.isprintable() for line in lines) else None


def meant(kind: Kind, text: str) -> Any:
    """Return what a text in the form means; what is no number where one is wanted stays text, for the check to refuse."""
    if kind == "exact":
        return text or None
    text = text.strip()
    if kind == "zero":
        return 0 if text else 1
    if kind == "flag":
        return True if text else None
    if not text:
        return None
    if kind == "list":
        return [item.strip() for item in text.split(",") if item.strip()] or None
    if kind == "truth":
        return {"true": True, "false": False}.get(text, text)
    if kind in {"integer", "number", "amount"} and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def same(value: Any, other: Any) -> bool:
    """Whether two values of a document are one."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


# The text, read.


@dataclass(frozen=True, slots=True)
class Look:
    """What a text says: its document in native form, every problem, and what would be made of it."""

    text: str
    #: In native form; empty where the text cannot be read.
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    documents: tuple[Loaded, ...] = ()
    objects: tuple[Object, ...] = ()
    plan: Plan | None = None
    #: Why the form cannot change it; empty where it can.
    closed: str = ""
    #: Whether the text can be turned into the form that the form can change.
    foreign: bool = False

    @property
    def readable(self) -> bool:
        """Whether the form can show it."""
        return bool(self.data)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity != "error"]


def look(text: str, profile: Profile) -> Look:
    """Read a text, check it and translate it."""
    if len(text) > LONGEST:
        told = Problem("YML006", (), f"the spec is longer than {LONGEST:,} characters", "apply it with ebbtide apply")
        return Look(text, {}, (told,), closed=told.message)
    batch = Batch(profile)
    problems: list[Problem] = []
    objects: list[Object] = []
    documents: list[Loaded] = []
    plan = None
    native = True
    for document in manifests.read(text if text.strip() else EMPTY, "spec"):
        loaded = load(document.data, profile, name=document.name, line=document.line, problems=document.problems)
        made, translation, found = batch.add(loaded)
        documents.append(loaded)
        objects += made
        problems += found
        native = isinstance(document.data, dict) and loaded.reading.native is document.data
        plan = plan or (translation.plan if translation is not None else None)
    problems += batch.finish()
    data: Any = documents[0].reading.native if documents else {}
    closed = ""
    if not isinstance(data, dict) or not data:
        data, closed = {}, "The YAML cannot be read. Fix it to use the form."
    elif len(documents) > 1:
        closed = f"The YAML has {len(documents)} documents. The form shows the first one and is read-only."
    elif not native:
        closed = "This spec is not in Ebbtide's native format. The form is read-only until you convert it."
    return Look(
        text,
        data,
        tuple(problems),
        tuple(documents),
        () if any(problem.severity == "error" for problem in problems) else tuple(objects),
        plan,
        closed,
        bool(data) and len(documents) == 1 and not native,
    )


def ordered(value: Any, path: Path = ()) -> Any:
    """Return a document with its fields in the order of the reference; what is unknown comes last."""
    if isinstance(value, list):
        return [ordered(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    known = [name for name in names_at(path) if name in value]
    return {name: ordered(value[name], (*path, name)) for name in dict.fromkeys((*known, *value))}


def text_of(top: Object, profile: Profile) -> str:
    """Return the spec of a live workload as a text to edit."""
    return manifests.write_one(ordered(load(top, profile).reading.native))


def data_of(text: str) -> Any:
    """Return the one document of a text as data, None where there is none that an edit can reach."""
    found = list(manifests.read(text if text.strip() else EMPTY, "spec"))
    return found[0].data if len(found) == 1 and isinstance(found[0].data, dict) else None


# From the form to the text.


@dataclass(frozen=True, slots=True)
class Merged:
    """A text with the form's changes, the fields whose change could not be made in it, and how many were made."""

    text: str
    refused: tuple[str, ...] = ()
    made: int = 0


def merged(base: str, text: str, posted: Mapping[str, str]) -> Merged:
    """Return ``text`` with what ``posted`` changes in ``base``, the text that the form was made from."""
    data = data_of(base)
    changes = changes_of(data, posted) if data is not None else {}
    if not changes:
        return Merged(text)
    if len(changes) > MOST:
        return Merged(text, (f"{len(changes)} fields (at most {MOST} at a time)",))
    text = text if text.strip() else EMPTY
    text = text.replace("spec: {}\n", "spec:\n", 1) if data_of(text) == data_of(EMPTY) else text
    try:
        return Merged(edited(text, changes, names_at), made=len(changes))
    except NotEdited:
        refused = []
    # One by one, so that what can be done is done and what cannot is named.
    for path, value in changes.items():
        try:
            text = edited(text, {path: value}, names_at)
        except NotEdited:
            refused.append(dotted(path))
    return Merged(text, tuple(refused), len(changes) - len(refused))


def changes_of(data: Any, posted: Mapping[str, str]) -> dict[Path, Any]:
    """Return what a form changes in the document that it was made from, by path; new items of lists come last."""
    found: dict[Path, Any] = {}
    for control in controls():
        if control.column:
            continue
        value = at(data, *control.path)
        new = _new(control, value, posted.get(control.name))
        if new is not UNCHANGED:
            found[control.path] = new
    for listed in dict.fromkeys(control.path for control in controls() if control.column):
        columns = [control for control in controls() if control.column and control.path == listed]
        items = at(data, *listed)
        if items is None or isinstance(items, list):
            found.update(_changed_items(listed, columns, items or [], posted))
    return found


UNCHANGED: Final = object()


def _new(control: Control, value: Any, text: str | None) -> Any:
    """Return the new value of a field, ``UNCHANGED`` if it is the old one."""
    before = shown(control.kind, value)
    if text is None or before is None:
        return UNCHANGED
    text = text.replace("\r\n", "\n")
    if text == before:
        return UNCHANGED
    new = meant(control.kind, text)
    return UNCHANGED if same(new, value) else new


def _changed_items(
    listed: tuple[str, ...], columns: Sequence[Control], items: Sequence[Any], posted: Mapping[str, str]
) -> Iterator[tuple[Path, Any]]:
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        changes = {}
        for control in columns:
            new = _new(control, at(item, *control.column), posted.get(control.name.format(index)))
            if new is not UNCHANGED:
                changes[control.column] = new
        left: Any = item
        for path, new in changes.items():
            left = changed({"": left}, ("", *path), new).get("", {})
        if changes and not left:
            # An item is removed by its button; while it is written anew it stays in its place.
            changes[columns[0].column] = ""
        # What is set goes before what is taken out, so that the item is never empty.
        for path, new in sorted(changes.items(), key=lambda entry: entry[1] is None):
            yield (*listed, index, *path), new
    place = len(items)
    for index in sorted(_numbers(columns, posted) - set(range(len(items)))):
        item = {}
        for control in columns:
            value = meant(control.kind, posted.get(control.name.format(index), "").replace("\r\n", "\n"))
            if value is not None:
                item = changed(item, control.column, value)
        if item:
            yield (*listed, place), item
            place += 1


def _numbers(columns: Sequence[Control], posted: Mapping[str, str]) -> set[int]:
    found = set()
    lead = columns[0].name.partition("{}")[0]
    for name in posted:
        if name.startswith(lead):
            number = name.removeprefix(lead).partition(".")[0]
            if number.isdecimal() and len(number) < 4:  # noqa: PLR2004 - no form has thousands of rows
                found.add(int(number))
    return found


# From the text to the form.


@dataclass(frozen=True, slots=True)
class Shown:
    """One field of the form: its name, what it shows (None: the text alone can), and what is wrong with it."""

    name: str
    control: Control
    text: str | None
    problems: tuple[Problem, ...] = ()
    #: What depends on the other fields: the unit of a threshold.
    note: str = ""

    @property
    def id(self) -> str:
        """Its name for labels and links."""
        return "f-" + re.sub(r"[^A-Za-z0-9]+", "-", self.name)

    @property
    def wrong(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def choices(self) -> tuple[str, ...]:
        """What to choose from, with what is chosen."""
        known = ("true", "false") if self.control.kind == "truth" else self.control.choices
        return known if not self.text or self.text in known else (*known, self.text)


@dataclass(frozen=True, slots=True)
class ShownBlock:
    """Fields that stand together; of a list, its items, the last of them empty and new."""

    when: str
    #: Whether they are of use.
    used: bool
    fields: tuple[Shown, ...] = ()
    listed: str = ""
    items: tuple[tuple[Shown, ...], ...] = ()
    #: How many of the items are in the text.
    count: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def on(self) -> bool:
        """Whether they are of use, or say something."""
        return self.used or self.filled or bool(self.told)

    @property
    def filled(self) -> bool:
        """Whether anything is said here."""
        said = any(one.text or one.text is None for one in self.fields if one.control.kind != "zero")
        return said or bool(self.count) or any(problem.severity == "error" for problem in self.told)

    @property
    def told(self) -> tuple[Problem, ...]:
        """The problems that stand here."""
        return (
            *self.problems,
            *(problem for row in (self.fields, *self.items) for one in row for problem in one.problems),
        )


@dataclass(frozen=True, slots=True)
class ShownGroup:
    group: Group
    blocks: tuple[ShownBlock, ...]

    @property
    def open(self) -> bool:
        """Whether it is to be seen."""
        return not self.group.folded or any(block.filled for block in self.blocks)

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for block in self.blocks for problem in block.told)

    @property
    def warnings(self) -> int:
        return sum(problem.severity != "error" for block in self.blocks for problem in block.told)


def form(data: Any, problems: Sequence[Problem]) -> tuple[tuple[ShownGroup, ...], list[Problem]]:
    """Return the form that shows a document, with its problems at their fields, and the problems that have none."""
    placed, left = _placed(data, problems)
    made = []
    for group in groups():
        blocks = []
        for block in group.blocks:
            if block.listed:
                blocks.append(_items(block, data, placed))
                continue
            fields = tuple(
                Shown(
                    control.name,
                    control,
                    shown(control.kind, at(data, *control.path)),
                    tuple(placed.get(control.name, ())) if not control.row.name else (),
                    _unit(data) if control.name == THRESHOLD else "",
                )
                for control in block.controls
            )
            blocks.append(ShownBlock(block.when, CONDITIONS[block.when](data), fields))
        made.append(ShownGroup(group, tuple(blocks)))
    return tuple(made), left


def _unit(data: Any) -> str:
    """Return what a threshold is counted in, by the metric."""
    row = metrics.find(str(at(data, "spec", "autoscaling", "metric") or ""))
    return f"Unit: {row.unit}." if row is not None else ""


def _items(block: Block, data: Any, placed: Mapping[str, list[Problem]]) -> ShownBlock:
    found = at(data, *block.listed.split("."))
    items = found if isinstance(found, list) else []
    rows = [
        tuple(
            Shown(
                name := control.name.format(index),
                control,
                shown(control.kind, at(item, *control.column)),
                tuple(placed.get(name, ())),
            )
            for control in block.controls
        )
        for index, item in enumerate([*items, {}])
    ]
    problems = tuple(placed.get(block.listed, ()))
    return ShownBlock(
        block.when, used=True, listed=block.listed, items=tuple(rows), count=len(items), problems=problems
    )


def _placed(data: Any, problems: Sequence[Problem]) -> tuple[dict[str, list[Problem]], list[Problem]]:
    """Return the problems by the name of the field that each stands at, and those that stand at none."""
    names: dict[Path, str] = {}
    for control in controls():
        if control.row.name:
            continue
        if not control.column:
            names[control.path] = control.name
            continue
        names.setdefault(control.path, ".".join(control.path))
        items = at(data, *control.path)
        for index in range(len(items) if isinstance(items, list) else 0):
            names.setdefault((*control.path, index), control.name.format(index))
            names[(*control.path, index, *control.column)] = control.name.format(index)
    placed: dict[str, list[Problem]] = {}
    left = []
    for problem in problems:
        found = next(
            (names[problem.field[:n]] for n in range(len(problem.field), 0, -1) if problem.field[:n] in names), ""
        )
        if found:
            placed.setdefault(found, []).append(problem)
        else:
            left.append(problem)
    return placed, left


def beside(data: Any) -> list[str]:
    """Return what a document says that the form has no field for, as paths; each as short as it can be."""
    known: set[Path] = {control.path + control.column for control in controls()}
    lists: set[Path] = {control.path for control in controls() if control.column}
    kinds: dict[Path, Kind] = {
        control.path + control.column: control.kind for control in controls() if control.kind != "zero"
    }
    found: list[str] = []

    def walk(value: Any, path: Path, plain: Path) -> bool:
        """Note what is not known below, and say whether anything is known there."""
        if plain in known and plain not in lists:
            if shown(kinds[plain], value) is None:
                found.append(dotted(path))
            return True
        inside = any(one[: len(plain)] == plain for one in known)
        if not inside or not isinstance(value, (dict, list)) or (isinstance(value, list) and plain not in lists):
            found.append(dotted(path))
            return False
        parts: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for part, below in parts:
            walk(below, (*path, part), plain if isinstance(part, int) else (*plain, part))
        return True

    for key, value in data.items() if isinstance(data, dict) else ():
        if key not in {"apiVersion", "kind"}:
            walk(value, (key,), (key,))
    return found
