"""The form's fields: one table, in the order of Run:ai's own form. A new field of the spec is one row here.

Help texts and what a field takes are those of the models (``spec/``): the table has what a model does not know, a label,
an example, where the field stands and when it is of use. Order: runai docs, custom-inference.md (the form).
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


#: How a value is shown and read. ``zero`` is a box that sets a number of replicas to 0, ``truth`` a choice between true,
#: false and nothing, ``lines`` a command line, ``exact`` a text whose blanks count.
Kind = Literal["text", "exact", "integer", "number", "amount", "choice", "flag", "truth", "zero", "lines", "list"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. ``path`` is dotted; ``[]`` after a name stands for the rows of a list."""

    path: str
    label: str
    group: str
    example: str = ""
    unit: str = ""
    #: What is to choose from, where the model does not say it: a name in ``CHOICES``.
    choices: str = ""
    #: When the field is of use: a name in ``CONDITIONS``.
    when: str = ""
    kind: Kind | Literal[""] = ""
    #: A name of its own in the form, where two fields set one path.
    name: str = ""


PROJECT = "Project and name"
RUNS = "Image or model"
MODEL = "Or a model, served by a KServe runtime"
ENDPOINT = "Endpoint and access"
COMPUTE = "Compute of one replica"
REPLICAS = "Replicas"
ADVANCED = "Advanced autoscaling"
PRIORITY = "Priority"
ENVIRONMENT = "Environment and command"
PROBES = "Probes"
STORAGE = "Storage"
SLO = "What is promised"
LABELS = "Labels, rollout and security"
#: Groups that are closed until they have something in them.
FOLDED: Final = (MODEL, ADVANCED, PRIORITY, ENVIRONMENT, PROBES, STORAGE, SLO, LABELS)
AUTO: Final = "spec.autoscaling."
GPU: Final = "spec.compute."
#: What the reference says of where a field is from is of no use in a form.
_OURS: Final = re.compile(r" Ebbtide extension\.")
ENV: Final = "spec.environmentVariables[]."

