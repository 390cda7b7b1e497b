"""The derivation of a spec's pod fields: variables, probes, GPUs, labels, placement, volumes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ebbtide.adopt.view import mappings, texts
from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE, RESERVED_KEYS
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.gpu.backend import GpuPod
from ebbtide.translation.storage import SHM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.adopt.view import ObjectView
    from ebbtide.profile.models import NodePool, ProfileSpec
    from ebbtide.readers.table import Draft
    from ebbtide.translation.gpu.backend import GpuFields


PROBES: Final = (("readiness", "readinessProbe"), ("liveness", "livenessProbe"), ("startup", "startupProbe"))
TIMINGS: Final = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold")
#: A variable's source in a pod, its field in the spec, and the pairs of fields inside them.
SOURCES: Final = (
    ("secretKeyRef", "secret", (("name", "name"), ("key", "key"))),
    ("configMapKeyRef", "configMap", (("name", "name"), ("key", "key"))),
    ("fieldRef", "podFieldRef", (("fieldPath", "path"),)),
)
#: Pod labels and annotations that Ebbtide renders from other fields of the spec.
FOLLOWS: Final = {keys.APP_NAME, keys.PRIORITY_LABEL, keys.KAI_QUEUE, keys.KAI_PREEMPTIBILITY}
REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def lawful(items: dict[str, str], *, labels: bool) -> list[tuple[str, str]]:
    """Return the entries that a spec may set: those with a valid key that is not reserved for a controller."""
    return [
        (key, value)
        for key, value in items.items()
        if LABEL_KEY.fullmatch(key)
        and not key.startswith(RESERVED_KEYS)
        and (not labels or LABEL_VALUE.fullmatch(value))
    ]


def find_environment(view: ObjectView, draft: Draft) -> None:
    """Derive the variables with a value or with a source that a spec supports."""
    where = (*(view.container or ()), "env")
    listed = view.part(view.container, "env")
    found: list[dict[str, Any]] = []
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        variable = _variable(item)
        if variable is not None:
            draft.origins["spec", "environmentVariables", len(found)] = (*where, index)
            found.append(variable)
    draft.keep("spec.environmentVariables", found, where)


def _variable(item: Any) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        return None
    source = item.get("valueFrom")
    if source is None:
        return {"name": item.get("name"), "value": item.get("value", "")}
    for kind, word, fields in SOURCES:
        inner = at(source, kind)
        if isinstance(inner, dict) and inner.keys() == {name for name, _ in fields}:
            return {"name": item.get("name"), word: {own: inner[name] for name, own in fields}}
    return None


def find_probes(view: ObjectView, draft: Draft) -> None:
    """Derive the HTTP, TCP and gRPC probes. A spec does not support exec probes."""
    port = view.part(view.container, "ports", 0, "containerPort")
    for word, name in PROBES:
        given = view.part(view.container, name)
        handler = _handler(given, port)
        if handler:
            timing = {field: given[field] for field in TIMINGS if field in given}
            draft.keep(f"spec.probes.{word}", {"handler": handler, **timing}, (*(view.container or ()), name))


def _handler(probe: Any, port: Any) -> dict[str, Any]:
    for kind in ("httpGet", "tcpSocket", "grpc"):
        given = at(probe, kind)
        if isinstance(given, dict):
            words = ("path", "port", "host", "scheme", "service")
            said = {word: given[word] for word in words if word in given and (word, given[word]) != ("port", port)}
            return {kind: said}
    return {}


def find_gpus(view: ObjectView, pool: NodePool) -> GpuFields | None:
    """Return the pod's GPU request, read by the backend of ``pool``."""
    pod = GpuPod(
        texts(view.part(view.container, "resources", "limits")),
        view.annotations(),
        texts(view.part(view.pod, "nodeSelector")),
        "user-container" if view.serving == "knative" else "kserve-container",
    )
    return BACKENDS[pool.backend].read(pool, pod)


def find_compute(view: ObjectView, draft: Draft, shared: GpuFields | None) -> None:
    """Derive GPUs and extended resources."""
    where = (*(view.container or ()), "resources", "limits")
    for name, value in (shared.compute if shared is not None else {}).items():
        draft.keep(f"spec.compute.{name}", value, where)
    used = shared.limits if shared is not None else frozenset()
    extended = [
        {"resource": name, "quantity": amount}
        for name, amount in texts(view.part(view.container, "resources", "limits")).items()
        if "/" in name and name not in used and amount.isdecimal()
    ]
    draft.keep("spec.compute.extendedResources", extended, where)


def find_pod_metadata(view: ObjectView, draft: Draft, shared: GpuFields | None) -> None:
    """Derive the pods' labels and annotations that no other field of the spec renders."""
    used = FOLLOWS | (shared.annotations if shared is not None else set())
    for part in ("labels", "annotations"):
        where = (*view.pod_metadata, part)
        rows = lawful(texts(at(view.obj, *where)), labels=part == "labels")
        found = [(name, value) for name, value in rows if name not in used]
        draft.keep(f"spec.{part}", [{"name": name, "value": value} for name, value in found], where)
        for index, (name, _) in enumerate(found):
            draft.origins["spec", part, index] = (*where, name)


def candidates(view: ObjectView, cluster: ProfileSpec) -> Iterator[tuple[str, ...]]:
    """Yield the node pools that an object may use: the default one, each one alone, several in order."""
    yield ()
    selector = texts(view.part(view.pod, "nodeSelector"))
    for pool in cluster.node_pools:
        if pool.selector.items() <= selector.items():
            yield (pool.name,)
    by_place = {json.dumps(_expressions(pool)): pool.name for pool in cluster.node_pools if pool.selector}
    several = [
        by_place.get(json.dumps(at(item, "preference", "matchExpressions"), default=str), "")
        for item in mappings(view.part(view.pod, "affinity", "nodeAffinity", PREFERRED))
    ]
    if len(several) > 1 and all(several):
        yield tuple(several)


