"""From live or exported objects back to a spec: field by field, then a merge patch for what has no word.

The inverse is best effort and is never trusted: the spec it finds is rendered, and whatever differs from the
live object becomes a patch in ``spec.patches``. So rendering an import gives the object back, whatever was in
it.
``knative`` and ``kserve`` say where the parts of their objects are and what their webhooks add.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, metrics, names, quantities
from ebbtide.base.problems import Path, Problem, dotted, errors, warning
from ebbtide.profile import metric_names
from ebbtide.readers import shapes
from ebbtide.readers.reading import document
from ebbtide.spec.rules.naming import LABEL_KEY, LABEL_VALUE, RESERVED_KEYS
from ebbtide.translation import priority
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.gpu.backend import GpuPod
from ebbtide.translation.objects import difference, prune
from ebbtide.translation.pods import Conflict
from ebbtide.translation.storage import SHM
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from ebbtide.profile.models import NodePool, Profile, ProfileSpec
    from ebbtide.translation.gpu.backend import GpuFields
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Serving

#: Repairs before an object counts as one that cannot be rendered; each takes at least one field away.
ROUNDS: Final = 60
#: A path that stands for a model whose address the spec has no word for: where KServe's runtimes find it.
PLACEHOLDER: Final = "file:///mnt/models"

#: A thousandth of a unit, in billionths.
MILLI: Final = quantities.NANO // 1000
#: What ``compute.cpuCoreRequest`` takes at most.
MOST_CORES: Final = 100_000


class _Any:
    """What a row of a table takes for every value."""


ANY: Final = _Any()


@dataclass(frozen=True, slots=True)
class Default:
    """A value that a server or a webhook adds: where (``*`` is each item of a list), what, and who does so.

    With ``marked`` a spec can say the same, so it is taken out only of objects that a server has touched.
    """

    where: tuple[str, ...]
    value: Any
    source: str
    marked: bool = False


_META: Final = "Kubernetes metav1.ObjectMeta, set by the API server"
_USER: Final = "serving pkg/apis/serving/metadata_validation.go, SetUserInfo"
#: What every server adds, whatever the kind.
SERVER: Final = (
    Default(("status",), ANY, "set by the controllers"),
    *(
        Default(("metadata", name), ANY, _META)
        for name in (
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
            "ownerReferences",
            "finalizers",
        )
    ),
    *(
        Default(("metadata", "annotations", name), ANY, source)
        for name, source in (
            ("kubectl.kubernetes.io/last-applied-configuration", "kubectl apply"),
            ("serving.knative.dev/creator", _USER),
            ("serving.knative.dev/lastModifier", _USER),
        )
    ),
)
#: Any of these shows that a server has been at the object.
MARKS: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
#: Where containers with resources are, in either kind.
CONTAINERS: Final = (
    ("spec", "template", "spec", "containers", "*"),
    ("spec", "predictor", "containers", "*"),
    ("spec", "predictor", "model"),
)


@dataclass(frozen=True, slots=True)
class View:
    """A cleaned object, and where its parts are, whichever kind it is of."""

    obj: Object
    serving: Serving
    pod_metadata: Path
    pod: Path
    container: Path | None
    concurrency: Path
    timeout: Path
    usual_minimum: int
    model: Path | None = None
    predictor: Path | None = None

    @property
    def name(self) -> str:
        """The workload's name; none is an empty text."""
        found = at(self.obj, ("metadata", "name"))
        return found if isinstance(found, str) else ""

    def part(self, base: Path | None, *rest: str | int) -> Any:
        """Return what is under one of the parts, None if the part or the value is missing."""
        return None if base is None else at(self.obj, (*base, *rest))

    def annotations(self) -> dict[str, str]:
        """Return the pods' annotations; those of scaling may stand on an InferenceService itself too."""
        own = texts(self.part(self.pod_metadata, "annotations"))
        if self.predictor is None:
            return own
        above = texts(at(self.obj, ("metadata", "annotations")))
        return {**{key: value for key, value in above.items() if key.startswith(keys.AUTOSCALING)}, **own}


@dataclass(slots=True)
class Draft:
    """The spec as it is found, with the live place of each part."""

    spec: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Path] = field(default_factory=dict)

    def put(self, where: tuple[str, ...], value: Any, origin: Path | None = None) -> None:
        """Set ``spec.<where>``, unless there is nothing to set."""
        if value is None or value in ([], {}, ""):
            return
        inner = self.spec
        for part in where[:-1]:
            inner = inner.setdefault(part, {})
        inner[where[-1]] = value
        if origin is not None:
            self.origins["spec", *where] = origin


@dataclass(slots=True)
class Import:
    """What became of a live object: the native document, its patch on the object, and what is to be said."""

    native: dict[str, Any]
    patch: dict[str, Any] = field(default_factory=dict)
    losses: list[Problem] = field(default_factory=list)
    origins: dict[Path, Path] = field(default_factory=dict)


def at(data: Any, path: Path, default: Any = None) -> Any:
    """Return what is at ``path``, whatever shape ``data`` really has."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return default
        if data is None:
            return default
    return data


def each(data: Any, where: tuple[str, ...]) -> Iterator[Any]:
    """Yield everything at a path in which ``*`` is each item of a list."""
    if not where:
        yield data
    elif where[0] == "*":
        for item in data if isinstance(data, list) else ():
            yield from each(item, where[1:])
    elif isinstance(data, dict) and where[0] in data:
        yield from each(data[where[0]], where[1:])


def texts(value: Any) -> dict[str, str]:
    """Return the entries of a mapping that are texts on both sides."""
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, str)}


def mappings(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, none if it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def serving_container(obj: Object, where: Path) -> Path | None:
    """Return the container that serves: the first with a port, else the first."""
    containers = at(obj, where)
    if not isinstance(containers, list) or not containers:
        return None
    with_port = (index for index, item in enumerate(containers) if isinstance(item, dict) and item.get("ports"))
    return (*where, next(with_port, 0))


# Cleaning.


def drop_defaults(obj: Object, rows: tuple[Default, ...], *, marked: bool) -> None:
    """Take the values of ``rows`` out of ``obj``, in place."""
    for row in rows:
        if row.marked and not marked:
            continue
        for holder in each(obj, row.where[:-1]):
            if not isinstance(holder, dict) or row.where[-1] not in holder:
                continue
            value = holder[row.where[-1]]
            # False is 0 to Python, and not to Kubernetes.
            if row.value is ANY or (value == row.value and type(value) is type(row.value)):
                del holder[row.where[-1]]


def touched(obj: Object) -> bool:
    """Whether a server has been at ``obj``, so that defaults in it are not its author's words."""
    metadata = obj.get("metadata")
    return "status" in obj or any(at(metadata, (mark,)) is not None for mark in MARKS)


