"""The table of form fields, in the order of Run:ai's form. To add a spec field to the form, add a row here.

Help texts and value types come from the models in ``spec/``. The table adds what a model does not have: a label, an
example, a position, and a visibility condition. Order: runai docs, custom-inference.md (the form).
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

from ebbtide.base import metrics
from ebbtide.base.paths import at
from ebbtide.readers.fields import models_in, texts
from ebbtide.spec.inference import Inference
from ebbtide.translation import priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import BaseModel


#: Rendering and parsing of a value. ``zero`` is a checkbox that sets a replica count to 0, ``truth`` a choice of true, false,
#: or nothing, ``lines`` a command line, ``exact`` a text with significant whitespace.
Kind = Literal["text", "exact", "integer", "number", "amount", "choice", "flag", "truth", "zero", "lines", "list"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. ``path`` is dotted; ``[]`` after a name marks a list, whose items have this field."""

    path: str
    label: str
    group: str
    example: str = ""
    unit: str = ""
    #: A key of ``CHOICES``, where the model does not list the choices.
    choices: str = ""
    #: The visibility condition: a key of ``CONDITIONS``.
    when: str = ""
    kind: Kind | Literal[""] = ""
    #: The name in the form, where two fields set the same path.
    name: str = ""


PROJECT = "Project and name"
RUNS = "Image and serving"
MODEL = "Model (served by a KServe runtime)"
ENDPOINT = "Serving endpoint"
COMPUTE = "Compute resources per replica"
REPLICAS = "Replica autoscaling"
ADVANCED = "Advanced autoscaling"
PRIORITY = "Priority and preemption"
ENVIRONMENT = "Environment variables and command"
PROBES = "Probes"
STORAGE = "Data and storage"
SLO = "Service-level objectives (SLO)"
LABELS = "Labels, rollout, and security"
#: Groups that are collapsed while they are empty.
FOLDED: Final = (MODEL, ADVANCED, PRIORITY, ENVIRONMENT, PROBES, STORAGE, SLO, LABELS)
AUTO: Final = "spec.autoscaling."
GPU: Final = "spec.compute."
#: The reference marks the fields of Ebbtide; the form does not.
_OURS: Final = re.compile(r" Ebbtide extension\.")
ENV: Final = "spec.environmentVariables[]."

