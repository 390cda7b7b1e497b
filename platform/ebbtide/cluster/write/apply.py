"""Apply of a workload: the plan of changes, its cost, the ordered writes, and the wait.

``plan`` reads and sends server-side dry runs; ``carry_out`` writes; ``wait`` polls until the workload has settled.
Each can be interrupted and repeated: every write is a server-side apply of the whole object, so the result is the same.
With ``create`` the workload must not exist; of several concurrent callers, one creates it. Nothing is deleted.
Upstream: kubernetes.io/docs/reference/using-api/server-side-apply (conflicts).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Clock, Cluster, ClusterError
from ebbtide.cluster.read import amounts, hints, inventory
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.model_caches import CACHE_LABEL
from ebbtide.cluster.read.pods import find_condition
from ebbtide.cluster.read.records import SCALED, find_revision_edits, read_scale_record
from ebbtide.cluster.read.rejections import explain_rejection, explain_selector
from ebbtide.cluster.read.status import Status, compute_status
from ebbtide.cluster.write.canary import fill_stable_revision
from ebbtide.cluster.write.changes import FieldChange, creates_pods, diff_objects
from ebbtide.cluster.write.endpoints import apply_completed, complete_models, find_taken_model
from ebbtide.core.adopt.live import import_object
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import body
from ebbtide.core.base.names import name_llm_deployment, name_predictor
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.core.base.quantities import format_number
from ebbtide.core.documents.quota import sum_replica_requests, update_replicas
from ebbtide.core.profile.projects import report_unknown_namespace
from ebbtide.core.translation import gpu
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS, list_models, make_own_list
from ebbtide.core.translation.objects import SHARED_KINDS, Object, apply_merge_patch

if TYPE_CHECKING:
    from ebbtide.core.documents.check import Batch
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.core.translation.plan import Plan

Verdict = Literal["create", "change", "keep", "refused"]
#: Seconds between two polls of a workload, and between two attempts to write to a busy server.
POLL_SECONDS: Final = 1.0
#: Seconds for which a write to a busy server is retried.
RETRY_SECONDS: Final = 60.0
#: Seconds during which KServe may report an edit as processed before it has updated the Knative Service.
KSERVE_LAG_SECONDS: Final = 3.0
TOPS: Final = {(kind.api_version, kind.name) for kind in (kube.KNATIVE, kube.KSERVE, kube.LLM)}
#: The reason why a workload of a custom resource is not of this kind: the controller does not watch it.
LLM_REFUSAL: Final = (
    "the controller does not apply an LLMInferenceService; write it with ebbtide apply, or use another serving mode"
)
#: Problem code of an object that a custom resource must not take over.
FOREIGN: Final = "RES062"
#: Kinds that hold data, which outlives the workload.
DATA: Final = frozenset({"PersistentVolumeClaim"})
#: Kinds that need an existing workload; they are written after it.
FOLLOWERS: Final = (
    *("DomainMapping", "HorizontalPodAutoscaler", "ScaledObject"),
    *(kind for gateway in ENDPOINT_GATEWAYS.values() for _, kind in (gateway.route, *gateway.others)),
)
#: Kinds of which a former spec may have left an object, and what it does: an autoscaler of a spec without its metric, a DaemonSet of
#: ``start.prePullImage``, and a cache of a former ``model.uri``.
LEFTOVER: Final = {
    kube.HPA: "scales the Deployment; to delete it:",
    kube.SCALED_OBJECT: "scales the Deployment; to delete it:",
    kube.DAEMON_SET: "keeps its image on the nodes; to delete it after the rollout:",
    kube.MODEL_CACHE: "keeps its copy of the model on the nodes; to delete it after the rollout:",
}
#: Field managers of ``kubectl apply``, on the client's and on the server's side.
KUBECTL: Final = frozenset({"kubectl-client-side-apply", "kubectl"})
LATEST: Final = [{"latestRevision": True, "percent": 100}]


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload to apply: its objects in order, and the plan they were rendered from."""

    objects: tuple[Object, ...]
    plan: Plan

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def namespace(self) -> str:
        return self.plan.namespace


