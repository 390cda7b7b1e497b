"""What is done to a running workload without an apply: a scale on its revisions, all traffic to an older one.

Both are set by another field manager than ``apply``'s, and both are known to it: a scale is noted in ``ebbtide.dev/scale``
and folded into the next rollout, a pinned revision is let go by the next apply. Upstream: knative.dev/serving
pkg/reconciler/revision/reconcile_resources.go (scaling annotations of a revision reach its PodAutoscaler and no pod),
pkg/apis/serving/v1/route_types.go (traffic), kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative
(canaryTrafficPercent 0 is all traffic to the revision that was rolled out before).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, REVISION, ClusterError, CutShortError, kind_of
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.write.apply import SCALED, get_scaled, scale_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebbtide.cluster.client.protocol import Cluster, Kind
    from ebbtide.cluster.read.inventory import Live
    from ebbtide.translation.objects import Object


def serving(live: Live) -> list[str]:
    """Return the revisions that get requests."""
    rows = at(live.service, "status", "traffic", default=[])
    return [name for name in dict.fromkeys(row.get("revisionName", "") for row in rows if row.get("percent")) if name]


def no_rollback(live: Live, to: str | None) -> str:
    """Return why a workload cannot go back, or nothing."""
    if live.service is None:
        return (
            f"{live.name} runs in KServe's Standard mode, which keeps no revisions: apply the older spec"
            if live.top["kind"] == "InferenceService"
            else f"{live.name} has no revision yet"
        )
    known = [item["metadata"]["name"] for item in live.revisions]
    if to is not None and to not in known:
        return f"{live.name} has no revision {to}; it has {', '.join(known) or 'none'}"
    target = rollback_target(live, to)
    if not target:
        return f"{live.name} has no ready revision before {', '.join(serving(live)) or 'its newest'}"
    if to is not None and not _ready(live, to):
        return f"revision {to} is not ready, so it could not serve"
    if live.top["kind"] == "InferenceService":
        before = at(live.top, "status", "components", "predictor", "previousRolledoutRevision")
        if target != before:
            return f"KServe can only go back to the revision rolled out before, {before or 'of which there is none'}"
    return ""


def rollback_target(live: Live, to: str | None) -> str:
    """Return the revision to go back to: the one named, or the newest ready one before the oldest that serves."""
    if to is not None:
        return to
    names = [item["metadata"]["name"] for item in live.revisions]
    now = [names.index(name) for name in serving(live) if name in names]
    before = live.revisions[: min(now)] if now else ()
    return next((item["metadata"]["name"] for item in reversed(before) if _is_ready(item)), "")


def _ready(live: Live, name: str) -> bool:
    return any(_is_ready(item) for item in live.revisions if item["metadata"]["name"] == name)


def _is_ready(revision: Object) -> bool:
    # A revision that was scaled to zero for want of traffic is ready to serve again.
    return of_pod.condition(revision, "Ready").get("status") == "True"


def pin(cluster: Cluster, live: Live, revision: str) -> None:
    """Send all requests to a revision."""
    if live.top["kind"] == "InferenceService":
        cluster.patch(KSERVE, live.name, live.namespace, {"spec": {"predictor": {"canaryTrafficPercent": 0}}})
        return
    traffic = [{"revisionName": revision, "latestRevision": False, "percent": 100}]
    cluster.patch(KNATIVE, live.name, live.namespace, {"spec": {"traffic": traffic}})


# Scale.


def scaled(live: Live) -> list[str]:
    """Return the revisions that a scale is set on: those that get requests, and the newest."""
    newest = at(live.service, "status", "latestCreatedRevisionName", default="")
    return [name for name in dict.fromkeys([*serving(live), newest]) if name]


def no_scale(live: Live, given: dict[str, float]) -> str:
    """Return why a scale cannot be set, or nothing."""
    if live.service is None or not scaled(live):
        if live.top["kind"] == "InferenceService":
            return (
                f"{live.name} has no revision: in KServe's Standard mode change minReplicas and maxReplicas in the spec "
                "and apply it, which makes no new pod"
            )
        return f"{live.name} has no revision yet"
    annotations = at(live.revisions[-1], "metadata", "annotations", default={}) if live.revisions else {}
    low = given.get("minReplicas", _whole(annotations.get(keys.MIN_SCALE), 0))
    high = given.get("maxReplicas", _whole(annotations.get(keys.MAX_SCALE), 0))
    if low < 0 or high < 0 or (high and low > high):
        return f"min {low:g} and max {high:g} are no bounds: 0 <= min <= max"
    if "maxReplicas" in given and not high:
        return "max 0 would mean without any bound: name one"
    by_hpa = annotations.get(keys.CLASS) == keys.CLASS_HPA
    if by_hpa and low < 1:
        return "an HPA scales this workload, and it cannot rest at zero"
    target = given.get("metricThreshold")
    if target is None:
        return ""
    if keys.TARGET not in annotations:
        return "no metric moves this workload's replicas, so there is no target to set"
    if target <= 0 or (by_hpa and (target < 1 or target != int(target))):
        return f"target {target:g}: {'an HPA takes whole numbers from 1 on' if by_hpa else 'it must be above 0'}"
    return ""


def _whole(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default


def scale(cluster: Cluster, live: Live, given: dict[str, float]) -> None:
    """Note bounds or target on the workload, and set them on the revisions; to be run again if it is cut short.

    The note comes first: what is on a revision and not noted would be seen by nobody, and taken back by nobody.

    Raises:
        CutShortError: a write failed after others.
        ClusterError: the cluster refuses it; nothing is written.

    """
    values = {name: int(value) if value == int(value) else value for name, value in given.items()}
    annotations: dict[str, str | None] = {SCALED[name]: str(value) for name, value in values.items()}
    writes = _writes(live, annotations)
    # A note of what the cluster then refuses would be taken over by the next rollout.
    for kind, name, patch in writes:
        cluster.patch(kind, name, live.namespace, patch, dry_run=True)
    record = scale_record(live.top)
    base = {**{name: _said(live, name) for name in values}, **at(record, "base", default={})}
    text = json.dumps({**record, **values, "base": base}, sort_keys=True)
    _carry_out(cluster, live, [_note(live, text), *writes])


def _said(live: Live, name: str) -> int | float | None:
    """Return what the spec said of a field, as the template has it."""
    text = get_scaled(live.top, name)
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return int(value) if value is not None and value == int(value) else value


def reset_scale(cluster: Cluster, live: Live) -> None:
    """Put the revisions back to what the spec said; to be run again if it is cut short.

    The note goes, and last, so that one that was cut short is still known; where a rollout had taken the scale over, it
    stays and says what is live now, so that the template's older value makes no new revision. Raises what ``scale`` does.
    """
    record = scale_record(live.top)
    base = at(record, "base", default={})
    names = [name for name in SCALED if name in record]
    annotations = {SCALED[name]: None if base.get(name) is None else str(base[name]) for name in names}
    if not annotations:
        return
    left = {name: base[name] for name in names if base.get(name) is not None and _said(live, name) != base[name]}
    note = _note(live, json.dumps({**left, "base": left}, sort_keys=True) if left else None)
    _carry_out(cluster, live, [*_writes(live, annotations), note])


class _Write(NamedTuple):
    kind: Kind
    name: str
    patch: Object


def _writes(live: Live, annotations: dict[str, str | None]) -> list[_Write]:
    return [_Write(REVISION, name, {"metadata": {"annotations": annotations}}) for name in scaled(live)]


def _note(live: Live, text: str | None) -> _Write:
    return _Write(kind_of(live.top), live.name, {"metadata": {"annotations": {keys.SCALE: text}}})


def _carry_out(cluster: Cluster, live: Live, writes: Iterable[_Write]) -> None:
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


def no_stop(top: Object) -> str:
    """Return why a workload cannot be suspended, or nothing."""
    name = top["metadata"]["name"]
    if top["kind"] == "InferenceService":
        return ""
    return (
        f"{name} is a Knative Service, and Knative has no way to stop one: with minReplicas 0 it rests "
        f"at zero by itself (ebbtide scale {name} --min 0), and serving: kserve can be suspended"
    )


def suspend(cluster: Cluster, top: Object) -> bool:
    """Set KServe's stop; return whether a scale set by hand ends with the revisions that it stands on."""
    scaled_by_hand = keys.SCALE in (top["metadata"].get("annotations") or {})
    annotations = {keys.STOP: "true", **({keys.SCALE: None} if scaled_by_hand else {})}
    cluster.patch(
        KSERVE, top["metadata"]["name"], top["metadata"]["namespace"], {"metadata": {"annotations": annotations}}
    )
    return scaled_by_hand


def resume(cluster: Cluster, top: Object) -> None:
    """Take KServe's stop away."""
    metadata = top["metadata"]
    cluster.patch(KSERVE, metadata["name"], metadata["namespace"], {"metadata": {"annotations": {keys.STOP: None}}})
