"""Everything that an autoscaler reads of one workload: from a spec, from rendered objects, or from annotations.

Upstream: knative.dev/serving v0.48.1, pkg/apis/autoscaling/register.go (annotations), pkg/autoscaler/config/config.go
(``config-autoscaler``), pkg/reconciler/autoscaling/hpa/resources/hpa.go (what class hpa makes of a metric) and
pkg/apis/config/defaults.go (``revision-timeout-seconds``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebbtide.autoscaler import hpa
from ebbtide.autoscaler.targets import Config, Revision, scale_bounds
from ebbtide.base import keys, metrics
from ebbtide.base.quantities import nano
from ebbtide.profile import metric_names
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebbtide.profile.models import Profile, ProfileSpec
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object

Metric = metrics.Signal
#: Seconds that Knative gives a request where nothing says otherwise.
TIMEOUT: Final = 300.0
#: What an HPA without a limit may go to.
_ENDLESS: Final = (1 << 31) - 1
_ALGORITHM: Final = keys.AUTOSCALING + "metric-aggregation-algorithm"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class NotSimulated(ValueError):  # noqa: N818 - it names what is so, as Problem does
    """A workload that cannot be simulated: where, why, and what can be."""

    def __init__(self, where: str, message: str, fix: str = "") -> None:
        """Keep the parts beside the sentence."""
        super().__init__(f"{where}: {message}" + (f" ({fix})" if fix else ""))
        self.where = where
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One workload as its autoscaler sees it.

    ``hpa`` is there where an HPA scales it, and ``metric`` is what that one reads. ``weighted`` chooses the weighted
    average. A request is given up ``timeout`` seconds after it came. ``version`` is Knative's: by it the histogram of
    latency differs. ``probed`` says whether an activator may trust a pod's own word that it is ready: not where a probe is
    the kubelet's alone.
    """

    revision: Revision = field(default_factory=Revision)
    config: Config = field(default_factory=Config)
    metric: Metric = "concurrency"
    container_concurrency: int = 0
    timeout: float = TIMEOUT
    weighted: bool = False
    hpa: hpa.Spec | None = None
    version: str = "1.21"
    probed: bool = True


def of(inference: Inference, profile: Profile) -> Setting:
    """Return the setting of a spec as it would be rendered for ``profile``.

    Raises NotSimulated where it does not render, or cannot be simulated.
    """
    made = translate(inference, profile, "{}")
    if not made.objects:
        reasons = [f"{each.path}: {each.message}" for each in made.problems if each.severity == "error"]
        raise NotSimulated(inference.metadata.name or "spec", "it cannot be rendered: " + "; ".join(reasons))
    return from_objects(made.objects, profile.spec)


def from_objects(objects: Sequence[Object], cluster: ProfileSpec) -> Setting:
    """Return the setting of rendered objects: a Knative Service, or an InferenceService with what scales it.

    Raises NotSimulated.
    """
    by_kind = {item["kind"]: item for item in objects}
    if "Service" in by_kind and by_kind["Service"]["apiVersion"].startswith("serving.knative.dev/"):
        template = by_kind["Service"]["spec"]["template"]
        spec = template["spec"]
        requested = [_cpu(container) for container in spec.get("containers", ())]
        return from_annotations(
            template.get("metadata", {}).get("annotations") or {},
            cluster,
            container_concurrency=spec.get("containerConcurrency"),
            timeout=spec.get("timeoutSeconds"),
            cpu_request=any(requested),
            probed=not any(map(_by_kubelet, spec.get("containers", ()))),
        )
    if "InferenceService" not in by_kind:
        raise NotSimulated("objects", "there is neither a Knative Service nor an InferenceService among them")
    service = by_kind["InferenceService"]
    predictor = service["spec"]["predictor"]
    annotations = {
        **(predictor.get("annotations") or {}),
        keys.MIN_SCALE: str(predictor.get("minReplicas", 1)),
        keys.MAX_SCALE: str(predictor.get("maxReplicas", 0)),
    }
    mode = (service["metadata"].get("annotations") or {}).get(keys.DEPLOYMENT_MODE, "Knative")
    if mode in {"Standard", "RawDeployment"}:
        return _standard(by_kind, predictor, cluster)
    container: Mapping[str, Any] = predictor.get("model") or next(iter(predictor.get("containers") or ()), {})
    return from_annotations(
        annotations,
        cluster,
        container_concurrency=predictor.get("containerConcurrency"),
        timeout=predictor.get("timeout"),
        cpu_request=bool(_cpu(container)),
        probed=not _by_kubelet(container),
    )


