"""The import of live and exported objects: a spec, with a patch for everything that the spec does not express.

The derived spec is a best effort and is verified: it is rendered, and each difference from the live object goes to
``spec.patches``. Rendering the import therefore reproduces the object, whatever it contains.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebbtide.adopt.attempt import RenderAttempt, find_differences, render_draft, render_top_object
from ebbtide.adopt.cleaning import clean_object, find_kind_module
from ebbtide.adopt.defaults import is_server_written, strip_ebbtide_keys
from ebbtide.adopt.derive import derive_metadata, derive_spec
from ebbtide.adopt.pod_fields import list_candidate_pools
from ebbtide.adopt.view import filter_mappings
from ebbtide.base import keys, names
from ebbtide.base.paths import get_at
from ebbtide.base.problems import Path, Problem, format_path, make_warning
from ebbtide.readers.reading import Reading, make_document
from ebbtide.readers.table import Draft
from ebbtide.spec.rules.naming import LABEL_VALUE
from ebbtide.translation.objects import make_merge_patch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.adopt.view import ObjectView
    from ebbtide.profile.models import Profile
    from ebbtide.translation.objects import Object


@dataclass(slots=True)
class ImportResult:
    """The result of an import: the native document, its patch, the problems, and the origin of each field."""

    native: dict[str, Any]
    patch: dict[str, Any] = field(default_factory=dict)
    losses: list[Problem] = field(default_factory=list)
    origins: dict[Path, Path] = field(default_factory=dict)


def recognize(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is an object of a supported kind."""
    return find_kind_module(data) is not None


def read(data: dict[str, Any], profile: Profile) -> Reading:
    """Return the object as a spec, with a patch for everything that no field of the spec expresses."""
    result = import_object(data, profile)
    return Reading(result.native, result.origins, result.losses)


def import_object(obj: Object, profile: Profile) -> ImportResult:
    """Return the spec of a live object, with a patch for everything that no field of the spec expresses, and the problems."""
    kind = find_kind_module(obj)
    assert kind is not None
    marked = is_server_written(obj)
    cleaned = clean_object(obj, profile)
    view: ObjectView = kind.make_view(cleaned, profile.spec)
    found_problems: list[Problem] = []
    stored = get_at(obj, "metadata", "annotations", keys.SPEC)
    if stored is not None:
        imported = _restore_stored_spec(stored, view, profile, marked=marked)
        if imported is not None:
            return imported
        message = "the spec stored on the object no longer matches it: the object was changed without Ebbtide"
        fix = "review the imported spec, and apply it to store it on the object"
        found_problems.append(make_warning("IMP003", ("metadata", "annotations", keys.SPEC), message, fix))
    nearest = _find_nearest_attempt(view, profile, marked=marked)
    draft = nearest.draft
    category = get_at(obj, "metadata", "labels", keys.CATEGORY)
    if isinstance(category, str) and LABEL_VALUE.fullmatch(category):
        draft.set_nonempty("spec.category", category, ("metadata", "labels", keys.CATEGORY))
    result = ImportResult(draft.native, {}, found_problems, draft.origins)
    if nearest.top is None:
        found_problems.append(_report_impossible(nearest.blocked, draft))
        return result
    found_problems.extend(_report_dropped_fields(nearest))
    ours = clean_object(nearest.top, profile, marked=marked)
    result.patch = make_merge_patch(ours, _add_empty_maps(cleaned, ours))
    if result.patch:
        # Problems about any part of the patch refer to the whole object.
        draft.origins["spec", "patches"] = ()
        draft.native["spec"]["patches"] = [{"kind": obj["kind"], "name": view.name, "patch": result.patch}]
        top, problems = render_top_object(draft.native, profile, obj["kind"])
        if top is None or clean_object(top, profile, marked=marked) != cleaned:
            found_problems.append(_report_impossible(problems, draft))
            return result
        found_problems.extend(_report_patched_fields(ours, _add_empty_maps(cleaned, ours)))
        found_problems.extend(_report_shadowed_lists(result.patch, ours))
    found_problems.append(_report_missing_fields(view, obj))
    return result


def _add_empty_maps(value: Any, ours: Any) -> Any:
    """Return ``value`` with an empty map of labels or annotations wherever only ``ours`` has one.

    The patch then removes each key by name, and does not remove keys that are added to the spec later.
    """
    if not (isinstance(value, dict) and isinstance(ours, dict)):
        return value
    missing: dict[str, Any] = {name: {} for name in ("labels", "annotations") if name in ours and name not in value}
    return {**{name: _add_empty_maps(item, ours.get(name)) for name, item in value.items()}, **missing}


def _restore_stored_spec(stored: Any, view: ObjectView, profile: Profile, *, marked: bool) -> ImportResult | None:
    """Return the spec that is stored on the object, None if rendering it does not reproduce the object."""
    try:
        spec = json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(spec, dict):
        return None
    draft = Draft(make_document(None, {}), cluster=profile.spec)
    derive_metadata(view, draft)
    metadata = draft.native["metadata"]
    if "project" in spec:
        metadata.pop("namespace", None)
    elif "project" in draft.spec:
        metadata["namespace"] = get_at(view.obj, "metadata", "namespace")
    native = {**draft.native, "spec": spec}
    top, problems = render_top_object(native, profile, view.obj["kind"])
    if top is None or problems or clean_object(top, profile, marked=marked) != view.obj:
        return None
    return ImportResult(native)


