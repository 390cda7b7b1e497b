"""A rollout without additional replicas: observe the revisions, and write the next step, until all replicas are new.

The state is only in the cluster: the limits of the revisions are their scaling annotations, and one annotation keeps the
values to restore. A rollout that was interrupted at any step therefore continues with the next apply.
Upstream: knative.dev/serving v0.51.0 pkg/reconciler/revision/reconcile_resources.go (annotations of a live revision take
effect), pkg/reconciler/labeler/metasync.go (a revision keeps its minimum while traffic names it, or while the latest one
is named with any percentage), pkg/queue/sharedmain/main.go (a terminating pod stays until 30 s after its last request).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import BusyError, Clock, Cluster, ForbiddenError, MissingError
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.pods import find_condition, has_ended, is_ready
from ebbtide.cluster.read.records import SAVED, RolloutMark, is_in_rollout, read_mark
from ebbtide.cluster.read.revision_state import find_revision_failure, is_unscheduled, sum_percents, traffic_shares
from ebbtide.cluster.write.apply import LATEST, POLL_SECONDS, ApplyDiff, ApplyStep, is_top_object, write_workload
from ebbtide.core.autoscaler import rollout as steps
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import parse_count, read_annotation
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import count_noun
from ebbtide.core.translation.objects import Object

#: Minimum number of replicas: with one, none would serve during the rollout.
MIN_REPLICAS: Final = 2
#: Annotations with which the last replica of a revision without requests ends soon, instead of after the stable window.
ENDING: Final = {keys.WINDOW: "6s", keys.SCALE_DOWN_DELAY: "0s", keys.RETENTION: "0s"}
#: Knative keeps the pods of a revision that was never ready until this deadline, after which it has failed.
FAILED_DEADLINE: Final = "1s"
#: Seconds during which a new revision is looked for in short intervals, to limit it before its pods are created.
BIRTH_SECONDS: Final = 10.0
BIRTH_POLL_SECONDS: Final = 0.05
#: Seconds after the end of a replica began, at which the gateway is refreshed, and then always after the last one. Kourier 1.21 follows the endpoints of only one
#: revision of a traffic split (net-kourier pkg/generator/ingress_translator.go, trackService, whose selectors overwrite each
#: other in knative.dev/pkg tracker/enqueue.go, TrackReference), so its gateway sends requests to terminating pods, which
#: therefore do not end, until the Ingress changes.
REFRESH_SECONDS: Final = (2.0, 6.0, 15.0, 30.0)


def needs_rollout(cluster: Cluster, planned: ApplyDiff) -> bool:
    """Return whether an apply replaces the replicas one at a time, or continues such a rollout."""
    top = next((step for step in planned.steps if is_top_object(step.item)), None)
    if top is None or top.verdict not in {"change", "keep"} or planned.workload.plan.serving != "knative":
        return False
    asks = planned.workload.plan.spec.rollout.surge == 0
    if top.verdict == "keep" and not asks:
        return False
    selector = f"{keys.KNATIVE_SERVICE}={top.name}"
    try:
        revisions = cluster.list(kube.REVISION, top.namespace, labels=selector).items
    except ForbiddenError:
        if asks:
            raise
        return False
    if any(map(is_in_rollout, revisions)):
        return True
    if not asks or not revisions:
        return False
    live = inventory.find_workload(cluster, top.name, top.namespace, 0.0)
    newest = get_at(live.top, "status", "latestCreatedRevisionName")
    if not top.rollout and newest in traffic_shares(live):
        return False
    return bool(_find_unread(live)) or _count_serving(live) >= MIN_REPLICAS


def roll_out(
    cluster: Cluster,
    planned: ApplyDiff,
    clock: Clock,
    say: Callable[[str], None],
    done: Callable[[ApplyStep], None] = lambda step: None,  # noqa: ARG005 - a callback that does nothing
    *,
    force: bool = False,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Write a plan so that its replicas are replaced one at a time; return why the new revision failed, empty if it did not.

    It can be interrupted at any time; the next call continues. ``check`` is called before each step, and raises an error to
    interrupt it. Writes need patch on Knative Services and Revisions.
    Raises ClusterError if the cluster rejects a write, and MissingError if the workload was deleted.
    """
    rollout = _Rollout(cluster, planned, clock, say, done, force=force)
    failure = None
    while failure is None:
        check()
        try:
            failure = rollout.step()
        except BusyError:
            clock.sleep(POLL_SECONDS)
    return failure


