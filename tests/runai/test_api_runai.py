"""Run:ai's API, with NVIDIA's own client and with requests that this client does not send."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

import serving
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, MissingError
from ebbtide.cluster.write import apply as applying
from ebbtide.cluster.write import removal
from ebbtide.cluster.write.apply import is_top_object
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.documents.profiles import validate_profile_data
from ebbtide.core.readers import shapes
from ebbtide.core.translation import translate
from ebbtide.core.translation.objects import apply_merge_patch
from ebbtide.runai import bodies as runai_bodies
from ebbtide.sandbox.backend import RestrictedCluster
from ebbtide.server.api import writes
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.writes import MAX_UPDATE_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from runai.runai_client import RunaiClient

    from ebbtide.core.readers.loaded import LoadedDocument

#: The quota of a project in a profile.
QUOTA = {"gpus": 4, "cpu": 8, "memory": "64G", "overQuota": False, "overQuotaWeight": 2}
START, END = "2027-01-15T07:00:00Z", "2027-01-15T08:00:00Z"


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Any, Any, httpx.Client]]:
    cluster, backend = serving.inhabited()
    with serving.served(backend) as client:
        yield cluster, backend, client


@cache
def sdk() -> Any:
    """Return NVIDIA's client, which takes seconds to import: only the process that runs these tests needs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runapy's own
        for part in ("api_client", "configuration", "exceptions", "models", "runai_client"):
            import_module(f"runai.{part}")
    return import_module("runai")


def runapy(client: httpx.Client, caller: str = "owner", name: str = serving.ACCOUNT) -> RunaiClient:
    settings = sdk().configuration.Configuration(
        client_id=name,
        client_secret=serving.CALLERS[caller].token,
        runai_base_url=str(client.base_url),
        retry_enabled=False,
    )
    session: RunaiClient = sdk().runai_client.RunaiClient(sdk().api_client.ApiClient(settings))
    return session


