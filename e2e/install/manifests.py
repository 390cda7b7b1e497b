"""Read upstream's manifests and fit them to a small cluster."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.kubectl import Kubectl
from ebbtide.core.base.quantities import parse_whole_quantity

Object = dict[str, Any]

POD_TEMPLATES = {"Deployment", "StatefulSet", "DaemonSet"}
PROBES = {"livenessProbe", "readinessProbe"}
LEADER = ("--leader-elect", "--leader-elect=false")
"""An argument of controllers that run once here, and what replaces it: each election is a write every two seconds."""
CRITICAL = "system-cluster-critical"
"""The priority class of the installation: a workload that fills the node must not preempt the webhooks or Prometheus."""
GARBAGE_PERCENT = "400"
"""GOGC of the installation: less garbage collection, for more memory."""
MEMORY_SHARE = 0.8
"""Share of a memory limit above which Go collects as often as it must."""
PATIENT = 10
"""Seconds that a component may take to answer a probe: three answers later than Kubernetes' second, which a busy machine of two
cores brings about, take a webhook's only pod out of its Service, and with it every write of what it validates."""


def read(*places: Path) -> list[Object]:
    """Return the objects of these files, and of all YAML files right in these folders, in the order of their names."""
    files = [
        file
        for place in places
        for file in (sorted(place.glob("*.yaml")) if place.is_dir() else [place])
        if file.exists()
    ]
    return [item for file in files for item in parse(file.read_text())]


def parse(text: str) -> list[Object]:
    """Return the objects of a YAML text."""
    return [item for item in yaml.load_all(text, Loader=_Loader) if item]


class _Loader(yaml.CSafeLoader):
    """YAML as Go reads it in one more place: a lone `=`, a regular expression's operator in a CRD, is text."""


_Loader.yaml_implicit_resolvers = {
    first: found for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items() if first != "="
}


def fit(objects: Iterable[Object], image: Callable[[str], str]) -> Iterator[Object]:
    """Give images their names on this cluster, and let pods start on a node of two cores.

    Limits stay as upstream has them, requests do not: a test cluster schedules everything on one node, and what
    it asks for is not what it uses.
    """
    for item in objects:
        if item["kind"] in POD_TEMPLATES:
            pod = item["spec"]["template"]["spec"]
            pod.setdefault("priorityClassName", CRITICAL)
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                container["image"] = image(container["image"])
                container["imagePullPolicy"] = "IfNotPresent"
                if LEADER[0] in (arguments := container.get("args", ())):
                    arguments[arguments.index(LEADER[0])] = LEADER[1]
                for probe in PROBES & container.keys():
                    container[probe]["timeoutSeconds"] = max(PATIENT, container[probe].get("timeoutSeconds", 0))
                resources = container.setdefault("resources", {})
                resources["requests"] = {"cpu": "5m", "memory": "32Mi"}
                container["env"] = _with_less_collection(container.get("env", ()), resources.get("limits", {}))
        elif item["kind"] == "Image":
            item["spec"]["image"] = image(item["spec"]["image"])
        yield item


def _with_less_collection(variables: Iterable[Object], limits: Mapping[str, Any]) -> list[Object]:
    """Return the variables of a container with Go's for garbage collection; programs in other languages ignore them."""
    own = {"GOGC": GARBAGE_PERCENT}
    limit = parse_whole_quantity(limits.get("memory", ""))
    if limit is not None:
        own["GOMEMLIMIT"] = str(int(limit * MEMORY_SHARE))
    others = (each for each in variables if each["name"] not in own)
    return [*others, *({"name": name, "value": value} for name, value in own.items())]


def kustomize(kubectl: Kubectl, folder: Path, objects: Iterable[Object], components: Iterable[Path]) -> list[Object]:
    """Return the objects as our kustomize components change them, through kubectl's own kustomize."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    told = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["objects.json"],
        "components": [os.path.relpath(component, folder) for component in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(told))
    return parse(kubectl.run("kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)))


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """Return a ConfigMap with these keys alone: server-side apply leaves the others as they are."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }


def namespace(name: str) -> Object:
    """Return a namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def find_node_address(kubectl: Kubectl) -> str:
    """Return the first node's address in the network of the engine."""
    node, *_ = kubectl.get("nodes")["items"]
    return next(str(row["address"]) for row in node["status"]["addresses"] if row["type"] == "InternalIP")
