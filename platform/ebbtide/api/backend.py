"""What API and page share: reads from the cache, each filtered by what its caller may see; writes with the caller's token.

Reads are as old as they say. Writes go to the cluster at once and with the caller's own account, so that RBAC decides;
what was written before one failed is told. Everything that only translates needs no cluster. Upstream: design of access
in docs/serve.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ebbtide.api import simulation
from ebbtide.api.access import Access, Caller, UnauthorizedError, ask
from ebbtide.api.answers import Deleted, NodeRow, Plans, ProjectUse, Rendered, ShareRow, Submitted, Usage
from ebbtide.api.cache import Top
from ebbtide.api.workers import TooMuchError, Workers
from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.base.problems import Problem, failed
from ebbtide.cluster.client.protocol import (
    EVENT,
    KNATIVE,
    KSERVE,
    NAMESPACE,
    NODE,
    POD,
    QUOTA,
    ClusterError,
    ConflictError,
    CutShortError,
    ExistsError,
    ForbiddenError,
    Kind,
    MissingError,
    RefusedError,
    StaleError,
    UnreachableError,
    happened,
    kind_of,
)
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.why import why
from ebbtide.cluster.write import apply as applying
from ebbtide.cluster.write import revisions
from ebbtide.cluster.write.removal import removal, remove
from ebbtide.documents import texts
from ebbtide.documents.check import Batch, check
from ebbtide.documents.explain import explain
from ebbtide.slo import pages, report
from ebbtide.slo.promises import promise
from ebbtide.slo.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebbtide.api.cache import Cache
    from ebbtide.api.simulation import Asked
    from ebbtide.cluster.client.protocol import Clock, Cluster, Log
    from ebbtide.cluster.doctor.findings import Finding
    from ebbtide.cluster.read.inventory import Live
    from ebbtide.cluster.read.status import Status
    from ebbtide.cluster.read.why import Why
    from ebbtide.cluster.write.apply import Planned, Step
    from ebbtide.cluster.write.removal import Removal
    from ebbtide.documents.explain import Explanation
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded
    from ebbtide.slo.report import Report
    from ebbtide.slo.source import History, Measured, Ref, Source
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object

#: Callers' reviews that are asked for side by side.
REVIEWS: Final = 8
#: Simulations at once and waiting, and the seconds that one may take.
SIMULATIONS: Final = (2, 4)
SECONDS: Final = {"simulate": 30.0, "tune": 120.0}
DAY: Final = 86_400.0
#: Workloads of one report at most.
REPORTED: Final = 500
#: How often an update is made anew of what the cluster has, where somebody else was faster.
ATTEMPTS: Final = 10
#: Seconds for which a write waits until the cache has seen it, so that who writes and then reads finds it.
SEEN: Final = 3.0
#: What a workload may be; to see one is to be allowed to list its kind.
TOPS: Final = {KNATIVE.name: KNATIVE, KSERVE.name: KSERVE}

T = TypeVar("T")


class ReadOnlyError(ClusterError):
    """Nothing is written by a read-only server."""


class NothingReadError(ClusterError):
    """The cache has not seen the cluster yet."""


class InputError(Exception):
    """A spec has errors; ``problems`` has all that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems."""
        super().__init__("the spec has errors")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What was read, and the seconds since the cache last heard from the API server; 0 while it is current."""

    value: T
    age: float


@dataclass(frozen=True, slots=True)
class Means:
    """What a backend is made of. ``own`` is who calls without a token: the kubeconfig's user, on loopback only."""

    cluster: Cluster
    profile: Profile
    #: The profile's document, for what explains by changing it.
    profile_data: dict[str, Any]
    clock: Clock
    cache: Cache
    access: Access
    #: The cluster with a caller's own account.
    connect: Callable[[Caller], Cluster]
    source: Source | None = None
    own: Caller | None = None
    read_only: bool = False
    demo: bool = False


