"""The derivation of a spec's pod fields: variables, probes, GPUs, labels, placement, volumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt.view import ObjectView, filter_mappings, filter_strings
from ebbtide.core.base import keys
from ebbtide.core.base.names import WEIGHTS_PATH, WEIGHTS_VOLUME, name_volume
from ebbtide.core.base.paths import get_at
from ebbtide.core.spec.rules.naming import ALLOWED_KEY, LABEL_KEY, LABEL_VALUE, is_reserved_key
from ebbtide.core.translation.gpu import BACKENDS, read_request
from ebbtide.core.translation.gpu.backend import GpuFields, GpuPod
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.objects import to_camel
from ebbtide.core.translation.start import WAITER
from ebbtide.core.translation.storage import KINDS, SHM

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool, ProfileSpec
    from ebbtide.core.readers.table import Draft


PROBES: Final = (("readiness", "readinessProbe"), ("liveness", "livenessProbe"), ("startup", "startupProbe"))
TIMINGS: Final = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold")
#: A variable's source in a pod, its field in the spec, and the pairs of fields inside them.
SOURCES: Final = (
    ("secretKeyRef", "secret", (("name", "name"), ("key", "key"))),
    ("configMapKeyRef", "configMap", (("name", "name"), ("key", "key"))),
    ("fieldRef", "podFieldRef", (("fieldPath", "path"),)),
)
#: Pod labels and annotations that Ebbtide renders from other fields of the spec.
RENDERED_KEYS: Final = {keys.APP_NAME, keys.PRIORITY_LABEL, keys.KAI_QUEUE, keys.KUEUE_QUEUE, keys.KAI_PREEMPTIBILITY}
REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def list_settable_entries(items: dict[str, str], *, labels: bool, defaults: str | None) -> list[tuple[str, str]]:
    """Return the entries that a spec may set: those with a valid key that is not reserved for a controller."""
    return [
        (key, value)
        for key, value in items.items()
        if LABEL_KEY.fullmatch(key)
        and (not is_reserved_key(key, defaults) or ("label" if labels else "annotation", key) == ALLOWED_KEY)
        and (not labels or LABEL_VALUE.fullmatch(value))
    ]


def derive_environment(view: ObjectView, draft: Draft) -> None:
    """Derive the variables with a value or with a source that a spec supports."""
    path = (*(view.container or ()), "env")
    items = view.value_at(view.container, "env")
    variables: list[dict[str, Any]] = []
    for index, item in enumerate(items if isinstance(items, list) else ()):
        variable = _convert_variable(item)
        if variable is not None:
            draft.origins["spec", "environmentVariables", len(variables)] = (*path, index)
            variables.append(variable)
    draft.set_nonempty("spec.environmentVariables", variables, path)


def _convert_variable(item: Any) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        return None
    source = item.get("valueFrom")
    if source is None:
        return {"name": item.get("name"), "value": item.get("value", "")}
    for kind, field, fields in SOURCES:
        inner = get_at(source, kind)
        if isinstance(inner, dict) and inner.keys() == {name for name, _ in fields}:
            return {"name": item.get("name"), field: {spec_name: inner[name] for name, spec_name in fields}}
    return None


def derive_probes(view: ObjectView, draft: Draft) -> None:
    """Derive the HTTP, TCP and gRPC probes. A spec does not support exec probes."""
    # Without Ebbtide's defaults, a probe's port is rendered only if the spec sets it.
    port = view.value_at(view.container, "ports", 0, "containerPort") if "defaults" not in draft.spec else None
    for kind, name in PROBES:
        probe = view.value_at(view.container, name)
        handler = _convert_handler(probe, port)
        if handler:
            timing = {field: probe[field] for field in TIMINGS if field in probe}
            draft.set_nonempty(f"spec.probes.{kind}", {"handler": handler, **timing}, (*(view.container or ()), name))


def _convert_handler(probe: Any, port: Any) -> dict[str, Any]:
    for kind in ("httpGet", "tcpSocket", "grpc"):
        settings = get_at(probe, kind)
        if isinstance(settings, dict):
            names = ("path", "port", "host", "scheme", "service")
            fields = {
                name: settings[name] for name in names if name in settings and (name, settings[name]) != ("port", port)
            }
            return {kind: fields}
    return {}


def read_gpu_fields(view: ObjectView, pool: NodePool) -> GpuFields | None:
    """Return the pod's GPU request, as the backend of ``pool`` or another one reads it."""
    pod = GpuPod(
        filter_strings(view.value_at(view.container, "resources", "limits")),
        view.read_annotations(),
        filter_strings(view.value_at(view.pod, "nodeSelector")),
        SERVING_MODES[view.serving].container,
    )
    return read_request(pod, pool)


