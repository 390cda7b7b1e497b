"""Rules for image, model, ports, host names and SLO, and for fields that need Run:ai's control plane."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem, make_warning, offer_values, remove_field, set_value
from ebbtide.spec.objectives import DEFAULT_TOKEN_PERCENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference, InferenceSpec
    from ebbtide.spec.serving import ServedModel, Slo

#: The port of a server that sets none, in Knative and in KServe's runtimes.
DEFAULT_PORT: Final = 8080
REGISTRY: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
#: A repository of at least two characters, with a tag, a digest, or both.
REPOSITORY: Final = re.compile(r"[a-z0-9_./-]{2,255}(:[A-Za-z0-9_.-]{1,128})?(@sha256:[0-9a-f]{64})?")

#: The types of store that KServe's storage Secret supports (pkg/credentials/service_account_credentials.go).
STORES: Final = ("s3", "hdfs", "webhdfs")

#: The directory of the model in the container, if none is set (pkg/constants/constants.go, DefaultModelLocalMountPath).
MODELS: Final = "/mnt/models"


def check_serving(inference: Inference) -> Iterator[Problem]:
    """Check image, model, command, ports, access control, exposed URLs and SLO."""
    spec = inference.spec
    if spec.image is None and spec.model is None:
        yield Problem(
            "SRV001", ("spec", "image"), "image and model are missing", "set image, or model with format and uri"
        )
    elif spec.image is not None and not is_image(spec.image):
        yield Problem(
            "SRV021",
            ("spec", "image"),
            f"invalid image reference {spec.image!r}: Knative rejects references that it cannot parse",
            "use a lowercase reference such as registry.example.com/team/name:tag, or a digest (@sha256:…)",
        )
    for field, value in (("command", spec.command), ("args", spec.args)):
        if isinstance(value, str) and not _split_words(value):
            yield Problem(
                "SRV016",
                ("spec", field),
                f"invalid {field}: cannot be split into arguments by shell rules",
                "close the quotes, or use a list of arguments",
            )
    yield from _check_model(spec)
    port = spec.serving_port
    where = ("spec", "servingPort")
    if port.authorized_users and port.authorized_groups:
        yield Problem(
            "SRV006",
            (*where, "authorizedGroups"),
            "authorizedUsers and authorizedGroups are mutually exclusive",
            "keep one of them",
        )
    kind = port.authorization_type or "public"
    required_list = {"authorizedUsers": "authorizedUsers", "authorizedGroups": "authorizedGroups"}.get(kind)
    for field, items in (
        ("authorizedUsers", port.authorized_users),
        ("authorizedGroups", port.authorized_groups),
    ):
        if required_list == field and not items:
            yield Problem(
                "SRV006",
                (*where, field),
                f"authorizationType is {kind}, but {field} is empty",
                f"list at least one entry in {field}",
            )
        if items and required_list != field and kind != "authorizedUsersOrGroups":
            yield Problem(
                "SRV006",
                (*where, field),
                f"{field} is set, but authorizationType is {kind}, which does not restrict access to the listed entries",
                f"set authorizationType: {field}",
                fixes=set_value(field, "authorizationType"),
            )
    if kind == "authorizedUsersOrGroups" and not (port.authorized_users or port.authorized_groups):
        yield Problem(
            "SRV006",
            (*where, "authorizationType"),
            f"authorizationType is {kind}, but no users or groups are listed",
            "list entries in authorizedUsers or authorizedGroups",
        )
    serving_port = port.container or DEFAULT_PORT
    for index, extra in enumerate(spec.ports):
        if not extra.exclude and (extra.container != serving_port or extra.service_type not in {None, "ClusterIP"}):
            yield Problem(
                "SRV012",
                ("spec", "ports", index),
                f"{'a port without container' if extra.container is None else f'port {extra.container}'} as "
                f"{extra.service_type or 'an additional port'} is not supported: only servingPort is served, at the service's URL",
                "serve everything on servingPort, or run the rest as a separate service",
            )
    for index, url in enumerate(spec.exposed_urls):
        if not url.exclude:
            yield from _check_exposed_url(index, url, serving_port)
            if port.cluster_local_access_only:
                yield Problem(
                    "SRV028",
                    ("spec", "exposedUrls", index),
                    "exposedUrls contradicts clusterLocalAccessOnly: a DomainMapping always makes the service reachable from "
                    "outside the cluster",
                    "remove exposedUrls or clusterLocalAccessOnly",
                    fixes=remove_field(("spec", "exposedUrls")),
                )
    slo = spec.slo
    if (
        slo is not None
        and slo.mean_latency_milliseconds is not None
        and slo.p95_latency_milliseconds is not None
        and slo.mean_latency_milliseconds > slo.p95_latency_milliseconds
    ):
        yield make_warning(
            "SLO001",
            ("spec", "slo", "meanLatencyMilliseconds"),
            "meanLatencyMilliseconds is above p95LatencyMilliseconds, so it is almost always met when the 95th percentile is",
            "lower meanLatencyMilliseconds, or remove it",
            fixes=remove_field(),
        )
    if slo is not None:
        yield from _check_token_objectives(slo)


def _check_token_objectives(slo: Slo) -> Iterator[Problem]:
    """Reject percentages of objectives of tokens that are not set, and objectives that contradict those of the response."""
    for field, limit, percent in (
        ("timeToFirstToken", slo.time_to_first_token_milliseconds, slo.time_to_first_token_percent),
        ("interToken", slo.inter_token_milliseconds, slo.inter_token_percent),
    ):
        if percent is not None and limit is None:
            yield Problem(
                "SLO083",
                ("spec", "slo", f"{field}Percent"),
                f"{field}Percent has no effect without {field}Milliseconds",
                f"set {field}Milliseconds, or remove {field}Percent",
                fixes=remove_field(),
            )
    first, response = slo.time_to_first_token_milliseconds, slo.p95_latency_milliseconds
    share = slo.time_to_first_token_percent or DEFAULT_TOKEN_PERCENT
    if first is not None and response is not None and first > response and share <= DEFAULT_TOKEN_PERCENT:
        yield make_warning(
            "SLO084",
            ("spec", "slo", "timeToFirstTokenMilliseconds"),
            f"timeToFirstTokenMilliseconds ({first:g}) is above p95LatencyMilliseconds ({response:g}), so it is met whenever "
            "the whole response is in time",
            f"use at most {response:g}",
            fixes=set_value(response),
        )


def _check_model(spec: InferenceSpec) -> Iterator[Problem]:
    """Check that a model has at most one location, and credentials that KServe can read.

    Upstream: kserve pkg/apis/serving/v1beta1/component.go (validateStorageSpec),
    pkg/credentials/service_account_credentials.go (CreateStorageSpecSecretEnvs), pkg/webhook/admission/pod,
    pkg/controller/v1beta1/inferenceservice/components (addStorageInitializerAnnotations).
    """
    model = spec.model
    if model is None:
        return
    where, storage = ("spec", "model"), model.storage
    locations = [
        name
        for name, value in (
            ("uri", model.uri),
            ("uris", model.uris),
            ("storage.path", storage is not None and storage.path),
        )
        if value
    ]
    # A runtime can load a model by name, or contain it. Its arguments and variables name the model then.
    by_runtime = spec.args or spec.command or spec.environment_variables or model.runtime or spec.image
    if not locations and not by_runtime and spec.defaults != "none":
        yield Problem(
            "SRV001",
            (*where, "uri"),
            "the location of the model is missing",
            "set model.uri, model.storage.path, or args that name the model (--model_id=org/model)",
        )
    for name in locations[1:]:
        yield Problem(
            "SRV039",
            (*where, *name.split(".")),
            f"model.{locations[0]} and model.{name} are mutually exclusive: KServe loads a model from one location",
            f"remove {name.rpartition('.')[2]}, or remove {locations[0]}",
            fixes=remove_field(),
        )
    yield from _check_model_uris(model)
    if spec.image is not None and model.runtime_version is not None:
        yield Problem(
            "SRV040",
            (*where, "runtimeVersion"),
            "runtimeVersion replaces the tag of the image, and the spec sets image, which has its own",
            "remove runtimeVersion, and set the tag in image",
            fixes=remove_field(),
        )
    if storage is None:
        return
    parameters = storage.parameters or {}
    kind = parameters.get("type")
    if model.storage_secret is not None:
        yield Problem(
            "SRV039",
            (*where, "storageSecret"),
            "storageSecret has no effect with model.storage: KServe reads the credentials of storage.key",
            "remove storageSecret",
            fixes=remove_field(),
        )
    if kind is not None and kind not in STORES:
        yield Problem(
            "SRV041",
            (*where, "storage", "parameters", "type"),
            f"KServe's storage Secret does not support the type {kind!r}",
            f"use one of {', '.join(STORES)}",
            fixes=offer_values(STORES),
        )
    elif kind == "s3" and storage.path is not None and "bucket" not in parameters:
        yield Problem(
            "SRV041",
            (*where, "storage", "parameters"),
            "parameters set the type s3 but no bucket, and KServe reads the bucket from the Secret only together with the type",
            "set parameters.bucket, or remove type",
            fixes=remove_field((*where, "storage", "parameters", "type")),
        )
    if model.uri is not None and storage.path is None and model.uri.partition("://")[0] not in STORES:
        yield Problem(
            "SRV041",
            (*where, "storage"),
            f"KServe's storage Secret does not support the URI {model.uri}",
            f"remove storage, or use a URI that starts with one of {', '.join(f'{store}://' for store in STORES)}",
            fixes=remove_field(),
        )


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
            yield Problem(
                "SRV042",
                (*where, index, "mountPath"),
                f"invalid mountPath {item.mount_path!r}: must be a directory below /, without ..",
                f"use a directory such as {MODELS}/adapter",
            )
            continue
        if path in uri_by_path and any(uri.startswith("pvc:") for uri in (item.uri, uri_by_path[path])):
            yield Problem(
                "SRV042",
                (*where, index),
                f"directory {path} is already used by another URI, and a claim needs its own",
                f"use another mountPath, such as {MODELS}/adapter",
            )
        uri_by_path[path] = item.uri
        scheme, _, rest = item.uri.partition("://")
        if scheme == "pvc" and rest.strip("/").partition("/")[2]:
            yield make_warning(
                "SRV043",
                (*where, index, "uri"),
                "KServe mounts the whole claim of one of several storage URIs, and ignores the path in it",
                "remove the path, and let the server read the model from the path in mountPath",
            )
    downloads = [path for path, uri in uri_by_path.items() if not uri.startswith(("pvc:", "oci"))]
    if len({path.split("/")[1] for path in downloads}) > 1:
        yield Problem(
            "SRV042",
            where,
            f"the directories {', '.join(downloads)} have no common parent, which KServe mounts as one volume",
            f"use directories below {MODELS}",
        )


def _check_exposed_url(index: int, url: object, serving_port: int) -> Iterator[Problem]:
    where = ("spec", "exposedUrls", index)
    container: int | None = url.container  # type: ignore[attr-defined]
    address: str | None = url.url  # type: ignore[attr-defined]
    kind = url.authorization_type or "public"  # type: ignore[attr-defined]
    if container is not None and container != serving_port:
        yield Problem(
            "SRV013",
            (*where, "container"),
            f"port {container} is not the serving port {serving_port}, the only port that Knative serves",
            f"set container to {serving_port}, or remove it",
            fixes=set_value(serving_port) + remove_field(),
        )
    if address is None:
        yield make_warning(
            "SRV070",
            where,
            "Run:ai generates a URL for an exposed URL without url; here the service's own URL serves this port",
            "remove the entry, or set url: https://chat.example.com for a custom host name",
        )
    elif parse_host(address) is None:
        yield Problem(
            "SRV013",
            (*where, "url"),
            f"invalid exposed URL {address!r}: must have only a host name, since Knative cannot route a path or a port to a service",
            "use https:// and a full host name, without path or port",
        )
    if kind != "public" or url.authorized_users or url.authorized_groups:  # type: ignore[attr-defined]
        yield Problem(
            "SRV005",
            (*where, "authorizationType"),
            "an exposed URL has no separate access control: servingPort.authorizationType applies to it",
            "set servingPort.authorizationType, and remove this field",
            fixes=remove_field(),
        )


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
        yield Problem(
            "RUN003",
            ("spec", "createHomeDir"),
            "createHomeDir is not supported: Run:ai creates home directories for its own users",
            "mount an emptyDirVolume or a claim at the home directory, and set HOME",
        )
    for index, secret in enumerate(spec.image_pull_secrets):
        if secret.user_credential and not secret.exclude:
            yield Problem(
                "ENV003",
                ("spec", "imagePullSecrets", index, "userCredential"),
                f"{secret.name} is a credential of a Run:ai user, which is available only in Run:ai's control plane",
                "create a Secret of type kubernetes.io/dockerconfigjson in the project and set its name",
            )
    for where, items in _list_excludable(spec):
        for index, item in enumerate(items):
            if item.exclude:  # type: ignore[attr-defined]
                yield make_warning(
                    "RUN004",
                    (*where, index, "exclude"),
                    "exclude removes an item that a Run:ai policy adds; Ebbtide reads no policies, so the item is left out",
                    "remove the item",
                    fixes=remove_field((*where, index)),
                )


def _list_excludable(spec: InferenceSpec) -> Iterator[tuple[Path, Sequence[object]]]:
    yield ("spec", "environmentVariables"), spec.environment_variables
    yield ("spec", "labels"), spec.labels
    yield ("spec", "annotations"), spec.annotations
    yield ("spec", "tolerations"), spec.tolerations
    yield ("spec", "imagePullSecrets"), spec.image_pull_secrets
    yield ("spec", "compute", "extendedResources"), spec.compute.extended_resources
    yield ("spec", "exposedUrls"), spec.exposed_urls
    yield ("spec", "ports"), spec.ports
    yield ("spec", "relatedUrls"), spec.related_urls
    volumes = spec.storage
    yield ("spec", "storage", "configMapVolume"), volumes.config_map_volume
    yield ("spec", "storage", "secretVolume"), volumes.secret_volume
    yield ("spec", "storage", "emptyDirVolume"), volumes.empty_dir_volume
    yield ("spec", "storage", "pvc"), volumes.pvc
    yield ("spec", "storage", "imageVolume"), volumes.image_volume
    yield ("spec", "storage", "csiVolume"), volumes.csi_volume
    yield ("spec", "storage", "hostPath"), volumes.host_path
    yield ("spec", "storage", "nfs"), volumes.nfs
    yield ("spec", "storage", "git"), volumes.git
    yield ("spec", "storage", "dataVolume"), volumes.data_volume


def _split_words(text: str) -> list[str] | None:
    import shlex  # noqa: PLC0415 - most specs have no command

    try:
        return shlex.split(text)
    except ValueError:
        return None