# fmt: off
ROWS: Final[tuple[Row, ...]] = (
    Row("spec.project", "Project", PROJECT, "team-a", choices="projects"),
    Row("metadata.name", "Name", PROJECT, "chat"),
    Row("spec.image", "Image", RUNS, "registry.example.com/team/server:1.4"),
    Row("spec.imagePullPolicy", "Pull", RUNS),
    Row("spec.serving", "Served by", RUNS),
    Row("spec.imagePullSecrets[].name", "Pull secret", RUNS, "registry"),
    Row("spec.model.format", "Format", MODEL, "sklearn"),
    Row("spec.model.uri", "Address", MODEL, "s3://models/iris"),
    Row("spec.model.runtime", "Runtime", MODEL),
    Row("spec.model.formatVersion", "Format's version", MODEL),
    Row("spec.model.protocol", "Protocol", MODEL),
    Row("spec.model.storageSecret", "Secret for the storage", MODEL),
    Row("spec.servingPort.container", "Port", ENDPOINT, "8080"),
    Row("spec.servingPort.protocol", "Protocol", ENDPOINT),
    Row("spec.servingPort.authorizationType", "Who may call", ENDPOINT),
    Row("spec.servingPort.authorizedUsers", "Users", ENDPOINT, "ann, bob", when="users"),
    Row("spec.servingPort.authorizedGroups", "Groups", ENDPOINT, "research", when="groups"),
    Row("spec.servingPort.clusterLocalAccessOnly", "Inside the cluster only", ENDPOINT),
    Row(GPU + "gpuDevicesRequest", "GPU devices", COMPUTE, "1"),
    Row(GPU + "gpuRequestType", "A part of each, by", COMPUTE),
    Row(GPU + "gpuPortionRequest", "Portion of a GPU", COMPUTE, "0.25", when="portion"),
    Row(GPU + "gpuPortionLimit", "Portion at most", COMPUTE, "0.5", when="portion"),
    Row(GPU + "gpuMemoryRequest", "GPU memory", COMPUTE, "20Gi", when="memory"),
    Row(GPU + "gpuMemoryLimit", "GPU memory at most", COMPUTE, "40Gi", when="memory"),
    Row(GPU + "migProfile", "MIG profile", COMPUTE, "1g.10gb", when="mig"),
    Row(GPU + "cpuCoreRequest", "CPU", COMPUTE, "2", "cores"),
    Row(GPU + "cpuCoreLimit", "CPU at most", COMPUTE, "", "cores"),
    Row(GPU + "cpuMemoryRequest", "Memory", COMPUTE, "8Gi"),
    Row(GPU + "cpuMemoryLimit", "Memory at most", COMPUTE),
    Row(GPU + "largeShmRequest", "Large /dev/shm", COMPUTE),
    Row("spec.nodePools", "Node pools", COMPUTE, choices="pools"),
    Row(AUTO + "minReplicas", "Fewest", REPLICAS, "1"),
    Row(AUTO + "maxReplicas", "Most", REPLICAS, "1"),
    Row(AUTO + "minReplicas", "Rest at zero when nobody asks", REPLICAS, kind="zero", name="to-zero"),
    Row(AUTO + "metric", "What moves them", REPLICAS, choices="metrics", when="moves"),
    Row(AUTO + "metricThreshold", "Threshold for each replica", REPLICAS, "10", choices="", when="moves"),
    Row(AUTO + "metricName", "The metric's own name", REPLICAS, "queue_length", when="custom"),
    Row(AUTO + "scaleToZeroRetentionSeconds", "Last replica stays", REPLICAS, "0", "s", when="zero"),
    Row(AUTO + "initialReplicas", "Replicas of a new revision", ADVANCED),
    Row(AUTO + "activationReplicas", "Replicas after rest", ADVANCED),
    Row(AUTO + "scaleDownDelaySeconds", "Scale-down delay", ADVANCED, "0", "s"),
    Row(AUTO + "concurrencyHardLimit", "Requests at once, at most", ADVANCED, "0"),
    Row(AUTO + "metricThresholdPercentage", "Used of the threshold", ADVANCED, "70", "%"),
    Row("spec.servingConfiguration.initializationTimeoutSeconds", "Ready within", ADVANCED, "600", "s"),
    Row("spec.servingConfiguration.requestTimeoutSeconds", "A request may take", ADVANCED, "300", "s"),
    Row("spec.priorityClass", "Priority", PRIORITY, choices="priorities"),
    Row("spec.preemptibility", "Preemptibility", PRIORITY),
    Row("spec.command", "Command", ENVIRONMENT, kind="lines"),
    Row("spec.args", "Arguments", ENVIRONMENT, "--port 8080", kind="lines"),
    Row("spec.workingDir", "Working folder", ENVIRONMENT),
    Row(ENV + "name", "Variable", ENVIRONMENT, "LOG_LEVEL"),
    Row(ENV + "value", "Value", ENVIRONMENT, kind="exact"),
    Row(ENV + "secret.name", "or Secret", ENVIRONMENT),
    Row(ENV + "secret.key", "its key", ENVIRONMENT),
    Row(ENV + "configMap.name", "or ConfigMap", ENVIRONMENT),
    Row(ENV + "configMap.key", "its key", ENVIRONMENT),
    *(
        Row(f"spec.probes.{probe}.{path}", f"{title}: {label}", PROBES, example, unit)
        for probe, title in (("readiness", "Ready"), ("liveness", "Alive"), ("startup", "Started"))
        for path, label, example, unit in (
            ("handler.httpGet.path", "path", "/health", ""),
            ("handler.httpGet.port", "port", "", ""),
            ("periodSeconds", "every", "", "s"),
            ("failureThreshold", "bad tries", "", ""),
        )
    ),
    Row("spec.storage.pvc[].claimName", "Claim", STORAGE, "models"),
    Row("spec.storage.pvc[].path", "Mounted at", STORAGE, "/models"),
    Row("spec.storage.pvc[].existingPvc", "It exists", STORAGE),
    Row("spec.storage.pvc[].readOnly", "Read-only", STORAGE),
    Row("spec.storage.configMapVolume[].configMap", "ConfigMap", STORAGE),
    Row("spec.storage.configMapVolume[].mountPath", "Mounted at", STORAGE, "/etc/app"),
    Row("spec.storage.secretVolume[].secret", "Secret", STORAGE),
    Row("spec.storage.secretVolume[].mountPath", "Mounted at", STORAGE, "/etc/keys"),
    Row("spec.storage.emptyDirVolume[].path", "Scratch folder at", STORAGE, "/cache"),
    Row("spec.storage.emptyDirVolume[].sizeLimit", "Size at most", STORAGE, "10Gi"),
    Row("spec.slo.p95LatencyMilliseconds", "95 % answered within", SLO, "2000", "ms"),
    Row("spec.slo.meanLatencyMilliseconds", "Mean response time", SLO, "800", "ms"),
    Row("spec.slo.uptimePercent", "Uptime", SLO, "99.9", "%"),
    Row("spec.labels[].name", "Pod label", LABELS, "team"),
    Row("spec.labels[].value", "Value", LABELS, kind="exact"),
    Row("spec.annotations[].name", "Pod annotation", LABELS),
    Row("spec.annotations[].value", "Value", LABELS, kind="exact"),
    Row("spec.traffic.canaryPercent", "Newest revision gets", LABELS, "10", "%"),
    Row("spec.security.runAsNonRoot", "Refuse root", LABELS),
    Row("spec.security.runAsUid", "User id", LABELS),
)
# fmt: on

