"""Which object serves, and what every kind of it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, names
from ebbtide.base.problems import Problem, warning
from ebbtide.base.quantities import nano, whole
from ebbtide.base.versions import version
from ebbtide.translation import runtimes
from ebbtide.translation.gpu import BACKENDS
from ebbtide.translation.plan import Decision
from ebbtide.translation.serving import reserved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.profile.models import ProfileSpec
    from ebbtide.spec.inference import Inference, InferenceSpec
    from ebbtide.translation.plan import Plan, Serving

#: config-defaults' upstream values.
MAX_TIMEOUT: Final = "600"
#: Seconds that Kubernetes gives a pod to end, where nobody says otherwise.
USUAL_GRACE: Final = 300


def choose(plan: Plan) -> tuple[Serving, Decision]:
    """Return the kind of object. auto: a model goes to KServe, claims to KServe Standard, the rest to Knative."""
    asked = plan.spec.serving or "auto"
    fields = ("spec.serving",)
    if asked != "auto":
        return asked, Decision("serving", asked, "as written", fields)
    claims = BACKENDS[plan.pool.backend].claims if plan.gpu is not None and plan.pool is not None else None
    if claims is not None and claims.needed(plan.cluster):
        return "kserve-standard", Decision(
            "serving",
            "kserve-standard",
            "the GPU comes by a resource claim, which a Knative revision cannot carry",
            ("spec.compute", "profile.nodePools"),
        )
    if plan.spec.model is not None:
        return "kserve", Decision(
            "serving", "kserve", "a model by its format and address needs a KServe runtime", ("spec.model",)
        )
    return "knative", Decision("serving", "knative", "an image of its own needs nothing but Knative", ("spec.image",))


def check(plan: Plan) -> Iterator[Problem]:
    """Yield what this kind of object or this cluster refuses, and what surprises."""
    spec, cluster, serving = plan.spec, plan.cluster, plan.serving
    yield from _mode(plan)
    yield from reserved.variables(spec, cluster.kserve.version, serving)
    yield from reserved.labels(spec, serving)
    yield from reserved.port(spec, serving)
    yield from _access(spec, cluster)
    seconds = spec.serving_configuration.request_timeout_seconds
    if seconds is not None:
        yield from _timeout(seconds, cluster, serving)
    if serving == "kserve-standard" and _initialization(spec) is not None:
        yield Problem(
            "SRV014",
            ("spec", "servingConfiguration", "initializationTimeoutSeconds"),
            "KServe Standard gives its deployments a fixed deadline of 600 s, which the spec cannot change",
            "remove it, or use serving: kserve or knative",
        )
    yield from _traffic(spec, serving)
    if serving == "kserve-standard":
        for index, item in enumerate(spec.exposed_urls):
            if not item.exclude:
                yield Problem(
                    "SRV014",
                    ("spec", "exposedUrls", index),
                    "a host name of its own is a Knative DomainMapping, which KServe Standard does without",
                    "make an Ingress or HTTPRoute for it, or use serving: kserve or knative",
                )
    else:
        yield from _hosts(spec, cluster)
    if serving != "knative":
        yield from _copied(plan.inference)
        yield from _default_limits(spec, cluster) if spec.model is None else _runtime_limits(spec, cluster)
    if serving != "knative" and keys.SPEC not in cluster.kserve.annotation_disallow_list:
        yield warning(
            "SRV015",
            ("metadata", "name"),
            "this cluster's KServe copies annotations to the pods, so the spec is not kept on the object: each edit of "
            "it would make a new revision",
            "put ebbtide.dev/spec on serviceAnnotationDisallowedList (kustomize/kserve does) and into the profile",
        )


def _copied(inference: Inference) -> Iterator[Problem]:
    # pkg/controller/v1beta1/inferenceservice/components/predictor.go, buildObjectMeta.
    given, category = inference.metadata, inference.spec.category
    for where, value in (
        (("metadata", "labels"), given.labels),
        (("metadata", "annotations"), given.annotations),
        (("spec", "category"), category),
    ):
        if value:
            yield warning(
                "SRV022",
                where,
                "KServe copies the object's labels and annotations to its pods, so each edit of this replaces them",
                "use serving: knative, where they stay on the object, or change them together with the pods",
            )


def _hosts(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    if cluster.knative.network.get("autocreate-cluster-domain-claims") == "true":
        return
    for index, item in enumerate(spec.exposed_urls):
        if not item.exclude:
            yield warning(
                "SRV023",
                ("spec", "exposedUrls", index),
                "here a namespace answers to a host name only after an administrator's ClusterDomainClaim gives it the name; "
                "until then Knative says that another DomainMapping has it",
                "have the claim made, or set autocreate-cluster-domain-claims in config-network and in the profile's "
                "knative.network",
            )


def _default_limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    compute = spec.compute
    for what, field, asked, limit in (
        ("cpu", "cpuCoreLimit", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemoryLimit", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        given = cluster.kserve.limits.get(what)  # type: ignore[call-overload] # one of the two literals
        if given is None or limit is not None:
            continue
        said = f"KServe limits {what} to {given} where the spec has no limit (inferenceService.resource)"
        if asked is not None and (nano(asked) or 0) > (nano(given) or 0):
            yield Problem(
                "SRV024",
                ("spec", "compute", field),
                f"{said}, less than the request of {asked}: the pods would be refused",
                f"set {field}",
            )
        else:
            yield warning("SRV025", ("spec", "compute", field), said, f"set {field} to what the server needs")


def _runtime_limits(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    compute, kserve = spec.compute, cluster.kserve
    named = spec.model is not None and spec.model.runtime
    runtime = f"serving runtime {named}" if named else "the serving runtime that KServe chooses"
    what: runtimes.What
    for what, field, asked, limit in (
        ("cpu", "cpuCore", compute.cpu_core_request, compute.cpu_core_limit),
        ("memory", "cpuMemory", compute.cpu_memory_request, compute.cpu_memory_limit),
    ):
        least, most = runtimes.requested(spec, kserve, what), runtimes.limited(spec, kserve, what)
        if limit is not None and asked is None and least is not None and (nano(limit) or 0) < (nano(least) or 0):
            yield Problem(
                "SRV026",
                ("spec", "compute", f"{field}Request"),
                f"{runtime} asks for {least} of {what} where the spec has no request, more than its limit of {limit}: "
                "the pods would be refused",
                f"set {field}Request",
            )
        if limit is not None or most is None:
            continue
        said = f"{runtime} limits {what} to {most} where the spec has no limit"
        if asked is not None and (nano(asked) or 0) > (nano(most) or 0):
            yield Problem(
                "SRV026",
                ("spec", "compute", f"{field}Limit"),
                f"{said}, less than the request of {asked}: the pods would be refused",
                f"set {field}Limit",
            )
        else:
            yield warning(
                "SRV027", ("spec", "compute", f"{field}Limit"), said, f"set {field}Limit to what the model needs"
            )


def _initialization(spec: InferenceSpec) -> int | None:
    newer = spec.serving_configuration.initialization_timeout_seconds
    return newer if newer is not None else spec.autoscaling.initialization_timeout_seconds


def _mode(plan: Plan) -> Iterator[Problem]:
    cluster, serving, where = plan.cluster, plan.serving, ("spec", "serving")
    if serving != "kserve-standard" and not cluster.knative.installed:
        yield Problem(
            "SRV003",
            where,
            "this cluster has no Knative Serving",
            "use serving: kserve-standard, or install it",
        )
    if serving != "knative":
        wanted = "Standard" if serving == "kserve-standard" else "Knative"
        if not cluster.kserve.installed:
            yield Problem(
                "SRV003",
                where,
                "this cluster has no KServe",
                "use serving: knative with an image, or install it",
            )
        elif wanted not in cluster.kserve.modes:
            yield Problem(
                "SRV003",
                where,
                f"this cluster's KServe has no mode {wanted}",
                f"use the mode it has ({', '.join(cluster.kserve.modes)}), or enable it",
            )
        if len(plan.name) > names.LONGEST_KSERVE:
            yield Problem(
                "NAM002",
                ("metadata", "name"),
                f"the name has {len(plan.name)} characters; KServe makes <name>-predictor of it, and "
                "Knative adds -00001, which must fit 63",
                f"use at most {names.LONGEST_KSERVE} characters",
            )
    model = plan.spec.model
    if model is None:
        return
    if serving == "knative":
        yield Problem(
            "SRV002",
            ("spec", "model"),
            "a Knative Service knows images, not models",
            "remove model, or use serving: kserve",
        )
        return
    listed = cluster.kserve.runtimes
    if model.runtime is not None and listed and model.runtime not in listed:
        yield Problem(
            "SRV018",
            ("spec", "model", "runtime"),
            f"this cluster has no serving runtime {model.runtime}",
            f"use one of {', '.join(listed)}, or leave it out",
        )
    if model.uri is not None:
        yield from _address(model.uri, cluster)


#: Schemes that KServe's storage initializer reads (pkg/controller/v1beta1/inferenceservice/utils/utils.go).
SCHEMES: Final = {"gs", "s3", "pvc", "file", "http", "https", "hdfs", "webhdfs", "oci", "hf"}
#: A model from an image that Kubernetes mounts itself: KServe's since this version, and Kubernetes' by itself since that
#: (kserve pkg/utils/imagevolume.go).
NATIVE: Final = "oci+native"
NATIVE_SINCE: Final = (0, 20)
IMAGE_VOLUMES: Final = "ImageVolume"
IMAGE_VOLUMES_SINCE: Final = (1, 35)


def _address(uri: str, cluster: ProfileSpec) -> Iterator[Problem]:
    where = ("spec", "model", "uri")
    scheme, separator, _ = uri.partition("://")
    known = SCHEMES | {NATIVE} if version(cluster.kserve.version) >= NATIVE_SINCE else SCHEMES
    if not separator:
        yield Problem(
            "SRV019",
            where,
            f"{uri!r} is not an address with a scheme",
            "write it as s3://bucket/path, gs://, hf://org/model, pvc://claim/path, https:// or oci://",
        )
    elif scheme not in known:
        yield Problem(
            "SRV019",
            where,
            f"KServe's storage initializer reads no {scheme}://",
            f"use one of {', '.join(sorted(known))}",
        )
    elif (
        scheme == NATIVE
        and version(cluster.kubernetes.version) < IMAGE_VOLUMES_SINCE
        and IMAGE_VOLUMES not in cluster.kubernetes.feature_gates
    ):
        yield Problem(
            "SRV019",
            where,
            f"Kubernetes {cluster.kubernetes.version} mounts no images as volumes, unless its feature gate {IMAGE_VOLUMES} "
            "is on",
            f"use oci://, or switch {IMAGE_VOLUMES} on and list it in kubernetes.featureGates of the profile",
        )


def _access(spec: InferenceSpec, cluster: ProfileSpec) -> Iterator[Problem]:
    kind = spec.serving_port.authorization_type or "public"
    if kind != "public" and kind not in cluster.access.enforces:
        yield Problem(
            "SRV005",
            ("spec", "servingPort", "authorizationType"),
            f"nothing in this cluster enforces {kind}: the endpoint would be open to everyone",
            "name the gateway that does in access.enforces of the profile, or use clusterLocalAccessOnly: true with public",
        )


def _timeout(seconds: int, cluster: ProfileSpec, serving: Serving) -> Iterator[Problem]:
    where = ("spec", "servingConfiguration", "requestTimeoutSeconds")
    if serving == "kserve-standard":
        yield Problem(
            "SRV014",
            where,
            "a request's time-out is queue-proxy's, which KServe Standard does without",
            "set it at the gateway, or use serving: kserve or knative",
        )
        return
    most = whole(cluster.knative.defaults.get("max-revision-timeout-seconds", MAX_TIMEOUT)) or 0
    if seconds > most:
        yield Problem(
            "SRV007",
            where,
            f"the cluster takes a time-out of at most {most} s (max-revision-timeout-seconds)",
            f"use at most {most}, or raise it in config-defaults and in the profile",
        )
    elif seconds > USUAL_GRACE:
        yield warning(
            "SRV008",
            where,
            f"Knative also gives a pod {seconds} s to end, so a replica that is taken away may hold its GPU that long",
            "keep it as short as the longest reply",
        )


def _traffic(spec: InferenceSpec, serving: Serving) -> Iterator[Problem]:
    traffic = spec.traffic
    percent = traffic.canary_percent
    if percent is None:
        if traffic.stable_revision is not None:
            yield warning(
                "AUT021",
                ("spec", "traffic", "stableRevision"),
                "without canaryPercent all traffic goes to the newest revision, so this changes nothing",
                "set canaryPercent, or remove it",
            )
        return
    where = ("spec", "traffic", "canaryPercent")
    if serving == "kserve-standard":
        yield Problem(
            "SRV010",
            where,
            "KServe Standard has one deployment and cannot split traffic by percent",
            "use serving: kserve or knative",
        )
    elif serving == "knative" and traffic.stable_revision is None and percent < 100:  # noqa: PLR2004 - all of it
        yield Problem(
            "SRV011",
            where,
            "a Knative Service must name the revision that gets the rest",
            "set traffic.stableRevision (apply fills it in), or use serving: kserve, which remembers it",
        )
    elif serving == "kserve" and traffic.stable_revision is not None:
        yield warning(
            "AUT021",
            ("spec", "traffic", "stableRevision"),
            "KServe itself remembers the revision that was rolled out last, so this changes nothing",
            "remove it",
        )


def guards(spec: InferenceSpec, cluster: ProfileSpec, kind: str | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations by which the gateway keeps others out, with their names filled in.

    ``kind`` is the authorizationType of a host name of its own, where it has one; else servingPort's holds.
    """
    port = spec.serving_port
    enforcer = cluster.access.enforces.get(kind or port.authorization_type or "public")
    if enforcer is None:
        return {}, {}
    users, groups = ",".join(port.authorized_users), ",".join(port.authorized_groups)

    def filled(values: dict[str, str]) -> dict[str, str]:
        return {key: value.replace("{users}", users).replace("{groups}", groups) for key, value in values.items()}

    return filled(enforcer.labels), filled(enforcer.annotations)


