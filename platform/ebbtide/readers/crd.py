"""Run:ai's classic custom resource: ``kind: InferenceWorkload`` of ``run.ai/v1alpha1`` and ``v2alpha1``.

Upstream: run-ai/docs, docs/developer/cluster-api/reference/inference.md (what ``kubectl explain`` says).
Every scalar stands as ``{value: …}`` and every list as ``items: {<key>: {value: …}}``; the table ``FIELDS``
says for each field what becomes of it. What Run:ai's page does not show (the inner names of claims, URLs and
tolerations) follows its policy reference; names that are in neither are refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ebbtide.base import metrics, quantities
from ebbtide.base.problems import ERROR, Problem, warning
from ebbtide.readers.reading import Reading, document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile

    Take = Callable[["Draft", Any, Path], None]

KIND: Final = "InferenceWorkload"
VERSIONS: Final = ("run.ai/v1alpha1", "run.ai/v2alpha1")
TOP: Final = ("apiVersion", "kind", "metadata", "spec", "status")
#: What the cluster writes into an object's metadata when it is read back.
OBSERVED: Final = {"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}
METADATA: Final = ("name", "generateName", "namespace", "labels", "annotations")
#: kubectl's own note; carried over it would compare a new object with an old document.
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
ANEW: Final = "a name that is made anew each time could never be applied again or compared"
#: The name used only while there is an error anyway, so that one missing name is one problem.
NAMELESS: Final = "unnamed"
#: The autoscaler classes of Knative by what carries a metric out.
CLASSES: Final = {"kpa": "kpa.autoscaling.knative.dev", "hpa": "hpa.autoscaling.knative.dev"}
PULL_POLICIES: Final = {"always": "Always", "ifnotpresent": "IfNotPresent", "never": "Never"}
SERVICE_TYPES: Final = ("LoadBalancer", "NodePort", "ClusterIP")
SECRET: Final = re.compile(r"SECRET:\s*([^,\s]+)\s*,\s*(\S+)")
NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,18})?|\.[0-9]{1,18}")
#: Longer text is no quantity in any Kubernetes object.
LONGEST_QUANTITY: Final = 40

Shape = Literal["value", "items", "either", "plain", "any"]


@dataclass(slots=True)
class Draft:
    """The native document as it grows, with the places its parts come from and what is wrong so far."""

    native: dict[str, Any]
    origins: dict[Path, Path]
    problems: list[Problem] = field(default_factory=list)
    #: The author's plain values by field, for what must be read together.
    given: dict[str, Any] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], value: Any, where: Path) -> None:
        """Set a native field and remember where it came from."""
        place = self.native
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
        self.origins[path] = where

    def add(self, path: tuple[str, ...], value: Any, where: Path) -> Path:
        """Append to a native list, remember where the item came from, and return its native path."""
        place = self.native
        for part in path[:-1]:
            place = place.setdefault(part, {})
        items = place.setdefault(path[-1], [])
        items.append(value)
        here: Path = (*path, len(items) - 1)
        self.origins[here] = where
        return here

    def refuse(self, code: str, where: Path, message: str, fix: str) -> None:
        """Note an error."""
        self.problems.append(Problem(code, where, message, fix))

    def warn(self, code: str, where: Path, message: str, fix: str) -> None:
        """Note something that changes nothing."""
        self.problems.append(warning(code, where, message, fix))


@dataclass(frozen=True, slots=True)
class Row:
    """One field: its group in Run:ai's page, how it is wrapped, what takes it, and where it lands."""

    group: str
    shape: Shape
    take: Take
    native: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of ``items``: its key, its value, and where the value stands."""

    key: str
    value: Any
    where: Path


# How a field is taken. Each of these gives a function of (draft, value, where).


def _kept(*path: str) -> Take:
    """Keep the value as it is; the models say if it has the wrong type."""

    def take(draft: Draft, value: Any, where: Path) -> None:
        draft.put(path, value, where)

    return take


def _nothing(draft: Draft, value: Any, where: Path) -> None:
    """Read together with other fields, in ``TOGETHER``."""


def _cores(*path: str) -> Take:
    """Read CPU cores: 2, "0.5", "500m"."""

    def take(draft: Draft, value: Any, where: Path) -> None:
        nano = _nano(value)
        if nano is None:
            draft.refuse(
                "SPEC002",
                where,
                f"{_shown(value)} is no number of CPU cores",
                'write it as "0.5", "2" or "500m"',
            )
        else:
            # Far above what a node has a float still holds it, and the models name the bound.
            draft.put(path, min(nano, quantities.NANO * 10**9) / quantities.NANO, where)

    return take


def _refused(code: str, message: str, fix: str) -> Take:
    """Refuse the field whatever it says."""

    def take(draft: Draft, value: Any, where: Path) -> None:  # noqa: ARG001 - refused whatever it is
        draft.refuse(code, where, message, fix)

    return take


def _refused_if_true(code: str, message: str, fix: str) -> Take:
    """Refuse true; false is the default and changes nothing."""

    def take(draft: Draft, value: Any, where: Path) -> None:
        if value is True:
            draft.refuse(code, where, message, fix)
        elif value is not False:
            draft.refuse("SPEC002", where, f"{_shown(value)} is neither true nor false", "write true or false")

    return take


def _display_only(draft: Draft, value: Any, where: Path) -> None:  # noqa: ARG001 - whoever it is
    draft.warn("CRD001", where, "username is display only: it grants nothing and is carried nowhere", "remove it")


def _usage(draft: Draft, value: Any, where: Path) -> None:
    if value == "Template":
        draft.refuse(
            "RUN001",
            where,
            "a template is not run itself; only Run:ai's control plane fills other workloads from it",
            "set usage: Submit, or put its fields into the workloads that use it",
        )
    elif value != "Submit":
        draft.refuse("SPEC004", where, f"usage is {_shown(value)}; it takes Submit, Template", "remove it")


def _pull_policy(draft: Draft, value: Any, where: Path) -> None:
    if isinstance(value, str) and value.lower() in PULL_POLICIES:
        draft.put(("spec", "imagePullPolicy"), PULL_POLICIES[value.lower()], where)
    else:
        draft.refuse(
            "SPEC004",
            where,
            f"imagePullPolicy is {_shown(value)}; it takes always, ifNotPresent, never",
            "use one of always, ifNotPresent, never",
        )


def _pairs(*path: str) -> Take:
    """Make ``{name, value}`` of each item, as native labels and annotations are."""

    def take(draft: Draft, items: list[Item], where: Path) -> None:  # noqa: ARG001 - items know their places
        for item in items:
            here = draft.add(path, {"name": item.key, "value": item.value}, item.where[:-1])
            draft.origins[*here, "name"] = item.where[:-1]

    return take


def _environment(draft: Draft, items: list[Item], where: Path) -> None:  # noqa: ARG001 - as above
    for item in items:
        of_secret = SECRET.fullmatch(item.value) if isinstance(item.value, str) else None
        source = {"value": item.value} if of_secret is None else {"secret": {"name": of_secret[1], "key": of_secret[2]}}
        here = draft.add(("spec", "environmentVariables"), {"name": item.key, **source}, item.where[:-1])
        draft.origins[*here, "name"] = item.where[:-1]
        draft.origins[*here, "secret"] = item.where


def _words_of(draft: Draft, value: Any, where: Path, separator: str) -> Iterator[Item]:
    """Yield the entries of a list that stands as one text or as items."""
    if isinstance(value, list) and all(isinstance(item, Item) for item in value):
        yield from value
    elif isinstance(value, str):
        for text in re.split(separator, value.strip()):
            if text:
                yield Item("", text, where)
    else:
        draft.refuse("SPEC002", where, f"{_shown(value)} is no list", "write one text with the names, or items")


def _capabilities(draft: Draft, value: Any, where: Path) -> None:
    for item in _words_of(draft, value, where, r"[\s,]+"):
        draft.add(("spec", "security", "capabilities"), item.value, item.where)


def _node_pools(draft: Draft, value: Any, where: Path) -> None:
    for item in _words_of(draft, value, where, r"[\s,]+"):
        draft.add(("spec", "nodePools"), item.value, item.where)


def _gpu(draft: Draft, value: Any, where: Path) -> None:
    """Read the number of GPUs: a whole number of devices, or a part of one."""
    number = _number(value)
    if number is None:
        draft.refuse("SPEC002", where, f"{_shown(value)} is no number of GPUs", 'write "1", "2", or a part like "0.5"')
    elif number.is_integer():
        draft.put(("spec", "compute", "gpuDevicesRequest"), int(number), where)
    elif number > 1:
        draft.refuse(
            "GPU002",
            where,
            f"{number:g} GPUs are neither whole devices nor a part of one",
            f'use "{int(number)}" or "{int(number) + 1}", or a part below 1',
        )
    else:
        for name, part in (
            ("gpuRequestType", "portion"),
            ("gpuPortionRequest", number),
            ("gpuDevicesRequest", 1),
        ):
            draft.put(("spec", "compute", name), part, where)


def _gpu_memory(draft: Draft, value: Any, where: Path) -> None:
    if _number(value) is not None:
        draft.refuse(
            "SPEC004",
            where,
            f"GPU memory {_shown(value)} has no unit: Run:ai takes it for megabytes, Kubernetes for bytes",
            f"write {value}M",
        )
        return
    draft.put(("spec", "compute", "gpuMemoryRequest"), value, where)
    draft.put(("spec", "compute", "gpuRequestType"), "memory", where)


def _gpu_limit(draft: Draft, value: Any, where: Path) -> None:
    """Read the limit: a part of a GPU, or memory where it has a unit, as Run:ai's page describes it."""
    number = _number(value)
    if number is not None:
        draft.put(("spec", "compute", "gpuPortionLimit"), number, where)
    else:
        draft.put(("spec", "compute", "gpuMemoryLimit"), value, where)


