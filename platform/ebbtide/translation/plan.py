"""Every choice made once: which object serves, which autoscaler, which GPU backend, which priority class.

A ``Plan`` is what the rest of the translation reads. Each choice is kept as a ``Decision`` with its reason,
which is what ``explain``, the API and the page show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ebbtide.base.metrics import Metric
    from ebbtide.profile.models import NodePool, Profile
    from ebbtide.spec.inference import Inference, InferenceSpec

Serving = Literal["knative", "kserve", "kserve-standard"]
#: kpa and hpa are Knative's classes; external is our own HPA or ScaledObject beside a Standard deployment.
Scaler = Literal["kpa", "hpa", "external", "none"]

#: The serving container's name by kind of object: Knative's and KServe's own defaults.
CONTAINERS: Final[dict[str, str]] = {
    "knative": "user-container",
    "kserve": "kserve-container",
    "kserve-standard": "kserve-container",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice: what about, what was chosen, why, and the spec's or profile's fields that led to it."""

    subject: str
    value: str
    because: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas and what moves them. ``threshold`` is in the metric's unit; times are in seconds."""

    scaler: Scaler
    minimum: int
    maximum: int
    metric: Metric | None = None
    #: The name as Knative's annotation, the HPA or KEDA writes it.
    metric_name: str = ""
    threshold: float | None = None
    percentage: float = 70.0

    @property
    def fixed(self) -> bool:
        """Whether the number of replicas never moves."""
        return self.minimum == self.maximum


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """What part of how many GPUs one replica asks for.

    ``kind`` says which of the fields counts: whole devices, a portion (above 0, below 1) of each one's
    memory, memory in bytes of each one, or a MIG profile. Limits equal the request where none was set.
    """

    kind: Literal["devices", "portion", "memory", "mig"]
    devices: int
    portion: float = 0.0
    portion_limit: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    mig_profile: str = ""


@dataclass(frozen=True, slots=True)
class Priority:
    """A priority class: its name, its value, who creates it, and whether its pods may be preempted."""

    name: str
    value: int
    rendered: bool
    preemptible: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A spec and a profile with every choice made."""

    inference: Inference
    profile: Profile
    namespace: str
    serving: Serving
    scaling: Scaling
    gpu: GpuRequest | None
    pools: tuple[NodePool, ...]
    priority: Priority
    decisions: tuple[Decision, ...]

    @property
    def spec(self) -> InferenceSpec:
        """What the user asked for."""
        return self.inference.spec

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.inference.metadata.name

    @property
    def container(self) -> str:
        """The serving container's name, always written so that a GPU share cannot land on another."""
        return CONTAINERS[self.serving]

    @property
    def pool(self) -> NodePool | None:
        """The first node pool: all of ``pools`` share GPUs the same way."""
        return self.pools[0] if self.pools else None