def refused(call: Any, *args: Any, **kwargs: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(sdk().exceptions.ApiException) as raised:
        call(*args, **kwargs)
    error: Any = raised.value
    return error.status, error.data


def update_by_dict(inferences: Any, uid: str, clock: Any) -> None:
    """Update one field with a constructor that sends null for each field that is not set, also inside blocks."""
    models = sdk().models
    before = inferences.get_inference(uid).data["spec"]
    sent = models.InferenceUpdateSpecSpec.from_dict({"autoscaling": {"maxReplicas": 4}})
    assert [*sent.to_dict().values()].count(None) == 18

    inferences.update_inference_spec(uid, inference_update_request=models.InferenceUpdateRequest(spec=sent))
    clock.sleep(20)

    changed = {**before, "autoscaling": {**before["autoscaling"], "maxReplicas": 4}}
    assert inferences.get_inference(uid).data["spec"] == changed


def test_runapy_creates_lists_gets_measures_updates_and_deletes(world: Any) -> None:
    cluster, _, client = world
    models = sdk().models
    session = runapy(client)
    project = session.organizations.projects.get_projects(filter_by=["name==alpha"]).data["projects"][0]
    assert (project["id"], project["status"]["namespace"]) == ("alpha", "team-alpha")
    request = models.InferenceCreationRequest(
        name="llm-chat",
        projectId=project["id"],
        clusterId=project["clusterId"],
        spec=models.InferenceSpecSpec(
            image="ghcr.io/acme/chat:1",
            command="serve --port 8080",
            environmentVariables=[models.EnvironmentVariable(name="MODEL", value="llama")],
            autoscaling=models.AutoScaling(
                minReplicas=1, maxReplicas=2, metric="concurrency", metricThreshold=4, initialReplicas=1
            ),
            compute=models.SupersetSpecAllOfCompute(cpuCoreRequest=0.5, cpuMemoryRequest="200M"),
            servingPort=models.ServingPort(container=8080, protocol=models.ServingPortProtocol.HTTP),
        ),
    )
    inferences = session.workloads.inferences
    answer = inferences.create_inference1(inference_creation_request=request)
    assert answer.status_code == 202
    uid = answer.data["workloadId"]
    assert uid == cluster.get(KNATIVE, "llm-chat", "team-alpha")["metadata"]["uid"]
    models.Inference1(**answer.data)

    cluster.clock.sleep(20)
    listed = session.workloads.workloads.get_workloads(
        filter_by=["name==llm-chat", "phase==Running"], sort_by="name", sort_order="desc", limit=10, offset=0
    ).data["workloads"]
    assert [row["id"] for row in listed] == [uid]
    models.Workload(**listed[0])
    assert session.workloads.workloads.count_workloads(search="llm").data == {"count": 1}

    inference = inferences.get_inference(uid).data
    models.Inference1(**inference)
    assert inference["spec"]["autoscaling"]["maxReplicas"] == 2
    assert inference["spec"]["command"] == "serve --port 8080"
    assert inference["actualPhase"] == "Running"

    measured = inferences.get_inference_workload_metrics(
        uid,
        metric_type=[models.InferenceWorkloadMetricType.THROUGHPUT, models.InferenceWorkloadMetricType.LATENCY],
        start=START,
        end=END,
        number_of_samples=5,
    )
    assert measured.status_code == 200
    models.MetricsResponse(**measured.data)
    by_type = {row["type"]: [value["value"] for value in row["values"]] for row in measured.data["measurements"]}
    # Every second mean is unknown, and is omitted instead of NaN.
    assert by_type == {"THROUGHPUT": ["5"] * 5, "LATENCY": ["200"] * 3}

    pods = session.workloads.pods.get_workload_pods(uid).data["pods"]
    assert len(pods) == 1
    models.Pod1(**pods[0])
    rows = session.workloads.revisions.get_inference_workload_revisions(uid).data["revisions"]
    assert [row["name"] for row in rows] == ["llm-chat-00001"]
    models.Revision(**rows[0])

    update = models.InferenceUpdateRequest(
        spec=models.InferenceUpdateSpecSpec(autoscaling=models.AutoScaling(maxReplicas=3), image="ghcr.io/acme/chat:2")
    )
    answer = inferences.update_inference_spec(uid, inference_update_request=update)
    assert answer.status_code == 202
    cluster.clock.sleep(20)
    spec = inferences.get_inference(uid).data["spec"]
    assert (spec["image"], spec["autoscaling"]["maxReplicas"]) == ("ghcr.io/acme/chat:2", 3)
    assert (spec["autoscaling"]["metricThreshold"], spec["servingPort"]["container"]) == (4, 8080)
    assert len(session.workloads.revisions.get_inference_workload_revisions(uid).data["revisions"]) == 2

    update_by_dict(inferences, uid, cluster.clock)

    status, request_spec = refused(inferences.create_inference1, inference_creation_request=request)
    assert (status, request_spec["code"]) == (409, 409)
    assert "llm-chat" in request_spec["message"]

    answer = inferences.delete_inference(uid)
    assert (answer.status_code, answer.data) == (202, {"code": 202, "message": "Request has been accepted."})
    cluster.clock.sleep(20)
    assert refused(inferences.get_inference, uid)[0] == 404
    models.Error(**refused(inferences.get_inference, uid)[1])


def test_runapy_deletes_an_inference_as_a_workload_of_any_type(world: Any) -> None:
    cluster, _, client = world
    models, session = sdk().models, runapy(client)
    workloads = session.workloads
    project = session.organizations.projects.get_projects(filter_by=["name==alpha"]).data["projects"][0]
    request = models.InferenceCreationRequest(
        name="short-lived",
        projectId=project["id"],
        clusterId=project["clusterId"],
        spec=models.InferenceSpecSpec(
            image="ghcr.io/acme/chat:1",
            servingPort=models.ServingPort(container=8080, protocol=models.ServingPortProtocol.HTTP),
        ),
    )
    uid = workloads.inferences.create_inference1(inference_creation_request=request).data["workloadId"]

    assert workloads.workloads_v2.delete_workload_v2(uid).status_code == 202
    cluster.clock.sleep(20)
    assert refused(workloads.inferences.get_inference, uid)[0] == 404


def test_runapy_lists_projects_with_quotas_and_node_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    data = apply_merge_patch(serving.MADE, {"spec": {"projects": {"known": {"alpha": QUOTA}}}})
    pools = [{"name": "l4", "backend": "devices", "selector": {"gpu": "l4"}}, {"name": "any", "backend": "devices"}]
    data["spec"]["nodePools"] = pools
    monkeypatch.setattr(serving, "MADE", data)
    models = sdk().models
    with serving.served(serving.inhabited()[1]) as client:
        session = runapy(client)
        project = session.organizations.projects.get_projects(filter_by=["name==alpha"]).data["projects"][0]
        listed = session.organizations.node_pools.get_nodepools(sort_by="name", sort_order="desc").data["nodepools"]
        count = session.organizations.node_pools.count_nodepools().data
        one = session.organizations.node_pools.get_nodepool("l4").data
        missing = refused(session.organizations.node_pools.get_nodepool, "t4")[0]

    assert project["totalResources"] == {"gpuQuota": 4, "cpuQuota": 8000, "memoryQuota": 64000}
    assert project["resources"] == [{"gpu": {"deserved": 4, "overQuotaWeight": 2, "limit": 4}}]
    assert [(models.Nodepool(**row).name, row["isDefault"]) for row in listed] == [("l4", True), ("any", False)]
    assert (count, one["labelKey"], one["labelValue"], missing) == ({"count": 2}, "gpu", "l4", 404)


def test_the_metrics_of_a_pod_have_no_values(world: Any) -> None:
    """Requests are measured per workload."""
    models, workloads = sdk().models, runapy(world[2]).workloads
    uid = workloads.workloads.get_workloads(search="aardvark").data["workloads"][0]["id"]
    pod = workloads.pods.get_workload_pods(uid).data["pods"][0]["id"]
    named: dict[str, Any] = {"metric_type": [models.InferencePodMetricType.THROUGHPUT], "start": START, "end": END}
    measured = workloads.inferences.get_inference_workload_pod_metrics(uid, pod, **named)

    models.MetricsResponse(**measured.data)
    assert (measured.status_code, measured.data["measurements"][0]["values"]) == (207, [])
    assert refused(workloads.inferences.get_inference_workload_pod_metrics, uid, uid, **named)[0] == 404


def test_a_distributed_inference_is_refused_with_the_reason(world: Any) -> None:
    request = sdk().models.DistributedInferenceCreationRequest(
        name="llm", projectId="alpha", clusterId="71f69d83-ba66-4822-adf5-55ce55efd210", spec=None
    )
    create = runapy(world[2]).workloads.distributed_inferences.create_distributed_inference
    status, error = refused(create, distributed_inference_creation_request=request)

    assert status == 400
    assert "a Knative revision consists of independent pods" in error["message"]
    assert error["details"].startswith("RUN046 spec: ")


def test_the_official_example_is_rejected_with_fields_and_fixes(world: Any) -> None:
    models = sdk().models
    """Its metric is misspelled and its GPU portion is invalid, and the client checks neither."""
    session = runapy(world[2])
    cluster = session.organizations.clusters.get_clusters().data[0]
    models.DisplayedCluster(**cluster)
    request = models.InferenceCreationRequest(
        name="llm-chat",
        projectId="alpha",
        clusterId=cluster["uuid"],
        spec=models.InferenceSpecSpec(
            image="ghcr.io/acme/chat:1",
            autoscaling=models.AutoScaling(maxReplicas=2, minReplicas=1, metric="troughput", metricThreshold=100),
            compute=models.SupersetSpecAllOfCompute(gpuDevicesRequest=1, gpuPortionRequest=4, gpuRequestType="portion"),
            servingPort=models.ServingPort(container=3000),
        ),
    )
    status, error = refused(session.workloads.inferences.create_inference1, inference_creation_request=request)
    assert status == 400
    assert "gpuPortionRequest" in error["message"]
    assert "throughput" in error["details"]


@pytest.mark.parametrize("name", ["team-alpha/robot", "team-alpha:robot", serving.ACCOUNT])
@pytest.mark.parametrize(
    "form",
    [
        {"grantType": "app_token", "AppId": "{name}", "AppSecret": "{secret}"},
        {"grantType": "app_token", "appID": "{name}", "appSecret": "{secret}"},
        {"grantType": "client_credentials", "clientId": "{name}", "clientSecret": "{secret}"},
        {"grantType": "client_credentials", "clientID": "{name}", "clientSecret": "{secret}"},
    ],
)
def test_a_service_account_gets_its_own_token(world: Any, name: str, form: dict[str, str]) -> None:
    secret = serving.CALLERS["owner"].token
    sent = {key: value.format(name=name, secret=secret) for key, value in form.items()}
    answer = world[2].post("/api/v1/token", json=sent)
    assert answer.status_code == 200
    assert answer.json()["accessToken"] == secret
    assert answer.json()["expiresIn"] > 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"grantType": "app_token", "AppId": "team-alpha/other", "AppSecret": "{owner}"}, 401),
        ({"grantType": "app_token", "AppId": "team-alpha/robot", "AppSecret": "made-up"}, 401),
        ({"grantType": "password", "username": "a", "password": "hunter2"}, 400),
        ({"grantType": "app_token", "AppId": "team-alpha/robot"}, 400),
        ({"grantType": "app_token", "AppId": "team-alpha/robot", "AppSecret": ["hunter2"]}, 400),
    ],
)
def test_a_rejected_token_request_states_the_reason_and_no_secret(
    world: Any, sent: dict[str, Any], status: int
) -> None:
    secret = serving.CALLERS["owner"].token
    sent = json.loads(json.dumps(sent).replace("{owner}", secret))
    answer = world[2].post("/api/v1/token", json=sent)
    assert answer.status_code == status
    assert answer.json()["code"] == status
    assert secret not in answer.text
    assert "hunter2" not in answer.text


