"""Rules for containers and KServe components that a spec has in Kubernetes' own format.

Upstream: k8s.io/api core/v1 (Container), kserve pkg/apis/serving/v1beta1 (podspec.go, component.go, explainer.go).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import names
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Path, Problem, remove_field
from ebbtide.core.spec.rules.serving import IMAGE_FIX, is_image
from ebbtide.core.spec.rules.storage import HOST_PATH

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference

# fmt: off
CONTAINER_FIELDS: Final = frozenset({
    "name", "image", "imagePullPolicy", "command", "args", "workingDir", "ports", "env", "envFrom", "resources",
    "volumeMounts", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "securityContext", "restartPolicy",
    "terminationMessagePath", "terminationMessagePolicy",
})
COMPONENT_FIELDS: Final = frozenset({
    "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling", "containerConcurrency",
    "timeout", "canaryTrafficPercent", "logger", "batcher", "labels", "annotations", "deploymentStrategy", "storageUris",
    "containers", "initContainers", "volumes", "nodeSelector", "serviceAccountName", "automountServiceAccountToken",
    "securityContext", "imagePullSecrets", "affinity", "schedulerName", "tolerations", "priorityClassName",
    "runtimeClassName", "topologySpreadConstraints", "terminationGracePeriodSeconds", "resourceClaims",
    "enableServiceLinks", "dnsPolicy", "dnsConfig", "hostAliases", "shareProcessNamespace",
})
# fmt: on
#: Names that Knative and KServe give to containers of the pod.
TAKEN: Final = frozenset(
    {"user-container", "kserve-container", "queue-proxy", "agent", "storage-initializer", "modelcar"}
)
CONTAINERS: Final = ("containers", "initContainers")
#: Fields of a container that are lists, with the type of their items.
LISTS: Final[dict[str, tuple[type, str]]] = {
    **dict.fromkeys(("command", "args"), (str, "a list of strings")),
    **dict.fromkeys(("ports", "env", "envFrom", "volumeMounts"), (dict, "a list of mappings")),
}


def check_containers(inference: Inference) -> Iterator[Problem]:
    """Check sidecars, init containers, transformer and explainer."""
    spec = inference.spec
    seen: set[Any] = set(TAKEN)
    for field, items in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
        for index, item in enumerate(items):
            path = ("spec", field, index)
            yield from _check_container(path, item)
            name = item.get("name")
            if not isinstance(name, str) or len(name) > names.LONGEST or names.LABEL.fullmatch(name) is None:
                message = f"invalid container name {name!r}: must be lowercase letters, digits and dashes, at most 63 characters"
                yield Problem("SRV046", (*path, "name"), message, "set a name such as tokenizer")
            elif name in seen:
                message = f"container name {name} is already used in the pod"
                yield Problem("SRV046", (*path, "name"), message, "use another name")
            seen.add(name if isinstance(name, str) else None)
    for field, component in (("transformer", spec.transformer), ("explainer", spec.explainer)):
        if component is not None:
            yield from _check_component(("spec", field), component)


def _check_component(path: Path, component: dict[str, Any]) -> Iterator[Problem]:
    known = COMPONENT_FIELDS | ({"art"} if path[-1] == "explainer" else set())
    yield from _check_fields(path, component, known)
    kinds = [name for name in ("containers", "art") if component.get(name)]
    if len(kinds) != 1:
        art = " or art" if "art" in known else ""
        message, fix = (
            f"{path[-1]} needs exactly one server: a list of containers{art}",
            "set containers: [{name: kserve-container, image: …}]",
        )
        yield Problem("SRV046", path, message, fix)
    for field in CONTAINERS:
        items = component.get(field)
        if items is not None and not _is_list_of(items, dict):
            fix = "write a list of containers, each with an image"
            yield Problem("SRV046", (*path, field), f"invalid {field}: must be a list of mappings", fix)
            continue
        for index, item in enumerate(items or ()):
            yield from _check_container((*path, field, index), item)
    volumes = component.get("volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        if get_at(volume, "hostPath") is not None:
            yield Problem("STO001", (*path, "volumes", index), HOST_PATH, "use a persistent volume claim")


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _check_container(path: Path, item: dict[str, Any]) -> Iterator[Problem]:
    yield from _check_fields(path, item, CONTAINER_FIELDS)
    image = item.get("image")
    if not isinstance(image, str) or not is_image(image):
        message = "the image is missing" if image is None else f"invalid image reference {image!r}"
        yield Problem("SRV021", (*path, "image"), message, IMAGE_FIX)
    for field, (kind, expected) in LISTS.items():
        values = item.get(field)
        if values is not None and not _is_list_of(values, kind):
            yield Problem("SRV046", (*path, field), f"invalid {field}: must be {expected}", f"write {expected}")
    variables = item.get("env")
    for index, variable in enumerate(variables if isinstance(variables, list) else ()):
        if isinstance(variable, dict) and not isinstance(variable.get("name"), str):
            message = "invalid name of a variable: must be a string"
            yield Problem("SRV046", (*path, "env", index, "name"), message, "set a name such as LOG_LEVEL")
    security = item.get("securityContext")
    added = get_at(security, "capabilities", "add")
    ports = item.get("ports")
    for name, privilege, refused in (
        ("privileged", ("securityContext", "privileged"), get_at(security, "privileged")),
        ("allowPrivilegeEscalation", ("securityContext", "allowPrivilegeEscalation"), get_at(security, "allowPrivilegeEscalation")),
        ("capabilities.add", ("securityContext", "capabilities", "add"), added and added != ["NET_BIND_SERVICE"]),
        ("hostPort", ("ports",), isinstance(ports, list) and any(get_at(port, "hostPort") for port in ports)),
    ):  # fmt: skip
        if refused:
            message = f"{name} gives the container more privileges than the Pod Security Standards allow"
            yield Problem("SEC019", (*path, *privilege), message, "remove it", fixes=remove_field())


def _check_fields(path: Path, value: dict[str, Any], known: frozenset[str] | set[str]) -> Iterator[Problem]:
    for name in value:
        if name not in known:
            message = f"unknown or unsupported field {name}"
            fix = f"remove it; the valid fields are {', '.join(sorted(known))}"
            yield Problem("SRV046", (*path, name), message, fix, fixes=remove_field())
