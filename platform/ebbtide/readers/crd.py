"""Reader of Run:ai's classic custom resource: ``kind: InferenceWorkload`` of ``run.ai/v1alpha1`` and ``v2alpha1``.

Upstream: run-ai/docs, docs/developer/cluster-api/reference/inference.md (the output of ``kubectl explain``).
Every scalar is written as ``{value: …}`` and every list as ``items: {<key>: {value: …}}``; the table ``FIELDS`` maps each
field. Names that Run:ai's page does not list (the inner names of claims, URLs and tolerations) follow its policy
reference; names in neither are rejected.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import metrics, quantities
from ebbtide.base.paths import at
from ebbtide.base.problems import ERROR, cut, shown, warning
from ebbtide.readers.reading import document
from ebbtide.readers.table import (
    ANEW,
    NAMELESS,
    Draft,
    FieldRow,
    RefusedValueError,
    Subfield,
    apply_row,
    exposed_url,
    if_true,
    leave,
    named,
    new_claim,
    origins_of,
    path_of,
    resource,
    set_at,
    variable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile

KIND: Final = "InferenceWorkload"
VERSIONS: Final = ("run.ai/v1alpha1", "run.ai/v2alpha1")
TOP: Final = ("apiVersion", "kind", "metadata", "spec", "status")
#: Metadata that the cluster writes into an object.
OBSERVED: Final = {"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}
METADATA: Final = ("name", "generateName", "namespace", "labels", "annotations")
#: An annotation of kubectl; if it were copied, kubectl would compare the new object with an old document.
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
#: Knative's autoscaler classes by the short name in the table of metrics.
CLASSES: Final = {"kpa": "kpa.autoscaling.knative.dev", "hpa": "hpa.autoscaling.knative.dev"}
PULL_POLICIES: Final = {"always": "Always", "ifnotpresent": "IfNotPresent", "never": "Never"}
SERVICE_TYPES: Final = ("LoadBalancer", "NodePort", "ClusterIP")
NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,18})?|\.[0-9]{1,18}")
#: Maximum length of a quantity in a Kubernetes object.
LONGEST_QUANTITY: Final = 40


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of ``items``: its key, its value, and the path of the value."""

    key: str
    value: Any
    where: Path


# Conversions of values.


def _cores(value: Any) -> float:
    """Return the number of CPU cores of 2, "0.5" or "500m"."""
    nano = _nano(value)
    if nano is None:
        message = f"{shown(value)} is not a valid number of CPU cores"
        raise RefusedValueError("SPEC002", message, 'write it as "0.5", "2" or "500m"')
    # Keep huge values within the range of a float; the models report the maximum.
    return min(nano, quantities.NANO * 10**9) / quantities.NANO


def _usage(value: Any) -> str | None:
    if value not in ("Template", "Submit"):
        raise RefusedValueError("SPEC004", f"usage is {shown(value)} but must be Submit or Template", "remove it")
    return value if value == "Template" else None


def _pull_policy(value: Any) -> str:
    if isinstance(value, str) and value.lower() in PULL_POLICIES:
        return PULL_POLICIES[value.lower()]
    message = f"imagePullPolicy is {shown(value)} but must be always, ifNotPresent or never"
    raise RefusedValueError("SPEC004", message, "use one of always, ifNotPresent, never")


def _gpu_memory(value: Any) -> Any:
    if _number(value) is None:
        return value
    message = f"GPU memory {shown(value)} has no unit: Run:ai reads it as megabytes, Kubernetes as bytes"
    raise RefusedValueError("SPEC004", message, f"write {value}M")


def _service_type(value: Any) -> None:
    if value not in SERVICE_TYPES:
        message = f"serviceType is {shown(value)} but must be one of {', '.join(SERVICE_TYPES)}"
        raise RefusedValueError("SPEC004", message, "remove it")
    if value != "ClusterIP":
        message = f"serviceType {value} is not supported: Knative publishes the service at the URL of its route"
        raise RefusedValueError("SRV012", message, "remove serviceType")


# Handlers of fields that do not correspond to exactly one native field.