def _expressions(pool: NodePool) -> list[dict[str, Any]]:
    return [{"key": key, "operator": "In", "values": [value]} for key, value in pool.selector.items()]


def find_placement(view: ObjectView, draft: Draft, pools: tuple[NodePool, ...]) -> None:
    """Derive node type, affinity and tolerations, without those that the node pools add."""
    kind = texts(view.part(view.pod, "nodeSelector")).get(keys.NODE_TYPE)
    if kind is not None and not any(keys.NODE_TYPE in pool.selector for pool in pools):
        draft.keep("spec.nodeType", kind, (*view.pod, "nodeSelector", keys.NODE_TYPE))
    affinity = (*view.pod, "affinity")
    terms = _own_terms(view, pools)
    if terms:
        draft.keep("spec.nodeAffinityRequired", {"nodeSelectorTerms": terms}, (*affinity, "nodeAffinity", REQUIRED))
    for word in ("podAffinity", "podAntiAffinity"):
        draft.keep(f"spec.{word}", _pod_affinity(view.part(affinity, word), view.name), (*affinity, word))
    tolerations = mappings(view.part(view.pod, "tolerations"))
    brought = [item for pool in pools for item in pool.tolerations]
    while tolerations and tolerations[-1] in brought:
        brought.remove(tolerations.pop())
    draft.keep("spec.tolerations", [_toleration(item) for item in tolerations], (*view.pod, "tolerations"))


def _own_terms(view: ObjectView, pools: tuple[NodePool, ...]) -> list[dict[str, Any]]:
    """Return the node affinity terms of the spec itself, without the conditions of several node pools."""
    listed = view.part(view.pod, "affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms")
    selecting = [pool for pool in pools if pool.selector]
    before = _expressions(selecting[0]) if len(pools) > 1 and selecting else []
    found = []
    for term in mappings(listed):
        conditions = term.get("matchExpressions")
        if isinstance(conditions, list) and conditions[: len(before)] == before and conditions[len(before) :]:
            found.append({"matchExpressions": conditions[len(before) :]})
    return found


def _pod_affinity(rule: Any, name: str) -> dict[str, Any] | None:
    for kind, where in (("Required", (REQUIRED, 0)), ("Preferred", (PREFERRED, 0, "podAffinityTerm"))):
        term = at(rule, *where)
        if at(term, "labelSelector", "matchLabels", keys.APP_NAME) == name and name:
            return {"type": kind, "key": at(term, "topologyKey")}
    return None


def _toleration(item: dict[str, Any]) -> dict[str, Any]:
    words = (
        ("key", "key"),
        ("operator", "operator"),
        ("value", "value"),
        ("effect", "effect"),
        ("tolerationSeconds", "seconds"),
    )
    return {word: item[name] for name, word in words if name in item}


def find_volumes(view: ObjectView, draft: Draft) -> None:
    """Derive the volumes with exactly one mount, in the order of the pod's list."""
    mounts = mappings(view.part(view.container, "volumeMounts"))
    listed = view.part(view.pod, "volumes")
    for index, volume in enumerate(listed if isinstance(listed, list) else ()):
        here = [mount for mount in mounts if mount.get("name") == at(volume, "name")]
        if not isinstance(volume, dict) or len(here) != 1:
            continue
        if volume == {"name": "shm", "emptyDir": {"medium": "Memory"}} and here[0].get("mountPath") == SHM:
            draft.keep("spec.compute.largeShmRequest", True, (*view.pod, "volumes", index))
            continue
        for kind, word, fields in VOLUMES:
            if isinstance(volume.get(kind), dict):
                sources = {"volume": volume[kind], "mount": here[0]}
                # The pod does not show whether the claim was created for this service. In any case it exists already.
                entry: dict[str, Any] = {"existingPvc": True} if word == "pvc" else {}
                for name, place in fields.items():
                    value = at(sources, *place.split("."))
                    if (value := READ[name](value) if name in READ else value) is not None:
                        entry[name] = value
                draft.add(("spec", "storage", word), entry, (*view.pod, "volumes", index))


def _mode(value: Any) -> str | None:
    return f"0{value:03o}" if isinstance(value, int) and 0 <= value <= 0o777 else None  # noqa: PLR2004 - rwxrwxrwx


#: Conversions of fields whose format differs in a pod.
READ: Final[dict[str, Callable[[Any], Any]]] = {"defaultMode": _mode, "readOnly": lambda value: value is True or None}
MOUNTED: Final = "mount.mountPath"
MODE: Final = "volume.defaultMode"
#: A kind of volume in a pod, the spec's list of such volumes, and the path of each field of an entry.
VOLUMES: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    (
        "configMap",
        "configMapVolume",
        {"configMap": "volume.name", "mountPath": MOUNTED, "subPath": "mount.subPath", "defaultMode": MODE},
    ),
    ("secret", "secretVolume", {"secret": "volume.secretName", "mountPath": MOUNTED, "defaultMode": MODE}),
    ("emptyDir", "emptyDirVolume", {"path": MOUNTED, "medium": "volume.medium", "sizeLimit": "volume.sizeLimit"}),
    (
        "persistentVolumeClaim",
        "pvc",
        {"claimName": "volume.claimName", "path": MOUNTED, "readOnly": "volume.readOnly"},
    ),
    ("hostPath", "hostPath", {"path": "volume.path", "mountPath": MOUNTED}),
    ("nfs", "nfs", {"server": "volume.server", "path": "volume.path", "mountPath": MOUNTED}),
)
