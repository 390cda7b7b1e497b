"""Reader of Run:ai's NIM service, ``{metadata: {name, projectId}, spec}``, as the NIM image that the service runs.

Upstream: runai-professional-services/runapy, schema NimServiceCreateRequest (2.24); NVIDIA's API reference of 2.23, whose
metadata also has the priority and the category; NVIDIA/k8s-nim-operator
api/apps/v1alpha1/nimservice_types.go (NGC_API_KEY from the auth secret, the readiness probe at /v1/health/ready); NVIDIA's
documentation of NIM for LLMs (port 8000, the cache at /opt/nim/.cache).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Path, make_warning
from ebbtide.core.readers import rest
from ebbtide.core.readers.reading import Reader, make_document
from ebbtide.core.readers.table import DISTRIBUTED, Draft, FieldRow, RefusedValueError, apply_row, set_at
from ebbtide.core.translation.loaded_model import name_of_image
from ebbtide.core.translation.model_catalog import estimate_start, find_image_model
from ebbtide.core.translation.serving.timeouts import DEFAULT_DEADLINE_SECONDS

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

#: The NIM's port, the directory of its cache, the path of its readiness probe, and the key of the secret.
PORT: Final = 8000
CACHE: Final = "/opt/nim/.cache"
READY: Final = "/v1/health/ready"
KEY: Final = "NGC_API_KEY"
SPEC: Final = ("spec",)
#: The refusal of a NIMCache: code, message and fix.
NIM_CACHE: Final = (
    "RUN047",
    "a NIMCache is created by NVIDIA's NIM operator, which Ebbtide does not use",
    "remove it, and use the claim of the cache: modelStore.pvc with existingPvc and its claimName, or --model-existing-pvc",
)


def take_replicas(draft: Draft, row: FieldRow, count: Any, where: Path) -> None:  # noqa: ARG001 - the signature of every handler
    """Set equal bounds, unless the service is autoscaled, as in Run:ai."""
    if count == 0:
        fix = "set replicas to 1, or leave the service out"
        draft.add_error("RUN068", where, "a NIM service with 0 replicas is stopped", fix)
    elif "autoscaling" in draft.spec:
        draft.add_warning("AUT021", where, "replicas has no effect: the service is autoscaled", "remove replicas")
    else:
        for bound in ("minReplicas", "maxReplicas"):
            draft.set_field(("spec", "autoscaling", bound), count, where)


def take_secret(draft: Draft, row: FieldRow, name: Any, where: Path) -> None:
    # If it is not a list, validation rejects it.
    if isinstance(draft.spec.setdefault("environmentVariables", []), list):
        draft.append_item(row.native, {"name": KEY, "secret": {"name": name, "key": KEY}}, where)


def _take_model_store(draft: Draft, row: FieldRow, store: Any, where: Path) -> None:
    if not isinstance(store, dict):
        draft.add_error("SPEC002", where, "modelStore must be a mapping", "set pvc in it")
        return
    _report_strays(draft, where, store, ("nimCache", "pvc"))
    if "nimCache" in store:
        draft.add_error(NIM_CACHE[0], (*where, "nimCache"), *NIM_CACHE[1:])
    if "pvc" in store:
        claim = store["pvc"]
        # If it is not a mapping, validation rejects it.
        item = {**claim, "path": CACHE} if isinstance(claim, dict) else claim
        draft.append_item(row.native, item, (*where, "pvc"))


def take_workers(draft: Draft, row: FieldRow, block: Any, where: Path) -> None:  # noqa: ARG001 - the signature of every handler
    workers = block
    if isinstance(block, dict):
        _report_strays(draft, where, block, ("workers",))
        workers = block.get("workers")
    if workers:
        draft.add_error(DISTRIBUTED[0], where, *DISTRIBUTED[1:])


def take_port(draft: Draft, row: FieldRow, port: Any, where: Path) -> None:  # noqa: ARG001 - the signature of every handler
    if not isinstance(port, dict):
        draft.add_error("SPEC002", where, "servingPort must be a mapping", "set port in it")
        return
    _report_strays(draft, where, port, PORT_FIELDS)
    for name, value in port.items():
        if name in PORT_FIELDS:
            apply_row(draft, PORT_FIELDS[name], value, (*where, name))


def _take_url(draft: Draft, row: FieldRow, url: Any, where: Path) -> None:
    if url:
        draft.append_item(row.native, {"url": url}, where)


def _hide(value: Any) -> bool | None:
    """Return true for a port that is not exposed."""
    if not isinstance(value, bool):
        raise RefusedValueError("SPEC002", "exposeExternally must be true or false", "write true or false")
    return None if value else True


def _report_strays(draft: Draft, where: Path, block: Iterable[str], known: Iterable[str]) -> None:
    for name in block:
        if name not in known:
            message = f"unknown field {name} of Run:ai's NIM service"
            draft.add_error("SPEC001", (*where, name), message, f"use one of {', '.join(sorted(known))}")


def _take_service_type(draft: Draft, row: FieldRow, kind: Any, where: Path) -> None:  # noqa: ARG001 - the signature of every handler
    if kind != "ClusterIP":
        message = f"Knative's gateway exposes the service, not a Service of type {kind}"
        draft.add_error("RUN068", where, message, "remove it")


PORT_FIELDS: Final = {
    row.name: row
    for row in (
        FieldRow("port", "spec.servingPort.container"),
        FieldRow("exposedProtocol", "spec.servingPort.protocol"),
        FieldRow("exposeExternally", "spec.servingPort.clusterLocalAccessOnly", read=_hide),
        FieldRow("exposedUrl", "spec.exposedUrls", take=_take_url),
        FieldRow("serviceType", take=_take_service_type),
        FieldRow.refused(
            "grpcPort",
            "RUN068",
            "a Knative revision serves one port, and the NIM has another one for gRPC",
            "remove grpcPort, or set port to it and exposedProtocol: grpc",
        ),
        FieldRow(
            "metricsPort",
            refusal=make_warning(
                "RUN068",
                (),
                "a separate port for metrics is not served: a NIM has its metrics on the serving port too",
                "remove metricsPort",
            ),
        ),
    )
}
# fmt: off
#: Fields with the name and the format of the native field.
SAME: Final = (
    "annotations", "autoscaling", "category", "compute", "environmentVariables", "image", "imagePullPolicy",
    "imagePullSecrets", "labels", "nodePools", "preemptibility", "priorityClass", "probes", "security",
    "tolerations",
)
# fmt: on
#: The rows in the order in which they are read: the bounds of the replicas depend on the autoscaling.
FIELDS: Final = {
    row.name: row
    for row in (
        *(FieldRow(name, f"spec.{name}", read=lambda value: value) for name in SAME),
        FieldRow("replicas", "spec.autoscaling", take=take_replicas),
        FieldRow("ngcAuthSecret", "spec.environmentVariables", take=take_secret),
        FieldRow("modelStore", "spec.storage.pvc", take=_take_model_store),
        FieldRow("multiNode", take=take_workers),
        FieldRow("servingPort", "spec.servingPort", take=take_port, also=("spec.exposedUrls",)),
    )
}
METADATA: Final = {
    row.name: row
    for row in (
        FieldRow("priority", "spec.priorityClass"),
        FieldRow("category", "spec.category"),
        # The suffix of the name is a hash of the spec, which the rows above are part of.
        *(rest.FIELDS[name] for name in ("name", "useGivenNameAsPrefix", "projectId", "clusterId", "templateId")),
    )
}
TOP: Final = ("metadata", "spec")
#: Fields that only a NIM service has.
ONLY: Final = ("ngcAuthSecret", "modelStore", "multiNode")


def recognize(data: dict[str, Any]) -> bool:
    """Return whether ``data`` is the body of a NIM service: without apiVersion and kind, with the name in its metadata."""
    spec = data.get("spec")
    return (
        "apiVersion" not in data
        and "kind" not in data
        and isinstance(spec, dict)
        and ("metadata" in data or any(name in spec for name in ONLY))
    )


def read(data: dict[str, Any], profile: Profile) -> Draft:
    """Return the service in native form: its image, the NGC key from the secret, and the claim at the NIM's cache."""
    strays: dict[str, Any] = {name: value for name, value in data.items() if name not in TOP}
    above: Path = ("metadata",)
    if "metadata" in data:
        metadata = data["metadata"] if isinstance(data["metadata"], dict) else {}
    else:
        # A REST body has the metadata at its top.
        above, metadata, strays = (), strays, {}
    draft = Draft(make_document(metadata.get("name"), {}), cluster=profile.spec)
    draft.origins = {("metadata",): above, ("spec", "project"): (*above, "projectId")}
    rest.drop_answered(draft, {**metadata, **strays}, data, above)
    metadata, strays = (
        {name: value for name, value in block.items() if name not in rest.ANSWERED} for block in (metadata, strays)
    )
    spec = rest.drop_nulls(data["spec"])
    _report_strays(draft, (), strays, TOP)
    _report_strays(draft, above, metadata, METADATA)
    _report_strays(draft, SPEC, spec, FIELDS)
    for name, row in FIELDS.items():
        if name in spec:
            apply_row(draft, row, spec[name], (*SPEC, name))
    _set_window(draft)
    set_defaults(draft)
    for name, row in METADATA.items():
        if metadata.get(name) is not None:
            apply_row(draft, row, metadata[name], (*above, name))
    for name in ("name", "projectId"):
        if metadata.get(name) is None:
            message = f"the request has no {'project' if name == 'projectId' else 'name'}"
            draft.add_error("SPEC003", (*above, name), message, f"set {name}")
    return draft


