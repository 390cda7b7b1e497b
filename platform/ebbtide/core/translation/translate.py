"""The translation of a spec and a profile into objects, with every choice and every problem: one pure function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys
from ebbtide.core.base.problems import ERROR, Problem, has_errors, make_warning, offer_values
from ebbtide.core.spec import rules
from ebbtide.core.translation import (
    container,
    endpoints,
    gpu,
    lora,
    patches,
    placement,
    pods,
    priority,
    project,
    start,
    storage,
    traps,
)
from ebbtide.core.translation.gpu.backend import compute_portion
from ebbtide.core.translation.objects import Object, prune_nulls, sort_for_apply, with_values
from ebbtide.core.translation.plan import Decision, Plan
from ebbtide.core.translation.pods import Pod, PodPatch
from ebbtide.core.translation.scaling import standard
from ebbtide.core.translation.scaling.checks import ANY_METRIC_CHECKS, UNKNOWN_METRIC
from ebbtide.core.translation.scaling.checks import CHECKS as SCALING_CHECKS
from ebbtide.core.translation.scaling.choice import choose as choose_scaling
from ebbtide.core.translation.scaling.scraping import list_scrape_decisions
from ebbtide.core.translation.serving import knative, kserve, llm
from ebbtide.core.translation.serving.checks import CHECKS as SERVING_CHECKS
from ebbtide.core.translation.serving.checks import choose as choose_serving
from ebbtide.core.translation.serving.timeouts import list_timeout_decisions
from ebbtide.core.translation.serving.updates import list_rollout_decisions

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference
    from ebbtide.core.spec.serving import Patch

#: The fields of an object that a patch cannot change.
IDENTITY: Final = frozenset({"apiVersion", "kind", "metadata.name", "metadata.namespace"})
CLUSTER_SCOPED: Final = {"PriorityClass", "Namespace", "Queue", "ResourceFlavor", "ClusterQueue"}
#: Code prefixes of errors of a GPU request, which is then treated as no GPU.
GPU: Final = ("GPU", "CPU")
#: Problems of a spec that requests no GPU. An invalid request is treated as none.
NO_GPU: Final = frozenset({"AUT017", "GPU131"})
#: Code prefixes of errors after which the pod is not known.
POD: Final = frozenset({*GPU, "STO", "STA", "PLC"})

#: The maximum size in bytes of an object's annotations (k8s.io/apimachinery pkg/api/validation, TotalAnnotationSizeLimitB).
MAX_ANNOTATION_BYTES: Final = 256 << 10
#: The autoscalers that Ebbtide creates as separate objects, and the function that builds each.
OWN_SCALERS: Final = {"own-hpa": standard.make_hpa, "keda": standard.make_scaled_object}
#: The function that builds the top object, by its kind.
TOP_OBJECTS: Final = {
    "Service": knative.make_service,
    "InferenceService": kserve.make_service,
    "LLMInferenceService": llm.make_service,
}


@dataclass(frozen=True, slots=True)
class Translation:
    """The result of translating one spec: objects in apply order (none if there is an error), the plan, the problems."""

    objects: tuple[Object, ...]
    plan: Plan | None
    problems: tuple[Problem, ...]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every choice with its reason."""
        return tuple(self.plan.decisions) if self.plan is not None else ()


