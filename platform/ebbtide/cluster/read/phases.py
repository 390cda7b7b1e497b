"""Phase of a workload with its reason: one function for Knative, one for KServe's Standard mode, one for both when ready.

Phases are those of Run:ai's REST schema (runapy .generator/swagger.json, ``Phase``); Ebbtide derives them from Knative's and
KServe's conditions and from the pods. Upstream: knative.dev/serving pkg/apis/serving/v1/service_lifecycle.go, kserve
pkg/apis/serving/v1beta1/inference_service_status.go.
"""

from __future__ import annotations

from typing import Final, Literal

from ebbtide.cluster.client.protocol import KSERVE, LLM
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read import revision_state as of_revision
from ebbtide.cluster.read.inventory import LiveWorkload, find_by_name
from ebbtide.cluster.read.scaling_state import Replicas, describe_blind_hpa, desired_replicas
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation.objects import Object

Phase = Literal[
    "Creating",
    "Initializing",
    "Resuming",
    "Pending",
    "Deleting",
    "Running",
    "Updating",
    "Stopped",
    "Stopping",
    "Degraded",
    "Failed",
    "Completed",
    "Terminating",
    "Unknown",
]
#: Phases in which no replica may ever answer.
SILENT: Final = frozenset(
    {"Creating", "Initializing", "Pending", "Failed", "Stopped", "Stopping", "Deleting", "Resuming"}
)
#: Reason of a Route whose Configuration had no ready revision when it was reconciled, also after a failed first attempt
#: (knative.dev/serving pkg/apis/serving/v1/route_lifecycle.go, MarkConfigurationFailed).
REVISION_MISSING: Final = "RevisionMissing"
#: Reason of a Route that was reconciled before it could see the Configuration, which is created with it (the same package,
#: MarkMissingTrafficTarget).
CONFIGURATION_MISSING: Final = "ConfigurationMissing"
#: Reason of a Knative Service whose Configuration has not processed the newest generation: what it says about revisions is
#: about those before (the same package, service_lifecycle.go, MarkConfigurationNotReconciled).
OUT_OF_DATE: Final = "OutOfDate"
#: The API server's words about an object that no retry makes valid (k8s.io/apimachinery pkg/api/errors, NewInvalid).
INVALID: Final = " is invalid: "
#: The API server's reason for rejecting an object (k8s.io/apiserver pkg/admission/plugin/namespace/lifecycle/admission.go).
NAMESPACE_ENDS: Final = "because it is being terminated"
#: The kinds whose pods may belong to a Deployment of KServe.
STANDARD: Final = frozenset({KSERVE.name, LLM.name})


