"""Status of a workload: its phase with Run:ai's names, the reason, replicas, metric, URL, age and GPUs.

Pure functions of the objects that were read (``inventory.Live``), including the time. Phases are those of Run:ai's REST
schema (runapy .generator/swagger.json, ``Phase``); Ebbtide derives them from Knative's and KServe's conditions and from the
pods. Upstream: knative.dev/serving pkg/apis/serving/v1/{service,revision}_lifecycle.go,
pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go, kserve pkg/apis/serving/v1beta1/inference_service_status.go, and
k8s.io/kubernetes pkg/scheduler/framework/types.go (messages of FitError).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from ebbtide.autoscaler import targets
from ebbtide.autoscaler.floor import FloorError, FloorSettings, read_settings
from ebbtide.base import keys, metrics
from ebbtide.base.annotations import (
    UnreadableError,
    parse_count,
    parse_finite,
    read_annotation,
    read_name,
    read_setting,
    read_spec,
)
from ebbtide.base.bodies import WrittenBy, body
from ebbtide.base.failures import report_failure
from ebbtide.base.paths import get_at
from ebbtide.base.prose import count_noun
from ebbtide.base.quantities import NANO, format_number, parse_nano
from ebbtide.cluster.client.protocol import KSERVE, LLM
from ebbtide.cluster.read import amounts, inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import KUEUE_WORKLOAD
from ebbtide.cluster.read.records import find_unreadable, read_desired_scale, read_scale_record
from ebbtide.slo.source import Ref
from ebbtide.translation import gpu

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.read.inventory import LiveWorkload, ResourceSupply
    from ebbtide.slo.source import MetricsSource
    from ebbtide.translation.objects import Object

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
#: Phases that end a wait, unless Kubernetes repeats an attempt that may still succeed.
SETTLED: Final = {"Running", "Failed", "Stopped", "Degraded"}

#: The reason of the event of a pod for which KAI cannot create a pod group.
UNGROUPED: Final = "PodGrouperWarning"
#: The start of Kueue's reason for a pod, which has one set of pods.
FLAVORLESS: Final = re.compile(r"^couldn't assign flavors to pod set \S+: ")
INSUFFICIENT: Final = re.compile(r"(\d+) Insufficient ([\w/-]+(?:\.[\w/-]+)*)")
#: KAI's message about a pod beyond the quota of its queue (pkg/scheduler/api/unschedule_info.go).
OVER_QUOTA: Final = re.compile(
    r"Workload requested (?P<asked>[\d.]+) (?P<unit>GPUs|CPU cores|GB memory), but (?P<queue>\S+) quota is "
    r"(?P<hard>[\d.]+) \w+, while (?P<used>[\d.]+) \w+ are already allocated for non-preemptible pods"
)
EXCEEDED: Final = re.compile(
    r"exceeded quota: (?P<quota>[\w.-]+), requested: (?P<asked>\S+), used: (?P<used>\S+), limited: (?P<hard>\S+)"
)
IMAGE: Final = re.compile(r'Unable to fetch image "(?P<image>[^"]+)": (?P<cause>.+)', re.DOTALL)
#: Go's errors for a registry that is limited to TLS 1.2. Since Knative 1.21.2, its controller requires TLS 1.3 of registries
#: (knative.dev/serving pkg/reconciler/revision/resolve.go, knative.dev/pkg network/tls).
OLD_TLS: Final = re.compile(r"tls: (?:protocol version not supported|server selected unsupported protocol version)")
CLASS_MISSING: Final = re.compile(r"no PriorityClass with name (\S+) was found")
#: Scheduler messages about unsuitable nodes, and their explanations.
UNFIT: Final = (
    (
        "didn't match Pod's node affinity/selector",
        "no node has the labels that the workload requires (node pool or node type)",
    ),
    ("untolerated taint", "the matching nodes have taints that the workload does not tolerate"),
    ("didn't have free ports", "the port is in use on every node"),
    ("unbound immediate PersistentVolumeClaims", "its volume claim is not bound: no matching volume"),
    ("volume node affinity conflict", "its volume is on another node"),
    ("didn't match pod anti-affinity rules", "each node already has a replica, and the workload allows one per node"),
    ("unschedulable", "the nodes are cordoned"),
)
#: Seconds for which an HPA may have no value before that is trouble: several scrapes and evaluations.
BLIND_SECONDS: Final = 45.0
PROGRESS_DEADLINE: Final = "ProgressDeadlineExceeded"
#: Reasons of a pod, and so of its revision, that no node has yet (kubernetes pkg/apis/core/types.go, PodReasonUnschedulable
#: and PodReasonSchedulingGated).
UNSCHEDULED: Final = {"Unschedulable", "SchedulingGated"}
#: Reason of a Route whose Configuration had no ready revision when it was reconciled, also after a failed first attempt
#: (knative.dev/serving pkg/apis/serving/v1/route_lifecycle.go, MarkConfigurationFailed).
REVISION_MISSING: Final = "RevisionMissing"
#: Reason of a Route that was reconciled before it could see the Configuration, which is created with it (the same package,
#: MarkMissingTrafficTarget).
CONFIGURATION_MISSING: Final = "ConfigurationMissing"
#: Reason of a Knative Service whose Configuration has not processed the newest generation: what it says about revisions is
#: about those before (the same package, service_lifecycle.go, MarkConfigurationNotReconciled).
OUT_OF_DATE: Final = "OutOfDate"
#: Knative's default of progress-deadline, in seconds (knative.dev/serving pkg/deployment/config.go).
DEFAULT_DEADLINE_SECONDS: Final = 600.0
#: Seconds for which a pod may fail to pull an image or exit before its revision counts as failed during a rollout.
PATIENCE_SECONDS: Final = 60.0
#: The metrics' names in Knative's annotations.
KNATIVE_METRICS: Final = {row.knative for row in metrics.ROWS.values()}
#: Explanations of a condition with status True, Unknown and False.
CONDITIONS: Final[dict[str, tuple[str, str, str]]] = {
    "Ready": ("the workload is ready", "the workload is not ready yet", "the workload is not ready"),
    "ConfigurationsReady": (
        "the latest revision is ready",
        "the latest revision is not ready yet",
        "the latest revision failed",
    ),
    "RoutesReady": (
        "traffic is routed to the workload",
        "traffic is not routed to the workload yet",
        "traffic cannot be routed to the workload",
    ),
    "PredictorReady": ("the predictor is ready", "the predictor is not ready yet", "the predictor is not ready"),
    # KServe does not check whether a route exists, or whether a replica is ready.
    "IngressReady": (
        "KServe has configured the ingress",
        "KServe has not configured the ingress yet",
        "KServe cannot configure the ingress",
    ),
    "Stopped": ("the workload is suspended", "", ""),
    # The conditions of an LLMInferenceService (kserve pkg/apis/serving/v1alpha2/llm_inference_service_lifecycle.go).
    "PresetsCombined": (
        "KServe has merged its presets",
        "KServe has not merged its presets yet",
        "KServe cannot merge its presets",
    ),
    "WorkloadsReady": ("the server is ready", "the server is not ready yet", "the server is not ready"),
    "MainWorkloadReady": (
        "the Deployment is available",
        "the Deployment is not available yet",
        "the Deployment is not available",
    ),
    "PrefillWorkloadReady": (
        "the prefill Deployment is available",
        "the prefill Deployment is not available yet",
        "the prefill Deployment is not available",
    ),
    "ScalingReady": (
        "KServe's autoscaler is ready",
        "KServe's autoscaler is not ready yet",
        "KServe's autoscaler is not ready",
    ),
    "RouterReady": ("the route is ready", "the route is not ready yet", "the route is not ready"),
    "GatewaysReady": ("the gateway is ready", "the gateway is not ready yet", "the gateway is not ready"),
    "HTTPRoutesReady": (
        "the gateway has accepted the route",
        "the gateway has not accepted the route yet",
        "the gateway has not accepted the route",
    ),
    "InferencePoolReady": (
        "the gateway has accepted the pool of replicas",
        "the gateway has not accepted the pool of replicas yet",
        "the gateway has not accepted the pool of replicas",
    ),
    "SchedulerWorkloadReady": (
        "the endpoint picker is ready",
        "the endpoint picker is not ready yet",
        "the endpoint picker is not ready",
    ),
}


def _round_seconds(value: float) -> int:
    return round(value)


#: Serialized as a whole number.
Seconds: TypeAlias = Annotated[float, WrittenBy(_round_seconds)]


@body()
class Condition:
    """One condition with its explanation. ``holds`` is null while it is unknown."""

    name: str
    holds: bool | None
    words: str
    since_seconds: Seconds


@body()
class Replicas:
    """Numbers of ready, desired, minimum and maximum replicas; ``maximum`` 0 means unlimited."""

    ready: int
    wanted: int
    minimum: int
    maximum: int

    def __str__(self) -> str:
        """Return the compact form: ``1/2 (0..4)``."""
        bounds = f"{self.minimum}..{self.maximum or ''}" if self.minimum != self.maximum else f"{self.minimum}"
        return f"{self.ready}/{self.wanted} ({bounds})"


@body("name target now")
class ScalingMetric:
    """The scaling metric: its name, the target per replica, and its current value if the cluster reports it."""

    name: str
    target: str
    now: str = ""
    #: The value that the autoscaler aims at, if it differs from the target: the KPA multiplies by the target utilization.
    aim: str = ""

    def __str__(self) -> str:
        """Return the compact form: ``concurrency -/10``."""
        return f"{self.name} {self.now or '-'}/{self.target}"


@body()
class RevisionRow:
    """One revision: its share of the traffic in percent, its replicas, and its state."""

    name: str
    traffic_percent: int
    ready: int
    wanted: int
    words: str
    age_seconds: Seconds


@body()
class PodRow:
    """One pod: its node and its state."""

    name: str
    node: str
    ready: bool
    words: str
    restarts: int
    age_seconds: Seconds


@body()
class Status:
    """The status of one workload."""

    name: str
    namespace: str
    project: str
    kind: str
    phase: Phase
    why: str
    replicas: Replicas
    gpus: str
    #: Sum of the pods' requests.
    cpu_cores: float
    memory_bytes: float
    metric: ScalingMetric | None
    url: str
    age_seconds: Seconds
    conditions: tuple[Condition, ...]
    revisions: tuple[RevisionRow, ...]
    pods: tuple[PodRow, ...]
    #: Manual overrides on the live object that are not in its spec.
    by_hand: tuple[str, ...] = ()
    #: False while the phase may change without an edit of the workload.
    settled: bool = False
    #: The custom resource that the workload belongs to, as ``Inference chat``; empty without one.
    owner: str = ""


def add_current_loads(statuses: Sequence[Status], source: MetricsSource, when: float) -> list[Status]:
    """Return statuses with the current value of each scaling metric, where the cluster does not report it.

    Sends one query for all of them. Raises SourceError if the source cannot answer.
    """
    refs = [Ref(state.namespace, state.name) for state in statuses if state.metric is not None and not state.metric.now]
    loads = source.loads(refs, when) if refs else {}
    return [_add_current_load(state, loads.get(Ref(state.namespace, state.name))) for state in statuses]


def _add_current_load(state: Status, load: float | None) -> Status:
    if load is None or state.metric is None or state.metric.now:
        return state
    return replace(state, metric=replace(state.metric, now=format_number(round(load, 2))))


def compute_status(live: LiveWorkload) -> Status:
    """Return a workload's status; one that cannot be computed has the phase Unknown, and does not end a list."""
    try:
        return _compute_status(live)
    except Exception as error:  # noqa: BLE001 - one workload must not hide the others
        return _make_unreadable_status(live, report_failure(live.namespace, live.name, error))


