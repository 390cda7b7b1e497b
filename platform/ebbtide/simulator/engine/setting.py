"""Autoscaler settings of one workload, read from a spec, from rendered objects, or from annotations.

Upstream: knative.dev/serving v0.51.0, pkg/apis/autoscaling/register.go (annotations), pkg/autoscaler/config/config.go
(``config-autoscaler``), pkg/reconciler/autoscaling/hpa/resources/hpa.go (metrics of class hpa) and
pkg/apis/config/defaults.go (``revision-timeout-seconds``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.autoscaler import hpa
from ebbtide.core.autoscaler.floor import FloorError, FloorSettings, parse_behavior, parse_settings
from ebbtide.core.autoscaler.targets import AutoscalerConfig, RevisionSettings, scale_bounds
from ebbtide.core.base import keys, metrics
from ebbtide.core.base.annotations import SETTINGS, parse_count, parse_finite, parse_seconds
from ebbtide.core.base.quantities import parse_nano
from ebbtide.core.profile import metric_names
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.translate import translate

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile, ProfileSpec
    from ebbtide.core.spec.inference import Inference

Metric = metrics.Signal
#: The signal of each metric of a floor that can be simulated, by the metric's name in the controller's annotation.
FLOOR_SIGNALS: Final[dict[str, Metric]] = {
    row.name if row.engine_field else row.knative or row.name: row.simulated
    for row in metrics.ROWS.values()
    if row.autoscaler == "hpa" and row.simulated is not None
}
#: Knative's default request timeout in seconds.
TIMEOUT: Final = 300.0
#: Maximum replicas of an HPA without a limit.
_NO_LIMIT: Final = (1 << 31) - 1


class NotSimulated(ValueError):  # noqa: N818 - named after the condition, like Problem
    """Raised for a workload that cannot be simulated, with the location, the reason and the fix."""

    def __init__(self, where: str, message: str, fix: str = "") -> None:
        super().__init__(f"{where}: {message}" + (f" ({fix})" if fix else ""))
        self.where = where
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Settings of one workload that its autoscaler reads.

    ``hpa`` is set if an HPA scales the workload; ``metric`` is then the metric of the HPA. ``floor`` is set if Ebbtide's
    controller scales it, in addition to the KPA. ``weighted`` selects the weighted
    average. A request times out ``timeout`` seconds after its arrival. ``version`` is that of Knative, whose latency
    histogram depends on it. ``probed`` is true if the activator can probe a pod's readiness itself, and false if only the
    kubelet can.
    """

    revision: RevisionSettings = field(default_factory=RevisionSettings)
    config: AutoscalerConfig = field(default_factory=AutoscalerConfig)
    metric: Metric = "concurrency"
    container_concurrency: int = 0
    timeout: float = TIMEOUT
    weighted: bool = False
    hpa: hpa.HpaSpec | None = None
    floor: FloorSettings | None = None
    version: str = "1.24"
    probed: bool = True

    @property
    def signals(self) -> tuple[Metric, ...]:
        """Metrics that an HPA or the controller reads, in their order."""
        if self.floor is not None:
            return tuple(FLOOR_SIGNALS[metric.name] for metric in self.floor.metrics)
        return () if self.hpa is None else (self.metric,)


def read_spec_setting(inference: Inference, profile: Profile) -> Setting:
    """Return the setting of a spec as it would be rendered for ``profile``.

    Raises NotSimulated if the spec does not render or cannot be simulated.
    """
    translation = translate(inference, profile, "{}")
    if not translation.objects:
        reasons = [
            f"{problem.path}: {problem.message}" for problem in translation.problems if problem.severity == "error"
        ]
        raise NotSimulated(inference.metadata.name or "spec", "the spec cannot be rendered: " + "; ".join(reasons))
    return from_objects(translation.objects, profile.spec)


