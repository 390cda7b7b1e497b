"""The complete document of ``kind: Inference``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ebbtide.core.spec.autoscaling import Autoscaling
from ebbtide.core.spec.compute import Compute
from ebbtide.core.spec.container import Probes, PullSecret, Security, Variable
from ebbtide.core.spec.scalars import Label, Model, NamedValue, ObjectName, Text, Updatable, Words, empty_list
from ebbtide.core.spec.scheduling import (
    DeploymentStrategy,
    DisruptionBudget,
    NodeAffinity,
    PodAffinity,
    Toleration,
    TopologySpread,
)
from ebbtide.core.spec.serving import (
    Batcher,
    Endpoint,
    ExposedPort,
    ExposedUrl,
    Logger,
    Lora,
    Patch,
    Rollout,
    ServedModel,
    ServingConfiguration,
    ServingPort,
    Slo,
    Traffic,
)
from ebbtide.core.spec.start import Start
from ebbtide.core.spec.storage import Storage


class Metadata(Model):
    """Name, namespace, labels and annotations of the rendered object."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the workload: lowercase letters, digits and dashes, starting with a letter."""
    namespace: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Namespace. Must not be set together with spec.project, which determines the namespace."""
    labels: dict[str, Label] | None = None
    """Labels of the rendered object. Unlike spec.labels, they are not set on the pods, except by KServe, which copies
    them."""
    annotations: dict[str, str] | None = None
    """Annotations of the rendered object. Unlike spec.annotations, they are not set on the pods, except by KServe, which
    copies them."""


class InferenceSpec(Model):
    """Run:ai's REST schema for an inference workload, with Ebbtide extensions."""

    project: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(default=None, examples=["team-z"])
    """Project, which determines the namespace and the quota. Ebbtide extension."""
    serving: Literal["auto", "knative", "kserve", "kserve-standard", "llm"] | None = None
    """Type of object to render. ``auto`` selects kserve-standard if the GPU comes from a resource claim (DRA), otherwise
    kserve for a model and knative for an image. ``llm`` is KServe's LLMInferenceService. Default: auto. Ebbtide extension."""
    # explain tries no other value: it turns off much of what other fields do not set, and would be a cause of it all.
    defaults: Literal["ebbtide", "none"] | None = Field(default=None, examples=[])
    """Settings that Ebbtide adds to those of the spec: labels, security context, scheduler, priority class, port, autoscaler
    class, replica bounds. ``none`` adds nothing, so that the cluster's own defaults apply, and a metric is not required.
    Import sets ``none``. Default: ebbtide. Ebbtide extension."""
    # The second one is the image of an engine, because other images cannot stream.
    image: Updatable[Text | None] = Field(
        default=None, examples=["registry.example.com/server:2.0", "registry.example.com/vllm-openai:1"]
    )
    """Container image. Required unless ``model`` is set."""
    image_pull_policy: Updatable[Literal["Always", "Never", "IfNotPresent"] | None] = None
    """Image pull policy. Default: Always for the tag ``:latest`` or no tag, otherwise IfNotPresent. Knative resolves a
    tag once per revision."""
    service_account_name: ObjectName | None = None
    """Service account of the pods, for their permissions and their cloud identity (IRSA, Workload Identity). Default: the
    account ``default`` of the namespace. Ebbtide extension."""
    image_pull_secrets: Updatable[list[PullSecret]] = empty_list([{"name": "registry-key"}])
    """Secrets with credentials for the image registry."""
    container_name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)] | None = None
    """Name of the serving container. Only for a Knative Service; KServe names the container itself. Default:
    user-container. Ebbtide extension."""
    command: Updatable[Words | None] = Field(default=None, examples=[["serve"]])
    """Command to run instead of the image's entrypoint."""
    args: Updatable[Words | None] = Field(default=None, examples=[["--verbose"]])
    """Arguments of the command."""
    working_dir: Updatable[Text | None] = None
    """Working directory of the container."""
    create_home_dir: Updatable[bool] = False
    """Create a home directory for the Run:ai user. ``true`` is not supported."""
    environment_variables: Updatable[list[Variable]] = empty_list([{"name": "LOG_LEVEL", "value": "debug"}])
    """Environment variables of the container."""
    probes: Updatable[Probes] = Probes()
    """Readiness, liveness and startup probes."""
    model: ServedModel | None = Field(default=None, examples=[{"format": "onnx", "uri": "s3://models/ranker"}])
    """Model to serve with a KServe runtime instead of an image. Ebbtide extension."""
    sidecars: list[dict[str, Any]] = empty_list([{"name": "proxy", "image": "proxy:1"}])
    """Further containers of the pod, with Kubernetes' field names. They mount volumes of ``storage`` by name. Ebbtide
    extension."""
    init_containers: list[dict[str, Any]] = empty_list([{"name": "prepare", "image": "prepare:1"}])
    """Containers that run before the server, with Kubernetes' field names. Ebbtide extension."""
    transformer: dict[str, Any] | None = Field(default=None, examples=[{"containers": [{"image": "transformer:1"}]}])
    """KServe's transformer, which processes requests before and after the model, with KServe's field names. KServe only.
    Quotas do not include its requests. Ebbtide extension."""
    explainer: dict[str, Any] | None = Field(default=None, examples=[{"containers": [{"image": "explainer:1"}]}])
    """KServe's explainer, with KServe's field names. KServe only. Quotas do not include its requests. Ebbtide extension."""
    logger: Logger | None = Field(default=None, examples=[{"url": "http://events.example.com"}])
    """Log of requests and responses. KServe only. Ebbtide extension."""
    batcher: Batcher | None = Field(default=None, examples=[{"maxBatchSize": 9}])
    """Batches of requests. KServe only. Ebbtide extension."""
    lora: Lora | None = Field(default=None, examples=[{"adapters": [{"name": "legal", "uri": "hf://acme/legal"}]}])
    """LoRA adapters of an image of vLLM, or of ``serving: llm``. Ebbtide extension."""
    compute: Updatable[Compute] = Compute()
    """CPU, memory and GPU resources of one replica."""
    autoscaling: Updatable[Autoscaling] = Field(
        default=Autoscaling(),
        examples=[
            {"minReplicas": 1, "maxReplicas": 5, "metric": "requests_waiting", "metricThreshold": 12},
            {"minReplicas": 1, "maxReplicas": 5, "metric": "concurrency", "metricThreshold": 12},
            {"minReplicas": 1, "maxReplicas": 5, "metric": "cpu-utilization", "metricThreshold": 12},
            {"minReplicas": 2, "maxReplicas": 2},
        ],
    )
    """Replica bounds and scaling metric."""
    serving_port: ServingPort = ServingPort()
    """Serving port and access control."""
    serving_configuration: Updatable[ServingConfiguration] = ServingConfiguration()
    """Timeouts for initialization and requests."""
    slo: Slo | None = None
    """Service level objectives. Ebbtide extension."""
    traffic: Traffic = Traffic()
    """Traffic split between the newest and the stable revision. Ebbtide extension."""
    rollout: Rollout = Rollout()
    """Replacement of the replicas in an update. Ebbtide extension."""
    priority_class: Updatable[Annotated[str, Field(min_length=1, max_length=253)] | None] = Field(
        default=None, examples=["train", "high", "inference"]
    )
    """Priority class: train, build-preemptible, build, inference, a level from very-low to very-high, or another class
    of the cluster."""
    preemptibility: Updatable[Literal["preemptible", "non-preemptible", "semi-preemptible"] | None] = None
    """Preemptibility: allows workloads of higher priority to preempt this one. semi-preemptible is not supported."""
    node_pools: Updatable[list[Text]] = empty_list()
    """Node pools in order of preference."""
    node_type: Updatable[Text | None] = None
    """Node type: required value of the node label run.ai/type."""
    node_selector: dict[str, Label] | None = Field(default=None, examples=[{"disk": "ssd"}])
    """Required node labels, in addition to those of node pools and node type. Ebbtide extension."""
    node_affinity_required: Updatable[NodeAffinity | None] = Field(
        default=None, examples=[{"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}]
    )
    """Required node affinity."""
    pod_affinity: Updatable[PodAffinity | None] = Field(
        default=None, examples=[{"type": "Required", "key": "kubernetes.io/hostname"}]
    )
    """Run the replicas in the same topology domain."""
    pod_anti_affinity: PodAffinity | None = Field(
        default=None, examples=[{"type": "Required", "key": "kubernetes.io/hostname"}]
    )
    """Run the replicas in different topology domains. Ebbtide extension."""
    topology_spread_constraints: list[TopologySpread] = empty_list([{"topologyKey": "rack"}])
    """Distribution of the replicas over zones, nodes or other domains. Ebbtide extension."""
    disruption_budget: DisruptionBudget | None = Field(default=None, examples=[{"maxUnavailable": 1}])
    """Limit of the replicas that a node drain may stop at a time. Ebbtide extension."""
    deployment_strategy: DeploymentStrategy | None = Field(default=None, examples=[{"type": "Recreate"}])
    """Replacement of the replicas in an update. KServe Standard, and LLMInferenceService from KServe 0.21. Ebbtide extension."""
    tolerations: list[Toleration] = empty_list([{"operator": "Exists"}])
    """Tolerations for node taints."""
    start: Start | None = None
    """Choices that shorten the start of a replica: the copy of the weights. Ebbtide extension."""
    storage: Storage = Storage()
    """Volumes and their mount paths."""
    security: Security = Security()
    """User, group and privileges of the container."""
    labels: list[NamedValue] = empty_list([{"name": "team", "value": "search"}])
    """Labels of the pods. A change creates a new revision."""
    annotations: list[NamedValue] = empty_list([{"name": "owner", "value": "search"}])
    """Annotations of the pods. A change creates a new revision."""
    category: Updatable[Label | None] = None
    """Run:ai's workload category, set as a label of the rendered object."""
    endpoint: Endpoint | None = Field(default=None, examples=[{}, {"name": "chat-large"}])
    """Publication at the endpoint of the project, which is one URL for all its models. ``{}`` publishes the service under its
    default name. Ebbtide extension."""
    exposed_urls: list[ExposedUrl] = empty_list([{"url": "https://models.example.org"}])
    """Custom host names of the service."""
    ports: list[ExposedPort] = empty_list()
    """Additional ports. Only the serving port is supported."""
    related_urls: list[dict[str, Any]] = empty_list()
    """Links to show with the workload. Not rendered."""
    patches: list[Patch] = empty_list()
    """Patches of the rendered objects. Import writes settings here that have no field in the spec. Ebbtide
    extension."""


class Inference(Model):
    """An inference workload."""

    api_version: Literal["ebbtide.dev/v1alpha1"]
    """API version of the document."""
    kind: Literal["Inference"]
    """Kind of the document."""
    metadata: Metadata
    """Name, namespace, labels and annotations."""
    spec: InferenceSpec
    """Specification of the workload."""
