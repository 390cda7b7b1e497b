"""The choice of the serving object's kind, and the checks of what that kind and the cluster support."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, names
from ebbtide.base.ingress import INGRESS_GATEWAYS
from ebbtide.base.problems import Problem, choose_serving, make_warning, offer_values, remove_field, set_value
from ebbtide.base.prose import count_noun
from ebbtide.base.quantities import parse_nano, parse_whole_quantity
from ebbtide.base.versions import parse_version
from ebbtide.translation import runtimes
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.plan import Decision
from ebbtide.translation.scaling import LIVE_SCALE_SINCE, make_scrape_annotations
from ebbtide.translation.scaling.controller import make_floor_annotations
from ebbtide.translation.scaling.knative import SETTINGS
from ebbtide.translation.serving import reserved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import ProfileSpec
    from ebbtide.spec.inference import InferenceSpec
    from ebbtide.translation.modes import ServingMode
    from ebbtide.translation.plan import Plan, Serving

SNAKE: Final = re.compile("([A-Z])")
#: The upstream default of max-revision-timeout-seconds in config-defaults, in seconds.
DEFAULT_MAX_TIMEOUT_SECONDS: Final = "600"
#: Knative's default request timeout in seconds, which is also a pod's termination grace period.
DEFAULT_TIMEOUT_SECONDS: Final = 300
#: The timeout in seconds of an HTTPRoute of KServe Standard (kserve pkg/controller/v1beta1/inferenceservice/reconcilers/
#: ingress/httproute_reconciler.go, DefaultTimeout).
DEFAULT_ROUTE_TIMEOUT_SECONDS: Final = 60
#: The minimum of a rollout without additional replicas: all but one serve during it.
MIN_ROLLOUT_REPLICAS: Final = 2
#: Seconds that a terminating replica stays after its last request (knative.dev/serving pkg/queue/sharedmain/main.go,
#: drainSleepDuration).
DRAIN_SECONDS: Final = 30


def choose(plan: Plan) -> tuple[Serving, Decision]:
    """Return the kind of object. ``auto`` is KServe for a model, KServe Standard for a resource claim, else Knative."""
    serving = plan.spec.serving or "auto"
    fields = ("spec.serving",)
    if serving != "auto":
        return serving, Decision("serving", serving, "the spec sets it", fields)
    claims = BACKENDS[plan.pool.backend].claims if plan.gpu is not None and plan.pool is not None else None
    if claims is not None and claims.needed(plan.cluster):
        return "kserve-standard", Decision(
            "serving",
            "kserve-standard",
            "the GPU is allocated by a resource claim, which a Knative revision does not support",
            ("spec.compute", "profile.nodePools"),
        )
    if plan.spec.model is not None:
        return "kserve", Decision("serving", "kserve", "a model is served by a KServe serving runtime", ("spec.model",))
    return "knative", Decision("serving", "knative", "an image without a model needs only Knative", ("spec.image",))


def _check_reserved(plan: Plan) -> Iterator[Problem]:
    """Reject names and the port that the kind of object reserves."""
    spec, serving = plan.spec, plan.serving
    yield from reserved.check_variables(spec, plan.cluster.kserve.version, serving)
    yield from reserved.check_labels(spec, serving)
    yield from reserved.check_port(spec, serving)


def _check_initialization_timeout(plan: Plan) -> Iterator[Problem]:
    if not plan.mode.revisions and find_initialization_timeout(plan.spec) is not None:
        yield Problem(
            "SRV014",
            ("spec", "servingConfiguration", "initializationTimeoutSeconds"),
            f"initializationTimeoutSeconds has no effect under {plan.mode.title}, whose deployments have a fixed deadline of 600 s",
            "remove initializationTimeoutSeconds, or use serving: kserve or knative",
            fixes=choose_serving("kserve", "knative") + remove_field(),
        )


def _check_strategy(plan: Plan) -> Iterator[Problem]:
    mode = plan.mode
    if plan.spec.deployment_strategy is not None and not mode.strategy:
        yield Problem(
            "SRV099",
            ("spec", "deploymentStrategy"),
            "deploymentStrategy needs KServe Standard: "
            + (
                "Knative starts each new revision next to the old one"
                if mode.revisions
                else f"{mode.title} has no field for it"
            ),
            "remove deploymentStrategy, or use serving: kserve-standard",
            fixes=choose_serving("kserve-standard") + remove_field(),
        )


def _check_hosts(plan: Plan) -> Iterator[Problem]:
    """Check host names of the user, each of which needs a DomainMapping of Knative."""
    mode, network = plan.mode, plan.cluster.knative.network
    if mode.revisions and network.get("autocreate-cluster-domain-claims") == "true":
        return
    for index, url in enumerate(plan.spec.exposed_urls):
        if url.exclude or url.url is None:
            continue
        path = ("spec", "exposedUrls", index)
        if not mode.revisions:
            yield Problem(
                "SRV014",
                path,
                f"exposedUrls needs a Knative DomainMapping, which {mode.title} does not use",
                "remove the URL and create an Ingress or HTTPRoute for it, or use serving: kserve or knative",
                fixes=choose_serving("kserve", "knative"),
            )
        else:
            yield make_warning(
                "SRV023",
                path,
                "this cluster serves a host name only after an administrator has created a ClusterDomainClaim for it and the "
                "namespace; until then Knative reports that another DomainMapping has the host name",
                "ask an administrator to create the ClusterDomainClaim, or set autocreate-cluster-domain-claims: true in "
                "config-network and in knative.network of the profile",
            )


def _check_limits(plan: Plan) -> Iterator[Problem]:
    """Check the limits that KServe or a serving runtime sets."""
    if plan.mode.copies_metadata:
        check_limits = _check_default_limits if plan.spec.model is None else _check_runtime_limits
        yield from check_limits(plan.spec, plan.cluster)


def _check_containers(plan: Plan) -> Iterator[Problem]:
    yield from reserved.check_containers(plan.spec, plan.cluster.kserve.version, plan.serving)


def _check_stored_spec(plan: Plan) -> Iterator[Problem]:
    if plan.mode.copies_metadata and keys.SPEC not in plan.cluster.kserve.annotation_disallow_list:
        yield make_warning(
            "SRV015",
            ("metadata", "name"),
            "the spec is not stored on the object: this cluster's KServe copies annotations to the pods, so each edit of the "
            "spec would create a new revision",
            "add ebbtide.dev/spec to KServe's serviceAnnotationDisallowedList (kustomize/kserve does) and to "
            "kserve.annotationDisallowList of the profile",
        )


#: Fields that only KServe supports, and its first version with each
#: (pkg/apis/serving/v1beta1: component.go, predictor.go, inference_service.go).
KSERVE_FIELDS: Final[tuple[tuple[str, tuple[int, int]], ...]] = (
    ("transformer", (0, 1)),
    ("explainer", (0, 1)),
    ("logger", (0, 1)),
    ("logger.storage", (0, 16)),
    ("logger.marshallerUrl", (0, 17)),
    ("logger.batchSize", (0, 17)),
    ("logger.batchInterval", (0, 17)),
    ("batcher", (0, 1)),
    ("model.uris", (0, 16)),
)


#: The same fields with their paths in documents and their attributes, since every translation checks them.
_KSERVE_ATTRIBUTES: Final = tuple(
    (field, since, ("spec", *field.split(".")), tuple(SNAKE.sub(r"_\1", name).lower() for name in field.split(".")))
    for field, since in KSERVE_FIELDS
)


def _check_kserve_fields(plan: Plan) -> Iterator[Problem]:
    """Reject fields that only KServe, or only a later version of it, supports."""
    if plan.mode.field_table:
        return
    spec, serving, version = plan.spec, plan.serving, plan.cluster.kserve.version
    for field, since, path, attributes in _KSERVE_ATTRIBUTES:
        value: Any = spec
        for name in attributes:
            value = getattr(value, name, None)
        if value and serving == "knative" and "." not in field:
            yield Problem(
                "SRV044",
                path,
                f"a Knative Service does not support {field}, which only KServe has",
                f"use serving: kserve, or remove {field}",
                fixes=choose_serving("kserve") + remove_field(),
            )
        elif value and serving != "knative" and parse_version(version) < since:
            yield Problem(
                "SRV045",
                path,
                f"KServe {version} does not support {field}",
                f"remove it, or use KServe {since[0]}.{since[1]} or later",
                fixes=remove_field(),
            )


def _check_volumes(plan: Plan) -> Iterator[Problem]:
    spec, cluster = plan.spec, plan.cluster
    for index, volume in enumerate(spec.storage.csi_volume):
        if not (volume.exclude or volume.read_only or not plan.mode.revisions):
            yield Problem(
                "STO020",
                ("spec", "storage", "csiVolume", index, "readOnly"),
                "Knative accepts a CSI volume only with a read-only mount",
                "remove readOnly, or use serving: kserve-standard",
                fixes=choose_serving("kserve-standard") + remove_field(),
            )
    if any(not volume.exclude for volume in spec.storage.image_volume) and not _mounts_images(cluster):
        yield Problem(
            "STO021",
            ("spec", "storage", "imageVolume"),
            f"image volumes need feature gate {IMAGE_VOLUMES}, which is off by default in Kubernetes {cluster.kubernetes.version}",
            f"turn {IMAGE_VOLUMES} on and add it to kubernetes.featureGates of the profile, or remove imageVolume",
            fixes=remove_field(),
        )


def _mounts_images(cluster: ProfileSpec) -> bool:
    """Return whether Kubernetes mounts images as volumes."""
    gates = cluster.kubernetes.feature_gates
    return parse_version(cluster.kubernetes.version) >= IMAGE_VOLUMES_SINCE or IMAGE_VOLUMES in gates


def _check_copied_metadata(plan: Plan) -> Iterator[Problem]:
    # pkg/controller/v1beta1/inferenceservice/components/predictor.go, buildObjectMeta.
    if not plan.mode.copies_metadata:
        return
    user_metadata, category = plan.inference.metadata, plan.spec.category
    for path, value in (
        (("metadata", "labels"), user_metadata.labels),
        (("metadata", "annotations"), user_metadata.annotations),
        (("spec", "category"), category),
    ):
        if value:
            yield make_warning(
                "SRV022",
                path,
                "KServe copies the object's labels and annotations to its pods, so each edit of this field replaces the pods",
                "use serving: knative, which keeps them on the object, or edit them only together with other changes to the pods",
                fixes=choose_serving("knative"),
            )


def _check_default_limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    compute = spec.compute
    for resource, field, request, limit in (
        ("cpu", "cpuCoreLimit", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemoryLimit", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        default_limit = cluster.kserve.limits.get(resource)  # type: ignore[call-overload] # one of the two literals
        if default_limit is None or limit is not None:
            continue
        message = f"KServe limits {resource} to {default_limit} if the spec sets no limit (inferenceService.resource)"
        if request is not None and (parse_nano(request) or 0) > (parse_nano(default_limit) or 0):
            yield Problem(
                "SRV024",
                ("spec", "compute", field),
                f"{message}, which is less than the request of {request}: Kubernetes would reject the pods",
                f"set {field}",
            )
        else:
            yield make_warning("SRV025", ("spec", "compute", field), message, f"set {field} to what the server needs")


def _check_runtime_limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    compute, kserve = spec.compute, cluster.kserve
    named = spec.model is not None and spec.model.runtime
    runtime = f"serving runtime {named}" if named else "the serving runtime that KServe chooses"
    resource: runtimes.ComputeResource
    for resource, field, request, limit in (
        ("cpu", "cpuCore", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemory", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        runtime_request, runtime_limit = (
            runtimes.find_smallest_request(spec, kserve, resource),
            runtimes.find_largest_limit(spec, kserve, resource),
        )
        if (
            limit is not None
            and request is None
            and runtime_request is not None
            and (parse_nano(limit) or 0) < (parse_nano(runtime_request) or 0)
        ):
            yield Problem(
                "SRV026",
                ("spec", "compute", f"{field}Request"),
                f"{runtime} has a {resource} request of {runtime_request}, which applies since the spec sets none and is more "
                f"than the limit of {limit}: Kubernetes would reject the pods",
                f"set {field}Request",
            )
        if limit is not None or runtime_limit is None:
            continue
        message = f"{runtime} limits {resource} to {runtime_limit} if the spec sets no limit"
        if request is not None and (parse_nano(request) or 0) > (parse_nano(runtime_limit) or 0):
            yield Problem(
                "SRV026",
                ("spec", "compute", f"{field}Limit"),
                f"{message}, which is less than the request of {request}: Kubernetes would reject the pods",
                f"set {field}Limit",
            )
        else:
            yield make_warning(
                "SRV027", ("spec", "compute", f"{field}Limit"), message, f"set {field}Limit to what the model needs"
            )


def find_initialization_timeout(spec: InferenceSpec) -> int | None:
    newer = spec.serving_configuration.initialization_timeout_seconds
    return newer if newer is not None else spec.autoscaling.initialization_timeout_seconds


def _check_mode(plan: Plan) -> Iterator[Problem]:
    cluster, serving, path = plan.cluster, plan.serving, ("spec", "serving")
    if plan.mode.revisions and not cluster.knative.installed:
        yield Problem(
            "SRV003",
            path,
            "Knative Serving is not installed in this cluster",
            "use serving: kserve-standard, or install Knative Serving and set knative.installed: true in the profile",
            fixes=choose_serving("kserve-standard"),
        )
    if serving != "knative":
        mode = plan.mode
        if not cluster.kserve.installed:
            yield Problem(
                "SRV003",
                path,
                "KServe is not installed in this cluster",
                "use serving: knative with an image, or install KServe and set kserve.installed: true in the profile",
                fixes=choose_serving("knative"),
            )
        elif not mode.listed:
            yield from _check_llm(cluster)
        elif mode.kserve not in cluster.kserve.modes:
            yield Problem(
                "SRV003",
                path,
                f"KServe's {mode.kserve} mode is not enabled in this cluster",
                f"use an enabled mode ({', '.join(cluster.kserve.modes)}), or enable {mode.kserve} and add it to kserve.modes of the "
                "profile",
            )
        if mode.listed and len(plan.name) > names.LONGEST_KSERVE:
            yield Problem(
                "NAM002",
                ("metadata", "name"),
                f"the name has {len(plan.name)} characters; under KServe at most {names.LONGEST_KSERVE} are valid, since "
                "<name>-predictor-00001 must fit in 63",
                f"use a name of at most {names.LONGEST_KSERVE} characters",
            )
    model = plan.spec.model
    if model is None:
        return
    if serving == "knative":
        yield Problem(
            "SRV002",
            ("spec", "model"),
            "a Knative Service runs an image and does not support model",
            "remove model and set image, or use serving: kserve",
            fixes=choose_serving("kserve") + remove_field(),
        )
        return
    if model.uri is not None:
        yield from _check_model_uri(model.uri, ("spec", "model", "uri"), cluster, plan.mode)
    if not plan.mode.runtime:
        return
    if model.name is not None:
        yield Problem(
            "SRV202",
            ("spec", "model", "name"),
            "the serving runtime of an InferenceService sets the name of the model in requests",
            "remove name, or use serving: llm",
            fixes=choose_serving("llm") + remove_field(),
        )
    known = cluster.kserve.runtimes
    if model.runtime is not None and known and model.runtime not in known:
        yield Problem(
            "SRV018",
            ("spec", "model", "runtime"),
            f"serving runtime {model.runtime} not found in the cluster profile",
            f"use one of {', '.join(known)}, or remove runtime so that KServe chooses one",
            fixes=offer_values(known) + remove_field(),
        )
    for index, item in enumerate(model.uris):
        yield from _check_model_uri(item.uri, ("spec", "model", "uris", index, "uri"), cluster, plan.mode)
    port = plan.spec.serving_port
    if port.container not in {None, runtimes.HTTP_PORT} and runtimes.has_fixed_port(plan.spec, cluster.kserve):
        yield Problem(
            "SRV061",
            ("spec", "servingPort", "container"),
            f"the serving runtime listens on port {runtimes.HTTP_PORT}, not on {port.container}, so the service would never be ready",
            "remove container, or set args so that the runtime listens on this port",
            fixes=remove_field(),
        )


#: The first version of KServe whose LLMInferenceService has the API version v1alpha2.
LLM_SINCE: Final = (0, 17)
#: The scheme of a model from an image that Kubernetes mounts as a volume, the first KServe version with it, the feature gate
#: that it needs, and the Kubernetes version from which the gate is on by default (kserve pkg/utils/imagevolume.go).
NATIVE: Final = "oci+native"
FROM_IMAGE: Final = frozenset({"oci", NATIVE})
NATIVE_SINCE: Final = (0, 20)
IMAGE_VOLUMES: Final = "ImageVolume"
IMAGE_VOLUMES_SINCE: Final = (1, 35)


def _check_llm(cluster: ProfileSpec) -> Iterator[Problem]:
    if cluster.kserve.llm == "none":
        yield Problem(
            "SRV003",
            ("spec", "serving"),
            "LLMInferenceService is not available in this cluster",
            "use serving: kserve-standard, or install kserve-llmisvc and set kserve.llm: route or scheduler in the profile",
            fixes=choose_serving("kserve-standard"),
        )
    elif parse_version(cluster.kserve.version) < LLM_SINCE:
        yield Problem(
            "SRV003",
            ("spec", "serving"),
            f"the LLMInferenceService of KServe {cluster.kserve.version} is older than v1alpha2, the API version that is rendered",
            "use serving: kserve-standard, or use KServe 0.17 or later",
            fixes=choose_serving("kserve-standard"),
        )


def _check_model_uri(uri: str, path: Path, cluster: ProfileSpec, mode: ServingMode) -> Iterator[Problem]:
    scheme, separator, _ = uri.partition("://")
    schemes = mode.schemes | {NATIVE} if parse_version(cluster.kserve.version) >= NATIVE_SINCE else mode.schemes
    if not separator:
        yield Problem(
            "SRV019",
            path,
            f"invalid URI {uri!r}: must have a scheme",
            "write it as s3://bucket/path, gs://bucket/path, hf://org/model, pvc://claim/path, https://host/path or oci://image",
        )
    elif scheme not in schemes:
        yield Problem(
            "SRV019",
            path,
            f"{'' if mode.runtime else f'{mode.title} of '}KServe {cluster.kserve.version} does not support the URI "
            f"scheme {scheme}://",
            f"use one of {', '.join(sorted(schemes))}",
            fixes=offer_values(sorted(schemes)),
        )
    elif scheme in FROM_IMAGE:
        yield from _check_model_image(scheme, path, cluster)


def _check_model_image(scheme: str, path: Path, cluster: ProfileSpec) -> Iterator[Problem]:
    """Check that KServe adds the image to the pod, and that Kubernetes mounts it.

    KServe's webhook changes the pod and not the revision, so Knative's feature flags do not apply (kserve
    pkg/webhook/admission/pod/mutator.go and storage_initializer_injector.go, InjectModelcar).
    """
    if cluster.kserve.oci_models == "none":
        yield Problem(
            "SRV059",
            path,
            f"{scheme}:// needs models from images, which are off in this cluster's KServe",
            "store the model at another address (s3://, pvc://), or set enableModelcar: true in storageInitializer of KServe's "
            "inferenceservice-config and kserve.ociModels: modelcar in the profile",
        )
    elif (scheme == NATIVE or cluster.kserve.oci_models == "native") and not _mounts_images(cluster):
        other = (
            "use oci://"
            if cluster.kserve.oci_models == "modelcar"
            else "store the model at another address (s3://, pvc://)"
        )
        yield Problem(
            "SRV019",
            path,
            f"{scheme}:// needs feature gate {IMAGE_VOLUMES}, which is off by default in Kubernetes {cluster.kubernetes.version}",
            f"{other}, or turn {IMAGE_VOLUMES} on and add it to kubernetes.featureGates of the profile",
        )


def _check_access(plan: Plan) -> Iterator[Problem]:
    kind = plan.spec.serving_port.authorization_type or "public"
    if kind != "public" and not plan.mode.field_table and kind not in plan.cluster.access.enforces:
        yield Problem(
            "SRV005",
            ("spec", "servingPort", "authorizationType"),
            f"no gateway in this cluster enforces authorizationType {kind}, so the endpoint would be public",
            f"add a gateway that enforces {kind} to access.enforces of the profile, or use authorizationType: public with "
            "clusterLocalAccessOnly: true",
        )


def _check_timeout(plan: Plan) -> Iterator[Problem]:
    seconds, cluster = plan.spec.serving_configuration.request_timeout_seconds, plan.cluster
    if seconds is None or plan.mode.field_table:
        return
    path = ("spec", "servingConfiguration", "requestTimeoutSeconds")
    if plan.serving == "kserve-standard":
        if not cluster.kserve.http_route_timeouts:
            yield make_warning(
                "SRV060",
                path,
                "requestTimeoutSeconds has no effect: KServe Standard applies it to HTTPRoutes with timeouts, which this cluster's "
                "KServe does not create",
                "set the timeout in the ingress controller, or turn on enableGatewayApi in ingress of KServe's "
                "inferenceservice-config and set kserve.httpRouteTimeouts: true in the profile",
            )
        return
    maximum = (
        parse_whole_quantity(cluster.knative.defaults.get("max-revision-timeout-seconds", DEFAULT_MAX_TIMEOUT_SECONDS))
        or 0
    )
    if seconds > maximum:
        yield Problem(
            "SRV007",
            path,
            f"a timeout of {seconds} s is above this cluster's maximum of {maximum} s (max-revision-timeout-seconds)",
            f"use at most {maximum}, or increase the maximum in config-defaults and in knative.defaults of the profile",
            fixes=set_value(maximum),
        )
    elif seconds > DEFAULT_TIMEOUT_SECONDS:
        yield make_warning(
            "SRV008",
            path,
            f"Knative uses the request timeout as the pod's grace period too, so a terminating replica may hold its GPU for up "
            f"to {seconds} s",
            "set the timeout no longer than the longest response takes",
        )


def _check_traffic(plan: Plan) -> Iterator[Problem]:
    traffic, serving, mode = plan.spec.traffic, plan.serving, plan.mode
    if traffic.rollout_duration_seconds is not None and not mode.revisions:
        yield Problem(
            "SRV010",
            ("spec", "traffic", "rolloutDurationSeconds"),
            f"{mode.title} has no revisions, between which Knative shifts traffic",
            "remove rolloutDurationSeconds, or use serving: kserve or knative",
            fixes=choose_serving("kserve", "knative") + remove_field(),
        )
    percent = traffic.canary_percent
    if percent is None:
        if traffic.stable_revision is not None:
            yield make_warning(
                "AUT021",
                ("spec", "traffic", "stableRevision"),
                "stableRevision has no effect: without canaryPercent, all traffic goes to the latest revision",
                "set canaryPercent, or remove stableRevision",
                fixes=remove_field(safe=True),
            )
        return
    path = ("spec", "traffic", "canaryPercent")
    if not mode.revisions:
        yield Problem(
            "SRV010",
            path,
            f"{mode.title} has no revisions to split traffic between, and a spec describes one deployment",
            "remove canaryPercent, or use serving: kserve or knative",
            fixes=choose_serving("kserve", "knative") + remove_field(),
        )
    elif serving == "knative" and traffic.stable_revision is None and percent < 100:  # noqa: PLR2004 - all of it
        yield Problem(
            "SRV011",
            path,
            "a Knative Service must name the revision that gets the remaining traffic",
            "set traffic.stableRevision (ebbtide apply fills it in), or use serving: kserve, which tracks the revision itself",
            fixes=choose_serving("kserve"),
        )
    elif serving == "kserve" and traffic.stable_revision is not None:
        yield make_warning(
            "AUT021",
            ("spec", "traffic", "stableRevision"),
            "stableRevision has no effect: KServe tracks the last revision that was rolled out",
            "remove stableRevision",
            fixes=remove_field(safe=True),
        )
    if mode.revisions:
        yield from _check_split_gateway(plan)


def _check_split_gateway(plan: Plan) -> Iterator[Problem]:
    """Warn of a canary whose replicas change behind a gateway that follows the pods of only one revision of a split.

    The activator follows the pods itself, so no split is wrong while it is in the path. A rendered targetBurstCapacity would
    vanish from the template when the canary is promoted, which would create a revision, so the spec must set it.
    """
    percent, auto, scaling = plan.spec.traffic.canary_percent, plan.spec.autoscaling, plan.scaling
    gateway = INGRESS_GATEWAYS.get(plan.cluster.knative.network.get("ingress-class", ""))
    if percent in {None, 0, 100} or gateway is None or gateway.follows_splits or scaling.minimum == scaling.maximum:
        return
    if auto.target_burst_capacity == -1:
        return
    readers = next(scalers for field, *_, scalers in SETTINGS if field == "targetBurstCapacity")
    yield make_warning(
        "AUT096",
        ("spec", "traffic", "canaryPercent"),
        f"{gateway.title} does not see new and removed replicas of a canary until the service changes: after the canary shrinks, "
        "requests can fail with status 503",
        "set autoscaling.targetBurstCapacity to -1, which keeps the activator in the path, or minReplicas and maxReplicas to "
        "the same number"
        if scaling.scaler in readers
        else "set minReplicas and maxReplicas to the same number until the canary ends",
    )


def _check_rollout(plan: Plan) -> Iterator[Problem]:
    """Reject a rollout without additional replicas where Ebbtide cannot move the devices of the old revision one at a time."""
    spec, cluster, scaler = plan.spec, plan.cluster, plan.scaling.scaler
    if spec.rollout.surge is None or plan.mode.field_table:
        return
    path = ("spec", "rollout", "surge")
    if plan.scaling.minimum < MIN_ROLLOUT_REPLICAS:
        yield Problem(
            "SRV180",
            path,
            f"surge: 0 replaces one replica at a time, and with a minimum of {plan.scaling.minimum} no replica would serve "
            "in the meantime",
            "set minReplicas to 2 or more, or remove rollout",
            fixes=set_value(2, ("spec", "autoscaling", "minReplicas")) + remove_field(("spec", "rollout")),
        )
    if plan.serving == "kserve-standard":
        if spec.deployment_strategy is not None:
            yield Problem(
                "SRV180",
                path,
                "deploymentStrategy sets how the replicas are replaced, too",
                "remove rollout, or remove deploymentStrategy",
                fixes=remove_field(("spec", "rollout")) + remove_field(("spec", "deploymentStrategy")),
            )
        return
    if plan.serving == "kserve":
        yield Problem(
            "SRV181",
            path,
            "KServe in Knative mode sets the traffic of its revisions itself, only between the newest and the one before, so "
            "it cannot follow the replicas",
            "use serving: knative or kserve-standard, or remove rollout",
            fixes=choose_serving("knative", "kserve-standard") + remove_field(("spec", "rollout")),
        )
        return
    if scaler == "knative-hpa":
        yield Problem(
            "SRV181",
            path,
            "Knative's HPA class keeps one replica of each former revision, which would hold its GPU",
            "scale on concurrency or throughput, set minReplicas and maxReplicas to the same number, or remove rollout",
            fixes=remove_field(("spec", "rollout")),
        )
    if parse_version(cluster.knative.version) < LIVE_SCALE_SINCE:
        yield Problem(
            "SRV181",
            path,
            f"Knative {cluster.knative.version} does not apply a changed min-scale to a live revision, by which the replicas "
            "are replaced",
            "use Knative 1.21 or later, or remove rollout",
            fixes=remove_field(("spec", "rollout")),
        )
    if cluster.knative.autoscaler.get("enable-scale-to-zero", "true") != "true":
        yield Problem(
            "SRV181",
            path,
            "scale to zero is disabled in this cluster (enable-scale-to-zero), so each former revision keeps one replica",
            "enable it in config-autoscaler and in knative.autoscaler of the profile, or remove rollout",
            fixes=remove_field(("spec", "rollout")),
        )
    for field, value, problem in (
        ("traffic.canaryPercent", spec.traffic.canary_percent, "it splits the requests by percent"),
        (
            "traffic.rolloutDurationSeconds",
            spec.traffic.rollout_duration_seconds,
            "Knative shifts the requests by time",
        ),
        ("autoscaling.initialReplicas", spec.autoscaling.initial_replicas, "a new revision starts with one replica"),
    ):
        if value is not None:
            yield Problem(
                "SRV180",
                path,
                f"{field} is set, too: {problem}, while surge: 0 replaces one replica at a time",
                f"remove {field}, or remove rollout",
                fixes=remove_field(("spec", *field.split("."))) + remove_field(("spec", "rollout")),
            )


def list_rollout_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield what a rollout without additional replicas costs."""
    if plan.spec.rollout.surge is None:
        return
    low = plan.scaling.minimum
    serving = f"surge is 0: {low - 1} of {count_noun(low, 'replica')} serve during an update"
    yield Decision(
        "rollout",
        "one replica at a time",
        f"{serving}, which takes {low} times the start of a replica and at least {DRAIN_SECONDS} s, in which its predecessor "
        "finishes its requests; ebbtide simulate --update-at predicts the response times"
        if plan.serving == "knative"
        else serving,
        ("spec.rollout.surge",),
    )


