"""The start of a pod, split into phases with their seconds.

The times are those of the pod's conditions and container states, which Kubernetes writes in whole seconds, of its events, which
the API server keeps for an hour by default, and of the lines that the engine logs (``engine_logs``). Kubernetes keeps only the
last time at which a pod became ready or a container started, so a pod that restarted has no start here.

Upstream: k8s.io/api core/v1 (PodCondition, ContainerState); k8s.io/kubernetes pkg/kubelet/images/image_manager.go (the messages of
``Pulling`` and ``Pulled``); kubernetes/autoscaler cluster-autoscaler/processors/status/eventing_scale_up_processor.go (``TriggeredScaleUp``);
kubernetes-sigs/karpenter pkg/controllers/provisioning/scheduling/events.go (``Nominated``); kserve
pkg/constants/constants.go (``storage-initializer``).
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal, TypeAlias, get_args

from ebbtide.cluster.client.protocol import ClusterError, LogQuery, event_time
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.engine_logs import EngineSteps, read_engine_log
from ebbtide.cluster.read.inventory import LiveWorkload, parse_timestamp
from ebbtide.cluster.slo.source import StartTimes
from ebbtide.core.base.annotations import parse_seconds
from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: Phases in order. ``server`` is what the log does not divide into ``weights`` and ``engine``: until the server listens or, if no
#: line says so, until the pod is ready. docs/cold-start.md has their meanings.
PhaseName = Literal["scheduling", "node", "image", "init", "weights", "engine", "server", "readiness"]
PHASES: Final[tuple[PhaseName, ...]] = get_args(PhaseName)
#: KServe's init container that downloads the model.
STORAGE_INITIALIZER: Final = "storage-initializer"
#: Bytes from the beginning of a log that are searched for the lines of a start.
LOG_BYTES: Final = 2**20
#: Events with which a node autoscaler answers a pod, by reason: the name of the autoscaler, and how the message begins.
NODE_REQUESTS: Final = {
    "TriggeredScaleUp": ("the cluster autoscaler", "pod triggered scale-up"),
    "Nominated": ("Karpenter", "Pod should schedule on: nodeclaim/"),
}
#: The event of a pod for which the cluster autoscaler can start no node, and how its message begins.
NO_NODE: Final = ("NotTriggerScaleUp", "pod didn't trigger scale-up: ")
_PULLED: Final = re.compile(
    r"^Successfully pulled image .* in (?P<pull>[\dhmµns.]+)(?: \((?P<waited>[\dhmµns.]+) including waiting\))?"
)
_PRESENT: Final = "already present on machine"


def _round_tenths(value: float) -> float:
    return round(value, 1)


#: Seconds, serialized with one decimal.
Seconds = Annotated[float, WrittenBy(_round_tenths)]


@body()
class StartPhase:
    """One phase of a start. ``running`` is true of the phase that a pod is in, whose seconds are those so far."""

    name: PhaseName
    seconds: Seconds
    source: str
    running: bool = False


@body(optional="seconds")
class PodStart:
    """The start of one pod: its creation in seconds since 1970, and its phases in order.

    ``seconds`` is None while the pod is not ready. ``steps`` are the seconds of the engine's steps that its log names; those of
    ``compile`` and ``graphs`` are part of the phase ``engine``.
    """

    pod: str
    created: float
    seconds: Seconds | None
    phases: tuple[StartPhase, ...]
    steps: Mapping[str, Seconds]
    #: True if no image had to be pulled; None if no event says so.
    image_present: bool | None = None

    def find_phase(self, name: str) -> float | None:
        """Return the seconds of a phase; None if the start has none of this name."""
        return next((phase.seconds for phase in self.phases if phase.name == name), None)

    def find_seconds(self, name: str) -> float:
        """Return the seconds of a phase or, without one, of a step of the engine; 0 if the start has neither."""
        seconds = self.find_phase(name)
        return self.steps.get(name, 0.0) if seconds is None else seconds


#: Reads a container's log with the rights of the caller: ``logs`` of ``protocol.Cluster``.
ReadLog: TypeAlias = Callable[[str, str, str, LogQuery], Iterable[str]]


def find_node_request(pod: Object, events: Iterable[Object]) -> Object | None:
    """Return the first event with which a node autoscaler reports that it starts a node for a pod; None without one.

    Karpenter also reports the node that is to replace the one on which a pod runs.
    """
    latest = _transition(pod, "PodScheduled") or math.inf
    own = (event for event in events if get_at(event, "involvedObject", "name") == pod["metadata"]["name"])
    return next((event for event in own if _requests_node(event) and _find_first_time(event) <= latest), None)


def _requests_node(event: Object) -> bool:
    _, start = NODE_REQUESTS.get(str(event.get("reason", "")), ("", None))
    return start is not None and str(event.get("message", "")).startswith(start)


def describe_node_wait(pod: Object, live: LiveWorkload) -> str:
    """Return how long a pod has waited for the node that an autoscaler starts, or why it starts none; empty if no event says so.

    The expected time is the median of the workload's other pods that waited for one, as far as their events still exist.
    """
    own = [event for event in live.events if get_at(event, "involvedObject", "name") == pod["metadata"]["name"]]
    request = find_node_request(pod, own)
    if request is None:
        reason, start = NO_NODE
        refused = [str(event.get("message", "")) for event in own if event.get("reason") == reason]
        return f"the cluster autoscaler starts no node for it: {refused[-1].removeprefix(start)}" if refused else ""
    waited = max(0.0, live.now - _find_first_time(request))
    requested = {get_at(event, "involvedObject", "name") for event in live.events if _requests_node(event)}
    others = (
        compute_start(other, live.events, live.now)
        for other in live.pods
        if other["metadata"]["name"] in requested and get_at(other, "spec", "nodeName")
    )
    known = [seconds for start in others if (seconds := start.find_phase("node"))]
    about = f" of about {statistics.median(known):.0f}" if known else ""
    return f"waiting for a node, {waited:.0f} s{about}, which {NODE_REQUESTS[request['reason']][0]} starts"


def _find_first_time(event: Object) -> float:
    """Return the time of an event that may have been repeated since."""
    return parse_timestamp(event.get("firstTimestamp") or event_time(event))


def _transition(pod: Object, condition: str) -> float:
    """Return the time at which a condition became true, 0 if it is not."""
    row = of_pod.find_condition(pod, condition)
    return parse_timestamp(row.get("lastTransitionTime")) if row.get("status") == "True" else 0.0


def compute_start(pod: Object, events: Sequence[Object], now: float, lines: Iterable[str] = ()) -> PodStart:
    """Return the start of a pod whose server has not restarted; ``lines`` are the first of its log, each behind its time.

    A phase that has not begun is missing.
    """
    times = StartTimes(
        pod["metadata"]["name"],
        parse_timestamp(pod["metadata"].get("creationTimestamp")),
        scheduled=_transition(pod, "PodScheduled"),
        started=parse_timestamp(get_at(of_pod.find_server_status(pod), "state", "running", "startedAt")),
        ready=_transition(pod, "Ready"),
    )
    own = [event for event in events if get_at(event, "involvedObject", "name") == times.pod]
    phases = [*_list_scheduling(times, find_node_request(pod, own), now)]
    present, pulling = None, 0.0
    if times.scheduled:
        pulled = [str(event.get("message", "")) for event in own if event.get("reason") == "Pulled"]
        matches = [match for match in map(_PULLED.match, pulled) if match is not None]
        present = not matches if matches or any(_PRESENT in text for text in pulled) else None
        pull = sum(parse_seconds(match["waited"] or match["pull"]) or 0.0 for match in matches)
        if not times.started and (pulling := _measure_pull(own, pulled, now)):
            present, pull = False, pull + pulling
        phases += _list_setup(pod, times, None if present is None else pull, now)
    steps = EngineSteps((), {}, 0.0)
    if times.started:
        steps = read_engine_log(lines)
        phases = _merge_weights(phases, _list_server(times, steps, now))
    if phases and not times.ready:
        latest = next((phase for phase in phases if pulling and phase.name == "image"), phases[-1])
        phases[phases.index(latest)] = replace(latest, running=True)
    seconds = times.ready - times.created if times.ready else None
    return PodStart(
        times.pod,
        times.created,
        seconds,
        tuple(phases),
        {str(step): seconds for step, seconds in steps.seconds.items()},
        present,
    )


def _measure_pull(events: Iterable[Object], pulled: Sequence[str], now: float) -> float:
    """Return the seconds of a pull that has not ended, such as that of the server's image after the init containers; 0 without one."""
    for event in events:
        image = str(event.get("message", "")).removeprefix("Pulling image ")
        if event.get("reason") == "Pulling" and not any(f"image {image} " in text for text in pulled):
            return max(0.0, now - _find_first_time(event))
    return 0.0