def test_ids_come_from_the_profile_or_are_derived_from_its_name() -> None:
    profile, _ = validate_profile_data(serving.MADE)
    assert profile is not None
    assert runai_bodies.cluster_id(profile) == runai_bodies.cluster_id(profile)
    data = json.loads(json.dumps(serving.MADE))
    data["spec"]["clusterId"] = "71f69d83-ba66-4822-adf5-55ce55efd210"
    data["spec"]["projects"]["known"] = {"alpha": {"id": "4500001"}}
    named, problems = validate_profile_data(data)
    assert named is not None, problems
    assert runai_bodies.cluster_id(named) == "71f69d83-ba66-4822-adf5-55ce55efd210"
    assert (runai_bodies.project_id(named, "alpha"), runai_bodies.project_id(named, "beta")) == ("4500001", "beta")
    other = json.loads(json.dumps(serving.MADE))
    other["metadata"]["name"] = "other"
    another, _ = validate_profile_data(other)
    assert another is not None
    assert runai_bodies.cluster_id(another) != runai_bodies.cluster_id(profile)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["aardvark", "bandicoot"]),
        ("?sortBy=name&sortOrder=desc", ["bandicoot", "aardvark"]),
        ("?sortBy=createdAt", ["aardvark", "bandicoot"]),
        ("?limit=1", ["aardvark"]),
        ("?limit=1&offset=1", ["bandicoot"]),
        ("?offset=7", []),
        ("?deleted=true", []),
        ("?deleted=true&filterBy=nonsense", []),
        ("?search=BAND", ["bandicoot"]),
        ("?search=alpha", ["aardvark"]),
        ("?filterBy=name!=aardvark", ["bandicoot"]),
        ("?filterBy=projectName=^al", ["aardvark"]),
        ("?filterBy=name=$coot,phase==Running", ["bandicoot"]),
        ("?filterBy=name=@a,name!@coot", ["aardvark"]),
        ("?filterBy=createdAt>=2027-01-15T08:00:10Z", ["bandicoot"]),
        ("?filterBy=createdAt<=2027-01-15T08:00:10Z", ["aardvark"]),
        ("?filterBy=type==Training", []),
    ],
)
def test_the_list_is_filtered_sorted_and_paged(world: Any, query: str, names: list[str]) -> None:
    answer = world[2].get(f"/api/v1/workloads{query}", headers=serving.bearer("root"))
    assert answer.status_code == 200
    assert [row["name"] for row in answer.json()["workloads"]] == names
    assert ("next" in answer.json()) == (query == "?limit=1")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?filterBy=name", "invalid condition"),
        ("?filterBy=submittedBy==jane", "control plane"),
        ("?filterBy=nonsense==1", "unknown field"),
        ("?sortBy=nonsense", "unknown field"),
        ("?sortOrder=up", "invalid sort order"),
        ("?limit=0", "greater than or equal to 1"),
        ("?limit=501", "less than or equal to 500"),
        ("?offset=-1", "greater than or equal to 0"),
        ("?filterBy=createdAt>=yesterday", "invalid time"),
    ],
)
def test_an_unsupported_list_query_is_a_400_with_a_message(world: Any, query: str, words: str) -> None:
    answer = world[2].get(f"/api/v1/workloads{query}", headers=serving.bearer("root"))
    assert answer.status_code == 400
    assert answer.json()["code"] == 400
    assert words in answer.json()["message"]