class _Rollout:
    """A process that carries out a rollout."""

    def __init__(
        self,
        cluster: Cluster,
        planned: ApplyDiff,
        clock: Clock,
        say: Callable[[str], None],
        done: Callable[[ApplyStep], None],
        *,
        force: bool,
    ) -> None:
        self._force = force
        self._cluster, self._planned, self._clock, self._say, self._done = cluster, planned, clock, say, done
        self._name, self._namespace = planned.workload.name, planned.workload.namespace
        self._pending = any(step.rollout for step in planned.steps if is_top_object(step.item))
        self._start = clock.ticks()
        self._told = ""
        #: When each terminating pod was seen first, and the refreshes since.
        self._leaving: dict[str, tuple[float, int]] = {}

    def step(self) -> str | None:
        """Carry out one step; return None if there are more, or else why the new revision failed, empty if it did not."""
        live = inventory.find_workload(self._cluster, self._name, self._namespace, self._clock.now())
        ended = self._find_ended(live)
        if ended:
            return ended
        if not _is_processed(live):
            self._wait("Knative to process the service")
            return None
        if unread := _find_unread(live):
            self._wait(f"the pods of {unread} to be read")
            return None
        state, failed = observe_rollout(live, pending=self._pending)
        self._end_surplus(live, state)
        step = steps.next_step(state)
        if isinstance(step, steps.Wait):
            self._refresh_gateway(live)
            self._wait(step.reason, state)
            return None
        if isinstance(step, steps.Finish):
            return self._finish(live, state, failed)
        self._carry_out(step, live, state, failed)
        return None

    def _find_ended(self, live: LiveWorkload) -> str:
        """Return why the newest revision failed, if an earlier rollout has returned from it, and the template is the same."""
        if self._pending or any(map(is_in_rollout, live.revisions)):
            return ""
        newest = inventory.find_by_name(live.revisions, _newest(live))
        mark = None if newest is None else read_mark(newest)
        return "" if mark is None else mark.failed

    def _carry_out(self, step: steps.RolloutStep, live: LiveWorkload, state: steps.RolloutState, failed: str) -> None:
        match step:
            case steps.Limit(name, replicas):
                self._tell(f"{name} may have {count_noun(replicas, 'replica')}{_count_ready(state)}")
                self._limit(_find(live, name), replicas, state.replicas)
            case steps.Route(shares):
                self._tell(
                    "requests: " + ", ".join(f"{percent}% to {name}" for name, percent in sorted(shares.items()))
                )
                named = bool(failed) or self._pending
                rows = make_traffic(shares, "" if named else _newest(live), reverse=named)
                self._cluster.patch(kube.KNATIVE, self._name, self._namespace, {"spec": {"traffic": rows}})
            case steps.GiveUp(name, reason):
                self._tell(f"{name} failed: {reason}; returning to the former revision")
                revision = _find(live, name)
                mark = _mark_of(revision, state.replicas)
                self._annotate(name, {keys.ROLLOUT: replace(mark, failed=reason).format()})
            case steps.Create():
                self._tell("creating the new revision")
                self._create(live, state.replicas)

    def _create(self, live: LiveWorkload, replicas: int) -> None:
        """Write the objects, and limit the new revision to one replica as soon as it exists."""
        rows = make_traffic(_read_shares(live, ""), "", reverse=False)
        changes = [
            replace(step, item={**step.item, "spec": {**step.item["spec"], "traffic": rows}})
            if is_top_object(step.item)
            else step
            for step in self._planned.steps
        ]
        write_workload(self._cluster, changes, self._clock, force=self._force, done=self._done)
        self._pending = False
        former, end = _newest(live), self._clock.ticks() + BIRTH_SECONDS
        while self._clock.ticks() < end:
            service = self._cluster.get(kube.KNATIVE, self._name, self._namespace)
            newest = get_at(service, "status", "latestCreatedRevisionName", default="")
            if newest and newest != former:
                self._limit(self._cluster.get(kube.REVISION, newest, self._namespace), 1, replicas)
                return
            self._clock.sleep(BIRTH_POLL_SECONDS)

    def _limit(self, revision: Object, limit: int, replicas: int) -> None:
        """Set a revision's minimum and maximum, and record in the same write what it had before."""
        mark = _mark_of(revision, replicas)
        annotations: dict[str, str | None] = dict(mark.saved)
        annotations |= {keys.MIN_SCALE: str(limit), keys.MAX_SCALE: str(max(limit, 1))}
        if not limit:
            annotations |= ENDING
            if find_condition(revision, "Ready").get("status") != "True":
                annotations[keys.PROGRESS_DEADLINE] = FAILED_DEADLINE
        self._annotate(revision["metadata"]["name"], {**annotations, keys.ROLLOUT: mark.format()})

    def _finish(self, live: LiveWorkload, state: steps.RolloutState, failed: str) -> str | None:
        """Restore the annotations, those of the revision that serves last, so that an interruption is noticed."""
        target = "" if state.target is None else state.target.name
        marked = sorted(filter(is_in_rollout, live.revisions), key=lambda row: row["metadata"]["name"] == target)
        for revision in marked:
            name = revision["metadata"]["name"]
            if name != target and get_at(revision, "metadata", "labels", keys.ROUTING_STATE) == "active":
                self._wait(f"Knative to route around {name}")
                return None
        for revision in marked:
            name, mark = revision["metadata"]["name"], _mark_of(revision, state.replicas)
            ended = RolloutMark(0, failed=mark.failed).format() if mark.failed else None
            annotations = {**mark.saved, keys.ROLLOUT: ended}
            if mark.failed:
                # Also when a later rollout names the latest revision, it must not take a device.
                annotations[keys.MIN_SCALE] = "0"
            if name == target and keys.FLOOR in (live.top["metadata"].get("annotations") or {}):
                # The controller decides the minimum, beginning with the replicas that there are.
                annotations[keys.MIN_SCALE] = str(state.replicas)
            self._annotate(name, annotations)
        if keys.ENDPOINTS in (live.top["metadata"].get("annotations") or {}):
            self._mark_endpoints(None)
        self._tell(f"all {state.replicas} replicas are {target}")
        return failed

    def _annotate(self, name: str, annotations: dict[str, str | None]) -> None:
        try:
            self._cluster.patch(kube.REVISION, name, self._namespace, {"metadata": {"annotations": annotations}})
        except MissingError:
            # Knative's garbage collector removed a revision without traffic.
            return

    def _end_surplus(self, live: LiveWorkload, state: steps.RolloutState) -> None:
        """End the replicas beyond a limit that wait for a node: Knative keeps them while none of the revision is ready.

        A new revision starts with its template's minimum before it can be limited. Its pods beyond the first wait for devices,
        and its autoscaler ignores the limit of a revision that cannot be scheduled (pkg/reconciler/revision/resources/pa.go,
        reachability; pkg/reconciler/autoscaling/kpa/scaler.go, handleScaleToZero).
        """
        limits = {row.name: row for row in (*state.sources, *([] if state.target is None else [state.target]))}
        for deployment in live.deployments:
            row = limits.get(get_at(deployment, "metadata", "ownerReferences", 0, "name", default=""))
            if row is None or row.limit is None:
                continue
            waiting = sum(
                get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == row.name and is_unscheduled(pod)
                for pod in live.pods
            )
            replicas = max(row.limit, row.live - waiting)
            if not waiting or get_at(deployment, "spec", "replicas", default=0) <= replicas:
                continue
            with suppress(ForbiddenError, MissingError):
                name = deployment["metadata"]["name"]
                self._cluster.patch(kube.DEPLOYMENT, name, self._namespace, {"spec": {"replicas": replicas}})

    def _refresh_gateway(self, live: LiveWorkload) -> None:
        """Let the gateway read the endpoints again while a replica terminates: Knative copies the annotation to the Ingress."""
        now, due = self._clock.ticks(), False
        for pod in live.pods:
            name = pod["metadata"]["name"]
            if "deletionTimestamp" not in pod["metadata"]:
                continue
            first, done = self._leaving.setdefault(name, (now, 0))
            age = now - first
            wanted = sum(age >= seconds for seconds in REFRESH_SECONDS) + int(age // REFRESH_SECONDS[-1])
            if wanted > done:
                due, self._leaving[name] = True, (first, wanted)
        if due:
            self._mark_endpoints(f"{self._clock.now():.0f}")

    def _mark_endpoints(self, value: str | None) -> None:
        patch = {"metadata": {"annotations": {keys.ENDPOINTS: value}}}
        self._cluster.patch(kube.KNATIVE, self._name, self._namespace, patch)

    def _wait(self, reason: str, state: steps.RolloutState | None = None) -> None:
        self._tell(f"waiting for {reason}{'' if state is None else _count_ready(state)}")
        self._clock.sleep(POLL_SECONDS)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(f"{self._clock.ticks() - self._start:5.0f} s  {self._name}: {text}\n")


def observe_rollout(live: LiveWorkload, *, pending: bool) -> tuple[steps.RolloutState, str]:
    """Return the state of a rollout, and why its new revision failed; with ``pending``, the new one is not created yet."""
    newest = _newest(live)
    shares = _read_shares(live, newest)
    states = [_observe_revision(live, revision, shares) for revision in live.revisions]
    marked = [revision for revision in live.revisions if is_in_rollout(revision)]
    names = {revision["metadata"]["name"] for revision in marked}
    target = None if pending else next((state for state in states if state.name == newest), None)
    sources = tuple(
        state
        for state in states
        if (target is None or state.name != newest)
        and (state.name in names or state.live or state.leaving or shares.get(state.name))
    )
    replicas = max((_mark_of(revision, 0).replicas for revision in marked), default=_count_serving(live))
    revision = inventory.find_by_name(live.revisions, newest)
    mark = None if revision is None else read_mark(revision)
    failed = "" if pending or mark is None else mark.failed
    if target is not None and not failed:
        target = target._replace(failure=find_revision_failure(live, newest))
    named = bool(failed) or pending
    requested = shares if _is_requested(live, shares, "" if named else newest, reverse=named) else {}
    routed = (
        traffic_shares(live) == {name: share for name, share in requested.items() if share}
        and find_condition(live.top, "RoutesReady").get("status") == "True"
    )
    state = steps.RolloutState(replicas, target, sources, requested, routed)
    return (steps.reverse_roles(state, newest) if failed else state), failed


def _find_unread(live: LiveWorkload) -> str:
    """Return a revision of which not all pods were read, empty if there is none.

    A cluster that does not serve a kind at the moment returns no objects of it, and a rollout must not take that for the
    end of the replicas. A Deployment counts its pods that do not terminate (k8s.io/kubernetes v1.37.2
    pkg/controller/deployment/sync.go, calculateStatus).
    """
    by_revision = {
        get_at(row, "metadata", "ownerReferences", 0, "name"): get_at(row, "status", "replicas", default=0)
        for row in live.deployments
    }
    labels = [get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) for pod in live.pods if not has_ended(pod)]
    serving = [name for name in traffic_shares(live) if name not in by_revision]
    missing = [name for name, replicas in by_revision.items() if name and labels.count(name) < replicas]
    return next((str(name) for name in (*serving, *missing)), "")


