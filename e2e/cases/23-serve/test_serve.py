"""`ebbtide serve` in the cluster: from its Helm chart, for real tokens, by NVIDIA's own client, and who may see what."""

import base64
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from e2e.build import build
from e2e.components import COMPONENTS
from e2e.kubectl import KubectlError, Manifest
from e2e.overlay import COMPONENTS as KUSTOMIZE
from e2e.paths import ROOT
from e2e.servers.images import image
from e2e.stage import PROFILE, Stage

sys.path.insert(0, str(ROOT / "tests"))

import matrix

ROLE: Final = KUSTOMIZE / "roles" / "project-member.yaml"
V1: Final = "/api/ebbtide/v1"
FORWARDED: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
SEEN: Final = ["get", "list", "watch"]
SMALL: Final = {"cpuCoreRequest": 0.01, "cpuMemoryRequest": "16Mi"}
ALONE: Final = {"minReplicas": 1, "maxReplicas": 2, "metric": "concurrency", "metricThreshold": 10}


class Place:
    """The server's namespace, the two projects, and the three users."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.system = f"{stage.namespace}-system"
        self.second = f"{stage.namespace}-2"
        self.projects = {stage.project: stage.namespace, f"{stage.project}-2": self.second}

    def made(self) -> list[Manifest]:
        """Return what an administrator makes: namespaces, accounts, and what they may."""
        found: list[Manifest] = []
        for project, namespace in self.projects.items():
            labels = {"ebbtide.dev/project": project}
            found.append(_object("v1", "Namespace", namespace, labels=labels))
        home = self.stage.namespace
        found += [_object("v1", "ServiceAccount", name, home) for name in ("robot", "rita", "root")]
        reader = _object("rbac.authorization.k8s.io/v1", "Role", "reader", home)
        reader["rules"] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": SEEN}]
        found.append(reader)
        found.append(_binding("members", home, "ClusterRole", _name_of(ROLE), "robot"))
        found.append(_binding("readers", home, "Role", "reader", "rita"))
        root = _object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", f"{home}-root")
        root["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        root["subjects"] = [{"kind": "ServiceAccount", "name": "root", "namespace": home}]
        return [*found, root]

    def install(self) -> None:
        """Install the chart, as an administrator does; controllers from kustomize are other cases'."""
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        secret = _object("v1", "Secret", "ebbtide-session-key", self.system)
        self.stage.apply(
            [_object("v1", "Namespace", self.system, labels=restricted), {**secret, "stringData": {"key": key}}]
        )
        profile = yaml.safe_load(PROFILE.read_text())
        profile["spec"]["projects"]["manage"] = False
        repository, _, tag = image("ebbtide").rpartition(":")
        values = {"image": {"repository": repository, "tag": tag}, "profile": yaml.safe_dump(profile)}
        file = self.stage.written("values.yaml", yaml.safe_dump(values))
        self.helm("install", "ebbtide", str(ROOT / "charts/ebbtide"), f"--values={file}", "--wait", "--timeout=300s")

    def helm(self, *words: str) -> None:
        """Run Helm in the server's namespace."""
        options = [f"--namespace={self.system}", f"--kubeconfig={self.stage.kubectl.kubeconfig}"]
        subprocess.run([build(COMPONENTS["helm"]) / "helm", *words, *options], check=True, capture_output=True)

    def token(self, account: str) -> str:
        """Return a token of a service account, as its pods get one."""
        run = self.stage.kubectl.run
        return run("create", "token", account, "-n", self.stage.namespace, "--duration=1h").strip()

    def state(self, namespace: str) -> list[Any]:
        """Return what people wrote in a namespace: not what controllers add to it all the time."""
        items = self.stage.kubectl.get("ksvc,revisions", "-n", namespace)["items"]
        return [
            [item["kind"], item["metadata"]["name"], item["metadata"]["generation"], item["spec"]] for item in items
        ]


def _object(version: str, kind: str, name: str, namespace: str = "", **metadata: Any) -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where, **metadata}}