def _mig_profile(draft: Draft, value: Any, where: Path) -> None:
    draft.put(("spec", "compute", "migProfile"), value, where)
    draft.put(("spec", "compute", "gpuRequestType"), "migProfile", where)


def _extended(draft: Draft, items: list[Item], where: Path) -> None:  # noqa: ARG001 - items know their places
    for item in items:
        row = {"resource": item.key, "quantity": item.value}
        if isinstance(item.value, dict):
            row = _renamed(draft, item, EXTENDED)
            row.setdefault("resource", item.key)
        here = draft.add(("spec", "compute", "extendedResources"), row, item.where)
        if not isinstance(item.value, dict):
            draft.origins[*here, "quantity"] = item.where
            draft.origins[*here, "resource"] = item.where[:-1]


def _ports(draft: Draft, items: list[Item], where: Path) -> None:
    if len(items) > 1:
        draft.refuse(
            "SRV012",
            where,
            f"{len(items)} ports are given, and a Knative revision serves exactly one",
            "keep the port that takes the requests, or run the rest as a service of its own",
        )
        return
    for item in items:
        row = _renamed(draft, item, PORT)
        if "container" in row:
            draft.put(("spec", "servingPort", "container"), row["container"], (*item.where, "container"))
        else:
            draft.refuse("SPEC003", item.where, "the port does not say which one it is", "set container: 8000, say")
        if row.get("serviceType") is not None:
            _service_type(draft, row["serviceType"], (*item.where, "serviceType"))
        if row.get("external") is not None:
            draft.refuse(
                "SRV012",
                (*item.where, "external"),
                "a port outside cannot be chosen: Knative publishes the service at its URL",
                "remove external, and use exposedUrls for a host name of your own",
            )


