"""Environment variables, probes and security settings of the serving container."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import Model, NotNegative, ObjectName, Port, Positive, Text, empty_list


class KeyReference(Model):
    """A key of a Secret or ConfigMap."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: Text
    """Key in its data."""


class FieldRef(Model):
    """A field of the pod."""

    path: Text = Field(examples=["metadata.namespace", "metadata.name"])
    """Path of the field, such as metadata.name or status.podIP."""


class Variable(Model):
    """An environment variable. Set exactly one source: value, secret, configMap or podFieldRef."""

    name: Text
    """Name of the variable."""
    value: str | None = None
    """Literal value."""
    secret: KeyReference | None = None
    """Secret key that holds the value."""
    config_map: KeyReference | None = None
    """ConfigMap key that holds the value."""
    pod_field_ref: FieldRef | None = None
    """Pod field that holds the value."""
    user_credential: KeyReference | None = None
    """Credential of a Run:ai user. Not supported: credentials are stored in Run:ai's control plane. Use a Secret."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""
    description: str | None = None
    """Description for readers of the spec. Not rendered."""


class HttpGet(Model):
    """An HTTP GET probe."""

    path: Annotated[str, Field(pattern=r"^(/[a-zA-Z0-9\-_./]*)?$")] = "/"
    """Request path."""
    port: Port | None = None
    """Port to probe. Default: the serving port."""
    host: Annotated[str, Field(max_length=253)] | None = None
    """Value of the Host header."""
    scheme: Literal["HTTP", "HTTPS"] | None = None
    """Scheme: HTTP or HTTPS."""


class TcpSocket(Model):
    """A TCP probe: succeeds if the port accepts a connection."""

    port: Port | None = None
    """Port to probe. Default: the serving port."""


class Grpc(Model):
    """A probe of the gRPC health service."""

    port: Port | None = None
    """Port to probe. Default: the serving port. Required for a model whose runtime has its own gRPC port."""
    service: str | None = None
    """Service name in the health check request."""


class Handler(Model):
    """Check that a probe performs. Set exactly one of httpGet, tcpSocket and grpc."""

    http_get: HttpGet | None = None
    """Send an HTTP GET request."""
    tcp_socket: TcpSocket | None = None
    """Open a TCP connection. Ebbtide extension."""
    grpc: Grpc | None = None
    """Call the gRPC health service. Ebbtide extension."""


class Probe(Model):
    """A probe and its timing."""

    handler: Handler
    """Check to perform."""
    initial_delay_seconds: NotNegative | None = None
    """Seconds between the start of the container and the first check."""
    period_seconds: Positive | None = None
    """Seconds between checks."""
    timeout_seconds: Positive | None = None
    """Seconds after which a check counts as failed."""
    success_threshold: Positive | None = None
    """Consecutive successful checks after which the probe succeeds. Must be 1 for liveness and startup probes."""
    failure_threshold: Positive | None = None
    """Consecutive failed checks after which the probe fails."""


class Probes(Model):
    """Probes of the serving container."""

    readiness: Probe | None = Field(default=None, examples=[{"handler": {"httpGet": {"path": "/health"}}}])
    """Readiness probe: the replica receives requests while it succeeds."""
    liveness: Probe | None = Field(default=None, examples=[{"handler": {"httpGet": {"path": "/health"}}}])
    """Liveness probe: the container is restarted if it fails. Ebbtide extension."""
    startup: Probe | None = Field(default=None, examples=[{"handler": {"httpGet": {"path": "/health"}}}])
    """Startup probe: the other probes start once it has succeeded. Ebbtide extension."""


class PullSecret(Model):
    """A Secret with credentials for the image registry."""

    name: ObjectName
    """Name of the Secret."""
    user_credential: bool = False
    """Treat ``name`` as a credential of a Run:ai user. Not supported."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


class Security(Model):
    """User, group and privileges of the serving container."""

    capabilities: list[Annotated[str, Field(pattern=r"^[A-Z_]+$")]] = empty_list()
    """Linux capabilities to add. The restricted Pod Security Standard allows only NET_BIND_SERVICE."""
    read_only_root_filesystem: bool | None = None
    """Mount the container's root file system read-only."""
    run_as_non_root: bool | None = None
    """Require a user other than root. Default: pods.runAsNonRoot of the profile, or for a model what its runtime sets."""
    run_as_uid: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """User ID of the container."""
    run_as_gid: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """Group ID of the container."""
    supplemental_groups: Annotated[str, Field(pattern=r"^\s*[0-9]+(\s*[,;]\s*[0-9]+)*\s*$")] | None = None
    """Additional group IDs, separated by commas or semicolons."""
    seccomp_profile_type: Literal["RuntimeDefault", "Unconfined", "Localhost"] | None = None
    """Seccomp profile. Only RuntimeDefault, which is always set, is supported."""
    uid_gid_source: Literal["fromTheImage", "fromIdpToken", "custom"] | None = None
    """Source of the user and group IDs: fromTheImage, or custom with runAsUid. fromIdpToken is not supported."""
