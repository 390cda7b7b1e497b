"""The import of a live or exported KServe InferenceService, in Knative or Standard mode.

Upstream: github.com/kserve/kserve pkg/apis/serving/v1beta1: inference_service_defaults.go and
predictor_custom.go (the webhook's defaults and rewrites), component.go (scaleMetric, scaleTarget).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt.defaults import DefaultValue, drop_defaults, rewrite_annotations
from ebbtide.core.adopt.view import ObjectView, find_serving_container
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.serving.kserve import MODES, NEW_NAMES

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Path
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Serving

PREDICTOR: Final = ("spec", "predictor")
MODEL: Final = (*PREDICTOR, "model")
CONTAINER: Final = (*PREDICTOR, "containers", "*")
#: The annotation that the webhook sets to the model's format: serving.kserve.io/modelFormat: sklearn
MODEL_FORMAT: Final = "serving.kserve.io/modelFormat"
_DEFAULTER: Final = "kserve pkg/apis/serving/v1beta1/inference_service_defaults.go"

#: Defaults that the webhook or Go's encoding adds and that no spec sets.
DEFAULTS: Final = (
    *(
        row
        for part in (MODEL, CONTAINER)
        for row in (
            DefaultValue((*part, "ports", "*", "protocol"), "TCP", "Kubernetes core/v1 ContainerPort"),
            DefaultValue((*part, "resources", "requests"), {}, f"{_DEFAULTER}: setResourceRequirementDefaults"),
            DefaultValue((*part, "resources", "limits"), {}, f"{_DEFAULTER}: setResourceRequirementDefaults"),
            DefaultValue((*part, "resources"), {}, "Go writes core/v1 Container.resources even if it is empty"),
        )
    ),
    DefaultValue((*MODEL, "name"), "", "Go writes core/v1 Container.name even if it is empty"),
)
#: Predictors by framework, which the webhook rewrites to ``model``, and the protocol that it sets for some of them.
FRAMEWORKS: Final[dict[str, str | None]] = {
    **dict.fromkeys(("sklearn", "xgboost", "lightgbm", "paddle", "pmml", "tensorflow", "pytorch")),
    **dict.fromkeys(("triton", "onnx", "huggingface"), "v2"),
}


def normalize(obj: Object, cluster: ProfileSpec, *, marked: bool) -> None:
    """Rewrite ``obj`` as KServe's webhook does, and remove the webhook's defaults, in place."""
    predictor, annotations = get_at(obj, *PREDICTOR), get_at(obj, "metadata", "annotations")
    rewrite_annotations(obj.get("metadata"))
    if isinstance(predictor, dict):
        rewrite_annotations(predictor)
        if _detect_serving(obj, cluster) == "kserve":
            _move_scaling(obj, predictor)
        _convert_framework(predictor)
        containers = predictor.get("containers")
        if (
            isinstance(containers, list)
            and len(containers) == 1
            and isinstance(containers[0], dict)
            and not isinstance(predictor.get("model"), dict)
        ):
            containers[0]["name"] = "kserve-container"
    if isinstance(annotations, dict):
        if parse_version(cluster.kserve.version) >= NEW_NAMES:
            for new, old in MODES.values():
                if annotations.get(keys.DEPLOYMENT_MODE) == old:
                    annotations[keys.DEPLOYMENT_MODE] = new
        if annotations.get(MODEL_FORMAT) == get_at(obj, *MODEL, "modelFormat", "name", default=""):
            del annotations[MODEL_FORMAT]
    drop_defaults(obj, DEFAULTS, marked=marked)


def _move_scaling(obj: Object, predictor: dict[str, Any]) -> None:
    """Move the scaling settings to where KServe writes them: the annotations of the predictor's revision, in place.

    Upstream: pkg/controller/v1beta1/inferenceservice/reconcilers/knative (SetAutoScalingAnnotations: ``scaleTarget`` and
    ``scaleMetric`` replace the annotations), components/predictor.go (the annotations of the InferenceService pass to the
    revision of each component, and those of the predictor replace them).
    """
    written = predictor.get("annotations")
    annotations = dict(written) if isinstance(written, dict) else {}
    of_object = get_at(obj, "metadata", "annotations")
    if isinstance(of_object, dict) and not {"transformer", "explainer"}.intersection(obj["spec"]):
        for key in [key for key in of_object if key.startswith(keys.AUTOSCALING)]:
            annotations.setdefault(key, of_object[key])
            del of_object[key]
    for field, key in (("scaleMetric", keys.METRIC), ("scaleTarget", keys.TARGET)):
        value = predictor.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool):
            annotations[key] = str(value)
            del predictor[field]
    if annotations != (written or {}):
        predictor["annotations"] = annotations


def _convert_framework(predictor: dict[str, Any]) -> None:
    """Convert the older form ``sklearn: {…}`` to ``model``."""
    frameworks = [name for name in FRAMEWORKS if isinstance(predictor.get(name), dict)]
    if len(frameworks) != 1 or "model" in predictor or "modelFormat" in predictor[frameworks[0]]:
        return
    model = predictor.pop(frameworks[0])
    predictor["model"] = {**model, "modelFormat": {"name": frameworks[0]}}
    protocol = FRAMEWORKS[frameworks[0]]
    if protocol is not None:
        predictor["model"].setdefault("protocolVersion", protocol)


def make_view(obj: Object, cluster: ProfileSpec) -> ObjectView:
    """Return a view of an InferenceService, with the paths of its parts."""
    has_model = isinstance(get_at(obj, *MODEL), dict)
    container: Path | None = MODEL if has_model else _find_container(obj)
    return ObjectView(
        obj=obj,
        serving=_detect_serving(obj, cluster),
        pod_metadata=PREDICTOR,
        pod=PREDICTOR,
        container=container,
        concurrency=(*PREDICTOR, "containerConcurrency"),
        timeout=(*PREDICTOR, "timeout"),
        default_minimum=1,
        model=MODEL if has_model else None,
        predictor=PREDICTOR,
    )


def _find_container(obj: Object) -> Path | None:
    """Return the path of the predictor's container, which KServe finds by its name, else of the serving container."""
    path = (*PREDICTOR, "containers")
    containers = get_at(obj, *path)
    for index, container in enumerate(containers if isinstance(containers, list) else ()):
        if isinstance(container, dict) and container.get("name") == SERVING_MODES["kserve"].container:
            return (*path, index)
    return find_serving_container(obj, path)


def _detect_serving(obj: Object, cluster: ProfileSpec) -> Serving:
    mode = get_at(obj, "metadata", "annotations", keys.DEPLOYMENT_MODE)
    if mode in MODES["kserve-standard"]:
        return "kserve-standard"
    if mode in MODES["kserve"] or "Knative" in cluster.kserve.modes:
        return "kserve"
    return "kserve-standard"
