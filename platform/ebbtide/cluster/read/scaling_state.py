"""Scaling of a workload: its ready, desired, minimum and maximum replicas, and its scaling metric."""

from __future__ import annotations

from typing import Final

from ebbtide.cluster.client.protocol import LLM
from ebbtide.cluster.read import inventory
from ebbtide.cluster.read import pods as of_pod
from ebbtide.cluster.read.inventory import LiveWorkload
from ebbtide.cluster.read.records import read_desired_scale, serving_revisions
from ebbtide.cluster.read.revision_state import list_current_revisions, list_revision_pods
from ebbtide.core.autoscaler import targets
from ebbtide.core.autoscaler.floor import FloorError, FloorSettings, read_settings
from ebbtide.core.base import annotations as shapes
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.annotations import UnreadableError
from ebbtide.core.base.bodies import body
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.quantities import NANO, format_number, parse_nano
from ebbtide.core.translation.objects import Object

#: Seconds for which an HPA may have no value before that is trouble: several scrapes and evaluations.
BLIND_SECONDS: Final = 45.0
#: The metrics' names in Knative's annotations.
KNATIVE_METRICS: Final = {row.knative for row in metrics.ROWS.values()}


@body()
class Replicas:
    """Numbers of ready, desired, minimum and maximum replicas; ``maximum`` 0 means unlimited."""

    ready: int
    wanted: int
    minimum: int
    maximum: int

    @property
    def is_fixed(self) -> bool:
        """True if no load changes the number of replicas."""
        return 0 < self.minimum == self.maximum

    def __str__(self) -> str:
        """Return the compact form: ``1/2 (0..4)``."""
        bounds = f"{self.minimum}..{self.maximum or ''}" if self.minimum != self.maximum else f"{self.minimum}"
        return f"{self.ready}/{self.wanted} ({bounds})"


@body()
class RevisionLoad:
    """The value per replica that the autoscaler of one revision aims at, and the current one if it is known."""

    name: str
    aim: str
    now: str = ""


