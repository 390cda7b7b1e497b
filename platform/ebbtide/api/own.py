"""Ebbtide's own paths, under ``/api/ebbtide/v1``: all that the command line does, as JSON; errors by RFC 9457."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Header, Query
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ebbtide import __version__
from ebbtide.api import answers, requests
from ebbtide.api.access import UnauthorizedError
from ebbtide.api.asked import Limit, Offset, Search, Who, moment, ordered, page, refusals
from ebbtide.api.errors import RequestError
from ebbtide.api.routing import Router
from ebbtide.api.simulation import Asked as Question
from ebbtide.base.bodies import serialize
from ebbtide.base.paths import at
from ebbtide.cluster.client.protocol import KNATIVE, KSERVE, ClusterError, MissingError, happened

# FastAPI reads these as the program runs.
from ebbtide.documents.explain import Explanation  # noqa: TC001
from ebbtide.slo.promises import document
from ebbtide.slo.report import Report  # noqa: TC001
from ebbtide.slo.source import SERIES, Ref

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ebbtide.api.asked import Asked
    from ebbtide.cluster.read.status import Status
    from ebbtide.translation.objects import Object

router = Router(prefix="/api/ebbtide/v1", tags=["Ebbtide"])

MODEL: Final = answers.Refusal
_PURE: Final = refusals(MODEL, 400, 401, 413, 422, 429, 503)
_READ: Final = refusals(MODEL, 401, 403, 404, 422, 502, 503)
_LIST: Final = refusals(MODEL, 401, 403, 422, 503)
_WRITE: Final = refusals(MODEL, 400, 401, 403, 404, 409, 413, 422, 502, 503)
#: Seconds between two looks of a stream, and between two signs of life on one that is quiet.
LOOK: Final = 0.5
QUIET: Final = 15.0
#: Points of a history at most, and lines of a log.
POINTS: Final = 2_000
LINES: Final = 5_000
SINCE: Final = re.compile(r"(?P<number>\d{1,6})(?P<unit>[smhd])")
UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
LONGEST: Final = 400 * 86_400.0

Namespace = Annotated[str, InPath(min_length=1, max_length=63)]
Name = Annotated[str, InPath(min_length=1, max_length=253)]
InNamespace = Annotated[str, Query(max_length=63, description="One namespace; empty: all that one may see.")]
OfProject = Annotated[str, Query(max_length=63, description="One project.")]
#: Of a list of workloads.
SORTS: Final[Mapping[str, Callable[[Status], Any]]] = {
    "name": lambda row: row.name,
    "namespace": lambda row: row.namespace,
    "project": lambda row: row.project,
    "phase": lambda row: row.phase,
    "age": lambda row: row.age_seconds,
    "ready": lambda row: row.replicas.ready,
    "wanted": lambda row: row.replicas.wanted,
}


# What needs no cluster.


@router.post("/render", responses=_PURE)
def render(who: Who, body: requests.Spec) -> answers.Rendered:
    """Return the manifests that specs come to."""
    return who.backend.render(who.backend.documents(body.spec))


@router.post("/check", responses=_PURE)
def check(who: Who, body: requests.Spec) -> answers.Problems:
    """Return every problem of specs."""
    return answers.Problems(who.backend.check(who.backend.documents(body.spec)))


@router.post("/explain", responses=_PURE)
def explain(who: Who, body: requests.Explain) -> list[Explanation]:
    """Return why each field of the manifests is there."""
    return who.backend.explain(who.backend.documents(body.spec), body.field)


@router.post("/simulate", responses=_PURE)
def simulate(who: Who, body: requests.Simulate) -> dict[str, Any]:
    """Return what the autoscaler does with traffic: by the spec, by settings that are tried, by Knative's defaults."""
    return who.backend.simulate(Question(**body.model_dump()))


@router.post("/tune", responses=_PURE)
def tune(who: Who, body: requests.Tune) -> dict[str, Any]:
    """Return settings that keep a promise with the fewest replicas."""
    return who.backend.tune(Question(**body.model_dump()))


# Before a write, and the write.


@router.post("/plan", responses=_WRITE)
def plan(who: Who, body: requests.Spec) -> answers.Plans:
    """Return what an apply would do, and what it costs; nothing is written."""
    return who.backend.plan(who.caller, who.backend.documents(body.spec))


