"""KServe's LLMInferenceService of a workload: a language model that vLLM serves, behind the Gateway API.

KServe merges the object over its preset ``kserve-config-llm-template``, whose container ``main`` starts vLLM on port 8000,
as a strategic merge patch: containers, variables and volumes by name, and a list of arguments as a whole. Only what the
spec sets is rendered, so the preset keeps its image, its probes and its user.

Upstream: github.com/kserve/kserve v0.20.0 pkg/apis/serving/v1alpha2 (llm_inference_service_types.go, _defaults.go,
_validation.go), pkg/controller/v1alpha2/llmisvc (config_merge.go, workload_single_node.go, workload.go, scaling.go),
config/llmisvcconfig; for 0.21 the same files of aaac4e29 (2026-08-21): ``rolloutStrategy``. Its ``scaling.keda`` is not rendered,
because the API server rejects it with a behavior of the HPA: a rule reads the name of the HPA, which KServe never writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base.problems import Path, Problem, choose_serving, format_path, make_warning, remove_field, set_value
from ebbtide.core.base.versions import parse_version
from ebbtide.core.spec.rules.placement import MAX_PERCENT
from ebbtide.core.translation import lora
from ebbtide.core.translation.container import make_container, render_pod_fields, secure_containers
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.objects import Object, prune_nulls, read_field
from ebbtide.core.translation.placed_fields import split_command, write_part
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import Pod
from ebbtide.core.translation.serving.metadata import make_metadata, make_pod_annotations, make_pod_labels
from ebbtide.core.translation.serving.updates import has_strategy, make_strategy
from ebbtide.core.translation.start import find_storage_uri

if TYPE_CHECKING:
    from ebbtide.core.spec.scheduling import DeploymentStrategy

API_VERSION: Final = "serving.kserve.io/v1alpha2"
KIND: Final = SERVING_MODES["llm"].kind
#: The name of the container and its port: those of the preset and of the Service that KServe creates.
CONTAINER: Final = SERVING_MODES["llm"].container
PORT: Final = SERVING_MODES["llm"].port
MODEL: Final = ("spec", "model")
#: The start of an action in a Go template.
TEMPLATE: Final = "{{"
#: The format that vLLM loads.
FORMAT: Final = "huggingface"
#: The preset of KServe 0.17 runs vLLM itself, that of 0.19 a shell. That of 0.18 is not on Go's proxy.
SHELL_SINCE: Final = (0, 18)
#: Characters that a shell interprets. The preset passes the arguments to vLLM by ``eval``.
SHELL: Final = re.compile(r"[\s\"'`$\\|&;<>(){}*?\[\]#~!]")


def make_service(plan: Plan, pod: Pod, canonical: str) -> Object:
    """Return the LLMInferenceService, without the fields that are not set.

    Its labels and annotations are not copied to the pods, so it always stores the spec.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": make_metadata(plan, canonical),
        "spec": _make_spec(plan, pod),
    }


def _make_spec(plan: Plan, pod: Pod) -> dict[str, Any]:
    spec, fixed = plan.spec, plan.scaling.scaler == "fixed"
    model = spec.model
    assert model is not None
    replicas = plan.scaling.minimum if plan.adds_defaults else spec.autoscaling.min_replicas
    server = make_container(plan, pod, "http")
    # A container that only has its name adds nothing to the preset's.
    containers = [*([server] if len(server) > 1 else []), *secure_containers(spec.sidecars, pod)]
    template = {**render_pod_fields(plan, pod), **({"containers": containers} if containers else {})}
    return prune_nulls(
        {
            "model": {**write_part(spec, "language_model"), "uri": find_storage_uri(plan), "lora": lora.render(plan)},
            # Without it, KServe leaves the replicas to the HPA or the ScaledObject (workload.go, PreserveDeploymentReplicas).
            "replicas": replicas if fixed else None,
            "rolloutStrategy": make_strategy(spec).get("rollingUpdate"),
            "labels": make_pod_labels(plan, pod) or None,
            "annotations": make_pod_annotations(plan, pod) or None,
            "router": _make_router(plan),
            "template": template or None,
        }
    )


