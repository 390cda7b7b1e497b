"""Writes to the cluster with the caller's token, so that RBAC decides; if one fails, the error lists the writes before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ebbtide.cluster.client import protocol
from ebbtide.cluster.client.endpoint import Endpoint
from ebbtide.cluster.read.gateways import make_guarded_endpoint
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.watch.groups import TOPS
from ebbtide.cluster.write import apply as applying
from ebbtide.cluster.write import revisions
from ebbtide.cluster.write.apply import ApplyDiff, ApplyStep
from ebbtide.cluster.write.projects import ProjectRequest, diff_project
from ebbtide.cluster.write.removal import Removal, plan_removal, remove_workload
from ebbtide.cluster.write.rollout import needs_rollout
from ebbtide.core.base.operations import Operation
from ebbtide.core.base.problems import Problem, has_errors, limit_problems
from ebbtide.core.documents.check import Batch
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.translation.objects import Object
from ebbtide.server.api.access import Caller
from ebbtide.server.api.answers import Deleted, Diffs, Submitted
from ebbtide.server.api.connection import Connection, ReadOnlyError, missing_workload
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.reads import Reads

#: Attempts to update an object that other clients modify concurrently.
MAX_UPDATE_ATTEMPTS: Final = 10
#: Seconds for which a write waits for the cache, so that the caller's next read includes the write.
CACHE_WAIT_SECONDS: Final = 3.0


class Writes:
    """The changes that callers make to a cluster.

    Each method except ``diff`` and ``explain_no_call`` raises a ``ReadOnlyError`` if the server is read-only. A workload
    that does not exist or is not visible to the caller raises a ``MissingError``.
    """

    def __init__(self, connection: Connection, reads: Reads) -> None:
        """Write to the connection's cluster."""
        self._connection, self._reads, self._cache = connection, reads, connection.cache

    def diff(self, caller: Caller, documents: Sequence[LoadedDocument]) -> Diffs:
        """Return the changes that an apply would make, with all problems; nothing is written."""
        cluster = self._connection.as_caller(caller)
        workloads, problems = applying.collect_workloads(documents, Batch(self._connection.apply_profile), cluster)
        if has_errors(problems):
            return Diffs((), tuple(limit_problems(problems)))
        return Diffs(tuple(applying.diff_workload(cluster, workload) for workload in workloads), tuple(problems))

    def submit(
        self, caller: Caller, documents: Sequence[LoadedDocument], *, force: bool = False, create: bool = False
    ) -> Submitted:
        """Apply specs and return the written objects, without waiting for the workloads to become ready.

        With ``create``, the workloads must not exist yet.

        Raises:
            InputError: a spec has errors; nothing is written.
            ExistsError: a workload exists and ``create`` is set; nothing is written.
            ConflictError: another field manager owns a field to change, and ``force`` is not set; nothing is written.
            RefusedError: the cluster rejects an object; nothing is written.
            CutShortError: a write failed after others succeeded.
        """
        cluster = self._connection.connect_for_writing(caller)
        return self._apply_documents(cluster, documents, force=force, create=create)

    def update(self, caller: Caller, uid: str, edit: Callable[[Object], LoadedDocument]) -> Submitted:
        """Apply the spec that ``edit`` makes of a workload's object, without losing concurrent changes.

        The object is read with the caller's credentials; if it changes before the write, the update is retried.

        Raises:
            MissingError: the workload does not exist or was deleted.
            StaleError: the object changed during every attempt.
            ClusterError: as ``submit``, which also raises ``InputError``.
        """
        cluster = self._connection.connect_for_writing(caller)
        top = self._connection.find_by_id(caller, uid)
        attempts_left = MAX_UPDATE_ATTEMPTS
        while True:
            live = cluster.get(TOPS[top.kind], top.name, top.namespace)
            if live["metadata"]["uid"] != uid:
                raise missing_workload(uid)
            try:
                return self._apply_documents(cluster, [edit(live)], basis=live)
            except (protocol.StaleError, protocol.CutShortError) as error:
                attempts_left -= 1
                if not attempts_left or not isinstance(getattr(error, "cause", error), protocol.StaleError):
                    raise

    def _apply_documents(
        self,
        cluster: protocol.Cluster,
        documents: Sequence[LoadedDocument],
        *,
        force: bool = False,
        create: bool = False,
        basis: Object | None = None,
    ) -> Submitted:
        workloads, problems = applying.collect_workloads(documents, Batch(self._connection.apply_profile), cluster)
        if not has_errors(problems) and basis is not None:
            problems += _other_kind(workloads, basis)
        if has_errors(problems):
            raise InputError(problems)
        planned = tuple(applying.diff_workload(cluster, workload, create=create) for workload in workloads)
        _raise_refused([step for plan in planned for step in plan.steps], force=force)
        _raise_stepwise(cluster, planned)
        done: list[str] = []
        written: list[Object] = []
        with _report_partial_writes(done):
            for workload_plan in planned:
                written += applying.write_workload(
                    cluster,
                    workload_plan,
                    self._connection.clock,
                    force=force,
                    basis=basis,
                    done=lambda step: done.append(_describe_write(step)),
                )
        tops = [obj for obj in written if applying.is_top_object(obj)]
        end = self._find_deadline()
        for top in tops:
            self._cache.wait_seen(top, end)
        known = {(top["metadata"]["namespace"], top["metadata"]["name"]) for top in tops}
        tops += [
            cluster.get(protocol.kind_of(obj), workload.name, workload.namespace)
            for workload in workloads
            for obj in workload.objects
            if applying.is_top_object(obj) and (workload.namespace, workload.name) not in known
        ]
        return Submitted(tuple(documents), planned, tuple(problems), tuple(done), tuple(tops))

    def delete(self, caller: Caller, namespace: str, name: str, *, data: bool = False) -> Deleted:
        """Delete a workload and its secondary objects; with ``data``, also its persistent volume claims."""
        cluster = self._connection.connect_for_writing(caller)
        self._connection.find_workload(caller, namespace, name)
        return self._remove_workload(cluster, plan_removal(cluster, name, namespace, data=data))

    def delete_by_id(self, caller: Caller, uid: str) -> Deleted:
        """Delete the workload whose object has this UID, and no other object of its name."""
        cluster = self._connection.connect_for_writing(caller)
        top = self._connection.find_by_id(caller, uid)
        return self._remove_workload(
            cluster, plan_removal(cluster, top.name, top.namespace, data=False, identity=(TOPS[top.kind], uid))
        )

    def _remove_workload(self, cluster: protocol.Cluster, planned: Removal) -> Deleted:
        done: list[str] = []
        with _report_partial_writes(done):
            for obj in remove_workload(cluster, planned):
                metadata = obj["metadata"]
                done.append(f"deleted {obj['kind']} {metadata.get('namespace', '')}/{metadata['name']}")
        self._cache.wait_gone(planned.top, self._find_deadline())
        return Deleted(tuple(done), tuple(obj["metadata"]["name"] for obj in planned.kept_claims))

    def _find_deadline(self) -> float:
        """Return the time until which a write waits for the cache."""
        return self._cache.changes.ticks() + CACHE_WAIT_SECONDS

    def change(
        self, caller: Caller, operation: Operation, namespace: str, name: str, values: revisions.Values
    ) -> tuple[str, ...]:
        """Perform an operation on a workload, and return what it changed.

        Raises:
            RefusedError: the workload does not allow the operation with these values.
            CutShortError: a write failed after others succeeded.
        """
        cluster, change = self._connection.connect_for_writing(caller), revisions.CHANGES[operation.name]
        live = self._reads.read_all_objects(caller, namespace, name)
        if reason := change.explain_no(live, values):
            raise protocol.RefusedError(reason)
        return change.perform(cluster, live, values).done

    def create_project(self, caller: Caller, request: ProjectRequest) -> None:
        """Create a project, as ``ebbtide project create`` does.

        Raises:
            ValueError: the profile does not support a setting of the request; the message is for the user.
            ExistsError: the project's namespace exists.
            RefusedError: the cluster rejects an object; nothing is written.
            CutShortError: a write failed after others succeeded.
        """
        cluster, profile = self._connection.connect_for_writing(caller), self._connection.profile
        steps = diff_project(cluster, request, profile)
        if next(step for step in steps if protocol.kind_of(step.item) == protocol.NAMESPACE).verdict != "create":
            raise protocol.ExistsError(f"project {request.name} exists")
        _raise_refused(steps, force=False)
        done: list[str] = []
        with _report_partial_writes(done):
            applying.write_workload(
                cluster, steps, self._connection.clock, done=lambda step: done.append(_describe_write(step))
            )

    # Requests to workloads, which can start replicas.

    def explain_no_call(self, caller: Caller, namespace: str) -> str:
        """Return why a caller cannot send requests to the workloads of a namespace, or an empty string.

        It needs the permission of ``kubectl port-forward``, which reaches the same servers.
        """
        if self._connection.read_only:
            return "this server is read-only"
        if not self._connection.allowed(caller, "create", protocol.POD, namespace, subresource="portforward"):
            return f"your account is not allowed to create pods/portforward in {namespace}"
        return ""

    def find_endpoint(self, caller: Caller, namespace: str, name: str, timeout: float) -> tuple[Status, Endpoint]:
        """Return a workload's status and the endpoint for a caller's request, which may take ``timeout`` seconds.

        Raises:
            MissingError: the workload does not exist or is not visible.
            ReadOnlyError: the server is read-only.
            ForbiddenError: the caller is not allowed to send requests.
            CallError: the workload has no URL, or none that is accepted.
        """
        status = self._reads.status(caller, namespace, name).value
        if why := self.explain_no_call(caller, namespace):
            raise (ReadOnlyError if self._connection.read_only else protocol.ForbiddenError)(
                f"no request was sent: {why}"
            )
        return status, make_guarded_endpoint(status, self._connection.gateway, timeout)