def from_objects(objects: Sequence[Object], cluster: ProfileSpec) -> Setting:
    """Return the setting of rendered objects: a Knative Service, or an InferenceService with its autoscaler.

    Raises NotSimulated.
    """
    by_kind = {item["kind"]: item for item in objects}
    if "Service" in by_kind and by_kind["Service"]["apiVersion"].startswith("serving.knative.dev/"):
        template = by_kind["Service"]["spec"]["template"]
        spec = template["spec"]
        cpu_requests = [_get_cpu_request(container) for container in spec.get("containers", ())]
        return from_annotations(
            template.get("metadata", {}).get("annotations") or {},
            cluster,
            container_concurrency=spec.get("containerConcurrency"),
            timeout=spec.get("timeoutSeconds"),
            cpu_request=any(cpu_requests),
            probed=not any(map(_needs_kubelet_probe, spec.get("containers", ()))),
            floor=read_floor(by_kind["Service"]),
        )
    if "LLMInferenceService" in by_kind:
        raise NotSimulated(
            "spec.serving",
            "an LLMInferenceService is not simulated, because its endpoint picker chooses the replica by load",
            "simulate the spec with serving: kserve-standard",
        )
    if "InferenceService" not in by_kind:
        raise NotSimulated("objects", "they contain neither a Knative Service nor an InferenceService")
    service = by_kind["InferenceService"]
    predictor = service["spec"]["predictor"]
    annotations = {
        **(predictor.get("annotations") or {}),
        keys.MIN_SCALE: str(predictor.get("minReplicas", 1)),
        keys.MAX_SCALE: str(predictor.get("maxReplicas", 0)),
    }
    mode = (service["metadata"].get("annotations") or {}).get(keys.DEPLOYMENT_MODE, "Knative")
    if mode in {"Standard", "RawDeployment"}:
        return _read_standard_setting(by_kind, predictor, cluster)
    container: Mapping[str, Any] = predictor.get("model") or next(iter(predictor.get("containers") or ()), {})
    return from_annotations(
        annotations,
        cluster,
        container_concurrency=predictor.get("containerConcurrency"),
        timeout=predictor.get("timeout"),
        cpu_request=bool(_get_cpu_request(container)),
        probed=not _needs_kubelet_probe(container),
        floor=read_floor(service),
    )


def read_floor(top: Object) -> FloorSettings | None:
    """Return the settings of a workload's floor; raise NotSimulated for a metric whose values depend on other things."""
    text = (top["metadata"].get("annotations") or {}).get(keys.FLOOR)
    if text is None:
        return None
    try:
        settings = parse_settings(text)
    except FloorError as error:
        raise NotSimulated(keys.FLOOR, str(error)) from error
    for metric in settings.metrics:
        if metric.name not in FLOOR_SIGNALS:
            raise NotSimulated(
                keys.FLOOR,
                f"metric {metric.name} cannot be simulated, because its meaning is unknown",
                "simulate the spec without it",
            )
    return settings


def from_annotations(
    annotations: Mapping[str, str],
    cluster: ProfileSpec,
    *,
    container_concurrency: int | None = None,
    timeout: float | None = None,
    cpu_request: bool = True,
    probed: bool = True,
    floor: FloorSettings | None = None,
) -> Setting:
    """Return the setting of a revision's annotations; arguments that are None take the cluster's defaults.

    Raises NotSimulated.
    """
    defaults = cluster.knative.defaults
    limit = _parse_count("container-concurrency", defaults.get("container-concurrency", "0"))
    limit = limit if container_concurrency is None else container_concurrency
    seconds = _parse_number("revision-timeout-seconds", defaults.get("revision-timeout-seconds", str(TIMEOUT)))
    kind = annotations.get(keys.CLASS, cluster.knative.autoscaler.get("pod-autoscaler-class", keys.CLASS_KPA))
    fields = _read_fields(RevisionSettings, annotations, keys.AUTOSCALING, progress_deadline=keys.PROGRESS_DEADLINE)
    config = read_autoscaler_config(cluster)
    metric = annotations.get(keys.METRIC)
    hpa_spec = None
    if kind == keys.CLASS_HPA:
        metric = _find_hpa_metric(metric or "cpu", cluster)
        if metric == "cpu" and not cpu_request:
            raise NotSimulated(keys.METRIC, "metric cpu requires a CPU request, and none is set", "set a CPU request")
        hpa_spec = _make_class_hpa(metric, RevisionSettings(**fields), config)
    elif kind != keys.CLASS_KPA:
        raise NotSimulated(keys.CLASS, f"autoscaler class {kind} is not supported", f"use {keys.CLASS_KPA}")
    elif metric not in {None, "concurrency", "rps"}:
        raise NotSimulated(keys.METRIC, f"the KPA does not support metric {metric}", "use concurrency or rps")
    return Setting(
        revision=RevisionSettings(
            # Of an HPA's settings, the KPA's arithmetic uses only the bounds.
            metric="concurrency" if hpa_spec is not None or metric is None else metric,
            container_concurrency=limit,
            **fields,
        ),
        config=config,
        metric=metric or "concurrency",  # type: ignore[arg-type] # checked above
        container_concurrency=limit,
        timeout=seconds if timeout is None else float(timeout),
        weighted=annotations.get(keys.AGGREGATION) in {"weighted-exponential", "weightedExponential"},
        hpa=hpa_spec,
        floor=floor,
        version=cluster.knative.version,
        probed=probed,
    )


