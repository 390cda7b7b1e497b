"""Random sequences of replicas that arrive on a pool of GPUs and leave it, with the objects that a spec is translated to."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hollow import CORES, GIBIBYTES, GPU, LABEL, MEMORY

from ebbtide.core.documents import load_document, profiles
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.translate import translate
from ebbtide.simulator.fleet.pool import GpuDemand, read_demand, read_quotas

CLASSES = {"train": 50, "build-preemptible": 75, "build": 100, "inference": 125}
BACKENDS = {"default": "devices", "kai": "kai"}
QUOTAS = {"default": "resourcequota", "kai": "kai"}
EVERY = {"operator": "Exists"}


class Step(NamedTuple):
    """The arrival of a replica of a service, or the departure of an earlier one."""

    service: int
    replica: int
    arrives: bool


@dataclass
class Sequence:
    """Nodes, services and steps, drawn from a seed."""

    scheduler: str
    seed: int
    projects: int
    quotas: bool
    over_quota: bool
    nodes: int = 0
    gpus: int = 0
    steps: list[Step] = field(default_factory=list)
    demands: list[GpuDemand] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    objects: dict[str, Object] = field(default_factory=dict)
    budgets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Draw the sequence."""
        draws = random.Random(self.seed)  # noqa: S311 - no secret
        self.nodes, self.gpus = draws.choice([(1, 2), (1, 3), (1, 4), (2, 2)])
        profile = self._make_profile(draws)
        self.budgets = read_quotas(profile)
        for index in range(draws.randint(2, 5)):
            self._add_service(profile, index, draws)
        # Only the queues of projects with a service are created.
        used = {demand.project for demand in self.demands}
        self.budgets = {project: quota for project, quota in self.budgets.items() if project in used}
        present: list[Step] = []
        for replica in range(draws.randint(8, 14)):
            if present and draws.random() < 0.35:  # noqa: PLR2004 - a draw
                left = present.pop(draws.randrange(len(present)))
                self.steps.append(left._replace(arrives=False))
            else:
                present.append(Step(draws.randrange(len(self.names)), replica, arrives=True))
                self.steps.append(present[-1])

    def _project(self, number: int) -> str:
        return f"{self.place}-{number}"

    def _make_profile(self, draws: random.Random) -> Any:
        total = self.nodes * self.gpus
        gpus = [draws.randint(1, total) if self.quotas else total for _ in range(self.projects)]
        pool = {"name": "pool", "product": "A100", "gpuMemoryMebibytes": MEMORY, "backend": BACKENDS[self.scheduler]}
        scheduling: dict[str, Any] = {"scheduler": "default-scheduler", "classesOwner": "cluster", "classes": CLASSES}
        if self.scheduler == "kai":
            sharing = {"version": "0.12", "gangScheduleKnative": False, "sharingMode": "NonMemoryEnforced"}
            scheduling |= {"scheduler": "kai-scheduler", "kai": sharing}
        known = {
            self._project(number): {"gpus": amount}
            | ({} if self.scheduler == "default" else {"overQuota": self.over_quota})
            for number, amount in enumerate(gpus)
        }
        projects = {"namespace": "{project}", "manage": True, "quota": QUOTAS[self.scheduler], "known": known}
        if self.scheduler == "default" and not self.quotas:
            projects["quota"] = "none"
        profile, problems = profiles.validate_profile_data(
            {
                "apiVersion": "ebbtide.dev/v1alpha1",
                "kind": "Profile",
                "metadata": {"name": "judged"},
                "spec": {
                    "kserve": {"version": "0.20", "modes": ["Standard"]},
                    "nodePools": [pool | {"devices": self.gpus, "nodes": self.nodes}],
                    "scheduling": scheduling,
                    "projects": projects,
                },
            }
        )
        assert profile is not None, problems
        return profile

    def _add_service(self, profile: Any, index: int, draws: random.Random) -> None:
        portion = draws.choice([1, 1, 0.5, 0.25] if self.scheduler == "kai" else [1, 1, 1, 2])
        small = {"gpuRequestType": "portion", "gpuPortionRequest": portion} if portion < 1 else {}
        document = {
            "apiVersion": "ebbtide.dev/v1alpha1",
            "kind": "Inference",
            "metadata": {"name": f"s{index}"},
            "spec": {
                "image": "example.com/judged:1",
                "project": self._project(draws.randrange(self.projects)),
                "serving": "kserve-standard",
                "compute": {
                    "cpuCoreRequest": CORES * portion / 2,
                    "cpuMemoryRequest": f"{int(GIBIBYTES * portion / 2)}Gi",
                    **(small or {"gpuDevicesRequest": portion}),
                },
                "priorityClass": draws.choice(list(CLASSES)),
            },
        }
        loaded = load_document(document, profile)
        assert loaded.inference is not None, loaded.problems
        translation = translate(loaded.inference, profile, loaded.canonical)
        assert translation.plan is not None
        assert translation.objects, translation.problems
        demand = read_demand(translation.plan)
        assert demand is not None
        self.demands.append(demand)
        self.names.append(f"s{index} {document['spec']['priorityClass']} {portion:g} {document['spec']['project']}")  # type: ignore[index] # a mapping
        # Pods that leave let the scheduler retry those that wait for the same resource, also in another sequence.
        text = json.dumps([*translation.objects]).replace(f'{GPU}"', f'{self.resource}"')
        for item in json.loads(text):
            if item["kind"] == "InferenceService":
                self.pods.append(item)
            elif item["kind"] != "PriorityClass":
                self.objects[str((item["kind"], item["metadata"]))] = item

    @property
    def place(self) -> str:
        """Name of the nodes and projects."""
        return f"judged-{self.scheduler}-{self.seed}"

    @property
    def resource(self) -> str:
        """Name of the GPUs."""
        return GPU if self.scheduler == "kai" else f"{GPU}-{self.scheduler}-{self.seed}"

    def make_replica(self, step: Step) -> Object:
        """Return the Deployment of a replica, which is what KServe creates of a service."""
        service = self.pods[step.service]
        predictor = service["spec"]["predictor"]
        name = f"s{step.service}-{step.replica}"
        labels = {**service["metadata"]["labels"], **predictor["labels"], LABEL: name}
        pod = {key: predictor[key] for key in ("containers", "priorityClassName", "schedulerName") if key in predictor}
        pod |= {"nodeSelector": {LABEL: self.place}, "tolerations": [EVERY], "terminationGracePeriodSeconds": 0}
        annotations = {key: text for key, text in predictor.get("annotations", {}).items() if "prometheus" not in key}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": service["metadata"]["namespace"], "labels": labels},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {LABEL: name}},
                "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
            },
        }
