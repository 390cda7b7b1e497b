"""Apply on a real cluster: no difference after an apply, whatever webhooks fill in; edits of other managers are differences.

These tests run if EBBTIDE_E2E_KUBECONFIG names a kubeconfig of a cluster with Knative and KServe. They use a dedicated
namespace, which is deleted at the end.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ebbtide.cli import main
from ebbtide.cluster.client.protocol import KNATIVE, NAMESPACE, REVISION, BusyError
from ebbtide.core import manifests
from live_cluster import PROFILE, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KUBECONFIG = os.environ.get("EBBTIDE_E2E_KUBECONFIG", "")
IMAGE = os.environ.get("EBBTIDE_E2E_IMAGE", "ebbtide.local/e2e/load:v1")
pytestmark = pytest.mark.skipif(not KUBECONFIG, reason="no real cluster: EBBTIDE_E2E_KUBECONFIG names none")
SMALL = {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "32Mi", "cpuCoreLimit": 1, "cpuMemoryLimit": "64Mi"}
#: One spec for each kind of serving and scaling, with values that webhooks default, round or reformat.
SPECS: dict[str, dict[str, Any]] = {
    "knative": {
        "compute": {**SMALL, "cpuCoreLimit": 0.5, "cpuMemoryLimit": "0.0625Gi"},
        "environmentVariables": [{"name": "B", "value": "2"}, {"name": "A", "value": ""}],
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 3,
            "metric": "throughput",
            "metricThreshold": 7,
            "concurrencyHardLimit": 9,
            "scaleDownDelaySeconds": 60,
        },
        "servingConfiguration": {"requestTimeoutSeconds": 90, "initializationTimeoutSeconds": 120},
        "probes": {"readiness": {"handler": {"httpGet": {"path": "/"}}, "periodSeconds": 3}},
        "annotations": [{"name": "acme.example/owner", "value": "me"}],
    },
    "hpa": {
        "compute": SMALL,
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2, "metric": "cpu-utilization", "metricThreshold": 80},
    },
    "kserve": {
        "serving": "kserve",
        "compute": SMALL,
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 4},
    },
    "standard": {
        "serving": "kserve-standard",
        "compute": SMALL,
        "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "cpu-utilization", "metricThreshold": 90},
    },
}


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def cluster() -> Any:
    kubernetes = pytest.importorskip(
        "ebbtide.cluster.client.kubernetes", reason="the kubernetes client is not installed"
    )
    return kubernetes.KubernetesCluster.from_kubeconfig(KUBECONFIG)


@pytest.fixture(scope="module")
def project(cluster: Any) -> Iterator[str]:
    name = uuid.uuid4().hex[:6]
    yield name
    cluster.delete(NAMESPACE, f"op-drift-{name}")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def call(*words: Any) -> Ran:
        code = main([*map(str, words), "--kubeconfig", KUBECONFIG])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    file = tmp_path / "profile.yaml"
    metrics = {"metricsServer": True, "adapter": "none"}
    projects = {"namespace": "op-drift-{project}", "manage": True}
    document = {**PROFILE, "spec": {**PROFILE["spec"], "projects": projects, "metrics": metrics}}
    document["spec"]["knative"] = {**document["spec"]["knative"], "autoscaler": {"allow-zero-initial-scale": "true"}}
    file.write_text(manifests.write_document(document))
    return file


@pytest.mark.parametrize("name", SPECS)
def test_an_applied_spec_has_no_difference(
    run: Any, cluster: Any, profile: Path, tmp_path: Path, project: str, name: str
) -> None:
    file = tmp_path / "spec.yaml"
    fields = {"project": project, "image": IMAGE, **SPECS[name]}
    file.write_text(text(name, **fields))
    ran = run("apply", "-y", "-q", "--wait", "4m", "--profile", profile, file)
    assert ran.code == 0, ran.out + ran.err

    assert run("diff", "--profile", profile, file) == Ran(0, f"op-drift-{project}/{name} is up to date\n", "")
    described = json.loads(run("describe", name, "-p", project, "-o", "json").out)
    assert described["phase"] == "Running", described
    assert described["url"]

    file.write_text(text(name, **fields, slo={"uptimePercent": 99.5}))
    ran = run("diff", "-o", "json", "--profile", profile, file)
    assert ran.code == 4
    (changed,) = [step for step in json.loads(ran.out)[0]["steps"] if step["verdict"] != "keep"]
    assert not changed["rollout"]
    revisions = len(cluster.list(REVISION, f"op-drift-{project}").items)
    assert run("apply", "-y", "-q", "--wait", "4m", "--profile", profile, file).code == 0
    assert len(cluster.list(REVISION, f"op-drift-{project}").items) == revisions
    assert run("diff", "--profile", profile, file).code == 0


def test_an_edit_of_another_manager_is_a_difference_and_a_conflict(
    run: Any, cluster: Any, profile: Path, tmp_path: Path, project: str
) -> None:
    file = tmp_path / "spec.yaml"
    fields = {"project": project, "image": IMAGE, "compute": SMALL}
    file.write_text(text("edited", **fields))
    assert run("apply", "-y", "-q", "--wait", "0", "--profile", profile, file).code == 0
    namespace = f"op-drift-{project}"
    # Like `kubectl edit`: the whole object, with its own field manager; again if a controller wrote in between.
    path = f"/apis/serving.knative.dev/v1/namespaces/{namespace}/services/edited"
    for last in (False, False, True):
        live = cluster.get(KNATIVE, "edited", namespace)
        live["spec"]["template"]["spec"]["timeoutSeconds"] = 77
        live["metadata"]["labels"]["app.kubernetes.io/part-of"] = "somebody-else"
        try:
            cluster._request_json("PUT", path, live, fieldManager="kubectl-edit")  # noqa: SLF001 - another manager's write
        except BusyError:
            if last:
                raise
        else:
            break

    ran = run("diff", "--profile", profile, file)
    assert ran.code == 4
    assert 'part-of]: "somebody-else" -> ' in ran.out.replace("app.kubernetes.io/", "")
    assert "owns metadata.labels.app.kubernetes.io/part-of; --force takes the fields over" in ran.out
    assert "timeoutSeconds" not in ran.out, "the spec does not set it, so it is not reset"
    assert run("apply", "-y", "-q", "--profile", profile, file).code == 3
    assert run("apply", "-y", "-q", "--wait", "4m", "--force", "--profile", profile, file).code == 0
    assert run("diff", "--profile", profile, file).code == 0
