"""The rules between fields, whatever the cluster: Run:ai's own and those of every Kubernetes.

One function per rule; each yields problems and reads nothing but the spec. What depends on the cluster
stands with the part it concerns (``scaling``, ``gpu``, ``serving``, ``priority``, ``project``).
"""

from __future__ import annotations

import posixpath
import re
from functools import partial
from typing import TYPE_CHECKING, Final

from ebbtide.base import metrics, names, quantities
from ebbtide.base.problems import Problem, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference, InferenceSpec

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
#: Fields of a pod that a variable can have (k8s.io/kubernetes pkg/apis/core/validation/validation.go,
#: validEnvDownwardAPIFieldPathExpressions), beside one label or annotation by its key.
POD_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
OF_POD: Final = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
#: Keys that Ebbtide or a controller sets; a user's value would be overwritten or break the workload.
RESERVED_KEYS: Final = (
    "autoscaling.knative.dev/",
    "serving.knative.dev/",
    "networking.knative.dev/",
    "networking.internal.knative.dev/",
    "queue.sidecar.serving.knative.dev/",
    "features.knative.dev/",
    "serving.kserve.io/",
    "internal.serving.kserve.io/",
    "networking.kserve.io/",
    "ebbtide.dev/",
    "app.kubernetes.io/",
    "gpu-fraction",
    "gpu-memory",
    "kai.scheduler/",
    "priorityClassName",
    "hami.io/",
)
REGISTRY: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
#: A repository of at least two characters, with a tag, a digest, or both.
REPOSITORY: Final = re.compile(r"[a-z0-9_./-]{2,255}(:[A-Za-z0-9_.-]{1,128})?(@sha256:[0-9a-f]{64})?")
#: Where nothing can be mounted: Knative refuses it (pkg/apis/serving/k8s_validation.go), and no container could run.
RESERVED_PATHS: Final = {"/", "/dev", "/dev/log"}
AUTO: Final[Path] = ("spec", "autoscaling")
COMPUTE: Final[Path] = ("spec", "compute")
#: A thousandth of a GPU: 80 MB of 80 GB.
SMALLEST_PORTION: Final = 0.001
LARGEST_ID: Final = 2**31 - 1


def name(inference: Inference) -> Iterator[Problem]:
    """The name fits a Knative Service, an InferenceService and what they derive."""
    text = inference.metadata.name
    where = ("metadata", "name")
    if names.WORKLOAD.fullmatch(text) is None:
        yield Problem(
            "NAM001",
            where,
            f"{text!r} is no name for a service",
            "start with a lower-case letter, go on with lower-case letters, digits and dashes, end with no dash",
        )
    elif len(text) > names.LONGEST_WORKLOAD:
        yield Problem(
            "NAM002",
            where,
            f"the name has {len(text)} characters; Knative names revisions <name>-00001, which must fit 63",
            f"use at most {names.LONGEST_WORKLOAD} characters",
        )
    namespace, project = inference.metadata.namespace, inference.spec.project
    if namespace is not None and project is not None:
        yield Problem(
            "NAM003",
            ("metadata", "namespace"),
            f"both a namespace ({namespace}) and a project ({project}) are given; a project is its namespace",
            "remove one of the two",
        )
    for field, value in (("namespace", namespace), ("project", project)):
        if value is not None and names.LABEL.fullmatch(value) is None:
            yield Problem(
                "NAM001",
                ("metadata", field) if field == "namespace" else ("spec", field),
                f"{value!r} is no name for a {field}",
                "use lower-case letters, digits and dashes, a letter or digit at each end",
            )


def replicas(inference: Inference) -> Iterator[Problem]:
    """Bounds, metric and threshold agree: Run:ai's rules for its autoscaling block."""
    auto = inference.spec.autoscaling
    low = 1 if auto.min_replicas is None else auto.min_replicas
    high = auto.max_replicas if auto.max_replicas is not None else max(low, 1)
    if low > high:
        yield Problem(
            "AUT001",
            (*AUTO, "minReplicas"),
            f"minReplicas {low} is above maxReplicas {high}",
            f"lower minReplicas to {high} or raise maxReplicas to {low}",
        )
    if auto.metric is None and low < high and (low, high) != (0, 1):
        yield Problem(
            "AUT002",
            (*AUTO, "metric"),
            f"replicas may move between {low} and {high}, but nothing says what moves them",
            "set metric and metricThreshold (concurrency 10, say), or make minReplicas and maxReplicas equal",
        )
    if auto.metric is not None and auto.metric_threshold is None and auto.metric.lower() not in metrics.ABSENT:
        yield Problem(
            "AUT003",
            (*AUTO, "metricThreshold"),
            f"metric {auto.metric} has no threshold; without one the cluster falls back to a default of its own",
            "set metricThreshold, in the metric's unit per replica",
        )
    if auto.metric is None and auto.metric_threshold is not None:
        yield Problem(
            "AUT021",
            (*AUTO, "metricThreshold"),
            "a threshold without a metric changes nothing",
            "set metric, or remove metricThreshold",
        )


