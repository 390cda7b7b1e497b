"""LLMInferenceServices on a cluster: which objects belong to one, its status, and what commands, API and pages say about it.

The objects have the names, labels and conditions that KServe's controller writes (kserve v0.20.0 pkg/controller/v1alpha2/llmisvc, pkg/apis/serving/v1alpha2/llm_inference_service_lifecycle.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import cases
import serving
from ebbtide.cli import main
from ebbtide.cluster.client.protocol import DEPLOYMENT, HPA, LLM, POD, ForbiddenError, MissingError
from ebbtide.cluster.read.inventory import find_workload, list_tops
from ebbtide.cluster.read.served_model import find_served_model
from ebbtide.cluster.read.status import Status, compute_status
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.watch.groups import WorkloadKey
from ebbtide.cluster.write.apply import diff_workload, write_workload
from ebbtide.core.base import keys, names
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.sandbox.backend import PermissionRule
from ebbtide.sandbox.simulated import Simulated
from ebbtide.server.api.access import Caller
from ebbtide.server.web.pages.workload import TABS
from ebbtide.simulator.engine.setting import NotSimulated, from_objects
from live_cluster import PROFILE, connected, simulated, workload
from website import Parsed, Site, backend_of

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Kind, Listing

PLACE = ("qwen", "research")
READY = {"Ready": "True", "PresetsCombined": "True", "WorkloadsReady": "True", "RouterReady": "True"}


def conditions(of: dict[str, str], messages: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"type": kind, "status": status, "reason": "Test", "message": messages.get(kind, "")}
        for kind, status in of.items()
    ]


def running(
    *, ready: int = 2, of: dict[str, str] | None = None, messages: dict[str, str] | None = None, deployed: bool = True
) -> Simulated:
    """Return a cluster with one service of two replicas, and what KServe's controller creates for it."""
    cluster = simulated()
    folder = cases.ROOT / "tests" / "golden" / "llm"
    top = next(obj for obj in cases.make(folder).objects if obj["kind"] == LLM.name)
    status = {"url": "http://gateway.example.com/research/qwen", "conditions": conditions(of or READY, messages or {})}
    cluster.put({**top, "metadata": {**top["metadata"], "namespace": "research"}, "status": status})
    mode = SERVING_MODES["llm"]
    labels = {keys.APP_PART_OF: "llminferenceservice", **mode.label_pods("qwen")}
    if not deployed:
        return cluster
    cluster.put(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": mode.name_pods("qwen"), "namespace": "research", "labels": labels},
            "spec": {"replicas": 2},
            "status": {"replicas": 2, "updatedReplicas": 2, "unavailableReplicas": 2 - ready},
        }
    )
    picker = {**labels, keys.APP_COMPONENT: "llminferenceservice-router-scheduler"}
    pods = [("qwen-kserve-5d4-a", labels, ready > 0), ("qwen-kserve-5d4-b", labels, ready > 1)]
    for name, of_pod, is_ready in (*pods, ("qwen-kserve-router-scheduler-6f-c", picker, True)):
        cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "research", "labels": of_pod},
                "spec": {"nodeName": "one", "containers": [{"name": "main"}]},
                "status": {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
                    "containerStatuses": [{"name": "main", "ready": is_ready, "state": {"running": {}}}],
                },
            }
        )
    return cluster


def status_of(cluster: Simulated) -> Status:
    return compute_status(find_workload(cluster, *PLACE, cluster.clock.now()))


def test_a_service_has_its_own_pods_and_not_those_of_the_endpoint_picker() -> None:
    cluster = running()

    status = status_of(cluster)

    assert (status.phase, status.why, str(status.replicas)) == ("Running", "", "2/2 (2)")
    assert status.kind == LLM.name
    assert status.url == "http://gateway.example.com/research/qwen"
    assert {pod.name for pod in status.pods} == {"qwen-kserve-5d4-a", "qwen-kserve-5d4-b"}
    assert [condition.name for condition in status.conditions] == [*READY]
    assert [top["kind"] for top in list_tops(cluster, "research")] == [LLM.name]


