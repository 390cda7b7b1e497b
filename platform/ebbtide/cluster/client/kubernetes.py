"""A real cluster over the kubeconfig and the connections of the official ``kubernetes`` client.

Only the client's kubeconfig loader and its REST client are used. Its typed models drop unknown fields and do not cover
Knative and KServe. Upstream: github.com/kubernetes-client/python
kubernetes/config/kube_config.py, kubernetes/client/rest.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config

from ebbtide.cluster.client.protocol import UnreachableError
from ebbtide.cluster.client.rest import APPLY, POOL_SIZE, RestCluster
from ebbtide.core.base.paths import get_at


class KubernetesCluster(RestCluster):
    """One cluster of a kubeconfig."""

    def __init__(self, api: Any, namespace: str = "default") -> None:
        """Wrap an ``ApiClient`` that has a host and credentials."""
        super().__init__(namespace)
        self._api = api

    @classmethod
    def from_kubeconfig(cls, file: str | None = None, context: str | None = None) -> KubernetesCluster:
        """Return the cluster of a kubeconfig: ``file``, else ``KUBECONFIG``, else the user's default.

        Raises UnreachableError if the file or the context does not exist or cannot be read.
        """
        try:
            contexts, active = kubernetes.config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call] # upstream's
            selected = active if context is None else next((row for row in contexts if row["name"] == context), None)
            api = kubernetes.config.new_client_from_config(file, context)  # type: ignore[no-untyped-call] # as above
        except (kubernetes.config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            path = file or os.environ.get("KUBECONFIG") or "~/.kube/config"
            # The client's own message for a missing file is that no configuration was found.
            exists = any(Path(part).expanduser().exists() for part in path.split(os.pathsep))
            reason = str(error).rstrip(".") if exists else "the file does not exist"
            demo = "" if exists else ", or use --demo for a simulated cluster"
            message = (
                f"cannot load a cluster from the kubeconfig {path}: {reason}; set KUBECONFIG, or use --kubeconfig FILE"
            )
            raise UnreachableError(f"{message}{demo}") from error
        return cls(api, get_at(selected, "context", "namespace", default="default"))

    @classmethod
    def from_pod(cls) -> KubernetesCluster:
        """Return the cluster that this pod runs in, with the pod's service account.

        Raises UnreachableError if the process does not run in a pod with a service account.
        """
        configuration = kubernetes.client.Configuration()
        configuration.connection_pool_maxsize = POOL_SIZE
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # upstream's
        except kubernetes.config.ConfigException as error:
            raise UnreachableError(f"not running in a pod with a service account: {error}") from error
        return cls(kubernetes.client.ApiClient(configuration))

    @property
    def api(self) -> Any:
        """The official client's ``ApiClient``, for the requests that need a separate stream: exec and port-forward."""
        return self._api

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: Any, timeout: tuple[float, float | None]
    ) -> Any:
        # The client serializes bodies whose content type ends in json.
        text = json.dumps(body) if headers.get("Content-Type") == APPLY else body
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}"
        try:
            return self._api.rest_client.request(
                method, url, headers=headers, body=text, _request_timeout=timeout
            ).response
        except kubernetes.client.ApiException as error:
            # A failed TLS handshake.
            raise UnreachableError(f"the cluster does not answer: {error.reason or error}") from error