def metric(inference: Inference, listed: Sequence[str] = ()) -> Iterator[Problem]:
    """The metric is one that exists under that name, and fits the bounds; one of ``listed`` is no slip of another."""
    auto = inference.spec.autoscaling
    asked = auto.metric
    where = (*AUTO, "metric")
    if auto.metric_name is not None and asked != "custom":
        yield Problem(
            "AUT027",
            (*AUTO, "metricName"),
            f"metricName goes with metric: custom, but metric is {asked or 'not set'}",
            "set metric: custom, or remove metricName",
        )
    if asked is None:
        if auto.metric_threshold_percentage is not None:
            yield Problem(
                "AUT006",
                (*AUTO, "metricThresholdPercentage"),
                "a percentage of a threshold needs a metric (concurrency or throughput)",
                "set metric and metricThreshold, or remove it",
            )
        return
    if asked == "custom" and auto.metric_name is None:
        yield Problem(
            "AUT027", where, "metric custom needs the metric's exact name", "set metricName, or metric itself"
        )
        return
    if asked.lower() in metrics.ABSENT:
        yield Problem(
            "AUT032",
            where,
            f"{asked} is no metric: the autoscaler would wait for a custom one of that name",
            "remove metric and metricThreshold: any request wakes a service of 0..1 replicas, and equal bounds are a fixed "
            "number; or set one of " + ", ".join(metrics.ROWS),
        )
        return
    if asked.lower() in metrics.MISLEADING:
        right = metrics.MISLEADING[asked.lower()]
        yield Problem(
            "AUT007",
            where,
            f"{asked} means something else to Knative than to Run:ai",
            f"say {right}"
            if right
            else "memory never falls when load falls; scale on concurrency, throughput or cpu-utilization",
        )
        return
    row = metrics.find(asked)
    if row is None:
        near = None if asked in listed else metrics.near(asked)
        if near is not None:
            own = f" A metric of your own is metric: custom with metricName: {asked}"
            yield Problem(
                "AUT007",
                where,
                f"there is no metric {asked}",
                f"did you mean {near}?" + (own if metrics.NAME.fullmatch(asked) else ""),
            )
            return
        if metrics.NAME.fullmatch(asked) is None:
            yield Problem(
                "AUT008",
                where,
                f"{asked!r} is neither a built-in metric nor a Prometheus-style name",
                f"use one of {', '.join(metrics.ROWS)}, or letters, digits, _ and :",
            )
            return
        row = metrics.ROWS["custom"]
    if auto.metric_name is not None and metrics.NAME.fullmatch(auto.metric_name) is None:
        yield Problem(
            "AUT008",
            (*AUTO, "metricName"),
            f"{auto.metric_name!r} is not a Prometheus-style name",
            "use letters, digits, _ and :",
        )
    yield from _threshold(inference, row)


def _threshold(inference: Inference, row: metrics.Metric) -> Iterator[Problem]:
    auto = inference.spec.autoscaling
    value = auto.metric_threshold
    where = (*AUTO, "metricThreshold")
    if auto.min_replicas == 0 and not row.to_zero:
        yield Problem(
            "AUT004",
            (*AUTO, "minReplicas"),
            f"a service that scales on {auto.metric} cannot rest at zero: with no replica there is no {row.name} to read",
            "set minReplicas to 1 or more, or scale on concurrency or throughput, or leave the metric out with 0..1",
        )
    if row.autoscaler == "hpa" and auto.metric_threshold_percentage is not None:
        yield Problem(
            "AUT006",
            (*AUTO, "metricThresholdPercentage"),
            f"a percentage of the threshold works with concurrency and throughput only, not with {auto.metric}",
            "remove it and put the value you want into metricThreshold",
        )
    if value is None:
        return
    if row.autoscaler == "hpa" and value != int(value):
        yield Problem(
            "AUT010",
            where,
            f"the threshold of {auto.metric} must be a whole number: the HPA class cuts {value:g} to {int(value)}",
            "use whole milliseconds or percent, or let the metric count in a smaller unit",
        )
    elif value < (1 if row.autoscaler == "hpa" else 0.01):
        yield Problem(
            "AUT011",
            where,
            f"a threshold of {value:g} is below the smallest that {row.name} can have",
            "use 1 or more" if row.autoscaler == "hpa" else "use 0.01 or more",
        )
    elif row.name in {"cpu-utilization", "gpu-utilization"} and value > (100 if row.name[0] == "g" else 1000):
        yield Problem(
            "AUT011",
            where,
            f"a threshold of {value:g} % is never reached" if row.name[0] == "g" else f"{value:g} % is out of reach",
            "use a percentage from 1 to 100" if row.name[0] == "g" else "use a percentage from 1 to 1000",
        )
    elif value > 2**31 - 1:
        yield Problem(
            "AUT011", where, f"a threshold of {quantities.number(value)} is out of reach", "use a smaller one"
        )