def _service_type(draft: Draft, value: Any, where: Path) -> None:
    if value not in SERVICE_TYPES:
        draft.refuse(
            "SPEC004",
            where,
            f"serviceType is {_shown(value)}; it takes {', '.join(SERVICE_TYPES)}",
            "remove it",
        )
    elif value != "ClusterIP":
        draft.refuse(
            "SRV012",
            where,
            f"a Knative service is not published as {value}: its route makes the URL",
            "remove serviceType",
        )


def _rows(path: tuple[str, ...], names: Mapping[str, tuple[str, ...]]) -> Take:
    """Make one native entry of each item, by a table of inner names."""

    def take(draft: Draft, items: list[Item], where: Path) -> None:  # noqa: ARG001 - items know their places
        for item in items:
            here = draft.add(path, _renamed(draft, item, names), item.where)
            for name, inner in names.items():
                if isinstance(item.value, dict) and name in item.value:
                    draft.origins[*here, *inner] = (*item.where, name)

    return take


def _exposed(draft: Draft, items: list[Item], where: Path) -> None:
    """Read host names; with users or groups but no type, the type is theirs: never open to everybody."""
    bare = [
        Item(item.key, {"url": item.value} if isinstance(item.value, str) else item.value, item.where) for item in items
    ]
    _rows(("spec", "exposedUrls"), EXPOSED)(draft, bare, where)
    for row in draft.native["spec"].get("exposedUrls", ()):
        for name in ("authorizedUsers", "authorizedGroups"):
            if row.get(name):
                row.setdefault("authorizationType", name)


def _claims(draft: Draft, items: list[Item], where: Path) -> None:
    """Read claims; one that names its access modes has those alone, without the native default."""
    _rows(("spec", "storage", "pvc"), PVC)(draft, items, where)
    for row in _at(draft.native, ("spec", "storage", "pvc")) or ():
        modes = _at(row, ("claimInfo", "accessModes"))
        if modes:
            modes.setdefault("readWriteOnce", False)