def _list_scheduling(times: StartTimes, request: Object | None, now: float) -> Iterator[StartPhase]:
    end = times.scheduled or now
    asked = end
    if request is not None:
        asked = min(max(_find_first_time(request), times.created), end)
    yield StartPhase("scheduling", max(0.0, asked - times.created), "condition PodScheduled")
    if request is not None:
        yield StartPhase("node", end - asked, f"event {request['reason']}")


def _list_setup(pod: Object, times: StartTimes, pull: float | None, now: float) -> Iterator[StartPhase]:
    """Yield the phases between the choice of a node and the start of the server; ``pull`` is None if no event has it."""
    end = times.started or now
    spans = {"init": 0.0, "weights": 0.0}
    for row in get_at(pod, "status", "initContainerStatuses", default=[]):
        state: Object = next(iter(row.get("state", {}).values()), {})
        if state.get("startedAt") and (state.get("finishedAt") or not row.get("started")):
            ended = parse_timestamp(state.get("finishedAt")) or end
            name = "weights" if row.get("name") == STORAGE_INITIALIZER else "init"
            spans[name] += max(0.0, ended - parse_timestamp(state["startedAt"]))
    rest = max(0.0, end - times.scheduled - sum(spans.values()))
    if pull is None:
        yield StartPhase("image", rest, "container states; no event of a pull is left, so with sandbox and volumes")
        rest = 0.0
    else:
        yield StartPhase("image", min(pull, rest), "event Pulled")
        rest -= min(pull, rest)
    if rest or spans["init"]:
        yield StartPhase("init", rest + spans["init"], "container states")
    if spans["weights"]:
        yield StartPhase("weights", spans["weights"], f"container {STORAGE_INITIALIZER}")