def read_autoscaler_config(cluster: ProfileSpec) -> AutoscalerConfig:
    """Return the ``config-autoscaler`` of a cluster. Raises NotSimulated for a value that is not a valid number."""
    autoscaler = cluster.knative.autoscaler
    deadline = {"progress-deadline": cluster.knative.deployment.get("progress-deadline")}
    fields = _read_fields(
        AutoscalerConfig, {**autoscaler, **deadline}, rps_target_default="requests-per-second-target-default"
    )
    share = "container-concurrency-target-percentage"
    if share in autoscaler:
        # A number up to 1 is a fraction. Upstream: autoscaler/config.NewConfigFromMap.
        percentage = _parse_number(share, autoscaler[share])
        fields["container_concurrency_target_fraction"] = percentage if percentage <= 1 else percentage / 100
    return AutoscalerConfig(**fields)


def knative_defaults(setting: Setting) -> Setting:
    """Return Knative's defaults with the bounds of ``setting``: default target, no concurrency limit, no delays."""
    minimum, maximum = get_replica_bounds(setting)
    return Setting(revision=RevisionSettings(min_scale=minimum, max_scale=maximum), timeout=setting.timeout)


def get_replica_bounds(setting: Setting) -> tuple[int, int]:
    """Return the minimum and maximum replicas; the maximum is 0 if there is no limit."""
    if setting.hpa is not None:
        maximum = setting.hpa.max_replicas
        return setting.hpa.min_replicas, 0 if maximum == _NO_LIMIT else maximum
    return scale_bounds(setting.revision, setting.config)


def _find_hpa_metric(metric: str, cluster: ProfileSpec) -> Metric:
    cluster_metrics = cluster.metrics
    for row in metrics.ROWS.values():
        names = (
            *metric_names.list_served_names(row, cluster_metrics.names),
            metric_names.find_standard_name(row, cluster_metrics),
        )
        if row.autoscaler == "hpa" and row.simulated is not None and metric in names:
            return row.simulated
    *others, last = (row.name for row in metrics.ROWS.values() if row.simulated is not None)
    raise NotSimulated(
        keys.METRIC,
        f"metric {metric} cannot be simulated, because its meaning is unknown",
        f"use {', '.join(others)} or {last}",
    )


def _make_class_hpa(metric: Metric, revision: RevisionSettings, config: AutoscalerConfig) -> hpa.HpaSpec:
    """Return the HPA that class hpa creates: an integer target, and one window for both directions."""
    minimum = config.min_scale if revision.min_scale is None else revision.min_scale
    maximum = config.max_scale if revision.max_scale is None else revision.max_scale
    behavior = None
    if revision.window is not None:
        window = hpa.ScalingRules(stabilization_window_seconds=int(revision.window))
        behavior = hpa.ScalingBehavior(scale_up=window, scale_down=window)
    return hpa.HpaSpec(
        min_replicas=max(minimum, 1),
        max_replicas=maximum or _NO_LIMIT,
        metrics=(_make_hpa_metric(metric, revision.target),),
        behavior=behavior,
    )


def _make_hpa_metric(metric: Metric, target: float | None) -> hpa.Metric:
    if metric == "cpu":
        return hpa.ResourceMetric(average_utilization=math.ceil(target) if target is not None else 80)
    if target is None:
        raise NotSimulated(keys.TARGET, f"class hpa on {metric} without a target scales on CPU instead", "set a target")
    if int(target) < 1:
        raise NotSimulated(keys.TARGET, f"class hpa truncates {target:g} to 0, which the API rejects", "use at least 1")
    return hpa.PodsMetric(average_value=int(target) * 1000)


