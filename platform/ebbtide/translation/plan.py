"""Every choice made once: node pools, the kind of object, the autoscaler, the priority class.

``translate.make_plan`` makes the choices in one order; each `choose` reads the plan as far as it is made, and each `check` the
whole plan. A choice is kept as a ``Decision`` with its reason, which is what ``explain``, the API and the page show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from ebbtide.base.bodies import body

if TYPE_CHECKING:
    from ebbtide.base.metrics import Metric
    from ebbtide.profile.models import NodePool, Profile, ProfileSpec
    from ebbtide.spec.inference import Inference, InferenceSpec

Serving = Literal["knative", "kserve", "kserve-standard"]
#: Knative's two classes, our own HPA or KEDA's ScaledObject on a Standard deployment, or a fixed number of replicas.
Scaler = Literal["knative-kpa", "knative-hpa", "own-hpa", "keda", "fixed"]

#: The serving container's name by kind of object: Knative's and KServe's own defaults.
CONTAINERS: Final[dict[str, str]] = {
    "knative": "user-container",
    "kserve": "kserve-container",
    "kserve-standard": "kserve-container",
}


@body()
class Decision:
    """One choice: what about, what was chosen, why, and the spec's or profile's fields that led to it."""

    subject: str
    value: str
    because: str
    fields: tuple[str, ...] = ()


class Scaling(NamedTuple):
    """The autoscaler, its bounds, metric and threshold. ``threshold`` is in the metric's unit."""

    scaler: Scaler
    minimum: int
    maximum: int
    metric: Metric | None = None
    #: The name as Knative's annotation, the HPA or KEDA writes it.
    metric_name: str = ""
    threshold: float | None = None
    percentage: float = 70.0


class GpuRequest(NamedTuple):
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


class Priority(NamedTuple):
    """A priority class: its name, its value, who creates it, and whether its pods may be preempted."""

    name: str
    value: int
    rendered: bool
    preemptible: bool


Choice = TypeVar("Choice")
#: The values of a plan whose choices are not made yet.
_SCALING: Final = Scaling("fixed", 1, 1)
_PRIORITY: Final = Priority("", 0, rendered=False, preemptible=True)


@dataclass(slots=True)
class Plan:
    """A spec and a profile, and every choice: complete once ``translate.make_plan`` returns it, and read-only from then on."""

    inference: Inference
    profile: Profile
    namespace: str
    pools: tuple[NodePool, ...] = ()
    gpu: GpuRequest | None = None
    serving: Serving = "knative"
    scaling: Scaling = _SCALING
    priority: Priority = _PRIORITY
    decisions: list[Decision] = field(default_factory=list)
    #: The documents' own blocks: attributes, since each translation reads them some fifty times.
    spec: InferenceSpec = field(init=False)
    cluster: ProfileSpec = field(init=False)

    def __post_init__(self) -> None:
        """Take the blocks out of their documents."""
        self.spec, self.cluster = self.inference.spec, self.profile.spec

    def decide(self, choice: Choice, decision: Decision) -> Choice:
        """Keep a decision, and return its choice."""
        self.decisions.append(decision)
        return choice

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
