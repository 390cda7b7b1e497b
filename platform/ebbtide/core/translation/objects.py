"""Kubernetes objects as plain data: absent fields, apply order, and merge patches."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

Object: TypeAlias = dict[str, Any]
Value = TypeVar("Value")

_CAMEL: Final = re.compile("_(.)")
_CAPITAL: Final = re.compile("([A-Z])")
#: Kinds that workloads share, in the order in which they must be created.
SHARED_KINDS: Final = (
    *("PriorityClass", "Namespace", "Queue"),
    *("ResourceFlavor", "ClusterQueue", "LocalQueue", "ResourceQuota", "LimitRange"),
)
#: Kinds in the order in which they must be created. Other kinds go last.
ORDER: Final = {
    kind: place
    for place, kind in enumerate(
        (
            *SHARED_KINDS,
            *("ServiceAccount", "PersistentVolumeClaim", "Job", "DaemonSet", "ResourceClaimTemplate"),
            *("LocalModelNamespaceCache", "Service", "InferenceService", "LLMInferenceService"),
            *("DomainMapping", "HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget"),
        )
    )
}


def make_object(api_version: str, kind: str, name: str, spec: Any = None, **metadata: Any) -> Object:
    """Return an object. ``metadata`` has the fields other than the name: the namespace, labels and annotations."""
    obj = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}}
    return obj if spec is None else {**obj, "spec": spec}


def make_claim(name: str, modes: list[str], storage_class: str | None, size: Any, mode: str | None = None) -> Object:
    """Return a PersistentVolumeClaim. ``mode`` is its volumeMode."""
    return make_object(
        "v1",
        "PersistentVolumeClaim",
        name,
        {
            "accessModes": modes,
            "storageClassName": storage_class,
            "volumeMode": mode,
            "resources": {"requests": {"storage": str(size)}},
        },
    )


def prune_nulls(value: Value) -> Value:
    """Return ``value`` without keys whose value is None, at every depth. Empty dicts and lists stay."""
    pruned: Value = _prune(value)
    return pruned


def _prune(value: Any) -> Any:
    # An exact type is faster to compare, and this visits every leaf of every object.
    kind = type(value)
    if kind is dict:
        result = {}
        for name, field in value.items():
            if field is not None:
                inner = type(field)
                result[name] = _prune(field) if inner is dict or inner is list else field
        return result
    return [_prune(field) for field in value] if kind is list else value


def write_model(value: Any) -> Any:
    """Return a part of a spec whose fields have the same names in Kubernetes, without empty fields.

    The instances of the compiled models have the fields as attributes and no methods.
    """
    if isinstance(value, list | tuple):
        return [write_model(item) for item in value] or None
    if not hasattr(value, "__dict__"):
        return value
    return {to_camel(name): write_model(field) for name, field in vars(value).items()}


def with_values(model: Value, /, **values: Any) -> Value:
    """Return a copy of a model with other values. The models are frozen, and those of the compiled schema have no methods."""
    source: Any = model
    clone: Value = object.__new__(type(model))
    set_attribute = object.__setattr__
    set_attribute(clone, "__dict__", {**source.__dict__, **values})
    for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        set_attribute(clone, name, getattr(source, name))
    return clone


def to_camel(name: str) -> str:
    """Return the name of a model's attribute as the field's name in documents: ``mount_path`` is ``mountPath``."""
    return _CAMEL.sub(lambda part: part[1].upper(), name)


@cache
def to_attribute(field: str) -> str:
    """Return a field's name in documents as the name of the attribute: ``logger.batchSize`` is ``logger.batch_size``."""
    return _CAPITAL.sub(r"_\1", field).lower()


def read_field(model: Any, field: str) -> Any:
    """Return the value of a field by its name in documents, such as ``logger.batchSize``; None if a part of it is not set."""
    for name in to_attribute(field).split("."):
        model = getattr(model, name, None)
    return model


def sort_for_apply(objects: list[Object]) -> list[Object]:
    """Return ``objects`` sorted into apply order. The sort is stable."""
    return sorted(objects, key=lambda obj: ORDER.get(obj["kind"], len(ORDER)))


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` with ``patch`` merged in by RFC 7386: null removes a key, and a list is replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply_merge_patch(result.get(name), value)
    return result
