"""Cluster profile: versions, feature flags, autoscaler limits, metrics, GPUs, priorities and projects of a cluster.

An overlay contains a profile; ``doctor`` writes one from a live cluster. The translation depends only on the spec and the
profile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ebbtide.core.base.exporters import EXPORTERS
from ebbtide.core.spec.scalars import Model, NotNegative, Positive, Text, empty_list

#: A dotted version in the projects' format: 1.21, 0.20.0.
Version = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+){1,2}$")]
ServingMode = Literal["Knative", "Standard"]


class Kubernetes(Model):
    """Version and features of Kubernetes."""

    version: Version = "1.37"
    """Kubernetes version."""
    dra: bool = False
    """True if a DRA driver for the GPUs is installed."""
    feature_gates: list[Text] = empty_list()
    """Enabled feature gates that are disabled by default in this version, such as DRAConsumableCapacity."""


class Knative(Model):
    """Version of Knative Serving, and the keys of its ConfigMaps that differ from upstream's defaults."""

    installed: bool = True
    """True if Knative Serving is installed."""
    version: Version = "1.24"
    """Version of Knative Serving."""
    hpa: bool = True
    """True if the autoscaler-hpa extension is installed. Without it, the autoscaler class hpa does not work."""
    features: dict[str, str] = Field(default={})
    """Keys of the ConfigMap config-features: feature flags."""
    autoscaler: dict[str, str] = Field(default={})
    """Keys of the ConfigMap config-autoscaler."""
    defaults: dict[str, str] = Field(default={})
    """Keys of the ConfigMap config-defaults."""
    deployment: dict[str, str] = Field(default={})
    """Keys of the ConfigMap config-deployment."""
    observability: dict[str, str] = Field(default={})
    """Keys of the ConfigMap config-observability."""
    network: dict[str, str] = Field(default={})
    """Keys of the ConfigMap config-network."""


class RuntimeResources(Model):
    """Resource requests and limits of a serving runtime's container."""

    requests: dict[Literal["cpu", "memory"], str] = Field(default={})
    """Requests of the runtime. Requests in the spec override them."""
    limits: dict[Literal["cpu", "memory"], str] = Field(default={})
    """Limits of the runtime. Limits in the spec override them."""


class KServe(Model):
    """Version and configuration of KServe."""

    installed: bool = True
    """True if KServe is installed."""
    version: Version = "0.20"
    """Version of KServe. The names of the deployment modes changed in 0.16."""
    modes: list[ServingMode] = Field(default=["Knative", "Standard"])
    """Available deployment modes."""
    llm: Literal["none", "route", "scheduler"] = "none"
    """LLMInferenceService: none if its controller is not installed, route if requests go from the gateway to any replica,
    scheduler if the cluster also has the Gateway API Inference Extension, whose endpoint picker chooses the replica."""
    http_route_timeouts: bool = False
    """True if KServe Standard creates HTTPRoutes with timeouts: enableGatewayApi is true, and disableHTTPRouteTimeout is
    not."""
    oci_models: Literal["modelcar", "native", "none"] = "modelcar"
    """Form in which KServe adds a model from an image to a pod: a container (modelcar), an image volume (native), or
    none. ociModelMode or enableModelcar of storageInitializer sets it."""
    storage_initializer: Text = "kserve/storage-initializer:v0.20.0"
    """Image of KServe's storage initializer, which downloads the weights of ``start.weights``, also without KServe."""
    local_model_node_groups: list[Text] = empty_list()
    """Names of the LocalModelNodeGroups. Empty if localModel of inferenceservice-config is not enabled."""
    annotation_disallow_list: list[Text] = empty_list()
    """inferenceService.serviceAnnotationDisallowedList: annotations that KServe does not copy to the pods."""
    limits: dict[Literal["cpu", "memory"], str] = Field(default={})
    """cpuLimit and memoryLimit of inferenceService.resource: limits of a container that sets none. They do not
    apply to a model."""
    runtimes: list[Text] = empty_list()
    """Names of the serving runtimes. If empty, runtime names are not checked."""
    runtime_resources: dict[str, RuntimeResources] = Field(default={})
    """Resources of single-node serving runtimes, by name. Upstream's runtimes have requests and limits of 1 CPU and 2Gi."""


