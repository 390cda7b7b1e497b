"""A comparison for people: a table, and both courses of replicas in the terminal."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from e2e.experiments.fidelity.compare import PERCENT, POINTS, Comparison, Counts, Verdict, lateness, own_starts, value
from e2e.experiments.fidelity.record import Record
from ebbtide.core.tables import align_table
from ebbtide.core.units import format_duration

WIDTH: Final = 100
BOTH, ONLY_REAL, ONLY_PREDICTED, NEITHER = "█", "▒", "░", " "
ROWS: Final = (
    ("attainment", "", "share"),
    ("replica_seconds", "replica-seconds", "count"),
    ("ready_seconds", "of them ready", "count"),
    ("mean", "mean", "time"),
    ("p50", "p50", "time"),
    ("p95", "p95", "time"),
    ("p99", "p99", "time"),
    ("cold_starts", "cold starts", "count"),
    ("met_cold", "requests that met one", "count"),
    ("lost", "lost requests", "count"),
)
"""Numbers of both sides, what they are called, and how they are written."""


def text(found: Comparison) -> str:
    """Return the table, the load of the machine during the replay, and the plot."""
    head = found.record.head
    what = (
        f"{head.kind}: {len(found.record.requests):,} requests in {format_duration(head.seconds)} from {head.traffic}; "
        f"server {head.server}; {head.began}\n"
    )
    given = (
        f"start-up {format_duration(found.start_up.seconds)} (spread {found.start_up.spread:.2f}, answers "
        f"{format_duration(found.start_up.ready)} before it is ready), {format_duration(head.overhead)} of overhead per reply\n\n"
    )
    out = [
        what,
        given,
        align_table([["", "measured", "predicted", f"of {len(found.predicted)} seeds", "apart"], *rows(found)]),
        "\n",
        f"  {apart(found)}\n",
        f"  {began(found.record)}\n",
        f"  {noise(found.record)}\n\n",
        plot(found),
    ]
    return "".join(out)


def rows(found: Comparison) -> list[list[str]]:
    """Return the table's rows: a name, both sides, the predictions' range, and how far they are apart."""
    table = []
    for name, title, form in ROWS:
        least, median, most = found.spread(name)
        real = value(found.real, name)
        table.append(
            [
                title or f"within {found.record.head.promise.partition('=')[2]}",
                _written(real, form),
                _written(median, form),
                _written(least, form) if least == most else f"{_written(least, form)} to {_written(most, form)}",
                _apart(real, median, name, form),
            ]
        )
    return table


def _written(number: float, form: str) -> str:
    match form:
        case "share":
            return f"{number * 100:.1f} %"
        case "time":
            return format_duration(number)
        case _:
            return f"{number:,.0f}"


def _apart(real: float, predicted: float, name: str, form: str) -> str:
    if form == "share":
        points = (real - predicted) * 100
        return f"{points:+.1f} points, {'within' if abs(points) <= POINTS else 'ABOVE'} {POINTS:g}"
    if form == "count" and not name.endswith("_seconds"):
        return f"{real - predicted:+,.0f}"
    percent = (real / predicted - 1) * 100 if predicted else 0.0
    if name == "replica_seconds":
        return f"{percent:+.1f} %, {'within' if abs(percent) <= PERCENT else 'ABOVE'} {PERCENT:g}"
    return f"{percent:+.1f} %"


def apart(found: Comparison) -> str:
    """Return in a sentence how far the replicas were apart."""
    most, seconds, any_seconds = found.apart()
    real, typical = found.real.course, found.typical.course
    rose = f"rose {real.ups} times and fell {real.downs}, predicted {typical.ups} and {typical.downs}"
    if not most:
        return f"ready replicas are never apart; they {rose}"
    return (
        f"ready replicas are apart by at most {most}, for {format_duration(seconds)} in all; by any number for "
        f"{format_duration(any_seconds)} of {format_duration(found.record.head.seconds)}; they {rose}"
    )


def began(record: Record) -> str:
    """Return in a sentence how long pods took to start while the requests came."""
    starts = own_starts(record)
    if not starts:
        return "no pod started meanwhile"
    ready = sorted(start.ready for start in starts)
    early = sorted(start.ready - start.answers for start in starts if start.answers is not None)
    used = f"; {len(early)} worked before, by {format_duration(early[len(early) // 2])} in the median" if early else ""
    return (
        f"{len(ready)} pods started meanwhile and were ready after {format_duration(ready[len(ready) // 2])} in the median, "
        f"{format_duration(ready[0])} to {format_duration(ready[-1])}{used}"
    )


def noise(record: Record) -> str:
    """Return in a sentence how far the machine kept the replay from its time."""
    late = lateness(record)
    sent = f"requests were sent {format_duration(float(np.median(late)))} late in the median, {format_duration(float(late.max()))} at most"
    if record.noise is None or not record.noise.ticks:
        return sent
    seen = record.noise
    waited = "" if seen.waited is None else f"; something waited for one {seen.waited * 100:.0f} % of the time"
    return (
        f"{sent}; of {seen.ticks:,} ticks {seen.late / seen.ticks * 100:.2f} % came over 20 ms late, the worst "
        f"{format_duration(seen.worst)}; {seen.busy * 100:.0f} % of the processors were busy{waited}"
    )


def plot(found: Comparison) -> str:
    """Return both courses over each other: a row for each replica, a column for each part of the time."""
    real = _columns(found.real.course.ready)
    predicted = _columns(found.typical.course.ready)
    top = max(*real, *predicted, 1)
    lines = [f"ready replicas: {BOTH} both, {ONLY_REAL} only measured, {ONLY_PREDICTED} only predicted\n"]
    for level in range(top, 0, -1):
        cells = "".join(_cell(one >= level, other >= level) for one, other in zip(real, predicted, strict=True))
        lines.append(f"  {level:>2} │{cells}".rstrip() + "\n")
    end = format_duration(found.record.head.seconds)
    return "".join([*lines, f"   0 └{end:─>{len(real)}}\n"])


def _cell(real: bool, predicted: bool) -> str:
    return {(True, True): BOTH, (True, False): ONLY_REAL, (False, True): ONLY_PREDICTED}.get((real, predicted), NEITHER)


def _columns(ready: Counts) -> list[int]:
    """Return what was most of the time in each column."""
    parts = np.array_split(ready, min(WIDTH, len(ready)))
    return [int(np.median(part)) for part in parts]


def verdict(found: Sequence[Verdict]) -> str:
    """Return a line for each kind: whether the goal was met over all runs."""
    return "".join(
        f"{one.kind}, {one.runs} {'run' if one.runs == 1 else 'runs'}: attainment {one.points:+.1f} points, "
        f"replica-seconds {one.percent:+.1f} %: {'within' if one.holds else 'NOT within'} {POINTS:g} points and {PERCENT:g} %\n"
        for one in found
    )


def markdown(found: Sequence[Comparison]) -> str:
    """Return a row for each comparison, as docs have it."""
    pairs = ("within, measured", "predicted", "replica-seconds, measured", "predicted", "p95, measured", "predicted")
    titles = ("service", *pairs, "replicas apart", "ticks late")
    out = [f"| {' | '.join(titles)} |\n", f"|---{'|--:' * (len(titles) - 1)}|\n"]
    for one in found:
        most, seconds, _ = one.apart()
        seen = one.record.noise
        cells = [
            one.record.head.kind,
            _written(value(one.real, "attainment"), "share"),
            f"{_written(one.spread('attainment')[1], 'share')} ({one.points:+.1f})",
            _written(value(one.real, "replica_seconds"), "count"),
            f"{_written(one.spread('replica_seconds')[1], 'count')} ({one.percent:+.1f} %)",
            format_duration(one.real.measured.p95),
            format_duration(one.spread("p95")[1]),
            f"{most} for {format_duration(seconds)}" if most else "never",
            f"{seen.late / seen.ticks * 100:.1f} %" if seen is not None and seen.ticks else "-",
        ]
        out.append(f"| {' | '.join(cells)} |\n")
    return "".join(out)