def strip(value: Any) -> tuple[Any, list[str]]:
    """Return ``value`` without labels and annotations of Ebbtide's own at any depth, and which there were."""
    gone: list[str] = []
    return _stripped(value, gone), gone


def _stripped(value: Any, gone: list[str]) -> Any:
    if isinstance(value, list):
        return [_stripped(item, gone) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        kept = item
        if key in {"labels", "annotations"} and isinstance(item, dict):
            own = [name for name in item if isinstance(name, str) and name.startswith(keys.EBBTIDE)]
            gone.extend(own)
            kept = {name: text for name, text in item.items() if name not in own}
            if not kept:
                continue
        found[key] = _stripped(kept, gone)
    return found


def clean(obj: Object, profile: Profile, *, marked: bool | None = None) -> Object:
    """Return ``obj`` as its author wrote it: without what servers, webhooks and Ebbtide itself add.

    Two objects that are equal when cleaned are the same service. ``marked`` is whether a server has been at
    the object, and is found out if it is not said.
    """
    was_live = touched(obj) if marked is None else marked
    found: Object = prune(obj)
    drop_defaults(found, SERVER, marked=True)
    found = strip(found)[0]
    metadata = found.get("metadata")
    if isinstance(metadata, dict) and not metadata.get("namespace"):
        # kubectl would take the caller's; the profile says what that is here.
        metadata["namespace"] = profile.spec.projects.default_namespace
    for where in CONTAINERS:
        for resources in each(found, (*where, "resources")):
            _canonical_amounts(resources)
    module = _module(found)
    if module is not None:
        module.normal(found, profile.spec, marked=was_live)
    # A webhook's annotation may have been the only one.
    cleaned: Object = strip(found)[0]
    return cleaned


def _canonical_amounts(resources: Any) -> None:
    """Write quantities as the API server does, without requests that Kubernetes makes equal to limits."""
    if not isinstance(resources, dict):
        return
    for part in ("requests", "limits"):
        amounts = resources.get(part)
        if isinstance(amounts, dict):
            resources[part] = {name: _amount(name, amount) for name, amount in amounts.items()}
    requests, limits = resources.get("requests"), resources.get("limits")
    if isinstance(requests, dict) and isinstance(limits, dict):
        for name in [name for name, amount in requests.items() if "/" in name and limits.get(name) == amount]:
            del requests[name]


def _amount(name: str, amount: Any) -> Any:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        return amount
    value = quantities.nano(amount) if name == "cpu" else None
    if value is None or value % MILLI:
        return str(amount)
    milli = value // MILLI
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def _module(obj: Object) -> ModuleType | None:
    from ebbtide.adopt import knative, kserve  # noqa: PLC0415 - they import this module

    return next((module for module in (knative, kserve) if module.recognise(obj)), None)


# The inverse, part by part.

CONTAINER: Final = "container"
POD: Final = "pod"
MODEL: Final = "model"
PREDICTOR: Final = "predictor"


def _as_is(value: Any) -> Any:
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _cores(value: Any) -> float | None:
    found = quantities.nano(value) if isinstance(value, str) else None
    return None if found is None or found > MOST_CORES * quantities.NANO else quantities.plain(found / quantities.NANO)


def _groups(value: Any) -> str | None:
    return ",".join(str(item) for item in value) if isinstance(value, list) and value else None


#: Field of the spec, the part of the object and the field there that say the same, and how it is written.
FIELDS: Final[tuple[tuple[tuple[str, ...], str, tuple[str, ...], Callable[[Any], Any]], ...]] = (
    (("image",), CONTAINER, ("image",), _as_is),
    (("imagePullPolicy",), CONTAINER, ("imagePullPolicy",), _as_is),
    (("command",), CONTAINER, ("command",), _as_is),
    (("args",), CONTAINER, ("args",), _as_is),
    (("workingDir",), CONTAINER, ("workingDir",), _as_is),
    (("compute", "cpuCoreRequest"), CONTAINER, ("resources", "requests", "cpu"), _cores),
    (("compute", "cpuCoreLimit"), CONTAINER, ("resources", "limits", "cpu"), _cores),
    (("compute", "cpuMemoryRequest"), CONTAINER, ("resources", "requests", "memory"), _text),
    (("compute", "cpuMemoryLimit"), CONTAINER, ("resources", "limits", "memory"), _text),
    (("security", "capabilities"), CONTAINER, ("securityContext", "capabilities", "add"), _as_is),
    (
        ("security", "readOnlyRootFilesystem"),
        CONTAINER,
        ("securityContext", "readOnlyRootFilesystem"),
        _as_is,
    ),
    (("security", "runAsUid"), CONTAINER, ("securityContext", "runAsUser"), _as_is),
    (("security", "runAsGid"), CONTAINER, ("securityContext", "runAsGroup"), _as_is),
    (("security", "supplementalGroups"), POD, ("securityContext", "supplementalGroups"), _groups),
    (("model", "format"), MODEL, ("modelFormat", "name"), _as_is),
    (("model", "formatVersion"), MODEL, ("modelFormat", "version"), _as_is),
    (("model", "uri"), MODEL, ("storageUri",), _as_is),
    (("model", "runtime"), MODEL, ("runtime",), _as_is),
    (("model", "protocol"), MODEL, ("protocolVersion",), _as_is),
    (("traffic", "canaryPercent"), PREDICTOR, ("canaryTrafficPercent",), _as_is),
)
PROBES: Final = (("readiness", "readinessProbe"), ("liveness", "livenessProbe"), ("startup", "startupProbe"))
TIMINGS: Final = (
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
)
#: Source of a variable in a pod, the field of the spec, and the fields of both that say which.
SOURCES: Final = (
    ("secretKeyRef", "secret", (("name", "name"), ("key", "key"))),
    ("configMapKeyRef", "configMap", (("name", "name"), ("key", "key"))),
    ("fieldRef", "podFieldRef", (("fieldPath", "path"),)),
)
#: Names of the port that say gRPC: Knative's, and KServe Standard's.
GRPC: Final = {"h2c", "grpc"}
PORT: Final = 8080
#: Labels and annotations of pods that follow from other fields of the spec.
FOLLOWS: Final = {keys.APP_NAME, keys.PRIORITY_LABEL, keys.KAI_QUEUE, keys.KAI_PREEMPTIBILITY}


def derive(view: View, cluster: ProfileSpec, chosen: tuple[str, ...], *, gpu: bool) -> Draft:
    """Return the spec of an object, as if it was meant for the node pools ``chosen`` (none: the first).

    With ``gpu`` the pool's way of sharing is read back; without, GPUs are extended resources like any other.
    """
    draft = Draft()
    bases = {CONTAINER: view.container, POD: view.pod, MODEL: view.model, PREDICTOR: view.predictor}
    for where, part, inside, read in FIELDS:
        base = bases[part]
        if base is not None:
            draft.put(where, read(view.part(base, *inside)), (*base, *inside))
    known = {pool.name: pool for pool in cluster.node_pools}
    pools = tuple(known[name] for name in chosen)
    first = pools[0] if pools else next(iter(cluster.node_pools), None)
    shared = _gpu(view, first) if gpu and first is not None else None
    _metadata(view, draft, cluster)
    _serving(view, draft, cluster)
    _model(view, draft)
    _environment(view, draft)
    _probes(view, draft)
    _access(view, draft, cluster)
    _autoscaling(view, draft, cluster)
    _traffic(view, draft)
    _priority(view, draft, cluster)
    _compute(view, draft, shared)
    _pod_metadata(view, draft, shared)
    _security(view, draft, cluster)
    draft.put(("nodePools",), list(chosen), (*view.pod, "nodeSelector"))
    _placement(view, draft, pools or ((first,) if shared is not None and first is not None else ()))
    _storage(view, draft)
    return draft


def _metadata(view: View, draft: Draft, cluster: ProfileSpec) -> None:
    """Find name, namespace or project, and the object's own labels and annotations."""
    draft.metadata["name"] = at(view.obj, ("metadata", "name"))
    namespace = at(view.obj, ("metadata", "namespace"))
    project = _project(view, namespace, cluster)
    if project is not None:
        draft.put(("project",), project, ("metadata", "namespace"))
    elif namespace != cluster.projects.default_namespace:
        draft.metadata["namespace"] = namespace
    written = _enforced(view, cluster)[3]
    for part in ("labels", "annotations"):
        found = {
            key: value
            for key, value in _lawful(texts(at(view.obj, ("metadata", part))), labels=part == "labels")
            if key not in written
        }
        if found:
            draft.metadata[part] = found
            draft.origins["metadata", part] = ("metadata", part)


def _lawful(items: dict[str, str], *, labels: bool) -> list[tuple[str, str]]:
    """Return the entries that a spec may set: lawful keys that belong to no controller."""
    return [
        (key, value)
        for key, value in items.items()
        if LABEL_KEY.fullmatch(key)
        and not key.startswith(RESERVED_KEYS)
        and (not labels or LABEL_VALUE.fullmatch(value))
    ]


def _project(view: View, namespace: Any, cluster: ProfileSpec) -> str | None:
    """Return the project whose namespace this is, if it is one's."""
    projects = cluster.projects
    if not isinstance(namespace, str) or namespace == projects.default_namespace:
        return None
    before, _, after = projects.namespace.partition("{project}")
    found = re.fullmatch(f"{re.escape(before)}(.+?){re.escape(after)}", namespace)
    if found is None or names.LABEL.fullmatch(found[1]) is None:
        return None
    if projects.closed and found[1] not in projects.known:
        return None
    queue = texts(view.part(view.pod_metadata, "labels")).get(keys.KAI_QUEUE)
    # Under KAI a project's pods carry its queue: without it, the namespace was named directly.
    return found[1] if cluster.scheduling.scheduler != priority.KAI or queue == found[1] else None


def _serving(view: View, draft: Draft, cluster: ProfileSpec) -> None:
    """Find the kind of object, where ``auto`` gives another, the port and the time-outs."""
    automatic = "kserve" if view.model is not None else "knative"
    if view.serving != automatic or any(BACKENDS[pool.backend].claims for pool in cluster.node_pools):
        draft.put(("serving",), view.serving, ("metadata", "annotations"))
    if view.container is not None:
        ports = (*view.container, "ports", 0)
        number, name = view.part(ports, "containerPort"), view.part(ports, "name")
        if view.model is not None or number != PORT:
            draft.put(("servingPort", "container"), number, (*ports, "containerPort"))
        if isinstance(name, str) and name in GRPC:
            draft.put(("servingPort", "protocol"), "grpc", (*ports, "name"))
    if at(view.obj, view.timeout) != 0:
        draft.put(("servingConfiguration", "requestTimeoutSeconds"), at(view.obj, view.timeout), view.timeout)
    draft.put(("autoscaling", "concurrencyHardLimit"), at(view.obj, view.concurrency), view.concurrency)
    deadline = _seconds(view.annotations().get(keys.PROGRESS_DEADLINE))
    draft.put(
        ("servingConfiguration", "initializationTimeoutSeconds"),
        deadline,
        (*view.pod_metadata, "annotations", keys.PROGRESS_DEADLINE),
    )
    secrets = view.part(view.pod, "imagePullSecrets")
    draft.put(
        ("imagePullSecrets",),
        [{"name": item["name"]} for item in mappings(secrets) if item.keys() == {"name"}],
        (*view.pod, "imagePullSecrets"),
    )


def _seconds(text: Any) -> int | None:
    """Return a Go duration of whole seconds: 90s, 5m, 1h30m."""
    found = (
        re.fullmatch(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", text) if isinstance(text, str) else None
    )
    if found is None or not text:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _model(view: View, draft: Draft) -> None:
    """Find the address of a model that says it in another way than by storageUri."""
    model = view.model
    if model is None or "uri" in draft.spec.get("model", {}) or "image" in draft.spec:
        return
    scheme, bucket = (view.part(model, "storage", "parameters", name) for name in ("type", "bucket"))
    path = view.part(model, "storage", "path")
    known = isinstance(scheme, str) and isinstance(bucket, str) and isinstance(path, str)
    draft.put(("model", "uri"), f"{scheme}://{bucket}/{path}" if known else PLACEHOLDER, (*model, "storage"))


def _environment(view: View, draft: Draft) -> None:
    """Find variables with a value or one of the sources that a spec has words for."""
    where = (*(view.container or ()), "env")
    listed = view.part(view.container, "env")
    found: list[dict[str, Any]] = []
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        variable = _variable(item)
        if variable is not None:
            draft.origins["spec", "environmentVariables", len(found)] = (*where, index)
            found.append(variable)
    draft.put(("environmentVariables",), found, where)


def _variable(item: Any) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        return None
    source = item.get("valueFrom")
    if source is None:
        return {"name": item.get("name"), "value": item.get("value", "")}
    for kind, word, fields in SOURCES:
        inner = at(source, (kind,))
        if isinstance(inner, dict) and inner.keys() == {name for name, _ in fields}:
            return {"name": item.get("name"), word: {own: inner[name] for name, own in fields}}
    return None


def _probes(view: View, draft: Draft) -> None:
    """Find probes by HTTP, TCP and gRPC; a program in the container has no word."""
    port = view.part(view.container, "ports", 0, "containerPort")
    for word, name in PROBES:
        given = view.part(view.container, name)
        handler = _handler(given, port)
        if handler:
            timing = {field: given[field] for field in TIMINGS if field in given}
            draft.put(("probes", word), {"handler": handler, **timing}, (*(view.container or ()), name))


def _handler(probe: Any, port: Any) -> dict[str, Any]:
    for kind in ("httpGet", "tcpSocket", "grpc"):
        given = at(probe, (kind,))
        if isinstance(given, dict):
            words = ("path", "port", "host", "scheme", "service")
            said = {word: given[word] for word in words if word in given and (word, given[word]) != ("port", port)}
            return {kind: said}
    return {}


#: Kinds of access that name somebody: users, groups.
NAMED: Final = {"authorizedUsers": (True, False), "authorizedGroups": (False, True)}


def _enforced(view: View, cluster: ProfileSpec) -> tuple[str | None, list[str], list[str], set[str]]:
    """Return who may call, as far as the profile's labels and annotations show: kind, users, groups, keys."""
    for kind, enforcer in cluster.access.enforces.items():
        people: dict[str, str] = {}
        rows = [("labels", enforcer.labels), ("annotations", enforcer.annotations)]
        if any(source for _, source in rows) and all(
            _matches(template, texts(at(view.obj, ("metadata", part))).get(key), people)
            for part, source in rows
            for key, template in source.items()
        ):
            written = {key for _, source in rows for key in source}
            users, groups = ([item for item in people.get(name, "").split(",") if item] for name in ("users", "groups"))
            if kind not in NAMED or NAMED[kind] == (bool(users), bool(groups)):
                return kind, users, groups, written
    return None, [], [], set()


def _matches(template: str, text: str | None, people: dict[str, str]) -> bool:
    """Whether ``text`` is ``template`` filled in; what it is filled with goes to ``people``."""
    parts = re.split(r"(\{users\}|\{groups\})", template)
    pattern = "".join("(.*)" if part in {"{users}", "{groups}"} else re.escape(part) for part in parts)
    found = re.fullmatch(pattern, text) if text is not None else None
    if found is None:
        return False
    marks = [part[1:-1] for part in parts if part in {"{users}", "{groups}"}]
    people.update(zip(marks, found.groups(), strict=True))
    return True


def _access(view: View, draft: Draft, cluster: ProfileSpec) -> None:
    """Find who may call, and from where."""
    kind, users, groups, _ = _enforced(view, cluster)
    if kind is not None and kind != "public":
        draft.put(("servingPort", "authorizationType"), kind, ("metadata",))
        draft.put(("servingPort", "authorizedUsers"), users, ("metadata",))
        draft.put(("servingPort", "authorizedGroups"), groups, ("metadata",))
    key = keys.KNATIVE_VISIBILITY if view.serving == "knative" else keys.KSERVE_VISIBILITY
    if at(view.obj, ("metadata", "labels", key)) == keys.CLUSTER_LOCAL:
        draft.put(("servingPort", "clusterLocalAccessOnly"), value=True, origin=("metadata", "labels", key))


CLASSES: Final = {keys.CLASS_KPA: "kpa", keys.CLASS_HPA: "hpa"}


#: Annotation, its older spelling, the spec's field, and how its value is read.
SCALING: Final[tuple[tuple[str, str, str, Callable[[Any], Any]], ...]] = (
    (keys.INITIAL_SCALE, "initialScale", "initialReplicas", quantities.parse_whole),
    (keys.ACTIVATION_SCALE, "activationScale", "activationReplicas", quantities.parse_whole),
    (keys.SCALE_DOWN_DELAY, "scaleDownDelay", "scaleDownDelaySeconds", _seconds),
    (keys.RETENTION, "scaleToZeroPodRetentionPeriod", "scaleToZeroRetentionSeconds", _seconds),
)


def _spelled(annotations: dict[str, str], key: str, older: str) -> str | None:
    return annotations.get(key, annotations.get(keys.AUTOSCALING + older))


def _autoscaling(view: View, draft: Draft, cluster: ProfileSpec) -> None:
    """Find the bounds, what moves the replicas between them, and the timing."""
    annotations, predictor = view.annotations(), view.predictor
    where = (*view.pod_metadata, "annotations")
    if predictor is not None:
        low, high = (
            quantities.parse_whole(view.part(predictor, "minReplicas")),
            quantities.parse_whole(view.part(predictor, "maxReplicas")),
        )
    else:
        low = quantities.parse_whole(_spelled(annotations, keys.MIN_SCALE, "minScale"))
        high = quantities.parse_whole(_spelled(annotations, keys.MAX_SCALE, "maxScale"))
    low = view.usual_minimum if low is None else low
    bounds = ((*where, keys.MIN_SCALE), (*where, keys.MAX_SCALE))
    if predictor is not None:
        bounds = ((*predictor, "minReplicas"), (*predictor, "maxReplicas"))
    if low != 1 or at(view.obj, bounds[0]) is not None:
        draft.put(("autoscaling", "minReplicas"), low, bounds[0])
    if view.serving == "kserve-standard":
        # What moves them is an object of its own, so the spec holds them and the patch says up to where.
        return
    # 0 is no limit, for which a spec has no word.
    draft.put(("autoscaling", "maxReplicas"), high or None, bounds[1])
    for key, older, word, read in SCALING:
        draft.put(("autoscaling", word), read(_spelled(annotations, key, older)), (*where, key))
    if low != (high or max(low, 1)):
        _metric(view, draft, cluster, (low, high or max(low, 1)))


def _metric(view: View, draft: Draft, cluster: ProfileSpec, bounds: tuple[int, int]) -> None:
    """Find the metric in the spec's words, with the threshold that counts where none is said."""
    annotations, config = view.annotations(), cluster.knative.autoscaler
    where = (*view.pod_metadata, "annotations")
    scaler = CLASSES.get(annotations.get(keys.CLASS) or config.get("pod-autoscaler-class", keys.CLASS_KPA))
    metric = annotations.get(keys.METRIC) or _text(view.part(view.predictor, "scaleMetric"))
    target = quantities.parse_number(annotations.get(keys.TARGET, view.part(view.predictor, "scaleTarget")))
    if scaler is None or (scaler == "kpa" and metric is None and target is None and bounds == (0, 1)):
        return
    rows = [row for row in metrics.ROWS.values() if row.autoscaler == scaler]
    name = metric or next(row.knative for row in rows if row.default_target != ("", "")) or ""
    row = next((row for row in rows if name in metric_names.served(row, cluster.metrics.names)), None)
    word = row.name if row is not None else _own_metric(name) if scaler == "hpa" else None
    if word is None:
        return
    if target is None:
        known = next((row for row in metrics.ROWS.values() if row.knative == name), metrics.CUSTOM)
        key, usual = known.default_target
        hard = at(view.obj, view.concurrency) if known.limited else None
        target = quantities.parse_number(hard or config.get(key, usual))
    draft.put(("autoscaling", "metric"), word, (*where, keys.METRIC))
    if word == "custom":
        draft.put(("autoscaling", "metricName"), name, (*where, keys.METRIC))
    draft.put(("autoscaling", "metricThreshold"), target, (*where, keys.TARGET))
    percentage = quantities.parse_number(_spelled(annotations, keys.TARGET_UTILIZATION, "targetUtilizationPercentage"))
    if scaler == "kpa" and percentage not in {None, 70}:
        draft.put(("autoscaling", "metricThresholdPercentage"), percentage, (*where, keys.TARGET_UTILIZATION))


def _own_metric(name: str) -> str | None:
    """Return what a spec calls a metric of Knative's HPA class that has no row of its own."""
    if name in metrics.OF_KNATIVE:
        # A spec refuses it with a reason: so it is tried, and the reason is reported.
        return name
    if metrics.NAME.fullmatch(name) is None or any(row.knative == name for row in metrics.ROWS.values()):
        return None
    taken = name.lower() in {*metrics.misleading(), *metrics.ABSENT} or metrics.find(name) or metrics.near(name)
    return "custom" if taken else name


def _traffic(view: View, draft: Draft) -> None:
    """Find a canary and the revision that gets the rest."""
    targets = mappings(at(view.obj, ("spec", "traffic"))) if view.predictor is None else []
    newest = [item for item in targets if item.get("latestRevision") is True]
    others = [item for item in targets if "revisionName" in item]
    if len(newest) == 1 and len(others) <= 1 and len(targets) == len(newest) + len(others):
        draft.put(("traffic", "canaryPercent"), newest[0].get("percent"), ("spec", "traffic"))
        if others:
            draft.put(("traffic", "stableRevision"), others[0]["revisionName"], ("spec", "traffic"))


def _priority(view: View, draft: Draft, cluster: ProfileSpec) -> None:
    """Find the priority class by the name that a spec gives it."""
    found = view.part(view.pod, "priorityClassName")
    where = (*view.pod, "priorityClassName")
    if not isinstance(found, str) or found == priority.DEFAULT:
        return
    for name in priority.LEVELS:
        for preemptible in (True, False):
            if found == priority.level(name, preemptible).name:
                draft.put(("priorityClass",), name, where)
                draft.put(("preemptibility",), "preemptible" if preemptible else None, where)
                return
    if found in cluster.scheduling.classes:
        draft.put(("priorityClass",), found, where)


def _security(view: View, draft: Draft, cluster: ProfileSpec) -> None:
    """Find whether root is refused, where that is not what the profile says anyway."""
    where = (*(view.container or ()), "securityContext", "runAsNonRoot")
    found = view.part(view.container, "securityContext", "runAsNonRoot")
    if found is not cluster.pods.run_as_non_root:
        draft.put(("security", "runAsNonRoot"), found, where)


# GPUs.


def _gpu(view: View, pool: NodePool) -> GpuFields | None:
    """Return what a pod asks of GPUs, in the way that ``pool`` shares them."""
    pod = GpuPod(
        texts(view.part(view.container, "resources", "limits")),
        view.annotations(),
        texts(view.part(view.pod, "nodeSelector")),
        "user-container" if view.serving == "knative" else "kserve-container",
    )
    return BACKENDS[pool.backend].read(pool, pod)


def _compute(view: View, draft: Draft, shared: GpuFields | None) -> None:
    """Find GPUs and extended resources."""
    where = (*(view.container or ()), "resources", "limits")
    for name, value in (shared.compute if shared is not None else {}).items():
        draft.put(("compute", name), value, where)
    used = shared.limits if shared is not None else frozenset()
    extended = [
        {"resource": name, "quantity": amount}
        for name, amount in texts(view.part(view.container, "resources", "limits")).items()
        if "/" in name and name not in used and amount.isdecimal()
    ]
    draft.put(("compute", "extendedResources"), extended, where)


def _pod_metadata(view: View, draft: Draft, shared: GpuFields | None) -> None:
    """Find the pods' labels and annotations that no other field of the spec makes."""
    used = FOLLOWS | (shared.annotations if shared is not None else set())
    for part in ("labels", "annotations"):
        where = (*view.pod_metadata, part)
        rows = _lawful(texts(at(view.obj, where)), labels=part == "labels")
        found = [(name, value) for name, value in rows if name not in used]
        draft.put((part,), [{"name": name, "value": value} for name, value in found], where)
        for index, (name, _) in enumerate(found):
            draft.origins["spec", part, index] = (*where, name)


# Placement.

REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def candidates(view: View, cluster: ProfileSpec) -> Iterator[tuple[str, ...]]:
    """Yield the node pools that an object may be meant for: the first, each by itself, several in order."""
    yield ()
    selector = texts(view.part(view.pod, "nodeSelector"))
    for pool in cluster.node_pools:
        if pool.selector.items() <= selector.items():
            yield (pool.name,)
    by_place = {json.dumps(_expressions(pool)): pool.name for pool in cluster.node_pools if pool.selector}
    several = [
        by_place.get(json.dumps(at(item, ("preference", "matchExpressions")), default=str), "")
        for item in mappings(view.part(view.pod, "affinity", "nodeAffinity", PREFERRED))
    ]
    if len(several) > 1 and all(several):
        yield tuple(several)


def _expressions(pool: NodePool) -> list[dict[str, Any]]:
    return [{"key": key, "operator": "In", "values": [value]} for key, value in pool.selector.items()]


def _placement(view: View, draft: Draft, pools: tuple[NodePool, ...]) -> None:
    """Find node type, affinity and tolerations, less what the pools bring."""
    kind = texts(view.part(view.pod, "nodeSelector")).get(keys.NODE_TYPE)
    if kind is not None and not any(keys.NODE_TYPE in pool.selector for pool in pools):
        draft.put(("nodeType",), kind, (*view.pod, "nodeSelector", keys.NODE_TYPE))
    affinity = (*view.pod, "affinity")
    terms = _own_terms(view, pools)
    if terms:
        draft.put(("nodeAffinityRequired",), {"nodeSelectorTerms": terms}, (*affinity, "nodeAffinity", REQUIRED))
    for word in ("podAffinity", "podAntiAffinity"):
        draft.put((word,), _pod_affinity(view.part(affinity, word), view.name), (*affinity, word))
    tolerations = mappings(view.part(view.pod, "tolerations"))
    brought = [item for pool in pools for item in pool.tolerations]
    while tolerations and tolerations[-1] in brought:
        brought.remove(tolerations.pop())
    draft.put(("tolerations",), [_toleration(item) for item in tolerations], (*view.pod, "tolerations"))


def _own_terms(view: View, pools: tuple[NodePool, ...]) -> list[dict[str, Any]]:
    """Return the terms of node affinity that the spec itself asks for; several pools multiply them."""
    listed = view.part(view.pod, "affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms")
    selecting = [pool for pool in pools if pool.selector]
    before = _expressions(selecting[0]) if len(pools) > 1 and selecting else []
    found = []
    for term in mappings(listed):
        conditions = term.get("matchExpressions")
        if isinstance(conditions, list) and conditions[: len(before)] == before and conditions[len(before) :]:
            found.append({"matchExpressions": conditions[len(before) :]})
    return found


def _pod_affinity(rule: Any, name: str) -> dict[str, Any] | None:
    for kind, where in (("Required", (REQUIRED, 0)), ("Preferred", (PREFERRED, 0, "podAffinityTerm"))):
        term = at(rule, where)
        if at(term, ("labelSelector", "matchLabels", keys.APP_NAME)) == name and name:
            return {"type": kind, "key": at(term, ("topologyKey",))}
    return None


def _toleration(item: dict[str, Any]) -> dict[str, Any]:
    words = (
        ("key", "key"),
        ("operator", "operator"),
        ("value", "value"),
        ("effect", "effect"),
        ("tolerationSeconds", "seconds"),
    )
    return {word: item[name] for name, word in words if name in item}


# Volumes.


def _storage(view: View, draft: Draft) -> None:
    """Find volumes that are mounted at one place, in the order of the pod's list."""
    mounts = mappings(view.part(view.container, "volumeMounts"))
    listed = view.part(view.pod, "volumes")
    for index, volume in enumerate(listed if isinstance(listed, list) else ()):
        here = [mount for mount in mounts if mount.get("name") == at(volume, ("name",))]
        if not isinstance(volume, dict) or len(here) != 1:
            continue
        if volume == {"name": "shm", "emptyDir": {"medium": "Memory"}} and here[0].get("mountPath") == SHM:
            draft.put(("compute", "largeShmRequest"), value=True, origin=(*view.pod, "volumes", index))
            continue
        for kind, word, read in VOLUMES:
            given = volume.get(kind)
            if isinstance(given, dict):
                listed_here = draft.spec.setdefault("storage", {}).setdefault(word, [])
                draft.origins["spec", "storage", word, len(listed_here)] = (*view.pod, "volumes", index)
                listed_here.append({key: item for key, item in read(given, here[0]).items() if item is not None})


def _mode(value: Any) -> str | None:
    return f"0{value:03o}" if isinstance(value, int) and 0 <= value <= 0o777 else None  # noqa: PLR2004 - rwxrwxrwx


def _config_map(volume: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    return {
        "configMap": volume.get("name"),
        "mountPath": mount.get("mountPath"),
        "subPath": mount.get("subPath"),
        "defaultMode": _mode(volume.get("defaultMode")),
    }


def _secret(volume: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    return {
        "secret": volume.get("secretName"),
        "mountPath": mount.get("mountPath"),
        "defaultMode": _mode(volume.get("defaultMode")),
    }


def _scratch(volume: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": mount.get("mountPath"),
        "medium": volume.get("medium"),
        "sizeLimit": volume.get("sizeLimit"),
    }


def _claim(volume: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    # Whether it was made for this service, and how, the claim's own object knows: here it is there already.
    return {
        "existingPvc": True,
        "claimName": volume.get("claimName"),
        "path": mount.get("mountPath"),
        "readOnly": True if volume.get("readOnly") is True else None,
    }


def _host_path(volume: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    return {"path": volume.get("path"), "mountPath": mount.get("mountPath")}


def _nfs(volume: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    return {"server": volume.get("server"), **_host_path(volume, mount)}


#: Kind of volume in a pod, the spec's list of such volumes, and how an entry is read.
VOLUMES: Final[tuple[tuple[str, str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]], ...]] = (
    ("configMap", "configMapVolume", _config_map),
    ("secret", "secretVolume", _secret),
    ("emptyDir", "emptyDirVolume", _scratch),
    ("persistentVolumeClaim", "pvc", _claim),
    ("hostPath", "hostPath", _host_path),
    ("nfs", "nfs", _nfs),
)


# Rendering what was found, and taking back what is refused.

#: Fields that make the object what it is: without them another one would be rendered.
ESSENTIAL: Final = {
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("spec", "serving"),
    ("spec", "model"),
    ("spec", "image"),
}
#: Refusals that stand at a field which is not there, and the field that has to go instead.
INSTEAD: Final[dict[str, Path]] = {
    "AUT002": ("spec", "autoscaling", "maxReplicas"),
    "AUT003": ("spec", "autoscaling", "metric"),
    "AUT012": ("spec", "autoscaling", "metric"),
    "AUT027": ("spec", "autoscaling", "metric"),
}
#: Fields that mean nothing without another one.
DEPENDENTS: Final[dict[Path, tuple[str, ...]]] = {
    ("spec", "autoscaling", "metric"): ("metricName", "metricThreshold", "metricThresholdPercentage"),
    ("spec", "traffic", "canaryPercent"): ("stableRevision",),
}
#: The length of the path of a block in the spec: ``spec.compute``.
BLOCK: Final = 2


@dataclass(slots=True)
class Attempt:
    """A spec that was tried: what it renders to, what was taken out for that, and what stood in the way."""

    native: dict[str, Any]
    draft: Draft
    top: Object | None = None
    dropped: list[Problem] = field(default_factory=list)
    blocked: list[Problem] = field(default_factory=list)


def render(native: dict[str, Any], profile: Profile, kind: str) -> tuple[Object | None, list[Problem]]:
    """Return the top object of a document, or the problems that keep it from being made."""
    inference, problems = shapes.validate(native)
    if inference is None:
        return None, problems
    try:
        made = translate(inference, profile, json.dumps(native["spec"], sort_keys=True, default=str))
    except (Conflict, OverflowError) as conflict:
        # Both are faults of the translation with what the object says, and the object is reported all the same.
        return None, [Problem("IMP005", ("spec",), str(conflict))]
    top = next((item for item in made.objects if item["kind"] == kind), None)
    return top, errors(list(made.problems))


def attempt(draft: Draft, profile: Profile, kind: str) -> Attempt:
    """Render a draft, without the fields that are refused."""
    # What is taken out of the spec must stay in the object.
    draft.spec = deepcopy(draft.spec)
    native = document(None, draft.spec)
    native["metadata"] = draft.metadata
    found = Attempt(native, draft)
    for _ in range(ROUNDS):
        found.top, problems = render(native, profile, kind)
        if not problems:
            break
        in_turn = sorted(problems, key=_last_first, reverse=True)
        taken = [gone for problem in in_turn if (gone := _take(native, problem)) is not None]
        found.dropped += taken
        found.blocked = problems
        if not taken:
            found.top = None
            break
    return found


def _last_first(problem: Problem) -> list[str]:
    """Return a key by which items of a list sort by number, so that the last can be taken out first."""
    return [f"{part:09d}" if isinstance(part, int) else part for part in problem.field]


def _take(native: dict[str, Any], problem: Problem) -> Problem | None:
    """Take the refused field out, or what it would have stood in, and return the problem at that place.

    None if it cannot go.
    """
    where = problem.field
    if problem.code == "SRV019":
        model = native["spec"]["model"]
        if model.get("uri") == PLACEHOLDER:
            return None
        model["uri"] = PLACEHOLDER
        return problem
    if problem.code in INSTEAD and at(native, INSTEAD[problem.code]) is not None:
        where = INSTEAD[problem.code]
    while where and not _present(native, where):
        where = where[:-1]
    # A whole ``spec`` or ``metadata`` is no field.
    if len(where) < BLOCK or where in ESSENTIAL:
        return None
    holder = at(native, where[:-1])
    del holder[where[-1]]
    for dependent in DEPENDENTS.get(where, ()):
        holder.pop(dependent, None)
    above = where[:-1]
    while not holder and len(above) >= BLOCK and isinstance(above[-1], str):
        holder = at(native, above[:-1])
        del holder[above[-1]]
        above = above[:-1]
    return replace(problem, field=where)


def _present(data: Any, path: Path) -> bool:
    holder, last = at(data, path[:-1]), path[-1]
    if isinstance(holder, dict):
        return last in holder
    return isinstance(holder, list) and isinstance(last, int) and last < len(holder)


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Yield the place of each single difference, and whether something is there in ``new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            if name not in new or name not in old:
                yield (*path, name), name in new
            else:
                yield from differences(old[name], new[name], (*path, name))
    elif isinstance(old, list) and isinstance(new, list):
        nothing = object()
        for index, (here, there) in enumerate(zip_longest(old, new, fillvalue=nothing)):
            if here is nothing or there is nothing:
                yield (*path, index), there is not nothing
            else:
                yield from differences(here, there, (*path, index))
    elif old != new:
        yield path, True


# The import itself.


def import_object(obj: Object, profile: Profile) -> Import:
    """Return the spec of a live object, with a patch for what has no word in it, and what is to be said."""
    module = _module(obj)
    assert module is not None
    marked = touched(obj)
    cleaned = clean(obj, profile)
    view: View = module.view(cleaned, profile.spec)
    said: list[Problem] = []
    kept = at(obj, ("metadata", "annotations", keys.SPEC))
    if kept is not None:
        found = _from_kept(kept, obj, cleaned, profile, marked=marked)
        if found is not None:
            return found
        said.append(
            warning(
                "IMP003",
                ("metadata", "annotations", keys.SPEC),
                "the spec kept on the object no longer gives the object: somebody changed it by other means",
                "read what was found, and render it again to keep the new spec",
            )
        )
    best = _best(view, profile, obj, marked=marked)
    draft = best.draft
    category = at(obj, ("metadata", "labels", keys.CATEGORY))
    if isinstance(category, str) and LABEL_VALUE.fullmatch(category):
        draft.put(("category",), category, ("metadata", "labels", keys.CATEGORY))
    result = Import(best.native, {}, said, draft.origins)
    if best.top is None:
        said.append(_impossible(best.blocked, draft))
        return result
    said.extend(_refused(best))
    ours = clean(best.top, profile, marked=marked)
    result.patch = difference(ours, _opened(cleaned, ours))
    if result.patch:
        # The whole list goes into a patch, so problems about any part of it stand at the object.
        draft.origins["spec", "patches"] = ()
        best.native["spec"]["patches"] = [{"kind": obj["kind"], "name": view.name, "patch": result.patch}]
        top, problems = render(best.native, profile, obj["kind"])
        if top is None or clean(top, profile, marked=marked) != cleaned:
            said.append(_impossible(problems, draft))
            return result
        said.extend(_patched(ours, _opened(cleaned, ours)))
        said.extend(_shadowed(result.patch, ours))
    said.append(_lost(view, obj))
    return result


def _opened(value: Any, ours: Any) -> Any:
    """Return ``value`` with an empty map of labels or annotations wherever ``ours`` has some.

    So a patch takes out each one by name, and not those that the spec gets later.
    """
    if not (isinstance(value, dict) and isinstance(ours, dict)):
        return value
    missing: dict[str, Any] = {name: {} for name in ("labels", "annotations") if name in ours and name not in value}
    return {**{name: _opened(item, ours.get(name)) for name, item in value.items()}, **missing}


def _from_kept(kept: Any, obj: Object, cleaned: Object, profile: Profile, *, marked: bool) -> Import | None:
    """Return the spec that the object carries, if it still gives the object."""
    try:
        spec = json.loads(kept) if isinstance(kept, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(spec, dict):
        return None
    draft = Draft(spec)
    module = _module(obj)
    assert module is not None
    found = Draft()
    _metadata(module.view(cleaned, profile.spec), found, profile.spec)
    draft.metadata = found.metadata
    if "project" in spec:
        draft.metadata.pop("namespace", None)
    elif "project" in found.spec:
        draft.metadata["namespace"] = at(cleaned, ("metadata", "namespace"))
    native = document(None, spec)
    native["metadata"] = draft.metadata
    top, problems = render(native, profile, obj["kind"])
    if top is None or problems or clean(top, profile, marked=marked) != cleaned:
        return None
    return Import(native)


def _best(view: View, profile: Profile, obj: Object, *, marked: bool) -> Attempt:
    """Return the attempt that comes nearest to the object; of equals the first."""
    best: Attempt | None = None
    fewest = -1
    for chosen in candidates(view, profile.spec):
        for gpu in (True, False):
            tried = attempt(derive(view, profile.spec, chosen, gpu=gpu), profile, obj["kind"])
            if tried.top is None:
                best = best or tried
                continue
            count = sum(1 for _ in differences(clean(tried.top, profile, marked=marked), view.obj))
            if fewest < 0 or count < fewest:
                best, fewest = tried, count
            if fewest == 0:
                return tried
    assert best is not None
    return best


def _impossible(problems: list[Problem], draft: Draft) -> Problem:
    first = next(iter(problems), None)
    told = f"{first.code}: {first.message}" if first is not None else "its own parts contradict each other"
    return Problem(
        "IMP005",
        draft.origins.get(first.field, ()) if first is not None else (),
        f"no spec gives this object with this profile ({told})",
        first.fix if first is not None and first.fix else "import it with the profile of its own cluster",
    )


def _refused(found: Attempt) -> Iterator[Problem]:
    for problem in found.dropped:
        yield warning(
            "IMP002",
            _origin(found.draft, problem.field),
            f"{dotted(problem.field)} is refused here ({problem.code}: {problem.message}); "
            "what the object has stays in a patch",
            problem.fix,
        )


def _origin(draft: Draft, path: Path) -> Path:
    for length in range(len(path), 0, -1):
        if path[:length] in draft.origins:
            return draft.origins[path[:length]]
    return path


def _patched(ours: Object, cleaned: Object) -> Iterator[Problem]:
    for path, there in differences(ours, cleaned):
        yield warning(
            "IMP001",
            path,
            "the spec has no word for this; it is kept as a patch"
            if there
            else "a spec always sets this and the object has none; it is taken out by a patch",
            "keep spec.patches as it is, or leave it out where Ebbtide's own way will do",
        )


def _shadowed(patch: Any, ours: Any, path: Path = ()) -> Iterator[Problem]:
    """Yield a warning for each list that the patch replaces although fields of the spec make it."""
    for name, value in patch.items():
        made = ours.get(name) if isinstance(ours, dict) else None
        if isinstance(value, list) and made:
            yield warning(
                "IMP006",
                (*path, name),
                "a merge patch replaces a list as a whole: while it is there, the spec's own fields for this "
                "list (of containers: image, environment, probes, resources) change nothing",
                "take the list out of spec.patches once the spec says enough",
            )
        elif isinstance(value, dict):
            yield from _shadowed(value, made, (*path, name))


#: What never is in the object itself.
NEVER: Final = ("slo", "relatedUrls", "exposedUrls")


def _lost(view: View, obj: Object) -> Problem:
    """Return the one warning about what other objects, or none, would say."""
    missing = list(NEVER)
    if at(obj, ("metadata", "labels", keys.CATEGORY)) is None:
        missing.append("category")
    if view.model is not None and view.part(view.pod, "serviceAccountName") is not None:
        missing.append("model.storageSecret (the service account has it)")
    if view.serving == "kserve-standard" and at(obj, ("metadata", "annotations", keys.AUTOSCALER_CLASS)) == "external":
        missing.append("autoscaling (an HPA or ScaledObject beside the object has it)")
    if view.part(view.pod, "resourceClaims") is not None:
        missing.append("compute (resource claims of their own have it)")
    if any("persistentVolumeClaim" in item for item in mappings(view.part(view.pod, "volumes"))):
        missing.append("storage.pvc[].claimInfo (the claims have it)")
    if at(obj, ("metadata", "ownerReferences")) is not None:
        missing.append("metadata.ownerReferences (another object makes this one, and may undo a change)")
    known = {keys.SPEC, keys.PROJECT, keys.CATEGORY}
    missing += sorted(set(strip(obj)[1]) - known)
    return warning(
        "IMP004",
        (),
        f"not in the object: {', '.join(missing)}",
        "add by hand what the service had of these",
    )