def _observe_revision(live: LiveWorkload, revision: Object, shares: dict[str, int]) -> steps.RevisionState:
    name = revision["metadata"]["name"]
    pods = [pod for pod in live.pods if get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) == name]
    alive = [pod for pod in pods if not has_ended(pod)]
    leaving = sum("deletionTimestamp" in pod["metadata"] for pod in pods)
    limit = parse_count(read_annotation(revision, keys.MIN_SCALE) or "0") if is_in_rollout(revision) else None
    mark = read_mark(revision)
    former = name != _newest(live) or (mark is not None and mark.failed)
    if limit is None and former and not alive and not shares.get(name):
        limit = 0
    return steps.RevisionState(name, limit, sum(map(is_ready, alive)), len(alive), leaving)


def make_traffic(shares: dict[str, int], target: str, *, reverse: bool) -> list[Object]:
    """Return the traffic of a Knative Service.

    A row without requests for the latest revision lets it have its replicas before it is ready. With ``reverse``, there is
    none: the latest revision has failed, or is not the new one yet, and gets no replicas.
    """
    if target and shares == {target: steps.FULL_PERCENT}:
        return LATEST
    rows: list[Object] = [
        {"revisionName": name, "latestRevision": False, "percent": percent} for name, percent in sorted(shares.items())
    ]
    return rows if reverse else [*rows, {"latestRevision": True, "percent": 0}]


