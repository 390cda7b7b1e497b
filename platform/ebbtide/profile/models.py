"""What one cluster offers: versions, feature flags, autoscaler limits, metrics, GPUs, priorities, projects.

An overlay owns one; ``doctor`` writes one from a live cluster. Everything here is read, nothing is guessed
later: the translation is a function of the spec and this.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, NotNegative, Text, nothing

#: Dotted versions as the projects write them: 1.21, 0.20.0.
Version = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+){1,2}$")]
ServingMode = Literal["Knative", "Standard"]


class Kubernetes(Model):
    """The cluster itself."""

    version: Version = "1.34"
    """Kubernetes' version."""
    dra: bool = False
    """Whether a DRA driver for the GPUs runs."""
    feature_gates: list[Text] = nothing()
    """Feature gates that are switched on and are not so by themselves in this version: DRAConsumableCapacity."""


class Knative(Model):
    """Knative Serving; the maps hold what its ConfigMaps say differently from upstream's defaults."""

    installed: bool = True
    """Whether Knative Serving is there."""
    version: Version = "1.21"
    """Knative Serving's version."""
    hpa: bool = True
    """Whether the autoscaler-hpa extension is installed, without which class hpa does nothing."""
    features: dict[str, str] = Field(default={})
    """config-features."""
    autoscaler: dict[str, str] = Field(default={})
    """config-autoscaler."""
    defaults: dict[str, str] = Field(default={})
    """config-defaults."""
    deployment: dict[str, str] = Field(default={})
    """config-deployment."""
    observability: dict[str, str] = Field(default={})
    """config-observability."""
    network: dict[str, str] = Field(default={})
    """config-network."""


class RuntimeResources(Model):
    """What a serving runtime's container asks for and is limited to."""

    requests: dict[Literal["cpu", "memory"], str] = Field(default={})
    """Its requests; a spec's own take their place."""
    limits: dict[Literal["cpu", "memory"], str] = Field(default={})
    """Its limits; a spec's own take their place."""


class KServe(Model):
    """KServe."""

    installed: bool = True
    """Whether KServe is there."""
    version: Version = "0.20"
    """KServe's version; mode names changed with 0.16."""
    modes: list[ServingMode] = Field(default=["Knative", "Standard"])
    """The deployment modes that work here."""
    annotation_disallow_list: list[Text] = nothing()
    """inferenceService.serviceAnnotationDisallowedList: annotations not copied to pods."""
    limits: dict[Literal["cpu", "memory"], str] = Field(default={})
    """cpuLimit and memoryLimit of inferenceService.resource: what a container without limits is given. A model is not."""
    runtimes: list[Text] = nothing()
    """The serving runtimes by name; empty: not checked."""
    runtime_resources: dict[str, RuntimeResources] = Field(default={})
    """By serving runtime for one node, what its container has; upstream's have 1 CPU and 2Gi as requests and limits."""


class MetricNames(Model):
    """The names under which the adapter serves metrics to HPAs."""

    latency: Text = "request_latency_p95_milliseconds"
    """95th percentile of queue-proxy's response time, in ms, of one pod."""
    gpu_utilization: Text = "gpu_utilization_percent"
    """GPU utilization of one pod's devices, 0 to 100."""
    gpu_utilization_per_container: Text | None = None
    """The same by container on shared GPUs; none: gpu-utilization is refused there."""


class Metrics(Model):
    """Where HPAs get numbers from."""

    adapter: Literal["prometheus-adapter", "keda", "none"] = "prometheus-adapter"
    """What serves metrics: prometheus-adapter (custom.metrics.k8s.io), KEDA, or nothing."""
    metrics_server: bool = True
    """Whether metrics-server runs, for CPU."""
    names: MetricNames = MetricNames()
    """Names of the adapter's metrics."""
    custom: list[Text] = nothing()
    """Other metrics that the adapter serves; empty: any name is taken, and not checked."""
    prometheus: Text = "http://prometheus-server.monitoring.svc:9090"
    """Prometheus' address, for KEDA."""
    queries: dict[str, str] = Field(default={})
    """PromQL by metric for KEDA, an average over the workload's pods, in which {namespace}, {deployment} and
    {metric} are filled in; what is missing comes from Ebbtide's table."""
    gateway_latency: Text | None = None
    """The gateway's response time histogram, which sees activator wait and cold starts."""
    standard_latency: Text | None = None
    """A metric for latency in KServe Standard mode, where there is no queue-proxy."""
    standard_concurrency: Text | None = None
    """A metric for concurrency in KServe Standard mode."""
    standard_throughput: Text | None = None
    """A metric for throughput in KServe Standard mode."""


class NodePool(Model):
    """Nodes with one kind of GPU, shared in one way."""

    name: Text
    """The pool's name as specs say it."""
    selector: dict[str, str] = Field(default={})
    """The labels that its nodes have."""
    product: Text | None = None
    """The GPU by its nvidia.com/gpu.product label; none: a pool without GPUs."""
    gpu_memory_mebibytes: Annotated[int, Field(ge=1)] | None = None
    """Memory of one GPU in MiB, as the nvidia.com/gpu.memory label has it."""
    devices: NotNegative = 0
    """GPUs of one node."""
    nodes: NotNegative = 0
    """How many nodes; 0: not known or growing."""
    backend: str = "devices"
    """How its GPUs are shared."""
    replicas: Annotated[int, Field(ge=2)] | None = None
    """Shares a GPU is cut into by time-slicing or MPS."""
    resource: Text | None = None
    """The resource name of a share, or of a device under DRA; default nvidia.com/gpu.shared or nvidia.com/gpu."""
    mig_strategy: Literal["single", "mixed"] = "mixed"
    """How MIG devices are advertised."""
    mig_profiles: list[Text] = nothing()
    """The MIG profiles that its nodes are cut into; empty: any that the product has."""
    device_class: Text = "gpu.nvidia.com"
    """The DRA device class."""
    consumable_capacity: bool = False
    """Whether DRA may hand out parts of a device's memory."""
    tolerations: list[dict[str, Any]] = nothing()
    """Tolerations that its taints need, as Kubernetes writes them."""


