"""Records of a workload's scaling on its objects: traffic, manual overrides, rollouts, the controller's decisions.

The controller reads them at each step, and loads nothing that writes or explains. Upstream: knative.dev/serving
pkg/apis/serving/v1/route_types.go (traffic).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys
from ebbtide.base.paths import get_at

if TYPE_CHECKING:
    from ebbtide.cluster.read.inventory import LiveWorkload
    from ebbtide.translation.objects import Object

#: The words of a floor's cause.
FLOOR_WORDS: Final = {
    "metric": "the metric with the highest number of replicas decides",
    "minimum": "minReplicas",
    "maximum": "limited by maxReplicas, the metrics ask for more",
    "schedule": "a window of the schedule is open",
    "delay": "the metrics were higher shortly before",
    "step": "a step is limited by the behavior",
    "rest": "all metrics are at or below their targets, so Knative decides alone",
    "wait": "the pods have no values yet",
    "held": "held, because the evidence for fewer replicas is incomplete",
    "fallback": "a metric has had no value for long: fallbackReplicas",
    "rollout": "that of the revision that it replaces",
    "manual": "set by ebbtide scale",
}


def serving_revisions(live: LiveWorkload) -> list[str]:
    """Return the revisions that receive traffic."""
    rows = get_at(live.service, "status", "traffic", default=[])
    return [name for name in dict.fromkeys(row.get("revisionName", "") for row in rows if row.get("percent")) if name]


def scaled_revisions(live: LiveWorkload) -> list[str]:
    """Return the revisions that a scale changes: those that receive traffic, and the newest."""
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    return [name for name in dict.fromkeys([*serving_revisions(live), newest]) if name]


def _read_record(obj: Object | None, annotation: str) -> dict[str, Any] | None:
    """Return the record in an annotation, None if there is none or it cannot be read."""
    text = get_at(obj, "metadata", "annotations", annotation)
    try:
        record = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def read_scale_record(live: Object) -> dict[str, Any]:
    """Return the record of ``ebbtide scale`` on a workload; empty if there is none, or if it is not valid JSON."""
    return _read_record(live, keys.SCALE) or {}


@dataclass(frozen=True, slots=True)
class RolloutMark:
    """The rollout's annotation on a revision."""

    #: Replicas at the start of the rollout; 0 after its end, if the revision failed.
    replicas: int
    #: The revision's annotations before the rollout; None for those that it did not have.
    saved: dict[str, str | None] = field(default_factory=dict)
    #: The reason why the revision failed, and the rollout returns to the former one.
    failed: str = ""

    def format(self) -> str:
        """Return the mark as the annotation's value."""
        record: dict[str, Any] = {"replicas": self.replicas, "saved": self.saved} if self.replicas else {}
        return json.dumps(record | ({"failed": self.failed} if self.failed else {}), separators=(",", ":"))


def read_mark(revision: Object) -> RolloutMark | None:
    """Return a revision's mark; None if it has none."""
    record = _read_record(revision, keys.ROLLOUT)
    if record is None:
        return None
    try:
        return RolloutMark(int(record.get("replicas", 0)), dict(record.get("saved", {})), str(record.get("failed", "")))
    except (ValueError, TypeError):
        return None


def is_in_rollout(revision: Object) -> bool:
    """Return whether a revision takes part in a rollout that has not ended."""
    mark = read_mark(revision)
    return mark is not None and mark.replicas > 0


def read_decision(revision: Object | None) -> dict[str, Any] | None:
    """Return the controller's last decision on a revision, None if there is none or it cannot be read."""
    return _read_record(revision, keys.DECISION)
