"""From objects to a running workload: what would change, what it costs, the writes in order, the wait.

``plan`` reads and asks the server for dry runs; ``carry_out`` writes; ``wait`` looks until the workload has settled.
Each may be killed at any point and run again: every write is a server-side apply of the whole object, so the end is the
same. With ``create`` the workload must not be there yet, and of several that begin at once one has it. Nothing is
deleted here. Upstream: kubernetes.io/docs/reference/using-api/server-side-apply (conflicts).
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from ebbtide.base import keys
from ebbtide.base.bodies import body
from ebbtide.base.paths import at
from ebbtide.base.prose import counted
from ebbtide.base.quantities import number
from ebbtide.cluster.client.protocol import (
    LIVE_MANAGER,
    QUOTA,
    BusyError,
    ClusterError,
    ConflictError,
    ExistsError,
    ForbiddenError,
    MissingError,
    kind_of,
    prepared,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read.status import SETTLED, Status, refusal, status
from ebbtide.cluster.write.changes import Change, changes, makes_pods
from ebbtide.documents.quota import beside
from ebbtide.translation import gpu
from ebbtide.translation.objects import Object, merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ebbtide.base.problems import Problem
    from ebbtide.cluster.client.protocol import Clock, Cluster
    from ebbtide.documents.check import Batch
    from ebbtide.readers.loaded import Loaded
    from ebbtide.translation.plan import Plan

Verdict = Literal["create", "change", "keep", "refused"]
#: Seconds between two looks while waiting, and between two attempts at a server that is busy.
LOOK: Final = 1.0
#: Seconds that a busy server is asked again for.
PATIENCE: Final = 60.0
#: KServe notes an edit as seen before it has passed it on.
KSERVE_LAG: Final = 3.0
TOPS: Final = ("serving.knative.dev/v1", "serving.kserve.io/v1beta1")
#: What several workloads share, and so is there before any of them.
SHARED: Final = {"Namespace", "PriorityClass", "Queue", "ResourceQuota", "LimitRange"}
#: What is of no use without its workload, and is written after it.
FOLLOWERS: Final = ("DomainMapping", "HorizontalPodAutoscaler", "ScaledObject")
#: A live scale's fields, and the annotation of a revision that holds each.
SCALED: Final = {
    "minReplicas": keys.MIN_SCALE,
    "maxReplicas": keys.MAX_SCALE,
    "metricThreshold": keys.TARGET,
}
LATEST: Final = [{"latestRevision": True, "percent": 100}]


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload to apply: its objects in order, and the choices they come from."""

    objects: tuple[Object, ...]
    plan: Plan

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.plan.name

    @property
    def namespace(self) -> str:
        """The workload's namespace."""
        return self.plan.namespace


@body("verdict kind namespace name changes rollout owners refusal notes")
class Step:
    """What becomes of one object."""

    verdict: Verdict
    #: As it will be sent.
    item: Object
    changes: tuple[Change, ...] = ()
    #: Whether the change makes new pods: a new revision, or a rollout.
    rollout: bool = False
    #: Who else owns what would be changed, with the fields; taken over only by force.
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Why the cluster refuses it.
    refusal: str = ""
    #: What it is refused by: what is there already, what the caller may not, what the cluster does not take.
    error: ClusterError | None = None
    #: Removed first, since another manager's field stays however often it is left out.
    unset: Object | None = None
    notes: tuple[str, ...] = ()
    #: What the spec says of the fields that a live scale may set.
    said: dict[str, str | None] = field(default_factory=dict)
    #: Whether a live scale is noted on the workload.
    scaled: bool = False

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.item["kind"])

    @property
    def namespace(self) -> str:
        """The object's namespace; empty where it has none."""
        return str(self.item["metadata"].get("namespace") or "")

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.item["metadata"]["name"])

    @property
    def label(self) -> str:
        """The object in words: ``Service team-a/chat``."""
        return f"{self.kind} {self.namespace and f'{self.namespace}/'}{self.name}"