# fmt: off
ROWS: Final[tuple[Row, ...]] = (
    Row("spec.project", "Project", PROJECT, "team-a", choices="projects"),
    Row("metadata.name", "Name", PROJECT, "chat"),
    Row("spec.image", "Image", RUNS, "registry.example.com/team/server:1.4"),
    Row("spec.imagePullPolicy", "Image pull policy", RUNS),
    Row("spec.serving", "Serving mode", RUNS),
    Row("spec.imagePullSecrets[].name", "Secret name", RUNS, "registry"),
    Row("spec.model.format", "Model format", MODEL, "sklearn"),
    Row("spec.model.uri", "Model URI", MODEL, "s3://models/iris"),
    Row("spec.model.runtime", "Serving runtime", MODEL),
    Row("spec.model.formatVersion", "Format version", MODEL),
    Row("spec.model.protocol", "Inference protocol", MODEL),
    Row("spec.model.storageSecret", "Storage secret", MODEL),
    Row("spec.servingPort.container", "Container port", ENDPOINT, "8080"),
    Row("spec.servingPort.protocol", "Protocol", ENDPOINT),
    Row("spec.servingPort.authorizationType", "Access", ENDPOINT),
    Row("spec.servingPort.authorizedUsers", "Authorized users", ENDPOINT, "ann, bob", when="users"),
    Row("spec.servingPort.authorizedGroups", "Authorized groups", ENDPOINT, "research", when="groups"),
    Row("spec.servingPort.clusterLocalAccessOnly", "Cluster-local access only", ENDPOINT),
    Row(GPU + "gpuDevicesRequest", "GPU devices", COMPUTE, "1"),
    Row(GPU + "gpuRequestType", "GPU request type", COMPUTE),
    Row(GPU + "gpuPortionRequest", "GPU fraction", COMPUTE, "0.25", when="portion"),
    Row(GPU + "gpuPortionLimit", "GPU fraction limit", COMPUTE, "0.5", when="portion"),
    Row(GPU + "gpuMemoryRequest", "GPU memory request", COMPUTE, "20Gi", when="memory"),
    Row(GPU + "gpuMemoryLimit", "GPU memory limit", COMPUTE, "40Gi", when="memory"),
    Row(GPU + "migProfile", "MIG profile", COMPUTE, "1g.10gb", when="mig"),
    Row(GPU + "cpuCoreRequest", "CPU request", COMPUTE, "2", "cores"),
    Row(GPU + "cpuCoreLimit", "CPU limit", COMPUTE, "", "cores"),
    Row(GPU + "cpuMemoryRequest", "CPU memory request", COMPUTE, "8Gi"),
    Row(GPU + "cpuMemoryLimit", "CPU memory limit", COMPUTE),
    Row(GPU + "largeShmRequest", "Increase shared memory", COMPUTE),
    Row("spec.nodePools", "Node pools", COMPUTE, choices="pools"),
    Row(AUTO + "minReplicas", "Minimum replicas", REPLICAS, "1"),
    Row(AUTO + "maxReplicas", "Maximum replicas", REPLICAS, "1"),
    Row(AUTO + "minReplicas", "Scale to zero when idle", REPLICAS, kind="zero", name="to-zero"),
    Row(AUTO + "metric", "Scaling metric", REPLICAS, choices="metrics", when="moves"),
    Row(AUTO + "metricThreshold", "Scaling threshold", REPLICAS, "10", choices="", when="moves"),
    Row(AUTO + "metricName", "Custom metric name", REPLICAS, "queue_length", when="custom"),
    Row(AUTO + "scaleToZeroRetentionSeconds", "Scale to zero after", REPLICAS, "0", "s", when="zero"),
    Row(AUTO + "initialReplicas", "Initial replicas", ADVANCED),
    Row(AUTO + "activationReplicas", "Activation replicas", ADVANCED),
    Row(AUTO + "scaleDownDelaySeconds", "Scale-down delay", ADVANCED, "0", "s"),
    Row(AUTO + "concurrencyHardLimit", "Container concurrency", ADVANCED, "0"),
    Row(AUTO + "metricThresholdPercentage", "Target utilization", ADVANCED, "70", "%"),
    Row("spec.servingConfiguration.initializationTimeoutSeconds", "Initialization timeout", ADVANCED, "600", "s"),
    Row("spec.servingConfiguration.requestTimeoutSeconds", "Request timeout", ADVANCED, "300", "s"),
    Row("spec.priorityClass", "Priority class", PRIORITY, choices="priorities"),
    Row("spec.preemptibility", "Preemptibility", PRIORITY),
    Row("spec.command", "Command", ENVIRONMENT, kind="lines"),
    Row("spec.args", "Arguments", ENVIRONMENT, "--port 8080", kind="lines"),
    Row("spec.workingDir", "Working directory", ENVIRONMENT),
    Row(ENV + "name", "Variable", ENVIRONMENT, "LOG_LEVEL"),
    Row(ENV + "value", "Value", ENVIRONMENT, kind="exact"),
    Row(ENV + "secret.name", "or Secret", ENVIRONMENT),
    Row(ENV + "secret.key", "Secret key", ENVIRONMENT),
    Row(ENV + "configMap.name", "or ConfigMap", ENVIRONMENT),
    Row(ENV + "configMap.key", "ConfigMap key", ENVIRONMENT),
    *(
        Row(f"spec.probes.{probe}.{path}", f"{title} {label}", PROBES, example, unit)
        for probe, title in (("readiness", "Readiness"), ("liveness", "Liveness"), ("startup", "Startup"))
        for path, label, example, unit in (
            ("handler.httpGet.path", "path", "/health", ""),
            ("handler.httpGet.port", "port", "", ""),
            ("periodSeconds", "period", "", "s"),
            ("failureThreshold", "failure threshold", "", ""),
        )
    ),
    Row("spec.storage.pvc[].claimName", "Claim name", STORAGE, "models"),
    Row("spec.storage.pvc[].path", "Mount path", STORAGE, "/models"),
    Row("spec.storage.pvc[].existingPvc", "Existing claim", STORAGE),
    Row("spec.storage.pvc[].readOnly", "Read-only", STORAGE),
    Row("spec.storage.configMapVolume[].configMap", "ConfigMap", STORAGE),
    Row("spec.storage.configMapVolume[].mountPath", "Mount path", STORAGE, "/etc/app"),
    Row("spec.storage.secretVolume[].secret", "Secret", STORAGE),
    Row("spec.storage.secretVolume[].mountPath", "Mount path", STORAGE, "/etc/keys"),
    Row("spec.storage.emptyDirVolume[].path", "Mount path", STORAGE, "/cache"),
    Row("spec.storage.emptyDirVolume[].sizeLimit", "Size limit", STORAGE, "10Gi"),
    Row("spec.slo.p95LatencyMilliseconds", "p95 response time", SLO, "2000", "ms"),
    Row("spec.slo.meanLatencyMilliseconds", "Mean response time", SLO, "800", "ms"),
    Row("spec.slo.uptimePercent", "Uptime", SLO, "99.9", "%"),
    Row("spec.labels[].name", "Key", LABELS, "team"),
    Row("spec.labels[].value", "Value", LABELS, kind="exact"),
    Row("spec.annotations[].name", "Key", LABELS),
    Row("spec.annotations[].value", "Value", LABELS, kind="exact"),
    Row("spec.traffic.canaryPercent", "Canary traffic", LABELS, "10", "%"),
    Row("spec.security.runAsNonRoot", "Run as non-root", LABELS),
    Row("spec.security.runAsUid", "Run as user ID", LABELS),
)
# fmt: on

