"""``ebbtide describe NAME``: show the status, revisions, pods, events and spec of a workload."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys
from ebbtide.base.bodies import serialize
from ebbtide.base.prose import printable
from ebbtide.base.quantities import age
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, output, switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebbtide.cluster.read.inventory import Live
    from ebbtide.cluster.read.status import Status

#: Number of most recent events to show.
EVENTS: Final = 10
#: Interval between two polls with --watch.
POLL_SECONDS: Final = 2.0
CONDITION_LABELS: Final = {True: "yes", False: "no", None: "not yet"}
OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.COUNTS,
    switch("-w", "--watch", help="Keep running and print the workload whenever it changes"),
    output("text", "json", "yaml"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - not loaded for --help
    from ebbtide.cluster.read.status import status  # noqa: PLC0415 - as above

    clock, source = connection.clock(), connection.source_of(cluster, options)
    namespace = connection.place(cluster, options)
    previous: dict[str, Any] = {}
    while True:
        workload = find(cluster, options.name, namespace, clock.now())
        (current_status,) = connection.with_loads(
            [status(workload)], source, explicit=bool(options.prometheus), when=workload.now
        )
        current = _timeless(serialize(current_status))
        if current != previous:
            _print(workload, current_status, options.output, watched=options.watch)
            previous = current
        if not options.watch:
            return 0
        sys.stdout.flush()
        clock.sleep(POLL_SECONDS)


def _print(workload: Live, status: Status, output_format: str, *, watched: bool) -> None:
    if output_format == "text":
        sys.stdout.writelines(_text(workload, status))
    else:
        data = {**serialize(status), "events": _events(workload), "spec": spec(workload)}
        terminal.answer(data, output_format, watched=watched)


def _timeless(value: Any) -> Any:
    """Return data without durations, which change at every poll."""
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if not name.endswith("Seconds")}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def spec(workload: Live) -> Any:
    """Return the spec stored in the object's annotation, or None."""
    try:
        return json.loads((workload.top["metadata"].get("annotations") or {}).get(keys.SPEC, "null"))
    except ValueError:
        return None


def _text(workload: Live, status: Status) -> Iterator[str]:
    phase = terminal.painted(status.phase, status.phase)
    yield f"{status.namespace}/{status.name}   {status.kind}   {phase}   age {age(status.age_seconds)}\n"
    if status.why:
        yield f"  {printable(status.why)}\n"
    rows = [
        ("project", status.project),
        ("replicas", f"{status.replicas.ready} ready, {status.replicas.wanted} desired, {_bounds(status)}"),
        ("GPUs", status.gpus),
        ("metric", str(status.metric or "")),
        ("URL", status.url),
        ("call", terminal.curl(status)),
        *(("override", text) for text in status.by_hand),
    ]
    yield "\n"
    yield from (f"  {name:10} {printable(value)}\n" for name, value in rows if value)
    events = [
        (age(row["ageSeconds"]), row["type"], row["reason"], row["about"], row["message"]) for row in _events(workload)
    ]
    revisions = [
        (row.name, f"{row.traffic_percent}%", f"{row.ready}/{row.wanted}", age(row.age_seconds), row.words)
        for row in status.revisions
    ]
    conditions = [
        (row.name, CONDITION_LABELS[row.holds], age(row.since_seconds), row.words) for row in status.conditions
    ]
    pods = [(row.name, row.node, str(row.restarts), age(row.age_seconds), row.words) for row in status.pods]
    tables: tuple[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]], ...] = (
        ("conditions", ("CONDITION", "STATUS", "SINCE", ""), conditions),
        ("revisions", ("REVISION", "TRAFFIC", "READY", "AGE", ""), revisions),
        ("pods", ("POD", "NODE", "RESTARTS", "AGE", ""), pods),
        ("events", ("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"), events),
    )
    for title, header, lines in tables:
        if lines:
            yield f"\n{title}\n{terminal.table(header, lines, '  ')}"
    stored_spec = spec(workload)
    if stored_spec is not None:
        from ebbtide import manifests  # noqa: PLC0415 - only text output needs it

        yield "\nspec\n"
        yield from (f"  {line}\n" for line in manifests.write_one(stored_spec).splitlines())


def _bounds(status: Status) -> str:
    minimum, maximum = status.replicas.minimum, status.replicas.maximum
    if minimum == maximum:
        return f"fixed at {minimum}"
    return f"minimum {minimum}, maximum {maximum}" if maximum else f"minimum {minimum}, no maximum"


def _events(workload: Live) -> list[dict[str, Any]]:
    """Return the most recent events as data."""
    return [_event(event, workload.now) for event in workload.events[-EVENTS:]]


def _event(event: dict[str, Any], now: float) -> dict[str, Any]:
    from ebbtide.cluster.read.inventory import seconds  # noqa: PLC0415 - as above

    about = event.get("involvedObject", {})
    when = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    return {
        "time": when,
        # The cluster's clock may be ahead of the local clock.
        "ageSeconds": round(max(0.0, now - seconds(when))),
        "type": str(event.get("type", "")),
        "reason": str(event.get("reason", "")),
        "about": f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        "message": str(event.get("message", "")),
    }