@body("name=workload.name namespace=workload.namespace different steps cost")
class Planned:
    """What an apply of one workload would do, and what it costs."""

    workload: Workload
    steps: tuple[Step, ...]
    cost: tuple[str, ...]
    #: Whether the workload must not be there when it is written.
    create: bool = False

    @property
    def different(self) -> bool:
        """Whether anything would change."""
        return any(step.verdict != "keep" for step in self.steps)

    @property
    def refused(self) -> bool:
        """Whether the cluster would refuse something, or somebody else owns a part of it."""
        return any(step.verdict == "refused" or step.owners for step in self.steps)


def workloads(documents: Iterable[Loaded], batch: Batch) -> tuple[list[Workload], list[Problem]]:
    """Return every workload of documents, and every problem of them and of all together."""
    made, problems = [], []
    for loaded in documents:
        objects, translation, found = batch.add(loaded)
        problems += found
        if translation is not None and translation.plan is not None and objects:
            made.append(Workload(tuple(objects), translation.plan))
    return made, problems + batch.finish()


def is_top(item: Object) -> bool:
    """Whether an object is the workload itself."""
    return item["apiVersion"] in TOPS and item["kind"] in {"Service", "InferenceService"}


def plan(cluster: Cluster, workload: Workload, *, create: bool = False) -> Planned:
    """Return what an apply would do, or with ``create`` a submit of what is not there yet. Nothing is written."""
    found = [_step(cluster, item, create=create) for item in workload.objects]
    if create:
        # The workload's own object decides who is first, so what only belongs to it waits until that is known.
        found.sort(key=lambda step: (step.item["kind"] not in SHARED, not is_top(step.item)))
    return Planned(workload, tuple(found), tuple(_cost(cluster, workload, found)), create)


def steps(cluster: Cluster, objects: Iterable[Object]) -> tuple[Step, ...]:
    """Return what would become of objects that are no workload's, in order. Nothing is written."""
    return tuple(_step(cluster, item) for item in objects)


def _step(cluster: Cluster, item: Object, *, create: bool = False) -> Step:
    name, namespace = item["metadata"]["name"], item["metadata"].get("namespace", "")
    new = create and is_top(item)
    try:
        live = inventory.top_of(cluster, name, namespace) if new else cluster.get(kind_of(item), name, namespace)
    except MissingError:
        return _creation(cluster, item)
    except ForbiddenError:
        if item["kind"] not in SHARED:
            raise
        return Step("keep", item, notes=("you may not see it: it is taken to be there as it should be",))
    if new:
        taken = _taken(item, live)
        return Step("refused", item, refusal=taken, error=ExistsError(taken))
    if not is_top(item):
        return _change(cluster, item, live)
    kept, notes = with_scale(item, live, folded=False)
    kept, unset = _unpinned(kept, live)
    step = _change(cluster, kept, live, unset, notes)
    if step.rollout and scale_record(live):
        # A new revision is made anyway: it takes over what was set by hand on the old one.
        kept, notes = with_scale(item, live, folded=True)
        kept, unset = _unpinned(kept, live)
        step = _change(cluster, kept, live, unset, notes)
    said = {name: get_scaled(item, name) for name in SCALED}
    return replace(step, said=said, scaled=bool(scale_record(live)))


def _taken(item: Object, live: Object) -> str:
    """Say that a name is taken, and what to do if it was oneself that took it."""
    name = item["metadata"]["name"]
    same = at(live, "metadata", "annotations", keys.SPEC) == at(item, "metadata", "annotations", keys.SPEC)
    since = live["metadata"].get("creationTimestamp", "")
    return (
        f"there is a workload {name} already, made at {since} from "
        f"{'this very spec' if same else 'another spec'}; choose another name, or "
        f"{'let ebbtide apply finish what was cut short' if same else 'change it with ebbtide apply'}"
    )


