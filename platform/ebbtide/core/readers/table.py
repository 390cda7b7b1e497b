"""The engine of the readers: a draft type, a row type, and the function that applies a row.

``rest`` and ``flags`` are tables of rows. A row describes one field of its source format: its name there, the
native field, how the value is written and converted, or why it is rejected. To support a new field of the spec, add one
row to each table; write a function only if a row cannot describe the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from ebbtide.core.base.problems import Path, Problem, format_value, has_errors, make_warning
from ebbtide.core.readers.reading import Reading

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

    #: A path in a native document.
    Native = tuple[str, ...]
    Take = Callable[["Draft", Any, Any, Path], None]

#: Name of a document whose name is missing or invalid, so that this causes one problem only.
NAMELESS: Final = "unnamed"
#: Refusals of Run:ai's other kinds of inference: code, message and fix.
DISTRIBUTED: Final = (
    "RUN046",
    (
        "distributed inference (a leader and workers on several nodes) is not supported: a Knative revision consists of "
        "independent pods"
    ),
    (
        "use a model that fits on the GPUs of one node with gpuDevicesRequest, or a LeaderWorkerSet or KServe's "
        "LLMInferenceService without Ebbtide"
    ),
)
NO_GENERATED_NAMES: Final = "generated names are not supported: the service could not be reapplied or compared"
SECRET: Final = re.compile(r"SECRET:\s*([^,\s]+)\s*,\s*(\S+)")


@dataclass(slots=True)
class Draft(Reading):
    """A native document under construction, with the origins of its parts and the problems so far."""

    cluster: ProfileSpec = field(kw_only=True)
    #: The input's plain values by field, for rules about several fields.
    values_by_name: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> dict[str, Any]:
        """The native document's spec."""
        spec: dict[str, Any] = self.native["spec"]
        return spec

    def set_field(self, path: Native, value: Any, where: Path) -> None:
        """Set a native field and remember its origin."""
        set_at(self.native, path, value)
        self.origins[path] = where

    def set_nonempty(self, to: str, value: Any, where: Path) -> None:
        """Set a native field, unless the value is empty."""
        if value is not None and value not in ([], {}, ""):
            self.set_field(split_path(to), value, where)

    def append_item(self, path: Native, value: Any, where: Path) -> None:
        """Append to a native list, and remember the item's origin."""
        items = parent_mapping(self.native, path).setdefault(path[-1], [])
        items.append(value)
        self.origins[*path, len(items) - 1] = where

    def add_error(self, code: str, where: Path, message: str, fix: str) -> None:
        """Add an error."""
        self.problems.append(Problem(code, where, message, fix))

    @contextmanager
    def reading_field(self, row: FieldRow) -> Iterator[None]:
        """Mark the row's native fields as unread if the block reports an error."""
        before = len(self.problems)
        yield
        if has_errors(self.problems[before:]):
            self.unread.update(row.fields)

    def refuse_kind(self, where: Path, refusal: tuple[str, str, str]) -> None:
        """Refuse a document of another kind; nothing in it is read."""
        code, message, fix = refusal
        self.add_error(code, where, message, fix)
        self.native["spec"] = {}
        self.unread.update({("metadata", "name"), ("spec",)})

    def add_warning(self, code: str, where: Path, message: str, fix: str) -> None:
        """Add a warning."""
        self.problems.append(make_warning(code, where, message, fix))