def _gpu(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Read the number of GPUs: a whole number of devices, or a fraction of one."""
    number = _number(value)
    if number is None:
        draft.refuse(
            "SPEC002",
            where,
            f"{shown(value)} is not a valid number of GPUs",
            'write "1", "2", or a fraction like "0.5"',
        )
    elif number.is_integer():
        draft.put(row.native, int(number), where)
    elif number > 1:
        message = f"{number:g} GPUs are neither whole devices nor a fraction of one"
        draft.refuse("GPU002", where, message, f'use "{int(number)}" or "{int(number) + 1}", or a fraction below 1')
    else:
        draft.put((*COMPUTE, "gpuRequestType"), "portion", where)
        draft.put((*COMPUTE, "gpuPortionRequest"), number, where)
        draft.put(row.native, 1, where)


def _gpu_limit(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Read the GPU limit: a fraction, or an amount of memory if it has a unit, as Run:ai's page describes it."""
    number = _number(value)
    if number is not None:
        draft.put(row.native, number, where)
    else:
        draft.put((*COMPUTE, "gpuMemoryLimit"), value, where)


# Lists.


def _words(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Read a list that is written as one string or as items."""
    if isinstance(value, list) and all(isinstance(item, Item) for item in value):
        for item in value:
            draft.add(row.native, item.value, item.where)
    elif isinstance(value, str):
        for text in re.split(r"[\s,]+", value.strip()):
            if text:
                draft.add(row.native, text, where)
    else:
        draft.refuse(
            "SPEC002", where, f"{shown(value)} is not a valid list", "write one string with the names, or items"
        )


def _pairs(draft: Draft, row: FieldRow, items: list[Item], where: Path) -> None:  # noqa: ARG001 - items have their paths
    """Append an entry for each key and value."""
    assert row.read is not None
    for item in items:
        entry = row.read((item.key, item.value))
        here = draft.add(row.native, entry, item.where[:-1])
        draft.origins[*here, "name"] = item.where[:-1]
        if "secret" in entry:
            draft.origins[*here, "secret"] = item.where


def _entries(draft: Draft, row: FieldRow, items: list[Item], where: Path) -> None:  # noqa: ARG001 - as above
    """Append an entry for each mapping."""
    for item in items:
        entry = _entry(draft, item, row.parts)
        here = draft.add(row.native, entry if row.read is None else row.read(entry), item.where)
        for name, part in row.parts.items():
            if isinstance(item.value, dict) and name in item.value:
                draft.origins[*here, *path_of(part.to)] = (*item.where, name)


def _exposed(draft: Draft, row: FieldRow, items: list[Item], where: Path) -> None:
    """Read host names, each a plain string or a mapping."""
    urls = [replace(item, value={"url": item.value}) if isinstance(item.value, str) else item for item in items]
    _entries(draft, row, urls, where)


def _extended(draft: Draft, row: FieldRow, items: list[Item], where: Path) -> None:  # noqa: ARG001 - as above
    for item in items:
        if isinstance(item.value, dict):
            entry = _entry(draft, item, row.parts)
            entry.setdefault("resource", item.key)
            draft.add(row.native, entry, item.where)
        else:
            here = draft.add(row.native, resource((item.key, item.value)), item.where)
            draft.origins[*here, "quantity"] = item.where
            draft.origins[*here, "resource"] = item.where[:-1]


def _ports(draft: Draft, row: FieldRow, items: list[Item], where: Path) -> None:
    if len(items) > 1:
        message = f"{len(items)} ports are set, but a Knative revision serves exactly one"
        fix = "keep the port that receives requests, or run the others as separate services"
        draft.refuse("SRV012", where, message, fix)
        return
    for item in items:
        entry = _entry(draft, item, row.parts)
        if "container" in entry:
            draft.put(row.native, entry["container"], (*item.where, "container"))
        else:
            draft.refuse("SPEC003", item.where, "the port has no number", "set container, for example container: 8000")
        for name in ("serviceType", "external"):
            if entry.get(name) is not None:
                apply_row(draft, OF_PORT[name], entry[name], (*item.where, name))


def _volumes(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    for item in _items(draft, row.name, value, where):
        nfs = isinstance(item.value, dict) and any(str(key).lower().startswith(("nfs", "server")) for key in item.value)
        if nfs:
            message = "NFS volumes are not supported: Knative mounts an NFS share only through a PersistentVolumeClaim"
            fix = "create a PersistentVolume and a claim for the share, and use pvcs with existingPvc: true"
            draft.refuse("STO002", item.where, message, fix)
        else:
            message = "hostPath volumes are not supported: they break the pod's isolation"
            draft.refuse("STO001", item.where, message, "use a PersistentVolumeClaim: pvcs with existingPvc: true")


def _parts(names: str, **moved: str) -> dict[str, Subfield]:
    """Return the keys of an item's value; those in ``moved`` have a different path in the native entry."""
    return {name: Subfield(moved.get(name, name)) for name in names.split()}


DISPLAY_ONLY: Final = warning(
    "CRD001", (), "username is display-only: it grants no permissions and is ignored", "remove it"
)
COMPUTE: Final = ("spec", "compute")
AUTO: Final = ("spec", "autoscaling")
FIELDS: Final[dict[str, FieldRow]] = {
    row.name: row
    for row in (
        # Identity
        FieldRow("name", "metadata.name"),
        FieldRow.refused("namePrefix", "RUN002", ANEW, "give the workload its own name: name: {value: chat}"),
        FieldRow.refused(
            "baseWorkload",
            "RUN001",
            "baseWorkload references a workload in Run:ai's control plane, which Ebbtide cannot read",
            "copy its fields into this workload",
            kind="plain",
        ),
        FieldRow.refused(
            "usage",
            "RUN001",
            "a template cannot be run: only Run:ai's control plane can create workloads from it",
            "set usage: Submit, or copy its fields into the workloads that use it",
            kind="plain",
            read=_usage,
        ),
        FieldRow("username", refusal=DISPLAY_ONLY),
        FieldRow("labels", "spec.labels", "items", read=named, take=_pairs),
        FieldRow("annotations", "spec.annotations", "items", read=named, take=_pairs),
        # Container
        FieldRow("image", "spec.image"),
        FieldRow("imagePullPolicy", "spec.imagePullPolicy", read=_pull_policy),
        FieldRow("command", "spec.command"),
        FieldRow("arguments", "spec.args"),
        FieldRow("environment", "spec.environmentVariables", "items", read=variable, take=_pairs),
        FieldRow("workingDir", "spec.workingDir"),
        FieldRow("createHomeDir", "spec.createHomeDir"),
        FieldRow.refused("stdin", "CRD002", "an inference server has no standard input", "remove stdin", read=if_true),
        FieldRow.refused("tty", "CRD002", "an inference server has no terminal", "remove tty", read=if_true),
        FieldRow("capabilities", "spec.security.capabilities", "either", take=_words),
        FieldRow.refused(
            "hostIpc", "SEC006", "sharing the node's IPC breaks the pod's isolation", "use largeShm", read=if_true
        ),
        FieldRow.refused(
            "hostNetwork",
            "SEC006",
            "sharing the node's network breaks the pod's isolation, and two replicas would use the same port",
            "remove hostNetwork",
            read=if_true,
        ),
        FieldRow("largeShm", "spec.compute.largeShmRequest"),
        FieldRow("runAsUser", take=leave),
        FieldRow("runAsUid", "spec.security.runAsUid"),
        FieldRow("runAsGid", "spec.security.runAsGid"),
        FieldRow("supplementalGroups", "spec.security.supplementalGroups"),
        # Compute
        FieldRow("cpu", "spec.compute.cpuCoreRequest", read=_cores),
        FieldRow("cpuLimit", "spec.compute.cpuCoreLimit", read=_cores),
        FieldRow("memory", "spec.compute.cpuMemoryRequest"),
        FieldRow("memoryLimit", "spec.compute.cpuMemoryLimit"),
        FieldRow("gpu", "spec.compute.gpuDevicesRequest", take=_gpu),
        FieldRow(
            "gpuMemory",
            "spec.compute.gpuMemoryRequest",
            read=_gpu_memory,
            implies={"spec.compute.gpuRequestType": "memory"},
        ),
        FieldRow("gpuLimit", "spec.compute.gpuPortionLimit", take=_gpu_limit),
        FieldRow("migProfile", "spec.compute.migProfile", implies={"spec.compute.gpuRequestType": "migProfile"}),
        FieldRow(
            "extendedResources",
            "spec.compute.extendedResources",
            "items",
            take=_extended,
            parts=_parts("resource name quantity", name="resource"),
        ),
        # Scaling
        FieldRow("minScale", "spec.autoscaling.minReplicas"),
        FieldRow("maxScale", "spec.autoscaling.maxReplicas"),
        FieldRow("metric", "spec.autoscaling.metric"),
        FieldRow("metricName", "spec.autoscaling.metricName"),
        FieldRow("target", "spec.autoscaling.metricThreshold"),
        FieldRow("class", take=leave),
        # Network
        FieldRow(
            "ports",
            "spec.servingPort.container",
            "items",
            take=_ports,
            parts=_parts("container serviceType external"),
        ),
        FieldRow("serviceType", read=_service_type),
        FieldRow(
            "exposedUrls",
            "spec.exposedUrls",
            "items",
            read=exposed_url,
            take=_exposed,
            parts=_parts("container url authorizationType authorizedUsers authorizedGroups toolType toolName name"),
        ),
        FieldRow("isPrivateServiceUrl", "spec.servingPort.clusterLocalAccessOnly"),
        FieldRow.refused(
            "ingressUrl",
            "CRD004",
            "ingressUrl is for Run:ai's internal use; Knative sets the service's URL",
            "remove it; for a custom host name use exposedUrls",
        ),
        # Placement
        FieldRow("nodePool", take=leave),
        FieldRow("nodePools", "spec.nodePools", "either", take=_words),
        FieldRow("nodeType", "spec.nodeType"),
        FieldRow(
            "tolerations",
            "spec.tolerations",
            "items",
            take=_entries,
            parts=_parts("name key operator value effect seconds tolerationSeconds", tolerationSeconds="seconds"),
        ),
        # Storage
        FieldRow(
            "pvcs",
            "spec.storage.pvc",
            "items",
            read=new_claim,
            take=_entries,
            parts=_parts(
                "claimName existingPvc path readOnly ephemeral size storageClass volumeMode "
                "readWriteOnce readOnlyMany readWriteMany",
                size="claimInfo.size",
                storageClass="claimInfo.storageClass",
                volumeMode="claimInfo.volumeMode",
                readWriteOnce="claimInfo.accessModes.readWriteOnce",
                readOnlyMany="claimInfo.accessModes.readOnlyMany",
                readWriteMany="claimInfo.accessModes.readWriteMany",
            ),
        ),
        FieldRow("volumes", kind="any", take=_volumes),
        FieldRow.refused(
            "s3",
            "STO008",
            "S3 volumes are not supported: Run:ai does not support them for inference either",
            "serve the model by its URI (model.uri: s3://…), or copy the files into a PersistentVolumeClaim",
            kind="any",
        ),
        FieldRow.refused(
            "gitSync",
            "STO003",
            "git repositories are not supported: mounting one needs a git container, which Ebbtide does not ship",
            "put the files into the image",
            kind="any",
        ),
        FieldRow.refused(
            "mountPropagation",
            "STO007",
            "mountPropagation shares mounts between the container and the node, which breaks the pod's isolation",
            "remove mountPropagation",
            read=if_true,
        ),
    )
}
#: The other fields of a port.
OF_PORT: Final = {
    "serviceType": FIELDS["serviceType"],
    "external": FieldRow.refused(
        "external",
        "SRV012",
        "the external port cannot be chosen: Knative publishes the service at its URL",
        "remove external, and use exposedUrls for a custom host name",
    ),
}
#: Paths of native fields in the classic resource, for problems about missing fields.
ORIGINS: Final[dict[Path, Path]] = {
    **origins_of(FIELDS.values(), "spec"),
    **{("spec", part): ("spec",) for part in ("autoscaling", "compute", "security", "storage")},
    ("spec", "servingPort"): ("spec", "ports"),
    ("spec", "project"): ("metadata", "namespace"),
}
#: Field names of Run:ai's REST body and common mistakes, with the corresponding classic field.
HABITS: Final = {
    "args": "arguments",
    "env": "environment",
    "replicas": "minScale",
    "gpus": "gpu",
    "port": "ports",
    **{row.native[-1]: name for name, row in FIELDS.items() if row.to},
}


def recognise(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is a classic workload, of any version."""
    return data.get("kind") == KIND


def read(data: dict[str, Any], profile: Profile) -> Draft:
    """Return the workload in native form; every field is converted or causes a problem."""
    draft = Draft(document(NAMELESS, {}), cluster=profile.spec)
    version = data.get("apiVersion")
    if version not in VERSIONS:
        message = f"apiVersion {shown(version)} of {KIND} is not supported"
        draft.refuse("SPEC006", ("apiVersion",), message, f"use {' or '.join(VERSIONS)}")
        return draft
    draft.origins |= ORIGINS
    _top(draft, data)
    _metadata(draft, data.get("metadata"))
    spec = data.get("spec")
    if spec is None:
        draft.refuse("SPEC003", ("spec",), "the workload has no spec", "set spec with name, image and ports")
    elif not isinstance(spec, dict):
        draft.refuse("SPEC002", ("spec",), f"spec is {shown(spec)} but must be a mapping", "write a mapping")
    else:
        _spec(draft, spec)
    return draft


def _top(draft: Draft, data: Mapping[str, Any]) -> None:
    for name in data:
        if name not in TOP:
            draft.refuse("SPEC001", (str(name),), f"{name} is not a field of {KIND}", f"use one of {', '.join(TOP)}")
        elif name == "status" and data[name]:
            draft.warn("CRD001", ("status",), "status is set by the cluster and is ignored", "remove it")


def _metadata(draft: Draft, metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        draft.refuse(
            "SPEC002", ("metadata",), f"metadata is {shown(metadata)} but must be a mapping", "write a mapping"
        )
        return
    for name, value in metadata.items():
        if value is not None:
            _metadata_field(draft, str(name))
    _namespace(draft, metadata.get("namespace"))
    for name in ("labels", "annotations"):
        value, where = metadata.get(name), ("metadata", name)
        if isinstance(value, dict) and LAST_APPLIED in value:
            draft.warn(
                "CRD001",
                (*where, LAST_APPLIED),
                "kubectl's last-applied-configuration annotation is ignored",
                "remove it",
            )
            value = {key: text for key, text in value.items() if key != LAST_APPLIED}
        if value:
            draft.put(where, value, where)
    draft.given["metadata.name"] = metadata.get("name")


def _metadata_field(draft: Draft, name: str) -> None:
    where = ("metadata", name)
    if name in OBSERVED:
        draft.warn("CRD001", where, f"{name} is set by the cluster and is ignored", "remove it")
    elif name == "generateName":
        draft.refuse("RUN002", where, ANEW, "set metadata.name")
    elif name not in METADATA:
        known = ", ".join(METADATA)
        draft.refuse("SPEC001", where, f"metadata.{cut(name)} is not supported", f"use one of {known}")


def _namespace(draft: Draft, namespace: Any) -> None:
    """Set the project if the namespace matches the profile's pattern, otherwise the namespace."""
    where = ("metadata", "namespace")
    pattern = draft.cluster.projects.namespace
    prefix, _, suffix = pattern.partition("{project}")
    if namespace is None:
        return
    if isinstance(namespace, str) and len(namespace) > len(prefix) + len(suffix):
        project = namespace[len(prefix) : len(namespace) - len(suffix)]
        if pattern.replace("{project}", project) == namespace:
            draft.put(("spec", "project"), project, where)
            return
    draft.put(where, namespace, where)


def _spec(draft: Draft, spec: Mapping[str, Any]) -> None:
    for name, wrapped in spec.items():
        where = ("spec", str(name))
        row = FIELDS.get(name)
        if row is None:
            hint = f"use {HABITS[name]}" if name in HABITS else _did_you_mean(str(name), FIELDS)
            draft.refuse("SPEC001", where, f"{cut(str(name))} is not a field of {KIND}", hint)
        elif wrapped is not None:
            _take(draft, row, wrapped, where)
    for rule in TOGETHER:
        rule(draft)


def _take(draft: Draft, row: FieldRow, wrapped: Any, where: Path) -> None:
    """Unwrap a field's value and apply its row."""
    if row.kind == "items" or (row.kind == "either" and isinstance(wrapped, dict) and "items" in wrapped):
        assert row.take is not None
        row.take(draft, row, _items(draft, row.name, wrapped, where), where)
    elif row.kind in {"plain", "any"}:
        apply_row(draft, row, wrapped, where)
    elif (value := _value(draft, row.name, wrapped, where)) is not None:
        draft.given[row.name] = value
        apply_row(draft, row, value, (*where, "value"))


def _value(draft: Draft, name: str, wrapped: Any, where: Path) -> Any:
    """Return the value in ``{value: …}``, or None if it is missing or invalid."""
    if not isinstance(wrapped, dict):
        bare = json.dumps(wrapped) if isinstance(wrapped, (str, bool, int, float)) else "…"
        message = f"{name} is {shown(wrapped)}, but {KIND} wraps every value in a mapping"
        draft.refuse("SPEC002", where, message, f"write {name}: {{value: {cut(bare)}}}")
        return None
    for key in wrapped:
        if key != "value":
            code = "SPEC002" if key == "items" else "SPEC001"
            message = f"{name} has a single value; {key} is not supported"
            draft.refuse(code, (*where, str(key)), message, f"write {name}: {{value: …}}")
    if not wrapped:
        draft.refuse("SPEC003", where, f"{name} has no value", f"write {name}: {{value: …}}, or remove it")
    return wrapped.get("value")


def _items(draft: Draft, name: str, wrapped: Any, where: Path) -> list[Item]:
    """Return the entries of ``items: {<key>: {value: …}}``; report a problem for each entry in another format."""
    fix = f"write {name}: {{items: {{<key>: {{value: …}}}}}}"
    entries = wrapped.get("items") if isinstance(wrapped, dict) else None
    if not isinstance(wrapped, dict) or not isinstance(entries, dict):
        wrong = shown(entries if isinstance(wrapped, dict) and "items" in wrapped else wrapped)
        draft.refuse("SPEC002", where, f"{name} is {wrong}, but {KIND} wraps every list in items", fix)
        return []
    for key in wrapped:
        if key != "items":
            draft.refuse("SPEC001", (*where, str(key)), f"{name} is a list of items; {key} is not supported", fix)
    items = []
    for key, entry in entries.items():
        here = (*where, "items", str(key))
        if isinstance(entry, dict) and entry.get("exclude") is True:
            message = (
                "exclude removes an item that a Run:ai policy would add; Ebbtide reads no policies and omits the item"
            )
            draft.warn("RUN004", (*here, "exclude"), message, "remove the item")
        elif isinstance(entry, dict) and set(entry) - {"exclude"} == {"value"}:
            items.append(Item(str(key), entry["value"], (*here, "value")))
        else:
            draft.refuse("SPEC002", here, f"{key} is {shown(entry)} but must be {{value: …}}", fix)
    return items


def _entry(draft: Draft, item: Item, parts: Mapping[str, Subfield]) -> dict[str, Any]:
    """Return an item's value with native field names and the native nesting."""
    entry: dict[str, Any] = {}
    if not isinstance(item.value, dict):
        message = f"{item.key} is {shown(item.value)} but must be a mapping"
        draft.refuse(
            "SPEC002", item.where, message, f"write a mapping with the fields that you need: {', '.join(parts)}"
        )
        return entry
    for name, value in item.value.items():
        part = parts.get(name) if isinstance(name, str) else None
        if part is None:
            hint = _did_you_mean(str(name), parts)
            draft.refuse("SPEC001", (*item.where, str(name)), f"unknown field {name}", hint)
        elif value is not None:
            set_at(entry, path_of(part.to), value)
    return entry


# Rules about several fields.


def _complained(draft: Draft, *where: str) -> bool:
    """Return whether there is an error at or below a field."""
    return any(problem.severity == ERROR and problem.field[: len(where)] == where for problem in draft.problems)


def _named(draft: Draft) -> None:
    name, of_object = draft.given.get("name"), draft.given.get("metadata.name")
    if name is None and not _complained(draft, "spec", "name") and not _complained(draft, "spec", "namePrefix"):
        usual = of_object if isinstance(of_object, str) else "chat"
        message = "spec.name is missing: Run:ai does not use metadata.name as the workload's name"
        draft.refuse("SPEC003", ("spec", "name"), message, f"set spec.name: {{value: {cut(usual)}}}")
    elif name is not None and of_object is not None and of_object != name:
        message = (
            f"metadata.name {shown(of_object)} differs from spec.name; Run:ai uses {shown(name)} as the workload's name"
        )
        draft.warn("CRD001", ("metadata", "name"), message, "use the same name in both fields")


def _port_given(draft: Draft) -> None:
    if at(draft.spec, "servingPort", "container") is None and not _complained(draft, "spec", "ports"):
        message = "the port on which the server listens is missing"
        draft.refuse("CRD008", ("spec", "ports"), message, "set ports: {items: {http: {value: {container: 8000}}}}")


def _metric(draft: Draft) -> None:
    name, metric = draft.given.get("metricName"), draft.given.get("metric")
    if name is None:
        return
    if metric is not None and metric != "custom":
        message = f"metricName overrides metric, so {shown(metric)} has no effect"
        draft.warn("CRD006", ("spec", "metric", "value"), message, "set metric: {value: custom}, or remove metricName")
    draft.put((*AUTO, "metric"), "custom", ("spec", "metricName", "value"))


def _autoscaler_class(draft: Draft) -> None:
    requested = draft.given.get("class")
    if requested is None:
        return
    metric = at(draft.native, *AUTO, "metric")
    row = metrics.find(metric) if isinstance(metric, str) else None
    required = CLASSES["kpa" if metric is None else row.autoscaler if row is not None else "hpa"]
    if requested != required:
        message = f"class {shown(requested)} does not support metric {shown(metric)}, which needs class {required}"
        draft.refuse("CRD003", ("spec", "class", "value"), message, f"remove class, or set it to {required}")


def _run_as(draft: Draft) -> None:
    """Check ``runAsUser``: it uses ``runAsUid`` and ``runAsGid``, or the submitting user's IDs, which are unknown here."""
    run_as_user = draft.given.get("runAsUser")
    ids = [name for name in ("runAsUid", "runAsGid") if name in draft.given]
    where = ("spec", "runAsUser", "value")
    if run_as_user is not None and not isinstance(run_as_user, bool):
        draft.refuse(
            "SPEC002", where, f"{shown(run_as_user)} is not valid: must be true or false", "write true or false"
        )
    elif run_as_user and "runAsUid" not in ids:
        message = "runAsUser without runAsUid means the submitting user, whose ID Ebbtide cannot look up"
        draft.refuse("SEC004", where, message, "set runAsUid and runAsGid")
    elif not run_as_user:
        for name in ids:
            message = f"Run:ai applies {name} only with runAsUser: true; Ebbtide always applies it"
            fix = "set runAsUser: {value: true} so that both agree, or remove it"
            draft.warn("CRD007", ("spec", name, "value"), message, fix)


def _one_pool(draft: Draft) -> None:
    pool = draft.given.get("nodePool")
    where = ("spec", "nodePool", "value")
    if pool is None:
        return
    if draft.spec.get("nodePools"):
        draft.refuse("CRD005", where, "nodePool and nodePools exclude each other", "keep nodePools")
        return
    draft.warn("CRD005", where, "nodePool is deprecated; Ebbtide reads it as nodePools", "use nodePools: {value: …}")
    draft.add(("spec", "nodePools"), pool, where)


TOGETHER: Final = (_named, _port_given, _metric, _autoscaler_class, _run_as, _one_pool)


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only needed for a misspelled name

    lowered = {text.lower(): text for text in known}
    close = get_close_matches(name.lower().replace("_", "").replace("-", ""), [*lowered], 1, 0.7)
    return f"did you mean {lowered[close[0]]}?" if close else f"remove it; the valid fields are {', '.join(known)}"


def _nano(value: Any) -> int | None:
    """Return a quantity in billionths, or None."""
    text = _written(value)
    return quantities.nano(text) if len(text) <= LONGEST_QUANTITY else None


def _number(value: Any) -> float | None:
    """Return a plain number (without sign, unit or exponent), or None."""
    text = _written(value)
    return float(text) if NUMBER.fullmatch(text) else None


def _written(value: Any) -> str:
    """Return a number or string as text, and an empty string for any other value."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return value.strip() if isinstance(value, str) else repr(value)
