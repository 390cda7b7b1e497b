"""The cleaning of live objects: fields that servers, webhooks and Ebbtide itself add are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt import knative, kserve, llm
from ebbtide.core.adopt.defaults import SERVER, DefaultValue, drop_defaults, is_server_written, strip_ebbtide_keys
from ebbtide.core.adopt.view import iterate_matches
from ebbtide.core.base import quantities
from ebbtide.core.profile.projects import find_default_namespace
from ebbtide.core.translation.objects import prune_nulls
from ebbtide.core.translation.serving.llm import API_VERSION, KIND

if TYPE_CHECKING:
    from types import ModuleType

    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

#: A thousandth of a unit, in billionths.
MILLI: Final = quantities.NANO // 1000
#: The modules of the supported kinds, by API version and kind.
KINDS: Final = {
    ("serving.knative.dev/v1", "Service"): knative,
    ("serving.kserve.io/v1beta1", "InferenceService"): kserve,
    (API_VERSION, KIND): llm,
}

#: The paths of containers with resources, in all kinds.
CONTAINERS: Final = (
    ("spec", "template", "spec", "containers", "*"),
    ("spec", "predictor", "containers", "*"),
    ("spec", "predictor", "model"),
    ("spec", "template", "containers", "*"),
)

#: The paths of pods, in all kinds.
PODS: Final = (("spec", "template", "spec"), ("spec", "predictor"), ("spec", "template"))
#: References that must exist, as those without the field.
OPTIONAL: Final = tuple(
    DefaultValue((*path, "optional"), False, "Kubernetes core/v1 SecretKeySelector, SecretVolumeSource")
    for path in (
        *(
            (*path, "env", "*", "valueFrom", kind)
            for path in CONTAINERS
            for kind in ("secretKeyRef", "configMapKeyRef")
        ),
        *((*path, "volumes", "*", kind) for path in PODS for kind in ("secret", "configMap")),
    )
)


def clean_object(obj: Object, profile: Profile, *, marked: bool | None = None) -> Object:
    """Return ``obj`` as its author wrote it: without fields that servers, webhooks and Ebbtide itself add.

    Two objects that are equal when cleaned are the same service. ``marked`` is whether a server has written the
    object; None detects it.
    """
    was_live = is_server_written(obj) if marked is None else marked
    result: Object = prune_nulls(obj)
    drop_defaults(result, SERVER, marked=True)
    result = strip_ebbtide_keys(result)[0]
    metadata = result.get("metadata")
    namespace = find_default_namespace(profile.spec.projects)
    if namespace and isinstance(metadata, dict) and not metadata.get("namespace"):
        # The imported spec has no namespace either, and renders the default one.
        metadata["namespace"] = namespace
    module = find_kind_module(result)
    if module is not None:
        module.normalize(result, profile.spec, marked=was_live)
    drop_defaults(result, OPTIONAL, marked=was_live)
    for pod in PODS:
        for toleration in iterate_matches(result, (*pod, "tolerations", "*")):
            if isinstance(toleration, dict):
                toleration.setdefault("operator", "Equal")
    # An older predictor (``tensorflow: {…}``) is only now under ``model``.
    for path in CONTAINERS:
        for resources in iterate_matches(result, (*path, "resources")):
            _canonical_amounts(resources)
    # Removing a webhook's annotation may have left an empty map.
    cleaned: Object = strip_ebbtide_keys(result)[0]
    return cleaned


def _canonical_amounts(resources: Any) -> None:
    """Rewrite quantities in the API server's format, and remove requests that Kubernetes sets equal to limits."""
    if not isinstance(resources, dict):
        return
    for kind in ("requests", "limits"):
        amounts = resources.get(kind)
        if isinstance(amounts, dict):
            resources[kind] = {name: _format_amount(name, amount) for name, amount in amounts.items()}
    requests, limits = resources.get("requests"), resources.get("limits")
    if isinstance(requests, dict) and isinstance(limits, dict):
        for name in [name for name, amount in requests.items() if "/" in name and limits.get(name) == amount]:
            del requests[name]
        if not requests:
            del resources["requests"]


def _format_amount(name: str, amount: Any) -> Any:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        return amount
    value = quantities.parse_nano(amount) if name == "cpu" else None
    if value is None or value % MILLI:
        return str(amount)
    milli = value // MILLI
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def find_kind_module(obj: Object) -> ModuleType | None:
    """Return the module of an object's kind."""
    written = obj.get("apiVersion"), obj.get("kind")
    return next((module for kind, module in KINDS.items() if kind == written), None)
