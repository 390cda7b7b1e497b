"""Reader of Run:ai's classic custom resource: ``kind: InferenceWorkload`` of ``run.ai/v1alpha1`` and ``v2alpha1``.

Upstream: run-ai/docs, docs/developer/cluster-api/reference/inference.md (the output of ``kubectl explain``).
Every scalar is written as ``{value: …}`` and every list as ``items: {<key>: {value: …}}``; the table ``FIELDS`` maps each
field. Names that Run:ai's page does not list (the inner names of claims, URLs and tolerations) follow its policy
reference; names in neither are rejected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import metrics, quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import ERROR, Path, describe_invalid, format_value, make_warning, shorten_text
from ebbtide.core.readers import table
from ebbtide.core.readers.reading import Reader, make_document
from ebbtide.core.readers.table import Draft, FieldRow, Subfield

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

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
class ClassicItem:
    """One entry of ``items``: its key, its value, and the path of the value."""

    key: str
    value: Any
    where: Path


# Conversions of values.


def _parse_cores(value: Any) -> float:
    """Return the number of CPU cores of 2, "0.5" or "500m"."""
    nano = _parse_nano(value)
    if nano is None:
        message = describe_invalid("number of CPU cores", value, "a number, or a number of millicores")
        raise table.RefusedValueError("SPEC002", message, 'write it as "0.5", "2" or "500m"')
    # Keep huge values within the range of a float; the models report the maximum.
    return min(nano, quantities.NANO * 10**9) / quantities.NANO


def _check_usage(value: Any) -> str | None:
    if value not in ("Template", "Submit"):
        raise table.RefusedValueError("SPEC004", describe_invalid("usage", value, "Submit or Template"), "remove it")
    return value if value == "Template" else None


def _parse_pull_policy(value: Any) -> str:
    if isinstance(value, str) and value.lower() in PULL_POLICIES:
        return PULL_POLICIES[value.lower()]
    message = describe_invalid("imagePullPolicy", value, "always, ifNotPresent or never")
    raise table.RefusedValueError("SPEC004", message, "use one of always, ifNotPresent, never")


def _check_gpu_memory(value: Any) -> Any:
    if _parse_number(value) is None:
        return value
    message = f"GPU memory {format_value(value)} has no unit: Run:ai reads it as megabytes, Kubernetes as bytes"
    raise table.RefusedValueError("SPEC004", message, f"write {value}M")


def _check_port_type(value: Any) -> None:
    """Check the type of a port: ``ServingPort``, which Run:ai's clients write, or a type of Kubernetes Service."""
    if value != "ServingPort":
        _check_service_type(value)


def _check_service_type(value: Any) -> None:
    if value not in SERVICE_TYPES:
        message = describe_invalid("serviceType", value, f"one of {', '.join(SERVICE_TYPES)}")
        raise table.RefusedValueError("SPEC004", message, "remove it")
    if value != "ClusterIP":
        message = f"serviceType {value} is not supported: Knative publishes the service at the URL of its route"
        raise table.RefusedValueError("SRV012", message, "remove serviceType")


# Handlers of fields that do not correspond to exactly one native field.