def knobs(inference: Inference) -> Iterator[Problem]:
    """The remaining autoscaling knobs fit the bounds."""
    auto = inference.spec.autoscaling
    low = 1 if auto.min_replicas is None else auto.min_replicas
    high = auto.max_replicas if auto.max_replicas is not None else max(low, 1)
    if auto.scale_to_zero_retention_seconds and low != 0:
        yield Problem(
            "AUT005",
            (*AUTO, "scaleToZeroRetentionSeconds"),
            f"with minReplicas {low} the service never goes to zero, so nothing is retained",
            "set minReplicas to 0, or remove it",
        )
    if auto.initial_replicas is not None and auto.initial_replicas > high:
        yield Problem(
            "AUT020",
            (*AUTO, "initialReplicas"),
            f"initialReplicas {auto.initial_replicas} is above maxReplicas {high}",
            f"use at most {high}",
        )
    if auto.activation_replicas is not None:
        if auto.activation_replicas > high:
            yield Problem(
                "AUT020",
                (*AUTO, "activationReplicas"),
                f"activationReplicas {auto.activation_replicas} is above maxReplicas {high}",
                f"use at most {high}",
            )
        elif low > 0:
            yield warning(
                "AUT021",
                (*AUTO, "activationReplicas"),
                f"with minReplicas {low} the service never wakes from zero, so this changes nothing",
                "remove it",
            )
    if auto.initialization_timeout_seconds is not None:
        newer = inference.spec.serving_configuration.initialization_timeout_seconds
        yield warning(
            "AUT026",
            (*AUTO, "initializationTimeoutSeconds"),
            "this field has moved; "
            + ("the value in servingConfiguration is used" if newer is not None else "its value is used"),
            "set servingConfiguration.initializationTimeoutSeconds instead",
        )


def gpu(inference: Inference) -> Iterator[Problem]:
    """Type, portion, memory and devices agree."""
    compute = inference.spec.compute
    portion, memory, profile = compute.gpu_portion_request, compute.gpu_memory_request, compute.mig_profile
    kind = compute.gpu_request_type
    given = {"portion": portion, "memory": memory, "migProfile": profile}
    fields = {"portion": "gpuPortionRequest", "memory": "gpuMemoryRequest", "migProfile": "migProfile"}
    several = [fields[key] for key, value in given.items() if value is not None]
    if len(several) > 1:
        yield Problem(
            "GPU003",
            (*COMPUTE, several[1]),
            f"{' and '.join(several)} both state the part of a GPU",
            "keep one of them",
        )
    elif kind is not None and given[kind] is None:
        yield Problem(
            "GPU001",
            (*COMPUTE, "gpuRequestType"),
            f"gpuRequestType is {kind}, but {fields[kind]} is not set",
            f"set {fields[kind]}" + (f", or gpuRequestType to fit {several[0]}" if several else ""),
        )
    if portion is not None and 0 < portion < SMALLEST_PORTION:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionRequest"),
            f"a portion of {portion:g} is less than any backend can count",
            f"use {SMALLEST_PORTION:g} or more",
        )
    elif portion is not None and not 0 < portion <= 1:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionRequest"),
            f"a portion of {portion:g} is not a part of one GPU",
            f"for {portion:g} whole devices set gpuDevicesRequest: {int(portion)} and remove the portion"
            if portion > 1 and portion == int(portion)
            else "use a number above 0 and at most 1, or leave it out for no GPU",
        )
    for request, limit, field in (
        (portion, compute.gpu_portion_limit, "gpuPortionLimit"),
        (memory, compute.gpu_memory_limit, "gpuMemoryLimit"),
    ):
        if limit is None:
            continue
        if request is None:
            yield Problem(
                "GPU001",
                (*COMPUTE, field),
                f"{field} without {field.replace('Limit', 'Request')} says nothing",
                f"set {field.replace('Limit', 'Request')} too",
            )
        elif (quantities.nano(limit) or 0) < (quantities.nano(request) or 0):
            yield Problem(
                "GPU004",
                (*COMPUTE, field),
                f"the limit {limit} is below the request {request}",
                "raise the limit to the request or above",
            )
    if compute.gpu_portion_limit is not None and compute.gpu_portion_limit > 1:
        yield Problem(
            "GPU002",
            (*COMPUTE, "gpuPortionLimit"),
            f"a portion of {compute.gpu_portion_limit:g} is more than one GPU",
            "use at most 1",
        )
    devices = compute.gpu_devices_request
    if devices == 0 and several:
        yield Problem(
            "GPU001",
            (*COMPUTE, "gpuDevicesRequest"),
            f"no device is asked for, but {several[0]} asks for a part of one",
            f"set gpuDevicesRequest to 1, or remove {several[0]}",
        )
    if devices is not None and devices > 1 and (memory is not None or profile is not None):
        yield Problem(
            "GPU006",
            (*COMPUTE, "gpuDevicesRequest"),
            f"{devices} devices can be asked for by portion only",
            "use gpuRequestType: portion, or one device",
        )


