"""The page of one workload: its tabs, its charts, and its actions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from ebbtide.cluster.client.protocol import MissingError
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.hints import find_fix
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.past import MAX_STEP_SECONDS, PastDecisions, replay_history
from ebbtide.cluster.read.scaling_state import Replicas
from ebbtide.cluster.read.start_report import describe_largest, describe_total, make_start_report
from ebbtide.cluster.read.starts import PodStart, describe_start, list_started_pods, read_start
from ebbtide.cluster.read.status import Condition, Status
from ebbtide.cluster.read.why import lookback_seconds
from ebbtide.cluster.slo import pages
from ebbtide.cluster.slo.promises import list_slo_warnings, read_slo, read_spec_document
from ebbtide.cluster.slo.report import compute_report
from ebbtide.cluster.slo.source import History, Ref, SourceError, WorkloadMeasurements
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.metrics import ROWS
from ebbtide.core.profile.models import MetricNames
from ebbtide.core.spec.serving import Slo
from ebbtide.core.translation.objects import Object
from ebbtide.server.api.answers import Event, make_event
from ebbtide.server.api.measurements import LOAD_REUSE_SECONDS
from ebbtide.server.web.parts import actions, canary, logs, objectives, playground, words
from ebbtide.server.web.parts.charts import Chart, Curve
from ebbtide.server.web.parts.errors import PageError, make_missing_page_error
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.shared import workload_path

#: The maximum number of events on the page; the latest are shown.
MAX_EVENTS: Final = 200
MINUTE_SECONDS: Final = 60.0
#: Number of newest pods whose start is shown, and the seconds for which a finished start is reused.
MAX_STARTS: Final = 8
STARTED_REUSE_SECONDS: Final = 600.0
#: Seconds for which an SLO report is reused.
REPORT_REUSE_SECONDS: Final = 30.0
#: Seconds for which the series of the same times are reused.
HISTORY_REUSE_SECONDS: Final = 10.0
#: Seconds for which the explanation of a past time is reused.
PAST_REUSE_SECONDS: Final = 600.0
OVERVIEW_EVENTS: Final = 5
#: The last one explains the others; the throughput is shown if one of them is unknown.
OVERVIEW_CHARTS: Final = ("load", "latency", "throughput", "replicas")
WHY_CHARTS: Final = ("replicas", "load")
TABS: Final = {
    "overview": "Overview",
    "playground": "Playground",
    "metrics": "Metrics",
    "revisions": "Revisions",
    "pods": "Pods",
    "events": "Events",
    "logs": "Logs",
    "slo": "SLO",
    "why": "Why",  # prose: named after `ebbtide why`
    "yaml": "Spec and YAML",
}
#: Labels of the topics of a reason, and of the autoscalers.
TOPICS: Final = {
    "load": "load",
    "bound": "limit",
    "rest": "zero replicas",
    "pace": "scaling rate",
    "hand": "manual override",
    "rollout": "rollout",
    "pods": "pods",
    "unknown": "unknown",
}
#: Metrics that the KPA totals over all replicas; an HPA metric is per replica.
WHOLE: Final = {name for name, row in ROWS.items() if row.autoscaler == "kpa"}
SCALERS: Final = {"kpa": "scaled by the Knative autoscaler", "hpa": "scaled by an HPA", "none": "not autoscaled"}
#: The charts: a title, a unit, and the curve of each series.
CHARTS: Final = {
    "replicas": (
        "Replicas",
        "",
        {
            "ready": Curve("ready", (), 1, stepped=True, fill=True),
            "wanted": Curve("desired", (), 0, stepped=True),
        },
    ),
    "load": ("Load", "", {"stable": Curve("stable window", (), 0), "panic": Curve("panic window", (), 3)}),
    "latency": (
        "Response time",
        "s",
        {
            "mean": Curve("mean", (), 1),
            "p50": Curve("p50", (), 3),
            "p95": Curve("p95", (), 0),
            "p99": Curve("p99", (), 2),
        },
    ),
    "throughput": (
        "Throughput",
        "req/s",
        {"rate": Curve("requests", (), 0, fill=True), "failures": Curve("failures", (), 5)},
    ),
    "concurrency": ("Requests in flight", "", {"concurrency": Curve("in flight", (), 0, fill=True)}),
    "gpu": ("GPU utilization", "%", {"gpu": Curve("GPU", (), 0, fill=True)}),
}
#: Highest multiple of the largest value at which a bound is still part of the scale of the chart.
MAX_BOUND_RATIO: Final = 4
#: Lowest multiple of all other values at which the chart cuts off the p99: a few slow requests would flatten the rest.
PEAK_RATIO: Final = 1.5
#: The fewest points of a chart; those of a new workload start at its creation.
MIN_POINTS: Final = 4
#: The color of all limits, which are dashed.
LIMIT_COLOUR: Final = 4
#: The time ranges of the charts: length and resolution in seconds.
RANGES: Final = {"15m": (900.0, 5.0), "1h": (3600.0, 15.0), "6h": (6 * 3600.0, 60.0), "24h": (24 * 3600.0, 300.0)}
#: The time range of the chart next to the playground.
PLAYGROUND_RANGE: Final = "15m"
#: The time ranges of SLO reports, in seconds.
SPANS: Final = {"1h": 3600.0, "24h": 86_400.0, "7d": 7 * 86_400.0, "30d": 30 * 86_400.0}
#: Messages shown once after an action.
DONE_MESSAGES: Final = {
    "scale": "Scale updated. No revision is created, and the next rollout keeps these values.",
    "reset": "Scale reset to the values in the spec.",
    "suspend": "Suspending the workload. Its spec is kept.",
    "resume": "Resuming the workload.",
    "promote": "Promoting the canary: the newest revision receives all requests.",
    "abort": "Canary aborted: the stable revision receives all requests until the next apply.",
    "rollback": "All requests are routed to the selected revision until the next apply.",
    "applied": "Spec applied. This page shows the rollout.",
}
#: Those that end with the change that they announce.
PROGRESS: Final = {"suspend", "resume", "applied"}


def show_workload(visit: PageVisit) -> Response:
    """Show a tab of a workload; if it was deleted, an open page says so and stops updating."""
    tab = visit.request.path_params.get("tab", "overview")
    if tab not in TABS:
        raise make_missing_page_error()
    return render_workload(visit, tab)


def render_workload(visit: PageVisit, tab: str, context: dict[str, Any] | None = None) -> Response:
    """Render a tab of a workload, with a context other than the tab's own if one is given."""
    namespace, name = visit.place
    told = visit.query("told")
    try:
        state = visit.backend.reads.status(visit.user, namespace, name)
        live = visit.backend.reads.workload(visit.user, namespace, name)
    except MissingError:
        if visit.is_partial:
            return visit.render("comp_gone.html", namespace=namespace, name=name)
        raise
    return visit.render_page(
        "workload",
        page="workloads",
        live=live.value,
        age=max(state.age, live.age),
        tab=tab,
        tabs=TABS,
        base=workload_path(state.value.namespace, state.value.name),
        offers=actions.list_offers(visit, live.value),
        slo=objectives.judge_workloads(visit, [state.value]).get(
            Ref(state.value.namespace, state.value.name), words.NO_SLO
        ),
        message="" if told in PROGRESS and state.value.settled else DONE_MESSAGES.get(told, ""),
        **{"row": state.value, **(context or CONTEXTS[tab](visit, live.value, state.value))},
    )


