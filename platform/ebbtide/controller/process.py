"""The controller as a process: the cache, the Lease, the steps, and an HTTP server with its metrics and probes.

With a profile it also applies custom resources, in a separate thread, so that a slow apply delays no floor.
"""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

from ebbtide.api.cache import Cache
from ebbtide.autoscaler.floor import PERIOD_SECONDS
from ebbtide.base import keys
from ebbtide.cluster.client.protocol import (
    CLASSIC,
    DEPLOYMENT,
    HPA,
    INFERENCE,
    KNATIVE,
    KSERVE,
    POD,
    POD_AUTOSCALER,
    QUOTA,
    REVISION,
    ClusterError,
)
from ebbtide.controller.lease import RENEW_SECONDS, Lease
from ebbtide.controller.loop import Controller, has_new_revision
from ebbtide.controller.stored import strip_for_decisions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.protocol import Clock, Cluster
    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.controller.inferences import Inferences
    from ebbtide.controller.measure import SampleSource
    from ebbtide.profile.models import Profile, Projects

LOG: Final = logging.getLogger("ebbtide.controller")
#: The kinds that the controller reads; nothing else is watched or stored.
KINDS: Final = (KSERVE, KNATIVE, REVISION, POD_AUTOSCALER, POD)
#: The kinds that it reads in addition if it applies custom resources: these, and what a workload's status depends on.
RESOURCE_KINDS: Final = (INFERENCE, CLASSIC, DEPLOYMENT, HPA, QUOTA)
#: Seconds to wait for the first list of all kinds.
SYNC_SECONDS: Final = 60.0
#: Seconds between two checks of changed workloads, of which none has a new revision.
PAUSE_SECONDS: Final = 0.2
#: Age of the cache in seconds above which nothing is decided.
MAX_AGE_SECONDS: Final = 30.0
#: Seconds without a complete step after which the process is not healthy.
STALLED_SECONDS: Final = 120.0