@body("verdict kind namespace name changes rollout owners refusal notes")
class ApplyStep:
    """The planned change of one object."""

    verdict: Verdict
    #: The object to send.
    item: Object
    changes: tuple[FieldChange, ...] = ()
    #: True if the change creates pods: a new revision, or a rollout.
    rollout: bool = False
    #: Other field managers of fields to change, with those fields; only ``force`` takes them over.
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: The reason why the cluster rejects the object.
    refusal: str = ""
    #: The error behind the rejection: the object exists, is forbidden to the caller, or is invalid.
    error: ClusterError | None = None
    #: Merge patch that is sent first, because an apply does not remove fields of other managers.
    unset: Object | None = None
    notes: tuple[str, ...] = ()
    #: The spec's values of the fields that a manual scale override can set.
    spec_values: dict[str, str | None] = field(default_factory=dict)
    #: True if the workload has a manual scale override.
    scaled: bool = False
    #: True if fields of kubectl may be taken over, because it applied what the stored spec renders.
    adopted: bool = False

    @property
    def kind(self) -> str:
        return str(self.item["kind"])

    @property
    def namespace(self) -> str:
        """The object's namespace; empty if it has none."""
        return str(self.item["metadata"].get("namespace") or "")

    @property
    def name(self) -> str:
        return str(self.item["metadata"]["name"])

    @property
    def label(self) -> str:
        """The object's kind and name: ``Service team-a/chat``."""
        return f"{self.kind} {self.namespace and f'{self.namespace}/'}{self.name}"


@body("name=workload.name namespace=workload.namespace different steps cost")
class ApplyDiff:
    """The planned changes of an apply of one workload, and their cost."""

    workload: Workload
    steps: tuple[ApplyStep, ...]
    cost: tuple[str, ...]
    #: True if the workload must not exist when it is written.
    create: bool = False

    @property
    def different(self) -> bool:
        """True if anything would change."""
        return any(step.verdict != "keep" for step in self.steps)

    @property
    def refused(self) -> bool:
        """True if the cluster would reject an object, or another field manager owns a field to change."""
        return any(step.verdict == "refused" or step.owners for step in self.steps)


def collect_workloads(
    documents: Iterable[LoadedDocument], batch: Batch, cluster: Cluster | None = None
) -> tuple[list[Workload], list[Problem]]:
    """Return the workloads of documents, and all problems: of each document and of the whole batch.

    With a cluster, the stable revision of a canary is filled in.
    """
    ready, problems = [], []
    for loaded in documents:
        complete = loaded if cluster is None else fill_stable_revision(loaded, cluster, batch.profile)
        objects, translation, document_problems = batch.add_document(complete)
        problems += document_problems
        if translation is None or translation.plan is None or not objects:
            continue
        if translation.plan.namespace:
            ready.append(Workload(tuple(objects), translation.plan))
        else:
            problems += loaded.place_problems([report_unknown_namespace("an object is applied to a namespace")])
    return ready, problems + batch.batch_problems()


def is_top_object(obj: Object) -> bool:
    return (obj["apiVersion"], obj["kind"]) in TOPS


def diff_workload(
    cluster: Cluster, workload: Workload, *, create: bool = False, owner: Object | None = None
) -> ApplyDiff:
    """Return the plan of an apply, or with ``create``, of a submit of a new workload. Read-only.

    ``owner`` is the owner reference of the custom resource that the workload is made from. Without one, a workload that
    belongs to a custom resource is refused, and with one, a workload that belongs to another or to none of Ebbtide's.
    """
    profile = workload.plan.profile
    # The list of the models comes last: a write reads it from the routes, also from that of this workload.
    listed = [
        complete_models(cluster, obj, list_models(workload.plan), apart_from=workload.name)
        for obj in make_own_list(workload.plan)
    ]
    planned = [
        _diff_object(cluster, _set_owner(obj, owner), profile, create=create, owner=owner)
        for obj in (*workload.objects, *listed)
    ]
    planned = [_note_selector(step, planned) for step in planned]
    if create:
        # Creating the top object decides which of several callers is first, so its companions come after it.
        planned.sort(key=lambda step: (step.item["kind"] not in SHARED_KINDS, not is_top_object(step.item)))
    # Only a user reads the cost and what is left over, each of which takes a request.
    cost = (
        () if owner is not None else (*_estimate_cost(cluster, workload, planned), *_find_leftover(cluster, workload))
    )
    return ApplyDiff(workload, tuple(planned), cost, create)