# Template context of each tab.


def playground_context(visit: PageVisit, live: LiveWorkload, row: Status) -> dict[str, Any]:
    """Return the context of the playground, and the chart of the replicas, where a cold start is marked."""
    drawn = select_charts(visit, live, row, ("replicas",), PLAYGROUND_RANGE)
    return {**playground.playground_context(visit, live, row), **drawn, "range": PLAYGROUND_RANGE}


def overview_context(visit: PageVisit, live: LiveWorkload, row: Status) -> dict[str, Any]:
    """Return the figures of the last minute, the latest events, and the charts of the last hour."""
    measured = None
    with suppress(SourceError):
        measured = measure_recent(visit, Ref(row.namespace, row.name), MINUTE_SECONDS, LOAD_REUSE_SECONDS)
    timed = measured if measured is not None and measured.place else None
    is_bad = words.tone_of_phase(row.phase) == "bad"
    return {
        "row": visit.backend.measurements.add_loads([row])[0],
        "last_line": logs.read_last_line(visit, live) if is_bad else "",
        "fix": find_fix(live) if is_bad else "",
        "rate": timed.requests / (timed.end - timed.start) if timed and timed.end > timed.start else None,
        "mean": timed.total_seconds / timed.requests if timed and timed.requests else None,
        "events": list_events(live, OVERVIEW_EVENTS),
        "conditions": list_conditions(row),
        **select_charts(visit, live, row, OVERVIEW_CHARTS),
        "curl": playground.call_command(row, live),
        "slo_warnings": list_slo_warnings(live.top, visit.backend.profile),
    }