class MetricNames(Model):
    """Names under which the metrics adapter serves metrics to HPAs."""

    latency: Text = "request_latency_p95_milliseconds"
    """95th percentile of a pod's response time in ms, measured by queue-proxy."""
    gpu_utilization: Text = "gpu_utilization_percent"
    """GPU utilization of a pod's devices, from 0 to 100."""
    gpu_utilization_per_container: Text | None = None
    """GPU utilization per container on shared GPUs, from 0 to 100. Without it, gpu-utilization is not allowed on shared
    GPUs."""


#: A value of Prometheus' labels of a scrape target.
TargetLabel = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./:-]+$", max_length=253)]


class ExporterJob(Model):
    """Scrape job of an exporter. Only series of its targets count, so that no other pod can report numbers of a workload."""

    job: TargetLabel
    """Label ``job`` of the exporter's series."""
    namespace: TargetLabel | None = None
    """Label ``namespace`` of the exporter's targets. Set it if the job is the name of a Service, which every namespace can
    have. Not with honorLabels, where the label is that of the workload."""
    renamed: bool = False
    """True if Prometheus renames the exporter's labels to exported_namespace and exported_pod, as without honorLabels. Only
    for ``gpu``."""


class ExporterJobs(Model):
    """Scrape jobs of the exporters whose series name workloads of all namespaces. The defaults are Ebbtide's monitors."""

    gpu: ExporterJob = ExporterJob(job=EXPORTERS["gpu"].job)
    """Exporter of the GPU utilization: dcgm-exporter."""
    gateway: ExporterJob | None = None
    """Gateway. Default: monitoring/ebbtide-kourier for Kourier's and Contour's series, any job for those of another
    gateway."""
    autoscaler: ExporterJob = ExporterJob(job=EXPORTERS["autoscaler"].job)
    """Knative's autoscaler."""
    deployments: ExporterJob = ExporterJob(job=EXPORTERS["deployments"].job)
    """kube-state-metrics."""


class Metrics(Model):
    """Sources of the metrics that HPAs read."""

    adapter: Literal["prometheus-adapter", "keda", "none"] = "prometheus-adapter"
    """Metrics adapter: prometheus-adapter (custom.metrics.k8s.io), KEDA, or none."""
    metrics_server: bool = True
    """True if metrics-server is installed. Required for CPU metrics."""
    names: MetricNames = MetricNames()
    """Names of the adapter's metrics."""
    custom: list[Text] = empty_list()
    """Custom metrics that the adapter serves. If empty, any name is accepted and names are not checked."""
    prometheus: Text = "http://prometheus-server.monitoring.svc:9090"
    """URL of Prometheus, used by KEDA."""
    prometheus_proxy: Text | None = None
    """URL of prom-label-proxy in front of Prometheus, run with ``-label namespace -query-param namespace``. The controller
    sends it the queries of projects with ``queries: proxy``."""
    queries: dict[str, str] = Field(default={})
    """PromQL queries for KEDA, by metric. Each averages over the workload's pods and may use the placeholders
    {namespace}, {deployment} and {metric}. Default: the queries in the metrics reference."""
    scrape_interval_seconds: Annotated[int, Field(ge=5, le=60)] = 15
    """Seconds between two scrapes of the pods by Prometheus: KEDA's queries read counters over four of them. Ebbtide's controller
    measures it."""
    exporters: ExporterJobs = ExporterJobs()
    """Scrape jobs of exporters whose series name workloads."""
    gateway_latency: Text | None = None
    """Response time histogram of the gateway, which includes activator wait and cold starts."""
    standard_latency: Text | None = None
    """Metric for latency in KServe Standard mode, which has no queue-proxy."""
    standard_concurrency: Text | None = None
    """Metric for concurrency in KServe Standard mode."""
    standard_throughput: Text | None = None
    """Metric for throughput in KServe Standard mode."""


class AutoscalingProfile(Model):
    """Ebbtide's own autoscaling."""

    controller: bool = False
    """True if Ebbtide's controller runs (ebbtide controller). It scales on any metric, to zero too."""
    fallback_seconds: Annotated[int, Field(ge=60, le=86400)] = 900
    """Seconds without a metric's value after which the controller sets fallbackReplicas of a spec that has it. Until then,
    and without it, the replicas stay."""


