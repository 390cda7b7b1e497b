"""Rules for image, model, ports, host names and SLO, and for fields that need Run:ai's control plane."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Path, Problem, make_warning, offer_values, remove_field, set_value, shorten_text
from ebbtide.core.spec.objectives import DEFAULT_TOKEN_PERCENT

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference, InferenceSpec
    from ebbtide.core.spec.serving import ExposedUrl, ModelStorage, ServedModel, ServingPort, Slo

#: The port of a server that sets none, in Knative and in KServe's runtimes.
DEFAULT_PORT: Final = 8080
REGISTRY: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
#: A repository of at least two characters, with a tag, a digest, or both.
REPOSITORY: Final = re.compile(r"[a-z0-9_./-]{2,255}(:[A-Za-z0-9_.-]{1,128})?(@sha256:[0-9a-f]{64})?")

#: The types of store that KServe's storage Secret supports (pkg/credentials/service_account_credentials.go).
STORES: Final = ("s3", "hdfs", "webhdfs")

#: The directory of the model in the container, if none is set (pkg/constants/constants.go, DefaultModelLocalMountPath).
MODELS: Final = "/mnt/models"


# fmt: off
#: The lists of a spec whose items may have ``exclude``: the path of each, and the function that returns it.
EXCLUDABLE: Final[tuple[tuple[Path, Callable[[InferenceSpec], Sequence[Any]]], ...]] = tuple(
    (("spec", *path.split(".")), attrgetter(attribute)) for path, attribute in (
        ("environmentVariables", "environment_variables"), ("labels", "labels"), ("annotations", "annotations"),
        ("tolerations", "tolerations"), ("imagePullSecrets", "image_pull_secrets"),
        ("compute.extendedResources", "compute.extended_resources"), ("exposedUrls", "exposed_urls"), ("ports", "ports"),
        ("storage.configMapVolume", "storage.config_map_volume"),
        ("storage.secretVolume", "storage.secret_volume"), ("storage.emptyDirVolume", "storage.empty_dir_volume"),
        ("storage.pvc", "storage.pvc"), ("storage.imageVolume", "storage.image_volume"),
        ("storage.csiVolume", "storage.csi_volume"),
    )
)
# fmt: on
#: An option with a value after a space, without a value after =.
OPTION_WITH_VALUE: Final = re.compile(r"(--?[A-Za-z][\w.-]*) +(\S.*)")
#: The fix of an image reference that cannot be parsed.
IMAGE_FIX: Final = "use a lowercase reference such as registry.example.com/team/name:tag, or a digest (@sha256:…)"


def check_serving(inference: Inference) -> Iterator[Problem]:
    """Check image, model, command, ports, access control, exposed URLs and SLO."""
    spec = inference.spec
    if spec.image is None and spec.model is None:
        fix = "set image, or model with format and uri"
        yield Problem("SRV001", ("spec", "image"), "image and model are missing", fix)
    elif spec.image is not None and not is_image(spec.image):
        message = f"invalid image reference {spec.image!r}: Knative rejects references that it cannot parse"
        yield Problem("SRV021", ("spec", "image"), message, IMAGE_FIX)
    for field, value in (("command", spec.command), ("args", spec.args)):
        if isinstance(value, str) and not _split_words(value):
            message = f"invalid {field}: cannot be split into arguments by shell rules"
            yield Problem("SRV016", ("spec", field), message, "close the quotes, or use a list of arguments")
        elif isinstance(value, list):
            yield from _check_options(("spec", field), value)
    yield from _check_characters(spec)
    if spec.model is not None:
        yield from _check_model(spec, spec.model)
    yield from _check_access(spec.serving_port)
    yield from _check_ports(spec)
    if spec.slo is not None:
        yield from _check_slo(spec.slo)


def _check_options(where: Path, words: list[str]) -> Iterator[Problem]:
    """Warn about an option and its value in one item, which a program reads as the name of the option."""
    for index, word in enumerate(words):
        option = OPTION_WITH_VALUE.fullmatch(word)
        if option is not None:
            name, value = option.groups()
            message = f"item {index + 1} of {where[-1]} has an option and its value in one argument, which programs do not split"
            fix = f"write two items: {name} and {shorten_text(value)}"
            split = [*words[:index], name, value, *words[index + 1 :]]
            yield make_warning("SRV072", (*where, index), message, fix, fixes=set_value(split, where))


def _check_characters(spec: InferenceSpec) -> Iterator[Problem]:
    """Reject a NUL character, which ends a string in Linux."""
    values: dict[Path, Any] = {("spec", "command"): spec.command, ("spec", "args"): spec.args}
    values |= {
        ("spec", "environmentVariables", index): item.value for index, item in enumerate(spec.environment_variables)
    }
    for where, value in values.items():
        if value is not None and any("\0" in text for text in ([value] if isinstance(value, str) else value)):
            message = "the text has a NUL character, with which Linux starts no program"
            yield Problem("SRV071", where, message, "remove the character")


def _check_access(port: ServingPort) -> Iterator[Problem]:
    """Check that the authorization type and the lists of users and groups agree."""
    where = ("spec", "servingPort")
    if port.authorized_users and port.authorized_groups:
        message = "authorizedUsers and authorizedGroups are mutually exclusive"
        yield Problem("SRV006", (*where, "authorizedGroups"), message, "keep one of them")
    kind = port.authorization_type or "public"
    for field, items in (("authorizedUsers", port.authorized_users), ("authorizedGroups", port.authorized_groups)):
        if kind == field and not items:
            message, fix = f"authorizationType is {kind}, but {field} is empty", f"list at least one entry in {field}"
            yield Problem("SRV006", (*where, field), message, fix)
        if items and kind not in {field, "authorizedUsersOrGroups"}:
            message = (
                f"{field} is set, but authorizationType is {kind}, which does not restrict access to the listed entries"
            )
            fix, fixes = f"set authorizationType: {field}", set_value(field, "authorizationType")
            yield Problem("SRV006", (*where, field), message, fix, fixes=fixes)
    if kind == "authorizedUsersOrGroups" and not (port.authorized_users or port.authorized_groups):
        message = f"authorizationType is {kind}, but no users or groups are listed"
        fix = "list entries in authorizedUsers or authorizedGroups"
        yield Problem("SRV006", (*where, "authorizationType"), message, fix)


def _check_ports(spec: InferenceSpec) -> Iterator[Problem]:
    """Check that only the serving port is served, and that no host name contradicts cluster-local access."""
    serving_port = spec.serving_port.container or DEFAULT_PORT
    for index, extra in enumerate(spec.ports):
        is_served = extra.container == serving_port and extra.service_type in {None, "ClusterIP"}
        if not extra.exclude and (not is_served or extra.external is not None):
            port = "a port without container" if extra.container is None else f"port {extra.container}"
            wanted = extra.service_type or ("an additional port" if extra.external is None else "an external port")
            message = f"{port} as {wanted} is not supported: only servingPort is served, at the service's URL"
            fix = "serve everything on servingPort, or run the rest as a separate service"
            yield Problem("SRV012", ("spec", "ports", index), message, fix)
    for index, url in enumerate(spec.exposed_urls):
        if url.exclude:
            continue
        where = ("spec", "exposedUrls", index)
        yield from _check_exposed_url(where, url, serving_port)
        if spec.serving_port.cluster_local_access_only:
            message = (
                "exposedUrls contradicts clusterLocalAccessOnly: a DomainMapping always makes the service reachable from "
                "outside the cluster"
            )
            fixes = remove_field(("spec", "exposedUrls"))
            yield Problem("SRV028", where, message, "remove exposedUrls or clusterLocalAccessOnly", fixes=fixes)


#: A limit below this is most likely in seconds.
FASTEST_MILLISECONDS: Final = 5


def _check_slo(slo: Slo) -> Iterator[Problem]:
    """Reject percentages of objectives of tokens that are not set, and warn of objectives that are met with another one."""
    mean, response = slo.mean_latency_milliseconds, slo.p95_latency_milliseconds
    if mean is not None and response is not None and mean > response:
        message = "meanLatencyMilliseconds is above p95LatencyMilliseconds, so it is almost always met when the 95th percentile is"
        where, fix = ("spec", "slo", "meanLatencyMilliseconds"), "lower meanLatencyMilliseconds, or remove it"
        yield make_warning("SLO001", where, message, fix, fixes=remove_field())
    for field, limit, percent in (
        ("timeToFirstToken", slo.time_to_first_token_milliseconds, slo.time_to_first_token_percent),
        ("interToken", slo.inter_token_milliseconds, slo.inter_token_percent),
    ):
        if percent is not None and limit is None:
            message = f"{field}Percent has no effect without {field}Milliseconds"
            fix = f"set {field}Milliseconds, or remove {field}Percent"
            yield Problem("SLO083", ("spec", "slo", f"{field}Percent"), message, fix, fixes=remove_field())
    for field, value in (
        ("uptimePercent", slo.uptime_percent),
        ("timeToFirstTokenPercent", slo.time_to_first_token_percent),
        ("interTokenPercent", slo.inter_token_percent),
    ):
        if value is not None and value <= 1:
            message, meant = f"{field} {value:g} is at most one of a hundred", min(value, 0.9999) * 100
            where, fix = ("spec", "slo", field), f"write {meant:g}, if this share is meant"
            yield make_warning("SLO085", where, message, fix, fixes=set_value(meant))
    for field, value in (("meanLatencyMilliseconds", mean), ("p95LatencyMilliseconds", response)):
        if value is not None and value < FASTEST_MILLISECONDS:
            message = f"{field} {value:g} is less than the way through the gateway and queue-proxy takes"
            where, fix = ("spec", "slo", field), f"write {value * 1000:g}, if seconds are meant"
            yield make_warning("SLO086", where, message, fix, fixes=set_value(value * 1000))
    first = slo.time_to_first_token_milliseconds
    share = slo.time_to_first_token_percent or DEFAULT_TOKEN_PERCENT
    if first is not None and response is not None and first > response and share <= DEFAULT_TOKEN_PERCENT:
        message = (
            f"timeToFirstTokenMilliseconds ({first:g}) is above p95LatencyMilliseconds ({response:g}), so it is met whenever "
            "the whole response is in time"
        )
        where, fix = ("spec", "slo", "timeToFirstTokenMilliseconds"), f"use at most {response:g}"
        yield make_warning("SLO084", where, message, fix, fixes=set_value(response))


def _check_model(spec: InferenceSpec, model: ServedModel) -> Iterator[Problem]:
    """Check that a model has at most one location, and credentials that KServe can read.

    Upstream: kserve pkg/apis/serving/v1beta1/component.go (validateStorageSpec),
    pkg/credentials/service_account_credentials.go (CreateStorageSpecSecretEnvs), pkg/webhook/admission/pod,
    pkg/controller/v1beta1/inferenceservice/components (addStorageInitializerAnnotations).
    """
    where, storage = ("spec", "model"), model.storage
    possible = (("uri", model.uri), ("uris", model.uris), ("storage.path", storage is not None and storage.path))
    locations = [name for name, value in possible if value]
    # A runtime can load a model by name, or contain it. Its arguments and variables name the model then.
    by_runtime = spec.args or spec.command or spec.environment_variables or model.runtime or spec.image
    if not locations and not by_runtime and spec.defaults != "none":
        fix = "set model.uri, model.storage.path, or args that name the model (--model_id=org/model)"
        yield Problem("SRV001", (*where, "uri"), "the location of the model is missing", fix)
    for name in locations[1:]:
        message = (
            f"model.{locations[0]} and model.{name} are mutually exclusive: KServe loads a model from one location"
        )
        fix = f"remove {name.rpartition('.')[2]}, or remove {locations[0]}"
        yield Problem("SRV039", (*where, *name.split(".")), message, fix, fixes=remove_field())
    yield from _check_model_uris(model)
    if spec.image is not None and model.runtime_version is not None:
        message = "runtimeVersion replaces the tag of the image, and the spec sets image, which has its own"
        fix = "remove runtimeVersion, and set the tag in image"
        yield Problem("SRV040", (*where, "runtimeVersion"), message, fix, fixes=remove_field())
    if storage is not None:
        yield from _check_model_storage(model, storage)


def _check_model_storage(model: ServedModel, storage: ModelStorage) -> Iterator[Problem]:
    """Check a model in a store of KServe's storage Secret."""
    parameters = storage.parameters or {}
    kind, where = parameters.get("type"), ("spec", "model", "storage")
    if model.storage_secret is not None:
        message = "storageSecret has no effect with model.storage: KServe reads the credentials of storage.key"
        path = ("spec", "model", "storageSecret")
        yield Problem("SRV039", path, message, "remove storageSecret", fixes=remove_field())
    if kind is not None and kind not in STORES:
        message, fix = f"KServe's storage Secret does not support the type {kind!r}", f"use one of {', '.join(STORES)}"
        yield Problem("SRV041", (*where, "parameters", "type"), message, fix, fixes=offer_values(STORES))
    elif kind == "s3" and storage.path is not None and "bucket" not in parameters:
        message = "parameters set the type s3 but no bucket, and KServe reads the bucket from the Secret only together with the type"
        fix, fixes = "set parameters.bucket, or remove type", remove_field((*where, "parameters", "type"))
        yield Problem("SRV041", (*where, "parameters"), message, fix, fixes=fixes)
    if model.uri is not None and storage.path is None and model.uri.partition("://")[0] not in STORES:
        message = f"KServe's storage Secret does not support the URI {model.uri}"
        schemes = ", ".join(f"{store}://" for store in STORES)
        fix = f"remove storage, or use a URI that starts with one of {schemes}"
        yield Problem("SRV041", where, message, fix, fixes=remove_field())


