"""Custom resources: render each with the cluster's profile, apply the result as the project's service account, report it.

A resource needs work if it changed, if its workload changed, or if an attempt failed some time ago. Before the first write,
the status names all objects to be applied and drops the digest of the last complete apply. So a controller that is killed at
any step repeats the apply, and still knows what to delete. Upstream: fluxcd.io/flux/installation/configuration/multitenancy
(impersonation of a service account of the tenant's namespace), k8s.io/apiserver pkg/endpoints/filters/impersonation.go.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import BusyError, ClusterError, ForbiddenError, MissingError, UnreachableError
from ebbtide.cluster.controller.conditions import Failure, explain_problems, make_status
from ebbtide.cluster.controller.resources import Rendered, render_resource
from ebbtide.cluster.write.apply import diff_workload, ends_rollback, is_owned, is_top_object, write_workload
from ebbtide.cluster.write.rollout import needs_rollout, roll_out
from ebbtide.core.base import names
from ebbtide.core.translation.objects import prune_nulls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor, Future

    from ebbtide.cluster.client.protocol import Clock, Cluster, Kind
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.watch.cache import Cache
    from ebbtide.cluster.watch.groups import WorkloadKey
    from ebbtide.cluster.write.apply import ApplyDiff
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: Problem code of an apply without permission.
FORBIDDEN: Final = "RES064"
#: Resources that are worked on side by side.
WORKERS: Final = 8
#: Rollouts of one replica at a time that are carried out side by side; each takes minutes.
ROLLOUT_WORKERS: Final = 16
#: Seconds until a failed apply is repeated: first, and at most.
RETRY_SECONDS: Final = 5.0
MAX_RETRY_SECONDS: Final = 300.0
#: Seconds until the status of a workload that is not at rest is computed again.
RECHECK_SECONDS: Final = 10.0
#: Reason of a failed rollout. It is not repeated until the spec changes.
ROLLED_BACK: Final = "RolledBack"
#: Seconds to wait until an applied object is in the cache.
SEEN_SECONDS: Final = 5.0


class ResourceKey(NamedTuple):
    """A custom resource: its kind, namespace and name."""

    kind: Kind
    namespace: str
    name: str


class Retry(NamedTuple):
    """A failed attempt: the time of the next one, the seconds between them, and what failed, by its digest."""

    at: float
    seconds: float
    digest: str = ""
    failure: Failure | None = None


class Inferences:
    """All custom resources of the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        clock: Clock,
        profile: Profile,
        leads: Callable[[], bool],
        *,
        threads: bool,
    ) -> None:
        self._cluster, self._cache, self._clock = cluster, cache, clock
        self._profile, self._leads = profile, leads
        self._pool = ThreadPoolExecutor(WORKERS, "inference") if threads else None
        self._rollout_pool: Executor | None = ThreadPoolExecutor(ROLLOUT_WORKERS, "rollout") if threads else None
        #: The last rollout of each resource, with the digest of its objects.
        self._rollouts: dict[ResourceKey, tuple[str, Future[str]]] = {}
        self._number = -1
        #: Version of each resource as of its last reconciliation.
        self._done: dict[ResourceKey, str] = {}
        self._statuses: dict[ResourceKey, tuple[str, Object]] = {}
        #: Version of each resource after the last write of its status.
        self._written: dict[ResourceKey, str] = {}
        self._rendered: dict[ResourceKey, tuple[str, Rendered]] = {}
        self._places: dict[tuple[str, str], ResourceKey] = {}
        self._retries: dict[ResourceKey, Retry] = {}
        self._rechecks: dict[ResourceKey, float] = {}
        #: Numbers of resources, applied specs, status writes and failures, for the process's metrics.
        self.counts = {"resources": 0, "applies": 0, "statuses": 0, "failures": 0}

    def forget(self) -> None:
        """Drop what is known: another process has led in the meantime."""
        for known in (self._done, self._statuses, self._written, self._rendered, self._retries, self._rechecks):
            known.clear()

    def step(self) -> int:
        """Work on all resources that need it, and return their number."""
        number, changed = self._cache.changes.since(self._number)
        self._number = number
        versions = {
            ResourceKey(kube.INFERENCE, *place): version
            for place, version in self._cache.store.versions(kube.INFERENCE).items()
        }
        self.counts["resources"] = len(versions)
        for key in self._done.keys() - versions.keys():
            self._drop(key)
        todo = self._select(versions, changed)
        if self._pool is None:
            for key in todo:
                self._work(key)
        else:
            list(self._pool.map(self._work, todo))
        return len(todo)

    def _select(self, versions: dict[ResourceKey, str], changed: Iterable[WorkloadKey] | None) -> list[ResourceKey]:
        now = self._clock.ticks()
        due = {key for key, retry in self._retries.items() if retry.at <= now}
        due |= {key for key, at in self._rechecks.items() if at <= now}
        due |= {self._places[top[:2]] for top in changed or () if top[:2] in self._places}
        todo = [
            key for key, version in versions.items() if changed is None or key in due or self._done.get(key) != version
        ]
        return sorted(todo, key=lambda key: (key.namespace, key.name, key.kind.name))

    def _drop(self, key: ResourceKey) -> None:
        for known in (self._done, self._statuses, self._written, self._rendered, self._retries, self._rechecks):
            known.pop(key, None)
        self._places = {place: other for place, other in self._places.items() if other != key}

    def _work(self, key: ResourceKey) -> None:
        if not self._leads():
            # The change that led here must not be lost if this process goes on to lead.
            self._done.pop(key, None)
            return
        resource = self._cache.store.stored(key.kind, (key.namespace, key.name))
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            return
        try:
            self._reconcile(key, resource)
        except MissingError:
            # Deleted in the meantime.
            self._done.pop(key, None)
        except ClusterError as error:
            self._fail(key, str(error))
        except Exception as error:
            # A resource of unexpected content must not stop the others.
            LOG.exception("%s %s/%s", key.kind.name, key.namespace, key.name)
            self._fail(key, str(error))

    def _fail(self, key: ResourceKey, message: str, digest: str = "", failure: Failure | None = None) -> None:
        """Count a failed attempt, and set the time of the next one: twice as late as for the last failure of the same."""
        self.counts["failures"] += 1
        LOG.warning("%s %s/%s: %s", key.kind.name, key.namespace, key.name, message)
        last = self._retries.get(key)
        again = last is not None and last.digest == digest
        seconds = RETRY_SECONDS
        if last is not None and again:
            seconds = min(max(last.seconds * 2, RETRY_SECONDS), MAX_RETRY_SECONDS)
        if failure is not None and failure.reason == ROLLED_BACK:
            seconds = float("inf")
        self._retries[key] = Retry(self._clock.ticks() + seconds, seconds, digest, failure)

    def _reconcile(self, key: ResourceKey, resource: Object) -> None:
        version = str(resource["metadata"]["resourceVersion"])
        uid = resource["metadata"]["uid"]
        known = self._rendered.get(key)
        if known is None or known[0] != version:
            known = self._rendered[key] = (version, render_resource(resource, self._profile))
        rendered = known[1]
        last = self._statuses.get(key)
        before = last[1] if last is not None and last[0] == uid else resource.get("status") or {}
        failure = None
        waiting = self._retries.get(key)
        applied: Object | None = before.get("applied")
        objects: list[Object] = before.get("objects") or []
        if rendered.workload is None:
            failure = explain_problems(rendered.problems)
        elif self._is_rolling_out(key):
            # The apply goes on when the rollout has ended.
            applied = None
        elif waiting is not None and waiting.digest == rendered.digest and waiting.at > self._clock.ticks():
            failure = waiting.failure
        elif self._needs_apply(rendered, before):
            failure, applied, objects = self._apply(key, resource, rendered, before)
            before = self._statuses.get(key, (uid, before))[1]
            if failure is not None:
                self._fail(key, failure.message, rendered.digest, failure)
        if not self._leads():
            # The leader reports the state.
            self._done.pop(key, None)
            return
        if failure is None or rendered.workload is None:
            self._retries.pop(key, None)
        top = self._find_top(resource, rendered, objects)
        live = self._read_live(top, uid)
        if top is not None and live is not None:
            self._places[top[:2]] = key
        status = make_status(
            resource,
            before,
            live=live,
            problems=rendered.problems,
            failure=failure,
            objects=objects,
            applied=applied,
            now=self._clock.now(),
            project=_find_project(rendered),
        )
        self._done[key] = version
        if any(row["type"] == "Reconciling" for row in status["conditions"]):
            # A phase can change with time alone.
            self._rechecks[key] = self._clock.ticks() + RECHECK_SECONDS
        else:
            self._rechecks.pop(key, None)
        if prune_nulls(status) != before or self._is_status_changed(key, resource, status):
            self._write_status(key, resource, status)

    def _is_status_changed(self, key: ResourceKey, resource: Object, status: Object) -> bool:
        """Return whether another client changed the status, by a resource that is as new as the last write."""
        written = self._written.get(key)
        if written is None or not kube.is_no_older(str(resource["metadata"]["resourceVersion"]), written):
            return False
        live = resource.get("status") or {}
        return prune_nulls(status) != {part: live[part] for part in status if part in live}

    def _needs_apply(self, rendered: Rendered, before: Object) -> bool:
        """Return whether the objects have to be applied: the spec, the profile, or the live object changed."""
        applied = before.get("applied") or {}
        workload = rendered.workload
        assert workload is not None
        if applied.get("digest") != rendered.digest:
            return True
        try:
            (top,) = self._cache.store.tops([self._cache.store.find(workload.namespace, workload.name)])
        except (MissingError, ValueError):
            return True
        if top["metadata"].get("generation") == applied.get("generation"):
            return False
        # Another program changed the spec of the live object. A rollback stays until the spec changes.
        expected = next(obj for obj in workload.objects if is_top_object(obj))
        return not ends_rollback(expected, top)

    def _apply(
        self, key: ResourceKey, resource: Object, rendered: Rendered, before: Object
    ) -> tuple[Failure | None, Object | None, list[Object]]:
        """Apply the objects; return a failure, what was applied, and the objects that the resource has now."""
        workload = rendered.workload
        assert workload is not None
        owner = make_owner(resource)
        account = self._cluster.impersonate(name_account(key.namespace))
        old = list(before.get("objects") or [])
        new = [_describe_object(obj) for obj in workload.objects if is_owned(obj)]
        applied = before.get("applied")
        try:
            planned = diff_workload(account, workload, owner=owner)
        except ClusterError as error:
            return explain_failure(error, key.namespace), applied, old
        refused = next((step for step in planned.steps if step.verdict == "refused"), None)
        if refused is not None:
            cause = refused.error or ClusterError(refused.refusal)
            return explain_failure(cause, key.namespace, refused.label), applied, old
        both = [*old, *(row for row in new if row not in old)]
        if planned.different or both != old:
            now = self._clock.now()
            begun = make_status(
                resource, before, problems=rendered.problems, objects=both, now=now, project=_find_project(rendered)
            )
            kept: Object = {part: before[part] for part in ("url", "pods", "gpus", "replicas") if part in before}
            self._write_status(key, resource, {**begun, **kept})
        try:
            if needs_rollout(account, planned):
                if failure := self._roll_out(key, account, planned, rendered.digest):
                    return failure, None, both
                if self._is_rolling_out(key):
                    return None, None, both
            self._rollouts.pop(key, None)
            results = self._write(account, planned)
            self._prune(account, [row for row in both if row not in new], owner, workload.name, key.namespace)
        except ClusterError as error:
            return explain_failure(error, key.namespace), None, both
        self.counts["applies"] += 1
        LOG.info("%s %s/%s: applied", key.kind.name, key.namespace, key.name)
        return None, {"digest": rendered.digest, "generation": self._read_generation(workload, results)}, new

    def _is_rolling_out(self, key: ResourceKey) -> bool:
        rollout = self._rollouts.get(key)
        return rollout is not None and not rollout[1].done()

    def _roll_out(self, key: ResourceKey, account: Cluster, planned: ApplyDiff, digest: str) -> Failure | None:
        """Start a rollout of one replica at a time, or read the result of the one that has ended; return its failure."""

        def say(text: str) -> None:
            LOG.info("%s %s/%s: %s", key.kind.name, key.namespace, key.name, text.strip())

        def check() -> None:
            if not self._leads():
                raise BusyError("another controller leads")
            rendered = self._rendered.get(key)
            if rendered is None or rendered[1].digest != digest:
                raise BusyError("the document changed during the rollout")

        def carry_out() -> str:
            return roll_out(account, planned, self._clock, say, force=True, check=check)

        def wake(_: Future[str]) -> None:
            self._retries[key] = Retry(self._clock.ticks(), 0, digest)

        former, ended = self._rollouts.pop(key, ("", None))
        if ended is not None and (former != digest or isinstance(ended.exception(), BusyError)):
            # The rollout of another document has ended, or this one was interrupted: go on from what the cluster has.
            ended = None
        if ended is None and self._rollout_pool is not None:
            started = self._rollout_pool.submit(carry_out)
            self._rollouts[key] = (digest, started)
            started.add_done_callback(wake)
            return None
        reason = carry_out() if ended is None else ended.result()
        return (
            Failure(ROLLED_BACK, f"the new revision failed: {reason}; the former one serves again") if reason else None
        )

    def _write(self, account: Cluster, planned: ApplyDiff) -> list[Object]:
        if not self._leads():
            raise BusyError("another controller leads")
        results = write_workload(account, planned, self._clock, force=True)
        for result in results:
            if is_top_object(result):
                self._cache.wait_seen(result, self._cache.changes.ticks() + SEEN_SECONDS)
        return results

    def _read_generation(self, workload: Any, results: list[Object]) -> int:
        """Return the generation of the workload's object after an apply."""
        top = next((result for result in results if is_top_object(result)), None)
        if top is None:
            expected = next(obj for obj in workload.objects if is_top_object(obj))
            top = self._cluster.get(kube.kind_of(expected), workload.name, workload.namespace)
        return int(top["metadata"].get("generation", 0))

    def _prune(self, account: Cluster, rows: list[Object], owner: Object, workload: str, namespace: str) -> None:
        """Delete objects that the last spec needed and this one does not, if they still belong to the resource."""
        for row in rows:
            kind = kube.KINDS.get((row["apiVersion"], row["kind"]))
            # KServe removes the files of a deleted cache immediately, and the former replicas may still read them.
            if kind is None or kind == kube.MODEL_CACHE:
                continue
            try:
                live = account.get(kind, row["name"], namespace)
            except MissingError:
                continue
            owners = live["metadata"].get("ownerReferences", ())
            # An autoscaler belongs to the workload's object.
            if any(ref["uid"] == owner["uid"] or ref["name"] == workload for ref in owners):
                account.delete(kind, row["name"], namespace, uid=live["metadata"]["uid"])
                LOG.info("deleted %s %s/%s", row["kind"], namespace, row["name"])

    def _find_top(self, resource: Object, rendered: Rendered, objects: list[Object]) -> WorkloadKey | None:
        """Return the place of the resource's workload in the cache."""
        namespace = resource["metadata"]["namespace"]
        named = [row["name"] for row in objects if is_top_object(row)]
        if rendered.workload is not None:
            named.insert(0, rendered.workload.name)
        for name in named:
            try:
                return self._cache.store.find(namespace, name)
            except MissingError:
                continue
        return None

    def _read_live(self, top: WorkloadKey | None, uid: str) -> Status | None:
        """Return the status of the resource's workload; None if it does not exist, or belongs to another owner."""
        if top is None:
            return None
        owners = [ref for obj in self._cache.store.tops([top]) for ref in obj["metadata"].get("ownerReferences", ())]
        if not any(ref["uid"] == uid for ref in owners):
            return None
        try:
            return self._cache.statuses.status(top, wide=False)
        except MissingError:
            return None

    def _write_status(self, key: ResourceKey, resource: Object, status: Object) -> None:
        result = self._cluster.patch_status(key.kind, key.name, key.namespace, status)
        self.counts["statuses"] += 1
        self._statuses[key] = (resource["metadata"]["uid"], prune_nulls(status))
        self._written[key] = str(result["metadata"]["resourceVersion"])
        same = ("uid", "generation", "labels", "annotations")
        if all(result["metadata"].get(part) == resource["metadata"].get(part) for part in same):
            # The write changes the version only, so there is nothing to do when the cache reports it.
            version = str(result["metadata"]["resourceVersion"])
            if key in self._rendered and key in self._done:
                self._rendered[key] = (version, self._rendered[key][1])
                self._done[key] = version