def cpu(inference: Inference) -> Iterator[Problem]:
    """CPU, memory and other resources are quantities, and limits are not below requests."""
    compute = inference.spec.compute
    for field, text in (
        ("cpuMemoryRequest", compute.cpu_memory_request),
        ("cpuMemoryLimit", compute.cpu_memory_limit),
        ("gpuMemoryRequest", compute.gpu_memory_request),
        ("gpuMemoryLimit", compute.gpu_memory_limit),
    ):
        if text is not None and not quantities.nano(text):
            yield Problem(
                "CPU002",
                (*COMPUTE, field),
                f"{text!r} is no amount of memory",
                "write it as 512Mi, 16Gi or 20G",
            )
    for field, cores in (("cpuCoreRequest", compute.cpu_core_request), ("cpuCoreLimit", compute.cpu_core_limit)):
        if cores is not None and not quantities.is_milli(cores):
            yield Problem(
                "CPU005",
                (*COMPUTE, field),
                f"{cores:g} cores are no whole thousandths of one, which is the finest that Kubernetes counts",
                f"use {max(0.001, round(cores, 3)):g}",
            )
    for low, high, field in (
        (compute.cpu_core_request, compute.cpu_core_limit, "cpuCoreLimit"),
        (compute.cpu_memory_request, compute.cpu_memory_limit, "cpuMemoryLimit"),
    ):
        if low is not None and high is not None and (quantities.nano(high) or 0) < (quantities.nano(low) or 0):
            yield Problem(
                "CPU001",
                (*COMPUTE, field),
                f"the limit {high} is below the request {low}",
                "raise the limit to the request or above",
            )
    seen: set[str] = set()
    for index, item in enumerate(compute.extended_resources):
        where = (*COMPUTE, "extendedResources", index)
        count = quantities.nano(item.quantity)
        if "/" not in item.resource or LABEL_KEY.fullmatch(item.resource) is None:
            yield Problem(
                "CPU003",
                (*where, "resource"),
                f"{item.resource!r} is no extended resource's name",
                "write it with its vendor: nvidia.com/gpu, rdma/hca",
            )
        elif item.resource in seen:
            yield Problem("CPU003", (*where, "resource"), f"{item.resource} is asked for twice", "keep one")
        seen.add(item.resource)
        if not count or count % quantities.NANO:
            yield Problem(
                "CPU004",
                (*where, "quantity"),
                f"{item.quantity!r} of {item.resource}: devices are counted in whole numbers from 1",
                "use a whole number",
            )


def environment(inference: Inference) -> Iterator[Problem]:
    """Each variable has one source and a name that can be set."""
    seen: dict[str, int] = {}
    for index, item in enumerate(inference.spec.environment_variables):
        where = ("spec", "environmentVariables", index)
        if item.exclude:
            continue
        sources = [
            field
            for field, value in (
                ("value", item.value),
                ("secret", item.secret),
                ("configMap", item.config_map),
                ("podFieldRef", item.pod_field_ref),
                ("userCredential", item.user_credential),
            )
            if value is not None
        ]
        if len(sources) != 1:
            yield Problem(
                "ENV001",
                where,
                f"{item.name} has {'no value' if not sources else 'several: ' + ', '.join(sources)}",
                "give it exactly one of value, secret, configMap and podFieldRef",
            )
        elif item.user_credential is not None:
            yield Problem(
                "ENV003",
                (*where, "userCredential"),
                f"{item.name} comes from a Run:ai user's credentials, which only Run:ai's control plane has",
                "put the value into a Secret of the project and use secret: {name, key}",
            )
        elif item.pod_field_ref is not None and not _is_pod_field(item.pod_field_ref.path):
            yield Problem(
                "ENV007",
                (*where, "podFieldRef", "path"),
                f"{item.pod_field_ref.path!r} is no field of the pod that a variable can have",
                f"use one of {', '.join(POD_FIELDS)}, metadata.labels['key'] or metadata.annotations['key']",
            )
        if ENV_NAME.fullmatch(item.name) is None:
            yield Problem(
                "ENV005",
                (*where, "name"),
                f"{item.name!r} is no name for a variable",
                "use letters, digits and _, a letter or _ first",
            )
        elif item.name in seen:
            yield Problem(
                "ENV004",
                (*where, "name"),
                f"{item.name} is set twice (also as environmentVariables[{seen[item.name]}])",
                "keep one",
            )
        seen.setdefault(item.name, index)


def _is_pod_field(path: str) -> bool:
    by_key = OF_POD.fullmatch(path)
    if by_key is None:
        return path in POD_FIELDS
    kind, key = by_key.groups()
    return LABEL_KEY.fullmatch(key if kind == "labels" else key.lower()) is not None


def metadata_keys(inference: Inference) -> Iterator[Problem]:
    """Labels and annotations have lawful keys and touch none that a controller owns."""
    spec, meta = inference.spec, inference.metadata
    groups = (
        (
            "label",
            ("spec", "labels"),
            [(i, item.name, item.value) for i, item in enumerate(spec.labels) if not item.exclude],
        ),
        (
            "annotation",
            ("spec", "annotations"),
            [(i, item.name, item.value) for i, item in enumerate(spec.annotations) if not item.exclude],
        ),
        ("label", ("metadata", "labels"), [(key, key, value) for key, value in (meta.labels or {}).items()]),
        (
            "annotation",
            ("metadata", "annotations"),
            [(key, key, value) for key, value in (meta.annotations or {}).items()],
        ),
    )
    for kind, where, items in groups:
        seen = set()
        for place, key, value in items:
            if LABEL_KEY.fullmatch(key) is None:
                yield Problem(
                    "LAB001",
                    (*where, place),
                    f"{key!r} is no key for a {kind}",
                    "use letters, digits, -, _ and ., with an optional prefix and / in front",
                )
            elif key.startswith(RESERVED_KEYS):
                yield Problem(
                    "LAB002",
                    (*where, place),
                    f"{key} belongs to Ebbtide or to a controller and would be overwritten or break the service",
                    "use the spec's own field for it, or patches if there is none",
                )
            elif key in seen:
                yield Problem("LAB003", (*where, place), f"{key} is set twice", "keep one")
            elif kind == "label" and LABEL_VALUE.fullmatch(value) is None:
                yield Problem(
                    "LAB001",
                    (*where, place),
                    f"{value!r} is no value for a label",
                    "use at most 63 letters, digits, -, _ and ., or make it an annotation",
                )
            seen.add(key)


