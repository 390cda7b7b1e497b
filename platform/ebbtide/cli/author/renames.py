"""The names that kustomize gives to the objects of a build, in the references of a spec.

kustomize writes generated, prefixed and suffixed names into references once, after all functions have run. ``ebbtide-krm`` has
replaced the specs by then, and names are also in places that kustomize does not change: the stored spec, the name of a Job, the
URI of a model. So the function writes the names into the spec before it renders it. A prefix or suffix is already part of an
item's name; the hash of a generated ConfigMap or Secret follows later, and is calculated here.

Upstream: sigs.k8s.io/kustomize/api v0.21.1 internal/target/kusttarget.go (makeCustomizedResMap), filters/nameref/nameref.go
(selectReferral), resource/resource.go (PrefixesSuffixesEquals), hasher/hasher.go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.paths import get_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.core.translation.objects import Object

#: Lists whose items are Kubernetes' containers, and blocks that are Kubernetes' pods.
CONTAINERS: Final = ("sidecars", "initContainers")
PODS: Final = ("transformer", "explainer")
_HOLDERS: Final = (*CONTAINERS, *(f"{pod}/{name}" for pod in PODS for name in ("containers", "initContainers")))
_IN_CONTAINERS: Final = {
    "ConfigMap": ("env/valueFrom/configMapKeyRef/name", "envFrom/configMapRef/name"),
    "Secret": ("env/valueFrom/secretKeyRef/name", "envFrom/secretRef/name"),
}
_IN_PODS: Final = {
    "ConfigMap": ("volumes/configMap/name", "volumes/projected/sources/configMap/name"),
    "Secret": ("imagePullSecrets/name", "volumes/projected/sources/secret/name", "volumes/secret/secretName"),
    "ServiceAccount": ("serviceAccountName",),
    "PersistentVolumeClaim": ("volumes/persistentVolumeClaim/claimName",),
}
_IN_SPECS: Final = {
    "ConfigMap": ("environmentVariables/configMap/name", "storage/configMapVolume/configMap"),
    "Secret": (
        "environmentVariables/secret/name",
        "imagePullSecrets/name",
        "model/storageSecret",
        "storage/csiVolume/nodePublishSecret",
        "storage/git/passwordSecret",
        "storage/git/secretRef/name",
        "storage/secretVolume/secret",
    ),
    "ServiceAccount": ("serviceAccountName", "logger/storage/serviceAccountName"),
    "PersistentVolumeClaim": ("storage/pvc/claimName", "start/weights/claimName", "start/compilationCache/claimName"),
}
#: The fields of a spec that name an object of each kind, in the syntax of kustomize's field specs.
REFERENCES: Final = {
    kind: (
        *fields,
        *(f"{holder}/{field}" for holder in _HOLDERS for field in _IN_CONTAINERS.get(kind, ())),
        *(f"{pod}/{field}" for pod in PODS for field in _IN_PODS[kind]),
    )
    for kind, fields in _IN_SPECS.items()
}
_MARK: Final = "internal.config.kubernetes.io/"
#: The fields of a generated object whose values are hashed: those that are always part of the text, and those if set.
_HASHED: Final = {"ConfigMap": (("data",), ("binaryData",)), "Secret": (("data", "type"), ("stringData",))}
#: Letters for hexadecimal digits that could form words.
_LETTERS: Final = str.maketrans("013ae", "ghkmt")


@dataclass(frozen=True, slots=True)
class _Renamed:
    """An item whose name kustomize has changed or will change."""

    item: Object
    earlier: frozenset[str]
    name: str


def rename_references(document: Object, items: Iterable[Object]) -> Object:
    """Return a spec's document with the names that the items of its build get."""
    renamed = [entry for item in items if (entry := _read_renamed(item)) is not None]
    spec = document.get("spec")
    for kind, fields in REFERENCES.items() if renamed else ():
        candidates = [
            entry for entry in renamed if entry.item["kind"] == kind and _shares_namespace(document, entry.item)
        ]

        def replace(name: str, candidates: list[_Renamed] = candidates) -> str:
            found = [entry for entry in candidates if name in entry.earlier]
            for strict in (False, True):
                if len(found) > 1:
                    found = [entry for entry in found if _has_same_affixes(document, entry.item, strict=strict)]
            names = {entry.name for entry in found}
            return names.pop() if len(names) == 1 else name

        for field in fields:
            spec = _replace_texts(spec, field.split("/"), replace)
    return {**document, "spec": spec} if "spec" in document else document


def _replace_texts(value: Any, path: list[str], replace: Callable[[str], str]) -> Any:
    """Return a value with other texts at a path, on which the items of a list have no part."""
    if isinstance(value, list):
        return [_replace_texts(item, path, replace) for item in value]
    if not path:
        return replace(value) if isinstance(value, str) else value
    if not (isinstance(value, dict) and path[0] in value):
        return value
    return {**value, path[0]: _replace_texts(value[path[0]], path[1:], replace)}


def _read_renamed(item: Object) -> _Renamed | None:
    name = item["metadata"]["name"]
    earlier = frozenset(_read_marks(item, "previousNames"))
    if item["kind"] in _HASHED and any(_read_marks(item, "needsHashSuffix")):
        return _Renamed(item, earlier | {name}, f"{name}-{hash_content(item)}")
    return _Renamed(item, earlier, name) if earlier - {name} else None


def _read_marks(item: Object, name: str) -> Iterator[str]:
    """Yield the values of one of kustomize's annotations."""
    value = get_at(item, "metadata", "annotations", _MARK + name, default="")
    yield from (part for part in str(value).split(",") if part)


def hash_content(item: Object) -> str:
    """Return the hash that kustomize appends to the name of a generated ConfigMap or Secret."""
    always, optional = _HASHED[item["kind"]]
    # kustomize looks for a field "metadata/name", which no object has.
    fields = {"kind": item["kind"], "name": "", **{name: item.get(name, "") for name in always}}
    fields |= {name: item[name] for name in optional if isinstance(item.get(name), dict)}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Go's encoder also writes these as numbers.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return sha256(text.encode()).hexdigest()[:10].translate(_LETTERS)


def _shares_namespace(document: Object, item: Object) -> bool:
    """Return whether kustomize looks for references to an item in a document."""
    namespaces = {get_at(each, "metadata", "namespace", default="default") for each in (document, item)}
    return item["kind"] == "ServiceAccount" or len(namespaces) == 1


def _has_same_affixes(document: Object, item: Object, *, strict: bool) -> bool:
    """Return whether two objects had the same last prefixes and suffixes; without ``strict``, also if one had none."""
    for kind in ("prefixes", "suffixes"):
        ours, theirs = [*_read_marks(document, kind)], [*_read_marks(item, kind)]
        length = min(len(ours), len(theirs))
        if length and ours[-length:] != theirs[-length:]:
            return False
        if strict and not length and ours != theirs:
            return False
    return True
