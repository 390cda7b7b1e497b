"""The fields of the cluster's objects that a decision reads; the controller stores no others.

A controller that applies custom resources computes statuses, which read more, and stores what the server stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ebbtide.cluster.client.protocol import POD, POD_AUTOSCALER, REVISION, Kind
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_LABELS: Final = (
    keys.KNATIVE_SERVICE,
    keys.KNATIVE_REVISION,
    keys.KNATIVE_GENERATION,
    keys.KSERVE_SERVICE,
    keys.APP_NAME,
    keys.APP_COMPONENT,
)
_ANNOTATIONS: Final = (
    keys.FLOOR,
    keys.SCALE,
    keys.MIN_SCALE,
    keys.MAX_SCALE,
    keys.DECISION,
    keys.ROLLOUT,
    keys.LEADER,
    keys.KAI_POD_GROUP,
)
_STATUS: Final[dict[Kind, tuple[str, ...]]] = {
    POD: ("phase", "startTime"),
    POD_AUTOSCALER: ("desiredScale",),
    REVISION: (),
}
#: The status fields of a workload's main object.
_TOP_STATUS: Final = ("observedGeneration", "latestCreatedRevisionName", "traffic")


def strip_for_decisions(kind: Kind, obj: Object) -> Object:
    """Return an object with the fields that ``controller.loop`` and ``cluster.read.inventory`` read of it."""
    metadata = _keep(obj["metadata"], _METADATA)
    for name, known in (("labels", _LABELS), ("annotations", _ANNOTATIONS)):
        if values := _keep(obj["metadata"].get(name) or {}, known):
            metadata[name] = values
    if owners := obj["metadata"].get("ownerReferences"):
        metadata["ownerReferences"] = [{"kind": owners[0].get("kind", "")}]
    status = _keep(obj.get("status") or {}, _STATUS.get(kind, _TOP_STATUS))
    if kind in {POD, REVISION}:
        # The message of a condition is the longest part of it.
        status["conditions"] = [
            _keep(row, ("type", "status", "lastTransitionTime"))
            for row in get_at(obj, "status", "conditions", default=())
            if row.get("type") == "Ready"
        ]
    stripped: Object = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, "status": status}
    if kind == POD:
        requests = (get_at(row, "resources", "requests") for row in get_at(obj, "spec", "containers", default=()))
        stripped["spec"] = {"containers": [{"resources": {"requests": row}} if row else {} for row in requests]}
    return stripped


def _keep(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: fields[name] for name in names if name in fields}
