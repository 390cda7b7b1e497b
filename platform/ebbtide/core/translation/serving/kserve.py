"""The KServe InferenceService of a workload, in Knative or Standard mode.

Upstream: github.com/kserve/kserve pkg/apis/serving/v1beta1, pkg/constants/constants.go (mode names since 0.16),
pkg/controller/v1beta1/inferenceservice/reconcilers/knative (the annotations that pass to the revision).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, names
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation import runtimes
from ebbtide.core.translation.container import make_container, render_pod_fields, secure_component, secure_containers
from ebbtide.core.translation.objects import Object, make_object, prune_nulls, write_model
from ebbtide.core.translation.placed_fields import write_part
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import Pod, PodPatch
from ebbtide.core.translation.scaling.knative import make_scaling_annotations
from ebbtide.core.translation.serving.metadata import drop_empty, make_metadata, make_pod_annotations, make_pod_labels
from ebbtide.core.translation.serving.updates import make_strategy
from ebbtide.core.translation.start import find_storage_uri

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec

#: From this version the modes are called Knative and Standard, and autoscalerClass none exists.
NEW_NAMES: Final = (0, 16)
MODES: Final = {"kserve": ("Knative", "Serverless"), "kserve-standard": ("Standard", "RawDeployment")}


def find_mode_name(serving: str, kserve_version: str) -> str:
    """Return the deployment mode's name as this version of KServe spells it."""
    new, old = MODES[serving]
    return new if parse_version(kserve_version) >= NEW_NAMES else old


def make_storage_patches(plan: Plan) -> Iterator[PodPatch]:
    """Yield the service account with a model's storage credentials, if the spec names a Secret."""
    model = plan.spec.model
    if model is None or model.storage_secret is None:
        return
    name = names.name_storage_account(plan.name)
    account = {**make_object("v1", "ServiceAccount", name), "secrets": [{"name": model.storage_secret}]}
    cause = ("spec", "model", "storageSecret")
    yield PodPatch(by="storage/model", cause=cause, service_account_name=name, objects=[account])


def make_service(plan: Plan, pod: Pod, canonical: str) -> Object:
    """Return the InferenceService, without the fields that are not set."""
    scaling = {} if plan.serving == "kserve-standard" else make_scaling_annotations(plan)
    annotations = {**scaling, **make_pod_annotations(plan, pod)}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": _make_top_metadata(plan, canonical),
        "spec": {
            "predictor": {
                **_make_settings(plan),
                **drop_empty(labels=make_pod_labels(plan, pod), annotations=annotations),
                **render_pod_fields(plan, pod),
                **_make_runtime(plan, pod),
            },
            **prune_nulls(
                {name: secure_component(value, pod) for name, value in write_part(plan.spec, "service").items()}
            ),
        },
    }


def _make_top_metadata(plan: Plan, canonical: str) -> dict[str, Any]:
    """Return the metadata. The annotation with the spec is left out if KServe would copy it to the pods."""
    stored = canonical if keys.SPEC in plan.cluster.kserve.annotation_disallow_list else None
    top = make_metadata(plan, stored)
    annotations = {**_make_mode_annotations(plan), **top.pop("annotations", {})}
    return {**top, **drop_empty(annotations=annotations)}


def _make_settings(plan: Plan) -> dict[str, Any]:
    """Return the predictor's fields that are not fields of a pod."""
    spec = plan.spec
    auto = spec.autoscaling
    return prune_nulls(
        {
            "minReplicas": plan.scaling.minimum if plan.adds_defaults else auto.min_replicas,
            "maxReplicas": plan.scaling.maximum if plan.adds_defaults else auto.max_replicas,
            "containerConcurrency": auto.concurrency_hard_limit,
            "timeout": spec.serving_configuration.request_timeout_seconds,
            **write_part(spec, "predictor"),
            "deploymentStrategy": make_strategy(spec) or None,
        }
    )


def find_default_mode(cluster: ProfileSpec) -> str:
    """Return the mode of an InferenceService without the annotation: Knative mode if the cluster has it."""
    return "kserve" if "Knative" in cluster.kserve.modes else "kserve-standard"


def _make_mode_annotations(plan: Plan) -> dict[str, str]:
    """Return the deployment mode and the autoscaler class. Without Ebbtide's defaults, only what the cluster would not choose."""
    cluster = plan.cluster
    annotations = {}
    if plan.adds_defaults or plan.serving != find_default_mode(cluster):
        annotations[keys.DEPLOYMENT_MODE] = find_mode_name(plan.serving, cluster.kserve.version)
    if plan.serving == "kserve-standard" and (plan.adds_defaults or plan.scaling.metric is not None):
        # With class none, KServe keeps the number of replicas at minReplicas.
        fixed = "none" if parse_version(cluster.kserve.version) >= NEW_NAMES else "hpa"
        annotations[keys.AUTOSCALER_CLASS] = fixed if plan.scaling.scaler == "fixed" else "external"
    return annotations


def check_annotations(plan: Plan) -> Iterator[Problem]:
    """Reject annotations of the spec that contradict the deployment mode or the autoscaler class of its other fields."""
    if plan.mode.kind != "InferenceService":
        return
    written = plan.inference.metadata.annotations or {}
    rendered = {**_make_mode_annotations(plan), keys.DEPLOYMENT_MODE: MODES[plan.serving][0]}
    others = {name for serving, names_ in MODES.items() if serving != plan.serving for name in names_}
    for key, value in rendered.items():
        other = written.get(key)
        if other is not None and (other in others if key == keys.DEPLOYMENT_MODE else other != value):
            message = f"the annotation {key} is {other}, but the other fields of the spec require {value}"
            yield Problem("LAB002", ("metadata", "annotations", key), message, "remove the annotation")


def _make_runtime(plan: Plan, pod: Pod) -> dict[str, Any]:
    """Return the model or the containers."""
    model = plan.spec.model
    grpc = plan.spec.serving_port.protocol == "grpc"
    port_name = ("grpc" if grpc else "http") if plan.serving == "kserve-standard" else ("h2c" if grpc else "http1")
    container = make_container(plan, pod, port_name)
    sidecars = secure_containers(plan.spec.sidecars, pod)
    if model is None:
        return {"containers": [container, *sidecars]}
    # The serving runtime defines the image, the container's name and the port. These fields override it.
    return prune_nulls(
        {
            "model": {
                "modelFormat": write_part(plan.spec, "model.modelFormat"),
                **write_part(plan.spec, "model"),
                "protocolVersion": model.protocol or (runtimes.GRPC_PROTOCOL if grpc and plan.adds_defaults else None),
                "storageUri": find_storage_uri(plan),
                **{name: value for name, value in container.items() if name != "name"},
            },
            "storageUris": write_model(model.uris),
            "containers": sidecars or None,
        }
    )
