"""A canary on the page: both revisions side by side, and its actions: promote and abort.

Promote applies the live spec without its canary. Abort is a rollback to the stable
revision. Upstream: knative.dev/serving pkg/apis/serving/v1/route_types.go (traffic), kserve
docs/modelserving/v1beta1/rollout/canary.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ebbtide.cluster.client.protocol import ClusterError
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.records import serving_revisions
from ebbtide.cluster.read.status import RevisionRow, Status
from ebbtide.cluster.slo import pages
from ebbtide.cluster.slo.report import ReportRow, ValueInterval, compute_report
from ebbtide.cluster.slo.source import Ref, SourceError
from ebbtide.cluster.write import revisions
from ebbtide.cluster.write.canary import WHOLE_PERCENT, find_stable_revision
from ebbtide.core.base.operations import ROLLBACK
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Path
from ebbtide.core.manifests.edit import NotEdited, edit_text
from ebbtide.core.readers.fields import field_names_at
from ebbtide.core.units import format_duration, format_percent
from ebbtide.server.web.parts import words
from ebbtide.server.web.parts.errors import PageError
from ebbtide.server.web.parts.frame import PageVisit
from ebbtide.server.web.parts.specs import parse_document, write_live_spec

T = TypeVar("T")
#: Seconds that the comparison covers, and for which its measurements are reused.
COMPARED_SECONDS: Final = 900.0
REUSE_SECONDS: Final = 10.0
#: The percentage of a canary that the page starts.
FIRST_PERCENT: Final = 10
#: Fewer requests than these say nothing about a revision.
MIN_REQUESTS: Final = 100
#: The standard errors by which a share of failed requests must be higher to count as worse, and the ratio of means.
ERROR_DEVIATIONS: Final = 2.0
SLOWER_RATIO: Final = 1.1
NO_CANARY: Final = "no canary is running: set traffic.canaryPercent in the spec, and apply a new revision"


@dataclass(frozen=True, slots=True)
class RunningCanary:
    """The revisions of a canary, and the percentage of requests that the spec gives the newest one."""

    stable: str
    newest: str
    percent: int
    #: The live spec as YAML.
    text: str


def name_stable_revision(visit: PageVisit, namespace: str, name: str, text: str) -> str:
    """Return the spec of a live Knative Service; if it is a canary without a stable revision, with the one that serves."""
    traffic = get_at(parse_document(text), "spec", "traffic", default={})
    percent = traffic.get("canaryPercent") if isinstance(traffic, dict) else None
    if not isinstance(percent, int) or not 0 <= percent < WHOLE_PERCENT or traffic.get("stableRevision"):
        return text
    try:
        live = visit.backend.reads.workload(visit.user, namespace, name).value
        stable = find_stable_revision(live.top) if live.top["kind"] == "Service" else ""
        return edit_text(text, {("spec", "traffic", "stableRevision"): stable}, field_names_at) if stable else text
    except (ClusterError, NotEdited):
        return text


def write_first_canary(visit: PageVisit, namespace: str, name: str, text: str) -> str:
    """Return the spec of a workload as a canary of its next revision."""
    try:
        text = edit_text(text, {("spec", "traffic", "canaryPercent"): FIRST_PERCENT}, field_names_at)
    except NotEdited:
        return text
    return name_stable_revision(visit, namespace, name, text)


def find_canary(visit: PageVisit, live: LiveWorkload) -> RunningCanary | None:
    """Return the canary of a workload, or None if one revision receives all requests."""
    serving = serving_revisions(live)
    newest = str(get_at(live.service, "status", "latestCreatedRevisionName", default=""))
    if not newest or len(live.revisions) < 2:  # noqa: PLR2004 - a canary has two
        return None
    text = write_live_spec(live.top, visit.backend.profile)
    traffic = get_at(parse_document(text), "spec", "traffic", default={})
    percent = traffic.get("canaryPercent")
    if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent < WHOLE_PERCENT:
        return None
    previous = get_at(live.top, "status", "components", "predictor", "previousRolledoutRevision", default="")
    others = [name for name in serving if name != newest]
    stable = str(traffic.get("stableRevision") or previous or next(iter(others), ""))
    if stable == newest or stable not in serving or (percent and newest not in serving):
        return None
    return RunningCanary(stable, newest, percent, text)


def explain_no_canary(visit: PageVisit, live: LiveWorkload) -> str:
    """Return the reason if no canary can be changed; empty if one can."""
    return "" if find_canary(visit, live) is not None else NO_CANARY


def explain_no_abort(visit: PageVisit, live: LiveWorkload) -> str:
    """Return why a canary cannot be aborted; empty if it can."""
    canary = find_canary(visit, live)
    return NO_CANARY if canary is None else revisions.explain_no_rollback(live, canary.stable)


def canary_form(visit: PageVisit, live: LiveWorkload) -> dict[str, Any]:
    """Return the context of the actions' dialogs."""
    return {"canary": find_canary(visit, live)}


def _require_canary(visit: PageVisit, live: LiveWorkload) -> RunningCanary:
    canary = find_canary(visit, live)
    if canary is None:
        raise PageError(422, "No canary", f"The workload has changed: {NO_CANARY}.")
    return canary