@router.post("/diff", responses=_WRITE)
def diff(who: Who, body: requests.Spec) -> answers.Plans:
    """Return only what an apply would change."""
    found = who.backend.plan(who.caller, who.backend.documents(body.spec))
    planned = (replace(one, steps=tuple(step for step in one.steps if step.verdict != "keep")) for one in found.planned)
    return replace(found, planned=tuple(planned))


@router.post("/apply", responses=_WRITE)
def apply(who: Who, body: requests.Apply) -> answers.Submitted:
    """Bring specs onto the cluster; it does not wait until they serve."""
    documents = who.backend.documents(body.spec)
    return who.backend.submit(who.caller, documents, force=body.force, create=body.create)


# Workloads.


@router.get("/workloads", responses=_LIST)
def workloads(
    who: Who,
    namespace: InNamespace = "",
    project: OfProject = "",
    phase: Annotated[str, Query(max_length=60, description="One phase.")] = "",
    search: Search = "",
    offset: Offset = 0,
    limit: Limit = 100,
    sort_by: Annotated[str, Query(alias="sortBy", max_length=60, description=f"One of {', '.join(SORTS)}.")] = "",
    sort_order: Annotated[str, Query(alias="sortOrder", max_length=10, description="asc or desc.")] = "asc",
) -> answers.Statuses:
    """Return the workloads that the caller may see, page by page."""
    found = who.backend.workloads(who.caller, namespace)
    rows = [row for row in found.value if project in {"", row.project} and phase in {"", row.phase}]
    if search:
        text = search.lower()
        rows = [
            row for row in rows if any(text in part.lower() for part in (row.name, row.project, row.why, row.phase))
        ]
    shown, following = page(ordered(rows, sort_by, sort_order, SORTS, {}), offset, limit)
    return answers.Statuses([_status(who, row) for row in shown], len(rows), following, found.age)


def _status(who: Asked, row: Status) -> answers.WorkloadStatus:
    return answers.WorkloadStatus(who.backend.id_of(row), row)


@router.get("/workloads/{namespace}/{name}", responses=_READ)
def workload(who: Who, namespace: Namespace, name: Name) -> answers.Detailed:
    """Return everything about one workload."""
    now = who.backend.status(who.caller, namespace, name)
    found = who.backend.workload(who.caller, namespace, name)
    kept = document(found.value.top)
    spec = None if kept is None else kept["spec"]
    return answers.Detailed(_status(who, now.value), spec, [_event(event) for event in found.value.events], found.age)


@router.delete("/workloads/{namespace}/{name}", responses=_WRITE)
def delete(
    who: Who,
    namespace: Namespace,
    name: Name,
    data: Annotated[bool, Query(description="Its volume claims, too, with what is on them.")] = False,
) -> answers.Deleted:
    """Delete a workload and what was made beside it."""
    return who.backend.delete(who.caller, namespace, name, data=data)


@router.post("/workloads/{namespace}/{name}/scale", responses=_WRITE)
def scale(who: Who, namespace: Namespace, name: Name, body: requests.Scale) -> answers.Done:
    """Set bounds or target live, without a new revision; with nothing given, back to what the spec says."""
    values = {key: float(value) for key, value in body.model_dump(by_alias=True).items() if value is not None}
    return answers.Done(who.backend.scale(who.caller, namespace, name, values or None))


@router.post("/workloads/{namespace}/{name}/rollback", responses=_WRITE)
def rollback(who: Who, namespace: Namespace, name: Name, body: requests.Rollback) -> answers.Done:
    """Send all requests to a revision, until the next apply."""
    return answers.Done((who.backend.rollback(who.caller, namespace, name, body.to),))


@router.post("/workloads/{namespace}/{name}/suspend", responses=_WRITE)
def suspend(who: Who, namespace: Namespace, name: Name) -> answers.Done:
    """Take a KServe workload down and keep its object."""
    who.backend.suspend(who.caller, namespace, name)
    return answers.Done((f"{namespace}/{name}",))


@router.post("/workloads/{namespace}/{name}/resume", responses=_WRITE)
def resume(who: Who, namespace: Namespace, name: Name) -> answers.Done:
    """Bring a suspended workload back."""
    who.backend.resume(who.caller, namespace, name)
    return answers.Done((f"{namespace}/{name}",))


@router.get("/workloads/{namespace}/{name}/why", responses=_READ)
def why(who: Who, namespace: Namespace, name: Name) -> answers.Reasons:
    """Return why a workload has this number of replicas now."""
    found = who.backend.why(who.caller, namespace, name)
    return answers.Reasons(found.value, found.age)


