"""The pod that this process runs in, and its cluster, without the official client, which takes 10 MB of a controller's memory.

Upstream: kubernetes.io/docs/tasks/run-application/access-api-from-pod; github.com/kubernetes-client/python
kubernetes/config/incluster_config.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import urllib3

from ebbtide.cluster.client.rest import POOL_SIZE, RestCluster

#: A pod's token file and its CA's, and the variables that name its API server.
TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
CA_FILE: Final = TOKEN_FILE.with_name("ca.crt")
HOST_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"
PORT_VARIABLE: Final = "KUBERNETES_SERVICE_PORT"


def is_in_cluster() -> bool:
    """Return whether this process runs in a pod that has a service account."""
    return HOST_VARIABLE in os.environ and TOKEN_FILE.exists()


def read_namespace() -> str:
    """Return this pod's namespace, or an empty string outside of a pod."""
    file = TOKEN_FILE.with_name("namespace")
    return file.read_text().strip() if is_in_cluster() and file.exists() else ""


class PodCluster(RestCluster):
    """The cluster that this pod runs in, with the pod's service account, and without a proxy."""

    def __init__(self) -> None:
        """Connect with the files and the variables of a pod (``is_in_cluster``)."""
        super().__init__()
        host = os.environ[HOST_VARIABLE]
        # An IPv6 address has brackets in a URL.
        self._address = f"https://{f'[{host}]' if ':' in host else host}:{os.environ.get(PORT_VARIABLE, '443')}"
        self._connections = urllib3.PoolManager(maxsize=POOL_SIZE, ca_certs=str(CA_FILE), cert_reqs="CERT_REQUIRED")

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: Any, timeout: tuple[float, float | None]
    ) -> Any:
        # The kubelet replaces the token before it expires.
        headers["Authorization"] = f"Bearer {TOKEN_FILE.read_text().strip()}"
        connect_seconds, read_seconds = timeout
        return self._connections.request(
            method,
            f"{self._address}{path}",
            headers=headers,
            body=None if body is None else json.dumps(body),
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            preload_content=False,
        )
