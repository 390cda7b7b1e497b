"""A real cluster over the kubeconfig and the connections of the official ``kubernetes`` client.

Only the client's kubeconfig loader and its REST client are used. Its typed models drop unknown fields and do not cover
Knative and KServe. Upstream: github.com/kubernetes-client/python
kubernetes/config/kube_config.py, kubernetes/client/rest.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import kubernetes.client
import kubernetes.config

from ebbtide.cluster.client.protocol import ForbiddenError, UnreachableError
from ebbtide.cluster.client.rest import APPLY, POOL_SIZE, RestCluster
from ebbtide.core.base.paths import get_at

UNAUTHORIZED: Final = 401


class KubernetesCluster(RestCluster):
    """One cluster of a kubeconfig."""

    def __init__(self, api: Any, namespace: str = "default", login: str = "") -> None:
        """Wrap an ``ApiClient`` that has a host and credentials, whose user and context ``login`` names."""
        super().__init__(namespace)
        self._api = api
        self._login = login

    @classmethod
    def from_kubeconfig(cls, file: str | None = None, context: str | None = None) -> KubernetesCluster:
        """Return the cluster of a kubeconfig: ``file``, else ``KUBECONFIG``, else the user's default.

        Raises UnreachableError if the file or the context does not exist or cannot be read.
        """
        try:
            contexts, active = kubernetes.config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call] # upstream's
            selected = active if context is None else next((row for row in contexts if row["name"] == context), None)
            if selected is None:
                names = ", ".join(row["name"] for row in contexts)
                raise UnreachableError(f"context {context} not found in the kubeconfig, which has {names}")
            login = f"user {get_at(selected, 'context', 'user', default='')} of context {selected['name']}"
            with _raise_plugin_failure(login):
                api = kubernetes.config.new_client_from_config(file, context)  # type: ignore[no-untyped-call] # as above
        except (kubernetes.config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            path = file or os.environ.get("KUBECONFIG") or "~/.kube/config"
            # The client's own message for a missing file is that no configuration was found.
            exists = any(Path(part).expanduser().exists() for part in path.split(os.pathsep))
            # The client expects mappings without a check.
            readable = "it is not a kubeconfig" if isinstance(error, TypeError) else str(error).rstrip(".")
            reason = readable if exists else "the file does not exist"
            demo = "" if exists else ", or use --demo for a simulated cluster"
            message = (
                f"cannot load a cluster from the kubeconfig {path}: {reason}; set KUBECONFIG, or use --kubeconfig FILE"
            )
            raise UnreachableError(f"{message}{demo}") from error
        return cls(api, get_at(selected, "context", "namespace", default="default"), login)

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
            response = self._api.rest_client.request(
                method, url, headers=headers, body=text, _request_timeout=timeout
            ).response
        except kubernetes.client.ApiException as error:
            # A failed TLS handshake.
            raise UnreachableError(f"the cluster does not answer: {error.reason or error}") from error
        if response.status == UNAUTHORIZED and self._login:
            raise ForbiddenError(
                f"unauthorized: the cluster does not accept the credentials of {self._login}; log in to the cluster again"
            )
        return response


@contextmanager
def _raise_plugin_failure(login: str) -> Iterator[None]:
    """Raise UnreachableError if a credential plugin fails.

    The client logs the failure and continues without credentials. Its ``logging.error`` would also switch on the log of
    urllib3, which a handler prevents.
    """
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment, method-assign] # a class would say no more
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
    if failures := [record.getMessage() for record in records if record.levelno >= logging.ERROR]:
        raise UnreachableError(
            f"no credentials for {login}: {failures[-1]}; log in to the cluster again, or fix the user in the kubeconfig"
        )
