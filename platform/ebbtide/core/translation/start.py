"""The choices of the ``start`` block: one row of ``CHOICES`` for each, which the checks, the pod and the reference iterate.

Upstream: github.com/kserve/kserve v0.20.0 python/storage-initializer (the image that downloads a storage URI),
pkg/webhook/admission/pod/storage_initializer_injector.go (the mount of pvc://claim/path), pkg/apis/serving/v1alpha1
(GetStorageKey); k8s.io/kubernetes pkg/kubelet/kubelet_pods.go (makeMounts creates a missing subPath, so a container must not
start before the directory exists); k8s.io/api batch/v1 (the template of a Job is immutable, and a Job can start a pod twice).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base import keys, names, quantities
from ebbtide.core.base.names import COMPILED_PATH, WEIGHTS_PATH
from ebbtide.core.base.problems import Path, Problem, make_warning, offer_values, remove_field
from ebbtide.core.base.versions import parse_version
from ebbtide.core.spec.rules.compute import invalid_amount
from ebbtide.core.translation import container, placement
from ebbtide.core.translation.engines import ENGINES, LLM_ENGINE, Engine, find_engine, read_flag
from ebbtide.core.translation.loaded_model import HUB, find_model_name
from ebbtide.core.translation.objects import Object, make_claim, make_object, read_field
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import PodPatch, merge_patches
from ebbtide.core.translation.serving.models import mounts_images, report_image_volumes

if TYPE_CHECKING:
    from ebbtide.core.spec.start import CompilationCache, ModelCache, SharedClaim, Streaming, Weights

START: Final[Path] = ("spec", "start")
WEIGHTS: Final[Path] = (*START, "weights")
STREAMING: Final[Path] = (*START, "streaming")
PRE_PULL: Final[Path] = (*START, "prePullImage")
COMPILED: Final[Path] = (*START, "compilationCache")
LOAD_FORMAT: Final = "--load-format"
CACHE: Final[Path] = (*START, "modelCache")
#: The first KServe with a cache of a namespace; that of 0.17 has only the one of the cluster (pkg/apis/serving/v1alpha1).
NAMESPACE_CACHE_SINCE: Final = (0, 19)
#: Schemes that name a claim or an image: such weights are not downloaded.
NOT_DOWNLOADED: Final = frozenset({"pvc", "oci", "oci+native", "file"})
#: Variables that select files of the URI (kserve python/storage, _parse_patterns_from_env).
PATTERN_VARIABLES: Final = ("STORAGE_ALLOW_PATTERNS", "STORAGE_IGNORE_PATTERNS")
#: Prefixes of the variables that the download reads: tokens, keys, endpoints and proxies of the stores, and the patterns.
STORE_VARIABLES: Final = (
    *("HF_TOKEN", "HF_ENDPOINT", "AWS_", "S3_", "AZURE_", "AZ_", "GOOGLE_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *PATTERN_VARIABLES,
)
CLAIM_PATH: Final = "/claim"
#: Group of the user 1000 of the storage initializer's image, as KServe's own download jobs have it.
DOWNLOAD_GROUP: Final = 1000
#: Failed pods of a Job before it fails, each of which keeps its log.
DOWNLOAD_RETRIES: Final = 3
#: Fill the directory $KEY of the claim. Other pods see it only when it is complete, because it is renamed last. The lock keeps
#: parallel pods from downloading the same weights; a volume without locks costs time, not correctness. On a full volume, the file of
#: the reason is empty, and still ends the wait of the replicas.
FILL: Final = """\
set -eu
cd /claim
part=".$KEY.$HOSTNAME"
exec 9>".$KEY.lock"
if flock 9; then rm -rf ".$KEY".*.part; else echo "this volume has no locks: another pod may download the same weights"; fi
if [ -d "$KEY" ]; then echo "the weights are complete"; exit 0; fi
rm -f ".$KEY.error"
status=0
/storage-initializer/scripts/initializer-entrypoint "$URI" "/claim/$part.part" || status=$?
if [ "$status" -eq 0 ] && [ -n "$(ls -A "$part.part")" ]; then
  sync -f "$part.part"
  mv -T "$part.part" "$KEY" || [ -d "$KEY" ]
  exit 0
