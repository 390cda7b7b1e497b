"""Causes of each output field, found by experiment instead of by tracing.

The translation is a pure function, so causes can be measured: change one field of the spec or of the profile,
retranslate, and compare the leaves of the output. A leaf that no field changes is a constant of its backend. A
field that changes no leaf has no effect.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, cast, get_args, get_origin

from ebbtide.base import keys
from ebbtide.base.bodies import WrittenBy, body
from ebbtide.base.paths import get_at
from ebbtide.base.problems import Problem, format_path, make_warning, select_errors
from ebbtide.profile.models import Profile
from ebbtide.readers.compiled import inference_validator, validation_error
from ebbtide.readers.fields import models_in
from ebbtide.spec.inference import Inference, InferenceSpec, Metadata
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.objects import with_values
from ebbtide.translation.plan import Decision
from ebbtide.translation.profile_rules import check
from ebbtide.translation.reuse import NO_SPEC, REPORTS, RecordedSteps, translate_again
from ebbtide.translation.serving import reserved
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from ebbtide.base.problems import Path
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.translation.objects import Object
    from ebbtide.translation.translate import Translation

#: A scalar of the output: the object (its kind, and its index among the objects of that kind), and the path in it.
Leaf = tuple[str, int, tuple[str | int, ...]]
#: Fields for reports and pages only: they affect no object, and are not reported as fields without effect.
INTENT: Final = ("slo", "relatedUrls", "description", "toolType", "toolName", "exclude")
#: Fields that only select which of their sibling fields applies; Run:ai requires them, but no output depends on them.
DISCRIMINATORS: Final = ("gpuRequestType",)
#: Fields that only add leaves if a spec does not set them, or are rejected: they change no leaf that exists, so their
#: values are not tried. A test tries them with each case.
ADDITIVE: Final = frozenset(
    f"spec.{block}{name}"
    for block, names in {
        "": "annotations args batcher category command deploymentStrategy disruptionBudget explainer exposedUrls "
        "imagePullSecrets initContainers labels logger nodeAffinityRequired nodeSelector nodeType podAffinity "
        "podAntiAffinity serviceAccountName topologySpreadConstraints transformer workingDir",
        "autoscaling.": "activationReplicas concurrencyHardLimit initialReplicas initializationTimeoutSeconds "
        "metricAggregation panicThresholdPercentage panicWindowPercentage scaleToZeroRetentionSeconds "
        "targetBurstCapacity",
        "compute.": "cpuCoreLimit cpuCoreRequest cpuMemoryLimit cpuMemoryRequest extendedResources gpuMemoryLimit "
        "largeShmRequest shmSize",
        "probes.": "liveness readiness startup",
        **dict.fromkeys(
            ("probes.liveness.", "probes.readiness.", "probes.startup."),
            "failureThreshold initialDelaySeconds successThreshold timeoutSeconds",
        ),
        "security.": "capabilities readOnlyRootFilesystem runAsGid runAsUid supplementalGroups",
        "servingConfiguration.": "requestTimeoutSeconds",
        "servingPort.": "authorizationType",
        "traffic.": "canaryPercent rolloutDurationSeconds",
    }.items()
    for name in names.split()
)
#: Fields whose values have different effects, by path without indexes: all values are tried. Of other fields that are set, the
#: first value with an effect suffices, and of other fields that are not set, the first valid one. A test tries all values.
VARIOUS: Final = frozenset(
    f"spec.{block}{name}"
    for block, names in {
        "": "autoscaling priorityClass project serving",
        "autoscaling.": "maxReplicas metric minReplicas",
        "compute.": "gpuDevicesRequest gpuPortionRequest",
        "exposedUrls.": "url",
        "model.": "storageSecret",
        "servingPort.": "container",
        "storage.pvc.claimInfo.": "accessModes",
    }.items()
    for name in names.split()
)
OTHER_PROJECT: Final = "team-z"
#: The field that differs between a profile and the one of which it is explained.
POD_SECURITY: Final = ("profile", "spec", "projects", "pod_security")
#: Values to try for fields whose type is not specific enough, by path without indexes.
SAMPLES: Final[dict[str, tuple[Any, ...]]] = {
    "metadata.name": ("other",),
    "metadata.namespace": ("elsewhere",),
    "spec.project": (OTHER_PROJECT,),
    "spec.image": ("registry.example.com/other:1",),
    "spec.serviceAccountName": ("other-account",),
    "spec.imagePullSecrets": ([{"name": "pull"}],),
    "spec.containerName": ("other",),
    "spec.command": (["other"],),
    "spec.args": (["--other"],),
    "spec.workingDir": ("/other",),
    "spec.model": ({"format": "onnx", "uri": "s3://models/other"},),
    "spec.model.format": ("xgboost",),
    "spec.model.uri": ("s3://models/other",),
    "spec.model.runtime": ("other-runtime",),
    "spec.model.formatVersion": ("9",),
    "spec.model.storageSecret": ("other-secret",),
    "spec.model.storage": ({"path": "other"},),
    "spec.model.storage.path": ("other",),
    "spec.model.storage.key": ("other",),
    "spec.model.storage.parameters": ({"type": "s3", "bucket": "other"},),
    "spec.model.uris.uri": ("s3://models/other",),
    "spec.model.uris.mountPath": ("/mnt/models/other",),
    "spec.model.runtimeVersion": ("9",),
    "spec.sidecars": ([{"name": "other", "image": "other:1"}],),
    "spec.initContainers": ([{"name": "other", "image": "other:1"}],),
    "spec.transformer": ({"containers": [{"image": "other:1"}]},),
    "spec.explainer": ({"containers": [{"image": "other:1"}]},),
    "spec.logger": ({"url": "http://other.example.com"},),
    "spec.logger.url": ("http://other.example.com",),
    "spec.logger.mode": ("request", "response", "all"),
    "spec.logger.storage": ({"key": "other", "path": "other", "parameters": {}},),
    "spec.logger.storage.parameters": ({"type": "s3", "other": "1"},),
    "spec.logger.metadataHeaders": (["other"],),
    "spec.logger.metadataAnnotations": (["other"],),
    "spec.logger.marshallerUrl": ("http://other.example.com",),
    "spec.logger.batchInterval": ("9s",),
    "spec.batcher": ({"maxBatchSize": 9},),
    "spec.imagePullPolicy": ("Never", "Always", "IfNotPresent"),
    "spec.priorityClass": ("train", "high", "inference"),
    "spec.nodeType": ("other",),
    "spec.category": ("Other",),
    "spec.autoscaling": (
        {"minReplicas": 1, "maxReplicas": 5, "metric": "other_metric", "metricThreshold": 12},
        {"minReplicas": 1, "maxReplicas": 5, "metric": "concurrency", "metricThreshold": 12},
        {"minReplicas": 1, "maxReplicas": 5, "metric": "cpu-utilization", "metricThreshold": 12},
        {"minReplicas": 2, "maxReplicas": 2},
    ),
    "spec.autoscaling.metric": ("throughput", "concurrency", "cpu-utilization", "other_metric"),
    "spec.autoscaling.metricName": ("other_metric",),
    "spec.autoscaling.metrics": (
        [{"metric": "latency", "threshold": 12}],
        [{"metric": "other_metric", "threshold": 12}],
    ),
    "spec.autoscaling.metrics.metric": ("latency", "other_metric"),
    "spec.autoscaling.metrics.query": ("other_metric",),
    "spec.autoscaling.metrics.queryResult": ("average", "total"),
    "spec.autoscaling.metrics.threshold": (12, 9),
    "spec.autoscaling.schedule": ([{"start": "0 1 * * *", "end": "0 2 * * *", "minReplicas": 1}],),
    **dict.fromkeys(("spec.autoscaling.schedule.start", "spec.autoscaling.schedule.end"), ("0 3 * * *",)),
    "spec.autoscaling.schedule.timeZone": ("Europe/Paris",),
    "spec.autoscaling.schedule.minReplicas": (1, 3),
    "spec.autoscaling.behavior": ({"scaleDown": {"selectPolicy": "Min"}},),
    **dict.fromkeys(
        ("spec.autoscaling.behavior.scaleUp", "spec.autoscaling.behavior.scaleDown"), ({"selectPolicy": "Min"},)
    ),
    **dict.fromkeys(
        ("spec.autoscaling.behavior.scaleUp.policies", "spec.autoscaling.behavior.scaleDown.policies"),
        ([{"type": "Pods", "value": 9, "periodSeconds": 9}],),
    ),
    "spec.autoscaling.metricThreshold": (50, 20),
    "spec.autoscaling.scaleDownDelaySeconds": (100, 3),
    "spec.autoscaling.stableWindowSeconds": (90, 120),
    "spec.autoscaling.panicThresholdPercentage": (150.0, 300.0),
    "spec.compute.gpuPortionRequest": (0.5, 0.25, 0.1),
    "spec.compute.gpuPortionLimit": (0.75,),
    "spec.compute.gpuComputePercentage": (100, 3),
    "spec.compute.gpuMemoryRequest": ("8Gi", "10G"),
    "spec.compute.migProfile": ("1g.10gb", "2g.20gb"),
    "spec.compute.cpuMemoryRequest": ("3Gi",),
    "spec.compute.cpuMemoryLimit": ("300Gi",),
    "spec.compute.cpuCoreLimit": (1000,),
    "spec.compute.extendedResources": ([{"resource": "example.com/other", "quantity": "1"}],),
    "spec.environmentVariables": ([{"name": "OTHER", "value": "1"}],),
    "spec.environmentVariables.name": ("OTHER_NAME",),
    "spec.tolerations": ([{"operator": "Exists"}],),
    "spec.tolerations.key": ("other-key",),
    "spec.labels": ([{"name": "other", "value": "1"}],),
    "spec.annotations": ([{"name": "other", "value": "1"}],),
    "spec.nodeSelector": ({"other": "1"},),
    "spec.topologySpreadConstraints": ([{"topologyKey": "other"}],),
    "spec.topologySpreadConstraints.topologyKey": ("other",),
    "spec.topologySpreadConstraints.matchLabelKeys": (["other"],),
    "spec.topologySpreadConstraints.labelSelector": ({"matchLabels": {"other": "1"}},),
    "spec.disruptionBudget": ({"maxUnavailable": 1},),
    "spec.disruptionBudget.minAvailable": ("40%",),
    "spec.disruptionBudget.maxUnavailable": ("40%",),
    "spec.deploymentStrategy": ({"type": "Recreate"},),
    "spec.deploymentStrategy.rollingUpdate": ({"maxSurge": 1},),
    "spec.deploymentStrategy.rollingUpdate.maxSurge": ("40%",),
    "spec.deploymentStrategy.rollingUpdate.maxUnavailable": ("40%",),
    "spec.compute.shmSize": ("3Gi",),
    "spec.podAffinity": ({"type": "Required", "key": "kubernetes.io/hostname"},),
    "spec.podAntiAffinity": ({"type": "Required", "key": "kubernetes.io/hostname"},),
    "spec.nodeAffinityRequired": (
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "other", "operator": "Exists"}]}]},
    ),
    **dict.fromkeys(
        ("spec.probes.readiness", "spec.probes.liveness", "spec.probes.startup"),
        ({"handler": {"httpGet": {"path": "/other"}}},),
    ),
    "spec.security.capabilities": (["NET_BIND_SERVICE"],),
    "spec.security.supplementalGroups": ("4242",),
    "spec.security.runAsUid": (4242,),
    "spec.storage.emptyDirVolume": ([{"path": "/other"}],),
    "spec.storage.imageVolume": ([{"image": "registry.example.com/other:1", "mountPath": "/other"}],),
    "spec.storage.imageVolume.image": ("registry.example.com/other:1",),
    "spec.storage.csiVolume": ([{"driver": "other.example.com", "mountPath": "/other"}],),
    "spec.storage.csiVolume.volumeAttributes": ({"other": "1"},),
    **dict.fromkeys((f"spec.storage.{kind}.mountPath" for kind in ("imageVolume", "csiVolume")), ("/other",)),
    "spec.storage.pvc.claimName": ("other-claim",),
    "spec.storage.pvc.path": ("/other",),
    "spec.storage.pvc.claimInfo.accessModes": ({"readWriteOnce": False, "readWriteMany": True},),
    "spec.storage.emptyDirVolume.path": ("/other",),
    "spec.storage.configMapVolume.mountPath": ("/other",),
    "spec.storage.secretVolume.mountPath": ("/other",),
    "spec.exposedUrls": ([{"url": "https://other.example.org"}],),
    "spec.exposedUrls.url": ("https://other.example.org",),
    "spec.traffic.stableRevision": ("other-00001",),
    "spec.servingPort.container": (8181, 8182),
    "spec.servingPort.protocol": ("grpc", "http"),
    "spec.patches": (),
    # It turns off much of what other fields do not set, and would be a cause of it all.
    "spec.defaults": (),
    "spec.environmentVariables.podFieldRef.path": ("metadata.namespace", "metadata.name"),
}
#: The change that removes a field.
ABSENT: Final = object()
#: The value of a change that the models reject.
INVALID: Final = object()
#: Number of projects of one profile of which variants are kept.
MAX_PROJECTS: Final = 200
#: Numbers to try for a field that is not set if only its type is known.
INTEGERS: Final = (3, 100, 2, 1, 0)
NUMBERS: Final = (1.0, 50.0, 2.0)


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

    @property
    def constants(self) -> list[ExplainedField]:
        """The leaves that no field changes."""
        return [leaf for leaf in self.leaves if not leaf.causes]

    def select_fields(self, loaded: LoadedDocument, part: str) -> Explanation:
        """Return the explanation of the output fields whose path contains ``part``, with source lines for idle fields."""
        leaves = [leaf for leaf in self.leaves if part in f"{leaf.kind}.{leaf.path}"]
        return replace(self, leaves=leaves, idle=loaded.place_problems(self.idle), document=loaded.name)


def explain_document(native: dict[str, Any], profile: dict[str, Any]) -> Explanation:
    """Return the causes of each leaf of a document's translation.

    ``native`` is a native document that translates without errors, ``profile`` is a profile document. Both are plain
    data, which is easy to vary.
    """
    cluster, inference = _load_cluster(profile), _load_inference(native)
    if cluster is None or inference is None:
        return Explanation()
    project = native.get("spec", {}).get("project")
    # Variants that violate the namespace's Pod Security level still show the effect of a field, so relax that level.
    relaxed = cast("dict[str, Any]", replace_at(profile, ("spec", "projects", "podSecurity"), "privileged"))
    clusters = _cluster_variants(json.dumps(relaxed))
    assert clusters.base is not None
    # The variants of the spec have one cluster, and those of the cluster have one spec: each is validated once.
    of_project = clusters.of_project(project)
    capable = of_project.capable
    if capable is None or capable is clusters.base:
        varied = compared = Experiment(inference, clusters.base)
    else:
        compared = Experiment(inference, clusters.base, varies_spec=False)
        varied = Experiment(inference, capable, varies_profile=False)
    base = compared.translate(inference, cluster, compared.find_readers(POD_SECURITY))
    if base is None:
        return Explanation()
    leaves, names = _list_object_leaves(base)
    decisions = base.decisions
    causes: dict[Leaf, dict[str, None]] = {leaf: {} for leaf in leaves}
    idle: list[Problem] = []
    differs = varied is not compared and not compared.is_same(varied.translation)

    before = compared.translation if differs else varied.translation
    for change in list_changes(native):
        has_effect = False
        translated = False
        # Only a field that is set is reported if it has no effect. The causes are those of leaves that exist.
        ignore_additions = not change.is_set and not differs
        if ignore_additions and change.cause in ADDITIVE:
            continue
        readers = varied.find_readers(change.attributes)
        if ignore_additions and readers <= REPORTS:
            continue
        known: set[Any] = set()
        for other in varied.list_variants(native, change):
            # All translations differ from that of a profile without the components.
            if translated and not change.is_various and (not change.is_set or (has_effect and not differs)):
                break
            if other is None:
                continue
            after = varied.translate(other, capable, readers, known, ignore_additions=ignore_additions)
            if after is None:
                continue
            translated = True
            has_effect |= _attribute_changes(before, after, causes, change.cause)
            # From here on, only other leaves matter.
            ignore_additions |= has_effect and not differs
        if (
            change.is_set
            and translated
            and not has_effect
            and not any(part in INTENT + DISCRIMINATORS for part in change.path)
        ):
            idle.append(
                make_warning(
                    "IGN001",
                    change.path,
                    f"{change.cause} has no effect on the rendered objects",
                    "remove it, or check that it is in the right place",
                )
            )
    for path, document in joint_changes(native):
        other = _load_inference(document)
        readers = varied.find_all_readers(_list_differing_blocks(native, document, Inference))
        after = None if other is None else varied.translate(other, capable, readers)
        if after is not None:
            _attribute_changes(before, after, causes, format_path(path))
    _attribute_cluster_changes(compared, (*clusters.changes, *of_project.joint), causes)
    # Many leaves have the same causes.
    describe = cache(partial(_describe_causes, decisions))
    return Explanation(
        [
            ExplainedField(leaf[0], names[leaf[:2]], format_path(leaf[2]), value, *describe(tuple(causes[leaf])))
            for leaf, value in leaves.items()
        ],
        decisions,
        idle,
    )


def _attribute_cluster_changes(
    compared: Experiment, changes: Iterable[ClusterChange], causes: dict[Leaf, dict[str, None]]
) -> None:
    """Add each field of the profile to the leaves that differ with another value of it."""
    for change in changes:
        readers = compared.find_all_readers(change.blocks)
        known: set[Any] = set()
        for cluster in () if readers <= REPORTS else change.load_clusters():
            after = compared.translate(compared.inference, cluster, readers, known, ignore_additions=True)
            if after is not None:
                _attribute_changes(compared.translation, after, causes, change.cause)


def _describe_causes(
    decisions: tuple[Decision, ...], known: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[Decision, ...]]:
    """Return the causes of a leaf, without blocks of which a field is listed too, and the decisions behind them."""
    return (
        tuple(path for path in known if not any(other.startswith((f"{path}.", f"{path}[")) for other in known)),
        tuple(choice for choice in decisions if not set(choice.fields).isdisjoint(known)),
    )


class Experiment:
    """A translation that is repeated with one field changed, and that reuses the steps which do not read the field."""

    def __init__(
        self, inference: Inference, cluster: Profile, *, varies_spec: bool = True, varies_profile: bool = True
    ) -> None:
        """Translate a valid spec for a cluster that accepts it, to vary fields of one of them or of both."""
        self.inference = inference
        self._steps = RecordedSteps(inference, cluster, varies_spec=varies_spec, varies_profile=varies_profile)
        self.translation = translate(inference, cluster, NO_SPEC, self._steps)
        self._steps.end()
        self._is_recorded = bool(self.translation.objects)

    def find_readers(self, path: Path) -> set[Any]:
        """Return the steps that read a field; not empty if the steps are not recorded."""
        return self._steps.find_readers(path) if self._is_recorded else {None}

    def find_all_readers(self, paths: Iterable[Path]) -> set[Any]:
        """Return the steps that read any of several fields."""
        return set[Any]().union(*map(self.find_readers, paths))

    def translate(
        self,
        inference: Inference,
        cluster: Profile | None,
        readers: set[Any],
        known: set[Any] | None = None,
        *,
        ignore_additions: bool = False,
    ) -> Translation | None:
        """Return the translation with a change in a field that ``readers`` read, or None if it fails.

        With ``ignore_additions``, return the recorded translation instead of one that only adds to its objects, or changes
        what is ``known`` to change with other values of the field.
        """
        if cluster is None:
            return None
        # No step reads the patches.
        if not self._is_recorded or inference.spec.patches != self.inference.spec.patches:
            translation = translate(inference, cluster, NO_SPEC)
            return translation if translation.objects else None
        if not readers:
            return self.translation
        return translate_again(
            self._steps,
            self.translation,
            inference,
            cluster,
            readers,
            set() if known is None else known,
            ignore_additions=ignore_additions,
        )

    def is_same(self, other: Translation) -> bool:
        """Return whether another translation has the same objects."""
        return self.translation.objects == other.objects

    def list_variants(self, native: dict[str, Any], change: SpecChange) -> Iterator[Inference | None]:
        """Yield the spec with each other value of a field, or None if it is not valid. Only the field's block is validated."""
        depth, _ = _find_block(change.path)
        place = change.attributes[: depth + 1]
        for value in change.valid or (validate_value(native, change, value) for value in change.values):
            yield None if value is INVALID else _replace_attribute(self.inference, place, value)


