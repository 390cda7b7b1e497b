"""The plan of a translation: node pools, the kind of object, the autoscaler, the priority class, each with its reason.

``translate.make_plan`` makes the choices in a fixed order. Each `choose` reads the choices made before it, and each `check`
reads the complete plan. Each choice is recorded as a ``Decision`` with its reason, which ``explain``, the API and the page show.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from ebbtide.core.base import keys
from ebbtide.core.base.bodies import body
from ebbtide.core.base.metrics import Metric
from ebbtide.core.base.problems import Path, Problem
from ebbtide.core.translation.modes import SERVING_MODES, ServingMode

if TYPE_CHECKING:
    from ebbtide.core.profile.models import NodePool, Profile, ProfileSpec
    from ebbtide.core.spec.inference import Inference, InferenceSpec

Serving = Literal["knative", "kserve", "kserve-standard", "llm"]
#: Knative's two classes, Ebbtide's controller on top of the KPA, Ebbtide's HPA or KEDA ScaledObject for a Standard
#: deployment, or a fixed number of replicas.
Scaler = Literal["knative-kpa", "knative-hpa", "controller", "own-hpa", "keda", "fixed"]


@body()
class Decision:
    """One choice: its subject, the value, the reason, and the fields of the spec or profile that led to it."""

    subject: str
    value: str
    because: str
    fields: tuple[str, ...] = ()


class ScalingTarget(NamedTuple):
    """One metric of an autoscaler, its threshold in the metric's unit, and the fields that set both.

    ``name`` is the metric's name for the autoscaler. ``query`` is the user's own PromQL, and ``query_pods`` the series of
    the pods that it reads; ``total`` if its value is that of the workload and not an average of the replicas.
    """

    row: Metric
    name: str
    threshold: float | None
    path: Path
    threshold_path: Path
    query: str = ""
    query_pods: str = ""
    total: bool = False


class Scaling(NamedTuple):
    """The autoscaler, minimum and maximum replicas, the metric and its threshold in the metric's unit.

    Of several metrics, ``metric``, ``metric_name`` and ``threshold`` are those of the first; ``targets`` has all.
    """

    scaler: Scaler
    minimum: int
    maximum: int
    metric: Metric | None = None
    #: The metric's name in Knative's annotation, the HPA or the ScaledObject.
    metric_name: str = ""
    threshold: float | None = None
    percentage: float = 70.0
    targets: tuple[ScalingTarget, ...] = ()


class GpuRequest(NamedTuple):
    """The GPU request of one replica.

    ``kind`` selects the field that applies: whole devices, a portion (above 0, below 1) of each device's
    memory, memory in bytes on each device, or a MIG profile. A limit that is not set equals the request.
    """

    kind: Literal["devices", "portion", "memory", "mig"]
    devices: int
    portion: float = 0.0
    portion_limit: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    mig_profile: str = ""
    #: The compute of each device in percent, 0 if the spec sets none.
    compute: int = 0

    @property
    def is_limited(self) -> bool:
        """True if the limit is above the request."""
        return self.portion_limit > self.portion or self.memory_limit > self.memory


class Priority(NamedTuple):
    """A priority class: name, value, whether Ebbtide renders it, and whether its pods may be preempted."""

    name: str
    value: int
    rendered: bool
    preemptible: bool


Choice = TypeVar("Choice")
#: Placeholders in a plan until the choices are made.
_SCALING: Final = Scaling("fixed", 1, 1)
_PRIORITY: Final = Priority("", 0, rendered=False, preemptible=True)


@dataclass(slots=True)
class Plan:
    """A spec, a profile and every choice. Complete and read-only once ``translate.make_plan`` has returned it."""

    inference: Inference
    profile: Profile
    #: Empty if the deployment decides it.
    namespace: str = ""
    pools: tuple[NodePool, ...] = ()
    gpu: GpuRequest | None = None
    serving: Serving = "knative"
    scaling: Scaling = _SCALING
    priority: Priority = _PRIORITY
    decisions: list[Decision] = field(default_factory=list)
    #: The index of the extended resource that is read as the GPU request, by the fields of ``compute`` that it sets.
    extended_gpus: dict[str, int] = field(default_factory=dict)
    #: The ``spec`` blocks of both documents: attributes, since each translation reads them about fifty times.
    spec: InferenceSpec = field(init=False)
    cluster: ProfileSpec = field(init=False)

    def __post_init__(self) -> None:
        """Copy the ``spec`` blocks from their documents."""
        self.spec, self.cluster = self.inference.spec, self.profile.spec

    @property
    def uses_model_mesh(self) -> bool:
        """True if ModelMesh loads the model into running pods."""
        return (self.inference.metadata.annotations or {}).get(keys.DEPLOYMENT_MODE) == keys.MODEL_MESH

    def record_decision(self, choice: Choice, decision: Decision) -> Choice:
        """Record a decision and return its choice."""
        self.decisions.append(decision)
        return choice

    def place_problem(self, problem: Problem) -> Problem:
        """Return a problem about the GPU request at the extended resource that it was read from."""
        *block, name = problem.field[:3] or [""]
        index = self.extended_gpus.get(str(name)) if tuple(block) == ("spec", "compute") else None
        if index is None:
            return problem
        part = "quantity" if name == "gpuDevicesRequest" else "resource"
        return replace(problem, field=("spec", "compute", "extendedResources", index, part))

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.inference.metadata.name

    @property
    def adds_defaults(self) -> bool:
        """True if Ebbtide adds its defaults to what the spec sets."""
        return self.spec.defaults != "none"

    @property
    def mode(self) -> ServingMode:
        """The row of the serving object's kind."""
        return SERVING_MODES[self.serving]

    @property
    def scheduled(self) -> bool:
        """True if the pods need the profile's scheduler: without Ebbtide's defaults, for a GPU share or a project's queue."""
        shares = self.gpu is not None and self.gpu.kind != "devices"
        return self.adds_defaults or shares or self.spec.project is not None

    @property
    def container(self) -> str:
        """The serving container's name, always rendered so that a GPU share cannot go to another container."""
        return self.spec.container_name or self.mode.container

    @property
    def pool_names(self) -> list[str]:
        """The names of the spec's node pools; none if it names only the one that stands for any pool."""
        names = self.spec.node_pools
        return [] if names == [self.cluster.any_node_pool] else names

    @property
    def pool(self) -> NodePool | None:
        """The first node pool. All of ``pools`` share GPUs in the same way."""
        return self.pools[0] if self.pools else None