fi
rm -rf "$part.part"
echo "the download of $URI failed with exit code $status; for the reason: kubectl logs $HOSTNAME" > "$part.error" || true
mv "$part.error" ".$KEY.error"
exit 1
"""
#: Wait until the directory $KEY of the claim exists, or end with the reason of the download that failed. A link in its place would
#: print a file of this pod.
WAIT: Final = """\
until [ -d "/claim/$KEY" ]; do
  if [ -f "/claim/.$KEY.error" ] && [ ! -L "/claim/.$KEY.error" ]; then
    cat "/claim/.$KEY.error" >&2
    [ -s "/claim/.$KEY.error" ] || echo "the download failed, and the volume is full" >&2
    exit 1
  fi
  sleep 1
done
"""


WAITER: Final = "wait-for-weights"


class StartChoice(NamedTuple):
    """A choice of the ``start`` block: its field, and the texts of the reference.

    ``check`` and ``make_patches`` get the plan and the block of the choice. ``renders`` is what the objects get, ``needs`` what the cluster must have, ``limits`` what it cannot do.
    """

    field: str
    renders: str
    needs: str
    limits: str
    source: str
    check: Callable[[Plan, Any], Iterator[Problem]]
    make_patches: Callable[[Plan, Any], Iterator[PodPatch]]


def check(plan: Plan) -> Iterator[Problem]:
    """Yield the problems of every choice that the spec sets."""
    for row, block in _list_choices(plan):
        yield from row.check(plan, block)
    yield from _check_sleep(plan)


def _check_sleep(plan: Plan) -> Iterator[Problem]:
    """Yield vLLM's sleep mode, which only a client of the server can use (vllm-project/vllm docs/features/sleep_mode.md)."""
    if _find_engine(plan) is not LLM_ENGINE or read_flag(container.list_words(plan), "--enable-sleep-mode") is None:
        return
    message = (
        "--enable-sleep-mode frees no GPU: no component of the cluster calls /sleep or /wake_up, and Kubernetes lends the GPU of a "
        "sleeping replica to no other pod"
    )
    variables = plan.spec.environment_variables
    if any(row.name == "VLLM_SERVER_DEV_MODE" and row.value != "0" and not row.exclude for row in variables):
        message += "; with VLLM_SERVER_DEV_MODE, every client of the service can call them"
    fix = "remove it, or let your own router call them; to free the GPU, set minReplicas to 0 and shorten the start with start"
    yield make_warning("STA008", ("spec", "args"), message, fix)


def make_patches(plan: Plan) -> Iterator[PodPatch]:
    """Yield the patches of every choice that the spec sets."""
    for row, block in _list_choices(plan):
        yield from row.make_patches(plan, block)


def _list_choices(plan: Plan) -> Iterator[tuple[StartChoice, Any]]:
    """Yield each choice that the spec sets, with its block."""
    start = plan.spec.start
    for row in CHOICES if start is not None else ():
        block = read_field(start, row.field)
        if block is not None and block is not False:
            yield row, block


# Weights on a claim.


def find_weights(plan: Plan) -> Weights | None:
    """Return the claim with a copy of the weights; None if the spec has none."""
    return None if plan.spec.start is None else plan.spec.start.weights


def _read_uri(plan: Plan, weights: Weights) -> str:
    """Return the storage URI of the weights, empty if it is missing."""
    model = plan.spec.model
    return (weights.uri if model is None else model.uri) or ""


def find_storage_uri(plan: Plan) -> str | None:
    """Return the storage URI of a model: that of the spec, or the directory of the claim with its weights."""
    weights = find_weights(plan)
    if weights is not None:
        return f"pvc://{_name_claim(plan, weights)}/{_make_key(plan, _read_uri(plan, weights))}"
    return None if plan.spec.model is None else plan.spec.model.uri


def _name_claim(plan: Plan, weights: Weights) -> str:
    return weights.claim_name or names.fit_name(plan.name, "weights")