@pytest.mark.parametrize(
    ("settings", "phase", "why"),
    [
        ({"deployed": False, "of": {"Ready": "Unknown"}}, "Creating", "KServe is creating the Deployment"),
        (
            {
                "deployed": False,
                "of": {"Ready": "Unknown", "PresetsCombined": "False"},
                "messages": {"PresetsCombined": 'LLMInferenceServiceConfig "kserve-config-llm-template" not found'},
            },
            "Failed",
            'KServe cannot merge its presets: LLMInferenceServiceConfig "kserve-config-llm-template" not found',
        ),
        ({"of": {**READY, "PresetsCombined": "False"}}, "Degraded", "KServe cannot merge its presets"),
        ({"ready": 0, "of": {"Ready": "False"}}, "Initializing", "starting"),
        (
            {
                "of": {**READY, "Ready": "False", "RouterReady": "False"},
                "messages": {"Ready": "Gateway kserve/kserve-ingress-gateway not found"},
            },
            "Initializing",
            "Gateway kserve/kserve-ingress-gateway not found",
        ),
        ({"ready": 1, "of": READY}, "Running", "1 of 2 replicas ready"),
        # KServe 0.21 could not check the merged object, and the server still serves.
        ({"of": {**READY, "Ready": "Unknown", "PresetsCombined": "Unknown"}}, "Running", ""),
        (
            {"of": {**READY, "Ready": "Unknown", "PresetsCombined": "Unknown", "RouterReady": "False"}},
            "Initializing",
            "",
        ),
    ],
)
def test_the_phase_follows_the_conditions_and_the_deployment(settings: dict[str, Any], phase: str, why: str) -> None:
    status = status_of(running(**settings))

    assert status.phase == phase, status.why
    assert why in status.why


