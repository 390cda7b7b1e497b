"""``ebbtide describe NAME``: show the status, revisions, pods, events and spec of a workload."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli.base import calls, connection, terminal
from ebbtide.cli.base.options import Options, make_output_option
from ebbtide.cli.base.streams import get_width
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import UnreadableError, read_spec
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.paths import get_at
from ebbtide.core.report import ReportContent, ReportList, ReportSection, ReportTable, render_text
from ebbtide.core.units import format_age

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.read.starts import PodStart
    from ebbtide.cluster.read.status import Status
    from ebbtide.core.profile.models import Profile

#: Number of most recent events to show.
EVENTS: Final = 10
#: Number of newest pods whose start is shown; each needs a request for its log.
STARTS: Final = 3
#: Reasons of events whose cause the status explains, and of those that only report progress.
EXPLAINED: Final = frozenset(
    {
        *("Failed", "BackOff", "FailedScheduling", "Unhealthy", "FailedCreate", "InspectFailed", "ProbeWarning"),
        *("Pulling", "Pulled", "Created", "Started", "Scheduled", "SuccessfulCreate", "ScalingReplicaSet", "Killing"),
    }
)
#: The message of a controller whose write was based on an old object; it repeats the write.
STALE_WRITE: Final = "the object has been modified; please apply your changes to the latest version"
CONDITION_LABELS: Final = {True: "yes", False: "no", None: "not yet"}
OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.COUNTS,
    make_output_option("text", "json", "yaml"),
)


PROJECT_LABEL: Final = ("metadata", "labels", keys.PROJECT)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.hints import read_server_hint
    from ebbtide.cluster.read.starts import read_starts
    from ebbtide.cluster.read.status import compute_status

    profile = connection.find_live_profile(cluster, options)
    source = connection.connect_metrics_source(cluster, options, profile)
    workload = connection.find_live_workload(cluster, options)
    (current_status,) = connection.add_metric_values(
        [compute_status(workload)], source, explicit=bool(options.prometheus), when=workload.now
    )
    hint, starts = read_server_hint(cluster, workload), read_starts(cluster.logs, workload, STARTS)
    if options.output == "text":
        url, call = calls.describe_access(cluster, current_status, workload.top)
        rows = [("URL", url), ("call", call), *(("override", text) for text in current_status.by_hand)]
        rows += [("drift", text) for text in find_drift(workload, profile)]
        text = render_text(_make_content(workload, current_status, hint, rows, starts), get_width(sys.stdout))
        phase = current_status.label
        sys.stdout.write(text.replace(phase, terminal.paint_state(phase, phase), 1))
        return 0
    data = {
        **serialize_body(current_status),
        "hint": hint,
        "starts": [serialize_body(start) for start in starts],
        "events": [_convert_event(event, workload.now) for event in workload.events[-EVENTS:]],
        "spec": read_stored_spec(workload),
    }
    terminal.write_data(data, options.output)
    return 0


def find_drift(workload: LiveWorkload, profile: Profile | None) -> Iterator[str]:
    """Yield each field of the live object that another program changed, from the value of the stored spec."""
    from ebbtide.cluster.write.changes import FieldChange, diff_objects, list_other_owners
    from ebbtide.core.adopt.live import render_stored_spec

    owners = list_other_owners(workload.top)
    pair = render_stored_spec(workload.top, profile) if owners and profile is not None else None
    if pair is None:
        return
    # The stored spec is rendered for the live object's project.
    expected, actual = (read_stored_spec(workload) or {}).get("project"), get_at(workload.top, *PROJECT_LABEL)
    moved = [] if expected == actual else [FieldChange(PROJECT_LABEL, expected, actual)]
    for change in (*diff_objects(*pair), *moved):
        owner = next((name for name, fields in owners.items() if change.is_within(fields)), "")
        if owner:
            yield f"{change.describe()} (changed by {owner})"


def read_stored_spec(workload: LiveWorkload) -> dict[str, Any] | None:
    """Return the spec stored in the object's annotation, None if there is none, or none that can be read."""
    try:
        return read_spec(workload.top)
    except UnreadableError:
        return None


def _make_content(
    workload: LiveWorkload,
    status: Status,
    hint: str,
    more_rows: Sequence[tuple[str, str]],
    starts: Sequence[PodStart],
) -> ReportContent:
    from ebbtide.cluster.read.hints import describe_idle_holders
    from ebbtide.cluster.read.starts import tabulate_starts

    figures = [
        ("project", status.project),
        ("owner", status.owner),
        ("replicas", f"{status.replicas.ready} ready, {status.replicas.wanted} desired, {_format_bounds(status)}"),
        ("GPUs", status.gpus),
        ("metric", "" if status.metric is None else status.metric.describe()),
        *more_rows,
    ]
    events = [
        (format_age(row["ageSeconds"]), row["type"], row["reason"], row["about"], row["message"])
        for row in _list_unexplained_events(workload, status)
    ]
    revisions = [
        (row.name, f"{row.traffic_percent}%", f"{row.ready}/{row.wanted}", format_age(row.age_seconds), row.words)
        for row in status.revisions
    ]
    conditions = [
        (row.name, CONDITION_LABELS[row.holds], format_age(row.since_seconds), row.words) for row in status.conditions
    ]
    pods = [(row.name, row.node, str(row.restarts), format_age(row.age_seconds), row.words) for row in status.pods]
    spec = read_stored_spec(workload)
    tables = (
        ("conditions", [("CONDITION", "STATUS", "SINCE", ""), *conditions]),
        ("revisions", [("REVISION", "TRAFFIC", "READY", "AGE", ""), *revisions]),
        ("pods", [("POD", "NODE", "RESTARTS", "AGE", ""), *pods]),
        ("starts", tabulate_starts(starts)),
        ("events", [("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"), *events]),
    )
    sections: tuple[ReportSection, ...] = (
        ReportList([*filter(None, (status.why, hint, *describe_idle_holders(workload)))]),
        ReportTable([row for row in figures if row[1]], left=2, headed=False),
        *(ReportTable(rows, title, left=len(rows[0])) for title, rows in tables),
        ReportList([] if spec is None else manifests.write_document(spec).splitlines(), "spec"),
    )
    head = f"{status.namespace}/{status.name}   {status.kind}   {status.label}   age {format_age(status.age_seconds)}"
    return ReportContent(head, sections)


def _format_bounds(status: Status) -> str:
    minimum, maximum = status.replicas.minimum, status.replicas.maximum
    if minimum == maximum:
        return f"fixed at {minimum}"
    return f"minimum {minimum}, maximum {maximum}" if maximum else f"minimum {minimum}, no maximum"


def _list_unexplained_events(workload: LiveWorkload, status: Status) -> list[dict[str, Any]]:
    """Return the most recent events without those that only repeat what the lines above explain."""
    return [
        row
        for event in workload.events
        if not (event.get("reason") in EXPLAINED and (status.why or event.get("type") == "Normal"))
        and STALE_WRITE not in str(event.get("message"))
        for row in [_convert_event(event, workload.now)]
    ][-EVENTS:]


def _convert_event(event: dict[str, Any], now: float) -> dict[str, Any]:
    from ebbtide.cluster.read.inventory import parse_timestamp

    about = event.get("involvedObject", {})
    when = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    return {
        "time": when,
        # The cluster's clock may be ahead of the local clock.
        "ageSeconds": round(max(0.0, now - parse_timestamp(when))),
        "type": str(event.get("type", "")),
        "reason": str(event.get("reason", "")),
        "about": f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        "message": str(event.get("message", "")),
    }