def _make_key(plan: Plan, uri: str) -> str:
    """Return the directory of a URI's weights on a claim, as KServe names it; other patterns select other files of the URI."""
    from hashlib import sha256  # noqa: PLC0415 - as in names

    variables = plan.spec.environment_variables
    patterns = [f"{row.name}={row.value}" for row in variables if row.name in PATTERN_VARIABLES and not row.exclude]
    return sha256("\n".join((uri, *patterns)).encode()).hexdigest()[:16]


def _check_weights(plan: Plan, weights: Weights) -> Iterator[Problem]:
    uri = _read_uri(plan, weights)
    model, where = plan.spec.model, (*WEIGHTS, "uri") if plan.spec.model is None else ("spec", "model", "uri")
    if model is not None:
        for field, value, reason in (
            ("uri", weights.uri, "model.uri is the storage URI of the weights"),
            ("mountPath", weights.mount_path, f"KServe mounts a model at {WEIGHTS_PATH}"),
        ):
            if value is not None:
                message, fix = f"{field} has no effect: {reason}", f"remove start.weights.{field}"
                yield Problem("STA001", (*WEIGHTS, field), message, fix, fixes=remove_field())
        if model.storage_secret is not None or model.storage is not None:
            message = "the Job that downloads the weights does not read KServe's storage Secrets (model.storageSecret, model.storage)"
            fix = "set model.uri and the credentials in environmentVariables, or use a service account with a cloud identity"
            yield Problem("STA001", WEIGHTS, message, fix)
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme in NOT_DOWNLOADED:
        message = (
            f"{scheme}:// is not downloaded" if separator else f"{'.'.join(map(str, where[1:]))} has no storage URI"
        )
        fix = (
            "set it to hf://org/model, s3://bucket/path, gs://bucket/path or https://host/path, or remove start.weights"
        )
        yield Problem("STA001", where, message, fix, fixes=remove_field(WEIGHTS))
    yield from _check_claim(WEIGHTS, weights)
    yield from _check_arguments(plan, weights, uri)


def _check_claim(where: Path, claim: SharedClaim) -> Iterator[Problem]:
    if claim.existing_pvc and claim.claim_name is None:
        yield Problem("STO005", where, "existingPvc requires claimName", "set claimName")
    if not claim.existing_pvc and claim.size is None:
        yield Problem("STO005", where, "a new claim requires a size", "set size, or existingPvc: true")
    if claim.size is not None and not quantities.parse_nano(claim.size):
        yield invalid_amount((*where, "size"), claim.size, "storage", "100Gi")


def _check_arguments(plan: Plan, weights: Weights, uri: str) -> Iterator[Problem]:
    """Yield a server that its arguments or variables make download the weights, next to the copy on the claim."""
    engine = find_engine(plan.spec.image)
    if plan.spec.model is not None or engine is None:
        return
    path = weights.mount_path or WEIGHTS_PATH
    name = find_model_name(plan.spec, container.list_words(plan), engine)
    if name is None or name.startswith(path):
        return
    message = f"{engine.name} loads {name}, not the copy of {uri} in {path}: each start would download it"
    fix = f"replace {name} by {path}, and keep the name in requests (vLLM, SGLang: --served-model-name={name.removeprefix(HUB)})"
    yield make_warning("STA004", ("spec", "args"), message, fix)