def derive_compute(view: ObjectView, draft: Draft, shared: GpuFields | None) -> None:
    """Derive GPUs and extended resources."""
    path = (*(view.container or ()), "resources", "limits")
    for name, value in (shared.compute if shared is not None else {}).items():
        draft.set_nonempty(f"spec.compute.{name}", value, path)
    used = shared.limits if shared is not None else frozenset()
    extended = [
        {"resource": name, "quantity": amount}
        for name, amount in filter_strings(view.value_at(view.container, "resources", "limits")).items()
        if "/" in name and name not in used and amount.isdecimal()
    ]
    draft.set_nonempty("spec.compute.extendedResources", extended, path)


def derive_pod_metadata(view: ObjectView, draft: Draft, shared: GpuFields | None) -> None:
    """Derive the pods' labels and annotations that no other field of the spec renders."""
    used = RENDERED_KEYS | (shared.annotations if shared is not None else set())
    for part in ("labels", "annotations"):
        path = (*view.pod_metadata, part)
        entries = [
            (name, value)
            for name, value in list_settable_entries(
                filter_strings(get_at(view.obj, *path)), labels=part == "labels", defaults=draft.spec.get("defaults")
            )
            if name not in used - ({keys.APP_NAME} if "defaults" in draft.spec else set())
            # A metric of the HPA class renders that class.
            and (name != keys.CLASS or value == keys.CLASS_KPA)
        ]
        draft.set_nonempty(f"spec.{part}", [{"name": name, "value": value} for name, value in entries], path)
        for index, (name, _) in enumerate(entries):
            draft.origins["spec", part, index] = (*path, name)


def list_candidate_pools(view: ObjectView, cluster: ProfileSpec) -> Iterator[tuple[str, ...]]:
    """Yield the node pools that an object may use: each one that its nodeSelector selects, the default one, several in order."""
    selector = filter_strings(view.value_at(view.pod, "nodeSelector"))
    matching = [pool for pool in cluster.node_pools if pool.selector.items() <= selector.items()]
    yield from ((pool.name,) for pool in matching if pool.selector)
    yield ()
    yield from ((pool.name,) for pool in matching if not pool.selector)
    by_expressions = {json.dumps(_make_expressions(pool)): pool.name for pool in cluster.node_pools if pool.selector}
    pools = [
        by_expressions.get(json.dumps(get_at(preference, "preference", "matchExpressions"), default=str), "")
        for preference in filter_mappings(view.value_at(view.pod, "affinity", "nodeAffinity", PREFERRED))
    ]
    if len(pools) > 1 and all(pools):
        yield tuple(pools)


def _make_expressions(pool: NodePool) -> list[dict[str, Any]]:
    return [{"key": key, "operator": "In", "values": [value]} for key, value in pool.selector.items()]