def _make_unreadable_status(live: LiveWorkload, why: str) -> Status:
    project = get_at(live.top, "metadata", "labels", keys.PROJECT, default="")
    return Status(
        name=live.name,
        namespace=live.namespace,
        project=str(project),
        kind=_name_kind(live),
        phase="Unknown",
        why=why,
        replicas=Replicas(0, 0, 0, 0),
        gpus="",
        cpu_cores=0.0,
        memory_bytes=0.0,
        metric=None,
        url="",
        age_seconds=0.0,
        conditions=(),
        revisions=(),
        pods=(),
    )


def _name_kind(live: LiveWorkload) -> str:
    return "Knative Service" if live.top["kind"] == "Service" else str(live.top["kind"])


def _compute_status(live: LiveWorkload) -> Status:
    metadata = live.top["metadata"]
    labels = metadata.get("labels") or {}
    replicas = compute_replicas(live)
    phase, why = compute_phase(live, replicas)
    retried = phase in {"Failed", "Degraded"} and any(
        _is_retried(live, name) for name in list_current_revisions(live)[:1]
    )
    return Status(
        name=live.name,
        namespace=live.namespace,
        project=labels.get(keys.PROJECT, ""),
        kind=_name_kind(live),
        phase=phase,
        why=_join_parts(why, *find_unreadable(live)),
        replicas=replicas,
        gpus=format_gpus(live),
        cpu_cores=_sum_pod_requests(live, "cpu"),
        memory_bytes=_sum_pod_requests(live, "memory"),
        metric=find_scaling_metric(live),
        url=get_at(live.top, "status", "url") or get_at(live.service, "status", "url", default=""),
        age_seconds=_object_age(live, metadata),
        conditions=tuple(_make_condition_rows(live)),
        revisions=tuple(_make_revision_rows(live)),
        pods=tuple(_make_pod_rows(live)),
        by_hand=tuple(_describe_overrides(live)),
        settled=phase in SETTLED and not retried,
        owner=inventory.describe_resource_owner(live.top),
    )