def metadata(plan: Plan, canonical: str | None) -> dict[str, Any]:
    """Return the top object's metadata: recommended labels, the user's own, and the canonical spec."""
    spec, given, cluster = plan.spec, plan.inference.metadata, plan.cluster
    labels = {
        keys.APP_NAME: plan.name,
        keys.APP_MANAGED_BY: "ebbtide",
        **(given.labels or {}),
    }
    annotations = dict(given.annotations or {})
    if spec.project is not None:
        labels[keys.APP_PART_OF] = spec.project
        labels[keys.PROJECT] = spec.project
    if spec.category is not None:
        labels[keys.CATEGORY] = spec.category
    if spec.serving_port.cluster_local_access_only:
        if plan.serving != "kserve-standard":
            labels[keys.KNATIVE_VISIBILITY] = keys.CLUSTER_LOCAL
        if plan.serving != "knative":
            labels[keys.KSERVE_VISIBILITY] = keys.CLUSTER_LOCAL
    guarding, told = guards(spec, cluster)
    labels |= guarding
    annotations |= told
    if canonical is not None:
        annotations[keys.SPEC] = canonical
    return {
        "name": plan.name,
        "namespace": plan.namespace,
        "labels": labels,
        "annotations": annotations or None,
    }


def pod_labels(plan: Plan, own: dict[str, str]) -> dict[str, str]:
    """Return the pods' labels: the name that affinity and monitors select by, the features' and the user's."""
    return {
        keys.APP_NAME: plan.name,
        **own,
        **{item.name: item.value for item in plan.spec.labels if not item.exclude},
    }


def pod_annotations(plan: Plan) -> dict[str, str]:
    """Return the user's annotations for the pods, and the progress deadline that Knative reads there."""
    found = {item.name: item.value for item in plan.spec.annotations if not item.exclude}
    seconds = _initialization(plan.spec)
    if seconds is not None and plan.serving != "kserve-standard":
        found[keys.PROGRESS_DEADLINE] = f"{seconds}s"
    return found
