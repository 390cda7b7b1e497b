"""The import of live and exported objects: a spec, with a patch for everything that the spec does not express.

The derived spec is a best effort and is verified: it is rendered, and each difference from the live object goes to
``spec.patches``. Rendering the import therefore reproduces the object, whatever it contains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt import attempt
from ebbtide.core.adopt.cleaning import clean_object, find_kind_module
from ebbtide.core.adopt.defaults import is_server_written, strip_ebbtide_keys
from ebbtide.core.adopt.derive import adds_defaults, derive_metadata, derive_spec
from ebbtide.core.adopt.pod_fields import list_candidate_pools
from ebbtide.core.adopt.view import ObjectView, filter_mappings
from ebbtide.core.base import keys, names
from ebbtide.core.base.annotations import UnreadableError, read_annotation, read_spec
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Path, Problem, format_path, make_warning
from ebbtide.core.profile.built_in import BUILT_IN
from ebbtide.core.readers import shapes
from ebbtide.core.readers.reading import Reading, make_document
from ebbtide.core.readers.table import Draft
from ebbtide.core.spec.rules.naming import LABEL_VALUE
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.objects import Object, with_values
from ebbtide.core.translation.patches import list_patched_paths, make_patch

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: The living API version of a kind's dead ones, the fields of its spec, and one that the older form does not have
#: (knative.dev/serving v0.17 pkg/apis/serving/v1alpha1/service_types.go; kserve v0.7, which renamed serving.kubeflow.org).
DEAD_VERSIONS: Final[dict[tuple[str, str], tuple[str, frozenset[str], Path]]] = {
    **{
        ("Service", f"serving.knative.dev/{version}"): (
            "serving.knative.dev/v1",
            frozenset({"template", "traffic"}),
            ("template", "spec", "containers"),
        )
        for version in ("v1alpha1", "v1beta1")
    },
    ("InferenceService", "serving.kubeflow.org/v1beta1"): (
        "serving.kserve.io/v1beta1",
        frozenset({"predictor", "transformer", "explainer"}),
        ("predictor",),
    ),
}


@dataclass(slots=True)
class ImportResult:
    """The result of an import: the native document, its patch, the problems, and the origin of each field."""

    native: dict[str, Any]
    patch: dict[str, Any] = field(default_factory=dict)
    losses: list[Problem] = field(default_factory=list)
    origins: dict[Path, Path] = field(default_factory=dict)


def recognize(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is an object of a supported kind."""
    return find_kind_module(_read_dead_version(data)) is not None


def read(data: dict[str, Any], profile: Profile) -> Reading:
    """Return the object as a spec, with a patch for everything that no field of the spec expresses."""
    living = _read_dead_version(data)
    result = import_object(living, profile)
    notes = []
    if living is not data:
        message = f"no release serves {data['apiVersion']} today; the object is read as {living['apiVersion']}, which has the same fields"
        notes.append(make_warning("IMP009", ("apiVersion",), message, f"change apiVersion to {living['apiVersion']}"))
    return Reading(result.native, result.origins, notes + result.losses)


