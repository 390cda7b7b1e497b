"""Replica bounds, scaling metric and scaling delays: Run:ai's ``autoscaling`` block."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ebbtide.spec.scalars import Model, NotNegative, Percentage, Positive, Seconds


class Autoscaling(Model):
    """Minimum and maximum replicas, the metric that scales the replicas between them, and delays."""

    min_replicas: NotNegative | None = None
    """Minimum replicas. 0 lets the service scale to zero. Default: 1."""
    max_replicas: Positive | None = None
    """Maximum replicas. Default: the value of minReplicas, or 1 if minReplicas is 0."""
    initial_replicas: NotNegative | None = None
    """Number of replicas that each new revision must start before it becomes ready."""
    activation_replicas: Positive | None = None
    """Number of replicas to start when a request arrives while the service is scaled to zero. The service keeps at
    least this number until it scales to zero again. Ignored if minReplicas is above 0."""
    metric: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Scaling metric: throughput, concurrency, latency, gpu-utilization, cpu-utilization, or the name of a Prometheus
    metric. Required if minReplicas is below maxReplicas, except for 0..1."""
    metric_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Exact name of the metric if ``metric`` is ``custom``. Not valid with any other metric."""
    metric_threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Scaling threshold: target value of the metric per replica, in the metric's unit. Required with a metric."""
    metric_threshold_percentage: Percentage | None = None
    """Target utilization: percentage of metricThreshold that a replica may use before the autoscaler adds another one.
    Only for concurrency and throughput. Default: 70."""
    concurrency_hard_limit: NotNegative | None = None
    """Maximum number of concurrent requests per replica; further requests are queued. 0 means no limit."""
    scale_to_zero_retention_seconds: Seconds | None = None
    """Scale to zero after: seconds to keep the last replica once the autoscaler has decided to scale to zero.
    Requires minReplicas 0."""
    scale_down_delay_seconds: Seconds | None = None
    """Scale-down delay: seconds that the load must stay lower before the autoscaler removes replicas."""
    initialization_timeout_seconds: Positive | None = None
    """Deprecated in Run:ai 2.22. Use servingConfiguration.initializationTimeoutSeconds."""
