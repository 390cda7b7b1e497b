"""Trial renders of a derived spec, which remove the fields that are rejected."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.paths import get_at, has_at
from ebbtide.core.base.problems import Path, Problem, select_errors
from ebbtide.core.readers import shapes
from ebbtide.core.translation.pods import PatchConflict
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.table import Draft
    from ebbtide.core.translation.objects import Object

#: The maximum number of renders before an object counts as impossible to render. Each one removes at least one field.
ROUNDS: Final = 60
#: Fields that are never removed, since without them another object would be rendered.
ESSENTIAL: Final = {
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("spec", "serving"),
    ("spec", "model"),
    ("spec", "image"),
    ("spec", "defaults"),
    ("spec", "containerName"),
}
#: Codes of problems that name a missing field, and the field to remove instead.
REMOVED_INSTEAD: Final[dict[str, Path]] = {
    "AUT002": ("spec", "autoscaling", "maxReplicas"),
    "AUT003": ("spec", "autoscaling", "metric"),
    "AUT012": ("spec", "autoscaling", "metric"),
    "AUT027": ("spec", "autoscaling", "metric"),
}
#: Fields that have no effect without another field.
DEPENDENTS: Final[dict[Path, tuple[str, ...]]] = {
    ("spec", "autoscaling", "metric"): ("metricName", "metricThreshold", "metricThresholdPercentage"),
    ("spec", "traffic", "canaryPercent"): ("stableRevision",),
}
#: The length of the path of a block in the spec: ``spec.compute``.
BLOCK: Final = 2


@dataclass(slots=True)
class RenderAttempt:
    """A trial render: the spec, the profile, the rendered object, the problems of removed fields, and the problems that remained."""

    draft: Draft
    profile: Profile
    top: Object | None = None
    dropped: list[Problem] = field(default_factory=list)
    blocked: list[Problem] = field(default_factory=list)


def render_top_object(native: dict[str, Any], profile: Profile, kind: str) -> tuple[Object | None, list[Problem]]:
    """Return the top object of a document, or None and the errors that prevent rendering it."""
    inference, problems = shapes.validate_inference(native)
    if inference is None:
        return None, problems
    try:
        translation = translate(inference, profile, json.dumps(native["spec"], sort_keys=True, default=str))
    except (PatchConflict, OverflowError) as conflict:
        # A defect of the translation for the object's values. It is reported like an unsupported object.
        return None, [Problem("IMP005", ("spec",), str(conflict))]
    top = next((obj for obj in translation.objects if obj["kind"] == kind), None)
    return top, select_errors(list(translation.problems))


def render_draft(draft: Draft, profile: Profile, kind: str) -> RenderAttempt:
    """Render a draft, and remove the fields that are rejected until it renders."""
    # The values are part of the object, which must not change when a field of the spec is removed.
    draft.native = deepcopy(draft.native)
    result = RenderAttempt(draft, profile)
    render_attempt(result, kind)
    return result


def render_attempt(attempt: RenderAttempt, kind: str) -> None:
    """Render the draft of an attempt, and remove the fields that are rejected until it renders."""
    for _ in range(ROUNDS):
        attempt.top, problems = render_top_object(attempt.draft.native, attempt.profile, kind)
        if not problems:
            break
        removed = remove_fields(attempt.draft.native, problems)
        attempt.dropped += removed
        attempt.blocked = problems
        if not removed:
            attempt.top = None
            break


def remove_fields(native: dict[str, Any], problems: list[Problem]) -> list[Problem]:
    """Remove the fields of problems that can be removed, and return those problems with the paths of what was removed."""
    ordered = sorted(problems, key=_last_first, reverse=True)
    return [refused for problem in ordered if (refused := _remove_field(native, problem)) is not None]


def _last_first(problem: Problem) -> list[str]:
    """Return a sort key that compares list indexes as numbers, so that the last item can be removed first."""
    return [f"{part:09d}" if isinstance(part, int) else part for part in problem.field]


def _remove_field(native: dict[str, Any], problem: Problem) -> Problem | None:
    """Remove the rejected field, or its block if the field is missing, and return the problem with that path.

    Returns None if the field cannot be removed.
    """
    path = problem.field
    if problem.code in REMOVED_INSTEAD and get_at(native, *REMOVED_INSTEAD[problem.code]) is not None:
        path = REMOVED_INSTEAD[problem.code]
    while path and not has_at(native, path):
        path = path[:-1]
    if path[-1:] == ("name",) and isinstance(path[-2], int):
        # An item of a list is not valid without its name.
        path = path[:-1]
    # A whole ``spec`` or ``metadata`` is not removed.
    if len(path) < BLOCK or path in ESSENTIAL:
        return None
    holder = get_at(native, *path[:-1])
    del holder[path[-1]]
    for dependent in DEPENDENTS.get(path, ()):
        holder.pop(dependent, None)
    parent = path[:-1]
    while not holder and len(parent) >= BLOCK and isinstance(parent[-1], str):
        holder = get_at(native, *parent[:-1])
        del holder[parent[-1]]
        parent = parent[:-1]
    return replace(problem, field=path)


def find_differences(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Yield the path of each difference, and whether ``new`` has a value there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            if name not in new or name not in old:
                yield (*path, name), name in new
            else:
                yield from find_differences(old[name], new[name], (*path, name))
    elif isinstance(old, list) and isinstance(new, list):
        missing = object()
        for index, (old_item, new_item) in enumerate(zip_longest(old, new, fillvalue=missing)):
            if old_item is missing or new_item is missing:
                yield (*path, index), new_item is not missing
            else:
                yield from find_differences(old_item, new_item, (*path, index))
    elif old != new:
        yield path, True