def _check_model_uris(model: ServedModel) -> Iterator[Problem]:
    """Check the directories of several storage URIs.

    Upstream: kserve pkg/apis/serving/v1beta1/inference_service_validation.go (validateMultipleStorageURIsSpec),
    pkg/webhook/admission/pod/storage_initializer_injector.go (CommonStorageInitialization).
    """
    where = ("spec", "model", "uris")
    uri_by_path: dict[str, str] = {}
    for index, item in enumerate(model.uris):
        path = posixpath.normpath(item.mount_path or MODELS)
        if path.strip("/") == "" or ".." in (item.mount_path or ""):
            message = f"invalid mountPath {item.mount_path!r}: must be a directory below /, without .."
            yield Problem("SRV042", (*where, index, "mountPath"), message, f"use a directory such as {MODELS}/adapter")
            continue
        if path in uri_by_path and any(uri.startswith("pvc:") for uri in (item.uri, uri_by_path[path])):
            message = f"directory {path} is already used by another URI, and a claim needs its own"
            yield Problem("SRV042", (*where, index), message, f"use another mountPath, such as {MODELS}/adapter")
        uri_by_path[path] = item.uri
        scheme, _, rest = item.uri.partition("://")
        if scheme == "pvc" and rest.strip("/").partition("/")[2]:
            message = "KServe mounts the whole claim of one of several storage URIs, and ignores the path in it"
            fix = "remove the path, and let the server read the model from the path in mountPath"
            yield make_warning("SRV043", (*where, index, "uri"), message, fix)
    downloads = [path for path, uri in uri_by_path.items() if not uri.startswith(("pvc:", "oci"))]
    if len({path.split("/")[1] for path in downloads}) > 1:
        message = f"the directories {', '.join(downloads)} have no common parent, which KServe mounts as one volume"
        yield Problem("SRV042", where, message, f"use directories below {MODELS}")


