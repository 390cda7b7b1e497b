"""The objects that controllers create, and the defaults and validation of Knative's webhook.

Upstream: knative.dev/serving pkg/reconciler/{configuration,revision}/resources, pkg/deployment/config.go (queue-proxy),
pkg/reconciler/autoscaling/hpa/resources/hpa.go, pkg/apis/serving/v1/revision_defaults.go,
pkg/apis/autoscaling/annotation_validation.go; kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Final

from ebbtide.cluster.client.protocol import DEPLOYMENT, HPA, KNATIVE, POD, POD_AUTOSCALER, REVISION, Kind, RefusedError
from ebbtide.cluster.read.pods import QUEUE_PROXY
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import parse_seconds
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.store import bounds_of, make_bare, namespace_of

#: The template that a revision was made from; Knative compares the Configuration's generation.
TEMPLATE: Final = "simulated.ebbtide.dev/template"
ROUTING: Final = keys.ROUTING_STATE
#: Knative's own container in each pod.
SIDECAR: Final[Object] = {
    "name": QUEUE_PROXY,
    "image": "gcr.io/knative-releases/knative.dev/serving/cmd/queue",
    "resources": {"requests": {"cpu": "25m"}},
}
#: The fields of a KServe predictor that are not a pod's.
_PREDICTOR_FIELDS: Final = {
    "minReplicas",
    "maxReplicas",
    "canaryTrafficPercent",
    "labels",
    "annotations",
    "model",
    "scaleMetric",
    "scaleTarget",
    "timeout",
    "logger",
    "batcher",
}
#: The webhook's defaults for a template's spec.
DEFAULTS: Final[Object] = {"containerConcurrency": 0, "timeoutSeconds": 300, "enableServiceLinks": False}
_TARGET: Final = re.compile(r"\d+(\.\d+)?")


def _make_owned(kind: Kind, name: str, owner: Object, **metadata: Object) -> Object:
    """Return an object that ``owner`` controls, in its namespace."""
    obj = make_bare(kind, name, namespace_of(owner))
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    reference |= {"uid": owner["metadata"]["uid"], "controller": True}
    obj["metadata"] |= {**metadata, "ownerReferences": [reference]}
    return obj


def template_text(service: Object) -> str:
    """Return a Knative Service's template as text that is equal for equal templates."""
    return json.dumps(service["spec"]["template"], sort_keys=True)


def make_revision(service: Object, number: int) -> Object:
    """Return the ``number``-th revision of a Knative Service."""
    template, name = service["spec"]["template"], service["metadata"]["name"]
    metadata = template.get("metadata", {})
    labels = {
        **(metadata.get("labels") or {}),
        keys.KNATIVE_SERVICE: name,
        "serving.knative.dev/configuration": name,
        keys.KNATIVE_GENERATION: str(number),
        ROUTING: "active",
    }
    annotations = {**(metadata.get("annotations") or {}), TEMPLATE: template_text(service)}
    revision = _make_owned(REVISION, f"{name}-{number:05d}", service, labels=labels, annotations=annotations)
    revision["spec"] = deepcopy(template["spec"])
    return revision


def make_deployment(revision: Object, template: Object, replicas: int) -> Object:
    """Return a revision's Deployment; ``template`` is the Knative Service's."""
    metadata = revision["metadata"]
    deployment = _make_owned(DEPLOYMENT, f"{metadata['name']}-deployment", revision, labels=metadata["labels"])
    spec = deepcopy(template["spec"])
    spec["containers"] = [*spec.get("containers", []), deepcopy(SIDECAR)]
    annotations = dict(get_at(template, "metadata", "annotations") or {})
    deployment["spec"] = {"replicas": replicas, "template": {"metadata": {"annotations": annotations}, "spec": spec}}
    return deployment


def scaling_annotations(revision: Object) -> dict[str, str]:
    """Return the annotations of a revision that its PodAutoscaler has."""
    return {name: value for name, value in revision["metadata"]["annotations"].items() if name != TEMPLATE}


def make_scaler(revision: Object, replicas: int) -> Object:
    """Return a revision's PodAutoscaler."""
    metadata = revision["metadata"]
    annotations = scaling_annotations(revision)
    scaler = _make_owned(POD_AUTOSCALER, metadata["name"], revision, labels=metadata["labels"], annotations=annotations)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{metadata['name']}-deployment"}
    scaler["spec"] = {"scaleTargetRef": target}
    scaler["status"] = {"desiredScale": replicas, "actualScale": 0}
    return scaler


def make_hpa(scaler: Object) -> Object:
    """Return the HPA that class hpa makes of a PodAutoscaler."""
    metadata, annotations = scaler["metadata"], scaler["metadata"]["annotations"]
    hpa = _make_owned(HPA, metadata["name"], scaler, labels=metadata["labels"], annotations=annotations)
    metric, target = annotations.get(keys.METRIC, "cpu"), annotations.get(keys.TARGET, "80")
    row: Object
    if metric == "cpu":
        metric_target = {"type": "Utilization", "averageUtilization": int(float(target))}
        row = {"type": "Resource", "resource": {"name": "cpu", "target": metric_target}}
    else:
        metric_target = {"type": "AverageValue", "averageValue": str(int(float(target)))}
        row = {"type": "Pods", "pods": {"metric": {"name": metric}, "target": metric_target}}
    low, high = bounds_of(scaler)
    hpa["spec"] = {
        "scaleTargetRef": scaler["spec"]["scaleTargetRef"],
        "minReplicas": max(low, 1),
        "maxReplicas": high,
        "metrics": [row],
    }
    return hpa


