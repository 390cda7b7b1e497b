"""Causes of each output field, found by experiment instead of by tracing.

The translation is a pure function, so causes can be measured: change one field of the spec or of the profile,
retranslate, and compare the leaves of the output. A leaf that no field changes is a constant of its backend. A
field that changes no leaf has no effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast, get_args, get_origin

from ebbtide.core.base import keys
from ebbtide.core.base.bodies import WrittenBy, body
from ebbtide.core.base.paths import get_at, remove_at, replace_at
from ebbtide.core.base.problems import Path, Problem, format_path, make_warning, select_errors
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.compiled import inference_validator, validation_error
from ebbtide.core.readers.fields import models_in
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.spec.inference import Inference, InferenceSpec, Metadata
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.plan import Decision
from ebbtide.core.translation.profile_rules import check
from ebbtide.core.translation.serving import reserved
from ebbtide.core.translation.translate import Translation, translate

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_EXAMPLES: Final[dict[str, list[Any]]] = {
    name: info.examples for name, info in InferenceSpec.model_fields.items() if info.examples
}
OTHER_PROJECT: Final = _EXAMPLES["project"][0]
OTHER_IMAGE: Final = _EXAMPLES["image"][0]
#: A scalar of the output: the object (its kind, and its index among the objects of that kind), and the path in it.
Leaf = tuple[str, int, tuple[str | int, ...]]
#: Fields for reports and pages only: they affect no object, and are not reported as fields without effect.
INTENT: Final = ("slo", "relatedUrls", "description", "toolType", "toolName", "exclude")
#: Fields that only select which of their sibling fields applies; Run:ai requires them, but no output depends on them.
DISCRIMINATORS: Final = ("gpuRequestType",)
#: Fields that every kind of object supports.
PLAIN: Final = ("project", "image", "defaults")
#: The bounds of the replicas, which an LLMInferenceService without a metric needs to be equal.
REPLICAS: Final = (("spec", "autoscaling", "minReplicas"), ("spec", "autoscaling", "maxReplicas"))
#: The spec that is stored on the objects. It differs in each translation, and is not compared.
NO_SPEC: Final = "{}"
#: Values to try for a field that is not set if only its type is known: the rules reject those of another kind.
INTEGERS: Final = (3, 100, 2, 1, 0)
NUMBERS: Final = (1.0, 50.0, 2.0)
TEXTS: Final = ("other", "/other", "3Gi")


def _decision_reasons(choices: tuple[Decision, ...]) -> list[str]:
    return [choice.because for choice in choices]


@body("object field=path value causes reasons")
class ExplainedField:
    """One leaf of the output: its object, path and value, the fields that change it, and the decisions behind it."""

    kind: str
    name: str
    path: str
    value: Any
    causes: tuple[str, ...]
    reasons: Annotated[tuple[Decision, ...], WrittenBy(_decision_reasons)]

    @property
    def object(self) -> str:
        """The object as ``kind/name``."""
        return f"{self.kind}/{self.name}"


@body("document choices=decisions fields=leaves idle")
class Explanation:
    """The explanation of every leaf, all decisions, and the fields without effect."""

    leaves: list[ExplainedField] = field(default_factory=list)
    decisions: tuple[Decision, ...] = ()
    idle: list[Problem] = field(default_factory=list)
    document: str = ""

    def select_fields(self, loaded: LoadedDocument, part: str) -> Explanation:
        """Return the explanation of the output fields whose path contains ``part``, with source lines for idle fields."""
        leaves = [leaf for leaf in self.leaves if part in f"{leaf.kind}.{leaf.path}"]
        return replace(self, leaves=leaves, idle=loaded.place_problems(self.idle), document=loaded.name)


def _needs_no_effect(path: Path) -> bool:
    """Return whether a field may leave the objects unchanged: the name of a patch only selects the object."""
    names_patch = path[:2] == ("spec", "patches") and path[-1] == "name"
    return names_patch or any(part in INTENT + DISCRIMINATORS for part in path)


def explain_document(native: dict[str, Any], profile: dict[str, Any]) -> Explanation:
    """Return the causes of each leaf of a document's translation.

    ``native`` is a native document that translates without errors, ``profile`` is a profile document. Both are plain
    data, which is easy to vary.
    """
    inference = _load_inference(native)
    base = _translate_or_none(inference, _load_cluster(profile))
    if base is None:
        return Explanation()
    leaves, names = _list_object_leaves(base)
    decisions = base.decisions
    causes: dict[Leaf, dict[str, None]] = {leaf: {} for leaf in leaves}
    idle: list[Problem] = []
    project = native.get("spec", {}).get("project")
    # Variants that violate the namespace's Pod Security level still show the effect of a field, so relax that level.
    relaxed = replace_at(plain_data(profile), ("spec", "projects", "podSecurity"), "privileged")
    capable = _load_cluster(_with_components(_with_twin_project(relaxed, project)))
    compared = _translate_or_none(inference, _load_cluster(relaxed))
    assert compared is not None
    before = _list_object_leaves(compared)[0]

    def translate_variant(document: dict[str, Any]) -> Translation | None:
        # A patch of the document itself may cover the field that differs.
        checks_overrides = get_at(document, "spec", "patches") != get_at(native, "spec", "patches")
        return _translate_or_none(_load_inference(document), capable, checks_overrides=checks_overrides)

    def attribute(after: Translation, cause: str) -> bool:
        # Many variants change nothing, and comparing objects is faster than listing their leaves.
        is_equal = after.objects == compared.objects
        return not is_equal and _attribute_changes(before, _list_object_leaves(after)[0], causes, cause)

    for path, documents, is_set in list_changes(native):
        has_effect = False
        translated = False
        for document in documents:
            after = translate_variant(document)
            if after is not None:
                translated = True
                has_effect |= attribute(after, format_path(path))
        if is_set and translated and not has_effect and not _needs_no_effect(path):
            message = f"{format_path(path)} has no effect on the rendered objects"
            idle.append(make_warning("IGN001", path, message, "remove it, or check that it is in the right place"))
    path, document = _make_plain_service(native)
    plain = translate_variant(document)
    if plain is not None:
        heads = {leaf: value for leaf, value in before.items() if leaf[0] in TWIN_KINDS and leaf[2] in HEADS}
        _attribute_changes(heads, _list_object_leaves(plain)[0], causes, format_path(path))
    for path, other in list_profile_changes(_with_all_defaults(relaxed), project):
        after = _translate_or_none(inference, _load_cluster(other))
        if after is not None:
            attribute(after, f"profile.{format_path(path[1:])}")
    return Explanation(
        [
            ExplainedField(
                leaf[0], names[leaf[:2]], format_path(leaf[2]), value, *_describe_causes(decisions, causes[leaf])
            )
            for leaf, value in leaves.items()
        ],
        decisions,
        idle,
    )


def _describe_causes(
    decisions: tuple[Decision, ...], known: Collection[str]
) -> tuple[tuple[str, ...], tuple[Decision, ...]]:
    """Return the causes of a leaf, without blocks of which a field is listed too, and the decisions behind them."""
    return (
        tuple(path for path in known if not any(other.startswith((f"{path}.", f"{path}[")) for other in known)),
        tuple(choice for choice in decisions if not set(choice.fields).isdisjoint(known)),
    )


def _with_all_defaults(profile: dict[str, Any]) -> dict[str, Any]:
    full: dict[str, Any] = plain_data(Profile.model_validate(profile).model_dump(by_alias=True, warnings=False))
    return full


def _load_cluster(profile: dict[str, Any]) -> Profile | None:
    """Return a valid profile, or None."""
    try:
        cluster = Profile.model_validate(profile)
    except ValueError:
        return None
    return None if select_errors([*check(cluster)]) else cluster


def _load_inference(native: dict[str, Any]) -> Inference | None:
    """Return a valid spec, or None. A native document is read without a profile."""
    try:
        inference: Inference = inference_validator().validate_python(native)
    except validation_error():
        return None
    return inference


def _translate_or_none(
    inference: Inference | None, cluster: Profile | None, *, checks_overrides: bool = False
) -> Translation | None:
    """Return the translation of a spec for a cluster, or None if one of them is invalid or the translation fails."""
    if inference is None or cluster is None:
        return None
    translation = translate(inference, cluster, NO_SPEC, checks_overrides=checks_overrides)
    return translation if translation.objects else None


def _list_object_leaves(translation: Translation) -> tuple[dict[Leaf, Any], dict[tuple[str, int], str]]:
    """Return the leaves of a translation's objects, and the objects' names."""
    leaves: dict[Leaf, Any] = {}
    counts: dict[str, int] = {}
    names: dict[tuple[str, int], str] = {}
    for obj in translation.objects:
        kind = obj["kind"]
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        names[kind, number] = obj["metadata"]["name"]
        for path, value in _list_leaves(obj, ()):
            leaves[kind, number, path] = value
    return leaves, names


def _list_leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the path and the value of each leaf, except the stored spec."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            if name != keys.SPEC:
                yield from _list_leaves(item, (*path, name))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _list_leaves(item, (*path, index))
    else:
        yield path, value


ABSENT: Final = object()


def _attribute_changes(
    before: dict[Leaf, Any], after: dict[Leaf, Any], causes: dict[Leaf, dict[str, None]], cause: str
) -> bool:
    """Add ``cause`` to each leaf that differs, but only to the kind and apiVersion of an object that is gone.

    Return whether anything differs.
    """
    objects = {leaf[:2] for leaf in after}
    changed = len(before) != len(after)
    for leaf, value in before.items():
        if leaf[:2] not in objects:
            twin = _find_counterpart(leaf, after, objects)
            if leaf[2] in HEADS or (twin is not None and after[twin] != value):
                causes[leaf][cause] = None
                changed = True
        elif after.get(leaf, ABSENT) != value:
            causes[leaf][cause] = None
            changed = True
    return changed


#: Leaves of every object that name its kind.
HEADS: Final = frozenset({("kind",), ("apiVersion",)})
#: Paths of the pod spec and the pod metadata in each kind of workload object.
PODS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "Service": (("spec", "template", "spec"), ("spec", "template", "metadata")),
    "InferenceService": (("spec", "predictor"), ("spec", "predictor")),
    "LLMInferenceService": (("spec", "template"), ("spec",)),
}
#: The kind of object that a workload of another kind is compared with.
TWIN_KINDS: Final = {
    "Service": "InferenceService",
    "InferenceService": "Service",
    "LLMInferenceService": "InferenceService",
}


def _find_counterpart(leaf: Leaf, after: dict[Leaf, Any], objects: set[tuple[str, int]]) -> Leaf | None:
    """Return the corresponding leaf of the other workload kind, if a variant turned a workload into that kind."""
    kind, number, path = leaf
    other = TWIN_KINDS.get(kind)
    if other is None or (other, number) not in objects:
        return None
    for pod_path, other_path in zip(PODS[kind], PODS[other], strict=True):
        if path[: len(pod_path)] == pod_path:
            twin = (other, number, other_path + path[len(pod_path) :])
            if twin in after:
                return twin
    return None


def _with_twin_project(profile: dict[str, Any], project: Any) -> dict[str, Any]:
    """Return the profile with a copy of the project under another name, so that a changed project name is valid."""
    known = profile.get("spec", {}).get("projects", {}).get("known", {})
    if project not in known:
        return profile
    return cast("dict[str, Any]", replace_at(profile, ("spec", "projects", "known", OTHER_PROJECT), known[project]))


def _with_components(profile: dict[str, Any]) -> dict[str, Any]:
    """Return the profile with the components that only some specs need, so that more variants of a spec are valid."""
    capable = plain_data(profile)
    spec = capable["spec"]
    spec["kserve"] = {**spec.get("kserve", {}), "installed": True}
    spec["knative"] = {**spec.get("knative", {}), "hpa": True}
    metrics = {**spec.get("metrics", {}), "metricsServer": True}
    spec["metrics"] = {**metrics, "adapter": "prometheus-adapter"} if metrics.get("adapter") == "none" else metrics
    return cast("dict[str, Any]", capable)


def list_changes(native: dict[str, Any]) -> Iterator[tuple[Path, list[dict[str, Any]], bool]]:
    """Yield each field of the document, set or not, with variants of the document in which only this field differs."""
    for top, model in (("metadata", Metadata), ("spec", InferenceSpec)):
        for path, value, row, is_set in _list_fields(native.get(top, {}), model, (top,)):
            variants = [remove_at(native, path)] if is_set else []
            variants += [replace_at(native, path, other) for other in _other_values(value, row)]
            if path in REPLICAS and _has_fixed_replicas(native):
                variants.append(replace_at(replace_at(native, REPLICAS[0], value + 1), REPLICAS[1], value + 1))
            yield path, variants, is_set
    for path, document in joint_changes(native):
        yield path, [document], False


def _make_plain_service(native: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the field that chooses the kind of object, and a document that is a Knative Service.

    It has no other field that one kind of object may not support.
    """
    spec = native.get("spec", {})
    plain = {"image": OTHER_IMAGE, **{name: spec[name] for name in PLAIN if name in spec}}
    return ("spec", "model" if "model" in spec else "serving"), {**native, "spec": plain}