def _check_exposed_url(where: Path, url: ExposedUrl, serving_port: int) -> Iterator[Problem]:
    if url.container is not None and url.container != serving_port:
        message = f"port {url.container} is not the serving port {serving_port}, the only port that Knative serves"
        fix, fixes = f"set container to {serving_port}, or remove it", set_value(serving_port) + remove_field()
        yield Problem("SRV013", (*where, "container"), message, fix, fixes=fixes)
    if url.url is None:
        message = "Run:ai generates a URL for an exposed URL without url; here the service's own URL serves this port"
        fix = "remove the entry, or set url: https://chat.example.com for a custom host name"
        yield make_warning("SRV070", where, message, fix)
    elif parse_host(url.url) is None:
        message = f"invalid exposed URL {url.url!r}: must have only a host name, since Knative cannot route a path or a port to a service"
        yield Problem("SRV013", (*where, "url"), message, "use https:// and a full host name, without path or port")
    if url.authorization_type not in {None, "public"} or url.authorized_users or url.authorized_groups:
        message = "an exposed URL has no separate access control: servingPort.authorizationType applies to it"
        fix = "set servingPort.authorizationType, and remove this field"
        yield Problem("SRV005", (*where, "authorizationType"), message, fix, fixes=remove_field())


def is_image(reference: str) -> bool:
    """Return whether an image reference can be parsed.

    Upstream: github.com/google/go-containerregistry pkg/name, weak validation.
    """
    first, slash, rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return REGISTRY.fullmatch(first) is not None and REPOSITORY.fullmatch(rest) is not None
    return REPOSITORY.fullmatch(reference) is not None


