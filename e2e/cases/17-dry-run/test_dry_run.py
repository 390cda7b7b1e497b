"""Every golden output and example, as the server would take it: `kubectl apply --dry-run=server`, with all webhooks.

Knative's and KServe's webhooks run, and in a dry run Knative asks for the pod as well, so quotas, Pod Security and
admission plug-ins have their say. Kinds that this cluster does not have are judged by their schemas alone, offline.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.paths import ROOT
from e2e.stage import Stage
from ebbtide.core.profile.built_in import OTHER_FLAGS
from ebbtide.core.translation.serving.knative import EVERY_FLAG

FOLDERS: Final = ("tests/golden", "tests/examples")
FLAGS: Final = "config-features"
PARTS: Final = ("features", "autoscaler", "defaults", "deployment", "observability")
"""Parts of Knative's ConfigMaps that a profile records."""
REFUSED: Final = {
    "priority-classes-equal": "value: Forbidden: may not be changed in an update",
    **dict.fromkeys(("llm-one-at-a-time", "llm-update-strategy"), "spec.rolloutStrategy"),
}
"""Cases that this cluster must refuse: it has the class with another value, and KServe 0.20."""
FOREIGN: Final = ("import-", "defaults-none", "patch-by-key")
"""Starts of the names of cases without Ebbtide's defaults, which may have no security context."""
OUR_WORDS: Final = "Kubernetes default value is insecure"
"""Knative's warning for a service without a security context, as imported ones may be."""
GUARDED: Final = "capability"
KEPT_OUT: Final = "must not set the field(s)"
"""An output that needs a flag that is off here, and what Knative says until it is on."""
GATED: Final = {"capacity"}
"""Fields that the API server drops silently, since their feature gate is off: parts of a DRA device."""
SCHEDULING: Final = "scheduling.k8s.io/v1"


@dataclass(frozen=True)
class Output:
    """The objects of one case's file."""

    name: str
    texts: tuple[str, ...]
    objects: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Answer:
    """kubectl's answer to one output."""

    name: str
    error: str
    objects: tuple[dict[str, Any], ...]


def test_every_output_is_admitted(stage: Stage, ground: list[Output]) -> None:
    """All are admitted without a warning, and nothing that they say is changed or added to."""
    with ThreadPoolExecutor(4) as several:
        answers = list(several.map(lambda output: ask(stage, output), ground))
    said = {answer.name: answer.error for answer in answers if answer.error}
    for name, words in REFUSED.items():
        assert words in said.pop(name)
    spoken = {name for name, text in said.items() if OUR_WORDS in text}
    assert {name for name in spoken if not name.startswith(FOREIGN)} == set()
    assert {name: text for name, text in said.items() if name not in spoken} == {}
    changed = {
        answer.name: found
        for answer, output in zip(answers, ground, strict=True)
        if (found := [*changes(output.objects, answer.objects)])
    }
    assert changed == {}
    stage.report(outputs=len(ground), objects=sum(len(output.objects) for output in ground))


def test_profiles_know_what_knative_knows(stage: Stage) -> None:
    """Every flag and setting that a profile of ours names, or that we know, is one that this Knative's ConfigMaps explain."""
    known = {part: explained(stage, part) for part in PARTS}
    unknown = {
        (file.parent.name, file.name, part, key)
        for file in profiles()
        for part in PARTS
        for key in knative(file).get(part, {})
        if key not in known[part]
    }
    assert unknown == set()
    assert {*EVERY_FLAG, *OTHER_FLAGS} - known["features"] == set()


@pytest.fixture
def ground(stage: Stage) -> Iterator[list[Output]]:
    """Create the prerequisites of the outputs, since a dry run creates nothing that the next object could use."""
    outputs = [*read(stage)]
    everything = [item for output in outputs for item in output.objects]
    made = [*needed(everything, classes_of(stage))]
    before = stage.kubectl.get("configmap", FLAGS, "-n", "knative-serving")["data"]
    flags = {key: value for key, value in every_flag().items() if before.get(key, "disabled") == "disabled"}
    guarded = next(output for output in outputs if output.name == GUARDED)
    try:
        stage.kubectl.apply(made)
        assert KEPT_OUT in ask(stage, guarded).error
        set_flags(stage, flags)
        stage.until("Knative has read the flags", lambda: KEPT_OUT not in ask(stage, guarded).error)
        yield outputs
    finally:
        set_flags(stage, {key: before.get(key) for key in flags})
        names = [f"{item['kind']}/{item['metadata']['name']}" for item in made if item["kind"] != "ServiceAccount"]
        stage.kubectl.run("delete", "--ignore-not-found", *names)
        for item in made:
            if item["kind"] == "ServiceAccount":
                where = item["metadata"]["namespace"]
                stage.kubectl.run("delete", "sa", item["metadata"]["name"], "-n", where, "--ignore-not-found")


def read(stage: Stage) -> Iterator[Output]:
    """Yield every case's objects of kinds that this cluster serves, as rendered."""
    served = set(stage.kubectl.run("api-resources", "--no-headers").split())
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).glob("*/expected.yaml")):
            texts = file.read_text().split("\n---\n")
            pairs = [(text, yaml.safe_load(text)) for text in texts]
            here = [(text, item) for text, item in pairs if {item["kind"], item["apiVersion"]} <= served]
            if here:
                yield Output(file.parent.name, *map(tuple, zip(*here, strict=True)))