def _creation(cluster: Cluster, item: Object) -> Step:
    try:
        cluster.apply(item, dry_run=True)
    except MissingError as error:
        if "namespaces" in str(error):
            # Its namespace is made by an earlier step, and there is nothing to ask before that.
            return Step("create", item)
        return Step("refused", item, refusal=f"this cluster does not know {item['kind']}: {error}", error=error)
    except BusyError:
        return Step("create", item)
    except ClusterError as error:
        return Step("refused", item, refusal=refusal(str(error)), error=error)
    return Step("create", item)


def _change(
    cluster: Cluster, item: Object, live: Object, unset: Object | None = None, notes: tuple[str, ...] = ()
) -> Step:
    owners: dict[str, tuple[str, ...]] = {}
    try:
        try:
            wanted = cluster.apply(item, dry_run=True)
        except ConflictError as error:
            owners = {who: fields for who, fields in error.owners.items() if who != LIVE_MANAGER}
            wanted = cluster.apply(item, force=True, dry_run=True)
    except BusyError:
        raise
    except ForbiddenError as error:
        if item["kind"] in SHARED and _holds(live, prepared(item)):
            return Step("keep", item, notes=("it is there as it should be, and is not yours to change",))
        return Step("refused", item, refusal=str(error), error=error)
    except ClusterError as error:
        return Step("refused", item, refusal=refusal(str(error)), error=error)
    if unset is not None:
        wanted = merge_patch(wanted, unset)
    found = changes(live, wanted)
    if not found:
        return Step("keep", item, owners=owners, notes=notes)
    return Step("change", item, found, makes_pods(live, found), owners, unset=unset, notes=notes)


def _holds(live: Any, wanted: Any) -> bool:
    """Whether all of an object stands in a live one."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_holds(live.get(name), value) for name, value in wanted.items())
    return bool(live == wanted)


# What is set by hand.


def scale_record(live: Object) -> dict[str, Any]:
    """Return what ``ebbtide scale`` noted on a workload; empty where it noted nothing, or nothing readable."""
    try:
        record = json.loads(at(live, "metadata", "annotations", keys.SCALE, default="{}"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def with_scale(item: Object, live: Object, *, folded: bool) -> tuple[Object, tuple[str, ...]]:
    """Return an object that keeps a live scale, with a note on each field.

    Where the spec says what it said when the scale was set, or has caught up with it, the scale stays: without a rollout
    the template is left as it is, since the revision has the value already; with one it gets the value. Where the spec
    says something else since, the spec wins.
    """
    record = scale_record(live)
    base = at(record, "base", default={})
    made, notes = deepcopy(item), []
    for name in SCALED:
        if name not in record:
            continue
        said, scaled = get_scaled(item, name), str(record[name])
        if said is None or said not in {scaled, str(base.get(name))}:
            notes.append(f"{name} {scaled} was set by hand; the spec has changed since and wins with {said or 'none'}")
            continue
        of_template = get_scaled(live, name) or said
        put_scaled(made, name, scaled if folded else of_template)
        if said != scaled:
            notes.append(
                f"{name} {scaled} was set by hand and is kept (the spec has {said}); "
                f"{'the new revision takes it over' if folded else 'ebbtide scale --reset drops it'}"
            )
        elif of_template != said and not folded:
            notes.append(f"{name} {said} is live already; the template follows with the next rollout")
    return made, tuple(notes)


def get_scaled(item: Object, name: str) -> str | None:
    """Return a field of the scale as an object's template has it."""
    if item["kind"] == "InferenceService":
        if name != "metricThreshold":
            found = at(item, "spec", "predictor", name)
            return None if found is None else str(found)
        return _text(at(item, "spec", "predictor", "annotations", keys.TARGET))
    return _text(at(item, "spec", "template", "metadata", "annotations", SCALED[name]))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def put_scaled(item: Object, name: str, value: str) -> None:
    """Set a field of the scale in an object's template."""
    if item["kind"] == "InferenceService":
        predictor = item["spec"]["predictor"]
        if name == "metricThreshold":
            predictor.setdefault("annotations", {})[keys.TARGET] = value
        else:
            predictor[name] = int(value)
        return
    item["spec"]["template"]["metadata"].setdefault("annotations", {})[SCALED[name]] = value