@body("name target now revisions")
class ScalingMetric:
    """The scaling metric: its name, the target per replica, and its current value if the cluster reports it."""

    name: str
    target: str
    now: str = ""
    #: The value that the autoscaler aims at, if it differs from the target: the KPA multiplies by the target utilization.
    aim: str = ""
    #: The load of each revision, newest first, if several have traffic: each has its own autoscaler. ``now`` is the first.
    revisions: tuple[RevisionLoad, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The current value and the one that the autoscaler aims at: of each revision if several have traffic."""
        return [(row.now, row.aim) for row in self.revisions] or [(self.now, self.aim or self.target)]

    def __str__(self) -> str:
        """Return the compact form, as on the page: ``concurrency -/7``, ``latency 620/1000 ms``."""
        row = metrics.ROWS.get(self.name)
        words = () if row is None else row.unit_label.split()
        unit = " ms" if "ms" in words else "%" if "%" in words else ""
        pairs = (f"{_round(now) or '-'}/{_round(aim)}{unit}" for now, aim in self.pairs)
        return f"{self.name} {', '.join(pairs)}"

    def describe(self) -> str:
        """Return the compact form with the threshold of the spec, if the autoscaler aims at another value."""
        return f"{self}; the threshold is {self.target}" if self.aim not in {"", self.target} else str(self)


def _round(quantity: str) -> str:
    """Return a Kubernetes quantity as a number with three digits, or a whole one."""
    nanos = parse_nano(quantity)
    if nanos is None:
        return quantity
    value = nanos / NANO
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - four digits


def measures_requests(name: str) -> bool:
    """Return whether a metric has a value only while there are requests."""
    row = metrics.ROWS.get(name)
    return row is not None and row.source == "histogram"


def describe_blind_hpa(live: LiveWorkload, replicas: Replicas) -> str:
    """Return that an HPA cannot read its metric; empty if it can, or if the metric needs requests or ready replicas."""
    metric = find_scaling_metric(live)
    if metric is None or metric.now or not replicas.ready or measures_requests(metric.name):
        return ""
    for hpa in live.hpas:
        active = of_pod.find_condition(hpa, "ScalingActive")
        settled = live.now - inventory.parse_timestamp(active.get("lastTransitionTime")) > BLIND_SECONDS
        if active.get("status") == "False" and str(active.get("reason", "")).startswith("FailedGet") and settled:
            return f"the HPA cannot read metric {metric.name}, so the number of replicas does not change"
    return ""


def compute_replicas(live: LiveWorkload) -> Replicas:
    """Return the replicas of the revisions that serve or start."""
    current = list_current_revisions(live)
    ready = sum(of_pod.is_ready(pod) for name in current for pod in list_revision_pods(live, name))
    if live.service is None:
        deployment = live.deployments[0] if live.deployments else None
        low = get_at(live.top, "spec", "predictor", "minReplicas", default=1)
        high = get_at(live.top, "spec", "predictor", "maxReplicas", default=low)
        if live.top["kind"] == LLM.name:
            low = get_at(live.top, "spec", "scaling", "minReplicas") or get_at(live.top, "spec", "replicas", default=1)
            high = get_at(live.top, "spec", "scaling", "maxReplicas", default=low)
        for hpa in live.hpas:
            low, high = (
                get_at(hpa, "spec", "minReplicas", default=low),
                get_at(hpa, "spec", "maxReplicas", default=high),
            )
        return Replicas(ready, get_at(deployment, "spec", "replicas", default=0), low, high)
    desired = sum(desired_replicas(live, name) for name in current)
    # The bounds on the serving revision are in effect, whichever field manager set them.
    serving = get_at(live.service, "status", "latestReadyRevisionName") or (current[0] if current else "")
    low, high = _read_scale_bounds(live, serving)
    return Replicas(ready, desired, low, high)


def desired_replicas(live: LiveWorkload, revision: str) -> int:
    scaler = inventory.find_by_name(live.scalers, revision)
    desired = read_desired_scale(scaler)
    # An HPA without a metric value reports 0, although it never goes below its minimum.
    undecided = desired == 0 and shapes.read_annotation(scaler, keys.CLASS) == keys.CLASS_HPA
    if desired is not None and not undecided:
        return desired
    deployment = next(
        (deployment for deployment in live.deployments if deployment["metadata"]["name"].startswith(f"{revision}-")),
        None,
    )
    return int(get_at(deployment, "spec", "replicas", default=0))


def _read_scale_bounds(live: LiveWorkload, revision: str) -> tuple[int, int]:
    serving = inventory.find_by_name(live.revisions, revision)
    annotations = get_at(serving, "metadata", "annotations") or get_at(
        live.service, "spec", "template", "metadata", "annotations", default={}
    )
    floor = read_floor_settings(live.top)
    low = shapes.parse_count(annotations.get(keys.MIN_SCALE)) if floor is None else floor.minimum
    return low or 0, shapes.parse_count(annotations.get(keys.MAX_SCALE)) or 0


def read_floor_settings(top: Object) -> FloorSettings | None:
    """Return what Ebbtide's controller decides by, None for a workload that it does not scale or cannot read."""
    try:
        return read_settings(top)
    except FloorError:
        return None


def find_scaling_metric(live: LiveWorkload) -> ScalingMetric | None:
    """Return the scaling metric, from the HPA or from the newest revision's annotations."""
    for hpa in live.hpas:
        spec = get_at(hpa, "spec", "metrics", 0, default={})
        name, target = read_hpa_metric(spec)
        if name:
            now = next((read_hpa_value(row) for row in get_at(hpa, "status", "currentMetrics", default=[])), "")
            return ScalingMetric(_name_in_spec(live, name), target, now)
    current = list_current_revisions(live)
    newest = inventory.find_by_name(live.revisions, current[0]) if current else None
    floor = read_floor_settings(live.top)
    if floor is not None and floor.metrics:
        first = floor.metrics[0]
        return ScalingMetric(_name_in_spec(live, first.name), format_number(first.target))
    metric, threshold = shapes.read_name(newest, keys.METRIC), shapes.read_setting(newest, keys.TARGET)
    if metric is None or threshold is None:
        return None
    served = [row for row in reversed(live.revisions) if row["metadata"]["name"] in serving_revisions(live)]
    loads = [RevisionLoad(row["metadata"]["name"], _find_aim(live, row)) for row in served]
    return ScalingMetric(
        _name_in_spec(live, metric),
        format_number(threshold),
        aim=_find_aim(live, newest),
        revisions=tuple(row for row in loads if row.aim) if len(loads) > 1 else (),
    )


def _find_aim(live: LiveWorkload, revision: Object | None) -> str:
    """Return the value that the KPA aims at; empty if another autoscaler decides, or without a target."""
    metric, target = shapes.read_name(revision, keys.METRIC), shapes.read_setting(revision, keys.TARGET)
    kind = shapes.read_name(revision, keys.CLASS) or keys.CLASS_KPA
    if kind != keys.CLASS_KPA or metric is None or target is None:
        return ""
    default = shapes.parse_finite((live.settings or {}).get("container-concurrency-target-percentage")) or 70
    # A percentage up to 1 is a fraction (autoscalerconfig.Config).
    config = targets.AutoscalerConfig(container_concurrency_target_fraction=default if default <= 1 else default / 100)
    resolved, _ = targets.resolve_metric_target(
        targets.RevisionSettings(
            metric=metric,
            container_concurrency=get_at(revision, "spec", "containerConcurrency", default=0),
            target=target,
            target_utilization_percentage=shapes.read_setting(revision, keys.TARGET_UTILIZATION),
        ),
        config,
    )
    return format_number(round(resolved, 3))


def _name_in_spec(live: LiveWorkload, name: str) -> str:
    """Return a metric's name as the stored spec has it; the cluster's own name if the live metric is another one."""
    try:
        written = get_at(shapes.read_spec(live.top), "autoscaling", "metric", default="")
    except UnreadableError:
        return name
    row = metrics.ROWS.get(written) if isinstance(written, str) else None
    return name if row is None or (name in KNATIVE_METRICS and name != row.knative) else row.name


def read_hpa_metric(spec: Object) -> tuple[str, str]:
    kind = str(spec.get("type", ""))
    part = spec.get(kind[:1].lower() + kind[1:], {})
    name = part.get("name") or get_at(part, "metric", "name", default="")
    target = part.get("target", {})
    percent = target.get("averageUtilization")
    return name, f"{percent}%" if percent is not None else format_metric_quantity(
        target.get("averageValue") or target.get("value") or "-"
    )


def read_hpa_value(row: Object) -> str:
    kind = str(row.get("type", ""))
    current = get_at(row, kind[:1].lower() + kind[1:], "current", default={})
    percent = current.get("averageUtilization")
    return (
        f"{percent}%"
        if percent is not None
        else format_metric_quantity(current.get("averageValue") or current.get("value") or "")
    )


def format_metric_quantity(text: str | float) -> str:
    """Return a quantity as a plain number: 728.645 for ``728645m``; an invalid quantity is returned unchanged."""
    billionths = parse_nano(text)
    return str(text) if billionths is None else format_number(billionths / NANO)
