"""``ebbtide describe NAME``: show the status, revisions, pods, events and spec of a workload."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.cli import calls, connection, terminal
from ebbtide.cli.options import Options, make_output_option, make_switch
from ebbtide.core import manifests
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import UnreadableError, read_spec
from ebbtide.core.base.bodies import serialize_body
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.prose import make_printable
from ebbtide.core.base.quantities import format_age

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
#: Interval between two polls with --watch.
POLL_SECONDS: Final = 2.0
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
    make_switch("-w", "--watch", help="Keep running and print the workload whenever it changes"),
    make_output_option("text", "json", "yaml"),
)


PROJECT_LABEL: Final = ("metadata", "labels", keys.PROJECT)


class Notes(NamedTuple):
    """Additions of ``describe`` to the status, from more requests."""

    hint: str
    url: str = ""
    call: str = ""
    #: Failed revisions that hold resources.
    holders: tuple[str, ...] = ()
    #: Fields of the live object that differ from the stored spec.
    drift: tuple[str, ...] = ()
    starts: tuple[PodStart, ...] = ()


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.status import compute_status

    clock, profile = connection.clock(), connection.find_live_profile(cluster, options)
    source = connection.connect_metrics_source(cluster, options, profile)
    namespace = connection.resolve_namespace(cluster, options)
    previous: dict[str, Any] = {}
    while True:
        workload = connection.find_live_workload(cluster, options, namespace)
        (current_status,) = connection.add_metric_values(
            [compute_status(workload)], source, explicit=bool(options.prometheus), when=workload.now
        )
        current = _drop_durations(serialize_body(current_status))
        if current != previous:
            notes = _read_notes(cluster, workload, current_status, profile, options.output)
            _print_workload(workload, current_status, notes, options.output, watched=options.watch)
            previous = current
        if not options.watch:
            return 0
        sys.stdout.flush()
        clock.sleep(POLL_SECONDS)


def _read_notes(
    cluster: connection.Cluster, workload: LiveWorkload, status: Status, profile: Profile | None, output_format: str
) -> Notes:
    from ebbtide.cluster.read.hints import describe_idle_holders, read_server_hint
    from ebbtide.cluster.read.starts import read_starts

    hint, starts = read_server_hint(cluster, workload), tuple(read_starts(cluster.logs, workload, STARTS))
    if output_format != "text":
        return Notes(hint, starts=starts)
    url, call = calls.describe_access(cluster, status, workload.top)
    holders, drift = tuple(describe_idle_holders(workload)), tuple(find_drift(workload, profile))
    return Notes(hint, url, call, holders, drift, starts)


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


def _print_workload(workload: LiveWorkload, status: Status, notes: Notes, output_format: str, *, watched: bool) -> None:
    if output_format == "text":
        sys.stdout.writelines(_format_workload(workload, status, notes))
    else:
        data = {
            **serialize_body(status),
            "hint": notes.hint,
            "starts": [serialize_body(start) for start in notes.starts],
            "events": [_convert_event(event, workload.now) for event in workload.events[-EVENTS:]],
            "spec": read_stored_spec(workload),
        }
        terminal.write_data(data, output_format, watched=watched)


def _drop_durations(value: Any) -> Any:
    """Return data without durations, which change at every poll."""
    if isinstance(value, dict):
        return {name: _drop_durations(inner) for name, inner in value.items() if not name.endswith("Seconds")}
    return [_drop_durations(inner) for inner in value] if isinstance(value, list) else value


def read_stored_spec(workload: LiveWorkload) -> dict[str, Any] | None:
    """Return the spec stored in the object's annotation, None if there is none, or none that can be read."""
    try:
        return read_spec(workload.top)
    except UnreadableError:
        return None


def _format_workload(workload: LiveWorkload, status: Status, notes: Notes) -> Iterator[str]:
    from ebbtide.cluster.read.starts import tabulate_starts

    phase = terminal.paint_state(status.phase, status.phase)
    yield f"{status.namespace}/{status.name}   {status.kind}   {phase}   age {format_age(status.age_seconds)}\n"
    if status.why:
        yield f"  {make_printable(status.why)}\n"
    for text in filter(None, (notes.hint, *notes.holders)):
        yield f"  {make_printable(text)}\n"
    rows = [
        ("project", status.project),
        ("owner", status.owner),
        ("replicas", f"{status.replicas.ready} ready, {status.replicas.wanted} desired, {_format_bounds(status)}"),
        ("GPUs", status.gpus),
        ("metric", str(status.metric or "")),
        ("URL", notes.url),
        ("call", notes.call),
        *(("override", text) for text in status.by_hand),
        *(("drift", text) for text in notes.drift),
    ]
    yield "\n"
    yield from (f"  {name:10} {make_printable(value)}\n" for name, value in rows if value)
    shown = _list_unexplained_events(workload, status)
    events = [
        (format_age(row["ageSeconds"]), row["type"], row["reason"], row["about"], row["message"]) for row in shown
    ]
    revisions = [
        (row.name, f"{row.traffic_percent}%", f"{row.ready}/{row.wanted}", format_age(row.age_seconds), row.words)
        for row in status.revisions
    ]
    conditions = [
        (row.name, CONDITION_LABELS[row.holds], format_age(row.since_seconds), row.words) for row in status.conditions
    ]
    pods = [(row.name, row.node, str(row.restarts), format_age(row.age_seconds), row.words) for row in status.pods]
    tables: tuple[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]], ...] = (
        ("conditions", ("CONDITION", "STATUS", "SINCE", ""), conditions),
        ("revisions", ("REVISION", "TRAFFIC", "READY", "AGE", ""), revisions),
        ("pods", ("POD", "NODE", "RESTARTS", "AGE", ""), pods),
        ("starts", *tabulate_starts(notes.starts)),
        ("events", ("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"), events),
    )
    for title, header, lines in tables:
        if lines:
            yield f"\n{title}\n{terminal.format_table(header, lines, '  ')}"
    stored_spec = read_stored_spec(workload)
    if stored_spec is not None:
        yield "\nspec\n"
        yield from (f"  {line}\n" for line in manifests.write_document(stored_spec).splitlines())


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