def _find_leftover(cluster: Cluster, workload: Workload) -> Iterator[str]:
    """Yield the objects that stay although the spec no longer needs them, with the commands that delete them."""
    plan, rendered = workload.plan, {(obj["kind"], obj["metadata"]["name"]) for obj in workload.objects}
    unused = {kube.HPA, kube.SCALED_OBJECT} if plan.mode.revisions else set()
    unused |= set() if plan.spec.model else {kube.MODEL_CACHE}
    for kind, effect in LEFTOVER.items():
        with suppress(kube.ForbiddenError):
            objects = () if kind in unused else inventory.list_labeled(cluster, kind, plan.name, workload.namespace)
            for name in (obj["metadata"]["name"] for obj in objects):
                if (kind.name, name) not in rendered:
                    delete = f"kubectl delete {kind.name.lower()} {name} -n {workload.namespace}"
                    yield f"{kind.name} {name} stays, and {effect} {delete}"


def is_owned(obj: Object) -> bool:
    """Return whether an object belongs to one workload, and is deleted with it: it is not shared and holds no data."""
    return not is_shared(obj) and obj["kind"] not in DATA


def is_shared(obj: Object) -> bool:
    """Return whether workloads share an object: it belongs to the cluster, to a project, or to a project's endpoint."""
    return obj["kind"] in SHARED_KINDS or _is_of_endpoint(obj)


def _is_of_endpoint(obj: Object) -> bool:
    return bool(get_at(obj, "metadata", "labels", keys.APP_COMPONENT) == keys.ENDPOINT_COMPONENT)


def _set_owner(obj: Object, owner: Object | None) -> Object:
    """Return an object with its owner; the objects that follow a workload belong to the workload."""
    if owner is None or not is_owned(obj) or obj["kind"] in FOLLOWERS:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}


def _check_owner(step: ApplyStep, live: Object, owner: Object | None) -> ApplyStep:
    """Return a step that is refused if its object belongs to another owner, and that sets a missing owner."""
    if owner is None:
        refusal = inventory.explain_resource_owner(live) if is_top_object(step.item) else ""
    elif "ownerReferences" in step.item["metadata"]:
        refusal = _explain_foreign_owner(live, owner)
    else:
        return step
    if refusal:
        return replace(step, verdict="refused", refusal=refusal, error=kube.RefusedError(refusal))
    if step.verdict == "keep" and owner is not None and not _has_owner(live, owner):
        return replace(step, verdict="change")
    return step


def _has_owner(live: Object, owner: Object) -> bool:
    return any(row["uid"] == owner["uid"] for row in live["metadata"].get("ownerReferences", ()))


def _explain_foreign_owner(live: Object, owner: Object) -> str:
    """Return why a custom resource must not take over a live object; empty if it may."""
    if _has_owner(live, owner):
        return ""
    other = inventory.describe_resource_owner(live)
    managed = get_at(live, "metadata", "labels", keys.APP_MANAGED_BY) == "ebbtide"
    if managed and not other:
        return ""
    by = f"belongs to {other}" if other else "was not created from a spec"
    return (
        f"{FOREIGN}: {live['kind']} {live['metadata']['name']} exists and {by}; rename the {owner['kind']}, or delete the "
        f"{live['kind']} first"
    )


def ends_rollback(obj: Object, live: Object) -> bool:
    """Return whether an apply of an object would end a rollback of the live object."""
    ended, unset = _end_rollback(obj, live)
    return unset is not None or ended is not obj


def diff_against_cluster(cluster: Cluster, objects: Iterable[Object]) -> tuple[ApplyStep, ...]:
    """Return the planned changes of objects without a workload, in order. Read-only."""
    return tuple(_diff_object(cluster, obj) for obj in objects)