def _list_server(times: StartTimes, steps: EngineSteps, now: float) -> Iterator[StartPhase]:
    """Yield the phases from the start of the server's process."""
    total = max(0.0, (times.ready or now) - times.started)
    if not steps.engines:
        yield StartPhase("server", total, "container states")
        return
    source = f"log of {', '.join(steps.engines)}"
    weights = min(total, steps.seconds.get("download", 0.0) + steps.seconds.get("weights", 0.0))
    if weights:
        yield StartPhase("weights", weights, source)
    # Without the weights' line, the engine loads them in a time that is unknown.
    rest: PhaseName = "engine" if weights else "server"
    listens = min(max(steps.listening - times.started, weights), total) if steps.listening else total
    yield StartPhase(rest, listens - weights, source)
    if steps.listening:
        yield StartPhase("readiness", total - listens, f"{source} and condition Ready")


def _merge_weights(before: Sequence[StartPhase], server: Iterable[StartPhase]) -> list[StartPhase]:
    """Return all phases; weights that are downloaded by an init container and loaded by the server are one phase."""
    phases, rest = list(before), list(server)
    if phases and rest and phases[-1].name == rest[0].name == "weights":
        first, second = phases.pop(), rest.pop(0)
        phases.append(StartPhase("weights", first.seconds + second.seconds, f"{first.source}, {second.source}"))
    return phases + rest


