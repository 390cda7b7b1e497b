"""The pod that this process runs in. Nothing here loads the official client.

Upstream: kubernetes.io/docs/tasks/run-application/access-api-from-pod.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: A pod's token file, and the variable that names its API server.
TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
HOST_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"


def is_in_cluster() -> bool:
    """Return whether this process runs in a pod that has a service account."""
    return HOST_VARIABLE in os.environ and TOKEN_FILE.exists()


def read_namespace() -> str:
    """Return this pod's namespace, or an empty string outside of a pod."""
    file = TOKEN_FILE.with_name("namespace")
    return file.read_text().strip() if is_in_cluster() and file.exists() else ""