def _make_router(plan: Plan) -> dict[str, Any] | None:
    """Return the default gateway and a route, and the endpoint picker if the cluster has it; none for a cluster-local service."""
    if plan.spec.serving_port.cluster_local_access_only or plan.cluster.kserve.llm == "none":
        return None
    router: dict[str, Any] = {"gateway": {}, "route": {}}
    return {**router, "scheduler": {}} if plan.cluster.kserve.llm == "scheduler" else router


class RefusedField(NamedTuple):
    """A field of ``spec`` that an LLMInferenceService cannot express, the values that it accepts, the reason and the fix.

    ``{field}`` in the fix is the last name of the field.
    """

    field: str
    reason: str
    fix: str = "use serving: kserve-standard, or remove {field}"
    accepted: tuple[Any, ...] = (None,)


#: In the order of the documentation, for a spec with a model.
REFUSED: Final = (
    RefusedField(
        "model.format",
        "an LLMInferenceService runs vLLM, which loads models in Hugging Face's format",
        f"set format to {FORMAT}, or use serving: kserve-standard",
        (FORMAT,),
    ),
    RefusedField("model.formatVersion", "an LLMInferenceService has no version of the format"),
    RefusedField("model.uris", "an LLMInferenceService has one storage URI", accepted=(None, [], ())),
    RefusedField("model.storage", "an LLMInferenceService reads credentials only from its service account"),
    RefusedField("model.runtime", "an LLMInferenceService has no serving runtime"),
    RefusedField("model.runtimeVersion", "an LLMInferenceService has no serving runtime"),
    RefusedField("model.protocol", "an LLMInferenceService has the OpenAI protocol only"),
    RefusedField("transformer", "an LLMInferenceService has no transformer"),
    RefusedField("explainer", "an LLMInferenceService has no explainer"),
    RefusedField("logger", "an LLMInferenceService has no payload log"),
    RefusedField("batcher", "vLLM batches requests itself, and an LLMInferenceService has no batcher"),
    RefusedField(
        "containerName",
        f"KServe merges the server only into the container {CONTAINER}",
        "remove containerName",
        (None, CONTAINER),
    ),
    RefusedField(
        "servingPort.container",
        f"the Service of an LLMInferenceService sends requests to port {PORT}",
        f"set container to {PORT}, or remove it",
        (None, PORT),
    ),
    RefusedField("servingPort.protocol", "the route of an LLMInferenceService is for HTTP", accepted=(None, "http")),
    RefusedField(
        "servingPort.authorizationType",
        "KServe does not copy the labels of an LLMInferenceService to its route, by which a gateway would enforce access",
        "use authorizationType: public with clusterLocalAccessOnly: true, or use serving: kserve-standard",
        (None, "public"),
    ),
    RefusedField(
        "servingConfiguration.requestTimeoutSeconds", "the route of an LLMInferenceService has no request timeout"
    ),
)


def check(plan: Plan) -> Iterator[Problem]:
    """Yield what an LLMInferenceService cannot express, and arguments that its shell would change."""
    if plan.serving != "llm":
        return
    spec = plan.spec
    if spec.model is None:
        fix = f"set model with format: {FORMAT} and uri, or use serving: knative"
        yield Problem("SRV202", MODEL, "an LLMInferenceService serves a model, and the spec sets none", fix)
    elif spec.model.uri is None:
        message = "an LLMInferenceService has one storage URI, and the spec sets none"
        yield Problem("SRV202", (*MODEL, "uri"), message, "set uri, such as hf://org/model or pvc://claim/path")
    for row in REFUSED:
        names = row.field.split(".")
        refused = read_field(spec, row.field) not in row.accepted
        if refused and (spec.model is not None or names[0] != "model"):
            yield Problem("SRV202", ("spec", *names), row.reason, row.fix.replace("{field}", names[-1]))
    for name in ("readiness", "liveness", "startup"):
        probe = getattr(spec.probes, name)
        if probe is not None and probe.handler.http_get is None:
            message = "KServe merges the probe into its own, which is an HTTP request, and Kubernetes rejects a probe of two kinds"
            fix = f"use handler.httpGet, or remove {name}"
            yield Problem("SRV202", ("spec", "probes", name), message, fix)
    if plan.scaling.scaler == "fixed" and plan.scaling.minimum != plan.scaling.maximum:
        message = "without a metric, an LLMInferenceService has a fixed number of replicas"
        fix = f"set maxReplicas to {plan.scaling.minimum}, or set metric and metricThreshold"
        yield Problem(
            "SRV202", ("spec", "autoscaling", "maxReplicas"), message, fix, fixes=set_value(plan.scaling.minimum)
        )
    if has_strategy(plan):
        yield from _check_strategy(plan.spec.deployment_strategy)
    yield from _check_arguments(plan)