def _read_standard_setting(
    by_kind: Mapping[str, Object], predictor: Mapping[str, Any], cluster: ProfileSpec
) -> Setting:
    """Return the setting of a KServe Standard deployment with Ebbtide's HPA, or with a fixed number of replicas."""
    timeout = float(predictor.get("timeout") or TIMEOUT)
    if "ScaledObject" in by_kind:
        raise NotSimulated(
            "spec.serving",
            "KEDA is not simulated, because it polls at its own interval",
            "simulate the spec with an HPA",
        )
    if "HorizontalPodAutoscaler" not in by_kind:
        fixed = int(predictor.get("minReplicas", 1))
        spec = hpa.HpaSpec(min_replicas=fixed, max_replicas=fixed)
        return Setting(metric="cpu", timeout=timeout, hpa=spec)
    hpa_spec = by_kind["HorizontalPodAutoscaler"]["spec"]
    entry = hpa_spec["metrics"][0]
    if entry["type"] == "Resource":
        metric: Metric = "cpu"
        target: hpa.Metric = hpa.ResourceMetric(
            average_utilization=int(entry["resource"]["target"]["averageUtilization"])
        )
    else:
        metric = _find_hpa_metric(entry["pods"]["metric"]["name"], cluster)
        value = (parse_nano(entry["pods"]["target"]["averageValue"]) or 0) // 1_000_000
        if value < 1:
            raise NotSimulated("averageValue", "must be a number above 0")
        target = hpa.PodsMetric(average_value=value)
    written = hpa_spec.get("behavior")
    spec = hpa.HpaSpec(
        min_replicas=int(hpa_spec.get("minReplicas") or 1),
        max_replicas=int(hpa_spec["maxReplicas"]),
        metrics=(target,),
        behavior=None if written is None else parse_behavior(written),
    )
    return Setting(metric=metric, timeout=timeout, hpa=spec)


def _needs_kubelet_probe(container: Mapping[str, Any]) -> bool:
    """Return whether only the kubelet can check that a container is ready.

    Upstream: knative.dev/serving pkg/activator/net/revision_backends.go, enableProbeOptimisation.
    """
    return "startupProbe" in container or "exec" in (container.get("readinessProbe") or {})


def _get_cpu_request(container: Mapping[str, Any]) -> str | None:
    resources = container.get("resources") or {}
    return (resources.get("requests") or resources.get("limits") or {}).get("cpu")


def _parse_duration(key: str, text: str) -> float:
    """Parse a Go duration of one or more units, as in 1m30s."""
    seconds = parse_seconds(text.strip())
    if seconds is None:
        raise NotSimulated(key, f"invalid duration {text[:80]!r}", "use a Go duration, as in 60s")
    return seconds


def _parse_number(key: str, text: str) -> float:
    value = parse_finite(text)
    if value is None:
        raise NotSimulated(key, f"invalid value {text[:80]!r}: must be a number")
    return value


def _parse_count(key: str, text: str) -> int:
    value = parse_count(text)
    if value is None:
        raise NotSimulated(key, f"invalid value {text[:80]!r}: must be a whole number of at least 0")
    return value


#: Parsers of annotations and of ``config-autoscaler``, by the name of the field that each sets.
_READERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "window": _parse_duration,
    "stable_window": _parse_duration,
    "scale_down_delay": _parse_duration,
    "scale_to_zero_grace_period": _parse_duration,
    "scale_to_zero_pod_retention_period": _parse_duration,
    "progress_deadline": _parse_duration,
    "min_scale": _parse_count,
    "max_scale": _parse_count,
    "initial_scale": _parse_count,
    "activation_scale": _parse_count,
    "target": _parse_number,
    "target_utilization_percentage": _parse_number,
    "target_burst_capacity": _parse_number,
    "panic_window_percentage": _parse_number,
    "panic_threshold_percentage": _parse_number,
    "container_concurrency_target_default": _parse_number,
    "rps_target_default": _parse_number,
    "activator_capacity": _parse_number,
    "max_scale_up_rate": _parse_number,
    "max_scale_down_rate": _parse_number,
    "enable_scale_to_zero": lambda _, text: text == "true",
    "allow_zero_initial_scale": lambda _, text: text == "true",
}


def _read_fields(
    kind: type[AutoscalerConfig | RevisionSettings],
    texts: Mapping[str, str | None],
    prefix: str = "",
    **exceptions: str,
) -> dict[str, Any]:
    """Return the fields of ``kind`` that are set. A key is the field's name with hyphens, except those in ``exceptions``."""
    fields = {}
    for name, reader in _READERS.items():
        key = exceptions.get(name, prefix + name.replace("_", "-"))
        text = texts.get(key)
        if text is not None and name in kind.__dataclass_fields__:
            fields[name] = reader(key, text)
            allowed = SETTINGS.get(key)
            if allowed is not None and allowed.read(text) is None:
                raise NotSimulated(key, f"invalid value {text[:80]!r}: must be {allowed.valid}")
    return fields
