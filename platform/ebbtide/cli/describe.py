"""``ebbtide describe NAME``: show the status, revisions, pods, events and spec of a workload."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys
from ebbtide.base.bodies import serialize_body
from ebbtide.base.prose import make_printable
from ebbtide.base.quantities import format_age
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, make_output_option, make_switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.cluster.read.status import Status

#: Number of most recent events to show.
EVENTS: Final = 10
#: Interval between two polls with --watch.
POLL_SECONDS: Final = 2.0
CONDITION_LABELS: Final = {True: "yes", False: "no", None: "not yet"}
OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.COUNTS,
    make_switch("-w", "--watch", help="Keep running and print the workload whenever it changes"),
    make_output_option("text", "json", "yaml"),
)


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.hints import read_server_hint  # noqa: PLC0415 - not loaded for --help
    from ebbtide.cluster.read.inventory import find_workload  # noqa: PLC0415 - as above
    from ebbtide.cluster.read.status import compute_status  # noqa: PLC0415 - as above

    clock, source = connection.clock(), connection.find_metrics_source(cluster, options)
    namespace = connection.resolve_namespace(cluster, options)
    previous: dict[str, Any] = {}
    while True:
        workload = find_workload(cluster, options.name, namespace, clock.now())
        (current_status,) = connection.add_metric_values(
            [compute_status(workload)], source, explicit=bool(options.prometheus), when=workload.now
        )
        current = _drop_durations(serialize_body(current_status))
        if current != previous:
            hint = read_server_hint(cluster, workload)
            _print_workload(workload, current_status, hint, options.output, watched=options.watch)
            previous = current
        if not options.watch:
            return 0
        sys.stdout.flush()
        clock.sleep(POLL_SECONDS)


def _print_workload(workload: LiveWorkload, status: Status, hint: str, output_format: str, *, watched: bool) -> None:
    if output_format == "text":
        sys.stdout.writelines(_format_workload(workload, status, hint))
    else:
        data = {
            **serialize_body(status),
            "hint": hint,
            "events": _list_events(workload),
            "spec": read_stored_spec(workload),
        }
        terminal.write_data(data, output_format, watched=watched)


def _drop_durations(value: Any) -> Any:
    """Return data without durations, which change at every poll."""
    if isinstance(value, dict):
        return {name: _drop_durations(inner) for name, inner in value.items() if not name.endswith("Seconds")}
    return [_drop_durations(inner) for inner in value] if isinstance(value, list) else value


def read_stored_spec(workload: LiveWorkload) -> Any:
    """Return the spec stored in the object's annotation, or None."""
    try:
        return json.loads((workload.top["metadata"].get("annotations") or {}).get(keys.SPEC, "null"))
    except ValueError:
        return None


def _format_workload(workload: LiveWorkload, status: Status, hint: str) -> Iterator[str]:
    phase = terminal.paint_state(status.phase, status.phase)
    yield f"{status.namespace}/{status.name}   {status.kind}   {phase}   age {format_age(status.age_seconds)}\n"
    if status.why:
        yield f"  {make_printable(status.why)}\n"
    if hint:
        yield f"  {make_printable(hint)}\n"
    rows = [
        ("project", status.project),
        ("replicas", f"{status.replicas.ready} ready, {status.replicas.wanted} desired, {_format_bounds(status)}"),
        ("GPUs", status.gpus),
        ("metric", str(status.metric or "")),
        ("URL", status.url),
        ("call", terminal.format_call(status)),
        *(("override", text) for text in status.by_hand),
    ]
    yield "\n"
    yield from (f"  {name:10} {make_printable(value)}\n" for name, value in rows if value)
    events = [
        (format_age(row["ageSeconds"]), row["type"], row["reason"], row["about"], row["message"])
        for row in _list_events(workload)
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
        ("events", ("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"), events),
    )
    for title, header, lines in tables:
        if lines:
            yield f"\n{title}\n{terminal.format_table(header, lines, '  ')}"
    stored_spec = read_stored_spec(workload)
    if stored_spec is not None:
        from ebbtide import manifests  # noqa: PLC0415 - only text output needs it

        yield "\nspec\n"
        yield from (f"  {line}\n" for line in manifests.write_document(stored_spec).splitlines())


def _format_bounds(status: Status) -> str:
    minimum, maximum = status.replicas.minimum, status.replicas.maximum
    if minimum == maximum:
        return f"fixed at {minimum}"
    return f"minimum {minimum}, maximum {maximum}" if maximum else f"minimum {minimum}, no maximum"


def _list_events(workload: LiveWorkload) -> list[dict[str, Any]]:
    """Return the most recent events as data."""
    return [_convert_event(event, workload.now) for event in workload.events[-EVENTS:]]


def _convert_event(event: dict[str, Any], now: float) -> dict[str, Any]:
    from ebbtide.cluster.read.inventory import parse_timestamp  # noqa: PLC0415 - as above

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