def make_pod(deployment: Object, revision: str, name: str) -> Object:
    template = deployment["spec"]["template"]
    labels = {**deployment["metadata"]["labels"], keys.KNATIVE_REVISION: revision}
    annotations = dict(get_at(template, "metadata", "annotations", default={}))
    pod = _make_owned(POD, name, deployment, labels=labels, annotations=annotations)
    pod["spec"] = deepcopy(template["spec"])
    return pod


def make_predictor(service: Object) -> Object:
    """Return the Knative Service of an InferenceService's predictor, with its canary's traffic."""
    name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
    knative_service = _make_owned(KNATIVE, f"{name}-predictor", service, labels={keys.KSERVE_SERVICE: name})
    annotations = {
        **(predictor.get("annotations") or {}),
        keys.MIN_SCALE: str(predictor.get("minReplicas", 1)),
        keys.MAX_SCALE: str(predictor.get("maxReplicas", 0) or 2**31 - 1),
    }
    knative_service["spec"] = {
        "template": {
            "metadata": {
                "labels": {**(predictor.get("labels") or {}), keys.KSERVE_SERVICE: name},
                "annotations": annotations,
            },
            "spec": _predictor_spec(predictor),
        }
    }
    percent = predictor.get("canaryTrafficPercent")
    rolled_out = get_at(service, "status", "components", "predictor", "latestRolledoutRevision")
    if percent is not None and rolled_out is not None:
        knative_service["spec"]["traffic"] = [
            {"latestRevision": True, "percent": percent},
            {"revisionName": rolled_out, "latestRevision": False, "percent": 100 - percent, "tag": "prev"},
        ]
    return knative_service


def _predictor_spec(predictor: Object) -> Object:
    """Return the template's spec of a predictor: its server's container, and a pod's other fields."""
    spec = {name: deepcopy(value) for name, value in predictor.items() if name not in _PREDICTOR_FIELDS}
    if "model" in predictor:
        model_fields = ("resources", "env", "args", "securityContext", "image", "ports", "readinessProbe")
        model = {name: deepcopy(predictor["model"][name]) for name in model_fields if name in predictor["model"]}
        runtime = get_at(predictor, "model", "modelFormat", "name", default="model")
        spec["containers"] = [{"image": f"kserve/{runtime}server:v0.20.0", **model, "name": "kserve-container"}]
    if "timeout" in predictor:
        spec["timeoutSeconds"] = predictor["timeout"]
    return spec


# Knative's webhook.


def apply_defaults(kind: Kind, obj: Object, limit: int) -> Object:
    """Return an object with the webhooks' defaults; ``limit`` is the max-scale-limit.

    Raises RefusedError if Knative's webhook rejects the object.
    """
    completed = deepcopy(obj)
    if kind == KNATIVE:
        template = completed["spec"].setdefault("template", {})
        annotations = get_at(template, "metadata", "annotations", default={})
        check_annotations(annotations, "spec.template.metadata.annotations", limit)
        template["spec"] = {**DEFAULTS, **template.get("spec", {})}
        completed["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
    return completed


def check_annotations(annotations: Object, where: str, limit: int) -> None:
    """Validate scaling annotations as Knative's webhook does. Raises RefusedError."""
    for key in (keys.MIN_SCALE, keys.MAX_SCALE, keys.INITIAL_SCALE):
        if not str(annotations.get(key, "0")).isdecimal():
            raise _make_webhook_error(f"invalid value: {annotations[key]}: {where}.{key}")
    target = str(annotations.get(keys.TARGET, "1"))
    if _TARGET.fullmatch(target) is None:
        raise _make_webhook_error(f"invalid value: {target}: {where}.{keys.TARGET}")
    deadline = annotations.get(keys.PROGRESS_DEADLINE)
    if deadline is not None and parse_seconds(deadline) is None:
        raise _make_webhook_error(f"invalid value: {deadline}: {where}.{keys.PROGRESS_DEADLINE}")
    # With a limit, Knative requires the default of max-scale to be within it, so an absent annotation is valid.
    low, high = annotations.get(keys.MIN_SCALE, "0"), annotations.get(keys.MAX_SCALE, str(limit))
    if limit and not 1 <= int(high) <= limit:
        raise _make_webhook_error(f"expected 1 <= {high} <= {limit}: {where}.{keys.MAX_SCALE}")
    if int(high) and int(low) > int(high):
        raise _make_webhook_error(f"max-scale={high} is less than min-scale={low}: {where}")


def _make_webhook_error(reason: str) -> RefusedError:
    webhook = "validation.webhook.serving.knative.dev"
    return RefusedError(f'admission webhook "{webhook}" denied the request: validation failed: {reason}')
