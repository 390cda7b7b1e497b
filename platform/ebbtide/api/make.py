"""Backends of a real cluster, reached by a kubeconfig or from a pod inside it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.access import AccessCache, Caller, KubernetesReviewer, digest_secret
from ebbtide.api.backend import Backend, BackendParts
from ebbtide.api.cache import Cache
from ebbtide.cluster.client.protocol import UnreachableError

if TYPE_CHECKING:
    from ebbtide.cluster.client.kubernetes import KubernetesCluster
    from ebbtide.cluster.client.protocol import Clock
    from ebbtide.profile.models import Profile
    from ebbtide.slo.source import MetricsSource

#: Maximum number of callers whose clients are cached, and of connections of the server's account: each watch holds one.
MAX_CLIENTS: Final = 64
POOL_SIZE: Final = 32
#: A pod's token file, and the variable that names its API server. Upstream:
#: kubernetes.io/docs/tasks/run-application/access-api-from-pod.
TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
HOST_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"


def make_cluster_backend(
    cluster: KubernetesCluster,
    profile: Profile,
    profile_data: dict[str, Any],
    clock: Clock,
    *,
    source: MetricsSource | None = None,
    anonymous_caller: Caller | None = None,
    local_caller: Caller | None = None,
    session_keys: tuple[str, ...] = (),
    read_only: bool = False,
    gateway: str = "",
    gpu_hour: float | None = None,
) -> Backend:
    """Return a backend for a cluster, which is read with ``cluster``'s account.

    ``BackendParts`` describes the other arguments.
    """
    return Backend(
        BackendParts(
            cluster=cluster,
            profile=profile,
            profile_data=profile_data,
            clock=clock,
            cache=Cache(cluster, clock, threads=True),
            access=AccessCache(KubernetesReviewer(cluster.api)),
            connect=CallerClients(cluster).of,
            source=source,
            anonymous_caller=anonymous_caller,
            local_caller=local_caller,
            session_keys=session_keys,
            read_only=read_only,
            gateway=gateway,
            gpu_hour=gpu_hour,
        )
    )


def is_in_cluster() -> bool:
    """Return whether this process runs in a pod that has a service account."""
    return HOST_VARIABLE in os.environ and TOKEN_FILE.exists()


def connect_in_cluster() -> KubernetesCluster:
    """Return the cluster that this pod runs in, with the pod's service account.

    Raises:
        UnreachableError: the process does not run in a pod with a service account.

    """
    import kubernetes.config  # noqa: PLC0415 - slow to load

    from ebbtide.cluster.client.kubernetes import KubernetesCluster  # noqa: PLC0415 - as above

    configuration = _make_configuration()
    try:
        kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # upstream's
    except kubernetes.config.ConfigException as error:
        raise UnreachableError(f"not running in a pod with a service account: {error}") from error
    return KubernetesCluster(kubernetes.client.ApiClient(configuration))


def connect_kubeconfig(kubeconfig: str | None, context: str | None) -> tuple[KubernetesCluster, Caller]:
    """Return the cluster of a kubeconfig, and the kubeconfig's user as a caller.

    Raises:
        UnreachableError: the kubeconfig or the context is missing or invalid.

    """
    import kubernetes.config  # noqa: PLC0415 - slow to load

    from ebbtide.base.paths import get_at  # noqa: PLC0415 - only here
    from ebbtide.cluster.client.kubernetes import KubernetesCluster  # noqa: PLC0415 - as above

    cluster = KubernetesCluster.from_kubeconfig(kubeconfig, context)
    pool = cluster.api.rest_client.pool_manager.connection_pool_kw
    pool["maxsize"] = POOL_SIZE
    contexts, active = kubernetes.config.list_kube_config_contexts(kubeconfig)  # type: ignore[no-untyped-call] # upstream's
    chosen = active if context is None else next((row for row in contexts if row["name"] == context), None)
    return cluster, Caller(str(get_at(chosen, "context", "user", default="you")), is_local=True)


def _make_configuration() -> Any:
    import kubernetes.client  # noqa: PLC0415 - slow to load

    configuration = kubernetes.client.Configuration()
    configuration.connection_pool_maxsize = POOL_SIZE
    return configuration


class CallerClients:
    """The clients of the latest callers, each with the caller's token; none holds the server's own credentials."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        """Connect to the API server as ``cluster`` does, but with other credentials."""
        self._cluster = cluster
        self._made: OrderedDict[bytes, KubernetesCluster] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, caller: Caller) -> KubernetesCluster:
        """Return a client with the caller's token, or the kubeconfig's own client for its user."""
        if caller.is_local:
            return self._cluster
        key = digest_secret(caller.token)
        with self._lock:
            client = self._made.get(key)
            if client is None:
                client = self._made[key] = self._make(caller.token)
            self._made.move_to_end(key)
            while len(self._made) > MAX_CLIENTS:
                self._made.popitem(last=False)
            return client

    def _make(self, token: str) -> KubernetesCluster:
        import kubernetes.client  # noqa: PLC0415 - slow to load

        from ebbtide.cluster.client.kubernetes import KubernetesCluster  # noqa: PLC0415 - as above

        base, configuration = self._cluster.api.configuration, kubernetes.client.Configuration()
        for name in ("host", "verify_ssl", "ssl_ca_cert", "assert_hostname", "tls_server_name", "proxy", "no_proxy"):
            setattr(configuration, name, getattr(base, name, None))
        configuration.api_key = {"BearerToken": f"Bearer {token}"}
        return KubernetesCluster(kubernetes.client.ApiClient(configuration))
