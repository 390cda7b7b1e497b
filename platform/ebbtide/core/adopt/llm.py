"""The import of a live or exported KServe LLMInferenceService.

Upstream: github.com/kserve/kserve pkg/apis/serving/v1alpha2: llm_inference_service_defaults.go (the webhook's defaults).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.adopt.defaults import DefaultValue, drop_defaults
from ebbtide.core.adopt.view import ObjectView
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.serving.llm import CONTAINER

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.translation.objects import Object

TEMPLATE: Final = ("spec", "template")
MODEL: Final = ("spec", "model")
_CONTAINER: Final = (*TEMPLATE, "containers", "*")

#: Defaults that the API server or Go's encoding adds and that no spec sets.
DEFAULTS: Final = (
    DefaultValue((*_CONTAINER, "ports", "*", "protocol"), "TCP", "the CRD's default of core/v1 ContainerPort.protocol"),
    DefaultValue((*_CONTAINER, "resources"), {}, "Go writes core/v1 Container.resources even if it is empty"),
    DefaultValue((*TEMPLATE, "containers"), [], "llm_inference_service_defaults.go: SetDefaults"),
    DefaultValue(TEMPLATE, {}, "a template without containers, after SetDefaults"),
)


def normalize(obj: Object, _: ProfileSpec, *, marked: bool) -> None:
    """Remove the webhook's defaults, in place: the model's name is the object's unless the author sets one."""
    model = get_at(obj, *MODEL)
    if isinstance(model, dict) and "name" in model and model["name"] == get_at(obj, "metadata", "name"):
        del model["name"]
    drop_defaults(obj, DEFAULTS, marked=marked)


def make_view(obj: Object, _: ProfileSpec) -> ObjectView:
    """Return a view of an LLMInferenceService, with the paths of its parts."""
    containers = get_at(obj, *TEMPLATE, "containers")
    index = next(
        (
            position
            for position, item in enumerate(containers if isinstance(containers, list) else ())
            if isinstance(item, dict) and item.get("name") == CONTAINER
        ),
        None,
    )
    return ObjectView(
        obj=obj,
        serving="llm",
        pod_metadata=("spec",),
        pod=TEMPLATE,
        container=None if index is None else (*TEMPLATE, "containers", index),
        concurrency=None,
        timeout=None,
        default_minimum=1,
        language_model=MODEL,
    )
