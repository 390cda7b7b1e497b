"""The health of a resource as Argo CD and Flux compute it from an object, for tests of recorded and of live objects."""

from typing import Any

import yaml
from lupa import lua51  # type: ignore[import-untyped] # upstream has no stubs

from e2e.paths import ROOT

CHECKS = ROOT / "kustomize" / "crd-argocd" / "argocd-cm.yaml"
GENERIC = {"Reconciling": "InProgress", "Stalled": "Failed"}


def argo_health(resource: Any) -> str:
    """Return the health that the check for Argo CD computes; a check without a message fails."""
    group = resource["apiVersion"].partition("/")[0]
    config = yaml.safe_load(CHECKS.read_text())
    check = config["data"][f"resource.customizations.health.{group}_{resource['kind']}"]
    lua = lua51.LuaRuntime()
    health = lua.execute(f"local obj = ...\n{check}", lua.table_from(resource, recursive=True))
    assert health["message"]
    return str(health["status"])


def flux_health(resource: Any) -> str:
    """Return the status that kstatus computes: cli-utils pkg/kstatus/status, Compute and checkGenericProperties."""
    if "deletionTimestamp" in resource["metadata"]:
        return "Terminating"
    status = resource.get("status", {})
    if status.get("observedGeneration", resource["metadata"]["generation"]) != resource["metadata"]["generation"]:
        return "InProgress"
    conditions = status.get("conditions", ())
    for row in conditions:
        if row["type"] in GENERIC and row["status"] == "True":
            return GENERIC[row["type"]]
    ready = [row["status"] for row in conditions if row["type"] == "Ready"]
    # Without any of the conditions, kstatus takes a resource for ready.
    return "Current" if ready in ([], ["True"]) else "InProgress"
