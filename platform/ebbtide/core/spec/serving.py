"""Serving port, timeouts, model, SLO, traffic and exposed URLs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import (
    AbsolutePath,
    Model,
    NotNegative,
    ObjectName,
    Port,
    Positive,
    Protocol,
    Text,
    empty_list,
)


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


class ModelStorage(Model):
    """A model in an object store whose address and credentials are in KServe's storage Secret. Ebbtide extension."""

    key: Text | None = None
    """Key of the Secret storage-config with the type, address and credentials of the store. Default: ``default``, or
    ``default_<type>`` if parameters set a type."""
    path: Text | None = None
    """Path of the model in the bucket. Must not be set together with model.uri."""
    parameters: dict[str, str] | None = Field(default=None, examples=[{"type": "s3", "bucket": "models"}])
    """Values to use instead of those in the Secret, such as type (s3, hdfs or webhdfs) and bucket."""


class ModelUri(Model):
    """One of several storage URIs of a model. Ebbtide extension."""

    uri: Text = Field(examples=["s3://models/ranker"])
    """Storage URI, such as s3://bucket/path or pvc://claim/path."""
    mount_path: AbsolutePath | None = Field(default=None, examples=["/mnt/models/ranker"])
    """Directory in the container. Default: /mnt/models."""


class ServedModel(Model):
    """A model that a KServe runtime loads from storage and serves. Ebbtide extension."""

    format: Text = Field(examples=["xgboost"])
    """Model format, such as sklearn, onnx or huggingface."""
    name: Text | None = None
    """Name of the model in requests. Only for serving llm. Default: the name of the workload."""
    format_version: Text | None = None
    """Version of the format, if the runtime requires one."""
    uri: Text | None = Field(default=None, examples=["s3://models/ranker"])
    """Storage URI of the model: s3://…, gs://…, hf://…, pvc://claim/path, https://…, oci://… or oci+native://…."""
    uris: list[ModelUri] = empty_list()
    """Several storage URIs, such as those of a base model and its adapters, instead of ``uri``."""
    storage: ModelStorage | None = Field(default=None, examples=[{"path": "ranker"}])
    """Location or credentials in KServe's storage Secret. A model without uri, uris and storage is loaded by its runtime,
    which args or environmentVariables must tell the model's name, such as --model_id=org/model."""
    runtime: ObjectName | None = None
    """Name of the serving runtime. Default: KServe selects one by format."""
    runtime_version: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)] | None = None
    """Version of the serving runtime: replaces the tag of its image, unless the image has a digest."""
    protocol: Literal["v1", "v2", "grpc-v1", "grpc-v2"] | None = None
    """Inference protocol."""
    storage_secret: ObjectName | None = None
    """Secret with credentials for the storage URI. Not valid with ``storage``, which has its own credentials."""


class LoggerStorage(Model):
    """A store for the payload log, instead of a URL. Ebbtide extension."""

    key: Text
    """Key of the Secret with the store's credentials."""
    path: Text
    """Path of the log in the store."""
    parameters: dict[str, str] = Field(examples=[{"type": "s3", "bucket": "events"}])
    """Properties of the store, such as type, bucket and format."""
    service_account_name: ObjectName | None = None
    """Service account whose Secret has the credentials."""


class Logger(Model):
    """Payload log: KServe's agent sends requests and responses as CloudEvents. Ebbtide extension."""

    url: Text | None = Field(default=None, examples=["http://events.example.com"])
    """URL that receives the events. Default: defaultUrl of KServe's logger configuration."""
    mode: Literal["all", "request", "response"] = "all"
    """Payloads to log."""
    metadata_headers: list[Text] = empty_list()
    """Request headers to add to the events."""
    metadata_annotations: list[Text] = empty_list()
    """Keys of pod annotations to add to the events."""
    storage: LoggerStorage | None = Field(default=None, examples=[{"key": "events", "path": "log", "parameters": {}}])
    """Store for the log."""
    marshaller_url: Text | None = Field(default=None, examples=["http://format.example.com"])
    """URL of a service that formats the records for the store."""
    batch_size: Positive | None = None
    """Records per object in the store. Default: 1."""
    batch_interval: Text | None = Field(default=None, examples=["9s"])
    """Time after which an incomplete object is stored, such as 5s."""


class Batcher(Model):
    """Request batching by KServe's agent. Ebbtide extension."""

    max_batch_size: Positive | None = None
    """Number of instances that complete a batch. Default: 32."""
    max_latency: Positive | None = None
    """Milliseconds after which an incomplete batch is sent. Default: 5000."""
    timeout: Positive | None = None
    """Timeout of a batch, in seconds. KServe accepts it without effect."""