#: The title of each list, and the noun for one item.
LISTS: Final = {
    "spec.imagePullSecrets": ("Image pull secrets", "secret"),
    "spec.environmentVariables": ("Environment variables", "variable"),
    "spec.storage.pvc": ("Persistent volume claims", "claim"),
    "spec.storage.configMapVolume": ("ConfigMap volumes", "volume"),
    "spec.storage.secretVolume": ("Secret volumes", "volume"),
    "spec.storage.emptyDirVolume": ("Scratch volumes (emptyDir)", "volume"),
    "spec.labels": ("Pod labels", "label"),
    "spec.annotations": ("Pod annotations", "annotation"),
}
#: Choices that neither the model nor the cluster provides.
CHOICES: Final[dict[str, Callable[[], tuple[str, ...]]]] = {
    "metrics": lambda: tuple(metrics.ROWS),
    "priorities": lambda: (*priority.FOUR, *priority.LEVELS),
}


@dataclass(frozen=True, slots=True)
class Control:
    """A form field: its table row plus the type, help, and choices from the model."""

    row: Row
    kind: Kind
    help: str
    #: Choices from the model or the table; empty if any value is allowed.
    choices: tuple[str, ...] = ()
    #: The path in the document. For a list column, the path of the list, and the path within an item.
    path: tuple[str, ...] = ()
    column: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The field's name in the form; for a list column, a format string for the item's index."""
        return self.row.name or self.row.path.replace("[]", ".{}")


@dataclass(frozen=True, slots=True)
class Block:
    """Adjacent fields: those with the same visibility condition, or the columns of one list."""

    when: str
    #: The dotted path of the list, if the fields are its columns.
    listed: str
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A titled group of the form."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = field(default=False)

    @property
    def key(self) -> str:
        """The group's key in element ids."""
        return self.title.split()[0].lower().strip(",")


