"""What runs in a replica: environment, probes and security of the serving container."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, NotNegative, ObjectName, Port, Positive, Text, nothing


class KeyOf(Model):
    """One key of a Secret or ConfigMap."""

    name: ObjectName
    """The object's name."""
    key: Text
    """The key in it."""


class FieldRef(Model):
    """A field of the pod itself."""

    path: Text
    """The field's path: metadata.name, status.podIP."""


class Variable(Model):
    """An environment variable, from exactly one source."""

    name: Text
    """The variable's name."""
    value: str | None = None
    """A literal value."""
    secret: KeyOf | None = None
    """A key of a Secret."""
    config_map: KeyOf | None = None
    """A key of a ConfigMap."""
    pod_field_ref: FieldRef | None = None
    """A field of the pod."""
    user_credential: KeyOf | None = None
    """A credential of a Run:ai user; refused, since there is no Run:ai control plane to ask."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""
    description: str | None = None
    """A note for people."""


class HttpGet(Model):
    """A probe by HTTP request."""

    path: Annotated[str, Field(pattern=r"^(/[a-zA-Z0-9\-_./]*)?$")] = "/"
    """The path asked for."""
    port: Port | None = None
    """The port; default the serving port."""
    host: Annotated[str, Field(max_length=253)] | None = None
    """The Host header's name."""
    scheme: Literal["HTTP", "HTTPS"] | None = None
    """HTTP or HTTPS."""


class TcpSocket(Model):
    """A probe by opening a connection."""

    port: Port | None = None
    """The port; default the serving port."""


class Grpc(Model):
    """A probe by gRPC's health service."""

    port: Port | None = None
    """The port; default the serving port."""
    service: str | None = None
    """The service's name in the health request."""


class Handler(Model):
    """How a probe asks; exactly one way."""

    http_get: HttpGet | None = None
    """By HTTP request."""
    tcp_socket: TcpSocket | None = None
    """By opening a connection (ours)."""
    grpc: Grpc | None = None
    """By gRPC's health service (ours)."""


class Probe(Model):
    """One probe and its timing."""

    handler: Handler
    """How the probe asks."""
    initial_delay_seconds: NotNegative | None = None
    """Seconds before the first try."""
    period_seconds: Positive | None = None
    """Seconds between tries."""
    timeout_seconds: Positive | None = None
    """Seconds a try may take."""
    success_threshold: Positive | None = None
    """Good tries that make it good."""
    failure_threshold: Positive | None = None
    """Bad tries that make it bad."""


class Probes(Model):
    """Readiness as Run:ai has it; liveness and startup are ours."""

    readiness: Probe | None = None
    """When the replica may get requests."""
    liveness: Probe | None = None
    """When the container is restarted (ours)."""
    startup: Probe | None = None
    """When the other probes begin (ours)."""


class PullSecret(Model):
    """A Secret for pulling the image."""

    name: ObjectName
    """The Secret's name."""
    user_credential: bool = False
    """A credential of a Run:ai user; refused."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""


class Security(Model):
    """Who the container runs as and what it may do."""

    capabilities: list[Annotated[str, Field(pattern=r"^[A-Z_]+$")]] = nothing()
    """Linux capabilities to add; the restricted rule leaves only NET_BIND_SERVICE."""
    read_only_root_filesystem: bool | None = None
    """Whether the image's own files are read-only."""
    run_as_non_root: bool | None = None
    """Whether root is refused; default: the profile's rule."""
    run_as_uid: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """The user id."""
    run_as_gid: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """The group id."""
    supplemental_groups: Annotated[str, Field(pattern=r"^\s*[0-9]+(\s*[,;]\s*[0-9]+)*\s*$")] | None = None
    """More group ids, separated by commas or semicolons."""
    seccomp_profile_type: Literal["RuntimeDefault", "Unconfined", "Localhost"] | None = None
    """The system call filter; always RuntimeDefault here, others are refused."""
    uid_gid_source: Literal["fromTheImage", "fromIdpToken", "custom"] | None = None
    """Where user and group ids come from."""