def compute_phase(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    """Return the phase and its reason, by the first rule that matches."""
    metadata = live.top["metadata"]
    active = [pod for pod in live.pods if get_at(pod, "status", "phase") not in {"Succeeded", "Failed"}]
    if "deletionTimestamp" in metadata:
        return "Deleting", f"the workload is being deleted{_describe_terminating(active)}"
    if get_at(metadata, "annotations", keys.STOP) == "true":
        if active:
            return "Stopping", f"the workload is being suspended{_describe_terminating(active)}"
        fix = "with ebbtide resume" if live.top["kind"] != LLM.name else f"by removing the annotation {keys.STOP}"
        return "Stopped", f"suspended; start it {fix}"
    if of_pod.find_condition(live.top, "Stopped").get("status") == "True":
        return "Resuming", "resume requested; KServe has not processed it yet"
    if live.service is None and live.top["kind"] in STANDARD and not _in_knative_mode(live):
        return _phase_of_standard(live, replicas)
    return _phase_of_knative(live, replicas)


def _describe_terminating(pods: list[Object]) -> str:
    return f"; {count_noun(len(pods), 'pod')} {'is' if len(pods) == 1 else 'are'} still terminating" if pods else ""


def _phase_of_knative(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    service = live.service
    serving = get_at(service, "status", "latestReadyRevisionName", default="")
    newest = get_at(service, "status", "latestCreatedRevisionName", default="")
    changing: Phase = "Updating" if serving else "Creating"
    ready = of_pod.find_condition(live.top, "Ready")
    if service is None or not ready or _is_stale(service):
        message = of_revision.condition_message(ready)
        if ready.get("status") == "False" and message:
            # KServe could not create the Knative Service.
            return ("Degraded" if serving else "Failed"), message
        return changing, "Knative has not processed the change yet"
    if of_pod.find_condition(service, "Ready").get("reason") == CONFIGURATION_MISSING:
        return changing, "Knative has not routed to the new configuration yet"
    if ready.get("status") == "True":
        return _phase_of_ready(live, replicas)
    if serving == newest and serving and live.revisions:
        failed = of_pod.find_condition(find_by_name(live.revisions, newest) or {}, "Ready").get("status") == "False"
        if failed and (of_revision.list_revision_pods(live, newest) or of_revision.find_trouble(live, newest)):
            # The revision was ready, and has lost its pods since.
            return _phase_of_ready(live, replicas)
        # The revision is ready, but the route to it is not.
        routes = (of_pod.find_condition(live.top, kind) for kind in ("RoutesReady", "IngressReady"))
        route = next(filter(None, routes), ready)
        message = of_revision.condition_message(route) or of_revision.condition_message(ready)
        # KServe's conditions lag a few seconds behind and have no message until then. A route that misses a revision has not
        # seen yet that the revision is ready.
        if ready.get("status") == "False" and message and route.get("reason") != REVISION_MISSING:
            return "Degraded", f"the revision is ready, but traffic cannot be routed to it: {message}"
        return "Initializing", f"the route is being set up{f': {message}' if message else ''}"
    pod_trouble = of_revision.find_trouble(live, newest)
    trouble = pod_trouble.words if pod_trouble is not None else ""
    pinned = _describe_pin(live)
    if pinned and of_pod.find_condition(service, "RoutesReady").get("status") == "True":
        # The user has ended the rollout of the newest revision.
        return "Running", join_parts(pinned, f"revision {newest} is not ready{f': {trouble}' if trouble else ''}")
    failing = pod_trouble is not None and pod_trouble.kind in of_pod.FAILING
    if ready.get("status") == "False":
        recovery = of_revision.explain_recovery(live, newest)
        # Knative may still name the wait for a node although the pod has one and fails there.
        if recovery and not failing:
            if serving:
                return _phase_of_update(live, serving, "Updating", f"revision {newest}: {trouble or recovery}")
            blocked = trouble or not of_revision.list_revision_pods(live, newest)
            return ("Pending" if blocked else "Initializing"), trouble or recovery
        failure = (
            ""
            if recovery
            else trouble or of_revision.explain_failure(live, newest) or of_revision.condition_message(ready)
        )
        if failure and serving:
            return _phase_of_update(live, serving, "Degraded", f"revision {newest} failed: {failure}")
        # A failure has a reason; without one the revision has only just been created.
        if failure:
            return "Failed", failure
    if serving and failing:
        return _phase_of_update(live, serving, "Degraded", f"revision {newest} fails: {trouble}")
    if serving:
        progress = trouble or of_revision.describe_progress(live, newest)
        return _phase_of_update(live, serving, "Updating", f"revision {newest}: {progress}")
    return ("Failed", trouble) if failing else _phase_of_first_start(live, newest, trouble)


def _phase_of_update(live: LiveWorkload, latest: str, phase: Phase, words: str) -> tuple[Phase, str]:
    """Return the phase during or after an update: its own, or that of the revision with the traffic, if no pod of it is ready."""
    shares = of_revision.traffic_shares(live)
    serving = latest if latest in shares or not shares else next(iter(shares))
    pods = of_revision.list_revision_pods(live, serving)
    if any(map(of_pod.is_ready, pods)):
        return phase, f"{words}; {serving} {'serves until it is ready' if phase == 'Updating' else 'still serves'}"
    if find_by_name(live.revisions, serving) is None:
        return "Degraded", f"revision {serving}, which has the traffic, does not exist; {words}"
    if (trouble := of_revision.find_trouble(live, serving)) is not None:
        own: Phase = "Pending" if trouble.kind == "unschedulable" else "Degraded"
        return own, f"{serving}, which has the traffic, has no ready replica: {trouble.words}; {words}"
    if not pods and desired_replicas(live, serving) == 0:
        return phase, f"{words}; {serving} is scaled to zero; the next request starts a replica"
    progress = of_revision.describe_progress(live, serving)
    return "Resuming", f"{serving}, which has the traffic, has no ready replica: {progress}; {words}"


def _phase_of_first_start(live: LiveWorkload, newest: str, trouble: str) -> tuple[Phase, str]:
    pods = of_revision.list_revision_pods(live, newest)
    if trouble and not any(get_at(pod, "spec", "nodeName") for pod in pods):
        return "Pending", trouble
    if pods:
        return "Initializing", trouble or of_revision.describe_progress(live, newest)
    if newest:
        return "Creating", "the revision exists, but has no pods yet"
    message = of_revision.condition_message(of_pod.find_condition(live.top, "Ready"))
    return "Creating", message or "Knative is creating the first revision"


def _phase_of_ready(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    """Return the phase of a workload with a true Ready condition, which does not cover every pod."""
    pinned = join_parts(_describe_pin(live), describe_blind_hpa(live, replicas))
    current = of_revision.list_current_revisions(live)
    pod_trouble = next(filter(None, (of_revision.find_trouble(live, name) for name in current)), None)
    trouble = pod_trouble.words if pod_trouble is not None else ""
    unscheduled = pod_trouble is not None and pod_trouble.kind == "unschedulable"
    if NAMESPACE_ENDS in trouble:
        return "Deleting", f"namespace {live.namespace} is being deleted"
    if replicas.wanted == 0 and replicas.ready == 0:
        return "Running", join_parts("scaled to zero; the next request starts a replica", pinned)
    if replicas.ready == 0:
        if trouble:
            return ("Pending" if unscheduled else "Degraded"), trouble
        return "Resuming", of_revision.describe_progress(live, next(iter(current), ""))
    if replicas.ready < replicas.wanted:
        short = f"{replicas.ready} of {replicas.wanted} replicas ready"
        if not trouble:
            return "Running", join_parts(f"{short}; the others are starting", pinned)
        enough = replicas.ready >= max(replicas.minimum, 1)
        return ("Running" if unscheduled and enough else "Degraded"), f"{short}: {trouble}"
    return "Running", pinned


def _phase_of_standard(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    """Return the phase of a workload of KServe without Knative, from its Deployment's conditions and its pods."""
    ready = of_pod.find_condition(live.top, "Ready")
    presets = of_pod.find_condition(live.top, "PresetsCombined")
    message = ""
    if presets.get("status") == "False":
        # Ready does not include it before 0.21, and nothing else is reconciled until it is true.
        message = f"KServe cannot merge its presets: {of_revision.condition_message(presets)}"
    elif INVALID in str(ready.get("message", "")) and str(ready.get("reason", "")).startswith("Reconcile"):
        message = of_revision.condition_message(ready)
    if message:
        return ("Degraded" if replicas.ready else "Failed"), message
    if live.top["kind"] == LLM.name and _is_behind(live.top):
        return ("Updating" if replicas.ready else "Creating"), "KServe has not processed the change yet"
    if not live.deployments:
        message = of_revision.condition_message(ready)
        if ready.get("status") == "False" and message:
            return "Failed", message
        return "Creating", "KServe is creating the Deployment"
    deployment = live.deployments[0]
    if replicas.ready and _is_behind(deployment):
        return "Updating", "the Deployment has not processed the change yet"
    pod_trouble = of_revision.find_trouble(live, "")
    trouble = pod_trouble.words if pod_trouble is not None else ""
    progressing = of_pod.find_condition(deployment, "Progressing")
    late = progressing.get("reason") == of_revision.PROGRESS_DEADLINE
    updated = get_at(deployment, "status", "updatedReplicas", default=0)
    # An older replica serves until a new one is ready (k8s.io/kubectl pkg/polymorphichelpers/rollout_status.go).
    updating = updated < max(replicas.wanted, get_at(deployment, "status", "replicas", default=0))
    failing = pod_trouble is not None and pod_trouble.kind in of_pod.FAILING
    if replicas.ready == 0 and replicas.wanted:
        if late or failing:
            return "Failed", trouble or of_revision.condition_message(progressing)
        if trouble and not any(get_at(pod, "spec", "nodeName") for pod in live.pods):
            return "Pending", trouble
        return "Initializing", trouble or of_revision.describe_progress(live, "")
    if updating or get_at(deployment, "status", "unavailableReplicas", default=0):
        if late or (updating and failing):
            return "Degraded", trouble or of_revision.condition_message(progressing)
        if updating:
            return "Updating", trouble or of_revision.describe_progress(live, "")
    if ready.get("status") != "True" and not _serves_partly(live, replicas):
        return "Initializing", of_revision.condition_message(ready) or "the route is being set up"
    return _phase_of_ready(live, replicas)


def _serves_partly(live: LiveWorkload, replicas: Replicas) -> bool:
    """Return whether an LLMInferenceService serves and is not ready: some replicas are not, or KServe could not check it again."""
    route, pods, presets = (
        of_pod.find_condition(live.top, kind).get("status")
        for kind in ("RouterReady", "WorkloadsReady", "PresetsCombined")
    )
    if presets == "Unknown":
        return (route, pods) == ("True", "True")
    # With all of them ready, KServe has only not noticed it yet.
    return 0 < replicas.ready < replicas.wanted and (route, pods) == ("True", "False")


def _in_knative_mode(live: LiveWorkload) -> bool:
    mode = get_at(live.top, "metadata", "annotations", keys.DEPLOYMENT_MODE) or get_at(
        live.top, "status", "deploymentMode"
    )
    return mode in {"Knative", "Serverless"} and not live.deployments


def _is_behind(obj: Object) -> bool:
    """Return whether a controller reports that it has processed an older generation of an object than the newest."""
    observed = get_at(obj, "status", "observedGeneration")
    return observed is not None and observed != get_at(obj, "metadata", "generation", default=observed)


def _is_stale(obj: Object) -> bool:
    """Return whether the controller has not processed the newest generation of a Knative Service.

    The observedGeneration of an InferenceService is of no use: in Knative mode KServe copies that of the Knative Service
    (pkg/apis/serving/v1beta1/inference_service_status.go, PropagateStatus).
    """
    return _is_behind(obj) or of_pod.find_condition(obj, "ConfigurationsReady").get("reason") == OUT_OF_DATE


def _describe_pin(live: LiveWorkload) -> str:
    rows = get_at(live.service, "spec", "traffic", default=[])
    pinned = [row for row in rows if row.get("revisionName") and (row.get("percent") or 0)]
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    if len(pinned) == 1 and pinned[0].get("percent") == 100 and pinned[0]["revisionName"] != newest:  # noqa: PLR2004 - all
        return f"all traffic is pinned to {pinned[0]['revisionName']} until the next apply"
    return ""


def join_parts(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