def _has_fixed_replicas(native: dict[str, Any]) -> bool:
    """Return whether the bounds of the replicas are valid only if they are equal."""
    minimum, maximum = (get_at(native, *path) for path in REPLICAS)
    return isinstance(minimum, int) and minimum == maximum and get_at(native, "spec", "serving") == "llm"


def joint_changes(native: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield variants of the document in which fields that exclude each other replace each other."""
    spec = native.get("spec", {})
    if "model" in spec:
        image = OTHER_IMAGE
        bare = {name: item for name, item in spec.items() if name not in {"model", "serving"}}
        yield ("spec", "model"), {**native, "spec": {**bare, "image": image}}
    if spec.get("serving") == "llm":
        # An InferenceService has no name of the model.
        unnamed = {key: value for key, value in spec.get("model", {}).items() if key != "name"}
        # And its engine is not known, as streaming and adapters require.
        bare = {name: item for name, item in spec.items() if name not in {"start", "lora"}}
        yield ("spec", "serving"), {**native, "spec": {**bare, "model": unnamed, "serving": "kserve"}}
    if "patches" in spec:
        # A patch names its object; with another name or kind of workload it would have no target.
        bare = {**native, "spec": {name: item for name, item in spec.items() if name not in {"patches", "lora"}}}
        yield ("metadata", "name"), replace_at(bare, ("metadata", "name"), TEXTS[0])
        yield ("spec", "serving"), replace_at(bare, ("spec", "serving"), "kserve")
    free = _without_reserved(spec)
    if free != spec:
        # Names that are valid in one kind of object are reserved in the other and would be rejected there.
        yield ("spec", "serving"), replace_at({**native, "spec": free}, ("spec", "serving"), "kserve")


def _without_reserved(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec without the names and ports that are reserved in any kind of object."""
    free = dict(spec)
    for name in ("environmentVariables", "labels"):
        if name in free:
            free[name] = [item for item in free[name] if item["name"] not in reserved.NAMES]
    if free.get("servingPort", {}).get("container") in reserved.PORTS:
        del free["servingPort"]
    return free


def _list_fields(data: Any, model: type[BaseModel], path: Path) -> Iterator[tuple[Path, Any, FieldInfo | None, bool]]:
    """Yield (path, value, declaration, whether it is set) of each leaf field, descending into blocks with data."""
    for info in model.model_fields.values():
        yield from _list_field(data, info, path)


def _list_field(data: Any, info: FieldInfo, path: Path) -> Iterator[tuple[Path, Any, FieldInfo | None, bool]]:
    name, model = str(info.alias), next(models_in(info.annotation), None)
    field_path = (*path, name)
    is_set = isinstance(data, dict) and name in data
    value = data[name] if is_set else None
    if model is None or (not is_set and info.default in (None, ()) and info.examples is not None):
        if isinstance(value, (list, dict)) and is_set and model is None:
            yield from _list_items(field_path, value, info)
        yield field_path, value, info, is_set
    elif is_set and isinstance(value, list):
        yield field_path, value, info, True
        for index, item in enumerate(value):
            yield (*field_path, index), item, info, True
            yield from _list_fields(item, model, (*field_path, index))
    elif is_set or info.default is not None:
        if is_set or info.examples is not None:
            yield field_path, value, info, is_set
        if info.default != ():
            yield from _list_fields(value if is_set else {}, model, field_path)


def _list_items(path: Path, value: Any, info: FieldInfo | None) -> Iterator[tuple[Path, Any, FieldInfo | None, bool]]:
    """Yield the items of a list, with the declaration of the list, or of a mapping."""
    for place, item in value.items() if isinstance(value, dict) else enumerate(value):
        declared = info if isinstance(value, list) else None
        yield (*path, place), item, declared, True
        if isinstance(item, (dict, list)):
            yield from _list_items((*path, place), item, declared)


def _other_values(value: Any, info: FieldInfo | None) -> list[Any]:
    """Return other values for a field: its examples, other literals, the negation, near values, or those of its type."""
    if info is not None and info.examples is not None:
        return [other for other in info.examples if other != value]
    annotation = None if info is None else info.annotation
    same = info.default if value is None and info is not None else value
    values: list[Any] = [other for other in list_literals(annotation) if other != same]
    if isinstance(value, bool) or (value is None and _has_type(annotation, bool)):
        values.append(not value)
    elif isinstance(value, (int, float)):
        values += [other for other in (value + 1, max(0, value - 1), value * 2) if other != value]
    elif value is None and not values:
        kinds = ((str, TEXTS), (int, INTEGERS), (float, NUMBERS))
        values += next((samples for kind, samples in kinds if _has_type(annotation, kind)), ())
    elif isinstance(value, str) and not values:
        values += [value + "x", value[:-1] or "x", "1Gi", "1"]
    return values


def list_literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in list_literals(part)]