def _unpinned(item: Object, live: Object) -> tuple[Object, Object | None]:
    """Return an object that ends a rollback: traffic goes to the newest revision again."""
    if item["kind"] == "InferenceService":
        predictor = item["spec"]["predictor"]
        pinned = at(live, "spec", "predictor", "canaryTrafficPercent") is not None
        if pinned and predictor.get("canaryTrafficPercent") is None:
            return item, {"spec": {"predictor": {"canaryTrafficPercent": None}}}
        return item, None
    rows = at(live, "spec", "traffic", default=[])
    if at(item, "spec", "traffic") is None and any(row.get("revisionName") for row in rows):
        return {**item, "spec": {**item["spec"], "traffic": LATEST}}, None
    return item, None


# What it costs.


def _cost(cluster: Cluster, workload: Workload, steps: Sequence[Step]) -> Iterator[str]:
    chosen = workload.plan
    share = gpu.per_replica(chosen)
    low, high = chosen.scaling.minimum, chosen.scaling.maximum
    if share:
        yield (
            f"GPUs: {number(share)} a replica, {number(low * share)} at {counted(low, 'replica')} "
            f"(minReplicas), {number(high * share)} at {high} (maxReplicas)"
        )
        more = beside(chosen)
        if any(step.rollout for step in steps) and more:
            yield f"the rollout needs {number((low + more) * share)} while old and new replicas run"
    try:
        quotas = cluster.list(QUOTA, workload.namespace).items
    except ForbiddenError:
        return
    for quota in quotas:
        hard, used = at(quota, "status", "hard", default={}), at(quota, "status", "used", default={})
        told = ", ".join(f"{used.get(name, '0')} of {limit} {name}" for name, limit in hard.items())
        if told:
            yield f"quota {quota['metadata']['name']}: {told} in use"


# Writing and waiting.


def carry_out(
    cluster: Cluster,
    planned: Planned,
    clock: Clock,
    *,
    force: bool = False,
    basis: Object | None = None,
    done: Callable[[Step], None] = lambda step: None,  # noqa: ARG005 - nobody listens
) -> list[Object]:
    """Write what differs, in order, and return the objects as they are then.

    ``basis`` is the workload's own object as it was read, where what is written was made of it.

    Raises:
        StaleError: that object is not as it was read.
        ConflictError: another manager owns what would be changed, and ``force`` is not said.
        ExistsError: it is planned to be created, and somebody else has done so since.
        ClusterError: the cluster refuses an object; what came before it is written, and may be written again.

    """
    return write(cluster, planned.steps, clock, create=planned.create, force=force, basis=basis, done=done)


def write(
    cluster: Cluster,
    planned: Iterable[Step],
    clock: Clock,
    *,
    create: bool = False,
    force: bool = False,
    basis: Object | None = None,
    done: Callable[[Step], None] = lambda step: None,  # noqa: ARG005 - nobody listens
) -> list[Object]:
    """Write steps in order, and return the objects as they are then. Raises what ``carry_out`` does."""
    found = []
    todo = list(planned)
    top = next((step.item for step in todo if is_top(step.item)), None)
    for step in todo:
        if step.verdict == "keep":
            if step.scaled:
                # An apply that was cut short may have left a note that its last write would have brought up to date.
                metadata = step.item["metadata"]
                _tidy(cluster, step, cluster.get(kind_of(step.item), metadata["name"], metadata["namespace"]))
            continue
        first = create and is_top(step.item)
        owned = replace(step, item=_owned(cluster, top, step.item))
        on = basis if is_top(step.item) else None
        work = partial(_create, cluster, step) if first else partial(_write, cluster, owned, force=force, basis=on)
        made = _patiently(clock, work)
        found.append(made)
        done(step)
        if is_top(step.item) and scale_record(made):
            _tidy(cluster, step, made)
    return found


def _create(cluster: Cluster, step: Step) -> Object:
    metadata = step.item["metadata"]
    try:
        return cluster.create(step.item)
    except ExistsError as error:
        live = cluster.get(kind_of(step.item), metadata["name"], metadata["namespace"])
        raise ExistsError(f"somebody else was first: {_taken(step.item, live)}") from error