def placement(inference: Inference) -> Iterator[Problem]:
    """Tolerations and node conditions are ones that Kubernetes takes."""
    for index, item in enumerate(inference.spec.tolerations):
        where = ("spec", "tolerations", index)
        if item.exclude:
            continue
        if item.operator == "Exists" and item.value:
            yield Problem(
                "PLC003",
                (*where, "value"),
                "operator Exists takes any value, so Kubernetes refuses one beside it",
                "remove value, or use operator Equal",
            )
        if item.operator != "Exists" and not item.key:
            yield Problem(
                "PLC003",
                where,
                "a toleration without a key tolerates every taint, which needs operator Exists",
                "set key, or operator: Exists",
            )
        if item.seconds is not None and item.effect != "NoExecute":
            yield Problem(
                "PLC003",
                (*where, "seconds"),
                "seconds count only for the effect NoExecute",
                "set effect: NoExecute, or remove seconds",
            )
        if item.key is not None and LABEL_KEY.fullmatch(item.key) is None:
            yield Problem("PLC003", (*where, "key"), f"{item.key!r} is no taint's key", "use the taint's own key")
        if item.value is not None and LABEL_VALUE.fullmatch(item.value) is None:
            yield Problem(
                "PLC003",
                (*where, "value"),
                f"{item.value!r} is no taint's value",
                "use the taint's own value",
            )
    affinity = inference.spec.node_affinity_required
    for number, term in enumerate(affinity.node_selector_terms if affinity else ()):
        for index, rule in enumerate(term.match_expressions):
            place = ("spec", "nodeAffinityRequired", "nodeSelectorTerms", number, "matchExpressions", index)
            bare = rule.operator in {"Exists", "DoesNotExist"}
            one = rule.operator in {"Gt", "Lt"}
            if bare and rule.values:
                yield Problem("PLC004", (*place, "values"), f"{rule.operator} takes no values", "remove them")
            elif not bare and not rule.values:
                yield Problem("PLC004", (*place, "values"), f"{rule.operator} needs values", "list them")
            elif one and (len(rule.values) != 1 or not rule.values[0].lstrip("-").isdigit()):
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    f"{rule.operator} compares with one whole number",
                    "give one",
                )
            elif any(LABEL_VALUE.fullmatch(value) is None for value in rule.values):
                yield Problem(
                    "PLC004",
                    (*place, "values"),
                    "a value here is no label's value",
                    "use the node label's value",
                )
            if LABEL_KEY.fullmatch(rule.key) is None:
                yield Problem(
                    "PLC004",
                    (*place, "key"),
                    f"{rule.key!r} is no label's key",
                    "use the node label's own key",
                )
    for field, affinity_rule in (
        ("podAffinity", inference.spec.pod_affinity),
        ("podAntiAffinity", inference.spec.pod_anti_affinity),
    ):
        if affinity_rule is not None and LABEL_KEY.fullmatch(affinity_rule.key) is None:
            yield Problem(
                "PLC004",
                ("spec", field, "key"),
                f"{affinity_rule.key!r} is no node label's key",
                "use kubernetes.io/hostname or topology.kubernetes.io/zone, say",
            )


def storage(inference: Inference) -> Iterator[Problem]:
    """Volumes are of kinds that a restricted pod may have, and mount at different places."""
    volumes = inference.spec.storage
    base = ("spec", "storage")
    for field, items, code, why, way in (
        ("hostPath", volumes.host_path, "STO001", "a folder of the node breaks the pod's isolation, and the restricted rule refuses it", "use a persistent volume claim"),
        ("nfs", volumes.nfs, "STO002", "Knative and the restricted rule take an NFS share only through a claim", "make a PersistentVolume for the share and use pvc with existingPvc: true"),
        ("git", volumes.git, "STO003", "it needs a git container, which Ebbtide does not ship", "put the files into the image, or use model.uri"),
        ("dataVolume", volumes.data_volume, "STO004", "a Run:ai data volume lives in Run:ai's control plane", "use the claim behind it: pvc with existingPvc: true"),
    ):  # fmt: skip
        for index, item in enumerate(items):
            if not item.exclude:
                yield Problem(code, (*base, field, index), f"{field} cannot be mounted here: {why}", way)
    paths: dict[str, str] = {}
    for field, index, path in _mount_paths(inference.spec):
        place = f"storage.{field}[{index}]" if field != "largeShm" else "compute.largeShmRequest"
        if path in paths:
            yield Problem(
                "STO006",
                (*base, field, index) if field != "largeShm" else (*COMPUTE, "largeShmRequest"),
                f"{path} is taken by {paths[path]} already",
                "choose another path",
            )
        elif ":" in path:
            yield Problem(
                "STO006", (*base, field, index), f"{path!r}: a mount path has no colon", "choose another path"
            )
        elif path in RESERVED_PATHS:
            yield Problem(
                "STO006",
                (*base, field, index),
                f"{path} is the container's own, and nothing is mounted there",
                "mount it at a folder of its own: /data, say",
            )
        paths.setdefault(path, place)
    for index, files in enumerate(volumes.config_map_volume):
        inside = files.sub_path
        if not files.exclude and inside is not None and (inside.startswith("/") or ".." in inside.split("/")):
            yield Problem(
                "STO009",
                (*base, "configMapVolume", index, "subPath"),
                f"{inside!r} leads out of the volume",
                "name one of its keys, without a / in front and without ..",
            )
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if scratch.size_limit is not None and not quantities.nano(scratch.size_limit):
            yield Problem(
                "CPU002",
                (*base, "emptyDirVolume", index, "sizeLimit"),
                f"{scratch.size_limit!r} is no amount of storage",
                "write it as 10Gi",
            )
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield from _claim((*base, "pvc", index), claim)


