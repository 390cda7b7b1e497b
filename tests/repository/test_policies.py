"""Tests that each policy admits its good examples and all golden outputs, and rejects its bad examples with the expected message.

The judge runs the API server's admission code with its CEL, so both decide equally.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide.cluster.write import projects
from ebbtide.core import manifests
from ebbtide.core.base.paths import get_at
from ebbtide.core.profile.models import Scheduling
from ebbtide.core.translation import priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands import Ran
    from conftest import Judge
    from ebbtide.core.translation.objects import Object

ROOT = Path(__file__).parents[2]
POLICIES = sorted(path.parent for path in (ROOT / "policies").glob("*/policy.yaml"))
EXPECT = "ebbtide.dev/expect"
USER = "ebbtide.dev/user"
MANAGER = "ebbtide.dev/field-manager"
PROJECT = "ebbtide.dev/project"
#: Variables that several policies define, because a policy cannot use the variables of another.
SHARED = (
    "main",
    "worker",
    "transformer",
    "explainer",
    "models",
    "containers",
    "annotations",
    "labels",
    "project",
)
#: Kinds of Ebbtide's output that policies check.
JUDGED = {
    "Service",
    "InferenceService",
    "HorizontalPodAutoscaler",
    "ScaledObject",
    "DaemonSet",
    "Job",
    "LLMInferenceService",
    "Backend",
    "HTTPRoute",
}


@cache
def read(path: Path) -> list[Object]:
    documents = list(manifests.read_documents(path.read_bytes(), path.name))
    assert [problem for document in documents for problem in document.problems] == []
    return [document.data for document in documents]


@dataclass
class Example:
    """A request to the API server: the object, the old object, its namespace, the policy's parameters, user, field manager."""

    expect: str
    item: Object
    old: Object | None
    namespace: Object | None
    params: Object | None
    user: str = ""
    manager: str = ""


def example(path: Path) -> Example:
    """Return the example in a file: a Namespace, an optional ConfigMap, and an object or an old and a new object."""
    documents = copy.deepcopy(read(path))
    namespace = next((item for item in documents if item["kind"] == "Namespace"), None)
    params = next((item for item in documents if item["kind"] == "ConfigMap"), None)
    items = [item for item in documents if item["kind"] not in {"Namespace", "ConfigMap"}]
    item = items[-1]
    # The annotations of the test must not count as a change of the object.
    expect, user, manager = (item["metadata"].get("annotations", {}).pop(key, "") for key in (EXPECT, USER, MANAGER))
    if item["metadata"].get("annotations") == {}:
        del item["metadata"]["annotations"]
    return Example(expect, item, items[0] if len(items) > 1 else None, namespace, params, user, manager)


def ask(judge: Judge, folder: Path, request: Example) -> dict[str, Any]:
    """Return the verdict of one policy with its binding and the request's parameters, or else its own."""
    params = [request.params] if request.params is not None else default_params(folder)
    (verdict,) = ask_policies(judge, [folder], request, params)
    return verdict


def default_params(folder: Path) -> list[Object]:
    return read(folder / "params.yaml") if (folder / "params.yaml").exists() else []


def ask_policies(judge: Judge, folders: list[Path], request: Example, params: list[Object]) -> list[dict[str, Any]]:
    """Return the verdict of each policy with its binding, which selects among the parameters by name."""
    pairs = [read(folder / "policy.yaml") for folder in folders]
    debug = request.old is not None and "ephemeralContainers" in request.item["spec"]
    answer = judge.ask(
        "policy",
        policies=[policy for policy, _ in pairs],
        bindings=[binding for _, binding in pairs],
        params=params,
        object=request.item,
        oldObject=request.old,
        operation="CREATE" if request.old is None else "UPDATE",
        subresource="ephemeralcontainers" if debug else "",
        namespaceObject=request.namespace,
        userInfo=describe_user(request.user),
        options={"fieldManager": request.manager} if request.manager else None,
    )
    assert "error" not in answer, answer["error"]
    verdicts: list[dict[str, Any]] = answer["results"]
    assert [verdict["policy"] for verdict in verdicts] == [policy["metadata"]["name"] for policy, _ in pairs]
    return verdicts


def describe_user(name: str) -> Object | None:
    """Return a user as the API server authenticates them; a service account is in the groups of its namespace."""
    groups = ["system:authenticated"]
    if name.startswith("system:serviceaccount:"):
        groups += ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"]
    return {"username": name, "groups": groups} if name else None


