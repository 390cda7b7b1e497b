"""Node affinity, pod affinity and tolerations of a replica."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, Text, empty_list


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
