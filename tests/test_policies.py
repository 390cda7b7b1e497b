"""Each policy passes its good examples and every golden output, and refuses its bad ones with the right words.

The judge is the API server's own admission code with its CEL, so what passes here passes there.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cases
from ebbtide import manifests
from ebbtide.profile.models import Scheduling
from ebbtide.translation import priority

if TYPE_CHECKING:
    from conftest import Judge
    from ebbtide.translation.objects import Object

ROOT = Path(__file__).parent.parent
POLICIES = sorted(path.parent for path in (ROOT / "policies").glob("*/policy.yaml"))
EXPECT = "ebbtide.dev/expect"
PROJECT = "ebbtide.dev/project"
#: Variables that stand in several policies, since one policy cannot use another's.
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
#: What a policy can be about, of all that Ebbtide makes.
JUDGED = {"Service", "InferenceService", "HorizontalPodAutoscaler", "ScaledObject"}


@cache
def read(path: Path) -> list[Object]:
    documents = list(manifests.read(path.read_bytes(), path.name))
    assert [problem for document in documents for problem in document.problems] == []
    return [document.data for document in documents]


@dataclass
class Example:
    """A request to the API server: the object, what was there before, its namespace, and the policy's list."""

    expect: str
    item: Object
    old: Object | None
    namespace: Object | None
    params: Object | None


def example(path: Path) -> Example:
    """Return the example in a file: a Namespace, at times a ConfigMap, an object or an old and a new one."""
    found = copy.deepcopy(read(path))
    namespace = next((item for item in found if item["kind"] == "Namespace"), None)
    params = next((item for item in found if item["kind"] == "ConfigMap"), None)
    items = [item for item in found if item["kind"] not in {"Namespace", "ConfigMap"}]
    item = items[-1]
    expect = item["metadata"].get("annotations", {}).pop(EXPECT, "")
    # An annotation that only the test knows must not be what makes an update a change.
    if item["metadata"].get("annotations") == {}:
        del item["metadata"]["annotations"]
    return Example(expect, item, items[0] if len(items) > 1 else None, namespace, params)


def ask(judge: Judge, folder: Path, request: Example) -> dict[str, Any]:
    """Return the verdict of one policy, by its own binding and list."""
    policy, binding = read(folder / "policy.yaml")
    params = [request.params] if request.params is not None else []
    if not params and (folder / "params.yaml").exists():
        params = read(folder / "params.yaml")
    debug = request.old is not None and "ephemeralContainers" in request.item["spec"]
    answer = judge.ask(
        "policy",
        policies=[policy],
        bindings=[binding],
        params=params,
        object=request.item,
        oldObject=request.old,
        operation="CREATE" if request.old is None else "UPDATE",
        subresource="ephemeralcontainers" if debug else "",
        namespaceObject=request.namespace,
    )
    assert "error" not in answer, answer["error"]
    (verdict,) = answer["results"]
    return dict(verdict)


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
def test_a_bad_example_is_refused_and_told_why(judge: Judge, folder: Path, path: Path) -> None:
    request = example(path)
    assert request.expect
    verdict = ask(judge, folder, request)
    assert verdict["matched"]
    assert not verdict["allowed"]
    said = [entry["message"] for entry in (*verdict["denials"], *verdict["errors"])]
    assert any(request.expect in message for message in said), said
    # What a policy says must be its own words, not those of an expression that broke.
    if verdict["denials"]:
        assert verdict["errors"] == []
        assert not [message for message in said if "failed expression" in message or "resulted in error" in message]


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
    # What the API server would write into the policy's status: expressions that don't fit the types.
    some = example(min((folder / "good").glob("*.yaml")))
    verdict = ask(judge, folder, some)
    assert verdict["errors"] == []
    assert [warning["message"] for warning in verdict.get("warnings", [])] == []
    assert list((folder / "bad").glob("*.yaml"))


def test_shared_variables_are_the_same_everywhere() -> None:
    seen: dict[str, str] = {}
    for folder in POLICIES:
        policy = read(folder / "policy.yaml")[0]
        for variable in policy["spec"].get("variables", []):
            if variable["name"] in SHARED:
                assert seen.setdefault(variable["name"], variable["expression"]) == variable["expression"], folder.name
    conditions = [read(folder / "policy.yaml")[0]["spec"]["matchConditions"][:2] for folder in POLICIES]
    assert all(found == conditions[0] for found in conditions)


