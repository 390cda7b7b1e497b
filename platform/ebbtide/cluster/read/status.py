"""Status of a workload: its phase with Run:ai's names, the reason, replicas, metric, URL, age and GPUs.

Pure functions of the objects that were read (``inventory.LiveWorkload``), including the time: ``phases`` has the phase,
``revision_state`` what prevents it from becoming ready, ``scaling_state`` the replicas, ``rejections`` the messages of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, TypeAlias

from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read import inventory, scaling_state
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read import revision_state as of_revision
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.phases import Phase, compute_phase, join_parts
from ebbtide.cluster.read.records import RevisionEdit, find_revision_edits, find_unreadable, read_scale_record
from ebbtide.cluster.slo.source import REVISIONS, MetricsSource, Ref
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.base.failures import report_failure
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import format_number
from ebbtide.core.translation import gpu

#: Seconds between the two values of which the later one is the current load.
LOAD_SECONDS: Final = 60.0
#: Phases that end a wait, unless Kubernetes repeats an attempt that may still succeed.
SETTLED: Final = {"Running", "Failed", "Stopped", "Degraded"}


def _make_texts(subject: str, state: str, failed: str = "") -> tuple[str, str, str]:
    """Return the texts of a condition with status True, Unknown and False: ``subject`` ends in a verb that takes a not."""
    return f"{subject} {state}", f"{subject} not {state} yet", failed or f"{subject} not {state}"


#: Explanations of a condition with status True, Unknown and False.
CONDITIONS: Final[dict[str, tuple[str, str, str]]] = {
    "Ready": _make_texts("the workload is", "ready"),
    "ConfigurationsReady": _make_texts("the latest revision is", "ready"),
    "RoutesReady": _make_texts("traffic is", "routed to the workload", "traffic cannot be routed to the workload"),
    "PredictorReady": _make_texts("the predictor is", "ready"),
    # KServe does not check whether a route exists, or whether a replica is ready.
    "IngressReady": _make_texts("KServe has", "configured the ingress", "KServe cannot configure the ingress"),
    "Stopped": ("the workload is suspended", "", ""),
    # The conditions of an LLMInferenceService (kserve pkg/apis/serving/v1alpha2/llm_inference_service_lifecycle.go).
    "PresetsCombined": _make_texts("KServe has", "merged its presets", "KServe cannot merge its presets"),
    "WorkloadsReady": _make_texts("the server is", "ready"),
    "MainWorkloadReady": _make_texts("the Deployment is", "available"),
    "PrefillWorkloadReady": _make_texts("the prefill Deployment is", "available"),
    "ScalingReady": _make_texts("KServe's autoscaler is", "ready"),
    "RouterReady": _make_texts("the route is", "ready"),
    "GatewaysReady": _make_texts("the gateway is", "ready"),
    "HTTPRoutesReady": _make_texts("the gateway has", "accepted the route"),
    "InferencePoolReady": _make_texts("the gateway has", "accepted the pool of replicas"),
    "SchedulerWorkloadReady": _make_texts("the endpoint picker is", "ready"),
    "TokenizerReady": _make_texts("the tokenizer is", "ready"),
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
    replicas: scaling_state.Replicas = scaling_state.Replicas(0, 0, 0, 0)
    gpus: str = ""
    #: Sum of the pods' requests.
    cpu_cores: float = 0.0
    memory_bytes: float = 0.0
    metric: scaling_state.ScalingMetric | None = None
    url: str = ""
    age_seconds: Seconds = 0.0
    conditions: tuple[Condition, ...] = ()
    revisions: tuple[RevisionRow, ...] = ()
    pods: tuple[PodRow, ...] = ()
    #: Manual overrides on the live object that are not in its spec.
    by_hand: tuple[str, ...] = ()
    #: False while the phase may change without an edit of the workload.
    settled: bool = False
    #: The custom resource that the workload belongs to, as ``Inference chat``; empty without one.
    owner: str = ""

    @property
    def at_zero(self) -> bool:
        """True if the workload has no replicas until the next request."""
        return self.phase == "Running" and self.replicas.wanted == 0 and self.replicas.ready == 0

    @property
    def label(self) -> str:
        """The phase in the words of tables."""
        return "Scaled to zero" if self.at_zero else self.phase


def add_current_loads(statuses: Sequence[Status], source: MetricsSource, when: float) -> list[Status]:
    """Return statuses with the current value of each metric that the KPA scales by, which the cluster does not report.

    Sends one query for all of them, and one for those of which several revisions have traffic. Raises SourceError if the
    source cannot answer.
    """
    scaled = {Ref(state.namespace, state.name): state.metric for state in statuses if state.metric and state.metric.aim}
    split = {ref for ref, metric in scaled.items() if metric.revisions}
    loads: dict[tuple[Ref, str], str] = {}
    for refs, name in ((scaled.keys() - split, "stable"), (split, REVISIONS)):
        asked = sorted(refs)
        histories = source.histories(asked, when - LOAD_SECONDS, when, LOAD_SECONDS, (name,)) if asked else {}
        for ref, history in histories.items():
            series = {"": history.series} if name == "stable" else history.revisions
            for revision, points in series.items():
                for point in points.get("stable", ()):
                    if point.value is not None:
                        loads[ref, revision] = format_number(round(point.value, 2))
    return [
        replace(state, metric=_add_load(metric, ref, loads))
        if (metric := scaled.get(ref := Ref(state.namespace, state.name)))
        else state
        for state in statuses
    ]


def _add_load(
    metric: scaling_state.ScalingMetric, ref: Ref, loads: Mapping[tuple[Ref, str], str]
) -> scaling_state.ScalingMetric:
    revisions = tuple(replace(row, now=loads.get((ref, row.name), "")) for row in metric.revisions)
    return replace(metric, now=revisions[0].now if revisions else loads.get((ref, ""), ""), revisions=revisions)


def compute_status(live: LiveWorkload) -> Status:
    """Return a workload's status; one that cannot be computed has the phase Unknown, and does not end a list."""
    try:
        return _compute_status(live)
    except Exception as error:  # noqa: BLE001 - one workload must not hide the others
        project = str(get_at(live.top, "metadata", "labels", keys.PROJECT, default=""))
        why = report_failure(live.namespace, live.name, error)
        return Status(live.name, live.namespace, project, _name_kind(live), "Unknown", why)


