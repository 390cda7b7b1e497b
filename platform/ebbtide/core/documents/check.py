"""All problems of the documents of one call, including duplicate objects and exceeded quotas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ebbtide.core.base import names
from ebbtide.core.base.problems import ERROR, Problem, has_errors, make_warning
from ebbtide.core.documents import quota
from ebbtide.core.translation import endpoints
from ebbtide.core.translation.container import may_run_as_root
from ebbtide.core.translation.translate import Translation, translate

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Path
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan

#: Number of services above which Knative's control plane becomes slow (knative/serving#10776, #13247).
MANY_SERVICES: Final = 1000
#: The note in the summary of ``check`` about containers that may run as root.
MAY_RUN_AS_ROOT: Final = "SEC003"
#: Kinds of which each workload has at most one object, with the name of the workload.
OWN: Final = {"Service", "InferenceService", "HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget"}


@dataclass(slots=True)
class Batch:
    """The documents of one call so far: objects that workloads share, and the resources that projects request."""

    profile: Profile
    #: Count a warning that an earlier document had too, instead of repeating it.
    fold: bool = False
    services: int = 0
    #: Number of services that may run as root because neither the spec nor the profile sets their user.
    root_services: int = 0
    warning_counts: dict[tuple[str, Path], int] = field(default_factory=dict)
    shared: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Name of the workload by namespace and name of each Service that Knative or KServe creates for it.
    makers: dict[tuple[str, str], str] = field(default_factory=dict)
    demands: dict[str, quota.QuotaDemand] = field(default_factory=dict)
    #: The place that publishes each model, by namespace, project and name of the model.
    published: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add_document(self, loaded: LoadedDocument) -> tuple[list[Object], Translation | None, list[Problem]]:
        """Return one document's new objects, its translation and its problems in the order of their lines."""
        objects, translation, problems = self._add(loaded)
        # A problem without a line concerns the whole document.
        return objects, translation, sorted(problems, key=lambda problem: problem.line)

    def _add(self, loaded: LoadedDocument) -> tuple[list[Object], Translation | None, list[Problem]]:
        if loaded.inference is None:
            from ebbtide.core.documents.incomplete import find_further_problems  # noqa: PLC0415 - slow, and only after an error

            return [], None, loaded.problems + find_further_problems(loaded, self.profile)
        translation = translate(loaded.inference, self.profile, loaded.canonical)
        found = [*translation.problems]
        if has_errors(found):
            from ebbtide.core.documents.next_steps import name_next_steps  # noqa: PLC0415 - slow, and only after an error

            found = name_next_steps(found, loaded.reading.native, self.profile)
        reported = self._drop_repeated_warnings(found) if self.fold else found
        problems = loaded.problems + loaded.place_problems(reported)
        if translation.plan is not None and translation.objects:
            key = (translation.plan.namespace, translation.plan.name)
            if key in self.names:
                earlier = self.names[key] or "an earlier document"
                message = f"workload {key[1]} already exists{_in_namespace(key[0])}, from {earlier}"
                return [], translation, problems + loaded.place_problems([_repeated_name(message)])
            taken = self._find_taken_services(translation.plan) or self._find_taken_models(translation.plan, loaded)
            if taken:
                return [], translation, problems + loaded.place_problems(taken)
            self.names[key] = loaded.name
            self.services += 1
            self.root_services += may_run_as_root(translation.plan)
            problems += loaded.place_problems(self._find_conflicts(translation.objects))
            quota.add_demand(self.demands, translation.plan, loaded, loaded.reading.origin_of(("spec", "project")))
        return [obj for obj in translation.objects if self._is_new(obj)], translation, problems

    def _find_taken_services(self, plan: Plan) -> list[Problem]:
        """Return an error for each Service of the workload that an earlier workload creates too."""
        services = [(plan.namespace, name) for name in names.name_services(plan.name, plan.serving)]
        problems = [
            _repeated_name(f"{plan.name} and {self.makers[key]} both create a Service {key[1]}{_in_namespace(key[0])}")
            for key in services
            if key in self.makers
        ]
        if not problems:
            self.makers.update(dict.fromkeys(services, plan.name))
        return problems

    def _find_taken_models(self, plan: Plan, loaded: LoadedDocument) -> list[Problem]:
        """Return an error for each model that an earlier workload publishes at the same endpoint."""
        models = endpoints.list_models(plan)
        keys = [(plan.namespace, plan.spec.project or "", model) for model in models]
        problems = [
            Problem(
                "END003",
                ("spec", "endpoint"),
                f"model {key[2]} is already published at the endpoint of project {key[1]}, by {self.published[key]}",
                "set another endpoint.name or aliases, or let one of the two name the other in endpoint.split",
            )
            for key in keys
            if key in self.published
        ]
        # Finding a line parses the document a second time.
        if keys and not problems:
            line = loaded.line(loaded.reading.origin_of(("spec", "endpoint")))
            self.published.update(dict.fromkeys(keys, f"{loaded.name or plan.name}:{line}" if line else plan.name))
        return problems

    def list_models(self) -> list[Object]:
        """Return the object of each project's endpoint that lists the models of all documents so far."""
        models: dict[tuple[str, str], list[str]] = {}
        for namespace, project, model in self.published:
            models.setdefault((namespace, project), []).append(model)
        return [
            endpoints.make_model_list(self.profile.spec, project, namespace, names)
            for (namespace, project), names in models.items()
        ]

    def _find_conflicts(self, objects: tuple[Object, ...]) -> list[Problem]:
        """Return an error for each object that exists already with different content: one of the two would be lost."""
        problems = []
        earlier: dict[tuple[str, str, str], Object] = {}
        for obj in objects:
            if obj["kind"] in OWN:
                continue
            key = object_identity(obj)
            if self.shared.get(key, obj) != obj or earlier.get(key, obj) != obj:
                name = f"{obj['kind']} {obj['metadata']['name']}"
                message = f"{name} is rendered twice with different content: the last one applied would win"
                fix = "use separate claims and host names for each workload"
                problems.append(Problem("NAM005", ("spec",), message, fix))
            earlier[key] = obj
        return problems

    def _drop_repeated_warnings(self, problems: list[Problem]) -> list[Problem]:
        """Return the errors, and the warnings that no earlier document had at the same field."""
        new = []
        for problem in problems:
            key = (problem.code, problem.field)
            if problem.severity == ERROR or key not in self.warning_counts:
                new.append(problem)
            if problem.severity != ERROR:
                self.warning_counts[key] = self.warning_counts.get(key, 0) + 1
        return new

    def _is_new(self, obj: Object) -> bool:
        """Return whether an object is new; specs share namespaces, quotas and priority classes."""
        # The workload's name identifies the kinds in OWN; storing these objects too would keep the whole output in memory.
        return obj["kind"] in OWN or self.shared.setdefault(object_identity(obj), obj) is obj

    def batch_problems(self) -> list[Problem]:
        """Return the problems that concern all documents together."""
        problems = list(quota.over_quota(self.demands, self.profile.spec))
        if self.services > MANY_SERVICES:
            message = f"{self.services} services: with more than {MANY_SERVICES} services, Knative needs minutes to make a new one ready"
            fix = "spread them over several clusters, or merge small ones into one server"
            problems.append(make_warning("SRV020", (), message, fix))
        for (code, where), count in self.warning_counts.items():
            if more := count - 1:
                message = f"{more} more {'document has' if more == 1 else 'documents have'} the same problem"
                problems.append(make_warning(code, where, message, "run ebbtide check"))
        return problems


def _in_namespace(namespace: str) -> str:
    return f" in namespace {namespace}" if namespace else ""


def _repeated_name(message: str) -> Problem:
    return Problem("NAM004", ("metadata", "name"), message, "rename one of the two")


def object_identity(item: Object) -> tuple[str, str, str]:
    """Return an object's identity in a cluster: kind, namespace, name."""
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace", ""), metadata["name"]


def check_documents(documents: list[LoadedDocument], profile: Profile) -> list[Problem]:
    """Return all problems of ``documents``, each with its field and line."""
    batch = Batch(profile)
    return [problem for loaded in documents for problem in batch.add_document(loaded)[2]] + batch.batch_problems()
