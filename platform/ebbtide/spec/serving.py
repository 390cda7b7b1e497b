"""Serving port, timeouts, model, SLO, traffic and exposed URLs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, ObjectName, Port, Positive, Protocol, Text, empty_list


class ServingPort(Model):
    """Serving port of the container and access control."""

    container: Port | None = None
    """Container port. Default: 8080, as in Knative, or 9000 for a model that is served by gRPC."""
    protocol: Protocol | None = None
    """Protocol: http, or grpc (HTTP/2 without TLS). Default: http."""
    authorization_type: (
        Literal["public", "authenticatedUsers", "authorizedUsers", "authorizedGroups", "authorizedUsersOrGroups"] | None
    ) = None
    """Clients that may send requests. Default: public."""
    authorized_users: list[Text] = empty_list()
    """Users that may send requests. Only with authorizationType authorizedUsers or authorizedUsersOrGroups."""
    authorized_groups: list[Text] = empty_list()
    """Groups that may send requests. Only with authorizationType authorizedGroups or authorizedUsersOrGroups."""
    cluster_local_access_only: bool = False
    """Make the service reachable only from inside the cluster."""


class ServingConfiguration(Model):
    """Timeouts for initialization and requests."""

    initialization_timeout_seconds: Positive | None = None
    """Initialization timeout: seconds that a new revision may take to become ready before it fails."""
    request_timeout_seconds: Positive | None = None
    """Request timeout: maximum duration of one request, in seconds."""


class ServedModel(Model):
    """A model that a KServe runtime loads from storage and serves. Ebbtide extension."""

    format: Text
    """Model format, such as sklearn, onnx or huggingface."""
    format_version: Text | None = None
    """Version of the format, if the runtime requires one."""
    uri: Text | None = None
    """Storage URI of the model: s3://…, gs://…, hf://…, pvc://claim/path, https://…, oci://… or oci+native://…."""
    runtime: ObjectName | None = None
    """Name of the serving runtime. Default: KServe selects one by format."""
    protocol: Literal["v1", "v2", "grpc-v1", "grpc-v2"] | None = None
    """Inference protocol."""
    storage_secret: ObjectName | None = None
    """Secret with credentials for the storage URI."""


class Slo(Model):
    """Service level objectives. ``simulate`` predicts them, ``slo`` reports them, and alerts monitor them. Ebbtide extension."""

    mean_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum mean response time, in milliseconds."""
    p95_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum response time of 95% of the requests, in milliseconds, including cold starts."""
    uptime_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    """Minimum percentage of time that the service answers requests."""


class Traffic(Model):
    """Traffic split during a rollout. Ebbtide extension."""

    canary_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Percentage of requests that the latest revision receives."""
    stable_revision: ObjectName | None = None
    """Revision that receives the remaining requests. Required for a Knative Service; set by ``apply``."""


class ExposedUrl(Model):
    """A custom host name of the service."""

    container: Port | None = None
    """Container port. Must be the serving port."""
    url: Text | None = None
    """URL without path or port, such as https://chat.example.com."""
    authorization_type: Literal["public", "authenticatedUsers", "authorizedUsers", "authorizedGroups"] | None = None
    """Clients that may send requests. Only public is accepted; servingPort.authorizationType applies to every host
    name."""
    authorized_users: list[Text] = empty_list()
    """Authorized users. Not supported; use servingPort."""
    authorized_groups: list[Text] = empty_list()
    """Authorized groups. Not supported; use servingPort."""
    tool_type: str | None = None
    """Tool type in Run:ai's UI. Not rendered."""
    tool_name: str | None = None
    """Tool name in Run:ai's UI. Not rendered."""
    name: Text | None = None
    """Display name. Not rendered."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


class ExposedPort(Model):
    """An additional port. Only the serving port is accepted, because a Knative revision serves one port."""

    container: Port | None = None
    """Container port. Must be the serving port."""
    service_type: Literal["LoadBalancer", "NodePort", "ClusterIP"] | None = None
    """Type of Kubernetes Service. Only ClusterIP is accepted."""
    external: int | None = None
    """External port."""
    tool_type: str | None = None
    """Tool type in Run:ai's UI. Not rendered."""
    tool_name: str | None = None
    """Tool name in Run:ai's UI. Not rendered."""
    name: Text | None = None
    """Display name. Not rendered."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


class RelatedUrl(Model):
    """A link to show with the workload. Not rendered."""

    url: str | None = None
    """URL of the link."""
    type: str | None = None
    """Type of the linked page."""
    name: str | None = None
    """Display name."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


class Patch(Model):
    """A JSON merge patch (RFC 7386) for one rendered object, for settings without a field in the spec. Ebbtide extension."""

    kind: Text
    """Kind of the object."""
    name: Text | None = None
    """Name of the object. Required if several objects of the kind are rendered."""
    patch: dict[str, Any]
    """Values to merge into the object. null removes a field."""
