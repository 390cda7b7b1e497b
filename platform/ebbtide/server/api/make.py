"""Backends of a real cluster, reached by a kubeconfig or from a pod inside it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from ebbtide.cluster.client.kubernetes import KubernetesCluster
from ebbtide.cluster.client.protocol import Clock
from ebbtide.cluster.watch.cache import Cache
from ebbtide.core.profile.models import Profile
from ebbtide.server.api.access import AccessCache, Caller, KubernetesReviewer
from ebbtide.server.api.backend import Backend

#: Maximum number of callers whose clients are cached.
MAX_CLIENTS: Final = 64


def make_cluster_backend(
    cluster: KubernetesCluster, profile: Profile, profile_data: dict[str, Any], clock: Clock, **options: Any
) -> Backend:
    """Return a backend for a cluster, which is read with ``cluster``'s account; ``Connection`` describes the options."""
    cache, access = Cache(cluster, clock, threads=True), AccessCache(KubernetesReviewer(cluster.api))
    return Backend(profile, profile_data, clock, cache, access, CallerClients(cluster).of, **options)


def connect_kubeconfig(kubeconfig: str | None, context: str | None) -> tuple[KubernetesCluster, Caller]:
    """Return the cluster of a kubeconfig, and the kubeconfig's user as a caller.

    Raises:
        UnreachableError: the kubeconfig or the context is missing or invalid.
    """
    import kubernetes.config  # slow to load

    from ebbtide.cluster.client.kubernetes import KubernetesCluster
    from ebbtide.cluster.client.rest import POOL_SIZE
    from ebbtide.core.base.paths import get_at

    cluster = KubernetesCluster.from_kubeconfig(kubeconfig, context)
    pool = cluster.api.rest_client.pool_manager.connection_pool_kw
    pool["maxsize"] = POOL_SIZE
    contexts, active = kubernetes.config.list_kube_config_contexts(kubeconfig)  # type: ignore[no-untyped-call] # upstream's
    chosen = active if context is None else next((row for row in contexts if row["name"] == context), None)
    return cluster, Caller(str(get_at(chosen, "context", "user", default="you")), is_local=True)


class CallerClients:
    """The clients of the latest callers, each with the caller's token; none holds the server's own credentials."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        """Connect to the API server as ``cluster`` does, but with other credentials."""
        self._cluster = cluster
        self._find = lru_cache(MAX_CLIENTS)(self._make)

    def of(self, caller: Caller) -> KubernetesCluster:
        """Return a client with the caller's token, or the kubeconfig's own client for its user."""
        return self._cluster if caller.is_local else self._find(caller.token)

    def _make(self, token: str) -> KubernetesCluster:
        import kubernetes.client  # slow to load

        from ebbtide.cluster.client.kubernetes import KubernetesCluster

        base, configuration = self._cluster.api.configuration, kubernetes.client.Configuration()
        for name in ("host", "verify_ssl", "ssl_ca_cert", "assert_hostname", "tls_server_name", "proxy", "no_proxy"):
            setattr(configuration, name, getattr(base, name, None))
        configuration.api_key = {"BearerToken": f"Bearer {token}"}
        return KubernetesCluster(kubernetes.client.ApiClient(configuration))