#: The titles of lists, and what one of them is called.
LISTS: Final = {
    "spec.imagePullSecrets": ("Pull secrets", "secret"),
    "spec.environmentVariables": ("Environment variables", "variable"),
    "spec.storage.pvc": ("Persistent volume claims", "claim"),
    "spec.storage.configMapVolume": ("Files from ConfigMaps", "ConfigMap"),
    "spec.storage.secretVolume": ("Files from Secrets", "Secret"),
    "spec.storage.emptyDirVolume": ("Scratch folders", "folder"),
    "spec.labels": ("Labels of the pods", "label"),
    "spec.annotations": ("Annotations of the pods", "annotation"),
}
#: What the model leaves open and the cluster does not say either.
CHOICES: Final[dict[str, Callable[[], tuple[str, ...]]]] = {
    "metrics": lambda: tuple(metrics.ROWS),
    "priorities": lambda: (*priority.FOUR, *priority.LEVELS),
}


@dataclass(frozen=True, slots=True)
class Control:
    """A field of the form with all that is known of it."""

    row: Row
    kind: Kind
    help: str
    #: What the model or the table lists; empty: anything.
    choices: tuple[str, ...] = ()
    #: The path in the document; of a list's column, the list's path and the path inside of an item.
    path: tuple[str, ...] = ()
    column: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The field's name in the form; of a column that of the list, with a place for the item's number."""
        return self.row.name or self.row.path.replace("[]", ".{}")


@dataclass(frozen=True, slots=True)
class Block:
    """Fields that stand together: shown under one condition, or the columns of one list."""

    when: str
    #: The dotted path of the list, where they are its columns.
    listed: str
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A part of the form with a title."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = field(default=False)

    @property
    def key(self) -> str:
        """The group's name in addresses."""
        return self.title.split()[0].lower().strip(",") + ("-model" if self.title == MODEL else "")


@cache
def groups() -> tuple[Group, ...]:
    """Return the form, in order."""
    made = []
    for title, rows in groupby(ROWS, key=lambda row: row.group):
        blocks = [
            Block(when, listed, tuple(control(row) for row in inside))
            for (when, listed), inside in groupby(
                rows, key=lambda row: (row.when, row.path.partition("[]")[0] if "[]" in row.path else "")
            )
        ]
        made.append(Group(title, tuple(blocks), title in FOLDED))
    return tuple(made)


@cache
def controls() -> tuple[Control, ...]:
    """Return every field, in the form's order."""
    return tuple(control for group in groups() for block in group.blocks for control in block.controls)


@cache
def control(row: Row) -> Control:
    """Return a row with what the models say of it. Raises LookupError where no model has the path."""
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
    """Return a field's annotation and its text."""
    model: type[BaseModel] = Inference
    annotation: Any = None
    text = ""
    for part in path.replace("[]", "").split("."):
        name, info = next((name, info) for name, info in model.model_fields.items() if info.alias == part)
        annotation, text = info.annotation, texts(model)[name]
        model = next(models_in(annotation), model)
    return annotation, text


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows, without None and without bounds."""
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
    found = [*_parts(annotation)]
    if choices:
        return "choice"
    if bool in found:
        return "flag" if annotation is bool else "truth"
    if any(get_origin(part) is list for part in found):
        return "list"
    if found == [int]:
        return "integer"
    if found == [float]:
        return "number"
    return "amount" if int in found else "text"


# When a field is of use, by what the document says.


def _least(data: Any) -> Any:
    least = at(data, "spec", "autoscaling", "minReplicas")
    return 1 if least is None else least


def _moves(data: Any) -> bool:
    least, most = _least(data), at(data, "spec", "autoscaling", "maxReplicas")
    return most is not None and most != least


def _part_of_gpu(kind: str, *names: str) -> Callable[[Any], bool]:
    return lambda data: (
        at(data, "spec", "compute", "gpuRequestType") == kind
        or any(at(data, "spec", "compute", name) for name in names)
    )


def _access(*kinds: str) -> Callable[[Any], bool]:
    return lambda data: at(data, "spec", "servingPort", "authorizationType") in kinds


CONDITIONS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "": lambda data: True,  # noqa: ARG005 - always of use
    "users": _access("authorizedUsers", "authorizedUsersOrGroups"),
    "groups": _access("authorizedGroups", "authorizedUsersOrGroups"),
    "portion": _part_of_gpu("portion", "gpuPortionRequest", "gpuPortionLimit"),
    "memory": _part_of_gpu("memory", "gpuMemoryRequest", "gpuMemoryLimit"),
    "mig": _part_of_gpu("migProfile", "migProfile"),
    "moves": _moves,
    "custom": lambda data: at(data, "spec", "autoscaling", "metric") == "custom",
    "zero": lambda data: _least(data) == 0,
}
