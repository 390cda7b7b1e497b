"""The admission policies on the real API server: their examples, every golden output, and ways around them.

The bindings are narrowed to namespaces of this case, so that nothing else on the cluster is judged.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.kubectl import KubectlError
from e2e.paths import ROOT
from e2e.stage import Stage

Object = dict[str, Any]

POLICIES: Final = ROOT / "policies"
LIST: Final = "ebbtide-priority-class"
SYSTEM: Final = "ebbtide-system"
OURS: Final = "ebbtide.dev/e2e"
"""The label of the case's namespaces."""
ABOUT: Final = "ebbtide.dev/e2e-policy"
"""The label of a namespace for the examples of one policy: they need not be lawful by the others."""
PROJECT: Final = "ebbtide.dev/project"
EXPECT: Final = "ebbtide.dev/expect"
USER: Final = "ebbtide.dev/user"
DENIED: Final = "ValidatingAdmissionPolicy '"
JUDGED: Final = {
    "Service",
    "InferenceService",
    "HorizontalPodAutoscaler",
    "ScaledObject",
    "DaemonSet",
    "Job",
    "LLMInferenceService",
}
IMAGE: Final = "ebbtide.local/e2e/load:v1"
SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
CAP: Final = {"ebbtide.dev/max-replicas": "1000"}
BEFORE: Final = {"gpu-share/bad/nonsense": "quantities must match the regular expression"}
"""Bad examples that another component rejects before the policy can, with its message."""


@dataclass(eq=False)
class Example:
    """One file of a policy's good or bad examples."""

    file: Path
    item: Object
    old: Object | None
    namespace: Object
    params: Object | None
    expect: str

    @property
    def policy(self) -> str:
        return self.file.parent.parent.name

    @property
    def name(self) -> str:
        return f"{self.policy}/{self.file.parent.name}/{self.file.stem}"

    @property
    def words(self) -> str:
        """The message that is expected; empty: the object must be admitted."""
        told = self.namespace["metadata"]["name"]
        return BEFORE.get(self.name, rename(self.expect, told, self.item["metadata"]["namespace"]))


def rename(text: str, told: str, actual: str) -> str:
    """Return a text about a namespace with the name that the case gives it: in messages, and in host names."""
    return text.replace(f"namespace {told}", f"namespace {actual}").replace(f".{told}.svc", f".{actual}.svc")


def test_examples(stage: Stage) -> None:
    """Every bad example is refused with the words that it expects, and every good one is admitted."""
    kinds = list_kinds(stage)
    examples = [example for example in read() if (example.item["apiVersion"], example.item["kind"]) in kinds]
    spaces = place(stage, examples)
    assert len(spaces) > 1
    with namespaces(stage, spaces):
        stage.kubectl.apply([example.old for example in examples if example.old])
        with installed(stage):
            plain = [example for example in examples if example.params is None]
            with ThreadPoolExecutor(4) as several:
                found = dict(zip(plain, several.map(lambda one: answer(stage, one), plain), strict=True))
            for example in examples:
                if example.params is not None:
                    with listed(stage, example.params):
                        found[example] = answer(stage, example)
    wrong = {example.name: said for example, said in found.items() if not right(example, said)}
    assert wrong == {}, json.dumps(wrong, indent=1)
    stage.report(
        refused=sum(bool(example.words) for example in found), admitted=sum(not example.words for example in found)
    )


def test_outputs_pass_the_policies(stage: Stage) -> None:
    """No policy objects to what Ebbtide makes."""
    items = [*outputs()]
    names = sorted({project(item) for item in items})
    spaces = {name: f"{stage.namespace}-{name or 'none'}" for name in names}
    objects = [
        namespace(stage, spaces[name], {PROJECT: name} if name else {"ebbtide.dev/projects": "none"}, CAP)
        for name in names
    ]
    for item in items:
        item["metadata"]["namespace"] = spaces[project(item)]
    with namespaces(stage, objects), installed(stage):
        every = {item["metadata"]["name"]: "*" for item in stage.kubectl.get("priorityclass")["items"]}
        every |= dict.fromkeys(classes(items), "*")
        with listed(stage, {"metadata": {"name": LIST}, "data": every}):
            refusals = [line for line in ask(stage, items).splitlines() if DENIED in line]
    assert refusals == []
    stage.report(objects=len(items))


def project(item: Object) -> str:
    """Return an object's project; an imported object without Ebbtide's defaults has no labels."""
    name: str = item["metadata"].get("labels", {}).get(PROJECT, "")
    return name


