"""Ebbtide's own paths under ``/api/ebbtide/v1``: the command line's functions with JSON bodies, and errors by RFC 9457."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Query
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from ebbtide import __version__
from ebbtide.cluster.client.protocol import LogQuery
from ebbtide.cluster.read.incident import Incident
from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo.cost_report import NO_COSTS, CostReport
from ebbtide.cluster.slo.promises import read_spec_document
from ebbtide.cluster.slo.report import Report
from ebbtide.core.base.operations import CHANGES, Operation

# FastAPI resolves these annotations at run time.
from ebbtide.core.documents.explain import Explanation
from ebbtide.core.spec.objectives import MAX_PERIOD, MIN_PERIOD
from ebbtide.core.units import parse_duration
from ebbtide.server.api import answers, requests
from ebbtide.server.api.asked import Context, Limit, Offset, RequestContext, describe_errors, slice_page
from ebbtide.server.api.errors import RequestError
from ebbtide.server.api.gpus import list_nodes
from ebbtide.server.api.routing import Router
from ebbtide.simulator.search.request import SimulationRequest

router = Router(prefix="/api/ebbtide/v1", tags=["Ebbtide"])

MODEL: Final = answers.Refusal
_PURE: Final = describe_errors(MODEL, 400, 401, 413, 422, 429, 503)
_READ: Final = describe_errors(MODEL, 401, 403, 404, 422, 502, 503)
_LIST: Final = describe_errors(MODEL, 401, 403, 422, 503)
_WRITE: Final = describe_errors(MODEL, 400, 401, 403, 404, 409, 413, 422, 429, 502, 503)
#: Maximum number of lines of a log.
MAX_LINES: Final = 5_000

Namespace = Annotated[str, InPath(min_length=1, max_length=63, description="The workload's namespace.")]
Name = Annotated[str, InPath(min_length=1, max_length=253, description="The workload's name.")]
InNamespace = Annotated[
    str, Query(max_length=63, description="Limit the result to one namespace; by default, all that the caller can see.")
]
OfProject = Annotated[str, Query(max_length=63, description="Limit the result to one project.")]


# Without a cluster.


@router.post("/render", summary="Render Specs", responses=_PURE)
def render(context: Context, body: requests.Spec) -> answers.Rendered:
    """Render specs to Kubernetes manifests."""
    return context.backend.specs.render(body.spec)


@router.post("/check", summary="Check Specs", responses=_PURE)
def check(context: Context, body: requests.Spec) -> answers.Problems:
    """Validate specs and return all problems."""
    return answers.Problems(context.backend.specs.check(body.spec))


@router.post("/explain", summary="Explain Manifests", responses=_PURE)
def explain(context: Context, body: requests.Explain) -> list[Explanation]:
    """Explain each field of the rendered manifests: its value, the spec fields it depends on, and the reasons."""
    return context.backend.specs.explain(body.spec, body.field)


@router.post("/simulate", summary="Simulate Traffic", responses=_PURE)
def simulate(context: Context, body: requests.SimulationCase) -> dict[str, Any]:
    """Simulate the autoscaler under traffic, with the spec, with alternative ``settings``, and with Knative's defaults."""
    return context.backend.specs.simulate(_make_request(body))


@router.post("/tune", summary="Tune Settings", responses=_PURE)
def tune(context: Context, body: requests.Tune) -> dict[str, Any]:
    """Search for autoscaling settings that meet the SLO with as few replicas as possible."""
    return context.backend.specs.tune(_make_request(body))


def _make_request(body: requests.SimulationCase) -> SimulationRequest:
    return SimulationRequest(**{**body.model_dump(), "log": body.log.encode() or None})


# Diff and apply.


@router.post("/diff", summary="Preview Apply", responses=_WRITE)
def diff(context: Context, body: requests.Spec) -> answers.Diffs:
    """Preview an apply by a server-side dry run: its changes and its cost. Nothing is written."""
    return context.backend.writes.diff(context.caller, context.backend.specs.documents(body.spec))


@router.post("/apply", summary="Apply Specs", responses=_WRITE)
def apply(context: Context, body: requests.Apply) -> answers.Submitted:
    """Apply specs to the cluster. The response does not wait for the workloads to become ready."""
    documents = context.backend.specs.documents(body.spec)
    return context.backend.writes.submit(context.caller, documents, force=body.force, create=body.create)


# Workloads.