def _find_nearest_attempt(view: ObjectView, profile: Profile, *, marked: bool) -> RenderAttempt:
    """Return the attempt with the fewest differences from the object, and of equal ones the first."""
    nearest: RenderAttempt | None = None
    fewest_differences = -1
    for pools in list_candidate_pools(view, profile.spec):
        for gpu in (True, False):
            trial = render_draft(derive_spec(view, profile.spec, pools, gpu=gpu), profile, view.obj["kind"])
            if trial.top is None:
                nearest = nearest or trial
                continue
            count = sum(1 for _ in find_differences(clean_object(trial.top, profile, marked=marked), view.obj))
            if fewest_differences < 0 or count < fewest_differences:
                nearest, fewest_differences = trial, count
            if fewest_differences == 0:
                return trial
    assert nearest is not None
    return nearest


def _report_impossible(problems: list[Problem], draft: Draft) -> Problem:
    path: Path = ()
    reason, fix = "its parts contradict each other", "import it with the profile of the cluster that it comes from"
    for problem in problems[:1]:
        path, reason, fix = (
            draft.origins.get(problem.field, ()),
            f"{problem.code}: {problem.message}",
            problem.fix or fix,
        )
    return Problem("IMP005", path, f"no spec renders this object with the cluster profile ({reason})", fix)


def _report_dropped_fields(trial: RenderAttempt) -> Iterator[Problem]:
    for problem in trial.dropped:
        message = (
            f"{format_path(problem.field)} is not valid with the cluster profile ({problem.code}: {problem.message})"
        )
        path = _find_origin(trial.draft, problem.field)
        yield make_warning("IMP002", path, f"{message}; the object's value is kept in spec.patches", problem.fix)


def _find_origin(draft: Draft, path: Path) -> Path:
    for length in range(len(path), 0, -1):
        if path[:length] in draft.origins:
            return draft.origins[path[:length]]
    return path


def _report_patched_fields(ours: Object, cleaned: Object) -> Iterator[Problem]:
    for path, present in find_differences(ours, cleaned):
        message = "Ebbtide always renders this field, but the object does not have it; a patch removes it"
        if present:
            message = "no field of the spec expresses this; it is kept in spec.patches"
        fix = "keep spec.patches to preserve the object, or remove the patch to use what Ebbtide renders"
        yield make_warning("IMP001", path, message, fix)


def _report_shadowed_lists(patch: Any, ours: Any, path: Path = ()) -> Iterator[Problem]:
    """Yield a warning for each list that the patch replaces although fields of the spec render it."""
    for name, value in patch.items():
        rendered = ours.get(name) if isinstance(ours, dict) else None
        if isinstance(value, list) and rendered:
            message = (
                "a merge patch replaces a list as a whole: as long as the patch contains it, the spec's fields for this "
                "list have no effect (for containers: image, environment, probes, resources)"
            )
            fix = "remove the list from spec.patches once the spec's fields express it"
            yield make_warning("IMP006", (*path, name), message, fix)
        elif isinstance(value, dict):
            yield from _report_shadowed_lists(value, rendered, (*path, name))


#: Fields of the spec that are not part of the object.
NOT_IN_OBJECTS: Final = ("slo", "relatedUrls", "exposedUrls", "disruptionBudget")


def _report_missing_fields(view: ObjectView, obj: Object) -> Problem:
    """Return the warning about fields of the spec whose values are in other objects or in no object."""
    missing = list(NOT_IN_OBJECTS)
    if get_at(obj, "metadata", "labels", keys.CATEGORY) is None:
        missing.append("category")
    account = view.value_at(view.pod, "serviceAccountName")
    if view.model is not None and account == names.name_storage_account(view.name):
        missing.append("model.storageSecret (in the service account)")
    if (
        view.serving == "kserve-standard"
        and get_at(obj, "metadata", "annotations", keys.AUTOSCALER_CLASS) == "external"
    ):
        missing.append("autoscaling (in a separate HPA or ScaledObject)")
    if view.value_at(view.pod, "resourceClaims") is not None:
        missing.append("compute (in separate resource claims)")
    if any("persistentVolumeClaim" in volume for volume in filter_mappings(view.value_at(view.pod, "volumes"))):
        missing.append("storage.pvc[].claimInfo (in the volume claims)")
    if get_at(obj, "metadata", "ownerReferences") is not None:
        missing.append("metadata.ownerReferences (another object owns this one and may revert changes)")
    restored = {keys.SPEC, keys.PROJECT, keys.CATEGORY}
    missing += sorted(set(strip_ebbtide_keys(obj)[1]) - restored)
    message = f"not part of the object, so not imported: {', '.join(missing)}"
    return make_warning("IMP004", (), message, "add these fields to the spec manually if the service needs them")
