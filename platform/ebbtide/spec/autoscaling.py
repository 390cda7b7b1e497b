"""Replica bounds, scaling metric and scaling delays: Run:ai's ``autoscaling`` block."""

from __future__ import annotations

from typing import Annotated, Literal

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
    stable_window_seconds: Annotated[int, Field(ge=6, le=3600)] | None = None
    """Stable window: seconds over which the autoscaler averages the load. With an HPA, the seconds that the load must stay
    the same before it scales up or down. Default: stable-window of the cluster, 60. Ebbtide extension."""
    panic_window_percentage: Percentage | None = None
    """Panic window: percentage of the stable window over which the autoscaler averages sudden load. Default: 10. Ebbtide
    extension."""
    panic_threshold_percentage: Annotated[float, Field(ge=110, le=1000, allow_inf_nan=False)] | None = None
    """Panic threshold: percentage of the present capacity above which the autoscaler uses the panic window. Default: 200.
    Ebbtide extension."""
    target_burst_capacity: Annotated[float, Field(ge=-1, allow_inf_nan=False)] | None = None
    """Target burst capacity: additional concurrent requests that the service must be able to take without the activator
    as a queue. 0 uses the activator only to scale from zero, -1 always. Default: 211. Ebbtide extension."""
    metric_aggregation: Literal["linear", "weighted-exponential"] | None = None
    """Average over the stable window: linear, or weighted-exponential with more weight on recent load. Default: linear.
    Ebbtide extension."""
    initialization_timeout_seconds: Positive | None = None
    """Deprecated in Run:ai 2.22. Use servingConfiguration.initializationTimeoutSeconds."""