def validate_value(native: dict[str, Any], change: SpecChange, value: Any) -> Any:
    """Return the field of the innermost block with a change, as the models read it, or ``INVALID``."""
    depth, model = _find_block(change.path)
    block: Any = native
    for part in change.path[:depth]:
        block = block[part] if isinstance(part, int) else block.get(part, {})
    if model is InferenceSpec:
        # None of its fields is required, and the models have no rules between fields.
        block = {name: block[name] for name in change.path[depth : depth + 1] if name in block}
    try:
        validated = model.__pydantic_validator__.validate_python(change_at(block, change.path[depth:], value))
    except ValueError:
        return INVALID
    return getattr(validated, str(change.attributes[depth]))


def _replace_attribute(value: Any, place: Path, other: Any, depth: int = 0) -> Any:
    """Return a block, or a list of blocks, to which ``depth`` parts of a place lead, with another value at the place."""
    if depth == len(place):
        return other
    part = place[depth]
    if isinstance(part, int):
        items = [*value]
        items[part] = _replace_attribute(value[part], place, other, depth + 1)
        return items
    return with_values(value, **{part: _replace_attribute(getattr(value, part), place, other, depth + 1)})


class ClusterChange:
    """A part of a profile with other values of it; the profile with each value is validated once, if it is needed."""

    def __init__(self, cause: str, blocks: tuple[Path, ...], documents: Iterable[dict[str, Any]]) -> None:
        """Take the attributes that differ, and the documents of the variants."""
        self.cause = cause
        self.blocks = blocks
        self._documents = documents
        self._clusters: list[Profile | None] | None = None

    def load_clusters(self) -> list[Profile | None]:
        """Return the profile with each value, None for each one that is not valid."""
        if self._clusters is None:
            self._clusters = [_load_cluster(document) for document in self._documents]
        return self._clusters


