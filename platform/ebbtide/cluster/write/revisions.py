"""Changes to a running workload without an apply: scale its revisions, send all traffic to an older one, suspend, resume.

Scale and rollback use another field manager than ``apply``, which takes both into account: a scale is recorded in
``ebbtide.dev/scale`` and folded into the next rollout, a pinned revision is unpinned by the next apply. Upstream: knative.dev/serving
pkg/reconciler/revision/reconcile_resources.go (scaling annotations of a revision reach its PodAutoscaler and no pod),
pkg/apis/serving/v1/route_types.go (traffic), kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative
(canaryTrafficPercent 0 sends all traffic to the previously rolled out revision).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Cluster, ClusterError, CutShortError, Kind
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import LiveWorkload, find_by_name
from ebbtide.cluster.read.records import SCALED, is_in_rollout, read_scale_record, scaled_revisions, serving_revisions
from ebbtide.cluster.write.apply import get_scale_value
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import parse_count, parse_finite
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import drop_zero_fraction
from ebbtide.core.translation.objects import Object

#: The parameters of an operation that are set, by name.
Values: TypeAlias = "dict[str, Any]"


def explain_no_rollback(live: LiveWorkload, to: str | None) -> str:
    """Return why a workload cannot be rolled back; empty if it can."""
    if live.service is None:
        return _explain_no_revision(live, "apply the older spec instead")
    if reason := _explain_unfinished(live):
        return reason
    known = [revision["metadata"]["name"] for revision in live.revisions]
    if to is not None and to not in known:
        return f"revision {to} of {live.name} not found; its revisions are {', '.join(known) or 'none'}"
    target = find_rollback_target(live, to)
    if not target:
        return f"{live.name} has no ready revision older than {', '.join(serving_revisions(live)) or 'the newest one'}"
    if to is not None and not _has_ready_condition(find_by_name(live.revisions, to) or {}):
        return f"revision {to} is not ready and cannot serve"
    if live.top["kind"] == "InferenceService":
        previous = get_at(live.top, "status", "components", "predictor", "previousRolledoutRevision")
        if to is None and target in serving_revisions(live):
            # canaryTrafficPercent 0 would go one revision further (propagateStatus of KServe's predictor).
            return (
                f"{target} still serves {live.name}, and the newest revision receives no requests; "
                "to end its rollout, apply the former spec"
            )
        if target != previous:
            return f"KServe can only roll back to the previously rolled out revision ({previous or 'none'})"
    return ""


def _explain_no_revision(live: LiveWorkload, fix: str) -> str:
    """Return why a workload has no revision, with the fix."""
    if live.top["kind"] == kube.KNATIVE.name:
        return f"{live.name} has no revision yet"
    mode = "is an LLMInferenceService" if live.top["kind"] == kube.LLM.name else "runs in KServe's Standard mode"
    return f"{live.name} {mode}, which has no revisions; {fix}"


def _explain_unfinished(live: LiveWorkload) -> str:
    """Return why a workload in a rollout without additional replicas cannot be changed; empty if it is in none."""
    if not any(map(is_in_rollout, live.revisions)):
        return ""
    return (
        f"the rollout of {live.name} has not ended, and sets its replicas and traffic; run ebbtide apply to finish it, or "
        "apply the former spec to return to it"
    )


def find_rollback_target(live: LiveWorkload, to: str | None) -> str:
    """Return the revision to roll back to; empty if there is none.

    It is ``to``, or what the newest revision replaced: the newest ready revision before the oldest serving one, or, if the
    newest revision never received the traffic, the revision that still serves.
    """
    if to is not None:
        return to
    serving = serving_revisions(live)
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    if serving and newest not in serving and not _is_pinned(live):
        return serving[-1]
    names = [revision["metadata"]["name"] for revision in live.revisions]
    positions = [names.index(name) for name in serving if name in names]
    older = live.revisions[: min(positions)] if positions else ()
    return next((revision["metadata"]["name"] for revision in reversed(older) if _has_ready_condition(revision)), "")


def _is_pinned(live: LiveWorkload) -> bool:
    """Return whether the traffic goes to named revisions, as after a rollback, and not to the newest ready one."""
    return all(row.get("revisionName") for row in get_at(live.service, "spec", "traffic", default=[]) or [{}])


def _has_ready_condition(revision: Object) -> bool:
    # A revision without traffic that was scaled to zero also has the condition Ready.
    return of_pod.find_condition(revision, "Ready").get("status") == "True"


def pin_revision(cluster: Cluster, live: LiveWorkload, revision: str) -> None:
    """Send all traffic to a revision."""
    if live.top["kind"] == "InferenceService":
        cluster.patch(kube.KSERVE, live.name, live.namespace, {"spec": {"predictor": {"canaryTrafficPercent": 0}}})
        return
    traffic = [{"revisionName": revision, "latestRevision": False, "percent": 100}]
    cluster.patch(kube.KNATIVE, live.name, live.namespace, {"spec": {"traffic": traffic}})


# Scale.


def explain_no_scale(live: LiveWorkload, values: Values) -> str:
    """Return why a scale cannot be set; empty if it can."""
    if live.service is None or not scaled_revisions(live):
        return _explain_no_revision(live, "change minReplicas and maxReplicas in the spec and apply it")
    if reason := _explain_unfinished(live):
        return reason
    annotations = get_at(live.revisions[-1], "metadata", "annotations", default={}) if live.revisions else {}
    low = values.get("minReplicas", parse_count(annotations.get(keys.MIN_SCALE)) or 0)
    high = values.get("maxReplicas", parse_count(annotations.get(keys.MAX_SCALE)) or 0)
    if low < 0 or high < 0 or (high and low > high):
        return f"invalid bounds: min {low:g} and max {high:g}; min must be at least 0 and must not exceed max"
    if "maxReplicas" in values and not high:
        return "invalid max 0: it means unlimited in Knative; must be at least 1"
    by_hpa = annotations.get(keys.CLASS) == keys.CLASS_HPA
    if by_hpa and low < 1:
        return f"invalid min {low:g}: an HPA scales this workload and cannot scale it to zero; must be at least 1"
    target = values.get("metricThreshold")
    if target is None:
        return ""
    if is_scaled_by_controller(live.top):
        return (
            "Ebbtide's controller scales this workload, so its thresholds are not on the revisions; change them in the spec and "
            "apply it, which creates no revision"
        )
    if keys.TARGET not in annotations:
        return "this workload has no scaling metric, so it has no target to set"
    if target <= 0 or (by_hpa and (target < 1 or target != int(target))):
        limit = "a whole number of at least 1, because an HPA scales this workload" if by_hpa else "greater than 0"
        return f"invalid target {target:g}: must be {limit}"
    return ""


def scale_workload(cluster: Cluster, live: LiveWorkload, requested: Values) -> None:
    """Record bounds or target on the workload, and set them on the revisions. Safe to repeat after an interruption.

    The record is written first: an unrecorded change of a revision would be neither reported nor reset.
    Raises CutShortError if a write failed after others, and ClusterError if the cluster rejects the change and nothing
    is written.
    """
    values = {name: int(value) if value == int(value) else value for name, value in requested.items()}
    annotations: dict[str, str | None] = {SCALED[name]: str(value) for name, value in values.items()}
    writes = _make_revision_writes(live, annotations)
    # The next rollout would take over a recorded value even if the cluster rejects it, so dry runs come first.
    for kind, name, patch in writes:
        cluster.patch(kind, name, live.namespace, patch, dry_run=True)
    record = read_scale_record(live.top)
    base = {**{name: _read_spec_value(live, name) for name in values}, **record.base}
    text = json.dumps({**record.values, **values, "base": base}, sort_keys=True)
    _write_all(cluster, live, [_make_record_write(live, text), *writes])


def _read_spec_value(live: LiveWorkload, name: str) -> int | float | None:
    """Return the spec's value of a field, from the template."""
    value = parse_finite(get_scale_value(live.top, name))
    return None if value is None else drop_zero_fraction(value)