def needed(items: list[dict[str, Any]], known: set[str]) -> Iterator[dict[str, Any]]:
    """Yield namespaces, classes and accounts that these objects name. A namespace is as they themselves make it."""
    own = {item["metadata"]["name"]: item for item in items if item["kind"] == "Namespace"}
    names = {item["metadata"].get("namespace", "default") for item in items} - {"default"}
    for name in sorted(names | own.keys()):
        yield own.get(name) or {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    pods = [(item, pod) for item in items for pod in pods_of(item)]
    for name in sorted({pod["priorityClassName"] for _, pod in pods if "priorityClassName" in pod} - known):
        yield {"apiVersion": SCHEDULING, "kind": "PriorityClass", "metadata": {"name": name}, "value": 1}
    for name in sorted({pod["runtimeClassName"] for _, pod in pods if "runtimeClassName" in pod}):
        yield {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "runc"}
    for name, where in sorted(
        {
            (pod["serviceAccountName"], item["metadata"].get("namespace", "default"))
            for item, pod in pods
            if "serviceAccountName" in pod
        }
    ):
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": where}}


def pods_of(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pod specs in a Knative Service or an InferenceService."""
    if item["kind"] == "Service":
        yield item["spec"]["template"]["spec"]
    elif item["kind"] == "InferenceService":
        yield from item["spec"].values()


def containers_of(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the containers in it; a model is one, under another name."""
    for pod in pods_of(item):
        yield from pod.get("containers", ())
        if "model" in pod:
            yield pod["model"]


def classes_of(stage: Stage) -> set[str]:
    return {item["metadata"]["name"] for item in stage.kubectl.get("priorityclass")["items"]}


def ask(stage: Stage, output: Output) -> Answer:
    """Ask what the server would do with this."""
    program = [str(stage.kubectl.program), f"--kubeconfig={stage.kubectl.kubeconfig}"]
    options = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "json", "-f", "-"]
    text = "\n---\n".join(output.texts)
    done = subprocess.run([*program, *options], input=text, check=False, capture_output=True, text=True, timeout=300)
    answer = json.loads(done.stdout) if done.returncode == 0 else {"items": []}
    return Answer(output.name, done.stderr.strip(), tuple(answer.get("items", [answer])))


def changes(told: tuple[dict[str, Any], ...], taken: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """Yield what got lost, and where a container got resources that its spec has not: limits of a webhook's own."""
    for ours, theirs in zip(told, taken, strict=False):
        yield from lost(ours, theirs, ours["kind"])
        for asked, got in zip(containers_of(ours), containers_of(theirs), strict=True):
            for side in ("requests", "limits"):
                before, after = (set(container.get("resources", {}).get(side, {})) for container in (asked, got))
                if before != after:
                    yield f"{ours['kind']} {side}: {sorted(before)} became {sorted(after)}"


def lost(told: Any, taken: Any, path: str) -> Iterator[str]:
    """Yield the fields that were sent and are missing. Values may be written in another form."""
    if isinstance(told, dict):
        for key, value in told.items():
            if key in taken:
                yield from lost(value, taken[key], f"{path}.{key}")
            elif value and key not in GATED:
                yield f"{path}.{key} is gone"
    elif isinstance(told, list):
        for index, (ours, theirs) in enumerate(zip(told, taken, strict=True)):
            yield from lost(ours, theirs, f"{path}[{index}]")


def profiles() -> list[Path]:
    """Return every profile that a golden case or an example is made with, and the suite's own."""
    return sorted(
        file
        for place in ("tests", "examples", "overlays", "e2e")
        for file in (ROOT / place).rglob("*.yaml")
        if is_profile(file)
    )


def is_profile(file: Path) -> bool:
    return file.name == "profile.yaml" or file.parent == ROOT / "tests/profiles"


def knative(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())["spec"].get("knative") or {}


def every_flag() -> dict[str, str]:
    """Return the flags that some profile has on, of those that only let more in."""
    return {
        key: "enabled"
        for file in profiles()
        for key, value in knative(file).get("features", {}).items()
        if value in {"enabled", "allowed"} and key.startswith("kubernetes.")
    }


def explained(stage: Stage, part: str) -> set[str]:
    """Return the keys of one of Knative's ConfigMaps, from the explanation that it carries; some are commented out there."""
    data = stage.kubectl.get("configmap", f"config-{part}", "-n", "knative-serving")["data"]
    return set(re.findall(r"^[ #]*([\w.-]+):", data["_example"], re.MULTILINE))


def set_flags(stage: Stage, flags: Mapping[str, str | None]) -> None:
    """Set feature flags, or take them away; more of them only let more in, so other cases are not disturbed."""
    if not flags:
        return
    patch = json.dumps({"data": flags})
    stage.kubectl.run("patch", "configmap", FLAGS, "-n", "knative-serving", "--type=merge", "-p", patch)
