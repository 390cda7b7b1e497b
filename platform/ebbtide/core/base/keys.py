"""Labels, annotations and resource names that Ebbtide writes or reads, each with an example.

No other module contains such a key as a literal. Upstream: knative.dev/serving pkg/apis/autoscaling/register.go
and pkg/apis/serving/register.go, github.com/kserve/kserve pkg/constants/constants.go, KAI-Scheduler
pkg/common/constants/constants.go, Project-HAMi/HAMi charts/hami/values.yaml.
"""

from __future__ import annotations

from typing import Final

# Ebbtide.
EBBTIDE: Final = "ebbtide.dev/"
#: The canonical spec as JSON, only on the top-level object: ebbtide.dev/spec: {"image":"…"}
SPEC: Final = "ebbtide.dev/spec"
#: ebbtide.dev/project: team-a
PROJECT: Final = "ebbtide.dev/project"
#: Manual override by `ebbtide scale` as JSON, only on the top-level object: ebbtide.dev/scale: {"minReplicas":2,"base":{…}}
SCALE: Final = "ebbtide.dev/scale"
#: The metrics, bounds and schedule of the controller as JSON, only on the top-level object: ebbtide.dev/autoscaling: {"minReplicas":0,…}
FLOOR: Final = "ebbtide.dev/autoscaling"
#: On a service in a rollout without additional replicas, so that the gateway reads the endpoints again: ebbtide.dev/endpoints: "3"
ENDPOINTS: Final = "ebbtide.dev/endpoints"
#: On the HTTPRoutes of a project's endpoint, by which its policies select them: ebbtide.dev/endpoint: team-a
ENDPOINT: Final = "ebbtide.dev/endpoint"
#: The names of the model of a route, main name first: ebbtide.dev/models: chat,chat-latest
MODELS: Final = "ebbtide.dev/models"
#: Prefix of an annotation for each key of an endpoint: key.ebbtide.dev/ci: 2026-11-30T12:00:00Z
KEY_CREATED: Final = "key.ebbtide.dev/"
#: The component of the objects that all services of a project's endpoint share
ENDPOINT_COMPONENT: Final = "endpoint"
#: On a model cache, the generation of its workload that was written last: ebbtide.dev/used-by-generation: "2"
USED_BY: Final = "ebbtide.dev/used-by-generation"
#: ebbtide.dev/category: Deploy
CATEGORY: Final = "ebbtide.dev/category"

# Recommended by Kubernetes (kubernetes.io/docs/concepts/overview/working-with-objects/common-labels).
#: app.kubernetes.io/name: chat
APP_NAME: Final = "app.kubernetes.io/name"
#: app.kubernetes.io/part-of: team-a
APP_PART_OF: Final = "app.kubernetes.io/part-of"
APP_COMPONENT: Final = "app.kubernetes.io/component"
#: The component of the server's pods of an LLMInferenceService
LLM_COMPONENT: Final = "llminferenceservice-workload"
#: app.kubernetes.io/managed-by: ebbtide
APP_MANAGED_BY: Final = "app.kubernetes.io/managed-by"

# Pod Security (kubernetes.io/docs/concepts/security/pod-security-admission).
#: Prefix of a namespace's labels: pod-security.kubernetes.io/enforce: baseline
POD_SECURITY: Final = "pod-security.kubernetes.io/"