def test_unmeasured_metrics_are_empty_and_the_status_is_207(world: Any) -> None:
    _, backend, client = world
    uid = backend.reads.workload_id_of(backend.reads.workloads(serving.CALLERS["root"], "team-alpha").value[0])
    query = {"start": START, "end": END, "numberOfSamples": 3}
    path = f"/api/v1/workloads/{uid}/metrics"
    answer = client.get(path, params={**query, "metricType": "LATENCY_P95,REPLICAS"}, headers=serving.bearer("root"))
    assert answer.status_code == 200
    assert [row["values"][0]["value"] for row in answer.json()["measurements"]] == ["400", "2"]
    answer = client.get(
        path, params={**query, "metricType": "RUNNING_POD_COUNT,GPU_ALLOCATION"}, headers=serving.bearer("root")
    )
    assert answer.status_code == 207
    assert [bool(row["values"]) for row in answer.json()["measurements"]] == [True, False]
    for wrong in (
        {"metricType": "NONSENSE"},
        {"metricType": "LATENCY", "start": END, "end": START},
        {"metricType": ""},
    ):
        assert client.get(path, params={**query, **wrong}, headers=serving.bearer("root")).status_code == 400


def test_an_update_changes_only_changeable_fields(world: Any) -> None:
    _, backend, client = world
    uid = backend.reads.workload_id_of(backend.reads.workloads(serving.CALLERS["root"], "team-alpha").value[0])
    path = f"/api/v1/workloads/inferences/{uid}"
    answer = client.patch(path, json={"spec": {"storage": {}}}, headers=serving.bearer("owner"))
    assert answer.status_code == 400
    assert "storage" in answer.json()["message"]
    answer = client.patch(
        path, json={"spec": {"autoscaling": {"maxReplicas": "many"}}}, headers=serving.bearer("owner")
    )
    assert answer.status_code == 400
    assert "maxReplicas" in answer.json()["message"]