@router.get("/workloads", summary="List Workloads", responses=_LIST)
def workloads(
    context: Context,
    namespace: InNamespace = "",
    project: OfProject = "",
    offset: Offset = 0,
    limit: Limit = 100,
) -> answers.Statuses:
    """List the workloads that the caller can see, page by page."""
    reads = context.backend.reads
    if not project:
        # Clients poll this list most, so only the rows of the page are made.
        page = reads.workload_page(context.caller, offset, limit, namespace)
        rows, total, next_offset, age = page.statuses.value, page.total, page.next_offset, page.statuses.age
    else:
        statuses = reads.workloads(context.caller, namespace)
        matches = [row for row in statuses.value if row.project == project]
        shown, next_offset = slice_page(matches, offset, limit)
        rows, total, age = [*shown], len(matches), statuses.age
    loaded = context.backend.measurements.add_loads(rows)
    return answers.Statuses([_make_workload_status(context, row) for row in loaded], total, next_offset, age)


def _make_workload_status(context: RequestContext, row: Status) -> answers.WorkloadStatus:
    return answers.WorkloadStatus(context.backend.reads.workload_id_of(row), row)


@router.get("/workloads/{namespace}/{name}", summary="Get Workload", responses=_READ)
def workload(context: Context, namespace: Namespace, name: Name) -> answers.Detailed:
    """Return the status, the applied spec and the events of one workload."""
    status = context.backend.reads.status(context.caller, namespace, name)
    live = context.backend.reads.workload(context.caller, namespace, name)
    stored_spec = read_spec_document(live.value.top)
    spec = None if stored_spec is None else stored_spec["spec"]
    return answers.Detailed(
        _make_workload_status(context, context.backend.measurements.add_loads([status.value])[0]),
        spec,
        [answers.make_event(event) for event in live.value.events],
        live.age,
    )


@router.delete("/workloads/{namespace}/{name}", summary="Delete Workload", responses=_WRITE)
def delete(
    context: Context,
    namespace: Namespace,
    name: Name,
    data: Annotated[bool, Query(description="Also delete the persistent volume claims and their data.")] = False,
) -> answers.Deleted:
    """Delete a workload and the objects that were created with it."""
    return context.backend.writes.delete(context.caller, namespace, name, data=data)


def _serve_operation(operation: Operation) -> None:
    """Add the path of an operation on a workload."""
    read = Depends(requests.make_reader(operation))

    def change(context: Context, namespace: Namespace, name: Name, values: dict[str, Any] = read) -> answers.Done:
        return answers.Done(context.backend.writes.change(context.caller, operation, namespace, name, values))

    change.__name__ = operation.name
    path = f"/workloads/{{namespace}}/{{name}}/{operation.name}"
    router.post(path, summary=operation.title, description=operation.about, responses=_WRITE)(change)


for _operation in CHANGES:
    _serve_operation(_operation)


@router.get("/workloads/{namespace}/{name}/why", summary="Explain Replicas", responses=_READ)
def why(context: Context, namespace: Namespace, name: Name) -> answers.Reasons:
    """Explain the workload's current number of replicas."""
    reasons = context.backend.reads.why(context.caller, namespace, name)
    return answers.Reasons(reasons.value, reasons.age)


@router.get("/workloads/{namespace}/{name}/incident", summary="Explain Past Time", responses=_READ)
def incident(
    context: Context,
    namespace: Namespace,
    name: Name,
    at: Annotated[str, Query(max_length=40, description="A past time: 03:12 (UTC), 2026-12-03T03:12:00Z, or 20m ago.")],
) -> Incident:
    """Explain a past time: the decision, its cause, and the nearest setting that would have kept the SLO, by a replay."""
    try:
        return context.backend.costs.explain_past(context.caller, namespace, name, at)
    except ValueError as error:
        raise RequestError("at", str(error), "write 03:12, 2026-12-03T03:12:00Z or 20m") from None


@router.get(
    "/workloads/{namespace}/{name}/logs",
    summary="Get Logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_READ},
)
def logs(
    context: Context,
    namespace: Namespace,
    name: Name,
    pod: Annotated[
        str, Query(max_length=253, description="Name of a pod; by default, the newest one that is ready.")
    ] = "",
    container: Annotated[
        str, Query(max_length=63, description="Name of a container; by default, the model server's.")
    ] = "",
    tail: Annotated[int, Query(ge=1, le=MAX_LINES, description="Number of lines from the end of the log.")] = 200,
) -> StreamingResponse:
    """Return the last lines of a container's log as plain text."""
    chosen = context.backend.reads.container_of(context.caller, namespace, name, pod, container)
    lines = [*context.backend.reads.logs(context.caller, namespace, *chosen, LogQuery(tail))]
    return StreamingResponse((f"{line}\n" for line in lines), media_type="text/plain; charset=utf-8")