def examples(side: str) -> list[Any]:
    return [
        pytest.param(folder, path, id=f"{folder.name}-{path.stem}")
        for folder in POLICIES
        for path in sorted((folder / side).glob("*.yaml"))
    ]


@pytest.mark.parametrize(("folder", "path"), examples("good"))
def test_a_good_example_passes(judge: Judge, folder: Path, path: Path) -> None:
    verdict = ask(judge, folder, example(path))
    assert verdict["errors"] == []
    assert verdict["denials"] == []
    assert verdict["allowed"]


@pytest.mark.parametrize(("folder", "path"), examples("bad"))
def test_a_bad_example_is_rejected_with_the_expected_message(judge: Judge, folder: Path, path: Path) -> None:
    request = example(path)
    assert request.expect
    verdict = ask(judge, folder, request)
    assert verdict["matched"]
    assert not verdict["allowed"]
    messages = [entry["message"] for entry in (*verdict["denials"], *verdict["errors"])]
    assert any(request.expect in message for message in messages), messages
    # The message must come from the policy, not from a failed expression.
    if verdict["denials"]:
        assert verdict["errors"] == []
        assert not [message for message in messages if "failed expression" in message or "resulted in error" in message]


@pytest.mark.parametrize("folder", POLICIES, ids=lambda folder: folder.name)
def test_a_policy_is_valid_and_complete(judge: Judge, folder: Path) -> None:
    policy, binding = read(folder / "policy.yaml")
    for item in (policy, binding):
        answer = judge.ask("object", object=item)
        assert answer["ok"], answer["errors"]
        assert item["metadata"]["name"] == f"ebbtide-{folder.name}"
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["validationActions"] == ["Deny"]
    for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
        assert rule["operations"] == ["CREATE", "UPDATE"]
    for validation in policy["spec"]["validations"]:
        assert {"message", "messageExpression"} & set(validation), validation["expression"]
    # Type errors of expressions, which the API server would write to the status of the policy.
    some = example(min((folder / "good").glob("*.yaml")))
    verdict = ask(judge, folder, some)
    assert verdict["errors"] == []
    assert [warning["message"] for warning in verdict.get("warnings", [])] == []
    assert list((folder / "bad").glob("*.yaml"))


def test_shared_variables_are_the_same_everywhere() -> None:
    expressions: dict[str, str] = {}
    for folder in POLICIES:
        policy = read(folder / "policy.yaml")[0]
        for variable in policy["spec"].get("variables", []):
            if variable["name"] in SHARED:
                assert expressions.setdefault(variable["name"], variable["expression"]) == variable["expression"], (
                    folder.name
                )
    conditions = [read(folder / "policy.yaml")[0]["spec"]["matchConditions"][:2] for folder in POLICIES]
    assert all(pair == conditions[0] for pair in conditions)


#: Resources that a member can create and that own no pods.
OWN_NO_PODS = {
    "backends",
    "domainmappings",
    "horizontalpodautoscalers",
    "httproutefilters",
    "httproutes",
    "localmodelnamespacecaches",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "pods/exec",
    "pods/portforward",
    "resourceclaimtemplates",
    "secrets",
    "serviceaccounts",
}


