"""``ebbtide describe NAME``: everything about one workload, in words."""

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

#: How many of the newest events are shown.
EVENTS: Final = 10
#: Seconds between two looks with --watch.
LOOK: Final = 2.0
SIGNS: Final = {True: "yes", False: "no", None: "not yet"}
OPTIONS: Final = (
    *connection.WORKLOAD,
    connection.COUNTS,
    switch("-w", "--watch", help="go on, and print it again when it changes"),
    output("text", "json", "yaml"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import find  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.read.status import status  # noqa: PLC0415 - as above

    clock, source = connection.clock(), connection.source_of(cluster, options)
    namespace = connection.place(cluster, options)
    known: dict[str, Any] = {}
    while True:
        found = find(cluster, options.name, namespace, clock.now())
        (now,) = connection.with_loads([status(found)], source, asked_for=bool(options.prometheus), when=found.now)
        told = _timeless(serialize(now))
        if told != known:
            _print(found, now, options.output, watched=options.watch)
            known = told
        if not options.watch:
            return 0
        sys.stdout.flush()
        clock.sleep(LOOK)


def _print(found: Live, now: Status, form: str, *, watched: bool) -> None:
    if form == "text":
        sys.stdout.writelines(_text(found, now))
    else:
        told = {**serialize(now), "events": _events(found), "spec": spec(found)}
        terminal.answer(told, form, watched=watched)


def _timeless(value: Any) -> Any:
    """Return data without what only the time changes."""
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if not name.endswith("Seconds")}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def spec(found: Live) -> Any:
    """Return the spec that is kept on the object, or None."""
    try:
        return json.loads((found.top["metadata"].get("annotations") or {}).get(keys.SPEC, "null"))
    except ValueError:
        return None


def _text(found: Live, now: Status) -> Iterator[str]:
    phase = terminal.painted(now.phase, now.phase)
    yield f"{now.namespace}/{now.name}   {now.kind}   {phase}   {age(now.age_seconds)} old\n"
    if now.why:
        yield f"  {printable(now.why)}\n"
    rows = [
        ("project", now.project),
        ("replicas", f"{now.replicas.ready} ready, {now.replicas.wanted} wanted, {_bounds(now)}"),
        ("GPUs", now.gpus),
        ("metric", str(now.metric or "")),
        ("URL", now.url),
        ("call", terminal.curl(now)),
        *(("by hand", text) for text in now.by_hand),
    ]
    yield "\n"
    yield from (f"  {name:10} {printable(value)}\n" for name, value in rows if value)
    events = [
        (age(row["ageSeconds"]), row["type"], row["reason"], row["about"], row["message"]) for row in _events(found)
    ]
    revisions = [
        (row.name, f"{row.traffic_percent}%", f"{row.ready}/{row.wanted}", age(row.age_seconds), row.words)
        for row in now.revisions
    ]
    conditions = [(row.name, SIGNS[row.holds], age(row.since_seconds), row.words) for row in now.conditions]
    pods = [(row.name, row.node, str(row.restarts), age(row.age_seconds), row.words) for row in now.pods]
    tables: tuple[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]], ...] = (
        ("conditions", ("CONDITION", "HOLDS", "SINCE", ""), conditions),
        ("revisions", ("REVISION", "TRAFFIC", "READY", "AGE", ""), revisions),
        ("pods", ("POD", "NODE", "RESTARTS", "AGE", ""), pods),
        ("events", ("AGE", "TYPE", "REASON", "ABOUT", "MESSAGE"), events),
    )
    for title, head, lines in tables:
        if lines:
            yield f"\n{title}\n{terminal.table(head, lines, '  ')}"
    kept = spec(found)
    if kept is not None:
        from ebbtide import manifests  # noqa: PLC0415 - only this output needs it

        yield "\nspec\n"
        yield from (f"  {line}\n" for line in manifests.write_one(kept).splitlines())


def _bounds(now: Status) -> str:
    low, high = now.replicas.minimum, now.replicas.maximum
    if low == high:
        return f"always {low}"
    return f"between {low} and {high}" if high else f"at least {low}, without an upper bound"


def _events(found: Live) -> list[dict[str, Any]]:
    """Return the newest events as data."""
    return [_event(event, found.now) for event in found.events[-EVENTS:]]


def _event(event: dict[str, Any], now: float) -> dict[str, Any]:
    from ebbtide.cluster.read.inventory import seconds  # noqa: PLC0415 - as above

    about = event.get("involvedObject", {})
    when = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    return {
        "time": when,
        # The cluster's clock may be ahead of this machine's.
        "ageSeconds": round(max(0.0, now - seconds(when))),
        "type": str(event.get("type", "")),
        "reason": str(event.get("reason", "")),
        "about": f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        "message": str(event.get("message", "")),
    }
