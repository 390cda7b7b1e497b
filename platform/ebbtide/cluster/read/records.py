"""Records of a workload's scaling on its objects: traffic, manual overrides, rollouts, the controller's decisions.

The controller reads them at each step, and loads nothing that writes or explains. A record that cannot be read has the
reason in ``problem``, and otherwise the values of a missing one. Upstream: knative.dev/serving
pkg/apis/serving/v1/route_types.go (traffic).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.core.autoscaler.floor import FloorDecision, FloorError, read_settings
from ebbtide.core.base import annotations as shapes
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import Record, UnreadableError, read_annotation, read_spec
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import drop_zero_fraction
from ebbtide.core.translation.objects import Object

#: Fields of a manual scale override, and the revision annotation of each.
SCALED: Final = {"minReplicas": keys.MIN_SCALE, "maxReplicas": keys.MAX_SCALE, "metricThreshold": keys.TARGET}
#: Annotations with Knative's prefix that only Ebbtide writes on a revision, so that no template has them.
OWN: Final = frozenset({keys.DECISION, keys.LEADER, keys.ROLLOUT})
#: Length to which the value of an edited annotation is cut.
EDIT_LENGTH: Final = 60
#: The words of a floor's cause.
FLOOR_WORDS: Final = {
    "metric": "the metric with the highest number of replicas decides",
    "minimum": "minReplicas",
    "maximum": "limited by maxReplicas, the metrics ask for more",
    "schedule": "a window of the schedule is open",
    "delay": "the metrics were higher shortly before",
    "step": "a step is limited by the behavior",
    "rest": "all metrics are at or below their targets, so Knative decides alone",
    "wait": "pods without a value that counts carry their target, until they have one",
    "held": "held, because the evidence for fewer replicas is incomplete",
    "fallback": "a metric has had no value for long: fallbackReplicas",
    "rollout": "that of the revision that it replaces",
    "manual": "set by ebbtide scale",
    "buffer": "the metric with the highest number of replicas decides, and the buffer is added",
    "gang": "not raised, because KAI evicts the replicas that serve if the others of their gang do not fit; turn KAI's "
    "--knative-gang-schedule off",
}


def serving_revisions(live: LiveWorkload) -> list[str]:
    """Return the revisions that receive traffic."""
    rows = get_at(live.service, "status", "traffic", default=[])
    return [name for name in dict.fromkeys(row.get("revisionName", "") for row in rows if row.get("percent")) if name]


def scaled_revisions(live: LiveWorkload) -> list[str]:
    """Return the revisions that a scale changes: those that receive traffic, and the newest."""
    newest = get_at(live.service, "status", "latestCreatedRevisionName", default="")
    return [name for name in dict.fromkeys([*serving_revisions(live), newest]) if name]


_SCALED: Final = {"minReplicas": shapes.whole(), "maxReplicas": shapes.whole(), "metricThreshold": shapes.number(0)}
_SCALE: Final = Record(
    shapes.fields(
        {},
        {**_SCALED, "base": shapes.fields({}, {name: shapes.nullable(shapes.number(0)) for name in _SCALED})},
    )
)
_DECISION: Final = Record(
    shapes.fields(
        {"floor": shapes.whole(), "cause": shapes.choice(*FLOOR_WORDS), "at": shapes.name()},
        {
            "metrics": shapes.rows(
                shapes.fields(
                    {"name": shapes.name(), "target": shapes.number(shapes.MIN_TARGET)},
                    {"replicas": shapes.nullable(shapes.whole()), "value": shapes.nullable(shapes.number())},
                ),
                shapes.MAX_ROWS,
            )
        },
    )
)
#: The annotations that a rollout changes, and restores from its mark.
SAVED: Final = (
    keys.MIN_SCALE,
    keys.MAX_SCALE,
    keys.WINDOW,
    keys.SCALE_DOWN_DELAY,
    keys.RETENTION,
    keys.PROGRESS_DEADLINE,
)
_MARK: Final = Record(
    shapes.fields(
        {},
        {
            "replicas": shapes.whole(),
            "saved": shapes.fields({}, {key: shapes.nullable(shapes.text(shapes.MAX_NAME)) for key in SAVED}),
            "failed": shapes.text(),
        },
    )
)


def _read_record(obj: Object | None, annotation: str, record: Record) -> tuple[dict[str, Any] | None, str]:
    """Return the object in an annotation, None if it is missing or cannot be read, and the reason why it cannot."""
    value = read_annotation(obj, annotation)
    try:
        return (None if value is None else record.read(value)), ""
    except UnreadableError as error:
        return None, f"{annotation} cannot be read: {error}"


@dataclass(frozen=True, slots=True)
class ScaleRecord:
    """The record of ``ebbtide scale`` on a workload."""

    #: The manual values: minReplicas and maxReplicas, which are int, and metricThreshold.
    values: Mapping[str, float] = field(default_factory=dict)
    #: The spec's values at that time, by the same names; None for those that it did not have.
    base: Mapping[str, float | None] = field(default_factory=dict)
    problem: str = ""

    def __bool__(self) -> bool:
        """Return whether there is an override."""
        return bool(self.values)

    @property
    def minimum(self) -> int | None:
        """The manual minimum of replicas."""
        value = self.values.get("minReplicas")
        return None if value is None else int(value)


def read_scale_record(live: Object) -> ScaleRecord:
    """Return the record of ``ebbtide scale`` on a workload; empty if there is none, or none that can be read."""
    record, problem = _read_record(live, keys.SCALE, _SCALE)
    if record is None:
        return ScaleRecord(problem=problem)
    base = {
        name: None if value is None else drop_zero_fraction(value) for name, value in record.pop("base", {}).items()
    }
    return ScaleRecord({name: drop_zero_fraction(value) for name, value in record.items()}, base)


@dataclass(frozen=True, slots=True)
class RolloutMark:
    """The rollout's annotation on a revision."""

    #: Replicas at the start of the rollout; 0 after its end, if the revision failed.
    replicas: int
    #: The revision's annotations before the rollout; None for those that it did not have.
    saved: dict[str, str | None] = field(default_factory=dict)
    #: The reason why the revision failed, and the rollout returns to the former one.
    failed: str = ""
    problem: str = ""

    def format(self) -> str:
        """Return the mark as the annotation's value."""
        record: dict[str, Any] = {"replicas": self.replicas, "saved": self.saved} if self.replicas else {}
        return json.dumps(record | ({"failed": self.failed} if self.failed else {}), separators=(",", ":"))


