"""Conversion of a spec to another kind of object: what the new kind cannot do is reported by name.

A spec with ``defaults: none``, as an import writes it, relies on the defaults of the object's controller. They differ between
the kinds, so the minimum becomes a field, and a scaling metric that the new kind replaces is an error.

Upstream: knative/serving pkg/autoscaler/config (min-scale 0 unless config-autoscaler sets it, concurrency); kserve
pkg/controller/v1beta1/inferenceservice/reconcilers/knative (min-scale 1, by SetAutoScalingAnnotations of
pkg/controller/v1alpha1/utils) and reconcilers/hpa (CPU at 80%, a maximum of at least the minimum).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.adopt.knative import parse_int_or
from ebbtide.core.adopt.live import with_kinds_installed
from ebbtide.core.base.problems import ERROR, Path, Problem
from ebbtide.core.readers.loaded import LoadedDocument, validate_reading
from ebbtide.core.readers.reading import Reading
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile


class _ControllerDefaults(NamedTuple):
    """The metric of an object that sets none, and the name of its controller for messages."""

    metric: str
    owner: str


_DEFAULTS: Final = {
    "knative": _ControllerDefaults("concurrency", "Knative"),
    "kserve": _ControllerDefaults("concurrency", "KServe in Knative mode"),
    "kserve-standard": _ControllerDefaults("cpu-utilization", "KServe Standard"),
    "llm": _ControllerDefaults("no metric", "an LLMInferenceService"),
}
#: The kinds of objects that a spec can be converted to.
SERVINGS: Final = tuple(_DEFAULTS)
#: Text in the keys of annotations that only Knative reads.
_KNATIVE_KEYS: Final = "knative.dev/"
#: Knative's default autoscaler, which says nothing that the other kinds could lose.
_DEFAULT_CLASS: Final = ("autoscaling.knative.dev/class", "kpa.autoscaling.knative.dev")
#: Warnings of an import about parts of an object that its spec keeps as patches.
_PATCHED: Final = {"IMP001", "IMP002"}


def convert_serving(loaded: LoadedDocument, serving: str, profile: Profile) -> LoadedDocument:
    """Return a document with another ``serving``, and a problem for each of its fields that the new kind cannot honor.

    Problems that the document has without the change are not repeated.
    """
    source = _find_serving(loaded.reading.native["spec"])
    if source == serving:
        return loaded
    native = deepcopy(loaded.reading.native)
    reading = Reading(native, loaded.reading.origins)
    spec = native["spec"]
    first = {"defaults": spec["defaults"]} if "defaults" in spec else {}
    native["spec"] = spec = {**first, "serving": serving, **{key: spec[key] for key in spec if key != "serving"}}
    if "knative" in {source, serving}:
        # Knative and KServe call the container of a service differently; each uses its own name by default.
        spec.pop("containerName", None)
    problems, known = [], loaded.problems
    if spec.get("defaults") == "none":
        port = spec.setdefault("servingPort", {})
        if spec.get("sidecars") and SERVING_MODES[serving].revisions and not port.keys() & {"container", "protocol"}:
            # Knative's webhook requires the port of a service with several containers.
            port["container"] = SERVING_MODES[source].port
        if not port:
            del spec["servingPort"]
        problems = [*_set_bounds(spec, source, serving, profile), *_drop_knative_keys(reading, serving)]
        if "knative" in {source, serving} and any(problem.code in _PATCHED for problem in known):
            del spec["patches"]
            known = [_refuse_patch(problem) if problem.code in _PATCHED else problem for problem in known]
    converted = validate_reading(reading, loaded.name, loaded.line, known)
    converted.problems += converted.place_problems([*problems, *_find_new_problems(loaded, converted, profile)])
    return converted


def _find_serving(spec: dict[str, Any]) -> str:
    serving = spec.get("serving") or "auto"
    return serving if serving in _DEFAULTS else "kserve" if "model" in spec else "knative"


def _find_new_problems(loaded: LoadedDocument, converted: LoadedDocument, profile: Profile) -> Iterator[Problem]:
    if loaded.inference is None or converted.inference is None:
        return
    before = translate(loaded.inference, with_kinds_installed(profile), loaded.canonical).problems
    known = {(problem.code, problem.field) for problem in before}
    for problem in translate(converted.inference, profile, converted.canonical).problems:
        if (problem.code, problem.field) not in known:
            yield problem


def _set_bounds(spec: dict[str, Any], source: str, serving: str, profile: Profile) -> Iterator[Problem]:
    """Set the minimum that the object's controller uses, and report a scaling metric that would change."""
    old, new = _DEFAULTS[source], _DEFAULTS[serving]
    auto = spec.setdefault("autoscaling", {})
    minimum = parse_int_or(profile.spec.knative.autoscaler.get("min-scale"), 0) if source == "knative" else 1
    auto.setdefault("minReplicas", minimum)
    if source == "kserve-standard" and "metric" not in auto:
        auto.setdefault("maxReplicas", auto["minReplicas"])
    if "metric" not in auto and old.metric != new.metric and auto["minReplicas"] != auto.get("maxReplicas"):
        message = f"the service scales by {old.metric}, the default of {old.owner}, but {new.owner} would scale it by {new.metric}"
        fix = f"convert without --serving, set metric and metricThreshold, and set serving to {serving}"
        yield Problem("CNV074", ("spec", "autoscaling"), message, fix)


def _drop_knative_keys(reading: Reading, serving: str) -> Iterator[Problem]:
    """Remove the annotation of Knative's default autoscaler, and report annotations that only Knative reads."""
    spec, path = reading.native["spec"], ("spec", "annotations")
    if not SERVING_MODES[serving].revisions:
        items = list(enumerate(spec.get("annotations") or []))
        kept = [(old, item) for old, item in items if (item.get("name"), item.get("value")) != _DEFAULT_CLASS]
        spec["annotations"] = [item for _, item in kept]
        old_origins = {old: reading.origin_of((*path, old)) for old, _ in kept}
        reading.origins = reading.origins | {(*path, new): old_origins[old] for new, (old, _) in enumerate(kept)}
        for index, (_, item) in enumerate(kept):
            if _KNATIVE_KEYS in str(item.get("name")):
                yield _report_key((*path, index), item["name"], serving)
    if not spec.get("annotations"):
        spec.pop("annotations", None)
    for block in ("labels", "annotations"):
        for key in reading.native["metadata"].get(block) or {}:
            if _KNATIVE_KEYS in key:
                yield _report_key(("metadata", block, key), key, serving)


def _refuse_patch(problem: Problem) -> Problem:
    """Return the error about a part of an object that only a patch expresses, and that another kind does not have."""
    message = "no field of the spec expresses this, and a patch of the object does not apply to another kind of object"
    return replace(problem, code="CNV074", message=message, fix="remove it from the object", severity=ERROR)


def _report_key(where: Path, key: str, serving: str) -> Problem:
    message = f"{key} has no effect with serving {serving}: only Knative reads it, on a Knative Service"
    return Problem("CNV074", where, message, "remove it from the object")
