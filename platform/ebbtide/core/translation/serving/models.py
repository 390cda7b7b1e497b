"""The checks of a model: its storage, its serving runtime and its port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Path, Problem, choose_serving, make_warning, offer_values, remove_field
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation import runtimes
from ebbtide.core.translation.modes import ServingMode
from ebbtide.core.translation.plan import Plan

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.spec.serving import ServedModel


def mounts_images(cluster: ProfileSpec) -> bool:
    """Return whether Kubernetes mounts images as volumes."""
    gates = cluster.kubernetes.feature_gates
    return parse_version(cluster.kubernetes.version) >= IMAGE_VOLUMES_SINCE or IMAGE_VOLUMES in gates


def report_image_volumes(code: str, path: Path, subject: str, cluster: ProfileSpec, other: str = "") -> Problem:
    """Return the problem that Kubernetes does not mount images. ``other`` is a fix to try first; without it, remove the field."""
    gate = f"turn {IMAGE_VOLUMES} on and add it to kubernetes.featureGates of the profile"
    message = (
        f"{subject} feature gate {IMAGE_VOLUMES}, which is off by default in Kubernetes {cluster.kubernetes.version}"
    )
    if other:
        return Problem(code, path, message, f"{other}, or {gate}")
    return Problem(code, path, message, f"{gate}, or remove {path[-1]}", fixes=remove_field())


#: The scheme of a model from an image that Kubernetes mounts as a volume, the first KServe version with it, the feature gate
#: that it needs, and the Kubernetes version from which the gate is on by default (kserve pkg/utils/imagevolume.go).
NATIVE: Final = "oci+native"
FROM_IMAGE: Final = frozenset({"oci", NATIVE})
NATIVE_SINCE: Final = (0, 20)
IMAGE_VOLUMES: Final = "ImageVolume"
IMAGE_VOLUMES_SINCE: Final = (1, 35)


def _check_model_uri(uri: str, path: Path, cluster: ProfileSpec, mode: ServingMode) -> Iterator[Problem]:
    scheme, separator, _ = uri.partition("://")
    schemes = mode.schemes | {NATIVE} if parse_version(cluster.kserve.version) >= NATIVE_SINCE else mode.schemes
    if not separator:
        message = f"invalid URI {uri!r}: must have a scheme"
        fix = "write it as s3://bucket/path, gs://bucket/path, hf://org/model, pvc://claim/path, https://host/path or oci://image"
        yield Problem("SRV019", path, message, fix)
    elif scheme not in schemes:
        message = (
            f"{f'{mode.title} of ' if mode.language_model else ''}KServe {cluster.kserve.version} does not support the URI "
            f"scheme {scheme}://"
        )
        fix = f"use one of {', '.join(sorted(schemes))}"
        yield Problem("SRV019", path, message, fix, fixes=offer_values(sorted(schemes)))
    elif scheme in FROM_IMAGE:
        yield from _check_model_image(scheme, path, cluster)


def _check_model_image(scheme: str, path: Path, cluster: ProfileSpec) -> Iterator[Problem]:
    """Check that KServe adds the image to the pod, and that Kubernetes mounts it.

    KServe's webhook changes the pod and not the revision, so Knative's feature flags do not apply (kserve
    pkg/webhook/admission/pod/mutator.go and storage_initializer_injector.go, InjectModelcar).
    """
    if cluster.kserve.oci_models == "none":
        message = f"{scheme}:// needs models from images, which are off in this cluster's KServe"
        fix = (
            "store the model at another address (s3://, pvc://), or set enableModelcar: true in storageInitializer of KServe's "
            "inferenceservice-config and kserve.ociModels: modelcar in the profile"
        )
        yield Problem("SRV059", path, message, fix)
    elif (scheme == NATIVE or cluster.kserve.oci_models == "native") and not mounts_images(cluster):
        modelcar = cluster.kserve.oci_models == "modelcar"
        other = "use oci://" if modelcar else "store the model at another address (s3://, pvc://)"
        yield report_image_volumes("SRV019", path, f"{scheme}:// needs", cluster, other)


def _check_format(model: ServedModel, plan: Plan) -> Iterator[Problem]:
    """Yield a format that no known serving runtime supports. ModelMesh has other runtimes."""
    formats = sorted(runtimes.find_formats(model, plan.cluster.kserve))
    # The check of patches renders a spec without the format.
    if not (model.format and formats) or model.format in formats or plan.uses_model_mesh:
        return
    from difflib import get_close_matches  # noqa: PLC0415 - only an unknown format needs it

    by_word = {name.lower(): name for name in formats}
    meant = [by_word[word] for word in get_close_matches(model.format.lower(), by_word, 1)] or formats
    message = f"none of KServe's serving runtimes supports the format {model.format}"
    other = "add the name of one that does to kserve.runtimes of the profile"
    if model.runtime is not None:
        message, other = (
            f"serving runtime {model.runtime} does not support the format {model.format}",
            "another runtime",
        )
    elif not plan.cluster.kserve.runtimes:
        message += ", and the profile does not list the cluster's own"
        other = "name one of the cluster in runtime"
    fix = f"set format to {' or '.join(meant)}, or {other}"
    yield make_warning("SRV208", ("spec", "model", "format"), message, fix, offer_values(meant))


def check_model(plan: Plan) -> Iterator[Problem]:
    cluster, model = plan.cluster, plan.spec.model
    if model is None:
        return
    if plan.serving == "knative":
        message = "a Knative Service runs an image and does not support model"
        fix = "remove model and set image, or use serving: kserve"
        yield Problem("SRV002", ("spec", "model"), message, fix, fixes=choose_serving("kserve") + remove_field())
        return
    if model.uri is not None:
        yield from _check_model_uri(model.uri, ("spec", "model", "uri"), cluster, plan.mode)
    if plan.mode.language_model:
        return
    if model.name is not None:
        message = "the serving runtime of an InferenceService sets the name of the model in requests"
        fix = "remove name, or use serving: llm"
        yield Problem("SRV202", ("spec", "model", "name"), message, fix, fixes=choose_serving("llm") + remove_field())
    known = cluster.kserve.runtimes
    if model.runtime is not None and known and model.runtime not in known:
        message = f"serving runtime {model.runtime} not found in the cluster profile"
        fix = f"use one of {', '.join(known)}, or remove runtime so that KServe chooses one"
        yield Problem("SRV018", ("spec", "model", "runtime"), message, fix, fixes=offer_values(known) + remove_field())
    yield from _check_format(model, plan)
    for index, item in enumerate(model.uris):
        yield from _check_model_uri(item.uri, ("spec", "model", "uris", index, "uri"), cluster, plan.mode)
    port = plan.spec.serving_port
    if port.container not in {None, runtimes.HTTP_PORT} and runtimes.has_fixed_port(plan.spec, cluster.kserve):
        message = f"the serving runtime listens on port {runtimes.HTTP_PORT}, not on {port.container}, so the service would never be ready"
        fix = "remove container, or set args so that the runtime listens on this port"
        yield Problem("SRV061", ("spec", "servingPort", "container"), message, fix, fixes=remove_field())
