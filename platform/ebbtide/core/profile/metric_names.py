"""Names under which a cluster serves the built-in metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.core.base.exporters import ScrapeJob

if TYPE_CHECKING:
    from ebbtide.core.base.metrics import Metric
    from ebbtide.core.profile.models import MetricNames, Metrics


def make_alias(field: str) -> str:
    """Return the camelCase name of a profile field."""
    first, *others = field.split("_")
    return first + "".join(map(str.capitalize, others))


def list_served_names(row: Metric, names: MetricNames) -> tuple[str, ...]:
    """Return a metric's names for an autoscaler: the default name, then the name on a shared GPU. Empty for ``custom``."""
    candidates = (row.knative, *(getattr(names, field) for field in row.named))
    return tuple(name for name in candidates if name is not None)


def find_shared_name(row: Metric, names: MetricNames) -> str | None:
    """Return a metric's name on a GPU that several pods share, or None if it is not measured there."""
    return getattr(names, row.named[1]) if len(row.named) > 1 else None


def find_standard_name(row: Metric, metrics: Metrics) -> str | None:
    """Return a metric's name in KServe Standard, or None if the profile has none."""
    return None if row.standard is None else getattr(metrics, row.standard)


def find_scrape_job(metrics: Metrics, exporter: str) -> ScrapeJob:
    """Return the scrape job of an exporter, by its name in ``EXPORTERS``; an empty one if the profile names none."""
    named = getattr(metrics.exporters, exporter)
    return ScrapeJob() if named is None else ScrapeJob(named.job, named.namespace or "", named.renamed)
