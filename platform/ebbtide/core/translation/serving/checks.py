"""The choice of the serving object's kind, and the checks of what that kind and the cluster support."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import keys, names
from ebbtide.core.base.problems import Problem, choose_serving, make_warning, remove_field
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.objects import read_field
from ebbtide.core.translation.plan import Decision, Plan, Serving
from ebbtide.core.translation.runtimes import check_limits
from ebbtide.core.translation.serving import reserved
from ebbtide.core.translation.serving.models import check_model, mounts_images, report_image_volumes
from ebbtide.core.translation.serving.timeouts import check_initialization_timeout, check_spot_nodes, check_timeout
from ebbtide.core.translation.serving.updates import check_rollout, check_strategy, check_traffic

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec


def choose(plan: Plan) -> tuple[Serving, Decision]:
    """Return the kind of object. ``auto`` is KServe for a model, KServe Standard for a resource claim, else Knative."""
    serving = plan.spec.serving or "auto"
    fields = ("spec.serving",)
    if serving != "auto":
        return serving, Decision("serving", serving, "the spec sets it", fields)
    claims = BACKENDS[plan.pool.backend].claims if plan.gpu is not None and plan.pool is not None else None
    if claims is not None and claims.needed(plan.cluster):
        because = "the GPU is allocated by a resource claim, which a Knative revision does not support"
        serving = "kserve-standard"
        return serving, Decision("serving", serving, because, ("spec.compute", "profile.nodePools"))
    if plan.spec.model is not None:
        return "kserve", Decision("serving", "kserve", "a model is served by a KServe serving runtime", ("spec.model",))
    return "knative", Decision("serving", "knative", "an image without a model needs only Knative", ("spec.image",))


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
            message = f"exposedUrls needs a Knative DomainMapping, which {mode.title} does not use"
            fix = "remove the URL and create an Ingress or HTTPRoute for it, or use serving: kserve or knative"
            yield Problem("SRV014", path, message, fix, fixes=choose_serving("kserve", "knative"))
        else:
            yield make_warning(
                "SRV023",
                path,
                "this cluster serves a host name only after an administrator has created a ClusterDomainClaim for it and the "
                "namespace; until then Knative reports that another DomainMapping has the host name",
                "ask an administrator to create the ClusterDomainClaim, or set autocreate-cluster-domain-claims: true in "
                "config-network and in knative.network of the profile",
            )


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
KSERVE_FIELDS: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(("transformer", "explainer", "logger", "batcher"), (0, 1)),
    **dict.fromkeys(("logger.storage", "model.uris"), (0, 16)),
    **dict.fromkeys(("logger.marshallerUrl", "logger.batchSize", "logger.batchInterval"), (0, 17)),
}


def _check_kserve_fields(plan: Plan) -> Iterator[Problem]:
    """Reject fields that only KServe, or only a later version of it, supports."""
    if plan.mode.language_model:
        return
    spec, serving, version = plan.spec, plan.serving, plan.cluster.kserve.version
    for field, since in KSERVE_FIELDS.items():
        if not read_field(spec, field):
            continue
        path = ("spec", *field.split("."))
        if serving == "knative" and "." not in field:
            message = f"a Knative Service does not support {field}, which only KServe has"
            fix = f"use serving: kserve, or remove {field}"
            yield Problem("SRV044", path, message, fix, fixes=choose_serving("kserve") + remove_field())
        elif serving != "knative" and parse_version(version) < since:
            message = f"KServe {version} does not support {field}"
            fix = f"remove it, or use KServe {since[0]}.{since[1]} or later"
            yield Problem("SRV045", path, message, fix, fixes=remove_field())


def _check_volumes(plan: Plan) -> Iterator[Problem]:
    spec, cluster = plan.spec, plan.cluster
    for index, volume in enumerate(spec.storage.csi_volume):
        if not (volume.exclude or volume.read_only or not plan.mode.revisions):
            message = "Knative accepts a CSI volume only with a read-only mount"
            fix = "remove readOnly, or use serving: kserve-standard"
            path = ("spec", "storage", "csiVolume", index, "readOnly")
            yield Problem("STO020", path, message, fix, fixes=choose_serving("kserve-standard") + remove_field())
    if any(not volume.exclude for volume in spec.storage.image_volume) and not mounts_images(cluster):
        yield report_image_volumes("STO021", ("spec", "storage", "imageVolume"), "image volumes need", cluster)


def _check_copied_metadata(plan: Plan) -> Iterator[Problem]:
    # pkg/controller/v1beta1/inferenceservice/components/predictor.go, buildObjectMeta.
    if not plan.mode.copies_metadata or plan.uses_model_mesh:
        return
    for path in (("metadata", "labels"), ("metadata", "annotations"), ("spec", "category")):
        value = read_field(plan.inference, ".".join(path))
        if value:
            message = "KServe copies the object's labels and annotations to its pods, so each edit of this field replaces the pods"
            fix = "use serving: knative, which keeps them on the object, or edit them only together with other changes to the pods"
            yield make_warning("SRV022", path, message, fix, fixes=choose_serving("knative"))


def _check_mode(plan: Plan) -> Iterator[Problem]:
    cluster, serving, path = plan.cluster, plan.serving, ("spec", "serving")
    if plan.mode.revisions and not cluster.knative.installed:
        message = "Knative Serving is not installed in this cluster"
        fix = "use serving: kserve-standard, or install Knative Serving and set knative.installed: true in the profile"
        yield Problem("SRV003", path, message, fix, fixes=choose_serving("kserve-standard"))
    if serving != "knative":
        mode = plan.mode
        if not cluster.kserve.installed:
            message = "KServe is not installed in this cluster"
            fix = "use serving: knative with an image, or install KServe and set kserve.installed: true in the profile"
            yield Problem("SRV003", path, message, fix, fixes=choose_serving("knative"))
        elif mode.language_model:
            yield from _check_llm(cluster)
        elif mode.kserve not in cluster.kserve.modes:
            message = f"KServe's {mode.kserve} mode is not enabled in this cluster"
            fix = (
                f"use an enabled mode ({', '.join(cluster.kserve.modes)}), or enable {mode.kserve} and add it to kserve.modes of the "
                "profile"
            )
            yield Problem("SRV003", path, message, fix)
        if not mode.language_model and len(plan.name) > names.LONGEST_KSERVE:
            message = (
                f"the name has {len(plan.name)} characters; under KServe at most {names.LONGEST_KSERVE} are valid, since "
                "<name>-predictor-00001 must fit in 63"
            )
            fix = f"use a name of at most {names.LONGEST_KSERVE} characters"
            yield Problem("NAM002", ("metadata", "name"), message, fix)


#: The first version of KServe whose LLMInferenceService has the API version v1alpha2.
LLM_SINCE: Final = (0, 17)


def _check_llm(cluster: ProfileSpec) -> Iterator[Problem]:
    if cluster.kserve.llm == "none":
        message = "LLMInferenceService is not available in this cluster"
        fix = "use serving: kserve-standard, or install kserve-llmisvc and set kserve.llm: route or scheduler in the profile"
        yield Problem("SRV003", ("spec", "serving"), message, fix, fixes=choose_serving("kserve-standard"))
    elif parse_version(cluster.kserve.version) < LLM_SINCE:
        message = f"the LLMInferenceService of KServe {cluster.kserve.version} is older than v1alpha2, the API version that is rendered"
        fix = "use serving: kserve-standard, or use KServe 0.17 or later"
        yield Problem("SRV003", ("spec", "serving"), message, fix, fixes=choose_serving("kserve-standard"))


def _check_access(plan: Plan) -> Iterator[Problem]:
    kind = plan.spec.serving_port.authorization_type or "public"
    if kind != "public" and not plan.mode.language_model and kind not in plan.cluster.access.enforces:
        message = f"no gateway in this cluster enforces authorizationType {kind}, so the endpoint would be public"
        fix = (
            f"add a gateway that enforces {kind} to access.enforces of the profile, or use authorizationType: public with "
            "clusterLocalAccessOnly: true"
        )
        yield Problem("SRV005", ("spec", "servingPort", "authorizationType"), message, fix)


#: The checks of what the kind of object and the cluster support, in the order of their problems.
CHECKS: Final[tuple[Callable[[Plan], Iterator[Problem]], ...]] = (
    _check_mode,
    check_model,
    reserved.check_variables,
    reserved.check_labels,
    reserved.check_port,
    reserved.check_container_port,
    _check_access,
    check_timeout,
    check_spot_nodes,
    check_initialization_timeout,
    check_traffic,
    check_rollout,
    check_strategy,
    _check_hosts,
    _check_copied_metadata,
    check_limits,
    _check_kserve_fields,
    _check_volumes,
    reserved.check_containers,
    _check_stored_spec,
)
