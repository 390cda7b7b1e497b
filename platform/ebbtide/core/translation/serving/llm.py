"""KServe's LLMInferenceService of a workload: a language model that vLLM serves, behind the Gateway API.

KServe merges the object over its preset ``kserve-config-llm-template``, whose container ``main`` starts vLLM on port 8000,
as a strategic merge patch: containers, variables and volumes by name, and a list of arguments as a whole. Only what the
spec sets is rendered, so the preset keeps its image, its probes and its user.

Upstream: github.com/kserve/kserve v0.20.0 pkg/apis/serving/v1alpha2 (llm_inference_service_types.go, _defaults.go,
_validation.go), pkg/controller/v1alpha2/llmisvc (config_merge.go, workload_single_node.go, workload.go, scaling.go),
config/llmisvcconfig.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base.problems import Path, Problem, format_path, make_warning, set_value
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.container import make_container, render_pod_fields, secure_containers, split_command
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.objects import Object, prune_nulls
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import Pod
from ebbtide.core.translation.serving.metadata import make_metadata, make_pod_annotations, make_pod_labels
from ebbtide.core.translation.start import find_storage_uri

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec

API_VERSION: Final = "serving.kserve.io/v1alpha2"
KIND: Final = SERVING_MODES["llm"].kind
#: The name of the container and its port: those of the preset and of the Service that KServe creates.
CONTAINER: Final = SERVING_MODES["llm"].container
PORT: Final = SERVING_MODES["llm"].port
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
            "model": {"uri": find_storage_uri(plan), "name": model.name},
            # Without it, KServe leaves the replicas to the HPA or the ScaledObject (workload.go, PreserveDeploymentReplicas).
            "replicas": replicas if fixed else None,
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
    """A field that an LLMInferenceService cannot express: whether a spec sets it, the reason and the fix."""

    path: tuple[str, ...]
    is_set: Callable[[InferenceSpec], Any]
    reason: str
    fix: str


def _reads(*names: str) -> Callable[[InferenceSpec], Any]:
    """Return a function that reads an attribute of an attribute of a spec; None if one is missing."""

    def read(spec: InferenceSpec) -> Any:
        value: Any = spec
        for name in names:
            value = getattr(value, name, None)
        return value

    return read


def _has_other_handler(name: str) -> Callable[[InferenceSpec], Any]:
    """Return a function that returns whether a probe of a spec is not an HTTP request."""

    def read(spec: InferenceSpec) -> bool:
        probe = getattr(spec.probes, name)
        return probe is not None and probe.handler.http_get is None

    return read


_STANDARD: Final = "use serving: kserve-standard, or remove {field}"
#: In the order of the documentation. ``{field}`` in a fix is the last name of the path.
REFUSED: Final = (
    RefusedField(
        ("spec", "model"),
        lambda spec: spec.model is None,
        "an LLMInferenceService serves a model, and the spec sets none",
        f"set model with format: {FORMAT} and uri, or use serving: knative",
    ),
    RefusedField(
        ("spec", "model", "format"),
        lambda spec: spec.model is not None and spec.model.format != FORMAT,
        "an LLMInferenceService runs vLLM, which loads models in Hugging Face's format",
        f"set format to {FORMAT}, or use serving: kserve-standard",
    ),
    RefusedField(
        ("spec", "model", "uri"),
        lambda spec: spec.model is not None and spec.model.uri is None,
        "an LLMInferenceService has one storage URI, and the spec sets none",
        "set uri, such as hf://org/model or pvc://claim/path",
    ),
    *(
        RefusedField(("spec", "model", field), _reads("model", attribute), reason, _STANDARD)
        for field, attribute, reason in (
            ("formatVersion", "format_version", "an LLMInferenceService has no version of the format"),
            ("uris", "uris", "an LLMInferenceService has one storage URI"),
            ("storage", "storage", "an LLMInferenceService reads credentials only from its service account"),
            ("runtime", "runtime", "an LLMInferenceService has no serving runtime"),
            ("runtimeVersion", "runtime_version", "an LLMInferenceService has no serving runtime"),
            ("protocol", "protocol", "an LLMInferenceService has the OpenAI protocol only"),
        )
    ),
    *(
        RefusedField(("spec", field), _reads(field), reason, _STANDARD)
        for field, reason in (
            ("transformer", "an LLMInferenceService has no transformer"),
            ("explainer", "an LLMInferenceService has no explainer"),
            ("logger", "an LLMInferenceService has no payload log"),
            ("batcher", "vLLM batches requests itself, and an LLMInferenceService has no batcher"),
        )
    ),
    RefusedField(
        ("spec", "containerName"),
        lambda spec: spec.container_name not in {None, CONTAINER},
        f"KServe merges the server only into the container {CONTAINER}",
        "remove containerName",
    ),
    RefusedField(
        ("spec", "servingPort", "container"),
        lambda spec: spec.serving_port.container not in {None, PORT},
        f"the Service of an LLMInferenceService sends requests to port {PORT}",
        f"set container to {PORT}, or remove it",
    ),
    RefusedField(
        ("spec", "servingPort", "protocol"),
        lambda spec: spec.serving_port.protocol == "grpc",
        "the route of an LLMInferenceService is for HTTP",
        _STANDARD,
    ),
    RefusedField(
        ("spec", "servingPort", "authorizationType"),
        lambda spec: spec.serving_port.authorization_type not in {None, "public"},
        "KServe does not copy the labels of an LLMInferenceService to its route, by which a gateway would enforce access",
        "use authorizationType: public with clusterLocalAccessOnly: true, or use serving: kserve-standard",
    ),
    RefusedField(
        ("spec", "servingConfiguration", "requestTimeoutSeconds"),
        lambda spec: spec.serving_configuration.request_timeout_seconds is not None,
        "the route of an LLMInferenceService has no request timeout",
        _STANDARD,
    ),
    RefusedField(
        ("spec", "rollout", "surge"),
        lambda spec: spec.rollout.surge is not None,
        "an LLMInferenceService has no field for the update strategy of its Deployment",
        _STANDARD,
    ),
    *(
        RefusedField(
            ("spec", "probes", field),
            _has_other_handler(field),
            "KServe merges the probe into its own, which is an HTTP request, and Kubernetes rejects a probe of two kinds",
            "use handler.httpGet, or remove {field}",
        )
        for field in ("readiness", "liveness", "startup")
    ),
)


def check(plan: Plan) -> Iterator[Problem]:
    """Yield what an LLMInferenceService cannot express, and arguments that its shell would change."""
    if plan.serving != "llm":
        return
    for row in REFUSED:
        if row.is_set(plan.spec):
            yield Problem("SRV202", row.path, row.reason, row.fix.replace("{field}", row.path[-1]))
    if plan.scaling.scaler == "fixed" and plan.scaling.minimum != plan.scaling.maximum:
        yield Problem(
            "SRV202",
            ("spec", "autoscaling", "maxReplicas"),
            "without a metric, an LLMInferenceService has a fixed number of replicas",
            f"set maxReplicas to {plan.scaling.minimum}, or set metric and metricThreshold",
            fixes=set_value(plan.scaling.minimum),
        )
    yield from _check_arguments(plan)


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
            yield make_warning(
                "SRV203",
                ("spec", "args", index) if isinstance(args, list) else ("spec", "args"),
                f"KServe starts vLLM by a shell that evaluates the arguments a second time, which changes {word!r}",
                "quote it for the shell too, or set command",
            )