def _mount_paths(spec: InferenceSpec) -> Iterator[tuple[str, int, str]]:
    if spec.compute.large_shm_request:
        yield "largeShm", 0, "/dev/shm"  # noqa: S108 - the pod's, not ours
    volumes = spec.storage
    for index, files in enumerate(volumes.config_map_volume):
        if not files.exclude:
            yield "configMapVolume", index, _clean(files.mount_path)
    for index, secret in enumerate(volumes.secret_volume):
        if not secret.exclude:
            yield "secretVolume", index, _clean(secret.mount_path)
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if not scratch.exclude:
            yield "emptyDirVolume", index, _clean(scratch.path)
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield "pvc", index, _clean(claim.path)


def _clean(path: str) -> str:
    """Return an absolute path as Knative compares it: ``/a//b/`` and ``/a/./b`` are ``/a/b``."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _claim(where: Path, claim: object) -> Iterator[Problem]:
    # Typed loosely: the compiled models are not pydantic's classes.
    existing: bool = claim.existing_pvc  # type: ignore[attr-defined]
    info = claim.claim_info  # type: ignore[attr-defined]
    if claim.ephemeral:  # type: ignore[attr-defined]
        yield Problem(
            "STO005",
            (*where, "ephemeral"),
            "Run:ai offers no ephemeral claims for inference, and Knative none at all",
            "use emptyDirVolume for scratch space",
        )
    if claim.data_sharing:  # type: ignore[attr-defined]
        yield Problem(
            "STO005",
            (*where, "dataSharing"),
            "sharing a claim over a project is done by Run:ai's control plane",
            "make the claim with access mode ReadWriteMany and use existingPvc: true",
        )
    if existing and claim.claim_name is None:  # type: ignore[attr-defined]
        yield Problem("STO005", where, "existingPvc without claimName names no claim", "set claimName")
    if existing and info is not None:
        yield Problem(
            "STO005",
            (*where, "claimInfo"),
            "an existing claim is not made again",
            "remove claimInfo or existingPvc",
        )
    if not existing and (info is None or info.size is None):
        yield Problem("STO005", where, "a new claim needs a size", "set claimInfo.size, or existingPvc: true")
    if info is None:
        return
    if info.size is not None and not quantities.nano(info.size):
        yield Problem(
            "CPU002",
            (*where, "claimInfo", "size"),
            f"{info.size!r} is no amount of storage",
            "write it as 100Gi",
        )
    if info.volume_mode == "Block":
        yield Problem(
            "STO005",
            (*where, "claimInfo", "volumeMode"),
            "a raw device cannot be mounted at a path, and Knative has no volumeDevices",
            "use Filesystem",
        )
    if info.added_attr_values:
        yield Problem(
            "STO005",
            (*where, "claimInfo", "addedAttrValues"),
            "attributes of a storage asset are known to Run:ai's control plane only",
            "choose the storageClass instead",
        )
    modes = info.access_modes
    if modes is not None and not (modes.read_write_once or modes.read_only_many or modes.read_write_many):
        yield Problem("STO005", (*where, "claimInfo", "accessModes"), "the claim has no access mode", "set one to true")


def security(inference: Inference) -> Iterator[Problem]:
    """The container stays within Pod Security's restricted rule, but for running as root where that is allowed."""
    rules = inference.spec.security
    where = ("spec", "security")
    for index, capability in enumerate(rules.capabilities):
        if capability != "NET_BIND_SERVICE":
            yield Problem(
                "SEC001",
                (*where, "capabilities", index),
                f"capability {capability} is outside the restricted rule",
                "remove it; NET_BIND_SERVICE alone may be added",
            )
    if rules.seccomp_profile_type in {"Unconfined", "Localhost"}:
        yield Problem(
            "SEC002",
            (*where, "seccompProfileType"),
            f"seccomp {rules.seccomp_profile_type} is "
            + (
                "outside the restricted rule"
                if rules.seccomp_profile_type == "Unconfined"
                else "incomplete: Run:ai's spec names no profile file"
            ),
            "use RuntimeDefault",
        )
    if rules.uid_gid_source == "fromIdpToken":
        yield Problem(
            "SEC004",
            (*where, "uidGidSource"),
            "there is no identity provider to take the user's id from",
            "use fromTheImage, or custom with runAsUid and runAsGid",
        )
    if rules.uid_gid_source == "custom" and rules.run_as_uid is None:
        yield Problem("SEC004", (*where, "uidGidSource"), "custom needs the id", "set runAsUid")
    if rules.uid_gid_source == "fromTheImage":
        for field, value in (
            ("runAsUid", rules.run_as_uid),
            ("runAsGid", rules.run_as_gid),
            ("supplementalGroups", rules.supplemental_groups),
        ):
            if value is not None:
                yield Problem(
                    "SEC004",
                    (*where, field),
                    f"{field} contradicts uidGidSource: fromTheImage",
                    "use custom, or remove it",
                )
    groups = (rules.supplemental_groups or "").replace(";", ",")
    if any(text.strip() and int(text) > LARGEST_ID for text in groups.split(",")):
        yield Problem(
            "SEC004", (*where, "supplementalGroups"), "a group's id is out of range", f"use at most {LARGEST_ID}"
        )
    if rules.run_as_non_root and rules.run_as_uid == 0:
        yield Problem(
            "SEC005",
            (*where, "runAsUid"),
            "runAsNonRoot refuses user 0",
            "choose another user, or runAsNonRoot: false",
        )