def _set_window(draft: Draft) -> None:
    auto = draft.spec.get("autoscaling")
    if isinstance(auto, dict) and "scaleWindowSeconds" in auto:
        draft.spec["autoscaling"] = {key: item for key, item in auto.items() if key != "scaleWindowSeconds"}
        path, window = (*SPEC, "autoscaling"), auto["scaleWindowSeconds"]
        draft.set_field((*path, "stableWindowSeconds"), window, (*path, "scaleWindowSeconds"))


def set_defaults(draft: Draft) -> None:
    """Set the port and the readiness probe of a NIM, unless the service sets them, and the time to load a large model.

    The service has no field for that time: NVIDIA's operator creates a Deployment, which does not fail for good.
    """
    spec = draft.spec
    image = spec.get("image")
    model = find_image_model(name_of_image(image)) if isinstance(image, str) else None
    if model is not None and (seconds := estimate_start(model.weights)) > DEFAULT_DEADLINE_SECONDS:
        set_at(draft.native, ("spec", "servingConfiguration", "initializationTimeoutSeconds"), seconds)
    spec.setdefault("servingPort", {}).setdefault("container", PORT)
    if "probes" not in spec:
        set_at(draft.native, ("spec", "probes", "readiness", "handler", "httpGet"), {"path": READY})


