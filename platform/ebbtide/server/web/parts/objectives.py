"""The SLO state of workloads, for the grid, the header of a workload, the overview and its alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ebbtide.cluster.read.status import Status
from ebbtide.cluster.slo import pages
from ebbtide.cluster.slo.report import ReportRow, Verdict, compute_report
from ebbtide.cluster.slo.source import Ref, SourceError, WorkloadSlo
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.words import NO_SLO, SloState, State

#: The time of the measurements in seconds.
SPAN_SECONDS: Final = 86_400.0
#: Seconds for which a result is reused.
REUSE_SECONDS: Final = 30.0
#: Maximum number of workloads that one query covers; beyond it, only those of the shown page are judged.
MAX_JUDGED: Final = 500

STATES: Final[dict[str, State]] = {"kept": "met", "broken": "violated", "unknown": "unknown"}


def describe_verdict(verdict: Verdict) -> str:
    """Return one objective with its result: ``p95 within 400 ms violated: 89.7% of requests ...``."""
    head = f"{pages.format_objective(verdict)} {pages.OUTCOMES[verdict.outcome].lower()}"
    result = pages.format_reached(verdict) or verdict.why
    return f"{head}: {result}" if result else head


def summarize_row(row: ReportRow) -> SloState:
    """Return the state of a report's row."""
    order = ("broken", "unknown", "kept")
    verdicts = sorted(row.verdicts, key=lambda verdict: order.index(verdict.outcome))
    if not verdicts:
        return NO_SLO
    return SloState(STATES[verdicts[0].outcome], tuple(map(describe_verdict, verdicts)))


def judge_workloads(visit: PageVisit, rows: Sequence[Status]) -> dict[Ref, SloState]:
    """Return the SLO states of visible workloads; without metrics, each state with an SLO is unknown."""
    slos = {ref: known for ref, known in read_objectives(visit, rows).items() if known.slo is not None}
    refs = sorted(slos)
    if not refs:
        return {}

    def ask() -> dict[Ref, SloState]:
        now = visit.backend.clock.now()
        report = compute_report(visit.backend.measurements.measured(visit.user, refs, now - SPAN_SECONDS, now), slos)
        states = {row.ref: summarize_row(row) for row in report.rows if row.ref is not None}
        return {ref: states.get(ref, SloState("unknown", ("not measured yet",))) for ref in refs}

    # An edit of an SLO is another query.
    limits = ((ref, *vars(slos[ref].slo).values()) for ref in refs)
    try:
        return visit.backend.polls.get(("slo", *limits), REUSE_SECONDS, ask)
    except SourceError as error:
        return dict.fromkeys(refs, SloState("unknown", (f"not measured: {error}",)))


def read_objectives(visit: PageVisit, rows: Sequence[Status]) -> dict[Ref, WorkloadSlo]:
    """Return the SLOs of workloads; specs are read again every few seconds."""
    key = ("objectives", visit.user.name, *(Ref(row.namespace, row.name) for row in rows))
    return visit.backend.polls.compute(
        key, REUSE_SECONDS / 3, lambda: visit.backend.measurements.objectives(visit.user, rows)
    )