def test_ways_around(stage: Stage) -> None:
    """A refused service is refused in other forms too, or the form is a limit that the policy's text names."""
    space = namespace(stage, f"{stage.namespace}-0", {PROJECT: "team"}, {"ebbtide.dev/max-replicas": "4"})
    where = space["metadata"]["name"]
    with namespaces(stage, [space]), installed(stage):
        privileged = {"name": "work", "image": IMAGE, "securityContext": {"privileged": True}}
        refused = f"{DENIED}ebbtide-restricted'"
        stage.until("a pod of its own is refused", lambda: refused in ask(stage, [bare(where, privileged)]))
        stage.kubectl.apply([deployment(where, privileged)])
        stage.until(
            "a deployment's pods are refused, and it says so",
            lambda: any(refused in row["message"] for row in stage.kubectl.get("events", "-n", where)["items"]),
        )
        assert not stage.kubectl.get("pods", "-n", where)["items"]

        held_autoscaler(stage, where)
        quiet = deployment(where, {"name": "work", "image": IMAGE, "securityContext": SECURITY}, replicas=40)
        assert ask(stage, [quiet]) == "", "a Deployment of so many replicas is a limit that the policy names"


def test_ebbtides_own_server(stage: Stage) -> None:
    """The server's pod is admitted even into a project's namespace, where the policies judge it."""
    space = namespace(stage, f"{stage.namespace}-0", {PROJECT: "team"}, CAP)
    where = space["metadata"]["name"]
    base = ROOT / "kustomize" / "ebbtide"
    account, server = (
        yaml.safe_load((base / file).read_text()) for file in ("service-account.yaml", "deployment.yaml")
    )
    account["metadata"]["namespace"] = where
    template = server["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": "ebbtide", "namespace": where}
    looser = copy.deepcopy(pod)
    looser["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with namespaces(stage, [space]), installed(stage):
        stage.kubectl.apply([account])
        stage.until("a looser one is refused", lambda: DENIED in ask(stage, [looser]))
        assert ask(stage, [pod]) == ""


def held_autoscaler(stage: Stage, space: str) -> None:
    """See that an autoscaler that is deleted, and works on as long as a finalizer holds it, gets no more replicas."""
    held = ("hpa", "held", "-n", space)
    stage.kubectl.apply([autoscaler(space, 3)])
    try:
        for _ in range(2):
            assert "can create up to 9 replicas" in patched(stage, *held, spec={"maxReplicas": 9})
            stage.kubectl.run("delete", *held, "--wait=false")
    finally:
        shed = patched(stage, *held, metadata={"finalizers": None})
    assert shed == ""


@contextmanager
def installed(stage: Stage) -> Iterator[None]:
    """Have the policies, for this case's namespaces only, and wait until each of them is in force."""
    made = [*yaml.safe_load_all(stage.kubectl.run("kustomize", str(POLICIES)))]
    for item in made:
        if item["kind"].endswith("Binding"):
            selector = item["spec"]["matchResources"]["namespaceSelector"]
            about = item["spec"]["policyName"].removeprefix("ebbtide-")
            selector["matchExpressions"] += [
                {"key": OURS, "operator": "In", "values": [stage.project]},
                {"key": ABOUT, "operator": "In", "values": [about, "all"]},
            ]
    stage.kubectl.apply(made)
    try:
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            names = [item["metadata"]["name"] for item in made if item["kind"].lower() == kind]
            stage.kubectl.run("delete", kind, *names, "--ignore-not-found")
        stage.kubectl.run("delete", "namespace", SYSTEM, "--ignore-not-found")


@contextmanager
def namespaces(stage: Stage, objects: list[Object]) -> Iterator[None]:
    """Have these namespaces, and what Kubernetes puts into each."""
    names = [item["metadata"]["name"] for item in objects]
    stage.kubectl.apply(objects)
    try:
        for name in names:
            stage.until("it has its account", lambda n=name: stage.kubectl.get("sa", "-n", n)["items"])  # type: ignore[misc]
        yield
    finally:
        stage.kubectl.run("delete", "namespace", *names, "--ignore-not-found")


@contextmanager
def listed(stage: Stage, params: Object) -> Iterator[None]:
    """Have this list of classes instead of the usual one."""
    where = ("configmap", LIST, "-n", SYSTEM)
    usual = stage.kubectl.get(*where)
    stage.kubectl.run("delete", *where)
    stage.kubectl.apply([config_map(params["metadata"]["name"], params["data"])])
    try:
        yield
    finally:
        stage.kubectl.run("delete", "configmap", params["metadata"]["name"], "-n", SYSTEM)
        stage.kubectl.apply([config_map(LIST, usual["data"])])


def config_map(name: str, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": SYSTEM},
        "data": dict(data),
    }


def read() -> Iterator[Example]:
    """Yield the examples as their files have them."""
    for file in sorted(POLICIES.glob("*/good/*.yaml")) + sorted(POLICIES.glob("*/bad/*.yaml")):
        found = list(yaml.safe_load_all(file.read_text()))
        kinds = {item["kind"]: item for item in found}
        items = [item for item in found if item["kind"] not in {"Namespace", "ConfigMap"}]
        for one in items:
            # An object that is being deleted can't be created; one is deleted below.
            one["metadata"].pop("deletionTimestamp", None)
            one["metadata"].pop("finalizers", None)
        item = items[-1]
        if USER in item["metadata"].get("annotations", {}):
            # This case runs as an administrator.
            continue
        expect = item["metadata"].get("annotations", {}).pop(EXPECT, "")
        old = items[0] if len(items) > 1 else None
        yield Example(file, item, old, kinds["Namespace"], kinds.get("ConfigMap"), expect)


def list_kinds(stage: Stage) -> set[tuple[str, str]]:
    """Return the versions and kinds that the API server has: it knows those of a gateway once that has been installed."""
    rows = [line.split() for line in stage.kubectl.run("api-resources", "--no-headers").splitlines()]
    return {(version, kind) for *_, version, _, kind in rows}


def place(stage: Stage, examples: list[Example]) -> list[Object]:
    """Create one namespace per kind of example, and one per update, and return them."""
    spaces: dict[str, Object] = {}
    for example in examples:
        metadata = example.namespace["metadata"]
        labels = {**(metadata.get("labels") or {}), ABOUT: example.policy}
        told = json.dumps([labels, metadata.get("annotations"), example.name if example.old else ""])
        if told not in spaces:
            name = f"{stage.namespace}-{len(spaces)}"
            spaces[told] = namespace(stage, name, labels, metadata.get("annotations"))
        for item in (example.item, example.old):
            if item is not None:
                item["metadata"]["namespace"] = actual = spaces[told]["metadata"]["name"]
                item["spec"] = json.loads(rename(json.dumps(item["spec"]), metadata["name"], actual))
                if example.old is not None and item["kind"] == "Service":
                    template = item["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})
                    template["autoscaling.knative.dev/initial-scale"] = "0"
    return list(spaces.values())


def namespace(stage: Stage, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None) -> Object:
    """Return a namespace of this case, which all policies look at, or one of them."""
    metadata = {"name": name, "labels": {ABOUT: "all", **labels, OURS: stage.project}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def answer(stage: Stage, example: Example) -> str:
    """Return what is said to an example in the end: the API server may not have read a policy or its list yet."""
    said = ""

    def settled() -> bool:
        nonlocal said
        said = ask(stage, [example.item], update=example.old is not None)
        return right(example, said)

    with suppress(AssertionError):
        stage.until("it is settled", settled, 30 if example.params is None else 120)
    return said


def right(example: Example, said: str) -> bool:
    """Return whether this is the expected answer. Knative may refuse what the policy admits, for a missing class."""
    return example.words in said if example.words else DENIED not in said


def ask(stage: Stage, items: list[Object], *, update: bool = False) -> str:
    """Return what the server says to these objects, without keeping them."""
    try:
        (item, *others) = items
        if not others and "ephemeralContainers" in item["spec"]:
            metadata = item["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/ephemeralcontainers?dryRun=All"
            stage.kubectl.run("replace", f"--raw={path}", "-f", "-", stdin=json.dumps(item))
        elif update and item["kind"] == "Revision":
            # A revision's spec has defaults that an applied one would take away, and cannot be changed.
            where = ("-n", item["metadata"]["namespace"], "--dry-run=server")
            metadata = {key: item["metadata"].get(key, {}) for key in ("labels", "annotations")}
            live = stage.kubectl.get("revision", item["metadata"]["name"], *where[:2])["metadata"].get("labels", {})
            # A patch keeps what it does not name.
            removed = {key: None for key in live if not key.startswith("serving.knative.dev/")}
            metadata["labels"] = removed | metadata["labels"]
            change = json.dumps({"metadata": metadata})
            stage.kubectl.run("patch", "revision", item["metadata"]["name"], *where, "--type=merge", "-p", change)
        else:
            stage.kubectl.apply(items, "--dry-run=server")
    except KubectlError as error:
        return str(error)
    return ""


def outputs() -> Iterator[Object]:
    """Yield every golden output and example that a policy may be about."""
    for folder in ("tests/golden", "tests/examples"):
        for file in sorted((ROOT / folder).glob("*/expected.yaml")):
            for item in yaml.safe_load_all(file.read_text()):
                if item["kind"] in JUDGED:
                    yield copy.deepcopy(item)


def classes(items: list[Object]) -> set[str]:
    """Return the priority classes that these objects name."""
    pods = [
        item["spec"]["template"]["spec"] if item["kind"] == "Service" else item["spec"].get("predictor", {})
        for item in items
        if item["kind"] in {"Service", "InferenceService"}
    ]
    return {pod["priorityClassName"] for pod in pods if "priorityClassName" in pod}


def bare(space: str, container: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare", "namespace": space},
        "spec": {"containers": [container]},
    }


def deployment(space: str, container: Object, replicas: int = 1) -> Object:
    labels = {"app": "work"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "work", "namespace": space},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def autoscaler(space: str, replicas: int) -> Object:
    """Return an HPA that its owner's finalizer keeps alive when it is deleted."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "held", "namespace": space, "finalizers": ["ebbtide.dev/e2e"]},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "work"},
            "maxReplicas": replicas,
        },
    }


def patched(stage: Stage, kind: str, *name: str, **changes: Object) -> str:
    """Return what is said to this change of an object."""
    try:
        stage.kubectl.run("patch", kind, *name, "--type=merge", "-p", json.dumps(changes))
    except KubectlError as error:
        return str(error)
    return ""