#: The blocks of a native spec that the fields of a NIM service write.
WRITTEN: Final = (*SAME, "servingPort", "exposedUrls", "storage")


def write_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a native spec as the spec of a NIM service, without the fields that a NIM service does not have."""
    written: dict[str, Any] = {name: spec[name] for name in SAME if name in spec}
    written |= _write_replicas(written.pop("autoscaling", {}))
    port = spec.get("servingPort", {})
    shown = {
        "port": port.get("container"),
        "exposedProtocol": port.get("protocol"),
        "serviceType": "ClusterIP",
        "exposeExternally": not port.get("clusterLocalAccessOnly"),
        "exposedUrl": next((row.get("url") for row in spec.get("exposedUrls", ())), None),
    }
    written["servingPort"] = rest.drop_nulls(shown)
    variables = written.pop("environmentVariables", [])
    secret = next((row["secret"] for row in variables if row.get("name") == KEY and row.get("secret")), None)
    if secret is not None:
        written["ngcAuthSecret"] = secret["name"]
        variables = [row for row in variables if row.get("name") != KEY]
    if variables:
        written["environmentVariables"] = variables
    claim = next((row for row in spec.get("storage", {}).get("pvc", ()) if row.get("path") == CACHE), None)
    if claim is not None:
        written["modelStore"] = {"pvc": {name: value for name, value in claim.items() if name != "path"}}
    return written


def _write_replicas(auto: dict[str, Any]) -> dict[str, Any]:
    """Return equal bounds as a number of replicas, and others as autoscaling."""
    low = auto.get("minReplicas", 1)
    if auto.get("maxReplicas", low) == low:
        return {"replicas": low}
    known = {name: auto[name] for name in ("minReplicas", "maxReplicas", "metric", "metricThreshold") if name in auto}
    window = {"scaleWindowSeconds": auto["stableWindowSeconds"]} if "stableWindowSeconds" in auto else {}
    return {"autoscaling": known | window}


def update_spec(native: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a NIM service after an update, which replaces whole fields; null removes one."""
    spec = {**write_spec(native["spec"]), **changes}
    # A number of replicas replaces the autoscaling, and the other way around.
    for name, other in (("replicas", "autoscaling"), ("autoscaling", "replicas")):
        if changes.get(name) is not None and other not in changes:
            spec.pop(other, None)
    metadata = {
        "name": native["metadata"]["name"],
        "projectId": native["spec"].get("project") or native["metadata"].get("namespace"),
    }
    return {"metadata": metadata, "spec": rest.drop_nulls(spec)}


READER: Final = Reader(recognize, read)