class NodeAutoscaler(Model):
    """Autoscaler that starts and ends the nodes of a pool."""

    name: Literal["karpenter", "cluster-autoscaler"]
    """Software that starts the nodes."""
    start_seconds: Positive | None = None
    """Time from the request of a node until it can take a pod, in seconds. ``ebbtide start`` measures it."""
    keep_replicas: bool = False
    """Annotate the replicas so that the autoscaler does not end their node to save cost or to replace it. Such a node stays
    also if it is almost empty. Without effect for specs with ``defaults: none``."""
    spot_notice_seconds: Positive | None = None
    """Time between the notice and the end of a spot node, in seconds, such as 120. Default: the nodes are not spot nodes."""


class NodePool(Model):
    """Node pool: nodes with the same GPU model and the same GPU-sharing backend."""

    name: Text
    """Name of the pool, as used in spec.nodePools."""
    selector: dict[str, str] = Field(default={})
    """Labels that select the nodes of the pool."""
    product: Text | None = None
    """GPU model, from the node label nvidia.com/gpu.product. Not set for a pool without GPUs."""
    gpu_memory_mebibytes: Annotated[int, Field(ge=1)] | None = None
    """Memory of one GPU in MiB, from the node label nvidia.com/gpu.memory."""
    devices: NotNegative = 0
    """Number of GPUs per node."""
    nodes: NotNegative = 0
    """Number of nodes. 0 if unknown or variable."""
    backend: str = "devices"
    """GPU-sharing backend."""
    replicas: Annotated[int, Field(ge=2)] | None = None
    """Number of shares per GPU for time-slicing or MPS."""
    resource: Text | None = None
    """Resource name of a share, or of a device with DRA. Default: nvidia.com/gpu.shared or nvidia.com/gpu."""
    mig_strategy: Literal["single", "mixed"] = "mixed"
    """MIG strategy of the device plugin, which determines how MIG devices are advertised."""
    mig_profiles: list[Text] = empty_list()
    """MIG profiles that the nodes are partitioned into. If empty, all profiles of the product."""
    device_class: Text = "gpu.nvidia.com"
    """DRA device class."""
    consumable_capacity: bool = False
    """True if DRA may allocate a part of a device's memory."""
    tolerations: list[dict[str, Any]] = empty_list()
    """Tolerations for the taints of the nodes, in Kubernetes format."""
    node_autoscaler: NodeAutoscaler | None = None
    """Autoscaler that starts the nodes of the pool. Default: the nodes run all the time."""


class Kai(Model):
    """Version and configuration of KAI-Scheduler."""

    version: Version = "0.17"
    """Version of KAI-Scheduler."""
    gang_schedule_knative: bool = True
    """Value of --knative-gang-schedule. If true, as by default, KAI creates one PodGroup per revision. If false, every pod
    has the priority class inference."""
    sharing_mode: Literal["Disabled", "NonMemoryEnforced", "HamiCore", "NvFractions"] = "Disabled"
    """Value of global.gpuSharingMode. KAI 0.17 has the setting global.gpuSharing instead: false, its default, corresponds to
    Disabled, and true to NonMemoryEnforced."""


class Scheduling(Model):
    """Scheduler and priority classes."""

    scheduler: Text = "default-scheduler"
    """Name of the scheduler: default-scheduler or kai-scheduler."""
    kai: Kai = Kai()
    """KAI-Scheduler, if it is the scheduler."""
    classes: dict[str, int] = Field(default={"train": 50, "build-preemptible": 75, "build": 100, "inference": 125})
    """Priority classes and their values: the four classes of Run:ai, and others of the cluster."""
    classes_owner: Literal["ebbtide", "kai", "cluster"] = "ebbtide"
    """Owner of the four classes. Ebbtide renders them only if it is the owner."""


#: Access of a project's queries to Prometheus.
QueryAccess = Literal["none", "proxy", "any"]


