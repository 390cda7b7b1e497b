"""Custom resources: their definitions, and the controller that renders, applies and reports them."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml

import cases
from e2e.health import CHECKS, argo_health, flux_health
from ebbtide.cluster.client import protocol as kube
from ebbtide.cluster.controller import inferences, process
from ebbtide.cluster.controller.conditions import make_status
from ebbtide.cluster.controller.inferences import Inferences, name_account
from ebbtide.cluster.controller.resources import make_document, render_resource
from ebbtide.cluster.read.phases import Phase
from ebbtide.cluster.read.pods import is_ready
from ebbtide.cluster.watch.cache import Cache
from ebbtide.cluster.write.apply import Workload, diff_workload, is_top_object
from ebbtide.cluster.write.projects import MEMBER_ROLE
from ebbtide.cluster.write.removal import plan_removal
from ebbtide.cluster.write.revisions import pin_revision
from ebbtide.core import manifests
from ebbtide.core.base import keys, names
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import profiles
from ebbtide.core.documents.check import Batch
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.translation.objects import prune_nulls, with_values
from ebbtide.core.translation.project import with_default_namespace
from ebbtide.sandbox.backend import PermissionRule, RestrictedCluster, SimulatedReviewer
from ebbtide.sandbox.clocks import ManualClock
from ebbtide.sandbox.simulated import Simulated
from ebbtide.server.api.access import AccessCache, Caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Judge
    from ebbtide.core.translation.objects import Object

ROOT = Path(__file__).parents[2]
FILE = ROOT / "kustomize" / "crd" / "inferences.yaml"
PROFILE, _ = profiles.validate_profile_data(
    {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Profile",
        "metadata": {"name": "crd"},
        "spec": {"projects": {"manage": False}, "knative": FULL["spec"]["knative"]},
    }
)
assert PROFILE is not None
PLACE = ("team-a", "chat")
BUDGET = kube.KINDS["policy/v1", "PodDisruptionBudget"]
CLAIM = kube.KINDS["v1", "PersistentVolumeClaim"]


# The definitions.


def definition() -> Object:
    data: Object = yaml.safe_load(FILE.read_text())
    return data


@pytest.fixture(scope="module")
def registered(kserve_judge: Judge) -> Judge:
    answer = kserve_judge.ask("crd", crds=[definition()])
    assert answer.get("registered") == 1, answer
    return kserve_judge


def resources() -> Iterator[tuple[str, Object]]:
    """Yield each document of the golden cases that is a custom resource, valid or not; one of those with equal specs."""
    seen: set[str] = set()
    for folder in cases.FOLDERS:
        file = cases.spec_file(folder)
        for number, document in enumerate(manifests.read_documents(file.read_bytes(), file.name)):
            data = document.data
            if not document.problems and isinstance(data, dict) and data.get("kind") == "Inference":
                # One case has a thousand documents, which differ in their names.
                spec = f"{folder.name} {data['kind']} {json.dumps(data.get('spec'))}"
                if spec in seen:
                    continue
                seen.add(spec)
                name = f"{folder.name}-{number}"
                head = data["metadata"] if isinstance(data.get("metadata"), dict) else {}
                yield name, {**data, "metadata": {"name": "chat", **head, "namespace": "team-a"}}


@pytest.fixture(scope="module")
def valid() -> set[str]:
    """Return the names of the resources whose specs are valid: a worker that only imports this file renders no case."""
    return {
        f"{folder.name}-{number}"
        for folder in cases.RENDERED
        for number, document in enumerate(cases.make(folder).documents)
        if document.inference is not None
    }


@pytest.mark.parametrize(("name", "resource"), [pytest.param(*row, id=row[0]) for row in resources()])
def test_the_api_server_changes_nothing_that_the_reader_sees(
    registered: Judge, valid: set[str], name: str, resource: Object
) -> None:
    answer = registered.ask("crd", object=json.loads(json.dumps(resource)))

    if name in valid:
        assert answer["ok"], answer
    # A version that the definition does not have is an error of another kind.
    if answer.get("ok"):
        stored = answer["object"]
        assert stored["spec"] == resource["spec"]
        assert make_document(stored) == make_document(resource)


def test_an_unknown_field_reaches_the_reader(registered: Judge) -> None:
    resource = inference(autoscalling={"minReplicas": 0})
    answer = registered.ask("crd", object=resource)

    assert answer["ok"], answer
    assert answer["object"]["spec"] == resource["spec"]


def test_a_new_resource_has_a_status_that_is_not_ready(registered: Judge) -> None:
    new = registered.ask("crd", object=inference())["object"]

    assert (argo_health(new), flux_health(new)) == ("Progressing", "InProgress")


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"autoscaling": {"minReplicas": "many"}}, True),
        ({"disruptionBudget": {"minAvailable": "x"}}, True),
        ({"disruptionBudget": {"minAvailable": -1}}, True),
        ({"disruptionBudget": {"minAvailable": "50%"}}, False),
        ({"compute": {"cpuMemoryRequest": "much"}}, True),
        # A structural schema cannot express a text or a list of texts: docs/gitops.md.
        ({"args": [1]}, False),
        ({"command": {"run": True}}, False),
    ],
)
def test_a_wrong_value_is_refused_by_the_api_server(registered: Judge, fields: Object, *, refused: bool) -> None:
    assert registered.ask("crd", object=inference(**fields))["ok"] is not refused


def test_kubectl_can_apply_the_definitions() -> None:
    """A client-side apply stores the object in an annotation, and annotations are limited to 256 KiB."""
    assert len(json.dumps(definition())) < 250_000


def test_columns_exist_in_the_status() -> None:
    (version,) = definition()["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    for column in version["additionalPrinterColumns"]:
        head, _, field = column["jsonPath"].lstrip(".").partition(".")
        assert head != "status" or field in status


def roles() -> list[Object]:
    files = ("controller/roles.yaml", "crd/roles.yaml", "crd-project/account.yaml")
    return [item for file in files for item in yaml.safe_load_all((ROOT / "kustomize" / file).read_text())]


def test_the_controller_may_read_what_it_watches_and_write_only_statuses() -> None:
    rules = [rule for item in roles() if item["kind"] == "ClusterRole" for rule in item["rules"]]
    for kind in (*process.KINDS, *process.RESOURCE_KINDS):
        group = kind.api_version.rpartition("/")[0]
        verbs = [
            set(rule["verbs"]) for rule in rules if group in rule["apiGroups"] and kind.plural in rule["resources"]
        ]
        assert any(row >= {"get", "list", "watch"} for row in verbs), kind
    own = [
        rule for item in roles() if item["metadata"]["name"] == "ebbtide-inferences" for rule in item.get("rules", ())
    ]
    assert [rule["resources"] for rule in own if "patch" in rule["verbs"]] == [["inferences/status"]]


def test_the_account_is_the_one_that_the_controller_may_act_as() -> None:
    by_name = {(item["kind"], item["metadata"]["name"]): item for item in roles()}
    (rule,) = by_name["ClusterRole", "ebbtide-impersonator"]["rules"]
    assert rule["resourceNames"] == [names.PROJECT_ACCOUNT]
    assert ("ServiceAccount", names.PROJECT_ACCOUNT) in by_name
    assert by_name["RoleBinding", "ebbtide-impersonation"]["roleRef"]["name"] == "ebbtide-impersonator"
    assert by_name["RoleBinding", "ebbtide"]["roleRef"]["name"] == MEMBER_ROLE


# Rendering.


@pytest.mark.parametrize("folder", cases.RENDERED, ids=lambda folder: folder.name)
def test_a_resource_renders_the_same_bytes_as_its_file(folder: Path) -> None:
    file = cases.spec_file(folder)
    read = [document.data for document in manifests.read_documents(file.read_bytes(), file.name)]
    # Run:ai's API answers a list of workloads in one document.
    documents = [row for data in read for row in (data if isinstance(data, list) else [data])]
    loaded = cases.make(folder).documents
    for data, document in zip(documents, loaded, strict=True):
        if document.inference is None or data.get("kind") != "Inference":
            continue
        placed = with_default_namespace(cases.profile(folder), "team-a")
        objects, translation, _ = Batch(placed).add_document(document)
        if translation is None or translation.plan is None or not objects:
            continue
        # The API server stores it with these additions.
        metadata = {**data["metadata"], "namespace": translation.plan.namespace, "uid": "1", "generation": 3}
        rendered = render_resource(
            {**data, "metadata": metadata, "status": {"phase": "Running"}}, cases.profile(folder)
        )
        assert rendered.workload is not None, rendered.problems
        assert list(manifests.write_documents(rendered.workload.objects)) == list(manifests.write_documents(objects))


def test_marks_of_tools_are_not_rendered() -> None:
    resource = inference(image="registry.test/chat:1")
    resource["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "x", "mine/kept": "yes"}
    resource["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "x"}

    assert make_document(resource)["metadata"] == {
        "name": "chat",
        "namespace": "team-a",
        "annotations": {"mine/kept": "yes"},
    }


def test_a_spec_of_another_namespace_is_refused() -> None:
    assert PROFILE is not None
    rendered = render_resource(inference(image="registry.test/chat:1", project="b"), PROFILE)

    assert rendered.workload is None
    assert [(problem.code, problem.path) for problem in rendered.problems] == [("RES061", "spec.project")]


# The controller.


def inference(**spec: Any) -> Object:
    return {
        "apiVersion": kube.INFERENCE.api_version,
        "kind": "Inference",
        "metadata": {"name": "chat", "namespace": "team-a"},
        "spec": spec,
    }


SPEC: dict[str, Any] = {
    "image": "registry.test/chat:1",
    "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "metric": "concurrency", "metricThreshold": 4},
}


class Stage:
    """A simulated cluster with a controller."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cluster = Simulated(self.clock)
        self.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}})
        self.leads = True
        self.restart()

    def restart(self) -> None:
        """Start another controller, which knows nothing."""
        kinds = (*process.KINDS, *process.RESOURCE_KINDS)
        cache = Cache(self.cluster, self.clock, threads=False, kinds=kinds)
        cache.start()
        assert PROFILE is not None
        self.controller = Inferences(self.cluster, cache, self.clock, PROFILE, lambda: self.leads, threads=False)

    def apply(self, **spec: Any) -> Object:
        """Create the resource, or replace its spec."""
        try:
            before = self.cluster.get(kube.INFERENCE, "chat", "team-a")["spec"]
        except kube.MissingError:
            return self.cluster.apply(inference(**spec))
        return self.cluster.patch(kube.INFERENCE, "chat", "team-a", {"spec": {**dict.fromkeys(before), **spec}})

    def settle(self, seconds: float = 30) -> Object:
        """Let the controllers work, and return the resource."""
        self.controller.step()
        for _ in range(int(seconds)):
            self.clock.sleep(1)
            self.controller.step()
        return self.cluster.get(kube.INFERENCE, "chat", "team-a")

    def service(self) -> Object:
        return self.cluster.get(kube.KNATIVE, "chat", "team-a")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def conditions(resource: Object) -> dict[str, tuple[str, str]]:
    return {row["type"]: (row["status"], row["reason"]) for row in resource["status"]["conditions"]}


