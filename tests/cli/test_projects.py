"""Projects on the simulated cluster: create, change, list and delete them, and the permissions of their members."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cluster.client.protocol import (
    CLUSTER_QUEUE,
    CLUSTER_ROLE,
    KINDS,
    KNATIVE,
    NAMESPACE,
    PRIORITY_CLASS,
    QUEUE,
    QUOTA,
    ROLE_BINDING,
    MissingError,
)
from ebbtide.cluster.read.amounts import QuotaShare
from ebbtide.cluster.write import apply, projects
from ebbtide.cluster.write.projects import ProjectMember, ProjectRequest, parse_member
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.paths import get_at
from ebbtide.core.documents import profiles
from live_cluster import PROFILE, SCALING, connected, profile, simulated, workload

if TYPE_CHECKING:
    from pathlib import Path

    from ebbtide.cluster.write.projects import ProjectRow
    from ebbtide.core.profile.models import Profile
    from ebbtide.sandbox.simulated import Simulated

JANE, ML = ProjectMember("User", "jane"), ProjectMember("Group", "ml")
LIMITS = KINDS["v1", "LimitRange"]
KAI = {
    **PROFILE["spec"],
    "scheduling": {"scheduler": "kai-scheduler", "classesOwner": "kai"},
    "nodePools": [],
    "projects": {"namespace": "team-{project}", "quota": "kai"},
}


def of(spec: dict[str, Any]) -> Profile:
    validated, problems = profiles.validate_profile_data({**PROFILE, "spec": spec})
    assert validated is not None, problems
    return validated


def make(
    cluster: Simulated, name: str = "shop", with_profile: Profile | None = None, **values: Any
) -> list[tuple[str, str]]:
    steps = projects.diff_project(cluster, ProjectRequest(name, **values), with_profile or profile())
    apply.write_workload(cluster, steps, cluster.clock)
    return [(step.verdict, step.item["kind"]) for step in steps]


def row(cluster: Simulated, name: str = "shop", with_profile: Profile | None = None) -> ProjectRow:
    (project,) = [row for row in projects.read_projects(cluster, with_profile or profile()) if row.name == name]
    return project


def test_a_project_is_a_namespace_a_quota_and_a_role_binding() -> None:
    cluster = simulated()
    assert make(cluster, gpus=0.5, cpu=4.0, memory="8Gi", add=(JANE, ML)) == [
        ("create", "Namespace"),
        ("create", "ResourceQuota"),
        ("create", "LimitRange"),
        ("create", "ClusterRole"),
        ("create", "RoleBinding"),
    ]
    assert cluster.get(NAMESPACE, "team-shop")["metadata"]["labels"][keys.PROJECT] == "shop"
    hard = cluster.get(QUOTA, "ebbtide-guaranteed", "team-shop")["spec"]["hard"]
    assert hard == {"requests.cpu": "4", "requests.memory": "8Gi", "requests.nvidia.com/gpu.shared": "2"}
    binding = cluster.get(ROLE_BINDING, projects.BINDING, "team-shop")
    assert binding["roleRef"]["name"] == cluster.get(CLUSTER_ROLE, projects.MEMBER_ROLE)["metadata"]["name"]

    assert make(cluster, "other", add=(JANE,)) == [("create", "Namespace"), ("create", "RoleBinding")]


@pytest.mark.parametrize("adapter", ["keda", "prometheus-adapter"])
def test_members_write_scaled_objects_only_where_the_profile_uses_keda(adapter: Any) -> None:
    cluster = simulated()
    spec = {**PROFILE["spec"], "metrics": {**PROFILE["spec"].get("metrics", {}), "adapter": adapter}}
    with_keda, problems = profiles.validate_profile_data({**PROFILE, "spec": spec})
    assert with_keda is not None, problems
    make(cluster, add=(JANE,), with_profile=with_keda)

    rules = cluster.get(CLUSTER_ROLE, projects.MEMBER_ROLE)["rules"]
    assert (projects.KEDA_RULE in rules) == (adapter == "keda")


def test_a_repeated_create_changes_only_the_requested_settings() -> None:
    cluster = simulated()
    make(cluster, gpus=1.0, add=(JANE,))

    assert make(cluster, gpus=1.0, add=(JANE,)) == [
        ("keep", "Namespace"),
        ("keep", "ResourceQuota"),
        ("keep", "RoleBinding"),
    ]
    assert make(cluster, add=(ML,)) == [("keep", "Namespace"), ("change", "RoleBinding")]
    assert row(cluster).members == (JANE, ML)
    assert row(cluster).quota == (QuotaShare("nvidia.com/gpu.shared", "4", "0"),)
    make(cluster, remove=(JANE,))
    assert row(cluster).members == (ML,)
    assert make(cluster, gpus=0.5) == [("keep", "Namespace"), ("change", "ResourceQuota"), ("keep", "RoleBinding")]
    assert row(cluster).quota == (QuotaShare("nvidia.com/gpu.shared", "2", "0"),)


def test_requested_amounts_override_those_of_the_profile() -> None:
    cluster_profile = of(
        {**PROFILE["spec"], "projects": {**PROFILE["spec"]["projects"], "known": {"shop": {"gpus": 1, "cpu": 8}}}}
    )
    cluster = simulated()
    assert [row.there for row in projects.read_projects(cluster, cluster_profile)] == [False]
    make(cluster, with_profile=cluster_profile, cpu=2.0)

    assert {share.resource: share.hard for share in row(cluster, with_profile=cluster_profile).quota} == {
        "cpu": "2",
        "nvidia.com/gpu.shared": "4",
    }
    assert cluster_profile.spec.projects.known["shop"].cpu == 8, "the profile itself stays"


def test_with_kai_a_project_is_a_queue_with_a_priority() -> None:
    cluster_profile, cluster = of(KAI), simulated()
    make(cluster, with_profile=cluster_profile, gpus=2.0, priority=150)
    queue = cluster.get(QUEUE, "shop")
    assert (queue["spec"]["priority"], get_at(queue, "spec", "resources", "gpu", "quota")) == (150, 2)
    cluster.put({**queue, "status": {"allocated": {keys.GPU: "1"}}})

    assert row(cluster, with_profile=cluster_profile).quota == (QuotaShare(keys.GPU, "2", "1"),)
    cluster.put({**queue, "status": {"allocated": {keys.GPU: "1500m"}}})
    assert row(cluster, with_profile=cluster_profile).quota == (QuotaShare(keys.GPU, "2", "1.5"),)
    assert row(cluster, with_profile=cluster_profile).priority == 150
    assert make(cluster, with_profile=cluster_profile, add=(JANE,))[:1] == [("keep", "Namespace")]
    assert cluster.get(QUEUE, "shop")["spec"]["priority"] == 150
    assert projects.plan_project_removal(cluster, "shop", cluster_profile).lines()[-1] == "queue shop"
    projects.remove_project(cluster, projects.plan_project_removal(cluster, "shop", cluster_profile))
    assert cluster.list(QUEUE).items == []


def test_with_kueue_a_project_has_a_queue_that_a_change_of_members_keeps() -> None:
    spec = PROFILE["spec"]
    cluster_profile = of({**spec, "projects": {**spec["projects"], "quota": "kueue"}})
    cluster = simulated()
    make(cluster, with_profile=cluster_profile, cpu=2.0)
    queue = cluster.get(CLUSTER_QUEUE, "shop")
    (cpu, *_) = get_at(queue, "spec", "resourceGroups")[0]["flavors"][0]["resources"]
    assert (cpu["name"], cpu["nominalQuota"]) == ("cpu", "2")

    usage = [{"name": "ebbtide", "resources": [{"name": "cpu", "total": "750m"}, {"name": "memory", "total": "1Gi"}]}]
    cluster.put({**queue, "status": {"flavorsUsage": usage}})
    assert row(cluster, with_profile=cluster_profile).quota == (QuotaShare("cpu", "2", "750m"),)
    assert row(cluster, with_profile=cluster_profile).priority is None
    cluster.put({**queue, "status": {"flavorsUsage": [*usage, {**usage[0], "name": "spot"}]}})
    assert row(cluster, with_profile=cluster_profile).quota == (QuotaShare("cpu", "2", "1.5"),)

    assert ("change", "ClusterQueue") not in make(cluster, with_profile=cluster_profile, add=(JANE,))
    assert cluster.get(CLUSTER_QUEUE, "shop")["spec"] == queue["spec"]
    assert projects.plan_project_removal(cluster, "shop", cluster_profile).lines()[-1] == "queue shop"
    projects.remove_project(cluster, projects.plan_project_removal(cluster, "shop", cluster_profile))
    assert cluster.list(CLUSTER_QUEUE).items == []


def test_settings_that_the_quota_does_not_support_are_refused() -> None:
    none = of({**PROFILE["spec"], "projects": {**PROFILE["spec"]["projects"], "quota": "none"}})
    with pytest.raises(ValueError, match="without KAI, set priorityClass in the spec"):
        projects.diff_project(simulated(), ProjectRequest("shop", priority=1), profile())
    with pytest.raises(ValueError, match=r"projects\.quota: none"):
        projects.diff_project(simulated(), ProjectRequest("shop", gpus=1.0), none)
    with pytest.raises(ValueError, match="invalid project name: queue default-parent-queue is the parent"):
        projects.diff_project(simulated(), ProjectRequest("default-parent-queue"), of(KAI))


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("jane", JANE),
        ("user:jane@example.com", ProjectMember("User", "jane@example.com")),
        ("group:ml", ML),
        ("serviceaccount:ci:builder", ProjectMember("ServiceAccount", "builder", "ci")),
    ],
)
def test_members_are_formatted_as_they_are_parsed(text: str, member: ProjectMember) -> None:
    assert parse_member(text) == member
    assert parse_member(str(member)) == member


@pytest.mark.parametrize("text", ["", "group:", "serviceaccount:ci", "robot:x"])
def test_an_invalid_member_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid member"):
        parse_member(text)


def test_a_row_has_the_workloads_and_the_guaranteed_classes() -> None:
    cluster = simulated()
    make(cluster, gpus=1.0)
    for name, serving in (("chat", "knative"), ("rank", "kserve")):
        ready_workload = workload({**json.loads(json.dumps(SPEC)), "metadata": {"name": name}}, serving=serving)
        apply.write_workload(cluster, apply.diff_workload(cluster, ready_workload), cluster.clock)
    cluster.clock.sleep(30)
    project = row(cluster)

    assert project.workloads == ("chat", "rank"), (
        "the Knative Service of an InferenceService is not a separate workload"
    )
    assert "inference" in project.guaranteed
    assert "train" not in project.guaranteed
    assert json.loads(json.dumps(serialize_body(project)))["workloads"] == ["chat", "rank"]


SPEC = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "spec": {"project": "shop", "image": "ghcr.io/acme/chat:1", "servingPort": {"container": 8080}},
}


def test_a_project_with_workloads_is_deleted_only_by_force() -> None:
    cluster = simulated()
    make(cluster)
    chat = workload(autoscaling=SCALING)
    apply.write_workload(cluster, apply.diff_workload(cluster, chat), cluster.clock)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "team-shop"},
    }
    cluster.put(claim)
    planned = projects.plan_project_removal(cluster, "shop", profile())

    assert "still has 1 workload: chat" in planned.refused
    assert planned.lines() == [
        "namespace team-shop and everything in it",
        "workload chat",
        "volume claim data and its data",
    ]
    projects.remove_project(cluster, planned)
    projects.remove_project(cluster, planned)
    with pytest.raises(MissingError):
        cluster.get(KNATIVE, "chat", "team-shop")
    assert "project shop not found" in projects.plan_project_removal(cluster, "shop", profile()).refused


# Permissions of members.


def as_member(cluster: Simulated) -> None:
    """Deny the requests that the ClusterRole of members does not allow, as RBAC would."""
    allowed = {
        (verb, resource) for rule in projects.MEMBER_RULES for verb in rule["verbs"] for resource in rule["resources"]
    }
    every = {kind.plural for kind in KINDS.values()}
    verbs = ("get", "list", "create", "patch", "delete")
    cluster.denied = {(verb, plural) for plural in every for verb in verbs} - allowed


def test_a_member_applies_a_workload_to_an_existing_project() -> None:
    cluster = simulated()
    make(cluster, gpus=1.0, add=(JANE,))
    as_member(cluster)
    chat = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25})
    planned = apply.diff_workload(cluster, chat)

    assert [(step.verdict, step.item["kind"]) for step in planned.steps] == [
        ("keep", "Namespace"),
        ("create", "Service"),
    ]
    assert planned.steps[0].notes == ("up to date; changing it is forbidden",)
    apply.write_workload(cluster, planned, cluster.clock)
    end = apply.wait_for_workload(cluster, "chat", "team-shop", cluster.clock, 60)
    assert end is not None
    assert end.phase == "Running"
    assert [row.name for row in projects.read_projects(cluster, profile())] == []
    cluster.namespace = "team-shop"
    assert row(cluster).members == (JANE,)


def test_a_member_cannot_change_the_namespace() -> None:
    cluster = simulated()
    make(cluster)
    cluster.put({**cluster.get(NAMESPACE, "team-shop"), "metadata": {"name": "team-shop", "labels": {}}})
    as_member(cluster)
    planned = apply.diff_workload(cluster, workload(autoscaling=SCALING))

    assert planned.steps[0].verdict == "refused"
    assert "forbidden" in planned.steps[0].refusal


def test_an_unreadable_shared_object_is_assumed_to_exist() -> None:
    cluster = simulated()
    make(cluster)
    cluster.denied = {("get", PRIORITY_CLASS.plural)}
    chat = workload(autoscaling=SCALING)
    priority_class = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "inference"},
        "value": 125,
    }
    (step,) = apply.diff_against_cluster(cluster, [priority_class])

    assert step.verdict == "keep"
    assert "assumed to exist" in step.notes[0]
    assert apply.diff_workload(cluster, chat).steps[-1].verdict == "create"


# The command.


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return connected(simulated(), monkeypatch)


@pytest.fixture
def called(cluster: Simulated, run: Any, tmp_path: Path) -> Any:
    file = tmp_path / "profile.yaml"
    file.write_text(manifests.write_document(PROFILE))
    del cluster
    return lambda *words: run("project", *words, "--profile", file)


def test_create_shows_a_plan_asks_and_reports(cluster: Simulated, called: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("create", "shop", "--gpus", "1", "--member", "jane")
    code, out, err = called(*words)
    assert (code, cluster.list(QUOTA).items) == (2, [])
    assert out.startswith("project shop\n  + create  Namespace team-shop\n  + create  ResourceQuota team-shop/")
    assert "Apply 4 objects? Cannot prompt for confirmation" in err

    stdin = io.StringIO("y\n")
    stdin.isatty = lambda: True  # type: ignore[method-assign] # a terminal
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = called(*words)
    assert code == 0
    assert "created ResourceQuota team-shop/ebbtide-guaranteed\n" in out
    assert "Set projects.known.shop: {gpus: 1} in the profile" in err
    assert called(*words, "--dry-run").out.count("= keep") == 3


def test_json_output_has_the_steps_and_the_deleted_project(cluster: Simulated, called: Any) -> None:
    words = ("create", "shop", "--gpus", "1", "--dry-run", "-o")
    (plan,) = json.loads(called(*words, "json").out)

    assert (plan["name"], plan["different"]) == ("shop", True)
    assert [(step["verdict"], step["kind"]) for step in plan["steps"]] == [
        ("create", "Namespace"),
        ("create", "ResourceQuota"),
    ]
    assert "different: true" in called(*words, "yaml").out
    assert cluster.list(QUOTA).items == []
    assert called("create", "shop", "-y").code == 0
    deleted = json.loads(called("delete", "shop", "-y", "-o", "json").out)
    assert deleted == [{"name": "shop", "namespace": "team-shop", "deleted": True}]


def test_list_and_describe(cluster: Simulated, called: Any) -> None:
    assert "No projects found." in called("list").err
    called("create", "shop", "--gpus", "1", "--member", "jane", "--member", "group:ml", "-y")
    chat = workload(autoscaling=SCALING, compute={"gpuPortionRequest": 0.25})
    apply.write_workload(cluster, apply.diff_workload(cluster, chat), cluster.clock)
    cluster.clock.sleep(30)

    assert called("list").out == (
        "PROJECT   NAMESPACE   WORKLOADS   QUOTA (USED/HARD)           PRIORITY   MEMBERS\n"
        "shop      team-shop   1           nvidia.com/gpu.shared 1/4   -          jane, group:ml\n"
    )
    assert called("list", "-o", "name").out == "shop\n"
    (project,) = json.loads(called("list", "-o", "json").out)
    assert project["members"] == ["jane", "group:ml"]
    assert json.loads(called("create", "shop", "-y", "-o", "json").out)[0]["name"] == "shop"


def test_delete_refuses_lists_the_objects_and_asks(cluster: Simulated, called: Any) -> None:
    called("create", "shop", "-y")
    chat = workload(autoscaling=SCALING)
    apply.write_workload(cluster, apply.diff_workload(cluster, chat), cluster.clock)
    code, _, err = called("delete", "shop", "-y")
    assert (code, len(cluster.list(KNATIVE).items)) == (1, 1)
    assert "still has 1 workload: chat; delete it first, or use --force" in err

    code, _, err = called("delete", "shop", "--force")
    assert code == 2
    assert "  - workload chat" in err
    assert "Delete project shop?" in err
    code, out, _ = called("delete", "shop", "--force", "-y", "--wait", "10s")
    assert (code, cluster.list(KNATIVE).items) == (0, [])
    assert "deleted project shop" in out
    assert called("delete", "shop", "-y").code == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create",), "ebbtide project: error: create needs NAME"),
        (("list", "shop"), "list takes no name"),
        (("create", "Shop!"), "invalid project name 'Shop!'"),
        (("create", "shop", "--gpus", "-1"), "--gpus -1"),
        (("create", "shop", "--memory", "much"), "--memory much"),
        (("create", "shop", "--member", "robot:x"), "invalid member"),
        (("create", "shop", "--priority", "3"), "without KAI, set priorityClass in the spec"),
        (("delete", "shop", "--wait", "soon"), "--wait: invalid duration 'soon'"),
    ],
)
def test_an_invalid_command_line_is_refused(called: Any, words: tuple[str, ...], message: str) -> None:
    code, out, err = called(*words)

    assert (code, out) == (2, "")
    assert message in err