# Knative.
#: On a revision; its proxies read the request while they write the answer: features.knative.dev/http-full-duplex: Enabled
FULL_DUPLEX: Final = "features.knative.dev/http-full-duplex"
AUTOSCALING: Final = "autoscaling.knative.dev/"
#: autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
CLASS: Final = "autoscaling.knative.dev/class"
CLASS_KPA: Final = "kpa.autoscaling.knative.dev"
CLASS_HPA: Final = "hpa.autoscaling.knative.dev"
#: autoscaling.knative.dev/metric: concurrency
METRIC: Final = "autoscaling.knative.dev/metric"
#: autoscaling.knative.dev/target: "10"
TARGET: Final = "autoscaling.knative.dev/target"
#: autoscaling.knative.dev/target-utilization-percentage: "70"
TARGET_UTILIZATION: Final = "autoscaling.knative.dev/target-utilization-percentage"
#: autoscaling.knative.dev/min-scale: "0"
MIN_SCALE: Final = "autoscaling.knative.dev/min-scale"
#: autoscaling.knative.dev/max-scale: "4"
MAX_SCALE: Final = "autoscaling.knative.dev/max-scale"
#: autoscaling.knative.dev/initial-scale: "2"
INITIAL_SCALE: Final = "autoscaling.knative.dev/initial-scale"
#: autoscaling.knative.dev/activation-scale: "2"
ACTIVATION_SCALE: Final = "autoscaling.knative.dev/activation-scale"
#: autoscaling.knative.dev/scale-down-delay: 300s
SCALE_DOWN_DELAY: Final = "autoscaling.knative.dev/scale-down-delay"
#: autoscaling.knative.dev/scale-to-zero-pod-retention-period: 600s
RETENTION: Final = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
#: autoscaling.knative.dev/window: 60s
WINDOW: Final = "autoscaling.knative.dev/window"
#: autoscaling.knative.dev/panic-window-percentage: "10"
PANIC_WINDOW: Final = "autoscaling.knative.dev/panic-window-percentage"
#: autoscaling.knative.dev/panic-threshold-percentage: "200"
PANIC_THRESHOLD: Final = "autoscaling.knative.dev/panic-threshold-percentage"
#: autoscaling.knative.dev/target-burst-capacity: "211"
BURST_CAPACITY: Final = "autoscaling.knative.dev/target-burst-capacity"
#: autoscaling.knative.dev/metric-aggregation-algorithm: linear
AGGREGATION: Final = "autoscaling.knative.dev/metric-aggregation-algorithm"
#: The controller's last decision as JSON, on a revision: autoscaling.knative.dev/ebbtide-decision: {"floor":3,"cause":"metric",…}.
#: Knative copies all annotations of a revision to its pods except those with this prefix, so any other key would replace the
#: pods (knative.dev/serving v0.51.0 pkg/reconciler/revision/resources/meta.go, podAnnotations).
DECISION: Final = "autoscaling.knative.dev/ebbtide-decision"
#: The controller process that writes a revision's floor: autoscaling.knative.dev/ebbtide-leader: "pod-1_1 since 2026-…".
LEADER: Final = "autoscaling.knative.dev/ebbtide-leader"
#: A rollout without additional replicas as JSON, on each of its revisions, with the annotations to restore:
#: autoscaling.knative.dev/ebbtide-rollout: {"replicas":4,"saved":{"autoscaling.knative.dev/min-scale":"4",…}}
ROLLOUT: Final = "autoscaling.knative.dev/ebbtide-rollout"
#: On a revision: serving.knative.dev/routingState: active
ROUTING_STATE: Final = "serving.knative.dev/routingState"
#: On a Service or an InferenceService: serving.knative.dev/rollout-duration: 600s
ROLLOUT_DURATION: Final = "serving.knative.dev/rollout-duration"
#: The older spelling of an annotation, and the current one, which wins (knative.dev/serving pkg/apis/autoscaling/register.go).
OLDER_SPELLINGS: Final = {
    AUTOSCALING + older: AUTOSCALING + current
    for older, current in (
        ("minScale", "min-scale"),
        ("maxScale", "max-scale"),
        ("initialScale", "initial-scale"),
        ("scaleDownDelay", "scale-down-delay"),
        ("scaleToZeroPodRetentionPeriod", "scale-to-zero-pod-retention-period"),
        ("targetUtilizationPercentage", "target-utilization-percentage"),
        ("targetBurstCapacity", "target-burst-capacity"),
        ("panicWindowPercentage", "panic-window-percentage"),
        ("panicThresholdPercentage", "panic-threshold-percentage"),
        ("metricAggregationAlgorithm", "metric-aggregation-algorithm"),
    )
}
#: Annotations of a pod that keep a node autoscaler from ending its node, by the autoscaler (sigs.k8s.io/karpenter
#: pkg/utils/pod/scheduling.go; kubernetes/autoscaler cluster-autoscaler/utils/drain/drain.go).
KEEP_NODE: Final = {
    "karpenter": {"karpenter.sh/do-not-disrupt": "true"},
    "cluster-autoscaler": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
}
#: serving.knative.dev/progress-deadline: 1800s
PROGRESS_DEADLINE: Final = "serving.knative.dev/progress-deadline"
#: On the objects that Knative creates for a service: serving.knative.dev/service: chat
KNATIVE_SERVICE: Final = "serving.knative.dev/service"
#: serving.knative.dev/revision: chat-00001
KNATIVE_REVISION: Final = "serving.knative.dev/revision"
#: serving.knative.dev/configurationGeneration: "3"
KNATIVE_GENERATION: Final = "serving.knative.dev/configurationGeneration"
#: Prefix of Knative's annotations on services and revisions: serving.knative.dev/creator: jane
KNATIVE_PREFIX: Final = "serving.knative.dev/"
#: networking.knative.dev/visibility: cluster-local
KNATIVE_VISIBILITY: Final = "networking.knative.dev/visibility"
CLUSTER_LOCAL: Final = "cluster-local"