def _volumes(draft: Draft, value: Any, where: Path) -> None:
    for item in _items(draft, "volumes", value, where):
        nfs = isinstance(item.value, dict) and any(str(key).lower().startswith(("nfs", "server")) for key in item.value)
        if nfs:
            draft.refuse(
                "STO002",
                item.where,
                "an NFS share cannot be mounted here: Knative takes it only through a claim",
                "make a PersistentVolume for the share and use pvcs with existingPvc: true",
            )
        else:
            draft.refuse(
                "STO001",
                item.where,
                "a folder of the node cannot be mounted here: it breaks the pod's isolation",
                "use a persistent volume claim: pvcs with existingPvc: true",
            )


#: The inner names of an item's value, and where each lands in the native entry.
PORT: Final = {"container": ("container",), "serviceType": ("serviceType",), "external": ("external",)}
EXTENDED: Final = {"resource": ("resource",), "name": ("resource",), "quantity": ("quantity",)}
EXPOSED: Final = {
    "container": ("container",),
    "url": ("url",),
    "authorizationType": ("authorizationType",),
    "authorizedUsers": ("authorizedUsers",),
    "authorizedGroups": ("authorizedGroups",),
    "toolType": ("toolType",),
    "toolName": ("toolName",),
    "name": ("name",),
}
TOLERATION: Final = {
    "name": ("name",),
    "key": ("key",),
    "operator": ("operator",),
    "value": ("value",),
    "effect": ("effect",),
    "seconds": ("seconds",),
    "tolerationSeconds": ("seconds",),
}
PVC: Final = {
    "claimName": ("claimName",),
    "existingPvc": ("existingPvc",),
    "path": ("path",),
    "readOnly": ("readOnly",),
    "ephemeral": ("ephemeral",),
    "size": ("claimInfo", "size"),
    "storageClass": ("claimInfo", "storageClass"),
    "volumeMode": ("claimInfo", "volumeMode"),
    "readWriteOnce": ("claimInfo", "accessModes", "readWriteOnce"),
    "readOnlyMany": ("claimInfo", "accessModes", "readOnlyMany"),
    "readWriteMany": ("claimInfo", "accessModes", "readWriteMany"),
}
AUTO: Final = ("spec", "autoscaling")
COMPUTE: Final = ("spec", "compute")

