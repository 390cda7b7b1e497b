"""The mistakes of a first day: each is answered with what to write instead, and with a change that does it where one can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.core.documents import profiles
from ebbtide.core.documents.check import check_documents
from ebbtide.core.documents.fixes import find_working_fixes
from ebbtide.core.documents.texts import load_text
from ebbtide.core.manifests import read_documents
from ebbtide.core.translation.objects import with_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.core.base.problems import Problem

PROFILE = profiles.load_built_in("full")
HEAD = """apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata:
  name: chat
spec:
"""
IMAGE = f"{HEAD}  image: ghcr.io/acme/chat:1.4\n"
TEMPLATE = "this is a template: render it first, for example with helm template, and use the output"
SYNTAX = "check the quotes, the brackets and the indentation"
#: The text, the code, the path, the line and the fix of its first problem, and whether a change is offered that works.
MISTAKES: dict[str, tuple[str, str, str, int, str, bool]] = {
    "memory in bytes": (
        f"{IMAGE}  compute: {{cpuMemoryRequest: 16}}\n",
        *("CPU006", "spec.compute.cpuMemoryRequest", 7, "did you mean 16Gi?", True),
    ),
    "thousandths of bytes": (
        f"{IMAGE}  compute: {{cpuMemoryRequest: 500m}}\n",
        *("CPU006", "spec.compute.cpuMemoryRequest", 7, "did you mean 500Mi?", True),
    ),
    "GPU memory in bytes": (
        f"{IMAGE}  compute: {{gpuMemoryRequest: 10}}\n",
        *("CPU006", "spec.compute.gpuMemoryRequest", 7, "did you mean 10Gi?", True),
    ),
    "memory of no server": (
        f"{IMAGE}  compute: {{cpuMemoryLimit: 16Pi}}\n",
        *("CPU006", "spec.compute.cpuMemoryLimit", 7, "did you mean 16Gi?", True),
    ),
    "memory that no unit makes possible": (
        f'{IMAGE}  compute: {{cpuMemoryLimit: "1e18"}}\n',
        *("CPU006", "spec.compute.cpuMemoryLimit", 7, "use an amount such as 512Mi, 16Gi or 20G", False),
    ),
    "a field of the spec in a block": (
        f"{IMAGE}  compute: {{nodePool: [default]}}\n",
        *("SPEC001", "spec.compute.nodePool", 7, "set spec.nodePools instead", True),
    ),
    "a field of another block": (
        f"{IMAGE}  compute: {{minReplicas: 1}}\n",
        *("SPEC001", "spec.compute.minReplicas", 7, "move it to spec.autoscaling.minReplicas", True),
    ),
    "a server of any model without one": (
        (
            f"{HEAD}  image: vllm/vllm-openai:v0.32.0\n  args: --port 8000\n  servingPort: {{container: 8000}}\n"
            "  compute: {gpuDevicesRequest: 1}\n"
        ),
        *(
            "SRV194",
            "spec.args",
            7,
            "set the model in args (--model, or --model-path of SGLang, --model-id of TGI), or model.uri",
            False,
        ),
    ),
    "a model format with a typing error": (
        f'{HEAD}  model: {{format: sklern, uri: "s3://models/a"}}\n',
        *("SRV208", "spec.model.format", 6, "set format to sklearn, or name one of the cluster in runtime", True),
    ),
    "an option with its value": (
        f'{IMAGE}  args: ["--model Qwen/Qwen3-0.6B"]\n',
        *("SRV072", "spec.args[0]", 7, "write two items: --model and Qwen/Qwen3-0.6B", True),
    ),
    "NUL in args": (f'{IMAGE}  args: "a\\0b"\n', "SRV071", "spec.args", 7, "remove the character", False),
    "NUL in an item": (f'{IMAGE}  command: [a, "b\\0"]\n', "SRV071", "spec.command", 7, "remove the character", False),
    "NUL in a variable": (
        f'{IMAGE}  environmentVariables: [{{name: A, value: "\\0"}}]\n',
        *("SRV071", "spec.environmentVariables[0]", 7, "remove the character", False),
    ),
    "a tab": (f"{IMAGE}  compute:\n\tcpuCoreRequest: 1\n", "YML001", "", 8, SYNTAX, False),
    "too deep": (
        f"{IMAGE}  compute:\n    cpuCoreRequest: 1\n     cpuMemoryRequest: 1Gi\n",
        *("YML001", "", 9, SYNTAX, False),
    ),
    "between two": (
        f"{IMAGE}  compute:\n    cpuCoreRequest: 1\n   cpuMemoryRequest: 1Gi\n",
        *("YML001", "", 9, SYNTAX, False),
    ),
    "too deep below a value": (
        f"{IMAGE}   compute: {{cpuCoreRequest: 1}}\n",
        *("YML001", "", 7, SYNTAX, False),
    ),
    "a colon in a value": (
        f"{IMAGE}  args: --a: b: c\n",
        *("YML001", "", 7, SYNTAX, False),
    ),
    "brackets that stay open": (
        f"{IMAGE}  args: [a, b\n  command: c\n",
        *("YML001", "", 8, SYNTAX, False),
    ),
    "an item in an open bracket": (
        f"{IMAGE}  args: [a,\n       b\n  command: c\n",
        *("YML001", "", 9, SYNTAX, False),
    ),
    "a text that is not closed": (
        f"{IMAGE}  # a comment\n  args:\n  - a\n  - @b\n",
        *("YML001", "", 10, SYNTAX, False),
    ),
    "a value of Helm": (IMAGE.replace("chat\n", "{{ .Values.name }}\n", 1), "YML001", "", 4, TEMPLATE, False),
    "a block of Helm": (
        f"{IMAGE}{{{{- if .Values.x }}}}\n  args: [a]\n{{{{- end }}}}\n",
        "YML001",
        "",
        7,
        TEMPLATE,
        False,
    ),
    "a block of Jinja": (f"{IMAGE}{{% if x %}}\n  args: [a]\n{{% endif %}}\n", "YML001", "", 7, TEMPLATE, False),
    "a quoted value of Helm": (
        f'{HEAD}  image: "{{{{ .Values.image }}}}"\n',
        *("SRV021", "spec.image", 6, TEMPLATE, False),
    ),
    "a variable of envsubst": (f"{HEAD}  image: ${{IMAGE}}\n", "SRV021", "spec.image", 6, TEMPLATE, False),
    "thousandths of cores": (
        f"{IMAGE}  compute: {{cpuCoreRequest: 500m}}\n",
        *("SPEC002", "spec.compute.cpuCoreRequest", 7, "write 0.5", True),
    ),
    "cores of no server": (
        f"{IMAGE}  compute: {{cpuCoreRequest: 5000}}\n",
        *("CPU006", "spec.compute.cpuCoreRequest", 7, "did you mean 5?", True),
    ),
    "half a device": (
        f"{IMAGE}  compute:\n    gpuDevicesRequest: 0.5\n",
        *("SPEC002", "spec.compute.gpuDevicesRequest", 8),
        *("for a fraction of a GPU, set gpuPortionRequest: 0.5 instead", True),
    ),
    "one device and a half": (
        f"{IMAGE}  compute: {{gpuDevicesRequest: 1.5}}\n",
        *("SPEC002", "spec.compute.gpuDevicesRequest", 7, "write a whole number", False),
    ),
    "a port": (f"{IMAGE}  servingPort: 8000\n", "SPEC002", "spec.servingPort", 7, "write {container: 8000}", True),
    "the name of a model": (
        f"{HEAD}  model: Qwen/Qwen3-0.6B\n",
        *("SPEC002", "spec.model", 6, "write {format: huggingface, uri: hf://Qwen/Qwen3-0.6B}", True),
    ),
    "the URI of a model": (
        f"{HEAD}  model: s3://models/one\n",
        *("SPEC002", "spec.model", 6, "write {uri: s3://models/one}", False),
    ),
    "minutes": (
        f"{IMAGE}  servingConfiguration: {{requestTimeoutSeconds: 10m}}\n",
        *("SPEC002", "spec.servingConfiguration.requestTimeoutSeconds", 7, "write 600", True),
    ),
    "an hour and a half": (
        f"{IMAGE}  servingConfiguration: {{initializationTimeoutSeconds: 1h30m}}\n",
        *("SPEC002", "spec.servingConfiguration.initializationTimeoutSeconds", 7, "write 5400", True),
    ),
    "a block next to spec": (
        f"{IMAGE}autoscaling:\n  minReplicas: 1\n  maxReplicas: 1\n",
        *("SPEC001", "autoscaling", 7, "move it to spec.autoscaling", True),
    ),
    "a field of a block": (
        f"{IMAGE}  cpuCoreRequest: 1\n",
        *("SPEC001", "spec.cpuCoreRequest", 7, "move it to spec.compute.cpuCoreRequest", True),
    ),
    "yes": (
        f"{IMAGE}  compute:\n    largeShmRequest: yes\n",
        *("YML002", "spec.compute.largeShmRequest", 8, "write true", True),
    ),
    "yes in a text": (f"{IMAGE}  command: yes\n", "YML002", "spec.command", 7, 'quote it: "yes"', True),
    "a huge port": (
        f"{IMAGE}  servingPort:\n    container: 99999999999999999999999999\n",
        *("YML006", "spec.servingPort.container", 8, "use at most 65535", True),
    ),
    "a mapping in args": (
        f"{IMAGE}  args: [--model: Qwen]\n",
        *("SPEC002", "spec.args[0]", 7, 'quote it: "--model: Qwen"', True),
    ),
    "a list with a mapping": (
        f"{IMAGE}  args:\n  - --model: Qwen\n",
        *("SPEC002", "spec.args[0]", 8, 'quote it: "--model: Qwen"', True),
    ),
    "a name in spec": (
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nspec:\n  name: chat\n  image: nginx:1\n",
        *("SPEC003", "metadata", 1, "set metadata.name: chat", False),
    ),
    "variables as a mapping": (
        f"{IMAGE}  environmentVariables: {{A: b}}\n",
        *("SPEC002", "spec.environmentVariables", 7, "write [{name: A, value: b}]", True),
    ),
    "a word for a list": (f"{IMAGE}  nodePools: default\n", "SPEC002", "spec.nodePools", 7, "write [default]", True),
    "a word for a secret": (
        f"{IMAGE}  imagePullSecrets: [regcred]\n",
        *("SPEC002", "spec.imagePullSecrets[0]", 7, "write {name: regcred}", True),
    ),
    "containers of a pod": (
        f"{IMAGE}  containers: [{{name: chat, image: nginx:1}}]\n",
        *("SPEC001", "spec.containers", 7),
        *("set image to that of the serving container, and write other containers in sidecars", False),
    ),
    "a template of pods": (
        f"{IMAGE}  template: {{spec: {{}}}}\n",
        *("SPEC001", "spec.template", 7),
        "write the fields of its container and of its pod directly in spec, such as image and tolerations",
        False,
    ),
    "the name of a claim": (
        f"{IMAGE}  storage: {{pvc: my-claim}}\n",
        *("SPEC002", "spec.storage.pvc", 7),
        *("write [{claimName: my-claim, existingPvc: true, path: /models}]", True),
    ),
    "a list of claims": (
        f"{IMAGE}  storage: {{pvc: [my-claim]}}\n",
        *("SPEC002", "spec.storage.pvc[0]", 7),
        *("write {claimName: my-claim, existingPvc: true, path: /models}", True),
    ),
    "a probe of a pod": (
        f"{IMAGE}  readinessProbe: {{httpGet: {{path: /health}}}}\n",
        *("SPEC001", "spec.readinessProbe", 7, "set spec.probes.readiness.handler instead", True),
    ),
    "GPUs by their resource": (
        f"{IMAGE}  compute: {{nvidia.com/gpu: 1}}\n",
        *("SPEC001", "spec.compute.nvidia.com/gpu", 7, "did you mean gpuDevicesRequest?", True),
    ),
    "gigabytes": (
        f"{IMAGE}  compute: {{cpuMemoryRequest: 24GB}}\n",
        *("SPEC004", "spec.compute.cpuMemoryRequest", 7, "write 24G", True),
    ),
    "an amount with a space": (
        f"{IMAGE}  compute: {{cpuMemoryRequest: 64 Gi}}\n",
        *("SPEC004", "spec.compute.cpuMemoryRequest", 7, "write 64Gi", True),
    ),
}


def check(text: str) -> list[Problem]:
    return check_documents(list(load_text(text.encode(), "spec.yaml", PROFILE)), PROFILE)


def apply_fix(text: str, problem: Problem, problems: Sequence[Problem]) -> str | None:
    """Return the text after the best fix of a problem that works; None if none does."""
    data: Any = next(iter(read_documents(text, "spec.yaml"))).data
    return next((fix.text for fix in find_working_fixes(text, data, problem, problems, check)), None)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_fix(mistake: str) -> None:
    text, code, path, line, fix, changes = MISTAKES[mistake]

    problems = check(text)

    first = problems[0]
    assert (first.code, first.path, first.line, first.fix) == (code, path, line, fix)
    assert (apply_fix(text, first, problems) is not None) == changes


def test_a_list_with_a_mapping_has_one_problem() -> None:
    assert len(check(MISTAKES["a list with a mapping"][0])) == 1


def test_the_name_in_spec_moves_to_the_metadata() -> None:
    text = MISTAKES["a name in spec"][0]
    problems = check(text)

    fixed = apply_fix(text, problems[1], problems)

    assert fixed is not None
    assert "name: chat" in fixed
    assert not [problem for problem in check(fixed) if problem.severity == "error"]


@pytest.mark.parametrize(
    ("text", "path", "fix"),
    [
        (
            "probes: {liveness: {httpGet: {path: /health}}}",
            "spec.probes.liveness.httpGet",
            "move it to spec.probes.liveness.handler.httpGet",
        ),
        (
            "environmentVariables: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
            "spec.environmentVariables[0].valueFrom",
            "set secret: {name, key} or configMap: {name, key} instead",
        ),
    ],
)
def test_a_field_of_a_pod_inside_a_block_has_its_own_fix(text: str, path: str, fix: str) -> None:
    errors = [problem for problem in check(f"{IMAGE}  {text}\n") if problem.severity == "error"]
    assert [(problem.path, problem.fix) for problem in errors] == [(path, fix)]


@pytest.mark.parametrize(
    "args", ["--model=a/b", "--port 8000 --model a/b", "--port 8000 a/b", "a/b", "--config=/etc/vllm.yaml --port=8000"]
)
def test_a_model_in_the_arguments_is_found(args: str) -> None:
    spec = f"{HEAD}  image: vllm/vllm-openai:v0.32.0\n  args: {args}\n  servingPort: {{container: 8000}}\n"
    assert "SRV194" not in [
        problem.code for problem in check_documents([*load_text(spec.encode(), "a", PROFILE)], PROFILE)
    ]


SHIPPED = ["kserve-sklearnserver", "kserve-huggingfaceserver"]


@pytest.mark.parametrize(
    ("format_name", "runtime", "runtimes", "fixes"),
    [
        ("vllm", None, [], ["vLLM"]),
        ("SKLearn", None, [], ["sklearn"]),
        ("vLLM", None, [], None),
        ("openvino", None, [], None),
        # The cluster's runtimes are known.
        ("sklearn", None, SHIPPED, None),
        ("onnx", None, SHIPPED, ["huggingface", "sklearn"]),
        # Nothing says which formats these support.
        ("sklern", None, [*SHIPPED, "of-a-team"], None),
        ("sklern", "of-a-team", ["of-a-team"], None),
        # KServe selects by the format only without a runtime.
        ("onnx", "kserve-sklearnserver", SHIPPED, ["sklearn"]),
        ("onnx", "kserve-sklearnserver", [], ["sklearn"]),
        ("xgboost", "kserve-mlserver", [], None),
    ],
)
def test_a_format_that_no_known_runtime_supports_is_named(
    format_name: str, runtime: str | None, runtimes: list[str], fixes: list[str] | None
) -> None:
    text = f'{HEAD}  model: {{format: {format_name}, uri: "s3://a/b"}}\n'
    if runtime is not None:
        text = text.replace("format:", f"runtime: {runtime}, format:")
    kserve = with_values(PROFILE.spec.kserve, runtimes=runtimes)
    profile = with_values(PROFILE, spec=with_values(PROFILE.spec, kserve=kserve))

    problems = check_documents([*load_text(text.encode(), "a", profile)], profile)

    found = [[fix.changes[0].value for fix in problem.fixes] for problem in problems if problem.code == "SRV208"]
    assert found == ([] if fixes is None else [fixes])


def test_model_mesh_has_other_runtimes() -> None:
    annotated = HEAD.replace("name: chat", "name: chat\n  annotations: {serving.kserve.io/deploymentMode: ModelMesh}")
    text = f'{annotated}  model: {{format: keras, uri: "s3://a/b"}}\n'
    assert "SRV208" not in [problem.code for problem in check(text)]