@pytest.mark.parametrize("command", [["list"], ["describe", "qwen"], ["why", "qwen"]])
def test_commands_read_it(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connected(running(), monkeypatch)

    assert main([*command, "-n", "research"]) == 0
    out, err = capsys.readouterr()
    assert "qwen" in out
    assert "Traceback" not in err


def test_a_caller_without_access_to_the_kind_reads_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roles of an older Ebbtide do not name the kind."""
    cluster = running()
    read = Simulated.list

    def forbid(of: Simulated, kind: Kind, namespace: str = "", *, labels: str = "") -> Listing:
        if kind == LLM:
            raise ForbiddenError("llminferenceservices.serving.kserve.io is forbidden")
        return read(of, kind, namespace, labels=labels)

    monkeypatch.setattr(Simulated, "list", forbid)

    assert list_tops(cluster, "research") == []


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["scale", "qwen", "--min", "1"], "an LLMInferenceService, which has no revisions"),
        (["rollback", "qwen"], "an LLMInferenceService, which has no revisions"),
        (["suspend", "qwen"], "it is an LLMInferenceService"),
    ],
)
def test_commands_that_change_a_workload_refuse_it(
    command: list[str], text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connected(running(), monkeypatch)

    assert main([*command, "-n", "research"]) != 0
    assert text in capsys.readouterr().err


DOCUMENT: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "qwen", "namespace": "research"},
    "spec": {
        "serving": "llm",
        "model": {"format": "huggingface", "uri": "hf://Qwen/Qwen2.5-7B-Instruct"},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
    },
}


def test_an_apply_writes_it_and_says_which_changes_replace_the_pods() -> None:
    cluster = simulated()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    write_workload(cluster, diff_workload(cluster, workload(DOCUMENT)), cluster.clock)
    assert cluster.get(LLM, *PLACE)["spec"]["replicas"] == 1
    assert not diff_workload(cluster, workload(DOCUMENT)).different

    def change(**fields: Any) -> tuple[str, bool]:
        spec = {**DOCUMENT["spec"], **fields}
        (step,) = (
            step
            for step in diff_workload(cluster, workload({**DOCUMENT, "spec": spec})).steps
            if step.item["kind"] == LLM.name
        )
        return step.verdict, step.rollout

    assert change(autoscaling={"minReplicas": 3, "maxReplicas": 3}) == ("change", False)
    assert change(servingPort={"clusterLocalAccessOnly": True}) == ("change", False)
    assert change(args=["--max-model-len=4096"]) == ("change", True)
    assert change(model={**DOCUMENT["spec"]["model"], "uri": "hf://Qwen/Qwen2.5-14B-Instruct"}) == ("change", True)


def test_a_workload_of_a_custom_resource_is_refused() -> None:
    """The controller does not watch the kind."""
    owner = {"apiVersion": "ebbtide.dev/v1alpha1", "kind": "Inference", "name": "qwen", "uid": "1"}

    planned = diff_workload(simulated(), workload(DOCUMENT), owner=owner)

    assert planned.refused
    assert "the controller does not apply an LLMInferenceService" in "".join(step.refusal for step in planned.steps)


def edit(cluster: Simulated, kind: Kind, name: str, **parts: dict[str, Any]) -> None:
    """Change parts of an object that its controller has written."""
    live = cluster.get(kind, name, "research")
    cluster.put({**live, **{part: {**live.get(part, {}), **fields} for part, fields in parts.items()}})


def test_an_update_is_not_settled_before_its_pods_serve() -> None:
    """The states that a change of the pods passes, and those of a change of the number of replicas."""
    cluster = running()
    deployment = SERVING_MODES["llm"].name_pods("qwen")
    edit(cluster, LLM, "qwen", metadata={"generation": 2}, status={"observedGeneration": 1})
    status = status_of(cluster)
    assert (status.phase, status.settled, status.why) == ("Updating", False, "KServe has not processed the change yet")

    edit(cluster, LLM, "qwen", status={"observedGeneration": 2})
    edit(cluster, DEPLOYMENT, deployment, metadata={"generation": 2}, status={"observedGeneration": 1})
    status = status_of(cluster)
    assert (status.phase, status.why) == ("Updating", "the Deployment has not processed the change yet")

    # One new pod is not ready yet, next to the two older ones.
    counts = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "unavailableReplicas": 1}
    edit(cluster, DEPLOYMENT, deployment, status=counts)
    assert (status_of(cluster).phase, status_of(cluster).settled) == ("Updating", False)

    pod = cluster.get(POD, "qwen-kserve-5d4-a", "research")
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    broken = {"name": "main", "ready": False, "restartCount": 9, "state": waiting}
    status_of_pod = {"phase": "Running", "conditions": [], "containerStatuses": [broken]}
    cluster.put({**pod, "metadata": {**pod["metadata"], "name": "qwen-kserve-6e5-c"}, "status": status_of_pod})
    assert status_of(cluster).phase == "Degraded"
    cluster.delete(POD, "qwen-kserve-6e5-c", "research")

    edit(cluster, DEPLOYMENT, deployment, status={"replicas": 2, "unavailableReplicas": 0})
    assert status_of(cluster).phase == "Running"


#: The condition of KServe 0.20.0 after a label of the pods had changed, observed on 2026-12-01 and shortened.
IMMUTABLE = (
    "failed to reconcile main workload: failed to get defaults for v1.Deployment research/qwen-kserve: Deployment.apps "
    '"qwen-kserve" is invalid: spec.selector: Invalid value: {"matchLabels":{"team":"x"}}: field is immutable'
)


@pytest.mark.parametrize(("ready", "phase"), [(2, "Degraded"), (0, "Failed")])
def test_a_deployment_that_kserve_cannot_update_is_named_with_the_fix(ready: int, phase: str) -> None:
    cluster = running(ready=ready, of={**READY, "Ready": "False", "WorkloadsReady": "False"})
    row = {"type": "Ready", "status": "False", "reason": "ReconcileSingleNodeWorkloadError", "message": IMMUTABLE}
    edit(cluster, LLM, "qwen", status={"conditions": [row, *conditions(READY, {})[1:]]})

    status = status_of(cluster)

    assert (status.phase, status.settled) == (phase, True)
    assert "kubectl delete deployment qwen-kserve" in status.why


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({"labels": [{"name": "team", "value": "x"}]}, True),
        ({"start": {"modelCache": {"size": "20Gi", "nodeGroups": ["gpus"]}}}, True),
        ({"args": ["--max-model-len=4096"]}, False),
    ],
)
def test_a_plan_says_that_kserve_cannot_update_the_deployment(
    changes: dict[str, Any], *, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = simulated()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    write_workload(cluster, diff_workload(cluster, workload(DOCUMENT)), cluster.clock)
    monkeypatch.setitem(PROFILE["spec"]["kserve"], "localModelNodeGroups", ["gpus"])

    planned = diff_workload(cluster, workload({**DOCUMENT, "spec": {**DOCUMENT["spec"], **changes}}))

    (step,) = [step for step in planned.steps if step.kind == LLM.name]
    assert step.verdict == "change"
    assert any("kubectl delete deployment qwen-kserve -n research" in note for note in step.notes) is noted


def test_a_plan_says_that_the_cache_of_another_service_moves_the_selector(monkeypatch: pytest.MonkeyPatch) -> None:
    """KServe's webhook adds the label of a cache to each service of the namespace with the same model."""
    cluster = simulated()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}})
    write_workload(cluster, diff_workload(cluster, workload(DOCUMENT)), cluster.clock)
    write = Simulated.apply

    def add_label(of: Simulated, obj: dict[str, Any], **options: Any) -> dict[str, Any]:
        labels = {**obj["metadata"].get("labels", {}), "internal.serving.kserve.io/localmodel": "talk-cache-1"}
        cached = {**obj, "metadata": {**obj["metadata"], "labels": labels}} if obj["kind"] == LLM.name else obj
        return write(of, cached, **options)

    monkeypatch.setattr(Simulated, "apply", add_label)

    planned = diff_workload(cluster, workload(DOCUMENT))

    (step,) = [step for step in planned.steps if step.kind == LLM.name]
    assert any("kubectl delete deployment qwen-kserve -n research" in note for note in step.notes), step