FIELDS: Final[dict[str, Row]] = {
    # Identity
    "name": Row("Identity", "value", _kept("metadata", "name"), ("metadata", "name")),
    "namePrefix": Row(
        "Identity",
        "value",
        _refused(
            "RUN002",
            ANEW,
            "give the workload its own name: name: {value: chat}",
        ),
    ),
    "baseWorkload": Row(
        "Identity",
        "plain",
        _refused(
            "RUN001",
            "a base workload is filled in by Run:ai's control plane and cannot be read from here",
            "put its fields into this workload",
        ),
    ),
    "usage": Row("Identity", "plain", _usage),
    "username": Row("Identity", "value", _display_only),
    "labels": Row("Identity", "items", _pairs("spec", "labels"), ("spec", "labels")),
    "annotations": Row("Identity", "items", _pairs("spec", "annotations"), ("spec", "annotations")),
    # Container
    "image": Row("Container", "value", _kept("spec", "image"), ("spec", "image")),
    "imagePullPolicy": Row("Container", "value", _pull_policy, ("spec", "imagePullPolicy")),
    "command": Row("Container", "value", _kept("spec", "command"), ("spec", "command")),
    "arguments": Row("Container", "value", _kept("spec", "args"), ("spec", "args")),
    "environment": Row("Container", "items", _environment, ("spec", "environmentVariables")),
    "workingDir": Row("Container", "value", _kept("spec", "workingDir"), ("spec", "workingDir")),
    "createHomeDir": Row("Container", "value", _kept("spec", "createHomeDir"), ("spec", "createHomeDir")),
    "stdin": Row(
        "Container",
        "value",
        _refused_if_true("CRD002", "a server that answers requests has no standard input", "remove stdin"),
    ),
    "tty": Row(
        "Container",
        "value",
        _refused_if_true("CRD002", "a server that answers requests has no terminal", "remove tty"),
    ),
    "capabilities": Row("Container", "either", _capabilities, ("spec", "security", "capabilities")),
    "hostIpc": Row(
        "Container",
        "value",
        _refused_if_true("SEC006", "sharing the node's IPC breaks the pod's isolation", "use largeShm"),
    ),
    "hostNetwork": Row(
        "Container",
        "value",
        _refused_if_true(
            "SEC006",
            "sharing the node's network breaks the pod's isolation, and two replicas would take one port",
            "remove hostNetwork",
        ),
    ),
    "largeShm": Row("Container", "value", _kept(*COMPUTE, "largeShmRequest"), (*COMPUTE, "largeShmRequest")),
    "runAsUser": Row("Container", "value", _nothing),
    "runAsUid": Row("Container", "value", _kept("spec", "security", "runAsUid"), ("spec", "security", "runAsUid")),
    "runAsGid": Row("Container", "value", _kept("spec", "security", "runAsGid"), ("spec", "security", "runAsGid")),
    "supplementalGroups": Row(
        "Container",
        "value",
        _kept("spec", "security", "supplementalGroups"),
        ("spec", "security", "supplementalGroups"),
    ),
    # Compute
    "cpu": Row("Compute", "value", _cores(*COMPUTE, "cpuCoreRequest"), (*COMPUTE, "cpuCoreRequest")),
    "cpuLimit": Row("Compute", "value", _cores(*COMPUTE, "cpuCoreLimit"), (*COMPUTE, "cpuCoreLimit")),
    "memory": Row("Compute", "value", _kept(*COMPUTE, "cpuMemoryRequest"), (*COMPUTE, "cpuMemoryRequest")),
    "memoryLimit": Row("Compute", "value", _kept(*COMPUTE, "cpuMemoryLimit"), (*COMPUTE, "cpuMemoryLimit")),
    "gpu": Row("Compute", "value", _gpu, (*COMPUTE, "gpuDevicesRequest")),
    "gpuMemory": Row("Compute", "value", _gpu_memory, (*COMPUTE, "gpuMemoryRequest")),
    "gpuLimit": Row("Compute", "value", _gpu_limit, (*COMPUTE, "gpuPortionLimit")),
    "migProfile": Row("Compute", "value", _mig_profile, (*COMPUTE, "migProfile")),
    "extendedResources": Row("Compute", "items", _extended, (*COMPUTE, "extendedResources")),
    # Scaling
    "minScale": Row("Scaling", "value", _kept(*AUTO, "minReplicas"), (*AUTO, "minReplicas")),
    "maxScale": Row("Scaling", "value", _kept(*AUTO, "maxReplicas"), (*AUTO, "maxReplicas")),
    "metric": Row("Scaling", "value", _kept(*AUTO, "metric"), (*AUTO, "metric")),
    "metricName": Row("Scaling", "value", _kept(*AUTO, "metricName"), (*AUTO, "metricName")),
    "target": Row("Scaling", "value", _kept(*AUTO, "metricThreshold"), (*AUTO, "metricThreshold")),
    "class": Row("Scaling", "value", _nothing),
    # Network
    "ports": Row("Network", "items", _ports, ("spec", "servingPort", "container")),
    "serviceType": Row("Network", "value", _service_type),
    "exposedUrls": Row("Network", "items", _exposed, ("spec", "exposedUrls")),
    "isPrivateServiceUrl": Row(
        "Network",
        "value",
        _kept("spec", "servingPort", "clusterLocalAccessOnly"),
        ("spec", "servingPort", "clusterLocalAccessOnly"),
    ),
    "ingressUrl": Row(
        "Network",
        "value",
        _refused(
            "CRD004",
            "ingressUrl is for Run:ai's internal use, and Knative makes the URL itself",
            "remove it; for a host name of your own use exposedUrls",
        ),
    ),
    # Placement
    "nodePool": Row("Placement", "value", _nothing),
    "nodePools": Row("Placement", "either", _node_pools, ("spec", "nodePools")),
    "nodeType": Row("Placement", "value", _kept("spec", "nodeType"), ("spec", "nodeType")),
    "tolerations": Row("Placement", "items", _rows(("spec", "tolerations"), TOLERATION), ("spec", "tolerations")),
    # Storage
    "pvcs": Row("Storage", "items", _claims, ("spec", "storage", "pvc")),
    "volumes": Row("Storage", "any", _volumes),
    "s3": Row(
        "Storage",
        "any",
        _refused(
            "STO008",
            "a bucket is not mounted as a folder: Run:ai has none for inference either",
            "serve the model by its address: model.uri: s3://…, or copy the files into a claim",
        ),
    ),
    "gitSync": Row(
        "Storage",
        "any",
        _refused(
            "STO003",
            "a git repository cannot be mounted here: it needs a git container, which Ebbtide does not ship",
            "put the files into the image",
        ),
    ),
    "mountPropagation": Row(
        "Storage",
        "value",
        _refused_if_true(
            "STO007",
            "mounts that spread between containers and the node break the pod's isolation",
            "remove mountPropagation",
        ),
    ),
}
#: Names from Run:ai's REST body or from habit, with the classic field that says it.
HABITS: Final = {
    "args": "arguments",
    "env": "environment",
    "replicas": "minScale",
    "gpus": "gpu",
    "port": "ports",
    **{row.native[-1]: name for name, row in FIELDS.items() if row.native},
}


