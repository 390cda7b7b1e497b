"""The kinds of serving object, and what each means for the pods: one row per value of ``spec.serving``.

Upstream: knative.dev/serving; github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice and, for
LLMInferenceService, pkg/controller/v1alpha2/llmisvc (workload_single_node.go, workload.go).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ebbtide.core.base import keys, names
from ebbtide.core.base.problems import Path, Problem, choose_serving, remove_field
from ebbtide.core.spec.rules.serving import DEFAULT_PORT

#: URI schemes that KServe's storage initializer supports (pkg/controller/v1beta1/inferenceservice/utils/utils.go), and those
#: that the controller of LLMInferenceService supports (pkg/controller/v1alpha2/llmisvc/workload_storage.go).
SCHEMES: Final = frozenset({"gs", "s3", "pvc", "file", "http", "https", "hdfs", "webhdfs", "oci", "hf"})
LLM_SCHEMES: Final = frozenset({"hf", "s3", "pvc", "oci"})


@dataclass(frozen=True, slots=True)
class ServingMode:
    """A kind of serving object: who runs its pods, and the names that its controller gives to what it creates."""

    name: str
    #: The name in messages.
    title: str
    kind: str
    #: The default name of the serving container.
    container: str
    #: True if the pods belong to revisions of Knative, with queue-proxy and the KPA; False for a Deployment.
    revisions: bool
    #: The deployment mode of KServe that the object needs; empty if it needs no KServe.
    kserve: str
    #: True if KServe copies the labels and annotations of the object to its pods.
    copies_metadata: bool
    #: The name of the Knative Service or the Deployment of a workload, and the labels of its pods.
    name_pods: Callable[[str], str]
    label_pods: Callable[[str], dict[str, str]]
    #: The port of the container if the spec sets none.
    port: int = DEFAULT_PORT
    #: The first KServe with ``spec.deploymentStrategy`` and ``rollout.surge`` of the Deployment; None if it has no Deployment.
    strategy_since: tuple[int, ...] | None = None
    #: True for an LLMInferenceService: its own controller runs vLLM, without a serving runtime and without ``kserve.modes`` of a
    #: profile, and ``serving.llm`` has a table of the fields that it does not support.
    language_model: bool = False
    #: The schemes of ``spec.model.uri`` that KServe's storage initializer or the runtime can read.
    schemes: frozenset[str] = SCHEMES


def _label_predictor(workload: str) -> dict[str, str]:
    return {keys.KSERVE_SERVICE: workload, "component": "predictor"}


SERVING_MODES: Final = {
    mode.name: mode
    for mode in (
        ServingMode(
            "knative",
            "a Knative Service",
            "Service",
            "user-container",
            revisions=True,
            kserve="",
            copies_metadata=False,
            name_pods=str,
            label_pods=lambda workload: {keys.KNATIVE_SERVICE: workload},
        ),
        ServingMode(
            "kserve",
            "KServe in Knative mode",
            "InferenceService",
            "kserve-container",
            revisions=True,
            kserve="Knative",
            copies_metadata=True,
            name_pods=names.name_predictor,
            label_pods=_label_predictor,
        ),
        ServingMode(
            "kserve-standard",
            "KServe Standard",
            "InferenceService",
            "kserve-container",
            revisions=False,
            kserve="Standard",
            copies_metadata=True,
            name_pods=names.name_predictor,
            label_pods=_label_predictor,
            strategy_since=(0,),
        ),
        ServingMode(
            "llm",
            "an LLMInferenceService",
            "LLMInferenceService",
            "main",
            revisions=False,
            kserve="LLM",
            copies_metadata=False,
            name_pods=names.name_llm_deployment,
            port=8000,
            strategy_since=(0, 21),
            language_model=True,
            schemes=LLM_SCHEMES,
            label_pods=lambda workload: {keys.APP_NAME: workload, keys.APP_COMPONENT: keys.LLM_COMPONENT},
        ),
    )
}


def report_knative_field(code: str, path: Path, reason: str) -> Problem:
    """Return the problem of a field that needs revisions of Knative."""
    fixes = choose_serving("kserve", "knative") + remove_field()
    return Problem(code, path, reason, f"remove {path[-1]}, or use serving: kserve or knative", fixes=fixes)
