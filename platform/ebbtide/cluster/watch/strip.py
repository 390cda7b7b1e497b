"""The stored fields of each kind: those read by ``cluster.read`` and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ebbtide.cluster.client.protocol import DEPLOYMENT, EVENT, LIVE_MANAGER, NODE, POD, REVISION, Kind
from ebbtide.cluster.watch.groups import TOPS
from ebbtide.core.translation.objects import Object

#: Maximum lengths of an Event's message and reason in events.k8s.io/v1; those of ``v1`` Events have no limit
#: (k8s.io/kubernetes pkg/apis/core/validation/events.go, NoteLengthLimit, ReasonLengthLimit, legacyValidateEvent).
MAX_MESSAGE_LENGTH: Final = 1024
MAX_REASON_LENGTH: Final = 128
#: The fields of a pod's spec that are read, apart from its containers.
POD_FIELDS: Final = (
    "nodeName",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "schedulerName",
    "schedulingGates",
)
#: The fields of its containers that are read. These probes are rare.
CONTAINER_FIELDS: Final = ("name", "image", "resources", "ports", "livenessProbe", "startupProbe")
#: The end of a text that is cut, as the scheduler cuts its messages (k8s.io/kubernetes pkg/scheduler/schedule_one.go).
CUT_MARK: Final = " ..."


def strip_object(kind: Kind, obj: Object) -> Object:
    """Return an object without the fields that are never read."""
    metadata = _drop_fields(obj["metadata"], "managedFields", "selfLink")
    # The time of the last manual change, without its fields.
    manual = [row for row in obj["metadata"].get("managedFields") or () if row.get("manager") == LIVE_MANAGER]
    if manual and kind in TOPS.values():
        metadata["managedFields"] = [_keep_fields(row, "manager", "operation", "time") for row in manual]
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = _drop_fields(annotations, "kubectl.kubernetes.io/last-applied-configuration")
    slim = {**obj, "metadata": metadata}
    cut = _STRIP.get(kind)
    return slim if cut is None else cut(slim)


def _drop_fields(obj: Object, *fields: str) -> Object:
    return {name: value for name, value in obj.items() if name not in fields}


def _keep_fields(obj: Object, *fields: str) -> Object:
    return {name: obj[name] for name in fields if name in obj}


def _strip_pod(obj: Object) -> Object:
    spec, pod_status = obj.get("spec", {}), obj.get("status", {})
    kept_spec = _keep_fields(spec, *POD_FIELDS)
    for group in ("containers", "initContainers"):
        if group in spec:
            kept_spec[group] = [_keep_fields(row, *CONTAINER_FIELDS) for row in spec[group]]
    return {**obj, "spec": kept_spec, "status": _drop_fields(pod_status, "podIPs", "hostIPs", "hostIP", "qosClass")}


def _strip_revision(obj: Object) -> Object:
    spec = obj.get("spec", {})
    containers = [_keep_fields(row, "name", "image", "resources") for row in spec.get("containers") or ()]
    return {**obj, "spec": {**_drop_fields(spec, "volumes"), "containers": containers}}


def _strip_event(obj: Object) -> Object:
    fields = _keep_fields(obj, "apiVersion", "kind", "type", "reason", "message", "count")
    fields |= _keep_fields(obj, "firstTimestamp", "lastTimestamp", "eventTime")
    for name, limit in (("message", MAX_MESSAGE_LENGTH), ("reason", MAX_REASON_LENGTH)):
        if len(fields.get(name) or "") > limit:
            fields[name] = fields[name][: limit - len(CUT_MARK)] + CUT_MARK
    return {
        **{name: value for name, value in fields.items() if value is not None},
        "metadata": _keep_fields(obj["metadata"], "name", "namespace", "uid", "creationTimestamp"),
        "involvedObject": _keep_fields(obj.get("involvedObject") or {}, "kind", "name", "namespace", "uid"),
    }


_STRIP: Final[dict[Kind, Callable[[Object], Object]]] = {
    POD: _strip_pod,
    DEPLOYMENT: lambda item: {**item, "spec": _keep_fields(item.get("spec", {}), "replicas", "selector")},
    REVISION: _strip_revision,
    EVENT: _strip_event,
    NODE: lambda item: {
        **item,
        "status": _keep_fields(item.get("status", {}), "allocatable", "capacity", "conditions"),
    },
}