def _count_ready(state: steps.RolloutState) -> str:
    ready = sum(source.ready for source in state.sources) + (0 if state.target is None else state.target.ready)
    return f" ({ready} of {state.replicas} ready)"


def _mark_of(revision: Object, replicas: int) -> RolloutMark:
    """Return a revision's mark, or a new one with its present annotations."""
    mark = read_mark(revision)
    if mark is not None and mark.replicas:
        return mark
    annotations = revision["metadata"].get("annotations") or {}
    return RolloutMark(replicas, {key: annotations.get(key) for key in SAVED}, "" if mark is None else mark.failed)


def _newest(live: LiveWorkload) -> str:
    return str(get_at(live.top, "status", "latestCreatedRevisionName", default=""))


def _find(live: LiveWorkload, name: str) -> Object:
    return next(revision for revision in live.revisions if revision["metadata"]["name"] == name)


def _is_processed(live: LiveWorkload) -> bool:
    generation = live.top["metadata"].get("generation")
    return bool(live.revisions) and get_at(live.top, "status", "observedGeneration") == generation


def _count_serving(live: LiveWorkload) -> int:
    """Return the number of replicas of the revisions that receive requests."""
    serving = traffic_shares(live)
    labels = (get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) for pod in live.pods if not has_ended(pod))
    return sum(name in serving for name in labels)


def _read_shares(live: LiveWorkload, newest: str) -> dict[str, int]:
    """Return the percentages by revision that the service requests, 0 for one that it only names."""
    rows: list[Object] = get_at(live.top, "spec", "traffic", default=[]) or LATEST
    return {row["revisionName"]: 0 for row in rows if row.get("revisionName")} | sum_percents(rows, newest)


def _is_requested(live: LiveWorkload, shares: dict[str, int], target: str, *, reverse: bool) -> bool:
    """Return whether the service's traffic is exactly what the rollout would write for these shares."""

    def normalize(rows: list[Object]) -> list[tuple[str, bool, int]]:
        return [(row.get("revisionName", ""), bool(row.get("latestRevision")), row.get("percent") or 0) for row in rows]

    rows = get_at(live.top, "spec", "traffic", default=[]) or LATEST
    return normalize(rows) == normalize(make_traffic(shares, target, reverse=reverse))