def list_timeout_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield the request timeout that KServe Standard sets on the HTTPRoute of a spec without one."""
    unset = plan.spec.serving_configuration.request_timeout_seconds is None
    if unset and plan.serving == "kserve-standard" and plan.cluster.kserve.http_route_timeouts:
        yield Decision(
            "request timeout",
            f"{DEFAULT_ROUTE_TIMEOUT_SECONDS} s",
            "the spec sets none, and KServe Standard limits each request of an HTTPRoute",
            ("spec.servingConfiguration.requestTimeoutSeconds",),
        )


def make_access_metadata(
    spec: InferenceSpec, cluster: ProfileSpec, kind: str | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations by which the gateway enforces access, with users and groups filled in.

    ``kind`` is the authorizationType of an additional host name. None uses that of servingPort.
    """
    port = spec.serving_port
    enforcer = cluster.access.enforces.get(kind or port.authorization_type or "public")
    if enforcer is None:
        return {}, {}
    users, groups = ",".join(port.authorized_users), ",".join(port.authorized_groups)

    def filled(values: dict[str, str]) -> dict[str, str]:
        return {key: value.replace("{users}", users).replace("{groups}", groups) for key, value in values.items()}

    return filled(enforcer.labels), filled(enforcer.annotations)


def make_metadata(plan: Plan, canonical: str | None) -> dict[str, Any]:
    """Return the top object's metadata: the recommended labels, the user's labels and annotations, and the canonical spec."""
    spec, user_metadata, cluster = plan.spec, plan.inference.metadata, plan.cluster
    labels = {
        **({keys.APP_NAME: plan.name, keys.APP_MANAGED_BY: "ebbtide"} if plan.adds_defaults else {}),
        **(user_metadata.labels or {}),
    }
    annotations = dict(user_metadata.annotations or {})
    if spec.traffic.rollout_duration_seconds is not None and plan.mode.revisions:
        annotations[keys.ROLLOUT_DURATION] = f"{spec.traffic.rollout_duration_seconds}s"
    if spec.project is not None:
        labels[keys.APP_PART_OF] = spec.project
        labels[keys.PROJECT] = spec.project
    if spec.category is not None:
        labels[keys.CATEGORY] = spec.category
    if spec.serving_port.cluster_local_access_only:
        if plan.mode.revisions:
            labels[keys.KNATIVE_VISIBILITY] = keys.CLUSTER_LOCAL
        if plan.mode.kind == "InferenceService":
            labels[keys.KSERVE_VISIBILITY] = keys.CLUSTER_LOCAL
    guarding_labels, guarding_annotations = make_access_metadata(spec, cluster)
    labels |= guarding_labels
    annotations |= guarding_annotations
    annotations |= make_floor_annotations(plan)
    if canonical is not None:
        annotations[keys.SPEC] = canonical
    return {
        "name": plan.name,
        "namespace": plan.namespace,
        **({"labels": labels} if labels else {}),
        **({"annotations": annotations} if annotations else {}),
    }