@cache
def groups() -> tuple[Group, ...]:
    """Return all groups in order."""
    form_groups = []
    for title, rows in groupby(ROWS, key=lambda row: row.group):
        blocks = [
            Block(when, listed, tuple(control(row) for row in inside))
            for (when, listed), inside in groupby(
                rows, key=lambda row: (row.when, row.path.partition("[]")[0] if "[]" in row.path else "")
            )
        ]
        form_groups.append(Group(title, tuple(blocks), title in FOLDED))
    return tuple(form_groups)


@cache
def controls() -> tuple[Control, ...]:
    """Return all fields in order."""
    return tuple(item for group in groups() for block in group.blocks for item in block.controls)


@cache
def control(row: Row) -> Control:
    """Return the control for a row.

    Raises:
        StopIteration: no model has the path.

    """
    annotation, text = _of_model(row.path)
    before, _, after = row.path.partition("[].")
    choices = CHOICES[row.choices]() if row.choices in CHOICES else _literals(annotation)
    kind = row.kind or _kind(annotation, choices)
    return Control(
        row,
        kind,
        _OURS.sub("", text).replace("``", ""),
        choices,
        tuple(before.split(".")),
        tuple(after.split(".")) if after else (),
    )


def _of_model(path: str) -> tuple[Any, str]:
    """Return a field's annotation and its help text from the models."""
    model: type[BaseModel] = Inference
    annotation: Any = None
    text = ""
    for part in path.replace("[]", "").split("."):
        name, info = next((name, info) for name, info in model.model_fields.items() if info.alias == part)
        annotation, text = info.annotation, texts(model)[name]
        model = next(models_in(annotation), model)
    return annotation, text


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows, without None and constraints."""
    if get_origin(annotation) in {types.UnionType, typing.Union}:
        for part in get_args(annotation):
            yield from _parts(part)
    elif get_origin(annotation) is typing.Annotated:
        yield from _parts(get_args(annotation)[0])
    elif annotation is not type(None):
        yield annotation


def _literals(annotation: Any) -> tuple[str, ...]:
    return tuple(str(value) for part in _parts(annotation) if get_origin(part) is Literal for value in get_args(part))


def _kind(annotation: Any, choices: Sequence[str]) -> Kind:
    allowed = [*_parts(annotation)]
    if choices:
        return "choice"
    if bool in allowed:
        return "flag" if annotation is bool else "truth"
    if any(get_origin(part) is list for part in allowed):
        return "list"
    if allowed == [int]:
        return "integer"
    if allowed == [float]:
        return "number"
    return "amount" if int in allowed else "text"


# Visibility conditions, evaluated on the document.


def _least(data: Any) -> Any:
    minimum = at(data, "spec", "autoscaling", "minReplicas")
    return 1 if minimum is None else minimum


def _moves(data: Any) -> bool:
    minimum, maximum = _least(data), at(data, "spec", "autoscaling", "maxReplicas")
    return maximum is not None and maximum != minimum


def _part_of_gpu(kind: str, *names: str) -> Callable[[Any], bool]:
    return lambda data: (
        at(data, "spec", "compute", "gpuRequestType") == kind
        or any(at(data, "spec", "compute", name) for name in names)
    )


def _access(*kinds: str) -> Callable[[Any], bool]:
    return lambda data: at(data, "spec", "servingPort", "authorizationType") in kinds


CONDITIONS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "": lambda data: True,  # noqa: ARG005 - always visible
    "users": _access("authorizedUsers", "authorizedUsersOrGroups"),
    "groups": _access("authorizedGroups", "authorizedUsersOrGroups"),
    "portion": _part_of_gpu("portion", "gpuPortionRequest", "gpuPortionLimit"),
    "memory": _part_of_gpu("memory", "gpuMemoryRequest", "gpuMemoryLimit"),
    "mig": _part_of_gpu("migProfile", "migProfile"),
    "moves": _moves,
    "custom": lambda data: at(data, "spec", "autoscaling", "metric") == "custom",
    "zero": lambda data: _least(data) == 0,
}