# KServe.
KSERVE_PREFIX: Final = "serving.kserve.io/"
#: serving.kserve.io/deploymentMode: Knative
DEPLOYMENT_MODE: Final = "serving.kserve.io/deploymentMode"
#: The mode in which kserve/modelmesh-serving loads models into pods that several of them share.
MODEL_MESH: Final = "ModelMesh"
#: serving.kserve.io/autoscalerClass: external
AUTOSCALER_CLASS: Final = "serving.kserve.io/autoscalerClass"
#: On the objects that KServe creates for a service: serving.kserve.io/inferenceservice: chat
KSERVE_SERVICE: Final = "serving.kserve.io/inferenceservice"
#: serving.kserve.io/stop: "true" removes all derived objects and keeps the InferenceService
STOP: Final = "serving.kserve.io/stop"
#: networking.kserve.io/visibility: cluster-local
KSERVE_VISIBILITY: Final = "networking.kserve.io/visibility"

# Priority and projects.
#: The label (not the pod field) that KAI and Run:ai read: priorityClassName: inference
PRIORITY_LABEL: Final = "priorityClassName"
#: kai.scheduler/preemption-delay: 5m
KAI_PREEMPTION_DELAY: Final = "kai.scheduler/preemption-delay"
#: The feature flag of Knative that allows a priority class in a revision.
PRIORITY_CLASS_FLAG: Final = "kubernetes.podspec-priorityclassname"
#: kai.scheduler/queue: team-a
KAI_QUEUE: Final = "kai.scheduler/queue"
#: kueue.x-k8s.io/queue-name: team-a
KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"
#: The scheduling gate of a pod that Kueue has not admitted yet.
KUEUE_GATE: Final = "kueue.x-k8s.io/admission"
#: kai.scheduler/preemptibility: preemptible
KAI_PREEMPTIBILITY: Final = "kai.scheduler/preemptibility"

# GPU sharing.
#: nvidia.com/gpu: 1
GPU: Final = "nvidia.com/gpu"
#: nvidia.com/gpu.shared: 1
GPU_SHARED: Final = "nvidia.com/gpu.shared"
#: nvidia.com/mig-1g.10gb: 1
MIG_PREFIX: Final = "nvidia.com/mig-"
#: nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB
GPU_PRODUCT: Final = "nvidia.com/gpu.product"
#: nvidia.com/gpu.memory: "81920" (MiB per GPU)
GPU_MEMORY: Final = "nvidia.com/gpu.memory"
#: nvidia.com/gpu.replicas: "4" (shares per GPU)
GPU_REPLICAS: Final = "nvidia.com/gpu.replicas"
#: nvidia.com/gpu.sharing-strategy: mps
GPU_SHARING: Final = "nvidia.com/gpu.sharing-strategy"
#: gpu-fraction: "0.25"
KAI_FRACTION: Final = "gpu-fraction"
#: gpu-memory: "4096" (MiB)
KAI_MEMORY: Final = "gpu-memory"
#: gpu-fraction-num-devices: "2"
KAI_DEVICES: Final = "gpu-fraction-num-devices"
#: gpu-fraction-container-name: user-container
KAI_CONTAINER: Final = "gpu-fraction-container-name"
#: pod-group-name: pg-chat-00001-5f3c9a10-7c0b-4e5e-9d5d-2f1f2b7f4a11 (KAI's group of a pod)
KAI_POD_GROUP: Final = "pod-group-name"
#: The start of the name of a group, before the name of the revision or pod and its UID.
KAI_GROUP_PREFIX: Final = "pg-"
#: nvidia.com/container.user-container.gpu-memory.request: 4Gi (KAI 0.18 and later, NvFractions)
NV_CONTAINER: Final = "nvidia.com/container."
#: nvidia.com/gpumem: 4096 (MiB per GPU)
HAMI_MEMORY: Final = "nvidia.com/gpumem"
#: nvidia.com/gpumem-percentage: 25
HAMI_PERCENTAGE: Final = "nvidia.com/gpumem-percentage"
#: nvidia.com/gpucores: "30" (HAMi, percent of the compute of each GPU)
HAMI_CORES: Final = "nvidia.com/gpucores"
#: The variable with which a client of MPS limits its own share of the threads, in percent.
MPS_THREADS: Final = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
#: Run:ai's node type label: run.ai/type: dgx
NODE_TYPE: Final = "run.ai/type"

# Prometheus (kustomize/metrics/monitors/servers.yaml).
#: Opts a pod in to the scrape of its server: prometheus.io/scrape: "true"
SCRAPE: Final = "prometheus.io/scrape"
#: prometheus.io/port: "8080"
SCRAPE_PORT: Final = "prometheus.io/port"
