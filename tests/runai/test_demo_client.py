"""NVIDIA's client against ``ebbtide serve --demo``, with the credentials that the demo prints and the client's documented calls."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The demo with a short past: simulating the usual one takes seconds.
PROGRAM = (
    "import functools, sys\nfrom ebbtide.cli import main\nfrom ebbtide.sandbox import services\n"
    "services.demo_world = functools.partial(services.demo_world, hours=0.05)\n"
    "sys.exit(main(['serve', '--demo', '--port', '0']))"
)


@contextmanager
def demo() -> Iterator[tuple[str, str, str]]:
    """Serve the demo; yield its URL, and the client ID and secret that it prints."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, text=True) as server:
        watchdog = threading.Timer(300, server.kill)
        watchdog.start()
        try:
            assert server.stderr is not None
            printed = ""
            while not (url := re.search(r"http://127\.0\.0\.1:\d+", printed)):
                line = server.stderr.readline()
                assert line, printed
                printed += line
            account = re.search(r"client ID (\S+), client secret (\S+)", printed)
            assert account is not None, printed
            yield url[0], account[1], account[2]
        finally:
            watchdog.cancel()
            server.kill()


def test_the_documented_calls_run_unchanged() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runapy's own
        models, configuration = import_module("runai.models"), import_module("runai.configuration").Configuration
        api_client, runai_client = import_module("runai.api_client"), import_module("runai.runai_client")
    with demo() as (url, name, secret):
        settings = configuration(client_id=name, client_secret=secret, runai_base_url=url)
        client: Any = runai_client.RunaiClient(api_client.ApiClient(settings))
        project = client.organizations.projects.get_projects(filter_by=["name==team-a"]).data["projects"][0]
        (cluster,) = client.organizations.clusters.get_clusters().data
        pools = client.organizations.node_pools.get_nodepools().data["nodepools"]
        request = models.InferenceCreationRequest(
            name="llm-chat",
            projectId=project["id"],
            clusterId=project["clusterId"],
            spec=models.InferenceSpecSpec(
                image="ghcr.io/acme/chat:1",
                environmentVariables=[models.EnvironmentVariable(name="MODEL", value="small")],
                autoscaling=models.AutoScaling(maxReplicas=2, minReplicas=1, metric="throughput", metricThreshold=100),
                compute=models.SupersetSpecAllOfCompute(cpuCoreRequest=0.5, cpuMemoryRequest="200M"),
                servingPort=models.ServingPort(container=3000, protocol=models.ServingPortProtocol.HTTP),
            ),
        )
        inferences = client.workloads.inferences
        created = inferences.create_inference1(inference_creation_request=request)
        uid = created.data["workloadId"]
        read = inferences.get_inference(uid).data
        listed = client.workloads.workloads.get_workloads(filter_by=["name==llm-chat"]).data["workloads"]
        pods = client.workloads.pods.get_workload_pods(uid).data
        times = {"start": "2027-01-15T07:00:00Z", "end": "2027-01-15T08:00:00Z"}
        types = [models.InferenceWorkloadMetricType.THROUGHPUT]
        measured = inferences.get_inference_workload_metrics(uid, metric_type=types, **times)
        spec = models.InferenceUpdateSpecSpec(autoscaling=models.AutoScaling(maxReplicas=3))
        updated = inferences.update_inference_spec(
            uid, inference_update_request=models.InferenceUpdateRequest(spec=spec)
        )
        deleted = inferences.delete_inference(uid)

    assert cluster["uuid"] == project["clusterId"]
    assert {models.Nodepool(**pool).name for pool in pools} == {"shared", "whole"}
    assert [answer.status_code for answer in (created, updated, deleted)] == [202, 202, 202]
    assert measured.status_code in {200, 207}
    assert models.Inference1(**read).spec.serving_port.container == 3000
    assert updated.data["spec"]["autoscaling"]["maxReplicas"] == 3
    assert [row["id"] for row in listed] == [uid]
    assert "pods" in pods