def derive_placement(view: ObjectView, draft: Draft, pools: tuple[NodePool, ...]) -> None:
    """Derive node type, affinity and tolerations, without those that the node pools add."""
    selector = filter_strings(view.value_at(view.pod, "nodeSelector"))
    for pool in pools:
        by_backend = {keys.GPU_PRODUCT} if BACKENDS[pool.backend].partitioned else set()
        selector = {key: value for key, value in selector.items() if key not in pool.selector and key not in by_backend}
    path = (*view.pod, "nodeSelector")
    draft.set_nonempty("spec.nodeType", selector.pop(keys.NODE_TYPE, None), (*path, keys.NODE_TYPE))
    draft.set_nonempty("spec.nodeSelector", selector, path)
    affinity = (*view.pod, "affinity")
    terms = _find_spec_terms(view, pools)
    if terms:
        path = (*affinity, "nodeAffinity", REQUIRED)
        draft.set_nonempty("spec.nodeAffinityRequired", {"nodeSelectorTerms": terms}, path)
    for field in ("podAffinity", "podAntiAffinity"):
        rule = _convert_pod_affinity(view.value_at(affinity, field), view.name)
        draft.set_nonempty(f"spec.{field}", rule, (*affinity, field))
    of_workload = {"matchLabels": {keys.APP_NAME: view.name}}
    path = (*view.pod, "topologySpreadConstraints")
    constraints = [
        {name: value for name, value in item.items() if (name, value) != ("labelSelector", of_workload)}
        for item in filter_mappings(get_at(view.obj, *path))
    ]
    draft.set_nonempty("spec.topologySpreadConstraints", constraints, path)
    tolerations = filter_mappings(view.value_at(view.pod, "tolerations"))
    of_pools = [{"operator": "Equal", **toleration} for pool in pools for toleration in pool.tolerations]
    while tolerations and tolerations[-1] in of_pools:
        of_pools.remove(tolerations.pop())
    draft.set_nonempty("spec.tolerations", list(map(_convert_toleration, tolerations)), (*view.pod, "tolerations"))


def _find_spec_terms(view: ObjectView, pools: tuple[NodePool, ...]) -> list[dict[str, Any]]:
    """Return the node affinity terms of the spec itself, without the conditions of several node pools."""
    terms = view.value_at(view.pod, "affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms")
    selecting = [pool for pool in pools if pool.selector]
    of_first_pool = _make_expressions(selecting[0]) if len(pools) > 1 and selecting else []
    result = []
    for term in filter_mappings(terms):
        conditions = term.get("matchExpressions")
        if (
            isinstance(conditions, list)
            and conditions[: len(of_first_pool)] == of_first_pool
            and conditions[len(of_first_pool) :]
        ):
            result.append({"matchExpressions": conditions[len(of_first_pool) :]})
    return result


def _convert_pod_affinity(rule: Any, name: str) -> dict[str, Any] | None:
    for kind, path in (("Required", (REQUIRED, 0)), ("Preferred", (PREFERRED, 0, "podAffinityTerm"))):
        term = get_at(rule, *path)
        if get_at(term, "labelSelector", "matchLabels", keys.APP_NAME) == name and name:
            return {"type": kind, "key": get_at(term, "topologyKey")}
    return None


def _convert_toleration(toleration: dict[str, Any]) -> dict[str, Any]:
    converted = {name: toleration[name] for name in ("key", "operator", "value", "effect") if name in toleration}
    return converted | ({"seconds": toleration["tolerationSeconds"]} if "tolerationSeconds" in toleration else {})


def derive_volumes(view: ObjectView, draft: Draft) -> None:
    """Derive the volumes with exactly one mount, in the order of the pod's list."""
    mounts = filter_mappings(view.value_at(view.container, "volumeMounts"))
    items = view.value_at(view.pod, "volumes")
    for index, volume in enumerate(items if isinstance(items, list) else ()):
        if _find_waiter(view) is not None and get_at(volume, "name") == WEIGHTS_VOLUME:
            continue
        mounted = [mount for mount in mounts if mount.get("name") == get_at(volume, "name")]
        if not isinstance(volume, dict) or len(mounted) != 1:
            continue
        path, memory = (*view.pod, "volumes", index), get_at(volume, "emptyDir")
        if (
            volume.get("name") == "shm"
            and get_at(memory, "medium") == "Memory"
            and mounted[0] == {"name": "shm", "mountPath": SHM}
        ):
            size = memory.get("sizeLimit")
            draft.set_nonempty("spec.compute.shmSize", size, path)
            draft.set_nonempty("spec.compute.largeShmRequest", True if size is None else None, path)
            continue
        for kind, field, fields in VOLUMES:
            if isinstance(volume.get(kind), dict):
                sources = {"volume": volume[kind], "mount": mounted[0]}
                # The pod does not show whether the claim was created for this service. In any case it exists already.
                entry: dict[str, Any] = {"existingPvc": True} if field == "pvc" else {}
                for name, source in fields.items():
                    value = get_at(sources, *source.split("."))
                    if (value := READ[name](value) if name in READ else value) is not None:
                        entry[name] = value
                number = len(draft.spec.get("storage", {}).get(field, ())) + 1
                if volume["name"] != name_volume(PREFIXES[field], number):
                    entry["name"] = volume["name"]
                draft.append_item(("spec", "storage", field), entry, path)


