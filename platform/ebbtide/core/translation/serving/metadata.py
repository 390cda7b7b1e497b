"""The labels and annotations of the top object and of its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.core.base import keys
from ebbtide.core.spec.objectives import list_token_objectives
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import Pod
from ebbtide.core.translation.scaling.controller import make_floor_annotations
from ebbtide.core.translation.scaling.scraping import make_scrape_annotations
from ebbtide.core.translation.serving.timeouts import find_initialization_timeout

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.spec.inference import InferenceSpec


def drop_empty(**fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not empty."""
    return {name: field for name, field in fields.items() if field}


def make_access_metadata(
    spec: InferenceSpec, cluster: ProfileSpec, kind: str | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations by which the gateway enforces access, with users and groups filled in.

    ``kind`` is the authorizationType of an additional host name. None uses that of servingPort.
    """
    port = spec.serving_port
    enforcer = cluster.access.enforces.get(kind or port.authorization_type or "public")
    if enforcer is None:
        return {}, {}
    users, groups = ",".join(port.authorized_users), ",".join(port.authorized_groups)

    def filled(values: dict[str, str]) -> dict[str, str]:
        return {key: value.replace("{users}", users).replace("{groups}", groups) for key, value in values.items()}

    return filled(enforcer.labels), filled(enforcer.annotations)


def make_metadata(plan: Plan, canonical: str | None) -> dict[str, Any]:
    """Return the top object's metadata: the recommended labels, the user's labels and annotations, and the canonical spec."""
    spec, user_metadata, cluster = plan.spec, plan.inference.metadata, plan.cluster
    labels = {
        **({keys.APP_NAME: plan.name, keys.APP_MANAGED_BY: "ebbtide"} if plan.adds_defaults else {}),
        **(user_metadata.labels or {}),
    }
    annotations = dict(user_metadata.annotations or {})
    if spec.traffic.rollout_duration_seconds is not None and plan.mode.revisions:
        annotations[keys.ROLLOUT_DURATION] = f"{spec.traffic.rollout_duration_seconds}s"
    if spec.project is not None:
        labels[keys.APP_PART_OF] = spec.project
        labels[keys.PROJECT] = spec.project
    if spec.category is not None:
        labels[keys.CATEGORY] = spec.category
    if spec.serving_port.cluster_local_access_only:
        if plan.mode.revisions:
            labels[keys.KNATIVE_VISIBILITY] = keys.CLUSTER_LOCAL
        if plan.mode.kind == "InferenceService":
            labels[keys.KSERVE_VISIBILITY] = keys.CLUSTER_LOCAL
    guarding_labels, guarding_annotations = make_access_metadata(spec, cluster)
    labels |= guarding_labels
    annotations |= guarding_annotations
    annotations |= make_floor_annotations(plan)
    if canonical is not None:
        annotations[keys.SPEC] = canonical
    return {
        "name": plan.name,
        **({"namespace": plan.namespace} if plan.namespace else {}),
        **drop_empty(labels=labels, annotations=annotations),
    }


def make_pod_labels(plan: Plan, pod: Pod) -> dict[str, str]:
    """Return the pods' labels: the name, by which affinity and monitors select, those of features, and the user's."""
    selected = plan.adds_defaults or plan.spec.pod_affinity is not None or plan.spec.pod_anti_affinity is not None
    if keys.APP_NAME in plan.mode.label_pods(plan.name):
        selected = False
    return {
        **({keys.APP_NAME: plan.name} if selected else {}),
        **pod.parts.get("labels", {}),
        **{label.name: label.value for label in plan.spec.labels if not label.exclude},
    }


def make_pod_annotations(plan: Plan, pod: Pod) -> dict[str, str]:
    """Return the pods' annotations: of features, the metrics' port, full duplex, the user's, and Knative's progress deadline."""
    annotations = {**pod.parts.get("annotations", {}), **make_scrape_annotations(plan)}
    if plan.adds_defaults and plan.mode.revisions and _streams_answers(plan):
        annotations[keys.FULL_DUPLEX] = "Enabled"
    annotations |= {annotation.name: annotation.value for annotation in plan.spec.annotations if not annotation.exclude}
    seconds = find_initialization_timeout(plan.spec)
    if seconds is not None and plan.mode.revisions:
        annotations[keys.PROGRESS_DEADLINE] = f"{seconds}s"
    return annotations


def _streams_answers(plan: Plan) -> bool:
    """Return whether clients stream the answers, as far as the image, the model, the SLO or the endpoint of the spec tell.

    Knative's proxies abort an answer that begins before they have seen the end of the request, which happens on a busy node,
    unless full duplex is on (knative/serving#12387; pkg/queue/sharedmain/handlers.go, pkg/activator/handler/handler.go). With
    HTTP/2, the annotation breaks every request (knative/serving#15688).
    """
    spec = plan.spec
    if spec.serving_port.protocol == "grpc":
        return False
    engine = find_engine(spec.image)
    return (
        (engine is not None and engine.generates)
        or (spec.model is not None and spec.model.format == "huggingface")
        or (spec.slo is not None and bool(list_token_objectives(spec.slo)))
        or spec.endpoint is not None
    )