def _owned(cluster: Cluster, top: Object | None, item: Object) -> Object:
    """Return an object that goes with its workload, whoever deletes that: what comes after it is told its uid."""
    if top is None or item["kind"] not in FOLLOWERS:
        return item
    live = cluster.get(kind_of(top), top["metadata"]["name"], top["metadata"]["namespace"])
    owner = {"apiVersion": top["apiVersion"], "kind": top["kind"]} | {
        part: live["metadata"][part] for part in ("name", "uid")
    }
    return {**item, "metadata": {**item["metadata"], "ownerReferences": [owner]}}


def _write(cluster: Cluster, step: Step, *, force: bool, basis: Object | None) -> Object:
    metadata = step.item["metadata"]
    if step.unset is not None:
        now = cluster.patch(kind_of(step.item), metadata["name"], metadata["namespace"], step.unset, basis=basis)
        basis = None if basis is None else now
    try:
        return cluster.apply(step.item, force=force, basis=basis)
    except ConflictError as error:
        # What was set by our own commands on the live object is ours to take back.
        if set(error.owners) == {LIVE_MANAGER}:
            return cluster.apply(step.item, force=True, basis=basis)
        raise


def _tidy(cluster: Cluster, step: Step, made: Object) -> None:
    """Bring the note of a live scale up to the spec; what the template says by now needs none."""
    record = scale_record(made)
    base = at(record, "base", default={})
    kept: dict[str, Any] = {}
    for name in SCALED:
        said = step.said.get(name)
        if name not in record or said is None or said not in {str(record[name]), str(base.get(name))}:
            continue
        if said == str(record[name]) == get_scaled(made, name):
            continue
        kept[name] = record[name]
        base = {**base, name: record[name] if said == str(record[name]) else base.get(name)}
    wanted = {**kept, "base": {name: base.get(name) for name in kept}} if kept else {}
    if wanted == record:
        return
    metadata = step.item["metadata"]
    value = json.dumps(wanted, sort_keys=True) if wanted else None
    patch = {"metadata": {"annotations": {keys.SCALE: value}}}
    cluster.patch(kind_of(step.item), metadata["name"], metadata["namespace"], patch)


def _patiently(clock: Clock, work: Callable[[], Object]) -> Object:
    """Do a write, again and again while the server is busy."""
    end = clock.now() + PATIENCE
    while True:
        try:
            return work()
        except BusyError:
            if clock.now() + LOOK > end:
                raise
            clock.sleep(LOOK)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a workload while waiting: seconds since the beginning, and what was seen."""

    seconds: float
    status: Status


def wait(
    cluster: Cluster,
    name: str,
    namespace: str,
    clock: Clock,
    limit: float,
    seen: Callable[[Look], None] = lambda look: None,  # noqa: ARG005 - nobody listens
) -> Status | None:
    """Look at a workload until it has settled, and tell each change of phase or reason; None after ``limit`` seconds.

    Degraded is an end: a revision that failed does not come up by waiting.

    Raises:
        MissingError: somebody removed it.

    """
    start = clock.now()
    told: tuple[str, str] | None = None
    while True:
        try:
            live = inventory.find(cluster, name, namespace, clock.now())
        except BusyError:
            live = None
        if live is not None:
            now = status(live)
            if (now.phase, now.why) != told:
                told = (now.phase, now.why)
                seen(Look(clock.now() - start, now))
            early = live.top["kind"] == "InferenceService" and clock.now() - start < KSERVE_LAG
            if now.phase in SETTLED and not early and _complete(now):
                return now
        if clock.now() - start >= limit:
            return None
        clock.sleep(LOOK)


def _complete(now: Status) -> bool:
    """Whether a running workload has as many replicas as it must have; what is wanted follows its bounds a little later."""
    least, wanted = now.replicas.minimum, now.replicas.wanted
    return now.phase != "Running" or now.replicas.ready >= min(max(wanted, least), max(least, 1))
