"""Every problem of every document, and the sums over all documents of one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ebbtide.base import names
from ebbtide.base.problems import ERROR, Problem, warning
from ebbtide.documents import quota
from ebbtide.translation.translate import Translation, translate

if TYPE_CHECKING:
    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import Loaded
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan

#: From here on Knative's control plane gets slow (knative/serving#10776, #13247).
MANY_SERVICES: Final = 1000
#: Kinds of which each workload makes one, under its own name.
OWN: Final = {"Service", "InferenceService", "HorizontalPodAutoscaler", "ScaledObject"}


@dataclass(slots=True)
class Batch:
    """What one call has seen so far: each shared object once, and what the projects are asked for."""

    profile: Profile
    #: Whether a warning that an earlier document had too is counted instead of told again.
    fold: bool = False
    services: int = 0
    told: dict[tuple[str, Path], int] = field(default_factory=dict)
    seen: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    #: The workload by each Service that comes of it.
    makers: dict[tuple[str, str], str] = field(default_factory=dict)
    demands: dict[str, quota.Demand] = field(default_factory=dict)

    def add(self, loaded: Loaded) -> tuple[list[Object], Translation | None, list[Problem]]:
        """Return one document's new objects, its translation and its problems."""
        if loaded.inference is None:
            return [], None, loaded.problems
        made = translate(loaded.inference, self.profile, loaded.canonical)
        found = self._new(made.problems) if self.fold else made.problems
        problems = loaded.problems + loaded.placed(found)
        if made.plan is not None and made.objects:
            key = (made.plan.namespace, made.plan.name)
            if key in self.names:
                again = Problem(
                    "NAM004",
                    ("metadata", "name"),
                    f"{key[1]} already exists in namespace {key[0]}, from {self.names[key] or 'an earlier document'}",
                    "rename one of the two",
                )
                return [], made, problems + loaded.placed([again])
            shared = self._shared(made.plan)
            if shared:
                return [], made, problems + loaded.placed(shared)
            self.names[key] = loaded.name
            self.services += 1
            problems += loaded.placed(self._clashes(made.objects))
            quota.add(self.demands, made.plan, loaded, loaded.reading.origin(("spec", "project")))
        return [item for item in made.objects if self._first(item)], made, problems

    def _shared(self, plan: Plan) -> list[Problem]:
        """Return an error for each Service of the workload that comes of an earlier one too."""
        mine = [(plan.namespace, name) for name in names.services(plan.name, plan.serving)]
        found = [
            Problem(
                "NAM004",
                ("metadata", "name"),
                f"{plan.name} and {self.makers[key]} both create a Service {key[1]} in namespace {key[0]}",
                "rename one of the two",
            )
            for key in mine
            if key in self.makers
        ]
        if not found:
            self.makers.update(dict.fromkeys(mine, plan.name))
        return found

    def _clashes(self, objects: tuple[Object, ...]) -> list[Problem]:
        """Return an error for each object that is made already, but otherwise: one of the two would be lost."""
        found = []
        here: dict[tuple[str, str, str], Object] = {}
        for item in objects:
            if item["kind"] in OWN:
                continue
            key = identity(item)
            if self.seen.get(key, item) != item or here.get(key, item) != item:
                found.append(
                    Problem(
                        "NAM005",
                        ("spec",),
                        f"{item['kind']} {item['metadata']['name']} is rendered twice with different content: the last one applied would win",
                        "use separate claims and host names for each workload",
                    )
                )
            here[key] = item
        return found

    def _new(self, problems: tuple[Problem, ...]) -> list[Problem]:
        """Return the errors, and the warnings that no earlier document had at the same field."""
        found = []
        for problem in problems:
            key = (problem.code, problem.field)
            if problem.severity == ERROR or key not in self.told:
                found.append(problem)
            if problem.severity != ERROR:
                self.told[key] = self.told.get(key, 0) + 1
        return found

    def _first(self, item: Object) -> bool:
        """Whether an object is new; namespaces, quotas and classes are made once however many specs need them."""
        # A workload's own objects are told apart by its name; to keep them all would hold the whole output in memory.
        return item["kind"] in OWN or self.seen.setdefault(identity(item), item) is item

    def finish(self) -> list[Problem]:
        """Return the problems of all documents together."""
        found = list(quota.over_quota(self.demands, self.profile.spec))
        if self.services > MANY_SERVICES:
            found.append(
                warning(
                    "SRV020",
                    (),
                    f"{self.services} services: with more than {MANY_SERVICES} services, Knative needs minutes to make a new one ready",
                    "spread them over several clusters, or merge small ones into one server",
                )
            )
        for (code, where), count in self.told.items():
            if more := count - 1:
                found.append(
                    warning(
                        code,
                        where,
                        f"{more} more {'document has' if more == 1 else 'documents have'} the same problem",
                        "run ebbtide check",
                    )
                )
        return found


def identity(item: Object) -> tuple[str, str, str]:
    """Return what makes an object one object in a cluster: kind, namespace, name."""
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace", ""), metadata["name"]


def check(documents: list[Loaded], profile: Profile) -> list[Problem]:
    """Return every problem of ``documents``, each at its place."""
    batch = Batch(profile)
    return [problem for loaded in documents for problem in batch.add(loaded)[2]] + batch.finish()