def _diff_object(
    cluster: Cluster, obj: Object, profile: Profile | None = None, *, create: bool = False, owner: Object | None = None
) -> ApplyStep:
    if obj["kind"] == kube.LLM.name and owner is not None:
        return _refuse(obj, kube.RefusedError(LLM_REFUSAL))
    if taken := find_taken_model(cluster, obj):
        return _refuse(obj, kube.RefusedError(taken))
    new, metadata = create and is_top_object(obj), obj["metadata"]
    try:
        live = inventory.get_top(cluster, metadata["name"], metadata["namespace"]) if new else _read_live(cluster, obj)
    except kube.MissingError:
        return _diff_creation(cluster, obj)
    except kube.ForbiddenError:
        if not is_shared(obj):
            raise
        return ApplyStep("keep", obj, notes=("reading it is forbidden; assumed to exist and to be up to date",))
    if new:
        return _refuse(obj, kube.ExistsError(_explain_taken_name(obj, live)))
    step = _check_owner(_diff_existing(cluster, obj, live, profile), live, owner)
    # Only a user reads the notes, which take a request.
    if owner is not None or not is_top_object(obj) or step.rollout:
        return step
    return replace(step, notes=(*step.notes, *_describe_revision_edits(cluster, live)))


def _note_selector(step: ApplyStep, steps: Sequence[ApplyStep]) -> ApplyStep:
    """Return a step with a note if KServe cannot update the Deployment of an LLMInferenceService.

    Its selector has the labels of the pods. One names the model cache, which KServe's webhook adds to the labels of the object,
    also if another workload of the namespace created the cache.
    """
    paths = [change.path for change in step.changes]
    relabeled = any(path[:2] == ("spec", "labels") or path[-1] == CACHE_LABEL for path in paths)
    cached = any(row.verdict == "create" and row.kind == "LocalModelNamespaceCache" for row in steps)
    if step.kind != kube.LLM.name or step.verdict not in {"change", "keep"} or not (relabeled or cached):
        return step
    note = explain_selector(name_llm_deployment(step.name), step.item["metadata"].get("namespace", ""))
    return replace(step, notes=(*step.notes, note))


def _describe_revision_edits(cluster: Cluster, top: Object) -> Iterator[str]:
    """Yield the edits of a workload's newest revision, which an apply keeps, with the fix of each."""
    name, namespace = top["metadata"]["name"], top["metadata"]["namespace"]
    try:
        service = cluster.get(kube.KNATIVE, name_predictor(name), namespace) if top["kind"] == kube.KSERVE.name else top
        newest = get_at(service, "status", "latestCreatedRevisionName")
        revision = cluster.get(kube.REVISION, newest, namespace) if newest else None
    except (kube.MissingError, kube.ForbiddenError):
        return
    for edit in find_revision_edits(top, service, revision):
        yield f"{edit}; apply keeps it, {edit.fix}"


def _diff_existing(cluster: Cluster, obj: Object, live: Object, profile: Profile | None) -> ApplyStep:
    if not is_top_object(obj):
        return _diff_change(cluster, obj, live)
    scaled = bool(read_scale_record(live))
    for folded in (False, True):
        kept_obj, notes = keep_scale(obj, live, folded=folded)
        kept_obj, unset = _end_rollback(kept_obj, live)
        step = _diff_change(cluster, kept_obj, live, unset, notes)
        # A new revision that is created anyway takes over the manual override of the old one.
        if not (step.rollout and scaled):
            break
    if set(step.owners) & KUBECTL and profile is not None and _is_as_rendered(live, profile):
        owners = {manager: fields for manager, fields in step.owners.items() if manager not in KUBECTL}
        note = "takes over what kubectl applied of the stored spec"
        step = replace(step, owners=owners, notes=(*step.notes, note), adopted=True)
    spec_values = {name: get_scale_value(obj, name) for name in SCALED}
    return replace(step, spec_values=spec_values, scaled=scaled)


def _explain_taken_name(obj: Object, live: Object) -> str:
    """Return the message for a name that is taken, with the fix."""
    name = obj["metadata"]["name"]
    same = get_at(live, "metadata", "annotations", keys.SPEC) == get_at(obj, "metadata", "annotations", keys.SPEC)
    since = live["metadata"].get("creationTimestamp", "")
    return (
        f"workload {name} already exists, created at {since} from "
        f"{'the same spec' if same else 'another spec'}; choose another name, or "
        f"{'run ebbtide apply to complete an interrupted submit' if same else 'change it with ebbtide apply'}"
    )


def _diff_creation(cluster: Cluster, obj: Object) -> ApplyStep:
    try:
        cluster.apply(obj, dry_run=True)
    except kube.MissingError as error:
        if "namespaces" in str(error):
            # An earlier step creates its namespace; a dry run is not possible before that.
            return ApplyStep("create", obj)
        return _refuse(obj, kube.MissingError(f"kind {obj['kind']} is unknown to this cluster: {error}"))
    except kube.BusyError:
        return ApplyStep("create", obj)
    except ClusterError as error:
        return _refuse(obj, error)
    return ApplyStep("create", obj)


