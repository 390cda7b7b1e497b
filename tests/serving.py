"""A test server on loopback, with a simulated cluster of two projects and three users."""

from __future__ import annotations

import base64
import copy
import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import httpx
import uvicorn

from ebbtide.cluster.slo.source import Bucket, History, SeriesPoint, StartTimes, WorkloadMeasurements
from ebbtide.core.base import keys
from ebbtide.core.documents import profiles
from ebbtide.sandbox.backend import PermissionRule, make_simulated_backend
from ebbtide.server.api import offline
from ebbtide.server.api.access import Caller
from ebbtide.server.api.app import make_app, make_server_config
from ebbtide.server.api.gate import ServerSettings
from live_cluster import PROFILE, SCALING, simulated, spec, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from fastapi import APIRouter

    from ebbtide.cluster.slo.source import Ref
    from ebbtide.sandbox.simulated import Simulated
    from ebbtide.server.api.backend import Backend
    from ebbtide.server.api.protocol import ConnectionLimits

#: The cluster's administrator creates the namespaces, as in the local cluster's profile.
MADE: Final[dict[str, Any]] = copy.deepcopy(PROFILE)
MADE["spec"]["projects"] |= {"manage": False, "quota": "none"}
PROJECTS: Final = ("alpha", "beta")
NAMESPACES: Final = tuple(f"team-{name}" for name in PROJECTS)
#: One workload per project, each with a name that appears nowhere else.
WORKLOADS: Final = {"team-alpha": "aardvark", "team-beta": "bandicoot"}
ALL: Final = frozenset({"*"})
READ: Final = frozenset({"get", "list", "watch"})
#: Trust of the test's clients. Without it, each of them reads the certificates of all authorities, 40 ms of processor time.
TRUST: Final = ssl.create_default_context()


def token(name: str, expires: float = 4_000_000_000.0) -> str:
    """Return a token in JWT format, like those of service accounts."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'sub': name, 'exp': expires})}.signature-of-{name}"


ACCOUNT: Final = "system:serviceaccount:team-alpha:robot"
CALLERS: Final = {
    "owner": Caller(ACCOUNT, ("system:serviceaccounts",), token=token("owner")),
    "reader": Caller("rita", ("alpha-readers",), token=token("reader")),
    "root": Caller("root", ("admins",), token=token("root")),
}
RULES: Final = (
    PermissionRule(ACCOUNT, ALL, ALL, frozenset({"team-alpha"})),
    PermissionRule("alpha-readers", READ, ALL, frozenset({"team-alpha"})),
    PermissionRule("admins", ALL, ALL, ALL),
)


@dataclass(slots=True)
class Counts:
    """A metrics source with the same measurements for every workload; ``asked`` records the requested workloads."""

    asked: list[Ref] = field(default_factory=list)

    def measure(self, refs: Sequence[Ref], start: float, end: float) -> dict[Ref, WorkloadMeasurements]:
        self.asked += refs
        return {
            ref: WorkloadMeasurements(
                ref,
                start,
                end,
                place="gateway",
                requests=100.0,
                total_seconds=20.0,
                buckets=(Bucket(0.5, 95.0), Bucket(float("inf"), 100.0)),
            )
            for ref in refs
        }

    def histories(
        self, refs: Sequence[Ref], start: float, end: float, step: float, names: Collection[str]
    ) -> dict[Ref, History]:
        self.asked += refs
        points = tuple(SeriesPoint(start + place * step, 3.0) for place in range(int((end - start) / step) + 1))
        return {ref: History(ref, dict.fromkeys(names, points)) for ref in refs}

    def history(self, ref: Ref, start: float, end: float, step: float) -> History:
        self.asked.append(ref)
        times = [start + place * step for place in range(int((end - start) / step) + 1)]
        return History(
            ref,
            {
                "rate": tuple(SeriesPoint(time, 5.0) for time in times),
                "mean": tuple(SeriesPoint(time, None if place % 2 else 0.2) for place, time in enumerate(times)),
                "p95": tuple(SeriesPoint(time, 0.4) for time in times),
                "ready": tuple(SeriesPoint(time, 2.0) for time in times),
            },
        )

    def starts(self, ref: Ref, start: float, end: float) -> list[StartTimes]:
        del start, end
        self.asked.append(ref)
        return []


def cluster(**settings: Any) -> Simulated:
    """Return a simulated cluster with the namespaces of both projects."""
    simulated_cluster = simulated(**settings)
    for project, namespace in zip(PROJECTS, NAMESPACES, strict=True):
        labels = {keys.PROJECT: project}
        simulated_cluster.put(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
        )
    return simulated_cluster


def backend(existing: Simulated | None = None, **settings: Any) -> tuple[Simulated, Backend]:
    """Return a cluster and a backend for the three users, by default without an anonymous caller."""
    chosen = cluster() if existing is None else existing
    profile, problems = profiles.validate_profile_data(MADE)
    assert profile is not None, problems
    server_backend = make_simulated_backend(
        chosen,
        profile,
        MADE,
        chosen.clock,
        **{
            "tokens": {caller.token: caller for caller in CALLERS.values()},
            "rules": RULES,
            "anonymous_caller": None,
            "source": Counts(),
            **settings,
        },
    )
    return chosen, server_backend


def document(name: str, project: str = "alpha", **fields: Any) -> str:
    """Return a spec of one of the projects."""
    return text(name, **{"project": project, "autoscaling": SCALING, **fields})


def inhabited(**settings: Any) -> tuple[Simulated, Backend]:
    """Return a cluster and a backend whose projects have one workload each."""
    simulated_cluster, server_backend = backend(**settings)
    for (namespace, name), project in zip(WORKLOADS.items(), PROJECTS, strict=True):
        server_backend.writes.submit(
            CALLERS["root"],
            server_backend.specs.documents(document(name, project, image=f"ghcr.io/{namespace}/{name}:1")),
        )
        simulated_cluster.clock.sleep(20)
    return simulated_cluster, server_backend


def body(name: str, project: str, cluster_id: str, **fields: Any) -> dict[str, Any]:
    """Return the body of Run:ai's request to create an inference."""
    body_spec = {
        name: value for name, value in spec(name, autoscaling=SCALING, **fields)["spec"].items() if name != "project"
    }
    return {"name": name, "projectId": project, "clusterId": cluster_id, "spec": body_spec}


@contextmanager
def served(
    backend: Backend,
    settings: ServerSettings | None = None,
    routers: Sequence[APIRouter] = (),
    limits: ConnectionLimits | None = None,
    **tls: str,
) -> Iterator[httpx.Client]:
    """Serve a backend on loopback, and yield a client without a token."""
    app = make_app(backend, settings or ServerSettings(), routers)
    config = make_server_config(app, "127.0.0.1", 0, limits, **tls)
    config.timeout_graceful_shutdown = 2
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        # More time than users get: workers have a lower priority than the tests that run next to them.
        with (
            patch.object(offline, "MAX_SECONDS", 55.0),
            httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60, verify=TRUST) as client,
        ):
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def bearer(caller: str) -> dict[str, str]:
    """Return the header that authenticates a user."""
    return {"Authorization": f"Bearer {CALLERS[caller].token}"}