def translate(inference: Inference, profile: Profile, canonical: str, *, checks_overrides: bool = True) -> Translation:
    """Return the objects for ``inference`` on the cluster of ``profile``.

    ``canonical`` is the spec as JSON, which is stored in the top object's annotation. No input that the models
    accept raises an exception. ``checks_overrides`` is whether a patch that covers a field of the spec is an error; that
    check translates many specs.
    """
    plan, problems = complete_plan(inference, profile)
    is_planned = not has_errors(problems)
    if any(problem.code[:3] in POD and problem.severity == ERROR for problem in problems):
        return Translation((), None, tuple(problems))
    try:
        pod = pods.merge_patches(make_patches(plan))
    except pods.PatchConflict:
        if is_planned:
            raise
        # The errors name the fields that contradict each other.
        return Translation((), None, tuple(problems))
    problems.extend(_check_mounts(plan, pod))
    if plan.mode.revisions:
        problems.extend(map(plan.place_problem, knative.check_flags(plan, pod)))
    if has_errors(problems):
        return Translation((), plan if is_planned else None, tuple(problems))
    objects = make_objects(plan, pod, canonical)
    problems.extend(_check_annotation_size(objects))
    problems.extend(llm.check_templates(objects))
    if plan.spec.patches:
        objects = _apply_patches(plan, objects, problems, checks_overrides=checks_overrides)
    if has_errors(problems):
        return Translation((), plan, tuple(problems))
    return Translation(tuple(sort_for_apply(objects)), plan, tuple(problems))


def _check_mounts(plan: Plan, pod: Pod) -> Iterator[Problem]:
    """Reject further containers that mount volumes which the pod does not have."""
    known = [volume["name"] for volume in pod.parts.get("volumes", ())]
    spec = plan.spec
    for field, items in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
        for index, item in enumerate(items):
            mounts = item.get("volumeMounts")
            for place, mount in enumerate(mounts if isinstance(mounts, list) else ()):
                name = mount.get("name") if isinstance(mount, dict) else None
                if name not in known:
                    where = ("spec", field, index, "volumeMounts", place)
                    fix = f"use one of {', '.join(known)}, or set the name of a volume in storage"
                    fix = fix if known else "add a volume with this name to storage"
                    yield Problem(
                        "STO022", where, f"volume {name} not found in storage", fix, fixes=offer_values(known)
                    )


def make_plan(inference: Inference, profile: Profile) -> tuple[Plan | None, list[Problem]]:
    """Return the plan with every choice, or None if there is an error, and the problems."""
    plan, problems = complete_plan(inference, profile)
    return (None if has_errors(problems) else plan), problems


def complete_plan(inference: Inference, profile: Profile) -> tuple[Plan, list[Problem]]:
    """Return the plan with every choice, also if there is an error, and the problems.

    Every choice is made even if another field is invalid, so that each check can read a complete plan. There are two
    exceptions: an invalid GPU request is treated as no GPU, and the checks that read the metric need a known one.
    """
    plan = Plan(inference, profile)
    plan.namespace = project.choose_namespace(plan)
    plan.pools = placement.choose(plan)
    plan.spec, plan.extended_gpus = gpu.read_extended_resources(plan.spec, plan.pool)
    problems = rules.check(with_values(inference, spec=plan.spec), profile.spec.metrics.custom)
    broken = {problem.code[:3] for problem in problems if problem.severity == ERROR}
    plan.gpu = None if broken.intersection(GPU) else gpu.choose(plan)
    plan.serving = plan.record_decision(*choose_serving(plan))
    plan.scaling = plan.record_decision(*choose_scaling(plan))
    plan.priority = plan.record_decision(*priority.choose(plan))
    for list_decisions in DECISIONS:
        plan.decisions.extend(list_decisions(plan))
    for check in CHECKS:
        problems.extend(check(plan))
    is_known = UNKNOWN_METRIC.isdisjoint(problem.code for problem in problems)
    invalid = {problem.field for problem in problems if problem.severity == ERROR}
    for check in SCALING_CHECKS if is_known else ANY_METRIC_CHECKS:
        problems.extend(problem for problem in check(plan) if problem.severity == ERROR or problem.field not in invalid)
    problems.extend(traps.check(plan))
    untrue = NO_GPU if broken.intersection(GPU) else frozenset()
    return plan, [plan.place_problem(problem) for problem in problems if problem.code not in untrue]


