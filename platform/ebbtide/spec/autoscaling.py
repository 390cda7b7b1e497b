"""How many replicas, and what moves them: Run:ai's ``autoscaling`` block."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ebbtide.spec.scalars import Model, NotNegative, Percentage, Positive, Seconds


class Autoscaling(Model):
    """Replica bounds, the metric that moves replicas between them, and the timing."""

    min_replicas: NotNegative | None = None
    """Fewest replicas; 0 lets the service rest at zero. Default 1."""
    max_replicas: Positive | None = None
    """Most replicas. Default: minReplicas, or 1 if that is 0."""
    initial_replicas: NotNegative | None = None
    """Replicas that each new revision starts with before it counts as ready."""
    activation_replicas: Positive | None = None
    """Replicas to jump to when a request wakes a service that rests at zero; it keeps them until it rests again."""
    metric: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What moves the replicas: throughput, concurrency, latency, gpu-utilization, cpu-utilization, or any
    Prometheus-style metric name."""
    metric_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """With ``metric: custom``, the exact name of the metric."""
    metric_threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """The value per replica that the autoscaler aims at."""
    metric_threshold_percentage: Percentage | None = None
    """How much of the threshold to use before adding a replica; concurrency and throughput only. Default 70."""
    concurrency_hard_limit: NotNegative | None = None
    """Requests that may be in flight in one replica at once; 0 means no limit."""
    scale_to_zero_retention_seconds: Seconds | None = None
    """How long the last replica stays after the decision to go to zero."""
    scale_down_delay_seconds: Seconds | None = None
    """How long demand must be lower before replicas are taken away."""
    initialization_timeout_seconds: Positive | None = None
    """Deprecated in Run:ai 2.22: use servingConfiguration.initializationTimeoutSeconds."""