def reset_scale(cluster: Cluster, live: LiveWorkload) -> None:
    """Reset the revisions to the spec's values. Safe to repeat after an interruption.

    The record is removed last, so that an interrupted reset can be repeated. If a rollout had taken over the scale, the
    record is kept with the live values, so that the outdated value in the template does not create a new revision. Raises
    the same errors as ``scale``.
    """
    record = read_scale_record(live.top)
    annotations = {
        SCALED[name]: None if record.base.get(name) is None else str(record.base[name]) for name in record.values
    }
    if not annotations and not record.problem:
        return
    remaining = {
        name: base
        for name in record.values
        if (base := record.base.get(name)) is not None and _read_spec_value(live, name) != base
    }
    note = _make_record_write(live, json.dumps({**remaining, "base": remaining}, sort_keys=True) if remaining else None)
    _write_all(cluster, live, [*_make_revision_writes(live, annotations), note])


class _PatchWrite(NamedTuple):
    kind: Kind
    name: str
    patch: Object


def _make_revision_writes(live: LiveWorkload, annotations: dict[str, str | None]) -> list[_PatchWrite]:
    if is_scaled_by_controller(live.top):
        # One writer: the controller reads the record, and writes the larger of it and its own decision.
        annotations = {key: value for key, value in annotations.items() if key != keys.MIN_SCALE}
    if not annotations:
        return []
    return [
        _PatchWrite(kube.REVISION, name, {"metadata": {"annotations": annotations}}) for name in scaled_revisions(live)
    ]


def is_scaled_by_controller(top: Object) -> bool:
    """Return whether Ebbtide's controller scales a workload."""
    return keys.FLOOR in (top["metadata"].get("annotations") or {})