def _refuse(obj: Object, error: ClusterError) -> ApplyStep:
    """Return the step of an object that the cluster would reject, with the fix if one is known."""
    refusal = explain_rejection(str(error))
    if isinstance(error, kube.ForbiddenError) and _is_of_endpoint(obj):
        # Members of a project may not write the policies of its endpoint.
        project = get_at(obj, "metadata", "labels", keys.PROJECT)
        refusal = f"{error}; ask an administrator to run ebbtide project create {project}"
    return ApplyStep("refused", obj, refusal=refusal, error=error)


def _diff_change(
    cluster: Cluster, obj: Object, live: Object, unset: Object | None = None, notes: tuple[str, ...] = ()
) -> ApplyStep:
    owners: dict[str, tuple[str, ...]] = {}
    try:
        try:
            result = cluster.apply(obj, dry_run=True)
        except kube.ConflictError as error:
            owners = {manager: fields for manager, fields in error.owners.items() if manager != kube.LIVE_MANAGER}
            result = cluster.apply(obj, force=True, dry_run=True)
    except kube.BusyError:
        raise
    except kube.ForbiddenError as error:
        if is_shared(obj) and _contains_fields(live, kube.make_applicable(obj)):
            return ApplyStep("keep", obj, notes=("up to date; changing it is forbidden",))
        return _refuse(obj, error)
    except ClusterError as error:
        return _refuse(obj, error)
    if unset is not None:
        result = apply_merge_patch(result, unset)
    differences = diff_objects(live, result)
    if not differences:
        return ApplyStep("keep", obj, owners=owners, notes=notes)
    return ApplyStep("change", obj, differences, creates_pods(live, differences), owners, unset=unset, notes=notes)


def _is_as_rendered(live: Object, profile: Profile) -> bool:
    """Return whether a live object is what its stored spec renders, without an edit after the last apply."""
    if get_at(live, "metadata", "annotations", keys.SPEC) is None:
        return False
    imported = import_object(live, profile)
    return not imported.patch and not any(problem.code == "IMP003" for problem in imported.losses)


def _contains_fields(live: Any, expected: Any) -> bool:
    if isinstance(expected, dict) and isinstance(live, dict):
        return all(_contains_fields(live.get(name), value) for name, value in expected.items())
    return bool(live == expected)


# Manual scale overrides.


def keep_scale(obj: Object, live: Object, *, folded: bool) -> tuple[Object, tuple[str, ...]]:
    """Return an object that keeps a manual scale override, with a note on each field.

    The override stays if the spec has the same value as when the override was set, or the overriding value itself.
    Without a rollout the template is unchanged, since the revision has the value already; with a rollout the template gets
    the value. If the spec has another value, the spec wins.
    """
    record = read_scale_record(live)
    result, notes = deepcopy(obj), []
    for name in SCALED:
        if name not in record.values:
            continue
        spec_value, override = get_scale_value(obj, name), str(record.values[name])
        if spec_value is None or spec_value not in {override, str(record.base.get(name))}:
            notes.append(
                f"manual override {name} {override} is dropped: the spec has changed to {spec_value or 'none'}"
            )
            continue
        template_value = get_scale_value(live, name) or spec_value
        _put_scale_value(result, name, override if folded else template_value)
        if spec_value != override:
            notes.append(
                f"manual override {name} {override} is kept (the spec has {spec_value}); "
                f"{'the new revision takes it over' if folded else 'remove it with ebbtide scale --reset'}"
            )
        elif template_value != spec_value and not folded:
            notes.append(f"{name} {spec_value} is already live; the next rollout updates the template")
    return result, tuple(notes)


def get_scale_value(obj: Object, name: str) -> str | None:
    """Return an object's template value of a field that ``ebbtide scale`` can set."""
    *parents, field_name = _locate_scale_value(obj, name)
    value = get_at(obj, *parents, field_name)
    return None if value is None else str(value)


