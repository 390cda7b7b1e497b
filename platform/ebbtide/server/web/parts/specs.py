"""Specs as YAML text: reading and checking one, the live spec of a workload, the fixes of problems, and the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path as FilePath
from typing import Any, Final

from ebbtide.core import manifests
from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.documents import load_document
from ebbtide.core.documents.check import Batch
from ebbtide.core.documents.fixes import MAX_FIXES, find_working_fixes, label_fix
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.readers.reading import API_VERSION, KIND
from ebbtide.core.translation.objects import Object

#: The document that an empty text stands for.
EMPTY: Final = f'apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: ""\nspec: {{}}\n'
#: The maximum length of a spec in characters: far above what people write.
MAX_SPEC_CHARACTERS: Final = 60_000
#: Problems for which fixes are tried, and the longest text in characters: each try parses and checks the whole text.
MAX_PROBLEMS: Final = 12
MAX_FIXED_CHARACTERS: Final = 20_000
EXAMPLES: Final = FilePath(__file__).parents[1] / "examples"


@dataclass(frozen=True, slots=True)
class ExampleSpec:
    """An example spec; its first line is a comment with its title."""

    key: str
    title: str
    text: str


@cache
def load_examples() -> dict[str, ExampleSpec]:
    """Return the example specs, the simplest first."""
    specs = {}
    for key in ("hello", "chat", "model", "promise", "batch"):
        text = (EXAMPLES / f"{key}.yaml").read_text(encoding="utf-8")
        specs[key] = ExampleSpec(key, text.partition("\n")[0].removeprefix("# "), text)
    return specs


@dataclass(frozen=True, slots=True)
class ParsedSpec:
    """A parsed spec: its document in native format, all problems, and the rendered objects."""

    text: str
    #: The first document in native format; empty if the YAML cannot be read.
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    objects: tuple[Object, ...] = ()
    #: True if the text is one document in native format, which fixes can change.
    native: bool = False
    #: True if the text is one document that can be converted to native format.
    convertible: bool = False

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity != "error"]


def read_spec(text: str, profile: Profile) -> ParsedSpec:
    """Parse, check, and translate a spec."""
    if len(text) > MAX_SPEC_CHARACTERS:
        message = f"the spec is longer than {MAX_SPEC_CHARACTERS:,} characters"
        return ParsedSpec(text, {}, (Problem("YML006", (), message, "apply it with ebbtide apply"),))
    batch = Batch(profile)
    problems: list[Problem] = []
    objects: list[Object] = []
    natives: list[Any] = []
    native = True
    documents = [*manifests.read_documents(text, "spec")] or manifests.read_documents(EMPTY, "spec")
    for document in documents:
        loaded = load_document(
            document.data, profile, name=document.name, line=document.line, problems=document.problems
        )
        new_objects, _, new_problems = batch.add_document(loaded)
        natives.append(loaded.reading.native)
        objects += new_objects
        problems += new_problems
        native = native and isinstance(document.data, dict) and loaded.reading.native is document.data
    problems += batch.batch_problems()
    data = natives[0] if natives and isinstance(natives[0], dict) else {}
    is_single = bool(data) and len(natives) == 1
    return ParsedSpec(
        text,
        data,
        tuple(problems),
        () if any(problem.severity == "error" for problem in problems) else tuple(objects),
        native=is_single and native,
        convertible=is_single and not native,
    )


def order_fields(value: Any, path: Path = ()) -> Any:
    """Return a document with its fields in the order of the reference; unknown fields come last."""
    if isinstance(value, list):
        return [order_fields(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    known = [name for name in field_names_at(path) if name in value]
    return {name: order_fields(value[name], (*path, name)) for name in dict.fromkeys((*known, *value))}


def write_native(data: dict[str, Any]) -> str:
    """Return a document in native format as YAML for editing."""
    return manifests.write_document(order_fields(data))


def write_live_spec(top: Object, profile: Profile) -> str:
    """Return the spec of a live workload as YAML for editing."""
    return write_native(load_document(top, profile).reading.native)


def parse_document(text: str) -> Any:
    """Return the only document of a YAML text as data; None if there is no single mapping to edit."""
    documents = [*manifests.read_documents(text, "spec")]
    return documents[0].data if len(documents) == 1 and isinstance(documents[0].data, dict) else None


# Fixes.


@dataclass(frozen=True, slots=True)
class OfferedFix:
    """One fix: the label of its button, and the resulting text. ``key`` identifies it when the form is submitted."""

    key: str
    label: str
    text: str


def find_fixes(spec: ParsedSpec, profile: Profile) -> dict[int, tuple[OfferedFix, ...]]:
    """Return the fixes that work, by the index of the problem in ``problems``."""
    if not spec.native or len(spec.text) > MAX_FIXED_CHARACTERS:
        return {}

    def check(text: str) -> Sequence[Problem]:
        return read_spec(text, profile).problems

    fixes: dict[int, tuple[OfferedFix, ...]] = {}
    for number, problem in enumerate(spec.problems):
        if len(fixes) == MAX_PROBLEMS:
            break
        working = find_working_fixes(spec.text, spec.data, problem, spec.problems, check)
        texts: dict[str, OfferedFix] = {}
        for one in islice(working, MAX_FIXES):
            label = label_fix(one.fix, spec.data)
            texts.setdefault(one.text, OfferedFix(f"{problem.code} {problem.path} {label}", label, one.text))
        if texts:
            fixes[number] = tuple(texts.values())
    return fixes


def apply_fix(spec: ParsedSpec, profile: Profile, key: str) -> str:
    """Return the text of the fix that ``key`` identifies, or the unchanged text if it is not offered."""
    offered = (fix for fixes in find_fixes(spec, profile).values() for fix in fixes)
    return next((fix.text for fix in offered if fix.key == key), spec.text)