Since = Annotated[str, Query(max_length=40, description="Length of the reported period, such as 30m, 12h or 7d.")]
Price = Annotated[float | None, Query(alias="gpuHour", ge=0, le=1e6, description="Price of one GPU for one hour.")]


@router.get("/workloads/{namespace}/{name}/slo", summary="Get Workload SLO Report", responses=_READ)
def slo_of(context: Context, namespace: Namespace, name: Name, since: Since = "7d", price: Price = None) -> Report:
    """Report how well a workload met its SLO, with its replicas and costs."""
    return context.backend.measurements.report(
        context.caller, namespace=namespace, name=name, since=parse_period(since), gpu_hour=price
    )


@router.get("/slo", summary="Get SLO Report", responses={**_LIST, **describe_errors(MODEL, 429)})
def slo(
    context: Context, namespace: InNamespace = "", project: OfProject = "", since: Since = "7d", price: Price = None
) -> Report:
    """Report how well all workloads met their SLOs: by workload, by project, and in total."""
    return context.backend.measurements.report(
        context.caller, namespace=namespace, project=project, since=parse_period(since), gpu_hour=price
    )


@router.post("/costs", summary="Compute Cost Report", responses={**_LIST, **describe_errors(MODEL, 400, 429, 503)})
def compute_costs(context: Context, body: requests.CostPeriod) -> CostReport:
    """Replay the recorded requests of the workloads that the caller can see: costs, and changes that would have saved."""
    return context.backend.costs.compute(context.caller, body.namespace, body.project, body.days, body.spare)


@router.get("/costs", summary="Get Last Cost Report", responses=_LIST)
def last_costs(context: Context, namespace: InNamespace = "", project: OfProject = "") -> CostReport:
    """Return the last computed costs of the visible workloads, without a replay; no rows if none were computed."""
    statuses = context.backend.reads.workloads(context.caller, namespace).value
    report = context.backend.costs.last(status for status in statuses if project in {"", status.project})
    return NO_COSTS if report is None else report


def parse_period(text: str) -> float:
    """Parse the length of a report's period and return seconds. Raises RequestError."""
    try:
        return parse_duration(text, MIN_PERIOD, MAX_PERIOD, bare=True)
    except ValueError as error:
        raise RequestError("since", str(error), "write 30m, 12h or 7d") from None


# The cluster.


@router.get("/doctor", summary="Diagnose Cluster", responses={**_LIST, **describe_errors(MODEL, 502)})
def doctor(context: Context) -> answers.Findings:
    """Compare the cluster with its profile, as far as the caller's permissions allow."""
    return answers.Findings(context.backend.reads.doctor(context.caller))


@router.post("/doctor", summary="Diagnose Cluster for Specs", responses=_WRITE)
def doctor_for(context: Context, body: requests.Diagnose) -> answers.Findings:
    """Check whether the cluster meets the requirements of the specs."""
    documents = None if body.spec is None else context.backend.specs.documents(body.spec)
    return answers.Findings(context.backend.reads.doctor(context.caller, documents))


@router.get("/projects", summary="List Projects", responses=_LIST)
def projects(context: Context) -> answers.Projects:
    """List the projects that the caller can see, with their quotas and workloads by phase."""
    visible_projects = context.backend.reads.projects(context.caller)
    return answers.Projects(visible_projects.value, visible_projects.age)


@router.get("/nodes", summary="List Nodes", responses=_LIST)
def nodes(context: Context) -> answers.Nodes:
    """List the nodes, and the pods that hold their GPUs."""
    node_rows = list_nodes(context.backend, context.caller)
    return answers.Nodes(node_rows.value, node_rows.age)


@router.get("/whoami", summary="Get Caller", responses=describe_errors(MODEL, 401, 503))
def whoami(context: Context) -> answers.Whoami:
    """Return the caller's user name and groups as the cluster reports them."""
    return answers.Whoami(context.caller.name, context.caller.groups, context.backend.read_only)


@router.get("/version", summary="Get Version", responses=describe_errors(MODEL, 401, 503))
def version(context: Context) -> answers.Version:
    """Return the version of Ebbtide, the name of the cluster profile, and the server's mode."""
    backend = context.backend
    return answers.Version(__version__, backend.profile.metadata.name, backend.demo, backend.read_only)
