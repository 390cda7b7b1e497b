"""The controller as a process: the cache, the Lease, the steps, and an HTTP server with its metrics and probes.

With a profile it also applies custom resources, in a separate thread, so that a slow apply delays no floor.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.client.protocol import Clock, Cluster, ClusterError
from ebbtide.cluster.controller.fence import Fence, owns_floors
from ebbtide.cluster.controller.lease import RENEW_SECONDS, Lease
from ebbtide.cluster.controller.loop import Controller
from ebbtide.cluster.controller.measure import Readings, SampleSource
from ebbtide.cluster.controller.probes import format_metric, start_probe_server
from ebbtide.cluster.controller.sampling import Requests, Sampler
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.core.autoscaler.floor import PERIOD_SECONDS
from ebbtide.core.base import keys

if TYPE_CHECKING:
    from ebbtide.cluster.controller.inferences import Inferences
    from ebbtide.core.profile.models import Profile, ProfileSpec

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: The kinds that the controller reads; nothing else is watched or stored.
KINDS: Final = (kube.KSERVE, kube.KNATIVE, kube.REVISION, kube.POD_AUTOSCALER, kube.POD)
#: The kinds without which nothing is decided: a cluster without KServe has no InferenceServices.
DECIDING_KINDS: Final = (kube.REVISION, kube.POD_AUTOSCALER, kube.POD)
#: The kinds that it reads in addition if it applies custom resources: these, and what a workload's status depends on.
RESOURCE_KINDS: Final = (kube.INFERENCE, kube.DEPLOYMENT, kube.HPA, kube.QUOTA)
#: Seconds to wait for the first list of all kinds.
SYNC_SECONDS: Final = 60.0
#: Seconds between two checks of changed workloads.
PAUSE_SECONDS: Final = 0.2
#: Seconds between two checks of a candidate whether it leads.
CANDIDATE_SECONDS: Final = 1.0
#: Age of the cache in seconds above which nothing is decided.
MAX_AGE_SECONDS: Final = 30.0
#: Seconds without progress of the main thread after which the Lease is not renewed, and after which the process is not
#: healthy. A single request to the API server, the longest that the thread waits, takes at most 70 s.
HUNG_SECONDS: Final = 75.0
STALLED_SECONDS: Final = 120.0


class Process:
    """One controller process: it leads or waits to lead.

    One thread renews the Lease, so that no slow step lets it lapse. The main thread decides and writes the floors. With a
    profile, a third one applies custom resources.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: SampleSource,
        clock: Clock,
        namespace: str,
        identity: str,
        *,
        metrics: ProfileSpec,
        profile: Profile | None = None,
        threads: bool = True,
    ) -> None:
        """Prepare; nothing is read before ``run``. ``metrics`` limits what the queries of members read.

        With a profile, custom resources are rendered with it and applied. Without ``threads``, everything happens in the
        caller's thread, for tests with a manual clock.
        """
        self._clock, self._threads = clock, threads
        kinds = KINDS if profile is None else (*KINDS, *RESOURCE_KINDS)
        self._cache = Cache(cluster, clock, threads=threads, kinds=kinds)
        self._lease = Lease(cluster, namespace, identity, clock, self._note_restore)
        self._fence = Fence(cluster, self._cache, threads=threads)
        self._sampler = Sampler(source, cluster, clock, threads=threads)
        self.controller = Controller(
            cluster, source, clock, metrics, may_write=self.may_write, term=lambda: self._lease.term
        )
        self.inferences: Inferences | None = None
        if profile is not None:
            # Optional, and it loads the translation and the writers.
            from ebbtide.cluster.controller.inferences import Inferences  # noqa: PLC0415 - as above

            self.inferences = Inferences(cluster, self._cache, clock, profile, self._lease.leads, threads=threads)
        self._beat = clock.ticks()
        self._holder = ""
        self._next_step = 0.0
        #: True if the API server has returned an earlier state since the last step.
        self._is_restored = False
        #: The reason for which nothing is decided at present; empty if there is none.
        self._unreadable = ""
        #: When the last step was complete, in ticks; None before the first.
        self._stepped: float | None = None
        #: The count of changes whose rollouts were followed.
        self._seen = 0
        #: The queries of each workload with a floor, and the count of changes up to which they are known.
        self._requests: dict[WorkloadKey, Requests] = {}
        self._listed = -1
        #: The count of changes of scrape intervals up to which they are known.
        self._intervals = 0

    def run(self, ended: threading.Event) -> None:
        """Renew the Lease and step while it is held, until ``ended`` is set."""
        self.start()
        if self._threads:
            threading.Thread(target=self._keep_lease, args=(ended,), name="lease", daemon=True).start()
        if self.inferences is not None:
            threading.Thread(target=self._apply_resources, args=(ended,), name="inferences", daemon=True).start()
        next_renewal = 0.0
        while not ended.is_set():
            if not self._threads and self._clock.ticks() >= next_renewal:
                next_renewal = self._clock.ticks() + RENEW_SECONDS
                self.renew()
            due = self.turn()
            self._cache.changes.wait(self._seen, max(PAUSE_SECONDS, due - self._clock.ticks()))
            if self._cache.changes.number() != self._seen:
                self._follow_changes()
                # Changes come in groups, so those of this pause are handled together.
                ended.wait(PAUSE_SECONDS)
        self._lease.release()
        self._cache.changes.stop()

    def start(self) -> None:
        """Read the cluster."""
        self._cache.start()
        self._cache.freshness.wait_synced(SYNC_SECONDS)
        self._seen = self._cache.changes.number()

    def turn(self) -> float:
        """Do what is due, and return when the next turn is, in ticks. An error is logged, and the next period tries again."""
        now = self._beat = self._clock.ticks()
        is_due = now >= self._next_step and self._lease.leads()
        if is_due and not self._is_readable():
            self._next_step = now + CANDIDATE_SECONDS
        elif is_due:
            # Before the step, so that one that fails is not repeated immediately.
            self._next_step = max(self._next_step + PERIOD_SECONDS, now + PERIOD_SECONDS / 2)
            try:
                if self._is_restored:
                    self._is_restored = False
                    # The restored revisions may have an earlier term, and older versions than those that were written.
                    self._fence.lower()
                if self._take_over():
                    self.step()
            except Exception:
                self.controller.counts["errors"] += 1
                LOG.exception("the step failed")
        if not self._lease.leads():
            return now + CANDIDATE_SECONDS
        return min(now + RENEW_SECONDS, max(self._next_step, now))

    def renew(self) -> None:
        """Take or renew the Lease, unless the main thread hangs: then another process takes it when it has expired."""
        if self._clock.ticks() - self._beat > HUNG_SECONDS:
            LOG.error("no progress for %.0f s: the Lease is not renewed", self._clock.ticks() - self._beat)
            return
        holder = self._lease.renew()
        if holder != self._holder:
            LOG.info("leader: %s", holder or "unknown")
            self._holder = holder

    def may_write(self) -> bool:
        """Return whether this process may write a floor now: it leads, and no former leader's write has an effect."""
        return self._lease.leads() and self._fence.is_raised(self._lease.term)

    def _keep_lease(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                self.renew()
            except Exception:
                # A record of unexpected content must not end the thread.
                LOG.exception("Lease")
            ended.wait(RENEW_SECONDS)

    def _is_readable(self) -> bool:
        """Return whether the cached objects are complete and current enough to decide on."""
        if not self._cache.freshness.synced():
            return False
        rejected = [kind.plural for kind in DECIDING_KINDS if not self._cache.freshness.readable([kind])]
        reason = f"cannot read {', '.join(rejected)}" if rejected else ""
        if not rejected and self._cache.freshness.age() > MAX_AGE_SECONDS:
            reason = "the API server does not answer"
        if reason and reason != self._unreadable:
            LOG.warning("%s: floors stay as they are", reason)
        self._unreadable = reason
        return not reason

    def _take_over(self) -> bool:
        """Raise the fence after this process has acquired the Lease; return whether it is raised."""
        if self._fence.is_raised(self._lease.term):
            return True
        raised = self._fence.raise_for(self._lease, self._list_workloads(), self._note_progress)
        if raised:
            # Another process may have decided in the meantime.
            self.controller.forget()
        return raised

    def _note_restore(self) -> None:
        self._cache.relist()
        self._is_restored = True

    def _note_progress(self) -> None:
        self._beat = self._clock.ticks()

    def _apply_resources(self, ended: threading.Event) -> None:
        """Work on custom resources whenever something changes, while the Lease is held."""
        assert self.inferences is not None
        seen, led = -1, False
        while not ended.is_set():
            leads = (
                self._lease.leads()
                and self._cache.freshness.synced()
                and self._cache.freshness.age() <= MAX_AGE_SECONDS
            )
            if leads and not led:
                self.inferences.forget()
            led = leads
            if leads:
                try:
                    self.inferences.step()
                except ClusterError as error:
                    LOG.warning("custom resources: %s", error)
                except Exception:
                    LOG.exception("custom resources")
            seen = self._cache.changes.wait(seen, RENEW_SECONDS)
            # Changes come in groups, so those of this pause are handled together.
            ended.wait(PAUSE_SECONDS)

    def step(self) -> None:
        """Decide once for all workloads, and follow the rollouts of the others in the meantime."""
        requests = self._list_requests()
        if not self._take_over():
            return
        answers = self._sampler.begin(requests)
        while not answers.wait(PAUSE_SECONDS):
            self._note_progress()
            self._follow_changes()
        answers.close()
        conflicts = self.controller.counts["conflicts"]
        self.controller.step(
            self._follow_between(self._list_workloads()), Readings(answers, answers, self.controller.queries)
        )
        self._stepped = self._clock.ticks()
        if self.controller.counts["conflicts"] > conflicts:
            self._fence.lower()

    def _list_requests(self) -> Requests:
        """Return the queries that a step needs, from the workloads that changed since the last one; the others need the same.

        Lowers the fence if a floor has another owner: a controller with another Lease, or a user who changed it.
        """
        errors = self.controller.counts["errors"]
        if self._intervals != self.controller.queries.changes:
            self._intervals, self._listed = self.controller.queries.changes, -1
        number, changed = self._cache.changes.since(self._listed)
        # After an error, the next step reads all workloads again.
        self._listed = -1
        if changed is None:
            self._requests.clear()
            changed = self._cache.store.list_tops()
        for place in changed:
            self._requests.pop(place, None)
            for live in self._list_workloads([place]):
                if not owns_floors(live, self._lease.term):
                    self._fence.lower()
                self._requests[place] = self.controller.list_requests([live])
        if self.controller.counts["errors"] == errors:
            self._listed = number
        merged: Requests = {}
        for requests in self._requests.values():
            for request, namespaces in requests.items():
                merged.setdefault(request, set()).update(namespaces)
        return merged

    def _list_workloads(self, places: Iterable[WorkloadKey] | None = None) -> Iterator[LiveWorkload]:
        """Yield the workloads with a floor, all or those at ``places``, without those that cannot be read."""
        for place in self._cache.store.list_tops() if places is None else places:
            try:
                yield from self._cache.statuses.workloads_with(keys.FLOOR, [place])
            except Exception:
                # A workload of unexpected content must not stop the others.
                self.controller.counts["errors"] += 1
                LOG.exception("workload %s", place)

    def _follow_between(self, workloads: Iterable[LiveWorkload]) -> Iterator[LiveWorkload]:
        for live in workloads:
            yield live
            self._note_progress()
            self._follow_changes()

    def _follow_changes(self) -> None:
        """Give new revisions of changed workloads their floor."""
        if self._cache.changes.number() == self._seen:
            return
        self._seen, changed = self._cache.changes.since(self._seen)
        if self.may_write():
            for live in self._list_workloads(changed or ()):
                try:
                    self.controller.follow_rollout(live)
                except Exception:
                    # A workload of unexpected content must not stop the others.
                    self.controller.counts["errors"] += 1
                    LOG.exception("%s/%s", live.namespace, live.name)

    # Metrics and probes.

    def serve(self, port: int) -> int:
        """Answer /metrics, /healthz and /readyz on a port, in a thread, and return the port."""
        return start_probe_server(port, self.answer, self._clock)

    def answer(self, path: str) -> tuple[HTTPStatus, str]:
        """Return the status and the text of one of the three paths."""
        if path == "/metrics":
            return HTTPStatus.OK, self._format_metrics()
        stalled = self._clock.ticks() - self._beat > STALLED_SECONDS
        if path == "/healthz":
            return (HTTPStatus.SERVICE_UNAVAILABLE, "stalled\n") if stalled else (HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            ready = self._cache.freshness.synced() and not stalled
            return (HTTPStatus.OK, "ok\n") if ready else (HTTPStatus.SERVICE_UNAVAILABLE, "reading the cluster\n")
        return HTTPStatus.NOT_FOUND, "not found\n"

    def _format_metrics(self) -> str:
        counts = self.controller.counts
        resources = dict.fromkeys(("resources", "applies", "statuses", "failures"), 0)
        if self.inferences is not None:
            resources = self.inferences.counts
        age = 0.0 if self._stepped is None else self._clock.ticks() - self._stepped
        rows = (
            ("leader", "gauge", "1 if this process writes", float(self.may_write())),
            ("workloads", "gauge", "Workloads that the controller scales", counts["workloads"]),
            ("blind_revisions", "gauge", "Revisions of which a metric has no value", counts["blind"]),
            ("decisions_total", "counter", "Decided floors", counts["decisions"]),
            ("patches_total", "counter", "Written floors", counts["patches"]),
            ("errors_total", "counter", "Failed queries and writes", counts["errors"]),
            (
                "conflicts_total",
                "counter",
                "Floors not written, because another process wrote first",
                counts["conflicts"],
            ),
            ("last_step_age_seconds", "gauge", "Seconds since the last complete step", age),
            ("resources", "gauge", "Custom resources", resources["resources"]),
            ("applies_total", "counter", "Applied specs of custom resources", resources["applies"]),
            ("status_patches_total", "counter", "Written statuses of custom resources", resources["statuses"]),
            ("apply_failures_total", "counter", "Failed attempts to apply a custom resource", resources["failures"]),
            (
                "data_age_seconds",
                "gauge",
                "Seconds since the cached objects were known to be current",
                self._cache.freshness.age(),
            ),
        )
        return "".join(format_metric(name, kind, text, f" {value:g}") for name, kind, text, value in rows)
