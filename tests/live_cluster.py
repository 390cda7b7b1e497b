"""A simulated cluster, a profile and specs for tests of cluster commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.cluster.write.apply import Workload
from ebbtide.core import manifests
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated

if TYPE_CHECKING:
    import pytest

    from ebbtide.core.profile.models import Profile

PROFILE: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": "simulated"},
    "spec": {
        "knative": {
            "version": "1.21",
            "features": {
                "kubernetes.podspec-priorityclassname": "enabled",
                "kubernetes.podspec-nodeselector": "enabled",
                "kubernetes.podspec-affinity": "enabled",
                "kubernetes.podspec-tolerations": "enabled",
                "kubernetes.podspec-persistent-volume-claim": "enabled",
                "kubernetes.podspec-persistent-volume-write": "enabled",
            },
        },
        "kserve": {
            "version": "0.20",
            "modes": ["Knative", "Standard"],
            "llm": "scheduler",
            "annotationDisallowList": ["ebbtide.dev/spec", "ebbtide.dev/scale"],
        },
        "nodePools": [
            {
                "name": "shared",
                "product": "NVIDIA-A100-SXM4-80GB",
                "gpuMemoryMebibytes": 81920,
                "devices": 1,
                "nodes": 1,
                "backend": "time-slicing",
                "replicas": 4,
            }
        ],
        "scheduling": {"scheduler": "default-scheduler", "classesOwner": "cluster"},
        "projects": {"namespace": "team-{project}", "manage": True, "quota": "resourcequota"},
    },
}


def profile() -> Profile:
    validated, problems = profiles.validate_profile_data(PROFILE)
    assert validated is not None, problems
    return validated


def simulated(**settings: Any) -> Simulated:
    return Simulated(ManualClock(), gpus={"nvidia.com/gpu.shared": 4}, **settings)


def connected(cluster: Simulated, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """Make commands use this cluster and its clock."""
    # By name, because the tests of other tiers use this module without the command line.
    monkeypatch.setattr("ebbtide.cli.base.connection.connect", lambda *_: cluster)
    monkeypatch.setattr("ebbtide.cli.base.connection.clock", lambda: cluster.clock)
    return cluster


def spec(name: str = "chat", **fields: Any) -> dict[str, Any]:
    values = {"project": "shop", "image": "ghcr.io/acme/chat:1", "servingPort": {"container": 8080}, **fields}
    return {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "metadata": {"name": name}, "spec": values}


def text(name: str = "chat", **fields: Any) -> str:
    return manifests.write_document(spec(name, **fields))


def workload(document: dict[str, Any] | None = None, **fields: Any) -> Workload:
    batch = Batch(profile())
    loaded = load_document(document or spec(**fields), batch.profile)
    objects, translation, problems = batch.add_document(loaded)
    assert translation is not None, problems
    assert translation.plan is not None, problems
    assert not [problem for problem in problems if problem.severity == "error"], problems
    return Workload(tuple(objects), translation.plan)


SCALING = {"minReplicas": 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 10}