INFERENCES = "/api/v1/workloads/inferences"


def counted(patched: pytest.MonkeyPatch, counts: Counter[str], function: Any) -> None:
    """Count the calls of a function, under every name that a module imports it as."""

    def counting(*args: Any, **kwargs: Any) -> Any:
        counts[function.__name__] += 1
        return function(*args, **kwargs)

    for module in [loaded_module for name, loaded_module in sys.modules.items() if name.startswith("ebbtide")]:
        for name in [name for name, value in vars(module).items() if value is function]:
            patched.setattr(module, name, counting)


@pytest.mark.parametrize("path", [INFERENCES, "/api/ebbtide/v1/apply"])
def test_a_post_is_validated_once_and_translated_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, backend = serving.inhabited()
    counts: Counter[str] = Counter()
    with serving.served(backend) as client:
        sent = serving.body("heron", "alpha", runai_bodies.cluster_id(backend.profile))
        if path != INFERENCES:
            sent = {"spec": serving.document("heron")}
        for function in (
            translate.translate,
            translate.complete_plan,
            shapes.validate_inference,
            manifests.read_documents,
        ):
            counted(monkeypatch, counts, function)
        answer = client.post(path, json=sent, headers=serving.bearer("owner"))

    assert answer.status_code in {200, 202}, answer.text
    assert counts == {
        "translate": 1,
        "complete_plan": 1,
        "validate_inference": 1,
        **({} if path == INFERENCES else {"read_documents": 1}),
    }


def test_the_response_to_a_post_has_the_spec_as_stored(world: Any) -> None:
    _, backend, client = world
    sent = serving.body("egret", "alpha", runai_bodies.cluster_id(backend.profile), description=None)
    created = client.post(INFERENCES, json=sent, headers=serving.bearer("owner"))
    read = client.get(f"{INFERENCES}/{created.json()['workloadId']}", headers=serving.bearer("owner"))

    assert created.status_code == 202, created.text
    assert json.dumps(created.json()["spec"]) == json.dumps(read.json()["spec"])
    client.delete(f"{INFERENCES}/{created.json()['workloadId']}", headers=serving.bearer("owner"))


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "x"


@pytest.mark.parametrize(
    ("workdir", "words"),
    [
        ("\ud800", "half of a surrogate pair"),
        (float("nan"), "not a finite number"),
        (10**30, "is too large: it must fit into 64 bits"),
        (nested(70), "levels of mappings and lists"),
    ],
)
def test_a_body_is_limited_like_a_text(world: Any, workdir: Any, words: str) -> None:
    _, backend, client = world
    sent = serving.body("egret", "alpha", runai_bodies.cluster_id(backend.profile), workingDir=workdir)
    headers = {**serving.bearer("owner"), "Content-Type": "application/json"}
    answer = client.post(INFERENCES, content=json.dumps(sent), headers=headers)

    assert answer.status_code == 400, answer.text
    assert words in answer.json()["message"]