class RefusedValueError(ValueError):
    """A value that a conversion rejects, with the problem to report at the value's field."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.problem = Problem(code, (), message, fix)


@dataclass(frozen=True, slots=True)
class Subfield:
    """One key of a structured value: its path in the native entry, its format, and whether it is required."""

    to: str
    kind: str = "text"
    needed: bool = False


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of a source format. Without ``take`` and ``refusal``, the converted value is set as the native field."""

    name: str
    #: The native field, such as ``spec.compute.cpuCoreRequest``.
    to: str = ""
    #: The format of a flag's text.
    kind: str = "value"
    #: The native field is a list, and each value is one item of it.
    many: bool = False
    #: Conversion of the value; if it returns None, nothing is set.
    read: Callable[[Any], Any] | None = None
    #: Handler for a field that does not correspond to exactly one native field.
    take: Take | None = None
    #: The problem to report for every value.
    refusal: Problem | None = None
    #: The keys of a structured value.
    parts: Mapping[str, Subfield] = field(default_factory=dict)

    @classmethod
    def refused(cls, name: str, code: str, message: str, fix: str, **more: Any) -> Self:
        """Return the row of a field that is not supported."""
        return cls(name, refusal=Problem(code, (), message, fix), **more)

    @property
    def fields(self) -> list[Native]:
        """The path of the native field that the row sets, if there is one."""
        return [self.native] if self.to else []

    @property
    def native(self) -> Native:
        """The path of the native field; empty if there is none."""
        return split_path(self.to)


def apply_row(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Convert a value and set its native field, or report the problem that it causes."""
    with draft.reading_field(row):
        _apply_row(draft, row, value, where)


def _apply_row(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    try:
        native = value if row.read is None else row.read(value)
    except RefusedValueError as refused:
        draft.problems.append(replace(refused.problem, field=where))
        return
    if native is None:
        return
    if row.refusal is not None:
        draft.problems.append(replace(row.refusal, field=where))
    elif row.take is not None:
        row.take(draft, row, native, where)
    elif row.many:
        for item in native if isinstance(native, list) else (native,):
            draft.append_item(row.native, item, where)
    else:
        draft.set_field(row.native, native, where)


def leave_to_rule(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Do nothing: a rule about several fields handles the value."""


def source_paths(rows: Iterable[FieldRow]) -> dict[Path, Path]:
    """Return each native field's path in the source, for problems about missing fields; the first row wins."""
    origins: dict[Path, Path] = {}
    for row in rows:
        if row.to:
            origins.setdefault(row.native, (row.name,))
    return origins


def split_path(text: str) -> Native:
    """Return a dotted path as a tuple."""
    return tuple(text.split(".")) if text else ()


def parent_mapping(data: dict[str, Any], path: Native) -> dict[str, Any]:
    """Return the mapping that contains the last part of ``path``; create missing mappings."""
    for part in path[:-1]:
        data = data.setdefault(part, {})
    return data


def set_at(data: dict[str, Any], path: Native, value: Any) -> None:
    """Set a nested field; create missing mappings above it."""
    parent_mapping(data, path)[path[-1]] = value


# Conversions that several source formats share.


def true_or_none(value: Any) -> bool | None:
    """Return true, or None for false, which is the default."""
    if not isinstance(value, bool):
        message = f"{format_value(value)} is not valid: must be true or false"
        raise RefusedValueError("SPEC002", message, "write true or false")
    return value or None


def make_name_value(pair: tuple[str, Any]) -> dict[str, Any]:
    """Return a label or annotation."""
    return {"name": pair[0], "value": pair[1]}


def make_variable(pair: tuple[str, Any]) -> dict[str, Any]:
    """Return an environment variable; the value ``SECRET:name,key`` references a key of a Secret."""
    name, value = pair
    secret = SECRET.fullmatch(value) if isinstance(value, str) else None
    return {"name": name, "secret": {"name": secret[1], "key": secret[2]}} if secret else make_name_value(pair)


def make_extended_resource(pair: tuple[str, Any]) -> dict[str, Any]:
    """Return an extended resource."""
    return {"resource": pair[0], "quantity": pair[1]}


def make_new_claim(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a claim; if it sets access modes, only these apply, without the native default."""
    modes = entry.get("claimInfo", {}).get("accessModes")
    if modes:
        modes.setdefault("readWriteOnce", False)
    return entry


def make_exposed_url(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a host name; users or groups without a type imply their type, so that the host is never public by mistake."""
    for name in ("authorizedUsers", "authorizedGroups"):
        if entry.get(name):
            entry.setdefault("authorizationType", name)
    return entry