def _check_strategy(strategy: DeploymentStrategy | None) -> Iterator[Problem]:
    """Yield what KServe's webhook rejects, which counts a percentage of one replica.

    Upstream: KServe aaac4e29 (2026-08-21) pkg/apis/serving/v1alpha2/llm_inference_service_validation.go
    (ValidateWorkloadRolloutFields).
    """
    if strategy is None:
        return
    path, step = ("spec", "deploymentStrategy"), strategy.rolling_update
    if strategy.type == "Recreate":
        message = "an LLMInferenceService updates its Deployment in steps"
        fixes = remove_field() + choose_serving("kserve-standard")
        yield Problem("SRV202", (*path, "type"), message, "remove type, or use serving: kserve-standard", fixes=fixes)
    surge, unavailable = (None, None) if step is None else (step.max_surge, step.max_unavailable)
    if isinstance(surge, str) and int(surge.removesuffix("%")) > MAX_PERCENT:
        message = f"KServe rejects maxSurge {surge}, more than all replicas"
        yield Problem(
            "SRV202", (*path, "rollingUpdate", "maxSurge"), message, "use at most 100%", fixes=set_value("100%")
        )
    if surge in {0, "0%"} and isinstance(unavailable, str) and 0 < int(unavailable.removesuffix("%")) < MAX_PERCENT:
        message = f"KServe counts maxUnavailable {unavailable} as 0 replicas, and rejects it with maxSurge {surge}"
        where = (*path, "rollingUpdate", "maxUnavailable")
        yield Problem("SRV202", where, message, "set a number, such as 1", fixes=set_value(1))


def check_templates(objects: Iterable[Object]) -> Iterator[Problem]:
    """Reject text that KServe reads as an action of a Go template: it executes the merged object as one.

    Upstream: pkg/controller/v1alpha2/llmisvc/config_merge.go (ReplaceVariables), labels and annotations included.
    """
    for obj in objects:
        if obj["kind"] != KIND:
            continue
        path = next((path for path, text in _list_texts(obj, ()) if TEMPLATE in text), None)
        if path is not None:
            message = (
                f"KServe executes the LLMInferenceService as a Go template, and {format_path(path)} contains {TEMPLATE}"
            )
            fix = f"remove {TEMPLATE}, or mount a ConfigMap with the text and pass its path"
            yield Problem("SRV204", ("spec",), message, fix)


def _list_texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each text in an object with its path, what the spec renders before the metadata, which repeats it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key in sorted(value, key=lambda key: key == "metadata"):
            yield from _list_texts(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _list_texts(item, (*path, index))


def _check_arguments(plan: Plan) -> Iterator[Problem]:
    """Warn about arguments that the preset's shell evaluates. A command of the spec replaces the shell."""
    args = plan.spec.args
    by_shell = plan.spec.command is None and parse_version(plan.cluster.kserve.version) >= SHELL_SINCE
    if args is None or not by_shell:
        return
    try:
        words = split_command(args) or []
    except ValueError:
        return  # SRV016
    for index, word in enumerate(words):
        if SHELL.search(word):
            message = (
                f"KServe starts vLLM by a shell that evaluates the arguments a second time, which changes {word!r}"
            )
            fix = "quote it for the shell too, or set command"
            yield make_warning(
                "SRV203", ("spec", "args", index) if isinstance(args, list) else ("spec", "args"), message, fix
            )