def test_every_policy_is_in_the_kustomization() -> None:
    (document,) = read(ROOT / "policies" / "kustomization.yaml")
    expected = {f"{folder.name}/policy.yaml" for folder in POLICIES}
    expected |= {f"{folder.name}/params.yaml" for folder in POLICIES if (folder / "params.yaml").exists()}
    assert set(document["resources"]) == expected | {"namespace.yaml"}


def test_the_list_of_classes_is_the_package_s() -> None:
    (params,) = read(ROOT / "policies" / "priority-class" / "params.yaml")
    expected = [*Scheduling().classes, *(row.name for row in priority.every_class())]
    assert params["data"] == dict.fromkeys(expected, "*")


def rendered() -> list[Any]:
    return [pytest.param(folder, id=folder.name) for folder in cases.RENDERED]


def space_of(item: Object, **labels: str) -> Object:
    """Return the namespace of an object that Ebbtide made, with a cap so high that only its absence hurts."""
    project = item["metadata"]["labels"].get(PROJECT)
    own = {PROJECT: project} if project else {"ebbtide.dev/projects": "none"}
    name = item["metadata"].get("namespace", "default")
    return {
        "metadata": {"name": name, "labels": {**own, **labels}, "annotations": {"ebbtide.dev/max-replicas": "1000"}}
    }


def listed(*names: str) -> Object:
    """Return the list of classes with a cluster's own, which whoever made them would add."""
    (params,) = read(ROOT / "policies" / "priority-class" / "params.yaml")
    return {**params, "data": {**params["data"], **dict.fromkeys(names, "*")}}


def assert_passes(judge: Judge, item: Object, space: Object, classes: Object) -> None:
    for policy in POLICIES:
        params = classes if policy.name == "priority-class" else None
        verdict = ask(judge, policy, Example("", item, None, space, params))
        assert verdict["errors"] == [], policy.name
        assert [entry["message"] for entry in verdict["denials"]] == [], policy.name


@pytest.mark.parametrize("folder", rendered())
def test_every_golden_output_passes(judge: Judge, folder: Path) -> None:
    classes = listed(*cases.profile(folder).spec.scheduling.classes)
    for item in read(folder / "expected.yaml"):
        if item["kind"] in JUDGED:
            assert_passes(judge, item, space_of(item), classes)


@pytest.mark.parametrize("folder", rendered())
def test_what_knative_makes_of_it_passes_too(judge: Judge, folder: Path) -> None:
    spec = cases.profile(folder).spec
    config = {part: dict(getattr(spec.knative, part)) for part in ("features", "autoscaler", "defaults", "deployment")}
    classes = listed(*spec.scheduling.classes)
    for item in read(folder / "expected.yaml"):
        if item["kind"] != "Service":
            continue
        answer = judge.ask("knative", object=item, config=config)
        assert answer["errors"] == []
        assert_passes(judge, answer["object"], space_of(item), classes)
        for revision in answer["revisions"]:
            template = revision["deployment"]["object"]["spec"]["template"]
            metadata = {**template["metadata"], "name": "one", "namespace": item["metadata"]["namespace"]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            assert_passes(judge, pod, space_of(item), classes)


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
def test_what_kserve_makes_of_it_passes_too(judge: Judge, kind: str) -> None:
    """KServe makes the Knative Service itself, so its admission must not fail on what a user cannot set there."""
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
    answer = judge.ask("kserve", object=item)
    assert answer["errors"] == []
    assert_passes(judge, answer["object"], space_of(item), listed())
    if mode == "Knative":
        assert_passes(judge, answer["ksvc"], space_of(item), listed())


@pytest.mark.parametrize("environment", ["dev", "staging", "production"])
def test_every_overlay_passes_in_its_environment(judge: Judge, environment: str) -> None:
    folder = ROOT / "overlays" / environment
    files = [str(path) for path in sorted((folder / "specs").glob("*.yaml")) if path.name != "kustomization.yaml"]
    run = subprocess.run(
        [sys.executable, "-m", "ebbtide", "render", "--quiet", "--profile", str(folder), *files],
        capture_output=True,
        check=True,
    )
    made = [document.data for document in manifests.read(run.stdout, environment)]
    served = [item for item in made if item["kind"] in JUDGED]
    assert served
    for item in served:
        assert_passes(judge, item, space_of(item, **{"ebbtide.dev/environment": environment}), listed())
