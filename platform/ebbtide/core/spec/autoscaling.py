"""Replica bounds, scaling metric and scaling delays: Run:ai's ``autoscaling`` block."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import Model, NotNegative, Percentage, Positive, Seconds, Text, empty_list


class ScalingMetric(Model):
    """One of several scaling metrics."""

    metric: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, examples=["latency", "requests_waiting"]
    )
    """Scaling metric: throughput, concurrency, latency, gpu-utilization, cpu-utilization, or the name of a Prometheus
    metric of the pods."""
    query: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """PromQL query with one value. It may use the placeholders {workload}, {namespace} and {revision}."""
    query_result: Literal["average", "total"] | None = None
    """Meaning of the query's value: average of the replicas, or total of the workload, which the threshold divides among
    the replicas. A total also starts replicas while the service is scaled to zero. Default: average."""
    pods: (
        Annotated[str, Field(max_length=2000, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^{}]*(\{[a-z]+\}[^{}]*)*\})?$")]
        | None
    ) = None
    """Series of the query, each with the label pod, which every ready replica has: vllm:num_requests_waiting{pod=~"{revision}-.*"}.
    Without one of them, the query is too low, and removes no replicas. It may use the placeholders of the query."""
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Scaling threshold: target value per replica, in the metric's unit."""


class ScalingWindow(Model):
    """A recurring period with its own minimum replicas."""

    start: Text = Field(examples=["0 3 * * *"])
    """Start of the period as a cron expression: minute, hour, day of the month, month, day of the week."""
    end: Text = Field(examples=["0 3 * * *"])
    """End of the period as a cron expression."""
    time_zone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", max_length=64)] = Field(
        default="UTC", examples=["Europe/Paris"]
    )
    """IANA time zone of start and end: Europe/Berlin."""
    min_replicas: Positive = Field(examples=[1, 3])
    """Minimum replicas during the period."""


class ScalingPolicy(Model):
    """Maximum change of the replicas within a period."""

    type: Literal["Pods", "Percent"]
    """Unit of the value."""
    value: Positive
    """Maximum change: pods, or percent of the replicas at the start of the period."""
    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """Length of the period in seconds."""


class ScalingRules(Model):
    """Stabilization and step limits of one direction, as in a HorizontalPodAutoscaler (autoscaling/v2)."""

    stabilization_window_seconds: Seconds | None = None
    """Seconds of past recommendations that are considered. Default: 0 to scale up, 300 to scale down."""
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    """Policy that applies: the one that allows the most or the least change, or no change. Default: Max."""
    policies: list[ScalingPolicy] = empty_list([{"type": "Pods", "value": 9, "periodSeconds": 9}])
    """Step limits. Default: doubling or 4 pods every 15 s to scale up, no limit to scale down."""
    tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Deviation of a metric from its threshold, as a fraction, that changes nothing. Default: 0.1."""


class ScalingBehavior(Model):
    """Stabilization and step limits of both directions."""

    scale_up: ScalingRules = Field(default=ScalingRules(), examples=[{"selectPolicy": "Min"}])
    """Rules to scale up."""
    scale_down: ScalingRules = Field(default=ScalingRules(), examples=[{"selectPolicy": "Min"}])
    """Rules to scale down."""


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
    metric: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, examples=["throughput", "concurrency", "cpu-utilization", "requests_waiting"]
    )
    """Scaling metric: throughput, concurrency, latency, gpu-utilization, cpu-utilization, or the name of a Prometheus
    metric. Required if minReplicas is below maxReplicas, except for 0..1."""
    metric_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Exact name of the metric if ``metric`` is ``custom``. Not valid with any other metric."""
    metric_threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Scaling threshold: target value of the metric per replica, in the metric's unit. Required with a metric."""
    metrics: list[ScalingMetric] = empty_list(
        [{"metric": "latency", "threshold": 12}], [{"metric": "requests_waiting", "threshold": 12}]
    )
    """Several scaling metrics instead of one: the highest number of replicas applies. Needs Ebbtide's
    controller. Ebbtide extension."""
    schedule: list[ScalingWindow] = empty_list([{"start": "0 1 * * *", "end": "0 2 * * *", "minReplicas": 1}])
    """Periods with more minimum replicas; of several open periods, the largest number applies. Needs Ebbtide's controller.
    Ebbtide extension."""
    behavior: ScalingBehavior | None = Field(default=None, examples=[{"scaleDown": {"selectPolicy": "Min"}}])
    """Stabilization and step limits. Needs Ebbtide's controller, or KServe Standard. Ebbtide extension."""
    fallback_replicas: Positive | None = None
    """Replicas after the profile's fallbackSeconds without a metric's value. Default: the last decided number stays. Needs
    Ebbtide's controller. Ebbtide extension."""
    buffer: Positive | Annotated[str, Field(pattern=r"^([1-9][0-9]?|100)%$")] | None = Field(
        default=None, examples=[2, "20%"]
    )
    """Replicas above what the metric asks for, up to maxReplicas: a number, which needs Ebbtide's controller, or a percentage.
    Without load there are none, nor with minReplicas 0 while one replica is enough. The controller then uses no tolerance.
    Ebbtide extension."""
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
    panic_threshold_percentage: Annotated[float, Field(ge=110, le=1000, allow_inf_nan=False)] | None = Field(
        default=None, examples=[150.0, 300.0]
    )
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