def list_conditions(row: Status) -> list[Condition]:
    """Return the conditions, the summary first; a reason that several conditions share is shown once."""
    shown: set[str] = set()
    conditions = []
    for condition in sorted(row.conditions, key=lambda condition: condition.name != "Ready"):
        subject, _, reason = condition.words.partition(": ")
        conditions.append(replace(condition, words=subject) if reason and reason in shown else condition)
        shown.add(reason)
    return conditions


def measure_recent(visit: PageVisit, ref: Ref, length: float, recent: float) -> WorkloadMeasurements | None:
    """Return the measurements of the last ``length`` seconds; a result up to ``recent`` seconds old is reused."""

    def ask() -> WorkloadMeasurements | None:
        now = visit.backend.clock.now()
        return visit.backend.measurements.measured(visit.user, [ref], now - length, now).get(ref)

    return visit.backend.polls.compute(("counted", ref, length), recent, ask)


def metrics_context(visit: PageVisit, live: LiveWorkload, row: Status) -> dict[str, Any]:
    """Return the charts of the selected time range."""
    chosen = chosen_range(visit)
    drawn_charts: dict[str, Chart] = {}
    trouble = ""
    try:
        drawn_charts = load_charts(visit, live, row, chosen)
    except SourceError as error:
        trouble = str(error)
    return {"range": chosen, "ranges": RANGES, "charts": drawn_charts, "trouble": trouble}


def slo_context(visit: PageVisit, live: LiveWorkload, _row: Status) -> dict[str, Any]:
    """Return the SLO report of the selected time range."""
    requested = visit.query("since")
    since = requested if requested in SPANS else "24h"
    context = {"since": since, "spans": SPANS, "trouble": "", "report": None, "pages": pages}
    promised = read_slo(live.top, visit.backend.profile)
    try:
        measured = measure_recent(visit, promised.ref, SPANS[since], REPORT_REUSE_SECONDS)
    except SourceError as error:
        return {**context, "trouble": str(error)}
    if measured is None:
        return context
    slo_report = compute_report({promised.ref: measured}, {promised.ref: promised})
    return {**context, "report": slo_report.rows[0], "when": pages.format_report_time(slo_report)}


def revisions_context(visit: PageVisit, live: LiveWorkload, row: Status) -> dict[str, Any]:
    """Return the comparison of a canary's revisions, and its actions."""
    compared = canary.compare_revisions(visit, live, row)
    offers = actions.list_offers(visit, live, of_canary=True) if compared["canary"] else []
    return {**compared, "canary_offers": offers, "first_percent": canary.FIRST_PERCENT}


def pods_context(visit: PageVisit, live: LiveWorkload, _row: Status) -> dict[str, Any]:
    """Return the starts of the newest pods by name, with what the caller may read of their logs, and their largest phase."""
    read_log = partial(visit.backend.reads.logs, visit.user)
    starts: list[PodStart] = []
    for pod in list_started_pods(live)[:MAX_STARTS]:
        # A finished start does not change.
        is_ready = of_pod.is_ready(pod)
        key = ("start", visit.user, pod["metadata"]["uid"], is_ready)
        start = visit.backend.polls.compute(
            key, STARTED_REUSE_SECONDS if is_ready else LOAD_REUSE_SECONDS, partial(read_start, read_log, live, pod)
        )
        starts.append(start)
    report = make_start_report(live, starts, ())
    text = f"{describe_total(report)}; {describe_largest(report)}"
    return {"starts": {start.pod: describe_start(start) for start in starts}, "report": report, "start_text": text}