def recognise(data: dict[str, Any]) -> bool:
    """Whether ``data`` is a classic workload, of any version."""
    return data.get("kind") == KIND


def read(data: dict[str, Any], profile: Profile) -> Reading:
    """Return the workload in native form; every field is honoured or has a problem."""
    if data.get("apiVersion") not in VERSIONS:
        return Reading(
            document(NAMELESS, {}),
            problems=[
                Problem(
                    "SPEC006",
                    ("apiVersion",),
                    f"{_shown(data.get('apiVersion'))} is no version of {KIND} that Ebbtide knows",
                    f"use {' or '.join(VERSIONS)}",
                )
            ],
        )
    draft = Draft(document(NAMELESS, {}), _first_origins())
    _top(draft, data)
    _metadata(draft, data.get("metadata"), profile)
    spec = data.get("spec")
    if spec is None:
        draft.refuse("SPEC003", ("spec",), "the workload has no spec", "set spec, with name, image and ports")
    elif not isinstance(spec, dict):
        draft.refuse("SPEC002", ("spec",), f"spec is {_shown(spec)}, but should be a mapping", "write a mapping")
    else:
        _spec(draft, spec)
    return Reading(draft.native, draft.origins, draft.problems)


def _first_origins() -> dict[Path, Path]:
    """Return where a native field would stand if it were given, for problems about what is missing."""
    origins: dict[Path, Path] = {("spec", part): ("spec",) for part in ("autoscaling", "compute", "security")}
    origins["spec", "servingPort"] = ("spec", "ports")
    origins["spec", "storage"] = ("spec",)
    origins["spec", "project"] = ("metadata", "namespace")
    for name, row in FIELDS.items():
        if row.native:
            origins[row.native] = ("spec", name)
    return origins


def _top(draft: Draft, data: Mapping[str, Any]) -> None:
    for name in data:
        if name == "status":
            if data[name]:
                draft.warn("CRD001", ("status",), "status is what a cluster saw; it is not read", "remove it")
        elif name not in TOP:
            draft.refuse("SPEC001", (str(name),), f"{name} is not a field of {KIND}", f"use one of {', '.join(TOP)}")


def _metadata(draft: Draft, given: Any, profile: Profile) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        draft.refuse("SPEC002", ("metadata",), f"metadata is {_shown(given)}, but should be a mapping", "write one")
        return
    for name, value in given.items():
        if value is not None:
            _metadata_field(draft, str(name))
    _namespace(draft, given.get("namespace"), profile)
    for name in ("labels", "annotations"):
        value = given.get(name)
        if isinstance(value, dict) and LAST_APPLIED in value:
            draft.warn(
                "CRD001",
                ("metadata", name, LAST_APPLIED),
                "kubectl's own note is not carried over",
                "remove it",
            )
            value = {key: text for key, text in value.items() if key != LAST_APPLIED}
        if value:
            draft.put(("metadata", name), value, ("metadata", name))
    draft.given["metadata.name"] = given.get("name")


def _metadata_field(draft: Draft, name: str) -> None:
    where = ("metadata", name)
    if name in OBSERVED:
        draft.warn("CRD001", where, f"{name} is set by the cluster; it is not read", "remove it")
    elif name == "generateName":
        draft.refuse("RUN002", where, ANEW, "set metadata.name")
    elif name not in METADATA:
        known = ", ".join(METADATA)
        draft.refuse("SPEC001", where, f"metadata.{_cut(name)} has no meaning here", f"use one of {known}")


def _namespace(draft: Draft, namespace: Any, profile: Profile) -> None:
    """Take a namespace of the profile's pattern for a project, and any other for a namespace."""
    where = ("metadata", "namespace")
    pattern = profile.spec.projects.namespace
    before, _, after = pattern.partition("{project}")
    if namespace is None:
        return
    if isinstance(namespace, str) and len(namespace) > len(before) + len(after):
        project = namespace[len(before) : len(namespace) - len(after)]
        if pattern.replace("{project}", project) == namespace:
            draft.put(("spec", "project"), project, where)
            return
    draft.put(("metadata", "namespace"), namespace, where)