def name_account(namespace: str) -> str:
    """Return the user name of a project's service account."""
    return f"system:serviceaccount:{namespace}:{names.PROJECT_ACCOUNT}"


def make_owner(resource: Object) -> Object:
    """Return the owner reference to a resource, so that Kubernetes deletes its objects with it."""
    return {
        "apiVersion": resource["apiVersion"],
        "kind": resource["kind"],
        "name": resource["metadata"]["name"],
        "uid": resource["metadata"]["uid"],
        "controller": True,
    }


def explain_failure(error: ClusterError, namespace: str, label: str = "") -> Failure:
    """Return why an apply failed."""
    text = str(error)
    if isinstance(error, ForbiddenError):
        said = text.partition(". An administrator")[0]
        if "impersonate" in said:
            message = (
                f"{FORBIDDEN}: namespace {namespace} does not let the controller act as its service account "
                f"{names.PROJECT_ACCOUNT}; bind it with kustomize/crd-project"
            )
            return Failure("Forbidden", message)
        fix = f"bind service account {names.PROJECT_ACCOUNT} to the role ebbtide-project-member"
        return Failure("Forbidden", f"{FORBIDDEN}: {said}; {fix}")
    if isinstance(error, (BusyError, UnreachableError)):
        return Failure("Unavailable", text, retried=True)
    return Failure("Rejected", f"{label}: {text}" if label else text)


def _find_project(rendered: Rendered) -> str:
    """Return the project that the workload is labeled with; empty without one."""
    return (rendered.workload.plan.spec.project or "") if rendered.workload is not None else ""


def _describe_object(obj: Object) -> Object:
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": obj["metadata"]["name"]}