def serving(inference: Inference) -> Iterator[Problem]:
    """Image or model, port, access and links are ones that can be served."""
    spec = inference.spec
    if spec.image is None and spec.model is None:
        yield Problem(
            "SRV001", ("spec", "image"), "nothing says what to run", "set image, or model with format and uri"
        )
    elif spec.image is not None and not is_image(spec.image):
        yield Problem(
            "SRV021",
            ("spec", "image"),
            f"{spec.image!r} is no image reference, and Knative refuses what it cannot parse",
            "write it as registry.example.com/team/name:tag, in lower case, or with @sha256:…",
        )
    for field, value in (("command", spec.command), ("args", spec.args)):
        if isinstance(value, str) and not _words(value):
            yield Problem(
                "SRV016",
                ("spec", field),
                f"{field} cannot be split into words as a shell splits it",
                "close the quotes, or write a list of words",
            )
    if spec.model is not None and spec.model.uri is None and spec.image is None:
        yield Problem("SRV001", ("spec", "model", "uri"), "nothing says where the model is", "set model.uri")
    port = spec.serving_port
    where = ("spec", "servingPort")
    if port.authorized_users and port.authorized_groups:
        yield Problem("SRV006", (*where, "authorizedGroups"), "users and groups exclude each other", "keep one")
    kind = port.authorization_type or "public"
    wanted = {"authorizedUsers": "authorizedUsers", "authorizedGroups": "authorizedGroups"}.get(kind)
    for field, items in (
        ("authorizedUsers", port.authorized_users),
        ("authorizedGroups", port.authorized_groups),
    ):
        if wanted == field and not items:
            yield Problem("SRV006", (*where, field), f"{kind} names nobody", f"list them in {field}")
        if items and wanted != field and kind != "authorizedUsersOrGroups":
            yield Problem(
                "SRV006",
                (*where, field),
                f"{field} is given, but the type is {kind}: everybody it lets in would get in",
                f"set authorizationType: {field}",
            )
    if kind == "authorizedUsersOrGroups" and not (port.authorized_users or port.authorized_groups):
        yield Problem("SRV006", (*where, "authorizationType"), f"{kind} names nobody", "list users or groups")
    serving_port = port.container or 8080
    for index, extra in enumerate(spec.ports):
        if not extra.exclude and (extra.container != serving_port or extra.service_type not in {None, "ClusterIP"}):
            yield Problem(
                "SRV012",
                ("spec", "ports", index),
                f"port {extra.container} as {extra.service_type or 'a further port'}: servingPort alone is served, at the service's URL",
                "serve everything on servingPort, or run the rest as a service of its own",
            )
    for index, url in enumerate(spec.exposed_urls):
        if not url.exclude:
            yield from _exposed(index, url, serving_port)
            if port.cluster_local_access_only:
                yield Problem(
                    "SRV028",
                    ("spec", "exposedUrls", index),
                    "clusterLocalAccessOnly keeps the service inside the cluster, and a host name of its own publishes it: "
                    "a DomainMapping always answers outside",
                    "remove one of the two",
                )
    slo = spec.slo
    if (
        slo is not None
        and slo.mean_latency_milliseconds is not None
        and slo.p95_latency_milliseconds is not None
        and slo.mean_latency_milliseconds > slo.p95_latency_milliseconds
    ):
        yield warning(
            "SLO001",
            ("spec", "slo", "meanLatencyMilliseconds"),
            "a mean above the 95th percentile is met whenever the percentile is, or nearly",
            "lower it, or remove it",
        )


def _exposed(index: int, url: object, serving_port: int) -> Iterator[Problem]:
    where = ("spec", "exposedUrls", index)
    container: int | None = url.container  # type: ignore[attr-defined]
    address: str | None = url.url  # type: ignore[attr-defined]
    kind = url.authorization_type or "public"  # type: ignore[attr-defined]
    if container is not None and container != serving_port:
        yield Problem(
            "SRV013",
            (*where, "container"),
            f"port {container} is not the serving port {serving_port}, the only one that Knative serves",
            "use the serving port",
        )
    if address is None:
        yield Problem(
            "SRV013",
            where,
            "an exposed URL without url has no host name",
            "set url: https://chat.example.com",
        )
    elif host(address) is None:
        yield Problem(
            "SRV013",
            (*where, "url"),
            f"{address!r} is not a host name of its own: a path cannot be routed to a service by Knative",
            "use https:// and a full host name, without path or port",
        )
    if kind != "public" or url.authorized_users or url.authorized_groups:  # type: ignore[attr-defined]
        yield Problem(
            "SRV005",
            (*where, "authorizationType"),
            "a host name of its own has no rules of its own: it lets in whom the serving port does",
            "use servingPort.authorizationType, and remove this",
        )