def _has_type(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_has_type(part, kind) for part in get_args(annotation))


def list_profile_changes(full: dict[str, Any], project: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield variants of a profile that has all defaults: in one leaf, and in fields that must agree with a spec's project."""
    for path, values in _list_profile_leaves(full):
        for value in values:
            yield path, replace_at(full, path, value)
    yield from _joint_profile_changes(full, project)


def _list_profile_leaves(full: dict[str, Any]) -> Iterator[tuple[Path, list[Any]]]:
    """Yield each leaf of a profile with other values of it."""
    for path, value in _list_leaves(full["spec"], ("spec",)):
        others: list[Any] = []
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, (int, float)):
            others = [value + 1, value * 2]
            if path[-2] == "classes":
                # One value on each side of the threshold between preemptible and non-preemptible.
                others = [10, 150]
        elif path[-1] == "backend":
            others = [name for name in BACKENDS if name != value]
        elif path[-1] in CHOICES:
            others = [other for other in CHOICES[str(path[-1])] if other != value]
        elif isinstance(value, str):
            others = [value + "x"]
        elif value is None and path[-1] in OPTIONAL:
            others = [OPTIONAL[str(path[-1])]]
        elif value == {} and path[-1] == "selector":
            others = [{"other": "value"}]
        yield path, others


