"""The annotations by which Prometheus reads the metrics of a server, for custom metrics and SLOs."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.core.base import keys
from ebbtide.core.base.engine_metrics import EngineMetrics, find_engine_metrics
from ebbtide.core.spec.objectives import list_token_objectives
from ebbtide.core.translation.engines import find_engine
from ebbtide.core.translation.plan import Decision, Plan


def has_own_source(plan: Plan, name: str) -> bool:
    """Return whether the profile says where the metric comes from, so that the rules of kustomize/metrics do not matter."""
    config = plan.cluster.metrics
    return name in config.custom or name in config.queries


def list_annotation_names(plan: Plan) -> set[str]:
    return {annotation.name for annotation in plan.spec.annotations if not annotation.exclude}


def make_scrape_annotations(plan: Plan) -> dict[str, str]:
    """Return the annotations by which the monitor of kustomize/metrics scrapes the server, unless the spec has its own.

    A custom metric needs them, and so do objectives of tokens of an engine that is recognized by its image.
    """
    custom = [target for target in plan.scaling.targets if target.row.source == "adapter" and not target.query]
    engine = _find_measured_engine(plan)
    if engine is None and all(has_own_source(plan, target.name) for target in custom):
        return {}
    port = engine.port if engine is not None else 0
    if keys.SCRAPE in list_annotation_names(plan) or (plan.spec.serving_port.protocol == "grpc" and not port):
        return {}
    return {keys.SCRAPE: "true", keys.SCRAPE_PORT: str(port or plan.spec.serving_port.container or plan.mode.port)}


def _find_measured_engine(plan: Plan) -> EngineMetrics | None:
    """Return the engine whose metrics the SLO or a scaling metric of the spec needs, or None."""
    slo, engine = plan.spec.slo, find_engine(plan.spec.image)
    needed = slo is not None and bool(list_token_objectives(slo))
    if engine is None or not (needed or any(target.row.engine_field for target in plan.scaling.targets)):
        return None
    return find_engine_metrics(engine.name)


def list_scrape_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield the port at which Prometheus reads a custom metric, if the spec does not say."""
    annotations = make_scrape_annotations(plan)
    if annotations:
        because = (
            f"a metric or the SLO of the spec needs the server's metrics, and it does not set {keys.SCRAPE}, so Prometheus "
            "scrapes this port"
        )
        fields = ("spec.autoscaling.metric", "spec.slo", "spec.annotations", "spec.servingPort.container")
        yield Decision("metrics port", annotations[keys.SCRAPE_PORT], because, fields)