def test_a_stopped_service_names_its_annotation() -> None:
    cluster = running(deployed=False)
    edit(cluster, LLM, "qwen", metadata={"annotations": {keys.STOP: "true"}})

    status = status_of(cluster)

    assert (status.phase, keys.STOP in status.why) == ("Stopped", True)


@pytest.mark.parametrize(
    "hpa", ["qwen-autoscaler", "keda-hpa-qwen-autoscaler", "keda-hpa-qwen-kserve-keda", "qwen-kserve-hpa"]
)
def test_the_hpa_is_that_of_ebbtide_or_of_kserves_own_scaling(hpa: str) -> None:
    cluster = running()
    spec = {"minReplicas": 1, "maxReplicas": 5}
    metadata = {"name": hpa, "namespace": "research", "labels": {keys.APP_NAME: "qwen"}}
    cluster.put({"apiVersion": "autoscaling/v2", "kind": HPA.name, "metadata": metadata, "spec": spec})

    live = find_workload(cluster, *PLACE, cluster.clock.now())

    assert [obj["metadata"]["name"] for obj in live.hpas] == [hpa]


def test_a_service_whose_replicas_start_still_serves() -> None:
    """Its Deployment is not available while a replica is missing, which makes KServe's condition false."""
    cluster = running(ready=1, of={**READY, "Ready": "False", "WorkloadsReady": "False"})

    assert (status_of(cluster).phase, status_of(cluster).why) == (
        "Running",
        "1 of 2 replicas ready; the others are starting",
    )


def test_a_service_is_not_running_before_its_condition_holds() -> None:
    """KServe sees that the last replica is ready a moment after the Deployment says it."""
    late = running(of={**READY, "Ready": "False", "WorkloadsReady": "False"})

    assert status_of(late).phase == "Initializing"


def test_it_is_not_simulated() -> None:
    folder = cases.ROOT / "tests" / "golden" / "llm"

    with pytest.raises(NotSimulated, match="endpoint picker"):
        from_objects(cases.make(folder).objects, cases.profile(folder).spec)


@pytest.mark.parametrize(("model", "name"), [({"name": "Qwen/Qwen2.5-7B"}, "Qwen/Qwen2.5-7B"), ({}, "qwen")])
def test_requests_name_the_model_of_the_object(model: dict[str, str], name: str) -> None:
    assert find_served_model({"kind": LLM.name, "metadata": {"name": "qwen"}, "spec": {"model": model}}) == name


