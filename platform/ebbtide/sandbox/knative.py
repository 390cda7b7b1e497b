"""Knative Services: their revisions and their traffic.

Upstream: knative.dev/serving pkg/reconciler/{configuration,service,route}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.base import keys
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import KNATIVE, REVISION
from ebbtide.sandbox import events, kserve, readiness, scaler
from ebbtide.sandbox.children import ROUTING, TEMPLATE, make_revision, template_text
from ebbtide.sandbox.kubelet import reconcile_pods
from ebbtide.sandbox.metadata import namespace_of
from ebbtide.sandbox.state import kept
from ebbtide.sandbox.webhook import go_seconds

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Objects
    from ebbtide.sandbox.state import State
    from ebbtide.translation.objects import Object


def reconcile(state: State, namespace: str, name: str) -> None:
    """Make the revision that a service's template asks for, unless the newest one is of that template."""
    service = state.peek(KNATIVE, namespace, name)
    if service is None:
        return
    newest = at(service, "status", "latestCreatedRevisionName")
    if newest is not None:
        existing = state.peek(REVISION, namespace, newest)
        if existing is not None and existing["metadata"]["annotations"].get(TEMPLATE) == template_text(service):
            refresh(state, namespace, name)
            return
    number = int(newest.rpartition("-")[2]) + 1 if newest else 1
    made = make_revision(service, number)
    revision = made["metadata"]["name"]
    made["status"] = {"conditions": [state.condition("Ready", "Unknown", "Deploying")]}
    state.write(REVISION, made)
    template = service["spec"]["template"]
    scaler.create(state, made, template)
    events.note(state, service, "Normal", "Created", f'Created Revision "{revision}"')
    status = {
        "latestCreatedRevisionName": revision,
        "url": f"http://{name}.{namespace}.{state.domain}",
        "observedGeneration": service["metadata"]["generation"],
    }
    state.set_status(KNATIVE, namespace, name, status)
    deadline = at(template, "metadata", "annotations", keys.PROGRESS_DEADLINE)
    seconds = (go_seconds(deadline) if deadline else None) or state.life.deadline
    state.later(seconds, lambda: readiness.expire(state, namespace, revision))
    if state.driver is None:
        reconcile_pods(state, namespace, revision)
    else:
        state.driver.revision_made(namespace, revision)
        readiness.count_pods(state, namespace, revision)
    refresh(state, namespace, name)


def refresh(state: State, namespace: str, name: str) -> None:
    """Set a service's status and traffic by the readiness of its newest revision."""
    service = state.peek(KNATIVE, namespace, name)
    if service is None:
        return
    newest = at(service, "status", "latestCreatedRevisionName", default="")
    revision = state.peek(REVISION, namespace, newest)
    if revision is None:
        return
    ready = at(revision, "status", "conditions", 0, default={})
    status: Object = {"observedGeneration": service["metadata"].get("generation", 1)}
    if ready.get("status") == "True":
        status["latestReadyRevisionName"] = newest
        status["traffic"] = _traffic(service, newest, state.domain)
        conditions = [state.condition(kind, "True") for kind in ("ConfigurationsReady", "Ready", "RoutesReady")]
    else:
        before = at(service, "status", "latestReadyRevisionName")
        failed = ready.get("status") == "False"
        message = f'Revision "{newest}" failed with message: {ready.get("message")}.' if failed else ""
        if before is not None:
            status["traffic"] = _traffic(service, before, state.domain)
        reason = "RevisionFailed" if failed else "" if before else "RevisionMissing"
        conditions = [
            state.condition("ConfigurationsReady", ready.get("status", "Unknown"), reason, message),
            state.condition("Ready", ready.get("status", "Unknown"), reason, message),
            state.condition("RoutesReady", "True" if before else "Unknown"),
        ]
    status["conditions"] = kept(service, conditions)
    moved = status.get("traffic") != at(service, "status", "traffic")
    state.set_status(KNATIVE, namespace, name, status)
    _retire(state, namespace, name)
    if moved and state.driver is not None:
        state.driver.routed(namespace, name)
    kserve.refresh(state, state.expect(KNATIVE, namespace, name).item)


def _traffic(service: Object, newest: str, domain: str) -> Objects:
    """Return the traffic of a service's status; ``newest`` is its latest ready revision."""
    rows = at(service, "spec", "traffic") or [{"latestRevision": True, "percent": 100}]
    host = f"{service['metadata']['name']}.{namespace_of(service)}.{domain}"
    return [
        {
            **row,
            "revisionName": row.get("revisionName") or newest,
            **({"url": f"http://{row['tag']}-{host}"} if row.get("tag") else {}),
        }
        for row in rows
    ]


def _retire(state: State, namespace: str, name: str) -> None:
    """Set the routing state of a service's revisions, and retire those without traffic."""
    service = state.expect(KNATIVE, namespace, name).item
    serving = {row["revisionName"] for row in at(service, "status", "traffic", default=[])}
    serving.add(at(service, "status", "latestCreatedRevisionName"))
    for key in state.store.owned_by(service["metadata"]["uid"]):
        if key.kind != REVISION:
            continue
        item = state.expect(REVISION, namespace, key.name).item
        routing = "active" if key.name in serving else "reserve"
        if at(item, "metadata", "labels", ROUTING) != routing:
            item["metadata"]["labels"] = {**item["metadata"]["labels"], ROUTING: routing}
            state.write(REVISION, item)
        if routing == "reserve":
            scaler.retire(state, namespace, key.name)