def _check_gpu(plan: Plan) -> Iterator[Problem]:
    yield from gpu.check_extended_resources(plan)
    if plan.gpu is None:
        return
    if plan.pool is None and not plan.pool_names:
        yield Problem("GPU007", ("spec", "compute"), *gpu.NO_POOLS)
    for index, ask in enumerate(gpu.list_pool_requests(plan)):
        # Warnings are reported for the first pool only, errors for each pool. GPU065 covers servers that limit themselves.
        for problem in gpu.check(ask):
            is_covered = problem.code == gpu.UNISOLATED and traps.limits_memory(plan, compute_portion(ask))
            if problem.severity == ERROR or (index == 0 and not is_covered):
                yield problem


def _list_gpu_decisions(plan: Plan) -> Iterator[Decision]:
    if plan.gpu is None or plan.pool is None:
        return
    backend = gpu.BACKENDS[plan.pool.backend]
    because = (
        f"node pool {plan.pool.name} has backend {backend.name}; memory: {backend.memory}; compute: {backend.compute}"
    )
    yield Decision("GPU backend", backend.title, because, ("spec.compute", "spec.nodePools", "profile.nodePools"))


def make_patches(plan: Plan) -> list[PodPatch]:
    """Return the pod patches of all features."""
    patches = [feature(plan) for feature in FEATURES]
    for feature in FEATURES_WITH_PATCHES:
        patches.extend(feature(plan))
    return patches


def _make_gpu_patches(plan: Plan) -> Iterator[PodPatch]:
    """Yield the profile's scheduler and the request of the GPU backend."""
    scheduler = plan.cluster.scheduling.scheduler
    if plan.scheduled and scheduler != "default-scheduler":
        yield PodPatch("scheduler", ("spec", "compute"), scheduler_name=scheduler)
    ask = next(gpu.list_pool_requests(plan), None)
    if ask is None:
        return
    patch = gpu.BACKENDS[ask.pool.backend].patch(ask)
    if not plan.scheduled:
        patch.parts.pop("scheduler_name", None)
    yield patch
    runtime_class = plan.cluster.pods.runtime_class
    if runtime_class is not None and plan.scheduled:
        yield PodPatch("gpu/runtime", ask.cause, runtime_class_name=runtime_class)


def make_objects(plan: Plan, pod: Pod, canonical: str) -> list[Object]:
    """Return every object of the workload, without the fields that are not set."""
    others = [*pod.parts.get("objects", ())]
    if plan.mode.revisions:
        others += knative.make_domain_mappings(plan, plan.mode.name_pods(plan.name))
    elif plan.scaling.scaler in OWN_SCALERS:
        others.append(OWN_SCALERS[plan.scaling.scaler](plan))
    others += endpoints.make_objects(plan)
    return [TOP_OBJECTS[plan.mode.kind](plan, pod, canonical), *(_place_object(obj, plan) for obj in others)]


def _check_annotation_size(objects: list[Object]) -> Iterator[Problem]:
    """Yield a problem for each object whose annotations, which include the spec, are too large for the API server."""
    for obj in objects:
        metadata = obj["metadata"]
        annotations = metadata.get("annotations") or {}
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        if size > MAX_ANNOTATION_BYTES:
            message = (
                f"the annotations of {obj['kind']} {metadata['name']}, which include the spec, have {size} bytes; "
                f"Kubernetes allows at most {MAX_ANNOTATION_BYTES}"
            )
            yield Problem("SPEC007", ("spec",), message, "move long values to a ConfigMap and refer to it")


def _place_object(obj: Object, plan: Plan) -> Object:
    """Return a feature's object in the workload's namespace, with the recommended labels, without empty fields."""
    if obj["kind"] in CLUSTER_SCOPED:
        return obj
    written = obj["metadata"]
    metadata = {
        "name": written["name"],
        "namespace": written.get("namespace", plan.namespace) or None,
        "labels": written.get("labels") or {keys.APP_NAME: plan.name, keys.APP_MANAGED_BY: "ebbtide"},
        "annotations": written.get("annotations"),
    }
    return prune_nulls({**obj, "metadata": metadata})