def _is_retried(live: LiveWorkload, revision: str) -> bool:
    """Return whether a failure is of a kind that the kubelet's next attempt may end: a pull, or the first crashes."""
    reason = _find_revision_ready(live, revision).get("reason")
    trouble = _find_trouble(live, revision)
    return (
        reason != PROGRESS_DEADLINE and trouble is not None and trouble.kind in of_pod.FAILING and not trouble.lasting
    )


# The phase.


def compute_phase(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    """Return the phase and its reason, by the first rule that matches."""
    metadata = live.top["metadata"]
    active = [pod for pod in live.pods if get_at(pod, "status", "phase") not in {"Succeeded", "Failed"}]
    if "deletionTimestamp" in metadata:
        return "Deleting", f"the workload is being deleted{_describe_terminating(active)}"
    if get_at(metadata, "annotations", keys.STOP) == "true":
        if active:
            return "Stopping", f"the workload is being suspended{_describe_terminating(active)}"
        return "Stopped", "suspended; start it with ebbtide resume"
    if of_pod.find_condition(live.top, "Stopped").get("status") == "True":
        return "Resuming", "resume requested; KServe has not processed it yet"
    if live.service is None and live.top["kind"] in STANDARD and not _in_knative_mode(live):
        return _phase_of_standard(live, replicas)
    return _phase_of_knative(live, replicas)


def _describe_terminating(pods: list[Object]) -> str:
    return f"; {count_noun(len(pods), 'pod')} {'is' if len(pods) == 1 else 'are'} still terminating" if pods else ""


def _phase_of_knative(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    top, service = live.top, live.service
    serving = get_at(service, "status", "latestReadyRevisionName", default="")
    newest = get_at(service, "status", "latestCreatedRevisionName", default="")
    ready = of_pod.find_condition(top, "Ready")
    if service is None or not ready or _is_stale(service):
        message = _condition_message(ready)
        if ready.get("status") == "False" and message:
            # KServe could not create the Knative Service.
            return ("Degraded" if serving else "Failed"), message
        return ("Updating" if serving else "Creating"), "Knative has not processed the change yet"
    if of_pod.find_condition(service, "Ready").get("reason") == CONFIGURATION_MISSING:
        return ("Updating" if serving else "Creating"), "Knative has not routed to the new configuration yet"
    if ready.get("status") == "True":
        return _phase_of_ready(live, replicas)
    if serving == newest and serving and live.revisions:
        # The revision is ready, but the route to it is not.
        route = of_pod.find_condition(top, "RoutesReady") or of_pod.find_condition(top, "IngressReady") or ready
        message = _condition_message(route) or _condition_message(ready)
        # KServe's conditions lag a few seconds behind and have no message until then. A route that misses a revision has not
        # seen yet that the revision is ready.
        if ready.get("status") == "False" and message and route.get("reason") != REVISION_MISSING:
            return "Degraded", f"the revision is ready, but traffic cannot be routed to it: {message}"
        return "Initializing", f"the route is being set up{f': {message}' if message else ''}"
    pod_trouble = _find_trouble(live, newest)
    trouble = pod_trouble.words if pod_trouble is not None else ""
    pinned = _describe_pin(live)
    if pinned and of_pod.find_condition(service, "RoutesReady").get("status") == "True":
        # The user has ended the rollout of the newest revision.
        return "Running", _join_parts(pinned, f"revision {newest} is not ready{f': {trouble}' if trouble else ''}")
    failing = pod_trouble is not None and pod_trouble.kind in of_pod.FAILING
    if ready.get("status") == "False":
        recovery = _explain_recovery(live, newest)
        # Knative may still name the wait for a node although the pod has one and fails there.
        if recovery and not failing:
            if serving:
                return "Updating", f"revision {newest}: {trouble or recovery}; {serving} serves until it is ready"
            blocked = trouble or not _list_revision_pods(live, newest)
            return ("Pending" if blocked else "Initializing"), trouble or recovery
        failure = "" if recovery else trouble or _explain_failure(live, newest) or _condition_message(ready)
        if failure and serving:
            return "Degraded", f"revision {newest} failed: {failure}; {serving} still serves"
        # A failure has a reason; without one the revision has only just been created.
        if failure:
            return "Failed", failure
    if serving and failing:
        return "Degraded", f"revision {newest} fails: {trouble}; {serving} still serves"
    if serving:
        progress = trouble or _describe_progress(live, newest)
        return "Updating", f"revision {newest}: {progress}; {serving} serves until it is ready"
    return ("Failed", trouble) if failing else _phase_of_first_start(live, newest, trouble)


def _phase_of_first_start(live: LiveWorkload, newest: str, trouble: str) -> tuple[Phase, str]:
    pods = _list_revision_pods(live, newest)
    if trouble and not any(get_at(pod, "spec", "nodeName") for pod in pods):
        return "Pending", trouble
    if pods:
        return "Initializing", trouble or _describe_progress(live, newest)
    if newest:
        return "Creating", "the revision exists, but has no pods yet"
    return "Creating", _condition_message(
        of_pod.find_condition(live.top, "Ready")
    ) or "Knative is creating the first revision"


def _phase_of_ready(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    """Return the phase of a workload with a true Ready condition, which does not cover every pod."""
    pinned = _join_parts(_describe_pin(live), describe_blind_hpa(live, replicas))
    trouble = next(filter(None, (_explain_trouble(live, name) for name in list_current_revisions(live))), "")
    if replicas.wanted == 0 and replicas.ready == 0:
        return "Running", _join_parts("scaled to zero; the next request starts a replica", pinned)
    if replicas.ready == 0:
        if trouble:
            unscheduled = any(is_unscheduled(pod) for pod in live.pods)
            return ("Pending" if unscheduled else "Degraded"), trouble
        return "Resuming", _describe_progress(
            live, list_current_revisions(live)[0] if list_current_revisions(live) else ""
        )
    if replicas.ready < replicas.wanted:
        short = f"{replicas.ready} of {replicas.wanted} replicas ready"
        if trouble and replicas.ready < max(replicas.minimum, 1):
            return "Degraded", f"{short}: {trouble}"
        if trouble:
            unscheduled = any(is_unscheduled(pod) for pod in live.pods)
            return ("Running" if unscheduled else "Degraded"), f"{short}: {trouble}"
        return "Running", _join_parts(f"{short}; the others are starting", pinned)
    return "Running", _join_parts("", pinned)


def _phase_of_standard(live: LiveWorkload, replicas: Replicas) -> tuple[Phase, str]:
    """Return the phase of a workload of KServe without Knative, from its Deployment's conditions and its pods."""
    ready = of_pod.find_condition(live.top, "Ready")
    presets = of_pod.find_condition(live.top, "PresetsCombined")
    if presets.get("status") == "False":
        # Ready does not include it, and nothing else is reconciled until it is true.
        return (
            "Degraded" if replicas.ready else "Failed"
        ), f"KServe cannot merge its presets: {_condition_message(presets)}"
    if live.top["kind"] == LLM.name and _is_behind(live.top):
        return ("Updating" if replicas.ready else "Creating"), "KServe has not processed the change yet"
    if not live.deployments:
        message = _condition_message(ready)
        if ready.get("status") == "False" and message:
            return "Failed", message
        return "Creating", "KServe is creating the Deployment"
    deployment = live.deployments[0]
    if replicas.ready and _is_behind(deployment):
        return "Updating", "the Deployment has not processed the change yet"
    pod_trouble = _find_trouble(live, "")
    trouble = pod_trouble.words if pod_trouble is not None else ""
    failure = of_pod.find_condition(deployment, "ReplicaFailure")
    if failure.get("status") == "True":
        trouble = trouble or explain_rejection(_condition_message(failure))
    late = of_pod.find_condition(deployment, "Progressing").get("reason") == PROGRESS_DEADLINE
    updated = get_at(deployment, "status", "updatedReplicas", default=0)
    # An older replica serves until a new one is ready (k8s.io/kubectl pkg/polymorphichelpers/rollout_status.go).
    updating = updated < max(replicas.wanted, get_at(deployment, "status", "replicas", default=0))
    failing = pod_trouble is not None and pod_trouble.kind in of_pod.FAILING
    if replicas.ready == 0 and replicas.wanted:
        if late or failing:
            return "Failed", trouble or _condition_message(of_pod.find_condition(deployment, "Progressing"))
        if trouble and not any(get_at(pod, "spec", "nodeName") for pod in live.pods):
            return "Pending", trouble
        return "Initializing", trouble or _describe_progress(live, "")
    if updating or get_at(deployment, "status", "unavailableReplicas", default=0):
        if late or (updating and failing):
            return "Degraded", trouble or _condition_message(of_pod.find_condition(deployment, "Progressing"))
        if updating:
            return "Updating", trouble or _describe_progress(live, "")
    if ready.get("status") != "True" and not _serves_partly(live, replicas):
        return "Initializing", _condition_message(ready) or "the route is being set up"
    return _phase_of_ready(live, replicas)


def _serves_partly(live: LiveWorkload, replicas: Replicas) -> bool:
    """Return whether an LLMInferenceService is not ready only because some of its replicas are not."""
    route, pods = (of_pod.find_condition(live.top, kind).get("status") for kind in ("RouterReady", "WorkloadsReady"))
    # With all of them ready, KServe has only not noticed it yet.
    return 0 < replicas.ready < replicas.wanted and (route, pods) == ("True", "False")


#: The kinds whose pods may belong to a Deployment of KServe.
STANDARD: Final = frozenset({KSERVE.name, LLM.name})


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


def _condition_message(condition: Object) -> str:
    """Return a condition's message, reworded if Ebbtide knows it."""
    text = str(condition.get("message") or "").strip()
    return explain_rejection(text) if text else ""


def _explain_failure(live: LiveWorkload, revision: str) -> str:
    """Return why a revision failed, from its Ready condition and its pods."""
    ready = _find_revision_ready(live, revision)
    if ready.get("reason") == PROGRESS_DEADLINE:
        failed = inventory.find_by_name(live.revisions, revision)
        waiting = [pod for pod in _list_revision_pods(live, revision) if not of_pod.is_ready(pod)]
        progress = of_pod.describe_startup(waiting[0]) if waiting else "no replica became ready"
        known = read_setting(failed, keys.PROGRESS_DEADLINE) is not None
        limit = read_annotation(failed, keys.PROGRESS_DEADLINE) if known else "the progress deadline"
        return f"not ready within {limit}; {progress}"
    return _condition_message(ready)


def _explain_recovery(live: LiveWorkload, revision: str) -> str:
    """Return what a revision waits for although Knative marks it as failed; empty if it really failed.

    Knative marks a revision as failed as soon as a pod is unschedulable, has a scheduling gate, or is rejected by a quota.
    All of these are retried, and the revision becomes ready once they succeed. The mark may also be outdated: the pod may have been scheduled since.
    """
    ready = _find_revision_ready(live, revision)
    message = str(ready.get("message", ""))
    if ready.get("status") in {"True", "Unknown"}:
        # The Configuration has not seen yet that its revision recovered.
        return _describe_progress(live, revision)
    if ready.get("reason") in UNSCHEDULED:
        return _describe_progress(live, revision)
    if "exceeded quota" in message:
        return (
            explain_rejection(message)
            if not _list_revision_pods(live, revision)
            else _describe_progress(live, revision)
        )
    return ""


def _explain_trouble(live: LiveWorkload, revision: str) -> str:
    """Return what prevents a revision's pods from becoming ready; empty if they only need time."""
    trouble = _find_trouble(live, revision)
    return trouble.words if trouble is not None else ""


def _find_trouble(live: LiveWorkload, revision: str) -> of_pod.PodTrouble | None:
    """Return what prevents a revision's pods from becoming ready, or None if they only need time."""
    for pod in _list_revision_pods(live, revision):
        if of_pod.is_ready(pod):
            continue
        trouble = _find_pod_trouble(pod, live)
        if trouble is not None and trouble.kind == "unschedulable":
            return trouble._replace(words=explain_unschedulable(trouble.words, pod, live))
        if trouble is not None:
            return trouble
        failed = _find_revision_ready(live, revision).get("status") == "False"
        if failed and (crash := of_pod.find_earlier_crash(pod)):
            return crash
    for deployment in live.deployments:
        if revision and not deployment["metadata"]["name"].startswith(revision):
            continue
        failure = of_pod.find_condition(deployment, "ReplicaFailure")
        if failure.get("status") == "True":
            return of_pod.PodTrouble("rejected", explain_rejection(_condition_message(failure)))
    for event in reversed(live.events):
        # A Deployment reports late that it cannot create pods; the events of its ReplicaSet report it immediately.
        about = get_at(event, "involvedObject", "name", default="")
        if (
            event.get("reason") == "FailedCreate"
            and about.startswith(revision)
            and not _list_revision_pods(live, revision)
        ):
            return of_pod.PodTrouble("rejected", explain_rejection(str(event.get("message", ""))))
    return None


def _find_revision_ready(live: LiveWorkload, revision: str) -> Object:
    """Return the Ready condition of a revision, or an empty dict."""
    found = inventory.find_by_name(live.revisions, revision)
    return of_pod.find_condition(found, "Ready") if found is not None else {}


def _find_pod_trouble(pod: Object, live: LiveWorkload) -> of_pod.PodTrouble | None:
    """Return the problem of a pod, or of the group in which KAI schedules it: without a group, it waits indefinitely.

    Upstream: KAI-Scheduler v0.17.0 pkg/podgrouper/pod_controller.go (the event), deployments/kai-scheduler/crds (a minimum
    of 1 pod in a group, which a service with scale to zero does not have).
    """
    if not get_at(pod, "spec", "nodeName") and not of_pod.find_condition(pod, "PodScheduled"):
        for event in reversed(live.events):
            involved = event.get("involvedObject", {})
            if event.get("reason") != UNGROUPED or involved.get("name") != pod["metadata"]["name"]:
                continue
            message = str(event.get("message", ""))
            empty = "spec.minMember: Invalid value: 0" in message
            if empty:
                message = (
                    "a group of a service with minReplicas 0 has no pods, which this version does not support; set "
                    "minReplicas to 1, or turn KAI's --knative-gang-schedule off"
                )
            return of_pod.PodTrouble("rejected", f"KAI cannot create the pod's group: {message}", lasting=empty)
    return of_pod.find_trouble(pod)


def find_revision_failure(live: LiveWorkload, revision: str) -> str:
    """Return why a revision will not become ready; empty if it may, because it only needs time or a device.

    An image that cannot be pulled and a container that exits count after a while, because Kubernetes retries both.
    """
    marked = inventory.find_by_name(live.revisions, revision)
    for pod in _list_revision_pods(live, revision):
        if of_pod.is_ready(pod) or is_unscheduled(pod):
            continue
        trouble, age = of_pod.find_trouble(pod), _object_age(live, pod["metadata"])
        if trouble is not None and trouble.kind in of_pod.FAILING and (trouble.lasting or age >= PATIENCE_SECONDS):
            return trouble.words
        deadline = read_setting(marked, keys.PROGRESS_DEADLINE) or DEFAULT_DEADLINE_SECONDS
        scheduled = inventory.parse_timestamp(of_pod.find_condition(pod, "PodScheduled").get("lastTransitionTime"))
        if scheduled and live.now - scheduled >= deadline:
            return f"a replica is not ready after {deadline:.0f} s; {of_pod.describe_startup(pod)}"
    ready = _find_revision_ready(live, revision)
    if ready.get("status") != "False" or _explain_recovery(live, revision):
        return ""
    # Knative marks a revision as failed at the first crash of a container.
    ages = [_object_age(live, pod["metadata"]) for pod in _list_revision_pods(live, revision)]
    if ages and max(ages) < PATIENCE_SECONDS and _is_retried(live, revision):
        return ""
    trouble = None if ready.get("reason") == PROGRESS_DEADLINE else _find_trouble(live, revision)
    return trouble.words if trouble is not None else _explain_failure(live, revision)


def _describe_progress(live: LiveWorkload, revision: str) -> str:
    """Describe the progress of a revision that is not ready."""
    waiting = [pod for pod in _list_revision_pods(live, revision) if not of_pod.is_ready(pod)]
    if waiting:
        return of_pod.describe_startup(waiting[0])
    return (
        "its replicas are ready, but Knative has not updated its status yet"
        if _list_revision_pods(live, revision)
        else "its pods are being created"
    )


def _list_revision_pods(live: LiveWorkload, revision: str) -> list[Object]:
    alive = [pod for pod in live.pods if not of_pod.has_ended(pod)]
    if not revision:
        return alive
    return [pod for pod in alive if get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == revision]


def is_unscheduled(pod: Object) -> bool:
    """Return whether a pod waits for a node that has room for it."""
    return not of_pod.has_ended(pod) and of_pod.find_condition(pod, "PodScheduled").get("status") == "False"


def list_current_revisions(live: LiveWorkload) -> list[str]:
    """Return the newest revision and those that receive requests; in Standard mode one with an empty name."""
    if live.service is None:
        return [""]
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    shares = _traffic_shares(live)
    return [name for name in dict.fromkeys([newest, *shares]) if name]


def _traffic_shares(live: LiveWorkload) -> dict[str, int]:
    shares: dict[str, int] = {}
    for row in get_at(live.service, "status", "traffic", default=[]):
        name = row.get("revisionName", "")
        shares[name] = shares.get(name, 0) + (row.get("percent") or 0)
    return {name: percent for name, percent in shares.items() if percent}


def _describe_pin(live: LiveWorkload) -> str:
    rows = get_at(live.service, "spec", "traffic", default=[])
    pinned = [row for row in rows if row.get("revisionName") and (row.get("percent") or 0)]
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    if len(pinned) == 1 and pinned[0].get("percent") == 100 and pinned[0]["revisionName"] != newest:  # noqa: PLR2004 - all
        return f"all traffic is pinned to {pinned[0]['revisionName']} until the next apply"
    return ""


def describe_blind_hpa(live: LiveWorkload, replicas: Replicas) -> str:
    """Return that an HPA cannot read its metric; empty if it can, or if the metric needs requests or ready replicas."""
    metric = find_scaling_metric(live)
    row = metrics.ROWS.get(metric.name) if metric is not None else None
    if metric is None or metric.now or not replicas.ready or (row is not None and row.source == "histogram"):
        return ""
    for hpa in live.hpas:
        active = of_pod.find_condition(hpa, "ScalingActive")
        settled = live.now - inventory.parse_timestamp(active.get("lastTransitionTime")) > BLIND_SECONDS
        if active.get("status") == "False" and str(active.get("reason", "")).startswith("FailedGet") and settled:
            return f"the HPA cannot read metric {metric.name}, so the number of replicas does not change"
    return ""


def _join_parts(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


# Explanations.


def explain_unschedulable(message: str, pod: Object, live: LiveWorkload) -> str:
    """Explain why a pod cannot be scheduled: the missing resource, its holders, and whether they can be preempted."""
    gates = [str(gate.get("name", "")) for gate in get_at(pod, "spec", "schedulingGates", default=[])]
    if gates:
        return _explain_admission(pod, live) if keys.KUEUE_GATE in gates else f"held back by gate {', '.join(gates)}"
    beyond = OVER_QUOTA.search(message)
    if beyond is not None:
        unit = beyond["unit"].removesuffix("s") if beyond["asked"] == "1" else beyond["unit"]
        return (
            f"exceeds the quota of queue {beyond['queue']}: it requests {beyond['asked']} {unit} with "
            f"{beyond['used']} of {beyond['hard']} in use by pods that cannot be preempted; only a preemptible workload can "
            "exceed the quota"
        )
    missing = [resource for _, resource in INSUFFICIENT.findall(message)]
    for resource in missing:
        if gpu.is_gpu_resource(resource):
            return _explain_gpu_wait(resource, message, pod, (live.supplies or {}).get(resource))
    if missing:
        requests = of_pod.sum_requests(pod)
        parts = ", ".join(_format_request(name, requests.get(name, 0.0)) for name in dict.fromkeys(missing))
        return f"waiting for a node with {parts} free"
    for part, explanation in UNFIT:
        if part in message:
            return f"waiting for a node: {explanation}"
    # KAI's message begins with a line feed, and ends with the dots of several sentences.
    return f"waiting for a node: {' '.join(message.partition(' preemption:')[0].split()).rstrip('.')}"


def _explain_admission(pod: Object, live: LiveWorkload) -> str:
    """Explain why Kueue has not admitted a pod, by the last event of the pod's Workload.

    Upstream: kubernetes-sigs/kueue pkg/controller/jobframework/workload_names.go (a long name is cut before the hash),
    pkg/scheduler/scheduler.go (the event ``Pending``), pkg/scheduler/flavorassigner/flavorassigner.go (its message).
    """
    queue = get_at(pod, "metadata", "labels", keys.KUEUE_QUEUE, default="")
    waits = f"waiting for Kueue to admit it to queue {queue}"
    for event in reversed(live.events):
        involved = event.get("involvedObject", {})
        prefix = str(involved.get("name", "")).rpartition("-")[0]
        if (
            involved.get("kind") == KUEUE_WORKLOAD
            and event.get("reason") == "Pending"
            and prefix
            and f"pod-{pod['metadata']['name']}".startswith(prefix)
        ):
            reason = FLAVORLESS.sub("", str(event.get("message", "")))
            return f"{waits}: {reason}" if reason else waits
    return waits


def _explain_gpu_wait(resource: str, message: str, pod: Object, supply: ResourceSupply | None) -> str:
    requested = of_pod.sum_requests(pod).get(resource, 1.0)
    thing = _format_request(resource, requested)
    if supply is None:
        return f"waiting for {thing}: no node has enough free"
    if not supply.total:
        return f"waiting for {thing}: no node provides {resource}"
    if requested > supply.total:
        return f"waiting for {thing}: the cluster has only {supply.total:g}"
    users = ", ".join(dict.fromkeys(holder.name for holder in supply.holders))
    used = (
        f"{supply.used:g} of {supply.total:g} used by {users}"
        if users
        else f"all {supply.total:g} are free, but not on one node"
    )
    name = get_at(pod, "spec", "priorityClassName", default="")
    value = get_at(pod, "spec", "priority", default=0)
    weaker = [holder.name for holder in supply.holders if holder.priority < value]
    if not users:
        return f"waiting for {thing}: {used}"
    if "terminating pod on the nominated node" in message:
        return f"waiting for {thing}: the preempted pods are still terminating"
    if get_at(pod, "spec", "preemptionPolicy") == "Never" or not weaker:
        preemptor = f"priority class {name}" if name else "a pod without a priority"
        return f"waiting for {thing}: {used}; {preemptor} cannot preempt them"
    return f"waiting for {thing}: {used}; {', '.join(dict.fromkeys(weaker))} must be preempted first"


def _format_request(resource: str, amount: float) -> str:
    """Return what a pod asks for: ``a GPU``, ``2 GPUs``, ``0.5 CPU cores``."""
    text = amounts.format_amount(resource, amount)
    return f"a{text[1:]}" if amount == 1 and text.startswith(("1 GPU", "1 MIG")) else text


def _explain_exceeded(quota: str, asked: str, used: str, hard: str) -> str:
    """Explain what a quota rejected; the amounts are lists such as ``requests.cpu=125m,pods=1``."""
    requested, in_use, limits = (
        {name: value for name, _, value in (part.partition("=") for part in text.split(","))}
        for text in (asked, used, hard.rstrip(":.,"))
    )
    parts = [
        f"it requests {amounts.format_amount(name, amounts.parse_amount(amount))} with "
        f"{amounts.QuotaShare(name, limits.get(name, '0'), in_use.get(name, '0'))}"
        for name, amount in requested.items()
    ]
    return f"exceeds quota {quota}: {'; '.join(parts)}"


def explain_rejection(message: str) -> str:
    """Return a rejection message, reworded if Ebbtide knows it: a quota, a missing class, pod security, an image."""
    if "Initial scale was never achieved" in message:
        return "no replica became ready before the progress deadline"
    match = EXCEEDED.search(message)
    if match is not None:
        return _explain_exceeded(match["quota"], match["asked"], match["used"], match["hard"])
    match = CLASS_MISSING.search(message)
    if match is not None:
        return (
            f"priority class {match[1].rstrip(',:')} not found; create it, or set scheduling.classesOwner: ebbtide in the "
            "profile"
        )
    match = IMAGE.search(message)
    if match is not None:
        cause = of_pod.innermost_cause(match["cause"])
        if OLD_TLS.search(match["cause"]):
            cause = (
                "the registry does not support TLS 1.3, which Knative's controller requires since 1.21.2; name the image by "
                "its digest, or set TAG_TO_DIGEST_TLS_MIN_VERSION to 1.2 in the controller's environment"
            )
        return f"cannot resolve image {match['image']}: {cause}"
    if "violates PodSecurity" in message:
        return f"rejected by the namespace's pod security: {message.partition('violates PodSecurity')[2].strip()}"
    return message.partition("failed with message: ")[2].rstrip(". ") or message.rstrip(". ")


# Numbers.


def compute_replicas(live: LiveWorkload) -> Replicas:
    """Return the replicas of the revisions that serve or start."""
    current = list_current_revisions(live)
    ready = sum(of_pod.is_ready(pod) for name in current for pod in _list_revision_pods(live, name))
    if live.service is None:
        deployment = live.deployments[0] if live.deployments else None
        low = get_at(live.top, "spec", "predictor", "minReplicas", default=1)
        high = get_at(live.top, "spec", "predictor", "maxReplicas", default=low)
        if live.top["kind"] == LLM.name:
            low = get_at(live.top, "spec", "scaling", "minReplicas") or get_at(live.top, "spec", "replicas", default=1)
            high = get_at(live.top, "spec", "scaling", "maxReplicas", default=low)
        for hpa in live.hpas:
            low, high = (
                get_at(hpa, "spec", "minReplicas", default=low),
                get_at(hpa, "spec", "maxReplicas", default=high),
            )
        return Replicas(ready, get_at(deployment, "spec", "replicas", default=0), low, high)
    desired = sum(_desired_replicas(live, name) for name in current)
    # The bounds on the serving revision are in effect, whichever field manager set them.
    serving = get_at(live.service, "status", "latestReadyRevisionName") or (current[0] if current else "")
    low, high = _read_scale_bounds(live, serving)
    return Replicas(ready, desired, low, high)


def _desired_replicas(live: LiveWorkload, revision: str) -> int:
    scaler = inventory.find_by_name(live.scalers, revision)
    desired = read_desired_scale(scaler)
    # An HPA without a metric value reports 0, although it never goes below its minimum.
    undecided = desired == 0 and read_annotation(scaler, keys.CLASS) == keys.CLASS_HPA
    if desired is not None and not undecided:
        return desired
    deployment = next(
        (deployment for deployment in live.deployments if deployment["metadata"]["name"].startswith(f"{revision}-")),
        None,
    )
    return int(get_at(deployment, "spec", "replicas", default=0))


def _read_scale_bounds(live: LiveWorkload, revision: str) -> tuple[int, int]:
    serving = inventory.find_by_name(live.revisions, revision)
    annotations = get_at(serving, "metadata", "annotations") or get_at(
        live.service, "spec", "template", "metadata", "annotations", default={}
    )
    floor = read_floor_settings(live.top)
    low = parse_count(annotations.get(keys.MIN_SCALE)) if floor is None else floor.minimum
    return low or 0, parse_count(annotations.get(keys.MAX_SCALE)) or 0


def read_floor_settings(top: Object) -> FloorSettings | None:
    """Return what Ebbtide's controller decides by, None for a workload that it does not scale or cannot read."""
    try:
        return read_settings(top)
    except FloorError:
        return None


def format_gpus(live: LiveWorkload) -> str:
    """Return the GPUs that the pods hold or wait for: ``2``, ``3 shares``, ``1 of 1g.10gb``; empty if none."""
    total: dict[str, float] = {}
    for pod in live.pods:
        if not of_pod.has_ended(pod):
            for resource, amount in of_pod.sum_pod_gpus(pod).items():
                total[resource] = total.get(resource, 0.0) + amount
    return ", ".join(_format_gpu_amount(resource, amount) for resource, amount in total.items())


def _sum_pod_requests(live: LiveWorkload, resource: str) -> float:
    return sum(of_pod.sum_requests(pod).get(resource, 0.0) for pod in live.pods if not of_pod.has_ended(pod))


def _format_gpu_amount(resource: str, amount: float) -> str:
    if resource == keys.GPU_SHARED:
        return f"{amount:g} share{'' if amount == 1 else 's'}"
    if resource.startswith(keys.MIG_PREFIX):
        return f"{amount:g} of {resource.removeprefix(keys.MIG_PREFIX)}"
    if resource == keys.KAI_MEMORY:
        return f"{amount:g} MiB"
    return f"{amount:g}"


def find_scaling_metric(live: LiveWorkload) -> ScalingMetric | None:
    """Return the scaling metric, from the HPA or from the newest revision's annotations."""
    for hpa in live.hpas:
        spec = get_at(hpa, "spec", "metrics", 0, default={})
        name, target = read_hpa_metric(spec)
        if name:
            now = next((read_hpa_value(row) for row in get_at(hpa, "status", "currentMetrics", default=[])), "")
            return ScalingMetric(_name_in_spec(live, name), target, now)
    current = list_current_revisions(live)
    newest = inventory.find_by_name(live.revisions, current[0]) if current else None
    floor = read_floor_settings(live.top)
    if floor is not None and floor.metrics:
        first = floor.metrics[0]
        return ScalingMetric(_name_in_spec(live, first.name), format_number(first.target))
    metric, threshold = read_name(newest, keys.METRIC), read_setting(newest, keys.TARGET)
    if metric is None or threshold is None:
        return None
    aim = _find_aim(live, newest, metric, threshold)
    return ScalingMetric(_name_in_spec(live, metric), format_number(threshold), aim=aim)


def _find_aim(live: LiveWorkload, revision: Object | None, metric: str, target: float) -> str:
    """Return the value that the KPA aims at; empty if another autoscaler decides."""
    if (read_name(revision, keys.CLASS) or keys.CLASS_KPA) != keys.CLASS_KPA:
        return ""
    default = parse_finite((live.settings or {}).get("container-concurrency-target-percentage")) or 70
    # A percentage up to 1 is a fraction (autoscalerconfig.Config).
    config = targets.AutoscalerConfig(container_concurrency_target_fraction=default if default <= 1 else default / 100)
    resolved, _ = targets.resolve_metric_target(
        targets.RevisionSettings(
            metric=metric,
            container_concurrency=get_at(revision, "spec", "containerConcurrency", default=0),
            target=target,
            target_utilization_percentage=read_setting(revision, keys.TARGET_UTILIZATION),
        ),
        config,
    )
    return format_number(round(resolved, 3))


def _name_in_spec(live: LiveWorkload, name: str) -> str:
    """Return a metric's name as the stored spec has it; the cluster's own name if the live metric is another one."""
    try:
        written = get_at(read_spec(live.top), "autoscaling", "metric", default="")
    except UnreadableError:
        return name
    row = metrics.ROWS.get(written) if isinstance(written, str) else None
    return name if row is None or (name in KNATIVE_METRICS and name != row.knative) else row.name


def read_hpa_metric(spec: Object) -> tuple[str, str]:
    kind = str(spec.get("type", ""))
    part = spec.get(kind[:1].lower() + kind[1:], {})
    name = part.get("name") or get_at(part, "metric", "name", default="")
    target = part.get("target", {})
    percent = target.get("averageUtilization")
    return name, f"{percent}%" if percent is not None else format_metric_quantity(
        target.get("averageValue") or target.get("value") or "-"
    )


def read_hpa_value(row: Object) -> str:
    kind = str(row.get("type", ""))
    current = get_at(row, kind[:1].lower() + kind[1:], "current", default={})
    percent = current.get("averageUtilization")
    return (
        f"{percent}%"
        if percent is not None
        else format_metric_quantity(current.get("averageValue") or current.get("value") or "")
    )


def format_metric_quantity(text: str | float) -> str:
    """Return a quantity as a plain number: 728.645 for ``728645m``; an invalid quantity is returned unchanged."""
    billionths = parse_nano(text)
    return str(text) if billionths is None else format_number(billionths / NANO)


# Rows.


def _object_age(live: LiveWorkload, metadata: Object) -> float:
    return max(0.0, live.now - inventory.parse_timestamp(metadata.get("creationTimestamp")))


def _make_condition_rows(live: LiveWorkload) -> Iterator[Condition]:
    for row in get_at(live.top, "status", "conditions", default=[]):
        kind = row.get("type", "")
        texts = CONDITIONS.get(kind)
        if texts is None:
            continue
        holds = {"True": True, "False": False}.get(row.get("status", ""))
        text = texts[(True, None, False).index(holds)]
        if not text:
            continue
        message = _condition_message(row)
        since = max(0.0, live.now - inventory.parse_timestamp(row.get("lastTransitionTime")))
        yield Condition(kind, holds, f"{text}: {message}" if message and holds is not True else text, since)


def _make_revision_rows(live: LiveWorkload) -> Iterator[RevisionRow]:
    shares = _traffic_shares(live)
    for revision in reversed(live.revisions):
        name = revision["metadata"]["name"]
        ready = of_pod.find_condition(revision, "Ready")
        words = "ready" if name in shares else "ready, no traffic"
        if ready.get("status") == "False":
            # The pod gives a better reason than the condition, unless its time is over.
            trouble = "" if ready.get("reason") == PROGRESS_DEADLINE else _explain_trouble(live, name)
            words = trouble or _explain_failure(live, name) or "failed"
        elif ready.get("status") != "True":
            words = _explain_trouble(live, name) or _describe_progress(live, name)
        ready_pods = [pod for pod in _list_revision_pods(live, name) if of_pod.is_ready(pod)]
        yield RevisionRow(
            name,
            shares.get(name, 0),
            len(ready_pods),
            _desired_replicas(live, name),
            words,
            _object_age(live, revision["metadata"]),
        )


def _make_pod_rows(live: LiveWorkload) -> Iterator[PodRow]:
    for pod in live.pods:
        trouble = _find_pod_trouble(pod, live)
        ready = of_pod.is_ready(pod)
        if "deletionTimestamp" in pod["metadata"]:
            words = "terminating"
        elif ready:
            words = "ready"
        elif trouble is not None:
            words = (
                explain_unschedulable(trouble.words, pod, live) if trouble.kind == "unschedulable" else trouble.words
            )
        else:
            words = of_pod.describe_startup(pod)
        restarts = sum(row.get("restartCount", 0) for row in get_at(pod, "status", "containerStatuses", default=[]))
        yield PodRow(
            pod["metadata"]["name"],
            get_at(pod, "spec", "nodeName", default=""),
            ready,
            words,
            restarts,
            _object_age(live, pod["metadata"]),
        )


def _describe_overrides(live: LiveWorkload) -> Iterator[str]:
    record = read_scale_record(live.top)
    for field, value in record.values.items():
        base = record.base.get(field)
        if value != base:
            spec = "none" if base is None else format_number(base)
            yield f"{field} {format_number(value)} set by ebbtide scale (the spec has {spec})"
