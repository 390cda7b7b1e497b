"""What each problem code means, on whose rule it rests, and how to mend it.

``ebbtide docs CODE`` prints an entry, and docs/reference/problems.md is made from the table. A code is never
given another meaning; one that is no longer used is not used again. Upstream sources are named in words: the
repository, and the file in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of problem: its code, a title, why it is one, and the way out."""

    name: str
    title: str
    meaning: str
    fix: str


CODES: Final[dict[str, Code]] = {
    code.name: code
    for code in (
        Code(
            "AUT001",
            "minReplicas is above maxReplicas",
            "Knative's webhook refuses a revision whose min-scale is above its max-scale "
            "(knative.dev/serving pkg/apis/autoscaling/annotation_validation.go), and an HPA with "
            "such bounds is refused by the API server. The service would never be created.",
            "Lower minReplicas or raise maxReplicas.",
        ),
        Code(
            "AUT002",
            "Nothing says what moves the replicas",
            "Run:ai wants a metric wherever minReplicas is below maxReplicas, except for 0..1, "
            "where any request wakes the one replica. Without one Knative would scale on a "
            "hundred requests in flight, which nobody asked for.",
            "Set metric and metricThreshold, or make minReplicas and maxReplicas equal.",
        ),
        Code(
            "AUT003",
            "The metric has no threshold",
            "Run:ai makes metricThreshold mandatory with a metric. Knative's HPA class without a "
            "target makes an HPA with no metric at all, and Kubernetes then puts 80 % of the CPU "
            "in its place, whatever the annotation says (knative.dev/serving "
            "pkg/reconciler/autoscaling/hpa/resources/hpa.go, k8s.io/kubernetes "
            "pkg/apis/autoscaling/v2/defaults.go).",
            "Set metricThreshold, in the metric's unit and per replica.",
        ),
        Code(
            "AUT004",
            "A service on this metric cannot rest at zero",
            "The HPA class leaves out a min-scale of 0, so Kubernetes' floor of 1 applies "
            "(knative.dev/serving pkg/reconciler/autoscaling/hpa/resources/hpa.go); and with no "
            "replica there is no latency, CPU or GPU to read. Run:ai too lets only throughput and "
            "concurrency go to zero. Raising it to 1 in silence would hold a GPU that the author "
            "believes free.",
            "Set minReplicas to 1, or scale on concurrency or throughput, or leave the metric out with 0..1.",
        ),
        Code(
            "AUT005",
            "A retention time without scale-to-zero",
            "Run:ai takes scaleToZeroRetentionSeconds only with minReplicas 0. With a higher "
            "minimum the last replica never goes, so there is nothing to retain.",
            "Set minReplicas to 0, or remove scaleToZeroRetentionSeconds.",
        ),
        Code(
            "AUT006",
            "A percentage where it has no meaning",
            "metricThresholdPercentage works with throughput and concurrency only, in Run:ai as "
            "in Knative, whose HPA class does not read target-utilization-percentage. The "
            "replicas would aim at the whole threshold.",
            "Remove it, and put the value you want into metricThreshold.",
        ),
        Code(
            "AUT007",
            "A metric name that means something else",
            "Knative's HPA class takes any name (pkg/apis/autoscaling/annotation_validation.go): "
            "cpu and memory become resource metrics, and rps or qps a metric of that name that no "
            "adapter serves. A name that is nearly a built-in one would do the same, and the "
            "service would stay at minReplicas for ever.",
            "Use the name that the message gives. Hyphens and underscores are both read. A metric of your own with such a "
            "name is metric: custom with metricName, or listed in metrics.custom of the profile.",
        ),
        Code(
            "AUT008",
            "Not the name of a metric",
            "Run:ai takes names of the pattern [a-zA-Z_:][a-zA-Z0-9_:]*, which is Prometheus' "
            "own. An adapter could not find any other.",
            "Use a built-in metric, or the exact name that Prometheus has.",
        ),
        Code(
            "AUT009",
            "Nothing in this cluster serves the metric to an autoscaler",
            "The HPA class needs Knative's serving-hpa extension, and an API that serves the "
            "number: metrics.k8s.io by metrics-server for CPU, custom.metrics.k8s.io by "
            "prometheus-adapter for the rest. KEDA serves external.metrics.k8s.io only, which the "
            "HPA class cannot ask (knative.dev/serving "
            "pkg/reconciler/autoscaling/hpa/resources/hpa.go makes Resource and Pods metrics). "
            "The HPA would report FailedGetPodsMetric and never scale.",
            "Install what the message names and say so in the profile, or scale on concurrency or throughput.",
        ),
        Code(
            "AUT010",
            "The threshold must be a whole number",
            "The HPA class writes int64(target), so 0.8 becomes 0, which the API server refuses, "
            "and 1.9 becomes 1 (knative.dev/serving "
            "pkg/reconciler/autoscaling/hpa/resources/hpa.go). The service would wait for its "
            "autoscaler for ever.",
            "Use whole milliseconds or percent, or let the metric count in a smaller unit.",
        ),
        Code(
            "AUT011",
            "The threshold cannot work",
            "Knative's webhook takes targets from 0.01 on, an HPA from 1 on, and no CPU or GPU is "
            "used more than 100 %. Outside these bounds the object is refused, or the service "
            "scales always or never.",
            "Use a threshold within the bounds that the message gives.",
        ),
        Code(
            "AUT012",
            "CPU utilization needs CPU requests",
            "An HPA computes utilization as a share of the request, of every container of the "
            'pod: without one it reports "missing request for cpu" and does nothing '
            "(k8s.io/kubernetes pkg/controller/podautoscaler/replica_calculator.go). Knative sets "
            "no request for the serving container.",
            "Set compute.cpuCoreRequest; for queue-proxy set queue-sidecar-cpu-request in config-deployment.",
        ),
        Code(
            "AUT013",
            "The latency threshold is beyond the histogram",
            "The 95th percentile comes from queue-proxy's histogram, whose last bound is 10 s "
            "from Knative 1.19 on (knative.dev/serving pkg/queue/request_metric.go). A quantile "
            "never exceeds the last bound, so the service would never scale up.",
            "Use a smaller threshold, or metric: custom with a histogram of the server itself.",
        ),
        Code(
            "AUT014",
            "The latency threshold lies between two bounds",
            "Between two bounds of a histogram a quantile is interpolated, and may be off by the "
            "whole gap. The autoscaler sees that estimate, not the latency.",
            "Use one of the two bounds that the message names, if the difference matters.",
        ),
        Code(
            "AUT015",
            "The HPA class has no delay for scaling down alone",
            "Knative passes window to both stabilization windows of the HPA (knative.dev/serving "
            "pkg/reconciler/autoscaling/hpa/resources/hpa.go), and scale-down-delay is read by "
            "the KPA only. Either the field would do nothing, or scaling up would be just as "
            "slow.",
            "Remove it, or use serving: kserve-standard, where our own HPA has a window for scaling down.",
        ),
        Code(
            "AUT016",
            "GPU utilization on a shared GPU is the neighbours' too",
            "NVIDIA's DCGM exporter reports a device's utilization; on a GPU shared by several "
            "pods it shows one pod only, or copies the device's value to each "
            "(NVIDIA/dcgm-exporter). A tenant would scale on the load of others.",
            "Scale on concurrency or throughput, or name a per-container metric in "
            "metrics.names.gpuUtilizationPerContainer of the profile.",
        ),
        Code(
            "AUT017",
            "GPU utilization without a GPU",
            "The spec asks for no GPU, so no device is attributed to its pods and the metric has no value.",
            "Ask for a GPU in compute, or scale on another metric.",
        ),
        Code(
            "AUT018",
            "The hard limit lowers the threshold",
            "The KPA aims at the smaller of target and containerConcurrency (knative.dev/serving "
            "pkg/reconciler/autoscaling/resources/target.go). With a hard limit below the "
            "threshold there will be more replicas than the threshold says.",
            "Set metricThreshold to at most concurrencyHardLimit.",
        ),
        Code(
            "AUT019",
            "The service cannot start with no replica",
            "An HPA that finds 0 replicas is switched off (ScalingDisabled) and stays there; with "
            "the KPA an initial-scale of 0 needs allow-zero-initial-scale in config-autoscaler, "
            "else the webhook refuses it.",
            "Use 1 or more, or allow it in config-autoscaler and in the profile.",
        ),
        Code(
            "AUT020",
            "More replicas at the start than maxReplicas",
            "Knative's webhook takes activation-scale only between min-scale and max-scale, and a "
            "revision that must first reach an initial-scale above its maximum would never become "
            "ready.",
            "Use at most maxReplicas.",
        ),
        Code(
            "AUT021",
            "The field changes nothing here",
            "Together with the other fields of the spec this one has no effect: nothing reads it, "
            "or another one covers it. It is said rather than dropped in silence.",
            "Remove it, or change the field that makes it idle.",
        ),
        Code(
            "AUT022",
            "More replicas than the cluster takes",
            "max-scale-limit in config-autoscaler bounds every revision, and Knative's webhook "
            "refuses a max-scale above it.",
            "Use at most that many, or raise the limit in config-autoscaler and in the profile.",
        ),
        Code(
            "AUT023",
            "A hard limit that the cluster does not take",
            "config-defaults bounds containerConcurrency by container-concurrency-max-limit (1000 "
            "unless set), and allow-container-concurrency-zero may forbid 0. Knative's webhook "
            "refuses the service.",
            "Use a value within the bounds.",
        ),
        Code(
            "AUT024",
            "KServe Standard cannot do this",
            "Standard mode is a plain Deployment: there is no activator to hold requests at zero, "
            "no queue-proxy to count or limit them, and no KPA to read Knative's settings. The "
            "field would be dropped, or a service at zero would never wake.",
            "Use serving: kserve or knative, or remove the field; for a metric, name a gateway's "
            "in metrics.standard… of the profile.",
        ),
        Code(
            "AUT025",
            "Every revision starts with initialReplicas",
            "Run:ai means the first start only; Knative's initial-scale holds for each new "
            "revision. Each update needs room for that many replicas beside the old ones before "
            "it counts as ready.",
            "Keep initialReplicas at minReplicas if updates must stay small.",
        ),
        Code(
            "AUT026",
            "The time-out has moved",
            "autoscaling.initializationTimeoutSeconds is deprecated since Run:ai 2.22. It is read "
            "as servingConfiguration.initializationTimeoutSeconds, unless that is set too.",
            "Set servingConfiguration.initializationTimeoutSeconds instead.",
        ),
        Code(
            "AUT027",
            "metric: custom and metricName belong together",
            "Run:ai's classic workload gives the exact name of a custom metric in metricName. One "
            "without the other leaves open which metric is meant.",
            "Set both, or put the metric's name into metric.",
        ),
        Code(
            "AUT028",
            "The adapter does not serve this metric",
            "The profile lists the metrics that the adapter has rules for, and this one is not "
            "among them. The HPA would find no value and stay at minReplicas.",
            "Use one of those listed, or add a rule to the adapter and the name to metrics.custom of the profile.",
        ),
        Code(
            "AUT029",
            "This Knative reports no response time with the queue in it",
            "From 1.19 on queue-proxy reports nothing unless request-metrics-protocol is set in "
            "config-observability, and 1.19 and 1.20 measure only the time behind its queue "
            "(knative.dev/serving pkg/queue). The HPA would have no latency, or one that never "
            "shows a full queue.",
            "Set request-metrics-protocol: prometheus in the cluster and in the profile; with "
            "1.19 or 1.20 scale on concurrency.",
        ),
        Code(
            "AUT030",
            "Scale-to-zero is switched off",
            "With enable-scale-to-zero: false in config-autoscaler the KPA keeps one replica. The "
            "service would stay at 1 and hold its GPU.",
            "Set minReplicas to 1, or switch it on in config-autoscaler and in the profile.",
        ),
        Code(
            "AUT031",
            "activationReplicas are kept while requests come",
            "Run:ai means the jump from zero only, and Knative's pages say so too. Its code lifts every decision but zero to "
            "activation-scale (pkg/autoscaler/scaling/autoscaler.go): the replicas stay until the service rests again.",
            "Leave it out if a trickle of requests must not hold that many.",
        ),
        Code(
            "AUT032",
            "A word for no metric",
            "A metric that is no built-in one is the exact name of a custom one, so none, off or null would make an HPA that "
            "waits for a metric called so, at minReplicas for ever. A service has no metric where none is written.",
            "Remove metric and metricThreshold. Without them any request wakes a service of 0..1 replicas, and equal bounds "
            "are a fixed number; any other range needs a metric.",
        ),
        Code(
            "CNV001",
            "Run:ai's REST body cannot hold this",
            "The native document has fields that Run:ai's schema has no word for, takes fractions where Run:ai has whole "
            "numbers, and has more values: probes by TCP and gRPC, MIG profiles, the cluster's own priority classes beside "
            "Run:ai's seven levels. convert leaves out or rounds, and says so.",
            "Keep the native document as the source.",
        ),
        Code(
            "CNV002",
            "An id that Run:ai wants is not known",
            "A REST body carries projectId and clusterId, which come from the spec's project and from the profile.",
            "Fill in the id by hand, or add it to the profile.",
        ),
        Code(
            "CPU001",
            "The limit is below the request",
            "Kubernetes refuses a container whose limit is below its request.",
            "Raise the limit to the request or above.",
        ),
        Code(
            "CPU002",
            "Not an amount of memory or storage",
            "Kubernetes reads quantities as a number and a unit: 512Mi, 16Gi, 20G. Anything else "
            "is refused by the API server, or is as small as a millibyte (400m).",
            "Write it with a unit that Kubernetes knows.",
        ),
        Code(
            "CPU003",
            "Not the name of an extended resource, or named twice",
            "Extended resources have a vendor's prefix, as nvidia.com/gpu has; cpu and memory "
            "have fields of their own. Asked for twice, the second would overwrite the first.",
            "Write the resource's full name, once.",
        ),
        Code(
            "CPU004",
            "Devices are counted in whole numbers",
            "Kubernetes takes only whole numbers of an extended resource, and none is no request.",
            "Use a whole number from 1 on.",
        ),
        Code(
            "CPU005",
            "CPU finer than Kubernetes counts",
            "Kubernetes counts CPU in thousandths of a core (kubernetes.io/docs/concepts/configuration/"
            "manage-resources-containers). Rounded, a small request would be none, and a small limit too.",
            "Use a multiple of 0.001.",
        ),
        Code(
            "CRD001",
            "A field that is display only",
            "Run:ai's workload resource carries fields that show something and do nothing: the "
            "user's name, the status, what the API server and kubectl note in metadata. They are "
            "not carried over.",
            "Remove the field, if the warning is in the way.",
        ),
        Code(
            "CRD002",
            "A server has no terminal",
            "stdin and tty of Run:ai's workload resource are for workspaces; Knative takes "
            "neither (knative.dev/serving pkg/apis/serving/fieldmask.go).",
            "Remove the field.",
        ),
        Code(
            "CRD003",
            "The autoscaler class contradicts the metric",
            "Run:ai's class is passed to Knative. The KPA takes only concurrency and rps "
            "(knative.dev/serving pkg/apis/autoscaling/annotation_validation.go), and the HPA "
            "class would take either name for a metric that an adapter serves.",
            "Remove class: the metric decides.",
        ),
        Code(
            "CRD004",
            "A field for Run:ai's internal use",
            "ingressUrl is filled in by Run:ai itself; Knative makes a service's URL from its "
            "name, its namespace and the domain.",
            "Remove it; for a host name of your own use exposedUrls.",
        ),
        Code(
            "CRD005",
            "nodePool is deprecated",
            "Run:ai replaced nodePool by the list nodePools. It is read as a list of one; both "
            "together contradict each other.",
            "Use nodePools.",
        ),
        Code(
            "CRD006",
            "metricName overrides metric",
            "In Run:ai's workload resource metricName, where it is set, is the metric. The name "
            "in metric changes nothing then.",
            "Set metric to custom, or remove metricName.",
        ),
        Code(
            "CRD007",
            "A user id without runAsUser",
            "Run:ai heeds runAsUid and runAsGid only with runAsUser: true. Here they count "
            "without it, since a container would else run as somebody its author did not name.",
            "Set runAsUser: {value: true} so that both agree, or remove the id.",
        ),
        Code(
            "CRD008",
            "A classic workload without a port",
            "Run:ai's classic InferenceWorkload must name the port that its server listens on; there is no default to fall "
            "back to.",
            "Set ports with the container's port.",
        ),
        Code(
            "DOC001",
            "Doctor may not read everything",
            "Some objects of the cluster are hidden from this account, so checks that need them were left "
            "out. Nothing is wrong with the cluster for it.",
            "Ask somebody who may, or for the ClusterRole ebbtide-observer (kustomize/roles).",
        ),
        Code(
            "DOC002",
            "A version is another than the profile's",
            "Modes, field names and metrics go by the versions: KServe's modes were renamed in 0.16, "
            "Knative's metrics in 1.19 and 1.21. The version is read from the API server, and from the "
            "label app.kubernetes.io/version or the image's tag of the controllers.",
            "Set the version in the profile, or write the profile anew with doctor --write-profile.",
        ),
        Code(
            "DOC003",
            "Knative or KServe is there and the profile denies it, or the other way round",
            "The API server does not serve the group that the profile relies on, and refuses objects of "
            "an unknown kind; or it does, and specs are refused without reason.",
            "Install it, or correct installed in the profile.",
        ),
        Code(
            "DOC004",
            "A controller of Knative or KServe does not run",
            "Without the webhook nothing can be written, without the controller nothing comes of it, "
            "without the autoscaler replicas stay, and without the activator nothing wakes.",
            "See the Deployment's events and its pods' logs.",
        ),
        Code(
            "DOC005",
            "A feature flag is off that the profile has on",
            "Knative's webhook refuses the pod field of that name (knative.dev/serving "
            "pkg/apis/config/features.go). With specs on the command line the finding names those that "
            "need it.",
            "doctor --fix sets it in config-features, after a question; other keys stay.",
        ),
        Code(
            "DOC006",
            "A setting of Knative is another than the profile's",
            "The translation does not ask the cluster: it goes by the profile's copy of its ConfigMaps. "
            "What differs makes explain, simulate, tune and check answer for another cluster.",
            "Correct the profile; or let doctor --fix set the profile's value in the ConfigMap, if that "
            "is what is meant.",
        ),
        Code(
            "DOC007",
            "The HPA extension is another than the profile says",
            "Class hpa is carried out by Knative's autoscaler-hpa, which is installed by a file of its "
            "own. Without it such a revision waits for its autoscaler for ever.",
            "Apply serving-hpa.yaml of the release, or correct knative.hpa in the profile.",
        ),
        Code(
            "DOC008",
            "Nobody serves metrics to HPAs",
            "CPU comes from metrics.k8s.io (metrics-server), the others from custom.metrics.k8s.io "
            "(prometheus-adapter) or from KEDA. The API server does not serve the group that the profile "
            "relies on.",
            "Install what is missing, or correct metrics in the profile.",
        ),
        Code(
            "DOC009",
            "A metric is not served now",
            "custom.metrics.k8s.io lists a metric once there is a series of it, so one may be missing "
            "only because nothing runs yet. Until it is there, the HPA leaves the replicas alone.",
            "If it stays away while the service runs, see the adapter's rules and the monitors (kustomize/metrics).",
        ),
        Code(
            "DOC010",
            "KServe copies our annotations to pods, or the profile thinks so",
            "KServe copies an InferenceService's annotations to its pods, but for those on "
            "serviceAnnotationDisallowedList. The kept spec must be on it: else each edit makes a new "
            "revision.",
            "doctor --fix adds it to inferenceservice-config, after a question; the rest of the JSON stays.",
        ),
        Code(
            "DOC011",
            "A serving runtime of the profile is not there",
            "KServe refuses a model whose runtime it does not know.",
            "Apply it, or take it off the profile.",
        ),
        Code(
            "DOC012",
            "A priority class has another value",
            "A class's value cannot be changed, and the order of values is who gives way to whom.",
            "Take over the cluster's value into the profile; or delete the class and make it anew, while "
            "nothing uses it.",
        ),
        Code(
            "DOC013",
            "A priority class of the cluster's is missing",
            "The profile says that the classes are the cluster's own, so Ebbtide does not render them, "
            "and a pod that names a missing one is refused.",
            "doctor --fix creates it, after a question; or set scheduling.classesOwner: ebbtide in the profile.",
        ),
        Code(
            "DOC014",
            "The nodes of a pool are not as the profile says",
            "No node has the pool's labels, or its nodes have another GPU than the profile's product.",
            "Label the nodes, or correct nodePools in the profile.",
        ),
        Code(
            "DOC015",
            "The GPUs of a pool are not advertised as the profile says",
            "A pod asks for a resource by name: whole GPUs, shares or MIG devices. What no node "
            "advertises is waited for without end.",
            "See the device plugin's configuration, or correct backend, devices and replicas of the pool "
            "in the profile.",
        ),
        Code(
            "DOC016",
            "KAI-Scheduler is not there",
            "Pods that name a scheduler which does not run stay pending, and KAI's queues are an unknown kind.",
            "Install KAI, or correct scheduling.scheduler and projects.quota in the profile.",
        ),
        Code(
            "DOC017",
            "A project's quota is another than the profile's",
            "Where the profile manages projects, the next apply of one of its specs sets the quota to the profile's.",
            "Correct projects.known in the profile, or let the apply set it.",
        ),
        Code(
            "DOC018",
            "There is no Prometheus where the profile says",
            "Reports, why and the load in list come from it, and KEDA asks it.",
            "Correct metrics.prometheus in the profile, or install it with the monitors of kustomize/metrics.",
        ),
        Code(
            "DOC019",
            "The gateway of Knative's ingress class is not there",
            "Knative leaves routes to the networking layer that ingress-class in config-network names; "
            "upstream's default is Istio. Without it no service becomes ready.",
            "Install the gateway, or name the one that is there.",
        ),
        Code(
            "DOC020",
            "A host name is not the namespace's",
            "A DomainMapping needs a ClusterDomainClaim for its namespace, unless config-network creates "
            "them by itself (knative.dev/serving pkg/reconciler/domainmapping).",
            "doctor --fix creates the claim, after a question; or take another host name.",
        ),
        Code(
            "DOC021",
            "A network policy lets nobody in",
            "The gateway and Knative's activator are in namespaces of their own, and must reach the pods.",
            "Allow ingress from knative-serving and from the gateway's namespace.",
        ),
        Code(
            "DOC022",
            "The pod security level is another, or refuses the pods",
            "The label pod-security.kubernetes.io/enforce on the namespace decides which pods it takes: restricted takes none "
            "that may run as root, and of the rest what SEC007 tells.",
            "Correct projects.podSecurity in the profile, or the spec as the finding says.",
        ),
        Code(
            "DOC023",
            "You may not do what apply does",
            "RBAC decides with your own account; the API server was asked by SelfSubjectAccessReview, for "
            "each kind that the specs come to.",
            "Be made a member of the project: ebbtide project create NAME --member USER, by somebody who may.",
        ),
        Code(
            "DOC024",
            "An HPA is left without its Deployment",
            "Its workload went without it. It asks for metrics without end, and would take hold of a new "
            "Deployment of that name.",
            "doctor --fix deletes it, after a question.",
        ),
        Code(
            "DOC025",
            "A spec does not translate",
            "The spec is refused for the profile already, so nothing can be said of what it needs of the cluster.",
            "See ebbtide check, and then look again.",
        ),
        Code(
            "DOC026",
            "The queue above the projects is missing, or lets nothing in",
            "KAI leaves out a queue whose parent is not there, with all that waits in it (kai-scheduler/KAI-Scheduler "
            "pkg/scheduler/cache/cluster_info/queue.go). And it counts work that may not be preempted against the quota of "
            "each queue above, too (pkg/scheduler/plugins/proportion/capacity_policy/quota_check.go): under a parent with a "
            "quota of 0, which is what KAI's chart gives its default-parent-queue, none of it is ever placed.",
            "doctor --fix creates the queue, or takes the bound off its quota, after a question; or name another in "
            "projects.parentQueue.",
        ),
        Code(
            "ENV001",
            "A variable needs exactly one source",
            "Kubernetes takes a value or one reference per environment variable, and Run:ai the "
            "same: value, secret, configMap or podFieldRef.",
            "Give exactly one of them.",
        ),
        Code(
            "ENV002",
            "Knative or KServe keeps this variable for itself",
            "PORT, K_SERVICE, K_REVISION and K_CONFIGURATION are Knative's, whose webhook refuses a container that sets "
            "them (knative.dev/serving pkg/apis/serving/k8s_validation.go); KServe Standard leaves them free. STORAGE_URI "
            "tells KServe's webhook to fetch a model into the pod, and from 0.18 on it refuses PYTHONPATH "
            "(github.com/kserve/kserve pkg/validation/env_policy.go); a plain Knative Service may set both.",
            "For the port use servingPort.container, for a model model.uri; for the rest choose another name, or another "
            "serving.",
        ),
        Code(
            "ENV003",
            "A Run:ai user's credential",
            "userCredential refers to a secret that Run:ai's control plane keeps for a user. "
            "There is no such place here.",
            "Put the value into a Secret of the project and name that.",
        ),
        Code(
            "ENV004",
            "The variable is set twice",
            "Of two entries of one name Kubernetes keeps the last, and a server-side apply refuses both.",
            "Keep one.",
        ),
        Code(
            "ENV005",
            "Not the name of a variable",
            "A shell and most programs read only letters, digits and underscores, a letter or underscore first.",
            "Rename the variable.",
        ),
        Code(
            "ENV006",
            "A protocol that KServe does not take",
            "Of an image of its own KServe reads the inference protocol from the variable PROTOCOL, and its webhook takes "
            "v1 and v2 only, as a literal value (pkg/apis/serving/v1beta1/predictor_custom.go).",
            "Use v1 or v2, remove it, or choose another name; gRPC is servingPort.protocol.",
        ),
        Code(
            "ENV007",
            "Not a field of the pod that a variable can have",
            "Kubernetes gives a variable nine fields of its pod, and its labels and annotations one by one "
            "(k8s.io/kubernetes pkg/apis/core/validation/validation.go, validEnvDownwardAPIFieldPathExpressions). With any "
            "other no pod could be made.",
            "Use one of the fields that the message names.",
        ),
        Code(
            "FIL001",
            "The file cannot be read",
            "The operating system gave no access to the file, or there is none of that name.",
            "Check the name and the permissions.",
        ),
        Code(
            "FLAGS001",
            "Not a flag of runai inference submit",
            "Only the flags of Run:ai's command line are read, and Ebbtide's --dry-run and "
            "--profile. A flag that is dropped would change the service.",
            "Use the flag that the message suggests, or see ebbtide submit --help.",
        ),
        Code(
            "FLAGS002",
            "The flag has no value that can be read",
            "Run:ai's flags take a value after a space or an equals sign, and some a list of key=value pairs.",
            "Write it as the message says.",
        ),
        Code(
            "FLAGS003",
            "A word that belongs to no flag",
            "The command takes one name; the words of the container's own program come after --. "
            "A stray word is often the value of a switch, which needs an equals sign.",
            "Put the program's words behind --, or write the switch as --flag=true.",
        ),
        Code(
            "FLAGS004",
            "The flag is given more than once, or excludes another",
            "Of a flag that takes one value Run:ai's command line counts the last one. Two flags "
            "that state the same thing in different ways contradict each other.",
            "Keep one.",
        ),
        Code(
            "FLAGS005",
            "A flag for Run:ai's own client",
            "It steers what Run:ai's command line does after submitting, and changes nothing in the manifests.",
            "Remove it.",
        ),
        Code(
            "FLG001",
            "A Knative feature flag is off",
            "Knative refuses most fields of a pod unless config-features lets them in "
            "(knative.dev/serving pkg/apis/config/features.go, pkg/apis/serving/fieldmask.go). "
            "The webhook would refuse the whole service. For volumes and added capabilities allowed is not enough: it takes "
            "enabled (pkg/apis/serving/k8s_validation.go).",
            "Set the flag in config-features (kustomize/knative does) and in the profile.",
        ),
        Code(
            "GPU001",
            "A part of a GPU request is missing",
            "gpuRequestType says which field states the part of a GPU, a limit needs its request, "
            "and a part of no device is nothing. Run:ai's schema has the same rules.",
            "Set the field that the message names.",
        ),
        Code(
            "GPU002",
            "Not a part of one GPU",
            "A portion is above 0 and at most 1, of each device. More than one GPU is asked for "
            "in whole devices; KAI refuses a gpu-fraction of 1 and above "
            "(pkg/binder/plugins/gpusharing/gpu-request/gpu_request_validator.go).",
            "Use gpuDevicesRequest for whole GPUs, and a portion below 1 for a part.",
        ),
        Code(
            "GPU003",
            "Two fields state the part of a GPU",
            "Portion, memory and MIG profile exclude each other, in Run:ai as in KAI.",
            "Keep one of them.",
        ),
        Code(
            "GPU004",
            "The GPU limit is below the request",
            "Run:ai wants gpuPortionLimit and gpuMemoryLimit at or above their requests.",
            "Raise the limit to the request or above.",
        ),
        Code(
            "GPU005",
            "This backend has one value, not a request and a limit",
            "Of the backends only KAI 0.18 with NvFractions knows a guaranteed part and a higher "
            "limit. On all others the limit would be dropped, and the container would get less "
            "than its author expects.",
            "Remove the limit, or use a pool whose backend knows one.",
        ),
        Code(
            "GPU006",
            "Several devices take a portion only",
            "As in Run:ai, memory and MIG profiles are for one device; of several devices only a "
            "portion of each can be asked for.",
            "Use gpuPortionRequest, or one device.",
        ),
        Code(
            "GPU007",
            "The profile does not say enough about the GPUs",
            "The request needs a pool with GPUs, and where parts are counted also the GPU's "
            "memory, its product, or the number of shares.",
            "Name a pool with GPUs, or complete nodePools in the profile.",
        ),
        Code(
            "GPU008",
            "This pool cannot give that",
            "Each way of sharing hands out one kind of thing: whole devices, parts of memory, MIG "
            "devices, or equal shares. Shares do not add up, for two of them may lie on different "
            "GPUs (NVIDIA/k8s-device-plugin README); several MIG devices do not either.",
            "Ask for what the pool has, or name a pool with another backend. ebbtide explain "
            "--backends shows all of them.",
        ),
        Code(
            "GPU010",
            "KAI and HAMi cannot share MIG devices",
            "Fractions and memory are counted on whole GPUs; on nodes cut into MIG devices "
            "Run:ai's documents and KAI's rule them out. The pod would stay pending or get the "
            "wrong part.",
            "Give the pool backend mig in the profile, or name another pool.",
        ),
        Code(
            "GPU011",
            "The GPU is asked for twice",
            "An extended resource nvidia.com/gpu or nvidia.com/mig-… beside a GPU request makes "
            "two requests. KAI refuses a fraction together with it "
            "(pkg/binder/plugins/gpusharing/gpu-request/gpu_request_validator.go).",
            "Keep the GPU request and remove the extended resource.",
        ),
        Code(
            "GPU012",
            "More memory than one GPU has",
            "The memory is of one device. The pod would stay pending for ever.",
            "Ask for less, or for whole devices.",
        ),
        Code(
            "GPU013",
            "What this way of sharing leaves open",
            "Time-slicing isolates nothing, KAI in its default mode counts memory without "
            "enforcing it (its docs/gpu-sharing/README.md), MPS lets a fault of one client end "
            "the others, and DRA's consumable capacity depends on its driver. A server that takes "
            "more than its part can crash its neighbours.",
            "Cap memory in the server itself, or use a backend that isolates where it matters.",
        ),
        Code(
            "GPU014",
            "The request is rounded",
            "Backends count in whole MiB, whole percent, equal shares or MIG profiles. The "
            "request is rounded up, never down; on MIG the part of the compute differs from the "
            "part of the memory.",
            "Write a value that the backend has, if the difference matters.",
        ),
        Code(
            "GPU015",
            "No MIG profile fits",
            "No profile of the pool's GPU has that name or that much memory, or the pool "
            "advertises its MIG devices as plain GPUs (strategy single), so that none can be "
            "chosen.",
            "Use one of the profiles named, or correct migProfiles and migStrategy in the profile.",
        ),
        Code(
            "GPU016",
            "Resource claims have no place here",
            "Knative drops resourceClaims and has no flag for them (knative.dev/serving "
            "pkg/apis/serving/fieldmask.go), and before Kubernetes 1.36 a plain resource name is "
            "not served through DRA unless a feature gate is on. resource.k8s.io/v1 itself comes "
            "with 1.34.",
            "Use serving: kserve-standard, or a newer Kubernetes, or a pool with another backend.",
        ),
        Code(
            "GPU017",
            "KAI's sharing mode does not allow it",
            "gpuSharing is off by default up to KAI 0.17, and from 0.18 on gpuSharingMode says "
            "how. With it off the binder refuses the pod.",
            "Switch it on in KAI's values and set scheduling.kai.sharingMode in the profile.",
        ),
        Code(
            "GPU018",
            "Backend and scheduler do not fit",
            "KAI's fractions are read by KAI only, and HAMi's webhook skips pods that name a "
            "scheduler other than the default and its own (Project-HAMi/HAMi "
            "pkg/scheduler/webhook.go). The part would be neither counted nor limited.",
            "Correct scheduling.scheduler or the pool's backend in the profile.",
        ),
        Code(
            "GPU019",
            "Fewer fit on one GPU than the portion suggests",
            "MIG profiles are coarse: on an H200 no profile holds a quarter of the memory four "
            "times. Fewer replicas than 1 / portion share one GPU.",
            "Ask for the smaller part that the message names, or use a backend without isolation.",
        ),
        Code(
            "GPU022",
            "More devices than a node has",
            "A replica is one pod, and a pod runs on one node. It would stay pending for ever.",
            "Ask for fewer, or correct devices of the pool in the profile.",
        ),
        Code(
            "GPU023",
            "Under this KAI a service at zero never wakes",
            "With gang scheduling KAI makes a group of min-scale pods, and up to 0.17 its "
            "resource takes no group of 0: spec.minMember must be at least 1. The pods of a "
            "service that may rest at zero would never be scheduled.",
            "Set minReplicas to 1, turn --knative-gang-schedule off, or use KAI 0.18.",
        ),
        Code(
            "GPU024",
            "A feature gate of Kubernetes is off",
            "Parts of devices are alpha up to Kubernetes 1.35 and on by themselves from 1.36 (k8s.io/kubernetes "
            "pkg/features/kube_features.go). With DRAConsumableCapacity off the API server drops the amount from a claim "
            "without a word (pkg/registry/resource/resourceclaimtemplate/strategy.go), so it gets a whole device; with "
            "DRAPartitionableDevices off a driver offers no device that it would cut on demand.",
            "Switch the gate on, and list it in kubernetes.featureGates of the profile; or use a newer Kubernetes.",
        ),
        Code(
            "IGN001",
            "The field changes nothing",
            "explain changed the field to several other values and no output changed. It is set "
            "in vain: misplaced, covered by another field, or not used by the chosen kind of "
            "object.",
            "Remove it, or check that it stands where you meant it to.",
        ),
        Code(
            "IMP001",
            "Kept as a patch",
            "The live object sets something that the spec has no word for, or lacks what a spec "
            "always sets. The difference is kept as a merge patch in spec.patches, so that "
            "rendering the import gives the object back.",
            "Look at the patch: keep it, or remove it if nobody needs it.",
        ),
        Code(
            "IMP002",
            "Refused by a rule, so kept as a patch",
            "The live object has what the spec could say, but a rule here refuses it: host "
            "folders, capabilities and the like. It is kept as a merge patch, so that the import "
            "changes nothing.",
            "Decide whether the service needs it.",
        ),
        Code(
            "IMP003",
            "The kept spec no longer matches the object",
            "The object carries the spec it was made from, and has been edited since by other "
            "hands. The object as it is now is what is read.",
            "Compare the two, and keep the result as the new source.",
        ),
        Code(
            "IMP004",
            "An intent that the object does not carry",
            "Fields like slo shape no object, so they cannot be read back from one without its spec.",
            "Add them to the imported document by hand.",
        ),
        Code(
            "IMP005",
            "No spec gives this object",
            "With this profile every spec that comes near the object is refused, or the object "
            "contradicts itself. Nothing is imported, rather than something else.",
            "Import it with the profile of its own cluster, or mend what the message names.",
        ),
        Code(
            "IMP006",
            "A patch replaces a whole list",
            "A JSON merge patch knows no items: with containers in it, the spec's image, "
            "environment, probes and resources change nothing any more.",
            "Take the list out of spec.patches once the spec says enough.",
        ),
        Code(
            "IMP007",
            "An object that is made beside a workload",
            "Namespaces, quotas, claims, HPAs and the like are made from the workload's spec and the profile; read back, they "
            "have no spec of their own. They are left out, which is said so that nothing is dropped in silence.",
            "Read the Knative Service or InferenceService; keep by hand what differs from what Ebbtide makes.",
        ),
        Code(
            "LAB001",
            "Not a label or annotation that Kubernetes takes",
            "Keys have at most 63 characters with an optional prefix, label values at most 63 "
            "letters, digits, dashes, underscores and dots. The API server refuses others.",
            "Correct it, or make a long value an annotation.",
        ),
        Code(
            "LAB002",
            "The key belongs to Ebbtide or to a controller",
            "Keys of Ebbtide, Knative, KServe and the schedulers are made from the spec's own "
            "fields. Set by hand they would be overwritten, refused, or break the service: a "
            "label of KAI decides whose quota counts. KServe sets component on its pods, and KServe Standard app "
            "(github.com/kserve/kserve pkg/controller/v1beta1/inferenceservice).",
            "Use the spec's own field; where there is none, patches.",
        ),
        Code(
            "LAB003",
            "The key is set twice",
            "Of two entries of one key only the last would count.",
            "Keep one.",
        ),
        Code(
            "NAM001",
            "Not a name that Kubernetes takes",
            "A service's name becomes part of a host name: lower-case letters, digits and dashes, "
            "a letter first. Namespaces and projects are labels of the same alphabet.",
            "Rename it.",
        ),
        Code(
            "NAM002",
            "The name is too long",
            "Knative names a revision <name>-00001 and makes a Kubernetes Service of that name, "
            "which takes 63 characters; KServe puts -predictor before it.",
            "Use a shorter name.",
        ),
        Code(
            "NAM003",
            "A namespace and a project",
            "A project is its namespace, by the pattern in the profile. Two answers to one "
            "question contradict each other.",
            "Remove one of the two.",
        ),
        Code(
            "NAM004",
            "Two documents make the same object",
            "Of two services of one name in one namespace the last applied would replace the first. KServe makes "
            "<name>-predictor beside an InferenceService: a workload of that name would have its Service taken.",
            "Rename one of the two.",
        ),
        Code(
            "NAM005",
            "One object is made twice, and not alike",
            "Two workloads make an object of one kind and name with different content, such as a claim or a DomainMapping, or "
            "kustomize's resources hold one that a spec needs otherwise. Applied together, the last one would replace the "
            "first without a word.",
            "Give each workload claims and host names of its own; take out of the resources what is made of the specs.",
        ),
        Code(
            "PAT001",
            "The object is patched by hand",
            "patches are laid over what was made, last of all. Ebbtide neither checks what they set nor explains it.",
            "Use the spec's own fields where there are any.",
        ),
        Code(
            "PAT002",
            "The patch has no object, or turns one into another",
            "No object of that kind and name is made, or the patch changes kind, name or "
            "namespace, after which it would be another object.",
            "Name an object that is made, and leave its identity alone.",
        ),
        Code(
            "PLC001",
            "No such node pool",
            "The profile knows no pool of that name, so no label selects its nodes. The pod would "
            "land anywhere, or nowhere.",
            "Use a pool that the profile lists, or add it.",
        ),
        Code(
            "PLC002",
            "The pools share GPUs in different ways",
            "One pod asks in one way: for a fraction, a MIG device, or a share. It cannot ask "
            "differently on each pool.",
            "Name pools of one backend.",
        ),
        Code(
            "PLC003",
            "Not a toleration that Kubernetes takes",
            "Kubernetes refuses a value beside Exists, seconds without NoExecute, and an empty "
            "key without Exists. Run:ai's own text has the first the wrong way round.",
            "Correct it as the message says.",
        ),
        Code(
            "PLC004",
            "Not a node condition that Kubernetes takes",
            "In and NotIn need values, Exists and DoesNotExist take none, Gt and Lt one whole "
            "number; keys and values are those of labels.",
            "Correct it as the message says.",
        ),
        Code(
            "PLC005",
            "The node pools and the node type do not go together",
            "A pool in a list of several needs a selector, or its nodes could not be named beside the others'; and a node "
            "type other than the pool's own would leave the pod without any node.",
            "Give the pool a selector in the profile, remove nodeType, or name one pool only.",
        ),
        Code(
            "PRB001",
            "A probe asks in one way",
            "Kubernetes refuses a probe with several handlers, and one with none asks nothing.",
            "Set exactly one of httpGet, tcpSocket, grpc.",
        ),
        Code(
            "PRB002",
            "successThreshold is 1 for this probe",
            "Kubernetes takes only 1 for liveness and startup probes.",
            "Remove successThreshold.",
        ),
        Code(
            "PRB003",
            "A gRPC probe of a model names no port",
            "A runtime's gRPC port is its own affair, and Kubernetes takes no gRPC probe without a port: the API server would "
            "refuse the service that KServe makes.",
            "Set the probe's port to the runtime's gRPC port.",
        ),
        Code(
            "PRF001",
            "The profile cannot be read",
            "There is no such file, or it is no profile.",
            "Name a file, a folder with profile.yaml, or built-in.",
        ),
        Code(
            "PRF002",
            "Not a value that this setting takes",
            "The maps under knative hold what the cluster's ConfigMaps say, as text: whole "
            "numbers where Knative wants them, and enabled, allowed or disabled for feature "
            "flags. KServe's resources are Kubernetes' quantities.",
            "Write it as the ConfigMap has it.",
        ),
        Code(
            "PRF003",
            "A feature flag that is not known",
            "Knative's config-features has no flag of this name that Ebbtide knows of. If it is a "
            "slip, the field it should let in is refused.",
            "See config-features of your Knative version.",
        ),
        Code(
            "PRF004",
            "The profile contradicts itself",
            "A pool is listed twice, lacks what its backend needs, or has a backend that its scheduler does not serve; or "
            "config-autoscaler could not be as the profile has it, since Knative's webhook refuses a max-scale-limit without a "
            "max-scale within it (knative.dev/serving pkg/autoscaler/config/config.go).",
            "Correct one of the two.",
        ),
        Code(
            "PRI001",
            "No such priority class",
            "Kubernetes refuses pods that name a class it does not have, and KServe reports it "
            "only as ReconcileFailed on the service.",
            "Use one of Run:ai's levels, or a class that the profile lists.",
        ),
        Code(
            "PRI002",
            "Class and preemptibility contradict each other",
            "For KAI a class's value decides: from 100 on a pod is not preempted "
            "(pkg/common/podgroup/preemptible.go). A class of the cluster has one value, so "
            "preemptibility cannot change it.",
            "Remove preemptibility, or use a level, which has a class for both.",
        ),
        Code(
            "PRI003",
            "Semi-preemptible is not there in open KAI",
            "Run:ai 3.0 guarantees minReplicas and lets the rest be preempted. KAI's Knative "
            "grouper makes one group per revision, all of it preemptible or none "
            "(pkg/podgrouper/podgrouper/plugins/knative/knative.go).",
            "Use non-preemptible, or two services: one guaranteed, one preemptible.",
        ),
        Code(
            "PRI004",
            "The class does not reach the scheduler",
            "With --knative-gang-schedule off KAI's Knative grouper hard-codes class inference "
            "and reads no label (pkg/podgrouper/podgrouper/plugins/knative/knative.go). The class "
            "asked for would rank the pods only where the kubelet evicts.",
            "Use serving: kserve-standard, or turn gang scheduling on.",
        ),
        Code(
            "PRI006",
            "Build and inference have no order here",
            "The stock scheduler preempts any pod of lower priority. A profile can protect builds "
            "only by giving both classes the same value, which leaves no order between them.",
            "Accept it, or use KAI, which knows both.",
        ),
        Code(
            "PRI007",
            "The stock scheduler evicts builds too",
            "Run:ai and KAI never preempt a class of 100 or more; kube-scheduler knows no such "
            "line and evicts whatever is lower.",
            "Give build and inference the same value in the profile's classes if builds must survive.",
        ),
        Code(
            "PRJ001",
            "No such project",
            "The profile lists the projects and takes no others (projects.closed), or the "
            "project's namespace would be too long for Kubernetes.",
            "Use a listed project, or add it to the profile.",
        ),
        Code(
            "PRJ002",
            "The project's quota is too small",
            "At their minReplicas the workloads of one call already need more than the project "
            "has. Some would never start. CPU and memory are counted as the quota counts them: with what "
            "Knative's sidecar asks for, and with the namespace's defaults where a container asks for nothing.",
            "Lower minReplicas or the requests, or raise the quota in the profile and in the cluster.",
        ),
        Code(
            "PRJ003",
            "At their maxReplicas the workloads exceed the quota",
            "When all of them scale up, some replicas will wait for the quota of GPUs, CPU or memory.",
            "Lower maxReplicas, or raise the quota, if all of them peak together.",
        ),
        Code(
            "PRJ004",
            "An update does not fit beside the running replicas",
            "Knative brings the new revision up before it takes the old one down, so an update "
            "needs both at once; a Deployment of KServe's with fewer than four replicas needs one more. Without room the new one is said to have failed, while the old one serves on; "
            "when there is room it goes on by itself.",
            "Keep room for one update, or scale down first.",
        ),
        Code(
            "PRJ005",
            "The request is for another cluster",
            "The REST body's clusterId is not the one that the profile has.",
            "Use the profile of that cluster.",
        ),
        Code(
            "PRJ006",
            "The project's id is not known",
            "The profile has no project with this id, so it is taken for the project's name.",
            "Add the project with its id to projects.known of the profile.",
        ),
        Code(
            "PRJ007",
            "The project is the queue above the projects",
            "KAI places pods of queues that have none below them, and a queue needs another one above it "
            "(kai-scheduler/KAI-Scheduler pkg/scheduler/actions/utils/input_jobs.go). A project of the parent queue's name "
            "would make that queue its own parent, and no pod of any project would be placed.",
            "Use another project, or name another queue in projects.parentQueue of the profile.",
        ),
        Code(
            "REQ001",
            "The request is not as the API takes it",
            "A field, a parameter or the body itself is missing, of another type or outside of its bounds.",
            "The API's own description says what it takes: /api/ebbtide/v1/openapi.json.",
        ),
        Code(
            "RUN001",
            "A template or base workload of Run:ai",
            "templateId, baseWorkload and usage: Template refer to what Run:ai's control plane "
            "keeps. It cannot be read from here, and a spec without it would be incomplete.",
            "Put the template's fields into the spec.",
        ),
        Code(
            "RUN002",
            "A name that is made anew each time",
            "useGivenNameAsPrefix, namePrefix and generateName make a new name at every call. "
            "Such a service could not be applied again, compared or updated.",
            "Give the workload its own name.",
        ),
        Code(
            "RUN003",
            "Run:ai's home folder",
            "createHomeDir makes a home folder for the user that Run:ai knows. Here there is no such user.",
            "Mount a scratch volume or a claim where the program wants it, and set HOME.",
        ),
        Code(
            "RUN004",
            "An item that is excluded",
            "exclude: true drops an item that a Run:ai policy would add. No policy is read here, "
            "so the item is left out, and nothing else.",
            "Remove the item.",
        ),
        Code(
            "SEC001",
            "A capability outside the restricted rule",
            "The Pod Security Standard restricted allows only NET_BIND_SERVICE to be added. Every "
            "container drops all others.",
            "Remove the capability.",
        ),
        Code(
            "SEC002",
            "A system call filter outside the restricted rule",
            "restricted takes RuntimeDefault or a local profile; Run:ai's spec has no field for "
            "the local profile's name.",
            "Use RuntimeDefault.",
        ),
        Code(
            "SEC003",
            "The container may run as root",
            "Neither the spec nor the profile forbids root. Most model images run as root, so it "
            "is allowed, with no capabilities and no way to gain any.",
            "Set security.runAsNonRoot: true if the image names a user, or pods.runAsNonRoot in the profile.",
        ),
        Code(
            "SEC004",
            "Where the user id comes from is not clear",
            "fromIdpToken needs an identity provider that Run:ai asks, custom needs the id, and "
            "fromTheImage excludes one. Guessing would run the server as somebody else.",
            "Use fromTheImage, or custom with runAsUid and runAsGid.",
        ),
        Code(
            "SEC005",
            "Root is refused",
            "runAsNonRoot, in the spec or in the profile, refuses user 0. The kubelet would not start the container.",
            "Choose another user.",
        ),
        Code(
            "SEC006",
            "The node's own namespaces",
            "hostIPC and hostNetwork break the pod's isolation, and both lie outside the Pod "
            "Security Standard baseline.",
            "Use largeShm for shared memory; remove the rest.",
        ),
        Code(
            "SEC007",
            "The project's namespace refuses the pods",
            "The profile puts a Pod Security level on the namespace (projects.podSecurity), and the API server refuses pods "
            "outside of it, so the service would never start. restricted takes no container that may be root or is user 0, "
            "and no model from an image, which KServe puts beside the server as a container that says nothing of its rights "
            "(kserve pkg/utils/storage.go). baseline too takes no probe that names a host, from Kubernetes 1.34 on "
            "(k8s.io/pod-security-admission policy/check_hostProbesAndhostLifecycle.go).",
            "Mend what the message names, or set another projects.podSecurity in the profile.",
        ),
        Code(
            "SIM001",
            "The workload cannot be simulated",
            "The simulator knows what Knative's pod autoscaler and the HPA make of requests, of their "
            "time, of CPU and of GPU use. A metric of one's own, KEDA, or an autoscaler of someone "
            "else go by what only the cluster knows.",
            "Do what the message says, or simulate the spec with concurrency or throughput as its metric.",
        ),
        Code(
            "SIM002",
            "The server and the traffic do not go together",
            "How long a request takes to a language model follows from its tokens, and the traffic "
            "has none; or what the server was measured by cannot be read.",
            "Give the traffic tokens (prompt=500,output=200 after a shape), or the server its own (tokens=500/200).",
        ),
        Code(
            "SIM003",
            "Not one spec",
            "A simulation is of one workload. With several documents it would not be known whose traffic it is.",
            "Put the spec into a file of its own.",
        ),
        Code(
            "SIM004",
            "What is asked of the simulator makes no sense",
            "A server that simulates for others takes shapes and logs, a server in words, bounds and a search of a "
            "bounded size; a part of what was asked is none of these.",
            "Write it as the message says; `ebbtide simulate --help` has the forms.",
        ),
        Code(
            "SLO001",
            "The mean is above the 95th percentile",
            "A promise of a mean above the percentile is kept almost whenever the percentile's "
            "is, so it promises nothing of its own.",
            "Lower meanLatencyMilliseconds, or remove it.",
        ),
        Code(
            "SPEC001",
            "There is no such field",
            "Unknown fields are refused, since a field that is dropped is one whose author believes it to be set.",
            "Use the field that the message suggests, or see the reference.",
        ),
        Code(
            "SPEC002",
            "The value has the wrong type",
            "A text where a number is wanted may mean another number, and YAML's readers differ "
            "about which: nothing is converted.",
            "Write it in the type that the message names.",
        ),
        Code(
            "SPEC003",
            "The field is missing",
            "The document cannot be understood without it.",
            "Set it.",
        ),
        Code(
            "SPEC004",
            "The value is not one that the field takes",
            "It is outside the bounds, the pattern or the list that the reference gives for the field.",
            "Use a value that the message names.",
        ),
        Code(
            "SPEC005",
            "Not an input that Ebbtide reads",
            "Ebbtide reads its own documents, Run:ai's REST bodies and workload resources, "
            "Knative Services and KServe InferenceServices. This one is none of them.",
            "Start with apiVersion: ebbtide.dev/v1alpha1 and kind: Inference.",
        ),
        Code(
            "SPEC006",
            "A version of the input that is not known",
            "The kind is known, its apiVersion is not; its fields may mean something else.",
            "Use a version that the message names.",
        ),
        Code(
            "SPEC007",
            "Too long to be kept",
            "The spec is kept in an annotation of the object that it becomes, and the API server takes 256 KiB of "
            "annotations (k8s.io/apimachinery pkg/api/validation/objectmeta.go, TotalAnnotationSizeLimitB).",
            "Put long values into a ConfigMap, and refer to it.",
        ),
        Code(
            "SRV001",
            "Nothing says what to run",
            "A service needs an image, or a model with its address.",
            "Set image, or model with format and uri.",
        ),
        Code(
            "SRV002",
            "A Knative Service knows no models",
            "A model by its format and address is served by a KServe runtime.",
            "Remove model, or use serving: kserve.",
        ),
        Code(
            "SRV003",
            "The cluster lacks what would serve",
            "The profile says that Knative or KServe, or the wanted mode of KServe, is not there.",
            "Use what there is, or install it and say so in the profile.",
        ),
        Code(
            "SRV004",
            "The port is queue-proxy's own",
            "Knative's queue-proxy listens in the same pod, on 8008, 8012, 8013, 8022, 9090 and "
            "9091, and its webhook refuses these for the container (knative.dev/serving "
            "pkg/apis/serving/k8s_validation.go). KServe Standard has no queue-proxy, and takes them.",
            "Let the server listen on another port.",
        ),
        Code(
            "SRV005",
            "Nothing enforces who may call",
            "Run:ai checks authorizationType at its own gateway. Without a gateway that does, the "
            "endpoint would be open to everyone. A host name of its own has no list of its own: its DomainMapping gets the "
            "labels and annotations that the profile has for servingPort.authorizationType.",
            "Name the gateway in access.enforces of the profile, or use clusterLocalAccessOnly: true with public.",
        ),
        Code(
            "SRV006",
            "Who may call is contradictory",
            "authorizedUsers and authorizedGroups exclude each other, need the type of their own "
            "name, and must name somebody.",
            "Make the type and the list agree.",
        ),
        Code(
            "SRV007",
            "The request time-out is above the cluster's",
            "Knative's webhook refuses a timeoutSeconds above max-revision-timeout-seconds (600 "
            "unless set in config-defaults).",
            "Use at most that, or raise it in config-defaults and in the profile.",
        ),
        Code(
            "SRV008",
            "A long time-out holds replicas that end",
            "Knative gives a pod the request time-out as its time to end. A replica that is taken "
            "away may hold its GPU that long.",
            "Keep it as short as the longest reply.",
        ),
        Code(
            "SRV010",
            "KServe Standard cannot split traffic",
            "Standard mode has one Deployment and no revisions.",
            "Use serving: kserve or knative, or remove canaryPercent.",
        ),
        Code(
            "SRV011",
            "A canary needs its stable revision",
            "A Knative Service splits traffic between named revisions; KServe remembers the last "
            "one that was rolled out, a plain Service does not.",
            "Set traffic.stableRevision, or use serving: kserve.",
        ),
        Code(
            "SRV012",
            "A further port, or a way to publish one",
            "A Knative revision serves exactly one port, at the URL that its route makes, and Ebbtide keeps to that in every "
            "way to serve.",
            "Serve everything on servingPort, or run the rest as a service of its own.",
        ),
        Code(
            "SRV013",
            "Not a host name of its own",
            "Knative maps whole host names to a service (DomainMapping), not paths or ports, and "
            "only to the port that it serves.",
            "Use https:// and a full host name.",
        ),
        Code(
            "SRV014",
            "KServe Standard has no such setting",
            "Request time-outs are queue-proxy's, host names are Knative's DomainMappings, and "
            "the deadline of a Standard deployment is fixed. The field would be dropped.",
            "Remove it, or use serving: kserve or knative.",
        ),
        Code(
            "SRV015",
            "The spec is not kept on the object",
            "KServe copies an InferenceService's annotations to its pods unless they are on "
            "serviceAnnotationDisallowedList. With the spec on them every edit would make a new "
            "revision, so it is left off.",
            "Put ebbtide.dev/spec on the list (kustomize/kserve does) and into the profile.",
        ),
        Code(
            "SRV016",
            "The command cannot be split into words",
            "A text is split as a shell splits it, and quotes that are not closed leave open where a word ends.",
            "Close the quotes, or write a list of words.",
        ),
        Code(
            "SRV018",
            "No such serving runtime",
            "The profile lists the cluster's runtimes, and this is none of them. KServe would refuse the service.",
            "Use one of those listed, or leave it out: KServe picks one by the model's format.",
        ),
        Code(
            "SRV019",
            "Not an address that KServe loads",
            "KServe's storage initializer chooses by the scheme: s3, gs, hf, pvc, https, oci and "
            "a few more. Without one of them the pod would fail at its start. oci+native has the image mounted by Kubernetes: "
            "KServe's from 0.20 on, and Kubernetes' from 1.35 on or with the gate ImageVolume (github.com/kserve/kserve "
            "pkg/utils/imagevolume.go).",
            "Write the address with its scheme.",
        ),
        Code(
            "SRV021",
            "Not an image reference",
            "Knative's webhook parses the image to pin its digest (github.com/google/go-containerregistry, pkg/name) and refuses "
            "what it cannot parse: upper case, spaces, one-letter repositories.",
            "Write registry/repository:tag in lower case, or with a digest.",
        ),
        Code(
            "SRV022",
            "Labels that KServe copies to the pods",
            "KServe lays an InferenceService's labels and annotations over those of its pods "
            "(pkg/controller/v1beta1/inferenceservice/components/predictor.go, buildObjectMeta), but for the two lists in its "
            "configuration. What is the object's own elsewhere makes a new revision here.",
            "Use serving: knative, or change them together with the pods.",
        ),
        Code(
            "SRV023",
            "A host name that has to be claimed",
            "Knative gives a host name to a namespace by a ClusterDomainClaim (knative.dev/serving "
            "pkg/reconciler/domainmapping/reconciler.go), which only an administrator may make unless "
            "autocreate-cluster-domain-claims is on: then the first namespace that asks has it. Without one the "
            "DomainMapping stays at DomainAlreadyClaimed.",
            "Have it claimed: apiVersion networking.internal.knative.dev/v1alpha1, kind ClusterDomainClaim, the host as its "
            "name and spec.namespace. Or switch the setting on, where everyone may have every name.",
        ),
        Code(
            "SRV024",
            "More than KServe's own limit",
            "KServe gives a container that names no limit the one of its configuration (kserve pkg/apis/serving/v1beta1/"
            "inference_service_defaults.go; as shipped 1 CPU and 2Gi), but for a model's: SRV026. A request above it makes a "
            "pod that Kubernetes refuses.",
            "Set the limit, or take inferenceService.resource out of KServe's configuration, as kustomize/kserve does, and "
            "kserve.limits out of the profile.",
        ),
        Code(
            "SRV025",
            "KServe's own limit holds",
            "KServe gives a container that names no limit the one of its configuration, as SRV024 says: a server that needs "
            "more memory is killed, one that could use more CPU is held back.",
            "Set the limit that the server needs.",
        ),
        Code(
            "SRV026",
            "Requests and limits of spec and runtime don't fit",
            "KServe lays a model's resources over those of its serving runtime, key by key (kserve pkg/controller/v1beta1/"
            "inferenceservice/utils/utils.go, MergeRuntimeContainers), so a limit that the spec leaves open is the runtime's: "
            "1 CPU and 2Gi in those that come with KServe. Kubernetes refuses pods that ask for more than their limit.",
            "Set both, or take the resources out of the cluster's runtimes, as kustomize/kserve does, and "
            "kserve.runtimeResources out of the profile.",
        ),
        Code(
            "SRV027",
            "The runtime's own limit holds",
            "A limit that a model's spec leaves open is that of its serving runtime, as SRV026 says: a model that needs more "
            "memory is killed, one that could use more CPU is held back.",
            "Set the limit that the model needs.",
        ),
        Code(
            "SRV028",
            "A host name for a service inside the cluster",
            "clusterLocalAccessOnly takes the service off the outer gateway, but a DomainMapping to it is always put on "
            "that (knative.dev/serving pkg/reconciler/domainmapping/resources/ingress.go): the service would be public "
            "under that name.",
            "Remove clusterLocalAccessOnly, or exposedUrls.",
        ),
        Code(
            "SRV020",
            "Too many services for one control plane",
            "Users of Knative report that a new service takes minutes once there are more than about a thousand.",
            "Spread them over clusters, or merge small ones behind one server.",
        ),
        Code(
            "STO001",
            "A folder of the node",
            "hostPath breaks the pod's isolation; it lies outside the Pod Security Standard baseline.",
            "Use a persistent volume claim.",
        ),
        Code(
            "STO002",
            "An NFS share",
            "Knative takes no nfs volume (knative.dev/serving pkg/apis/serving/fieldmask.go), and "
            "neither does the restricted rule.",
            "Make a PersistentVolume for the share and use its claim.",
        ),
        Code(
            "STO003",
            "A git repository",
            "It would need a container that fetches it, which Ebbtide does not ship.",
            "Put the files into the image, or a model behind model.uri.",
        ),
        Code(
            "STO004",
            "A Run:ai data volume",
            "A data volume is kept by Run:ai's control plane.",
            "Use the claim behind it.",
        ),
        Code(
            "STO005",
            "A claim that cannot be made or found",
            "An existing claim needs its name, a new one a size and an access mode. Run:ai offers "
            "no ephemeral claims for inference; raw devices, shared claims and attributes of "
            "storage assets have no place here.",
            "Correct it as the message says.",
        ),
        Code(
            "STO006",
            "The mount path is taken, or not one",
            "Kubernetes refuses two mounts at one path of a container, and a path with a colon. Knative compares paths "
            "without doubled slashes and dots, and refuses mounts at /, /dev and /dev/log (knative.dev/serving "
            "pkg/apis/serving/k8s_validation.go); elsewhere a container would not run under them.",
            "Choose another path.",
        ),
        Code(
            "STO007",
            "Mounts that spread",
            "mountPropagation lets mounts pass between the node and the container, which breaks the pod's isolation.",
            "Remove mountPropagation.",
        ),
        Code(
            "STO008",
            "A bucket as a folder",
            "Run:ai has no S3 volume for inference either, and no driver for one is part of Kubernetes.",
            "Serve the model by its address (model.uri: s3://…), or copy the files into a claim.",
        ),
        Code(
            "STO009",
            "A path that leads out of its volume",
            "subPath is a path inside the volume: Kubernetes refuses one that begins with / or has .. in it "
            "(k8s.io/kubernetes pkg/apis/core/validation/validation.go, validateLocalDescendingPath).",
            "Name one of the ConfigMap's keys.",
        ),
        Code(
            "TRF001",
            "The traffic is in no form that is known",
            "Traffic is a table (CSV with a first line of names, or JSON lines) with a column of "
            "times, an answer of Prometheus, or a shape in words. Columns are known by the names that "
            "Azure's, Mooncake's and BurstGPT's traces have, and time or timestamp.",
            "Name the columns with --columns.",
        ),
        Code(
            "TRF002",
            "A row without a time",
            "The row has fewer or more columns than the first line, or its time is neither a number "
            "nor an ISO 8601 time. Left out, it would be a request that never came.",
            "Correct the row or remove it; the first 20 are named with their lines.",
        ),
        Code(
            "TRF003",
            "A row with a number that is none",
            "Tokens are whole numbers of 0 and more, counts and rates numbers of 0 and more.",
            "Correct the row or remove it.",
        ),
        Code(
            "TRF004",
            "No requests",
            "There is nothing to simulate: the file has no row, or all of its counts are 0.",
            "Check that it is the right file, or raise the shape's rate.",
        ),
        Code(
            "TRF005",
            "Not the answer to a range query",
            "Prometheus' /api/v1/query_range answers with a matrix: points over time. An instant "
            "query has one point, and an error none (prometheus/prometheus docs/querying/api.md). A "
            "series whose name ends in _total or _count is taken for a counter, any other for "
            "requests per second.",
            "Save the answer of /api/v1/query_range?query=…&start=…&end=…&step=….",
        ),
        Code(
            "TRF006",
            "Not a shape",
            "A shape is a word, a colon and its rates and lengths, such as ramp:1rps..20rps,10m. "
            "Rates are rps, rpm or rph; lengths ms, s, m, h or d.",
            "Write it as the message shows.",
        ),
        Code(
            "TRF007",
            "More than one simulation takes",
            "Each request is simulated, so 20 million of them are the limit, and the autoscaler looks every two seconds, "
            "so 100 days are. One row whose time is far off makes a log that long.",
            "Take a shorter time, or a part of the log; correct a time that is far off.",
        ),
        Code(
            "TUN001",
            "Nothing is promised",
            "A search weighs what is kept of a promise against what it costs. Without a promise the "
            "cheapest setting is always the least number of replicas.",
            "Say what is promised: --slo p95=2s, or slo in the spec.",
        ),
        Code(
            "TUN002",
            "The settings cannot be written into the file",
            "Only fields of kind: Inference in a file of their own are written, and only where every "
            "other byte can stay as it is.",
            "Write the fields that the message names yourself, or turn the file into kind: Inference "
            "with ebbtide convert.",
        ),
        Code(
            "YML001",
            "Not YAML",
            "The text is not UTF-8, or breaks YAML's grammar at this line.",
            "Correct the line.",
        ),
        Code(
            "YML002",
            "A value that readers disagree about",
            "kubectl, YAML 1.1 and YAML 1.2 read this word differently: yes and on are true to "
            "some and text to others, 0755 is one of two numbers, 1_000 is a number or text. What "
            "is applied would depend on the tool.",
            "Quote it, or write the value that you mean.",
        ),
        Code(
            "YML003",
            "The key is there twice",
            "Most readers keep the last and say nothing; the first would be lost.",
            "Keep one.",
        ),
        Code(
            "YML004",
            "A part of YAML that is not taken",
            "Anchors, aliases, tags, merges and directives change what a document says elsewhere, "
            "and readers differ about them.",
            "Write the value out.",
        ),
        Code(
            "YML005",
            "Not a key",
            "A key is a text. A number, null or a list as key becomes something else in JSON, "
            "which is what Kubernetes stores.",
            "Quote the key.",
        ),
        Code(
            "YML006",
            "Larger than any spec",
            "The document nests too deeply, or a number does not fit 64 bits, so readers would round it.",
            "Check that it is the right file; quote a number that is meant as text.",
        ),
    )
}