def _other_kind(workloads: Sequence[applying.Workload], basis: Object) -> list[Problem]:
    """Return an error if the changed spec needs an object of another kind than the workload's."""
    kinds = {obj["kind"] for workload in workloads for obj in workload.objects if applying.is_top_object(obj)}
    if kinds <= {basis["kind"]}:
        return []
    needed = " or ".join(sorted(kinds))
    text = f"the changed spec needs kind {needed}, and the workload is of kind {basis['kind']}"
    return [Problem("REQ001", ("spec",), text, "delete and recreate the workload, or set serving in its spec")]


def _raise_stepwise(cluster: protocol.Cluster, planned: Iterable[ApplyDiff]) -> None:
    """Refuse an update that replaces one replica at a time: it takes minutes, and a client must carry it out."""
    for row in planned:
        if row.workload.plan.spec.rollout.surge is not None and needs_rollout(cluster, row):
            raise protocol.RefusedError(
                f"the update of {row.workload.name} replaces one replica at a time (rollout.surge: 0), which ebbtide apply "
                "carries out from the command line"
            )


def _raise_refused(steps: Sequence[ApplyStep], *, force: bool) -> None:
    """Raise an error for the steps that would fail, before anything is written."""
    refused = [step for step in steps if step.verdict == "refused"]
    if refused:
        messages = "; ".join(f"{step.label}: {step.refusal}" for step in refused)
        for kind in (protocol.ExistsError, protocol.ForbiddenError, protocol.UnreachableError):
            if any(isinstance(step.error, kind) for step in refused):
                raise kind(messages)
        raise protocol.RefusedError(messages)
    owners: dict[str, tuple[str, ...]] = {}
    for step in steps:
        for manager, fields in step.owners.items():
            owners[manager] = (*owners.get(manager, ()), *fields)
    if owners and not force:
        ownership = "; ".join(f"{manager} owns {', '.join(fields)}" for manager, fields in owners.items())
        raise protocol.ConflictError(f"field ownership conflict: {ownership}", owners)


def _describe_write(step: ApplyStep) -> str:
    return f"{'created' if step.verdict == 'create' else 'changed'} {step.label}"


@contextmanager
def _report_partial_writes(done: list[str]) -> Iterator[None]:
    """If a write fails, raise a ``CutShortError`` that lists what was done before."""
    try:
        yield
    except protocol.ClusterError as error:
        if done:
            raise protocol.CutShortError(error, tuple(done)) from error
        raise
