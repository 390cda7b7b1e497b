"""Every input shape becomes the one ``Inference``, or problems with the lines they stand on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.intake import native, rest, shapes
from ebbtide.intake.reading import Reading
from ebbtide.problems import Problem, failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from ebbtide.problems import Path
    from ebbtide.profile import Profile
    from ebbtide.spec.inference import Inference

#: Documents that are found beside specs and are no specs: skipped with a word, not refused.
OTHERS: Final = {"Profile", "Kustomization", "List"}
#: Kinds that a render makes beside the workload itself; met again when it is read back.
COMPANIONS: Final = {
    "DomainMapping",
    "HorizontalPodAutoscaler",
    "LimitRange",
    "Namespace",
    "PersistentVolumeClaim",
    "PriorityClass",
    "Queue",
    "ResourceClaimTemplate",
    "ResourceQuota",
    "ScaledObject",
    "ServiceAccount",
}


@dataclass(slots=True)
class Loaded:
    """One input, read: the spec if it could be made, the problems, and where each field stands."""

    name: str
    reading: Reading
    inference: Inference | None = None
    problems: list[Problem] = field(default_factory=list)
    line: Callable[[Path], int] = field(default=lambda path: 0)  # noqa: ARG005 - no lines known

    @property
    def canonical(self) -> str:
        """The spec as canonical JSON: sorted keys, no spaces, nothing that is null."""
        return canonical(self.reading.native.get("spec", {}))

    def placed(self, problems: list[Problem] | tuple[Problem, ...]) -> list[Problem]:
        """Return problems of native paths at their places in the author's document."""
        if not problems:
            return []
        found = []
        for problem in problems:
            where = self.reading.origin(problem.field)
            found.append(
                replace(
                    problem,
                    field=where,
                    line=problem.line or self.line(where),
                    document=problem.document or self.name,
                )
            )
        return found


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(spec: Any) -> str:
    """Return a spec as canonical JSON."""
    text = _CANONICAL.encode(spec)
    if "null" in text or ".0" in text or "e+" in text:
        # Perhaps a null, or a whole number written as a float; the walk is for the few that have one.
        return _CANONICAL.encode(_bare(spec))
    return text


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        # In a merge patch null means: remove.
        return {key: item if key == "patches" else _bare(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _reader(data: dict[str, Any]) -> ModuleType | None:
    if native.recognise(data):
        return native
    if rest.recognise(data):
        return rest
    return _rarer(data)


def _rarer(data: dict[str, Any]) -> ModuleType | None:
    """Return the reader of the shapes that most calls never see."""
    from ebbtide.intake import crd, knative, kserve  # noqa: PLC0415 - off the common path

    return next((module for module in (crd, knative, kserve) if module.recognise(data)), None)


def load(
    data: Any,
    profile: Profile,
    *,
    name: str = "",
    line: Callable[[Path], int] | None = None,
    problems: list[Problem] | None = None,
) -> Loaded:
    """Return one document, read and validated. ``problems`` are those its text had."""
    where = line or (lambda path: 0)  # noqa: ARG005 - no lines known
    before = list(problems or ())
    if not isinstance(data, dict):
        found = Problem(
            "SPEC005",
            (),
            "this document is no inference spec: it is not a mapping",
            "start with apiVersion: ebbtide.dev/v1alpha1 and kind: Inference",
            line=where(()),
            document=name,
        )
        return Loaded(name, Reading({}), None, before or [found], where)
    kind = data.get("kind")
    if isinstance(kind, str) and kind in COMPANIONS and "apiVersion" in data:
        return Loaded(name, Reading({}), None, [*before, _companion(data, name, where)], where)
    reader = _reader(data)
    if reader is None:
        return Loaded(name, Reading({}), None, [*before, _unknown(data, name, where)], where)
    return loaded_from(reader.read(data, profile), name, where, before)


def loaded_from(
    reading: Reading,
    name: str,
    line: Callable[[Path], int] | None = None,
    problems: list[Problem] | None = None,
) -> Loaded:
    """Return a reading, validated: the shape's problems are found even where the reader found some."""
    loaded = Loaded(name, reading, None, list(problems or ()), line or (lambda path: 0))  # noqa: ARG005 - no lines known
    loaded.inference, of_shape = shapes.validate(reading.native)
    # A reader's own problems stand at the author's paths already.
    loaded.problems.extend(
        replace(problem, line=problem.line or loaded.line(problem.field), document=problem.document or name)
        for problem in reading.problems
    )
    if of_shape:
        # A value that could not be read is there as its text only; its shape says nothing.
        unread = [problem.field for problem in loaded.problems if problem.code.startswith("YML")]
        loaded.problems.extend(
            problem
            for problem in loaded.placed(of_shape)
            if not any(problem.field[: len(path)] == path for path in unread if path)
        )
    if failed(loaded.problems):
        loaded.inference = None
    return loaded


def _companion(data: dict[str, Any], name: str, line: Callable[[Path], int]) -> Problem:
    return Problem(
        "IMP007",
        ("kind",),
        f"{data['kind']} is made beside a workload, from its spec and the profile; it is not read",
        "read the Knative Service or InferenceService that it belongs to",
        "warning",
        line(("kind",)),
        document=name,
    )


def _unknown(data: dict[str, Any], name: str, line: Callable[[Path], int]) -> Problem:
    kind, version = data.get("kind"), data.get("apiVersion")
    told = f"{version} {kind}" if kind or version else "a document without apiVersion and kind"
    return Problem(
        "SPEC005",
        ("kind",),
        f"{told} is none of the inputs that Ebbtide reads",
        "use kind: Inference, a Run:ai REST body {name, projectId, spec}, a Run:ai InferenceWorkload, a Knative "
        "Service or a KServe InferenceService",
        line=line(("kind",)),
        document=name,
    )
