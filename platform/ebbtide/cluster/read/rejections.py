"""Explanations of the messages of schedulers, quotas, webhooks and registries about a pod that is not scheduled or created.

Upstream: k8s.io/kubernetes pkg/scheduler/framework/types.go (messages of FitError).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Final

from ebbtide.cluster.read import amounts
from ebbtide.cluster.read import claims as of_claim
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import KUEUE_WORKLOAD, LiveWorkload, ResourceHolder, ResourceSupply, find_eviction
from ebbtide.core.base import keys
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation import gpu
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.priority import KAI, NON_PREEMPTIBLE

#: The start of Kueue's reason for a pod, which has one set of pods.
FLAVORLESS: Final = re.compile(r"^couldn't assign flavors to pod set \S+: ")
#: Kueue's message about a Workload that it preempted (pkg/scheduler/preemption/preemption.go).
PREEMPTED: Final = re.compile(
    r"Preempted to accommodate a workload .* due to (?P<cause>[^;]+); preemptor path: \S*?(?P<queue>[^/\s;]+);"
)
INSUFFICIENT: Final = re.compile(r"(\d+) Insufficient ([\w/-]+(?:\.[\w/-]+)*)")
#: KAI's message about a pod beyond the quota of its queue (pkg/scheduler/api/unschedule_info.go).
OVER_QUOTA: Final = re.compile(
    r"Workload requested (?P<asked>[\d.]+) (?P<unit>GPUs|CPU cores|GB memory), but (?P<queue>\S+) quota is "
    r"(?P<hard>[\d.]+) \w+, while (?P<used>[\d.]+) \w+ are already allocated for non-preemptible pods"
)
#: KAI's message about a pod beyond the limit of its queue (the same file).
OVER_LIMIT: Final = re.compile(
    r"OverLimit: (?P<queue>\S+) quota has reached the allowable limit of (?P<unit>GPUs|CPU cores|memory)\. Limit is "
    r"(?P<hard>[\d.]+) \w+, currently (?P<used>[\d.]+) \w+ allocated and workload requested (?P<asked>[\d.]+) "
)
#: KAI's message about a node without enough GPUs (pkg/scheduler/api/common_info/pod_errors.go).
KAI_GPUS: Final = "have enough resources: GPUs"
EXCEEDED: Final = re.compile(
    r"exceeded quota: (?P<quota>[\w.-]+), requested: (?P<asked>\S+), used: (?P<used>\S+), limited: (?P<hard>\S+)"
)
#: The end of a revision's name, or of its pod's, after the name of the service.
REVISION_SUFFIX: Final = re.compile(r"-\d{5}(-deployment-.+)?$")
IMAGE: Final = re.compile(r'Unable to fetch image "(?P<image>[^"]+)": (?P<cause>.+)', re.DOTALL)
#: Go's errors for a registry that is limited to TLS 1.2. Since Knative 1.21.2, its controller requires TLS 1.3 of registries
#: (knative.dev/serving pkg/reconciler/revision/resolve.go, knative.dev/pkg network/tls).
OLD_TLS: Final = re.compile(r"tls: (?:protocol version not supported|server selected unsupported protocol version)")
#: The API server's message about a Deployment whose selector would change. That of an LLMInferenceService has the labels of its pods
#: (kserve pkg/controller/v1alpha2/llmisvc/workload_single_node.go, expectedSingleNodeMainDeployment).
SELECTOR: Final = re.compile(r'Deployment\.apps "(?P<name>[^"]+)" is invalid: spec\.selector: ')
CLASS_MISSING: Final = re.compile(r"no PriorityClass with name (\S+) was found")
#: Scheduler messages about unsuitable nodes, and their explanations.
UNFIT: Final = (
    (
        "didn't match Pod's node affinity/selector",
        "no node has the labels that the workload requires (node pool or node type)",
    ),
    ("untolerated taint", "the matching nodes have taints that the workload does not tolerate"),
    ("didn't have free ports", "the port is in use on every node"),
    ("unbound immediate PersistentVolumeClaims", "its volume claim is not bound: no matching volume"),
    ("volume node affinity conflict", "its volume is on another node"),
    ("didn't match pod anti-affinity rules", "each node already has a replica, and the workload allows one per node"),
    ("unschedulable", "the nodes are cordoned"),
)


def explain_unschedulable(message: str, pod: Object, live: LiveWorkload) -> str:
    """Explain why a pod cannot be scheduled: the missing resource, its holders, and whether they can be preempted."""
    gates = [str(gate.get("name", "")) for gate in get_at(pod, "spec", "schedulingGates", default=[])]
    if gates:
        return _explain_admission(pod, live) if keys.KUEUE_GATE in gates else f"held back by gate {', '.join(gates)}"
    beyond = OVER_QUOTA.search(message)
    if beyond is not None:
        unit = beyond["unit"].removesuffix("s") if beyond["asked"] == "1" else beyond["unit"]
        return (
            f"exceeds the quota of queue {beyond['queue']}: it requests {beyond['asked']} {unit} with "
            f"{beyond['used']} of {beyond['hard']} in use by pods that cannot be preempted; only a preemptible workload can "
            "exceed the quota"
        )
    full = OVER_LIMIT.search(message)
    if full is not None:
        unit = full["unit"].replace("memory", "GB memory")
        return (
            f"exceeds the limit of queue {full['queue']}: it requests {full['asked']} {unit} with {full['used']} of "
            f"{full['hard']} in use"
        )
    if quota := EXCEEDED.search(message):
        # The scheduler creates the claim of an extended resource.
        return _explain_exceeded(quota)
    if of_claim.UNALLOCATED in message:
        return _explain_claim_wait(pod, live)
    absent = of_claim.NO_CLASS.search(message)
    if absent is not None:
        return f"waiting for device class {absent['name']}, which does not exist: install the driver's classes"
    missing = [resource for _, resource in INSUFFICIENT.findall(message)]
    if KAI_GPUS in message:
        missing.append(keys.GPU)
    for resource in missing:
        if gpu.is_gpu_resource(resource):
            # Nodes that provide none are not in the supplies.
            supply = None if live.supplies is None else live.supplies.get(resource, ResourceSupply(0.0, ()))
            return _explain_gpu_wait(resource, message, pod, supply)
    if missing:
        requests = of_pod.sum_requests(pod)
        parts = ", ".join(_format_request(name, requests.get(name, 0.0)) for name in dict.fromkeys(missing))
        return f"waiting for a node with {parts} free"
    for part, explanation in UNFIT:
        if part in message:
            return f"waiting for a node: {explanation}"
    # KAI's message begins with a line feed, and ends with the dots of several sentences.
    return f"waiting for a node: {' '.join(message.partition(' preemption:')[0].split()).rstrip('.')}"


def explain_preemption(pod: Object, live: LiveWorkload) -> str:
    """Explain what KAI does for a pod without a node, and what KAI or Kueue did to the pod that it replaces; empty if nothing.

    Upstream: KAI-Scheduler pkg/scheduler/cache/status_updater (the events), pkg/scheduler/framework/statement.go.
    """
    name = pod["metadata"]["name"]
    own = [event for event in live.events if get_at(event, "involvedObject", "name") == name]
    subjects = {name, get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION)}
    evictions = [match for event in live.events if (match := find_eviction(event)) is not None]
    parts = []
    if own and own[-1].get("reason") == "Pipelined":
        node = str(own[-1].get("message", "")).rpartition(" to node ")[2]
        victims = ", ".join(dict.fromkeys(match["victim"] for match in evictions if match["name"] in subjects))
        cause = f"KAI has evicted {victims} for it, and" if victims else "KAI"
        parts.append(f"{cause} waits until terminating pods release the resources of node {node}")
    # Once a pod of the workload has a node, the eviction is over.
    for event in takewhile(lambda event: event.get("reason") != "Scheduled", reversed(live.events)):
        if words := _explain_eviction(event, subjects):
            parts.append(words)
            break
    return "; ".join(parts)


def _explain_eviction(event: Object, subjects: set[str]) -> str:
    """Explain the eviction of a pod of the workload for one of other names than ``subjects``; empty for another event."""
    if event.get("reason") == "Preempted" and (kueue := PREEMPTED.match(str(event.get("message", "")))):
        return f"its pod was preempted by Kueue for a workload of queue {kueue['queue']} ({kueue['cause']})"
    eviction = find_eviction(event)
    if eviction is None or eviction["name"] in subjects:
        return ""
    evictor = f"{eviction['namespace']}/{REVISION_SUFFIX.sub('', eviction['name'])}"
    how = "was preempted by" if eviction["higher"] else "was evicted to return its resources to"
    higher = ", which has a higher priority" if eviction["higher"] else ", whose queue is entitled to them"
    return f"its pod {how} {evictor}{higher}"


def _explain_admission(pod: Object, live: LiveWorkload) -> str:
    """Explain why Kueue has not admitted a pod."""
    queue = get_at(pod, "metadata", "labels", keys.KUEUE_QUEUE, default="")
    waits = f"waiting for Kueue to admit it to queue {queue}"
    reason = explain_missing_quota(pod["metadata"]["name"], queue, live)
    return f"{waits}: {reason}" if reason else waits


def explain_missing_quota(start: str, queue: str, live: LiveWorkload) -> str:
    """Return why Kueue does not admit a pod whose name has this start; empty if that is unknown, or if it was admitted.

    A queue that admits no pods comes first, because Kueue reports no reason after that.

    Upstream: kubernetes-sigs/kueue pkg/controller/jobframework/workload_names.go (a long name is cut before the hash),
    pkg/scheduler/scheduler.go (the events ``Pending`` and ``Admitted``), pkg/scheduler/flavorassigner/flavorassigner.go (the message).
    """
    closed = live.queues.explain_closed(queue, live.namespace)
    if closed is not None:
        return f"{closed.why}; {closed.fix}"
    for event in reversed(live.events):
        involved = event.get("involvedObject", {})
        subject = str(involved.get("name", "")).rpartition("-")[0].removeprefix("pod-")
        if (
            involved.get("kind") != KUEUE_WORKLOAD
            or not subject
            or not (start.startswith(subject) or subject.startswith(start))
        ):
            continue
        if event.get("reason") == "Admitted":
            return ""
        if event.get("reason") == "Pending":
            return FLAVORLESS.sub("", str(event.get("message", "")))
    return ""


def _explain_claim_wait(pod: Object, live: LiveWorkload) -> str:
    """Explain a wait for devices of a claim, or of an extended resource that DRA provides."""
    names = of_claim.list_claim_names(pod)
    claims = [claim for claim in live.claims if claim["metadata"]["name"] in names]
    classes = dict.fromkeys(name for claim in claims for name in of_claim.list_classes(claim))
    resources = of_pod.sum_pod_gpus(pod)
    parts = [f"a device of class {name}" for name in classes]
    parts += [_format_request(name, amount) for name, amount in resources.items()]
    waits = f"waiting for {' and '.join(parts) or 'a device of its resource claims'}"
    supply = next(
        (live.supplies[name] for name in (*classes, *resources) if live.supplies and name in live.supplies), None
    )
    if supply is None:
        return f"{waits}: no node has enough free"
    users = ", ".join(dict.fromkeys(holder.name for holder in supply.holders))
    if not users:
        return f"{waits}: no pod holds one, so no driver offers a device that fits; see kubectl get resourceslices"
    return f"{waits}: in use by {users}; the scheduler evicts no pod for a device that DRA allocates"


def _explain_gpu_wait(resource: str, message: str, pod: Object, supply: ResourceSupply | None) -> str:
    requested = of_pod.count_held_gpus(pod).get(resource, 1.0)
    waits = f"waiting for {_format_request(resource, requested)}"
    if supply is None:
        return f"{waits}: no node has enough free"
    if not supply.total:
        return f"{waits}: no node provides {resource}"
    if requested > supply.total:
        return f"{waits}: the cluster has only {supply.total:g}"
    users = ", ".join(dict.fromkeys(holder.name for holder in supply.holders))
    if not users:
        return f"{waits}: all {supply.total:g} are free, but not on one node"
    if "terminating pod on the nominated node" in message:
        return f"{waits}: the preempted pods are still terminating"
    waits += f": {supply.used:g} of {supply.total:g} used by {users}"
    priority = gpu.find_rank(pod)
    own, reclaim = supply.holders, ""
    if get_at(pod, "spec", "schedulerName") == KAI:
        # KAI evicts only preemptible pods.
        priority = min(priority, NON_PREEMPTIBLE)
        queue = get_at(pod, "metadata", "labels", keys.KAI_QUEUE, default="")
        own = tuple(holder for holder in supply.holders if holder.queue == queue)
        reclaim = _explain_reclaim(queue, supply.holders)
    weaker = dict.fromkeys(holder.name for holder in own if holder.priority < priority)
    if get_at(pod, "spec", "preemptionPolicy") != "Never" and weaker:
        return f"{waits}; {', '.join(weaker)} must be preempted first{reclaim}"
    if reclaim:
        return f"{waits}{reclaim}"
    name = get_at(pod, "spec", "priorityClassName", default="")
    preemptor = f"priority class {name}" if name else "a pod without a priority"
    return f"{waits}; {preemptor} cannot preempt them"


def _explain_reclaim(queue: str, holders: Iterable[ResourceHolder]) -> str:
    """Return what KAI takes from the preemptible holders of other queues, whatever their priority; empty without any.

    Upstream: KAI-Scheduler pkg/scheduler/actions/preempt/preempt.go (victims are of the same queue),
    pkg/scheduler/actions/reclaim/reclaim.go (and of a queue above its share).
    """
    others: dict[str, dict[str, None]] = {}
    for holder in holders:
        if holder.queue and holder.queue != queue and holder.priority < NON_PREEMPTIBLE:
            others.setdefault(holder.queue, {})[holder.name] = None
    parts = (f"from queue {name} ({', '.join(names)})" for name, names in others.items())
    return f"; KAI reclaims {' and '.join(parts)} only what exceeds its quota" if others else ""


def _format_request(resource: str, amount: float) -> str:
    """Return what a pod asks for: ``a GPU``, ``2 GPUs``, ``0.5 CPU cores``."""
    text = amounts.format_amount(resource, amount)
    return f"a{text[1:]}" if amount == 1 and text.startswith(("1 GPU", "1 MIG")) else text


def _explain_exceeded(match: re.Match[str]) -> str:
    """Explain what a quota rejected, by ``EXCEEDED``; the amounts are lists such as ``requests.cpu=125m,pods=1``."""
    requested, in_use, limits = (
        {name: value for name, _, value in (part.partition("=") for part in match[group].rstrip(":.,").split(","))}
        for group in ("asked", "used", "hard")
    )
    parts = [
        f"it requests {amounts.format_amount(name, amounts.parse_amount(amount))} with "
        f"{amounts.QuotaShare(name, limits.get(name, '0'), in_use.get(name, '0'))}"
        for name, amount in requested.items()
    ]
    return f"exceeds quota {match['quota']}: {'; '.join(parts)}"


def explain_selector(deployment: str, namespace: str = "") -> str:
    """Explain why KServe cannot update the Deployment of an LLMInferenceService, with the fix."""
    place = f" -n {namespace}" if namespace else ""
    return (
        f"KServe cannot update Deployment {deployment}: its selector has the labels of the pods, and cannot be changed; delete "
        f"it with kubectl delete deployment {deployment}{place}, and KServe creates the new one; requests fail until its replicas "
        "are ready"
    )


def explain_rejection(message: str) -> str:
    """Return a rejection message, reworded if Ebbtide knows it: a quota, a missing class, pod security, an image."""
    if "Initial scale was never achieved" in message:
        return "no replica became ready before the progress deadline"
    if match := EXCEEDED.search(message):
        return _explain_exceeded(match)
    if match := CLASS_MISSING.search(message):
        return (
            f"priority class {match[1].rstrip(',:')} not found; create it, or set scheduling.classesOwner: ebbtide in the "
            "profile"
        )
    if match := SELECTOR.search(message):
        return explain_selector(match["name"])
    if match := IMAGE.search(message):
        cause = of_pod.innermost_cause(match["cause"])
        if OLD_TLS.search(match["cause"]):
            cause = (
                "the registry does not support TLS 1.3, which Knative's controller requires since 1.21.2; name the image by "
                "its digest, or set TAG_TO_DIGEST_TLS_MIN_VERSION to 1.2 in the controller's environment"
            )
        return f"cannot resolve image {match['image']}: {cause}"
    if "violates PodSecurity" in message:
        return f"rejected by the namespace's pod security: {message.partition('violates PodSecurity')[2].strip()}"
    return message.partition("failed with message: ")[2].rstrip(". ") or message.rstrip(". ")