def _joint_profile_changes(full: dict[str, Any], project: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield variants of the profile in which fields that must agree are changed together."""
    spec = full["spec"]
    path: Path = ("spec", "scheduling", "scheduler")
    custom = next(row.scheduler for row in BACKENDS.values() if row.scheduler is not None)
    scheduler = "default-scheduler" if spec["scheduling"]["scheduler"] == custom else custom
    under = next(row for row in BACKENDS.values() if row.shared and (row.scheduler or "default-scheduler") == scheduler)
    swapped = [{**pool, "backend": under.name} for pool in spec["nodePools"]]
    other = replace_at(full, ("spec", "nodePools"), swapped)
    yield path, replace_at(other, path, scheduler)
    cut = next(row for row in BACKENDS.values() if "replicas" in row.needs)
    shared = [{**pool, "backend": cut.name, "replicas": 2} for pool in spec["nodePools"]]
    other = replace_at(full, path, "default-scheduler")
    yield ("spec", "nodePools"), replace_at(other, ("spec", "nodePools"), shared)
    classes = {**spec["scheduling"]["classes"], "another": 150}
    yield ("spec", "scheduling", "classes"), replace_at(full, ("spec", "scheduling", "classes"), classes)
    quota = {"gpus": 3, "cpu": 7, "memory": "9Gi", "overQuota": False, "overQuotaWeight": 2}
    if isinstance(project, str):
        path = ("spec", "projects", "known", project)
        yield path, replace_at(full, path, quota)


def plain_data(value: Any) -> Any:
    """Return data with every tuple as a list."""
    if isinstance(value, dict):
        return {name: plain_data(item) for name, item in value.items()}
    return [plain_data(item) for item in value] if isinstance(value, (list, tuple)) else value


#: Values to try for profile fields with few valid values.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "quota": ("none", "resourcequota", "kai"),
    "scheduler": ("default-scheduler", "kai-scheduler"),
    "classesOwner": ("ebbtide", "kai"),
    "adapter": ("prometheus-adapter", "keda"),
    "llm": ("route", "scheduler"),
    "version": ("0.15", "0.18", "1.18", "1.36"),
    "podSecurity": ("restricted", "baseline", "privileged"),
    "namespace": ("other-{project}",),
    "product": ("NVIDIA-H200", "NVIDIA-A100-SXM4-40GB"),
    "migStrategy": ("single", "mixed"),
}
OPTIONAL: Final[dict[str, Any]] = {
    "runtimeClass": "nvidia",
    "resource": "example.com/gpu",
    "gpuUtilizationPerContainer": "other_metric",
}
