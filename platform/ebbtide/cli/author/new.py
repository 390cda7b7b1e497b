"""``ebbtide new NAME``: write a first spec from flags."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ebbtide.cli.base import common, terminal
from ebbtide.cli.base.files import replace_file
from ebbtide.cli.base.options import Options, make_option, make_profile_option
from ebbtide.cli.base.usage import format_suggestion
from ebbtide.core import manifests
from ebbtide.core.base.problems import Problem, select_errors
from ebbtide.core.base.quantities import parse_whole_quantity
from ebbtide.core.documents import profiles
from ebbtide.core.translation.engines import find_engine, read_flag, read_port

if TYPE_CHECKING:
    from ebbtide.core.documents.model_specs import ModelRequest, ModelSpec
    from ebbtide.core.profile.models import Profile

#: A number of GPUs, or a part of one.
NUMBER: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", re.ASCII)
GPU: Final = "GPUs, as in 1, a fraction of one, as in 0.25, or memory of one, as in 20Gi"
#: The file of `ebbtide schema` that editors read, if it is next to the spec. Upstream: redhat-developer/yaml-language-server.
SCHEMA: Final = "spec.schema.json"
#: The fields of ``compute`` that request a part of a GPU.
SHARES: Final = frozenset({"gpuPortionRequest", "gpuMemoryRequest"})
OPTIONS: Final = (
    make_option("name", nargs="?", metavar="NAME", help="Name of the service"),
    make_option("-i", "--image", metavar="IMAGE", help="Container image"),
    make_option("--args", metavar="TEXT", help="Arguments of the container: --args='--model M --port 8000'"),
    make_option("-p", "--project", metavar="P", help="Project"),
    make_option("--port", metavar="N", help="Port of the server (default: 8080)"),
    make_option(
        "-g",
        "--gpu",
        metavar="GPUS",
        help=f"{GPU}; with --model a node pool of the profile or a GPU model, as in h100 (default: the least that fits)",
    ),
    make_option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Language model, as in llama-3.1-8b: sets image, arguments, GPUs, memory, probes and timeouts; ? lists the models",
    ),
    make_option("--context", metavar="TOKENS", help="With --model: tokens of the longest request (default: 8192)"),
    make_option("--min", metavar="N", help="Minimum number of replicas; 0 enables scale to zero"),
    make_option("--max", metavar="N", help="Maximum number of replicas"),
    make_option("--metric", metavar="METRIC", help="Scaling metric, as in concurrency or throughput"),
    make_option("--threshold", metavar="NUMBER", help="Scaling threshold per replica"),
    make_profile_option("full"),
    make_option("-o", "--output", metavar="FILE", help="File to write (default: NAME.yaml); - writes to stdout"),
)


def run(options: Options) -> int:
    """Write the spec unless it has errors or the file exists."""
    if options.model == "?":
        from ebbtide.core.translation.model_catalog import MODELS

        sys.stdout.writelines(f"{row.name:18} {row.repository}\n" for row in MODELS.values())
        return 0
    named = common.find_named_profile(options.profile)
    checked = (
        common.read_profile(named) if named and (options.model or options.profile) else profiles.load_built_in("full")
    )
    if options.model or options.context:
        _apply_model(options, checked if named else None)
    if not (options.name and options.image):
        _exit_with_usage("set NAME and --image, as in ebbtide new chat --image vllm/vllm-openai:v0.32.0")
    if not options.model:
        _apply_engine(options)
    file = options.output or f"{options.name}.yaml"
    document = make_document(options)
    text = manifests.write_document(document)
    if errors := check_text(text, file, checked):
        common.print_problems(errors)
        return 1
    if (Path(file).parent / SCHEMA).is_file():
        text = f"# yaml-language-server: $schema={SCHEMA}\n{text}"
    if file == common.STDIN:
        sys.stdout.write(text)
        return 0
    if Path(file).exists():
        _exit_with_usage(f"{file} exists: choose another file with -o")
    try:
        replace_file(file, text.encode())
    except OSError as error:
        _exit_with_usage(f"cannot write {file}: {(error.strerror or 'unknown error').lower()}")
    # The built-in profile has whole GPUs only.
    has_share = not SHARES.isdisjoint(document["spec"].get("compute", {})) and not named
    used = options.profile or ("full" if has_share else "")
    profile = f"--profile {shlex.quote(used)} " if used else ""
    sys.stderr.write(f"Wrote {file}. Next: ebbtide check {profile}{file}, then ebbtide apply {file}\n")
    return 0


def _apply_model(options: Options, profile: Profile | None) -> None:
    """Set what a model of the catalog needs, and print the calculation; exit if there is no proposal."""
    from ebbtide.core.documents import model_specs
    from ebbtide.core.translation import model_catalog as catalog

    if options.model is None:
        _exit_with_usage("--context needs --model")
    model = catalog.find_model(options.model)
    if model is None:
        _exit_with_usage(f"model {options.model} not found: use one of {', '.join(catalog.MODELS)}")
    if options.image or options.args:
        _exit_with_usage("--model sets the image and its arguments: remove --image and --args")
    context, requests = _to_number(options.context or str(catalog.CONTEXT)), _to_number(options.threshold or "8")
    if not isinstance(context, int) or not 0 < context <= model.context:
        _exit_with_usage(f"invalid --context {options.context}: must be a whole number from 1 to {model.context}")
    if not isinstance(requests, int) or requests < 1:
        _exit_with_usage(f"invalid --threshold {options.threshold}: must be a whole number of at least 1 with --model")
    port = _to_number(options.port or str(catalog.PORT))
    ask = model_specs.ModelRequest(model, context, requests, port, options.min == "0", options.project)
    proposed = _propose(ask, options.gpu, profile)
    if not proposed.fields:
        terminal.exit_with_message(
            f"{proposed.calculation}\nerror: {proposed.outcome}\n  fix: use other GPUs or a smaller model, --context or --threshold",
            1,
        )
    sys.stderr.write(f"{proposed.calculation}\nProposal: {proposed.outcome}. Facts as of {catalog.DATED}.\n")
    options.name = options.name or model_specs.name_workload(model)
    options.model_fields, options.image, options.port = (
        proposed.fields,
        catalog.IMAGE,
        options.port or str(catalog.PORT),
    )


def _propose(ask: ModelRequest, gpu: str | None, profile: Profile | None) -> ModelSpec:
    """Return the proposal on a node pool of the profile, or on a GPU model of any cluster without one; exit for other GPUs."""
    from ebbtide.core.documents import model_specs
    from ebbtide.core.translation import model_catalog as catalog

    found = catalog.find_gpu(gpu or "")
    if profile is None:
        if found is None:
            names = [name for name, _, _ in catalog.GPUS]
            _exit_with_usage(
                f"--model needs --profile, or a GPU model in --gpu: use one of {', '.join(names)}, or the label "
                f"nvidia.com/gpu.product{format_suggestion(gpu or '', names)}"
            )
        return model_specs.make_model_spec(ask, found)
    proposals = model_specs.propose_model(ask, profile)
    if gpu is not None:
        products = {pool.name: catalog.find_gpu(pool.product or "") for pool in profile.spec.node_pools}
        able = {name: row for name, row in proposals.items() if gpu == name or (found and found == products[name])}
        if proposals and not able:
            pools = ", ".join(f"{name} ({(products[name] or ('other GPU',))[0]})" for name in proposals)
            _exit_with_usage(f"no node pool of the profile is {gpu} or has {gpu}: use one of {pools}")
        proposals = able
    return model_specs.choose_proposal(proposals)


def _apply_engine(options: Options) -> None:
    """Set the port, and for a part of a GPU the memory limit, of a server that the image names; ``check`` warns without."""
    engine = find_engine(options.image)
    try:
        words = shlex.split(options.args or "")
    except ValueError:
        return
    if engine is None:
        return
    # Knative sets PORT to the serving port.
    default = None if "PORT" in engine.variables else engine.port
    port = read_port(words, *engine.flags) or default
    if not options.port and port is not None:
        options.port = str(port)
    share = _to_number(options.gpu)
    if engine.memory_flag and isinstance(share, float) and read_flag(words, engine.memory_flag) is None:
        options.args = f"{options.args or ''} {engine.write_memory_argument(share)}".strip()


def _exit_with_usage(text: str) -> NoReturn:
    terminal.exit_with_usage_error(text, "new")


def make_document(options: Options) -> dict[str, Any]:
    """Return the spec as a document. A value that is not a number stays text, so that the check reports it."""
    model_fields: dict[str, Any] = getattr(options, "model_fields", {})
    spec: dict[str, Any] = {"project": options.project, "image": options.image, "args": options.args, **model_fields}
    if options.port:
        spec["servingPort"] = {"container": _to_number(options.port)}
    if options.gpu and not model_fields:
        spec["compute"] = make_gpu_request(options.gpu)
    scaling = {
        "minReplicas": _to_number(options.min),
        "maxReplicas": _to_number(options.max),
        "metric": options.metric,
        "metricThreshold": _to_number(options.threshold),
    }
    set_fields = {name: value for name, value in scaling.items() if value not in {None, ""}}
    if autoscaling := {**model_fields.get("autoscaling", {}), **set_fields}:
        spec["autoscaling"] = autoscaling
    return {
        "apiVersion": "ebbtide.dev/v1alpha1",
        "kind": "Inference",
        "metadata": {"name": options.name},
        "spec": {name: value for name, value in spec.items() if value},
    }


def make_gpu_request(text: str) -> dict[str, Any]:
    """Return ``compute`` for whole GPUs, a fraction, or an amount of memory; exit for other texts."""
    number = _to_number(text)
    if isinstance(number, str):
        if parse_whole_quantity(text) is None:
            from ebbtide.core.translation.model_catalog import GPUS

            names = [name for name, _, _ in GPUS]
            needs = f"; GPU model {text} needs --model" if text.lower() in names else format_suggestion(text, names)
            _exit_with_usage(f"invalid --gpu {text}: must be {GPU}{needs}")
        return {"gpuRequestType": "memory", "gpuMemoryRequest": text}
    return {"gpuDevicesRequest": number} if isinstance(number, int) else {"gpuPortionRequest": number}


def _to_number(text: str | None) -> int | float | str | None:
    if text is None or NUMBER.fullmatch(text) is None:
        return text
    return float(text) if "." in text else int(text)


def check_text(text: str, name: str, profile: Profile) -> list[Problem]:
    """Return the errors of a spec on a cluster. ``check`` has the warnings."""
    from ebbtide.core.documents.check import check_documents

    documents = [*common.load_documents([common.Source(name, text.encode())], profile)]
    return select_errors(check_documents(documents, profile))
