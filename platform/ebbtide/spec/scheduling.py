"""Where a replica may run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, Text, nothing


class MatchExpression(Model):
    """One condition on a node's labels."""

    key: Text
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How the values are compared."""
    values: list[str] = nothing()
    """The values."""


class NodeSelectorTerm(Model):
    """Conditions that must all hold."""

    match_expressions: Annotated[list[MatchExpression], Field(min_length=1)]
    """The conditions."""


class NodeAffinity(Model):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1)]
    """The terms."""


class PodAffinity(Model):
    """Keep the workload's own replicas together, or apart, by a topology key."""

    type: Literal["Required", "Preferred"]
    """Whether it must hold."""
    key: Text
    """The topology key: kubernetes.io/hostname."""


class Toleration(Model):
    """A taint that the replicas put up with."""

    name: str | None = None
    """A name for people."""
    key: str | None = None
    """The taint's key; without one, every taint."""
    operator: Literal["Equal", "Exists"] | None = None
    """Equal compares the value, Exists takes any."""
    value: str | None = None
    """The taint's value, with Equal only."""
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule", "Any"] | None = None
    """The taint's effect."""
    seconds: Annotated[int, Field(ge=1)] | None = None
    """How long to stay after a NoExecute taint appears."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""