def promote_canary(visit: PageVisit, live: LiveWorkload) -> None:
    """Send all requests to the newest revision, and end the canary."""
    fields: dict[Path, None] = {("spec", "traffic", name): None for name in ("canaryPercent", "stableRevision")}
    text = edit_text(_require_canary(visit, live).text, fields, field_names_at)
    visit.backend.writes.submit(visit.user, visit.backend.specs.documents(text))


def abort_canary(visit: PageVisit, live: LiveWorkload) -> None:
    """Send all requests to the stable revision until the next apply."""
    values = {"to": _require_canary(visit, live).stable}
    visit.backend.writes.change(visit.user, ROLLBACK, live.namespace, live.name, values)


# The comparison.


def compare_revisions(visit: PageVisit, live: LiveWorkload, row: Status) -> dict[str, Any]:
    """Return the context of the comparison: the canary, and the figures of both revisions."""
    canary = find_canary(visit, live)
    if canary is None:
        return {"canary": None}
    refs = [Ref(live.namespace, name) for name in (canary.stable, canary.newest)]
    trouble = ""
    reports: list[ReportRow | None] = [None, None]
    try:
        end = visit.backend.clock.now()

        def ask() -> list[ReportRow]:
            measured = visit.backend.measurements.measure_revisions(
                visit.user, live.namespace, live.name, refs, end - COMPARED_SECONDS, end
            )
            return [compute_report({ref: measured[ref]}, {}).rows[0] for ref in refs]

        reports = [*visit.backend.polls.compute(("revisions", *refs), REUSE_SECONDS, ask)]
    except SourceError as error:
        trouble = str(error)
    states = {item.name: item for item in row.revisions}
    return {
        "canary": canary,
        "compared": list_figures((states.get(canary.stable), states.get(canary.newest)), reports),
        "verdict": judge_canary(*reports),
        "measured": any(report is not None and report.measured.requests for report in reports),
        "trouble": trouble,
        "minutes": round(COMPARED_SECONDS / 60),
    }


def judge_canary(stable: ReportRow | None, newest: ReportRow | None) -> tuple[words.Tone, str]:
    """Return whether a canary is worse than the stable revision, as a tone and a sentence."""
    counts = [0.0 if one is None else one.measured.requests for one in (stable, newest)]
    if stable is None or newest is None or min(counts) < MIN_REQUESTS:
        return "calm", f"Not decided: each revision needs {MIN_REQUESTS} requests, the canary has {counts[1]:.0f}"
    # The errors of both, as if the revisions were the same.
    failed = [one.measured.failed for one in (stable, newest)]
    share = sum(failed) / sum(counts)
    deviation = math.sqrt(share * (1 - share) * sum(1 / count for count in counts))
    before, after = (part / count for part, count in zip(failed, counts, strict=True))
    if after - before > ERROR_DEVIATIONS * deviation:
        return "bad", f"Worse: {format_percent(after)} of the requests fail instead of {format_percent(before)}"
    pairs = {"mean": (stable.mean, newest.mean), "p95": (stable.quantiles.get("p95"), newest.quantiles.get("p95"))}
    for name, (old, new) in pairs.items():
        if old is not None and new is not None and new.low > old.high * SLOWER_RATIO:
            return "wait", f"Slower: {name} {pages.format_interval(new)} instead of {pages.format_interval(old)}"
    return "good", "Not worse: neither the errors nor the response times are higher"


def describe_difference(stable: ValueInterval, newest: ValueInterval) -> str:
    """Return how two response times differ: in seconds if both are exact, otherwise only in which direction."""
    if stable.exact and newest.exact:
        change = newest.low - stable.low
        sign = "+" if change > 0 else "\u2212" if change < 0 else ""
        return f"{sign}{format_duration(abs(change))}"
    if newest.low >= stable.high:
        return "slower"
    return "faster" if newest.high <= stable.low else "no measured difference"


def list_figures(
    revision_rows: tuple[RevisionRow | None, RevisionRow | None], reports: Sequence[ReportRow | None]
) -> list[tuple[str, str, str, str]]:
    """Return the figures of the stable and of the newest revision, each with its label and difference; unknown ones are dashes."""

    def compare(
        label: str, write: Callable[[T], str], both: Sequence[T | None], subtract: Callable[[T, T], str] = lambda *_: ""
    ) -> tuple[str, str, str, str]:
        stable, newest = both
        cells = (words.NONE if one is None else write(one) for one in both)
        return label, *cells, "" if stable is None or newest is None else subtract(stable, newest)  # type: ignore[return-value] # both has two

    measured = [report if report is not None and report.measured.requests else None for report in reports]
    errors = [None if one is None else one.errors for one in measured]
    times = {"Mean": [None if one is None else one.mean for one in measured]}
    for name in dict.fromkeys(name for one in measured if one is not None for name in one.quantiles):
        times[name] = [None if one is None else one.quantiles.get(name) for one in measured]
    return [
        compare("Traffic", lambda item: f"{item.traffic_percent}%", revision_rows),
        compare("Replicas", lambda item: f"{item.ready} of {item.wanted}", revision_rows),
        compare("Requests/s", lambda one: f"{one.rate:.3g}", measured),
        compare(
            "Errors", format_percent, errors, lambda old, new: f"{(new - old) * 100:+.3g} points" if new != old else "0"
        ),
        *(compare(name, pages.format_interval, both, describe_difference) for name, both in times.items()),
    ]