def _read_dead_version(data: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a dead API version in its living version if its fields are the same, else the object itself."""
    kind, version, spec = data.get("kind"), data.get("apiVersion"), data.get("spec")
    row = DEAD_VERSIONS.get((kind, version)) if isinstance(kind, str) and isinstance(version, str) else None
    living, fields, required = row or ("", frozenset(), ())
    same = isinstance(spec, dict) and fields >= spec.keys() and get_at(spec, *required) is not None
    return {**data, "apiVersion": living} if same else data


def import_object(obj: Object, profile: Profile) -> ImportResult:
    """Return the spec of a live object, with a patch for everything that no field of the spec expresses, and the problems."""
    kind = find_kind_module(obj)
    assert kind is not None
    profile = with_kinds_installed(profile)
    marked = is_server_written(obj)
    cleaned = clean_object(obj, profile)
    view: ObjectView = kind.make_view(cleaned, profile.spec)
    found_problems: list[Problem] = []
    if read_annotation(obj, keys.SPEC) is not None:
        rendered = _render_stored_spec(obj, view, profile, marked=marked)
        if rendered is not None and rendered[1] == view.obj:
            return ImportResult(rendered[0])
        message = "the spec stored on the object no longer matches it: the object was changed without Ebbtide"
        fix = "review the imported spec, and apply it to store it on the object"
        found_problems.append(make_warning("IMP003", ("metadata", "annotations", keys.SPEC), message, fix))
    category = get_at(obj, "metadata", "labels", keys.CATEGORY)
    nearest = _find_nearest_attempt(view, profile, marked=marked)
    draft = nearest.draft
    if isinstance(category, str) and LABEL_VALUE.fullmatch(category):
        draft.set_nonempty("spec.category", category, ("metadata", "labels", keys.CATEGORY))
    result = ImportResult(draft.native, {}, found_problems, draft.origins)
    if nearest.top is None:
        found_problems.append(_report_impossible(nearest.blocked, draft))
        return result
    ours, blocked = _patch_differences(nearest, cleaned, result, marked=marked)
    if ours is None:
        found_problems.append(_report_impossible(blocked, draft))
        return result
    if not adds_defaults(draft):
        found_problems.append(_report_defaults())
    found_problems.extend(_report_dropped_fields(nearest))
    if result.patch:
        found_problems.extend(_report_patched_fields(result.patch, ours, cleaned, nearest))
    found_problems.extend(_report_missing_fields(view, obj))
    path = ("metadata", "annotations", keys.DEPLOYMENT_MODE)
    if get_at(obj, *path) == keys.MODEL_MESH:
        message = (
            "ModelMesh loads this model into running pods: fields for replicas, resources and probes have no effect"
        )
        found_problems.append(
            make_warning("IMP010", path, message, "remove the annotation to give the model its own pods")
        )
    return result


def with_kinds_installed(profile: Profile) -> Profile:
    """Return a profile with Knative and all modes of KServe: the object comes from a cluster that has its kind.

    Whether the profile's cluster has them is checked when the spec is rendered. Modes stay as they are if KServe is
    installed, because they tell the mode of an object without an annotation.
    """
    spec = profile.spec
    if spec.knative.installed and spec.kserve.installed and spec.kserve.llm != "none":
        return profile
    kserve = spec.kserve if spec.kserve.installed else with_values(spec.kserve, modes=["Knative", "Standard"])
    if kserve.llm == "none":
        kserve = with_values(kserve, llm="scheduler")
    changed: Profile = with_values(
        profile,
        spec=with_values(
            spec, knative=with_values(spec.knative, installed=True), kserve=with_values(kserve, installed=True)
        ),
    )
    return changed


def _with_any_gpus(profile: Profile) -> Profile:
    """Return a profile with whole GPUs, for an object whose GPUs the profile's node pools do not have."""
    built_in, _ = shapes.validate_profile(BUILT_IN)
    assert built_in is not None
    changed: Profile = with_values(profile, spec=with_values(profile.spec, node_pools=built_in.spec.node_pools))
    return changed


def _patch_differences(
    nearest: attempt.RenderAttempt, cleaned: Object, result: ImportResult, *, marked: bool
) -> tuple[Object | None, list[Problem]]:
    """Set the patch that turns the rendered object into the live one, and return the rendered object.

    A field whose rendered value the patch would change is removed from the spec: no patch covers a field, so an edit of any
    field has an effect. Returns None and the problems if no patch reproduces the object.
    """
    draft, profile = nearest.draft, nearest.profile
    kind, name = cleaned["kind"], get_at(cleaned, "metadata", "name")
    for _ in range(attempt.ROUNDS):
        if nearest.top is None:
            return None, nearest.blocked
        ours = clean_object(nearest.top, profile, marked=marked)
        result.patch = make_patch(ours, _add_empty_maps(cleaned, ours))
        if not result.patch:
            return ours, []
        entry = {"kind": kind, "name": name, "patch": result.patch}
        patched = {**draft.native, "spec": {**draft.native["spec"], "patches": [entry]}}
        top, problems = attempt.render_top_object(patched, profile, kind)
        if top is not None and not problems:
            if clean_object(top, profile, marked=marked) != cleaned:
                return None, []
            # Problems about any part of the patch refer to the whole object.
            draft.origins["spec", "patches"] = ()
            draft.native["spec"]["patches"] = patched["spec"]["patches"]
            return ours, []
        covered = [problem for problem in problems if problem.code == "PAT003"]
        if not covered or not attempt.remove_fields(draft.native, covered):
            return None, problems
        attempt.render_attempt(nearest, kind)
    return None, nearest.blocked


def _add_empty_maps(value: Any, ours: Any) -> Any:
    """Return ``value`` with an empty map of labels or annotations wherever only ``ours`` has one.

    The patch then removes each key by name, and does not remove keys that are added to the spec later.
    """
    if not (isinstance(value, dict) and isinstance(ours, dict)):
        return value
    missing: dict[str, Any] = {name: {} for name in ("labels", "annotations") if name in ours and name not in value}
    return {**{name: _add_empty_maps(item, ours.get(name)) for name, item in value.items()}, **missing}


def render_stored_spec(obj: Object, profile: Profile) -> tuple[Object, Object] | None:
    """Return what an object's stored spec renders, and the object, both without what the server sets.

    None if no valid spec is stored on it.
    """
    kind = find_kind_module(obj)
    if kind is None or read_annotation(obj, keys.SPEC) is None:
        return None
    profile = with_kinds_installed(profile)
    view: ObjectView = kind.make_view(clean_object(obj, profile), profile.spec)
    rendered = _render_stored_spec(obj, view, profile, marked=is_server_written(obj))
    return None if rendered is None else (rendered[1], view.obj)


def _render_stored_spec(
    obj: Object, view: ObjectView, profile: Profile, *, marked: bool
) -> tuple[dict[str, Any], Object] | None:
    """Return the document of the spec that is stored on an object, and its rendered object; None if it is invalid."""
    try:
        spec = read_spec(obj)
    except UnreadableError:
        return None
    assert spec is not None, "the caller has found the annotation"
    draft = Draft(make_document(None, {}), cluster=profile.spec)
    derive_metadata(view, draft)
    metadata = draft.native["metadata"]
    if "project" in spec:
        metadata.pop("namespace", None)
    elif "project" in draft.spec:
        metadata["namespace"] = get_at(view.obj, "metadata", "namespace")
    native = {**draft.native, "spec": spec}
    top, problems = attempt.render_top_object(native, profile, view.obj["kind"])
    return None if top is None or problems else (native, clean_object(top, profile, marked=marked))


def _find_nearest_attempt(view: ObjectView, profile: Profile, *, marked: bool) -> attempt.RenderAttempt:
    """Return the attempt with the fewest differences from the object, and of equal ones the first."""
    nearest: attempt.RenderAttempt | None = None
    fewest_differences = -1
    # An object that Ebbtide rendered has its defaults. On any other, each default would be a difference.
    ours = get_at(view.obj, "metadata", "labels", keys.APP_MANAGED_BY) == "ebbtide"
    trials = [(profile, pools) for pools in list_candidate_pools(view, profile.spec)] + [(_with_any_gpus(profile), ())]
    for (cluster, pools), defaults in product(trials, (True, False) if ours else (False,)):
        draft = derive_spec(view, cluster.spec, pools, defaults=defaults)
        trial = attempt.render_draft(draft, cluster, view.obj["kind"])
        if trial.top is None:
            nearest = nearest or trial
            continue
        if (
            cluster is not profile
            and attempt.render_top_object(trial.draft.native, profile, view.obj["kind"])[0] is not None
        ):
            # The profile's node pools have these GPUs too, and render them as another object.
            continue
        count = sum(1 for _ in attempt.find_differences(clean_object(trial.top, cluster, marked=marked), view.obj))
        if fewest_differences < 0 or count < fewest_differences:
            nearest, fewest_differences = trial, count
        if fewest_differences == 0:
            return trial
    assert nearest is not None
    return nearest


def _report_impossible(problems: list[Problem], draft: Draft) -> Problem:
    path: Path = ()
    reason, fix = "its parts contradict each other", "import it with the profile of the cluster that it comes from"
    if problems:
        first = problems[0]
        path, fix = draft.origins.get(first.field, ()), first.fix or fix
        if path and first.code == "SPEC003":
            fix = f"set {format_path(path)}"
        reason = f"{first.code}: {first.message}"
    return Problem("IMP005", path, f"no spec renders this object with the cluster profile ({reason})", fix)


def _report_dropped_fields(trial: attempt.RenderAttempt) -> Iterator[Problem]:
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


def _report_patched_fields(
    patch: dict[str, Any], ours: Object, cleaned: Object, trial: attempt.RenderAttempt
) -> Iterator[Problem]:
    """Yield a warning for each part of the patch, unless another warning names its field."""
    reported = [_find_origin(trial.draft, problem.field) for problem in trial.dropped]
    for path, present in list_patched_paths(patch, ours, cleaned):
        message = "Ebbtide always renders this field, but the object does not have it; a patch removes it"
        if present:
            message = "no field of the spec expresses this; it is kept in spec.patches"
        of_defaults = "securityContext" in path and not adds_defaults(trial.draft)
        removed = "the patch and defaults: none" if of_defaults else "the patch"
        fix = f"keep spec.patches to preserve the object, or remove {removed} to use what Ebbtide renders"
        if not any(path[: len(where)] == where or where[: len(path)] == path for where in reported if where):
            yield make_warning("IMP001", path, message, fix)


def _report_defaults() -> Problem:
    message = (
        "Ebbtide's defaults are off in the imported spec (defaults: none): labels, security context, scheduler, priority "
        "class, autoscaler class and bounds are only what the spec sets"
    )
    fix = "keep it to render the same object, or remove defaults: none from the spec to use Ebbtide's defaults"
    return make_warning("IMP008", ("spec",), message, fix)


def _report_missing_fields(view: ObjectView, obj: Object) -> Iterator[Problem]:
    """Yield the warning about fields of the spec whose values are in other objects or in no object."""
    missing = []
    account = view.value_at(view.pod, "serviceAccountName")
    if (view.model or view.language_model) is not None and account == names.name_storage_account(view.name):
        missing.append("model.storageSecret (in the service account)")
    own_scaler = get_at(obj, "metadata", "annotations", keys.AUTOSCALER_CLASS) == "external"
    if view.language_model is not None:
        ours = get_at(obj, "metadata", "labels", keys.APP_MANAGED_BY) == "ebbtide"
        own_scaler = ours and get_at(obj, "spec", "replicas") is None
    if own_scaler and not SERVING_MODES[view.serving].revisions:
        missing.append("autoscaling (in a separate HPA or ScaledObject)")
    if view.value_at(view.pod, "resourceClaims") is not None:
        missing.append("compute (in separate resource claims)")
    if any("persistentVolumeClaim" in volume for volume in filter_mappings(view.value_at(view.pod, "volumes"))):
        missing.append("storage.pvc[].claimInfo (in the volume claims)")
    if get_at(obj, "metadata", "ownerReferences") is not None:
        missing.append("metadata.ownerReferences (another object owns this one and may revert changes)")
    restored = {keys.SPEC, keys.PROJECT, keys.CATEGORY}
    missing += sorted(set(strip_ebbtide_keys(obj)[1]) - restored)
    if missing:
        message = f"not part of the object, so not imported: {', '.join(missing)}"
        yield make_warning("IMP004", (), message, "add these fields to the spec manually if the service needs them")