@dataclass(frozen=True)
class ProjectVariants:
    """The variants of a profile that depend on a spec's project."""

    #: The profile with the components that only some specs need, and with another project, if it is valid.
    capable: Profile | None
    joint: list[ClusterChange]


class ClusterVariants:
    """A profile document and its variants, each of which is validated once."""

    def __init__(self, profile: dict[str, Any]) -> None:
        """Validate a profile document."""
        self.base = _load_cluster(profile)
        self._profile = profile
        #: The document with all defaults.
        self.full = plain_data(Profile.model_validate(profile).model_dump(by_alias=True, warnings=False))
        self.changes = [
            ClusterChange(
                _name_cause(path),
                (("profile", *_attribute_path(Profile, path)),),
                _replace_each(self.full, path, values),
            )
            for path, values in list_profile_changes(self.full)
        ]
        self._projects: dict[Any, ProjectVariants] = {}

    def of_project(self, project: Any) -> ProjectVariants:
        """Return the variants for specs of a project."""
        variants = self._projects.get(project)
        if variants is None:
            if len(self._projects) >= MAX_PROJECTS:
                self._projects.clear()
            joint = [
                ClusterChange(
                    _name_cause(path),
                    tuple(("profile", *block) for block in _list_differing_blocks(self.full, document, Profile)),
                    (document,),
                )
                for path, document in joint_profile_changes(self.full, project)
            ]
            capable = _load_cluster(_with_components(_with_twin_project(self._profile, project)))
            variants = self._projects[project] = ProjectVariants(self.base if capable == self.base else capable, joint)
        return variants


