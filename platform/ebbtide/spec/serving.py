"""How the replicas answer: port, time-outs, model, promise and traffic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, ObjectName, Port, Positive, Protocol, Text, nothing


class ServingPort(Model):
    """The port that requests come to and who may send them."""

    container: Port | None = None
    """The container's port. Default 8080, Knative's own."""
    protocol: Protocol | None = None
    """http, or grpc (HTTP/2 without TLS). Default http."""
    authorization_type: (
        Literal["public", "authenticatedUsers", "authorizedUsers", "authorizedGroups", "authorizedUsersOrGroups"] | None
    ) = None
    """Who may send requests. Default public."""
    authorized_users: list[Text] = nothing()
    """The users, with authorizedUsers."""
    authorized_groups: list[Text] = nothing()
    """The groups, with authorizedGroups."""
    cluster_local_access_only: bool = False
    """Answer only inside the cluster."""


class ServingConfiguration(Model):
    """Time-outs."""

    initialization_timeout_seconds: Positive | None = None
    """How long a new revision may take to become ready before it counts as failed."""
    request_timeout_seconds: Positive | None = None
    """How long one request may take."""


class ServedModel(Model):
    """A model by its format and storage address, served by a KServe runtime (ours)."""

    format: Text
    """The model's format: sklearn, onnx, huggingface."""
    format_version: Text | None = None
    """The format's version, if the runtime asks for one."""
    uri: Text | None = None
    """Where the model is: s3://…, gs://…, hf://…, pvc://claim/path, https://…, oci://…, oci+native://…."""
    runtime: ObjectName | None = None
    """The serving runtime. Default: KServe picks one by format."""
    protocol: Literal["v1", "v2", "grpc-v1", "grpc-v2"] | None = None
    """The inference protocol."""
    storage_secret: ObjectName | None = None
    """A Secret with the credentials for the model's address."""


class Slo(Model):
    """The promise (ours): what ``simulate`` predicts, ``slo`` reports and alerts watch."""

    mean_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The mean response time at most."""
    p95_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The response time that 95 % of requests keep within, cold starts included."""
    uptime_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    """The share of time in which the service answers."""


class Traffic(Model):
    """How a new revision takes over (ours)."""

    canary_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """The share of requests that the newest revision gets."""
    stable_revision: ObjectName | None = None
    """The revision that gets the rest; ``apply`` fills it in. Knative Services need it."""


class ExposedUrl(Model):
    """A host name of the user's own."""

    container: Port | None = None
    """The container's port behind it."""
    url: Text | None = None
    """The address: https://chat.example.com."""
    authorization_type: Literal["public", "authenticatedUsers", "authorizedUsers", "authorizedGroups"] | None = None
    """Who may use it: public, or as servingPort says, which is the default; others are refused."""
    authorized_users: list[Text] = nothing()
    """The users."""
    authorized_groups: list[Text] = nothing()
    """The groups."""
    tool_type: str | None = None
    """A note for Run:ai's page."""
    tool_name: str | None = None
    """A note for Run:ai's page."""
    name: Text | None = None
    """A name for people."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""


class ExposedPort(Model):
    """A further port; refused unless it is the serving port itself, since Knative serves one port."""

    container: Port | None = None
    """The container's port."""
    service_type: Literal["LoadBalancer", "NodePort", "ClusterIP"] | None = None
    """How it would be published."""
    external: int | None = None
    """The port outside."""
    tool_type: str | None = None
    """A note for Run:ai's page."""
    tool_name: str | None = None
    """A note for Run:ai's page."""
    name: Text | None = None
    """A name for people."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""


class RelatedUrl(Model):
    """A link shown beside the workload."""

    url: str | None = None
    """The address."""
    type: str | None = None
    """What kind of page it is."""
    name: str | None = None
    """A name for people."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""


class Patch(Model):
    """A JSON merge patch (RFC 7386) on one of the objects made (ours): what the spec has no word for."""

    kind: Text
    """The object's kind."""
    name: Text | None = None
    """The object's name, where several of its kind are made."""
    patch: dict[str, Any]
    """What to merge in; null removes."""
