"""The import of live and exported objects: a spec, with a patch for everything that the spec does not express.

The derived spec is a best effort and is verified: it is rendered, and each difference from the live object goes to
``spec.patches``. Rendering the import therefore reproduces the object, whatever it contains.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebbtide.adopt.attempt import Attempt, attempt, differences, render
from ebbtide.adopt.cleaning import clean, kind_of
from ebbtide.adopt.defaults import strip, touched
from ebbtide.adopt.derive import derive, find_metadata
from ebbtide.adopt.pod_fields import candidates
from ebbtide.adopt.view import mappings
from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.base.problems import Path, Problem, dotted, warning
from ebbtide.readers.reading import Reading, document
from ebbtide.readers.table import Draft
from ebbtide.spec.rules.naming import LABEL_VALUE
from ebbtide.translation.objects import difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.adopt.view import ObjectView
    from ebbtide.profile.models import Profile
    from ebbtide.translation.objects import Object


@dataclass(slots=True)
class Import:
    """The result of an import: the native document, its patch, the problems, and the origin of each field."""

    native: dict[str, Any]
    patch: dict[str, Any] = field(default_factory=dict)
    losses: list[Problem] = field(default_factory=list)
    origins: dict[Path, Path] = field(default_factory=dict)


def recognise(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is an object of a supported kind."""
    return kind_of(data) is not None


def read(data: dict[str, Any], profile: Profile) -> Reading:
    """Return the object as a spec, with a patch for everything that no field of the spec expresses."""
    result = import_object(data, profile)
    return Reading(result.native, result.origins, result.losses)


def import_object(obj: Object, profile: Profile) -> Import:
    """Return the spec of a live object, with a patch for everything that no field of the spec expresses, and the problems."""
    kind = kind_of(obj)
    assert kind is not None
    marked = touched(obj)
    cleaned = clean(obj, profile)
    view: ObjectView = kind.make_view(cleaned, profile.spec)
    found_problems: list[Problem] = []
    stored = at(obj, "metadata", "annotations", keys.SPEC)
    if stored is not None:
        imported = _from_kept(stored, view, profile, marked=marked)
        if imported is not None:
            return imported
        message = "the spec stored on the object no longer matches it: the object was changed without Ebbtide"
        fix = "review the imported spec, and apply it to store it on the object"
        found_problems.append(warning("IMP003", ("metadata", "annotations", keys.SPEC), message, fix))
    nearest = _best(view, profile, marked=marked)
    draft = nearest.draft
    category = at(obj, "metadata", "labels", keys.CATEGORY)
    if isinstance(category, str) and LABEL_VALUE.fullmatch(category):
        draft.keep("spec.category", category, ("metadata", "labels", keys.CATEGORY))
    result = Import(draft.native, {}, found_problems, draft.origins)
    if nearest.top is None:
        found_problems.append(_impossible(nearest.blocked, draft))
        return result
    found_problems.extend(_refused(nearest))
    ours = clean(nearest.top, profile, marked=marked)
    result.patch = difference(ours, _opened(cleaned, ours))
    if result.patch:
        # Problems about any part of the patch refer to the whole object.
        draft.origins["spec", "patches"] = ()
        draft.native["spec"]["patches"] = [{"kind": obj["kind"], "name": view.name, "patch": result.patch}]
        top, problems = render(draft.native, profile, obj["kind"])
        if top is None or clean(top, profile, marked=marked) != cleaned:
            found_problems.append(_impossible(problems, draft))
            return result
        found_problems.extend(_patched(ours, _opened(cleaned, ours)))
        found_problems.extend(_shadowed(result.patch, ours))
    found_problems.append(_lost(view, obj))
    return result


def _opened(value: Any, ours: Any) -> Any:
    """Return ``value`` with an empty map of labels or annotations wherever only ``ours`` has one.

    The patch then removes each key by name, and does not remove keys that are added to the spec later.
    """
    if not (isinstance(value, dict) and isinstance(ours, dict)):
        return value
    missing: dict[str, Any] = {name: {} for name in ("labels", "annotations") if name in ours and name not in value}
    return {**{name: _opened(item, ours.get(name)) for name, item in value.items()}, **missing}


def _from_kept(stored: Any, view: ObjectView, profile: Profile, *, marked: bool) -> Import | None:
    """Return the spec that is stored on the object, None if rendering it does not reproduce the object."""
    try:
        spec = json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(spec, dict):
        return None
    draft = Draft(document(None, {}), cluster=profile.spec)
    find_metadata(view, draft)
    metadata = draft.native["metadata"]
    if "project" in spec:
        metadata.pop("namespace", None)
    elif "project" in draft.spec:
        metadata["namespace"] = at(view.obj, "metadata", "namespace")
    native = {**draft.native, "spec": spec}
    top, problems = render(native, profile, view.obj["kind"])
    if top is None or problems or clean(top, profile, marked=marked) != view.obj:
        return None
    return Import(native)