class Kai(Model):
    """KAI-Scheduler."""

    version: Version = "0.17"
    """KAI's version."""
    gang_schedule_knative: bool = False
    """--knative-gang-schedule: one PodGroup per revision; off, every pod has class inference."""
    sharing_mode: Literal["Disabled", "NonMemoryEnforced", "HamiCore", "NvFractions"] = "NonMemoryEnforced"
    """global.gpuSharingMode (gpuSharing=true in 0.17 and earlier is NonMemoryEnforced)."""


class Scheduling(Model):
    """Who places pods, and the classes that rank them."""

    scheduler: Text = "default-scheduler"
    """The scheduler's name: default-scheduler, kai-scheduler."""
    kai: Kai = Kai()
    """KAI's settings, where it is the scheduler."""
    classes: dict[str, int] = Field(default={"train": 50, "build-preemptible": 75, "build": 100, "inference": 125})
    """The four priority classes and others of this cluster, with their values."""
    classes_owner: Literal["ebbtide", "kai", "cluster"] = "ebbtide"
    """Who creates the four; Ebbtide only renders its own."""


class Project(Model):
    """One project's share of the cluster."""

    id: Text | None = None
    """The id that REST clients send as projectId."""
    gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs that it may use; none: no limit. A ResourceQuota has it for each resource name of the pools: limits add up."""
    cpu: Annotated[float, Field(ge=0)] | None = None
    """CPU cores that it may request."""
    memory: Text | None = None
    """Memory that it may request."""
    over_quota: bool = True
    """Whether preemptible work may use more while others leave it (KAI only)."""
    over_quota_weight: NotNegative = 1
    """Its part of what others leave, against other projects (KAI only)."""


class Projects(Model):
    """How projects appear in the cluster."""

    namespace: Annotated[str, Field(pattern=r"\{project\}")] = "runai-{project}"
    """The namespace of a project."""
    default_namespace: Text = "default"
    """The namespace of a spec without a project."""
    manage: bool = True
    """Whether Ebbtide renders the namespace and its quota."""
    quota: Literal["none", "resourcequota", "kai"] = "resourcequota"
    """How a quota is enforced."""
    parent_queue: Text = "default-parent-queue"
    """The KAI queue above the projects' own; the default is the one that KAI's chart makes, with a quota of 0 (see DOC026)."""
    department: Text | None = None
    """A name for people."""
    known: dict[str, Project] = Field(default={})
    """The projects by name."""
    closed: bool = False
    """Whether a project that is not listed is refused."""
    labels: dict[str, str] = Field(default={})
    """Labels of every project's namespace, for policies: ebbtide.dev/environment: production."""
    pod_security: Literal["restricted", "baseline", "privileged"] = "baseline"
    """The Pod Security level on the namespace; pods that it would refuse are refused here (SEC007)."""


class Enforcer(Model):
    """How the gateway keeps others out, for one authorizationType."""

    labels: dict[str, str] = Field(default={})
    """Labels that make it so; {users} and {groups} are filled in."""
    annotations: dict[str, str] = Field(default={})
    """Annotations that make it so; {users} and {groups} are filled in."""


class Access(Model):
    """Who may call an endpoint."""

    gateway: Text | None = None
    """The gateway that enforces it."""
    enforces: dict[str, Enforcer] = Field(default={})
    """By authorizationType."""


class Pods(Model):
    """Rules for every pod."""

    run_as_non_root: bool = False
    """Whether root is refused where the spec does not say."""
    runtime_class: Text | None = None
    """The runtime class of GPU pods: nvidia."""


class ProfileSpec(Model):
    """The cluster, part by part."""

    kubernetes: Kubernetes = Kubernetes()
    """Kubernetes."""
    knative: Knative = Knative()
    """Knative Serving."""
    kserve: KServe = KServe()
    """KServe."""
    metrics: Metrics = Metrics()
    """Metrics for HPAs."""
    node_pools: list[NodePool] = nothing()
    """The node pools; the first is the default."""
    scheduling: Scheduling = Scheduling()
    """Scheduler and priority classes."""
    projects: Projects = Projects()
    """Projects and quotas."""
    access: Access = Access()
    """Who may call."""
    pods: Pods = Pods()
    """Rules for every pod."""
    domain: Text = "example.com"
    """The domain that services are published under."""
    cluster_id: Text | None = None
    """The id that REST clients send as clusterId; none: not checked."""


class ProfileMetadata(Model):
    """The profile's name."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Its name."""
    annotations: dict[str, str] | None = None
    """Notes of other tools: kustomize's function annotation."""


class Profile(Model):
    """One cluster, as a document."""

    api_version: Literal["ebbtide.dev/v1alpha1"]
    """ebbtide.dev/v1alpha1."""
    kind: Literal["Profile"]
    """Profile."""
    metadata: ProfileMetadata
    """Its name."""
    spec: ProfileSpec
    """What the cluster offers."""
