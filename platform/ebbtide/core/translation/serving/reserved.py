"""Environment variables, labels and ports that are reserved by a controller, by the kind of serving object.

Upstream: knative.dev/serving pkg/apis/serving/k8s_validation.go (reservedEnvVars, reservedPorts), github.com/kserve/kserve
pkg/validation/env_policy.go (DefaultBlockedEnvVars, since 0.18), pkg/apis/serving/v1beta1/predictor_custom.go (GetStorageUri,
validateCustomProtocol), pkg/controller/v1beta1/inferenceservice/components/predictor.go (buildObjectMeta),
pkg/controller/v1beta1/inferenceservice/reconcilers/deployment (createRawDefaultDeployment).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import WARNING, Problem, choose_serving, remove_field, set_value
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.plan import Plan

#: Knative checks the revisions of both: KServe in Knative mode creates a Knative Service.
KNATIVE: Final = frozenset({"knative", "kserve"})
KSERVE: Final = frozenset({"kserve", "kserve-standard"})


class ReservedName(NamedTuple):
    """A reserved name: the kinds of serving object that reserve it, the reason, and the fix."""

    name: str
    by: frozenset[str]
    reason: str
    fix: str
    #: The first version of KServe that reserves it.
    since: tuple[int, ...] = (0,)


_SET_BY_KNATIVE: Final = "is reserved: Knative sets it, and its webhook rejects it in a spec"
VARIABLES: Final = (
    ReservedName("PORT", KNATIVE, _SET_BY_KNATIVE, "remove it and set servingPort.container"),
    ReservedName("K_SERVICE", KNATIVE, _SET_BY_KNATIVE, "choose another name"),
    ReservedName("K_CONFIGURATION", KNATIVE, _SET_BY_KNATIVE, "choose another name"),
    ReservedName("K_REVISION", KNATIVE, _SET_BY_KNATIVE, "choose another name"),
    ReservedName(
        "STORAGE_URI",
        KSERVE,
        "is reserved: KServe downloads a model from it into the pod",
        "use model.uri, or choose another name",
    ),
    ReservedName(
        "PYTHONPATH",
        KSERVE,
        "is not allowed: KServe's webhook rejects it, since it changes the code that Python loads",
        "set it in the image, or use serving: knative",
        (0, 18),
    ),
)
LABELS: Final = (
    ReservedName("component", KSERVE, "is reserved: KServe sets it to predictor on every pod", "choose another key"),
    ReservedName(
        "app",
        frozenset({"kserve-standard"}),
        "is reserved: KServe Standard overwrites it, since its deployment selects pods by it",
        "choose another key, or use serving: kserve or knative",
    ),
    *(
        ReservedName(
            name,
            frozenset({"llm"}),
            "is reserved: the Deployment of an LLMInferenceService selects its pods by it",
            "choose another key",
        )
        for name in (keys.APP_NAME, keys.APP_COMPONENT, keys.APP_PART_OF, "kserve.io/component", "llm-d.ai/role")
    ),
)
#: The ports of queue-proxy and of Knative's profiling.
PORTS: Final = frozenset({8008, 8012, 8013, 8022, 9090, 9091})
PROTOCOL: Final = "PROTOCOL"
PROTOCOLS: Final = ("v1", "v2")
#: Every name that some kind of serving object reserves.
NAMES: Final = frozenset({PROTOCOL, *(row.name for row in (*VARIABLES, *LABELS))})


def _list_variables(plan: Plan) -> dict[str, ReservedName]:
    """Return the variables that the kind of object reserves, in this version of KServe."""
    version = parse_version(plan.cluster.kserve.version)
    return {row.name: row for row in VARIABLES if plan.serving in row.by and version >= row.since}


def check_variables(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each variable that the kind of object reserves."""
    spec, serving = plan.spec, plan.serving
    if not spec.environment_variables:
        return
    reserved = _list_variables(plan)
    custom = serving in KSERVE and spec.model is None
    for index, variable in enumerate(spec.environment_variables):
        if variable.exclude:
            continue
        row = reserved.get(variable.name)
        path = ("spec", "environmentVariables", index)
        if row is not None:
            yield Problem("ENV002", (*path, "name"), f"{row.name} {row.reason}", row.fix)
        elif variable.name == PROTOCOL and custom and variable.value not in PROTOCOLS:
            message = (
                "invalid value of PROTOCOL: KServe reads it as the inference protocol, so it must be a literal v1 or v2"
            )
            fix = "set v1 or v2, or choose another name; for gRPC set servingPort.protocol: grpc"
            yield Problem("ENV006", path, message, fix)