def _spec(draft: Draft, spec: Mapping[str, Any]) -> None:
    for name, given in spec.items():
        where = ("spec", str(name))
        row = FIELDS.get(name)
        if row is None:
            draft.problems.append(_unknown(str(name), where))
        elif given is not None:
            _take(draft, name, row, given, where)
    for together in TOGETHER:
        together(draft)


def _take(draft: Draft, name: str, row: Row, given: Any, where: Path) -> None:
    if row.shape in {"plain", "any"}:
        row.take(draft, given, where)
        return
    if row.shape == "items" or (row.shape == "either" and isinstance(given, dict) and "items" in given):
        row.take(draft, _items(draft, name, given, where), where)
        return
    found = _value(draft, name, given, where)
    if found is None or found.value is None:
        return
    draft.given[name] = found.value
    row.take(draft, found.value, found.where)


def _value(draft: Draft, name: str, given: Any, where: Path) -> Item | None:
    """Return what stands in ``{value: …}``, or None with a problem."""
    if not isinstance(given, dict):
        shown = json.dumps(given) if isinstance(given, (str, bool, int, float)) else "…"
        draft.refuse(
            "SPEC002",
            where,
            f"{name} is {_shown(given)}, but this kind wraps every value",
            f"write {name}: {{value: {_cut(shown)}}}",
        )
        return None
    for key in given:
        if key != "value":
            hint = f"write {name}: {{value: …}}"
            code = "SPEC002" if key == "items" else "SPEC001"
            draft.refuse(code, (*where, str(key)), f"{name} takes a single value, not {key}", hint)
    if "value" not in given:
        if not given:
            draft.refuse("SPEC003", where, f"{name} has no value", f"write {name}: {{value: …}}, or remove it")
        return None
    return Item("", given["value"], (*where, "value"))


def _items(draft: Draft, name: str, given: Any, where: Path) -> list[Item]:
    """Return the entries of ``items: {<key>: {value: …}}``, and a problem for each wrapped otherwise."""
    fix = f"write {name}: {{items: {{<key>: {{value: …}}}}}}"
    entries = given.get("items") if isinstance(given, dict) else None
    if not isinstance(given, dict) or not isinstance(entries, dict):
        shown = _shown(entries) if isinstance(given, dict) and "items" in given else _shown(given)
        draft.refuse("SPEC002", where, f"{name} is {shown}, but this kind wraps every list as items", fix)
        return []
    for key in given:
        if key != "items":
            draft.refuse("SPEC001", (*where, str(key)), f"{name} takes items, not {key}", fix)
    found = []
    for key, entry in entries.items():
        here = (*where, "items", str(key))
        if isinstance(entry, dict) and entry.get("exclude") is True:
            draft.warn(
                "RUN004",
                (*here, "exclude"),
                "exclude drops an item that a Run:ai policy would add; no policy is here, so it is left out",
                "remove the item",
            )
        elif isinstance(entry, dict) and set(entry) - {"exclude"} == {"value"}:
            found.append(Item(str(key), entry["value"], (*here, "value")))
        else:
            draft.refuse("SPEC002", here, f"{key} is {_shown(entry)}, but should be {{value: …}} and no more", fix)
    return found