def test_a_resource_becomes_a_workload_that_belongs_to_it(stage: Stage) -> None:
    stage.apply(**SPEC)
    resource = stage.settle()

    assert conditions(resource) == {"Ready": ("True", "Running")}
    status = resource["status"]
    assert (status["phase"], status["pods"], status["project"]) == ("Running", "1/1", "team-a")
    assert status["observedGeneration"] == resource["metadata"]["generation"] == 1
    assert status["url"].startswith("http")
    (owner,) = stage.service()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Inference", resource["metadata"]["uid"])
    assert status["objects"] == [{"apiVersion": kube.KNATIVE.api_version, "kind": "Service", "name": "chat"}]

    stage.cluster.delete(kube.INFERENCE, "chat", "team-a")
    assert stage.cluster.list(kube.KNATIVE).items == []


def test_an_edit_is_applied_once_and_removed_fields_disappear(stage: Stage) -> None:
    stage.apply(**SPEC, environmentVariables=[{"name": "A", "value": "1"}], disruptionBudget={"minAvailable": 1})
    stage.settle()
    assert len(stage.cluster.list(BUDGET).items) == 1
    writes: list[str] = []
    stage.cluster.fail = lambda item: writes.append(str(item.get("kind")))
    stage.apply(**SPEC)
    resource = stage.settle()

    assert stage.cluster.list(BUDGET).items == []
    container = stage.service()["spec"]["template"]["spec"]["containers"][0]
    assert "A" not in {row["name"] for row in container.get("env", [])}
    assert writes.count("Service") == 1
    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert resource["status"]["observedGeneration"] == 2