def _name_kind(live: LiveWorkload) -> str:
    return "Knative Service" if live.top["kind"] == "Service" else str(live.top["kind"])


def _compute_status(live: LiveWorkload) -> Status:
    metadata = live.top["metadata"]
    labels = metadata.get("labels") or {}
    replicas = scaling_state.compute_replicas(live)
    phase, why = compute_phase(live, replicas)
    retried = phase in {"Failed", "Degraded"} and any(
        of_revision.is_retried(live, name) for name in of_revision.list_current_revisions(live)[:1]
    )
    # The serving revision may have failed before the newest one is ready.
    retried = retried or (phase == "Degraded" and of_revision.is_updating(live))
    return Status(
        name=live.name,
        namespace=live.namespace,
        project=labels.get(keys.PROJECT, ""),
        kind=_name_kind(live),
        phase=phase,
        why=join_parts(why, *find_unreadable(live), *map(str, _find_edits(live))),
        replicas=replicas,
        gpus=format_gpus(live),
        cpu_cores=_sum_pod_requests(live, "cpu"),
        memory_bytes=_sum_pod_requests(live, "memory"),
        metric=scaling_state.find_scaling_metric(live),
        url=get_at(live.top, "status", "url") or get_at(live.service, "status", "url", default=""),
        age_seconds=of_revision.object_age(live, metadata),
        conditions=tuple(_make_condition_rows(live)),
        revisions=tuple(_make_revision_rows(live)),
        pods=tuple(_make_pod_rows(live)),
        by_hand=tuple(_describe_overrides(live)),
        settled=phase in SETTLED and not retried,
        owner=inventory.describe_resource_owner(live.top),
    )


def format_gpus(live: LiveWorkload) -> str:
    """Return the GPUs that the pods hold or wait for: ``2``, ``3 shares``, ``1 of 1g.10gb``; empty if none."""
    total: dict[str, float] = {}
    pods = [pod for pod in live.pods if not of_pod.has_ended(pod)]
    claim_names = {name for pod in pods for name in of_claim.list_claim_names(pod)}
    claims = [claim for claim in live.claims if claim["metadata"]["name"] in claim_names]
    for amounts in (*map(of_pod.sum_pod_gpus, pods), *map(gpu.read_claim, claims)):
        for resource, amount in amounts.items():
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
        message = of_revision.condition_message(row)
        since = max(0.0, live.now - inventory.parse_timestamp(row.get("lastTransitionTime")))
        yield Condition(kind, holds, f"{text}: {message}" if message and holds is not True else text, since)


def _make_revision_rows(live: LiveWorkload) -> Iterator[RevisionRow]:
    shares = of_revision.traffic_shares(live)
    for revision in reversed(live.revisions):
        name = revision["metadata"]["name"]
        ready = of_pod.find_condition(revision, "Ready")
        words = "ready" if name in shares else "ready, no traffic"
        if ready.get("status") == "False":
            # The pod gives a better reason than the condition, unless its time is over.
            trouble = (
                "" if ready.get("reason") == of_revision.PROGRESS_DEADLINE else of_revision.explain_trouble(live, name)
            )
            words = trouble or of_revision.explain_failure(live, name) or "failed"
        elif ready.get("status") != "True":
            words = of_revision.explain_trouble(live, name) or of_revision.describe_progress(live, name)
        ready_pods = [pod for pod in of_revision.list_revision_pods(live, name) if of_pod.is_ready(pod)]
        yield RevisionRow(
            name,
            shares.get(name, 0),
            len(ready_pods),
            scaling_state.desired_replicas(live, name),
            words,
            of_revision.object_age(live, revision["metadata"]),
        )


def _make_pod_rows(live: LiveWorkload) -> Iterator[PodRow]:
    for pod in live.pods:
        trouble = of_revision.find_pod_trouble(pod, live)
        ready = of_pod.is_ready(pod)
        if "deletionTimestamp" in pod["metadata"]:
            words = "terminating"
        elif ready:
            words = "ready"
        elif trouble is not None:
            words = trouble.words
        else:
            words = of_pod.describe_startup(pod)
        restarts = sum(row.get("restartCount", 0) for row in get_at(pod, "status", "containerStatuses", default=[]))
        yield PodRow(
            pod["metadata"]["name"],
            get_at(pod, "spec", "nodeName", default=""),
            ready,
            words,
            restarts,
            of_revision.object_age(live, pod["metadata"]),
        )


def _describe_overrides(live: LiveWorkload) -> Iterator[str]:
    record = read_scale_record(live.top)
    for field, value in record.values.items():
        base = record.base.get(field)
        if value != base:
            spec = "none" if base is None else format_number(base)
            yield f"{field} {format_number(value)} set by ebbtide scale (the spec has {spec})"
    yield from (f"{edit}; {edit.fix}" for edit in _find_edits(live))


def _find_edits(live: LiveWorkload) -> tuple[RevisionEdit, ...]:
    return find_revision_edits(live.top, live.service, live.revisions[-1] if live.revisions else None)
