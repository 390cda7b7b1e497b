"""The table of form fields, in the order of Run:ai's form. To add a spec field to the form, add a row here.

Help texts and value types come from the models in ``core/spec/``. The table adds what a model does not have: a label, an
example, a position, and a visibility condition. Order: runai docs, custom-inference.md (the form).
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from ebbtide.core.base import metrics
from ebbtide.core.base.paths import get_at
from ebbtide.core.readers.fields import models_in, read_field_texts
from ebbtide.core.readers.reading import API_VERSION, KIND
from ebbtide.core.spec.inference import Inference
from ebbtide.core.translation import priority

#: Rendering and parsing of a value. ``zero`` is a checkbox that sets a replica count to 0, ``truth`` a choice of true, false,
#: or nothing, ``lines`` a command line, ``exact`` a text with significant whitespace.
Kind = Literal["text", "exact", "integer", "number", "amount", "choice", "flag", "truth", "zero", "lines", "list"]


@dataclass(frozen=True, slots=True)
class FormRow:
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
START = "Faster start"
SLO = "Service-level objectives (SLO)"
LABELS = "Labels, rollout, and security"
#: The steps of the form, in Run:ai's order: key, title, and groups.
STEPS: Final = (
    ("project", "Project", (PROJECT,)),
    ("environment", "Environment", (RUNS, MODEL, ENDPOINT, ENVIRONMENT, PROBES)),
    ("compute", "Compute resources", (COMPUTE, REPLICAS, ADVANCED, PRIORITY)),
    ("storage", "Data & storage", (STORAGE, START)),
    ("general", "General settings", (SLO, LABELS)),
)
#: The step that shows all groups.
ALL_STEPS: Final = "all"
#: Groups that are collapsed while they are empty.
FOLDED: Final = (MODEL, ADVANCED, PRIORITY, ENVIRONMENT, PROBES, STORAGE, START, SLO, LABELS)
AUTO: Final = "spec.autoscaling."
GPU: Final = "spec.compute."
#: The reference marks the fields of Ebbtide; the form does not.
_OURS: Final = re.compile(r" Ebbtide extension\.")
ENV: Final = "spec.environmentVariables[]."

# fmt: off
ROWS: Final[tuple[FormRow, ...]] = (
    FormRow("spec.project", "Project", PROJECT, "team-a", choices="projects"),
    FormRow("metadata.name", "Name", PROJECT, "chat"),
    FormRow("spec.image", "Image", RUNS, "registry.example.com/team/server:1.4"),
    FormRow("spec.imagePullPolicy", "Image pull policy", RUNS),
    FormRow("spec.serving", "Serving mode", RUNS),
    FormRow("spec.serviceAccountName", "Service account", RUNS),
    FormRow("spec.imagePullSecrets[].name", "Secret name", RUNS, "registry"),
    FormRow("spec.model.format", "Model format", MODEL, "sklearn"),
    FormRow("spec.model.uri", "Model URI", MODEL, "s3://models/iris"),
    FormRow("spec.model.storage.key", "Storage key", MODEL, "default"),
    FormRow("spec.model.storage.path", "Storage path", MODEL, "models/iris"),
    FormRow("spec.model.runtime", "Serving runtime", MODEL),
    FormRow("spec.model.runtimeVersion", "Runtime version", MODEL),
    FormRow("spec.model.formatVersion", "Format version", MODEL),
    FormRow("spec.model.protocol", "Inference protocol", MODEL),
    FormRow("spec.model.storageSecret", "Storage secret", MODEL),
    FormRow("spec.servingPort.container", "Container port", ENDPOINT, "8080"),
    FormRow("spec.servingPort.protocol", "Protocol", ENDPOINT),
    FormRow("spec.servingPort.authorizationType", "Access", ENDPOINT),
    FormRow("spec.servingPort.authorizedUsers", "Authorized users", ENDPOINT, "ann, bob", when="users"),
    FormRow("spec.servingPort.authorizedGroups", "Authorized groups", ENDPOINT, "research", when="groups"),
    FormRow("spec.servingPort.clusterLocalAccessOnly", "Cluster-local access only", ENDPOINT),
    FormRow("spec.command", "Command", ENVIRONMENT, kind="lines"),
    FormRow("spec.args", "Arguments", ENVIRONMENT, "--port 8080", kind="lines"),
    FormRow("spec.workingDir", "Working directory", ENVIRONMENT),
    FormRow(ENV + "name", "Variable", ENVIRONMENT, "LOG_LEVEL"),
    FormRow(ENV + "value", "Value", ENVIRONMENT, kind="exact"),
    FormRow(ENV + "secret.name", "or Secret", ENVIRONMENT),
    FormRow(ENV + "secret.key", "Secret key", ENVIRONMENT),
    FormRow(ENV + "configMap.name", "or ConfigMap", ENVIRONMENT),
    FormRow(ENV + "configMap.key", "ConfigMap key", ENVIRONMENT),
    FormRow("spec.lora.adapters[].name", "LoRA adapter", ENVIRONMENT, "sql"),
    FormRow("spec.lora.adapters[].uri", "Source", ENVIRONMENT, "hf://org/adapter"),
    FormRow("spec.lora.adapters[].rank", "Rank", ENVIRONMENT, "16"),
    FormRow("spec.lora.maxRank", "Highest LoRA rank", ENVIRONMENT),
    FormRow("spec.lora.maxAdapters", "LoRA adapters in one batch", ENVIRONMENT, "1"),
    *(
        FormRow(f"spec.probes.{probe}.{path}", f"{title} {label}", PROBES, example, unit)
        for probe, title in (("readiness", "Readiness"), ("liveness", "Liveness"), ("startup", "Startup"))
        for path, label, example, unit in (
            ("handler.httpGet.path", "path", "/health", ""),
            ("handler.httpGet.port", "port", "", ""),
            ("periodSeconds", "period", "", "s"),
            ("failureThreshold", "failure threshold", "", ""),
        )
    ),
    FormRow(GPU + "gpuDevicesRequest", "GPU devices", COMPUTE, "1"),
    FormRow(GPU + "gpuRequestType", "GPU request type", COMPUTE),
    FormRow(GPU + "gpuPortionRequest", "GPU fraction", COMPUTE, "0.25", when="portion"),
    FormRow(GPU + "gpuPortionLimit", "GPU fraction limit", COMPUTE, "0.5", when="portion"),
    FormRow(GPU + "gpuMemoryRequest", "GPU memory request", COMPUTE, "20Gi", when="memory"),
    FormRow(GPU + "gpuMemoryLimit", "GPU memory limit", COMPUTE, "40Gi", when="memory"),
    FormRow(GPU + "gpuComputePercentage", "GPU compute", COMPUTE, "30", "%"),
    FormRow(GPU + "migProfile", "MIG profile", COMPUTE, "1g.10gb", when="mig"),
    FormRow(GPU + "cpuCoreRequest", "CPU request", COMPUTE, "2", "cores"),
    FormRow(GPU + "cpuCoreLimit", "CPU limit", COMPUTE, "", "cores"),
    FormRow(GPU + "cpuMemoryRequest", "CPU memory request", COMPUTE, "8Gi"),
    FormRow(GPU + "cpuMemoryLimit", "CPU memory limit", COMPUTE),
    FormRow(GPU + "largeShmRequest", "Increase shared memory", COMPUTE),
    FormRow(GPU + "shmSize", "Shared memory size", COMPUTE, "8Gi"),
    FormRow("spec.nodePools", "Node pools", COMPUTE, choices="pools"),
    FormRow(AUTO + "minReplicas", "Minimum replicas", REPLICAS, "1"),
    FormRow(AUTO + "maxReplicas", "Maximum replicas", REPLICAS, "1"),
    FormRow(AUTO + "minReplicas", "Scale to zero when idle", REPLICAS, kind="zero", name="to-zero"),
    FormRow(AUTO + "metric", "Scaling metric", REPLICAS, choices="metrics", when="moves"),
    FormRow(AUTO + "metricThreshold", "Scaling threshold", REPLICAS, "10", choices="", when="moves"),
    FormRow(AUTO + "metricName", "Custom metric name", REPLICAS, "queue_length", when="custom"),
    FormRow(AUTO + "scaleToZeroRetentionSeconds", "Scale to zero after", REPLICAS, "0", "s", when="zero"),
    FormRow(AUTO + "initialReplicas", "Initial replicas", ADVANCED),
    FormRow(AUTO + "activationReplicas", "Activation replicas", ADVANCED),
    FormRow(AUTO + "scaleDownDelaySeconds", "Scale-down delay", ADVANCED, "0", "s"),
    FormRow(AUTO + "concurrencyHardLimit", "Container concurrency", ADVANCED, "0"),
    FormRow(AUTO + "metricThresholdPercentage", "Target utilization", ADVANCED, "70", "%"),
    FormRow(AUTO + "stableWindowSeconds", "Stable window", ADVANCED, "60", "s"),
    FormRow(AUTO + "panicWindowPercentage", "Panic window", ADVANCED, "10", "%"),
    FormRow(AUTO + "panicThresholdPercentage", "Panic threshold", ADVANCED, "200", "%"),
    FormRow(AUTO + "targetBurstCapacity", "Target burst capacity", ADVANCED, "211"),
    FormRow(AUTO + "metricAggregation", "Metric aggregation", ADVANCED),
    FormRow("spec.servingConfiguration.initializationTimeoutSeconds", "Initialization timeout", ADVANCED, "600", "s"),
    FormRow("spec.servingConfiguration.requestTimeoutSeconds", "Request timeout", ADVANCED, "300", "s"),
    FormRow(AUTO + "metrics[].metric", "One of several metrics", ADVANCED, "latency"),
    FormRow(AUTO + "metrics[].query", "or PromQL query", ADVANCED),
    FormRow(AUTO + "metrics[].queryResult", "Meaning of the query's value", ADVANCED),
    FormRow(AUTO + "metrics[].threshold", "Threshold", ADVANCED, "250"),
    FormRow(AUTO + "schedule[].start", "Start of a scheduled period", ADVANCED, "0 8 * * mon-fri"),
    FormRow(AUTO + "schedule[].end", "End", ADVANCED, "0 18 * * mon-fri"),
    FormRow(AUTO + "schedule[].timeZone", "Time zone", ADVANCED, "UTC"),
    FormRow(AUTO + "schedule[].minReplicas", "Minimum replicas", ADVANCED, "2"),
    FormRow(AUTO + "fallbackReplicas", "Replicas without metrics", ADVANCED),
    FormRow("spec.priorityClass", "Priority class", PRIORITY, choices="priorities"),
    FormRow("spec.preemptibility", "Preemptibility", PRIORITY),
    FormRow("spec.storage.pvc[].claimName", "Claim name", STORAGE, "models"),
    FormRow("spec.storage.pvc[].path", "Mount path", STORAGE, "/models"),
    FormRow("spec.storage.pvc[].existingPvc", "Existing claim", STORAGE),
    FormRow("spec.storage.pvc[].readOnly", "Read-only", STORAGE),
    FormRow("spec.storage.configMapVolume[].configMap", "ConfigMap", STORAGE),
    FormRow("spec.storage.configMapVolume[].mountPath", "Mount path", STORAGE, "/etc/app"),
    FormRow("spec.storage.secretVolume[].secret", "Secret", STORAGE),
    FormRow("spec.storage.secretVolume[].mountPath", "Mount path", STORAGE, "/etc/keys"),
    FormRow("spec.storage.emptyDirVolume[].path", "Mount path", STORAGE, "/cache"),
    FormRow("spec.storage.emptyDirVolume[].sizeLimit", "Size limit", STORAGE, "10Gi"),
    FormRow("spec.start.weights.uri", "Weights to copy to a claim", START, "hf://org/model"),
    FormRow("spec.start.weights.mountPath", "Mount path", START, "/mnt/models"),
    FormRow("spec.start.weights.claimName", "Claim name", START),
    FormRow("spec.start.weights.existingPvc", "Existing claim", START),
    FormRow("spec.start.weights.size", "Claim size", START, "100Gi"),
    FormRow("spec.start.weights.storageClass", "Storage class", START),
    FormRow("spec.start.modelCache.size", "Model size for KServe's cache", START, "20Gi"),
    FormRow("spec.start.modelCache.nodeGroups", "Node groups of KServe's cache", START),
    FormRow("spec.start.streaming.concurrency", "Parallel reads of streamed weights", START, "16"),
    FormRow("spec.start.streaming.memoryLimit", "Buffer of streamed weights", START, "4Gi"),
    FormRow("spec.start.compilationCache.claimName", "Claim for compiled artifacts", START),
    FormRow("spec.start.compilationCache.existingPvc", "Existing claim", START),
    FormRow("spec.start.compilationCache.size", "Size of the claim for compiled artifacts", START, "10Gi"),
    FormRow("spec.start.prePullImage", "Pull the image to the nodes in advance", START),
    FormRow("spec.slo.p95LatencyMilliseconds", "p95 response time", SLO, "2000", "ms"),
    FormRow("spec.slo.meanLatencyMilliseconds", "Mean response time", SLO, "800", "ms"),
    FormRow("spec.slo.uptimePercent", "Uptime", SLO, "99.9", "%"),
    FormRow("spec.slo.timeToFirstTokenMilliseconds", "Time to first token", SLO, "500", "ms"),
    FormRow("spec.slo.timeToFirstTokenPercent", "Responses with this time to first token", SLO, "95", "%"),
    FormRow("spec.slo.interTokenMilliseconds", "Inter-token latency", SLO, "50", "ms"),
    FormRow("spec.slo.interTokenPercent", "Tokens with this inter-token latency", SLO, "95", "%"),
    FormRow("spec.labels[].name", "Key", LABELS, "team"),
    FormRow("spec.labels[].value", "Value", LABELS, kind="exact"),
    FormRow("spec.annotations[].name", "Key", LABELS),
    FormRow("spec.annotations[].value", "Value", LABELS, kind="exact"),
    FormRow("spec.traffic.canaryPercent", "Canary traffic", LABELS, "10", "%"),
    FormRow("spec.traffic.rolloutDurationSeconds", "Rollout duration", LABELS, "0", "s"),
    FormRow("spec.rollout.surge", "Additional replicas during an update", LABELS, "0"),
    FormRow("spec.security.runAsNonRoot", "Run as non-root", LABELS),
    FormRow("spec.security.runAsUid", "Run as user ID", LABELS),
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
    "spec.autoscaling.metrics": ("Scaling metrics", "metric"),
    "spec.autoscaling.schedule": ("Scheduled periods", "period"),
    "spec.lora.adapters": ("LoRA adapters", "adapter"),
}
#: Choices that neither the model nor the cluster provides.
CHOICES: Final[dict[str, Callable[[], tuple[str, ...]]]] = {
    "metrics": lambda: tuple(metrics.ROWS),
    "priorities": lambda: (*priority.FOUR, *priority.LEVELS),
}


@dataclass(frozen=True, slots=True)
class FormControl:
    """A form field: its table row plus the type, help, and choices from the model."""

    row: FormRow
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

    @property
    def listed(self) -> str:
        """The dotted path of the list, if the field is a column of one."""
        return ".".join(self.path) if self.column else ""


@cache
def list_controls() -> tuple[FormControl, ...]:
    """Return all fields in order."""
    return tuple(make_control(row) for row in ROWS)


@cache
def make_control(row: FormRow) -> FormControl:
    """Return the control for a row.

    Raises:
        StopIteration: no model has the path.
    """
    annotation, text = _find_model_field(row.path)
    before, _, after = row.path.partition("[].")
    choices = CHOICES[row.choices]() if row.choices in CHOICES else _literal_values(annotation)
    kind = row.kind or _infer_kind(annotation, choices)
    return FormControl(
        row,
        kind,
        _OURS.sub("", text).replace("``", ""),
        choices,
        tuple(before.split(".")),
        tuple(after.split(".")) if after else (),
    )


def _find_model_field(path: str) -> tuple[Any, str]:
    """Return a field's annotation and its help text from the models."""
    model: type[BaseModel] = Inference
    annotation: Any = None
    text = ""
    for part in path.replace("[]", "").split("."):
        name, info = next((name, info) for name, info in model.model_fields.items() if info.alias == part)
        annotation, text = info.annotation, read_field_texts(model)[name]
        model = next(models_in(annotation), model)
    return annotation, text


