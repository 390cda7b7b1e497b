"""Service accounts of a case's namespace, with which it acts as another user than the administrator."""

from pathlib import Path

import yaml

from e2e.stage import Stage


def write_kubeconfig(stage: Stage, account: str) -> Path:
    """Return a kubeconfig for a service account of the namespace, which is created for it."""
    stage.kubectl.apply(
        [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": stage.namespace}}]
    )
    token = stage.kubectl.run("create", "token", account, "-n", stage.namespace).strip()
    told = yaml.safe_load(stage.kubectl.kubeconfig.read_text())
    told["users"] = [{"name": account, "user": {"token": token}}]
    for context in told["contexts"]:
        context["context"]["user"] = account
    file = stage.written(f"{account}.kubeconfig", yaml.safe_dump(told))
    file.chmod(0o600)
    return file