def test_nothing_is_written_while_nothing_changes(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.settle()
    writes: list[Object] = []
    stage.cluster.fail = writes.append
    stage.settle(60)
    stage.restart()
    stage.settle(60)

    assert writes == []


def test_a_refused_spec_changes_nothing_live(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.settle()
    before = stage.service()
    stage.apply(**{**SPEC, "autoscalling": {"minReplicas": 0}, "image": "registry.test/chat:2"})
    resource = stage.settle()

    assert stage.service()["spec"] == before["spec"]
    assert stage.service()["metadata"] == before["metadata"]
    assert conditions(resource) == {"Ready": ("False", "InvalidSpec"), "Stalled": ("True", "InvalidSpec")}
    (problem,) = resource["status"]["problems"]
    assert (problem["code"], problem["field"]) == ("SPEC001", "spec.autoscalling")
    assert "autoscaling" in problem["fix"]
    assert resource["status"]["phase"] == "Invalid"
    assert resource["status"]["url"]

    stage.apply(**SPEC)
    assert conditions(stage.settle()) == {"Ready": ("True", "Running")}


def test_an_account_that_may_not_create_a_service_yields_a_condition(stage: Stage) -> None:
    account = Caller(name_account("team-a"))
    rule = PermissionRule(account.name, frozenset({"get"}), frozenset({"*"}), frozenset({"*"}))
    access = AccessCache(SimulatedReviewer({}, (rule,)), stage.clock.ticks)
    stage.cluster.accounts[account.name] = RestrictedCluster(stage.cluster, access, account)
    stage.apply(**SPEC)
    resource = stage.settle()

    assert conditions(resource) == {"Ready": ("False", "Forbidden"), "Stalled": ("True", "Forbidden")}
    message = resource["status"]["conditions"][0]["message"]
    assert message.partition(":")[0] == "RES064"
    assert "team-a:ebbtide" in message
    assert stage.cluster.list(kube.KNATIVE).items == []

    # As soon as the account has the permission, a later attempt succeeds.
    del stage.cluster.accounts[account.name]
    assert conditions(stage.settle(120))["Ready"][0] == "True"


def test_a_language_model_is_refused_with_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller does not watch LLMInferenceServices, and says so."""
    monkeypatch.setitem(globals(), "PROFILE", profiles.load_built_in("full"))
    stage = Stage()
    stage.apply(serving="llm", model={"format": "huggingface", "uri": "hf://Qwen/Qwen2.5-7B-Instruct"})
    resource = stage.settle()

    assert conditions(resource)["Ready"][0] == "False"
    assert "the controller does not apply an LLMInferenceService" in resource["status"]["conditions"][0]["message"]
    assert stage.cluster.list(kube.LLM).items == []


def test_a_foreign_service_is_not_taken_over(stage: Stage) -> None:
    foreign = inference(**SPEC) | {"apiVersion": kube.KNATIVE.api_version, "kind": "Service"}
    foreign["spec"] = {"template": {"spec": {"containers": [{"image": "registry.test/other:1"}]}}}
    stage.cluster.apply(foreign)
    stage.apply(**SPEC)
    resource = stage.settle()

    assert conditions(resource)["Ready"] == ("False", "Rejected")
    assert "RES062" in resource["status"]["reason"]
    assert stage.service()["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.test/other:1"


def workload(**spec: Any) -> Workload:
    assert PROFILE is not None
    made = render_resource(inference(**spec), PROFILE).workload
    assert made is not None
    return made


def test_a_workload_of_ebbtide_apply_is_adopted_without_a_rollout(stage: Stage) -> None:
    for obj in workload(**SPEC).objects:
        stage.cluster.apply(obj)
    stage.clock.sleep(30)
    before = stage.service()
    stage.apply(**SPEC)
    resource = stage.settle()

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert stage.service()["spec"] == before["spec"]
    stage.cluster.delete(kube.INFERENCE, "chat", "team-a")
    assert stage.cluster.list(kube.KNATIVE).items == []


def test_commands_do_not_change_a_workload_of_a_resource(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.settle()
    planned = diff_workload(stage.cluster, workload(**{**SPEC, "image": "registry.test/chat:2"}))
    (step,) = [step for step in planned.steps if is_top_object(step.item)]

    assert step.verdict == "refused"
    assert step.changes
    assert "Inference chat manages this workload" in step.refusal
    assert "RES063" in step.refusal
    with pytest.raises(kube.RefusedError, match="RES063"):
        plan_removal(stage.cluster, "chat", "team-a", data=False)


def test_an_edit_of_the_live_object_is_undone_but_not_a_rollback(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.settle()
    (container,) = stage.service()["spec"]["template"]["spec"]["containers"]
    edit = {"spec": {"template": {"spec": {"containers": [{**container, "image": "registry.test/other:1"}]}}}}
    stage.cluster.patch(kube.KNATIVE, "chat", "team-a", edit)
    stage.settle()
    assert stage.service()["spec"]["template"]["spec"]["containers"] == [container]

    stage.apply(**{**SPEC, "image": "registry.test/chat:2"})
    stage.settle()
    live = stage.controller._cache.statuses.live(stage.controller._cache.store.find(*PLACE), wide=False)  # noqa: SLF001 - the cache
    pin_revision(stage.cluster, live, "chat-00001")
    stage.settle(60)
    assert stage.service()["spec"]["traffic"][0]["revisionName"] == "chat-00001"


@pytest.mark.parametrize(
    "forged",
    [
        {"phase": "Failed", "url": "http://elsewhere", "observedGeneration": 99},
        {"conditions": [], "objects": []},
        dict.fromkeys(("phase", "reason", "conditions", "observedGeneration", "objects", "applied", "url", "pods")),
    ],
)
def test_an_edited_status_is_corrected_once(stage: Stage, forged: dict[str, Any]) -> None:
    stage.apply(**SPEC)
    expected = stage.settle()["status"]
    assert expected["phase"] == "Running"
    before = stage.controller.counts["statuses"]

    stage.cluster.patch_status(kube.INFERENCE, "chat", "team-a", forged)
    assert stage.cluster.get(kube.INFERENCE, "chat", "team-a")["status"] != expected

    assert stage.settle(60)["status"] == expected
    assert stage.controller.counts["statuses"] == before + 1


def test_the_status_has_the_project_of_the_list_from_the_first_write_on(stage: Stage) -> None:
    written: list[str] = []

    def record(item: Object) -> None:
        if "project" in item.get("status", {}):
            written.append(item["status"]["project"])

    stage.cluster.fail = record
    profile, problems = profiles.validate_profile_data(
        {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Profile",
            "metadata": {"name": "projects"},
            "spec": {"projects": {"manage": False, "namespace": "team-{project}"}},
        }
    )
    assert profile is not None, problems
    stage.controller._profile = profile  # noqa: SLF001 - a cluster with projects
    stage.apply(**SPEC, project="a")

    assert stage.settle()["status"]["project"] == "a"
    assert {*written} == {"a"}


def test_a_deleted_service_is_created_again(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.settle()
    stage.cluster.delete(kube.KNATIVE, "chat", "team-a")
    resource = stage.settle(60)

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert stage.service()


def test_another_kind_of_object_replaces_the_first(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.settle()
    stage.apply(**SPEC, serving="kserve")
    resource = stage.settle(60)

    assert stage.cluster.list(kube.KSERVE).items
    with pytest.raises(kube.MissingError):
        stage.service()
    assert [row["kind"] for row in resource["status"]["objects"]] == ["InferenceService"]


def test_volumes_outlive_the_resource(stage: Stage) -> None:
    claim = {"claimName": "data", "path": "/data", "claimInfo": {"size": "1Gi", "accessModes": {"readWriteOnce": True}}}
    stage.apply(**SPEC, storage={"pvc": [claim]})
    stage.settle()
    assert len(stage.cluster.list(CLAIM).items) == 1
    stage.cluster.delete(kube.INFERENCE, "chat", "team-a")

    assert len(stage.cluster.list(CLAIM).items) == 1


def test_the_cache_of_a_former_model_stays_while_replicas_may_read_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PROFILE is not None
    kserve = with_values(PROFILE.spec.kserve, local_model_node_groups=["h100"])
    profile = with_values(PROFILE, spec=with_values(PROFILE.spec, kserve=kserve))
    monkeypatch.setitem(globals(), "PROFILE", profile)
    stage.restart()
    cached: dict[str, Any] = {
        "serving": "kserve-standard",
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
        "start": {"modelCache": {"size": "17Gi", "nodeGroups": ["h100"]}},
    }
    for name in ("Qwen3-8B", "Qwen3-4B"):
        stage.apply(**cached, model={"format": "huggingface", "uri": f"hf://Qwen/{name}"})
        resource = stage.settle()
    assert len(stage.cluster.list(kube.MODEL_CACHE).items) == 2, resource["status"]

    stage.cluster.delete(kube.INFERENCE, "chat", "team-a")
    assert stage.cluster.list(kube.MODEL_CACHE).items == []


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_controller_that_is_killed_at_a_write_is_finished_by_the_next(stage: Stage, place: int, moment: str) -> None:
    stage.apply(**SPEC, disruptionBudget={"minAvailable": 1})
    stage.settle()
    stage.apply(**{**SPEC, "image": "registry.test/chat:2"}, serving="kserve")
    seen = 0

    def kill(_: Object) -> None:
        nonlocal seen
        seen += 1
        if seen == place + 1:
            raise Killed

    setattr(stage.cluster, "fail" if moment == "before" else "cut", kill)
    with suppress(Killed):
        stage.settle(5)
    stage.cluster.fail = stage.cluster.cut = None
    # The user reverts the edit in the meantime.
    stage.apply(**SPEC)
    stage.restart()
    resource = stage.settle(90)

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert [row["kind"] for row in resource["status"]["objects"]] == ["Service"]
    assert stage.cluster.list(kube.KSERVE).items == []
    assert stage.cluster.list(BUDGET).items == []
    assert "chat:1" in stage.service()["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_busy_server_is_asked_again(stage: Stage) -> None:
    def fail(item: Object) -> None:
        if item.get("kind") == "Service":
            raise kube.ClusterError("the webhook says no")

    stage.cluster.fail = fail
    stage.apply(**SPEC)
    assert conditions(stage.settle())["Stalled"] == ("True", "Rejected")
    stage.cluster.fail = None
    assert conditions(stage.settle(120)) == {"Ready": ("True", "Running")}


def test_a_refused_resource_is_tried_again_at_most_every_five_minutes(stage: Stage) -> None:
    attempts: list[float] = []

    def fail(item: Object) -> None:
        if item.get("kind") == "Service":
            attempts.append(stage.clock.ticks())
            raise kube.ClusterError("the webhook says no")

    stage.cluster.fail = fail
    stage.apply(**SPEC)
    stage.settle(3600)
    gaps = [later - earlier for earlier, later in itertools.pairwise(dict.fromkeys(attempts))]

    assert gaps[0] == pytest.approx(inferences.RETRY_SECONDS, abs=1)
    assert gaps == sorted(gaps)
    assert gaps[-3:] == pytest.approx([inferences.MAX_RETRY_SECONDS] * 3, abs=1)


def test_a_change_is_not_lost_while_another_process_leads(stage: Stage) -> None:
    stage.apply(**SPEC)
    stage.controller.step()
    stage.leads = False
    stage.settle()
    stage.leads = True
    stage.controller.step()

    assert conditions(stage.cluster.get(kube.INFERENCE, "chat", "team-a")) == {"Ready": ("True", "Running")}


def test_nothing_is_written_without_the_lease(stage: Stage) -> None:
    stage.leads = False
    stage.apply(**SPEC)
    assert "status" not in stage.settle()
    assert stage.cluster.list(kube.KNATIVE).items == []


@pytest.mark.parametrize("aside", [False, True])
def test_an_update_without_a_spare_replica_replaces_one_at_a_time(stage: Stage, *, aside: bool) -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 2}
    stage.apply(image="registry.test/chat:1", autoscaling=scaling, rollout={"surge": 0})
    stage.settle()
    most = 0

    def count(_: Object) -> None:
        nonlocal most
        most = max(most, len(stage.cluster.list(kube.POD).items))

    stage.cluster.cut = count
    stage.apply(image="registry.test/chat:2", autoscaling=scaling, rollout={"surge": 0})
    if aside:
        # The process does it so, because a rollout takes minutes, and other resources do not wait for it.
        stage.controller._rollout_pool = ThreadPoolExecutor(1)  # noqa: SLF001 - a simulated cluster has no threads
        stage.controller.step()
        for _, rollout in stage.controller._rollouts.values():  # noqa: SLF001 - as above
            assert rollout.result(60) == ""
    resource = stage.settle(120)

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert "chat:2" in stage.service()["spec"]["template"]["spec"]["containers"][0]["image"]
    assert most <= 3


FIXED: dict[str, Any] = {"autoscaling": {"minReplicas": 2, "maxReplicas": 2}, "rollout": {"surge": 0}}


class Later(Executor):
    """Run a call when the test says so, in its thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.call, self.future = partial(fn, *args, **kwargs), Future[Any]()
        return self.future

    def run(self) -> BaseException | None:
        """Run the last call, and return its error."""
        try:
            self.future.set_result(self.call())
        except kube.ClusterError as error:
            self.future.set_exception(error)
        return self.future.exception()


def is_limit(item: Object) -> bool:
    """Return whether a write is that of a rollout to a revision."""
    return keys.ROLLOUT in get_at(item, "metadata", "annotations", default={})


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("image", ["registry.test/chat:2", "registry.test/missing:2"])
def test_an_edit_during_a_rollout_is_rolled_out_too(stage: Stage, image: str, *, ended: bool) -> None:
    stage.cluster.missing_images.add("registry.test/missing:2")
    stage.apply(image="registry.test/chat:1", **FIXED)
    stage.settle()
    edits: list[Object] = []

    def edit(item: Object) -> None:
        if is_limit(item) and not edits:
            edits.append(stage.apply(image="registry.test/chat:3", **FIXED))
            stage.controller.step()

    later = stage.controller._rollout_pool = Later()  # noqa: SLF001 - a simulated cluster has no threads
    stage.apply(image=image, **FIXED)
    stage.controller.step()
    stage.cluster.cut = None if ended else edit
    error = later.run()
    if ended:
        assert error is None
        stage.apply(image="registry.test/chat:3", **FIXED)
    else:
        assert "document changed" in str(error)
    limits: list[Object] = []
    stage.cluster.cut = lambda item: limits.append(item) if is_limit(item) else None
    stage.controller.step()
    assert later.run() is None
    resource = stage.settle(120)

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert "chat:3" in stage.service()["spec"]["template"]["spec"]["containers"][0]["image"]
    assert limits, "one replica at a time, and not all together"


def test_a_rollout_writes_nothing_after_another_controller_leads(stage: Stage) -> None:
    stage.apply(image="registry.test/chat:1", **FIXED)
    stage.settle()
    later: list[Object] = []

    def lose(item: Object) -> None:
        if not stage.leads:
            later.append(item)
        elif is_limit(item):
            stage.leads = False

    stage.cluster.cut = lose
    stage.apply(image="registry.test/chat:2", **FIXED)
    stage.settle(60)
    assert not stage.leads
    assert later == []
    stage.cluster.cut, stage.leads = None, True
    resource = stage.settle(120)

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert "chat:2" in stage.service()["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_resource_is_not_ready_while_its_rollout_runs(stage: Stage) -> None:
    stage.apply(image="registry.test/chat:1", **FIXED)
    stage.settle()
    later = stage.controller._rollout_pool = Later()  # noqa: SLF001 - a simulated cluster has no threads
    stage.apply(image="registry.test/chat:2", **FIXED)
    resource = stage.settle()

    # No replica is touched yet.
    assert resource["status"]["observedGeneration"] == 2
    assert conditions(resource) == {"Ready": ("False", "Updating"), "Reconciling": ("True", "Updating")}
    assert later.run() is None
    assert conditions(stage.settle()) == {"Ready": ("True", "Running")}


def test_a_rollout_goes_on_after_its_controller_was_killed_at_any_write(stage: Stage) -> None:
    stage.apply(image="registry.test/chat:1", **FIXED)
    stage.settle()
    ready: list[int] = []

    def kill(item: Object) -> None:
        if is_limit(item) or get_at(item, "spec", "traffic"):
            ready.append(sum(map(is_ready, stage.cluster.list(kube.POD).items)))
            raise Killed

    stage.cluster.cut = kill
    stage.apply(image="registry.test/chat:2", **FIXED)
    for _ in range(60):
        with suppress(Killed):
            resource = stage.settle(20)
            break
        stage.restart()
    else:
        pytest.fail("never finished")

    assert conditions(resource) == {"Ready": ("True", "Running")}
    assert "chat:2" in stage.service()["spec"]["template"]["spec"]["containers"][0]["image"]
    assert len(ready) > 6, "several writes for each replica"
    assert min(ready) >= 1


# Health.

#: Health by Argo CD and Flux of a resource in each phase of its workload that may still change.
HEALTH: dict[str, tuple[str, str]] = {
    **dict.fromkeys(get_args(Phase), ("Progressing", "InProgress")),
    "Running": ("Healthy", "Current"),
    "Stopped": ("Suspended", "InProgress"),
    "Degraded": ("Degraded", "InProgress"),
}


def judge_health(judge: Judge, item: Object) -> tuple[str, str]:
    """Return how Argo CD and Flux judge a resource, by Argo CD's Lua engine and Flux's own code."""
    group = item["apiVersion"].partition("/")[0]
    checks = yaml.safe_load(CHECKS.read_text())["data"]
    check = checks[f"resource.customizations.health.{group}_{item['kind']}"]
    answer = judge.ask("health", object=item, lua=check)
    assert answer["message"]
    return answer["argo"], answer["flux"]


def test_tools_judge_each_state(stage: Stage, newest_judge: Judge) -> None:
    def health() -> tuple[str, str]:
        item = stage.cluster.get(kube.INFERENCE, "chat", "team-a")
        found = judge_health(newest_judge, item)
        # The end-to-end cases judge live resources without the judge.
        assert found == (argo_health(item), flux_health(item))
        return found

    stage.apply(**SPEC)
    new = stage.cluster.get(kube.INFERENCE, "chat", "team-a")
    # The API server writes the definition's default, without which kstatus takes a new resource for ready.
    assert health() == ("Progressing", "Current")
    schema = definition()["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]["properties"]["status"]
    new["status"] = schema["default"]
    assert judge_health(newest_judge, new) == (argo_health(new), flux_health(new)) == ("Progressing", "InProgress")
    stage.controller.step()
    assert health() == ("Progressing", "InProgress")
    stage.settle()
    assert health() == ("Healthy", "Current")
    stage.apply(**SPEC, nonsense=1)
    assert health() == ("Progressing", "InProgress")
    stage.settle()
    assert health() == ("Degraded", "Failed")
    stage.cluster.missing_images.add("registry.test/missing:2")
    stage.apply(**{**SPEC, "image": "registry.test/missing:2"})
    stage.settle(120)
    assert health() == ("Degraded", "InProgress"), "the former revision serves"


@pytest.mark.parametrize(
    ("phase", "settled", "expected"),
    [(phase, False, expected) for phase, expected in HEALTH.items()] + [("Failed", True, ("Degraded", "Failed"))],
)
def test_tools_judge_each_phase(
    stage: Stage, newest_judge: Judge, phase: Any, expected: tuple[str, str], *, settled: bool
) -> None:
    stage.apply(**SPEC)
    item = stage.settle()
    key = stage.controller._cache.store.find(*PLACE)  # noqa: SLF001 - the cache
    live = replace(stage.controller._cache.statuses.status(key, wide=False), phase=phase, settled=settled)  # noqa: SLF001 - as above
    item["status"] = prune_nulls(
        make_status(
            item, {}, live=live, problems=(), failure=None, objects=(), applied=item["status"]["applied"], now=0.0
        )
    )

    assert judge_health(newest_judge, item) == (argo_health(item), flux_health(item)) == expected