def _make_weights_patches(plan: Plan, weights: Weights) -> Iterator[PodPatch]:
    uri = _read_uri(plan, weights)
    key, claim, volume = _make_key(plan, uri), _name_claim(plan, weights), names.WEIGHTS_VOLUME
    env = [{"name": "KEY", "value": key}, {"name": "URI", "value": uri}]
    server = plan.spec.image if find_engine(plan.spec.image) is not None else None
    waiting = {
        "name": WAITER,
        # An engine's image has a shell, and the node pulls it for the server too.
        "image": server or plan.cluster.kserve.storage_initializer,
        "command": ["sh", "-c", WAIT],
        "env": env,
        "volumeMounts": [{"name": volume, "mountPath": CLAIM_PATH, "readOnly": True}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    mount = {"name": volume, "mountPath": weights.mount_path or WEIGHTS_PATH, "subPath": key, "readOnly": True}
    yield PodPatch(
        by="start/weights",
        cause=WEIGHTS,
        volumes=[{"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}],
        # KServe mounts the directory of a model itself.
        mounts=[mount] if plan.spec.model is None else [],
        init_containers=[waiting],
        objects=[*_make_claims(claim, weights), _make_fill_job(plan, claim, weights, env)],
    )


def _make_claims(name: str, claim: SharedClaim) -> list[Object]:
    """Return the new claim, or nothing if it exists."""
    return [] if claim.existing_pvc else [make_claim(name, [claim.access_mode], claim.storage_class, claim.size)]


def _make_fill_job(plan: Plan, claim: str, weights: Weights, env: list[dict[str, Any]]) -> Object:
    """Return the Job that fills a claim. Its name has a hash of its content, because its template cannot be changed."""
    spec = plan.spec
    variables = [row for row in spec.environment_variables if row.name.startswith(STORE_VARIABLES) and not row.exclude]
    download = {
        "name": "download",
        "image": plan.cluster.kserve.storage_initializer,
        "command": ["bash", "-c", FILL],
        "env": [*env, *map(container.render_variable, variables)],
        "volumeMounts": [{"name": names.WEIGHTS_VOLUME, "mountPath": CLAIM_PATH}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    # A volume that one node mounts must be created where the replicas can run.
    placed = placement.make_placement_patches(plan) if weights.access_mode == "ReadWriteOnce" else ()
    pod = merge_patches((container.make_security_patch(plan), *placed))
    job = {
        "backoffLimit": DOWNLOAD_RETRIES,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": spec.service_account_name,
                "imagePullSecrets": container.render_pull_secrets(spec),
                "securityContext": {"fsGroup": DOWNLOAD_GROUP, "fsGroupChangePolicy": "OnRootMismatch"},
                "nodeSelector": pod.parts.get("node_selector"),
                "tolerations": pod.parts.get("tolerations"),
                "containers": container.secure_containers([download], pod),
                "volumes": [{"name": names.WEIGHTS_VOLUME, "persistentVolumeClaim": {"claimName": claim}}],
            }
        },
    }
    return make_object("batch/v1", "Job", names.name_by_content(plan.name, "weights", job), job)


# A copy of the model on the nodes.


def _check_model_cache(plan: Plan, cache: ModelCache) -> Iterator[Problem]:
    model, kserve, remove = plan.spec.model, plan.cluster.kserve, remove_field(CACHE)
    if find_weights(plan) is not None:
        message = "modelCache and weights are mutually exclusive: a model is read from one copy"
        yield Problem("STA001", CACHE, message, "remove modelCache or weights", fixes=remove + remove_field(WEIGHTS))
    if model is None or model.uri is None or model.uri.partition("://")[0] in NOT_DOWNLOADED:
        message = "KServe caches the model of one model.uri that it downloads, such as hf:// and s3://"
        yield Problem("STA001", CACHE, message, "set model.uri, or use start.weights", fixes=remove)
    if not quantities.parse_nano(cache.size):
        yield invalid_amount((*CACHE, "size"), cache.size, "storage", "20Gi")
    if parse_version(kserve.version) < NAMESPACE_CACHE_SINCE:
        message = f"KServe {kserve.version} has no LocalModelNamespaceCache"
        yield Problem("STA003", CACHE, message, "use KServe 0.19 or later, or start.weights", fixes=remove)
    elif not kserve.local_model_node_groups:
        message = "the model cache of this cluster's KServe is off, or has no node group"
        fix = (
            "enable localModel in inferenceservice-config, create a LocalModelNodeGroup and add it to kserve.localModelNodeGroups of "
            "the profile, or use start.weights"
        )
        yield Problem("STA003", CACHE, message, fix, fixes=remove)
    known = kserve.local_model_node_groups
    for index, name in enumerate(cache.node_groups):
        if known and name not in known:
            message = f"LocalModelNodeGroup {name} not found in the cluster profile"
            path = (*CACHE, "nodeGroups", index)
            yield Problem("STA003", path, message, f"use one of {', '.join(known)}", fixes=offer_values(known))
    if not cache.node_groups:
        yield Problem("STA001", (*CACHE, "nodeGroups"), "nodeGroups is empty", "name at least one LocalModelNodeGroup")
    message = (
        "KServe mounts the model from a node also before its download to that node is complete: until then, replicas fail or "
        "load a part of it"
    )
    fix = "wait until the LocalModelNamespaceCache reports NodeDownloaded for every node before you update, or use start.weights"
    yield make_warning("STA006", CACHE, message, fix)


def _make_model_cache_patches(plan: Plan, cache: ModelCache) -> Iterator[PodPatch]:
    model = plan.spec.model
    assert model is not None
    # The URI of a cache cannot be changed, so another URI makes another cache.
    name = names.name_by_content(plan.name, "cache", {"uri": model.uri})
    spec = {"sourceModelUri": model.uri, "modelSize": str(cache.size), "nodeGroups": [*cache.node_groups]}
    rendered = make_object("serving.kserve.io/v1alpha1", "LocalModelNamespaceCache", name, spec)
    yield PodPatch(by="start/model-cache", cause=CACHE, objects=[rendered])


# Streaming.


def _find_engine(plan: Plan) -> Engine | None:
    """Return the engine of the server: that of the image, or vLLM in an LLMInferenceService."""
    return find_engine(plan.spec.image) or (LLM_ENGINE if plan.serving == "llm" and plan.spec.image is None else None)


def _describe_lacking(engine: Engine | None, attribute: str, words: str) -> str:
    """Return the message about a feature that only other servers have; ``{}`` in ``words`` are the engines that have it."""
    known = " and ".join(row.name for row in ENGINES if getattr(row, attribute))
    return f"{'the server of this image' if engine is None else engine.name} {words.format(known)}"


def _check_variables(plan: Plan, where: Path, taken: Container[str]) -> Iterator[Problem]:
    """Yield the variables of the spec that a choice sets too."""
    for index, variable in enumerate(plan.spec.environment_variables):
        if variable.name in taken:
            message = f"start.{where[-1]} already sets {variable.name}"
            path = ("spec", "environmentVariables", index)
            yield Problem("STA001", path, message, "remove one of them", fixes=remove_field() + remove_field(where))


def _check_streaming(plan: Plan, streaming: Streaming) -> Iterator[Problem]:
    engine, remove = _find_engine(plan), remove_field(STREAMING)
    if engine is None or not engine.streams:
        message = _describe_lacking(engine, "streams", "is not known to stream weights, which {} can")
        yield Problem("STA001", STREAMING, message, "remove streaming, or use an image of one of them", fixes=remove)
        return
    words = container.list_words(plan)
    scheme, separator, _ = (find_model_name(plan.spec, words, engine) or "").partition("://")
    if separator and plan.spec.model is None and scheme not in engine.streams:
        message = f"{engine.name} does not stream weights from {scheme}://"
        fix = f"use one of {', '.join(engine.streams)}, a directory or a name of huggingface.co, or remove streaming"
        yield Problem("STA001", STREAMING, message, fix, fixes=remove)
    if read_flag(words, LOAD_FORMAT) is not None:
        message = f"the arguments already set {LOAD_FORMAT}"
        yield Problem("STA001", STREAMING, message, "remove it from args, or remove streaming", fixes=remove)
    yield from _check_variables(plan, STREAMING, _list_stream_variables(streaming))
    limit = streaming.memory_limit
    if limit is not None and not quantities.parse_whole_quantity(limit):
        yield invalid_amount((*STREAMING, "memoryLimit"), limit, "memory", "4Gi")


def _list_stream_variables(streaming: Streaming) -> dict[str, str]:
    """Return the variables of the streamer, in which vLLM and SGLang also write their own settings of it."""
    limit = None if streaming.memory_limit is None else quantities.parse_whole_quantity(streaming.memory_limit)
    values = {"RUNAI_STREAMER_CONCURRENCY": streaming.concurrency, "RUNAI_STREAMER_MEMORY_LIMIT": limit}
    return {name: str(value) for name, value in values.items() if value is not None}


def _make_streaming_patches(_: Plan, streaming: Streaming) -> Iterator[PodPatch]:
    env = [{"name": name, "value": value} for name, value in _list_stream_variables(streaming).items()]
    yield PodPatch(by="start/streaming", cause=STREAMING, args=[f"{LOAD_FORMAT}=runai_streamer"], env=env)


# Compiled artifacts.


def list_claims(plan: Plan) -> Iterator[tuple[Path, SharedClaim]]:
    """Yield the claims of the block that replicas share."""
    start = plan.spec.start
    if start is not None and start.weights is not None:
        yield WEIGHTS, start.weights
    if start is not None and start.compilation_cache is not None:
        yield COMPILED, start.compilation_cache


def _check_compiled(plan: Plan, cache: CompilationCache) -> Iterator[Problem]:
    engine, remove = _find_engine(plan), remove_field(COMPILED)
    yield from _check_claim(COMPILED, cache)
    if engine is None or not engine.compiled:
        message = _describe_lacking(
            engine, "compiled", "is not known to keep compiled artifacts in a directory, as {} do"
        )
        fix = "remove compilationCache, or mount a claim in storage.pvc"
        yield Problem("STA001", COMPILED, message, fix, fixes=remove)
        return
    words = container.list_words(plan)
    missing = engine.compile_flag and read_flag(words, engine.compile_flag) is None
    if missing or read_flag(words, engine.eager_flag) is not None:
        change = f"add {engine.compile_flag} to args" if missing else f"remove {engine.eager_flag} from args"
        message = f"compilationCache has no effect: {engine.name} compiles nothing with these arguments"
        yield make_warning("STA007", COMPILED, message, f"{change}, or remove compilationCache", fixes=remove)
    yield from _check_variables(plan, COMPILED, {engine.compiled})


def _make_compiled_patches(plan: Plan, cache: CompilationCache) -> Iterator[PodPatch]:
    engine, volume = _find_engine(plan), names.COMPILED_VOLUME
    assert engine is not None
    claim = cache.claim_name or names.fit_name(plan.name, "compiled")
    yield PodPatch(
        by="start/compilation-cache",
        cause=COMPILED,
        volumes=[{"name": volume, "persistentVolumeClaim": {"claimName": claim}}],
        mounts=[{"name": volume, "mountPath": COMPILED_PATH}],
        env=[{"name": engine.compiled, "value": COMPILED_PATH}],
        objects=_make_claims(claim, cache),
    )


# The image on the nodes.


def _check_pre_pull(plan: Plan, _: bool) -> Iterator[Problem]:
    cluster = plan.cluster
    if plan.spec.image is None:
        message = "the spec sets no image, and the serving runtime's is not known"
        yield Problem("STA001", PRE_PULL, message, "set image, or remove prePullImage", fixes=remove_field())
    if not mounts_images(cluster):
        yield report_image_volumes("STA003", PRE_PULL, "prePullImage needs", cluster)


def _make_pre_pull_patches(plan: Plan, _: bool) -> Iterator[PodPatch]:
    """Yield a DaemonSet whose pods mount the image as a volume: the kubelet pulls it, and nothing of it runs.

    Upstream: k8s.io/kubernetes v1.37.2 pkg/kubelet/kuberuntime/kuberuntime_manager.go (getImageVolumes pulls the image of a volume
    before the first container starts, and a failed pull is only repeated for a container that mounts it),
    pkg/kubelet/images/image_gc_manager.go (handleImageVolumes keeps the images that containers mount).
    """
    name = names.fit_name(plan.name, "image")
    pool = {} if plan.gpu is None or plan.pool is None else plan.pool.selector
    pod = merge_patches((container.make_security_patch(plan), *placement.make_placement_patches(plan)))
    affinity = pod.parts.get("affinity", {})
    labels = {keys.APP_NAME: name, keys.APP_MANAGED_BY: "ebbtide"}
    pause = {
        "name": "pause",
        "image": plan.cluster.pods.pause_image,
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
        "volumeMounts": [{"name": "image", "mountPath": "/image", "readOnly": True}],
    }
    spec = {
        "imagePullSecrets": container.render_pull_secrets(plan.spec),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": pod.parts.get("node_selector") or dict(pool) or None,
        "affinity": {"nodeAffinity": affinity["nodeAffinity"]} if "nodeAffinity" in affinity else None,
        "tolerations": pod.parts.get("tolerations"),
        "containers": container.secure_containers([pause], pod),
        "volumes": [
            {"name": "image", "image": {"reference": plan.spec.image, "pullPolicy": plan.spec.image_pull_policy}}
        ],
    }
    selector = {"matchLabels": {keys.APP_NAME: name}}
    template = {"metadata": {"labels": labels}, "spec": spec}
    # Otherwise the nodes pull a new image one after another, and a node that cannot stops the others.
    strategy = {"rollingUpdate": {"maxUnavailable": "100%"}}
    content = {"selector": selector, "updateStrategy": strategy, "template": template}
    daemons = make_object("apps/v1", "DaemonSet", name, content)
    yield PodPatch(by="start/pre-pull", cause=PRE_PULL, objects=[daemons])


#: The choices, in the order of the reference.
CHOICES: Final = (
    StartChoice(
        "weights",
        "a claim (unless it exists), a Job that fills it once, a read-only mount, and an init container that waits for the Job",
        "a storage class with ReadWriteMany for replicas on several nodes; under Knative the flags for claims and init containers",
        "weights of an image (oci://) or of a claim; credentials in KServe's storage Secrets; a new version under the same URI",
        "kserve python/storage-initializer; k8s.io/api batch/v1",
        _check_weights,
        _make_weights_patches,
    ),
    StartChoice(
        "modelCache",
        "a LocalModelNamespaceCache, which KServe's webhook selects by model.uri (the namespace's own goes first)",
        "KServe 0.19 with localModel enabled, and LocalModelNodeGroups with room for the model (kserve.localModelNodeGroups)",
        "images, several model.uris, and credentials of the namespace: KServe downloads in its own one; a replica can start before "
        "the download to its node is complete",
        "kserve pkg/controller/v1alpha1/localmodel and localmodelnode; pkg/apis/serving/v1beta1/inference_service_defaults.go",
        _check_model_cache,
        _make_model_cache_patches,
    ),
    StartChoice(
        "streaming",
        "the argument --load-format=runai_streamer and the variables of the streamer",
        "an image with the package runai-model-streamer, such as vllm/vllm-openai; weights in the format safetensors",
        "Triton, TGI, TEI, NIM and KServe's runtimes; sharding of one read among several GPUs, which is --model-loader-extra-config",
        "vllm-project/vllm docs/models/extensions/runai_model_streamer.md; sgl-project/sglang docs/advanced_features",
        _check_streaming,
        _make_streaming_patches,
    ),
    StartChoice(
        "compilationCache",
        "a claim (unless it exists), its writable mount, and the variable of the engine with its directory (VLLM_CACHE_ROOT, "
        "TORCHINDUCTOR_CACHE_DIR)",
        "a storage class with ReadWriteMany for replicas on several nodes; under Knative the flags for writable claims; a user that "
        "may write to the volume",
        "CUDA graphs, which each start captures; artifacts of another GPU, model or version, which the engine compiles next to the "
        "others; engines that load no compiled artifacts",
        "vllm-project/vllm docs/design/torch_compile.md; sgl-project/sglang docs/references/torch_compile_cache.md",
        _check_compiled,
        _make_compiled_patches,
    ),
    StartChoice(
        "prePullImage",
        "a DaemonSet that mounts the image as a volume, which the kubelet pulls and nothing runs, on the nodes of the workload",
        "image volumes: Kubernetes 1.35 or the feature gate ImageVolume, and containerd 2.1 or CRI-O 1.31 on the nodes",
        "the image of a serving runtime; a node that has just started, which pulls the image for its first replica; the first "
        "replica after an update, which pulls it at the same time; a tag that moves: use a digest",
        "k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go",
        _check_pre_pull,
        _make_pre_pull_patches,
    ),
)