def _replace_each(document: dict[str, Any], path: Path, values: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield a document with each value at ``path``."""
    for value in values:
        yield replace_at(document, path, value)


def _name_cause(path: Path) -> str:
    """Return the name of a field of the profile in explanations."""
    return "profile." + format_path(path[1:])


@lru_cache(maxsize=2)
def _cluster_variants(profile: str) -> ClusterVariants:
    """Return the variants of a profile. The specs of one call have one profile."""
    return ClusterVariants(json.loads(profile))


@lru_cache(maxsize=4096)
def _attribute_path(model: type[BaseModel], path: Path) -> Path:
    """Return a path in a document as the path of attributes, indexes and keys in the validated document."""
    annotation: Any = model
    places: list[str | int] = []
    for part in path:
        block = None if annotation is None else next(models_in(annotation), None)
        if block is None or isinstance(part, int):
            places.append(part)
            continue
        name = next((name for name, info in block.model_fields.items() if info.alias == part), None)
        if name is None:
            # A key of a mapping of blocks.
            places.append(part)
            continue
        places.append(name)
        annotation = block.model_fields[name].annotation
    return tuple(places)


@lru_cache(maxsize=4096)
def _find_block(path: Path) -> tuple[int, type[BaseModel]]:
    """Return the length of the path of the innermost block that contains a field of a spec, and the block's model."""
    model: type[BaseModel] = Inference
    found = 0, model
    for length, (part, following) in enumerate(pairwise(path), 1):
        if isinstance(part, str):
            inner = _list_field_types(model)[part].model
            if inner is None:
                break
            model = inner
        if isinstance(following, str):
            found = length, model
    return found


def _list_differing_blocks(before: dict[str, Any], after: dict[str, Any], model: type[BaseModel]) -> Iterator[Path]:
    """Yield the attributes of the metadata and the spec in which two documents differ."""
    for top in ("metadata", "spec"):
        old, new = before.get(top, {}), after.get(top, {})
        for name in {**old, **new}:
            if old.get(name) != new.get(name):
                yield _attribute_path(model, (top, name))


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


def _attribute_changes(
    before: Translation, after: Translation, causes: dict[Leaf, dict[str, None]], cause: str
) -> bool:
    """Add ``cause`` to each leaf that differs, but only to the kind and apiVersion of an object that is gone.

    Return whether anything differs.
    """
    if before is after:
        return False
    others = dict(_number_objects(after.objects))
    changed: list[Leaf] = []
    has_more = len(before.objects) != len(after.objects)
    for (kind, number), obj in _number_objects(before.objects):
        other = others.get((kind, number))
        if other is None:
            has_more = True
            changed += _list_changes_of_kind((kind, number), obj, others)
        elif other is not obj:
            for path in _list_differences(obj, other, ()):
                if path is None:
                    has_more = True
                else:
                    changed.append((kind, number, path))
    for leaf in changed:
        causes[leaf][cause] = None
    return has_more or bool(changed)


def _number_objects(objects: Sequence[Object]) -> Iterator[tuple[tuple[str, int], Object]]:
    """Yield each object with its kind, and its index among the objects of that kind."""
    counts: dict[str, int] = {}
    for obj in objects:
        kind = obj["kind"]
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        yield (kind, number), obj


def _list_differences(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...] | None]:
    """Yield the path of each leaf that is not the same leaf in ``after``, and None for each new part of ``after``."""
    if isinstance(before, dict) and before and isinstance(after, dict) and after:
        for name, item in before.items():
            other = after.get(name, ABSENT)
            if other is item or name == keys.SPEC:
                continue
            if other is ABSENT:
                yield from (leaf for leaf, _ in _list_leaves(item, (*path, name)))
            elif item != other:
                yield from _list_differences(item, other, (*path, name))
        if not after.keys() - before.keys() <= {keys.SPEC}:
            yield None
    elif isinstance(before, list) and before and isinstance(after, list) and after:
        for index, item in enumerate(before):
            if index >= len(after):
                yield from (leaf for leaf, _ in _list_leaves(item, (*path, index)))
            elif item is not after[index] and item != after[index]:
                yield from _list_differences(item, after[index], (*path, index))
        if len(after) > len(before):
            yield None
    elif before != after:
        yield from (leaf for leaf, _ in _list_leaves(before, path))
        if isinstance(after, (dict, list)):
            yield None