def _put_scale_value(obj: Object, name: str, value: str) -> None:
    """Set the template value of a field that ``ebbtide scale`` can set."""
    *parents, field_name = _locate_scale_value(obj, name)
    for parent in parents:
        obj = obj.setdefault(parent, {})
    obj[field_name] = int(value) if parents[-1] == "predictor" else value


def _locate_scale_value(obj: Object, name: str) -> tuple[str, ...]:
    """Return the path of the template value of a field: a field of KServe's predictor, or an annotation."""
    if obj["kind"] != kube.KSERVE.name:
        return "spec", "template", "metadata", "annotations", SCALED[name]
    return ("spec", "predictor", *(("annotations", keys.TARGET) if name == "metricThreshold" else (name,)))


def _end_rollback(obj: Object, live: Object) -> tuple[Object, Object | None]:
    """Return an object that ends a rollback, so that the newest revision receives all traffic, and a patch for KServe."""
    if obj["kind"] == "InferenceService":
        predictor = obj["spec"]["predictor"]
        pinned = get_at(live, "spec", "predictor", "canaryTrafficPercent") is not None
        if pinned and predictor.get("canaryTrafficPercent") is None:
            return obj, {"spec": {"predictor": {"canaryTrafficPercent": None}}}
        return obj, None
    rows = get_at(live, "spec", "traffic", default=[])
    if get_at(obj, "spec", "traffic") is None and any(row.get("revisionName") for row in rows):
        return {**obj, "spec": {**obj["spec"], "traffic": LATEST}}, None
    return obj, None


# The cost.


def _estimate_cost(cluster: Cluster, workload: Workload, steps: Sequence[ApplyStep]) -> Iterator[str]:
    workload_plan = workload.plan
    share = gpu.count_gpus_per_replica(workload_plan)
    low, high = workload_plan.scaling.minimum, workload_plan.scaling.maximum
    if share:
        yield (
            f"GPUs: {format_number(share)} per replica, {format_number(low * share)} at {count_noun(low, 'replica')} "
            f"(minReplicas), {format_number(high * share)} at {high} (maxReplicas)"
        )
        surge = update_replicas(workload_plan)
        if any(step.rollout for step in steps) and surge:
            gpus = (low + surge) * share
            stepwise = workload_plan.serving == "knative" and low > 1
            yield (
                f"the rollout needs {format_number(gpus)} GPU{'' if gpus == 1 else 's'} while old and new replicas run together"
                f"{'; with rollout: {surge: 0} it needs no more than now' if stepwise else ''}"
            )
    if workload_plan.spec.rollout.surge is not None and any(step.rollout for step in steps):
        yield f"the rollout replaces one replica at a time: of {count_noun(low, 'replica')}, {low - 1} serve during it"
    try:
        quotas = cluster.list(kube.QUOTA, workload.namespace).items
    except kube.ForbiddenError:
        return
    new = any(step.verdict == "create" and is_top_object(step.item) for step in steps)
    pods = max(low, 1) if new else update_replicas(workload_plan) if any(step.rollout for step in steps) else 0
    requests = sum_replica_requests(workload_plan) | _count_gpu_requests(steps)
    for quota in quotas:
        usage = ", ".join(map(str, amounts.list_quota_shares(quota)))
        if usage:
            yield f"quota {quota['metadata']['name']}: {usage}"
        if amounts.applies_to_class(quota, workload_plan.priority.name or ""):
            yield from amounts.find_shortages(quota, requests, pods)


def _count_gpu_requests(steps: Sequence[ApplyStep]) -> dict[str, float]:
    """Return the GPU resources that the containers of the workload's top object request."""
    top = next((step.item for step in steps if is_top_object(step.item)), {})
    places = (("template", "spec"), ("predictor",), ("template",))
    pod: Object = next((found for place in places if (found := get_at(top, "spec", *place))), {})
    containers = [*pod.get("containers", []), *([pod["model"]] if "model" in pod else [])]
    limits = [get_at(container, "resources", "limits", default={}) for container in containers]
    names = {name for row in limits for name in row if gpu.is_gpu_resource(name)}
    return {name: sum(amounts.parse_amount(row.get(name, 0)) for row in limits) for name in names}


# Writing and waiting.