#: Fields of further containers that Knative rejects (pkg/apis/serving/fieldmask.go, k8s_validation.go): only the serving
#: container has a port, and init containers have no probes.
REFUSED: Final = {
    "sidecars": ("ports", "lifecycle", "restartPolicy"),
    "initContainers": ("ports", "lifecycle", "restartPolicy", "livenessProbe", "readinessProbe", "startupProbe"),
}


def check_containers(plan: Plan) -> Iterator[Problem]:
    """Yield the fields and variables of further containers that the kind of object rejects."""
    spec, serving = plan.spec, plan.serving
    if not (spec.sidecars or spec.init_containers):
        return
    names = {name: row for name, row in _list_variables(plan).items() if name != "PORT"}
    for field, items in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
        for index, item in enumerate(items):
            for name in REFUSED[field] if serving in KNATIVE else ():
                if item.get(name):
                    message = f"Knative rejects {name} in {field}"
                    fix = f"remove {name}, or use serving: kserve-standard"
                    yield Problem(
                        "SRV047",
                        ("spec", field, index, name),
                        message,
                        fix,
                        fixes=choose_serving("kserve-standard") + remove_field(),
                    )
            variables = item.get("env")
            for place, variable in enumerate(variables if isinstance(variables, list) else ()):
                row = names.get(str(get_at(variable, "name")))
                if row is not None:
                    message = f"{row.name} {row.reason}"
                    yield Problem("ENV002", ("spec", field, index, "env", place), message, "choose another name")


def check_container_port(plan: Plan) -> Iterator[Problem]:
    """Yield a problem if no container of several has a port, which Ebbtide's defaults would set.

    Knative's webhook rejects such a Service, and KServe never gets one for such an InferenceService, which it accepts.
    Upstream: knative.dev/serving pkg/apis/serving/k8s_validation.go (validateContainersPorts).
    """
    spec, port = plan.spec, plan.spec.serving_port
    if plan.adds_defaults or spec.model is not None or not spec.sidecars or plan.serving not in KNATIVE:
        return
    if port.container is None and port.protocol is None:
        where, number = ("spec", "servingPort", "container"), plan.mode.port
        message = "more than one container needs exactly one port, and without Ebbtide's defaults the spec sets none"
        problem = Problem("SRV073", where, message, f"set servingPort.container: {number}", fixes=set_value(number))
        yield problem if plan.serving == "knative" else replace(problem, severity=WARNING)


def check_labels(plan: Plan) -> Iterator[Problem]:
    """Yield a problem for each pod label that the kind of object would overwrite."""
    labels = plan.spec.labels
    reserved = {row.name: row for row in LABELS if plan.serving in row.by} if labels else {}
    for index, label in enumerate(labels):
        row = None if label.exclude else reserved.get(label.name)
        if row is not None:
            yield Problem("LAB002", ("spec", "labels", index), f"{row.name} {row.reason}", row.fix)


def check_port(plan: Plan) -> Iterator[Problem]:
    """Yield a problem if the container listens on a port of queue-proxy, which Standard mode does not have."""
    container = plan.spec.serving_port.container
    if plan.serving in KNATIVE and container in PORTS:
        message = f"port {container} is reserved for Knative's queue-proxy"
        fix = "let the server listen on another port, such as 8080 or 8000"
        yield Problem("SRV004", ("spec", "servingPort", "container"), message, fix)