class Project(Model):
    """Quota of a project, and what its members may do."""

    id: Text | None = None
    """Project ID that REST clients send as projectId."""
    gpus: Annotated[float, Field(ge=0, le=1_000_000_000)] | None = None
    """GPU quota. Default: no limit. A ResourceQuota applies it to each resource name of the pools separately, so the
    limits add up."""
    cpu: Annotated[float, Field(ge=0, le=1_000_000_000)] | None = None
    """CPU quota in cores. Default: no limit."""
    memory: Text | None = None
    """Memory quota, such as 64Gi. Default: no limit."""
    over_quota: bool = True
    """Allow preemptible workloads to use idle resources above the quota. KAI and Kueue only; with Kueue, any workload, which
    other projects may then preempt to get their quota back."""
    over_quota_weight: NotNegative = 1
    """Over-quota weight: relative share of idle resources compared with other projects. KAI only, and
    Kueue with fairSharing."""
    queries: QueryAccess | None = None
    """Access of the project's queries. Default: ``projects.queries``."""


class Projects(Model):
    """Namespaces and quotas of projects."""

    namespace: Annotated[str, Field(pattern=r"\{project\}")] = "runai-{project}"
    """Pattern of a project's namespace. Must contain {project}."""
    default_namespace: Text = "none"
    """Namespace of a spec that has neither namespace nor project. none: its objects have none, so that the deployment decides
    (kubectl -n, Argo CD, Flux, kustomize)."""
    manage: bool = True
    """Render the namespace of a project and its quota."""
    quota: Literal["none", "resourcequota", "kai", "kueue"] = "resourcequota"
    """Enforcement of quotas: none, a ResourceQuota, a KAI queue, or a Kueue ClusterQueue. Kueue counts pods of any
    priority, and needs the framework pod or deployment in integrations of its configuration. It holds pods back, which Knative
    allows for the initialization timeout (PRJ091)."""
    parent_queue: Text = "default-parent-queue"
    """KAI parent queue, or Kueue cohort, of the project queues. KAI's chart creates the default queue with a quota of 0 (see DOC026)."""
    department: Text | None = None
    """Display name of the department."""
    known: dict[str, Project] = Field(default={})
    """Projects by name."""
    closed: bool = False
    """Accept only projects that are listed in ``known``."""
    service_accounts: list[Text] = empty_list()
    """Names of the service accounts that specs may use. If empty, names are not checked."""
    labels: dict[str, str] = Field(default={})
    """Labels of every project namespace, for policies, such as ebbtide.dev/environment: production."""
    pod_security: Literal["restricted", "baseline", "privileged"] = "baseline"
    """Pod Security level of project namespaces. Specs whose pods would be forbidden are rejected (SEC007)."""
    queries: QueryAccess = "none"
    """Access of the queries in autoscaling.metrics, for every namespace: none, the series that ``metrics.prometheusProxy``
    allows for the workload's namespace (proxy), or any series that the controller can read."""


class Enforcer(Model):
    """Labels and annotations that make the gateway enforce an authorizationType."""

    labels: dict[str, str] = Field(default={})
    """Labels to set on the service. May use the placeholders {users} and {groups}."""
    annotations: dict[str, str] = Field(default={})
    """Annotations to set on the service. May use the placeholders {users} and {groups}."""


class Access(Model):
    """Access control of endpoints."""

    gateway: Text | None = None
    """Name of the gateway that enforces access control."""
    enforces: dict[str, Enforcer] = Field(default={})
    """Labels and annotations by authorizationType."""


class EndpointLimits(Model):
    """Limits of the requests to an endpoint. By default, there is none.

    Limits by project and by month, and of tokens, need ``rateLimitService``. The tokens of a request count after its answer,
    so a limit of tokens refuses the requests after the one that exceeds it.
    """

    requests_per_minute: Positive | None = None
    """Requests per minute to a published service, by all keys together, in each replica of the gateway."""
    requests_per_minute_per_key: Positive | None = None
    """Requests per minute to a published service with one key, in each replica of the gateway."""
    requests_per_minute_per_project: Positive | None = None
    """Requests per minute to all published services of a project."""
    requests_per_month_per_key: Positive | None = None
    """Requests in 30 days to all published services of a project with one key."""
    requests_per_month_per_project: Positive | None = None
    """Requests in 30 days to all published services of a project."""
    tokens_per_minute: Positive | None = None
    """Tokens per minute of a published service."""
    tokens_per_minute_per_key: Positive | None = None
    """Tokens per minute of all published services of a project with one key."""
    tokens_per_minute_per_project: Positive | None = None
    """Tokens per minute of all published services of a project."""
    tokens_per_month_per_key: Positive | None = None
    """Tokens in 30 days of all published services of a project with one key."""
    tokens_per_month_per_project: Positive | None = None
    """Tokens in 30 days of all published services of a project."""