def read_mark(revision: Object) -> RolloutMark | None:
    """Return a revision's mark; None if it has none."""
    record, problem = _read_record(revision, keys.ROLLOUT, _MARK)
    if record is None:
        return RolloutMark(0, problem=problem) if problem else None
    return RolloutMark(record.get("replicas", 0), record.get("saved", {}), record.get("failed", ""))


def is_in_rollout(revision: Object) -> bool:
    """Return whether a revision takes part in a rollout that has not ended."""
    mark = read_mark(revision)
    return mark is not None and mark.replicas > 0


@dataclass(frozen=True, slots=True)
class DecisionMetric:
    """The proposal of one metric: replicas and value are None without a value."""

    name: str
    target: float
    replicas: int | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The controller's last decision on a revision. The floor is None, and the cause empty, if it cannot be read."""

    floor: int | None = None
    #: One of ``FLOOR_WORDS``.
    cause: str = ""
    #: API timestamp.
    at: str = ""
    metrics: tuple[DecisionMetric, ...] = ()
    problem: str = ""


def read_decision(revision: Object | None) -> Decision | None:
    """Return the controller's last decision on a revision, None if there is none."""
    record, problem = _read_record(revision, keys.DECISION, _DECISION)
    if record is None:
        return Decision(problem=problem) if problem else None
    rows = tuple(DecisionMetric(**row) for row in record.get("metrics", ()))
    return Decision(record["floor"], record["cause"], record["at"], rows)