def _take_gpu(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Read the number of GPUs: a whole number of devices, or a fraction of one."""
    number = _parse_number(value)
    if number is None:
        message = describe_invalid("number of GPUs", value, "a whole number, or a fraction below 1")
        draft.add_error("SPEC002", where, message, 'write "1", "2", or a fraction like "0.5"')
    elif number.is_integer():
        draft.set_field(row.native, int(number), where)
    elif number > 1:
        message = f"{number:g} GPUs are neither whole devices nor a fraction of one"
        draft.add_error("GPU002", where, message, f'use "{int(number)}" or "{int(number) + 1}", or a fraction below 1')
    else:
        draft.set_field((*COMPUTE, "gpuRequestType"), "portion", where)
        draft.set_field((*COMPUTE, "gpuPortionRequest"), number, where)
        draft.set_field(row.native, 1, where)


def _take_gpu_limit(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Read the GPU limit: a fraction, or an amount of memory if it has a unit, as Run:ai's page describes it."""
    number = _parse_number(value)
    if number is not None:
        draft.set_field(row.native, number, where)
    else:
        draft.set_field((*COMPUTE, "gpuMemoryLimit"), value, where)


# Lists.


def _take_words(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    """Read a list that is written as one string or as items."""
    if isinstance(value, list) and all(isinstance(item, ClassicItem) for item in value):
        for item in value:
            draft.append_item(row.native, item.value, item.where)
    elif isinstance(value, str):
        for text in re.split(r"[\s,]+", value.strip()):
            if text:
                draft.append_item(row.native, text, where)
    else:
        message = describe_invalid("list", value, "a string, or items")
        draft.add_error("SPEC002", where, message, "write one string with the names, or items")


def _take_pairs(draft: Draft, row: FieldRow, items: list[ClassicItem], where: Path) -> None:  # noqa: ARG001 - items have their paths
    assert row.read is not None
    for item in items:
        entry = row.read((item.key, item.value))
        item_path = draft.append_item(row.native, entry, item.where[:-1])
        draft.origins[*item_path, "name"] = item.where[:-1]
        if "secret" in entry:
            draft.origins[*item_path, "secret"] = item.where


def _take_entries(draft: Draft, row: FieldRow, items: list[ClassicItem], where: Path) -> None:  # noqa: ARG001 - as above
    for item in items:
        entry = _native_entry(draft, item, row.parts)
        item_path = draft.append_item(row.native, entry if row.read is None else row.read(entry), item.where)
        for name, part in row.parts.items():
            if isinstance(item.value, dict) and name in item.value:
                draft.origins[*item_path, *table.split_path(part.to)] = (*item.where, name)


def _take_exposed_urls(draft: Draft, row: FieldRow, items: list[ClassicItem], where: Path) -> None:
    """Read host names, each a plain string or a mapping."""
    _take_entries(draft, row, [replace(item, value=_plain_url(item.value)) for item in items], where)


def _plain_url(value: Any) -> Any:
    """Return the mapping of a host name. With ``customUrl: false``, Run:ai generates the URL."""
    if isinstance(value, str):
        return {"url": value}
    if isinstance(value, dict) and isinstance(value.get("customUrl"), bool):
        dropped = {"customUrl"} if value["customUrl"] else {"customUrl", "url"}
        return {name: item for name, item in value.items() if name not in dropped}
    return value


def _take_extended_resources(draft: Draft, row: FieldRow, items: list[ClassicItem], where: Path) -> None:  # noqa: ARG001 - as above
    for item in items:
        if isinstance(item.value, dict):
            entry = _native_entry(draft, item, row.parts)
            entry.setdefault("resource", item.key)
            draft.append_item(row.native, entry, item.where)
        else:
            item_path = draft.append_item(row.native, table.make_extended_resource((item.key, item.value)), item.where)
            draft.origins[*item_path, "quantity"] = item.where
            draft.origins[*item_path, "resource"] = item.where[:-1]


def _take_ports(draft: Draft, row: FieldRow, items: list[ClassicItem], where: Path) -> None:
    if len(items) > 1:
        message = f"{len(items)} ports are set, but a Knative revision serves exactly one"
        fix = "keep the port that receives requests, or run the others as separate services"
        draft.add_error("SRV012", where, message, fix)
        return
    for item in items:
        entry = _native_entry(draft, item, row.parts)
        if "container" in entry:
            draft.set_field(row.native, entry["container"], (*item.where, "container"))
        else:
            fix = "set container, for example container: 8000"
            draft.add_error("SPEC003", item.where, "the port has no number", fix)
        if "protocol" in entry:
            draft.set_field(PROTOCOL, entry["protocol"], (*item.where, "protocol"))
        for name in ("serviceType", "external"):
            if entry.get(name) is not None:
                table.apply_row(draft, OF_PORT[name], entry[name], (*item.where, name))


def _take_volumes(draft: Draft, row: FieldRow, value: Any, where: Path) -> None:
    for item in _unwrap_items(draft, row.name, value, where):
        nfs = isinstance(item.value, dict) and any(str(key).lower().startswith(("nfs", "server")) for key in item.value)
        if nfs:
            message = "NFS volumes are not supported: Knative mounts an NFS share only through a PersistentVolumeClaim"
            fix = "create a PersistentVolume and a claim for the share, and use pvcs with existingPvc: true"
            draft.add_error("STO002", item.where, message, fix)
        else:
            message = "hostPath volumes are not supported: they break the pod's isolation"
            draft.add_error("STO001", item.where, message, "use a PersistentVolumeClaim: pvcs with existingPvc: true")


def _make_subfields(names: str, **moved: str) -> dict[str, Subfield]:
    """Return the keys of an item's value; those in ``moved`` have a different path in the native entry."""
    return {name: Subfield(moved.get(name, name)) for name in names.split()}


DISPLAY_ONLY: Final = make_warning(
    "CRD001", (), "username is display-only: it grants no permissions and is ignored", "remove it"
)
COMPUTE: Final = ("spec", "compute")
PROTOCOL: Final = ("spec", "servingPort", "protocol")
AUTO: Final = ("spec", "autoscaling")
FIELDS: Final[dict[str, FieldRow]] = {
    row.name: row
    for row in (
        # Identity
        FieldRow("name", "metadata.name"),
        FieldRow.refused(
            "namePrefix", "RUN002", table.NO_GENERATED_NAMES, "give the workload its own name: name: {value: chat}"
        ),
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
            read=_check_usage,
        ),
        FieldRow("username", refusal=DISPLAY_ONLY),
        FieldRow("labels", "spec.labels", "items", read=table.make_name_value, take=_take_pairs),
        FieldRow("annotations", "spec.annotations", "items", read=table.make_name_value, take=_take_pairs),
        # Container
        FieldRow("image", "spec.image"),
        FieldRow("imagePullPolicy", "spec.imagePullPolicy", read=_parse_pull_policy),
        FieldRow("command", "spec.command"),
        FieldRow("arguments", "spec.args"),
        FieldRow("environment", "spec.environmentVariables", "items", read=table.make_variable, take=_take_pairs),
        FieldRow("workingDir", "spec.workingDir"),
        FieldRow("createHomeDir", "spec.createHomeDir"),
        FieldRow.refused(
            "stdin", "CRD002", "an inference server has no standard input", "remove stdin", read=table.true_or_none
        ),
        FieldRow.refused("tty", "CRD002", "an inference server has no terminal", "remove tty", read=table.true_or_none),
        FieldRow("capabilities", "spec.security.capabilities", "either", take=_take_words),
        FieldRow.refused(
            "hostIpc",
            "SEC006",
            "sharing the node's IPC breaks the pod's isolation",
            "use largeShm",
            read=table.true_or_none,
        ),
        FieldRow.refused(
            "hostNetwork",
            "SEC006",
            "sharing the node's network breaks the pod's isolation, and two replicas would use the same port",
            "remove hostNetwork",
            read=table.true_or_none,
        ),
        FieldRow("largeShm", "spec.compute.largeShmRequest"),
        FieldRow("runAsUser", take=table.leave_to_rule),
        FieldRow("runAsUid", "spec.security.runAsUid"),
        FieldRow("runAsGid", "spec.security.runAsGid"),
        FieldRow("supplementalGroups", "spec.security.supplementalGroups"),
        # Compute
        FieldRow("cpu", "spec.compute.cpuCoreRequest", read=_parse_cores),
        FieldRow("cpuLimit", "spec.compute.cpuCoreLimit", read=_parse_cores),
        FieldRow("memory", "spec.compute.cpuMemoryRequest"),
        FieldRow("memoryLimit", "spec.compute.cpuMemoryLimit"),
        FieldRow(
            "gpu",
            "spec.compute.gpuDevicesRequest",
            take=_take_gpu,
            also=("spec.compute.gpuPortionRequest", "spec.compute.gpuRequestType"),
        ),
        FieldRow("gpuDevices", "spec.compute.gpuDevicesRequest"),
        FieldRow(
            "gpuMemory",
            "spec.compute.gpuMemoryRequest",
            read=_check_gpu_memory,
            implies={"spec.compute.gpuRequestType": "memory"},
        ),
        FieldRow("gpuLimit", "spec.compute.gpuPortionLimit", take=_take_gpu_limit),
        FieldRow("migProfile", "spec.compute.migProfile", implies={"spec.compute.gpuRequestType": "migProfile"}),
        FieldRow(
            "extendedResources",
            "spec.compute.extendedResources",
            "items",
            take=_take_extended_resources,
            parts=_make_subfields("resource name quantity", name="resource"),
        ),
        # Scaling
        FieldRow("minScale", "spec.autoscaling.minReplicas"),
        FieldRow("maxScale", "spec.autoscaling.maxReplicas"),
        FieldRow("metric", "spec.autoscaling.metric"),
        FieldRow("metricName", "spec.autoscaling.metricName"),
        FieldRow("target", "spec.autoscaling.metricThreshold"),
        FieldRow("class", take=table.leave_to_rule),
        # Network
        FieldRow(
            "ports",
            "spec.servingPort.container",
            "items",
            take=_take_ports,
            also=("spec.servingPort.protocol",),
            parts=_make_subfields("container protocol serviceType external"),
        ),
        FieldRow("serviceType", read=_check_service_type),
        FieldRow(
            "exposedUrls",
            "spec.exposedUrls",
            "items",
            read=table.make_exposed_url,
            take=_take_exposed_urls,
            parts=_make_subfields(
                "container containerPort url authorizationType authorizedUsers authorizedGroups toolType toolName name",
                containerPort="container",
            ),
        ),
        FieldRow("isPrivateServiceUrl", "spec.servingPort.clusterLocalAccessOnly"),
        FieldRow.refused(
            "ingressUrl",
            "CRD004",
            "ingressUrl is for Run:ai's internal use; Knative sets the service's URL",
            "remove it; for a custom host name use exposedUrls",
        ),
        # Placement
        FieldRow("nodePool", take=table.leave_to_rule),
        FieldRow("nodePools", "spec.nodePools", "either", take=_take_words),
        FieldRow("nodeType", "spec.nodeType"),
        FieldRow(
            "tolerations",
            "spec.tolerations",
            "items",
            take=_take_entries,
            parts=_make_subfields(
                "name key operator value effect seconds tolerationSeconds", tolerationSeconds="seconds"
            ),
        ),
        # Storage
        FieldRow(
            "pvcs",
            "spec.storage.pvc",
            "items",
            read=table.make_new_claim,
            take=_take_entries,
            parts=_make_subfields(
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
        FieldRow("volumes", kind="any", take=_take_volumes),
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
            read=table.true_or_none,
        ),
    )
}
#: The other fields of a port.
OF_PORT: Final = {
    "serviceType": FieldRow("serviceType", read=_check_port_type),
    "external": FieldRow.refused(
        "external",
        "SRV012",
        "the external port cannot be chosen: Knative publishes the service at its URL",
        "remove external, and use exposedUrls for a custom host name",
    ),
}
#: Paths of native fields in the classic resource, for problems about missing fields.
ORIGINS: Final[dict[Path, Path]] = {
    **table.source_paths(FIELDS.values(), "spec"),
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


def recognize(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is a classic workload, of any version."""
    return data.get("kind") == KIND


def read(data: dict[str, Any], profile: Profile) -> Draft:
    """Return the workload in native form; every field is converted or causes a problem."""
    draft = Draft(make_document(table.NAMELESS, {}), cluster=profile.spec)
    version = data.get("apiVersion")
    if version not in VERSIONS:
        message = f"apiVersion {format_value(version)} of {KIND} is not supported"
        draft.add_error("SPEC006", ("apiVersion",), message, f"use {' or '.join(VERSIONS)}")
        draft.unread.add(("spec",))
        return draft
    draft.origins |= ORIGINS
    _check_top_level(draft, data)
    _read_metadata(draft, data.get("metadata"))
    spec = data.get("spec")
    if spec is None:
        draft.add_error("SPEC003", ("spec",), "the workload has no spec", "set spec with name, image and ports")
        draft.unread.add(("spec",))
    elif not isinstance(spec, dict):
        draft.add_error("SPEC002", ("spec",), describe_invalid("spec", spec, "a mapping"), "write a mapping")
        draft.unread.add(("spec",))
    else:
        _read_spec(draft, spec)
    return draft


def _check_top_level(draft: Draft, data: Mapping[str, Any]) -> None:
    for name in data:
        if name not in TOP:
            draft.add_error("SPEC001", (str(name),), f"unknown field {name} of {KIND}", f"use one of {', '.join(TOP)}")
        elif name == "status" and data[name]:
            draft.add_warning("CRD001", ("status",), "status is set by the cluster and is ignored", "remove it")


def _read_metadata(draft: Draft, metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        message = describe_invalid("metadata", metadata, "a mapping")
        draft.add_error("SPEC002", ("metadata",), message, "write a mapping")
        return
    for name, value in metadata.items():
        if value is not None:
            _check_metadata_field(draft, str(name))
    _set_namespace(draft, metadata.get("namespace"))
    for name in ("labels", "annotations"):
        value, where = metadata.get(name), ("metadata", name)
        if isinstance(value, dict) and LAST_APPLIED in value:
            message = "kubectl's last-applied-configuration annotation is ignored"
            draft.add_warning("CRD001", (*where, LAST_APPLIED), message, "remove it")
            value = {key: text for key, text in value.items() if key != LAST_APPLIED}
        if value:
            draft.set_field(where, value, where)
    draft.values_by_name["metadata.name"] = metadata.get("name")


def _check_metadata_field(draft: Draft, name: str) -> None:
    where = ("metadata", name)
    if name in OBSERVED:
        draft.add_warning("CRD001", where, f"{name} is set by the cluster and is ignored", "remove it")
    elif name == "generateName":
        draft.add_error("RUN002", where, table.NO_GENERATED_NAMES, "set metadata.name")
    elif name not in METADATA:
        known = ", ".join(METADATA)
        draft.add_error("SPEC001", where, f"metadata.{shorten_text(name)} is not supported", f"use one of {known}")


def _set_namespace(draft: Draft, namespace: Any) -> None:
    """Set the project if the namespace matches the profile's pattern, otherwise the namespace."""
    where = ("metadata", "namespace")
    pattern = draft.cluster.projects.namespace
    prefix, _, suffix = pattern.partition("{project}")
    if namespace is None:
        return
    if isinstance(namespace, str) and len(namespace) > len(prefix) + len(suffix):
        project = namespace[len(prefix) : len(namespace) - len(suffix)]
        if pattern.replace("{project}", project) == namespace:
            draft.set_field(("spec", "project"), project, where)
            return
    draft.set_field(where, namespace, where)


def _read_spec(draft: Draft, spec: Mapping[str, Any]) -> None:
    for name, wrapped in spec.items():
        where = ("spec", str(name))
        row = FIELDS.get(name)
        if row is None:
            meant = HABITS.get(name) or _find_similar_name(str(name), FIELDS)
            hint = f"use {HABITS[name]}" if name in HABITS else _suggest_name(str(name), FIELDS)
            draft.add_error("SPEC001", where, f"unknown field {shorten_text(str(name))} of {KIND}", hint)
            draft.unread.update(FIELDS[meant].fields if meant else ())
        elif wrapped is not None:
            with draft.reading_field(row):
                _take_field(draft, row, wrapped, where)
    for rule in TOGETHER:
        rule(draft)


def _take_field(draft: Draft, row: FieldRow, wrapped: Any, where: Path) -> None:
    if row.kind == "items" or (row.kind == "either" and isinstance(wrapped, dict) and "items" in wrapped):
        assert row.take is not None
        row.take(draft, row, _unwrap_items(draft, row.name, wrapped, where), where)
    elif row.kind in {"plain", "any"}:
        table.apply_row(draft, row, wrapped, where)
    elif (value := _unwrap_value(draft, row.name, wrapped, where)) is not None:
        draft.values_by_name[row.name] = value
        table.apply_row(draft, row, value, (*where, "value"))


def _unwrap_value(draft: Draft, name: str, wrapped: Any, where: Path) -> Any:
    """Return the value in ``{value: …}``, or None if it is missing or invalid."""
    if not isinstance(wrapped, dict):
        bare = json.dumps(wrapped) if isinstance(wrapped, (str, bool, int, float)) else "…"
        message = f"invalid {name}: {KIND} wraps every value in a mapping, but this is {format_value(wrapped)}"
        draft.add_error("SPEC002", where, message, f"write {name}: {{value: {shorten_text(bare)}}}")
        return None
    for key in wrapped:
        if key != "value":
            code = "SPEC002" if key == "items" else "SPEC001"
            message = f"{name} has a single value; {key} is not supported"
            draft.add_error(code, (*where, str(key)), message, f"write {name}: {{value: …}}")
    if not wrapped:
        draft.add_error("SPEC003", where, f"{name} has no value", f"write {name}: {{value: …}}, or remove it")
    return wrapped.get("value")


def _unwrap_items(draft: Draft, name: str, wrapped: Any, where: Path) -> list[ClassicItem]:
    """Return the entries of ``items: {<key>: {value: …}}``; report a problem for each entry in another format."""
    fix = f"write {name}: {{items: {{<key>: {{value: …}}}}}}"
    entries = wrapped.get("items") if isinstance(wrapped, dict) else None
    if not isinstance(wrapped, dict) or not isinstance(entries, dict):
        wrong = format_value(entries if isinstance(wrapped, dict) and "items" in wrapped else wrapped)
        draft.add_error("SPEC002", where, f"invalid {name}: {KIND} wraps every list in items, but this is {wrong}", fix)
        return []
    for key in wrapped:
        if key != "items":
            draft.add_error("SPEC001", (*where, str(key)), f"{name} is a list of items; {key} is not supported", fix)
    items = []
    for key, entry in entries.items():
        item_path = (*where, "items", str(key))
        if isinstance(entry, dict) and entry.get("exclude") is True:
            message = (
                "exclude removes an item that a Run:ai policy would add; Ebbtide reads no policies and omits the item"
            )
            draft.add_warning("RUN004", (*item_path, "exclude"), message, "remove the item")
        elif isinstance(entry, dict) and set(entry) - {"exclude"} == {"value"}:
            items.append(ClassicItem(str(key), entry["value"], (*item_path, "value")))
        else:
            draft.add_error("SPEC002", item_path, describe_invalid(str(key), entry, "{value: …}"), fix)
    return items


def _native_entry(draft: Draft, item: ClassicItem, parts: Mapping[str, Subfield]) -> dict[str, Any]:
    """Return an item's value with native field names and the native nesting."""
    entry: dict[str, Any] = {}
    if not isinstance(item.value, dict):
        message = describe_invalid(item.key, item.value, "a mapping")
        fix = f"write a mapping with the fields that you need: {', '.join(parts)}"
        draft.add_error("SPEC002", item.where, message, fix)
        return entry
    for name, value in item.value.items():
        part = parts.get(name) if isinstance(name, str) else None
        if part is None:
            hint = _suggest_name(str(name), parts)
            draft.add_error("SPEC001", (*item.where, str(name)), f"unknown field {name}", hint)
        elif value is not None:
            table.set_at(entry, table.split_path(part.to), value)
    return entry


# Rules about several fields.


def _has_error_at(draft: Draft, *where: str) -> bool:
    return any(problem.severity == ERROR and problem.field[: len(where)] == where for problem in draft.problems)


def _check_name(draft: Draft) -> None:
    name, of_object = draft.values_by_name.get("name"), draft.values_by_name.get("metadata.name")
    if name is None and not _has_error_at(draft, "spec", "name") and not _has_error_at(draft, "spec", "namePrefix"):
        usual = of_object if isinstance(of_object, str) else "chat"
        message = "spec.name is missing: Run:ai does not use metadata.name as the workload's name"
        draft.add_error("SPEC003", ("spec", "name"), message, f"set spec.name: {{value: {shorten_text(usual)}}}")
    elif name is not None and of_object is not None and of_object != name:
        message = f"metadata.name {format_value(of_object)} differs from spec.name; Run:ai uses {format_value(name)} as the workload's name"
        draft.add_warning("CRD001", ("metadata", "name"), message, "use the same name in both fields")


def _check_port(draft: Draft) -> None:
    if get_at(draft.spec, "servingPort", "container") is None and not _has_error_at(draft, "spec", "ports"):
        message = "the port on which the server listens is missing"
        draft.add_error("CRD008", ("spec", "ports"), message, "set ports: {items: {http: {value: {container: 8000}}}}")
        draft.unread.add(("spec", "servingPort", "container"))


def _check_metric_name(draft: Draft) -> None:
    name, metric = draft.values_by_name.get("metricName"), draft.values_by_name.get("metric")
    if name is None:
        return
    if metric is not None and metric != "custom":
        message = f"metricName overrides metric, so {format_value(metric)} has no effect"
        fix = "set metric: {value: custom}, or remove metricName"
        draft.add_warning("CRD006", ("spec", "metric", "value"), message, fix)
    draft.set_field((*AUTO, "metric"), "custom", ("spec", "metricName", "value"))


def _check_autoscaler_class(draft: Draft) -> None:
    requested = draft.values_by_name.get("class")
    if requested is None:
        return
    metric = get_at(draft.native, *AUTO, "metric")
    row = metrics.find_metric(metric) if isinstance(metric, str) else None
    required = CLASSES["kpa" if metric is None else row.autoscaler if row is not None else "hpa"]
    if requested != required:
        message = f"class {format_value(requested)} does not support metric {format_value(metric)}, which needs class {required}"
        draft.add_error("CRD003", ("spec", "class", "value"), message, f"remove class, or set it to {required}")


def _check_gpu(draft: Draft) -> None:
    if "gpu" in draft.values_by_name and "gpuDevices" in draft.values_by_name:
        message = "gpu and gpuDevices are mutually exclusive: each sets the number of devices"
        draft.add_error("CRD049", ("spec", "gpuDevices", "value"), message, "remove gpuDevices")


def _check_run_as_user(draft: Draft) -> None:
    """Check ``runAsUser``: it uses ``runAsUid`` and ``runAsGid``, or the submitting user's IDs, which are unknown here."""
    run_as_user = draft.values_by_name.get("runAsUser")
    ids = [name for name in ("runAsUid", "runAsGid") if name in draft.values_by_name]
    where = ("spec", "runAsUser", "value")
    if run_as_user is not None and not isinstance(run_as_user, bool):
        message = describe_invalid("runAsUser", run_as_user, "true or false")
        draft.add_error("SPEC002", where, message, "write true or false")
    elif run_as_user and "runAsUid" not in ids:
        message = "runAsUser without runAsUid means the submitting user, whose ID Ebbtide cannot look up"
        draft.add_error("SEC004", where, message, "set runAsUid and runAsGid")
    elif not run_as_user:
        for name in ids:
            message = f"Run:ai applies {name} only with runAsUser: true; Ebbtide always applies it"
            fix = "set runAsUser: {value: true} so that both agree, or remove it"
            draft.add_warning("CRD007", ("spec", name, "value"), message, fix)


def _take_node_pool(draft: Draft) -> None:
    pool = draft.values_by_name.get("nodePool")
    where = ("spec", "nodePool", "value")
    if pool is None:
        return
    if draft.spec.get("nodePools"):
        draft.add_error("CRD005", where, "nodePool and nodePools are mutually exclusive", "keep nodePools")
        return
    message = "nodePool is deprecated; Ebbtide reads it as nodePools"
    draft.add_warning("CRD005", where, message, "use nodePools: {value: …}")
    draft.append_item(("spec", "nodePools"), pool, where)


TOGETHER: Final = (
    *(_check_name, _check_port, _check_metric_name, _check_autoscaler_class, _check_gpu, _check_run_as_user),
    _take_node_pool,
)


def _suggest_name(name: str, known: Mapping[str, Any]) -> str:
    similar = _find_similar_name(name, known)
    return f"did you mean {similar}?" if similar else f"remove it; the valid fields are {', '.join(known)}"


def _find_similar_name(name: str, known: Mapping[str, Any]) -> str | None:
    from difflib import get_close_matches

    lowered = {text.lower(): text for text in known}
    close = get_close_matches(name.lower().replace("_", "").replace("-", ""), [*lowered], 1, 0.7)
    return lowered[close[0]] if close else None


def _parse_nano(value: Any) -> int | None:
    """Return a quantity in billionths, or None."""
    text = _number_text(value)
    return quantities.parse_nano(text) if len(text) <= LONGEST_QUANTITY else None


def _parse_number(value: Any) -> float | None:
    """Return a plain number (without sign, unit or exponent), or None."""
    text = _number_text(value)
    return float(text) if NUMBER.fullmatch(text) else None


def _number_text(value: Any) -> str:
    """Return a number or string as text, and an empty string for any other value."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    return value.strip() if isinstance(value, str) else repr(value)


READER: Final = Reader(recognize, read, "a Run:ai InferenceWorkload")