@pytest.mark.parametrize(
    ("workload_name", "deployment", "service"),
    [
        ("chat", "chat-kserve", "chat-kserve-workload-svc"),
        # The results of knative.dev/pkg kmeta.ChildName.
        (
            "a" * 57,
            "aaaaaaaaaaaaaaaaaaaaaaaa652b906d60af96844ebd21b674f35e93-kserve",
            "aaaaaaaaaaa652b906d60af96844ebd21b674f35e93-kserve-workload-svc",
        ),
        ("b" * 44, f"{'b' * 44}-kserve", "bbbbbbbbbbbcbe65bb78510cd180fc62d6132681cd8-kserve-workload-svc"),
    ],
)
def test_long_names_are_shortened_as_kserve_does(workload_name: str, deployment: str, service: str) -> None:
    assert names.name_llm_deployment(workload_name) == deployment
    assert names.name_services(workload_name, "llm") == (service,)


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"args": "--served-model-name 'open"}, {"SRV016"}),
        ({"args": ["--chat-template='{a}'"]}, {"SRV203"}),
        # A command of the spec replaces the shell of the preset.
        ({"args": ["--chat-template={a}"], "command": ["vllm", "serve", "/mnt/models"]}, set()),
    ],
)
def test_arguments_are_checked_for_the_shell_of_the_preset(fields: dict[str, Any], codes: set[str]) -> None:
    model = {"format": "huggingface", "uri": "hf://Qwen/Qwen2.5-7B-Instruct"}
    document = {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": "qwen"},
        "spec": {"serving": "llm", "model": model, **fields},
    }
    batch = Batch(profiles.load_built_in("full"))

    problems = batch.add_document(load_document(document, batch.profile))[2]

    assert {problem.code for problem in problems} == codes


# The API and the pages.

PATH = "/api/ebbtide/v1/workloads/research/qwen"
TOP = WorkloadKey(PLACE[1], PLACE[0], LLM.name)


def make_event(about: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about}.1", "namespace": "research"},
        "involvedObject": {"kind": "Pod", "name": about, "namespace": "research"},
        "type": "Normal",
        "reason": "Pulled",
        "message": f"image of {about}",
        "lastTimestamp": "2027-02-28T20:00:00Z",
    }


def test_the_cache_has_the_status_of_a_survey_and_follows_the_pods() -> None:
    cluster = running()
    cluster.put(make_event("qwen-kserve-5d4-a"))
    watch_cache = Cache(cluster, cluster.clock, threads=False)
    watch_cache.start()

    assert watch_cache.statuses.status(TOP, wide=True) == status_of(cluster)
    live = watch_cache.statuses.live(TOP, wide=True)
    assert [pod["metadata"]["name"] for pod in live.pods] == ["qwen-kserve-5d4-a", "qwen-kserve-5d4-b"]
    assert [event["message"] for event in live.events] == ["image of qwen-kserve-5d4-a"]

    number = watch_cache.changes.number()
    cluster.delete(POD, "qwen-kserve-5d4-b", "research")
    assert watch_cache.changes.since(number)[1] == [TOP]
    assert watch_cache.statuses.status(TOP, wide=True).replicas.ready == 1
    cluster.delete(LLM, *PLACE)
    with pytest.raises(MissingError):
        watch_cache.store.find("research", "qwen")