@router.get("/workloads/{namespace}/{name}/events", responses=_READ)
def events(who: Who, namespace: Namespace, name: Name) -> answers.Events:
    """Return what Kubernetes tells of a workload."""
    found = who.backend.events(who.caller, namespace, name)
    return answers.Events([_event(event) for event in found.value], found.age)


@router.get(
    "/workloads/{namespace}/{name}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_READ},
)
def logs(
    who: Who,
    namespace: Namespace,
    name: Name,
    pod: Annotated[str, Query(max_length=253, description="A pod; by default the newest that is ready.")] = "",
    container: Annotated[str, Query(max_length=63, description="A container; by default the server's.")] = "",
    tail: Annotated[int, Query(ge=1, le=LINES, description="The last so many lines.")] = 200,
) -> StreamingResponse:
    """Return the end of a container's log."""
    chosen = who.backend.container_of(who.caller, namespace, name, pod, container)
    lines = [*who.backend.logs(who.caller, namespace, *chosen, tail=tail)]
    return StreamingResponse((f"{line}\n" for line in lines), media_type="text/plain; charset=utf-8")


@router.get("/workloads/{namespace}/{name}/history", responses=_READ)
def history(
    who: Who,
    namespace: Namespace,
    name: Name,
    start: Annotated[str, Query(max_length=60, description="The first moment, in ISO 8601.")],
    end: Annotated[str, Query(max_length=60, description="The last moment, in ISO 8601.")],
    step: Annotated[float, Query(ge=1, le=86_400, description="Seconds between two points.")] = 60.0,
) -> answers.Series:
    """Return a workload's series over time."""
    first, last = moment("start", start).timestamp(), moment("end", end).timestamp()
    if not first < last or (last - first) / step > POINTS:
        raise RequestError("step", f"from start to end there are 1 to {POINTS} points", "take a longer step")
    found = who.backend.history(who.caller, Ref(namespace, name), first, last, step)
    units = {key: SERIES.get(key, "") for key in found.series}
    return answers.Series(namespace, name, units, {key: [*points] for key, points in found.series.items()})


Since = Annotated[str, Query(max_length=10, description="How far back: 30m, 12h, 7d.")]
Price = Annotated[float | None, Query(alias="gpuHour", ge=0, le=1e6, description="What a GPU costs an hour.")]


@router.get("/workloads/{namespace}/{name}/slo", responses=_READ)
def slo_of(who: Who, namespace: Namespace, name: Name, since: Since = "7d", price: Price = None) -> Report:
    """Return what a workload promised and what came of it."""
    return who.backend.report(who.caller, namespace=namespace, name=name, since=_since(since), gpu_hour=price)


@router.get("/slo", responses={**_LIST, **refusals(MODEL, 429)})
def slo(
    who: Who, namespace: InNamespace = "", project: OfProject = "", since: Since = "7d", price: Price = None
) -> Report:
    """Return what all workloads promised and what came of it, by project and together."""
    return who.backend.report(who.caller, namespace=namespace, project=project, since=_since(since), gpu_hour=price)


def _since(text: str) -> float:
    match = SINCE.fullmatch(text)
    seconds = int(match["number"]) * UNITS[match["unit"]] if match else 0.0
    if not UNITS["m"] <= seconds <= LONGEST:
        raise RequestError("since", f"{text!r} is no time between 1m and 400d", "write 30m, 12h or 7d")
    return seconds


# The cluster.


@router.get("/doctor", responses={**_LIST, **refusals(MODEL, 502)})
def doctor(who: Who) -> answers.Findings:
    """Return what is not as the profile says, as far as the caller may see it."""
    return answers.Findings(who.backend.doctor(who.caller))


@router.post("/doctor", responses=_WRITE)
def doctor_for(who: Who, body: requests.Diagnose) -> answers.Findings:
    """Return what the cluster lacks for specs."""
    documents = None if body.spec is None else who.backend.documents(body.spec)
    return answers.Findings(who.backend.doctor(who.caller, documents))


@router.get("/projects", responses=_LIST)
def projects(who: Who) -> answers.Projects:
    """Return the projects that the caller may see, with their quotas."""
    found = who.backend.projects(who.caller)
    return answers.Projects(found.value, found.age)


@router.get("/nodes", responses=_LIST)
def nodes(who: Who) -> answers.Nodes:
    """Return the nodes and who holds their GPUs."""
    found = who.backend.nodes(who.caller)
    return answers.Nodes(found.value, found.age)


