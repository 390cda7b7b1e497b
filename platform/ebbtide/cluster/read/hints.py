"""Hints on a server that does not become ready: its last line of log, the error of its readiness probe, and the fix.

Status and explanation are pure functions of objects; only this module reads logs, for one workload and for people. Upstream:
knative.dev/serving pkg/queue/readiness/probe.go (the sidecar logs the error of a probe that fails repeatedly).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ebbtide.cluster.client.protocol import Cluster, ClusterError, LogQuery
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.amounts import format_amount
from ebbtide.cluster.read.inventory import LiveWorkload, parse_timestamp
from ebbtide.cluster.read.model_caches import find_download_trouble
from ebbtide.cluster.read.revision_state import list_current_revisions, list_revision_pods, list_routed_revisions
from ebbtide.cluster.read.status import compute_status
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import read_annotation, read_setting
from ebbtide.core.base.paths import get_at
from ebbtide.core.translation.objects import Object

#: Seconds for which a server may start before its log is read.
PATIENCE_SECONDS: Final = 20.0
#: Lines of Knative's sidecar to search for the error of its probe.
SIDECAR_LINES: Final = 50
REFUSED: Final = "connection refused"
#: A probe that an HTTP server answered, in the log of Knative's sidecar and in the kubelet's event.
STATUS_CODE: Final = re.compile(r"status ?code: (?P<code>\d{3})")
#: The start of the API server's answer in place of a log that the node no longer has.
NO_LOG: Final = "unable to retrieve container logs"
#: The namespace is the default of jobNamespace, and the labels are the agent's (kserve pkg/controller/v1alpha1/localmodelnode, launchJob).
DOWNLOAD_FIX: Final = (
    "correct model.uri, or the credentials of the download; for the reason, kubectl logs -n kserve-localmodel-jobs $(kubectl get jobs "
    "-n kserve-localmodel-jobs -l model={name},modelNamespace={namespace},node={node} -o name); to repeat it, delete this Job"
)
#: KServe creates the claim of a cache when the cache changes.
CLAIM_FIX: Final = (
    "check that LocalModelNodeGroup {group} exists; to let KServe create the claim, kubectl annotate localmodelnamespacecache {name} "
    "-n {namespace} --overwrite touched=$(date +%s)"
)
#: Causes, and the fix of each; names come from the cause.
FIXES: Final = tuple(
    (re.compile(pattern), fix)
    for pattern, fix in (
        (
            r'secret "(?P<name>[^"]+)" not found',
            "create the Secret: kubectl create secret generic {name} -n {namespace} --from-literal=KEY=VALUE",
        ),
        (
            r'configmap "(?P<name>[^"]+)" not found',
            "create the ConfigMap: kubectl create configmap {name} -n {namespace} --from-literal=KEY=VALUE",
        ),
        (
            r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) (?P<name>\S+)",
            "add key {key} to {kind} {name}, or correct environmentVariables in the spec",
        ),
        (r"cannot (?:start|create) container", "correct command in the spec, or use an image that has this program"),
        (r"OOMKilled|most likely out of memory", "set compute.cpuMemoryLimit in the spec to more than {limit}"),
        (
            r"exceeds quota",
            "request less, or ask an administrator of the project to raise its quota with ebbtide project create",
        ),
        (
            r"to node (?P<node>\S+): NodeDownloadError in LocalModelNamespaceCache (?P<name>\S+)",
            DOWNLOAD_FIX,
        ),
        (
            r'persistentvolumeclaim "(?P<name>\S+-cache-[0-9a-f]{8})-(?P<group>\S+)" not found',
            CLAIM_FIX,
        ),
        (r"cannot pull image", "correct image in the spec; for a private registry, add its Secret to imagePullSecrets"),
    )
)


def read_server_hint(cluster: Cluster, live: LiveWorkload) -> str:
    """Return one sentence on the newest pod that does not become ready; empty if there is nothing to add.

    The caller may lack the right to read logs; the sentence then has only what the pod's objects say.
    """
    fix, pod, trouble = _diagnose(live)
    if pod is None:
        return fix
    container = of_pod.find_server_container(pod)
    if trouble is not None and (trouble.kind != "crash" or trouble.unstarted):
        return fix
    started = parse_timestamp(get_at(of_pod.find_server_status(pod), "state", "running", "startedAt"))
    if trouble is None and (not started or live.now - started < PATIENCE_SECONDS):
        return ""
    crashed = trouble is not None
    known = crashed and of_pod.find_last_words(of_pod.last_end(of_pod.find_server_status(pod)))
    printed = "" if known else _read_last_line(cluster, live, pod, container, previous=crashed)
    command = f"ebbtide logs {live.name} -n {live.namespace}{' --previous' if crashed else ''}"
    said = (
        f"for more of its log, run {command}"
        if known
        else f"the last line of its log is: {printed} ({command})"
        if printed
        else f"its log is empty or unreadable ({command})"
    )
    # A process that the kernel ends has no time to say why.
    parts = [fix or said] if crashed else [_explain_probe(cluster, live, pod, container), said]
    return "; ".join(filter(None, parts))


def find_fix(live: LiveWorkload) -> str:
    """Return the fix of what keeps the newest pod from becoming ready, as ``fix: ...``; empty without a known cause."""
    return _diagnose(live)[0]


def _diagnose(live: LiveWorkload) -> tuple[str, Object | None, of_pod.PodTrouble | None]:
    """Return the fix of the newest pod that does not become ready, the pod, and its trouble."""
    current = list_current_revisions(live)
    pods = [
        pod
        for pod in reversed(live.pods)
        if live.service is None or get_at(pod, "metadata", "labels", keys.KNATIVE_REVISION) in current
    ]
    pod = next((pod for pod in pods if not of_pod.has_ended(pod) and not of_pod.is_ready(pod)), None)
    if pod is None:
        # A quota rejects pods, so there is none that could tell.
        return _suggest_fix(compute_status(live).why, live, {}, ""), None, None
    trouble = find_download_trouble(pod, live.model_caches) or of_pod.find_trouble(pod, live.events)
    fix = "" if trouble is None else _suggest_fix(trouble.words, live, pod, of_pod.find_server_container(pod))
    return fix, pod, trouble


def _suggest_fix(cause: str, live: LiveWorkload, pod: Object, container: str) -> str:
    """Return the fix of a known cause; empty if there is none."""
    for pattern, fix in FIXES:
        match = pattern.search(cause)
        if match is not None:
            containers = get_at(pod, "spec", "containers", default=[])
            server: Object = next((row for row in containers if row["name"] == container), {})
            limit = get_at(server, "resources", "limits", "memory", default="the memory of the node")
            return f"fix: {fix.format(**match.groupdict(), namespace=live.namespace, limit=limit)}"
    return ""


def describe_idle_holders(live: LiveWorkload) -> Iterator[str]:
    """Yield a sentence for each failed revision whose pods hold resources, with when they go and how to free them.

    A pod without a node holds nothing. A revision that the route needs is never named, because the command deletes it.
    """
    newest = live.revisions[-1]["metadata"]["name"] if live.revisions else ""
    needed = list_routed_revisions(live)
    for revision in live.revisions:
        name = revision["metadata"]["name"]
        alive = [pod for pod in list_revision_pods(live, name) if get_at(pod, "spec", "nodeName")]
        failing = any(map(of_pod.find_trouble, alive)) and not any(map(of_pod.is_ready, alive))
        if name in needed or not failing:
            continue
        totals: dict[str, float] = {}
        for pod in alive:
            for resource, amount in of_pod.sum_requests(pod).items():
                if resource != "memory":
                    totals[resource] = totals.get(resource, 0.0) + amount
        amounts_text = " and ".join(format_amount(resource, amount) for resource, amount in sorted(totals.items()))
        if not amounts_text or len(live.revisions) == 1:
            continue
        known = read_setting(revision, keys.PROGRESS_DEADLINE) is not None
        limit = read_annotation(revision, keys.PROGRESS_DEADLINE) if known else "10 min by default"
        first = "apply a spec that works, then " if name == newest else ""
        yield (
            f"revision {name} fails and still holds {amounts_text}, until Knative's progress deadline ({limit}); to free "
            f"{'it' if len(totals) == 1 else 'them'} now, {first}run kubectl delete revision {name} -n {live.namespace}"
        )


def _read_last_line(cluster: Cluster, live: LiveWorkload, pod: Object, container: str, *, previous: bool) -> str:
    lines = _read_log(cluster, live, pod, container, LogQuery(5, previous=previous))
    said = (line.strip() for line in reversed(lines))
    return next((line[: of_pod.LINE_LENGTH] for line in said if line and not line.startswith(NO_LOG)), "")


def _read_log(cluster: Cluster, live: LiveWorkload, pod: Object, container: str, query: LogQuery) -> list[str]:
    try:
        return [*cluster.logs(live.namespace, pod["metadata"]["name"], container, query)]
    except ClusterError:
        return []


def _explain_probe(cluster: Cluster, live: LiveWorkload, pod: Object, container: str) -> str:
    """Return why the readiness probe fails: a port without a server, or the status code of its answer; empty if unknown.

    Knative's sidecar probes the server and logs the error; without the sidecar, the kubelet's event has it.
    """
    sidecar = any(row["name"] == of_pod.QUEUE_PROXY for row in get_at(pod, "spec", "containers", default=[]))
    if sidecar:
        messages = _read_log(cluster, live, pod, of_pod.QUEUE_PROXY, LogQuery(SIDECAR_LINES))
    else:
        name = pod["metadata"]["name"]
        events = (row for row in live.events if get_at(row, "involvedObject", "name") == name)
        # Only the newest event describes the pod as it is now.
        messages = [str(row.get("message", "")) for row in events if row.get("reason") == "Unhealthy"][-1:]
    for message in reversed(messages):
        code = STATUS_CODE.search(message)
        if code is not None:
            return f"the server answers its readiness probe with status {code['code']}"
        if REFUSED in message and of_pod.find_probed_port(pod):
            return f"nothing listens on port {of_pod.find_probed_port(pod)} of container {container}"
    return ""