def _renamed(draft: Draft, item: Item, names: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return an item's value with native names, nested where the native document nests."""
    if not isinstance(item.value, dict):
        draft.refuse(
            "SPEC002",
            item.where,
            f"{item.key} is {_shown(item.value)}, but should be a mapping",
            f"write {{{', '.join(names)}}}, as far as needed",
        )
        return {}
    row: dict[str, Any] = {}
    for name, value in item.value.items():
        path = names.get(name) if isinstance(name, str) else None
        if path is None:
            draft.refuse(
                "SPEC001",
                (*item.where, str(name)),
                f"there is no field {name} here",
                _did_you_mean(str(name), names),
            )
        elif value is not None:
            place = row
            for part in path[:-1]:
                place = place.setdefault(part, {})
            place[path[-1]] = value
    return row


# What is read together, once every field is known.


def _complained(draft: Draft, *where: str) -> bool:
    return any(problem.severity == ERROR and problem.field[: len(where)] == where for problem in draft.problems)


def _named(draft: Draft) -> None:
    name, of_object = draft.given.get("name"), draft.given.get("metadata.name")
    if name is None and not _complained(draft, "spec", "name") and not _complained(draft, "spec", "namePrefix"):
        shown = of_object if isinstance(of_object, str) else "chat"
        draft.refuse(
            "SPEC003",
            ("spec", "name"),
            "the workload has no name; metadata.name is only the resource's own",
            f"set spec.name: {{value: {_cut(shown)}}}",
        )
    elif name is not None and of_object is not None and of_object != name:
        draft.warn(
            "CRD001",
            ("metadata", "name"),
            f"metadata.name {_shown(of_object)} means nothing to Run:ai; the workload is {_shown(name)}",
            "make both the same",
        )


def _port_given(draft: Draft) -> None:
    if _at(draft.native, ("spec", "servingPort", "container")) is None and not _complained(draft, "spec", "ports"):
        draft.refuse(
            "CRD008",
            ("spec", "ports"),
            "an inference workload needs the port that its server listens on",
            "set ports: {items: {http: {value: {container: 8000}}}}",
        )


def _metric(draft: Draft) -> None:
    name, asked = draft.given.get("metricName"), draft.given.get("metric")
    if name is None:
        return
    if asked is not None and asked != "custom":
        draft.warn(
            "CRD006",
            ("spec", "metric", "value"),
            f"metricName overrides metric, so {_shown(asked)} changes nothing",
            "set metric: {value: custom}, or remove metricName",
        )
    draft.put((*AUTO, "metric"), "custom", ("spec", "metricName", "value"))


def _autoscaler_class(draft: Draft) -> None:
    asked = draft.given.get("class")
    if asked is None:
        return
    metric = _at(draft.native, (*AUTO, "metric"))
    row = metrics.find(metric) if isinstance(metric, str) else None
    own = CLASSES["kpa" if metric is None else row.autoscaler if row is not None else "hpa"]
    if asked != own:
        draft.refuse(
            "CRD003",
            ("spec", "class", "value"),
            f"class {_shown(asked)} does not go with metric {_shown(metric)}, which {own} carries out",
            f"remove class, or set it to {own}",
        )


def _run_as(draft: Draft) -> None:
    """``runAsUser`` takes the ids given, or the submitting user's own, whom nobody here knows."""
    asked = draft.given.get("runAsUser")
    ids = [name for name in ("runAsUid", "runAsGid") if name in draft.given]
    where = ("spec", "runAsUser", "value")
    if asked is not None and not isinstance(asked, bool):
        draft.refuse("SPEC002", where, f"{_shown(asked)} is neither true nor false", "write true or false")
    elif asked and "runAsUid" not in ids:
        draft.refuse(
            "SEC004",
            where,
            "runAsUser without runAsUid means whoever submits, and no directory here says who that is",
            "set runAsUid and runAsGid",
        )
    elif not asked:
        for name in ids:
            draft.warn(
                "CRD007",
                ("spec", name, "value"),
                f"Run:ai heeds {name} only with runAsUser: true; here it counts without",
                "set runAsUser: {value: true} so that both agree, or remove it",
            )


def _one_pool(draft: Draft) -> None:
    pool = draft.given.get("nodePool")
    where = ("spec", "nodePool", "value")
    if pool is None:
        return
    if draft.native["spec"].get("nodePools"):
        draft.refuse("CRD005", where, "nodePool and nodePools both name node pools", "keep nodePools")
        return
    draft.warn("CRD005", where, "nodePool is deprecated; it is read as nodePools", "use nodePools: {value: …}")
    draft.add(("spec", "nodePools"), pool, where)


TOGETHER: Final = (_named, _port_given, _metric, _autoscaler_class, _run_as, _one_pool)


def _unknown(name: str, where: Path) -> Problem:
    hint = f"use {HABITS[name]}" if name in HABITS else _did_you_mean(name, FIELDS)
    return Problem("SPEC001", where, f"{_cut(name)} is not a field of {KIND}", hint)


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

    lowered = {text.lower(): text for text in known}
    close = get_close_matches(name.lower().replace("_", "").replace("-", ""), [*lowered], 1, 0.7)
    return f"did you mean {lowered[close[0]]}?" if close else f"remove it; here stand {', '.join(known)}"


def _at(place: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        place = place.get(part) if isinstance(place, dict) else None
    return place


def _nano(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    return quantities.nano(text) if len(text) <= LONGEST_QUANTITY else None


def _number(value: Any) -> float | None:
    """Return a plain number without sign, unit or exponent, or None."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    return float(text) if NUMBER.fullmatch(text) else None


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004 - a line's worth
