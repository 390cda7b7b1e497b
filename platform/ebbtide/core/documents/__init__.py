"""Conversion of one input document, in any supported format, to a validated spec with all problems at their fields."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import keys, plugins
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, make_warning, shorten_text
from ebbtide.core.readers import native
from ebbtide.core.readers.loaded import LoadedDocument, OtherObject, validate_reading
from ebbtide.core.readers.reading import Reader, Reading
from ebbtide.core.translation.endpoints import ENDPOINT_GATEWAYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from ebbtide.core.base.problems import Path
    from ebbtide.core.profile.models import Profile

#: Kinds of documents that are stored next to specs: skipped instead of rejected.
OTHERS: Final = {"Profile", "Kustomization", "List"}
# fmt: off
#: Kinds that a render produces in addition to the workload; they occur when rendered output is read back.
COMPANIONS: Final = {
    "ClusterQueue", "DaemonSet", "DomainMapping", "HorizontalPodAutoscaler", "Job", "LimitRange", "LocalModelNamespaceCache",
    "LocalQueue", "Namespace", "PersistentVolumeClaim", "PodDisruptionBudget", "PriorityClass", "Queue", "ResourceClaimTemplate",
    "ResourceFlavor", "ResourceQuota", "ScaledObject", "ServiceAccount",
    *(kind.name for gateway in ENDPOINT_GATEWAYS.values() for kind in gateway.kinds),
}
# fmt: on
_KEEP: Final = "apply it with kubectl as it is, next to the workloads that use it"
#: The way from a Deployment to a spec.
CONVERT: Final = "write its spec with ebbtide convert --to native, and use that"
_SERVICE: Final = "convert the object that creates it: the Knative Service, or the InferenceService"
_NIM: Final = "apply it with kubectl as it is: NVIDIA's NIM operator serves it; or serve its image with kind: Inference"
_CLASSIC: Final = "submit the REST body of the workload, or read all workloads of the control plane with ebbtide import --from runai URL"
_RUNAI: Final = "Ebbtide serves inference only: write a Job, a StatefulSet or a Kubeflow job instead"
#: Kinds that no spec renders, of the groups below, and what to do with them.
OTHER_KINDS: Final = {
    **dict.fromkeys(
        (
            "ServingRuntime",
            "ClusterServingRuntime",
            "ClusterStorageContainer",
            "LocalModelCache",
            "LocalModelNodeGroup",
            "InferenceGraph",
            "TrainedModel",
        ),
        _KEEP,
    ),
    **dict.fromkeys(("Configuration", "Route", "Revision"), _SERVICE),
    "LLMInferenceService": "read it from the cluster as v1alpha2: kubectl get llminferenceservices.v1alpha2.serving.kserve.io",
    "LLMInferenceServiceConfig": _KEEP,
    **dict.fromkeys(("NIMService", "NIMCache", "NIMPipeline"), _NIM),
    "InferenceWorkload": _CLASSIC,
    **dict.fromkeys(("TrainingWorkload", "InteractiveWorkload", "DistributedWorkload"), _RUNAI),
}
#: The groups of dead API versions by kind, and what to do with an object whose fields differ from those of the living one.
DEAD_FORMS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "Service": (
        ("serving.knative.dev/",),
        "write it as serving.knative.dev/v1, with the container in spec.template.spec.containers",
    ),
    "InferenceService": (
        ("serving.kubeflow.org/", "serving.kserve.io/"),
        "write it as serving.kserve.io/v1beta1, with spec.predictor instead of spec.default.predictor",
    ),
}
OTHER_GROUPS: Final = ("serving.kserve.io/", "serving.knative.dev/", "apps.nvidia.com/", "run.ai/")
UPSTREAM_GROUPS: Final = ("serving.kserve.io/", "serving.knative.dev/")
#: API groups of specs and of files that are not applied: a document of them is never an object of another kind.
SPEC_GROUPS: Final = ("ebbtide.dev/", "run.ai/", "kustomize.config.k8s.io/")
#: Kinds that can be read as specs, in the groups of upstream. In an unsupported version, they are errors too.
WORKLOAD_KINDS: Final = {"Service", "InferenceService"}


def load_document(
    data: Any,
    profile: Profile,
    *,
    name: str = "",
    line: Callable[[Path], int] | None = None,
    problems: list[Problem] | None = None,
) -> LoadedDocument:
    """Return one document, parsed and validated. ``problems`` are those of its YAML text."""
    line_of = line or (lambda path: 0)  # noqa: ARG005 - no lines known
    text_problems = list(problems or ())
    if not isinstance(data, dict):
        problem = Problem(
            "SPEC005",
            (),
            "this document is not an inference spec: it must be a mapping",
            "start with apiVersion: ebbtide.dev/v1alpha1 and kind: Inference",
        )
        text_problems = text_problems or [replace(problem, line=line_of(()), document=name)]
        return LoadedDocument(name, Reading({}), None, text_problems, line_of)
    kind = data.get("kind")
    if isinstance(kind, str) and kind in COMPANIONS and "apiVersion" in data:
        problem = _companion_warning(kind, is_rendered=_is_rendered(data) or _is_of_project(data))
    elif reader := native if native.recognize(data) else _find_rarer_reader(data):
        return validate_reading(reader.read(data, profile), name, line_of, text_problems)
    else:
        problem = _unsupported_problem(kind, data.get("apiVersion"))
    problem = replace(problem, line=line_of(problem.field), document=name)
    return LoadedDocument(name, Reading({}), None, [*text_problems, problem], line_of, _describe_other(data))


def _describe_other(data: dict[str, Any]) -> OtherObject | None:
    """Return the object in a document that is not a spec; None if it is not an object, or was rendered from a spec."""
    version, kind = data.get("apiVersion"), data.get("kind")
    if not (isinstance(version, str) and isinstance(kind, str)) or version.startswith(SPEC_GROUPS):
        return None
    if version.startswith(UPSTREAM_GROUPS) and kind in WORKLOAD_KINDS:
        return None
    if _is_rendered(data):
        return None
    return OtherObject(kind, f"{version} {kind} {get_at(data, 'metadata', 'name', default='')}".rstrip(), data)


def _is_rendered(data: dict[str, Any]) -> bool:
    return bool(get_at(data, "metadata", "labels", keys.APP_MANAGED_BY) == "ebbtide")


def _is_of_project(data: dict[str, Any]) -> bool:
    """Return whether an object has the label of a project: a rendered Namespace has only this one."""
    return get_at(data, "metadata", "labels", keys.PROJECT) is not None


def _find_rarer_reader(data: dict[str, Any]) -> Reader | ModuleType | None:
    """Return the reader of a less common input format, or None. Another package cannot replace a reader of Ebbtide.

    Raises:
        PluginError: Ebbtide does not recognize the document, and a reader of another package cannot be loaded.
    """
    from ebbtide.core.readers import rest  # noqa: PLC0415 - not on the common path

    if rest.recognize(data):
        return rest
    from ebbtide.core.adopt import live  # noqa: PLC0415 - as above

    if live.recognize(data):
        return live
    return next((reader for reader in load_added_readers() if reader.recognize(data)), None)


@cache
def load_added_readers() -> tuple[Reader, ...]:
    """Return the readers of other packages.

    Raises:
        PluginError: a reader cannot be loaded.
    """
    return tuple(part.load(Reader) for part in plugins.list_added(plugins.READERS))


def _companion_warning(kind: str, *, is_rendered: bool) -> Problem:
    if is_rendered:
        message = f"{kind} is rendered together with a workload, from its spec and the profile; it is ignored"
        fix = "use the Knative Service, InferenceService or LLMInferenceService that it belongs to"
    else:
        message = f"{kind} is not a spec, and Ebbtide did not render it; it is ignored"
        fix = "apply it with kubectl, from a separate file"
    return make_warning("IMP007", ("kind",), message, fix)


def _unsupported_problem(kind: Any, version: Any) -> Problem:
    if kind == "DistributedInferenceWorkload":
        from ebbtide.core.readers.table import DISTRIBUTED  # noqa: PLC0415 - not on the common path

        code, message, fix = DISTRIBUTED
        return Problem(code, ("kind",), message, fix)
    described = shorten_text(f"{version} {kind}") if kind or version else "a document without apiVersion and kind"
    if isinstance(version, str) and isinstance(kind, str) and version.startswith(OTHER_GROUPS) and kind in OTHER_KINDS:
        message = f"{described} is not rendered from a spec, so it cannot be converted"
        return Problem("SPEC005", ("kind",), message, OTHER_KINDS[kind])
    if (
        isinstance(kind, str)
        and kind in DEAD_FORMS
        and isinstance(version, str)
        and version.startswith(DEAD_FORMS[kind][0])
    ):
        return Problem(
            "SPEC005", ("apiVersion",), f"{described} is of an API version that no release serves", DEAD_FORMS[kind][1]
        )
    if kind == "Deployment" and isinstance(version, str) and version.startswith("apps/"):
        fix = f"if a known model server runs in it, {CONVERT}"
        return Problem("SPEC005", ("kind",), f"{described} is not a spec", fix)
    formats = (
        "kind: Inference",
        "a Run:ai REST body {name, projectId, spec}",
        *(reader.described for reader in load_added_readers() if reader.described),
        "a Knative Service",
        "or a KServe InferenceService or LLMInferenceService",
    )
    return Problem("SPEC005", ("kind",), f"{described} is not a supported input", f"use {', '.join(formats)}")