class Process:
    """One controller process: it leads or waits to lead."""

    def __init__(
        self,
        cluster: Cluster,
        source: SampleSource,
        clock: Clock,
        namespace: str,
        identity: str,
        *,
        projects: Projects,
        profile: Profile | None = None,
        threads: bool = True,
    ) -> None:
        """Prepare; nothing is read before ``run``. ``projects`` limits what the queries of members read.

        With a profile, custom resources are rendered with it and applied.
        """
        self._clock = clock
        kinds = KINDS if profile is None else (*KINDS, *RESOURCE_KINDS)
        strip = strip_for_decisions if profile is None else None
        self._cache = Cache(cluster, clock, threads=threads, kinds=kinds, strip=strip)
        self._lease = Lease(cluster, namespace, identity, clock)
        self.controller = Controller(cluster, source, clock, projects)
        self.inferences: Inferences | None = None
        if profile is not None:
            # Optional, and it loads the translation and the writers.
            from ebbtide.controller.inferences import Inferences  # noqa: PLC0415 - as above

            self.inferences = Inferences(cluster, self._cache, clock, profile, self._lease.leads, threads=threads)
        self._beat = clock.ticks()
        self._holder = ""
        #: The count of changes whose rollouts were followed.
        self._seen = 0

    def run(self, ended: threading.Event) -> None:
        """Renew the Lease and step while it is held, until ``ended`` is set."""
        self._cache.start()
        self._cache.wait_synced(SYNC_SECONDS)
        if self.inferences is not None:
            threading.Thread(target=self._apply_resources, args=(ended,), name="inferences", daemon=True).start()
        next_step = next_renewal = 0.0
        self._seen = self._cache.number()
        while not ended.is_set():
            now = self._clock.ticks()
            if now >= next_renewal:
                holder = self._lease.renew()
                next_renewal = now + RENEW_SECONDS
                if holder != self._holder:
                    LOG.info("leader: %s", holder or "unknown")
                    self._holder = holder
            now = self._clock.ticks()
            self._beat = now
            if self._lease.leads() and now >= next_step and self._cache.synced():
                if self._cache.age() <= MAX_AGE_SECONDS:
                    self.step()
                    next_step = max(next_step + PERIOD_SECONDS, now + PERIOD_SECONDS / 2)
                else:
                    LOG.warning(
                        "the API server has not answered for %.0f s: floors stay as they are", self._cache.age()
                    )
            due = min(next_renewal, next_step or next_renewal)
            self._cache.wait(self._seen, max(PAUSE_SECONDS, due - self._clock.ticks()))
            if self._cache.number() != self._seen and not self._follow_changes():
                # Changes come in groups, so those of this pause are handled together.
                ended.wait(PAUSE_SECONDS)
        self._lease.release()
        self._cache.stop()

    def _apply_resources(self, ended: threading.Event) -> None:
        """Work on custom resources whenever something changes, while the Lease is held."""
        assert self.inferences is not None
        seen, led = -1, False
        while not ended.is_set():
            leads = self._lease.leads() and self._cache.synced() and self._cache.age() <= MAX_AGE_SECONDS
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
            seen = self._cache.wait(seen, RENEW_SECONDS)
            # Changes come in groups, so those of this pause are handled together.
            ended.wait(PAUSE_SECONDS)

    def step(self) -> None:
        """Decide once for all workloads, and between two of them follow the rollouts of the others."""
        self.controller.step(self._list_workloads())

    def _list_workloads(self) -> Iterator[LiveWorkload]:
        for live in self._cache.workloads_with(keys.FLOOR):
            yield live
            self._follow_changes()

    def _follow_changes(self) -> bool:
        """Give new revisions of changed workloads their floor; return whether one of them may be ready before the next call."""
        if self._cache.number() == self._seen:
            return False
        self._seen, changed = self._cache.changes_since(self._seen)
        rolling = False
        if self._lease.leads():
            for live in self._cache.workloads_with(keys.FLOOR, changed or ()):
                self.controller.follow_rollout(live)
                rolling |= has_new_revision(live)
        return rolling

    # Metrics and probes.

    def serve(self, port: int) -> int:
        """Answer /metrics, /healthz and /readyz on a port, in a thread, and return the port."""
        process = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = process.answer(self.path)
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log no probes."""

        server = ThreadingHTTPServer(("", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        return int(server.server_address[1])

    def answer(self, path: str) -> tuple[HTTPStatus, str]:
        """Return the status and the text of one of the three paths."""
        if path == "/metrics":
            return HTTPStatus.OK, self._format_metrics()
        stalled = self._clock.ticks() - self._beat > STALLED_SECONDS
        if path == "/healthz":
            return (HTTPStatus.SERVICE_UNAVAILABLE, "stalled\n") if stalled else (HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            ready = self._cache.synced() and not stalled
            return (HTTPStatus.OK, "ok\n") if ready else (HTTPStatus.SERVICE_UNAVAILABLE, "reading the cluster\n")
        return HTTPStatus.NOT_FOUND, "not found\n"

    def _format_metrics(self) -> str:
        counts = self.controller.counts
        resources = dict.fromkeys(("resources", "applies", "statuses", "failures"), 0)
        if self.inferences is not None:
            resources = self.inferences.counts
        age = max(0.0, self._clock.now() - self.controller.stepped_at) if self.controller.stepped_at else 0.0
        rows = (
            ("leader", "gauge", "1 if this process writes", float(self._lease.leads())),
            ("workloads", "gauge", "Workloads that the controller scales", counts["workloads"]),
            ("blind_revisions", "gauge", "Revisions of which a metric has no value", counts["blind"]),
            ("decisions_total", "counter", "Decided floors", counts["decisions"]),
            ("patches_total", "counter", "Written floors", counts["patches"]),
            ("errors_total", "counter", "Failed queries and writes", counts["errors"]),
            ("last_step_age_seconds", "gauge", "Seconds since the last complete step", age),
            ("resources", "gauge", "Custom resources", resources["resources"]),
            ("applies_total", "counter", "Applied specs of custom resources", resources["applies"]),
            ("status_patches_total", "counter", "Written statuses of custom resources", resources["statuses"]),
            ("apply_failures_total", "counter", "Failed attempts to apply a custom resource", resources["failures"]),
            (
                "data_age_seconds",
                "gauge",
                "Seconds since the cached objects were known to be current",
                self._cache.age(),
            ),
        )
        return "".join(
            f"# HELP ebbtide_controller_{name} {text}.\n# TYPE ebbtide_controller_{name} {kind}\n"
            f"ebbtide_controller_{name} {value:g}\n"
            for name, kind, text, value in rows
        )