def _union_members(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows, without None and constraints."""
    if get_origin(annotation) in {types.UnionType, typing.Union}:
        for part in get_args(annotation):
            yield from _union_members(part)
    elif get_origin(annotation) is typing.Annotated:
        yield from _union_members(get_args(annotation)[0])
    elif annotation is not type(None):
        yield annotation


def _literal_values(annotation: Any) -> tuple[str, ...]:
    return tuple(
        str(value) for part in _union_members(annotation) if get_origin(part) is Literal for value in get_args(part)
    )


def _infer_kind(annotation: Any, choices: Sequence[str]) -> Kind:
    allowed = [*_union_members(annotation)]
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


# Completion in the YAML editor.

#: Blocks in blocks of a spec are at most this deep.
MAX_DEPTH: Final = 12


@cache
def list_completions() -> dict[str, Any]:
    """Return the fields of a document for completion: the help, the values, and the fields below, by name."""
    tree = _list_fields(Inference, 0)
    tree["apiVersion"][1], tree["kind"][1] = [API_VERSION], [KIND]
    return tree


def _list_fields(model: type[BaseModel], depth: int) -> dict[str, Any]:
    texts = read_field_texts(model)
    rows: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        inner = next(models_in(info.annotation), None) if depth < MAX_DEPTH else None
        values = [*_literal_values(info.annotation)]
        if bool in [*_union_members(info.annotation)]:
            values += ["true", "false"]
        text = _OURS.sub("", texts.get(name, "")).replace("``", "")
        rows[info.alias or name] = [text, values, _list_fields(inner, depth + 1) if inner is not None else None]
    for row in ROWS:
        parent, _, last = row.path.rpartition(".")
        if row.choices in CHOICES and last in rows and model in models_in(_find_model_field(parent)[0]):
            rows[last][1] = [*CHOICES[row.choices]()]
    return rows


# Visibility conditions, evaluated on the document.


def _min_replicas(data: Any) -> Any:
    minimum = get_at(data, "spec", "autoscaling", "minReplicas")
    return 1 if minimum is None else minimum


def _is_autoscaled(data: Any) -> bool:
    minimum, maximum = _min_replicas(data), get_at(data, "spec", "autoscaling", "maxReplicas")
    return maximum is not None and maximum != minimum


def _part_of_gpu(kind: str, *names: str) -> Callable[[Any], bool]:
    return lambda data: (
        get_at(data, "spec", "compute", "gpuRequestType") == kind
        or any(get_at(data, "spec", "compute", name) for name in names)
    )


def _has_access_type(*kinds: str) -> Callable[[Any], bool]:
    return lambda data: get_at(data, "spec", "servingPort", "authorizationType") in kinds


CONDITIONS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "": lambda data: True,  # noqa: ARG005 - always visible
    "users": _has_access_type("authorizedUsers", "authorizedUsersOrGroups"),
    "groups": _has_access_type("authorizedGroups", "authorizedUsersOrGroups"),
    "portion": _part_of_gpu("portion", "gpuPortionRequest", "gpuPortionLimit"),
    "memory": _part_of_gpu("memory", "gpuMemoryRequest", "gpuMemoryLimit"),
    "mig": _part_of_gpu("migProfile", "migProfile"),
    "moves": _is_autoscaled,
    "custom": lambda data: get_at(data, "spec", "autoscaling", "metric") == "custom",
    "zero": lambda data: _min_replicas(data) == 0,
}