class Backend:
    """One cluster, and everything that is asked of it."""

    def __init__(self, means: Means) -> None:
        """Take what it is made of; ``start`` begins to read."""
        self._means = means
        self._cache, self._access = means.cache, means.access
        self._reviews = ThreadPoolExecutor(REVIEWS, thread_name_prefix="review")
        self._workers = Workers(*SIMULATIONS)
        self.profile, self.clock, self.source = means.profile, means.clock, means.source
        self.read_only, self.demo = means.read_only, means.demo

    def start(self) -> None:
        """Begin to follow the cluster."""
        self._cache.start()

    def stop(self) -> None:
        """Follow no more."""
        self._cache.stop()
        self._reviews.shutdown(wait=False, cancel_futures=True)
        self._workers.close()

    @property
    def cache(self) -> Cache:
        """What is known of the cluster, unfiltered: for the server's own probes, never for a caller."""
        return self._cache

    # Who

    def caller_of(self, token: str) -> Caller:
        """Return whose token it is; without one, the kubeconfig's own user where this server has one.

        Raises:
            UnauthorizedError: nobody's.
            ClusterError: nobody can be asked.

        """
        if not token:
            if self._means.own is None:
                raise UnauthorizedError
            return self._means.own
        return self._access.caller_of(token)

    def allowed(
        self, caller: Caller, verb: str, kind: Kind, namespace: str = "", name: str = "", subresource: str = ""
    ) -> bool:
        """Whether a caller may do something; in an empty namespace it means in all of them."""
        return self._access.may(caller, ask(verb, kind, namespace, name, subresource))

    def _wide(self, caller: Caller) -> bool:
        """Whether a caller may know who holds what: all nodes and all pods."""
        return self.allowed(caller, "list", NODE) and self.allowed(caller, "list", POD)

    def _places(self, caller: Caller, kind: Kind, namespaces: Sequence[str]) -> set[str]:
        """Return those of the namespaces in which a caller may list a kind."""
        if self.allowed(caller, "list", kind):
            return {*namespaces}
        if len(namespaces) == 1:
            return {*namespaces} if self.allowed(caller, "list", kind, namespaces[0]) else set()
        found = self._reviews.map(lambda where: self.allowed(caller, "list", kind, where), namespaces)
        return {where for where, may in zip(namespaces, found, strict=True) if may}

    def _seen(self, caller: Caller, top: Top) -> Top:
        if not self.sees(caller, top):
            raise MissingError(f"there is no workload {top.name} in namespace {top.namespace}")
        return top

    def _top(self, caller: Caller, namespace: str, name: str) -> Top:
        """Return a workload's place; one that the caller may not see is missing, in the same words."""
        return self._seen(caller, self._cache.find(namespace, name))

    def _ready(self) -> None:
        if not self._cache.synced():
            raise NothingReadError("the cluster has not been read yet; ask again")

    # Reads

    def age(self) -> float:
        """Return the seconds since the cache last heard from the API server; 0 while it is current."""
        return self._cache.age()

    def workloads(self, caller: Caller, namespace: str = "") -> Read[list[Status]]:
        """Return the workloads of a namespace, or of all that the caller may see, by namespace and name."""
        self._ready()
        self._cache.look()
        namespaces = [namespace] if namespace else self._cache.namespaces()
        places = {name: self._places(caller, kind, namespaces) for name, kind in TOPS.items()}
        found = self._cache.statuses(
            set().union(*places.values()), self._wide(caller), lambda top: top.namespace in places[top.kind]
        )
        told = self._places(caller, POD, sorted({row.namespace for row in found}))
        return Read(
            [row if row.namespace in told or not row.pods else replace(row, pods=()) for row in found], self.age()
        )

    def _with_pods(self, caller: Caller, found: Status) -> Status:
        """Return a status without its pods where the caller may not list pods there."""
        return found if self.allowed(caller, "list", POD, found.namespace) else replace(found, pods=())

    def id_of(self, found: Status) -> str:
        """Return the UID of a workload's object: Run:ai's workloadId. Empty where it has gone since."""
        return self._cache.uid(Top(found.namespace, found.name, _top_kind(found)))

    def status(self, caller: Caller, namespace: str, name: str) -> Read[Status]:
        """Return one workload's status; a ``MissingError`` where there is none that the caller may see."""
        self._ready()
        return Read(self.status_of(caller, self._top(caller, namespace, name)), self.age())

    def status_of(self, caller: Caller, top: Top) -> Status:
        """Return the status of the workload at a place; a ``MissingError`` where there is none that the caller may see."""
        return self._with_pods(caller, self._cache.status(self._seen(caller, top), self._wide(caller)))

    def workload(self, caller: Caller, namespace: str, name: str) -> Read[Live]:
        """Return all that is read of one workload, as far as the caller may see it; else a ``MissingError``.

        A status made of it is right only for who may list pods; ``status`` is right for all.
        """
        self._ready()
        return Read(self._visible(caller, self._whole(self._top(caller, namespace, name), caller)), self.age())

    def by_id(self, caller: Caller, uid: str) -> Read[Live]:
        """Return the workload whose object has this UID."""
        found = self._whole(self._top_by_id(caller, uid), caller)
        if found.top["metadata"]["uid"] != uid:
            raise _gone(uid)
        return Read(self._visible(caller, found), self.age())

    def status_by_id(self, caller: Caller, uid: str) -> Read[Status]:
        """Return the status of the workload whose object has this UID."""
        top = self._top_by_id(caller, uid)
        found = self._cache.status(top, self._wide(caller))
        # A UID never comes back: if it is still there, it was there.
        if self._cache.uid(top) != uid:
            raise _gone(uid)
        return Read(self._with_pods(caller, found), self.age())

    def _top_by_id(self, caller: Caller, uid: str) -> Top:
        """Return the place of the workload with a UID: its name alone may be another's, too."""
        self._ready()
        top = self._cache.by_id(uid)
        if top is None or not self.allowed(caller, "list", TOPS[top.kind], top.namespace):
            raise _gone(uid)
        return top

    def of_revision(self, caller: Caller, uid: str) -> Read[Live]:
        """Return the workload that has the revision with this UID."""
        self._ready()
        top = self._cache.of_revision(uid)
        if top is None or not self.allowed(caller, "list", TOPS[top.kind], top.namespace):
            raise MissingError(f"there is no revision with id {uid}")
        return Read(self._visible(caller, self._whole(top, caller)), self.age())

    def _whole(self, top: Top, caller: Caller) -> Live:
        return self._cache.live(top, self._wide(caller))

    def _visible(self, caller: Caller, found: Live) -> Live:
        hidden: dict[str, Any] = {
            field: () for field, kind in _PARTS.items() if not self.allowed(caller, "list", kind, found.namespace)
        }
        return replace(found, **hidden) if hidden else found

    def events(self, caller: Caller, namespace: str, name: str = "") -> Read[tuple[Object, ...]]:
        """Return the events of a workload, or of all workloads of a namespace, oldest first."""
        self._ready()
        if name:
            found = self.workload(caller, namespace, name)
            return Read(found.value.events, found.age)
        if not self.allowed(caller, "list", EVENT, namespace):
            raise MissingError(f"there is nothing to see in namespace {namespace}")
        self._cache.look()
        return Read(tuple(sorted(self._cache.objects(EVENT, namespace), key=happened)), self.age())

    def logs(
        self,
        caller: Caller,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Log:
        """Return a container's log line by line, read with the caller's own account."""
        if not self.allowed(caller, "get", POD, namespace, pod, "log"):
            raise MissingError(f"there is no pod {pod} in namespace {namespace}")
        return self.as_caller(caller).logs(namespace, pod, container, follow=follow, tail=tail, previous=previous)

    def container_of(
        self, caller: Caller, namespace: str, name: str, pod: str = "", container: str = ""
    ) -> tuple[str, str]:
        """Return a workload's pod and container: the newest that is ready, and the server's, where none is named."""
        found = self.workload(caller, namespace, name).value
        known = [item for item in found.pods if pod in {"", item["metadata"]["name"]}]
        if not known:
            raise MissingError(f"{name} has no pod {pod}".rstrip() if pod else f"{name} has no pod now")
        chosen = max(known, key=lambda item: (not of_pod.is_over(item), of_pod.is_ready(item)))
        names = [row["name"] for row in at(chosen, "spec", "containers", default=[]) if row.get("name")]
        if container and container not in names:
            raise MissingError(f"pod {chosen['metadata']['name']} has no container {container}")
        own = next((one for one in names if one != of_pod.QUEUE_PROXY), "")
        return chosen["metadata"]["name"], container or own

    def sees(self, caller: Caller, top: Top) -> bool:
        """Whether a caller may know of a workload: may list its kind in its namespace."""
        return self.allowed(caller, "list", TOPS[top.kind], top.namespace)

    def projects(self, caller: Caller) -> Read[list[ProjectUse]]:
        """Return the projects whose workloads the caller may see: namespaces with a project's label, and the profile's."""
        self._ready()
        self._cache.look()
        places: dict[str, str] = {}
        for name in self.profile.spec.projects.known:
            places[self.profile.spec.projects.namespace.replace("{project}", name)] = name
        for item in self._cache.objects(NAMESPACE):
            if label := (item["metadata"].get("labels") or {}).get(keys.PROJECT):
                places[item["metadata"]["name"]] = label
        visible = self._places(caller, KNATIVE, [*places])
        found: dict[str, dict[str, int]] = {where: {} for where in visible}
        for row in self.workloads(caller).value:
            if row.namespace in found:
                found[row.namespace][row.phase] = found[row.namespace].get(row.phase, 0) + 1
        rows = [
            self._project(caller, places[where], where, found[where])
            for where in sorted(visible, key=places.__getitem__)
        ]
        return Read(rows, self.age())

    def _project(self, caller: Caller, name: str, where: str, phases: dict[str, int]) -> ProjectUse:
        hard: dict[str, str] = {}
        used: dict[str, str] = {}
        if self.allowed(caller, "list", QUOTA, where):
            for quota in self._cache.objects(QUOTA, where):
                hard |= at(quota, "status", "hard", default={}) or at(quota, "spec", "hard", default={})
                used |= at(quota, "status", "used", default={})
        quota = {resource: Usage(limit, used.get(resource, "0")) for resource, limit in hard.items()}
        return ProjectUse(name, where, quota, sum(phases.values()), phases)

    def nodes(self, caller: Caller) -> Read[list[NodeRow]]:
        """Return the nodes, and who holds their GPUs; a ``ForbiddenError`` where the caller may not list nodes."""
        self._ready()
        if not self.allowed(caller, "list", NODE):
            raise ForbiddenError("you may not list nodes")
        self._cache.look()
        pods = [pod for pod in self._cache.objects(POD) if at(pod, "spec", "nodeName") and not _ended(pod)]
        visible = self._places(caller, POD, sorted({pod["metadata"]["namespace"] for pod in pods}))
        shares: dict[str, list[ShareRow]] = {}
        for pod in pods:
            seen = pod["metadata"]["namespace"] in visible
            for resource, amount in of_pod.gpus(pod).items():
                row = ShareRow(
                    resource,
                    amount,
                    inventory.whose(pod) if seen else "",
                    pod["metadata"]["namespace"] if seen else "",
                    pod["metadata"]["name"] if seen else "",
                )
                shares.setdefault(pod["spec"]["nodeName"], []).append(row)
        rows = [_node_row(node, tuple(shares.get(node["metadata"]["name"], ()))) for node in self._cache.objects(NODE)]
        return Read(rows, self.age())

    def measured(self, caller: Caller, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, Measured]:
        """Return what was counted of those of the workloads that the caller may see."""
        source = self._source()
        seen = [ref for ref in refs if self._sees(caller, ref)]
        return source.measure(seen, start, end) if seen else {}

    def history(self, caller: Caller, ref: Ref, start: float, end: float, step: float) -> History:
        """Return a workload's series over time."""
        self._top(caller, ref.namespace, ref.name)
        return self._source().history(ref, start, end, step)

    def _sees(self, caller: Caller, ref: Ref) -> bool:
        try:
            self._top(caller, ref.namespace, ref.name)
        except MissingError:
            return False
        return True

    def _source(self) -> Source:
        if self.source is None:
            raise SourceError("nobody counts requests here: start ebbtide serve with --prometheus")
        return self.source

    def changed(self, since: int, timeout: float) -> int:
        """Return a counter that moves with each change, as soon as it is not ``since``; after ``timeout`` seconds as it is."""
        return self._cache.wait(since, timeout)

    # What needs no cluster

    def documents(self, text: str) -> list[Loaded]:
        """Return the documents of a text."""
        return [*texts.of_text(text.encode(), "", self.profile)]

    def check(self, documents: Sequence[Loaded]) -> list[Problem]:
        """Return every problem of documents alone and together."""
        return check([*documents], self.profile)

    def _require_valid(self, documents: Sequence[Loaded]) -> list[Inference]:
        problems = self.check(documents)
        if failed(problems):
            raise InputError(problems)
        return [one.inference for one in documents if one.inference is not None]

    def render(self, documents: Sequence[Loaded]) -> Rendered:
        """Return the objects that specs come to, and every problem; none of a document that has errors."""
        batch = Batch(self.profile)
        objects: list[Object] = []
        problems: list[Problem] = []
        for loaded in documents:
            made, _, found = batch.add(loaded)
            problems += found
            if not failed(found):
                objects += made
        return Rendered(tuple(objects), tuple(problems + batch.finish()))

    def explain(self, documents: Sequence[Loaded], part: str = "") -> list[Explanation]:
        """Return why each field of each document's objects is there whose path contains ``part``.

        Raises:
            InputError: a document has errors.

        """
        self._require_valid(documents)
        return [explain(one.reading.native, self._means.profile_data).narrow(one, part) for one in documents]

    def simulate(self, asked: Asked) -> dict[str, Any]:
        """Return what a spec does under traffic, as ``ebbtide simulate -o json`` tells it; raises as ``aside`` does."""
        return self.aside(simulation.simulate, asked, seconds=SECONDS["simulate"])

    def tune(self, asked: Asked) -> dict[str, Any]:
        """Return settings that keep a promise, as ``ebbtide tune -o json`` tells them; raises as ``aside`` does."""
        return self.aside(simulation.tune, asked, seconds=SECONDS["tune"])

    def aside(
        self,
        work: Callable[..., dict[str, Any]],
        asked: Asked,
        *,
        seconds: float,
        told: Callable[[Any], None] | None = None,
    ) -> dict[str, Any]:
        """Return what a function of a question and the profile's document returns, done in a worker; see ``Workers.do``.

        Raises:
            InputError: it cannot be simulated.
            TooMuchError: it takes too long, or too many are waiting.

        """
        try:
            found: dict[str, Any] = self._workers.do(work, asked, self._means.profile_data, seconds=seconds, told=told)
        except simulation.AskedError as error:
            raise InputError(error.problems) from None
        return found

    def why(self, caller: Caller, namespace: str, name: str) -> Read[Why]:
        """Return why a workload has this number of replicas now."""
        self._ready()
        found = self._whole(self._top(caller, namespace, name), caller)
        found = replace(found, settings=inventory.settings(self.as_caller(caller)) if found.scalers else None)
        return Read(why(found, self.source, self.clock.now(), self.profile.spec), self.age())

    def doctor(self, caller: Caller, documents: Sequence[Loaded] | None = None) -> tuple[Finding, ...]:
        """Return what the cluster lacks, for specs where some are given, as far as the caller may see it.

        Raises:
            InputError: a spec has errors.

        """
        from ebbtide.cluster.doctor.checks import examine  # noqa: PLC0415 - it asks a lot

        specs = None if documents is None else self._require_valid(documents)
        return examine(self.as_caller(caller), self.profile, specs)

    def report(
        self,
        caller: Caller,
        *,
        namespace: str = "",
        name: str = "",
        project: str = "",
        since: float = 7 * DAY,
        gpu_hour: float | None = None,
    ) -> Report:
        """Return what was promised and what came of it in the last ``since`` seconds, of what the caller may see.

        Raises:
            MissingError: the one that is named is not there.
            TooMuchError: too many workloads for one report.
            SourceError: nobody counts, or they cannot be asked.

        """
        source = self._source()
        if name:
            places = [self._top(caller, namespace, name)]
        else:
            shown = [row for row in self.workloads(caller, namespace).value if project in {"", row.project}]
            places = [Top(row.namespace, row.name, _top_kind(row)) for row in shown]
        if len(places) > REPORTED:
            raise TooMuchError(f"{len(places)} workloads are too many for one report: name a namespace or a project")
        promised = {found.ref: found for found in (promise(top, self.profile) for top in self._cache.tops(places))}
        if not promised:
            return report.reports({}, {})
        return pages.report_on(promised, source, since, self.clock.now(), gpu_hour)

    # Writes

    def as_caller(self, caller: Caller) -> Cluster:
        """Return the cluster with the caller's own account."""
        return self._means.connect(caller)

    def _writing(self, caller: Caller) -> Cluster:
        if self.read_only:
            raise ReadOnlyError("this server is read-only: use ebbtide's commands, or another server")
        return self.as_caller(caller)

    def plan(self, caller: Caller, documents: Sequence[Loaded]) -> Plans:
        """Return what an apply of specs would do, with every problem; nothing is written."""
        made, problems = applying.workloads(documents, Batch(self.profile))
        if failed(problems):
            return Plans((), tuple(problems))
        cluster = self.as_caller(caller)
        return Plans(tuple(applying.plan(cluster, workload) for workload in made), tuple(problems))

    def submit(
        self, caller: Caller, documents: Sequence[Loaded], *, force: bool = False, create: bool = False
    ) -> Submitted:
        """Apply specs, and return what was written; it does not wait until they serve.

        With ``create`` they must not be there yet.

        Raises:
            InputError: a spec has errors; nothing is written.
            ExistsError: it is to be created, and is there.
            ConflictError: another manager owns what would be changed, and ``force`` is not said; nothing is written.
            RefusedError: the cluster refuses an object; nothing is written.
            CutShortError: a write failed after others.

        """
        return self._apply(self._writing(caller), documents, force=force, create=create)

    def update(self, caller: Caller, uid: str, edit: Callable[[Object], Loaded]) -> Submitted:
        """Apply the spec that ``edit`` makes of a workload's object, and lose nothing that others change meanwhile.

        The object is read with the caller's own account; where it is changed before it is written, all is done again.

        Raises:
            MissingError: there is no such workload, or it went.
            StaleError: it was changed each time.
            ClusterError: as ``submit``, which raises an ``InputError``, too.

        """
        cluster = self._writing(caller)
        top = self._top_by_id(caller, uid)
        left = ATTEMPTS
        while True:
            live = cluster.get(TOPS[top.kind], top.name, top.namespace)
            if live["metadata"]["uid"] != uid:
                raise _gone(uid)
            try:
                return self._apply(cluster, [edit(live)], basis=live)
            except (StaleError, CutShortError) as error:
                left -= 1
                if not left or not isinstance(getattr(error, "cause", error), StaleError):
                    raise

    def _apply(
        self,
        cluster: Cluster,
        documents: Sequence[Loaded],
        *,
        force: bool = False,
        create: bool = False,
        basis: Object | None = None,
    ) -> Submitted:
        made, problems = applying.workloads(documents, Batch(self.profile))
        if not failed(problems) and basis is not None:
            problems += _other_kind(made, basis)
        if failed(problems):
            raise InputError(problems)
        planned = tuple(applying.plan(cluster, workload, create=create) for workload in made)
        _refuse(planned, force=force)
        done: list[str] = []
        written: list[Object] = []

        def noted(step: Step) -> None:
            done.append(f"{'created' if step.verdict == 'create' else 'changed'} {step.label}")

        for item in planned:
            written += _told(
                lambda item=item: applying.carry_out(  # type: ignore[misc] # bound now
                    cluster, item, self.clock, force=force, basis=basis, done=noted
                ),
                done,
            )
        tops = [item for item in written if applying.is_top(item)]
        end = self._cache.ticks() + SEEN
        for top in tops:
            self._cache.wait_seen(top, end)
        known = {(top["metadata"]["namespace"], top["metadata"]["name"]) for top in tops}
        tops += [
            cluster.get(kind_of(item), workload.name, workload.namespace)
            for workload in made
            for item in workload.objects
            if applying.is_top(item) and (workload.namespace, workload.name) not in known
        ]
        return Submitted(tuple(documents), planned, tuple(problems), tuple(done), tuple(tops))

    def delete(self, caller: Caller, namespace: str, name: str, *, data: bool = False) -> Deleted:
        """Delete a workload and what was made beside it; with ``data`` its volume claims, too."""
        cluster = self._writing(caller)
        self._top(caller, namespace, name)
        return self._remove(cluster, removal(cluster, name, namespace, data=data))

    def delete_by_id(self, caller: Caller, uid: str) -> Deleted:
        """Delete the workload whose object has this UID, and no other of its name."""
        cluster = self._writing(caller)
        top = self._top_by_id(caller, uid)
        return self._remove(
            cluster, removal(cluster, top.name, top.namespace, data=False, identity=(TOPS[top.kind], uid))
        )

    def _remove(self, cluster: Cluster, planned: Removal) -> Deleted:
        done: list[str] = []

        def go() -> list[Object]:
            for item in remove(cluster, planned):
                done.append(f"deleted {_label(item)}")  # noqa: PERF401 - what is done must be told if the next one fails
            return []

        _told(go, done)
        self._cache.wait_gone(planned.top, self._cache.ticks() + SEEN)
        return Deleted(tuple(done), tuple(item["metadata"]["name"] for item in planned.kept))

    def scale(
        self, caller: Caller, namespace: str, name: str, values: dict[str, float] | None = None
    ) -> tuple[str, ...]:
        """Set bounds or target live (minReplicas, maxReplicas, metricThreshold), or without any put them back.

        Returns the revisions that they are set on. A ``CutShortError`` names what was written before a write failed.
        """
        cluster = self._writing(caller)
        found = self._whole(self._top(caller, namespace, name), caller)
        if why := revisions.no_scale(found, values or {}):
            raise RefusedError(why)
        if values:
            revisions.scale(cluster, found, values)
        else:
            revisions.reset_scale(cluster, found)
        return tuple(revisions.scaled(found))

    def rollback(self, caller: Caller, namespace: str, name: str, to: str | None = None) -> str:
        """Send all requests to a revision, the ready one before by default, and return its name."""
        cluster = self._writing(caller)
        found = self._whole(self._top(caller, namespace, name), caller)
        if why := revisions.no_rollback(found, to):
            raise RefusedError(why)
        target = revisions.rollback_target(found, to)
        revisions.pin(cluster, found, target)
        return target

    def suspend(self, caller: Caller, namespace: str, name: str) -> None:
        """Take a KServe workload down and keep its object."""
        cluster, top = self._writing(caller), self._whole(self._top(caller, namespace, name), caller).top
        if why := revisions.no_stop(top):
            raise RefusedError(why)
        revisions.suspend(cluster, top)

    def resume(self, caller: Caller, namespace: str, name: str) -> None:
        """Bring a suspended workload back."""
        cluster, top = self._writing(caller), self._whole(self._top(caller, namespace, name), caller).top
        if why := revisions.no_stop(top):
            raise RefusedError(why)
        revisions.resume(cluster, top)


#: The parts of a workload that need a right of their own to be seen.
_PARTS: Final[dict[str, Kind]] = {"pods": POD, "events": EVENT, "quotas": QUOTA}


def _other_kind(made: Sequence[applying.Workload], basis: Object) -> list[Problem]:
    """Return an error where what a spec makes now would be another object beside the one that it was made of."""
    kinds = {item["kind"] for workload in made for item in workload.objects if applying.is_top(item)}
    if kinds <= {basis["kind"]}:
        return []
    text = f"this change is served by an {' or '.join(sorted(kinds))}, and the workload is a {basis['kind']}"
    return [Problem("REQ001", ("spec",), text, "delete it and create it anew, or say serving in its spec")]


def _gone(uid: str) -> MissingError:
    return MissingError(f"there is no workload with id {uid}")


def _top_kind(found: Status) -> str:
    return KSERVE.name if found.kind == KSERVE.name else KNATIVE.name


def _label(item: Object) -> str:
    return f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _ended(pod: Object) -> bool:
    return at(pod, "status", "phase") in {"Succeeded", "Failed"}


def _node_row(node: Object, holders: tuple[ShareRow, ...]) -> NodeRow:
    metadata = node["metadata"]
    return NodeRow(
        metadata["name"],
        of_pod.condition(node, "Ready").get("status", "True") == "True",
        not at(node, "spec", "unschedulable", default=False),
        (metadata.get("labels") or {}).get(keys.GPU_PRODUCT, ""),
        {name: str(amount) for name, amount in at(node, "status", "allocatable", default={}).items()},
        holders,
    )


def _refuse(planned: Sequence[Planned], *, force: bool) -> None:
    """Raise what stands against an apply before anything is written."""
    steps = [step for item in planned for step in item.steps]
    refused = [step for step in steps if step.verdict == "refused"]
    if refused:
        words = "; ".join(f"{step.label}: {step.refusal}" for step in refused)
        for kind in (ExistsError, ForbiddenError, UnreachableError):
            if any(isinstance(step.error, kind) for step in refused):
                raise kind(words)
        raise RefusedError(words)
    owners: dict[str, tuple[str, ...]] = {}
    for step in steps:
        for who, fields in step.owners.items():
            owners[who] = (*owners.get(who, ()), *fields)
    if owners and not force:
        whose = "; ".join(f"{who} owns {', '.join(fields)}" for who, fields in owners.items())
        raise ConflictError(f"others own what would be changed: {whose}", owners)


def _told(work: Callable[[], list[Object]], done: list[str]) -> list[Object]:
    """Do what writes; where it ends early, say what was done before."""
    try:
        return work()
    except ClusterError as error:
        if done:
            raise CutShortError(error, tuple(done)) from error
        raise