def test_the_api_reads_and_deletes_it_and_refuses_what_commands_refuse() -> None:
    cluster = running()
    cluster.put(make_event("qwen-kserve-5d4-a"))
    cluster.say("research", "qwen-kserve-5d4-a", "main", "loaded")
    _, backend = serving.backend(cluster)
    with serving.served(backend) as client:
        client.headers.update(serving.bearer("root"))
        (row,) = client.get("/api/ebbtide/v1/workloads").json()["workloads"]
        assert (row["name"], row["kind"], row["phase"], row["id"]) == ("qwen", LLM.name, "Running", row["id"])
        described = client.get(PATH).json()
        assert [pod["name"] for pod in described["pods"]] == ["qwen-kserve-5d4-a", "qwen-kserve-5d4-b"]
        assert [condition["name"] for condition in described["conditions"]] == [*READY]
        assert described["spec"]["serving"] == "llm"
        assert client.get(f"{PATH}/why").json()["replicas"]["ready"] == 2
        assert [event["reason"] for event in client.get(PATH).json()["events"]] == ["Pulled"]
        assert client.get(f"{PATH}/logs?pod=qwen-kserve-5d4-a").text == "loaded\n"
        native = client.get(f"/api/v1/workloads/{row['id']}").json()
        assert (native["phase"], native["runningPods"], native["actionsSupport"]["suspend"]) == ("Running", 2, False)
        for action, text in (
            ("scale", "an LLMInferenceService, which has no revisions"),
            ("rollback", "an LLMInferenceService, which has no revisions"),
            ("suspend", "it is an LLMInferenceService"),
            ("resume", "it is an LLMInferenceService"),
        ):
            answer = client.post(f"{PATH}/{action}", json={"minReplicas": 1} if action == "scale" else {})
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:ebbtide:refused")
            assert text in answer.json()["detail"]
        assert client.delete(PATH).json()["done"] == ["deleted LLMInferenceService research/qwen"]
        assert client.get(PATH).status_code == 404


def test_a_caller_without_access_to_the_kind_sees_the_others_of_its_name() -> None:
    """As with the CLI, whose lists leave it out."""
    cluster = running()
    cluster.put(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "qwen", "namespace": "research"},
            "spec": {},
        }
    )
    kay = Caller("kay", token=serving.token("kay"))
    kinds = frozenset({"services", "revisions", "pods", "events", "resourcequotas"})
    rules = (*serving.RULES, PermissionRule("kay", serving.READ, kinds, frozenset({"research"})))
    tokens = {caller.token: caller for caller in (kay, serving.CALLERS["root"])}
    _, backend = serving.backend(cluster, rules=rules, tokens=tokens)
    with serving.served(backend) as client:
        seen = {
            name: (
                [row["kind"] for row in client.get("/api/ebbtide/v1/workloads", headers=headers).json()["workloads"]],
                client.get(PATH, headers=headers).json()["kind"],
            )
            for name, headers in (
                ("kay", {"Authorization": f"Bearer {kay.token}"}),
                ("root", serving.bearer("root")),
            )
        }
    assert seen == {
        "kay": (["Knative Service"], "Knative Service"),
        "root": ([LLM.name, "Knative Service"], LLM.name),
    }


def test_the_pages_show_it() -> None:
    cluster = running()
    with Site(backend_of(cluster, cluster.clock)) as site:
        assert "qwen" in Parsed(site.get("/workloads").text).text
        texts = {tab: Parsed(site.get(f"/workloads/research/qwen/{tab}").text).text for tab in TABS}
        # The conditions have a table only while one of them does not hold.
        assert "the server is ready" not in texts["overview"]
        assert "An LLMInferenceService has no revisions" in texts["revisions"]
        assert "qwen-kserve-5d4-b" in texts["pods"]
        assert "qwen-kserve-router-scheduler" not in texts["pods"]
        assert "it has 2 replicas, whatever the load" in texts["why"]
        # The parser adds spaces around the key, which has a color.
        assert "kind : LLMInferenceService" in texts["yaml"]
        assert '"model": "Qwen/Qwen2.5-7B-Instruct"' in texts["playground"]
        for action, text in (
            ("scale", "which has no revisions"),
            ("rollback", "which has no revisions"),
            ("suspend", "it is an LLMInferenceService"),
        ):
            assert text in Parsed(site.get(f"/workloads/research/qwen/do/{action}").text).text
        page = "/workloads/research/qwen/do/delete"
        answer = site.send(page, {"typed": "qwen"}, form_page=page)
        assert (answer.status_code, answer.headers["location"]) == (303, "/workloads?told=deleted")
        assert site.get("/workloads/research/qwen").status_code == 404
    cluster = running(of={**READY, "Ready": "False", "RouterReady": "False"})
    with Site(backend_of(cluster, cluster.clock)) as site:
        overview = Parsed(site.get("/workloads/research/qwen/overview").text).text
    assert "WorkloadsReady the server is ready" in overview
    assert "RouterReady the route is not ready" in overview