def write_workload(
    cluster: Cluster,
    planned: ApplyDiff | Iterable[ApplyStep],
    clock: Clock,
    *,
    force: bool = False,
    basis: Object | None = None,
    done: Callable[[ApplyStep], None] = lambda step: None,  # noqa: ARG005 - a callback that does nothing
) -> list[Object]:
    """Write the planned changes of a workload, or steps without one, in order, and return the resulting objects.

    ``basis`` is the workload's top object as it was read, if the plan was derived from it.

    Raises:
        StaleError: the top object has changed since ``basis`` was read.
        ConflictError: another field manager owns a field to change, and ``force`` is not set.
        ExistsError: the plan creates the workload, and another client has created it in the meantime.
        ClusterError: the cluster rejects an object; the objects before it are written, and the apply can be repeated.

    """
    results = []
    steps, create = (planned.steps, planned.create) if isinstance(planned, ApplyDiff) else (tuple(planned), False)
    top = next((step.item for step in steps if is_top_object(step.item)), None)
    for step in steps:
        if step.verdict == "keep":
            if step.scaled:
                # An interrupted apply may have left an outdated scale record, which its last write would have updated.
                _update_scale_record(cluster, step, _read_live(cluster, step.item))
            continue
        if create and step.item is top:
            work = partial(_create_top, cluster, step)
        else:
            owned = replace(step, item=_add_owner(cluster, top, step.item))
            work = partial(_write_step, cluster, owned, force=force, basis=basis if step.item is top else None)
        result = _retry_while_busy(clock, work)
        results.append(result)
        done(step)
        if step.item is top and read_scale_record(result):
            _update_scale_record(cluster, step, result)
        if step.item is top:
            _touch_model_caches(cluster, steps, result)
    return results


def _touch_model_caches(cluster: Cluster, steps: Iterable[ApplyStep], top: Object) -> None:
    """Change the model caches of a workload after it: KServe creates the claim of a cache when the cache changes.

    It does not see that a workload returns to a cache of its namespace, whose claim it has deleted since (kserve v0.20.0
    pkg/controller/v1alpha1/localmodel/reconcilers/localmodelnamespacecache_reconciler.go, isvcPredicates).
    """
    patch = {"metadata": {"annotations": {keys.USED_BY: str(top["metadata"].get("generation", ""))}}}
    for step in steps:
        if step.item["kind"] == kube.MODEL_CACHE.name:
            cluster.patch(kube.MODEL_CACHE, step.item["metadata"]["name"], top["metadata"]["namespace"], patch)


