"""The server's backend on a simulated cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.access import Access, Caller
from ebbtide.api.backend import Backend, Means
from ebbtide.api.cache import Cache
from ebbtide.sandbox.guarded import Guarded, SimulatedReviewer

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Clock
    from ebbtide.profile.models import Profile
    from ebbtide.sandbox.guarded import Rule
    from ebbtide.sandbox.simulated import Simulated
    from ebbtide.slo.source import Source

#: The caller of requests without a token on a simulated cluster.
OWN: Final = Caller("you")


def of_simulated(
    cluster: Simulated,
    profile: Profile,
    profile_data: dict[str, Any],
    clock: Clock,
    *,
    source: Source | None = None,
    tokens: dict[str, Caller] | None = None,
    rules: tuple[Rule, ...] = (),
    own: Caller | None = OWN,
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
            cache=Cache(cluster, clock, threads=cluster.real),
            access=access,
            connect=lambda caller: Guarded(cluster, access, caller),
            source=source,
            own=own,
            read_only=read_only,
            demo=demo,
        )
    )
