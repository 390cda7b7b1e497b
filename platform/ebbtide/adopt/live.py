"""Live and exported objects, read back into specs, with a patch for the rest.

The inverse is best effort and is never trusted: the spec it finds is rendered, and whatever differs from the
live object becomes a patch in ``spec.patches``. So rendering an import gives the object back, whatever was in
it.
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
    """A live object as a native document, with the document's patch on the object, and the problems found."""

    native: dict[str, Any]
    patch: dict[str, Any] = field(default_factory=dict)
    losses: list[Problem] = field(default_factory=list)
    origins: dict[Path, Path] = field(default_factory=dict)


def recognise(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is an object of a kind that is read back."""
    return kind_of(data) is not None


def read(data: dict[str, Any], profile: Profile) -> Reading:
    """Return the object as a spec, with a patch for what no field of it expresses."""
    found = import_object(data, profile)
    return Reading(found.native, found.origins, found.losses)


def import_object(obj: Object, profile: Profile) -> Import:
    """Return the spec of a live object, with a patch for what no field of it expresses, and the problems."""
    kind = kind_of(obj)
    assert kind is not None
    marked = touched(obj)
    cleaned = clean(obj, profile)
    view: ObjectView = kind.view(cleaned, profile.spec)
    said: list[Problem] = []
    kept = at(obj, "metadata", "annotations", keys.SPEC)
    if kept is not None:
        found = _from_kept(kept, view, profile, marked=marked)
        if found is not None:
            return found
        message = "the spec kept on the object no longer gives the object: somebody changed it by other means"
        fix = "read what was found, and render it again to keep the new spec"
        said.append(warning("IMP003", ("metadata", "annotations", keys.SPEC), message, fix))
    best = _best(view, profile, marked=marked)
    draft = best.draft
    category = at(obj, "metadata", "labels", keys.CATEGORY)
    if isinstance(category, str) and LABEL_VALUE.fullmatch(category):
        draft.keep("spec.category", category, ("metadata", "labels", keys.CATEGORY))
    result = Import(draft.native, {}, said, draft.origins)
    if best.top is None:
        said.append(_impossible(best.blocked, draft))
        return result
    said.extend(_refused(best))
    ours = clean(best.top, profile, marked=marked)
    result.patch = difference(ours, _opened(cleaned, ours))
    if result.patch:
        # The whole list becomes a patch, so problems about any part of it name the object.
        draft.origins["spec", "patches"] = ()
        draft.native["spec"]["patches"] = [{"kind": obj["kind"], "name": view.name, "patch": result.patch}]
        top, problems = render(draft.native, profile, obj["kind"])
        if top is None or clean(top, profile, marked=marked) != cleaned:
            said.append(_impossible(problems, draft))
            return result
        said.extend(_patched(ours, _opened(cleaned, ours)))
        said.extend(_shadowed(result.patch, ours))
    said.append(_lost(view, obj))
    return result


def _opened(value: Any, ours: Any) -> Any:
    """Return ``value`` with an empty map of labels or annotations wherever ``ours`` has some.

    So a patch takes out each one by name, and not those that the spec gets later.
    """
    if not (isinstance(value, dict) and isinstance(ours, dict)):
        return value
    missing: dict[str, Any] = {name: {} for name in ("labels", "annotations") if name in ours and name not in value}
    return {**{name: _opened(item, ours.get(name)) for name, item in value.items()}, **missing}


def _from_kept(kept: Any, view: ObjectView, profile: Profile, *, marked: bool) -> Import | None:
    """Return the spec that the object carries, if it still gives the object."""
    try:
        spec = json.loads(kept) if isinstance(kept, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(spec, dict):
        return None
    found = Draft(document(None, {}), cluster=profile.spec)
    find_metadata(view, found)
    metadata = found.native["metadata"]
    if "project" in spec:
        metadata.pop("namespace", None)
    elif "project" in found.spec:
        metadata["namespace"] = at(view.obj, "metadata", "namespace")
    native = {**found.native, "spec": spec}
    top, problems = render(native, profile, view.obj["kind"])
    if top is None or problems or clean(top, profile, marked=marked) != view.obj:
        return None
    return Import(native)


def _best(view: ObjectView, profile: Profile, *, marked: bool) -> Attempt:
    """Return the attempt that comes nearest to the object; of equals the first."""
    best: Attempt | None = None
    fewest = -1
    for chosen in candidates(view, profile.spec):
        for gpu in (True, False):
            tried = attempt(derive(view, profile.spec, chosen, gpu=gpu), profile, view.obj["kind"])
            if tried.top is None:
                best = best or tried
                continue
            count = sum(1 for _ in differences(clean(tried.top, profile, marked=marked), view.obj))
            if fewest < 0 or count < fewest:
                best, fewest = tried, count
            if fewest == 0:
                return tried
    assert best is not None
    return best


def _impossible(problems: list[Problem], draft: Draft) -> Problem:
    where: Path = ()
    reason, fix = "its own parts contradict each other", "import it with the profile of its own cluster"
    for first in problems[:1]:
        where, reason, fix = draft.origins.get(first.field, ()), f"{first.code}: {first.message}", first.fix or fix
    return Problem("IMP005", where, f"no spec gives this object with this profile ({reason})", fix)


def _refused(found: Attempt) -> Iterator[Problem]:
    for problem in found.dropped:
        message = f"{dotted(problem.field)} is refused here ({problem.code}: {problem.message})"
        where = _origin(found.draft, problem.field)
        yield warning("IMP002", where, f"{message}; what the object has stays in a patch", problem.fix)


def _origin(draft: Draft, path: Path) -> Path:
    for length in range(len(path), 0, -1):
        if path[:length] in draft.origins:
            return draft.origins[path[:length]]
    return path


def _patched(ours: Object, cleaned: Object) -> Iterator[Problem]:
    for path, there in differences(ours, cleaned):
        message = "a spec always sets this and the object has none; it is taken out by a patch"
        if there:
            message = "the spec has no word for this; it is kept as a patch"
        fix = "keep spec.patches as it is, or leave it out where Ebbtide's own way will do"
        yield warning("IMP001", path, message, fix)


def _shadowed(patch: Any, ours: Any, path: Path = ()) -> Iterator[Problem]:
    """Yield a warning for each list that the patch replaces although fields of the spec make it."""
    for name, value in patch.items():
        made = ours.get(name) if isinstance(ours, dict) else None
        if isinstance(value, list) and made:
            message = (
                "a merge patch replaces a list as a whole: while it is there, the spec's own fields for this "
                "list (of containers: image, environment, probes, resources) change nothing"
            )
            fix = "take the list out of spec.patches once the spec says enough"
            yield warning("IMP006", (*path, name), message, fix)
        elif isinstance(value, dict):
            yield from _shadowed(value, made, (*path, name))


#: Fields that no object holds.
NEVER: Final = ("slo", "relatedUrls", "exposedUrls")


def _lost(view: ObjectView, obj: Object) -> Problem:
    """Return the one warning about what other objects, or none, would say."""
    missing = list(NEVER)
    if at(obj, "metadata", "labels", keys.CATEGORY) is None:
        missing.append("category")
    if view.model is not None and view.part(view.pod, "serviceAccountName") is not None:
        missing.append("model.storageSecret (the service account has it)")
    if view.serving == "kserve-standard" and at(obj, "metadata", "annotations", keys.AUTOSCALER_CLASS) == "external":
        missing.append("autoscaling (an HPA or ScaledObject beside the object has it)")
    if view.part(view.pod, "resourceClaims") is not None:
        missing.append("compute (resource claims of their own have it)")
    if any("persistentVolumeClaim" in item for item in mappings(view.part(view.pod, "volumes"))):
        missing.append("storage.pvc[].claimInfo (the claims have it)")
    if at(obj, "metadata", "ownerReferences") is not None:
        missing.append("metadata.ownerReferences (another object makes this one, and may undo a change)")
    known = {keys.SPEC, keys.PROJECT, keys.CATEGORY}
    missing += sorted(set(strip(obj)[1]) - known)
    message = f"not in the object: {', '.join(missing)}"
    return warning("IMP004", (), message, "add by hand what the service had of these")