applied, carried_out = RestrictedCluster.apply, applying.write_workload


def envs(cluster: Any, name: str, namespace: str = "team-beta") -> dict[str, str]:
    rows = cluster.get(KNATIVE, name, namespace)["spec"]["template"]["spec"]["containers"][0].get("env", [])
    return {row["name"]: row["value"] for row in rows}


def get_max_scale(cluster: Any, name: str, namespace: str = "team-beta") -> str:
    max_scale: str = cluster.get(KNATIVE, name, namespace)["spec"]["template"]["metadata"]["annotations"][
        keys.MAX_SCALE
    ]
    return max_scale


def test_of_two_concurrent_updates_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, backend = serving.inhabited()
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]
    once: list[Any] = []

    def late(guarded: RestrictedCluster, item: Any, **named: Any) -> Any:
        # The second update runs completely between the read and the write of the first.
        if is_top_object(item) and not named.get("dry_run") and not once:
            once.append(item)
            sent = {"spec": {"autoscaling": {"maxReplicas": 7}}}
            assert client.patch(f"{INFERENCES}/{uid}", json=sent, headers=serving.bearer("root")).status_code == 202
        return applied(guarded, item, **named)

    monkeypatch.setattr(RestrictedCluster, "apply", late)
    with serving.served(backend) as client:
        sent = {"spec": {"environmentVariables": [{"name": "K", "value": "1"}]}}
        answer = client.patch(f"{INFERENCES}/{uid}", json=sent, headers=serving.bearer("root"))

    assert (answer.status_code, once != []) == (202, True)
    assert envs(cluster, "bandicoot") == {"K": "1"}
    assert get_max_scale(cluster, "bandicoot") == "7"
    assert answer.json()["spec"]["autoscaling"]["maxReplicas"] == 7


def test_of_many_concurrent_updates_none_is_lost() -> None:
    cluster, backend = serving.inhabited()
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]
    sent: list[dict[str, Any]] = [
        {"environmentVariables": [{"name": "K", "value": "1"}]},
        {"autoscaling": {"maxReplicas": 7}},
        {"servingConfiguration": {"requestTimeoutSeconds": 77}},
    ]
    with serving.served(backend) as client, ThreadPoolExecutor(3) as threads:
        answers = threads.map(
            lambda spec: client.patch(f"{INFERENCES}/{uid}", json={"spec": spec}, headers=serving.bearer("root")), sent
        )
        assert [answer.status_code for answer in answers] == [202, 202, 202]

    assert envs(cluster, "bandicoot") == {"K": "1"}
    assert get_max_scale(cluster, "bandicoot") == "7"
    assert cluster.get(KNATIVE, "bandicoot", "team-beta")["spec"]["template"]["spec"]["timeoutSeconds"] == 77


def test_an_update_that_needs_another_kind_is_rejected() -> None:
    cluster, backend = serving.inhabited()
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]
    requested: list[Any] = []

    def edit(top: Any) -> LoadedDocument:
        requested.append(top)
        return backend.specs.documents(serving.document("bandicoot", "beta", serving="kserve"))[0]

    with pytest.raises(InputError) as caught:
        backend.writes.update(serving.CALLERS["root"], uid, edit)

    (problem,) = [problem for problem in caught.value.problems if problem.severity == "error"]
    assert problem.message == "the changed spec needs kind InferenceService, and the workload is of kind Service"
    assert len(requested) == 1
    assert cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"] == uid
    with pytest.raises(MissingError):
        cluster.get(KSERVE, "bandicoot", "team-beta")


def test_an_update_reads_the_cluster_and_not_the_cache() -> None:
    cluster, backend = serving.inhabited()
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]
    with serving.served(backend) as client:
        # From here on, the cache receives no changes of the cluster.
        backend.cache.changes.take_changes = lambda: None
        newer = serving.document("bandicoot", "beta", image="ghcr.io/team-beta/bandicoot:2")
        backend.writes.submit(serving.CALLERS["root"], backend.specs.documents(newer))
        sent = {"spec": {"autoscaling": {"maxReplicas": 7}}}
        answer = client.patch(f"{INFERENCES}/{uid}", json=sent, headers=serving.bearer("root"))

    assert answer.status_code == 202
    assert cluster.get(KNATIVE, "bandicoot", "team-beta")["spec"]["template"]["spec"]["containers"][0][
        "image"
    ].endswith(":2")