def _list_changes_of_kind(
    key: tuple[str, int], obj: Object, others: Mapping[tuple[str, int], Object]
) -> Iterator[Leaf]:
    """Yield the leaves that differ of an object that is gone, or is of another kind now."""
    kind, number = key
    yield kind, number, ("apiVersion",)
    yield kind, number, ("kind",)
    other_kind = TWIN_KINDS.get(kind, "")
    other = others.get((other_kind, number))
    if other is None:
        return
    for pod_path, other_path in zip(PODS[kind], PODS[other_kind], strict=True):
        before, after = get_at(obj, *pod_path), get_at(other, *other_path)
        if before is not None and after is not None:
            yield from ((kind, number, path) for path in _list_changed_values(before, after, pod_path))


def _list_changed_values(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each leaf of both that has another value in ``after``."""
    if isinstance(before, dict) and before:
        if isinstance(after, dict):
            for name, item in before.items():
                if name in after:
                    yield from _list_changed_values(item, after[name], (*path, name))
    elif isinstance(before, list) and before:
        if isinstance(after, list):
            for index, items in enumerate(zip(before, after, strict=False)):
                yield from _list_changed_values(*items, (*path, index))
    elif before != after and not (isinstance(after, dict | list) and after):
        yield path


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


class SpecChange(NamedTuple):
    """A field of the spec, with other values of it."""

    path: Path
    #: The path of attributes in the validated document.
    attributes: Path
    #: The path as text.
    cause: str
    #: The values, ``ABSENT`` among them if the field is set.
    values: tuple[Any, ...]
    is_set: bool
    #: True if the values have different effects (``VARIOUS``).
    is_various: bool
    #: The validated values, if the same for all documents.
    valid: tuple[Any, ...] = ()


def list_changes(native: dict[str, Any]) -> Iterator[SpecChange]:
    """Yield each field of the document, with other values of it."""
    yield from _list_block_changes(_list_fields(native.get("metadata", {}), Metadata, ("metadata",)))
    spec = native.get("spec", {})
    for name, row in _list_field_types(InferenceSpec).items():
        if name in spec:
            yield from _list_block_changes(_list_field(spec, row, ("spec",)))
        else:
            yield from _list_changes_of_unset(name)


def _list_block_changes(fields: Iterator[tuple[Path, Any, FieldType | None, bool]]) -> Iterator[SpecChange]:
    for path, value, row, is_set in fields:
        values = _other_values(path, value, row)
        attributes = _attribute_path(Inference, path)
        all_values = (*((ABSENT,) if is_set else ()), *values)
        is_various = _name_field(path) in VARIOUS
        yield SpecChange(path, attributes, format_path(path), all_values, is_set, is_various)


@cache
def _list_changes_of_unset(name: str) -> tuple[SpecChange, ...]:
    """Return the changes of a field of the spec that is not set, which follow from the models: those of all documents."""
    return tuple(
        change._replace(valid=tuple(validate_value({}, change, value) for value in change.values))
        for change in _list_block_changes(_list_field({}, _list_field_types(InferenceSpec)[name], ("spec",)))
    )


def joint_changes(native: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield variants of the document in which fields that exclude each other replace each other."""
    spec = native.get("spec", {})
    if "model" in spec:
        image = SAMPLES["spec.image"][0]
        bare = {name: item for name, item in spec.items() if name not in {"model", "serving"}}
        yield ("spec", "model"), {**native, "spec": {**bare, "image": image}}
    if spec.get("serving") == "llm":
        # An InferenceService has no name of the model.
        unnamed = {key: value for key, value in spec.get("model", {}).items() if key != "name"}
        yield ("spec", "serving"), {**native, "spec": {**spec, "model": unnamed, "serving": "kserve"}}
    if "patches" in spec:
        # A patch names its object; with another name or kind of workload it would have no target.
        bare = {**native, "spec": {name: item for name, item in spec.items() if name != "patches"}}
        yield ("metadata", "name"), replace_at(bare, ("metadata", "name"), SAMPLES["metadata.name"][0])
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


class FieldType(NamedTuple):
    """A field of a model, and the values that its type allows."""

    name: str
    #: The model of its block, or of its list's or mapping's blocks.
    model: type[BaseModel] | None
    default: Any
    literals: tuple[Any, ...]
    is_bool: bool
    #: Numbers to try for a field that is not set.
    numbers: tuple[Any, ...]


@cache
def _list_field_types(model: type[BaseModel]) -> dict[str, FieldType]:
    """Return the fields of a model by their names in documents."""
    return {
        str(info.alias): FieldType(
            str(info.alias),
            next(models_in(info.annotation), None),
            info.default,
            tuple(list_literals(info.annotation)),
            _has_type(info.annotation, bool),
            INTEGERS if _has_type(info.annotation, int) else NUMBERS if _has_type(info.annotation, float) else (),
        )
        for info in model.model_fields.values()
    }


def _list_fields(data: Any, model: type[BaseModel], path: Path) -> Iterator[tuple[Path, Any, FieldType | None, bool]]:
    """Yield (path, value, type, whether it is set) of each leaf field, descending into blocks with data."""
    for row in _list_field_types(model).values():
        yield from _list_field(data, row, path)


def _list_field(data: Any, row: FieldType, path: Path) -> Iterator[tuple[Path, Any, FieldType | None, bool]]:
    """Yield the leaf fields of one field of a block."""
    field_path = (*path, row.name)
    is_set = isinstance(data, dict) and row.name in data
    value = data[row.name] if is_set else None
    if row.model is None or (not is_set and row.default in (None, ()) and _name_field(field_path) in SAMPLES):
        if isinstance(value, (list, dict)) and is_set and row.model is None:
            yield from _list_items(field_path, value)
        yield field_path, value, row, is_set
    elif is_set and isinstance(value, list):
        yield field_path, value, None, True
        for index, item in enumerate(value):
            yield (*field_path, index), item, None, True
            yield from _list_fields(item, row.model, (*field_path, index))
    elif is_set or row.default is not None:
        if is_set or format_path(field_path) in SAMPLES:
            yield field_path, value, None, is_set
        if row.default != ():
            yield from _list_fields(value if is_set else {}, row.model, field_path)


def _list_items(path: Path, value: Any) -> Iterator[tuple[Path, Any, None, bool]]:
    places = value if isinstance(value, dict) else range(len(value))
    for place in places:
        item = value[place]
        yield (*path, place), item, None, True
        if isinstance(item, (dict, list)):
            yield from _list_items((*path, place), item)


def without_indexes(path: Path) -> Path:
    return tuple(part for part in path if isinstance(part, str))


@lru_cache(maxsize=4096)
def _name_field(path: Path) -> str:
    """Return a path without indexes, as in ``SAMPLES`` and ``VARIOUS``."""
    return format_path(without_indexes(path))


def _other_values(path: Path, value: Any, row: FieldType | None) -> list[Any]:
    """Return other values for a field: its samples, other literals, the negation, near numbers, or other strings."""
    sample = SAMPLES.get(_name_field(path))
    if sample is not None:
        return [other for other in sample if other != value]
    same = row.default if value is None and row is not None else value
    values: list[Any] = [] if row is None else [other for other in row.literals if other != same]
    if isinstance(value, bool) or (value is None and row is not None and row.is_bool):
        values.append(not value)
    elif isinstance(value, (int, float)):
        values += [other for other in (value + 1, max(0, value - 1), value * 2) if other != value]
    elif value is None and not values and row is not None:
        values += row.numbers
    elif isinstance(value, str) and not values:
        values += [value + "x", value[:-1] or "x", "1Gi", "1"]
    return values


def list_literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in list_literals(part)]