def why_context(visit: PageVisit, live: LiveWorkload, row: Status) -> dict[str, Any]:
    """Return the explanation of the replicas, and that of a past time if one is selected."""
    at, past, trouble = visit.query("at"), None, ""
    if at:
        explain = partial(visit.backend.costs.explain_past, visit.user, live.namespace, live.name, at)
        try:
            # The workers count the caller by this context. A replay that takes longer than a page waits appears with an update.
            ask = partial(copy_context().run, explain)
            past = visit.backend.polls.get(("past", visit.user, live.namespace, live.name, at), PAST_REUSE_SECONDS, ask)
        except (ValueError, SourceError) as error:
            trouble = str(error)
    return {
        "at": at,
        "past": past,
        "trouble": trouble,
        "why": visit.backend.reads.why(visit.user, live.namespace, live.name).value,
        "topics": TOPICS,
        "scalers": SCALERS,
        **select_charts(visit, live, row, WHY_CHARTS),
    }


def yaml_context(_visit: PageVisit, live: LiveWorkload, _row: Status) -> dict[str, Any]:
    """Return the spec and the live objects as YAML."""
    spec = read_spec_document(live.top)
    beside = [*live.revisions, *live.scalers, *live.deployments, *live.hpas]
    inner = [live.service] if live.service is not None and live.service is not live.top else []
    return {
        "spec": None
        if spec is None
        else manifests.write_document({**spec, "metadata": {**spec["metadata"], "namespace": live.namespace}}),
        "objects": [
            (f"{obj['kind']} {obj['metadata']['name']}", manifests.write_document(strip_bookkeeping(obj)))
            for obj in (live.top, *inner, *beside)
        ],
    }


CONTEXTS: Final[Mapping[str, Callable[[PageVisit, LiveWorkload, Status], dict[str, Any]]]] = {
    "overview": overview_context,
    "playground": playground_context,
    "metrics": metrics_context,
    "revisions": revisions_context,
    "pods": pods_context,
    "events": lambda _visit, live, _row: {"events": list_events(live, MAX_EVENTS)},
    "logs": logs.logs_context,
    "slo": slo_context,
    "why": why_context,
    "yaml": yaml_context,
}


def strip_bookkeeping(obj: Object) -> Object:
    """Return an object without managedFields and without the spec annotation, which the page shows separately."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name != keys.SPEC}
    if "annotations" in metadata:
        metadata["annotations"] = annotations
    return {**obj, "metadata": metadata}


def list_events(live: LiveWorkload, count: int) -> list[tuple[float, Event]]:
    """Return a workload's latest events with their times, latest first."""
    events = [make_event(event) for event in reversed(live.events[-count:])]
    return [(inventory.parse_timestamp(event.time), event) for event in events]


# Charts.


def chosen_range(visit: PageVisit) -> str:
    """Return the selected time range of the charts."""
    chosen = visit.query("range")
    return chosen if chosen in RANGES else "1h"


def select_charts(
    visit: PageVisit, live: LiveWorkload, row: Status, names: Sequence[str], chosen: str = "1h"
) -> dict[str, Any]:
    """Return some charts of a workload, none without metrics, and the end of the path of their values."""
    try:
        drawn = load_charts(visit, live, row, chosen)
    except SourceError:
        drawn = {}
    charts = {name: drawn[name] for name in names if name in drawn}
    return {"charts": charts, "series": f"/series?range={chosen}&charts={','.join(names)}"}