def format_decision(decision: FloorDecision, at: str) -> str:
    """Return a decision as the annotation's value."""
    rows = [
        {"name": row.name, "replicas": row.replicas, "value": row.usage, "target": row.target}
        for row in decision.proposed
    ]
    record = {"floor": decision.floor, "cause": decision.cause, "at": at, "metrics": rows}
    return json.dumps(record, separators=(",", ":"))


def read_desired_scale(scaler: Object | None) -> int | None:
    """Return the replicas that a PodAutoscaler reports to want, None if it does not know.

    Knative reports -1 until it has metrics (knative.dev/serving pkg/reconciler/autoscaling/kpa/scaler.go, scaleUnknown).
    """
    value = get_at(scaler, "status", "desiredScale")
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= shapes.MAX_COUNT
    return value if known else None


@dataclass(frozen=True, slots=True)
class RevisionEdit:
    """A setting of the autoscaler on a revision that differs from its service's template."""

    revision: Object
    key: str
    value: str | None
    #: The template's value; None if it has none.
    expected: str | None

    def __str__(self) -> str:
        """Return the difference in words."""
        setting = self.key.removeprefix(keys.AUTOSCALING)
        name = self.revision["metadata"]["name"]
        value, expected = ((text or "missing")[:EDIT_LENGTH] for text in (self.value, self.expected))
        return f"revision {name} was edited: {setting} is {value}, and {expected} in its template"

    @property
    def fix(self) -> str:
        """The command that restores the template's value."""
        metadata = self.revision["metadata"]
        value = f"{self.key}-" if self.expected is None else f"{self.key}={self.expected} --overwrite"
        return f"restore it with kubectl annotate revision {metadata['name']} -n {metadata['namespace']} {value}"


def find_revision_edits(top: Object, service: Object | None, revision: Object | None) -> tuple[RevisionEdit, ...]:
    """Return the edited settings of a service's newest revision, apart from those that Ebbtide changes.

    An apply does not change them: Knative copies the template's annotations to a revision only when it creates it.
    """
    metadata, newest = get_at(service, "metadata"), get_at(service, "status", "latestCreatedRevisionName")
    if revision is None or revision["metadata"]["name"] != newest or read_annotation(revision, keys.ROLLOUT):
        return ()
    if get_at(service, "status", "observedGeneration") != get_at(metadata, "generation"):
        return ()
    changed = {*OWN, *(SCALED[name] for name in read_scale_record(top).values)}
    if read_annotation(top, keys.FLOOR) is not None:
        changed.add(keys.MIN_SCALE)
    live = get_at(revision, "metadata", "annotations", default={})
    expected = get_at(service, "spec", "template", "metadata", "annotations", default={})
    return tuple(
        RevisionEdit(revision, key, live.get(key), expected.get(key))
        for key in sorted({*live, *expected} - changed)
        if key.startswith(keys.AUTOSCALING) and live.get(key) != expected.get(key)
    )


def find_unreadable(live: LiveWorkload) -> tuple[str, ...]:
    """Return a sentence for each annotation of a workload that cannot be read, with what is valid."""
    newest = live.revisions[-1] if live.revisions else get_at(live.service, "spec", "template", default={})
    marks = (read(revision) for revision in live.revisions for read in (read_decision, read_mark))
    problems = [
        *_find_document_problems(live.top),
        read_scale_record(live.top).problem,
        *(record.problem for record in marks if record is not None),
        *(
            f"{key} cannot be read: must be {setting.valid}"
            for key, setting in shapes.SETTINGS.items()
            if (value := read_annotation(newest, key)) is not None and setting.read(value) is None
        ),
        *(
            f"{key} cannot be read: must be a name of at most {shapes.MAX_NAME} characters"
            for key in (keys.METRIC, keys.CLASS)
            if read_annotation(newest, key) is not None and shapes.read_name(newest, key) is None
        ),
    ]
    return tuple(dict.fromkeys(filter(None, problems)))


def _find_document_problems(top: Object) -> Iterator[str]:
    try:
        read_spec(top)
    except UnreadableError as error:
        yield f"{keys.SPEC} cannot be read: {error}"
    try:
        read_settings(top)
    except FloorError as error:
        yield str(error)
