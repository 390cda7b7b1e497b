"""Image or model, ports, host names and traffic, and the fields that only Run:ai's control plane can fill."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference, InferenceSpec

REGISTRY: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
#: A repository of at least two characters, with a tag, a digest, or both.
REPOSITORY: Final = re.compile(r"[a-z0-9_./-]{2,255}(:[A-Za-z0-9_.-]{1,128})?(@sha256:[0-9a-f]{64})?")


def serving(inference: Inference) -> Iterator[Problem]:
    """Image or model, port, access and links are ones that can be served."""
    spec = inference.spec
    if spec.image is None and spec.model is None:
        yield Problem(
            "SRV001", ("spec", "image"), "nothing says what to run", "set image, or model with format and uri"
        )
    elif spec.image is not None and not is_image(spec.image):
        yield Problem(
            "SRV021",
            ("spec", "image"),
            f"{spec.image!r} is no image reference, and Knative refuses what it cannot parse",
            "write it as registry.example.com/team/name:tag, in lower case, or with @sha256:…",
        )
    for field, value in (("command", spec.command), ("args", spec.args)):
        if isinstance(value, str) and not _words(value):
            yield Problem(
                "SRV016",
                ("spec", field),
                f"{field} cannot be split into words as a shell splits it",
                "close the quotes, or write a list of words",
            )
    if spec.model is not None and spec.model.uri is None and spec.image is None:
        yield Problem("SRV001", ("spec", "model", "uri"), "nothing says where the model is", "set model.uri")
    port = spec.serving_port
    where = ("spec", "servingPort")
    if port.authorized_users and port.authorized_groups:
        yield Problem("SRV006", (*where, "authorizedGroups"), "users and groups exclude each other", "keep one")
    kind = port.authorization_type or "public"
    wanted = {"authorizedUsers": "authorizedUsers", "authorizedGroups": "authorizedGroups"}.get(kind)
    for field, items in (
        ("authorizedUsers", port.authorized_users),
        ("authorizedGroups", port.authorized_groups),
    ):
        if wanted == field and not items:
            yield Problem("SRV006", (*where, field), f"{kind} names nobody", f"list them in {field}")
        if items and wanted != field and kind != "authorizedUsersOrGroups":
            yield Problem(
                "SRV006",
                (*where, field),
                f"{field} is given, but the type is {kind}: everybody it lets in would get in",
                f"set authorizationType: {field}",
            )
    if kind == "authorizedUsersOrGroups" and not (port.authorized_users or port.authorized_groups):
        yield Problem("SRV006", (*where, "authorizationType"), f"{kind} names nobody", "list users or groups")
    serving_port = port.container or 8080
    for index, extra in enumerate(spec.ports):
        if not extra.exclude and (extra.container != serving_port or extra.service_type not in {None, "ClusterIP"}):
            yield Problem(
                "SRV012",
                ("spec", "ports", index),
                f"port {extra.container} as {extra.service_type or 'a further port'}: servingPort alone is served, at the service's URL",
                "serve everything on servingPort, or run the rest as a service of its own",
            )
    for index, url in enumerate(spec.exposed_urls):
        if not url.exclude:
            yield from _exposed(index, url, serving_port)
            if port.cluster_local_access_only:
                yield Problem(
                    "SRV028",
                    ("spec", "exposedUrls", index),
                    "clusterLocalAccessOnly keeps the service inside the cluster, and a host name of its own publishes it: "
                    "a DomainMapping always answers outside",
                    "remove one of the two",
                )
    slo = spec.slo
    if (
        slo is not None
        and slo.mean_latency_milliseconds is not None
        and slo.p95_latency_milliseconds is not None
        and slo.mean_latency_milliseconds > slo.p95_latency_milliseconds
    ):
        yield warning(
            "SLO001",
            ("spec", "slo", "meanLatencyMilliseconds"),
            "a mean above the 95th percentile is met whenever the percentile is, or nearly",
            "lower it, or remove it",
        )


def _exposed(index: int, url: object, serving_port: int) -> Iterator[Problem]:
    where = ("spec", "exposedUrls", index)
    container: int | None = url.container  # type: ignore[attr-defined]
    address: str | None = url.url  # type: ignore[attr-defined]
    kind = url.authorization_type or "public"  # type: ignore[attr-defined]
    if container is not None and container != serving_port:
        yield Problem(
            "SRV013",
            (*where, "container"),
            f"port {container} is not the serving port {serving_port}, the only one that Knative serves",
            "use the serving port",
        )
    if address is None:
        yield Problem(
            "SRV013",
            where,
            "an exposed URL without url has no host name",
            "set url: https://chat.example.com",
        )
    elif host(address) is None:
        yield Problem(
            "SRV013",
            (*where, "url"),
            f"{address!r} is not a host name of its own: a path cannot be routed to a service by Knative",
            "use https:// and a full host name, without path or port",
        )
    if kind != "public" or url.authorized_users or url.authorized_groups:  # type: ignore[attr-defined]
        yield Problem(
            "SRV005",
            (*where, "authorizationType"),
            "a host name of its own has no rules of its own: it lets in whom the serving port does",
            "use servingPort.authorizationType, and remove this",
        )


def is_image(reference: str) -> bool:
    """Whether an image reference can be parsed (github.com/google/go-containerregistry pkg/name, weak validation)."""
    first, slash, rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return REGISTRY.fullmatch(first) is not None and REPOSITORY.fullmatch(rest) is not None
    return REPOSITORY.fullmatch(reference) is not None


def host(url: str) -> str | None:
    """Return the host name of an address without path or port, or None if it has more or less."""
    found = re.fullmatch(r"(?:https?://)?([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+)/?", url)
    return found[1] if found and len(found[1]) <= 253 else None  # noqa: PLR2004 - DNS


def control_plane(inference: Inference) -> Iterator[Problem]:
    """What only Run:ai's control plane can do is refused, and marks for its policies change nothing."""
    spec = inference.spec
    if spec.create_home_dir:
        yield Problem(
            "RUN003",
            ("spec", "createHomeDir"),
            "a home folder is made by Run:ai for the user it knows; here there is none",
            "mount an emptyDirVolume or a claim where the program wants it, and set HOME",
        )
    for index, secret in enumerate(spec.image_pull_secrets):
        if secret.user_credential and not secret.exclude:
            yield Problem(
                "ENV003",
                ("spec", "imagePullSecrets", index, "userCredential"),
                f"{secret.name} is a Run:ai user's credential, which only Run:ai's control plane has",
                "make a Secret of type kubernetes.io/dockerconfigjson in the project and name it",
            )
    for where, items in _excludable(spec):
        for index, item in enumerate(items):
            if item.exclude:  # type: ignore[attr-defined]
                yield warning(
                    "RUN004",
                    (*where, index, "exclude"),
                    "exclude drops an item that a Run:ai policy would add; there is no policy here, so the item is left out",
                    "remove the item",
                )


def _excludable(spec: InferenceSpec) -> Iterator[tuple[Path, Sequence[object]]]:
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
    yield ("spec", "storage", "hostPath"), volumes.host_path
    yield ("spec", "storage", "nfs"), volumes.nfs
    yield ("spec", "storage", "git"), volumes.git
    yield ("spec", "storage", "dataVolume"), volumes.data_volume


def _words(text: str) -> list[str] | None:
    import shlex  # noqa: PLC0415 - most specs have no command

    try:
        return shlex.split(text)
    except ValueError:
        return None