@router.get("/whoami", responses=refusals(MODEL, 401, 503))
def whoami(who: Who) -> answers.Whoami:
    """Return who asks, as the cluster sees it."""
    return answers.Whoami(who.caller.name, who.caller.groups, who.backend.read_only)


@router.get("/version", responses=refusals(MODEL, 401, 503))
def version(who: Who) -> answers.Version:
    """Return which Ebbtide this is."""
    backend = who.backend
    return answers.Version(__version__, backend.profile.metadata.name, backend.demo, backend.read_only)


# Changes as a stream.

#: A workload's kinds, as a status names them.
CALLED: Final = {KNATIVE.name: "Knative Service", KSERVE.name: "InferenceService"}
#: Of an id: whose count of changes it is, and how far that was.
ID: Final = re.compile(r"(?P<word>[0-9a-f]+)-(?P<number>[0-9]{1,18})")
#: One event of the stream; its data is JSON.
STREAMED: Final = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "With the last of what is told at once: where to resume from."},
        "event": {"type": "string", "enum": ["all", "workload", "gone"]},
        "data": {"type": "string"},
    },
}


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `workload` with its state, `gone` with its place and kind, `all` "
            "before all workloads where what is asked for is too long ago, or of another process.",
            "content": {"text/event-stream": {"schema": STREAMED}},
        },
        **_LIST,
    },
)
async def stream(
    who: Who,
    namespace: InNamespace = "",
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
    once: Annotated[bool, Query(description="End when all that is known has been told.")] = False,
) -> StreamingResponse:
    """Tell each change of the workloads that the caller may see, from now on, or from where another stream ended."""
    # What is not allowed must be said before the stream begins.
    await run_in_threadpool(who.backend.workloads, who.caller, namespace)
    since = _since_id(who, last_event_id)
    return StreamingResponse(_changes(who, namespace, since, once=once), media_type="text/event-stream")


def _since_id(who: Asked, given: str) -> int:
    """Return the count of changes that an id stands for; -1, before which nothing is known, for one of another process."""
    match = ID.fullmatch(given)
    return int(match["number"]) if match and match["word"] == who.backend.cache.word else -1


async def _changes(who: Asked, namespace: str, place: int, *, once: bool) -> AsyncIterator[str]:
    quiet = 0.0
    while not who.backend.cache.stopped():
        try:
            news, place = await run_in_threadpool(_news, who, namespace, place)
        except (UnauthorizedError, ClusterError):
            # Its token has ended, or nobody can say whether it has: who comes back is told which.
            return
        for line in news:
            yield line
        quiet = 0.0 if news else quiet + LOOK
        if quiet >= QUIET:
            quiet = 0.0
            yield ": still here\n\n"
        if once:
            return
        await asyncio.sleep(LOOK)


def _news(who: Asked, namespace: str, since: int) -> tuple[list[str], int]:
    """Return what changed after ``since`` as events, and where that ends.

    Raises:
        UnauthorizedError: the caller's token is nobody's any more.
        ClusterError: nobody can be asked.

    """
    backend, caller = who.backend, who.backend.caller_of(who.caller.token)
    number, tops = backend.cache.moves(since)
    told: list[tuple[str, Any]] = []
    if tops is None:
        rows = backend.workloads(caller, namespace).value
        told = [("all", {"count": len(rows)}), *(("workload", _status(who, row)) for row in rows)]
    for top in reversed(tops or ()):
        if namespace not in {"", top.namespace} or not backend.sees(caller, top):
            continue
        try:
            told.append(("workload", _status(who, backend.status_of(caller, top))))
        except MissingError:
            told.append(("gone", {"namespace": top.namespace, "name": top.name, "kind": CALLED[top.kind]}))
    lines = [f"event: {kind}\ndata: {json.dumps(serialize(data))}\n\n" for kind, data in told]
    if lines:
        # Only the last has the id: who breaks off before it comes back with an earlier one, and misses nothing.
        lines[-1] = f"id: {backend.cache.word}-{number}\n{lines[-1]}"
    return lines, number


def _event(event: Object) -> answers.Event:
    about = event.get("involvedObject", {})
    return answers.Event(
        happened(event) or None,
        str(event.get("type", "")),
        str(event.get("reason", "")),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        str(event.get("message", "")),
        int(at(event, "count", default=1)),
    )