def from_annotations(
    annotations: Mapping[str, str],
    cluster: ProfileSpec,
    *,
    container_concurrency: int | None = None,
    timeout: float | None = None,
    cpu_request: bool = True,
    probed: bool = True,
) -> Setting:
    """Return the setting of a revision's annotations; what is None comes from the cluster's defaults.

    Raises NotSimulated.
    """
    defaults = cluster.knative.defaults
    limit = _count("container-concurrency", defaults.get("container-concurrency", "0"))
    limit = limit if container_concurrency is None else container_concurrency
    seconds = _number("revision-timeout-seconds", defaults.get("revision-timeout-seconds", str(TIMEOUT)))
    kind = annotations.get(keys.CLASS, cluster.knative.autoscaler.get("pod-autoscaler-class", keys.CLASS_KPA))
    read = _read(Revision, annotations, keys.AUTOSCALING, progress_deadline=keys.PROGRESS_DEADLINE)
    config = configured(cluster)
    metric = annotations.get(keys.METRIC)
    scaler = None
    if kind == keys.CLASS_HPA:
        metric = _hpa_metric(metric or "cpu", cluster)
        if metric == "cpu" and not cpu_request:
            raise NotSimulated(keys.METRIC, "cpu is a share of the CPU request, and there is none", "request some CPU")
        scaler = _of_class_hpa(metric, Revision(**read), config)
    elif kind != keys.CLASS_KPA:
        raise NotSimulated(keys.CLASS, f"{kind} is an autoscaler of someone else", f"use {keys.CLASS_KPA}")
    elif metric not in {None, "concurrency", "rps"}:
        raise NotSimulated(keys.METRIC, f"the KPA knows no {metric}", "use concurrency or rps")
    return Setting(
        revision=Revision(
            # Of what an HPA reads only the bounds mean something to the KPA's arithmetic.
            metric="concurrency" if scaler is not None or metric is None else metric,
            container_concurrency=limit,
            **read,
        ),
        config=config,
        metric=metric or "concurrency",  # type: ignore[arg-type] # checked above
        container_concurrency=limit,
        timeout=seconds if timeout is None else float(timeout),
        weighted=annotations.get(_ALGORITHM) == "weighted-exponential",
        hpa=scaler,
        version=cluster.knative.version,
        probed=probed,
    )


def configured(cluster: ProfileSpec) -> Config:
    """Return ``config-autoscaler`` of a cluster. Raises NotSimulated for what is no number."""
    given = cluster.knative.autoscaler
    deadline = {"progress-deadline": cluster.knative.deployment.get("progress-deadline")}
    read = _read(Config, {**given, **deadline}, rps_target_default="requests-per-second-target-default")
    share = "container-concurrency-target-percentage"
    if share in given:
        # A number up to 1 is a fraction. Upstream: autoscaler/config.NewConfigFromMap.
        percentage = _number(share, given[share])
        read["container_concurrency_target_fraction"] = percentage if percentage <= 1 else percentage / 100
    return Config(**read)


def knative_defaults(setting: Setting) -> Setting:
    """Return what Knative does where nobody asks for anything but the bounds: its own target, no limit, no delays."""
    least, most = bounds(setting)
    return Setting(revision=Revision(min_scale=least, max_scale=most), timeout=setting.timeout)


def bounds(setting: Setting) -> tuple[int, int]:
    """Return the least and the greatest number of replicas; the second is 0 without a limit."""
    if setting.hpa is not None:
        most = setting.hpa.max_replicas
        return setting.hpa.min_replicas, 0 if most == _ENDLESS else most
    return scale_bounds(setting.revision, setting.config)


def _hpa_metric(metric: str, cluster: ProfileSpec) -> Metric:
    own = cluster.metrics
    for row in metrics.ROWS.values():
        names = (*metric_names.served(row, own.names), metric_names.standard(row, own))
        if row.autoscaler == "hpa" and row.simulated is not None and metric in names:
            return row.simulated
    *others, last = (row.name for row in metrics.ROWS.values() if row.simulated is not None)
    raise NotSimulated(
        keys.METRIC,
        f"what {metric} counts is not known, so its course cannot be foretold",
        f"simulate with {', '.join(others)} or {last}",
    )


def _of_class_hpa(metric: Metric, revision: Revision, config: Config) -> hpa.Spec:
    """Return the HPA that class hpa makes: a whole target, and a window for both directions."""
    least = config.min_scale if revision.min_scale is None else revision.min_scale
    most = config.max_scale if revision.max_scale is None else revision.max_scale
    behavior = None
    if revision.window is not None:
        window = hpa.ScalingRules(stabilization_window_seconds=int(revision.window))
        behavior = hpa.Behavior(scale_up=window, scale_down=window)
    return hpa.Spec(
        min_replicas=max(least, 1),
        max_replicas=most or _ENDLESS,
        metrics=(_target(metric, revision.target),),
        behavior=behavior,
    )


