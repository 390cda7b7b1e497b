"""Trial renders of a derived spec, which remove the fields that are refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from ebbtide.adopt.derive import PLACEHOLDER
from ebbtide.base.paths import at
from ebbtide.base.problems import Path, Problem, errors
from ebbtide.readers import shapes
from ebbtide.translation.pods import Conflict
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import Profile
    from ebbtide.readers.table import Draft
    from ebbtide.translation.objects import Object

#: The maximum number of renders before an object counts as impossible to render. Each one removes at least one field.
ROUNDS: Final = 60
#: Fields that are never removed, since without them another object would be rendered.
ESSENTIAL: Final = {
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("spec", "serving"),
    ("spec", "model"),
    ("spec", "image"),
}
#: Codes of problems that name a missing field, and the field to remove instead.
INSTEAD: Final[dict[str, Path]] = {
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
class Attempt:
    """A trial render: the spec, the rendered object, the problems of removed fields, and the problems that remained."""

    draft: Draft
    top: Object | None = None
    dropped: list[Problem] = field(default_factory=list)
    blocked: list[Problem] = field(default_factory=list)


def render(native: dict[str, Any], profile: Profile, kind: str) -> tuple[Object | None, list[Problem]]:
    """Return the top object of a document, or None and the errors that prevent rendering it."""
    inference, problems = shapes.validate(native)
    if inference is None:
        return None, problems
    try:
        made = translate(inference, profile, json.dumps(native["spec"], sort_keys=True, default=str))
    except (Conflict, OverflowError) as conflict:
        # A defect of the translation for the object's values. It is reported like an unsupported object.
        return None, [Problem("IMP005", ("spec",), str(conflict))]
    top = next((item for item in made.objects if item["kind"] == kind), None)
    return top, errors(list(made.problems))


def attempt(draft: Draft, profile: Profile, kind: str) -> Attempt:
    """Render a draft, and remove the fields that are refused until it renders."""
    # The values are part of the object, which must not change when a field of the spec is removed.
    draft.native = deepcopy(draft.native)
    found = Attempt(draft)
    for _ in range(ROUNDS):
        found.top, problems = render(draft.native, profile, kind)
        if not problems:
            break
        in_turn = sorted(problems, key=_last_first, reverse=True)
        taken = [gone for problem in in_turn if (gone := _take(draft.native, problem)) is not None]
        found.dropped += taken
        found.blocked = problems
        if not taken:
            found.top = None
            break
    return found


def _last_first(problem: Problem) -> list[str]:
    """Return a sort key that compares list indexes as numbers, so that the last item can be removed first."""
    return [f"{part:09d}" if isinstance(part, int) else part for part in problem.field]


def _take(native: dict[str, Any], problem: Problem) -> Problem | None:
    """Remove the refused field, or its block if the field is missing, and return the problem with that path.

    Returns None if the field cannot be removed.
    """
    where = problem.field
    if problem.code == "SRV019":
        model = native["spec"]["model"]
        if model.get("uri") == PLACEHOLDER:
            return None
        model["uri"] = PLACEHOLDER
        return problem
    if problem.code in INSTEAD and at(native, *INSTEAD[problem.code]) is not None:
        where = INSTEAD[problem.code]
    while where and not _present(native, where):
        where = where[:-1]
    # A whole ``spec`` or ``metadata`` is not removed.
    if len(where) < BLOCK or where in ESSENTIAL:
        return None
    holder = at(native, *where[:-1])
    del holder[where[-1]]
    for dependent in DEPENDENTS.get(where, ()):
        holder.pop(dependent, None)
    above = where[:-1]
    while not holder and len(above) >= BLOCK and isinstance(above[-1], str):
        holder = at(native, *above[:-1])
        del holder[above[-1]]
        above = above[:-1]
    return replace(problem, field=where)


def _present(data: Any, path: Path) -> bool:
    holder, last = at(data, *path[:-1]), path[-1]
    if isinstance(holder, dict):
        return last in holder
    return isinstance(holder, list) and isinstance(last, int) and last < len(holder)


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Yield the path of each difference, and whether ``new`` has a value there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            if name not in new or name not in old:
                yield (*path, name), name in new
            else:
                yield from differences(old[name], new[name], (*path, name))
    elif isinstance(old, list) and isinstance(new, list):
        nothing = object()
        for index, (here, there) in enumerate(zip_longest(old, new, fillvalue=nothing)):
            if here is nothing or there is nothing:
                yield (*path, index), there is not nothing
            else:
                yield from differences(here, there, (*path, index))
    elif old != new:
        yield path, True