def _apply_patches(
    plan: Plan, objects: list[Object], problems: list[Problem], *, checks_overrides: bool
) -> list[Object]:
    """Return the objects with the spec's patches applied. A patch that matches no object is an error.

    A patch that changes what a field of the spec renders is an error too: the field would have no effect.
    """
    bare = patches.without_defaults(plan.inference)
    written: Sequence[Object] = ()
    if checks_overrides:
        written = [*objects] if not plan.adds_defaults else translate(bare, plan.profile, "{}").objects
    list_variants = cache(lambda: [(path, _render(other, plan.profile)) for path, other in patches.list_variants(bare)])
    for index, patch in enumerate(plan.spec.patches):
        path = ("spec", "patches", index)
        is_selected = partial(_is_selected, patch=patch)
        if not any(map(is_selected, objects)):
            names = sorted({f"{obj['kind']} {obj['metadata']['name']}" for obj in objects})
            message = f"{patch.kind}{' ' + patch.name if patch.name else ''} not found among the rendered objects"
            problems.append(Problem("PAT002", path, message, f"patch one of {', '.join(names)}"))
            continue
        metadata = patch.patch.get("metadata", {})
        fields = [f"metadata.{name}" for name in metadata] if isinstance(metadata, dict) else ["metadata.name"]
        if not IDENTITY.isdisjoint((*patch.patch, *fields)):
            message = "a patch cannot change an object's apiVersion, kind, name or namespace"
            fix = (
                "remove these from the patch, and set metadata.name, metadata.namespace or serving in the spec instead"
            )
            problems.append(Problem("PAT002", (*path, "patch"), message, fix))
            continue
        target = next(filter(is_selected, written), None)
        if target is not None:
            problems.extend(patches.check_overrides(plan.inference, index, target, list_variants, is_selected))
        objects = [patches.apply_patch(obj, patch.patch) if is_selected(obj) else obj for obj in objects]
        message = f"a patch changes {patch.kind}: Ebbtide neither checks nor explains what a patch sets"
        problems.append(make_warning("PAT001", path, message, "use a field of the spec instead where one exists"))
    return objects


def _is_selected(obj: Object, patch: Patch) -> bool:
    return obj["kind"] == patch.kind and patch.name in {None, obj["metadata"]["name"]}


def _render(inference: Inference, profile: Profile) -> Sequence[Object]:
    """Return the objects of a document, none if it is not valid."""
    try:
        return translate(inference, profile, "{}").objects
    except TypeError:
        # The document has no value for a required field, such as the key of an affinity; readers reject such documents.
        return ()


#: The functions of ``make_plan`` and ``make_patches`` that only read the plan, in the order of their results.
DECISIONS: Final[tuple[Callable[[Plan], Iterable[Decision]], ...]] = (
    _list_gpu_decisions,
    container.list_container_decisions,
    list_timeout_decisions,
    list_rollout_decisions,
    list_scrape_decisions,
    endpoints.list_decisions,
)
CHECKS: Final[tuple[Callable[[Plan], Iterable[Problem]], ...]] = (
    placement.check,
    *SERVING_CHECKS,
    llm.check,
    kserve.check_annotations,
    project.check,
    container.check,
    priority.check,
    _check_gpu,
    start.check,
    lora.check,
    endpoints.check,
)
FEATURES: Final[tuple[Callable[[Plan], PodPatch], ...]] = (
    container.make_resources_patch,
    container.make_environment_patch,
    container.make_account_patch,
    container.make_security_patch,
    priority.make_priority_patch,
    project.make_project_patch,
)
FEATURES_WITH_PATCHES: Final[tuple[Callable[[Plan], Iterable[PodPatch]], ...]] = (
    storage.make_storage_patches,
    placement.make_placement_patches,
    _make_gpu_patches,
    kserve.make_storage_patches,
    start.make_patches,
    lora.make_patches,
)