def load_charts(visit: PageVisit, live: LiveWorkload, row: Status, chosen: str) -> dict[str, Chart]:
    """Return the charts of a workload.

    Raises:
        SourceError: the metrics are unavailable.
    """
    history, past, end = load_history(visit, live, row, chosen)
    length, step = RANGES[chosen]
    created = inventory.parse_timestamp(live.top["metadata"]["creationTimestamp"])
    start = max(end - length, min(created // step, end // step - MIN_POINTS) * step)
    shown = {name: tuple(point for point in points if point.time >= start) for name, points in history.series.items()}
    drawn = make_workload_charts(
        replace(history, series=shown),
        read_slo(live.top, visit.backend.profile).slo,
        row,
        visit.backend.profile.spec.metrics.names,
    )
    if "replicas" in drawn and drawn["replicas"].time:
        first = drawn["replicas"].time[0]
        causes = past.list_causes()
        # The cause at the start of the chart may begin before it.
        before = [cause for time, cause in causes if time <= first][-1:]
        # The legend shows the last values next to the page's own numbers, which are of the same pods and newer.
        present = {"ready": row.replicas.ready, "desired": row.replicas.wanted}
        drawn["replicas"] = replace(
            drawn["replicas"],
            curves=[
                replace(curve, values=[*curve.values[:-1], float(present[curve.label])])
                if curve.label in present
                else curve
                for curve in drawn["replicas"].curves
            ],
            causes=[*((first, cause) for cause in before), *(row for row in causes if row[0] > first)] or None,
            marks=[mark for mark in past.marks if first <= mark.time] or None,
        )
    return drawn


def load_history(
    visit: PageVisit, live: LiveWorkload, row: Status, chosen: str
) -> tuple[History, PastDecisions, float]:
    """Return a workload's history in a time range, and a while before it; the decisions over it; and the range's end.

    Raises:
        SourceError: the metrics are unavailable.
    """
    length, step = RANGES[chosen]
    ref = Ref(row.namespace, row.name)
    # Multiples of the step: the times of the charts of two requests are the same.
    end = visit.backend.clock.now() // step * step
    # A decision depends on those before it.
    lead = math.ceil(lookback_seconds(live) / step) * step if step <= MAX_STEP_SECONDS else 0.0

    def ask() -> tuple[History, PastDecisions]:
        history = visit.backend.measurements.history(visit.user, ref, end - length - lead, end, step)
        return history, replay_history(live, history, step, visit.backend.profile.spec)

    history, past = visit.backend.polls.compute(("history", ref, chosen, end), HISTORY_REUSE_SECONDS, ask)
    return history, past, end


def serve_decision(visit: PageVisit) -> Response:
    """Return the autoscaler's decision at a time in words, as JSON."""
    time = _parse_time(visit.query("at"))
    if time is None:
        raise PageError(422, "Invalid time", "The parameter at must be a time in seconds since 1970.")
    _, past, _ = load_history(visit, visit.read_workload(), visit.read_status(), chosen_range(visit))
    reasons = [{"topic": TOPICS[reason.topic], "words": reason.words} for reason in past.explain(time)]
    return JSONResponse({"time": time, "reasons": reasons})


def make_workload_charts(history: History, slo: Slo | None, row: Status, names: MetricNames) -> dict[str, Chart]:
    """Return the charts of a history, all over the same times."""
    moments = sorted({point.time for points in history.series.values() for point in points})
    exact = {
        name: [by_time.get(moment) for moment in moments]
        for name, points in history.series.items()
        for by_time in [{point.time: point.value for point in points}]
    }
    whole = row.metric is not None and row.metric.name in WHOLE and "ready" in exact
    if row.metric is not None and row.metric.name not in WHOLE and "panic" in exact:
        # Only the KPA has a panic window. Behind the floor of Ebbtide's controller it measures requests, not this metric.
        exact = {name: column for name, column in exact.items() if name not in {"stable", "panic", "target"}}
    if whole:
        exact |= _total_load(exact)
    load_unit = ""
    if row.metric is not None and row.metric.name in ROWS and ROWS[row.metric.name].unit.startswith("ms"):
        load_unit = "s"
        for name in exact.keys() & {"stable", "target"}:
            exact[name] = [None if value is None else value / 1000 for value in exact[name]]
    values = {name: [*map(_round_value, column)] for name, column in exact.items()}

    bounds = (("mean", slo.mean_latency_milliseconds), ("p95", slo.p95_latency_milliseconds)) if slo else ()

    chart_curves = {
        chart: [
            replace(curve, values=values[name])
            for name, curve in curves.items()
            # Without failures, their line would cover the axis.
            if name in values and (name != "failures" or any(values[name]))
        ]
        for chart, (_, _, curves) in CHARTS.items()
    }
    if chart_curves["replicas"]:
        chart_curves["replicas"] += _bound_curves(row.replicas, chart_curves["replicas"], len(moments))
    if "target" in values:
        label = "target \u00d7 ready" if whole else "target"
        chart_curves["load"].append(Curve(label, values["target"], LIMIT_COLOUR, stepped=True))
    chart_curves["latency"] += [
        Curve(f"SLO {label}", [bound / 1000] * len(moments), LIMIT_COLOUR, bound=True)
        for label, bound in bounds
        if bound is not None
    ]
    of_load = f" observed by the autoscaler: {words.label_metric(row.metric.name, names)}" if row.metric else ""
    return {
        chart: Chart(
            f"{title}{of_load if chart == 'load' else ''}",
            load_unit if chart == "load" else unit,
            moments,
            tuple(chart_curves[chart]),
            whole=chart == "replicas",
            ceiling=_find_ceiling(chart_curves[chart]),
        )
        for chart, (title, unit, _) in CHARTS.items()
        # The load of a fixed number of replicas changes nothing.
        if any(not curve.bound for curve in chart_curves[chart]) and (chart != "load" or not row.replicas.is_fixed)
    }


def _find_ceiling(curves: Sequence[Curve]) -> float | None:
    """Return the top of a scale that cuts off the p99 if it would flatten the other curves; None if the scale fits all."""

    def find_highest(*, of_p99: bool) -> float:
        values = (value for curve in curves if (curve.label == "p99") == of_p99 for value in curve.values)
        return max((value for value in values if value is not None), default=0.0)

    ceiling = find_highest(of_p99=False) * PEAK_RATIO
    return ceiling if 0 < ceiling < find_highest(of_p99=True) else None


def _round_value(value: float | None) -> float | None:
    """Return a value with six significant digits; the page displays three."""
    return None if value is None else float(f"{value:.6g}")


def _bound_curves(replicas: Replicas, curves: Sequence[Curve], count: int) -> list[Curve]:
    """Return the current minimum and maximum number of replicas as lines over ``count`` times."""
    highest = max((value for curve in curves for value in curve.values if value is not None), default=0.0)
    if replicas.is_fixed:
        bounds = [("fixed number", replicas.minimum)]
    else:
        bounds = [("minimum", replicas.minimum), ("maximum", replicas.maximum)]
    return [
        Curve(label, [float(bound)] * count, LIMIT_COLOUR, bound=True)
        for label, bound in bounds
        # A maximum of 0 means unlimited, and one far above the values is not part of the scale.
        if label == "minimum" or 0 < bound <= MAX_BOUND_RATIO * max(highest, 1.0)
    ]


def _total_load(values: Mapping[str, list[float | None]]) -> dict[str, list[float | None]]:
    """Return the windows and the target, which the source reports per ready replica, as totals over the ready replicas.

    The load is then above the target exactly when the autoscaler needs more replicas than are ready. Without ready replicas,
    the windows are those of one replica.
    """

    def multiply(name: str, least: float) -> list[float | None]:
        pairs = zip(values[name], values["ready"], strict=True)
        return [None if value is None or ready is None else value * max(least, ready) for value, ready in pairs]

    return {
        name: multiply(name, least)
        for name, least in (("stable", 1.0), ("panic", 1.0), ("target", 0.0))
        if name in values
    }


def serve_series(visit: PageVisit) -> Response:
    """Return the charts of a workload as JSON, all or those in ``charts``."""
    drawn_charts = load_charts(visit, visit.read_workload(), visit.read_status(), chosen_range(visit))
    selected = visit.query("charts", ",".join(CHARTS)).split(",")
    return JSONResponse(serialize_body({name: chart for name, chart in drawn_charts.items() if name in selected}))


def _parse_time(text: str) -> float | None:
    """Return a time in seconds since 1970, or None if the text is not a finite number."""
    try:
        known = float(text)
    except ValueError:
        return None
    return known if math.isfinite(known) else None
