"""Node affinity, pod affinity and tolerations of a replica."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import Label, Model, NotNegative, Positive, Text, empty_list

#: A number of pods, or a percentage of them.
PodCount = NotNegative | Annotated[str, Field(pattern=r"^[0-9]{1,3}%$")]


class MatchExpression(Model):
    """A condition on a node label."""

    key: Text
    """Key of the node label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """Comparison of the label with the values."""
    values: list[str] = empty_list()
    """Values: at least one for In and NotIn, none for Exists and DoesNotExist, one whole number for Gt and Lt."""


class NodeSelectorTerm(Model):
    """A node selector term. A node matches if it meets all conditions."""

    match_expressions: Annotated[list[MatchExpression], Field(min_length=1)]
    """Conditions on node labels, combined with AND."""


class NodeAffinity(Model):
    """Node affinity. A node is eligible if it matches at least one term."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1)]
    """Node selector terms, combined with OR."""


class PodAffinity(Model):
    """Affinity or anti-affinity between the replicas of the workload."""

    type: Literal["Required", "Preferred"]
    """Required, or Preferred where the scheduler may ignore it."""
    key: Text
    """Topology key, such as kubernetes.io/hostname."""


class PodSelector(Model):
    """Pods with all of these labels."""

    match_labels: dict[str, Label]
    """Labels of the pods."""


class TopologySpread(Model):
    """A topology spread constraint, with Kubernetes' field names. Ebbtide extension."""

    topology_key: Text
    """Label of the nodes whose values are the domains, such as topology.kubernetes.io/zone."""
    max_skew: Positive = 1
    """Maximum difference in the number of pods between two domains."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "DoNotSchedule"
    """DoNotSchedule is a requirement, ScheduleAnyway a preference."""
    label_selector: PodSelector | None = Field(default=None, examples=[{"matchLabels": {"role": "server"}}])
    """Pods to count. Default: the pods of the workload."""
    match_label_keys: list[Text] = empty_list()
    """Keys of pod labels by whose values the pods are counted separately, such as serving.knative.dev/revision."""
    min_domains: Positive | None = None
    """Minimum number of domains. Only with DoNotSchedule."""
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """Honor counts only nodes that match node affinity and nodeSelector. Default: Honor."""
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """Honor counts only nodes whose taints the pod tolerates. Default: Ignore."""


class DisruptionBudget(Model):
    """A PodDisruptionBudget of the workload. Set minAvailable or maxUnavailable. Ebbtide extension."""

    min_available: PodCount | None = Field(default=None, examples=["40%"])
    """Minimum number or percentage of replicas that must stay ready while a node is drained."""
    max_unavailable: PodCount | None = Field(default=None, examples=["40%"])
    """Maximum number or percentage of replicas that may be unavailable while a node is drained."""
    unhealthy_pod_eviction_policy: Literal["IfHealthyBudget", "AlwaysAllow"] | None = None
    """AlwaysAllow evicts replicas that are not ready even if the budget is not met. Default: IfHealthyBudget."""


class RollingUpdate(Model):
    """Numbers or percentages of replicas during a rolling update."""

    max_surge: PodCount | None = Field(default=None, examples=["40%"])
    """Replicas that an update may add to the desired number. A percentage is rounded up. Default: 25%."""
    max_unavailable: PodCount | None = Field(default=None, examples=["40%"])
    """Replicas that may be unavailable during an update. A percentage is rounded down. Default: 25%."""


class DeploymentStrategy(Model):
    """Replacement of a Deployment's replicas in an update, with Kubernetes' field names. Ebbtide extension."""

    type: Literal["RollingUpdate", "Recreate"] | None = None
    """Recreate removes all replicas before it starts new ones. Requests fail until they are ready. Default: RollingUpdate."""
    rolling_update: RollingUpdate | None = Field(default=None, examples=[{"maxSurge": 1}])
    """Steps of a rolling update. Only with type RollingUpdate."""


class Toleration(Model):
    """A toleration for a node taint."""

    name: str | None = None
    """Display name. Not rendered."""
    key: str | None = None
    """Key of the taint. Without a key, the toleration matches every taint and requires operator Exists."""
    operator: Literal["Equal", "Exists"] | None = None
    """Equal compares the value of the taint, Exists matches any value."""
    value: str | None = None
    """Value of the taint. Only with operator Equal."""
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule", "Any"] | None = None
    """Effect of the taint."""
    seconds: Annotated[int, Field(ge=1)] | None = None
    """Seconds that a pod stays on the node after the taint is added. Only with effect NoExecute."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""