def _best(view: ObjectView, profile: Profile, *, marked: bool) -> Attempt:
    """Return the attempt with the fewest differences from the object, and of equal ones the first."""
    nearest: Attempt | None = None
    fewest_differences = -1
    for pools in candidates(view, profile.spec):
        for gpu in (True, False):
            trial = attempt(derive(view, profile.spec, pools, gpu=gpu), profile, view.obj["kind"])
            if trial.top is None:
                nearest = nearest or trial
                continue
            count = sum(1 for _ in differences(clean(trial.top, profile, marked=marked), view.obj))
            if fewest_differences < 0 or count < fewest_differences:
                nearest, fewest_differences = trial, count
            if fewest_differences == 0:
                return trial
    assert nearest is not None
    return nearest


def _impossible(problems: list[Problem], draft: Draft) -> Problem:
    path: Path = ()
    reason, fix = "its parts contradict each other", "import it with the profile of the cluster that it comes from"
    for problem in problems[:1]:
        path, reason, fix = (
            draft.origins.get(problem.field, ()),
            f"{problem.code}: {problem.message}",
            problem.fix or fix,
        )
    return Problem("IMP005", path, f"no spec renders this object with the cluster profile ({reason})", fix)


def _refused(trial: Attempt) -> Iterator[Problem]:
    for problem in trial.dropped:
        message = f"{dotted(problem.field)} is not valid with the cluster profile ({problem.code}: {problem.message})"
        path = _origin(trial.draft, problem.field)
        yield warning("IMP002", path, f"{message}; the object's value is kept in spec.patches", problem.fix)


def _origin(draft: Draft, path: Path) -> Path:
    for length in range(len(path), 0, -1):
        if path[:length] in draft.origins:
            return draft.origins[path[:length]]
    return path


def _patched(ours: Object, cleaned: Object) -> Iterator[Problem]:
    for path, present in differences(ours, cleaned):
        message = "Ebbtide always renders this field, but the object does not have it; a patch removes it"
        if present:
            message = "no field of the spec expresses this; it is kept in spec.patches"
        fix = "keep spec.patches to preserve the object, or remove the patch to use what Ebbtide renders"
        yield warning("IMP001", path, message, fix)


def _shadowed(patch: Any, ours: Any, path: Path = ()) -> Iterator[Problem]:
    """Yield a warning for each list that the patch replaces although fields of the spec render it."""
    for name, value in patch.items():
        rendered = ours.get(name) if isinstance(ours, dict) else None
        if isinstance(value, list) and rendered:
            message = (
                "a merge patch replaces a list as a whole: as long as the patch contains it, the spec's fields for this "
                "list have no effect (for containers: image, environment, probes, resources)"
            )
            fix = "remove the list from spec.patches once the spec's fields express it"
            yield warning("IMP006", (*path, name), message, fix)
        elif isinstance(value, dict):
            yield from _shadowed(value, rendered, (*path, name))


#: Fields of the spec that are not part of the object.
NOT_IN_OBJECTS: Final = ("slo", "relatedUrls", "exposedUrls")


def _lost(view: ObjectView, obj: Object) -> Problem:
    """Return the warning about fields of the spec whose values are in other objects or in no object."""
    missing = list(NOT_IN_OBJECTS)
    if at(obj, "metadata", "labels", keys.CATEGORY) is None:
        missing.append("category")
    if view.model is not None and view.part(view.pod, "serviceAccountName") is not None:
        missing.append("model.storageSecret (in the service account)")
    if view.serving == "kserve-standard" and at(obj, "metadata", "annotations", keys.AUTOSCALER_CLASS) == "external":
        missing.append("autoscaling (in a separate HPA or ScaledObject)")
    if view.part(view.pod, "resourceClaims") is not None:
        missing.append("compute (in separate resource claims)")
    if any("persistentVolumeClaim" in volume for volume in mappings(view.part(view.pod, "volumes"))):
        missing.append("storage.pvc[].claimInfo (in the volume claims)")
    if at(obj, "metadata", "ownerReferences") is not None:
        missing.append("metadata.ownerReferences (another object owns this one and may revert changes)")
    restored = {keys.SPEC, keys.PROJECT, keys.CATEGORY}
    missing += sorted(set(strip(obj)[1]) - restored)
    message = f"not part of the object, so not imported: {', '.join(missing)}"
    return warning("IMP004", (), message, "add these fields to the spec manually if the service needs them")