def _find_waiter(view: ObjectView) -> dict[str, Any] | None:
    """Return the init container that waits for a copy of the weights, None if the pod has none."""
    items = filter_mappings(view.value_at(view.pod, "initContainers"))
    return next((item for item in items if item.get("name") == WAITER), None)


def drop_waiter(items: Any) -> Any:
    """Return init containers without the one that ``start.weights`` renders."""
    return [item for item in items if get_at(item, "name") != WAITER] if isinstance(items, list) else items


def derive_weights(view: ObjectView, draft: Draft) -> None:
    """Derive the copy of the weights from the init container that waits for it. Its claim exists already."""
    waiter = _find_waiter(view)
    if waiter is None:
        return
    where, model = (*view.pod, "initContainers"), view.model or view.language_model
    uri = next((item.get("value") for item in filter_mappings(waiter.get("env")) if item.get("name") == "URI"), None)
    volumes = filter_mappings(view.value_at(view.pod, "volumes"))
    volume = next((item for item in volumes if item.get("name") == WEIGHTS_VOLUME), {})
    mounts = filter_mappings(view.value_at(view.container, "volumeMounts"))
    path = next((item.get("mountPath") for item in mounts if item.get("name") == WEIGHTS_VOLUME), None)
    draft.set_nonempty("spec.model.uri" if model else "spec.start.weights.uri", uri, where)
    draft.set_nonempty("spec.start.weights.claimName", get_at(volume, "persistentVolumeClaim", "claimName"), where)
    draft.set_nonempty("spec.start.weights.mountPath", None if path == WEIGHTS_PATH else path, where)
    draft.set_nonempty("spec.start.weights.existingPvc", True, where)


def _format_mode(value: Any) -> str | None:
    return f"0{value:03o}" if isinstance(value, int) and 0 <= value <= 0o777 else None  # noqa: PLR2004 - rwxrwxrwx


#: Conversions of fields whose format differs in a pod.
READ: Final[dict[str, Callable[[Any], Any]]] = {
    "defaultMode": _format_mode,
    "readOnly": lambda value: value is True or None,
}
MOUNTED: Final = "mount.mountPath"
MODE: Final = "volume.defaultMode"
#: The prefix of the generated names of each list's volumes.
PREFIXES: Final = {
    **{to_camel(kind.attribute): kind.prefix for kind in KINDS},
    "pvc": "claim",
    **dict.fromkeys(("hostPath", "nfs"), ""),
}
#: A kind of volume in a pod, the spec's list of such volumes, and the path of each field of an entry.
VOLUMES: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    (
        "configMap",
        "configMapVolume",
        {"configMap": "volume.name", "mountPath": MOUNTED, "subPath": "mount.subPath", "defaultMode": MODE},
    ),
    ("secret", "secretVolume", {"secret": "volume.secretName", "mountPath": MOUNTED, "defaultMode": MODE}),
    ("emptyDir", "emptyDirVolume", {"path": MOUNTED, "medium": "volume.medium", "sizeLimit": "volume.sizeLimit"}),
    ("persistentVolumeClaim", "pvc", {"claimName": "volume.claimName", "path": MOUNTED, "readOnly": "volume.readOnly"}),
    ("image", "imageVolume", {"image": "volume.reference", "mountPath": MOUNTED, "pullPolicy": "volume.pullPolicy"}),
    (
        "csi",
        "csiVolume",
        {
            "driver": "volume.driver",
            "mountPath": MOUNTED,
            "fsType": "volume.fsType",
            "volumeAttributes": "volume.volumeAttributes",
            "nodePublishSecret": "volume.nodePublishSecretRef.name",
        },
    ),
    ("hostPath", "hostPath", {"path": "volume.path", "mountPath": MOUNTED}),
    ("nfs", "nfs", {"server": "volume.server", "path": "volume.path", "mountPath": MOUNTED}),
)