class Slo(Model):
    """Service level objectives. ``simulate`` predicts them, ``slo`` reports them, and alerts monitor them. Ebbtide extension."""

    mean_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum mean response time, in milliseconds."""
    p95_latency_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum response time of 95% of the requests, in milliseconds, including cold starts."""
    uptime_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    """Minimum percentage of time that the service answers requests."""
    time_to_first_token_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum time until the first token of a response, in milliseconds, including cold starts."""
    time_to_first_token_percent: Annotated[float, Field(gt=0, le=99.999, allow_inf_nan=False)] | None = None
    """Percentage of the responses to which timeToFirstTokenMilliseconds applies. Default: 95."""
    inter_token_milliseconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum time between two tokens of a response, in milliseconds."""
    inter_token_percent: Annotated[float, Field(gt=0, le=99.999, allow_inf_nan=False)] | None = None
    """Percentage of the tokens to which interTokenMilliseconds applies. Default: 95."""


class Traffic(Model):
    """Traffic split during a rollout. Ebbtide extension."""

    canary_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Percentage of requests that the latest revision receives."""
    stable_revision: ObjectName | None = None
    """Revision that receives the remaining requests. Required for a Knative Service; set by ``apply``."""
    rollout_duration_seconds: NotNegative | None = None
    """Seconds over which Knative shifts the traffic to a new revision. Default: rollout-duration of the cluster, 0."""


class Rollout(Model):
    """Replacement of the replicas when an update creates a new revision. Ebbtide extension."""

    surge: Literal[0] | None = None
    """0 replaces the replicas one at a time, without additional ones, so that no spare GPU is needed. Requires at least
    2 replicas. With a Knative Service, ebbtide apply carries it out. Default: Knative starts all new replicas first."""


#: The name of a model in requests: it is compared with a header, so it has no characters that a header cannot have.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=200)]


class LoraAdapter(Model):
    """One LoRA adapter."""

    name: ModelName
    """Name of the adapter in requests, as their model."""
    uri: Text = Field(examples=["hf://acme/legal"])
    """hf://org/adapter or a directory of the container; for an LLMInferenceService hf://, s3:// or pvc://."""
    rank: Positive | None = None
    """Rank of the adapter, ``r`` in its adapter_config.json, for the check and for the default of maxRank."""


class Lora(Model):
    """LoRA adapters that vLLM loads next to its model. Ebbtide extension."""

    adapters: Annotated[list[LoraAdapter], Field(min_length=1)] = Field(
        examples=[[{"name": "legal", "uri": "hf://acme/legal"}]]
    )
    """The adapters, which the server loads when it starts."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    """Highest rank that the server accepts, for which it reserves memory. Default: the least for the ranks of the adapters."""
    max_adapters: Positive | None = None
    """Number of adapters that one batch can contain, each of which takes GPU memory. Default: 1, that of vLLM."""


class Endpoint(Model):
    """Publication at the project's endpoint, where the model in the request selects the service. Ebbtide extension."""

    name: ModelName | None = None
    """Name of the model in requests. Default: the name that the server or model.name has, otherwise the name of the workload."""
    aliases: list[ModelName] = empty_list()
    """Further names of the model. The body of a request is not changed, so the server must accept them too."""
    split: dict[str, Annotated[int, Field(ge=1, le=99)]] = Field(default={}, examples=[{"chat-small": 9}])
    """Percentage of the requests that other services of the project receive, by the name of the service. They serve a model of
    the same name by the same kind of object, and are not published themselves."""
    # No service that an example names exists.
    fallback: ObjectName | None = Field(default=None, examples=[])
    """Service that answers while this one starts from zero. The gateway must support it."""


class ExposedUrl(Model):
    """A custom host name of the service."""

    container: Port | None = None
    """Container port. Must be the serving port."""
    url: Text | None = Field(default=None, examples=["https://models.example.org"])
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


class Patch(Model):
    """A patch of one rendered object, for settings without a field in the spec. Ebbtide extension."""

    kind: Text
    """Kind of the object."""
    name: Text | None = None
    """Name of the object. Required if several objects of the kind are rendered."""
    patch: dict[str, Any]
    """Values to merge into the object. null removes a field. Containers, variables, volumes, mounts and ports are merged by
    name, path or number, as in Kubernetes' strategic merge patch. A patch must not change what a field of the spec renders."""
