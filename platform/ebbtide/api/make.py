"""Backends: of a real cluster by a kubeconfig or from inside it, and of a simulated one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.access import Access, Caller, SimulatedReviewer
from ebbtide.api.backend import Backend, Means
from ebbtide.api.cache import Cache
from ebbtide.api.guarded import Guarded

if TYPE_CHECKING:
    from ebbtide.api.access import Rule
    from ebbtide.cluster.protocol import Clock, Cluster
    from ebbtide.profile import Profile
    from ebbtide.slo.source import Source

#: Callers whose connections are kept open.
CONNECTIONS: Final = 64
#: Who calls without a token.
OWN: Final = Caller("you")


def of_simulated(
    cluster: Cluster,
    profile: Profile,
    profile_data: dict[str, Any],
    clock: Clock,
    *,
    source: Source | None = None,
    tokens: dict[str, Caller] | None = None,
    rules: tuple[Rule, ...] = (),
    read_only: bool = False,
    demo: bool = False,
) -> Backend:
    """Return a backend on a simulated cluster: who calls without a token may do everything, others what rules say."""
    access = Access(SimulatedReviewer(tokens or {}, rules))
    return Backend(
        Means(
            cluster=cluster,
            profile=profile,
            profile_data=profile_data,
            clock=clock,
            cache=Cache(cluster, clock, threads=False),
            access=access,
            connect=lambda caller: Guarded(cluster, access, caller),
            source=source,
            own=OWN,
            read_only=read_only,
            demo=demo,
        )
    )