def compute_recorded_start(times: StartTimes) -> PodStart:
    """Return the start of a pod that kube-state-metrics recorded: it knows neither pulls nor the engine's log."""
    rows: tuple[tuple[PhaseName, float], ...] = (
        ("scheduling", times.scheduled),
        ("image", times.started or times.initialized),
        ("server", times.ready),
    )
    phases, before = [], times.created
    for name, end in rows:
        if end:
            phases.append(StartPhase(name, max(0.0, end - before), "kube-state-metrics"))
            before = max(end, before)
    return PodStart(times.pod, times.created, times.ready - times.created, tuple(phases), {})


def read_starts(read_log: ReadLog, live: LiveWorkload, count: int) -> list[PodStart]:
    """Return the starts of the newest pods that did not restart, newest first, with what the first lines of their logs say.

    The caller may lack the right to read logs; the phases then are those of the objects.
    """
    return [read_start(read_log, live, pod) for pod in list_started_pods(live)[:count]]


def list_start_seconds(live: LiveWorkload, count: int) -> list[float]:
    """Return the seconds that the newest pods took from their creation until they were ready, without their logs."""
    starts = (compute_start(pod, (), live.now) for pod in list_started_pods(live)[:count])
    return [start.seconds for start in starts if start.seconds is not None]


def list_started_pods(live: LiveWorkload) -> list[Object]:
    """Return the pods whose start is known, newest first: without those that restarted, or ended and are no longer ready."""
    pods = (pod for pod in reversed(live.pods) if of_pod.is_ready(pod) or not of_pod.has_ended(pod))
    return [pod for pod in pods if not of_pod.find_server_status(pod).get("restartCount")]


def read_start(read_log: ReadLog, live: LiveWorkload, pod: Object) -> PodStart:
    """Return the start of one pod."""
    return compute_start(pod, live.events, live.now, _read_first_lines(read_log, live, pod))


def _read_first_lines(read_log: ReadLog, live: LiveWorkload, pod: Object) -> list[str]:
    if not get_at(of_pod.find_server_status(pod), "state", "running", "startedAt"):
        return []
    try:
        name, container = pod["metadata"]["name"], of_pod.find_server_container(pod)
        return [*read_log(live.namespace, name, container, LogQuery(head=LOG_BYTES))]
    except ClusterError:
        return []


def describe_start(start: PodStart) -> str:
    """Describe a start in one line: ``started in 42.0 s: scheduling 1.0, image 6.0, server 35.0``."""
    seconds = sum(phase.seconds for phase in start.phases) if start.seconds is None else start.seconds
    parts = ", ".join(f"{phase.name} {phase.seconds:.1f}{' so far' if phase.running else ''}" for phase in start.phases)
    return f"{'starting for' if start.seconds is None else 'started in'} {seconds:.1f} s: {parts}"


def tabulate_starts(starts: Sequence[PodStart]) -> list[tuple[str, ...]]:
    """Return a table of starts with its headings: the seconds in all, then those of each phase that one of them has."""
    names = [name for name in PHASES if any(phase.name == name for start in starts for phase in start.phases)]
    rows = [("POD", "SECONDS", *(name.upper() for name in names))]
    for start in starts:
        texts = {phase.name: f"{phase.seconds:.1f}{'...' if phase.running else ''}" for phase in start.phases}
        total = "starting" if start.seconds is None else f"{start.seconds:.1f}"
        rows.append((start.pod, total, *(texts.get(name, "-") for name in names)))
    return rows