def _read_live(cluster: Cluster, obj: Object) -> Object:
    """Return the live object; raise a ``MissingError`` if it does not exist."""
    return cluster.get(kube.kind_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace", ""))


def _create_top(cluster: Cluster, step: ApplyStep) -> Object:
    try:
        return cluster.create(step.item)
    except kube.ExistsError as error:
        taken = _explain_taken_name(step.item, _read_live(cluster, step.item))
        raise kube.ExistsError(f"another client created it first: {taken}") from error


def _add_owner(cluster: Cluster, top: Object | None, obj: Object) -> Object:
    """Return a companion object with its workload as owner, so that Kubernetes deletes them together."""
    if top is None or obj["kind"] not in FOLLOWERS or not is_owned(obj):
        return obj
    metadata = _read_live(cluster, top)["metadata"]
    owner = {"apiVersion": top["apiVersion"], "kind": top["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}


def _write_step(cluster: Cluster, step: ApplyStep, *, force: bool, basis: Object | None) -> Object:
    metadata = step.item["metadata"]
    if step.unset is not None:
        patched = cluster.patch(
            kube.kind_of(step.item), metadata["name"], metadata["namespace"], step.unset, basis=basis
        )
        basis = None if basis is None else patched
    try:
        return apply_completed(cluster, step.item, force=force, basis=basis)
    except kube.ConflictError as error:
        # Fields that Ebbtide's own commands set on the live object can be taken over, and those of an adopted object.
        if set(error.owners) <= {kube.LIVE_MANAGER, *(KUBECTL if step.adopted else ())}:
            return apply_completed(cluster, step.item, force=True, basis=basis)
        raise


def _update_scale_record(cluster: Cluster, step: ApplyStep, result: Object) -> None:
    """Update the record of a manual scale override to the spec; drop the fields that the template has by now."""
    record = read_scale_record(result)
    values, base = record.values, dict(record.base)
    overrides: dict[str, float] = {}
    for name in SCALED:
        spec_value = step.spec_values.get(name)
        if name not in values or spec_value is None or spec_value not in {str(values[name]), str(base.get(name))}:
            continue
        if spec_value == str(values[name]) == get_scale_value(result, name):
            continue
        overrides[name] = values[name]
        if spec_value == str(values[name]):
            base[name] = values[name]
    new_base = {name: base.get(name) for name in overrides}
    if (overrides, new_base) == (values, record.base):
        return
    metadata = step.item["metadata"]
    value = json.dumps({**overrides, "base": new_base}, sort_keys=True) if overrides else None
    patch = {"metadata": {"annotations": {keys.SCALE: value}}}
    cluster.patch(kube.kind_of(step.item), metadata["name"], metadata["namespace"], patch)


def _retry_while_busy(clock: Clock, work: Callable[[], Object]) -> Object:
    """Call ``work``, and retry while the server is busy."""
    end = clock.ticks() + RETRY_SECONDS
    while True:
        try:
            return work()
        except kube.BusyError:
            if clock.ticks() + POLL_SECONDS > end:
                raise
            clock.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class WaitUpdate:
    """One poll of a workload during a wait: seconds since the start, and its status."""

    seconds: float
    status: Status
    #: The hint from a server that does not become ready.
    hint: str = ""


def wait_for_workload(
    cluster: Cluster,
    name: str,
    namespace: str,
    clock: Clock,
    limit: float,
    seen: Callable[[WaitUpdate], None] = lambda look: None,  # noqa: ARG005 - a callback that does nothing
) -> Status | None:
    """Poll a workload until it has settled, and report each change of phase or reason; return None after ``limit`` seconds.

    A failure that Kubernetes keeps retrying, such as the first crashes of a container, does not end the wait. What ends
    it must be read twice: kinds are read at the same time, so a Deployment or a pod may be older than the condition
    that is about it. Raises MissingError if the workload was deleted.
    """
    start = clock.ticks()
    reported: tuple[str, str, str] | None = None
    live: LiveWorkload | None = None
    hint, next_hint = "", start + hints.PATIENCE_SECONDS
    settled_before = False
    while True:
        try:
            live = inventory.find_workload(cluster, name, namespace, clock.now(), known=live)
        except kube.BusyError:
            live = None
        if live is not None:
            now = compute_status(live)
            if now.phase == "Running":
                hint = ""
            elif now.phase in {"Failed", "Degraded"} or clock.ticks() >= next_hint:
                hint = hints.read_server_hint(cluster, live)
                next_hint = clock.ticks() + hints.PATIENCE_SECONDS
            if (now.phase, now.why, hint) != reported:
                reported = (now.phase, now.why, hint)
                seen(WaitUpdate(clock.ticks() - start, now, hint))
            early = live.top["kind"] == "InferenceService" and clock.ticks() - start < KSERVE_LAG_SECONDS
            settled = now.settled and not early and _has_minimum_replicas(now)
            if settled and settled_before:
                return now
            settled_before = settled
            if settled:
                continue
        if clock.ticks() - start >= limit:
            return None
        _wait_for_change(cluster, live, clock)


def _wait_for_change(cluster: Cluster, live: LiveWorkload | None, clock: Clock) -> None:
    """Sleep for the interval between two polls, or until the top object is ready or not, which it says with a change.

    The full interval passes if the object cannot be watched.
    """
    if live is None:
        clock.sleep(POLL_SECONDS)
        return
    end, version = clock.ticks() + POLL_SECONDS, live.top["metadata"]["resourceVersion"]
    with suppress(ClusterError):
        for change in cluster.follow(kube.kind_of(live.top), live.namespace, since=version, seconds=POLL_SECONDS):
            if isinstance(change, kube.WatchBookmark) or change.item["metadata"]["name"] != live.name:
                continue
            if change.change == "DELETED" or find_condition(change.item, "Ready").get("status") != "Unknown":
                return
    clock.sleep(max(0.0, end - clock.ticks()))


def _has_minimum_replicas(now: Status) -> bool:
    """Return whether a running workload has its minimum of replicas; the wanted number follows its bounds with a delay."""
    minimum, desired = now.replicas.minimum, now.replicas.wanted
    return now.phase != "Running" or now.replicas.ready >= min(max(desired, minimum), max(minimum, 1))
