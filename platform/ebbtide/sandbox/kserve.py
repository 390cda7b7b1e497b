"""InferenceServices in Knative mode: the predictor's Knative Service, and the status derived from it.

Upstream: kserve pkg/apis/serving/v1beta1/inference_service_status.go, pkg/controller/v1beta1/inferenceservice.
"""

from __future__ import annotations

from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, RefusedError
from ebbtide.cluster.read.pods import find_condition
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object
from ebbtide.sandbox.children import apply_defaults, make_predictor
from ebbtide.sandbox.kubelet import remove_object
from ebbtide.sandbox.state import ClusterState, keep_conditions
from ebbtide.sandbox.store import StoredObject, namespace_of, place_of


def reconcile_kserve(state: ClusterState, namespace: str, name: str) -> None:
    """Create or update the predictor's Knative Service of an InferenceService; delete it if the service is stopped."""
    service = state.peek(KSERVE, namespace, name)
    if service is None:
        return
    predictor = f"{name}-predictor"
    if get_at(service, "metadata", "annotations", keys.STOP) == "true":
        remove_object(state, KNATIVE, namespace, predictor)
        conditions = [state.condition("Ready", "False", "Stopped"), state.condition("Stopped", "True", "Stopped")]
        state.set_status(KSERVE, namespace, name, {"conditions": conditions})
        return
    mode = get_at(service, "metadata", "annotations", keys.DEPLOYMENT_MODE, default="Knative")
    if mode not in {"Knative", "Serverless"}:
        message = f"the simulated cluster does not support KServe's {mode} mode and creates no pods"
        _set_unready(state, service, "NotSimulated", message)
        return
    knative_service, before = make_predictor(service), state.store.find(KNATIVE, namespace, predictor)
    if before is not None:
        knative_service["status"] = before.item.get("status", {})
    try:
        knative_service = apply_defaults(KNATIVE, knative_service, state.max_scale_limit)
    except RefusedError as error:
        _set_unready(state, service, "ReconcileError", str(error))
        return
    state.commit(KNATIVE, StoredObject(knative_service), before)


def _set_unready(state: ClusterState, service: Object, reason: str, message: str) -> None:
    conditions = keep_conditions(service, [state.condition("Ready", "False", reason, message)])
    state.set_status(KSERVE, *place_of(service), {"conditions": conditions})


def refresh_kserve(state: ClusterState, ksvc: Object) -> None:
    """Set the status of the InferenceService that owns a Knative Service, if one does."""
    owner, namespace = get_at(ksvc, "metadata", "ownerReferences", 0, default={}), namespace_of(ksvc)
    service = state.peek(KSERVE, namespace, owner.get("name", ""))
    if owner.get("kind") != "InferenceService" or service is None:
        return
    ready = find_condition(ksvc, "Ready")
    conditions = [{**ready, "type": kind} for kind in ("PredictorReady", "Ready") if ready]
    before = get_at(service, "status", "components", "predictor", default={})
    newest = get_at(ksvc, "status", "latestReadyRevisionName")
    component = {
        "latestCreatedRevision": get_at(ksvc, "status", "latestCreatedRevisionName"),
        "latestReadyRevision": newest,
        "traffic": get_at(ksvc, "status", "traffic", default=[]),
    }
    rolled, previous = before.get("latestRolledoutRevision"), before.get("previousRolledoutRevision")
    if newest and [row["revisionName"] for row in component["traffic"] if row.get("percent")] == [newest]:
        rolled, previous = newest, previous if rolled in {None, newest} else rolled
    component |= {"latestRolledoutRevision": rolled} if rolled else {}
    component |= {"previousRolledoutRevision": previous} if previous else {}
    status = {
        "conditions": keep_conditions(service, [*conditions, state.condition("Stopped", "False")]),
        "url": f"http://{owner['name']}.{namespace}.{state.domain}",
        "components": {"predictor": component},
    }
    state.set_status(KSERVE, namespace, owner["name"], status)