def parse_host(url: str) -> str | None:
    """Return the host name of a URL, None if the URL has a path or a port, or no full host name."""
    match = re.fullmatch(r"(?:https?://)?([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+)/?", url)
    return match[1] if match and len(match[1]) <= 253 else None  # noqa: PLR2004 - DNS


def check_control_plane(inference: Inference) -> Iterator[Problem]:
    """Check for fields that need Run:ai's control plane, and for items marked with exclude."""
    spec = inference.spec
    if spec.create_home_dir:
        message = "createHomeDir is not supported: Run:ai creates home directories for its own users"
        fix = "mount an emptyDirVolume or a claim at the home directory, and set HOME"
        yield Problem("RUN003", ("spec", "createHomeDir"), message, fix)
    for index, secret in enumerate(spec.image_pull_secrets):
        if secret.user_credential and not secret.exclude:
            where = ("spec", "imagePullSecrets", index, "userCredential")
            message = (
                f"{secret.name} is a credential of a Run:ai user, which is available only in Run:ai's control plane"
            )
            fix = "create a Secret of type kubernetes.io/dockerconfigjson in the project and set its name"
            yield Problem("ENV003", where, message, fix)
    for path, get_items in EXCLUDABLE:
        for index, item in enumerate(get_items(spec)):
            if item.exclude:
                yield warn_of_excluded((*path, index))


def warn_of_excluded(place: Path) -> Problem:
    """Return the warning about an item that is marked with exclude."""
    message = "exclude removes an item that a Run:ai policy adds; Ebbtide reads no policies, so the item is left out"
    return make_warning("RUN004", (*place, "exclude"), message, "remove the item", fixes=remove_field(place))


def _split_words(text: str) -> list[str] | None:
    import shlex  # noqa: PLC0415 - most specs have no command

    try:
        return shlex.split(text)
    except ValueError:
        return None