def _make_record_write(live: LiveWorkload, text: str | None) -> _PatchWrite:
    return _PatchWrite(kube.kind_of(live.top), live.name, {"metadata": {"annotations": {keys.SCALE: text}}})


def _write_all(cluster: Cluster, live: LiveWorkload, writes: Iterable[_PatchWrite]) -> None:
    done: list[str] = []
    for kind, name, patch in writes:
        try:
            cluster.patch(kind, name, live.namespace, patch)
        except ClusterError as error:
            if done:
                raise CutShortError(error, tuple(done)) from error
            raise
        done.append(f"changed {kind.name} {live.namespace}/{name}")


# Suspend.


def explain_no_suspend(live: LiveWorkload, _values: Values) -> str:
    """Return why a workload cannot be suspended or resumed; empty if it can."""
    name = live.name
    if live.top["kind"] == kube.KSERVE.name:
        return ""
    if live.top["kind"] == kube.LLM.name:
        return (
            f"cannot suspend {name}: it is an LLMInferenceService; set the annotation {keys.STOP} with kubectl annotate"
        )
    return (
        f"cannot suspend {name}: Knative Services cannot be suspended; run ebbtide scale {name} "
        "--min 0 to let it scale to zero, or deploy it with serving: kserve"
    )


def suspend_workload(cluster: Cluster, top: Object) -> bool:
    """Set KServe's stop annotation; return whether this drops a manual scale override, because its revisions end."""
    overridden = keys.SCALE in (top["metadata"].get("annotations") or {})
    annotations = {keys.STOP: "true", **({keys.SCALE: None} if overridden else {})}
    cluster.patch(
        kube.KSERVE, top["metadata"]["name"], top["metadata"]["namespace"], {"metadata": {"annotations": annotations}}
    )
    return overridden


# The operations of ``core/base/operations.py``, for the commands, the API and the page.


class Outcome(NamedTuple):
    """The result: the changed objects, the keys of the command's JSON, a sentence, and a note about another effect."""

    done: tuple[str, ...]
    data: dict[str, Any]
    message: str
    note: str = ""


class Change(NamedTuple):
    """The functions of an operation: why it is unavailable, how it is performed, and what the command asks before."""

    explain_no: Callable[[LiveWorkload, Values], str]
    perform: Callable[[Cluster, LiveWorkload, Values], Outcome]
    ask: Callable[[LiveWorkload, Values], str] = lambda *_: ""


def _scale(cluster: Cluster, live: LiveWorkload, values: Values) -> Outcome:
    changed = tuple(scaled_revisions(live))
    if values:
        scale_workload(cluster, live, values)
        text = ", ".join(f"{name} {value:g}" for name, value in values.items())
        effect = (
            f"{text}. No new revision was created. The next rollout keeps these values unless the spec changes them"
        )
    else:
        reset_scale(cluster, live)
        effect = "the scaling settings of the spec are restored"
    return Outcome(changed, {"revisions": changed, "scale": values}, f"{', '.join(changed)}: {effect}")


def _roll_back(cluster: Cluster, live: LiveWorkload, values: Values) -> Outcome:
    target = find_rollback_target(live, values.get("to"))
    pin_revision(cluster, live, target)
    message = f"all traffic of {live.namespace}/{live.name} is routed to {target} until the next apply"
    return Outcome((target,), {"revision": target}, message)


def _ask_rollback(live: LiveWorkload, values: Values) -> str:
    target = find_rollback_target(live, values.get("to"))
    serving = ", ".join(serving_revisions(live)) or "no revision"
    if target == serving:
        return f"Keep all traffic on {target} and end the rollout of the newest revision?"
    return f"Route all traffic to {target} instead of {serving}?"


def _suspend(cluster: Cluster, live: LiveWorkload, _values: Values) -> Outcome:
    place, note = f"{live.namespace}/{live.name}", ""
    if suspend_workload(cluster, live.top):
        note = "The manual scaling override is removed. After a resume, the scaling settings of the spec apply."
    return Outcome((place,), {"suspended": True}, f"{place} is being suspended; its spec is kept", note)


def _resume(cluster: Cluster, live: LiveWorkload, _values: Values) -> Outcome:
    metadata, place = {"annotations": {keys.STOP: None}}, f"{live.namespace}/{live.name}"
    cluster.patch(kube.KSERVE, live.name, live.namespace, {"metadata": metadata})
    return Outcome((place,), {"suspended": False}, f"{place} is starting; to watch it, run watch ebbtide list")


#: The functions of each operation, by its name.
CHANGES: Final = {
    "scale": Change(explain_no_scale, _scale),
    "rollback": Change(lambda live, values: explain_no_rollback(live, values.get("to")), _roll_back, _ask_rollback),
    "suspend": Change(explain_no_suspend, _suspend),
    "resume": Change(explain_no_suspend, _resume),
}