def is_image(reference: str) -> bool:
    """Whether an image reference can be parsed (github.com/google/go-containerregistry pkg/name, weak validation)."""
    first, slash, rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return REGISTRY.fullmatch(first) is not None and REPOSITORY.fullmatch(rest) is not None
    return REPOSITORY.fullmatch(reference) is not None


def host(url: str) -> str | None:
    """Return the host name of an address without path or port, or None if it has more or less."""
    found = re.fullmatch(r"(?:https?://)?([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+)/?", url)
    return found[1] if found and len(found[1]) <= 253 else None  # noqa: PLR2004 - DNS


def probes(inference: Inference) -> Iterator[Problem]:
    """Each probe asks in exactly one way."""
    all_probes = inference.spec.probes
    serving_port = inference.spec.serving_port.container
    for field, probe in (
        ("readiness", all_probes.readiness),
        ("liveness", all_probes.liveness),
        ("startup", all_probes.startup),
    ):
        if probe is None:
            continue
        handler = probe.handler
        where = ("spec", "probes", field)
        if (
            handler.grpc is not None
            and handler.grpc.port is None
            and serving_port is None
            and inference.spec.model is not None
        ):
            yield Problem(
                "PRB003",
                (*where, "handler", "grpc"),
                f"the {field} probe asks by gRPC, and which port the model's runtime serves that on is not known here",
                "set handler.grpc.port",
            )
        ways = [way for way in (handler.http_get, handler.tcp_socket, handler.grpc) if way is not None]
        if len(ways) != 1:
            yield Problem(
                "PRB001",
                (*where, "handler"),
                f"the {field} probe asks in {len(ways)} ways",
                "set exactly one of httpGet, tcpSocket, grpc",
            )
        if field != "readiness" and probe.success_threshold not in {None, 1}:
            yield Problem(
                "PRB002",
                (*where, "successThreshold"),
                f"Kubernetes takes only 1 for a {field} probe",
                "remove it",
            )


def control_plane(inference: Inference) -> Iterator[Problem]:
    """What only Run:ai's control plane can do is refused, and marks for its policies change nothing."""
    spec = inference.spec
    if spec.create_home_dir:
        yield Problem(
            "RUN003",
            ("spec", "createHomeDir"),
            "a home folder is made by Run:ai for the user it knows; here there is none",
            "mount an emptyDirVolume or a claim where the program wants it, and set HOME",
        )
    for index, secret in enumerate(spec.image_pull_secrets):
        if secret.user_credential and not secret.exclude:
            yield Problem(
                "ENV003",
                ("spec", "imagePullSecrets", index, "userCredential"),
                f"{secret.name} is a Run:ai user's credential, which only Run:ai's control plane has",
                "make a Secret of type kubernetes.io/dockerconfigjson in the project and name it",
            )
    for where, items in _excludable(spec):
        for index, item in enumerate(items):
            if item.exclude:  # type: ignore[attr-defined]
                yield warning(
                    "RUN004",
                    (*where, index, "exclude"),
                    "exclude drops an item that a Run:ai policy would add; there is no policy here, so the item is left out",
                    "remove the item",
                )


def _excludable(spec: InferenceSpec) -> Iterator[tuple[Path, Sequence[object]]]:
    yield ("spec", "environmentVariables"), spec.environment_variables
    yield ("spec", "labels"), spec.labels
    yield ("spec", "annotations"), spec.annotations
    yield ("spec", "tolerations"), spec.tolerations
    yield ("spec", "imagePullSecrets"), spec.image_pull_secrets
    yield ("spec", "compute", "extendedResources"), spec.compute.extended_resources
    yield ("spec", "exposedUrls"), spec.exposed_urls
    yield ("spec", "ports"), spec.ports
    yield ("spec", "relatedUrls"), spec.related_urls
    volumes = spec.storage
    yield ("spec", "storage", "configMapVolume"), volumes.config_map_volume
    yield ("spec", "storage", "secretVolume"), volumes.secret_volume
    yield ("spec", "storage", "emptyDirVolume"), volumes.empty_dir_volume
    yield ("spec", "storage", "pvc"), volumes.pvc
    yield ("spec", "storage", "hostPath"), volumes.host_path
    yield ("spec", "storage", "nfs"), volumes.nfs
    yield ("spec", "storage", "git"), volumes.git
    yield ("spec", "storage", "dataVolume"), volumes.data_volume


def _words(text: str) -> list[str] | None:
    import shlex  # noqa: PLC0415 - most specs have no command

    try:
        return shlex.split(text)
    except ValueError:
        return None


def check(inference: Inference, listed: Sequence[str] = ()) -> list[Problem]:
    """Return what every rule finds, in this order. ``listed`` are the custom metrics that the cluster is known to have."""
    rules: tuple[Callable[[Inference], Iterator[Problem]], ...] = (
        name,
        replicas,
        partial(metric, listed=listed),
        knobs,
        gpu,
        cpu,
        environment,
        metadata_keys,
        placement,
        storage,
        security,
        serving,
        probes,
        control_plane,
    )
    return [problem for rule in rules for problem in rule(inference)]