def _has_type(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_has_type(part, kind) for part in get_args(annotation))


def list_profile_changes(full: dict[str, Any]) -> Iterator[tuple[Path, list[Any]]]:
    """Yield each leaf of a profile that has all defaults, with other values of it."""
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


def joint_profile_changes(full: dict[str, Any], project: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
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


def change_at(document: Any, path: Path, value: Any) -> Any:
    """Return ``document`` with ``value`` at ``path``, or without anything there if the value is ``ABSENT``."""
    return remove_at(document, path) if value is ABSENT else replace_at(document, path, value)


def replace_at(document: Any, path: Path, value: Any) -> Any:
    """Return ``document`` with ``value`` at ``path``; only the containers on the path are copied."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(document, list):
        assert isinstance(head, int)
        return [*document[:head], replace_at(document[head], rest, value), *document[head + 1 :]]
    base = document if isinstance(document, dict) else {}
    return {**base, head: replace_at(base.get(head), rest, value)}


def remove_at(document: Any, path: Path) -> Any:
    """Return ``document`` without the value at ``path``."""
    head, rest = path[0], path[1:]
    if isinstance(document, list):
        assert isinstance(head, int)
        inner = [] if not rest else [remove_at(document[head], rest)]
        return [*document[:head], *inner, *document[head + 1 :]]
    if not rest:
        return {name: item for name, item in document.items() if name != head}
    return {**document, head: remove_at(document[head], rest)}