def make_pod_labels(plan: Plan, workload_labels: dict[str, str]) -> dict[str, str]:
    """Return the pods' labels: the name, by which affinity and monitors select, those of features, and the user's."""
    selected = plan.adds_defaults or plan.spec.pod_affinity is not None or plan.spec.pod_anti_affinity is not None
    if keys.APP_NAME in plan.mode.label_pods(plan.name):
        selected = False
    return {
        **({keys.APP_NAME: plan.name} if selected else {}),
        **workload_labels,
        **{label.name: label.value for label in plan.spec.labels if not label.exclude},
    }


def make_pod_annotations(plan: Plan) -> dict[str, str]:
    """Return the user's annotations for the pods, those of the metrics' port, and Knative's progress deadline."""
    annotations = make_scrape_annotations(plan)
    annotations |= {annotation.name: annotation.value for annotation in plan.spec.annotations if not annotation.exclude}
    seconds = find_initialization_timeout(plan.spec)
    if seconds is not None and plan.mode.revisions:
        annotations[keys.PROGRESS_DEADLINE] = f"{seconds}s"
    return annotations


#: The checks of what the kind of object and the cluster support, in the order of their problems.
CHECKS: Final[tuple[Callable[[Plan], Iterator[Problem]], ...]] = (
    _check_mode,
    _check_reserved,
    _check_access,
    _check_timeout,
    _check_initialization_timeout,
    _check_traffic,
    _check_rollout,
    _check_strategy,
    _check_hosts,
    _check_copied_metadata,
    _check_limits,
    _check_kserve_fields,
    _check_volumes,
    _check_containers,
    _check_stored_spec,
)