@pytest.mark.parametrize("before", [False, True])
def test_an_update_that_is_overtaken_in_every_attempt_is_a_conflict(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, backend = serving.inhabited()
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]
    count = itertools.count()

    def late(guarded: RestrictedCluster, item: Any, **named: Any) -> Any:
        if is_top_object(item) and not named.get("dry_run") and not named.get("force"):
            noted = {"metadata": {"annotations": {"acme.example/count": str(next(count))}}}
            cluster.patch(KNATIVE, "bandicoot", "team-beta", noted)
        return applied(guarded, item, **named)

    def first(target: Any, item: Any, *args: Any, **kwargs: Any) -> Any:
        # Reports a write that precedes the workload's main object.
        kwargs["done"](item.steps[0])
        return carried_out(target, item, *args, **kwargs)

    monkeypatch.setattr(RestrictedCluster, "apply", late)
    if before:
        monkeypatch.setattr(applying, "write_workload", first)
    with serving.served(backend) as client:
        sent = {"spec": {"autoscaling": {"maxReplicas": 7}}}
        answer = client.patch(f"{INFERENCES}/{uid}", json=sent, headers=serving.bearer("root"))

    assert answer.status_code == 409
    assert "has been modified" in answer.json()["message"]
    assert next(count) == MAX_UPDATE_ATTEMPTS


def test_an_update_of_a_deleted_workload_recreates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, backend = serving.inhabited()
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]

    def late(guarded: RestrictedCluster, item: Any, **named: Any) -> Any:
        if is_top_object(item) and not named.get("dry_run"):
            cluster.delete(KNATIVE, "bandicoot", "team-beta")
        return applied(guarded, item, **named)

    monkeypatch.setattr(RestrictedCluster, "apply", late)
    with serving.served(backend) as client:
        sent = {"spec": {"autoscaling": {"maxReplicas": 7}}}
        answer = client.patch(f"{INFERENCES}/{uid}", json=sent, headers=serving.bearer("root"))

    assert answer.status_code == 404
    with pytest.raises(MissingError):
        cluster.get(KNATIVE, "bandicoot", "team-beta")


def test_an_update_ends_a_rollback_and_retries_on_its_own_write() -> None:
    cluster, backend = serving.inhabited()
    root = serving.CALLERS["root"]
    backend.writes.submit(root, backend.specs.documents(serving.document("caracal", "beta", serving="kserve")))
    cluster.clock.sleep(30)
    pinned = cluster.patch(KSERVE, "caracal", "team-beta", {"spec": {"predictor": {"canaryTrafficPercent": 0}}})

    def edit(_: Any) -> LoadedDocument:
        newer = serving.document("caracal", "beta", serving="kserve", image="ghcr.io/team-beta/caracal:3")
        return backend.specs.documents(newer)[0]

    backend.writes.update(root, pinned["metadata"]["uid"], edit)

    predictor = cluster.get(KSERVE, "caracal", "team-beta")["spec"]["predictor"]
    assert "canaryTrafficPercent" not in predictor
    assert json.dumps(predictor).count("caracal:3") == 1


def twins() -> tuple[Any, Any, str, str]:
    """Return a cluster and a backend with a Knative Service and an InferenceService of the same name, and their UIDs."""
    cluster, backend = serving.inhabited()
    predictor = {"minReplicas": 1, "containers": [{"name": "kserve-container", "image": "x:1"}]}
    cluster.apply(
        {
            "apiVersion": KSERVE.api_version,
            "kind": KSERVE.name,
            "metadata": {"name": "bandicoot", "namespace": "team-beta"},
            "spec": {"predictor": predictor},
        }
    )
    cluster.clock.sleep(20)
    knative, kserve = (cluster.get(kind, "bandicoot", "team-beta")["metadata"]["uid"] for kind in (KNATIVE, KSERVE))
    return cluster, backend, knative, kserve