def _target(metric: Metric, target: float | None) -> hpa.Metric:
    if metric == "cpu":
        return hpa.Resource(average_utilization=math.ceil(target) if target is not None else 80)
    if target is None:
        raise NotSimulated(keys.TARGET, f"class hpa on {metric} without a target scales on CPU instead", "set a target")
    if int(target) < 1:
        raise NotSimulated(keys.TARGET, f"class hpa cuts {target:g} to 0, which the API refuses", "use 1 or more")
    return hpa.Pods(average_value=int(target) * 1000)


def _standard(by_kind: Mapping[str, Object], predictor: Mapping[str, Any], cluster: ProfileSpec) -> Setting:
    """Return the setting of a KServe Standard deployment with our own HPA, or with a fixed number of replicas."""
    timeout = float(predictor.get("timeout") or TIMEOUT)
    if "ScaledObject" in by_kind:
        raise NotSimulated(
            "spec.serving", "KEDA polls in its own time, which is not simulated", "simulate it with an HPA"
        )
    if "HorizontalPodAutoscaler" not in by_kind:
        fixed = int(predictor.get("minReplicas", 1))
        spec = hpa.Spec(min_replicas=fixed, max_replicas=fixed)
        return Setting(metric="cpu", timeout=timeout, hpa=spec)
    given = by_kind["HorizontalPodAutoscaler"]["spec"]
    entry = given["metrics"][0]
    if entry["type"] == "Resource":
        metric: Metric = "cpu"
        target: hpa.Metric = hpa.Resource(average_utilization=int(entry["resource"]["target"]["averageUtilization"]))
    else:
        metric = _hpa_metric(entry["pods"]["metric"]["name"], cluster)
        value = (nano(entry["pods"]["target"]["averageValue"]) or 0) // 1_000_000
        if value < 1:
            raise NotSimulated("averageValue", "it is no number above 0")
        target = hpa.Pods(average_value=value)
    down = ((given.get("behavior") or {}).get("scaleDown") or {}).get("stabilizationWindowSeconds")
    behavior = None
    if down is not None:
        behavior = hpa.Behavior(scale_down=hpa.ScalingRules(stabilization_window_seconds=int(down)))
    spec = hpa.Spec(
        min_replicas=int(given.get("minReplicas") or 1),
        max_replicas=int(given["maxReplicas"]),
        metrics=(target,),
        behavior=behavior,
    )
    return Setting(metric=metric, timeout=timeout, hpa=spec)


def _by_kubelet(container: Mapping[str, Any]) -> bool:
    """Say whether only the kubelet can tell that a container is ready.

    Upstream: knative.dev/serving pkg/activator/net/revision_backends.go, enableProbeOptimisation.
    """
    return "startupProbe" in container or "exec" in (container.get("readinessProbe") or {})


def _cpu(container: Mapping[str, Any]) -> str | None:
    resources = container.get("resources") or {}
    return (resources.get("requests") or resources.get("limits") or {}).get("cpu")


def _duration(key: str, text: str) -> float:
    """Read Go's duration of one unit or more: 1m30s."""
    total, rest = 0.0, text.strip()
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((unit for unit in _UNITS if rest[digits:].startswith(unit)), None)
        if not digits or unit is None:
            raise NotSimulated(key, f"{text!r} is no duration", "write 60s")
        total += _number(key, rest[:digits]) * _UNITS[unit]
        rest = rest[digits + len(unit) :]
    return total


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise NotSimulated(key, f"{text!r} is no number") from None


def _count(key: str, text: str) -> int:
    if not text.isdecimal():
        raise NotSimulated(key, f"{text!r} is no whole number of 0 or more")
    return int(text)


#: Readers of annotations and of ``config-autoscaler``, by the name of the field that each sets.
_READERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "window": _duration,
    "stable_window": _duration,
    "scale_down_delay": _duration,
    "scale_to_zero_grace_period": _duration,
    "scale_to_zero_pod_retention_period": _duration,
    "progress_deadline": _duration,
    "min_scale": _count,
    "max_scale": _count,
    "initial_scale": _count,
    "activation_scale": _count,
    "target": _number,
    "target_utilization_percentage": _number,
    "target_burst_capacity": _number,
    "panic_window_percentage": _number,
    "panic_threshold_percentage": _number,
    "container_concurrency_target_default": _number,
    "rps_target_default": _number,
    "activator_capacity": _number,
    "max_scale_up_rate": _number,
    "max_scale_down_rate": _number,
    "enable_scale_to_zero": lambda _, text: text == "true",
    "allow_zero_initial_scale": lambda _, text: text == "true",
}


def _read(
    kind: type[Config | Revision], given: Mapping[str, str | None], prefix: str = "", **odd: str
) -> dict[str, Any]:
    """Return the fields of ``kind`` that are given: a key is the field's name with hyphens, but for the ``odd`` ones."""
    found = {}
    for name, reader in _READERS.items():
        key = odd.get(name, prefix + name.replace("_", "-"))
        text = given.get(key)
        if text is not None and name in kind.__dataclass_fields__:
            found[name] = reader(key, text)
    return found