@pytest.mark.parametrize("name", ["project", "priority-class"])
def test_every_owner_of_pods_that_a_member_can_write_is_judged(name: str) -> None:
    """KAI reads the queue and the priority class of the owner's labels before those of the pods."""
    owners = {
        (group, resource)
        for rule in projects.MEMBER_RULES
        if {"create", "patch"} & {*rule["verbs"]}
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    constraints = read(ROOT / "policies" / name / "policy.yaml")[0]["spec"]["matchConstraints"]["resourceRules"]
    judged = {(rule["apiGroups"][0], resource) for rule in constraints for resource in rule["resources"]}
    assert {pair for pair in owners - judged if pair[1] not in OWN_NO_PODS} == set()


def test_every_policy_is_in_the_kustomization() -> None:
    (document,) = read(ROOT / "policies" / "kustomization.yaml")
    expected = {f"{folder.name}/policy.yaml" for folder in POLICIES}
    expected |= {f"{folder.name}/params.yaml" for folder in POLICIES if (folder / "params.yaml").exists()}
    assert set(document["resources"]) == expected | {"namespace.yaml"}


def test_the_list_of_classes_matches_the_package() -> None:
    (params,) = read(ROOT / "policies" / "priority-class" / "params.yaml")
    expected = [*Scheduling().classes, *(row.name for row in priority.list_level_classes())]
    assert params["data"] == dict.fromkeys(expected, "*")


def rendered() -> list[Any]:
    return [pytest.param(folder, id=folder.name) for folder in cases.RENDERED]


def namespace_of(item: Object, **labels: str) -> Object:
    """Return the namespace of an Ebbtide object, with a cap that is too high to reject any number of replicas."""
    project = get_at(item, "metadata", "labels", PROJECT)
    project_labels = {PROJECT: project} if project else {"ebbtide.dev/projects": "none"}
    name = item["metadata"].get("namespace", "default")
    return {
        "metadata": {
            "name": name,
            "labels": {**project_labels, **labels},
            "annotations": {"ebbtide.dev/max-replicas": "1000"},
        }
    }


def class_list(*names: str) -> Object:
    """Return the list of classes with additional classes, which a cluster administrator would add."""
    (params,) = read(ROOT / "policies" / "priority-class" / "params.yaml")
    return {**params, "data": {**params["data"], **dict.fromkeys(names, "*")}}


def assert_passes(judge: Judge, item: Object, space: Object, classes: Object) -> None:
    own = [
        classes if policy.name == "priority-class" else params
        for policy in POLICIES
        for params in default_params(policy)
    ]
    for verdict in ask_policies(judge, POLICIES, Example("", item, None, space, None), own):
        assert verdict["errors"] == [], verdict["policy"]
        assert [entry["message"] for entry in verdict["denials"]] == [], verdict["policy"]


@pytest.mark.parametrize("folder", rendered())
def test_every_golden_output_passes(judge: Judge, folder: Path) -> None:
    classes = class_list(*cases.profile(folder).spec.scheduling.classes)
    for item in read(cases.expected_folder(folder) / "expected.yaml"):
        if item["kind"] in JUDGED:
            assert_passes(judge, item, namespace_of(item), classes)


@pytest.mark.parametrize("folder", rendered())
def test_the_objects_that_knative_creates_pass(judge: Judge, folder: Path) -> None:
    spec = cases.profile(folder).spec
    config = {part: dict(getattr(spec.knative, part)) for part in ("features", "autoscaler", "defaults", "deployment")}
    classes = class_list(*spec.scheduling.classes)
    for item in read(cases.expected_folder(folder) / "expected.yaml"):
        if item["kind"] != "Service":
            continue
        answer = judge.ask("knative", object=item, config=config)
        assert answer["errors"] == []
        assert_passes(judge, answer["object"], namespace_of(item), classes)
        for revision in answer["revisions"]:
            template = revision["deployment"]["object"]["spec"]["template"]
            metadata = {
                **template["metadata"],
                "name": "one",
                "namespace": item["metadata"].get("namespace", "default"),
            }
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            assert_passes(judge, pod, namespace_of(item), classes)


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
def test_the_objects_that_kserve_creates_pass(kserve_judge: Judge, kind: str) -> None:
    """KServe creates the Knative Service, so its admission must not fail because of fields that a user cannot set."""
    mode = "Knative" if kind == "Service" else "Standard"
    item = example(ROOT / "policies" / "restricted" / "good" / "model.yaml").item
    container = {"name": "kserve-container", "image": "registry.example.com/acme/llama:1"}
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    item["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": mode}
    item["spec"]["predictor"] = {"maxReplicas": 3, "containers": [{**container, "securityContext": context}]}
    answer = kserve_judge.ask("kserve", object=item)
    assert answer["errors"] == []
    assert_passes(kserve_judge, answer["object"], namespace_of(item), class_list())
    if mode == "Knative":
        assert_passes(kserve_judge, answer["ksvc"], namespace_of(item), class_list())


@pytest.mark.parametrize("environment", ["dev", "staging", "production"])
def test_every_overlay_passes_in_its_environment(judge: Judge, run: Callable[..., Ran], environment: str) -> None:
    folder = ROOT / "overlays" / environment
    files = [str(path) for path in sorted((folder / "specs").glob("*.yaml")) if path.name != "kustomization.yaml"]
    rendered = run("render", "--quiet", "--profile", folder, *files)
    assert rendered.code == 0, rendered.err
    objects = [document.data for document in manifests.read_documents(rendered.out, environment)]
    workloads = [item for item in objects if item["kind"] in JUDGED]
    assert workloads
    for item in workloads:
        assert_passes(judge, item, namespace_of(item, **{"ebbtide.dev/environment": environment}), class_list())