def _binding(name: str, namespace: str, kind: str, role: str, account: str) -> Manifest:
    made = _object("rbac.authorization.k8s.io/v1", "RoleBinding", name, namespace)
    made["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    made["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    return made


def _name_of(file: Path) -> str:
    return str(next(iter(yaml.safe_load_all(file.read_text())))["metadata"]["name"])


@pytest.fixture
def place(stage: Stage) -> Iterator[Place]:
    """Give the case its projects, and remove what is not the stage's own."""
    found = Place(stage)
    stage.kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(ROLE))
    stage.apply(found.made())
    yield found
    for kind, name in (
        ("namespace", found.second),
        ("namespace", found.system),
        ("clusterrolebinding", f"{stage.namespace}-root"),
        ("clusterrolebinding", "ebbtide-server"),
        ("clusterrole", "ebbtide-server"),
    ):
        stage.kubectl.run("delete", kind, name, "--ignore-not-found", "--wait=false")


@contextmanager
def forwarded(stage: Stage, namespace: str) -> Iterator[str]:
    """Forward a local port to the server, and yield its address."""
    command = [str(stage.kubectl.program), f"--kubeconfig={stage.kubectl.kubeconfig}"]
    with subprocess.Popen(
        [*command, "port-forward", "-n", namespace, "service/ebbtide", ":80"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            match = FORWARDED.match(process.stdout.readline())
            assert match is not None
            yield f"http://127.0.0.1:{match[1]}"
        finally:
            process.terminate()


def test_serve(stage: Stage, place: Place) -> None:
    """The server runs under the restricted pod security standard, runapy works on it, and each user sees only their projects."""
    place.install()
    (account,) = stage.kubectl.get("clusterrolebinding", "ebbtide-server")["subjects"]
    assert account == {"kind": "ServiceAccount", "name": "ebbtide", "namespace": place.system}
    tokens = {"owner": place.token("robot"), "reader": place.token("rita"), "root": place.token("root")}
    with forwarded(stage, place.system) as address, httpx.Client(base_url=address, timeout=120) as client:
        took = by_runapy(stage, address, tokens["owner"])
        stage.report(runapy_seconds=took)
        asked = the_matrix(stage, place, client, tokens)
        stage.report(matrix_requests=asked)
    log = stage.kubectl.run("logs", "-lapp.kubernetes.io/name=ebbtide", "-n", place.system, "--tail=-1")
    assert "GET /api/v1/workloads" in log
    assert not any(token in log for token in tokens.values())
    assert "Traceback" not in log, log[log.index("Traceback") :][:4000]
    pods = stage.kubectl.get("pods", "-n", place.system, "-lapp.kubernetes.io/name=ebbtide")["items"]
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
    place.helm("uninstall", "ebbtide", "--wait")
    left = stage.kubectl.get("clusterroles,clusterrolebindings")["items"]
    assert "ebbtide-server" not in {item["metadata"]["name"] for item in left}


def by_runapy(stage: Stage, address: str, token: str) -> float:
    """Create, list, get, measure, update and delete with NVIDIA's own client, and return the seconds until it served."""
    # Its import takes three seconds, in every worker if it is above.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runapy's own
        from runai.api_client import ApiClient  # noqa: PLC0415 - as above
        from runai.configuration import Configuration  # noqa: PLC0415 - as above
        from runai.runai_client import RunaiClient  # noqa: PLC0415 - as above

        from runai import models  # noqa: PLC0415 - as above

    settings = Configuration(
        client_id=f"{stage.namespace}/robot", client_secret=token, runai_base_url=address, retry_enabled=False
    )
    session = RunaiClient(ApiClient(settings))
    inferences, workloads = session.workloads.inferences, session.workloads.workloads
    project = next(
        row
        for row in session.organizations.projects.get_projects(filter_by=[f"name=={stage.project}"]).data["projects"]
    )
    request = models.InferenceCreationRequest(
        name="by-runapy",
        projectId=project["id"],
        clusterId=project["clusterId"],
        spec=models.InferenceSpecSpec(
            image=image("load"),
            servingPort=models.ServingPort(container=8080),
            compute=models.SupersetSpecAllOfCompute(cpuCoreRequest=0.01, cpuMemoryRequest="16Mi"),
            autoscaling=models.AutoScaling(minReplicas=1, maxReplicas=2, metric="concurrency", metricThreshold=10),
        ),
    )
    made = inferences.create_inference1(inference_creation_request=request)
    assert made.status_code == 202
    uid = made.data["workloadId"]
    assert uid == stage.get("ksvc", "by-runapy")["metadata"]["uid"]

    def phase() -> str:
        return str(inferences.get_inference(uid).data["actualPhase"])

    took = stage.until("it is Running", lambda: phase() == "Running", seen=phase)
    listed = workloads.get_workloads(filter_by=["name==by-runapy"]).data["workloads"]
    assert [(row["id"], row["phase"]) for row in listed] == [(uid, "Running")]
    stage.until("the gateway answers", lambda: stage.ask(stage.host("by-runapy")).is_success)
    now = datetime.now(UTC)
    measured = inferences.get_inference_workload_metrics(
        uid,
        metric_type=["THROUGHPUT", "LATENCY"],
        start=(now - timedelta(minutes=10)).isoformat(),
        end=now.isoformat(),
        number_of_samples=10,
    )
    assert measured.status_code in {200, 207}
    assert {row["type"] for row in measured.data["measurements"]} == {"THROUGHPUT", "LATENCY"}
    assert "NaN" not in json.dumps(measured.data)
    assert len(session.workloads.pods.get_workload_pods(uid).data["pods"]) == 1
    update = models.InferenceUpdateRequest(
        spec=models.InferenceUpdateSpecSpec(autoscaling=models.AutoScaling(maxReplicas=3))
    )
    assert inferences.update_inference_spec(uid, inference_update_request=update).status_code == 202
    assert inferences.get_inference(uid).data["spec"]["autoscaling"]["maxReplicas"] == 3
    assert inferences.delete_inference(uid).status_code == 202
    stage.until("it is gone", lambda: not stage.listed("ksvc"))
    return took


def locate(stage: Stage, project: str, namespace: str, name: str) -> matrix.Place:
    """Return the IDs of a workload, its revision and its pod; the project has other workloads."""
    own = f"--selector=serving.knative.dev/service={name}"
    read = stage.kubectl.get("revisions,pods", "-n", namespace, own)["items"]
    read += [stage.kubectl.get("ksvc", name, "-n", namespace)]
    found = {item["kind"]: item["metadata"] for item in read}
    uid, revision, pod = (found[kind]["uid"] for kind in ("Service", "Revision", "Pod"))
    return matrix.Place(project, namespace, name, uid, revision, found["Pod"]["name"], pod)


def the_matrix(stage: Stage, place: Place, client: httpx.Client, tokens: dict[str, str]) -> int:
    """Request every path as every user about both projects, and return the number of requests."""
    root = {"Authorization": f"Bearer {tokens['root']}"}
    cluster_id = client.get("/api/v1/clusters", headers=root).json()[0]["uuid"]
    places = []
    for (project, namespace), name in zip(place.projects.items(), ("aardvark", "bandicoot"), strict=True):
        spec = {"project": project, "image": image("load"), "servingPort": {"container": 8080}}
        document = {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Inference",
            "metadata": {"name": name},
            "spec": {**spec, "compute": SMALL, "autoscaling": ALONE},
        }
        made = client.post(f"{V1}/apply", json={"spec": json.dumps(document)}, headers=root)
        assert made.status_code == 200, made.text

        def told(where: str = f"{V1}/workloads/{namespace}/{name}") -> Any:
            return client.get(where, headers=root).json()

        stage.until(f"{name} serves", lambda: told().get("phase") == "Running", seen=told)
        places.append(locate(stage, project, namespace, name))
    alpha, beta = places
    asker = matrix.Asker(
        client, tokens, cluster_id, client.get("/api/v1/node-pools", headers=root).json()["nodepools"][0]["name"]
    )
    before = [place.state(each.namespace) for each in places]
    wrong: list[str] = []
    asked = 0
    for method, path in matrix.ROUTES:
        answer = asker.ask(None, method, path, beta)
        asked += 1
        if answer.status_code != 401 and path not in matrix.OPEN:
            wrong.append(f"nobody: {method} {path}: {answer.status_code}")
        for user in ("owner", "reader"):
            answer = asker.ask(user, method, path, beta)
            without = asker.ask(user, method, path, matrix.nowhere(beta))
            asked += 2
            shown = f"{user}: {method} {path}: {answer.status_code}"
            secret = [
                name
                for name in (beta.uid, beta.revision, beta.pod, beta.pod_uid)
                if name not in str(answer.request.url)
            ]
            if any(name in answer.text for name in secret):
                wrong.append(f"{shown} tells of another project")
            about = method != "GET" or ("{" in path and "clusterUuid" not in path)
            if not about and (beta.name in answer.text or beta.namespace in answer.text):
                wrong.append(f"{shown} lists another project")
            same = not about or matrix.said_of(answer.text, beta) == matrix.said_of(without.text, matrix.nowhere(beta))
            if answer.status_code != without.status_code or not same:
                wrong.append(f"{shown} {answer.text[:300]} / {without.status_code} {without.text[:300]}")
        answer = asker.ask("reader", method, path, alpha)
        asked += 1
        last = path.rpartition("/")[2]
        writes = method != "GET" and last not in matrix.PURE | matrix.ASKS and path not in matrix.OPEN
        if answer.status_code >= 500 or (writes and answer.status_code not in {422, *matrix.list_refusals(path)}):
            wrong.append(f"reader writes: {method} {path}: {answer.status_code} {answer.text[:300]}")
        if method == "GET":
            answer = asker.ask("root", method, path, alpha)
            asked += 1
            if answer.status_code not in {200, 207}:
                wrong.append(f"root reads: {path}: {answer.status_code} {answer.text[:300]}")
    assert not wrong, "\n".join(wrong)
    assert [place.state(each.namespace) for each in places] == before
    return asked


def test_the_server_may_write_nothing(stage: Stage) -> None:
    """With its own role alone, the API server forbids everything but reads and reviews."""
    stage.kubectl.run("create", "namespace", stage.namespace)
    stage.kubectl.run("create", "serviceaccount", "ebbtide", "-n", stage.namespace)
    roles = {item["kind"]: item for item in yaml.safe_load_all((KUSTOMIZE / "ebbtide" / "roles.yaml").read_text())}
    role, binding = roles["ClusterRole"], roles["ClusterRoleBinding"]
    for item in (role, binding):
        item["metadata"]["name"] = f"{stage.namespace}-server"
    binding["roleRef"]["name"] = role["metadata"]["name"]
    binding["subjects"][0]["namespace"] = stage.namespace
    stage.apply([role, binding])
    who = f"--as=system:serviceaccount:{stage.namespace}:ebbtide"
    for verb, what, may in (
        ("list", "ksvc", "yes"),
        ("watch", "pods", "yes"),
        ("create", "tokenreviews.authentication.k8s.io", "yes"),
        ("create", "subjectaccessreviews.authorization.k8s.io", "yes"),
        ("get", "secrets", "no"),
        ("get", "pods/log", "no"),
        ("create", "pods/exec", "no"),
        ("patch", "ksvc", "no"),
        ("delete", "pods", "no"),
        ("impersonate", "users", "no"),
        ("create", "serviceaccounts/token", "no"),
    ):
        resource, _, part = what.partition("/")
        options = [f"--subresource={part}"] if part else []
        try:
            said = stage.kubectl.run("auth", "can-i", verb, resource, *options, "-A", who).strip()
        except KubectlError as error:
            said = "no" if "no" in str(error) else str(error)
        assert said.splitlines()[-1].startswith(may), f"{verb} {what}"