class ProjectEndpoint(Model):
    """The endpoint of each project: one URL for all its models, on a gateway that the cluster has."""

    gateway: Literal["none", "envoy-gateway"] = "none"
    """Software of the gateway, or none if no service can be published."""
    host: Annotated[str, Field(pattern=r"^\{project\}[a-z0-9.-]+$")] = "{project}.models.example.com"
    """Host name of a project's endpoint. Must begin with {project}."""
    gateway_name: Text = "models"
    """Name of the Gateway."""
    gateway_namespace: Text = "envoy-gateway-system"
    """Namespace of the Gateway."""
    listener: Text = "{project}"
    """Listener of the Gateway. With one listener for each project, which admits only the routes of the project's namespace,
    no other project can take over its host."""
    max_body_size: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi)$", max_length=8)] = "4Mi"
    """Largest body of a request. The gateway reads the whole body to find the model, and answers 413 above this size."""
    client_timeout_seconds: Positive = 600
    """Shortest time limit on the way to the gateway: that of the clients, or of a load balancer in front. Default: that of
    OpenAI's Python client."""
    rate_limit_service: bool = False
    """The gateway has a service that counts requests for all of its replicas, in a database: with Envoy Gateway, ``rateLimit``
    of its configuration, with a Redis."""
    limits: EndpointLimits = EndpointLimits()
    """Limits of the requests to an endpoint."""


class Pods(Model):
    """Defaults for every pod."""

    run_as_non_root: bool = False
    """Require a user other than root unless the spec sets security.runAsNonRoot."""
    pause_image: Text = "registry.k8s.io/pause:3.10.1"
    """Image of the pods that keep an image on the nodes (``start.prePullImage``): one that waits and uses no resources."""
    runtime_class: Text | None = None
    """Runtime class of GPU pods, such as nvidia."""


class Prices(Model):
    """Prices for ``ebbtide report`` and ``ebbtide plan``. Without them, both have hours and no money."""

    currency: Text | None = None
    """Currency of the prices, as reports show it."""
    gpu_hour: dict[str, Annotated[float, Field(ge=0, le=1_000_000)]] = Field(default={})
    """Price of a GPU-hour by node pool or by GPU model, with its host; the name of a pool wins."""
    cpu_hour: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """Price of a core-hour of services without a GPU."""


class ProfileSpec(Model):
    """Capabilities of the cluster, by component."""

    kubernetes: Kubernetes = Kubernetes()
    """Kubernetes."""
    knative: Knative = Knative()
    """Knative Serving."""
    kserve: KServe = KServe()
    """KServe."""
    metrics: Metrics = Metrics()
    """Metrics for HPAs."""
    autoscaling: AutoscalingProfile = AutoscalingProfile()
    """Ebbtide's own autoscaling."""
    node_pools: list[NodePool] = empty_list()
    """Node pools. The first pool is the default."""
    any_node_pool: Text | None = None
    """Name that stands for any node pool if a spec's nodePools contain only it, as ``default`` in Run:ai. Default: none."""
    scheduling: Scheduling = Scheduling()
    """Scheduler and priority classes."""
    projects: Projects = Projects()
    """Projects and quotas."""
    access: Access = Access()
    """Access control of endpoints."""
    endpoint: ProjectEndpoint = ProjectEndpoint()
    """Endpoint of each project."""
    pods: Pods = Pods()
    """Defaults for every pod."""
    prices: Prices = Prices()
    """Prices of GPUs and cores."""
    domain: Text = "example.com"
    """Domain of the services' URLs."""
    cluster_id: Text | None = None
    """Cluster ID that REST clients send as clusterId. Default: not checked."""


class ProfileMetadata(Model):
    """Name and annotations of the profile."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the profile."""
    annotations: dict[str, str] | None = None
    """Annotations of other tools, such as kustomize's function annotation."""


class Profile(Model):
    """A cluster profile."""

    api_version: Literal["ebbtide.dev/v1alpha1"]
    """API version of the document."""
    kind: Literal["Profile"]
    """Kind of the document."""
    metadata: ProfileMetadata
    """Name and annotations."""
    spec: ProfileSpec
    """Capabilities of the cluster."""