def test_a_deletion_by_id_keeps_another_object_of_the_same_name() -> None:
    cluster, backend, knative, kserve = twins()
    with serving.served(backend) as client:
        assert client.delete(f"{INFERENCES}/{knative}", headers=serving.bearer("root")).status_code == 202
        assert client.delete(f"{INFERENCES}/{knative}", headers=serving.bearer("root")).status_code == 404

        assert cluster.get(KSERVE, "bandicoot", "team-beta")["metadata"]["uid"] == kserve
        with pytest.raises(MissingError):
            cluster.get(KNATIVE, "bandicoot", "team-beta")
        assert client.delete(f"{INFERENCES}/{kserve}", headers=serving.bearer("root")).status_code == 202
    with pytest.raises(MissingError):
        cluster.get(KSERVE, "bandicoot", "team-beta")


@pytest.mark.parametrize("planned", [False, True])
def test_a_recreated_object_of_the_same_name_is_not_deleted(planned: bool) -> None:
    cluster, backend = serving.inhabited()
    before = cluster.get(KNATIVE, "bandicoot", "team-beta")
    anew = {part: before["metadata"][part] for part in ("name", "namespace", "labels", "annotations")}

    def replaced() -> None:
        cluster.delete(KNATIVE, "bandicoot", "team-beta")
        cluster.apply({**before, "metadata": anew})

    real = removal.plan_removal

    def late(*args: Any, **kwargs: Any) -> Any:
        if planned:
            made_of = real(*args, **kwargs)
            replaced()
            return made_of
        replaced()
        return real(*args, **kwargs)

    with serving.served(backend) as client, pytest.MonkeyPatch.context() as patched:
        patched.setattr(writes, "plan_removal", late)
        answer = client.delete(f"{INFERENCES}/{before['metadata']['uid']}", headers=serving.bearer("root"))

    assert answer.status_code == (202 if planned else 404)
    assert cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_read_by_id_returns_only_that_object() -> None:
    cluster, backend, knative, kserve = twins()
    cluster.patch(KSERVE, "bandicoot", "team-beta", {"metadata": {"annotations": {keys.STOP: "true"}}})
    cluster.clock.sleep(60)
    with serving.served(backend) as client:
        headers = serving.bearer("root")
        phases = [client.get(f"{INFERENCES}/{uid}", headers=headers).json()["actualPhase"] for uid in (knative, kserve)]
        rows = [client.get(f"/api/v1/workloads/{uid}", headers=headers).json() for uid in (knative, kserve)]
        pods = client.get("/api/v1/workloads/pods?limit=50", headers=headers).json()["pods"]

    assert phases == ["Running", "Stopped"]
    assert [(row["id"], row["phase"]) for row in rows] == [(knative, "Running"), (kserve, "Stopped")]
    assert {pod["workloadId"] for pod in pods if pod["workloadName"] == "bandicoot"} == {knative}


def test_an_object_recreated_during_a_read_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, backend = serving.inhabited()
    root = serving.CALLERS["root"]
    uid = cluster.get(KNATIVE, "bandicoot", "team-beta")["metadata"]["uid"]
    by_id = backend.cache.store.by_id
    place = by_id(uid)
    cluster.delete(KNATIVE, "bandicoot", "team-beta")
    backend.writes.submit(root, backend.specs.documents(serving.document("bandicoot", "beta")))
    monkeypatch.setattr(backend.cache.store, "by_id", lambda _: place)

    for read in (backend.reads.by_id, backend.reads.status_by_id):
        with pytest.raises(MissingError, match=uid):
            read(root, uid)
    with pytest.raises(MissingError, match=uid):
        backend.writes.update(root, uid, lambda _: backend.specs.documents("")[0])


def test_all_pods_are_listed_although_a_workload_is_deleted_during_the_read() -> None:
    cluster, backend = serving.inhabited()
    real = backend.reads.by_id

    def racy(caller: Any, uid: str) -> Any:
        cluster.delete(KNATIVE, "bandicoot", "team-beta")
        return real(caller, uid)

    backend.reads.by_id = racy  # type: ignore[method-assign] # deletes it during the read
    with serving.served(backend) as client:
        answer = client.get("/api/v1/workloads/pods", headers=serving.bearer("root"))

    assert answer.status_code == 200
    assert {pod["workloadName"] for pod in answer.json()["pods"]} == {"aardvark"}


def test_a_request_for_another_cluster_is_rejected(world: Any) -> None:
    sent = serving.body("stray", "alpha", "71f69d83-ba66-4822-adf5-55ce55efd210")
    answer = world[2].post("/api/v1/workloads/inferences", json=sent, headers=serving.bearer("owner"))
    assert answer.status_code == 400
    assert "clusterId does not match" in answer.json()["message"]
